"""What was saved, and by what: every known dollar spent belongs to one lever. Unknown is None, a loss is negative."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from mcp_tierkit.ledger.report import PlaybookTotal
from mcp_tierkit.prices import Price, cost
from mcp_tierkit.types import Record, Tokens, Usage

Unit = Literal["nanousd", "tokens"]
LeverName = Literal[
    "cheap_drafts",
    "dearer_drafts",
    "lost_drafts",
    "unasked",
    "provider_cache",
    "reviews",
    "other_calls",
    "handovers",
]
IdleName = Literal["playbooks", "skipped", "no_baseline"]


class Lever(Record):
    """One cause of the net. Nanodollars, or tokens of the caller's.

    Drafts, the unasked and the cache are of tasks whose receipt names a net; reviews and other calls of all tasks.
    """

    lever: LeverName
    unit: Unit
    tasks: int
    low: int
    high: int


class Unsaid(Record):
    """What may have saved too, but no receipt says how much; what it cost is in the net, where there is one.

    `cost_nanousd` is None where not all of it is known.
    """

    what: IdleName
    count: int
    cost_nanousd: int | None


class Savings(Record):
    """The net of each unit is the sum of its levers; None where no receipt names one.

    The net in dollars is less `cost_nanousd`: every known dollar that calls of the tasks of these days cost, be there
    an estimate of what they saved or not. `cache_elsewhere_nanousd` is what cached input took off the calls of tasks
    without a net in dollars: these calls are in it at what they did cost.
    """

    levers: tuple[Lever, ...]
    unsaid: tuple[Unsaid, ...]
    tasks: int
    measured_tasks: int = Field(default=0, description="Of these, where a transcript told the caller's own side.")
    net_nanousd: tuple[int, int] | None
    net_tokens: tuple[int, int] | None
    cost_nanousd: int = 0
    caller_tokens: Tokens = Field(default=0, description="Through the caller, of tasks without a net: in no figure.")
    cache_elsewhere_nanousd: int


# A draft that was taken back has saved nothing, but has cost all the same. Where the cost of a call is unknown, so is
# the net. A subscription's is in tokens of the caller's, and what we paid in dollars is no part of it.
# A group is one number, since rows are sorted by it: 4 for each unit, unknown last, and 1 for each kind of draft.
_UNITS: tuple[Unit | None, ...] = ("nanousd", "tokens", None)
_DRAFTS: tuple[LeverName, ...] = ("cheap_drafts", "dearer_drafts", "lost_drafts", "unasked")
_GROUPS = """select number, count(*) as tasks, sum(low) as low, sum(high) as high,
        sum(calls > 0) as called, sum(is_skipped and calls = 0) as skipped, sum(is_measured) as measured,
        sum(cache_nanousd) as cached, sum(cache_nanousd <> 0) as cached_tasks,
        sum(review_nanousd) as reviewed, sum(review_nanousd > 0) as reviewed_tasks,
        sum(cost_nanousd - review_nanousd) as other, sum(cost_nanousd > review_nanousd) as other_tasks,
        sum(cost_nanousd) as cost, sum(unpriced_calls) as unpriced,
        sum(caller_read) as read, sum(caller_wrote) as wrote, sum(caller_read + caller_wrote > 0) as handed_tasks
    from (select iif(paid is null or (unit = 'usd' and unpriced_calls > 0), 8, iif(unit = 'usd', 0, 4))
                + iif(is_done, dearer_drafts > 0, iif(calls > 0, 2, 3)) as number,
            iif(is_done, alone_low, 0) - paid as low, iif(is_done, alone_high, 0) - paid as high,
            calls, is_skipped, is_measured, cache_nanousd, review_nanousd, cost_nanousd, unpriced_calls,
            caller_read, caller_wrote
        from (select *, is_kept and not is_reverted as is_done, told.key is not null as is_measured,
                iif(told.key is null, passed, json_extract(told.value, '$.' || unit))
                    + iif(unit = 'usd', cost_nanousd - review_nanousd + cache_nanousd, 0) as paid
            from task_sums left join (select key, value from json_each(:measured)) as told on told.key = task_id
            where at >= :since))
    group by number order by number"""
# A playbook that asks a model is listed as one, and not again among the tasks without a baseline.
_SKILLS = """select count(*) as called, coalesce(sum(cost_nanousd), 0) as cost,
        coalesce(sum(unpriced_calls), 0) as unpriced
    from task_sums as sums where at >= :since and unit is null and calls > 0
        and task_id in (select task_id from playbook_runs where kind = 'skill' and at >= :since)
        and not exists (select 1 from drafts where drafts.task_id = sums.task_id)"""
_WITH_NET = "select task_id from task_sums where at >= ? and unit is not null"


class Measured(Record):
    """What passed through the caller for one task, as its transcript counted it. None is unknown."""

    usd: int | None = Field(description="Nanodollars.")
    tokens: int


def with_net(conn: sqlite3.Connection, since: str) -> tuple[str, ...]:
    """The tasks opened from `since` on whose receipt names a net."""
    return tuple(row[0] for row in conn.execute(_WITH_NET, (since,)))


def savings(
    conn: sqlite3.Connection, *, since: str = "", measured: Mapping[str, Measured] | None = None,
    caller_price: Price | None = None,
) -> Savings:  # fmt: skip
    """What the tasks opened from `since` on saved, lever by lever.

    Where the caller's own side of a task was `measured`, that takes the place of what its receipt estimates. At the
    `caller_price` of now is charged what passed through the caller for tasks whose receipt names no net.
    """
    told = json.dumps({task_id: one.model_dump() for task_id, one in (measured or {}).items()})
    groups = conn.execute(_GROUPS, {"since": since, "measured": told}).fetchall()
    levers = [_drafts(group, unit) for group in groups if (unit := _unit(group))]
    tasks = sum(lever.tasks for lever in levers)
    in_usd = [group for group in groups if _unit(group) == "nanousd"]
    elsewhere = [group for group in groups if _unit(group) != "nanousd"]
    if in_usd:
        levers += _beside("provider_cache", in_usd, "cached", 1)
        levers += _beside("reviews", groups, "reviewed", -1)
        levers += _beside("other_calls", elsewhere, "other", -1)
    untold = [group for group in groups if _unit(group) is None]
    handed = _handovers(untold, caller_price) if in_usd and caller_price else []
    return Savings(
        levers=(*levers, *handed),
        unsaid=_unsaid(conn, since, groups),
        tasks=tasks,
        measured_tasks=sum(group["measured"] for group in groups if _unit(group)),
        net_nanousd=_net([*levers, *handed], "nanousd"),
        net_tokens=_net(levers, "tokens"),
        cost_nanousd=sum(group["cost"] for group in groups),
        caller_tokens=0 if handed else sum(group["read"] + group["wrote"] for group in untold),
        cache_elsewhere_nanousd=sum(group["cached"] for group in elsewhere),
    )


def with_playbooks(found: Savings, runs: Sequence[PlaybookTotal]) -> Savings:
    """The same, with the runs that ended well among what no receipt speaks of."""
    ok, costs = sum(total.ok for total in runs), [total.cost_nanousd for total in runs]
    cost = None if None in costs else sum(one or 0 for one in costs)
    counted = (Unsaid(what="playbooks", count=ok, cost_nanousd=cost),) if ok else ()
    return found.model_copy(update={"unsaid": (*counted, *found.unsaid)})


def _unit(group: sqlite3.Row) -> Unit | None:
    number: int = group["number"]
    return _UNITS[number // len(_DRAFTS)]


def _drafts(group: sqlite3.Row, unit: Unit) -> Lever:
    lever = _DRAFTS[group["number"] % len(_DRAFTS)]
    return Lever(lever=lever, unit=unit, tasks=group["tasks"], low=group["low"], high=group["high"])


def _beside(lever: LeverName, groups: Sequence[sqlite3.Row], column: str, sign: int) -> list[Lever]:
    """A cause that is in none of the drafts' own figures, where there is any of it."""
    tasks = sum(group[f"{column}_tasks"] for group in groups)
    amount = sign * sum(group[column] for group in groups)
    return [Lever(lever=lever, unit="nanousd", tasks=tasks, low=amount, high=amount)] if tasks else []


def _handovers(groups: Sequence[sqlite3.Row], price: Price) -> list[Lever]:
    """What the caller paid to ask and to read the answers, each far below where a long context costs more."""
    tasks, read, wrote = (sum(group[name] for group in groups) for name in ("handed_tasks", "read", "wrote"))
    paid = cost(
        price.model_copy(update={"above": None}), Usage(input=read, cached_input=0, cache_write=0, output=wrote)
    )
    return [Lever(lever="handovers", unit="nanousd", tasks=tasks, low=-paid, high=-paid)] if tasks and paid else []


def _unsaid(conn: sqlite3.Connection, since: str, groups: Sequence[sqlite3.Row]) -> tuple[Unsaid, ...]:
    skills = conn.execute(_SKILLS, {"since": since}).fetchone()
    unsaid = [group for group in groups if _unit(group) is None]
    called, unpriced, cost = (
        sum(group[name] for group in unsaid) - skills[name] for name in ("called", "unpriced", "cost")
    )
    counts: tuple[tuple[IdleName, int, int | None], ...] = (
        ("skipped", sum(group["skipped"] for group in groups), 0),
        ("no_baseline", called, None if unpriced else cost),
    )
    return tuple(Unsaid(what=what, count=count, cost_nanousd=cost) for what, count, cost in counts if count)


def _net(levers: Sequence[Lever], unit: Unit) -> tuple[int, int] | None:
    of_unit = [lever for lever in levers if lever.unit == unit]
    return (sum(lever.low for lever in of_unit), sum(lever.high for lever in of_unit)) if of_unit else None
