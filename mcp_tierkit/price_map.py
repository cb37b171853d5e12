"""Prices that installed packages name: litellm's map, read as a file since it imports slowly, and genai-prices."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mcp_tierkit.amounts import figure
from mcp_tierkit.prices import LongContext, Price, names

MAP_NAME = "model_prices_and_context_window_backup.json"
ROUTED = "openrouter/"
_ALWAYS_SEARCHES = re.compile(r"\bperplexity/|-search\b|deep-research")
"""Names of models that look things up on every call, for a fee that the lists file under searches, asked for or not."""
GENAI = "genai-prices>=0.2.3"
"""The package that knows the prices of OpenRouter's models, as the optional dependency `openrouter` names it."""
_FROM_THE_STEP_ON = ("xai",)
"""Providers, by the map's names, that charge a call whose input is as long as the step already at the step's rates."""
_KEYS = {
    "input": "input_cost_per_token{}",
    "output": "output_cost_per_token{}",
    "cache_read": "cache_read_input_token_cost{}",
    "cache_write": "cache_creation_input_token_cost{}",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr{}",
    "batch_input": "input_cost_per_token{}_batches",
    "batch_output": "output_cost_per_token{}_batches",
    "batch_cache_read": "cache_read_input_token_cost{}_batches",
    "batch_cache_write": "cache_creation_input_token_cost{}_batches",
}


@cache
def price_in_map(model: str) -> Price | None:
    """The price that the installed litellm names, None where it names none we can vouch for.

    Of OpenRouter's models, which it names none of, what genai-prices says today, where that is installed. None of a
    model that takes a fee for each call besides: its tokens alone are no price to hold a budget by.
    """
    if _ALWAYS_SEARCHES.search(model):
        return None
    source = f"litellm {map_version()} model_prices map"
    entries = (entry for name in names(model) if isinstance(entry := _map().get(name), dict))
    listed = next((price for e in entries if (price := from_entry(e, source=source, as_of=None)) is not None), None)
    if listed is None and model.startswith(ROUTED):
        return from_genai("openrouter", model.removeprefix(ROUTED), on=_today(), as_of=None)
    return listed


def from_entry(entry: Mapping[str, Any], *, source: str, as_of: date | None) -> Price | None:
    """One entry of the map as a Price; None where it is no price by the token, or too odd to read.

    Output of no price is not believed: the map writes zero for trials and for what it does not know. Nor is a price
    taken that leaves something out: a fee for each request, or thinking that costs more than the rest of the output.
    """
    try:
        price = Price(**_rates_and_step(entry), **_remarks(entry), source=source, as_of=as_of)
    except (ValidationError, ArithmeticError, KeyError, TypeError, ValueError):
        return None
    return None if price.output == 0 or _charges_more(entry) else price


def is_installed(listed: Price) -> bool:
    """Whether the package that a listed price was read from is there to be compared with."""
    return map_path() is not None if listed.source.startswith("litellm ") else find_spec("genai_prices") is not None


def hint(model: str) -> str | None:
    """Where else a price of this model could come from, in a sentence; None where nothing more can be installed."""
    if not model.startswith(ROUTED) or find_spec("genai_prices") is not None:
        return None
    return f"Prices of OpenRouter's other models come with another package: pip install '{GENAI}'"


def in_force(model: str, listed: Price) -> Price | None:
    """What the package that a listed price was read from says now; None where it is gone or not installed."""
    package, _, *names_there = listed.source.split()
    if package == "genai-prices":
        return from_genai(*names_there, on=_today(), as_of=None)
    return price_in_map(model)


def drift(listed: Price, installed: Price) -> dict[str, tuple[str | None, str | None]]:
    """What differs between a listed price and the installed one: of each field, what we list and what they say."""
    ours, theirs = _flat(listed), _flat(installed)
    return {name: (ours.get(name), theirs.get(name)) for name in ours | theirs if ours.get(name) != theirs.get(name)}


def _flat(price: Price) -> dict[str, str]:
    told = price.model_dump(exclude={"above", "as_of", "source", "note"}, exclude_none=True)
    beyond = price.above.model_dump(exclude_none=True) if price.above else {}
    told |= {f"above.{name}": value for name, value in beyond.items()}
    return {name: figure(value) if isinstance(value, Decimal) else f"{value}" for name, value in told.items()}


def _today() -> date:
    return datetime.now(UTC).date()


def map_path() -> Path | None:
    """The map inside the installed litellm, which is found without being imported."""
    spec = find_spec("litellm")
    path = Path(spec.origin).with_name(MAP_NAME) if spec and spec.origin else None
    return path if path and path.is_file() else None


@cache
def map_version(package: str = "litellm") -> str:
    """The version of the installed package, `none` where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def from_genai(provider: str, model: str, *, on: date, as_of: date | None) -> Price | None:
    """The price that the installed genai-prices has in force on a day; None where it has none for exactly that name."""
    try:
        row = _genai_rates(provider, model, on)
        batch = _as_batch(_genai_rates(provider, f"{model}:batch", on) if provider == "openrouter" else {})
        if above := _genai_rates(provider, model, on, step=True):
            beyond = _as_batch(_genai_rates(provider, f"{model}:batch", on, step=True) if batch else {})
            row["above"] = LongContext(**above, **beyond)
        source = f"genai-prices {map_version('genai-prices')} {provider} {model}"
        return Price(**row, **batch, as_of=as_of, source=source) if row else None
    except (ValidationError, AttributeError, TypeError, ValueError):
        return None


@cache
def _map() -> dict[str, Any]:
    path = map_path()
    # Decimals from the text itself: a float would turn 1.25e-07 into its nearest binary neighbour.
    entries: dict[str, Any] = json.loads(path.read_bytes(), parse_float=Decimal) if path else {}
    return entries


def _rates_and_step(entry: Mapping[str, Any]) -> dict[str, Any]:
    if "input_cost_per_token" not in entry and "tiered_pricing" in entry:
        # Two tiers are flat rates and one step; more of them are not ours to flatten.
        first, second = entry["tiered_pricing"]
        return {**_rates(first), "above": LongContext(tokens=int(second["range"][0]), **_rates(second))}
    return {**_rates(entry), "above": _step(entry)}


def _rates(entry: Mapping[str, Any], infix: str = "") -> dict[str, Decimal]:
    found = {field: entry.get(pattern.format(infix)) for field, pattern in _KEYS.items()}
    return {field: _per_million(value) for field, value in found.items() if value is not None}


def _per_million(value: Any) -> Decimal:
    return Decimal(figure(Decimal(value) * 1_000_000))


def _charges_more(entry: Mapping[str, Any]) -> bool:
    """Whether a call is charged for something that the four buckets of a Price do not have."""
    rated = [tier for tier in (entry, *entry.get("tiered_pricing", ())) if "output_cost_per_reasoning_token" in tier]
    thinks_dearer = any(tier["output_cost_per_reasoning_token"] != tier.get("output_cost_per_token") for tier in rated)
    return thinks_dearer or bool(entry.get("input_cost_per_request"))


def _step(entry: Mapping[str, Any]) -> LongContext | None:
    steps = {found[1] for key in entry if (found := re.fullmatch(r"input_cost_per_token_above_(\d+)k_tokens", key))}
    if not steps:
        return None
    (thousands,) = steps
    longest_before = int(thousands) * 1000 - (entry.get("litellm_provider") in _FROM_THE_STEP_ON)
    return LongContext(tokens=longest_before, **_rates(entry, f"_above_{thousands}k_tokens"))


def _remarks(entry: Mapping[str, Any]) -> dict[str, Any]:
    remarks: dict[str, Any] = {}
    if "deprecation_date" in entry:
        remarks["deprecated_on"] = date.fromisoformat(entry["deprecation_date"])
    if "off_peak_pricing" in entry:
        remarks["note"] = "Cheaper off-peak; the peak price is used at all hours."
    return remarks


def _as_batch(rates: Mapping[str, Any]) -> dict[str, Any]:
    names = ("input", "output", "cache_read", "cache_write")
    return {f"batch_{name}": rates[name] for name in names if name in rates}


def _genai_rates(provider: str, model: str, on: date, *, step: bool = False) -> dict[str, Any]:
    """Base rates, or those above the one long-context step with its length; empty where there are none."""
    if find_spec("genai_prices") is None:
        return {}
    from genai_prices.data import providers

    models = next(p.models for p in providers if p.id == provider)
    prices = next((_in_force(m.prices, on) for m in models if m.id == model), None)
    rates: dict[str, Any] = {}
    for ours in ("input", "output", "cache_read", "cache_write", "cache_write_1h"):
        value: Any = getattr(prices, f"{ours}_mtok", None)
        if tiers := getattr(value, "tiers", None):
            (tier,) = tiers  # More than one step is not ours to flatten.
            rates["tokens"] = tier.start
            value = tier.price if step else value.base
        if value is not None:
            rates[ours] = value
    tokens = rates.pop("tokens", None)
    if not step:
        return rates
    return {**rates, "tokens": tokens} if tokens else {}


def _in_force(prices: Any, on: date) -> Any:
    """The prices of a day. One by the hour starts on no day and is not ours to flatten: it raises AttributeError."""
    if not isinstance(prices, list):
        return prices
    starts = [(p.constraint.start_date if p.constraint else date.min, p.prices) for p in prices]
    return max((pair for pair in starts if pair[0] <= on), key=lambda pair: pair[0])[1]
