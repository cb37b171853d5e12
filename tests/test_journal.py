"""All of a change or nothing of it, through crashes, conflicts and undo."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import anyio
import pytest

from mcp_tierkit import journal
from mcp_tierkit.errors import Conflict, NotFound, PathRefused
from mcp_tierkit.journal import apply, has_undo, left_alone, recover, tree_lock, trial, undo
from mcp_tierkit.types import Changes, Content
from mcp_tierkit.workspace import Workspace

Tree = dict[str, tuple[bytes, int, int] | None]
TRACED = (*(f"journal/{name}.py" for name in ("__init__", "files", "record", "reverse")), "workspace.py", "shutil.py")
OLD = 1_600_000_000_123_456_789


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    for path, text, mode in (("src/a.py", "a = 1\n", 0o644), ("run.sh", "old\n", 0o755), ("gone.txt", "bye\n", 0o600)):
        (root / path).write_text(text)
        (root / path).chmod(mode)
        os.utime(root / path, ns=(OLD, OLD))
    return Workspace(root)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


CHANGES: Changes = {
    "src/a.py": Content(data=b"a = 2\n"),
    "run.sh": Content(data=b"new\n"),
    "gone.txt": None,
    "new/deep/b.py": Content(data=b"b = 1\n", mode=0o755),
    "new/c.py": Content(data=b"c = 1\n"),
}


def expected(ws: Workspace, changes: Changes = CHANGES) -> dict[str, str | None]:
    return {path: ws.digest(path) for path in changes}


def snapshot(ws: Workspace) -> Tree:
    """Every path with bytes, mode and mtime; None for a folder."""
    tree: Tree = {}
    for path in sorted(ws.root.rglob("*")):
        found = path.stat()
        key = path.relative_to(ws.root).as_posix()
        tree[key] = None if path.is_dir() else (path.read_bytes(), found.st_mode & 0o7777, found.st_mtime_ns)
    return tree


def contents(tree: Tree) -> dict[str, object]:
    return {path: entry and entry[:2] for path, entry in tree.items()}


def test_a_change_lands_whole_and_undo_brings_back_every_byte_mode_and_time(ws: Workspace, state: Path) -> None:
    before = snapshot(ws)
    apply(ws, state, "t1", CHANGES, expected(ws))
    assert contents(snapshot(ws)) == {
        "new": None,
        "new/c.py": (b"c = 1\n", 0o644),
        "new/deep": None,
        "new/deep/b.py": (b"b = 1\n", 0o755),
        "run.sh": (b"new\n", 0o755),
        "src": None,
        "src/a.py": (b"a = 2\n", 0o644),
    }
    assert has_undo(state, ws, "t1")
    assert set(undo(ws, state, "t1")) == set(CHANGES)
    assert snapshot(ws) == before
    assert not has_undo(state, ws, "t1")
    with pytest.raises(NotFound):
        undo(ws, state, "t1")


def test_a_trial_that_is_not_kept_leaves_no_trace(ws: Workspace, state: Path) -> None:
    before = snapshot(ws)

    def broken_off() -> None:
        with trial(ws, state, "t1", CHANGES, expected(ws)):
            assert ws.read("src/a.py") == b"a = 2\n"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    with trial(ws, state, "t1", CHANGES, expected(ws)) as tried:
        pass
    assert tried.left == ()
    assert snapshot(ws) == before
    assert not has_undo(state, ws, "t1")


def test_python_sees_a_change_of_the_same_size_in_the_same_second(ws: Workspace, state: Path) -> None:
    file = ws.root / "src/a.py"
    now = time.time_ns()
    os.utime(file, ns=(now, now))
    apply(ws, state, "t1", {"src/a.py": Content(data=b"a = 2\n")}, {"src/a.py": ws.digest("src/a.py")})
    assert file.stat().st_mtime_ns // 10**9 != now // 10**9


def test_a_trial_that_is_kept_stays_and_can_be_undone(ws: Workspace, state: Path) -> None:
    before = snapshot(ws)
    with trial(ws, state, "t1", CHANGES, expected(ws)) as tried:
        tried.keep()
    assert ws.read("src/a.py") == b"a = 2\n"
    undo(ws, state, "t1")
    assert snapshot(ws) == before


@pytest.mark.parametrize("path", ["src/a.py", "gone.txt", "new/c.py"])
def test_a_file_that_moved_stops_everything(ws: Workspace, state: Path, path: str) -> None:
    seen = expected(ws)
    (ws.root / path).parent.mkdir(exist_ok=True)
    (ws.root / path).write_text("edited\n")
    before = snapshot(ws)
    with pytest.raises(Conflict, match=path):
        apply(ws, state, "t1", CHANGES, seen)
    assert snapshot(ws) == before
    assert not has_undo(state, ws, "t1")


def test_a_path_nobody_read_must_be_absent(ws: Workspace, state: Path) -> None:
    with pytest.raises(Conflict, match=r"src/a\.py"):
        apply(ws, state, "t1", {"src/a.py": Content(data=b"x")}, {})
    apply(ws, state, "t1", {"src/new.py": Content(data=b"x")}, {})


def test_a_context_file_that_moved_stops_it_too(ws: Workspace, state: Path) -> None:
    with pytest.raises(Conflict, match=r"run\.sh"):
        apply(ws, state, "t1", {"src/a.py": None}, {"src/a.py": ws.digest("src/a.py"), "run.sh": "0" * 64})


@pytest.mark.parametrize("path", ["out/x.py", "link.py", ".env", ".git/config", "../x", "src/a.py/x"])
def test_no_change_leaves_the_project_or_touches_what_is_denied(
    ws: Workspace, state: Path, tmp_path: Path, path: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (ws.root / "out").symlink_to(tmp_path / "elsewhere")
    (ws.root / "link.py").symlink_to("src/a.py")
    with pytest.raises(PathRefused):
        apply(ws, state, "t1", {path: Content(data=b"x")}, {path: None})
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert ws.read("src/a.py") == b"a = 1\n"


def test_undo_works_though_other_files_changed(ws: Workspace, state: Path) -> None:
    apply(ws, state, "t1", CHANGES, expected(ws))
    (ws.root / "other.txt").write_text("mine")
    (ws.root / "new" / "mine.txt").write_text("mine")
    undo(ws, state, "t1")
    assert ws.read("src/a.py") == b"a = 1\n"
    assert ws.read("new/mine.txt") == b"mine"
    assert not (ws.root / "new/deep").exists()


def test_undo_of_a_file_edited_since_names_it_and_changes_nothing(ws: Workspace, state: Path) -> None:
    apply(ws, state, "t1", CHANGES, expected(ws))
    (ws.root / "src/a.py").write_text("a = 3\n")
    before = snapshot(ws)
    with pytest.raises(Conflict, match=r"src/a\.py"):
        undo(ws, state, "t1")
    assert snapshot(ws) == before
    assert has_undo(state, ws, "t1")


def test_undo_takes_back_both_changes_of_a_task_applied_twice(ws: Workspace, state: Path) -> None:
    before = snapshot(ws)
    apply(ws, state, "t1", CHANGES, expected(ws))
    again: Changes = {"src/a.py": Content(data=b"a = 3\n"), "new/c.py": None}
    apply(ws, state, "t1", again, expected(ws, again))
    assert set(undo(ws, state, "t1")) == set(CHANGES) - {"new/c.py"}
    assert snapshot(ws) == before


def test_undo_of_one_task_leaves_another(ws: Workspace, state: Path) -> None:
    apply(ws, state, "t1", {"src/a.py": Content(data=b"a = 2\n")}, {"src/a.py": ws.digest("src/a.py")})
    apply(ws, state, "t1.2", {"run.sh": None}, {"run.sh": ws.digest("run.sh")})
    undo(ws, state, "t1")
    assert ws.read("src/a.py") == b"a = 1\n"
    assert not ws.exists("run.sh")


def test_a_check_that_edits_the_draft_makes_keep_refuse(ws: Workspace, state: Path) -> None:
    with trial(ws, state, "t1", CHANGES, expected(ws)) as tried:
        (ws.root / "src/a.py").write_text("a = 'edited'\n")
        with pytest.raises(Conflict, match=r"src/a\.py"):
            tried.keep()
    # Nobody can tell whose edit it was: it stays, and what was there before is kept aside.
    assert ws.read("src/a.py") == b"a = 'edited'\n"
    assert ws.read("run.sh") == b"old\n"
    assert tried.left == ("src/a.py",)
    assert left_alone(ws, state)["src/a.py"].read_bytes() == b"a = 1\n"


def test_a_record_lies_in_the_users_state_for_the_user_alone(ws: Workspace, state: Path) -> None:
    apply(ws, state, "t1", CHANGES, expected(ws))
    modes = {path.stat().st_mode & 0o077 for path in state.rglob("*")}
    assert modes == {0}


# --- crashes ------------------------------------------------------------------------------------


def killed(work: Callable[[], object], line: int) -> bool:
    """Run `work` in a child that is killed with signal 9 before the given executed line of the journal."""
    child = os.fork()
    if child == 0:
        left = line

        def tracer(frame: FrameType, event: str, _: object) -> object:
            nonlocal left
            if not frame.f_code.co_filename.endswith(TRACED):
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return tracer

        sys.settrace(tracer)  # type: ignore[arg-type]
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def crash_points(work: Callable[[], object], count: int) -> Iterator[int]:
    """Lines at which to die, drawn over the whole run, its last lines included."""
    lines = 0

    def tracer(frame: FrameType, event: str, _: object) -> object:
        nonlocal lines
        lines += event == "line"
        return tracer if frame.f_code.co_filename.endswith(TRACED) else None

    sys.settrace(tracer)  # type: ignore[arg-type]
    try:
        work()
    finally:
        sys.settrace(None)
    rng = random.Random(7)
    yield from rng.sample(range(lines), count)
    yield from range(lines - 40, lines, 2)


def test_a_kill_at_any_line_leaves_the_tree_as_before_or_as_after(ws: Workspace, state: Path) -> None:
    before = snapshot(ws)
    seen = expected(ws)

    def work() -> None:
        apply(ws, state, "t1", CHANGES, seen)

    work()
    after = contents(snapshot(ws))
    undo(ws, state, "t1")
    points = list(crash_points(work, 60))
    undo(ws, state, "t1")
    ended: set[str] = set()
    for line in points:
        assert killed(work, line), line
        recover(ws, state)
        now = snapshot(ws)
        assert now == before or contents(now) == after, line
        ended.add("before" if now == before else "after")
        assert has_undo(state, ws, "t1") == (now != before)
        if now != before:
            undo(ws, state, "t1")
            assert snapshot(ws) == before
        assert left_alone(ws, state) == {}
    assert ended == {"before", "after"}


def test_a_kill_at_any_line_of_undo_is_finished_or_never_happened(ws: Workspace, state: Path) -> None:
    before = snapshot(ws)
    apply(ws, state, "t1", CHANGES, expected(ws))
    for line in list(crash_points(lambda: undo(ws, state, "t1"), 40)):
        if not has_undo(state, ws, "t1"):
            apply(ws, state, "t1", CHANGES, expected(ws))
        after = contents(snapshot(ws))
        killed(lambda: undo(ws, state, "t1"), line)
        recover(ws, state)
        now = snapshot(ws)
        assert now == before or contents(now) == after, line
        assert has_undo(state, ws, "t1") == (now != before)


def test_recovery_leaves_a_file_that_somebody_saved_after_the_crash(ws: Workspace, state: Path) -> None:
    points = list(crash_points(lambda: apply(ws, state, "t1", CHANGES, expected(ws)), 1))
    undo(ws, state, "t1")
    seen = expected(ws)
    line = points[-1]
    while not (ws.exists("new/c.py") and not has_undo(state, ws, "t1")):
        recover(ws, state)
        if has_undo(state, ws, "t1"):
            undo(ws, state, "t1")
        line -= 40
        killed(lambda: apply(ws, state, "t1", CHANGES, seen), line)
    (ws.root / "new/c.py").write_text("mine\n")
    recover(ws, state)
    assert ws.read("new/c.py") == b"mine\n"
    assert ws.read("src/a.py") == b"a = 1\n"
    assert not ws.exists("new/deep/b.py")
    assert list(left_alone(ws, state)) != []


# --- the lock -----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_only_one_holds_the_tree_and_a_waiter_can_be_cancelled(ws: Workspace, state: Path) -> None:
    async with tree_lock(state, ws.root):
        with anyio.move_on_after(0.2) as waiting:
            async with tree_lock(state, ws.root / "src" / ".."):
                raise AssertionError("two holders")
        assert waiting.cancelled_caught
    with anyio.fail_after(60):
        async with tree_lock(state, ws.root):
            pass


@pytest.mark.anyio
async def test_the_lock_of_a_killed_process_is_free(ws: Workspace, state: Path) -> None:
    script = (
        "import sys, anyio, pathlib, os, signal\nfrom mcp_tierkit.journal import tree_lock\n"
        "async def main():\n async with tree_lock(*map(pathlib.Path, sys.argv[1:])):\n"
        "  os.kill(os.getpid(), signal.SIGKILL)\nanyio.run(main)"
    )
    ended = await anyio.run_process([sys.executable, "-c", script, str(state), str(ws.root)], check=False)
    assert ended.returncode == -signal.SIGKILL
    with anyio.fail_after(60):
        async with tree_lock(state, ws.root):
            pass


def test_two_projects_do_not_share_a_journal(ws: Workspace, state: Path, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    apply(ws, state, "t1", {"run.sh": None}, {"run.sh": hashlib.sha256(b"old\n").hexdigest()})
    assert not has_undo(state, other, "t1")
    assert journal.recover(other, state) == ()
