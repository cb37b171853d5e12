"""A change taken back: what the draft did goes, what others did since stays, and nothing is guessed."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from mcp_tierkit.diffs import patch
from mcp_tierkit.errors import Conflict, NotFound
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.journal import apply, has_undo, left_alone, recover, undo
from mcp_tierkit.types import Changes, Content
from mcp_tierkit.workspace import Workspace
from tests.support import client_at, footprint, make_config, said
from tests.test_journal import crash_points, killed

DRAFTS = 10
CHECK = "import pathlib, sys\nsys.exit(not [*pathlib.Path('done').glob('*/' + sys.argv[1])])\n"


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file, link and folder with its bytes and mode."""
    return {name: (data, mode) for name, (data, mode, _) in footprint(root).items()}


# --- ten random drafts through the tool ---------------------------------------------------------


class Shop:
    """A project, a client of its server, and a model that writes whatever change it is told to."""

    def __init__(self, root: Path, client: Client, gateway: ScriptedGateway, seed: int) -> None:
        self.root, self.client, self.gateway, self.rng = root, client, gateway, random.Random(seed)
        self.tasks: list[str] = []

    def texts(self) -> dict[str, str]:
        found = {path.relative_to(self.root).as_posix(): path for path in self.root.glob("code/**/*") if path.is_file()}
        return {name: path.read_bytes().decode() for name, path in found.items()}

    def change(self, number: int) -> dict[str, str | None]:
        """Some files modified, one created, deleted or renamed, and the token that the check looks for."""
        before = self.texts()
        after: dict[str, str | None] = {f"done/{number % 3}/{number}": "done\n"}
        for name in self.rng.sample(sorted(before), 2):
            lines = before[name].splitlines(keepends=True)
            at = self.rng.randrange(len(lines))
            lines[at : at + self.rng.randint(0, 2)] = [f"draft {number} of {name}\r\n"] * self.rng.randint(0, 2)
            after[name] = "".join(lines)
        name = self.rng.choice(sorted(before))
        kind = self.rng.choice(["create", "delete", "rename"])
        if kind != "create":
            after[name] = None
        if kind != "delete":
            text = f"created {number}\n" * 5 if kind == "create" else before[name]
            after[f"code/deep/{self.rng.randint(0, 2)}/{kind}{number}.txt"] = text
        return after

    async def draft(self, number: int) -> None:
        after = self.change(number)
        self.gateway.replies(said(f"```diff\n{patch(self.texts(), after)}```\n"))
        job = {
            "task": f"Do change {number}.",
            "files": sorted(after),
            "checks": [f"{sys.executable} check.py {number}"],
        }
        reply = await self.call("draft_with_cheap_model", job)
        assert reply["status"] == "applied", reply
        self.tasks.append(reply["task_id"])

    async def undo(self, task_id: str) -> str | None:
        """What it refused with, None where the change went."""
        arguments = {"task_id": task_id, "outcome": "reverted", "undo": True}
        result = await self.client.call_tool("record_outcome", arguments)
        [block] = result.content
        assert block.type == "text"
        return block.text if result.is_error else None

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        reply: dict[str, Any] = result.structured_content
        return reply

    def somebody_else(self, number: int) -> None:
        """A file of nobody's task changes, another appears."""
        with (self.root / "notes.txt").open("a") as notes:
            notes.write(f"note {number}\n")
        (self.root / f"mine{number}.txt").write_text("mine\n")


@asynccontextmanager
async def shop_at(tmp_path: Path, seed: int) -> AsyncIterator[Shop]:
    root = tmp_path / "shop"
    (root / "code" / "deep").mkdir(parents=True)
    (root / "check.py").write_text(CHECK)
    for number in range(6):
        lines = [f"{number}: line {at}\n" if at % 4 else "\n" for at in range(40)]
        ends = {1: "\r\n"}.get(number, "\n")
        text = "".join(lines).replace("\n", ends) + ("no line end" if number == 2 else "")
        (root / f"code/f{number}.txt").write_bytes(text.encode())
        (root / f"code/f{number}.txt").chmod(0o755 if number == 3 else 0o640)
    gateway = ScriptedGateway()
    async with client_at(make_config(root, tmp_path / "home"), gateway) as client:
        yield Shop(root, client, gateway, seed)


@pytest.mark.anyio
@pytest.mark.slow
async def test_ten_random_drafts_undone_backwards_leave_every_byte_and_mode_as_it_was(tmp_path: Path) -> None:
    async with shop_at(tmp_path, seed=5) as shop:
        states = []
        for number in range(DRAFTS):
            states.append(tree(shop.root))
            await shop.draft(number)
        for number, state in reversed(list(enumerate(states))):
            assert await shop.undo(shop.tasks[number]) is None
            assert tree(shop.root) == state


@pytest.mark.anyio
async def test_ten_random_drafts_undone_in_any_order_leave_only_what_others_did(tmp_path: Path) -> None:
    async with shop_at(tmp_path, seed=6) as shop:
        before = tree(shop.root)
        for number in range(DRAFTS):
            await shop.draft(number)
            shop.somebody_else(number)
        pending, refused = list(shop.tasks), 0
        while pending:
            shop.rng.shuffle(pending)
            for task_id in list(pending):
                stood = tree(shop.root)
                reason = await shop.undo(task_id)
                if reason is None:
                    pending.remove(task_id)
                    continue
                refused += 1
                assert f"Task {task_id} cannot be undone: " in reason
                assert any(f"Undo {later} first." in reason for later in pending if later != task_id)
                assert tree(shop.root) == stood
        # Both happened: drafts on each other's lines, and drafts that went from beneath later ones.
        assert refused > 0
        theirs = {name: entry for name, entry in tree(shop.root).items() if name not in before}
        assert set(theirs) == {"notes.txt", *(f"mine{number}.txt" for number in range(DRAFTS))}
        assert {name: entry for name, entry in tree(shop.root).items() if name not in theirs} == before


@pytest.mark.anyio
async def test_undo_says_plainly_when_there_is_nothing_to_undo(tmp_path: Path) -> None:
    async with shop_at(tmp_path, seed=7) as shop:
        await shop.draft(0)
        [task_id] = shop.tasks
        assert await shop.undo(task_id) is None
        assert await shop.undo(task_id) == (
            f"not_found: Task {task_id} has no change to take back: it was never applied, or was undone already. "
            "Nothing was changed. Look at the task's status; only an applied change can be undone, and only once."
        )
        assert "no task" in (await shop.undo("t000000000000") or "").lower()
        shop.gateway.replies(said("QUESTION: Which one?"))
        asked = await shop.call("draft_with_cheap_model", {"task": "Do it.", "files": ["code/f0.txt"], "checks": []})
        assert "was never applied" in (await shop.undo(asked["task_id"]) or "")


# --- one file, and what may have become of it ---------------------------------------------------


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "project").mkdir()
    return Workspace(tmp_path / "project")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def lines(text: str, end: str = "\n") -> bytes:
    return "".join(letter + end for letter in text).encode()


def put(ws: Workspace, path: str, data: bytes | None, mode: int | None = None) -> None:
    file = ws.root / path
    if data is None:
        return file.unlink()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    if mode is not None:
        file.chmod(mode)
    return None


def change(ws: Workspace, state: Path, task_id: str, **files: bytes | None) -> None:
    changes: Changes = {path: None if data is None else Content(data=data) for path, data in files.items()}
    apply(ws, state, task_id, changes, {path: ws.digest(path) for path in changes})


def refusal(ws: Workspace, state: Path, task_id: str) -> str:
    """Why the undo is refused; nothing may have changed."""
    before = tree(ws.root)
    with pytest.raises(Conflict) as conflict:
        undo(ws, state, task_id)
    assert tree(ws.root) == before
    assert has_undo(state, ws, task_id)
    assert conflict.value.what.startswith(f"Task {task_id} cannot be undone: ")
    assert conflict.value.what.endswith(" Nothing was changed.")
    return str(conflict.value)


@pytest.mark.parametrize(
    ("before", "drafted", "later", "undone"),
    [
        (lines("abcdef"), lines("aBcdef"), lines("aBcdEf"), lines("abcdEf")),
        (lines("abcdef"), lines("abXcdef"), lines("YabXcdef"), lines("Yabcdef")),
        (lines("abcdef"), lines("abef"), lines("abefgh"), lines("abcdefgh")),
        (lines("abcdef", "\r\n"), lines("aBcdef", "\r\n"), lines("aBcdE", "\r\n"), lines("abcdE", "\r\n")),
        (lines("abcdef"), lines("abcdef")[:-1], lines("Abcdef")[:-1], lines("Abcdef")),
        (lines("abcdef"), lines("aBcdef"), lines("aBcd") + b"\xff\xfe", lines("abcd") + b"\xff\xfe"),
    ],
)
def test_the_drafts_lines_go_back_and_later_ones_stay(
    ws: Workspace, state: Path, before: bytes, drafted: bytes, later: bytes, undone: bytes
) -> None:
    put(ws, "a.txt", before, 0o640)
    change(ws, state, "t1", **{"a.txt": drafted})
    put(ws, "a.txt", later)
    assert undo(ws, state, "t1") == ("a.txt",)
    assert tree(ws.root) == {"a.txt": (undone, 0o100640)}
    assert not has_undo(state, ws, "t1")


def test_the_lines_in_the_way_are_named_and_no_file_is_undone(ws: Workspace, state: Path) -> None:
    for path in ("a.txt", "b.txt", "c.txt"):
        put(ws, path, lines("abcdef"))
    change(ws, state, "t1", **{"a.txt": lines("aBcdef"), "b.txt": lines("abcdeF"), "c.txt": None})
    put(ws, "b.txt", lines("abcdXF"))
    assert refusal(ws, state, "t1") == (
        "Task t1 cannot be undone: b.txt: the same lines, or lines next to them, were changed since (now line 5-6). "
        "Nothing was changed. Put that back as the task left it and call again, or take the task's patch back by hand."
    )
    put(ws, "b.txt", lines("XbcdeF"))
    assert undo(ws, state, "t1") == ("a.txt", "b.txt", "c.txt")
    assert ws.read("b.txt") == lines("Xbcdef")


def replaced(ws: Workspace, path: str, *, by: str) -> None:
    put(ws, path, None)
    if by == "link":
        put(ws, "elsewhere", b"a\n")
        (ws.root / path).symlink_to(ws.root / "elsewhere")
    elif by == "folder":
        (ws.root / path).mkdir()
    elif by == "linked folder":
        os.rename((ws.root / path).parent, ws.root / "moved")
        (ws.root / path).parent.symlink_to("moved")


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        (lambda ws: put(ws, "in/new.txt", b"new\nmore\n"), "in/new.txt: it was changed after the task had created it"),
        (lambda ws: put(ws, "in/gone.txt", b"again\n"), "in/gone.txt: it was created again after the task had deleted"),
        (lambda ws: put(ws, "in/a.txt", None), "in/a.txt: it was deleted after the task had changed it"),
        (lambda ws: put(ws, "in/a.txt", b"a\0b\n"), "in/a.txt: it was changed since, and is not text"),
        (lambda ws: put(ws, "in/a.txt", b"a\n" * 3_000_000), "in/a.txt: it was changed since, and is larger than"),
        (lambda ws: replaced(ws, "in/a.txt", by="link"), "in/a.txt: it is no longer a plain file"),
        (lambda ws: replaced(ws, "in/a.txt", by="folder"), "in/a.txt: it is no longer a plain file"),
        (lambda ws: replaced(ws, "in/a.txt", by="linked folder"), "in/a.txt: it is no longer a plain file"),
        (lambda ws: (ws.root / "in/new.sh").chmod(0o600), "in/new.sh: it was changed after the task had created it"),
        (lambda ws: (ws.root / "in/run.sh").chmod(0o600), "in/run.sh: its permissions were changed after"),
    ],
)
def test_a_file_that_became_something_else_is_left_with_the_reason(
    ws: Workspace, state: Path, later: Callable[[Workspace], None], reason: str
) -> None:
    for path in ("in/a.txt", "in/gone.txt"):
        put(ws, path, b"a\nb\n")
    put(ws, "in/run.sh", b"run\n", 0o644)
    changes: Changes = {
        "in/a.txt": Content(data=b"A\nb\n"),
        "in/gone.txt": None,
        "in/new.txt": Content(data=b"new\n"),
        "in/new.sh": Content(data=b"new\n", mode=0o755),
        "in/run.sh": Content(data=b"run\n", mode=0o755),
    }
    apply(ws, state, "t1", changes, {path: ws.digest(path) for path in changes})
    later(ws)
    assert reason in refusal(ws, state, "t1")


def test_permissions_go_back_or_stay_as_lines_do(ws: Workspace, state: Path) -> None:
    for path in ("its.sh", "theirs.sh"):
        put(ws, path, lines("abc"), 0o644)
    changes: Changes = {
        "its.sh": Content(data=lines("abc"), mode=0o755),
        "theirs.sh": Content(data=lines("Abc")),
    }
    apply(ws, state, "t1", changes, {path: ws.digest(path) for path in changes})
    put(ws, "its.sh", lines("abC"))
    (ws.root / "theirs.sh").chmod(0o700)
    undo(ws, state, "t1")
    assert tree(ws.root) == {"its.sh": (lines("abC"), 0o100644), "theirs.sh": (lines("abc"), 0o100700)}


def test_a_rename_is_turned_round_with_the_folders_it_made(ws: Workspace, state: Path) -> None:
    put(ws, "src/a.txt", b"a\n", 0o755)
    before = tree(ws.root)
    changes: Changes = {"src/a.txt": None, "lib/deep/a.txt": Content(data=b"a\n", mode=0o755)}
    apply(ws, state, "t1", changes, {"src/a.txt": ws.digest("src/a.txt")})
    (ws.root / "src").rmdir()
    assert undo(ws, state, "t1") == ("lib/deep/a.txt", "src/a.txt")
    assert tree(ws.root) == before


def test_a_file_that_was_put_back_by_hand_is_no_hindrance(ws: Workspace, state: Path) -> None:
    for path in ("a.txt", "b.txt"):
        put(ws, path, b"old\n")
    change(ws, state, "t1", **{"a.txt": b"new\n", "b.txt": b"new\n", "c.txt": b"new\n"})
    put(ws, "a.txt", b"old\n")
    put(ws, "c.txt", None)
    assert undo(ws, state, "t1") == ("b.txt",)
    with pytest.raises(NotFound):
        undo(ws, state, "t1")


# --- several tasks on one file ------------------------------------------------------------------


@pytest.mark.parametrize("order", [("t1", "t2"), ("t2", "t1")])
def test_two_tasks_on_other_lines_of_a_file_are_undone_in_either_order(
    ws: Workspace, state: Path, order: tuple[str, str]
) -> None:
    put(ws, "a.txt", lines("abcdef"), 0o600)
    (ws.root / "a.txt").chmod(0o600)
    before = tree(ws.root)
    change(ws, state, "t1", **{"a.txt": lines("aBcdef"), "new/1.txt": b"1\n"})
    change(ws, state, "t2", **{"a.txt": lines("aBcdEf"), "new/2.txt": b"2\n"})
    for task_id in order:
        undo(ws, state, task_id)
    assert tree(ws.root) == before


def test_a_folder_goes_with_the_last_task_that_counts_on_it(ws: Workspace, state: Path) -> None:
    put(ws, "a.txt", b"a\n")
    before = tree(ws.root)
    change(ws, state, "t1", **{"new/1.txt": b"1\n"})
    change(ws, state, "t2", **{"new/1.txt": None})
    emptied = tree(ws.root)
    assert "new" in emptied
    change(ws, state, "t3", **{"new/3.txt": b"3\n"})
    undo(ws, state, "t3")
    assert tree(ws.root) == emptied
    undo(ws, state, "t2")
    change(ws, state, "t4", **{"new/4.txt": b"4\n"})
    undo(ws, state, "t1")
    undo(ws, state, "t4")
    assert tree(ws.root) == before


def test_a_task_beneath_another_on_the_same_lines_waits_for_it(ws: Workspace, state: Path) -> None:
    put(ws, "a.txt", lines("abc"))
    change(ws, state, "t1", **{"a.txt": lines("aBc")})
    change(ws, state, "t2", **{"a.txt": lines("aXc")})
    assert refusal(ws, state, "t1").endswith("Undo t2 first.")
    undo(ws, state, "t2")
    undo(ws, state, "t1")
    assert ws.read("a.txt") == lines("abc")


def test_lines_changed_there_and_back_by_later_tasks_are_still_theirs(ws: Workspace, state: Path) -> None:
    put(ws, "a.txt", lines("abc"))
    change(ws, state, "t1", **{"a.txt": lines("aBc")})
    change(ws, state, "t2", **{"a.txt": lines("abc")})
    # The file is as it was before t1, but to forget t1 now would let an undo of t2 bring its line back.
    assert refusal(ws, state, "t1").endswith("Undo t2 first.")
    change(ws, state, "t3", **{"a.txt": lines("aBc")})
    assert refusal(ws, state, "t1").endswith("Undo t2 first.")
    assert refusal(ws, state, "t2").endswith("Undo t3 first.")
    for task_id in ("t3", "t2", "t1"):
        undo(ws, state, task_id)
    assert ws.read("a.txt") == lines("abc")


def test_a_task_that_was_undone_is_no_longer_in_the_way(ws: Workspace, state: Path) -> None:
    put(ws, "a.txt", lines("abcdef"))
    change(ws, state, "t1", **{"a.txt": lines("aBcdef")})
    change(ws, state, "t2", **{"a.txt": lines("aXcdef")})
    change(ws, state, "t3", **{"a.txt": lines("aXcdEf")})
    undo(ws, state, "t2")
    undo(ws, state, "t1")
    assert ws.read("a.txt") == lines("abcdEf")
    undo(ws, state, "t3")
    assert ws.read("a.txt") == lines("abcdef")


# --- killed half-way ----------------------------------------------------------------------------


def test_an_undo_killed_at_any_line_has_happened_or_has_not(ws: Workspace, state: Path) -> None:
    first: Changes = {
        "a.txt": Content(data=lines("aBcdef")),
        "b.txt": None,
        "new/deep/c.txt": Content(data=b"c\n", mode=0o755),
        "new/d.txt": Content(data=b"d\n"),
    }
    put(ws, "a.txt", lines("abcdef"))
    put(ws, "b.txt", b"b\n", 0o600)

    def drafted_and_edited() -> dict[str, tuple[bytes, int]]:
        put(ws, "a.txt", lines("abcdef"))
        apply(ws, state, "t1", first, {path: ws.digest(path) for path in first})
        put(ws, "a.txt", lines("aBcdEf"))
        return tree(ws.root)

    drafted = drafted_and_edited()
    points = list(crash_points(lambda: undo(ws, state, "t1"), 10))
    undone = tree(ws.root)
    assert undone["a.txt"][0] == lines("abcdEf")

    def happened(line: int) -> bool:
        if not has_undo(state, ws, "t1"):
            assert drafted_and_edited() == drafted
        assert killed(lambda: undo(ws, state, "t1"), line), line
        is_undone = not has_undo(state, ws, "t1")
        recover(ws, state)
        assert tree(ws.root) == (undone if is_undone else drafted), line
        assert has_undo(state, ws, "t1") != is_undone
        assert left_alone(ws, state) == {}
        return is_undone

    for line in points[:10]:
        happened(line)
    # Then where the one turns into the other, to the line.
    low, high = 0, max(points)
    assert (happened(low), happened(high)) == (False, True)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if happened(middle) else (middle, high)
