"""Checks before and after a change: real runners, forged proofs, and what cannot run."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.checks import Baseline, Bench, baseline, is_allowed, judge, parse_check, run_checks
from mcp_tierkit.errors import InvalidInput, PathRefused
from mcp_tierkit.evidence import Observed, Seen, plain, read_report, read_run
from mcp_tierkit.journal import trial
from mcp_tierkit.sandbox import probe
from mcp_tierkit.types import Changes, Check, CheckResult, Content, Isolation, Proof
from mcp_tierkit.workspace import Workspace
from tests.support import make_project

pytestmark = pytest.mark.anyio

PYTEST = "python -m pytest -q -p no:hypothesispytest -p no:anyio"
UNIT = "python -m unittest -q"
RIGHT = "def double(n):\n    return n * 2\n"
WRONG = "def double(n):\n    return n\n"
TEST = """
    from app import double
    import pytest

    def test_zero():
        assert double(0) == 0

    @pytest.mark.parametrize("n", [1, 2])
    def test_more(n):
        assert double(n) == 2 * n
"""


BOTH: tuple[Isolation, ...] = ("sandbox", "in_place")


UNIT_TEST = """
    import unittest
    from app import double

    class TestDouble(unittest.TestCase):
        def test_zero(self):
            self.assertEqual(double(0), 0)

        def test_more(self):
            self.assertEqual(double(1), 2)
"""


@pytest.fixture
async def isolation(request: pytest.FixtureRequest) -> Isolation:
    """The sandbox where the system has one, unless a test asks for BOTH."""
    asked: Isolation | None = getattr(request, "param", None)
    confinement = await probe()
    if asked == "sandbox" and confinement.kind == "none":
        pytest.skip(confinement.reason)
    return asked or ("sandbox" if confinement.kind == "sandbox" else "in_place")


@pytest.fixture(autouse=True)
def _own_python_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)


class Bed:
    """A project, its checks, and one change on trial."""

    def __init__(self, root: Path, isolation: Isolation, **more: Any) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.bench = Bench(
            root=root,
            isolation=isolation,
            allow=("python", "node", "npm", "pytest", "make", "./verify.sh", "cargo"),
            log_dir=".tierkit/t1",
            **{"files": ("app.py",), **more},
        )

    def write(self, **files: str) -> None:
        for name, text in files.items():
            self.write_at(f"{name}.py", text)

    def write_at(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(textwrap.dedent(text))

    async def before(self, *checks: str | Check, proof: Proof = "turns_green") -> Baseline:
        return await baseline(self.bench, [parse_check(check) for check in checks], proof)

    async def after(self, changes: dict[str, str | None], *checks: str | Check) -> tuple[Observed, ...]:
        change: Changes = {
            path: None if text is None else Content(data=textwrap.dedent(text).encode())
            for path, text in changes.items()
        }
        parsed = [parse_check(check) for check in checks]
        if self.bench.isolation == "sandbox":
            return await run_checks(self.bench, parsed, change, label="after1")
        ws = Workspace(self.root)
        with trial(ws, self.root.parent / "state", "t1", change, {path: ws.digest(path) for path in change}):
            return await run_checks(self.bench, parsed, {}, label="after1")

    async def judged(
        self, changes: dict[str, str | None], *checks: str | Check, proof: Proof = "turns_green"
    ) -> tuple[tuple[CheckResult, ...], bool]:
        before = await self.before(*checks, proof=proof)
        after = await self.after(changes, *checks)
        return judge([parse_check(check) for check in checks], proof, before, after)


@pytest.fixture
def bed(tmp_path: Path, isolation: Isolation) -> Bed:
    bed = Bed(tmp_path / "project", isolation)
    bed.write(app=WRONG, test_app=TEST)
    return bed


@pytest.fixture
def unit(bed: Bed) -> Bed:
    """The same project with unittest's tests, whose runner starts ten times as fast."""
    bed.write(test_app=UNIT_TEST)
    return bed


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".tierkit" not in path.parts
    }


# --- what a check is ----------------------------------------------------------------------------


def test_a_check_is_split_as_a_shell_would() -> None:
    assert parse_check("pytest -q 'tests/a b.py'") == Check(argv=("pytest", "-q", "tests/a b.py"))
    assert parse_check({"argv": ["npm", "test"], "cwd": "web/", "timeout_s": 5}) == Check(
        argv=("npm", "test"), cwd="web", timeout_s=5
    )
    assert parse_check({"argv": "npm test"}) == Check(argv=("npm", "test"))
    assert parse_check('grep -c "a|b" "x;y"').argv == ("grep", "-c", "a|b", "x;y")
    assert parse_check(r"pytest -k a\&b").argv == ("pytest", "-k", "a&b")
    assert parse_check("pytest 'tests/$(x)'").argv == ("pytest", "tests/$(x)")


@pytest.mark.parametrize(
    "line",
    [
        "pytest | tee log", "pytest && true", "pytest; true", "pytest > log", "cat < x", "echo $(id)", "echo `id`",
        'echo "$(id)"', "pytest & true", "A=1 pytest", "pytest\ntrue", "", "  ", "pytest 'x", "echo ${HOME}",
    ],
)  # fmt: skip
def test_a_check_that_needs_a_shell_is_refused_with_the_way_out(line: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_check(line)
    assert "Nothing was run." in caught.value.what


@pytest.mark.parametrize(
    "given",
    [{"argv": []}, {"argv": [""]}, {"argv": ["a\x1bb"]}, {"argv": ["a"], "timeout_s": -1}, {"argv": ["a"], "x": 1}, {}],
)
def test_a_malformed_check_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        parse_check(given)


def test_a_check_cannot_run_outside_the_project() -> None:
    with pytest.raises(PathRefused):
        parse_check({"argv": ["pytest"], "cwd": "../other"})


def test_allowed_means_the_same_leading_words() -> None:
    allow = ("pytest", "npm test")
    assert is_allowed(parse_check("pytest -q"), allow)
    assert is_allowed(parse_check("python -m pytest"), allow)
    assert is_allowed(parse_check("npm test -- --x"), allow)
    for line in ("npm run evil", "./pytest", "env pytest", "pytest2", "./python -m pytest", "python x.py -m pytest"):
        assert not is_allowed(parse_check(line), allow), line


# --- the usual ways -----------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", BOTH, indirect=True)
async def test_a_right_change_turns_the_check_green_and_leaves_no_trace(bed: Bed) -> None:
    untouched = tree(bed.root)
    results, green = await bed.judged({"app.py": RIGHT}, PYTEST)
    assert green
    assert [(r.before, r.after, r.digest) for r in results] == [("red", "green", "")]
    assert tree(bed.root) == untouched
    assert results[0].log is not None
    assert b"3 passed" in (bed.root / results[0].log).read_bytes()


async def test_a_wrong_change_stays_red_with_the_telling_lines(bed: Bed) -> None:
    results, green = await bed.judged({"app.py": "def double(n):\n    return 3 * n\n"}, PYTEST)
    assert not green
    assert (results[0].before, results[0].after) == ("red", "red")
    assert "assert 3 == (2 * 1)" in results[0].digest
    assert "2 failed, 1 passed" in results[0].digest
    assert len(results[0].digest.splitlines()) <= 10


async def test_a_module_yet_to_be_written_is_red_and_its_coming_green(bed: Bed) -> None:
    (bed.root / "app.py").unlink()
    before = await bed.before(PYTEST)
    assert (before.results[0].before, before.may_start) == ("red", True)
    assert (await bed.judged({"app.py": RIGHT}, PYTEST))[1]
    assert (await bed.judged({"app.py": RIGHT}, f"{PYTEST} test_app.py::test_zero"))[1]


@pytest.mark.parametrize("isolation", BOTH, indirect=True)
async def test_a_missing_package_of_others_is_unrunnable(unit: Bed) -> None:
    unit.write(test_app="import not_installed_anywhere\n" + textwrap.dedent(UNIT_TEST))
    before = await unit.before(UNIT)
    assert before.results[0].before == "unrunnable"
    assert before.reason == (
        f"The check {UNIT} cannot run here: missing environment: no module named not_installed_anywhere."
    )
    assert not before.may_start


async def test_a_dependency_on_the_projects_list_is_environment_though_a_glob_could_write_it(unit: Bed) -> None:
    bench = unit.bench.model_copy(update={"files": ("**",)})
    unit.write(test_app="import absent_thing\n")
    assert (await baseline(bench, [parse_check(UNIT)], "turns_green")).results[0].before == "red"
    unit.write_at("requirements.txt", "absent-thing>=1\n")
    assert (await baseline(bench, [parse_check(UNIT)], "turns_green")).results[0].before == "unrunnable"


async def test_a_check_green_before_is_vacuous_and_proves_nothing(unit: Bed) -> None:
    unit.write(app=RIGHT)
    before = await unit.before(UNIT)
    assert (before.results[0].before, before.may_start) == ("vacuous", False)
    assert "green already" in before.reason
    results, green = await unit.judged({"app.py": RIGHT + "\n"}, UNIT)
    assert not green
    assert results[0].after == "green"


async def test_stays_green_wants_green_before_and_after(unit: Bed) -> None:
    assert not (await unit.before(UNIT, proof="stays_green")).may_start
    unit.write(app=RIGHT)
    results, green = await unit.judged({"app.py": "double = lambda n: n + n\n"}, UNIT, proof="stays_green")
    assert (green, results[0].before, results[0].after) == (True, "green", "green")
    assert not (await unit.judged({"app.py": WRONG}, UNIT, proof="stays_green"))[1]


async def test_one_red_check_is_proof_only_while_the_others_stay_green(unit: Bed) -> None:
    unit.write_at("still/test_other.py", UNIT_TEST.replace("from app import double", "from other import double"))
    unit.write(other=RIGHT)
    checks = (UNIT, f"{UNIT} still.test_other")
    results, green = await unit.judged({"app.py": RIGHT}, *checks)
    assert [(r.before, r.after) for r in results] == [("red", "green"), ("vacuous", "green")]
    assert green
    assert not (await unit.judged({"app.py": RIGHT, "other.py": WRONG}, *checks))[1]


@pytest.mark.parametrize("isolation", BOTH, indirect=True)
async def test_a_red_check_that_turns_green_by_itself_is_flaky(unit: Bed) -> None:
    # Between the two runs the log of the first one comes into being: a real difference that is no change.
    unit.write(
        test_app="""
        import os, unittest

        class TestIt(unittest.TestCase):
            def test_it(self):
                self.assertTrue(os.path.exists(".tierkit/t1/before-1.log"))
        """
    )
    before = await unit.before(UNIT)
    assert (before.results[0].before, before.may_start) == ("flaky", False)
    assert before.reason == f"The check {UNIT} is red and green without a change, so it proves nothing."


async def test_what_is_known_of_an_unchanged_tree_is_not_run_again(unit: Bed) -> None:
    seen: dict[str, Any] = {}
    checks = [parse_check(UNIT)]
    first = await baseline(unit.bench, checks, "turns_green", seen)
    log = unit.root / ".tierkit/t1/before-1.log"
    log.unlink()
    assert await baseline(unit.bench, checks, "turns_green", seen) == first
    assert not log.exists()
    unit.write(app=RIGHT)
    assert (await baseline(unit.bench, checks, "turns_green", seen)).results[0].before == "vacuous"


# --- what cannot run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-command -q", "not allowed|command not found: no-such-command"),
        ("python -m no_such_runner", "missing environment: no module named no_such_runner"),
        (f"{PYTEST} --no-such-option", "wrong usage"),
        (f"{PYTEST} missing_test.py", "it names a test that does not exist"),
        (f"{PYTEST} test_app.py::test_none", "it names a test that does not exist"),
        (f"{PYTEST} -k nothing_like_it", "no tests collected"),
        (f"{PYTEST} --version", "it ended without a test report"),
        ("python -m unittest discover -s empty", "no tests? (collected|passed)|it names|no test passed"),
        ("python nowhere.py", "it names a file that does not exist"),
        ({"argv": ["python", "-c", "import time; time.sleep(60)"], "timeout_s": 0.5}, r"it took longer than 0\.5 s"),
        ({"argv": ["python", "-c", "1"], "cwd": "nowhere"}, "there is no folder nowhere"),
        ({"argv": ["python", "-c", "import os; os.kill(os.getpid(), 9)"]}, "killed"),
        ({"argv": ["python", "-c", "while 1: print('x' * 99999)"]}, "too much output"),
        ("make nothing", "command not found|there is no such target|no Makefile"),
    ],
)
async def test_what_cannot_run_stops_everything(bed: Bed, command: Any, reason: str) -> None:
    (bed.root / "empty").mkdir()
    before = await bed.before(command)
    assert (before.results[0].before, before.may_start) == ("unrunnable", False)
    assert re.search(reason, before.reason), before.reason


async def test_without_a_sandbox_only_allowed_commands_run(tmp_path: Path) -> None:
    bed = Bed(tmp_path / "project", "in_place")
    bed.write_at("mark.sh", "#!/bin/sh\ntouch here\n")
    (bed.root / "mark.sh").chmod(0o755)
    before = await bed.before("./mark.sh")
    assert before.runs[0].reason == "not allowed without a sandbox: add it to [checks] allow"
    assert not (bed.root / "here").exists()


# --- forged proof -------------------------------------------------------------------------------

FORGERIES = {
    "prints passed and leaves": "import os\nprint('3 passed in 0.01s', flush=True)\nos._exit(0)\n",
    "leaves on import": "import sys\nsys.exit(0)\n",
    "skips on import": "import pytest\npytest.skip(allow_module_level=True)\n",
    "skips when called": "import pytest\ndef double(n):\n    pytest.skip()\n",
    "leaves when called": "import os\ndef double(n):\n    print('3 passed in 0.01s', flush=True)\n    os._exit(0)\n",
    "expects to fail": "import pytest\ndef double(n):\n    pytest.xfail()\n",
    "ends pytest": "import pytest\ndef double(n):\n    pytest.exit('3 passed', returncode=0)\n",
}


@pytest.mark.parametrize(
    ("trick", "start", "isolation"),
    [(trick, "absent" if "import" in trick else "present", "sandbox") for trick in FORGERIES]
    + [("prints passed and leaves", start, "in_place") for start in ("present", "absent")],
    indirect=["isolation"],
)
async def test_no_forged_pass_is_green(bed: Bed, trick: str, start: str) -> None:
    if start == "absent":
        (bed.root / "app.py").unlink()
    results, green = await bed.judged({"app.py": FORGERIES[trick]}, PYTEST)
    assert results[0].before == "red"
    assert not green
    assert results[0].after != "green"
    assert results[0].digest


async def test_a_test_that_passed_may_not_vanish_or_be_skipped(bed: Bed) -> None:
    changes: tuple[dict[str, str | None], ...] = (
        {"app.py": RIGHT, "test_app.py": "from app import double\ndef test_more():\n    pass\n"},
        {
            "app.py": RIGHT,
            "conftest.py": "import pytest\ndef pytest_collection_modifyitems(items):\n    del items[0]\n",
        },
        {"app.py": RIGHT, "pytest.ini": "[pytest]\naddopts = -k more\n"},
    )
    for change in changes:
        results, green = await bed.judged(change, PYTEST)
        assert not green
        assert results[0].digest.startswith("Exit code 0, but ")


@pytest.mark.parametrize(
    ("source", "after"),
    [
        (RIGHT, "green"),
        (
            "import os, sys\nprint('\\nRan 3 tests in 0.001s\\n\\nOK', file=sys.stderr, flush=True)\nos._exit(0)\n",
            "unrunnable",
        ),
        ("import sys\nprint('Ran 3 tests in 0.001s\\n\\nOK', file=sys.stderr)\nsys.exit(0)\n", "red"),
        ("import unittest\nraise unittest.SkipTest('later')\n", "unrunnable"),
        ("import unittest\ndef double(n):\n    raise unittest.SkipTest('later')\n", "unrunnable"),
        (WRONG, "red"),
    ],
)
async def test_unittest_is_believed_by_its_own_report_only(bed: Bed, source: str, after: str) -> None:
    bed.write(
        test_app="""
        import unittest
        from app import double

        class TestDouble(unittest.TestCase):
            def test_one(self):
                self.assertEqual(double(1), 2)
        """
    )
    for is_there in (True, False):
        if not is_there:
            (bed.root / "app.py").unlink()
        results, green = await bed.judged({"app.py": source}, "python -m unittest -q")
        assert (results[0].before, results[0].after, green) == ("red", after, after == "green")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("command", ["node --test", "npm test"])
@pytest.mark.parametrize(
    ("source", "is_green"),
    [
        ("exports.double = (n) => 2 * n;\n", True),
        ("console.log('# tests 9'); console.log('# pass 9'); process.exit(0);\n", False),
        ("exports.double = (n) => process.exit(0);\n", False),
    ],
)
async def test_a_script_that_ends_itself_is_no_node_test(bed: Bed, command: str, source: str, is_green: bool) -> None:
    bed.write_at("package.json", '{"name": "x", "scripts": {"test": "node --test"}}')
    bed.write_at(
        "app.test.js",
        """
        const test = require('node:test'), assert = require('node:assert'), { double } = require('./app.js');
        test('one', () => assert.equal(double(1), 2));
        """,
    )
    bed.write_at("other.test.js", "require('node:test')('other', () => {});\n")
    results, green = await bed.judged({"app.js": source}, command)
    assert (results[0].before, green) == ("red", is_green)
    assert (results[0].after == "green") == is_green


async def test_a_script_is_judged_by_its_exit_code(bed: Bed) -> None:
    bed.write_at("verify.sh", "#!/bin/sh\ngrep -q 'n \\* 2' app.py || { echo '1 failed'; exit 3; }\n")
    (bed.root / "verify.sh").chmod(0o755)
    results, green = await bed.judged({"app.py": RIGHT}, "./verify.sh")
    assert (results[0].before, results[0].after, green) == ("red", "green", True)


# --- surroundings -------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", BOTH, indirect=True)
async def test_the_projects_own_environment_comes_first(bed: Bed) -> None:
    for folder in (".venv/bin", "node_modules/.bin"):
        bed.write_at(f"{folder}/verify", "#!/bin/sh\necho $VIRTUAL_ENV; command -v verify; grep -q 'n \\* 2' app.py\n")
        (bed.root / folder / "verify").chmod(0o755)
    bench = bed.bench.model_copy(update={"allow": ("verify",)})
    found = await run_checks(bench, [parse_check("verify")], {}, label="x")
    assert found[0].digest.splitlines() == [".venv", ".venv/bin/verify"]


@pytest.mark.parametrize("isolation", BOTH, indirect=True)
async def test_no_secret_reaches_a_check_its_digest_or_its_log(unit: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-canary")
    token = "ghp_" + "Ab1" * 12
    unit.write(
        test_app=f"""
        import os, unittest

        class TestIt(unittest.TestCase):
            def test_it(self):
                print("\\x1b[31mred\\x1b[0m \\u202e", dict(os.environ))
                print(open(".env").read())
                print(open("sub/.env.local").read())
                self.assertEqual("{token}", "")
        """
    )
    unit.write_at(".env", "HIDDEN=canary-one\n")
    unit.write_at("sub/.env.local", "HIDDEN=canary-two\n")
    found = (await unit.before(UNIT)).runs[0]
    assert found.log is not None
    log = (unit.root / found.log).read_text()
    for text in (log, found.digest):
        assert token not in text
        assert "sk-proj-canary" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[redacted:" in text
        if unit.bench.isolation == "sandbox":
            assert "canary-one" not in text
            assert "canary-two" not in text


@pytest.mark.parametrize("isolation", BOTH, indirect=True)
async def test_a_report_replaced_by_a_link_is_not_followed(bed: Bed, tmp_path: Path) -> None:
    forged = tmp_path / "forged.xml"
    forged.write_text("<testsuite><testcase classname='test_app' name='test_zero'/></testsuite>")
    forged.chmod(0o644)
    source = f"""
        import os
        report = os.environ["PYTEST_ADDOPTS"].split("--junitxml=")[1].split()[0]
        os.symlink({str(forged)!r}, report)
        print("3 passed in 0.01s", flush=True)
        os._exit(0)
    """
    results, green = await bed.judged({"app.py": source}, PYTEST)
    assert (results[0].after, green) == ("unrunnable", False)


@pytest.mark.parametrize("isolation", BOTH, indirect=True)
async def test_caches_do_not_land_in_the_project(bed: Bed) -> None:
    await bed.before(PYTEST)
    assert sorted(path.name for path in bed.root.iterdir()) == [".tierkit", "app.py", "test_app.py"]


# --- reading what runners write -----------------------------------------------------------------


def read(command: str, text: str, code: int = 1) -> Observed:
    check = parse_check(command)
    return read_run(
        check.name, check.argv, Seen(ending="exited", exit_code=code, output=text.encode()), lambda _: False
    )


@pytest.mark.parametrize(
    ("command", "text", "code", "tests", "passed"),
    [
        ("npx jest --json", "Tests:       1 failed, 2 passed, 3 total\n", 1, 3, 2),
        ("npm test", "> x\nTests:       3 passed, 3 total\n", 0, 3, 3),
        ("npx vitest run --reporter=dot", "      Tests  1 failed | 2 passed (3)\n", 1, 3, 2),
        ("npm test", "  2 passing (5ms)\n  1 failing\n", 1, 3, 2),
        ("go test ./...", "ok  \ta\t0.1s\nok  \tb\t(cached)\n?   \tc\t[no test files]\n", 0, 2, 2),
        ("go test ./...", "--- FAIL: TestX\nFAIL\ta\t0.1s\nok  \tb\t0.1s\nFAIL\n", 1, 2, 1),
        (
            "cargo test",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n"
            "test result: FAILED. 1 passed; 1 failed; 0 ignored\n", 101, 5, 3,
        ),
        ("make test", "==== 1 failed, 4 passed in 0.12s ====\n", 2, 5, 4),
        ("./verify.sh", "1 failed, 4 passed in 0.1s\n", 1, None, None),
    ],
)  # fmt: skip
def test_counts_are_read_from_what_runners_print(
    command: str, text: str, code: int, tests: int | None, passed: int | None
) -> None:
    found = read(command, text, code)
    assert (found.tests, found.passed, found.outcome) == (tests, passed, "green" if code == 0 else "red")


@pytest.mark.parametrize(
    ("command", "text", "code", "reason"),
    [
        ("npm test", 'npm error Missing script: "test"', 1, "there is no such script in package.json"),
        ("npm test", "sh: 1: jest: not found", 127, "command not found: jest"),
        ("npx jest --json", "No tests found, exiting with code 1", 1, "no tests collected"),
        ("npx tsc", "error TS18003: No inputs were found", 2, "there is nothing to compile"),
        ("cargo test", "error: could not find `Cargo.toml` in `/x`", 101, "there is no Cargo.toml"),
        ("cargo test", "test result: ok. 0 passed; 0 failed; 0 ignored", 0, "no tests collected"),
        ("go test ./...", "?   \tc\t[no test files]", 0, "it ended before it was done"),
        (
            "npm test",
            "Error: Cannot find module 'lodash'\nRequire stack:",
            1,
            "missing environment: no module named lodash",
        ),
        ("npx mocha", "", 0, "it ended before it was done"),
        ("ruff check", "error: bad rule", 2, "wrong usage or configuration of ruff"),
    ],
)
def test_runners_that_did_not_run_are_known_by_their_words(command: str, text: str, code: int, reason: str) -> None:
    found = read(command, text, code)
    assert (found.outcome, found.reason) == ("unrunnable", reason)


@pytest.mark.parametrize("text", ["Error: Cannot find module './app'", "Error: Cannot find module '@/lib/app'"])
def test_a_missing_file_of_the_projects_own_is_red(text: str) -> None:
    assert read("npm test", text).outcome == "red"


def test_a_jest_report_names_every_test() -> None:
    report = (
        b'{"testResults": [{"name": "/p/a.test.js", "status": "failed", "assertionResults": ['
        b'{"fullName": "x one", "status": "passed"}, {"fullName": "x two", "status": "pending"}]},'
        b'{"name": "/p/b.test.js", "status": "failed", "assertionResults": []}]}'
    )
    assert read_report(report) == {
        "/p/a.test.js::x one": "passed",
        "/p/a.test.js::x two": "skipped",
        "uncollected:/p/b.test.js": "failed",
    }


@pytest.mark.parametrize(
    "report",
    [b"", b"<", b"{", b"[]", b"{}", b'{"testResults": 1}', b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"[" * 99999],
)
def test_an_unreadable_report_tells_nothing(report: bytes) -> None:
    assert read_report(report) == {}


def test_addresses_in_test_names_do_not_count() -> None:
    line = '<testcase classname="t" name="test[&lt;object at {}&gt;]"/>'
    first, second = (read_report(f"<a>{line.format(at)}</a>".encode()) for at in ("0x7f01", "0x7f02"))
    assert first == second


def test_escapes_are_taken_off() -> None:
    assert plain(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07ok\r\n\x00\x9b\xe2\x80\xae.") == "red ok\n\ufffd."


@pytest.mark.parametrize("named", ["tests.test_nope", "tests.test_cart.NoSuchTest"])
async def test_unittest_asked_for_a_test_that_is_not_there_cannot_run(tmp_path: Path, named: str) -> None:
    root = make_project(tmp_path / "app")
    bench = Bench(
        root=root, isolation="in_place", log_dir=".tierkit/t", allow=(sys.executable,), files=("shop/cart.py",)
    )
    found = await baseline(bench, [parse_check(f"{sys.executable} -m unittest -q {named}")], "turns_green")
    assert (found.results[0].before, found.may_start) == ("unrunnable", False)
    assert "it names a test that does not exist" in found.reason
