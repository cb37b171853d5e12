"""`python -m unittest`, and a list of what became of each test in the file named by CHECK_REPORT.

Runs in the project's own interpreter, by `-c`: it may import nothing but the standard library, of any version.
"""

from __future__ import annotations

import json
import os
import sys
import unittest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__unittest = True


class Recorder(unittest.TextTestResult):
    """The usual result, which also keeps each test's end; the worst of several ends counts."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.ends: dict[str, str] = {}

    def note(self, test: unittest.TestCase, end: str) -> None:
        order = ("passed", "skipped", "failed")
        self.ends[test.id()] = max(end, self.ends.get(test.id(), "passed"), key=order.index)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.note(test, "passed")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self.note(test, "failed")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.note(test, "failed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.note(test, "skipped")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self.note(test, "passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self.note(test, "failed")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "failed")


class Runner(unittest.TextTestRunner):
    resultclass = Recorder

    def run(self, test: Any) -> Any:
        result: Any = super().run(test)
        with open(os.environ["CHECK_REPORT"], "w") as report:
            json.dump(result.ends, report)
        return result


if __name__ == "__main__":
    if sys.path[0] == "":
        sys.path[0] = os.getcwd()
    unittest.main(module=None, argv=["python -m unittest", *sys.argv[1:]], testRunner=Runner)
