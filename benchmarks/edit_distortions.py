"""How the edit reader takes distorted replies: right, refused or wrong, for each form and each distortion.

The edits are recorded ones, where the evaluation data lies beside the checkout. A second part mutilates replies at
random and holds that nothing but a refusal is raised, no path leads outside and no input changes.

    python -m benchmarks.edit_distortions [--seed N] [--mutations N] [--json]
"""

from __future__ import annotations

import argparse
import json
import lzma
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from benchmarks.distortions import (
    CONTINUATIONS,
    DISTORTIONS,
    FORMS,
    LOSES_BYTES,
    Case,
    Files,
    mutated,
    opened,
    write,
)
from mcp_tierkit.edits import apply_reply, join_reply, read_reply
from mcp_tierkit.errors import EditRefused

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "eval" / "edits_dev.jsonl.xz"
MUTATIONS = 100_000
EACH = 10
_CHUNK = 250


class Row(NamedTuple):
    """Files before and after an edit, and what was said of it; `after` is None where that is not known for certain."""

    id: str
    output: str
    before: Files
    after: Files | None


class Outcome(NamedTuple):
    form: str
    kind: str
    ending: str
    row: str
    reply: str


@dataclass
class Mutilated:
    """What became of mutilated replies; `faults` are those that broke a promise."""

    endings: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, str]] = field(default_factory=list)


def recorded() -> list[Row]:
    """The recorded replies, empty where they are not at hand."""
    if not RECORDED.is_file():
        return []
    with lzma.open(RECORDED, "rt", encoding="utf8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Row(row["id"], row["output"], row["before"], row["after"] if row["tier"] == "gold" else None) for row in rows
    ]


def distorted(rows: Sequence[Row], seed: int, each: int = EACH) -> Iterator[Outcome]:
    """`each` distortions, chosen by `seed`, of every edit that is known, in every form."""
    for row in rows:
        for form in FORMS if row.after is not None else ():
            chance = random.Random(f"{seed} {row.id} {form}")
            case = write(form, row.before, row.after or {})
            usable = [(kind, text) for kind, distort in DISTORTIONS.items() if (text := distort(case, chance))]
            for kind, text in chance.sample(usable, min(each, len(usable))):
                yield Outcome(form, kind, ending(case, text, loses_bytes=kind in LOSES_BYTES), row.id, text)


def continued(rows: Sequence[Row], seed: int, each: int = EACH) -> Iterator[Outcome]:
    """Every known edit, cut off anywhere and continued in `each` ways."""
    for row in rows:
        for form in FORMS if row.after is not None else ():
            chance = random.Random(f"{seed} {row.id} {form} cut")
            case = write(form, row.before, row.after or {})
            for kind in chance.choices(tuple(CONTINUATIONS), k=each):
                at = chance.randrange(1, len(case.text))
                joined = join_reply(case.text[:at], CONTINUATIONS[kind](case.text, at, opened(case, at), chance))
                yield Outcome(form, kind, ending(case, joined, loses_bytes=kind == "crlf"), row.id, joined)


def ending(case: Case, reply: str, *, loses_bytes: bool) -> str:
    """`right`, `refused` or `WRONG`; where bytes at the ends of lines are lost, these are not compared."""
    try:
        got = apply_reply(reply, dict(case.before))
    except EditRefused:
        return "refused"
    full = {**case.before, **got}
    told = _trimmed if loses_bytes else _same
    is_right = full.keys() == case.after.keys() and all(
        told(full[path]) == told(case.after[path]) for path in case.after
    )
    return "right" if is_right else "WRONG"


def _same(text: str | None) -> str | None:
    # Neither a block nor a whole file can say that a final newline comes or goes.
    return text and text.removesuffix("\n")


def _trimmed(text: str | None) -> str | None:
    return text and "\n".join(line.rstrip() for line in text.expandtabs(4).rstrip().replace("\r\n", "\n").split("\n"))


def mutilate(rows: Sequence[Row], mutations: int, seed: int, told: Callable[[int], None] = lambda _: None) -> Mutilated:
    """Replies mutilated at random, on all cores; `told` hears how many are done."""
    total = Mutilated()
    chunks = [(seed, first, min(_CHUNK, mutations - first)) for first in range(0, mutations, _CHUNK)]
    # Spawned, since a forked copy of a process with threads may hang.
    with multiprocessing.get_context("spawn").Pool(initializer=_take_rows, initargs=(rows,)) as pool:
        for at, part in enumerate(pool.imap_unordered(_mutilate_some, chunks), 1):
            total.endings += part.endings
            total.faults += part.faults
            told(min(at * _CHUNK, mutations))
    return total


_SOURCES: list[tuple[Row, str]] = []


def _take_rows(rows: Sequence[Row]) -> None:
    _SOURCES[:] = sources(rows)


def sources(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Every reply as it was given, and the known edits in the other forms."""
    found = [(row, row.output) for row in rows]
    for row in rows:
        if row.after is not None:
            texts = [write(form, row.before, row.after).text for form in FORMS]
            chance = random.Random(row.id)
            case = write("diff", row.before, row.after)
            found += [(row, text) for text in (*texts, DISTORTIONS["patch envelope"](case, chance)) if text]
    return found


def _mutilate_some(chunk: tuple[int, int, int]) -> Mutilated:
    seed, first, count = chunk
    return mutilated_some(_SOURCES, random.Random(f"{seed} {first}"), count)


def mutilated_some(sources: Sequence[tuple[Row, str]], chance: random.Random, count: int) -> Mutilated:
    """`count` mutilated replies held against the promises of the reader."""
    found = Mutilated()
    for number in range(count):
        row, reply = chance.choice(sources)
        reply = mutated(reply, chance.choice(sources)[1], tuple(row.before) or ("a.py",), chance)
        kind, fault = _held(reply, row.before, is_thorough=number % 8 == 0)
        found.endings[kind] += 1
        if fault:
            found.faults.append((fault, reply))
    return found


def _held(reply: str, before: Files, *, is_thorough: bool) -> tuple[str, str | None]:
    """How a reply ends, and which promise was broken."""
    files = dict(before)
    try:
        got = apply_reply(reply, files)
    except EditRefused:
        got = None
    except Exception:
        return "crashed", traceback.format_exc(limit=4)
    if files != before:
        return "crashed", "the input was changed"
    if outside := [path for path in got or {} if not is_inside(path)]:
        return "outside", f"paths outside: {outside!r}"
    if is_thorough and (fault := _unlike(read_reply(reply, files), got)):
        return "crashed", fault
    return ("refused" if got is None else "changed" if got else "nothing new"), None


def _unlike(reading: Any, got: dict[str, str | None] | None) -> str | None:
    """How the two doors differ: one refuses all where the other refuses a part."""
    if got is None:
        return None if reading.refused or reading.question else "refused without a refusal"
    if reading.refused or reading.changes != got:
        return "applied in part"
    return None if all(is_inside(path) for path in reading.changes) else "paths outside"


def is_inside(path: str) -> bool:
    """Whether a path is a plain one below the root, by other means than the reader's own."""
    plain = not any(char in path for char in "\\\0\r\n:\u202e") and path == str(PurePosixPath(path))
    return plain and path not in ("", ".") and ".." not in path.split("/") and not path.startswith(("/", "~", "-"))


def table(outcomes: Iterable[Outcome]) -> dict[str, dict[str, dict[str, int]]]:
    """Form, then kind, then how many ended so."""
    counted = Counter((each.form, each.kind, each.ending) for each in outcomes)
    forms: dict[str, dict[str, dict[str, int]]] = {}
    for (form, kind, end), number in sorted(counted.items()):
        for row in ("all", kind):
            ends = forms.setdefault(form, {}).setdefault(row, {"right": 0, "refused": 0, "WRONG": 0})
            ends[end] += number
    return forms


def shown(title: str, forms: dict[str, dict[str, dict[str, int]]]) -> str:
    lines = [f"{title:42} {'right':>7} {'refused':>8} {'WRONG':>6}  applied"]
    for form, kinds in forms.items():
        for kind, ends in kinds.items():
            name = form if kind == "all" else f"  {kind}"
            share = ends["right"] / sum(ends.values())
            lines.append(f"{name:42} {ends['right']:7} {ends['refused']:8} {ends['WRONG']:6} {share:8.1%}")
    return "\n".join(lines)


def main() -> int:
    options = _options()
    rows = recorded()
    if not rows:
        print("The recorded replies (edits_dev.jsonl.xz) are not beside this checkout: nothing was measured.")
        return 0
    parts = {
        "distortions": list(distorted(rows, options.seed)),
        "continuations": list(continued(rows, options.seed)),
    }
    started = time.monotonic()
    hurt = mutilate(rows, options.mutations, options.seed, partial(_progress, options.mutations))
    took_s = time.monotonic() - started
    wrong = [each for part in parts.values() for each in part if each.ending == "WRONG"]
    if options.json:
        told = {name: table(part) for name, part in parts.items()}
        print(json.dumps({**told, "mutations": hurt.endings, "faults": len(hurt.faults), "took_s": round(took_s)}))
    else:
        for name, part in parts.items():
            print(shown(name, table(part)), end="\n\n")
        print(
            f"{options.mutations} mutilated replies in {took_s:.0f} s: {dict(hurt.endings)}, {len(hurt.faults)} faults"
        )
    for each in wrong[: options.show]:
        print(f"--- WRONG {each.row} {each.form} {each.kind}\n{each.reply}", file=sys.stderr)
    for fault, reply in hurt.faults[: options.show]:
        print(f"--- FAULT {fault}\n{reply!r}", file=sys.stderr)
    return 1 if wrong or hurt.faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edit_distortions", description=__doc__)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--mutations", type=int, default=MUTATIONS, help=f"mutilated replies, {MUTATIONS} unless told")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--show", type=int, default=3, help="how many wrong writes and faults to print in full")
    return parser.parse_args()


def _progress(total: int, done: int) -> None:
    if sys.stderr.isatty() or done % 10_000 == 0 or done == total:
        print(f"\r{done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
