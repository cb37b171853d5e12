"""What became of a task, measured and scored."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio.to_thread

from mcp_tierkit.amounts import count
from mcp_tierkit.cleanup import WITHIN, measure
from mcp_tierkit.config import Config
from mcp_tierkit.errors import Conflict, InvalidInput, LedgerError, TierkitError
from mcp_tierkit.journal import has_undo
from mcp_tierkit.kit import Kit
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.scores import counted, facts_of, handed_over, keep_count, repeated_findings, uncounted
from mcp_tierkit.receipts import usd
from mcp_tierkit.scorecard import LineCount, Pattern, Scorecard, score
from mcp_tierkit.stages.callers import in_facts
from mcp_tierkit.types import Score
from mcp_tierkit.workspace import Workspace

if TYPE_CHECKING:
    from mcp_tierkit.transcripts.figures import CallerFigures


class Outcome(NamedTuple):
    """A task's scorecard, how its clean-up was measured, and what its project's reviews keep finding.

    `caller` is what its caller's transcript says, where one was looked for and found.
    """

    card: Scorecard
    measured: LineCount
    patterns: tuple[Pattern, ...]
    caller: CallerFigures | None = None


async def note_outcome(kit: Kit, told: Score) -> Outcome:
    """Write down what became of a task, with the lines that were rewritten so far.

    Raises Conflict where a change that was taken back is said to have been kept.
    """
    told = await _checked(kit, told)
    measured = await anyio.to_thread.run_sync(measure_task, kit.config, told.task_id)
    lines = {"changed_lines": measured.changed_lines, "rewritten_lines": measured.rewritten_lines}
    await kit.ledger.save(told.model_copy(update=lines))
    return await anyio.to_thread.run_sync(lambda: _scored(kit.config, told.task_id, measured))


async def _checked(kit: Kit, told: Score) -> Score:
    """What was told, with what is known of it: that its change was taken back, and not handed over again since."""
    before = await kit.ledger.score(told.task_id)
    if before is None or not before.is_undone or told.is_undone or not await kit.ledger.is_reverted(told.task_id):
        return told
    project = Workspace(Path((await kit.ledger.task(told.task_id)).project))
    if await anyio.to_thread.run_sync(has_undo, kit.config.state_dir, project, told.task_id):
        return told
    if told.outcome != "reverted":
        raise Conflict(
            f"The change of task {told.task_id} was taken back, so it cannot be {told.outcome}. Nothing was recorded.",
            next_step="Draft it again if it is wanted after all, and record what becomes of that.",
        )
    return told.model_copy(update={"is_undone": True})


def outcome_of(
    config: Config, task_id: str, *, saved_minutes: float | None = None, caller: CallerFigures | None = None
) -> Outcome:
    """The same of a task as it stands now. Raises NotFound.

    With the `caller`'s own figures, what the task came to is measured where its receipt estimates.
    """
    return _scored(config, task_id, measure_task(config, task_id), saved_minutes, caller)


def measure_task(config: Config, task_id: str) -> LineCount:
    """The lines of the task's change that were rewritten, as far as its project is the one at hand.

    Once the seven days are over they are counted for good and kept: history can be rewritten, and undo records end.
    """
    with reading(config.ledger_url) as conn:
        project, handed = facts_of(conn, task_id).project, handed_over(conn, task_id)
        kept = counted(conn, task_id)
    if kept is not None and kept.is_final:
        return kept
    if project != str(config.project):
        return LineCount(reason="It is a task of another project.")
    if handed is None:
        return LineCount(reason="No draft of it was handed over.")
    now = datetime.now(UTC)
    found = measure(
        Workspace(config.project, config.policy.deny), config.state_dir, task_id, at=handed.at, now=now,
        patch=handed.patch, is_applied=handed.is_applied,
    )  # fmt: skip
    if now > handed.at + WITHIN and found != kept:
        _keep(config, task_id, found, now)
    return found


def count_lines(config: Config, task_ids: Iterable[str], config_of: Callable[[str], Config]) -> None:
    """Count the lines of these tasks; `config_of` gives the configuration of another project than this one."""
    for task_id in task_ids:
        with reading(config.ledger_url) as conn:
            project = facts_of(conn, task_id).project
        with contextlib.suppress(InvalidInput):  # Another project's settings are no reason to answer nothing.
            measure_task(config if project == str(config.project) else config_of(project), task_id)


def due(config: Config, task_ids: Iterable[str]) -> tuple[str, ...]:
    """Those whose seven days are over and whose lines nobody has tried to count since."""
    with reading(config.ledger_url) as conn:
        return uncounted(conn, list(task_ids), until=datetime.now(UTC) - WITHIN)


def _keep(config: Config, task_id: str, found: LineCount, now: datetime) -> None:
    # A ledger that cannot be written now still answers, and the lines are counted again next time.
    with contextlib.suppress(LedgerError):
        keep_count(config.ledger_url, task_id, found, at=now)


def _scored(
    config: Config, task_id: str, measured: LineCount, saved_minutes: float | None = None,
    caller: CallerFigures | None = None,
) -> Outcome:  # fmt: skip
    with reading(config.ledger_url) as conn:
        facts, found = facts_of(conn, task_id), repeated_findings(conn, project=str(config.project))
    if measured.changed_lines is not None:
        facts = facts.model_copy(update=measured.as_facts())
    facts = in_facts(facts, caller) if caller else facts
    card = score(facts, minute_nanousd=config.caller.minute_nanousd, saved_minutes=saved_minutes)
    return Outcome(card, measured, found, caller)


def outcome_reply(found: Outcome, told: Score, restored: tuple[str, ...]) -> dict[str, Any]:
    """The reply of `record_outcome`: the scorecard in figures, 200 tokens or less."""
    card, undone = found.card, f" {count(len(restored), 'file')} restored." if restored else ""
    worth = f"{card.verdict}: {card.why}" if card.verdict else card.why
    reply: dict[str, Any] = {
        "summary": f"Recorded: {told.outcome}.{undone} {worth}",
        "task_id": card.task_id,
        "outcome": told.outcome,
        "restored": list(restored),
        "calls": card.calls,
        "usd": usd(card.cost_nanousd),
        "total_usd": usd(card.total_nanousd),
        "wall_s": None if card.wall_s is None else round(card.wall_s, 1),
        **card.model_dump(include={"rewrites", "comments"}),
        "cleanup_minutes": card.cleanup_minutes,
        "rewritten": rewritten(card),
        "defects": card.defects,
        **{name: getattr(card, name) for name in ("cost", "speed", "accuracy", "verdict")},
    }
    if found.patterns:
        reply["suggestion"] = found.patterns[0].suggestion
    return reply | {"next": "Nothing more to do."}


def unrecorded_reply(told: Score, restored: tuple[str, ...], error: TierkitError) -> dict[str, Any]:
    """The reply where a change was taken back and the ledger could not be told."""
    return {
        "summary": f"Taken back: {count(len(restored), 'file')} restored. The outcome could not be recorded.",
        "task_id": told.task_id,
        "outcome": told.outcome,
        "restored": list(restored),
        "alert": f"The outcome could not be recorded: {error.what}",
        "next": error.next_step,
    }


def rewritten(card: Scorecard) -> str | None:
    """`3 of 14 lines`; None where it is not known."""
    if card.rewritten_lines is None:
        return None
    return f"{card.rewritten_lines} of {card.changed_lines} lines"
