"""A change drafted by a cheap model, held apart, proven by checks, and applied only when green."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace

import anyio

from mcp_tierkit.checks import Baseline, Bench, baseline, judge, run_checks
from mcp_tierkit.diffs import patch, summarise
from mcp_tierkit.edits import Reading, read_reply
from mcp_tierkit.errors import Conflict, InvalidInput, ModelFailed, OverBudget, PathRefused, PolicyRefused
from mcp_tierkit.jobs import Report
from mcp_tierkit.journal import apply as apply_changes
from mcp_tierkit.journal import tree_lock, trial
from mcp_tierkit.kit import Kit
from mcp_tierkit.metering import call_model
from mcp_tierkit.packing import pack
from mcp_tierkit.prompts import load
from mcp_tierkit.redact import find_secrets, redact
from mcp_tierkit.routing import is_about_tests
from mcp_tierkit.scope import guarded, in_scope
from mcp_tierkit.stages.plan import Planned
from mcp_tierkit.tokens import estimate
from mcp_tierkit.types import (
    Attempt,
    AttemptOutcome,
    Changes,
    CheckResult,
    Completion,
    Content,
    Draft,
    DraftStatus,
    Handoff,
    Message,
    Stage,
    TierName,
)

CONVENTIONS = ".tierkit/conventions.md"
"""A project's own notes for drafters: sent as labelled data, in part where they are longer than MOST_CONVENTIONS."""

MOST_CONVENTIONS = 2048


@dataclass
class Sketch:
    """The files of one draft: as they were read, and as the edits so far have made them."""

    before: dict[str, str]
    context: dict[str, str]
    expected: dict[str, str | None]
    after: dict[str, str | None] = field(default_factory=dict)

    def current(self) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.context, **self.before, **self.after}
        return {path: text for path, text in merged.items() if text is not None}

    def changes(self) -> Changes:
        return {
            path: None if text is None else Content(data=text.encode())
            for path, text in self.after.items()
            if text != self.before.get(path)
        }


@dataclass(frozen=True)
class Ending:
    """What one reply, or the whole draft, has come to. `feedback` is set while a repair could still mend it."""

    status: DraftStatus
    note: str = ""
    checks: tuple[CheckResult, ...] = ()
    question: str | None = None
    outcome: AttemptOutcome = "failed"
    feedback: str = ""


@dataclass(frozen=True)
class Job:
    """Everything one drafting task works with; `attempts` grows by one with each model call."""

    kit: Kit
    planned: Planned
    bench: Bench
    before: Baseline
    sketch: Sketch
    apply: bool
    report: Report
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def tier(self) -> TierName:
        return self.planned.route.tier or self.kit.config.draft_tier


async def draft_change(kit: Kit, planned: Planned, *, apply: bool, report: Report) -> Draft:
    """Draft, prove and (where `apply`) apply the task's change; the draft is on the ledger when this returns.

    Raises what is refused before money is spent: PolicyRefused (secrets, guarded files), InvalidInput, NoModel.
    """
    sketch = await anyio.to_thread.run_sync(gather, kit, planned)
    await kit.tier(planned.route.tier or kit.config.draft_tier)
    for name in ("draft", "repair"):  # A faulty text of the user's own is told before money is spent.
        load(name, overrides=kit.config.prompt_dir)
    report("running the checks as they are")
    bench = await kit.bench(planned.task)
    before = await baseline(bench, planned.task.checks, planned.task.proof, kit.baselines)
    job = Job(kit, planned, bench, before, sketch, apply, report)
    ending = _stop_before_spending(job) or await _within_time(job)
    draft = _record(job, ending)
    await kit.ledger.save(draft)
    await kit.ledger.save(_handed_on(planned.handoff, draft))
    return draft


def _handed_on(handoff: Handoff, draft: Draft) -> Handoff:
    """The handoff as the review finds it."""
    asked = (draft.question,) if draft.question else ()
    return handoff.model_copy(
        update={
            "draft_diff": draft.patch or handoff.draft_diff,
            "open_questions": tuple(dict.fromkeys((*handoff.open_questions, *asked))),
        }
    )


def gather(kit: Kit, planned: Planned) -> Sketch:
    """The texts to edit and to read. Raises for a guarded path, a secret, or a file that is no text."""
    task, workspace = planned.task, kit.workspace
    editable = workspace.expand(task.files)
    for path in (*task.files, *task.context):
        refuse_denied(kit, path)
    for path in {*task.files, *editable}:
        if reason := guarded(path, task.checks, is_about_tests(task.goal), is_new=path not in editable):
            raise PolicyRefused(
                f"{path} is read-only to a draft: {reason}. Nothing was spent.",
                next_step="Leave it out of files, or make that part of the change yourself.",
            )
    context = [path for path in workspace.expand((*task.context, CONVENTIONS)) if path not in editable]
    texts = {path: workspace.text(path) for path in (*editable, *context)}
    if CONVENTIONS in context:
        texts[CONVENTIONS] = texts[CONVENTIONS].encode()[:MOST_CONVENTIONS].decode(errors="ignore")
    _refuse_secrets(texts)
    return Sketch(
        before={path: texts[path] for path in editable},
        context={path: texts[path] for path in context},
        # Of the texts themselves: a file saved again since then is another one.
        expected={path: hashlib.sha256(texts[path].encode()).hexdigest() for path in editable},
    )


def refuse_denied(kit: Kit, path: str) -> None:
    """Raise for a path that is named outright and never read; a glob passes it over."""
    if not path.startswith("!") and kit.workspace.denied(path):
        raise PathRefused(
            f"{path} is on the deny list, so it is neither read nor changed. Nothing was spent.",
            next_step="Leave it out; what it holds never leaves this machine.",
        )


def _refuse_secrets(texts: dict[str, str]) -> None:
    for path, text in texts.items():
        for secret in find_secrets(text):
            raise PolicyRefused(
                f"{path} holds a secret at line {secret.line} ({secret.rule}), so it is not sent. Nothing was spent.",
                next_step="Move the secret out of that file, or make this change yourself.",
            )


def _stop_before_spending(job: Job) -> Ending | None:
    before = job.before
    if before.may_start or not job.planned.task.checks:
        return None
    unrunnable = any(result.before == "unrunnable" for result in before.results)
    status: DraftStatus = "unrunnable" if unrunnable else "unproven"
    return Ending(status, f"{before.reason} Nothing was spent.", before.results)


async def _within_time(job: Job) -> Ending:
    with anyio.move_on_after(job.kit.config.task_timeout_s):
        return await _attempt_all(job)
    return Ending("needs_work", "The time for this task ran out.", job.before.results)


async def _attempt_all(job: Job) -> Ending:
    """One draft and, while its reply can be mended, one repair; then the caller decides."""
    ending = Ending("needs_work")
    messages, prompt_id = _opening(job)
    stages: tuple[Stage, ...] = ("draft", "repair")
    for stage in stages:
        job.report(f"{stage}: waiting for the {job.tier} tier")
        tier = await job.kit.tier(job.tier)
        try:
            metered = await call_model(
                job.kit, job.planned.route, tier, stage=stage, messages=messages, prompt_id=prompt_id
            )
        except OverBudget as error:
            return replace(ending, status="over_budget", note=error.what)
        except ModelFailed as error:
            costs = {row.call_id: row.cost_nanousd for row in await job.kit.ledger.calls(job.planned.task.task_id)}
            _note_attempt(job, error.call_id, tier.model, costs.get(error.call_id or ""), "failed")
            return replace(ending, status="needs_work", note=f"{error.what} {error.next_step}")
        ending = await _weigh(job, metered.completion)
        model = metered.call.served_model or tier.model
        _note_attempt(job, metered.call_id, model, metered.call.cost_nanousd, ending.outcome)
        if not ending.feedback or find_secrets(metered.completion.text):
            break  # A repair request would carry the secret that the reply made up.
        messages, prompt_id = _again(job, messages, metered.completion, ending.feedback)
    return ending


def _note_attempt(job: Job, call_id: str | None, model: str, cost_nanousd: int | None, outcome: AttemptOutcome) -> None:
    job.attempts.append(
        Attempt(call_id=call_id or "", tier=job.tier, model=model, outcome=outcome, cost_nanousd=cost_nanousd)
    )


def _opening(job: Job) -> tuple[tuple[Message, ...], str]:
    """The first request: system text that never varies, then the task, the plan and the files as data."""
    handoff, sketch = job.planned.handoff, job.sketch
    packed = pack(sketch.before, sketch.context, budget=job.kit.config.pack_tokens, count=estimate)
    if too_big := [path for path in packed.left_out if path in sketch.before]:
        raise InvalidInput(
            f"{', '.join(too_big)} does not fit the {job.kit.config.pack_tokens} tokens of a draft. Nothing was spent.",
            next_step="Name fewer or smaller files, or make this change yourself.",
        )
    prompt = load("draft", overrides=job.kit.config.prompt_dir)
    messages = prompt.render(
        summary=handoff.summary,
        steps=_listed(handoff.steps),
        constraints=_listed(handoff.constraints),
        acceptance=_listed(handoff.acceptance),
        out_of_scope=_listed(handoff.out_of_scope),
        assumptions=_listed(handoff.assumptions),
        editable="\n".join(handoff.files),
        files=packed.editable or "(none yet: every editable file is new)",
        context=packed.context or "(none)",
        checks=_failing(job.before.results) or "(none)",
    )
    return messages, prompt.id


def _listed(items: tuple[str, ...]) -> str:
    return "\n".join(f"- {item}" for item in items) or "(none)"


def _failing(results: tuple[CheckResult, ...]) -> str:
    return "\n\n".join(f"$ {result.name}\n{result.digest}" for result in results if result.digest)


def _again(
    job: Job, messages: tuple[Message, ...], completion: Completion, feedback: str
) -> tuple[tuple[Message, ...], str]:
    """The repair request: the conversation so far, byte for byte, and what has to be mended."""
    prompt = load("repair", overrides=job.kit.config.prompt_dir)
    asked = prompt.render(feedback=feedback)[-1]
    said = Message(role="assistant", content=completion.text or "(no text)")
    return (*messages, said, asked), prompt.id


async def _weigh(job: Job, completion: Completion) -> Ending:
    """What a reply is worth: read, kept in scope, then proven."""
    reading = read_reply(completion.text, job.sketch.current())
    if reading.question:
        return Ending(
            "question", "The drafter says the plan cannot work.", question=reading.question, outcome="question"
        )
    if outside := _outside(job, reading):
        feedback = f"These files may not be edited, and nothing of your reply was kept: {', '.join(outside)}."
        note = f"The reply edits what it may not: {_shown(outside)}."
        return Ending("rejected", note, job.before.results, outcome="out_of_scope", feedback=feedback)
    job.sketch.after.update(reading.changes)
    if reading.refused or not job.sketch.changes():
        return _unreadable(job, reading, completion)
    return await _prove(job)


def _outside(job: Job, reading: Reading) -> list[str]:
    """Paths of a reply that the draft may not touch."""
    task = job.planned.task
    allow_tests = is_about_tests(task.goal)

    def is_allowed(path: str) -> bool:
        return (
            in_scope(path, task.files)
            and not guarded(path, task.checks, allow_tests, is_new=path not in job.sketch.before)
            and not _is_linked(job, path)
            and not job.kit.workspace.denied(path)
        )

    return [path for path in reading.changes if not is_allowed(path)]


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


def _unreadable(job: Job, reading: Reading, completion: Completion) -> Ending:
    cut = completion.finish == "length"
    why = reading.refused[0].why if reading.refused else "nothing in it changes a file"
    note = "The reply was cut off." if cut else f"The reply could not be read as edits: {why}."
    told = ["Your reply was cut off." if cut else "", reading.report or "Nothing in your reply changes a file."]
    outcome: AttemptOutcome = "cut_short" if cut else "unreadable"
    return Ending("rejected", note, job.before.results, outcome=outcome, feedback="\n\n".join(filter(None, told)))


async def _prove(job: Job) -> Ending:
    if secrets := _new_secrets(job):
        note = f"The draft writes a secret into {_shown(secrets)}."
        return Ending("rejected", note, job.before.results, outcome="out_of_scope")
    if not job.planned.task.checks:
        return Ending("unproven", "No check was named, so nothing was applied.", outcome="unproven")
    job.report("running the checks on the draft")
    try:
        if job.bench.isolation == "sandbox":
            return await _prove_apart(job)
        return await _prove_in_place(job)
    except (Conflict, PathRefused) as error:
        return Ending("conflict", error.what, job.before.results, outcome="green")


def _new_secrets(job: Job) -> list[str]:
    return [path for path, text in job.sketch.after.items() if find_secrets(path) or (text and find_secrets(text))]


async def _prove_apart(job: Job) -> Ending:
    """Checks see the changed files at the project's own path; the tree itself changes only when green."""
    changes = job.sketch.changes()
    ending = await _checked(job, changes)
    if ending.status == "applied":
        async with tree_lock(job.kit.config.state_dir, job.kit.workspace.root):
            # Not cancellable half-way: the journal would undo it, but the caller could not tell which it was.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_apply, job, changes)
    return ending


def _apply(job: Job, changes: Changes) -> None:
    task_id = job.planned.task.task_id
    apply_changes(job.kit.workspace, job.kit.config.state_dir, task_id, changes, _expected(job, changes))


async def _prove_in_place(job: Job) -> Ending:
    """The change stands in the tree while the checks run, under a lock and a journal, and stays only when green."""
    changes, state, workspace = job.sketch.changes(), job.kit.config.state_dir, job.kit.workspace
    async with tree_lock(state, workspace.root):
        with trial(workspace, state, job.planned.task.task_id, changes, _expected(job, changes)) as tried:
            ending = await _checked(job, {})
            if ending.status == "applied":
                tried.keep()
    return ending


def _expected(job: Job, changes: Changes) -> dict[str, str | None]:
    return {path: job.sketch.expected.get(path) for path in changes}


async def _checked(job: Job, changes: Changes) -> Ending:
    """The verdict of the checks: `applied` here means proven and wanted, and the caller then applies."""
    task = job.planned.task
    runs = await run_checks(job.bench, task.checks, changes, label=f"after{len(job.attempts) + 1}")
    results, green = judge(task.checks, task.proof, job.before, runs)
    if green:
        return Ending("applied" if job.apply else "ready", checks=results, outcome="green")
    return Ending("needs_work", _red_note(results), results, outcome="red", feedback=_failing(results))


def _red_note(results: tuple[CheckResult, ...]) -> str:
    bad = [result for result in results if result.after != "green"]
    return (
        f"Not applied: {bad[0].name} is {bad[0].after} after the draft." if bad else "Not applied: nothing was proven."
    )


def _record(job: Job, ending: Ending) -> Draft:
    sketch = job.sketch
    before: dict[str, str | None] = dict(sketch.before)
    after = {path: text for path, text in sketch.after.items() if text != sketch.before.get(path)}
    path = _keep_patch(job, patch(before, after)) if after else None
    return Draft(
        task_id=job.planned.task.task_id,
        status=ending.status,
        note=ending.note,
        files=tuple(summarise(name, before.get(name), text) for name, text in sorted(after.items())),
        checks=ending.checks,
        proof=job.planned.task.proof,
        attempts=tuple(job.attempts),
        patch=path,
        isolation=job.bench.isolation,
        question=ending.question,
    )


def _keep_patch(job: Job, text: str) -> str | None:
    """Where the patch was put; None where it cannot be, since what was paid for and applied must still be told."""
    try:
        return job.kit.workspace.write_private(f"{job.planned.task.task_id}.patch", redact(text).encode())
    except (PathRefused, OSError):
        return None
