"""`python -m benchmarks.matching`: what it costs plan_task to ask whether a playbook does the task.

Two hundred trusted playbooks of one project, each with ten phrases that begin with the same words. Matching alone is
timed on a phrase book; the shelf with the look at every file that the answer rests on.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mcp_tierkit.config import Config
from mcp_tierkit.playbook.memo import Memo
from mcp_tierkit.stages.playbook import Shelf, match_playbook, open_shelf
from tests.playbooks import make_playbook, make_world

PLAYBOOKS, PHRASES, ROUNDS = 200, 10, 1000
LIMIT_US = 1000
TOML = """
schema = 1
kind = "script"
version = "1.0.0"
match.phrases = [{phrases}]
run = {{ script = "scripts/run.py", runtime = "python" }}
effects = {{ read_only = true }}
[inputs]
month = {{ type = "string" }}
[outputs]
said = {{ type = "string" }}
"""
CASES = {f"tests/{case}/case.json": "{}" for case in ("one", "two")}
HIT = f"write the same report of the shop {PLAYBOOKS - 1} part {PHRASES - 1} for may"
TASKS = {
    "hit": HIT,
    "hit, with courtesy": f"Could you please {HIT}, thanks?",
    "miss in the last word": HIT + " twice",
    "miss in the middle": HIT.replace("part", "piece"),
    "miss, another job": "Let total() take the discount as a percentage.",
    "miss, 1000 characters": ("write the same report of the shop " * 30)[:1000],
    "miss, 1000 marks": '"' * 999,
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tierkit-bench-") as folder:
        config = _filled(Path(folder))
        time.sleep(0.05)  # What was written a moment ago is not kept.
        memo = Memo[Shelf]()
        cold = _once(lambda: match_playbook(config, HIT, memo))
        warm = {name: _times(lambda task=task: match_playbook(config, task, memo), 100)  # type: ignore[misc]
                for name, task in (("hit", HIT), ("miss", TASKS["miss, another job"]))}  # fmt: skip
        phrases = open_shelf(config).phrases
        alone = {name: _times(lambda task=task: phrases.match(task), ROUNDS)  # type: ignore[misc]
                 for name, task in TASKS.items()}  # fmt: skip
    print(f"{PLAYBOOKS} trusted playbooks of {PHRASES} phrases each\n\nmatching, µs         median      p99")
    for name, found in alone.items():
        print(f"  {name:<24} {found[0]:>6.0f} {found[1]:>8.0f}")
    print(f"\nshelf opened and matched, ms\n  cold                     {cold / 1000:>6.1f}")
    for name, found in warm.items():
        print(f"  {'warm, ' + name:<24} {found[0] / 1000:>6.1f} {found[1] / 1000:>8.1f}")
    return int(any(median > LIMIT_US for median, _ in alone.values()))


def _filled(base: Path) -> Config:
    world = make_world(base)
    for n in range(PLAYBOOKS):
        phrases = ", ".join(f'"write the same report of the shop {n} part {k} for {{month}}"' for k in range(PHRASES))
        world.trust(make_playbook(world.project, f"p-{n}", "say('x')", toml=TOML.format(phrases=phrases), files=CASES))
    return world.config


def _once(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def _times(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median and the 99th percentile, in microseconds."""
    times = sorted(_once(work) for _ in range(rounds))
    return statistics.median(times), times[rounds * 99 // 100]


if __name__ == "__main__":
    raise SystemExit(main())
