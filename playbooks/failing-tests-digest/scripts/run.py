"""A digest of the failures in a test log: inputs as JSON on stdin, the digest as JSON to PLAYBOOK_RESULT."""

import json
import os
import re
import sys
from pathlib import Path

from junit import read_junit
from logs import read_log
from runs import KEPT_LINES

MAX_BYTES = 64 * 1024 * 1024
MAX_WIDTH = 160
NAMED = 3
VARIES = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b|/tmp/\S+|\d+(?:\.\d+)*")


def decoded(data):
    """The text of a log, whatever encoding the shell gave it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def is_xml(data):
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" or data[:4] in (b"\xff\xfe<\0", b"\xfe\xff\0<")


def grouped(failures):
    """The failures by the same error, apart from numbers and addresses; the largest group first."""
    groups = {}
    for one in failures:
        groups.setdefault(VARIES.sub("#", one.error.strip()), []).append(one)
    return sorted(groups.values(), key=lambda group: -len({one.test for one in group}))


def clipped(text, width=MAX_WIDTH):
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= width else text[: width - 1] + "…"


def told(group):
    """One group in a few lines: the error, the tests, the first lines that matter."""
    names = sorted({one.test for one in group})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    one = min(group, key=lambda one: one.test)
    named = ", ".join(clipped(name, 120) for name in names[:NAMED])
    lines = [f"{len(names)}x {clipped(one.error or '(no message)')}", f"   {named}{more}"]
    if one.where:
        lines.append(f"   at {clipped(one.where.removeprefix(os.getcwd() + os.sep))}")
    detail = [line for line in map(clipped, one.lines) if line and line != clipped(one.error)]
    return [*lines, *(f"   | {line}" for line in detail[: KEPT_LINES - 1])]


def report(run, limit):
    groups = grouped(run.failures)
    passed = "" if run.passed is None else f", {run.passed} passed"
    head = f"{run.failed} failed{passed} ({run.framework}); {len(groups)} different errors"
    lines = [line for group in groups[:limit] for line in told(group)]
    return {
        "framework": run.framework,
        "failed": run.failed,
        "passed": -1 if run.passed is None else run.passed,
        "unnamed": run.unnamed,
        "groups": len(groups),
        "digest": "\n".join([head, *left_open(run), *lines]),
        "more": max(0, len(groups) - limit),
    }


def left_open(run):
    """What the runner says beyond the failures that were found."""
    if run.unnamed:
        yield f"not named in the log: {run.unnamed} of them"
    if run.broken:
        yield f"the run itself broke off: {clipped(run.broken)}"


def load(path):
    """The run in the file. ValueError where it is too large or broken; None where it holds no test results."""
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError("is larger than 64 MB")
    return read_junit(data) if is_xml(data) else read_log(decoded(data))


def is_inside(path):
    root, real = os.path.realpath("."), os.path.realpath(path)
    return not Path(path).is_absolute() and real.startswith(root + os.sep) and os.path.isfile(real)


def main():
    inputs = json.load(sys.stdin)
    path = inputs["log"]
    if not is_inside(path):
        print(f"there is no file {clipped(path)} in the project", file=sys.stderr)
        return 10
    try:
        run = load(path)
    except (OSError, ValueError) as error:
        print(f"{clipped(path)}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    if run is None:
        print(f"{clipped(path)} holds no results of a test runner this playbook knows", file=sys.stderr)
        return 10
    if run.broken and not run.failed:
        print(f"{clipped(path)}: the run failed and no test of it is told of: {clipped(run.broken)}", file=sys.stderr)
        return 1
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(report(run, inputs.get("limit", 5)), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
