"""A command worth keeping, as a playbook. The command is read here and never run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from posixpath import normpath
from typing import Any

from mcp_tierkit.playbook.load import Playbook
from mcp_tierkit.playbook.match import usable
from mcp_tierkit.playbook.schema import Fields
from mcp_tierkit.playbook.starter import Starter, as_json, template
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Content

MAX_COMMAND = 4000
TIMEOUT_S, ENDLESS_S = 600, 30

_SCRIPT = "scripts/run.py"
_HEAD = "set -euo pipefail\n"
_PLAIN = re.compile(r"[\w ./=,@+-]{1,200}", re.ASCII)
_PROGRAM = re.compile(r"[\w.+-]+", re.ASCII)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
# Bare, these mean something to a shell; the second set does so within double quotes too.
_BARE, _IN_QUOTES = frozenset("|&;<>()$`*?[]{}!\\\n"), frozenset("$`\\")


def command_starter(name: str, command: str, writes: Sequence[str] = ()) -> Starter:
    """The playbook that runs `command`; it may change what `writes` names, and otherwise nothing.

    Raises ValueError for a command that cannot be kept: empty, unfinished, or with a secret in it.
    """
    command = command.strip()
    _check(command)
    argv = None if needs_shell(command) else tuple(shlex.split(command))
    needs = programs(command) if argv is None else (argv[0],)
    words = name.replace("-", " ")
    shown = f"`{command}`" if _PLAIN.fullmatch(command) else "the command of this playbook"
    is_outward, is_endless = says("outward", command), says("endless", command)
    values = {
        "name": name, "words": words, "shown": shown, "prose": _prose(command, argv),
        "phrases": json.dumps(_phrases(words, command), ensure_ascii=False),
        "timeout_s": str(ENDLESS_S if is_endless else TIMEOUT_S), "effects": _effects(writes, network=is_outward),
    }  # fmt: skip
    files = template("command", values)
    kept = {"argv": argv} if argv else {}
    known = packaged("commands")
    told = {"needs": needs, "ok_exit_codes": [0], "programs": known["programs"], "env": known["env"]}
    files["assets/command.json"] = as_json({**kept, **told})
    if argv is None:
        files["scripts/command.sh"] = Content(data=(_HEAD + command + "\n").encode())
    files |= _stand_in(argv, needs)
    notes = _notes(command, name, writes)
    if "tests/stand-in/case.json" in files:
        notes.append(
            f"The case stand-in runs a stand-in for {', '.join(needs)}: it proves the script, not the program."
        )
    return Starter(name=name, files=files, notes=tuple(notes))


def kept_command(chosen: Playbook) -> str | None:
    """The command that a playbook of `command_starter` runs; None where anything else could run in its place."""
    folder = chosen.folder
    if (chosen.rules.script, chosen.rules.runtime) != (_SCRIPT, "python"):
        return None  # The command's own file may be started by itself, whatever the words beside it say.
    own = {entry.path for entry in folder.files if entry.path.startswith("scripts/")} - {"scripts/command.sh"}
    if own != {_SCRIPT} or folder.read(_SCRIPT) != template("command", {})[_SCRIPT].data:
        return None
    try:
        kept = json.loads(folder.read("assets/command.json") or b"")
        known = packaged("commands")
        if any(kept[key] != known[key] for key in ("programs", "env")):
            return None
        if "argv" in kept:
            return shlex.join(kept["argv"])
        return (folder.read("scripts/command.sh") or b"").decode().removeprefix(_HEAD).rstrip() or None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def needs_shell(command: str) -> bool:
    """Whether anything in it means more than its words. In doubt it does."""
    quote = ""
    for char in command:
        if quote:
            if char == quote:
                quote = ""
            elif quote == '"' and char in _IN_QUOTES:
                return True
        elif char in "'\"":
            quote = char
        elif char in _BARE:
            return True
    words = shlex.split(command)
    bare = [word for word in words if word.startswith(("~", "#"))]
    return bool(bare) or bool(_ASSIGNMENT.match(command)) or words[0] in packaged("commands")["builtins"]


def programs(command: str) -> tuple[str, ...]:
    """The programs that a shell command plainly calls by name, in order; none where it is not plain."""
    known = packaged("commands")
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    found, is_first = [], True
    tokens = list(lexer)
    if "<<" in command or set(tokens) & set(known["blocks"]):
        return ()
    for token in tokens:
        if set(token) <= set("|&;()"):
            is_first = True
        elif is_first and not _ASSIGNMENT.match(token):
            is_first = False
            if _PROGRAM.fullmatch(token) and token not in known["builtins"]:
                found.append(token)
    return tuple(dict.fromkeys(found))


def says(kind: str, command: str) -> bool:
    """Whether the command looks to be of a kind that `data/commands.toml` knows."""
    return any(re.search(pattern, command) for pattern in packaged("commands")[kind])


def missing(starter: Starter, project: Path) -> tuple[str, ...]:
    """The programs that it needs and that neither the project nor PATH has."""
    kept = json.loads(starter.files["assets/command.json"].data)
    path = os.pathsep.join(
        [*(str(project / folder) for folder in kept["programs"]), os.environ.get("PATH", os.defpath)]
    )
    return tuple(one for one in kept["needs"] if not shutil.which(str(project / one) if "/" in one else one, path=path))


def with_failing_case(starter: Starter) -> Starter:
    """The same with the case of the command at work expected to fail, as a pipe of stand-ins does."""
    at_work = next(path for path in starter.files if path.endswith("case.json") and "no-such-folder" not in path)
    case = json.loads(starter.files[at_work].data)
    case["expect"]["status"] = "failed"
    return starter.model_copy(update={"files": {**starter.files, at_work: as_json(case)}})


def without_ok_case(starter: Starter, fault: str) -> Starter:
    """The same with a second case that is declined in place of the one that goes well; a note says why."""
    case = next(path for path in starter.files if path.endswith("case.json") and "no-such-folder" not in path)
    above = case.removesuffix("case.json")
    files = {path: one for path, one in starter.files.items() if not path.startswith(above)}
    declined = {"inputs": {"folder": "README.md"}, "expect": {"status": "declined", "changed": []}}
    files["tests/no-folder/case.json"] = as_json(declined)
    files["tests/no-folder/workspace/README.md"] = Content(data=b"A file, no folder.\n")
    note = f"No case shows it at work, since a trial in an empty project did not pass ({fault}). Write one in tests/."
    return starter.model_copy(update={"files": files, "notes": (*starter.notes, note)})


def _check(command: str) -> None:
    if not command or len(command) > MAX_COMMAND or "\0" in command:
        raise ValueError(f"the command is empty, or longer than {MAX_COMMAND} characters")
    if secrets := find_secrets(command):
        raise ValueError(f"the command holds what looks like a {secrets[0].rule}")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"the command cannot be read: {error}") from None
    if not words or not words[0]:
        raise ValueError("the command names no program")
    if words[0].startswith("/") or ".." in words[0].split("/"):
        raise ValueError("the command names its program by a place outside the project")


def _prose(command: str, argv: tuple[str, ...] | None) -> str:
    where = "`assets/command.json`, word by word" if argv else "`scripts/command.sh`, as it was typed"
    shown = f"Runs `{command}`." if _PLAIN.fullmatch(command) else "Runs one command."
    return f"{shown} It stands in {where}: change it there."


def _phrases(words: str, command: str) -> list[str]:
    """What a task may say, as far as a phrase can hold it."""
    inputs = Fields({"folder": {"type": "string", "default": "."}})
    return usable((words, f"run {words}", f"run {command}", f"run {words} in {{folder}}"), inputs)


def _effects(writes: Sequence[str], *, network: bool) -> str:
    parts = [
        f"read_only = {'false' if writes else 'true'}",
        f"destructive = {'true' if writes or network else 'false'}",
    ]
    parts += ["network = true"] * network
    parts += ['reads = ["**"]', f"writes = {json.dumps(list(writes), ensure_ascii=False)}"] if writes else []
    return ", ".join(parts)


def _stand_in(argv: tuple[str, ...] | None, needs: Sequence[str]) -> dict[str, Content]:
    """A case that ends alike on every machine: programs that may be missing have a stand-in, which fails."""
    everywhere = () if argv else packaged("commands")["everywhere"]
    paths = [normpath(one) if "/" in one else f"bin/{one}" for one in needs if one not in everywhere]
    case = "tests/stand-in/" if paths else "tests/empty-project/"
    expect: dict[str, Any] = {"status": "ok"}
    if argv:
        expect = {"status": "failed", "output": {"passed": False, "exit_code": 3}}
        expect["contains"] = {"output": _shown(argv[1:])}
    stand_in = template("stand-in", {})["program"].model_copy(update={"mode": 0o755})
    files = {f"{case}workspace/{path}": stand_in for path in paths}
    files.setdefault(f"{case}workspace/README.md", Content(data=b"A project with nothing in it.\n"))
    return files | {f"{case}case.json": as_json({"inputs": {}, "expect": expect})}


def _shown(words: Sequence[str]) -> list[str]:
    """The words as the stand-in prints them, those alone that come out as they went in."""
    return [f"<{word}>" for word in words[:7] if re.fullmatch(r"[\w./=,@+-]{1,80}", word, re.ASCII)]


def _notes(command: str, name: str, writes: Sequence[str]) -> list[str]:
    notes = []
    if says("outward", command):
        notes.append(
            "It reaches outside, so effects.network is true: it runs only where policy.allow_network_playbooks is set."
        )
    if says("irreversible", command):
        notes.append("What it does cannot be taken back: run it yourself, or ask before each run.")
    if says("endless", command):
        notes.append(f"It does not end by itself, so it is stopped after {ENDLESS_S} s with the status timeout.")
    if says("changing", command) and not writes:
        notes.append(
            "It looks as if it changes files, and it is read-only: where it must write, make it again with"
            f" --writes PATTERN (playbooks/{name} removed first)."
        )
    return notes
