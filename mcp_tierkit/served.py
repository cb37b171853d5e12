"""Which model answered for a tier, at what price, and what the user is told where that is not as named."""

from __future__ import annotations

import re
from decimal import Decimal

from mcp_tierkit.amounts import dollars, exact, figure
from mcp_tierkit.prices import Price, PriceTable, cost, tells_level
from mcp_tierkit.settings import FILE
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import Completion

_DATE = re.compile(r"[-@:]?(?:\d{4}-?\d{2}-?\d{2}|\d{4}|latest|\d{3})$")
DEARER = Decimal("1.5")
"""How many times the price of the model named first a call may cost before the user is told."""

_BUILD = re.compile(
    r"(?:[-_.@](?:i?q\d\w*|u?int\d|[bf]?f?p?(?:16|32|8)|fp4|nvfp4|mxfp4|w\d+a\d+|\d+-?bit|awq|gptq|gguf|mlx|exl\d|latest))+$"
)
"""How a build of a model is marked behind its name."""


def is_same_model(tier: Tier, served: str | None) -> bool:
    """True where the served name is the tier's model, a dated form of it, or listed under `served`.

    A provider that reports no name proves nothing either way, so None is accepted.
    """
    return served is None or served in tier.served or _is_form(tier.model, served)


def pinned_price(prices: PriceTable, tier: Tier) -> Price | None:
    """The price of what the tier names first."""
    is_own = tier.requested_model == tier.model or not tier.is_by_token
    return tier.price if is_own else prices.price(tier.requested_model, tier.base_url)


def served_price(prices: PriceTable, tier: Tier, served: str | None) -> Price | None:
    """The price of the model that answered, by its own name where that is listed; None where nobody knows."""
    if served is None or not tier.is_by_token:
        return None
    is_form = _is_form(tier.model, served)
    is_free = tier.base_url is not None and tier.price is not None and tier.price.input == tier.price.output == 0
    own = tier.price if is_form or is_free or served in tier.served else None
    # A server of the user's own may call its model anything, and a price of the user's own holds for every date.
    if is_free or _bare(tier.model) == _bare(served) or (is_form and own is not None and own.source == FILE):
        return own
    provider, vendor = tier.model.partition("/")[0], tier.model.rpartition("/")[0]
    names = (f"{provider}/{served}", f"{vendor}/{_bare(served)}", served)
    return next((price for name in names if (price := prices.price(name, tier.base_url))), own)


def alert(prices: PriceTable, tier: Tier, completion: Completion) -> str | None:
    """What the user should know where another price is paid than that of the model named first, or an unknown one."""
    served, usage = completion.served_model, completion.usage
    pinned, paid = pinned_price(prices, tier), served_price(prices, tier, served) or tier.price
    if paid is not None and not tells_level(paid, usage) and not completion.reported_cost_nanousd:
        return (
            f"{served or tier.model} answered at the service level {usage.level}, which no price list tells of: "
            "the call's cost is unknown."
        )
    if paid is not None and (stated := _stated_above(paid, completion)):
        return f"{served or tier.model}: {stated}"
    if pinned is None or paid is None:
        return _unnamed(tier, served, paid)
    if paid.input <= DEARER * pinned.input and paid.output <= DEARER * pinned.output:
        return _unnamed(tier, served, paid)
    return (
        f"{served or tier.model} answered at ${rate(paid)} a million tokens in and out; "
        f"{tier.requested_model}, which the {tier.name} tier names, costs ${rate(pinned)}."
    )


def _unnamed(tier: Tier, served: str | None, paid: Price | None) -> str | None:
    """A model that the user did not name, at an address of theirs. A machine of their own holds what they loaded.

    Such a server may call its model by a file, a tag or a quantisation: a name that differs in these alone is no other.
    """
    if served is None or tier.base_url is None or tier.billing == "local" or is_same_model(tier, served):
        return None
    if _is_form(_without_build(tier.model), _without_build(served)):
        return None
    priced = " and was priced as that" if paid is not None and paid is tier.price else ""
    return (
        f"{served} answered where the {tier.name} tier names {tier.model}{priced}. "
        f"If it is meant, add it to `served` of [tiers.{tier.name}]."
    )


def _stated_above(price: Price, completion: Completion) -> str | None:
    """The provider's own bill beside the list's, where it is far above."""
    stated, listed = completion.reported_cost_nanousd, cost(price, completion.usage)
    if not stated or listed is None or stated <= DEARER * listed:
        return None
    return f"its provider states {dollars(stated)} for a call that its listed price puts at {dollars(listed)}."


def rate(price: Price | None) -> str | None:
    """Dollars per million tokens, in and out, as the ledger writes them: `0.1/0.5`."""
    return f"{figure(price.input)}/{figure(price.output)}" if price else None


def billed(tier: Tier) -> str:
    """How a tier's calls are paid for, in a few words for a person."""
    if tier.billing == "subscription":
        return "within a subscription, counted in tokens"
    if tier.hour_nanousd is not None:
        return f"${exact(tier.hour_nanousd)} an hour of machine time"
    if tier.billing == "local":
        return "free of charge, machine time not priced"
    return f"${rate(tier.price)} a million tokens in and out" if tier.price else "an unknown price"


def _is_form(model: str, served: str) -> bool:
    """Whether a name is the model's own, that with a date, or its words in another order.

    OpenRouter answers as claude-4.6-sonnet-20260217 for claude-sonnet-4.6.
    """
    asked, got = _bare(model), _bare(served)
    return asked == got or _words(asked) in (_words(got), _words(_DATE.sub("", got)))


def _words(name: str) -> list[str]:
    """The words of a name, sorted; the numbers of a version stay together, as 4.5 is not 5.4."""
    return sorted(re.findall(r"\d+(?:-\d+)*(?![a-z0-9])|[^-]+", name.replace(".", "-")))


def _without_build(model: str) -> str:
    """A model's own name without the file, the tag and the quantisation that a server of one's own adds."""
    name = re.sub(r":[^:]*$|\.(?:gguf|bin|safetensors)$", "", _bare(model))
    return _BUILD.sub("", name) or name


def _bare(model: str) -> str:
    """A model's own name without the route in front; `latest` stands for any date."""
    return model.rsplit("/", 1)[-1].lower().removesuffix("-latest")
