"""Where agents keep their transcripts, and the files that are there."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mcp_tierkit.places import home
from mcp_tierkit.transcripts import opencode_db
from mcp_tierkit.transcripts.lines import PACKED, unpacker

_DEPTH = 12
_PATHS = {
    "Codex": re.compile(r"[\\/]rollout-[^\\/]*\.jsonl(\.zst)?$"),
    "Gemini CLI": re.compile(r"[\\/]chats[\\/]([^\\/]+[\\/])?[^\\/]+\.jsonl?$"),
}
_ANY = re.compile(r"\.jsonl$")
_DATABASE = re.compile(r"opencode(-[\w.-]+)?\.db")


class Root(NamedTuple):
    """A folder of one client's transcripts, and the environment variable that names another."""

    client: str
    path: Path
    variable: str


class Found(NamedTuple):
    """A transcript. `root` is the folder it was found under.

    Of opencode it is one session: a folder of files, or a name below that of the database that holds it.
    """

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
    pi = Path(env["PI_CODING_AGENT_DIR"]).expanduser() if env.get("PI_CODING_AGENT_DIR") else user / ".pi" / "agent"
    return (
        *claude,
        *(Root("Codex", codex / name, "CODEX_HOME") for name in ("sessions", "archived_sessions")),
        Root("Gemini CLI", Path(env.get("GEMINI_CLI_HOME") or user) / ".gemini" / "tmp", "GEMINI_CLI_HOME"),
        *_opencode(env, user),
        _named(env, "PI_CODING_AGENT_SESSION_DIR", Root("Pi", pi / "sessions", "PI_CODING_AGENT_DIR")),
    )


def find(places: Sequence[Root], counts: Counter[str], *, since: float = 0) -> list[Found]:
    """Transcripts that changed after `since`, in a fixed order. Links are never followed below a root."""
    found: dict[str, Found] = {}
    for place in places:
        root = Path(os.path.realpath(place.path))
        files = _sessions if place.client == "opencode" else _files
        for file in files(place.client, root, since, counts):
            found.setdefault(str(file.path), file)
    return [found[path] for path in sorted(found)]


def _projects(folder: Path) -> Path:
    return folder if folder.name == "projects" else folder / "projects"


def _named(env: Mapping[str, str], variable: str, usual: Root) -> Root:
    """The folder that a variable names, where it does."""
    return Root(usual.client, Path(env[variable]).expanduser(), variable) if env.get(variable) else usual


def _opencode(env: Mapping[str, str], user: Path) -> Iterator[Root]:
    """opencode's folder, and the database that OPENCODE_DB names instead of the one there."""
    named = env.get("XDG_DATA_HOME", "")
    folder = (Path(named) if os.path.isabs(named) else user / ".local" / "share") / "opencode"
    yield Root("opencode", folder, "XDG_DATA_HOME")
    if (other := env.get("OPENCODE_DB", "")) and other != ":memory:":
        yield Root("opencode", folder / other, "OPENCODE_DB")


def _files(client: str, root: Path, since: float, counts: Counter[str]) -> Iterator[Found]:
    for entry in _walk(str(root), client, counts, 0):
        file = _file(entry, client, root, since, counts)
        if file is not None:
            yield file


def _walk(folder: str, client: str, counts: Counter[str], depth: int) -> Iterator[os.DirEntry[str]]:
    for entry in _listed(folder, counts):
        if entry.is_symlink():
            counts["links"] += 1
        elif entry.is_dir(follow_symlinks=False):
            if depth < _DEPTH and _enters(client, entry.name, depth):
                yield from _walk(entry.path, client, counts, depth + 1)
        else:
            yield entry


def _enters(client: str, name: str, depth: int) -> bool:
    """Of a project's folders, Gemini CLI keeps its chats in one; others hold whole outputs of tools, and the like."""
    return (depth != 1 or name == "chats") if client == "Gemini CLI" else name not in ("tool-results", "memory")


def _listed(folder: str, counts: Counter[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        counts["unreadable"] += 1
        return []


def _sessions(client: str, root: Path, since: float, counts: Counter[str]) -> Iterator[Found]:
    """opencode's sessions, each as if it were a file: those in a database, and those in a folder of files each."""
    for entry in _listed(str(root), counts):
        if _DATABASE.fullmatch(entry.name):
            yield from _in_database(client, Path(entry.path), since, counts)
    if root.is_file():
        yield from _in_database(client, root, since, counts)
    messages = root / "storage" / "message"
    for entry in () if messages.is_symlink() or messages.parent.is_symlink() else _listed(str(messages), counts):
        if entry.is_symlink():
            counts["links"] += 1
        elif entry.is_dir(follow_symlinks=False):
            known = [one.stat(follow_symlinks=False) for one in _listed(entry.path, counts)]
            changed = max((one.st_mtime for one in known), default=0.0)
            if changed >= since:
                yield Found(client, Path(entry.path), root, sum(one.st_size for one in known), changed)
            else:
                counts["older"] += 1


def _in_database(client: str, path: Path, since: float, counts: Counter[str]) -> Iterator[Found]:
    try:
        if path.is_symlink():
            counts["links"] += 1
            return
        size, known = path.stat().st_size, opencode_db.sessions(path)
    except FileNotFoundError:
        return
    except OSError:
        counts["unreadable"] += 1
        return
    for name, at in known.items():
        if at / 1000 >= since:
            yield Found(client, path / name, path.parent, size // len(known), at / 1000)
        else:
            counts["older"] += 1


def _file(entry: os.DirEntry[str], client: str, root: Path, since: float, counts: Counter[str]) -> Found | None:
    is_wanted = _PATHS.get(client, _ANY).search(entry.path)
    if not is_wanted or (entry.name.endswith(PACKED) and not unpacker()):
        counts["unpackable" if is_wanted else "packed"] += ".jsonl." in entry.name
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
