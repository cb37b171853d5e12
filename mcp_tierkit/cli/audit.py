"""`tierkit audit`: what your coding agent's own work cost, from the transcripts that it leaves on this machine."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from mcp_tierkit.amounts import count
from mcp_tierkit.cli.options import json_option, told_beside

if TYPE_CHECKING:
    from mcp_tierkit.audit.advice import Reach
    from mcp_tierkit.audit.groups import Handed
    from mcp_tierkit.audit.lines import Audit
    from mcp_tierkit.prices import PriceTable
    from mcp_tierkit.transcripts.read import Reading, Step

_BAR_FROM = 5_000_000
"""Bytes: what is read in a blink needs no bar."""


def _day(ctx: click.Context, param: click.Parameter, value: str | None) -> date | None:
    """A day that has begun somewhere: tomorrow's date is already somebody's today."""
    if value is None:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("give a date such as 2026-01-31, or --days 7 for the last seven") from None
    if day > datetime.now(UTC).date() + timedelta(days=1):
        raise click.BadParameter(f"{day} is yet to come: give a day that was")
    return day


@click.command()
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How far back, in UTC days.")
@click.option("--since", callback=_day, metavar="DATE", help="From this day on instead, as in 2026-01-31.")
@click.option("--project", metavar="PATH|NAME", help="Work in this folder alone, or in folders of this name.")
@click.option("--session", metavar="ID", help="Show the tasks of one session; its first characters will do.")
@click.option("--full", "is_full", is_flag=True, help="All tables: days, tasks, repeated work, what needed no model.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many rows in each table.")
@json_option
@click.pass_context
def audit(
    ctx: click.Context, days: int, since: date | None, project: str | None, session: str | None, is_full: bool,
    top: int, as_json: bool,
) -> None:  # fmt: skip
    """Show what your coding agent cost, and what of it could have been cheaper. Needs no key and no set-up.

    Reads what Claude Code, Codex, Gemini CLI, opencode and Pi keep on this machine. Nothing is written or sent.

    \b
    Example:
      tierkit audit
      tierkit audit --full
      tierkit audit --days 7 --project my-app
      tierkit audit --session 3f2a
    """
    from mcp_tierkit.audit.bill import settle
    from mcp_tierkit.audit.money import Pricer
    from mcp_tierkit.audit.tell import project_matches, tell
    from mcp_tierkit.cli import audit_show
    from mcp_tierkit.stages.shelved import reach
    from mcp_tierkit.transcripts.read import read_all

    if since and ctx.get_parameter_source("days") is not ParameterSource.DEFAULT:
        raise click.UsageError("--days and --since both say where to begin: give one of them.")
    today = datetime.now(UTC).date()
    first = since or today - timedelta(days=days - 1)
    begun = time.monotonic()
    with _progress() as step:
        read = read_all(os.environ, since=_epoch(first), step=step)
    table, is_subscription = _prices()
    chosen = _folder(project)
    wanted = partial(project_matches, wanted=chosen) if chosen else _any
    # Tomorrow is let pass: some clock is always ahead.
    until = f"{today + timedelta(days=2)}"
    bill = settle(read.sheets, Pricer(table.price), since=f"{first}", until=until, wanted=wanted)
    near = reach(os.environ)
    groups, problem = _handed(first, today, wanted, near)
    most = None if session or as_json else top
    found = tell(bill, since=f"{first}", today=today, handed=groups, most=most, reach=near)
    if chosen and not (found.total.calls or found.handed or _is_folder(chosen)):
        everything = settle(read.sheets, Pricer(table.price), since=f"{first}", until=until)
        _refuse_unknown(chosen, sorted({job.project for job in everything.jobs if job.project}), as_json=as_json)
    if session:
        _print_session(found, session, as_json=as_json)
    elif as_json:
        billing = {"billing": _billing(is_subscription), "ledger_problem": problem or None}
        _print_json({**found.model_dump(), **billing, **_told(read)})
    else:
        seconds = time.monotonic() - begun
        is_full = is_full or ctx.get_parameter_source("top") is not ParameterSource.DEFAULT
        audit_show.show(
            found, read, top, seconds=seconds, is_subscription=is_subscription, problem=problem, is_full=is_full
        )


def _refuse_unknown(project: str, others: Sequence[str], *, as_json: bool) -> None:
    """NotFound where there is work, and none of it in a project of that name."""
    from mcp_tierkit.cli import audit_show
    from mcp_tierkit.errors import NotFound

    if not others:
        return
    if not as_json:
        audit_show.show_others(project, others)
    raise NotFound(
        f"No project in these days is {project[:200]!r}. Nothing is summed up.",
        next_step="--project takes a folder, or the last part of its name; --days 365 looks further back.",
    )


def _any(project: str) -> bool:
    return True


def _epoch(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _folder(project: str | None) -> str | None:
    """A path as the transcripts write it, absolute; a bare name as it is, unless it is "." or the like."""
    if project is None or not (os.sep in project or project in (".", "..") or project.startswith("~")):
        return project
    return os.path.realpath(os.path.expanduser(project))


def _is_folder(project: str) -> bool:
    """A folder in which no agent worked is no mistake; a bare name is none of a folder here."""
    return os.path.isabs(project) and os.path.isdir(project)


def _prices() -> tuple[PriceTable, bool]:
    """The user's own prices before ours, and whether the caller's bill is a subscription's, in whatever folder."""
    from mcp_tierkit.config import own_settings, price_table
    from mcp_tierkit.errors import TierkitError

    try:
        settings = own_settings(os.environ)
    except TierkitError as mistake:
        click.echo(f"Your own prices are left out. {told_beside(mistake)}", err=True)
        return price_table(()), False
    return price_table(settings.tiers.written().values()), settings.caller.billing == "subscription"


def _handed(first: date, today: date, wanted: Callable[[str], bool], near: Reach) -> tuple[Sequence[Handed], str]:
    """What was handed to us again and again, and why that is not known where the ledger cannot be read."""
    from mcp_tierkit.errors import TierkitError
    from mcp_tierkit.places import find_places
    from mcp_tierkit.stages.handed import handed

    try:
        return handed(find_places(os.environ).ledger_url, since=f"{first}", today=today, wanted=wanted, reach=near), ""
    except TierkitError as error:
        return (), str(error)


def _billing(is_subscription: bool) -> str:
    return "subscription, shown at API prices" if is_subscription else "at API prices"


def _told(read: Reading) -> dict[str, object]:
    looked = [{"client": root.client, "path": str(root.path), "exists": root.path.exists()} for root in read.roots]
    return {"files": read.files, "bytes": read.bytes, "counts": dict(sorted(read.counts.items())), "looked_in": looked}


def _print_json(value: object) -> None:
    """Like any other record, whatever a file was called: half a character in a name is shown as a question mark."""
    shown = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    click.echo(shown.encode("utf8", "replace").decode())


def _print_session(found: Audit, session: str, *, as_json: bool) -> None:
    from mcp_tierkit.audit.tell import of_session
    from mcp_tierkit.cli import audit_show
    from mcp_tierkit.errors import InvalidInput, NotFound

    tasks = of_session(found, session)
    if not tasks:
        was = "was" if found.session_count == 1 else "were"
        there = f"{count(found.session_count, 'other session')} of these days {was} read."
        raise NotFound(
            f"No session in these days has an id that begins with {session[:60]!r}. Nothing is shown.",
            next_step=f"{there} `tierkit audit` lists the dearest tasks with the ids of their sessions."
            if found.session_count else "There is no other one either: --days 365 looks further back.",
        )  # fmt: skip
    alike = {task.session for task in tasks}
    if len(alike) > 1:
        lines = [line for line in found.sessions if line.key in alike]
        if not as_json:
            audit_show.show_sessions(lines[:20])
        listed = ", ".join(line.short for line in lines[:10]) + (", …" if len(lines) > 10 else "")
        raise InvalidInput(
            f"{len(alike)} sessions have an id that begins with {session[:60]!r}. None of them is summed up.",
            next_step=f"Give more of the one that you mean: {listed}.",
        )
    if as_json:
        _print_json([task.model_dump() for task in tasks])
    else:
        audit_show.show_tasks(tasks)


@contextmanager
def _progress() -> Iterator[Step | None]:
    """A bar on a terminal, for what takes longer than a blink."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Reading transcripts"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, visible=False)

        def step(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=total > _BAR_FROM)

        yield step
