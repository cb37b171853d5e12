"""From spawn to tools/list: CPU, memory and what is loaded, beside a minimal server, in interleaved runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

RUNS = 15
MAX_RATIO = 1.15
MAX_RSS_MB = 80
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


class Seen(NamedTuple):
    cpu_ms: float
    rss_mb: float
    wall_ms: float
    has_litellm: bool


def measure(command: list[str], env: dict[str, str]) -> Seen:
    started = time.perf_counter()
    with serving(command, env) as process:
        ask(process, 1, "initialize", HELLO)
        send(process, {"method": "notifications/initialized"})
        ask(process, 2, "tools/list", {})
        wall_ms = (time.perf_counter() - started) * 1000
        status = Path(f"/proc/{process.pid}/status").read_text()
        rss_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        times = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        cpu_ms = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK") * 1000
        has_litellm = "litellm" in Path(f"/proc/{process.pid}/maps").read_text()
    return Seen(cpu_ms, rss_kb / 1024, wall_ms, has_litellm)


@contextmanager
def serving(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.communicate()


def send(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()


def ask(process: subprocess.Popen[bytes], number: int, method: str, params: dict[str, Any]) -> None:
    assert process.stdout is not None
    send(process, {"id": number, "method": method, "params": params})
    answer = json.loads(process.stdout.readline())
    assert answer["id"] == number, answer
    assert "result" in answer, answer


def main() -> int:
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        env = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": str(root)}
        ours = [str(Path(sys.executable).with_name("mcp-tierkit")), "--project", str(project)]
        if not Path(ours[0]).exists():
            ours = [sys.executable, "-m", "mcp_tierkit", "serve", "--project", str(project)]
        bare = [sys.executable, str(root / "benchmarks/minimal_server.py")]
        for command in (ours, bare):  # Bytecode is written once, before anything counts.
            measure(command, env)
        pairs = [(measure(ours, env), measure(bare, env)) for _ in range(RUNS)]
    return report([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def report(ours: list[Seen], bare: list[Seen]) -> int:
    def middle(rows: list[Seen], name: str) -> float:
        return float(statistics.median(getattr(row, name) for row in rows))

    print(f"cold start, median of {len(ours)} interleaved runs (spawn to tools/list)")
    for title, rows in (("tierkit", ours), ("minimal", bare)):
        figures = [
            f"{middle(rows, name):7.0f} {unit}"
            for name, unit in (("cpu_ms", "ms CPU"), ("rss_mb", "MB"), ("wall_ms", "ms"))
        ]
        print(f"  {title}  {'  '.join(figures)}")
    ratio = middle(ours, "cpu_ms") / middle(bare, "cpu_ms")
    has_litellm = any(row.has_litellm for row in ours)
    print(f"  ratio of CPU {ratio:.3f} (at most {MAX_RATIO}); litellm loaded: {'yes' if has_litellm else 'no'}")
    fine = ratio <= MAX_RATIO and middle(ours, "rss_mb") <= MAX_RSS_MB and not has_litellm
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
