"""Everything that `tierkit report` tells of a stretch of days, in one record."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from mcp_tierkit.ledger import levers, report, spending
from mcp_tierkit.types import Budgets, Record

NEWEST = 300
Query = Callable[[sqlite3.Connection], Any]


class Told(Record):
    """What was asked, spent, saved and left of the budgets. Days are UTC; `tasks` are the newest ones only."""

    days: int
    since: str
    until: str
    made_at: str
    overview: report.Overview
    untold_calls: int
    by_day: tuple[report.Total, ...]
    by_tier: tuple[report.Total, ...]
    by_model: tuple[report.Total, ...]
    by_category: tuple[report.Total, ...]
    by_step: tuple[report.Total, ...]
    by_project: tuple[report.Total, ...]
    day_tiers: tuple[spending.DayTier, ...]
    caller: spending.CallerTokens
    next_dollar: spending.NextDollar
    savings: levers.Savings
    costliest: tuple[spending.CostlyTask, ...]
    cache_hits: tuple[report.CacheHit, ...]
    context_by_step: tuple[report.StepTotal, ...]
    playbooks: tuple[report.PlaybookTotal, ...]
    tasks: tuple[report.TaskSummary, ...]
    budgets: tuple[spending.Gauge, ...] = ()


def queries(days: int, now: datetime, *, newest: int = NEWEST) -> dict[str, Query]:
    """What is asked for each field of `Told`. `now` is in UTC, and the last of the days is its own."""
    since = f"{now.date() - timedelta(days=days - 1)}"
    named = {"by_day": "day", "by_tier": "tier", "by_model": "model", "by_category": "category", "by_step": "stage"}
    asked: dict[str, Query] = {
        name: partial(report.totals, by=key, since=since) for name, key in (named | {"by_project": "project"}).items()
    }
    of_days: dict[str, Callable[..., Any]] = {
        "overview": report.overview, "untold_calls": spending.untold_calls, "day_tiers": spending.day_tiers,
        "caller": spending.caller_tokens, "savings": levers.savings, "costliest": spending.costliest,
        "cache_hits": report.cache_hits, "context_by_step": report.step_totals, "playbooks": report.playbook_totals,
    }  # fmt: skip
    asked |= {name: partial(query, since=since) for name, query in of_days.items()}
    asked["next_dollar"] = partial(spending.next_dollar, today=now.date())
    asked["tasks"] = partial(report.recent_tasks, limit=newest, since=since)
    return asked


def told(
    conn: sqlite3.Connection, days: int, now: datetime, *, budgets: Budgets | None = None,
    repository: str | None = None,
) -> Told:  # fmt: skip
    """The last `days` UTC days up to `now`, over every project; the budgets are those of now."""
    found = {name: query(conn) for name, query in queries(days, now).items()}
    at = now.isoformat(timespec="minutes")
    return Told(
        days=days,
        since=f"{now.date() - timedelta(days=days - 1)}",
        until=f"{now.date()}",
        made_at=at,
        budgets=spending.gauges(conn, budgets, at, repository) if budgets else (),
        **found,
    )
