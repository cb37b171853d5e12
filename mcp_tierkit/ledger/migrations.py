"""The ledger's schema as numbered steps, applied in order and never edited once released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp_tierkit.ledger.billing import BILLING
from mcp_tierkit.ledger.recount import APART, counted_anew
from mcp_tierkit.ledger.sums import ASKED, BY_STAGE, OF_TASK, READ_BACK, SUMS, TOLD

if TYPE_CHECKING:
    from sqlite_utils.migrations import Migrations

TABLES = (
    """create table owners (
        owner_id text primary key,
        lock text not null, -- a file that the process holds locked for as long as it lives
        pid integer not null,
        at text not null
    ) strict""",
    """create table tasks (
        task_id text primary key,
        project text not null,
        budget_key text not null, -- what the project budget is counted on: worktrees of one repository share it
        client text,
        created_at text not null,
        state text not null default 'open' check (state in ('open', 'running', 'done', 'cancelled', 'interrupted')),
        owner_id text references owners,
        cancel_requested integer not null default 0 check (cancel_requested in (0, 1)),
        reply text,
        record text not null check (json_valid(record)),
        check (state <> 'running' or owner_id is not null)
    ) strict""",
    """create table routes (
        route_id text primary key,
        task_id text not null references tasks,
        at text not null,
        decision text not null,
        tier text,
        rule text not null,
        record text not null check (json_valid(record)),
        unique (task_id, route_id, tier)
    ) strict""",
    """create table handoffs (
        handoff_id integer primary key,
        task_id text not null references tasks,
        at text not null,
        record text not null check (json_valid(record))
    ) strict""",
    """create table calls (
        call_id text primary key,
        task_id text not null references tasks,
        route_id text not null references routes,
        owner_id text not null references owners,
        client text,
        at text not null, -- when it was reserved: the day it counts for
        ended_at text,
        stage text not null,
        tier text not null,
        requested_model text not null,
        served_model text,
        model_mismatch integer not null default 0 check (model_mismatch in (0, 1)),
        status text not null check (status in ('reserved', 'settled', 'failed', 'cancelled', 'interrupted')),
        prompt_id text not null,
        price_digest text,
        input_tokens integer check (input_tokens >= 0),
        cached_tokens integer check (cached_tokens >= 0),
        cache_write_tokens integer check (cache_write_tokens >= 0),
        output_tokens integer check (output_tokens >= 0),
        reasoning_tokens integer check (reasoning_tokens >= 0),
        reserved_nanousd integer check (reserved_nanousd >= 0),
        cost_nanousd integer check (cost_nanousd >= 0),
        finish text,
        error text,
        duration_ms integer,
        check (status <> 'reserved' or cost_nanousd is null),
        -- A call is allowed by a route of its own task that names its tier, not by just any.
        foreign key (task_id, route_id, tier) references routes (task_id, route_id, tier)
    ) strict""",
    """create table drafts (
        draft_id integer primary key,
        task_id text not null references tasks,
        at text not null,
        status text not null,
        isolation text,
        record text not null check (json_valid(record))
    ) strict""",
    """create table checks (
        check_id integer primary key,
        draft_id integer not null references drafts,
        task_id text not null references tasks,
        name text not null,
        role text not null,
        outcome_before text not null,
        outcome_after text not null
    ) strict""",
    """create table reviews (
        review_id integer primary key,
        task_id text not null references tasks,
        at text not null,
        verdict text not null,
        record text not null check (json_valid(record))
    ) strict""",
    """create table findings (
        finding_id integer primary key,
        review_id integer not null references reviews,
        task_id text not null references tasks,
        file text not null,
        line integer not null,
        severity text not null,
        klass text not null,
        claim text not null
    ) strict""",
    """create table playbook_runs (
        run_id integer primary key,
        task_id text not null references tasks,
        at text not null,
        playbook text not null,
        version text not null,
        digest text not null,
        status text not null,
        ms integer not null,
        record text not null check (json_valid(record))
    ) strict""",
    """create table decisions (
        decision_id integer primary key,
        task_id text not null references tasks,
        at text not null,
        kind text not null, -- over_budget, cancel_requested, interrupted
        detail text
    ) strict""",
    """create table scores (
        score_id integer primary key,
        task_id text not null references tasks,
        at text not null,
        outcome text not null,
        cleanup_minutes real,
        defects integer,
        record text not null check (json_valid(record))
    ) strict""",
    "create index calls_task on calls (task_id)",
    "create index calls_at on calls (at)",
    "create index calls_reserved on calls (owner_id) where status = 'reserved'",
    "create index tasks_running on tasks (owner_id) where state = 'running'",
    "create index tasks_project on tasks (project)",
    *(
        f"create index {table}_task on {table} (task_id)"
        for table in ("handoffs", "drafts", "checks", "reviews", "findings", "playbook_runs", "decisions", "scores")
    ),
)

_COMMITTED = "coalesce({row}.cost_nanousd, {row}.reserved_nanousd, 0)"


def _count(row: str, amount: str) -> str:
    """Add `amount` to the three totals that the call `row` counts for."""
    return f"""
        insert into budget_spend
            select 'day', substr({row}.at, 1, 10), {amount} where true
            union all select 'month', substr({row}.at, 1, 7), {amount}
            union all select 'project', budget_key, {amount} from tasks where task_id = {row}.task_id
            on conflict do update set nanousd = nanousd + excluded.nanousd;"""


_NEW, _OLD = _COMMITTED.format(row="new"), _COMMITTED.format(row="old")

TOTALS = (
    # Running totals: a budget of a month would otherwise be a sum over every call of the month, inside the write lock.
    """create table budget_spend (
        budget text not null check (budget in ('day', 'month', 'project')),
        key text not null,
        nanousd integer not null,
        primary key (budget, key)
    ) strict, without rowid""",
    f"create trigger calls_added after insert on calls begin {_count('new', _NEW)} end",
    f"""create trigger calls_changed after update of cost_nanousd, reserved_nanousd on calls
        begin {_count("new", f"{_NEW} - {_OLD}")} end""",
    f"create trigger calls_removed after delete on calls begin {_count('old', f'-{_OLD}')} end",
    f"""insert into budget_spend
        select 'day', substr(at, 1, 10), sum({_COMMITTED.format(row="calls")}) from calls group by 2
        union all select 'month', substr(at, 1, 7), sum({_COMMITTED.format(row="calls")}) from calls group by 2
        union all select 'project', budget_key, sum({_COMMITTED.format(row="calls")})
            from calls join tasks using (task_id) group by 2""",
)

UNPRICED = "cost_nanousd is null and (status <> 'reserved' or reserved_nanousd is null)"
"""A call in flight is not unpriced yet, unless it has no price to be settled with."""

VIEWS = (
    f"""create view task_cost as
        select task_id, project, count(call_id) as calls,
            coalesce(sum(cost_nanousd), 0) as cost_nanousd, -- of the calls whose cost is known
            count(case when {UNPRICED} then call_id end) as unpriced_calls
        from tasks left join calls using (task_id) group by task_id""",
    """create view call_log as
        select call_id, task_id, project, at, stage, tier, requested_model, served_model, status,
            -- The four token columns never overlap: input_tokens is what was read fresh.
            input_tokens, cached_tokens, cache_write_tokens, output_tokens, reserved_nanousd, cost_nanousd
        from calls join tasks using (task_id)""",
)


READ = "coalesce(input_tokens, 0) + coalesce(cached_tokens, 0) + coalesce(cache_write_tokens, 0)"
"""All input of a call: fresh, cached and written."""

CACHE_HITS = f"""category, count(*) as calls, sum({READ}) as input_tokens, sum(cached_tokens) as cached_tokens,
    round(1.0 * sum(cached_tokens) / nullif(sum({READ}), 0), 4) as hit_rate"""
"""How much of what was read came from a cache, over calls that say so: `cached_tokens` is not null."""

MODELS_AND_CONTEXT = (
    # Of older rows one name is known: what the tier named first and what was sent were not told apart.
    *(f"alter table calls add column {column} text" for column in ("category", "routed_model")),
    # Dollars per million tokens, in and out, such as 0.1/0.5; null is unknown.
    *(f"alter table calls add column {whose}_price text" for whose in ("requested", "routed", "served")),
    "alter table calls add column packed_tokens integer check (packed_tokens >= 0)",
    "alter table calls add column packed text check (packed is null or json_valid(packed))",
    "alter table calls add column alert text",
    "update calls set routed_model = requested_model",
)

TEXTS = (
    """create table texts (
        text_id integer primary key,
        call_id text not null references calls,
        kind text not null check (kind in ('prompt', 'reply', 'reasoning')),
        at text not null,
        text text not null
    ) strict""",
    "create index texts_call on texts (call_id)",
)

PROVEN = (
    """create table proven_checks (
        project text not null,
        argv text not null check (json_valid(argv)),
        cwd text not null,
        timeout_s real not null,
        draft_id integer not null references drafts, -- the newest that it proved
        primary key (project, argv, cwd)
    ) strict""",
    "create index proven_checks_newest on proven_checks (project, draft_id)",
    """insert into proven_checks
        select project, json_extract(value, '$.argv'), json_extract(value, '$.cwd'),
            json_extract(value, '$.timeout_s'), max(draft_id)
        from drafts join tasks using (task_id), json_each(tasks.record, '$.checks')
        where drafts.status = 'applied'
            and not exists (select 1 from checks where checks.draft_id = drafts.draft_id and outcome_after <> 'green')
        group by 1, 2, 3""",
)

MORE_VIEWS = (
    f"create view cache_hits as select {CACHE_HITS} from calls where cached_tokens is not null group by category",
    """create view packed_files as
        select call_id, task_id, at, stage, category, json_extract(value, '$.path') as path,
            json_extract(value, '$.shown') as shown, json_extract(value, '$.tokens') as tokens
        from calls, json_each(calls.packed)""",
)

RUN_COSTS = (
    # Whatever ran before was a script.
    "alter table playbook_runs add column kind text not null default 'script' check (kind in ('script', 'skill'))",
    # Null is unknown; a script's are 0.
    "alter table playbook_runs add column tokens integer default 0 check (tokens >= 0)",
    "alter table playbook_runs add column cost_nanousd integer default 0 check (cost_nanousd >= 0)",
)

LOOPS_AND_SPEED = (
    "alter table calls add column request_digest text",
    "create index calls_digest on calls (request_digest, at) where request_digest is not null",
    "create index calls_unpriced on calls (at) where reserved_nanousd is null",
    # What a task has cost is summed inside the write lock: from the index alone.
    "drop index calls_task",
    "create index calls_task on calls (task_id, cost_nanousd, reserved_nanousd)",
)

ROUNDS = (
    "drop trigger task_sums_told",
    # A receipt tells of all rounds of its task by now; of an older one, which told of its own alone, the sum stands.
    f"""create trigger task_sums_told after update of reply on tasks when {TOLD.format(row="new")} begin
        update task_sums set caller_read = max(caller_read, {READ_BACK.format(row="new")}),
            caller_wrote = max(caller_wrote, {ASKED.format(row="new")}) where task_id = new.task_id; end""",
)


EXACT_MONEY = (
    # Null where nobody knows it: also in calls that an older version wrote, whose tasks keep what was summed of them.
    "alter table calls add column cache_saved_nanousd integer",
    # What a receipt is made of is written as it was reckoned: its reply shows it rounded.
    "drop trigger task_sums_receipt",
    *counted_anew(BY_STAGE),
)

_CHANGED = ("dearer_drafts", "review_nanousd")

WHOLE_REVIEWS = (
    *counted_anew(OF_TASK),
    # Of tasks with a review that was gone on with, which are few; their other sums stay as they are.
    f"""update task_sums set {", ".join(f"{name} = found.{name}" for name in _CHANGED)} from (
            select task_id as owner, {", ".join(f"sum({OF_TASK[n].format(row='calls')}) as {n}" for n in _CHANGED)}
            from calls where task_id in (select task_id from routes where decision = 'review') group by task_id
        ) as found where task_id = owner""",
)


def m0001_tables(db: Any) -> None:
    _run(db, TABLES)


def m0002_totals_and_views(db: Any) -> None:
    _run(db, TOTALS + VIEWS)


def m0003_models_context_and_texts(db: Any) -> None:
    _run(db, MODELS_AND_CONTEXT + TEXTS + PROVEN + MORE_VIEWS)


def m0004_costs_of_playbook_runs(db: Any) -> None:
    _run(db, RUN_COSTS)


def m0005_loops_and_speed(db: Any) -> None:
    _run(db, LOOPS_AND_SPEED)


def m0006_sums_for_reports(db: Any) -> None:
    _run(db, SUMS)


def m0007_billing(db: Any) -> None:
    """`calls.billing`: `api` is dollars by the token, `subscription` a plan's quota, `local` machine time.

    As it was when the call was reserved. Null where an older version wrote the call, and then '' in `call_sums`.
    """
    _run(db, BILLING)


def m0008_rounds_of_a_task(db: Any) -> None:
    _run(db, ROUNDS)


def m0009_exact_money(db: Any) -> None:
    """`calls.cache_saved_nanousd`, and `task_sums` written in whole nanodollars and not read back from replies.

    Tasks of older versions keep what the four decimal places of their receipts told.
    """
    _run(db, EXACT_MONEY)


def m0010_whole_reviews(db: Any) -> None:
    """A call that goes on with a review that was cut off is counted with the reviews, and no longer with drafts."""
    _run(db, WHOLE_REVIEWS)


def m0011_alone_in_tokens(db: Any) -> None:
    """What a task's caller would have read and written alone, low and high, and our schemas: tokens.

    Kept whether its model has a price or not, so that the work can be priced once one is known. Null in older tasks.
    Beside them, what sums of older versions did not tell apart: calls whose most is unknown, those that are quota, and
    changes that stand again after one was taken back.
    """
    _run(db, APART)


STEPS = (
    m0001_tables, m0002_totals_and_views, m0003_models_context_and_texts, m0004_costs_of_playbook_runs,
    m0005_loops_and_speed, m0006_sums_for_reports, m0007_billing,
    m0008_rounds_of_a_task, m0009_exact_money, m0010_whole_reviews, m0011_alone_in_tokens,
)  # fmt: skip

SCHEMA = len(STEPS)
"""The number of the newest step. `PRAGMA user_version` of a file says how far it has come."""


def migrations() -> Migrations:
    """The steps, as a set that sqlite-utils applies and remembers. The import takes 0.1 s: call it off the loop."""
    from sqlite_utils.migrations import Migrations

    steps = Migrations("mcp_tierkit")
    for step in STEPS:
        steps()(step)
    return steps


def _run(db: Any, statements: tuple[str, ...]) -> None:
    for statement in statements:
        db.execute(statement)
