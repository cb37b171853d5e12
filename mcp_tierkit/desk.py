"""The six calls, whichever door they come through: each takes its record and gives back a reply."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import anyio

from mcp_tierkit import reply as say
from mcp_tierkit.amounts import plain
from mcp_tierkit.calls import DraftCall, OutcomeCall, PlanCall, PlaybookCall, ReviewCall, TaskCall
from mcp_tierkit.checks import parse_check
from mcp_tierkit.errors import Conflict, InvalidInput, LedgerError, NotFound, TierkitError
from mcp_tierkit.git import diff_of
from mcp_tierkit.jobs import Jobs, OnProgress, Reply, Report
from mcp_tierkit.journal import has_undo, recover, tree_lock, undo
from mcp_tierkit.kit import Kit
from mcp_tierkit.redact import redact_record
from mcp_tierkit.routing import Match
from mcp_tierkit.stages.account import account, calls_before, first_time, plan_estimate, run_estimate, within_quota
from mcp_tierkit.stages.cycle import next_draft
from mcp_tierkit.stages.draft import draft_change
from mcp_tierkit.stages.outcome import note_outcome, outcome_reply, unrecorded_reply
from mcp_tierkit.stages.plan import Planned, accept, plan, refuse_unless_draftable
from mcp_tierkit.stages.playbook import Prepared, execute, list_reply, match_playbook, names_what_is_not_there
from mcp_tierkit.stages.recipe import PreparedSkill, carry_out, foresee, keep_whole, prepare_run
from mcp_tierkit.stages.review import review_diff
from mcp_tierkit.stages.rounds import note_asked, note_told, refusals_counted
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Outcome, Score, Task, TaskState
from mcp_tierkit.workspace import Workspace

C = TypeVar("C", DraftCall, ReviewCall)

LEAVE_WITHIN_S = 1.8
LOCK_WAIT_S = 0.2
UNDO_WAIT_S = 30.0
SWEEP_AFTER_S = 1.0  # the ledger's library is heavy to load; a client's first tools/list goes before it


def default_wait_s(client: str | None) -> float:
    """How long a call may hold this client, in seconds: data/waits.toml, by the client's name."""
    name = (client or "").split("/")[0].lower()
    waits = packaged("waits")
    return float(waits["clients"].get(name, {"wait_s": waits["default"]})["wait_s"])


class Desk:
    """Serves one project. Every method returns a reply or raises a TierkitError."""

    def __init__(self, kit: Kit, jobs: Jobs, *, schema_tokens: Callable[[], int]) -> None:
        self.kit = kit
        self.jobs = jobs
        self._schema_tokens = schema_tokens
        self._tidy = anyio.Lock()
        self._is_tidied = False

    async def tidy(self) -> None:
        """Finish what servers that died left behind, in the tree and on the ledger. Does it once."""
        async with self._tidy:
            if self._is_tidied:
                return
            workspace, state = self.kit.workspace, self.kit.config.state_dir
            # Not waited for: who holds the lock recovers before each change of its own, and may check for minutes.
            with anyio.move_on_after(LOCK_WAIT_S):
                async with tree_lock(state, workspace.root):
                    recover(workspace, state)
            await self.kit.ledger.sweep()
            self._is_tidied = True

    async def shut(self) -> None:
        """End every task of this process, each with its row settled, within two seconds."""
        await self.jobs.stop(LEAVE_WITHIN_S)

    async def plan_task(
        self, call: PlanCall, *, client: str | None = None, on_progress: OnProgress | None = None
    ) -> Reply:
        await self.tidy()
        found, prepared = await self._match(call.task)
        ready = None if isinstance(prepared, str) else prepared
        planned, ruling = await plan(self.kit, call, playbook=found if ready else None, client=client)
        if planned.task.tier and planned.route.tier:
            await self.kit.tier(planned.task.tier)
        if ready and ruling.decision == "run_playbook":
            return say.plan_reply(planned.route, ruling, await run_estimate(ready))
        refused = (found.name, prepared) if found and isinstance(prepared, str) else None
        return say.plan_reply(planned.route, ruling, await plan_estimate(self.kit, planned), refused=refused)

    async def draft(
        self, call: DraftCall, *, client: str | None = None, on_progress: OnProgress | None = None
    ) -> Reply:
        await self.tidy()
        planned = await self._asked(call, self._planned, client)
        task_id = planned.task.task_id

        async def work(report: Report) -> Reply:
            draft = await draft_change(self.kit, planned, apply=call.apply == "if_green", report=report)
            earlier = await calls_before(self.kit, draft)
            shown = say.draft_reply(draft, {}, earlier=earlier)
            # In a thread: the first count loads a vocabulary.
            schemas = await anyio.to_thread.run_sync(self._schema_tokens)
            paid = await account(self.kit, planned, shown, draft=draft, schema_tokens=schemas)
            return say.draft_reply(draft, paid, earlier=earlier)

        return await self._run(task_id, work, call.wait_s, client, on_progress)

    async def review(
        self, call: ReviewCall, *, client: str | None = None, on_progress: OnProgress | None = None
    ) -> Reply:
        await self.tidy()
        planned = await self._asked(call, self._reviewed, client)
        async with refusals_counted(self.kit, planned.task.task_id):
            diff = await self._diff(call, planned)

        async def work(report: Report) -> Reply:
            review = await review_diff(self.kit, planned, diff, focus=call.focus, report=report)
            shown = say.review_reply(review, None)
            schemas = await anyio.to_thread.run_sync(self._schema_tokens)
            paid = await account(self.kit, planned, shown, draft=None, schema_tokens=schemas)
            return say.review_reply(review, paid)

        return await self._run(planned.task.task_id, work, call.wait_s, client, on_progress)

    async def run_playbook(
        self, call: PlaybookCall, *, client: str | None = None, on_progress: OnProgress | None = None
    ) -> Reply:
        await self.tidy()
        if call.name is None:
            return await anyio.to_thread.run_sync(list_reply, self.kit.config)
        prepared = await prepare_run(self.kit, call.name, call.inputs)
        if isinstance(prepared, PreparedSkill) and call.dry_run:
            sent = await foresee(prepared)
            return say.forecast_reply(
                call.name,
                tier=sent.tier,
                model=sent.model,
                input_tokens=sent.input_tokens,
                nanousd=sent.cost_nanousd,
                is_quota=prepared.tier.billing == "subscription",
            )
        is_skill = isinstance(prepared, PreparedSkill)
        chosen = Match(name=call.name, inputs=prepared.inputs, kind="skill" if is_skill else "script")
        planned, _ = await plan(self.kit, PlanCall(task=f"Run {call.name}"), playbook=chosen, client=client)

        async def work(report: Report) -> Reply:
            report(f"running {call.name}")
            return await self._ran(prepared, planned, report, dry_run=call.dry_run)

        return await self._run(planned.task.task_id, work, call.wait_s, client, on_progress)

    async def _ran(
        self, prepared: Prepared | PreparedSkill, planned: Planned, report: Report, *, dry_run: bool
    ) -> Reply:
        """Run what was prepared, whatever its kind, and tell of it."""
        task_id, key_spent = planned.task.task_id, None
        if isinstance(prepared, PreparedSkill):
            run = await carry_out(self.kit, prepared, task_id, report)
            key_spent = (await first_time(self.kit, planned, 1)).get("key_spent")
        else:
            run = await execute(prepared, self.kit.ledger, task_id, dry_run=dry_run)
        kept = await anyio.to_thread.run_sync(keep_whole, self.kit.workspace, run)
        contract = prepared.playbook.contract
        phrase = contract.match.phrases[0] if contract.match.phrases else ""
        return say.playbook_reply(
            run, dry_run=dry_run, task=say.offered_task(phrase, prepared.inputs),
            changes_files=not contract.effects.read_only, kept=kept, key_spent=key_spent,
        )  # fmt: skip

    async def get_task(
        self, call: TaskCall, *, client: str | None = None, on_progress: OnProgress | None = None
    ) -> Reply:
        await self.tidy()
        standing = await self.kit.ledger.standing(call.task_id)
        if call.cancel and standing.state == "running":
            await self.jobs.cancel(call.task_id)
        wait_s = default_wait_s(client) if call.wait_s is None else call.wait_s
        try:
            reply = await self.jobs.wait(call.task_id, wait_s, on_progress)
        except TierkitError as error:
            await note_told(self.kit, call.task_id, error, asked=call)
            raise
        state = (await self.kit.ledger.standing(call.task_id)).state
        stands = await self._stands(call.task_id)
        if reply is None:
            reply = (
                say.running_reply(call.task_id)
                if state == "running"
                else say.interrupted_reply(call.task_id, state, applied=stands)
            )
        if reply.get("status") == "applied" and not stands:
            reply = reply | say.UNDONE
        reply = await self._with_spent(call.task_id, reply)
        after = reply.pop("next")
        shown = {**reply, "state": state, "next": after}
        await note_told(self.kit, call.task_id, shown, asked=call)
        return shown

    async def record_outcome(
        self, call: OutcomeCall, *, client: str | None = None, on_progress: OnProgress | None = None
    ) -> Reply:
        told = Score(**call.model_dump(exclude={"undo"}), is_undone=call.undo)
        if not call.undo:
            await self.tidy()
            await self.kit.ledger.task(call.task_id)
            return outcome_reply(await note_outcome(self.kit, told), told, ())
        with suppress(LedgerError):  # The files come first; what the ledger cannot take is told below.
            await self.tidy()
        restored = await self.undo(call.task_id, call.outcome)
        try:
            return outcome_reply(await note_outcome(self.kit, told), told, restored)
        except (LedgerError, NotFound) as error:
            return unrecorded_reply(told, restored, error)

    async def undo(self, task_id: str, outcome: Outcome = "reverted") -> tuple[str, ...]:
        """Take a task's change back, byte for byte. Raises Conflict where those files changed since."""
        if outcome != "reverted":
            raise InvalidInput(
                "undo goes only with the outcome `reverted`. Nothing was changed.",
                next_step="Call again with outcome=reverted, or without undo.",
            )
        state, workspace = self.kit.config.state_dir, self.kit.workspace
        try:
            await self._own(task_id)
        except (LedgerError, NotFound):
            if not has_undo(state, workspace, task_id):  # The journal's own word is enough.
                raise
        with anyio.move_on_after(UNDO_WAIT_S):
            async with tree_lock(state, workspace.root):
                # Not cancellable half-way, as when a change is applied; a large merge takes a second.
                with anyio.CancelScope(shield=True):
                    return await anyio.to_thread.run_sync(undo, workspace, state, task_id)
        raise Conflict(
            "Another task is changing or checking this project's files. Nothing was taken back.",
            next_step="Call again when that task has ended.",
        )

    async def _run(
        self, task_id: str, work: Callable[[Report], Awaitable[Reply]], wait_s: float | None, client: str | None,
        on_progress: OnProgress | None,
    ) -> Reply:  # fmt: skip
        """Start the work and wait for it; cancelling this wait cancels the task."""
        async with refusals_counted(self.kit, task_id):
            await self.jobs.start(task_id, work, interrupted=lambda state: self._ended(task_id, state))
            try:
                reply = await self.jobs.wait(task_id, default_wait_s(client) if wait_s is None else wait_s, on_progress)
            except anyio.get_cancelled_exc_class():
                self.jobs.cancel_now(task_id)
                raise
        shown = await self._with_spent(task_id, reply) if reply else say.running_reply(task_id)
        await note_told(self.kit, task_id, shown)
        return shown

    async def _asked(self, call: C, find: Callable[[C, str | None], Awaitable[Planned]], client: str | None) -> Planned:
        """The task of a round; what was written to ask for it is counted, and what is read where it is refused."""
        if call.task_id is not None:
            await note_asked(self.kit, call.task_id, call)
        async with refusals_counted(self.kit, call.task_id):
            planned = await find(call, client)
        if call.task_id is None:
            await note_asked(self.kit, planned.task.task_id, call)
        return planned

    def _ended(self, task_id: str, state: TaskState) -> Reply:
        """The reply of a task of this process that ended before it gave one itself."""
        applied = has_undo(self.kit.config.state_dir, self.kit.workspace, task_id)
        return say.interrupted_reply(task_id, state, applied=applied)

    async def _with_spent(self, task_id: str, reply: Reply) -> Reply:
        """A reply of a task that was ended, with the figure; the others have theirs in a receipt."""
        if reply.get("status") not in ("cancelled", "interrupted"):
            return reply
        with suppress(LedgerError):  # What is told is true without it.
            spend, rows = await self.kit.ledger.spend(task_id), await self.kit.ledger.calls(task_id)
            return say.with_spent(reply, spend, within_quota(rows))
        return reply

    async def _stands(self, task_id: str) -> bool:
        """Whether the task's change is in its project, which may be another than this one."""
        project = (await self.kit.ledger.task(task_id)).project
        return await anyio.to_thread.run_sync(has_undo, self.kit.config.state_dir, Workspace(Path(project)), task_id)

    async def _own(self, task_id: str) -> Task:
        """The task. Raises Conflict where it is one of another project: its files are not here."""
        task, here = await self.kit.ledger.task(task_id), self.kit.workspace.root
        if task.project == str(here) and here.is_dir():
            return task
        gone = "" if Path(task.project).is_dir() else ", which is no longer where it was"
        raise Conflict(
            f"Task {task_id} belongs to the project {named(Path(task.project))}{gone}, and this one is {named(here)}. "
            "Nothing was changed or spent.",
            next_step="Take its patch back by hand, or put the project back in its place."
            if gone
            else f"Ask that project's own server, or a terminal: `tierkit undo {task_id}` and `tierkit task {task_id}` "
            "find the project by themselves.",
        )

    async def _match(self, task: str) -> tuple[Match | None, Prepared | PreparedSkill | str | None]:
        """The trusted playbook that plainly does this task: ready to run, or why it would be refused here and now."""
        if task.startswith("@"):
            return None, None
        found = await anyio.to_thread.run_sync(match_playbook, self.kit.config, task, self.kit.shelf)
        if found is None:
            return None, None
        try:
            ready = await prepare_run(self.kit, found.name, found.inputs)
        except TierkitError as error:
            return found, error.what
        is_lost = names_what_is_not_there(ready.playbook, ready.inputs, self.kit.workspace)
        return found, "there is nothing at the path that the task names." if is_lost else ready

    async def _planned(self, call: DraftCall, client: str | None) -> Planned:
        """The task to draft: one planned before, or a one-step job."""
        if (call.task_id is None) == (call.task is None):
            raise InvalidInput(
                "Give either task_id or task, one of the two. Nothing was spent.",
                next_step="Pass task with files and checks, or the task_id of plan_task.",
            )
        if call.task_id is None:
            return await accept(self.kit, call, client=client)
        if call.files or call.context or call.proof != "turns_green":
            raise InvalidInput(
                "files, context and proof belong to the plan of that task_id. Nothing was spent.",
                next_step="Pass task_id alone, with further checks if need be, or plan a new task.",
            )
        planned = await self._load(call.task_id)
        refuse_unless_draftable(planned.route, planned.handoff.open_questions)
        return await next_draft(self.kit, planned, [parse_check(check) for check in call.checks])

    async def _load(self, task_id: str) -> Planned:
        ledger = self.kit.ledger
        return Planned(
            task=await self._own(task_id),
            route=await ledger.latest_route(task_id),
            handoff=await ledger.handoff(task_id),
        )

    async def _reviewed(self, call: ReviewCall, client: str | None) -> Planned:
        if call.task_id is not None:
            return await self._load(call.task_id)
        if call.diff is None:
            raise InvalidInput(
                "Give task_id or diff. Nothing was spent.",
                next_step="Pass diff=working_tree for what is not committed.",
            )
        planned, _ = await plan(self.kit, PlanCall(task=f"Review of {call.diff}"), client=client)
        return planned

    async def _diff(self, call: ReviewCall, planned: Planned) -> str:
        """The diff to review: named by the call, else the task's own patch, else the working tree."""
        workspace = self.kit.workspace
        wanted = call.diff or planned.handoff.draft_diff or "working_tree"
        if wanted.endswith((".patch", ".diff")):
            return workspace.text(wanted)
        return await anyio.to_thread.run_sync(diff_of, workspace, wanted)


def named(project: Path) -> str:
    """A project's folder with the one above it: enough to tell it from others, no absolute path, and in one line."""
    return plain("/".join(project.parts[-2:]))


@asynccontextmanager
async def open_desk(kit: Kit, *, schema_tokens: Callable[[], int] = lambda: 0) -> AsyncIterator[Desk]:
    """A desk and its running tasks; leaving ends them, settles their rows and closes the kit."""
    logging.getLogger("mcp_tierkit").addFilter(redact_record)
    refusal: TierkitError | None = None
    async with anyio.create_task_group() as group:
        desk = Desk(kit, Jobs(kit.ledger, group), schema_tokens=schema_tokens)
        group.start_soon(_tidy_soon, desk)
        try:
            yield desk
        except TierkitError as error:
            refusal = error  # Raised below: the task group would wrap it in a group of its own.
        finally:
            await desk.shut()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await kit.close()
    if refusal is not None:
        raise refusal


async def _tidy_soon(desk: Desk) -> None:
    """What a crash left in the tree is mended at start, not at the first call; a call does not wait for this."""
    await anyio.sleep(SWEEP_AFTER_S)
    try:
        await desk.tidy()
    except (TierkitError, OSError) as error:
        # Not the end of the server: the next call tries again, and tells the caller what is wrong.
        logging.getLogger("mcp_tierkit").warning("%s", error)
