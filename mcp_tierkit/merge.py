"""Three states of a file into one: both sides' changes, where no line could belong to either."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

MAX_MERGE = 4_000_000
# Deeper nesting of lines that are told apart only by their neighbours is refused: each level costs one more pass.
_DEPTH = 8

Lines = list[bytes]


class Overlap(Exception):
    """Both sides changed the same lines, or lines next to each other. `lines` counts those of `theirs` from 1."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        shown = [f"{max(start, 1)}" if end - start < 2 else f"{start}-{end - 1}" for start, end in spans]
        self.lines = ", ".join(dict.fromkeys(shown[:5])) + (" and more" if len(shown) > 5 else "")
        super().__init__(self.lines)


def merge(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """`base` with the changes of `ours` and of `theirs`, byte for byte.

    Changes are told apart by a line between them that all three states hold, once each in the stretch looked at: a
    line that occurs twice could be either of the two. Raises Overlap where no such line stands between them.
    """
    spans: list[tuple[int, int]] = []
    one, two, three = (text.splitlines(keepends=True) for text in (base, ours, theirs))
    merged = _stretch(one, two, three, 1, _DEPTH, spans)
    if spans:
        raise Overlap(spans)
    return b"".join(merged)


def _stretch(base: Lines, ours: Lines, theirs: Lines, at: int, depth: int, spans: list[tuple[int, int]]) -> Lines:
    """The lines of one stretch; what cannot be told apart is added to `spans`. `at` numbers the first of `theirs`."""
    if ours == base:
        return theirs
    if theirs == base:
        return ours
    posts = _posts(base, ours, theirs) if depth else []
    if not posts:
        head, tail = _alike(base, ours, theirs), _alike(base[::-1], ours[::-1], theirs[::-1])
        spans.append((at + head, max(at + len(theirs) - tail, at + head)))
        return []
    merged: Lines = []
    done = (0, 0, 0)
    for post in (*posts, (len(base), len(ours), len(theirs))):
        one, two, three = (lines[i:j] for lines, i, j in zip((base, ours, theirs), done, post, strict=True))
        merged += _stretch(one, two, three, at + done[2], depth - 1, spans)
        merged += theirs[post[2] : post[2] + 1]
        done = (post[0] + 1, post[1] + 1, post[2] + 1)
    return merged


def _alike(base: Lines, ours: Lines, theirs: Lines) -> int:
    """How many lines the three begin with alike."""
    count = 0
    for one, two, three in zip(base, ours, theirs, strict=False):
        if one != two or one != three:
            break
        count += 1
    return count


def _posts(base: Lines, ours: Lines, theirs: Lines) -> list[tuple[int, int, int]]:
    """Where the lines stand that all three hold once, in an order that all three agree on."""
    places = [dict(_once(lines)) for lines in (base, ours, theirs)]
    found = [(at, places[1][line], places[2][line]) for line, at in places[0].items() if all(line in p for p in places)]
    return _rising(_rising(found, 1), 2)


def _once(lines: Lines) -> Iterator[tuple[bytes, int]]:
    times = Counter(lines)
    return ((line, at) for at, line in enumerate(lines) if times[line] == 1)


def _rising(places: list[tuple[int, int, int]], key: int) -> list[tuple[int, int, int]]:
    """The longest run of places, gaps allowed, whose `key` rises."""
    ends: list[int] = []  # The smallest last key of a run of each length,
    last: list[int] = []  # the place that has it,
    before: list[int] = []  # and for each place the one before it in its run.
    for at, place in enumerate(places):
        length = bisect_left(ends, place[key])
        ends[length : length + 1] = [place[key]]
        last[length : length + 1] = [at]
        before.append(last[length - 1] if length else -1)
    run: list[tuple[int, int, int]] = []
    at = last[-1] if last else -1
    while at >= 0:
        run.append(places[at])
        at = before[at]
    return run[::-1]
