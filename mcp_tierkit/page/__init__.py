"""The report as one page: charts first, then lists, all in one file that loads nothing and asks nobody."""

from __future__ import annotations

import base64
import hashlib
from datetime import date
from functools import cache
from pathlib import Path

from mcp_tierkit import __version__
from mcp_tierkit.ledger.told import Told
from mcp_tierkit.page.lists import notes, playbooks, rankings, tasks
from mcp_tierkit.page.parts import Html, el
from mcp_tierkit.page.sections import budgets, days, ends, next_dollar, savings, tiers
from mcp_tierkit.page.tiles import basis, headline, tiles

_DATA = Path(__file__).parent.parent / "data" / "report"
NOTHING = "Nothing is recorded for these days. To see a whole delegated task without a key, run: tierkit demo"


def page(told: Told) -> str:
    """A whole HTML document. Its policy allows the two texts that are in it, by their digests, and nothing else."""
    style, script = _packaged("page.css"), _packaged("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("link", rel="icon", href="data:,"),
        el("title", f"What delegating cost, {_period(told)}"),
        el("style", Html(style)),
    )
    body = el("body", _header(told), el("main", _main(told)), _footer(told), el("script", Html(script)))
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


@cache
def _packaged(name: str) -> str:
    return (_DATA / name).read_text("utf8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _main(told: Told) -> list[Html]:
    if not told.overview.tasks and not told.overview.spend.calls and not told.overview.playbook_runs:
        return [el("section", el("p", NOTHING, klass="empty"), klass="card wide"), *budgets(told)]
    cards = (
        *savings(told), *ends(told), *tiers(told), *budgets(told), *next_dollar(told), *playbooks(told),
        *rankings(told),
    )  # fmt: skip
    return [tiles(told), *days(told), el("div", cards, klass="flow"), *tasks(told), *notes(told)]


def _header(told: Told) -> Html:
    choices = [
        el("button", name, type="button", data_theme=name.lower(), aria_pressed="true" if name == "Auto" else "false")
        for name in ("Auto", "Light", "Dark")
    ]
    return el(
        "header",
        el("div", el("p", f"{_period(told)}, every project"), el("h1", headline(told)), *basis(told)),
        el("div", choices, klass="theme", role="group", aria_label="Colours", hidden=True),
    )


def _period(told: Told) -> str:
    first, last = date.fromisoformat(told.since), date.fromisoformat(told.until)
    if told.days > 3000:
        return f"everything until {_day(last)}"
    return _day(last) if first == last else f"{_day(first)} to {_day(last)}"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _footer(told: Told) -> Html:
    made = f"Made by tierkit {__version__} on {told.made_at[:16].replace('T', ' ')} UTC."
    private = "This page loads nothing from anywhere and sends nothing. It holds what your tasks were about."
    return el("footer", el("p", f"{made} {private}"))
