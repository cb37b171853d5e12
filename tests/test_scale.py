"""A draft in a big repository costs what it touches, not what lies around it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.checks import Bench, baseline
from mcp_tierkit.checks.stamps import tree_state
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.sandbox import probe
from mcp_tierkit.types import Check
from mcp_tierkit.workspace import MAX_FOUND, Workspace
from tests.support import JOB, RIGHT, desk_at, make_config, make_project, run_git, said

pytestmark = pytest.mark.anyio

MANY = 3000


def fill(root: Path, files: int) -> None:
    for at in range(files):
        path = root / f"src/part{at // 100:03}/file{at % 100:02}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"VALUE = {at}\n")


def hollow(path: Path, size: int) -> None:
    """A file of that size that takes no room, and would take long to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def age(root: Path) -> None:
    """Let every file around the task's own tell whether it is read from now on."""
    for path in around(root):
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
    control = root / "control"
    control.write_text("x")
    os.utime(control, ns=(0, control.stat().st_mtime_ns))
    control.read_text()
    if control.stat().st_atime_ns == 0:
        pytest.skip("this file system does not note when a file is read")


def was_read(root: Path) -> list[Path]:
    return [path for path in around(root) if path.stat().st_atime_ns]


def around(root: Path) -> list[Path]:
    return [path for name in ("src", "data") for path in (root / name).rglob("*.*")]


@pytest.mark.parametrize("isolation", ["sandbox", "in_place"])
async def test_a_draft_reads_and_copies_none_of_the_files_around_it(
    isolation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isolation == "in_place":
        monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    elif (await probe()).kind == "none":
        pytest.skip("no sandbox here")
    root = make_project(tmp_path / "app")
    fill(root, MANY)
    hollow(root / "data/huge.bin", 1 << 40)
    age(root)
    before = tree_size(root)
    config = make_config(root, tmp_path / "home", toml=f'[checks]\nallow = ["{sys.executable}"]\n')
    async with desk_at(config, ScriptedGateway([said(RIGHT)])) as desk:
        reply = await desk.draft(DraftCall(**JOB, wait_s=60))
    assert reply["status"] == "applied"
    assert was_read(root) == []
    assert tree_size(root) - before < 100_000
    assert tree_size(tmp_path / "home") < 1_000_000


def tree_size(root: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in root.rglob("*") if path.is_file())


def test_a_glob_that_names_thousands_of_files_is_refused_before_any_is_read(tmp_path: Path) -> None:
    fill(tmp_path, MANY)
    age(tmp_path)
    workspace = Workspace(tmp_path)
    with pytest.raises(InvalidInput, match=f"More than {MAX_FOUND} files"):
        workspace.expand(("src/**/*.py",))
    assert len(workspace.expand(("**/file07.py",))) == MANY // 100
    assert len(workspace.expand(("src/**",), most=MANY)) == MANY
    assert was_read(tmp_path) == []


# --- what is remembered of the checks before ----------------------------------------------------

Touch = Callable[[Path], object]
TOUCHES: dict[str, Touch] = {
    "other content of the same length": lambda root: rewrite(root / "app.py", "VALUE = 3\n"),
    "content put there with the old times": lambda root: rewrite(root / "app.py", "VALUE = 3\n", keep_times=True),
    "an untracked file's content": lambda root: rewrite(root / "notes.txt", "b\n"),
    "a new file": lambda root: (root / "new.py").write_text(""),
    "a deleted file": lambda root: (root / "notes.txt").unlink(),
    "a mode": lambda root: (root / "app.py").chmod(0o755),
    "a link that leads elsewhere": lambda root: relink(root / "link", "b.txt"),
    "an installed package": lambda root: (root / ".venv/lib/python3.11/site-packages/b-1.0.dist-info").mkdir(),
    "a package of node": lambda root: (root / "node_modules/b").mkdir(),
}


def rewrite(path: Path, text: str, *, keep_times: bool = False) -> None:
    found = path.stat()
    path.write_text(text)
    if keep_times:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    for folder in (".venv/lib/python3.11/site-packages/a-1.0.dist-info", "node_modules/a", "__pycache__"):
        (root / folder).mkdir(parents=True)
    (root / "app.py").write_text("VALUE = 1\n")
    run_git(root, "init", "-q")
    run_git(root, "add", "app.py")
    (root / "notes.txt").write_text("a\n")
    (root / "link").symlink_to("a.txt")
    return root


@pytest.mark.parametrize("touch", TOUCHES)
def test_any_change_of_the_tree_forgets_what_the_checks_said(project: Path, touch: str) -> None:
    before = tree_state(project)
    assert tree_state(project) == before
    TOUCHES[touch](project)
    assert tree_state(project) != before


def test_caches_of_runs_and_our_own_files_forget_nothing(project: Path) -> None:
    before = tree_state(project)
    (project / "__pycache__" / "app.pyc").write_bytes(b"")
    (project / ".tierkit").mkdir()
    (project / ".tierkit" / "t1.patch").write_text("")
    (project / ".venv/lib/python3.11/site-packages/a-1.0.dist-info/__pycache__").mkdir()
    (project / "node_modules/a/.cache").mkdir()
    run_git(project, "add", "-A")
    assert tree_state(project) == before


def counted(root: Path, code: str) -> Check:
    """A check that leaves a line outside the project each time it runs."""
    return Check(argv=(sys.executable, "-c", f"open({str(root.parent / 'runs')!r}, 'a').write('x'); {code}"))


def runs(root: Path) -> int:
    return len((root.parent / "runs").read_text())


@pytest.mark.parametrize(
    ("code", "outcome", "first", "second"),
    [
        ("raise SystemExit(1)", "red", 2, 2),
        ("raise SystemExit(0)", "vacuous", 1, 1),
        ("import absent_anywhere_else", "unrunnable", 1, 2),
        (f"import os; raise SystemExit(os.path.getsize({'{runs}'!r}) % 2)", "flaky", 2, 4),
    ],
)  # fmt: skip
async def test_only_what_is_sure_is_remembered(project: Path, code: str, outcome: str, first: int, second: int) -> None:
    bench = Bench(root=project, isolation="in_place", log_dir=".tierkit/t", allow=(sys.executable,), files=("app.py",))
    check, seen = counted(project, code.replace("{runs}", str(project.parent / "runs"))), dict[str, Any]()
    for expected in (first, second):
        found = await baseline(bench, [check], "turns_green", seen)
        assert found.results[0].before == outcome
        assert runs(project) == expected
    (project / "app.py").write_text("VALUE = 22\n")
    await baseline(bench, [check], "turns_green", seen)
    assert runs(project) == second + first


async def test_a_second_draft_on_the_same_tree_runs_no_check_before_it(tmp_path: Path) -> None:
    root = make_project(tmp_path / "app")
    config = make_config(root, tmp_path / "home", toml=f'[checks]\nallow = ["{sys.executable}"]\n')
    async with desk_at(config, ScriptedGateway([said("No idea."), said("None."), said(RIGHT)])) as desk:
        first = await desk.draft(DraftCall(**JOB, wait_s=60))
        second = await desk.draft(DraftCall(**JOB, wait_s=60))
    assert (first["status"], second["status"]) == ("rejected", "applied")
    logs = [
        sorted(path.name for path in (root / ".tierkit" / reply["task_id"]).glob("b*")) for reply in (first, second)
    ]
    assert logs == [["before-1-again.log", "before-1.log"], []]
