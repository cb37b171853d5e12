"""`tierkit report`: what was spent, by day, tier, model and task. Tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mcp_tierkit.cli.options import json_option, print_json

if TYPE_CHECKING:
    from mcp_tierkit.ledger.report import CacheHit, Overview, PlaybookTotal, StepTotal, TaskSummary, Total
    from mcp_tierkit.types import Record, Spend

LATEST = 15
GOAL = "goal"
NUMBERS = (
    "calls", "tokens in", "cached", "tokens out", "USD", "share", "runs", "ok", "tokens", "hit rate", "packed",
    "per call",
)  # fmt: skip
GOAL_WIDTH = 44
Rows = Sequence[Sequence[str]]


@click.command()
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How far back, in UTC days.")
@json_option
def report(days: int, as_json: bool) -> None:
    """Show what was spent, on what, and by which models.

    Counts every project of this user. A call whose cost is not known is counted as such, with the most it can have
    cost; it is never shown as free.

    \b
    Example:
      tierkit report
      tierkit report --days 7 --json
    """
    from mcp_tierkit.ledger import report as ledger
    from mcp_tierkit.places import find_places

    since = f"{datetime.now(UTC).date() - timedelta(days=days - 1)}"
    with ledger.reading(find_places(os.environ).ledger_url) as conn:
        seen = ledger.overview(conn, since=since)
        by_day, by_tier, by_model = (ledger.totals(conn, by, since=since) for by in ("day", "tier", "model"))
        tasks = ledger.recent_tasks(conn, limit=LATEST, since=since)
        hits, steps = ledger.cache_hits(conn, since=since), ledger.step_totals(conn, since=since)
        playbooks = ledger.playbook_totals(conn, since=since)
    if as_json:
        parts = {
            "by_day": by_day, "by_tier": by_tier, "by_model": by_model, "cache_hits": hits, "context_by_step": steps,
            "tasks": tasks, "playbooks": playbooks,
        }  # fmt: skip
        shares = {total.key: _share(total.spend, seen.spend) for total in by_tier}
        told = {name: [_dumped(row) for row in rows] for name, rows in parts.items()}
        print_json({"since": since, "overview": _dumped(seen), "token_share_by_tier": shares, **told})
        return
    _print(days, seen, by_day, by_tier, by_model, hits, steps, tasks, playbooks)


def _dumped(record: Record) -> object:
    return record.model_dump(mode="json")


def _print(
    days: int, seen: Overview, by_day: Sequence[Total], by_tier: Sequence[Total], by_model: Sequence[Total],
    hits: Sequence[CacheHit], steps: Sequence[StepTotal], tasks: Sequence[TaskSummary],
    playbooks: Sequence[PlaybookTotal],
) -> None:  # fmt: skip
    click.echo(f"Last {days} days, UTC: {_summary(seen)}")
    if not seen.tasks and not seen.spend.calls:
        click.echo("Nothing is recorded for these days. See it work: tierkit demo")
        return
    head = ("calls", "tokens in", "cached", "tokens out", "USD")
    _table("By day", ("day", *head), [(total.key, *_figures(total.spend)) for total in by_day])
    shares = [(total.key, *_figures(total.spend), _percent(_share(total.spend, seen.spend))) for total in by_tier]
    _table("By tier, with its share of all tokens", ("tier", *head, "share"), shares)
    _table("By model", ("model", *head), [(total.key, *_figures(total.spend)) for total in by_model])
    read = ("category", "calls", "tokens in", "cached", "hit rate")
    _table("Read from a provider's cache, by category", read, list(map(_hit, hits)))
    packed = ("step", "calls", "packed", "per call")
    _table("Tokens of project files sent, by step", packed, list(map(_step, steps)))
    _table("Playbooks", ("playbook", "runs", "ok", "tokens", "USD"), list(map(_playbook, playbooks)))
    _table("Latest tasks", ("task", "begun", "project", GOAL, "ended", "USD"), list(map(_task, tasks)))


def _summary(seen: Overview) -> str:
    from mcp_tierkit.receipts import usd

    spend = seen.spend
    parts = [f"${usd(spend.cost_nanousd)} for {spend.calls} model calls in {seen.tasks} tasks"]
    if spend.unpriced_calls:
        parts.append(f"{spend.unpriced_calls} of them unpriced, up to ${usd(spend.unknown_nanousd)} unknown")
    if seen.in_flight_calls:
        parts.append(f"{seen.in_flight_calls} in flight")
    if seen.refused_calls:
        parts.append(f"{seen.refused_calls} refused by a budget")
    if seen.alerts:
        parts.append(f"{seen.alerts} dearer than the model named")
    if seen.playbook_runs:
        parts.append(f"playbooks run: {seen.playbook_runs}")
    return "; ".join(parts) + "."


def _figures(spend: Spend) -> tuple[str, ...]:
    return f"{spend.calls}", f"{spend.input_tokens}", f"{spend.cached_tokens}", f"{spend.output_tokens}", _cost(spend)


def _hit(hit: CacheHit) -> tuple[str, ...]:
    known = (f"{hit.calls}", f"{hit.input_tokens}", f"{hit.cached_tokens}", _percent(hit.hit_rate))
    return hit.category or "unknown", *known


def _step(step: StepTotal) -> tuple[str, ...]:
    return step.stage, *map(str, (step.calls, step.packed_tokens, round(step.packed_tokens / step.calls)))


def _playbook(total: PlaybookTotal) -> tuple[str, ...]:
    from mcp_tierkit.receipts import usd

    tokens = "unknown" if total.tokens is None else f"{total.tokens}"
    return total.playbook, f"{total.runs}", f"{total.ok}", tokens, usd(total.cost_nanousd) or "unknown"


def _cost(spend: Spend) -> str:
    """What is known, and what is not beside it."""
    from mcp_tierkit.receipts import usd

    known = usd(spend.cost_nanousd) or ""
    if not spend.unpriced_calls:
        return known
    worst = usd(spend.unknown_nanousd)
    return f"{known} + " + (f"up to {worst} unknown" if spend.unknown_nanousd else f"{spend.unpriced_calls} unpriced")


def _share(part: Spend, whole: Spend) -> float | None:
    """The part of all tokens, input and output alike; None where there were none."""
    tokens = whole.input_tokens + whole.output_tokens
    return round((part.input_tokens + part.output_tokens) / tokens, 4) if tokens else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _task(task: TaskSummary) -> tuple[str, ...]:
    goal = " ".join(task.goal.split())
    goal = goal if len(goal) <= GOAL_WIDTH else goal[: GOAL_WIDTH - 1] + "…"
    begun = task.created_at[5:16].replace("T", " ")
    return task.task_id, begun, Path(task.project).name, goal, _ended(task), _cost(task.spend)


def _ended(task: TaskSummary) -> str:
    """What became of it, the latest word first; of a task that was only planned, the decision."""
    if told := task.outcome or task.draft_status or task.verdict or task.playbook_status:
        return told
    if task.state == "open":
        return task.decision or "-"
    return "refused" if task.state == "done" and not task.spend.calls else task.state


def _table(title: str, head: Sequence[str], rows: Rows) -> None:
    if rows:
        clean = [[_printable(cell) for cell in row] for row in rows]
        _rich(title, head, clean) if sys.stdout.isatty() else _plain(title, head, clean)


def _printable(text: str) -> str:
    """Goals and names of models come from elsewhere: nothing of them may steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _plain(title: str, head: Sequence[str], rows: Rows) -> None:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    click.echo(f"\n{title}")
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(title: str, head: Sequence[str], rows: Rows) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=GOAL in head)
    for name in head:
        justify: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=True, ratio=1 if name == GOAL else None)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
