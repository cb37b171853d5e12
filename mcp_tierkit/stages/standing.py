"""Which applied changes are no longer in the files. Whoever discards one with git tells nobody: the files tell."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from mcp_tierkit.cleanup import is_absent, is_gone
from mcp_tierkit.cleanup.claims import Change, Claims
from mcp_tierkit.cleanup.lines import Unknown, recorded
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.journal import files, record
from mcp_tierkit.ledger.ends import Applied, Standing, applied
from mcp_tierkit.workspace import Workspace

NEWEST = 400
"""Applied changes that are compared with the files: some files are read for each."""
MOST_ASKED = 30
"""Of these, those of which the files have less than half, and which are looked for in git: some 50 ms each."""


def standing(
    conn: Connection, state: Path, *, since: str = "", repository: str | None = None, now: datetime | None = None
) -> Standing:
    """What the newest changes of the tasks opened from `since` on are by now, as far as the files can tell.

    A change stands where that is not known: its undo record or its project is gone, or its lines are on another branch.
    """
    found = applied(conn, since=since, repository=repository, most=NEWEST + 1)
    seen = found[:NEWEST]
    at = now or datetime.now(UTC)
    asked, gone, left_out = 0, set[str](), 0
    for one, change in _absent(state, seen):
        is_nobodys = not any(part.own for part in change.parts)  # All of it is of later tasks: git is not asked.
        if not is_nobodys and asked == MOST_ASKED:
            left_out += 1
            continue
        asked += not is_nobodys
        if is_gone(Workspace(Path(one.project)), change, at=one.at, now=at):
            gone.add(one.task_id)
    return Standing(gone=frozenset(gone), looked_at=len(seen) - left_out,
                    is_in_part=len(found) > NEWEST or left_out > 0)  # fmt: skip


class _Made(NamedTuple):
    """An applied change with its undo records, the oldest first, and each file's digest as it was left."""

    one: Applied
    folders: tuple[Path, ...]
    left: dict[str, str | None]

    @property
    def last(self) -> int:
        return record.number(self.folders[-1].name)


def _absent(state: Path, changes: tuple[Applied, ...]) -> Iterator[tuple[Applied, Change]]:
    """Those of which the files have less than half, the newest first, with what of them is no later task's own.

    A file that is as it was left, and that no other task changed, is not read again.
    """
    made = _made(state, changes)
    touched = Counter((one.one.project, path) for one in made for path in one.left)
    claims, later = defaultdict[str, Claims](Claims), set[tuple[str, str]]()
    now: dict[tuple[str, str], str | None] = {}
    for one in made:
        project = one.one.project
        places = [(project, path) for path in one.left]
        is_as_left = later.isdisjoint(places) and all(_digest(now, *at) == one.left[at[1]] for at in places)
        later.update(places)
        if is_as_left and all(touched[place] == 1 for place in places):
            continue
        with contextlib.suppress(Unknown, TierkitError, OSError):  # Nothing is known by it.
            first = record.number(one.folders[0].name)
            change = claims[project].take(recorded(one.folders), first=first, last=one.last)
            if not is_as_left and is_absent(Workspace(Path(project)), change):
                yield one.one, change


def _made(state: Path, changes: tuple[Applied, ...]) -> list[_Made]:
    """Those whose undo records can be read, the last one to be made first."""
    records = {project: _records(state, Path(project)) for project in {one.project for one in changes}}
    found = []
    for one in changes:
        folders = tuple(
            sorted(records[one.project].get(one.task_id, ()), key=lambda folder: record.number(folder.name))
        )
        with contextlib.suppress(TierkitError):  # Gone meanwhile, or damaged.
            left = {step.path: step.after.digest for folder in folders for step in record.load(folder).steps}
            found += [_Made(one, folders, left)] if left else []
    return sorted(found, key=lambda made: (made.one.at, made.last), reverse=True)


def _records(state: Path, project: Path) -> dict[str, list[Path]]:
    """The undo records of a project by task; none of one that is gone."""
    found, home = defaultdict[str, list[Path]](list), record.home_of(state, project)
    for name in record.applied(home) if project.is_dir() else ():
        found[name.rpartition(".")[0]].append(home / "undo" / name)
    return found


def _digest(now: dict[tuple[str, str], str | None], project: str, path: str) -> str | None:
    """Of the file as it is now; of one that cannot be read, what no file has."""
    if (project, path) not in now:
        seen = None
        with contextlib.suppress(TierkitError, OSError):
            seen = files.seen(Workspace(Path(project)), path)
        now[project, path] = seen.digest if seen else "-"
    return now[project, path]
