"""opencode's database, read beside an agent that may be writing it, without a trace in its folder."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic_core import from_json

from mcp_tierkit.transcripts.lines import MAX_LINE

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")
_BUSY_S = 2
_SESSIONS = ("session_v2", "session")
_NAME = re.compile(r"[\w-]+")
"""Session ids stand in paths of ours, so none with a slash or a point is read."""
_DATA = f"CASE WHEN length(data) <= {MAX_LINE} THEN data END"


class Message(NamedTuple):
    """A message of either generation of opencode, in the form of the first. Sorts by time, then by name."""

    at: int
    id: str
    role: str
    data: dict[str, Any]
    parts: list[dict[str, Any]]
    is_split: bool = False
    """Whether reasoning is known not to stand in the count of the output."""


class About(NamedTuple):
    """What is known of a session. `begun` is in milliseconds."""

    parent: str = ""
    project: str = ""
    version: str = ""
    begun: int = 0


class _Changed(Exception):
    """The database was written while it was read as if nobody did."""


def inspect(path: Path, ask: Callable[[sqlite3.Connection], _T]) -> _T:
    """What `ask` finds in the database. Raises OSError where it cannot be read.

    Reading a database that has a write-ahead log needs the log and an index of it, and SQLite makes both, and leaves
    them, where no agent has it open. So without a log it is read as a file that nobody changes; where it did change
    meanwhile, it is read again, beside the agent.
    """
    before = _state(path)
    if not before[3]:
        try:
            return _asked(path, "&immutable=1", ask, before)
        except _Changed:
            pass
    return _asked(path, "", ask, None)


def sessions(path: Path) -> dict[str, int]:
    """The sessions in a database, and when each was changed, in milliseconds."""

    def ask(db: sqlite3.Connection) -> dict[str, int]:
        found: dict[str, int] = {}
        for table in _tables(db).intersection(_SESSIONS):
            for key, at in db.execute(f"SELECT id, time_updated FROM {table}"):
                if _NAME.fullmatch(name := _text(key)) and isinstance(at, int):
                    found[name] = max(at, found.get(name, 0))
        return found

    return inspect(path, ask)


def about(db: sqlite3.Connection, session: str) -> About:
    """What the database says of a session, the newer generation first."""
    for table in _SESSIONS:
        if table in _tables(db):
            row = db.execute(
                f"SELECT parent_id, directory, version, time_created FROM {table} WHERE id = ?", (session,)
            ).fetchone()
            if row:
                parent, project, version = (_text(value) for value in row[:3])
                return About(parent, project, version, row[3] if isinstance(row[3], int) else 0)
    return About()


def messages(db: sqlite3.Connection, session: str, counts: Counter[str]) -> Iterator[Message]:
    """A session's messages in the order of their time. One that both generations hold is told as the newer has it."""
    tables = _tables(db)
    newer = "session_message" in tables
    second = _second(db, session, counts) if newer else iter(())
    if "message" not in tables:
        return second
    known = "SELECT id FROM session_message WHERE session_id = ?1" if newer else "SELECT NULL WHERE ?1 IS NULL"
    return merge(_first(db, session, known, counts), second, key=lambda message: (message.at, message.id))


def _first(db: sqlite3.Connection, session: str, known: str, counts: Counter[str]) -> Iterator[Message]:
    """Messages as the first generation wrote them, their parts in a table of their own."""
    wanted = f"session_id = ?1 AND id NOT IN ({known})"
    for key, at, content in db.execute(
        f"SELECT id, time_created, {_DATA} FROM message WHERE {wanted} ORDER BY time_created, id", (session,)
    ):
        data = _object(content, counts)
        if data is not None:
            told = db.execute(f"SELECT {_DATA} FROM part WHERE message_id = ? ORDER BY id", (_text(key),))
            parts = [part for (content,) in told if (part := _object(content, counts)) is not None]
            yield Message(int(at), _text(key), str(data.get("role")), data, parts)


def _second(db: sqlite3.Connection, session: str, counts: Counter[str]) -> Iterator[Message]:
    """Messages as the second generation writes them: role in a column, parts and model inside."""
    for key, at, kind, content in db.execute(
        f"SELECT id, time_created, type, {_DATA} FROM session_message WHERE session_id = ? ORDER BY time_created, id",
        (session,),
    ):
        data = _object(content, counts)
        if data is None:
            continue
        model, parts = data.get("model"), data.get("content")
        if isinstance(model, dict):
            data = {**data, "modelID": model.get("id"), "providerID": model.get("providerID")}
        if isinstance(text := data.get("text"), str):
            parts = [{"type": "text", "text": text}]
        told = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        yield Message(int(at), _text(key), _text(kind), data, told, is_split=True)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _object(content: object, counts: Counter[str]) -> dict[str, Any] | None:
    if content is None:
        counts["long"] += 1
        return None
    counts["lines"] += 1
    try:
        told = from_json(content) if isinstance(content, bytes) else None
    except ValueError:
        told = None
    if isinstance(told, dict):
        return told
    counts["broken"] += 1
    return None


def _asked(path: Path, options: str, ask: Callable[[sqlite3.Connection], _T], still: tuple[int, ...] | None) -> _T:
    import sqlite3

    try:
        where = f"{path.absolute().as_uri()}?mode=ro{options}"
        with closing(sqlite3.connect(where, uri=True, timeout=_BUSY_S, isolation_level=None)) as db:
            db.text_factory = bytes
            db.execute("BEGIN")  # One state of it, however many questions.
            found = ask(db)
    except (sqlite3.Error, TypeError, ValueError, AttributeError) as error:
        if still is not None and _state(path) != still:
            raise _Changed from error
        raise OSError(f"{path.name} is no database that can be read: {error}") from error
    if still is not None and _state(path) != still:
        raise _Changed
    return found


def _state(path: Path) -> tuple[int, ...]:
    """What changes when the database is written. The fourth is above zero where an agent may be at work on it.

    Raises OSError for a link, a pipe or a device, none of which is opened.
    """
    known = os.lstat(path)
    if not stat.S_ISREG(known.st_mode):
        raise OSError("not a regular file")
    beside = sum(_size(path.with_name(path.name + ending)) for ending in ("-wal", "-journal"))
    return known.st_mtime_ns, known.st_size, known.st_ino, beside


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tables(db: sqlite3.Connection) -> set[str]:
    return {name.decode() for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
