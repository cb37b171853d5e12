"""Keys, tiers, prices and engines: what stands behind a draft, and whether it would answer."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from mcp_tierkit.cascade import chain_of
from mcp_tierkit.checkup.symptom import Symptom, fine, problem, warning
from mcp_tierkit.config import Config
from mcp_tierkit.engines import is_listening
from mcp_tierkit.errors import ModelFailed, TierkitError
from mcp_tierkit.kit import Kit, open_kit
from mcp_tierkit.metering import call_model
from mcp_tierkit.prices import STALE_DAYS, withdrawal
from mcp_tierkit.providers import is_local, known
from mcp_tierkit.receipts import usd
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.served import billed
from mcp_tierkit.stages.plan import new_id
from mcp_tierkit.tables import packaged
from mcp_tierkit.tiers import NAMES, Engine, Survey, Tier
from mcp_tierkit.types import Message, Route, Task, TierName

PING = Message(role="user", content="Reply with the word ok and nothing else.")
PING_ID = f"doctor.v1@{hashlib.sha256(PING.content.encode()).hexdigest()[:12]}"
PING_TOKENS = 16
SHORTEST_KEY = 16
_NO_KEY = re.compile(
    r"(your|my|an?)?[-_]?(api)?[-_]?key([-_]?here)?|(.*-)?x{3,}|change[-_]?me|todo|none|null|.*(\.\.\.|<.*>|\$\{).*",
    re.IGNORECASE,
)
_SHAPES = {
    "anthropic-key": "Anthropic", "openrouter-key": "OpenRouter", "openai-key": "OpenAI", "google-key": "Gemini",
    "groq-key": "Groq", "xai-key": "xAI",
}  # fmt: skip
"""Rules of the secret scan whose shape one provider alone uses."""


@dataclass(frozen=True)
class Standing:
    """What the configuration and this machine offer."""

    config: Config
    engines: tuple[Engine, ...]
    survey: Survey


def look_at_keys(standing: Standing, env: Mapping[str, str]) -> Iterator[Symptom]:
    config = standing.config
    own = {tier.api_key_env for tier in config.tiers.values() if tier.api_key_env}
    names = [name for provider in known().provider for name in provider.keys]
    yield from _look_at_file(config.user_dir / "keys.env", own | set(names))
    names += sorted(own - set(names))
    found = [name for name in names if config.key(name)]
    for name in found:
        if why := _fault(name, config.key(name) or "", is_free=_is_free(name, config)):
            yield problem("key_malformed", f"{name} {why}.", "Copy the key anew from the provider's own page.")
    if found:
        yield fine("keys", f"{', '.join(found)} set")
    elif not standing.survey.tiers and not config.tiers:
        what = "No key was found and no engine answered: nothing is drafted, all that needs no model works."
        yield problem("no_key", what, _near_miss(env, names) or _ways_to_a_model("cheap", config))


def _is_free(name: str, config: Config) -> bool:
    """Whether the key is for an address of the user's own, whose keys may have any shape."""
    return any(tier.api_key_env == name and tier.base_url for tier in config.tiers.values())


def _fault(name: str, key: str, *, is_free: bool) -> str | None:
    """What is wrong with a key, without a character of it."""
    if key[0] in "\"'" or key[-1] in "\"'":
        return "is set with its quotes"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "holds a space or a character that no key has"
    if is_free:
        return None
    if _NO_KEY.fullmatch(key):
        return "holds a placeholder, not a key"
    if len(key) < SHORTEST_KEY:
        return f"is {len(key)} characters long, too short for a key"
    owner = next((_SHAPES[secret.rule] for secret in find_secrets(key) if secret.rule in _SHAPES), None)
    provider = next((provider.name for provider in known().provider if name in provider.keys), None)
    return f"holds a key of {owner}" if owner and provider and owner != provider else None


def _near_miss(env: Mapping[str, str], names: list[str]) -> str | None:
    """A variable that is set and whose name is nearly one that we read."""
    set_here = [name for name in env if re.search(r"(?i)key|token", name) and env[name].strip()]
    for name in set_here:
        if near := difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.85):
            return f"{name} is set, which nobody reads: rename it to {near[0]}."
    return None


def _look_at_file(file: Path, read: set[str]) -> Iterator[Symptom]:
    try:
        info = file.stat()
    except OSError:
        return
    if not stat.S_ISREG(info.st_mode):
        yield problem("keys_file", f"{file} is no plain file and was not read.", "Replace it by a text file.")
    elif info.st_mode & 0o077:
        mode = f"{stat.S_IMODE(info.st_mode):03o}"
        what = f"{file} was not read, since others may read it too (mode {mode})."
        yield problem("keys_file", what, f"chmod 600 {file}")
    else:
        yield from _look_at_lines(file, read)


def _look_at_lines(file: Path, read: set[str]) -> Iterator[Symptom]:
    try:
        lines = file.read_text("utf8").splitlines()
    except (OSError, UnicodeDecodeError):
        yield problem("keys_file", f"{file} is not text that you may read, and was not read.", "Write it anew.")
        return
    for number, line in enumerate(lines, 1):
        name = line.strip().removeprefix("export ").partition("=")[0].strip()
        if not line.strip() or line.lstrip().startswith("#") or (name in read and "=" in line):
            continue
        near = difflib.get_close_matches(name, read, n=1) if name.isidentifier() else []
        what = f"Line {number} of {file} sets nothing that is read."
        yield warning("keys_file", what, f"Did you mean {near[0]}?" if near else "Write it as NAME=key, or remove it.")


async def look_at_tiers(standing: Standing, today: date) -> list[Symptom]:
    usable = standing.survey.tiers.values()
    found = [fine("tier", f"{tier.name}: {tier.model}{_origin(tier)}{_terms(tier)}") for tier in usable]
    found += _unusable(standing)
    found += [symptom for tier in usable for symptom in _price(tier, today)]
    found += [symptom for tier in usable for symptom in _taken_as_free(tier, standing.config)]
    return found + await _unreachable(standing)


def _origin(tier: Tier) -> str:
    where = tier.base_url or tier.provider or "no provider named"
    return f" ({where}, key {tier.api_key_env})" if tier.api_key_env else f" ({where})"


def _terms(tier: Tier) -> str:
    """How its calls are paid for, where that is not by the token."""
    return "" if tier.billing == "api" else f", {billed(tier)}"


def _unusable(standing: Standing) -> Iterator[Symptom]:
    """Why a tier has no model; said once where no tier has one, since that is told under the keys."""
    config, missing = standing.config, standing.survey.missing
    stages = config.stages
    wanted = {stages.plan, stages.draft, stages.review, *config.tiers}
    if not standing.survey.tiers and not config.tiers:
        return
    for name, reason in missing.items():
        if name in stages.climb and name not in wanted:
            yield _no_climb(name, reason, config)
        elif name not in wanted:
            yield fine("tier", f"{name}: none, and nothing asks for it")
        elif "price is unknown" in reason:
            fix = f'Under [tiers.{name}]: price = {{ input = "…", output = "…" }}, in dollars per million tokens.'
            yield problem("price_unknown", reason, fix)
        else:
            yield problem("tier_unusable", reason, _fix_for(name, standing))


def _no_climb(name: TierName, reason: str, config: Config) -> Symptom:
    """A tier to climb to that has no model is passed over: worth a word only where the user named it."""
    if config.stages.climb == tuple(packaged("defaults")["stages"]["climb"]):
        return fine("tier", f"{name}: none, so no draft climbs to it")
    what = f"stages.climb names {name}, and no draft climbs to it. {reason}"
    return warning("climb_missing", what, f"Name a model under [tiers.{name}], or take {name} out of climb.")


def _fix_for(name: TierName, standing: Standing) -> str:
    if name in standing.config.dropped:
        return f"Take {name} out of [tiers] drop, or out of [stages]."
    return _ways_to_a_model(name, standing.config)


def _ways_to_a_model(name: TierName, config: Config) -> str:
    """What to set, a line for each way, with the places of the files."""
    keys = " or ".join(provider.keys[0] for provider in known().provider if provider.tiers)
    engines = " or ".join(engine.name for engine in known().engine)
    return (
        "Any one of these will do:\n"
        f"- a key: set {keys} in the environment, or in {config.user_dir / 'keys.env'} (chmod 600)\n"
        f"- an engine on this machine: start {engines}\n"
        f"- any other model: name it under [tiers.{name}] in {config.config_file}"
    )


def _price(tier: Tier, today: date) -> Iterator[Symptom]:
    price, section = tier.price, f"[tiers.{tier.name}]"
    if not tier.is_by_token:
        return
    if price is None:
        what = f"{tier.model} has no known price: its calls are unpriced, and dollar budgets do not hold them."
        from mcp_tierkit.price_map import hint

        more = hint(tier.model)
        fix = f'Under {section}: price = {{ input = "…", output = "…" }}.'
        yield warning("price_unknown", what, f"{fix} {more}" if more else fix)
        return
    if price.is_stale(today):
        what = f"The price of {tier.model} was read on {price.as_of}, more than {STALE_DAYS} days ago."
        yield warning("price_stale", what, f"pip install -U mcp-tierkit, or name the price under {section}.")
    if price.deprecated_on is not None and (told := withdrawal(tier.model, price, today)):
        level = problem if price.deprecated_on <= today else warning
        yield level("model_deprecated", told, f"Name another model under {section}.")


def _taken_as_free(tier: Tier, config: Config) -> Iterator[Symptom]:
    """An address on this machine may be an engine of the user's, or a proxy to a provider that is paid."""
    written = config.tiers.get(tier.name)
    if tier.billing != "local" or written is None or written.billing is not None or written.hour_usd is not None:
        return
    if written.base_url is not None and not is_local(tier.model):
        what = f"The {tier.name} tier's calls are taken as free, since {tier.base_url} is this machine."
        fix = 'If it passes them on to a paid provider: price = { input = "…", output = "…" }; else billing = "local"'
        yield warning("taken_as_free", what, f"{fix}, under [tiers.{tier.name}].")


async def _unreachable(standing: Standing) -> list[Symptom]:
    """Servers on this machine that a tier names and that accept no connection. Other machines are not asked."""
    found = []
    for name, tier in standing.survey.tiers.items():
        if tier.source == "engine":
            continue
        if tier.base_url is not None and await is_listening(tier.base_url) is False:
            what = f"The {name} tier's server at {tier.base_url} accepts no connection."
            found.append(problem("engine_unreachable", what, f"Start it, or correct base_url under [tiers.{name}]."))
        elif tier.base_url is None and (engine := _absent_engine(tier.model, standing.engines)):
            what = f"The {name} tier wants {tier.model}, and no {engine} answers on this machine."
            found.append(problem("engine_unreachable", what, f"Start {engine}, or name base_url under [tiers.{name}]."))
    return found


def _absent_engine(model: str, engines: tuple[Engine, ...]) -> str | None:
    """The engine that a local model's name asks for, where it does not answer."""
    if not is_local(model):
        return None
    prefix = model.split("/")[0]
    wanted = next((e.name for e in known().engine if e.name.lower().replace(" ", "_") in prefix), None)
    return wanted if wanted and all(engine.name != wanted for engine in engines) else None


def look_at_routing(standing: Standing) -> Iterator[Symptom]:
    config, tiers = standing.config, standing.survey.tiers
    models = {(tier.model, tier.base_url) for tier in tiers.values()}
    if tiers and len(models) < 2:
        what = f"Routing gives nothing here: every tier is {next(iter(models))[0]}."
        yield warning("routing_idle", what, "Nothing, if one model is what you want; else name another under [tiers].")
    else:
        yield from _pins(standing)
    if config.caller.model is None:
        what = "Your agent's own model is not named, so receipts cannot say what a task saved."
        yield warning("caller_unknown", what, f'In {config.config_file}: [caller] model = "…".')
    elif config.caller.billing == "api" and config.price_table().price(config.caller.model) is None:
        what = f"The price of {config.caller.model}, your agent's model, is unknown, so receipts show no net."
        yield warning("caller_unknown", what, "Write the name as `tierkit prices` lists it.")


def _pins(standing: Standing) -> Iterator[Symptom]:
    """Pins that cost more than they give, where the tiers have different models."""
    stages, tiers, file = standing.config.stages, standing.survey.tiers, standing.config.config_file
    usable = [tiers[name] for name in NAMES if name in tiers]
    if usable and usable[-1].name == stages.draft and stages.plan in (None, stages.draft):
        top = usable[-1]
        low = next(tier for tier in usable if (tier.model, tier.base_url) != (top.model, top.base_url))
        what = (
            f"Every stage is on the {top.name} tier, {top.model} ({billed(top)}), "
            f"while {low.name} is {low.model} ({billed(low)})."
        )
        yield warning("all_on_top", what, f'In {file}: [stages] draft = "{low.name}".')
    chain = [tiers[name] for name in chain_of(stages.draft, stages.climb, tuple(tiers)) if name in tiers]
    for at, tier in enumerate(chain):
        if twin := next((t for t in chain[:at] if (t.model, t.base_url) == (tier.model, tier.base_url)), None):
            what = f"A draft that fails on {twin.name} climbs to {tier.name}, which is {tier.model} too: no gain."
            yield warning("climb_repeats", what, f"Take {tier.name} out of climb, or name another model for it.")


async def ask_each(standing: Standing) -> list[Symptom]:
    """One small metered call to each tier's model, within the budgets and on the ledger like any other."""
    tiers = {(tier.model, tier.base_url, tier.api_key_env): tier for tier in reversed(standing.survey.tiers.values())}
    if not tiers:
        return []
    kit = open_kit(standing.config, door="terminal")
    task = _task(standing.config)
    try:
        await kit.ledger.open_task(task)
        found = [await _ask(kit, task, tier) for tier in reversed(tiers.values())]
        said = {"summary": "Asked each tier for one word.", "next": "Nothing more to do."}
        await kit.ledger.finish(task.task_id, "done", json.dumps({"reply": said}))
    except TierkitError as refusal:
        return [problem("online", refusal.what, refusal.next_step)]
    finally:
        await kit.close()
    return found


def _task(config: Config) -> Task:
    return Task(
        task_id=new_id("t"), project=str(config.project), repository=str(config.repository),
        goal="tierkit doctor --online", client="mcp-tierkit/cli", created_at=datetime.now(UTC),
    )  # fmt: skip


async def _ask(kit: Kit, task: Task, tier: Tier) -> Symptom:
    route = Route(
        route_id=new_id("r"), task_id=task.task_id, decision="single_cheap", tier=tier.name, rule="doctor_online",
        reason="The user asked whether this model answers.",
    )  # fmt: skip
    await kit.ledger.route(route)
    try:
        metered = await call_model(
            kit, route, tier, stage="doctor", messages=(PING,), prompt_id=PING_ID, max_output_tokens=PING_TOKENS
        )
    except ModelFailed as failed:
        name = {"auth": "key_dead", "connection": "engine_unreachable"}.get(failed.kind, "model_failing")
        key = f" The key is {tier.api_key_env}." if failed.kind == "auth" and tier.api_key_env else ""
        return problem(name, f"{tier.name}: {failed.what}{key}", failed.next_step)
    except TierkitError as refusal:
        return problem(refusal.code, f"{tier.name}: {refusal.what}", refusal.next_step)
    cost = usd(metered.call.cost_nanousd)
    price = f"${cost}" if cost is not None else "an unknown sum"
    return fine("online", f"{tier.name}: {tier.model} answered in {metered.call.duration_ms} ms for {price}")
