"""How much of a delegated change was written again within seven days: by its own lines, in the tree and in git."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

from mcp_tierkit.errors import TierkitError
from mcp_tierkit.git import git, is_its_own
from mcp_tierkit.journal import record
from mcp_tierkit.types import Record
from mcp_tierkit.workspace import Workspace

WITHIN = timedelta(days=7)
MOST_LINES = 20_000
MOST_VERSIONS = 200
MOST_COMPARED = 400_000
"""Lines of one file, times the commits that touched it: each is compared with each."""
MOST_COMMITS = 5000
MOST_BRANCHES = 20
MOST_NEW_FILES = 200
TELLING = 10
"""Letters from which on a line that turns up elsewhere in its file is taken for the same one, moved."""
_LOG = (
    "log", "--topo-order", "--reverse", f"--max-count={MOST_COMMITS}", "--no-show-signature", "--no-ext-diff",
    "--no-textconv", "--diff-merges=first-parent", "-M", "--relative", "--name-status", "-z", "--format=%x01%H %at %ct",
)  # fmt: skip


class Measured(Record):
    """Lines that the task's change brought in, and those rewritten since: all None where `reason` says why."""

    changed_lines: int | None = None
    rewritten_lines: int | None = None
    reason: str | None = None
    is_final: bool = False


class Part(NamedTuple):
    """One file of a change: its lines as the task left them, and which of these are the task's own."""

    path: str
    lines: tuple[str, ...]
    own: frozenset[int]


class Version(NamedTuple):
    """A file as a commit left it; None for one that it removed."""

    at: datetime
    text: str | None


class Unknown(Exception):
    """Why the lines cannot be counted, in a sentence."""


def measure(
    ws: Workspace, state: Path, task_id: str, *, at: datetime, now: datetime, patch: str | None = None,
    is_applied: bool = True,
) -> Measured:  # fmt: skip
    """Count the lines of a task's change that were rewritten within seven days after `at`, when it was handed over.

    A line counts as rewritten when the file's version of that day, committed or not, no longer has it, blanks and
    moves within the file aside. The undo record says which lines they are, else the `patch`. Changes nothing, and
    runs no program that the repository names.
    """
    try:
        parts = _applied(ws, state, task_id) or _patched(ws, patch, is_needed=not is_applied)
        changed = sum(len(part.own) for part in parts)
        tree = _tree_with(ws, parts, at)
        if not is_applied and not _is_seen(tree, parts):
            raise Unknown("Its patch was not applied, as far as can be seen.")
        rewritten = sum(_rewritten(tree, part, at + WITHIN, now) for part in parts)
    except Unknown as unknown:
        return Measured(reason=str(unknown))
    except (TierkitError, OSError):
        return Measured(reason="The record of its change cannot be read.")
    return Measured(changed_lines=changed, rewritten_lines=rewritten, is_final=now > at + WITHIN)


# --- which lines they are


def _applied(ws: Workspace, state: Path, task_id: str) -> list[Part]:
    """The files as the task found them first and left them last, from its undo records; none where there are none."""
    home = record.home_of(state, ws.root)
    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}
    for name in reversed(record.of_task(home, task_id)):
        folder = home / "undo" / name
        for number, step in enumerate(record.load(folder).steps):
            for word, kept in (("before", before), ("after", after)):
                if word == "after" or step.path not in before:
                    digest = getattr(step, word).digest
                    kept[step.path] = record.kept(folder / f"{word}.{number}", digest) if digest else b""
    return [_part(path, before[path], data) for path, data in after.items() if b"\0" not in data]


def _part(path: str, before: bytes, after: bytes) -> Part:
    old, new = (_lines(data.decode("utf8", "replace")) for data in (before, after))
    same = _matched(new, old)
    return Part(path, new, frozenset(at for at, line in enumerate(new) if line and at not in same))


def _patched(ws: Workspace, patch: str | None, *, is_needed: bool) -> list[Part]:
    """What a patch shows of the files. A change that was applied and has no undo record was taken back."""
    if patch is None or not is_needed:
        raise Unknown("No change of it is on record: it was never applied, or was taken back.")
    from unidiff import PatchSet, UnidiffParseError

    try:
        files = PatchSet(ws.text(patch))
    except (UnidiffParseError, TierkitError, OSError):
        raise Unknown("Its patch is gone, and no undo record says what it changed.") from None
    parts = []
    for file in files:
        shown = [line for hunk in file for line in hunk if line.is_added or line.is_context]
        lines = tuple(_bare(line.value) for line in shown)
        own = frozenset(at for at, line in enumerate(shown) if line.is_added and lines[at])
        parts.append(Part(file.path, lines, own))
    return parts


def _lines(text: str) -> tuple[str, ...]:
    lines = tuple(map(_bare, text.split("\n")))
    if len(lines) > MOST_LINES:
        raise Unknown(f"A file of it has more than {MOST_LINES} lines.")
    return lines


def _bare(line: str) -> str:
    """A line without its blanks: to indent it or to end it otherwise is not to rewrite it."""
    return "".join(line.split())


# --- which of them are still there


def _alive(part: Part, text: str | None) -> frozenset[int]:
    """The task's own lines that a version of the file still has, in their order or moved."""
    if text is None:
        return frozenset()
    lines = _lines(text)
    pairs = _matched(part.lines, lines)
    loose = Counter(line for at, line in enumerate(lines) if at not in set(pairs.values()) and len(line) >= TELLING)
    found = set(part.own & pairs.keys())
    for at in sorted(part.own - pairs.keys()):
        if loose[part.lines[at]]:
            loose[part.lines[at]] -= 1
            found.add(at)
    return frozenset(found)


def _matched(a: Sequence[str], b: Sequence[str]) -> dict[int, int]:
    """Lines of `a` that stand in `b`, in the same order."""
    is_long = len(a) * len(b) > 4_000_000
    blocks = SequenceMatcher(None, a, b, autojunk=is_long).get_matching_blocks()
    return {block.a + at: block.b + at for block in blocks for at in range(block.size)}


def _rewritten(tree: Tree, part: Part, deadline: datetime, now: datetime) -> int:
    """How many of the task's lines in one file were rewritten by the deadline. Raises Unknown."""
    gone = part.own - _alive(part, tree.standing(part))
    if not gone or now <= deadline:
        return len(gone)
    versions = tree.versions(part.path)
    if len(versions) * len(part.lines) > MOST_COMPARED:
        raise Unknown("A long file of it was committed too often since.")
    seen = [_alive(part, version.text) for version in versions]
    return sum(_went(line, versions, seen, tree.touched(part), deadline) <= deadline for line in gone)


def _went(
    line: int, versions: Sequence[Version], seen: Sequence[frozenset[int]], touched: datetime | None, deadline: datetime
) -> datetime:
    """When a line that is gone was last certain to be there no longer. Raises Unknown."""
    last = max((at for at, alive in enumerate(seen) if line in alive), default=None)
    if last is None:
        # Gone before the change was ever committed: by then at the latest.
        known = versions[0].at if versions else touched
        if known is None or known > deadline:
            raise Unknown("Lines were rewritten, and no commit or time of a file tells whether within seven days.")
        return known
    if last + 1 < len(versions):
        return versions[last + 1].at
    return touched or datetime.max.replace(tzinfo=UTC)


# --- where they are looked for


class Tree:
    """The project as it stands, or as a branch has it, and its history since a change."""

    def __init__(self, ws: Workspace, since: datetime, *, has_git: bool, branch: str | None = None) -> None:
        self._ws, self._since, self._has_git, self._branch = ws, since, has_git, branch
        self._history: list[tuple[str, datetime, list[tuple[str, ...]]]] | None = None

    def standing(self, part: Part) -> str | None:
        """The file's text now, wherever it was moved; None where it is gone."""
        text = None if self._branch else self._text(part.path)
        if _alive(part, text):  # The usual case needs no history.
            return text
        path = self._names(part.path)[-1][1]
        if self._branch is not None:
            return self._blob(self._branch, path)
        text = self._text(path)
        return self._moved(part) if text is None else text

    def touched(self, part: Part) -> datetime | None:
        """When the file in the working tree was last written."""
        found = None if self._branch else self._ws.stat(self._names(part.path)[-1][1])
        return None if found is None else datetime.fromtimestamp(found.st_mtime, UTC)

    def versions(self, path: str) -> tuple[Version, ...]:
        """The file as each commit since left it, oldest first, followed through renames."""
        names = self._names(path)[1:]
        if len(names) > MOST_VERSIONS:
            raise Unknown(f"Its file was committed more than {MOST_VERSIONS} times since.")
        times = {commit: at for commit, at, _ in self._log()}
        return tuple(Version(times[commit], self._blob(commit, name)) for commit, name in names)

    def _names(self, path: str) -> list[tuple[str, str]]:
        """The commits that touched the file, each with its name there, after its name when the task changed it."""
        names = [("", path)]
        for commit, _, changes in self._log():
            for status, *paths in changes:
                if paths[0] == names[-1][1]:
                    names.append((commit, paths[-1] if status.startswith("R") else paths[0]))
                    break
        return names

    def _log(self) -> list[tuple[str, datetime, list[tuple[str, ...]]]]:
        """Each commit since the change with what it did to files, oldest first. Raises Unknown."""
        if self._history is None:
            self._history = list(self._read_log()) if self._has_git else []
        return self._history

    def _read_log(self) -> Iterator[tuple[str, datetime, list[tuple[str, ...]]]]:
        # A day of room: clocks differ, and what was committed before the change is told from it by its lines.
        since = int((self._since - timedelta(days=1)).timestamp())
        ref = self._branch or "HEAD"
        if git(self._ws.root, "rev-parse", "--verify", "--quiet", ref) is None:
            return
        out = git(self._ws.root, *_LOG, f"--since={since}", "--end-of-options", ref, "--", ".")
        if out is None:
            raise Unknown("git cannot show what was committed since.")
        entries = out.split("\x01")[1:]
        if len(entries) == MOST_COMMITS:
            raise Unknown(f"There are {MOST_COMMITS} commits or more since.")
        for entry in entries:
            head, *rest = (word.strip("\n") for word in entry.split("\0"))
            commit, *times = head.split()
            written, committed = (datetime.fromtimestamp(int(time), UTC) for time in times)
            # A rebase keeps the time of writing, which is the true one unless the commit is older than the change.
            at = written if written >= self._since else committed
            if at >= self._since:
                yield commit, at, list(_changes(rest))

    def _blob(self, commit: str, path: str) -> str | None:
        return git(self._ws.root, "cat-file", "blob", f"{commit}:./{path}")

    def _text(self, path: str) -> str | None:
        try:
            return self._ws.text(path)
        except (TierkitError, OSError):
            return None

    def _moved(self, part: Part) -> str | None:
        """The text of the file that has most of a gone file's lines and that no commit knows yet."""
        best: tuple[int, str | None] = (max(len(part.own) // 2, 1), None)
        for name in self._new_files(os.path.splitext(part.path)[1]):
            text = self._text(name)
            alive = len(_alive(part, text))
            best = (alive, text) if alive > best[0] else best
        return best[1]

    def _new_files(self, suffix: str) -> list[str]:
        if not self._has_git:
            return []
        listed = git(self._ws.root, "ls-files", "--cached", "--others", "--exclude-standard", "-z") or ""
        known = git(self._ws.root, "ls-tree", "-r", "--name-only", "-z", "HEAD") or ""
        new = {name for name in listed.split("\0") if name.endswith(suffix)} - {*known.split("\0")} - {""}
        return sorted(new)[:MOST_NEW_FILES]


def _changes(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Status and path of each change, both paths for a rename or a copy."""
    left = iter([word for word in words if word])
    for status in left:
        yield (status, *(next(left, "") for _ in range(2 if status[0] in "RC" else 1)))


def _tree_with(ws: Workspace, parts: Sequence[Part], since: datetime) -> Tree:
    """The working tree; where neither it nor its history has any of the lines, the newest branch that has some."""
    has_git = is_its_own(ws.root)
    tree = Tree(ws, since, has_git=has_git)
    if not has_git or _is_seen(tree, parts):
        return tree
    listed = git(ws.root, "for-each-ref", "--sort=-committerdate", f"--count={MOST_BRANCHES}",
                 "--format=%(refname)", "refs/heads", "refs/remotes")  # fmt: skip
    branches = (Tree(ws, since, has_git=True, branch=name) for name in (listed or "").split())
    return next((branch for branch in branches if any(_alive(part, branch.standing(part)) for part in parts)), tree)


def _is_seen(tree: Tree, parts: Sequence[Part]) -> bool:
    """Whether any of the lines is in the tree, or was in a commit that led to it."""
    if any(_alive(part, tree.standing(part)) for part in parts):
        return True
    return any(_alive(part, version.text) for part in parts for version in tree.versions(part.path))
