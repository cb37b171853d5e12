"""Every way in which a report tells a figure tells the same one, and it is what the rows add up to, counted anew."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.amounts import dollars
from mcp_tierkit.cli import run
from tests.reports import add_call, new_ledger, open_task

NOW = datetime.now(UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
Call = dict[str, Any]
KEYS: dict[str, Callable[[Call], str]] = {
    "by_day": lambda call: call["at"][:10],
    "by_tier": lambda call: call["tier"],
    "by_model": lambda call: call["served_model"] or call["routed_model"],
    "by_category": lambda call: call["category"] or "",
    "by_billing": lambda call: call["billing"] or "",
    "by_project": lambda call: f"/p/{call['task_id'][0]}",
}
TITLES = {"by_model": "By model", "by_category": "By type of task", "by_project": "By project"}


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day of the test, not that on which its file was read: the report takes its own clock's."""
    now = datetime.now(UTC)
    monkeypatch.setattr(sys.modules[__name__], "NOW", now)
    monkeypatch.setattr(sys.modules[__name__], "MIDNIGHT", now.replace(hour=0, minute=0, second=0, microsecond=0))


def at_random(conn: sqlite3.Connection, chance: random.Random) -> Iterator[Call]:
    """Calls of every kind over forty days, many at the very edge of one, for tasks that were opened before them."""
    tasks = ("a1", "a2", "b1")
    for task_id in tasks:
        open_task(conn, task_id, (NOW - timedelta(days=chance.randrange(60))).isoformat())
    for _ in range(150):
        edge = MIDNIGHT - timedelta(days=chance.randrange(40)) + timedelta(milliseconds=chance.choice((-1, 0, 1)))
        call: Call = {
            "task_id": chance.choice(tasks), "tier": chance.choice(("cheap", "strong")),
            "at": min(edge, NOW).isoformat(timespec="milliseconds"), "routed_model": chance.choice(("m1", "m2")),
            "served_model": chance.choice((None, "s1")), "category": chance.choice((None, "tests", "code")),
            "billing": chance.choice((None, "api", "api", "subscription", "local")),
            "status": chance.choice(("reserved", "settled", "failed", "cancelled", "interrupted")),
            **{name: chance.choice((None, 0, chance.randrange(10**6))) for name in (
                "reserved_nanousd", "cost_nanousd", "input_tokens", "cached_tokens", "cache_write_tokens",
                "output_tokens",
            )},
        }  # fmt: skip
        if call["status"] == "reserved":
            call["cost_nanousd"] = None
        if call["billing"] == "subscription":
            call |= {"cost_nanousd": None, "reserved_nanousd": None}
        add_call(conn, **call)
        yield call


def counted(calls: list[Call]) -> dict[str, int]:
    """A Spent, from the rows."""

    def is_unpriced(call: Call) -> bool:
        is_open = call["status"] == "reserved" and call["reserved_nanousd"] is not None
        return call["cost_nanousd"] is None and not is_open and call["billing"] != "subscription"

    def read(call: Call) -> int:
        return sum(call[name] or 0 for name in ("input_tokens", "cached_tokens", "cache_write_tokens"))

    quota = [call for call in calls if call["billing"] == "subscription"]
    return {
        "calls": len(calls),
        "cost_nanousd": sum(call["cost_nanousd"] or 0 for call in calls),
        "unpriced_calls": sum(map(is_unpriced, calls)),
        "unknown_nanousd": sum(call["reserved_nanousd"] or 0 for call in calls if is_unpriced(call)),
        "input_tokens": sum(map(read, calls)),
        "cached_tokens": sum(call["cached_tokens"] or 0 for call in calls),
        "output_tokens": sum(call["output_tokens"] or 0 for call in calls),
        "quota_calls": len(quota),
        "quota_tokens": sum(read(call) + (call["output_tokens"] or 0) for call in quota),
    }


def nanos(dollars: str) -> int:
    exact = Fraction(dollars) * 10**9
    assert exact.denominator == 1
    return exact.numerator


@pytest.mark.parametrize("seed", range(3))
def test_tables_files_and_the_record_tell_what_the_rows_add_up_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    monkeypatch.setenv("TIERKIT_LEDGER", f"sqlite://{tmp_path}/ledger.db")
    monkeypatch.chdir(tmp_path)
    with new_ledger(tmp_path / "ledger.db") as conn:
        calls = list(at_random(conn, random.Random(seed)))
    since = f"{NOW.date() - timedelta(days=29)}"
    calls = [call for call in calls if call["at"][:10] >= since]
    assert run(["report", "--json", "--csv", str(tmp_path / "tables")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert run(["report", "--all"]) == 0
    blocks = {block.split("\n")[0]: block.split("\n")[2:] for block in capsys.readouterr().out.split("\n\n")}
    for table, key in KEYS.items():
        groups = defaultdict[str, list[Call]](list)
        for call in calls:
            groups[key(call)].append(call)
        expected = [(name, counted(groups[name])) for name in sorted(groups)]
        found = [(row["key"], {name: row["spend"][name] for name in expected[0][1]}) for row in told[table]]
        assert found == expected, table
        rows = list(csv.DictReader((tmp_path / f"tables/{table}.csv").read_text("utf8").splitlines()))
        exact = [(next(iter(row.values())), nanos(row["cost_usd"]), nanos(row["unknown_usd"])) for row in rows]
        assert exact == [(name, spend["cost_nanousd"], spend["unknown_nanousd"]) for name, spend in expected], table
        if table in TITLES:
            lines = [line.split() for line in blocks[TITLES[table]] if line]
            shown = [(*(int(cell.replace(",", "")) for cell in line[1:3]), line[5]) for line in lines]
            rounded = [(spend["calls"], spend["input_tokens"], dollars(spend["cost_nanousd"])) for _, spend in expected]
            assert shown == rounded, table
