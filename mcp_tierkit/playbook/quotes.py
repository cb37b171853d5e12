"""Whether a text was copied from a document: the one thing about a model's words that can be checked by reading."""

from __future__ import annotations

from collections.abc import Iterable

MOST_PLACES = 1000
"""Places of one quote in one document that are looked at: a document made to hold millions costs no time."""


class Sources(tuple[str, ...]):
    """Documents as quotes are looked for in them: each run of whitespace is one space."""

    __slots__ = ()

    def __new__(cls, texts: Iterable[str] = ()) -> Sources:
        return super().__new__(cls, (" ".join(text.split()) for text in texts))


def is_quoted(text: str, sources: Sources) -> bool:
    """Whether `text` stands in one of the documents, runs of whitespace being equal, and cuts no word or number.

    "not liable" is no quote of "cannot be liable", and "5,000" none of "5,000,000". It says that the words are there,
    not that they mean what somebody makes of them.
    """
    wanted = " ".join(text.split())
    return bool(wanted) and any(_stands_in(source, wanted) for source in sources)


def _stands_in(source: str, wanted: str) -> bool:
    at = -1
    for _ in range(MOST_PLACES):
        at = source.find(wanted, at + 1)
        if at < 0:
            return False
        if not _is_cut(source, at) and not _is_cut(source, at + len(wanted)):
            return True
    return False


def _is_cut(source: str, at: int) -> bool:
    """Whether a word or a number goes on across `at`. Letters without case belong to scripts that leave no spaces."""
    before, after = source[max(at - 2, 0) : at], source[at : at + 2]
    if not before or not after:
        return False
    left, right = before[-1], after[0]
    if left.isdigit():
        return right.isdigit() or (right in ".,'" and after[1:].isdigit())
    if right.isdigit():
        return left in ".,'" and before[:-1].isdigit()
    return _has_case(left) and _has_case(right)


def _has_case(char: str) -> bool:
    return char.lower() != char.upper()
