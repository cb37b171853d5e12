"""One filter in front of every sink: secrets by named rules, and the paths that are never read."""

from __future__ import annotations

import logging
import posixpath
import re
import traceback
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Record

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_PLAIN_PATH = re.compile(r"[\w./@+-]{1,80}", re.ASCII)


class Secret(Record):
    """Where a secret stands in a text. The secret itself is left out, so that a record is safe to log."""

    rule: str
    line: int
    start: int
    end: int


def find_secrets(text: str) -> tuple[Secret, ...]:
    """The secrets in `text` that a named rule knows, in order and without overlap; `line` counts from 1.

    Of two rules on one stretch the one that starts first is named, then the longer. Time is linear in the text.
    """
    spans = sorted(_spans(text), key=lambda span: (span[0], -span[1]))
    if not spans:
        return ()
    breaks = [match.start() for match in re.finditer("\n", text)]
    found: list[Secret] = []
    for start, end, rule in spans:
        if found and start < found[-1].end:
            last = found[-1]
            found[-1] = last.model_copy(update={"end": max(last.end, end)})
        else:
            found.append(Secret(rule=rule, line=bisect_right(breaks, start - 1) + 1, start=start, end=end))
    return tuple(found)


def redact(text: str) -> str:
    """`text` with each secret replaced by `[redacted:<rule>]` and nothing else touched."""
    pieces: list[str] = []
    at = 0
    for secret in find_secrets(text):
        pieces += [text[at : secret.start], f"[redacted:{secret.rule}]"]
        at = secret.end
    return "".join(pieces) + text[at:] if pieces else text


def redact_record(record: logging.LogRecord) -> bool:
    """A filter for a logger: nothing is left out, and neither message nor traceback shows a secret."""
    lines = [record.getMessage()]
    if record.exc_info and record.exc_info[0] is not None:
        lines.append("".join(traceback.format_exception(*record.exc_info)).rstrip())
    record.msg, record.args, record.exc_info = redact("\n".join(lines)), (), None
    return True


def is_denied(path: str, extra: tuple[str, ...] = ()) -> bool:
    """Whether a project-relative path is never read, sent or shown: the packaged list, then `extra` (gitignore lines).

    Letter case, full-width look-alikes and invisible characters do not hide a name.
    `extra` only adds: a line that starts with `!` allows nothing.
    """
    folded = _fold(path)
    return _spec(()).match_file(folded) or (bool(extra) and _spec(extra).match_file(folded))


def may_hold_denied(text: str, extra: tuple[str, ...] = ()) -> bool:
    """False only where no path of a text full of them can be denied: one search, for walks of many thousand files."""
    hints = _hints(extra)
    return hints is None or hints.search(_fold_text(text)) is not None


def plain_paths(paths: Iterable[str]) -> list[str]:
    """Up to three of the paths that a model named. One it made up is the model's words, so only plain ones are told."""
    return [path for path in paths if _PLAIN_PATH.fullmatch(path)][:3]


def deny_patterns() -> tuple[str, ...]:
    """The packaged deny list as gitignore lines; letter case is folded when they are applied."""
    return tuple(packaged("secrets")["deny"])


def _spans(text: str) -> Iterator[tuple[int, int, str]]:
    lowered = text.lower()
    for name, hints, pattern in _rules():
        if not any(hint in lowered for hint in hints):
            continue
        for match in pattern.finditer(text):
            group = "secret" if pattern.groupindex and match["secret"] is not None else 0
            yield match.start(group), match.end(group), name


@cache
def _rules() -> tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]:
    start = packaged("secrets")["start"]
    return tuple(
        (rule["name"], tuple(rule["hints"]), re.compile(rule["pattern"].replace("<start>", start), re.VERBOSE))
        for rule in packaged("secrets")["rules"]
    )


@lru_cache(maxsize=16)
def _spec(extra: tuple[str, ...]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    lines = [_fold_text(line) for line in extra if not line.startswith("!")]
    return GitIgnoreSpec.from_lines(lines if extra else deny_patterns())


@lru_cache(maxsize=16)
def _hints(extra: tuple[str, ...]) -> re.Pattern[str] | None:
    """The longest plain piece of each pattern, which is in every path that it denies; None where one has none."""
    lines = [_fold_text(line) for line in (*deny_patterns(), *extra) if line.strip() and line[0] not in "!#"]
    pieces = {max(re.split(r"[*?/\s]", re.split(r"[\[\\\\]", line)[0]), key=len) for line in lines}
    return None if "" in pieces else re.compile("|".join(map(re.escape, sorted(pieces))))


def _fold(path: str) -> str:
    # lstrip: an absolute path is judged by its parts as well.
    return posixpath.normpath(_fold_text(path).replace("\\", "/")).lstrip("/")


def _fold_text(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text.lower()
    shown = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Cc"))
    return unicodedata.normalize("NFKC", shown).casefold()
