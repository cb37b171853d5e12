"""What a project depends on, from its manifests alone: inputs as JSON on stdin, the report to PLAYBOOK_RESULT."""

import json
import os
import re
import sys

from imports import brings, installed, mentioned, read_imports
from manifests import read_all
from project_files import shown

UNKNOWN = "Not known offline: newer versions, security notices, licences, and what setup.py computes."


def printable(text):
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else ascii(text)[1:-1]


def label(one):
    return f"{one.name} {one.spec}".strip() + f" ({shown(one.where)}{', ' + one.group if one.group else ''})"


def open_ones(found):
    """Declarations that neither name a version nor have one in a lock file."""
    return [one for one in found.declared if not one.pin and (one.ecosystem, one.name) not in found.locked]


def repeated(found):
    """(declared twice in one list, held to different versions): lines of text."""
    places, versions = {}, {}
    for one in found.declared:
        places.setdefault((one.ecosystem, one.name, one.where, one.group, one.mark), []).append(one)
        if one.pin and one.pin != "commit":
            versions.setdefault((one.ecosystem, one.name, one.mark), {}).setdefault(one.pin, label(one))
    twice = [f"{label(ones[0])}: {len(ones)} times" for ones in places.values() if len(ones) > 1]
    clash = [" and ".join(sorted(by.values())) for by in versions.values() if len({same(pin) for pin in by}) > 1]
    for (ecosystem, name, _), by in versions.items():
        locked = found.locked.get((ecosystem, name), set())
        if locked and ecosystem != "go" and not {same(pin) for pin in by} & {same(one) for one in locked}:
            clash.append(f"{sorted(by.values())[0]}, and the lock file has {', '.join(sorted(locked))}")
    return sorted(twice), sorted(clash)


def same(version):
    """A version as it is compared: `1.0` is `1.0.0`."""
    return re.sub(r"(?:\.0)+$", "", version.strip().lstrip("v"))


def unused_and_undeclared(found):
    """(declared for running and never imported, imported and not declared, files that are not Python)"""
    python = [one for one in found.declared if one.ecosystem == "python"]
    needed, tried, unread = read_imports()
    environment, names = installed(), {one.name for one in python}
    named = mentioned()
    unused = [
        label(one)
        for one in python
        if one.is_for_running
        and one.name not in named
        and not any(brings(one.name, name, environment) for name in [*needed, *tried])
    ]
    undeclared = {}
    for name, place in needed.items():
        if not any(brings(package, name, environment) for package in names):
            undeclared.setdefault(name.split(".")[0], (name, place))
    lines = [
        f"{top} ({shown(place)}){through(name, found, environment)}"
        for top, (name, place) in sorted(undeclared.items())
    ]
    return sorted(set(unused)), lines, unread


def through(name, found, environment):
    is_locked = any(ecosystem == "python" and brings(package, name, environment) for ecosystem, package in found.locked)
    return ", there only because something else needs it" if is_locked else ""


def section(title, lines, limit):
    """A heading and the first lines; nothing where there are none."""
    more = [f"- and {len(lines) - limit} more"] if len(lines) > limit else []
    return [f"### {title} ({len(lines)})", *(f"- {printable(line)}" for line in lines[:limit]), *more] if lines else []


def counted(found):
    """One line for each ecosystem."""
    lines, still_open = [], open_ones(found)
    for ecosystem in sorted({one.ecosystem for one in found.declared}):
        ours = [one for one in found.declared if one.ecosystem == ecosystem]
        exact = sum(bool(one.pin) for one in ours)
        loose = sum(one.ecosystem == ecosystem for one in still_open)
        running = sum(one.is_for_running for one in ours)
        held = len(ours) - exact - loose
        head = f"- {ecosystem}: {len(ours)} declared ({running} to run)"
        lines.append(f"{head}, {exact} exact, {held} held by a lock file, {loose} open")
    return lines


def report(found, limit):
    has_python = any(one.ecosystem == "python" for one in found.declared)
    unused, undeclared, unread = unused_and_undeclared(found) if has_python else ([], [], 0)
    (twice, clash), loose = repeated(found), sorted(label(one) for one in open_ones(found))
    read = ", ".join(shown(path) for path in found.read[:limit])
    notes = [UNKNOWN] + (
        [f"{unread} Python files could not be read, so their imports are not counted."] if unread else []
    )
    parts = [
        [f"Read: {read}" + (f" and {len(found.read) - limit} more" if len(found.read) > limit else "")],
        counted(found),
        section("Held to different versions", clash, limit),
        section("Declared twice", twice, limit),
        section("Imported, not declared", undeclared, limit),
        section("Declared to run, never imported (a plugin or a command?)", unused, limit),
        section("Open: no exact version, no lock", loose, limit),
        section("Could not be read", found.broken, limit),
        notes,
    ]
    return {
        "report": "\n\n".join("\n".join(part) for part in parts if part),
        "declared": len(found.declared),
        "open": len(loose),
        "unused": len(unused),
        "undeclared": len(undeclared),
        "duplicates": len(twice),
        "conflicts": len(clash),
        "more": sum(max(0, len(part) - limit) for part in (clash, twice, undeclared, unused, loose, found.broken)),
    }


def main():
    inputs = json.load(sys.stdin)
    found = read_all()
    if not found.read:
        print("; ".join(found.broken[:3]) or "there is no manifest this playbook reads", file=sys.stderr)
        return 1 if found.broken else 10
    try:
        result = report(found, inputs.get("limit", 10))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(result, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
