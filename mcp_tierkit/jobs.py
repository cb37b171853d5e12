"""Work that may outlive the request that began it: started, waited for, cancelled, and always written down."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from mcp_tierkit.errors import Conflict, TierkitError
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.types import TaskState

Reply = dict[str, Any]
Report = Callable[[str], None]
"""Told what the work is doing now, in a few words."""
Work = Callable[[Report], Awaitable[Reply]]
OnProgress = Callable[[int, str], Awaitable[None]]

HEARTBEAT_S = 15.0  # clients drop a silent call sooner or later; 15 to 20 s suits all that were measured
POLL_S = 0.5
log = logging.getLogger("mcp_tierkit")


@dataclass
class _Job:
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)
    changed: anyio.Event = field(default_factory=anyio.Event)
    steps: int = 0
    message: str = "started"
    on_cancel: TaskState = "cancelled"
    reply: Reply | None = None
    error: TierkitError | None = None

    def report(self, message: str) -> None:
        self.steps, self.message = self.steps + 1, message
        self.changed.set()
        self.changed = anyio.Event()


class Jobs:
    """The running tasks of this process. Tasks of other processes are seen through the ledger."""

    def __init__(self, ledger: Ledger, group: TaskGroup) -> None:
        self._ledger = ledger
        self._group = group
        self._running: dict[str, _Job] = {}
        self._unwritten: dict[str, Reply] = {}
        self.begun: list[str] = []
        """Every task that was begun here, in that order."""

    async def start(self, task_id: str, work: Work, *, interrupted: Callable[[TaskState], Reply]) -> None:
        """Begin `work` for a task. Raises Conflict while it is already being worked on.

        `interrupted` makes the reply of a task that was cancelled or that the server left behind.
        """
        # Shielded: a claimed task that nobody runs would look busy for ever.
        with anyio.CancelScope(shield=True):
            if not await self._ledger.claim(task_id):
                raise Conflict(
                    f"Task {task_id} is already being worked on. Nothing more was started or spent.",
                    next_step="Call get_task with this task_id to wait for it.",
                )
            job = self._running[task_id] = _Job()
            self.begun.append(task_id)
            self._group.start_soon(self._run, task_id, job, work, interrupted)

    async def _run(self, task_id: str, job: _Job, work: Work, interrupted: Callable[[TaskState], Reply]) -> None:
        state: TaskState = "interrupted"
        try:
            with job.scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._watch_for_cancel, task_id, job)
                    state, job.reply = "done", await self._guarded(job, work)
                    group.cancel_scope.cancel()
            if job.scope.cancelled_caught:
                state, job.reply = job.on_cancel, interrupted(job.on_cancel)
        finally:
            # Shielded: what happened must be on the ledger even when the server is told to leave.
            with anyio.CancelScope(shield=True):
                if job.reply is None:
                    job.reply = interrupted(state)
                await self._write_down(task_id, job, state)
            del self._running[task_id]
            job.done.set()
            job.changed.set()

    async def _write_down(self, task_id: str, job: _Job, state: TaskState) -> None:
        """Put the end of a task on the ledger. One that cannot be written ends no other task, and is told from here."""
        try:
            await self._ledger.finish(task_id, state, json.dumps(_stored(job)))
        except TierkitError as error:
            log.exception("the end of a task could not be written down")
            if job.reply:
                job.reply["alert"] = f"The ledger does not have this: {error.what}"
            self._unwritten[task_id] = _stored(job)

    async def _guarded(self, job: _Job, work: Work) -> Reply:
        try:
            return await work(job.report)
        except TierkitError as error:
            job.error = error
            return {}
        except Exception:
            job.error = TierkitError(
                "The server failed while working on this task. What was spent is on the ledger.",
                next_step="Do the change yourself, and see the server's log for the cause.",
            )
            log.exception("a task failed unexpectedly")
            return {}

    async def _watch_for_cancel(self, task_id: str, job: _Job) -> None:
        while True:
            await anyio.sleep(POLL_S)
            with suppress(TierkitError):  # A ledger that cannot be read now is no reason to end the work.
                if (await self._ledger.standing(task_id)).cancel_requested:
                    job.scope.cancel()

    def cancel_now(self, task_id: str) -> None:
        """Stop a task of this process at its next await; its children and model call end with it."""
        if job := self._running.get(task_id):
            job.scope.cancel()

    async def cancel(self, task_id: str) -> None:
        """Stop a task wherever it runs."""
        if task_id in self._running:
            self.cancel_now(task_id)
        else:
            await self._ledger.request_cancel(task_id)

    async def stop(self, within_s: float) -> None:
        """End every task of this process and wait, at most `within_s`, until each is written down."""
        jobs = list(self._running.values())
        with anyio.move_on_after(within_s, shield=True):
            for job in jobs:
                if not job.scope.cancel_called:  # Whoever cancelled it before we left has the word.
                    job.on_cancel = "interrupted"
                job.scope.cancel()
            for job in jobs:
                await job.done.wait()

    async def wait(self, task_id: str, wait_s: float, on_progress: OnProgress | None = None) -> Reply | None:
        """The task's reply, or None if it is still running after `wait_s`. Raises the error it ended with."""
        with anyio.move_on_after(wait_s):
            if job := self._running.get(task_id):
                await _until_done(job, on_progress)
            elif task_id not in self._unwritten:
                await self._until_settled_elsewhere(task_id)
        if task_id in self._running:
            return None
        if unwritten := self._unwritten.get(task_id):
            return _restored(unwritten)
        standing = await self._ledger.standing(task_id)
        return None if standing.state == "running" or standing.reply is None else _restored(json.loads(standing.reply))

    async def _until_settled_elsewhere(self, task_id: str) -> None:
        while (await self._ledger.standing(task_id)).state == "running":
            await self._ledger.sweep()
            await anyio.sleep(POLL_S)


async def _until_done(job: _Job, on_progress: OnProgress | None) -> None:
    """Wait for a job, passing on each step and a heartbeat where nothing is heard."""
    sent = 0
    while not job.done.is_set():
        changed = job.changed
        if on_progress:
            sent = max(sent + 1, job.steps)
            await on_progress(sent, job.message)
        with anyio.move_on_after(HEARTBEAT_S):
            await changed.wait()


def _stored(job: _Job) -> Reply:
    if job.error is None:
        return {"reply": job.reply}
    error = job.error
    return {"error": {"code": error.code, "what": error.what, "next_step": error.next_step, "exit": error.exit_code}}


def _restored(record: Mapping[str, Any]) -> Reply:
    if failure := record.get("error"):
        error = TierkitError(failure["what"], next_step=failure["next_step"])
        error.code, error.exit_code = failure["code"], failure["exit"]
        raise error
    reply: Reply = record["reply"]
    return reply
