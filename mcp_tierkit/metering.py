"""The only caller of a gateway: reserve, send, price, settle, whatever happens in between."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from decimal import Decimal

import anyio

from mcp_tierkit.errors import ModelFailed, PolicyRefused
from mcp_tierkit.kit import Kit
from mcp_tierkit.ledger import TextKind
from mcp_tierkit.prices import Price, cost, worst_cost
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.settings import FILE, Stages
from mcp_tierkit.tiers import NAMES, Tier
from mcp_tierkit.tokens import at_most
from mcp_tierkit.types import Call, Completion, Message, PackedFile, Request, Route, Stage, TierName

DEARER = Decimal("1.5")
"""How many times the price of the model named first a call may cost before the user is told."""


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
    _refuse_secrets(request)
    # In a thread: the first count loads a vocabulary, and a rare model's price a map of three megabytes.
    request, worst = await anyio.to_thread.run_sync(_priced, kit, request, tier)
    call_id = await kit.ledger.reserve(request, worst, kit.config.budgets)
    started = time.monotonic()
    try:
        await _keep(kit, call_id, "prompt", "\n\n".join(f"[{part.role}]\n{part.content}" for part in messages))
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
    call = _settled(kit, request, tier, completion, _ms_since(started))
    await _settle(kit, call_id, call)
    await _keep(kit, call_id, "reply", completion.text)
    if call.model_mismatch:
        raise _mismatch(request, completion.served_model, call_id)
    return Metered(call_id=call_id, completion=completion, call=call)


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
        requested_model=tier.requested_model, category=route.category, packed=packed,
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
    """The request with its prices written on it, and the most it can cost."""
    prices = {"requested_price": rate(_pinned_price(kit, request, tier)), "routed_price": rate(tier.price)}
    return request.model_copy(update=prices), _worst(request, tier.price)


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


def _settled(kit: Kit, request: Request, tier: Tier, completion: Completion, duration_ms: int) -> Call:
    # A stated zero is what a provider says that does not know, or a gift that the table would know of.
    paid = completion.reported_cost_nanousd or None
    if paid is None and tier.price is not None:
        paid = cost(tier.price, completion.usage)
    served = completion.served_model
    price = _served_price(kit, request, tier, served)
    return Call(
        status="settled",
        served_model=served,
        served_price=rate(price),
        usage=completion.usage,
        cost_nanousd=paid,
        price_digest=kit.prices.digest,
        finish=completion.finish,
        duration_ms=duration_ms,
        model_mismatch=request.base_url is None and not is_same_model(request, served),
        alert=_alert(request, served, _pinned_price(kit, request, tier), price or tier.price),
    )


def _pinned_price(kit: Kit, request: Request, tier: Tier) -> Price | None:
    """The price of what the tier names first."""
    first = request.requested_model
    return tier.price if first in (None, request.model) else kit.prices.price(first or "")


def _served_price(kit: Kit, request: Request, tier: Tier, served: str | None) -> Price | None:
    """The price of the model that answered, by its own name where that is listed; None where nobody knows."""
    if served is None:
        return None
    is_form = _is_form(request.model, served)
    is_free = tier.base_url is not None and tier.price is not None and tier.price.input == tier.price.output == 0
    own = tier.price if is_form or is_free or served in request.served else None
    # A server of the user's own may call its model anything, and a price of the user's own holds for every date.
    if is_free or _bare(request.model) == _bare(served) or (is_form and own is not None and own.source == FILE):
        return own
    provider, vendor = request.model.partition("/")[0], request.model.rpartition("/")[0]
    names = (f"{provider}/{served}", f"{vendor}/{_bare(served)}", served)
    return next((price for name in names if (price := kit.prices.price(name))), own)


def _alert(request: Request, served: str | None, pinned: Price | None, paid: Price | None) -> str | None:
    """What the user should know where another price is paid than the one of the model named first."""
    if pinned is None or paid is None:
        return None
    if paid.input <= DEARER * pinned.input and paid.output <= DEARER * pinned.output:
        return None
    return (
        f"{served or request.model} answered at ${rate(paid)} a million tokens in and out; "
        f"{request.requested_model or request.model}, which the {request.tier} tier names, costs ${rate(pinned)}."
    )


def rate(price: Price | None) -> str | None:
    """Dollars per million tokens, in and out, as the ledger writes them: `0.1/0.5`."""
    return f"{_plain(price.input)}/{_plain(price.output)}" if price else None


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")


def is_same_model(request: Request, served: str | None) -> bool:
    """True where the served name is the requested one, a dated form of it, or listed under `served`.

    A provider that reports no name proves nothing either way, so None is accepted.
    """
    return served is None or served in request.served or _is_form(request.model, served)


def _is_form(model: str, served: str) -> bool:
    """Whether a name is the model's own, or that with a date."""
    asked, got = _bare(model), _bare(served)
    return (
        asked == got
        or re.fullmatch(re.escape(asked) + r"[-@:]?(?:\d{4}-?\d{2}-?\d{2}|\d{4}|latest|\d{3})", got) is not None
    )


def _bare(model: str) -> str:
    """A model's own name without the route in front; `latest` stands for any date."""
    return model.rsplit("/", 1)[-1].lower().removesuffix("-latest")
