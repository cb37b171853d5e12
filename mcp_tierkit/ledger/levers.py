"""What was saved, and by what: every dollar of the net belongs to one lever. Unknown is None, a loss is negative."""

from __future__ import annotations

import sqlite3
from typing import Literal

from mcp_tierkit.types import Record

Unit = Literal["usd", "tokens"]
LeverName = Literal["cheap_drafts", "dearer_drafts", "lost_drafts", "provider_cache", "reviews"]
IdleName = Literal["playbooks", "skipped", "refused", "no_baseline"]

class Lever(Record):
    """One cause of the net, over the tasks whose receipt names one. Nanodollars, or tokens of the caller's."""

    lever: LeverName
    unit: Unit
    tasks: int
    low: int
    high: int


class Unsaid(Record):
    """What may have saved something too, but no receipt says how much. `cost_nanousd` is None where not all is known."""

    what: IdleName
    count: int
    cost_nanousd: int | None


class Savings(Record):
    """The net of each unit is the sum of its levers; None where no receipt names one.

    `cache_elsewhere_nanousd` is what cached input took off the calls of tasks that are in no net.
    """

    levers: tuple[Lever, ...]
    unsaid: tuple[Unsaid, ...]
    tasks: int
    net_usd: tuple[int, int] | None
    net_tokens: tuple[int, int] | None
    cache_elsewhere_nanousd: int


# A draft that was taken back has saved nothing, but has cost all the same. Where the cost of a call is unknown, so is
# the net. A subscription's is in tokens of the caller's, and what we paid in dollars is no part of it.
_TASKS = """with kept as (
        select *, is_kept and not is_reverted as is_done,
            unit is not null and (unit = 'tokens' or unpriced_calls = 0) as is_known
        from task_sums where at >= :since)"""
_DRAFTS = f"""{_TASKS} select unit, case when not is_done then 'lost_drafts' when dearer_drafts > 0 then 'dearer_drafts'
            else 'cheap_drafts' end as lever, count(*) as tasks,
        sum(iif(is_done, alone_low, 0) - paid) as low, sum(iif(is_done, alone_high, 0) - paid) as high
    from (select *, passed + iif(unit = 'usd', cost_nanousd - review_nanousd + cache_nanousd, 0) as paid
        from kept where is_known) group by unit, lever order by unit desc, lever"""
_REST = f"""{_TASKS} select
        count(*) filter (where is_known and unit = 'usd' and cache_nanousd <> 0) as cached_tasks,
        coalesce(sum(cache_nanousd) filter (where is_known and unit = 'usd'), 0) as cached,
        coalesce(sum(cache_nanousd) filter (where not is_known or unit = 'tokens'), 0) as cached_elsewhere,
        count(*) filter (where is_known and unit = 'usd' and review_nanousd > 0) as reviewed_tasks,
        coalesce(sum(review_nanousd) filter (where is_known and unit = 'usd'), 0) as reviewed,
        count(*) filter (where calls > 0 and not is_known) as unsaid_tasks,
        coalesce(sum(cost_nanousd) filter (where calls > 0 and not is_known), 0) as unsaid,
        coalesce(sum(unpriced_calls) filter (where calls > 0 and not is_known), 0) as unpriced
    from kept"""
_RUNS = """select count(*) as runs, iif(count(cost_nanousd) = count(*), coalesce(sum(cost_nanousd), 0), null) as cost
    from playbook_runs where at >= :since and status = 'ok'"""
_SKIPPED = """select count(*) from tasks where created_at >= :since and 'skip' = (
        select iif(decision in ('draft', 'single_cheap', 'run_playbook', 'review'), 'work', 'skip') from routes
            where routes.task_id = tasks.task_id order by routes.rowid desc limit 1)"""
_REFUSED = "select count(*) from decisions where kind = 'over_budget' and at >= :since"


def savings(conn: sqlite3.Connection, *, since: str = "") -> Savings:
    """What the tasks opened from `since` on saved, lever by lever."""
    values = {"since": since}
    rest = conn.execute(_REST, values).fetchone()
    levers = [Lever(**row) for row in conn.execute(_DRAFTS, values)]
    tasks = sum(lever.tasks for lever in levers)
    levers += _beside(rest)
    return Savings(
        levers=tuple(levers),
        unsaid=_unsaid(conn, rest, values),
        tasks=tasks,
        net_usd=_net(levers, "usd"),
        net_tokens=_net(levers, "tokens"),
        cache_elsewhere_nanousd=rest["cached_elsewhere"],
    )


def _beside(rest: sqlite3.Row) -> list[Lever]:
    """The two causes that are taken out of the drafts' own figures."""
    found = []
    if rest["cached_tasks"]:
        saved = rest["cached"]
        found.append(Lever(lever="provider_cache", unit="usd", tasks=rest["cached_tasks"], low=saved, high=saved))
    if rest["reviewed_tasks"]:
        lost = -rest["reviewed"]
        found.append(Lever(lever="reviews", unit="usd", tasks=rest["reviewed_tasks"], low=lost, high=lost))
    return found


def _unsaid(conn: sqlite3.Connection, rest: sqlite3.Row, values: dict[str, str]) -> tuple[Unsaid, ...]:
    runs = conn.execute(_RUNS, values).fetchone()
    counts: tuple[tuple[IdleName, int, int | None], ...] = (
        ("playbooks", runs["runs"], runs["cost"]),
        ("skipped", conn.execute(_SKIPPED, values).fetchone()[0], 0),
        ("refused", conn.execute(_REFUSED, values).fetchone()[0], 0),
        ("no_baseline", rest["unsaid_tasks"], None if rest["unpriced"] else rest["unsaid"]),
    )
    return tuple(Unsaid(what=what, count=count, cost_nanousd=cost) for what, count, cost in counts if count)


def _net(levers: list[Lever], unit: Unit) -> tuple[int, int] | None:
    of_unit = [lever for lever in levers if lever.unit == unit]
    return (sum(lever.low for lever in of_unit), sum(lever.high for lever in of_unit)) if of_unit else None
