"""The playbook that a command line names: found, read, and refused in words that help."""

from __future__ import annotations

import difflib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_tierkit.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.playbook.folder import Folder
    from mcp_tierkit.playbook.load import Found, Playbook


def config_of(project: Path | None) -> Config:
    from mcp_tierkit.config import load_config

    return load_config(project=str(project) if project else None)


def trusted_named(config: Config, name: str) -> Playbook:
    """The playbook that a run would take. Raises NotFound, which names the nearest trusted one, or Untrusted."""
    from mcp_tierkit.stages.playbook import open_shelf

    try:
        return open_shelf(config, name=name).named(name)
    except NotFound as error:
        others = [known.name for known in open_shelf(config).playbooks if known.name != name]
        raise _suggesting(error, name, others) from None


def nearest(config: Config, name: str) -> Found:
    """The nearest folder of that name, trusted or not. Raises NotFound."""
    from mcp_tierkit.playbook.load import find

    known = find(config.project, config.user_dir)
    for found in known:
        if found.name == name:
            return found
    missing = NotFound(
        f"not_found: There is no playbook {name[:64]!a}. Nothing was read.", next_step="See tierkit playbook list."
    )
    raise _suggesting(missing, name, [found.name for found in known])


def _suggesting(error: NotFound, name: str, names: list[str]) -> NotFound:
    close = difflib.get_close_matches(name, names, n=1)
    return NotFound(error.what, next_step=f"Did you mean {close[0]}?") if close else error


def chosen(config: Config, names: tuple[str, ...]) -> list[Found]:
    """The named ones; without names the project's and the user's own."""
    from mcp_tierkit.playbook.load import find

    if names:
        return [nearest(config, name) for name in names]
    return [found for found in find(config.project, config.user_dir) if found.origin != "package"]


def folder_of(found: Found) -> Folder:
    """Its bytes. Raises InvalidInput where no playbook may be such a folder."""
    from mcp_tierkit.playbook.folder import FolderRefused, read_folder

    try:
        return read_folder(found.path, shipped=found.origin == "package")
    except FolderRefused as error:
        raise InvalidInput(
            f"The folder of {found.name} is refused: {error}. Nothing was run.", next_step="Mend it."
        ) from None


def loaded(folder: Folder, found: Found) -> Playbook:
    """The playbook in those bytes, trusted or not. Raises InvalidInput."""
    from mcp_tierkit.playbook.folder import digest
    from mcp_tierkit.playbook.load import BadPlaybook, load, read_front_matter

    shipped = found.origin == "package"
    try:
        read_front_matter(folder)
        return load(folder, digest(folder, shipped=shipped), origin=found.origin)
    except BadPlaybook as error:
        raise InvalidInput(
            f"{found.name} is not a playbook: {plain(str(error))}. Nothing was run.",
            next_step=f"Mend it; tierkit playbook lint {found.name} says more.",
        ) from None


def unreadable(error: Exception) -> InvalidInput:
    return InvalidInput(
        f"Nothing is trusted now: {error}. It was left as it is.",
        next_step="Move trust.json out of the state folder and trust your playbooks again.",
    )


def plain(text: str, *, lines: bool = False) -> str:
    """Text of a playbook for the terminal: nothing in it moves the cursor or hides."""
    from mcp_tierkit.playbook.trust import escaped

    return "\n".join(map(escaped, text.split("\n"))) if lines else escaped(text)


SAMPLES = {"date": "2024-03-09", "semver": "1.4.0", "git-ref": "HEAD", "project-path": "PATH"}
OF_TYPE = {"string": "TEXT", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}


def example_call(playbook: Playbook) -> str:
    """A command line with every input that must be given, each of the right kind."""
    required = {key: one for key, one in playbook.inputs.properties.items() if "default" not in one}
    values = {key: _sample(one) for key, one in required.items()}
    pairs = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())
    return shlex.join(["tierkit", "playbook", "run", playbook.name, *pairs])


def _sample(schema: dict[str, Any]) -> Any:
    for known in (schema.get("examples"), schema.get("enum"), [schema["const"]] if "const" in schema else None):
        if isinstance(known, list) and known:
            return known[0]
    return SAMPLES.get(schema.get("format", ""), OF_TYPE[schema["type"]])


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
