"""What became of tasks, each counted once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime
from typing import Literal, get_args

from mcp_tierkit.ledger.report import REAL_RUN
from mcp_tierkit.types import Record

NEWEST = 10_000
End = Literal["kept", "failed", "gone", "reverted", "lost", "stopped", "reviewed", "skipped", "open"]


class Ends(Record):
    """How many of the newest `of` tasks came to which end.

    Kept: handed over by a draft or a playbook, or accepted. Failed: a playbook's command failed and says with what,
    as tests do, which is no result to keep and none that is missing. Gone: applied, but no longer in the files.
    Reverted: taken back. Lost: a draft or a playbook ended without a result. Stopped: a budget or the breaker did not
    let the first call be made. Reviewed: only that. Skipped: no model was asked. Open: planned, or not over yet.
    """

    of: int
    kept: int
    failed: int = 0
    gone: int = 0
    reverted: int
    lost: int
    stopped: int
    reviewed: int
    skipped: int
    open: int


def _has(table: str, which: str) -> str:
    return f"exists (select 1 from {table} where {table}.task_id = t.task_id and {which})"


_SAYS_HOW = "status = 'failed' and json_type(record, '$.output') = 'object'"
_LAST_WORD = "(select outcome from scores where scores.task_id = t.task_id order by score_id desc limit 1)"
_QUERY = f"""select case
            when is_reverted then 'reverted'
            when task_id in (select value from json_each(:gone)) then 'gone'
            when {_has("drafts", "status in ('applied', 'ready')")} then 'kept'
            when {_has("playbook_runs", f"status = 'ok' and {REAL_RUN}")} then 'kept'
            when {_LAST_WORD} in ('accepted', 'edited') then 'kept'
            when {_has("playbook_runs", f"{_SAYS_HOW} and {REAL_RUN}")} then 'failed'
            when calls = 0 and {_has("drafts", "status = 'over_budget'")} then 'stopped'
            when {_has("drafts", "true")} or {_has("playbook_runs", REAL_RUN)} then 'lost'
            when {_has("reviews", "true")} then 'reviewed'
            when is_skipped and calls = 0 then 'skipped'
            else 'open' end as end, count(*) as tasks
        from (select number, task_sums.* from (select rowid as number, task_id from tasks where +created_at >= :since
            order by rowid desc limit :newest) join task_sums using (task_id)) as t group by 1"""


_LAST = "(select max(at) from {} where {}.task_id = t.task_id and status = '{}')"
_APPLIED = f"""select task_id, project, changed_at as at from (
            select *, max(coalesce({_LAST.format("drafts", "drafts", "applied")}, ''),
                coalesce({_LAST.format("playbook_runs", "playbook_runs", "ok")}, '')) as changed_at
            from (select rowid as number, task_id, project from tasks
                where +created_at >= :since and (:repository is null or budget_key = :repository)
                order by rowid desc limit :newest) as t)
        join task_sums using (task_id, project) where changed_at <> '' and not is_reverted
        order by number desc limit :most"""


class Applied(Record):
    """A change that a draft or a playbook made, and that nobody has said was taken back."""

    task_id: str
    project: str
    at: datetime


class Standing(Record):
    """Which of the newest applied changes are `gone`: no longer in the files. Of more, where it is known in part."""

    gone: frozenset[str] = frozenset()
    looked_at: int = 0
    is_in_part: bool = False


def applied(
    conn: sqlite3.Connection, *, since: str = "", repository: str | None = None, most: int = NEWEST
) -> tuple[Applied, ...]:
    """The newest applied changes of the newest tasks, the newest first."""
    asked = {"since": since, "repository": repository, "newest": NEWEST, "most": most}
    return tuple(Applied(**dict(row)) for row in conn.execute(_APPLIED, asked))


def ends(conn: sqlite3.Connection, *, since: str = "", gone: Collection[str] = ()) -> Ends:
    """What became of the newest tasks opened from the UTC day `since` on.

    The changes of the tasks in `gone` are no longer in the files.
    """
    asked = {"since": since, "newest": NEWEST, "gone": json.dumps(sorted(gone))}
    found = {row["end"]: row["tasks"] for row in conn.execute(_QUERY, asked)}
    return Ends(of=sum(found.values()), **{end: found.get(end, 0) for end in get_args(End)})
