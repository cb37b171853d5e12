"""A change drafted by a cheap model, held apart, proven by checks, and applied only when green."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio

from mcp_tierkit.answers import is_empty, is_overrun, room, visible_words
from mcp_tierkit.cascade import Step, chain_of, next_step
from mcp_tierkit.checks import baseline
from mcp_tierkit.diffs import patch, summarise
from mcp_tierkit.edits import Reading, join_reply, read_reply
from mcp_tierkit.errors import ModelFailed, OverBudget, PathRefused
from mcp_tierkit.guards import guards_beside
from mcp_tierkit.jobs import Report
from mcp_tierkit.kit import Kit
from mcp_tierkit.metering import Metered, call_model
from mcp_tierkit.packing import Packed, fence
from mcp_tierkit.prompts import Prompt, build, load
from mcp_tierkit.redact import find_secrets, redact
from mcp_tierkit.routing import is_about_tests
from mcp_tierkit.scope import guarded, in_scope
from mcp_tierkit.stages.answer import NO_ANSWER, answer_of, said
from mcp_tierkit.stages.cycle import drafted_before
from mcp_tierkit.stages.material import CONVENTIONS, Sketch, gather, pack_sketch
from mcp_tierkit.stages.plan import Planned, allow_climb
from mcp_tierkit.stages.proof import Ending, Setting, failing, prove
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import (
    Attempt,
    AttemptOutcome,
    Check,
    Completion,
    Draft,
    DraftStatus,
    Handoff,
    Message,
    Route,
    TierName,
)

MOST_GUARDS = 5
CUT_OFF = "Your reply was cut off."
_NEW_NAME = re.compile(r"[\w./@+$()\[\]-]{1,160}")
"""Names that a draft may give to files of its own: callers are shown them, so no sentence may be one."""
_END_OF_REPORT = re.compile(r"^-+[ \t]*(?:end of )?report\b", re.IGNORECASE | re.MULTILINE)
"""How a line begins that would end the report in which file text and command output are quoted."""
UNJUDGED: frozenset[AttemptOutcome] = frozenset({"unreadable", "out_of_scope", "cut_short", "empty"})
"""Replies that no check could say anything of."""


@dataclass
class Job:
    """One drafting task under way: what it works with, and what its calls have come to so far."""

    setting: Setting
    sketch: Sketch
    packed: Packed
    chain: tuple[TierName, ...]
    report: Report
    ending: Ending
    """What the replies so far have come to: a later one that nothing could judge takes no evidence away."""
    judged: dict[str, str | None] = field(default_factory=dict)
    """The edits that this ending is about."""
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
    sketch = await anyio.to_thread.run_sync(gather, kit, planned)
    chain = await _chain(kit, planned)
    for tier in chain:  # A faulty text of the user's own is told before money is spent.
        _prompts(kit, planned, await kit.tier(tier))
    report("running the checks as they are")
    bench = await kit.bench(planned.task)
    before = await baseline(bench, planned.task.checks, planned.task.proof, kit.baselines)
    packed = await pack_sketch(kit, planned, sketch, before.results)
    setting = Setting(kit, planned, bench, before, await _guards(kit, planned), apply)
    earlier = frozenset(row.call_id for row in await kit.ledger.calls(planned.task.task_id))
    job = Job(setting, sketch, packed, chain, report, Ending("needs_work", checks=before.results), earlier=earlier)
    ending = _stop_before_spending(job) or await _within_time(job, deadline)
    draft = _record(job, ending)
    await kit.ledger.save(draft)
    await kit.ledger.save(_handed_on(planned.handoff, draft))
    return draft


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
    return guards_beside((*own, *kit.config.checks.guards, *proven), planned.task.checks)


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
    with anyio.CancelScope(deadline=deadline) as scope:
        ending = await _attempt_all(job)
    if scope.cancelled_caught:
        await _note_cut_short(job)
        ending = replace(job.ending, status="needs_work", note="The time for this task ran out.")
    job.sketch.after = job.judged
    return ending


async def _attempt_all(job: Job) -> Ending:
    """Call after call as the stop rule says; then the caller decides, with the evidence of the last one judged."""
    while step := next_step(job.chain, job.attempts, single_pass=job.is_single_pass):
        try:
            await _attempt(job, step)
        except OverBudget as error:
            return replace(job.ending, status="over_budget", note=error.what)
        except ModelFailed as error:
            await _note_failure(job, step, error)
            return replace(job.ending, status="needs_work", note=f"{error.what} {error.next_step}")
        if find_secrets(job.answer) or find_secrets(job.talk[-1].content):
            break  # A further request would carry the secret that the reply made up.
    return job.ending


async def _attempt(job: Job, step: Step) -> None:
    """One call and what its reply comes to. Raises OverBudget and ModelFailed."""
    job.report(f"{step.stage}: waiting for the {step.tier} tier")
    tier = await job.kit.tier(step.tier)
    messages, prompt_id = _request(job, step, tier)
    metered = await call_model(
        job.kit, await _route(job, tier, messages), tier, stage=step.stage, messages=messages, prompt_id=prompt_id,
        packed=job.packed.files, max_output_tokens=_room(job, step, tier),
    )  # fmt: skip
    answer = await answer_of(job.kit, tier, metered)
    job.talk = (*messages, said(metered))
    job.answer = join_reply(job.answer, answer) if step.stage == "continue" else answer
    job.alerts += [metered.call.alert] if metered.call.alert else []
    if step.stage == "climb":
        job.sketch.after.clear()  # Another model starts from the files as they are.
    ending = await _weigh(job, step, metered.completion)
    job.feedback = ending.feedback
    _note_attempt(job, step, tier, metered, ending.outcome)
    if ending.outcome not in UNJUDGED or job.ending.outcome != "red":
        job.ending, job.judged = ending, dict(job.sketch.after)


async def _route(job: Job, tier: Tier, messages: Sequence[Message]) -> Route:
    """What allows a call on this tier: the plan's own route, else that of a climb, written once for each tier."""
    if tier.name == job.planned.route.tier:
        return job.planned.route
    if tier.name not in job.routes:
        job.routes[tier.name] = await allow_climb(job.kit, job.planned, tier, messages)
    return job.routes[tier.name]


def _request(job: Job, step: Step, tier: Tier) -> tuple[tuple[Message, ...], str]:
    """The messages of a call: the opening, and after it what earlier calls have come to."""
    if step.stage == "draft":
        return _opening(job, tier)
    asked = _prompts(job.kit, job.planned, tier)[step.stage]
    if step.stage == "continue":
        return (*job.talk, *asked.render()), asked.id
    told = asked.render(feedback=_END_OF_REPORT.sub(r"  \g<0>", job.feedback) or "(nothing)")
    if step.stage == "climb":
        return (*_opening(job, tier)[0], *told), asked.id
    return (*job.talk, *told), asked.id


def _prompts(kit: Kit, planned: Planned, tier: Tier) -> dict[str, Prompt]:
    """Every text that a call on this tier can need."""
    own, category = kit.config.prompt_dir, planned.route.category
    follow_ups = {name: load(name, overrides=own) for name in ("repair", "climb", "continue")}
    return follow_ups | {"draft": load("draft", category=category, scratchpad=tier.scratchpad, overrides=own)}


def _opening(job: Job, tier: Tier) -> tuple[tuple[Message, ...], str]:
    """The first request: system text that never varies, the project's notes, then the task, the plan and the files."""
    handoff, packed = job.planned.handoff, job.packed
    prompt = _prompts(job.kit, job.planned, tier)["draft"]
    messages = build(
        prompt,
        profile=fence(CONVENTIONS, job.sketch.conventions) if job.sketch.conventions else "",
        summary=handoff.summary,
        steps=_listed(handoff.steps),
        constraints=_listed(handoff.constraints),
        acceptance=_listed(handoff.acceptance),
        out_of_scope=_listed(handoff.out_of_scope),
        assumptions=_listed(handoff.assumptions),
        editable="\n".join(handoff.files),
        files=packed.editable or "(none yet: every editable file is new)",
        context=packed.context or "(none)",
        neighbours=packed.neighbours or "(none)",
        checks=failing(job.setting.before.results) or "(none)",
    )
    return messages, prompt.id


def _listed(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items) or "(none)"


def _room(job: Job, step: Step, tier: Tier) -> int:
    """Tokens for the answer and the thinking before it; all there are once a reply has run out of them."""
    if job.attempts and job.attempts[-1].outcome in ("empty", "cut_short"):
        return tier.max_output_tokens
    return room(
        job.planned.route.category, max_output_tokens=tier.max_output_tokens, thinking_tokens=tier.thinking_tokens,
        expected_tokens=job.sketch.size(),
    ).max_output_tokens  # fmt: skip


async def _weigh(job: Job, step: Step, completion: Completion) -> Ending:
    """What a reply is worth: read, kept in scope, then proven."""
    if is_empty(job.answer):
        note = "The reply held no answer."
        return Ending("rejected", note, job.setting.before.results, outcome="empty", feedback=NO_ANSWER)
    if completion.finish == "length" and step.stage != "continue" and not job.is_single_pass:
        return Ending("rejected", "The reply was cut off.", job.setting.before.results, outcome="cut_short")
    reading = read_reply(job.answer, job.sketch.current(), partial=job.packed.partial)
    if reading.question:
        job.sketch.after.clear()  # A plan that cannot work leaves no half of it behind.
        note = "The drafter says the plan cannot work."
        return Ending("question", note, question=reading.question, outcome="question")
    outside = _outside(job, reading)
    job.reverted += [path for path in outside if path not in job.reverted]
    job.sketch.after.update({path: text for path, text in reading.changes.items() if path not in outside})
    refused = tuple(block for block in reading.refused if block.path not in outside)
    reading = reading.model_copy(update={"refused": refused})
    if reading.refused or not job.sketch.changes():
        return _unreadable(job, reading, outside, completion)
    if secrets := _new_secrets(job):
        note = f"The draft writes a secret into {_shown(secrets)}."
        return Ending("rejected", note, job.setting.before.results, outcome="out_of_scope")
    if not job.planned.task.checks:
        return Ending("unproven", "No check was named, so nothing was applied.", outcome="unproven")
    ending = await prove(job.setting, job.sketch, label=f"after{len(job.attempts) + 1}", report=job.report)
    return replace(ending, feedback=_joined(ending.feedback, _refusal(outside))) if ending.feedback else ending


def _outside(job: Job, reading: Reading) -> list[str]:
    """Paths of a reply that the draft may not touch."""
    task = job.planned.task
    allow_tests = is_about_tests(task.goal)

    def is_allowed(path: str) -> bool:
        return (
            in_scope(path, task.files)
            and (path in job.sketch.before or path in task.files or _NEW_NAME.fullmatch(path) is not None)
            and not guarded(path, task.checks, allow_tests, is_new=path not in job.sketch.before)
            and not _is_linked(job, path)
            and not job.kit.workspace.denied(path)
        )

    meant = dict.fromkeys([*reading.changes, *(block.path for block in reading.refused if block.path)])
    outside = [path for path in meant if not is_allowed(path)]
    return [*outside, *_halves(reading, outside, job.sketch.current())]


def _halves(reading: Reading, outside: list[str], files: Mapping[str, str]) -> list[str]:
    """What belongs to edits that are not kept: the rest of a rename, and what is deleted where a new file is not made.

    To delete a file whose text was to stand elsewhere would lose it.
    """
    lost, moves = set(outside), [{*move} for move in reading.moved.items()]
    for _ in moves:  # One may go on where another ends.
        lost.update(*(move for move in moves if move & lost))
    if any(reading.changes.get(path) is not None and path not in files for path in outside):
        kept = set().union(*moves) - lost
        lost.update(path for path, text in reading.changes.items() if text is None and path not in kept)
    return [path for path in reading.changes if path in lost and path not in outside]


def _shown(paths: list[str]) -> str:
    """The first of the paths that a reply names. Such a name is the model's own words, so only plain ones are told."""
    plain = [path for path in paths if re.fullmatch(r"[\w./@+-]{1,80}", path, re.ASCII)]
    return ", ".join(plain[:3]) or "a file of an odd name"


def _is_linked(job: Job, path: str) -> bool:
    """Whether a link, or something that is no file, stands at the path or on the way to it, or it is no path."""
    try:
        job.kit.workspace.exists(path)
    except PathRefused:
        return True
    return False


def _refusal(outside: list[str]) -> str:
    if not outside:
        return ""
    return f"These edits were not kept, since not all of them are to files that may be edited: {', '.join(outside)}."


def _joined(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def _unreadable(job: Job, reading: Reading, outside: list[str], completion: Completion) -> Ending:
    """A reply that is not, or not wholly, an edit that may be made."""
    cut = completion.finish == "length"
    outcome: AttemptOutcome = "cut_short" if cut else "unreadable"
    if reading.refused:
        note = f"The reply could not be read as edits: {_unquoted(reading.refused[0].why)}."
    elif outside:
        note, outcome = f"The reply edits what it may not: {_shown(outside)}.", "out_of_scope"
    else:
        note = "The reply could not be read as edits: nothing in it changes a file."
    told = _joined(CUT_OFF if cut else "", reading.report, _refusal(outside))
    return Ending(
        "rejected", CUT_OFF.replace("Your", "The") if cut else note, job.setting.before.results, outcome=outcome,
        feedback=told or "Nothing in your reply changes a file.",
    )  # fmt: skip


def _unquoted(why: str) -> str:
    """A reason as the caller is told it: what it quotes of the reply is the model's own words."""
    return re.sub(r"""(['"]).*\1""", "…", why, flags=re.DOTALL)


def _new_secrets(job: Job) -> list[str]:
    return [path for path, text in job.sketch.after.items() if find_secrets(path) or (text and find_secrets(text))]


def _note_attempt(job: Job, step: Step, tier: Tier, metered: Metered, outcome: AttemptOutcome) -> None:
    job.attempts.append(
        Attempt(
            call_id=metered.call_id, stage=step.stage, tier=step.tier, model=metered.call.served_model or tier.model,
            outcome=outcome, overrun=is_overrun(job.planned.route.category, visible_words(job.answer)),
            cost_nanousd=metered.call.cost_nanousd,
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
            cost_nanousd=row.cost_nanousd if row else None,
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
                    row.model_dump(include={"call_id", "stage", "tier", "model", "cost_nanousd"}) | {"outcome": outcome}
                )
            )


def _sides(job: Job) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """The changed files before and after."""
    sketch = job.sketch
    after = {path: text for path, text in sketch.after.items() if text != sketch.before.get(path)}
    return {path: sketch.before.get(path) for path in after}, after


def _record(job: Job, ending: Ending) -> Draft:
    before, after = _sides(job)
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
    )


def _keep_patch(job: Job, text: str) -> str | None:
    """Where the patch was put; None where it cannot be, since what was paid for and applied must still be told."""
    try:
        return job.kit.workspace.write_private(f"{job.planned.task.task_id}.patch", redact(text).encode())
    except (PathRefused, OSError):
        return None
