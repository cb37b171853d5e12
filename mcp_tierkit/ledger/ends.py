"""What became of tasks, each counted once."""

from __future__ import annotations

import sqlite3
from typing import Literal, get_args

from mcp_tierkit.ledger.report import REAL_RUN
from mcp_tierkit.types import Record

NEWEST = 10_000
End = Literal["kept", "reverted", "lost", "stopped", "reviewed", "skipped", "open"]


class Ends(Record):
    """How many of the newest `of` tasks came to which end.

    Kept: handed over by a draft or a playbook, or accepted; a command that failed and says so is handed over as well.
    Reverted: taken back. Lost: a draft or a playbook ended without a result. Stopped: a budget or the breaker did not
    let the first call be made. Reviewed: only that. Skipped: no model was asked. Open: planned, or not over yet.
    """

    of: int
    kept: int
    reverted: int
    lost: int
    stopped: int
    reviewed: int
    skipped: int
    open: int


def _has(table: str, which: str) -> str:
    return f"exists (select 1 from {table} where {table}.task_id = t.task_id and {which})"


# A command that failed and says so, as tests do, has given what it was run for.
_ANSWERED = "(status = 'ok' or (status = 'failed' and json_type(record, '$.output') = 'object'))"
_LAST_WORD = "(select outcome from scores where scores.task_id = t.task_id order by score_id desc limit 1)"
_QUERY = f"""select case
            when is_reverted then 'reverted'
            when {_has("drafts", "status in ('applied', 'ready')")} then 'kept'
            when {_has("playbook_runs", f"{_ANSWERED} and {REAL_RUN}")} then 'kept'
            when {_LAST_WORD} in ('accepted', 'edited') then 'kept'
            when calls = 0 and {_has("drafts", "status = 'over_budget'")} then 'stopped'
            when {_has("drafts", "true")} or {_has("playbook_runs", REAL_RUN)} then 'lost'
            when {_has("reviews", "true")} then 'reviewed'
            when is_skipped and calls = 0 then 'skipped'
            else 'open' end as end, count(*) as tasks
        from (select number, task_sums.* from (select rowid as number, task_id from tasks where +created_at >= :since
            order by rowid desc limit :newest) join task_sums using (task_id)) as t group by 1"""


def ends(conn: sqlite3.Connection, *, since: str = "") -> Ends:
    """What became of the newest tasks opened from the UTC day `since` on."""
    found = {row["end"]: row["tasks"] for row in conn.execute(_QUERY, {"since": since, "newest": NEWEST})}
    return Ends(of=sum(found.values()), **{end: found.get(end, 0) for end in get_args(End)})
