"""What to type about work that came again: a line that works as it stands, in the folder where it would be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import PurePath
from typing import Literal, NamedTuple

from mcp_tierkit.repeats import free_name
from mcp_tierkit.tables import packaged

By = Literal["run", "type", "make", "write", "fill", "look"]
"""With a playbook that is there, by typing a command, with a playbook that a command becomes, with one to write, or
with one whose form is there and not filled in. `look` is work that a script may not be able to do at all."""
TO_WRITE = frozenset[By]({"write", "fill"})
"""What saves nothing until somebody has written a script."""
_OFFERED = 200
_LOST = ("[redacted:", "\N{REPLACEMENT CHARACTER}")
_SHELL = frozenset("|&;<>()$`*?[]{}!~#\\\n")


class Use(NamedTuple):
    """The line that uses a playbook, or that tries out one that is still the form it began as. `is_look` where it
    changes nothing."""

    line: str
    is_form: bool = False
    is_look: bool = False


class Shelf(NamedTuple):
    """The playbooks within reach of one folder: names that a new one cannot have, and the use of the one that does a
    job already, told from its name, its prompts and its command; None where none does."""

    taken: Collection[str] = ()
    use: Callable[[str, Sequence[str], str], Use | None] = lambda name, prompts, command: None


class Reach(NamedTuple):
    """Where a line will be typed: the project there, empty where there is none; what can be a project; its shelf."""

    here: str = ""
    is_project: Callable[[str], bool] = lambda folder: False
    shelf: Callable[[str], Shelf] = lambda folder: Shelf()


class Advice(NamedTuple):
    """`line` is empty where nothing that can be typed would do it."""

    name: str
    by: By
    line: str


class Work(NamedTuple):
    """A job that came again. `command` is what was run for it, if one was; `is_plain` where its programs are known,
    `is_look` where it shows something and changes nothing. `is_change` where files were
    changed, which nothing that only looks does. `projects` are the dearest first."""

    name: str
    projects: Sequence[str]
    prompts: Sequence[str] = ()
    command: str = ""
    is_plain: bool = False
    is_look: bool = False
    playbook: str = ""
    task_id: str = ""
    is_change: bool = False


def advise(work: Work, reach: Reach) -> Advice:
    """What to type about it."""
    projects = _outermost(work.projects)
    folder, cd = _place(projects, reach)
    shelf = reach.shelf(folder)
    form = ""
    for name, prompts, command in ((work.name, work.prompts, work.command), (work.playbook, (), "")):
        if name and (use := shelf.use(name, prompts, command)):
            if not (use.is_form or (work.is_change and use.is_look)):
                return Advice(work.name, "run", cd + use.line)
            form = use.line if use.is_form else form  # What a task or a command becomes by itself needs no form.
    name = free_name(work.name, set(shelf.taken))
    new, own = f"{cd}tierkit playbook new {name}", " --user" * (len(projects) > 1)
    if work.task_id:
        return Advice(name, "make", f"{new} --from-task {work.task_id}{own}")
    if not _can_be_shown(work.command):
        return Advice(work.name, "fill", cd + form) if form else Advice(name, "write", new + own)
    if work.is_plain and (work.is_look or says("outward", work.command) or changes(work.command)):
        return Advice(name, "type", cd + work.command)
    is_simple = _SHELL.isdisjoint(work.command)
    if says("outward", work.command) or (_removes(work.command) and not is_simple):
        return Advice(name, "type", cd + work.command if is_simple else "")  # Its reader should find it in the session.
    # What formats a whole project would format a playbook in it as well, which no run may.
    writes = ' --user --writes "**"' if changes(work.command) else own
    return Advice(name, "make", f"{new} --from-command {_quoted(work.command)}{writes}")


def says(kind: str, command: str) -> bool:
    """Whether the command looks to be of a kind that data/commands.toml knows."""
    return any(re.search(pattern, command) for pattern in packaged("commands")[kind])


def changes(command: str) -> bool:
    """Whether the command looks to write into a project."""
    return says("changing", command) or bool(_writing().search(command))


def _removes(command: str) -> bool:
    return any(re.search(pattern, command) for pattern in packaged("audit")["work"]["removing"])


@cache
def _writing() -> re.Pattern[str]:
    return re.compile("|".join(packaged("audit")["work"]["writing"]))


def _can_be_shown(command: str) -> bool:
    """Only as it was run, and on one line: what lost a secret, its end or an unprintable character would do something
    else."""
    return command.isprintable() and 0 < len(command) <= _OFFERED and not any(lost in command for lost in _LOST)


def _outermost(projects: Iterable[str]) -> list[str]:
    """Each once, without those below another."""
    known = [project for project in dict.fromkeys(projects) if project]
    return [one for one in known if not any(PurePath(other) in PurePath(one).parents for other in known)]


def _place(projects: Sequence[str], reach: Reach) -> tuple[str, str]:
    """The folder in which a line is to be typed, and how to get there, empty where one is there already."""
    if reach.here and (len(projects) != 1 or PurePath(projects[0]).is_relative_to(reach.here)):
        return reach.here, ""
    there = next((project for project in projects if reach.is_project(project)), "")
    return (there, f"cd {shlex.quote(there)} && ") if there else (reach.here, "")


def _quoted(text: str) -> str:
    """Double quotes where that is the same to a shell, since they read better."""
    return f'"{text}"' if not set('"$`\\!\n') & set(text) else shlex.quote(text)
