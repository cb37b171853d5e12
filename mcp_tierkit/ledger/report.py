"""What the ledger can tell: plain SQL on a connection that cannot write."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import Field

from mcp_tierkit.errors import NotFound
from mcp_tierkit.ledger.budget import Kind
from mcp_tierkit.ledger.migrations import SCHEMA, migrations
from mcp_tierkit.ledger.opening import check_schema, explained, ledger_path, schema_number
from mcp_tierkit.ledger.owners import is_alive
from mcp_tierkit.ledger.spent import OF_CALLS, SUMMED, Spent, spent_of
from mcp_tierkit.types import GIVEN, Record, TaskState

R = TypeVar("R", bound=Record)
Values = tuple[str, ...] | Mapping[str, str | int | None]
Key = Literal["day", "tier", "model", "category", "stage", "project", "billing"]

REAL_RUN = "json_extract(record, '$.dry_run') is not 1"
"""Of playbook runs: a dry run changes nothing, and is none."""
REFUSED = f"kind in ({', '.join(repr(kind) for kind in get_args(Kind))})"
"""Of decisions: a budget or the breaker did not let a call be made."""
NEWEST_CALLS = 10_000
"""Those among which changes of prompts are looked for."""


class TaskSummary(Record):
    """One task in a line."""

    task_id: str
    project: str
    client: str | None
    goal: str
    created_at: str
    state: TaskState
    decision: str | None
    tier: str | None
    draft_status: str | None
    verdict: str | None = None
    playbook_status: str | None = None
    outcome: str | None
    playbook_runs: int
    is_gone: bool = Field(default=False, description="Its change was applied, and is no longer in the files.")
    spend: Spent

    @property
    def ended(self) -> str:
        """What became of it, in a word or two, the latest first; of a task that was only planned, the decision."""
        if self.is_gone:
            return "not in the files"
        told = self.outcome or self.draft_status or self.verdict or self.playbook_status
        if not told and self.state == "open":
            told = self.decision or "open"
        was_refused = self.state == "done" and not self.spend.calls
        return (told or ("refused" if was_refused else self.state)).replace("_", " ")


class Total(Record):
    """What the calls of one day, tier, model, category, stage, project or way of paying cost together."""

    key: str
    spend: Spent


class CacheHit(Record):
    """How much of what the calls of one category read came from a cache, over those that say so."""

    category: str | None
    calls: int
    input_tokens: int
    cached_tokens: int
    hit_rate: float | None


class StepTotal(Record):
    """How much of the project's files the calls of one step were sent, over those that say so."""

    stage: str
    calls: int
    packed_tokens: int


class PromptChange(Record):
    """A call whose prompt text differs from that of the call before it with the same prompt, category and tier."""

    at: str
    task_id: str
    call_id: str
    prompt: str
    before: str
    after: str


class Overview(Record):
    """Everything in a few numbers."""

    tasks: int
    spend: Spent
    in_flight_calls: int
    refused_calls: int
    playbook_runs: int
    alerts: int = 0


class PlaybookTotal(Record):
    """How often a playbook ran, how many runs ended well, and what its model calls took; None where one is unknown.

    Of runs that were all within a subscription `cost_nanousd` is None as well, and `quota_runs` is all of them.
    """

    playbook: str
    runs: int
    ok: int
    last_run: str
    tokens: int | None
    cost_nanousd: int | None
    quota_runs: int = 0


class Health(Record):
    """What `tierkit doctor` says of the file. `problems` is what SQLite found, empty where all is well."""

    schema_number: int
    bytes: int
    is_private: bool
    problems: tuple[str, ...]
    live_owners: int
    left_calls: int
    left_tasks: int
    totals_agree: bool


@contextmanager
def reading(url: str) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write; on a machine where nothing was recorded yet, to an empty ledger.

    Of a ledger of an older version it is a copy, brought to this one's and gone at the end. The file itself changes
    with the first write: a server of the older version may still be at work on it, and could not go on. Raises
    LedgerError where the file is no ledger.
    """
    path = ledger_path(url)
    with explained(path), closing(_current(path) if path.exists() else _empty()) as conn:
        conn.row_factory = sqlite3.Row
        check_schema(conn)
        yield conn


def overview(conn: sqlite3.Connection, *, since: str = "") -> Overview:
    """Everything from the UTC day `since` on."""
    query = f"""select {SUMMED}, coalesce(sum(in_flight_calls), 0) as in_flight_calls,
        coalesce(sum(alerts), 0) as alerts,
        (select count(*) from tasks where created_at >= :since) as tasks,
        (select count(*) from playbook_runs where at >= :since and {REAL_RUN}) as playbook_runs,
        (select count(*) from decisions where {REFUSED} and at >= :since) as refused_calls
        from call_sums where day >= :since"""
    row = conn.execute(query, {"since": since}).fetchone()
    names = ("tasks", "in_flight_calls", "refused_calls", "playbook_runs", "alerts")
    return Overview(spend=spent_of(row), **{name: row[name] for name in names})


def newest_row(conn: sqlite3.Connection) -> str | None:
    """When the last call was reserved or the last task opened, by the clock of then; None on an empty ledger."""
    query = "select max(at) from (select max(at) as at from calls union all select max(created_at) from tasks)"
    found = conn.execute(query).fetchone()[0]
    return None if found is None else str(found)


def playbook_totals(
    conn: sqlite3.Connection, *, since: str = "", repository: str | None = None, gone: Collection[str] = ()
) -> tuple[PlaybookTotal, ...]:
    """Runs of each playbook by name, and how many of them ended well; of one repository, or of all.

    A dry run is none, and one whose change was taken back or is `gone` from the files did not end well.
    """
    stands = """status = 'ok' and 'reverted' is not (select outcome from scores
            where scores.task_id = playbook_runs.task_id order by score_id desc limit 1)
        and task_id not in (select value from json_each(:gone))"""
    # By cases: of a run with a cost its record, which is not in the index, is not read.
    quota = "case when cost_nanousd is null and json_extract(record, '$.billing') = 'subscription' then 1 end"
    query = f"""select playbook, count(*) as runs, count(case when {stands} then 1 end) as ok, max(at) as last_run,
            case when count(tokens) = count(*) then sum(tokens) end as tokens,
            case when count(cost_nanousd) + count({quota}) = count(*) then sum(cost_nanousd) end as cost_nanousd,
            count({quota}) as quota_runs
        from playbook_runs where at >= :since and {REAL_RUN} and
            (:repository is null or task_id in (select task_id from tasks where budget_key = :repository))
        group by playbook order by playbook"""
    values = {"since": since, "repository": repository, "gone": json.dumps(sorted(gone))}
    return _records(conn, PlaybookTotal, query, values)


def recent_tasks(conn: sqlite3.Connection, *, limit: int = 20, since: str = "") -> tuple[TaskSummary, ...]:
    """The latest tasks from `since` on, newest first."""
    # The plus keeps the newest rows in the order in which they lie: an index would have to be sorted.
    return _summaries(conn, "where +created_at >= :since", {"limit": limit, "since": since})


def spends(conn: sqlite3.Connection, task_ids: Collection[str]) -> dict[str, Spent]:
    """What each of these tasks that made a call cost."""
    query = f"""select task_id, {OF_CALLS} from calls
        where task_id in (select value from json_each(?)) group by task_id"""
    return {row["task_id"]: spent_of(row) for row in conn.execute(query, (json.dumps(sorted(task_ids)),))}


def task_summary(conn: sqlite3.Connection, task_id: str) -> TaskSummary:
    """Raises NotFound."""
    found = _summaries(conn, "where task_id = :task_id", {"limit": 1, "task_id": task_id})
    if not found:
        raise NotFound(f"No task has id {task_id!r}.", next_step="`tierkit report` lists the latest tasks.")
    return found[0]


def totals(conn: sqlite3.Connection, by: Key, *, since: str = "") -> tuple[Total, ...]:
    """Spend by UTC day, tier, model, category, stage, project or billing, in the order of the key.

    It counts from the UTC day `since` on. What was not written down is the empty text.
    """
    query = f"""select {by} as key, {SUMMED} from call_sums where day >= ?
        group by 1 having sum(calls) > 0 order by 1"""
    return tuple(Total(key=row["key"], spend=spent_of(row)) for row in conn.execute(query, (since,)))


def cache_hits(conn: sqlite3.Connection, *, since: str = "") -> tuple[CacheHit, ...]:
    """The hit rate of each category, as the view `cache_hits` has it, from the UTC day `since` on."""
    query = """select nullif(category, '') as category, sum(telling_calls) as calls,
            sum(telling_tokens) as input_tokens, sum(cached_tokens) as cached_tokens,
            round(1.0 * sum(cached_tokens) / nullif(sum(telling_tokens), 0), 4) as hit_rate
        from call_sums where day >= ? group by 1 having sum(telling_calls) > 0 order by 1"""
    return _records(conn, CacheHit, query, (since,))


def step_totals(conn: sqlite3.Connection, *, since: str = "") -> tuple[StepTotal, ...]:
    """What was packed for each step, such as draft or review, by name, from the UTC day `since` on."""
    query = """select stage, sum(packed_calls) as calls, sum(packed_tokens) as packed_tokens
        from call_sums where day >= ? group by stage having sum(packed_calls) > 0 order by stage"""
    return _records(conn, StepTotal, query, (since,))


def prompt_changes(
    conn: sqlite3.Connection, *, since: str = "", newest: int = NEWEST_CALLS
) -> tuple[PromptChange, ...]:
    """Which of the newest calls from `since` on first used another text of a prompt, oldest first.

    A new version of a prompt counts as one.
    """
    # A prompt id is name.vN/category@digest, and a tier may add a scratchpad: each of these has a text of its own.
    query = """select * from (
            select at, task_id, call_id, prompt, prompt_id as after,
                lag(prompt_id) over (partition by prompt, category, tier order by at, number) as before
            from (select *, rowid as number,
                substr(prompt_id, 1, instr(replace(prompt_id, '@', '.v') || '.v', '.v') - 1) as prompt
                from calls order by rowid desc limit :newest)
            order by at, number
        ) where before <> after and at >= :since"""
    return _records(conn, PromptChange, query, {"since": since, "newest": newest})


def health(url: str) -> Health:
    """What is wrong with the file, if anything. Reads all of it: seconds where there are millions of calls."""
    path = ledger_path(url)
    with reading(url) as conn:
        found = [row[0] for row in conn.execute("pragma quick_check(10)")]
        found += [f"{row[0]}: a row points to none in {row[2]}" for row in conn.execute("pragma foreign_key_check")]
        dead = [row[0] for row in conn.execute("select owner_id, lock from owners") if not is_alive(Path(row[1]))]
        return Health(
            schema_number=schema_number(conn),
            bytes=path.stat().st_size if path.exists() else 0,
            is_private=not path.exists() or not path.stat().st_mode & 0o077,
            problems=tuple(problem for problem in found if problem != "ok"),
            live_owners=conn.execute("select count(*) from owners").fetchone()[0] - len(dead),
            left_calls=_left(conn, "calls", "status = 'reserved'", dead),
            left_tasks=_left(conn, "tasks", "state = 'running'", dead),
            totals_agree=_totals_agree(conn),
        )


def _current(path: Path) -> sqlite3.Connection:
    with closing(_connect(path)) as conn:
        if 0 < schema_number(conn) < SCHEMA:
            return _copied(conn)
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)


def _empty() -> sqlite3.Connection:
    return _migrated(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))


def _copied(old: sqlite3.Connection) -> sqlite3.Connection:
    # A file without a name, gone when closed.
    conn = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        old.backup(conn)
        return _migrated(conn)
    except sqlite3.Error:
        conn.close()
        raise


def _migrated(conn: sqlite3.Connection) -> sqlite3.Connection:
    from sqlite_utils import Database

    conn.execute("begin")
    migrations().apply(Database(conn, execute_plugins=False))
    conn.execute(f"pragma user_version = {SCHEMA}")
    conn.execute("commit")
    conn.execute("pragma query_only = on")
    return conn


def _summaries(conn: sqlite3.Connection, where: str, values: Mapping[str, int | str | None]) -> tuple[TaskSummary, ...]:
    def latest(column: str, table: str, which: str = "true") -> str:
        return f"(select {column} from {table} where task_id = t.task_id and {which} order by rowid desc limit 1)"

    work = "decision <> 'review'"
    # What was said of a change is no word on the one that was handed over after it.
    since = f"at >= coalesce((select max(at) from drafts where task_id = t.task_id and status in {GIVEN}), '')"

    query = f"""select t.*, json_extract(t.record, '$.goal') as goal, {latest("decision", "routes", work)} as decision,
            {latest("tier", "routes", work)} as tier, {latest("status", "drafts")} as draft_status,
            {latest("verdict", "reviews")} as verdict, {latest("status", "playbook_runs")} as playbook_status,
            {latest("outcome", "scores", since)} as outcome,
            (select count(*) from playbook_runs where task_id = t.task_id) as playbook_runs, {OF_CALLS}
        from (select *, rowid as number from tasks {where} order by rowid desc limit :limit) t
        left join calls using (task_id) group by t.task_id order by t.number desc"""
    names = [name for name in TaskSummary.model_fields if name not in ("spend", "is_gone")]
    found = conn.execute(query, values)
    return tuple(TaskSummary(spend=spent_of(row), **{name: row[name] for name in names}) for row in found)


def _records(conn: sqlite3.Connection, kind: type[R], query: str, values: Values) -> tuple[R, ...]:
    found = conn.execute(query, values)
    return tuple(kind.model_validate({name: row[name] for name in kind.model_fields}) for row in found)


def _left(conn: sqlite3.Connection, table: str, where: str, owners: list[str]) -> int:
    held = [row[0] for row in conn.execute(f"select owner_id from {table} where {where}")]
    return sum(owner in set(owners) for owner in held)


def _totals_agree(conn: sqlite3.Connection) -> bool:
    """Whether the running totals that budgets read are the sums of the calls."""
    query = """select (select coalesce(sum(coalesce(cost_nanousd, reserved_nanousd)), 0) from calls) as counted,
        (select coalesce(sum(nanousd), 0) from budget_spend where budget = ?) as total"""
    rows = [conn.execute(query, (budget,)).fetchone() for budget in ("day", "month", "project")]
    return all(row["counted"] == row["total"] for row in rows)
