"""How long an answer may be, which part of a reply is the answer, and whether there is one at all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Literal

from pydantic import Field

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Category, Record


class Kind(Record):
    """What one category may answer. Exactly one of `words` and `tokens` is set."""

    mode: Literal["direct", "scratchpad"]
    words: int | None = Field(default=None, gt=0, description="The most words that are seen.")
    tokens: int | None = Field(default=None, gt=0, description="The same, where words mean little.")
    rewrites_files: bool = False


class Room(Record):
    """What one call may write. `max_output_tokens`, the provider's limit, covers the thinking too."""

    max_output_tokens: int
    answer_tokens: int
    words: int | None


class _Table(Record):
    tokens_per_word: int
    least_tokens: int
    growth: float
    category: dict[Category, Kind]


@cache
def _table() -> _Table:
    return _Table.model_validate(packaged("categories"))


def kind_of(category: Category) -> Kind:
    return _table().category[category]


def takes_scratchpad(category: Category) -> bool:
    """False for a kind that answers at once, whatever its tier is set to."""
    return kind_of(category).mode == "scratchpad"


def room(category: Category, *, max_output_tokens: int, thinking_tokens: int, expected_tokens: int = 0) -> Room:
    """The room of one call on a tier that may be sent `max_output_tokens` and thinks in `thinking_tokens` of them.

    `expected_tokens` is the size of the files that may have to be written anew. Where both do not fit, the tier's
    limit stands, and the answer has whatever the model leaves of it.
    """
    table, kind = _table(), kind_of(category)
    cap = kind.tokens or max(table.least_tokens, (kind.words or 0) * table.tokens_per_word)
    if kind.rewrites_files:
        cap = max(cap, math.ceil(expected_tokens * table.growth))
    answer = min(cap, max_output_tokens)
    return Room(
        max_output_tokens=min(answer + thinking_tokens, max_output_tokens), answer_tokens=answer, words=kind.words
    )


_NAMES = "scratchpad|think|thinking"
_MOST_BLOCKS = 8  # A reply of nothing but blocks would cost time that grows with their square.
_BEGINS = re.compile(rf"\s*<({_NAMES})>", re.IGNORECASE)
_OPENS = re.compile(rf"<(?:{_NAMES})>", re.IGNORECASE)
_CLOSES_ALONE = re.compile(rf"[ \t]*</(?:{_NAMES})>[ \t]*$", re.IGNORECASE)
_EDIT = re.compile(r"(<{5,} |={5,}$|>{5,} |--- |\+\+\+ |@@ |diff --git |\*\*\* )")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")


def split_scratchpad(text: str) -> tuple[str, str]:
    """The reasoning that a reply begins with, without its tags, and the answer after it.

    A scratchpad that is never closed leaves no answer. Tags further on, or inside a fence, are part of the answer. A
    closing tag alone also counts: some models are given the opening one by their chat template and send only the rest.
    """
    reasoning: list[str] = []
    rest = text
    while len(reasoning) < _MOST_BLOCKS and (opened := _BEGINS.match(rest)):
        inside = rest[opened.end() :]
        start, end = _closing(opened[1], inside)
        reasoning.append(inside[:start].strip())
        rest = inside[end:]
    if not reasoning and (alone := _closing_alone(rest)):
        start, end = alone
        return rest[:start].strip(), rest[end:].strip("\r\n")
    return "\n\n".join(filter(None, reasoning)), rest.strip("\r\n") if reasoning else rest


def _closing(name: str, text: str) -> tuple[int, int]:
    """Where a block ends and the rest begins, both the end of the text where nothing closes it.

    It ends at the first closing tag, or at a later one that no fence hides and that no opening one comes before: such
    a block spoke of its own tags.
    """
    first = re.search(rf"</{name}>", text, re.IGNORECASE)
    if first is None:
        return len(text), len(text)
    ends = first.span()
    for at, line in _unfenced(text, first.end()):
        for tag in re.finditer(rf"<(/?){name}>", line, re.IGNORECASE):
            if not tag[1]:
                return ends
            ends = at + tag.start(), at + tag.end()
    return ends


def _closing_alone(text: str) -> tuple[int, int] | None:
    """A closing tag on a line of its own, before any opening one and before any edit: that may be what it edits."""
    for at, line in _unfenced(text, 0):
        if _OPENS.search(line) or _EDIT.match(line):
            return None
        if _CLOSES_ALONE.match(line):
            return at, at + len(line)
    return None


def _unfenced(text: str, start: int) -> Iterator[tuple[int, str]]:
    """The lines that stand in no fence, each with where it begins. Fences are read from `start` on."""
    fence, at = "", start
    for line in text[start:].splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and not mark[2].strip() else fence
        elif mark:
            fence = mark[1]
        else:
            yield at, line
        at += len(line)


# A language written without spaces would else be one long word.
_WIDE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_WIDE}]|[^\W_{_WIDE}]+(?:['’._/-]+[^\W_{_WIDE}]+)*")


def visible_words(text: str) -> int:
    """Words of an answer as a reader counts them: marks of layout are none, an ideograph is one."""
    return sum(1 for _ in _WORD.finditer(text))


def is_overrun(category: Category, words_written: int) -> bool:
    """True where an answer is longer than its kind may be."""
    words = kind_of(category).words
    return words is not None and words_written > words


def is_empty(answer: str) -> bool:
    """True for an answer that says nothing: no letter and no digit, such as an empty fence."""
    return re.search(r"[^\W_]", answer) is None
