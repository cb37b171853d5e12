"""How wide each column of a table is, so that it fits a terminal: names give way, figures are never cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

NAME_WIDTH, WIDE_WIDTH, LEAST_WIDTH = 16, 30, 8
WIDE_GAP, GAP = 3, 2
_AMOUNT = re.compile(r"(-?\$[\d,]+)(\.\d+)?( \+ .*)?$")


class Column(NamedTuple):
    """A column: figures stand right, the wide one is the first to give way.

    Where the room is short, spare ones go; bars are spare, and for a terminal alone. What is to be typed stands below
    a terminal's table, since in a column it would be cut.
    """

    name: str
    is_number: bool = False
    is_wide: bool = False
    is_spare: bool = False
    is_bar: bool = False
    is_typed: bool = False


Rows = Sequence[Sequence[str]]


class Fitted(NamedTuple):
    """Columns with their widths, and cells, some of them in lines; `gap` spaces stand between two columns."""

    columns: Sequence[Column]
    rows: Rows
    widths: Sequence[int]
    gap: int


def fitted(columns: Sequence[Column], rows: Rows, room: int) -> Fitted | None:
    """The roomiest way in which a table fits; None where not even its figures do, each in its column."""
    if not _has_room(columns, rows, room):
        columns, rows = without(columns, rows, [column.is_spare for column in columns])
    in_line = with_points_in_line(columns, rows)
    in_lines = [[_in_lines(cell, column) for cell, column in zip(row, columns, strict=True)] for row in rows]
    ways = ((in_line, WIDE_GAP), (rows, WIDE_GAP), (rows, GAP), (in_lines, GAP))
    for is_whole, (cells, gap) in product((True, False), ways):
        left = room - gap * (len(columns) - 1)
        widths = _widths(columns, cells, left, is_tight=cells is in_lines, is_whole=is_whole)
        if widths is not None:
            return Fitted(columns, cells, widths, gap)
    return None


def without(columns: Sequence[Column], rows: Rows, left_out: Sequence[bool]) -> tuple[Sequence[Column], Rows]:
    kept = [at for at, is_out in enumerate(left_out) if not is_out]
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]


def width_of(text: str, *, is_tight: bool = False) -> int:
    """Cells of a terminal that the longest line of a text takes, or its longest word where it may be broken."""
    from rich.cells import cell_len

    return max(map(cell_len, text.split() if is_tight else text.split("\n")), default=0)


def with_points_in_line(columns: Sequence[Column], rows: Rows) -> Rows:
    """Amounts of a column padded so that their decimal points stand below each other, whatever comes after them."""
    done = [_in_line(list(cells)) if column.is_number else cells
            for column, cells in zip(columns, zip(*rows, strict=True), strict=True)]  # fmt: skip
    return [list(row) for row in zip(*done, strict=True)]


def _in_line(cells: list[str]) -> list[str]:
    found = [_AMOUNT.match(cell) for cell in cells]
    if not any(found):
        return cells
    after, more = (max(len(match[group] or "") for match in found if match) for group in (2, 3))
    return [
        f"{match[1]}{match[2] or '':<{after}}{match[3] or '':<{more}}" if match else cell + " " * more
        for cell, match in zip(cells, found, strict=True)
    ]


def _in_lines(cell: str, column: Column) -> str:
    """What is known of a cost, and what is not, each in its line."""
    return cell.replace(" + ", "\n+ ") if column.is_number else cell


def _has_room(columns: Sequence[Column], rows: Rows, room: int) -> bool:
    wanted = _wanted(columns, rows)
    of_columns = (min(width, WIDE_WIDTH) if column.is_wide else width
                  for column, width in zip(columns, wanted, strict=True))  # fmt: skip
    return sum(of_columns) + WIDE_GAP * (len(columns) - 1) <= room


def _wanted(columns: Sequence[Column], rows: Rows, *, is_tight: bool = False) -> list[int]:
    return [
        max(width_of(column.name, is_tight=is_tight), *(width_of(row[at]) for row in rows))
        for at, column in enumerate(columns)
    ]


def _widths(columns: Sequence[Column], rows: Rows, room: int, *, is_tight: bool, is_whole: bool) -> list[int] | None:
    """Widths that take `room` together, names giving way, the longest first; None where that is not enough.

    With `is_whole` what names a row stays in one line.
    """
    widths = _wanted(columns, rows, is_tight=is_tight)
    least = [_least(at, column, widths[at], is_whole=is_whole) for at, column in enumerate(columns)]
    if sum(least) > room:
        return None
    while sum(widths) > room:
        giving = [at for at, width in enumerate(widths) if width > least[at]]
        widths[max(giving, key=lambda at: (columns[at].is_wide and widths[at] > WIDE_WIDTH, widths[at]))] -= 1
    return widths


def _least(at: int, column: Column, width: int, *, is_whole: bool) -> int:
    # What names a row is there to be copied: it is the last to be broken.
    if column.is_number or column.is_bar or (at == 0 and is_whole and not column.is_wide):
        return width
    return min(width, max(NAME_WIDTH if at == 0 else LEAST_WIDTH, width_of(column.name, is_tight=True)))
