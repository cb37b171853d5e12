"""The ledger in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from mcp_tierkit.errors import LedgerError, NotFound, OverBudget
from mcp_tierkit.ledger import Ledger, Row, Standing, TextKind
from mcp_tierkit.ledger.budget import refusal
from mcp_tierkit.ledger.money import SPEND, spend_of, weighed
from mcp_tierkit.ledger.opening import Connection, ledger_path, private_folder
from mcp_tierkit.ledger.owners import Owner, busy_owners, close_left, owner_lives, remove_dead
from mcp_tierkit.ledger.rows import (
    Value,
    call_row,
    decide,
    insert,
    load,
    request_row,
    require_task,
    route_row,
    save,
    task_row,
    update,
)
from mcp_tierkit.receipts import NOTHING_SAVED, Alone, Weighed
from mcp_tierkit.types import (
    Budgets,
    Call,
    Check,
    Draft,
    Handoff,
    PlaybookRun,
    Request,
    Review,
    Route,
    Score,
    Spend,
    Task,
    TaskState,
)

T = TypeVar("T")

_ALONE = {
    "alone_in_low": "input_low", "alone_in_high": "input_high",
    "alone_out_low": "output_low", "alone_out_high": "output_high",
}  # fmt: skip
SETTLE_WAIT_S = 5.0
_POLL_S = 0.1  # other processes settle unheard
PROVEN_CHECKS = "select argv, cwd, timeout_s from proven_checks where project = ? order by draft_id desc limit ?"


def now() -> datetime:
    return datetime.now(UTC)


def open_ledger(
    url: str, *, state_dir: Path, clock: Callable[[], datetime] = now, settle_wait_s: float = SETTLE_WAIT_S
) -> Ledger:
    """The ledger at `sqlite:///absolute/path`. Nothing is opened or created before its first use.

    `state_dir` holds the lock that shows this process alive. `clock` says when a row is written, in UTC.
    `settle_wait_s` is how long a reservation waits for calls in flight. Raises LedgerError for any other kind of place.
    """
    return SqliteLedger(ledger_path(url), state_dir / "owners", clock, settle_wait_s)


class SqliteLedger:
    """All work is done in threads: writes one at a time on one connection, reads on another.

    Whatever has begun to write is finished even where its caller is cancelled.
    """

    def __init__(self, path: Path, owners: Path, clock: Callable[[], datetime], settle_wait_s: float) -> None:
        self._path, self._owners, self._clock, self._settle_wait_s = path, owners, clock, settle_wait_s
        self._writer, self._reader = Connection(path), Connection(path)
        self._owner: Owner | None = None
        self._waiting: set[anyio.Event] = set()

    async def open_task(self, task: Task) -> None:
        def work(conn: sqlite3.Connection) -> None:
            insert(conn, "tasks", task_row(task))

        await self._write(work)

    async def task(self, task_id: str) -> Task:
        return (await self._read(lambda conn: load(conn, "tasks", Task, task_id)))[0]

    async def route(self, route: Route) -> None:
        def work(conn: sqlite3.Connection) -> None:
            require_task(conn, route.task_id)
            insert(conn, "routes", route_row(route, self._now()))
            if route.override is not None:
                why = f"{route.decision} on {route.tier}, {route.rule}: {route.override}"
                decide(conn, route.task_id, self._now(), "override", why)

        await self._write(work)

    async def latest_route(self, task_id: str) -> Route:
        found = await self._read(lambda conn: load(conn, "routes", Route, task_id))
        work = tuple(route for route in found if route.decision != "review")
        return _last(work, f"Task {task_id!r} has no route", "Call plan_task for it first.")

    async def save(self, record: Handoff | Draft | Review | PlaybookRun | Score) -> None:
        await self._write(lambda conn: save(conn, record, self._now()))

    async def handoff(self, task_id: str) -> Handoff:
        found = await self._read(lambda conn: load(conn, "handoffs", Handoff, task_id))
        return _last(found, f"Task {task_id!r} has no handoff", "Call plan_task for it first.")

    async def drafts(self, task_id: str) -> tuple[Draft, ...]:
        return await self._read(lambda conn: load(conn, "drafts", Draft, task_id))

    async def reviews(self, task_id: str) -> tuple[Review, ...]:
        return await self._read(lambda conn: load(conn, "reviews", Review, task_id))

    async def playbook_runs(self, task_id: str) -> tuple[PlaybookRun, ...]:
        return await self._read(lambda conn: load(conn, "playbook_runs", PlaybookRun, task_id))

    async def score(self, task_id: str) -> Score | None:
        found = await self._read(lambda conn: load(conn, "scores", Score, task_id))
        return found[-1] if found else None

    async def may_admit(self, request: Request, worst_nanousd: int | None, budgets: Budgets) -> bool:
        def work(conn: sqlite3.Connection) -> bool:
            task = require_task(conn, request.task_id)
            key, at = task["budget_key"], self._now()
            _, refused = refusal(conn, request, key, at, worst_nanousd, budgets, may_wait=True)
            return refused is None or refused.may_settle

        return await self._read(work)

    async def reserve(self, request: Request, worst_nanousd: int | None, budgets: Budgets) -> str:
        deadline = anyio.current_time() + self._settle_wait_s
        swept = False
        while True:
            settled = anyio.Event()
            self._waiting.add(settled)
            try:
                await checkpoint_if_cancelled()
                left = deadline - anyio.current_time()
                reserved = await self._try_to_reserve(request, worst_nanousd, budgets, may_wait=left > 0)
                if isinstance(reserved, str):
                    return reserved
                if not reserved.may_settle or left <= 0:
                    raise reserved
                if not swept:
                    swept = True
                    if await self.sweep():  # Nobody will settle what a dead process left.
                        continue
                with anyio.move_on_after(min(left, _POLL_S)):
                    await settled.wait()
            finally:
                self._waiting.discard(settled)

    async def _try_to_reserve(
        self, request: Request, worst: int | None, budgets: Budgets, *, may_wait: bool
    ) -> str | OverBudget:
        """A call id, or why there is none at this instant: on the ledger where it is not waited for."""

        def work(conn: sqlite3.Connection) -> str | OverBudget:
            at, task = self._now(), require_task(conn, request.task_id)
            kind, refused = refusal(conn, request, task["budget_key"], at, worst, budgets, may_wait=may_wait)
            if refused is None:
                return self._reserve(conn, request, task["client"], at, worst)
            if not (may_wait and refused.may_settle):
                decide(conn, request.task_id, at, kind, refused.what)
            return refused

        return await self._write(work, is_durable=True)

    def _reserve(
        self, conn: sqlite3.Connection, request: Request, client: str | None, at: str, worst: int | None
    ) -> str:
        row: dict[str, Value] = {
            "call_id": uuid.uuid4().hex,
            "owner_id": self._owner_id(conn),
            "client": client,
            "at": at,
            "status": "reserved",
            "reserved_nanousd": worst,
            **request_row(request),
        }
        insert(conn, "calls", row)
        return str(row["call_id"])

    async def settle(self, call_id: str, call: Call) -> None:
        if call.status == "reserved":
            raise LedgerError(
                f"Call {call_id!r} cannot be settled as reserved. Its reservation stays counted.",
                next_step="Settle it as settled, failed, cancelled or interrupted.",
            )
        await self._write(lambda conn: self._settle(conn, call_id, call))
        for waiting in self._waiting:
            waiting.set()

    def _settle(self, conn: sqlite3.Connection, call_id: str, call: Call) -> None:
        # An interrupted row is one that a sweep closed over its owner's head: what really happened is better.
        where = "call_id = :call_id and status in ('reserved', 'interrupted')"
        if not update(conn, "calls", call_row(call, self._now()), where, call_id=call_id):
            _refuse_settle(conn, call_id)

    async def spend(self, task_id: str) -> Spend:
        def work(conn: sqlite3.Connection) -> Spend:
            require_task(conn, task_id)
            return spend_of(conn.execute(f"select {SPEND} from calls where task_id = ?", (task_id,)).fetchone())

        return await self._read(work)

    async def has_earlier_receipt(self, task_id: str) -> bool:
        query = """select exists (
            select 1 from calls join tasks using (task_id) where task_id <> ? and tasks.state = 'done')"""
        return bool(await self._read(lambda conn: conn.execute(query, (task_id,)).fetchone()[0]))

    async def calls(self, task_id: str) -> tuple[Row, ...]:
        def work(conn: sqlite3.Connection) -> tuple[Row, ...]:
            require_task(conn, task_id)
            query = """select *, coalesce(served_model, routed_model) as model
                from calls where task_id = ? order by rowid"""
            found = conn.execute(query, (task_id,))
            return tuple(Row(**{name: row[name] for name in Row.model_fields}) for row in found)

        return await self._read(work)

    async def weigh(self, task_id: str, weighed: Weighed) -> None:
        def work(conn: sqlite3.Connection) -> None:
            require_task(conn, task_id)
            row: dict[str, Value] = {**weighed.model_dump(exclude={"is_spared"}), "is_kept": weighed.is_spared}
            update(conn, "task_sums", row, "task_id = :task_id", task_id=task_id)

        await self._write(work)

    async def weighed(self, task_id: str) -> tuple[Weighed | None, tuple[int, int] | None]:
        def work(conn: sqlite3.Connection) -> tuple[Weighed | None, tuple[int, int] | None]:
            require_task(conn, task_id)
            query = "select caller_read, caller_wrote from task_sums where task_id = ?"
            read, wrote = conn.execute(query, (task_id,)).fetchone()
            return weighed(conn, task_id)[0], (read, wrote) if read or wrote else None

        return await self._read(work)

    async def is_reverted(self, task_id: str) -> bool:
        query = "select is_reverted from task_sums where task_id = ?"
        return await self._read(lambda conn: bool((conn.execute(query, (task_id,)).fetchone() or [0])[0]))

    async def keep_alone(self, task_id: str, own: Alone, schemas: int) -> None:
        row: dict[str, Value] = {column: getattr(own, name) for column, name in _ALONE.items()}
        row |= {"schema_tokens": schemas, "is_kept": own != NOTHING_SAVED}
        await self._write(lambda conn: update(conn, "task_sums", row, "task_id = :task_id", task_id=task_id))

    async def alone(self, task_id: str) -> Alone | None:
        def work(conn: sqlite3.Connection) -> Alone | None:
            query = f"select {', '.join(_ALONE)} from task_sums where task_id = ?"
            row = conn.execute(query, (task_id,)).fetchone()
            known = row is not None and row["alone_in_low"] is not None
            return Alone(**{name: row[column] for column, name in _ALONE.items()}) if known else None

        return await self._read(work)

    async def passed(self, task_id: str, *, read: int, wrote: int, nanousd: int | None) -> None:
        def work(conn: sqlite3.Connection) -> None:
            # Beside the tokens: what the net of an earlier receipt leaves to the caller, in the unit of that receipt.
            # Where its price is not known, neither is that net: tokens are all that is, until there is a price.
            query = """update task_sums set caller_read = caller_read + :read, caller_wrote = caller_wrote + :wrote,
                passed = passed + iif(unit = 'usd', :nanousd, :read + :wrote),
                unit = iif(unit = 'usd' and :nanousd is null, null, unit) where task_id = :task_id"""
            conn.execute(query, {"task_id": task_id, "read": read, "wrote": wrote, "nanousd": nanousd})

        await self._write(work)

    async def keep_text(self, call_id: str, kind: TextKind, text: str) -> None:
        def work(conn: sqlite3.Connection) -> None:
            if conn.execute("select 1 from calls where call_id = ?", (call_id,)).fetchone() is None:
                raise _no_call(call_id)
            insert(conn, "texts", {"call_id": call_id, "kind": kind, "at": self._now(), "text": text})

        await self._write(work)

    async def texts(self, task_id: str) -> tuple[tuple[str, TextKind, str], ...]:
        def work(conn: sqlite3.Connection) -> tuple[tuple[str, TextKind, str], ...]:
            require_task(conn, task_id)
            query = """select call_id, texts.kind, text from texts join calls using (call_id)
                where task_id = ? order by text_id"""
            return tuple((row[0], row[1], row[2]) for row in conn.execute(query, (task_id,)))

        return await self._read(work)

    async def proven_checks(self, project: str, limit: int) -> tuple[Check, ...]:
        def work(conn: sqlite3.Connection) -> tuple[Check, ...]:
            found = conn.execute(PROVEN_CHECKS, (project, limit))
            return tuple(Check(argv=tuple(json.loads(row[0])), cwd=row[1], timeout_s=row[2]) for row in found)

        return await self._read(work)

    async def claim(self, task_id: str) -> bool:
        def work(conn: sqlite3.Connection) -> bool:
            task = require_task(conn, task_id)
            if task["state"] == "running":
                if owner_lives(conn, task["owner_id"]):
                    return False
                close_left(conn, task["owner_id"], self._now())
            row: dict[str, Value] = {"state": "running", "owner_id": self._owner_id(conn), "cancel_requested": 0}
            return update(conn, "tasks", row, "task_id = :task_id", task_id=task_id) == 1

        return await self._write(work)

    async def finish(self, task_id: str, state: TaskState, reply: str) -> None:
        def work(conn: sqlite3.Connection) -> None:
            task = require_task(conn, task_id)
            mine = self._owner is not None and task["owner_id"] == self._owner.owner_id
            if task["state"] == "running" and not mine:
                raise LedgerError(
                    f"Task {task_id!r} is in the hands of another process. Its last reply was left alone.",
                    next_step="Call get_task to see how that one goes on.",
                )
            update(conn, "tasks", {"state": state, "reply": reply}, "task_id = :task_id", task_id=task_id)

        await self._write(work)

    async def standing(self, task_id: str) -> Standing:
        def work(conn: sqlite3.Connection) -> Standing:
            task = require_task(conn, task_id)
            # Nobody has swept yet, and nobody works on it either.
            is_left = task["state"] == "running" and not owner_lives(conn, task["owner_id"])
            return Standing(
                task_id=task_id,
                state="interrupted" if is_left else task["state"],
                reply=task["reply"],
                cancel_requested=bool(task["cancel_requested"]),
            )

        return await self._read(work)

    async def request_cancel(self, task_id: str) -> None:
        def work(conn: sqlite3.Connection) -> None:
            require_task(conn, task_id)
            update(conn, "tasks", {"cancel_requested": 1}, "task_id = :task_id", task_id=task_id)
            decide(conn, task_id, self._now(), "cancel_requested")

        await self._write(work)

    async def sweep(self) -> tuple[str, ...]:
        def work(conn: sqlite3.Connection) -> tuple[str, ...]:
            dead = [owner for owner in busy_owners(conn) if not owner_lives(conn, owner)]
            touched = {task_id for owner in dead for task_id in close_left(conn, owner, self._now())}
            remove_dead(self._owners)
            return tuple(sorted(touched))

        return await self._write(work)

    async def close(self) -> None:
        """Let go of the file. What this process still has in hand counts as left behind from here on."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._reader.close()
        if self._owner is not None:
            self._owner.release()
            self._owner = None

    def _owner_id(self, conn: sqlite3.Connection) -> str:
        """This process's name, locked before the first row that carries it."""
        if self._owner is None:
            private_folder(self._owners)
            self._owner = Owner(self._owners)
        row = (self._owner.owner_id, str(self._owner.lock), self._owner.pid, self._now())
        conn.execute("insert or ignore into owners (owner_id, lock, pid, at) values (?, ?, ?, ?)", row)
        return self._owner.owner_id

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="milliseconds")

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await anyio.to_thread.run_sync(self._reader.run, work, limiter=self._reader.slot)

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, is_durable: bool = False) -> T:
        # Shielded: a cancelled request has been paid for, and its row must say so.
        with anyio.CancelScope(shield=True):
            written = await anyio.to_thread.run_sync(self._writer.transact, work, is_durable, limiter=self._writer.slot)
        return written  # noqa: RET504 - to mypy the scope might swallow an exception


def _refuse_settle(conn: sqlite3.Connection, call_id: str) -> None:
    found = conn.execute("select status from calls where call_id = ?", (call_id,)).fetchone()
    if found is None:
        raise _no_call(call_id)
    raise LedgerError(
        f"Call {call_id!r} is {found[0]} already. The first settlement stands.",
        next_step="This is a fault in tierkit: report it with the version that `tierkit --version` prints.",
    )


def _no_call(call_id: str) -> NotFound:
    return NotFound(f"No call has id {call_id!r}. Nothing was recorded.", next_step="Settle what was reserved.")


def _last(found: tuple[T, ...], what: str, next_step: str) -> T:
    if not found:
        raise NotFound(f"{what}. No model was called.", next_step=next_step)
    return found[-1]
