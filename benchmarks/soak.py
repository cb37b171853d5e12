"""Thousands of mixed calls with faults, cancels and kills; then the ledger is held against the provider's own log.

`python -m benchmarks.soak [--calls N] [--gateway litellm|direct] [--keep FOLDER]` works a project from two processes at
a time, each with several tasks under way. Every second batch of work is killed at a moment of chance. It ends with 1
where `benchmarks.reprice`, which shares no code with the product, finds a difference.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks import reprice
from mcp_tierkit.demo_upstream import Asked, Reply, Tokens, Upstream

if TYPE_CHECKING:
    from mcp_tierkit.desk import Desk
    from mcp_tierkit.gateway import Gateway

ROOT = Path(__file__).parent.parent
RATES = {
    "soak-cheap": {"input": "0.10", "cache_read": "0.01", "cache_write": "0.125", "output": "0.50"},
    "soak-mid": {"input": "0.333", "cache_read": "0.0371", "cache_write": "0.41625", "output": "1.9"},
    "soak-strong": {"input": "4", "cache_read": "0.20", "cache_write": "5", "output": "20"},
}
TOML = """
[caller]
model = "claude-opus-5-5"
[stages]
climb = ["mid"]
review = "strong"
[budget]
call_usd = "10"
task_usd = "100"
day_usd = "1000"
project_usd = "1000"
month_usd = "1000"
"""
EDIT = "shop/cart.py\n```\n<<<<<<< SEARCH\nSUM = sum\n=======\nSUM = max\n>>>>>>> REPLACE\n```\n"
WORDS = (
    EDIT,
    "I cannot say.",
    '{"findings": [], "checked": {"edge_case": "none: looked at all"}}',
    f"{EDIT}\nshop/more.py\n```\nx = 1\n```\n",
)
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"status": 429}, "500": {"status": 500}, "529": {"status": 529}, "401": {"status": 401},
    "cut": {"cut_after": 20}, "garbage": {"raw": b"<html>no</html>"}, "unsaid": {"tokens": "unsaid"},
}  # fmt: skip
FAULTY, CANCELLED, TIMED_OUT = 0.22, 0.08, 0.004
AT_ONCE = 6


# --- the provider ---


def answers() -> Any:
    """A script of the provider: what it says to the nth request of a job follows from the two numbers alone."""
    seen: Counter[str] = Counter()

    def answer(asked: Asked) -> Reply:
        job = reprice.job_in(json.dumps(asked.body))
        seen[job] += 1
        chance = random.Random(f"{job} {seen[job]}")
        if is_cancelled(job) and chance.random() < 0.5:
            return Reply(hold="for ever")
        if chance.random() < TIMED_OUT:
            return Reply(wait_s=60)
        fault = chance.choice(sorted(FAULTS)) if chance.random() < FAULTY else ""
        cached, written = (chance.choice((0, 0, chance.randrange(4000))) for _ in range(2))
        tokens = Tokens(
            fresh=chance.randrange(1, 4000), cached=cached, written=written, output=chance.randrange(1, 900)
        )
        finish = "length" if chance.random() < 0.08 else "stop"
        plain: dict[str, Any] = {"text": chance.choice(WORDS), "tokens": tokens, "finish": finish}
        return Reply(**plain | FAULTS.get(fault, {}), wait_s=chance.random() * 0.2)

    return answer


def is_cancelled(job: str) -> bool:
    return random.Random(f"{job} cancelled").random() < CANCELLED


# --- the work ---


def make_project(folder: Path) -> Path:
    (folder / "shop").mkdir(parents=True)
    (folder / "contracts").mkdir()
    (folder / "shop/cart.py").write_text("SUM = sum\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run([*git, *args], cwd=folder, check=True)
    return folder


def make_env(home: Path, base_url: str) -> dict[str, str]:
    home.mkdir(parents=True)
    tiers = [
        f'[tiers.{name.removeprefix("soak-")}]\nmodels = ["openai/{name}"]\nbase_url = "{base_url}"\ntimeout_s = 5\n'
        f"price = {{ {', '.join(f'{key} = {rate!r}' for key, rate in rates.items())} }}\n"
        for name, rates in RATES.items()
    ]
    (home / "tierkit.toml").write_text(TOML + "".join(tiers))
    return {
        "HOME": str(home), "PATH": os.environ["PATH"], "TIERKIT_CONFIG": str(home / "tierkit.toml"),
        "TIERKIT_STATE_DIR": str(home / "state"), "TIERKIT_LEDGER": f"sqlite:///{home}/ledger.db",
        "TIERKIT_NO_SANDBOX": "1",
    }  # fmt: skip


def gateway_of(kind: str) -> Gateway | None:
    """None for the product's own; `direct` speaks to the provider without litellm, which takes seconds to load."""
    import httpx

    from mcp_tierkit import gateway as door
    from mcp_tierkit.types import Completion, Request
    from mcp_tierkit.wire import OneRequest

    class Direct:
        async def ready(self) -> None:
            """It loads nothing."""

        async def complete(self, request: Request) -> Completion:
            said = [{"role": message.role, "content": message.content} for message in request.messages]
            body = {
                "model": request.model.rpartition("/")[2],
                "messages": said,
                "max_tokens": request.max_output_tokens,
            }
            async with httpx.AsyncClient(verify=False) as pool:
                wire = OneRequest(pool)
                with anyio.move_on_after(request.timeout_s) as deadline, suppress(httpx.HTTPError):
                    async with httpx.AsyncClient(transport=wire) as http:
                        await http.post(f"{request.base_url}/chat/completions", json=body, timeout=None)
            if deadline.cancelled_caught:
                wire.broke = "timeout"
            return door._completion(request, None, wire)

    return Direct() if kind == "direct" else None


async def one_job(desk: Desk, project: Path, number: int) -> None:
    from mcp_tierkit.calls import DraftCall, PlaybookCall, ReviewCall
    from mcp_tierkit.errors import TierkitError

    job = f"job-{number:06}"
    kind = random.Random(f"{job} kind").choice(("draft", "draft", "draft and review", "review", "recipe"))
    diff = project / f"{job}.patch"
    diff.write_text(f"--- a/notes/{job}.txt\n+++ b/notes/{job}.txt\n@@ -0,0 +1 @@\n+A line.\n")
    waits: dict[str, Any] = {"wait_s": 0 if is_cancelled(job) else 120}
    with suppress(TierkitError):
        if kind.startswith("draft"):
            goal = f"Take the largest price of a cart for {job}."
            reply = await desk.draft(DraftCall(task=goal, files=("shop/cart.py",), apply="never", **waits))
            await stopped(desk, reply)
            if kind == "draft and review":
                await stopped(desk, await desk.review(ReviewCall(task_id=reply["task_id"], diff=diff.name, **waits)))
        elif kind == "review":
            await stopped(desk, await desk.review(ReviewCall(diff=diff.name, **waits)))
        else:
            (project / f"contracts/{job}.txt").write_text(f"This contract is {job}. It ends in May.\n")
            call = PlaybookCall(name="extract-contract-terms", inputs={"contract": f"contracts/{job}.txt"}, **waits)
            await stopped(desk, await desk.run_playbook(call))


async def stopped(desk: Desk, reply: dict[str, Any]) -> None:
    """Cancel a task that was not waited for, at a moment of chance."""
    from mcp_tierkit.calls import TaskCall

    if reply.get("status") == "running":
        await anyio.sleep(random.random() * 0.3)
        await desk.get_task(TaskCall(task_id=reply["task_id"], cancel=True, wait_s=60))


async def work(project: Path, home: Path, kind: str, numbers: range) -> None:
    """One batch of jobs, several at a time, as one server does them."""
    from mcp_tierkit.config import load_config
    from mcp_tierkit.desk import open_desk
    from mcp_tierkit.kit import open_kit

    env = json.loads((home / "env.json").read_text())
    limit = anyio.CapacityLimiter(AT_ONCE)
    kit = open_kit(load_config(project=str(project), env=env), gateway=gateway_of(kind))
    async with open_desk(kit) as desk, anyio.create_task_group() as group:

        async def one(number: int) -> None:
            async with limit:
                await one_job(desk, project, number)

        for number in numbers:
            group.start_soon(one, number)


def zygote() -> None:
    """Forks batches: one line with two job numbers in, from and to, its process's number out, then `gone`."""
    project, home, kind = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    from mcp_tierkit import config, desk, kit, wire  # noqa: F401 - once, for every batch
    from mcp_tierkit.gateway import load_litellm
    from mcp_tierkit.tokens import count

    count("what loads the vocabulary")
    os.environ["TIERKIT_NO_SANDBOX"] = "1"
    if kind == "litellm":
        load_litellm()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.close(0)
            anyio.run(work, project, home, kind, range(*map(int, line.split())))
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("gone", flush=True)


# --- the driver ---


class Soak:
    """What one run came to. `folder` keeps the ledger, the provider's log and the rates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger, self.log, self.rates = folder / "home/ledger.db", folder / "log.jsonl", folder / "rates.json"
        self.killed = 0
        self.batches = 0

    def differences(self) -> list[str]:
        return reprice.check(self.ledger, self.log, RATES)


def soak(
    folder: Path, *, calls: int, gateway: str = "direct", seed: int = 1, processes: int = 2, batch: int = 24
) -> Soak:
    """Batches until the provider has seen so many requests, then a sweep of what killed processes left."""
    run, home, project = Soak(folder), folder / "home", make_project(folder / "app")
    run.rates.write_text(json.dumps(RATES))
    with Upstream(answers(), log=run.log, keeps_text=True) as upstream:
        env = make_env(home, upstream.base_url)
        (home / "env.json").write_text(json.dumps(env))
        trust_recipe(project, env)
        lanes = [
            _Lane(run, project, home, gateway, batch, random.Random(f"{seed} {lane}")) for lane in range(processes)
        ]
        workers = [
            threading.Thread(target=lane.drive, args=(at * 500_000, lambda: len(upstream.asked) < calls))
            for at, lane in enumerate(lanes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        upstream.wait_served(len(upstream.asked), 30)
    anyio.run(_sweep, home)
    return run


def trust_recipe(project: Path, env: dict[str, str]) -> None:
    import shutil

    from mcp_tierkit.config import load_config
    from mcp_tierkit.playbook.folder import read_folder
    from mcp_tierkit.playbook.load import builtin_root
    from mcp_tierkit.playbook.trust import trust

    name = "extract-contract-terms"
    shutil.copytree(builtin_root() / name, project / "playbooks" / name)
    config = load_config(project=str(project), env=env)
    trust(config.state_dir, read_folder(project / "playbooks" / name), repository=str(config.repository))


@dataclass
class _Lane:
    """One batch of jobs after the other, every second one killed."""

    run: Soak
    project: Path
    home: Path
    gateway: str
    batch: int
    chance: random.Random

    def drive(self, first: int, goes_on: Callable[[], bool]) -> None:
        command = [sys.executable, "-m", "benchmarks.soak", "--zygote", f"{self.project}", f"{self.home}", self.gateway]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for begin in itertools.takewhile(lambda _: goes_on(), itertools.count(first, self.batch)):
                process.stdin.write(f"{begin} {begin + self.batch}\n")
                process.stdin.flush()
                self._watch(int(process.stdout.readline()), is_doomed=(begin - first) // self.batch % 2 == 1)
                assert process.stdout.readline() == "gone\n"
                self.run.batches += 1
            process.stdin.close()

    def _watch(self, pid: int, *, is_doomed: bool) -> None:
        watch = os.pidfd_open(pid)  # Its number may be another's before long.
        if is_doomed:
            time.sleep(self.chance.uniform(0.1, self.batch / 12))
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(watch, signal.SIGKILL)
                self.run.killed += 1
        os.close(watch)


async def _sweep(home: Path) -> None:
    from mcp_tierkit.ledger.sqlite import open_ledger

    ledger = open_ledger(f"sqlite:///{home}/ledger.db", state_dir=home / "state")
    await ledger.sweep()
    await ledger.close()


def main() -> int:
    if sys.argv[1:2] == ["--zygote"]:
        zygote()
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--gateway", choices=("litellm", "direct"), default="litellm")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierkit-soak-") as scratch:
        began = time.monotonic()
        run = soak(args.keep or Path(scratch), calls=args.calls, gateway=args.gateway)
        print(f"{run.batches} batches, {run.killed} of them killed, in {time.monotonic() - began:.0f} s")
        tell(run)
        found = run.differences()
    for line in found[:20]:
        print(f"  {line}")
    print(f"{len(found)} differences between the ledger and the provider's log")
    return int(bool(found))


def tell(run: Soak) -> None:
    import sqlite3
    from contextlib import closing

    served = [json.loads(line) for line in run.log.read_text().splitlines()]
    ends = Counter(str(end["status"] or ("left" if end["client_left"] else "cut")) for end in served)
    print(f"provider: {len(served)} requests ({', '.join(f'{end} {n}' for end, n in sorted(ends.items()))})")
    with closing(sqlite3.connect(run.ledger)) as conn:
        for column in ("status", "stage"):
            found = conn.execute(f"select {column}, count(*) from calls group by 1 order by 2 desc").fetchall()
            print(f"ledger, by {column}: {', '.join(f'{key} {n}' for key, n in found)}")
        kinds = conn.execute("select kind, count(*) from decisions group by 1").fetchall()
        print(f"decisions: {', '.join(f'{key} {n}' for key, n in kinds)}")


if __name__ == "__main__":
    sys.exit(main())
