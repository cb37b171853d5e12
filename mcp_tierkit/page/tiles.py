"""What a person should see first: a sentence, and four figures with a small drawing each."""

from __future__ import annotations

from mcp_tierkit.amounts import count, dollars, percent, tokens
from mcp_tierkit.ledger.spending import Gauge
from mcp_tierkit.ledger.told import Told
from mcp_tierkit.page import said
from mcp_tierkit.page.charts import bar, by_tier, stack, tier_class
from mcp_tierkit.page.parts import Child, Html, el

NOTHING = "-"


def headline(told: Told) -> list[Child]:
    """The one sentence that matters most."""
    if not told.overview.spend.calls and not told.savings.tasks:
        return ["No model was called" if told.overview.tasks else "Nothing was delegated yet"]
    net = said.headline(told)
    figure = el("span", net.figure, klass=net.tone) if net.tone else net.figure
    return [f"Delegating {net.words} ", figure]


def basis(told: Told) -> list[Html]:
    """What the sentence rests on, whether it was worth it, and what to do now."""
    if not told.overview.spend.calls and not told.savings.tasks:
        return []
    steps = [el("li", _with_commands(step)) for step in said.next_steps(told)]
    return [
        el("p", " ".join(said.basis(told))),
        el("p", el("b", said.verdict(told)), klass="verdict"),
        *([el("ul", steps, klass="plain steps")] if steps else []),
    ]


def _with_commands(step: str) -> list[Child]:
    words, mark, command = step.rpartition(": tierkit ")
    if not mark:
        return [step]
    # A word of a command stays whole, whatever the width: nobody would know what to type.
    typed = [[el("span", word), " "] for word in f"tierkit {command}".split()]
    return [f"{words}: ", el("code", *typed[:-1], typed[-1][0])]


def tiles(told: Told) -> Html:
    """What was spent, who did the work, what became of the tasks, and what the budgets leave."""
    return el("div", _spent(told), _cheap(told), _ends(told), _left(told), klass="tiles")


def _spent(told: Told) -> Html:
    spend = told.overview.spend
    more: list[Child] = [el("p", f"{count(spend.calls, 'model call')}, {count(told.overview.tasks, 'task')} opened")]
    if spend.unknown_nanousd:
        more.append(el("p", f"and up to {dollars(spend.unknown_nanousd)} not known"))
    if spend.unbounded_calls:
        more.append(el("p", f"and {count(spend.unbounded_calls, 'call')} without a known limit"))
    quota = f"{tokens(spend.quota_tokens, 'token')}"
    if spend.quota_calls and not spend.cost_nanousd:
        return _tile("Quota used of a subscription", quota, el("p", "no dollars"), *more)
    if spend.quota_calls:
        more.append(el("p", f"and {quota} of quota"))
    machine = sum(total.spend.cost_nanousd for total in told.by_billing if total.key == "local")
    if machine:
        more.append(el("p", f"{dollars(machine)} of it is machine time"))
    return _tile("Spent on models", said.known(spend), *more)


def _cheap(told: Told) -> Html:
    """The cheap tier's part of the work, beside its part of the dollars."""
    what = "Done by the cheap tier"
    cheap = next((share for share in told.shares if share.tier == "cheap"), None)
    if cheap is None:
        return _tile(what, NOTHING, el("p", "no call on the cheap tier"))
    drawn = stack([(tier_class(share.tier), share.tokens or 0.0) for share in by_tier(told.shares)])
    dollars_of = "no dollars were spent"
    if cheap.cost is not None:
        dollars_of = f"and {percent(cheap.cost)} of the {said.dollars_known(told).lower()}"
    return _tile(what, percent(cheap.tokens), drawn, el("p", f"of all tokens, {dollars_of}"))


def _ends(told: Told) -> Html:
    ends = told.ends
    tried = ends.kept + ends.failed + ends.gone + ends.reverted + ends.lost
    if not tried:
        skipped = f"{ends.skipped:,} left to your agent" if ends.skipped else "nothing was drafted or run"
        return _tile("What became of tasks", count(told.overview.tasks, "task"), el("p", skipped))
    parts = (("gain", ends.kept), ("loss", ends.gone + ends.reverted), ("mixed", ends.failed + ends.lost))
    drawn = stack([(klass, number / tried) for klass, number in parts if number])
    told_more = [
        f"{number:,} {words}"
        for number, words in (
            (ends.failed, "whose command failed"), (ends.gone, "no longer in the files"),
            (ends.reverted, "taken back"), (ends.lost, "without a result"),
            (ends.stopped, "stopped by a budget or the breaker"),
        ) if number
    ]  # fmt: skip
    more = " · ".join(told_more) or "none taken back, none without a result"
    if ends.of < told.overview.tasks:
        more = f"of the newest {count(ends.of, 'task')}; {more}"
    return _tile("Results that were kept", f"{ends.kept:,} of {tried:,}", drawn, el("p", more))


def _left(told: Told) -> Html:
    if not told.budgets:
        return _tile("Left of the budget", "no limit", el("p", "None is set, or this was made outside of a project."))
    tightest = max(told.budgets, key=_used)
    share = min(_used(tightest), 1.0)
    klass = "loss" if share >= 1 else "mixed" if share >= 0.8 else "gain"
    others = [f"{_room(gauge)} {said.BUDGETS[gauge.budget]}" for gauge in told.budgets if gauge is not tightest]
    of = f"of {dollars(tightest.limit_nanousd)}" + (", used up" if share >= 1 else _barely(tightest))
    more = [el("p", of), el("p", " · ".join(others)) if others else None]
    tone = "loss" if share >= 1 else None
    return _tile(f"Left {said.BUDGETS[tightest.budget]}", _room(tightest), bar(share, klass), *more, tone=tone)


def _used(gauge: Gauge) -> float:
    return gauge.spent_nanousd / gauge.limit_nanousd if gauge.limit_nanousd else 1.0


def _barely(gauge: Gauge) -> str:
    """What was spent, where the rounded rest does not show that anything was."""
    is_hidden = gauge.spent_nanousd and _room(gauge) == dollars(gauge.limit_nanousd)
    return f", {dollars(gauge.spent_nanousd)} spent" if is_hidden else ""


def _room(gauge: Gauge) -> str:
    return dollars(max(gauge.limit_nanousd - gauge.spent_nanousd, 0))


def _tile(what: str, figure: Child, *more: Child, tone: str | None = None) -> Html:
    return el("div", el("h2", what), el("p", figure, klass=f"figure {tone or ''}".strip()), *more)
