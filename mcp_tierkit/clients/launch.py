"""The command with which a client starts this installation."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field

from mcp_tierkit.types import Record

CARRIED = ("TIERKIT_CONFIG", "TIERKIT_STATE_DIR", "TIERKIT_LEDGER")
# Folders that a runner may empty: what it put there must be fetched again, not pointed at.
_PASSING = {"archive-v0": ("uvx",), "environments-v2": ("uvx",), "pipx": ("pipx", "run")}


class Launch(Record):
    """An argument list for a client's configuration. It holds names of keys, never a key."""

    command: str
    args: tuple[str, ...]
    env: dict[str, str] = Field(default_factory=dict)
    keys: tuple[str, ...] = Field(default=(), description="Variables with keys, for clients that withhold them.")


def find_launch(
    project: Path,
    env: Mapping[str, str],
    *,
    keys: tuple[str, ...] = (),
    executable: str = sys.executable,
    which: Callable[[str], str | None] = shutil.which,
) -> Launch:
    """How to start the server of this installation for one project, by absolute path."""
    start = _passing(Path(executable), which) or _installed(Path(executable))
    carried = {name: env[name] for name in CARRIED if env.get(name) and "@" not in env[name]}
    args = (*start[1:], "serve", "--project", str(project))
    return Launch(command=start[0], args=args, env=carried, keys=keys)


def _passing(executable: Path, which: Callable[[str], str | None]) -> list[str] | None:
    """The runner's own command where the interpreter lies in a runner's cache."""
    parts = executable.parts
    for folder, runner in _PASSING.items():
        is_cached = folder in parts and ("venvs" not in parts)
        program = which(runner[0]) if is_cached else None
        if program:
            return [program, *runner[1:], "mcp-tierkit"]
    return None


def _installed(executable: Path) -> list[str]:
    folders = [executable.parent]
    if str(executable) == sys.executable:
        schemes = ["", sysconfig.get_preferred_scheme("user")]
        folders += [Path(sysconfig.get_path("scripts", scheme) if scheme else sysconfig.get_path("scripts"))
                    for scheme in schemes]  # fmt: skip
    suffix = ".exe" if os.name == "nt" else ""
    for folder in folders:
        script = folder / f"mcp-tierkit{suffix}"
        if os.access(script, os.X_OK):
            return [str(script)]
    return [str(executable), "-m", "mcp_tierkit"]
