"""What a call costs, against three oracles: exact fractions written here, litellm, and genai-prices."""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mcp_tierkit.gateway import load_litellm
from mcp_tierkit.price_map import map_path
from mcp_tierkit.prices import Price, PriceTable, Rates, cost, time_cost, worst_cost
from mcp_tierkit.types import Usage
from tests.test_gateway import LITELLM_WARNS

pytestmark = LITELLM_WARNS
ROOT = Path(__file__).parent.parent
TABLE = PriceTable()
CALLS = 100_000
RATES = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
Counts = tuple[int | None, ...]
BATCH = ("batch_input", "batch_cache_read", "batch_cache_write", "no hour in a batch", "batch_output")


# --- our own arithmetic


@cache
def row_of(name: str) -> dict[str, Any]:
    """A row as the file has it: text, read by nothing of ours."""
    rows = tomllib.loads((ROOT / "mcp_tierkit/data/prices.toml").read_text("utf8"))["model"]
    row: dict[str, Any] = rows[name]
    return row


def made_up(dice: random.Random) -> dict[str, Any]:
    """A row with six decimals in every rate, some rates missing, and a long-context step half of the time."""

    def rates(*kept: str) -> dict[str, Any]:
        some = [name for name in (*RATES, *BATCH[:3], BATCH[4]) if name in kept or dice.random() < 0.8]
        return {name: f"{dice.randrange(0, 99_000_000) / 1e6:.6f}" for name in some}

    row = rates("input", "output") | {"source": "made up"}
    if dice.random() < 0.5:
        row["above"] = rates("input", "output") | {"tokens": dice.randrange(1, 300_000)}
    return row


def billionths(rate: str) -> int:
    """A rate in billionths of a dollar, by its digits alone."""
    whole, _, part = rate.partition(".")
    return int(whole + part.ljust(9, "0"))


def at_length(row: dict[str, Any], input_tokens: int) -> dict[str, Any]:
    """The rates of the row for a call of that much input, all of it."""
    above: dict[str, Any] = row.get("above", {"tokens": input_tokens})
    return above if input_tokens > above["tokens"] else row


def exactly(row: dict[str, Any], counts: Counts, batch: bool) -> int | None:
    """Nanodollars by whole numbers alone: a token at $1 a million is 1,000 nanodollars, and the half goes to the even.

    `counts` are fresh, read, written, written for an hour, and output; None was not told.
    """
    at = at_length(row, sum(count or 0 for count in counts[:4]))
    total = 0
    for count, name in zip(counts, BATCH if batch else RATES, strict=True):
        rate = at.get(name)
        if count == 0 or (rate is not None and billionths(rate) == 0):
            continue
        if count is None or rate is None:
            return None
        total += count * billionths(rate)
    nanos, rest = divmod(total, 1_000_000)
    return nanos + (rest > 500_000 or (rest == 500_000 and nanos % 2 == 1))


def at_most_exactly(row: dict[str, Any], read: int, written: int) -> int:
    """Nanodollars of a call at the dearest rate of input that a request of ours can meet, rounded up."""
    at = at_length(row, read)
    dearest = max(billionths(at[name]) for name in ("input", "cache_read", "cache_write") if name in at)
    return -(-(read * dearest + written * billionths(at["output"])) // 1_000_000)


def calls(dice: random.Random) -> Iterator[tuple[Counts, bool]]:
    """Counts of ordinary and of huge calls, buckets that are empty or not told, and lengths on a step to the token."""
    sizes = (0, 0, 1, 2, 99, 5_000, 99_999, 100_000, 199_999, 200_000, 200_001, 272_000, 272_001, 1_000_000_000)
    pick, chance = dice.choice, dice.random
    for number in range(CALLS):
        counts: list[int | None] = [pick(sizes) if chance() < 0.5 else int(chance() * 300_000) for _ in range(5)]
        if number % 16 == 0:
            counts[pick((0, 1, 4))] = None
        yield tuple(counts), chance() < 0.25


def test_a_hundred_thousand_random_calls_cost_what_exact_arithmetic_says() -> None:
    dice = random.Random(20261122)
    rows = [row_of(name) for name in TABLE.models()] + [made_up(dice) for _ in range(200)]
    pairs = [(row, Price.model_validate(row)) for row in rows]
    unknown = 0
    for number, (counts, batch) in enumerate(calls(dice)):
        row, price = pairs[number % len(pairs)]
        fresh, read, written, hour, output = counts
        assert written is not None
        assert hour is not None
        # What was thought is a part of the output, and is paid for there.
        usage = Usage.model_construct(
            input=fresh, cached_input=read, cache_write=written + hour, cache_write_1h=hour, output=output,
            reasoning=output,
        )  # fmt: skip
        expected = exactly(row, counts, batch)
        assert cost(price, usage, batch=batch) == expected, (row, counts, batch)
        unknown += expected is None
        if number % 4:
            continue
        sent = (fresh or 0) + (read or 0) + written
        assert worst_cost(price, sent, output or 0) == at_most_exactly(row, sent, output or 0), (row, counts)
        assert time_cost(sent, hour) == -(-sent * hour // 3_600_000), (sent, hour)
    assert 0.1 < unknown / CALLS < 0.8, "the calls no longer meet both kinds of row"


def test_an_hour_of_a_machine_is_its_price_and_a_millisecond_of_it_is_not_free() -> None:
    assert time_cost(360_000_000, 3_600_000) == 360_000_000
    assert (time_cost(3_600_000, 7), time_cost(1, 1), time_cost(3_600_001, 1), time_cost(0, 10**9)) == (7, 1, 2, 0)


def test_a_rate_that_is_missing_makes_just_those_calls_unknown_that_use_it() -> None:
    for name in TABLE.models():
        price, row = TABLE.packaged(name), row_of(name)
        assert price is not None
        for case, counts in CASES.items():
            assert (cost(price, usage_of(counts)) is None) == (exactly(row, counts, False) is None), (name, case)


def test_no_row_lets_a_call_cost_more_than_its_worst_case() -> None:
    dice = random.Random(1)
    for name in TABLE.models():
        price = TABLE.packaged(name)
        assert price is not None
        for _ in range(20):
            fresh, read, written, output = (dice.randrange(200_000) for _ in range(4))
            paid = cost(price, Usage(input=fresh, cached_input=read, cache_write=written, output=output))
            assert (paid or 0) <= worst_cost(price, fresh + read + written, output), name


# --- the table, read again by other code than the one that wrote it

PRICED = re.compile(
    r"(input_cost_per_token|output_cost_per_token|cache_read_input_token_cost|cache_creation_input_token_cost)"
    r"(_above_1hr)?(?:_above_(\d+)k_tokens)?(_batches)?"
)
KINDS = {"input_cost": "input", "output_cost": "output", "cache_read": "cache_read", "cache_creation": "cache_write"}


def figures_in_map(entry: dict[str, Any]) -> dict[tuple[str, int], Decimal]:
    """Dollars per million tokens by rate and by the length from which on they hold, as the names in the map say it."""
    found = {}
    for key, value in entry.items():
        if (said := PRICED.fullmatch(key)) and value is not None:
            kind = next(ours for theirs, ours in KINDS.items() if said[1].startswith(theirs))
            name = ("batch_" if said[4] else "") + kind + ("_1h" if said[2] else "")
            found[name, int(said[3] or 0)] = Decimal(value) * 1_000_000
    for tier in entry.get("tiered_pricing", ()):
        for key in ("input", "output"):
            found[key, int(tier["range"][0]) // 1000] = Decimal(tier[f"{key}_cost_per_token"]) * 1_000_000
    return found


def figures_in_row(row: dict[str, Any]) -> dict[tuple[str, int], Decimal]:
    above = row.get("above", {})
    beyond = -(-above.get("tokens", 0) // 1000)
    rates = {*RATES, *BATCH}
    own = {(name, 0): Decimal(value) for name, value in row.items() if name in rates}
    return own | {(name, beyond): Decimal(value) for name, value in above.items() if name in rates}


def test_every_figure_of_a_row_stands_in_the_map_under_its_own_name_and_no_other_does() -> None:
    entries = json.loads((map_path() or Path()).read_bytes(), parse_float=Decimal)
    seen = 0
    for name in TABLE.models():
        row = row_of(name)
        if row["source"].startswith("litellm"):
            assert figures_in_row(row) == figures_in_map(entries[name]), name
            assert str(row.get("deprecated_on", "")) == entries[name].get("deprecation_date", ""), name
            seen += len(figures_in_row(row))
    assert seen > 400


def test_every_figure_of_a_row_of_genai_prices_is_what_that_package_charges_for_it() -> None:
    seen = 0
    for name in TABLE.models():
        row = row_of(name)
        if not row["source"].startswith("genai-prices"):
            continue
        _, _, provider, model = row["source"].split()
        for (rate, beyond), usd in figures_in_row(row).items():
            asked, tokens = f"{model}:batch" if rate.startswith("batch") else model, beyond * 1000 + 1
            assert charged_by_genai(provider, asked, rate.removeprefix("batch_"), tokens) == usd, (name, rate, beyond)
            seen += 1
    assert seen > 80


def charged_by_genai(provider: str, model: str, rate: str, tokens: int) -> Decimal:
    """Dollars per million tokens of one kind in a call whose input is that long."""
    from genai_prices import Usage as Theirs
    from genai_prices import calc_price

    def paid(**counts: int) -> Decimal:
        found = calc_price(Theirs(**counts), model, provider_id=provider, genai_request_timestamp=PEAK)
        return Decimal(found.total_price)

    if rate == "output":
        return paid(input_tokens=tokens, output_tokens=1_000_000) - paid(input_tokens=tokens)
    hour = {"cache_write_tokens": tokens} if rate == "cache_write_1h" else {}
    counts = {"input_tokens": tokens} | ({} if rate == "input" else {f"{rate}_tokens": tokens} | hour)
    return paid(**counts) * 1_000_000 / tokens


# --- the two libraries


class Found(NamedTuple):
    """A call that a library prices otherwise, or does not price at all."""

    oracle: str
    model: str
    case: str


# Fresh, read, written, written for an hour, output.
CASES: dict[str, tuple[int, ...]] = {
    "plain": (1000, 0, 0, 0, 500),
    "read": (300, 700, 0, 0, 500),
    "write": (300, 0, 700, 0, 500),
    "hour": (300, 0, 0, 700, 500),
    "mixed": (300, 400, 200, 100, 500),
    "long": (300_000, 0, 0, 0, 500),
    "long_read": (1000, 299_000, 0, 0, 500),
    "long_write": (1000, 0, 299_000, 0, 500),
    "long_hour": (1000, 0, 0, 299_000, 500),
    "off_peak": (1000, 0, 0, 0, 500),
}
# Beside the length at which a row's rates change: how far, and in which bucket most of it lies.
STEPS = {
    f"{where} step{kind}": (beyond, bucket)
    for where, beyond in (("below", -1), ("at", 0), ("above", 1))
    for kind, bucket in (("", 0), (", read", 1), (", write", 2))
}
ALL = (*CASES, *STEPS)
PEAK, OFF_PEAK = datetime(2026, 11, 24, 2, tzinfo=UTC), datetime(2026, 11, 24, 12, tzinfo=UTC)
PROVIDERS = {"gemini": "google", "xai": "x-ai"}


def counts_of(model: str, case: str) -> tuple[int, ...] | None:
    """Counts of a case; None where it is about a step in price, and the row has none."""
    if case in CASES:
        return CASES[case]
    above = row_of(model).get("above")
    if above is None:
        return None
    # The file has the longest input that is still cheap; the round figure is where the libraries have their step.
    beyond, bucket = STEPS[case]
    counts = [1, 0, 0, 0, 500]
    counts[bucket] += -(-above["tokens"] // 1000) * 1000 + beyond - 1
    return tuple(counts)


def usage_of(counts: tuple[int, ...]) -> Usage:
    fresh, read, written, hour, output = counts
    return Usage(input=fresh, cached_input=read, cache_write=written + hour, cache_write_1h=hour, output=output)


def litellm_usage(counts: tuple[int, ...]) -> Any:
    from litellm.types.utils import CacheCreationTokenDetails, PromptTokensDetailsWrapper
    from litellm.types.utils import Usage as Theirs

    _, read, written, hour, output = counts
    parts = CacheCreationTokenDetails(ephemeral_5m_input_tokens=written, ephemeral_1h_input_tokens=hour)
    details = PromptTokensDetailsWrapper(
        cached_tokens=read, cache_creation_tokens=written + hour, cache_creation_token_details=parts
    )
    return Theirs(
        prompt_tokens=sum(counts[:4]),
        completion_tokens=output,
        total_tokens=sum(counts),
        prompt_tokens_details=details,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written + hour,
    )


def by_litellm(model: str, counts: tuple[int, ...], at: datetime) -> float | None:
    from litellm import cost_per_token
    from litellm._internal_context import pinned_billing_time

    with pinned_billing_time(at):
        try:
            return float(sum(cost_per_token(model=model, usage_object=litellm_usage(counts))))
        except Exception:
            return None  # It has a dozen ways to say that it does not know.


def by_genai(model: str, counts: tuple[int, ...], at: datetime) -> float | None:
    from genai_prices import Usage as Theirs
    from genai_prices import calc_price

    vendor, _, name = model.partition("/")
    if not name:
        vendor, name = "anthropic" if model.startswith("claude") else "openai", model
    _, read, written, hour, output = counts
    given = {"cache_read_tokens": read, "cache_write_tokens": written + hour, "cache_write_1h_tokens": hour}
    usage = Theirs(input_tokens=sum(counts[:4]), output_tokens=output, **{k: v for k, v in given.items() if v})
    try:
        found = calc_price(usage, name, provider_id=PROVIDERS.get(vendor, vendor), genai_request_timestamp=at)
    except LookupError:
        return None
    return float(found.total_price)


def ours(model: str, case: str) -> int | None:
    price = TABLE.packaged(model)
    assert price is not None
    if (counts := counts_of(model, case)) is None:
        return None
    return cost(price, usage_of(counts))


def agrees(nanousd: int, dollars: float | None) -> bool:
    """To the nanodollar, and to what a float of theirs can hold."""
    return dollars is not None and abs(Decimal(dollars) * 10**9 - nanousd) <= 1 + nanousd * Decimal("1e-12")


@pytest.fixture(scope="module", autouse=True)
def _their_own_map() -> None:
    load_litellm()  # As the product does: the map of the package, nothing from the network.


@pytest.fixture(scope="module")
def differing() -> set[Found]:
    """Every difference there is, over all rows and the cases that a row names the rates for."""
    found = set()
    for model in TABLE.models():
        for case in ALL:
            counts = counts_of(model, case)
            if counts and (nanousd := ours(model, case)) is not None:
                at = OFF_PEAK if case == "off_peak" else PEAK
                for oracle, ask in (("litellm", by_litellm), ("genai-prices", by_genai)):
                    if not agrees(nanousd, ask(model, counts, at)):
                        found.add(Found(oracle, model, case))
    return found


def explained() -> Iterator[Found]:
    for entry in tomllib.loads((ROOT / "tests/price_differences.toml").read_text("utf8"))["difference"]:
        assert len(entry["why"]) > 20
        for pattern in entry["models"]:
            models = [model for model in TABLE.models() if fnmatchcase(model, pattern)]
            assert models, f"no row is named {pattern}"
            for model in models:
                cases = [case for case in ALL if ours(model, case) is not None]
                named = cases if entry["cases"] == ["*"] else entry["cases"]
                yield from (Found(entry["oracle"], model, case) for case in named)


def test_every_difference_from_a_library_is_explained_by_name(differing: set[Found]) -> None:
    assert differing - set(explained()) == set()


def test_no_explanation_is_stale_or_given_twice(differing: set[Found]) -> None:
    named = list(explained())
    assert set(named) - differing == set()
    assert len(named) == len(set(named))


def test_both_libraries_were_asked_and_mostly_agree(differing: set[Found]) -> None:
    asked = sum(ours(model, case) is not None for model in TABLE.models() for case in ALL)
    assert asked > 550
    assert len(differing) < 2 * asked / 4


def test_a_batch_costs_what_litellm_says_wherever_its_map_names_a_price() -> None:
    from litellm.cost_calculator import batch_cost_calculator

    checked = 0
    for model in TABLE.models():
        price = TABLE.packaged(model)
        assert price is not None
        for case in ("plain", "read", "long"):
            nanousd = cost(price, usage_of(CASES[case]), batch=True)
            if nanousd is not None and price.source.startswith("litellm"):
                assert agrees(nanousd, sum(batch_cost_calculator(litellm_usage(CASES[case]), model))), (model, case)
                checked += 1
    assert checked > 90


def test_a_planted_mistake_in_a_rate_is_seen_by_both_libraries() -> None:
    """The oracles themselves: a tenth of a percent on one rate is a difference."""
    price = TABLE.packaged("claude-opus-5-5")
    assert price is not None
    for field in Rates.model_fields:
        if field.startswith(("batch", "cache_write_1h")):
            continue
        off = price.model_copy(update={field: getattr(price, field) * Decimal("1.001")})
        wrong = cost(off, usage_of(CASES["mixed"]))
        assert wrong is not None
        assert not agrees(wrong, by_litellm("claude-opus-5-5", CASES["mixed"], PEAK)), field
        assert not agrees(wrong, by_genai("claude-opus-5-5", CASES["mixed"], PEAK)), field
