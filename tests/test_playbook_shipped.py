"""The playbooks that come with the package: their own cases, and cases nobody wrote for them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_tierkit.playbook.cases import run_cases
from mcp_tierkit.playbook.folder import digest, read_folder
from mcp_tierkit.playbook.lint import lint
from mcp_tierkit.playbook.load import Playbook, builtin_root, load
from mcp_tierkit.playbook.trust import is_shipped
from mcp_tierkit.sandbox import Confinement, probe
from tests.playbooks import World, git

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent
NAMES = sorted(path.name for path in builtin_root().iterdir() if path.is_dir())


def shipped(name: str) -> Playbook:
    folder = read_folder(builtin_root() / name, shipped=True)
    return load(folder, digest(folder, shipped=True), origin="package")


@pytest.fixture
def world(world: World) -> World:
    git(world.project, "init", "-q", "-b", "main")
    return world


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_playbook_has_no_finding(name: str) -> None:
    assert lint(read_folder(builtin_root() / name, shipped=True)) == ()


@pytest.mark.parametrize("name", NAMES)
async def test_a_shipped_playbook_passes_its_own_cases(name: str) -> None:
    results = [result async for result in run_cases(shipped(name), await probe())]
    assert len(results) >= (5 if shipped(name).contract.kind == "skill" else 2)
    assert [(result.name, result.faults) for result in results if result.faults] == []


@pytest.mark.parametrize(("name", "case"), [("rename-symbol", "simple"), ("changelog-from-git", "mixed")])
async def test_the_cases_pass_without_a_sandbox_too(name: str, case: str) -> None:
    results = [result async for result in run_cases(shipped(name), Confinement(kind="none"), only=case)]
    assert [(result.name, result.faults) for result in results] == [(case, ())]


NOT_FOR_IT = {
    "add-licence-headers": {"licence": "MIT"},
    "changelog-from-git": {"from_ref": "none"},
    "compare-data": {"left": "none.json", "right": "none.csv"},
    "convert-data": {"source": "none.json", "to": "csv"},
    "date-arithmetic": {"date": "9999-12-31", "days": 1},
    "failing-tests-digest": {"log": "none.log"},
    "log-error-groups": {"log": "none.log"},
    "release-checklist": {"version": "1.0.0"},
    "rename-symbol": {"old": "none", "new": "other"},
    "weekly-metrics-report": {"week": "2024-W10", "database": "none.db"},
}
"""What each is asked in an empty folder; nothing, where it is not named."""


@pytest.mark.parametrize("name", [name for name in NAMES if shipped(name).contract.kind == "script"])
def test_a_script_run_by_hand_where_it_has_nothing_to_do_declines_in_a_line(name: str, tmp_path: Path) -> None:
    command = ["python3", str(builtin_root() / name / "scripts/run.py")]
    given = json.dumps(NOT_FOR_IT.get(name, {})).encode()
    done = subprocess.run(command, cwd=tmp_path, input=given, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (10, b""), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_twelve_or_more_come_with_the_package_and_each_is_trusted() -> None:
    assert len(NAMES) >= 12
    assert [name for name in NAMES if not is_shipped(name, shipped(name).digest)] == []


def test_what_playbooks_share_is_the_same_in_each() -> None:
    """A playbook is copied, trusted and run as one folder: what two of them need lies in both."""
    files = [path for path in builtin_root().glob("*/scripts/*") if path.is_file() and path.name != "run.py"]
    unlike = {path.name for path in files for other in files if other.name == path.name and not same(path, other)}
    assert unlike == set()
    kinds = (builtin_root() / name / "assets/comments.json" for name in ("licence-headers", "add-licence-headers"))
    assert same(*kinds)


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def test_no_file_that_must_be_in_a_clone_is_ignored() -> None:
    """One that is missing there takes the trust of its playbook away."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    asked = ["git", "ls-files", "-z", "-oi", "--exclude-standard", "playbooks", "tests/fixtures", "mcp_tierkit/data"]
    listed = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    assert [path for path in listed if path and "__pycache__" not in path.split("/")] == []


# --- changelog ----------------------------------------------------------------------------------


async def test_commit_subjects_of_every_kind_end_up_in_the_changelog(world: World) -> None:
    git(world.project, "commit", "-q", "--allow-empty", "-m", "start")
    git(world.project, "tag", "v1")
    subjects = [
        "feat(api)!: drop v1", "Fix: upper case", "docs(readme): say more", "perf: faster", "chore: tidy",
        "feat:no space", "a\ttab: in it", "$(touch marker) `x` <b>", "perf(a)(b): odd", "schön: ü",
    ]  # fmt: skip
    for subject in subjects:
        git(world.project, "commit", "-q", "--allow-empty", "-m", subject)
    run = await world.run("changelog-from-git", from_ref="v1")
    assert run.output is not None
    assert run.output["commits"] == len(subjects)
    markdown = run.output["markdown"]
    heads = [line for line in markdown.split("\n") if line.startswith("###")]
    assert heads == ["### Breaking changes", "### Fixes", "### Performance", "### Documentation", "### Other"]
    assert all(text in markdown for text in ("drop v1", "upper case", "say more", "$(touch marker) `x` <b>", "ü"))
    assert sum(line.startswith("- ") for line in markdown.split("\n")) == len(subjects)


# --- report -------------------------------------------------------------------------------------


def fill(path: Path, *, wal: bool = False) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path)
    if wal:
        db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE orders (placed_at TEXT, cents INTEGER)")
    db.executemany("INSERT INTO orders VALUES (?, ?)", [("2024-03-05", 5), ("2024-03-06", -1005)])
    db.commit()
    yield db
    db.close()


@pytest.mark.parametrize("wal", [False, True])
async def test_the_report_reads_a_database_that_somebody_else_has_open(world: World, wal: bool) -> None:
    for _ in fill(world.project / "data/shop.db", wal=wal):
        run = await world.run("weekly-metrics-report", week="2024-W10")
        assert run.output is not None
        assert (run.output["orders"], run.output["revenue_cents"]) == (2, -1000)
        assert "- Revenue: -10.00" in run.output["report"]


@pytest.mark.parametrize("week", ["0000-W01", "0001-W01", "9999-W52", "2024-W00"])
async def test_weeks_at_the_edges_of_the_calendar_are_no_crash(world: World, week: str) -> None:
    for _ in fill(world.project / "data/shop.db"):
        assert (await world.run("weekly-metrics-report", week=week)).status in ("ok", "declined")


async def test_a_file_that_is_no_database_is_declined(world: World) -> None:
    (world.project / "notes.db").write_text("not a database at all, only text that is long enough to be read as one")
    (world.project / "empty.db").touch()
    for name in ("notes.db", "empty.db"):
        run = await world.run("weekly-metrics-report", week="2024-W10", database=name)
        assert (run.status, run.output) == ("declined", None)


# --- rename -------------------------------------------------------------------------------------

TEST = "import unittest\nfrom app import *\nclass T(unittest.TestCase):\n    def test(self):\n        assert RUN\n"


async def rename(world: World, app: str | bytes, old: str, new: str, *, check: str = "True") -> str:
    data = app if isinstance(app, bytes) else app.encode()
    (world.project / "app.py").write_bytes(data)
    (world.project / "test_app.py").write_text(TEST.replace("RUN", check))
    run = await world.run("rename-symbol", old=old, new=new)
    return run.status


@pytest.mark.usefixtures("layered")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"total = 1  # total\ns = 'total'\ntotals = total\n", b"sum_ = 1  # total\ns = 'total'\ntotals = sum_\n"),
        (b"total = 1\r\nx = total\r\n", b"sum_ = 1\r\nx = sum_\r\n"),
        (b"total = 1\nx = '\x0c'\n\x0c\ny = total", b"sum_ = 1\nx = '\x0c'\n\x0c\ny = sum_"),
        (b"\xef\xbb\xbftotal = 1\n", b"\xef\xbb\xbfsum_ = 1\n"),
        (b"# -*- coding: latin-1 -*-\ns = '\xe9'; total = 1\n", b"# -*- coding: latin-1 -*-\ns = '\xe9'; sum_ = 1\n"),
        (
            "é = 'é'; total = é + str(total if 0 else 1)\n".encode(),
            "é = 'é'; sum_ = é + str(sum_ if 0 else 1)\n".encode(),
        ),
        (b"s = '\xe2\x80\xa8'\ntotal = 1\n", b"s = '\xe2\x80\xa8'\nsum_ = 1\n"),
    ],
    ids=range(7),
)
async def test_only_the_tokens_change_byte_for_byte(world: World, before: bytes, after: bytes) -> None:
    assert await rename(world, before, "total", "sum_") == "ok"
    assert (world.project / "app.py").read_bytes() == after


@pytest.mark.usefixtures("layered")
async def test_a_rename_that_nothing_proves_is_not_made(world: World) -> None:
    assert await rename(world, "total = 1\n", "total", "class") == "declined"
    assert await rename(world, "total = (\n", "total", "other") == "declined"
    assert await rename(world, b"\xff = 1\n", "total", "other") == "declined"
    assert await rename(world, "total = 1\n", "total", "other", check="False") == "declined"
    assert await rename(world, "total = 1\n", "total", "other", check="total") == "ok"
    assert await rename(world, "total = 1\n", "total", "other", check="eval('total')") == "failed"
    assert (world.project / "app.py").read_text() == "total = 1\n"
