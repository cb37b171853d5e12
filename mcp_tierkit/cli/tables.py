"""Tables of a command: drawn on a terminal, plain lines in a pipe. What comes from elsewhere steers no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import click

CELL_WIDTH, NAME_WIDTH = 80, 16


class Column(NamedTuple):
    """A column: figures stand right, the wide one takes the room that a terminal has left."""

    name: str
    is_number: bool = False
    is_wide: bool = False


Rows = Sequence[Sequence[str]]


def words(*names: str) -> tuple[Column, ...]:
    return tuple(map(Column, names))


def figures(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, is_number=True) for name in names)


def print_table(title: str, columns: Sequence[Column], rows: Rows) -> None:
    """Nothing where there are no rows."""
    if rows:
        clean = [[printable(cell) for cell in row] for row in rows]
        _drawn(title, columns, clean) if sys.stdout.isatty() else _plain(title, columns, clean)


def print_text(sentences: Iterable[str]) -> None:
    """Sentences as one paragraph, broken between words on a terminal; nothing where there are none."""
    text = " ".join(printable(one, most=None) for one in sentences)
    if not text:
        return
    if sys.stdout.isatty():
        from rich.console import Console

        text = click.wrap_text(text, width=Console().width)
    click.echo(text)


def printable(text: str, most: int | None = CELL_WIDTH) -> str:
    """Goals and names of models come from elsewhere: nothing of them may steer a terminal, or be more than it can show.

    A half of a surrogate pair is not printable either.
    """
    line = text if most is None or len(text) <= most else text[: most - 1] + "…"
    shown = "".join(char if char.isprintable() else "?" for char in line)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "replace").decode(encoding)


def _plain(title: str, columns: Sequence[Column], rows: Rows) -> None:
    head = [column.name for column in columns]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    click.echo(f"\n{title}")
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )  # fmt: skip
        click.echo("  ".join(cells).rstrip())


def _drawn(title: str, columns: Sequence[Column], rows: Rows) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_wide = any(column.is_wide for column in columns)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=is_wide)
    for at, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        # What names a row is there to be copied: it is the last to be cut.
        whole = min(max(len(row[at]) for row in rows), NAME_WIDTH) if at == 0 else None
        table.add_column(
            column.name, justify=justify, no_wrap=True, ratio=1 if column.is_wide else None, min_width=whole
        )
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
