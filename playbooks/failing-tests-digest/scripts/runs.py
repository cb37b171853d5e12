"""What a reader of results gives, and what all readers of printed logs share.

Every pattern is tried on one bounded line, so that a hostile log costs no more than its length.
"""

import re
from dataclasses import dataclass, field

MAX_LINE = 1000
KEPT_LINES = 4


@dataclass
class Failure:
    """One failed test: its name, the error in a line, where, and the lines that matter."""

    test: str
    error: str = ""
    where: str = ""
    lines: list = field(default_factory=list)


@dataclass
class Run:
    """What a log tells of one runner. `said` is the runner's own count of what went wrong, which is never doubted.

    `broken` is the line by which the runner says that the run failed apart from any test.
    """

    framework: str
    failures: list
    passed: int | None = None
    said: int = 0
    broken: str = ""

    @property
    def failed(self):
        return max(self.said, len({one.test for one in self.failures}))

    @property
    def unnamed(self):
        return max(0, self.said - len(self.failures))


CODES = re.compile(r"\x1b(?:\[[0-9;?]{0,40}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\^_])")
STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?Z? ")


def lines_of(text):
    """The log's lines without colours, time stamps of a build server, and overlong tails."""
    lines = (line[: 2 * MAX_LINE] for line in re.split(r"\r\n|\r|\n", text))
    return [STAMP.sub("", CODES.sub("", line))[:MAX_LINE].rstrip() for line in lines]


def first(pattern, lines):
    return next((found for line in lines if (found := re.search(pattern, line))), None)


def first_line(pattern, lines):
    found = first(pattern, lines)
    return found.string.strip() if found else ""


def number(pattern, line):
    """The sum of the counts that a line has."""
    return sum(int(one) for one in re.findall(pattern, line))


def total(pattern, lines):
    return sum(number(pattern, line) for line in lines)


def cut(lines, is_head):
    """(head match, lines until the next head) for each head."""
    heads = [(at, found) for at, line in enumerate(lines) if (found := is_head(line))]
    stops = [at for at, _ in heads[1:]] + [len(lines)]
    return [(found, lines[at + 1 : stop]) for (at, found), stop in zip(heads, stops)]
