"""Prices: every row has a source that still says so, every token is charged once, unknown is never zero."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import tomllib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from mcp_tierkit.cli import run
from mcp_tierkit.cli.prices import Row, _warn
from mcp_tierkit.ledger.pins import last_calls
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.pins import LastCall, retests
from mcp_tierkit.price_map import GENAI, MAP_NAME, from_entry, in_force, map_path, map_version, price_in_map
from mcp_tierkit.prices import LOCAL_PRICE, STALE_DAYS, LongContext, Price, PriceTable, cost, worst_cost
from mcp_tierkit.providers import can_draft, is_local, known, provider_of
from mcp_tierkit.settings import Stages, TierConfig, TierPrice
from mcp_tierkit.types import Budgets, Call, Request, Route, Task, TierName, Usage

ROOT = Path(__file__).parent.parent
TABLE = PriceTable()
HOW = (
    "How: `tierkit draft` work whose outcome you know, then `tierkit report` for what it cost and whether it passed. "
    "The tier's next call is what later prices are compared with."
)
CALLERS = [
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-fable-5-1",
    "gpt-6.1-sol",
    "gpt-5.4",
    "gemini/gemini-3.1-pro-preview",
]


def price(**rates: str | LongContext) -> Price:
    return Price.model_validate({"input": "1", "output": "2", "source": "test"} | rates)


@pytest.fixture(scope="module")
def derivation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("derive_prices", ROOT / "scripts" / "derive_prices.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_is_exactly_what_the_installed_packages_say(derivation: ModuleType) -> None:
    rows = derivation.derive()
    assert set(rows) == set(TABLE.models())
    for name, row in rows.items():
        assert TABLE.price(name) == row, name
    assert (ROOT / "mcp_tierkit" / "data" / "prices.toml").read_text("utf8") == derivation.to_toml(rows)


def test_every_row_names_an_artefact_a_version_and_a_day_that_is_not_in_the_future() -> None:
    for name in TABLE.models():
        row = TABLE.packaged(name)
        assert row is not None
        assert row.source.startswith(("litellm 1.", "genai-prices 0.")), name
        assert row.as_of is not None, name
        assert row.as_of <= date.today(), name


def test_every_model_of_the_provider_table_has_a_row_of_its_own() -> None:
    models = [model for provider in known().provider for model in provider.tiers.values()]
    assert models
    assert [model for model in models if TABLE.packaged(model) is None] == []


@pytest.mark.parametrize("model", CALLERS)
def test_the_frontier_callers_have_rows_for_baselines(model: str) -> None:
    assert TABLE.packaged(model) is not None


def test_dearer_tiers_of_a_provider_never_cost_less_than_cheaper_ones() -> None:
    for provider in (p for p in known().provider if p.tiers):
        rows = [TABLE.packaged(provider.tiers[tier]) for tier in ("cheap", "mid", "strong")]
        outputs = [row.output for row in rows if row]
        assert outputs == sorted(outputs), provider.name


# What a call costs.


def test_a_call_costs_the_hand_computed_sum_of_its_four_buckets() -> None:
    opus = TABLE.packaged("claude-opus-5-5")
    assert opus is not None
    usage = Usage(input=300, cached_input=400, cache_write=300, output=500, reasoning=200)
    # 300 at $4, 400 at $0.20, 300 at $5, 500 at $20 a million
    assert cost(opus, usage) == 1_200_000 + 80_000 + 1_500_000 + 10_000_000


def test_cached_tokens_are_not_charged_a_second_time_as_fresh_input() -> None:
    cached = price(cache_read="0.1")
    assert cost(cached, Usage(input=0, cached_input=1_000_000, cache_write=0, output=0)) == 100_000_000


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input=10, cached_input=0, cache_write=0),
        Usage(input=10, cache_write=0, output=1),
        Usage(input=10, cached_input=0, output=1),
        Usage(input=10, cached_input=5, cache_write=0, output=1),
        Usage(input=10, cached_input=0, cache_write=5, output=1),
    ],
)
def test_a_count_or_a_rate_that_is_unknown_makes_the_cost_unknown(usage: Usage) -> None:
    assert cost(price(), usage) is None


def test_a_batch_and_an_hour_in_the_cache_have_rates_of_their_own() -> None:
    opus = TABLE.packaged("claude-opus-5-5")
    assert opus is not None
    usage = Usage(input=300, cached_input=0, cache_write=700, cache_write_1h=500, output=500)
    minutes = usage.model_copy(update={"cache_write_1h": None})
    # 300 at $4, 200 at $5, 500 at $8, 500 at $20 a million; in a batch 300 at $2, 700 at $2.50, 500 at $10
    assert cost(opus, usage) == 1_200_000 + 1_000_000 + 4_000_000 + 10_000_000
    assert cost(opus, minutes) == 1_200_000 + 3_500_000 + 10_000_000
    assert cost(opus, minutes, batch=True) == 600_000 + 1_750_000 + 5_000_000
    assert cost(opus, usage, batch=True) is None
    assert cost(price(), Usage(input=1, cached_input=0, cache_write=0, output=0), batch=True) is None
    assert cost(opus, usage.model_copy(update={"cache_write_1h": 701})) is None


def test_a_bucket_without_tokens_needs_no_rate() -> None:
    assert cost(price(), Usage(input=1000, cached_input=0, cache_write=0, output=100)) == 1_200_000


def test_a_local_call_costs_zero_even_where_the_engine_reports_no_usage() -> None:
    assert cost(LOCAL_PRICE, Usage()) == 0


def test_a_long_prompt_is_charged_whole_at_the_long_rate_and_the_boundary_at_the_short_one() -> None:
    step = price(above=LongContext(tokens=1000, input=Decimal(3), output=Decimal(5)))
    at = Usage(input=1000, cached_input=0, cache_write=0, output=10)
    over = Usage(input=1001, cached_input=0, cache_write=0, output=10)
    assert cost(step, at) == 1000 * 1000 + 10 * 2000
    assert cost(step, over) == 1001 * 3000 + 10 * 5000


def test_cached_and_written_tokens_count_towards_the_long_prompt() -> None:
    step = price(
        cache_read="0", above=LongContext(tokens=1000, input=Decimal(3), output=Decimal(5), cache_read=Decimal(1))
    )
    assert cost(step, Usage(input=1, cached_input=1000, cache_write=0, output=0)) == 3000 + 1000 * 1000


def test_a_rate_that_the_long_step_does_not_name_is_unknown_there() -> None:
    step = price(cache_read="0.1", above=LongContext(tokens=10, input=Decimal(3), output=Decimal(5)))
    assert cost(step, Usage(input=10, cached_input=10, cache_write=0, output=0)) is None


@pytest.mark.parametrize(
    ("tokens", "rate", "nanodollars"), [(1, "0.0005", 0), (3, "0.0005", 2), (1, "0.0015", 2), (1, "0.0025", 2)]
)
def test_halves_of_a_nanodollar_go_to_the_even_neighbour(tokens: int, rate: str, nanodollars: int) -> None:
    assert cost(price(input=rate), Usage(input=tokens, cached_input=0, cache_write=0, output=0)) == nanodollars


RATES = st.decimals(min_value=0, max_value=1000, places=6)
COUNTS = st.integers(min_value=0, max_value=2_000_000)


@given(RATES, RATES, RATES, COUNTS, COUNTS, COUNTS)
def test_no_call_costs_more_than_the_worst_that_was_reserved_for_it(
    fresh: Decimal, read: Decimal, write: Decimal, a: int, b: int, c: int
) -> None:
    row = Price(input=fresh, output=fresh + 1, cache_read=read, cache_write=write, source="test")
    paid = cost(row, Usage(input=a, cached_input=b, cache_write=c, output=77))
    assert paid is not None
    assert paid <= worst_cost(row, a + b + c, 77)


@given(RATES, COUNTS)
def test_a_cost_is_the_exact_fraction_rounded_once(rate: Decimal, tokens: int) -> None:
    row = Price(input=rate, output=rate, source="test")
    paid = cost(row, Usage(input=tokens, cached_input=0, cache_write=0, output=tokens))
    assert paid == round(Fraction(rate) * 2 * tokens * 1000)


def test_the_worst_case_takes_the_long_rates_only_for_a_long_prompt() -> None:
    step = price(above=LongContext(tokens=1000, input=Decimal(3), output=Decimal(5), cache_write=Decimal(4)))
    assert worst_cost(step, 1000, 10) == 1000 * 1000 + 10 * 2000
    assert worst_cost(step, 1001, 10) == 1001 * 4000 + 10 * 5000


def test_the_worst_case_is_rounded_up() -> None:
    assert worst_cost(price(input="0.0001", output="0"), 1, 0) == 1


def test_a_price_is_stale_after_its_ninetieth_day() -> None:
    row = price().model_copy(update={"as_of": date(2026, 1, 1)})
    assert not row.is_stale(date(2026, 1, 1) + timedelta(days=STALE_DAYS))
    assert row.is_stale(date(2026, 1, 1) + timedelta(days=STALE_DAYS + 1))


# Where a price comes from.


def test_a_vendors_route_in_front_of_a_model_finds_its_bare_row() -> None:
    assert TABLE.price("anthropic/claude-opus-5-5") == TABLE.price("claude-opus-5-5")
    assert TABLE.price("openrouter/claude-opus-5-5") is None


@pytest.mark.parametrize(
    "model",
    [
        "anthropic/claude-opus-5.5",
        "openrouter/no/such",
        "made-up",
        "gemini/gemini-exp-1206",
        "ollama/gpt-oss:120b-cloud",
        # The map has a price for these, and it is not all they charge: thinking costs more, each request has a fee, or
        # the output is that of another model.
        "dashscope/qwen-plus-latest",
        "dashscope/qwen-turbo",
        "perplexity/pplx-7b-online",
        "perplexity/sonar",
        "perplexity/sonar-pro",
        "openrouter/perplexity/sonar",
        "openai/gpt-4o-search-preview",
        "gpt-5-search-api",
        "gemini/deep-research-preview-04-2026",
        "azure_ai/model_router",
    ],
)
def test_a_model_that_nobody_priced_has_no_price_rather_than_a_free_one(model: str) -> None:
    assert TABLE.price(model) is None


def test_a_model_missing_from_the_table_is_found_in_the_installed_map_with_its_version_as_source() -> None:
    assert TABLE.packaged("groq/openai/gpt-oss-120b") is None
    row = TABLE.price("groq/openai/gpt-oss-120b")
    assert row is not None
    assert (row.input, row.output, row.cache_read) == (Decimal("0.15"), Decimal("0.6"), Decimal("0.075"))
    assert row.source.startswith("litellm ")
    assert row.as_of is None


def test_a_model_of_openrouters_that_no_row_has_is_priced_by_genai_prices() -> None:
    assert TABLE.packaged("openrouter/qwen/qwen3-coder") is None
    row = TABLE.price("openrouter/qwen/qwen3-coder")
    assert row is not None
    assert row.source.startswith("genai-prices ")
    assert row.output > row.input > 0
    assert TABLE.price("openrouter/qwen/qwen3-coder:free") is None  # A price of zero is not believed.


def test_a_price_that_begins_today_is_in_force_by_the_day_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    from genai_prices.data import providers
    from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint

    today = datetime.now(UTC).date()
    rows = [
        ConditionalPrice(
            StartDateConstraint(today + timedelta(days)),
            prices=ModelPrice(input_mtok=Decimal(rate), output_mtok=Decimal(9)),
        )
        for rate, days in (("1", -9), ("2", 0), ("3", 1))
    ]
    models = next(provider.models for provider in providers if provider.id == "openrouter")
    monkeypatch.setattr(next(model for model in models if model.id == "qwen/qwen3-coder"), "prices", rows)
    try:
        for zone in ("Etc/GMT-14", "Etc/GMT+12"):  # At every hour it is another day in one of the two.
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            now = in_force("openrouter/qwen/qwen3-coder", price(source="genai-prices 0.2 openrouter qwen/qwen3-coder"))
            assert now is not None
            assert now.input == 2
    finally:
        monkeypatch.undo()
        time.tzset()


def test_local_models_are_free_by_name() -> None:
    assert TABLE.price("ollama_chat/any-model") == LOCAL_PRICE


def test_the_users_price_beats_the_table_and_changes_the_digest() -> None:
    own = PriceTable({"gpt-5.4": price(), "my-model": price(input="7")})
    assert own.price("gpt-5.4") == price()
    assert own.price("my-model") == price(input="7")
    assert own.digest != TABLE.digest
    assert PriceTable().digest == TABLE.digest


def test_a_price_of_one_address_is_known_there_alone_and_changes_the_digest() -> None:
    here, there = price(input="3"), price(input="4")
    own = PriceTable({"gpt-5.4": here}, {("http://there/v1", "gpt-5.4"): there, ("http://there/v1", "mine"): there})
    assert [own.price("gpt-5.4", url) for url in (None, "http://there/v1", "http://else/v1")] == [here, there, here]
    assert [own.price("mine", url) for url in (None, "http://there/v1", "http://else/v1")] == [None, there, None]
    assert own.digest != PriceTable({"gpt-5.4": here}).digest


@pytest.mark.parametrize("level", ["priority", "flex", "fast"])
def test_at_another_level_of_service_a_listed_price_says_nothing_and_a_price_of_the_users_own_holds(level: str) -> None:
    used = Usage(input=1000, cached_input=0, cache_write=0, output=500, level=level)
    listed = TABLE.packaged("gpt-5.4-mini")
    assert listed is not None
    assert (cost(listed, used), cost(listed, used, batch=True)) == (None, None)
    assert cost(listed, used.model_copy(update={"level": None})) == 3_000_000
    own = TierConfig(models=("m",), price=TierPrice.model_validate({"input": "1.5", "output": "9"})).own_price()
    assert own is not None
    assert (cost(own, used), cost(LOCAL_PRICE, used)) == (6_000_000, 0)


def test_an_hour_of_caching_counts_in_the_worst_case_where_somebody_on_the_way_may_ask_for_it() -> None:
    row = price(input="1", cache_write="1.25", cache_write_1h="2", output="5")
    assert (worst_cost(row, 1000, 10), worst_cost(row, 1000, 10, hour=True)) == (1_300_000, 2_050_000)


def test_two_pricing_tiers_of_the_map_become_one_long_step_and_three_are_not_read() -> None:
    def tier(first: float, rate: float) -> dict[str, object]:
        return {
            "range": [first, 1e6],
            "input_cost_per_token": Decimal(str(rate)),
            "output_cost_per_token": Decimal(str(rate)),
        }

    two = from_entry({"tiered_pricing": [tier(0, 1e-6), tier(256000, 2e-6)]}, source="test", as_of=None)
    assert two == price(output="1", above=LongContext(tokens=256_000, input=Decimal(2), output=Decimal(2)))
    three = [tier(0, 1e-6), tier(1000, 2e-6), tier(2000, 3e-6)]
    assert from_entry({"tiered_pricing": three}, source="test", as_of=None) is None


def test_deepseek_is_charged_at_the_peak_price_and_says_so() -> None:
    row = TABLE.packaged("deepseek/deepseek-v4-flash")
    assert row is not None
    assert row.input == Decimal("0.3")
    assert "peak" in row.note


def test_looking_up_a_price_never_imports_litellm() -> None:
    code = (
        "import sys; from mcp_tierkit.prices import PriceTable; t = PriceTable(); "
        "assert t.price('groq/openai/gpt-oss-120b'); t.digest; sys.exit('litellm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_price_read_twice_is_the_same_object() -> None:
    assert price_in_map("groq/openai/gpt-oss-120b") is price_in_map("groq/openai/gpt-oss-120b")


# What has changed since.


def source_of(model: str) -> str:
    row = TABLE.packaged(model)
    assert row is not None
    return row.source


def with_map_of(tmp_path: Path, entries: dict[str, Any], *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`tierkit prices` beside another version of litellm, whose map has these entries."""
    package, metadata = tmp_path / "litellm", tmp_path / "litellm-9.9.9.dist-info"
    for folder in (package, metadata):
        folder.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / MAP_NAME).write_text(json.dumps(entries))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: litellm\nVersion: 9.9.9\n")
    command = [sys.executable, "-m", "mcp_tierkit", "prices", *args]
    given = os.environ | {"PYTHONPATH": str(tmp_path)} | env
    return subprocess.run(command, cwd=ROOT, env=given, check=False, capture_output=True, text=True)


@pytest.fixture
def changed_map() -> dict[str, Any]:
    """The installed map with two rates of one row changed, and another row gone."""
    entries: dict[str, Any] = json.loads((map_path() or Path()).read_bytes())
    entries["gpt-5.4"] |= {"output_cost_per_token": 1.6e-5, "input_cost_per_token_above_272k_tokens": 6e-6}
    del entries["gpt-5-mini"]
    return entries


def test_drift_names_what_the_installed_map_says_now_row_by_row(tmp_path: Path, changed_map: dict[str, Any]) -> None:
    done = with_map_of(tmp_path, changed_map, "--drift", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["installed"]["litellm"], told["differing"]) == (1, "9.9.9", 2)
    changed = {row["model"]: row["changed"] for row in told["rows"] if row["changed"] or not row["installed"]}
    assert changed == {
        "gpt-5.4": {
            "output": {"listed": "15", "installed": "16"},
            "above.input": {"listed": "5", "installed": "6"},
        },
        "gpt-5-mini": {},
    }


def test_drift_says_which_tiers_it_touches_and_how_to_try_them_again(
    tmp_path: Path, changed_map: dict[str, Any]
) -> None:
    settings = tmp_path / "tierkit.toml"
    settings.write_text(
        '[tiers.cheap]\nmodels = ["openai/gpt-5-mini"]\nprice = { input = "9", output = "9" }\n'
        '[tiers.mid]\nmodels = ["openai/gpt-5.4"]\n[tiers.strong]\nmodels = ["openai/gpt-5.4"]\n'
    )
    env = {"TIERKIT_CONFIG": str(settings), "TIERKIT_STATE_DIR": str(tmp_path / "state"), "OPENAI_API_KEY": "sk-none"}
    done = with_map_of(tmp_path, changed_map, "--drift", **env)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"gpt-5-mini: not in what is installed now (listed from {source_of('gpt-5-mini')})",
        "gpt-5.4 (mid and strong): output 15 → 16",
        "gpt-5.4 (mid and strong): above.input 5 → 6",
        f"{len(TABLE.models()) - 2} of {len(TABLE.models())} rows are as in the installed packages.",
        "Calls are priced by our rows until mcp-tierkit is upgraded, or a tier names its own price.",
        f"re-test: mid, strong. {HOW}",
    ]


def test_without_genai_prices_its_rows_are_not_compared_and_the_package_itself_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    theirs = [name for name in TABLE.models() if (row := TABLE.packaged(name)) and row.source.startswith("genai")]
    assert run(["prices", "--drift"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "{0} of {0} rows are as in the installed packages.".format(len(TABLE.models()) - len(theirs)),
        f"{len(theirs)} more are from genai-prices, which is not here: pip install 'genai-prices>=0.2.3'",
    ]
    # Rows of the table need nobody; another model does, and neither is free.
    assert run(["prices", theirs[-1]]) == 0
    assert run(["prices", "openrouter/qwen/qwen3-8b", "openrouter/no/such"]) == 1
    err = capsys.readouterr().err
    assert err == "Prices of OpenRouter's other models come with another package: pip install 'genai-prices>=0.2.3'\n"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["openrouter"] == [GENAI]
    (needed,) = map(Requirement, extras["openrouter"])
    assert (needed.name, needed.specifier.contains(map_version("genai-prices"))) == ("genai-prices", True)


def test_the_table_fits_eighty_columns_and_says_where_each_row_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["dollars", "per", "million", "tokens", "input", "output", "cached", "written"]
    days = (datetime.now(UTC).date() - date(2026, 11, 22)).days
    places = [" ".join(source_of(name).split()[:2]) for name in ("gpt-5-mini", "gpt-6.1-terra")]
    headings = [line for line in lines if ", read " in line]
    assert headings == [f"{place}, read 2026-11-22, {days} d ago" for place in places]
    assert [line.split() for line in lines if line.startswith("claude-opus-5-5 ")] == [
        ["claude-opus-5-5", "4", "20", "0.2", "5"]
    ]
    assert len(lines) == len(TABLE.models()) + 3


def test_there_is_no_drift_from_the_packages_that_the_table_was_read_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prices", "--drift"]) == 0
    assert capsys.readouterr().out == "{0} of {0} rows are as in the installed packages.\n".format(len(TABLE.models()))


TIER = """[tiers.{tier}]
models = ["{model}"]
base_url = "http://127.0.0.1:9/v1"
price = {{ input = "{input}", output = "{output}" }}
"""


async def called(
    url: str, tier: TierName, model: str, price: str, at: datetime, stage: Literal["draft", "doctor"] = "draft"
) -> None:
    """One call on the ledger, with the price that was written on it."""
    ledger = open_ledger(url, state_dir=Path(url.removeprefix("sqlite://")).parent, clock=lambda: at)
    task_id = f"{tier}{at.month}{model}{stage}"
    await ledger.open_task(Task(task_id=task_id, project="/p", goal="g", created_at=at))
    await ledger.route(Route(route_id=task_id, task_id=task_id, decision="draft", tier=tier, rule="x", reason="y"))
    request = Request(
        task_id=task_id, route_id=task_id, stage=stage, tier=tier, model=model, routed_price=price, messages=(),
        max_output_tokens=9, timeout_s=9, prompt_id="draft.v1@aa",
    )  # fmt: skip
    await ledger.settle(await ledger.reserve(request, 1, Budgets()), Call(status="settled", cost_nanousd=1))
    await ledger.close()


def test_a_tier_whose_price_or_model_changed_since_its_last_call_is_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, url = tmp_path / "tierkit.toml", f"sqlite://{tmp_path}/ledger.db"
    settings.write_text(
        TIER.format(tier="cheap", model="openai/tiny", input="0.1", output="0.8")
        + TIER.format(tier="mid", model="openai/new", input="1", output="4")
        + TIER.format(tier="strong", model="openai/big", input="4", output="20")
    )
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    for name, value in {"CONFIG": settings, "STATE_DIR": tmp_path / "state", "LEDGER": url}.items():
        monkeypatch.setenv(f"TIERKIT_{name}", str(value))

    assert run(["prices", "--pins", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"retest": None}  # Not an empty list: nothing is known yet.

    september, october = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
    anyio.run(called, url, "cheap", "openai/tiny", "0.1/0.8", september)
    anyio.run(called, url, "cheap", "openai/tiny", "0.1/0.5", october)
    anyio.run(called, url, "mid", "openai/old", "1/4", october)
    anyio.run(called, url, "strong", "openai/big", "4/20", october + timedelta(days=1))
    assert run(["prices", "--pins"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "re-test: cheap tier, which does draft (openai/tiny: output 0.5 → 0.8; last call 2026-10-01)",
        "re-test: mid tier, which does climb (openai/old → openai/new: 1/4 as before; last call 2026-10-01)",
        HOW,
    ]
    assert run(["prices"]) == 0
    assert "re-test: cheap tier" in capsys.readouterr().out
    # A word asked to see whether the model answers is no trial.
    anyio.run(partial(called, url, "cheap", "openai/tiny", "0.1/0.8", october + timedelta(days=2), stage="doctor"))
    assert run(["prices", "--pins", "--json"]) == 1
    assert [one["price"] for one in json.loads(capsys.readouterr().out)["retest"]] == ["0.1/0.8", "1/4"]
    with reading(url) as conn:
        assert set(last_calls(conn)) == {"cheap", "mid", "strong"}
        assert set(last_calls(conn, newest=3)) == {"cheap", "mid", "strong"}
        assert set(last_calls(conn, newest=2)) == {"strong"}


def test_a_price_of_a_tiers_own_address_is_shown_beside_the_listed_one_and_never_as_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "tierkit.toml"
    settings.write_text(
        TIER.format(tier="cheap", model="gpt-5.4-mini", input="0.001", output="0.002")
        + TIER.format(tier="mid", model="openai/of-my-own", input="1", output="4")
    )
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    for name, value in {"CONFIG": settings, "STATE_DIR": tmp_path / "state"}.items():
        monkeypatch.setenv(f"TIERKIT_{name}", str(value))
    assert run(["prices", "gpt-5.4-mini", "openai/of-my-own", "--json"]) == 0
    shown = [(row["model"], row["tier"], row["input"]) for row in json.loads(capsys.readouterr().out)]
    assert shown == [
        ("gpt-5.4-mini", None, "0.75"), ("gpt-5.4-mini", "cheap", "0.001"), ("openai/of-my-own", "mid", "1"),
    ]  # fmt: skip
    assert run(["prices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for tier, model, figure in (("cheap", "gpt-5.4-mini", "0.001"), ("mid", "openai/of-my-own", "1")):
        at = lines.index(f"tierkit.toml [tiers.{tier}], at http://127.0.0.1:9/v1 alone")
        name, fresh, _, cached, _ = lines[at + 1].split()
        assert (name, fresh, cached) == (model, figure, figure)
        assert lines[at + 2] == "  cached input costs what fresh input does: no cache_read is named"


def test_an_address_whose_key_is_gone_is_no_changed_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, url = tmp_path / "tierkit.toml", f"sqlite://{tmp_path}/ledger.db"
    settings.write_text(
        TIER.format(tier="cheap", model="openai/gpt-6-luna", input="0.001", output="0.002")
        + 'api_key_env = "NOBODY_SET_IT"\n'
    )
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    for name, value in {"CONFIG": settings, "STATE_DIR": tmp_path / "state", "LEDGER": url}.items():
        monkeypatch.setenv(f"TIERKIT_{name}", str(value))
    anyio.run(called, url, "cheap", "openai/gpt-6-luna", "0.001/0.002", datetime(2026, 10, 1, tzinfo=UTC))
    assert run(["prices", "--pins", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"retest": []}


def test_a_tier_without_its_key_is_compared_by_the_model_of_its_last_call() -> None:
    last = LastCall(at="2026-10-01T00:00:00Z", model="openai/gpt-6-luna", price="0.1/0.4")
    (found,) = retests({"cheap": last}, {}, TABLE, Stages())
    assert found.told() == (
        "re-test: cheap tier, which does draft (openai/gpt-6-luna: output 0.4 → 0.5; last call 2026-10-01)"
    )
    unknown = last.model_copy(update={"model": "openai/of-my-own"})
    assert retests({"cheap": unknown}, {}, TABLE, Stages()) == ()


def test_a_model_that_is_withdrawn_soon_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row(name, TABLE.packaged(name)) for name in ("claude-sonnet-4-5", "gpt-5.4")]
    for day, words in ((date(2026, 11, 22), "will be withdrawn"), (date(2026, 11, 30), "was withdrawn")):
        _warn(rows, day)
        assert capsys.readouterr().err == f"Warning: claude-sonnet-4-5 {words} by its provider on 2026-11-30.\n"
    _warn(rows, date(2026, 1, 1))
    assert capsys.readouterr().err == ""


# The names that price and tiers rest on.


def test_a_provider_is_known_by_the_longest_prefix() -> None:
    groq = provider_of("groq/openai/gpt-oss-20b")
    assert groq is not None
    assert groq.name == "Groq"
    assert provider_of("gpt-5.4") is None


def test_names_tell_local_from_remote_and_drafters_from_embedders() -> None:
    assert is_local("ollama/llama3")
    assert not is_local("ollama/qwen3-coder:480b-cloud")
    assert not is_local("openai/gpt-6-luna")
    assert can_draft("qwen3-coder")
    assert not can_draft("text-embedding-nomic")
    assert not can_draft("gpt-oss:20b-cloud")
