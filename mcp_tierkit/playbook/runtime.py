"""How a script is started: the interpreter, what of it must be readable, and the words of the command."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from mcp_tierkit.sandbox import clean_env
from mcp_tierkit.types import Record

_SYSTEM = (Path("/usr"), Path("/usr/local"), Path("/bin"), Path("/lib"), Path("/opt"))

# `-I` keeps the project and the environment off the import path; the script's own folder is put back,
# so that files beside it can be imported as they are when a person runs it by hand.
_START = (
    "import runpy,sys,os;sys.argv=sys.argv[1:];sys.path.insert(0,os.path.dirname(sys.argv[0]));"
    "runpy.run_path(sys.argv[0],run_name='__main__')"
)


class Interpreter(Record):
    """A program that runs scripts, and host folders outside the system's own that it needs."""

    argv: tuple[str, ...]
    readable: tuple[Path, ...] = ()


def interpreter(
    runtime: Literal["python", "bash", "node"], project: Path, *, confined: bool, theirs: bool = False
) -> Interpreter | None:
    """What runs a script of that runtime, None where there is none.

    The project's own Python comes with the repository and may run code of its own as it starts. So it is taken only
    where the run is confined, and not for a playbook that is not the project's (`theirs`): a repository could make
    it say anything. Such a one may still start the project's Python itself, for the project's own tests.
    """
    if runtime == "bash":
        bash = _on_path("bash")
        return Interpreter(argv=(bash, "--norc", "--noprofile")) if bash else None
    if runtime == "node":
        node = _on_path("node")
        return _node(node) if node else None
    own, users = _of_project(project) if confined else None, _of_path(_on_path("python3"))
    if own is None or not theirs:
        return own or users
    return users.model_copy(update={"readable": tuple(sorted({*users.readable, *own.readable}))})


def of_environment(python: Path, folder: Path) -> Interpreter | None:
    """The interpreter of an environment of ours; None where the Python that it was made with looks strange."""
    base = _base(Path(os.path.realpath(python)))
    return _python(str(python), folder, base) if base else None


def _on_path(name: str) -> str | None:
    """Of absolute folders only: a relative one would be looked for in the project."""
    return shutil.which(name, path=clean_env()["PATH"])


def _of_project(project: Path) -> Interpreter | None:
    for folder in (".venv", "venv"):
        python = project / folder / "bin" / "python"
        if not os.access(python, os.X_OK) or not (project / folder / "pyvenv.cfg").is_file():
            continue
        base = _base(Path(os.path.realpath(python)))
        if base is not None and not base.is_relative_to(os.path.realpath(project)):
            return _python(str(python), base)
    return None


def _base(python: Path) -> Path | None:
    """The installation that an interpreter belongs to; None unless it looks like one.

    The link is the repository's, so it must not be able to name any other folder as readable.
    """
    prefix = python.parent.parent
    has_library = any(prefix.glob("lib*/python3.*/os.py"))
    is_place = prefix != prefix.parent and prefix != Path.home()
    return prefix if python.name.startswith("python") and has_library and is_place else None


@functools.cache
def _of_path(found: str | None) -> Interpreter:
    """`python3` of the user's PATH, asked once where it really is: what is on PATH may be a shim."""
    ask = "import sys; print(sys.executable); print(sys.prefix); print(sys.base_prefix)"
    said = _asked(found, "-I", "-S", "-c", ask) if found else []
    if len(said) != 3:
        return _python(sys.executable, Path(sys.base_prefix))
    return _python(said[0], Path(said[1]), Path(said[2]))


@functools.cache
def _node(found: str) -> Interpreter | None:
    """`node` of the user's PATH, asked once where it really is. It looks for modules beside the script only."""
    said = _asked(found, "-p", "process.execPath")
    if len(said) != 1 or not os.path.isabs(said[0]):
        return None
    node = Path(said[0])
    prefix = node.parent.parent
    is_installation = node.parent.name == "bin" and prefix != Path.home() and (prefix / "lib").is_dir()
    needed = prefix if is_installation else node
    return Interpreter(argv=(str(node), "--no-global-search-paths"), readable=() if _is_system(needed) else (needed,))


def _asked(program: str, *words: str) -> list[str]:
    """The lines that a program says of itself; none where it fails."""
    try:
        said = subprocess.run(
            [program, *words], capture_output=True, cwd="/", env=clean_env(), timeout=20, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return said.stdout.decode().splitlines()
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def _python(python: str, *prefixes: Path) -> Interpreter:
    needed = {prefix for prefix in prefixes if not _is_system(prefix)}
    return Interpreter(argv=(python, "-I", "-B", "-c", _START), readable=tuple(sorted(needed)))


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(system) for system in _SYSTEM)
