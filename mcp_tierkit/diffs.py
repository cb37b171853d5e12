"""Texts before and after, as a patch that `git apply` takes and as the figures of a receipt."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping

from mcp_tierkit.types import FileChange

MAX_RANGES = 3
MOST_PAIRS = 50_000
"""Pairs of equal lines, beyond which lines that occur often are no help in matching: a thousand lines took minutes."""


def patch(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> str:
    """One git-style patch over every path of `after`; None stands for a file that is not there."""
    return "".join(_file_patch(path, before.get(path), text) for path, text in sorted(after.items()))


def _file_patch(path: str, old: str | None, new: str | None) -> str:
    if old == new:
        return ""
    head = f"diff --git a/{path} b/{path}\n"
    if old is None:
        head += "new file mode 100644\n"
    if new is None:
        head += "deleted file mode 100644\n"
    sides = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
    lines = difflib.unified_diff(_lines(old), _lines(new), *sides)
    return head + "".join(_marked(line) for line in lines)


def _lines(text: str | None) -> list[str]:
    """Lines split at line feeds alone, as git does: a form feed or a lone CR is part of a line."""
    return [] if not text else [line + "\n" for line in text.split("\n")[:-1]] + _unended(text)


def _unended(text: str) -> list[str]:
    tail = text.rsplit("\n", 1)[-1]
    return [tail] if tail else []


def _marked(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def summarise(path: str, old: str | None, new: str | None) -> FileChange:
    """Lines added and removed, and where the new ones are: at most three ranges, then how many more."""
    added = removed = 0
    ranges: list[tuple[int, int]] = []
    for i1, i2, j1, j2 in _changed(_lines(old), _lines(new)):
        added += j2 - j1
        removed += i2 - i1
        ranges.append((j1 + 1, max(j2, j1 + 1)))
    return FileChange(path=path, added=added, removed=removed, ranges="deleted" if new is None else _shown(ranges))


def _changed(old: list[str], new: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Which lines stand for which. What both have around the change is set aside first: matching is quadratic."""
    least = min(len(old), len(new))
    head = next((at for at in range(least) if old[at] != new[at]), least)
    tail = next((at for at in range(least - head) if old[-1 - at] != new[-1 - at]), least - head)
    a, b = old[head : len(old) - tail], new[head : len(new) - tail]
    times = Counter(b)
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=sum(times[line] for line in a) > MOST_PAIRS)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            yield head + i1, head + i2, head + j1, head + j2


def _shown(ranges: list[tuple[int, int]]) -> str:
    shown = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges[:MAX_RANGES])
    return shown if len(ranges) <= MAX_RANGES else f"{shown},+{len(ranges) - MAX_RANGES}"
