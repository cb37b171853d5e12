"""Which model stands behind each tier: the user's choice, else a key that is there, else an engine on this machine."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from mcp_tierkit.config import Config
from mcp_tierkit.errors import NoModel
from mcp_tierkit.keys import UNREAD
from mcp_tierkit.prices import LOCAL_PRICE, Price, PriceTable, time_cost, worst_cost
from mcp_tierkit.providers import Provider, can_draft, is_local, known, provider_of
from mcp_tierkit.settings import TierConfig
from mcp_tierkit.types import Billing, NanoUsd, Record, TierName

Source = Literal["config", "key", "engine"]
NAMES: tuple[TierName, ...] = ("cheap", "mid", "strong")


class Engine(Record):
    """A model server found on this machine."""

    name: str
    base_url: str
    models: tuple[str, ...]


class Tier(Record):
    """One tier, ready for a request. It holds the name of a key, never a key."""

    name: TierName
    model: str = Field(description="litellm's name.")
    requested_model: str = Field(description="What the tier names first: `model` itself where that can be used.")
    base_url: str | None = None
    api_key_env: str | None = Field(default=None, description="The variable whose key is spent; None where none is.")
    price: Price | None = Field(description="Per token; None where nobody knows it, and where tokens have none.")
    billing: Billing = "api"
    hour_nanousd: NanoUsd | None = Field(default=None, description="An hour of the machine, where that is the price.")
    served: tuple[str, ...] = ()
    max_output_tokens: int
    thinking_tokens: int = 0
    timeout_s: float
    scratchpad: bool
    source: Source = Field(description="What chose the model.")
    provider: str | None = Field(default=None, description="Provider or engine by name, where known.")

    @property
    def is_by_token(self) -> bool:
        """False where tokens have no price of their own: by the hour, or within a subscription."""
        return self.billing == "api" or self.price is not None

    def worst(self, input_tokens: int, max_output: int) -> int | None:
        """The most that one call can cost, in nanodollars; None where no price is known."""
        if self.hour_nanousd is not None:
            return self.time_cost(math.ceil(self.timeout_s * 1000))
        # Behind an address of the user's own a proxy may ask for what we do not.
        return worst_cost(self.price, input_tokens, max_output, hour=self.base_url is not None) if self.price else None

    def time_cost(self, ms: int) -> int | None:
        """Nanodollars of a call that took `ms`, where time is the price; none takes longer than its time limit.

        What is beyond the limit was spent here, on loading and writing, and not on the model's machine.
        """
        if self.hour_nanousd is None:
            return None
        return time_cost(self.hour_nanousd, min(ms, math.ceil(self.timeout_s * 1000)))


class Survey(Record):
    """The tiers that can be used, and for each of the others one sentence why not."""

    tiers: dict[TierName, Tier]
    missing: dict[TierName, str]


def survey(config: Config, engines: Sequence[Engine] = ()) -> Survey:
    """Every tier with its model, or with the reason why it has none.

    A tier that the user wrote stands or falls as written: it is never replaced by another model.
    """
    prices = config.price_table()
    tiers: dict[TierName, Tier] = {}
    missing: dict[TierName, str] = {}
    for name in NAMES:
        found = _one(name, config, engines, prices)
        if isinstance(found, Tier):
            tiers[name] = found
        else:
            missing[name] = found
    return Survey(tiers=tiers, missing=missing)


def no_model(name: TierName, found: Survey, notes: Sequence[str] = ()) -> NoModel:
    """The refusal for a tier that cannot be used: why, that nothing was spent, and what to set.

    `notes` are the configuration's: a key may be missing because its file was not read.
    """
    unread = "".join(f" {note}" for note in notes if note.startswith(UNREAD))
    usual = ", ".join(provider.keys[0] for provider in known().provider if provider.tiers)
    local = ", ".join(engine.name for engine in known().engine)
    return NoModel(
        f"{found.missing[name]}{unread} No model was called and nothing was spent.",
        next_step=f"Set one of {usual} in the environment or in keys.env, or start {local} on this machine, "
        f"or name a model under [tiers.{name}] in your tierkit.toml; `tierkit doctor` says where these files are.",
    )


def _one(name: TierName, config: Config, engines: Sequence[Engine], prices: PriceTable) -> Tier | str:
    if name in config.dropped:
        return f"The {name} tier is dropped by a tierkit.toml."
    if written := config.tiers.get(name):
        return _written(name, written, config, prices)
    provider = next((p for p in known().provider if p.tiers and _key_of(p, config)), None)
    if provider:
        return _from_provider(name, provider, config, prices)
    return _from_engine(name, engines) or f"The {name} tier has no model: no key was found and no engine answered."


def _written(name: TierName, written: TierConfig, config: Config, prices: PriceTable) -> Tier | str:
    """The first model of the user's list that can be used, or why the first one cannot."""
    reasons = []
    for model in written.models:
        usable = _usable(name, model, written, config, prices)
        if isinstance(usable, Tier):
            return usable
        reasons.append(usable)
    return reasons[0]


def _usable(
    name: TierName, model: str, written: TierConfig, config: Config, prices: PriceTable, source: Source = "config"
) -> Tier | str:
    provider = provider_of(model) if written.base_url is None else None
    key = written.api_key_env or (_key_of(provider, config) if provider else None)
    if (wanted := _missing_key(model, written, provider, config)) is not None:
        return f"The {name} tier names {model}, and {wanted}."
    billing = _billing(model, written, prices)
    if billing == "local" and not _may_be_local(model, written):
        return f"The {name} tier is billed as local, and {model} does not run on a machine of yours."
    price = _token_price(model, written, prices, billing)
    if billing == "api" and price is None and not config.policy.allow_unpriced:
        return (
            f"The {name} tier names {model}, whose price is unknown; add `price` to [tiers.{name}] "
            f"or set policy.allow_unpriced.{_more_prices(model)}"
        )
    return _tier(
        name, model, written, key=key, price=price, source=source, provider=provider.name if provider else None,
        billing=billing,
    )  # fmt: skip


def _tier(
    name: TierName, model: str, settings: TierConfig, *, key: str | None, price: Price | None, source: Source,
    provider: str | None, billing: Billing,
) -> Tier:  # fmt: skip
    return Tier(
        name=name, model=model, base_url=settings.base_url, api_key_env=key, price=price, served=settings.served,
        requested_model=settings.models[0], max_output_tokens=settings.max_output_tokens,
        thinking_tokens=settings.thinking_tokens, timeout_s=settings.timeout_s, scratchpad=settings.scratchpad,
        source=source, provider=provider, billing=billing, hour_nanousd=settings.hour_usd,
    )  # fmt: skip


def _missing_key(model: str, written: TierConfig, provider: Provider | None, config: Config) -> str | None:
    """What is lacking to authenticate, None where nothing is."""
    if written.api_key_env:
        return None if config.key(written.api_key_env) else f"{written.api_key_env} is not set"
    if written.base_url is not None or is_local(model):
        return None
    if provider is None:
        return "nothing says which key it wants; add `api_key_env` or `base_url`"
    return None if _key_of(provider, config) else f"{' or '.join(provider.keys)} is not set"


def _billing(model: str, written: TierConfig, prices: PriceTable) -> Billing:
    """As the user wrote it; else by the hour or free where the model runs on this machine, by the token elsewhere."""
    if written.billing is not None:
        return written.billing
    is_free = written.price is None and _listed_price(model, written, prices) == LOCAL_PRICE
    return "local" if is_free or written.hour_usd is not None else "api"


def _may_be_local(model: str, written: TierConfig) -> bool:
    """False for a provider's own address, and for a model that an engine only passes on to a cloud."""
    return is_local(model) or (written.base_url is not None and can_draft(model))


def _token_price(model: str, written: TierConfig, prices: PriceTable, billing: Billing) -> Price | None:
    if billing == "local":
        return LOCAL_PRICE if written.hour_usd is None else None
    if billing == "subscription":
        return None
    price = written.own_price() or _listed_price(model, written, prices)
    return None if price == LOCAL_PRICE else price  # Whoever says `api` of such an address is sent a bill.


def _more_prices(model: str) -> str:
    from mcp_tierkit.price_map import hint

    told = hint(model)
    return f" {told}" if told else ""


def _listed_price(model: str, written: TierConfig, prices: PriceTable) -> Price | None:
    """The table's price; zero for an unlisted model behind a keyless address of this machine.

    What the user named for that model wherever it is called goes first, what another tier's address costs does not.
    """
    if written.base_url is None:
        return prices.price(model)
    here = is_loopback(written.base_url) and written.api_key_env is None and can_draft(model)
    return prices.own(model) or prices.packaged(model) or (LOCAL_PRICE if here else None)


def is_loopback(url: str) -> bool:
    """True for an address of this machine, by its name alone: nothing is looked up."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key_of(provider: Provider, config: Config) -> str | None:
    return next((name for name in provider.keys if config.key(name)), None)


def _from_provider(name: TierName, provider: Provider, config: Config, prices: PriceTable) -> Tier | str:
    model = provider.tiers.get(name)
    if model is None:
        return f"{provider.name} has no model for the {name} tier in our table."
    return _usable(name, model, TierConfig(models=(model,)), config, prices, "key")


def _from_engine(name: TierName, engines: Sequence[Engine]) -> Tier | None:
    """The first engine that holds a model that can draft; all three tiers may share it."""
    for engine in engines:
        if model := next(filter(can_draft, engine.models), None):
            named = f"openai/{model}"
            settings = TierConfig(models=(named,), base_url=engine.base_url, served=(model,))
            return _tier(
                name, named, settings, key=None, price=LOCAL_PRICE, source="engine", provider=engine.name,
                billing="local",
            )  # fmt: skip
    return None
