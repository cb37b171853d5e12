"""The stop rule of a task: one plan, one draft, one review, and one more cycle only where there is a reason for it.

It counts rows of the ledger, so a restart forgets nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import anyio.to_thread

from mcp_tierkit.errors import StopRule
from mcp_tierkit.journal import has_undo
from mcp_tierkit.kit import Kit
from mcp_tierkit.stages.plan import Planned, allow_draft
from mcp_tierkit.types import GIVEN, Check, Draft, Finding, FindingClass, Review

MAX_CYCLES = 2
REASONS: frozenset[FindingClass] = frozenset({"test", "security", "requirement"})
ENDED = frozenset({*GIVEN, "unproven", "question", "stop_rule"})
"""How a draft ends that leaves no broken test: after any other, the task's check is as red as it was."""


async def next_draft(kit: Kit, planned: Planned, checks: Sequence[Check]) -> Planned:
    """The task as its next draft takes it up, with `checks` to turn green beside its own, if there are any.

    A second draft mends what the last one or its review left: a broken test, a security hole, a requirement missed.
    Raises StopRule where there is no such reason, and after the second draft whatever the reason.
    """
    past = await drafted_before(kit, planned.task.task_id)
    again = _mending(planned, past.findings) if past.begun else planned
    state, workspace = kit.config.state_dir, kit.workspace
    stands = past.last is not None and past.last.status == "applied"
    stands = stands and await anyio.to_thread.run_sync(has_undo, state, workspace, planned.task.task_id)
    return await allow_draft(kit, _on_top(again, checks, stands=stands))


class Past(NamedTuple):
    """What came before a task's next draft."""

    begun: int
    last: Draft | None
    findings: tuple[Finding, ...]


async def drafted_before(kit: Kit, task_id: str) -> Past:
    """The drafts of a task so far and what its review left. Raises StopRule where there may be no further draft."""
    # By calls: a draft that was cancelled or cut short by a crash has been paid for and left no record. Where the
    # provider failed, nobody has drafted anything.
    drafts, reviews = await kit.ledger.drafts(task_id), await kit.ledger.reviews(task_id)
    kept = _kept(drafts)
    rows = [row for row in await kit.ledger.calls(task_id) if row.call_id not in kept]
    begun = sum(row.stage == "draft" and row.status != "failed" for row in rows)
    if begun >= MAX_CYCLES:
        raise stop(f"Task {task_id} has had its {MAX_CYCLES} drafts.")
    last, findings = drafts[-1] if drafts else None, weighty(reviews)
    if begun and last is not None and not _is_open(last) and not findings:
        raise stop(f"Task {task_id} has had its draft, and no broken test, security hole or requirement is left.")
    return Past(begun, last, findings)


def _kept(drafts: Sequence[Draft]) -> set[str]:
    """Calls of drafts that wait for the user to raise a budget, and have not gone on since: they take no slot."""
    calls: dict[bool, set[str]] = {True: set(), False: set()}
    for draft in drafts:
        calls[draft.ask is not None].update(attempt.call_id for attempt in draft.attempts)
    return calls[True] - calls[False]


def weighty(reviews: Sequence[Review]) -> tuple[Finding, ...]:
    """The findings of the last review that are worth another cycle."""
    return tuple(finding for finding in reviews[-1].findings if finding.klass in REASONS) if reviews else ()


def stop(what: str) -> StopRule:
    """The refusal of a further round."""
    return StopRule(f"{what} No model was called.", next_step="Do the rest yourself, or plan a new task for it.")


def _is_open(draft: Draft) -> bool:
    """Whether a draft left a broken test."""
    return draft.status not in ENDED


def _mending(planned: Planned, findings: Sequence[Finding]) -> Planned:
    """The plan with what the review found; its first step is what is to be mended."""
    # On one line each: steps instruct the drafter, and a claim is no place for sections of its own.
    told = tuple(
        f"Mend what a review found at {finding.file}:{finding.line}: {' '.join(finding.claim.split())}"
        for finding in findings
    )
    handoff = planned.handoff.model_copy(update={"steps": (*told, *planned.handoff.steps)})
    return planned.model_copy(update={"handoff": handoff})


def _on_top(planned: Planned, checks: Sequence[Check], *, stands: bool) -> Planned:
    """The task with further checks. Once its change stands, its own checks are green and can only stay so."""
    if not checks:
        task = planned.task.model_copy(update={"proof": "stays_green"}) if stands else planned.task
    elif stands:
        task = planned.task.model_copy(update={"checks": tuple(checks)})
    else:
        task = planned.task.model_copy(update={"checks": (*planned.task.checks, *checks)})
    return planned.model_copy(update={"task": task})
