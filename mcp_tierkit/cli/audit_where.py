"""Where the money went, on one screen: the days in a line, then the dearest of everything in one table."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from mcp_tierkit.amounts import dollars
from mcp_tierkit.audit.lines import Line
from mcp_tierkit.cli.tables import BAR, figures, print_table, print_text, printable, words

if TYPE_CHECKING:
    from mcp_tierkit.audit.lines import Audit

BAR_WIDTH = 16
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_BESIDE = 45
"""What stands beside the days in their line."""
_TALL, _LOW = 42, 36
"""Lines of a terminal that has room for one more of everything, and of one that has not even for the usual."""
_KINDS = (
    ("reading the context again", ("cache_read",)),
    ("keeping it in the cache", ("cache_write_5m", "cache_write_1h")),
    ("new input", ("input",)),
    ("answers", ("output",)),
)


class Others(Line):
    """What is told together stands beside the others without a bar."""


def together(key: str, lines: Sequence[Line]) -> Line:
    names = [name for name in Line.model_fields if name != "key"]
    return Others(key=key, **{name: sum(getattr(line, name) for line in lines) for name in names})


def bar(part: int, largest: int) -> str:
    eighths = round(part * BAR_WIDTH * 8 / largest) if largest else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def amount(cost: int, unpriced: int) -> str:
    """What is known, and that there is more."""
    if unpriced and not cost:
        return f"{unpriced:,} unpriced"
    return dollars(cost) + (f" + {unpriced:,} unpriced" if unpriced else "")


def labels(paths: Iterable[str]) -> dict[str, str]:
    """The last part of each path, and as many before it as tell it from the others."""
    parts = {path: PurePath(path).parts for path in paths}
    ends = Counter(own[-n:] for own in set(parts.values()) for n in range(1, len(own) + 1))
    found = {}
    for path, own in parts.items():
        least = next((n for n in range(1, len(own)) if ends[own[-n:]] == 1), len(own))
        found[path] = "/".join(own[-least:]).replace("//", "/") or "unknown"
    return found


def show_where(found: Audit) -> None:
    """The days, what was paid for, and the dearest models, projects and tools, each as a share of all."""
    _show_days(found)
    lines = shutil.get_terminal_size().lines if sys.stdout.isatty() else _LOW
    rows = list(_rows(found, 2 + (lines >= _LOW) + (lines >= _TALL)))
    print_table("Where it went", (*words("", "what"), *figures("USD", "share"), BAR), rows)


def _rows(found: Audit, most: int) -> Iterator[tuple[str, str, str, str, str]]:
    whole = found.total.cost_nanousd
    named = labels(line.key for line in found.by_project)
    projects = [line.model_copy(update={"key": named[line.key]}) for line in found.by_project]
    kinds = found.by_kind.model_dump()
    paid = ((name, sum(kinds[part] for part in parts)) for name, parts in _KINDS)
    groups = (
        ("paid for", [(name, dollars(cost), cost) for name, cost in sorted(paid, key=lambda one: -one[1]) if cost]),
        ("models", _dearest(found.by_model, most)),
        ("projects", _dearest(projects, most)),
        ("tools, estimated", [(tool.key, dollars(tool.cost_nanousd), tool.cost_nanousd)
                              for tool in found.by_tool[: most - 1] if tool.cost_nanousd]),
    )  # fmt: skip
    for title, lines in groups:
        for at, (name, shown, cost) in enumerate(lines):
            share = f"{cost / whole:.0%}" if whole else "-"
            yield "" if at else title, name, shown, share, bar(cost, whole)


def _dearest(lines: Sequence[Line], most: int) -> list[tuple[str, str, int]]:
    """The first of them; what is left is one more row, so that they add up."""
    rest = lines[most - 1 :]
    shown = [*lines[: most - 1], together(f"{len(rest):,} others", rest)] if len(rest) > 1 else lines
    return [(line.key, amount(line.cost_nanousd, line.unpriced_calls), line.cost_nanousd) for line in shown]


def _show_days(found: Audit) -> None:
    """A column for each day from the first, or for as many days as make the line short enough."""
    costs = {line.key: line.cost_nanousd for line in found.by_day}
    dearest = max(costs, key=lambda day: (costs[day], day))
    if found.days < 2 or not costs[dearest]:
        return
    told = f"dearest day {dearest}: {dollars(costs[dearest])}"
    if not sys.stdout.isatty():
        print_text([told.capitalize()])
        return
    room = max(shutil.get_terminal_size().columns - _BESIDE, 10)
    step = -(-found.days // room)
    first = date.fromisoformat(found.first_day)
    sums = [0] * -(-found.days // step)
    for day, cost in costs.items():
        sums[min((date.fromisoformat(day) - first).days // step, len(sums) - 1)] += cost
    drawn = "".join(_HEIGHTS[min(cost * 8 // max(sums), 7)] if cost else " " for cost in sums)
    can_show = printable(drawn, most=None) == drawn
    click.echo(f"{click.style(drawn, fg='cyan')}  {told}" if can_show else told.capitalize())
