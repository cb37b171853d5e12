"""Which playbook a task's own words ask for: whole phrases, word by word, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mcp_tierkit.playbook.schema import Fields
from mcp_tierkit.repeats import MAX_PHRASE, WORD
from mcp_tierkit.routing import Match
from mcp_tierkit.tables import packaged

if TYPE_CHECKING:
    from mcp_tierkit.playbook.load import Playbook

MAX_TASK = 1000

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


def read_phrase(text: str, inputs: Fields) -> Phrase:
    """A phrase ready for matching. Each slot is an input, used once; BadPhrase otherwise."""
    words = tuple(_read_word(part, text) for part in text.split())
    slots = [slot for word in words for slot in word.slots]
    unknown = [slot for slot in slots if slot not in inputs.properties]
    if unknown or len(set(slots)) != len(slots):
        raise BadPhrase(f"match.phrases: {text!r} has a slot that is no input, or one twice")
    if unfit := [slot for slot in slots if inputs.properties[slot]["type"] not in _SIMPLE]:
        raise BadPhrase(f"match.phrases: the slot {unfit[0]} must be text, a number or a boolean")
    if sum(len(part) for word in words for part in word.literals) < 3:
        raise BadPhrase(f"match.phrases: {text!r} would match almost anything")
    return Phrase(text, words)


def usable(texts: Iterable[str], inputs: Fields) -> list[str]:
    """Those of the texts that can be phrases of a playbook with these inputs, each once."""
    return [text for text in dict.fromkeys(texts) if _is_usable(text, inputs)]


class PhraseBook:
    """The phrases of trusted playbooks, laid out by their words: a task is looked up, not tried against each."""

    def __init__(self, playbooks: Iterable[Playbook]) -> None:
        self._root = _Node()
        self._lengths: set[int] = set()
        for playbook in playbooks:
            if playbook.contract.kind != "decision":
                for phrase in playbook.phrases:
                    self._root.add(phrase, playbook)
                    self._lengths.add(len(phrase.words))

    def match(self, task: str) -> Match | None:
        """The one playbook that does this task, inputs filled in; None where none plainly does, or two do.

        The task is the phrase, word for word and without regard to case; it may be wrapped in the courtesies of
        data/phrases.toml and end with a full stop. A slot takes one word, or a quoted stretch, that its input's
        schema accepts. Of several phrases one wins that is literal wherever another is.
        """
        found = [_best(hits) for hits in self._readings(task)]
        return found[0] if found and all(other == found[0] for other in found) else None

    def matches(self, task: str) -> frozenset[str]:
        """The names of all playbooks that have a phrase for this task, however they compare."""
        return frozenset(hit.name for hits in self._readings(task) for _, found in hits for hit in found)

    def _readings(self, task: str) -> Iterator[list[_Hit]]:
        """What fits, for each way to read the task that fits anything: as it stands, then with less around it."""
        if len(task) > MAX_TASK:
            return
        for words in _readings(WORD.findall(task)):
            if len(words) in self._lengths:
                folded = list(map(_fold, words))
                hits = [(node.weight, found) for node, values in self._root.find(words, folded)
                        if (found := node.checked(values))]  # fmt: skip
                if hits:
                    yield hits


_Hit = tuple[tuple[int, ...], list[Match]]


class _Node:
    """The phrases that agree so far, by what may come next. Slots that differ in name only are one."""

    def __init__(self, weight: tuple[int, ...] = ()) -> None:
        self.weight = weight  # How many characters of each word so far are literal.
        self.literals: dict[str, _Node] = {}
        self.slots: dict[tuple[str, ...], _Node] = {}
        self.ends: list[tuple[Playbook, tuple[str, ...]]] = []

    def add(self, phrase: Phrase, playbook: Playbook) -> None:
        node = self
        for word in phrase.words:
            weight = (*node.weight, sum(map(len, word.literals)))
            if word.slots:
                node = node.slots.setdefault(word.literals, _Node(weight))
            else:
                node = node.literals.setdefault(word.literals[0], _Node(weight))
        node.ends.append((playbook, tuple(slot for word in phrase.words for slot in word.slots)))

    def find(
        self, words: Sequence[str], folded: Sequence[str], values: tuple[str, ...] = ()
    ) -> Iterator[tuple[_Node, tuple[str, ...]]]:
        """Every end that these words lead to, with the values on the way. As deep as the longest phrase, no more."""
        at = len(self.weight)
        if at == len(words):
            if self.ends:
                yield self, values
            return
        if below := self.literals.get(folded[at]):
            yield from below.find(words, folded, values)
        if at and folded[at] in _table()["never"].get(folded[at - 1], ()):
            return
        for literals, below in self.slots.items():
            if cut := _cut(literals, words[at]):
                yield from below.find(words, folded, values + cut)

    def checked(self, values: tuple[str, ...]) -> list[Match]:
        """Matches whose inputs take these values; two different ones tell enough."""
        found: list[Match] = []
        for playbook, slots in self.ends:
            hit = _checked(playbook, dict(zip(slots, values, strict=True)))
            if hit is not None and hit not in found:
                found.append(hit)
            if len(found) > 1:
                break
        return found


def _best(hits: list[_Hit]) -> Match | None:
    """The match that all agree on, or that is more literal than every other; None where two are equally good."""
    top = tuple(map(max, zip(*(weight for weight, _ in hits), strict=True)))
    chosen = [found for weight, found in hits if weight == top] or [found for _, found in hits]
    first, *others = [match for found in chosen for match in found]
    return None if any(other != first for other in others) else first


def _is_usable(text: str, inputs: Fields) -> bool:
    try:
        read_phrase(text, inputs)
    except BadPhrase:
        return False
    return len(text) <= MAX_PHRASE and text.isprintable()


def _read_word(part: str, text: str) -> Word:
    pieces = _SLOT.split(part)
    literals, slots = tuple(map(_fold, pieces[::2])), tuple(pieces[1::2])
    if not all(literals[1:-1]):
        raise BadPhrase(f"match.phrases: {text!r} has two slots with nothing between them")
    if any(mark in literal for literal in literals for mark in '{}"`') or "'" in (part[0], part[-1]):
        raise BadPhrase(f"match.phrases: {text!r} has a stray brace or quote")
    return Word(literals, slots)


def _readings(words: list[str]) -> Iterator[list[str]]:
    """The words as they stand; without the mark at the end; without the courtesies around them."""
    table = _table()
    asks = bool(words) and words[0].casefold() in table["asks"]
    plain, polite = _unmarked(words, asks=asks), _without_courtesy(words, asks)
    yield words
    if plain != words:
        yield plain
    if polite not in (words, plain):
        yield polite


def _without_courtesy(words: list[str], asks: bool) -> list[str]:
    table = _table()
    before: tuple[str, ...] = next((said for said in table["before"] if _bare(words[: len(said)]) == said), ())
    asks = asks or "you" in before
    rest = _unmarked(words[len(before) :], asks=asks)
    while after := next((said for said in table["after"] if _bare(rest[-len(said) :]) == said), None):
        rest = _unmarked(rest[: -len(after)], asks=asks, marks=".!,")
    return rest


def _unmarked(words: list[str], *, asks: bool, marks: str = ".!") -> list[str]:
    """The words without the mark that ends their sentence, be it part of the last word or behind a quoted one."""
    if len(words) < 2 or words[-1][-1] not in (marks + "?" if asks else marks):
        return words
    return [*words[:-1], words[-1][:-1]] if len(words[-1]) > 1 else words[:-1]


def _bare(words: list[str]) -> tuple[str, ...]:
    return tuple(word.casefold().rstrip(".!,") for word in words)


@cache
def _table() -> dict[str, Any]:
    """data/phrases.toml: courtesies as words, longest first; the rest as sets, `never` as one for each word."""
    table = packaged("phrases")
    courtesies = {name: [tuple(said.split()) for said in table[name]] for name in ("before", "after")}
    longest = {name: sorted(said, key=len, reverse=True) for name, said in courtesies.items()}
    never = {word: frozenset(behind) for word, behind in table["never"].items()}
    return {**longest, **{name: frozenset(table[name]) for name in ("asks", "pointers")}, "never": never}


def _cut(literals: tuple[str, ...], word: str) -> tuple[str, ...] | None:
    """The slots' values in one word; None unless it can be read in just one way."""
    is_quoted = len(word) > 2 and word[0] == word[-1] and word[0] in "\"'`"
    word = word[1:-1] if is_quoted else word
    low, (head, *between, tail) = _fold(word), literals
    if not (low.startswith(head) and low.endswith(tail)):
        return None
    rest, values = word[len(head) : len(word) - len(tail)], []
    for literal in between:
        if _fold(rest).count(literal) != 1:
            return None
        at = _fold(rest).index(literal)
        values.append(rest[:at])
        rest = rest[at + len(literal) :]
    values.append(rest)
    return tuple(values) if all(values) and (is_quoted or all(map(_is_plain, values))) else None


def _fold(text: str) -> str:
    """Without regard to case, and as long as before: a place in it is one in the text."""
    low = text.casefold()
    return low if len(low) == len(text) else "".join(min(char.casefold(), char, key=len) for char in text)


def _is_plain(value: str) -> bool:
    """Whether a value needs no quotation marks: it ends no clause, opens no quotation, and names its thing itself."""
    if value.casefold() in _table()["pointers"] or any(mark in value for mark in '"`'):
        return False
    return "'" not in (value[0], value[-1]) and (value[-1] not in ".,;:!?" or value in (".", ".."))


def _checked(playbook: Playbook, values: dict[str, str]) -> Match | None:
    typed = {name: playbook.inputs.from_text(name, text) for name, text in values.items()}
    kind: Literal["script", "skill"] = "skill" if playbook.contract.kind == "skill" else "script"
    try:
        return Match(name=playbook.name, inputs=playbook.inputs.check(typed), kind=kind)
    except ValueError:
        return None
