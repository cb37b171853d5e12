"""Attacks on drafts through the MCP client: what a reply, a file or a past task may not bring about."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_tierkit.config import Config
from tests.support import BUGGY, CHECK, CHECK_NAME, FIXED, RIGHT, make_config, make_project
from tests.test_drafts import MID, called, drafted, reply, review_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app")


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    return make_config(project, tmp_path / "home", toml=MID)


# --- edits that are kept in part


def envelope(*lines: str) -> str:
    return "\n".join(["*** Begin Patch", *lines, "*** End Patch", ""])


MOVES = {
    "out of the files": envelope("*** Update File: shop/old.py", "*** Move to: lib/old.py"),
    "onto a guarded name": envelope("*** Update File: shop/old.py", "*** Move to: shop/conftest.py"),
    "by a deletion and a new file": envelope("*** Delete File: shop/old.py", "*** Add File: lib/old.py", "+KEEP = 1"),
    "in two steps": envelope("*** Update File: shop/old.py", "*** Move to: shop/mid.py")
    + envelope("*** Update File: shop/mid.py", "*** Move to: lib/old.py"),
}


@pytest.mark.parametrize("how", MOVES)
async def test_a_file_that_a_reply_moves_to_where_it_may_not_stays_where_it_is(
    config: Config, project: Path, how: str
) -> None:
    (project / "shop/old.py").write_text("KEEP = 1\n")
    found, _ = await drafted(config, reply(RIGHT + MOVES[how]), files=["shop/"])
    assert (found["status"], found["files"]) == ("applied", ["shop/cart.py +1 -1 @6"])
    assert "shop/old.py" in found["reverted"]
    assert (project / "shop/old.py").read_text() == "KEEP = 1\n"
    assert not (project / "shop/mid.py").exists()


async def test_a_file_that_may_only_be_read_is_not_copied_in_by_a_rename(config: Config, project: Path) -> None:
    (project / "lib").mkdir()
    (project / "lib/rates.py").write_text("RATE = 1\n")
    moved = envelope("*** Update File: lib/rates.py", "*** Move to: shop/rates.py")
    found, _ = await drafted(config, reply(RIGHT + moved), files=["shop/"], context=["lib/rates.py"])
    assert (found["status"], set(found["reverted"])) == ("applied", {"lib/rates.py", "shop/rates.py"})
    assert not (project / "shop/rates.py").exists()


async def test_a_rename_within_the_files_is_kept_beside_a_new_file_that_is_not(config: Config, project: Path) -> None:
    (project / "shop/old.py").write_text("KEEP = 1\n")
    moved = envelope("*** Update File: shop/old.py", "*** Move to: shop/new.py")
    stray = envelope("*** Add File: lib/stray.py", "+x = 1")
    found, _ = await drafted(config, reply(RIGHT + moved + stray), files=["shop/"])
    assert (found["status"], found["reverted"]) == ("applied", ["lib/stray.py"])
    assert (project / "shop/new.py").read_text() == "KEEP = 1\n"
    assert not (project / "shop/old.py").exists()


# --- what a second draft is held to


async def test_a_second_draft_after_an_undo_must_turn_the_tasks_own_check_green_as_well(
    config: Config, project: Path
) -> None:
    first, _ = await drafted(config, reply(RIGHT))
    task = {"task_id": first["task_id"]}
    await called(config, "review_diff", task, review_of("test"))
    await called(config, "record_outcome", {**task, "outcome": "reverted", "undo": True})
    check = asking(project, "count([1])", "7")
    _, found = await called(config, "draft_with_cheap_model", {**task, "checks": [check]}, *[reply(SEVEN)] * 3)
    assert (found["status"], [each["after"] for each in found["checks"]]) == ("needs_work", ["red", "green"])
    assert (project / "shop/cart.py").read_text() == BUGGY


async def test_a_second_draft_may_not_break_the_tasks_own_check_however_many_proved_changes_since(
    config: Config, project: Path
) -> None:
    first, _ = await drafted(config, reply(RIGHT))
    task = {"task_id": first["task_id"]}
    await called(config, "review_diff", task, review_of("test"))
    for number in range(5):
        await prove_another(config, project, number)
    check = asking(project, "total([1000, 500], discount=10)", "7")
    broken = SEVEN.replace("len(prices)", "sum(prices) * (100 - discount) // 100")
    _, found = await called(config, "draft_with_cheap_model", {**task, "checks": [check]}, *[reply(broken)] * 3)
    assert found["status"] == "needs_work"
    assert {each["name"]: each["after"] for each in found["checks"]}[CHECK_NAME] == "red"
    assert (project / "shop/cart.py").read_text() == FIXED


SEVEN = """shop/cart.py
```
<<<<<<< SEARCH
    return len(prices)
=======
    return 7
>>>>>>> REPLACE
```
"""


def asking(project: Path, call: str, wanted: str) -> str:
    """A further check."""
    (project / "tests/test_more.py").write_text(
        f"import unittest\nfrom shop.cart import count, total\n\n\nclass T(unittest.TestCase):\n"
        f"    def test_more(self):\n        self.assertEqual({call}, {wanted})\n"
    )
    return CHECK.replace("tests.test_cart", "tests.test_more")


async def prove_another(config: Config, project: Path, number: int) -> None:
    (project / f"shop/part{number}.py").write_text("X = 0\n")
    (project / f"tests/test_part{number}.py").write_text(
        f"import unittest\nfrom shop.part{number} import X\n\n\nclass T(unittest.TestCase):\n"
        "    def test_x(self):\n        self.assertEqual(X, 1)\n"
    )
    text = f"shop/part{number}.py\n```\n<<<<<<< SEARCH\nX = 0\n=======\nX = 1\n>>>>>>> REPLACE\n```\n"
    found, _ = await drafted(
        config, reply(text), task=f"Set X to 1 in part {number}.", files=[f"shop/part{number}.py"],
        checks=[CHECK.replace("test_cart", f"test_part{number}")],
    )  # fmt: skip
    assert found["status"] == "applied"
