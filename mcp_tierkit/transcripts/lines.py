"""One file of JSON lines as objects, whatever is wrong with it. What cannot be read is counted, never fatal."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, BinaryIO

from pydantic_core import from_json

MAX_LINE = 8_000_000
"""Longer lines are pictures and whole files in a tool's result; no usage row we saw was a hundredth of that."""
MAX_VALUES = 200_000
"""Lists and objects in a line: each is a hundred bytes in memory, and two in the file."""
_SHORT = 8
"""Bytes: less than any row with one of the marks."""
MAX_SHORT = 1_000_000
"""Lines so short: a file of many more is no transcript, and to read them one by one takes minutes."""
_BUFFER = 1 << 20


PACKED = ".zst"
"""How the files end that Codex has compressed: sessions that nobody went on with for a week, where it is told to."""


class Cut(OSError):
    """A compressed file that is broken, or ends before its content does."""


def rows(path: Path, marks: tuple[bytes, ...], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """The objects on lines that hold one of `marks`, read line by line. Raises OSError where it cannot be opened."""
    try:
        with opened(path) as file:
            number = short = 0
            while line := file.readline(MAX_LINE):
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    _skip(file)
                    counts["long"] += 1
                    continue
                number += 1
                if len(line) < _SHORT:
                    short += 1
                    if short > MAX_SHORT:
                        counts["broken"] += 1
                        break
                    continue
                for mark in marks:
                    if mark in line:
                        counts["lines"] = number
                        row = _read(line, counts)
                        if row is not None:
                            yield row
                        break
            counts["lines"] = number
    except Cut:
        counts["cut"] += 1


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A regular file to read. A link, a pipe or a device put there since the folder was listed is refused, and never
    waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb", buffering=_BUFFER) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        if path.suffix != PACKED:
            yield file
            return
        with _unpacked(file) as content:
            yield content


@cache
def unpacker() -> str | None:
    """The program that reads compressed files, where it is installed: Python has none of its own before 3.14."""
    return shutil.which("zstd")


@contextmanager
def _unpacked(file: BinaryIO) -> Iterator[IO[bytes]]:
    """The content of a compressed file, never whole in memory or on disk."""
    if (program := unpacker()) is None:
        raise OSError("zstd is not installed")
    command = [program, "-dcq"]
    with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        yield child.stdout
        if not child.stdout.read(1) and child.wait():
            raise Cut("the compressed file has no end")


def _skip(file: Any) -> None:
    while (piece := file.readline(_BUFFER)) and not piece.endswith(b"\n"):
        pass


def _read(line: bytes, counts: Counter[str]) -> dict[str, Any] | None:
    if len(line) > MAX_VALUES and line.count(b"[") + line.count(b"{") > MAX_VALUES:
        counts["long"] += 1
        return None
    try:
        row = from_json(line)
    except ValueError:
        row = _slowly(line)
        if row is None:
            counts["broken" if line.endswith(b"\n") else "half"] += 1
            return None
    if isinstance(row, dict):
        return row
    counts["broken"] += 1
    return None


def _slowly(line: bytes) -> Any:
    """Half of a surrogate pair, as a cut text leaves it, is no mistake to the standard library."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
