"""The report as text: tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import click

from mcp_tierkit.ledger.levers import Lever, Savings, Unsaid
from mcp_tierkit.ledger.report import CacheHit, PlaybookTotal, StepTotal, TaskSummary
from mcp_tierkit.ledger.spending import Cents, CostlyTask, Gauge, NextDollar
from mcp_tierkit.ledger.spent import Spent
from mcp_tierkit.ledger.told import Share, Told, paid_for
from mcp_tierkit.receipts import usd
from mcp_tierkit.scorecard import Scorecard

GOAL = "goal"
NUMBERS = (
    "calls", "tokens in", "cached", "tokens out", "USD", "share", "runs", "ok", "tokens", "hit rate", "packed",
    "per call", "of tokens", "of calls", "of USD", "cents", "before", "low", "high", "tasks", "count", "spent",
    "limit", "left", "used", "time", "rewrites", "comments", "defects", "clean-up", "C/S/A",
)  # fmt: skip
GOAL_WIDTH, CELL_WIDTH = 44, 80
MOST = 8
DAYS = 14
LEVERS = {
    "cheap_drafts": "cheap tier instead of your agent",
    "dearer_drafts": "a dearer tier instead of your agent",
    "lost_drafts": "drafts that were not kept",
    "provider_cache": "input read from a provider's cache",
    "reviews": "reviews, at their cost",
}
BILLING = {
    "api": "by the token",
    "subscription": "within a subscription: quota, no dollars",
    "local": "machine time of your own",
    "": "not recorded",
}
ENDS = {
    "kept": "kept", "reverted": "taken back", "lost": "without a result", "reviewed": "only reviewed",
    "skipped": "left to your agent", "open": "planned or not over yet",
}  # fmt: skip
VERDICTS = {"helped": "helped", "neutral": "neutral", "moved_work": "moved_work", "unknown": "not known yet"}
UNSAID = {
    "playbooks": "playbook runs that ended well",
    "skipped": "tasks that no model was asked for",
    "refused": "calls refused by a budget",
    "no_baseline": "other tasks: no baseline, or a call without a price in dollars",
}
Rows = Sequence[Sequence[str]]


def print_report(told: Told, latest: int) -> None:
    """Everything but the levers one by one, with the `latest` tasks."""
    click.echo(f"Last {told.days} days, UTC: {_summary(told)}")
    if not told.overview.tasks and not told.overview.spend.calls:
        click.echo("Nothing is recorded for these days. See it work: tierkit demo")
        return
    print_savings(told.savings)
    _print_ends(told)
    print_table("Budgets", ("budget", "of", "spent", "limit", "left", "used"), list(map(_gauge, told.budgets)))
    head = ("calls", "tokens in", "cached", "tokens out", "USD")
    by_day = [(total.key, *_figures(total.spend)) for total in told.by_day]
    left = len(by_day) - DAYS
    title = f"By day, the last {DAYS}; {left} before them: --csv or --html" if left > 0 else "By day"
    print_table(title, ("day", *head), by_day[-DAYS:])
    _tiers(told, head)
    if any(total.key in ("subscription", "local") for total in told.by_billing):
        paid = [(BILLING[total.key], *_figures(total.spend)) for total in told.by_billing]
        print_table("By how calls are paid for", ("paid", *head), paid)
    print_table("By model", ("model", *head), [(total.key, *_figures(total.spend)) for total in told.by_model])
    types = [(total.key or "unknown", *_figures(total.spend)) for total in told.by_category]
    print_table("By type of task", ("type", *head), types)
    if len(told.by_project) > 1:
        projects = [(told.project_names[total.key], *_figures(total.spend)) for total in told.by_project]
        print_table("By project", ("project", *head), projects)
    _print_next_dollar(told.next_dollar, told.project_names)
    read = ("category", "calls", "tokens in", "cached", "hit rate")
    print_table("Read from a provider's cache, by category", read, list(map(_hit, told.cache_hits)))
    packed = ("step", "calls", "packed", "per call")
    print_table("Tokens of project files sent, by step", packed, list(map(_step, told.context_by_step)))
    print_table("Playbooks", ("playbook", "runs", "ok", "tokens", "USD"), list(map(_playbook, told.playbooks)))
    print_table(
        "Dearest tasks",
        ("task", "project", GOAL, "calls", "USD"),
        [_costly(task, told.project_names[task.project]) for task in told.costliest[:MOST]],
    )
    _scorecards(told.scorecards[:latest])
    tasks = [_task(task, told.project_names[task.project]) for task in told.tasks[:latest]]
    print_table("Latest tasks", ("task", "begun", "project", GOAL, "ended", "USD"), tasks)


def print_levers(told: Told) -> None:
    """What each lever saved or lost: every dollar, or token of a subscription, belongs to one of them."""
    found = told.savings
    click.echo(f"Last {told.days} days, UTC: {_net(found)}")
    for unit, title in (("nanousd", "Saved, in US dollars"), ("tokens", "Saved, in tokens of your agent")):
        levers = [lever for lever in found.levers if lever.unit == unit]
        net = found.net_nanousd if unit == "nanousd" else found.net_tokens
        if net:
            whole = ("all together", "", *(_amount(side, unit) for side in net))
            print_table(title, ("lever", "tasks", "low", "high"), [*map(_lever, levers), whole])
    print_table(
        "Not counted: no receipt says what it saved", ("what", "count", "USD"), list(map(_unsaid, found.unsaid))
    )
    if found.cache_elsewhere_nanousd:
        how = "cheaper" if found.cache_elsewhere_nanousd > 0 else "dearer"
        saved = usd(abs(found.cache_elsewhere_nanousd))
        click.echo(f"\nA provider's cache also made the calls of tasks without a net in dollars ${saved} {how}.")


def print_savings(found: Savings) -> None:
    """One line: the whole range, and how much is not in it."""
    if found.levers or found.unsaid:
        click.echo(f"\n{_net(found)} More: tierkit report --levers")


def _print_ends(told: Told) -> None:
    """What became of the tasks, and what they were worth, in a line each."""
    counts = [f"{count} {ENDS[end]}" for end, count in told.ends.model_dump().items() if end != "of" and count]
    if counts:
        newest = "Tasks" if told.ends.of == told.overview.tasks else f"The newest {told.ends.of} tasks"
        click.echo(f"{newest}: {', '.join(counts)}.")
    judged = [f"{count} {VERDICTS[name]}" for name, count in told.verdicts.items() if count]
    if judged:
        click.echo(f"Worth it, of the newest {len(told.scorecards)} with a result or an attempt: {', '.join(judged)}.")


def _net(found: Savings) -> str:
    told = []
    if found.net_nanousd:
        told.append(f"net ${_amount(found.net_nanousd[0], 'nanousd')} to ${_amount(found.net_nanousd[1], 'nanousd')}")
    if found.net_tokens:
        told.append(f"net {found.net_tokens[0]} to {found.net_tokens[1]} tokens of your agent")
    if not told:
        return "What was saved is not known: no receipt of these days names a net (set caller.model)."
    seen = f" (your agent's side of {found.measured_tasks} measured in its transcripts)" if found.measured_tasks else ""
    return f"Saved, as receipts estimate it for {_count(found.tasks, 'task')}{seen}: {'; '.join(told)}."


def _lever(lever: Lever) -> tuple[str, ...]:
    sides = (_amount(side, lever.unit) for side in (lever.low, lever.high))
    return LEVERS[lever.lever], f"{lever.tasks}", *sides


def _unsaid(part: Unsaid) -> tuple[str, ...]:
    return UNSAID[part.what], f"{part.count}", usd(part.cost_nanousd) or "unknown"


def _amount(value: int, unit: str) -> str:
    return f"{value / 1e9:.4f}" if unit == "nanousd" else f"{value}"


def _tiers(told: Told, head: Sequence[str]) -> None:
    shares = {share.tier: share for share in told.shares}
    rows = [(total.key, *_figures(total.spend), _percent(shares[total.key].tokens)) for total in told.by_tier]
    print_table("By tier, with its share of all tokens", ("tier", *head, "share"), rows)
    if told.by_tier:
        click.echo("\n" + " ".join(_beside_tiers(told, shares.get("cheap"))))


def _beside_tiers(told: Told, cheap: Share | None) -> Iterator[str]:
    """What the shares of tiers count, in sentences."""
    if cheap is not None:
        yield (
            f"The cheap tier has {_percent(cheap.tokens)} of the tokens, {_percent(cheap.calls)} of the calls and "
            f"{_percent(cheap.cost)} of the dollars."
        )
    if told.reread_tokens:
        yield f"Tokens in include {told.reread_tokens} of repairs, climbs and reviews, which are sent the draft again."
    if told.caller.read or told.caller.wrote:
        yield f"Your agent read {told.caller.read} tokens of our replies and wrote {told.caller.wrote} to ask."
    if told.overview.spend.quota_calls:
        parts = (f"{share.tier} {_percent(share.quota)}" for share in told.shares if share.quota)
        yield f"Tokens within a subscription are quota, in no sum of dollars: {', '.join(parts) or 'none told'}."
    if told.untold_calls:
        yield f"Of {told.untold_calls} calls no tokens were reported: they are missing here."
    yield from paid_for(told)


def _print_next_dollar(dollar: NextDollar, projects: Mapping[str, str]) -> None:
    names = {"tier": "tier", "category": "type", "project": "project"}
    rows = [_cents(names[part.by], part, projects) for by in names for part in dollar.parts if part.by == by]
    title = f"The next dollar, spent as in the last {dollar.days} days"
    print_table(title, ("by", "goes to", "cents", "before"), rows)


def _cents(by: str, part: Cents, projects: Mapping[str, str]) -> tuple[str, ...]:
    key = projects[part.key] if part.by == "project" else part.key
    before = "-" if part.share_before is None else f"{part.share_before * 100:.1f}"
    return by, key or "unknown", f"{part.share * 100:.1f}", before


def _gauge(gauge: Gauge) -> tuple[str, ...]:
    used = gauge.spent_nanousd / gauge.limit_nanousd if gauge.limit_nanousd else None
    of = Path(gauge.key).parent.name if gauge.key.endswith("/.git") else Path(gauge.key).name
    left = max(gauge.limit_nanousd - gauge.spent_nanousd, 0)
    amounts = (usd(amount) or "" for amount in (gauge.spent_nanousd, gauge.limit_nanousd, left))
    return gauge.budget, of, *amounts, _percent(used)


def _summary(told: Told) -> str:
    seen, spend = told.overview, told.overview.spend
    counts = f"{_count(spend.calls, 'model call')}; {_count(seen.tasks, 'task')} opened"
    parts = [f"${usd(spend.cost_nanousd)} for {counts}"]
    if spend.quota_calls:
        parts.append(f"{_count(spend.quota_calls, 'call')} within a subscription: {spend.quota_tokens} tokens of quota")
    if machine := sum(total.spend.cost_nanousd for total in told.by_billing if total.key == "local"):
        parts.append(f"${usd(machine)} of it machine time")
    if spend.unpriced_calls:
        parts.append(f"{spend.unpriced_calls} of the calls unpriced{_at_most(spend)}")
    if seen.in_flight_calls:
        parts.append(f"{seen.in_flight_calls} in flight")
    if seen.refused_calls:
        parts.append(f"{seen.refused_calls} refused by a budget")
    if seen.alerts:
        parts.append(f"{seen.alerts} dearer than the model named")
    if seen.playbook_runs:
        parts.append(f"playbooks run: {seen.playbook_runs}")
    return "; ".join(parts) + "."


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _at_most(spend: Spent) -> str:
    """The most that calls of unknown cost can come to, as far as there is one."""
    bounded = f", up to ${usd(spend.unknown_nanousd)} unknown" if spend.unknown_nanousd else ""
    return bounded + (f", {spend.unbounded_calls} of them without any limit known" if spend.unbounded_calls else "")


def _figures(spend: Spent) -> tuple[str, ...]:
    return f"{spend.calls}", f"{spend.input_tokens}", f"{spend.cached_tokens}", f"{spend.output_tokens}", _cost(spend)


def _hit(hit: CacheHit) -> tuple[str, ...]:
    known = (f"{hit.calls}", f"{hit.input_tokens}", f"{hit.cached_tokens}", _percent(hit.hit_rate))
    return hit.category or "unknown", *known


def _step(step: StepTotal) -> tuple[str, ...]:
    return step.stage, *map(str, (step.calls, step.packed_tokens, round(step.packed_tokens / step.calls)))


def _playbook(total: PlaybookTotal) -> tuple[str, ...]:
    tokens = "unknown" if total.tokens is None else f"{total.tokens}"
    return total.playbook, f"{total.runs}", f"{total.ok}", tokens, usd(total.cost_nanousd) or "unknown"


def _cost(spend: Spent) -> str:
    """What is known, and what is not beside it; a subscription's calls have no dollars."""
    if spend.calls and spend.quota_calls == spend.calls and not spend.cost_nanousd:
        return "quota"
    known = usd(spend.cost_nanousd) or ""
    if not spend.unpriced_calls:
        return known
    if spend.unpriced_calls == spend.calls and not spend.unknown_nanousd:
        return "unpriced"
    bounded = f" + up to {usd(spend.unknown_nanousd)} unknown" if spend.unknown_nanousd else ""
    return known + bounded + (f" + {spend.unbounded_calls} unpriced" if spend.unbounded_calls else "")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _goal(text: str) -> str:
    goal = " ".join(text.split())
    return goal if len(goal) <= GOAL_WIDTH else goal[: GOAL_WIDTH - 1] + "…"


def _costly(task: CostlyTask, project: str) -> tuple[str, ...]:
    known = f"{usd(task.cost_nanousd)}" + (" + unpriced" if task.unpriced_calls else "")
    return task.task_id, project, _goal(task.goal), f"{task.calls}", known


def _scorecards(cards: Sequence[Scorecard]) -> None:
    head = ("task", "USD", "time", "rewrites", "comments", "defects", "clean-up", "C/S/A", "verdict")
    print_table("What tasks came to (scores 1 to 5 for cost, speed, accuracy)", head, list(map(_card, cards)))


def _card(card: Scorecard) -> tuple[str, ...]:
    minutes = None if card.cleanup_minutes is None else f"{card.cleanup_minutes:g} min"
    time = None if card.wall_s is None else f"{card.wall_s:.0f} s"
    counts = (card.rewrites, card.comments, card.defects)
    told = (usd(card.cost_nanousd), time, *counts, minutes, *[card.verdict])
    *figures, verdict = ("-" if part is None else f"{part}" for part in told)
    scores = "/".join("-" if part is None else f"{part}" for part in (card.cost, card.speed, card.accuracy))
    return card.task_id, *figures, scores, verdict


def _task(task: TaskSummary, project: str) -> tuple[str, ...]:
    begun = task.created_at[5:16].replace("T", " ")
    return task.task_id, begun, project, _goal(task.goal), ended(task), _cost(task.spend)


def ended(task: TaskSummary) -> str:
    """What became of it, the latest word first; of a task that was only planned, the decision."""
    if told := task.outcome or task.draft_status or task.verdict or task.playbook_status:
        return told
    if task.state == "open":
        return task.decision or "-"
    return "refused" if task.state == "done" and not task.spend.calls else task.state


def print_table(title: str, head: Sequence[str], rows: Rows) -> None:
    if rows:
        clean = [[_printable(cell) for cell in row] for row in rows]
        _rich(title, head, clean) if sys.stdout.isatty() else _plain(title, head, clean)


def _printable(text: str) -> str:
    """Goals and names of models come from elsewhere: nothing of them may steer a terminal, or be more than it can show.

    A half of a surrogate pair is not printable either.
    """
    line = text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"
    shown = "".join(char if char.isprintable() else "?" for char in line)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "replace").decode(encoding)


def _plain(title: str, head: Sequence[str], rows: Rows) -> None:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    click.echo(f"\n{title}")
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(title: str, head: Sequence[str], rows: Rows) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=GOAL in head)
    for name in head:
        justify: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=True, ratio=1 if name == GOAL else None)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
