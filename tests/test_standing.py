"""A change that somebody threw away with git has saved nothing, whatever its task said when it was applied."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.cleanup import is_gone
from mcp_tierkit.cleanup.claims import whole
from mcp_tierkit.cleanup.lines import applied
from mcp_tierkit.cli import run
from mcp_tierkit.gateway import ScriptedGateway
from tests.support import (
    BUGGY,
    CHECK,
    FIXED,
    RIGHT,
    client_at,
    commit_all,
    make_config,
    make_env,
    make_project,
    run_git,
    said,
)
from tests.test_cleanup import DAY, NEW, THEN, Field

REST = "".join(f"\n\ndef price_of_{n}(count: int) -> int:\n    return {n} * count\n" for n in range(150))
FORM = """shop/cart.py
```
<<<<<<< SEARCH
{old}=======
{new}>>>>>>> REPLACE
```
"""


class User:
    """Somebody with two applied drafts in one file of a repository, in front of a shell in it."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = base / "app", capsys
        make_project(self.root, git=False)
        self.file = self.root / "shop/cart.py"
        self.file.write_text(BUGGY + REST)
        commit_all(self.root)
        self.config = make_config(self.root, base / "home")
        for name, value in make_env(base / "home").items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)
        monkeypatch.chdir(self.root)
        asyncio.run(self.delegate())

    async def delegate(self) -> None:
        second = FORM.format(old="    return 7 * count\n", new="    return 7 * count  # week 2\n")
        goals = ("total() must take the discount as a percentage.", "Say in price_of_7() that it is of week 2.")
        words = ScriptedGateway([said(RIGHT), said(second)])
        async with client_at(self.config, words) as client:
            for goal, proof in zip(goals, ({}, {"proof": "stays_green"}), strict=True):
                job = {"task": goal, "files": ["shop/cart.py"], "checks": [CHECK], "wait_s": 30, **proof}
                made = (await client.call_tool("draft_with_cheap_model", job)).structured_content
                assert made["status"] == "applied", made

    def asks(self, *words: str) -> Any:
        self.capsys.readouterr()
        assert run([*words, "--json"]) == 0
        return json.loads(self.capsys.readouterr().out)

    @property
    def ends(self) -> tuple[int, int]:
        ends = self.asks("report")["ends"]
        return ends["kept"], ends["gone"]

    @property
    def levers(self) -> dict[str, int]:
        return {lever["lever"]: lever["low"] for lever in self.asks("report", "--levers")["levers"]}


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> User:
    return User(tmp_path, monkeypatch, capsys)


def test_changes_thrown_away_with_git_are_neither_kept_nor_saved_by_nor_worth_a_playbook(user: User) -> None:
    assert user.ends == (2, 0)
    before = user.levers
    assert before["cheap_drafts"] > 0
    run_git(user.root, "checkout", "-q", ".")
    assert user.ends == (0, 2)
    after = user.levers
    assert set(after) & {"cheap_drafts", "lost_drafts"} == {"lost_drafts"}
    assert after["lost_drafts"] < 0
    assert user.asks("report")["savings"]["net_nanousd"][1] < 0
    assert {task["is_gone"] for task in user.asks("report")["tasks"]} == {True}
    found = user.asks("playbook", "suggest", "--min", "2")
    assert (found["looked_at"], found["solved"], found["gone"]) == (2, 0, 2)


def test_it_is_said_in_words(user: User) -> None:
    run_git(user.root, "checkout", "-q", ".")
    user.capsys.readouterr()
    assert run(["report"]) == 0
    told = user.capsys.readouterr().out
    assert "Tasks: 2 applied, but no longer in the files." in told
    assert "\nDelegating lost " in told
    assert "tierkit outcome" not in told
    assert run(["playbook", "suggest"]) == 0
    assert "0 of them solved and kept; of 2 more the change is no longer in the files." in user.capsys.readouterr().out


def test_one_of_two_changes_of_a_file_that_is_taken_out_by_hand_is_the_only_one_that_is_gone(user: User) -> None:
    user.file.write_text(user.file.read_text().replace("  # week 2", ""))
    assert user.ends == (1, 1)


def test_changes_on_another_branch_or_in_a_stash_are_not_gone(user: User) -> None:
    run_git(user.root, "stash", "-q")
    assert user.ends == (2, 0)
    run_git(user.root, "stash", "pop", "-q")
    run_git(user.root, "switch", "-qc", "feature")
    run_git(user.root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qam", "two drafts")
    run_git(user.root, "switch", "-q", "main")
    assert user.file.read_text() == BUGGY + REST
    assert user.ends == (2, 0)


def test_of_a_project_that_is_gone_nothing_is_known(
    user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    user.root.rename(tmp_path / "elsewhere")
    assert user.ends == (2, 0)


def is_gone_of(field: Field, now: datetime) -> bool:
    return is_gone(field.ws, whole(applied(field.ws, field.state, "t1")), at=THEN, now=now)


def test_lines_that_were_committed_and_rewritten_a_month_later_are_not_gone(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.commit(THEN + DAY)
    field.write("print(1)\n", THEN + 30 * DAY)
    field.commit(THEN + 30 * DAY)
    assert not is_gone_of(field, THEN + 40 * DAY)


@pytest.mark.parametrize("days", [1, 40])
def test_lines_that_nobody_ever_committed_stay_gone(tmp_path: Path, days: int) -> None:
    field = Field(tmp_path)
    assert not is_gone_of(field, THEN + days * DAY)
    field.git("checkout", "-q", "shop.py")
    assert is_gone_of(field, THEN + days * DAY)
    field.write(NEW, THEN + DAY)
    assert not is_gone_of(field, THEN + days * DAY)


def test_a_change_committed_and_reverted_within_the_week_is_gone(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.commit(THEN + DAY)
    field.git("-c", "user.name=a", "revert", "--no-edit", "HEAD", at=THEN + 2 * DAY)
    assert is_gone_of(field, THEN + 40 * DAY)


TAX = "def rate(a, n):\n    {0} = a * n\n    {0} += {1}\n    return {0}\n"
BODIES = [TAX.format("x", 1), TAX.format("y", 2), TAX.format("z", 3)]
WIDE = "def rate(a, n):\n    return 0\n"


class Retrier(User):
    """Somebody who lets drafts of one new file be made, each after doing something about the one before."""

    async def delegate(self) -> None:
        self.file = self.root / "shop/tax3.py"

    def draft(self, *bodies: str, between: Callable[[], object] = lambda: None) -> list[str]:
        return asyncio.run(self.drafted(bodies, between))

    async def drafted(self, bodies: tuple[str, ...], between: Callable[[], object]) -> list[str]:
        made = []
        for at, body in enumerate(bodies):
            if at:
                between()
            goal = f"Write rate(a, n), attempt {at}."
            job = {"task": goal, "files": ["shop/tax3.py"], "checks": [CHECK], "wait_s": 30, "proof": "stays_green"}
            old = self.file.read_text() if self.file.exists() else ""
            words = ScriptedGateway([said(FORM.format(old=old, new=body).replace("cart", "tax3"))])
            async with client_at(self.config, words) as client:
                reply = (await client.call_tool("draft_with_cheap_model", job)).structured_content
            assert reply["status"] == "applied", reply
            made.append(reply["task_id"])
        return made

    @property
    def stand(self) -> dict[str, bool]:
        return {task["task_id"]: not task["is_gone"] for task in self.asks("report")["tasks"]}


@pytest.fixture
def retrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Retrier:
    base = Retrier(tmp_path, monkeypatch, capsys)
    (base.root / "shop/cart.py").write_text(FIXED)
    run_git(base.root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qam", "percentage")
    return base


@pytest.mark.parametrize("bodies", [BODIES, BODIES[:1] * 3], ids=["sharing a line", "the same to the byte"])
def test_drafts_thrown_away_before_a_like_one_was_made_are_gone(retrier: Retrier, bodies: list[str]) -> None:
    tasks = retrier.draft(*bodies, between=retrier.file.unlink)
    assert retrier.stand == {tasks[0]: False, tasks[1]: False, tasks[2]: True}
    retrier.capsys.readouterr()
    run(["score", tasks[0], "--json"])
    card = json.loads(retrier.capsys.readouterr().out)
    assert (card["changed_lines"], card["rewritten_lines"], card["verdict"]) == (4, 4, "moved_work")
    run_git(retrier.root, "add", "-A")
    run_git(retrier.root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "the third")
    assert retrier.ends == (1, 2)


def test_a_change_that_was_checked_out_stays_gone_when_a_later_task_writes_its_line(retrier: Retrier) -> None:
    retrier.file.write_text(WIDE)
    run_git(retrier.root, "add", "-A")
    run_git(retrier.root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "a rate of 0")
    wanted = WIDE.replace("0", "a * n")
    tasks = retrier.draft(
        wanted, wanted + "\n\nFREE = 0\n", between=lambda: run_git(retrier.root, "checkout", "-q", ".")
    )
    assert retrier.stand == {tasks[0]: False, tasks[1]: True}


def test_a_change_that_a_later_task_found_and_added_to_stands_beside_it(retrier: Retrier) -> None:
    tasks = retrier.draft(BODIES[0], BODIES[0] + "\n\n" + BODIES[0].replace("rate", "late"))
    assert retrier.stand == {tasks[0]: True, tasks[1]: True}


def test_a_change_stands_while_half_of_its_lines_do(retrier: Retrier) -> None:
    tasks = retrier.draft(BODIES[0])
    retrier.file.write_text(BODIES[0].replace("    x +=", "    x -=").replace("return x", "return int(x)"))
    assert retrier.stand == {tasks[0]: True}
    retrier.file.write_text(retrier.file.read_text().replace("a * n", "n * a"))
    assert retrier.stand == {tasks[0]: False}
