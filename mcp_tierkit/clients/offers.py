"""What a project could be tried with first: its own checks, found by reading. None of its code is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pydantic import Field

from mcp_tierkit.checks.project import search_path
from mcp_tierkit.sandbox import clean_env
from mcp_tierkit.types import Record

_LIMIT = 1_000_000
_FILES = 200
_RUNNERS = {"pnpm-lock.yaml": "pnpm test", "yarn.lock": "yarn test", "bun.lock": "bun run test"}
_VERSION = {"go": "version"}
_SETTINGS = (("setup.cfg", r"^\[tool:pytest\]"), ("tox.ini", r"^\[pytest\]"))


class Checks(Record):
    """Commands that seem to run a project's tests."""

    ready: tuple[str, ...] = Field(default=(), description="Their program starts here.")
    missing: tuple[str, ...] = Field(default=(), description="The project asks for them, and no such program starts.")


def find_checks(project: Path) -> Checks:
    """What the project's files ask for, told apart by whether a check could start it here."""
    found = [_python(project), _node(project), _make(project)]
    found += ["cargo test" if (project / "Cargo.toml").is_file() else None]
    found += ["go test ./..." if (project / "go.mod").is_file() else None]
    commands = [command for command in found if command]
    ready = tuple(command for command in commands if _starts(project, shlex.split(command)[0]))
    return Checks(ready=ready, missing=tuple(command for command in commands if command not in ready))


def first_task(checks: tuple[str, ...]) -> str:
    """What to ask the agent first: of a size that pays, and with a check that is red before."""
    check, option = "the command that runs your tests", "CHECK"
    if checks:
        check, option = f"`{checks[0]}`", shlex.quote(checks[0])
    return (
        "Choose a change in a file of a hundred lines or more, or one that needs a new file, and write its failing "
        f'test. Then ask your agent: "Have the cheap model make this test pass; the check is {check}." To hear first '
        f"whether handing it over pays: tierkit plan 'THE CHANGE' -f FILE -k {option}. Small work is told "
        "do_it_yourself, since an agent does that cheaper by itself."
    )


def _starts(project: Path, program: str) -> bool:
    """Whether a check would find the program, and it is more than a stand-in for one that is not installed.

    A program of the project's own is looked at only: it is the project's code.
    """
    env = clean_env({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    found = shutil.which(program, path=search_path(project, env["PATH"]))
    # By way of a link too: an environment may have been entered through one, or a script linked into a user's own.
    if found is None or any(Path(place).is_relative_to(project) for place in (found, os.path.realpath(found))):
        return found is not None
    with tempfile.TemporaryDirectory() as empty:
        argv = [found, _VERSION.get(program, "--version")]
        try:
            ran = subprocess.run(argv, cwd=empty, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return ran.returncode == 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size < _LIMIT else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _python(project: Path) -> str | None:
    """The runner that is set up, else the one that the test files are written for."""
    if _sets_up_pytest(project):
        return "pytest"
    tests = list(islice(_test_files(project), _FILES))
    texts = [_text(path) for path in tests]
    if not tests:
        return None
    if any(_imports("pytest", text) for text in texts) or not any(_imports("unittest", text) for text in texts):
        return "pytest"
    # Without a name it looks for tests from the project's folder down, in packages alone.
    folder = tests[0].parent
    is_reached = folder == project or (folder / "__init__.py").is_file()
    return "python3 -m unittest" if is_reached else f"python3 -m unittest discover -s {folder.name}"


def _sets_up_pytest(project: Path) -> bool:
    try:
        tool = tomllib.loads(_text(project / "pyproject.toml")).get("tool", {})
    except tomllib.TOMLDecodeError:
        tool = {}
    if isinstance(tool, dict) and "pytest" in tool:
        return True
    if any((project / name).is_file() for name in ("pytest.ini", "pytest.toml", "conftest.py", "tests/conftest.py")):
        return True
    return any(re.search(section, _text(project / name), re.MULTILINE) for name, section in _SETTINGS)


def _test_files(project: Path) -> Iterator[Path]:
    for folder in ("tests", "test", "."):
        yield from sorted((project / folder).glob("test_*.py"))


def _imports(module: str, text: str) -> bool:
    return re.search(rf"^\s*(import|from)\s+{module}\b", text, re.MULTILINE) is not None


def _node(project: Path) -> str | None:
    try:
        package = json.loads(_text(project / "package.json") or "{}")
        script = package["scripts"]["test"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(script, str) or "no test specified" in script:
        return None
    return next((command for lock, command in _RUNNERS.items() if (project / lock).is_file()), "npm test")


def _make(project: Path) -> str | None:
    return "make test" if re.search(r"^test\s*:(?!=)", _text(project / "Makefile"), re.MULTILINE) else None
