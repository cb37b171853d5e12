"""A receipt in sentences, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_tierkit.amounts import count, dollars_of


def receipt_lines(receipt: Mapping[str, Any]) -> list[str]:
    """What a receipt says, a line each: our calls, the caller's side, the work alone, the net, what to look at."""
    measured, estimated = receipt["measured"], receipt["estimated"] or {}
    lines = [_calls(measured), _caller(measured), _alone(estimated), f"net: {_net(receipt)}"]
    if key := receipt.get("key_spent"):
        lines.append(f"paid with {key}; set a budget under [budget] in tierkit.toml")
    lines += [_price(notice) for notice in receipt.get("prices", "").split(", ") if notice]
    return [line for line in lines if line]


def _price(notice: str) -> str:
    tier, _, what = notice.partition(" ")
    if what == "deprecated":
        return f"prices: the {tier} tier's model is withdrawn by its provider, or soon will be: tierkit doctor"
    return f"prices: that of the {tier} tier was read long ago and may have changed: tierkit prices"


def _calls(measured: Mapping[str, Any]) -> str:
    tokens = measured["tokens"]
    used = "tokens not named" if tokens is None else f"{count(tokens[0], 'token')} in, {tokens[1]:,} out"
    cost = "within a quota" if _is_quota(measured) else _cost(measured["usd"])
    cost += f" and {count(within, 'call')} within a quota" if (within := measured.get("quota_calls")) else ""
    unpriced = 0 if _is_quota(measured) else measured.get("unpriced_calls", 0)  # Older receipts counted quota there.
    unknown = f"; {count(unpriced, 'call')} without a known cost" if unpriced else ""
    return f"measured: model calls {cost}, {used}{unknown}" + (
        f"; paid for: {measured['billing']}" if "billing" in measured else ""
    )


def _is_quota(measured: Mapping[str, Any]) -> bool:
    """Whether all of our calls were within a subscription: nobody's bill has them, and nothing of them is unknown."""
    return bool(measured.get("billing") == "subscription")


def _caller(measured: Mapping[str, Any]) -> str:
    if (own := measured.get("caller")) is None:
        reply, arguments = measured["caller_tokens"]
        if measured.get("read_by") == "person":
            before = f" but {reply + arguments:,} of other rounds" if reply + arguments else ""
            return f"measured: read by a person, so no agent's tokens{before}"
        return f"measured: the caller read {reply:,} and wrote {count(arguments, 'token')}"
    cost = _cost(own["usd"])
    through = f"{own['input']:,} in, {own['cache_read']:,} from a cache, {own['cache_write']:,} into it, "
    calls = count(own["calls"], "call")
    return f"{own['source']}: the caller's {calls} {cost}, {through}{count(own['output'], 'token')} out"


def _alone(estimated: Mapping[str, Any]) -> str:
    told = []
    if low_high := estimated.get("alone_usd"):
        told.append("doing it alone " + _range(low_high))
    if tokens := estimated.get("alone_tokens"):
        told.append(f"doing it alone {tokens[0]:,} to {count(tokens[1], 'token')} of the caller's")
    if (schemas := estimated.get("schema_usd")) is not None and schemas != "0.0000":
        told.append(f"our schemas {dollars_of(schemas)}")
    return f"estimated: {', '.join(told)}" if told else ""


def _net(receipt: Mapping[str, Any]) -> str:
    net: Sequence[Any] | None = receipt["net"]
    if net is None and (_is_quota(receipt["measured"]) or receipt["measured"].get("quota_calls")):
        return "none in dollars, since a quota is counted in tokens"
    if net is None:
        return "unknown" if receipt["measured"]["usd"] is not None else "unknown, like the cost of a call"
    if isinstance(net[0], int):
        return f"{net[0]:,} to {count(net[1], 'token')} of the caller's"
    compared = "caller" in receipt["measured"]
    note = (
        " (the caller's calls re-read the conversation; the work alone is estimated without that)" if compared else ""
    )
    return _range(net) + note


def _range(ends: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(map(dollars_of, ends)))


def _cost(usd: str | None) -> str:
    return "of unknown cost" if usd is None else dollars_of(usd)
