"""Which of the named files are there: inputs as JSON on stdin, what is missing as JSON to PLAYBOOK_RESULT."""

import functools
import html
import json
import os
import re
import stat
import sys
import tomllib
from bisect import bisect_right
from fnmatch import fnmatchcase
from itertools import islice
from urllib.parse import unquote

MAX_BYTES = 4 * 1024 * 1024
MAX_NAMES = 20_000
MAX_FOUND = 50_000
MAX_DEEP = 2
GLOB = re.compile(r"[*?\[]")
SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".venv", "venv", ".tierkit"})
# A fence, a code span or a comment of HTML, whichever begins first: no link is in there, and none of the others.
NO_LINKS = re.compile(
    r"(?ms)^[ \t>*+\-0-9.)]*(?P<fence>```+|~~~+)[^`\n]*\n.*?(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|(?<!`)(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)"
    r"|(?<!\\)<!--(?:-?>|.*?-->)"
)
INLINE_LINK = re.compile(r"\]\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))+))(?:\s+[\"'(][^\n]*?[\"')])?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]\n]+\]:\s+(?:<([^<>\n]*)>|(\S+))", re.MULTILINE)
IN_TAG = re.compile(r"(?i)<(?:a|img|source|video)\b[^<>]*?\b(?:href|src)\s*=\s*(?:\"([^\"\n]*)\"|'([^'\n]*)')")
ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//|#|$")


class NotForMe(Exception):
    """This is a task for somebody else."""


class BadData(ValueError):
    """The file that names the others is not what it says it is."""


def look(path):
    """(what is there, its size, a hint): kind is file, folder, link, other, missing or outside.

    Each part must be spelt as it is on disk, also where the file system would let it pass.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or "\0" in path or climbs(parts):
        return "outside", 0, "leads out of the project"
    here, steps = ".", normal(parts)
    for at, part in enumerate(steps, 1):
        if part not in names_in(here):
            folder = f"{here}/{part}"[2:] if at < len(steps) else ""
            return "missing", 0, hint(here, part) or (folder and f"there is no folder {shown(folder)}")
        here = f"{here}/{part}"
    return described(here)


def climbs(parts):
    depth = 0
    for part in parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def normal(parts):
    kept = []
    for part in parts:
        kept = kept[:-1] if part == ".." else [*kept, part]
    return kept


@functools.cache
def names_in(folder):
    try:
        return frozenset(os.listdir(folder)) if is_within(folder) else frozenset()
    except OSError:
        return frozenset()


def is_within(path):
    root = os.path.realpath(".")
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def hint(folder, name):
    near = [other for other in names_in(folder) if other.casefold() == name.casefold()]
    alike = [other for other in names_in(folder) if stem(other) == stem(name)]
    if near:
        return f"there is {shown(min(near))}, spelt in other letter case"
    if alike:
        return f"there is {shown(min(alike))}"
    return "" if os.path.isdir(folder) else f"{shown(folder[2:])} is no folder"


def stem(name):
    return (name.rpartition(".")[0] or name).casefold()


def described(path):
    if not is_within(path):
        return "outside", 0, "a link leads out of the project"
    try:
        found = os.stat(path)
    except OSError:
        return "missing", 0, "a link that leads nowhere"
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "other")
    return kind, found.st_size if kind == "file" else 0, "a link" if os.path.islink(path) else ""


def matches(pattern):
    """(the project's paths that a glob names, why there are none). `**` stands for any folders, links left out."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/") or ".." in parts:
        return [], "leads out of the project"
    if parts.count("**") > MAX_DEEP:
        return [], "too many ** in one pattern"
    found = set(islice(expanded("", parts), MAX_FOUND + 1))
    if len(found) > MAX_FOUND:
        raise NotForMe(f"the pattern {shown(pattern)} names more than {MAX_FOUND} files")
    return sorted(found), "the pattern names nothing"


def expanded(here, parts):
    if not parts:
        yield here
        return
    if parts[0] == "**":
        yield from expanded(here, parts[1:] or ["*"])
        for folder in folders_in(here):
            yield from expanded(os.path.join(here, folder), parts)
        return
    for name in sorted(names_in(here or ".") - SKIPPED):
        if fnmatchcase(name, parts[0]):
            yield from expanded(os.path.join(here, name), parts[1:])


@functools.cache
def folders_in(here):
    paths = ((name, os.path.join(here, name)) for name in sorted(names_in(here or ".") - SKIPPED))
    return tuple(name for name, path in paths if os.path.isdir(path) and not os.path.islink(path))


def read_text(path):
    if "\0" in path or os.path.isabs(path) or not is_within(path):
        raise NotForMe(f"{shown(path)} leads out of the project")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotForMe(f"{shown(path)} is no file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotForMe(f"{shown(path)} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise NotForMe(f"{shown(path)} is larger than {MAX_BYTES >> 20} MB")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise NotForMe(f"{shown(path)} is not UTF-8 (byte {error.start})") from None


def named_in(path, key, base):
    """(line or None, name as it is written there, path from the project's root) of each name in a file."""
    text = read_text(path)
    folder = base or os.path.dirname(path)
    ending = path.casefold().rpartition(".")[2]
    if ending in ("md", "markdown", "mdx"):
        return [(line, name, from_link(folder, name)) for line, name in links(text)]
    if ending in ("json", "toml"):
        return [(None, name, os.path.join(folder, name)) for name in texts_at(text, ending, key)]
    lines = ((line, name.strip()) for line, name in enumerate(text.split("\n"), 1))
    return [(line, name, os.path.join(base, name)) for line, name in lines if name and not name.startswith("#")]


def links(text):
    """(line, target) of each link in Markdown that leads to a file; code is left out."""
    closed = text.rfind("-->") + 1  # Behind it a comment would be looked to the end for, each time anew.
    text = text[:closed] + text[closed:].replace("<!--", "    ")
    text = NO_LINKS.sub(lambda found: "\n" * found[0].count("\n"), text)
    found = [one for pattern in (INLINE_LINK, REFERENCE, IN_TAG) for one in pattern.finditer(text)]
    breaks = [0, *(one.end() for one in re.finditer("\n", text))]
    for one in sorted(found, key=lambda one: one.start()):
        target = html.unescape(one[1] or one[2] or "")
        if not ELSEWHERE.match(target):
            yield bisect_right(breaks, one.start()), target


def from_link(folder, target):
    """Where a link leads, from the project's root: a leading slash means that root, as on GitHub."""
    path = unquote(re.split(r"[?#]", target)[0])
    path = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", path)
    return path.lstrip("/") if path.startswith("/") else os.path.join(folder, path)


def texts_at(text, ending, key):
    """Every text below a dotted key of a JSON or TOML file."""
    try:
        value = json.loads(text) if ending == "json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadData(f"it is no {ending.upper()}: {' '.join(str(error).split())[:200]}") from None
    for part in filter(None, key.split(".")):
        if not isinstance(value, dict) or part not in value:
            raise NotForMe(f"there is no key {shown(key)}")
        value = value[part]
    return list(strings(value))


def strings(value, depth=0):
    if depth > 64:
        raise BadData("it is nested too deeply")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner, depth + 1)


def judged(names):
    """(missing, found) of (line, name, path): each missing one as a row, each found one as path, kind and size."""
    missing, found = [], {}
    for line, name, path in names:
        is_glob = GLOB.search(path) and look(path)[0] in ("missing", "outside")
        paths, why = matches(path) if is_glob else ([path], "")
        if not paths:
            missing.append(row(line, name, why))
        for one in paths:
            kind, size, why = look(one)
            if kind in ("missing", "outside"):
                missing.append(row(line, one if is_glob else name, why))
            else:
                found[os.path.normpath(one)] = kind, size
    return missing, found


def row(line, name, why):
    one = {"name": spelt(name)[:300]}
    return one | ({"line": line} if line else {}) | ({"why": why} if why else {})


def collisions(paths):
    """Found paths that are one on a file system without letter case."""
    groups = {}
    for path in paths:
        groups.setdefault(path.casefold(), []).append(path)
    return [" ".join(map(shown, sorted(group))) for _, group in sorted(groups.items()) if len(group) > 1]


def spelt(text):
    """The name with escapes in place of bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown(text):
    return text[:200] if text.isprintable() and " " not in text else ascii(text[:200])


def report(inputs):
    base = inputs.get("base", "")
    given = [(None, name, os.path.join(base, name)) for name in inputs.get("paths", [])]
    names = given or named_in(inputs.get("listed_in", "README.md"), inputs.get("key", ""), base)
    if not names:
        raise NotForMe("no paths are named")
    if len(names) > MAX_NAMES:
        raise NotForMe(f"more than {MAX_NAMES} paths are named")
    limit = inputs.get("limit", 20)
    missing, found = judged(names)
    alike = collisions(found)
    sizes = ({"path": spelt(path), "kind": kind, "bytes": size} for path, (kind, size) in sorted(found.items()))
    return {
        "verdict": "missing" if missing else "all there",
        "named": len(names),
        "found": len(found),
        "bytes": sum(size for _, size in found.values()),
        "missing": missing[:limit],
        "missing_count": len(missing),
        "sizes": list(islice(sizes, limit if inputs.get("sizes", False) else 0)),
        "collisions": alike[:limit],
        "more": max(0, len(missing) - limit),
    }


def main():
    try:
        output = report(json.load(sys.stdin))
    except (NotForMe, BadData) as why:
        print(why, file=sys.stderr)
        sys.exit(10 if isinstance(why, NotForMe) else 1)
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(output, out)


if __name__ == "__main__":
    main()
