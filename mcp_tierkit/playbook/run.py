"""One run of one script: the bytes that were hashed, JSON in, one JSON object out, everything else refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from mcp_tierkit.errors import PolicyRefused
from mcp_tierkit.playbook.environment import refuse_unless_ready
from mcp_tierkit.playbook.folder import write_folder
from mcp_tierkit.playbook.load import Playbook
from mcp_tierkit.playbook.place import private_folder
from mcp_tierkit.playbook.result import RESULT, ResultTooLarge, listed, read_result, redacted, tail
from mcp_tierkit.playbook.runtime import Interpreter, interpreter, of_environment
from mcp_tierkit.playbook.schema import strict_json
from mcp_tierkit.playbook.tree import Moment, compare, copy_project, moment, moved, survey
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.sandbox import Confinement, Layer, Limits, Ran, clean_env
from mcp_tierkit.sandbox import run as run_process
from mcp_tierkit.types import Changes, Network, PlaybookStatus
from mcp_tierkit.workspace import Workspace

DECLINED = 10
MEMORY_MB = 4096
PROCESSES = 512
FILE_MB = 256

_LOGIN_IN_URL = re.compile(r"://[^/\s@]+@")


@dataclass(frozen=True)
class Bench:
    """Where playbooks run, and what the user allows there."""

    workspace: Workspace
    confinement: Confinement
    allow_network: bool = False
    allow_unconfined_writes: bool = False
    readable: tuple[Path, ...] = ()
    state_dir: Path | None = None
    """Where the environments of `uv` playbooks lie; without it there are none."""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    max_timeout_s: float = 900


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `changes` is what it would change; nothing is applied yet."""

    status: PlaybookStatus
    output: dict[str, Any] | None = None
    changes: Changes = field(default_factory=dict)
    log_tail: str = ""
    confined: bool = True
    ms: int = 0
    before: Moment = field(default_factory=dict)


def refuse_unless_runnable(playbook: Playbook, bench: Bench) -> Interpreter:
    """What will run the script. Raises PolicyRefused where kind, runtime, sandbox or the user's policy forbids it."""
    contract = playbook.contract
    if contract.run is None:
        raise _refused(f"The playbook {playbook.name} is of kind {contract.kind}, which this version does not run")
    if contract.effects.network and not bench.allow_network:
        raise _refused(
            f"The playbook {playbook.name} wants the network, which your configuration does not allow",
            "Set policy.allow_network_playbooks in the user's tierkit.toml if you want that.",
        )
    confined = bench.confinement.kind == "sandbox"
    can_write = confined and bench.confinement.writable_layer
    if not bench.allow_unconfined_writes:
        if not confined and contract.effects.network:
            raise _refused(f"The playbook {playbook.name} wants the network and there is no sandbox here", _MEND)
        if not contract.effects.read_only and not can_write:
            raise _refused(
                f"The playbook {playbook.name} changes files and there is no sandbox for that here"
                f" ({bench.confinement.reason})",
                _MEND,
            )
    return _program(playbook, bench)


async def run(playbook: Playbook, inputs: Mapping[str, Any], bench: Bench) -> Outcome:
    """Run the script on checked inputs. The project is as it was, whatever the outcome.

    Raises PolicyRefused before anything is started, where it may not run here.
    """
    folder = contextlib.ExitStack()
    try:
        job = await anyio.to_thread.run_sync(_set_up, playbook, bench, folder)
        started = time.monotonic()
        ran = await run_process(
            job.argv,
            cwd=job.cwd,
            env=job.env,
            stdin=json.dumps(dict(inputs)).encode(),
            limits=job.limits,
            layer=job.layer,
        )
        ms = int((time.monotonic() - started) * 1000)
        return await anyio.to_thread.run_sync(job.judge, ran, ms)
    finally:
        # In a thread: a script may leave many files, and other work goes on while they are removed.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(folder.close)


def _set_up(playbook: Playbook, bench: Bench, folder: contextlib.ExitStack) -> _Job:
    """The job, in a private folder that goes with `folder`."""
    program = refuse_unless_runnable(playbook, bench)
    # Without a sandbox in our state folder: above the common temporary one node would find what others left.
    within = bench.state_dir / "runs" if bench.state_dir and bench.confinement.kind == "none" else None
    stage = folder.enter_context(private_folder(within))
    _lay_out(stage, playbook)
    job = _Job.prepare(playbook, bench, program, stage)
    folder.callback(os.close, job.result)
    return job


_MEND = "Run it where user namespaces are allowed (see tierkit doctor), or make the change yourself."


@dataclass(frozen=True)
class _Job:
    """A prepared run: its command, its view of the files, and how its end is judged."""

    playbook: Playbook
    bench: Bench
    stage: Path
    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str]
    limits: Limits
    layer: Layer | None
    notes: tuple[str, ...]
    before: Moment
    secrets: frozenset[str]
    result: int

    @classmethod
    def prepare(cls, playbook: Playbook, bench: Bench, program: Interpreter, stage: Path) -> _Job:
        rules = playbook.rules
        root = bench.workspace.root
        confined = bench.confinement.kind == "sandbox"
        read_only = playbook.contract.effects.read_only
        in_copy = not confined and not read_only
        # What is mounted read-only need not be compared afterwards.
        seen = survey(bench.workspace, with_moment=not (confined and read_only))
        if in_copy:
            copy_project(root, stage / "project", without=seen.secrets)
        project = stage / "project" if in_copy else root
        env, notes = _environment(playbook, bench, stage)
        return cls(
            playbook=playbook,
            bench=bench,
            stage=stage,
            argv=(*program.argv, str(stage / "playbook" / rules.script)),
            cwd=project if rules.cwd == "project" else stage / "scratch",
            env=env,
            limits=Limits(
                timeout_s=min(rules.timeout_s, bench.max_timeout_s), output_kb=rules.max_output_kb,
                memory_mb=MEMORY_MB, processes=PROCESSES, file_mb=FILE_MB,
            ),
            layer=_layer(playbook, bench, program, stage, seen.secrets) if confined else None,
            notes=notes,
            before=seen.before,
            secrets=frozenset(seen.secrets),
            # Held open from before the start: the script cannot put another folder in its place.
            result=os.open(stage / "result", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC),
        )  # fmt: skip

    def judge(self, ran: Ran, ms: int) -> Outcome:
        status, output, fault = self._ending(ran)
        changes = self._changes(ran)
        if self.playbook.contract.effects.read_only and changes:
            status, output = "write_outside", None
            fault = f"it is declared read-only and changed {listed(sorted(changes))}"
        if ran.refused and status == "ok":
            status, output = "write_outside", None
            fault = f"it made what cannot be applied: {listed(ran.refused)}"
        log = tail("\n".join((*self.notes, ran.output.decode(errors="replace"), fault)))
        return Outcome(
            status=status,
            output=output,
            changes=changes if status in ("ok", "write_outside") else {},
            log_tail=log,
            confined=self.layer is not None,
            ms=ms,
            before=self.before,
        )

    def _ending(self, ran: Ran) -> tuple[PlaybookStatus, dict[str, Any] | None, str]:
        if ran.ending == "timeout":
            return "timeout", None, f"stopped after {self.limits.timeout_s:g} s"
        if ran.ending == "output_limit":
            return "output_limit", None, f"stopped at {self.limits.output_kb} KB of output"
        if ran.ending != "exited":
            why = ran.stderr.decode(errors="replace")[-300:]
            return "failed", None, f"the script could not be started ({ran.ending.replace('_', ' ')}): {why}"
        if ran.exit_code == DECLINED:
            return "declined", None, ""
        if ran.exit_code != 0:
            return "failed", self._told_of_failure(), f"exit code {ran.exit_code}"
        try:
            return "ok", self._output(), ""
        except ResultTooLarge:
            return "output_limit", None, f"the result is larger than {self.limits.output_kb} KB"
        except ValueError as error:
            return "bad_output", None, f"the result was refused: {error}"

    def _told_of_failure(self) -> dict[str, Any] | None:
        """What a script that failed wrote down of it, as far as its contract lets that through."""
        try:
            return self._output()
        except ValueError:
            return None

    def _output(self) -> dict[str, Any]:
        value = strict_json(read_result(self.result, self.limits.output_kb * 1024))
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
        checked = self.playbook.outputs.check(value)
        shown: dict[str, Any] = redacted(checked)
        return shown

    def _changes(self, ran: Ran) -> Changes:
        if self.layer is not None:
            return dict(ran.changes)
        if not self.playbook.contract.effects.read_only:  # It worked in a copy.
            return _without(compare(self.bench.workspace.root, self.stage / "project"), self.secrets)
        return dict.fromkeys(moved(self.before, moment(self.bench.workspace.root)))


def _program(playbook: Playbook, bench: Bench) -> Interpreter:
    runtime = playbook.rules.runtime
    if runtime == "uv":
        ready = refuse_unless_ready(playbook, bench.state_dir)
        found = of_environment(ready.python, ready.folder)
    else:
        confined, theirs = bench.confinement.kind == "sandbox", playbook.origin != "project"
        found = interpreter(runtime, bench.workspace.root, confined=confined, theirs=theirs)
    if found is None:
        raise _refused(
            f"There is no {runtime} on PATH to run the playbook {playbook.name}",
            f"Install {runtime}, or do this task another way.",
        )
    return found


def _lay_out(stage: Path, playbook: Playbook) -> None:
    write_folder(playbook.folder, stage / "playbook")
    for name in ("home", "result", "scratch"):
        (stage / name).mkdir(mode=0o700)


def _layer(playbook: Playbook, bench: Bench, program: Interpreter, stage: Path, hidden: tuple[str, ...]) -> Layer:
    effects, root = playbook.contract.effects, bench.workspace.root
    network: Network = "full" if effects.network and bench.allow_network else "none"
    return Layer(
        project=root,
        writable=not effects.read_only,
        collect=not effects.read_only,
        readable=(stage / "playbook", *program.readable, *bench.readable),
        writable_dirs=(stage / "result", stage / "scratch"),
        hidden=hidden,
        network=network,
    )


def _environment(playbook: Playbook, bench: Bench, stage: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    env = {"PATH": clean_env()["PATH"], "HOME": str(stage / "home"), "LANG": "C.UTF-8"}
    env["PLAYBOOK_RESULT"] = str(stage / "result" / RESULT)
    if bench.readable:
        # The repository lies above the project or elsewhere, and so across a mount: git would stop there.
        env["GIT_DISCOVERY_ACROSS_FILESYSTEM"] = "1"
    notes = []
    for name in playbook.rules.env:
        value = bench.environ.get(name)
        if value is None:
            continue
        if find_secrets(f"{name}={value}") or _LOGIN_IN_URL.search(value):
            notes.append(f"{name} was not passed on: its value looks like a credential")
            continue
        env[name] = value
    return env, tuple(notes)


def _without(changes: Changes, secrets: frozenset[str]) -> Changes:
    """Files that were kept from the copy did not vanish."""
    return {
        path: content for path, content in changes.items() if path not in secrets and not path.startswith(".tierkit/")
    }


def _refused(what: str, next_step: str = "Do this task another way.") -> PolicyRefused:
    return PolicyRefused(f"refused_policy: {what}. Nothing was run and nothing was spent.", next_step=next_step)
