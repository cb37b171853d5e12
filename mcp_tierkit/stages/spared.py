"""What the drafts of a task spared its caller: everything that they changed and that stands, each line once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mcp_tierkit.diffs import patch
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.journal import record
from mcp_tierkit.kit import Kit
from mcp_tierkit.receipts import NOTHING_SAVED, Alone, alone
from mcp_tierkit.stages.plan import tokens_in
from mcp_tierkit.tokens import count, estimate
from mcp_tierkit.types import GIVEN, Draft, Task

Line = tuple[str, str]
"""The file it stands in, and its text."""


def spared(kit: Kit, task: Task, drafts: Sequence[Draft]) -> Alone | None:
    """The caller's own work for the task's change; nothing where its newest draft proved nothing.

    Two applied drafts are one change: what the second took out again, or put back as it was, is not counted. One that
    was taken back is no part of it, nor is a patch that was left `ready` before, since nobody says what became of it.
    None where the change cannot be read any more. Blocks while it reads.
    """
    if drafts[-1].status not in GIVEN:
        return NOTHING_SAVED
    try:
        changes = _changes(kit, task.task_id, drafts[-1])
        if not changes:
            return NOTHING_SAVED
        return alone(
            file_tokens=tokens_in(kit, task.files) or 0,
            context_tokens=tokens_in(kit, task.context) or 0,
            changed_tokens=count(joined(changes)).tokens,
            check_tokens=sum(_told_by_checks(drafts).values()),
            files=len({path for change in changes for path, _, _ in _lines(change)}),
        )
    except (TierkitError, OSError):
        return None


def joined(patches: Sequence[str]) -> str:
    """What somebody would have had to type to come where these patches lead, one after the other."""
    own: list[Line] = []
    gone = Counter[Line]()
    for text in patches:
        marked = list(_lines(text))
        removed = Counter((path, line) for path, sign, line in marked if sign == "-")
        own = list(_less(own, removed))
        own += _less(((path, line) for path, sign, line in marked if sign == "+"), gone)
        gone += removed
    return "".join(f"{line}\n" for _, line in own)


def _less(lines: Iterable[Line], taken: Counter[Line]) -> Iterator[Line]:
    """The lines without those in `taken`, each of which takes one away and is used up."""
    for line in lines:
        if taken[line]:
            taken[line] -= 1
        else:
            yield line


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    """File, sign and text of each line that a patch adds or removes."""
    path, is_in_hunk = "", False
    for line in text.split("\n"):
        if line.startswith("diff --git "):
            path, is_in_hunk = line, False
        elif line.startswith("@@ "):
            is_in_hunk = True
        elif is_in_hunk and line[:1] in ("+", "-"):
            yield path, line[0], line[1:]


def _changes(kit: Kit, task_id: str, newest: Draft) -> list[str]:
    """A patch for each change of the task that stands, oldest first: by its undo records, else the draft's own."""
    home = record.home_of(kit.config.state_dir, kit.workspace.root)
    stand = [_recorded(home / "undo" / name) for name in reversed(record.of_task(home, task_id))]
    if (newest.status == "ready" or not stand) and newest.patch is not None:
        return [*stand, kit.workspace.text(newest.patch)]
    return stand


def _recorded(folder: Path) -> str:
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    for at, step in enumerate(record.load(folder).steps):
        for word, texts, state in (("before", before, step.before), ("after", after, step.after)):
            data = None if state.digest is None else record.kept(folder / f"{word}.{at}", state.digest)
            texts[step.path] = None if data is None else data.decode("utf8", "replace")
    return patch(before, after)


def _told_by_checks(drafts: Sequence[Draft]) -> dict[str, int]:
    """The tokens that each check of what was handed over printed: one that ran for two drafts is run once alone."""
    told: dict[str, int] = {}
    for draft in drafts:
        for result in draft.checks if draft.status in GIVEN else ():
            told[result.name] = max(told.get(result.name, 0), estimate(result.digest))
    return told
