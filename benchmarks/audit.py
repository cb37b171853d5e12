"""How fast `tierkit audit` reads half a gigabyte of transcripts, and in how much memory.

    python -m benchmarks.audit            # 500 MB in a folder that is removed at the end
    python -m benchmarks.audit --mb 100 --json

The corpus is made up: sessions of both clients with streamed rows, results of tools, side conversations, progress rows,
pictures and forks, in files from 100 kB to 40 MB. Time is the command's own, from start to exit, cold of any cache of
ours. Memory is the sum over all of its processes, sampled twenty times a second, shared pages shared out (Pss).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

WORDS = ("the", "of", "cart", "total", "price", "order", "check", "test", "file", "line", "error", "value", "return")
PROMPTS = ("run the tests", "fix the failing test in shop/cart.py", "add a discount to order {n}", "list the files",
           "bump the version to 1.{n}.0", "why is {n} slow?", "continue")  # fmt: skip
MODELS = ("claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5-20251001")


def text(rng: random.Random, size: int) -> str:
    """Words, cut from one long stretch: making them is not what is measured."""
    start = rng.randrange(len(_STRETCH) - size)
    return _STRETCH[start : start + size]


_STRETCH = " ".join(random.Random(1).choice(WORDS) for _ in range(60_000))


def claude_session(rng: random.Random, session: str, size: int, begun: datetime) -> Iterator[str]:
    """Rows until about `size` bytes are written; an answer stands on three rows, as it does in real files."""
    written, at, turn = 0, begun, 0
    base = {"isSidechain": False, "userType": "external", "cwd": f"/home/ada/project-{rng.randrange(6)}",
            "sessionId": session, "version": "2.1.47", "gitBranch": "main"}  # fmt: skip
    while written < size:
        turn += 1
        at += timedelta(seconds=rng.randrange(20, 400))
        asked = rng.choice(PROMPTS).format(n=rng.randrange(99))
        rows = [{**base, "type": "user", "message": {"role": "user", "content": asked}, "uuid": f"{session}-u{turn}"}]
        for step in range(rng.randrange(2, 12)):
            rows += _claude_step(rng, base, f"{session}-{turn}-{step}", 9000 + written // 40)
        for row in rows:
            at += timedelta(seconds=1)
            row["timestamp"] = f"{at:%Y-%m-%dT%H:%M:%S}.{rng.randrange(1000):03}Z"
            written += len(row_text := json.dumps(row, separators=(",", ":")))
            yield row_text


def _claude_step(rng: random.Random, base: dict[str, object], name: str, context: int) -> list[dict[str, object]]:
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 700, "cache_read_input_tokens": context % 160_000,
             "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 700},
             "output_tokens": 1, "service_tier": "standard"}  # fmt: skip
    message = {"model": rng.choice(MODELS), "id": f"msg_{name}", "type": "message", "role": "assistant",
               "stop_reason": None, "usage": usage}  # fmt: skip
    command = rng.choice(("pytest -q", "ls -la src", "git status", "grep -rn total src"))
    use = {"type": "tool_use", "id": f"toolu_{name}", "name": rng.choice(("Bash", "Read", "Grep", "Edit")),
           "input": {"command": command, "description": text(rng, 60)}}  # fmt: skip
    blocks = [{"type": "thinking", "thinking": text(rng, 900), "signature": text(rng, 700)},
              {"type": "text", "text": text(rng, 300)}, use]  # fmt: skip
    rows: list[dict[str, object]] = []
    for at, block in enumerate(blocks):
        counted = {**message, "usage": {**usage, "output_tokens": 40 * at + 1}, "content": [block]}
        rows.append(
            {**base, "message": counted, "requestId": f"req_{name}", "type": "assistant", "uuid": f"{name}-{at}"}
        )
    result = text(rng, int(rng.paretovariate(1.1) * 1500) % 60_000)
    found = [{"tool_use_id": f"toolu_{name}", "type": "tool_result", "content": result}]
    rows.append({**base, "type": "user", "message": {"role": "user", "content": found}, "uuid": f"{name}-r",
                 "toolUseResult": {"stdout": result, "stderr": "", "interrupted": False}})  # fmt: skip
    if rng.random() < 0.3:
        rows.append({**base, "type": "progress", "data": {"type": "hook_progress", "output": text(rng, 2000)}})
    return rows


def codex_session(rng: random.Random, session: str, size: int, begun: datetime) -> Iterator[str]:
    """A rollout: counts rise through it, and each is told twice."""
    written, at, total = 0, begun, [0, 0, 0]
    rows: list[tuple[str, Any]] = [
        ("session_meta", {"id": session, "cwd": "/home/ada/codex", "cli_version": "0.150.0", "source": "cli"}),
        ("turn_context", {"model": "gpt-5.2", "cwd": "/home/ada/codex"}),
    ]
    step = 0
    while written < size:
        step += 1
        if step % 6 == 1:
            rows.append(("event_msg", {"type": "user_message", "message": rng.choice(PROMPTS).format(n=step)}))
        last = [9000 + written // 40 % 100_000, 8000 + written // 50 % 80_000, 200]
        total = [one + two for one, two in zip(total, last, strict=True)]
        names = ("input_tokens", "cached_input_tokens", "output_tokens")
        info = {"total_token_usage": dict(zip(names, total, strict=True)),
                "last_token_usage": dict(zip(names, last, strict=True))}  # fmt: skip
        call = {"type": "function_call", "name": "exec_command", "call_id": f"{session}-{step}",
                "arguments": json.dumps({"cmd": "pytest -q"})}  # fmt: skip
        rows += [("response_item", {"type": "reasoning", "encrypted_content": text(rng, 3000)}),
                 ("response_item", call), ("event_msg", {"type": "token_count", "info": info}),
                 ("event_msg", {"type": "token_count", "info": info}),
                 ("response_item", {"type": "function_call_output", "call_id": f"{session}-{step}",
                                    "output": text(rng, int(rng.paretovariate(1.1) * 1500) % 60_000)})]  # fmt: skip
        for kind, payload in rows:
            at += timedelta(seconds=3)
            row = {"timestamp": f"{at:%Y-%m-%dT%H:%M:%S}.000Z", "type": kind, "payload": payload}
            written += len(row_text := json.dumps(row, separators=(",", ":")))
            yield row_text
        rows = []


def write_corpus(home: Path, megabytes: int, seed: int = 7) -> int:
    """Fill a home folder with about so many megabytes; the bytes written."""
    rng = random.Random(seed)
    left, number, written = megabytes * 1_000_000, 0, 0
    sizes = (100_000, 400_000, 1_500_000, 4_000_000, 12_000_000, 40_000_000)
    while left > 0:
        number += 1
        size = min(rng.choices(sizes, (30, 30, 20, 12, 6, 2))[0], max(left, 50_000))
        begun = datetime.now(UTC) - timedelta(days=rng.uniform(1, 28))
        session = f"{number:08x}-0000-4000-8000-{rng.randrange(16**12):012x}"
        if number % 5:
            path = home / ".claude" / "projects" / f"-home-ada-project-{number % 6}" / f"{session}.jsonl"
            rows = claude_session(rng, session, size, begun)
        else:
            path = (
                home
                / ".codex"
                / "sessions"
                / f"{begun:%Y/%m/%d}"
                / f"rollout-{begun:%Y-%m-%dT%H-%M-%S}-{session}.jsonl"
            )
            rows = codex_session(rng, session, size, begun)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf8") as file:
            for row in rows:
                written += file.write(f"{row}\n")
        left = megabytes * 1_000_000 - written
    return written


def measure(home: Path) -> dict[str, float]:
    """Seconds and megabytes of one run of the command."""
    env = {**os.environ, "HOME": str(home), "TIERKIT_STATE_DIR": str(home / "state")}
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"):
        env.pop(name, None)
    begun = time.perf_counter()
    run = subprocess.Popen([sys.executable, "-m", "mcp_tierkit", "audit", "--json"], env=env, stdout=subprocess.PIPE)
    peak = [0.0]
    watch = threading.Thread(target=_watch, args=(run.pid, peak), daemon=True)
    watch.start()
    out, _ = run.communicate()
    seconds = time.perf_counter() - begun
    told = json.loads(out)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = round(used.ru_utime + used.ru_stime, 2)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": cpu,
        "peak_mb": round(peak[0] / 1e6, 1),
        "calls": told["total"]["calls"],
    }


def _watch(pid: int, peak: list[float]) -> None:
    while Path(f"/proc/{pid}").exists():
        peak[0] = max(peak[0], sum(_pss(one) for one in _family(pid)))
        time.sleep(0.05)


def _family(pid: int) -> list[int]:
    found, at = [pid], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
        at += 1
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--mb", type=int, default=500)
    options.add_argument("--json", action="store_true")
    options.add_argument("--into", type=Path, help="Write the corpus there, and leave it.")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = chosen.into or Path(folder)
        if not (home / ".claude").exists():
            write_corpus(home, chosen.mb)
        size = sum(path.stat().st_size for path in home.rglob("*.jsonl"))
        figures = {"corpus_mb": round(size / 1e6, 1), **measure(home)}
    print(json.dumps(figures) if chosen.json else "  ".join(f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
