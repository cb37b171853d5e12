"""git, asked questions only, with everything a hostile repository could make it run turned off."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from mcp_tierkit.errors import InvalidInput

# Each of these settings names a program that git would otherwise start for us.
_QUIET = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat",
    "-c", "diff.external=", "-c", "core.sshCommand=false", "-c", "protocol.allow=never",
)  # fmt: skip
_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
TIMEOUT_S = 30


def git(root: Path, *args: str) -> str | None:
    """What git prints, or None where it fails, is missing, or `root` is no repository."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_EXTERNAL_DIFF": ""}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *_QUIET, "--no-pager", *args],
            stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf8", "replace") if done.returncode == 0 else None


def diff_of(root: Path, wanted: str) -> str:
    """The diff named `working_tree` (untracked files included), `staged`, or by a range such as `main..HEAD`."""
    if wanted == "working_tree":
        return _tracked(root) + _untracked(root)
    if wanted == "staged":
        return _asked(root, "diff", *_DIFF, "--cached", "--")
    if not re.fullmatch(r"[\w./@^~{}+-]+(\.{2,3}[\w./@^~{}+-]*)?", wanted) or wanted.startswith("-"):
        raise InvalidInput(
            "That is neither a git range nor a name this tool knows. Nothing was spent.",
            next_step="Pass `working_tree`, `staged`, a git range or the path of a patch.",
        )
    return _asked(root, "diff", *_DIFF, "--end-of-options", wanted, "--")


def _tracked(root: Path) -> str:
    """Changes since the last commit; in a repository without one, since nothing."""
    if git(root, "rev-parse", "--verify", "--quiet", "HEAD") is None:
        return _asked(root, "diff", *_DIFF, "--cached", "--")
    return _asked(root, "diff", *_DIFF, "HEAD", "--")


def _asked(root: Path, *args: str) -> str:
    if (text := git(root, *args)) is None:
        raise InvalidInput(
            "git has no such diff here. Nothing was spent.",
            next_step="Check that the folder is a repository and the range exists, or pass the path of a patch.",
        )
    return text


def _untracked(root: Path) -> str:
    listed = git(root, "ls-files", "--others", "--exclude-standard", "-z") or ""
    return "".join(_new_file(root, name) for name in listed.split("\0") if name)


def _new_file(root: Path, name: str) -> str:
    path = root / name
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 1_000_000:
        return ""
    try:
        lines = path.read_text("utf8").split("\n")
    except UnicodeDecodeError:
        return ""
    tail = "" if lines[-1] == "" else "\\ No newline at end of file\n"
    body = lines[:-1] if lines[-1] == "" else lines
    if not body:
        return ""
    head = (
        f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(body)} @@\n"
    )
    return head + "".join(f"+{line}\n" for line in body) + tail
