"""A change drafted by a cheap model, held apart, proven by checks, and applied only when green."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
from anyio import to_thread

from mcp_tierkit.answers import is_overrun, room, visible_words
from mcp_tierkit.cascade import Step, chain_of, next_step
from mcp_tierkit.checks import baseline
from mcp_tierkit.diffs import patch, summarise
from mcp_tierkit.edits import join_reply
from mcp_tierkit.errors import ModelFailed, OverBudget, PathRefused
from mcp_tierkit.guards import guards_beside
from mcp_tierkit.jobs import Report
from mcp_tierkit.kit import Kit
from mcp_tierkit.metering import Metered, call_model
from mcp_tierkit.packing import Packed
from mcp_tierkit.prompts import Prompt
from mcp_tierkit.redact import find_secrets, redact
from mcp_tierkit.stages.answer import answer_of, said
from mcp_tierkit.stages.cycle import drafted_before
from mcp_tierkit.stages.material import Sketch, gather, pack_sketch
from mcp_tierkit.stages.plan import Planned, allow_climb
from mcp_tierkit.stages.proof import Ending, Setting, prove
from mcp_tierkit.stages.talk import opening, request, texts_for
from mcp_tierkit.stages.weigh import NO_EDITS, weigh
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import (
    Attempt,
    AttemptOutcome,
    Check,
    Draft,
    DraftStatus,
    Handoff,
    Message,
    Route,
    Stage,
    TierName,
)

MOST_GUARDS = 5
MOST_PAUSED = 20
MOST_GUARD_S = 60.0
"""What proved an earlier change may be a whole suite: one that takes longer is no guard, unless the user names it."""
UNJUDGED: frozenset[AttemptOutcome] = frozenset({"unreadable", "out_of_scope", "cut_short", "empty"})
"""Replies that no check could say anything of."""
UNFIT: frozenset[AttemptOutcome] = frozenset({"unreadable", "out_of_scope"})
"""Of these, those whose outcome alone does not say what was wrong."""


@dataclass
class Job:
    """One drafting task under way: what it works with, and what its calls have come to so far."""

    setting: Setting
    sketch: Sketch
    """With the edits so far: a further reply goes on from there."""
    packed: Packed
    chain: tuple[TierName, ...]
    report: Report
    ending: Ending
    """What the replies so far have come to: a later one that nothing could judge takes no evidence away."""
    earlier: frozenset[str] = frozenset()
    """Calls of the task's drafts before this one."""
    routes: dict[TierName, Route] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    reverted: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    talk: tuple[Message, ...] = ()
    """The last request and its reply."""
    answer: str = ""
    """That reply without its reasoning, and with what it continues."""
    feedback: str = ""

    @property
    def kit(self) -> Kit:
        return self.setting.kit

    @property
    def planned(self) -> Planned:
        return self.setting.planned

    @property
    def is_single_pass(self) -> bool:
        """Somebody waits for it in a conversation: one draft, and nothing after it."""
        return self.planned.task.latency == "interactive"


async def draft_change(kit: Kit, planned: Planned, *, apply: bool, report: Report) -> Draft:
    """Draft, prove and (where `apply`) apply the task's change; the draft is on the ledger when this returns.

    Raises what is refused before money is spent: PolicyRefused (secrets, guarded files), InvalidInput, NoModel, and
    StopRule where another draft has begun since this one was asked for.
    """
    deadline = anyio.current_time() + kit.config.task_timeout_s
    await drafted_before(kit, planned.task.task_id)
    job = await _resumed(kit, planned, apply, report)
    ending = None
    if job is None:
        job = await _begun(kit, planned, apply, report)
        ending = _stop_before_spending(job)
    ending = ending or await _within_time(job, deadline)
    if ending.ask is not None:
        _pause(job)
    with anyio.CancelScope(shield=True):  # What was applied is told, whoever stopped waiting.
        draft = await to_thread.run_sync(_record, job, ending)
    await kit.ledger.save(draft)
    await kit.ledger.save(_handed_on(planned.handoff, draft))
    return draft


async def _begun(kit: Kit, planned: Planned, apply: bool, report: Report) -> Job:
    """The task as its first call finds it: its files read, its checks run as they are."""
    sketch = await to_thread.run_sync(gather, kit, planned)
    chain = await _chain(kit, planned)
    for tier in chain:  # A faulty text of the user's own is told before money is spent.
        texts_for(kit, planned, await kit.tier(tier))
    report("running the checks as they are")
    bench = await kit.bench(planned.task)
    before = await baseline(bench, planned.task.checks, planned.task.proof, kit.baselines)
    packed = await pack_sketch(kit, planned, sketch, before.results)
    setting = Setting(kit, planned, bench, before, await _guards(kit, planned), apply)
    earlier = frozenset(row.call_id for row in await kit.ledger.calls(planned.task.task_id))
    return Job(setting, sketch, packed, chain, report, Ending("needs_work", checks=before.results), earlier=earlier)


def _pause(job: Job) -> None:
    """Keep the work at hand until the budget is raised; a server that starts anew begins anew."""
    paused = job.kit.paused
    paused[job.planned.task.task_id] = job
    if len(paused) > MOST_PAUSED:
        del paused[next(iter(paused))]


async def _resumed(kit: Kit, planned: Planned, apply: bool, report: Report) -> Job | None:
    """The paused work, to go on with the call that was refused; None where there is none, or its files have moved."""
    job: Job | None = kit.paused.pop(planned.task.task_id, None)
    if job is None or (job.planned.task, job.planned.handoff.steps) != (planned.task, planned.handoff.steps):
        return None
    now = await to_thread.run_sync(gather, kit, planned)
    if (now.before, now.context) != (job.sketch.before, job.sketch.context):
        return None
    return replace(job, setting=replace(job.setting, apply=apply), report=report)


async def _chain(kit: Kit, planned: Planned) -> tuple[TierName, ...]:
    """The tiers this task may use, in order. Raises NoModel where the first has none; a pin is never left."""
    first = planned.task.tier or kit.config.draft_tier
    await kit.tier(first)
    if planned.task.tier is not None:
        return (first,)
    tiers = await kit.tiers()
    chain = chain_of(first, kit.config.stages.climb, tuple(tiers))
    models = [(tiers[name].model, tiers[name].base_url) for name in chain]
    return tuple(name for at, name in enumerate(chain) if models[at] not in models[:at])


async def _guards(kit: Kit, planned: Planned) -> tuple[Check, ...]:
    """The known checks: those of this task's plan, those the user names, those that proved changes to the project."""
    proven = await kit.ledger.proven_checks(planned.task.project, MOST_GUARDS)
    own = planned.handoff.checks  # A second draft may be asked for by other checks alone.
    quick = [check.model_copy(update={"timeout_s": min(check.timeout_s, MOST_GUARD_S)}) for check in proven]
    return guards_beside((*own, *kit.config.checks.guards, *quick), planned.task.checks)


def _handed_on(handoff: Handoff, draft: Draft) -> Handoff:
    """The handoff as the review finds it."""
    asked = (draft.question,) if draft.question else ()
    return handoff.model_copy(
        update={
            "draft_diff": draft.patch or handoff.draft_diff,
            "open_questions": tuple(dict.fromkeys((*handoff.open_questions, *asked))),
        }
    )


def _stop_before_spending(job: Job) -> Ending | None:
    before = job.setting.before
    if before.may_start or not job.planned.task.checks:
        return None
    unrunnable = any(result.before == "unrunnable" for result in before.results)
    status: DraftStatus = "unrunnable" if unrunnable else "unproven"
    return Ending(status, f"{before.reason} Nothing was spent.", before.results)


async def _within_time(job: Job, deadline: float) -> Ending:
    """What the draft has come to, at its end or when its time is up."""
    with anyio.CancelScope(deadline=deadline):
        return await _attempt_all(job)
    await _note_cut_short(job)
    return replace(job.ending, status="needs_work", note="The time for this task ran out.")


async def _attempt_all(job: Job) -> Ending:
    """Call after call as the stop rule says; then the caller decides, with the evidence of the last one judged."""
    while step := next_step(job.chain, job.attempts, single_pass=job.is_single_pass):
        # Before a further call and not after the last: a deadline that falls here must not hide what was applied.
        if await to_thread.run_sync(_made_up_a_secret, job):
            break  # The request would carry the secret that the reply made up.
        try:
            await _attempt(job, step)
        except OverBudget as error:
            over = replace(job.ending, status="over_budget", note=error.what)
            if job.kit.config.on_exhausted == "ask":
                return replace(over, ask=error.next_step)
            return replace(over, way_on=error.next_step)
        except ModelFailed as error:
            await _note_failure(job, step, error)
            return replace(job.ending, status="needs_work", note=f"{error.what} {error.next_step}")
    return job.ending


def _made_up_a_secret(job: Job) -> bool:
    return any(find_secrets(text) for text in (job.answer, *(message.content for message in job.talk[-1:])))


async def _attempt(job: Job, step: Step) -> None:
    """One call and what its reply comes to. Raises OverBudget and ModelFailed."""
    job.report(f"{step.stage}: waiting for the {step.tier} tier")
    tier = await job.kit.tier(step.tier)
    texts = texts_for(job.kit, job.planned, tier)
    messages = _messages(job, step, texts)
    metered = await call_model(
        job.kit, await _route(job, tier, messages), tier, stage=step.stage, messages=messages,
        prompt_id=texts[step.stage].id, packed=job.packed.files, max_output_tokens=_room(job, tier),
    )  # fmt: skip
    answer = await answer_of(job.kit, tier, metered)
    job.talk = (*messages, said(metered))
    # In threads, here and below: a reply of a megabyte takes seconds to read, and other calls want an answer.
    job.answer = await to_thread.run_sync(join_reply, job.answer, answer) if step.stage == "continue" else answer
    words = await to_thread.run_sync(visible_words, job.answer)
    job.alerts += [metered.call.alert] if metered.call.alert else []
    ending = await _worth(job, step, is_cut=metered.completion.finish == "length")
    job.feedback = ending.feedback
    _note_attempt(job, step, tier, metered, ending, words)
    if ending.outcome not in UNJUDGED or job.ending.outcome != "red":
        job.ending = ending


async def _route(job: Job, tier: Tier, messages: Sequence[Message]) -> Route:
    """What allows a call on this tier: the plan's own route, else that of a climb, written once for each tier."""
    if tier.name == job.planned.route.tier:
        return job.planned.route
    if tier.name not in job.routes:
        job.routes[tier.name] = await allow_climb(job.kit, job.planned, tier, messages)
    return job.routes[tier.name]


def _messages(job: Job, step: Step, texts: dict[Stage, Prompt]) -> tuple[Message, ...]:
    first = opening(
        texts["draft"], job.planned.handoff, job.packed,
        conventions=job.sketch.conventions, checks=job.setting.before.results,
    )  # fmt: skip
    evidence = job.feedback
    if step.stage == "climb" and job.ending.outcome == "red" and job.ending.feedback != evidence:
        evidence = f"{job.ending.feedback}\n\nA later reply came to nothing. {evidence}"
    return request(step.stage, texts, first, job.talk, evidence)


def _room(job: Job, tier: Tier) -> int:
    """Tokens for the answer and the thinking before it; all there are once a reply has run out of them."""
    if job.attempts and job.attempts[-1].outcome in ("empty", "cut_short"):
        return tier.max_output_tokens
    return room(
        job.planned.route.category, max_output_tokens=tier.max_output_tokens, thinking_tokens=tier.thinking_tokens,
        expected_tokens=job.sketch.size(),
    ).max_output_tokens  # fmt: skip


async def _worth(job: Job, step: Step, *, is_cut: bool) -> Ending:
    """What the last reply is worth: read, kept in scope, then proven where it can be."""
    if step.stage == "climb":
        job.sketch = replace(job.sketch, after={})  # Another model starts from the files as they are.
    work = partial(
        weigh, job.setting, job.sketch, job.answer, partial=job.packed.partial, is_cut=is_cut,
        may_go_on=step.stage != "continue" and not job.is_single_pass,
    )  # fmt: skip
    weighed = await to_thread.run_sync(work)
    job.sketch = weighed.sketch
    job.reverted += [path for path in weighed.outside if path not in job.reverted]
    ending = weighed.ending
    if ending is None:
        label = f"after{len(job.attempts) + 1}"
        ending = await prove(job.setting, job.sketch, label=label, report=job.report)
        ending = replace(ending, feedback=weighed.told(ending.feedback)) if ending.feedback else ending
    return replace(ending, edits=job.sketch.after)


def _note_attempt(job: Job, step: Step, tier: Tier, metered: Metered, ending: Ending, words: int) -> None:
    why = ending.note.removeprefix(NO_EDITS).rstrip(".") if ending.outcome in UNFIT else ""
    job.attempts.append(
        Attempt(
            call_id=metered.call_id, stage=step.stage, tier=step.tier, model=metered.call.served_model or tier.model,
            outcome=ending.outcome, why=why, overrun=is_overrun(job.planned.route.category, words),
            cost_nanousd=metered.call.cost_nanousd, billing=tier.billing,
        )
    )  # fmt: skip


async def _note_failure(job: Job, step: Step, error: ModelFailed) -> None:
    """The attempt of a call that gave no reply; what it cost stands on its row."""
    rows = {row.call_id: row for row in await job.kit.ledger.calls(job.planned.task.task_id)}
    row = rows.get(error.call_id or "")
    model = row.model if row else (await job.kit.tier(step.tier)).model
    job.attempts.append(
        Attempt(
            call_id=error.call_id or "", stage=step.stage, tier=step.tier, model=model, outcome="failed",
            cost_nanousd=row.cost_nanousd if row else None, billing=row.billing if row else None,
        )
    )  # fmt: skip


async def _note_cut_short(job: Job) -> None:
    """The attempt that was under way when the time was up; its row says what is known of its cost."""
    known = job.earlier | {attempt.call_id for attempt in job.attempts}
    for row in await job.kit.ledger.calls(job.planned.task.task_id):
        if row.call_id not in known:
            outcome: AttemptOutcome = "unproven" if row.status == "settled" else "failed"
            job.attempts.append(
                Attempt.model_validate(
                    row.model_dump(include={"call_id", "stage", "tier", "model", "cost_nanousd", "billing"})
                    | {"outcome": outcome}
                )
            )


def _record(job: Job, ending: Ending) -> Draft:
    sketch = job.sketch
    after = {path: text for path, text in ending.edits.items() if text != sketch.before.get(path)}
    before = {path: sketch.before.get(path) for path in after}
    return Draft(
        task_id=job.planned.task.task_id,
        status=ending.status,
        note=ending.note,
        files=tuple(summarise(name, before.get(name), text) for name, text in sorted(after.items())),
        checks=ending.checks,
        guards=ending.guards,
        proof=job.planned.task.proof,
        attempts=tuple(job.attempts),
        reverted=tuple(job.reverted),
        alerts=tuple(dict.fromkeys(job.alerts)),
        patch=_keep_patch(job, patch(before, after)) if after else None,
        isolation=job.setting.bench.isolation,
        question=ending.question,
        ask=ending.ask,
        way_on=ending.way_on,
    )


def _keep_patch(job: Job, text: str) -> str | None:
    """Where the patch was put; None where it cannot be, since what was paid for and applied must still be told."""
    try:
        return job.kit.workspace.write_private(f"{job.planned.task.task_id}.patch", redact(text).encode())
    except (PathRefused, OSError):
        return None
