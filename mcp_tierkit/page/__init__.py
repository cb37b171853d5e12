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
from mcp_tierkit.page.parts import Child, Html, count, dollars, el, join, percent, tokens
from mcp_tierkit.page.sections import budgets, days, next_dollar, savings, tiers

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
        *savings(told), *tiers(told), *budgets(told), *next_dollar(told), *playbooks(told), *rankings(told),
    )  # fmt: skip
    return [_tiles(told), *days(told), el("div", cards, klass="flow"), *tasks(told), *notes(told)]


def _header(told: Told) -> Html:
    choices = [
        el("button", name, type="button", data_theme=name.lower(), aria_pressed="true" if name == "Auto" else "false")
        for name in ("Auto", "Light", "Dark")
    ]
    return el(
        "header",
        el("div", el("h1", "What delegating cost, and what it saved"), el("p", f"{_period(told)}, every project")),
        el("div", choices, klass="theme", role="group", aria_label="Colours", hidden=True),
    )


def _period(told: Told) -> str:
    first, last = date.fromisoformat(told.since), date.fromisoformat(told.until)
    if told.days > 3000:
        return f"everything until {_day(last)}"
    return _day(last) if first == last else f"{_day(first)} to {_day(last)}"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _tiles(told: Told) -> Html:
    seen, spend, found = told.overview, told.overview.spend, told.savings
    unknown = f"and up to {dollars(spend.unknown_nanousd)} not known" if spend.unknown_nanousd else None
    calls = f"{count(spend.calls, 'model call')} in {count(seen.tasks, 'task')}"
    cheap = next((share for share in told.shares if share.tier == "cheap"), None)
    told_cheap = f"and {percent(cheap.cost)} of the dollars" if cheap else "no call on the cheap tier"
    runs = count(seen.playbook_runs, "run")
    tiles = [
        _tile("Spent on models", dollars(spend.cost_nanousd), unknown or calls),
        _net_tile(told),
        _tile("Done by the cheap tier", percent(cheap.tokens) if cheap else "–", f"of all tokens, {told_cheap}"),
        _tile("Playbooks", runs, _playbook_tokens(told)),
    ]
    if not found.levers:
        tiles[1] = _tile("Saved", "not known", "Name your agent's model in tierkit.toml, under [caller], to see it.")
    return el("div", tiles, klass="tiles")


def _playbook_tokens(told: Told) -> str:
    used = [total.tokens for total in told.playbooks]
    if None in used:
        return "tokens not known"
    whole = sum(one or 0 for one in used)
    return f"{tokens(whole)} tokens, by skills" if whole else "at no tokens"


def _net_tile(told: Told) -> Html:
    found = told.savings
    if found.net_nanousd is None and found.net_tokens is not None:
        low, high = (f"{side:,}".replace("-", "−") for side in found.net_tokens)
        return _tile("Saved, in your agent's tokens", _span(low, high), f"an estimate for {_of(told)}")
    low_usd, high_usd = found.net_nanousd or (0, 0)

    tone = "loss" if high_usd < 0 else "gain" if low_usd >= 0 else None
    return _tile(
        "Saved, after all costs", _span(dollars(low_usd), dollars(high_usd)), f"an estimate for {_of(told)}", tone
    )


def _span(low: str, high: str) -> Html:
    return join([el("span", low), " to ", el("span", high)])


def _of(told: Told) -> str:
    return f"{told.savings.tasks:,} of {count(told.overview.tasks, 'task')}"


def _tile(what: str, figure: Child, more: str, tone: str | None = None) -> Html:
    return el("div", el("h2", what), el("p", figure, klass=f"figure {tone or ''}".strip()), el("p", more))


def _footer(told: Told) -> Html:
    made = f"Made by tierkit {__version__} on {told.made_at[:16].replace('T', ' ')} UTC."
    private = "This page loads nothing from anywhere and sends nothing. It holds what your tasks were about."
    return el("footer", el("p", f"{made} {private}"))
