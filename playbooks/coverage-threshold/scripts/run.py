"""Files under a coverage threshold: inputs as JSON on stdin, verdict and worst files as JSON to PLAYBOOK_RESULT."""

import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True  # Nothing may appear beside the scripts: the folder is trusted byte by byte.
from reports import Refused, read_report  # noqa: E402

MAX_BYTES = 128 * 1024 * 1024
NAMED_RANGES = 10
USUAL = (
    *("coverage.json", "coverage.xml", "lcov.info", "coverage/lcov.info", "coverage/cobertura-coverage.xml"),
    *("coverage/coverage.xml", "cobertura.xml", "build/coverage.xml", "reports/coverage.xml", ".coverage"),
)

# The repository's own settings could name programs for git to start, and a missing object could make it fetch.
QUIET = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.sshCommand=false"]
ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def printable(text):
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else ascii(text)[1:-1]


def git(*args, check=True, settings=None):
    command = ["git", "--no-pager", *QUIET, *args]
    done = subprocess.run(command, check=check, capture_output=True, env=ENVIRONMENT | (settings or {}))
    return os.fsdecode(done.stdout)


def changed_since(ref):
    """Paths that differ from where the work left `ref`, new files included."""
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}", check=False).strip()
    if not commit:
        decline(f"no such ref: {printable(ref)}")
    base = git("merge-base", commit, "HEAD", check=False).strip() or commit
    names = ["diff", "--name-only", "-z", "--relative", "--no-ext-diff", "--no-renames", "--ignore-submodules=all"]
    differs = git(*names, base, "--", settings=without_filters())
    new = git("ls-files", "--others", "--exclude-standard", "-z")
    return set(filter(None, (differs + new).split("\0")))


def without_filters():
    """Variables that switch off the filters which a repository's settings would have git run over changed files."""
    listed = git("config", "--list", "--name-only", "-z", check=False).split("\0")
    keys = [key for key in listed if key.startswith("filter.")]
    settings = {"GIT_CONFIG_COUNT": str(len(keys))}
    for at, key in enumerate(keys):  # As variables: a name with `=` in it would be cut there on the command line.
        settings[f"GIT_CONFIG_KEY_{at}"] = key
        settings[f"GIT_CONFIG_VALUE_{at}"] = "false" if key.endswith(".required") else ""
    return settings


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
    except (OSError, Refused, subprocess.CalledProcessError) as error:
        why = "git could not compare" if isinstance(error, subprocess.CalledProcessError) else error
        print(f"{printable(path)}: {getattr(error, 'strerror', None) or why}", file=sys.stderr)
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
