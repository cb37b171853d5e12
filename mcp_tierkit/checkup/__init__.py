"""What is wrong with a set-up, each fault with its fix. It looks, tries and reports; it mends nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread

from mcp_tierkit.checkup.client import look_at_clients
from mcp_tierkit.checkup.home import look_at_disk, look_at_ledger, look_at_left, look_at_prompts, look_at_state
from mcp_tierkit.checkup.machine import look_at_packages, look_at_sandbox, look_at_schemas, look_at_shipped
from mcp_tierkit.checkup.model import Standing, ask_each, look_at_keys, look_at_routing, look_at_tiers
from mcp_tierkit.checkup.symptom import Level, Symptom, fine, problem, warning
from mcp_tierkit.config import Config, load_config
from mcp_tierkit.engines import find_engines
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.ledger.money import dollars
from mcp_tierkit.places import find_places, find_project, whole_of
from mcp_tierkit.providers import Endpoint
from mcp_tierkit.tiers import survey

__all__ = ["Level", "Symptom", "examine"]

LOW_DISK_BYTES = 200_000_000
IDLE: Mapping[str, Callable[[Config], bool]] = {
    "stages.plan": lambda config: config.stages.plan is not None,
}
"""Settings that are read and do nothing yet, each with whether a configuration sets it."""

_TOLD_BETTER = ("keys.env was not read", "The state folder cannot")  # Notes that a look of its own reports in full.


async def examine(
    *,
    project: str | None = None,
    client: str | None = None,
    is_online: bool = False,
    env: Mapping[str, str] | None = None,
    now: datetime | None = None,
    low_disk_bytes: int = LOW_DISK_BYTES,
    endpoints: Sequence[Endpoint] | None = None,
) -> tuple[Symptom, ...]:
    """Everything that was looked at, faults and what is well alike, in the order of setting up.

    A broken configuration is a symptom too: what does not need it is looked at all the same. `client` limits the
    look at clients to one, which must then be set up. With `is_online` each tier's model is asked for one word.
    Engines are looked for at `endpoints`, by default the known ones.
    """
    env, now = os.environ if env is None else env, now or datetime.now(UTC)
    folder, found = _project(project, env)
    config, told = _settings(project, env) if folder else (None, [])
    found += told + list(look_at_packages())
    places = find_places(env)
    found += [*look_at_state(places.state_dir), *look_at_prompts(places.user_dir / "prompts")]
    found += await anyio.to_thread.run_sync(look_at_ledger, places.ledger_url, now)
    found += look_at_left(folder, places.state_dir) if folder else []
    found += look_at_disk([places.state_dir, *([folder] if folder else [])], low_disk_bytes)
    if config is not None:
        engines = await find_engines(endpoints)
        standing = Standing(config=config, engines=engines, survey=survey(config, engines))
        found += [*look_at_keys(standing, env), *await look_at_tiers(standing, now.date()), *look_at_routing(standing)]
        found += await ask_each(standing) if is_online else []
    found += await look_at_sandbox(config.checks.allow if config else ())
    found += await anyio.to_thread.run_sync(look_at_schemas)
    found += await anyio.to_thread.run_sync(look_at_shipped)
    if folder is not None:
        found += look_at_clients(folder, env, only=client)
    return tuple(found)


def _project(named: str | None, env: Mapping[str, str]) -> tuple[Path | None, list[Symptom]]:
    try:
        folder = find_project(named, env)
    except InvalidInput as refusal:
        return None, [problem("project_refused", refusal.what, refusal.next_step)]
    is_named = named or env.get("TIERKIT_PROJECT") or env.get("CLAUDE_PROJECT_DIR")
    if not is_named and (whole := whole_of(folder, env)):
        what = f"{folder} has no project file of its own and lies within {whole}: checks run in this folder alone."
        fix = f"Start in {whole}, or pass --project {whole}; nothing, if this folder is meant to be a project."
        return folder, [warning("project_within", what, fix)]
    return folder, [fine("project", f"{folder}")]


def _settings(project: str | None, env: Mapping[str, str]) -> tuple[Config | None, list[Symptom]]:
    try:
        config = load_config(project=project, env=env)
    except InvalidInput as refusal:
        what = f"{refusal.what.removesuffix(' Nothing was done.')} No tool works until it is mended."
        return None, [problem("settings_refused", what, refusal.shell_step or refusal.next_step)]
    return config, [fine("settings", _said_of(config)), *_notes(config)]


def _said_of(config: Config) -> str:
    own = config.config_file
    file = f"{own}" if own.is_file() else f"our defaults; yours go in {own}"
    held = {name: getattr(config.budgets, name) for name in ("call", "task", "day", "project", "month")}
    limits = [
        f"${dollars(limit)} a {name}{'' if f'{name}_usd' in config.budget_places else ' (ours, until you set it)'}"
        for name, limit in held.items()
        if limit is not None
    ]
    if all(held[name] is None for name in ("day", "project", "month")):
        limits.append("none on a day")
    return f"{file}; budgets: {', '.join(limits)}"


def _notes(config: Config) -> Iterator[Symptom]:
    for note in config.notes:
        if not note.startswith(_TOLD_BETTER):
            fix = f"Look at {config.config_file}, the project's tierkit.toml and your environment."
            yield warning("note", note, fix)
    for name in (name for name, is_set in IDLE.items() if is_set(config)):
        yield warning("setting_idle", f"{name} is set, and does nothing in this version.", "Nothing; or take it out.")
