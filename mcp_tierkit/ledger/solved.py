"""What the ledger knows of work that was done before: the tasks that a draft solved."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from mcp_tierkit.repeats import Solved


def solved_tasks(
    conn: sqlite3.Connection, *, repository: str | None = None, since: str = "", gone: Collection[str] = ()
) -> tuple[tuple[Solved, ...], int]:
    """The tasks whose last draft was applied and not taken back, newest first; and how many tasks there were at all.

    The changes of the tasks in `gone` are no longer in the files, so that these are not solved.
    `repository` as the ledger counts budgets, None for every one. `since` is an ISO date or time in UTC.
    """
    values = {"repository": repository, "since": since}
    asked = "created_at >= :since and (:repository is null or budget_key = :repository)"
    query = f"""select task_id, created_at, calls, cost_nanousd, unpriced_calls,
            {", ".join(f"json_extract(tasks.record, '$.{name}') as {name}" for name in ("goal", "files", "checks"))}
        from tasks join task_sums using (task_id)
            join (select task_id, max(draft_id) as draft_id from drafts group by task_id) using (task_id)
            join drafts using (draft_id, task_id)
        where {asked} and drafts.status = 'applied' and not is_reverted
        order by created_at desc, tasks.rowid desc"""
    found = tuple(_solved(row) for row in conn.execute(query, values) if row["task_id"] not in gone)
    looked_at = conn.execute(f"select count(*) from tasks where {asked}", values).fetchone()[0]
    return found, int(looked_at)


def _solved(row: sqlite3.Row) -> Solved:
    return Solved(
        task_id=row["task_id"],
        at=row["created_at"],
        goal=row["goal"],
        files=tuple(_listed(row["files"])),
        checks=tuple(tuple(check["argv"]) for check in _listed(row["checks"])),
        calls=row["calls"],
        cost_nanousd=row["cost_nanousd"] if row["calls"] and not row["unpriced_calls"] else None,
    )


def _listed(text: str | None) -> list[Any]:
    return list(json.loads(text)) if text else []
