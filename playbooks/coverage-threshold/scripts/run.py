"""Files under a coverage threshold: inputs as JSON on stdin, verdict and worst files as JSON to PLAYBOOK_RESULT."""

import json
import os
import sys

from quiet_git import GitRefused, git, names, text, without_filters
from reports import Refused, read_report

MAX_BYTES = 128 * 1024 * 1024
NAMED_RANGES = 10
USUAL = (
    *("coverage.json", "coverage.xml", "lcov.info", "coverage/lcov.info", "coverage/cobertura-coverage.xml"),
    *("coverage/coverage.xml", "cobertura.xml", "build/coverage.xml", "reports/coverage.xml", ".coverage"),
)


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


def located(files, sources):
    """The files by project path: relative to the project, or to a source folder where the report names some."""
    found = {}
    for path, lines in files.items():
        merged = found.setdefault(project_path(path.replace("\\", "/"), sources), {})
        for line, hits in lines.items():
            merged[line] = max(merged.get(line, 0), hits)
    return found


def project_path(path, sources):
    here = os.getcwd()
    tries = [path, *(os.path.join(source, path) for source in sources)]
    for one in tries:
        whole = os.path.normpath(os.path.join(here, one))
        if whole.startswith(here + os.sep) and "\0" not in whole and os.path.isfile(whole):
            return os.path.relpath(whole, here).replace(os.sep, "/")
    return os.path.normpath(path).replace(os.sep, "/")


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


def report(files, threshold, limit):
    counts = {path: (sum(hits > 0 for hits in lines.values()), len(lines)) for path, lines in files.items() if lines}
    covered, total = (sum(part) for part in zip(*counts.values())) if counts else (0, 0)
    under = sorted((percent(*counts[path]), path) for path in counts if percent(*counts[path]) < threshold)
    whole = percent(covered, total)
    return {
        "verdict": "under" if whole < threshold else "over",
        "total_percent": whole,
        "files": len(counts),
        "files_under": len(under),
        "worst": [
            {"file": printable(path), "percent": value, "missing": ranges(files[path])} for value, path in under[:limit]
        ],
        "more": max(0, len(under) - limit),
    }


def load(path):
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Refused("is larger than 128 MB")
    kind, files, sources = read_report(data)
    return kind, located(files, sources)


def main():
    inputs = json.load(sys.stdin)
    path = find_report(inputs.get("report", "auto"))
    try:
        kind, files = load(path)
        since = inputs.get("since", "")
        changed = changed_since(since) if since else files.keys()
    except (OSError, Refused, GitRefused) as error:
        print(f"{printable(path)}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    files = {name: lines for name, lines in files.items() if name in changed}
    if not any(files.values()):
        decline("none of the changed files is in the report" if since else "the report covers no lines")
    result = report(files, inputs.get("threshold", 80), inputs.get("limit", 20)) | {
        "source": f"{printable(path)} ({kind})"
    }
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(result, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
