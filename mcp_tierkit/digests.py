"""The ten lines of a check's output that a person needs to mend it: errors first, noise never before them."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from mcp_tierkit.redact import redact
from mcp_tierkit.tables import packaged

DIGEST_LINES = 10
LINE_CHARS = 160
FIRST = 6
"""Lines that the first failure may take where there are others."""
OFTEN = 20
"""A line whose like comes more often than this is a log's, whatever words it holds."""
NEAR = 40
"""Lines between two that are told of one failure."""
MORE = 12
"""Lines below an error in which what was expected may stand."""

_NUMBERS = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+", re.I)
_DIGITS = str.maketrans("23456789", "1" * 8)
_SHOWN = re.compile(r"^(\$ .*\n(`{3,})\n)((?:.{0,240}\n){0,20}?)(?=\2$)", re.M)
"""A check's digest in a request, under its command."""
_MOST_SHOWN = 40
"""Digests that are looked at, and they are short: a file of a megabyte that looks like them costs no time."""
_KINDS = ("heads", "errors", "then", "more", "recaps", "sums")


@dataclass
class Failure:
    """One failure of many: where its telling lines are."""

    heads: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    last: int = -1

    def whole(self) -> list[int]:
        """Its lines, the most telling first: name, what is wrong, where, and the rest of what is wrong."""
        near = [at for at in self.places if at < self.errors[0]][-1:] + [
            at for at in self.places if at > self.errors[0]
        ][:1]
        return [*self.heads[:2], self.errors[0], *near, *self.errors[1:], *self.places]


class Words:
    """A runner's patterns, read from its row and the common ones of data/runners.toml."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        found = {kind: _any_of(row.get(kind, "") for row in rows) for kind in _KINDS}
        self.patterns = {kind: pattern for kind, pattern in found.items() if pattern}
        self.patterns |= {f"any {kind}": _pattern(text) for kind, text in packaged("runners")["common"].items()}
        self.known: dict[str, frozenset[str]] = {}

    def kinds(self, line: str) -> frozenset[str]:
        """What a line is, by the names of the patterns that fit; looked up once for lines of one form."""
        found = self.known.get(line)
        if found is None:
            form = form_of(line)
            found = self.known.get(form)
            if found is None:
                found = frozenset(kind for kind, pattern in self.patterns.items() if pattern.search(line))
            self.known[form] = self.known[line] = found
        return found

    def says(self, kind: str, line: str) -> bool:
        """Whether a line is of this kind in the runner's own words."""
        return kind in self.kinds(line)

    def is_any(self, kind: str, line: str) -> bool:
        """Whether a line is of this kind whoever speaks."""
        return f"any {kind}" in self.kinds(line)

    def is_place(self, line: str) -> bool:
        return self.is_any("places", line) and not self.is_any("foreign", line)


def form_of(line: str) -> str:
    """What two lines have in common that differ in their numbers; none and one are kept apart."""
    return line.translate(_DIGITS)


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    given = [text for text in texts if text]
    return _pattern("|".join(f"(?:{text})" for text in given)) if given else None


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def digest(rows: Sequence[Mapping[str, Any]], text: str) -> str:
    """The lines that tell what failed, ten at most, in their order and without secrets.

    `rows` are those of the runner and of what it started. The first failure is told whole, of the others a line or two
    each, then the runner's own summary. Where nothing is known for an error, rare lines that speak of one are taken,
    and at last the end of the output.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    words = Words(rows)
    shapes = Counter(map(_shape, lines))
    often = {shape for shape, times in shapes.items() if times > OFTEN}
    failures = _failures(words, lines, often, is_strict=True) or _failures(words, lines, often, is_strict=False)
    failures.sort(key=lambda failure: _shape(lines[failure.errors[0]]) in often)
    chosen = _told(words, lines, failures) if failures else _guessed(words, lines, shapes)
    return "\n".join(_short(lines[at], words) for at in sorted(chosen))


def _shape(line: str) -> str:
    """What two lines of one making have in common."""
    return _NUMBERS.sub("0", line[:LINE_CHARS]).strip()


def steady(request: str) -> str:
    """The text of a request without what differs between two runs of its checks that found the same.

    Only in what checks printed: a duration or an address in a file, a plan or an answer is a part of what is asked.
    """
    return _SHOWN.sub(lambda found: found[1] + _without_passing(found[3]), request, count=_MOST_SHOWN)


def _without_passing(output: str) -> str:
    for pattern, shown in _passing():
        output = pattern.sub(shown, output)
    return output


@functools.cache
def _passing() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.M), shown) for pattern, shown in packaged("runners")["passing"])


class Reader:
    """Goes through the lines once and gathers failures."""

    def __init__(self, words: Words, lines: Sequence[str], often: Set[str], *, is_strict: bool) -> None:
        self.words, self.lines, self.often, self.is_strict = words, lines, often, is_strict
        self.found: list[Failure] = [Failure()]
        self.is_due = False

    def read(self, at: int, line: str) -> None:
        here, words = self.found[-1], self.words
        is_head, is_error = words.says("heads", line), self.is_error(line)
        is_near = at - here.last <= NEAR
        begins = is_head or (is_error and not here.heads and self.is_apart(line))
        if (begins and (here.errors or here.places)) or (here.errors and not is_near):
            here = Failure()
            self.found.append(here)
        if is_error or self.goes_on(at, line):
            here.errors.append(at)
        elif is_head:
            here.heads = [*here.heads[-1:], at]
        elif words.is_place(line):
            here.places = here.places if is_near else []
            here.places.append(at)
        else:
            at = here.last
        here.last = at
        self.is_due = words.says("then", line)

    def is_apart(self, line: str) -> bool:
        """Whether an error without a test's name above it is a failure of its own."""
        before = self.found[-1].errors[-1:]
        is_other = [self.is_often(self.lines[at]) for at in before] == [not self.is_often(line)]
        return is_other or self.words.is_any("places", line)

    def is_often(self, line: str) -> bool:
        return _shape(line) in self.often

    def is_error(self, line: str) -> bool:
        """Whether a line says what is wrong; in the runner's own words, where strict."""
        words = self.words
        common = not self.is_strict and words.is_any("errors", line) and not words.is_any("noise", line)
        return self.is_due or words.says("errors", line) or common

    def goes_on(self, at: int, line: str) -> bool:
        here = self.found[-1]
        is_near = bool(here.errors) and at - here.errors[-1] <= MORE
        return is_near and (self.words.says("more", line) or self.words.is_any("more", line))


def _failures(words: Words, lines: Sequence[str], often: Set[str], *, is_strict: bool) -> list[Failure]:
    """The failures in order, each of which says what is wrong."""
    reader = Reader(words, lines, often, is_strict=is_strict)
    for at, line in enumerate(lines):
        reader.read(at, line)
    return [failure for failure in reader.found if failure.errors]


def _told(words: Words, lines: Sequence[str], failures: Sequence[Failure]) -> set[int]:
    """The first failure whole, the others in brief, what sums up, and with the room that is left the rest."""
    first, *others = failures
    chosen = Chosen(lines, _last(words, lines))
    recaps = [at for at, line in enumerate(lines) if words.says("recaps", line)]
    chosen.take(first.whole(), keep=DIGEST_LINES - FIRST - 1 if others or recaps else 0)
    chosen.take(recaps)
    for other in others if not recaps else ():
        chosen.take_all(_brief(words, lines, other))
    chosen.take(first.whole())
    chosen.take(other.errors[0] for other in others)
    for other in others:
        chosen.take(other.whole())
    return chosen.taken


class Chosen:
    """Lines of a digest: never too many, and each text once."""

    def __init__(self, lines: Sequence[str], taken: set[int]) -> None:
        self.lines, self.taken = lines, taken
        self.texts = {lines[at].strip() for at in taken}

    def take(self, wanted: Iterable[int], keep: int = 0) -> None:
        """As many of the wanted as there is room for, `keep` lines left over."""
        for at in wanted:
            if len(self.taken) >= DIGEST_LINES - keep:
                return
            if self.lines[at].strip() not in self.texts:
                self.texts.add(self.lines[at].strip())
                self.taken.add(at)

    def take_all(self, wanted: Sequence[int]) -> None:
        """All of the wanted, or the last of them where there is no room for all."""
        self.take(wanted if len(self.taken) + len(wanted) <= DIGEST_LINES else wanted[-1:])


def _brief(words: Words, lines: Sequence[str], failure: Failure) -> list[int]:
    """What is wrong, below its name where the line does not say where it is."""
    above = [] if words.is_any("places", lines[failure.errors[0]]) else failure.heads[-1:] or failure.places[:1]
    return [*above, failure.errors[0]]


def _last(words: Words, lines: Sequence[str]) -> set[int]:
    """The runner's summary; the last one, since a program may print others."""
    return set(next(([at] for at in range(len(lines) - 1, -1, -1) if words.says("sums", lines[at])), []))


def _guessed(words: Words, lines: Sequence[str], shapes: Counter[str]) -> set[int]:
    """Lines that speak of a failure, the rarest first, and the end; the end alone where none does."""
    weak = [at for at, line in enumerate(lines) if words.is_any("weak", line) and not words.is_any("noise", line)]
    weak.sort(key=lambda at: (shapes[_shape(lines[at])], at))
    chosen = Chosen(lines, set(range(max(0, len(lines) - (2 if weak else DIGEST_LINES)), len(lines))))
    chosen.take(weak)
    return chosen.taken


def _short(line: str, words: Words) -> str:
    """Cut at the end, or before what is told where that would fall off; redacted first, lest half a secret remain."""
    line = redact(line)
    if len(line) <= LINE_CHARS:
        return line
    found = words.patterns["any errors"].search(line) or words.patterns["any weak"].search(line)
    if found and found.start() > LINE_CHARS - 60:
        line = "..." + line[found.start() - 20 :]
    return line if len(line) <= LINE_CHARS else line[: LINE_CHARS - 3] + "..."
