"""Where a run of lines stands in a file: found once with certainty, or a reason why not."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mcp_tierkit.edits.document import Document, common_ends, padded
from mcp_tierkit.edits.lazy import is_placeholder

MOST_PLACES = 2_000
"""Places where lines agree but for white space that are looked at before giving up."""


class NoPlace(Exception):
    """The lines are nowhere, or in more than one place (`lines`: some of these, counting from 1)."""

    def __init__(self, why: str, lines: tuple[int, ...] = ()) -> None:
        super().__init__(why)
        self.lines = lines


@dataclass(frozen=True)
class Place:
    """Lines `start` to `end` of a file are meant, and `indent` was missing from (+) or too much for (-) the search."""

    start: int
    end: int
    indent: str = ""
    sign: int = 0


def replaced(doc: Document, search: tuple[str, ...], new: tuple[str, ...], line: int | None = None) -> Document:
    """`doc` with `search` replaced by `new`. Raises NoPlace unless exactly one place is meant.

    Tolerated, in this order: trailing white space, one uniform indent, blank lines around, `...` lines in both.
    `line` (from 0) chooses among several exact places, if one starts there.
    """
    for old, fresh in _variants(search, new):
        if len(old) < len(search) and _only_adds(old, fresh):
            continue  # The blank lines that are not there said where.
        place = find(doc, old, line)
        if place is not None:
            return _put(doc, place, old, fresh)
    return _elided(doc, search, new)


def find(doc: Document, search: tuple[str, ...], line: int | None = None) -> Place | None:
    """The one place of `search`, None if there is none; raises NoPlace where there are several."""
    wanted = padded(line.rstrip() for line in search)
    for hay, needle in ((doc.exact, padded(search)), (doc.trimmed, wanted)):
        starts = _starts(hay, needle)
        if line is not None and len(starts) > 1:
            starts = [line] if hay.startswith(needle, _offset(hay, line)) else starts
        if starts:
            return Place(_only(starts), starts[0] + len(search))
    return _find_indented(doc, search)


def nearest(doc: Document, search: tuple[str, ...], around: int = 2, most: int = 30) -> tuple[int, tuple[str, ...]]:
    """The stretch of the file most like `search`: its first line (from 1) and the real lines; (0, ()) if nothing is."""
    start = _aligned(doc, search)
    if start is None:
        return 0, ()
    first = max(0, start - around)
    last = min(len(doc.lines), start + len(search) + around, first + most)
    return first + 1, doc.lines[first:last]


def _variants(search: tuple[str, ...], new: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    yield search, new
    lead, trail = _blank_ends(search)
    if lead:
        yield search[lead:], new[min(lead, _blank_ends(new)[0]) :]
    if trail:
        cut = min(trail, _blank_ends(new)[1]) if any(new) else 0
        search, new = search[: len(search) - trail], new[: len(new) - cut]
        yield search, new
        if lead:
            yield search[lead:], new[min(lead, _blank_ends(new)[0]) :]


def _only_adds(search: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Whether all that changes is that lines come before or after those searched for."""
    return len(new) > len(search) and search in (new[: len(search)], new[len(new) - len(search) :])


def _blank_ends(lines: tuple[str, ...]) -> tuple[int, int]:
    full = [index for index, line in enumerate(lines) if line.strip()]
    return (full[0], len(lines) - 1 - full[-1]) if full else (0, 0)


def _starts(hay: str, needle: str, most: int = 3) -> list[int]:
    found: list[int] = []
    at = line = scanned = 0
    while len(found) < most and (at := hay.find(needle, at)) >= 0:
        line += hay.count("\n", scanned, at)
        scanned = at
        found.append(line)
        at += 1
    return found


def _offset(hay: str, line: int) -> int:
    at = 0
    for _ in range(line):
        at = hay.find("\n", at + 1)
        if at < 0:
            return len(hay)
    return at


def _only(starts: list[int]) -> int:
    if len(starts) > 1:
        shown = ", ".join(str(start + 1) for start in starts)
        raise NoPlace(f"the text occurs more than once (lines {shown}); add lines around it", tuple(starts))
    return starts[0]


def _find_indented(doc: Document, search: tuple[str, ...]) -> Place | None:
    needle = padded(line.strip() for line in search)
    if not needle.strip():
        return None
    starts = _starts(doc.stripped, needle, MOST_PLACES)
    if len(starts) * len(search) > 100 * MOST_PLACES or len(starts) == MOST_PLACES:
        raise NoPlace("the text occurs in too many places; add lines around it")
    places = [place for start in starts if (place := _uniform(doc, start, search)) is not None]
    if len(places) > 1:
        _only([place.start for place in places])
    return places[0] if places else None


def _uniform(doc: Document, start: int, search: tuple[str, ...]) -> Place | None:
    pairs = [(doc.lines[start + index], line) for index, line in enumerate(search) if line.strip()]
    real, given = pairs[0][0].rstrip(), pairs[0][1].rstrip()
    sign = 1 if len(real) > len(given) else -1
    indent = real[: len(real) - len(given)] if sign > 0 else given[: len(given) - len(real)]
    for real, given in pairs:
        longer, shorter = (real, given) if sign > 0 else (given, real)
        if longer.rstrip() != indent + shorter.rstrip():
            return None
    return Place(start, start + len(search), indent, sign)


def _put(doc: Document, place: Place, search: tuple[str, ...], new: tuple[str, ...]) -> Document:
    return doc.splice(place.start, place.end, _shifted(place, new), common_ends(search, new))


def _shifted(place: Place, lines: tuple[str, ...]) -> tuple[str, ...]:
    if not place.indent:
        return lines
    if place.sign > 0:
        return tuple(place.indent + line if line.strip() else line for line in lines)
    if any(line.strip() and not line.startswith(place.indent) for line in lines):
        raise NoPlace("the search text is indented deeper than the file, and the replacement is not")
    return tuple(line.removeprefix(place.indent) for line in lines)


def _elided(doc: Document, search: tuple[str, ...], new: tuple[str, ...]) -> Document:
    old_parts, old_dots = _parts(search)
    new_parts, new_dots = _parts(new)
    if not old_dots or [dots.strip() for dots in old_dots] != [dots.strip() for dots in new_dots]:
        raise NoPlace("the search text is not in the file")
    places: list[tuple[Place, tuple[str, ...], tuple[str, ...]]] = []
    for old, fresh in zip(old_parts, new_parts, strict=True):
        place = _part_place(doc, old, fresh)
        if place is None:
            continue
        if places and place.start < places[-1][0].end:
            raise NoPlace("the parts around '...' do not follow one another in the file")
        places.append((place, old, fresh))
    for place, old, fresh in reversed(places):
        doc = _put(doc, place, old, fresh)
    return doc


def _part_place(doc: Document, old: tuple[str, ...], fresh: tuple[str, ...]) -> Place | None:
    if not any(line.strip() for line in old):
        if any(line.strip() for line in fresh):
            raise NoPlace("the search text has nothing to hold on to beside '...'")
        return None
    place = find(doc, old)
    if place is None:
        raise NoPlace("a part of the search text beside '...' is not in the file")
    return place


def _parts(lines: tuple[str, ...]) -> tuple[list[tuple[str, ...]], list[str]]:
    parts: list[list[str]] = [[]]
    dots: list[str] = []
    for line in lines:
        if line.strip() in ("...", "…") or is_placeholder(line):
            dots.append(line)
            parts.append([])
        else:
            parts[-1].append(line)
    return [tuple(part) for part in parts], dots


def _aligned(doc: Document, search: tuple[str, ...]) -> int | None:
    wanted: dict[str, list[int]] = {}
    for index, line in enumerate(search[:400]):
        if line.strip():
            wanted.setdefault(line.strip(), []).append(index)
    votes: Counter[int] = Counter()
    for at, line in enumerate(doc.lines):
        indexes = wanted.get(line.strip(), ())
        if len(indexes) <= 8:
            votes.update(at - index for index in indexes)
    if votes:
        return max(0, max(votes, key=lambda start: (votes[start], -start)))
    return _alike(doc, search)


def _alike(doc: Document, search: tuple[str, ...]) -> int | None:
    probe = max(search[:400], key=lambda line: len(line.strip()), default="").strip()[:120]
    lines = [line.strip()[:120] for line in doc.lines[:MOST_PLACES]]
    some = list(dict.fromkeys(line for line in lines if abs(len(line) - len(probe)) * 2 <= len(probe)))[:300]
    close = difflib.get_close_matches(probe, some, n=1, cutoff=0.5) if probe else []
    if not close:
        return None
    index = next(i for i, line in enumerate(search) if line.strip()[:120] == probe)
    return max(0, lines.index(close[0]) - index)
