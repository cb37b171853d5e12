"""Whole files in fences: where a fence ends, and whether its content can be a whole file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from mcp_tierkit.edits.document import Document
from mcp_tierkit.edits.match import NoPlace
from mcp_tierkit.edits.names import How
from mcp_tierkit.edits.pieces import Lines, Whole

_TICKS = re.compile(r"^([ \t]{0,16})(`{3,}|~{3,})[ \t]*([^`]{0,200})$")
_TAG = re.compile(r"^([ \t]{0,16})<(source|code|pre|codeblock|sourcecode)>[ \t]*([\w+#.-]{0,60})[ \t]*$")
_NUMBERED = re.compile(r"^[ \t]{0,8}(\d{1,7})(?:[ \t]{0,4}[|:│→]|\t)")
_ADVICE = "put four backticks around the whole of it"
_KIN = tuple(
    frozenset(kin.split())
    for kin in (
        "py pyi python python3", "js jsx ts tsx mjs cjs vue svelte javascript typescript", "json jsonc json5",
        "yaml yml",
        "toml ini cfg", "c h cpp hpp cc cxx c++", "go golang", "rs rust", "java", "rb ruby", "php", "cs csharp", "sql",
        "html htm xml svg", "css scss sass less", "md mdx markdown", "kt kotlin", "swift", "diff patch",
    )
)  # fmt: skip
MARKUP_INFO = ("markdown", "md", "mdx", "")


@dataclass(frozen=True)
class Fence:
    """An opening fence: what it is made of and what stands after it."""

    indent: str
    mark: str
    info: str

    @property
    def is_tag(self) -> bool:
        return self.mark[0] not in "`~"

    def closes(self, line: str) -> bool:
        if self.is_tag:
            return line.strip() == f"</{self.mark}>"
        return self.meets(line) and not line.strip().strip(self.mark[0])

    def meets(self, line: str) -> bool:
        """Whether a line is a fence that could open inside this one, or end it."""
        other = _TICKS.match(line)
        return (
            other is not None
            and other[1] == self.indent
            and other[2][0] == self.mark[0]
            and len(other[2]) >= len(self.mark)
        )


def open_fence(line: str) -> Fence | None:
    match = _TICKS.match(line) or _TAG.match(line)
    return Fence(match[1], match[2], match[3].strip()) if match else None


def first_close(lines: Lines, start: int, fence: Fence) -> int | None:
    return next((at for at in range(start, len(lines)) if fence.closes(lines[at])), None)


def find_close(lines: Lines, start: int, fence: Fence, holds_fences: bool) -> tuple[int | None, str | None]:
    """The line that ends a fence opened before `start`, and what makes that uncertain.

    `holds_fences` says that the content is markup, or that the file has fences already: then each bare fence is
    judged by the blank lines around it, and one that could be either is trouble.
    """
    if fence.is_tag:
        return _tag_close(lines, start, fence)
    marks = (at for at in range(start, len(lines)) if fence.meets(lines[at]))
    if holds_fences:
        return _nested_close(lines, marks, fence)
    close = next(marks, None)
    if close is not None and not fence.closes(lines[close]):
        return first_close(lines, start, fence), f"a fence opens inside the block; {_ADVICE}"
    if close is not None and _is_doubtful(lines[start:close]) and next(marks, None) is not None:
        return close, f"a fence may stand inside the file's text; {_ADVICE}"
    return close, None


def _tag_close(lines: Lines, start: int, fence: Fence) -> tuple[int | None, str | None]:
    close = first_close(lines, start, fence)
    rest = range(len(lines) if close is None else close + 1, len(lines))
    following = next((at for at in rest if fence.closes(lines[at]) or open_tag(lines[at]) == fence.mark), None)
    is_doubtful = following is not None and fence.closes(lines[following])
    return close, f"it is unclear which </{fence.mark}> ends it; {_ADVICE}" if is_doubtful else None


def open_tag(line: str) -> str | None:
    match = _TAG.match(line)
    return match[2] if match else None


def _nested_close(lines: Lines, marks: Iterator[int], fence: Fence) -> tuple[int | None, str | None]:
    depth, at = 1, next(marks, None)
    while at is not None:
        following = next(marks, None)
        if depth > 1:
            depth += -1 if fence.closes(lines[at]) else 1
        elif not fence.closes(lines[at]) or (following is not None and _opens(lines, at) is True):
            depth = 2
        else:
            return at, None if _is_end(lines, at, following, fence) else f"it is unclear which fence ends it; {_ADVICE}"
        at = following
    return None, None


def _is_end(lines: Lines, at: int, following: int | None, fence: Fence) -> bool:
    if following is None:
        # The very last characters may be the start of "```python": then a blank line stands before them.
        return at + 1 < len(lines) or at == 0 or bool(lines[at - 1].strip())
    starts_anew = not fence.closes(lines[following]) or _opens(lines, following) is True
    return _opens(lines, at) is False and starts_anew


def _opens(lines: Lines, at: int) -> bool | None:
    """True for a bare fence with a blank line before and none after, False for the reverse, None for neither."""
    before = at == 0 or not lines[at - 1].strip()
    after = at + 1 >= len(lines) or not lines[at + 1].strip()
    return None if before == after else before


def _is_doubtful(lines: Lines) -> bool:
    text = "\n".join(lines)
    return (
        not text.strip()
        or any(text.count(quote) % 2 for quote in ('"""', "'''"))
        or text.count("/*") > text.count("*/")
    )


def fits(path: str, info: str) -> bool:
    """Whether an unnamed block may be this file: a block marked as another language is a sample."""
    language = info.split(" ")[0].casefold()
    suffix = PurePosixPath(path).suffix.lower().removeprefix(".")
    of_path, of_block = (next((kin for kin in _KIN if each in kin), None) for each in (suffix, language))
    return of_path is None or of_block is None or of_path is of_block


def dedented(lines: Lines, indent: str) -> Lines:
    """Lines of an indented fence without its indent, as they are if some line lacks it."""
    if all(line.startswith(indent) or not line.strip() for line in lines):
        return tuple(line.removeprefix(indent) for line in lines)
    return lines


def apply_whole(doc: Document | None, piece: Whole, how: How, is_named: bool) -> Document | None:
    """The file with new content, None if it has that already. Raises NoPlace where the block may be only a part."""
    lines = _content(doc, piece)
    if doc is None:
        return Document((), ()).rewritten(lines)
    why = None if doc.is_blank else _part(doc.lines, lines, how, is_named)
    if why:
        raise NoPlace(why)
    changed = doc.rewritten(lines)
    return None if changed == doc else changed


def _content(doc: Document | None, piece: Whole) -> Lines:
    if piece.label is None or not piece.lines or piece.lines[0].strip() != piece.label:
        return piece.lines
    is_content = doc is None or any(line.strip() == piece.label for line in doc.lines[:5])
    return piece.lines if is_content else piece.lines[1:]


def _part(old: Lines, new: Lines, how: How, is_named: bool) -> str | None:
    was, now = _full(old), _full(new)
    if not now:
        return "the block is empty, and the file has content"
    if _is_numbered(new) and not _is_numbered(old):
        return "each line begins with its number, which is no part of the file"
    if len(was) >= 8 and (len(now) * 4 < len(was) or (len(now) * 2 < len(was) and was[0] != now[0])):
        return f"the block has {len(now)} lines and the file {len(was)}: it looks like a part, not the whole file"
    alike = likeness(old, new)
    if not is_named and alike < 0.5 and (len(now) * 2 < len(was) or (len(was) > 5 and alike < 0.3)):
        return "the block has no file name, and it looks like a part of the file or like another"
    if how == "suffix" and len(was) > 20 and alike < 0.2:
        return "the block gives only the end of the file's path, and little of its text; write the whole path"
    return None


def _is_numbered(lines: Lines) -> bool:
    """Whether nearly all lines count up, as in a listing."""
    found = [_NUMBERED.match(line) for line in lines]
    numbers = [int(match[1]) for match in found if match]
    return len(numbers) > 2 and len(numbers) >= 0.8 * len(lines) and all(map(int.__lt__, numbers, numbers[1:]))


def likeness(old: Lines, new: Lines) -> float:
    """The share of the old lines that are still there, 0 to 1; blank lines and indents do not count."""
    was = set(_full(old))
    return len(was & set(_full(new))) / len(was) if was else 0.0


def _full(lines: Lines) -> list[str]:
    return [line.strip() for line in lines if line.strip()]
