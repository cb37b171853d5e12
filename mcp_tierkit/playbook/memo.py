"""A value made from files, kept for as long as stat says that none of them has changed."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_ENTRIES = 100_000
FRESH_NS = 20_000_000
"""A file may be written twice within one tick of the clock its times are taken from; a tick is 10 ms at most."""
FRESH_WHOLE_NS = 2_000_000_000
"""The same for a time without fractions: its file system may count whole seconds."""

Mark = tuple[int, ...]


class _Kept(NamedTuple, Generic[T]):
    about: object
    marks: dict[str, Mark | None]
    value: T


class Memo(Generic[T]):
    """Keeps the last value. It answers for nothing that is run: between a look and a use a file may change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept[T] | None = None

    def get(self, about: object, watched: Callable[[], Iterable[Path]], make: Callable[[], T]) -> T:
        """What `make` returned before, if `about` is the same and nothing below the watched paths has changed.

        Each path is looked at before the next one is asked for, and all of them before `make` reads. A path that does
        not exist counts as changed when it does. Nothing is kept of files that were written a moment ago.
        """
        with self._lock:
            if (kept := self._kept) and kept.about == about and all(_mark(p) == m for p, m in kept.marks.items()):
                return kept.value
            marks = _marks(watched())
            value = make()
            self._kept = _Kept(about, marks, value) if marks is not None else None
            return value


def _marks(paths: Iterable[Path]) -> dict[str, Mark | None] | None:
    """What stat says of each path and all below it; None where a later write might leave no trace in that."""
    now, found = time.time_ns(), dict[str, Mark | None]()
    for path in paths:
        waiting = [str(path)]
        while waiting:
            if len(found) > MAX_ENTRIES:
                return None
            name = waiting.pop()
            mark = found[name] = _mark(name)
            if mark is not None and stat.S_ISDIR(mark[2]):
                waiting += _names(name)
    return None if any(mark and _is_fresh(mark[-1], now) for mark in found.values()) else found


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
