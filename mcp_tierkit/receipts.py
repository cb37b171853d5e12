"""What a task cost, what it would have cost the caller alone, and the net of both. Pure arithmetic."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, TypeVar

from pydantic import Field

from mcp_tierkit.amounts import exact
from mcp_tierkit.prices import Price, Rates, cost
from mcp_tierkit.types import Record, Spend, Usage

R = TypeVar("R", bound=Rates)

NANO = Decimal(1_000_000_000)


class CallerSide(Record):
    """Tokens that passed through the caller because of us: measured, in o200k tokens or an estimate of them."""

    arguments: int
    reply: int
    schemas: int


class Alone(Record):
    """Tokens the caller would have spent doing the work itself: estimated, low and high."""

    input_low: int
    input_high: int
    output_low: int
    output_high: int


NOTHING_SAVED = Alone(input_low=0, input_high=0, output_low=0, output_high=0)
"""The figures of a task that ended without a proven change: the caller still has all of the work to do."""


class Weighed(Record):
    """What a net is made of, exact: the reply shows it rounded. Nanodollars, or tokens for a subscription."""

    unit: Literal["usd", "tokens"]
    alone_low: int = Field(ge=0)
    alone_high: int = Field(ge=0)
    passed: int = Field(ge=0, description="What passed through the caller: arguments, reply and schemas.")
    is_spared: bool = Field(description="The caller need not do the work: a change was proven.")

    def net(self, spend: Spend) -> tuple[int, int] | None:
        """Alone less all that it came to; None in dollars where a call's cost is unknown."""
        if self.unit == "usd" and spend.unpriced_calls:
            return None
        ours = self.passed + (spend.cost_nanousd if self.unit == "usd" else 0)
        return self.alone_low - ours, self.alone_high - ours

    def with_round(self, price: Price | None, *, arguments: int, reply: int) -> Weighed | None:
        """The same once a further round passed through the caller; None in dollars where its price is unknown.

        The tool schemas are in `passed` already: they count once a task.
        """
        if self.unit == "tokens":
            more = arguments + reply
        elif price is None:
            return None
        else:
            more = handover_cost(price, arguments=arguments, reply=reply, schemas=0)
        return self.model_copy(update={"passed": self.passed + more})


PART_TOKENS, WHOLE_TOKENS = 2_000, 25_000
"""What an agent reads of a file: around the place of a change, some 200 lines; at most, a read of Claude Code's."""


def alone(*, file_tokens: int, context_tokens: int, changed_tokens: int, check_tokens: int, files: int = 1) -> Alone:
    """The caller's own tokens for the same change, without us. `files` is how many were changed.

    Low: it reads the place of the change in each file and types only the new lines. High: it reads the files, as far
    as one read goes, and the context too, runs the checks before and after and reads their output, and types old and
    new text, as its edit tools ask. Neither counts thinking, nor the re-reading of the conversation in each further
    round, so both are lower bounds.
    """
    return Alone(
        input_low=min(file_tokens, files * PART_TOKENS + changed_tokens),
        input_high=read_whole(file_tokens, files) + context_tokens + 2 * check_tokens + changed_tokens,
        output_low=changed_tokens,
        output_high=2 * changed_tokens + 60,
    )


def read_whole(file_tokens: int, files: int) -> int:
    """What is read of files that are read as far as one read of each goes."""
    return min(file_tokens, files * WHOLE_TOKENS)


def baseline(own: Alone, price: Price) -> tuple[int, int]:
    """What the caller's own work would have cost, low and high, in nanodollars: the formula of every baseline.

    `input × input price + output × output price`, exact and then rounded once, with nothing read from a cache. Where
    the caller's model charges more for a long conversation, an end that is longer is priced at those rates.
    """
    low = caller_cost(price, read=own.input_low, written=own.output_low)
    high = caller_cost(price, read=own.input_high, written=own.output_high)
    assert low is not None
    assert high is not None
    return low, high


def caller_cost(price: Price, *, read: int, written: int, cached: int = 0) -> int | None:
    """Nanodollars of the caller's own tokens, priced as any call is. None where a cached one has no known rate."""
    return cost(price, Usage(input=read, cached_input=cached, cache_write=0, output=written))


def handover_cost(price: Price, *, arguments: int, reply: int, schemas: int) -> int:
    """Nanodollars on the caller's side of a handover.

    It writes the arguments at its output price, reads the reply at its input price, and reads our schemas once from its
    cache, the least they can have cost: `arguments × output + reply × input + schemas × cache_read`. Without a cache
    price they are fresh input.
    """
    above = None if price.above is None else _with_cache_rate(price.above)
    cached = _with_cache_rate(price).model_copy(update={"above": above})
    paid = caller_cost(cached, read=reply, written=arguments, cached=schemas)
    assert paid is not None
    return paid


def _with_cache_rate(rates: R) -> R:
    return rates if rates.cache_read is not None else rates.model_copy(update={"cache_read": rates.input})


def weigh(caller: CallerSide, own: Alone | None, price: Price | None, *, billing: str) -> Weighed | None:
    """The caller's two sides of a task; None where either is unknown."""
    if own is None or (price is None and billing != "subscription"):
        return None
    low, high, passed = (
        (own.input_low + own.output_low, own.input_high + own.output_high, sum(caller.model_dump().values()))
        if price is None or billing == "subscription"
        else (*baseline(own, price), handover_cost(price, **caller.model_dump()))
    )
    return Weighed(
        unit="tokens" if billing == "subscription" else "usd", alone_low=low, alone_high=high, passed=passed,
        is_spared=own != NOTHING_SAVED,
    )  # fmt: skip


def usd(nanousd: int | None) -> str | None:
    """Nanodollars as a decimal string of dollars: `"0.0031"`; None stays None."""
    return None if nanousd is None else exact(nanousd)


def spent_usd(spend: Spend) -> str | None:
    """What a set of calls cost in dollars, None where a part of it is unknown."""
    return None if spend.unpriced_calls else usd(spend.cost_nanousd)


def usd_short(nanousd: int | None) -> str | None:
    """Dollars to four places, for a range that is an estimate anyway; to the first that tells, where all four are 0."""
    if nanousd is None:
        return None
    amount = Decimal(nanousd) / NANO
    text = f"{amount:z.4f}"
    return text if Decimal(text) or not amount else f"{Decimal(f'{amount:.0e}'):f}"


def receipt(
    spend: Spend,
    caller: CallerSide,
    own: Alone | None,
    price: Price | None,
    *,
    billing: str,
    are_tokens_known: bool = True,
    paid_by: str | None = None,
    quota_calls: int = 0,
    kept: Weighed | None = None,
) -> dict[str, Any]:
    """The receipt of a reply: `measured`, `estimated` and the `net` range in dollars, or tokens for a subscription.

    `tokens` is null where a call's are unknown: a sum that lacks some would pass for all of them.
    `paid_by` says how our calls are billed, where not by the token. `quota_calls` were within a subscription: they are
    no dollars, and of no unknown price either. `kept` is what a round without a change of its own, such as a review,
    has to go by: the task's estimate of an earlier round, with this one in what passed.
    `net` is null where the caller's model, a call's cost or its own tokens are unknown; negative where we cost more.
    """
    unpriced = spend.unpriced_calls - quota_calls
    has_dollars = not quota_calls or spend.calls > quota_calls
    measured: dict[str, Any] = {
        "usd": usd(spend.cost_nanousd) if has_dollars and not unpriced else None,
        "tokens": [spend.input_tokens, spend.output_tokens] if are_tokens_known else None,
        "caller_tokens": [caller.reply, caller.arguments],
    }
    if unpriced:
        measured["unpriced_calls"] = unpriced
    if paid_by is not None:
        measured["billing"] = paid_by
    if quota_calls and has_dollars:
        measured["quota_calls"] = quota_calls
    found = kept or weigh(caller, own, price, billing=billing)
    estimated = _estimate(caller, own, price, found)
    return {"measured": measured, "estimated": estimated, "net": net_shown(found, spend)}


def net_shown(found: Weighed | None, spend: Spend) -> list[str | None] | list[int] | None:
    """The range as a reply shows it."""
    net = None if found is None else found.net(spend)
    if found is None or net is None:
        return None
    return list(net) if found.unit == "tokens" else [usd_short(end) for end in net]


def _estimate(
    caller: CallerSide, own: Alone | None, price: Price | None, found: Weighed | None
) -> dict[str, Any] | None:
    if found is None:
        # Without a price the work alone is known in tokens all the same, and nothing can be weighed against it.
        found = None if own is None else weigh(caller, own, None, billing="subscription")
    if price is None or found is None or found.unit == "tokens":
        return {"alone_tokens": [found.alone_low, found.alone_high]} if found and found.is_spared else None
    schemas = {"schema_usd": usd_short(handover_cost(price, arguments=0, reply=0, schemas=caller.schemas))}
    if not found.is_spared:
        return schemas
    return {"alone_usd": [usd_short(found.alone_low), usd_short(found.alone_high)], **schemas}
