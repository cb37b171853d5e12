"""A reply held against the files: what it changes, what was there already, and what it does not say for certain."""

from __future__ import annotations

import re
from typing import NamedTuple

from mcp_tierkit.edits.blocks import apply_block
from mcp_tierkit.edits.document import BOM, Document, has_lines
from mcp_tierkit.edits.hunks import HunkFailed, Patched, apply_patch
from mcp_tierkit.edits.joining import SEAM
from mcp_tierkit.edits.lazy import lazy_line
from mcp_tierkit.edits.match import NoPlace, nearest
from mcp_tierkit.edits.names import How, Known, NameRefused
from mcp_tierkit.edits.pieces import Block, Lines, Patch, Piece, Whole
from mcp_tierkit.edits.reading import Kept, Reading, Refusal
from mcp_tierkit.edits.scan import scan
from mcp_tierkit.edits.targets import Target, creates, find_target
from mcp_tierkit.edits.whole import apply_whole

MOST_CHARS = 1_000_000
MOST_PIECES = 500
_MOST_HINTS = 8
_QUESTION = re.compile(r"[\s*_#>]{0,20}QUESTION[*_]{0,3}[ \t]?:[*_]{0,3}[ \t]*(\S.{0,4000})", re.S)


def read(output: str, files: dict[str, str], partial: frozenset[str] = frozenset()) -> Reading:
    """What a reply says, against `files` (relative POSIX path to text). Pure, and never raises for a bad reply."""
    trouble = _unfit(output)
    if trouble:
        return Reading(refused=(Refusal(path=None, block=1, why=trouble),))
    text = output.removeprefix(BOM).replace("\r\n", "\n")
    thought = text.lstrip()
    if thought.startswith("<think>"):
        # Reasoning may hold first tries; only what follows it is the answer.
        text = thought.partition("</think>")[2]
    asked = _QUESTION.match(text)
    if asked:
        return Reading(question=asked[1].strip()[:2000])
    text, seam, _ = text.partition(f"\n{SEAM}\n")
    pieces = scan(tuple(text.split("\n")), Known(files.keys()), files, MOST_PIECES)
    if sum(len(piece.hunks) or 1 if isinstance(piece, Patch) else 1 for piece in pieces) > MOST_PIECES:
        return Reading(
            refused=(
                Refusal(path=None, block=MOST_PIECES + 1, why=f"the reply has over {MOST_PIECES} blocks or hunks"),
            )
        )
    unread = [Piece(trouble="the continuation of a cut-off reply does not say how it goes on")] if seam else []
    return _Reader(files, partial).read([*_meant(pieces), *unread])


def _unfit(output: str) -> str | None:
    if len(output) > MOST_CHARS:
        return f"the reply is longer than {MOST_CHARS} characters"
    try:
        output.encode()
    except UnicodeEncodeError:
        return "the reply holds half a character and cannot be written as UTF-8"
    return None


def _meant(pieces: list[Piece]) -> list[Piece]:
    """The pieces that are edits: shell blocks are commands, and beside a named edit an unnamed block is a sample."""
    edits = [piece for piece in pieces if not (isinstance(piece, Whole) and piece.is_shell and not piece.trouble)]
    samples = [piece for piece in edits if isinstance(piece, Whole) and piece.name is None and not piece.trouble]
    return [piece for piece in edits if piece not in samples] if len(samples) < len(edits) else edits


class _Reader:
    """The files while the pieces of one reply are laid on them, each on the result of those before."""

    def __init__(self, files: dict[str, str], partial: frozenset[str]) -> None:
        self.files = files
        self.partial = partial
        self.docs: dict[str, Document | None] = {}
        self.parsed: dict[str, Document] = {}
        self.known = Known(frozenset(files))
        self.current: str | None = None
        self.done: set[tuple[object, ...]] = set()
        self.refused: list[_Refused] = []
        self.kept: list[Kept] = []
        self.moved: dict[str, str] = {}

    def read(self, pieces: list[Piece]) -> Reading:
        targets = [self._target(number, piece) for number, piece in enumerate(pieces, 1)]
        twice = _given_twice(pieces, targets)
        for number, (piece, target) in enumerate(zip(pieces, targets, strict=True), 1):
            if target is not None and target.path in twice:
                self._refuse(
                    number,
                    target.path,
                    "the reply gives this file whole or deletes it, and gives it again in another way",
                )
            elif target is not None:
                self._take(number, piece, target)
        if not pieces:
            self._refuse(1, None, "the reply holds no edit")
        changes = {path: None if doc is None else doc.text for path, doc in self.docs.items()}
        changes = {path: text for path, text in changes.items() if text != self.files.get(path)}
        return Reading(changes=changes, moved=self.moved, kept=tuple(self.kept), refused=self._refusals())

    def _target(self, number: int, piece: Piece) -> Target | None:
        """The file a piece is about; refuses the piece where that is unknown."""
        try:
            target = find_target(piece, self.known, self.files, self.current)
        except NameRefused as no:
            self._refuse(number, None, piece.trouble or str(no))
            return None
        self.current = target.path
        if piece.trouble:
            self._refuse(number, target.path, piece.trouble)
            return None
        if target.path not in self.known.paths and (creates(piece) or target.origin):
            self.known = Known(frozenset({*self.known.paths, target.path}))
        return target

    def _take(self, number: int, piece: Piece, target: Target) -> None:
        path, doc = target.path, self._doc(target.origin or target.path)
        key = (target, piece)
        try:
            if key in self.done:
                self.kept.append(Kept(path=path, block=number, was_there=True))
                return
            self._refuse_unfit(piece, target, doc)
            patched = _applied(doc, piece, target.how)
        except NoPlace as no:
            self._misplaced(number, path, piece, no)
            return
        self.done.add(key)
        for failed in patched.failed:
            self._misplaced(number, path, piece, failed)
        self._keep(number, target, patched, is_gone=isinstance(piece, Patch) and piece.deletes)

    def _keep(self, number: int, target: Target, patched: Patched, *, is_gone: bool) -> None:
        if patched.failed and not patched.fine:
            return
        hunks = patched.fine if patched.failed else ()
        self.kept.append(Kept(path=target.path, block=number, hunks=hunks, was_there=not patched.is_new))
        if not patched.is_new:
            return
        self.docs[target.path] = None if is_gone else patched.doc
        if target.origin is not None:
            self.docs[target.origin] = None
            self.moved[target.path] = target.origin

    def _refuse_unfit(self, piece: Piece, target: Target, doc: Document | None) -> None:
        """Raise NoPlace for what is refused whatever the file holds."""
        path = target.path
        if lazy := self._lazy(piece, path, doc):
            raise NoPlace(f"{lazy[:80]!r} stands for code that is not written out")
        if path in self.partial and creates(piece):
            raise NoPlace("only parts of this file were shown, so it cannot be given whole; use SEARCH/REPLACE blocks")
        if (doc is None or target.origin) and (other := self._in_the_way(path)):
            raise NoPlace(f"the path cannot be a file beside {other!r}")

    def _misplaced(self, number: int, path: str, piece: Piece, no: NoPlace) -> None:
        search = no.search if isinstance(no, HunkFailed) else piece.search if isinstance(piece, Block) else ()
        hunk = no.number if isinstance(no, HunkFailed) else None
        why = str(no)
        if search and not no.lines and len(self.refused) < _MOST_HINTS:
            others = [
                other for other in self.files if other != path and (doc := self._doc(other)) and has_lines(doc, search)
            ]
            why += f"; it is in {others[0]!r}" if others else ""
        self._refuse(number, path, why, search, hunk)

    def _refuse(self, number: int, path: str | None, why: str, search: Lines = (), hunk: int | None = None) -> None:
        self.refused.append(_Refused(number, path, why, search, hunk))

    def _refusals(self) -> tuple[Refusal, ...]:
        """What was refused, in order, beside the lines that the files hold once the rest has been applied."""
        in_order = sorted(self.refused, key=lambda refused: (refused.block, refused.hunk or 0))
        return tuple(self._told(each, has_hint=at < _MOST_HINTS) for at, each in enumerate(in_order))

    def _told(self, refused: _Refused, *, has_hint: bool) -> Refusal:
        doc = self._doc(refused.path) if has_hint and refused.path is not None and refused.search else None
        line, near = nearest(doc, refused.search) if doc is not None else (0, ())
        return Refusal(
            path=refused.path,
            block=refused.block,
            hunk=refused.hunk,
            why=refused.why,
            near="\n".join(text[:300] for text in near),
            near_line=line or None,
            begins=next((text.strip()[:100] for text in refused.search if any(map(str.isalnum, text))), ""),
        )

    def _doc(self, path: str) -> Document | None:
        if path in self.docs:
            return self.docs[path]
        if path not in self.parsed and path in self.files:
            self.parsed[path] = Document.parse(self.files[path])
        return self.parsed.get(path)

    def _lazy(self, piece: Piece, path: str, doc: Document | None) -> str | None:
        old: Lines = doc.lines if doc is not None else ()
        if isinstance(piece, Block):
            return lazy_line(path, piece.new, piece.search, old)
        if isinstance(piece, Patch):
            new = tuple(line for hunk in piece.hunks for line in hunk.new)
            return lazy_line(path, new, tuple(line for hunk in piece.hunks for line in hunk.search), old)
        return lazy_line(path, piece.lines, old, old) if isinstance(piece, Whole) else None

    def _in_the_way(self, path: str) -> str | None:
        parents = {path[:at] for at, char in enumerate(path) if char == "/"}
        alive = [known for known in {*self.files, *self.docs} if self._is_there(known)]
        return next((known for known in sorted(alive) if known in parents or known.startswith(path + "/")), None)

    def _is_there(self, path: str) -> bool:
        return self.docs[path] is not None if path in self.docs else path in self.files


class _Refused(NamedTuple):
    block: int
    path: str | None
    why: str
    search: Lines
    hunk: int | None


def _applied(doc: Document | None, piece: Piece, how: How) -> Patched:
    if isinstance(piece, Patch):
        return apply_patch(doc, piece)
    if isinstance(piece, Block):
        changed = apply_block(doc, piece)
    else:
        assert isinstance(piece, Whole)
        changed = apply_whole(doc, piece, how, is_named=piece.name is not None)
    return Patched(changed or doc or Document((), ()), (), (), is_new=changed is not None)


def _given_twice(pieces: list[Piece], targets: list[Target | None]) -> set[str]:
    """The files that one piece gives whole, or deletes, and that another piece is about as well."""
    given = [(target.path, piece) for target, piece in zip(targets, pieces, strict=True) if target]
    whole = {path: piece for path, piece in given if isinstance(piece, Whole)}
    gone = {path: piece for path, piece in given if isinstance(piece, Patch) and piece.deletes}
    return {
        path
        for path, piece in given
        if (path in whole and getattr(piece, "lines", None) != whole[path].lines)
        or (path in gone and piece != gone[path])
    }
