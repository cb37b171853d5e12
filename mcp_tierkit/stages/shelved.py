"""Which playbooks within reach of a folder do a job already. Reads and hashes folders; runs and writes nothing."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

from mcp_tierkit.audit.advice import Reach, Use
from mcp_tierkit.audit.advice import Shelf as Reachable
from mcp_tierkit.config import Config
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.places import find_places, find_project, find_repository
from mcp_tierkit.playbook.folder import Folder, FolderRefused, read_folder
from mcp_tierkit.playbook.load import Found, find
from mcp_tierkit.playbook.starter import SCRIPTS, script_starter, skill_starter
from mcp_tierkit.routing import Match
from mcp_tierkit.stages.playbook import Shelf, open_shelf


def reach(env: Mapping[str, str]) -> Reach:
    """What can be typed in the folder that this process stands in."""

    @lru_cache(maxsize=50)
    def shelf(folder: str) -> Reachable:
        return _reachable(folder, env)

    @lru_cache(maxsize=1000)
    def is_project(folder: str) -> bool:
        return os.path.isabs(folder) and bool(
            _project(folder, {**env, "TIERKIT_PROJECT": "", "CLAUDE_PROJECT_DIR": ""})
        )

    return Reach(_project(None, env), is_project, shelf)


def _project(folder: str | None, env: Mapping[str, str]) -> str:
    """Its real path; empty where no playbook could be kept there, as in a home folder."""
    try:
        return str(find_project(folder, env))
    except InvalidInput:
        return ""


def _reachable(folder: str, env: Mapping[str, str]) -> Reachable:
    places = find_places(env)
    project = Path(folder or os.devnull)
    # A shelf is a matter of places alone; all of the configuration would make folders.
    config = Config.model_construct(
        project=project, repository=find_repository(project, env), user_dir=places.user_dir, state_dir=places.state_dir
    )
    found, shelf = find(project, places.user_dir), open_shelf(config)
    # Nearest last, so that it is the one that stays.
    own = {one.name: one for one in reversed(found) if one.origin != "package"}

    def use(name: str, prompts: Sequence[str], command: str) -> Use | None:
        return _use(shelf, own, name, prompts, command)

    return Reachable({one.name for one in found}, use)


def _use(shelf: Shelf, own: Mapping[str, Found], name: str, prompts: Sequence[str], command: str) -> Use | None:
    """With the values of the latest task. One that is not trusted is known by its name, and by being a form of ours."""
    hits = [hit for prompt in prompts if (hit := shelf.phrases.match(prompt))]
    most = max(Counter(hit.name for hit in hits).items(), key=lambda one: one[1], default=("", 0))
    if most[0] and 2 * most[1] >= len(prompts):
        return _run(shelf, next(hit for hit in hits if hit.name == most[0]))
    if command and (known := shelf.phrases.match(f"run {command}")):
        return _run(shelf, known)
    trusted = next((playbook for playbook in shelf.playbooks if playbook.name == name), None)
    if trusted and (name in own or not prompts):
        return _form(trusted.folder) or Use(f"tierkit playbook show {name}")
    if name not in own:
        return None
    try:
        return _form(read_folder(own[name].path)) or Use(f"tierkit playbook trust {name}")
    except FolderRefused:
        return Use(f"tierkit playbook trust {name}")


def _form(folder: Folder) -> Use | None:
    """How to try out what still does what every new playbook does; None for one that somebody filled in."""
    forms = (*_scripts(), ("SKILL.md", skill_starter(folder.name).files["SKILL.md"].data))
    is_form = any((folder.read(path) or b"").split() == text.split() for path, text in forms)
    return Use(f"tierkit playbook test {folder.name}", is_form=True) if is_form else None


@cache
def _scripts() -> tuple[tuple[str, bytes], ...]:
    """The scripts of new playbooks, which say hello."""
    return tuple((path, script_starter("x", runtime).files[path].data) for runtime, path in SCRIPTS.items())


def _run(shelf: Shelf, hit: Match) -> Use:
    """What changes something is shown only: with the values of the latest task it was done already."""
    playbook = shelf.named(hit.name)
    if form := _form(playbook.folder):
        return form
    inputs = playbook.inputs.properties
    given = {key: value for key, value in hit.inputs.items() if value != inputs[key].get("default")}
    if given and not playbook.contract.effects.read_only:
        return Use(f"tierkit playbook show {hit.name}")
    pairs = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
    line = shlex.join(["tierkit", "playbook", "run", hit.name, *pairs])
    return Use(line, is_look=playbook.contract.effects.read_only)
