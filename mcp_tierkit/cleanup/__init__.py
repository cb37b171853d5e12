"""How much of a delegated change was written again within seven days: by its own lines, in the tree and in git."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcp_tierkit.cleanup.claims import Change, left_to
from mcp_tierkit.cleanup.lines import Part, Unknown, alive, applied, lines_of, patched
from mcp_tierkit.cleanup.tree import Tree, Version
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.git import git, is_its_own
from mcp_tierkit.scorecard import LineCount
from mcp_tierkit.workspace import Workspace

WITHIN = timedelta(days=7)
MOST_COMPARED = 400_000
"""Lines of one file, times the commits that touched it: each is compared with each."""
MOST_BRANCHES = 20


def measure(
    ws: Workspace, state: Path, task_id: str, *, at: datetime, now: datetime, patch: str | None = None,
    is_applied: bool = True,
) -> LineCount:  # fmt: skip
    """Count the lines of a task's change that were rewritten within seven days after `at`, when it was handed over.

    A line counts as rewritten when the file's version of that day, committed or not, no longer has it, blanks and
    moves within the file aside, or when a later task had to add it again. The undo record says which lines they
    are, else the `patch`. Changes nothing, and runs no program that the repository names.
    """
    try:
        if not ws.root.is_dir():
            raise Unknown("Its project is gone.")
        # A change that was applied and has no undo record was taken back: its patch tells of nothing that is there.
        parts = applied(ws, state, task_id) or patched(ws, None if is_applied else patch)
        change = left_to(ws, state, task_id, parts, at + WITHIN)
        changed, parts = change.added, [*change.parts]
        rewritten = changed - sum(len(part.own) for part in parts)
        if rewritten < changed or not changed:  # Else later tasks added all of it again: its lines are theirs.
            tree = _tree_with(ws, parts, at, is_applied=is_applied)
            rewritten += sum(_rewritten(tree, part, at + WITHIN, now) for part in parts)
        else:
            tree = Tree(ws, at, has_git=False)
        is_taken_back = 0 < changed == rewritten and all(_is_as_before(tree, part) for part in parts)
    except Unknown as unknown:
        return LineCount(reason=str(unknown))
    except (TierkitError, OSError):
        return LineCount(reason="The record of its change cannot be read.")
    return LineCount(
        changed_lines=changed, rewritten_lines=rewritten, is_taken_back=is_taken_back, is_final=now > at + WITHIN
    )


def is_absent(ws: Workspace, change: Change) -> bool:
    """Whether its files have less than half of the lines of an applied change now. Asks git nothing."""
    try:
        here = Tree(ws, datetime.now(UTC), has_git=False)
        return change.added > 0 and not change.stands_with(sum(map(len, change.alive_in(here))))
    except (Unknown, TierkitError, OSError):
        return False


def is_gone(ws: Workspace, change: Change, *, at: datetime, now: datetime) -> bool:
    """Whether less than half of the lines of an applied change is in the files, as far as that was not for the better.

    Lines that were committed belong to the work that goes on: of these it counts whether they were rewritten within
    seven days. Lines on another branch, in a stash, or of which nobody can tell, are not gone. Changes nothing.
    """
    try:
        here = Tree(ws, at, has_git=is_its_own(ws.root))
        found = change.alive_in(here)
        standing = sum(map(len, found))
        if not change.added or change.stands_with(standing):
            return False
        missing = [part._replace(own=part.own - had) for part, had in zip(change.parts, found, strict=True)]
        missing = [part for part in missing if part.own]
        # What is a later task's own is looked for nowhere: that it is in a branch says nothing of this change.
        return not missing or _is_nowhere(ws, change, missing, standing, at=at, now=now)
    except (Unknown, TierkitError, OSError):
        return False


def _is_nowhere(
    ws: Workspace, change: Change, missing: Sequence[Part], standing: int, *, at: datetime, now: datetime
) -> bool:
    """Whether too few of the lines that the files lack are in git, or were for seven days. Raises Unknown."""
    tree = _tree_with(ws, missing, at, is_applied=True)
    if change.stands_with(standing + sum(len(alive(part, tree.standing(part).text)) for part in missing)):
        return False
    if not any(alive(part, version.text) for part in missing for version in tree.versions(part.path)):
        return True
    lasted = sum(len(part.own) - _rewritten(tree, part, at + WITHIN, now) for part in missing)
    return not change.stands_with(standing + lasted)


def _is_as_before(tree: Tree, part: Part) -> bool:
    return part.before is not None and lines_of(tree.standing(part).text or "") == part.before


def _rewritten(tree: Tree, part: Part, deadline: datetime, now: datetime) -> int:
    """How many of the task's lines in one file were rewritten by the deadline. Raises Unknown."""
    standing = tree.standing(part)
    gone = part.own - alive(part, standing.text)
    if not gone or now <= deadline:
        return len(gone)
    versions = tree.versions(part.path)
    if len(versions) * len(part.lines) > MOST_COMPARED:
        raise Unknown("A long file of it was committed too often since.")
    if any(one.at <= deadline < one.committed for one in versions if one.at and one.committed):
        # A commit made anew after the deadline keeps its date. What stood then may be known all the same.
        gone -= tree.alive_at(part, deadline)
    seen = [alive(part, version.text) for version in versions]
    return sum(_went(line, versions, seen, standing, deadline) for line in gone)


def _went(
    line: int, versions: Sequence[Version], seen: Sequence[frozenset[int]], standing: Version, deadline: datetime
) -> bool:
    """Whether a line that is gone was there no longer by the deadline. Raises Unknown."""
    last = max((at for at, lines in enumerate(seen) if line in lines), default=None)
    if last is None:
        # Gone before the change was ever committed: by then at the latest.
        known = versions[0].at if versions else standing.at
        if known is None or known > deadline:
            raise _no_time()
        return True
    known = versions[last + 1].at if last + 1 < len(versions) else standing.at
    if known is None:
        raise _no_time()
    return known <= deadline


def _no_time() -> Unknown:
    return Unknown("Lines were rewritten, and no commit or time of a file tells whether within seven days.")


def _tree_with(ws: Workspace, parts: Sequence[Part], since: datetime, *, is_applied: bool) -> Tree:
    """The working tree; where neither it nor its history has any of the lines, the newest branch that has some.

    Raises Unknown where they are nowhere and were never seen, and where they were put aside.
    """
    has_git = is_its_own(ws.root)
    tree = Tree(ws, since, has_git=has_git)
    if _is_seen(tree, parts):
        return tree
    branches = (Tree(ws, since, has_git=True, commit=name) for name in (_branches(ws.root) if has_git else ()))
    for branch in branches:
        if any(alive(part, branch.standing(part).text) for part in parts):
            return branch
    if not is_applied:
        raise Unknown("Its patch was not applied, as far as can be seen.")
    if has_git and _are_aside(tree, ws.root, parts):
        raise Unknown("Its lines were put aside: they are in a stash, or in a commit that no branch has.")
    return tree


def _branches(root: Path) -> list[str]:
    """Branches, the newest first, then what else is checked out in a worktree of its own."""
    listed = git(root, "for-each-ref", "--sort=-committerdate", f"--count={MOST_BRANCHES}",
                 "--format=%(refname)", "refs/heads", "refs/remotes")  # fmt: skip
    trees = (line.split() for line in (git(root, "worktree", "list", "--porcelain") or "").splitlines())
    heads = [words[1] for words in trees if words[:1] == ["HEAD"] and words[1].strip("0")]
    return [*(listed or "").split(), *heads[:MOST_BRANCHES]]


def _are_aside(tree: Tree, root: Path, parts: Sequence[Part]) -> bool:
    """Whether git has the lines where nobody works on them. What was committed over them since was not put aside."""
    walk = ("rev-list", "--walk-reflogs", f"--max-count={MOST_BRANCHES}")
    aside = (git(root, *walk, "--parents", "refs/stash", "--") or "").split()  # New files are in a parent of its own.
    if not any(tree.versions(part.path) for part in parts):
        aside += (git(root, *walk, "HEAD", "--") or "").split()
    # One question for all files, and none more of a commit that has them as they are at HEAD.
    same = ("diff-tree", "-r", "--quiet", "HEAD")
    paths = [f"./{part.path}" for part in parts]
    others = [commit for commit in dict.fromkeys(aside) if git(root, *same, commit, "--", *paths) is None]
    return any(tree.has_at(part, others) for part in parts)


def _is_seen(tree: Tree, parts: Sequence[Part]) -> bool:
    """Whether any of the lines is in the tree, or was in a commit that led to it."""
    if any(alive(part, tree.standing(part).text) for part in parts):
        return True
    return any(alive(part, version.text) for part in parts for version in tree.versions(part.path))
