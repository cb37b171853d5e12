"""Which files a draft may write: those the plan names, minus those that judge the draft."""

from __future__ import annotations

import functools
import posixpath
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Check

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_MAGIC = re.compile(r"[*?\[]")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PYTHON = re.compile(r"(python|pypy)[\d.]*")
# Commands that only start another command; with the words that follow them.
_LAUNCHERS = {
    "uv": ("run",), "poetry": ("run",), "pdm": ("run",), "hatch": ("run",), "pipenv": ("run",), "rye": ("run",),
    "npx": (), "bunx": (), "env": (), "pnpm": ("exec",), "yarn": ("run",), "bundle": ("exec",), "coverage": ("run",),
}  # fmt: skip


def has_magic(pattern: str) -> bool:
    """Whether a pattern is a glob rather than a plain path."""
    return _MAGIC.search(pattern) is not None


def static_folder(pattern: str) -> str:
    """The longest folder that every match of an anchored glob lies in; "" where it may match anywhere."""
    parts = pattern.rstrip("/").split("/")
    first = next((at for at, part in enumerate(parts) if has_magic(part)), len(parts))
    return "/".join(parts[:first])


def in_scope(path: str, files: Iterable[str]) -> bool:
    """Whether one of the paths, folders or globs names `path`; a later `!pattern` takes it out again.

    A plain path is that file, or all below that folder. A glob is gitignore's, so `*.py` matches at any depth.
    """
    inside = False
    for pattern in files:
        bare = pattern.removeprefix("!").removeprefix("./")
        if _names(bare, path):
            inside = bare == pattern.removeprefix("./")
    return inside


def _names(pattern: str, path: str) -> bool:
    plain = pattern.rstrip("/")
    if plain in ("", "."):
        return True
    # First as it is written: `app/[id]/page.tsx` is a file's name as well as a glob.
    if path == plain or path.startswith(plain + "/"):
        return True
    return has_magic(pattern) and _spec((pattern,)).match_file(path)


def guarded(path: str, checks: Sequence[Check], allow_tests: bool, *, is_new: bool = True) -> str | None:
    """Why a draft may not write `path`, None where it may.

    `allow_tests` lifts the rules for tests, runner configuration and the checks' own files, and no other.
    `is_new` is False where the file is in the project already; it then shadows nothing that was not shadowed.
    """
    for rule in packaged("guarded")["rule"]:
        always = rule.get("always", False)
        if (always or not allow_tests) and _matches(rule, path):
            return str(rule["reason"])
    shadowed = _shadows(path, checks, is_new)
    if shadowed:
        return f"it would stand in for the module {shadowed}"
    if not allow_tests and any(path in _judges(check) for check in checks):
        return "a check runs it"
    return None


def _matches(rule: dict[str, Any], path: str) -> bool:
    patterns = tuple(rule["patterns"])
    if rule.get("any_case", False):
        return _spec(tuple(pattern.lower() for pattern in patterns)).match_file(path.lower())
    return _spec(patterns).match_file(path)


def _shadows(path: str, checks: Sequence[Check], is_new: bool) -> str | None:
    if not path.endswith(".py"):
        return None
    rules = packaged("guarded")
    for part in path.removesuffix(".py").split("/"):
        if part.casefold() in rules["runner_modules"]:
            return part
    for folder in {*rules["import_folders"], *_import_folders(checks)} if is_new else ():
        name = posixpath.relpath(path, folder or ".").partition("/")[0].removesuffix(".py")
        if name in sys.stdlib_module_names or name in rules["top_modules"]:
            return name
    return None


def _import_folders(checks: Sequence[Check]) -> Iterator[str]:
    # A runner puts its working folder and the folder of a named test file first on the import path.
    for check in checks:
        base = "" if check.cwd == "." else posixpath.normpath(check.cwd)
        yield base
        yield posixpath.join(base, "src")
        for word in check.argv:
            if "/" in word and not word.startswith("-"):
                yield posixpath.normpath(posixpath.join(base, posixpath.dirname(word.partition("::")[0])))


def command_words(argv: Sequence[str]) -> tuple[str, ...]:
    """The command itself: launchers, `python -m` and the folder of the program taken off."""
    words = list(argv)
    while words:
        name, rest = posixpath.basename(words[0]), words[1:]
        lead = _LAUNCHERS.get(name)
        if lead is not None and tuple(rest[: len(lead)]) == lead:
            words = _after_options(rest[len(lead) :], settings=name == "env")
        elif _PYTHON.fullmatch(name) and "-m" in _options(rest):
            words = rest[rest.index("-m") + 1 :]
        else:
            return (name, *rest)
    return ()


def module_flag(argv: Sequence[str]) -> int | None:
    """Where the `-m` of a `python -m module` stands; None where Python itself is not what reads it."""
    for at, word in enumerate(argv):
        if _PYTHON.fullmatch(posixpath.basename(word)):
            return at + len(_options(list(argv[at + 1 :]))) if "-m" in _options(list(argv[at + 1 :])) else None
    return None


def script_word(argv: Sequence[str]) -> int | None:
    """Where the file stands that Python is to run; None where it runs something else."""
    for at, word in enumerate(argv):
        if _PYTHON.fullmatch(posixpath.basename(word)):
            end = at + len(_options(list(argv[at + 1 :])))
            return end if end > at and argv[end].endswith(".py") else None
    return None


def _after_options(words: list[str], *, settings: bool) -> list[str]:
    for at, word in enumerate(words):
        if word == "-m":
            return words[at + 1 :]
        if not word.startswith("-") and not (settings and "=" in word):
            return words[at:]
    return []


def _options(words: list[str]) -> list[str]:
    """Words up to the first that is neither an option nor the value of one of Python's."""
    for at, word in enumerate(words):
        if word in ("-m", "-c") or (not word.startswith("-") and words[at - 1 : at] not in (["-W"], ["-X"])):
            return words[: at + 1]
    return words


@functools.lru_cache(maxsize=64)
def _judges(check: Check) -> frozenset[str]:
    """Project files that the check's own words name, and so judge by."""
    words = command_words(check.argv)
    if words and words[0] in packaged("guarded")["subject_runners"]:
        words = ()
    named: set[str] = set()
    for word in _words((*check.argv[:1], *words)):
        for part in {word, word.partition("::")[0], word.partition("=")[2]}:
            named.update(_as_files(part))
    base = posixpath.normpath(check.cwd)
    return frozenset(posixpath.normpath(posixpath.join(base, name)) for name in named)


def _words(argv: Iterable[str]) -> Iterator[str]:
    for word in argv:
        yield word
        if " " in word:  # `bash -c "..."` and its like: the words inside name files too.
            try:
                yield from shlex.split(word)
            except ValueError:
                yield from word.split()


def _as_files(word: str) -> Iterator[str]:
    if not word or word.startswith("/"):
        return
    yield re.sub(r":\d+$", "", word)
    if _DOTTED.fullmatch(word):
        parts = word.split(".")
        for end in range(len(parts), 0, -1):
            stem = "/".join(parts[:end])
            yield from (f"{stem}.py", f"{stem}/__main__.py", f"src/{stem}.py", f"src/{stem}/__main__.py")


@functools.lru_cache(maxsize=256)
def _spec(patterns: tuple[str, ...]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns)
