"""Pins that hold and do not lie: who may call which tier, and what a call row says of the models behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from mcp_tierkit.calls import PlanCall
from mcp_tierkit.errors import ModelFailed, NoModel, OverBudget, PolicyRefused
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.kit import Kit, open_kit
from mcp_tierkit.ledger.report import overview, reading
from mcp_tierkit.metering import Metered, call_model
from mcp_tierkit.stages.plan import make_task, new_id
from mcp_tierkit.tiers import NAMES
from mcp_tierkit.types import Completion, Message, PackedFile, Route, Stage, TierName, Usage
from tests.support import make_env, make_project, said

pytestmark = pytest.mark.anyio

HELLO = (Message(role="system", content="Be brief."), Message(role="user", content="Hello."))
MID = """
[tiers.mid]
models = ["openai/tiny-mid"]
base_url = "http://127.0.0.1:9"
price = { input = "1", output = "5" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app", git=False)


@asynccontextmanager
async def kit_at(project: Path, toml: str, *replies: Completion | Exception, **env: str) -> AsyncIterator[Kit]:
    from mcp_tierkit.config import load_config

    config = load_config(project=str(project), env=make_env(project.parent / "home", toml=toml, **env))
    kit = open_kit(config, gateway=ScriptedGateway(replies))
    yield kit
    await kit.close()


async def routed(kit: Kit, *tiers: TierName, **fields: Any) -> Route:
    """The last of the routes of a new task, one for each tier; the last one is as `fields` say."""
    task = make_task(kit, PlanCall(task="Say hello."), None)
    await kit.ledger.open_task(task)
    for at, tier in enumerate(tiers, 1):
        given = {"decision": "draft", "rule": "x", "reason": "y"} | (fields if at == len(tiers) else {})
        route = Route(route_id=new_id("r"), task_id=task.task_id, tier=tier, **given)
        await kit.ledger.route(route)
    return route


async def ask(kit: Kit, route: Route, stage: Stage = "draft", **given: Any) -> Metered:
    assert route.tier
    tier = await kit.tier(route.tier)
    return await call_model(kit, route, tier, stage=stage, messages=HELLO, prompt_id="p.v1@0", **given)


def rows(kit: Kit, query: str) -> list[dict[str, Any]]:
    with reading(kit.config.ledger_url) as conn:
        return [dict(row) for row in conn.execute(query)]


# --- which tier a stage may call


HIGHEST: dict[str, dict[Stage, TierName]] = {
    'climb = ["mid"]': {
        "draft": "cheap", "repair": "cheap", "climb": "mid", "continue": "mid", "review": "strong", "plan": "strong",
        "doctor": "strong", "playbook": "strong",
    },
    'draft = "mid"\nclimb = []\nreview = "mid"\nplan = "cheap"': {
        "draft": "mid", "repair": "mid", "climb": "mid", "continue": "mid", "review": "mid", "plan": "cheap",
        "doctor": "strong", "playbook": "strong",
    },
    'climb = ["strong"]\nreview = "cheap"': {
        "draft": "cheap", "repair": "cheap", "climb": "strong", "continue": "strong", "review": "cheap",
        "plan": "strong", "doctor": "strong", "playbook": "strong",
    },
}  # fmt: skip


@pytest.mark.parametrize("stages", HIGHEST)
async def test_a_stage_calls_no_tier_above_its_pin_and_spends_nothing_trying(project: Path, stages: str) -> None:
    replies = [said("Hi.")] * 50
    async with kit_at(project, f"{MID}[budget]\nbreaker = false\n[stages]\n{stages}\n", *replies) as kit:
        for stage in get_args(Stage):
            for tier in NAMES:
                route = await routed(kit, "cheap", tier, decision="review" if stage == "review" else "draft")
                pin = HIGHEST[stages][stage]
                if NAMES.index(tier) <= NAMES.index(pin):
                    await ask(kit, route, stage)
                    continue
                with pytest.raises(PolicyRefused) as refused:
                    await ask(kit, route, stage)
                assert f"A {stage} call is pinned to the {pin} tier at most" in refused.value.what
                assert await kit.ledger.calls(route.task_id) == ()
        sent = {(request.stage, request.tier) for request in kit.gateway.requests}  # type: ignore[attr-defined]
    assert sent == {(stage, tier) for stage, pin in HIGHEST[stages].items() for tier in NAMES[: NAMES.index(pin) + 1]}


async def test_a_call_above_its_pin_needs_an_override_that_is_on_the_ledger(project: Path) -> None:
    why = "The caller pinned strong for this task; the stage map says cheap."
    async with kit_at(project, "", said("Hi.")) as kit:
        await ask(kit, await routed(kit, "strong", override=why))
        assert rows(kit, "select kind, detail from decisions") == [
            {"kind": "override", "detail": f"draft on strong, x: {why}"}
        ]
        assert [row["tier"] for row in rows(kit, "select tier from calls")] == ["strong"]


async def test_a_reviewer_may_pass_a_pin_that_is_below_the_draft(project: Path) -> None:
    async with kit_at(project, '[stages]\ndraft = "strong"\nreview = "cheap"\n', said("Hi."), said("Hi.")) as kit:
        await ask(kit, await routed(kit, "strong", "strong", decision="review"), "review")
        with pytest.raises(PolicyRefused):  # the same pin where a cheap model drafted
            await ask(kit, await routed(kit, "cheap", "strong", decision="review"), "review")


# --- what a row says of the models


MODELS = """select tier, requested_model, routed_model, served_model, requested_price, routed_price, served_price,
    model_mismatch, alert from calls order by rowid"""
FALLBACK = (
    '[tiers.mid]\nmodels = ["deepseek/deepseek-v4-flash", "anthropic/claude-haiku-5-5"]\n[stages]\ndraft = "mid"\n'
)
KEY = {"ANTHROPIC_API_KEY": "sk-ant-api03-" + "A1b2C3d4" * 12}


def answered(served: str | None) -> Completion:
    return said("Hi.").model_copy(update={"served_model": served})


async def test_a_row_names_the_model_asked_for_the_one_sent_to_and_the_one_that_answered(project: Path) -> None:
    async with kit_at(project, FALLBACK, answered("claude-haiku-5-5-20261001"), **KEY) as kit:
        await ask(kit, await routed(kit, "mid"))
        listed = kit.prices.price("deepseek/deepseek-v4-flash")
        assert listed
        [row] = rows(kit, MODELS)
    assert row == {
        "tier": "mid", "requested_model": "deepseek/deepseek-v4-flash", "routed_model": "anthropic/claude-haiku-5-5",
        "served_model": "claude-haiku-5-5-20261001", "requested_price": f"{listed.input}/{listed.output}",
        "routed_price": "0.1/0.5", "served_price": "0.1/0.5", "model_mismatch": 0, "alert": None,
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["auth", "timeout", "bug", "cancelled"])
async def test_a_call_that_failed_names_what_was_wanted_and_its_price_too(project: Path, ending: str) -> None:
    errors: dict[str, Exception] = {
        "auth": ModelFailed("No.", next_step="Mend it.", kind="auth"),
        "timeout": ModelFailed("Late.", next_step="Wait.", kind="timeout"),
        "bug": RuntimeError("unforeseen"),
    }
    packed = (PackedFile(path="a.py", shown="whole", tokens=40), PackedFile(path="b.py", shown="left_out", tokens=900))
    async with kit_at(project, "", *([errors[ending]] if ending in errors else [])) as kit:
        route = await routed(kit, "cheap", category="tests")
        if ending == "cancelled":
            kit.gateway = ScriptedGateway(gate=anyio.sleep_forever)
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: ask(kit, route, packed=packed))
                await kit.gateway.begun()
                group.cancel_scope.cancel()
        else:
            with pytest.raises((ModelFailed, RuntimeError)):
                await ask(kit, route, packed=packed)
        [row] = rows(kit, MODELS)
        assert row == {
            "tier": "cheap", "requested_model": "openai/tiny-cheap", "routed_model": "openai/tiny-cheap",
            "served_model": None, "requested_price": "0.1/0.5", "routed_price": "0.1/0.5", "served_price": None,
            "model_mismatch": 0, "alert": None,
        }  # fmt: skip
        assert rows(kit, "select category, packed_tokens, status from calls") == [
            {"category": "tests", "packed_tokens": 40, "status": "cancelled" if ending == "cancelled" else "failed"}
        ]
        assert rows(kit, "select path, shown, tokens from packed_files") == [file.model_dump() for file in packed]


async def test_a_model_that_was_not_asked_for_stops_the_task_and_marks_the_row(project: Path) -> None:
    toml = '[tiers.mid]\nmodels = ["anthropic/claude-haiku-5-5"]\n[stages]\ndraft = "mid"\n'
    async with kit_at(project, toml, answered("claude-opus-5-5"), **KEY) as kit:
        with pytest.raises(ModelFailed, match="claude-opus-5-5 answered"):
            await ask(kit, await routed(kit, "mid"))
        [row] = rows(kit, MODELS)
    assert (row["model_mismatch"], row["served_price"]) == (1, "4/20")
    assert row["alert"] == (
        "claude-opus-5-5 answered at $4/20 a million tokens in and out; "
        "anthropic/claude-haiku-5-5, which the mid tier names, costs $0.1/0.5."
    )


# --- prices that are not those of the pin


@pytest.mark.parametrize(
    ("tier", "served", "alerted"),
    [
        ('models = ["anthropic/claude-haiku-5-5"]', "claude-haiku-5-5", False),
        ('models = ["anthropic/claude-haiku-5-5"]', None, False),
        ('models = ["anthropic/claude-haiku-5-5"]\nserved = ["claude-opus-5-5"]', "claude-opus-5-5", True),
        ('models = ["anthropic/claude-haiku-5-5"]\nserved = ["never-heard-of"]', "never-heard-of", False),
        ('models = ["anthropic/claude-opus-5-5"]\nserved = ["claude-haiku-5-5"]', "claude-haiku-5-5", False),
        # 4/20 is not over 1.5 times 2.7/14, and is over 1.5 times 2.6/14 by its input alone.
        ('models = ["anthropic/x"]\nserved = ["claude-opus-5-5"]\nprice = {input="2.7",output="14"}', "claude-opus-5-5",
         False),
        ('models = ["anthropic/x"]\nserved = ["claude-opus-5-5"]\nprice = {input="2.6",output="14"}', "claude-opus-5-5",
         True),
        # 20 is over 1.5 times 13.
        ('models = ["anthropic/x"]\nserved = ["claude-opus-5-5"]\nprice = {input="3",output="13"}', "claude-opus-5-5",
         True),
        # A price of the user's own is what they pay, whatever a list says of the dated name.
        ('models = ["anthropic/claude-sonnet-4-5"]\nprice = {input="0.1",output="0.1"}', "claude-sonnet-4-5-20250929",
         False),
        # The second of the list costs more than the first, whose key is not there.
        ('models = ["deepseek/deepseek-v4-flash", "anthropic/claude-opus-5-5"]', "claude-opus-5-5", True),
        ('models = ["deepseek/deepseek-v4-flash", "anthropic/claude-opus-5-5"]', None, True),
        # A server of the user's own calls its model what it likes.
        ('models = ["openai/local"]\nbase_url = "http://127.0.0.1:9"', "gpt-5.4", False),
        ('models = ["openai/small"]\nbase_url = "https://proxy.example"\nprice = {input="0.1",output="0.5"}',
         "claude-opus-5-5", True),
    ],
)  # fmt: skip
async def test_the_user_is_told_where_a_call_costs_over_one_and_a_half_times_the_pin(
    project: Path, tier: str, served: str | None, alerted: bool
) -> None:
    toml = f'[tiers.mid]\n{tier}\n[stages]\ndraft = "mid"\n'
    async with kit_at(project, toml, answered(served), **KEY) as kit:
        route = await routed(kit, "mid")
        metered = await ask(kit, route)
        [row] = await kit.ledger.calls(route.task_id)
        assert (metered.call.alert is not None, row.alert) == (alerted, metered.call.alert)
        with reading(kit.config.ledger_url) as conn:
            assert overview(conn).alerts == alerted


# --- models without a price


UNPRICED = '[tiers.mid]\nmodels = ["{model}"]\napi_key_env = "SOME_KEY"\n[stages]\ndraft = "mid"\n'
COUNTED = "[budget]\nbreaker = false\nunpriced_calls = 2\n[policy]\nallow_unpriced = true\n"


# The last two have a price in litellm's map that is not all they charge.
@pytest.mark.parametrize("model", ["openai/nobody-knows-it", "dashscope/qwen-plus-latest", "perplexity/pplx-7b-online"])
async def test_a_model_without_a_price_is_asked_only_where_allowed_and_as_often_as_counted(
    project: Path, model: str
) -> None:
    toml, key = UNPRICED.format(model=model), {"SOME_KEY": "x" * 30}
    async with kit_at(project, toml, **key) as kit:
        with pytest.raises(NoModel, match="whose price is unknown"):
            await ask(kit, await routed(kit, "mid"))
        assert rows(kit, "select * from calls") == []
    async with kit_at(project, toml + COUNTED, answered(None), answered(None), answered(None), **key) as kit:
        for _ in range(2):
            assert (await ask(kit, await routed(kit, "mid"))).call.cost_nanousd is None
        with pytest.raises(OverBudget) as refused:
            await ask(kit, await routed(kit, "mid"))
        assert (refused.value.budget, "2" in refused.value.what) == ("unpriced_calls", True)
        assert len(kit.gateway.requests) == 2  # type: ignore[attr-defined]
        assert rows(kit, "select sum(cost_nanousd) as paid, count(*) as calls from calls") == [
            {"paid": None, "calls": 2}
        ]


async def test_what_a_provider_keeps_for_an_hour_is_paid_at_the_rate_for_an_hour(project: Path) -> None:
    toml = '[tiers.mid]\nmodels = ["anthropic/claude-haiku-5-5"]\n[stages]\ndraft = "mid"\n'
    usage = Usage(input=300, cached_input=0, cache_write=700, cache_write_1h=500, output=500)
    async with kit_at(project, toml, answered(None).model_copy(update={"usage": usage}), **KEY) as kit:
        metered = await ask(kit, await routed(kit, "mid"))
    assert metered.call.cost_nanousd == 300 * 100 + 200 * 125 + 500 * 200 + 500 * 500


# --- texts


@pytest.mark.parametrize("log_text", [False, True])
async def test_prompt_and_reply_are_kept_only_where_the_user_says_so(project: Path, log_text: bool) -> None:
    secret = "sk-ant-api03-" + "Z9y8X7w6" * 12
    failed = ModelFailed("No.", next_step="Mend it.", kind="auth")
    env = {"TIERKIT_LOG_TEXT": str(log_text).lower()}
    async with kit_at(project, "", said(f"The key is {secret}."), failed, **env) as kit:
        route = await routed(kit, "cheap")
        first = (await ask(kit, route)).call_id
        with pytest.raises(ModelFailed) as refused:
            await ask(kit, route)
        kept = await kit.ledger.texts(route.task_id)
    prompt = "[system]\nBe brief.\n\n[user]\nHello."
    told = [(first, "prompt", prompt), (first, "reply", "The key is [redacted:anthropic-key]."),
            (refused.value.call_id, "prompt", prompt)]  # fmt: skip
    assert list(kept) == (told if log_text else [])
