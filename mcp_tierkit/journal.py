"""Change files under a lock, or take it all back, whatever happens in between.

A change is written down before it is made: both contents of every file, then one rename into `journal/`. Files are
replaced one at a time. One rename to `undo/` commits. What is still in `journal/` when nobody holds the lock was not
committed and is rolled back. To undo is to move the record back to `journal/` and roll it back the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Literal

from mcp_tierkit.errors import Conflict, InvalidInput, NotFound, PathRefused
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
        _commit(_home(self._state, self._ws.root), self._name)
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
    home = _home(state, ws.root)
    manifest = _planned(ws, task_id, changes, expected)
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
    """Put back every file the task changed; other files may have changed since.

    Conflict, with nothing changed, where one of the task's own files did. NotFound where there is no record.
    """
    recover(ws, state)
    home = _home(state, ws.root)
    records = _records(home, task_id)
    if not records:
        raise NotFound(
            f"No applied change is on record for task {task_id!r}. Nothing was changed.",
            next_step="Look at the task's status; only an applied change can be undone.",
        )
    _check_undoable(ws, [_load(home / "undo" / name) for name in records])
    restored: list[str] = []
    for name in records:
        _move(home, "undo", "journal", name)
        done, _ = _roll_back(ws, home, name, _load(home / "journal" / name))
        restored += [path for path in done if path not in restored]
    return tuple(restored)


def _check_undoable(ws: Workspace, manifests: list[_Manifest]) -> None:
    seen: dict[str, _State] = {}
    for manifest in manifests:
        for step in manifest.steps:
            now = seen.get(step.path) or _look(ws, step.path)
            if not _same(now, step.after) and not _same(now, step.before):
                raise Conflict(
                    f"The file {step.path} changed after task {manifest.task_id} was applied. Nothing was undone.",
                    next_step="Take the change back by hand with the task's patch, or restore that file first.",
                )
            seen[step.path] = step.before


def _planned(ws: Workspace, task_id: str, changes: Changes, expected: Mapping[str, str | None]) -> _Manifest:
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
    return _Manifest(project=str(ws.root), task_id=task_id, token=secrets.token_hex(6), steps=tuple(steps))


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
    name = f"{manifest.task_id}.{1 + len(_records(home, manifest.task_id))}"
    for part in ("journal", "undo", "left"):
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


def _commit(home: Path, name: str) -> None:
    _move(home, "journal", "undo", name)


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
        _tidy(ws, step, _spare(manifest, at))
    if left:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(home / "left" / name)
        _move(home, "journal", "left", name)
    else:
        # Renamed first: a half-removed record must not be taken for a whole one.
        os.rename(folder, home / "journal" / f"{name}.part")
        shutil.rmtree(home / "journal" / f"{name}.part")
    return tuple(reversed(restored)), tuple(reversed(left))


def _tidy(ws: Workspace, step: _Step, spare: str) -> None:
    with contextlib.suppress(PathRefused):
        _remove(ws, _beside(step.path, spare))
    for made in reversed(step.made):
        _remove_folder(ws, made)


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
        next_step="Call again to draft against the file as it is now.",
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


def _records(home: Path, task_id: str) -> list[str]:
    """The task's undo records, newest first."""
    mine = [name for name in _names(home / "undo") if name.rpartition(".")[0] == task_id]
    return sorted(mine, key=lambda name: -int(name.rpartition(".")[2]))


def _load(folder: Path) -> _Manifest:
    try:
        return _Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise Conflict(
            f"The journal record {folder.name} cannot be read. The project was left as it is.",
            next_step="Compare the project with git, then remove that record from the state folder.",
        ) from None


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
