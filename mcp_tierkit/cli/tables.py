"""Sentences and tables of a command: fitted to a terminal, plain lines in a pipe.

What comes from elsewhere steers no terminal.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

import click

from mcp_tierkit.amounts import plain
from mcp_tierkit.cli.fitting import Column, Fitted, Rows, fitted, with_points_in_line, without

__all__ = ["BAR", "Column", "Rows", "figures", "print_table", "print_text", "printable", "words"]
CELL_WIDTH, LEAST_ROOM = 80, 30
HELD = "\N{NO-BREAK SPACE}"
BAR = Column("", is_spare=True, is_bar=True)


class Held(io.StringIO):
    """What would have been printed, laid out for where it would have gone."""

    def __init__(self, instead_of: TextIO) -> None:
        super().__init__()
        self._is_terminal, self._encoding = instead_of.isatty(), instead_of.encoding

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def text(self) -> str:
        return self.getvalue()

    @property
    def lines(self) -> int:
        return self.text.count("\n")


@contextmanager
def held() -> Iterator[Held]:
    """What is printed inside the block is kept, to be counted before it is shown."""
    kept = Held(sys.stdout)
    with redirect_stdout(kept):
        yield kept


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
        _plain(title, *without(columns, clean, [column.is_bar for column in columns]))
        return
    _drawn(title, *without(columns, clean, [column.is_typed for column in columns]))
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
    held = re.sub(r"(?<=\d) (?=[kMG]\b)", HELD, text)  # A figure keeps its unit.
    lines = textwrap.wrap(held, max(_width(), LEAST_ROOM), subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace(HELD, " ") for line in lines]


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


def _plain(title: str, columns: Sequence[Column], rows: Rows) -> None:
    rows = with_points_in_line(columns, rows)
    widths = [max(len(row[at]) for row in ([column.name for column in columns], *rows)) for at in range(len(columns))]
    click.echo(f"\n{title}")
    for row in ([column.name for column in columns], *rows):
        cells = (
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )  # fmt: skip
        click.echo("  ".join(cells).rstrip())


def _drawn(title: str, columns: Sequence[Column], rows: Rows) -> None:
    click.echo()
    print_text([title], is_bold=True)
    found = fitted(columns, rows, max(_width(), LEAST_ROOM))
    if found is None:
        _one_by_one(columns, rows)
    else:
        _side_by_side(found)


def _side_by_side(found: Fitted) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, found.gap - 1, 0, 0))
    for column, width in zip(found.columns, found.widths, strict=True):
        table.add_column(
            Text(column.name, justify="right" if column.is_number else "left"), width=width,
            style="cyan" if column.is_bar else "", no_wrap=column.is_wide,
            overflow="ellipsis" if column.is_wide else "fold",
        )  # fmt: skip
    for row in found.rows:
        table.add_row(*(Text(_stood_right(cell, width) if column.is_number else cell)
                        for column, cell, width in zip(found.columns, row, found.widths, strict=True)))  # fmt: skip
    Console().print(table)


def _stood_right(cell: str, width: int) -> str:
    """By hand: where points stand in line there are spaces behind a figure, which a justified column loses."""
    return "\n".join(line.rjust(width) for line in cell.split("\n"))


def _one_by_one(columns: Sequence[Column], rows: Rows) -> None:
    """Each row as a paragraph, where not even the figures stand side by side."""
    for name, *cells in rows:
        click.echo(name)
        told = (f"{column.name} {cell}" for column, cell in zip(columns[1:], cells, strict=True) if not column.is_bar)
        print_text(["  " + ", ".join(told)], indent="  ")
