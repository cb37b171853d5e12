"""A change that was made once, as parts that can be made again: what to find, what to put there, with holes in both."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from typing import NamedTuple

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Record

MOST_PAIRS = 4_000_000
"""Pairs of lines beyond which lines that occur often are no help in matching: it would take minutes."""
MOST_SLOTS = 12

Texts = Mapping[str, str | None]
"""Text per path, None for a file that is not there."""


class Edit(Record):
    """`before` stands once in the file and becomes `after`. None: the file is made, or removed as a whole."""

    path: str
    before: str | None
    after: str | None


class Form(NamedTuple):
    """What a value looks like: how a goal holds it, what a new one may be, and what must not stand around it."""

    name: str
    in_goal: re.Pattern[str]
    pattern: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Slot:
    """A hole: a value of the recorded task that another task has another value for."""

    name: str
    value: str
    form: Form


FORMS = (
    Form("text", re.compile(r"\"([^\"'`\\\n]{2,200})\"|`([^\"'`\\\n]{2,200})`|'([^\"'`\\\n]{2,200})'"),
         r"""^[^"'`\\\p{C}]{1,200}$"""),
    Form("path", re.compile(r"(?<![\w./-])(\w[\w.-]*(?:/[\w.-]+)+|\w[\w-]*\.[a-z]{1,4})(?![\w/-])", re.A),
         r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,999}$", r"(?<![\w./-])", r"(?![\w/-])(?!\.\w)"),
    Form("number", re.compile(r"(?<![\w.])v?(\d{1,20}(?:\.\d{1,20}){0,5})(?![\w])(?!\.\w)", re.A),
         r"^[0-9]{1,20}(\.[0-9]{1,20}){0,5}$", r"(?:(?<![\w.])|(?<=\bv))", r"(?!\w)(?!\.\w)"),
    Form("name", re.compile(r"(?<![\w.])([A-Za-z_]\w{1,79})(?!\w)", re.A), r"^[A-Za-z_][A-Za-z0-9_]{0,79}$",
         r"(?<!\w)", r"(?!\w)"),
)  # fmt: skip


# A hole that could be any path would let the playbook write anywhere.
_IN_PATHS = ("name", "number")


def edits(before: Texts, after: Texts) -> tuple[Edit, ...]:
    """The parts of a change, in path order, each as small as it can be and still be found once in its file."""
    found: list[Edit] = []
    for path in sorted(after):
        old, new = before.get(path), after[path]
        if old is None or new is None:
            found += [Edit(path=path, before=old, after=new)] if old != new else []
        else:
            found += [Edit(path=path, before=was, after=now) for was, now in _hunks(old, new)]
    return tuple(found)


def slots(goal: str, parts: Sequence[Edit]) -> tuple[Slot, ...]:
    """The holes that the goal's own words make in the change, in the order of the goal.

    Quoted text, paths, numbers and names count, where the change holds them; a number only where the change brings it
    in or takes it out, since small numbers stand everywhere.
    """
    taken: list[tuple[int, int]] = []
    found: dict[str, tuple[int, Form]] = {}
    for form in FORMS:
        for match in form.in_goal.finditer(goal):
            value = next(group for group in match.groups() if group)
            if any(match.start() < end and start < match.end() for start, end in taken):
                continue
            is_hole = value.isprintable() and _is_hole(form, value, parts)
            if is_hole or form.name in ("text", "path"):  # What is no hole as a whole is none in pieces.
                taken.append(match.span())
            if is_hole:
                found.setdefault(value, (match.start(), form))
    named: list[Slot] = []
    texts = [text for part in parts for text in (part.path, part.before, part.after) if text]
    for value, (_, form) in sorted(found.items(), key=lambda item: item[1][0])[:MOST_SLOTS]:
        named.append(Slot(_free_name(form.name, {slot.name for slot in named}, texts), value, form))
    return tuple(named)


def with_holes(text: str, holes: Sequence[Slot]) -> str:
    """The text with `{slot}` where a slot's value stands as a whole word."""
    if not holes:
        return text
    names = {slot.value: slot.name for slot in holes}
    return _all_of(holes).sub(lambda found: "{" + names[found[0]] + "}", text)


def opened(parts: Sequence[Edit], holes: Sequence[Slot]) -> tuple[Edit, ...]:
    """The parts with holes; the path of a file that is made has them too."""
    in_paths = [slot for slot in holes if slot.form.name in _IN_PATHS]
    return tuple(
        Edit(
            path=with_holes(part.path, in_paths) if part.before is None else part.path,
            before=None if part.before is None else with_holes(part.before, holes),
            after=None if part.after is None else with_holes(part.after, holes),
        )
        for part in parts
    )


def phrase(goal: str, holes: Sequence[Slot]) -> str:
    """The goal with holes, as a phrase to be matched: quotes around a hole and the mark at its end left out."""
    text = " ".join(goal.split()).rstrip(".!?")
    for slot in holes:
        value = re.escape(slot.value)
        quoted = rf"\"{value}\"|`{value}`|'{value}'|{_bounded(slot)}"
        text = re.sub(quoted, "{" + slot.name + "}", text, count=1)
    return text


def _hunks(old: str, new: str) -> list[tuple[str, str]]:
    """What becomes what, by whole lines."""
    a, b = _lines(old), _lines(new)
    blocks = _changed(a, b)
    spans: list[tuple[int, int]] = []
    for start, stop in sorted(_widened(block[0], block[1], a, old) for block in blocks):
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], stop))
        else:
            spans.append((start, stop))
    return [_hunk(start, stop, blocks, a, b) for start, stop in spans]


def _hunk(
    start: int, stop: int, blocks: Sequence[tuple[int, int, int, int]], a: list[str], b: list[str]
) -> tuple[str, str]:
    """The lines of a span and what they become: a block lies in one span as a whole, between lines alike in both."""
    inside = [block for block in blocks if start <= block[0] and block[1] <= stop]
    first, last = inside[0], inside[-1]
    return "".join(a[start:stop]), "".join(b[first[2] - (first[0] - start) : last[3] + (stop - last[1])])


def _lines(text: str) -> list[str]:
    """Split at line feeds alone: what joins again is the same text."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _changed(a: list[str], b: list[str]) -> list[tuple[int, int, int, int]]:
    """Which lines stand for which; what both have at their ends is set aside, since matching is quadratic."""
    least = min(len(a), len(b))
    head = next((at for at in range(least) if a[at] != b[at]), least)
    tail = next((at for at in range(least - head) if a[-1 - at] != b[-1 - at]), least - head)
    inner_a, inner_b = a[head : len(a) - tail], b[head : len(b) - tail]
    matcher = SequenceMatcher(None, inner_a, inner_b, autojunk=len(inner_a) * len(inner_b) > MOST_PAIRS)
    found = (span for tag, *span in matcher.get_opcodes() if tag != "equal")
    return [(i1 + head, i2 + head, j1 + head, j2 + head) for i1, i2, j1, j2 in found]


def _widened(start: int, stop: int, a: list[str], old: str) -> tuple[int, int]:
    """With lines around it until what is to be found stands once in the file."""
    while not _stands_once("".join(a[start:stop]), old):
        start, stop = max(0, start - 1), min(len(a), stop + 1)
    return start, stop


def _stands_once(part: str, text: str) -> bool:
    at = text.find(part)
    return at >= 0 and text.find(part, at + 1) < 0 and (bool(part) or not text)


def _is_hole(form: Form, value: str, parts: Sequence[Edit]) -> bool:
    if form.name == "name" and (value.lower() in _plain() or keyword.iskeyword(value)):
        return False
    pattern = re.compile(_bounded(Slot(form.name, value, form)))
    was = sum(len(pattern.findall(part.before or "")) for part in parts)
    now = sum(len(pattern.findall(part.after or "")) for part in parts)
    if form.name in _IN_PATHS:
        now += sum(len(pattern.findall(part.path)) for part in parts if part.before is None)
    return was != now if form.name == "number" else was + now > 0


@cache
def _plain() -> frozenset[str]:
    words = packaged("repeats")
    return frozenset((*packaged("replay")["plain"].split(), *words["closed"], *words["vague"]))


def _bounded(slot: Slot) -> str:
    return slot.form.before + re.escape(slot.value) + slot.form.after


def _all_of(holes: Sequence[Slot]) -> re.Pattern[str]:
    """Any of the values, the longest first: one may stand inside another."""
    return re.compile("|".join(_bounded(slot) for slot in sorted(holes, key=lambda slot: -len(slot.value))))


def _free_name(form: str, taken: set[str], texts: Sequence[str]) -> str:
    """A name that no other slot has and that does not stand in braces in the texts themselves."""
    number = 1
    while True:
        name = form if number == 1 else f"{form}_{number}"
        if name not in taken and not any("{" + name + "}" in text for text in texts):
            return name
        number += 1
