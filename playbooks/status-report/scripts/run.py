"""A project's state on one page, from git alone: inputs as JSON on stdin, Markdown as JSON to PLAYBOOK_RESULT."""

import json
import os
import re
import sys
import time
from collections import Counter

from quiet_git import GitRefused, git, text, without_filters

TYPES = ("feat", "fix", "perf", "docs", "refactor", "test", "build", "ci", "style", "chore", "revert")
SUBJECT = re.compile(r"(\w+)(?:\([^()]*\))?!?: ")
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+~^-]*")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MARKS = ("TODO", "FIXME", "XXX")
MAX_LINE = 100
DAY_S = 86_400
STATUS = {"status.submoduleSummary": "false", "core.untrackedCache": "false"}


class NotForMe(Exception):
    """This is a task for somebody else."""


def said(*args, **more):
    """What git prints, as text."""
    return git(*args, **more).decode("utf-8", "replace")


def asked(*args):
    """One line of git; nothing where there is none to tell."""
    return text(*args) or ""


def commit_of(ref):
    return asked("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}")


def tree_state():
    """(branch, upstream, ahead, behind, [(letters, path)]) of the working tree."""
    told = said("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--ignore-submodules=all",
                "--no-renames", settings=STATUS | without_filters())  # fmt: skip
    entries = told.split("\0")
    heads = dict(entry[2:].split(" ", 1) for entry in entries if entry.startswith("# branch."))
    ahead, behind = re.findall(r"\d+", heads.get("branch.ab", "+0 -0"))
    changes = [changed(entry) for entry in entries if entry[:2] in ("1 ", "u ", "? ")]
    branch = heads.get("branch.head", "")
    return branch, heads.get("branch.upstream", ""), int(ahead), int(behind), changes


def changed(entry):
    kind, _, rest = entry.partition(" ")
    if kind == "?":
        return "??", rest
    return rest[:2], rest.split(" ", 7 if kind == "1" else 9)[-1]


def beginning(since, days, tag):
    """(how to name it, the commit that the report starts after or nothing for the whole history)"""
    if days:
        return f"the last {days} days", before(f"@{int(time.time()) - days * DAY_S}")
    if DATE.fullmatch(since):
        return since, before(f"{since}T00:00:00Z")
    if since:
        commit = commit_of(since) if REF.fullmatch(since) else ""
        if not commit:
            raise NotForMe(f"there is no date, tag, branch or commit {since[:80]!a}")
        return since, commit
    return (tag, commit_of(f"refs/tags/{tag}")) if tag else ("the beginning", "")


def before(moment):
    return asked("rev-list", "--max-count=1", f"--before={moment}", "HEAD")


def commits_after(base):
    """(id, author, subject) of each commit, merges left out, the newest first."""
    span = f"{base}..HEAD" if base else "HEAD"
    told = said("log", "-z", "--no-merges", "--encoding=UTF-8", "--no-color", "--format=%h%x1f%an%x1f%s", span, "--")
    return [tuple((entry + "\x1f\x1f").split("\x1f")[:3]) for entry in told.split("\0") if entry]


def lines_changed(base):
    """(path, added, removed) of each file, the most changed first; a file that is not text counts no lines."""
    start = (asked("merge-base", base, "HEAD") or base) if base else asked("hash-object", "-t", "tree", os.devnull)
    told = said("diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color",
                "--ignore-submodules=all", start, "HEAD", "--")  # fmt: skip
    rows = (entry.split("\t", 2) for entry in told.split("\0") if entry.count("\t") > 1)
    found = [(path, int(added.strip("-") or 0), int(removed.strip("-") or 0)) for added, removed, path in rows]
    return sorted(found, key=lambda row: (-row[1] - row[2], row[0]))


def open_marks():
    """(how many lines, in how many files) of the last commit hold a mark of open work."""
    wanted = [part for mark in MARKS for part in ("-e", mark)]
    told = said("grep", "-I", "-w", "-c", "-z", "--no-color", "--no-textconv", *wanted, "HEAD", "--", fine=(0, 1))
    counts = re.findall(r"\0(\d+)\n", told)
    return sum(map(int, counts)), len(counts)


def type_of(subject):
    found = SUBJECT.match(subject)
    name = found[1].lower() if found else ""
    return name if name in TYPES else "other"


def ranked(names, limit):
    """`name count` of the most frequent, and how many more there are."""
    found = sorted(Counter(names).items(), key=lambda one: (-one[1], one[0]))
    return listed([f"{plain(name)} {count}" for name, count in found], limit)


def listed(parts, limit):
    more = [f"{len(parts) - limit} more"] if len(parts) > limit else []
    return ", ".join([*parts[:limit], *more])


def plain(text):
    """Somebody's words as one short line without unseen characters."""
    text = "".join(char if char.isprintable() else "?" for char in text).strip()
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 3] + "..."


def code(text):
    return "`" + plain(text).replace("`", "'") + "`"


def bullets(lines, limit):
    more = [f"- ... and {len(lines) - limit} more"] if len(lines) > limit else []
    return "".join(line + "\n" for line in [*(f"- {line}" for line in lines[:limit]), *more])


def tree_sentence(changes):
    if not changes:
        return "clean"
    counts = {
        "staged": sum(letters[0] not in ".?" for letters, _ in changes),
        "changed": sum(letters[1] not in ".?" for letters, _ in changes),
        "untracked": sum(letters == "??" for letters, _ in changes),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def page(state, name, commits, files, marks, tag, limit):
    branch, upstream, ahead, behind, changes = state
    added, removed = (sum(row[at] for row in files) for at in (1, 2))
    parts = [
        f"## Status of {code(branch)} at {asked('log', '-1', '--format=%h, %cs', 'HEAD', '--')}\n\n"
        f"- Upstream: {f'{code(upstream)}, {ahead} ahead, {behind} behind' if upstream else 'none'}\n"
        f"- Last tag: {code(tag) if tag else 'none'}\n"
        f"- Working tree: {tree_sentence(changes)}\n"
        f"- Open marks ({', '.join(MARKS)}): {marks[0]} in {marks[1]} files\n",
        f"### Since {plain(name)}: {len(commits)} commits, {len(files)} files, +{added} -{removed}\n\n"
        f"- Types: {ranked((type_of(subject) for _, _, subject in commits), limit) or 'none'}\n"
        f"- Authors: {ranked((author for _, author, _ in commits), limit) or 'none'}\n"
        f"- Most changed: {listed([f'{code(path)} +{a} -{r}' for path, a, r in files], limit) or 'none'}\n",
    ]
    if commits:
        lines = [f"{plain(subject)} ({short})" for short, _, subject in commits]
        parts.append("### Commits\n\n" + bullets(lines, limit))
    if changes:
        lines = [f"{code(path)} {letters}" for letters, path in changes]
        parts.append("### Not committed\n\n" + bullets(lines, limit))
    return "\n".join(parts)


def report(inputs):
    if not asked("rev-parse", "--git-dir"):
        raise NotForMe("this is no git repository, git does not trust its owner, or git is not installed")
    if not commit_of("HEAD"):
        raise NotForMe("there is no commit yet")
    tag = asked("describe", "--tags", "--abbrev=0", "HEAD")
    name, base = beginning(inputs.get("since", ""), inputs.get("days", 0), tag)
    state, commits, files, marks = tree_state(), commits_after(base), lines_changed(base), open_marks()
    branch, upstream, ahead, behind, changes = state
    return {
        "markdown": page(state, name, commits, files, marks, tag, inputs.get("limit", 10)),
        "branch": plain(branch),
        "upstream": plain(upstream),
        "ahead": ahead,
        "behind": behind,
        "last_tag": plain(tag),
        "commits": len(commits),
        "files": len(files),
        "dirty": len(changes),
        "marks": marks[0],
    }


def main():
    try:
        output = report(json.load(sys.stdin))
    except (NotForMe, GitRefused) as why:
        print(plain(str(why)), file=sys.stderr)
        sys.exit(10 if isinstance(why, NotForMe) else 1)
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(output, out)


if __name__ == "__main__":
    main()
