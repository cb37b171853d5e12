"""`make bench`: every figure the README quotes, measured on this machine; ends with 1 where a ceiling is broken."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from benchmarks import cold_start
from mcp_tierkit.routing import decide
from mcp_tierkit.sandbox import Layer, Limits, clean_env, probe, run
from mcp_tierkit.server import CONTRACT, schema_tokens
from mcp_tierkit.tokens import count

RUNS = 21


def tokens() -> None:
    print("tokens of the caller's (o200k)")
    for tool in CONTRACT["tools"]:
        shown = json.dumps({key: tool[key] for key in ("name", "description", "inputSchema")}, separators=(",", ":"))
        print(f"  {tool['name']:24} {count(shown).tokens:5}")
    print(f"  {'instructions':24} {count(CONTRACT['instructions']).tokens:5}")
    print(f"  {'all together':24} {schema_tokens():5}")


def routing() -> None:
    text = ("Split the parser of log lines into a reader and a grouper, keep the names. " * 27)[:2048]
    times = []
    for _ in range(500):
        started = time.perf_counter()
        decide(text, files=("app/parse.py", "app/group.py"), has_check=True, input_tokens=4000, output_tokens=900)
        times.append((time.perf_counter() - started) * 1000)
    print(f"routing a 2 KB task: p95 {statistics.quantiles(times, n=20)[-1]:.2f} ms")


async def confinement() -> None:
    """What confining one command adds, against the same command run bare, in the same loop."""
    found = await probe()
    if found.kind != "sandbox":
        print(f"sandbox: none here ({found.reason})")
        return
    argv = [sys.executable, "-I", "-S", "-c", "pass"]
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder).resolve()
        layer = Layer(project=project, writable=True)
        bare, confined = [], []
        for _ in range(RUNS):
            started = time.perf_counter()
            subprocess.run(argv, cwd=project, check=True)  # noqa: ASYNC221
            middle = time.perf_counter()
            await run(argv, cwd=project, env=clean_env(), limits=Limits(timeout_s=30), layer=layer)
            bare.append((middle - started) * 1000)
            confined.append((time.perf_counter() - middle) * 1000)
    one, other = statistics.median(bare), statistics.median(confined)
    print(f"one confined command: {other:.0f} ms, {other - one:.0f} ms more than bare ({one:.0f} ms)")


def main() -> int:
    tokens()
    routing()
    anyio.run(confinement)
    return cold_start.main()


if __name__ == "__main__":
    sys.exit(main())
