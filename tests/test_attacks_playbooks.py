"""Attacks on playbooks that once got through, each through the door it came by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_tierkit.playbook.cases import run_cases
from mcp_tierkit.playbook.command import command_starter
from mcp_tierkit.sandbox import Confinement, probe
from mcp_tierkit.stages.repetition import playbook_figures
from tests.playbooks import WRITES, World, git, loaded, make_playbook, make_world
from tests.support import client_at

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layered")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def history_with_a_link(where: Path, target: Path) -> str:
    """A git history as text whose one commit makes `d` a link to somewhere else."""
    repo = where / "made"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "d").symlink_to(target)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "x")
    return subprocess.run(["git", "fast-export", "main"], cwd=repo, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("confinement", ["sandbox", "none"])
async def test_a_link_in_the_history_of_a_case_leads_no_write_of_ours_elsewhere(
    tmp_path: Path, world: World, confinement: str
) -> None:
    (tmp_path / "victim").mkdir()
    files = {
        "tests/a/repo.fast-import": history_with_a_link(tmp_path, tmp_path / "victim"),
        "tests/a/workspace/d/.bashrc": "evil",
        "tests/a/made.sql": "create table t (x);",
        "tests/a/case.json": '{"setup": {"sqlite": {"d/made.db": "made.sql"}}, "expect": {"status": "ok"}}',
        "tests/b/repo.fast-import": history_with_a_link(tmp_path / "home", tmp_path / "victim"),
        "tests/b/made.sql": "create table t (x);",
        "tests/b/case.json": '{"setup": {"sqlite": {"d/made.db": "made.sql"}}, "expect": {"status": "ok"}}',
    }
    playbook = loaded(make_playbook(world.project, "evil", "say('x')", files=files))
    how = await probe() if confinement == "sandbox" else Confinement(kind="none")
    results = [result async for result in run_cases(playbook, how)]
    assert ["leads through a link" in str(result.faults) for result in results] == [True, True]
    assert list((tmp_path / "victim").iterdir()) == []


DEEP = """
        schema = 1
        kind = "script"
        version = "1.0.0"
        run = { script = "scripts/run.py", runtime = "python" }
        effects = { read_only = false, reads = ["**"], writes = ["*.txt"] }
        [outputs]
        said = { type = "object" }
"""


@pytest.mark.parametrize("depth", [60, 100, 300, 700, 5000])
async def test_a_result_too_deep_to_write_down_changes_nothing_and_leaves_its_row(world: World, depth: int) -> None:
    script = f"""
        open("n.txt", "w").write("new")
        with open(os.environ["PLAYBOOK_RESULT"], "w") as out:
            out.write('{{"said": ' + '{{"a": ' * {depth} + "1" + "}}" * {depth} + "}}")
    """
    world.add("deep", script, toml=DEEP)
    async with client_at(world.config) as client:
        result = await client.call_tool("run_playbook", {"name": "deep"})
    assert not result.is_error
    reply = result.structured_content
    assert reply["status"] == ("ok" if depth == 60 else "bad_output")
    assert (world.project / "n.txt").exists() == (depth == 60)
    [run] = await world.ledger.playbook_runs(reply["task_id"])
    assert run.status == reply["status"]


async def test_a_file_name_that_is_no_text_spoils_neither_log_nor_wire(world: World) -> None:
    script = r"""
        for name in (b"bad\xff.zip", b"two\nlines\x1b[31m", "flip\u202e.bin".encode()):
            open(name, "w").close()
        say("x")
    """
    world.add("unpacks", script, effects=WRITES)
    async with client_at(world.config) as client:
        reply = (await client.call_tool("run_playbook", {"name": "unpacks"})).structured_content
    assert reply["status"] == "write_outside"
    told = reply["log_tail"]
    assert json.dumps(reply).encode("utf-8")
    assert not {"\x1b", "\u202e"} & set(told)
    assert "two\\nlines" in told


@pytest.mark.parametrize("how", ["link", "home"])
async def test_a_repository_cannot_give_a_shipped_playbook_a_python_of_its_own(world: World, how: str) -> None:
    """It would say whatever the repository wants, under the package's name and digest."""
    git(world.project, "init", "-q", "-b", "main")
    git(world.project, "commit", "-q", "--allow-empty", "-m", "first")
    evil = world.project / "evil"
    (evil / "bin").mkdir(parents=True)
    (evil / "lib/python3.11").mkdir(parents=True)
    (evil / "lib/python3.11/os.py").write_text("")
    fake = evil / "bin/python3"
    fake.write_text('#!/bin/sh\necho \'{"clean": true}\' > "$PLAYBOOK_RESULT"\n')
    fake.chmod(0o755)
    own = world.project / ".venv"
    (own / "bin").mkdir(parents=True)
    (own / "bin/python").symlink_to(fake if how == "link" else os.path.realpath(sys.executable))
    (own / "pyvenv.cfg").write_text(f"home = {evil / 'bin'}\n")
    run = await world.run("repository-sweep")
    assert run.status == "ok", run.log_tail
    assert run.output is not None
    assert run.output["files"] >= 0


@pytest.mark.parametrize("command", ["echo <<effects>> <<name>>", "printf '%s' '<<words>>'"])
async def test_a_command_that_looks_like_a_hole_of_a_template_stays_as_it_is(command: str) -> None:
    starter = command_starter("holes", command, ())
    assert any(command in content.data.decode() for content in starter.files.values())
    assert starter.loaded().contract.effects.read_only


async def test_neither_a_dry_run_nor_one_that_was_taken_back_counts_as_work_done(world: World) -> None:
    world.add("writer", "open('a.txt', 'w').write('new'); say('x')", effects=WRITES)

    async with client_at(world.config) as client:
        seen = []
        for dry_run in (True, True, False):
            call = {"name": "writer", "dry_run": dry_run}
            reply = (await client.call_tool("run_playbook", call)).structured_content
            seen.append(figures(world))
        undo = {"task_id": reply["task_id"], "outcome": "reverted", "undo": True}
        assert not (await client.call_tool("record_outcome", undo)).is_error
    assert [*seen, figures(world)] == [None, None, (1, 1), (1, 0)]


def figures(world: World) -> tuple[int, int] | None:
    found = playbook_figures(world.config).get("writer")
    return (found.runs, found.ok) if found and found.runs else None
