"""File names as models write them, and which file of the project each one means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LANGUAGES = _words(
    "asp.net vb.net node.js vue.js c c++ c# cpp csharp f# fsharp objective-c objective-c++ makefile dockerfile cmake"
    " text txt plain plaintext output log"
)
SHELLS = _words(
    "sh bash zsh fish ksh csh shell console terminal shell-session shellsession powershell ps1 pwsh cmd bat batch dos"
)
MARKUP = (".md", ".mdx", ".markdown", ".rst", ".txt", ".adoc")
SHELL_FILES = (".sh", ".bash", ".zsh", ".fish", ".ksh", ".csh", ".ps1", ".cmd", ".bat")

How = Literal["exact", "suffix", "base", "close", "new"]

_LABEL = re.compile(
    r"^(?:file ?name|file ?path|file|path|new file|create|update|edit|modify|title)\s{0,3}[:=]\s{0,3}", re.I
)
_NOTE = re.compile(r"\s{1,3}\((?:new|new file|created?|modified|updated?|changed|deleted|existing)\)$", re.I)
_SUFFIX = re.compile(r"[^./\s]?\.[A-Za-z][A-Za-z0-9_+-]{0,14}$")
_BARE_NAMES = _words(
    "Makefile Dockerfile Containerfile Jenkinsfile Procfile Gemfile Rakefile Vagrantfile Justfile LICENSE README"
    " CHANGELOG NOTICE CODEOWNERS BUILD WORKSPACE justfile makefile"
)
_TOKEN = re.compile(r"[^\s`'\"()\[\]{}<>,;*|]{1,400}")


class NameRefused(Exception):
    """A name that is no path inside the project, or that may mean several files."""


@dataclass(frozen=True)
class Known:
    """The files a reply may speak of."""

    paths: Collection[str]

    @cached_property
    def by_base(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.paths:
            found.setdefault(path.rsplit("/", 1)[-1], []).append(path)
        return found

    @cached_property
    def by_skeleton(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.paths:
            for key in {_skeleton(path), _skeleton(path.rsplit("/", 1)[-1])}:
                found.setdefault(key, []).append(path)
        return found

    def resolve(self, name: str) -> tuple[str, How]:
        """The file that `name` means, and how sure that is. Raises NameRefused for an unsafe or ambiguous name."""
        path = clean(name)
        if path in self.paths:
            return path, "exact"
        if ":" in path:
            # On Windows that writes into a hidden stream of another file.
            raise NameRefused(f"the path {_shown(path)} is not a plain relative path")
        base = path.rsplit("/", 1)[-1]
        same = self.by_base.get(base, [])
        ending = [known for known in same if known.endswith("/" + path) or path.endswith("/" + known)]
        if len(ending) == 1:
            return ending[0], "suffix"
        if len(ending) > 1:
            raise NameRefused(f"the name {base!r} may mean {' or '.join(ending[:4])}; write the whole path")
        # The whole path in other letters or without its underscores comes before another folder's file of this name.
        close = self.by_skeleton.get(_skeleton(path), [])
        if len(same) == 1 and len(close) != 1:
            return same[0], "base"
        close = close or ([] if same else self.by_skeleton.get(_skeleton(base), []))
        return (close[0], "close") if len(close) == 1 else (path, "new")

    def mentioned(self, text: str) -> set[str]:
        """The known files that a text speaks of by path, or by a base name that only one has."""
        found = set()
        for match in _TOKEN.finditer(text[:20_000]):
            token = match[0].rstrip(".:!?").removeprefix("./")
            if token in self.paths:
                found.add(token)
            elif len(self.by_base.get(token, ())) == 1:
                found.add(self.by_base[token][0])
        return found


def clean(name: str) -> str:
    """A safe relative POSIX path. Raises NameRefused for anything that could leave the project or hide what it is."""
    path = name
    while path.startswith("./"):
        path = path[2:]
    parts = path.split("/")
    if not path or len(path) > 1024 or any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        raise NameRefused("a file name is empty or too long")
    if any(part in ("", ".", "..") or part != part.strip() for part in parts):
        raise NameRefused(f"the path {_shown(path)} is absolute or leaves the project")
    if path[0] in "~-" or "\\" in path or re.match(r"[A-Za-z]:", path) or "://" in path:
        raise NameRefused(f"the path {_shown(path)} is not a plain relative path")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in path):
        raise NameRefused(f"the path {_shown(path)} holds invisible characters")
    return path


def name_line(line: str, known: Known) -> str | None:
    """The file name that a whole line consists of, marks taken off, or None if it is prose."""
    text = line.strip()
    if not text or len(text) > 500:
        return None
    bare, was_marked = _unmarked(text)
    if not bare or bare.casefold() in LANGUAGES:
        return None
    if bare in known.paths or bare.removeprefix("./") in known.paths:
        return bare
    return bare if _is_pathlike(bare, was_marked, known) else None


def info_name(info: str, known: Known) -> str | None:
    """The file name in the words after a fence, such as `python src/a.py` or `js:src/a.js` or `py title="a.py"`."""
    for word in re.split(r"[\s{}]+", info.strip())[:8]:
        bare = re.sub(r"^\w[\w+#.-]{0,30}[:=]", "", word).strip("\"'`")
        is_language = bare.casefold() in LANGUAGES | SHELLS or not ("." in bare or "/" in bare)
        if bare and not is_language and (bare in known.paths or _is_pathlike(bare, False, known)):
            return bare
    return None


def _unmarked(text: str) -> tuple[str, bool]:
    marked = False
    for _ in range(6):
        before = text
        text = text.strip()
        for left, right in (
            ("<!--", "-->"),
            ("/*", "*/"),
            ("**", "**"),
            ("__", "__"),
            ("`", "`"),
            ("*", "*"),
            ('"', '"'),
            ("'", "'"),
        ):
            inner = text[len(left) : len(text) - len(right)]
            if (
                text.startswith(left)
                and text.endswith(right)
                and len(text) > len(left) + len(right)
                and left not in inner
            ):
                if left == "__" and "." not in inner:
                    continue
                text, marked = inner.strip(), True
        stripped = re.sub(r"^(?:#{1,6}|//|--|[-*+•]|\d{1,3}[.)]|>)\s+", "", text)
        stripped = _NOTE.sub("", _LABEL.sub("", stripped))
        text = stripped[:-1].rstrip() if stripped.endswith(":") else stripped
        if text == before:
            break
    text = re.sub(r"\\([_*.\-])", r"\1", text)
    if text.startswith("#") and not text.startswith("# "):
        text = text.lstrip("#")
    return text, marked


def _is_pathlike(text: str, was_marked: bool, known: Known) -> bool:
    base = text.rsplit("/", 1)[-1]
    if base in _BARE_NAMES or base in known.by_base:
        return " " not in text or was_marked
    looks = bool(_SUFFIX.search(text)) and "://" not in text and not text.endswith("...")
    if " " in text:
        return was_marked and looks and len(text) < 200
    return looks or text.startswith(("/", "../", "./", "~/")) or (was_marked and "/" in text and "://" not in text)


def _skeleton(path: str) -> str:
    return re.sub(r"[_*\\]", "", path).casefold()


def _shown(path: str) -> str:
    return ascii(path[:80])
