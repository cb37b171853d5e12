"""Tasks that were solved again and again: the same words around other values, and the same kind of work."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import combinations
from pathlib import PurePosixPath
from statistics import median
from typing import NamedTuple

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import NanoUsd, Record

MAX_GOAL = 1000
MAX_WORDS = 40
MAX_PHRASE = 200
"""Characters."""
MAX_WORDS_OPEN = 14
"""Longer goals may differ in one word only: the pairs of their words are too many to compare."""
EXAMPLE_CHARS = 200
OPEN = "value"

WORD = re.compile(r'"[^"]*"|`[^`]*`|\'[^\']*\'|\S+')
"""A word of a task, for the phrases of playbooks too. A quoted stretch is one, so that a value may hold spaces."""

_AROUND = re.compile(r"([(\[<]*)(.*?)([)\]>.,;:!?]*)", re.DOTALL)
_KINDS = {
    "url": r"[a-z][a-z0-9+.-]*://\S+",
    "date": r"\d{4}-\d{2}(-\d{2})?|\d{4}-[Ww]\d{2}",
    "version": r"v\d+(\.\d+){0,3}([-+][\w.]+)?|\d+(\.\d+){2,3}([-+][\w.]+)?",
    "issue": r"#\d+|[A-Z][A-Z0-9]+-\d+",
    "number": r"[-+$€£]?\d[\d,_]*(\.\d+)?(%|[a-zA-Z]{1,2})?",
    "ref": r"HEAD([~^]\d*)*|(?=\S*\d)(?=\S*[a-f])[0-9a-f]{7,40}|[\w./~^-]+\.\.\.?[\w./~^-]+",
    "path": r"[\w.@*-]*/[\w./@*-]*\w[\w./@*-]*|[\w*-]*\.?[\w-]+\.[A-Za-z][A-Za-z0-9]{0,4}",
    "name": r"\w+\(\)|\w*[^\W_]_\w+|_\w+|[a-z]+[A-Z]\w*|[A-Z][a-z]+[A-Z]\w*",
}
_KIND = {kind: re.compile(pattern) for kind, pattern in _KINDS.items()}


class Solved(Record):
    """A task whose change was applied, as far as it tells whether it comes again."""

    task_id: str
    at: str
    goal: str
    files: tuple[str, ...] = ()
    checks: tuple[tuple[str, ...], ...] = ()
    calls: int = 0
    cost_nanousd: NanoUsd | None = None


class Repeat(Record):
    """A job that was solved several times. What of its cost is not known is counted, not guessed."""

    phrase: str | None
    name: str
    count: int
    task_ids: tuple[str, ...]
    first_at: str
    last_at: str
    example: str
    total_nanousd: NanoUsd
    median_nanousd: NanoUsd | None
    unknown_costs: int
    playbook: str | None = None


class _Part(NamedTuple):
    """A word of a template: punctuation around a literal, or around a value of some kind."""

    head: str
    literal: str
    kind: str
    tail: str


class _Read(NamedTuple):
    """A task as a template and the values in it; a value in quotation marks keeps them."""

    task: Solved
    parts: tuple[_Part, ...]
    values: tuple[str, ...]


_Shape = tuple[tuple[str, ...], tuple[str, ...]]
_Template = tuple[_Shape, tuple[_Part, ...]]
_Alike = dict[_Template, list[_Read]]


def find_repeats(tasks: Iterable[Solved], *, least: int = 3, taken: Iterable[str] = ()) -> tuple[Repeat, ...]:
    """Jobs that were solved `least` times or more, the most frequent first. The same tasks give the same answer.

    Two tasks are one job if their goals are the same words around other values, up to two words that differ, and
    their files are of the same kinds and the same programs checked them. Each task counts once. `taken` are names
    that a proposed playbook cannot have.
    """
    alike: _Alike = {}
    for task in sorted(tasks, key=lambda task: (task.at, task.task_id), reverse=True):
        if read := _read(task):
            alike.setdefault((_shape(task), read.parts), []).append(read)
    while len(merged := _merged(alike, least)) < len(alike):
        alike = merged
    names, found = set(taken), list[Repeat]()
    for (_, parts), reads in sorted(alike.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(reads) >= least and _is_one_job(parts):
            found.append(_repeat(parts, reads, names))
            names.add(found[-1].name)
    return tuple(found)


def _merged(alike: _Alike, least: int) -> _Alike:
    """The same tasks with templates taken together that differ in a word or two, where enough tasks come of it."""
    merged, left = dict[_Template, list[_Read]](), dict(alike)
    for opened, templates in _candidates(alike, least):
        members = [template for template in templates if template in left]
        if len(members) > 1 and sum(len(left[template]) for template in members) >= least:
            merged.setdefault(opened, []).extend(read for template in members for read in left.pop(template))
    for template, reads in left.items():
        merged.setdefault(template, []).extend(reads)
    return merged


def _candidates(alike: _Alike, least: int) -> list[tuple[_Template, list[_Template]]]:
    """What templates have in common that differ in a word or two, that of most tasks first, then what leaves most said.

    Sums of hashes stand for what they have in common until it is known to be worth writing down.
    """
    sizes = Counter[int]()
    for template, reads in alike.items():
        for key, _ in _openings(template):
            sizes[key] += len(reads)
    found: dict[_Template, dict[_Template, None]] = defaultdict(dict)
    for template in alike:
        for key, open_at in _openings(template):
            if sizes[key] >= least and _is_one_job(opened := _opened(template[1], open_at)):
                found[template[0], opened][template] = None
    sized = [(sum(len(alike[one]) for one in templates), opened) for opened, templates in found.items()]
    sized.sort(key=lambda one: (-one[0], sum(part.kind == OPEN for part in one[1][1]), one[1]))
    return [(opened, list(found[opened])) for _, opened in sized]


def _openings(template: _Template) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Positions that may differ, with a number for what remains. The first word and small words always remain."""
    shape, parts = template
    closed = _words()["closed"]
    may = [at for at, part in enumerate(parts) if at and (part.kind or part.literal not in closed)]
    less = {at: hash((at, parts[at])) - hash((at, _opened(parts[at : at + 1], (0,)))) for at in may}
    whole = hash((shape, len(parts))) + sum(hash((at, part)) for at, part in enumerate(parts))
    for at in may:
        yield whole - less[at], (at,)
    if len(parts) <= MAX_WORDS_OPEN:
        for one, other in combinations(may, 2):
            yield whole - less[one] - less[other], (one, other)


def _opened(parts: tuple[_Part, ...], open_at: tuple[int, ...]) -> tuple[_Part, ...]:
    return tuple(part._replace(literal="", kind=OPEN) if at in open_at else part for at, part in enumerate(parts))


def _is_one_job(parts: tuple[_Part, ...]) -> bool:
    """Whether enough is said by what stays the same. A goal without any value is compared letter by letter."""
    words = [part.literal for part in parts if part.literal]
    if len(words) == len(parts):
        return True
    telling = [word for word in words if word not in _words()["closed"] and word not in _words()["vague"]]
    is_open = any(part.kind == OPEN for part in parts)
    return bool(telling) and len(words) >= 2 and (not is_open or 2 * len(words) >= len(parts))


def _repeat(parts: tuple[_Part, ...], reads: Sequence[_Read], taken: set[str]) -> Repeat:
    reads = sorted(reads, key=lambda read: (read.task.at, read.task.task_id), reverse=True)
    tasks = [read.task for read in reads]
    known = [task.cost_nanousd for task in tasks if task.cost_nanousd is not None]
    words = list(_phrase(parts, reads))
    phrase = " ".join(words)
    return Repeat(
        phrase=phrase if len(phrase) <= MAX_PHRASE else None,
        name=_name(words, taken),
        count=len(tasks),
        task_ids=tuple(task.task_id for task in tasks),
        first_at=tasks[-1].at,
        last_at=tasks[0].at,
        example=" ".join(tasks[0].goal.split())[:EXAMPLE_CHARS],
        total_nanousd=sum(known),
        median_nanousd=round(median(known)) if known else None,
        unknown_costs=len(tasks) - len(known),
    )


def _phrase(parts: tuple[_Part, ...], reads: Sequence[_Read]) -> Iterator[str]:
    """The words of a phrase that matches every one of these goals: a slot where their values differ."""
    seen = Counter[str]()
    for part, values in zip(parts, zip(*(read.values for read in reads), strict=True), strict=True):
        if part.literal or (len(set(values)) == 1 and _is_bare(values[0])):
            yield part.head + (part.literal or values[0].lower()) + part.tail
            continue
        seen[part.kind] += 1
        name = part.kind if seen[part.kind] == 1 else f"{part.kind}_{seen[part.kind]}"
        yield f"{part.head}{{{name}}}{part.tail}"


def _name(words: Sequence[str], taken: set[str]) -> str:
    """A free name for a playbook, from the words that tell something."""
    skipped = _words()["closed"]
    told = [word for word in words if "{" not in word and word.strip(".,;:!?") not in skipped]
    name = "-".join(re.findall(r"[a-z0-9]+", " ".join(told)))[:48].strip("-") or "repeated-task"
    return free_name(name, taken)


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or the first of its kind with a number that is not taken."""
    return next(free for n in range(1, len(taken) + 2) if (free := name if n == 1 else f"{name}-{n}") not in taken)


def _read(task: Solved) -> _Read | None:
    """The goal as a template; None for one that is too long to be a phrase, or has lost a secret."""
    goal = task.goal.strip()
    words = WORD.findall(goal) if len(goal) <= MAX_GOAL and "[redacted:" not in goal else []
    if words and words[-1][-1] in ".!":  # The end of a sentence is no part of it.
        words[-1:] = [words[-1][:-1]] if len(words[-1]) > 1 else []
    if not 0 < len(words) <= MAX_WORDS:
        return None
    parts, values = zip(*map(_part, words), strict=True)
    return _Read(task, parts, values)


@lru_cache(maxsize=10_000)
def _part(word: str) -> tuple[_Part, str]:
    """A word as it stands in a template, and the value in it."""
    if word.isalpha() and word.islower():
        return _Part("", word, "", ""), word
    if len(word) > 2 and word[0] == word[-1] and word[0] in "\"'`":
        return _Part("", "", _kind(word[1:-1]) or "text", ""), word
    around = _AROUND.fullmatch(word)
    head, core, tail = around.groups() if around else ("", word, "")
    if core.endswith("(") and tail.startswith(")"):  # A call, as in total().
        core, tail = core + ")", tail[1:]
    if not core or not _is_bare(word):
        return _Part("", "", "text", ""), word
    kind = _kind(core)
    return _Part(head, "" if kind else core.lower(), kind, tail), core


def _is_bare(value: str) -> bool:
    """Whether a phrase can hold it as it is."""
    return not any(mark in value for mark in '{}"`') and "'" not in (value[0], value[-1])


def _kind(value: str) -> str:
    """What kind of value it is; empty for a word like any other."""
    return next((kind for kind, pattern in _KIND.items() if pattern.fullmatch(value)), "")


def _shape(task: Solved) -> _Shape:
    """The kinds of files and the programs that checked them."""
    named = [PurePosixPath(path) for path in task.files if not path.startswith("!")]
    kinds = {path.suffix or path.name for path in named}
    return tuple(sorted(kinds)), tuple(sorted({_program(argv) for argv in task.checks}))


def _program(argv: tuple[str, ...]) -> str:
    name = PurePosixPath(argv[0]).name
    rest = [word for word in argv[1:] if not word.startswith("-")]
    if name.startswith("python") and "-m" in argv[1:-1]:
        return argv[argv.index("-m") + 1]
    return f"{name} {rest[0]}" if rest and name in _words()["runners"] else name


@cache
def _words() -> dict[str, frozenset[str]]:
    return {name: frozenset(words) for name, words in packaged("repeats").items()}
