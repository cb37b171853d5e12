"""What a digest keeps of a runner's output: what a person needs to mend it, whatever noise is around."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.digests import DIGEST_LINES, LINE_CHARS
from mcp_tierkit.evidence import Observed, Seen, read_run

FOLDER = Path(__file__).parent / "fixtures" / "digests"
CASES: list[dict[str, Any]] = tomllib.loads((FOLDER / "cases.toml").read_text("utf8"))["case"]
NOISE = (
    "Compiling {n} of 100000: error_handler.c",
    "tests/test_error_handler.py::test_failed_{n} PASSED",
    "tests/test_{n}.py .......... [ 42%]",
    "0 errors, 0 failures so far, {n} done",
    " {n}%|########          | 12/99 [00:01<00:08]",
    "/usr/lib/python3/site-packages/old.py:{n}: DeprecationWarning: this call failed to be removed",
    "2026-01-02 10:00:00,{n} ERROR worker: request failed, error 503",
    "INFO no error in batch {n}",
    "npm warn deprecated failed-package@{n}: do not use, it fails",
    "ok {n} - reports an error",
    "  ✓ shows the error {n} (1 ms)",
    "warning: unused variable: `error_{n}`",
    "retry {n} failed, trying again",
    "WARNING: an error of the same kind as before",
    "",
)


def told(command: str, text: str) -> Observed:
    seen = Seen(ending="exited", exit_code=1, output=text.encode())
    return read_run(command, tuple(command.split()), seen, lambda name: True)


def noise(lines: int) -> str:
    return "\n".join(NOISE[at % len(NOISE)].format(n=at) for at in range(lines)) + "\n"


EACH = [pytest.param(case, id=f"{case['file']}, {case['command'].split()[0]}") for case in CASES]


def missing(case: dict[str, Any], digest: str) -> list[str]:
    return [needed for needed in case["needed"] if needed not in digest]


@pytest.mark.parametrize("case", EACH)
def test_a_digest_holds_what_is_needed_to_mend_it(case: dict[str, Any]) -> None:
    digest = told(case["command"], (FOLDER / f"{case['file']}.txt").read_text("utf8")).digest
    assert missing(case, digest) == [], digest
    assert len(digest.splitlines()) <= DIGEST_LINES
    assert max(map(len, digest.splitlines())) <= LINE_CHARS
    assert len(set(digest.splitlines())) == len(digest.splitlines())


@pytest.mark.parametrize("case", EACH)
def test_no_amount_of_noise_pushes_it_out(case: dict[str, Any]) -> None:
    text = (FOLDER / f"{case['file']}.txt").read_text("utf8")
    digest = told(case["command"], noise(3_000) + text + noise(300)).digest
    # A summary that the noise follows is still the last of its kind; the last line of all is the noise's.
    assert missing(case, digest) == [], digest


def test_a_hundred_thousand_lines_are_read_in_seconds(tmp_path: Path) -> None:
    text = (FOLDER / "pytest_asserts.txt").read_text("utf8")
    digest = told("pytest -q", noise(100_000) + text).digest
    assert missing(next(case for case in CASES if case["file"] == "pytest_asserts"), digest) == []


def test_every_case_is_on_the_list() -> None:
    assert {case["file"] for case in CASES} == {path.stem for path in FOLDER.glob("*.txt")}


ERRORS = (
    ("pytest -q", "E   assert 1490 == 1350"),
    ("python -m unittest", "AssertionError: 1490 != 1350"),
    ("npx jest", "    Expected: 1350"),
    ("go test", "    cart_test.go:9: total = 1490, want 1350"),
    ("cargo test", "error[E0425]: cannot find value `discounts` in this scope"),
    ("npx tsc", "src/cart.ts(3,10): error TS2322: Type 'string' is not assignable to type 'number'."),
    ("mypy shop", "shop/cart.py:11: error: Incompatible return value type"),
    ("make", "main.c:2:43: error: 'discount' undeclared"),
    ("npm test", "TypeError: Cannot read properties of undefined (reading 'length')"),
    ("./verify.sh", "ValueError: the total is 1490"),
    ("./verify.sh", "error: the total is 1490 and not 1350"),
    ("./verify.sh", "the total check failed with 1490"),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ERRORS), st.lists(st.sampled_from(NOISE), min_size=1, max_size=400), st.integers(0), st.data())
def test_an_error_planted_anywhere_in_noise_survives(
    error: tuple[str, str], lines: list[str], start: int, data: st.DataObject
) -> None:
    text = [line.format(n=start % 90_000 + at) for at, line in enumerate(lines)]
    text.insert(data.draw(st.integers(0, len(text))), error[1])
    assert error[1] in told(error[0], "\n".join(text)).digest


def test_an_error_told_a_thousand_times_takes_one_line() -> None:
    text = "\n".join(["ValueError: again"] * 1000 + ["TypeError: the one that matters"] + ["ValueError: again"] * 1000)
    digest = told("./verify.sh", text).digest.splitlines()
    assert digest.count("ValueError: again") == 1
    assert "TypeError: the one that matters" in digest


def test_what_a_program_logs_over_and_over_does_not_hide_what_it_says_once() -> None:
    logged = "\n".join(f"ConnectionError: try {at} of 9999 was refused" for at in range(5000))
    for text in (f"{logged}\nTypeError: once\n{logged}", f"TypeError: once\n{logged}", f"{logged}\nTypeError: once"):
        assert "TypeError: once" in told("./verify.sh", text).digest


def test_what_is_logged_now_and_then_comes_after_what_is_told_once() -> None:
    logged = "\n".join(f"ConnectionError: try {at} was refused\n" + "working\n" * 60 for at in range(30))
    assert "TypeError: once" in told("./verify.sh", f"{logged}\nTypeError: once\n").digest
    weak = "\n".join(f"worker {at}: this request failed" for at in range(3000))
    for text in (f"{weak}\nthe total check failed\n{weak}", f"{weak}\nthe total check failed\n{weak}"):
        assert "the total check failed" in told("./verify.sh", text).digest


def test_lines_that_only_name_errors_do_not_speak_of_one() -> None:
    names = [f"{first}{second}" for first in "abcdef" for second in "ghijkl"]
    text = "\n".join(f"checking {name}_error.py and the {name} error page ... ok" for name in names)
    digest = told("./verify.sh", f"{text}\nthe total check failed\nworking\ndone\n").digest
    assert "the total check failed" in digest


def test_of_a_trace_the_projects_own_lines_are_kept() -> None:
    trace = (
        "    at run (node_modules/lib/a.js:1:2)\n    at total (src/cart.js:9:1)\n    at go (node:internal/run:4:5)\n"
    )
    digest = told("npm test", f"TypeError: no such thing\n{trace}").digest
    assert digest == "TypeError: no such thing\n    at total (src/cart.js:9:1)"


def test_a_long_line_is_cut_around_what_it_tells() -> None:
    digest = told("./verify.sh", f"{'context ' * 40}assertion failed: 1490 is not 1350\n").digest
    assert "assertion failed: 1490 is not 1350" in digest
    assert len(digest) <= LINE_CHARS


def test_no_part_of_a_secret_is_left_where_a_line_is_cut() -> None:
    for width in range(100, 170):
        token = "ghp_" + "Ab1" * 12
        digest = told("./verify.sh", f"error: {'x' * width} {token}\n").digest
        assert "ghp_" not in digest


def test_of_many_failures_the_first_is_told_whole() -> None:
    one = "\n".join(
        f"FAIL: test_{at} (t.T.test_{at})\n{'-' * 70}\nTraceback (most recent call last):\n"
        f'  File "/project/t.py", line {at}, in test_{at}\n    self.assertEqual(f({at}), 7)\n'
        f"AssertionError: {at} != 7\n"
        for at in range(1, 400)
    )
    digest = told("python -m unittest", f"{one}\nRan 400 tests in 1s\n\nFAILED (failures=399)\n").digest.splitlines()
    assert digest[:3] == [
        "FAIL: test_1 (t.T.test_1)",
        '  File "/project/t.py", line 1, in test_1',
        "AssertionError: 1 != 7",
    ]
    assert digest[-1] == "FAILED (failures=399)"
    assert len(digest) == DIGEST_LINES


def test_silence_is_an_empty_digest() -> None:
    assert told("./verify.sh", "\n \n").digest == ""


@pytest.mark.parametrize(
    ("command", "green", "red", "counts"),
    [
        ("mvn test", "[INFO] Tests run: 5, Failures: 0, Errors: 0, Skipped: 1\n[INFO] BUILD SUCCESS\n", "maven_test",
         (5, 3)),
        ("gradle test", "BUILD SUCCESSFUL in 2s\n", "gradle_test", (None, None)),
        (
            "dotnet test",
            "Passed!  - Failed:     0, Passed:     3, Skipped:     0, Total:     3, Duration: 1 ms - a.dll\n",
            "dotnet_test", (3, 2),
        ),
        ("rspec", "4 examples, 0 failures\n", "rspec", (4, 2)),
        ("phpunit", "OK (4 tests, 5 assertions)\n", "phpunit", (4, 2)),
        ("ctest", "100% tests passed, 0 tests failed out of 2\n", "ctest", (2, 1)),
    ],
)  # fmt: skip
def test_a_green_run_of_these_runners_is_known_by_its_end(
    command: str, green: str, red: str, counts: tuple[int | None, int | None]
) -> None:
    def read(text: str, code: int) -> Observed:
        seen = Seen(ending="exited", exit_code=code, output=text.encode())
        return read_run(command, tuple(command.split()), seen, lambda name: True)

    failed = read((FOLDER / f"{red}.txt").read_text("utf8"), 1)
    assert (failed.outcome, failed.tests, failed.passed) == ("red", *counts)
    assert read(green, 0).outcome == "green"
    assert read("something else\n", 0).outcome == "unrunnable"


def test_a_runner_told_to_be_quiet_is_judged_by_its_exit_code() -> None:
    seen = Seen(ending="exited", exit_code=0, output=b"")
    for command in ("mvn -q test", "gradle --quiet test"):
        assert read_run(command, tuple(command.split()), seen, lambda name: True).outcome == "green"
