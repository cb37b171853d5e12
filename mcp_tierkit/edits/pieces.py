"""What a reply is made of, before any of it is held against a file."""

from __future__ import annotations

from dataclasses import dataclass

Lines = tuple[str, ...]


def depth(line: str) -> int:
    """How far a line is indented, in characters."""
    return len(line) - len(line.lstrip())


@dataclass(frozen=True)
class Piece:
    """One edit as written. `name` stands beside it; `mentions` are known files that the prose before it speaks of."""

    name: str | None = None
    mentions: frozenset[str] = frozenset()
    trouble: str | None = None


@dataclass(frozen=True)
class Block(Piece):
    search: Lines = ()
    new: Lines = ()


@dataclass(frozen=True)
class Hunk:
    """`start` is the line (from 0) in the old file, None unless the header's counts agree with the body.

    `anchors` are real lines that stand above its place, outermost first; `at_end` says that the file ends with it.
    """

    search: Lines
    new: Lines
    start: int | None = None
    old_is_open: bool = False
    new_is_open: bool = False
    anchors: Lines = ()
    at_end: bool = False


@dataclass(frozen=True)
class Patch(Piece):
    """`origin` is the path on the old side if that is another; `outright` says in words that the file moves or goes."""

    hunks: tuple[Hunk, ...] = ()
    creates: bool = False
    deletes: bool = False
    origin: str | None = None
    outright: bool = False


@dataclass(frozen=True)
class Whole(Piece):
    """A fenced block. `label` is a first line that names the file; `lines` holds it too if it is a comment."""

    lines: Lines = ()
    label: str | None = None
    info: str = ""
    is_shell: bool = False
