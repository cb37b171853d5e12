"""One file of the project: as it stands, and as it shall be."""

from __future__ import annotations

import contextlib
import os
import stat
import time

from mcp_tierkit.errors import PathRefused
from mcp_tierkit.types import Record
from mcp_tierkit.workspace import Workspace


class State(Record):
    """A file as it was or shall be: no digest is no file, no mode is the default of a new one."""

    digest: str | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    owner: tuple[int, int] | None = None


def look(ws: Workspace, path: str) -> State:
    """The file as it stands. Raises PathRefused for a link, a folder or a special file."""
    found = ws.stat(path)
    digest = ws.digest(path)  # Refuses links and special files.
    if found is None or digest is None:
        return State()
    return State(
        digest=digest,
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        owner=(found.st_uid, found.st_gid),
    )


def seen(ws: Workspace, path: str) -> State | None:
    """As `look`, but None where something that is not a plain file stands there now."""
    try:
        return look(ws, path)
    except PathRefused:
        return None


def same(now: State, then: State, *, times: bool = False) -> bool:
    """Whether a file is the same to us: its content and, where `then` has one, its mode; its time only with `times`."""
    if now.digest != then.digest or now.digest is None:
        return now.digest == then.digest
    if times and now.mtime_ns != then.mtime_ns:
        return False
    return then.mode is None or now.mode == then.mode


def replace(ws: Workspace, path: str, data: bytes, wanted: State, spare: str) -> None:
    """Put the wanted file in place in one step; `spare` is the name it has until then."""
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


def _dress(fd: int, wanted: State) -> None:
    if wanted.owner is not None and wanted.owner != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, *wanted.owner)
    if wanted.mode is not None:
        os.fchmod(fd, wanted.mode)
    if wanted.mtime_ns is not None:
        os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))


def remove(ws: Workspace, path: str) -> None:
    """Remove the file, if it is there."""
    *above, name = path.split("/")
    with contextlib.suppress(FileNotFoundError), ws.folder("/".join(above)) as folder:
        os.unlink(name, dir_fd=folder)
        os.fsync(folder)


def remove_folder(ws: Workspace, path: str) -> None:
    """Remove the folder, if it is there and empty."""
    *above, name = path.split("/")
    # Kept where something else was put into it meanwhile.
    with contextlib.suppress(OSError, PathRefused), ws.folder("/".join(above)) as folder:
        os.rmdir(name, dir_fd=folder)


def fresh(before: State) -> int | None:
    """A time of change in another second than before: Python takes a file for unchanged by second and size."""
    if before.mtime_ns is None or before.mtime_ns // 1_000_000_000 != time.time_ns() // 1_000_000_000:
        return None
    return before.mtime_ns + 1_000_000_000


def above(path: str) -> list[str]:
    """The folders above a path, outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def missing_above(ws: Workspace, path: str, made: set[str]) -> list[str]:
    """The folders above a path that are not there, and are not `made` already: they are from now on."""
    new = [folder for folder in above(path) if folder not in made and ws.stat(folder) is None]
    made.update(new)
    return new


def beside(path: str, name: str) -> str:
    """The path of another name in the same folder."""
    above = path.rpartition("/")[0]
    return f"{above}/{name}" if above else name
