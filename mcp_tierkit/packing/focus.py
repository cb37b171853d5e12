"""What the texts of a task name and point at: words of code, and lines of files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

READ_CHARS = 400_000
"""Of all texts together."""

_WORD = re.compile(r"[^\W\d]\w*")
# A name that text marks as code: quoted, called, dotted, or built of parts as words of a sentence are not.
_CODE = re.compile(
    r"`(?:[\w.]*\.)?([^\W\d]\w*)|([^\W\d]\w*)(?=\()|(?<=[\w)]\.)([^\W\d]\w*)|(?<=::)([^\W\d]\w*)"
    r"|\b([^\W\d]\w*(?:_|[a-z0-9][A-Z])\w*)"
)
# `a.py:3`, `File "a.py", line 3`, `a.ts(3,5)`, `a.php on line 3`.
_PLACE = re.compile(r"(?<![^\s:\"'`(),;<>|=])([^\s:\"'`(),;<>|=]++)(?:\"?, line | on line |:line |:|\()(\d{1,7})\b")


@dataclass(frozen=True)
class Focus:
    """`sharp` are the words that texts mark as code, `words` all of them, `places` paths with a line counted from 1."""

    words: frozenset[str]
    sharp: frozenset[str]
    places: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Focus:
        text = "\n".join(texts)[:READ_CHARS]
        sharp = {name for groups in _CODE.findall(text) for name in groups if name}
        places = {(path.replace("\\", "/").lstrip("./"), int(line)): None for path, line in _PLACE.findall(text)}
        return cls(frozenset(_WORD.findall(text)), frozenset(sharp), tuple(places))

    def lines_of(self, path: str) -> tuple[int, ...]:
        """Lines of this file that a text points at, by its path, a longer one that ends so, or its end alone."""
        named = (line for place, line in self.places if place and _is_same(place, path))
        return tuple(dict.fromkeys(named))


def _is_same(place: str, path: str) -> bool:
    return place == path or place.endswith(f"/{path}") or path.endswith(f"/{place}")
