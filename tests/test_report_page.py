"""`tierkit report` as a page, as CSV files and lever by lever, from ledgers of no, three and ten thousand tasks."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.types import Completion, Usage
from tests.reports import add_call, new_ledger, open_task, receipt, tell
from tests.support import JOB, RIGHT, client_at, make_config, make_project

NOW = datetime.now(UTC)
GOALS = ("</script><script>alert(1)</script>", "a \"quoted\" 'goal' & <b>bold</b>", "turned\u202eround \u2066\x1b[31m")
VOID = {"meta", "link", "input"}


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day of the test, not that on which its file was read: the report takes its own clock's."""
    now = datetime.now(UTC)
    monkeypatch.setattr(sys.modules[__name__], "NOW", now)


class Page(HTMLParser):
    """A page's elements with their attributes, its texts, and whether every element is closed by its own end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.bodies: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.bodies[self._open[-1]] = self.bodies.get(self._open[-1], "") + data
        else:
            self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a budget and a project of their own, in whose folder the report is asked for."""
    project = tmp_path / "shop"
    project.mkdir()
    settings = tmp_path / "tierkit.toml"
    settings.write_text('[budget]\nday_usd = "2"\nmonth_usd = "0.01"\n')
    for name, value in {
        "HOME": str(tmp_path), "TIERKIT_CONFIG": str(settings), "TIERKIT_STATE_DIR": str(tmp_path / "state"),
        "TIERKIT_LEDGER": f"sqlite://{tmp_path}/ledger.db",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)
    return tmp_path


def iso(days_ago: float = 0) -> str:
    return (NOW - timedelta(days=days_ago)).isoformat(timespec="milliseconds")


def three_tasks(conn: sqlite3.Connection) -> None:
    """A draft that paid, one whose price nobody knows, and a review of 9,000 tokens that were drafted before."""
    for at, goal in enumerate(GOALS):
        open_task(conn, f"t{at}", iso(), goal=goal)
    used: dict[str, Any] = {"input_tokens": 1000, "cached_tokens": 0, "output_tokens": 9000}
    add_call(conn, "t0", at=iso(), cost_nanousd=4_000_000, category="tests", **used)
    review: dict[str, Any] = {"input_tokens": 10_000, "output_tokens": 3000, "cost_nanousd": 90_000_000}
    add_call(conn, "t0", "strong", "review", at=iso(), category="tests", **review)
    tell(conn, "t0", receipt("0.094", ["0.2", "0.4"], ["0.1", "0.3"]))
    add_call(conn, "t1", at=iso(), status="failed", reserved_nanousd=70_000_000, served_model="<i>m</i>")
    add_call(conn, "t2", at=iso(9), cost_nanousd=1_000_000, category="=cmd()", **used)


def many_tasks(conn: sqlite3.Connection, number: int) -> None:
    """That many tasks, each with a call."""
    count = f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {number})"
    at = f"strftime('%Y-%m-%dT%H:%M:%S', '{NOW:%Y-%m-%dT%H:%M:%S}', '-' || ((i * 7919) % 29) || ' days')"
    conn.executescript(f"""begin;
        insert into tasks (task_id, project, budget_key, created_at, record)
            {count} select 't' || i, '/p/' || (i % 40), '/p', {at}, '{{"goal": "Do it"}}' from n;
        insert into routes select 'r-' || task_id, task_id, created_at, 'draft', 'cheap', 'x', '{{}}' from tasks;
        insert into calls (call_id, task_id, route_id, owner_id, at, stage, tier, requested_model, routed_model, status,
                prompt_id, cost_nanousd, input_tokens, output_tokens, category)
            select task_id, task_id, 'r-' || task_id, 'o', created_at, 'draft', 'cheap', 'm', 'm' || (rowid % 30),
                'settled', 'p', 1000 * rowid, 9, 9, 'code' from tasks;
        commit;""")


def page_of(home: Path, *arguments: str) -> Page:
    file = home / "report.html"
    assert run(["report", "--html", str(file), *arguments]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir() if path.name.endswith(".new")] == []
    return Page(file.read_text("utf8"))


def is_closed_off(page: Page) -> bool:
    """Whether the page can load, send and run nothing but its own two texts."""
    [policy] = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    digests = {
        tag: base64.b64encode(hashlib.sha256(page.bodies[tag].encode()).digest()).decode() for tag in page.bodies
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    names = {name for _, attributes in page.elements for name in attributes}
    outside = {"src", "style", "srcset", "action", "background"} | {name for name in names if name.startswith("on")}
    links = [
        value for tag, attributes in page.elements if tag != "link" for value in (attributes.get("href"),) if value
    ]
    is_plain = not names & outside and links == [] and "url(" not in page.bodies["style"]
    return is_plain and len(page.named("script")) == 1


def test_an_empty_ledger_gives_a_page_that_says_what_to_do(home: Path) -> None:
    page = page_of(home)
    assert "Nothing is recorded" in page.text
    assert is_closed_off(page)
    assert not (home / "ledger.db").exists()


def test_three_tasks_are_shown_with_every_figure_and_no_text_of_theirs_is_markup(home: Path) -> None:
    with new_ledger(home / "ledger.db") as conn:
        three_tasks(conn)
    page = page_of(home)
    assert is_closed_off(page)
    for goal in GOALS[:2]:
        assert goal in page.text
    assert not set("".join(page.texts)) & set("\u202e\u2066\x1b")
    keys = ["cheap", "strong", "unknown", "cheap", "strong"]
    assert page.named("i") == [{"class": f"t-{key} key"} for key in keys]
    # 9,000 drafted of 33,000 tokens in all with what was read before; the review read the draft: 10,000 of 12,000.
    for told in (
        "Delegating saved $0.0990 to $0.2990 Estimated from 1 of 3 tasks: what the work would have cost your agent "
        "alone, less what handing it over cost it. The $0.0950 that model calls of all tasks cost is taken off. "
        "Not in it: 1 call of unknown cost, up to $0.0700.",
        "No verdict yet: there is no result to judge.",
        "Spent on models $0.0950 4 model calls, 3 tasks opened and up to $0.0700 not known",
        "Done by the cheap tier 60.6% of all tokens, and 5.3% of the known dollars",
        "Left this month $0 of $0.0100, used up $1.",
        "cheap 60.6% · strong 39.4%",
        "83.3% of what models read was for repairs, climbs and reviews",
        "Your agent itself read 190 tokens of replies and wrote 60",
        f"this month used up ${'0.1650' if NOW.day > 9 else '0.1640'} of $0.0100",
        "All of 3 tasks",
    ):
        assert told in page.text, told
    assert len([one for one in page.named("g") if "data-tip" in one]) == 13  # Ten, and three before the first call.
    assert {"lang": "en"} in page.named("html")
    heads = [one for one in page.named("th") if one.get("scope") == "col" and "data-kind" in one]
    assert [one["aria-sort"] for one in heads] == ["none"] * 10


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (["-0.3000", "-0.1000"], "Delegating lost $0.1000 to $0.3000"),
        (["-0.1000", "0.2000"], "Delegating came out between a loss of $0.1000 and a saving of $0.2000"),
        (["0.2000", "0.2000"], "Delegating saved $0.2000 Estimated from"),
        (None, "Delegating cost $0.0050; what it saved is not known No receipt says what was saved: name your agent"),
    ],
)
def test_the_page_begins_with_what_was_saved_or_lost(home: Path, net: list[str] | None, sentence: str) -> None:
    with new_ledger(home / "ledger.db") as conn:
        open_task(conn, "t1", iso())
        add_call(conn, "t1", at=iso(), cost_nanousd=5_000_000)
        wide = float(net[1]) - float(net[0]) if net else 0
        tell(conn, "t1", receipt("0.005", ["0.3000", f"{0.3 + wide:.4f}"], net))
    assert sentence in page_of(home).text


def test_ten_thousand_tasks_are_summed_up_and_the_newest_listed(home: Path) -> None:
    with new_ledger(home / "ledger.db") as conn:
        many_tasks(conn, 10_000)
    page = page_of(home)
    assert "The newest 300 of 10,000 tasks" in page.text
    assert 300 < len(page.named("tr")) < 360
    assert (home / "report.html").stat().st_size < 400_000
    assert "32 others" in page.text
    assert is_closed_off(page)
    years = page_of(home, "--days", "3650")
    assert len([one for one in years.named("g") if "data-tip" in one]) <= 62
    assert "everything until" in years.text


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_of_the_page_is_one_that_node_can_read() -> None:
    script = Path(__file__).parent.parent / "mcp_tierkit/data/report/page.js"
    subprocess.run(["node", "--check", str(script)], check=True, capture_output=True)


def test_a_name_of_one_csv_file_is_refused_and_the_way_on_is_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with new_ledger(home / "ledger.db") as conn:
        three_tasks(conn)
    assert run(["report", "--csv", str(home / "out.csv")]) == 2
    told = capsys.readouterr()
    assert "writes one per table into a folder. Nothing was written." in told.err
    assert "tierkit report --csv out" in told.err
    assert not (home / "out.csv").exists()


def test_each_table_is_a_csv_file_that_a_spreadsheet_may_open(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with new_ledger(home / "ledger.db") as conn:
        three_tasks(conn)
    assert run(["report", "--csv", str(home / "tables")]) == 0
    tables = {
        file.stem: list(csv.DictReader(file.read_text("utf8").splitlines())) for file in (home / "tables").glob("*.csv")
    }
    assert len(tables) == 25
    assert capsys.readouterr().out == f"Wrote 25 tables into {home / 'tables'}\n"
    assert [(row["tier"], row["cost_usd"], row["unknown_usd"]) for row in tables["by_tier"]] == [
        ("cheap", "0.005", "0.07"), ("strong", "0.09", "0")
    ]  # fmt: skip
    assert [row["category"] for row in tables["by_category"]] == ["", "'=cmd()", "tests"]
    assert [tuple(row.values()) for row in tables["levers"]] == [
        ("cheap_drafts", "1", "0.19", "0.39", "", ""), ("reviews", "1", "-0.09", "-0.09", "", ""),
        ("other_calls", "1", "-0.001", "-0.001", "", ""),
    ]  # fmt: skip
    assert list(tables["levers"][0]) == ["lever", "tasks", "low_usd", "high_usd", "low_tokens", "high_tokens"]
    assert tables["next_dollar"][0] == {"by": "tier", "key": "strong", "share": "0.9574", "share_before": "0.0"}
    assert tables["playbooks"] == []
    assert {row["tier"]: row["share_of_cost"] for row in tables["shares"]} == {"cheap": "0.0526", "strong": "0.9474"}
    assert {row["goal"] for row in tables["tasks"]} >= set(GOALS[:2])


def test_levers_are_told_with_what_is_not_known(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with new_ledger(home / "ledger.db") as conn:
        three_tasks(conn)
    assert run(["report", "--levers"]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert "Delegating saved $0.0990 to $0.2990." in shown
    assert ["reviews,", "at", "their", "cost", "1", "-$0.0900", "-$0.0900"] in rows
    assert ["all", "together", "$0.0990", "$0.2990"] in rows
    assert [row[-2:] for row in rows if row[:2] == ["tasks", "without"]] == [["2", "unknown"]]
    assert run(["report", "--levers", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for side in (0, 1):
        assert told["net_nanousd"][side] == sum(lever[("low", "high")[side]] for lever in told["levers"])


def test_shares_count_a_draft_that_was_read_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with new_ledger(home / "ledger.db") as conn:
        three_tasks(conn)
    run(["report", "--days", "5", "--json"])
    told = json.loads(capsys.readouterr().out)
    # 9,000 drafted and 3,000 refined would be 75 to 25; with what was read, the draft included, it is less.
    assert told["token_share_by_tier"] == {"cheap": 0.4348, "strong": 0.5652}
    assert (told["reread_tokens"], told["untold_calls"]) == (10_000, 1)
    assert [(gauge["budget"], gauge["limit_nanousd"]) for gauge in told["budgets"]] == [
        ("day", 2_000_000_000), ("month", 10_000_000)
    ]  # fmt: skip
    run(["report", "--days", "5"])
    shown = capsys.readouterr().out
    [cheap] = [line.split() for line in shown.splitlines() if line.startswith("cheap")]
    assert cheap == ["cheap", "2", "66.7%", "43.5%", "4.3%", "$0.0040", "+", "up", "to", "$0.0700"]
    assert "10.0 k tokens were read by repairs, climbs and reviews" in shown


def test_two_projects_of_one_name_are_told_apart(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with new_ledger(home / "ledger.db") as conn:
        for at, folder in enumerate(("/ada/shop", "/bob/shop", "/ada/site", "/")):
            open_task(conn, f"t{at}", iso())
            conn.execute("update tasks set project = ? where task_id = ?", (folder, f"t{at}"))
            add_call(conn, f"t{at}", at=iso(), cost_nanousd=1_000_000 * (at + 1))
    shown = page_of(home).text
    for name in ("ada/shop 1 call", "bob/shop 1 call", "site 1 call", "/ 1 call"):
        assert name in shown, name
    assert run(["report", "--all"]) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0] for line in text.partition("By project\n")[2].partition("\n\n")[0].splitlines()}
    assert rows == {"project", "ada/shop", "bob/shop", "site", "/"}


@pytest.mark.parametrize("of", ["link", "device", "folder"])
def test_what_is_no_file_of_its_own_is_never_replaced(home: Path, capsys: pytest.CaptureFixture[str], of: str) -> None:
    """As root `--html /dev/null` would leave a machine without it."""
    kept, named = home / "kept.txt", home / "report.html"
    kept.write_text("kept")
    if of == "link":
        named.symlink_to(kept)
    elif of == "device":
        os.mkfifo(named)
    else:
        named = home / "tables"
        named.mkdir()
        (named / "by_day.csv").symlink_to(kept)
    before = named.lstat()
    assert run(["report", "--csv" if of == "folder" else "--html", str(named)]) == 2
    assert "was not changed" in capsys.readouterr().err
    assert (named.lstat().st_mode, kept.read_text()) == (before.st_mode, "kept")
    assert list(home.glob("**/.tierkit-*")) == []


def test_a_folder_for_tables_that_cannot_be_made_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "file").write_text("")
    assert run(["report", "--csv", str(home / "file/tables")]) == 2
    assert "could not be made (Not a directory). Nothing was written." in capsys.readouterr().err


def test_json_beside_a_page_is_one_document(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--json", "--html", str(home / "a.html"), "--csv", str(home / "tables")]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["days"] == 30
    assert "Wrote" in printed.err


def test_no_text_in_a_table_is_a_formula_or_steers_a_terminal(home: Path) -> None:
    with new_ledger(home / "ledger.db") as conn:
        for at, goal in enumerate(("=1", "\t+1", " -1", "＠SUM", "x\x1b]0;y\x07z\u202e", "a\nb")):
            open_task(conn, f"t{at}", iso(), goal=goal)
    assert run(["report", "--csv", str(home / "tables")]) == 0
    rows = csv.DictReader((home / "tables/tasks.csv").read_text("utf8").splitlines())
    told = [row["goal"] for row in rows][::-1]
    assert told == ["'=1", "' +1", "' -1", "'＠SUM", "x ]0;y z ", "a b"]


def test_a_name_of_any_length_makes_no_table_and_no_page_wide(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with new_ledger(home / "ledger.db") as conn:
        open_task(conn, "t1", iso(), goal="g" * 5000)
        add_call(conn, "t1", at=iso(), served_model="m" * 5000, category="c" * 5000, cost_nanousd=5)
    assert max(len(text) for text in page_of(home).texts) <= 260
    assert run(["report", "--all"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 200


@pytest.mark.parametrize("words", [("--all",), ("--levers",)])
def test_a_terminal_that_knows_ascii_alone_is_told_all_the_same(home: Path, words: tuple[str, ...]) -> None:
    with new_ledger(home / "ledger.db") as conn:
        three_tasks(conn)
        open_task(conn, "t9", iso(), goal="Größe – " + "lang " * 20)
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "mcp_tierkit", "report", *words]
    done = subprocess.run(command, env=env, cwd=home / "shop", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert words == ("--levers",) or b"Gr??e ? lang" in done.stdout


def test_a_page_that_cannot_be_written_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--html", str(home / "nowhere/report.html")]) == 2
    assert "could not be written" in capsys.readouterr().err


async def drafted(home: Path) -> dict[str, Any]:
    config = make_config(make_project(home / "app"), home / "own")
    silent = Completion(text=RIGHT, usage=Usage(), served_model="tiny-cheap")
    async with client_at(config, ScriptedGateway((silent,))) as client:
        result = await client.call_tool("draft_with_cheap_model", JOB)
    reply: dict[str, Any] = result.structured_content
    return reply


def test_tokens_that_nobody_counted_are_null_on_the_receipt(tmp_path: Path) -> None:
    reply = anyio.run(drafted, tmp_path)
    assert reply["status"] == "applied"
    assert (reply["receipt"]["measured"]["tokens"], reply["receipt"]["measured"]["usd"]) == (None, None)
