"""The project's own `tierkit.toml`: it comes with somebody's repository, so it may only narrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.settings import Budget, Checks, Policy, Settings, check_settings

T = TypeVar("T")

PLACE = "the project's tierkit.toml"
_NETWORKS = ("none", "loopback", "full")


def narrow(own: Settings, tables: dict[str, Any], notes: list[str]) -> Settings:
    """The user's settings with the project's limits on top.

    A limit wider than the user's own is left aside with a note. Raises InvalidInput for a key that
    is not the project's to set.
    """
    if not tables:
        return own
    theirs = check_settings(tables, PLACE)
    for path, value in _leaves(tables):
        if not _narrows(path, value):
            raise _misplaced(path)
    budget = _lower(own.budget, theirs.budget, notes)
    if "on_exhausted" in theirs.budget.model_fields_set:
        budget = budget.model_copy(update={"on_exhausted": "refuse"})
    if "breaker" in theirs.budget.model_fields_set:
        budget = budget.model_copy(update={"breaker": True})
    return own.model_copy(
        update={
            "budget": budget,
            "tiers": own.tiers.model_copy(update={"drop": _joined(own.tiers.drop, theirs.tiers.drop)}),
            "checks": _narrower_checks(own.checks, theirs.checks, notes),
            "policy": _narrower_policy(own.policy, theirs.policy),
            "log_text": own.log_text and "log_text" not in theirs.model_fields_set,
        }
    )


def _leaves(tables: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _narrows(path: tuple[str, ...], value: Any) -> bool:
    match path:
        case ("budget", "on_exhausted"):
            return bool(value == "refuse")
        case ("budget", "breaker"):
            return value is True
        case ("budget", _) | ("tiers", "drop") | ("policy", "deny") | ("checks", "network"):
            return True
        case ("policy", _) | ("log_text",):
            return value is False
    return False


def _misplaced(path: tuple[str, ...]) -> InvalidInput:
    key = ".".join(path)
    return InvalidInput(
        f"{key} does not belong in {PLACE}, which may only narrow: lower a budget, drop a tier, deny a path. "
        "Nothing was done.",
        next_step=f"Move {key} to the tierkit.toml in your own configuration folder, or delete it.",
    )


def _lower(own: Budget, theirs: Budget, notes: list[str]) -> Budget:
    lowered: dict[str, int] = {}
    for name in sorted(theirs.model_fields_set - {"on_exhausted", "breaker"}):
        mine, wanted = getattr(own, name), getattr(theirs, name)
        if wanted is None and mine is None:
            continue
        if wanted is None or (mine is not None and wanted > mine):
            notes.append(f"budget.{name} of {PLACE} is above your own limit, which holds.")
            continue
        lowered[name] = wanted
    return own.model_copy(update=lowered)


def _narrower_checks(own: Checks, theirs: Checks, notes: list[str]) -> Checks:
    if "network" not in theirs.model_fields_set:
        return own
    if _NETWORKS.index(theirs.network) > _NETWORKS.index(own.network):
        notes.append(f"checks.network of {PLACE} is wider than your own setting, which holds.")
    return own.model_copy(update={"network": min(own.network, theirs.network, key=_NETWORKS.index)})


def _narrower_policy(own: Policy, theirs: Policy) -> Policy:
    off = {name: False for name in theirs.model_fields_set if name != "deny"}
    return own.model_copy(update={"deny": _joined(own.deny, theirs.deny), **off})


def _joined(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*first, *second)))
