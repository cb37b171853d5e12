"""Is this project ready to be released: inputs as JSON on stdin, the checklist as JSON to PLAYBOOK_RESULT."""

import json
import os
import sys
from pathlib import Path

import checks
from quiet_git import GitRefused, git, names

MANIFESTS = ("pyproject.toml", "package.json", "Cargo.toml", "setup.py", "setup.cfg", "composer.json", "go.mod", "VERSION")
LICENCE = r"(licen[cs]e|copying|unlicense)([.-].*)?"
README = r"readme(\.(md|rst|txt|adoc))?"
EVIDENCE = 240


def tracked():
    """(the tracked files below this folder, None), or (None, the answer for all that they would tell)."""
    here = Path.cwd()
    if not any(os.path.lexists(folder / ".git") for folder in (here, *here.parents)):
        return None, ("skip", "not a git working tree")
    try:
        if git("rev-parse", "--is-inside-work-tree").strip() != b"true":
            raise GitRefused("the repository says that it has no working tree")
        return sorted(names(git("ls-files", "-z"))), None
    except GitRefused as error:
        return None, checks.unseen(error)


def checklist(version, branch, paths, untold):
    """(name, status, evidence) of each item, in the order in which one would do them."""
    guarded = checks.guarded
    yield "version", *guarded(checks.check_version, version, paths or os.listdir())
    yield "changelog", *guarded(checks.check_changelog, version)
    yield "licence", *guarded(checks.check_present, LICENCE)
    yield "readme", *guarded(checks.check_present, README)
    of_git = [
        ("lock", checks.check_lock, (set(paths or ()),)), ("markers", checks.check_markers, (paths,)),
        ("clean", checks.check_clean, ()), ("branch", checks.check_branch, (branch,)),
        ("upstream", checks.check_upstream, ()), ("tag", checks.check_tag, (version,)),
        ("newer", checks.check_newer, (version,)),
    ]  # fmt: skip
    for name, check, args in of_git:
        yield name, *(untold or guarded(check, *args))


def main():
    inputs = json.load(sys.stdin)
    version, (paths, untold) = inputs["version"].removeprefix("v"), tracked()
    if paths is None and not any(os.path.isfile(name) for name in MANIFESTS):
        print("this is neither a git working tree nor a project with a manifest", file=sys.stderr)
        sys.exit(10)
    items = [
        {"item": item, "status": status, "evidence": evidence[:EVIDENCE]}
        for item, status, evidence in checklist(version, inputs.get("branch", ""), paths, untold)
    ]
    failed = [one["item"] for one in items if one["status"] == "fail"]
    found = {"version": version, "ready": not failed, "failed": failed, "checks": items}
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(found, out)


if __name__ == "__main__":
    main()
