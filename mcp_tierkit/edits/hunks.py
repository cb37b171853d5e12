"""The hunks of a diff laid on a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mcp_tierkit.edits.blocks import is_applied
from mcp_tierkit.edits.document import Document, common_ends
from mcp_tierkit.edits.match import NoPlace, replaced
from mcp_tierkit.edits.pieces import Hunk, Lines, Patch, depth


class HunkFailed(NoPlace):
    """Hunk `number` of a patch has no place; `search` is what it looked for."""

    def __init__(self, number: int, no: NoPlace, search: Lines) -> None:
        super().__init__(f"hunk {number}: {no}", no.lines)
        self.number = number
        self.search = search


@dataclass(frozen=True)
class Patched:
    """A file after those hunks that have a place (`doc`), their numbers from 1, and the ones that have none.

    `is_new` is False where the file was so before.
    """

    doc: Document
    fine: tuple[int, ...]
    failed: tuple[HunkFailed, ...]
    is_new: bool


def apply_patch(doc: Document | None, patch: Patch) -> Patched:
    """The file after `patch`; a deletion leaves no lines. Raises NoPlace where none of it can be applied.

    Hunks stand alone: one without a place does not keep the others from theirs. A file that is created, deleted or
    renamed is so only by the whole patch.
    """
    if patch.creates:
        return _created(doc, patch.hunks)
    if doc is None:
        raise NoPlace("the file is not among those given, so the diff cannot be held against it")
    laid = _laid(doc, patch.hunks)
    if laid.failed and (patch.deletes or patch.origin or len(patch.hunks) == 1):
        raise laid.failed[0]
    if patch.deletes and not (laid.doc.is_blank or patch.outright):
        raise NoPlace("the diff deletes the file and does not show all of its lines")
    return replace(laid, is_new=laid.doc != doc or patch.deletes or patch.origin is not None)


def _laid(doc: Document, hunks: tuple[Hunk, ...]) -> Patched:
    fine: list[int] = []
    failed: list[HunkFailed] = []
    moved = 0
    for number, hunk in enumerate(hunks, 1):
        # Once a hunk has failed, the line numbers of those after it prove nothing.
        line = None if hunk.start is None or failed else hunk.start + moved
        try:
            doc = _patched(doc, hunk, line)
        except NoPlace as no:
            if not is_applied(doc, hunk.search, hunk.new):
                failed.append(HunkFailed(number, no, hunk.search))
                continue
        else:
            moved += len(hunk.new) - len(hunk.search)
        fine.append(number)
    return Patched(doc, tuple(fine), tuple(failed), is_new=True)


def _created(doc: Document | None, hunks: tuple[Hunk, ...]) -> Patched:
    lines = tuple(line for hunk in hunks for line in hunk.new)
    if any(hunk.search for hunk in hunks):
        raise NoPlace("the diff says that the file is new, and removes lines from it")
    is_there = doc is not None and not doc.is_blank
    if is_there and doc is not None and doc.lines != lines:
        raise NoPlace("the diff says that the file is new, and it has content")
    fresh = (doc or Document((), ())).rewritten(lines).closed(not (hunks and hunks[-1].new_is_open))
    return Patched(doc if is_there and doc else fresh, tuple(range(1, len(hunks) + 1)), (), is_new=not is_there)


def _patched(doc: Document, hunk: Hunk, line: int | None) -> Document:
    if not hunk.search:
        if not doc.is_blank:
            raise NoPlace("the hunk only adds lines and shows none of the file to hold on to")
        return doc.rewritten(hunk.new).closed(not hunk.new_is_open)
    if hunk.start is None and _says_little(doc, hunk):
        raise NoPlace("the hunk shows too little of the file to say where its new lines belong")
    changed = _placed(doc, hunk, line)
    says_newline = hunk.old_is_open or hunk.new_is_open
    if (hunk.at_end or says_newline) and hunk.new and changed.lines[-len(hunk.new) :] != hunk.new:
        raise NoPlace("the diff speaks of the end of the file, and its place is not there")
    return changed.closed(not hunk.new_is_open) if says_newline else changed


def _says_little(doc: Document, hunk: Hunk) -> bool:
    """Whether a hunk adds lines beside a word or two, which a long file has in one place by chance."""
    is_weak = sum(map(str.isalnum, "".join(hunk.search))) < 8 and len(doc.lines) > 50
    return is_weak and not hunk.anchors and set(hunk.search) <= set(hunk.new)


def _placed(doc: Document, hunk: Hunk, line: int | None) -> Document:
    stretch = _stretch(doc, hunk.anchors)
    try:
        changed = replaced(doc, hunk.search, hunk.new, line)
    except NoPlace as no:
        if stretch is None or not no.lines:
            raise
        return _within(doc, hunk, *stretch)
    if stretch is not None and changed != doc and common_ends(doc.lines, changed.lines)[0] < stretch[0]:
        raise NoPlace("the text stands above the line that its '@@' names")
    return changed


def _within(doc: Document, hunk: Hunk, start: int, end: int) -> Document:
    """As `replaced`, in the lines from `start` to `end` alone: the anchors choose among several places."""
    part = replace(doc, lines=doc.lines[start:end], ends=doc.ends[start:end])
    part = replaced(part, hunk.search, hunk.new)
    return replace(
        doc, lines=doc.lines[:start] + part.lines + doc.lines[end:], ends=doc.ends[:start] + part.ends + doc.ends[end:]
    )


def _stretch(doc: Document, anchors: Lines) -> tuple[int, int] | None:
    """The lines that belong to the last of the anchors; None if there are none, or one is not found exactly once."""
    start, end = 0, len(doc.lines)
    for anchor in anchors:
        places = [at for at in range(start, end) if doc.lines[at].strip() == anchor.strip()]
        if len(places) != 1:
            return None
        start = places[0]
        end = _block_end(doc.lines, start, end)
    return (start, end) if anchors else None


def _block_end(lines: Lines, start: int, end: int) -> int:
    own = depth(lines[start])
    return next((at for at in range(start + 1, end) if lines[at].strip() and depth(lines[at]) <= own), end)
