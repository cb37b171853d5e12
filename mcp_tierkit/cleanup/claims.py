"""Whose a line is that several tasks wrote, one after another: the last one's."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from mcp_tierkit.cleanup.lines import Part, Unknown, alive, recorded
from mcp_tierkit.cleanup.tree import Tree
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.journal import record
from mcp_tierkit.workspace import Workspace

MOST_LATER = 400
"""Tasks after a change whose records are looked at, the next ones."""


class Change(NamedTuple):
    """What is a task's own of its change; `added` counts those of its lines too that are a later task's by now."""

    parts: tuple[Part, ...]
    added: int

    def stands_with(self, lines: int) -> bool:
        """Whether so many of its lines make it a change that stands: half of them do."""
        return 2 * lines >= self.added

    def alive_in(self, tree: Tree) -> list[frozenset[int]]:
        """Its lines that each file of a tree has. Raises Unknown."""
        return [alive(part, tree.standing(part).text) for part in self.parts]


def whole(parts: Iterable[Part]) -> Change:
    """A change of which no later task wrote a line."""
    found = tuple(parts)
    return Change(found, sum(len(part.own) for part in found))


def left_to(ws: Workspace, state: Path, task_id: str, parts: Iterable[Part], until: datetime) -> Change:
    """What is a task's own of its applied change, by what later tasks wrote into its files until then.

    Raises TierkitError where its own records cannot be read; of other tasks', those that can be are.
    """
    home, found = record.home_of(state, ws.root), tuple(parts)
    of = defaultdict[str, list[int]](list)
    for name in record.applied(home):
        of[name.rpartition(".")[0]].append(record.number(name))
    last = max(of.pop(task_id, (0,)))
    later = sorted(((min(numbers), task) for task, numbers in of.items() if min(numbers) > last), reverse=True)
    claims, paths = Claims(), {part.path for part in found}
    for first, task in later[-MOST_LATER:] if last else ():
        folders = [home / "undo" / f"{task}.{number}" for number in sorted(of[task])]
        with contextlib.suppress(Unknown, TierkitError, OSError):
            is_in_time = folders[0].stat().st_mtime <= until.timestamp()
            if is_in_time and any(step.path in paths for folder in folders for step in record.load(folder).steps):
                claims.take(recorded(folders), first=first, last=max(of[task]))
    return claims.take(found, first=last, last=last)


class _Claim(NamedTuple):
    """How often a task, in records from number `first` on, added a line to a file, and how often it found it there."""

    first: int
    added: int
    found: int


class Claims:
    """The lines of one project that tasks wrote, told of from the last one to the first."""

    def __init__(self) -> None:
        self._of = defaultdict[tuple[str, str], set[_Claim]](set)

    def take(self, parts: Iterable[Part], *, first: int, last: int) -> Change:
        """What is left to a task, whose records have these numbers, of the lines that it added.

        A later task that added a line again shows that it was gone, unless it found it there.
        """
        found = whole(parts)
        left = tuple(part._replace(own=part.own - self._lost(part, last)) for part in found.parts)
        for part in found.parts:
            self._note(part, first)
        return Change(left, found.added)

    def _lost(self, part: Part, last: int) -> frozenset[int]:
        own = Counter(part.lines[at] for at in part.own)
        others = Counter(line for at, line in enumerate(part.lines) if at not in part.own and line in own)
        lost = Counter[str]()
        for line, count in own.items():
            for claim in self._of.get((part.path, line), ()):
                beside = min(max(claim.found - others[line], 0), count)
                # A task that was gone on with has records on both sides: which of them wrote the line is not known.
                if claim.first > last:
                    lost[line] = max(lost[line], min(claim.added, count - beside))
        gone = set()
        for at in sorted(part.own):
            if lost[part.lines[at]] > 0:
                lost[part.lines[at]] -= 1
                gone.add(at)
        return frozenset(gone)

    def _note(self, part: Part, first: int) -> None:
        own = Counter(part.lines[at] for at in part.own)
        before = Counter(line for line in part.before or () if line in own)
        for line, count in own.items():
            self._of[part.path, line].add(_Claim(first, count, before[line]))
