"""Each client's configuration: which file, which shape, one careful merge."""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mcp_tierkit.clients.launch import Launch
from mcp_tierkit.clients.merge import dump, merge, parse
from mcp_tierkit.clients.write import backup, read_text, replace
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.types import Record

ENTRY = "tierkit"
_PROGRAM = re.compile(r"(.*[\\/])?(mcp-)?tierkit(\.exe)?")
_PACKAGE = re.compile(r"mcp[-_]tierkit([=@<>~!\[].*)?")


class Client(Record):
    """One row of `clients.toml`."""

    name: str
    title: str
    format: Literal["json", "toml", "snippet"]
    file: str
    table: tuple[str, ...] = Field(min_length=1)
    shape: Literal["split", "joined"]
    fixed: dict[str, Any] = Field(default_factory=dict)
    env: str
    forward: str | None = None
    carry: tuple[str, ...] = Field(default=(), description="Variables copied into the entry, since it starts without.")
    personal: str | None = Field(default=None, description="A file of the user's that every session loads.")
    private: str | None = Field(default=None, description="A command that keeps the entry out of a shared file.")
    found_by: tuple[str, ...]
    then: str

    @property
    def is_per_project(self) -> bool:
        return self.file.startswith("{project}")


class Change(Record):
    """What a merge would do to one file. `before` is None where the file does not exist."""

    client: str
    file: Path
    entry: str = Field(description="Name of the server in the client's list.")
    state: Literal["added", "updated", "already_there"]
    before: str | None
    after: str

    @property
    def diff(self) -> str:
        old = (self.before or "").splitlines(keepends=True)
        new = self.after.splitlines(keepends=True)
        name = self.file.name
        lines = difflib.unified_diff(old, new, f"{name} (now)" if self.before is not None else "(none)", name, n=2)
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


@functools.cache
def clients() -> dict[str, Client]:
    """Every known client by name, in the order of the table."""
    rows = tomllib.loads(files("mcp_tierkit.clients").joinpath("clients.toml").read_text(encoding="utf-8"))
    return {name: Client(name=name, **row) for name, row in rows.items()}


def places(project: Path, env: Mapping[str, str], platform: str = sys.platform) -> dict[str, str]:
    """The folders that `clients.toml` speaks of, on this system."""
    home = env.get("HOME") or str(Path.home())
    if platform == "darwin":
        config = f"{home}/Library/Application Support"
    elif platform == "win32":
        config = env.get("APPDATA") or f"{home}/AppData/Roaming"
    else:
        config = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    codex_home = env.get("CODEX_HOME") or f"{home}/.codex"
    return {"project": str(project), "home": home, "config": config, "codex_home": codex_home}


def find_clients(folders: Mapping[str, str], which: Callable[[str], str | None] = shutil.which) -> tuple[str, ...]:
    """Names of the clients that seem to be installed: a program on the path or a folder of theirs."""
    return tuple(client.name for client in clients().values() if _is_found(client, folders, which))


def _is_found(client: Client, folders: Mapping[str, str], which: Callable[[str], str | None]) -> bool:
    signs = [sign.format_map(folders) for sign in client.found_by]
    return any(os.path.isdir(sign) if os.path.isabs(sign) else which(sign) is not None for sign in signs)


def entry_of(client: Client, launch: Launch, env: Mapping[str, str]) -> dict[str, Any]:
    """The server as this client writes it."""
    argv: dict[str, Any] = {"command": launch.command, "args": list(launch.args)}
    if client.shape == "joined":
        argv = {"command": [launch.command, *launch.args]}
    variables = launch.env | {name: env[name] for name in client.carry if name in env}
    entry = client.fixed | argv | {client.env: variables}
    if client.forward and launch.keys:
        entry[client.forward] = list(launch.keys)
    return entry


def our_entries(client: Client, folders: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The command lines of our servers in a client's file, by name; empty where there is no file.

    `folders` is what `places` gives. Raises InvalidInput for a file that cannot be read with certainty.
    """
    return _ours_in(client, Path(client.file.format_map(folders)))


def personal_entries(client: Client, folders: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The same for the file that every session of the client loads; empty where it has none apart."""
    return _ours_in(client, Path(client.personal.format_map(folders))) if client.personal else {}


def _ours_in(client: Client, file: Path) -> dict[str, tuple[str, ...]]:
    text = read_text(file) if file.is_absolute() else None
    servers = parse("toml" if client.format == "toml" else "json", text or "", client.table, file.name)
    return {name: tuple(_words(server)) for name, server in servers.items() if _is_ours(server)}


def snippet(client: Client, entry: Mapping[str, Any]) -> str:
    """The whole text of a configuration that holds this server alone."""
    return dump("toml" if client.format == "toml" else "json", client.table, ENTRY, entry)


def prepare(client: Client, launch: Launch, project: Path, env: Mapping[str, str]) -> Change:
    """Read the client's file and work out the merge; nothing is written.

    Raises InvalidInput for a file that cannot be read with certainty, and for a project's file that is a link.
    """
    if client.format == "snippet":
        raise InvalidInput(
            f"{client.title} is not configured by this command. Nothing was changed.",
            next_step=f"Run tierkit init --client {client.name} and paste what it prints.",
        )
    file = Path(client.file.format_map(places(project, env)))
    if client.is_per_project and (file.is_symlink() or file.parent.is_symlink()):
        raise InvalidInput(
            f"{file.relative_to(project)} in the project is a symbolic link, or lies behind one. Nothing was changed.",
            next_step="Replace the link by a file, or add the entry where it points to.",
        )
    before = read_text(file)
    servers = parse(client.format, before or "", client.table, file.name)
    name = _name_for(client, servers, project)
    current = servers.get(name)
    wanted = _merged(client, current or {}, entry_of(client, launch, env))
    if current == wanted and before is not None:
        return Change(client=client.name, file=file, entry=name, state="already_there", before=before, after=before)
    after = merge(client.format, before or "", client.table, name, wanted, file.name)
    state: Literal["added", "updated"] = "added" if current is None else "updated"
    return Change(client=client.name, file=file, entry=name, state=state, before=before, after=after)


def install(change: Change) -> Path | None:
    """Write the change and return the backup of what was there, None where nothing was.

    Raises Conflict when the file is no longer what `prepare` read.
    """
    if change.state == "already_there":
        return None
    kept = backup(change.file, change.before) if change.before is not None else None
    replace(change.file, change.before, change.after)
    return kept


def _merged(client: Client, current: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Our keys over theirs, so that a timeout or a variable added by hand stays."""
    theirs = current.get(client.env)
    theirs = theirs if isinstance(theirs, dict) else {}
    kept = {name: theirs[name] for name in client.carry if name in theirs}
    merged = {**current, **wanted, client.env: {**theirs, **wanted[client.env], **kept}}
    if not merged[client.env]:
        del merged[client.env]
    if client.forward and client.forward in wanted:
        named = current.get(client.forward)
        named = named if isinstance(named, list) else []
        merged[client.forward] = list(dict.fromkeys([*named, *wanted[client.forward]]))
    return merged


def _name_for(client: Client, servers: Mapping[str, Any], project: Path) -> str:
    """The name that already serves this project, else the first free one."""
    for name, server in servers.items():
        if _is_ours(server) and _project_of(client, server) == str(project):
            return name
    slug = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-") or "project"
    mark = hashlib.sha256(str(project).encode()).hexdigest()[:6]
    for name in (ENTRY, f"{ENTRY}-{slug}"):
        server = servers.get(name)
        replaceable = _is_ours(server) and (client.is_per_project or _project_of(client, server) is None)
        if server is None or replaceable:
            return name
    return f"{ENTRY}-{slug}-{mark}"


def _words(server: Any) -> list[str]:
    if not isinstance(server, dict):
        return []
    command, args = server.get("command", []), server.get("args", [])
    return [str(part) for words in (command, args) for part in (words if isinstance(words, list) else [words])]


def _is_ours(server: Any) -> bool:
    words = _words(server)
    return bool(words) and (bool(_PROGRAM.fullmatch(words[0])) or any(map(_PACKAGE.fullmatch, words)))


def _project_of(client: Client, server: Any) -> str | None:
    words = _words(server)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--project":
            return following
        if word.startswith("--project="):
            return word.partition("=")[2]
    variables = server.get(client.env) if isinstance(server, dict) else None
    return variables.get("TIERKIT_PROJECT") if isinstance(variables, dict) else None
