"""A witness inside the process of a test runner: how each test ended, and what of the runner was tampered with.

Two ways in: `python -c` with this text stands in for `python -m unittest` and for `python script.py`, and pytest loads
it as a plugin. Both come before any code of the project. The order to testify, with the key that signs the testimony,
is on standard input and wiped from there. Runs in the project's own interpreter: it may import nothing but the standard
library, of any version. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
import sys
import sysconfig
import types
import unittest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Testimony = Callable[[dict[str, str], list[str], list[str]], None]

__unittest = True

MAGIC = b"tierkit-witness "
JUDGES = (
    "builtins", "unittest", "pytest", "_pytest", "pluggy",
    "importlib", "_frozen_importlib", "_frozen_importlib_external",
)  # fmt: skip
VERDICTS = (
    "pytest_collection_modifyitems", "pytest_pyfunc_call", "pytest_runtestloop", "pytest_runtest_protocol",
    "pytest_runtest_call", "pytest_runtest_makereport", "pytest_runtest_logreport",
)  # fmt: skip
UNCOLLECTED = "uncollected:"
WORST = ("passed", "skipped", "failed")


def take_order() -> Testimony | None:
    """What writes the signed testimony; None where nobody asked for one."""
    try:
        found = os.fstat(0)
        if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size < 4096:
            return None
        order = os.pread(0, 4096, 0)
        if not order.startswith(MAGIC):
            return None
        os.ftruncate(0, 0)
    except OSError:
        return None
    key, _, path = order[len(MAGIC) :].partition(b" ")

    def testify(ends: dict[str, str], altered: list[str], ended_in: list[str]) -> None:
        body = json.dumps({"ends": ends, "altered": altered, "ended_in": ended_in})
        with open(path, "w") as testimony:
            json.dump({"seal": hmac.new(key, body.encode(), hashlib.sha256).hexdigest(), "body": body}, testimony)

    return testify


class Watch:
    """The runner's own functions as they were before the project's code came, and what has changed of them."""

    def __init__(self) -> None:
        self.first = {name: (value, mark(value)) for name, value in parts()}
        self.classes = {name for name, (value, _) in self.first.items() if isinstance(value, type)}
        self.tests: dict[str, tuple[Any, str, Any]] = {}
        self.altered: set[str] = set()

    def add_test(self, name: str, owner: Any, attribute: str) -> None:
        found = vars(owner).get(attribute)
        if found is not None:
            self.tests[name] = (owner, attribute, mark(found))

    def look(self) -> None:
        now = dict(parts())
        for name, (_, was) in self.first.items():
            if name not in now or mark(now[name]) != was:
                self.altered.add(name)
        for name, value in now.items():
            # A new name in a class may come before one that it inherits.
            if name not in self.first and name.rpartition(".")[0] in self.classes and not is_library(value):
                self.altered.add(name)
        for name, (owner, attribute, was) in self.tests.items():
            if mark(vars(owner).get(attribute)) != was:
                self.altered.add(name)


def parts() -> Iterator[tuple[str, Any]]:
    """Every function, and every class with its functions, of the modules that judge."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in JUDGES:
            continue
        for key, value in list(getattr(module, "__dict__", {}).items()):
            if not is_code(value):
                continue
            yield f"{name}.{key}", value
            if isinstance(value, type) and value.__module__ == name != "builtins":
                yield from (
                    (f"{name}.{key}.{part}", inner) for part, inner in list(vars(value).items()) if is_code(inner)
                )


def is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, (staticmethod, classmethod, property))


def bare(value: Any) -> Any:
    if isinstance(value, (staticmethod, classmethod, types.MethodType)):
        return value.__func__
    return value.fget if isinstance(value, property) else value


def mark(value: Any) -> tuple[int, ...]:
    """What tells a function from one that was put in its place, or that was given other code."""
    function = bare(value)
    if not isinstance(function, types.FunctionType):
        return (id(function),)
    return id(function), id(function.__code__), id(function.__defaults__)


def is_library(value: Any) -> bool:
    """Whether the code is an installed package's, not the project's."""
    function = bare(value)
    return isinstance(function, types.FunctionType) and _file(function).startswith(LIBRARIES)


def _file(function: types.FunctionType) -> str:
    return os.path.realpath(function.__code__.co_filename)


LIBRARIES = tuple(
    os.path.realpath(place) + os.sep
    for place in {*sysconfig.get_paths().values(), *(place for place in sys.path if place.endswith("-packages"))}
    if os.path.isabs(place) and place != sysconfig.get_paths()["data"]
)


def note(ends: dict[str, str], name: str, end: str) -> None:
    name = name.replace("unittest.loader._FailedTest.", UNCOLLECTED)
    ends[name] = max(end, ends.get(name, "passed"), key=WORST.index)


class Recorder(unittest.TextTestResult):
    """The usual result, which also keeps each test's end; the worst of several ends counts."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.ends: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        note(self.ends, test.id(), "passed")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        note(self.ends, test.id(), "failed")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        note(self.ends, test.id(), "failed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        note(self.ends, test.id(), "skipped")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        note(self.ends, test.id(), "passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        note(self.ends, test.id(), "failed")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            note(self.ends, test.id(), "failed")


class Runner(unittest.TextTestRunner):
    resultclass = Recorder

    def run(self, test: Any) -> Any:
        if testify is None:
            return super().run(test)
        for case in cases(test):
            watch.add_test(case.id(), type(case), getattr(case, "_testMethodName", ""))
        watch.look()
        result: Any = super().run(test)
        watch.look()
        testify(result.ends, sorted(watch.altered), [])
        return result


def cases(suite: Any) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def run_script(path: str) -> None:
    """As `python path`, and a word at its end: a script that is left half-way by its own code says none."""
    main = types.ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    sys.path[:1] = [os.path.dirname(os.path.abspath(path))]
    del sys.argv[0]
    ended_in: set[str] = set()
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as problem:
        print(f"{sys.executable}: can't open file {path!r}: {problem}", file=sys.stderr)
        sys.exit(2)
    try:
        exec(compile(text, path, "exec", dont_inherit=True), vars(main))
    except SystemExit as ending:
        if ending.code not in (None, 0):
            raise
        ended_in = set(files_of(ending))
    watch.look()
    if testify is not None:
        testify({}, sorted(watch.altered), sorted(ended_in))


def files_of(error: BaseException) -> Iterator[str]:
    """The files that an exception came through."""
    step = error.__traceback__
    while step is not None:
        yield os.path.abspath(step.tb_frame.f_code.co_filename)
        step = step.tb_next


class Plugin:
    """Hears every report of a session, and testifies when it is over."""

    def __init__(self) -> None:
        self.ends: dict[str, str] = {}

    def pytest_collectreport(self, report: Any) -> None:
        if report.outcome in ("failed", "skipped"):
            note(self.ends, UNCOLLECTED + (report.nodeid or "."), report.outcome)

    def pytest_collection_finish(self, session: Any) -> None:
        for item in session.items:
            owner = getattr(item, "cls", None) or getattr(item, "module", None)
            if owner is not None:
                watch.add_test(item.nodeid, owner, getattr(item, "originalname", None) or item.name)
        watch.look()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.outcome in ("failed", "skipped") or (report.when == "call" and report.outcome == "passed"):
            note(self.ends, report.nodeid, report.outcome)

    def pytest_sessionfinish(self, session: Any) -> None:
        if testify is None or hasattr(session.config, "workerinput"):
            return
        watch.look()
        testify(self.ends, sorted({*watch.altered, *strangers(session.config)}), [])


def strangers(config: Any) -> Iterator[str]:
    """Code of the project that has a say in a test's verdict, its `conftest.py` left out."""
    for name in VERDICTS:
        for heard in getattr(config.hook, name).get_hookimpls():
            function = bare(heard.function)
            file = _file(function) if isinstance(function, types.FunctionType) else ""
            is_expected = heard.plugin is plugin or os.path.basename(file) == "conftest.py"
            if not is_expected and not is_library(function):
                yield f"{name} of {heard.function.__module__}"


def pytest_configure(config: Any) -> None:
    config.pluginmanager.register(plugin, "tierkit")


testify = take_order()
plugin = Plugin()
watch = Watch()

if __name__ == "__main__":
    if sys.argv[1] != "-m":
        run_script(sys.argv[1])
    else:
        if sys.path[0] == "":
            sys.path[0] = os.getcwd()
        unittest.main(module=None, argv=["python -m unittest", *sys.argv[3:]], testRunner=Runner)
