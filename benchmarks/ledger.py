"""How many calls a second the ledger reserves and settles with a million rows in it; ends with 1 below 300.

`python -m benchmarks.ledger [--calls N] [--rows N] [--keep FILE]` sets all five budgets and works from eight threads,
each with a connection of its own as eight processes would have, on an empty ledger and on a full one. Beside each
figure stands what the disk allows: rows a second of one connection that writes one durable row at a time.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

import anyio

from benchmarks.report import build
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.opening import prepare
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.types import Budgets, Call, Request, Route, Task, Usage

LEAST_PER_SECOND = 300
THREADS = 8
ROUNDS = 3
DOLLARS = 1_000_000_000
BUDGETS = Budgets(
    call=DOLLARS, task=10**6 * DOLLARS, day=10**6 * DOLLARS, project=10**6 * DOLLARS, month=10**6 * DOLLARS
)
PAID = Call(
    status="settled", served_model="tiny", usage=Usage(input=900, cached_input=100, cache_write=0, output=200),
    cost_nanousd=200_000, price_digest="ab" * 32, finish="stop", duration_ms=900,
)  # fmt: skip


async def asked_by(ledger: Ledger, thread: int) -> Request:
    """A task of its own, and the request that its route allows."""
    task_id = f"bench-{time.monotonic_ns()}-{thread}"
    project = f"/home/dev/project-{thread % 6}"
    await ledger.open_task(Task(task_id=task_id, project=project, goal="g", created_at=datetime.now(UTC)))
    await ledger.route(Route(route_id=task_id, task_id=task_id, decision="draft", tier="cheap", rule="r", reason="r"))
    return Request(
        task_id=task_id, route_id=task_id, stage="draft", tier="cheap", model="openai/tiny", messages=(),
        max_output_tokens=1, timeout_s=1, prompt_id="draft.v1@aa",
    )  # fmt: skip


def settled_per_second(path: Path, calls: int) -> tuple[float, list[float]]:
    """Calls a second over all threads, and the milliseconds that each took from its reservation to its settlement."""
    start, taken = threading.Barrier(THREADS + 1), list[float]()

    async def work(thread: int) -> None:
        ledger = open_ledger(f"sqlite://{path}", state_dir=path.parent)
        asked = await asked_by(ledger, thread)
        await anyio.to_thread.run_sync(start.wait)
        for number in range(calls // THREADS):
            began = time.perf_counter()
            request = asked.model_copy(update={"digest": f"{asked.task_id}-{number}"})
            await ledger.settle(await ledger.reserve(request, 4_000_000, BUDGETS), PAID)
            taken.append((time.perf_counter() - began) * 1000)
        await ledger.close()

    threads = [threading.Thread(target=anyio.run, args=(work, thread)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(taken) / (time.perf_counter() - began), taken


def durable_rows_per_second(folder: Path, rows: int = 500) -> float:
    """What one connection manages that does nothing but commit one row at a time, safe from a power cut."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as conn:
        conn.execute("pragma journal_mode = wal")
        conn.execute("pragma synchronous = full")
        conn.execute("create table if not exists rows (at text primary key, cost integer)")
        began = time.perf_counter()
        for _ in range(rows):
            conn.execute("insert into rows values (?, 1)", (str(time.monotonic_ns()),))
        return rows / (time.perf_counter() - began)


def tell(name: str, path: Path, calls: int) -> float:
    """Print the best of three rounds: the machine's other work only ever takes away."""
    best, bare, cuts = 0.0, 0.0, list[float]()
    for _ in range(ROUNDS):
        bare = max(bare, durable_rows_per_second(path.parent))
        found, taken = settled_per_second(path, calls)
        if found > best:
            best, cuts = found, quantiles(taken, n=100)
    print(
        f"{name:<22} {best:>7.0f} settled calls/s   p50 {cuts[49]:>6.1f} ms   p99 {cuts[98]:>6.1f} ms   "
        f"bare durable rows {bare:>6.0f}/s: {bare / best:.1f} for each call",
        flush=True,
    )
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2400)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="where to make the full ledger, or find the one made before")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierkit-bench-") as folder:
        small, large = Path(folder) / "small" / "ledger.db", args.keep or Path(folder) / "ledger.db"
        prepare(small)
        empty = tell("an empty ledger", small, args.calls)
        if not large.exists():
            large.parent.mkdir(parents=True, exist_ok=True)
            build(large, args.rows, args.rows // 200)
        prepare(large)
        full = tell(f"{args.rows:,} rows", large, args.calls)
    print(f"a full ledger takes {empty / full:.2f} times as long; at least {LEAST_PER_SECOND}/s is asked of it")
    return int(full < LEAST_PER_SECOND)


if __name__ == "__main__":
    sys.exit(main())
