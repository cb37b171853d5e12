"""Starts a server of ours over HTTP as a user would, and ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

READY = re.compile(r"http://127\.0\.0\.1:(\d+)/mcp, token in (.+)")
START_S = 60


@dataclass(frozen=True)
class Served:
    port: int
    token: str


def leave_when_told() -> None:
    """Makes SIGTERM an ordinary way out, so that what was started is ended."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextmanager
def serving(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[Served]:
    """The address and token of a server that the command starts, until the end of the block; it says all to `log`."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True
        )
    try:
        yield _address(process, log)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], grace_s: float = 5) -> None:
    """Ends a process that leads its own session, and what it left in that session."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> Served:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if said := READY.search(log.read_text()):
            return Served(port=int(said[1]), token=Path(said[2].strip()).read_text().strip())
        time.sleep(0.05)
    raise RuntimeError(f"The server did not start. It said:\n{log.read_text()[-2000:]}")
