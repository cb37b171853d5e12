"""How each call is paid for, kept with the call: a tier's settings may say something else by the time of a report.

`calls.billing` is `api` (dollars by the token), `subscription` (a plan's quota, counted in tokens) or `local` (machine
time: what it cost is 0 where no hour has a price, and then so is what was reserved). It is null in calls that an older
version wrote. In `call_sums`, whose keys are never null, it is '' then.
"""

from __future__ import annotations

from mcp_tierkit.ledger.sums import COUNTS, KEYS, count_call

KEPT_BY = KEYS | {"billing": "coalesce({row}.billing, '')"}
"""What `call_sums` is kept by since this step."""

BILLING = (
    # No check on it: SQLite would read every call to see whether it holds. Only a `Billing` is ever written.
    "alter table calls add column billing text",
    "drop view call_log",
    """create view call_log as
        select call_id, task_id, project, at, stage, tier, requested_model, served_model, status,
            -- The four token columns never overlap: input_tokens is what was read fresh.
            input_tokens, cached_tokens, cache_write_tokens, output_tokens, reserved_nanousd, cost_nanousd, billing
        from calls join tasks using (task_id)""",
    *(f"drop trigger sums_{change}" for change in ("added", "changed", "removed")),
    "alter table call_sums rename to sums_before",
    f"""create table call_sums (
        {", ".join(f"{name} text not null" for name in KEPT_BY)},
        {", ".join(f"{name} integer not null" for name in COUNTS)},
        primary key ({", ".join(KEPT_BY)})
    ) strict, without rowid""",
    f"""insert into call_sums ({", ".join((*KEYS, "billing", *COUNTS))})
        select {", ".join((*KEYS, "''", *COUNTS))} from sums_before""",
    "drop table sums_before",
    f"create trigger sums_added after insert on calls begin {count_call('new', '+', KEPT_BY)} end",
    f"""create trigger sums_changed after update on calls
        begin {count_call("old", "-", KEPT_BY)} {count_call("new", "+", KEPT_BY)} end""",
    f"create trigger sums_removed after delete on calls begin {count_call('old', '-', KEPT_BY)} end",
)
