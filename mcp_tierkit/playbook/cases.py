"""A playbook's own test cases, each in a throwaway project, each twice."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import anyio
from pydantic import Field, ValidationError

from mcp_tierkit.errors import InvalidInput, TierkitError
from mcp_tierkit.playbook.apply import Ending, conclude
from mcp_tierkit.playbook.faults import explain
from mcp_tierkit.playbook.load import BadPlaybook, Playbook, read_case
from mcp_tierkit.playbook.recipe import Said, answered, make_recipe
from mcp_tierkit.playbook.run import DECLINED, Bench, Outcome, run
from mcp_tierkit.playbook.tree import moment, moved
from mcp_tierkit.sandbox import Confinement
from mcp_tierkit.types import PlaybookStatus, Record
from mcp_tierkit.workspace import Workspace, clean_path

SQL_SECONDS = 10
SKILL_TOKENS = 60_000
"""Of a skill's documents; the user's own limit holds for its runs."""
_ATTACH, _DETACH = 24, 25  # SQLite's authoriser codes: a script may open no file but its own.


CaseStatus = Literal[
    "ok", "declined", "failed", "timeout", "output_limit", "bad_output", "write_outside", "conflict", "invalid_input",
]  # fmt: skip
"""How a case may be meant to end: as a run can, or refused before it starts."""


class Setup(Record):
    sqlite: dict[str, str] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)


class Expect(Record):
    status: CaseStatus
    output: dict[str, Any] = Field(default_factory=dict)
    contains: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    log: tuple[str, ...] = ()
    changed: tuple[str, ...] | None = None
    diff: str | None = None


class Case(Record):
    """`case.json`: what goes in, what the project holds, what must come out."""

    inputs: dict[str, Any] = Field(default_factory=dict)
    setup: Setup = Setup()
    expect: Expect


class CaseResult(Record):
    """One case after both turns; no faults means that it passed."""

    name: str
    faults: tuple[str, ...] = ()
    diff: str | None = Field(default=None, description="What it came to, where that is not the diff that is expected.")
    ms: int = 0


@dataclass(frozen=True)
class _Turn:
    outcome: Outcome
    ending: Ending
    changed: tuple[str, ...]
    diff: str


def read_cases(playbook: Playbook) -> dict[str, Case]:
    """The cases by name; BadPlaybook where one cannot be read."""
    found: dict[str, Case] = {}
    for entry in playbook.folder.files:
        parts = entry.path.split("/")
        if len(parts) == 3 and parts[0] == "tests" and parts[2] == "case.json":
            try:
                found[parts[1]] = Case.model_validate(read_case(entry.path, entry.data))
            except ValidationError as error:
                raise BadPlaybook(entry.path, *explain(error, entry.data.decode(errors="replace"), Case)) from None
    return found


async def run_cases(
    playbook: Playbook, confinement: Confinement, *, only: str | None = None, state_dir: Path | None = None
) -> AsyncIterator[CaseResult]:
    """Each case as it ends, without the network.

    Where `confinement` is none the scripts run with the user's own rights, the network included.
    `state_dir` is where the environment of a `uv` playbook was prepared.
    """
    effects = playbook.contract.effects.model_copy(update={"network": False})
    playbook = replace(playbook, contract=playbook.contract.model_copy(update={"effects": effects}))
    for name, case in read_cases(playbook).items():
        if only in (None, name):
            yield await _run_case(playbook, name, case, confinement, state_dir)


async def _run_case(
    playbook: Playbook, name: str, case: Case, confinement: Confinement, state_dir: Path | None
) -> CaseResult:
    started, diff = time.monotonic(), None
    try:
        first, second = [await _turn(playbook, name, case, confinement, state_dir) for _ in range(2)]
        faults = _faults(playbook, name, case, first)
        if case.expect.diff is not None and _diff_fault(playbook, name, case.expect, first.diff):
            diff = first.diff
        if not faults and _essence(first) != _essence(second):
            faults = ("the second run came out differently",)
    except (TierkitError, BadPlaybook, sqlite3.Error, subprocess.SubprocessError, OSError) as error:
        faults = (" ".join(str(error).split())[:300],)
    return CaseResult(name=name, faults=faults, diff=diff, ms=int((time.monotonic() - started) * 1000))


async def _turn(playbook: Playbook, name: str, case: Case, confinement: Confinement, state_dir: Path | None) -> _Turn:
    with tempfile.TemporaryDirectory(prefix="tierkit-case-") as folder:
        project, state = Path(os.path.realpath(folder), "project"), Path(os.path.realpath(folder), "state")
        await anyio.to_thread.run_sync(_build, playbook, name, case, project)
        workspace = Workspace(project)
        before = moment(project)
        bench = Bench(
            workspace=workspace, confinement=confinement, allow_unconfined_writes=True, state_dir=state_dir,
            environ=case.setup.env,
        )  # fmt: skip
        try:
            inputs = playbook.inputs.check(case.inputs)
        except ValueError as error:
            refused = Ending.model_construct(status="invalid_input", changed=(), diff=None, note=str(error))
            return _Turn(Outcome("failed"), refused, (), "")
        if playbook.contract.kind == "skill":
            return await _skill_turn(playbook, name, inputs, workspace)
        outcome = await run(playbook, inputs, bench)
        ending = await conclude(playbook, outcome, workspace, state, "case")
        diff = (project / ending.diff).read_bytes().decode() if ending.diff else ""
        return _Turn(outcome, ending, moved(before, moment(project)), diff)


async def _skill_turn(playbook: Playbook, name: str, inputs: dict[str, Any], workspace: Workspace) -> _Turn:
    """A turn of a skill, without a model: the case's `reply.txt` stands for its words, `reply2.txt` for a repair."""
    words = [playbook.folder.read(f"tests/{name}/{file}") for file in ("reply.txt", "reply2.txt")]
    if words[0] is None:
        raise BadPlaybook(f"tests/{name}/reply.txt", "does not exist")
    left = iter([Said(data.decode(errors="replace")) for data in words if data is not None])

    async def ask(fault: str | None) -> Said | None:
        return next(left, None)

    try:
        recipe = make_recipe(playbook, inputs, workspace, budget=SKILL_TOKENS)
    except InvalidInput as error:
        refused = Ending.model_construct(status="invalid_input", changed=(), diff=None, note=str(error))
        return _Turn(Outcome("failed"), refused, (), "")
    answer = await answered(recipe, ask)
    status: PlaybookStatus = "bad_output" if answer.output is None else "ok"
    return _Turn(Outcome(status, answer.output), Ending(status=status, note=answer.fault), (), "")


def _build(playbook: Playbook, name: str, case: Case, project: Path) -> None:
    """The project of a case: its `workspace/` or its git history, and databases made from SQL."""
    project.mkdir(parents=True)
    above = f"tests/{name}/"
    history = playbook.folder.read(above + "repo.fast-import")
    if history is not None:
        _import_history(project, history)
    for entry in playbook.folder.files:
        if entry.path.startswith(above + "workspace/"):
            target = _own(project, entry.path.removeprefix(above + "workspace/"))
            target.write_bytes(entry.data)
            target.chmod(0o755 if entry.mode & 0o100 else 0o644)
    for path, source in case.setup.sqlite.items():
        script = playbook.folder.read(above + source)
        if script is None:
            raise BadPlaybook(f"{above}{source}", "does not exist")
        _make_database(_own(project, clean_path(path)), script.decode())


def _own(project: Path, path: str) -> Path:
    """Where a file of the case goes. Its history may hold links, and none may lead what we write elsewhere."""
    target = project
    for part in path.split("/"):
        target /= part
        if target.is_symlink():
            raise BadPlaybook(path, "leads through a link of the case's own history")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _import_history(project: Path, history: bytes) -> None:
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(project), "LANG": "C.UTF-8"}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    quiet = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    for command, given in (
        (["init", "--quiet", "--template=", "--initial-branch=main"], b""),
        (["fast-import", "--quiet"], history),
        (["reset", "--quiet", "--hard"], b""),
    ):
        whole = [*quiet, *command]
        subprocess.run(whole, input=given, cwd=project, env=env, check=True, capture_output=True, timeout=60)


def _make_database(path: Path, script: str) -> None:
    deadline = time.monotonic() + SQL_SECONDS
    connection = sqlite3.connect(path)
    try:
        connection.set_authorizer(_no_other_file)
        connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
        connection.executescript(script)
        connection.commit()
    finally:
        connection.close()


def _no_other_file(action: int, *_: object) -> int:
    return sqlite3.SQLITE_DENY if action in (_ATTACH, _DETACH) else sqlite3.SQLITE_OK


def _faults(playbook: Playbook, name: str, case: Case, turn: _Turn) -> tuple[str, ...]:
    expect, output, status = case.expect, turn.outcome.output or {}, turn.ending.status
    if status != expect.status:
        told = turn.ending.note or turn.outcome.log_tail[-300:]
        told = f"exit code {DECLINED} declines. {told}" if status == "declined" else told
        return (f"status is {status}, not {expect.status}: {told}",)
    faults = [
        f"output {key} is {output.get(key)!r}, not {value!r}"
        for key, value in expect.output.items()
        if key not in output or output[key] != value
    ]
    for key, parts in expect.contains.items():
        faults += [f"output {key} lacks {part!r}" for part in parts if part not in str(output.get(key))]
    log = f"{turn.outcome.log_tail}\n{turn.ending.note}"
    faults += [f"the log lacks {part!r}: {log[-300:]}" for part in expect.log if part not in log]
    changed = tuple(sorted(turn.ending.changed))
    if expect.changed is not None and changed != tuple(sorted(expect.changed)):
        faults.append(f"changed {list(changed)}, not {sorted(expect.changed)}")
    if changed != turn.changed:
        faults.append(f"the project differs in {list(turn.changed)}, {list(changed)} was reported")
    return (*faults, *_diff_fault(playbook, name, expect, turn.diff))


def _diff_fault(playbook: Playbook, name: str, expect: Expect, diff: str) -> tuple[str, ...]:
    if expect.diff is None:
        return ()
    wanted = playbook.folder.read(f"tests/{name}/{expect.diff}")
    if wanted is not None and wanted.decode() == diff:
        return ()
    return (f"the diff is not that of {expect.diff}; test --accept writes this one there:\n{diff}",)


def _essence(turn: _Turn) -> tuple[object, ...]:
    return turn.ending.status, turn.outcome.output, turn.ending.changed, turn.diff
