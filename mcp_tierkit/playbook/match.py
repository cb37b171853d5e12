"""Which playbook a task's own words ask for: whole phrases, word by word, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from mcp_tierkit.playbook.schema import Fields
from mcp_tierkit.routing import Match

if TYPE_CHECKING:
    from mcp_tierkit.playbook.load import Playbook

MAX_TASK = 1000

# A quoted stretch is one word, so that a value may hold spaces.
_WORD = re.compile(r'"[^"]*"|`[^`]*`|\'[^\']*\'|\S+')
_SLOT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SIMPLE = frozenset({"string", "integer", "number", "boolean"})


class BadPhrase(ValueError):
    """A phrase of a contract that cannot be matched."""


class Word(NamedTuple):
    """A word of a phrase: `literals` around and between `slots`, one more than there are slots."""

    literals: tuple[str, ...]
    slots: tuple[str, ...] = ()


class Phrase(NamedTuple):
    text: str
    words: tuple[Word, ...]
    literal: int


def read_phrase(text: str, inputs: Fields) -> Phrase:
    """A phrase ready for matching. Each slot is an input, used once; BadPhrase otherwise."""
    words = tuple(_read_word(part, text) for part in text.split())
    slots = [slot for word in words for slot in word.slots]
    unknown = [slot for slot in slots if slot not in inputs.properties]
    if unknown or len(set(slots)) != len(slots):
        raise BadPhrase(f"match.phrases: {text!r} has a slot that is no input, or one twice")
    if unfit := [slot for slot in slots if inputs.properties[slot]["type"] not in _SIMPLE]:
        raise BadPhrase(f"match.phrases: the slot {unfit[0]} must be text, a number or a boolean")
    literal = sum(len(part) for word in words for part in word.literals)
    if literal < 3:
        raise BadPhrase(f"match.phrases: {text!r} would match almost anything")
    return Phrase(text, words, literal)


def match(task: str, playbooks: Iterable[Playbook]) -> Match | None:
    """The playbook whose phrase is the task, word for word and without regard to case, or None.

    A slot takes one word, or a quoted stretch, that its input's schema accepts. Of several matches the
    phrase with the most literal text wins, then the nearer playbook. Give trusted playbooks only.
    """
    if len(task) > MAX_TASK:
        return None
    words = _WORD.findall(task)
    if words and words[-1] in (".", "!", "?"):
        words.pop()  # It followed a quoted word.
    folded = [word.casefold() for word in words]
    best: tuple[int, Match] | None = None
    for playbook in playbooks:
        for phrase in playbook.phrases:
            if len(phrase.words) == len(words) and (best is None or phrase.literal > best[0]):
                values = _fill(phrase, words, folded)
                found = None if values is None else _checked(playbook, values)
                best = best if found is None else (phrase.literal, found)
    return best[1] if best else None


def _read_word(part: str, text: str) -> Word:
    pieces = _SLOT.split(part.casefold() if "{" not in part else part)
    literals, slots = tuple(piece.casefold() for piece in pieces[::2]), tuple(pieces[1::2])
    if not all(literals[1:-1]):
        raise BadPhrase(f"match.phrases: {text!r} has two slots with nothing between them")
    if any(mark in literal for literal in literals for mark in "{}\"'`"):
        raise BadPhrase(f"match.phrases: {text!r} has a stray brace or quote")
    return Word(literals, slots)


def _fill(phrase: Phrase, words: list[str], folded: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    last = len(words) - 1
    for at, (part, word, low) in enumerate(zip(phrase.words, words, folded, strict=True)):
        if at == last:  # A sentence may end with a mark that is no part of the value.
            word, low = _unmarked(word, part), _unmarked(low, part)
        if not part.slots:
            if low != part.literals[0]:
                return None
            continue
        found = _cut(part, word, low)
        if found is None:
            return None
        values.update(found)
    return values


def _cut(part: Word, word: str, low: str) -> dict[str, str] | None:
    """The slots' values in one word; None unless it can be read in just one way."""
    head, *between, tail = part.literals
    if not (low.startswith(head) and low.endswith(tail) and len(low) == len(word)):
        return None
    rest, values = word[len(head) : len(word) - len(tail)], []
    for literal in between:
        if rest.casefold().count(literal) != 1:
            return None
        at = rest.casefold().index(literal)
        values.append(rest[:at])
        rest = rest[at + len(literal) :]
    values.append(rest)
    return dict(zip(part.slots, map(_unquoted, values), strict=True)) if all(values) else None


def _unmarked(word: str, part: Word) -> str:
    return word if len(word) < 2 or word[-1] not in ".!?" or part.literals[-1].endswith(word[-1]) else word[:-1]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 2 and value[0] == value[-1] and value[0] in "\"'`" else value


def _checked(playbook: Playbook, values: dict[str, str]) -> Match | None:
    typed = {name: playbook.inputs.from_text(name, text) for name, text in values.items()}
    try:
        return Match(name=playbook.name, inputs=playbook.inputs.check(typed))
    except ValueError:
        return None
