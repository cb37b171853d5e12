"""A playbook's folder read once into memory: what is hashed, parsed and run are the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mcp_tierkit.types import Record

MAX_FILES = 200
MAX_BYTES = 5 * 1024 * 1024
MAX_DEPTH = 16
DIGEST_FORMAT = b"tierkit-playbook-1\0"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FolderRefused(ValueError):
    """The folder holds what no playbook may: a link, a device, too many files, too many bytes."""


class Entry(Record):
    """A file, or a directory (its path ends with a slash and it has no data)."""

    path: str
    mode: int
    data: bytes = b""


class Folder(Record):
    """Everything in a playbook's folder, in path order."""

    name: str
    entries: tuple[Entry, ...]

    def read(self, path: str) -> bytes | None:
        """The content of a file, None where there is none."""
        return next((entry.data for entry in self.entries if entry.path == path and not path.endswith("/")), None)

    @property
    def files(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if not entry.path.endswith("/"))


def read_folder(path: Path, *, shipped: bool = False) -> Folder:
    """All of the folder, or FolderRefused. No link is followed and no special file is opened for reading.

    `shipped` leaves out `__pycache__`, which installers write next to the scripts of a wheel.
    """
    try:
        root = os.open(path, _DIRECTORY)
    except OSError:
        raise FolderRefused("it is not a folder of its own") from None
    try:
        budget = _Budget()
        entries = sorted(_walk(root, "", budget, shipped, 0), key=lambda entry: entry.path)
    except OSError as error:
        raise FolderRefused(f"it changed or could not be read ({error.strerror})") from None
    finally:
        os.close(root)
    return Folder(name=path.name, entries=tuple(entries))


def digest(folder: Folder, *, shipped: bool = False) -> str:
    """`sha256:` over every path, mode and content.

    A shipped folder counts only whether a file is executable: its other mode bits are the installer's.
    """
    total = hashlib.sha256(DIGEST_FORMAT)
    for entry in folder.entries:
        mode = (entry.mode & 0o100) if shipped else entry.mode
        if shipped and entry.path.endswith("/"):
            mode = 0
        path = entry.path.encode()
        total.update(f"{len(path)} {mode:o} {len(entry.data)}\0".encode() + path + entry.data)
    return "sha256:" + total.hexdigest()


def write_folder(folder: Folder, target: Path) -> None:
    """Lay the bytes out below `target`, which must not exist; files end up readable and nothing writable."""
    target.mkdir(mode=0o700)
    for entry in folder.entries:  # Path order puts a directory before what is in it.
        path = target / entry.path
        if entry.path.endswith("/"):
            path.mkdir(mode=0o700)
            continue
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o500 if entry.mode & 0o100 else 0o400)
        with open(fd, "wb") as file:
            file.write(entry.data)


class _Budget:
    def __init__(self) -> None:
        self.files = self.folders = self.size = 0

    def spend(self, *, files: int = 0, folders: int = 0, size: int = 0) -> None:
        self.files, self.folders, self.size = self.files + files, self.folders + folders, self.size + size
        if max(self.files, self.folders) > MAX_FILES:
            raise FolderRefused(f"it holds more than {MAX_FILES} files")
        if self.size > MAX_BYTES:
            raise FolderRefused(f"it holds more than {MAX_BYTES // 1024 // 1024} MB")


def _walk(here: int, above: str, budget: _Budget, shipped: bool, depth: int) -> Iterator[Entry]:
    if depth > MAX_DEPTH:
        raise FolderRefused(f"it is nested deeper than {MAX_DEPTH} folders")
    for name in sorted(os.listdir(here)):
        if shipped and name == "__pycache__":
            continue
        path = above + _checked(name)
        kind = os.stat(name, dir_fd=here, follow_symlinks=False)
        if stat.S_ISDIR(kind.st_mode):
            budget.spend(folders=1)
            with _opened(name, here, _DIRECTORY) as below:
                yield Entry(path=path + "/", mode=stat.S_IMODE(os.fstat(below).st_mode))
                yield from _walk(below, path + "/", budget, shipped, depth + 1)
        elif stat.S_ISREG(kind.st_mode):
            yield _file(name, path, here, budget)
        else:
            raise FolderRefused(f"{path} is a link or a special file")


def _file(name: str, path: str, here: int, budget: _Budget) -> Entry:
    with _opened(name, here, _FILE) as fd:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FolderRefused(f"{path} is a link or a special file")
        budget.spend(files=1, size=found.st_size)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
        budget.spend(size=max(0, len(data) - found.st_size))  # It grew while it was read.
        return Entry(path=path, mode=stat.S_IMODE(found.st_mode), data=data)


@contextlib.contextmanager
def _opened(name: str, here: int, flags: int) -> Iterator[int]:
    fd = os.open(name, flags, dir_fd=here)
    try:
        yield fd
    finally:
        os.close(fd)


def _checked(name: str) -> str:
    if not name.isprintable() or "\\" in name or name != name.encode(errors="replace").decode():
        raise FolderRefused(f"the file name {name!a} holds an unusable character")
    return name
