"""`make conformance`: the official MCP suite at our door, first with the suite's fixtures behind it, then the product.

The first must pass all that each revision requires. The product is one server, not every fixture of the suite: what it
fails is listed with a reason in conformance.toml, and any change of that list, in either direction, fails this run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provision import CONFORMANCE, CannotRun, conformance
from benchmarks.proxy import BearerProxy
from benchmarks.servers import end, leave_when_told, serving
from mcp_tierkit.demo import Scene

REVISIONS = ("2026-07-28", "2025-11-25")
SERVERS = ("fixtures", "product")
SUITE_S = 240
TOO_LATE = 124
NOWHERE = "http://127.0.0.1:9/v1"  # The suite never gets as far as a model call.
EXPECTED: dict[str, Any] = tomllib.loads((Path(__file__).parent / "conformance.toml").read_text("utf8"))


@dataclass(frozen=True)
class Scenario:
    """What one scenario of the suite found. A check is named `scenario/check`."""

    name: str
    passed: int
    failed: tuple[str, ...]
    warned: int


@dataclass(frozen=True)
class Run:
    server: str
    revision: str
    exit_code: int
    scenarios: tuple[Scenario, ...]

    @property
    def passed(self) -> int:
        return sum(row.passed for row in self.scenarios)

    @property
    def failed(self) -> set[str]:
        return {check for row in self.scenarios for check in row.failed}


def main() -> int:
    leave_when_told()
    try:
        suite = conformance()
    except CannotRun as lack:
        print(f"The conformance suite cannot run here. {lack}", file=sys.stderr)
        return 2
    print(f"{CONFORMANCE} over streamable HTTP, through a proxy that adds the bearer token\n")
    faults: list[str] = []
    for server in SERVERS:
        for revision in REVISIONS:
            run = run_suite(suite, server, revision)
            found = judge(run)
            show(run, found)
            faults += found
    print("\n".join(f"FAULT {fault}" for fault in faults) or "All as it should be.")
    return 1 if faults else 0


def run_suite(suite: list[str], server: str, revision: str) -> Run:
    with tempfile.TemporaryDirectory(prefix="tierkit-conformance-") as name, served(server, Path(name)) as url:
        folder = Path(name)
        command = [*suite, "server", "--url", url, "--requirements", revision, "-o", str(folder / "results")]
        with (folder / "suite.log").open("w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_bare(folder), start_new_session=True
            )
            try:
                exit_code = process.wait(SUITE_S)
            except subprocess.TimeoutExpired:
                exit_code = TOO_LATE
            finally:
                end(process)
        said = (folder / "suite.log").read_text()
        return Run(server, revision, exit_code, tuple(read(folder / "results", said)))


@contextmanager
def served(server: str, folder: Path) -> Iterator[str]:
    """The address at which the suite finds a server: the proxy's, which it takes for the server's own."""
    with BearerProxy() as proxy:
        host = f"127.0.0.1:{proxy.port}"
        if server == "product":
            scene = Scene(folder / "scene")
            scene.project.parent.mkdir()
            scene.set_up(NOWHERE)
            env = scene.env(is_live=False)
            args = ["mcp_tierkit", "serve", "--http", "--port", "0", "--allow-host", host]
            args += ["--project", str(scene.project)]
        else:
            env, args = _bare(folder), ["benchmarks.fixtures", str(folder), host]
        with serving([sys.executable, "-m", *args], env, folder / "server.log") as address:
            proxy.forward(address.port, address.token)
            yield proxy.url


def _bare(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


def read(results: Path, said: str) -> Iterator[Scenario]:
    """Each scenario that the suite began. One that left no result failed, whatever its reason."""
    for name in re.findall(r"^=== Running scenario: (\S+) ===$", said, re.MULTILINE):
        file = next(results.glob(f"server-{name}-20??-*/checks.json"), None)
        checks = json.loads(file.read_text()) if file else [{"status": "FAILURE", "id": "did-not-end"}]
        yield Scenario(
            name=name,
            passed=sum(check["status"] == "SUCCESS" for check in checks),
            failed=tuple(f"{name}/{check['id']}" for check in checks if check["status"] == "FAILURE"),
            warned=sum(check["status"] == "WARNING" for check in checks),
        )


def reasons(run: Run) -> dict[str, str]:
    """Why each check that is known to fail does."""
    rows = EXPECTED[run.server][run.revision].get("fails", [])
    return {check: row["reason"] for row in rows for check in row["checks"]}


def judge(run: Run) -> list[str]:
    """What differs from conformance.toml, in a line each."""
    known, where = reasons(run), f"{run.server} {run.revision}"
    faults = [f"{where}: {check} fails" for check in sorted(run.failed - known.keys())]
    faults += [f"{where}: {check} no longer fails; strike it" for check in sorted(known.keys() - run.failed)]
    wanted = EXPECTED[run.server][run.revision]
    if run.passed != wanted["passed"]:
        faults.append(f"{where}: {run.passed} checks passed, not {wanted['passed']}")
    if run.exit_code != wanted["exit_code"]:
        faults.append(f"{where}: the suite ended with {run.exit_code}, not {wanted['exit_code']}")
    return faults


def show(run: Run, faults: list[str]) -> None:
    known, hollow = reasons(run), EXPECTED[run.server].get("says_nothing", [])
    print(f"{run.server}, --requirements {run.revision}: the suite ended with {run.exit_code}")
    print(f"{'scenario':<50} passed failed expected warned")
    for row in run.scenarios:
        expected = [check for check in row.failed if check in known]
        note = known[expected[0]] if expected else "calls what only the suite has" if row.name in hollow else ""
        print(
            f"{row.name:<50} {row.passed:>6} {len(row.failed) - len(expected):>6} {len(expected):>8} {row.warned:>6}"
            f"  {note}".rstrip()
        )
    unexpected = len(run.failed - known.keys())
    print(f"{'together':<50} {run.passed:>6} {unexpected:>6} {len(run.failed) - unexpected:>8}")
    sound = [row for row in run.scenarios if not row.failed and row.name not in hollow]
    print(
        f"{len(sound)} of {len(run.scenarios)} scenarios are tested and pass whole; {len(faults)} faults\n", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
