"""Everything that `tierkit report` tells of a stretch of days, in one record."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Literal, get_args

from pydantic import Field

from mcp_tierkit.ledger import ends, levers, report, scores, spending
from mcp_tierkit.ledger.ends import Standing
from mcp_tierkit.ledger.spent import Spent, together
from mcp_tierkit.prices import Price
from mcp_tierkit.scorecard import Answer, Pattern, Scorecard, Worth, checklist
from mcp_tierkit.types import Budgets, Record, TierName

NEWEST = 300
"""Tasks and scorecards that are told one by one."""
REREADS = ("repair", "climb", "continue", "review")
"""Steps that are sent a draft again: what they read of it is in their input."""
Query = Callable[[sqlite3.Connection], Any]


class Share(Record):
    """The part of all tokens, calls and known dollars that one tier has, 0 to 1; None where there is nothing at all.

    `quota` is its part of the tokens of subscriptions, which are no dollars.
    """

    tier: str
    tokens: float | None
    calls: float | None
    cost: float | None
    quota: float | None


class Told(Record):
    """What was asked, spent, saved and left of the budgets. Days are UTC; `tasks` are the newest ones only."""

    days: int
    since: str
    until: str
    made_at: str
    overview: report.Overview
    ends: ends.Ends
    standing: Standing = Standing()
    untold_calls: int
    shares: tuple[Share, ...]
    reread_tokens: int
    by_day: tuple[report.Total, ...]
    by_tier: tuple[report.Total, ...]
    by_model: tuple[report.Total, ...]
    by_category: tuple[report.Total, ...]
    by_step: tuple[report.Total, ...]
    by_project: tuple[report.Total, ...]
    by_billing: tuple[report.Total, ...]
    project_names: dict[str, str] = Field(description="Of each folder as much from its end as tells it from the rest.")
    day_tiers: tuple[spending.DayTier, ...]
    caller: spending.CallerTokens
    next_dollar: spending.NextDollar
    savings: levers.Savings
    costliest: tuple[spending.CostlyTask, ...]
    cache_hits: tuple[report.CacheHit, ...]
    context_by_step: tuple[report.StepTotal, ...]
    playbooks: tuple[report.PlaybookTotal, ...]
    tasks: tuple[report.TaskSummary, ...]
    scorecards: tuple[Scorecard, ...]
    spends: dict[str, Spent] = Field(default_factory=dict, exclude=True, description="Of the dearest and scored tasks.")
    verdicts: dict[Worth | Literal["unknown"], int] = Field(description="Of the scorecards.")
    patterns: tuple[Pattern, ...]
    checklist: tuple[Answer, ...] = ()
    prompt_changes: tuple[report.PromptChange, ...] = ()
    unpriced: tuple[spending.Unpriced, ...] = ()
    is_caller_named: bool = Field(default=False, description="Whether the settings name the caller's model.")
    billing: dict[TierName, str] = Field(default_factory=dict, description="Of tiers that are not paid by the token.")
    budgets: tuple[spending.Gauge, ...] = ()


def first_day(days: int, now: datetime) -> date:
    """The first of the last `days` UTC days up to `now`, which is in UTC and on the last of them."""
    return now.date() - timedelta(days=days - 1)


def queries(
    days: int, now: datetime, *, minute_nanousd: int | None = None,
    measured: Mapping[str, levers.Measured] | None = None, caller_price: Price | None = None,
    is_quota_caller: bool = False, gone: Collection[str] = (),
) -> dict[str, Query]:  # fmt: skip
    """What is asked for each field of `Told`, of the last `days` UTC days up to `now`."""
    since = f"{first_day(days, now)}"
    keys: dict[str, report.Key] = {
        "by_day": "day", "by_tier": "tier", "by_model": "model", "by_category": "category", "by_step": "stage",
        "by_project": "project", "by_billing": "billing",
    }  # fmt: skip
    asked: dict[str, Query] = {name: partial(report.totals, by=key, since=since) for name, key in keys.items()}
    of_days: dict[str, Callable[..., Any]] = {
        "overview": report.overview, "untold_calls": spending.untold_calls,
        "day_tiers": spending.day_tiers, "caller": spending.caller_tokens, "unpriced": spending.unpriced,
        "costliest": spending.costliest, "cache_hits": report.cache_hits, "context_by_step": report.step_totals,
        "prompt_changes": report.prompt_changes,
    }  # fmt: skip
    asked |= {name: partial(query, since=since) for name, query in of_days.items()}
    asked["ends"] = partial(ends.ends, since=since, gone=gone)
    asked["playbooks"] = partial(report.playbook_totals, since=since, gone=gone)
    asked["savings"] = partial(
        levers.savings, since=since, measured=measured, caller_price=caller_price, is_quota_caller=is_quota_caller,
        gone=gone,
    )  # fmt: skip
    asked["next_dollar"] = partial(spending.next_dollar, today=now.date())
    asked["tasks"] = partial(report.recent_tasks, limit=NEWEST, since=since)
    asked["scorecards"] = partial(scores.scorecards, since=since, limit=NEWEST, minute_nanousd=minute_nanousd)
    asked["patterns"] = partial(scores.repeated_findings, since=since)
    return asked


def told(
    conn: sqlite3.Connection, days: int, now: datetime, *, budgets: Budgets | None = None,
    repository: str | None = None, minute_nanousd: int | None = None, billing: Mapping[TierName, str] | None = None,
    measured: Mapping[str, levers.Measured] | None = None, caller_price: Price | None = None,
    is_caller_named: bool = False, is_quota_caller: bool = False, standing: Standing | None = None,
) -> Told:  # fmt: skip
    """The last `days` UTC days up to `now`, over every project; the budgets and `billing` are those of now.

    `minute_nanousd` is what a minute of cleaning up costs; `measured` what transcripts tell of the caller's side;
    `caller_price` is that of the caller's model, where it is paid by the token; `is_quota_caller` is that it is not.
    `standing` says which changes are no longer in the files: these count as neither kept nor saving.
    """
    at, seen = now.isoformat(timespec="minutes"), standing or Standing()
    asked = queries(
        days, now, minute_nanousd=minute_nanousd, measured=measured, caller_price=caller_price,
        is_quota_caller=is_quota_caller, gone=seen.gone,
    )  # fmt: skip
    conn.execute("begin")  # One state of the ledger for every query, whoever writes meanwhile.
    try:
        found = {name: query(conn) for name, query in asked.items()}
        found["savings"] = levers.with_playbooks(found["savings"], found["playbooks"])
        found["tasks"] = tuple(
            task.model_copy(update={"is_gone": True}) if task.task_id in seen.gone else task for task in found["tasks"]
        )
        shown = {one.task_id for name in ("costliest", "scorecards") for one in found[name]}
        found["spends"] = report.spends(conn, shown)
        found["by_model"] = by_answer(found["by_model"])
        limits = spending.gauges(conn, budgets, at, repository) if budgets else ()
    finally:
        conn.execute("rollback")
    return Told(
        days=days,
        since=f"{first_day(days, now)}",
        until=f"{now.date()}",
        made_at=at,
        shares=shares(found["by_tier"], found["overview"].spend),
        reread_tokens=sum(step.spend.input_tokens for step in found["by_step"] if step.key in REREADS),
        project_names=project_names(_paths(found)),
        verdicts=verdicts(found["scorecards"]),
        checklist=checklist(found["scorecards"]),
        budgets=limits,
        billing=dict(billing or {}),
        is_caller_named=is_caller_named,
        standing=seen,
        **found,
    )


def by_answer(models: Sequence[report.Total]) -> tuple[report.Total, ...]:
    """Models by the name that they answer to: a call without any answer has that which was asked for.

    That has the provider in front (openai/m): where nothing was read or written under it, it counts with m.
    """
    found = {total.key: total.spend for total in models}
    for total in models:
        names = [name for name in found if total.key.endswith(f"/{name}")]
        if names and not _tokens(total.spend):
            longest = max(names, key=len)
            found[longest] = together((found[longest], found.pop(total.key)))
    return tuple(report.Total(key=key, spend=spend) for key, spend in found.items())


def project_names(paths: Iterable[str]) -> dict[str, str]:
    """Each path by its last part, or by as many as tell it from the others."""
    names: dict[str, str] = {}
    left = {path: [part for part in path.split("/") if part] for path in paths}
    deepest = max(map(len, left.values()), default=0)
    for depth in range(1, deepest + 1):
        short = {path: "/".join(parts[-depth:]) for path, parts in left.items() if path not in names}
        times = Counter(short.values())
        names |= {path: name for path, name in short.items() if times[name] == 1 or depth == deepest}
    return {path: names.get(path) or path for path in left}


def _paths(found: Mapping[str, Any]) -> set[str]:
    rows = (*found["tasks"], *found["costliest"])
    later = (part.key for part in found["next_dollar"].parts if part.by == "project")
    return {total.key for total in found["by_project"]} | {row.project for row in rows} | set(later)


def verdicts(cards: Sequence[Scorecard]) -> dict[Worth | Literal["unknown"], int]:
    """How many tasks came to which verdict; unknown where nobody said what became of the change."""
    counted = Counter(card.verdict or "unknown" for card in cards)
    return {name: counted[name] for name in (*get_args(Worth), "unknown")}


def paid_for(found: Told) -> Iterator[str]:
    """A sentence for each tier with calls that is not paid by the token."""
    used = {total.key for total in found.by_tier}
    yield from (f"How the {tier} tier is paid for: {how}." for tier, how in found.billing.items() if tier in used)


def shares(tiers: Sequence[report.Total], whole: Spent) -> tuple[Share, ...]:
    """Each tier's part of everything. Tokens are those in and out, a draft that was read again included."""
    return tuple(
        Share(
            tier=tier.key,
            tokens=_part(_tokens(tier.spend), _tokens(whole)),
            calls=_part(tier.spend.calls, whole.calls),
            cost=_part(tier.spend.cost_nanousd, whole.cost_nanousd),
            quota=_part(tier.spend.quota_tokens, whole.quota_tokens),
        )
        for tier in tiers
    )


def _tokens(spend: Spent) -> int:
    return spend.input_tokens + spend.output_tokens


def _part(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
