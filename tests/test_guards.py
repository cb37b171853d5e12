"""Guards: the project's own checks, once on a proven change, and who broke what."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.checks import Bench, baseline, parse_check
from mcp_tierkit.guards import broken, guards_beside, try_guards, weigh_guards
from mcp_tierkit.journal import trial
from mcp_tierkit.sandbox import probe
from mcp_tierkit.types import Changes, Check, CheckResult, Content
from mcp_tierkit.workspace import Workspace

pytestmark = pytest.mark.anyio

CHANGE: Changes = {"app.py": Content(data=b"VALUE = 2\n")}
READS = "import pathlib, sys; text = pathlib.Path('app.py').read_text(); "


def guard(code: str) -> Check:
    return Check(argv=(sys.executable, "-c", READS + code))


BREAKS = guard("print('value is', text); sys.exit('2' in text)")
HOLDS = guard("sys.exit(0)")
RED = guard("sys.exit('the old failure')")
MENDED = guard("sys.exit('1' in text)")
ABSENT = Check(argv=("no-such-command-anywhere",))
HANGS = Check(argv=(sys.executable, "-c", "import time; time.sleep(60)"), timeout_s=0.3)
HANGS_WITH_IT = guard("import time; time.sleep(600 if '2' in text else 0)")
FLAKY = guard("logs = list(pathlib.Path('.tierkit/t').glob('*.log')); sys.exit(len(logs) % 2 == 0)")
MADE_FLAKY = guard("p = pathlib.Path('.tierkit/t/x-1.log'); sys.exit('2' in text and not p.exists())")


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    if (await probe()).kind == "none":
        pytest.skip("no sandbox here")
    (tmp_path / "app.py").write_text("VALUE = 1\n")
    return Bench(root=tmp_path, isolation="sandbox", log_dir=".tierkit/t", files=("app.py",))


async def run_guards(
    bench: Bench, guards: list[Check], changes: Changes, *, label: str, seen: dict[str, Any] | None = None
) -> tuple[CheckResult, ...]:
    """Both halves, as a sandbox runs them: the tree itself has not changed."""
    return await weigh_guards(bench, await try_guards(bench, guards, changes, label=label), label=label, seen=seen)


def ends(results: tuple[CheckResult, ...]) -> list[tuple[str, str]]:
    return [(result.before, result.after) for result in results]


async def test_a_guard_that_stays_green_is_run_once(bench: Bench) -> None:
    results = await run_guards(bench, [HOLDS], CHANGE, label="x")
    assert (ends(results), broken(results)) == ([("not_run", "green")], ())
    assert sorted(path.name for path in (bench.root / ".tierkit/t").iterdir()) == ["x-1.log"]


async def test_only_what_was_green_before_is_broken_by_the_change(bench: Bench) -> None:
    for seconds in (2, 60):  # On a machine that stands still Python itself may not start in two.
        hangs = HANGS_WITH_IT.model_copy(update={"timeout_s": seconds})
        results = await run_guards(bench, [BREAKS, RED, MENDED, hangs], CHANGE, label=f"x{seconds}")
        if len(results) == 4:
            break
    assert ends(results) == [("green", "red"), ("red", "red"), ("not_run", "green"), ("green", "unrunnable")]
    assert broken(results) == (results[0], results[3])
    assert "value is VALUE = 2" in results[0].digest
    assert f"longer than {seconds} s" in results[3].digest
    assert results[1].digest == ""
    assert {result.role for result in results} == {"stays_green"}


async def test_what_cannot_run_is_no_guard_of_this_project(bench: Bench) -> None:
    assert await run_guards(bench, [ABSENT, HANGS], CHANGE, label="x") == ()


async def test_a_guard_that_is_flaky_without_the_change_too_blocks_nothing(bench: Bench) -> None:
    results = await run_guards(bench, [FLAKY], CHANGE, label="x")
    assert (ends(results), broken(results)) == ([("flaky", "flaky")], ())


async def test_a_guard_that_the_change_makes_flaky_is_broken(bench: Bench) -> None:
    results = await run_guards(bench, [MADE_FLAKY], CHANGE, label="x")
    assert (ends(results), broken(results)) == ([("green", "red")], results)
    assert results[0].digest.startswith("Red once and green once with the change, green twice without it.")


async def test_a_test_that_vanishes_from_a_green_guard_is_broken(bench: Bench) -> None:
    (bench.root / "test_app.py").write_text(
        "import unittest, app\nclass T(unittest.TestCase):\n def test_a(self): pass\n"
        " if app.VALUE == 1:\n  def test_b(self): pass\n"
    )
    check = parse_check(f"{sys.executable} -m unittest -q test_app")
    seen: dict[str, Any] = {}
    assert ends(await run_guards(bench, [check], CHANGE, label="x", seen=seen)) == [("not_run", "green")]
    await baseline(bench, [check], "stays_green", seen)
    results = await run_guards(bench, [check], CHANGE, label="y", seen=seen)
    assert (ends(results), broken(results)) == ([("green", "red")], results)
    assert results[0].digest == "Exit code 0, but test_app.T.test_b is gone."


async def test_the_run_before_is_remembered_while_the_tree_is_the_same(bench: Bench) -> None:
    seen: dict[str, Any] = {}
    first = await run_guards(bench, [BREAKS], CHANGE, label="x", seen=seen)
    assert ends(await run_guards(bench, [BREAKS], CHANGE, label="y", seen=seen)) == ends(first)
    names = sorted(path.name for path in (bench.root / ".tierkit/t").iterdir())
    assert names == ["x-1-again.log", "x-1.log", "x-before-1.log", "y-1-again.log", "y-1.log"]


async def test_in_place_a_guard_is_weighed_once_the_change_is_taken_back(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "app.py").write_text("VALUE = 1\n")
    bench = Bench(root=root, isolation="in_place", log_dir=".tierkit/t", allow=(sys.executable,), files=("app.py",))
    workspace = Workspace(root)
    with trial(workspace, tmp_path / "state", "t1", CHANGE, {"app.py": workspace.digest("app.py")}):
        tried = await try_guards(bench, [BREAKS, RED, HOLDS, ABSENT], {}, label="x")
    results = await weigh_guards(bench, tried, label="x")
    assert ends(results) == [("green", "red"), ("red", "red"), ("not_run", "green")]
    assert broken(results) == (results[0],)


def test_a_guard_that_is_a_check_of_the_task_is_left_out() -> None:
    checks = [parse_check("pytest -q"), parse_check({"argv": "npm test", "cwd": "web", "timeout_s": 5})]
    guards = ["pytest -q", "ruff check", "npm test", "ruff check"]
    assert [guard.name for guard in guards_beside(guards, checks)] == ["ruff check", "npm test"]
    assert guards_beside([Check(argv=("npm", "test"), cwd="web")], checks) == ()
