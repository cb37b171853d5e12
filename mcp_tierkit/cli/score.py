"""`tierkit score`: what a delegated task was worth. `tierkit outcome`: what became of it.
`tierkit checklist`: whether to go on delegating.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import anyio
import click

from mcp_tierkit.amounts import FIGURES, UNKNOWN, count, dollars
from mcp_tierkit.calls import OutcomeCall
from mcp_tierkit.cli.options import json_option, print_json, project_option, transcripts_option
from mcp_tierkit.cli.owned import config_for, config_of
from mcp_tierkit.types import Outcome as Word

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.scorecard import Answer, Pattern, Scorecard
    from mcp_tierkit.stages.outcome import Outcome

NEWEST, GOAL_WIDTH = 200, 100


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
    days are counted from git and from the working tree, anew each time until these days are over and then for good.
    Exit code 1 when the work was moved.

    \b
    Example:
      tierkit score t048213377120
      tierkit score t048213377120 --saved-minutes 5 --json
      tierkit score t048213377120 --transcripts
    """
    from mcp_tierkit.stages.callers import caller_of
    from mcp_tierkit.stages.outcome import outcome_of

    config = config_for(task_id, project)
    with_transcripts = with_transcripts or config.caller.transcripts
    caller = caller_of(config, task_id, os.environ) if with_transcripts else None
    found = outcome_of(config, task_id, saved_minutes=saved_minutes, caller=caller)
    if as_json:
        _print_json(found, with_transcripts=with_transcripts)
    else:
        _print(found, with_transcripts=with_transcripts, saved_minutes=saved_minutes)
    return int(found.card.verdict == "moved_work")


@click.command()
@click.argument("task_id")
@click.argument("word", metavar="accepted|edited|reverted", type=click.Choice(get_args(Word)))
@click.option("--cleanup-minutes", type=float, help="Minutes somebody spent on cleaning up after it.")
@click.option("--defects", type=int, help="Defects found in it later.")
@click.option("--note", default="", help="Anything to remember about it.")
@project_option
@json_option
def outcome(project: Path | None, task_id: str, word: Word, as_json: bool, **told: object) -> int:
    """Say what became of the change of TASK_ID, and see its scorecard. May be said again: the newest counts.

    It changes no file: to take a change back and have that recorded, use `tierkit undo`.

    \b
    Example:
      tierkit outcome t048213377120 accepted
      tierkit outcome t048213377120 edited --cleanup-minutes 4 --defects 0
    """
    from mcp_tierkit.cli.work import filled

    call = filled(OutcomeCall, task_id=task_id, outcome=word, **told)
    found = anyio.run(_noted, config_for(task_id, project), call)
    if as_json:
        _print_json(found, with_transcripts=False)
    else:
        _print(found, with_transcripts=False)
    return 0  # What was asked is done; what the task was worth is another matter.


async def _noted(config: Config, call: OutcomeCall) -> Outcome:
    from mcp_tierkit.kit import open_kit
    from mcp_tierkit.stages.outcome import note_outcome
    from mcp_tierkit.types import Score

    kit = open_kit(config)
    try:
        return await note_outcome(kit, Score(**call.model_dump(exclude={"undo"})))
    finally:
        await kit.close()


def _print_json(found: Outcome, *, with_transcripts: bool) -> None:
    """`caller` is there where transcripts were asked for, null where none tells of the task."""
    from mcp_tierkit.stages.callers import told

    measured = {"is_final": found.measured.is_final, "reason": found.measured.reason}
    patterns = [pattern.model_dump(mode="json") for pattern in found.patterns]
    caller = {"caller": told(found.caller) if found.caller else None} if with_transcripts else {}
    print_json({**found.card.model_dump(mode="json"), "measured": measured, "patterns": patterns, **caller})


def _print(found: Outcome, *, with_transcripts: bool, saved_minutes: float | None = None) -> None:
    from mcp_tierkit.cli.tables import print_text, printable
    from mcp_tierkit.scorecard import was_handed_over

    card = found.card
    spent = dollars(card.cost_nanousd, FIGURES)
    comments = None if card.comments is None else f"{card.comments}, {card.repeated_comments or 0} of them again"
    rows = {
        "cost": _grade(card.cost, f"{spent} for {count(card.calls, 'call')}{_against(found)}"),
        **({"caller's side": _caller(found)} if with_transcripts else {}),
        "speed": _grade(card.speed, _time(card)),
        "accuracy": _grade(card.accuracy, card.outcome or "no outcome recorded"),
        "rewrites": _or_unknown(card.rewrites),
        "review comments": _or_unknown(comments),
        "defects after": _or_unknown(card.defects),
        "clean-up told": _minutes(card.cleanup_minutes, saved_minutes),
        "clean-up in git": _lines(found),
        "total": _total(card),
    }
    print_text([f"{card.task_id}  {card.verdict or 'no verdict'}: {card.why}"], indent="  ")
    print_text([f"  {printable(' '.join(card.goal.split()), GOAL_WIDTH)}"], indent="  ")
    click.echo()
    for name, text in rows.items():
        print_text([f"  {name:<16} {text}"], indent=" " * 19)
    if with_transcripts and found.caller and card.baseline and card.baseline.unit == "usd":
        click.echo()
        again = "Its calls read the conversation again at each step. The work alone is estimated without that."
        print_text([f"  {again}"], indent="  ")
    if card.outcome is None and was_handed_over(card):
        click.echo()
        print_text([f"  To record its outcome: tierkit outcome {card.task_id} accepted|edited|reverted"], indent="  ")
    _print_patterns(found.patterns)


def _minutes(cleanup: float | None, saved: float | None = None) -> str:
    told = UNKNOWN if cleanup is None else f"{cleanup:g} minute{'' if cleanup == 1 else 's'}"
    return told if saved is None else f"{told}, weighed against {saved:g} saved"


def _time(card: Scorecard) -> str:
    """Both of what speed is graded by."""
    if card.wall_s is None:
        return UNKNOWN
    return f"{card.wall_s:.1f} s of work" + (
        f" and {_minutes(card.cleanup_minutes)} of clean-up" if card.cleanup_minutes else ""
    )


def _total(card: Scorecard) -> str:
    """What was measured, and with the estimate of the caller's side where that is known in dollars too."""
    if card.total_nanousd is None or card.cleanup_nanousd is None:
        return UNKNOWN
    told = f"{dollars(card.total_nanousd, FIGURES)} for calls and clean-up"
    if card.baseline is None or card.baseline.unit != "usd":
        return told
    return f"{told}, {dollars(card.baseline.ours + card.cleanup_nanousd, FIGURES)} with the caller's side"


def _lines(found: Outcome) -> str:
    from mcp_tierkit.stages.outcome import rewritten

    lines = rewritten(found.card)
    if lines is None:
        return f"{UNKNOWN}: {found.measured.reason}"
    return f"{lines} rewritten" + (
        " within seven days" if found.card.are_lines_final else " so far; counted until seven days after"
    )


def _grade(grade: int | None, text: str) -> str:
    return f"{grade or '-'} of 5  {text}"


def _or_unknown(value: object) -> str:
    return UNKNOWN if value is None else f"{value}"


def _caller(found: Outcome) -> str:
    from mcp_tierkit.stages.callers import SOURCE

    if (own := found.caller) is None:
        return "no transcript on this machine tells of it; the estimate stands"
    written = own.cache_write_5m + own.cache_write_1h
    tokens = f"{own.input:,} in, {own.cache_read:,} from a cache, {written:,} into it, {own.output:,} out"
    return f"{dollars(own.cost_nanousd)} for {count(own.calls, 'call')}: {tokens} ({SOURCE})"


def _against(found: Outcome) -> str:
    from mcp_tierkit.scorecard import was_handed_over

    base = found.card.baseline
    if base and not was_handed_over(found.card):
        return "; nothing was handed over, so the work alone is still to be done"
    if base is None and found.caller and found.caller.cost_nanousd is None:
        return "; with the caller's side: unknown"
    if base is None:
        return "; alone: unknown"
    if base.unit == "tokens":
        tokens = count(base.ours, "token")
        alone = " to ".join(dict.fromkeys(map(count, (base.alone_low, base.alone_high))))
        return f"; {tokens} of the caller's, alone {alone}"
    alone = " to ".join(dict.fromkeys(map(dollars, (base.alone_low, base.alone_high))))
    return f", {dollars(base.ours)} with the caller's side; alone {alone} (estimated)"


def _print_patterns(patterns: tuple[Pattern, ...]) -> None:
    from mcp_tierkit.cli.tables import print_text

    for pattern in patterns:
        klass = pattern.klass.replace("_", " ")
        times = f"{count(pattern.times, 'finding')} of class {klass} in {count(pattern.tasks, 'task')}"
        click.echo()
        print_text([f"  Again and again: {times}."], indent="  ")
        print_text([f"  {pattern.suggestion}"], indent="  ")


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
    since, rate = f"{datetime.now(UTC).date() - timedelta(days=days - 1)}", config.caller.minute_nanousd
    with reading(config.ledger_url) as conn:
        newest = scorecards(conn, since, limit=NEWEST, project=own)
    _count_due(config, [card.task_id for card in newest])
    with reading(config.ledger_url) as conn:
        cards = scorecards(conn, since, limit=NEWEST, project=own, minute_nanousd=rate)
        patterns = repeated_findings(conn, project=own, since=since)
    answers, tasks = answered(cards), len(cards)
    weak = is_weak(answers)
    if as_json:
        told = {name: [row.model_dump(mode="json") for row in rows] for name, rows in
                (("answers", answers), ("patterns", patterns))}  # fmt: skip
        print_json({"since": since, "tasks": tasks, "is_weak": weak, **told})
    else:
        which = f"the newest {tasks} tasks" if tasks == NEWEST else count(tasks, "task")
        _print_answers(answers, patterns, tasks, f"{which} since {since}")
    return int(weak)


def _count_due(config: Config, task_ids: list[str]) -> None:
    """Count the lines of the tasks whose seven days are over; a bar on a terminal, since each asks git."""
    from rich.console import Console
    from rich.progress import track

    from mcp_tierkit.stages.outcome import count_lines, due

    if left := due(config, task_ids):
        err, is_hidden = Console(stderr=True), not sys.stderr.isatty()
        steps = track(left, "Counting what was rewritten", console=err, transient=True, disable=is_hidden)
        count_lines(config, steps, config_of)


def _print_answers(answers: tuple[Answer, ...], patterns: tuple[Pattern, ...], tasks: int, seen: str) -> None:
    from mcp_tierkit.cli.tables import print_text
    from mcp_tierkit.scorecard import least_tasks

    print_text([f"From {seen}. A task that cannot tell is left out; {least_tasks()} that can make an answer."])
    click.echo()
    for number, row in enumerate(answers, 1):
        left = f"; {tasks - row.of} cannot tell" if tasks > row.of else ""
        print_text([f"  {number}. {row.question}"], indent=" " * 5)
        told = f"{row.answer or 'not known yet'}: {row.good} of {count(row.of, 'task')}{left}"
        for line in filter(None, (told, row.advice)):
            print_text([f"     {line}"], indent=" " * 5)
    _print_patterns(patterns)
    click.echo()
    print_text([_closing(answers)])


def _closing(answers: tuple[Answer, ...]) -> str:
    from mcp_tierkit.scorecard import is_weak, too_many_weak

    weak, open_ = (sum(row.answer == told for row in answers) for told in ("weak", None))
    unknown = f" {open_} of {len(answers)} are not known yet." if open_ else ""
    if is_weak(answers):
        return f"{weak} of {len(answers)} answers are weak: mend that before you roll it out.{unknown}"
    if weak:
        return f"{weak} of {len(answers)} answers is weak; {too_many_weak()} would be too many.{unknown}"
    return "No answer is weak." + (unknown or " Ready to roll out.")
