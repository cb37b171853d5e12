"""What one transcript file says, in plain tuples: they travel between processes by the hundred thousand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Tokens(NamedTuple):
    """Tokens of one model call in five buckets that never overlap; the two writes differ in how long they are kept."""

    input: int = 0
    cache_read: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0


class Call(NamedTuple):
    """One answer of a model. Rows of the same `key`, in whatever file, are the same answer.

    `prompt` is a position in the sheet's prompts, -1 where none came before. A `key` that starts with "~" is unique
    among a session and its forks only. `is_known` is false where a count was missing or cannot be true. `is_part`
    marks what another model did within the answer before it. `widest` is what the largest of several passes read,
    0 where there was one: the dearer step of a model is a matter of one pass.
    """

    key: str
    at: str
    model: str
    tokens: Tokens
    prompt: int
    is_sub: bool = False
    is_copy: bool = False
    is_known: bool = True
    is_part: bool = False
    widest: int = 0


def merged(first: Call, other: Call) -> Call:
    """Two rows of one answer as the first, with the most that either says: counts only grow while an answer streams."""
    return first._replace(
        at=min(first.at, other.at), model=first.model or other.model,
        tokens=Tokens(*map(max, first.tokens, other.tokens)), is_known=first.is_known or other.is_known,
        widest=max(first.widest, other.widest),
    )  # fmt: skip


class Prompt(NamedTuple):
    """What a person asked; `text` has no secrets, and at most a thousand characters and one."""

    key: str
    at: str
    text: str


class Use(NamedTuple):
    """A tool that a call asked for. `command` is what a shell was given, else empty."""

    id: str
    name: str
    command: str
    call: int


CALL, RESULT, CUT = 0, 1, 2


class Event(NamedTuple):
    """What happened to the context, in order: a call read it, a result was added, or it was cut."""

    kind: int
    is_sub: bool
    at: int = -1  # position of the call, or of the use whose result this is; -1 where it is not in the file
    tokens: int = 0


_TOKENS, _PLACES = 34, 27
"""Bits of a packed event, from the lowest: tokens, then the position and one, then whether it is of a side
conversation, then the kind. What is larger is no transcript's."""


def packed(event: Event) -> int:
    """One number in the place of a tuple: there are several events for each call."""
    place, tokens = min(event.at + 1, (1 << _PLACES) - 1), min(event.tokens, (1 << _TOKENS) - 1)
    return ((event.kind << 1 | event.is_sub) << _PLACES | place) << _TOKENS | tokens


def unpacked(number: int) -> Event:
    rest, tokens = number >> _TOKENS, number & (1 << _TOKENS) - 1
    head, place = rest >> _PLACES, rest & (1 << _PLACES) - 1
    return Event(head >> 1, bool(head & 1), place - 1, tokens)


class Ours(NamedTuple):
    """A reply of this product's own tools that names one of its tasks."""

    task_id: str
    use: int


class Sheet(NamedTuple):
    """One file. `parent` is the session that it was forked or spawned from. `events` are packed."""

    path: str
    client: str
    session: str
    project: str
    is_sub: bool = False
    parent: str = ""
    prompts: tuple[Prompt, ...] = ()
    calls: tuple[Call, ...] = ()
    uses: tuple[Use, ...] = ()
    events: Sequence[int] = ()
    ours: tuple[Ours, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    versions: tuple[str, ...] = ()
