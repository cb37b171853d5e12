"""Which tiers to try again because what they were chosen for has changed: another price, or another model."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_tierkit.prices import PriceTable
from mcp_tierkit.served import rate
from mcp_tierkit.settings import Stages
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import Record, TierName


class LastCall(Record):
    """The newest call of a tier whose price was written down: what it was sent to, and at which price."""

    at: str
    model: str
    price: str


class Retest(Record):
    """A tier to try again. Prices are dollars per million tokens, in and out; None is unknown."""

    tier: TierName
    stages: tuple[str, ...]
    since: str
    model_before: str
    model: str
    price_before: str
    price: str | None

    def told(self) -> str:
        """One line for a person, such as `re-test: cheap tier (some-model: output 0.5 → 0.8)`."""
        changed = self.model if self.model == self.model_before else f"{self.model_before} → {self.model}"
        use = f", which does {' and '.join(self.stages)}" if self.stages else ""
        return f"re-test: {self.tier} tier{use} ({changed}: {self._prices()}; last call {self.since[:10]})"

    def _prices(self) -> str:
        if self.price is None:
            return f"{self.price_before} → unknown"
        parts = zip(("input", "output"), self.price_before.split("/"), self.price.split("/"), strict=True)
        moved = [f"{name} {before} → {now}" for name, before, now in parts if before != now]
        return ", ".join(moved) or f"{self.price} as before"


def retests(
    last: Mapping[TierName, LastCall], tiers: Mapping[TierName, Tier], prices: PriceTable, stages: Stages
) -> tuple[Retest, ...]:
    """The tiers whose model, or whose model's price, is not what it was at their last call.

    Of a tier that cannot be used now, for want of a key or an engine, the model of that call is looked up.
    """
    found = []
    for name, call in last.items():
        tier = tiers.get(name)
        model = tier.model if tier else call.model
        # By the hour or within a subscription there is no price of tokens to have changed.
        is_by_token = tier is None or tier.is_by_token
        price = rate(tier.price if tier else prices.price(model)) if is_by_token else call.price
        if model != call.model or (price != call.price and (tier or price)):
            changed = Retest(
                tier=name, stages=_uses(name, stages), since=call.at, model_before=call.model, model=model,
                price_before=call.price, price=price,
            )  # fmt: skip
            found.append(changed)
    return tuple(found)


def _uses(tier: TierName, stages: Stages) -> tuple[str, ...]:
    pinned = {"plan": (stages.plan,), "draft": (stages.draft,), "climb": stages.climb, "review": (stages.review,)}
    return tuple(stage for stage, named in pinned.items() if tier in named)
