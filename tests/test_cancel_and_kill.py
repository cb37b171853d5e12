"""Cancelled, killed and crowded: nothing is lost, left running, half applied or overspent."""

from __future__ import annotations

import contextlib
import marshal
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from mcp_tierkit.calls import DraftCall, OutcomeCall, TaskCall
from mcp_tierkit.config import load_config
from mcp_tierkit.demo_upstream import Reply, Upstream
from mcp_tierkit.desk import Desk
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.migrations import SCHEMA
from mcp_tierkit.sandbox import BOOT, _launcher, memory_file
from mcp_tierkit.server import build_server
from mcp_tierkit.types import Completion, Request
from tests.support import BUGGY, FIXED, JOB, RIGHT, desk_at, make_config, make_env, make_project, said, snapshot

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent
UNCHECKED: dict[str, Any] = {"task": "Take the discount as a percentage.", "files": ["shop/cart.py"]}
FLAT = """
[tiers.cheap]
models = ["openai/tiny-cheap"]
base_url = "{url}"
max_output_tokens = 1000
price = {{ input = "0", output = "1" }}
[budget]
day_usd = "0.0079"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app")


def processes_in(folder: Path) -> list[int]:
    """Processes whose working folder lies in `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                cwd = Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if cwd.is_relative_to(folder):
                found.append(int(entry.name))
    return found


async def until_quiet(folder: Path) -> list[int]:
    """Looks are counted, not seconds: a machine that stands still for a while gives nobody the time to end."""
    for _ in range(3000):
        if not processes_in(folder):
            break
        await anyio.sleep(0.02)
    return processes_in(folder)


# --- cancelling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_cancelling_a_request_closes_the_model_call_and_settles_its_row(
    project: Path, tmp_path: Path, mode: str
) -> None:
    with Upstream([Reply(text=RIGHT, hold="for ever")]) as upstream:
        config = make_config(project, tmp_path / "home", url=upstream.base_url)
        async with desk_at(config) as desk, Client(build_server(desk), mode=mode) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "draft_with_cheap_model", UNCHECKED)
                await anyio.to_thread.run_sync(upstream.wait_asked, 1, 60)
                group.cancel_scope.cancel()
            [served] = await anyio.to_thread.run_sync(upstream.wait_served, 1, 10)
            assert served.client_left
            await all_ended(desk)
            [row] = [row for task in await task_ids(desk) for row in await desk.kit.ledger.calls(task)]
    assert (row.status, row.cost_nanousd) == ("cancelled", None)
    assert row.reserved_nanousd


async def test_get_task_cancels_what_another_process_runs(project: Path, tmp_path: Path) -> None:
    config = make_config(project, tmp_path / "home")
    gate = anyio.Event()
    gateway = ScriptedGateway([said(RIGHT)], gate=gate.wait)
    async with desk_at(config, gateway) as one, desk_at(config) as other:
        running = await one.draft(DraftCall(**JOB, wait_s=0))
        await gateway.begun()
        ended = await other.get_task(TaskCall(task_id=running["task_id"], cancel=True, wait_s=10))
    assert (ended["status"], ended["state"], ended["applied"]) == ("cancelled", "cancelled", False)
    assert re.fullmatch(r"Cancelled\. Up to \$0\.\d+ counts for 1 call of unknown cost\.", ended["summary"])
    assert (project / "shop/cart.py").read_text() == BUGGY


async def test_cancelling_a_waiting_get_task_cancels_nothing(project: Path, tmp_path: Path) -> None:
    gate = anyio.Event()
    gateway = ScriptedGateway([said(RIGHT)], gate=gate.wait)
    async with desk_at(make_config(project, tmp_path / "home"), gateway) as desk:
        running = await desk.draft(DraftCall(**JOB, wait_s=0))
        with anyio.move_on_after(0.1):
            await desk.get_task(TaskCall(task_id=running["task_id"], wait_s=60))
        gate.set()
        done = await desk.get_task(TaskCall(task_id=running["task_id"], wait_s=60))
    assert (done["status"], done["state"]) == ("applied", "done")


async def test_the_end_of_the_server_ends_its_tasks_without_the_model_s_answer(project: Path, tmp_path: Path) -> None:
    config = make_config(project, tmp_path / "home")
    gate = anyio.Event()
    gateway = ScriptedGateway([said(RIGHT)], gate=gate.wait)
    async with desk_at(config, gateway) as desk:
        running = await desk.draft(DraftCall(**JOB, wait_s=0))
        await gateway.begun()
    async with desk_at(config) as later:
        told = await later.get_task(TaskCall(task_id=running["task_id"]))
        [row] = await later.kit.ledger.calls(running["task_id"])
    assert (told["state"], row.status) == ("interrupted", "cancelled")


async def all_ended(desk: Desk) -> None:
    with anyio.fail_after(60):
        while any([(await desk.kit.ledger.standing(task)).state == "running" for task in await task_ids(desk)]):
            await anyio.sleep(0.02)


async def task_ids(desk: Desk) -> list[str]:
    from mcp_tierkit.ledger.report import reading, recent_tasks

    with reading(desk.kit.config.ledger_url) as conn:
        return [task.task_id for task in recent_tasks(conn)]


# --- crowding -------------------------------------------------------------------------------------


async def test_twenty_drafts_against_a_budget_for_seven_make_seven_requests(project: Path, tmp_path: Path) -> None:
    with Upstream(lambda asked: Reply(text=RIGHT, hold="all have tried")) as upstream:
        env = make_env(tmp_path / "home")
        Path(env["TIERKIT_CONFIG"]).write_text(FLAT.format(url=upstream.base_url))
        config = load_config(project=str(project), env=env).model_copy(update={"settle_wait_s": 0})
        statuses: list[str] = []
        async with desk_at(config) as desk:

            async def one(n: int) -> None:
                asked = UNCHECKED | {"task": f"{UNCHECKED['task']} It is part {n} of it."}
                reply = await desk.draft(DraftCall(**asked, wait_s=120))
                statuses.append(reply["status"])
                if len(statuses) == 13:
                    upstream.release("all have tried")

            async with anyio.create_task_group() as group:
                for n in range(20):
                    group.start_soon(one, n)
    assert len(upstream.asked) == 7
    assert (statuses.count("over_budget"), statuses.count("unproven")) == (13, 7)
    assert statuses[:13] == ["over_budget"] * 13


# --- killing --------------------------------------------------------------------------------------


@pytest.fixture
def zygote(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "TIERKIT_NO_SANDBOX": "1" if request.param == "in_place" else "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.zygote"], cwd=ROOT, env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    yield process
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait(60)


def spawn(zygote: subprocess.Popen[str], project: Path, home: Path) -> int:
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(f"{project}\t{home}\n")
    zygote.stdin.flush()
    return int(zygote.stdout.readline())


def gone(zygote: subprocess.Popen[str]) -> None:
    assert zygote.stdout is not None
    assert zygote.stdout.readline() == "gone\n"


@pytest.mark.parametrize("zygote", ["sandbox", "in_place"], indirect=True)
@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
async def test_a_killed_server_leaves_the_tree_whole_and_every_call_accounted(
    zygote: subprocess.Popen[str], tmp_path: Path, kills: int
) -> None:
    home, other = tmp_path / "home", make_project(tmp_path / "other")
    project = make_project(tmp_path / "app")
    before = snapshot(project)
    after = {**before, "shop/cart.py": (FIXED.encode(), before["shop/cart.py"][1])}
    started = time.monotonic()
    spawn(zygote, project, home)
    gone(zygote)
    whole_s = time.monotonic() - started
    assert snapshot(project) == after
    gate = anyio.Event()
    bystander_gateway = ScriptedGateway([said(RIGHT)], gate=gate.wait)
    chance = random.Random(7)
    async with desk_at(make_config(other, home), bystander_gateway) as bystander:
        held = await bystander.draft(DraftCall(**JOB, wait_s=0))
        await bystander_gateway.begun()
        for _ in range(kills):
            (project / "shop/cart.py").write_text(BUGGY)
            pid = spawn(zygote, project, home)
            await anyio.sleep(chance.uniform(0, whole_s))
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                os.kill(pid, signal.SIGKILL)
            await anyio.to_thread.run_sync(gone, zygote)
            assert await until_quiet(project) == []
            async with desk_at(make_config(project, home)) as later:
                await later.tidy()
                assert snapshot(project) in (before, after)
                await every_call_is_accounted(later, held["task_id"])
        gate.set()
        done = await bystander.get_task(TaskCall(task_id=held["task_id"], wait_s=60))
    assert done["status"] == "applied"


def test_a_command_that_is_long_in_starting_still_ends_with_its_server(tmp_path: Path) -> None:
    order: dict[str, Any] = {"argv": ["no-such-program"], "cwd": str(tmp_path), "box": None, "limits": {}}
    order["env"] = {"PATH": "/no/such/folder:" * 15_000}  # Each is tried: seconds of looking.
    life_theirs, life = os.pipe()
    answer, answer_theirs = os.pipe()
    with memory_file(marshal.dumps((_launcher(), order))) as spec:
        fds = (life_theirs, answer_theirs, spec.fileno())
        launcher = subprocess.Popen([sys.executable, "-I", "-S", "-c", BOOT, *map(str, fds)], pass_fds=fds)
    os.close(life_theirs)
    os.close(answer_theirs)
    while not processes_in(tmp_path):
        assert launcher.poll() is None
        time.sleep(0.001)
    os.close(life)
    with os.fdopen(answer, "rb") as told:
        assert marshal.load(told) == {"code": -signal.SIGKILL}
    assert launcher.wait(60) == 0


async def every_call_is_accounted(desk: Desk, held: str) -> None:
    for task_id in await task_ids(desk):
        rows = await desk.kit.ledger.calls(task_id)
        state = (await desk.kit.ledger.standing(task_id)).state
        if task_id == held:
            assert [row.status for row in rows] == ["reserved"]
            assert state == "running"
        else:
            assert {row.status for row in rows} <= {"settled", "interrupted"}
            assert state != "running"


async def test_a_change_that_was_applied_before_the_crash_is_said_to_be_applied(project: Path, tmp_path: Path) -> None:
    config = make_config(project, tmp_path / "home")
    async with desk_at(config, ScriptedGateway([said(RIGHT)])) as desk:
        done = await desk.draft(DraftCall(**JOB))
        await desk.kit.ledger.claim(done["task_id"])
        await desk.kit.ledger.finish(done["task_id"], "interrupted", '{"reply": null}')
        told = await desk.get_task(TaskCall(task_id=done["task_id"]))
        assert told["applied"] is True
        await desk.record_outcome(OutcomeCall(task_id=done["task_id"], outcome="reverted", undo=True))
        assert (project / "shop/cart.py").read_text() == BUGGY


class Upgraded(ScriptedGateway):
    """While the model answers, a newer version of the product makes the ledger its own."""

    ledger: Path

    async def complete(self, request: Request) -> Completion:
        set_schema(self.ledger, SCHEMA + 1)
        return await super().complete(request)


def set_schema(ledger: Path, number: int) -> None:
    with contextlib.closing(sqlite3.connect(ledger)) as conn:
        conn.execute(f"pragma user_version = {number}")


async def test_a_ledger_that_cannot_be_written_any_more_ends_one_task_and_not_the_server(
    project: Path, tmp_path: Path
) -> None:
    gateway, config = Upgraded([said(RIGHT)]), make_config(project, tmp_path / "home")
    gateway.ledger = tmp_path / "home/ledger.db"
    async with desk_at(config, gateway) as desk, Client(build_server(desk)) as client:
        failed = await client.call_tool("draft_with_cheap_model", JOB)
        assert failed.is_error
        assert "written by a newer tierkit" in str(failed.content)
        assert "no model was called" not in str(failed.content)
        set_schema(gateway.ledger, SCHEMA)
        with contextlib.closing(sqlite3.connect(gateway.ledger)) as conn:
            [(task_id, status, cost)] = conn.execute("select task_id, status, cost_nanousd from calls").fetchall()
        assert (status, cost) == ("reserved", None), "counted with all that it can have cost"
        assert "written by a newer tierkit" in str((await client.call_tool("get_task", {"task_id": task_id})).content)
        assert not (await client.call_tool("plan_task", JOB)).is_error, "the server works on"
    assert (project / "shop/cart.py").read_text() == BUGGY
