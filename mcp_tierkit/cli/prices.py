"""`tierkit prices`: what calls are priced by, and how old that is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import click

from mcp_tierkit.cli.options import json_option, print_json
from mcp_tierkit.config import load_config
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.places import find_project
from mcp_tierkit.prices import STALE_DAYS, Price, PriceTable

_COLUMNS = ("input", "output", "cache_read", "cache_write")


@click.command()
@click.argument("models", nargs=-1)
@json_option
def prices(models: tuple[str, ...], as_json: bool) -> None:
    """List known prices, in US dollars per million tokens, with their source and age.

    Without MODELS the table that this version ships. A model with no known price is shown as unknown, never as free;
    exit code 1 when one of MODELS has none.

    \b
    Example:
      tierkit prices
      tierkit prices openai/some-model --json
    """
    table = _table()
    rows = [(model, table.price(model)) for model in models or table.models()]
    today = datetime.now(UTC).date()
    if as_json:
        print_json([_record(model, price, today) for model, price in rows])
    else:
        _print_table(rows, today)
        _warn([model for model, price in rows if price and price.is_stale(today)])
    if any(price is None for _, price in rows):
        click.get_current_context().exit(1)


def _table() -> PriceTable:
    """The user's own prices before ours; ours alone where there is no project to read settings for."""
    try:
        find_project(None, os.environ)
    except InvalidInput:
        return PriceTable()
    return load_config().price_table()


def _record(model: str, price: Price | None, today: date) -> dict[str, object]:
    if price is None:
        unknown = dict.fromkeys((*Price.model_fields, "age_days", "stale"))
        return {"model": model, "known": False, **unknown}
    return {
        "model": model,
        "known": True,
        **price.model_dump(mode="json"),
        "age_days": _age(price, today),
        "stale": price.is_stale(today),
    }


def _age(price: Price, today: date) -> int | None:
    return (today - price.as_of).days if price.as_of else None


def _print_table(rows: Sequence[tuple[str, Price | None]], today: date) -> None:
    width = max([len(model) for model, _ in rows] + [5])
    click.echo(f"{'model':<{width}} {'input':>9} {'output':>9} {'cached':>9} {'written':>9} {'age':>6}  source")
    for model, price in rows:
        if price is None:
            click.echo(f"{model:<{width}} unknown: name its price in tierkit.toml before it is used")
            continue
        figures = " ".join(f"{_figure(getattr(price, column)):>9}" for column in _COLUMNS)
        age = _age(price, today)
        click.echo(f"{model:<{width}} {figures} {'-' if age is None else f'{age} d':>6}  {price.source}")


def _figure(value: Decimal | None) -> str:
    return "?" if value is None else f"{value.normalize():f}"


def _warn(stale: Sequence[str]) -> None:
    if stale:
        click.echo(
            f"Warning: {len(stale)} prices are older than {STALE_DAYS} days, so costs may be wrong. "
            "Upgrade mcp-tierkit, or name current prices in tierkit.toml.",
            err=True,
        )
