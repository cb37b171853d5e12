"""What a task put through its caller, against what a client wrote and read: rounds without a receipt included."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import TextContent

from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.levers import savings
from mcp_tierkit.ledger.money import weighed
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.tokens import count
from tests.support import JOB, RIGHT, client_at, make_config, make_project, said

pytestmark = pytest.mark.anyio
NEAR = 4
"""A receipt is a part of the reply that it counts."""


class Meter:
    """A client's own books: tokens of the arguments it sent and of the texts it was shown."""

    def __init__(self, client: Client) -> None:
        self.client, self.wrote, self.read = client, 0, 0

    def agrees(self, told: Sequence[int]) -> bool:
        return abs(told[0] - self.read) <= NEAR and abs(told[1] - self.wrote) <= NEAR

    async def __call__(self, tool: str, /, **arguments: Any) -> Any:
        result = await self.client.call_tool(tool, arguments)
        [shown] = result.content
        assert isinstance(shown, TextContent)
        self.wrote += count(json.dumps(arguments, separators=(",", ":"))).tokens
        self.read += count(shown.text).tokens
        return shown.text if result.is_error else json.loads(shown.text)


def counted(conn: sqlite3.Connection) -> tuple[int, int]:
    read, wrote = conn.execute("select sum(caller_read), sum(caller_wrote) from task_sums").fetchone()
    return read, wrote


async def test_rounds_that_end_in_a_refusal_are_in_the_callers_figures_and_in_the_net(tmp_path: Path) -> None:
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    price = PriceTable().price("claude-opus-5-5")
    async with client_at(config, ScriptedGateway([said(RIGHT)])) as client:
        ask = Meter(client)
        drafted = await ask("draft_with_cheap_model", **JOB)
        task_id = drafted["task_id"]
        with reading(config.ledger_url) as conn:
            before, _ = weighed(conn, task_id)
            assert ask.agrees(counted(conn))
        read, wrote = ask.read, ask.wrote
        for tool, more in (
            ("draft_with_cheap_model", {}),  # it has had its draft
            ("draft_with_cheap_model", {"files": ["shop/cart.py"]}),  # the plan's own
            ("review_diff", {"diff": "nothing.patch"}),
            ("review_diff", {"diff": "HEAD..HEAD"}),  # empty, found out at work
            ("get_task", {}),  # the same refusal, read again
        ):
            refused = await ask(tool, task_id=task_id, **more)
            assert isinstance(refused, str), refused
    with reading(config.ledger_url) as conn:
        kept, spend = weighed(conn, task_id)
        found = savings(conn, caller_price=price)
        assert ask.agrees(counted(conn))
    assert before is not None
    assert kept is not None
    more_paid = (ask.read - read) * 4000 + (ask.wrote - wrote) * 20_000  # dollars a million: 4 in, 20 out
    assert ask.read - read > 100
    assert kept.passed == before.passed + more_paid
    assert found.net_nanousd == kept.net(spend)


async def test_a_receipt_counts_the_rounds_before_it_that_ran_on_failed_or_were_cancelled(tmp_path: Path) -> None:
    config, held = make_config(make_project(tmp_path / "app"), tmp_path / "home"), anyio.Event()
    gateway = ScriptedGateway([said(RIGHT)], gate=held.wait)
    async with client_at(config, gateway) as client:
        ask = Meter(client)
        running = await ask("draft_with_cheap_model", **JOB, wait_s=0)
        task_id = running["task_id"]
        with anyio.fail_after(60):
            while not gateway.requests:
                await ask("get_task", task_id=task_id, wait_s=0.1)
            assert (await ask("get_task", task_id=task_id, cancel=True))["state"] == "cancelled"
        with reading(config.ledger_url) as conn:
            assert ask.agrees(counted(conn))
        held.set()
        drafted = await ask("draft_with_cheap_model", task_id=task_id)
    assert drafted["status"] == "applied"
    assert ask.agrees(drafted["receipt"]["measured"]["caller_tokens"])


async def test_a_plan_counts_with_the_first_round_that_builds_on_it_and_once(tmp_path: Path) -> None:
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    failed = ModelFailed("The provider is down.", next_step="Try later.", kind="overloaded")
    async with client_at(config, ScriptedGateway([failed, said(RIGHT)])) as client:
        ask = Meter(client)
        planned = await ask("plan_task", **JOB)
        for status in ("needs_work", "applied"):
            drafted = await ask("draft_with_cheap_model", task_id=planned["task_id"])
            assert drafted["status"] == status
    read, wrote = drafted["receipt"]["measured"]["caller_tokens"]
    assert abs(ask.read - read) <= NEAR
    assert 0 <= wrote - ask.wrote < 15  # The plan's checks are counted as they are kept, split into words.
