"""The digest of failing tests, held against failures that were planted and against a run of pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shipped import by_hand, script

digester = script("failing-tests-digest")
junit, logs = (SimpleNamespace(**read.__globals__) for read in (digester.read_junit, digester.read_log))


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
    return f"<testsuite>{cases}{others}</testsuite>"


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
