"""What a project's folder shows at a glance: secrets to hide from a check, and modules it could have itself."""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from pathlib import Path

from mcp_tierkit.checks.bench import Bench
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.redact import is_denied
from mcp_tierkit.scope import in_scope
from mcp_tierkit.types import Changes, Check
from mcp_tierkit.workspace import SKIPPED, Workspace

MAX_LISTED = 5000


def secret_files(bench: Bench, changes: Changes) -> list[str]:
    """Denied files of the project, and of the folders above it that are shown."""
    above = {folder for shown in bench.readable for folder in bench.root.parents if folder.is_relative_to(shown)}
    found = [str(folder / name) for folder in above for name in _denied_in(folder, bench.deny)]
    return [*found, *(name for name in _denied_in(bench.root, bench.deny) if name not in changes)]


def _denied_in(folder: Path, deny: tuple[str, ...]) -> list[str]:
    """Denied files in a folder and one level down: a full walk would cost more than the check."""
    found: list[str] = []
    for name, path in _entries(folder):
        if name == ".git":
            continue
        if is_denied(name, deny):
            found.append(name)
        elif os.path.isdir(path) and not os.path.islink(path) and name not in SKIPPED:
            found += [f"{name}/{below}" for below, _ in _entries(path) if is_denied(f"{name}/{below}", deny)]
    return found


def _entries(folder: Path | str) -> list[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.path) for entry, _ in zip(entries, range(MAX_LISTED), strict=False)]
    except OSError:
        return []


def environment_of(root: Path, cwd: str = ".") -> Path | None:
    """The Python environment that a check in `cwd` finds first; None where the project has none."""
    found = (folder / name for folder in _homes(root, cwd) for name in (".venv", "venv"))
    return next((environment for environment in found if (environment / "bin").is_dir()), None)


def search_path(root: Path, path: str, cwd: str = ".") -> str:
    """Where a check in `cwd` looks for programs: the project's own tools, then `path`."""
    environment = environment_of(root, cwd)
    first = [environment / "bin"] if environment else []
    first += [tools for folder in _homes(root, cwd) if (tools := folder / "node_modules/.bin").is_dir()]
    return os.pathsep.join([*map(str, first), path])


def _homes(root: Path, cwd: str) -> list[Path]:
    return [root] if cwd == "." else [root / cwd, root]


def text_of(path: Path) -> str:
    try:
        return Workspace(path.parent).text(path.name)
    except (TierkitError, OSError):
        return ""


def provides(bench: Bench, check: Check, changes: Changes, name: str) -> bool:
    """Whether a module that was not found is the project's own to provide: there, or the draft's to write."""
    wanted = (name, f"{name}.py", f"{name}.js", f"{name}.ts")
    if any(part in wanted for path in changes for part in path.split("/")):
        return True
    if any(part in wanted for pattern in bench.files for part in pattern.rstrip("/").split("/")):
        return True
    if any((bench.root / folder / entry).exists() for folder in _roots(bench, check) for entry in wanted):
        return True
    if _is_dependency(bench, name):
        return False
    places = (f"{name}.py", f"{name}/__init__.py", f"src/{name}.py", f"src/{name}/__init__.py")
    return any(in_scope(place, bench.files) for place in places)


def _roots(bench: Bench, check: Check) -> set[str]:
    base = "" if check.cwd == "." else check.cwd
    below = {name for name, path in _entries(bench.root) if name not in SKIPPED and os.path.isdir(path)}
    return {"", base, f"{base}/src".lstrip("/"), *below, *(f"{name}/src" for name in below)}


def _is_dependency(bench: Bench, name: str) -> bool:
    """Whether the project's own lists of packages name it."""
    squeezed = re.sub(r"[-_.]+", "-", name).lower()
    texts = [
        text_of(bench.root / file) for file in ("pyproject.toml", "setup.cfg", "setup.py", "package.json", "Pipfile")
    ]
    texts += [
        text_of(Path(path)) for file, path in _entries(bench.root) if re.fullmatch(r"requirements[\w.-]*\.txt", file)
    ]
    words = re.findall(r"[A-Za-z0-9@/][\w./-]*", "\n".join(texts))
    own = _own_name(texts[0])
    return any(re.sub(r"[-_.]+", "-", word).lower() == squeezed != own for word in words)


def _own_name(pyproject: str) -> str:
    with contextlib.suppress(tomllib.TOMLDecodeError, TypeError, AttributeError):
        return re.sub(r"[-_.]+", "-", str(tomllib.loads(pyproject).get("project", {}).get("name", ""))).lower()
    return ""
