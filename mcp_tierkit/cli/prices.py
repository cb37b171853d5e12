"""`tierkit prices`: what calls are priced by, how old that is, and what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mcp_tierkit.amounts import figure
from mcp_tierkit.cli.options import config_if_any, json_option, print_json
from mcp_tierkit.errors import LedgerError
from mcp_tierkit.prices import STALE_DAYS, Price, PriceTable, Rates, names, withdrawal

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.pins import Retest
    from mcp_tierkit.types import TierName

_COLUMNS = ("input", "output", "cache_read", "cache_write")
_HOW = (
    "How: `tierkit draft` work whose outcome you know, then `tierkit report` for what it cost and whether it passed. "
    "The tier's next call is what later prices are compared with."
)
_HEAD = ("input", "output", "cached", "written")
_UNIT = "dollars per million tokens"


class Row(NamedTuple):
    """A price to show: a model's, or what one tier of the user's pays for it, at its own address if it has one."""

    model: str
    price: Price | None
    tier: str | None = None
    base_url: str | None = None


@click.command()
@click.argument("models", nargs=-1)
@click.option("--drift", is_flag=True, help="Show where the installed litellm and genai-prices differ from our table.")
@click.option("--pins", is_flag=True, help="Show the tiers to try again: their model or its price has changed.")
@json_option
def prices(models: tuple[str, ...], drift: bool, pins: bool, as_json: bool) -> None:
    """List known prices, in US dollars per million tokens, with their source and age.

    Without MODELS the table that this version ships, and what of your own tiers to try again: those whose price is not
    what it was at their last call. A model with no known price is shown as unknown, never as free. Exit code 1 when
    one of MODELS has none, and where --drift or --pins finds something.

    \b
    Example:
      tierkit prices
      tierkit prices openai/some-model --json
      tierkit prices --drift
    """
    if drift and pins:
        raise click.UsageError("Name one of --drift and --pins.")
    found = _drift(models, as_json) if drift else _pins(as_json) if pins else _list(models, as_json)
    if found:
        click.get_current_context().exit(1)


def _list(models: tuple[str, ...], as_json: bool) -> bool:
    config = config_if_any()
    table = config.price_table() if config else PriceTable()
    own = [row for row in _of_tiers(config) if not models or row.model in models]
    named = {row.model for row in own}
    rows = [Row(model, table.price(model)) for model in models or table.models()]
    rows = [*(row for row in rows if row.price or row.model not in named), *own]
    today = datetime.now(UTC).date()
    if as_json:
        print_json([_record(row, today) for row in rows])
    else:
        _print_table(rows, today, in_full=bool(models))
        _warn(rows, today)
        if not models:
            with suppress(LedgerError):  # The prices stand without it.
                _print_pins(_retests(config) or ())
    return any(row.price is None for row in rows)


def _of_tiers(config: Config | None) -> list[Row]:
    """What the user's tiers pay by a price of their own that the table does not tell: at one address, or unlisted."""
    listed = PriceTable()
    return [
        Row(model, price, tier, written.base_url)
        for tier, written in (config.tiers if config else {}).items()
        if (price := written.own_price())
        for model in written.models
        if written.base_url or listed.packaged(model) is None
    ]


def _record(row: Row, today: date) -> dict[str, object]:
    model, price, tier, base_url = row
    whose = {"model": model, "tier": tier, "base_url": base_url}
    if price is None:
        unknown = dict.fromkeys((*Price.model_fields, "age_days", "stale", "deprecated"))
        return {**whose, "known": False, **unknown}
    return {
        **whose,
        "known": True,
        **price.model_dump(mode="json"),
        "age_days": _age(price, today),
        "stale": price.is_stale(today),
        "deprecated": price.deprecated_on is not None and price.deprecated_on <= today,
    }


def _age(price: Price, today: date) -> int | None:
    return (today - price.as_of).days if price.as_of else None


def _print_table(rows: Sequence[Row], today: date, *, in_full: bool) -> None:
    """One table, its rows below where and when they were read: so the figures fit eighty columns."""
    from mcp_tierkit.cli.tables import print_text

    width = max(len(name) for name in (_UNIT, *(row.model for row in rows)))
    cells = _in_line([row.price for row in rows if row.price])
    click.echo(f"{_UNIT:<{width}}" + "".join(f"{name:>9}" for name in _HEAD))
    groups: dict[str, list[tuple[str, Price]]] = {}
    for row in rows:
        if row.price is not None:
            groups.setdefault(_read_from(row, row.price, today), []).append((row.model, row.price))
    for place, known in groups.items():
        click.secho(place, bold=True)
        for model, price in known:
            figures = "".join(f"{cells[name][getattr(price, name)]:>9}" for name in _COLUMNS)
            click.echo(f"{model:<{width}}{figures}".rstrip())
            for line in _further(price) if in_full else _assumed(price):
                print_text([f"  {line}"], indent="    ")
    for model in (row.model for row in rows if row.price is None):
        click.echo(f"{model:<{width}}  unknown: name its price in tierkit.toml before it is used")


def _in_line(prices: Sequence[Price]) -> dict[str, dict[Decimal | None, str]]:
    """Each figure of each column as it is shown, padded so that decimal points stand below each other."""
    found: dict[str, dict[Decimal | None, str]] = {}
    for name in _COLUMNS:
        figures = {rate: _figure(rate).partition(".") for rate in (getattr(price, name) for price in prices)}
        after = max((len(point + part) for _, point, part in figures.values()), default=0)
        found[name] = {rate: f"{whole}{point + part:<{after}}" for rate, (whole, point, part) in figures.items()}
    return found


def _read_from(row: Row, price: Price, today: date) -> str:
    """The artefact and its version, and how old what was read there is; of a tier's own price, where it holds."""
    place, age = " ".join(price.source.split()[:2]), _age(price, today)
    if row.tier:
        return f"{place} [tiers.{row.tier}]" + (f", at {row.base_url} alone" if row.base_url else "")
    return place if age is None else f"{place}, read {price.as_of}, {age} d ago"


def _assumed(price: Price) -> list[str]:
    """Of a price of the user's own, what they did not name themselves."""
    return [price.note] if price.note and price.as_of is None else []


def _further(price: Price) -> list[str]:
    """What the columns have no room for."""
    lines = [f"{words} {_figure(rate)}" for words, rate in _other_rates(price) if rate is not None]
    if price.above:
        beyond = ", ".join(f"{words} {_figure(rate)}" for words, rate in _all_rates(price.above) if rate is not None)
        lines.append(f"a call of more than {price.above.tokens:,} tokens of input, all of it: {beyond}")
    lines += [f"withdrawn by its provider on {price.deprecated_on}"] if price.deprecated_on else []
    return [*lines, price.note] if price.note else lines


def _all_rates(rates: Rates) -> list[tuple[str, Decimal | None]]:
    usual = [("input", rates.input), ("output", rates.output), ("cached", rates.cache_read)]
    return [*usual, ("written", rates.cache_write), *_other_rates(rates)]


def _other_rates(rates: Rates) -> list[tuple[str, Decimal | None]]:
    return [
        ("written for an hour", rates.cache_write_1h), ("batch input", rates.batch_input),
        ("batch output", rates.batch_output), ("batch cached", rates.batch_cache_read),
        ("batch written", rates.batch_cache_write),
    ]  # fmt: skip


def _figure(value: Decimal | None) -> str:
    return "?" if value is None else figure(value)


def _warn(rows: Sequence[Row], today: date) -> None:
    from mcp_tierkit.price_map import hint

    stale = [row for row in rows if row.price and row.price.is_stale(today)]
    if stale:
        older = "1 price is" if len(stale) == 1 else f"{len(stale):,} prices are"
        click.echo(
            f"Warning: {older} older than {STALE_DAYS} days, so costs may be wrong. "
            "Upgrade mcp-tierkit, or name current prices in tierkit.toml.",
            err=True,
        )
    for row in rows:
        if row.price and (told := withdrawal(row.model, row.price, today)):
            click.echo(f"Warning: {told}", err=True)
    unknown = [row.model for row in rows if row.price is None]
    for told in dict.fromkeys(filter(None, map(hint, unknown))):
        click.echo(told, err=True)


# --- what has changed


def _drift(models: tuple[str, ...], as_json: bool) -> bool:
    """Our table beside the packages it was read from, as they are installed now."""
    from mcp_tierkit.price_map import drift, in_force, is_installed, map_version

    table, users = PriceTable(), _users()
    told: list[dict[str, Any]] = []
    for model in models or table.models():
        listed = table.packaged(model)
        now = in_force(model, listed) if listed else None
        changed = drift(listed, now) if listed and now else {}
        told.append({
            "model": model, "listed": listed.source if listed else None, "installed": now.source if now else None,
            "compared": listed is not None and is_installed(listed),
            "changed": {field: {"listed": ours, "installed": theirs} for field, (ours, theirs) in changed.items()},
            "tiers": [tier for tier, used in users.items() if model in names(used)],
        })  # fmt: skip
    differing = [row for row in told if row["changed"] or (row["compared"] and not row["installed"])]
    unlisted = [row for row in told if not row["listed"]]
    if as_json:
        versions = {name: map_version(name) for name in ("litellm", "genai-prices")}
        print_json({"installed": versions, "rows": told, "differing": len(differing)})
    else:
        _print_drift(differing, told)
    return bool(differing or unlisted)


def _users() -> dict[str, str]:
    """The user's tiers that pay by the token at a listed price, with their models."""
    from mcp_tierkit.settings import FILE
    from mcp_tierkit.tiers import survey

    config = config_if_any()
    tiers = survey(config).tiers if config else {}
    return {name: tier.model for name, tier in tiers.items() if tier.price and tier.price.source != FILE}


def _print_drift(differing: Sequence[dict[str, Any]], told: Sequence[dict[str, Any]]) -> None:
    for row in differing:
        used = f" ({' and '.join(row['tiers'])})" if row["tiers"] else ""
        for field, pair in row["changed"].items():
            click.echo(f"{row['model']}{used}: {field} {pair['listed'] or 'none'} → {pair['installed'] or 'none'}")
        if not row["installed"]:
            click.echo(f"{row['model']}{used}: not in what is installed now (listed from {row['listed']})")
    for row in told:
        if not row["listed"]:
            click.echo(f"{row['model']}: not in our table, so there is nothing to compare")
    compared = sum(row["compared"] for row in told)
    click.echo(f"{compared - len(differing)} of {compared} rows are as in the installed packages.")
    from mcp_tierkit.price_map import GENAI

    if away := sum(not row["compared"] and row["listed"] is not None for row in told):
        click.echo(f"{away} more are from genai-prices, which is not here: pip install '{GENAI}'")
    if differing:
        click.echo("Calls are priced by our rows until mcp-tierkit is upgraded, or a tier names its own price.")
    if touched := dict.fromkeys(tier for row in differing for tier in row["tiers"]):
        click.echo(f"re-test: {', '.join(touched)}. {_HOW}")


def _pins(as_json: bool) -> bool:
    found = _retests(config_if_any())
    if as_json:
        print_json({"retest": None if found is None else [one.model_dump(mode="json") for one in found]})
    elif found is None:
        click.echo("Nothing is recorded yet that prices could be compared with.")
    else:
        _print_pins(found)
        click.echo("" if found else "No tier's model or price has changed since its last call.", nl=not found)
    return bool(found)


def _print_pins(found: Sequence[Retest]) -> None:
    from mcp_tierkit.cli.tables import print_text

    for line in (*(one.told() for one in found), *([_HOW] if found else [])):
        print_text([line], indent="  ")


def _retests(config: Config | None) -> tuple[Retest, ...] | None:
    """The tiers to try again; None where nothing was recorded yet. Raises LedgerError."""
    from mcp_tierkit.ledger.opening import ledger_path
    from mcp_tierkit.ledger.pins import last_calls
    from mcp_tierkit.ledger.report import reading
    from mcp_tierkit.pins import retests
    from mcp_tierkit.tiers import survey

    if config is None:
        return None
    if not ledger_path(config.ledger_url).exists():
        return None
    with reading(config.ledger_url) as conn:
        last = last_calls(conn)
    tiers = survey(config).tiers
    # The price of an address says nothing of where such a tier's model is sold otherwise.
    last = {name: call for name, call in last.items() if name in tiers or not _has_address(name, config)}
    return retests(last, tiers, config.price_table(), config.stages)


def _has_address(name: TierName, config: Config) -> bool:
    written = config.tiers.get(name)
    return written is not None and written.base_url is not None
