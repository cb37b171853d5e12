"""Sentences and tables that fit: on a terminal with bars and cut to its width, in a pipe plain and whole."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Literal

import click

Rows = Sequence[Sequence[str]]
TYPED = "what to type"
_WIDE = ("first line", "same work")
_RIGHT = (
    "USD", "calls", "tokens", "read again", "share", "times", "could save a month", "results", "sub-agents",
    "USD a month",
)  # fmt: skip
_SPARED = ("", "sub-agents", "begun", "calls", "USD a month")
_ROOMY = 110
"""Columns of a terminal. In a narrower one, tables with sentences go without their bars and lesser figures."""


def say(text: str, *, bold: bool = False) -> None:
    click.secho("\n".join(wrapped(text, "")), bold=bold)


def wrapped(text: str, indent: str) -> list[str]:
    """Lines that fit the terminal; in a pipe one, as long as it is."""
    text = printable(text)
    if not sys.stdout.isatty():
        return [text]
    return textwrap.wrap(text, max(_width() - len(indent), 30), subsequent_indent=indent, break_on_hyphens=False)


def _width() -> int:
    return shutil.get_terminal_size().columns


def printable(text: str) -> str:
    """Prompts and names come from elsewhere: nothing of them may steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def print_table(title: str, head: Sequence[str], rows: Rows) -> None:
    """On a terminal, what to type stands below the table: in a column a command would be broken."""
    if not rows:
        return
    clean = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        _plain(title, head, clean)
    elif head[-1] != TYPED:
        _rich(title, head, clean)
    else:
        _rich(title, head[:-1], [row[:-1] for row in clean])
        for line in dict.fromkeys(row[-1] for row in clean if row[-1]):
            click.secho(f"  {line}", fg="cyan")
        click.echo()


def _plain(title: str, head: Sequence[str], rows: Rows) -> None:
    """Columns without the bars."""
    kept = [at for at, name in enumerate(head) if name]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in kept]
    click.echo(f"\n{title}")
    for row in (head, *rows):
        click.echo("  ".join(row[at].ljust(width) for at, width in zip(kept, widths, strict=True)).rstrip())


def _rich(title: str, head: Sequence[str], rows: Rows) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, is_wide = Console(), bool(set(_WIDE) & set(head))
    kept = [at for at, name in enumerate(head) if not (is_wide and console.width < _ROOMY and name in _SPARED)]
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=is_wide)
    for at in kept:
        name = head[at]
        justify: Literal["left", "right"] = "right" if name in _RIGHT else "left"
        table.add_column(name, justify=justify, no_wrap=True, style="" if name else "cyan",
                         ratio=1 if name in _WIDE else None, overflow="ellipsis")  # fmt: skip
    for row in rows:
        table.add_row(*(Text(row[at]) for at in kept))
    console.print(table)
