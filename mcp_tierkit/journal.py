"""Change files under a lock, or take it all back, whatever happens in between.

A change is written down before it is made: both contents of every file, then one rename into `journal/`. Files are
replaced one at a time. One rename to `undo/` commits. What is still in `journal/` when nobody holds the lock was not
committed and is rolled back. An undo is such a change too, made out of the undo record and of what stands there now;
its commit is the rename to `undone/`, and whoever finds it there removes the records that it took back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from mcp_tierkit.errors import Conflict, InvalidInput, NotFound, PathRefused
from mcp_tierkit.merge import MAX_MERGE, Overlap, merge
from mcp_tierkit.types import Changes, Content, Record
from mcp_tierkit.workspace import MAX_DIGEST, Workspace

_MANIFEST = "manifest.json"
_POLL_S = 0.05


class _State(Record):
    """A file as it was or shall be: no digest is no file, no mode is the default of a new one."""

    digest: str | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    owner: tuple[int, int] | None = None


class _Step(Record):
    path: str
    before: _State
    after: _State
    made: tuple[str, ...] = ()  # Folders that this step must create, outermost first.


class _Manifest(Record):
    version: Literal[1] = 1
    project: str
    task_id: str
    token: str
    steps: tuple[_Step, ...]
    folders: tuple[str, ...] = ()  # To be removed when the change is taken back and they are empty.
    undoes: tuple[str, ...] = ()  # The undo records that this one takes back; none where it is a task's change.


class _Held(NamedTuple):
    """A file with its bytes, or none."""

    state: _State
    data: bytes | None = None


class _Clash(Exception):
    """A file that cannot be put back. `task_id` is the later task whose change is in the way, where one is."""

    def __init__(self, why: str, task_id: str | None = None) -> None:
        super().__init__(why)
        self.why, self.task_id = why, task_id


@contextlib.asynccontextmanager
async def tree_lock(state: Path, project: Path) -> AsyncIterator[None]:
    """Hold the project's tree against every other process and task; waits, and may be cancelled while waiting."""
    import anyio
    from filelock import FileLock, Timeout

    folder = _home(state, project)
    _private(folder)
    lock = FileLock(folder / "tree.lock", mode=0o600, thread_local=False, fallback_to_soft=False)
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            await anyio.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


class Trial:
    """Changes that are on disk for now. After the block, `left` names files that somebody else changed meanwhile."""

    def __init__(self, ws: Workspace, state: Path, name: str, manifest: _Manifest) -> None:
        self._ws, self._state, self._name, self._manifest = ws, state, name, manifest
        self.kept = False
        self.reached = 0
        self.left: tuple[str, ...] = ()

    def keep(self) -> None:
        """Make the changes stay, with an undo record. Conflict where a file is not as it was written."""
        for step in self._manifest.steps:
            if not _same(_look(self._ws, step.path), step.after):
                raise _moved(step.path)
        _move(_home(self._state, self._ws.root), "journal", "undone" if self._manifest.undoes else "undo", self._name)
        self.kept = True


@contextlib.contextmanager
def trial(
    ws: Workspace, state: Path, task_id: str, changes: Changes, expected: Mapping[str, str | None]
) -> Iterator[Trial]:
    """The changes on disk inside the block; taken back at its end byte for byte unless `keep` was called.

    `expected` is sha256 per path as it was read, None for absent; a path left out must be absent.
    Conflict, with nothing changed, where a file differs. The caller holds `tree_lock`.
    """
    recover(ws, state)
    with _tried(ws, state, _planned(ws, state, task_id, changes, expected), changes) as tried:
        yield tried


@contextlib.contextmanager
def _tried(ws: Workspace, state: Path, manifest: _Manifest, changes: Changes) -> Iterator[Trial]:
    home = _home(state, ws.root)
    name = _begin(home, manifest, ws, changes)
    tried = Trial(ws, state, name, manifest)
    try:
        for at, step in enumerate(manifest.steps):
            # Looked at once more, as late as can be: an editor may have saved meanwhile.
            if not _same(_look(ws, step.path), step.before, times=True):
                raise _moved(step.path)
            tried.reached = at + 1
            _perform(ws, manifest, at, step, changes[step.path])
        yield tried
    finally:
        if not tried.kept:
            _, tried.left = _roll_back(ws, home, name, manifest, tried.reached)


def apply(ws: Workspace, state: Path, task_id: str, changes: Changes, expected: Mapping[str, str | None]) -> None:
    """Make all the changes or none, and keep an undo record; `trial` says what `expected` is."""
    with trial(ws, state, task_id, changes, expected) as tried:
        tried.keep()


def recover(ws: Workspace, state: Path) -> tuple[str, ...]:
    """Finish what a crash left: roll back all that was not committed. The answer is the paths put back.

    A file that is neither as it was nor as it was to be belongs to somebody else by now: it is left alone, and the
    record is kept for `left_alone`. The caller holds `tree_lock`.
    """
    home = _home(state, ws.root)
    restored: list[str] = []
    for name in _names(home / "undone"):
        _finish(ws, home, name)
    for name in sorted(_names(home / "journal"), key=lambda name: not name.endswith(".part")):
        if name.endswith(".part"):
            shutil.rmtree(home / "journal" / name)
            continue
        done, _ = _roll_back(ws, home, name, _load(home / "journal" / name))
        restored += done
    return tuple(restored)


def left_alone(ws: Workspace, state: Path) -> dict[str, Path]:
    """Files that a rollback did not touch, each with the stored bytes it had before."""
    home = _home(state, ws.root) / "left"
    found: dict[str, Path] = {}
    for name in _names(home):
        for at, step in enumerate(_load(home / name).steps):
            found[step.path] = home / name / f"before.{at}"
    return found


def has_undo(state: Path, ws: Workspace, task_id: str) -> bool:
    """Whether the task's change can be asked back."""
    return bool(_records(_home(state, ws.root), task_id))


def undo(ws: Workspace, state: Path, task_id: str) -> tuple[str, ...]:
    """Take back what the task changed; the answer is the paths put back.

    What changed since stays, in the same files too, as long as it is clear of the task's own lines. Otherwise Conflict,
    with nothing changed. NotFound where no applied change of the task is on record. The caller holds `tree_lock`.
    """
    recover(ws, state)
    home = _home(state, ws.root)
    records = _records(home, task_id)
    if not records:
        raise NotFound(
            f"Task {task_id} has no change to take back: it was never applied, or was undone already. "
            "Nothing was changed.",
            next_step="Look at the task's status; only an applied change can be undone, and only once.",
        )
    manifest, changes = _taken_back(ws, home, task_id, records)
    with _tried(ws, state, manifest, changes) as tried:
        tried.keep()
    recover(ws, state)
    return tuple(step.path for step in manifest.steps)


def _taken_back(ws: Workspace, home: Path, task_id: str, records: list[str]) -> tuple[_Manifest, Changes]:
    """The task's changes turned round, onto the files as they stand now. Conflict names every file that will not go."""
    now: dict[str, _Held] = {}
    then: dict[str, _Held] = {}
    clashes: dict[str, _Clash] = {}
    applied = {name: _load(home / "undo" / name) for name in sorted(_applied(home), key=_number, reverse=True)}
    for name in records:
        later = {other: found for other, found in applied.items() if _number(other) > _number(name)}
        for at, step in enumerate(applied[name].steps):
            try:
                if step.path not in now:
                    now[step.path] = then[step.path] = _stands(ws, step.path)
                left, stood = _stored(home, name, at, step)
                _ask_others(home, task_id, later, step.path, left, stood)
                # Put back by hand already: nothing is left to do.
                if not _same(then[step.path].state, stood.state):
                    then[step.path] = _carried(left, stood, then[step.path])
            except _Clash as clash:
                clashes.setdefault(step.path, clash)
    if clashes:
        raise _refusal(task_id, clashes)
    steps, changes = _turned(ws, now, then)
    # Not those that another task on record counts on: its own undo clears them.
    ours = _folders(applied.pop(name) for name in records)
    folders = tuple(ours - _folders(applied.values()))
    return _Manifest(
        project=str(ws.root), task_id=task_id, token=secrets.token_hex(6), steps=steps, undoes=tuple(records),
        folders=folders,
    ), changes  # fmt: skip


def _turned(ws: Workspace, now: dict[str, _Held], then: dict[str, _Held]) -> tuple[tuple[_Step, ...], Changes]:
    made: set[str] = set()
    steps: list[_Step] = []
    changes: Changes = {}
    for path in sorted(now):
        before, after = now[path].state, then[path]
        if _same(before, after.state):
            continue
        new = [above for above in _above(path) if above not in made and ws.stat(above) is None]
        made.update(new if after.data is not None else ())
        steps.append(_Step(path=path, before=before, after=after.state, made=tuple(new)))
        changes[path] = None if after.data is None else Content(data=after.data)
    return tuple(steps), changes


def _ask_others(home: Path, task_id: str, later: Mapping[str, _Manifest], path: str, left: _Held, stood: _Held) -> None:
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
    if _same(theirs.state, base.state):
        return ours
    if _same(ours.state, base.state):
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
    state = _State(
        digest=hashlib.sha256(data).hexdigest(), mode=modes.pop() if modes else theirs.state.mode,
        owner=theirs.state.owner, mtime_ns=_fresh(theirs.state),
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
    state = _seen(ws, path)
    if state is None:
        raise _Clash("it is no longer a plain file that may be written")
    if state.digest is None:
        return _Held(state)
    data = ws.read(path, limit=MAX_DIGEST)
    if hashlib.sha256(data).hexdigest() != state.digest:
        raise _Clash("it is being changed at this moment")
    return _Held(state, data)


def _stored(home: Path, name: str, at: int, step: _Step) -> tuple[_Held, _Held]:
    """The file as the step left it, and as it stood before."""
    found = []
    for word, state in (("after", step.after), ("before", step.before)):
        data = None if state.digest is None else _kept(home / "undo" / name / f"{word}.{at}", state.digest)
        found.append(_Held(state, data))
    return found[0], found[1]


def _kept(file: Path, digest: str) -> bytes:
    with contextlib.suppress(OSError):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() == digest:
            return data
    raise _unreadable(file.parent)


def _finish(ws: Workspace, home: Path, name: str) -> None:
    """What is left to do once an undo is committed."""
    manifest = _load(home / "undone" / name)
    for folder in sorted(manifest.folders, reverse=True):
        _remove_folder(ws, folder)
    for undone in manifest.undoes:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(home / "undo" / undone)
    _drop(home, "undone", name)


def _planned(
    ws: Workspace, state: Path, task_id: str, changes: Changes, expected: Mapping[str, str | None]
) -> _Manifest:
    if not changes or task_id != os.path.basename(task_id) or task_id.startswith("."):
        raise InvalidInput(
            "There is nothing to apply under that task id. Nothing was changed.", next_step="Draft again."
        )
    for path in sorted({*changes, *expected}):
        if ws.clean(path) != path or ws.denied(path):
            raise PathRefused(f"The path {path!r} may not be written. Nothing was changed.", next_step="Draft again.")
        if _look(ws, path).digest != expected.get(path):
            raise _moved(path)
    made: set[str] = set()
    steps = []
    for path in sorted(changes):
        step = _step(ws, path, changes[path], made)
        if not (step.before.digest == step.after.digest and _same(step.before, step.after)):
            steps.append(step)
    folders = {*made, *_shared(_home(state, ws.root), steps)}
    return _Manifest(
        project=str(ws.root), task_id=task_id, token=secrets.token_hex(6), steps=tuple(steps), folders=tuple(folders)
    )


def _shared(home: Path, steps: list[_Step]) -> set[str]:
    """Folders above the created files that are there for another task's sake: the last of them to be undone clears."""
    above = {folder for step in steps if step.before.digest is None for folder in _above(step.path)}
    others: set[str] = set()
    for name in _applied(home) if above else ():
        with contextlib.suppress(Conflict):  # A record that cannot be read stands in its own task's way only.
            others |= _folders([_load(home / "undo" / name)])
    return above & others


def _folders(manifests: Iterable[_Manifest]) -> set[str]:
    return {
        folder
        for manifest in manifests
        for folder in (*manifest.folders, *(made for step in manifest.steps for made in step.made))
    }


def _step(ws: Workspace, path: str, content: Content | None, made: set[str]) -> _Step:
    before = _look(ws, path)
    if content is None:
        return _Step(path=path, before=before, after=_State())
    mode = before.mode if content.mode is None else content.mode & 0o777
    after = _State(
        digest=hashlib.sha256(content.data).hexdigest(), mode=mode, owner=before.owner, mtime_ns=_fresh(before)
    )
    new = [above for above in _above(path) if above not in made and ws.stat(above) is None]
    made.update(new)
    return _Step(path=path, before=before, after=after, made=tuple(new))


def _fresh(before: _State) -> int | None:
    """A time of change in another second than before: Python takes a file for unchanged by second and size."""
    if before.mtime_ns is None or before.mtime_ns // 1_000_000_000 != time.time_ns() // 1_000_000_000:
        return None
    return before.mtime_ns + 1_000_000_000


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _begin(home: Path, manifest: _Manifest, ws: Workspace, changes: Changes) -> str:
    # Numbered through all tasks: a greater number is a later change.
    taken = [_number(name) for part in ("undo", "undone", "left") for name in _names(home / part)]
    name = f"{manifest.task_id}.{1 + max(taken, default=0)}"
    for part in ("journal", "undo", "undone", "left"):
        _private(home / part)
    folder = home / "journal" / f"{name}.part"
    folder.mkdir(mode=0o700)
    for at, step in enumerate(manifest.steps):
        content = changes[step.path]
        if step.before.digest is not None:
            _store(folder / f"before.{at}", ws.read(step.path, limit=MAX_DIGEST), step.before.digest)
        if content is not None:
            _store(folder / f"after.{at}", content.data)
    _store(folder / _MANIFEST, manifest.model_dump_json().encode())
    _sync(folder)
    os.rename(folder, home / "journal" / name)
    _sync(home / "journal")
    return name


def _store(path: Path, data: bytes, digest: str | None = None) -> None:
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise Conflict("A file changed while it was being saved. Nothing was changed.", next_step="Draft again.")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _move(home: Path, source: str, target: str, name: str) -> None:
    _private(home / target)
    os.rename(home / source / name, home / target / name)
    _sync(home / target)
    _sync(home / source)


def _perform(ws: Workspace, manifest: _Manifest, at: int, step: _Step, content: Content | None) -> None:
    if content is None:
        _remove(ws, step.path)
    else:
        _replace(ws, step.path, content.data, step.after, _spare(manifest, at))


def _roll_back(
    ws: Workspace, home: Path, name: str, manifest: _Manifest, reached: int | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths put back and paths left alone; only the first `reached` steps were begun, all where that is unknown."""
    folder = home / "journal" / name
    restored, left = [], []
    for at, step in reversed(list(enumerate(manifest.steps[:reached]))):
        now = _seen(ws, step.path)
        if now is None or not (_same(now, step.before) or _same(now, step.after)):
            left.append(step.path)
        elif not _same(now, step.before):
            _restore(ws, manifest, at, step, folder)
            restored.append(step.path)
        with contextlib.suppress(PathRefused):
            _remove(ws, _beside(step.path, _spare(manifest, at)))
    # After all files: a folder that one step leaves empty may be another's.
    for made in sorted((made for step in manifest.steps[:reached] for made in step.made), reverse=True):
        _remove_folder(ws, made)
    if left:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(home / "left" / name)
        _move(home, "journal", "left", name)
    else:
        _drop(home, "journal", name)
    return tuple(reversed(restored)), tuple(reversed(left))


def _drop(home: Path, part: str, name: str) -> None:
    # Renamed first: a half-removed record must not be taken for a whole one.
    os.rename(home / part / name, home / "journal" / f"{name}.part")
    shutil.rmtree(home / "journal" / f"{name}.part")


def _restore(ws: Workspace, manifest: _Manifest, at: int, step: _Step, folder: Path) -> None:
    if step.before.digest is None:
        _remove(ws, step.path)
    else:
        _replace(ws, step.path, (folder / f"before.{at}").read_bytes(), step.before, _spare(manifest, at))


def _replace(ws: Workspace, path: str, data: bytes, wanted: _State, spare: str) -> None:
    *above, name = path.split("/")
    _make_folders(ws, above)
    with ws.folder("/".join(above)) as folder:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spare, dir_fd=folder)
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            _dress(fd, wanted)
            os.fsync(fd)
        os.replace(spare, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def _make_folders(ws: Workspace, parts: list[str]) -> None:
    for end, part in enumerate(parts):
        with ws.folder("/".join(parts[:end])) as folder, contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=folder)


def _dress(fd: int, wanted: _State) -> None:
    if wanted.owner is not None and wanted.owner != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, *wanted.owner)
    if wanted.mode is not None:
        os.fchmod(fd, wanted.mode)
    if wanted.mtime_ns is not None:
        os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))


def _remove(ws: Workspace, path: str) -> None:
    *above, name = path.split("/")
    with contextlib.suppress(FileNotFoundError), ws.folder("/".join(above)) as folder:
        os.unlink(name, dir_fd=folder)
        os.fsync(folder)


def _remove_folder(ws: Workspace, path: str) -> None:
    *above, name = path.split("/")
    # Kept where something else was put into it meanwhile.
    with contextlib.suppress(OSError, PathRefused), ws.folder("/".join(above)) as folder:
        os.rmdir(name, dir_fd=folder)


def _look(ws: Workspace, path: str) -> _State:
    found = ws.stat(path)
    digest = ws.digest(path)  # Refuses links and special files.
    if found is None or digest is None:
        return _State()
    return _State(
        digest=digest,
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        owner=(found.st_uid, found.st_gid),
    )


def _seen(ws: Workspace, path: str) -> _State | None:
    """As `_look`, but None where something that is not a plain file stands there now."""
    try:
        return _look(ws, path)
    except PathRefused:
        return None


def _same(now: _State, then: _State, *, times: bool = False) -> bool:
    if now.digest != then.digest or now.digest is None:
        return now.digest == then.digest
    if times and now.mtime_ns != then.mtime_ns:
        return False
    return then.mode is None or now.mode == then.mode


def _moved(path: str) -> Conflict:
    return Conflict(
        f"The file {path} changed since it was read. Nothing was changed.",
        next_step="Call again, with the file as it is now.",
    )


def _home(state: Path, project: Path) -> Path:
    key = hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:20]
    return Path(state) / "projects" / key


def _private(folder: Path) -> None:
    if folder.is_dir():
        return
    _private(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _applied(home: Path) -> list[str]:
    """Names of the undo records, those left out whose undo is committed."""
    undone: set[str] = set()
    for name in _names(home / "undone"):
        with contextlib.suppress(Conflict):  # Gone meanwhile, and with it what it undid.
            undone.update(_load(home / "undone" / name).undoes)
    return [name for name in _names(home / "undo") if name not in undone]


def _records(home: Path, task_id: str) -> list[str]:
    """The task's undo records, newest first."""
    mine = [name for name in _applied(home) if name.rpartition(".")[0] == task_id]
    return sorted(mine, key=_number, reverse=True)


def _number(name: str) -> int:
    number = name.rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def _load(folder: Path) -> _Manifest:
    try:
        return _Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise _unreadable(folder) from None


def _unreadable(folder: Path) -> Conflict:
    return Conflict(
        f"The journal record {folder.name} cannot be read. The project was left as it is.",
        next_step="Compare the project with git, then remove that record from the state folder.",
    )


def _spare(manifest: _Manifest, at: int) -> str:
    return f".tierkit-{manifest.token}-{at}.tmp"


def _beside(path: str, name: str) -> str:
    above = path.rpartition("/")[0]
    return f"{above}/{name}" if above else name


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
