"""Sums that triggers keep beside the rows, so that a report over a million calls reads some thousand rows."""

from __future__ import annotations

READ = "(coalesce({row}.input_tokens, 0) + coalesce({row}.cached_tokens, 0) + coalesce({row}.cache_write_tokens, 0))"
_UNPRICED = "({row}.cost_nanousd is null and ({row}.status <> 'reserved' or {row}.reserved_nanousd is null))"
_REFUSED = "({row}.status = 'failed' and {row}.cost_nanousd is 0)"

KEYS = {
    "day": "substr({row}.at, 1, 10)",
    "tier": "{row}.tier",
    "model": "coalesce({row}.served_model, {row}.routed_model, {row}.requested_model)",
    "category": "coalesce({row}.category, '')",
    "stage": "{row}.stage",
    "project": "tasks.project",
}
MONEY = {
    "calls": "1",
    "cost_nanousd": "coalesce({row}.cost_nanousd, 0)",
    "unpriced_calls": _UNPRICED,
    "unknown_nanousd": f"case when {_UNPRICED} then coalesce({{row}}.reserved_nanousd, 0) else 0 end",
}
COUNTS = MONEY | {
    "input_tokens": READ,
    "cached_tokens": "coalesce({row}.cached_tokens, 0)",
    "output_tokens": "coalesce({row}.output_tokens, 0)",
    # Calls whose tokens nobody named; one that was refused at the door used none.
    "untold_calls": f"({{row}}.status <> 'reserved' and not {_REFUSED}"
    " and ({row}.input_tokens is null or {row}.output_tokens is null))",
    "in_flight_calls": "({row}.status = 'reserved')",
    "alerts": "({row}.alert is not null)",
    # Of calls that say how much came from a cache: how many they are and all that they read.
    "telling_calls": "({row}.cached_tokens is not null)",
    "telling_tokens": f"case when {{row}}.cached_tokens is not null then {READ} else 0 end",
    "packed_calls": "({row}.packed_tokens is not null)",
    "packed_tokens": "coalesce({row}.packed_tokens, 0)",
}
# --- and, since then, those of the unpriced whose most is not known either
ALL_COUNTS = COUNTS | {"unbounded_calls": "({row}.cost_nanousd is null and {row}.reserved_nanousd is null)"}

# An answer that was cut off is gone on with in a call of its own, which belongs to what was asked for.
IS_OF_REVIEW = """({row}.stage = 'review' or ({row}.stage = 'continue'
    and 'review' = (select decision from routes where routes.route_id = {row}.route_id)))"""
OF_TASK = MONEY | {
    "dearer_drafts": "({row}.tier <> 'cheap' and {row}.stage in ('draft', 'repair', 'climb', 'continue')"
    f" and not {IS_OF_REVIEW})",
    "review_nanousd": f"case when {IS_OF_REVIEW} then coalesce({{row}}.cost_nanousd, 0) else 0 end",
    "cache_nanousd": "coalesce({row}.cache_saved_nanousd, 0)",
}
# Of the unpriced, those within a subscription: nothing of their cost in dollars is unknown.
ALL_OF_TASK = OF_TASK | {"quota_calls": f"({_UNPRICED} and {{row}}.billing is 'subscription')"}

# --- as it was while a continuation was counted with the drafts, whatever it went on with

BY_STAGE = OF_TASK | {
    "dearer_drafts": "({row}.tier <> 'cheap' and {row}.stage in ('draft', 'repair', 'climb', 'continue'))",
    "review_nanousd": "case when {row}.stage = 'review' then coalesce({row}.cost_nanousd, 0) else 0 end",
}

# --- as it was when these sums began: money read back from prices and receipts as they are shown

_RATES = "coalesce({row}.served_price, {row}.routed_price)"
_IN = f"cast(substr({_RATES}, 1, instr({_RATES}, '/') - 1) as real) * 1000"
_OUT = f"cast(substr({_RATES}, instr({_RATES}, '/') + 1) as real) * 1000"
_CACHE_SAVED = (
    f"cast(round({READ} * {_IN} + coalesce({{row}}.output_tokens, 0) * {_OUT}) as integer) - {{row}}.cost_nanousd"
)
BEFORE = BY_STAGE | {
    # What the call would have cost with all input fresh, less what it did cost. Where that is more than its cached
    # tokens can have saved, or less than its written ones can have cost, another price was charged: then nothing.
    "cache_nanousd": f"""case when coalesce({{row}}.cached_tokens, 0) + coalesce({{row}}.cache_write_tokens, 0) > 0
            and {_CACHE_SAVED} between -1 - coalesce({{row}}.cache_write_tokens, 0) * {_IN}
                and 1 + coalesce({{row}}.cached_tokens, 0) * {_IN}
        then {_CACHE_SAVED} else 0 end""",
}


def _of(row: str, columns: dict[str, str]) -> str:
    return ", ".join(expression.format(row=row) for expression in columns.values())


def _signed(row: str, sign: str, columns: dict[str, str]) -> str:
    return ", ".join(f"{sign}({expression.format(row=row)})" for expression in columns.values())


def count_call(
    row: str, sign: str, keys: dict[str, str] = KEYS, of_task: dict[str, str] = BEFORE, counts: dict[str, str] = COUNTS
) -> str:
    """Add a call to the sums of its day and of its task, or take it away again."""
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in counts)
    own = ", ".join(f"{name} = {name} {sign} ({expression.format(row=row)})" for name, expression in of_task.items())
    return f"""
        insert into call_sums ({", ".join((*keys, *counts))})
            select {_of(row, keys)}, {_signed(row, sign, counts)} from tasks where task_id = {row}.task_id
            on conflict do update set {added};
        update task_sums set {own} where task_id = {row}.task_id;"""


def _nanos(path: str) -> str:
    return f"cast(round(cast(json_extract({{row}}.reply, '$.reply.receipt.{path}') as real) * 1e9) as integer)"


def _amount(path: str) -> str:
    """A figure of a receipt in nanodollars where it is dollars, a text, and as it is where it is tokens."""
    place = f"'$.reply.receipt.{path}'"
    return f"""case json_type({{row}}.reply, {place}) when 'text' then {_nanos(path)}
        else cast(json_extract({{row}}.reply, {place}) as integer) end"""


_UNIT = "case json_type({row}.reply, '$.reply.receipt.net[0]') when 'text' then 'usd' when 'integer' then 'tokens' end"
_IS_USD = "json_type({row}.reply, '$.reply.receipt.net[0]') = 'text'"
_LOW, _HIGH = (
    f"coalesce({_amount(f'estimated.alone_usd[{at}]')}, {_amount(f'estimated.alone_tokens[{at}]')}, 0)" for at in (0, 1)
)
RECEIPT = {
    "unit": _UNIT,
    "is_kept": "coalesce(json_type({row}.reply, '$.reply.receipt.estimated.alone_usd'),"
    " json_type({row}.reply, '$.reply.receipt.estimated.alone_tokens')) is not null",
    "alone_low": _LOW,
    "alone_high": _HIGH,
    # What passed through the caller, in the unit of the receipt: all that the net leaves beside our own calls.
    "passed": f"{_LOW} - {_amount('net[0]')} - iif({_IS_USD}, coalesce({_nanos('measured.usd')}, 0), 0)",
}
_SKIPS = "decision not in ('draft', 'single_cheap', 'run_playbook')"
# By cases, which are looked at in order: a reply that is no JSON may not keep its task from being written down.
TOLD = """case when json_valid({row}.reply) then json_type({row}.reply, '$.reply.receipt.measured') is 'object'
    else 0 end"""
_KNOWN = f"case when {TOLD} then {_UNIT} is not null else 0 end"
READ_BACK, ASKED = (
    f"coalesce(cast(json_extract({{row}}.reply, '$.reply.receipt.measured.caller_tokens[{at}]') as integer), 0)"
    for at in (0, 1)
)


def _receipt(row: str) -> str:
    return ", ".join(f"{name} = {expression.format(row=row)}" for name, expression in RECEIPT.items())


SUMS = (
    f"""create table call_sums (
        {", ".join(f"{name} text not null" for name in KEYS)},
        {", ".join(f"{name} integer not null" for name in COUNTS)},
        primary key ({", ".join(KEYS)})
    ) strict, without rowid""",
    f"""create table task_sums (
        task_id text primary key references tasks,
        at text not null, -- when the task was opened
        project text not null,
        {", ".join(f"{name} integer not null default 0" for name in OF_TASK)},
        is_skipped integer not null default 0, -- the newest decision was to ask no model
        caller_read integer not null default 0, -- tokens of our replies, and of what we were asked
        caller_wrote integer not null default 0,
        unit text check (unit in ('usd', 'tokens')), -- of the newest receipt that names a net; null is unknown
        is_kept integer not null default 0,
        is_reverted integer not null default 0,
        alone_low integer,
        alone_high integer,
        passed integer
    ) strict, without rowid""",
    """create trigger task_sums_opened after insert on tasks begin
        insert into task_sums (task_id, at, project) values (new.task_id, new.created_at, new.project); end""",
    f"""create trigger task_sums_routed after insert on routes when new.decision <> 'review' begin
        update task_sums set is_skipped = new.{_SKIPS} where task_id = new.task_id; end""",
    f"create trigger sums_added after insert on calls begin {count_call('new', '+')} end",
    f"create trigger sums_changed after update on calls begin {count_call('old', '-')} {count_call('new', '+')} end",
    f"create trigger sums_removed after delete on calls begin {count_call('old', '-')} end",
    f"""create trigger task_sums_told after update of reply on tasks when {TOLD.format(row="new")} begin
        update task_sums set caller_read = caller_read + {READ_BACK.format(row="new")},
            caller_wrote = caller_wrote + {ASKED.format(row="new")} where task_id = new.task_id; end""",
    f"""create trigger task_sums_receipt after update of reply on tasks when {_KNOWN.format(row="new")} begin
        update task_sums set {_receipt("new")} where task_id = new.task_id; end""",
    """create trigger task_sums_scored after insert on scores begin
        update task_sums set is_reverted = new.outcome = 'reverted' where task_id = new.task_id; end""",
    f"""insert into call_sums select {_of("calls", KEYS)},
            {", ".join(f"sum({expression.format(row='calls')})" for expression in COUNTS.values())}
        from calls join tasks using (task_id) group by 1, 2, 3, 4, 5, 6""",
    "insert into task_sums (task_id, at, project) select task_id, created_at, project from tasks",
    f"""update task_sums set {", ".join(f"{name} = found.{name}" for name in BEFORE)} from (
            select task_id as owner, {", ".join(f"sum({sql.format(row='calls')}) as {n}" for n, sql in BEFORE.items())}
            from calls group by task_id) as found where task_id = owner""",
    f"""update task_sums set is_skipped = {_SKIPS} from routes
        where route_id = (select route_id from routes as newest
            where newest.task_id = task_sums.task_id and decision <> 'review' order by rowid desc limit 1)""",
    f"""update task_sums set caller_read = {READ_BACK.format(row="tasks")}, caller_wrote = {ASKED.format(row="tasks")}
        from tasks where tasks.task_id = task_sums.task_id and {TOLD.format(row="tasks")}""",
    f"""update task_sums set {_receipt("tasks")}
        from tasks where tasks.task_id = task_sums.task_id and {_KNOWN.format(row="tasks")}""",
    """update task_sums set is_reverted = 1 where 'reverted' =
        (select outcome from scores where scores.task_id = task_sums.task_id order by score_id desc limit 1)""",
    "create index tasks_created on tasks (created_at)",
    "create index playbook_runs_at on playbook_runs (at, playbook, status, kind, tokens, cost_nanousd)",
    "create index decisions_at on decisions (kind, at)",
)
