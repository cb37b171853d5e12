"""Failures read from the printed output of test runners; each reader gets the lines and gives what failed.

Every pattern is tried on one bounded line, so that a hostile log costs no more than its length.
"""

import json
import re
from dataclasses import dataclass, field

MAX_LINE = 1000
KEPT_LINES = 4


@dataclass
class Failure:
    """One failed test: its name, the error in a line, where, and the lines that matter."""

    test: str
    error: str = ""
    where: str = ""
    lines: list = field(default_factory=list)


@dataclass
class Run:
    framework: str
    failures: list
    passed: int | None = None


CODES = re.compile(r"\x1b(?:\[[0-9;?]{0,40}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\^_])")
STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?Z? ")


def lines_of(text):
    """The log's lines without colours, time stamps of a build server, and overlong tails."""
    lines = (line[: 2 * MAX_LINE] for line in re.split(r"\r\n|\r|\n", text))
    return [STAMP.sub("", CODES.sub("", line))[:MAX_LINE].rstrip() for line in lines]


def first(pattern, lines):
    return next((found for line in lines if (found := re.search(pattern, line))), None)


def number(pattern, lines):
    """The count in the last line that has it; None where no line does."""
    found = [int(one[1]) for line in lines if (one := re.search(pattern, line))]
    return found[-1] if found else None


def cut(lines, is_head):
    """(head match, lines until the next head) for each head."""
    heads = [(at, found) for at, line in enumerate(lines) if (found := is_head(line))]
    stops = [at for at, _ in heads[1:]] + [len(lines)]
    return [(found, lines[at + 1 : stop]) for (at, found), stop in zip(heads, stops)]


# --- pytest -------------------------------------------------------------------------------------

PYTEST_END = re.compile(
    r"^=+ .*\b\d+ (?:passed|failed|errors?|skipped|deselected|xfailed)\b.* =+$"
    r"|^\d+ (?:passed|failed|errors?|skipped)\b.* in [\d.]+s"
)
PYTEST_HEAD = re.compile(r"^_{3,} (.+?) _{3,}$")
PYTEST_SUMMARY = re.compile(r"^(?:FAILED|ERROR|SUBFAILED(?:\[[^\]]{0,200}\]|\(.{0,200}?\))?) (\S.*)$")
PYTEST_PLACE = re.compile(r"^(\S[^:]{0,200}:\d+): ?(?:in .+|([A-Za-z_][\w.]*))?$")


def read_pytest(lines):
    if not any(PYTEST_END.match(line) for line in lines):
        return None
    blocks = [pytest_block(found[1], body) for found, body in cut(lines, PYTEST_HEAD.match)]
    failures = []
    for line in lines:
        found = PYTEST_SUMMARY.match(line)
        if found and (".py" in line or "::" in line):
            test, said, block = paired(found[1], blocks)
            if block:
                blocks.remove(block)
            failures.append(
                Failure(test, *(block.error or said, block.where, block.lines) if block else (said, "", []))
            )
    return Run("pytest", failures + blocks, number(r"\b(\d+) passed\b", lines) or 0)


def paired(summary, blocks):
    """(id, message, block or None). A dash may stand in an id too, so the id that a block has is taken."""
    splits = [(summary[:at], summary[at + 3 :]) for at in range(len(summary)) if summary.startswith(" - ", at)]
    splits.append((summary, ""))
    for test, said in splits:
        for block in blocks:
            if is_same_test(block.test, test):
                return test, said, block
    whole = (split for split in splits if split[0].count("[") <= split[0].count("]"))
    return *next(whole, splits[-1]), None


def is_same_test(head, test):
    bare = (
        head.removeprefix("ERROR at setup of ").removeprefix("ERROR at teardown of ").removeprefix("ERROR collecting ")
    )
    bare = re.sub(r" (?:\[.*\] )?\([^()]*\)$| \[[^\]]*\]$", "", bare) if " " in bare else bare  # Of a subtest.
    path, mark, values = test.partition("[")
    return bare in (test, ".".join(path.split("::")[1:]) + mark + values)


def pytest_block(head, body):
    stop = next((at for at, line in enumerate(body) if re.match(r"^={5,} ", line)), len(body))
    body = body[:stop]
    said = [line[1:].strip() for line in body if re.match(r"E(?: |$)", line)]
    places = [found for line in body if (found := PYTEST_PLACE.match(line))]
    code = [line[1:].strip() for line in body if line.startswith(">")]
    where = places[-1][1] if places else ""
    error = next((line for line in said if line), places[-1][2] or "" if places else "")
    return Failure(head, error, where, [*code[-1:], *said[1:]])


# --- unittest -----------------------------------------------------------------------------------

UNITTEST_HEAD = re.compile(r"^(FAIL|ERROR|UNEXPECTED SUCCESS): (.+)$")
FRAME = re.compile(r'^\s+File "([^"]+)", line (\d+)')


def read_unittest(lines):
    ran = number(r"^Ran (\d+) tests? in", lines)
    if ran is None:
        return None
    failures = []
    for found, body in cut(lines, UNITTEST_HEAD.match):
        stop = next((at for at, line in enumerate(body) if re.match(r"^={20,}$|^Ran \d+ tests? in", line)), len(body))
        one = traceback(unittest_name(found[2]), body[:stop])
        one.error = one.error or (found[1].lower() if found[1].startswith("UN") else "")
        failures += [one] if one.error else []
    skipped = number(r"\bskipped=(\d+)", lines) or 0
    bad = {one.test.split(" ")[0] for one in failures}
    return Run("unittest", failures, max(0, ran - len(bad) - skipped))


def unittest_name(text):
    found = re.match(r"^(\w+) \(([\w.]+)\)(.*)$", text)
    if not found:
        return text
    dotted = found[2] if found[2].endswith("." + found[1]) else f"{found[2]}.{found[1]}"
    return dotted + found[3]


def traceback(test, body):
    """A failure from a Python traceback: the last frame, and the line behind it."""
    frames = [(at, found) for at, line in enumerate(body) if (found := FRAME.match(line))]
    after = body[frames[-1][0] + 1 :] if frames else body
    said = [line for line in after if line and not line.startswith((" ", "-", "Traceback"))]
    where = f"{frames[-1][1][1]}:{frames[-1][1][2]}" if frames else ""
    code = [line.strip() for line in after[:1] if line.startswith(" ")]
    return Failure(test, said[0] if said else "", where, [*code, *said[1:]])


# --- jest and vitest ----------------------------------------------------------------------------

JEST_HEAD = re.compile(r"^\s{0,4}● (.+)$")
VITEST_HEAD = re.compile(r"^\s*FAIL\s+(\S.* > .+)$")
JS_PLACE = re.compile(r"^\s+(?:at (?:.{0,200} )?\(?|❯ (?:.{0,200} )?)([^\s()]{1,300}:\d+):\d+\)?$")


def read_javascript(lines):
    vitest = first(r"^\s*Tests\s+.*\b\d+ (?:passed|failed).*\(\d+\)", lines)
    if not vitest and not first(r"^Tests: +.*\d+ total", lines):
        return None
    head = VITEST_HEAD if vitest else JEST_HEAD
    found = {}
    for name, body in cut(lines, head.match):
        one = javascript_block(name[1].strip(), body)
        found.setdefault((one.test, one.error), one)  # Jest prints all failures once more at the end of a long run.
    failures = [one for one in found.values() if one.error]
    return Run("vitest" if vitest else "jest", failures, number(r"^\s*Tests:? .*?(\d+) passed", lines) or 0)


def javascript_block(name, body):
    stops = (r"^\s*(?:Test Suites:|Tests:|Test Files|Summary of all|PASS |FAIL |⎯{3,})", r"^\s*● ")
    stop = next((at for at, line in enumerate(body) if any(re.match(one, line) for one in stops)), len(body))
    body = body[:stop]
    said = [line.strip() for line in body if line.strip() and not JS_PLACE.match(line) and not is_code(line)]
    places = [found[1] for line in body if (found := JS_PLACE.match(line))]
    ours = [place for place in places if "node_modules" not in place and not place.startswith("node:")]
    return Failure(name, said[0] if said else "", (ours or places or [""])[0], said[1:])


def is_code(line):
    return bool(re.match(r"^\s*>?\s*\d* ?\|", line))


# --- go -----------------------------------------------------------------------------------------

GO_FAIL = re.compile(r"^\s*--- FAIL: (\S+)")
GO_OWN = re.compile(r"/src/(?:testing|runtime)/")
GO_PLACE = re.compile(r"^\s*(?:\w+: )?(\S+\.go:\d+)(?::\d+)?: (.*)$")


def read_go(lines):
    failures, passed, is_go = [], 0, False
    for text in go_packages(lines):
        verdict = first(r"^(?:FAIL|ok)\s+(\S+)\s+(?:[\d.]+s|\(cached\)|\[.+\])", text)
        is_go = is_go or bool(verdict) or any(GO_FAIL.match(line) for line in text)
        said, package = go_said(text), verdict[1] if verdict else ""
        failed = list(dict.fromkeys(found[1] for line in text if (found := GO_FAIL.match(line))))
        leaves = [name for name in failed if not any(other.startswith(name + "/") for other in failed)]
        failures += [go_failure(f"{package} {name}".strip(), said.get(name, [])) for name in leaves]
        passed += sum(line.lstrip().startswith("--- PASS") for line in text)
        failures += go_builds(text)
    return Run("go test", failures, passed or None) if is_go else None


def go_packages(lines):
    """The lines of each package: `-json` says whose a line is, else a verdict ends a package."""
    owned, plain = {}, [[]]
    for line in lines:
        event = go_event(line)
        if event:
            owned.setdefault(event.get("Package", ""), []).append(str(event.get("Output", "")).rstrip("\n"))
            continue
        plain[-1].append(line)
        if re.match(r"^(?:FAIL|ok)\s+\S", line):
            plain.append([])
    return [*plain, *owned.values()]


def go_event(line):
    """A line of `go test -json` as the event it is; None for other lines."""
    try:
        event = json.loads(line) if line.startswith('{"') else None
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("Package", ""), str) else None


def go_said(lines):
    """What each test printed: below its verdict, or between its start and its verdict."""
    said, current = {}, ""
    for line in lines:
        started = re.match(r"^=== (?:RUN|NAME|CONT)\s+(\S+)$", line)
        ended = re.match(r"^\s*--- (?:FAIL|PASS|SKIP): (\S+)", line)
        if started or ended:
            current = (started or ended)[1]
        elif re.match(r"^(?:FAIL|ok|PASS|\?)(?:\s|$)", line):
            current = ""
        elif current and line.strip():
            said.setdefault(current, []).append(line.strip())
    return said


def go_failure(name, said):
    panic = next((line for line in said if line.startswith("panic: ")), None)
    frames = [line for line in said if re.match(r"^/\S+\.go:\d+", line) and not GO_OWN.search(line)]
    if panic:
        return Failure(name, panic, frames[0].split(" ")[0] if frames else "")
    found = next((one for line in said if (one := GO_PLACE.match(line))), None)
    error = (found[2] if found else said[0] if said else "") or "failed without a message"
    return Failure(name, error, found[1] if found else "", [line for line in said if error not in line])


def go_builds(lines):
    failures = []
    for package in dict.fromkeys(found[1] for line in lines if (found := re.match(r"^FAIL\s+(\S+) \[", line))):
        at = next((at for at, line in enumerate(lines) if line.split(" [")[0] == f"# {package}"), None)
        said = lines[at + 1 : at + 4] if at is not None else []
        failures.append(go_failure(f"{package} (build)", [line for line in said if GO_PLACE.match(line)]))
    return failures


# --- cargo --------------------------------------------------------------------------------------

CARGO_HEAD = re.compile(r"^---- (.+?) stdout ----$")
PANIC = re.compile(r"^thread '.{1,300}' (?:\(\d+\) )?panicked at (?:'(.*)', )?([^\s']\S*?:\d+)(?::\d+)?:?$")


def read_cargo(lines):
    is_built = first(r"^test result: ", lines)
    if not is_built and not first(r"^error(?:\[E\d+\])?: could not compile|^error: test failed", lines):
        return None
    failures = [cargo_block(found[1], body) for found, body in cut(lines, CARGO_HEAD.match)]
    if not is_built:
        failures = [cargo_build(found, body) for found, body in cut(lines, cargo_error)]
    passed = [int(one[1]) for line in lines if (one := re.match(r"^test result: .*?(\d+) passed", line))]
    return Run("cargo test", failures, sum(passed) if passed else None)


def cargo_error(line):
    return re.match(r"^error(\[E\d+\])?: (?!could not compile|aborting)(.+)$", line)


def cargo_build(found, body):
    place = first(r"^\s*--> (\S+?:\d+)", body[:3])
    return Failure("(build)", f"error{found[1] or ''}: {found[2]}", place[1] if place else "")


def cargo_block(name, body):
    end = re.compile(r"^(?:failures:|test result:|note: )")
    stop = next((at for at, line in enumerate(body) if end.match(line)), len(body))
    body = [line for line in body[:stop] if line.strip()]
    at, found = next(((at, one) for at, line in enumerate(body) if (one := PANIC.match(line))), (-1, None))
    if not found:
        return Failure(name, body[0] if body else "failed without a message", "", body[1:])
    rest = [line.strip() for line in body[at + 1 :]]
    error = found[1] if found[1] is not None else rest.pop(0) if rest else "panicked"
    return Failure(name, error, found[2], rest)


READERS = (read_pytest, read_unittest, read_javascript, read_cargo, read_go)


def read_log(text):
    """The run that the log tells of, None where no runner is known in it. Of several, the one with most to say."""
    lines = lines_of(text)
    runs = [run for run in (reader(lines) for reader in READERS) if run]
    return max(runs, key=lambda run: len(run.failures)) if runs else None
