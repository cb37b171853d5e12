"""What models charge, and what a call cost or could cost. Unknown is None, never zero."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path

from pydantic import Field

from mcp_tierkit.providers import is_local
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Record, Usage

STALE_DAYS = 90
_DATA = Path(__file__).parent / "data"
# Routes in front of a model's own name under which the price map files the vendor's bare name.
_VENDORS = ("openai/", "anthropic/", "deepseek/")
_AT_ANY_LEVEL = ("tierkit.toml", "local")
"""Sources of prices that hold at any level of service: what the user says is paid, and what is paid to nobody."""


class Rates(Record):
    """US dollars per million tokens; None where the source names no figure."""

    input: Decimal = Field(ge=0, description="Input read fresh, not from the provider's cache.")
    output: Decimal = Field(ge=0, description="Output, reasoning included.")
    cache_read: Decimal | None = Field(default=None, ge=0)
    cache_write: Decimal | None = Field(default=None, ge=0, description="Writes kept for minutes.")
    cache_write_1h: Decimal | None = Field(default=None, ge=0, description="Writes kept for an hour; we ask for none.")
    batch_input: Decimal | None = Field(default=None, ge=0)
    batch_output: Decimal | None = Field(default=None, ge=0)
    batch_cache_read: Decimal | None = Field(default=None, ge=0)
    batch_cache_write: Decimal | None = Field(default=None, ge=0)


class LongContext(Rates):
    """Rates of a whole call whose input, cached or not, is longer than `tokens`."""

    tokens: int = Field(gt=0)


class Price(Rates):
    """What one model charges, and where the figures were read."""

    above: LongContext | None = None
    as_of: date | None = Field(default=None, description="Day the figures were read; None where the user gave them.")
    source: str = Field(description="Artefact and version the figures were read from.")
    deprecated_on: date | None = None
    note: str = ""

    def is_stale(self, today: date) -> bool:
        return self.as_of is not None and (today - self.as_of).days > STALE_DAYS


def withdrawal(model: str, price: Price, today: date) -> str | None:
    """The sentence to warn with where a model is withdrawn, or will be soon; None where nothing is known of that."""
    day = price.deprecated_on
    if day is None or (day - today).days > STALE_DAYS:
        return None
    return f"{model} {'was' if day <= today else 'will be'} withdrawn by its provider on {day}."


LOCAL_PRICE = Price(input=Decimal(0), output=Decimal(0), cache_read=Decimal(0), cache_write=Decimal(0), source="local")
"""A model on the user's own machine: nobody sends a bill."""


def cost(price: Price, usage: Usage, *, batch: bool = False) -> int | None:
    """Nanodollars of one call; None where a count or a rate that matters is unknown.

    The four buckets never overlap, so each token is charged once. A bucket without tokens needs no
    rate, and a rate of zero needs no count. Exact, then rounded once, half to even.

    Of what was written to the cache, the part that the provider says it keeps for an hour has a rate of its own; more
    kept than written is no count to believe. `batch` is a call that may wait for its answer, at the rates for those.
    Lists tell what the standard level of service costs, so by them a call at another one has no known cost.
    """
    if not tells_level(price, usage):
        return None
    hour, written = usage.cache_write_1h or 0, usage.cache_write
    if written is not None and hour > written:
        return None
    for_minutes = None if written is None else written - hour
    counts = (usage.input, usage.cached_input, for_minutes, hour, usage.output)
    parts = list(map(_part, counts, _charged(_rates(price, _input_tokens(usage)), batch)))
    known = [part for part in parts if part is not None]
    return round(sum(known, Fraction(0))) if len(known) == len(parts) else None


def tells_level(price: Price, usage: Usage) -> bool:
    """Whether the price is that of the level of service which the call ran at."""
    return usage.level is None or price.source in _AT_ANY_LEVEL


def worst_cost(price: Price, input_tokens: int, max_output: int, *, hour: bool = False) -> int:
    """The most a call can cost, in nanodollars: all input at the dearest input rate, all output used. Rounded up.

    No request of ours asks for cache writes that are kept for an hour; with `hour` somebody on its way may.
    """
    rates = _rates(price, input_tokens)
    named = (rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h if hour else None)
    dearest = max(rate for rate in named if rate is not None)
    return math.ceil(_nanos(input_tokens, dearest) + _nanos(max_output, rates.output))


def most_of(price: Price, usage: Usage, max_output: int) -> int | None:
    """The most that a reply can have cost by the tokens it names; None where they and their rates leave that open.

    Reading from a cache costs no more than fresh input. Writing there may, so what was written needs its rate.
    """
    read, written = (usage.input, usage.cached_input), (usage.cache_write, usage.cache_write_1h or 0)
    sent = sum(tokens or 0 for tokens in (*read, written[0]))
    rates = _rates(price, sent)
    parts = map(_part, written, (rates.cache_write, rates.cache_write_1h))
    if None in read or None in parts or not tells_level(price, usage):
        return None
    return worst_cost(price, sent, max_output if usage.output is None else usage.output, hour=bool(written[1]))


def time_cost(hour_nanousd: int, ms: int) -> int:
    """Nanodollars of machine time that is paid by the hour. Exact, then rounded up: time that ran is not free."""
    return -(-hour_nanousd * ms // 3_600_000)


def _rates(price: Price, input_tokens: int) -> Rates:
    return price.above if price.above is not None and input_tokens > price.above.tokens else price


def _charged(rates: Rates, batch: bool) -> tuple[Decimal | None, ...]:
    """What input read fresh, read from the cache, written there for minutes and for an hour, and output cost."""
    if batch:
        return rates.batch_input, rates.batch_cache_read, rates.batch_cache_write, None, rates.batch_output
    return rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h, rates.output


def _input_tokens(usage: Usage) -> int:
    return (usage.input or 0) + (usage.cached_input or 0) + (usage.cache_write or 0)


def _part(tokens: int | None, rate: Decimal | None) -> Fraction | None:
    if tokens == 0 or rate == 0:
        return Fraction(0)
    return None if tokens is None or rate is None else _nanos(tokens, rate)


def _nanos(tokens: int, usd_per_mtok: Decimal) -> Fraction:
    return Fraction(usd_per_mtok) * tokens * 1000


class PriceTable:
    """Prices by litellm's model names: the user's own first, then the packaged ones, then what is installed.

    `at` has those of the user's that hold at one address alone, by address and model.
    """

    def __init__(
        self, overrides: Mapping[str, Price] | None = None, at: Mapping[tuple[str, str], Price] | None = None
    ) -> None:
        self._overrides, self._at = dict(overrides or {}), dict(at or {})

    def price(self, model: str, base_url: str | None = None) -> Price | None:
        """The price of a model, None where nobody named one. Zero for a model on this machine."""
        if own := self.own(model, base_url):
            return own
        return self.packaged(model) or (LOCAL_PRICE if is_local(model) else _in_map(model))

    def own(self, model: str, base_url: str | None = None) -> Price | None:
        """The user's own price: the one for that address, else the one for wherever the model is called."""
        return self._at.get((base_url or "", model)) or self._overrides.get(model)

    def packaged(self, model: str) -> Price | None:
        """The price in the dated table we ship, without a look at litellm's map."""
        rows = _packaged()
        return next((rows[name] for name in names(model) if name in rows), None)

    def models(self) -> tuple[str, ...]:
        """Names in the packaged table, as written there."""
        return tuple(_packaged())

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits over the packaged rows, the user's own prices and the versions of the installed maps."""
        given = [*self._overrides.items(), *((f"{model} {address}", row) for (address, model), row in self._at.items())]
        own = {name: price.model_dump(mode="json") for name, price in sorted(given, key=lambda pair: pair[0])}
        text = json.dumps([own, _map_version()], sort_keys=True)
        return hashlib.sha256((_DATA / "prices.toml").read_bytes() + text.encode()).hexdigest()[:12]


def names(model: str) -> tuple[str, ...]:
    """The model's name as given, then the vendor's bare name where price lists file it under that."""
    bare = [model.removeprefix(vendor) for vendor in _VENDORS if model.startswith(vendor)]
    return (model, *bare)


@cache
def _packaged() -> dict[str, Price]:
    return {name: Price.model_validate(row) for name, row in packaged("prices")["model"].items()}


def _in_map(model: str) -> Price | None:
    # Imported on a miss only: the map is three megabytes and most models are in the packaged table.
    from mcp_tierkit.price_map import price_in_map

    return price_in_map(model)


def _map_version() -> str:
    from mcp_tierkit.price_map import map_version

    return f"{map_version()} {map_version('genai-prices')}"
