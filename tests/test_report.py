"""`tierkit report` on real ledgers: every figure is a sum of rows, and what is unknown is never shown as free."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.errors import OverBudget
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.migrations import migrations
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.types import (
    Budgets,
    Call,
    Draft,
    PackedFile,
    PlaybookRun,
    Request,
    Review,
    Route,
    Task,
    TierName,
    Usage,
)
from tests.reports import add_call, open_task

ROOT = Path(__file__).parent.parent
NOW = datetime.now(UTC)
TIERS: tuple[TierName, ...] = ("cheap", "strong")
LONG_AGO = NOW - timedelta(days=10)


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day of the test, not that on which its file was read: the report takes its own clock's."""
    now = datetime.now(UTC)
    monkeypatch.setattr(sys.modules[__name__], "NOW", now)
    monkeypatch.setattr(sys.modules[__name__], "LONG_AGO", now - timedelta(days=10))


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A ledger's address, as the environment of a user names it."""
    named = f"sqlite://{tmp_path}/ledger.db"
    monkeypatch.setenv("TIERKIT_LEDGER", named)
    monkeypatch.chdir(tmp_path)
    return named


async def opened(ledger: Ledger, task_id: str, goal: str, at: datetime) -> None:
    await ledger.open_task(Task(task_id=task_id, project="/home/dev/shop", goal=goal, created_at=at))
    for tier in TIERS:
        route = Route(
            route_id=f"{tier}-{task_id}", task_id=task_id, decision="draft", tier=tier, rule="x", reason="y"
        )  # fmt: skip
        await ledger.route(route)


async def reserve(
    ledger: Ledger, task_id: str, tier: TierName, worst: int | None, budgets: Budgets | None = None
) -> str:
    request = Request.model_validate({
        "task_id": task_id, "route_id": f"{tier}-{task_id}", "stage": "draft", "tier": tier, "model": f"openai/{tier}",
        "messages": (), "max_output_tokens": 9, "timeout_s": 9, "prompt_id": "draft.v1@aa",
    })  # fmt: skip
    return await ledger.reserve(request, worst, budgets or Budgets())


def used(cost: int | None, fresh: int, cached: int, output: int) -> Call:
    usage = Usage(input=fresh, cached_input=cached, cache_write=0, output=output)
    return Call(status="settled", cost_nanousd=cost, usage=usage, served_model="mini")


async def fill(url: str, state: Path) -> None:
    """Two tiers, a call of unknown cost, one in flight, a refused one, a playbook, and a task of ten days ago."""
    clock = Clock()
    ledger = open_ledger(url, state_dir=state, clock=clock)
    clock.at = LONG_AGO
    await opened(ledger, "t0", "Long ago", LONG_AGO)
    await ledger.settle(await reserve(ledger, "t0", "cheap", 10), used(7_000_000_000, 1, 0, 1))
    with pytest.raises(OverBudget):
        await reserve(ledger, "t0", "strong", 900, Budgets(call=1))
    clock.at = NOW
    await opened(ledger, "t1", "Fix the\u202e sum of a cart that takes its discount as a percentage", NOW)
    await ledger.settle(await reserve(ledger, "t1", "cheap", 10), used(3_100_000, 500, 200, 50))
    await ledger.settle(await reserve(ledger, "t1", "strong", 90_000), Call(status="failed", error="timeout"))
    await reserve(ledger, "t1", "strong", 5)
    with pytest.raises(OverBudget):
        await reserve(ledger, "t1", "strong", 900, Budgets(call=1))
    await ledger.save(Draft(task_id="t1", status="applied"))
    await opened(ledger, "t2", "Look at it", NOW)
    await ledger.settle(await reserve(ledger, "t2", "strong", 90_000), used(20_000_000, 150, 0, 100))
    await ledger.save(Review(task_id="t2", verdict="findings"))
    await opened(ledger, "t3", "Run rename-symbol", NOW)
    run_of: dict[str, Any] = {"task_id": "t3", "version": "1.0.0", "digest": "ab"}
    asked: dict[str, Any] = {"playbook": "judge", "kind": "skill", "tokens": 900, "cost_nanousd": 700_000}
    await ledger.save(PlaybookRun(**run_of, **asked, status="ok"))
    for status in ("ok", "declined"):
        await ledger.save(PlaybookRun(**run_of, playbook="rename-symbol", status=status))
    await opened(ledger, "t4", "Only planned", NOW)
    await opened(ledger, "t5", "No model was set", NOW)
    await ledger.claim("t5")
    await ledger.finish("t5", "done", "{}")
    await ledger.close()


@pytest.fixture
def filled(url: str, tmp_path: Path) -> str:
    anyio.run(fill, url, tmp_path / "state")
    return url


def test_nothing_recorded_is_no_failure_and_makes_no_ledger(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report"]) == 0
    assert "Nothing is recorded" in capsys.readouterr().out
    assert not Path(url.removeprefix("sqlite://")).exists()


def test_a_report_needs_no_project(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert run(["report"]) == 0


def test_every_figure_is_the_sum_of_its_rows(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--days", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["overview"] == {
        "tasks": 5, "in_flight_calls": 1, "refused_calls": 1, "playbook_runs": 3, "alerts": 0,
        "spend": {"calls": 4, "cost_nanousd": 23_100_000, "unpriced_calls": 1, "unknown_nanousd": 90_000,
                  "input_tokens": 850, "cached_tokens": 200, "output_tokens": 150,
                  "unbounded_calls": 0, "quota_calls": 0, "quota_tokens": 0},
    }  # fmt: skip
    assert told["token_share_by_tier"] == {"cheap": 0.75, "strong": 0.25}
    for part in ("by_day", "by_tier", "by_model"):
        rows = told[part]
        for name, whole in told["overview"]["spend"].items():
            assert sum(row["spend"][name] for row in rows) == whole, (part, name)
    assert [(task["task_id"], task["draft_status"], task["verdict"]) for task in told["tasks"]] == [
        ("t5", None, None), ("t4", None, None), ("t3", None, None), ("t2", None, "findings"), ("t1", "applied", None)
    ]  # fmt: skip
    assert all(one.pop("last_run") for one in told["playbooks"])
    assert told["playbooks"] == [
        {"playbook": "judge", "runs": 1, "ok": 1, "tokens": 900, "cost_nanousd": 700_000, "quota_runs": 0},
        {"playbook": "rename-symbol", "runs": 2, "ok": 1, "tokens": 0, "cost_nanousd": 0, "quota_runs": 0},
    ]


async def fill_steps(url: str, state: Path) -> None:
    """Calls of three steps and two categories: what was packed for them, and what came from a cache."""
    ledger = open_ledger(url, state_dir=state)
    await opened(ledger, "t1", "Fix the sum", NOW)
    whole, outline = (PackedFile(path=f"{n}.py", shown=n, tokens=100) for n in ("whole", "outline"))
    left_out = PackedFile(path="big.py", shown="left_out", tokens=70_000)
    for stage, category, packed, cached, alert in (
        ("draft", "tests", (whole, outline, left_out), 0, None),
        ("draft", "tests", (whole,), 300, "Dearer."),
        ("continue", "tests", (whole,), 900, None),
        ("climb", "code", (whole,), None, "Dearer."),
    ):
        request = Request.model_validate({
            "task_id": "t1", "route_id": "cheap-t1", "stage": stage, "tier": "cheap", "model": "openai/tiny",
            "messages": (), "max_output_tokens": 9, "timeout_s": 9, "prompt_id": "draft.v1@aa", "category": category,
            "packed": packed,
        })  # fmt: skip
        usage = Usage(input=1000 - (cached or 0), cached_input=cached, cache_write=0, output=1)
        call_id = await ledger.reserve(request, 5, Budgets())
        await ledger.settle(call_id, Call(status="settled", cost_nanousd=5, usage=usage, alert=alert))
    await ledger.close()


def test_it_shows_hit_rates_by_category_and_what_was_packed_by_step(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anyio.run(fill_steps, url, tmp_path / "state")
    assert run(["report", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cache_hits"] == [
        {"category": "tests", "calls": 3, "input_tokens": 3000, "cached_tokens": 1200, "hit_rate": 0.4}
    ]  # the code call does not say
    assert told["context_by_step"] == [
        {"stage": "climb", "calls": 1, "packed_tokens": 100},
        {"stage": "continue", "calls": 1, "packed_tokens": 100},
        {"stage": "draft", "calls": 2, "packed_tokens": 300},
    ]
    assert told["overview"]["alerts"] == 2
    assert run(["report", "--all"]) == 0
    shown = capsys.readouterr().out
    assert "2 at another price than was asked for" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["tests", "3", "3,000", "1,200", "40.0%"] in rows
    assert ["draft", "2", "300", "150"] in rows


def test_days_say_how_far_back(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["report", "--days", "5"])
    assert "Long ago" not in capsys.readouterr().out
    run(["report", "--days", "30"])
    shown = capsys.readouterr().out
    assert "Long ago" in shown
    assert "$7.02 for 5 model calls; 6 tasks opened" in shown


def test_in_a_pipe_it_is_plain_lines(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["report", "--days", "5", "--all"])
    shown = capsys.readouterr().out
    assert shown.isascii() or "…" in shown
    assert not set(shown) & set("\x1b\u202e┃│━─")
    assert (
        "1 of the calls of unknown cost, up to $0.000090; 1 in flight; 1 refused by a budget or the breaker; "
        "3 playbook runs." in shown
    )
    strong = [line.split() for line in shown.splitlines() if line.startswith("strong")]
    known = ["$0.0200", "+", "up", "to", "$0.000090"]
    assert strong == [["strong", "3", "75.0%", "25.0%", "86.6%", *known], ["strong", "3", "150", "0", "100", *known]]
    playbooks = [line.split() for line in shown.splitlines() if line.startswith(("rename-symbol", "judge"))]
    assert playbooks == [["judge", "1", "1", "900", "$0.0007"], ["rename-symbol", "2", "1", "0", "$0"]]


def test_a_task_is_shown_with_what_became_of_it(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["report", "--days", "5", "--all"])
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Latest tasks") + 1
    at = lines[start].index("ended")
    assert {line[:2]: line[at:].split()[0] for line in lines[start + 1 : start + 6]} == {
        "t1": "applied", "t2": "findings", "t3": "declined", "t4": "draft", "t5": "refused"
    }  # fmt: skip


def test_a_terminal_gets_tables_within_its_width(filled: str) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "TIERKIT_LEDGER": filled}
    with subprocess.Popen([sys.executable, "-m", "mcp_tierkit", "report"], stdout=theirs, env=env, cwd=ROOT) as done:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    assert done.returncode == 0
    text = shown.decode()
    assert "─────" in text
    assert "t3" in text
    for name in ("rewrites", "comments", "defects", "verdict"):
        assert name in text
    assert "\u202e" not in text


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # Linux says so at the end of a terminal.
        return b""


@pytest.mark.parametrize("days", ["0", "-1", "x"])
def test_a_number_of_days_that_cannot_be_is_wrong_usage(url: str, days: str) -> None:
    assert run(["report", "--days", days]) == 2


def test_a_ledger_of_an_older_version_is_told_and_left_to_the_server_that_writes_it(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an update a report may well be what is asked for first, while a server of the older version is at work."""
    from sqlite_utils import Database

    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0006_sums_for_reports")
        old.execute("pragma user_version = 5")
        old.execute("insert into owners values ('o', 'lock', 1, 'then')")
        open_task(old, "t1", NOW.isoformat())
        old.execute("pragma journal_mode = wal")
        add_call(old, "t1", at=NOW.isoformat(), cost_nanousd=7_000_000)
        assert run(["report"]) == 0
        assert old.execute("pragma user_version").fetchone()[0] == 5
        add_call(old, "t1", at=NOW.isoformat(), cost_nanousd=2_000_000)
    assert "$0.0070 for 1 model call; 1 task opened." in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("ledger.db*")} == {"ledger.db"}
    assert run(["report"]) == 0
    assert "$0.0090 for 2 model calls; 1 task opened." in capsys.readouterr().out


def test_a_ledger_that_cannot_be_read_is_a_failure(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(url.removeprefix("sqlite://")).write_text(
        "no database, whatever its name says, but a text of some length\n" * 9
    )
    assert run(["report"]) == 1
    assert "The ledger's file is damaged" in capsys.readouterr().err
