"""The only caller of a gateway: reserve, send, price, settle, whatever happens in between."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import anyio

from mcp_tierkit.errors import ModelFailed, PolicyRefused
from mcp_tierkit.kit import Kit
from mcp_tierkit.prices import Price, cost, worst_cost
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.tiers import Tier
from mcp_tierkit.tokens import at_most
from mcp_tierkit.types import Call, Completion, Message, Request, Route, Stage


@dataclass(frozen=True)
class Metered:
    """A reply and the row that paid for it."""

    call_id: str
    completion: Completion
    call: Call


async def call_model(
    kit: Kit, route: Route, tier: Tier, *, stage: Stage, messages: tuple[Message, ...], prompt_id: str,
    max_output_tokens: int | None = None,
) -> Metered:  # fmt: skip
    """One model call, paid for and recorded.

    Raises OverBudget before anything is sent, PolicyRefused where a message holds a secret, and
    ModelFailed after the row is settled as failed; a cancelled call is settled as cancelled.
    """
    request = _request(route, tier, stage, messages, prompt_id, max_output_tokens)
    _refuse_secrets(request)
    # In a thread: the first count loads a vocabulary.
    worst = await anyio.to_thread.run_sync(_worst, request, tier.price)
    call_id = await kit.ledger.reserve(request, worst, kit.config.budgets)
    started = time.monotonic()
    try:
        completion = await kit.gateway.complete(request)
    except anyio.get_cancelled_exc_class():
        await _settle(kit, call_id, Call(status="cancelled", error="cancelled", duration_ms=_ms_since(started)))
        raise
    except ModelFailed as error:
        error.call_id = call_id
        await _settle(kit, call_id, _failed(error, _ms_since(started)))
        raise
    except BaseException as error:
        await _settle(kit, call_id, Call(status="failed", error=type(error).__name__, duration_ms=_ms_since(started)))
        raise
    call = _settled(request, tier, completion, _ms_since(started), kit.prices.digest)
    await _settle(kit, call_id, call)
    if call.model_mismatch:
        raise _mismatch(request, completion.served_model, call_id)
    return Metered(call_id=call_id, completion=completion, call=call)


async def _settle(kit: Kit, call_id: str, call: Call) -> None:
    # Shielded: the provider has already charged us, whoever stopped waiting.
    with anyio.CancelScope(shield=True):
        await kit.ledger.settle(call_id, call)


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _mismatch(request: Request, served: str | None, call_id: str) -> ModelFailed:
    error = ModelFailed(
        f"{request.model} was asked and {served} answered. The call was paid for and its reply was not used.",
        next_step=f"If that name is right, add it to `served` of [tiers.{request.tier}]; otherwise pin another model.",
        kind="model_mismatch",
    )
    error.call_id = call_id
    return error


def _request(
    route: Route, tier: Tier, stage: Stage, messages: tuple[Message, ...], prompt_id: str, limit: int | None
) -> Request:
    return Request(
        task_id=route.task_id, route_id=route.route_id, stage=stage, tier=tier.name, model=tier.model,
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


def _worst(request: Request, price: Price | None) -> int | None:
    """The most the call can cost in nanodollars; None where the model has no price."""
    if price is None:
        return None
    # Framing tokens of the chat format are not in the texts: 16 a message covers every wire seen.
    sent = sum(at_most(message.content) + 16 for message in request.messages)
    return worst_cost(price, sent, request.max_output_tokens)


def _failed(error: ModelFailed, duration_ms: int) -> Call:
    """A refused connection or request costs nothing; after that we cannot know, so the cost stays unknown."""
    refused = error.kind in {"auth", "rate_limit", "bad_request", "context_window", "connection", "overloaded"}
    label = error.kind if error.status is None else f"{error.kind} {error.status}"
    return Call(status="failed", cost_nanousd=0 if refused else None, error=label, duration_ms=duration_ms)


def _settled(request: Request, tier: Tier, completion: Completion, duration_ms: int, price_digest: str) -> Call:
    # A stated zero is what a provider says that does not know, or a gift that the table would know of.
    paid = completion.reported_cost_nanousd or None
    if paid is None and tier.price is not None:
        paid = cost(tier.price, completion.usage)
    return Call(
        status="settled",
        served_model=completion.served_model,
        usage=completion.usage,
        cost_nanousd=paid,
        price_digest=price_digest,
        finish=completion.finish,
        duration_ms=duration_ms,
        model_mismatch=request.base_url is None and not is_same_model(request, completion.served_model),
    )


def is_same_model(request: Request, served: str | None) -> bool:
    """True where the served name is the requested one, a dated form of it, or listed under `served`.

    A provider that reports no name proves nothing either way, so None is accepted.
    """
    if served is None or served in request.served:
        return True
    asked, got = _bare(request.model), _bare(served)
    return (
        asked == got
        or re.fullmatch(re.escape(asked) + r"[-@:]?(?:\d{4}-?\d{2}-?\d{2}|\d{4}|latest|\d{3})", got) is not None
    )


def _bare(model: str) -> str:
    """A model's own name without the route in front; `latest` stands for any date."""
    return model.rsplit("/", 1)[-1].lower().removesuffix("-latest")
