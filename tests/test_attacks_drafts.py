"""Attacks on drafts through the MCP client: what a reply, a file or a past task may not bring about."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_tierkit.config import Config
from tests.support import RIGHT, make_config, make_project
from tests.test_drafts import MID, drafted, reply

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
