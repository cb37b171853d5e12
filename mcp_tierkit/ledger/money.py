"""What calls have cost: integer nanodollars, summed in SQL."""

from __future__ import annotations

import sqlite3

from mcp_tierkit.amounts import exact
from mcp_tierkit.ledger.migrations import UNPRICED
from mcp_tierkit.receipts import Weighed
from mcp_tierkit.types import Spend

SPEND = f"""count(call_id) as calls, coalesce(sum(cost_nanousd), 0) as cost_nanousd,
    count(case when {UNPRICED} then call_id end) as unpriced_calls,
    coalesce(sum(case when {UNPRICED} then reserved_nanousd end), 0) as unknown_nanousd,
    coalesce(sum(coalesce(input_tokens, 0) + coalesce(cached_tokens, 0) + coalesce(cache_write_tokens, 0)), 0)
        as input_tokens,
    coalesce(sum(cached_tokens), 0) as cached_tokens, coalesce(sum(output_tokens), 0) as output_tokens"""
"""The columns of a Spend over rows of `calls`."""


def spend_of(row: sqlite3.Row) -> Spend:
    return Spend(**{name: row[name] for name in Spend.model_fields})


WEIGHED = "unit, alone_low, alone_high, passed, is_kept as is_spared"
"""The columns of a Weighed in a row of `task_sums`; `unit` is null where no receipt of the task names a net."""


def weighed_of(row: sqlite3.Row) -> Weighed | None:
    """None where no receipt names a net. Of one that an older version gave it is what its four decimal places told."""
    if row["unit"] is None:
        return None
    # Read back from rounded figures, what passed through the caller may have come out below nothing.
    return Weighed(**{name: row[name] for name in Weighed.model_fields} | {"passed": max(row["passed"], 0)})


def weighed(conn: sqlite3.Connection, task_id: str) -> tuple[Weighed | None, Spend]:
    """What the task's newest receipt that names a net is made of, None where there is none, and what is spent by now.

    Of a task that nobody opened both are empty.
    """
    row = conn.execute(f"select {WEIGHED} from task_sums where task_id = ?", (task_id,)).fetchone()
    spend = spend_of(conn.execute(f"select {SPEND} from calls where task_id = ?", (task_id,)).fetchone())
    return None if row is None else weighed_of(row), spend


def dollars(nanousd: int) -> str:
    """Exact US dollars as a decimal string with two places or more: 3_100_000 is `0.0031`."""
    return exact(nanousd, 2)


def committed(conn: sqlite3.Connection, budget: str, key: str) -> int:
    """Nanodollars that count against a budget: settled costs, and the worst case of all that is not settled."""
    if budget == "call":
        return 0
    if budget == "task":
        query = "select sum(coalesce(cost_nanousd, reserved_nanousd)) from calls where task_id = ?"
        return conn.execute(query, (key,)).fetchone()[0] or 0
    found = conn.execute("select nanousd from budget_spend where budget = ? and key = ?", (budget, key)).fetchone()
    return found[0] if found else 0
