"""Work that was handed to us again and again, out of the ledger. Calls no model, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from mcp_tierkit.audit.advice import Reach
from mcp_tierkit.audit.groups import Handed, handed_groups
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.solved import solved_tasks


def handed(ledger_url: str, *, since: str, today: date, wanted: Callable[[str], bool], reach: Reach) -> list[Handed]:
    """Groups of solved tasks from the UTC day `since` on, in the `wanted` projects. `reach` is where what
    to type would be typed.

    Raises LedgerError where the file is no ledger of this version.
    """
    with reading(ledger_url) as conn:
        tasks, _ = solved_tasks(conn, since=since)
        projects = dict(conn.execute("select task_id, project from tasks where created_at >= ?", (since,)).fetchall())
    return handed_groups([task for task in tasks if wanted(projects[task.task_id])], today, projects, reach)
