"""`tierkit score`: what a delegated task was worth. `tierkit checklist`: whether to go on delegating."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcp_tierkit.cli.options import json_option, print_json, project_option, transcripts_option

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.scorecard import Answer, Pattern
    from mcp_tierkit.stages.outcome import Outcome

UNKNOWN = "unknown"
NEWEST = 200


@click.command()
@click.argument("task_id")
@click.option("--saved-minutes", type=click.FloatRange(0, 100_000), help="Minutes it saved, to weigh clean-up against.")
@transcripts_option
@project_option
@json_option
def score(
    task_id: str, saved_minutes: float | None, with_transcripts: bool, project: Path | None, as_json: bool
) -> int:
    """Score the task TASK_ID from 5 to 1 by cost, speed and accuracy, and say whether it helped or moved the work.

    What is not known stays unknown and is left out of a score. Lines of its change that were rewritten within seven
    days are counted anew each time, from git and from the working tree. Exit code 1 when the work was moved.

    \b
    Example:
      tierkit score t048213377120
      tierkit score t048213377120 --saved-minutes 5 --json
      tierkit score t048213377120 --transcripts
    """
    from mcp_tierkit.stages.callers import caller_of
    from mcp_tierkit.stages.outcome import outcome_of

    config = _config(task_id, project)
    with_transcripts = with_transcripts or config.caller.transcripts
    caller = caller_of(config, task_id, os.environ) if with_transcripts else None
    found = outcome_of(config, task_id, saved_minutes=saved_minutes, caller=caller)
    if as_json:
        _print_json(found, with_transcripts=with_transcripts)
    else:
        _print(found, with_transcripts=with_transcripts)
    return int(found.card.verdict == "moved_work")


def _print_json(found: Outcome, *, with_transcripts: bool) -> None:
    """`caller` is there where transcripts were asked for, null where none tells of the task."""
    from mcp_tierkit.stages.callers import told

    measured = {"is_final": found.measured.is_final, "reason": found.measured.reason}
    patterns = [pattern.model_dump(mode="json") for pattern in found.patterns]
    caller = {"caller": told(found.caller) if found.caller else None} if with_transcripts else {}
    print_json({**found.card.model_dump(mode="json"), "measured": measured, "patterns": patterns, **caller})


def _config(task_id: str, project: Path | None) -> Config:
    """The configuration of the project in hand, else of the task's own, wherever the command is called."""
    from mcp_tierkit.config import load_config
    from mcp_tierkit.ledger.report import reading, task_summary
    from mcp_tierkit.places import find_places

    if project is not None:
        return load_config(project=str(project))
    with reading(find_places(os.environ).ledger_url) as conn:
        return load_config(project=task_summary(conn, task_id).project)


def _print(found: Outcome, *, with_transcripts: bool) -> None:
    from mcp_tierkit.receipts import usd
    from mcp_tierkit.stages.outcome import rewritten

    card, measured = found.card, found.measured
    minutes = None if card.cleanup_minutes is None else f"{card.cleanup_minutes:g} minutes"
    lines = rewritten(card) or f"{UNKNOWN}: {measured.reason}"
    until = "" if measured.is_final or measured.reason else " so far; counted until seven days after"
    comments = None if card.comments is None else f"{card.comments}, {card.repeated_comments or 0} of them again"
    rows = {
        "cost": _grade(card.cost, f"{_usd(usd(card.cost_nanousd))} for {card.calls} calls{_against(found)}"),
        **({"caller's side": _caller(found)} if with_transcripts else {}),
        "speed": _grade(card.speed, UNKNOWN if card.wall_s is None else f"{card.wall_s:.1f} s of work"),
        "accuracy": _grade(card.accuracy, card.outcome or "no outcome recorded"),
        "rewrites": _or_unknown(card.rewrites),
        "review comments": _or_unknown(comments),
        "defects after": _or_unknown(card.defects),
        "clean-up told": _or_unknown(minutes),
        "clean-up in git": f"{lines}{until}",
        "total": _usd(usd(card.total_nanousd)),
    }
    click.echo(f"{card.task_id}  {card.verdict or 'no verdict'}: {card.why}")
    click.echo(f"  {_plain(card.goal)}\n")
    for name, text in rows.items():
        click.echo(f"  {name:<16} {text}")
    _print_patterns(found.patterns)


def _grade(grade: int | None, text: str) -> str:
    return f"{grade or '-'} of 5  {text}"


def _usd(text: str | None) -> str:
    return UNKNOWN if text is None else f"${text}"


def _or_unknown(value: object) -> str:
    return UNKNOWN if value is None else f"{value}"


def _caller(found: Outcome) -> str:
    from mcp_tierkit.receipts import usd_short
    from mcp_tierkit.stages.callers import SOURCE

    if (own := found.caller) is None:
        return "no transcript on this machine tells of it; the estimate stands"
    written = own.cache_write_5m + own.cache_write_1h
    tokens = f"{own.input:,} in, {own.cache_read:,} from a cache, {written:,} into it, {own.output:,} out"
    return f"{_usd(usd_short(own.cost_nanousd))} for {own.calls} calls: {tokens} ({SOURCE})"


def _against(found: Outcome) -> str:
    from mcp_tierkit.receipts import usd_short

    base = found.card.baseline
    if base is None and found.caller and found.caller.cost_nanousd is None:
        return "; with the caller's side: unknown"
    if base is None:
        return "; alone: unknown"
    if base.unit == "tokens":
        return f"; {base.ours} tokens of the caller's, alone {base.alone_low} to {base.alone_high}"
    alone = f"${usd_short(base.alone_low)} to ${usd_short(base.alone_high)}"
    return f", ${usd_short(base.ours)} with the caller's side; alone {alone} (estimated)"


def _plain(goal: str) -> str:
    """A goal on one line; nothing of it may steer a terminal."""
    text = " ".join(goal.split())[:100]
    return "".join(char if char.isprintable() else "?" for char in text)


def _print_patterns(patterns: tuple[Pattern, ...]) -> None:
    for pattern in patterns:
        times = f"{pattern.times} findings of class {pattern.klass} in {pattern.tasks} tasks"
        click.echo(f"\n  Again and again: {times}.\n  {pattern.suggestion}")


@click.command()
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 3650), help="How far back, in UTC days.")
@click.option("--all-projects", is_flag=True, help="Answer from the tasks of every project of this user.")
@project_option
@json_option
def checklist(days: int, all_projects: bool, project: Path | None, as_json: bool) -> int:
    """Answer five questions from this project's tasks: strong, weak, or not known yet.

    Exit code 1 with two weak answers or more: that is no way of working to spread to others yet.

    \b
    Example:
      tierkit checklist
      tierkit checklist --days 30 --json
    """
    from mcp_tierkit.config import load_config
    from mcp_tierkit.ledger.report import reading
    from mcp_tierkit.ledger.scores import repeated_findings, scorecards
    from mcp_tierkit.scorecard import checklist as answered
    from mcp_tierkit.scorecard import is_weak

    config = load_config(project=str(project) if project else None)
    own = None if all_projects else str(config.project)
    since, rate = f"{datetime.now(UTC).date() - timedelta(days=days - 1)}", config.caller.minute_usd
    with reading(config.ledger_url) as conn:
        cards = scorecards(conn, since, limit=NEWEST, project=own, minute_nanousd=rate)
        patterns = repeated_findings(conn, project=own)
    answers, tasks = answered(cards, patterns), len(cards)
    weak = is_weak(answers)
    if as_json:
        told = {name: [row.model_dump(mode="json") for row in rows] for name, rows in
                (("answers", answers), ("patterns", patterns))}  # fmt: skip
        print_json({"since": since, "tasks": tasks, "is_weak": weak, **told})
    else:
        _print_answers(answers, patterns, f"{tasks} tasks since {since}", is_weak=weak)
    return int(weak)


def _print_answers(answers: tuple[Answer, ...], patterns: tuple[Pattern, ...], seen: str, *, is_weak: bool) -> None:
    click.echo(f"From {seen}:\n")
    for number, row in enumerate(answers, 1):
        click.echo(f"  {number}. {row.question}\n     {row.answer or UNKNOWN} ({row.good} of {row.of} tasks)")
    _print_patterns(patterns)
    click.echo("\nTwo answers or more are weak: mend that before you roll it out." if is_weak else "")
