"""Which file a piece of a reply is about."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_tierkit.edits.document import Document
from mcp_tierkit.edits.names import How, Known, NameRefused, clean
from mcp_tierkit.edits.pieces import Block, Patch, Piece, Whole
from mcp_tierkit.edits.whole import fits, likeness


@dataclass(frozen=True)
class Target:
    """`path` is the file that an edit leaves changed; `origin` the file that it is moved from, if it is."""

    path: str
    how: How
    origin: str | None = None


def find_target(piece: Piece, known: Known, files: dict[str, str], current: str | None) -> Target:
    """The file that `piece` means; `current` is that of the piece before. Raises NameRefused where that is unknown.

    `known` are the `files` and those that the reply has made so far.
    """
    target = _moved(piece, known) if isinstance(piece, Patch) and piece.origin else None
    target = target or _plain_target(piece, known, files, current)
    clean(target.path)
    if isinstance(piece, Patch) and piece.deletes and piece.outright and target.how != "exact":
        raise NameRefused(f"{piece.name!r} is not the whole path of a file that can be deleted")
    return target


def creates(piece: Piece) -> bool:
    """Whether a piece can make a file that is not there."""
    if isinstance(piece, Block):
        return not any(line.strip() for line in piece.search)
    return isinstance(piece, Whole) or (isinstance(piece, Patch) and piece.creates)


def _plain_target(piece: Piece, known: Known, files: dict[str, str], current: str | None) -> Target:
    if piece.name is not None:
        path, how = known.resolve(piece.name)
        return _known_or_new(piece, path, how, files) if creates(piece) else Target(path, how)
    only = piece.mentions or (frozenset(files) if isinstance(piece, Whole) else frozenset())
    if len(only) == 1:
        path = next(iter(only))
        if isinstance(piece, Whole) and not fits(path, piece.info):
            raise NameRefused(f"the block has no file name, and its language is not that of {path!r}")
        return Target(path, "exact")
    if current is not None and not isinstance(piece, Whole):
        return Target(current, "exact")
    raise NameRefused("the file name is missing: write the path on the line above the block")


def _known_or_new(piece: Piece, path: str, how: How, files: dict[str, str]) -> Target:
    """The known file if the written path or the text says so; else the written path, which is then a new file."""
    written = clean(piece.name or "")
    if how in ("exact", "new") or path.endswith("/" + written):
        return Target(path, how)
    old = Document.parse(files[path]).lines if path in files else ()
    alike = likeness(old, piece.lines) if isinstance(piece, Whole) else 0.0
    if how == "close" and alike >= 0.5:
        return Target(path, how)
    if how == "close" or alike >= 0.5:
        raise NameRefused(f"{written!r} may be a new file or mean {path!r}; write the whole path")
    return Target(written, "new")


def _moved(piece: Patch, known: Known) -> Target | None:
    """Where a patch moves a file to; None if its two names are of one file, or the old one means nothing."""
    origin, path = _as_known(piece.origin or "", known), clean(piece.name or "")
    if origin is None:
        if piece.outright:
            raise NameRefused(f"the file to rename, {piece.origin!r}, is not among those given")
        return None
    if path in known.paths:
        if path == origin and not piece.outright:
            return None
        raise NameRefused(f"{origin!r} cannot be renamed to {path!r}: that file is there already")
    is_short = path.endswith("/" + origin) or origin.endswith("/" + path)
    means, how = known.resolve(path)
    is_vague = how == "close" or (how != "new" and (is_short or means != origin))
    if path.casefold() == origin.casefold() or (is_vague and not piece.outright):
        raise NameRefused(f"it is unclear whether {origin!r} is to be renamed to {path!r}")
    return Target(path, "new", origin)


def _as_known(name: str, known: Known) -> str | None:
    try:
        path = clean(name)
    except NameRefused:
        return None
    return path if path in known.paths else None
