"""What changed in a folder, told by names, times and sizes: no file is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mcp_tierkit.workspace import MAX_WALK, SKIPPED

Stamp = tuple[int, ...]


def tree_state(root: Path) -> str | None:
    """A digest of every file's path, size, times and mode, and of the installed packages; None for a huge tree.

    Nothing is read: the time of the last change of an entry cannot be set back by a program. git is not asked: its
    filters could run a program of the repository's choice.
    """
    digest, count = hashlib.sha256(sys.version.encode()), 0
    for path, stamp in stamped(root, SKIPPED, _installed):
        count += 1
        digest.update(f"{path}\0{stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest() if count < MAX_WALK else None


def stamped(
    root: Path, skipped: frozenset[str], within: Callable[[str], Iterator[os.DirEntry[str]]] = lambda folder: iter(())
) -> Iterator[tuple[str, Stamp]]:
    """Each entry, relative to the root, with what changes whenever it does."""
    start = len(str(root)) + 1
    for entry in _walk(root, skipped, within):
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            # A folder comes up as an installed package only; its times change with any cache below it.
            times = () if entry.is_dir(follow_symlinks=False) else (found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            yield entry.path[start:], (found.st_ino, found.st_mode, *times)


def _walk(
    root: Path, skipped: frozenset[str], within: Callable[[str], Iterator[os.DirEntry[str]]]
) -> Iterator[os.DirEntry[str]]:
    """Every entry that is not a folder, in a fixed order, and what `within` shows of a skipped one.

    A huge tree ends early.
    """
    stack, count = [str(root)], 0
    while stack and count < MAX_WALK:
        for entry in _sorted(stack.pop()):
            if entry.name in skipped:
                yield from within(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            else:
                count += 1
                yield entry


def _installed(folder: str) -> Iterator[os.DirEntry[str]]:
    """What lists the packages of a folder that is skipped: to add, drop or replace one writes an entry here."""
    if folder.endswith("/node_modules"):
        yield from _sorted(folder)
    elif folder.endswith(("/.venv", "/venv")):
        for version in _sorted(f"{folder}/lib"):
            yield from _sorted(f"{version.path}/site-packages")


def _sorted(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
