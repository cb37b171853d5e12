"""Arguments, environment and `tierkit.toml` files as one frozen object, read once at start."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from mcp_tierkit import narrowing
from mcp_tierkit.amounts import dollars
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.keys import find_keys
from mcp_tierkit.places import Places, find_places, find_project, find_repository, find_tree, make_private, read_regular
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.settings import (
    FILE,
    Budget,
    Caller,
    Checks,
    Policy,
    Settings,
    Stages,
    TierConfig,
    check_settings,
    parse_toml,
    unheeded,
    unknown_key,
)
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Budgets, Record, TierName

_MAX_BYTES = 64_000
_LIMITS = ("unpriced_calls", "breaker")
_AMOUNTS = tuple(name for name in Budgets.model_fields if name not in _LIMITS)
# Variables that are no settings: places, and what other rooms read for themselves.
_OTHER_VARIABLES = ("TIERKIT_PROJECT", "TIERKIT_CONFIG", "TIERKIT_STATE_DIR", "TIERKIT_LEDGER", "TIERKIT_NO_SANDBOX")
_MINE, _OURS = "your tierkit.toml", "the settings"
ENVIRONMENT, ARGUMENTS = "the environment", "the arguments"


class Config(Record):
    """Everything decided before the first request. Its printed form never shows a key."""

    project: Path
    repository: Path = Field(description="What the worktrees of one repository have in common.")
    tree: Path = Field(description="The checked-out folder that the project is, or is a package of.")
    config_file: Path
    user_dir: Path
    state_dir: Path
    ledger_url: str = Field(repr=False, description="May hold a database password.")
    caller: Caller
    tiers: dict[TierName, TierConfig]
    dropped: tuple[TierName, ...]
    stages: Stages
    budgets: Budgets
    budget_is_default: bool = Field(description="The user has set no limit in dollars.")
    budget_places: dict[str, str] = Field(description="Keys under [budget] that somebody set, and in which place.")
    on_exhausted: Literal["refuse", "ask"]
    checks: Checks
    policy: Policy
    log_text: bool
    task_timeout_s: float
    pack_tokens: int
    settle_wait_s: float
    notes: tuple[str, ...] = Field(default=(), description="What `doctor` should tell the user.")
    _keys: dict[str, str] = PrivateAttr(default_factory=dict)
    _again: Callable[[], Config] | None = PrivateAttr(default=None)

    def key(self, name: str) -> str | None:
        """The key in a variable that a provider or a tier names; None where it is not set."""
        return self._keys.get(name)

    def budgets_now(self) -> Budgets:
        """The budgets that hold for the next call.

        Those of the start, unless the user is to be asked: then what the files say now, so that a raised budget holds
        without a restart. Files that cannot be used change nothing.
        """
        if self.on_exhausted == "refuse" or self._again is None:
            return self.budgets
        try:
            return self._again().budgets
        except InvalidInput:
            return self.budgets

    def price_table(self) -> PriceTable:
        """Prices, the user's own before the packaged ones."""
        return price_table(self.tiers.values())

    @property
    def prompt_dir(self) -> Path:
        """Where the user may keep prompt texts of their own."""
        return self.user_dir / "prompts"

    @property
    def draft_tier(self) -> TierName:
        return self.stages.draft

    @property
    def review_tier(self) -> TierName | None:
        return self.stages.review


def price_table(tiers: Iterable[TierConfig]) -> PriceTable:
    """The tiers' own prices before the packaged ones; those of a tier with an address hold at that address."""
    own = [(tier.base_url, tier.models, price) for tier in tiers if (price := tier.own_price())]
    at = {(url, model): price for url, models, price in own if url for model in models}
    return PriceTable({model: price for url, models, price in own if not url for model in models}, at)


def load_config(
    *, project: str | None = None, env: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None,
    heeds_settings: bool = True,
) -> Config:  # fmt: skip
    """The configuration: `overrides` (dotted keys), environment, the user's file, the project's, our defaults.

    The project's file may only narrow. Raises InvalidInput for a folder that cannot be served and for
    a file that cannot be used, naming the file and the key and never its value. Without `heeds_settings` no file is
    read and no key is known: for what spends nothing and has to work whatever a file holds.
    """
    env = os.environ if env is None else env
    root, places, notes = find_project(project, env), find_places(env), list[str]()
    if problem := make_private(places.state_dir):
        notes.append(problem)
    keys: dict[str, str] = {}
    if heeds_settings:
        own, budget_places = _own_settings(places.config_file, env, overrides or {}, notes)
        with _naming(root / FILE):
            settings = narrowing.narrow(own, _read_toml(root / FILE, narrowing.PLACE, follow=False), notes)
        keys = find_keys(settings, places.user_dir, env, notes)
    else:
        own, budget_places = check_settings(_defaults(), _OURS), {}
        settings = own
    _remark(root, places, env, notes)
    notes += unheeded(settings)
    tiers = {name: tier for name, tier in settings.tiers.written().items() if name not in settings.tiers.drop}
    sets_amount = any(f"{name}_usd" in budget_places for name in _AMOUNTS)
    budget_places |= dict.fromkeys(_lowered(own.budget, settings.budget), narrowing.PLACE)
    notes += _out_of_reach(settings.budget, budget_places)
    config = Config(
        project=root, repository=find_repository(root, env), tree=find_tree(root, env), **places.model_dump(),
        caller=settings.caller, tiers=tiers, dropped=settings.tiers.drop,
        stages=settings.stages, budgets=_budgets(settings.budget),
        budget_is_default=not sets_amount, budget_places=budget_places,
        on_exhausted=settings.budget.on_exhausted, checks=settings.checks, policy=settings.policy,
        log_text=settings.log_text, **packaged("defaults")["limits"], notes=tuple(notes),
    )  # fmt: skip
    config._keys.update(keys)
    config._again = partial(load_config, project=project, env=dict(env), overrides=overrides)
    return config


def own_settings(env: Mapping[str, str]) -> Settings:
    """The user's settings alone, for what is about no one project: any folder will do, and nothing is written.

    Raises InvalidInput for a file that cannot be used.
    """
    return _own_settings(find_places(env).config_file, env, {}, [])[0]


def _out_of_reach(budget: Budget, places: Collection[str]) -> Iterator[str]:
    """The user's limits that one of our defaults makes void: a task cannot cost more than a day may."""
    for name, wider in combinations(("call", "task", "day"), 2):
        own, ours = getattr(budget, f"{name}_usd"), getattr(budget, f"{wider}_usd")
        is_ours = f"{name}_usd" in places and f"{wider}_usd" not in places
        if is_ours and own is not None and ours is not None and own > ours:
            yield (
                f"budget.{name}_usd of {dollars(own)} is out of reach: our default of {dollars(ours)} a {wider} holds "
                f'until you set budget.{wider}_usd, to an amount or to "none".'
            )


def _lowered(own: Budget, narrowed: Budget) -> list[str]:
    return [key for key in Budget.model_fields if getattr(own, key) != getattr(narrowed, key)]


def _budgets(budget: Budget) -> Budgets:
    amounts = {name: getattr(budget, f"{name}_usd") for name in _AMOUNTS}
    return Budgets(**amounts, **{name: getattr(budget, name) for name in _LIMITS})


def _remark(project: Path, places: Places, env: Mapping[str, str], notes: list[str]) -> None:
    """Notes about places that work but should not be so."""
    if env.get("TIERKIT_CONFIG", "").strip() and not places.config_file.is_file():
        notes.append("TIERKIT_CONFIG names no file, so our defaults hold.")
    if places.state_dir.is_relative_to(project) or places.user_dir.is_relative_to(project):
        notes.append("Your own folders lie inside the project, where a draft could reach them; move them out of it.")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Refusals of what a file holds, with the file: there are two of one name, and one lies in a hidden folder."""
    try:
        yield
    except InvalidInput as refusal:
        end = "" if refusal.next_step.endswith((".", "?")) else "."
        refusal.shell_step = f"{refusal.next_step}{end} The file is {path}."
        raise


def _defaults() -> dict[str, Any]:
    return {table: values for table, values in packaged("defaults").items() if table != "limits"}


def _read_toml(path: Path, place: str, *, follow: bool) -> dict[str, Any]:
    try:
        found = read_regular(path, _MAX_BYTES, follow=follow)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(
            f"{place} cannot be used: {why}. Nothing was done.", next_step="Make it a plain file, or remove it."
        ) from error
    return parse_toml(found[0], place) if found else {}


def _own_settings(
    path: Path, env: Mapping[str, str], overrides: Mapping[str, str], notes: list[str]
) -> tuple[Settings, dict[str, str]]:
    """The user's settings over our defaults, and where each key under [budget] was set."""
    with _naming(path):
        user = _read_toml(path, _MINE, follow=True)
        check_settings(user, _MINE)
    given, budget_places = dict[str, Any](), dict[str, str]()
    for tables, place in (
        (user, _MINE),
        (_from_env(env, notes), ENVIRONMENT),
        (_from_arguments(overrides), ARGUMENTS),
    ):
        check_settings(tables, place)
        given = _merged(given, tables)
        budget_places |= dict.fromkeys(tables.get("budget", {}), place)
    return check_settings(_merged(_defaults(), given), _OURS), budget_places


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `under`, key by key within tables; lists are replaced whole."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def _settable() -> dict[str, bool]:
    """Dotted keys that one string can set, and whether that string is a list with commas."""
    single = {"log_text": False}
    for table in ("caller", "tiers", "stages", "budget", "checks", "policy"):
        record = Settings.model_fields[table].annotation
        assert record is not None
        for key, field in record.model_fields.items():
            if table != "tiers" or key == "drop":
                single[f"{table}.{key}"] = "tuple" in str(field.annotation)
    return single


def _placed(dotted: str, value: str) -> dict[str, Any]:
    table, _, key = dotted.rpartition(".")
    settable = _settable()
    if dotted not in settable:
        raise unknown_key(tuple(dotted.split(".")), ARGUMENTS)
    held = [part.strip() for part in value.split(",") if part.strip()] if settable[dotted] else value
    return {table: {key: held}} if table else {key: held}


def variable(dotted: str) -> str:
    """The environment variable that sets a key."""
    return "TIERKIT_" + dotted.replace(".", "_").upper()


def _from_arguments(overrides: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for dotted, value in overrides.items():
        given = _merged(given, _placed(dotted, value))
    return given


def _from_env(env: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """Settings out of variables such as TIERKIT_BUDGET_TASK_USD; an unknown one is a note, not an error."""
    variables = {variable(dotted): dotted for dotted in _settable()}
    given: dict[str, Any] = {}
    for name in sorted(env):
        if name in variables and env[name].strip():
            given = _merged(given, _placed(variables[name], env[name].strip()))
        elif name.startswith("TIERKIT_") and name not in (*variables, *_OTHER_VARIABLES):
            near = difflib.get_close_matches(name, [*variables, *_OTHER_VARIABLES], n=1)
            notes.append(f"The variable {name} sets nothing." + (f" Did you mean {near[0]}?" if near else ""))
    return given
