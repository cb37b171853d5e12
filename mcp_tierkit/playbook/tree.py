"""The project's files at two moments: what moved, and what a run in a copy changed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from mcp_tierkit.errors import PathRefused
from mcp_tierkit.types import Changes, Content
from mcp_tierkit.workspace import SKIPPED, Workspace

Moment = dict[str, tuple[int, ...]]
"""Project-relative path to what stat says of it; caches and private folders are left out."""


def moment(root: Path) -> Moment:
    """Every file of the project now, by size, times and inode. Nothing is read."""
    return {path: _seen(found) for path, found in _walk(root, SKIPPED)}


def _seen(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def moved(before: Moment, after: Moment) -> tuple[str, ...]:
    """The paths that appeared, went, or were written between two moments."""
    return tuple(sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path)))


def secret_paths(ws: Workspace) -> tuple[str, ...]:
    """The project's files that nobody may read: keys, `.env` and what the user denies."""
    skipped = frozenset({".git", "node_modules", "__pycache__"})
    return tuple(sorted(path for path, _ in _walk(ws.root, skipped) if _is_secret(ws, path)))


def copy_project(root: Path, target: Path, *, without: tuple[str, ...] = ()) -> None:
    """The project as it is, links kept as links, without the named files and our own folder."""
    left_out = set(without)

    def ignore(folder: str, names: list[str]) -> set[str]:
        above = os.path.relpath(folder, root)
        return {name for name in names if name == ".tierkit" or os.path.normpath(f"{above}/{name}") in left_out}

    shutil.copytree(root, target, symlinks=True, ignore=ignore)


def compare(before: Path, after: Path) -> Changes:
    """What differs in `after`, read from it; links and special files show up as an empty change."""
    old, new = dict(_walk(before, frozenset())), dict(_walk(after, frozenset()))
    changes: Changes = dict.fromkeys(old.keys() - new.keys())
    for path, found in new.items():
        if not stat.S_ISREG(found.st_mode):
            if path not in old or stat.S_ISREG(old[path].st_mode):
                changes[path] = Content(data=b"", mode=None)
            continue
        data, mode = (after / path).read_bytes(), stat.S_IMODE(found.st_mode)
        same = path in old and stat.S_IMODE(old[path].st_mode) == mode and stat.S_ISREG(old[path].st_mode)
        if not same or (before / path).read_bytes() != data:
            changes[path] = Content(data=data, mode=mode)
    return changes


def _walk(root: Path, skipped: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    stack = [""]
    while stack:
        here = stack.pop()
        try:
            entries = list(os.scandir(root / here))
        except OSError:
            continue  # Gone or closed meanwhile: nothing of it can be compared.
        for entry in entries:
            path = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in skipped:
                    stack.append(path)
                continue
            try:
                yield path, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue


def _is_secret(ws: Workspace, path: str) -> bool:
    try:
        return ws.denied(path)
    except PathRefused:
        return True  # A name that no argument may give is not shown either.
