"""Failures read from JUnit XML as it streams by; a document type is refused, so nothing can be expanded."""

import re
from dataclasses import dataclass
from xml.parsers import expat

from runs import KEPT_LINES, Failure, Run, lines_of


class Refused(ValueError):
    """The file is not JUnit XML that can be read."""


class Reader:
    """Collects test cases; a failure's text is kept to its first lines."""

    def __init__(self):
        self.failures, self.cases, self.skipped, self.root = [], 0, 0, ""
        self.name, self.where, self.text, self.attributes = "", "", None, {}
        self.is_inside, self.is_bad, self.bad = False, False, 0
        self.suites = [Suite()]

    def start(self, tag, attributes):
        self.root = self.root or tag
        if tag in ("testsuites", "testsuite"):
            self.suites.append(Suite(attributes.get("name", ""), counted(attributes)))
        elif tag == "testcase":
            self.cases += 1
            self.is_inside, self.is_bad = True, False
            owner, name = attributes.get("classname", ""), attributes.get("name") or "(no name)"
            self.name = f"{owner}::{name}" if owner and not name.startswith(owner) else name
            line = attributes.get("line", "")
            self.where = attributes.get("file", "") + (f":{line}" if line else "")
        elif tag == "skipped":
            self.skipped += 1
        elif tag in ("failure", "error"):
            self.text, self.attributes = [], attributes

    def words(self, text):
        if self.text is not None and len(self.text) < 2000:
            self.text.append(text)

    def end(self, tag):
        if tag in ("testsuites", "testsuite"):
            suite = self.suites.pop()
            self.suites[-1].found += max(suite.said, suite.found)
        elif tag == "testcase":
            self.bad += self.is_bad
            self.suites[-1].found += self.is_bad
            self.is_inside = False
        elif tag in ("failure", "error") and self.text is not None:
            self.failed()
            self.text = None

    def failed(self):
        name, where = self.name, self.where
        if self.is_inside:
            self.is_bad = True
        else:
            name, where = f"{self.suites[-1].name or '(no name)'} (outside any test)", ""
            self.suites[-1].found += 1
        said = [line.strip() for line in lines_of("".join(self.text)) if line.strip()]
        message = [line for line in lines_of(self.attributes.get("message", "")) if line.strip()]
        error = message[0].strip() if message else said[0] if said else self.attributes.get("type", "failed")
        marked = [line[1:].strip() for line in said if line.startswith("E ")]  # As pytest marks what matters.
        self.failures.append(Failure(name, error, where, marked or message[1:] or said[-KEPT_LINES:]))


@dataclass
class Suite:
    """What a suite counts as failed by its attributes, and what was found in it."""

    name: str = ""
    said: int = 0
    found: int = 0


def counted(attributes):
    counts = (attributes.get(key, "").strip() for key in ("failures", "errors"))
    return sum(int(one) for one in counts if re.fullmatch("[0-9]{1,9}", one))


def refuse(*_):
    raise Refused("has a document type, which no test report needs")


def read_junit(data):
    reader, parser = Reader(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.words, refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Refused(f"is not well-formed XML: {error}") from None
    if reader.root not in ("testsuites", "testsuite"):
        raise Refused(f"is XML of another kind: {reader.root[:40]!a}")
    return Run("junit", reader.failures, max(0, reader.cases - reader.bad - reader.skipped), reader.suites[0].found)
