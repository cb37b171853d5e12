"""`tierkit report`: what was spent and saved, by day, tier, model and task: tables, JSON, CSV files or a page."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcp_tierkit.cli.options import config_if_any, json_option, print_json, told_beside, transcripts_option

if TYPE_CHECKING:
    import sqlite3

    from mcp_tierkit.config import Config
    from mcp_tierkit.ledger.levers import Measured
    from mcp_tierkit.ledger.told import Told

LATEST = 15
STDOUT = Path("-")


@click.command()
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How far back, in UTC days.")
@click.option("--all", "is_in_full", is_flag=True, help="Show every table: days, models, types, prompts, tasks.")
@click.option("--levers", "only_levers", is_flag=True, help="Show what each lever saved or lost, and nothing else.")
@click.option("--html", "page_file", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts.")
@click.option("--csv", "csv_folder", type=click.Path(file_okay=False, path_type=Path), help="Write a file per table.")
@transcripts_option
@json_option
def report(
    days: int, is_in_full: bool, only_levers: bool, page_file: Path | None, csv_folder: Path | None,
    with_transcripts: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show what was spent and saved, what became of tasks, and what to do next.

    Counts every project of this user. A call whose cost is not known is counted as such, with the most it can have
    cost; it is never shown as free. The page is one file that loads nothing: open it in a browser, print it, or send
    it, or `--html -` to have it on stdout. The goals of tasks are in it.

    \b
    Example:
      tierkit report
      tierkit report --all
      tierkit report --days 7 --html report.html
      tierkit report --levers --transcripts
    """
    if page_file == STDOUT and (as_json or csv_folder is not None):
        raise click.UsageError("--html - takes all of stdout: name a file for the page, or ask for it alone.")
    found = _found(days, with_transcripts=with_transcripts)
    if page_file == STDOUT:
        click.echo(_page(found), nl=False)
    elif page_file is not None:
        _write(page_file, _page(found))
        click.echo(f"Wrote {page_file}", err=as_json)
    if csv_folder is not None:
        _write_tables(csv_folder, found, is_piped=as_json)
    if as_json:
        print_json(_levers(found) if only_levers else _record(found))
    elif page_file is None and csv_folder is None:
        _print(found, is_in_full=is_in_full, only_levers=only_levers)


def _print(found: Told, *, is_in_full: bool, only_levers: bool) -> None:
    from mcp_tierkit.cli.report_all import print_all
    from mcp_tierkit.cli.report_text import print_levers, print_report

    if only_levers:
        print_levers(found)
    elif is_in_full:
        print_all(found, LATEST)
    else:
        print_report(found)


def _found(days: int, *, with_transcripts: bool) -> Told:
    from mcp_tierkit.ledger.report import reading
    from mcp_tierkit.ledger.told import first_day, told
    from mcp_tierkit.places import find_places
    from mcp_tierkit.served import billed
    from mcp_tierkit.stages.standing import standing
    from mcp_tierkit.tiers import survey

    more: dict[str, Any] = {}
    now = datetime.now(UTC)
    config = _settings(is_needed=with_transcripts)
    places = find_places(os.environ)
    with reading(places.ledger_url) as conn:
        if config is not None:
            more = {"budgets": config.budgets, "repository": str(config.repository)}
            more["minute_nanousd"] = config.caller.minute_nanousd
            more["is_caller_named"] = config.caller.model is not None
            more["billing"] = {
                name: billed(tier) for name, tier in survey(config).tiers.items() if tier.billing != "api"
            }
            more["is_quota_caller"] = config.caller.billing == "subscription"
            if config.caller.model and config.caller.billing == "api":
                more["caller_price"] = config.price_table().price(config.caller.model)
            more["measured"] = _measured(conn, config, days, now, with_transcripts=with_transcripts)
        more["standing"] = standing(conn, places.state_dir, since=f"{first_day(days, now)}", now=now)
        return told(conn, days, now, **more)


def _settings(*, is_needed: bool) -> Config | None:
    """The settings; without them, outside of a project too, there are still sums, if no limits to hold them against."""
    from mcp_tierkit.errors import InvalidInput

    try:
        return config_if_any(needed=is_needed)
    except InvalidInput as refusal:
        if is_needed:
            raise
        left_out = "Shown without budgets, billing and prices of your own."
        click.echo(f"{told_beside(refusal)}\n{left_out}\n", err=True)
        return None


def _measured(
    conn: sqlite3.Connection, config: Config, days: int, now: datetime, *, with_transcripts: bool
) -> dict[str, Measured]:
    """The caller's own side of each task that its transcripts on this machine tell of, where they may be read."""
    if not (with_transcripts or config.caller.transcripts):
        return {}
    from mcp_tierkit.ledger.levers import Measured, with_net
    from mcp_tierkit.ledger.told import first_day
    from mcp_tierkit.stages.callers import first_read, measured

    caller = config.caller.model_copy(update={"transcripts": True})
    first = first_day(days, now)
    found = measured(
        config.model_copy(update={"caller": caller}), with_net(conn, f"{first}"), os.environ,
        since=datetime(first.year, first.month, first.day, tzinfo=UTC),
    )  # fmt: skip
    return {task_id: Measured(usd=one.cost_nanousd, tokens=first_read(one)) for task_id, one in found.items()}


def _record(found: Told) -> dict[str, object]:
    """The record with the shares by name; only the latest tasks, which a page has more room for."""
    record = found.model_dump(mode="json")
    for name in ("tasks", "scorecards"):
        record[name] = record[name][:LATEST]
    return {**record, "token_share_by_tier": {share.tier: share.tokens for share in found.shares}}


def _levers(found: Told) -> dict[str, object]:
    return {"since": found.since, "until": found.until, **found.savings.model_dump(mode="json")}


def _page(found: Told) -> str:
    from mcp_tierkit.page import page

    return page(found)


def _write(file: Path, text: str) -> None:
    """Write what only its owner may read: goals of tasks are private. Raises InvalidInput."""
    import tempfile

    from mcp_tierkit.errors import InvalidInput

    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise InvalidInput(
            f"{file.name} is a link or a device, and what it stands for would be lost. It was not changed.",
            next_step="Name an ordinary file, or one that does not exist yet.",
        )
    fresh = None
    try:
        fd, fresh = tempfile.mkstemp(dir=file.parent, prefix=".tierkit-")
        with open(fd, "w", encoding="utf8") as opened:
            opened.write(text)
        Path(fresh).replace(file)
    except OSError as error:
        if fresh is not None:
            Path(fresh).unlink(missing_ok=True)
        raise InvalidInput(
            f"{file} could not be written ({error.strerror}). Nothing was changed.",
            next_step="Name a file in a folder that exists and that you may write to.",
        ) from error


def _write_tables(folder: Path, found: Told, *, is_piped: bool) -> None:
    from mcp_tierkit.cli.report_csv import tables
    from mcp_tierkit.errors import InvalidInput

    if folder.suffix.lower() == ".csv" and not folder.is_dir():
        raise InvalidInput(
            f"{folder} is the name of one file, and --csv writes one per table into a folder. Nothing was written.",
            next_step=f"Name a folder, as in: tierkit report --csv {folder.with_suffix('').name or 'report'}",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"The folder {folder} could not be made ({error.strerror}). Nothing was written.",
            next_step="Name a folder that exists, or one within a folder that you may write to.",
        ) from error
    made = tables(found)
    for name, text in made.items():
        _write(folder / f"{name}.csv", text)
    # What follows on stdout may be JSON, which is to stay one document.
    click.echo(f"Wrote {len(made)} tables into {folder}", err=is_piped)
