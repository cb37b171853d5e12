"""All transcripts of this machine, read by two processes where there is much to read."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from sys import intern
from typing import NamedTuple

from mcp_tierkit.audit.sheet import Sheet
from mcp_tierkit.transcripts import claude, codex, gemini, opencode, pi
from mcp_tierkit.transcripts.files import Found, Root, find, roots
from mcp_tierkit.transcripts.taker import printable

WORKERS = 2
SMALL = 24_000_000
"""Bytes that one process reads in the time that it takes to start two."""
_BATCH = 8_000_000
_READERS = {
    "Claude Code": claude.read, "Codex": codex.read, "Gemini CLI": gemini.read, "opencode": opencode.read,
    "Pi": pi.read,
}  # fmt: skip
_DAY_S = 86_400
FAILED = "failed: "
"""How a count begins that is a fault of ours."""

Step = Callable[[int, int], None]


class Reading(NamedTuple):
    """Sheets in the order of their paths, what was left out and why, and where was looked."""

    sheets: list[Sheet]
    counts: Counter[str]
    roots: tuple[Root, ...]
    files: int
    bytes: int


def read_all(env: Mapping[str, str], *, since: float = 0, step: Step | None = None) -> Reading:
    """Every transcript that changed after `since`, less a day. `step` hears of bytes read, and of all there are."""
    places, counts = roots(env), Counter[str]()
    found = find(places, counts, since=max(since - _DAY_S, 0))
    total, done = sum(file.size for file in found), 0
    sheets: list[Sheet] = []
    for sheet, size in _sheets(found, total):
        done += size
        if step:
            step(done, total)
        counts.update(dict(sheet.counts))
        if sheet.calls or sheet.prompts:
            # The names are the same in thousands of files, and the counts are told.
            sheets.append(sheet._replace(client=intern(sheet.client), project=intern(sheet.project), counts=()))
        else:
            counts[_nothing(sheet)] += 1
    sheets.sort(key=lambda sheet: sheet.path)
    return Reading(sheets, counts, places, len(found), total)


def read_one(found: Found) -> Sheet:
    """One file; where it cannot be read, a sheet that only says so. A fault of ours costs its file and is named."""
    try:
        return _READERS[found.client](found)
    except OSError:
        why = "unreadable"
    except Exception as error:
        why = f"{FAILED}{type(error).__name__} in {printable(found.path.name)}"
    return Sheet(str(found.path), found.client, "", "", counts=((why, 1),))


def _nothing(sheet: Sheet) -> str:
    """Why a file says nothing of any call."""
    counts = dict(sheet.counts)
    if (
        counts.get("unreadable")
        or any(name.startswith(FAILED) for name in counts)
        or counts.get("known")
        or not counts.get("lines")
    ):
        return "empty"
    return "foreign"


def _sheets(found: Sequence[Found], total: int) -> Iterator[tuple[Sheet, int]]:
    if total < SMALL or len(found) < 2:
        yield from ((read_one(file), file.size) for file in found)
        return
    left = {file.path: file for file in found}
    try:
        for sheets in _shared(_batches(found)):
            for sheet, path in sheets:
                yield sheet, left.pop(path).size
    except BrokenProcessPool:  # A process was killed: what it had not told is read here.
        yield from ((read_one(file), file.size) for file in list(left.values()))


def _shared(batches: Iterable[list[Found]]) -> Iterator[list[tuple[Sheet, Path]]]:
    """Batches as they are done, few of them under way at once, so that answers do not pile up."""
    waiting = iter(batches)
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way: set[Future[list[tuple[Sheet, Path]]]] = set()
        while True:
            for batch in waiting:
                under_way.add(pool.submit(_read_batch, batch))
                if len(under_way) > WORKERS:
                    break
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _read_batch(batch: list[Found]) -> list[tuple[Sheet, Path]]:
    return [(read_one(file), file.path) for file in batch]


def _batches(found: Sequence[Found]) -> Iterator[list[Found]]:
    """The large files first, one by one, then small ones together: the last batch is a short one."""
    batch: list[Found] = []
    size = 0
    for file in sorted(found, key=lambda file: (-file.size, str(file.path))):
        batch.append(file)
        size += file.size
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
