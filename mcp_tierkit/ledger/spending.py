"""Where money goes: each day by tier, the dearest tasks, what the next dollar buys, how far budgets are used up."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Literal

from mcp_tierkit.ledger.money import committed
from mcp_tierkit.ledger.report import NEWEST_CALLS
from mcp_tierkit.ledger.spent import UNPRICED_NOT_QUOTA
from mcp_tierkit.types import Budgets, Record

NEXT_DOLLAR_DAYS = 7
COSTLIEST = 10
STEPS = 10_000
"""The parts that a dollar is told in: hundredths of a cent."""
By = Literal["tier", "category", "project"]
ANSWERED_BY = "coalesce(served_model, routed_model, requested_model)"


class DayTier(Record):
    """What the calls of one tier cost on one UTC day; `unknown_nanousd` is the most that unpriced ones can have.

    `tokens` are all in and out; `quota_tokens` of them those of a subscription.
    """

    day: str
    tier: str
    cost_nanousd: int
    unknown_nanousd: int
    tokens: int
    quota_tokens: int


class CostlyTask(Record):
    """A task and what is known of its cost."""

    task_id: str
    project: str
    goal: str
    at: str
    calls: int
    cost_nanousd: int
    unpriced_calls: int


class Unpriced(Record):
    """Calls of one model at one tier without a known cost, and what is missing for it.

    Answer: it was cancelled or failed, so nobody can supply it. Usage: no tokens were reported. Price: the model has
    none. Rate: its price has none for cached input, for writing a cache, or for how the call was served.
    """

    tier: str
    model: str
    missing: Literal["answer", "usage", "price", "rate"]
    calls: int
    cached_tokens: int
    cache_write_tokens: int


class Cents(Record):
    """The part of a dollar, 0 to 1, that goes to one tier, category or project, and which part it was before."""

    by: By
    key: str
    share: float
    share_before: float | None


class NextDollar(Record):
    """How a dollar is spent now: as the last days' known spend was. Each `by` of `parts` adds up to one dollar."""

    days: int
    since: str
    cost_nanousd: int
    cost_before_nanousd: int
    parts: tuple[Cents, ...]


class Gauge(Record):
    """How much of a budget is used up, calls in flight at their worst. `key` is the day, the month or the project."""

    budget: Literal["day", "month", "project"]
    key: str
    spent_nanousd: int
    limit_nanousd: int


class CallerTokens(Record):
    """Tokens that passed through the calling agent: our replies that it read, the arguments that it wrote."""

    read: int
    wrote: int


def day_tiers(conn: sqlite3.Connection, *, since: str = "") -> tuple[DayTier, ...]:
    """Spend of each tier on each UTC day from `since` on, in that order."""
    query = """select day, tier, sum(cost_nanousd) as cost_nanousd,
            coalesce(sum(unknown_nanousd) filter (where billing <> 'subscription'), 0) as unknown_nanousd,
            sum(input_tokens + output_tokens) as tokens,
            coalesce(sum(input_tokens + output_tokens) filter (where billing = 'subscription'), 0) as quota_tokens
        from call_sums where day >= ? group by day, tier having sum(calls) > 0 order by day, tier"""
    return tuple(DayTier(**row) for row in conn.execute(query, (since,)))


def costliest(conn: sqlite3.Connection, *, since: str = "", limit: int = COSTLIEST) -> tuple[CostlyTask, ...]:
    """The tasks opened from `since` on that cost most, dearest first; those that cost nothing are left out."""
    unpriced = f"select count(*) from calls where calls.task_id = top.task_id and {UNPRICED_NOT_QUOTA}"
    query = f"""select task_id, top.project, json_extract(record, '$.goal') as goal, top.at, top.calls,
            top.cost_nanousd, ({unpriced}) as unpriced_calls
        from (select * from task_sums where at >= ? and cost_nanousd > 0 order by cost_nanousd desc, task_id limit ?)
            as top join tasks using (task_id) order by top.cost_nanousd desc, task_id"""
    return tuple(CostlyTask(**row) for row in conn.execute(query, (since, limit)))


def caller_tokens(conn: sqlite3.Connection, *, since: str = "") -> CallerTokens:
    """What the receipts of tasks opened from `since` on say; tasks without one are not in it."""
    query = """select coalesce(sum(caller_read), 0) as read, coalesce(sum(caller_wrote), 0) as wrote
        from task_sums where at >= ?"""
    return CallerTokens(**conn.execute(query, (since,)).fetchone())


def untold_calls(conn: sqlite3.Connection, *, since: str = "") -> int:
    """Calls from the UTC day `since` on whose tokens no provider named: every sum of tokens lacks them."""
    found = conn.execute("select coalesce(sum(untold_calls), 0) from call_sums where day >= ?", (since,)).fetchone()
    return int(found[0])


def unpriced(conn: sqlite3.Connection, *, since: str = "", newest: int = NEWEST_CALLS) -> tuple[Unpriced, ...]:
    """Of the newest calls from `since` on, those without a known cost and why, the most frequent first."""
    query = f"""select tier, {ANSWERED_BY} as model,
            case when input_tokens is null or output_tokens is null
                    then case status when 'settled' then 'usage' else 'answer' end
                when coalesce(served_price, routed_price) is null then 'price' else 'rate' end as missing,
            count(*) as calls, coalesce(sum(cached_tokens), 0) as cached_tokens,
            coalesce(sum(cache_write_tokens), 0) as cache_write_tokens
        from (select * from calls order by rowid desc limit :newest)
        where {UNPRICED_NOT_QUOTA} and at >= :since group by 1, 2, 3 order by calls desc, 1, 2, 3"""
    return tuple(Unpriced(**row) for row in conn.execute(query, {"since": since, "newest": newest}))


def next_dollar(conn: sqlite3.Connection, today: date, *, days: int = NEXT_DOLLAR_DAYS) -> NextDollar:
    """The last `days` UTC days up to `today`, beside as many before them."""
    since, before = today - timedelta(days=days - 1), today - timedelta(days=2 * days - 1)
    now, then = (f"{since}", "~"), (f"{before}", f"{since}")
    parts: list[Cents] = []
    for by in ("tier", "category", "project"):
        parts += _parts(by, _costs(conn, by, *now), _costs(conn, by, *then))
    sums = [sum(_costs(conn, "tier", *period).values()) for period in (now, then)]
    return NextDollar(
        days=days, since=f"{since}", cost_nanousd=sums[0], cost_before_nanousd=sums[1], parts=tuple(parts)
    )


def gauges(conn: sqlite3.Connection, budgets: Budgets, now: str, repository: str | None) -> tuple[Gauge, ...]:
    """The budgets of this day, this month and a repository that have a limit. `now` is an ISO time in UTC."""
    keys: Mapping[Literal["day", "month", "project"], str | None]
    keys = {"day": now[:10], "month": now[:7], "project": repository}
    return tuple(
        Gauge(budget=budget, key=key, spent_nanousd=committed(conn, budget, key), limit_nanousd=limit)
        for budget, key in keys.items()
        if key is not None and (limit := getattr(budgets, budget)) is not None
    )


def _costs(conn: sqlite3.Connection, by: By, since: str, until: str) -> dict[str, int]:
    query = f"""select {by}, sum(cost_nanousd) from call_sums where day >= ? and day < ?
        group by 1 having sum(cost_nanousd) > 0"""
    return {row[0]: row[1] for row in conn.execute(query, (since, until))}


def _parts(by: By, now: Mapping[str, int], before: Mapping[str, int]) -> list[Cents]:
    shares, shares_before = _of_one(now), _of_one(before)
    return [
        Cents(by=by, key=key, share=shares[key], share_before=shares_before.get(key, 0.0) if before else None)
        for key in sorted(now, key=lambda key: (-now[key], key))
    ]


def _of_one(costs: Mapping[str, int]) -> dict[str, float]:
    """Each one's part to four places, so that they add up to one: what rounding takes goes to the nearest misses."""
    whole = sum(costs.values())
    steps = {key: divmod(cost * STEPS, whole) for key, cost in costs.items()}
    left = STEPS - sum(done for done, _ in steps.values())
    nearest = set(sorted(steps, key=lambda key: (-steps[key][1], key))[:left])
    return {key: (done + (key in nearest)) / STEPS for key, (done, _) in steps.items()}
