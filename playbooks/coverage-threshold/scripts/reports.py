"""Line coverage read from the reports that tools write: path to {line: hits}, paths as the report gives them."""

import json
import re
from typing import NamedTuple
from xml.parsers import expat

MAX_LINE = 10_000_000


class Refused(ValueError):
    """The file is not a coverage report that can be read."""


class Report(NamedTuple):
    """What a report tells: {path: {line: hits}}, the folders that its paths may be in, and the paths it has twice.

    What is there twice is one file only where nothing else can have that path.
    """

    kind: str
    files: dict
    sources: list | tuple = ()
    twice: set | frozenset = frozenset()


def read_report(data):
    """Refused says why in a few words."""
    head = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:4096]
    if data[:16] == b"SQLite format 3\0":
        raise Refused("holds no list of the lines that could run; write coverage.json or coverage.xml from it first")
    if head[:1] == b"<" or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return read_cobertura(data)
    if head[:1] == b"{":
        return Report("coverage.py", read_json(data))
    if re.match(rb"(?:TN|SF|VER):", head):
        return Report("lcov", read_lcov(data.decode("utf-8-sig", "replace")))
    raise Refused("is no coverage report that this playbook knows")


# --- Cobertura ----------------------------------------------------------------------------------


class Cobertura:
    """Collects lines by file while the XML streams by."""

    def __init__(self):
        self.files, self.sources, self.root = {}, [], ""
        self.lines, self.text = None, None
        self.packages, self.classes, self.twice = 0, {}, set()

    def start(self, tag, attributes):
        self.root = self.root or tag
        if tag == "package":
            self.packages += 1
        elif tag == "class":
            self.begin(attributes.get("filename", ""), attributes.get("name", ""))
        elif tag == "line" and self.lines is not None:
            add(self.lines, attributes.get("number"), attributes.get("hits"))
        elif tag == "source":
            self.text = []

    def begin(self, path, name):
        """A file may hold several classes of one package; the same class again is likely that of another file."""
        package, names = self.classes.setdefault(path, (self.packages, set()))
        if package != self.packages or name in names:
            self.twice.add(path)
        names.add(name)
        self.lines = self.files.setdefault(path, {})

    def words(self, text):
        if self.text is not None:
            self.text.append(text)

    def end(self, tag):
        if tag == "class":
            self.lines = None
        elif tag == "source" and self.text is not None:
            self.sources.append("".join(self.text).strip())
            self.text = None


def refuse_own_types(name, system, public, has_own):
    if has_own:
        raise Refused("declares a document type of its own")


def refuse_entity(*_):
    raise Refused("declares entities")


def read_cobertura(data):
    reader, parser = Cobertura(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.words
    # Tools name the format's public document type; it is never loaded. One written out in the file is refused.
    parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = refuse_own_types, refuse_entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Refused(f"is not well-formed XML: {error}") from None
    if reader.root != "coverage":
        raise Refused(f"is XML of another kind: {reader.root[:40]!a}")
    return Report("cobertura", reader.files, reader.sources, reader.twice)


def add(lines, number, hits):
    """Count a line; one that is told of twice was covered if it was once."""
    try:
        line, count = int(number), int(hits)
    except (TypeError, ValueError):
        raise Refused("has a line without a number or hits") from None
    if not 0 < line <= MAX_LINE:
        raise Refused("has a line number that no file has")
    lines[line] = max(lines.get(line, 0), count)


# --- coverage.py's JSON -------------------------------------------------------------------------


def read_json(data):
    try:
        report = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"is not JSON: {str(error)[:100]}") from None
    files = report.get("files")
    if not isinstance(files, dict) or not all(isinstance(one, dict) for one in files.values()):
        raise Refused("is JSON of another kind: it has no files")
    found = {}
    for path, one in files.items():
        lines = found[path] = {}
        for key, hits in (("executed_lines", 1), ("missing_lines", 0)):
            numbers = one.get(key)
            if not isinstance(numbers, list):
                raise Refused(f"is JSON of another kind: a file has no {key}")
            for number in numbers:
                add(lines, number if type(number) is int else None, hits)
    return found


# --- lcov ---------------------------------------------------------------------------------------


def read_lcov(text):
    found, lines = {}, None
    for line in text.splitlines():
        if line.startswith("SF:"):
            lines = found.setdefault(line[3:].strip(), {})
        elif line.startswith("DA:") and lines is not None:
            number, _, rest = line[3:].partition(",")
            add(lines, number, rest.split(",")[0])
        elif line.strip() == "end_of_record":
            lines = None
    if not found:
        raise Refused("names no source file")
    return found
