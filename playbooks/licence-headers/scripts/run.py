"""Which source files lack the licence header: inputs as JSON on stdin, the files as JSON to PLAYBOOK_RESULT."""

import json
import os
import sys

from headers import begin
from project_files import shown


def report(found, limit):
    missing, other = ([shown(source.path) for source in part] for part in (found.missing, found.other))
    return {
        "header": found.header,
        "checked": len(found.good) + len(missing) + len(other),
        "missing": len(missing),
        "other": len(other),
        "unread": len(found.unread),
        "missing_files": missing[:limit],
        "other_files": other[:limit],
        "more": max(0, len(missing) - limit) + max(0, len(other) - limit),
    }


def main():
    inputs = json.load(sys.stdin)
    try:
        found, why = begin(inputs)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if found is None:
        print(why, file=sys.stderr)
        return 10
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(report(found, inputs.get("limit", 20)), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
