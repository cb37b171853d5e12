"""SEARCH/REPLACE blocks: where one ends, and which line divides it."""

from __future__ import annotations

import re
from typing import NamedTuple

from mcp_tierkit.edits.document import Document, has_lines
from mcp_tierkit.edits.match import NoPlace, replaced
from mcp_tierkit.edits.pieces import Block, Lines

HEAD = re.compile(r"^([ \t]*)(<{5,9}) ?SEARCH\b>?[ \t]*(.{0,300})$")
TAIL = re.compile(r"^([ \t]*)>{5,9} ?REPLACE[ \t]*`*[ \t]*$")
STRAY = re.compile(r"^[ \t]*(?:<{5,9}|>{5,9}) ?[A-Za-z]{3,}")
_DIVIDER = re.compile(r"^([ \t]*)(={5,9})[ \t]*$")


class Body(NamedTuple):
    search: Lines
    new: Lines
    trouble: str | None
    next: int


def read_body(lines: Lines, start: int) -> Body:
    """The block whose SEARCH marker is line `start`. Only markers with the same indent count; the rest is content."""
    head = HEAD.match(lines[start])
    assert head is not None
    indent, run = head[1], len(head[2])
    dividers: list[int] = []
    nested = False
    for at in range(start + 1, len(lines)):
        line = lines[at]
        if (tail := TAIL.match(line)) and tail[1] == indent:
            return _divided(lines[start + 1 : at], [each - start - 1 for each in dividers], run, nested, at + 1)
        if (divider := _DIVIDER.match(line)) and divider[1] == indent:
            dividers.append(at)
        nested = nested or bool((again := HEAD.match(line)) and again[1] == indent)
    return Body((), (), "the block is cut off: it has no REPLACE marker", len(lines))


def _divided(body: Lines, dividers: list[int], run: int, nested: bool, after: int) -> Body:
    if nested:
        return Body((), (), "a second SEARCH marker comes before the REPLACE marker", after)
    same = [at for at in dividers if len(body[at].strip()) == run]
    if len(same) == 1:
        middle = same[0]
    elif len(dividers) == 1:
        middle = dividers[0]
    elif len(same) % 2:
        # As many lines that look like dividers before as after: they are content on both sides.
        middle = same[len(same) // 2]
    else:
        why = "no '=======' line divides the block" if not dividers else "more than one line may divide the block"
        return Body((), (), why, after)
    return Body(body[:middle], body[middle + 1 :], None, after)


def apply_block(doc: Document | None, block: Block) -> Document | None:
    """The file after `block`, None if the change is there already. Raises NoPlace."""
    if not any(line.strip() for line in block.search):
        return _created(doc, block.new)
    if doc is None:
        raise NoPlace("the file is not among those given, so the search text cannot be in it")
    try:
        changed = replaced(doc, block.search, block.new)
    except NoPlace:
        if is_applied(doc, block.search, block.new):
            return None
        raise
    return None if changed == doc or _repeats(doc, block) else changed


def is_applied(doc: Document, search: Lines, new: Lines) -> bool:
    """Whether a file without `search` already holds `new`, and `new` adds a line that says something."""
    old = {line.strip() for line in search}
    adds = any(line.strip() not in old and any(char.isalnum() for char in line) for line in new)
    return adds and has_lines(doc, new)


def _repeats(doc: Document, block: Block) -> bool:
    return (
        len(block.new) > len(block.search)
        and has_lines(block.new, block.search)
        and is_applied(doc, block.search, block.new)
    )


def _created(doc: Document | None, new: Lines) -> Document | None:
    if doc is None or doc.is_blank:
        return (doc or Document((), ())).rewritten(new)
    if doc.lines == new:
        return None
    raise NoPlace("the search text is empty, and the file has content: say which lines to replace")
