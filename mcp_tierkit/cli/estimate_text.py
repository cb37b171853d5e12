"""What `tierkit estimate` found, for a person and as a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import click

from mcp_tierkit.amounts import count
from mcp_tierkit.cli.tables import print_text
from mcp_tierkit.estimates import Estimate, RouteCost
from mcp_tierkit.price_map import hint
from mcp_tierkit.receipts import usd
from mcp_tierkit.tables import packaged

WHO = ("caller", "cheap", "mid", "strong")
Named = Mapping[str, str | None]
CALLS = {
    "alone": "alone, by the caller", "cheap_draft": "cheap draft", "draft_and_repair": "draft, one repair",
    "climb_to_mid": "draft, repair, mid", "draft_and_review": "draft, strong review",
    "playbook": "a playbook", "recipe": "a recipe",
}  # fmt: skip


def missing(found: Estimate, named: Named, seen: str | None = None) -> list[str]:
    """One sentence for each price that is not known. `seen` is the model that the caller's transcripts name most."""
    unknown = dict.fromkeys(who for route in found.routes for who in route.unknown)
    notes = []
    for who in unknown:
        if who not in WHO:
            notes.append(f"No price is known for {who}, so routes that need it have no figure.")
        elif named[who] is None:
            notes.append(_unnamed(seen))
        elif who not in found.terms.machines:
            notes.append(f"The price of {named[who]} ({who}) is not known, so routes that use it have no figure.")
            notes += [told] if (told := hint(named[who] or "")) else []
    return notes


def _unnamed(seen: str | None) -> str:
    what = "What your agent would pay alone is not known, so nothing is compared."
    if seen:
        return f"{what} Its transcripts name {seen} most: add --caller {seen}"
    return f"{what} Add its model, as in --caller claude-opus-5-5; tierkit audit lists the models it used."


def record(found: Estimate, named: Named, paid: Mapping[str, str], notes: Sequence[str]) -> dict[str, object]:
    return {
        "models": dict(named),
        "paid": dict(paid),
        "work": found.work.model_dump(),
        "terms": _told_terms(found),
        "routes": [_told(route) for route in found.routes],
        "notes": list(notes),
    }


def _told_terms(found: Estimate) -> dict[str, object]:
    told = found.terms.model_dump(mode="json", exclude={"subscription_nanousd", "machines"})
    machines = {
        name: {"hour_usd": usd(machine.hour_nanousd), "call_ms": machine.call_ms, "most_ms": machine.most_ms}
        for name, machine in found.terms.machines.items()
    }
    return told | {"subscription_usd": usd(found.terms.subscription_nanousd), "machines": machines}


def _told(route: RouteCost) -> dict[str, object]:
    """Money as decimal strings of dollars; unknown is null."""
    told = route.model_dump(mode="json")
    for name in ("typical", "worst"):
        told[f"{name}_usd"] = {span: usd(paid) for span, paid in told.pop(name).items()}
    for name in ("calls_run", "calls_worst"):
        told[f"{name}_usd"] = usd(told.pop(name))
    return told


# --- for a person


def show(found: Estimate, named: Named, paid: Mapping[str, str], notes: Sequence[str]) -> None:
    work, terms = found.work, found.terms
    runs = "1 run" if terms.runs_per_day == 1 else f"{terms.runs_per_day.normalize():,f} runs"
    print_text([f"{count(work.input, 'token')} to read and {work.output:,} to write, {runs} a day."])
    width = max(len(model or "unknown") for model in named.values())
    for who, model in named.items():
        print_text([f"  {who:<7} {model or 'unknown':<{width}}  {paid.get(who, '')}".rstrip()], indent=" " * 10)
    is_compared = "caller" not in found.routes[0].unknown or terms.billing == "subscription"
    _table(*(_columns(found) if is_compared else _calls_alone(found)))
    for line in (*_told_quotas(found), *(_told_break_even(found) if is_compared else ()), *notes):
        print_text([line], indent="  ")


def _columns(found: Estimate) -> tuple[list[str], list[list[str]]]:
    """The table's head and rows. Over several months a day's dollars make way, so that it stays within 80 columns."""
    spans: dict[str, str] = {"a run": "run", "a day": "day", "a month": "month"}
    if (months := found.terms.months) > 1:
        spans = {"a run": "run", "a month": "month", f"{months} months": "total"}
    columns = [_dollars(getattr(route.typical, span) for route in found.routes) for span in spans.values()]
    columns.append(_dollars(route.worst.run for route in found.routes))
    rows = []
    for route, *figures in zip(found.routes, *columns, strict=True):
        shown = figures if _has_dollars(route, found) else ["-"] * len(figures)
        rows.append([CALLS[route.name], *shown, *_compared(route, found)])
    return ["dollars", *spans, "at worst", "of alone", "pays from"], rows


def _calls_alone(found: Estimate) -> tuple[list[str], list[list[str]]]:
    """What our calls cost, where nobody knows what the caller's side does."""
    routes = [route for route in found.routes if route.name != "alone"]
    runs = found.terms.runs_per_day * packaged("estimates")["month"]["days"]
    months = [None if route.calls_run is None else round(route.calls_run * runs) for route in routes]
    columns = [_dollars(route.calls_run for route in routes), _dollars(months)]
    columns.append(_dollars(route.calls_worst for route in routes))
    rows = [[CALLS[route.name], *figures] for route, *figures in zip(routes, *columns, strict=True)]
    return ["dollars of our calls", "a run", "a month", "at worst"], rows


def _has_dollars(route: RouteCost, found: Estimate) -> bool:
    """False where subscriptions pay for all of it."""
    if found.terms.billing == "api":
        return True
    return route.name != "alone" and not (route.quota_tokens and route.worst.run == 0)


def _compared(route: RouteCost, found: Estimate) -> tuple[str, str]:
    """How a route stands to doing it alone, and from which size on it pays."""
    if route.quota_tokens and found.terms.billing == "api":
        return "quota", "-"  # Dollars are not all that it costs.
    if route.ratio is None:
        return "?", "-" if route.name == "alone" else "?"
    size = "never" if route.pays_from_output is None else f"{route.pays_from_output:,}"
    return f"{route.ratio:,.1%}", "-" if route.name == "alone" else size


def _dollars(column: Iterable[int | None]) -> list[str]:
    """Amounts with as many places as the smallest needs for two figures, at least two and at most six."""
    amounts = [None if nanousd is None else Decimal(nanousd).scaleb(-9) for nanousd in column]
    sizes = [amount.adjusted() for amount in amounts if amount]
    places = 2 if not sizes or max(sizes) > 2 else min(max(1 - min(sizes), 2), 6)
    return ["?" if amount is None else f"{amount:,.{places}f}" for amount in amounts]


def _told_quotas(found: Estimate) -> list[str]:
    """What the subscriptions of tiers are charged for, of which no table of dollars tells."""
    spent = [route for route in found.routes if route.quota_tokens]
    if not spent:
        return []
    tiers = " and ".join(found.terms.quotas)
    many = len(found.terms.quotas) > 1
    runs = found.terms.runs_per_day * packaged("estimates")["month"]["days"]
    return [
        f"quota: tokens of the subscription{'s' if many else ''} that {tiers} {'have' if many else 'has'}, "
        "no dollars; dollars are what is paid beside.",
        *(
            f"  {CALLS[route.name]:<20}  {route.quota_tokens:>9,} a run  "
            f"{round(route.quota_tokens * runs):>13,} a month  {route.quota_tokens_worst:>9,} at worst"
            for route in spent
        ),
    ]


def _told_break_even(found: Estimate) -> list[str]:
    """What the last columns mean, and the rest of where it pays."""
    own, draft = found.routes[0], next(route for route in found.routes if route.name == "cheap_draft")
    lines = ["pays from: tokens written, from which on the route costs no more than alone, with as much to read."]
    if found.terms.billing == "subscription":
        lines.append("of alone: tokens of the caller's subscription. The dollars are those of our calls.")
    if draft.may_fail_share:
        share = int(draft.may_fail_share * 100)  # Rounded down: it is a promise.
        lines.append(f"Cheap drafts pay as long as no more than {share}% of them fail: {_failing(found)}.")
    ratios = [route.ratio for route in found.routes if route.calls]
    if None not in ratios and min(filter(None, ratios), default=0) > 1:
        lines.append("No route that asks a model pays here: let the caller do it.")
    if draft.turns_per_run:
        lines.append(
            f"Our schemas are read on each turn: one cheap draft in {draft.turns_per_run:,} turns pays for it."
        )
    if own.subscription_runs:
        paid = f", {draft.subscription_runs:,} with cheap drafts" if draft.subscription_runs else ""
        runs = count(own.subscription_runs, "run")
        lines.append(f"The subscription costs no more from {runs} a month on alone{paid}.")
    return lines


def _failing(found: Estimate) -> str:
    """What a failed draft is taken to cost."""
    if found.terms.billing == "subscription":
        return "then your agent does the work after all"
    tried = " and ".join(("a repair", *(f"a try on {tier}" for tier in found.terms.climb)))
    return f"each of these also costs {tried}, and then all of the work alone"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Figures are never cut: a terminal that is too narrow wraps them."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        line = "  ".join([row[0].ljust(len(first)), *others])
        click.secho(line, bold=row is head or row[0] == CALLS["alone"])
