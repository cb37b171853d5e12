"""`tierkit playbook suggest`: work that was paid for again and again, and the command that ends that."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcp_tierkit.cli.options import json_option, print_json, project_option

if TYPE_CHECKING:
    from mcp_tierkit.repeats import Repeat
    from mcp_tierkit.stages.repetition import Suggestions

DAYS = {"d": 1, "w": 7}
SHOWN = 20


def _date(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """An ISO date in UTC, from a time ago or a date."""
    if found := re.fullmatch(r"(\d{1,4})([dw])", value):
        return f"{datetime.now(UTC).date() - timedelta(days=int(found[1]) * DAYS[found[2]])}"
    try:
        return f"{date.fromisoformat(value)}"
    except ValueError:
        raise click.BadParameter("give a time such as 90d or 12w, or a date such as 2026-01-31") from None


@click.command()
@click.option("--since", callback=_date, default="90d", show_default=True, help="How far back, such as 90d or 12w.")
@click.option("--min", "least", default=3, show_default=True, type=click.IntRange(2, 1000),
              help="How often a job must have come.")  # fmt: skip
@click.option("--all-projects", is_flag=True, help="Look at the tasks of every project, not of this repository alone.")
@project_option
@json_option
def suggest(since: str, least: int, all_projects: bool, project: Path | None, as_json: bool) -> None:
    """Find solved tasks that came again and again: each is worth a playbook. Reads the ledger, at zero tokens.

    \b
    Example:
      tierkit playbook suggest
      tierkit playbook suggest --since 30d --min 2 --json
    """
    from mcp_tierkit.cli.playbook.chosen import config_of
    from mcp_tierkit.stages import repetition

    found = repetition.suggest(config_of(project), since=since, least=least, all_projects=all_projects)
    if as_json:
        print_json({**found.model_dump(mode="json", exclude={"repeats"}), "repeats": list(map(_told, found.repeats))})
    else:
        _print(found, least)


def _told(repeat: Repeat) -> dict[str, object]:
    return {**repeat.model_dump(mode="json"), "next": _next(repeat)}


def _next(repeat: Repeat) -> str:
    """The command to go on with."""
    if repeat.playbook:
        return f"tierkit playbook run {repeat.playbook}"
    return f"tierkit playbook new {repeat.name} --from-task {repeat.task_ids[0]}"


def _print(found: Suggestions, least: int) -> None:
    from mcp_tierkit.amounts import count
    from mcp_tierkit.cli.tables import Column, figures, print_table, words

    seen = count(found.looked_at, "task")
    gone = f"; of {found.gone} more the change is no longer in the files" if found.gone else ""
    click.echo(f"{seen} since {found.since} looked at, {found.solved} of them solved and kept{gone}.")
    if not found.repeats:
        click.echo(
            f"No job came {least} times. Tasks are compared once a draft of theirs was applied: "
            "go on delegating, or look further with --min 2 or --since 365d."
        )
        return
    shown = found.repeats[:SHOWN]
    head = (Column("goal", is_wide=True), *figures("runs", "USD", "median"), *words("latest"))
    print_table("Solved again and again", head, list(map(_row, shown)))
    click.echo("\nA playbook does such a job at zero tokens. To go on:")
    for repeat in shown:
        note = "  (this playbook does it already: use run_playbook)" if repeat.playbook else ""
        click.echo(f"  {_next(repeat)}{note}")
    if len(found.repeats) > SHOWN:
        click.echo(f"{len(found.repeats) - SHOWN} more: --json shows them all.")


def _row(repeat: Repeat) -> tuple[str, ...]:
    from mcp_tierkit.receipts import usd

    known = usd(repeat.total_nanousd) or ""
    cost = f"{known} + {repeat.unknown_costs} unknown" if repeat.unknown_costs else known
    return (
        repeat.phrase or repeat.example,
        f"{repeat.count}",
        cost,
        usd(repeat.median_nanousd) or "-",
        repeat.last_at[:10],
    )
