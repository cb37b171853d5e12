"""The project's files at two moments: what moved, and what a run in a copy changed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcp_tierkit.errors import PathRefused
from mcp_tierkit.redact import may_hold_denied
from mcp_tierkit.types import Changes, Content
from mcp_tierkit.workspace import SKIPPED, Workspace

Moment = dict[str, tuple[int, ...]]
"""Project-relative path to what stat says of it; caches and private folders are left out."""

_WITHOUT_SECRETS = frozenset({".git", "node_modules", "__pycache__"})
_ODD = re.compile(r"[^ -\[\]-}]")


@dataclass(frozen=True)
class Survey:
    """What one walk through the project found."""

    before: Moment
    secrets: tuple[str, ...]


def moment(root: Path) -> Moment:
    """Every file of the project now, by size, times and inode. Nothing is read."""
    return {path: _seen(found) for path, found in _walk(root, SKIPPED)}


def survey(ws: Workspace, *, with_moment: bool) -> Survey:
    """The files that nobody may read (keys, `.env`, what the user denies), and `moment` where it is asked for."""
    before: Moment = {}
    secrets: list[str] = []
    for here, names in _folders(ws.root, _WITHOUT_SECRETS):
        if _may_hold_secrets(ws, here, names):
            # A worktree's `.git` is a file, and as readable as the folder elsewhere.
            paths = [f"{here}/{name}" if here else name for name in names if name != ".git"]
            secrets += [path for path in paths if _is_secret(ws, path)]
        if with_moment and SKIPPED.isdisjoint(here.split("/")):
            before.update((path, _seen(found)) for path, found in _stats(ws.root, here, names))
    return Survey(before=before, secrets=tuple(sorted(secrets)))


def _may_hold_secrets(ws: Workspace, here: str, names: list[str]) -> bool:
    """Whether a look at each name is needed. Most folders are let off with one search through all of it."""
    text = "/".join((here, *names))
    # A path that begins with a dash, or is very long, is refused as such.
    is_odd = here[:1] in ("", "-") or len(here) > 512 or _ODD.search(text) is not None
    return is_odd or may_hold_denied(text, ws.deny)


def _seen(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def moved(before: Moment, after: Moment) -> tuple[str, ...]:
    """The paths that appeared, went, or were written between two moments."""
    return tuple(sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path)))


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
    for here, names in _folders(root, skipped):
        yield from _stats(root, here, names)


def _stats(root: Path, here: str, names: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    for name in names:
        path = f"{here}/{name}" if here else name
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield path, os.lstat(f"{root}/{path}")


def _folders(root: Path, skipped: frozenset[str]) -> Iterator[tuple[str, list[str]]]:
    """Each folder of the project with what is in it besides folders. No link is followed."""
    stack = [""]
    while stack:
        here = stack.pop()
        names = []
        try:
            with os.scandir(f"{root}/{here}") as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        names.append(entry.name)
                    elif entry.name not in skipped:
                        stack.append(f"{here}/{entry.name}" if here else entry.name)
        except OSError:
            continue  # Gone or closed meanwhile: nothing of it can be compared.
        yield here, names


def _is_secret(ws: Workspace, path: str) -> bool:
    try:
        return ws.denied(path)
    except PathRefused:
        return True  # A name that no argument may give is not shown either.
