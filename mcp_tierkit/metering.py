"""The only caller of a gateway: reserve, send, price, settle, whatever happens in between."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Literal

import anyio
import anyio.lowlevel

from mcp_tierkit.digests import steady
from mcp_tierkit.errors import ModelFailed, OverBudget, PolicyRefused
from mcp_tierkit.kit import Kit
from mcp_tierkit.ledger import TextKind
from mcp_tierkit.prices import Price, cost, most_of
from mcp_tierkit.receipts import usd
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.refusals import Refused, explain
from mcp_tierkit.served import alert, is_same_model, pinned_price, rate, served_price
from mcp_tierkit.settings import Stages
from mcp_tierkit.tiers import NAMES, Tier
from mcp_tierkit.tokens import at_most
from mcp_tierkit.types import Call, Completion, Message, PackedFile, Request, Route, Stage, TierName, Usage

MOST = 10**13
"""Nanodollars one call may cost, $10,000: a price above it is mistyped, and its sums would outgrow SQLite's numbers."""


@dataclass(frozen=True)
class Metered:
    """A reply and the row that paid for it."""

    call_id: str
    completion: Completion
    call: Call


async def call_model(
    kit: Kit, route: Route, tier: Tier, *, stage: Stage, messages: tuple[Message, ...], prompt_id: str,
    max_output_tokens: int | None = None, packed: tuple[PackedFile, ...] = (),
) -> Metered:  # fmt: skip
    """One model call, paid for and recorded, with its texts where the user keeps them.

    Raises PolicyRefused where the tier is above the stage's pin or a message holds a secret, OverBudget before anything
    is sent, and ModelFailed after the row is settled as failed; a cancelled call is settled as cancelled.
    """
    await _refuse_above_pin(kit, route, tier.name, stage)
    request = _request(route, tier, stage, messages, prompt_id, max_output_tokens, packed)
    # In threads: a request may be megabytes, the first count loads a vocabulary, and a rare model's price a large map.
    await anyio.to_thread.run_sync(_refuse_secrets, request)
    request, worst = await anyio.to_thread.run_sync(_priced, kit, request, tier)
    _refuse_absurd(request, worst)
    call_id = await _reserve(kit, request, tier, worst)
    started, was_sent = time.monotonic(), False
    try:
        await _keep(kit, call_id, "prompt", "\n\n".join(f"[{part.role}]\n{part.content}" for part in messages))
        await anyio.lowlevel.checkpoint()  # Whoever gave up while the ledger was busy is charged nothing.
        was_sent = True
        completion = await kit.gateway.complete(request)
    except anyio.get_cancelled_exc_class() as left:
        was_sent = was_sent and getattr(left, "was_sent", True)
        await _settle(kit, call_id, _ended("cancelled", tier, "cancelled", started, was_sent))
        raise
    except ModelFailed as error:
        error.call_id = call_id
        await _settle(kit, call_id, _failed(tier, error, _took(error.duration_ms, started)))
        raise
    except BaseException as error:
        await _settle(kit, call_id, _ended("failed", tier, type(error).__name__, started, was_sent))
        raise
    call = _settled(kit, request, tier, completion, worst, _took(completion.duration_ms, started))
    await _settle(kit, call_id, call)
    await _keep(kit, call_id, "reply", completion.text)
    if call.model_mismatch:
        raise _mismatch(request, completion.served_model, call_id)
    return Metered(call_id=call_id, completion=completion, call=call)


async def _reserve(kit: Kit, request: Request, tier: Tier, worst: int | None) -> str:
    """The row that holds the most the call can cost, once its gateway is ready to send."""
    budgets = await anyio.to_thread.run_sync(kit.config.budgets_now)
    if await kit.ledger.may_admit(request, worst, budgets):
        await kit.gateway.ready()  # It may load for seconds: whoever leaves meanwhile holds no budget and owes nothing.
    try:
        return await kit.ledger.reserve(request, worst, budgets)
    except OverBudget as error:
        task = await kit.ledger.task(request.task_id)
        refused = Refused(request, worst, tier, is_single_pass=task.latency == "interactive")
        explain(kit.config, error, refused, door=kit.door)
        raise


async def _refuse_above_pin(kit: Kit, route: Route, tier: TierName, stage: Stage) -> None:
    if route.decision == "review":
        stage = "review"  # The rest of a review that was cut off is a part of it.
    pin = _pin(kit.config.stages, stage)
    if pin is None or NAMES.index(tier) <= NAMES.index(pin) or route.override is not None:
        return
    drafted = (await kit.ledger.latest_route(route.task_id)).tier if stage == "review" else None
    if drafted is not None and NAMES.index(pin) < NAMES.index(drafted):
        return  # A review is never on a lower tier than the draft, whatever its pin.
    raise PolicyRefused(
        f"A {stage} call is pinned to the {pin} tier at most, and this one is for {tier}. Nothing was sent or spent.",
        next_step="Change the pin under [stages] in your tierkit.toml, or pin the tier of this task in plan_task.",
    )


def _pin(stages: Stages, stage: Stage) -> TierName | None:
    """The highest tier that a stage may use; None for any."""
    if stage in ("climb", "continue"):  # A climbed reply that was cut off is continued where it is.
        return max((stages.draft, *stages.climb), key=NAMES.index)
    return {"plan": stages.plan, "draft": stages.draft, "repair": stages.draft, "review": stages.review}.get(stage)


async def _keep(kit: Kit, call_id: str, kind: TextKind, text: str) -> None:
    if kit.config.log_text:
        await kit.ledger.keep_text(call_id, kind, text)


async def _settle(kit: Kit, call_id: str, call: Call) -> None:
    # Shielded: the provider has already charged us, whoever stopped waiting.
    with anyio.CancelScope(shield=True):
        await kit.ledger.settle(call_id, call)


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _took(told: int | None, started: float) -> int:
    """The gateway's own figure where it has one: its first call loads for seconds, which no model's machine works."""
    return _ms_since(started) if told is None else told


def _mismatch(request: Request, served: str | None, call_id: str) -> ModelFailed:
    error = ModelFailed(
        f"{request.model} was asked and {served} answered. The call was paid for and its reply was not used.",
        next_step=f"If that name is right, add it to `served` of [tiers.{request.tier}]; otherwise pin another model.",
        kind="model_mismatch",
    )
    error.call_id = call_id
    return error


def _request(
    route: Route, tier: Tier, stage: Stage, messages: tuple[Message, ...], prompt_id: str, limit: int | None,
    packed: tuple[PackedFile, ...],
) -> Request:  # fmt: skip
    return Request(
        task_id=route.task_id, route_id=route.route_id, stage=stage, tier=tier.name, model=tier.model,
        requested_model=tier.requested_model, billing=tier.billing, category=route.category, packed=packed,
        base_url=tier.base_url, api_key_env=tier.api_key_env, served=tier.served, messages=messages,
        max_output_tokens=min(limit or tier.max_output_tokens, tier.max_output_tokens),
        timeout_s=tier.timeout_s, prompt_id=prompt_id,
    )  # fmt: skip


def _refuse_secrets(request: Request) -> None:
    for message in request.messages:
        for secret in find_secrets(message.content):
            raise PolicyRefused(
                f"The request would carry a secret ({secret.rule}). Nothing was sent or spent.",
                next_step="Take the secret out of the files, the task or the check's output, then call again.",
            )


def _priced(kit: Kit, request: Request, tier: Tier) -> tuple[Request, int | None]:
    """The request with its prices and its digest written on it, and the most it can cost."""
    prices = {"requested_price": rate(pinned_price(kit.prices, tier)), "routed_price": rate(tier.price)}
    known = {"digest": None if request.stage == "doctor" else _digest(request)}  # Whoever mends a key tries it often.
    return request.model_copy(update=prices | known), _worst(request, tier)


def _digest(request: Request) -> str:
    """What is asked of whom: equal for equal requests, of whichever task.

    Only the breaker reads it. What a check's output differs in from run to run (durations, times, addresses, folders
    of a moment, process ids) counts for nothing, or no loop around a test runner would be seen.
    """
    said = [(message.role, steady(message.content)) for message in request.messages]
    asked = json.dumps([request.model, request.base_url, request.max_output_tokens, said])
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


def _worst(request: Request, tier: Tier) -> int | None:
    """The most the call can cost in nanodollars; None where the model has no price."""
    # Framing tokens of the chat format are not in the texts: 16 a message covers every wire seen.
    sent = sum(at_most(message.content) + 16 for message in request.messages)
    return tier.worst(sent, request.max_output_tokens)


def _refuse_absurd(request: Request, worst: int | None) -> None:
    if worst is not None and worst > MOST:
        raise PolicyRefused(
            f"By its price, one call to {request.model!r} could cost ${usd(worst)}. Nothing was sent or spent.",
            next_step="Ask the user to correct that price in tierkit.toml: tokens are in dollars per million, "
            "hour_usd is in dollars.",
        )


def _ended(status: Literal["failed", "cancelled"], tier: Tier, error: str, started: float, was_sent: bool) -> Call:
    """A call that gave no reply. What it cost is known where it was not sent, and where time is the price."""
    took = _ms_since(started)
    return Call(status=status, cost_nanousd=tier.time_cost(took) if was_sent else 0, error=error, duration_ms=took)


def _failed(tier: Tier, error: ModelFailed, duration_ms: int) -> Call:
    """A request that was refused or never sent costs nothing; after that we cannot know: the cost stays unknown."""
    refused = error.kind in {"auth", "rate_limit", "bad_request", "context_window", "connection", "overloaded"}
    cost = 0 if refused or not error.was_sent else tier.time_cost(duration_ms)
    label = error.kind if error.status is None else f"{error.kind} {error.status}"
    return Call(status="failed", cost_nanousd=cost, error=label, duration_ms=duration_ms)


def _settled(
    kit: Kit, request: Request, tier: Tier, completion: Completion, worst: int | None, duration_ms: int
) -> Call:
    served, usage = completion.served_model, completion.usage
    own = served_price(kit.prices, tier, served)
    price = _list_price(tier, completion, own)
    paid = _paid(tier, completion, price, duration_ms)
    return Call(
        status="settled",
        served_model=served,
        served_price=rate(own),
        usage=usage,
        cost_nanousd=paid,
        most_nanousd=_most(price, usage, request, worst) if paid is None else None,
        cache_saved_nanousd=_cache_saved(price, usage, paid),
        price_digest=kit.prices.digest,
        finish=completion.finish,
        duration_ms=duration_ms,
        model_mismatch=tier.base_url is None and not is_same_model(tier, served),
        alert=alert(kit.prices, tier, completion),
    )


def _list_price(tier: Tier, completion: Completion, own: Price | None) -> Price | None:
    """What the reply's tokens are priced at; None where they are not, or where the provider states what it took.

    `own` is the price of the model that answered, by its own name.
    """
    # A stated zero is what a provider says that does not know, or a gift that the table would know of.
    if completion.reported_cost_nanousd or not tier.is_by_token:
        return None
    return own or tier.price  # Who answered is who charges.


def _paid(tier: Tier, completion: Completion, price: Price | None, duration_ms: int) -> int | None:
    """What a reply cost. Where tokens have no price, a cost that the provider states is no bill of this user's."""
    if not tier.is_by_token:
        return tier.time_cost(duration_ms)
    return completion.reported_cost_nanousd or None if price is None else cost(price, completion.usage)


def _most(price: Price | None, usage: Usage, request: Request, worst: int | None) -> int | None:
    """Of a cost that is unknown: the most it can be by the tokens that the reply names, where less was reserved."""
    most = None if price is None else most_of(price, usage, request.max_output_tokens)
    return None if worst is None or most is None else min(worst, most)


def _cache_saved(price: Price | None, usage: Usage, paid: int | None) -> int | None:
    """What the provider's cache took off a call: its cost with all input fresh, less its cost.

    Negative where writing to the cache cost more than reading from it saved.
    """
    buckets = (usage.input, usage.cached_input, usage.cache_write)
    known = [tokens for tokens in buckets if tokens is not None]
    if price is None or paid is None or len(known) < len(buckets):
        return None
    all_fresh = {"input": sum(known), "cached_input": 0, "cache_write": 0, "cache_write_1h": None}
    fresh = cost(price, usage.model_copy(update=all_fresh))
    return None if fresh is None else fresh - paid
