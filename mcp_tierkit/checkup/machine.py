"""This machine: packages, git, confinement, and what our tools cost a client to list."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mcp_tierkit import __version__
from mcp_tierkit.checkup.symptom import Symptom, fine, problem, warning
from mcp_tierkit.playbook.folder import FolderRefused, digest, read_folder
from mcp_tierkit.playbook.load import builtin_root
from mcp_tierkit.playbook.trust import is_shipped
from mcp_tierkit.sandbox import probe
from mcp_tierkit.tokens import count

OLDEST_GIT = (2, 24)  # `--end-of-options`, without which a git range could pass for an option
_TOOLS = Path(__file__).parent.parent / "data" / "tools.json"


def look_at_packages() -> Iterator[Symptom]:
    parts = [f"Python {platform.python_version()}", f"mcp-tierkit {__version__}"]
    for package in ("mcp", "litellm"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            what = f"The package {package} is not installed beside this one."
            yield problem("package_missing", what, "pip install -U mcp-tierkit")
    found = _git_version()
    if found is None:
        what = "git was not found: reviews can read patches only, and playbooks that ask git decline."
        yield warning("git_missing", what, "Install git and see that it is on the PATH.")
    elif found < OLDEST_GIT:
        what = f"git {'.'.join(map(str, found))} is too old to be asked for ranges safely."
        yield warning("git_old", what, f"Install git {'.'.join(map(str, OLDEST_GIT))} or newer.")
    else:
        parts.append(f"git {'.'.join(map(str, found))}")
    yield fine("packages", ", ".join(parts))


def _git_version() -> tuple[int, ...] | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    numbers = re.search(r"(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, numbers.groups())) if numbers else None


async def look_at_sandbox(allow: tuple[str, ...]) -> list[Symptom]:
    """Whether checks are confined, by trying it; without, which of them may run."""
    confinement = await probe()
    if confinement.kind == "sandbox" and confinement.writable_layer:
        return [fine("sandbox", "checks and playbooks run confined")]
    if confinement.kind == "sandbox":
        what = f"Checks run confined; playbooks that write are refused: {confinement.reason}."
        return [warning("no_writable_layer", what, "Use a kernel that allows overlay mounts to ordinary users.")]
    why = f"There is no sandbox ({confinement.reason}), so a draft is checked in place, under a journal."
    fix = "On Linux, allow unprivileged user namespaces"
    if allow:
        return [warning("no_sandbox", f"{why} These checks may run: {', '.join(allow)}.", f"{fix}; or leave it so.")]
    what = f"{why} No check is allowed, so no draft can be proven."
    return [problem("no_sandbox", what, f'{fix}; or allow commands that you trust: [checks] allow = ["pytest"].')]


def look_at_schemas() -> list[Symptom]:
    contract = json.loads(_TOOLS.read_text("utf8"))
    shown = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in contract["tools"]]
    counted = count(json.dumps(shown, separators=(",", ":")) + contract["instructions"])
    about = "about " if counted.is_estimate else ""
    what = f"{len(shown)} tools and their instructions are {about}{counted.tokens} tokens for a client that loads all"
    return [fine("schemas", what)]


def look_at_shipped() -> list[Symptom]:
    """The playbooks of the package: one that is not as it was made is untrusted, and nobody can trust it."""
    root = builtin_root()
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    changed = [name for name in names if not _is_as_shipped(root / name)]
    if changed or not names:
        told = f"{', '.join(changed)} differ from what the package was made with" if changed else "there are none"
        what = f"Of the playbooks that come with the package, {told}."
        return [problem("shipped_playbooks", what, "Install mcp-tierkit again.")]
    return [fine("shipped_playbooks", f"{len(names)} playbooks come with the package, each as it was made")]


def _is_as_shipped(path: Path) -> bool:
    try:
        return is_shipped(path.name, digest(read_folder(path, shipped=True), shipped=True))
    except FolderRefused:
        return False
