"""What a playbook run costs over the same script by hand, and how soon the script starts in big repositories.

`python -m benchmarks.playbooks [--runs N] [--json]` makes three projects in a temporary folder: 50 files, 50,000 files,
and 2 GB in four files. The script notes when its first line ran. Rows of the small project take turns, so that a busy
machine slows all of them alike; every figure is a median but `least`, which such a machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio

from benchmarks.big_repository import HUGE, MANY, SMALL, make, written
from mcp_tierkit.playbook.runtime import interpreter
from mcp_tierkit.sandbox import Layer, Limits, clean_env, probe
from mcp_tierkit.sandbox import run as run_process
from mcp_tierkit.stages.playbook import execute, prepare
from mcp_tierkit.types import PlaybookRun, Task
from tests.playbooks import World, make_world

RUNS, BIG_RUNS = 30, 5
WRITES = 'read_only = false, reads = ["**"], writes = ["*.txt"]'
STARTED = "import time\nstarted = str(time.time())\n"
READER = STARTED + "say(started)"
WRITER = STARTED + "open('made.txt', 'w').write(started); say(started)"
Timed = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Overhead:
    """One way to run the script in the small project: milliseconds from start to end, and over the sandbox's own."""

    way: str
    ms: float
    over_sandbox_ms: float
    over_hand: float
    least_ms: float


@dataclass(frozen=True)
class Start:
    """A run in one project: seconds from the call to the script's first line and to the end, and what the disk took."""

    project: str
    playbook: str
    isolation: str
    first_byte_s: float
    whole_s: float
    written_kb: int


class Runner:
    """One project and one ledger, where each run is a task of its own."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def run(self, name: str) -> tuple[PlaybookRun, float, float]:
        """The run, and when it was called and had ended. The task itself is opened before the clock starts."""
        task_id = secrets.token_hex(8)
        project = str(self.world.project)
        await self.world.ledger.open_task(
            Task(task_id=task_id, project=project, goal=name, created_at=datetime.now(UTC))
        )
        called = time.time()
        prepared = await prepare(self.world.config, self.world.workspace, name, {})
        run = await execute(prepared, self.world.ledger, task_id)
        ended = time.time()
        assert run.status == "ok", run
        return run, called, ended

    async def timed(self, name: str) -> float:
        _, called, ended = await self.run(name)
        return ended - called


async def overheads(world: World, runs: int) -> list[Overhead]:
    """The same script by hand, in the sandbox alone, and as a playbook that reads or writes."""
    runner = Runner(world)
    script, result = world.project / "playbooks/reads-start/scripts/run.py", world.project.parent / "result.json"
    program = interpreter("python", world.project, confined=True)
    assert program is not None
    argv = (*program.argv, str(script))
    env = {**clean_env(), "PLAYBOOK_RESULT": str(result)}

    async def by_hand() -> float:
        started = time.time()
        await anyio.to_thread.run_sync(
            lambda: subprocess.run(argv, input=b"{}", cwd=world.project, env=env, check=True, capture_output=True)
        )
        return time.time() - started

    async def in_sandbox() -> float:
        boxed = {**env, "PLAYBOOK_RESULT": "/tmp/result.json"}
        started = time.time()
        layer = Layer(project=world.project, readable=program.readable)
        ran = await run_process(
            argv, cwd=world.project, env=boxed, stdin=b"{}", limits=Limits(timeout_s=20), layer=layer
        )
        assert ran.exit_code == 0, ran
        return time.time() - started

    ways: dict[str, Timed] = {"by hand": by_hand}
    if (await probe()).kind == "sandbox":
        ways["in the sandbox alone"] = in_sandbox
        ways["playbook that writes"] = lambda: runner.timed("writes-start")
    ways["playbook, read-only"] = lambda: runner.timed("reads-start")
    found: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(runs + 1):
        for way, timed in ways.items():
            took = await timed()
            if turn:  # What this process loads once is no cost of a run.
                found[way].append(took * 1000)
    medians = {way: statistics.median(took) for way, took in found.items()}
    own = medians.get("in the sandbox alone", medians["by hand"])
    return [
        Overhead(way, round(ms, 1), round(ms - own, 1), round(ms / medians["by hand"], 2), round(min(found[way]), 1))
        for way, ms in medians.items()
    ]


async def starts(world: World, label: str, runs: int) -> list[Start]:
    """How soon the script starts in this project, by what it does and where it runs."""
    confined = (await probe()).kind == "sandbox"
    rows = [("reads-start", "sandbox"), ("writes-start", "sandbox")] if confined else []
    runner, found = Runner(world), []
    for name, isolation in [*rows, ("reads-start", "none")]:
        os.environ.pop("TIERKIT_NO_SANDBOX", None)
        if isolation == "none":
            os.environ["TIERKIT_NO_SANDBOX"] = "1"
        first, whole, disk = [], [], []
        for _ in range(runs):
            before = written()
            run, called, ended = await runner.run(name)
            first.append(float((run.output or {})["said"]) - called)
            whole.append(ended - called)
            disk.append((written() - before) // 1024)
        os.environ.pop("TIERKIT_NO_SANDBOX", None)
        middle = (statistics.median(first), statistics.median(whole), statistics.median(disk))
        found.append(
            Start(label, name.split("-")[0], isolation, round(middle[0], 3), round(middle[1], 3), int(middle[2]))
        )
    return found


def world_at(folder: Path, files: int, huge: int = 0) -> World:
    world = make_world(folder)
    shutil.rmtree(world.project)
    make(world.project, files, huge)
    world.add("reads-start", READER)
    world.add("writes-start", WRITER, effects=WRITES)
    return world


async def main_async(folder: Path, runs: int) -> tuple[list[Overhead], list[Start]]:
    if (await probe()).kind == "none":
        print("No sandbox works here: without one only.", file=sys.stderr)
    small = world_at(folder / "small", SMALL)
    costs = await overheads(small, runs)
    found = await starts(small, "50 files", BIG_RUNS)
    for label, files, huge in (("50,000 files", MANY, 0), ("2 GB", SMALL, HUGE)):
        world = world_at(folder / label.replace(" ", "-"), files, huge)
        found += await starts(world, label, BIG_RUNS)
        shutil.rmtree(world.project)
    return costs, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierkit-playbooks-") as folder:
        costs, found = anyio.run(main_async, Path(folder).resolve(), asked.runs)
    if asked.json:
        print(json.dumps({"overhead": [asdict(row) for row in costs], "start": [asdict(row) for row in found]}))
        return
    print(f"{'way':24}{'median':>10}{'over the sandbox':>18}{'times by hand':>15}{'least':>12}")
    for cost in costs:
        print(
            f"{cost.way:24}{cost.ms:>7.1f} ms{cost.over_sandbox_ms:>15.1f} ms{cost.over_hand:>15.2f}"
            f"{cost.least_ms:>9.1f} ms"
        )
    print(f"\n{'project':14}{'playbook':10}{'isolation':11}{'first byte':>11}{'whole':>9}{'written':>11}")
    for row in found:
        print(
            f"{row.project:14}{row.playbook:10}{row.isolation:11}{row.first_byte_s:>9.2f} s{row.whole_s:>7.2f} s"
            f"{row.written_kb:>8} KB"
        )


if __name__ == "__main__":
    main()
