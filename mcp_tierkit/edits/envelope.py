"""Patches between `*** Begin Patch` and `*** End Patch`: files updated, added, deleted and moved."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mcp_tierkit.edits.names import Known, name_line
from mcp_tierkit.edits.pieces import Hunk, Lines, Patch
from mcp_tierkit.edits.udiff import Unreadable, hunk

_BEGIN, _END = "*** Begin Patch", "*** End Patch"
_FILE = re.compile(r"^\*\*\* (Update|Add|Delete) File:[ \t]*(\S.{0,1023})$")
_MOVE = re.compile(r"^\*\*\* Move to:[ \t]*(\S.{0,1023})$")
_HEREDOC = re.compile(r"^[^<\n]{0,200}\bapply_patch\b[^<\n]{0,40}<<-?[ \t]*['\"]?\w{1,20}['\"]?[ \t]*$")
_NUMBERS = re.compile(r"^@@ -\d")
_CUT = "the patch is cut off: it has no '*** End Patch' line"


def starts(lines: Lines, at: int, indent: str = "") -> bool:
    """Whether such a patch begins on line `at`, by itself or as the input of a shell command."""
    if "apply_patch" in lines[at] and _HEREDOC.match(lines[at]) and at + 1 < len(lines):
        at += 1
    line = lines[at].removeprefix(indent)
    return line.rstrip() == _BEGIN or _FILE.match(line) is not None


def is_stray(line: str) -> bool:
    """Whether a line belongs to such a patch and can stand nowhere else."""
    return line.rstrip() == _END or _MOVE.match(line) is not None


def patch_end(lines: Lines, at: int) -> int | None:
    """The line after the end of a patch that begins on line `at`, None if it does not say where it ends."""
    return next((end + 1 for end in range(at, len(lines)) if lines[end].rstrip() == _END), None)


def read_envelope(lines: Lines, known: Known) -> list[Patch]:
    """The file sections of a patch that stands between fences, or goes on to its own end.

    A patch that begins and does not end is cut off: none of it is certain.
    """
    sections: list[_Section] = []
    is_begun = False
    for line in lines:
        bare = line.rstrip()
        if bare in (_BEGIN, _END):
            is_begun = bare == _BEGIN
            sections += [] if is_begun else [_Section("")]
        elif file := _FILE.match(line):
            sections.append(_Section(file[1], _bare(file[2], known)))
        elif sections and sections[-1].kind:
            sections[-1].take(line, known)
    if is_begun:
        return [Patch(sections[-1].name if sections else None, trouble=_CUT)]
    return [section.patch() for section in sections if section.kind]


@dataclass
class _Section:
    kind: str
    name: str = ""
    moved: str | None = None
    bodies: list[_Body] = field(default_factory=list)
    trouble: str | None = None

    def take(self, line: str, known: Known) -> None:
        if (move := _MOVE.match(line)) and self.kind == "Update" and not self.bodies and self.moved is None:
            self.moved = _bare(move[1], known)
        elif line.rstrip() == "*** End of File":
            self._last().at_end = True
        elif line.startswith("@@"):
            self._anchored(line)
        elif not line or line[0] in " +-\\":
            self._last().lines.append(line)
        else:
            self.trouble = self.trouble or f"{line[:60]!r} is no line of a patch: it lacks its space, '+' or '-'"

    def _last(self) -> _Body:
        if not self.bodies:
            self.bodies.append(_Body())
        return self.bodies[-1]

    def _anchored(self, line: str) -> None:
        if not self.bodies or self.bodies[-1].lines:
            self.bodies.append(_Body())
        body = self.bodies[-1]
        text = line.strip("@ \t")
        if _NUMBERS.match(line):
            body.at = line
        elif text.strip(".…"):
            body.anchors.append(text)

    def patch(self) -> Patch:
        """The section as the edit of one file."""
        hunks, trouble = self._hunks()
        trouble = self.trouble or trouble or self._trouble(hunks)
        if self.kind == "Delete":
            return Patch(self.name, trouble=trouble, deletes=True, outright=True)
        if self.kind == "Add":
            return Patch(self.name, trouble=trouble, hunks=hunks, creates=True)
        name, origin = (self.moved, self.name) if self.moved else (self.name, None)
        return Patch(name, trouble=trouble, hunks=hunks, origin=origin, outright=origin is not None)

    def _hunks(self) -> tuple[tuple[Hunk, ...], str | None]:
        hunks = []
        for body in self.bodies:
            lines = body.full
            if not lines:
                continue
            # In a new file a blank line without its '+' can be nothing else.
            lines = ["+" if self.kind == "Add" and not line.strip() else line for line in lines]
            try:
                hunks.append(hunk(body.at, lines, tuple(body.anchors), at_end=body.at_end))
            except Unreadable as no:
                return (), str(no)
        return tuple(hunks), None

    def _trouble(self, hunks: tuple[Hunk, ...]) -> str | None:
        if self.kind == "Add" and any(each.search for each in hunks):
            return "each line of an added file begins with '+'"
        if self.kind == "Delete" and hunks:
            return "the patch deletes the file and goes on to change it"
        if self.kind == "Update" and not hunks and self.moved is None:
            return "the patch changes no lines of the file"
        return None


@dataclass
class _Body:
    at: str = "@@"
    anchors: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    at_end: bool = False

    @property
    def full(self) -> list[str]:
        """The lines without the gap that may stand before the next header."""
        last = next((at for at in range(len(self.lines), 0, -1) if self.lines[at - 1].strip()), 0)
        return self.lines[:last]


def _bare(name: str, known: Known) -> str:
    return name_line(name, known) or name.strip()
