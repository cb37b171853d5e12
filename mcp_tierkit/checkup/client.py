"""Clients' own configuration: is the server there, and does what it names still exist?"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from mcp_tierkit.amounts import plain
from mcp_tierkit.checkup.symptom import Symptom, fine, problem, warning
from mcp_tierkit.clients import Client, clients, find_clients, our_entries, personal_entries, places, prepare
from mcp_tierkit.clients.launch import find_launch
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.places import find_places
from mcp_tierkit.providers import known

State = Literal["absent", "updated", "already_there"]
WORD = 200
"""Characters that are shown of a word out of somebody's file."""
CARRYING_NO_SHELL = ("claude-desktop",)
"""Clients that are started by the desktop, and so without the variables of a shell."""


def look_at_clients(project: Path, env: Mapping[str, str], *, only: str | None = None) -> list[Symptom]:
    """Each client's entries of ours. Reads their files and runs nothing they name."""
    folders = places(project, env)
    found: list[Symptom] = []
    serving = 0
    for client in clients().values():
        if only in (None, client.name):
            told = list(_look(client, project, folders, env))
            serving += bool(told)
            found += told
    if not serving:
        found.append(_absent(only, find_clients(folders)))
    return found


def _absent(only: str | None, installed: tuple[str, ...]) -> Symptom:
    if only is not None and "/" not in clients()[only].file:
        what = f"{clients()[only].title}: where it keeps its servers is not known here, so nothing was looked at."
        return warning("client_unknown", what, f"Compare with what this prints: tierkit init --client {only}")
    if only is not None:
        fix = f"tierkit init --client {only}"
        return problem("client_missing", f"{clients()[only].title} does not name this server for this project.", fix)
    names = installed or ("claude-code",)
    fix = " or ".join(f"tierkit init --client {name}" for name in names[:3])
    return warning("client_missing", "No client names this server for this project yet.", fix)


def _look(client: Client, project: Path, folders: Mapping[str, str], env: Mapping[str, str]) -> Iterator[Symptom]:
    """What is to be said of one client; nothing where it does not know us."""
    file = Path(client.file.format_map(folders))
    try:
        entries = our_entries(client, folders)
        state = _state(client, entries, project, env)
        if client.personal:  # What is wrong from here on is wrong in that file, of the same name.
            file = Path(client.personal.format_map(folders))
        everywhere = {name: words for name, words in personal_entries(client, folders).items() if str(project) in words}
    except InvalidInput as refusal:
        if client.format != "snippet":  # A file that we never write may be of a dialect that we do not read.
            fix = f"Mend {file}, then run: tierkit init --client {client.name}"
            yield problem("client_config", f"{client.title}: {refusal.what.split(' It was not')[0]}", fix)
        return
    broken = {name: why for name, words in (entries | everywhere).items() if (why := _broken(words))}
    for name, why in broken.items():
        fix = f"tierkit init --client {client.name}" + ("" if state != "absent" else ", in the project it serves")
        yield problem("client_command", f"{client.title}, entry {plain(name, WORD)}: {why}.", fix)
    if state == "updated" and not broken:
        what = f"{client.title}: its entry is not what this installation would write."
        yield warning("client_out_of_date", what, f"tierkit init --client {client.name} --dry-run shows the difference")
    if everywhere and client.personal and state == "absent":
        what = f"{client.title} names this server for this project, in a file that every session loads"
        yield fine("client", f"{what}: {client.personal.format_map(folders)}")
    if state == "already_there" and not broken:
        yield fine("client", f"{client.title} names this server for this project")
    if state != "absent" and client.name in CARRYING_NO_SHELL:
        yield from _hidden_keys(client, env)


def _state(client: Client, entries: Mapping[str, tuple[str, ...]], project: Path, env: Mapping[str, str]) -> State:
    """How a client stands to this project; of a file that we never write, whether it names it."""
    if not entries:
        return "absent"
    if client.format == "snippet":
        names_it = any(str(project) in word for words in entries.values() for word in words)
        return "already_there" if names_it or client.is_per_project else "absent"
    keys = tuple(name for provider in known().provider for name in provider.keys if name in env)
    state = prepare(client, find_launch(project, env, keys=keys), project, env).state
    return "absent" if state == "added" else state


def _broken(words: tuple[str, ...]) -> str | None:
    """Why this command line cannot start; None where nothing speaks against it."""
    command = words[0]
    if not os.path.isabs(command):
        return None if shutil.which(command) else f"{plain(command, WORD)} is not on the PATH"
    if not os.path.exists(command):
        return f"{plain(command, WORD)} is gone, so its environment was moved or removed"
    if not os.access(command, os.X_OK) or os.path.isdir(command):
        return f"{plain(command, WORD)} cannot be run"
    interpreter = _interpreter(Path(command))
    if interpreter and not os.path.exists(interpreter):
        return f"{plain(command, WORD)} wants {plain(interpreter, WORD)}, which is gone"
    return None


def _interpreter(script: Path) -> str | None:
    """The program that a script's first line names, None for what is no script."""
    try:
        with script.open("rb") as file:
            first = file.readline(4096)
    except OSError:
        return None
    named = re.match(rb"#!\s*(/\S+)", first)
    return os.fsdecode(named[1]) if named else None


def _hidden_keys(client: Client, env: Mapping[str, str]) -> Iterator[Symptom]:
    set_here = [name for provider in known().provider for name in provider.keys if env.get(name)]
    file = find_places(env).user_dir / "keys.env"
    if set_here and not file.exists():
        what = f"{client.title} starts servers without your shell's variables, so {set_here[0]} is not seen there."
        yield warning("client_keys", what, f"Put a line {set_here[0]}=… into {file}, and chmod 600 it.")
