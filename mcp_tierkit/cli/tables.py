"""Sentences and tables of a command: fitted to a terminal, plain lines in a pipe.

What comes from elsewhere steers no terminal.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import click

from mcp_tierkit.amounts import plain

CELL_WIDTH, NAME_WIDTH, WIDE_WIDTH = 80, 16, 30


class Column(NamedTuple):
    """A column: figures stand right, the wide one takes the room that a terminal has left.

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
BAR = Column("", is_spare=True, is_bar=True)


def words(*names: str) -> tuple[Column, ...]:
    return tuple(map(Column, names))


def figures(*names: str, is_spare: bool = False) -> tuple[Column, ...]:
    return tuple(Column(name, is_number=True, is_spare=is_spare) for name in names)


def print_table(title: str, columns: Sequence[Column], rows: Rows) -> None:
    """Nothing where there are no rows."""
    if not rows:
        return
    clean = [[_cell(cell, column) for cell, column in zip(row, columns, strict=True)] for row in rows]
    if not sys.stdout.isatty():
        _plain(title, *_without(columns, clean, [column.is_bar for column in columns]))
        return
    _drawn(title, *_without(columns, clean, [column.is_typed for column in columns]))
    for at, column in enumerate(columns):
        if column.is_typed:
            for line in dict.fromkeys(row[at] for row in clean if row[at]):
                click.secho(f"  {line}", fg="cyan")
            click.echo()


def print_text(sentences: Iterable[str], *, indent: str = "", is_bold: bool = False) -> None:
    """Sentences as one paragraph, broken between words on a terminal; nothing where there are none."""
    if text := printable(" ".join(sentences), most=None):
        click.secho("\n".join(_wrapped(text, indent)), bold=is_bold)


def _wrapped(text: str, indent: str) -> list[str]:
    """Lines that fit the terminal, all but the first indented; in a pipe one, as long as it is."""
    if not sys.stdout.isatty():
        return [text]
    return textwrap.wrap(text, max(_width(), 30), subsequent_indent=indent, break_on_hyphens=False)


def _width() -> int:
    return shutil.get_terminal_size().columns


def printable(text: str, most: int | None = CELL_WIDTH) -> str:
    """Goals and names of models come from elsewhere: nothing of them may steer a terminal, or be more than it can show.

    A half of a surrogate pair is not printable either.
    """
    encoding = sys.stdout.encoding or "utf-8"
    return plain(text, most).encode(encoding, "replace").decode(encoding)


def _cell(text: str, column: Column) -> str:
    return printable(text, None if column.is_wide or column.is_typed else CELL_WIDTH)


def _without(columns: Sequence[Column], rows: Rows, left_out: Sequence[bool]) -> tuple[Sequence[Column], Rows]:
    kept = [at for at, is_out in enumerate(left_out) if not is_out]
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _widths(columns: Sequence[Column], rows: Rows) -> list[int]:
    return [max(len(row[at]) for row in ([column.name for column in columns], *rows)) for at in range(len(columns))]


def _plain(title: str, columns: Sequence[Column], rows: Rows) -> None:
    widths = _widths(columns, rows)
    click.echo(f"\n{title}")
    for row in ([column.name for column in columns], *rows):
        cells = (
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )  # fmt: skip
        click.echo("  ".join(cells).rstrip())


def _fits(columns: Sequence[Column], rows: Rows, room: int) -> bool:
    widths = zip(columns, _widths(columns, rows), strict=True)
    # Between two columns stand three spaces; so many are left and right of all of them.
    return sum(3 + (min(width, WIDE_WIDTH) if column.is_wide else width) for column, width in widths) + 1 <= room


def _drawn(title: str, columns: Sequence[Column], rows: Rows) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not _fits(columns, rows, console.width):
        columns, rows = _without(columns, rows, [column.is_spare for column in columns])
    is_wide = any(column.is_wide for column in columns)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=is_wide)
    for at, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        # What names a row is there to be copied: it is the last to be cut.
        whole = min(max(len(row[at]) for row in rows), NAME_WIDTH) if at == 0 else None
        table.add_column(
            column.name, justify=justify, no_wrap=True, style="cyan" if column.is_bar else "",
            ratio=1 if column.is_wide else None, min_width=whole,
        )  # fmt: skip
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
