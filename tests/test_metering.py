"""What a call is said to have cost, and what happens when another model answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.failures import Trouble, failure
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger import Row
from mcp_tierkit.served import is_same_model
from mcp_tierkit.tiers import Tier
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
