"""`tierkit.toml` as records, and refusals that name the key and never its value."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.prices import Price
from mcp_tierkit.types import Billing, NanoUsd, Network, Record, TierName

FILE = "tierkit.toml"
NO_LIMIT = "none"
NO_CACHE_READ = "cached input costs what fresh input does: no cache_read is named"


def nanodollars(value: object) -> int:
    """Whole nanodollars of an amount such as `"0.50"`, exactly. Raises ValueError for anything else."""
    return int(_plain_amount(value) * 1_000_000_000)


def _limit(value: object) -> int | None:
    """A limit in nanodollars; None where nobody set one, and for `"none"`, which lifts one of our defaults."""
    if value is None or value == NO_LIMIT:
        return None
    try:
        return nanodollars(value)
    except ValueError as error:
        raise ValueError(f'{error}; or "{NO_LIMIT}"') from None


def _plain_amount(value: object) -> Decimal:
    """A dollar amount up to 9,999,999 with at most nine places; no sign, exponent, or word such as `nan`."""
    text = str(value) if isinstance(value, str | int) else ""
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", text):
        raise ValueError(
            'is not an amount of US dollars such as "0.50": digits, at most seven before the point and nine after it'
        )
    return Decimal(text)


def _endpoint(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+(/[^\s?#]*)?", value):
        raise ValueError("is not an http or https address without a user name, a query or a key in it")
    return value


def _variable(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", value):
        raise ValueError("is not the name of an environment variable; the key itself never goes here")
    return value


Amount = Annotated[NanoUsd, BeforeValidator(nanodollars)]
Limit = Annotated[NanoUsd | None, BeforeValidator(_limit)]
PerMillion = Annotated[Decimal, BeforeValidator(_plain_amount)]
Name = Annotated[str, Field(min_length=1, max_length=300)]


class Caller(Record):
    """Who calls us: the baseline of every receipt. None where the user did not say."""

    model: Name | None = None
    billing: Literal["api", "subscription"] = "api"
    minute_usd: Amount | None = Field(default=None, description="A minute of cleaning up; None: it has no price.")
    transcripts: bool = Field(default=False, description="Measure its side from its transcripts, in a terminal.")

    @property
    def minute_nanousd(self) -> NanoUsd | None:
        """`minute_usd` as what it holds: an amount is whole nanodollars once it is read."""
        return self.minute_usd


class TierPrice(Record):
    """US dollars per million tokens, for models that the table lacks."""

    input: PerMillion
    output: PerMillion
    cache_read: PerMillion | None = None
    cache_write: PerMillion | None = None
    cache_write_1h: PerMillion | None = None
    batch_input: PerMillion | None = None
    batch_output: PerMillion | None = None


class TierConfig(Record):
    """One tier as the user wrote it."""

    models: tuple[Name, ...] = Field(min_length=1, description="litellm's names; the first that is usable is used.")
    base_url: Annotated[str, BeforeValidator(_endpoint)] | None = None
    api_key_env: Annotated[str, BeforeValidator(_variable)] | None = None
    served: tuple[Name, ...] = ()
    max_output_tokens: int = Field(default=8000, gt=0, le=1_000_000)
    thinking_tokens: int = Field(default=4000, ge=0, le=1_000_000, description="Room to think beside the answer.")
    timeout_s: float = Field(default=120, gt=0, le=3600)
    scratchpad: bool = False
    billing: Billing | None = Field(default=None, description="None: `local` for an engine on this machine, else api.")
    hour_usd: Amount | None = Field(default=None, description="An hour of the machine; None: its time has no price.")
    price: TierPrice | None = None

    @model_validator(mode="after")
    def _is_billed_one_way(self) -> Self:
        if self.price and (self.hour_usd is not None or self.billing in ("local", "subscription")):
            raise ValueError('price is per token, so it goes with billing = "api" and without hour_usd')
        if self.hour_usd is not None and self.billing not in (None, "local"):
            raise ValueError('hour_usd is a price of machine time, so it goes with billing = "local"')
        return self

    def own_price(self) -> Price | None:
        """What it pays by the user's word. Cached input without a figure costs what fresh input does, and never more.

        What it wrote to a cache may cost more than fresh input, so without a figure that stays unknown.
        """
        if self.price is None:
            return None
        if self.price.cache_read is not None:
            return Price(**self.price.model_dump(), source=FILE)
        as_fresh = self.price.model_copy(update={"cache_read": self.price.input})
        return Price(**as_fresh.model_dump(), source=FILE, note=NO_CACHE_READ)


class Tiers(Record):
    cheap: TierConfig | None = None
    mid: TierConfig | None = None
    strong: TierConfig | None = None
    drop: tuple[TierName, ...] = Field(default=(), description="Tiers that are not to be used.")

    def written(self) -> dict[TierName, TierConfig]:
        """The tiers that the user wrote, dropped ones included."""
        named: dict[TierName, TierConfig | None] = {"cheap": self.cheap, "mid": self.mid, "strong": self.strong}
        return {name: tier for name, tier in named.items() if tier is not None}


class Stages(Record):
    """Pins: which tier does what."""

    plan: TierName | None = Field(default=None, description="A planner is used only where one is pinned.")
    draft: TierName = "cheap"
    climb: tuple[TierName, ...] = Field(default=(), description="Tiers to try after the drafting one, in order.")
    review: TierName | None = None


class Budget(Record):
    call_usd: Limit = None
    task_usd: Limit = None
    day_usd: Limit = None
    project_usd: Limit = None
    month_usd: Limit = None
    on_exhausted: Literal["refuse", "ask"] = "refuse"
    unpriced_calls: int = Field(default=50, ge=0, le=1_000_000)
    breaker: bool = True


class Checks(Record):
    allow: tuple[Name, ...] = Field(default=(), description="Commands that may run where there is no sandbox.")
    guards: tuple[Name, ...] = Field(default=(), description="Checks that must stay green, where a project has them.")
    network: Network = "none"


class Policy(Record):
    deny: tuple[Name, ...] = Field(default=(), description="Never read, never sent, on top of the built-in list.")
    allow_unpriced: bool = False
    allow_network_playbooks: bool = False


class Settings(Record):
    """A whole `tierkit.toml`. A key that is not here is refused."""

    caller: Caller = Caller()
    tiers: Tiers = Tiers()
    stages: Stages = Stages()
    budget: Budget = Budget()
    checks: Checks = Checks()
    policy: Policy = Policy()
    log_text: bool = Field(default=False, description="Keep prompts and replies in the ledger.")


def unheeded(settings: Settings) -> list[str]:
    """What the settings ask for and this version does not do: said, never passed over in silence."""
    asked = {
        "stages.plan": (settings.stages.plan is not None, "plan_task decides by rules and asks no model"),
    }
    return [f"{key} is not acted on in this version: {instead}." for key, (is_set, instead) in asked.items() if is_set]


def parse_toml(data: bytes, place: str) -> dict[str, Any]:
    """The tables of a file; fractions stay text, so that no amount passes through a float."""
    try:
        return tomllib.loads(data.decode("utf8"), parse_float=str)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8 text, or nested too deeply"
        raise InvalidInput(f"{place} is not valid TOML: {where}. Nothing was done.", next_step="Mend it.") from error


_LIST = "wants a list, of one entry too", '{key} = ["…"]'
_TABLE = "wants a table of its own", "[{path}], and its keys in the lines below"
_NUMBER = "wants a number", "{key} = 1, say"
# How a kind of value is written, in a user's words; pydantic's speak of Python.
_WANTS = {
    "tuple_type": _LIST, "too_short": _LIST, "string_type": ("wants text in quotes", ""), "missing": ("is missing", ""),
    "bool_type": ("wants true or false", ""), "bool_parsing": ("wants true or false", ""),
    "int_type": _NUMBER, "int_parsing": _NUMBER, "float_type": _NUMBER, "float_parsing": _NUMBER,
    "model_type": _TABLE, "model_attributes_type": _TABLE, "dict_type": _TABLE,
}  # fmt: skip


def check_settings(tables: Mapping[str, Any], place: str) -> Settings:
    """The settings in `tables`. Raises InvalidInput for the first that is unknown or unusable."""
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = tuple(part for part in first["loc"] if isinstance(part, str))
        if first["type"] == "extra_forbidden":
            raise unknown_key(path, place) from None
        wants, form = _WANTS.get(first["type"], (_refused(first["msg"]), ""))
        written = form.format(key=path[-1] if path else "", path=".".join(path))
        what = f"{'.'.join(path)} in {place} {wants}. Nothing was done."
        raise InvalidInput(what, next_step=f"Write: {written}" if written else "Correct that setting.") from None


def _refused(reason: str) -> str:
    reason = reason.removeprefix("Value error, ")
    return reason if reason.startswith("is ") else f"is refused: {reason[:1].lower()}{reason[1:]}"


def unknown_key(path: tuple[str, ...], place: str) -> InvalidInput:
    """A refusal that names the nearest key, or all keys where none is near."""
    *parents, last = path
    fields = _fields_at(tuple(parents))
    near = difflib.get_close_matches(last, fields, n=1, cutoff=0.4)
    if not (near or parents):  # A key without its table's heading.
        known = _dotted()
        near = [known[key] for key in difflib.get_close_matches(last, known, n=1)]
    offer = f"Did you mean {'.'.join((*parents, near[0]))}?" if near else f"Known here: {', '.join(fields)}."
    return InvalidInput(f"{'.'.join(path)} in {place} is no setting. Nothing was done.", next_step=offer)


def _dotted() -> dict[str, str]:
    """Every key within a table, with its table's name before it."""
    kinds = {table: field.annotation for table, field in Settings.model_fields.items()}
    tables = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}
    return {key: f"{table}.{key}" for table, kind in tables.items() for key in kind.model_fields}


def _fields_at(path: tuple[str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in path:
        annotation = model.model_fields[part].annotation
        candidates = (annotation, *get_args(annotation))
        model = next(kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(model.model_fields)
