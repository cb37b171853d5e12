"""Unused imports and plainly dead Python code: inputs as JSON on stdin, findings as JSON to PLAYBOOK_RESULT."""

import json
import os
import sys

from project_files import clean_folder, shown
from unused import examine


def lines_of(project):
    """One line for each finding, in path and line order, those that need no thought first."""
    plain = [
        (one.path, one.alias.lineno, f"unused import {one.label}") for one in project.imports if not one.for_effect
    ]
    for path, first, last, end in project.unreachable:
        where = f"line {first}" if first == last else f"lines {first}-{last}"
        plain.append((path, first, f"{where} unreachable after {end}"))
    for path, line, kind, name in project.privates:
        plain.append((path, line, f"private {kind} {name} is never used"))
    effect = [
        (one.path, one.alias.lineno, f"import {one.label}: only for its effect?")
        for one in project.imports
        if one.for_effect
    ]
    return [f"{shown(path)}:{line}: {text}" for part in (plain, effect) for path, line, text in sorted(part)]


def report(project, limit):
    found = lines_of(project)
    for_effect = sum(one.for_effect for one in project.imports)
    return {
        "unused_imports": len(project.imports) - for_effect,
        "for_effect": for_effect,
        "unreachable": len(project.unreachable),
        "unused_private": len(project.privates),
        "files": project.files,
        "unread": [shown(path) for path in project.unread[:limit]],
        "findings": found[:limit],
        "more": max(0, len(found) - limit),
    }


def main():
    inputs = json.load(sys.stdin)
    folder = clean_folder(inputs.get("folder", "."))
    if folder is None:
        print("there is no such folder in the project", file=sys.stderr)
        return 10
    try:
        project = examine(folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not project.files:
        print("there are no Python files", file=sys.stderr)
        return 10
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(report(project, inputs.get("limit", 20)), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
