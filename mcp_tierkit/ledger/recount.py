"""Sums kept anew, and what those of older versions did not tell apart."""

from __future__ import annotations

from mcp_tierkit.ledger.billing import KEPT_BY
from mcp_tierkit.ledger.sums import ALL_COUNTS, ALL_OF_TASK, COUNTS, count_call


def counted_anew(of_task: dict[str, str], counts: dict[str, str] = COUNTS) -> tuple[str, ...]:
    """The triggers that sum up calls, in the place of those that did so before."""
    added, taken = (count_call(row, sign, KEPT_BY, of_task, counts) for row, sign in (("new", "+"), ("old", "-")))
    return (
        *(f"drop trigger sums_{change}" for change in ("added", "changed", "removed")),
        f"create trigger sums_added after insert on calls begin {added} end",
        f"create trigger sums_changed after update on calls begin {taken} {added} end",
        f"create trigger sums_removed after delete on calls begin {taken} end",
    )


_ALONE_TOKENS = tuple(
    f"alter table task_sums add column {name} integer"
    for name in ("alone_in_low", "alone_in_high", "alone_out_low", "alone_out_high", "schema_tokens")
)
_GIVEN = "status in ('applied', 'ready')"
_STANDING = (
    # What was taken back stands again once it is drafted anew.
    f"""create trigger task_sums_drafted after insert on drafts when new.{_GIVEN} begin
        update task_sums set is_reverted = 0 where task_id = new.task_id; end""",
    f"""update task_sums set is_reverted = 0 where is_reverted
        and (select max(at) from drafts where drafts.task_id = task_sums.task_id and {_GIVEN})
            > (select max(at) from scores where scores.task_id = task_sums.task_id)""",
)
_KEYS = ", ".join(f"{expression.format(row='calls')} as {name}" for name, expression in KEPT_BY.items())
_UNKNOWN = (
    "alter table call_sums add column unbounded_calls integer not null default 0",
    "alter table task_sums add column quota_calls integer not null default 0",
    *counted_anew(ALL_OF_TASK, ALL_COUNTS),
    f"""update call_sums set unbounded_calls = found.calls from (
            select {_KEYS}, count(*) as calls from calls indexed by calls_unpriced join tasks using (task_id)
            where reserved_nanousd is null and cost_nanousd is null
            group by {", ".join(str(at + 1) for at in range(len(KEPT_BY)))}
        ) as found where {" and ".join(f"call_sums.{name} = found.{name}" for name in KEPT_BY)}""",
    f"""update task_sums set quota_calls = found.calls from (
            select task_id as owner, sum({ALL_OF_TASK["quota_calls"].format(row="calls")}) as calls
            from calls where billing = 'subscription' group by task_id) as found where task_id = owner""",
)
APART = (*_ALONE_TOKENS, *_STANDING, *_UNKNOWN)
"""What the newest step runs: the columns of m0011, their triggers, and the figures of the rows that are there."""
