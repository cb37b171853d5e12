"""The ledger between processes: budgets, locks, crashes. The children are real and die by SIGKILL."""

from __future__ import annotations

import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mcp_tierkit.ledger import Ledger, report
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.types import Budgets, Call, Request, Route, Spend, Task

pytestmark = pytest.mark.anyio

# What a child does is its first argument. It says a line when it is ready and goes on when it is told a line.
CHILD = """
import os
import signal
import sys
from pathlib import Path
import anyio
from mcp_tierkit.errors import LedgerError, OverBudget
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.types import Budgets, Call, Request, Task

act, state, *task_ids = sys.argv[1:]
for task_id in task_ids[1:]:  # each in a process of its own, without paying for the imports again
    if not os.fork():
        break
else:
    task_id = task_ids[0]
ledger = open_ledger(f"sqlite://{state}/ledger.db", state_dir=Path(state), settle_wait_s=0)
asked = Request(task_id=task_id, route_id="route-" + task_id, stage="draft", tier="cheap", model="m", messages=(),
                max_output_tokens=1, timeout_s=1, prompt_id="draft.v1@a")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)

def say(line):
    os.write(1, f"{line}\\n".encode())  # in one write, since several processes may speak at once

def heard():
    return sys.stdin.readline().strip()

async def compete():
    granted = []
    async def one():
        try:
            granted.append(await ledger.reserve(asked, 10, Budgets(day=79)))
        except OverBudget:
            pass
    say("ready")
    heard()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    say(len(granted))
    heard()
    await ledger.close()

async def fresh():
    say("ready")
    heard()
    say(await ledger.sweep())
    await ledger.close()

async def hold():
    call_id = await ledger.reserve(asked, 10, Budgets())
    say(await ledger.claim(task_id))
    heard()
    say((await ledger.standing(task_id)).cancel_requested)
    await ledger.settle(call_id, Call(status="settled", cost_nanousd=4))
    await ledger.finish(task_id, "done", "the reply")
    say("done")
    await ledger.close()

async def doomed():
    await ledger.reserve(asked, 10, Budgets())
    await ledger.claim(task_id)
    say(f"{os.getpid()} {task_id}")
    signal.pause()

async def storm():
    say(f"{os.getpid()} {task_id}")
    while True:
        call_id = await ledger.reserve(asked, 10, Budgets())
        say("reserved " + call_id)
        await ledger.settle(call_id, Call(status="settled", cost_nanousd=3))
        say("settled " + call_id)

anyio.run({"compete": compete, "fresh": fresh, "hold": hold, "doomed": doomed, "storm": storm}[act])
"""


class Child:
    """A process at work on the ledger."""

    def __init__(self, act: str, state: Path, *task_ids: str) -> None:
        """One process for each task id; they speak through one pipe."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, act, str(state), *task_ids],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
            start_new_session=True,
        )  # fmt: skip

    def heard(self) -> str:
        """The next line it says; empty once it is gone."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def rest(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.read().splitlines()

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@contextmanager
def children(*acts: tuple[str, ...], state: Path) -> Iterator[list[Child]]:
    started = [Child(act, state, *task_ids) for act, *task_ids in acts]
    try:
        yield started
    finally:
        for child in started:
            child.close()


def kill(pid: int) -> None:
    """Return once the process is gone, and what it held with it."""
    watch = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([watch], [], [])
    finally:
        os.close(watch)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def ledger(state: Path) -> AsyncIterator[Ledger]:
    opened = open_ledger(f"sqlite://{state / 'ledger.db'}", state_dir=state, settle_wait_s=0)
    yield opened
    await opened.close()


async def routed(ledger: Ledger, task_id: str) -> Request:
    await ledger.open_task(Task(task_id=task_id, project="/p", goal="g", created_at=datetime.now(UTC)))
    route_id = f"route-{task_id}"
    await ledger.route(Route(route_id=route_id, task_id=task_id, decision="draft", tier="cheap", rule="r", reason="r"))
    return Request(
        task_id=task_id, route_id=route_id, stage="draft", tier="cheap", model="m", messages=(), max_output_tokens=1,
        timeout_s=1, prompt_id="draft.v1@a",
    )  # fmt: skip


async def test_four_processes_together_never_exceed_the_budget(ledger: Ledger, state: Path) -> None:
    for n in range(4):
        await routed(ledger, f"t{n}")
    with children(*(("compete", f"t{n}") for n in range(4)), state=state) as started:
        assert [child.heard() for child in started] == ["ready"] * 4
        for child in started:
            child.tell()
        assert sum(int(child.heard()) for child in started) == 7


async def test_processes_that_open_a_fresh_file_at_once_all_succeed(state: Path) -> None:
    with children(*[("fresh", "")] * 4, state=state) as started:
        assert [child.heard() for child in started] == ["ready"] * 4
        for child in started:
            child.tell()
        assert [child.heard() for child in started] == ["()"] * 4


async def test_a_cancel_from_another_process_reaches_the_one_at_work(ledger: Ledger, state: Path) -> None:
    await routed(ledger, "t1")
    with children(("hold", "t1"), state=state) as (child,):
        assert child.heard() == "True"
        assert not await ledger.claim("t1")
        await ledger.request_cancel("t1")
        child.tell()
        assert (child.heard(), child.heard()) == ("True", "done")
        assert (await ledger.standing("t1")).reply == "the reply"
        assert await ledger.claim("t1")


async def test_a_killed_process_is_swept_and_a_live_one_left_alone(ledger: Ledger, state: Path) -> None:
    names = [f"t{n}" for n in range(20)]
    for task_id in ("live", *names):
        await routed(ledger, task_id)
    with children(("hold", "live"), state=state) as (live,):
        assert live.heard() == "True"
        with children(("doomed", *names), state=state) as (brood,):
            for pid, task_id in [brood.heard().split() for _ in names]:
                kill(int(pid))
                assert (await ledger.standing(task_id)).state == "interrupted"
                assert await ledger.sweep() == (task_id,)
                assert await ledger.spend(task_id) == Spend(calls=1, unpriced_calls=1, unknown_nanousd=10)
                assert await ledger.claim(task_id)
        assert [row.status for row in await ledger.calls("live")] == ["reserved"]
        assert (await ledger.standing("live")).state == "running"
        assert not await ledger.claim("live")
        live.tell()
        assert (live.heard(), live.heard()) == ("False", "done")
    assert await ledger.spend("live") == Spend(calls=1, cost_nanousd=4)
    await ledger.sweep()
    locks = list((state / "owners").iterdir())
    assert len(locks) == 1  # our own; the dead ones are gone


async def test_a_writer_killed_at_any_moment_loses_nothing_it_was_told(ledger: Ledger, state: Path) -> None:
    dice = random.Random(20261005)
    names = [f"t{n}" for n in range(8)]
    for task_id in names:
        await routed(ledger, task_id)
    pids: list[int] = []
    said: list[str] = []
    with children(("storm", *names), state=state) as (storm,):
        while len(pids) < len(names):
            line = storm.heard()
            if line[0].isdigit():
                pids.append(int(line.split()[0]))
            else:
                said.append(line)
        for pid in pids:
            said += [storm.heard() for _ in range(dice.randint(5, 40))]
            kill(pid)
            assert len(await ledger.sweep()) <= 1
        said += storm.rest()
    await ledger.sweep()
    with closing(sqlite3.connect(state / "ledger.db")) as conn:
        rows = dict(conn.execute("select call_id, status from calls").fetchall())
    # The last line of each may be cut; every whole line was true when it was said.
    told = [line.split() for line in said if len(line.split()) == 2 and len(line.split()[1]) == 32]
    assert len(told) > 100
    assert [line for line in told if line[0] == "settled" and rows[line[1]] != "settled"] == []
    assert [line for line in told if line[0] == "reserved" and rows[line[1]] not in ("settled", "interrupted")] == []
    assert set(rows.values()) <= {"settled", "interrupted"}
    found = report.health(f"sqlite://{state / 'ledger.db'}")
    assert (found.problems, found.left_calls, found.totals_agree) == ((), 0, True)


async def test_a_reservation_whose_owner_died_still_counts(ledger: Ledger, state: Path) -> None:
    asked = await routed(ledger, "t1")
    with children(("doomed", "t1"), state=state) as (victim,):
        assert victim.heard().endswith("t1")
    await ledger.sweep()
    granted = await ledger.reserve(asked, 10, Budgets(task=20))
    await ledger.settle(granted, Call(status="settled", cost_nanousd=10))
    with pytest.raises(Exception, match="The task budget"):
        await ledger.reserve(asked, 1, Budgets(task=20))
