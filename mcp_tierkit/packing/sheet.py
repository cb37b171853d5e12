"""One file in each of the forms that it can be shown in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from mcp_tierkit.outline import LONG_LINE, Definition, Shape, mark, show
from mcp_tierkit.packing.focus import Focus
from mcp_tierkit.types import Shown

AROUND = 10
"""Lines shown on either side of one that matters, where no function around it can be shown."""
MOST_PLACES = 60
"""Lines of one file that are followed up."""
MOST_LINES = 10
"""Lines with a word above which the word says nothing."""
ENDS = 20
"""Lines at the start and at the end that are shown of a text without an outline."""
REST = 5
"""The rank of what the focus does not lead to."""

_WORD = re.compile(r"[^\W\d]\w*")
_NOTES = {
    "parts": "Parts of a file; a line such as “… omitted lines 7 to 9” stands for lines that are not shown:\n",
    "outline": "Outline of a file; a line such as “… omitted lines 7 to 9” stands for lines that are not shown:\n",
}


ShapeOf = Callable[[str, str], Shape | None]


class Form(NamedTuple):
    """A file as it is shown, ready for a prompt."""

    shown: Shown
    text: str
    tokens: int


LEFT_OUT = Form("left_out", "", 0)


class Part(NamedTuple):
    """Lines that matter: the first of `options` that fits is shown, and with it the heads around it."""

    rank: int
    options: tuple[range, ...]
    heads: frozenset[int] = frozenset()


def fence(path: str, text: str) -> str:
    """One file as labelled data; the fence is longer than any run of backticks inside."""
    inside = max(map(len, re.findall("`+", text)), default=0)
    ticks = "`" * max(3, inside + 1)
    end = "" if text.endswith("\n") or not text else "\n"
    return f"{path}\n{ticks}\n{text}{end}{ticks}\n"


class Sheet:
    """A file, measured. Line numbers count from 1."""

    def __init__(self, path: str, text: str, focus: Focus, count: Callable[[str], int], shape_of: ShapeOf) -> None:
        self.path = path
        self.text = text
        self.focus = focus
        self.count = count
        self.shape_of = shape_of

    @cached_property
    def whole(self) -> Form:
        text = fence(self.path, self.text)
        return Form("whole", text, self.count(text))

    def least(self, room: int) -> int | None:
        """Tokens of the least that is worth showing: the part that matters most, else an outline; None: more than room.

        A part that takes more than half of the room gives way to a smaller one of the same place.
        """
        first = self._parts[0] if self._parts else None
        sizes = [self._size({*option, *first.heads}) for option in first.options] if first else []
        fitting = [size for size in sizes if size <= room // 2] or [size for size in sizes if size <= room]
        fitting = fitting or [size for level in self._levels if level and (size := self._size(level)) <= room]
        return min([*fitting[:1], *([self.whole.tokens] if self.whole.tokens <= room else [])], default=None)

    def within(self, room: int, is_filled: bool = False) -> Form:
        """The parts that matter and an outline of the rest; `is_filled`: where none is known to matter, what fits."""
        parts = self._parts or (self._all if is_filled else ())
        level = self._level(room // 2 if self._parts else room)
        shown = self._added(level, parts, room) or self._level(room)
        for fuller in self._levels:
            if self._size(shown | fuller) <= room:
                shown = shown | fuller
                break
        return self._form("outline" if shown <= self._levels[0] else "parts", shown)

    def outlined(self, room: int) -> Form:
        """The outline alone, or less of it; a text that has none is left out."""
        return self._form("outline", self._level(room) if self._shape else frozenset())

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def _total(self) -> int:
        return len(self._lines) if self._lines[-1] else len(self._lines) - 1

    @cached_property
    def _shape(self) -> Shape | None:
        return self.shape_of(self.path, self.text)

    @cached_property
    def _levels(self) -> tuple[frozenset[int], ...]:
        """The outline, and a shorter one."""
        if self._shape is not None:
            return frozenset(self._shape.outline), frozenset(self._shape.heads)
        ends = (*range(1, ENDS + 1), *range(self._total - ENDS + 1, self._total + 1))
        return (frozenset(number for number in ends if 0 < number <= self._total and self._is_short(number)),)

    def _is_short(self, number: int) -> bool:
        return len(self._lines[number - 1]) <= LONG_LINE

    def _level(self, room: int) -> frozenset[int]:
        return next((level for level in self._levels if self._size(level) <= room), frozenset())

    @cached_property
    def _frame(self) -> int:
        """Tokens of a note, a path, a fence and one mark."""
        return self.count(_NOTES["outline"] + fence(self.path, "")) + self._mark

    @cached_property
    def _mark(self) -> int:
        return self.count(mark(self._total, self._total) + "\n")

    def _size(self, numbers: Collection[int]) -> int:
        """Tokens of a form with these lines at most."""
        return self._frame + self._cost(numbers)

    def _cost(self, numbers: Collection[int]) -> int:
        """Tokens of more lines and of the marks that they need at most."""
        texts = "".join(f"{self._lines[number - 1]}\n" for number in sorted(numbers))
        runs = sum(1 for number in numbers if number + 1 not in numbers)
        return self.count(texts) + runs * self._mark

    def _added(self, level: frozenset[int], parts: Sequence[Part], room: int) -> frozenset[int]:
        shown, left = set(level), room - self._size(level)
        for part in parts:
            for option in part.options:
                fresh = {*option, *part.heads} - shown
                cost = self._cost(fresh) if fresh else 0
                if cost <= left:
                    shown |= fresh
                    left -= cost
                    break
        return frozenset(shown)

    def _form(self, kind: Literal["parts", "outline"], numbers: frozenset[int]) -> Form:
        if not numbers:
            return LEFT_OUT
        text = _NOTES[kind] + fence(self.path, show(self._lines, numbers))
        return Form(kind, text, self.count(text))

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        """What the focus points at, then what it names, then what that uses; of equal rank the small ones first."""
        pointed, named = [*self._pointed()], [*self._named(self.focus.sharp, 1)]
        aimed = {number for part in (*pointed, *named) for number in part.options[0]}
        used = frozenset(word for number in aimed for word in _WORD.findall(self._lines[number - 1]))
        parts = [*pointed, *named, *self._named(self.focus.words, 2), *self._named(used, 3), *self._mentioned()]
        return tuple(sorted(parts, key=lambda part: (part.rank, len(part.options[0]), part.options[0].start)))

    @cached_property
    def _all(self) -> tuple[Part, ...]:
        return tuple(Part(REST, (_lines_of(each),), heads) for each, heads in self._nested)

    def _pointed(self) -> Iterator[Part]:
        for line in self.focus.lines_of(self.path)[:MOST_PLACES]:
            if line <= self._total:
                around = [each for each, _ in self._nested if each.first_line <= line <= each.last_line]
                whole = [_lines_of(each) for each in around if not each.is_container]
                heads = frozenset(row for each in around for row in _head_of(each))
                yield Part(0, (*whole, self._window(line)), heads)

    def _named(self, names: frozenset[str], rank: int) -> Iterator[Part]:
        yield from (Part(rank, (_lines_of(each),), heads) for each, heads in self._nested if each.name in names)

    def _mentioned(self) -> Iterator[Part]:
        """Lines with a word of the focus that few lines have; of all words only where there is no outline to go by."""
        words = self.focus.sharp if self._shape else self.focus.words
        found: dict[str, list[int]] = {}
        for number, line in enumerate(self._lines, 1):
            for word in words.intersection(_WORD.findall(line[:LONG_LINE])):
                found.setdefault(word, []).append(number)
        rare = {line for lines in found.values() if len(lines) <= MOST_LINES for line in lines}
        yield from (Part(4, (self._window(line),)) for line in sorted(rare)[:MOST_PLACES])

    @cached_property
    def _nested(self) -> list[tuple[Definition, frozenset[int]]]:
        """Each definition with the heads of those that hold it."""
        nested, holders = [], list[Definition]()
        for each in self._shape.definitions if self._shape else ():
            while holders and holders[-1].last_line < each.first_line:
                holders.pop()
            nested.append((each, frozenset(row for holder in holders for row in _head_of(holder))))
            holders.append(each)
        return nested

    def _window(self, line: int) -> range:
        return range(max(1, line - AROUND), min(self._total, line + AROUND) + 1)


def _lines_of(each: Definition) -> range:
    return range(each.first_line, each.last_line + 1)


def _head_of(each: Definition) -> range:
    return range(each.first_line, min(each.head_last_line, each.first_line + AROUND) + 1)
