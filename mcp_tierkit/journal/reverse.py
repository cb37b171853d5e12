"""A task's changes turned round, onto the files as they stand now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mcp_tierkit.errors import Conflict
from mcp_tierkit.journal import files, record
from mcp_tierkit.merge import MAX_MERGE, Overlap, merge
from mcp_tierkit.types import Changes, Content
from mcp_tierkit.workspace import MAX_DIGEST, Workspace


class _Held(NamedTuple):
    """A file with its bytes, or none."""

    state: files.State
    data: bytes | None = None


class _Clash(Exception):
    """A file that cannot be put back. `task_id` is the later task whose change is in the way, where one is."""

    def __init__(self, why: str, task_id: str | None = None) -> None:
        super().__init__(why)
        self.why, self.task_id = why, task_id


def taken_back(ws: Workspace, home: Path, task_id: str, records: list[str]) -> tuple[record.Manifest, Changes]:
    """The task's changes turned round, onto the files as they stand now. Conflict names every file that will not go."""
    now: dict[str, _Held] = {}
    then: dict[str, _Held] = {}
    clashes: dict[str, _Clash] = {}
    newest_first = sorted(record.applied(home), key=record.number, reverse=True)
    applied = {name: record.load(home / "undo" / name) for name in newest_first}
    for name in records:
        later = {other: found for other, found in applied.items() if record.number(other) > record.number(name)}
        for at, step in enumerate(applied[name].steps):
            try:
                if step.path not in now:
                    now[step.path] = then[step.path] = _stands(ws, step.path)
                left, stood = _stored(home, name, at, step)
                _ask_others(home, task_id, later, step.path, left, stood)
                # Put back by hand already: nothing is left to do.
                if not files.same(then[step.path].state, stood.state):
                    then[step.path] = _carried(left, stood, then[step.path])
            except _Clash as clash:
                clashes.setdefault(step.path, clash)
    if clashes:
        raise _refusal(task_id, clashes)
    steps, changes = _turned(ws, now, then)
    # Not those that another task on record counts on: its own undo clears them.
    ours = record.folders(applied.pop(name) for name in records)
    folders = tuple(ours - record.folders(applied.values()))
    project, undoes = str(ws.root), tuple(records)
    return record.Manifest(project=project, task_id=task_id, steps=steps, undoes=undoes, folders=folders), changes


def _turned(ws: Workspace, now: dict[str, _Held], then: dict[str, _Held]) -> tuple[tuple[record.Step, ...], Changes]:
    made: set[str] = set()
    steps: list[record.Step] = []
    changes: Changes = {}
    for path in sorted(now):
        before, after = now[path].state, then[path]
        if files.same(before, after.state):
            continue
        new = files.missing_above(ws, path, made)
        steps.append(record.Step(path=path, before=before, after=after.state, made=tuple(new)))
        changes[path] = None if after.data is None else Content(data=after.data)
    return tuple(steps), changes


def _ask_others(
    home: Path, task_id: str, later: Mapping[str, record.Manifest], path: str, left: _Held, stood: _Held
) -> None:
    """_Clash where another task that was applied later, and is not undone, changed the same lines.

    The file alone does not show it: two tasks may have changed a line there and back, and to undo one of them would
    make the other's undo bring back what nobody wants.
    """
    for name, manifest in later.items():
        for at, step in enumerate(manifest.steps):
            if step.path == path and manifest.task_id != task_id:
                theirs, found = _stored(home, name, at, step)
                _ask(manifest.task_id, left, stood, found, theirs)


def _ask(task_id: str, left: _Held, stood: _Held, found: _Held, theirs: _Held) -> None:
    try:
        without = _carried(left, stood, found)
    except _Clash:
        return  # Somebody changed those lines before that task did; what stands now decides.
    try:
        _carried(found, without, theirs)
    except _Clash:
        raise _Clash(f"the later task {task_id} changed the same lines", task_id) from None


def _carried(base: _Held, ours: _Held, theirs: _Held) -> _Held:
    """`theirs` with what leads from `base` to `ours`; _Clash where that cannot be told from what `theirs` changed."""
    if files.same(theirs.state, base.state):
        return ours
    if files.same(ours.state, base.state):
        return theirs
    if base.data is None:
        raise _Clash("it was created again after the task had deleted it")
    if ours.data is None:
        raise _Clash("it was changed after the task had created it")
    if theirs.data is None:
        raise _Clash("it was deleted after the task had changed it")
    data = _merged(base.data, ours.data, theirs.data)
    modes = {ours.state.mode, theirs.state.mode} - {base.state.mode}
    if len(modes) > 1 or (modes and ours.state.mode == theirs.state.mode):
        raise _Clash("its permissions were changed after the task had changed them")
    state = files.State(
        digest=hashlib.sha256(data).hexdigest(), mode=modes.pop() if modes else theirs.state.mode,
        owner=theirs.state.owner, mtime_ns=files.fresh(theirs.state),
    )  # fmt: skip
    return _Held(state, data)


def _merged(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    if theirs == base or ours == base:
        return ours if theirs == base else theirs
    if any(b"\0" in data for data in (base, ours, theirs)):
        raise _Clash("it was changed since, and is not text")
    if max(len(base), len(ours), len(theirs)) > MAX_MERGE:
        raise _Clash(f"it was changed since, and is larger than {MAX_MERGE} bytes")
    try:
        return merge(base, ours, theirs)
    except Overlap as overlap:
        raise _Clash(f"the same lines, or lines next to them, were changed since (now line {overlap.lines})") from None


def _refusal(task_id: str, clashes: Mapping[str, _Clash]) -> Conflict:
    told = [f"{path}: {clash.why}" for path, clash in sorted(clashes.items())]
    more = f"; and {len(told) - 3} more files" if len(told) > 3 else ""
    later = [clash.task_id for clash in clashes.values() if clash.task_id]
    return Conflict(
        f"Task {task_id} cannot be undone: {'; '.join(told[:3])}{more}. Nothing was changed.",
        next_step=f"Undo {later[0]} first."
        if later
        else "Put that back as the task left it and call again, or take the task's patch back by hand.",
    )


def _stands(ws: Workspace, path: str) -> _Held:
    state = files.seen(ws, path)
    if state is None:
        raise _Clash("it is no longer a plain file that may be written")
    if state.digest is None:
        return _Held(state)
    data = ws.read(path, limit=MAX_DIGEST)
    if hashlib.sha256(data).hexdigest() != state.digest:
        raise _Clash("it is being changed at this moment")
    return _Held(state, data)


def _stored(home: Path, name: str, at: int, step: record.Step) -> tuple[_Held, _Held]:
    """The file as the step left it, and as it stood before."""
    found = []
    for word, state in (("after", step.after), ("before", step.before)):
        data = None if state.digest is None else record.kept(home / "undo" / name / f"{word}.{at}", state.digest)
        found.append(_Held(state, data))
    return found[0], found[1]
