"""What one run of a check shows: green, red or unrunnable, and which tests ended how."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from xml.etree import ElementTree

from pydantic import Field

from mcp_tierkit.digests import digest, form_of
from mcp_tierkit.scope import command_words
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import CheckRun, Record

End = Literal["passed", "failed", "skipped"]
READ_CHARS = 2000
UNCOLLECTED = "uncollected:"
"""Before the name of a module whose tests could not even be collected."""

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_MISSING = (
    re.compile(r"^(?:E\s+)?(?:ModuleNotFoundError: |ImportError: |\S*python[\d.]*: )No module named '?([\w.]+)", re.M),
    re.compile(
        r"^\s*(?:E\s+)?(?:Error \[ERR_MODULE_NOT_FOUND\]: |Error: )?Cannot find (?:module|package) '([^']+)'", re.M
    ),
)
_NO_ATTRIBUTE = re.compile(r"^AttributeError: (?:module|type object) '([\w.]+)' has no attribute '(\w+)'", re.M)
_NOT_FOUND = re.compile(r"(?:^|: )(\S+): (?:command )?not found$", re.M)


class Observed(CheckRun):
    """A run with what its report said of each test, where the runner left one."""

    runner: str = "generic"
    ends: dict[str, End] = Field(default_factory=dict)
    is_reported: bool = False
    is_witnessed: bool = False
    altered: tuple[str, ...] = Field(default=(), description="What judges it, and was changed while it ran.")


class Testimony(Record):
    """What the witness in a runner's process signed."""

    ends: dict[str, End] = Field(default_factory=dict)
    altered: tuple[str, ...] = ()
    ended_in: tuple[str, ...] = Field(default=(), description="The files that a SystemExit of 0 came through.")


class Seen(Record):
    """A process as it ended, and the report it left."""

    ending: Literal["exited", "timeout", "output_limit", "not_found", "unconfined"]
    exit_code: int | None = None
    output: bytes = b""
    duration_ms: int = 0
    report: bytes | None = None
    is_asked: bool = Field(default=False, description="It was made to leave a report.")
    is_watched: bool = Field(default=False, description="A witness was put into its process.")
    testimony: Testimony | None = None
    altered: tuple[str, ...] = Field(default=(), description="Files that judge it, changed while it ran.")
    reason: str = ""


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = packaged("runners")["runner"]
    return rows


def runner_of(argv: Sequence[str]) -> Mapping[str, Any]:
    """The row of data/runners.toml that a command's words fit, less what it is asked not to show."""
    words = command_words(argv)
    for row in _rows():
        if words and words[0] in row["words"] and row.get("needs", words[0]) in words:
            is_silent = not set(row.get("silent", ())).isdisjoint(words)
            return {key: row[key] for key in row if not (is_silent and key in ("counts", "closing"))}
    return _rows()[-1]


def plain(output: bytes) -> str:
    """Text without escape sequences, control or direction-changing characters."""
    text = _ESCAPES.sub("", output.decode("utf-8", "replace").replace("\r\n", "\n"))
    return _UNSEEN.sub("", text.replace("\r", "\n"))


def read_run(
    name: str, argv: Sequence[str], seen: Seen, provides: Callable[[str], bool],
    writes: Callable[[str], bool] = lambda path: False,
) -> Observed:  # fmt: skip
    """Green, red or unrunnable.

    `provides` says whether a missing module is one the project itself could have, `writes` whether a file, relative to
    the check's folder, is the draft's to write.
    """
    row = runner_of(argv)
    text = "\n".join(line[:READ_CHARS] for line in plain(seen.output).splitlines())
    ends = _ends(seen)
    counts = _counted(row, text, ends)
    why = _unrunnable(row, seen, text, provides) or _no_such_test(row, argv, seen, text, writes)
    if not why and seen.exit_code == 0:
        why = _unshown(row, seen, text, counts, ends)
    return Observed(
        name=name,
        outcome="unrunnable" if why else "green" if seen.exit_code == 0 else "red",
        reason=why,
        exit_code=seen.exit_code,
        tests=counts.get("tests"),
        passed=counts.get("passed"),
        failing=tuple(name.removeprefix(UNCOLLECTED) for name, end in ends.items() if end == "failed")[:50],
        digest="" if seen.exit_code == 0 and not why else digest(_speakers(row, text), text),
        duration_ms=seen.duration_ms,
        runner=row["name"],
        ends=ends,
        is_reported=seen.report is not None or seen.testimony is not None,
        is_witnessed=seen.testimony is not None,
        altered=(*seen.altered, *(seen.testimony.altered if seen.testimony else ())),
    )


def _ends(seen: Seen) -> dict[str, End]:
    if seen.testimony is not None:
        return _worst(seen.testimony.ends.items())
    return read_report(seen.report) if seen.report is not None else {}


def read_testimony(signed: bytes | None, key: str) -> Testimony | None:
    """What the witness said; None where it said nothing, or where somebody else did."""
    try:
        read = json.loads(signed or b"")
        seal = hmac.new(key.encode(), read["body"].encode(), hashlib.sha256).hexdigest()
        return Testimony.model_validate_json(read["body"]) if hmac.compare_digest(seal, read["seal"]) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _unrunnable(row: Mapping[str, Any], seen: Seen, text: str, provides: Callable[[str], bool]) -> str:
    if seen.ending != "exited":
        return seen.reason or {"output_limit": "it wrote too much output"}.get(seen.ending, seen.ending)
    if seen.exit_code == 0:
        return ""
    if seen.exit_code in (-9, 137):
        return "it was killed, perhaps for want of memory"
    if seen.exit_code in (126, 127):
        found = _NOT_FOUND.search(text)
        return f"command not found: {found[1]}" if found else "command not found"
    for missing in _missing(text):
        if not provides(missing):
            return f"missing environment: no module named {missing}"
    for pattern, reason in row.get("unrunnable", ()):
        if re.search(pattern, text, re.M):
            return str(reason)
    reason = row.get("exits", {}).get(str(seen.exit_code), "")
    if reason and "still_red" in row and re.search(row["still_red"], text, re.M):
        return ""
    return str(reason)


def _no_such_test(
    row: Mapping[str, Any], argv: Sequence[str], seen: Seen, text: str, writes: Callable[[str], bool]
) -> str:
    """unittest makes a failed test of a name that it cannot find. Where those are all that ran, there was no test.

    A test that the draft is to write is red like any other code that is not there yet.
    """
    if row["name"] != "unittest" or seen.exit_code == 0:
        return ""
    ran = re.search(r"^Ran (\d+) tests? in", text, re.M)
    if not ran or int(ran[1]) != len(re.findall(r"^ERROR: .*_FailedTest", text, re.M)):
        return ""
    absent = {name: name for name in re.findall(r"^ModuleNotFoundError: No module named '([\w.]+)'", text, re.M)}
    absent |= {f"{module}.{name}": module for module, name in _NO_ATTRIBUTE.findall(text)}
    named = [module for name, module in absent.items() if name in argv]
    if not named or any(writes(module.replace(".", "/") + ".py") for module in named):
        return ""
    return "it names a test that does not exist"


def _missing(text: str) -> Iterator[str]:
    python, node = _MISSING
    marked = [line for line in text.splitlines() if line.startswith("E  ")]
    # pytest marks what failed; anything else that looks so is what a test printed.
    text = "\n".join(marked) or text
    for found in python.finditer(text):
        yield found[1].partition(".")[0]
    for found in node.finditer(text):
        # What begins so is a file of the project or an alias of its configuration.
        if not found[1].startswith((".", "/", "#", "@/", "~")):
            yield "/".join(found[1].split("/")[: 2 if found[1].startswith("@") else 1])


def _unshown(row: Mapping[str, Any], seen: Seen, text: str, counts: Mapping[str, int], ends: Mapping[str, End]) -> str:
    """Why an exit code of 0 is no proof: a runner that really ran its tests leaves more than that."""
    if seen.is_asked and (seen.testimony if seen.is_watched else seen.report) is None:
        return "it ended before it was done" if row["name"] == "generic" else "it ended without a test report"
    if (ends or (seen.is_asked and row["name"] != "generic")) and "passed" not in ends.values():
        return "no test passed"
    if counts.get("passed") == 0:
        return "no tests collected"
    if "closing" in row and not re.search(row["closing"], text, re.M) and not ends:
        return "it ended before it was done"
    return ""


def _counted(row: Mapping[str, Any], text: str, ends: Mapping[str, End]) -> dict[str, int]:
    if ends:
        real = [end for name, end in ends.items() if not name.startswith(UNCOLLECTED)]
        return {"tests": len(real), "passed": real.count("passed")}
    rows = [row] if "counts" in row else _started(row, text)
    return _matches(rows[0], text) if rows else {}


def _started(row: Mapping[str, Any], text: str) -> list[Mapping[str, Any]]:
    """The runner whose counts the output shows: `npm test` and `make` show the lines of whatever they started."""
    rows: list[Mapping[str, Any]] = list(_rows()) if row.get("wraps") else []
    # One line of each form is enough to know a runner by, and a log of megabytes has few.
    text = "\n".join({form_of(line): line for line in text.splitlines()}.values()) if rows else ""
    return [each for each in rows if "counts" in each and _matches(each, text)][:1]


def _speakers(row: Mapping[str, Any], text: str) -> list[Mapping[str, Any]]:
    """Whose words the output holds; a script may have started any runner."""
    return [row, *_started(row if row["words"] else {**row, "wraps": True}, text)]


def _matches(row: Mapping[str, Any], text: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for pattern in row["counts"]:
        matches = list(re.finditer(pattern, text, re.M))
        for match in matches if row.get("sum") else matches[-1:]:
            for group, value in match.groupdict().items():
                if value is not None:
                    totals[group] = totals.get(group, 0) + (int(value) if value.isdigit() else 1)
    if totals and "uncounted" in row:
        empty = len(re.findall(row["uncounted"], text, re.M))
        totals |= {name: max(0, totals[name] - empty) for name in ("tests", "passed") if name in totals}
    if totals:
        totals.setdefault("passed", max(0, totals.get("tests", 0) - totals.get("failed", 0)))
        totals.setdefault("tests", sum(totals.get(name, 0) for name in ("passed", "failed", "skipped")))
    return totals


def read_report(report: bytes) -> dict[str, End]:
    """Each test's end by name; the worst counts where a name occurs twice. Unreadable is empty."""
    try:
        named = list(_junit(report) if report.lstrip()[:1] == b"<" else _json(report))
    except (ValueError, TypeError, KeyError, AttributeError, ElementTree.ParseError, RecursionError):
        return {}
    return _worst(named)


def _worst(named: Iterable[tuple[str, End]]) -> dict[str, End]:
    order = ("passed", "skipped", "failed")
    ends: dict[str, End] = {}
    for name, end in named:
        # Object addresses in the ids of parametrised tests differ from run to run.
        name = re.sub(r"0x[0-9a-fA-F]+", "0x", name)
        ends[name] = max(end, ends.get(name, "passed"), key=order.index)
    return ends


def _junit(report: bytes) -> Iterator[tuple[str, End]]:
    if b"<!DOCTYPE" in report or b"<!ENTITY" in report:
        raise ValueError("a report with entities")
    for case in ElementTree.fromstring(report).iter("testcase"):
        group, name = case.get("classname", ""), case.get("name", "")
        end: End = "passed"
        if case.find("failure") is not None or case.find("error") is not None:
            end = "failed"
        elif case.find("skipped") is not None:
            end = "skipped"
        if re.fullmatch(r"\S+\.[cm]?[jt]sx?", name):
            # node names a whole file so when no test in it ran: it failed to load, or ended itself.
            yield UNCOLLECTED + name, "failed" if end == "failed" else "skipped"
        elif not group:
            yield UNCOLLECTED + name, end
        elif (group, name) != ("pytest", "internal"):
            yield f"{group}::{name}", end


def _json(report: bytes) -> Iterator[tuple[str, End]]:
    for suite in json.loads(report)["testResults"]:
        if not suite["assertionResults"]:
            yield UNCOLLECTED + suite["name"], _end(suite["status"])
        for case in suite["assertionResults"]:
            yield f"{suite['name']}::{case['fullName']}", _end(case["status"])


def _end(word: str) -> End:
    return "passed" if word == "passed" else "failed" if word == "failed" else "skipped"


def fault(before: Observed, after: Observed) -> str:
    """Why a green run proves less than it seems beside the run before the change; "" where it holds."""
    if (before.is_reported and not after.is_reported) or (before.is_witnessed and not after.is_witnessed):
        return "the run before left a test report, this one none"
    if altered := [name for name in after.altered if name not in before.altered]:
        return f"{altered[0]} was altered while it ran"
    if failed := [name for name, end in after.ends.items() if end == "failed"]:
        return f"{failed[0]} failed"
    passed = [name for name, end in after.ends.items() if end == "passed"]
    for name, end in before.ends.items():
        if name.startswith(UNCOLLECTED):
            module = name.removeprefix(UNCOLLECTED)
            if end == "failed" and (name in after.ends or not _any_in(module, passed)):
                return f"no test of {module} passed"
        elif end != "skipped" and after.ends.get(name) != "passed":
            return f"{name} {after.ends.get(name, 'is gone')}"
    if before.tests and (after.tests is None or after.tests < before.tests):
        return f"{before.tests} tests ran before, {after.tests or 'none are reported'} now"
    if after.tests is not None and not after.passed:
        return "no test passed"
    return ""


def said(found: Observed, why: str = "") -> str:
    """What a person needs to read of a run; `why` is the fault of a green one."""
    return f"Exit code 0, but {why}." if why else "\n".join(filter(None, (found.reason, found.digest)))


def _any_in(module: str, passed: Sequence[str]) -> bool:
    """Whether a test of a module passed; a JavaScript report does not say which file a test is from."""
    if re.search(r"\.[cm]?[jt]sx?$", module):
        return bool(passed)
    last = re.split(r"[./]", module.removesuffix(".py"))[-1]
    return any(last in re.split(r"[.:/]+", name) for name in passed)
