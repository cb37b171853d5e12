"""What a run may change of what it did change, and how that reaches the project: all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import anyio

from mcp_tierkit import journal
from mcp_tierkit.diffs import patch
from mcp_tierkit.errors import Conflict, PathRefused, TierkitError
from mcp_tierkit.playbook.load import Playbook
from mcp_tierkit.playbook.result import listed
from mcp_tierkit.playbook.run import Outcome
from mcp_tierkit.playbook.tree import moment, moved
from mcp_tierkit.scope import guarded
from mcp_tierkit.types import Changes, PlaybookStatus, Record
from mcp_tierkit.workspace import Workspace


class Ending(Record):
    """What became of a run and its changes."""

    status: PlaybookStatus
    changed: tuple[str, ...] = ()
    diff: str | None = None
    note: str = ""


async def conclude(
    playbook: Playbook, outcome: Outcome, ws: Workspace, state_dir: Path, task_id: str, *, dry_run: bool = False
) -> Ending:
    """Check what a run changed against its contract, write the diff down, and apply it unless `dry_run`."""
    changes = outcome.changes
    if outcome.status != "ok" or playbook.contract.effects.read_only:
        return Ending(status=outcome.status)
    if strays := await anyio.to_thread.run_sync(outside, playbook, changes, ws):
        return Ending(status="write_outside", note=f"not among its writes: {listed(strays)}")
    diff = await anyio.to_thread.run_sync(_write_diff, ws, task_id, changes) if changes else None
    try:
        if not dry_run:
            await apply(playbook, outcome, ws, state_dir, task_id)
    except (Conflict, PathRefused) as moved_away:
        return Ending(status="conflict", diff=diff, note=moved_away.what)
    return Ending(status="ok", changed=tuple(sorted(changes)), diff=diff)


def outside(playbook: Playbook, changes: Changes, ws: Workspace) -> tuple[str, ...]:
    """The changed paths that the contract's `writes` does not name, or that nothing may write."""
    from pathspec import GitIgnoreSpec

    allowed = GitIgnoreSpec.from_lines(playbook.contract.effects.writes)
    return tuple(path for path in sorted(changes) if not allowed.match_file(path) or _is_closed(path, ws))


async def apply(playbook: Playbook, outcome: Outcome, ws: Workspace, state_dir: Path, task_id: str) -> None:
    """Make the changes in the project, with an undo record.

    Raises Conflict, with nothing changed, where a file that the playbook reads or writes moved since it started.
    """
    async with journal.tree_lock(state_dir, ws.root):
        await anyio.to_thread.run_sync(_apply_held, playbook, outcome, ws, state_dir, task_id)


def describe(changes: Changes, ws: Workspace) -> str:
    """The changes as one patch; a file that is not text is only named."""
    before, after, other = {}, {}, []
    for path, content in sorted(changes.items()):
        old, new = _text(_old(ws, path)), _text(content.data if content else None)
        if isinstance(old, bytes) or isinstance(new, bytes):
            other.append(f"diff --git a/{path} b/{path}\nBinary files a/{path} and b/{path} differ\n")
            continue
        before[path], after[path] = old, new
    return patch(before, after) + "".join(other)


def _write_diff(ws: Workspace, task_id: str, changes: Changes) -> str:
    return ws.write_private(f"{task_id}/playbook.diff", describe(changes, ws).encode())


def _apply_held(playbook: Playbook, outcome: Outcome, ws: Workspace, state_dir: Path, task_id: str) -> None:
    journal.recover(ws, state_dir)
    # Digests first: what changes after this line is caught by the journal, what changed before it by the moment.
    expected = {path: ws.digest(path) for path in outcome.changes}
    if gone := _moved_meanwhile(playbook, outcome, ws):
        raise Conflict(f"{gone[0]} changed while the playbook ran. Nothing was applied.", next_step="Run it again.")
    # Nothing left to change, when somebody else has just made the same change, is a conflict all the same.
    if outcome.changes:
        journal.apply(ws, state_dir, task_id, outcome.changes, expected)


def _moved_meanwhile(playbook: Playbook, outcome: Outcome, ws: Workspace) -> tuple[str, ...]:
    from pathspec import GitIgnoreSpec

    effects = playbook.contract.effects
    watched = GitIgnoreSpec.from_lines((*effects.reads, *effects.writes))
    paths = moved(outcome.before, moment(ws.root))
    return tuple(path for path in paths if path in outcome.changes or watched.match_file(path))


def _is_closed(path: str, ws: Workspace) -> bool:
    try:
        return ws.clean(path) != path or ws.denied(path) or guarded(path, (), True) is not None
    except TierkitError:
        return True


def _old(ws: Workspace, path: str) -> bytes | None:
    try:
        return ws.read(path) if ws.exists(path) else None
    except PathRefused:
        return b"\0"  # Too large to be shown, or no file any more: named only.


def _text(data: bytes | None) -> str | bytes | None:
    """The text that git would show; bytes where it would show none."""
    try:
        return data if data is None or b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return data
