"""`tierkit estimate`: what a piece of work would cost on each route, before anything is spent."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mcp_tierkit.cli.options import config_if_any, json_option, print_json, project_option
from mcp_tierkit.errors import InvalidInput, LedgerError

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.estimates import Machine, Prices, Work
    from mcp_tierkit.prices import Price
    from mcp_tierkit.tiers import Tier
    from mcp_tierkit.types import TierName


SEEN_DAYS = 7
"""Of transcripts, in which the model is looked for that the caller uses most."""


def between(low: int, high: int) -> Callable[[str], Decimal]:
    """The type of an option that takes a decimal number within bounds, exactly as it was written."""

    def number(text: str) -> Decimal:
        try:
            found = Decimal(text)
        except InvalidOperation:
            raise click.BadParameter(f"{text!r} is not a number.") from None
        if not (found.is_finite() and low <= found <= high and found == round(found, 9)):
            raise click.BadParameter(f"{text} is not a number from {low} to {high:,} with at most nine places.")
        return found

    return number


@click.command()
@click.option("--input", "input_tokens", type=click.IntRange(0, 10**9), help="Tokens to be read for one run.")
@click.option("--output", "output_tokens", type=click.IntRange(0, 10**9), help="Tokens to be written by one run.")
@click.option("--files", "-f", multiple=True, help="Path or glob to count both from, as plan_task does; repeatable.")
@click.option("--task", default="", help="The task's sentence, counted with --files.")
@click.option("--caller", metavar="MODEL", help="The model that would do it alone. Default: [caller] of tierkit.toml.")
@click.option("--cheap", metavar="MODEL", help="Price this tier by another model; so --mid and --strong.")
@click.option("--mid", metavar="MODEL")
@click.option("--strong", metavar="MODEL")
@click.option("--runs-per-day", type=between(0, 10**6), default="1", show_default=True)
@click.option("--months", type=click.IntRange(1, 120), default=1, show_default=True, help="Of thirty days each.")
@click.option("--cached-share", type=between(0, 1), default="0", help="Part of the input read from a cache.")
@click.option("--batch", is_flag=True, help="The tiers' calls may wait: take their batch prices.")
@click.option("--seconds", type=between(0, 3600), help="Of a call to a tier with hour_usd. Default: its calls' median.")
@click.option("--subscription", metavar="USD", type=between(0, 10**6), help="A month of the caller's plan, to compare.")
@project_option
@json_option
def estimate(
    input_tokens: int | None, output_tokens: int | None, files: tuple[str, ...], task: str, runs_per_day: Decimal,
    months: int, cached_share: Decimal, batch: bool, seconds: Decimal | None, subscription: Decimal | None,
    project: Path | None, as_json: bool, **models: str | None,
) -> int:  # fmt: skip
    """Show what a piece of work costs alone and on each route that hands it over. Asks no model, needs no key.

    Typical and at worst, from prices and tokens, our own overhead on the caller included. A price that is not known
    leaves its figures unknown, and exit code 1.

    \b
    Example:
      tierkit estimate --input 9000 --output 3000 --caller claude-opus-5-5 --runs-per-day 50
      tierkit estimate --files "src/**/*.py" --task "Take the discount as a percentage" --json
    """
    from mcp_tierkit.cli.estimate_text import missing, record, show
    from mcp_tierkit.estimates import Terms
    from mcp_tierkit.estimates import estimate as compute

    config = config_if_any(project, needed=bool(files))
    work = _work(config, input_tokens, output_tokens, files, task)
    bench = _bench(config, models, seconds)
    terms = Terms(
        runs_per_day=runs_per_day, months=months, cached_share=cached_share, batch=batch,
        billing=config.caller.billing if config else "api", limits=bench.limits, machines=bench.machines,
        quotas=bench.quotas, climb=_climb(config),
        subscription_nanousd=None if subscription is None else round(subscription * 10**9),
    )  # fmt: skip
    found = compute(work, bench.prices, terms)
    seen = _usual_caller(config) if bench.named["caller"] is None else None
    notes = [*bench.notes, *missing(found, bench.named, seen)]
    if as_json:
        print_json(record(found, bench.named, bench.paid, notes))
    else:
        show(found, bench.named, bench.paid, notes)
    return 1 if any(route.unknown for route in found.routes) else 0


def _climb(config: Config | None) -> tuple[TierName, ...]:
    """The tiers that a failed draft goes on to by the settings; every one is there where none is set up."""
    from mcp_tierkit.cascade import chain_of
    from mcp_tierkit.tables import packaged
    from mcp_tierkit.tiers import NAMES, survey

    climb = config.stages.climb if config else packaged("defaults")["stages"]["climb"]
    available = tuple(survey(config).tiers) if config else ()
    return chain_of("cheap", climb, available or NAMES)[1:]


def _usual_caller(config: Config | None) -> str | None:
    """The model that most calls of the last days' transcripts were made to, where these may be read."""
    from collections import Counter

    if config is None or not config.caller.transcripts:
        return None
    from mcp_tierkit.transcripts.read import read_all

    read = read_all(os.environ, since=datetime.now(UTC).timestamp() - SEEN_DAYS * 86_400)
    models = Counter(call.model for sheet in read.sheets for call in sheet.calls if call.model)
    return models.most_common(1)[0][0] if models else None


def _work(
    config: Config | None, input_tokens: int | None, output_tokens: int | None, files: tuple[str, ...], task: str
) -> Work:
    """The tokens as given; what was not given is counted from the files."""
    from mcp_tierkit.estimates import Work

    if input_tokens is not None and output_tokens is not None:
        return Work(input=input_tokens, output=output_tokens)
    if config is None or not files:
        raise click.UsageError("Name --input and --output, or --files to count them from.")
    counted = _counted(config, files, task)
    given = {"input": input_tokens, "output": output_tokens}
    return counted.model_copy(update={name: tokens for name, tokens in given.items() if tokens is not None})


def _counted(config: Config, files: tuple[str, ...], task: str) -> Work:
    """What plan_task takes the work to be: all of the files read, a third of each written, new ones as the median."""
    from mcp_tierkit.calls import PlanCall
    from mcp_tierkit.estimates import Work
    from mcp_tierkit.kit import open_kit
    from mcp_tierkit.scope import has_magic
    from mcp_tierkit.stages.plan import NEW_FILE_TOKENS, make_task, tokens_in
    from mcp_tierkit.tokens import estimate as tokens_of

    kit = open_kit(config)
    planned = make_task(kit, PlanCall(task=task or "An estimate.", files=files), None)
    without = tuple(path for path in planned.files if path.startswith("!"))
    sizes = {path: tokens_in(kit, (path, *without)) for path in planned.files if path not in without}
    if not sizes:
        raise click.UsageError("--files takes files out and names none.")
    for path, size in sizes.items():
        # What is neither there nor a pattern is a file that is yet to be written.
        if size is None and (has_magic(path) or (config.project / path).exists()):
            raise InvalidInput(
                f"{path!r} names no file that may be read. Nothing was estimated.",
                next_step="Name files by path or glob; those that are yet to be written by their whole path.",
            )
    return Work(
        input=tokens_of(task) + sum(size or 0 for size in sizes.values()),
        output=sum(NEW_FILE_TOKENS if size is None else max(size // 3, 60) for size in sizes.values()),
        files=max(1, len(kit.workspace.expand(planned.files))),
    )


# --- prices


class Bench(NamedTuple):
    """Whose price stands for whom, and how each is paid."""

    prices: Prices
    named: dict[str, str | None]
    paid: dict[str, str]
    limits: dict[TierName, int]
    machines: dict[TierName, Machine]
    quotas: tuple[TierName, ...]
    notes: list[str]


def _bench(config: Config | None, asked: Mapping[str, str | None], seconds: Decimal | None) -> Bench:
    """What was asked for, else the user's tiers, else the first of our provider table."""
    from mcp_tierkit.estimates import Prices
    from mcp_tierkit.prices import PriceTable
    from mcp_tierkit.providers import known
    from mcp_tierkit.served import billed
    from mcp_tierkit.tiers import NAMES, survey

    table = config.price_table() if config else PriceTable()
    tiers = {name: tier for name, tier in (survey(config).tiers if config else {}).items() if asked[name] is None}
    usual = next(provider for provider in known().provider if provider.tiers)
    named = {"caller": asked["caller"] or (config.caller.model if config else None)}
    named |= {name: tiers[name].model if name in tiers else asked[name] or usual.tiers[name] for name in NAMES}
    prices = {who: table.price(model or "") for who, model in named.items()}
    prices |= {name: tier.price for name, tier in tiers.items()}
    paid = {who: _rate(price) for who, price in prices.items()} | {name: billed(tier) for name, tier in tiers.items()}
    machines, notes = _machines(config, tiers, seconds)
    if assumed := [name for name in NAMES if not asked[name] and name not in tiers]:
        notes.append(f"No model is set up for {', '.join(assumed)}: priced as {usual.name}'s usual ones.")
    return Bench(
        prices=Prices(**prices), named=named, paid=paid, machines=machines,
        limits={name: tier.max_output_tokens for name, tier in tiers.items()},
        quotas=tuple(name for name, tier in tiers.items() if tier.billing == "subscription"),
        notes=[*notes, *_doubts(named, prices)],
    )  # fmt: skip


def _rate(price: Price | None) -> str:
    from mcp_tierkit.prices import LOCAL_PRICE
    from mcp_tierkit.served import rate

    if price == LOCAL_PRICE:
        return "free of charge, machine time not priced"
    return f"${rate(price)} a million tokens in and out" if price else "an unknown price"


def _doubts(named: Mapping[str, str | None], prices: Mapping[str, Price | None]) -> list[str]:
    """What to know of these prices before they are believed."""
    from mcp_tierkit.prices import STALE_DAYS, withdrawal

    today, told = datetime.now(UTC).date(), dict[str, None]()
    for who, price in prices.items():
        if price and price.is_stale(today):
            told[f"The price of {named[who]} was read on {price.as_of}, more than {STALE_DAYS} days ago."] = None
        if price and (withdrawn := withdrawal(named[who] or who, price, today)):
            told[withdrawn] = None
    return list(told)


def _machines(
    config: Config | None, tiers: Mapping[TierName, Tier], seconds: Decimal | None
) -> tuple[dict[TierName, Machine], list[str]]:
    """The tiers that are paid by the hour, with the time of one call: as given, else what their calls took so far."""
    from mcp_tierkit.estimates import Machine

    found: dict[TierName, Machine] = {}
    notes: list[str] = []
    for name, tier in tiers.items():
        if tier.hour_nanousd is None:
            continue
        given = None if seconds is None else (math.ceil(seconds * 1000), f"{seconds.normalize():f} s a call, as given.")
        call_ms, told = given or _seen(config, tier)
        most_ms = math.ceil(tier.timeout_s * 1000)
        call_ms = None if call_ms is None else min(call_ms, most_ms)
        found[name] = Machine(hour_nanousd=tier.hour_nanousd, most_ms=most_ms, call_ms=call_ms)
        notes.append(f"The {name} tier is paid by time: {told} At worst its time limit, {tier.timeout_s:g} s.")
    if seconds is not None and not found:
        notes.append("--seconds changes nothing here: no tier is paid by the hour.")
    return found, notes


def _seen(config: Config | None, tier: Tier) -> tuple[int | None, str]:
    """What the tier's calls took, and where that is from; None where there were none."""
    from mcp_tierkit.ledger.opening import ledger_path
    from mcp_tierkit.ledger.pins import usual_ms
    from mcp_tierkit.ledger.report import reading

    try:
        if config and ledger_path(config.ledger_url).exists():
            with reading(config.ledger_url) as conn:
                if usual := usual_ms(conn, tier.name, tier.model):
                    ms, calls = usual
                    return ms, f"{Decimal(ms) / 1000:.1f} s a call, the median of {calls:,} on your ledger."
        why = f"{tier.model} made none yet"
    except LedgerError:
        why = "the ledger cannot be read"
    return None, f"how long a call takes is unknown, since {why}; name it with --seconds."
