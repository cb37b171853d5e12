"""A file as lines that remember their endings, so that what an edit does not touch keeps its bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

BOM = "\ufeff"


@dataclass(frozen=True)
class Document:
    """Lines without their ends; `ends` holds `\\n`, `\\r\\n`, or the empty string for a last line without newline.

    `newline` is the ending that most lines had when the file was read; new lines take it.
    """

    lines: tuple[str, ...]
    ends: tuple[str, ...]
    bom: str = ""
    newline: str = "\n"

    @classmethod
    def parse(cls, text: str) -> Document:
        bom = BOM if text.startswith(BOM) else ""
        parts = text[len(bom) :].split("\n")
        last = parts.pop()
        lines = [part.removesuffix("\r") for part in parts]
        ends = ["\r\n" if len(line) < len(part) else "\n" for line, part in zip(lines, parts, strict=True)]
        if last:
            lines.append(last)
            ends.append("")
        newline = "\r\n" if ends.count("\r\n") > ends.count("\n") else "\n"
        return cls(tuple(lines), tuple(ends), bom, newline)

    @property
    def text(self) -> str:
        return self.bom + "".join(line + end for line, end in zip(self.lines, self.ends, strict=True))

    @property
    def is_blank(self) -> bool:
        return not any(line.strip() for line in self.lines)

    @cached_property
    def exact(self) -> str:
        """All lines with a newline on either side of each: a run of whole lines is found by `str.find`."""
        return padded(self.lines)

    @cached_property
    def trimmed(self) -> str:
        return padded(line.rstrip() for line in self.lines)

    @cached_property
    def stripped(self) -> str:
        return padded(line.strip() for line in self.lines)

    def splice(self, start: int, end: int, lines: tuple[str, ...], kept: tuple[int, int] = (0, 0)) -> Document:
        """Lines `start` to `end` become `lines`; the first and last `kept` of the region keep their own bytes.

        A missing final newline stays missing, and no other line loses its own.
        """
        head, tail = start + kept[0], end - kept[1]
        middle = lines[kept[0] : len(lines) - kept[1]]
        new_lines = self.lines[:head] + middle + self.lines[tail:]
        ends = self.ends[:head] + (self.newline,) * len(middle) + self.ends[tail:]
        is_open = bool(self.ends) and not self.ends[-1]
        inner = tuple(each or self.newline for each in ends[:-1])
        final = ("" if is_open else ends[-1] or self.newline,) if ends else ()
        return replace(self, lines=new_lines, ends=inner + final)

    def closed(self, has_newline: bool) -> Document:
        """The same lines with a final newline, or without one."""
        final = (self.newline if has_newline else "",) if self.ends else ()
        return replace(self, ends=self.ends[:-1] + final)

    def rewritten(self, lines: tuple[str, ...]) -> Document:
        """Other content for the same file: equal lines at either end keep their bytes, the rest takes its newline."""
        return self.splice(0, len(self.lines), lines, common_ends(self.lines, lines))


def padded(lines: Iterable[str]) -> str:
    return "\n" + "\n".join(lines) + "\n"


def has_lines(text: Document | tuple[str, ...], lines: tuple[str, ...]) -> bool:
    """Whether a run of lines stands in a text, trailing white space aside."""
    hay = text.trimmed if isinstance(text, Document) else padded(line.rstrip() for line in text)
    return padded(line.rstrip() for line in lines) in hay


def common_ends(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[int, int]:
    """How many lines `old` and `new` share at the start and, without overlap, at the end."""
    most = min(len(old), len(new))
    head = 0
    while head < most and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < most - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return head, tail
