"""A receipt in sentences, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def receipt_lines(receipt: Mapping[str, Any]) -> list[str]:
    """What a receipt says, a line each: our calls, the caller's side, the work alone, the net, whose key paid."""
    measured, estimated = receipt["measured"], receipt["estimated"] or {}
    lines = [_calls(measured), _caller(measured), _alone(estimated), f"net: {_net(receipt)}"]
    if key := receipt.get("key_spent"):
        lines.append(f"paid with {key}; set a budget under [budget] in tierkit.toml")
    return [line for line in lines if line]


def _calls(measured: Mapping[str, Any]) -> str:
    tokens = measured["tokens"]
    used = "tokens not named" if tokens is None else f"{tokens[0]:,} tokens in, {tokens[1]:,} out"
    cost = "of unknown cost" if measured["usd"] is None else f"${measured['usd']}"
    unpriced = measured.get("unpriced_calls", 0)
    unknown = f"; {unpriced} call{'s' * (unpriced != 1)} without a known cost" if unpriced else ""
    return f"measured: model calls {cost}, {used}{unknown}" + (
        f"; paid for: {measured['billing']}" if "billing" in measured else ""
    )


def _caller(measured: Mapping[str, Any]) -> str:
    if (own := measured.get("caller")) is None:
        reply, arguments = measured["caller_tokens"]
        return f"measured: the caller read {reply:,} and wrote {arguments:,} tokens"
    cost = "of unknown cost" if own["usd"] is None else f"${own['usd']}"
    through = f"{own['input']:,} in, {own['cache_read']:,} from a cache, {own['cache_write']:,} into it, "
    calls = f"{own['calls']} call{'s' * (own['calls'] != 1)}"
    return f"{own['source']}: the caller's {calls} {cost}, {through}{own['output']:,} tokens out"


def _alone(estimated: Mapping[str, Any]) -> str:
    told = []
    if low_high := estimated.get("alone_usd"):
        told.append("doing it alone " + " to ".join(map(signed, low_high)))
    if tokens := estimated.get("alone_tokens"):
        told.append(f"doing it alone {tokens[0]:,} to {tokens[1]:,} tokens of the caller's")
    if (schemas := estimated.get("schema_usd")) is not None and schemas != "0.0000":
        told.append(f"our schemas {signed(schemas)}")
    return f"estimated: {', '.join(told)}" if told else ""


def _net(receipt: Mapping[str, Any]) -> str:
    net: Sequence[Any] | None = receipt["net"]
    if net is None:
        return "unknown" if receipt["measured"]["usd"] is not None else "unknown, since a cost is"
    if isinstance(net[0], int):
        return f"{net[0]:,} to {net[1]:,} tokens of the caller's"
    compared = "caller" in receipt["measured"]
    note = (
        " (the caller's calls re-read the conversation; the work alone is estimated without that)" if compared else ""
    )
    return " to ".join(map(signed, net)) + note


def signed(amount: str) -> str:
    """`-0.01` as `-$0.01`."""
    return f"-${amount[1:]}" if amount.startswith("-") else f"${amount}"
