"""The sums that triggers keep for reports, against the rows they are sums of."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.ledger import report
from mcp_tierkit.ledger.levers import Lever, Unsaid, savings, with_playbooks
from mcp_tierkit.ledger.migrations import SCHEMA, migrations
from mcp_tierkit.ledger.opening import prepare
from mcp_tierkit.ledger.spent import OF_CALLS
from mcp_tierkit.ledger.sums import ALL_COUNTS, ALL_OF_TASK, KEYS, OF_TASK
from tests.reports import add_call, new_ledger, open_task, receipt, tell

STATUSES = ("reserved", "settled", "failed", "cancelled", "interrupted")
COLUMNS = ("cost_nanousd", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "packed_tokens")


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with new_ledger(tmp_path / "ledger.db") as opened:
        yield opened


def sums_agree(conn: sqlite3.Connection, of_task: Collection[str] = ALL_OF_TASK) -> None:
    """What triggers kept is what the rows add up to."""
    keys = ", ".join(expression.format(row="calls") for expression in KEYS.values())
    counts = ", ".join(f"sum({expression.format(row='calls')})" for expression in ALL_COUNTS.values())
    rows = f"select {keys}, {counts} from calls join tasks using (task_id) group by 1, 2, 3, 4, 5, 6"
    sums = ", ".join(f"sum({name})" for name in ALL_COUNTS)
    kept = f"select {', '.join(KEYS)}, {sums} from call_sums where calls > 0 group by 1, 2, 3, 4, 5, 6"
    assert sorted(map(tuple, conn.execute(kept))) == sorted(map(tuple, conn.execute(rows)))
    assert conn.execute("select total(abs(cost_nanousd)) from call_sums where calls = 0").fetchone()[0] == 0
    columns: dict[report.Key, str] = {"day": "substr(at, 1, 10)", "tier": "tier", "stage": "stage"}
    for by, key in columns.items():
        counted = conn.execute(f"select {key} as key, {OF_CALLS} from calls group by 1 order by 1").fetchall()
        told = [{"key": one.key, **one.spend.model_dump()} for one in report.totals(conn, by)]
        assert told == list(map(dict, counted))
    tasks_agree(conn, of_task)


def tasks_agree(conn: sqlite3.Connection, of_task: Collection[str] = ALL_OF_TASK) -> None:
    own = ", ".join(f"sum({ALL_OF_TASK[name].format(row='calls')})" for name in of_task)
    rows = f"select task_id, {own} from calls group by 1 order by 1"
    kept = f"select task_id, {', '.join(of_task)} from task_sums where calls > 0 order by 1"
    assert list(map(tuple, conn.execute(kept))) == list(map(tuple, conn.execute(rows)))


def some_calls(conn: sqlite3.Connection, number: int) -> None:
    """Calls of every kind, some of them changed and some of them removed."""
    chance = random.Random(7)
    for task_id in ("a1", "a2", "b1"):
        open_task(conn, task_id)
        for tier in ("cheap", "strong"):
            made = (f"review-{tier}-{task_id}", task_id, tier)
            conn.execute("insert into routes values (?, ?, 'then', 'review', ?, 'caller_asked', '{}')", made)
    for _ in range(number):
        told: dict[str, Any] = {name: chance.choice((None, 0, chance.randrange(9000))) for name in COLUMNS}
        known = {row[1] for row in conn.execute("pragma table_info(calls)")}
        if "cache_saved_nanousd" in known:
            told["cache_saved_nanousd"] = chance.choice((None, 0, -60, 700))
        if "billing" in known:
            told["billing"] = chance.choice((None, "api", "subscription"))
        more = {
            "status": chance.choice(STATUSES), "reserved_nanousd": chance.choice((None, 77)),
            "category": chance.choice((None, "tests", "code")), "served_model": chance.choice((None, "m-2026")),
            "alert": chance.choice((None, "Dearer.")), "routed_price": chance.choice((None, "0.1/0.5", "2/8")),
            "at": f"2026-11-0{chance.randrange(1, 4)}T10:00:00",
        }  # fmt: skip
        if more["status"] == "reserved":
            told["cost_nanousd"] = None
        kinds = (("cheap", "draft"), ("strong", "climb"), ("strong", "review"), ("strong", "continue"))
        (tier, stage), task_id = chance.choice(kinds), chance.choice(("a1", "a2", "b1"))
        told["route_id"] = chance.choice((f"{tier}-{task_id}", f"review-{tier}-{task_id}"))
        call_id = add_call(conn, task_id, tier, stage, **told, **more)
        if chance.random() < 0.5:
            conn.execute(
                "update calls set status = 'settled', cost_nanousd = ?, cached_tokens = 5, input_tokens = 9,"
                " output_tokens = ?, served_model = 'other', served_price = '0.1/0.5' where call_id = ?",
                (chance.choice((None, 1400)), chance.choice((None, 3)), call_id),
            )
        if chance.random() < 0.1:
            conn.execute("delete from calls where call_id = ?", (call_id,))
            conn.execute("update calls set call_id = call_id || 'x'")


def test_sums_follow_every_insert_update_and_delete(conn: sqlite3.Connection) -> None:
    some_calls(conn, 120)
    sums_agree(conn)
    conn.execute("delete from calls")
    sums_agree(conn)


def test_calls_without_a_most_are_counted_beside_others_of_their_kind_that_have_one(conn: sqlite3.Connection) -> None:
    open_task(conn, "a")
    for most in (None, 5_000, None):
        add_call(conn, "a", cost_nanousd=None, reserved_nanousd=most, billing="api")
    [total] = report.totals(conn, "tier")
    assert (total.spend.unpriced_calls, total.spend.unbounded_calls, total.spend.unknown_nanousd) == (3, 2, 5_000)


def test_a_quota_is_no_unknown_cost_of_tasks_without_a_baseline(conn: sqlite3.Connection) -> None:
    open_task(conn, "a")
    add_call(conn, "a", cost_nanousd=None, billing="subscription")
    assert savings(conn).unsaid == (Unsaid(what="no_baseline", count=1, cost_nanousd=0),)
    add_call(conn, "a", cost_nanousd=70, billing="local")
    assert savings(conn).unsaid == (Unsaid(what="no_baseline", count=1, cost_nanousd=70),)
    add_call(conn, "a", cost_nanousd=None, billing="api")
    assert savings(conn).unsaid == (Unsaid(what="no_baseline", count=1, cost_nanousd=None),)


def test_a_ledger_of_schema_five_gets_the_same_sums(tmp_path: Path) -> None:
    from sqlite_utils import Database

    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0006_sums_for_reports")
        old.execute("pragma user_version = 5")
        old.execute("insert into owners values ('o', 'lock', 1, 'then')")
        some_calls(old, 40)
        shown = receipt("0.0004", ["0.0060", "0.0132"], ["0.0034", "0.0106"])
        reply = json.dumps({"reply": {"receipt": shown}})
        old.execute("update tasks set reply = ? where task_id = 'a1'", (reply,))
        old.execute("update tasks set reply = 'no JSON' where task_id = 'a2'")
        add_call(
            old, "b1", cost_nanousd=190_000, input_tokens=1000, cached_tokens=4000, output_tokens=100,
            routed_price="0.1/0.5",
        )  # fmt: skip
        score = ("a1", "then", "reverted", "{}")
        old.execute("insert into scores (task_id, at, outcome, record) values (?, ?, ?, ?)", score)
    prepare(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as new:
        new.row_factory = sqlite3.Row
        assert new.execute("pragma user_version").fetchone()[0] == SCHEMA
        # A call of that version does not say what a cache saved: its task keeps what its prices told.
        by_rows = ALL_OF_TASK.keys() - {"cache_nanousd"}
        sums_agree(new, by_rows)
        [saved] = new.execute("select cache_nanousd from task_sums where task_id = 'b1'").fetchone()
        assert saved
        told = "select unit, is_kept, is_reverted, alone_low, alone_high, passed, caller_read from task_sums"
        assert list(map(tuple, new.execute(f"{told} order by task_id"))) == [
            ("usd", 1, 1, 6_000_000, 13_200_000, 2_200_000, 190),
            (None, 0, 0, None, None, None, 0),
            (None, 0, 0, None, None, None, 0),
        ]
        open_task(new, "c1")
        new.execute("pragma foreign_keys = on")
        add_call(new, "c1", cost_nanousd=4)
        add_call(new, "b1", cost_nanousd=4, cache_saved_nanousd=7)
        sums_agree(new, by_rows)
        now = new.execute("select cache_nanousd from task_sums where task_id = 'b1'").fetchone()[0]
        assert now == saved + 7
    assert len(list(tmp_path.glob("ledger.db.schema5.*.backup"))) == 1


def test_a_ledger_of_schema_nine_counts_what_went_on_with_a_review_as_one(tmp_path: Path) -> None:
    from sqlite_utils import Database

    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0010_whole_reviews")
        old.execute("pragma user_version = 9")
        old.execute("insert into owners values ('o', 'lock', 1, 'then')")
        some_calls(old, 60)
        old.row_factory = sqlite3.Row
        with pytest.raises(AssertionError):
            tasks_agree(old, OF_TASK)
    prepare(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as new:
        new.row_factory = sqlite3.Row
        sums_agree(new)
        add_call(new, "a1", "strong", "continue", cost_nanousd=4, route_id="review-strong-a1", call_id="later")
        sums_agree(new)


def lever_ledger(conn: sqlite3.Connection) -> None:
    """One task for each way in which money is saved, lost, or not known to be either."""
    open_task(conn, "cheap")
    # 1,000 fresh and 4,000 cached in, 100 out at 0.1 and 0.5, cached at 0.01: 100 + 40 + 50 thousand nanodollars.
    add_call(
        conn, "cheap", cost_nanousd=190_000, input_tokens=1000, cached_tokens=4000, output_tokens=100,
        cache_saved_nanousd=360_000,
    )  # fmt: skip
    tell(conn, "cheap", receipt("0.00019", ["0.0060", "0.0132"], ["0.0048", "0.0120"]))
    add_call(conn, "cheap", "strong", "review", cost_nanousd=900_000)  # after the receipt
    open_task(conn, "climbed")
    add_call(conn, "climbed", cost_nanousd=100_000)
    add_call(conn, "climbed", "strong", "climb", cost_nanousd=2_000_000)
    tell(conn, "climbed", receipt("0.0021", ["0.0100", "0.0200"], ["0.0069", "0.0169"]))
    open_task(conn, "lost")
    add_call(conn, "lost", cost_nanousd=500_000)
    tell(conn, "lost", receipt("0.0005", None, ["-0.0015", "-0.0015"]))
    open_task(conn, "reverted")
    add_call(conn, "reverted", cost_nanousd=100_000)
    tell(conn, "reverted", receipt("0.0001", ["0.0050", "0.0060"], ["0.0039", "0.0049"]))
    conn.execute("insert into scores (task_id, at, outcome, record) values ('reverted', '', 'reverted', '{}')")
    open_task(conn, "unpriced")
    add_call(conn, "unpriced", cost_nanousd=None)
    tell(conn, "unpriced", receipt(None, ["0.0050", "0.0060"], None))
    open_task(conn, "quota")
    add_call(conn, "quota", cost_nanousd=40_000)
    told = {"alone_tokens": [1100, 2260]}
    tell(conn, "quota", {"measured": {"usd": "0.00004"}, "estimated": told, "net": [-150, 1010]})
    open_task(conn, "skipped", decision="do_it_yourself")
    run = ("skipped", "2026-11-02", "rename", "1.0.0", "ab", "ok", 5, "{}")
    names = "task_id, at, playbook, version, digest, status, ms, record"
    conn.execute(f"insert into playbook_runs ({names}) values (?, ?, ?, ?, ?, ?, ?, ?)", run)


def test_every_dollar_saved_or_lost_belongs_to_one_lever(conn: sqlite3.Connection) -> None:
    lever_ledger(conn)
    found = with_playbooks(savings(conn), report.playbook_totals(conn))
    assert found.levers == (
        # Alone 6.0 to 13.2, passed 1.01, calls 0.19 without the cache 0.36 dearer, the review apart. In thousandths.
        Lever(lever="cheap_drafts", unit="nanousd", tasks=1, low=4_440_000, high=11_640_000),
        Lever(lever="dearer_drafts", unit="nanousd", tasks=1, low=6_900_000, high=16_900_000),
        Lever(lever="lost_drafts", unit="nanousd", tasks=2, low=-2_600_000, high=-2_600_000),
        Lever(lever="cheap_drafts", unit="tokens", tasks=1, low=-150, high=1010),
        Lever(lever="provider_cache", unit="nanousd", tasks=1, low=360_000, high=360_000),
        Lever(lever="reviews", unit="nanousd", tasks=1, low=-900_000, high=-900_000),
        # A task whose net is in quota costs its dollars all the same.
        Lever(lever="other_calls", unit="nanousd", tasks=1, low=-40_000, high=-40_000),
    )
    # The four receipts' nets, the first less its review, the reverted one less what it claimed to have spared, and the
    # dollars of a task whose net is in quota.
    low = 4_800_000 - 900_000 + 6_900_000 - 1_500_000 + 3_900_000 - 5_000_000 - 40_000
    high = 12_000_000 - 900_000 + 16_900_000 - 1_500_000 + 4_900_000 - 6_000_000 - 40_000
    assert (found.net_nanousd, found.net_tokens, found.tasks) == ((low, high), (-150, 1010), 5)
    assert found.unsaid == (
        Unsaid(what="playbooks", count=1, cost_nanousd=0),
        Unsaid(what="skipped", count=1, cost_nanousd=0),
        Unsaid(what="no_baseline", count=1, cost_nanousd=None),
    )
    nothing = savings(conn, since="2026-12-01")
    assert (nothing.levers, nothing.unsaid, nothing.net_nanousd) == ((), (), None)


@pytest.mark.parametrize(
    "reply",
    ["", "no JSON", "[]", "null", '{"reply": null}', '{"reply": {"receipt": []}}', '{"error": {"code": "x"}}',
     '{"reply": {"receipt": {"measured": {"usd": {}, "caller_tokens": "x"}, "net": [1.5, null]}}}',
     '{"reply": {"receipt": {"measured": {"caller_tokens": [2.5, "x"]}, "estimated": 7, "net": ["x", []]}}}'],
)  # fmt: skip
def test_no_reply_can_keep_its_task_from_being_written_down(conn: sqlite3.Connection, reply: str) -> None:
    open_task(conn, "a")
    conn.execute("update tasks set reply = ? where task_id = 'a'", (reply,))
    assert conn.execute("select reply from tasks").fetchone()[0] == reply
    savings(conn)
