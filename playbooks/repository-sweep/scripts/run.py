"""What should not be in a repository: inputs as JSON on stdin, findings as JSON to PLAYBOOK_RESULT."""

import heapq
import json
import os
import subprocess
import sys

import quiet_git
from contents import SIZES, blob_sizes, blob_texts, committed, working_text
from quiet_git import GitRefused, git, names, shown, stream
from rules import Junk, Secrets, collisions, conflict, odd_form

KINDS = ("secret", "conflict", "junk", "large", "history", "collision", "ignored", "form", "unread")


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def tracked():
    """(path to mode and blob id of every tracked file below this folder, the paths in the midst of a merge)"""
    found, unmerged = {}, set()
    for entry in git("ls-files", "-z", "--stage").split(b"\0"):
        if entry:
            head, _, path = entry.partition(b"\t")
            mode, blob, stage = head.decode().split()
            found.setdefault(os.fsdecode(path), (mode, blob))
            if stage != "0":
                unmerged.add(os.fsdecode(path))
    return dict(sorted(found.items())), sorted(unmerged)


def large(files, sizes, limit_kb):
    for path, (mode, blob) in files.items():
        size = sizes.get(blob, 0)
        if mode.startswith("100") and size > limit_kb * 1024:
            yield size, finding("large", path, f"{kb(size)} KB")


def history(files, limit_kb, most):
    """The largest blobs that no tracked file holds any more, named by one path each once had."""
    now = {blob for _, blob in files.values()}
    rows = (line.decode().split() for line in stream("cat-file", "--batch-all-objects", "--unordered", SIZES))
    old = ((int(row[2]), row[0]) for row in rows if row[1] == "blob" and row[0] not in now)
    big = {blob: size for size, blob in heapq.nlargest(most, (one for one in old if one[0] > limit_kb * 1024))}
    if not big:
        return
    for line in stream("rev-list", "--objects", "--all"):
        blob, _, path = line.partition(b" ")
        if size := big.pop(blob.decode(), None):
            yield size, finding("history", os.fsdecode(path), f"{kb(size)} KB, no longer tracked")


def kb(size):
    return (size + 1023) // 1024


def finding(kind, path, detail, line=0):
    return {"kind": kind, "path": path, "line": line, "detail": detail}


class Reading:
    """By path: what was found in its texts, and why one of them could not be read."""

    def __init__(self, secrets):
        self.secrets, self.found, self.unread = secrets, {}, {}

    def take(self, path, text, why, where=""):
        """Look through one text of a file; what the working tree has too is told from there alone."""
        if why:
            self.unread.setdefault(path, why + where)
        found = self.found.setdefault(path, [])
        known = {(one["kind"], one["detail"]) for one in found}
        faults = [("secret", rule, line) for line, rule in self.secrets.find(text or "")]
        if line := conflict(text or ""):
            faults.append(("conflict", "unresolved merge", line))
        found += [finding(kind, path, rule + where, line) for kind, rule, line in faults if (kind, rule) not in known]

    def findings(self):
        yield from (one for _, found in sorted(self.found.items()) for one in found)
        yield from (finding("unread", path, why) for path, why in sorted(self.unread.items()))


def read_through(files, secrets):
    """What is found in every text of the tracked files, those that could not be read included."""
    reading, folders, other, form = Reading(secrets), {}, {}, []
    for path, (mode, blob) in files.items():
        if mode.startswith("100"):
            text, why, is_same = working_text(path, blob, folders)
            reading.take(path, text, why)
            form += [finding("form", path, rule) for rule in odd_form(text or "", mode == "100755")]
            if not is_same:
                other.setdefault(blob, []).append((path, ", in the index"))
    for path, blob in committed():
        if files.get(path, ("", ""))[1] != blob:
            other.setdefault(blob, []).append((path, ", in HEAD"))
    for blob, text, why in blob_texts(sorted(other)):
        for path, where in other[blob]:
            reading.take(path, text, why, where)
    return [*reading.findings(), *form]


def sweep(large_kb, with_history, limit):
    (files, unmerged), secrets = tracked(), Secrets()
    found = read_through(files, secrets)
    found += [finding("conflict", path, "unmerged in the index") for path in unmerged]
    found += by_name(list(files))
    sized = list(large(files, blob_sizes(blob for _, blob in files.values()), large_kb))
    if with_history:
        sized += history(files, large_kb, limit)
    found += [one for _, one in sorted(sized, key=lambda pair: (-pair[0], pair[1]["path"]))]
    return report(found, len(files), limit, secrets)


def by_name(paths):
    """What is odd about the names alone: junk, collisions, and what should have been ignored."""
    junk = Junk().find(paths)
    for path, rule, count in junk:
        yield finding("junk", path, rule + (f", {count} files" if path.endswith("/") else ""))
    for first, *others in collisions(paths):
        yield finding("collision", first, f"collides with {', '.join(map(shown, others))}")
    said = {path for path, _, _ in junk}
    for path in sorted(names(git("ls-files", "-z", "--cached", "--ignored", "--exclude-standard"))):
        if not is_below(path, said):
            yield finding("ignored", path, "tracked, though .gitignore names it")


def is_below(path, said):
    return path in said or any(path.startswith(one) for one in said if one.endswith("/"))


def of_kind(found, kind):
    return [one for one in found if one["kind"] == kind]


def report(found, files, limit, secrets):
    counts = {kind: len(of_kind(found, kind)) for kind in KINDS}
    listed = [one for kind in KINDS for one in of_kind(found, kind)[:limit]]
    for one in listed:
        # A name may itself be made of a key.
        one["path"], one["detail"] = secrets.without(shown(one["path"])), secrets.without(one["detail"])
    return {
        "clean": not found, "counts": counts, "findings": listed, "more": len(found) - len(listed),
        "files": files, "unread": counts["unread"],
    }  # fmt: skip


def main():
    inputs = json.load(sys.stdin)
    if quiet_git.text("rev-parse", "--is-inside-work-tree") != "true":
        decline("this is not a git working tree")
    try:
        found = sweep(inputs.get("large_kb", 1024), inputs.get("history", False), inputs.get("limit", 10))
    except (GitRefused, subprocess.SubprocessError) as error:
        print(f"the repository cannot be read: {error}", file=sys.stderr)
        sys.exit(1)
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(found, out, ensure_ascii=False)


if __name__ == "__main__":
    main()
