"""What is written down of a change: a manifest and both contents of every file, in a folder of its own.

The folder's place says how far the change is: `journal/` begun, `undo/` made, `undone/` taken back, `left/` given up.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from mcp_tierkit.errors import Conflict
from mcp_tierkit.journal import files
from mcp_tierkit.types import Changes, Record
from mcp_tierkit.workspace import MAX_DIGEST, Workspace

_MANIFEST = "manifest.json"


class Step(Record):
    path: str
    before: files.State
    after: files.State
    made: tuple[str, ...] = ()  # Folders that this step must create, outermost first.


class Manifest(Record):
    version: Literal[1] = 1
    project: str
    task_id: str
    token: str = Field(default_factory=partial(secrets.token_hex, 6))
    steps: tuple[Step, ...]
    folders: tuple[str, ...] = ()  # To be removed when the change is taken back and they are empty.
    undoes: tuple[str, ...] = ()  # The undo records that this one takes back; none where it is a task's change.

    def spare(self, at: int) -> str:
        """The name under which a step's new content lies beside its file, until it takes the file's place."""
        return f".tierkit-{self.token}-{at}.tmp"


def home_of(state: Path, project: Path) -> Path:
    """Where the records of a project are kept."""
    key = hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:20]
    return Path(state) / "projects" / key


def private(folder: Path) -> None:
    """Make a folder, and those above it, for this user alone."""
    if folder.is_dir():
        return
    private(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)


def names(folder: Path) -> list[str]:
    """What a folder of records holds; nothing where it is not there."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def applied(home: Path) -> list[str]:
    """Names of the undo records, those left out whose undo is committed."""
    undone: set[str] = set()
    for name in names(home / "undone"):
        with contextlib.suppress(Conflict):  # Gone meanwhile, and with it what it undid.
            undone.update(load(home / "undone" / name).undoes)
    return [name for name in names(home / "undo") if name not in undone]


def of_task(home: Path, task_id: str) -> list[str]:
    """The task's undo records, newest first."""
    mine = [name for name in applied(home) if name.rpartition(".")[0] == task_id]
    return sorted(mine, key=number, reverse=True)


def number(name: str) -> int:
    """A record's place in the order of changes."""
    number = name.rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def load(folder: Path) -> Manifest:
    """A record's manifest. Raises Conflict where it cannot be read."""
    try:
        return Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise _unreadable(folder) from None


def _unreadable(folder: Path) -> Conflict:
    return Conflict(
        f"The journal record {folder.name} cannot be read. The project was left as it is.",
        next_step="Compare the project with git, then remove that record from the state folder.",
    )


def begin(home: Path, manifest: Manifest, ws: Workspace, changes: Changes) -> str:
    """The name of the new record, once it is complete on disk."""
    # Numbered through all tasks: a greater number is a later change.
    taken = [number(name) for part in ("undo", "undone", "left") for name in names(home / part)]
    name = f"{manifest.task_id}.{1 + max(taken, default=0)}"
    for part in ("journal", "undo", "undone", "left"):
        private(home / part)
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
    """Write a file of a record. Raises Conflict where `data` is not what `digest` says."""
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise Conflict("A file changed while it was being saved. Nothing was changed.", next_step="Draft again.")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def move(home: Path, source: str, target: str, name: str) -> None:
    """Move a record on, for good."""
    private(home / target)
    os.rename(home / source / name, home / target / name)
    _sync(home / target)
    _sync(home / source)


def drop(home: Path, part: str, name: str) -> None:
    """Remove a record."""
    # Renamed first: a half-removed record must not be taken for a whole one.
    os.rename(home / part / name, home / "journal" / f"{name}.part")
    shutil.rmtree(home / "journal" / f"{name}.part")


def kept(file: Path, digest: str) -> bytes:
    """The stored bytes. Raises Conflict where they are not those of the digest."""
    with contextlib.suppress(OSError):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() == digest:
            return data
    raise _unreadable(file.parent)


def folders(manifests: Iterable[Manifest]) -> set[str]:
    """The folders that these changes made, or count on."""
    return {
        folder
        for manifest in manifests
        for folder in (*manifest.folders, *(made for step in manifest.steps for made in step.made))
    }


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
