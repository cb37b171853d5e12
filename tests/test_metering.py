"""What a call is said to have cost, and what happens when another model answers."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from mcp.types import TextContent

from mcp_tierkit import gateway
from mcp_tierkit.calls import DraftCall
from mcp_tierkit.config import load_config
from mcp_tierkit.errors import InvalidInput, ModelFailed
from mcp_tierkit.failures import Trouble, failure
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.kit import open_kit
from mcp_tierkit.ledger import Ledger, Row
from mcp_tierkit.ledger.levers import savings
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.metering import call_model
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.served import alert, is_same_model
from mcp_tierkit.tiers import Tier, survey
from mcp_tierkit.types import Budgets, Call, Completion, Message, Request, Route, Task, Usage
from tests.support import RIGHT, client_at, desk_at, make_config, make_env, make_project, said

pytestmark = pytest.mark.anyio
PRICE = 'price = { input = "0.10", output = "0.50", cache_read = "0.01" }'
UNCHECKED: dict[str, Any] = {"task": "Take the discount as a percentage.", "files": ["shop/cart.py"]}


@pytest.mark.parametrize(
    ("reported", "paid"),
    [(None, 200_000), (0, 200_000), (123_456, 123_456)],
    ids=["nothing", "a zero, which says nothing", "an amount, which is preferred"],
)
async def test_the_cost_of_a_call_where_the_provider_states(tmp_path: Path, reported: int | None, paid: int) -> None:
    row = await drafted(tmp_path, reported)
    assert (row.status, row.cost_nanousd) == ("settled", paid)


@pytest.mark.parametrize(("stated", "is_told"), [(300_000, False), (300_001, True), (999_000_000_000, True)])
async def test_a_bill_far_above_the_list_is_paid_and_told(tmp_path: Path, stated: int, is_told: bool) -> None:
    row = await drafted(tmp_path, stated)
    assert row.cost_nanousd == stated
    said_of = row.alert or ""
    assert ("its provider states $" in said_of, "puts at $0.0002" in said_of) == (is_told, is_told)


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
        ("openrouter/anthropic/claude-sonnet-4.6", "anthropic/claude-4.6-sonnet-20260217", True),  # As recorded.
        ("anthropic/claude-opus-4-5", "claude-5-4-opus-20260217", False),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", True),
        ("openai/gpt-4", "gpt-4-1106-preview", False),
        ("openai/qwen3-7b", "qwen-37b", False),
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
    scope, ticks = anyio.CancelScope(), list[bool]()

    def clock() -> datetime:
        # In the ledger's thread: first for a look at what is left, then with the row about to be written.
        ticks.append(True)
        if len(ticks) == 2:
            anyio.from_thread.run_sync(scope.cancel)
        return datetime.now(UTC)

    scripted = ScriptedGateway([said(RIGHT)])
    kit = open_kit(config, gateway=scripted)
    kit.ledger = open_ledger(config.ledger_url, state_dir=config.state_dir, clock=clock)
    route = Route(route_id="r1", task_id="t1", decision="draft", tier="cheap", rule="r", reason="r")
    await kit.ledger.open_task(Task(task_id="t1", project="/p", goal="g", created_at=datetime.now(UTC)))
    await kit.ledger.route(route)
    tier, said_to = await kit.tier("cheap"), (Message(role="user", content="Do it."),)
    ticks.clear()
    with scope:
        await call_model(kit, route, tier, stage="draft", messages=said_to, prompt_id="p")
    [row] = await kit.ledger.calls("t1")
    await kit.ledger.close()
    assert scope.cancelled_caught
    assert (row.status, row.cost_nanousd, scripted.requests) == ("cancelled", 0, [])


async def test_who_leaves_while_the_library_loads_holds_no_budget_and_owes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds on the first call, and nothing was sent by then."""
    loads, may_end = threading.Event(), threading.Event()

    class Slow:
        def __enter__(self) -> None:
            loads.set()
            may_end.wait()
            raise ImportError  # In a thread that nobody waits for any more.

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(gateway, "_loading", Slow())
    monkeypatch.setattr(gateway, "_loaded", None, raising=False)
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    try:
        async with client_at(config) as client:
            told = await client.call_tool("draft_with_cheap_model", UNCHECKED | {"wait_s": 0})
            assert told.structured_content is not None
            task_id = told.structured_content["task_id"]
            await anyio.to_thread.run_sync(loads.wait)
            with reading(config.ledger_url) as conn:
                while_it_loads = conn.execute("select status from calls").fetchall()
            ended = await client.call_tool("get_task", {"task_id": task_id, "cancel": True})
    finally:
        may_end.set()
    assert ended.structured_content is not None
    with reading(config.ledger_url) as conn:
        assert (while_it_loads, conn.execute("select * from calls").fetchall()) == ([], [])
    assert ended.structured_content["state"] == "cancelled"


@pytest.mark.parametrize(
    ("limits", "settled", "flying", "loaded"),
    [
        ('task_usd = "0.000001"', 0, 0, False),
        ('day_usd = "0.006"', 0, 0, True),
        ('day_usd = "0.006"', 5_000_000, 0, False),
        ('day_usd = "0.006"', 0, 5_000_000, True),
    ],
    ids=["no room ever", "room", "spent", "outstanding, which may yet settle for less"],
)
async def test_a_call_that_no_settlement_can_make_room_for_is_refused_before_the_library_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: str, settled: int, flying: int, loaded: bool
) -> None:
    """It loads for seconds, which nobody should wait for to be told no."""
    loads: list[str] = []

    class Noted:
        def __enter__(self) -> None:
            loads.append("loaded")
            raise ModelFailed("It loads.", next_step="Stop here.", kind="other")

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(gateway, "_loading", Noted())
    monkeypatch.setattr(gateway, "_loaded", None)
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home", toml=f"[budget]\n{limits}\n")
    async with client_at(config) as client:
        kit = open_kit(config)
        await routed_call(kit.ledger, settled, flying)
        told = await client.call_tool("draft_with_cheap_model", UNCHECKED)
        await kit.ledger.close()
    assert loads == ["loaded"] * loaded
    assert told.structured_content is not None
    assert told.structured_content["status"] == ("needs_work" if loaded else "over_budget")


async def routed_call(ledger: Ledger, settled: int, flying: int) -> None:
    """Calls of another task: one that has cost something, one that is in flight."""
    await ledger.open_task(Task(task_id="t0", project="/p", goal="g", created_at=datetime.now(UTC)))
    await ledger.route(Route(route_id="r0", task_id="t0", decision="draft", tier="cheap", rule="r", reason="r"))
    asked = Request(
        task_id="t0", route_id="r0", stage="draft", tier="cheap", model="m", messages=(), max_output_tokens=1,
        timeout_s=1, prompt_id="draft.v1@a",
    )  # fmt: skip
    paid = await ledger.reserve(asked, settled, Budgets())
    await ledger.settle(paid, Call(status="settled", cost_nanousd=settled))
    await ledger.reserve(asked, flying, Budgets())


def rewrite(env: dict[str, str], old: str, new: str) -> None:
    settings = Path(env["TIERKIT_CONFIG"])
    settings.write_text(settings.read_text().replace(old, new))


@pytest.mark.parametrize(
    "priced",
    ['price = { input = "1", output = "9999999" }', 'hour_usd = "9999999"\ntimeout_s = 3600'],
    ids=["tokens", "time"],
)
async def test_a_price_that_cannot_be_meant_is_refused_before_anything_is_sent(tmp_path: Path, priced: str) -> None:
    """Else some thousands of such calls are more than the ledger's sums can hold."""
    env = make_env(tmp_path / "home", toml='[budget]\nproject_usd = "9999999"\n')
    rewrite(env, PRICE, priced)
    config, scripted = load_config(project=str(make_project(tmp_path / "app")), env=env), ScriptedGateway([said(RIGHT)])
    async with client_at(config, scripted) as client:
        refused = await client.call_tool("draft_with_cheap_model", UNCHECKED)
    [block] = refused.content
    assert isinstance(block, TextContent)
    assert (refused.is_error, scripted.requests) == (True, [])
    assert re.search(
        r"By its price, one call to 'openai/tiny-cheap' could cost \$\d{5,}[\d.]*\. Nothing was sent or spent\. "
        r"Ask the user to correct that price in tierkit\.toml: tokens are in dollars per million, hour_usd is in "
        r"dollars\.$",
        block.text,
    ), block.text


# --- a price that does not name all that was used


async def settled(home: Path, usage: Usage, *, model: str, price: str = "") -> tuple[Row, Any]:
    """The row of one call that used so many tokens, and the receipt of its task."""
    env = make_env(home)
    rewrite(env, PRICE, price)
    rewrite(env, "openai/tiny-cheap", model)
    config = load_config(project=str(make_project(home / "app")), env=env)
    reply = said(RIGHT).model_copy(update={"usage": usage, "served_model": model.partition("/")[2]})
    async with desk_at(config, ScriptedGateway([reply])) as desk:
        done = await desk.draft(DraftCall(**UNCHECKED))
        [row] = await desk.kit.ledger.calls(done["task_id"])
    return row, done["receipt"]


OWN = 'price = { input = "1", output = "4" }'


@pytest.mark.parametrize(
    ("price", "cost"),
    [(OWN, 2_400_000), (OWN.replace(" }", ', cache_read = "0.1" }'), 1_950_000)],
    ids=["no rate for cached input: as fresh", "a rate of its own"],
)
async def test_cached_input_costs_what_fresh_input_does_where_the_users_price_names_nothing_else(
    tmp_path: Path, price: str, cost: int
) -> None:
    usage = Usage(input=1_500, cached_input=500, cache_write=0, output=100)
    row, told = await settled(tmp_path, usage, model="openai/large-1", price=price)
    assert (row.cost_nanousd, told["measured"]["usd"]) == (cost, f"{cost / 1e9:.6f}".rstrip("0"))
    assert "unpriced_calls" not in told["measured"]


async def test_what_was_written_to_a_cache_without_a_rate_may_cost_all_that_was_reserved(tmp_path: Path) -> None:
    fresh, _ = await settled(tmp_path / "a", Usage(input=2_000, output=100), model="openai/large-1", price=OWN)
    written, _ = await settled(
        tmp_path / "b", Usage(input=1_500, cached_input=0, cache_write=500, output=100), model="openai/large-1",
        price=OWN,
    )  # fmt: skip
    assert fresh.cost_nanousd is written.cost_nanousd is None
    assert written.reserved_nanousd == fresh.reserved_nanousd
    assert (written.reserved_nanousd or 0) > 2_400_000


@pytest.mark.parametrize(
    ("usage", "most"),
    [
        (Usage(input=1_500, cached_input=500, cache_write=0, output=100), 2_000 * 50 + 100 * 400),
        (Usage(input=1_500, cached_input=500, cache_write=0, output=9_999_999), None),
        (Usage(input=1_500, cached_input=None, cache_write=0, output=100), None),
        (Usage(input=1_500, cached_input=500, cache_write=0, output=100, level="priority"), None),
        (Usage(), None),
    ],
    ids=["all tokens", "more than was reserved", "not what was cached", "dearer service", "nothing"],
)
async def test_a_reply_of_unknown_cost_counts_in_budgets_as_the_most_that_its_tokens_can_cost(
    tmp_path: Path, usage: Usage, most: int | None
) -> None:
    """This model's list names no rate for cached input, so a call that read some has no known cost."""
    row, told = await settled(tmp_path / "a", usage, model="dashscope/qwen-flash")
    untold, _ = await settled(tmp_path / "b", Usage(), model="dashscope/qwen-flash")
    assert (row.cost_nanousd, told["measured"]["unpriced_calls"]) == (None, 1)
    assert (untold.reserved_nanousd or 0) > 1_000_000
    assert row.reserved_nanousd == (untold.reserved_nanousd if most is None else most)


# --- what a provider's cache saved


HAIKU = "anthropic/claude-haiku-5-5"
"""Above 100,000 tokens of input it costs 0.5 a million, 0.05 of them from the cache."""


@pytest.mark.parametrize(
    ("usage", "stated", "saved"),
    [
        (Usage(input=50_000, cached_input=250_000, cache_write=0, output=100), None, 250_000 * 450),
        (Usage(input=50_000, cached_input=10_000, cache_write=0, output=100), None, 10_000 * 90),
        (Usage(input=50_000, cached_input=0, cache_write=10_000, output=100), None, -10_000 * 25),
        (Usage(input=50_000, cached_input=0, cache_write=10_000, cache_write_1h=4_000, output=100), None, -550_000),
        (Usage(input=50_000, cached_input=10_000, cache_write=0, output=100), 4_000_000, None),
        (Usage(input=50_000, cached_input=None, cache_write=0, output=100), None, None),
        (Usage(input=50_000, cached_input=0, cache_write=0, output=100), None, 0),
    ],
    ids=[
        "a long call", "a short one", "a written one", "in part for an hour", "a stated cost",
        "nobody says what was cached", "no cache",
    ],
)  # fmt: skip
async def test_what_a_cache_saved_is_the_cost_with_all_input_fresh_less_the_cost(
    tmp_path: Path, usage: Usage, stated: int | None, saved: int | None
) -> None:
    env = make_env(tmp_path / "home")
    rewrite(env, PRICE, "")
    rewrite(env, "openai/tiny-cheap", HAIKU)
    config = load_config(project=str(make_project(tmp_path / "app")), env=env)
    told = {"usage": usage, "reported_cost_nanousd": stated, "served_model": "claude-haiku-5-5"}
    async with desk_at(config, ScriptedGateway([said(RIGHT).model_copy(update=told)])) as desk:
        await desk.draft(DraftCall(**UNCHECKED))
    with reading(config.ledger_url) as conn:
        [kept] = conn.execute("select cache_saved_nanousd from calls").fetchone()
        [summed] = conn.execute("select cache_nanousd from task_sums").fetchone()
        assert savings(conn).cache_elsewhere_nanousd + sum(
            one.low for one in savings(conn).levers if one.lever == "provider_cache"
        ) == (saved or 0)
    assert (kept, summed) == (saved, saved or 0)


# --- a model that nobody named


@pytest.mark.parametrize(
    ("asked", "served", "is_told"),
    [
        ("openai/large-1", "mystery-9", True),
        ("openai/large-1", "large-12", True),
        ("openai/large-1", "large-1-mini", True),
        ("openai/large-1", "large-1", False),
        ("openai/large-1", "house/large-1-2026-10-05", False),
        ("openai/large-1", "/models/Large-1-Q4_K_M.gguf", False),
        ("openai/large-1", "large-1:30b-q8_0", False),
        ("openai/house/large-1", "house/large-1-fp8", False),
        ("openai/large-1-awq", "large-1", False),
        ("openai/large-1", "house-alias", False),
        ("openai/large-1", None, False),
    ],
)
@pytest.mark.parametrize("pays", [OWN, 'billing = "subscription"'], ids=["tokens", "quota"])
async def test_a_model_that_nobody_named_does_not_answer_in_silence_at_an_address_of_ones_own(
    tmp_path: Path, asked: str, served: str | None, is_told: bool, pays: str
) -> None:
    env = make_env(tmp_path / "home")
    rewrite(env, PRICE, f'{pays}\nserved = ["house-alias"]')
    rewrite(env, "openai/tiny-cheap", asked)
    tier = survey(load_config(project=str(make_project(tmp_path / "app")), env=env)).tiers["cheap"]
    prices = PriceTable()
    told = alert(prices, tier, Completion(text="", served_model=served, usage=Usage(input=10, output=10)))
    as_that = " and was priced as that" if pays == OWN else ""
    way_out = "If it is meant, add it to `served` of [tiers.cheap]."
    assert told == (f"{served} answered where the cheap tier names {asked}{as_that}. {way_out}" if is_told else None)
    assert alert(prices, tier.model_copy(update={"billing": "local"}), Completion(text="", served_model=served)) is None


async def test_the_reply_of_a_draft_names_the_model_that_nobody_named(tmp_path: Path) -> None:
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    stranger = said(RIGHT).model_copy(update={"served_model": "mystery-9"})
    async with client_at(config, ScriptedGateway([stranger])) as client:
        reply = (await client.call_tool("draft_with_cheap_model", UNCHECKED)).structured_content
    assert reply is not None
    assert reply["alert"].startswith("mystery-9 answered where the cheap tier names openai/tiny-cheap and was priced")
