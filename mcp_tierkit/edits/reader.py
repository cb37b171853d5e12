"""A reply held against the files: what it changes, what was there already, and what it does not say for certain."""

from __future__ import annotations

import re

from mcp_tierkit.edits.blocks import apply_block
from mcp_tierkit.edits.document import BOM, Document, has_lines
from mcp_tierkit.edits.lazy import lazy_line
from mcp_tierkit.edits.match import NoPlace, nearest
from mcp_tierkit.edits.names import How, Known, NameRefused, clean
from mcp_tierkit.edits.pieces import Block, Lines, Patch, Piece, Whole
from mcp_tierkit.edits.reading import Reading, Refusal
from mcp_tierkit.edits.scan import scan
from mcp_tierkit.edits.udiff import HunkFailed, apply_patch
from mcp_tierkit.edits.whole import apply_whole, fits, likeness

MOST_CHARS = 4_000_000
MOST_PIECES = 500
_MOST_HINTS = 8
_QUESTION = re.compile(r"[\s*_#>]{0,20}QUESTION[*_]{0,3}[ \t]?:[*_]{0,3}[ \t]*(\S.{0,4000})", re.S)


def read(output: str, files: dict[str, str]) -> Reading:
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
    pieces = scan(tuple(text.split("\n")), Known(files.keys()), files, MOST_PIECES)
    if len(pieces) > MOST_PIECES:
        return Reading(
            refused=(Refusal(path=None, block=MOST_PIECES + 1, why=f"the reply has over {MOST_PIECES} blocks"),)
        )
    return _Desk(files).read(_meant(pieces))


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


class _Desk:
    """The files while the pieces of one reply are laid on them, each on the result of those before."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.docs: dict[str, Document | None] = {}
        self.parsed: dict[str, Document] = {}
        self.known = Known(frozenset(files))
        self.current: str | None = None
        self.done: set[tuple[object, ...]] = set()
        self.refused: list[Refusal] = []
        self.applied: list[str] = []
        self.already = 0

    def read(self, pieces: list[Piece]) -> Reading:
        targets = [self._target(number, piece) for number, piece in enumerate(pieces, 1)]
        twice = _given_twice(pieces, targets)
        for number, (piece, target) in enumerate(zip(pieces, targets, strict=True), 1):
            if target is not None and target[0] in twice:
                self._refuse(number, target[0], "the reply gives this file whole, and again in another way")
            elif target is not None:
                self._take(number, piece, *target)
        if not pieces:
            self._refuse(1, None, "the reply holds no edit")
        refused = tuple(sorted(self.refused, key=lambda refusal: refusal.block))
        changes = {path: None if doc is None else doc.text for path, doc in self.docs.items()}
        changes = {path: text for path, text in changes.items() if text != self.files.get(path)}
        return Reading(changes=changes, applied_to=tuple(self.applied), already=self.already, refused=refused)

    def _target(self, number: int, piece: Piece) -> tuple[str, How] | None:
        """The file a piece is about; refuses the piece where that is unknown."""
        try:
            path, how = self._named(piece)
            clean(path)
        except NameRefused as no:
            self._refuse(number, None, piece.trouble or str(no))
            return None
        self.current = path
        if piece.trouble:
            self._refuse(number, path, piece.trouble)
            return None
        if path not in self.known.paths and _creates(piece):
            self.known = Known(frozenset({*self.known.paths, path}))
        return path, how

    def _named(self, piece: Piece) -> tuple[str, How]:
        if piece.name is not None:
            path, how = self.known.resolve(piece.name)
            return self._known_or_new(piece, path, how) if _creates(piece) else (path, how)
        only = piece.mentions or (frozenset(self.files) if isinstance(piece, Whole) else frozenset())
        if len(only) == 1:
            path = next(iter(only))
            if isinstance(piece, Whole) and not fits(path, piece.info):
                raise NameRefused(f"the block has no file name, and its language is not that of {path!r}")
            return path, "exact"
        if self.current is not None and not isinstance(piece, Whole):
            return self.current, "exact"
        raise NameRefused("the file name is missing: write the path on the line above the block")

    def _known_or_new(self, piece: Piece, path: str, how: How) -> tuple[str, How]:
        """Whether an edit that can create means a file that is known by a name like the one written."""
        written = clean(piece.name or path)
        doc = self._doc(path)
        if how in ("exact", "new") or path.endswith("/" + written):
            return path, how
        alike = likeness(doc.lines, piece.lines) if doc is not None and isinstance(piece, Whole) else 0.0
        if how == "close" and alike >= 0.5:
            return path, how
        if how == "close" or alike >= 0.5:
            raise NameRefused(f"{written!r} may be a new file or mean {path!r}; write the whole path")
        return written, "new"

    def _take(self, number: int, piece: Piece, path: str, how: How) -> None:
        doc = self._doc(path)
        lazy = self._lazy(piece, path, doc)
        if lazy is not None:
            return self._refuse(number, path, f"{lazy[:80]!r} stands for code that is not written out")
        if doc is None and (other := self._in_the_way(path)):
            return self._refuse(number, path, f"the path cannot be a file beside {other!r}")
        key = (path, piece)
        try:
            changed = None if key in self.done else _applied(doc, piece, how)
        except NoPlace as no:
            return self._misplaced(number, path, piece, no)
        self.done.add(key)
        if changed is None:
            self.already += 1
        else:
            self.applied.append(path)
            self.docs[path] = None if isinstance(piece, Patch) and piece.deletes else changed
        return None

    def _misplaced(self, number: int, path: str, piece: Piece, no: NoPlace) -> None:
        search = no.search if isinstance(no, HunkFailed) else piece.search if isinstance(piece, Block) else ()
        why = str(no)
        if search and not no.lines and len(self.refused) < _MOST_HINTS:
            others = [
                other for other in self.files if other != path and (doc := self._doc(other)) and has_lines(doc, search)
            ]
            why += f"; it is in {others[0]!r}" if others else ""
        self._refuse(number, path, why, search)

    def _refuse(self, number: int, path: str | None, why: str, search: Lines = ()) -> None:
        doc = self._doc(path) if path is not None and search and len(self.refused) < _MOST_HINTS else None
        line, near = nearest(doc, search) if doc is not None else (0, ())
        shown = "\n".join(text[:300] for text in near)
        self.refused.append(Refusal(path=path, block=number, why=why, near=shown, near_line=line or None))

    def _doc(self, path: str) -> Document | None:
        if path in self.docs:
            return self.docs[path]
        if path not in self.parsed and path in self.files:
            self.parsed[path] = Document.parse(self.files[path])
        return self.parsed.get(path)

    def _lazy(self, piece: Piece, path: str, doc: Document | None) -> str | None:
        search: Lines = ()
        new: Lines = ()
        if isinstance(piece, Block):
            search, new = piece.search, piece.new
        elif isinstance(piece, Patch):
            new = tuple(line for hunk in piece.hunks for line in hunk.new)
        elif isinstance(piece, Whole):
            new = piece.lines
        return lazy_line(path, new, search, doc.lines if doc is not None else ())

    def _in_the_way(self, path: str) -> str | None:
        parents = {path[:at] for at, char in enumerate(path) if char == "/"}
        alive = [known for known in {*self.files, *self.docs} if self._is_there(known)]
        return next((known for known in sorted(alive) if known in parents or known.startswith(path + "/")), None)

    def _is_there(self, path: str) -> bool:
        return self.docs[path] is not None if path in self.docs else path in self.files


def _creates(piece: Piece) -> bool:
    if isinstance(piece, Block):
        return not any(line.strip() for line in piece.search)
    return isinstance(piece, Whole) or (isinstance(piece, Patch) and piece.creates)


def _applied(doc: Document | None, piece: Piece, how: How) -> Document | None:
    if isinstance(piece, Block):
        return apply_block(doc, piece)
    if isinstance(piece, Patch):
        return apply_patch(doc, piece)
    assert isinstance(piece, Whole)
    return apply_whole(doc, piece, how, is_named=piece.name is not None)


def _given_twice(pieces: list[Piece], targets: list[tuple[str, How] | None]) -> set[str]:
    given = [(target[0], piece) for target, piece in zip(targets, pieces, strict=True) if target]
    wholes = {path: piece.lines for path, piece in given if isinstance(piece, Whole)}
    return {path for path, piece in given if path in wholes and getattr(piece, "lines", None) != wholes[path]}
