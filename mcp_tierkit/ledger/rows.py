"""Rows in and records out. Every text that enters the ledger passes `insert` or `update`, and so the redactor."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from typing import Any, TypeVar

from mcp_tierkit.errors import NotFound
from mcp_tierkit.types import Call, Draft, Handoff, PlaybookRun, Record, Request, Review, Route, Score, Task

R = TypeVar("R", bound=Record)
Value = str | int | float | Record | tuple[Record, ...] | None

# Ours, or from closed sets: a redactor that touched one of these would break a reference.
_EXACT = {
    "at", "ended_at", "created_at", "state", "status", "stage", "tier", "lock", "project", "budget_key", "kind",
    "billing",
}  # fmt: skip


def insert(conn: sqlite3.Connection, table: str, row: Mapping[str, Value]) -> int:
    """The rowid of a new row."""
    names = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    return conn.execute(f"insert into {table} ({names}) values ({marks})", _clean(row)).lastrowid or 0


def update(conn: sqlite3.Connection, table: str, row: Mapping[str, Value], where: str, **keys: str) -> int:
    """How many rows were changed. `where` uses the names of `keys`, which are no columns of `row`."""
    names = ", ".join(f"{name} = :{name}" for name in row)
    return conn.execute(f"update {table} set {names} where {where}", {**_clean(row), **keys}).rowcount


def save(conn: sqlite3.Connection, record: Handoff | Draft | Review | PlaybookRun | Score, at: str) -> None:
    """Append a record of a task, with what people query in columns of their own."""
    require_task(conn, record.task_id)
    row: dict[str, Value] = {"task_id": record.task_id, "at": at, "record": record}
    if isinstance(record, Handoff):
        insert(conn, "handoffs", row)
    elif isinstance(record, Draft):
        _save_draft(conn, record, row)
    elif isinstance(record, Review):
        _save_review(conn, record, row)
    elif isinstance(record, PlaybookRun):
        names = ("playbook", "version", "digest", "status", "ms", "kind", "tokens", "cost_nanousd")
        insert(conn, "playbook_runs", row | _columns(record, *names))
    else:
        insert(conn, "scores", row | _columns(record, "outcome", "cleanup_minutes", "defects"))


def _save_draft(conn: sqlite3.Connection, draft: Draft, row: dict[str, Value]) -> None:
    draft_id = insert(conn, "drafts", row | {"status": draft.status, "isolation": draft.isolation})
    for check in draft.checks:
        outcomes: dict[str, Value] = {"outcome_before": check.before, "outcome_after": check.after}
        of: dict[str, Value] = {"draft_id": draft_id, "task_id": draft.task_id}
        insert(conn, "checks", of | outcomes | _columns(check, "name", "role"))

    if draft.status == "applied":
        _save_proven(conn, draft, draft_id)


def _save_proven(conn: sqlite3.Connection, draft: Draft, draft_id: int) -> None:
    """Note which of the task's checks were green on a change that was applied."""
    [task] = load(conn, "tasks", Task, draft.task_id)
    green = {result.name for result in draft.checks if result.after == "green"}
    for check in task.checks:
        if check.name in green:
            row = (task.project, json.dumps(check.argv, separators=(",", ":")), check.cwd, check.timeout_s, draft_id)
            conn.execute("insert or replace into proven_checks values (?, ?, ?, ?, ?)", row)


def _save_review(conn: sqlite3.Connection, review: Review, row: dict[str, Value]) -> None:
    review_id = insert(conn, "reviews", row | {"verdict": review.verdict})
    for finding in review.findings:
        of: dict[str, Value] = {"review_id": review_id, "task_id": review.task_id}
        insert(conn, "findings", of | _columns(finding, "file", "line", "severity", "klass", "claim"))


def decide(conn: sqlite3.Connection, task_id: str, at: str, kind: str, detail: str | None = None) -> None:
    insert(conn, "decisions", {"task_id": task_id, "at": at, "kind": kind, "detail": detail})


def load(conn: sqlite3.Connection, table: str, kind: type[R], task_id: str) -> tuple[R, ...]:
    """A task's records in the order in which they were saved. Raises NotFound for an unknown task."""
    require_task(conn, task_id)
    found = conn.execute(f"select record from {table} where task_id = ? order by rowid", (task_id,))
    return tuple(kind.model_validate(json.loads(row[0])) for row in found)


def require_task(conn: sqlite3.Connection, task_id: str) -> sqlite3.Row:
    """The task's row. Raises NotFound."""
    found = conn.execute("select * from tasks where task_id = ?", (task_id,)).fetchone()
    if found is None:
        raise NotFound(
            f"No task has id {task_id!r}. No model was called.",
            next_step="Call plan_task and pass on the task_id it returns.",
        )
    return found  # type: ignore[no-any-return]


def task_row(task: Task) -> dict[str, Value]:
    return {
        "task_id": task.task_id,
        "project": task.project,
        "budget_key": task.repository or task.project,
        "client": task.client,
        "created_at": task.created_at.isoformat(),
        "record": task,
    }


def route_row(route: Route, at: str) -> dict[str, Value]:
    columns = _columns(route, "route_id", "task_id", "decision", "tier", "rule")
    return columns | {"at": at, "record": route}


def request_row(request: Request) -> dict[str, Value]:
    """What a call row holds before its answer: which model was wanted, how it is paid for and what was packed."""
    columns = _columns(
        request, "task_id", "route_id", "stage", "tier", "category", "prompt_id", "requested_price", "routed_price",
        "billing",
    )  # fmt: skip
    return columns | {
        "requested_model": request.requested_model or request.model,
        "routed_model": request.model,
        "request_digest": request.digest,
        "packed_tokens": sum(file.tokens for file in request.packed if file.shown != "left_out"),
        "packed": request.packed,
    }


def call_row(call: Call, at: str) -> dict[str, Value]:
    """What settling writes over a reserved row."""
    columns = _columns(
        call, "status", "served_model", "served_price", "cost_nanousd", "cache_saved_nanousd", "price_digest", "finish",
        "error", "duration_ms", "model_mismatch", "alert",
    )  # fmt: skip
    if call.most_nanousd is not None:
        columns["reserved_nanousd"] = call.most_nanousd
    return columns | {
        "ended_at": at,
        "input_tokens": call.usage.input,
        "cached_tokens": call.usage.cached_input,
        "cache_write_tokens": call.usage.cache_write,
        "output_tokens": call.usage.output,
        "reasoning_tokens": call.usage.reasoning,
    }


def _columns(record: Record, *names: str) -> dict[str, Value]:
    return {name: getattr(record, name) for name in names}


def _clean(row: Mapping[str, Value]) -> dict[str, str | int | float | None]:
    from mcp_tierkit.redact import redact

    def column(name: str, value: Value) -> str | int | float | None:
        if isinstance(value, Record):
            return json.dumps(_redacted(value.model_dump(mode="json")), separators=(",", ":"))
        if isinstance(value, tuple):
            return json.dumps([_redacted(record.model_dump(mode="json")) for record in value], separators=(",", ":"))
        if name == "reply" and isinstance(value, str) and value.startswith("{"):
            # Text by text: a rule that runs over a quotation mark would leave no JSON.
            return json.dumps(_redacted(json.loads(value)), separators=(",", ":"))
        if not isinstance(value, str) or name in _EXACT or name.endswith(("_id", "digest")):
            return value
        # SQLite stores UTF-8 only, and half a surrogate pair is none.
        return redact(value).encode("utf-8", "backslashreplace").decode()

    return {name: column(name, value) for name, value in row.items()}


def _redacted(value: Any, name: str = "") -> Any:
    """JSON with secrets taken out of its texts; a name counts too, so that `{"password": …}` is seen for what it is."""
    from mcp_tierkit.redact import redact

    if isinstance(value, str):
        named = redact(f"{name}={value}")
        return named.removeprefix(f"{name}=") if named.startswith(f"{name}=") else redact(value)
    if isinstance(value, dict):
        return {redact(key): _redacted(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, name) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number.
    return value
