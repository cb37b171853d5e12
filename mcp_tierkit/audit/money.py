"""What a call in a transcript cost at API prices, each kind of token at its own rate."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from mcp_tierkit.audit.sheet import Call, Tokens
from mcp_tierkit.prices import Price, Rates
from mcp_tierkit.usage import NANO

_DATED = re.compile(r"(\[[^\]]*\])?$")
_DAY = re.compile(r"-20\d{6}$")
# One US dollar per million tokens is 1,000 nanodollars a token. Rates have six digits at most in every list we know.
_SCALE = 10**9


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

    def cost(self, model: str, tokens: Tokens) -> int | None:
        """Nanodollars, rounded once, half to even; None where the model or a rate that matters is unknown."""
        priced = self._priced(model)
        if priced is None:
            return None
        rates, step, above = priced
        if step and tokens[0] + tokens[1] + tokens[2] + tokens[3] > step:
            rates = above
        total = 0
        for count, rate in zip(tokens, rates, strict=True):
            if count:
                if rate is None:
                    return None
                total += count * rate
        whole, rest = divmod(total, _SCALE)
        return whole + (2 * rest > _SCALE or (2 * rest == _SCALE and whole % 2 == 1))

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
            price = next((found for name in names(model) if (found := self._find(name)) is not None), None)
            self._rates[model] = None if price is None else _scaled_steps(price)
        return self._rates[model]


def names(model: str) -> tuple[str, ...]:
    """The name a transcript gives, then without a mark such as `[1m]`, then without the day at its end."""
    plain = _DATED.sub("", model)
    return tuple(dict.fromkeys((model, plain, _DAY.sub("", plain)))) if model else ()


def _scaled_steps(price: Price) -> tuple[_Scaled, int, _Scaled]:
    usual = _scaled(price)
    return (usual, price.above.tokens, _scaled(price.above)) if price.above else (usual, 0, usual)


def _scaled(rates: Rates) -> _Scaled:
    return _Scaled(
        _whole(rates.input) or 0, _whole(rates.cache_read), _whole(rates.cache_write), _whole(rates.cache_write_1h),
        _whole(rates.output) or 0,
    )  # fmt: skip


def _whole(rate: Decimal | None) -> int | None:
    return None if rate is None else round(Fraction(rate) * 1000 * _SCALE)


def dollars(nanousd: int) -> str:
    """An amount to read: cents from a dollar on, four places below."""
    if nanousd >= NANO:
        return f"${Decimal(nanousd) / NANO:,.2f}"
    return "$0" if nanousd == 0 else f"${Decimal(nanousd) / NANO:.4f}" if nanousd >= 50_000 else "under $0.0001"
