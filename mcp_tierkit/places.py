"""Which folder is served, which repository it belongs to, and where our own files live."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Record

_SMALL = 4096  # git's own link files hold one path
# Never a project themselves; what lies below most of them may be one.
_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/private", "/proc",
    "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64",
    "/usr/local", "/usr/sbin", "/usr/share", "/var", "/var/tmp", "/Applications", "/Library", "/System",
    "/Users",
)  # fmt: skip
# Nothing below these is a project.
_SYSTEM_TREES = (
    "/boot", "/etc", "/proc", "/sys", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin", "/System", "/Library",
)  # fmt: skip


class Places(Record):
    """Folders of the user, outside every project."""

    config_file: Path
    user_dir: Path
    state_dir: Path
    ledger_url: str


def find_places(env: Mapping[str, str]) -> Places:
    """Where our files live: TIERKIT_CONFIG, TIERKIT_STATE_DIR and TIERKIT_LEDGER first, else the system's custom."""
    config = _named(env, "TIERKIT_CONFIG") or _user_folder(env, "config") / "tierkit.toml"
    if config.is_dir():
        config = config / "tierkit.toml"
    state = _named(env, "TIERKIT_STATE_DIR") or _user_folder(env, "state")
    return Places(config_file=config, user_dir=config.parent, state_dir=state, ledger_url=_ledger(env, state))


def _named(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name, "").strip()
    return Path(os.path.abspath(Path(value).expanduser())) if value else None


def _ledger(env: Mapping[str, str], state: Path) -> str:
    named = env.get("TIERKIT_LEDGER", "").strip()
    if "://" in named:
        return named
    return f"sqlite://{_named(env, 'TIERKIT_LEDGER') or state / 'ledger.db'}"


def _user_folder(env: Mapping[str, str], kind: str) -> Path:
    if sys.platform in ("darwin", "win32"):
        import platformdirs

        find = platformdirs.user_config_dir if kind == "config" else platformdirs.user_state_dir
        return Path(find("tierkit", appauthor=False))
    xdg = env.get(f"XDG_{kind.upper()}_HOME", "")
    usual = {"config": ".config", "state": ".local/state"}[kind]
    return (Path(xdg) if os.path.isabs(xdg) else home(env) / usual) / "tierkit"


def home(env: Mapping[str, str]) -> Path:
    """The user's home folder, by HOME and else by the account; the root where neither names one."""
    named = env.get("HOME", "")
    try:
        return Path(named) if os.path.isabs(named) else Path.home()
    except RuntimeError:
        return Path("/")


def find_project(argument: str | None, env: Mapping[str, str]) -> Path:
    """The real path of the folder to serve. Raises InvalidInput for a home, a system folder, or none at all."""
    named = argument or env.get("TIERKIT_PROJECT") or env.get("CLAUDE_PROJECT_DIR")
    try:
        project = Path(named or os.getcwd()).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_project("does not exist or cannot be read") from error
    if not project.is_dir():
        raise _no_project("is not a folder")
    if project == Path("/") or project.parent == project:
        raise _no_project("is the root of the file system")
    if _is_home(project, env):
        raise _no_project("is a home folder")
    if str(project) in _SYSTEM or any(project.is_relative_to(tree) for tree in _SYSTEM_TREES):
        raise _no_project("is a system folder")
    return project


def _is_home(project: Path, env: Mapping[str, str]) -> bool:
    holds_ours = any(path.resolve().is_relative_to(project) for path in (home(env), home({})))
    return holds_ours or str(project.parent) in ("/home", "/Users")


def _no_project(what: str) -> InvalidInput:
    return InvalidInput(
        f"The folder to serve {what}. Nothing was read or started.",
        next_step="Name the project's own folder with --project or in TIERKIT_PROJECT.",
    )


def find_repository(project: Path, env: Mapping[str, str]) -> Path:
    """What the worktrees of one repository have in common: its git folder; the project itself without git.

    Reads git's link files and starts no process. A link counts only where the repository links back,
    so that a folder somebody sent us cannot pass itself off as a worktree of another.
    """
    folder = find_tree(project, env)
    marker = folder / ".git"
    if _kind(marker, owner=project) == "folder":
        return marker
    return _common_folder(marker) or folder


def find_tree(project: Path, env: Mapping[str, str]) -> Path:
    """The folder that git has checked out, the project or one above it; the project itself without git."""
    barrier = home(env).resolve()
    for folder in (project, *project.parents):
        if folder == barrier or folder.parent == folder:
            break
        if _kind(folder / ".git", owner=project) is not None:
            return folder
    return project


def whole_of(project: Path, env: Mapping[str, str]) -> Path | None:
    """The checked-out folder that was probably meant where `project` is a folder within it like any other.

    None for a project of its own: the checked-out folder itself, no git, or a package, by a file in data/projects.toml.
    """
    tree = find_tree(project, env)
    if tree == project or any(next(project.glob(name), None) for name in packaged("projects")["files"]):
        return None
    return tree


def _kind(marker: Path, *, owner: Path) -> str | None:
    """What `.git` is; None where it is missing, a link, or another user's."""
    try:
        found, ours = marker.lstat(), owner.stat()
    except OSError:
        return None
    if found.st_uid != ours.st_uid:
        return None
    if stat.S_ISDIR(found.st_mode):
        return "folder" if (marker / "HEAD").is_file() else None
    return "file" if stat.S_ISREG(found.st_mode) else None


def _common_folder(marker: Path) -> Path | None:
    """The shared git folder of a worktree, None for a submodule or a link that is not returned."""
    line = _line(marker)
    if line is None or not line.startswith("gitdir: "):
        return None
    own = _resolved(marker.parent, line.removeprefix("gitdir: "))
    # Worktrees keep their half of the link inside the repository itself, where a stranger cannot write.
    if own is None or own.parent.name != "worktrees":
        return None
    common, back = own.parent.parent, _line(own / "gitdir")
    returned = back is not None and _resolved(own, back) == marker.resolve()
    return common if returned and (common / "HEAD").is_file() else None


def _resolved(base: Path, path: str) -> Path | None:
    try:
        return (base / path).resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def _line(path: Path) -> str | None:
    """The one line of a small regular file, None for anything else."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as file:
            return file.read(_SMALL).decode("utf8").strip()
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def make_private(folder: Path) -> str | None:
    """Makes a folder that only its owner can enter. A note for `doctor` where that did not work."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return "The state folder cannot be written; set TIERKIT_STATE_DIR to one that can."
    except OSError as error:
        return f"The state folder cannot be used ({error.strerror}); set TIERKIT_STATE_DIR to one that can."
    return None


def read_regular(path: Path, limit: int, *, follow: bool) -> tuple[bytes, int] | None:
    """A file's bytes and permission bits; None where there is none.

    Raises ValueError for what is not a regular file or is longer than `limit`, OSError where it
    cannot be read. Never waits on a pipe.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        handle = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("is not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"is longer than {limit} bytes")
    return data, stat.S_IMODE(info.st_mode)
