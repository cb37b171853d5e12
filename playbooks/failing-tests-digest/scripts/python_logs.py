"""Failures read from the printed output of pytest and unittest."""

import re
from collections import defaultdict, deque

from runs import Failure, Run, cut, first_line, number, total

# --- pytest -------------------------------------------------------------------------------------

PYTEST_KINDS = r"(?:passed|failed|errors?|skipped|deselected|xfailed|xpassed|warnings?)\b"
PYTEST_END = re.compile(rf"\b\d{{1,9}} {PYTEST_KINDS}")
PYTEST_QUIET_END = re.compile(
    rf"(?:\d{{1,9}} [a-z ]{{1,20}}, )*\d{{1,9}} {PYTEST_KINDS}(?:, \d{{1,9}} [a-z ]{{1,20}})* in [\d.]+s"
)
PYTEST_BAD = r"\b(\d{1,9}) (?:subtests )?(?:failed|errors?)\b"
PYTEST_HEAD = re.compile(r"^_{3,} (.+?) _{3,}$")
PYTEST_SUMMARY = re.compile(r"^(?:FAILED|ERROR|SUBFAILED(?:\[[^\]]{0,200}\]|\(.{0,200}?\))?) (\S.*)$")
PYTEST_PLACE = re.compile(r"^(\S[^:]{0,200}:\d+): ?(?:in .+|([A-Za-z_][\w.]*))?$")
MAX_DASHES = 20


def read_pytest(lines):
    ends = [line for line in lines if PYTEST_END.search(ruled(line)) or PYTEST_QUIET_END.match(line)]
    if not ends:
        return None
    said = total(PYTEST_BAD, ends)
    blocks = [pytest_block(found[1], body) for found, body in cut(lines, PYTEST_HEAD.match)]
    failures, spare = named_in_summary(lines, blocks)
    # A block that no line of the summary names is a failure of its own only where the runner counts more.
    failures += spare[: max(0, said - len(failures))]
    return Run("pytest", failures, total(r"\b(\d{1,9}) passed\b", ends), said, pytest_broken(lines, len(ends)))


def ruled(line):
    """What stands between the signs of a rule across the screen."""
    text = line.strip("=")
    is_rule = line[:1] == line[-1:] == "=" and text[:1] == text[-1:] == " "
    return text.strip() if is_rule else ""


def named_in_summary(lines, blocks):
    """(the failures that the summary names, the blocks that are left)"""
    waiting, taken, failures = defaultdict(deque), set(), []
    for at, block in enumerate(blocks):
        waiting[bare(block.test)].append(at)
    for line in lines:
        found = PYTEST_SUMMARY.match(line)
        if found and (".py" in line or "::" in line):
            test, said, at = paired(found[1], waiting)
            taken.add(at)
            block = blocks[at] if at is not None else Failure(test)
            failures.append(Failure(test, block.error or said, block.where, block.lines))
    return failures, [block for at, block in enumerate(blocks) if at not in taken]


def paired(summary, waiting):
    """(id, message, place of its block or None). A dash may stand in an id too: the id that a block has is taken."""
    dashes = [at for at in range(len(summary)) if summary.startswith(" - ", at)][:MAX_DASHES]
    splits = [*((summary[:at], summary[at + 3 :]) for at in dashes), (summary, "")]
    for test, said in splits:
        path, mark, values = test.partition("[")
        for name in (test, ".".join(path.split("::")[1:]) + mark + values):
            if waiting.get(name):
                return test, said, waiting[name].popleft()
    whole = (split for split in splits if split[0].count("[") <= split[0].count("]"))
    return *next(whole, splits[-1]), None


def bare(head):
    """The test that a block's head names, without its phase and its subtest."""
    for phase in ("ERROR at setup of ", "ERROR at teardown of ", "ERROR collecting "):
        head = head.removeprefix(phase)
    name, _, values = head.rpartition(" (")
    if name and head.endswith(")") and not re.search(r"[()]", values[:-1]):
        return name[: name.find(" [")] if name.endswith("]") and " [" in name else name
    name, _, message = head.rpartition(" [")
    return name if name and message.find("]") == len(message) - 1 else head


def pytest_block(head, body):
    stop = next((at for at, line in enumerate(body) if re.match(r"^={5,} ", line)), len(body))
    body = body[:stop]
    said = [line[1:].strip() for line in body if re.match(r"E(?: |$)", line)]
    places = [found for line in body if (found := PYTEST_PLACE.match(line))]
    code = [line[1:].strip() for line in body if line.startswith(">")]
    where = places[-1][1] if places else ""
    error = next((line for line in said if line), places[-1][2] or "" if places else "")
    return Failure(head, error, where, [*code[-1:], *said[1:]])


def pytest_broken(lines, ends):
    inner = [line for line in lines if line.startswith("INTERNALERROR>")]
    if inner:
        return inner[-1]
    # That it stopped at a failure is told by the failure.
    stop = first_line(r"^!{5,} (?!.*(?:stopping after \d+ fail|during collection)).+ !{5,}$", lines)
    rules = [text for line in lines if (text := ruled(line))]
    is_cut = rules.count("test session starts") > ends + sum(text.startswith("no tests ran") for text in rules)
    return stop.strip("! ") or ("a session of pytest that has no end" if is_cut else "")


# --- unittest -----------------------------------------------------------------------------------

UNITTEST_HEAD = re.compile(r"^(FAIL|ERROR|UNEXPECTED SUCCESS): (.+)$")
UNITTEST_RAN = re.compile(r"^Ran (\d{1,9}) tests? in")
UNITTEST_END = re.compile(r"^(?:OK|FAILED|NO TESTS RAN)(?: \(.*\))?$")
FRAME = re.compile(r'^\s+File "([^"]+)", line (\d+)')


def read_unittest(lines):
    ran = [int(found[1]) for line in lines if (found := UNITTEST_RAN.match(line))]
    if not ran:
        return None
    ends = [line for line in lines if UNITTEST_END.match(line)]
    said = sum(number(r"\b(?:failures|errors|unexpected successes)=(\d{1,9})", line) for line in ends)
    failures, spare = [], []
    for found, body in cut(lines, UNITTEST_HEAD.match):
        stop = next((at for at, line in enumerate(body) if re.match(r"^={20,}$|^Ran \d+ tests? in", line)), len(body))
        one = traceback(unittest_name(found[2]), body[:stop])
        one.error = one.error or (found[1].lower() if found[1].startswith("UN") else "")
        (failures if one.error else spare).append(one)
    failures += spare[: max(0, said - len(failures))]
    run = Run("unittest", failures, None, said, unittest_broken(ends, ran, said))
    bad = len({one.test.split(" ")[0] for one in failures}) + run.unnamed
    run.passed = max(0, sum(ran) - bad - total(r"\bskipped=(\d{1,9})", ends))
    return run


def unittest_broken(ends, ran, said):
    if len(ends) < len(ran):
        return "a run of unittest that has no verdict"
    return "" if said else next((line for line in ends if line.startswith("FAILED")), "")


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
