"""How long each query of `tierkit report` takes on a ledger of a million calls; ends with 1 where one is over 0.3 s.

`python -m benchmarks.report [--calls N] [--tasks N] [--keep FILE]` makes the ledger as it was before there were sums,
has it upgraded, and asks it everything that a report asks, for thirty days and for all time. Each figure is the
quickest of five, since a busy machine changes that one least.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcp_tierkit.ledger.migrations import migrations
from mcp_tierkit.ledger.opening import prepare
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.told import Query, queries, told

LIMIT_S = 0.3
DAYS = 90
NOW = datetime(2026, 11, 20, 15, tzinfo=UTC)
GOALS = ("Sum a cart with its discount", "Rename a symbol", "Add tests to the parser", "Explain the failing build")
CATEGORIES = ("code", "refactor", "tests", "docs", "classify", "extract", "summarize", "analyse", "review", "plan")
TIERS = (("cheap", "tiny", "0.1/0.5"), ("mid", "middle", "0.6/3"), ("strong", "big", "4/20"))
STAGES = ("draft", "repair", "climb", "review", "playbook")

# Four drafts in five tasks, with a patch of some kilobytes each; every fifth task reviewed, every third one scored.
ENDS = (
    """insert into drafts (task_id, at, status, record) select task_id, created_at,
        case rowid % 10 when 0 then 'needs_work' when 1 then 'unproven' when 2 then 'ready' else 'applied' end,
        json_object('patch', hex(zeroblob(1500))) from tasks where rowid % 5""",
    """insert into reviews (task_id, at, verdict, record) select task_id, created_at, 'findings',
        json_object('model', 'big') from tasks where rowid % 5 = 0""",
    """insert into findings (review_id, task_id, file, line, severity, klass, claim)
        select review_id, task_id, 'a.py', 3, 'minor', 'edge_case', 'It fails on nothing.' from reviews""",
    """insert into scores (task_id, at, outcome, record) select task_id, created_at,
        iif(rowid % 7, 'accepted', 'reverted'), json_object('outcome', iif(rowid % 7, 'accepted', 'reverted'))
        from tasks where rowid % 3 = 0""",
)


def _at(number: int, of: int) -> str:
    return (NOW - timedelta(days=DAYS) * (1 - number / of)).isoformat(timespec="milliseconds")


def _tasks(number: int) -> Iterator[tuple[str, ...]]:
    chance = random.Random(1)
    for at in range(number):
        low, kept = chance.randrange(20, 400) / 10_000, chance.random() < 0.8
        estimated = {"alone_usd": [f"{low:.4f}", f"{low * 3:.4f}"]} if kept else {"schema_usd": "0.0002"}
        net = [f"{(low if kept else 0) - 0.01:.4f}", f"{(low * 3 if kept else 0) - 0.01:.4f}"]
        measured = {"usd": "0.004", "tokens": [9000, 800], "caller_tokens": [190, 60]}
        reply = {"reply": {"receipt": {"measured": measured, "estimated": estimated, "net": net}}}
        project = f"/home/dev/project-{at % 6}"
        record = json.dumps({"goal": f"{GOALS[at % 4]} ({at})"})
        yield f"t{at}", project, project, _at(at, number), "done", json.dumps(reply), record


def _calls(number: int, tasks: int) -> Iterator[tuple[object, ...]]:
    chance = random.Random(2)
    for at in range(number):
        task = at * tasks // number
        tier, model, price = TIERS[min(2, int(chance.expovariate(1.4)))]
        cost = chance.randrange(100_000, 9_000_000) if chance.random() < 0.99 else None
        yield (
            f"c{at}", f"t{task}", f"{tier}-{task}", "o", _at(at, number), STAGES[chance.randrange(5)], tier, model,
            model, f"{model}-2026", "settled" if cost else "failed", "draft.v1@aa", chance.randrange(9000),
            chance.choice((None, 0, 4000)), 0, chance.randrange(2000), 9_500_000, cost, chance.choice(CATEGORIES),
            price, chance.choice((None, 3000)),
        )  # fmt: skip


def build(path: Path, calls: int, tasks: int) -> None:
    """A ledger as the version before the sums left it."""
    from sqlite_utils import Database

    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        migrations().apply(Database(conn, execute_plugins=False), stop_before="m0006_sums_for_reports")
        conn.execute("pragma user_version = 5")
        conn.execute("pragma synchronous = off")
        triggers = conn.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
        conn.execute("begin")
        for name, _ in triggers:
            conn.execute(f"drop trigger {name}")
        conn.execute("insert into owners values ('o', 'lock', 1, 'then')")
        names = "task_id, project, budget_key, created_at, state, reply, record"
        conn.executemany(f"insert into tasks ({names}) values (?, ?, ?, ?, ?, ?, ?)", _tasks(tasks))
        for tier in ("cheap", "mid", "strong"):
            conn.execute(
                f"insert into routes select '{tier}-' || substr(task_id, 2), task_id, created_at, 'draft', '{tier}',"
                " 'checked_work', '{}' from tasks"
            )
        conn.executemany(
            """insert into calls (call_id, task_id, route_id, owner_id, at, stage, tier, requested_model, routed_model,
                served_model, status, prompt_id, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
                reserved_nanousd, cost_nanousd, category, routed_price, packed_tokens)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            _calls(calls, tasks),
        )
        conn.execute(
            """insert into playbook_runs (task_id, at, playbook, version, digest, status, ms, record)
            select task_id, created_at, 'playbook-' || (rowid % 30), '1.0.0', 'ab', iif(rowid % 9, 'ok', 'failed'), 40,
                json_object('dry_run', rowid % 8 = 0, 'output', hex(zeroblob(300))) from tasks where rowid % 2"""
        )
        conn.execute(
            """insert into decisions (task_id, at, kind, detail)
            select task_id, created_at, 'over_budget', 'day' from tasks where rowid % 50 = 0"""
        )
        for sql in ENDS:
            conn.execute(sql)
        for _, sql in triggers:
            conn.execute(sql)
        conn.execute("commit")


def _bill(path: Path) -> None:
    """As if a tier were within a subscription: the sums know it, and reports read those."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("update call_sums set billing = iif(tier = 'mid', 'subscription', 'api')")


def timed(work: Callable[[], object]) -> float:
    """Seconds of the quickest of five, which a busy machine changes least."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def ask(conn: sqlite3.Connection, query: Query) -> Callable[[], object]:
    return lambda: query(conn)


def measure(path: Path) -> bool:
    """Whether every query was fast enough; prints what each took."""
    is_fast = True
    with reading(f"sqlite://{path}") as conn:
        rows = {name: conn.execute(f"select count(*) from {name}").fetchone()[0] for name in ("calls", "call_sums")}
        print(", ".join(f"{count:,} {name}" for name, count in rows.items()))
        for days in (30, 3650):
            asked = queries(days, NOW)
            for name, query in asked.items():
                took = timed(ask(conn, query))
                is_fast &= took <= LIMIT_S
                print(f"  {days:>4} days  {name:18} {took * 1000:7.1f} ms{'' if took <= LIMIT_S else '  OVER'}")
            print(f"  {days:>4} days  all together       {timed(lambda: told(conn, days, NOW)) * 1000:7.1f} ms")  # noqa: B023
    return is_fast


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="Keep the ledger in this file, and use it where it is there.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.keep or Path(folder).resolve() / "ledger.db"
        if not path.exists():
            started = time.perf_counter()
            build(path, args.calls, args.tasks)
            built = time.perf_counter()
            prepare(path)
            _bill(path)
            print(f"built in {built - started:.0f} s, upgraded in {time.perf_counter() - built:.1f} s")
        return 0 if measure(path) else 1


if __name__ == "__main__":
    sys.exit(main())
