"""Each item of the checklist: a function that answers (status, evidence)."""

import json
import os
import re
from pathlib import Path

import versions
from quiet_git import GitRefused, git, names, shown, text, without_filters
from versions import Unreadable, read, same

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SHOWN = 3
LOCKS = {
    "uv.lock": "pyproject.toml", "poetry.lock": "pyproject.toml", "pdm.lock": "pyproject.toml",
    "package-lock.json": "package.json", "yarn.lock": "package.json", "pnpm-lock.yaml": "package.json", "bun.lock": "package.json",
    "Cargo.lock": "Cargo.toml", "composer.lock": "composer.json", "go.sum": "go.mod", "Gemfile.lock": "Gemfile",
}  # fmt: skip
SKIPPED = frozenset({"node_modules", "vendor", "third_party", "fixtures", "testdata", "site-packages"})
_UNDERLINE = re.compile(r"[=~^\"-]{3,}\s*")


def few(items):
    """The first of some names, and how many more there are."""
    listed = ", ".join(shown(item) for item in items[:SHOWN])
    return listed + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def check_version(version, paths):
    found = versions.stated(paths)
    if not found:
        return "skip", "no file states a version"
    other = [f"{shown(path)} has {said[:40]}" for path, said in sorted(found.items()) if not same(said, version)]
    return ("fail", "; ".join(other[:SHOWN])) if other else ("pass", few(sorted(found)))


def check_changelog(version):
    name = _file_named(r"(change(s|log)|history|news|releases?|release[-_]notes)(\.(md|rst|txt|adoc))?")
    if name is None:
        return "skip", "there is no changelog"
    found = section(read(name) or "", version)
    if found is None:
        return "fail", f"{name} has no section for {version}"
    line, count = found
    return ("pass" if count else "fail"), f"{name}:{line} " + (f"{count} lines" if count else "is empty")


def section(content, version):
    """(line of the heading, lines of text below it) of a version's section, None where there is none."""
    lines = content.splitlines()
    heads = [(at, level) for at in range(len(lines)) if (level := _heading(lines, at))]
    for place, (at, level) in enumerate(heads):
        if _names(lines[at], version):
            below = [one for one, other in heads[place + 1 :] if other <= level]
            body = lines[at + 1 : below[0] if below else len(lines)]
            return at + 1, sum(_is_text(line) for line in body)
    return None


def _heading(lines, at):
    """The level of a heading, `#` or underlined, 0 where the line is none."""
    marks = re.match(r"(#{1,6})\s|(={1,5})\s", lines[at])
    if marks:
        return len(marks[1] or marks[2])
    is_underlined = at + 1 < len(lines) and lines[at].strip() and _UNDERLINE.fullmatch(lines[at + 1])
    if not is_underlined or _UNDERLINE.fullmatch(lines[at]):
        return 0
    return 1 if lines[at + 1][0] == "=" else 2


def _names(line, version):
    bare = version.removeprefix("v")
    return re.search(rf"(?<![\w.-])v?{re.escape(bare)}(?![\w-]|\.\d)", line[:200]) is not None


def _is_text(line):
    return bool(re.search(r"\w", line)) and not re.match(r"\s*(#{1,6}\s|\[[^\]]{1,80}\]:\s)", line)


def known_tags():
    return git("tag", "--list").decode("utf-8", "replace").split()


def check_tag(version):
    tags = known_tags()
    bare = version.removeprefix("v")
    taken = [tag for tag in tags if re.fullmatch(rf"(.{{1,80}}[@/-])?v?{re.escape(bare)}", tag)]
    if taken:
        return "fail", f"{few(sorted(taken))} exists already"
    if text("rev-parse", "--is-shallow-repository") == "true" and not tags:
        return unseen("this clone is shallow and has no tags")
    return "pass", f"none of {len(tags)} tags is of {version}"


def check_newer(version):
    own = versions.order(version)
    known = [(key, tag) for tag in known_tags() if (key := versions.order(tag))]
    if own is None or not known:
        return "skip", "there is nothing to compare with"
    latest, tag = max(known)
    line = [one for one in known if one[0][: len(own) - 1] == own[:-1]]
    # A fix for an older line is newer than the rest of that line, not than everything.
    is_newer = own > latest or (bool(line) and own > max(line)[0])
    return ("pass" if is_newer else "fail"), f"the newest tag is {tag}"


def check_clean():
    entries = names(git("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=dirty", settings=without_filters()))
    changed = [entry[3:] for entry in entries if entry[:2] != "??" and not _is_masked(entry[3:])]
    new = [entry[3:] for entry in entries if entry[:2] == "??" and entry[3:] != ".tierkit/"]
    said = [f"{len(changed)} changed: {few(changed)}"] if changed else []
    said += [f"{len(new)} untracked: {few(new)}"] if new else []
    return ("fail", "; ".join(said)) if said else ("pass", "nothing changed, nothing untracked")


def _is_masked(path):
    """Whether the sandbox laid an empty file over it, so that it only looks changed."""
    try:
        return os.lstat(path).st_dev != os.lstat(os.path.dirname(path) or ".").st_dev
    except OSError:
        return False


def current_branch():
    """Its short name, empty where a commit itself is checked out."""
    return git("symbolic-ref", "--quiet", "--short", "HEAD", fine=(0, 1)).decode("utf-8", "replace").strip()


def check_branch(wanted):
    branch = current_branch()
    if not branch:
        return "skip", "no branch is checked out"
    usual = branch in ("main", "master", "trunk") or branch.startswith(("release/", "release-", "releases/"))
    return ("pass" if branch == wanted or (not wanted and usual) else "fail"), f"on {branch}"


def check_upstream():
    branch = current_branch()
    if not branch or not git("for-each-ref", "--format=%(upstream)", f"refs/heads/{branch}").strip():
        return "skip", "the branch follows no other"
    behind, ahead = git("rev-list", "--left-right", "--count", "@{upstream}...HEAD").decode().split()
    return ("pass" if behind == "0" else "fail"), f"{behind} behind, {ahead} ahead of what was last fetched"


def check_markers(paths):
    rules = json.loads((ASSETS / "markers.json").read_text(encoding="utf-8"))["rules"]
    compiled = [(tuple(rule["endings"]), re.compile(rule["pattern"], re.MULTILINE)) for rule in rules]
    found = []
    for path in paths:
        patterns = [pattern for endings, pattern in compiled if path.endswith(endings)]
        if patterns and not SKIPPED & set(path.split("/")) and (content := read(path)):
            starts = {match.start() for pattern in patterns for match in pattern.finditer(content)}
            found += [f"{path}:{content.count(chr(10), 0, start) + 1}" for start in sorted(starts)[:SHOWN]]
    return ("fail", few(found)) if found else ("pass", "no debugger, no TODO for the release")


def check_present(pattern):
    name = _file_named(pattern)
    if name is None:
        return "fail", "there is none"
    return ("pass", name) if os.path.getsize(name) else ("fail", f"{name} is empty")


def _file_named(pattern):
    found = sorted(name for name in os.listdir() if re.fullmatch(pattern, name, re.IGNORECASE) and os.path.isfile(name))
    return found[0] if found else None


def check_lock(paths):
    pairs = [(lock, manifest) for lock, manifest in LOCKS.items() if lock in paths and manifest in paths]
    if not pairs:
        return "skip", "no lock file is tracked"
    stale = [said for lock, manifest in pairs if (said := stale_lock(lock, manifest))]
    return ("fail", "; ".join(stale)) if stale else ("pass", few([lock for lock, _ in pairs]))


def stale_lock(lock, manifest):
    """Why the lock does not fit its manifest, empty where nothing tells against it."""
    locked_at = git("log", "-1", "--format=%H", "--", lock).decode().strip()
    beside = git("ls-tree", "-z", locked_at, "--", manifest).split() if locked_at else []
    if not beside or git("status", "--porcelain", "--", lock, settings=without_filters()):
        return ""  # It is new, or being written right now: the item for a clean tree tells.
    before, now = git("cat-file", "blob", beside[2].decode()).decode("utf-8", "replace"), read(manifest) or ""
    old, new = versions.dependencies(manifest, before), versions.dependencies(manifest, now)
    changed = before.strip() != now.strip() if new is None else old != new
    return f"the dependencies in {manifest} changed after {lock} was last written" if changed else ""


def unseen(why):
    """The answer of an item that could not be looked at: nothing is ready that nobody could see."""
    return "fail", f"could not be looked at: {why}"


def guarded(check, *args):
    """What a check answers; a file that cannot be read fails it, and so does a git that will not answer."""
    try:
        return check(*args)
    except Unreadable as error:
        return "fail", str(error)
    except GitRefused as error:
        return unseen(error)
