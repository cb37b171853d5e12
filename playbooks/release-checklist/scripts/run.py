"""Is this project ready to be released: inputs as JSON on stdin, the checklist as JSON to PLAYBOOK_RESULT."""

import json
import os
import sys

import checks
import quiet_git
from quiet_git import GitRefused, git, names

MANIFESTS = ("pyproject.toml", "package.json", "Cargo.toml", "setup.py", "setup.cfg", "composer.json", "go.mod", "VERSION")
LICENCE = r"(licen[cs]e|copying|unlicense)([.-].*)?"
README = r"readme(\.(md|rst|txt|adoc))?"
EVIDENCE = 240


def tracked():
    """The tracked files below this folder, None where it is in no repository."""
    if quiet_git.text("rev-parse", "--is-inside-work-tree") != "true":
        return None
    try:
        return sorted(names(git("ls-files", "-z")))
    except GitRefused:
        return None


def checklist(version, branch, paths):
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
        yield (name, "skip", "not a git working tree") if paths is None else (name, *guarded(check, *args))


def main():
    inputs = json.load(sys.stdin)
    version, paths = inputs["version"].removeprefix("v"), tracked()
    if paths is None and not any(os.path.isfile(name) for name in MANIFESTS):
        print("this is neither a git working tree nor a project with a manifest", file=sys.stderr)
        sys.exit(10)
    items = [
        {"item": item, "status": status, "evidence": evidence[:EVIDENCE]}
        for item, status, evidence in checklist(version, inputs.get("branch", ""), paths)
    ]
    failed = [one["item"] for one in items if one["status"] == "fail"]
    found = {"version": version, "ready": not failed, "failed": failed, "checks": items}
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(found, out)


if __name__ == "__main__":
    main()
