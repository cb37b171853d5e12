"""What a call in a transcript cost at API prices, each kind of token at its own rate."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from mcp_tierkit.audit.sheet import Call, Tokens
from mcp_tierkit.prices import Price, Rates
from mcp_tierkit.tables import packaged

_DATED = re.compile(r"(\[[^\]]*\])?$")
FAST, US = "-fast", "-us"
_DAY = re.compile(r"-20\d{6}$")
# One US dollar per million tokens is 1,000 nanodollars a token. Rates have six digits at most in every list we know.
SCALE = 10**9


class _Scaled(NamedTuple):
    """Rates as whole numbers, a billionth of a nanodollar each; None where the price list names no figure."""

    input: int
    cache_read: int | None
    write_5m: int | None
    write_1h: int | None
    output: int


class Pricer:
    """Costs by a model's name. The same name is looked up once."""

    def __init__(self, find: Callable[[str], Price | None]) -> None:
        self._find = find
        self._rates: dict[str, tuple[_Scaled, int, _Scaled] | None] = {}

    def cost(self, model: str, tokens: Tokens, widest: int = 0) -> int | None:
        """Nanodollars, rounded once, half to even; None where the model or a rate that matters is unknown.

        `widest` is what the largest of several passes read, 0 for one pass.
        """
        rates = self._rates_at(model, tokens, widest)
        if rates is None:
            return None
        total = 0
        for count, rate in zip(tokens, rates, strict=True):
            if count:
                if rate is None:
                    return None
                total += count * rate
        whole, rest = divmod(total, SCALE)
        return whole + (2 * rest > SCALE or (2 * rest == SCALE and whole % 2 == 1))

    def add_parts(self, sums: list[int], call: Call) -> None:
        """What each kind of a call's tokens cost, added to `sums`, in billionths of a nanodollar: kinds are small, and
        rounded each by itself they would not add up to what the calls cost."""
        for at, rate in enumerate(self._rates_at(call.model, call.tokens, call.widest) or ()):
            sums[at] += call.tokens[at] * (rate or 0)

    def _rates_at(self, model: str, tokens: Tokens, widest: int) -> _Scaled | None:
        """The rates of one call, the dearer ones where it read more than a model's step."""
        priced = self._priced(model)
        if priced is None:
            return None
        rates, step, above = priced
        is_above = step and (widest or tokens[0] + tokens[1] + tokens[2] + tokens[3]) > step
        return above if is_above else rates

    def write_cost(self, call: Call, tokens: int) -> int | None:
        """Tokens that a call read for the first time: as a write where it wrote to the cache, else as fresh input."""
        wrote = call.tokens
        if wrote.write_1h > wrote.write_5m:
            return self.cost(call.model, Tokens(write_1h=tokens))
        return self.cost(call.model, Tokens(write_5m=tokens) if wrote.write_5m else Tokens(input=tokens))

    def knows(self, model: str) -> bool:
        return self._priced(model) is not None

    def _priced(self, model: str) -> tuple[_Scaled, int, _Scaled] | None:
        if model not in self._rates:
            self._rates[model] = self._looked_up(model)
        return self._rates[model]

    def _looked_up(self, model: str) -> tuple[_Scaled, int, _Scaled] | None:
        """The price of the name as it stands, else that of the plain model times what its marks add."""
        for name, factor in ((model, Fraction(1)), unmarked(model)):
            price = next((found for one in spellings(name) if (found := self._find(one)) is not None), None)
            if price is not None:
                return _scaled_steps(price, factor)
        return None


def marked(model: str, *, is_fast: bool, is_us: bool) -> str:
    """The name under which a dearer way of running a model is shown and priced."""
    return model + (FAST if is_fast else "") + (US if is_us else "")


def unmarked(model: str) -> tuple[str, Fraction]:
    """The plain model, and by how much its marks make it dearer; no name where that is not known."""
    table, factor = packaged("audit")["premiums"], Fraction(1)
    if model.endswith(US):
        model = model.removesuffix(US)
        factor *= 1 if model.startswith(tuple(table["not_us"])) else Fraction(table["us"])
    if model.endswith(FAST):
        model = model.removesuffix(FAST)
        known = next((table["fast"][name] for name in spellings(model) if name in table["fast"]), None)
        return (model, factor * Fraction(known)) if known else ("", factor)
    return model, factor


def spellings(model: str) -> tuple[str, ...]:
    """The name a transcript gives, then without a mark such as `[1m]`, then without the day at its end."""
    plain = _DATED.sub("", model)
    return tuple(dict.fromkeys((model, plain, _DAY.sub("", plain)))) if model else ()


def _scaled_steps(price: Price, factor: Fraction) -> tuple[_Scaled, int, _Scaled]:
    usual = _scaled(price, factor)
    return (usual, price.above.tokens, _scaled(price.above, factor)) if price.above else (usual, 0, usual)


def _scaled(rates: Rates, factor: Fraction) -> _Scaled:
    def whole(rate: Decimal | None) -> int | None:
        return None if rate is None else round(Fraction(rate) * factor * 1000 * SCALE)

    return _Scaled(
        whole(rates.input) or 0, whole(rates.cache_read), whole(rates.cache_write), whole(rates.cache_write_1h),
        whole(rates.output) or 0,
    )  # fmt: skip
