"""Unified diffs, with or without right line numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mcp_tierkit.edits.blocks import is_applied
from mcp_tierkit.edits.document import Document
from mcp_tierkit.edits.match import NoPlace, replaced
from mcp_tierkit.edits.names import Known, name_line
from mcp_tierkit.edits.pieces import Hunk, Lines, Patch

NULL = "/dev/null"
_AT = re.compile(r"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_HEADER = re.compile(
    r"^(?:index |new file mode |deleted file mode |old mode |new mode |similarity index |dissimilarity index )"
)
_UNFIT = re.compile(r"^(?:Binary files |GIT binary patch|rename from |rename to |copy from |copy to )")


def starts_diff(lines: Lines, at: int) -> bool:
    """Whether a diff with a header begins on line `at`."""
    return lines[at].startswith("diff --git ") or _is_header(lines, at)


def opens_diff(lines: Lines, at: int) -> bool:
    """Whether the first line of a fence says that the rest is a diff, in this format or one that is not read."""
    return starts_diff(lines, at) or lines[at].startswith(("@@ ", "*** Begin Patch", "*** Update File", "Index: "))


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
    is_git: bool = False

    def patch(self, is_fenced: bool) -> Patch | None:
        if self.trouble is None and self.is_git and self.new is None:
            self.trouble = "the diff changes no lines (a rename, mode or binary)"
        if self.trouble is None and not self.bodies:
            if self.new is None:
                return None
            self.trouble = "the diff has no lines"
        hunks: list[Hunk] = []
        for at, body in self.bodies:
            try:
                hunks.append(_hunk(at, body))
            except _Unreadable as no:
                self.trouble = self.trouble or str(no)
            else:
                if not is_fenced and hunks[-1].start is None and _AT.match(at):
                    self.trouble = "the diff has no fence, and its line counts do not say where it ends"
        old, new = _plain(self.old, self.new)
        name = self.name if new is None else old if new == NULL else new
        return Patch(name, trouble=self.trouble, hunks=tuple(hunks), creates=old == NULL, deletes=new == NULL)


class _Unreadable(Exception):
    pass


def _sections(lines: Lines, known: Known) -> Iterator[_Section]:
    section = _Section()
    skip = 0
    for at, line in enumerate(lines):
        if skip:
            skip -= 1
        elif line.startswith("diff --git "):
            yield section
            section = _Section(is_git=True)
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
        section.trouble = "a rename, copy or binary change cannot be read from a diff; write the file instead"
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


def _hunk(at: str, body: list[str]) -> Hunk:
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
            raise _Unreadable("lines follow one that the diff calls the last")
        search += [text] if mark in " -" else []
        new += [text] if mark in " +" else []
        last = mark
    return Hunk(tuple(search), tuple(new), _start(at, search, new), is_open[0], is_open[1])


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
    if all(prefixed):
        names = [name if name is None or name == NULL else name[2:] for name in names]
    return names[0], names[1]


def _untabbed(name: str) -> str:
    bare = name.split("\t", 1)[0].rstrip()
    bare = re.sub(r"\s{1,3}\d{4}-\d\d-\d\d[ T][\d:.]{5,20}(?: ?[+-]\d{4})?$", "", bare)
    return bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] == '"' else bare.strip("`")


def apply_patch(doc: Document | None, patch: Patch) -> Document | None:
    """The file after all hunks, None if they are there already; a deletion leaves no lines. Raises NoPlace."""
    if patch.creates:
        return _created(doc, patch.hunks)
    if doc is None:
        raise NoPlace("the file is not among those given, so the diff cannot be held against it")
    before, moved = doc, 0
    for number, hunk in enumerate(patch.hunks, 1):
        try:
            doc = _patched(doc, hunk, None if hunk.start is None else hunk.start + moved)
        except NoPlace as no:
            if not is_applied(doc, hunk.search, hunk.new):
                raise HunkFailed(f"hunk {number}: {no}", no.lines, hunk.search) from None
        else:
            moved += len(hunk.new) - len(hunk.search)
    if patch.deletes and not doc.is_blank:
        raise NoPlace("the diff deletes the file and does not show all of its lines")
    return None if doc == before and not patch.deletes else doc


class HunkFailed(NoPlace):
    """One hunk of a patch has no place; `search` is what it looked for."""

    def __init__(self, why: str, lines: tuple[int, ...], search: Lines) -> None:
        super().__init__(why, lines)
        self.search = search


def _created(doc: Document | None, hunks: tuple[Hunk, ...]) -> Document | None:
    lines = tuple(line for hunk in hunks for line in hunk.new)
    if any(hunk.search for hunk in hunks):
        raise NoPlace("the diff says that the file is new, and removes lines from it")
    if doc is not None and not doc.is_blank:
        if doc.lines == lines:
            return None
        raise NoPlace("the diff says that the file is new, and it has content")
    return (doc or Document((), ())).rewritten(lines).closed(not hunks[-1].new_is_open)


def _patched(doc: Document, hunk: Hunk, line: int | None) -> Document:
    if not hunk.search:
        if not doc.is_blank:
            raise NoPlace("the hunk only adds lines and shows none of the file to hold on to")
        return doc.rewritten(hunk.new).closed(not hunk.new_is_open)
    changed = replaced(doc, hunk.search, hunk.new, line)
    if hunk.old_is_open or hunk.new_is_open:
        if hunk.new and changed.lines[-len(hunk.new) :] != hunk.new:
            raise NoPlace("the diff speaks of the end of the file, and its place is not there")
        return changed.closed(not hunk.new_is_open)
    return changed
