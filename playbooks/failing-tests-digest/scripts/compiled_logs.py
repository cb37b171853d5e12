"""Failures read from the printed output of `go test` and `cargo test`."""

import json
import re

from runs import Failure, Run, cut, first, first_line, total

# --- go -----------------------------------------------------------------------------------------

GO_FAIL = re.compile(r"^\s*--- FAIL: (\S+)")
GO_OWN = re.compile(r"/src/(?:testing|runtime)/")
GO_PLACE = re.compile(r"^\s*(?:\w+: )?(\S+\.go:\d+)(?::\d+)?: (.*)$")
GO_VERDICT = r"^(?:FAIL|ok)\s+(\S+)\s+(?:[\d.]+s|\(cached\)|\[(?:\w+ failed|no test.*)\])"
GO_UNBUILT = re.compile(r"^FAIL\s+(\S+) \[\w+ failed\]")


def read_go(lines):
    failures, passed, is_go = [], 0, False
    for text in go_packages(lines):
        verdict = first(GO_VERDICT, text)
        is_go = is_go or bool(verdict) or any(GO_FAIL.match(line) for line in text)
        package = verdict[1] if verdict else ""
        failures += go_tests(text, package) + go_builds(text) or go_outside(text)
        passed += sum(line.lstrip().startswith("--- PASS") for line in text)
    broken = "" if failures else first_line(r"^FAIL$", lines)
    return Run("go test", failures, passed or None, len(failures), broken) if is_go else None


def go_tests(text, package):
    """The tests that failed, of those with subtests the innermost alone."""
    said = go_said(text)
    failed = list(dict.fromkeys(found[1] for line in text if (found := GO_FAIL.match(line))))
    # With the mark between the names first of all characters, what is inside a test follows it at once.
    order = sorted(failed, key=lambda name: name.replace("/", "\0"))
    outer = {name for name, following in zip(order, order[1:]) if following.startswith(name + "/")}
    return [go_failure(f"{package} {name}".strip(), said.get(name, [])) for name in failed if name not in outer]


def go_outside(text):
    """A package that failed, though none of its tests did: a panic, or an exit of its own."""
    verdict = first(r"^FAIL\s+(\S+)\s+[\d.]+s", text)
    if not verdict:
        return []
    said = [line.strip() for line in text if line.strip() and not re.match(r"^(?:FAIL|ok|PASS|\?|=== |\s*--- )", line)]
    panic = next((at for at, line in enumerate(said) if line.startswith("panic: ")), None)
    return [go_failure(f"{verdict[1]} (package)", said[-1:] if panic is None else said[panic:])]


def go_packages(lines):
    """The lines of each package: `-json` says whose a line is, else a verdict ends a package."""
    owned, plain = {}, [[]]
    for line in lines:
        event = go_event(line)
        if event:
            owned.setdefault(event.get("Package", ""), []).append(go_line(event))
            continue
        plain[-1].append(line)
        if re.match(r"^(?:FAIL|ok)\s+\S", line):
            plain.append([])
    return [*plain, *owned.values()]


def go_line(event):
    """What an event prints; a verdict is said again, for where the output was left out."""
    if event.get("Action") != "fail":
        return str(event.get("Output", "")).rstrip("\n")
    test, package = (str(event.get(key, "")) for key in ("Test", "Package"))
    return f"--- FAIL: {test}" if test else f"FAIL {package} 0s"


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
    heads = {line.split(" [")[0]: at for at, line in reversed([*enumerate(lines)]) if line.startswith("# ")}
    failures = []
    for package in dict.fromkeys(found[1] for line in lines if (found := GO_UNBUILT.match(line))):
        at = heads.get(f"# {package}")
        said = lines[at + 1 : at + 4] if at is not None else []
        failures.append(go_failure(f"{package} (build)", [line for line in said if GO_PLACE.match(line)]))
    return failures


# --- cargo --------------------------------------------------------------------------------------

CARGO_ENDED = r"^error: (?:\w+ failed, to rerun|\d+ targets? failed|could not compile)"
CARGO_NAMED = re.compile(r"^test (\S.*?)(?: - should panic| - compile(?: fail)?)? \.\.\. FAILED$")
CARGO_HEAD = re.compile(r"^---- (.+?) stdout ----$")
PANIC = re.compile(r"^thread '.{1,300}' (?:\(\d+\) )?panicked at (?:'(.*)', )?([^\s']\S*?:\d+)(?::\d+)?:?$")


def read_cargo(lines):
    results = [line for line in lines if line.startswith("test result: ")]
    unbuilt = first_line(r"^error(?:\[E\d+\])?: could not compile", lines)
    if not results and not unbuilt and not first(CARGO_ENDED, lines):
        return None
    failures = [cargo_block(found[1], body) for found, body in cut(lines, CARGO_HEAD.match)]
    told = {one.test for one in failures}
    names = dict.fromkeys(found[1] for line in lines if (found := CARGO_NAMED.match(line)))
    failures += [Failure(name, "failed without a message") for name in names if name not in told]
    said = total(r"\b(\d{1,9}) failed\b", results)
    if unbuilt or not results:
        builds = [cargo_build(found, body) for found, body in cut(lines, cargo_error)]
        failures, said = failures + builds, said + bool(builds)
    passed = total(r"\b(\d{1,9}) passed\b", results) if results else None
    return Run("cargo test", failures, passed, said, cargo_broken(lines, len(results), said, failures))


def cargo_broken(lines, results, said, failures):
    """A test program that died, or was never heard of again; else that it failed where nothing else tells of it."""
    died = first_line(r"process didn't exit successfully: .*\((?:signal|exit (?:status|code)): (?!101\))", lines)
    if died or sum(bool(re.match(r"^running \d+ tests?$", line)) for line in lines) > results:
        return died or "a test program of cargo that has no result"
    return "" if said or failures else first_line(f"^test result: FAILED|{CARGO_ENDED}", lines)


def cargo_error(line):
    return None if re.match(CARGO_ENDED, line) else re.match(r"^error(\[E\d+\])?: (?!aborting)(.+)$", line)


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
