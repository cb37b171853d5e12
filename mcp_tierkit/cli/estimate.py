"""`tierkit estimate`: what a piece of work would cost on each route, before anything is spent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mcp_tierkit.cli.options import json_option, print_json, project_option

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.estimates import Estimate, Prices, RouteCost, Work

WHO = ("caller", "cheap", "mid", "strong")
Named = dict[str, str | None]
CALLS = {
    "alone": "alone, by the caller", "cheap_draft": "cheap draft", "draft_and_repair": "draft, one repair",
    "climb_to_mid": "draft, repair, mid", "draft_and_review": "draft, strong review",
    "playbook": "a playbook", "recipe": "a recipe",
}  # fmt: skip


@click.command()
@click.option("--input", "input_tokens", type=click.IntRange(0, 10**9), help="Tokens to be read for one run.")
@click.option("--output", "output_tokens", type=click.IntRange(0, 10**9), help="Tokens to be written by one run.")
@click.option("--files", "-f", multiple=True, help="Path or glob to count both from, as plan_task does; repeatable.")
@click.option("--task", default="", help="The task's sentence, counted with --files.")
@click.option("--caller", metavar="MODEL", help="The model that would do it alone. Default: [caller] of tierkit.toml.")
@click.option("--cheap", metavar="MODEL", help="Price this tier by another model; so --mid and --strong.")
@click.option("--mid", metavar="MODEL")
@click.option("--strong", metavar="MODEL")
@click.option("--runs-per-day", type=click.FloatRange(0, 10**6), default=1, show_default=True)
@click.option("--months", type=click.IntRange(1, 120), default=1, show_default=True, help="Of thirty days each.")
@click.option("--cached-share", type=click.FloatRange(0, 1), default=0, help="Part of the input read from a cache.")
@click.option("--batch", is_flag=True, help="The tiers' calls may wait: take their batch prices.")
@click.option(
    "--subscription", metavar="USD", type=click.FloatRange(0), help="A month of the caller's plan, to compare."
)
@project_option
@json_option
def estimate(
    input_tokens: int | None, output_tokens: int | None, files: tuple[str, ...], task: str, runs_per_day: float,
    months: int, cached_share: float, batch: bool, subscription: float | None, project: Path | None, as_json: bool,
    **models: str | None,
) -> int:  # fmt: skip
    """Show what a piece of work costs alone and on each route that hands it over. Asks no model, needs no key.

    Typical and at worst, from prices and tokens, our own overhead on the caller included. A price that is not known
    leaves its figures unknown, and exit code 1.

    \b
    Example:
      tierkit estimate --input 9000 --output 3000 --caller claude-opus-5-5 --runs-per-day 50
      tierkit estimate --files "src/**/*.py" --task "Take the discount as a percentage" --json
    """
    from mcp_tierkit.estimates import Terms
    from mcp_tierkit.estimates import estimate as compute

    config = _config(project, needed=bool(files))
    work = _work(config, input_tokens, output_tokens, files, task)
    prices, named, limits, notes = _prices(config, models)
    terms = Terms(
        runs_per_day=Decimal(str(runs_per_day)), months=months, cached_share=Decimal(str(cached_share)), batch=batch,
        billing=config.caller.billing if config else "api", limits=limits,
        subscription_nanousd=None if subscription is None else round(Decimal(str(subscription)) * 10**9),
    )  # fmt: skip
    found = compute(work, prices, terms)
    notes += _missing(found, named)
    if as_json:
        print_json(_record(found, named, notes))
    else:
        _print(found, named, notes)
    return 1 if any(route.unknown for route in found.routes) else 0


def _config(project: Path | None, *, needed: bool) -> Config | None:
    """The user's settings; None where there is no project to read them for and none is needed."""
    from mcp_tierkit.config import load_config
    from mcp_tierkit.errors import InvalidInput
    from mcp_tierkit.places import find_project

    try:
        find_project(str(project) if project else None, os.environ)
    except InvalidInput:
        if needed or project:
            raise
        return None
    return load_config(project=str(project) if project else None)


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
    from mcp_tierkit.stages.plan import NEW_FILE_TOKENS, make_task, tokens_in
    from mcp_tierkit.tokens import estimate as tokens_of

    kit = open_kit(config)
    planned = make_task(kit, PlanCall(task=task or "An estimate.", files=files), None)
    without = tuple(path for path in planned.files if path.startswith("!"))
    sizes = [tokens_in(kit, (path, *without)) for path in planned.files if path not in without]
    return Work(
        input=tokens_of(task) + sum(size or 0 for size in sizes),
        output=sum(NEW_FILE_TOKENS if size is None else max(size // 3, 60) for size in sizes),
        files=max(1, len(kit.workspace.expand(planned.files))),
    )


def _prices(
    config: Config | None, asked: dict[str, str | None]
) -> tuple[Prices, Named, dict[Literal["cheap", "mid", "strong"], int], list[str]]:
    """Whose price stands for whom: what was asked for, else the user's tiers, else the first of our provider table."""
    from mcp_tierkit.estimates import Prices
    from mcp_tierkit.prices import PriceTable
    from mcp_tierkit.providers import known
    from mcp_tierkit.tiers import NAMES, survey

    table = config.price_table() if config else PriceTable()
    usable, notes = survey(config).tiers if config else {}, []
    usual = next(provider for provider in known().provider if provider.tiers)
    named: Named = {"caller": asked["caller"] or (config.caller.model if config else None)}
    found = {"caller": table.price(named["caller"]) if named["caller"] else None}
    for name in NAMES:
        tier = usable.get(name) if asked[name] is None else None
        named[name] = tier.model if tier else asked[name] or usual.tiers[name]
        found[name] = tier.price if tier else table.price(named[name] or "")
    if assumed := [name for name in NAMES if not asked[name] and name not in usable]:
        notes.append(f"No model is set up for {', '.join(assumed)}: priced as {usual.name}'s usual ones.")
    return Prices(**found), named, {name: tier.max_output_tokens for name, tier in usable.items()}, notes


def _missing(found: Estimate, named: Named) -> list[str]:
    """One sentence for each price that is not known."""
    missing = dict.fromkeys(who for route in found.routes for who in route.unknown)
    notes = []
    for who in missing:
        if who not in WHO:
            notes.append(f"No price is known for {who}, so routes that need it have no figure.")
        elif named[who] is None:
            notes.append("The caller's model is not known, so nothing can be compared: name it with --caller.")
        else:
            notes.append(f"The price of {named[who]} ({who}) is not known, so routes that use it have no figure.")
    return notes


# --- shown


def _record(found: Estimate, named: Named, notes: Sequence[str]) -> dict[str, object]:
    return {
        "models": named,
        "work": found.work.model_dump(),
        "terms": _told_terms(found),
        "routes": [_told(route) for route in found.routes],
        "notes": list(notes),
    }


def _told_terms(found: Estimate) -> dict[str, object]:
    from mcp_tierkit.receipts import usd

    told = found.terms.model_dump(mode="json", exclude={"subscription_nanousd"})
    return told | {"subscription_usd": usd(found.terms.subscription_nanousd)}


def _told(route: RouteCost) -> dict[str, object]:
    """Money as decimal strings of dollars; unknown is null."""
    from mcp_tierkit.receipts import usd

    told = route.model_dump(mode="json")
    for name in ("typical", "worst"):
        told[f"{name}_usd"] = {span: usd(paid) for span, paid in told.pop(name).items()}
    return told


def _print(found: Estimate, named: Named, notes: Sequence[str]) -> None:
    work, terms = found.work, found.terms
    click.echo(
        f"{work.input:,} tokens to read and {work.output:,} to write, {terms.runs_per_day.normalize():f} runs a day."
    )
    for who, model in named.items():
        click.echo(f"  {who:<7} {model or 'unknown'}")
    head = ["dollars", "a run", "a day", "a month", f"{terms.months} months", "at worst", "of alone", "pays from"]
    rows = [_row(route) for route in found.routes]
    if terms.months == 1:
        for row in (head, *rows):
            del row[4]
    _table(head, rows)
    for line in (*_told_break_even(found), *notes):
        click.echo(line)


def _row(route: RouteCost) -> list[str]:
    typical = route.typical
    size = "never" if route.pays_from_output is None else f"{route.pays_from_output:,}"
    return [
        CALLS[route.name], _dollars(typical.run, 4), _dollars(typical.day, 2), _dollars(typical.month, 2),
        _dollars(typical.total, 2), _dollars(route.worst.run, 4),
        "?" if route.ratio is None else f"{route.ratio:.1%}",
        "-" if route.name == "alone" else "?" if route.ratio is None else size,
    ]  # fmt: skip


def _dollars(nanousd: int | None, places: int) -> str:
    return "?" if nanousd is None else f"{Decimal(nanousd) / 10**9:,.{places}f}"


def _told_break_even(found: Estimate) -> list[str]:
    """What the last columns mean, and the rest of where it pays."""
    own, draft = found.routes[0], next(route for route in found.routes if route.name == "cheap_draft")
    lines = ["pays from: tokens written, from which on the route costs no more than alone, with as much to read."]
    if found.terms.billing == "subscription":
        lines.append("of alone: tokens of the caller's subscription. The dollars are those of our calls.")
    if draft.may_fail_share:
        lines.append(f"Cheap drafts pay as long as no more than {draft.may_fail_share:.0%} of them fail.")
    if draft.turns_per_run:
        lines.append(
            f"Our schemas are read on each turn: one cheap draft in {draft.turns_per_run:,} turns pays for it."
        )
    if own.subscription_runs:
        paid = f", {draft.subscription_runs:,} with cheap drafts" if draft.subscription_runs else ""
        lines.append(f"The subscription costs no more from {own.subscription_runs:,} runs a month on alone{paid}.")
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Figures are never cut: a terminal that is too narrow wraps them."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        line = "  ".join([row[0].ljust(len(first)), *others])
        click.secho(line, bold=row is head or row[0] == CALLS["alone"])
