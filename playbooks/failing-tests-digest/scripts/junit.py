"""Failures read from JUnit XML as it streams by; a document type is refused, so nothing can be expanded."""

from xml.parsers import expat

from logs import KEPT_LINES, Failure, Run, lines_of


class Refused(ValueError):
    """The file is not JUnit XML that can be read."""


class Reader:
    """Collects test cases; a failure's text is kept to its first lines."""

    def __init__(self):
        self.failures, self.cases, self.skipped, self.root = [], 0, 0, ""
        self.name, self.where, self.text, self.attributes = "", "", None, {}

    def start(self, tag, attributes):
        self.root = self.root or tag
        if tag == "testcase":
            self.cases += 1
            owner, name = attributes.get("classname", ""), attributes.get("name", "(no name)")
            self.name = f"{owner}::{name}" if owner and not name.startswith(owner) else name
            line = attributes.get("line", "")
            self.where = attributes.get("file", "") + (f":{line}" if line else "")
        elif tag == "skipped":
            self.skipped += 1
        elif tag in ("failure", "error") and self.name:
            self.text, self.attributes = [], attributes

    def words(self, text):
        if self.text is not None and len(self.text) < 2000:
            self.text.append(text)

    def end(self, tag):
        if tag == "testcase":
            self.name = ""
        if tag in ("failure", "error") and self.text is not None:
            said = [line.strip() for line in lines_of("".join(self.text)) if line.strip()]
            message = [line for line in lines_of(self.attributes.get("message", "")) if line.strip()]
            error = message[0].strip() if message else said[0] if said else self.attributes.get("type", "failed")
            marked = [line[1:].strip() for line in said if line.startswith("E ")]  # As pytest marks what matters.
            self.failures.append(Failure(self.name, error, self.where, marked or message[1:] or said[-KEPT_LINES:]))
            self.text = None


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
    tests = {one.test for one in reader.failures}
    return Run("junit", reader.failures, max(0, reader.cases - len(tests) - reader.skipped))
