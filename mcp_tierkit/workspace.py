"""The one path rule, and reads and writes that cannot leave the project."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path

from mcp_tierkit.errors import InvalidInput, NotFound, PathRefused
from mcp_tierkit.scope import has_magic, in_scope, static_folder

PRIVATE = ".tierkit"
MAX_READ = 2_000_000
MAX_DIGEST = 64_000_000
MAX_PATH = 1024
MAX_WALK = 200_000
MAX_FOUND = 2_000
SKIPPED = frozenset({
    ".git", ".hg", ".svn", PRIVATE, "node_modules", ".venv", "venv", "__pycache__", ".tox", ".nox", ".eggs",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".direnv", ".gradle", ".next", ".cache",
})  # fmt: skip

_REFUSALS = {
    errno.ELOOP: "goes through a symbolic link",
    errno.EXDEV: "leads out of the project",
    errno.ENOTDIR: "goes through something that is not a folder",
    errno.ENXIO: "is not a regular file",
    errno.ENODEV: "is not a regular file",
    errno.EACCES: "may not be opened by this user",
}
# Letters that draw nothing though Unicode does not class them as format characters.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_SYS_OPENAT2 = 437  # The same number on every Linux architecture.
_BENEATH = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def clean_path(path: str) -> str:
    """The normalised relative POSIX form of `path`; PathRefused for anything that is not plainly one."""
    fault = _fault(path)
    parts = [] if fault else [part for part in path.split("/") if part not in ("", ".")]
    if not fault and not parts:
        fault = "is empty"
    if not fault and parts[0].startswith("-"):
        fault = "begins with a dash"
    if fault:
        raise PathRefused(
            f"The path {_shown(path)} {fault}. Nothing was read or written.",
            next_step="Give a path relative to the project, such as src/app.py.",
        )
    return "/".join(parts)


def _fault(path: str) -> str:
    if any(map(_is_unseen, path)):
        return "holds a control, invisible or direction-changing character"
    if len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(part)) > 255 for part in path.split("/")):
        return "is too long"
    if path.startswith("/"):
        return "is absolute"
    if ".." in path.split("/"):
        return "climbs with '..'"
    return next((f"holds {char!r}" for char in "~\\" if char in path), "")


def _is_unseen(char: str) -> bool:
    if char.isascii():
        return not " " <= char <= "~"
    if char in _BLANK or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef":
        return True
    kind = unicodedata.category(char)
    return kind in _UNSEEN or kind == "Zs"


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else path[:77] + "...")


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def open_beneath(folder: int, path: str, flags: int, *, walk: bool = False) -> int:
    """Open a clean path beneath the directory handle; OSError ELOOP where any part is a link.

    `walk` forces the component walk that stands in where the kernel has no openat2.
    """
    if not walk:
        how = _OpenHow(flags | os.O_CLOEXEC, 0, _BENEATH)
        for _ in range(8):  # EAGAIN: a rename raced the lookup.
            fd: int = _libc().syscall(_SYS_OPENAT2, folder, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
            if fd >= 0:
                return fd
            code = ctypes.get_errno()
            if code != errno.EAGAIN:
                break
        if code not in (errno.ENOSYS, errno.EPERM):
            raise OSError(code, os.strerror(code), path)
    return _walk(folder, path, flags)


def _walk(folder: int, path: str, flags: int) -> int:
    *above, name = path.split("/")
    here = os.dup(folder)
    try:
        for part in above:
            below = _open_part(here, part, _FOLDER)
            os.close(here)
            here = below
        return _open_part(here, name, flags)
    finally:
        os.close(here)


def _open_part(folder: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except NotADirectoryError:
        # O_DIRECTORY|O_NOFOLLOW answers "not a directory" for a link; say what it is.
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise


class Workspace:
    """One project's files. Every path given to it passes `clean` and is opened beneath its root."""

    def __init__(self, root: Path, deny: tuple[str, ...] = ()) -> None:
        self.root = Path(os.path.realpath(root))
        self.deny = deny

    def clean(self, path: str) -> str:
        """The normalised relative POSIX form of `path`, or PathRefused."""
        return clean_path(path)

    def denied(self, path: str) -> bool:
        """Whether the path may never be read or sent: git's own files, and the deny list."""
        from mcp_tierkit.redact import is_denied

        path = self.clean(path)
        return ".git" in path.casefold().split("/") or is_denied(path, self.deny)

    def read(self, path: str, *, limit: int = MAX_READ) -> bytes:
        """The bytes of a regular file; NotFound where there is none, PathRefused where it may not be read."""
        path = self._allowed(path)
        with self._file(path) as fd:
            if fd is None:
                raise NotFound(f"There is no file {path}. Nothing was changed.", next_step="Check the path.")
            return _read_all(fd, path, limit)

    def text(self, path: str, *, limit: int = MAX_READ) -> str:
        """The file as text, line ends as they are; InvalidInput where it is not UTF-8 text."""
        data = self.read(path, limit=limit)
        try:
            if b"\0" not in data:
                return data.decode()
        except UnicodeDecodeError:
            pass
        raise InvalidInput(
            f"The file {self.clean(path)} is not UTF-8 text. Nothing was read into a request.",
            next_step="Leave it out of the files and context.",
        )

    def digest(self, path: str) -> str | None:
        """sha256 of the file in hex, None where there is no file."""
        path = self._allowed(path)
        with self._file(path) as fd:
            if fd is None:
                return None
            if os.fstat(fd).st_size > MAX_DIGEST:
                raise _refused(path, f"is larger than {MAX_DIGEST} bytes")
            with open(fd, "rb", closefd=False) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

    def exists(self, path: str) -> bool:
        """Whether a regular file is there; PathRefused for a link or a special file."""
        with self._file(self.clean(path)) as fd:
            return fd is not None

    def expand(self, patterns: Iterable[str], *, most: int = MAX_FOUND) -> tuple[str, ...]:
        """The existing, readable files that paths, folders or gitignore globs name, in path order.

        Plain paths cost no walk. A glob walks from its longest folder without a wildcard. InvalidInput where they
        name more than `most` files.
        """
        patterns = [cleaned_pattern(pattern) for pattern in patterns]
        found: set[str] = set()
        walked: set[str] = set()
        for pattern in patterns:
            if pattern.startswith("!"):
                continue
            if self._kind(pattern.rstrip("/")) == stat.S_IFREG:
                found.add(pattern.rstrip("/"))
                continue
            walked.add(static_folder(pattern) if has_magic(pattern) else pattern.rstrip("/"))
        kept = {path for path in found if self._is_named(path, patterns)}
        for folder in _outermost(walked):
            for path in self._files_below(folder):
                if self._is_named(path, patterns):
                    kept.add(path)
                    _refuse_many(kept, most, folder)
        return tuple(sorted(kept))

    def _is_named(self, path: str, patterns: Sequence[str]) -> bool:
        return in_scope(path, patterns) and not self.denied(path)

    def write_private(self, path: str, data: bytes) -> str:
        """Write a file below `.tierkit/`, which git ignores; the answer is its project-relative path."""
        path = self.clean(path)
        path = path if path.startswith(PRIVATE + "/") else f"{PRIVATE}/{path}"
        self._ignore_private()
        *above, name = path.split("/")
        with self.folder("/".join(above), create=True) as fd:
            write_at(fd, name, data, 0o600)
        return path

    def stat(self, path: str) -> os.stat_result | None:
        """lstat of a clean path, None where nothing is there; PathRefused through a linked folder."""
        *above, name = path.split("/")
        try:
            with self.folder("/".join(above)) as fd:
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def folder(self, path: str, *, create: bool = False) -> Iterator[int]:
        """A handle of a folder beneath the root ("" is the root); FileNotFoundError where there is none."""
        fd = os.open(self.root, _FOLDER)
        try:
            for part in path.split("/") if path else ():
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700 if path.startswith(PRIVATE) else 0o777, dir_fd=fd)
                with _explained(path):
                    below = open_beneath(fd, part, _FOLDER)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _allowed(self, path: str) -> str:
        path = self.clean(path)
        if self.denied(path):
            raise PathRefused(
                f"The file {path} is on the deny list. It was not read.",
                next_step="Leave it out; keys and credentials never leave this machine.",
            )
        return path

    @contextlib.contextmanager
    def _file(self, path: str) -> Iterator[int | None]:
        """A handle of a regular file, None where nothing is there."""
        try:
            with self.folder("") as root, _explained(path):
                # O_NONBLOCK: opening a pipe must not wait for its other end.
                fd = open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            yield None
            return
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _refused(path, "is not a regular file")
            yield fd
        finally:
            os.close(fd)

    def _kind(self, path: str) -> int | None:
        found = self.stat(path)
        if found is None:
            return None
        kind = stat.S_IFMT(found.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise _refused(path, "is a symbolic link" if kind == stat.S_IFLNK else "is not a regular file")
        return kind

    def _files_below(self, folder: str) -> Iterator[str]:
        if folder and self._kind(folder) != stat.S_IFDIR:
            return
        seen, stack = 0, [folder]
        while stack:
            here = stack.pop()
            with os.scandir(self.root / here) as entries:
                for entry in entries:
                    seen += 1
                    path = f"{here}/{entry.name}" if here else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in SKIPPED:
                            stack.append(path)
                    elif entry.is_file(follow_symlinks=False) and not _fault(entry.name):
                        yield path
            if seen > MAX_WALK:
                raise InvalidInput(
                    f"The folder {folder or '.'} holds more than {MAX_WALK} entries. Nothing was read.",
                    next_step="Name the files, or begin the glob with a narrower folder.",
                )

    def _ignore_private(self) -> None:
        if self._kind(PRIVATE) not in (None, stat.S_IFDIR):
            raise _refused(PRIVATE, "is not a folder")
        with self.folder(PRIVATE, create=True) as fd:
            with contextlib.suppress(OSError):
                own = open_beneath(fd, ".gitignore", os.O_RDONLY | os.O_NONBLOCK)
                with open(own, "rb") as file:
                    if b"*" in file.read(4096).split():
                        return
            write_at(fd, ".gitignore", b"*\n", 0o600)


def cleaned_pattern(pattern: str) -> str:
    """A path, folder or glob checked as a path is; a leading `!` and a trailing slash survive."""
    bare = pattern.removeprefix("!")
    mark = "!" if bare != pattern else ""
    return mark + clean_path(bare) + ("/" if bare.endswith("/") else "")


def write_at(folder: int, name: str, data: bytes, mode: int) -> None:
    """Replace one entry of an open folder in a single step; a link there is replaced, not followed."""
    spare = f".tierkit-{secrets.token_hex(6)}.tmp"
    fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(spare, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(spare, dir_fd=folder)
        raise


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise _refused(path, _REFUSALS[error.errno]) from None


def _read_all(fd: int, path: str, limit: int) -> bytes:
    if os.fstat(fd).st_size <= limit:
        with open(fd, "rb", closefd=False) as file:
            data = file.read(limit + 1)
        if len(data) <= limit:
            return data
    raise _refused(path, f"is larger than {limit} bytes")


def _refused(path: str, why: str) -> PathRefused:
    return PathRefused(
        f"The path {path} {why}. It was left alone.",
        next_step="Name a regular file inside the project.",
    )


def _refuse_many(found: Sized, most: int, folder: str) -> None:
    if len(found) > most:
        raise InvalidInput(
            f"More than {most} files below {folder or 'the project'} are named. None was read.",
            next_step="Name the files that matter, or a narrower folder or glob.",
        )


def _outermost(folders: Iterable[str]) -> Sequence[str]:
    kept: list[str] = []
    for folder in sorted(folders):
        if not any(above == "" or folder == above or folder.startswith(above + "/") for above in kept):
            kept.append(folder)
    return kept
