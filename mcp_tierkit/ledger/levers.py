"""What was saved, and by what: every known dollar spent belongs to one lever. Unknown is None, a loss is negative."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from mcp_tierkit.ledger.report import PlaybookTotal
from mcp_tierkit.prices import Price, cost
from mcp_tierkit.receipts import caller_cost, handover_cost
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

    `cost_nanousd` is None where not all of it is known. The calls of a subscription are no dollars, known or unknown.
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
    priced_now_tasks: int = Field(
        default=0, description="Of these, drafted before the caller's price was known, and priced by that of now."
    )
    net_nanousd: tuple[int, int] | None
    net_tokens: tuple[int, int] | None
    cost_nanousd: int = 0
    caller_tokens: Tokens = Field(default=0, description="Through the caller, of tasks without a net: in no figure.")
    cache_elsewhere_nanousd: int


# A draft that was taken back, or thrown away, has saved nothing, but has cost all the same. Where the cost of a call is
# unknown, so is the net. A subscription's is in tokens of the caller's, and what we paid in dollars is no part of it.
# A group is one number, since rows are sorted by it: 4 for each unit, unknown last, and 1 for each kind of draft.
_NEVER = 2**62
_UNITS: tuple[Unit | None, ...] = ("nanousd", "tokens", None)
_DRAFTS: tuple[LeverName, ...] = ("cheap_drafts", "dearer_drafts", "lost_drafts", "unasked")
_ROWS = """select *, iif(paid is null or (counted_in = 'usd' and unpriced_calls > 0), 8, iif(counted_in = 'usd', 0, 4))
            + iif(is_done, dearer_drafts > 0, iif(calls > 0, 2, 3)) as number,
        iif(is_done, own_low, 0) - paid as low, iif(is_done, own_high, 0) - paid as high
    from (select *, is_kept and not is_reverted and task_id not in (select value from json_each(:gone)) as is_done,
            told.key is not null as is_measured,
            iif(told.key is not null, json_extract(told.value, '$.' || counted_in),
                case when unit is not null then passed when counted_in = 'usd' then 0
                    when counted_in = 'tokens' then caller_read + caller_wrote + schema_tokens end)
                + iif(counted_in = 'usd', cost_nanousd - review_nanousd + cache_nanousd, 0) as paid,
            case when unit is not null then alone_low when counted_in = 'tokens' then alone_in_low + alone_out_low
                else 0 end as own_low,
            case when unit is not null then alone_high when counted_in = 'tokens' then alone_in_high + alone_out_high
                else 0 end as own_high
        from (select *, coalesce(unit, iif(alone_in_low is null, null, :unit_now)) as counted_in from task_sums
                where at >= :since)
            left join (select key, value from json_each(:measured)) as told on told.key = task_id)"""
_GROUPS = f"""select number, count(*) as tasks, sum(low) as low, sum(high) as high,
        sum(calls > 0) as called, sum(is_skipped and calls = 0) as skipped, sum(is_measured) as measured,
        sum(cache_nanousd) as cached, sum(cache_nanousd <> 0) as cached_tasks,
        sum(review_nanousd) as reviewed, sum(review_nanousd > 0) as reviewed_tasks,
        sum(cost_nanousd - review_nanousd) as other, sum(cost_nanousd > review_nanousd) as other_tasks,
        sum(cost_nanousd) as cost, sum(unpriced_calls - quota_calls) as unpriced, sum(unit is null) as now_tasks,
        sum(caller_read) as read, sum(caller_wrote) as wrote, sum(caller_read + caller_wrote > 0) as handed_tasks
    from ({_ROWS}) group by number order by number"""
# Of tasks that are priced now, in dollars: their tokens, those of work apart that a long context makes dearer.
_WORK = {
    f"{length}_{side}_{end}": f"sum(iif(is_done and alone_in_{end} {sign} :above, alone_{side}_{end}, 0))"
    for end in ("low", "high")
    for side in ("in", "out")
    for length, sign in (("short", "<="), ("long", ">"))
}
_PASSED = {
    name: f"sum(iif(is_measured, 0, {column}))"
    for name, column in (("read", "caller_read"), ("wrote", "caller_wrote"), ("schemas", "schema_tokens"))
}
_NOW = f"""select number, {", ".join(f"{told} as {name}" for name, told in (_WORK | _PASSED).items())}
    from ({_ROWS} where unit is null and counted_in = 'usd') group by number"""
# A playbook that asks a model is listed as one, and not again among the tasks without a baseline.
_SKILLS = """select count(*) as called, coalesce(sum(cost_nanousd), 0) as cost,
        coalesce(sum(unpriced_calls - quota_calls), 0) as unpriced
    from task_sums as sums where at >= :since and unit is null and calls > 0
        and task_id in (select task_id from playbook_runs where kind = 'skill' and at >= :since)
        and not exists (select 1 from drafts where drafts.task_id = sums.task_id)"""
_WITH_NET = "select task_id from task_sums where at >= ? and coalesce(unit, alone_in_low) is not null"


class Measured(Record):
    """What passed through the caller for one task, as its transcript counted it. None is unknown."""

    usd: int | None = Field(description="Nanodollars.")
    tokens: int


def with_net(conn: sqlite3.Connection, since: str) -> tuple[str, ...]:
    """The tasks opened from `since` on whose receipt names a net, or would by a price of the caller's."""
    return tuple(row[0] for row in conn.execute(_WITH_NET, (since,)))


def savings(
    conn: sqlite3.Connection, *, since: str = "", measured: Mapping[str, Measured] | None = None,
    caller_price: Price | None = None, is_quota_caller: bool = False, gone: Collection[str] = (),
) -> Savings:  # fmt: skip
    """What the tasks opened from `since` on saved, lever by lever.

    Where the caller's own side of a task was `measured`, that takes the place of what its receipt estimates. A receipt
    that names a net stands as it was reckoned. At the `caller_price` of now is charged what passed through the caller
    for tasks without one, and priced the work alone of those that were drafted while its price was not known; for a
    caller on a subscription (`is_quota_caller`) these are tokens. A change that is `gone` from the files has saved
    nothing.
    """
    told = json.dumps({task_id: one.model_dump() for task_id, one in (measured or {}).items()})
    above = caller_price.above.tokens if caller_price and caller_price.above else _NEVER
    unit_now = _unit_now(caller_price, is_quota_caller)
    asked = {"since": since, "measured": told, "above": above, "unit_now": unit_now, "gone": json.dumps(sorted(gone))}
    groups = conn.execute(_GROUPS, asked).fetchall()
    added = _net_now(conn.execute(_NOW, asked), caller_price) if unit_now == "usd" and caller_price else {}
    levers = [_drafts(group, unit, added) for group in groups if (unit := _unit(group))]
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
        priced_now_tasks=sum(group["now_tasks"] for group in groups if _unit(group)),
        net_nanousd=_net([*levers, *handed], "nanousd"),
        net_tokens=_net(levers, "tokens"),
        cost_nanousd=sum(group["cost"] for group in groups),
        caller_tokens=0 if handed else sum(group["read"] + group["wrote"] for group in untold),
        cache_elsewhere_nanousd=sum(group["cached"] for group in elsewhere),
    )


def with_playbooks(found: Savings, runs: Sequence[PlaybookTotal]) -> Savings:
    """The same, with the runs that ended well among what no receipt speaks of."""
    ok = sum(total.ok for total in runs)
    costs = [0 if total.quota_runs == total.runs else total.cost_nanousd for total in runs]
    cost = None if None in costs else sum(one or 0 for one in costs)
    counted = (Unsaid(what="playbooks", count=ok, cost_nanousd=cost),) if ok else ()
    return found.model_copy(update={"unsaid": (*counted, *found.unsaid)})


def _unit(group: sqlite3.Row) -> Unit | None:
    number: int = group["number"]
    return _UNITS[number // len(_DRAFTS)]


def _unit_now(price: Price | None, is_quota: bool) -> str | None:
    return "tokens" if is_quota else "usd" if price else None


def _drafts(group: sqlite3.Row, unit: Unit, added: Mapping[int, tuple[int, int]]) -> Lever:
    low, high = added.get(group["number"], (0, 0))
    lever = _DRAFTS[group["number"] % len(_DRAFTS)]
    return Lever(lever=lever, unit=unit, tasks=group["tasks"], low=group["low"] + low, high=group["high"] + high)


def _net_now(groups: Iterable[sqlite3.Row], price: Price) -> dict[int, tuple[int, int]]:
    """By group, of the tasks priced now: the work alone less what passed through the caller, each handover short."""
    short, found = price.model_copy(update={"above": None}), {}
    for group in groups:
        passed = handover_cost(short, arguments=group["wrote"], reply=group["read"], schemas=group["schemas"])
        low, high = (
            sum(
                caller_cost(one, read=group[f"{length}_in_{end}"], written=group[f"{length}_out_{end}"]) or 0
                for one, length in ((short, "short"), (price, "long"))
            )
            for end in ("low", "high")
        )
        found[group["number"]] = (low - passed, high - passed)
    return found


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
