"""Whether a text was copied from a document: the one thing about a model's words that can be checked by reading."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MOST_PLACES = 1000
"""Places of one quote in one document that are looked at: a document made to hold millions costs no time."""


_BROKEN = re.compile(r"(?<=\w)-[ \t]*\r?\n\s*(?=\w)")


class Sources(tuple[str, ...]):
    """Documents as quotes are looked for: each run of whitespace is one space, a word broken at a hyphen is whole."""

    __slots__ = ()

    def __new__(cls, texts: Iterable[str] = ()) -> Sources:
        return super().__new__(cls, map(_spaced, texts))


def is_quoted(text: str, sources: Sources) -> bool:
    """Whether `text` stands in one of the documents, runs of whitespace being equal, and cuts no word or number.

    "not liable" is no quote of "cannot be liable", and "5,000" none of "5,000,000". It says that the words are there,
    not that they mean what somebody makes of them.
    """
    wanted = _spaced(text)
    return bool(wanted) and any(_stands_in(source, wanted) for source in sources)


def _spaced(text: str) -> str:
    return " ".join(_BROKEN.sub("-", text).split())


def _stands_in(source: str, wanted: str) -> bool:
    at = -1
    for _ in range(MOST_PLACES):
        at = source.find(wanted, at + 1)
        if at < 0:
            return False
        if not _is_cut(source, at) and not _is_cut(source, at + len(wanted)):
            return True
    return False


_JOINS = "-‐‑–'’­"
"""Between letters these join one word: non-exclusive, isn't."""


def _is_cut(source: str, at: int) -> bool:
    """Whether a word or a number goes on across `at`. Letters without case belong to scripts that leave no spaces."""
    before, after = source[max(at - 3, 0) : at], source[at : at + 4]
    if not before or not after:
        return False
    left, right = before[-1], after[0]
    if _clings(left) or _clings(right):
        return True  # A mark that nobody sees, or an accent, belongs to the word that it stands in.
    if left.isdigit() or right.isdigit():
        return _cuts_number(before, after)
    if left in _JOINS:
        return _has_case(right) and _has_case(before[-2:-1])
    if right in _JOINS:
        return _has_case(left) and _has_case(after[1:2].strip() or after[2:3])
    return _has_case(left) and _has_case(right)


def _cuts_number(before: str, after: str) -> bool:
    left, right = before[-1], after[0]
    if left.isdigit() and right.isdigit():
        return True
    if left.isdigit():
        # 5|,000 and 1| 000 and $5|M go on; "within 30| days" does not.
        groups = right == " " and after[1:4].isdigit() and len(after) == 4
        return groups or _has_case(right) or (right in ".,'’" and after[1:2].isdigit())
    if right.isdigit():
        is_sign = left in "-−+" and not before[-2:-1].isalnum()
        groups = left == " " and before[-2:-1].isdigit() and after[:3].isdigit() and not after[3:4].isdigit()
        return is_sign or groups or _has_case(left) or (left in ".,'’" and before[-2:-1].isdigit())
    return False


def _clings(char: str) -> bool:
    return unicodedata.category(char) in ("Cf", "Mn", "Me")


def _has_case(char: str) -> bool:
    return char.lower() != char.upper()
