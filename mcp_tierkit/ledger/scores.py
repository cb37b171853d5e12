"""Tasks as a scorecard sees them: what the ledger knows of each, in a handful of queries for all of them."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, get_args

from mcp_tierkit.ledger.money import SPEND, WEIGHED, spend_of, weighed_of
from mcp_tierkit.ledger.opening import connect, explained, ledger_path, transaction
from mcp_tierkit.ledger.rows import decide, require_task
from mcp_tierkit.receipts import Weighed
from mcp_tierkit.scorecard import HANDED_OVER, Baseline, Facts, LineCount, Pattern, Scorecard, patterns, score
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import GIVEN, DraftStatus, FindingClass, Record, Spend

OF = "task_id in (select value from json_each(?))"
GOALS = "select task_id, created_at, project, json_extract(record, '$.goal') as goal from tasks"
REVIEWS = "select task_id, at, verdict, json_extract(record, '$.model') as model from reviews"
COUNTED = "lines_counted"
"""A decision that keeps how a change's lines came out, once its seven days are over."""
IS_GIVEN = f"status in {GIVEN}"
TOLD = ("outcome", "defects", "cleanup_minutes")
"""What people tell of a change. Not its lines: they were counted that day, and its seven days may not be over."""
WRITES = ("draft", "repair", "climb")
"""Calls that write a change, the first time or again; one that goes on after a cut is part of the call before."""

Rows = Sequence[sqlite3.Row]


class Given(Record):
    """When a task's change was last handed over, and its patch. No such draft: None."""

    at: datetime
    patch: str | None
    is_applied: bool


def scorecards(
    conn: sqlite3.Connection, since: str = "", *, limit: int = 200, project: str | None = None,
    minute_nanousd: int | None = None,
) -> tuple[Scorecard, ...]:  # fmt: skip
    """The newest tasks in which a draft was made or a playbook ran, newest first, with their five columns and scores.

    `since` is an ISO date or time in UTC, `project` a real path. `minute_nanousd` prices a minute of cleaning up.
    """
    query = """select task_id from tasks where created_at >= ? and (? is null or project = ?)
        and (exists (select 1 from drafts where drafts.task_id = tasks.task_id)
            or exists (select 1 from playbook_runs where playbook_runs.task_id = tasks.task_id))
        order by created_at desc, rowid desc limit ?"""
    ids = [row[0] for row in conn.execute(query, (since, project, project, limit))]
    return tuple(score(facts, minute_nanousd=minute_nanousd) for facts in _facts(conn, ids))


def facts_of(conn: sqlite3.Connection, task_id: str) -> Facts:
    """Raises NotFound."""
    require_task(conn, task_id)
    return next(_facts(conn, [task_id]))


def handed_over(conn: sqlite3.Connection, task_id: str) -> Given | None:
    """The task's newest draft that was applied or left ready to be."""
    query = f"""select at, status, json_extract(record, '$.patch') as patch from drafts
        where task_id = ? and {IS_GIVEN} order by draft_id desc limit 1"""
    row = conn.execute(query, (task_id,)).fetchone()
    if row is None:
        return None
    return Given(at=datetime.fromisoformat(row["at"]), patch=row["patch"], is_applied=row["status"] == "applied")


def counted(conn: sqlite3.Connection, task_id: str) -> LineCount | None:
    """How the lines of the task's change came out after seven days; None where nobody has counted them then.

    What was counted of an earlier change of the same task is none.
    """
    return _counted(conn, [task_id]).get(task_id)


def uncounted(conn: sqlite3.Connection, ids: Sequence[str], *, until: datetime) -> tuple[str, ...]:
    """Those of the tasks whose change was handed over by `until` and whose lines nobody has counted since."""
    query = f"""select task_id from drafts where {OF} and {IS_GIVEN} group by task_id having max(at) <= ?"""
    due = [row[0] for row in conn.execute(query, (json.dumps(list(ids)), until.isoformat(timespec="milliseconds")))]
    known = _counted(conn, due)
    return tuple(task_id for task_id in due if task_id not in known)


def keep_count(url: str, task_id: str, lines: LineCount, *, at: datetime) -> None:
    """Write down how a change's lines came out. The change is older than that: a later one makes it void."""
    path = ledger_path(url)
    with explained(path), closing(connect(path)) as conn, transaction(conn):
        decide(conn, task_id, at.isoformat(timespec="milliseconds"), COUNTED, lines.model_dump_json())


def _counted(conn: sqlite3.Connection, ids: Sequence[str]) -> dict[str, LineCount]:
    # The plus leaves the index of kinds alone: every task has one of these, and few tasks are asked for.
    query = f"""select task_id, detail from decisions where {OF} and +kind = ?
        and at > (select max(at) from drafts where drafts.task_id = decisions.task_id and {IS_GIVEN})
        order by decision_id"""
    found = conn.execute(query, (json.dumps(list(ids)), COUNTED))
    return {row["task_id"]: LineCount.model_validate_json(row["detail"]) for row in found}


def repeated_findings(conn: sqlite3.Connection, *, project: str | None = None, since: str = "") -> tuple[Pattern, ...]:
    """The classes of finding that came too often in the newest tasks from `since` on that were reviewed."""
    query = """select distinct task_id, klass, file, line from findings where task_id in (
            select task_id from reviews join tasks using (task_id)
            where created_at >= ? and (? is null or project = ?)
            group by task_id order by max(review_id) desc limit ?)"""
    found = conn.execute(query, (since, project, project, packaged("scorecard")["pattern"]["tasks"]))
    return patterns((row["task_id"], row["klass"]) for row in found if row["klass"] in get_args(FindingClass))


def _facts(conn: sqlite3.Connection, ids: Sequence[str]) -> Iterator[Facts]:
    """The facts of these tasks, in their order."""
    tasks = _by_task(conn, GOALS, ids)
    spends = _by_task(conn, f"select task_id, {SPEND} from calls", ids, "group by task_id")
    calls = _by_task(conn, "select task_id, at, ended_at, stage, status from calls", ids, "order by at")
    drafts = _by_task(conn, "select task_id, at, status from drafts", ids, "order by draft_id")
    reviews = _by_task(conn, REVIEWS, ids, "order by review_id")
    findings = _by_task(conn, "select task_id, review_id, klass, file from findings", ids)
    runs = _by_task(conn, "select task_id, status, ms from playbook_runs", ids, "order by run_id")
    scores = _by_task(conn, f"select task_id, at, {', '.join(TOLD)} from scores", ids, "order by score_id")
    lines = _counted(conn, ids)
    sums = _by_task(conn, f"select task_id, {WEIGHED} from task_sums", ids)
    for task_id in ids:
        [task] = tasks[task_id]
        spend = spend_of(spends[task_id][0]) if spends[task_id] else Spend()
        ended = [row["at"] for row in (*drafts[task_id], *reviews[task_id])]
        yield Facts(
            task_id=task_id, goal=task["goal"], project=task["project"], created_at=task["created_at"],
            draft_status=_status(drafts[task_id]),
            playbook_status=runs[task_id][-1]["status"] if runs[task_id] else None,
            calls=spend.calls, cost_nanousd=None if spend.unpriced_calls else spend.cost_nanousd,
            baseline=_baseline(weighed_of(sums[task_id][0]), spend),
            wall_s=_wall_s(calls[task_id], sorted(ended), runs[task_id]),
            rewrites=_rewrites(calls[task_id], runs[task_id]),
            **_reviewed(reviews[task_id], findings[task_id]), **_told(scores[task_id], drafts[task_id]),
            **(lines[task_id].as_facts() if task_id in lines else {}),
        )  # fmt: skip


def _by_task(conn: sqlite3.Connection, query: str, ids: Sequence[str], order: str = "") -> Mapping[str, Rows]:
    found = defaultdict[str, list[sqlite3.Row]](list)
    for row in conn.execute(f"{query} where {OF} {order}", (json.dumps(list(ids)),)):
        found[row["task_id"]].append(row)
    return found


def _status(drafts: Rows) -> DraftStatus | None:
    """The draft that was handed over, else the last one: a second that failed takes nothing away from the first."""
    told: list[DraftStatus] = [row["status"] for row in drafts]
    return next((status for status in reversed(told) if status in HANDED_OVER), told[-1] if told else None)


def _rewrites(calls: Rows, runs: Rows) -> int | None:
    written = sum(row["stage"] in WRITES and row["status"] == "settled" for row in calls)
    return max(written - 1, 0) if written or runs else None


def _wall_s(calls: Rows, ended: Sequence[str], runs: Rows) -> float | None:
    """Seconds of work, without the time in which the caller did something else between a plan, a draft and a review.

    A round goes from its first call to the record that ends it; calls that no record follows, to the end of the last.
    """
    rounds = defaultdict[str, list[str]](list)
    for row in calls:
        end = next((at for at in ended if at > row["at"]), None)
        rounds[end or ""] += [row["at"], *([row["ended_at"]] if end is None and row["ended_at"] else [])]
    spans = [(min(times), end or max(times)) for end, times in rounds.items()]
    if not spans and not runs:
        return None
    # A skill's calls end without a draft or a review: its run's own time would count them twice.
    own = 0 if calls else sum(row["ms"] for row in runs) / 1000
    return own + sum((datetime.fromisoformat(end) - datetime.fromisoformat(begun)).total_seconds()
                     for begun, end in spans)  # fmt: skip


def _reviewed(reviews: Rows, findings: Rows) -> dict[str, Any]:
    """What the reviews said. One that named no fault and gave no reasons has told nothing."""
    by_model = [row["verdict"] for row in reviews if row["model"] is not None]
    useful = [row for row in reviews if row["verdict"] != "uninformative"]
    rounds = {(row["review_id"], row["klass"], row["file"]) for row in findings}
    return {
        "comments": len(findings) if useful else None,
        "repeated_comments": len(rounds) - len({one[1:] for one in rounds}) if useful else None,
        "is_uninformative": bool(by_model) and by_model[-1] == "uninformative",
    }


def _told(scores: Rows, drafts: Rows) -> dict[str, Any]:
    """What was recorded of it: of each figure the newest, since defects are often told later than minutes.

    An outcome that was told before the change was handed over again is that of another change.
    """
    since = max((row["at"] for row in drafts if row["status"] in HANDED_OVER), default="")
    told = {name: row[name] for row in scores for name in TOLD if row[name] is not None}
    return told | ({} if not scores or scores[-1]["at"] >= since else {"outcome": None})


def _baseline(found: Weighed | None, spend: Spend) -> Baseline | None:
    """The estimate of the task's newest receipt that has one, beside all that was spent until now."""
    net = None if found is None else found.net(spend)
    if found is None or net is None:
        return None
    return Baseline(**found.model_dump(include={"unit", "alone_low", "alone_high"}), ours=found.alone_low - net[0])
