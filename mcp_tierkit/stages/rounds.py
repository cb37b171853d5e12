"""What passes through the caller, round by round: what it wrote counts when it arrives, what it reads when it is sent.

A reply with a receipt counts itself, in that receipt. Everything else that the rounds of a draft or a review tell is
counted here, so that one which is refused, fails or is cancelled is in the next receipt and in the report as well.
What a person types and reads at a terminal costs no agent a token, so nothing of it is counted. Each round goes by its
own door, and the plan is one: an agent's plan counts though a person has it drafted.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from anyio import to_thread

from mcp_tierkit.calls import DraftCall, ReviewCall, TaskCall
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.kit import Kit
from mcp_tierkit.prices import Price
from mcp_tierkit.receipts import handover_cost
from mcp_tierkit.reply import plan_reply
from mcp_tierkit.tokens import count

PLAN_FIELDS = {
    "files", "context", "steps", "acceptance", "out_of_scope", "constraints", "checks", "assume",
}  # fmt: skip
AT_TERMINAL = "mcp-tierkit/terminal"
"""The client of tasks that a person began at a terminal."""


async def note_asked(kit: Kit, task_id: str, call: DraftCall | ReviewCall) -> None:
    """Count what the caller wrote to ask for a round; with the first one of a task that an agent planned, its plan.

    Where that cannot be done, as for an unknown task, the round itself says why.
    """
    with suppress(TierkitError):
        read, wrote = (0, 0) if call.task_id is None else await _plan_of(kit, task_id)
        if kit.door != "terminal":
            wrote += await _written(call)
        await _note(kit, task_id, read=read, wrote=wrote)


async def note_told(
    kit: Kit, task_id: str, said: TierkitError | dict[str, Any], *, asked: TaskCall | None = None
) -> None:
    """Count what the caller reads of a round's end, with what it wrote to fetch that, where it was `asked` for.

    Nothing is counted for a task that was neither drafted nor reviewed. No failure of the ledger hides what is told.
    """
    if kit.door == "terminal":
        return
    with suppress(TierkitError):
        if (await kit.ledger.weighed(task_id))[1] is None:
            return
        if isinstance(said, TierkitError):
            read = await _tokens(f"{said.code}: {said}")
        else:
            read = 0 if "receipt" in said else await to_thread.run_sync(tokens_of, said)
        await _note(kit, task_id, read=read, wrote=0 if asked is None else await _written(asked))


@asynccontextmanager
async def refusals_counted(kit: Kit, task_id: str | None) -> AsyncIterator[None]:
    """Whatever the block refuses is read by the caller, and counted for the task."""
    try:
        yield
    except TierkitError as error:
        if task_id is not None:
            await note_told(kit, task_id, error)
        raise


def tokens_of(reply: dict[str, Any]) -> int:
    """A reply as clients show it: JSON without spaces."""
    return count(json.dumps(reply, ensure_ascii=False, separators=(",", ":"))).tokens


def caller_price(kit: Kit) -> Price | None:
    """What the caller's model costs today; None where none is named, or it has no price."""
    model = kit.config.caller.model
    return kit.prices.price(model) if model else None


async def _plan_of(kit: Kit, task_id: str) -> tuple[int, int]:
    """What an agent read and wrote for the plan; nothing where that was counted before, or a person planned."""
    task = await kit.ledger.task(task_id)
    if task.client == AT_TERMINAL or (await kit.ledger.weighed(task_id))[1] is not None:
        return 0, 0
    route = await kit.ledger.latest_route(task_id)
    asked = task.model_dump_json(include={"goal", *PLAN_FIELDS}, exclude_defaults=True)
    return await to_thread.run_sync(tokens_of, plan_reply(route, None, None)), await _tokens(asked)


async def _written(call: DraftCall | ReviewCall | TaskCall) -> int:
    return await _tokens(call.model_dump_json(exclude_defaults=True))


async def _tokens(text: str) -> int:
    # In a thread: the first count loads a vocabulary.
    return (await to_thread.run_sync(count, text)).tokens


async def _note(kit: Kit, task_id: str, *, read: int, wrote: int) -> None:
    if not (read or wrote):
        return
    price = caller_price(kit)
    nanousd = None if price is None else handover_cost(price, arguments=wrote, reply=read, schemas=0)
    await kit.ledger.passed(task_id, read=read, wrote=wrote, nanousd=nanousd)
