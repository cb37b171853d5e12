"""Who is alive: each process that writes holds a lock that the system drops when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcp_tierkit.ledger.rows import decide


class Owner:
    """A name for this process that nobody else ever has, and the lock that proves it alive."""

    def __init__(self, folder: Path) -> None:
        while True:
            self.pid = os.getpid()
            self.owner_id = uuid.uuid4().hex
            self.lock = folder / f"{self.owner_id}.lock"
            self._fd = os.open(self.lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # Somebody's sweep may have seen the file before it was locked and taken it for a dead one.
            if self.lock.exists():
                return
            os.close(self._fd)

    def release(self) -> None:
        self.lock.unlink(missing_ok=True)
        os.close(self._fd)


def is_alive(lock: Path) -> bool:
    """Whether a process holds this lock. A file that is gone is a dead owner's; one that we may not open is not."""
    with _probe(lock) as is_dead:
        return not is_dead


def remove_dead(folder: Path) -> None:
    """Delete the lock files of processes that are gone."""
    for lock in folder.glob("*.lock"):
        with _probe(lock) as is_dead:
            if is_dead:
                # Still locked by us, so an owner about to lock it waits, then sees it gone and takes another name.
                lock.unlink(missing_ok=True)


def busy_owners(conn: sqlite3.Connection) -> list[str]:
    """Who has a call or a task in hand, alive or not."""
    query = """select owner_id from calls where status = 'reserved'
        union select owner_id from tasks where state = 'running'"""
    return [row[0] for row in conn.execute(query)]


def owner_lives(conn: sqlite3.Connection, owner_id: str) -> bool:
    return is_alive(Path(conn.execute("select lock from owners where owner_id = ?", (owner_id,)).fetchone()[0]))


def close_left(conn: sqlite3.Connection, owner_id: str, at: str) -> set[str]:
    """Close what a dead owner left; the ids of the tasks touched.

    Its calls keep their reservation and get no cost: the provider may have been paid.
    """
    of_calls, of_tasks = "owner_id = ? and status = 'reserved'", "owner_id = ? and state = 'running'"
    query = f"select task_id from calls where {of_calls} union select task_id from tasks where {of_tasks}"
    touched = {row[0] for row in conn.execute(query, (owner_id, owner_id))}
    conn.execute(f"update calls set status = 'interrupted', ended_at = ? where {of_calls}", (at, owner_id))
    conn.execute(f"update tasks set state = 'interrupted' where {of_tasks}", (owner_id,))
    for task_id in touched:
        decide(conn, task_id, at, "interrupted")
    return touched


@contextmanager
def _probe(lock: Path) -> Iterator[bool]:
    try:
        fd = os.open(lock, os.O_RDONLY)
    except OSError as error:
        yield isinstance(error, FileNotFoundError)
        return
    try:
        yield _is_free(fd)
    finally:
        os.close(fd)


def _is_free(fd: int) -> bool:
    try:
        # Shared: two processes that ask at the same moment must not take each other for the owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
