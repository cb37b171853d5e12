"""The report on one screen: what was spent and saved, what became of tasks, what is left, and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from mcp_tierkit.amounts import count, dollars, percent, tokens
from mcp_tierkit.cli.tables import Column, Held, figures, held, print_table, print_text, words
from mcp_tierkit.ledger.levers import Lever, Savings, Unsaid
from mcp_tierkit.ledger.spending import COSTLIEST, CostlyTask, Gauge
from mcp_tierkit.ledger.told import Share, Told, paid_for
from mcp_tierkit.page import said
from mcp_tierkit.scorecard import Scorecard

GOAL = "goal"
GOAL_WIDTH = 44
FEW, FEWEST = 5, 3
SCREEN, MORE = 40, 4
"""Lines of a screen, and of these what its last sentence takes with the line before it."""
LEVERS = {
    "cheap_drafts": "cheap tier instead of your agent",
    "dearer_drafts": "a dearer tier instead of your agent",
    "lost_drafts": "drafts that were not kept",
    "unasked": "stopped before any model was asked",
    "provider_cache": "input read from a provider's cache",
    "reviews": "reviews, at their cost",
    "other_calls": "calls without an estimate, at their cost",
    "handovers": "your agent's own tokens for tasks without an estimate",
}
ENDS = {
    "kept": "kept",
    "failed": "whose command failed",
    "gone": "applied, but no longer in the files",
    "reverted": "taken back",
    "lost": "without a result",
    "stopped": "stopped by a budget or the breaker",
    "reviewed": "only reviewed",
    "skipped": "left to your agent",
    "open": "planned or not over yet",
}
UNSAID = {
    "playbooks": "playbook runs that ended well",
    "skipped": "tasks that no model was asked for",
    "no_baseline": "tasks without an estimate in dollars: reviews, no baseline, a price unknown",
}


def print_report(told: Told) -> None:
    """What one screen shows; the rest is in `print_all`."""
    with held() as summary:
        is_more = print_summary(told)
    click.echo(summary.text, nl=False)
    if not is_more:
        return
    with held() as steps:
        print_next(told)
    shown = _fitting(told, SCREEN - MORE - summary.lines - steps.lines)
    click.echo("".join((*shown.values(), steps.text)))
    left_out = [name for name in SECTIONS if name not in shown]
    beyond = f"Not on this screen: {', '.join(left_out)}. " if left_out else ""
    print_text([f"{beyond}More: tierkit report --all; --levers: what saved and what lost; --html FILE: with charts."])


def print_summary(told: Told) -> bool:
    """What was spent, saved and kept; False where nothing is recorded."""
    print_text([f"Last {count(told.days, 'day')}, UTC, every project: {_summary(told)}"])
    if not told.overview.tasks and not told.overview.spend.calls:
        click.echo("Nothing is recorded for these days. See it work: tierkit demo")
        return False
    click.echo()
    if told.overview.spend.calls or told.savings.tasks:
        _print_lines([f"Delegating {said.headline(told).text}.", *said.basis(told)])
    _print_lines([said.verdict(told), *said.uncounted(told)])
    _print_lines(_ends(told))
    return True


def _print_lines(sentences: Iterable[str]) -> None:
    """One paragraph on a terminal; in a pipe, where nothing wraps, a line for each sentence."""
    if sys.stdout.isatty():
        print_text(sentences)
    else:
        for sentence in sentences:
            print_text([sentence])


def _summary(told: Told) -> str:
    seen, spend = told.overview, told.overview.spend
    parts = [f"{said.known(spend)} for {count(spend.calls, 'model call')}; {count(seen.tasks, 'task')} opened"]
    if spend.quota_calls:
        quota = tokens(spend.quota_tokens, "token")
        parts.append(f"{count(spend.quota_calls, 'call')} within a subscription: {quota} of quota")
    if machine := sum(total.spend.cost_nanousd for total in told.by_billing if total.key == "local"):
        parts.append(f"{dollars(machine)} of it machine time")
    # Where there is a net, the sentence below it tells of these: they are not in it.
    if spend.unpriced_calls and not told.savings.tasks:
        parts.append(f"{count(spend.unpriced_calls)} of the calls of unknown cost{said.at_most(spend)}")
    if seen.in_flight_calls and not told.savings.tasks:
        parts.append(f"{count(seen.in_flight_calls)} in flight")
    if seen.refused_calls:
        parts.append(f"{count(seen.refused_calls)} refused by a budget or the breaker")
    if seen.alerts:
        parts.append(f"{count(seen.alerts)} at another price than was asked for")
    if seen.playbook_runs:
        parts.append(count(seen.playbook_runs, "playbook run"))
    return "; ".join(parts) + "."


def _ends(told: Told) -> Iterator[str]:
    found = told.ends.model_dump(exclude={"of"})
    counts = [f"{count(number)} {ENDS[end]}" for end, number in found.items() if number]
    if counts:
        newest = "Tasks" if told.ends.of == told.overview.tasks else f"The newest {told.ends.of:,} tasks"
        yield f"{newest}: {', '.join(counts)}."
        yield from said.compared(told)


def print_tiers(told: Told) -> None:
    """Each tier's part of calls, of tokens, of dollars and of quota."""
    head = [*words("tier"), *figures("calls", "of calls", "of tokens", "of USD")]
    has_quota = any(share.quota for share in told.shares)
    head += figures(*(["of quota"] if has_quota else []), "USD")
    spends = {total.key: total.spend for total in told.by_tier}
    rows = [
        (tier, count(spends[tier].calls), *_parts(share, has_quota=has_quota), said.cost(spends[tier]))
        for share in told.shares
        for tier in (share.tier,)
    ]
    print_table("Who did the work", head, rows)
    _print_lines(_beside_tiers(told))


def _parts(share: Share, *, has_quota: bool) -> list[str]:
    parts = [share.calls, share.tokens, share.cost, *([share.quota] if has_quota else [])]
    return list(map(percent, parts))


def _beside_tiers(told: Told) -> Iterator[str]:
    """What the shares of tiers count, in sentences."""
    if told.reread_tokens:
        reread = tokens(told.reread_tokens, "token")
        yield f"{reread} were read by repairs, climbs and reviews, which read a draft again."
    if told.caller.read or told.caller.wrote:
        read, wrote = tokens(told.caller.read, "token"), tokens(told.caller.wrote)
        yield f"Your agent read {read} of our replies and wrote {wrote} to ask."
    if told.untold_calls:
        yield f"Of {count(told.untold_calls, 'call')} no tokens were reported: they are missing here."
    yield from paid_for(told)


def print_budgets(told: Told) -> None:
    """How much of each limit is used up."""
    head = (*words("budget", "of"), *figures("spent", "limit", "left", "used"))
    print_table("Budgets", head, list(map(_gauge, told.budgets)))


def _gauge(gauge: Gauge) -> tuple[str, ...]:
    used = gauge.spent_nanousd / gauge.limit_nanousd if gauge.limit_nanousd else None
    of = Path(gauge.key).parent.name if gauge.key.endswith("/.git") else Path(gauge.key).name
    left = max(gauge.limit_nanousd - gauge.spent_nanousd, 0)
    return gauge.budget, of, *map(dollars, (gauge.spent_nanousd, gauge.limit_nanousd, left)), percent(used)


def print_dearest(told: Told, most: int) -> None:
    """The single tasks that cost most."""
    head = (*words("task", "project"), Column(GOAL, is_wide=True), *figures("calls", "USD"))
    rows = [
        _costly(task, told.project_names[task.project], said.cost(told.spends[task.task_id]))
        for task in told.costliest[:most]
    ]
    # Of the rest nobody counts how many cost anything.
    is_cut = len(rows) in (most, COSTLIEST)
    print_table(f"Dearest tasks, the first {len(rows)}" if is_cut else "Dearest tasks", head, rows)


def _costly(task: CostlyTask, project: str, cost: str) -> tuple[str, ...]:
    return task.task_id, project, goal(task.goal), count(task.calls), cost


def goal(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= GOAL_WIDTH else line[: GOAL_WIDTH - 1] + "…"


def part_of(title: str, shown: int, whole: int) -> str:
    """A title that says so where not all rows are shown."""
    return title if shown == whole else f"{title}, the newest {count(shown)} of {count(whole)}: more with --html"


def print_results(told: Told, most: int) -> None:
    """What the newest results came to: cost, time, rewrites, comments before merge, defects after."""
    head = (*words("task"), *figures("USD", "time", "rewrites", "comments", "defects"), *words("verdict"))
    spent = {task_id: said.cost(spend) for task_id, spend in told.spends.items()}
    spent |= {task.task_id: said.cost_of_task(task) for task in told.tasks}
    rows = [_card(card, spent.get(card.task_id)) for card in told.scorecards[:most]]
    print_table(part_of("What results came to (-: not known)", len(rows), len(told.scorecards)), head, rows)


def _card(card: Scorecard, spent: str | None) -> tuple[str, ...]:
    counts = map(_known, (card.rewrites, card.comments, card.defects))
    return card.task_id, spent or dollars(card.cost_nanousd), said.time(card.wall_s), *counts, said.worth(card)


def print_scores(told: Told, most: int) -> None:
    """The scores of the newest results, beside the minutes of clean-up that are in them."""
    head = (*words("task"), *figures("cost", "speed", "accuracy", "clean-up"))
    rows = list(map(_scores, told.scorecards[:most]))
    print_table(part_of("Scores of results, 5 to 1 (-: not known)", len(rows), len(told.scorecards)), head, rows)


def _scores(card: Scorecard) -> tuple[str, ...]:
    minutes = None if card.cleanup_minutes is None else f"{card.cleanup_minutes:g} min"
    return card.task_id, *map(_known, (card.cost, card.speed, card.accuracy, minutes))


def _known(part: object) -> str:
    return "-" if part is None else f"{part}"


def print_next(told: Told) -> None:
    """What to do now."""
    if steps := said.next_steps(told):
        click.echo("\nNext")
        for step in steps:
            print_text([f"- {step}"])


SECTIONS: dict[str, Callable[[Told, int], None]] = {
    "who did the work": lambda told, few: print_tiers(told),
    "budgets": lambda told, few: print_budgets(told),
    "what results came to": print_results,
    "dearest tasks": print_dearest,
}
"""What the screen shows where there is room, the most important first."""


def _fitting(told: Told, room: int) -> dict[str, str]:
    """The parts that this many lines hold, with fewer rows where that lets all of them stay."""
    shown = dict[str, Held]()
    for few in (FEW, FEWEST):
        for name, show in SECTIONS.items():
            with held() as shown[name]:
                show(told, few)
        if sum(part.lines for part in shown.values()) <= room:
            break
    while sum(part.lines for part in shown.values()) > room:
        shown.popitem()
    return {name: part.text for name, part in shown.items()}


def print_levers(told: Told) -> None:
    """What each lever saved or lost: every known dollar, or token of a subscription, belongs to one of them."""
    found = told.savings
    click.echo(f"Last {count(told.days, 'day')}, UTC.")
    _print_lines([f"Delegating {said.headline(told).text}.", *said.basis(told)])
    for unit, title in (("nanousd", "Saved, in US dollars"), ("tokens", "Saved, in tokens of your agent")):
        levers = [lever for lever in found.levers if lever.unit == unit]
        net = found.net_nanousd if unit == "nanousd" else found.net_tokens
        if net:
            whole = ("all together", "", *(_amount(side, unit) for side in net))
            head = (*words("lever"), *figures("tasks", "low", "high"))
            print_table(title, head, [*map(_lever, levers), whole])
    print_table(_untold(found), (*words("what"), *figures("count", "USD")), list(map(_unsaid, found.unsaid)))
    if found.cache_elsewhere_nanousd:
        how = "cheaper" if found.cache_elsewhere_nanousd > 0 else "dearer"
        saved = dollars(abs(found.cache_elsewhere_nanousd))
        click.echo()
        print_text([f"A provider's cache made the calls of tasks without a net in dollars {saved} {how}: it is in"
                    " what they cost."])  # fmt: skip


def _untold(found: Savings) -> str:
    return "Nothing says what these saved" + ("; what they cost is in the net" if found.net_nanousd else "")


def _lever(lever: Lever) -> tuple[str, ...]:
    sides = (_amount(side, lever.unit) for side in (lever.low, lever.high))
    return LEVERS[lever.lever], count(lever.tasks), *sides


def _unsaid(part: Unsaid) -> tuple[str, ...]:
    return UNSAID[part.what], count(part.count), dollars(part.cost_nanousd)


def _amount(value: int, unit: str) -> str:
    return dollars(value) if unit == "nanousd" else count(value)
