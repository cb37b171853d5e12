"""What a report says in words: what helped, what could not be priced and why, and that a table does not show it all."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.ledger.spending import DayTier, Gauge
from mcp_tierkit.ledger.told import by_answer, told
from mcp_tierkit.page import page, said
from mcp_tierkit.page.charts import DOLLARS, columns, span
from mcp_tierkit.scorecard import Facts, LineCount, score
from mcp_tierkit.stages.outcome import Outcome, outcome_reply
from mcp_tierkit.types import Score
from tests.reports import add_call, open_task, receipt, tell, users_ledger

USED: dict[str, Any] = {"input_tokens": 700, "cached_tokens": 0, "output_tokens": 100}
MEASURE = """<script>addEventListener("load", () => { document.body.dataset.hidden = [...document.querySelectorAll(
    ".scroll")].filter((one) => one.clientWidth).map((one) => one.scrollWidth - one.clientWidth).join(" ");
    const [above, below] = [...document.querySelectorAll(".ranges")].map((one) => one.getBoundingClientRect());
    if (below) document.body.dataset.gap = below.top - above.bottom;
    const all = document.documentElement;
    document.body.dataset.over = all.scrollWidth - all.clientWidth; });</script>
"""


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def at(now: datetime) -> str:
    return now.isoformat(timespec="milliseconds")


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


def draft(conn: sqlite3.Connection, task_id: str, at: str, status: str, outcome: str | None = None) -> None:
    """A task of one cent whose draft ended so, and what was said of it."""
    open_task(conn, task_id, at)
    add_call(conn, task_id, at=at, cost_nanousd=10_000_000, **USED)
    conn.execute("insert into drafts (task_id, at, status, record) values (?, ?, ?, '{}')", (task_id, at, status))
    if outcome:
        told_so = (task_id, at, outcome, json.dumps({"outcome": outcome}))
        conn.execute("insert into scores (task_id, at, outcome, record) values (?, ?, ?, ?)", told_so)


def test_what_results_were_judged_as_is_no_word_on_whether_it_pays(conn: sqlite3.Connection, at: str) -> None:
    """Most moved the work, and still the net is a gain: the sentence counts, the net speaks of money."""
    for number, (status, outcome) in enumerate([("needs_work", None)] * 4 + [("applied", "accepted")] * 2):
        draft(conn, f"t{number}", at, status, outcome)
        tell(conn, f"t{number}", receipt("0.01", ["0.5000", "0.9000"], ["0.4000", "0.8000"]))
    draft(conn, "open", at, "applied")
    found = told(conn, 30, datetime.now(UTC))
    assert said.headline(found).words == "saved"
    assert said.verdict(found) == "Of the newest 7 results, 6 are judged: 2 helped, 4 only moved the work."
    drawn = page(found)
    assert said.verdict(found) in drawn
    assert not re.search(r"\bpays?\b", drawn.replace("would not have paid", ""))


def test_calls_that_could_not_be_priced_are_told_with_what_is_missing(
    conn: sqlite3.Connection, at: str, asked: Any
) -> None:
    open_task(conn, "t1", at)
    rate: dict[str, Any] = {"routed_price": "1/4", "served_price": "1/4", "reserved_nanousd": 9}
    add_call(conn, "t1", "strong", at=at, served_model="large-1", **{**USED, "cached_tokens": 500}, **rate)
    assert "1 call of large-1 (strong) could not be priced: its price names no cache_read." in asked()
    for _ in range(2):
        add_call(conn, "t1", at=at, served_model="tiny-1", **rate)
    add_call(conn, "t1", at=at, served_model="paid-1", **USED, cost_nanousd=5)
    for _ in range(3):
        add_call(conn, "t1", at=at, served_model="new-1", **USED)
    add_call(conn, "t1", at=at, served_model="plan-1", billing="subscription", **USED)
    shown = asked()
    assert "3 calls of new-1 (cheap) could not be priced: the model has no price. Set price under" in shown
    assert "2 calls of tiny-1 (cheap) could not be priced: no tokens were reported." in shown
    missing = [(one["model"], one["missing"], one["calls"]) for one in json.loads(asked("--json"))["unpriced"]]
    assert missing == [("new-1", "price", 3), ("tiny-1", "usage", 2), ("large-1", "rate", 1)]


def test_a_call_that_was_never_answered_is_in_the_row_of_the_model_it_asked_for(
    conn: sqlite3.Connection, at: str, now: datetime
) -> None:
    open_task(conn, "t1", at)
    add_call(conn, "t1", at=at, routed_model="openai/m", served_model="m", cost_nanousd=7, **USED)
    add_call(conn, "t1", at=at, routed_model="openai/m", status="failed", cost_nanousd=0)
    add_call(conn, "t1", at=at, routed_model="openai/silent", status="failed", cost_nanousd=0)
    add_call(conn, "t1", at=at, served_model="elsewhere/m", cost_nanousd=9, **USED)
    found = told(conn, 30, now).by_model
    assert [(one.key, one.spend.calls) for one in found] == [("elsewhere/m", 1), ("m", 2), ("openai/silent", 1)]
    assert by_answer(found) == found


def test_a_table_that_does_not_show_every_row_says_so(conn: sqlite3.Connection, at: str, asked: Any) -> None:
    for number in range(15):
        draft(conn, f"t{number}", at, "needs_work")
    titles = {"What results came to (-: not known)", "Scores of results, 5 to 1 (-: not known)", "Latest tasks"}
    lines = set(asked("--all").splitlines())
    assert titles <= lines
    assert "Dearest tasks, the first 10" in lines
    draft(conn, "t15", at, "needs_work")
    assert {f"{title}, the newest 15 of 16: more with --html" for title in titles} <= set(asked("--all").splitlines())


def test_large_counts_have_separators_and_no_line_begins_with_a_mark_for_what_cannot_be_shown(
    conn: sqlite3.Connection, at: str, asked: Any
) -> None:
    open_task(conn, "t1", at)
    used = {**USED, "input_tokens": 5_550_000, "cached_tokens": 1000}
    add_call(conn, "t1", at=at, cost_nanousd=7, cache_saved_nanousd=900_000, **used)
    tell(conn, "t1", receipt(None, None, [2022, 5180]) | {"estimated": {"alone_tokens": [3022, 6180]}})
    shown = asked("--levers")
    assert re.search(r"all together +2,022 +5,180", shown)
    assert "\nA provider's cache made the calls of tasks without a net in dollars $0.0009 cheaper" in shown
    assert "?A" not in shown
    assert "  5,551,000  " in asked("--all")
    assert asked("--days", "1").startswith("Last 1 day, UTC")


def test_the_stopped_are_not_all_blamed_on_a_budget(conn: sqlite3.Connection, at: str, now: datetime) -> None:
    draft(conn, "t1", at, "applied")
    open_task(conn, "t2", at)
    conn.execute("insert into drafts (task_id, at, status, record) values ('t2', ?, 'over_budget', '{}')", (at,))
    assert "1 stopped by a budget or the breaker" in page(told(conn, 30, now))


@pytest.mark.parametrize("days", [1, 2, 3, 5, 8, 14, 30, 31, 62])
def test_the_marks_of_a_chart_name_its_ends_and_are_as_far_from_each_other_as_can_be(days: int) -> None:
    until = date(2026, 11, 22)
    since = until - timedelta(days=days - 1)
    drawn = columns("Spend", [], since, until, DOLLARS)
    marks = [datetime.strptime(f"{text} 2026", "%d %b %Y") for text in re.findall(r">(\d+ [A-Z]\w+)</text>", drawn)]
    assert (marks[0].date(), marks[-1].date()) == (since, until)
    assert len(marks) == min(days, 5)
    gaps = [(later - earlier).days for earlier, later in pairwise(marks)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def heights(*cents: int) -> tuple[list[float], str]:
    """How high the column of each day is drawn, as a share of the chart, and all that is drawn."""
    until = date(2026, 11, 22)
    since = until - timedelta(days=len(cents) - 1)
    rows = [
        DayTier(day=f"{since + timedelta(days=at)}", tier="cheap", cost_nanousd=cent * 10**7, unknown_nanousd=0,
                tokens=0, quota_tokens=0)
        for at, cent in enumerate(cents)
    ]  # fmt: skip
    drawn = columns("Spend", rows, since, until, DOLLARS)
    return [float(height) for height in re.findall(r'class="t-cheap"[^>]* height="([\d.]+)%"', drawn)], drawn


def test_one_very_dear_day_does_not_flatten_the_others_and_is_told_with_its_amount() -> None:
    shares, drawn = heights(3, 2, 5000, 3)
    assert shares == [93.75, 62.5, 100.0, 93.75]
    assert ">$50.00</text>" in drawn
    assert "A column with a gap is higher than the chart." in drawn
    shares, drawn = heights(10, 2, 50, 3)
    assert shares[2] > 80 > 5 > shares[1]
    assert "gap" not in drawn


def test_a_day_of_which_nobody_knows_the_cost_is_not_a_day_of_nothing(
    conn: sqlite3.Connection, at: str, now: datetime
) -> None:
    before = (now - timedelta(days=1)).isoformat()
    for task_id, when in (("t1", at), ("t2", before)):
        open_task(conn, task_id, when)
        add_call(conn, task_id, at=when, cost_nanousd=10_000_000 if when == at else None)
    add_call(conn, "t1", at=at, cost_nanousd=None, tier="strong")
    drawn = page(told(conn, 30, now))
    day, yesterday = (f"{one.day} {one:%b}" for one in (now, now - timedelta(days=1)))
    tips = re.findall(r'data-tip="([^"]*)"', drawn)
    assert [tip.partition(": ")[2] for tip in tips if tip.startswith((day, yesterday))] == [
        "1 call of unknown cost", "$0.0100 (cheap $0.0100) and 1 call of unknown cost"
    ]  # fmt: skip
    assert len(re.findall(r">\?</text>", drawn)) == 1
    assert "?: cost not known at all" in drawn
    # Sorted by cost, what is not known has no figure: it stays last.
    assert re.findall(r'data-label="Spent"(?: data-value="(\d+)")?', drawn) == ["", "10000000"]


def test_the_full_part_of_a_range_is_its_least_and_the_pale_part_reaches_to_its_most() -> None:
    def parts(low: int, high: int) -> dict[str, tuple[float, float]]:
        drawn = span(low, high, -50, 50)
        found = re.findall(r'class="([a-z]+(?: pale)?)"[^>]*? x="([\d.]+)%" width="([\d.]+)%"', drawn)
        return {klass: (float(left), float(left) + float(width)) for klass, left, width in found}

    assert parts(10, 40) == {"gain pale": (60.0, 90.0), "gain": (50.0, 60.0)}
    assert parts(-40, -10) == {"loss pale": (10.0, 40.0), "loss": (40.0, 50.0)}
    assert parts(-30, -30) == {"loss": (20.0, 50.0)}
    assert parts(-20, 10) == {"even pale": (30.0, 60.0)}


def test_a_chart_that_begins_later_than_the_report_says_why(conn: sqlite3.Connection, at: str, now: datetime) -> None:
    draft(conn, "t1", at, "applied")
    first = datetime.fromisoformat(at).date()
    drawn = page(told(conn, 30, now))
    assert f"The first call was on {first.day} {first:%B}." in drawn
    assert drawn.count("data-tip=") == 4  # Of three days before it one can see that nothing was there.
    assert "The first call was on" not in page(told(conn, 3, now))


def test_one_call_without_tokens_is_missing_and_two_are(conn: sqlite3.Connection, at: str, now: datetime) -> None:
    open_task(conn, "t1", at)
    add_call(conn, "t1", at=at, cost_nanousd=7)
    assert "1 call named no tokens and is missing here." in page(told(conn, 30, now))
    add_call(conn, "t1", at=at, cost_nanousd=7)
    assert "2 calls named no tokens and are missing here." in page(told(conn, 30, now))


def test_a_page_that_cannot_be_written_is_told_with_its_folder(
    conn: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "--html", str(tmp_path / "nowhere/page.html")]) == 2
    assert f"{tmp_path}/nowhere/page.html could not be written" in capsys.readouterr().err


def test_one_task_that_was_looked_at_is_no_tasks(
    conn: sqlite3.Connection, at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    open_task(conn, "t1", at)
    conn.execute("update tasks set project = ?, budget_key = ?", (str(Path.cwd()), str(Path.cwd())))
    assert run(["playbook", "suggest"]) == 0
    assert capsys.readouterr().out.startswith("1 task since ")


def test_one_file_that_was_restored_is_no_files() -> None:
    found = Outcome(score(Facts(task_id="t1", goal="g", project="p", created_at="x")), LineCount(), (), None)
    told_so = Score(task_id="t1", outcome="reverted")
    assert " 1 file restored." in outcome_reply(found, told_so, ("a.py",))["summary"]
    assert " 2 files restored." in outcome_reply(found, told_so, ("a.py", "b.py"))["summary"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_a_browser_shows_every_column_of_the_task_list_and_keeps_dollars_from_quota(
    conn: sqlite3.Connection, at: str, now: datetime, tmp_path: Path
) -> None:
    for number in range(3):
        draft(conn, f"t{number}23456789012", at, "needs_work" if number else "over_budget")
        add_call(conn, f"t{number}23456789012", at=at, status="failed", reserved_nanousd=34_600_000)
    for task_id in ("dollars", "quota"):
        draft(conn, task_id, at, "applied")
    tell(conn, "dollars", receipt("0.01", ["0.5", "0.9"], ["0.4", "0.8"]))
    tell(conn, "quota", receipt(None, None, [2022, 5180]) | {"estimated": {"alone_tokens": [3022, 6180]}})
    drawn = page(told(conn, 30, now))
    assert "$0.0100 + up to $0.0346" in drawn
    seen = measured(drawn, tmp_path)
    [hidden] = re.findall(r'data-hidden="([\d ]+)"', seen)
    assert set(hidden.split()) == {"0"}
    [gap] = re.findall(r'data-gap="([\d.]+)"', seen)
    assert float(gap) >= 18


def measured(drawn: str, folder: Path) -> str:
    """The page as a browser has it, with what does not fit written on its body."""
    open_to_measure = re.sub("<meta http-equiv=[^>]*>", "", drawn).replace("</head>", f"{MEASURE}</head>")
    (folder / "page.html").write_text(open_to_measure, "utf8")
    browser = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/browser"]
    return subprocess.run(
        [*browser, "--window-size=1100,900", "--dump-dom", f"file://{folder}/page.html"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_a_long_sentence_on_top_and_a_long_project_make_no_page_wider_than_its_window(
    conn: sqlite3.Connection, at: str, now: datetime, tmp_path: Path
) -> None:
    draft(conn, "quota", at, "applied")
    conn.execute("update tasks set project = '/p/infrastructure-and-deployment-scripts-of-the-whole-company-2026'")
    tell(conn, "quota", receipt(None, None, [210_000, 687_000]) | {"estimated": {"alone_tokens": [300_000, 777_000]}})
    drawn = page(told(conn, 30, now))
    assert "210 k tokens to 687 k tokens of your agent&#x27;s quota, for $0.0100" in drawn
    seen = measured(drawn, tmp_path)
    assert 'data-over="0"' in seen
    assert set(re.findall(r'data-hidden="([\d ]+)"', seen)[0].split()) == {"0"}


@pytest.mark.parametrize("is_named", [False, True])
def test_only_a_user_who_named_no_model_of_the_callers_is_told_to(
    conn: sqlite3.Connection, at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_named: bool
) -> None:
    (tmp_path / "tierkit.toml").write_text('[caller]\nmodel = "claude-opus-5-5"\n' if is_named else "")
    open_task(conn, "t1", at=at)
    add_call(conn, "t1", stage="review", at=at, cost_nanousd=1000)
    conn.commit()
    assert run(["report"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert ("name your agent's model" in shown) is not is_named
    assert ("only reviews, recipes and calls of unknown cost" in shown) is is_named


def test_a_result_is_told_alike_on_page_and_terminal_and_nothing_is_asked_of_what_nobody_can_judge(
    conn: sqlite3.Connection, at: str, now: datetime, asked: Any
) -> None:
    draft(conn, "stopped", at, "over_budget")
    draft(conn, "lost", at, "needs_work")
    draft(conn, "waits", at, "applied")
    draft(conn, "open", at, "applied", "accepted")
    draft(conn, "plan", at, "applied")
    conn.execute("update calls set cost_nanousd = null, billing = 'subscription' where task_id = 'plan'")
    results = asked().partition("What results came to")[2].partition("\n\n")[0].splitlines()[2:]
    shown = {line.split()[0]: re.split(" {2,}", line)[-1] for line in results}
    assert shown == {
        "stopped": "-", "lost": "moved work", "waits": "not told yet", "open": "not known", "plan": "not told yet"
    }  # fmt: skip
    [plan] = [line.split() for line in results if line.startswith("plan")]
    assert plan[1] == "quota"
    drawn = page(told(conn, 30, now))
    rows = re.findall(r"<small>(\w+)</small>.*?Worth it\?\"[^>]*>(?:<span[^>]*>)?([^<]*)<", drawn)
    assert dict(rows) == shown
    assert "Without a verdict yet: 2." in drawn


def test_one_task_is_told_as_one(conn: sqlite3.Connection, at: str, now: datetime) -> None:
    draft(conn, "t1", at, "applied")
    drawn = page(told(conn, 30, now))
    for words in ("How the one task ended.", "Was it worth it? Of the one result", "The one task. Press a heading"):
        assert words in drawn, words


def test_what_a_result_is_weighed_against_is_told_in_a_column_of_its_unit(
    conn: sqlite3.Connection, at: str, tmp_path: Path, asked: Any
) -> None:
    for task_id in ("dollars", "quota", "none"):
        draft(conn, task_id, at, "applied")
    tell(conn, "dollars", receipt("0.01", ["0.5", "0.9"], ["0.48", "0.88"]))
    tell(conn, "quota", receipt(None, None, [2022, 5180]) | {"estimated": {"alone_tokens": [3022, 6180]}})
    asked("--csv", str(tmp_path / "tables"))
    rows = csv.DictReader((tmp_path / "tables/scorecards.csv").read_text("utf8").splitlines())
    names = [f"{name}_{unit}" for unit in ("usd", "tokens") for name in ("alone_low", "alone_high", "ours")]
    assert {row["task_id"]: [row[name] for name in names] for row in rows} == {
        "dollars": ["0.5", "0.9", "0.02", "", "", ""], "quota": ["", "", "", "3022", "6180", "1000"], "none": [""] * 6
    }  # fmt: skip
    assert not {"unit", "cost", "key"} & set(rows.fieldnames or ())


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0, "0 s"), (0.4, "0.4 s"), (59.6, "60 s"), (160, "160 s"), (725, "12 min")]
)
def test_a_time_has_as_many_places_as_its_size_deserves(seconds: float | None, text: str) -> None:
    assert said.time(seconds) == text


@pytest.mark.parametrize(
    ("spent", "wanted"),
    [
        (0, ("$2.00", "of $2.00")),
        (4_000_000, ("$2.00", "of $2.00, $0.0040 spent")),
        (40_000_000, ("$1.96", "of $2.00")),
        (2_000_000_000, ("$0", "of $2.00, used up")),
    ],
)
def test_what_was_spent_shows_where_the_rounded_rest_of_a_budget_hides_it(
    conn: sqlite3.Connection, at: str, now: datetime, spent: int, wanted: tuple[str, str]
) -> None:
    draft(conn, "t1", at, "applied")
    gauge = Gauge(budget="day", key="2026-11-22", spent_nanousd=spent, limit_nanousd=2_000_000_000)
    drawn = page(told(conn, 3, now).model_copy(update={"budgets": (gauge,)}))
    assert f"<p>{wanted[1]}</p>" in drawn
    assert f">{wanted[0]}</p>" in drawn


def test_a_call_that_its_user_cancelled_asks_nobody_for_usage(conn: sqlite3.Connection, at: str, now: datetime) -> None:
    draft(conn, "t1", at, "cancelled")
    add_call(conn, "t1", at=at, status="cancelled", reserved_nanousd=5_000_000)
    assert "could not be priced" not in " ".join(said.next_steps(told(conn, 3, now)))
    add_call(conn, "t1", at=at, status="settled", reserved_nanousd=5_000_000)
    assert "report usage" in " ".join(said.next_steps(told(conn, 3, now)))
