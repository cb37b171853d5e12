"""Tiers: which model stands behind each, who pays, and what to do where there is none."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from mcp_tierkit.config import Config, load_config
from mcp_tierkit.errors import NoModel, OverBudget
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.kit import open_kit
from mcp_tierkit.metering import call_model
from mcp_tierkit.prices import LOCAL_PRICE, PriceTable
from mcp_tierkit.providers import Provider, known
from mcp_tierkit.served import served_price
from mcp_tierkit.tiers import NAMES, Engine, Tier, no_model, survey
from mcp_tierkit.types import Call, Message, Route, Task
from tests.support import said

OLLAMA = Engine(
    name="Ollama", base_url="http://127.0.0.1:11434/v1", models=("nomic-embed-text", "big:cloud", "qwen3:8b")
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / ".config" / "tierkit").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    return tmp_path / "home"


def config(home: Path, text: str = "", **env: str) -> Config:
    (home / ".config" / "tierkit" / "tierkit.toml").write_text(text, "utf8")
    return load_config(project=str(home.parent / "work"), env={"HOME": str(home)} | env)


def reason(home: Path, text: str = "", **env: str) -> str:
    found = survey(config(home, text, **env))
    assert "cheap" not in found.tiers
    return found.missing["cheap"]


@pytest.mark.parametrize("provider", [p for p in known().provider if p.tiers], ids=lambda p: p.name)
def test_one_key_is_enough_for_every_tier_of_its_provider(home: Path, provider: Provider) -> None:
    for variable in provider.keys:
        tiers = survey(config(home, **{variable: "k"})).tiers
        assert {name: tier.model for name, tier in tiers.items()} == provider.tiers
        assert {tier.api_key_env for tier in tiers.values()} == {variable}
        assert {tier.source for tier in tiers.values()} == {"key"}
        assert all(tier.price is not None for tier in tiers.values())


@pytest.mark.anyio
async def test_a_refusal_for_want_of_a_key_says_that_the_file_of_keys_was_not_read(home: Path) -> None:
    keys = home / ".config" / "tierkit" / "keys.env"
    keys.write_text("SOME_KEY=k\n")
    keys.chmod(0o644)
    written = '[tiers.cheap]\nmodels = ["openai/x"]\napi_key_env = "SOME_KEY"\n'
    kit = open_kit(config(home, written, TIERKIT_STATE_DIR=str(home / "state")))
    with pytest.raises(NoModel, match=r"SOME_KEY is not set.*keys.env was not read.*chmod 600.*No model was called"):
        await kit.tier("cheap")
    await kit.close()


def test_of_several_keys_the_preferred_providers_is_spent(home: Path) -> None:
    tiers = survey(config(home, MISTRAL_API_KEY="m", ANTHROPIC_API_KEY="a")).tiers
    assert {tier.provider for tier in tiers.values()} == {"Anthropic"}


def test_a_key_goes_before_an_engine_and_an_engine_serves_all_three_tiers_for_nothing(home: Path) -> None:
    assert survey(config(home, OPENAI_API_KEY="k"), [OLLAMA]).tiers["cheap"].source == "key"
    tiers = survey(config(home), [Engine(name="vLLM", base_url="http://127.0.0.1:8000/v1", models=()), OLLAMA]).tiers
    assert set(tiers) == {"cheap", "mid", "strong"}
    assert tiers["cheap"] == Tier(
        name="cheap", model="openai/qwen3:8b", base_url=OLLAMA.base_url, price=LOCAL_PRICE, served=("qwen3:8b",),
        max_output_tokens=8000, thinking_tokens=4000, timeout_s=120, scratchpad=False, source="engine",
        provider="Ollama", requested_model="openai/qwen3:8b", billing="local",
    )  # fmt: skip


def test_an_engine_that_holds_only_embedders_or_cloud_models_is_no_tier(home: Path) -> None:
    assert survey(config(home), [Engine(name="Ollama", base_url=OLLAMA.base_url, models=OLLAMA.models[:2])]).tiers == {}


def test_what_the_user_wrote_wins_and_the_rest_comes_from_the_key(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["deepseek/deepseek-v4-flash"]\nserved = ["v4"]\n'
    text += "timeout_s = 9\nmax_output_tokens = 77\n"
    tiers = survey(config(home, text, OPENAI_API_KEY="o", DEEPSEEK_API_KEY="d")).tiers
    cheap = tiers["cheap"]
    assert (cheap.model, cheap.api_key_env, cheap.source) == (
        "deepseek/deepseek-v4-flash",
        "DEEPSEEK_API_KEY",
        "config",
    )
    assert (cheap.served, cheap.timeout_s, cheap.max_output_tokens) == (("v4",), 9, 77)
    assert tiers["mid"].api_key_env == "OPENAI_API_KEY"


def test_the_first_model_of_a_list_that_can_be_used_is_used(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["mistral/mistral-small-2603", "openai/unheard-of", "openai/gpt-6-luna"]\n'
    assert survey(config(home, text, OPENAI_API_KEY="k")).tiers["cheap"].model == "openai/gpt-6-luna"


def test_where_no_model_of_a_list_can_be_used_the_first_ones_reason_is_given(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["mistral/mistral-small-2603", "openai/unheard-of"]\n'
    assert "MISTRAL_API_KEY is not set" in reason(home, text, OPENAI_API_KEY="k")


def test_a_tier_that_the_user_wrote_is_never_replaced_by_another_model(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["anthropic/claude-haiku-5-5"]\n'
    assert "ANTHROPIC_API_KEY is not set" in reason(home, text, OPENAI_API_KEY="k")


def test_a_named_variable_without_a_key_makes_the_tier_unusable_and_is_named(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["openai/gpt-6-luna"]\napi_key_env = "MINE"\n'
    assert "MINE is not set" in reason(home, text, OPENAI_API_KEY="k")
    assert survey(config(home, text, MINE="k")).tiers["cheap"].api_key_env == "MINE"


def test_a_model_without_a_price_is_unusable_until_the_user_allows_or_prices_it(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["openai/unheard-of"]\n'
    assert "price is unknown" in reason(home, text, OPENAI_API_KEY="k")
    allowed = survey(config(home, text + "[policy]\nallow_unpriced = true\n", OPENAI_API_KEY="k")).tiers["cheap"]
    assert allowed.price is None
    priced = survey(config(home, text + 'price = { input = "1", output = "2" }\n', OPENAI_API_KEY="k")).tiers["cheap"]
    assert priced.price is not None
    assert priced.price.output == Decimal(2)


def test_a_model_of_a_provider_we_do_not_know_needs_its_key_named(home: Path) -> None:
    assert "api_key_env" in reason(home, '[tiers.cheap]\nmodels = ["nowhere/model"]\n')


def test_a_local_address_is_free_without_a_key_and_unpriced_with_one(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["openai/tiny"]\nbase_url = "http://127.0.0.1:9/v1"\n'
    assert survey(config(home, text)).tiers["cheap"].price == LOCAL_PRICE
    assert "price is unknown" in reason(home, text + 'api_key_env = "K"\n', K="k")
    assert "price is unknown" in reason(home, text.replace("127.0.0.1", "gpu.example.org"))


def test_an_address_of_the_users_never_gets_a_providers_key(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["openai/gpt-6-luna"]\nbase_url = "https://elsewhere.example/v1"\n'
    cheap = survey(config(home, text, OPENAI_API_KEY="k")).tiers["cheap"]
    assert cheap.api_key_env is None
    assert cheap.price is not None
    assert cheap.price.input == Decimal("0.1")


ELSEWHERE = """[tiers.cheap]
models = ["openai/gpt-6-luna"]
base_url = "https://elsewhere.example/v1"
price = { input = "0.001", output = "0.001" }
[tiers.mid]
models = ["openai/gpt-6-luna"]
"""


def test_a_price_of_one_address_is_not_what_the_model_costs_anywhere_else(home: Path) -> None:
    given = config(home, ELSEWHERE, OPENAI_API_KEY="k")
    cheap, mid = (survey(given).tiers[name] for name in ("cheap", "mid"))
    listed = PriceTable().price("openai/gpt-6-luna")
    assert listed is not None
    assert (mid.price, given.price_table().price("openai/gpt-6-luna")) == (listed, listed)
    assert cheap.price is not None
    assert cheap.price.input == Decimal("0.001")
    assert mid.worst(10**5, 0) == max(listed.input, listed.cache_write or 0) * 10**8


@pytest.mark.anyio
async def test_a_call_is_reserved_settled_and_shown_at_the_price_of_where_it_goes(home: Path) -> None:
    given = config(home, ELSEWHERE + '[stages]\ndraft = "mid"\n[budget]\ncall_usd = "0.0001"\n', OPENAI_API_KEY="k")
    replies = [said("Hi.", input=1000, output=200).model_copy(update={"served_model": "gpt-6-luna"})] * 4
    kit = open_kit(given, gateway=ScriptedGateway(replies))
    task = Task(task_id="t", project=str(given.project), goal="x", created_at=datetime.now(UTC))
    await kit.ledger.open_task(task)
    rows: list[Call | None] = []
    for name in NAMES[:2]:
        route = Route(route_id=name, task_id="t", decision="draft", tier=name, rule="x", reason="x")
        await kit.ledger.route(route)
        ask = partial(call_model, kit, route, await kit.tier(name), stage="draft", prompt_id="draft.v1@0")
        for tokens in (150, 1500):
            # 1,500 tokens of output are within the budget at $0.001 a million, and not at $0.5.
            words = (Message(role="user", content=f"Say {tokens}."),)
            try:
                rows.append((await ask(messages=words, max_output_tokens=tokens)).call)
            except OverBudget:
                rows.append(None)
    await kit.close()
    costs = [row and row.cost_nanousd for row in rows]
    assert costs == [1200, 1200, 1000 * 100 + 200 * 500, None]
    assert [row and row.served_price for row in rows] == ["0.001/0.001", "0.001/0.001", "0.1/0.5", None]


def test_what_answers_is_priced_by_the_address_that_it_answered_from(home: Path) -> None:
    text = ELSEWHERE.replace('["openai/gpt-6-luna"]', '["openai/gpt-6-luna", "openai/other"]', 1)
    given = config(home, text, OPENAI_API_KEY="k")
    cheap, mid = (survey(given).tiers[name] for name in ("cheap", "mid"))
    table = given.price_table()
    assert served_price(table, cheap, "other") == cheap.price
    assert served_price(table, mid, "gpt-6-luna") == served_price(table, mid, "gpt-6-luna-2026-10-01") == mid.price
    assert served_price(table, mid, "other") is None


def test_a_price_without_an_address_is_the_models_wherever_it_is_called(home: Path) -> None:
    text = ELSEWHERE.replace('base_url = "https://elsewhere.example/v1"\n', "")
    text += '[tiers.strong]\nmodels = ["openai/gpt-6-luna"]\nbase_url = "https://elsewhere.example/v1"\n'
    tiers = survey(config(home, text, OPENAI_API_KEY="k")).tiers
    assert {name: tier.price and tier.price.input for name, tier in tiers.items()} == dict.fromkeys(
        ("cheap", "mid", "strong"), Decimal("0.001")
    )


def test_behind_an_address_of_the_users_a_cache_kept_for_an_hour_is_reserved_for(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["anthropic/claude-haiku-5-5"]\n'
    direct = survey(config(home, text, ANTHROPIC_API_KEY="k")).tiers["cheap"]
    proxied = survey(config(home, text + 'base_url = "https://proxy.example"\n')).tiers["cheap"]
    assert direct.price == proxied.price
    assert direct.price is not None
    hour, minutes = direct.price.cache_write_1h, direct.price.cache_write
    assert hour is not None
    assert minutes is not None
    assert (direct.worst(10**5, 0), proxied.worst(10**5, 0)) == (int(minutes * 10**8), int(hour * 10**8))


@pytest.mark.parametrize("is_installed", [False, True])
def test_a_model_of_openrouters_without_a_price_is_refused_with_where_prices_come_from(
    home: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    if not is_installed:
        monkeypatch.setitem(sys.modules, "genai_prices", None)
    text = '[tiers.cheap]\nmodels = ["openrouter/nobody/made-up-9"]\n'
    assert ("pip install 'genai-prices" in reason(home, text, OPENROUTER_API_KEY="k")) is not is_installed


def test_a_dropped_tier_is_gone_whoever_wrote_it(home: Path) -> None:
    (home.parent / "work" / "tierkit.toml").write_text('[tiers]\ndrop = ["strong"]\n', "utf8")
    text = '[tiers.strong]\nmodels = ["openai/gpt-6.1-sol"]\n'
    found = survey(config(home, text, OPENAI_API_KEY="k"))
    assert set(found.tiers) == {"cheap", "mid"}
    assert "dropped" in found.missing["strong"]


def test_no_model_is_three_sentences_that_say_what_happened_what_it_cost_and_what_to_set(home: Path) -> None:
    error = no_model("cheap", survey(config(home)))
    assert str(error).count(". ") == 2
    for word in ("No model was called", "OPENROUTER_API_KEY", "keys.env", "Ollama", "[tiers.cheap]"):
        assert word in str(error)
    assert str(home) not in str(error)


def test_no_model_repeats_why_a_written_tier_cannot_be_used(home: Path) -> None:
    text = '[tiers.cheap]\nmodels = ["openai/unheard-of"]\n'
    assert (
        "openai/unheard-of, whose price is unknown"
        in no_model("cheap", survey(config(home, text, OPENAI_API_KEY="k"))).what
    )


def test_no_tier_shows_a_key(home: Path) -> None:
    tiers = survey(config(home, OPENAI_API_KEY="sk-secret")).tiers
    assert "sk-secret" not in repr(tiers)
