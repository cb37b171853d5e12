"""Unified diffs, with or without right line numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mcp_tierkit.edits.names import Known, name_line
from mcp_tierkit.edits.pieces import Hunk, Lines, Patch

NULL = "/dev/null"
_AT = re.compile(r"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_HEADER = re.compile(
    r"^(?:index |new file mode |deleted file mode |old mode |new mode |similarity index |dissimilarity index )"
)
_UNFIT = re.compile(r"^(?:Binary files |GIT binary patch|copy from |copy to )")
_MOVE = re.compile(r"^rename (from|to) (\S.{0,1023})$")


def starts_diff(lines: Lines, at: int) -> bool:
    """Whether a diff with a header begins on line `at`."""
    return lines[at].startswith("diff --git ") or _is_header(lines, at)


def opens_diff(lines: Lines, at: int, indent: str = "") -> bool:
    """Whether the first line of a fence with this indent says that the rest is a diff."""
    two = tuple(line.removeprefix(indent) for line in lines[at : at + 3])
    return starts_diff(two, 0) or two[0].startswith(("@@ ", "Index: "))


def diff_end(lines: Lines, at: int) -> int:
    """Where a diff without a fence ends: at the first line that belongs to none."""
    while at < len(lines):
        line = lines[at]
        if not (
            not line
            or line[0] in " +-@\\"
            or line.startswith("diff --git ")
            or _HEADER.match(line)
            or _UNFIT.match(line)
            or _MOVE.match(line)
        ):
            break
        at += 1
    while at > 0 and not lines[at - 1].strip():
        at -= 1
    return at


def read_patches(lines: Lines, known: Known, name: str | None = None, *, is_fenced: bool = True) -> list[Patch]:
    """The file sections of a diff; `name` stands in for a header where there is none.

    Without a fence only the counts of a hunk's header can tell where it ends, so there they must agree.
    """
    patches = [patch for section in _sections(lines, known) if (patch := section.patch(is_fenced)) is not None]
    return [replace(patch, name=patch.name or name) for patch in patches]


@dataclass
class _Section:
    old: str | None = None
    new: str | None = None
    name: str | None = None
    bodies: list[tuple[str, list[str]]] = field(default_factory=list)
    trouble: str | None = None
    git: str | None = None
    moves: dict[str, str] = field(default_factory=dict)

    def patch(self, is_fenced: bool) -> Patch | None:
        self.trouble = self.trouble or self._trouble()
        if self.trouble is None and not (self.bodies or self.moves):
            return None
        hunks = self._hunks(is_fenced)
        old, new = _plain(self.old, self.new)
        if self.moves:
            old, new = self.moves.get("from"), self.moves.get("to")
        origin = old if NULL not in (old, new) and old != new else None
        return Patch(
            self.name if new is None else old if new == NULL else new,
            trouble=self.trouble,
            hunks=hunks,
            creates=old == NULL,
            deletes=new == NULL,
            origin=origin,
            outright=bool(self.moves),
        )

    def _trouble(self) -> str | None:
        if self.moves:
            return None if self._agrees() else "the rename does not name the same two files everywhere"
        if self.git is not None and self.new is None:
            return "the diff changes no lines (a mode or binary)"
        return "the diff has no lines" if self.new is not None and not self.bodies else None

    def _agrees(self) -> bool:
        """Whether all lines that name the two files of a rename name the same ones: a name may be cut off."""
        old, new = self.moves.get("from"), self.moves.get("to")
        git = self.git is None or self.git in (f"diff --git a/{old} b/{new}", f"diff --git {old} {new}")
        return git and None not in (old, new) and (self.new is None or _plain(self.old, self.new) == (old, new))

    def _hunks(self, is_fenced: bool) -> tuple[Hunk, ...]:
        hunks: list[Hunk] = []
        for at, body in self.bodies:
            try:
                hunks.append(hunk(at, body))
            except Unreadable as no:
                self.trouble = self.trouble or str(no)
            else:
                if not is_fenced and hunks[-1].start is None and _AT.match(at):
                    self.trouble = "the diff has no fence, and its line counts do not say where it ends"
        return tuple(hunks)


class Unreadable(Exception):
    """A hunk that contradicts itself."""


def _sections(lines: Lines, known: Known) -> Iterator[_Section]:
    section = _Section()
    skip = 0
    for at, line in enumerate(lines):
        if skip:
            skip -= 1
        elif line.startswith("diff --git "):
            yield section
            section = _Section(git=line.rstrip())
        elif _is_header(lines, at, bool(section.bodies)):
            if section.bodies or section.new is not None:
                yield section
                section = _Section()
            section.old, section.new, skip = line[4:], lines[at + 1][4:], 1
        else:
            _take(section, line, known)
    yield section


def _take(section: _Section, line: str, known: Known) -> None:
    if line.startswith("@@"):
        section.bodies.append((line, []))
    elif section.bodies and (not line or line[0] in " +-\\"):
        section.bodies[-1][1].append(line)
    elif _UNFIT.match(line):
        section.trouble = "a copy or binary change cannot be read from a diff; write the file instead"
    elif not section.bodies and (move := _MOVE.match(line)):
        if section.moves.setdefault(move[1], _untabbed(move[2])) != _untabbed(move[2]):
            section.trouble = "one part of the diff renames two files"
    elif not line.strip() or (not section.bodies and _HEADER.match(line)):
        pass
    elif line[0] in "+- ":
        section.bodies.append(("@@", [line]))
    elif not section.bodies and section.new is None and (name := name_line(line, known)):
        section.name = name
    else:
        section.trouble = section.trouble or "a line of the diff starts with neither a space, '+', '-' nor '@@'"


def _is_header(lines: Lines, at: int, is_in_hunk: bool = False) -> bool:
    if not (lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")):
        return False
    # In a hunk, a removed `-- x` before an added `++ y` looks the same; but no hunk follows them.
    return not is_in_hunk or "".join(lines[at + 2 : at + 3]).startswith("@@") or NULL in lines[at + 1]


def hunk(at: str, body: list[str], anchors: Lines = (), *, at_end: bool = False) -> Hunk:
    """The lines of a hunk below its header `at`. Raises Unreadable."""
    search: list[str] = []
    new: list[str] = []
    is_open = [False, False]
    last = " "
    for line in body:
        mark, text = line[:1] or " ", line[1:]
        if mark == "\\":
            is_open = [is_open[0] or last in " -", is_open[1] or last in " +"]
            continue
        if not line and any(is_open):
            continue
        if (is_open[0] and mark in " -") or (is_open[1] and mark in " +"):
            raise Unreadable("lines follow one that the diff calls the last")
        search += [text] if mark in " -" else []
        new += [text] if mark in " +" else []
        last = mark
    return Hunk(tuple(search), tuple(new), _start(at, search, new), is_open[0], is_open[1], anchors, at_end)


def _start(at: str, search: list[str], new: list[str]) -> int | None:
    numbers = _AT.match(at)
    if numbers is None:
        return None
    old_count, new_count = (1 if numbers[group] is None else int(numbers[group]) for group in (2, 4))
    blank = 0
    while blank < len(search) and blank < len(new) and not search[-1 - blank] and not new[-1 - blank]:
        blank += 1
    # Blank lines at the end may be a gap in the reply and no context.
    fits = len(search) - old_count == len(new) - new_count and 0 <= len(search) - old_count <= blank
    return int(numbers[1]) - (1 if old_count else 0) if fits else None


def _plain(old: str | None, new: str | None) -> tuple[str | None, str | None]:
    names = [name and _untabbed(name) for name in (old, new)]
    prefixed = [
        name is None or name == NULL or name.startswith(prefix)
        for name, prefix in zip(names, ("a/", "b/"), strict=True)
    ]
    if not all(prefixed) and None not in names and names[0] != names[1]:
        bare = [name and name.removeprefix(prefix) for name, prefix in zip(names, ("a/", "b/"), strict=True)]
        prefixed = [bare[0] == bare[1] and (names[0] == bare[0] or names[1] == bare[1])]
        names = bare if all(prefixed) else names
    elif all(prefixed):
        names = [name if name is None or name == NULL else name[2:] for name in names]
    return names[0], names[1]


def _untabbed(name: str) -> str:
    bare = name.split("\t", 1)[0].rstrip()
    bare = re.sub(r"\s{1,3}\d{4}-\d\d-\d\d[ T][\d:.]{5,20}(?: ?[+-]\d{4})?$", "", bare)
    return bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] == '"' else bare.strip("`")
