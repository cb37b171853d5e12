"""git, asked questions only, with everything a hostile repository could make it run turned off."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mcp_tierkit.errors import InvalidInput, TierkitError
from mcp_tierkit.places import find_repository
from mcp_tierkit.workspace import Workspace

# Each names a program that git would otherwise start for us; the last two keep a diff short and plain.
_QUIET = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat",
    "-c", "diff.external=", "-c", "core.sshCommand=false", "-c", "protocol.allow=never",
    "-c", "core.bigFileThreshold=2m", "-c", "core.quotePath=false",
)  # fmt: skip
_DIFF = (
    "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "--relative",
    "--ignore-submodules=dirty",
)  # fmt: skip
TIMEOUT_S = 30
MAX_HIDDEN = 1000
MAX_UNTRACKED = 1_000_000
"""Bytes of new files beyond which no review reads the diff anyway."""


def git(root: Path, *args: str, settings: Mapping[str, str] | None = None) -> str | None:
    """What git prints, or None where it fails, is missing, or `root` is no repository. `settings` win over its own."""
    said = _said(root, *args, settings=settings)
    return None if said is None else said.decode("utf8", "replace")


def _names(root: Path, *args: str, settings: Mapping[str, str] | None = None) -> list[str] | None:
    """What git lists between NULs, each byte kept: a name that is not UTF-8 can be handed back to git or the system."""
    said = _said(root, *args, settings=settings)
    return None if said is None else [os.fsdecode(name) for name in said.split(b"\0") if name]


def _said(root: Path, *args: str, settings: Mapping[str, str] | None) -> bytes | None:
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    # A repository may lack objects on purpose: git would fetch them by a program that the repository names.
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_EXTERNAL_DIFF": "", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
    env["GIT_CONFIG_COUNT"] = str(len(settings or {}))
    for at, (key, value) in enumerate((settings or {}).items()):
        env |= {f"GIT_CONFIG_KEY_{at}": key, f"GIT_CONFIG_VALUE_{at}": value}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *_QUIET, "--no-pager", *args],
            stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def diff_of(ws: Workspace, wanted: str) -> str:
    """The diff named `working_tree` (untracked files included), `staged`, or by a range such as `main..HEAD`.

    Of the project alone, and without the files on its deny list. Runs no program that the repository names.
    """
    if wanted not in ("working_tree", "staged") and not _is_range(wanted):
        raise InvalidInput(
            "That is neither a git range nor a name this tool knows. Nothing was spent.",
            next_step="Pass `working_tree`, `staged`, a git range or the path of a patch.",
        )
    if not is_its_own(ws.root):
        raise _no_diff()
    if wanted == "working_tree":
        return _tracked(ws) + _untracked(ws)
    if wanted == "staged":
        return _asked(ws, "--cached")
    return _asked(ws, "--end-of-options", wanted)


def _is_range(wanted: str) -> bool:
    return not wanted.startswith("-") and bool(re.fullmatch(r"[\w./@^~{}+-]+(\.{2,3}[\w./@^~{}+-]*)?", wanted))


def is_its_own(root: Path) -> bool:
    """Whether git works on the project's repository, and not on one that a link or a setting points it at.

    Worktrees and submodules lie elsewhere too, but there the repository names the folder in return.
    """
    found = git(root, "rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir")
    if found is None or found.count("\n") != 3:
        return False
    top, own, common = (Path(line).resolve() for line in found.splitlines())
    if not root.is_relative_to(top):
        return False
    if own == common and git(root, "config", "--get", "core.worktree"):
        return True
    return find_repository(root, os.environ).resolve() == common


def _tracked(ws: Workspace) -> str:
    """Changes since the last commit; in a repository without one, since nothing."""
    has_commit = git(ws.root, "rev-parse", "--verify", "--quiet", "HEAD") is not None
    return _asked(ws, "HEAD" if has_commit else "--cached")


def _asked(ws: Workspace, *what: str) -> str:
    settings = _without_filters(ws.root)
    names = _names(ws.root, "diff", *_DIFF, "--no-renames", "--name-only", "-z", *what, "--", settings=settings)
    hidden = [name for name in names or () if not _may_show(ws, name)]
    text = None
    if names is not None and len(hidden) <= MAX_HIDDEN:
        left_out = [f":(exclude,literal){name}" for name in hidden]
        text = git(ws.root, "diff", *_DIFF, *what, "--", ".", *left_out, settings=settings)
    if text is None:
        raise _no_diff()
    return text


def _no_diff() -> InvalidInput:
    return InvalidInput(
        "git has no such diff here. Nothing was spent.",
        next_step="Check that the folder is a repository and the range exists, or pass the path of a patch.",
    )


def _without_filters(root: Path) -> dict[str, str]:
    """Settings that empty each filter of the repository's own: git runs them over the files that it compares."""
    # Matched here: git would not match a name that is not UTF-8, and would run that filter all the same.
    found = _names(root, "config", "--null", "--name-only", "--list") or ()
    filters = {name.rpartition(".")[0] for name in found if name.startswith("filter.")}
    return {f"{name}.{key}": "" for name in filters for key in ("clean", "process")} | {
        f"{name}.required": "false" for name in filters
    }


def _may_show(ws: Workspace, name: str) -> bool:
    try:
        return not ws.denied(name)
    except TierkitError:
        return False


def _untracked(ws: Workspace) -> str:
    listed = _names(ws.root, "ls-files", "--others", "--exclude-standard", "-z") or ()
    pieces, size = [], 0
    for name in listed:
        pieces.append(_new_file(ws, name))
        size += len(pieces[-1])
        if size > MAX_UNTRACKED:
            break
    return "".join(pieces)


def _new_file(ws: Workspace, name: str) -> str:
    try:
        lines = ws.text(name).split("\n")
    except (TierkitError, OSError):
        return ""  # A link, a device, a denied, binary or huge file: nothing that a reviewer reads.
    tail = "" if lines[-1] == "" else "\\ No newline at end of file\n"
    body = lines[:-1] if lines[-1] == "" else lines
    if not body:
        return ""
    head = (
        f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(body)} @@\n"
    )
    return head + "".join(f"+{line}\n" for line in body) + tail
