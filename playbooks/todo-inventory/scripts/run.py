"""The TODOs in a project's comments: inputs as JSON on stdin, the inventory as JSON to PLAYBOOK_RESULT."""

import json
import os
import re
import stat
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import PurePosixPath

import quiet_git
from comments import comments, patterns
from quiet_git import GitRefused, git, names, shown

KINDS = ("TODO", "FIXME", "HACK", "XXX")
SKIPPED = frozenset({
    ".git", ".hg", ".svn", ".tierkit", "node_modules", "bower_components", "vendor", "third_party", "venv", ".venv", "__pycache__",
    "site-packages", ".tox", ".nox", ".eggs", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".gradle", ".next",
    ".cache", ".direnv",
})  # fmt: skip
MAX_READ = 1024 * 1024
MAX_LINE = 5000
MAX_BLAMED = 200
BLAME_S, BLAME_ALL_S = 20, 120
TEXT = 120
FOLDERS = 10

# At the start of a comment's line, or wherever a colon or a name in brackets says that it is meant as one.
_MARK = re.compile(
    r"(?:^[\s#/*;%<!|{\"'>@-]*(?P<start>TODO|FIXME|HACK|XXX|(?i:todo|fixme)(?=[ \t]?[:(]))"
    r"|(?<![\w-])(?P<inside>TODO|FIXME|HACK|XXX)(?=[ \t]?[:(]))(?![\w-])"
    r"[ \t]{0,4}(?:[(\[](?P<owner>[^()\[\]\n]{1,60})[)\]])?[ \t]{0,4}[:\-–—]?[ \t]*(?P<text>[^\n]*)"
)
_ISSUE = re.compile(
    r"https?://[^\s)>\]]{1,200}/(?:issues|pull|browse|merge_requests)/[\w-]{1,40}|(?<![\w&])(?:GH-|gh-|#)\d{1,7}\b"
    r"|\b(?!(?:UTF|ISO|SHA|RFC|IEEE|HTTP|MD|AES|RSA|CP|PEP|X)-)[A-Z][A-Z0-9]{1,9}-\d{1,7}\b"
)
_ENDS = ("*/", "-->", "-}", "#>", "]]")


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def paths_below(folder):
    """The files below a folder in order: git's own and new ones that it does not ignore, else all."""
    try:
        listed = names(git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", folder))
        found = set(listed) if quiet_git.text("rev-parse", "--is-inside-work-tree") == "true" else walk(folder)
    except GitRefused:
        found = walk(folder)
    return sorted(path for path in found if not SKIPPED & set(path.split("/")[:-1]))


def walk(folder):
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED and not os.path.isfile(os.path.join(here, name, "pyvenv.cfg"))]
        yield from (os.path.normpath(os.path.join(here, name)) for name in files)


def read(path):
    """The text of a plain file; None where it is a link, too large, binary, or generated."""
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_READ or path.endswith((".min.js", ".min.css")):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = file.read(MAX_READ)
    except OSError:
        return None
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
    text = text.replace("\r\n", "\n")
    return None if "\0" in text or max(map(len, text.split("\n"))) > MAX_LINE else text


def items_in(path, text):
    """The marks in one file's comments."""
    if not any(kind in text for kind in KINDS) and not re.search("todo|fixme", text, re.IGNORECASE):
        return
    for line, comment in comments(path, text):
        if found := _MARK.search(comment):
            yield item(path, line, found)


def item(path, line, found):
    said = without_end(found["text"].replace("\t", " ").strip())
    issue = _ISSUE.search(found["owner"] or "") or _ISSUE.search(said)
    owner = "" if _ISSUE.search(found["owner"] or "") else (found["owner"] or "").strip().lstrip("@")
    if not owner and (named := re.match(r"@([\w-]{1,40})\b[:,]?\s*", said)):
        owner, said = named[1], said[named.end() :]
    return {
        "file": path, "line": line, "kind": (found["start"] or found["inside"]).upper(), "text": said[:TEXT],
        "owner": owner, "issue": issue[0] if issue else "", "author": "", "date": "",
    }  # fmt: skip


def without_end(said):
    end = next((end for end in _ENDS if said.endswith(end)), "")
    return said.removesuffix(end).rstrip()


def blame(items):
    """Fill in author and date of the first MAX_BLAMED items, by one question per file, until the time is up."""
    settings, by_file, until = quiet_git.without_filters(), {}, time.monotonic() + BLAME_ALL_S
    for one in items[:MAX_BLAMED]:
        by_file.setdefault(one["file"], []).append(one)
    for path, those in by_file.items():
        if time.monotonic() > until:
            break
        ranges = [word for one in those for word in ("-L", f"{one['line']},{one['line']}")]
        try:
            said = git("blame", "--line-porcelain", "--no-textconv", *ranges, "--", path, settings=settings, timeout=BLAME_S)
        except GitRefused:
            continue  # Untracked, or too much history: the items stay without a date.
        for line, author, date in blamed(said.decode("utf-8", "replace")):
            for one in those:
                if one["line"] == line:
                    one["author"], one["date"] = author, date


def blamed(said):
    """(line, author, day) of each line; lines that are in no commit yet are left out."""
    number = author = seconds = None
    for row in said.split("\n"):
        if found := re.match(r"([0-9a-f]{40,64}) \d+ (\d+)", row):
            number, is_new = int(found[2]), not found[1].strip("0")
        elif row.startswith("author "):
            author = row[7:87]
        elif row.startswith("author-time "):
            seconds = int(row[12:])
        elif row.startswith("\t") and not is_new:
            yield number, author, day(seconds)


def day(seconds):
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def inventory(paths, kinds, with_blame, limit):
    found, files = [], 0
    for path in paths:
        text = read(path) if PurePosixPath(path).suffix.lower() in patterns() or PurePosixPath(path).name in patterns() else None
        files += text is not None
        found += [one for one in items_in(path, text or "") if one["kind"] in kinds]
    if with_blame:
        blame(found)
        found.sort(key=lambda one: (one["date"] or "9999", one["file"], one["line"]))
    folders = Counter(one["file"].rpartition("/")[0] or "." for one in found)
    ranked = sorted(folders.items(), key=lambda pair: (-pair[1], pair[0]))[:FOLDERS]
    return {
        "total": len(found), "by_kind": {kind: sum(one["kind"] == kind for one in found) for kind in KINDS if kind in kinds},
        "by_folder": [{"folder": shown(folder), "count": count} for folder, count in ranked],
        "items": [{**brief(one), "file": shown(one["file"])} for one in found[:limit]],
        "more": max(0, len(found) - limit), "files": files,
    }  # fmt: skip


def brief(one):
    """The item without the fields that say nothing."""
    return {key: value for key, value in one.items() if value != ""}


def main():
    inputs = json.load(sys.stdin)
    folder = inputs.get("folder", ".")
    if not os.path.isdir(folder):
        decline("there is no such folder in the project")
    paths = paths_below(folder)
    found = inventory(paths, inputs.get("kinds", list(KINDS)), inputs.get("blame", False), inputs.get("limit", 20))
    if not found["files"]:
        decline("there is no source file of a language this script knows")
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(found, out)


if __name__ == "__main__":
    main()
