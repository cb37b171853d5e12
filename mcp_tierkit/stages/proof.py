"""What the edits of a draft are worth: held apart, judged by checks, and applied only when everything is green."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import anyio

from mcp_tierkit.checks import Baseline, Bench, judge, run_checks
from mcp_tierkit.errors import Conflict, PathRefused
from mcp_tierkit.guards import Tried, broken, try_guards, weigh_guards
from mcp_tierkit.jobs import Report
from mcp_tierkit.journal import apply as apply_changes
from mcp_tierkit.journal import tree_lock, trial
from mcp_tierkit.kit import Kit
from mcp_tierkit.packing import fence
from mcp_tierkit.stages.material import Sketch
from mcp_tierkit.stages.plan import Planned
from mcp_tierkit.types import AttemptOutcome, Changes, Check, CheckResult, DraftStatus


@dataclass(frozen=True)
class Ending:
    """What one reply, or the whole draft, has come to. `feedback` is what a further call could mend."""

    status: DraftStatus
    note: str = ""
    checks: tuple[CheckResult, ...] = ()
    guards: tuple[CheckResult, ...] = ()
    question: str | None = None
    ask: str | None = None
    way_on: str | None = None
    outcome: AttemptOutcome = "failed"
    feedback: str = ""
    edits: dict[str, str | None] = field(default_factory=dict)
    """The files that it is about, as they are to be; None for one deleted."""


@dataclass(frozen=True)
class Setting:
    """Where one task's drafts are tried: its bench, its checks as they stood before, and whether green is applied."""

    kit: Kit
    planned: Planned
    bench: Bench
    before: Baseline
    guards: tuple[Check, ...]
    apply: bool


async def prove(setting: Setting, sketch: Sketch, *, label: str, report: Report) -> Ending:
    """The verdict on the sketch's changes. With `applied` they are in the tree, and can be undone."""
    report("running the checks on the draft")
    try:
        if setting.bench.isolation == "sandbox":
            return await _apart(setting, sketch, label, report)
        return await _in_place(setting, sketch, label, report)
    except (Conflict, PathRefused) as error:
        return Ending("conflict", error.what, setting.before.results, outcome="green")


async def _apart(setting: Setting, sketch: Sketch, label: str, report: Report) -> Ending:
    """Checks see the changed files at the project's own path; the tree itself changes only when green."""
    changes = sketch.changes()
    ending, tried = await _checked(setting, changes, label, report)
    ending = await _guarded(setting, ending, tried, label)
    if ending.status == "applied":
        async with tree_lock(setting.kit.config.state_dir, setting.kit.workspace.root):
            return await _applied(setting, sketch, changes, ending)
    return ending


async def _applied(setting: Setting, sketch: Sketch, changes: Changes, ending: Ending) -> Ending:
    """The ending of a change that is applied, or that cannot be: its proof stands, and its patch is kept."""
    try:
        await _apply(setting, sketch, changes)
    except (Conflict, PathRefused) as error:
        return replace(ending, status="conflict", note=error.what)
    return ending


async def _apply(setting: Setting, sketch: Sketch, changes: Changes) -> None:
    kit, task_id, expected = setting.kit, setting.planned.task.task_id, _expected(sketch, changes)

    def work() -> None:
        apply_changes(kit.workspace, kit.config.state_dir, task_id, changes, expected)

    # Not cancellable half-way: the journal would undo it, but the caller could not tell which it was.
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(work)


async def _in_place(setting: Setting, sketch: Sketch, label: str, report: Report) -> Ending:
    """The change stands in the tree while checks run, under a lock and a journal, and stays only when green.

    Where there are guards it is taken back first: one that is red with the change is run without it.
    """
    changes, state, workspace = sketch.changes(), setting.kit.config.state_dir, setting.kit.workspace
    async with tree_lock(state, workspace.root):
        with trial(workspace, state, setting.planned.task.task_id, changes, _expected(sketch, changes)) as held:
            ending, tried = await _checked(setting, {}, label, report)
            if ending.status == "applied" and not tried:
                held.keep()
        if tried:
            ending = await _guarded(setting, ending, tried, label)
            if ending.status == "applied":
                return await _applied(setting, sketch, changes, ending)
    return ending


def _expected(sketch: Sketch, changes: Changes) -> dict[str, str | None]:
    return {path: sketch.expected.get(path) for path in changes}


async def _checked(setting: Setting, changes: Changes, label: str, report: Report) -> tuple[Ending, tuple[Tried, ...]]:
    """The verdict of the task's checks, and where they are green, how the guards ran on the change."""
    task = setting.planned.task
    runs = await run_checks(setting.bench, task.checks, changes, label=label)
    results, green = judge(task.checks, task.proof, setting.before, runs)
    if not green:
        return Ending("needs_work", _red_note(results), results, outcome="red", feedback=failing(results)), ()
    if setting.guards:
        report("running the project's other checks")
    tried = await try_guards(setting.bench, setting.guards, changes, label=f"{label}-guard")
    return Ending("applied" if setting.apply else "ready", checks=results, outcome="green"), tried


async def _guarded(setting: Setting, ending: Ending, tried: tuple[Tried, ...], label: str) -> Ending:
    """The same verdict, unless the change broke a check that was green without it."""
    guards = await weigh_guards(setting.bench, tried, label=f"{label}-guard", seen=setting.kit.baselines)
    if not (faults := broken(guards)):
        return replace(ending, guards=guards)
    note = "Not applied: it breaks a check of the project that was green."
    return Ending("needs_work", note, ending.checks, guards, outcome="red", feedback=failing(faults))


def failing(results: tuple[CheckResult, ...]) -> str:
    """What the checks that are not green print, each fenced under its command."""
    return "\n".join(fence(f"$ {result.name}", result.digest) for result in results if result.digest)


def _red_note(results: tuple[CheckResult, ...]) -> str:
    bad = next((result.after for result in results if result.after != "green"), None)
    return f"Not applied: {bad} after the draft." if bad else "Not applied: nothing was proven."
