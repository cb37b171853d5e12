"""Open the ledger's file: private, in WAL mode, at this version's schema, or a refusal that says how to go on."""

from __future__ import annotations

import fcntl
import os
import shlex
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from anyio import CapacityLimiter

from mcp_tierkit.errors import LedgerDamaged, LedgerError
from mcp_tierkit.ledger.migrations import SCHEMA, migrations

T = TypeVar("T")

_BUSY_MS = 10_000
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Connection:
    """One connection, opened when it is first used, for one thread at a time.

    The lock stands beside the one-slot limiter since asyncio's own cancellation frees the slot while the thread works.
    """

    def __init__(self, path: Path) -> None:
        self.slot = CapacityLimiter(1)
        self._path = path
        self._lock = threading.Lock()
        self._conn: sqlite3.Connection | None = None

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, outside a transaction."""
        with self._lock, explained(self._path):
            return work(self._open())

    def transact(self, work: Callable[[sqlite3.Connection], T], is_durable: bool = False) -> T:
        """What `work` returns, once all that it wrote is safe from a crash of this process.

        `is_durable`: from a power cut too, with all that was written before. That is for reservations, since the
        request that one pays for goes out right after; it costs an fsync. A settlement may be lost to a power cut:
        its reservation stays counted.
        """
        with self._lock, explained(self._path):
            conn = self._open()
            conn.execute(f"pragma synchronous = {'full' if is_durable else 'normal'}")
            with transaction(conn):
                return work(conn)

    def close(self) -> None:
        with self._lock:
            if self._conn is not None:
                self._conn.close()
                self._conn = None

    def _open(self) -> sqlite3.Connection:
        if self._conn is None:
            prepare(self._path)
            self._conn = connect(self._path)
        return self._conn


def ledger_path(url: str) -> Path:
    """The file that a `sqlite:///absolute/path` names. Raises LedgerError for any other place."""
    rest = url.removeprefix("sqlite://")
    if rest == url or not rest.startswith("/") or rest.strip("/") in ("", ":memory:"):
        raise LedgerError(
            f"The ledger cannot be kept at {url.split('://')[0]!r}. Nothing was recorded or spent.",
            next_step="Set TIERKIT_LEDGER to sqlite:/// and an absolute path, or unset it for the usual place.",
        )
    return Path("/" + rest.lstrip("/"))


def prepare(path: Path) -> None:
    """Make the file, its folder and its schema what this version expects. Safe to call from many processes at once."""
    private_folder(path.parent)
    with _alone(path):
        _private_file(path)
        with closing(connect(path)) as conn:
            _refuse_foreign(conn)
            if conn.execute("pragma journal_mode = wal").fetchone()[0] != "wal":
                raise LedgerError(
                    "The ledger's folder cannot hold a shared database (no WAL). Nothing was recorded or spent.",
                    next_step="Set TIERKIT_LEDGER to a path on a local disk.",
                )
            if schema_number(conn) < SCHEMA:
                _migrate(conn, path)


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit, for whichever thread holds its lock."""
    conn = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    for pragma in ("synchronous = normal", "foreign_keys = on", f"busy_timeout = {_BUSY_MS}"):
        conn.execute(f"pragma {pragma}")
    conn.row_factory = sqlite3.Row
    return conn


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """One write transaction, locked from its first read on, refused when another version has changed the schema."""
    conn.execute("begin immediate")
    try:
        check_schema(conn)
        yield
    except BaseException:
        if conn.in_transaction:
            conn.execute("rollback")
        raise
    conn.execute("commit")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk raise of this file into LedgerError."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise LedgerError(
            f"The ledger refused a row ({error}). It was not recorded; what was reserved before stays counted.",
            next_step="This is a fault in tierkit: report it with the version that `tierkit --version` prints.",
        ) from error
    except (sqlite3.Error, OverflowError, OSError) as error:
        what = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise LedgerDamaged(what, aside=move_aside(path)) from error
        raise LedgerError(
            f"The ledger could not be used ({what}). Nothing was recorded; what was reserved before stays counted.",
            next_step="Run `tierkit doctor`; it names the file and checks its folder, its disk and its contents.",
        ) from error


def move_aside(path: Path) -> str:
    """The command that moves the file out of the way with all that belongs to it: SQLite would take an old `-wal`
    for the new file's own.
    """
    folder = shlex.quote(f"{path.parent}/damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
    return f"mkdir {folder} && mv {shlex.quote(str(path))}* {folder}/"


def schema_number(conn: sqlite3.Connection) -> int:
    return int(conn.execute("pragma user_version").fetchone()[0])


def check_schema(conn: sqlite3.Connection) -> None:
    """Raises LedgerError unless the file is at this version's schema."""
    found = schema_number(conn)
    if found > SCHEMA:
        raise LedgerError(
            f"The ledger was written by a newer tierkit (schema {found}, this one knows {SCHEMA}). "
            "Nothing was recorded.",
            next_step="Update with `pip install -U mcp-tierkit` and restart, or point TIERKIT_LEDGER at another file.",
        )
    if found < SCHEMA:
        raise LedgerError(
            f"The ledger's file was replaced by an older one (schema {found}, not {SCHEMA}). Nothing was recorded.",
            next_step="Restart tierkit: it keeps a backup and migrates the file.",
        )


def private_folder(folder: Path) -> None:
    """Create a folder, and what is missing above it, for its owner only. A folder that exists stays as it is."""
    if folder.exists():
        return
    private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: switching to WAL and migrating do not wait for each other in SQLite."""
    fd = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _private_file(path: Path) -> None:
    """Make the file 0600; SQLite gives its -wal and -shm the same mode."""
    try:
        # Never opened by us where it exists: closing it would drop the locks that SQLite holds on it in this process.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            if name.exists() and name.stat().st_mode & 0o077:
                name.chmod(0o600)


def _refuse_foreign(conn: sqlite3.Connection) -> None:
    tables = {row[0] for row in conn.execute("select name from sqlite_master where type = 'table'")}
    if schema_number(conn) > SCHEMA:
        check_schema(conn)
    if tables and "_sqlite_migrations" not in tables:
        raise LedgerError(
            "The file that TIERKIT_LEDGER names is another program's database. Nothing was changed.",
            next_step="Name another file, or unset TIERKIT_LEDGER for the usual place.",
        )


def _migrate(conn: sqlite3.Connection, path: Path) -> None:
    from sqlite_utils import Database

    conn.execute("begin immediate")
    try:
        if found := schema_number(conn):
            _back_up(path, found)
        # Our transaction is open, so each step is a savepoint in it: all of them, or none.
        migrations().apply(Database(conn, execute_plugins=False))
        conn.execute(f"pragma user_version = {SCHEMA}")
    except BaseException:
        conn.execute("rollback")
        raise
    conn.execute("commit")


def _back_up(path: Path, found: int) -> None:
    copy = Path(f"{path}.schema{found}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}.backup")
    _private_file(copy)
    with closing(connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
