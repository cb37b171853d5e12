"""The errors of a log grouped by shape: inputs as JSON on stdin, groups as JSON to PLAYBOOK_RESULT."""

import gzip
import io
import json
import os
import stat
import sys
import zlib
from dataclasses import dataclass

from masks import hide, shape
from records import RANKS, Reader

MAX_LINE = 64 * 1024
MAX_GROUPS = 5000
SHAPE, SAMPLE = 200, 300


@dataclass
class Group:
    level: str
    shape: str
    first: str
    line: int
    sample: str
    frames: list
    last: str = ""
    count: int = 0


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def fail(why):
    print(why, file=sys.stderr)
    sys.exit(1)


def open_log(path):
    """The log as a text stream, unpacked where it is gzip; declines what is no text file."""
    try:
        raw = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except OSError as error:
        decline(f"the log cannot be opened: {error.strerror}")
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        decline("the log is not a plain file")
    data = raw
    if raw.peek(2)[:2] == b"\x1f\x8b":
        raw.close()
        data = io.BufferedReader(gzip.open(path), 1 << 20)
    start = data.peek(4096)[:4096]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in start:
        decline("the log is not text")
    else:
        encoding = "utf-8-sig"
    return io.TextIOWrapper(data, encoding=encoding, errors="replace")


def lines_of(stream):
    """(number, text) of each line; what is beyond MAX_LINE is passed over."""
    number, is_new = 0, True
    while piece := stream.readline(MAX_LINE):
        if is_new:
            number += 1
            yield number, piece.rstrip("\n")
        is_new = piece.endswith("\n")


def events_of(lines, reader):
    for number, line in lines:
        ended = reader.feed(number, line)
        if ended:
            yield ended
    if ended := reader.close():
        yield ended


class Groups:
    """Events counted by what they have in common, in bounded memory."""

    def __init__(self):
        self.found, self.shapes, self.events, self.ungrouped = {}, {}, 0, 0

    def add(self, event):
        self.events += 1
        head = (event.said or event.head) if event.bare else event.head or event.said or "(no message)"
        form = self._shape(head)
        frames = event.innermost()
        # A trace that nothing announces is known by where it comes from, not by the words of its exception.
        key = (event.level, "" if event.bare and frames else form, event.fault, *(name for name, _ in frames))
        group = self.found.get(key)
        if group is None:
            if len(self.found) >= MAX_GROUPS:
                self.ungrouped += 1
                return
            group = self.found[key] = _group(event, head, form, frames)
        group.count += 1
        group.last = event.time or group.last

    def _shape(self, head):
        form = self.shapes.get(head)
        if form is None:
            if len(self.shapes) >= MAX_GROUPS:
                self.shapes.clear()
            form = self.shapes[head] = shape(hide(head))
        return form

    def listed(self, limit):
        ranked = sorted(self.found.values(), key=lambda group: (-group.count, group.line))
        return [vars(group) for group in ranked[:limit]]


def _group(event, head, form, frames):
    said = event.said if event.said and event.said != head else ""
    sample = "\n".join(hide(text)[:SAMPLE] for text in (head, said) if text)
    return Group(event.level, form[:SHAPE], event.time, event.line, sample, [shown for _, shown in frames])


def report(stream, level, limit):
    reader, groups, count = Reader(), Groups(), 0

    def counted():
        nonlocal count
        for count, line in lines_of(stream):
            yield count, line

    for event in events_of(counted(), reader):
        if RANKS[event.level] >= RANKS[level]:
            groups.add(event)
    if count and not reader.has_levels:
        decline(f"none of its {count} lines carries a level or an exception")
    kinds = len(groups.found)
    return {
        "lines": count, "events": groups.events, "kinds": kinds, "more": max(0, kinds - limit),
        "ungrouped": groups.ungrouped, "groups": groups.listed(limit),
    }  # fmt: skip


def main():
    inputs = json.load(sys.stdin)
    try:
        with open_log(inputs["log"]) as stream:
            found = report(stream, inputs.get("level", "error"), inputs.get("limit", 10))
    except (EOFError, OSError, zlib.error) as error:
        fail(f"the log cannot be read to its end: {error}")
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(found, out, ensure_ascii=False)


if __name__ == "__main__":
    main()
