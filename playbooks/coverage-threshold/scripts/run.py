"""Files under a coverage threshold: inputs as JSON on stdin, verdict and worst files as JSON to PLAYBOOK_RESULT."""

import json
import os
import re
import sys

from quiet_git import GitRefused, git, names, text, without_filters
from reports import Refused, read_report

MAX_BYTES = 128 * 1024 * 1024
NAMED_RANGES = 10
USUAL = (
    *("coverage.json", "coverage.xml", "lcov.info", "coverage/lcov.info", "coverage/cobertura-coverage.xml"),
    *("coverage/coverage.xml", "cobertura.xml", "build/coverage.xml", "reports/coverage.xml", ".coverage"),
)
FAMILIES = (
    {".js", ".jsx", ".ts", ".tsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte"},
    {".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp"}, {".java", ".kt", ".groovy", ".scala"},
)  # fmt: skip
TEST = re.compile(
    r"(?:^|/)(?:tests?|__tests__|specs?)/|(?:^|/)(?:test_[^/]*|conftest)\.py$|(?:[_.](?:test|spec)|Tests?)\.\w+$"
)
"""The names of files that hold tests, which reports often leave out."""


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def printable(text):
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else ascii(text)[1:-1]


def changed_since(ref):
    """Paths that differ from where the work left `ref`, new files included."""
    commit = text("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}")
    if not commit:
        decline(f"no such ref: {printable(ref)}")
    base = text("merge-base", commit, "HEAD") or commit
    asked = ["diff", "--name-only", "-z", "--relative", "--no-ext-diff", "--no-renames", "--ignore-submodules=all"]
    differs = git(*asked, base, "--", settings=without_filters())
    new = git("ls-files", "--others", "--exclude-standard", "-z")
    return set(names(differs + new))


def find_report(given):
    """The report's path: the one given, or the first with a usual name."""
    root = os.path.realpath(".")
    names = USUAL if given == "auto" else (given,)
    real = [(name, os.path.realpath(name)) for name in names if "\0" not in name and not os.path.isabs(name)]
    inside = [name for name, path in real if path.startswith(root + os.sep) and os.path.isfile(path)]
    if not inside:
        decline(f"there is no {'coverage report' if given == 'auto' else 'file ' + printable(given)} in the project")
    return next((name for name in inside if name != ".coverage"), inside[0])


def located(files, sources, twice=()):
    """The files by project path: relative to a source folder where the report names some, or to the project."""
    found = {}
    for path, lines in files.items():
        places = places_of(path.replace("\\", "/"), sources)
        if len(places) > 1 or (path in twice and not places):
            raise Refused(f"has {printable(path)[:200]} for more than one file, and does not say which is which")
        name = places[0] if places else os.path.normpath(path.replace("\\", "/")).replace(os.sep, "/")
        merged = found.setdefault(name, {})
        for line, hits in lines.items():
            merged[line] = max(merged.get(line, 0), hits)
    return found


def places_of(path, sources):
    """The files of the project that a report may mean by a path."""
    found = {}
    for one in (os.path.join(source, path) for source in sources):
        if is_ours(one):
            found.setdefault(os.path.realpath(one), one)
    if not found and is_ours(path):
        found[path] = path
    return [os.path.relpath(one).replace(os.sep, "/") for one in found.values()]


def is_ours(path):
    here = os.getcwd()
    whole = os.path.normpath(os.path.join(here, path))
    return whole.startswith(here + os.sep) and "\0" not in whole and os.path.isfile(whole)


def unknown_of(changed, files):
    """Changed source files that the report lacks: nobody knows whether a test reaches them."""
    measured = {suffix_of(name) for name in files}
    measured |= {suffix for family in FAMILIES if family & measured for suffix in family}
    lacking = (name for name in changed - files.keys() if suffix_of(name) in measured and not TEST.search(name))
    return sorted(name for name in lacking if is_ours(name) and not os.path.islink(name) and os.path.getsize(name))


def suffix_of(name):
    return os.path.splitext(name)[1].casefold()


def ranges(lines):
    """The uncovered lines as `3-5, 9`: what lies between two without a covered line belongs to one range."""
    spans, is_open = [], False
    for line in sorted(lines):
        if lines[line]:
            is_open = False
        elif is_open:
            spans[-1][1] = line
        else:
            spans.append([line, line])
            is_open = True
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    more = f", and {len(shown) - NAMED_RANGES} more" if len(shown) > NAMED_RANGES else ""
    return ", ".join(shown[:NAMED_RANGES]) + more


def percent(covered, total):
    """Rounded down, so that only what is wholly covered reads 100."""
    return 100.0 if not total else covered * 10_000 // total / 100


def report(files, threshold, limit, unknown=()):
    counts = {path: (sum(hits > 0 for hits in lines.values()), len(lines)) for path, lines in files.items() if lines}
    covered, total = (sum(part) for part in zip(*counts.values())) if counts else (0, 0)
    under = sorted((percent(*counts[path]), path) for path in counts if percent(*counts[path]) < threshold)
    whole = percent(covered, total)
    return {
        "verdict": "under" if whole < threshold else "unknown" if unknown else "over",
        "total_percent": whole,
        "files": len(counts),
        "files_under": len(under),
        "worst": [
            {"file": printable(path), "percent": value, "missing": ranges(files[path])} for value, path in under[:limit]
        ],
        "more": max(0, len(under) - limit),
        "unknown": [printable(path) for path in unknown[:limit]],
        "unknown_files": len(unknown),
    }


def load(path):
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Refused("is larger than 128 MB")
    read = read_report(data)
    return read.kind, located(read.files, read.sources, read.twice)


def main():
    inputs = json.load(sys.stdin)
    path = find_report(inputs.get("report", "auto"))
    try:
        kind, files = load(path)
        since = inputs.get("since", "")
        changed = changed_since(since) if since else {*files}
    except (OSError, Refused, GitRefused) as error:
        print(f"{printable(path)}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    unknown = unknown_of(changed, files)
    files = {name: lines for name, lines in files.items() if name in changed}
    if not any(files.values()):
        decline("none of the changed files is in the report" if since else "the report covers no lines")
    result = report(files, inputs.get("threshold", 80), inputs.get("limit", 20), unknown)
    result["source"] = f"{printable(path)} ({kind})"
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(result, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
