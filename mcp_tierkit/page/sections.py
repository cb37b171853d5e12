"""The charts of the page, each with a heading, a sentence on how to read it, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from mcp_tierkit.amounts import count, dollars, percent, tokens
from mcp_tierkit.ledger.levers import Lever
from mcp_tierkit.ledger.levers import Unit as LeverUnit
from mcp_tierkit.ledger.spending import Cents, Gauge
from mcp_tierkit.ledger.told import Share, Told, paid_for
from mcp_tierkit.page import said
from mcp_tierkit.page.charts import (
    DOLLARS,
    QUOTA,
    TIERS,
    TOKENS,
    Unit,
    bar,
    by_tier,
    columns,
    legend,
    span,
    stack,
    tier_class,
)
from mcp_tierkit.page.parts import Child, Html, el, foreign
from mcp_tierkit.scorecard import Worth

LEVERS = {
    "cheap_drafts": ("Cheap tier", "drafts of the cheap tier that were kept, instead of your agent's own work"),
    "dearer_drafts": ("Dearer tiers", "drafts that took a dearer tier, and were kept"),
    "lost_drafts": ("Drafts not kept", "paid for, and your agent still had the work to do"),
    "unasked": ("Stopped before a model was asked", "what your agent read and wrote for it"),
    "provider_cache": ("Provider's cache", "input that a provider had kept, at its lower price"),
    "reviews": ("Reviews", "at what they cost; what they found has no price"),
    "handovers": ("Handing over", "what your agent read and wrote for reviews and other tasks without an estimate"),
    "other_calls": ("Calls without an estimate", "at what they cost; what they saved in dollars is not known"),
}
UNSAID = {
    "playbooks": ("playbook run", "that ended well"),
    "skipped": ("task", "that no model was asked for, since that would not have paid"),
    "no_baseline": ("task", "without an estimate in dollars: only reviewed, or no baseline, or a price unknown"),
}
ENDS = {
    "kept": ("Kept", "handed over by a draft or a playbook, and not taken back", "gain"),
    "failed": ("Command failed", "a playbook ran a command that failed, and told its output", "mixed"),
    "gone": ("No longer in the files", "applied, and nothing of it is in the working tree now", "loss"),
    "reverted": ("Taken back", "reverted later", "loss"),
    "lost": ("Without a result", "a draft or a playbook was tried, and your agent still had the work", "mixed"),
    "stopped": ("Stopped", "a budget or the breaker let no model be asked, and your agent had the work", "mixed"),
    "reviewed": ("Reviewed", "a change of somebody else's was only looked at", "t-plain"),
    "skipped": ("Left to your agent", "no model was asked, since that would not have paid", "t-other"),
    "open": ("Open", "planned, or not over yet", "t-unknown"),
}
WORTH: dict[Worth, tuple[str, str]] = {
    "helped": ("helped", "gain"), "neutral": ("neutral", "t-other"), "moved_work": ("only moved the work", "loss"),
}  # fmt: skip
BUDGETS = {"day": "today", "month": "this month", "project": "this project"}
MOST_PARTS = 4
EMPTY_DAYS = 3
"""Shown of those before the first call."""


def card(title: str, how: str, *inside: Child, wide: bool = False) -> Html:
    """A part of the page; `how` says how to read what is in it."""
    return el("section", el("h2", title), el("p", how, klass="how"), *inside, klass="card wide" if wide else "card")


def figures(title: str, head: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """The same as a table, folded away."""
    return el("details", el("summary", "Show the figures"), table(title, head, rows))


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """A table whose first column names its rows; the title is for those who hear it."""
    made = [
        el("tr", [el("th" if at == 0 else "td", cell, scope="row" if at == 0 else None) for at, cell in enumerate(row)])
        for row in rows
    ]
    top = el("thead", el("tr", [el("th", name, scope="col") for name in head]))
    caption = el("caption", title, klass="unseen")
    return el("div", el("table", caption, top, el("tbody", made)), klass="scroll")


def days(told: Told) -> list[Html]:
    """Dollars over time, and a subscription's quota, each where there was any; else tokens, which are always there."""
    since, until = date.fromisoformat(_first_day(told)), date.fromisoformat(told.until)
    first = since + timedelta(days=EMPTY_DAYS)
    later = f" The first call was on {first.day} {first:%B}." if f"{since}" > told.since else ""
    made = []
    if any(row.cost_nanousd or row.unknown_nanousd for row in told.day_tiers):
        how = "The higher a column, the more was spent; its colours say on which tier of models."
        made.append(("Spend over time", how, DOLLARS))
    if any(row.quota_tokens for row in told.day_tiers):
        how = "Tokens of calls within a subscription: they use up a quota and cost no dollars."
        made.append(("Quota over time", how, QUOTA))
    if not made and any(row.tokens for row in told.day_tiers):
        made.append(("Tokens over time", "What models read and wrote; none of it cost dollars.", TOKENS))
    return [
        card(title, how + later, columns(title, told.day_tiers, since, until, unit, _untold(told, unit)),
             legend(_tier_names(told, unit)),
             _quota_figures(told) if unit is QUOTA else _day_figures(told), wide=True)
        for title, how, unit in made
    ]  # fmt: skip


def _untold(told: Told, unit: Unit) -> dict[str, int]:
    return {total.key: total.spend.unbounded_calls for total in told.by_day} if unit is DOLLARS else {}


def _tier_names(told: Told, unit: Unit) -> list[tuple[str, str]]:
    rows = [row for row in told.day_tiers if any(unit.of(row))]
    used = [name for name in (*TIERS, "other") if any(_is(name, row.tier) for row in rows)]
    names = [(f"{tier_class(name)} key", f"{name} tier" if name in TIERS else "other") for name in used]
    if any(unit.of(row)[1] for row in rows):
        names.append(("t-unknown key", "cost not known: the most it can be"))
    if any(_untold(told, unit).values()):
        names.append(("", "?: cost not known at all"))
    return names


def _day_figures(told: Told) -> Html:
    rows = [
        (total.key, said.cost(total.spend), f"{total.spend.calls:,}", f"{total.spend.input_tokens:,}",
         f"{total.spend.output_tokens:,}")
        for total in told.by_day
    ]  # fmt: skip
    return figures("Each day with calls", ("Day", "Spent", "Calls", "Tokens in", "Tokens out"), rows)


def _quota_figures(told: Told) -> Html:
    spends = [(total.key, total.spend) for total in told.by_day if total.spend.quota_calls]
    rows = [(day, f"{spend.quota_calls:,}", f"{spend.quota_tokens:,}") for day, spend in spends]
    return figures("Each day with calls within a subscription", ("Day", "Calls", "Tokens of quota"), rows)


def _first_day(told: Told) -> str:
    """A few days before the first call: who begins sees more than one column, and no wide stretch of nothing."""
    first = min((row.day for row in told.day_tiers), default=told.since)
    return max(told.since, f"{date.fromisoformat(first) - timedelta(days=EMPTY_DAYS)}")


def _is(name: str, tier: str) -> bool:
    return tier == name or (name == "other" and tier not in TIERS)


def savings(told: Told) -> list[Html]:
    """The net, lever by lever, as ranges."""
    parts: list[Child] = []
    for unit in ("nanousd", "tokens"):
        parts += _ranges(told, unit)
    unsaid = [
        el("li", f"{count(part.count, UNSAID[part.what][0])} {UNSAID[part.what][1]}{_cost(part.cost_nanousd)}")
        for part in told.savings.unsaid
    ]
    if unsaid:
        also = " What it cost is in the net." if told.savings.net_nanousd else ""
        parts.append(el("p", f"Nothing says what the following saved.{also}", klass="how"))
        parts.append(el("ul", unsaid, klass="plain"))
    if not parts:
        return []
    how = (
        "Beside what your agent would have spent alone: right of the line is saved, left of it is lost. The full part "
        "of a bar is the least, the pale part reaches to the most. Every known dollar is in one bar only."
    )
    if not told.savings.levers:
        how = "No receipt of these days estimates what was saved."
    return [card("What was saved, and by what", how, *parts)]


def _cost(nanousd: int | None) -> str:
    return "" if nanousd == 0 else f" (cost: {dollars(nanousd)})"


def _ranges(told: Told, unit: LeverUnit) -> list[Child]:
    levers = [lever for lever in told.savings.levers if lever.unit == unit]
    net = told.savings.net_nanousd if unit == "nanousd" else told.savings.net_tokens
    if net is None:
        return []
    least = min(0, net[0], *(lever.low for lever in levers))
    most = max(0, net[1], *(lever.high for lever in levers))
    title = "All together, net of every known dollar" if unit == "nanousd" else "All together, in your agent's tokens"
    rows = [_range(title, "", *net, least, most, unit), *(_lever(lever, least, most) for lever in levers)]
    return [el("ul", rows, klass="bars ranges")]


def _lever(lever: Lever, least: int, most: int) -> Html:
    name, what = LEVERS[lever.lever]
    return _range(name, f"{what}; {count(lever.tasks, 'task')}", lever.low, lever.high, least, most, lever.unit)


def _range(name: str, what: str, low: int, high: int, least: int, most: int, unit: LeverUnit) -> Html:
    sides = [dollars(side) if unit == "nanousd" else tokens(side) for side in (low, high)]
    told = " to ".join(dict.fromkeys(sides))
    label = el("span", el("b", name), el("small", what) if what else None)
    return el("li", label, el("span", told, klass="value"), span(low, high, least, most))


def ends(told: Told) -> list[Html]:
    """What became of the tasks, and what they were worth."""
    counts = told.ends.model_dump(exclude={"of"})
    if not told.ends.of:
        return []
    most = max(counts.values())
    bars = [
        el("li", el("span", el("b", name), el("small", what)), el("span", f"{counts[end]:,}", klass="value"),
           bar(counts[end] / most, klass))
        for end, (name, what, klass) in ENDS.items() if counts[end]
    ]  # fmt: skip
    is_all = told.ends.of == told.overview.tasks
    how = f"How the {'' if is_all else 'newest '}{count(told.ends.of, 'task')} ended, each counted once."
    if told.ends.of == 1:
        how = "How the one task ended."
    how = " ".join((how, *said.compared(told)))
    return [card("What became of the tasks", how, el("ul", bars, klass="bars"), _worth(told))]


def _worth(told: Told) -> Html | None:
    """How many were judged to have helped."""
    judged = sum(told.verdicts[name] for name in WORTH)
    if not told.scorecards:
        return None
    many = len(told.scorecards)
    title = el("h3", f"Was it worth it? Of the {'one result' if many == 1 else f'newest {many:,} results'}")
    open_ = sum(said.worth(card) == said.WAITING for card in told.scorecards)
    how = "Say what became of a change with record_outcome, or with tierkit outcome TASK accepted"
    waiting = " ".join([*([f"Without a verdict yet: {open_:,}. {how}."] if open_ else []), *said.uncounted(told)])
    if not judged:
        return el("div", title, el("p", waiting or "There is nothing to judge.", klass="how"))
    parts = [(klass, told.verdicts[name] / judged) for name, (_, klass) in WORTH.items()]
    names = [(f"{klass} key", f"{told.verdicts[name]:,} {words}") for name, (words, klass) in WORTH.items()]
    return el("div", title, stack(parts), legend(names), el("p", waiting, klass="how") if waiting else None)


def tiers(told: Told) -> list[Html]:
    """Who does the work: shares of tokens and of dollars."""
    if not told.shares:
        return []
    order = by_tier(told.shares)
    bars = [
        el("li", el("span", el("b", name)), el("span", _shares(order, field), klass="value"), _stack(order, field))
        for name, field in (
            ("Tokens", "tokens"),
            ("Calls", "calls"),
            (said.dollars_known(told), "cost"),
            ("Quota", "quota"),
        )
        if any(getattr(share, field) for share in order)
    ]
    rows = [
        (total.key, f"{total.spend.calls:,}", f"{total.spend.input_tokens:,}", f"{total.spend.output_tokens:,}",
         said.cost(total.spend))
        for total in told.by_tier
    ]  # fmt: skip
    how = "Each line is the whole, cut by tier. The aim: most tokens on the cheap tier, few dollars on the dear ones."
    names = [(f"{tier_class(share.tier)} key", f"{share.tier} tier") for share in order]
    head = ("Tier", "Calls", "Tokens in", "Tokens out", "Spent")
    each = figures("Each tier with its calls", head, rows)
    inside = (el("ul", bars, klass="bars"), legend(names), _read_again(told), each)
    return [card("Who does the work", how, *inside)]


def _read_again(told: Told) -> Html | None:
    parts = []
    if told.reread_tokens and told.overview.spend.input_tokens:
        share = percent(told.reread_tokens / told.overview.spend.input_tokens)
        parts.append(f"{share} of what models read was for repairs, climbs and reviews, which read the draft again.")
    if told.caller.read or told.caller.wrote:
        asked = f"{tokens(told.caller.read, 'token')} of replies and wrote {tokens(told.caller.wrote)}"
        parts.append(f"Your agent itself read {asked} to ask; these are not in the shares.")
    if told.untold_calls:
        are = "is" if told.untold_calls == 1 else "are"
        parts.append(f"{count(told.untold_calls, 'call')} named no tokens and {are} missing here.")
    if told.overview.spend.quota_calls:
        parts.append("Quota is what a subscription counts: its tokens cost no dollars, and are in no share of them.")
    if any(total.key == "local" for total in told.by_billing):
        parts.append("Calls of your own machine count with its time, where an hour has a price, and else as free.")
    parts += paid_for(told)
    return el("p", " ".join(parts), klass="how") if parts else None


def _stack(shares: Sequence[Share], field: str) -> Html:
    return stack([(tier_class(share.tier), getattr(share, field) or 0.0) for share in shares])


def _shares(shares: Sequence[Share], field: str) -> str:
    return " · ".join(f"{share.tier} {percent(getattr(share, field))}" for share in shares)


def next_dollar(told: Told) -> list[Html]:
    """What a dollar goes to now."""
    dollar = told.next_dollar
    if not dollar.parts:
        return []
    lists: list[Child] = []
    for by, title in (("tier", "By tier"), ("category", "By type of task"), ("project", "By project")):
        parts = [part for part in dollar.parts if part.by == by]
        lists.append(el("h3", title))
        lists.append(el("ul", _most(parts, told.project_names), klass="bars tight"))
    how = f"If it goes on as in the last {dollar.days} days, this is what the next dollar buys, in cents."
    if any(part.share_before is not None for part in dollar.parts):
        how += f" The small figure is the {dollar.days} days before."
    return [card("Where the next dollar goes", how, *lists)]


def _cents(part: Cents, projects: Mapping[str, str]) -> Html:
    name: Child = foreign(projects[part.key] if part.by == "project" else part.key or "unknown")
    before = "" if part.share_before is None else f"was {part.share_before * 100:.1f}¢"
    label = el("span", el("b", name), el("small", before) if before else None)
    klass = tier_class(part.key) if part.by == "tier" else "t-plain"
    return el("li", label, el("span", f"{part.share * 100:.1f}¢", klass="value"), bar(part.share, klass))


def _most(parts: Sequence[Cents], projects: Mapping[str, str]) -> list[Html]:
    """The greatest parts one by one, the rest as one where it is more than one."""
    shown = len(parts) if len(parts) <= MOST_PARTS + 1 else MOST_PARTS
    rest = [_rest(parts[shown:])] if parts[shown:] else []
    return [*(_cents(part, projects) for part in parts[:shown]), *rest]


def _rest(parts: Sequence[Cents]) -> Html:
    share = sum(part.share for part in parts)
    label = el("span", el("b", f"{len(parts)} others"))
    return el("li", label, el("span", f"{share * 100:.1f}¢", klass="value"), bar(share, "t-other"))


def budgets(told: Told) -> list[Html]:
    """How much of each limit is used."""
    if not told.budgets:
        return []
    how = "A full bar is a used-up budget: then calls are refused. Calls in flight count with the most they can cost."
    return [card("Budgets", how, el("ul", list(map(_gauge, told.budgets)), klass="bars"))]


def _gauge(gauge: Gauge) -> Html:
    share = gauge.spent_nanousd / gauge.limit_nanousd if gauge.limit_nanousd else 1.0
    state, klass = ("used up", "loss") if share >= 1 else ("nearly used up", "mixed") if share >= 0.8 else ("", "gain")
    told = f"{dollars(gauge.spent_nanousd)} of {dollars(gauge.limit_nanousd)}"
    label = el("span", el("b", BUDGETS[gauge.budget]), el("small", state) if state else None)
    return el("li", label, el("span", f"{told} ({percent(share)})", klass="value"), bar(share, klass))
