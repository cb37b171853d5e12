"""What a report tells beside dollars: quota, machine time, what became of tasks, and what transcripts measured."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.ledger.scores import COUNTED
from mcp_tierkit.ledger.spending import next_dollar
from mcp_tierkit.scorecard import LineCount
from tests.reports import add_call, open_task, receipt, tell, users_ledger
from tests.transcripts import answer, asked, result, tool, usage, write

NOW = datetime.now(UTC)
AT = NOW.isoformat(timespec="milliseconds")
USED: dict[str, Any] = {"input_tokens": 700, "cached_tokens": 200, "output_tokens": 100}


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day of the test, not that on which its file was read: the report takes its own clock's."""
    now = datetime.now(UTC)
    monkeypatch.setattr(sys.modules[__name__], "NOW", now)
    monkeypatch.setattr(sys.modules[__name__], "AT", now.isoformat(timespec="milliseconds"))


@pytest.fixture
def conn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """The ledger of a user without budgets, in whose project the report is asked for."""
    with users_ledger(tmp_path, monkeypatch) as opened:
        yield opened


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert run(["report", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(["report", *words]) == 0
    return capsys.readouterr().out


def page(tmp_path: Path) -> str:
    assert run(["report", "--html", str(tmp_path / "report.html")]) == 0
    return (tmp_path / "report.html").read_text("utf8")


def paid_in_three_ways(conn: sqlite3.Connection) -> None:
    """A call by the token, two within a subscription, one on a machine with a price and one on one without."""
    open_task(conn, "a", AT)
    add_call(conn, "a", at=AT, cost_nanousd=3_000_000, billing="api", **USED)
    add_call(conn, "a", "strong", at=AT, billing="subscription", **USED)
    add_call(conn, "a", "strong", at=AT, billing="subscription", status="failed")
    add_call(conn, "a", at=AT, cost_nanousd=1_000_000, billing="local", **USED)
    add_call(conn, "a", at=AT, cost_nanousd=0, billing="local", **USED)


def test_quota_is_no_dollars_and_machine_time_is_named(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paid_in_three_ways(conn)
    found = told(capsys)
    spend = found["overview"]["spend"]
    assert (spend["cost_nanousd"], spend["unpriced_calls"]) == (4_000_000, 0)
    assert (spend["quota_calls"], spend["quota_tokens"]) == (2, 1000)
    assert {one["key"]: (one["spend"]["calls"], one["spend"]["cost_nanousd"]) for one in found["by_billing"]} == {
        "api": (1, 3_000_000), "local": (2, 1_000_000), "subscription": (2, 0)
    }  # fmt: skip
    assert [(one["tier"], one["tokens"], one["cost"], one["quota"]) for one in found["shares"]] == [
        ("cheap", 0.75, 1.0, 0.0), ("strong", 0.25, 0.0, 1.0)
    ]  # fmt: skip
    assert [found["tasks"][0]["spend"][name] for name in ("quota_tokens", "unpriced_calls")] == [1000, 0]
    text = shown(capsys)
    assert "$0.0040 for 5 model calls; 1 task opened; 2 calls within a subscription: 1,000 tokens of quota; " in text
    assert "$0.0010 of it machine time." in text
    [strong] = [line.split() for line in text.splitlines() if line.startswith("strong")]
    assert strong == ["strong", "2", "40.0%", "25.0%", "0%", "100%", "quota"]
    assert "unpriced" not in text
    assert "unknown" not in text
    drawn = page(tmp_path)
    for words in ("and 1,000 tokens of quota", "Quota over time", '<th scope="col">Tokens of quota</th>',
                  "$0.0010 of it is machine time", "<b>Quota</b>"):  # fmt: skip
        assert words in drawn, words
    run(["report", "--csv", str(tmp_path / "tables")])
    rows = list(csv.DictReader((tmp_path / "tables/by_billing.csv").read_text("utf8").splitlines()))
    assert [(row["billing"], row["cost_usd"], row["quota_tokens"]) for row in rows] == [
        ("api", "0.003", "0"), ("local", "0.001", "0"), ("subscription", "0", "1000")
    ]  # fmt: skip


def test_who_pays_by_subscription_alone_sees_quota_first_and_no_empty_chart(
    conn: sqlite3.Connection, tmp_path: Path
) -> None:
    open_task(conn, "a", AT)
    add_call(conn, "a", at=AT, billing="subscription", **USED)
    drawn = page(tmp_path)
    assert "Delegating cost quota, no dollars; what it saved is not known" in drawn
    assert "Quota used of a subscription" in drawn
    assert "Spend over time" not in drawn
    kinds = drawn.partition("What kind of work it was")[2].partition("</section>")[0]
    assert '<rect class="t-plain" width="100.000%"' in kinds
    assert "not known, at most" not in drawn


def test_the_most_of_calls_without_any_limit_is_not_made_up(
    conn: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    open_task(conn, "a", AT)
    add_call(conn, "a", at=AT, status="failed", reserved_nanousd=5_000_000)
    add_call(conn, "a", "strong", at=AT, status="failed", reserved_nanousd=None)
    text = shown(capsys)
    assert "2 of the calls of unknown cost, up to $0.0050, 1 of them without any limit known" in text
    assert told(capsys)["overview"]["spend"]["unbounded_calls"] == 1


def end_of_each_kind(conn: sqlite3.Connection) -> None:
    def draft(task_id: str, *statuses: str) -> None:
        for status in statuses:
            conn.execute(
                "insert into drafts (task_id, at, status, record) values (?, ?, ?, '{}')", (task_id, AT, status)
            )

    def ran(task_id: str, status: str, *, dry_run: bool) -> None:
        row = (task_id, AT, "rename", "1.0.0", "ab", status, 5, json.dumps({"dry_run": dry_run}))
        names = "task_id, at, playbook, version, digest, status, ms, record"
        conn.execute(f"insert into playbook_runs ({names}) values (?, ?, ?, ?, ?, ?, ?, ?)", row)

    for task_id in ("applied", "twice", "taken", "failed", "ran", "tried", "seen", "planned"):
        open_task(conn, task_id, AT)
    open_task(conn, "yours", AT, decision="do_it_yourself")
    draft("applied", "applied")
    draft("twice", "ready", "needs_work")
    draft("taken", "applied")
    score = ("taken", AT, "reverted", '{"outcome": "reverted"}')
    conn.execute("insert into scores (task_id, at, outcome, record) values (?, ?, ?, ?)", score)
    draft("failed", "needs_work")
    ran("ran", "ok", dry_run=False)
    ran("tried", "ok", dry_run=True)
    conn.execute("insert into reviews (task_id, at, verdict, record) values ('seen', ?, 'clean', '{}')", (AT,))


def test_what_became_of_tasks_is_told_and_each_is_counted_once(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end_of_each_kind(conn)
    found = told(capsys)
    assert found["ends"] == {
        "of": 9, "kept": 3, "failed": 0, "gone": 0, "reverted": 1, "lost": 1, "stopped": 0, "reviewed": 1, "skipped": 1,
        "open": 2,
    }  # fmt: skip
    # "taken" and "failed" gave the work back; of the others nobody said what became of them.
    assert found["verdicts"] == {"helped": 0, "neutral": 0, "moved_work": 2, "unknown": 4}
    text = shown(capsys)
    assert "Tasks: 3 kept, 1 taken back, 1 without a result, 1 only reviewed, 1 left to your agent, 2 planned" in text
    assert "Of the newest 6 results, 2 are judged: 0 helped, 2 only moved the work." in text
    drawn = page(tmp_path)
    assert "3 of 5" in drawn
    assert "2 only moved the work" in drawn


def test_a_command_that_failed_and_says_so_is_neither_kept_nor_without_a_result(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task_id, output in (("passed", {}), ("told", {"exit_code": 1}), ("welcome", {"exit_code": 1}), ("broke", None)):
        open_task(conn, task_id, AT)
        status = "ok" if task_id == "passed" else "failed"
        row = (task_id, AT, "quick-tests", "1.0.0", "ab", status, 5, json.dumps({"output": output}))
        names = "task_id, at, playbook, version, digest, status, ms, record"
        conn.execute(f"insert into playbook_runs ({names}) values (?, ?, ?, ?, ?, ?, ?, ?)", row)
    # Whoever wanted to see it fail may say so.
    score = ("welcome", AT, "accepted", '{"outcome": "accepted"}')
    conn.execute("insert into scores (task_id, at, outcome, record) values (?, ?, ?, ?)", score)
    ends = told(capsys)["ends"]
    assert [ends[name] for name in ("of", "kept", "failed", "lost")] == [4, 2, 1, 1]
    assert "Tasks: 2 kept, 1 whose command failed, 1 without a result." in shown(capsys)
    drawn = page(tmp_path)
    assert "2 of 4" in drawn
    assert "1 whose command failed · 1 without a result" in drawn
    assert "Command failed" in drawn


def test_a_dry_run_of_a_playbook_is_no_run(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end_of_each_kind(conn)
    found = told(capsys)
    assert (found["overview"]["playbook_runs"], [one["runs"] for one in found["playbooks"]]) == (1, [1])


def test_what_a_skill_cost_is_listed_once(conn: sqlite3.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    for task_id in ("skill", "plain"):
        open_task(conn, task_id, AT)
        add_call(conn, task_id, at=AT, stage="playbook" if task_id == "skill" else "draft", cost_nanousd=70)
    names = "task_id, at, playbook, version, digest, status, ms, record, kind, tokens, cost_nanousd"
    row = ("skill", AT, "judge", "1.0.0", "ab", "ok", 5, "{}", "skill", 900, 70)
    conn.execute(f"insert into playbook_runs ({names}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    assert told(capsys)["savings"]["unsaid"] == [
        {"what": "playbooks", "count": 1, "cost_nanousd": 70}, {"what": "no_baseline", "count": 1, "cost_nanousd": 70}
    ]  # fmt: skip


def test_what_reviews_keep_finding_is_of_these_days(
    conn: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        task_id = f"old{number}"
        open_task(conn, task_id, (NOW - timedelta(days=40)).isoformat())
        row = (task_id, AT, "findings", "{}")
        review = conn.execute("insert into reviews (task_id, at, verdict, record) values (?, ?, ?, ?)", row)
        names = "review_id, task_id, file, line, severity, klass, claim"
        found = (review.lastrowid, task_id, "a.py", 3, "minor", "edge_case", "x")
        conn.execute(f"insert into findings ({names}) values (?, ?, ?, ?, ?, ?, ?)", found)
    assert [pattern["times"] for pattern in told(capsys, "--days", "60")["patterns"]] == [4]
    assert told(capsys)["patterns"] == []


def test_changes_that_nobody_counted_are_told_with_the_way_on(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {"a": "applied", "b": "ready", "c": "needs_work", "d": "applied"}
    for task_id, status in ends.items():
        open_task(conn, task_id, AT)
        conn.execute("insert into drafts (task_id, at, status, record) values (?, ?, ?, '{}')", (task_id, AT, status))
    lines = LineCount(changed_lines=4, rewritten_lines=0, is_final=True).model_dump_json()
    later = (NOW + timedelta(seconds=1)).isoformat(timespec="milliseconds")
    conn.execute("insert into decisions (task_id, at, kind, detail) values ('d', ?, ?, ?)", (later, COUNTED, lines))
    sentence = "How much of 2 changes was rewritten is not counted yet: tierkit checklist counts what is due."
    assert sentence in shown(capsys)
    assert sentence in page(tmp_path)


def test_a_task_whose_only_call_is_still_answered_has_no_cost_of_zero(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task_id, used in (("a", {"status": "reserved", "reserved_nanousd": 9}), ("b", {"cost_nanousd": 0, **USED})):
        open_task(conn, task_id, AT)
        add_call(conn, task_id, at=AT, **used)
        conn.execute("update tasks set state = 'running', owner_id = 'o' where task_id = ?", (task_id,))
    latest = shown(capsys, "--all").split("Latest tasks")[1].split("\n\n")[0].splitlines()
    assert {line[0]: line.split("  ")[-1].strip() for line in latest[2:]} == {"a": "in flight", "b": "$0"}
    assert ">in flight<" in page(tmp_path)


def test_the_next_dollar_is_a_whole_one(conn: sqlite3.Connection) -> None:
    open_task(conn, "a", AT)
    for category, cost in zip("abcdefg", (1, 1, 1, 5, 7, 11, 13), strict=True):
        add_call(conn, "a", at=AT, cost_nanousd=cost, category=category)
        add_call(conn, "a", at=(NOW - timedelta(days=8)).isoformat(), cost_nanousd=14 - cost, category=category)
    parts = [part for part in next_dollar(conn, NOW.date()).parts if part.by == "category"]
    assert sum(Fraction(str(part.share)) for part in parts) == 1
    assert sum(Fraction(str(part.share_before)) for part in parts) == 1


def plant(home: Path, task_id: str, model: str) -> None:
    """A session that hands one task over, in two calls: 40 tokens fresh, 210 read, 40 written for an hour, 25 out."""
    at = [NOW + timedelta(minutes=minute) for minute in range(4)]
    name = "mcp__tierkit__draft_with_cheap_model"
    write(home / ".claude" / "projects" / "-home-ada-shop" / f"{task_id}.jsonl", [
        asked("words", at[0], f"u-{task_id}"),
        answer(f"asks-{task_id}", at[1], usage(10, 100, 0, 40, 20), tool(f"d-{task_id}", name, task="words")),
        result(f"d-{task_id}", json.dumps({"task_id": task_id, "status": "applied"}), at[2]),
        answer(f"reads-{task_id}", at[3], usage(30, 110, 0, 0, 5), model=model),
    ])  # fmt: skip


def test_transcripts_take_the_place_of_what_receipts_estimate_of_the_caller(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [f"t00000000000{number}" for number in range(4)]
    for task_id in ids:
        open_task(conn, task_id, AT)
        add_call(conn, task_id, at=AT, cost_nanousd=1_000_000, billing="api", **USED)
        tell(conn, task_id, receipt("0.001", ["0.0500", "0.0900"], ["0.0480", "0.0880"]))
    tokens = {"measured": {"usd": "0.001"}, "estimated": {"alone_tokens": [1100, 2260]}, "net": [1000, 2160]}
    tell(conn, ids[1], tokens)
    plant(tmp_path, ids[0], "claude-opus-4-6")
    plant(tmp_path, ids[1], "claude-opus-4-6")
    plant(tmp_path, ids[2], "claude-nobody-knows-9")
    before = told(capsys)["savings"]
    assert (before["measured_tasks"], before["tasks"]) == (0, 4)
    # The net of the second is in tokens; what it cost in dollars is in the net of those all the same.
    assert before["net_nanousd"] == [3 * 48_000_000 - 1_000_000, 3 * 88_000_000 - 1_000_000]
    after = told(capsys, "--transcripts")["savings"]
    # Of claude-opus-4-6, in thousands of nanodollars: fresh 5, read 0.5, written for an hour 10, output 25.
    caller = (40 * 5 + 210 // 2 + 40 * 10 + 25 * 25) * 1000
    assert after["net_nanousd"] == [
        50_000_000 - 1_000_000 - caller + 48_000_000 - 2_000_000,
        90_000_000 - 1_000_000 - caller + 88_000_000 - 2_000_000,
    ]  # fmt: skip
    assert after["net_tokens"] == [1100 - 105, 2260 - 105]
    assert (after["measured_tasks"], after["tasks"]) == (2, 3)
    assert [(one["what"], one["count"]) for one in after["unsaid"]] == [("no_baseline", 1)]
    for side, net in zip(("low", "high"), after["net_nanousd"], strict=True):
        assert sum(one[side] for one in after["levers"] if one["unit"] == "nanousd") == net
    text = shown(capsys, "--levers", "--transcripts")
    assert "Estimated from 3 of 4 tasks: what the work would have cost your agent alone" in text
    assert "Your agent's side of 2 was measured in its transcripts." in text
    (tmp_path / "tierkit.toml").write_text("[caller]\ntranscripts = true\n")
    assert told(capsys)["savings"] == after
