"""What a call is said to have cost, and what happens when another model answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.failures import Trouble, failure
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.kit import open_kit
from mcp_tierkit.ledger import Row
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.metering import call_model
from mcp_tierkit.served import is_same_model
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import Message, Route, Task
from tests.support import RIGHT, desk_at, make_config, make_project, said

pytestmark = pytest.mark.anyio
UNCHECKED: dict[str, Any] = {"task": "Take the discount as a percentage.", "files": ["shop/cart.py"]}


@pytest.mark.parametrize(
    ("reported", "paid"),
    [(None, 200_000), (0, 200_000), (123_456, 123_456)],
    ids=["nothing", "a zero, which says nothing", "an amount, which is preferred"],
)
async def test_the_cost_of_a_call_where_the_provider_states(tmp_path: Path, reported: int | None, paid: int) -> None:
    row = await drafted(tmp_path, reported)
    assert (row.status, row.cost_nanousd) == ("settled", paid)


async def drafted(tmp_path: Path, reported: int | None) -> Row:
    reply = said(RIGHT).model_copy(update={"reported_cost_nanousd": reported})
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    async with desk_at(config, ScriptedGateway([reply])) as desk:
        done = await desk.draft(DraftCall(**UNCHECKED))
        [row] = await desk.kit.ledger.calls(done["task_id"])
    return row


@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("openai/gpt-5.4", "gpt-5.4", True),
        ("openai/gpt-5.4", "gpt-5.4-2026-03-05", True),
        ("mistral/mistral-small-latest", "mistral-small-2603", True),
        ("openrouter/anthropic/claude-haiku-5-5", "anthropic/claude-haiku-5-5-20261001", True),
        ("openai/gpt-5.4", "an-alias", True),
        ("openai/gpt-5.4", None, True),
        ("openai/gpt-5.4", "gpt-5.4-mini", False),
        ("openai/gpt-5.4-mini", "gpt-5.4", False),
        ("anthropic/claude-haiku-5-5", "claude-opus-5-5", False),
    ],
)
def test_a_served_name_is_the_asked_one_a_dated_form_of_it_or_listed(
    asked: str, served: str | None, same: bool
) -> None:
    tier = Tier(
        name="cheap", model=asked, requested_model=asked, price=None, served=("an-alias",), max_output_tokens=1,
        timeout_s=1, scratchpad=False, source="config",
    )  # fmt: skip
    assert is_same_model(tier, served) is same


@pytest.mark.parametrize("check", [{"argv": "pytest", "sk-live-key": 1}, {"argv": 5}, {"cwd": "x"}])
def test_a_check_that_is_refused_repeats_nothing_of_the_callers(check: dict[str, Any]) -> None:
    from mcp_tierkit.checks import parse_check

    with pytest.raises(InvalidInput) as refused:
        parse_check(check)
    assert "sk-live-key" not in str(refused.value)
    assert "Input should" not in str(refused.value)


@pytest.mark.parametrize(("was_sent", "cost"), [(False, 0), (True, None)])
async def test_a_call_whose_time_ran_out_cost_nothing_only_where_it_was_never_sent(
    tmp_path: Path, was_sent: bool, cost: int | None
) -> None:
    """A library that takes seconds to get going must not leave a call of unknown cost on the ledger."""
    late = failure("openai/tiny-cheap", Trouble(was_sent=was_sent, broke="timeout"))
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    async with desk_at(config, ScriptedGateway([late])) as desk:
        done = await desk.draft(DraftCall(**UNCHECKED))
        [row] = await desk.kit.ledger.calls(done["task_id"])
    assert (row.status, row.cost_nanousd) == ("failed", cost)
    assert ("No model was called." in done["summary"]) is not was_sent


async def test_a_call_that_was_cancelled_while_the_ledger_was_busy_is_not_sent_and_costs_nothing(
    tmp_path: Path,
) -> None:
    """Otherwise its worst case stays counted against every budget for a request that nobody ever made."""
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    scope, armed = anyio.CancelScope(), list[bool]()

    def clock() -> datetime:
        if armed:  # In the ledger's thread, with the row about to be written.
            anyio.from_thread.run_sync(scope.cancel)
        return datetime.now(UTC)

    gateway = ScriptedGateway([said(RIGHT)])
    kit = open_kit(config, gateway=gateway)
    kit.ledger = open_ledger(config.ledger_url, state_dir=config.state_dir, clock=clock)
    route = Route(route_id="r1", task_id="t1", decision="draft", tier="cheap", rule="r", reason="r")
    await kit.ledger.open_task(Task(task_id="t1", project="/p", goal="g", created_at=datetime.now(UTC)))
    await kit.ledger.route(route)
    tier, said_to = await kit.tier("cheap"), (Message(role="user", content="Do it."),)
    armed.append(True)
    with scope:
        await call_model(kit, route, tier, stage="draft", messages=said_to, prompt_id="p")
    armed.clear()
    [row] = await kit.ledger.calls("t1")
    await kit.ledger.close()
    assert scope.cancelled_caught
    assert (row.status, row.cost_nanousd, gateway.requests) == ("cancelled", 0, [])
