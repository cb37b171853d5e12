"""The ledger: what was asked, decided, sent, paid and proven. One seam, `Ledger`."""

from __future__ import annotations

from typing import Literal, Protocol

from mcp_tierkit.receipts import Alone, Weighed
from mcp_tierkit.types import (
    Billing,
    Budgets,
    Call,
    CallStatus,
    Check,
    Draft,
    Handoff,
    PlaybookRun,
    Record,
    Request,
    Review,
    Route,
    Score,
    Spend,
    Task,
    TaskState,
)


class Standing(Record):
    """Where a task stands: who works on it and the last reply it gave."""

    task_id: str
    state: TaskState
    reply: str | None = None
    cancel_requested: bool = False


class Row(Record):
    """A call as reports see it."""

    call_id: str
    task_id: str
    stage: str
    tier: str
    model: str
    status: CallStatus
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    cost_nanousd: int | None
    reserved_nanousd: int | None
    billing: Billing | None = None
    alert: str | None = None


TextKind = Literal["prompt", "reply", "reasoning"]


class Ledger(Protocol):
    """Every method may raise LedgerError (newer schema, unwritable file). Unknown task ids raise NotFound."""

    async def open_task(self, task: Task) -> None: ...
    async def task(self, task_id: str) -> Task: ...
    async def route(self, route: Route) -> None: ...
    async def latest_route(self, task_id: str) -> Route:
        """What was last decided about doing the task; what allowed a review of it is left out."""
        ...

    async def save(self, record: Handoff | Draft | Review | PlaybookRun | Score) -> None: ...
    async def handoff(self, task_id: str) -> Handoff: ...
    async def drafts(self, task_id: str) -> tuple[Draft, ...]: ...
    async def reviews(self, task_id: str) -> tuple[Review, ...]: ...
    async def playbook_runs(self, task_id: str) -> tuple[PlaybookRun, ...]: ...
    async def score(self, task_id: str) -> Score | None: ...

    async def may_admit(self, request: Request, worst_nanousd: int | None, budgets: Budgets) -> bool:
        """False where `reserve` would refuse at once, as things stand now: a look, which holds and writes nothing."""
        ...

    async def reserve(self, request: Request, worst_nanousd: int | None, budgets: Budgets) -> str:
        """A call id, once the row is on disk. Raises OverBudget, and then there is no row.

        Where only calls in flight stand in the way, it waits for them: seconds, and as cancellable as any wait.
        """
        ...

    async def settle(self, call_id: str, call: Call) -> None: ...
    async def spend(self, task_id: str) -> Spend: ...
    async def has_earlier_receipt(self, task_id: str) -> bool:
        """Whether any other task made a call and ended by itself, so that its caller was told what it cost."""
        ...

    async def calls(self, task_id: str) -> tuple[Row, ...]: ...
    async def weigh(self, task_id: str, weighed: Weighed) -> None:
        """Keep what the net of the task's newest receipt is made of. Replies show it rounded; reports sum this."""
        ...

    async def weighed(self, task_id: str) -> tuple[Weighed | None, tuple[int, int] | None]:
        """The same, read back, and the tokens that its caller read and wrote so far; None where no round is counted."""
        ...

    async def is_reverted(self, task_id: str) -> bool:
        """Whether the newest change that the task handed over was taken back."""
        ...

    async def keep_alone(self, task_id: str, own: Alone, schemas: int) -> None:
        """Keep what the work of the newest change is to its caller alone, in tokens, and those of our schemas."""
        ...

    async def alone(self, task_id: str) -> Alone | None:
        """The same, read back."""
        ...

    async def passed(self, task_id: str, *, read: int, wrote: int, nanousd: int | None) -> None:
        """Add what a round without a receipt put through the caller: tokens, and their price where it is known."""
        ...

    async def keep_text(self, call_id: str, kind: TextKind, text: str) -> None:
        """Keep a text of a call, secrets taken out: a scratchpad's reasoning always, the others with `log_text`."""
        ...

    async def texts(self, task_id: str) -> tuple[tuple[str, TextKind, str], ...]:
        """Kept texts of a task as call id, kind and text, in the order they were kept."""
        ...

    async def proven_checks(self, project: str, limit: int) -> tuple[Check, ...]:
        """Different checks that proved applied changes of a project, newest first."""
        ...

    async def claim(self, task_id: str) -> bool:
        """Take the task for this process: True, or False while another live process holds it."""
        ...

    async def finish(self, task_id: str, state: TaskState, reply: str) -> None: ...
    async def standing(self, task_id: str) -> Standing: ...
    async def request_cancel(self, task_id: str) -> None: ...
    async def sweep(self) -> tuple[str, ...]:
        """Close what dead owners left: reserved calls and running tasks become `interrupted`. Task ids touched."""
        ...

    async def close(self) -> None: ...
