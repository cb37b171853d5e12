"""The main job from end to end on a project that is made for it. With replayed words everything else is real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from mcp_tierkit.demo_upstream import Reply, Upstream
from mcp_tierkit.errors import TierkitError

DATA = Path(__file__).parent / "data" / "demo"
CHECK = [sys.executable, "-m", "unittest", "-q", "tests.test_shifts"]
FILE = "rota/shifts.py"
Show = Callable[[str, dict[str, Any]], None]
"""Told the name of each step and what it gave: a tool's reply, or facts."""


class Scene:
    """A throwaway project with a user's folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "rota"
        self.home = folder / "home"
        self.ledger = self.home / "ledger.db"
        self.log = folder / "upstream.jsonl"

    def set_up(self, url: str | None) -> None:
        """Write the project with its history and, for a replay, the user's settings."""
        shutil.copytree(DATA / "project", self.project, ignore=shutil.ignore_patterns("__pycache__"))
        self.home.mkdir()
        for args in (
            ["init", "-q", "-b", "main"],
            ["add", "-A"],
            ["commit", "-q", "-m", "feat: keep a rota"],
            ["tag", "v0.1.0"],
        ):
            self.git(*args)
        if url is not None:
            (self.home / "tierkit.toml").write_text(settings(url))

    def git(self, *args: str) -> str:
        who = ["-c", "user.name=demo", "-c", "user.email=demo@example.com"]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *who, *args], cwd=self.project, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout

    def env(self, is_live: bool) -> dict[str, str]:
        """What the server is started with: in a replay nothing of the user's own configuration or keys."""
        base = dict(os.environ) if is_live else {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        own = {} if is_live else {"TIERKIT_CONFIG": str(self.home / "tierkit.toml")}
        state = {"TIERKIT_STATE_DIR": str(self.home / "state"), "TIERKIT_LEDGER": f"sqlite:///{self.ledger}"}
        return {**base, **own, **state}

    def run_check(self) -> int:
        return subprocess.run(CHECK, cwd=self.project, capture_output=True, check=False).returncode


def settings(url: str) -> str:
    """The demo user's `tierkit.toml`, its tiers pointed at the loopback upstream."""
    return (DATA / "tierkit.toml").read_text("utf8").replace('"{url}"', json.dumps(url))


def replies() -> list[Reply]:
    """The words that are replayed: a draft that misses a case, its repair, a review."""
    tiers = tomllib.loads(settings(""))["tiers"]
    script = (("draft", "cheap"), ("repair", "cheap"), ("review", "strong"))
    return [
        Reply(text=(DATA / "replies" / f"{name}.txt").read_text("utf8"), model=tiers[tier]["models"][0].split("/")[-1])
        for name, tier in script
    ]


def run_demo(folder: Path, show: Show, *, is_live: bool = False) -> Scene:
    """Play the demo in `folder`, which must be empty. Raises TierkitError where a step did not do its work."""
    scene = Scene(folder)
    if is_live:
        scene.set_up(None)
        anyio.run(_play, scene, show, is_live)
        return scene
    with Upstream(replies(), log=scene.log, caches=True) as upstream:
        scene.set_up(upstream.base_url)
        anyio.run(_play, scene, show, is_live)
    return scene


async def _play(scene: Scene, show: Show, is_live: bool) -> None:
    """What an agent would do, as a real MCP client over stdio."""
    show("check", {"command": "python -m unittest tests.test_shifts", "exit": scene.run_check()})
    args = ["-m", "mcp_tierkit", "serve", "--project", str(scene.project)]
    server = StdioServerParameters(command=sys.executable, args=args, env=scene.env(is_live))
    refusal: TierkitError | None = None
    async with Client(server) as client:
        try:
            await _work(client, scene, show)
        except TierkitError as error:
            refusal = error  # Raised below: the client's task group would wrap it in a group of its own.
    if refusal is not None:
        raise refusal


async def _work(client: Client, scene: Scene, show: Show) -> None:
    job = {"task": "@TASK.md", "files": [FILE], "checks": [{"argv": CHECK}]}
    plan = await _call(client, show, "plan_task", job)
    draft = await _call(client, show, "draft_with_cheap_model", {"task_id": plan["task_id"]})
    show("check", {"command": "python -m unittest tests.test_shifts", "exit": scene.run_check()})
    await _call(client, show, "review_diff", {"diff": "working_tree"})
    if draft["status"] == "applied":
        scene.git("commit", "-qam", "fix: join shifts that touch, in order of time")
    await _call(client, show, "run_playbook", {"name": "changelog-from-git", "inputs": {"from_ref": "v0.1.0"}})


async def _call(client: Client, show: Show, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    text = next((block.text for block in result.content if isinstance(block, TextContent)), "")
    if result.is_error:
        raise TierkitError(f"{tool} was refused in the demo: {text}", next_step="Run `tierkit doctor`.")
    reply: dict[str, Any] = json.loads(text)
    show(tool, reply)
    return reply
