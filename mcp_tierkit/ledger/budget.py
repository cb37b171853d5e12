"""What the budgets admit at this instant, and the breaker: it stops loops and runaway spending whatever is left.

What decides is read inside the write transaction that reserves, so that no two calls see the same room.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median_low
from typing import Any, Literal, NamedTuple

from mcp_tierkit.errors import OverBudget
from mcp_tierkit.ledger.money import committed, dollars
from mcp_tierkit.types import Budgets, Request

WINDOW = timedelta(minutes=10)
ALMOST_A_MINUTE = timedelta(seconds=59, milliseconds=999)
SAME_REQUESTS = 3
TIMES_THE_USUAL = 10
ENOUGH = 5
"""Tasks of a kind or days without which nothing is known to be usual."""
NEWEST = 1000
"""Calls in which tasks of a kind are looked for."""
KINDS = ("playbook", "review")
"""Stages that make a task of a kind of its own; any other is of a draft."""
TASK_FLOOR, DAY_FLOOR = 100_000_000, 1_000_000_000
"""Nanodollars up to which a task or a day is never called a runaway: a cheap habit makes ten times it soon spent."""

Rate = Literal["task_rate", "day_rate"]
Kind = Literal["over_budget", "loop", "breaker", Rate]


class Refusal(NamedTuple):
    """Why a call may not be made now, and the word that `decisions` keeps for it; no error where it may."""

    kind: Kind
    error: OverBudget | None


def refusal(
    conn: sqlite3.Connection, request: Request, budget_key: str, at: str, worst: int | None, budgets: Budgets, *,
    may_wait: bool,
) -> Refusal:  # fmt: skip
    """What forbids a call that costs `worst` at most. It holds in the write transaction that reserves."""
    if budgets.breaker and (tripped := _tripped(conn, request, at)):
        return tripped
    if worst is None and (refused := _unpriced(conn, at, budgets.unpriced_calls)):
        return Refusal("over_budget", refused)
    keys = {"call": "", "task": request.task_id, "day": at[:10], "project": budget_key, "month": at[:7]}
    over = [_over(conn, budget, key, worst or 0, getattr(budgets, budget), may_wait) for budget, key in keys.items()]
    # A budget that no settlement can help comes before one that may admit the call yet.
    found = sorted((error for error in over if error is not None), key=lambda error: error.may_settle)
    return Refusal("over_budget", found[0] if found else None)


def _over(
    conn: sqlite3.Connection, budget: str, key: str, worst: int, limit: int | None, may_wait: bool
) -> OverBudget | None:
    held = 0 if limit is None else committed(conn, budget, key)
    if limit is None or held + worst <= limit:
        return None
    flying = outstanding(conn, budget, key)
    spent, needed = held - flying, dollars(held + worst)
    may_settle = spent + worst <= limit
    # Looked up once for a refusal that stands: one that may yet be lifted is asked for again and again.
    word = "spent" if may_settle and may_wait else _spent(conn, budget, key)
    return OverBudget(
        f"The {budget} budget of ${dollars(limit)} does not admit this call: ${dollars(spent)} is {word}, "
        f"${dollars(flying)} is outstanding and it could cost ${dollars(worst)}",
        next_step=f"Ask the user to raise {budget}_usd under [budget] in tierkit.toml to {needed} or more, "
        "or go on without it.",
        budget=budget,
        needed_usd=needed,
        limit_nanousd=limit,
        held_nanousd=held,
        may_settle=may_settle,
    )


def outstanding(conn: sqlite3.Connection, budget: str, key: str) -> int:
    """The part of `committed` that calls in flight hold, and give back as far as they turn out cheaper."""
    mine = {
        "call": "false and ''",
        "task": "task_id",
        "day": "substr(at, 1, 10)",
        "month": "substr(at, 1, 7)",
        "project": "(select budget_key from tasks where tasks.task_id = calls.task_id)",
    }[budget]
    query = f"""select coalesce(sum(reserved_nanousd), 0) from calls indexed by calls_reserved
        where status = 'reserved' and {mine} = ?"""
    return int(conn.execute(query, (key,)).fetchone()[0])


def _spent(conn: sqlite3.Connection, budget: str, key: str) -> str:
    """The word for what is settled: where calls ended with an unknown cost, the most of each counts."""
    mine = {
        "call": "false and ''",
        "task": "task_id",
        "day": "day",
        "month": "substr(day, 1, 7)",
        "project": "(select budget_key from tasks where tasks.task_id = task_sums.task_id)",
    }[budget]
    sums = "call_sums" if budget in ("day", "month") else "task_sums"
    query = f"select coalesce(sum(unknown_nanousd), 0) from {sums} where {mine} = ?"
    return "spent or possibly spent" if conn.execute(query, (key,)).fetchone()[0] else "spent"


def _unpriced(conn: sqlite3.Connection, at: str, limit: int) -> OverBudget | None:
    """Dollars hold no call of unknown price, so calls are counted: of this day, and none that was turned away."""
    query = """select count(*) from calls where reserved_nanousd is null and at between ? and ?
        and cost_nanousd is not 0"""
    if conn.execute(query, (at[:10], f"{at[:10]}U")).fetchone()[0] < limit:
        return None
    calls = "1 call" if limit == 1 else f"{limit} calls"
    allowed = f"has {calls} a day, and all are used" if limit else "is not called while unpriced_calls is 0"
    return OverBudget(
        f"A model without a known price, or within a subscription, {allowed}",
        next_step="Ask the user to raise unpriced_calls under [budget] in tierkit.toml, or name the model's price.",
        budget="unpriced_calls",
    )


def _tripped(conn: sqlite3.Connection, request: Request, at: str) -> Refusal | None:
    since = (datetime.fromisoformat(at) - WINDOW).isoformat(timespec="milliseconds")
    # Up to now: where a clock was ahead once, what it dated would otherwise hold calls up until that day comes.
    return (
        _loop(conn, request.digest, since, at)
        or _runaway_task(conn, request, since, at)
        or _runaway_day(conn, at[:10], since, at)
    )


def _loop(conn: sqlite3.Connection, digest: str | None, since: str, at: str) -> Refusal | None:
    """The same request for the third time. Where the provider failed, asking again is no loop."""
    query = """select at, status = 'cancelled' from calls where request_digest = ? and at > ? and at <= ?
        and status <> 'failed' order by at desc limit ?"""
    found = conn.execute(query, (digest, since, at, SAME_REQUESTS - 1)).fetchall() if digest else []
    if len(found) < SAME_REQUESTS - 1:
        return None
    cancelled = sum(row[1] for row in found)
    made = f"{len(found)} times within ten minutes{f', {cancelled} of them cancelled' if cancelled else ''}"
    what = f"This very request was made {made}, so it looks like a loop"
    way_on = "Ask in other words or for less, or tell the user; the same may go on"
    return Refusal("loop", _open(what, found[-1][0], at, way_on=way_on))


def _runaway_task(conn: sqlite3.Connection, request: Request, since: str, at: str) -> Refusal | None:
    """Measured by tasks of its kind: the first dear one among tiny recipes or cheap drafts is no runaway."""
    task_id, kind = request.task_id, request.stage if request.stage in KINDS else "draft"
    cost = conn.execute("select sum(cost_nanousd) from calls where task_id = ?", (task_id,)).fetchone()[0] or 0
    if cost <= TASK_FLOOR:
        return None
    trips = "select at from decisions where task_id = ? and kind = 'task_rate' and at <= ? order by at"
    others = f"""select sum(cost_nanousd) as cost from calls where task_id in (
            select task_id from (select rowid as nth, * from calls where task_id <> ? order by rowid desc limit ?)
            where tier = ? and case when stage in {KINDS} then stage else 'draft' end = ?
            group by task_id order by max(nth) desc limit 20)
        group by task_id having cost > 0"""
    before, usual = _column(conn, trips, task_id, at), _column(conn, others, task_id, NEWEST, request.tier, kind)
    return _runaway("task_rate", f"a {kind} on the {request.tier} tier", cost, usual, before, since, at)


def _runaway_day(conn: sqlite3.Connection, day: str, since: str, at: str) -> Refusal | None:
    held = committed(conn, "day", day)
    if held <= DAY_FLOOR:
        return None
    trips = "select at from decisions where kind = 'day_rate' and at >= ? and at <= ? order by at"
    others = """select nanousd from budget_spend where budget = 'day' and key < ? and nanousd > 0
        order by key desc limit 30"""
    before, usual = _column(conn, trips, day, at), _column(conn, others, day)
    return _runaway("day_rate", "a day", held - outstanding(conn, "day", day), usual, before, since, at)


def _runaway(
    rate: Rate, of_what: str, cost: int, usual: Sequence[int], trips: Sequence[str], since: str, at: str
) -> Refusal | None:
    """Ten times the usual trips it; ten minutes later it is let go on for as much again."""
    what = f"This {rate.removesuffix('_rate')}"
    if trips and trips[-1] > since:
        return Refusal("breaker", _open(f"{what} spends unusually fast and was stopped", trips[-1], at))
    if len(usual) < ENOUGH or cost <= TIMES_THE_USUAL * median_low(usual) * (len(trips) + 1):
        return None
    fast = f"{what} has cost ${dollars(cost)}, over ten times the usual ${dollars(median_low(usual))} of {of_what}"
    return Refusal(rate, _open(fast, at, at))


def _open(what: str, since: str, at: str, *, way_on: str = "Tell the user; it may go on") -> OverBudget:
    # To the minute after: whoever comes at the minute that is named is let through.
    until = (datetime.fromisoformat(since) + WINDOW + ALMOST_A_MINUTE).replace(second=0, microsecond=0)
    minutes = math.ceil((until - datetime.fromisoformat(at)) / timedelta(minutes=1))
    return OverBudget(
        f"{what}: the breaker stops it, not a budget",
        next_step=f"{way_on} at {until:%H:%M} UTC, {minutes} min from now.",
        budget="breaker",
    )


def _column(conn: sqlite3.Connection, query: str, *values: str | int) -> list[Any]:
    return [row[0] for row in conn.execute(query, values)]
