"""Playbooks made for tests: a folder from a few words, and a user with a project to trust them in."""

from __future__ import annotations

import os
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mcp_tierkit.config import Config, load_config
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.playbook.folder import Folder, read_folder
from mcp_tierkit.playbook.load import Playbook, load
from mcp_tierkit.playbook.match import PhraseBook
from mcp_tierkit.playbook.trust import trust
from mcp_tierkit.routing import Match
from mcp_tierkit.stages.playbook import execute, prepare, repository_of
from mcp_tierkit.types import PlaybookRun, Task
from mcp_tierkit.workspace import Workspace

CONTRACT = """
schema = 1
kind = "script"
version = "1.0.0"
match.phrases = ["{words} {{word}}"]
run = {{ script = "scripts/{script}", runtime = "{runtime}", timeout_s = {timeout_s}{run} }}
effects = {{ {effects} }}
[inputs]
word = {{ type = "string", default = "x" }}
[outputs]
said = {{ type = "string" }}
"""
SAY = """
    import json, os, sys
    inputs = json.load(sys.stdin)
    def say(text):
        with open(os.environ["PLAYBOOK_RESULT"], "w") as out:
            json.dump({"said": text}, out)
"""
WRITES = 'read_only = false, reads = ["**"], writes = ["*.txt", "sub/**"]'


def make_playbook(
    root: Path, name: str, script: str, *, runtime: str = "python", effects: str = "read_only = true",
    run: str = "", timeout_s: int = 20, toml: str | None = None, files: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """`root/playbooks/<name>`; the script begins with `say(text)` and `inputs` at hand where it is Python."""
    folder = root / "playbooks" / name
    file = "run.py" if runtime == "python" else "run.sh"
    text = textwrap.dedent(SAY) + textwrap.dedent(script) if runtime == "python" else textwrap.dedent(script)
    contract = toml or CONTRACT.format(
        words=name.replace("-", " "), script=file, runtime=runtime, timeout_s=timeout_s, run=run, effects=effects
    )
    head = f"---\nname: {name}\ndescription: A playbook made for a test.\n---\nRun it.\n"
    everything = {"SKILL.md": head, "playbook.toml": contract, f"scripts/{file}": text, **(files or {})}
    for path, content in everything.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def loaded(folder: Path) -> Playbook:
    return load(read_folder(folder), "sha256:test", origin="project")


def match(task: str, playbooks: Iterable[Playbook]) -> Match | None:
    """What the phrases of these playbooks make of a task."""
    return PhraseBook(playbooks).match(task)


def folder_of(files: Mapping[str, str | bytes], name: str = "sample") -> Folder:
    """A folder that is only in memory."""
    from mcp_tierkit.playbook.folder import Entry

    entries = [
        Entry(path=path, mode=0o644, data=data.encode() if isinstance(data, str) else data)
        for path, data in sorted(files.items())
    ]
    return Folder(name=name, entries=tuple(entries))


def git(folder: Path, *args: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *args]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


async def until(is_so: Callable[[], object]) -> None:
    """Return as soon as `is_so`; fail after as many looks as 20 seconds hold, however long the machine stood still."""

    def look() -> None:
        for _ in range(4000):
            if is_so():
                return
            time.sleep(0.005)
        raise AssertionError("it never came to be")

    await anyio.to_thread.run_sync(look)


def is_alive(word: str) -> bool:
    """Whether a process runs that was started with that word in one of its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if any(word in part for part in path.read_text(errors="replace").split("\0")):
                return True
        except OSError:
            continue
    return False


def leftovers() -> list[str]:
    """The folders of this process's runs that are still there."""
    return [path.name for path in Path(tempfile.gettempdir()).glob(f"tierkit-run-{os.getpid()}-*")]


@dataclass
class World:
    """One user, one project, one ledger."""

    project: Path
    config: Config
    ledger: Ledger
    runs: int = 0

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.project, self.config.policy.deny)

    def trust(self, folder: Path) -> None:
        trust(self.config.state_dir, read_folder(folder), repository=repository_of(self.config, "project"))

    def add(self, name: str, script: str, **more: Any) -> Path:
        """A playbook of the project, trusted as it is."""
        folder = make_playbook(self.project, name, script, **more)
        self.trust(folder)
        return folder

    async def run(self, name: str, *, dry_run: bool = False, **inputs: Any) -> PlaybookRun:
        self.runs += 1
        task_id = f"t{self.runs}"
        task = Task(task_id=task_id, project=str(self.project), goal=f"Run {name}", created_at=datetime.now(UTC))
        await self.ledger.open_task(task)
        prepared = await prepare(self.config, self.workspace, name, inputs)
        return await execute(prepared, self.ledger, task_id, dry_run=dry_run)

    def tree(self) -> dict[str, bytes]:
        """Every byte of the project, our own folder left out."""
        return {
            str(path.relative_to(self.project)): path.read_bytes()
            for path in sorted(self.project.rglob("*"))
            if path.is_file() and ".tierkit" not in path.parts
        }


def make_world(base: Path, *, toml: str = "") -> World:
    project, home = base / "project", base / "home"
    project.mkdir(parents=True, exist_ok=True)
    home.mkdir()
    (home / "tierkit.toml").write_text(toml)
    state = home / "state"
    env = {"HOME": str(home), "TIERKIT_CONFIG": str(home / "tierkit.toml"), "TIERKIT_STATE_DIR": str(state)}
    config = load_config(project=str(project), env=env)
    return World(project=project, config=config, ledger=open_ledger(config.ledger_url, state_dir=config.state_dir))


def enter(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """From here on this process is that user's terminal, in the project."""
    monkeypatch.chdir(world.project)
    monkeypatch.setenv("TIERKIT_CONFIG", str(world.config.config_file))
    monkeypatch.setenv("TIERKIT_STATE_DIR", str(world.config.state_dir))
    for name in ("TIERKIT_LEDGER", "TIERKIT_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return world
