"""What a task cost, what it would have cost the caller alone, and the net of both. Pure arithmetic."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mcp_tierkit.prices import Price
from mcp_tierkit.types import Record, Spend

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
        input_high=min(file_tokens, files * WHOLE_TOKENS) + context_tokens + 2 * check_tokens + changed_tokens,
        output_low=changed_tokens,
        output_high=2 * changed_tokens + 60,
    )


def usd(nanousd: int | None) -> str | None:
    """Nanodollars as a decimal string of dollars: `"0.0031"`; None stays None."""
    if nanousd is None:
        return None
    text = f"{Decimal(nanousd) / NANO:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def spent_usd(spend: Spend) -> str | None:
    """What a set of calls cost in dollars, None where a part of it is unknown."""
    return None if spend.unpriced_calls else usd(spend.cost_nanousd)


def usd_short(nanousd: int | None) -> str | None:
    """Dollars to four places, for a range that is an estimate anyway."""
    return None if nanousd is None else f"{Decimal(nanousd) / NANO:.4f}"


def _side(price: Price, tokens_in: int, tokens_out: int) -> int:
    """Nanodollars: dollars per million tokens are thousands of nanodollars per token."""
    return round(tokens_in * price.input * 1000 + tokens_out * price.output * 1000)


def receipt(
    spend: Spend,
    caller: CallerSide,
    own: Alone | None,
    price: Price | None,
    *,
    billing: str,
    are_tokens_known: bool = True,
    paid_by: str | None = None,
) -> dict[str, Any]:
    """The receipt of a reply: `measured`, `estimated` and the `net` range in dollars, or tokens for a subscription.

    `tokens` is null where a call's are unknown: a sum that lacks some would pass for all of them.
    `paid_by` says how our calls are billed, where not by the token.
    `net` is null where the caller's model, a call's cost or its own tokens are unknown; negative where we cost more.
    """
    measured: dict[str, Any] = {
        "usd": spent_usd(spend),
        "tokens": [spend.input_tokens, spend.output_tokens] if are_tokens_known else None,
        "caller_tokens": [caller.reply, caller.arguments],
    }
    if spend.unpriced_calls:
        measured["unpriced_calls"] = spend.unpriced_calls
    if paid_by is not None:
        measured["billing"] = paid_by
    estimated = _estimate(caller, own, price, billing)
    return {"measured": measured, "estimated": estimated, "net": _net(spend, caller, own, price, billing)}


def _estimate(caller: CallerSide, own: Alone | None, price: Price | None, billing: str) -> dict[str, Any] | None:
    if own is None:
        return None
    if own == NOTHING_SAVED:
        return {"schema_usd": usd_short(_schemas(caller, price))} if price and billing == "api" else None
    if price is None or billing == "subscription":
        return {"alone_tokens": [own.input_low + own.output_low, own.input_high + own.output_high]}
    low, high = _alone_usd(own, price)
    return {"alone_usd": [usd_short(low), usd_short(high)], "schema_usd": usd_short(_schemas(caller, price))}


def _alone_usd(own: Alone, price: Price) -> tuple[int, int]:
    return _side(price, own.input_low, own.output_low), _side(price, own.input_high, own.output_high)


def _schemas(caller: CallerSide, price: Price) -> int:
    """Our tool schemas, read once from the caller's cache: the least they can have cost this call."""
    rate = price.cache_read if price.cache_read is not None else price.input
    return round(caller.schemas * rate * 1000)


def _net(
    spend: Spend, caller: CallerSide, own: Alone | None, price: Price | None, billing: str
) -> list[str | None] | list[int] | None:
    if own is None:
        return None
    if billing == "subscription":
        passed = caller.arguments + caller.reply + caller.schemas
        return [own.input_low + own.output_low - passed, own.input_high + own.output_high - passed]
    if price is None or spend.unpriced_calls:
        return None
    ours = spend.cost_nanousd + _side(price, caller.reply, caller.arguments) + _schemas(caller, price)
    low, high = _alone_usd(own, price)
    return [usd_short(low - ours), usd_short(high - ours)]
