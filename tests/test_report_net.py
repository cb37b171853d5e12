"""What a report says first: what was spent, what is left of it as a saving, what nobody knows, and what to do next."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from mcp_tierkit.amounts import dollars
from mcp_tierkit.cli import run
from mcp_tierkit.ledger.budget import Kind
from tests.reports import add_call, open_task, receipt, tell, users_ledger

ROOT = Path(__file__).parent.parent
SAVED = ["0.0500", "0.0900"]


@pytest.fixture
def at() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@pytest.fixture
def conn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """The ledger of a user in whose project the report is asked for."""
    with users_ledger(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
def asked(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `tierkit report` with some words and gives what it prints."""

    def ask(*words: str) -> str:
        capsys.readouterr()
        assert run(["report", *words]) == 0
        return capsys.readouterr().out

    return ask


def paid(conn: sqlite3.Connection, task_id: str, at: str, **call: Any) -> None:
    """A task of one cent with a call."""
    open_task(conn, task_id, at)
    add_call(conn, task_id, at=at, **{"cost_nanousd": 10_000_000, **call})


def saved(conn: sqlite3.Connection, task_id: str, at: str) -> None:
    """A task of one cent whose receipt says 5 to 9 cents alone, and nothing passed through the caller."""
    paid(conn, task_id, at)
    tell(conn, task_id, receipt("0.01", SAVED, ["0.0400", "0.0800"]))


def test_every_known_dollar_is_in_the_net_whatever_it_was_spent_on(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    saved(conn, "draft", at)
    paid(conn, "seen", at, tier="strong", stage="review", cost_nanousd=90_000_000)
    paid(conn, "doctor", at, stage="doctor", cost_nanousd=2_000_000)
    paid(conn, "unpriced", at)
    add_call(conn, "unpriced", at=at, status="failed", reserved_nanousd=5_000_000)
    paid(conn, "skill", at, stage="playbook")
    found = json.loads(asked("--json"))
    assert found["savings"]["net_nanousd"] == [50_000_000 - 122_000_000, 90_000_000 - 122_000_000]
    assert found["savings"]["cost_nanousd"] == found["overview"]["spend"]["cost_nanousd"] == 122_000_000
    levers = {one["lever"]: one["low"] for one in found["savings"]["levers"]}
    assert levers == {"cheap_drafts": 40_000_000, "reviews": -90_000_000, "other_calls": -22_000_000}
    told = "Delegating lost $0.0320 to $0.0720"
    for words in ((), ("--all",), ("--levers",)):
        assert told in asked(*words)
    asked("--html", str(tmp_path / "page.html"))
    drawn = (tmp_path / "page.html").read_text("utf8")
    assert 'Delegating lost <span class="loss">$0.0320 to $0.0720</span>' in drawn
    assert "Not in it: 1 call of unknown cost, up to $0.0050." in drawn


@pytest.mark.parametrize("seed", range(5))
def test_levers_add_up_to_all_that_was_saved_less_all_that_was_spent(
    conn: sqlite3.Connection, at: str, asked: Any, seed: int
) -> None:
    chance, alone, spent = random.Random(seed), 0, 0
    saved(conn, "first", at)
    for number in range(40):
        task_id = f"t{number}"
        cost: int | None = 0
        open_task(conn, task_id, at)
        for _ in range(chance.randrange(4)):
            some = chance.choice((None, 0, chance.randrange(10**9)))
            stage, tier = chance.choice(("draft", "review", "playbook")), chance.choice(("cheap", "strong"))
            add_call(conn, task_id, tier, stage, at=at, cost_nanousd=some, reserved_nanousd=None)
            cost = None if some is None or cost is None else cost + some
            spent += some or 0
        kind = chance.choice(("usd", "tokens", "untold", "reverted"))
        if kind == "tokens":
            tell(conn, task_id, {"measured": {}, "estimated": {"alone_tokens": [10, 20]}, "net": [5, 15]})
        elif kind != "untold" and cost is not None:
            tell(conn, task_id, receipt(dollars_exact(cost), SAVED, [dollars_exact(50_000_000 - cost), "9"]))
            alone += 50_000_000 * (kind == "usd")
        if kind == "reverted":
            row = (task_id, at, "reverted", '{"outcome": "reverted"}')
            conn.execute("insert into scores (task_id, at, outcome, record) values (?, ?, ?, ?)", row)
    found = json.loads(asked("--json"))["savings"]
    assert found["net_nanousd"][0] == alone + 50_000_000 - spent - 10_000_000
    for side, net in zip(("low", "high"), found["net_nanousd"], strict=True):
        assert sum(one[side] for one in found["levers"] if one["unit"] == "nanousd") == net


def dollars_exact(nanousd: int) -> str:
    return f"{'-' if nanousd < 0 else ''}{abs(nanousd) // 10**9}.{abs(nanousd) % 10**9:09}"


def test_what_passed_through_the_caller_for_a_review_is_charged_where_its_model_has_a_price(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    saved(conn, "draft", at)
    paid(conn, "seen", at, stage="review")
    tell(conn, "seen", {"measured": {"usd": "0.01", "caller_tokens": [1000, 100]}, "estimated": None, "net": None})
    assert "Not in it: 1,100 tokens through your agent, of tasks without an estimate." in asked()
    (tmp_path / "tierkit.toml").write_text('[caller]\nmodel = "anthropic/claude-opus-4-6"\n')
    levers = {one["lever"]: one["low"] for one in json.loads(asked("--json"))["savings"]["levers"]}
    assert levers["handovers"] == -(1000 * 5 + 100 * 25) * 1000
    assert "Not in it" not in asked()


def test_many_short_handovers_are_not_priced_as_one_long_prompt(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    saved(conn, "draft", at)
    for number in range(5):
        paid(conn, f"seen{number}", at, stage="review")
        told = {"measured": {"usd": "0.01", "caller_tokens": [50_000, 100]}, "estimated": None, "net": None}
        tell(conn, f"seen{number}", told)
    (tmp_path / "tierkit.toml").write_text('[caller]\nmodel = "gemini/gemini-2.5-pro"\n')  # Dearer above 200,000.
    levers = {one["lever"]: one["low"] for one in json.loads(asked("--json"))["savings"]["levers"]}
    assert levers["handovers"] == -5 * (50_000 * 1_250 + 100 * 10_000)


def test_a_caller_on_a_subscription_is_told_what_its_quota_cost_in_dollars(
    conn: sqlite3.Connection, at: str, asked: Any
) -> None:
    paid(conn, "draft", at)
    tell(conn, "draft", {"measured": {}, "estimated": {"alone_tokens": [1100, 2260]}, "net": [1000, 2160]})
    assert "Delegating saved 1,000 tokens to 2,160 tokens of your agent's quota, for $0.0100." in asked()


def test_a_budget_stop_is_no_draft_that_was_not_kept(conn: sqlite3.Connection, at: str, asked: Any) -> None:
    saved(conn, "draft", at)
    for number, kind in enumerate(get_args(Kind)):
        task_id = f"stop{number}"
        open_task(conn, task_id, at)
        conn.execute("insert into decisions (task_id, at, kind) values (?, ?, ?)", (task_id, at, kind))
        names = "task_id, at, status, record"
        conn.execute(f"insert into drafts ({names}) values (?, ?, 'over_budget', '{{}}')", (task_id, at))
        tell(conn, task_id, receipt("0", None, ["-0.0010", "-0.0010"]))
    found = json.loads(asked("--json"))
    assert found["overview"]["refused_calls"] == len(get_args(Kind)) == 5
    assert [(one["lever"], one["tasks"]) for one in found["savings"]["levers"]] == [("cheap_drafts", 1), ("unasked", 5)]
    assert found["savings"]["unsaid"] == []
    assert (found["ends"]["stopped"], found["ends"]["lost"]) == (5, 0)
    told = asked()
    assert "5 refused by a budget or the breaker" in told
    assert "5 stopped by a budget or the breaker" in told


def test_a_task_that_was_stopped_after_a_model_was_asked_is_one_without_a_result(
    conn: sqlite3.Connection, at: str, asked: Any
) -> None:
    paid(conn, "asked", at)
    conn.execute("insert into drafts (task_id, at, status, record) values ('asked', ?, 'over_budget', '{}')", (at,))
    ends = json.loads(asked("--json"))["ends"]
    assert (ends["stopped"], ends["lost"]) == (0, 1)


@pytest.mark.parametrize("settings", ['[budget]\nday_usd = "abc"\n', "[oops]\n", "[budget"])
@pytest.mark.usefixtures("conn")
def test_settings_that_cannot_be_read_are_named_and_the_sums_told_without_them(
    tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tierkit.toml").write_text(settings)
    assert run(["report"]) == 0
    printed = capsys.readouterr()
    assert "tierkit.toml" in printed.err
    assert "Shown without budgets, billing and prices of your own." in printed.err
    assert "Nothing is recorded for these days." in printed.out


def test_unknown_and_quota_are_never_shown_as_zero(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    paid(conn, "unknown", at, cost_nanousd=None, status="failed")
    paid(conn, "bounded", at, cost_nanousd=None, status="failed", reserved_nanousd=5_000_000)
    paid(conn, "quota", at, cost_nanousd=None, billing="subscription", input_tokens=7, output_tokens=1)
    asked("--html", str(tmp_path / "page.html"))
    rows = (tmp_path / "page.html").read_text("utf8").partition('<table class="tasks">')[2].split("<tr>")[2:]
    cells = [row.partition('data-label="Spent"')[2].partition(">")[2].partition("<")[0] for row in rows]
    assert cells == ["quota", "up to $0.0050", "unknown"]
    lines = asked("--all").partition("Latest tasks\n")[2].splitlines()[1:4]
    assert [line.rpartition("draft")[2].strip() for line in lines] == ["quota", "up to $0.0050", "unknown"]
    assert "$0 " not in "\n".join(asked().splitlines()[:3])


def test_the_report_fits_one_screen_and_the_rest_is_asked_for(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    (tmp_path / "tierkit.toml").write_text('[budget]\nday_usd = "2"\nmonth_usd = "9"\nproject_usd = "50"\n')
    for number in range(30):
        saved(conn, f"t{number}", at)
        conn.execute(
            "insert into drafts (task_id, at, status, record) values (?, ?, 'applied', '{}')", (f"t{number}", at)
        )
    shown = asked()
    assert len(shown.splitlines()) <= 40
    for part in ("of tokens", "rewrites", "comments", "defects", "verdict", "Budgets", "Dearest tasks", "\nNext\n"):
        assert part in shown
    assert "tierkit outcome t29 accepted|edited|reverted" in shown
    assert "By model" not in shown
    assert {"By day", "By model", "By type of task"} <= set(asked("--all").splitlines())


def test_where_more_is_known_than_a_screen_holds_the_rest_is_named(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    """Three tiers that are paid for in three ways, calls of unknown cost and in flight, and every limit set."""
    (tmp_path / "tierkit.toml").write_text(
        '[budget]\nday_usd = "2"\nmonth_usd = "9"\nproject_usd = "50"\n[tiers.strong]\nmodels = ["openai/m"]\n'
        'billing = "subscription"\n'
    )
    for number in range(12):
        task_id = f"t{number:012}"
        saved(conn, task_id, at)
        add_call(conn, task_id, "strong", "repair", at=at, billing="subscription", input_tokens=90, output_tokens=9)
        add_call(conn, task_id, "cheap", "climb", at=at, status="failed", reserved_nanousd=5_000_000)
        conn.execute("insert into drafts (task_id, at, status, record) values (?, ?, 'applied', '{}')", (task_id, at))
    told = terminal("report")
    assert len(told) <= 40
    assert re.search(
        r"Not on this screen: (what results came to, )?dearest tasks\. More:\s+tierkit report", " ".join(told)
    )
    assert max(map(len, told)) <= 80
    both = asked("--all")
    spent = {
        line.split()[0]: line for line in both.split("Dearest tasks")[1].split("What results")[0].splitlines()[2:-1]
    }
    results = both.split("What results came to")[1].split("Scores of results")[0].splitlines()[2:-1]
    for line in results:
        assert "$0.0100 + quota + up to $0.0050" in line
    assert len(spent) == 10
    assert all(line.endswith("$0.0100 + quota + up to $0.0050") for line in spent.values())


def terminal(*words: str) -> list[str]:
    """What a terminal of 80 columns shows, line by line."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "dumb", "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", "mcp_tierkit", *words], stdout=theirs, env=env) as done:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux says so at the end of a terminal.
            while chunk := os.read(ours, 65536):
                shown += chunk
    os.close(ours)
    assert done.returncode == 0
    return shown.decode().replace("\r", "").splitlines()


def test_a_prompt_whose_text_changed_is_listed(conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any) -> None:
    paid(conn, "before", at, prompt_id="draft.v1/code@aa")
    assert "Prompts whose text changed" not in asked("--all")
    paid(conn, "after", at, prompt_id="draft.v2/code@bb", category=None)
    [change] = json.loads(asked("--json"))["prompt_changes"]
    assert (change["task_id"], change["before"], change["after"]) == ("after", "draft.v1/code@aa", "draft.v2/code@bb")
    lines = asked("--all").splitlines()
    assert lines[lines.index("Prompts whose text changed, where it first ran") + 2].split()[1:] == [
        "after", "draft.v1/code@aa", "draft.v2/code@bb"
    ]  # fmt: skip
    asked("--html", str(tmp_path / "page.html"))
    assert "The text of a prompt changed 1 time" in (tmp_path / "page.html").read_text("utf8")


def test_a_page_on_stdout_is_the_page_alone(conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any) -> None:
    saved(conn, "draft", at)
    assert asked("--html", "-").startswith("<!doctype html>\n")
    assert not (tmp_path / "shop" / "-").exists()
    assert run(["report", "--html", "-", "--json"]) == 2


def test_the_page_names_each_task_and_says_what_to_do(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    saved(conn, "t0123", at)
    conn.execute("insert into drafts (task_id, at, status, record) values ('t0123', ?, 'applied', '{}')", (at,))
    asked("--html", str(tmp_path / "page.html"))
    drawn = (tmp_path / "page.html").read_text("utf8")
    assert "<small>t0123</small>" in drawn
    assert "No verdict yet: nobody said what became of the one result." in drawn
    assert "tierkit outcome t0123 accepted|edited|reverted" in re.sub("<[^>]*>", "", drawn)
    assert ">not told yet</span>" in drawn
    assert "The small figure" not in drawn


@pytest.mark.parametrize("words", [["report"], ["checklist"], ["prices", "--pins"], ["score", "t1"]])
@pytest.mark.usefixtures("conn")
def test_a_ledger_of_an_older_version_is_read_as_it_is_by_whichever_command_comes_first(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    from sqlite_utils import Database

    from mcp_tierkit.ledger.migrations import migrations

    with closing(sqlite3.connect(tmp_path / "older.db", isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0006_sums_for_reports")
        old.execute("pragma user_version = 5")
        old.execute("insert into owners values ('o', 'lock', 1, 'then')")
        open_task(old, "t1", at)
        old.execute("update tasks set project = ?", (str(tmp_path / "shop"),))
    monkeypatch.setenv("TIERKIT_LEDGER", f"sqlite://{tmp_path}/older.db")
    assert run(words) in (0, 1)
    assert "replaced by an older one" not in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / "older.db")) as old:
        assert old.execute("pragma user_version").fetchone()[0] == 5


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (None, "unknown"), (0, "$0"), (-1_300_000, "-$0.0013"), (12_300_000_000, "$12.30"), (647_430, "$0.0006"),
        (-(2**62), "-$4,611,686,018"),
        (1_234_567_000_000_000, "$1,234,567"), (99_999, "$0.000100"), (7, "$0.000000007"),
    ],
)  # fmt: skip
def test_an_amount_has_as_many_places_as_its_size_deserves(nanousd: int | None, text: str) -> None:
    assert dollars(nanousd) == text
