"""A value made from files, kept for as long as stat says that none of them has changed."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_ENTRIES = 100_000
FRESH_NS = 20_000_000
"""A file may be written twice within one tick of the clock its times are taken from; a tick is 10 ms at most."""
FRESH_WHOLE_NS = 2_000_000_000
"""The same for a time without fractions: its file system may count whole seconds."""

Mark = tuple[int, ...]


Marks = dict[str, Mark | None]


class _Kept(NamedTuple, Generic[T]):
    about: object
    marks: dict[Path, Marks]
    value: T

    def holds(self, paths: Iterable[Path]) -> bool:
        return all(_mark(name) == mark for path in paths for name, mark in self.marks[path].items())


class Memo(Generic[T]):
    """Keeps the last value. It answers for nothing that is run: between a look and a use a file may change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept[T] | None = None

    def get(
        self, about: object, watched: Callable[[], Iterable[Path]], make: Callable[[], T],
        rests_on: Callable[[T], Iterable[Path]],
    ) -> T:  # fmt: skip
        """What `make` returned before, if `about` is the same and nothing below the paths it rests on has changed.

        Those are some of the `watched`. Each of these is looked at before the next one is asked for, and all of them
        before `make` reads. One that does not exist counts as changed when it does. Nothing is kept of files that were
        written a moment ago.
        """
        with self._lock:
            if (kept := self._kept) and kept.about == about and kept.holds(rests_on(kept.value)):
                return kept.value
            marks = _marks(watched())
            value = make()
            self._kept = _Kept(about, marks, value) if marks is not None else None
            return value


def _marks(paths: Iterable[Path]) -> dict[Path, Marks] | None:
    """What stat says of each path and all below it; None where a later write might leave no trace in that."""
    now, left, found = time.time_ns(), MAX_ENTRIES, dict[Path, Marks]()
    for path in paths:
        below = found[path] = dict(islice(_walk(str(path)), left + 1))
        left -= len(below)
        if left < 0 or any(mark and _is_fresh(mark[-1], now) for mark in below.values()):
            return None
    return found


def _walk(name: str) -> Iterator[tuple[str, Mark | None]]:
    waiting = [name]
    while waiting:
        name = waiting.pop()
        mark = _mark(name)
        yield name, mark
        if mark is not None and stat.S_ISDIR(mark[2]):
            waiting += _names(name)


def _mark(path: str) -> Mark | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _names(folder: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(folder)]
    except OSError:
        return []  # It cannot be read either; when it can, its own mark has changed.


def _is_fresh(changed_ns: int, now: int) -> bool:
    return changed_ns > now - (FRESH_NS if changed_ns % 1_000_000_000 else FRESH_WHOLE_NS)
