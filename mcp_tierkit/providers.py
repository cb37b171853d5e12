"""The providers and local engines we know by name: data, read once."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from functools import cache

from pydantic import Field

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Record, TierName


class Provider(Record):
    """Whose keys we look for and, where `tiers` is filled, which models we would pick there."""

    name: str
    keys: tuple[str, ...] = Field(min_length=1, description="Environment variables, the usual one first.")
    prefix: str = Field(description="What litellm puts in front of the provider's model names.")
    as_of: date | None = None
    tiers: dict[TierName, str] = Field(default_factory=dict)


class Endpoint(Record):
    """Where an engine listens on this machine by default, and which pages list its models."""

    name: str
    port: int = Field(gt=0, lt=65536)
    paths: tuple[str, ...] = Field(min_length=1)


class Local(Record):
    """How names tell a model that runs on this machine, and one that writes text."""

    prefixes: tuple[str, ...]
    not_drafting: tuple[str, ...]
    remote: tuple[str, ...]


class CacheMarks(Record):
    models: tuple[str, ...] = Field(description="Globs over litellm's names of models.")


class Known(Record):
    """The whole of `data/providers.toml`."""

    provider: tuple[Provider, ...]
    engine: tuple[Endpoint, ...]
    local: Local
    cache_marks: CacheMarks


@cache
def known() -> Known:
    return Known.model_validate(packaged("providers"))


def provider_of(model: str) -> Provider | None:
    """The provider whose prefix a model's name carries; the longest prefix wins."""
    fitting = (provider for provider in known().provider if model.startswith(provider.prefix))
    return max(fitting, key=lambda provider: len(provider.prefix), default=None)


def is_local(model: str) -> bool:
    """True for litellm's names of models that run on this machine and cost nothing."""
    local = known().local
    return model.startswith(local.prefixes) and not any(mark in model for mark in local.remote)


def can_draft(model: str) -> bool:
    """False for names of embedders and the like, and of models that an engine only passes on to a cloud."""
    local = known().local
    return not any(mark in model.lower() for mark in (*local.not_drafting, *local.remote))


def wants_cache_marks(model: str) -> bool:
    """True where the provider reads a prompt's beginning from its cache only if a mark says where that ends."""
    return any(fnmatchcase(model, pattern) for pattern in known().cache_marks.models)
