"""git, asked questions only: nothing that a repository's own settings name is started, and nothing is fetched."""

import os
import re
import subprocess

# Each names a program that git would start, a file it would read, or a form of output that would differ.
_SETTINGS = {
    "core.fsmonitor": "false", "core.hooksPath": os.devnull, "core.pager": "cat", "core.sshCommand": "false",
    "core.attributesFile": os.devnull, "core.excludesFile": os.devnull, "core.quotePath": "false",
    "diff.external": "", "log.showSignature": "false", "log.mailmap": "false", "mailmap.file": "", "mailmap.blob": "",
    "blame.ignoreRevsFile": "", "color.ui": "false", "protocol.allow": "never",
}  # fmt: skip
_KEPT = "GIT_DISCOVERY_ACROSS_FILESYSTEM"  # Set where the project is mounted below its repository.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name == _KEPT} | {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "LC_ALL": "C.UTF-8",
}  # fmt: skip


_GIT = ["git", "--no-pager", "--literal-pathspecs"]


class GitRefused(Exception):
    """git is missing, the folder is no repository, or it would not answer; the text is one line."""


def git(*args, given=b"", settings=None, timeout=60, fine=(0,)):
    """What git prints, as bytes; GitRefused where it ends otherwise than `fine`."""
    try:
        done = subprocess.run([*_GIT, *args], input=given, capture_output=True, env=_environment(settings or {}), timeout=timeout)
    except FileNotFoundError:
        raise GitRefused("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitRefused(f"git {args[0]} took more than {timeout} s") from None
    if done.returncode not in fine:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
        raise GitRefused(said.removeprefix("fatal: ")[:200] or f"git {args[0]} failed")
    return done.stdout


def stream(*args):
    """What git prints line by line, for answers of any length."""
    with subprocess.Popen([*_GIT, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment({})) as asked:
        yield from (line.rstrip(b"\n") for line in asked.stdout)
    if asked.returncode != 0:
        raise GitRefused(f"git {args[0]} failed")


def text(*args, **more):
    """What git prints, as one stripped text; None where it refuses."""
    try:
        return git(*args, **more).decode("utf-8", "replace").strip()
    except GitRefused:
        return None


def names(data):
    """File names between NULs, as the system gives them."""
    return [os.fsdecode(name) for name in data.split(b"\0") if name]


def shown(name):
    """A file name as text that JSON can carry."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def without_filters():
    """Settings that turn off every program the repository names for reading its files."""
    try:
        # Matched here: git would match no name that is not UTF-8.
        listed = names(git("config", "--null", "--name-only", "--list"))
    except GitRefused:
        return {}
    found = {name for name in listed if re.fullmatch(r"filter\..*\.(clean|smudge|process|required)", name, re.DOTALL)}
    return {name: "false" if name.endswith(".required") else "" for name in sorted(found)}


def _environment(settings):
    pairs = [*_SETTINGS.items(), *settings.items()]
    numbered = {f"GIT_CONFIG_KEY_{at}": key for at, (key, _) in enumerate(pairs)}
    numbered |= {f"GIT_CONFIG_VALUE_{at}": value for at, (_, value) in enumerate(pairs)}
    return {**_ENVIRONMENT, **numbered, "GIT_CONFIG_COUNT": str(len(pairs))}
