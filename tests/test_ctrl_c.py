"""Ctrl-C in a shell: the work ends, its calls are settled, and the user is told what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.cli import run, stopped
from mcp_tierkit.demo_upstream import Reply, Upstream
from mcp_tierkit.gateway import ScriptedGateway
from tests.support import BUGGY, JOB, RIGHT, desk_at, make_config, make_env, make_project, said

ROOT = Path(__file__).parent.parent


def _hear_ctrl_c() -> None:
    """What a shell starts in the background ignores it, and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupted(project: Path, env: dict[str, str], upstream: Upstream) -> tuple[int, str]:
    """Exit code and stderr of a draft that gets SIGINT while its model is being asked."""
    command = [sys.executable, "-m", "mcp_tierkit", "draft", "Take the discount as a percentage.", "-f", "shop/cart.py"]
    env = os.environ | env | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=project, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_ctrl_c,
    ) as begun:  # fmt: skip
        try:
            upstream.wait_asked(1, 60)
            begun.send_signal(signal.SIGINT)
            _, told = begun.communicate(timeout=60)
        finally:
            begun.kill()
    return begun.returncode, told


def test_a_draft_that_its_user_cancels_says_what_it_may_have_cost_and_that_nothing_was_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "app", git=False)
    with Upstream([Reply(text=RIGHT, hold="for ever")]) as upstream:
        env = make_env(tmp_path / "home", url=upstream.base_url)
        code, told = _interrupted(project, env, upstream)
    at_once, cancelled, applied = told.strip().splitlines()
    task_id = cancelled.split()[1].rstrip(".")
    assert code == 130
    assert at_once.startswith("Cancelling")
    assert "It cost up to $" in cancelled
    assert "its call was cut off" in cancelled
    assert applied == "Nothing was applied. If it is still wanted, run the same command again."
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)
    assert run(["task", task_id]) == 1
    task = capsys.readouterr().out
    assert "state: cancelled" in task
    assert "draft_with_cheap_model" not in task
    assert run(["report"]) == 0
    assert "Have the provider" not in capsys.readouterr().out
    assert run(["report", "--json"]) == 0
    [unpriced] = json.loads(capsys.readouterr().out)["unpriced"]
    assert unpriced["missing"] == "answer"


@pytest.mark.anyio
async def test_a_task_that_its_caller_cancelled_is_not_called_interrupted_because_the_server_left_next(
    tmp_path: Path,
) -> None:
    project, gate = make_project(tmp_path / "app", git=False), anyio.Event()
    config, gateway = make_config(project, tmp_path / "home"), ScriptedGateway([said(RIGHT)], gate=gate.wait)
    async with desk_at(config, gateway) as desk:
        async with anyio.create_task_group() as group:
            group.start_soon(desk.draft, DraftCall(**JOB, wait_s=60))
            await gateway.begun()
            group.cancel_scope.cancel()
        [task_id] = desk.jobs.begun
    async with desk_at(config) as later:
        assert (await later.kit.ledger.standing(task_id)).state == "cancelled"
    assert (project / "shop/cart.py").read_text() == BUGGY


@pytest.mark.parametrize("has_stderr", [True, False])
def test_where_there_is_no_stderr_nothing_is_written_to_the_file_that_has_its_number(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], has_stderr: bool
) -> None:
    if not has_stderr:
        monkeypatch.setattr(sys, "__stderr__", None)
    cancelled: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: cancelled.append(number))
    try:
        with stopped.heard():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert cancelled == [signal.SIGINT]
    assert ("Cancelling" in capfd.readouterr().err) == has_stderr
