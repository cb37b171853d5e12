"""Where agents keep their transcripts, and the files that are there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mcp_tierkit.places import home

_DEPTH = 12


class Root(NamedTuple):
    """A folder of one client's transcripts, and the environment variable that names another."""

    client: str
    path: Path
    variable: str


class Found(NamedTuple):
    """A transcript. `root` is the folder it was found under."""

    client: str
    path: Path
    root: Path
    size: int
    changed: float


def roots(env: Mapping[str, str]) -> tuple[Root, ...]:
    """The folders to look in, there or not. CLAUDE_CONFIG_DIR may name several, with commas between."""
    user = home(env)
    named = [Path(part.strip()).expanduser() for part in env.get("CLAUDE_CONFIG_DIR", "").split(",") if part.strip()]
    config = Path(env["XDG_CONFIG_HOME"]) if os.path.isabs(env.get("XDG_CONFIG_HOME", "")) else user / ".config"
    claude = [Root("Claude Code", _projects(path), "CLAUDE_CONFIG_DIR") for path in named] or [
        Root("Claude Code", user / ".claude" / "projects", "CLAUDE_CONFIG_DIR"),
        Root("Claude Code", config / "claude" / "projects", "CLAUDE_CONFIG_DIR"),
    ]
    codex = Path(env["CODEX_HOME"]).expanduser() if env.get("CODEX_HOME", "").strip() else user / ".codex"
    return (*claude, *(Root("Codex", codex / name, "CODEX_HOME") for name in ("sessions", "archived_sessions")))


def find(places: Sequence[Root], counts: Counter[str], *, since: float = 0) -> list[Found]:
    """Transcripts that changed after `since`, in a fixed order. Links are never followed below a root."""
    found: dict[str, Found] = {}
    for place in places:
        root = Path(os.path.realpath(place.path))
        for entry in _walk(str(root), counts, 0):
            file = _file(entry, place.client, root, since, counts)
            if file is not None:
                found.setdefault(str(file.path), file)
    return [found[path] for path in sorted(found)]


def _projects(folder: Path) -> Path:
    return folder if folder.name == "projects" else folder / "projects"


def _walk(folder: str, counts: Counter[str], depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        counts["unreadable"] += 1
        return
    for entry in listed:
        if entry.is_symlink():
            counts["links"] += 1
        elif entry.is_dir(follow_symlinks=False):
            if depth < _DEPTH and entry.name not in ("tool-results", "memory"):
                yield from _walk(entry.path, counts, depth + 1)
        else:
            yield entry


def _file(entry: os.DirEntry[str], client: str, root: Path, since: float, counts: Counter[str]) -> Found | None:
    if not entry.name.endswith(".jsonl"):
        counts["packed"] += ".jsonl." in entry.name
        return None
    if client == "Codex" and not entry.name.startswith("rollout-"):
        return None
    try:
        known = entry.stat(follow_symlinks=False)
    except OSError:
        counts["unreadable"] += 1
        return None
    if not entry.is_file(follow_symlinks=False):
        counts["not_files"] += 1
        return None
    if known.st_mtime < since:
        counts["older"] += 1
        return None
    return Found(client, Path(entry.path), root, known.st_size, known.st_mtime)
