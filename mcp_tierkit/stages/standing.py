"""Which applied changes are no longer in the files. Whoever discards one with git tells nobody: the files tell."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection

from mcp_tierkit.cleanup import is_absent, is_gone
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.journal import files, record
from mcp_tierkit.ledger.ends import Applied, Standing, applied
from mcp_tierkit.workspace import Workspace

NEWEST = 400
"""Applied changes that are compared with the files: some files are read for each."""
MOST_ASKED = 30
"""Of these, those of which the files have nothing, and which are looked for in git: some 50 ms each."""


def standing(
    conn: Connection, state: Path, *, since: str = "", repository: str | None = None, now: datetime | None = None
) -> Standing:
    """What the newest changes of the tasks opened from `since` on are by now, as far as the files can tell.

    A change stands where that is not known: its undo record or its project is gone, or its lines are on another branch.
    """
    found = applied(conn, since=since, repository=repository, most=NEWEST + 1)
    seen = found[:NEWEST]
    absent = list(_absent(state, seen))
    at = now or datetime.now(UTC)
    asked = absent[:MOST_ASKED]
    gone = {
        one.task_id for one in asked if is_gone(Workspace(Path(one.project)), state, one.task_id, at=one.at, now=at)
    }
    return Standing(gone=frozenset(gone), looked_at=len(seen) - len(absent) + len(asked),
                    is_in_part=len(found) > NEWEST or len(absent) > MOST_ASKED)  # fmt: skip


def _absent(state: Path, changes: tuple[Applied, ...]) -> Iterator[Applied]:
    """Those of which the files have nothing, the newest first; a file that is as it was left is not read again."""
    records = {project: _records(state, Path(project)) for project in {one.project for one in changes}}
    now: dict[tuple[str, str], str | None] = {}
    for one in changes:
        steps = [step for folder in records[one.project].get(one.task_id, ()) for step in _steps(folder)]
        stands = any(_digest(now, one.project, step.path) == step.after.digest for step in steps)
        if steps and not stands and is_absent(Workspace(Path(one.project)), state, one.task_id):
            yield one


def _records(state: Path, project: Path) -> dict[str, list[Path]]:
    """The undo records of a project by task; none of one that is gone."""
    found, home = defaultdict[str, list[Path]](list), record.home_of(state, project)
    for name in record.applied(home) if project.is_dir() else ():
        found[name.rpartition(".")[0]].append(home / "undo" / name)
    return found


def _steps(folder: Path) -> tuple[record.Step, ...]:
    with contextlib.suppress(TierkitError):  # Gone meanwhile, or damaged: nothing is known by it.
        return record.load(folder).steps
    return ()


def _digest(now: dict[tuple[str, str], str | None], project: str, path: str) -> str | None:
    """Of the file as it is now; of one that cannot be read, what no file has."""
    if (project, path) not in now:
        seen = None
        with contextlib.suppress(TierkitError, OSError):
            seen = files.seen(Workspace(Path(project)), path)
        now[project, path] = seen.digest if seen else "-"
    return now[project, path]
