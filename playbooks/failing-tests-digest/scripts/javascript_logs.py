"""Failures read from the printed output of jest and vitest."""

import re

from runs import Failure, Run, cut, first, first_line, number, total

JEST_HEAD = re.compile(r"^\s{0,4}● (?!Console$)(.+)$")
JEST_END = r"^Tests: .*\d total"
VITEST_HEAD = re.compile(r"^\s*FAIL\s+(\S.* > .+|(?:\|\S+\| )?\S+ \[ \S+ \])$")
VITEST_END = r"^\s*(?:Tests|Test Files)  .*\b\d+ (?:passed|failed) [|(]"
COUNTS = re.compile(r"^\s*(Tests|Test Suites|Test Files)(?:: |\s{2})")
FAILED = r"\b(\d{1,9}) failed\b"
JS_PLACE = re.compile(r"^\s+(?:at (?:.{0,200} )?\(?|❯ (?:.{0,200} )?)([^\s()]{1,300}:\d+):\d+\)?$")


def read_javascript(lines):
    is_vitest = bool(first(VITEST_END, lines))
    if not is_vitest and not first(JEST_END, lines):
        return None
    head = VITEST_HEAD if is_vitest else JEST_HEAD
    found = {}
    for name, body in cut(lines, head.match):
        one = javascript_block(name[1].strip(), body)
        found.setdefault((one.test, one.error), one)  # Jest prints all failures once more at the end of a long run.
    failures = [one for one in found.values() if one.error]
    passed = total(r"^\s*Tests:? .*?\b(\d{1,9}) passed", lines)
    unhandled = first_line(r"^\s*Errors\s+\d+ errors?$", lines) if is_vitest else ""
    return Run("vitest" if is_vitest else "jest", failures, passed, counted(lines), unhandled)


def counted(lines):
    """What the runner counts as failed: of each run the tests, or the files where more of these could not start."""
    said = files = 0
    for line in lines:
        found = COUNTS.match(line)
        if found and found[1] == "Tests":
            said, files = said + max(files, number(FAILED, line)), 0
        elif found:
            said, files = said + files, number(FAILED, line)
    return said + files


def javascript_block(name, body):
    stops = (r"^\s*(?:Test Suites:|Tests:|Test Files|Summary of all|PASS |FAIL |⎯{3,})", r"^\s*● ")
    stop = next((at for at, line in enumerate(body) if any(re.match(one, line) for one in stops)), len(body))
    body = body[:stop]
    said = [line.strip() for line in body if line.strip() and not JS_PLACE.match(line) and not is_code(line)]
    places = [found[1] for line in body if (found := JS_PLACE.match(line))]
    ours = [place for place in places if "node_modules" not in place and not place.startswith("node:")]
    return Failure(name, said[0] if said else "", (ours or places or [""])[0], said[1:])


def is_code(line):
    return bool(re.match(r"^\s*(?:>\s*)?\d* ?\|", line))
