"""Which folders a person at a terminal has approved: digests in the user's own state folder, and nothing else.

A digest is bound to the repository it was approved in (playbooks in the user's own folder to none). The
playbooks that come with the package are trusted by the digests the package carries.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import secrets
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from mcp_tierkit.playbook.folder import Folder, FolderRefused, digest, read_folder, write_folder
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Record

STORE_VERSION = 1
MAX_STORE = 4 * 1024 * 1024


Approved = Mapping[tuple[str, str | None], str]
"""The approved digest by name and repository; None where the playbook is in the user's own folder."""


class Approval(Record):
    """One folder that a person approved. `repository` is None for the user's own folder."""

    name: str
    repository: str | None
    digest: str
    approved_at: str


class _Store(Record):
    version: int
    approvals: tuple[Approval, ...] = ()


class TrustStoreUnreadable(ValueError):
    """The store is of another version or damaged: nothing is trusted, and it is not overwritten."""


def approved_digests(state_dir: Path) -> Approved:
    """All that is trusted; nothing where the store is of another version, damaged, or open to others."""
    try:
        return {(one.name, one.repository): one.digest for one in _read(state_dir).approvals}
    except TrustStoreUnreadable:
        return {}


def store_path(state_dir: Path) -> Path:
    return state_dir / "trust.json"


def is_shipped(name: str, folder_digest: str) -> bool:
    """Whether these are the bytes that the package came with."""
    return bool(packaged("playbook_digests")["digests"].get(name) == folder_digest)


def trust(state_dir: Path, folder: Folder, *, repository: str | None) -> str:
    """Approve the folder's bytes in place of what was approved before; returns the digest.

    Whoever calls this has asked a person at a terminal. Raises TrustStoreUnreadable.
    """
    approved = digest(folder)
    _keep_copy(state_dir, folder, approved)
    with _locked(state_dir):
        others = _without(_read(state_dir), folder.name, repository)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        approval = Approval(name=folder.name, repository=repository, digest=approved, approved_at=now)
        _write(state_dir, (*others, approval))
    return approved


def untrust(state_dir: Path, name: str, *, repository: str | None) -> bool:
    """Drop the approval; False where there was none."""
    with _locked(state_dir):
        before = _read(state_dir)
        others = _without(before, name, repository)
        if len(others) == len(before.approvals):
            return False
        _write(state_dir, others)
    return True


def approved_before(state_dir: Path, name: str, *, repository: str | None) -> Folder | None:
    """The bytes that were approved last, where their copy is still whole."""
    try:
        approvals = _read(state_dir).approvals
    except TrustStoreUnreadable:
        return None
    for one in approvals:
        if one.name == name and one.repository == repository:
            with contextlib.suppress(FolderRefused):
                kept = read_folder(_copy_path(state_dir, one.digest) / name)
                return _with_modes(kept, _copy_path(state_dir, one.digest))
    return None


def describe_change(before: Folder | None, after: Folder) -> Iterator[str]:
    """Lines for a person: every file with its mode, or what differs from `before`. Nothing in them is invisible."""
    old = {entry.path: entry for entry in before.entries} if before else {}
    new = {entry.path: entry for entry in after.entries}
    for path in sorted(old.keys() | new.keys()):
        if before and old.get(path) == new.get(path):
            continue
        was, now = old.get(path), new.get(path)
        modes = " -> ".join(f"{entry.mode:04o}" for entry in (was, now) if entry)
        sign = "-" if now is None else "+" if was is None else "~"
        yield escaped(f"{sign} {path} ({modes})")
        if not path.endswith("/"):
            yield from _lines_of_change(was.data if was else b"", now.data if now else b"")


def escaped(text: str) -> str:
    """`text` with every control, invisible and direction-changing character written out."""
    return "".join(char if char == " " or _is_plain(char) else ascii(char)[1:-1] for char in text)


def hidden_in(folder: Folder) -> tuple[str, ...]:
    """Files with characters that a person would not see: `describe_change` writes them out."""
    texts = ((entry.path, entry.data.decode(errors="replace")) for entry in folder.files)
    return tuple(path for path, text in texts if not all(char in " \t\n" or _is_plain(char) for char in text))


def has_terminal() -> bool:
    """Whether what is said and what is answered go to a person, and not through a pipe or a file."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask_on_terminal(question: str) -> str | None:
    """What a person typed on the terminal itself; None where there is no terminal to ask on."""
    if not has_terminal():
        return None
    try:
        with open("/dev/tty", "r+b", buffering=0) as terminal:
            terminal.write(question.encode())
            return terminal.readline(200).decode(errors="replace").strip()
    except OSError:
        return None


def _read(state_dir: Path) -> _Store:
    try:
        fd = os.open(store_path(state_dir), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return _Store(version=STORE_VERSION)
    except OSError as error:
        raise TrustStoreUnreadable(f"the trust store cannot be opened ({error.strerror})") from None
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise TrustStoreUnreadable("the trust store may be written by somebody else")
        data = file.read(MAX_STORE + 1)
    try:
        store = _Store.model_validate_json(data)
    except (ValidationError, RecursionError):
        raise TrustStoreUnreadable("the trust store is damaged or of another version") from None
    if store.version != STORE_VERSION:
        raise TrustStoreUnreadable(f"the trust store has version {store.version}, this program reads {STORE_VERSION}")
    return store


def _write(state_dir: Path, approvals: tuple[Approval, ...]) -> None:
    spare = state_dir / f".trust-{secrets.token_hex(6)}"
    data = _Store(version=STORE_VERSION, approvals=approvals).model_dump_json(indent=1).encode()
    fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(spare, store_path(state_dir))
    except BaseException:
        spare.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(state_dir / "trust.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _without(store: _Store, name: str, repository: str | None) -> tuple[Approval, ...]:
    return tuple(one for one in store.approvals if (one.name, one.repository) != (name, repository))


def _copy_path(state_dir: Path, folder_digest: str) -> Path:
    return state_dir / "trusted" / folder_digest.replace(":", "-")


def _keep_copy(state_dir: Path, folder: Folder, folder_digest: str) -> None:
    """For the next `trust` to compare with. It decides nothing."""
    target = _copy_path(state_dir, folder_digest)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700, parents=True)
    write_folder(folder, target / folder.name)
    modes = {entry.path: entry.mode for entry in folder.entries}
    (target / "modes.json").write_text(json.dumps(modes), "utf-8")


def _with_modes(folder: Folder, copy: Path) -> Folder:
    """The copy as it was approved: it is stored with modes of its own."""
    try:
        modes = json.loads((copy / "modes.json").read_text("utf-8"))
        entries = tuple(entry.model_copy(update={"mode": int(modes[entry.path])}) for entry in folder.entries)
    except (OSError, ValueError, KeyError):
        return folder
    return Folder(name=folder.name, entries=entries)


def _lines_of_change(was: bytes, now: bytes) -> Iterator[str]:
    try:
        old, new = (data.decode().split("\n") for data in (was, now))
    except UnicodeDecodeError:
        yield f"    (not text: {len(was)} -> {len(now)} bytes)"
        return
    lines = list(difflib.unified_diff(old if was else [], new if now else [], lineterm="", n=2))[2:]
    yield from (escaped("    " + line) for line in lines)


def _is_plain(char: str) -> bool:
    return char.isprintable() and not unicodedata.category(char).startswith(("C", "Z"))
