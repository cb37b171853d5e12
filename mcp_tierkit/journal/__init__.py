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
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from mcp_tierkit.errors import Conflict, InvalidInput, NotFound, PathRefused
from mcp_tierkit.journal import files, record, reverse
from mcp_tierkit.types import Changes, Content
from mcp_tierkit.workspace import Workspace

_POLL_S = 0.05


@contextlib.asynccontextmanager
async def tree_lock(state: Path, project: Path) -> AsyncIterator[None]:
    """Hold the project's tree against every other process and task; waits, and may be cancelled while waiting."""
    import anyio
    from filelock import FileLock, Timeout

    folder = record.home_of(state, project)
    record.private(folder)
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

    def __init__(self, ws: Workspace, home: Path, name: str, manifest: record.Manifest) -> None:
        self._ws, self._home, self._name, self._manifest = ws, home, name, manifest
        self.kept = False
        self.reached = 0
        self.left: tuple[str, ...] = ()

    def keep(self) -> None:
        """Make the changes stay, with an undo record. Conflict where a file is not as it was written."""
        for step in self._manifest.steps:
            if not files.same(files.look(self._ws, step.path), step.after):
                raise _moved(step.path)
        record.move(self._home, "journal", "undone" if self._manifest.undoes else "undo", self._name)
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
def _tried(ws: Workspace, state: Path, manifest: record.Manifest, changes: Changes) -> Iterator[Trial]:
    home = record.home_of(state, ws.root)
    name = record.begin(home, manifest, ws, changes)
    tried = Trial(ws, home, name, manifest)
    try:
        for at, step in enumerate(manifest.steps):
            # Looked at once more, as late as can be: an editor may have saved meanwhile.
            if not files.same(files.look(ws, step.path), step.before, times=True):
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
    home = record.home_of(state, ws.root)
    restored: list[str] = []
    for name in record.names(home / "undone"):
        _finish(ws, home, name)
    for name in sorted(record.names(home / "journal"), key=lambda name: not name.endswith(".part")):
        if name.endswith(".part"):
            shutil.rmtree(home / "journal" / name)
            continue
        done, _ = _roll_back(ws, home, name, record.load(home / "journal" / name))
        restored += done
    return tuple(restored)


def left_alone(ws: Workspace, state: Path) -> dict[str, Path]:
    """Files that a rollback did not touch, each with the stored bytes it had before."""
    home = record.home_of(state, ws.root) / "left"
    found: dict[str, Path] = {}
    for name in record.names(home):
        for at, step in enumerate(record.load(home / name).steps):
            found[step.path] = home / name / f"before.{at}"
    return found


def has_undo(state: Path, ws: Workspace, task_id: str) -> bool:
    """Whether the task's change can be asked back."""
    return bool(record.of_task(record.home_of(state, ws.root), task_id))


def project_of(state: Path, task_id: str) -> Path | None:
    """The project in which a change of the task can be asked back; None where none is on record."""
    for home in sorted(state.glob("projects/*")):
        for name in record.of_task(home, task_id):
            with contextlib.suppress(Conflict):  # Another record of the task may be whole.
                return Path(record.load(home / "undo" / name).project)
    return None


def undo(ws: Workspace, state: Path, task_id: str) -> tuple[str, ...]:
    """Take back what the task changed; the answer is the paths put back.

    What changed since stays, in the same files too, as long as it is clear of the task's own lines. Otherwise Conflict,
    with nothing changed. NotFound where no applied change of the task is on record. The caller holds `tree_lock`.
    """
    recover(ws, state)
    home = record.home_of(state, ws.root)
    records = record.of_task(home, task_id)
    if not records:
        raise NotFound(
            f"Task {task_id} has no change to take back: it was never applied, or was undone already. "
            "Nothing was changed.",
            next_step="Look at the task's status; only an applied change can be undone, and only once.",
        )
    manifest, changes = reverse.taken_back(ws, home, task_id, records)
    with _tried(ws, state, manifest, changes) as tried:
        tried.keep()
    recover(ws, state)
    return tuple(step.path for step in manifest.steps)


def _finish(ws: Workspace, home: Path, name: str) -> None:
    """What is left to do once an undo is committed."""
    manifest = record.load(home / "undone" / name)
    for folder in sorted(manifest.folders, reverse=True):
        files.remove_folder(ws, folder)
    for undone in manifest.undoes:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(home / "undo" / undone)
    record.drop(home, "undone", name)


def _planned(
    ws: Workspace, state: Path, task_id: str, changes: Changes, expected: Mapping[str, str | None]
) -> record.Manifest:
    if not changes or task_id != os.path.basename(task_id) or task_id.startswith("."):
        raise InvalidInput(
            "There is nothing to apply under that task id. Nothing was changed.", next_step="Draft again."
        )
    for path in sorted({*changes, *expected}):
        if ws.clean(path) != path or ws.denied(path):
            raise PathRefused(f"The path {path!r} may not be written. Nothing was changed.", next_step="Draft again.")
        if files.look(ws, path).digest != expected.get(path):
            raise _moved(path)
    made: set[str] = set()
    steps = []
    for path in sorted(changes):
        step = _step(ws, path, changes[path], made)
        if not files.same(step.before, step.after):
            steps.append(step)
    folders = {*made, *_shared(record.home_of(state, ws.root), steps)}
    return record.Manifest(project=str(ws.root), task_id=task_id, steps=tuple(steps), folders=tuple(folders))


def _shared(home: Path, steps: list[record.Step]) -> set[str]:
    """Folders above the created files that are there for another task's sake: the last of them to be undone clears."""
    above = {folder for step in steps if step.before.digest is None for folder in files.above(step.path)}
    others: set[str] = set()
    for name in record.applied(home) if above else ():
        with contextlib.suppress(Conflict):  # A record that cannot be read stands in its own task's way only.
            others |= record.folders([record.load(home / "undo" / name)])
    return above & others


def _step(ws: Workspace, path: str, content: Content | None, made: set[str]) -> record.Step:
    before = files.look(ws, path)
    if content is None:
        return record.Step(path=path, before=before, after=files.State())
    mode = before.mode if content.mode is None else content.mode & 0o777
    after = files.State(
        digest=hashlib.sha256(content.data).hexdigest(), mode=mode, owner=before.owner, mtime_ns=files.fresh(before)
    )
    new = files.missing_above(ws, path, made)
    return record.Step(path=path, before=before, after=after, made=tuple(new))


def _perform(ws: Workspace, manifest: record.Manifest, at: int, step: record.Step, content: Content | None) -> None:
    if content is None:
        files.remove(ws, step.path)
    else:
        files.replace(ws, step.path, content.data, step.after, manifest.spare(at))


def _roll_back(
    ws: Workspace, home: Path, name: str, manifest: record.Manifest, reached: int | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths put back and paths left alone; only the first `reached` steps were begun, all where that is unknown."""
    folder = home / "journal" / name
    restored, left = [], []
    for at, step in reversed(list(enumerate(manifest.steps[:reached]))):
        now = files.seen(ws, step.path)
        if now is None or not (files.same(now, step.before) or files.same(now, step.after)):
            left.append(step.path)
        elif not files.same(now, step.before):
            _restore(ws, manifest, at, step, folder)
            restored.append(step.path)
        with contextlib.suppress(PathRefused):
            files.remove(ws, files.beside(step.path, manifest.spare(at)))
    # After all files: a folder that one step leaves empty may be another's.
    for made in sorted((made for step in manifest.steps[:reached] for made in step.made), reverse=True):
        files.remove_folder(ws, made)
    if left:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(home / "left" / name)
        record.move(home, "journal", "left", name)
    else:
        record.drop(home, "journal", name)
    return tuple(reversed(restored)), tuple(reversed(left))


def _restore(ws: Workspace, manifest: record.Manifest, at: int, step: record.Step, folder: Path) -> None:
    if step.before.digest is None:
        files.remove(ws, step.path)
    else:
        files.replace(ws, step.path, (folder / f"before.{at}").read_bytes(), step.before, manifest.spare(at))


def _moved(path: str) -> Conflict:
    return Conflict(
        f"The file {path} changed since it was read. Nothing was changed.",
        next_step="Call again, with the file as it is now.",
    )
