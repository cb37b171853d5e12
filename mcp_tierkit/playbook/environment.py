"""The environment of a `uv` script: fetched by its lock file when a person trusts or tests it, only read when it runs.

What counts is the lock file. It is exported to names, versions and hashes, and those come from the user's own index as
wheels: no build runs, no address that a playbook names is asked, and none of what was fetched is started. The header's
`[tool.uv]` table and the project's settings for uv are not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from mcp_tierkit.errors import PolicyRefused
from mcp_tierkit.playbook.load import Playbook
from mcp_tierkit.playbook.place import private_folder
from mcp_tierkit.playbook.result import tail
from mcp_tierkit.sandbox import clean_env
from mcp_tierkit.types import Record

FOLDER = "environments"
FORMAT = b"tierkit-environment-1\0"
FETCH_S = 600

_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[^\s;@]+(?: ; [^\n]*?)?(?: --hash=sha256:[0-9a-f]{64})+")
_WHOLE = "whole"
_RETRY = "Mend it, and run the same command again."
_SPECIFIER = re.compile(r"[<>=!~0-9., *]{1,100}")
_PASSED_ON = (
    "PATH", "HOME", "XDG_CACHE_HOME", "UV_CACHE_DIR", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER", "UV_OFFLINE",
    "UV_HTTP_TIMEOUT", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST", "UV_PYTHON_INSTALL_DIR", "NETRC",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "all_proxy", "no_proxy",
)  # fmt: skip
_PASSED_BY_PREFIX = "UV_INDEX_"  # The user name and the password of a named index.


class Environment(Record):
    """A whole environment: its interpreter, and its folder, which the run has to be able to read."""

    python: Path
    folder: Path


class EnvironmentRefused(PolicyRefused):
    """The environment of a playbook cannot be made. Its trust stands; it is refused when run."""


def prepare(playbook: Playbook, state_dir: Path) -> None:
    """Make the environment that the playbook runs in; nothing to do where it needs none or has it already.

    It blocks while uv fetches. Call it once a person has agreed to the bytes (`trust`), or asks for its tests
    (`test`). Two at once make the same thing, and the first one stays. Raises EnvironmentRefused.
    """
    if not _is_uv(playbook) or ready(playbook, state_dir) is not None:
        return
    lock = _lock(playbook)
    if lock is None:
        raise _no_lock(playbook)
    uv = shutil.which("uv", path=clean_env()["PATH"])
    if uv is None:
        raise _refused(playbook, "needs uv, which is not on PATH", f"Install uv, then {_again(playbook)}")
    with private_folder(state_dir / FOLDER) as stage:
        _build(playbook, uv, lock, stage)
        _settle(playbook, lock, stage, state_dir)


def ready(playbook: Playbook, state_dir: Path) -> Environment | None:
    """The whole environment of these bytes' lock file, None where it was never made or was lost."""
    lock = _lock(playbook)
    if lock is None:
        return None
    folder = _path(lock, state_dir)
    found = Environment(python=folder / "bin/python", folder=folder)
    return found if (folder / _WHOLE).is_file() and os.access(found.python, os.X_OK) else None


def refuse_unless_ready(playbook: Playbook, state_dir: Path | None) -> Environment:
    """The environment to run in. Raises EnvironmentRefused with what mends it; nothing is fetched."""
    if _lock(playbook) is None:
        raise _no_lock(playbook)
    found = ready(playbook, state_dir) if state_dir else None
    if found is None:
        raise _refused(playbook, "lacks the environment that its lock file names", _sentence(_again(playbook)))
    return found


def _build(playbook: Playbook, uv: str, lock: bytes, stage: Path) -> None:
    """A whole environment at `stage/environment`."""
    needs = _needs_python(playbook, lock)
    script, wanted, made = stage / "script.py", stage / "wanted.txt", stage / "environment"
    # Not the playbook's own header: it may carry settings for uv.
    script.write_text("# /// script\n# dependencies = []\n# ///\n", "utf-8")
    (stage / "script.py.lock").write_bytes(lock)
    exporting = ("export", "--script", str(script), "--frozen", "--offline", "--no-header", "--no-annotate")
    wanted.write_text(_pinned(playbook, _uv(playbook, uv, stage, *exporting, "--format", "requirements.txt")), "utf-8")
    _uv(playbook, uv, stage, "venv", "--no-python-downloads", "--relocatable", "--python", needs, str(made))
    python = made / "bin/python"
    base = os.path.realpath(python)
    _uv(
        playbook, uv, stage, "pip", "sync", "--python", str(python), "--require-hashes", "--only-binary", ":all:",
        "--link-mode", "copy", "--allow-empty-requirements", "--no-python-downloads", str(wanted),
    )  # fmt: skip
    # By the interpreter underneath: the environment's own would run what a package left for its start.
    for library in made.glob("lib/python3*/site-packages"):
        command = [base, "-I", "-S", "-m", "compileall", "-q", str(library)]
        subprocess.run(command, cwd=stage, env={}, capture_output=True, stdin=subprocess.DEVNULL, timeout=FETCH_S)
    (made / _WHOLE).touch()


def _settle(playbook: Playbook, lock: bytes, stage: Path, state_dir: Path) -> None:
    """Put it in its place in one step. A whole one that is there stays; a broken one makes room."""
    target = _path(lock, state_dir)
    for turn in range(3):
        if ready(playbook, state_dir) is not None:
            return
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, stage / f"broken{turn}")
        with contextlib.suppress(OSError):  # Somebody else was faster.
            os.rename(stage / "environment", target)


def _uv(playbook: Playbook, uv: str, stage: Path, *words: str) -> str:
    env = {name: os.environ[name] for name in os.environ if name in _PASSED_ON or name.startswith(_PASSED_BY_PREFIX)}
    command = [uv, "--no-config", "--no-progress", "--color", "never", *words]
    try:
        said = subprocess.run(
            command, cwd=stage, env=env, capture_output=True, stdin=subprocess.DEVNULL, timeout=FETCH_S, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _refused(playbook, f"could not be given its environment: {type(error).__name__}", _RETRY) from None
    if said.returncode != 0:
        told = " ".join(tail(said.stderr).split())
        why = (told.partition("error: ")[2] or told)[:300]
        raise _refused(playbook, f"could not be given its environment; uv says: {why!a}", _RETRY)
    return said.stdout


def _pinned(playbook: Playbook, exported: str) -> str:
    """The exported lines, each a name, a version and hashes: nothing that uv would build, or fetch from elsewhere."""
    lines = [line for line in exported.replace("\\\n", "").splitlines() if line.strip()]
    lines = [" ".join(line.split()) for line in lines]
    for line in lines:
        if not _PINNED.fullmatch(line):
            raise _refused(
                playbook, f"has a lock file that names {line[:80]!a}",
                "Lock released versions from an index that gives hashes, and nothing by path, address or git.",
            )  # fmt: skip
    return "\n".join(lines) + "\n"


def _needs_python(playbook: Playbook, lock: bytes) -> str:
    try:
        needs = tomllib.loads(lock.decode())["requires-python"]
    except (ValueError, KeyError, RecursionError):
        needs = None
    if not isinstance(needs, str) or not _SPECIFIER.fullmatch(needs):
        raise _refused(playbook, "has a lock file that says no Python version", _sentence(_locking(playbook)))
    return needs


def _is_uv(playbook: Playbook) -> bool:
    run = playbook.contract.run
    return run is not None and run.runtime == "uv"


def _lock(playbook: Playbook) -> bytes | None:
    return playbook.folder.read(playbook.rules.script + ".lock")


def _path(lock: bytes, state_dir: Path) -> Path:
    """By the lock file alone: a script that is edited keeps its environment."""
    return state_dir / FOLDER / hashlib.sha256(FORMAT + lock).hexdigest()[:32]


def _locking(playbook: Playbook) -> str:
    return f"make one with: uv lock --script {playbook.rules.script}"


def _again(playbook: Playbook) -> str:
    return f"run: tierkit playbook trust {playbook.name}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _no_lock(playbook: Playbook) -> EnvironmentRefused:
    return _refused(playbook, "has no lock file beside its script", _sentence(_locking(playbook)))


def _refused(playbook: Playbook, what: str, next_step: str) -> EnvironmentRefused:
    return EnvironmentRefused(
        f"refused_policy: The playbook {playbook.name} {what}. Nothing of it was run.", next_step=next_step
    )
