"""The digest of failing tests, held against failures that were planted and against a run of pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shipped import beside, by_hand, script

digester = script("failing-tests-digest")
junit, logs = beside(digester.read_junit), beside(digester.read_log)


word = st.from_regex(r"[a-z]{3,8}", fullmatch=True)
planted = st.lists(word, min_size=1, max_size=4, unique=True).flatmap(
    lambda errors: st.lists(st.tuples(st.sampled_from(errors), st.integers(1, 99)), min_size=1, max_size=12)
)


def as_pytest(tests: list[tuple[str, str]]) -> str:
    blocks = "".join(
        f"____________ {name} ____________\n\n>       assert it\nE       {error}\nE       more\n\nt.py:7: Boom\n"
        for name, error in tests
    )
    lines = "".join(f"FAILED t.py::{name} - {error[:12]}...\n" for name, error in tests)
    tail = f"=========== short test summary info ===========\n{lines}===== {len(tests)} failed, 7 passed in 0.10s ====="
    return f"======== test session starts ========\n======== FAILURES ========\n{blocks}{tail}\n"


def as_unittest(tests: list[tuple[str, str]]) -> str:
    blocks = "".join(
        f"{'=' * 70}\nFAIL: {name} (t.T.{name})\n{'-' * 70}\nTraceback (most recent call last):\n"
        f'  File "t.py", line 7, in {name}\n    it()\n{error}\n\n'
        for name, error in tests
    )
    return f"{blocks}{'-' * 70}\nRan {len(tests) + 7} tests in 0.001s\n\nFAILED (failures={len(tests)})\n"


def as_jest(tests: list[tuple[str, str]]) -> str:
    blocks = "".join(f"  ● suite › {name}\n\n    {error}\n\n      at Object.x (t.js:7:3)\n\n" for name, error in tests)
    total = f"Tests:       {len(tests)} failed, 7 passed, {len(tests) + 7} total"
    return f" FAIL  t.js\n{blocks}Summary of all failing tests\n{blocks}{total}\n"


def as_go(tests: list[tuple[str, str]]) -> str:
    blocks = "".join(f"    --- FAIL: TestAll/{name} (0.00s)\n        t.go:7: {error}\n" for name, error in tests)
    passed = "--- PASS: TestOk (0.00s)\n" * 7
    return f"=== RUN   TestAll\n{passed}--- FAIL: TestAll (0.00s)\n{blocks}FAIL\nFAIL\texample.com/m\t0.1s\nFAIL\n"


def as_cargo(tests: list[tuple[str, str]]) -> str:
    blocks = "".join(
        f"---- {name} stdout ----\nthread '{name}' panicked at src/t.rs:7:9:\n{error}\nnote: run with\n\n"
        for name, error in tests
    )
    names = "".join(f"    {name}\n" for name, _ in tests)
    verdict = f"test result: FAILED. 7 passed; {len(tests)} failed; 0 ignored"
    return f"failures:\n\n{blocks}\nfailures:\n{names}\n{verdict}\n"


def as_junit(tests: list[tuple[str, str]]) -> str:
    cases = "".join(
        f"<testcase classname='t' name={quoteattr(name)}>"
        f"<failure message={quoteattr(error)}>{escape(error)}</failure></testcase>"
        for name, error in tests
    )
    others = "<testcase name='ok'/>" * 7 + "<testcase name='s'><skipped/></testcase>"
    return f"<testsuite failures='{len(tests)}' errors='0'>{cases}{others}</testsuite>"


@settings(max_examples=40, deadline=None)
@given(
    planted, st.sampled_from([as_pytest, as_unittest, as_jest, as_go, as_cargo, as_junit]), st.booleans(), st.booleans()
)
def test_planted_failures_come_out_in_their_groups(faults: Any, write: Any, colours: bool, crlf: bool) -> None:
    tests = [(f"test_{at}", f"Boom: {error} was {number}") for at, (error, number) in enumerate(faults)]
    text = write(tests)
    if write is as_junit:
        run = junit.read_junit(text.encode())
    else:
        text = re.sub("(?m)^(.+)$", "\x1b[31m\\1\x1b[0m", text) if colours else text
        run = logs.read_log(text.replace("\n", "\r\n") if crlf else text)
    assert {one.test.split("::")[-1].split("/")[-1].split(".")[-1].split(" ")[-1] for one in run.failures} == {
        name for name, _ in tests
    }
    sizes: dict[str, int] = {}
    for error, _ in faults:
        sizes[error] = sizes.get(error, 0) + 1
    said = digester.report(run, 10)
    assert (said["failed"], said["passed"], said["groups"]) == (len(tests), 7, len(sizes))
    heads = re.findall(r"(?m)^(\d+)x Boom: (\w+) was", said["digest"])
    assert {error: int(count) for count, error in heads} == sizes
    assert [int(count) for count, _ in heads] == sorted(sizes.values(), reverse=True)
    assert len(said["digest"].split("\n")) <= 1 + 6 * len(sizes)


COUNTED = {
    as_pytest: r"=+ \d+ failed", as_unittest: "Ran |FAILED", as_jest: "Tests:", as_go: "FAIL\t",
    as_cargo: "test result",
}  # fmt: skip
"""The lines by which each runner says how many failed; go says only which packages."""


@settings(max_examples=80, deadline=None)
@given(planted, st.sampled_from([*COUNTED]), st.sets(st.integers(0, 150)) | st.just(set(range(999))))
def test_no_log_with_holes_tells_of_fewer_failures_than_its_runner(faults: Any, write: Any, holes: set[int]) -> None:
    tests = [(f"test_{at}", f"Boom: {error} was {number}") for at, (error, number) in enumerate(faults)]
    lines = [
        line for at, line in enumerate(write(tests).split("\n")) if at not in holes or re.match(COUNTED[write], line)
    ]
    run = logs.read_log("\n".join(lines))
    count = 1 if write is as_go else len(tests)
    assert run.failed >= count
    assert digester.report(run, 5)["digest"].startswith(f"{run.failed} failed")
    assert len(run.failures) + run.unnamed >= count


@pytest.mark.parametrize(
    ("text", "failed", "passed", "unnamed"),
    [
        ("..F..\n1 failed, 4 passed in 0.12s", 1, 4, 1),
        ("==== 3 passed, 1 error in 0.12s ====", 1, 3, 1),
        ("1 warning, 2 errors in 0.12s", 2, 0, 2),
        ("=== 1 failed in 1s ===\n=== 2 failed, 1 passed in 1s ===", 3, 1, 3),
        ("___ a ___\nE x\n___ b ___\nE y\n= short test summary info =\nFAILED t.py::c - z\n= 2 failed =", 2, 0, 0),
        ("Ran 3 tests in 0.1s\n\nFAILED (failures=1, errors=1)", 2, 1, 2),
        ("FAIL: test_a (t.T)\n\nRan 3 tests in 0.1s\n\nFAILED (failures=1)", 1, 2, 0),
        ("Ran 1 test in 0.1s\n\nFAILED (unexpected successes=1)", 1, 0, 1),
        ("Test Suites: 1 failed, 1 passed, 2 total\nTests:       1 failed, 5 passed, 6 total", 1, 5, 1),
        ("Test Suites: 2 failed, 2 total\nTests:       0 total", 2, 0, 2),
        (" Test Files  1 failed | 1 passed (2)\n      Tests  3 failed | 5 passed (8)", 3, 5, 3),
        (" FAIL  a.test.ts [ a.test.ts ]\nError: no x\n Test Files  1 failed (1)\n      Tests  no tests", 1, 0, 0),
        ("test b ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored", 1, 1, 0),
        ("test result: FAILED. 1 passed; 2 failed;\ntest result: FAILED. 0 passed; 1 failed;", 3, 1, 3),
        ("test result: ok. 4 passed; 0 failed;\nerror[E0425]: no x\nerror: could not compile `a`", 1, 4, 0),
        ("panic: boom\n\nmain.init()\n\t/x/a.go:3\nFAIL\texample.com/a\t0.010s\nok  \texample.com/b\t0.01s", 1, -1, 0),
        ('{"Action":"fail","Package":"a","Test":"TestX"}\n{"Action":"fail","Package":"a"}', 1, -1, 0),
        ("= 1 failed, 2 passed in 1s =\ntest result: FAILED. 3 passed; 4 failed; 0 ignored", 5, 5, 5),
        ("<testsuites><testsuite errors='2'><testcase/><error message='b'/></testsuite></testsuites>", 2, 1, 1),
        ("<testsuites failures='2'><testsuite errors='1'/><testsuite failures='3'/></testsuites>", 4, 0, 4),
        ("<testsuite>" + "<testcase name=''><failure/></testcase>" * 2 + "</testsuite>", 2, 0, 0),
    ],
)  # fmt: skip
def test_the_count_of_the_runner_holds_where_names_are_missing(
    tmp_path: Path, text: str, failed: int, passed: int, unnamed: int
) -> None:
    (tmp_path / "log").write_text(text + "\n")
    run = digester.load(tmp_path / "log")
    said = digester.report(run, 5)
    assert (said["failed"], said["passed"], said["unnamed"]) == (failed, passed, unnamed)
    assert (f"not named in the log: {unnamed} of them" in said["digest"]) == bool(unnamed)


@pytest.mark.parametrize(
    "text",
    [
        "INTERNALERROR> boom\n==== 3 passed in 0.12s ====",
        "!!!!!!!!! KeyboardInterrupt !!!!!!!!!\n==== 3 passed in 0.12s ====",
        "= test session starts =\n= 3 passed in 1s =\n= test session starts =\nt.py ..F",
        "Ran 3 tests in 0.1s\n\nOK\nRan 3 tests in 0.1s\n",
        " Test Files  1 passed (1)\n      Tests  5 passed (5)\n     Errors  1 error",
        "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored\nrunning 3 tests\ntest a ... ok",
        "test result: ok. 1 passed; 0 failed;\nerror: test failed, to rerun pass `--lib`",
        "ok  \ta\t0.1s\nFAIL",
    ],
)
def test_a_run_that_failed_without_a_failed_test_is_not_told_as_sound(tmp_path: Path, text: str) -> None:
    (tmp_path / "log").write_text(text + "\n")
    code, said, told = by_hand("failing-tests-digest", {"log": "log"}, tmp_path)
    assert (code, said) == (1, None)
    assert "the run failed and no test of it is told of" in told


def test_names_that_fit_no_block_are_neither_doubled_nor_slow(tmp_path: Path) -> None:
    blocks = "".join(f"_____ a{at} _____\nE x\n" for at in range(3000))
    names = "".join(f"FAILED a.py::t[{' - ' * 300}{at}\n" for at in range(3000))
    (tmp_path / "log").write_text(f"{blocks}{names}===== 3000 failed in 3.0s =====\n")
    code, said, _ = by_hand("failing-tests-digest", {"log": "log"}, tmp_path)
    assert (code, said["failed"], said["unnamed"]) == (0, 3000, 0)


def test_the_digest_of_a_run_of_pytest_is_what_happened(tmp_path: Path) -> None:
    body = "import pytest\n@pytest.mark.parametrize('n', ['a - b', 'c] - d', 'x::y'])\ndef test_p(n): assert n == 'q'\n"
    (tmp_path / "test_it.py").write_text(body + "def test_e(nothing): pass\ndef test_ok(): pass\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--color=yes",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir=.",
    ]
    (tmp_path / "log").write_bytes(
        subprocess.run([*command, "."], capture_output=True, check=False, cwd=tmp_path).stdout
    )
    code, said, _ = by_hand("failing-tests-digest", {"log": "log"}, tmp_path)
    assert (code, said["failed"], said["passed"], said["framework"]) == (0, 4, 1, "pytest")
    for name in ("test_p[a - b]", "test_p[c] - d]", "test_p[x::y]", "test_e"):
        assert f"test_it.py::{name}" in said["digest"]
