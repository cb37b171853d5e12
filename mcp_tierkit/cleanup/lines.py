"""Which lines a task's change brought in, and which of them a text still has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mcp_tierkit.errors import TierkitError
from mcp_tierkit.journal import record
from mcp_tierkit.workspace import Workspace

MOST_LINES = 20_000


class Part(NamedTuple):
    """One file of a change: its lines as the task left them, and which of these are the task's own.

    `before` are those that the task found, None where only a patch tells of the change.
    """

    path: str
    lines: tuple[str, ...]
    own: frozenset[int]
    before: tuple[str, ...] | None = None


class Unknown(Exception):
    """Why the lines cannot be counted, in a sentence."""


def applied(ws: Workspace, state: Path, task_id: str) -> list[Part]:
    """The files as the task found them first and left them last, from its undo records; none where there are none."""
    home = record.home_of(state, ws.root)
    return recorded([home / "undo" / name for name in reversed(record.of_task(home, task_id))])


def recorded(folders: Iterable[Path]) -> list[Part]:
    """The same from undo records, the oldest first."""
    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}
    for folder in folders:
        for number, step in enumerate(record.load(folder).steps):
            for word, kept in (("before", before), ("after", after)):
                if word == "after" or step.path not in before:
                    digest = getattr(step, word).digest
                    kept[step.path] = record.kept(folder / f"{word}.{number}", digest) if digest else b""
    return [_part(path, before[path], data) for path, data in after.items() if b"\0" not in data]


def _part(path: str, before: bytes, after: bytes) -> Part:
    """The task's own lines are those that the file has more of than before, wherever in it they stand."""
    old, new = (lines_of(data.decode("utf8", "replace")) for data in (before, after))
    left, own = Counter(old), set()
    for at, line in enumerate(new):
        if left[line]:
            left[line] -= 1
        elif line:
            own.add(at)
    return Part(path, new, frozenset(own), old)


def patched(ws: Workspace, patch: str | None) -> list[Part]:
    """What a patch shows of the files. Raises Unknown where there is none to go by, or it cannot be read."""
    if patch is None:
        raise Unknown("No change of it is on record: it was never applied, or was taken back.")
    from unidiff import PatchSet, UnidiffParseError

    try:
        files = PatchSet(ws.text(patch))
    except (UnidiffParseError, TierkitError, OSError):
        raise Unknown("Its patch is gone, and no undo record says what it changed.") from None
    parts = []
    for file in files:
        shown = [line for hunk in file for line in hunk if line.is_added or line.is_context]
        lines = tuple(_bare(line.value) for line in shown)
        own = frozenset(at for at, line in enumerate(shown) if line.is_added and lines[at])
        parts.append(Part(file.path, lines, own))
    return parts


def lines_of(text: str) -> tuple[str, ...]:
    lines = tuple(map(_bare, text.split("\n")))
    if len(lines) > MOST_LINES:
        raise Unknown(f"A file of it has more than {MOST_LINES} lines.")
    return lines


def _bare(line: str) -> str:
    """A line without its blanks: to indent it or to end it otherwise is not to rewrite it."""
    return "".join(line.split())


def alive(part: Part, text: str | None) -> frozenset[int]:
    """The task's own lines that a version of the file still has, wherever in it they stand.

    Of a line that the file had already, as many are the task's as there are more than it had.
    """
    if text is None:
        return frozenset()
    left = Counter(lines_of(text))
    left.subtract(line for at, line in enumerate(part.lines) if at not in part.own)
    found = set()
    for at in sorted(part.own):
        if left[part.lines[at]] > 0:
            left[part.lines[at]] -= 1
            found.add(at)
    return frozenset(found)
