"""What of the host a confined process sees: the system, the tools of a home, and no private place."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from mcp_tierkit.sandbox.records import Layer

MASKED = ("/tmp", "/var/tmp", "/run", "/var/run", "/home", "/root")
HIDDEN = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssh", "/etc/ssl/private")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/proc", "/sys", "/boot", "/nix")
OUR_NAMES = ("tierkit", "mcp-tierkit")

TOOL_FOLDERS = (
    ".pyenv", ".nvm", ".cargo", ".rustup", ".local/bin", ".local/lib", ".local/pipx", ".local/share/uv",
    ".local/share/pipx", ".local/share/mise", ".local/share/pnpm", ".local/share/fnm", ".local/share/virtualenvs",
    ".asdf", ".volta", ".fnm", ".bun", ".deno", ".npm-packages", ".npm-global", ".yarn", "go", ".goenv", ".rbenv",
    ".rvm", ".gem", ".nodenv", ".jenv", ".sdkman", ".m2", ".gradle", ".ivy2", ".sbt", ".dotnet", ".nuget", ".ghcup",
    ".cabal", ".stack", ".opam", ".juliaup", ".julia", ".elan", ".swiftly", ".composer", ".pub-cache", ".virtualenvs",
    "miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".pixi", ".nix-profile", ".cache/pypoetry",
)  # fmt: skip
"""Folders of a home that hold tools rather than secrets, shown read-only."""

TOOL_SECRETS = (
    ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials", ".m2/settings.xml",
    ".m2/settings-security.xml", ".gradle/gradle.properties", ".gradle/init.d", ".composer/auth.json",
    ".nuget/NuGet/NuGet.Config", ".ivy2/.credentials", ".sbt/.credentials", ".cabal/config", ".deno/credentials.json",
)  # fmt: skip

TOOL_VARIABLES = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "PYENV_ROOT", "NVM_DIR", "NVM_BIN", "VOLTA_HOME", "FNM_DIR", "BUN_INSTALL",
    "PNPM_HOME", "CARGO_HOME", "RUSTUP_HOME", "GOROOT", "GOPATH", "GOMODCACHE", "JAVA_HOME", "M2_HOME", "MAVEN_HOME",
    "GRADLE_HOME", "GRADLE_USER_HOME", "SDKMAN_DIR", "RBENV_ROOT", "GEM_HOME", "ASDF_DIR", "ASDF_DATA_DIR",
    "MISE_DATA_DIR", "DOTNET_ROOT", "COMPOSER_HOME", "UV_PYTHON_INSTALL_DIR", "N_PREFIX",
)  # fmt: skip
"""Variables that name a tool's folder: passed on, and what they name is shown read-only."""


def box(argv: list[str], env: Mapping[str, str], layer: Layer, processes: int | None, overlay: bool) -> dict[str, Any]:
    """What the launcher is to show and to hide, in plain values. Nothing here walks the project."""
    project = os.path.realpath(layer.project)
    homes = _homes(env)
    ours = _our_places()
    masks = _outermost(os.path.realpath(path) for path in (*MASKED, *homes))
    masks += [path for path in ours if os.path.isdir(path) and not _within(path, project)]
    view = View(project, masks)
    for path in _tools(argv, env, homes, masks):
        view.show(path, writes=False)
    for folder in layer.readable:
        view.show(str(folder), writes=False, wanted=True)
    for folder in layer.writable_dirs:
        view.show(str(folder), writes=True, wanted=True)
    if layer.network == "full":
        view.show("/etc/resolv.conf", writes=False)
    view.follow(str(layer.project))
    secrets = [os.path.join(home, name) for home in homes for name in TOOL_SECRETS]
    hidden = [os.path.join(project, path) for path in layer.hidden]
    return {
        "project": project, "writable": layer.writable, "collect": layer.collect, "overlay": overlay,
        "changes": [(p, c.data if c else None, c.mode if c else None) for p, c in layer.changes.items()],
        "masks": masks, "folders": homes, "links": view.links,
        "shows": view.needed(),
        "hidden": [*HIDDEN, *secrets, *(path for path in ours if path not in masks), *hidden, *_sockets()],
        "network": layer.network, "processes": processes,
    }  # fmt: skip


class View:
    """Which host paths have to be shown again after the masks, and the links that lead to them."""

    def __init__(self, project: str, masks: list[str]) -> None:
        self.project, self.masks = project, masks
        self.shown: dict[str, bool] = {}
        self.links: list[tuple[str, str]] = []

    def show(self, path: str, *, writes: bool, wanted: bool = False) -> None:
        real = self.follow(path)
        if not os.path.exists(real) or (not writes and _within(real, self.project)):
            return
        if wanted or self.is_masked(real):
            self.shown[real] = writes or self.shown.get(real, False)

    def needed(self) -> list[tuple[str, bool]]:
        """Without what a wider one already shows in the same way."""
        return [(path, writes) for path, writes in self.shown.items() if not self.is_covered(path, writes)]

    def is_covered(self, path: str, writes: bool) -> bool:
        wider = (o for o, w in self.shown.items() if o != path and w == writes and _within(path, o))
        return path == self.project or any(not self.is_between(path, outer) for outer in wider)

    def is_between(self, path: str, outer: str) -> bool:
        """Whether a mask lies between a path and a wider one."""
        return any(_within(path, mask) and _within(mask, outer) for mask in [*self.masks, self.project])

    def is_masked(self, path: str) -> bool:
        return any(_within(path, mask) for mask in self.masks)

    def follow(self, path: str) -> str:
        """The real path; the links passed on the way are noted, since a mask may cover them."""
        done, todo = "/", [part for part in os.path.abspath(path).split("/") if part]
        for _ in range(400):
            if not todo:
                break
            here = os.path.join(done, todo.pop(0))
            try:
                target = os.readlink(here)
            except OSError:
                done = here
                continue
            if self.is_masked(here):
                self.links.append((here, target))
            todo = [part for part in os.path.normpath(os.path.join(done, target)).split("/") if part] + todo
            done = "/"
        return done


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _outermost(paths: Iterable[str]) -> list[str]:
    found: list[str] = []
    for path in sorted(set(paths)):
        if path != "/" and os.path.isdir(path) and not any(_within(path, outer) for outer in found):
            found.append(path)
    return found


def _homes(env: Mapping[str, str]) -> list[str]:
    names = [env.get("HOME", ""), os.environ.get("HOME", "")]
    with contextlib.suppress(KeyError):
        names.append(pwd.getpwuid(os.getuid()).pw_dir)
    real = [os.path.realpath(name) for name in names if os.path.isabs(name)]
    return [path for path in dict.fromkeys(real) if os.path.isdir(path) and not _is_system(path)]


def _is_system(path: str) -> bool:
    """System accounts have homes such as /bin or /usr/sbin, which hold no secrets and must stay."""
    return path in ("/", "/opt", "/var", "/srv", "/mnt") or any(_within(path, top) for top in SYSTEM)


def _our_places() -> list[str]:
    """Where keys, trust, the ledger and the configuration may lie, by the names that our configuration uses."""
    named = [os.environ.get(name, "") for name in ("TIERKIT_STATE_DIR", "TIERKIT_CONFIG")]
    ledger = os.environ.get("TIERKIT_LEDGER", "").removeprefix("sqlite://")
    named += [ledger[1:] + suffix for suffix in ("", "-wal", "-shm") if ledger.startswith("//")]
    for base in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        named += [os.path.join(os.environ.get(base, ""), name) for name in OUR_NAMES]
    return [os.path.realpath(path) for path in named if os.path.isabs(path) and os.path.exists(path)]


def _tools(argv: list[str], env: Mapping[str, str], homes: list[str], masks: list[str]) -> list[str]:
    places = [os.path.join(home, name) for home in homes for name in TOOL_FOLDERS]
    for name in TOOL_VARIABLES:
        places += [place for place in env.get(name, "").split(os.pathsep) if os.path.isabs(place)]
    places += [part for part in env.get("PATH", "").split(os.pathsep) if os.path.isabs(part)]
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix):
        places.append(prefix)
    program = shutil.which(argv[0], path=env.get("PATH")) if argv else None
    for binary in {program, sys.executable} - {None}:
        places += _prefixes(str(binary))
    too_wide = {*homes, *masks, *(os.path.join(home, ".local") for home in homes)}
    return [place for place in dict.fromkeys(places) if os.path.realpath(place) not in too_wide and place != "/"]


def _prefixes(binary: str) -> list[str]:
    """The folder of a program, the environment around it, and the same of what it links to."""
    found = []
    for place in dict.fromkeys((os.path.abspath(binary), os.path.realpath(binary))):
        folder = os.path.dirname(place)
        prefix = os.path.dirname(folder)
        found.append(folder)
        marks = (os.path.join(prefix, mark) for mark in ("pyvenv.cfg", "conda-meta", "lib", "include"))
        if os.path.basename(folder) == "bin" and any(os.path.exists(mark) for mark in marks):
            found.append(prefix)
    return found


def _sockets() -> list[str]:
    """Sockets that host processes listen on: a read-only mount does not keep anyone from connecting to one."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
            paths = {line.split(" ", 7)[-1].strip() for line in table if "/" in line}
    except OSError:
        return []
    return sorted(path for path in paths if path.startswith("/"))
