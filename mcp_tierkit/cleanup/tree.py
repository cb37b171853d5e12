"""A file as it stands and as the commits since a change left it, from the working tree and from git."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mcp_tierkit.cleanup.lines import Part, Unknown, alive
from mcp_tierkit.errors import NotFound, TierkitError
from mcp_tierkit.git import git
from mcp_tierkit.workspace import MAX_READ, Workspace

MOST_VERSIONS = 200
MOST_COMMITS = 5000
MOST_NEW_FILES = 200
# A commit begins with a letter that no status has, and says three things. Names of files may hold any letter but NUL.
_LOG = (
    "log", "--topo-order", "--reverse", f"--max-count={MOST_COMMITS}", "--no-show-signature", "--no-ext-diff",
    "--no-textconv", "--diff-merges=first-parent", "-M", "--relative", "--name-status", "-z", "--encoding=UTF-8",
    "--format=%x01%H %at %ct",
)  # fmt: skip


class Version(NamedTuple):
    """A file as it stands or as a commit left it; no text where it is gone, no time where nobody knows when.

    `at` is when it was written, `committed` when its commit was last made anew, by a rebase or an amendment.
    """

    text: str | None
    at: datetime | None = None
    committed: datetime | None = None


class Commit(NamedTuple):
    """What a commit did to files: the status of each, and one path or, where it was moved or copied, two."""

    name: str
    at: datetime
    committed: datetime
    changes: tuple[tuple[str, ...], ...]


class Tree:
    """The project as it stands, or as a commit has it, and its history since a change."""

    def __init__(self, ws: Workspace, since: datetime, *, has_git: bool, commit: str | None = None) -> None:
        self._ws, self._since, self._has_git, self._commit = ws, since, has_git, commit
        self._history: tuple[Commit, ...] | None = None

    def standing(self, part: Part) -> Version:
        """The file now, wherever it was moved. Raises Unknown where it cannot be read."""
        if self._commit is not None:
            return Version(self._blob(self._commit, self._names(part.path)[-1][1]))
        found = self._file(part.path)
        if alive(part, found.text):  # The usual case needs no history.
            return found
        found = self._file(self._names(part.path)[-1][1])
        return self._moved(part) if found.text is None else found

    def versions(self, path: str) -> tuple[Version, ...]:
        """The file as each commit since left it, oldest first, followed through renames."""
        names = self._names(path)[1:]
        if len(names) > MOST_VERSIONS:
            raise Unknown(f"Its file was committed more than {MOST_VERSIONS} times since.")
        commits = {commit.name: commit for commit in self._log()}
        return tuple(Version(self._blob(name, path), commits[name].at, commits[name].committed) for name, path in names)

    def alive_at(self, part: Part, at: datetime) -> frozenset[int]:
        """The lines that what was checked out at a time had, as far as git remembers."""
        then = git(self._ws.root, "rev-parse", "--verify", "--quiet", f"HEAD@{{{at.isoformat()}}}") or ""
        try:
            return alive(part, self._blob(then.strip(), part.path))
        except Unknown:
            return frozenset()

    def has_at(self, part: Part, commits: Iterable[str]) -> bool:
        """Whether any of some commits has a line of the part under its own name."""
        for commit in commits:
            with contextlib.suppress(Unknown):
                if alive(part, self._blob(commit, part.path)):
                    return True
        return False

    def _names(self, path: str) -> list[tuple[str, str]]:
        """The commits that touched the file, each with its name there, after its name when the task changed it."""
        names = [("", path)]
        for commit in self._log():
            for status, *paths in commit.changes:
                if paths[0] == names[-1][1]:
                    names.append((commit.name, paths[-1] if status.startswith("R") else paths[0]))
                    break
        return names

    def _log(self) -> tuple[Commit, ...]:
        """Each commit since the change, oldest first. Raises Unknown."""
        if self._history is None:
            self._history = tuple(self._read_log()) if self._has_git else ()
        return self._history

    def _read_log(self) -> Iterator[Commit]:
        # A day of room: clocks differ, and what was committed before the change is told from it by its lines.
        since = int((self._since - timedelta(days=1)).timestamp())
        ref = self._commit or "HEAD"
        if git(self._ws.root, "rev-parse", "--verify", "--quiet", ref) is None:
            return
        out = git(self._ws.root, *_LOG, f"--since={since}", "--end-of-options", ref, "--", ".")
        if out is None:
            raise _no_history()
        entries = list(_entries(out))
        if len(entries) == MOST_COMMITS:
            raise Unknown(f"There are {MOST_COMMITS} commits or more since.")
        for head, changes in entries:
            name, *times = head.split(" ")
            written, committed = map(_time, times)
            if committed is None:
                raise Unknown("A commit since has no date that can be read.")
            # A rebase keeps the time of writing, which is the true one where it can be.
            at = written if written and self._since <= written <= committed else committed
            if at >= self._since:
                yield Commit(name, at, committed, tuple(changes))

    def _blob(self, commit: str, path: str) -> str | None:
        """A file's text in a commit; None where that has no such file. Raises Unknown where it cannot be read."""
        listed = git(self._ws.root, "ls-tree", "-l", "-z", commit, f"./{path}")
        if listed is None:
            raise _no_history()
        if not listed:
            return None
        mode, _, blob, size = listed.partition("\t")[0].split()
        if not mode.startswith("100") or not size.isdecimal() or int(size) > MAX_READ:
            raise _unreadable()
        text = git(self._ws.root, "cat-file", "blob", blob)
        if text is None:
            raise _unreadable()
        return text

    def _file(self, path: str) -> Version:
        """A file of the working tree, and when it was last written."""
        try:
            found = self._ws.stat(path)
            text = self._ws.read(path).decode("utf8", "replace")
        except NotFound:
            return Version(None)
        except (TierkitError, OSError):
            raise _unreadable() from None
        return Version(text, datetime.fromtimestamp(found.st_mtime, UTC) if found else None)

    def _moved(self, part: Part) -> Version:
        """The file that has most of a gone file's lines and that was not there before."""
        best, most = Version(None), max(len(part.own) // 2, 1)
        for name in self._new_files(os.path.splitext(part.path)[1]):
            with contextlib.suppress(Unknown):
                found = self._file(name)
                if (count := len(alive(part, found.text))) > most:
                    best, most = found, count
        return best

    def _new_files(self, suffix: str) -> list[str]:
        if not self._has_git:
            return []
        listed = git(self._ws.root, "ls-files", "--cached", "--others", "--exclude-standard", "-z") or ""
        known = git(self._ws.root, "ls-tree", "-r", "--name-only", "-z", "HEAD") or ""
        added = {change[1] for commit in self._log() for change in commit.changes if change[0] == "A"}
        new = {*listed.split("\0")} - ({*known.split("\0")} - added)
        return sorted(name for name in new if name and name.endswith(suffix))[:MOST_NEW_FILES]


def _entries(out: str) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """What `_LOG` prints, commit by commit: its head, and each change of it."""
    head, changes, words = "", list[tuple[str, ...]](), iter(out.split("\0"))
    for word in words:
        status = word.strip("\n")
        if status.startswith("\x01"):
            if head:
                yield head, changes
            head, changes = status[1:], []
        elif status:
            changes.append((status, *(next(words, "") for _ in range(2 if status[0] in "RC" else 1))))
    if head:
        yield head, changes


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _no_history() -> Unknown:
    return Unknown("git cannot show what was committed since.")


def _unreadable() -> Unknown:
    return Unknown("A file of it cannot be read: it is no plain file, too large, lost, or on the deny list.")
