"""Data files as plain values: numbers exact, keys once, nothing guessed."""

import configparser
import csv
import io
import json
import os
import re
import stat
import tomllib
from decimal import Decimal

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_DIGITS = 400
SUFFIXES = {
    "json": "json", "geojson": "json", "webmanifest": "json", "ipynb": "json", "jsonl": "jsonl", "ndjson": "jsonl",
    "csv": "csv", "tsv": "tsv", "tab": "tsv", "toml": "toml", "ini": "ini", "cfg": "ini", "yaml": "yaml", "yml": "yaml",
}  # fmt: skip
TEXT_ONLY = ("csv", "tsv", "ini")
"""Formats whose every value is text."""
TABLES = ("csv", "tsv")
ROWS = ("jsonl", "csv", "tsv")


class BadData(ValueError):
    """The file is not what it says it is."""


class NotForMe(Exception):
    """This is a task for somebody else."""


def format_of(path):
    """The format that the path's ending tells."""
    found = SUFFIXES.get(os.path.basename(path).rpartition(".")[2].casefold())
    if found is None:
        raise NotForMe(f"the name {shown(path)} ends in no format that is known here")
    return found


def inside(path):
    """The path as given, if it stays in the project by name and behind every link."""
    root = os.path.realpath(".")
    if "\0" in path or os.path.isabs(path) or os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise NotForMe(f"{shown(path)} leads out of the project")
    return path


def read_text(path):
    try:
        fd = os.open(inside(path), os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise NotForMe(f"{shown(path)} is no file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotForMe(f"{shown(path)} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise NotForMe(f"{shown(path)} is larger than {MAX_BYTES >> 20} MB")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise NotForMe(f"{shown(path)} is UTF-16: save it as UTF-8 first")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotForMe(f"{shown(path)} is not UTF-8 (byte {error.start})") from None


def parse(text, form, *, typed=False, delimiter="auto"):
    """The value of a text. `typed` reads cells that are written as JSON numbers, booleans, lists or objects as such.

    Numbers are int or Decimal, so that no digit is lost.
    """
    if form not in READERS:
        raise NotForMe(f"{form} is not read here: such a file does not say for certain what its values are")
    try:
        value = READERS[form](text, delimiter) if form in TABLES else READERS[form](text)
        value = by_type(value) if typed and form in TEXT_ONLY else value
        check(value)
    except RecursionError:
        raise BadData("it is nested too deeply") from None
    return value


def check(value, depth=0):
    """Refuse what no other part of these scripts could handle: great depth, and text that is not Unicode."""
    if depth > MAX_DEPTH:
        raise BadData("it is nested too deeply")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadData("it holds text that is not Unicode") from None
    elif isinstance(value, dict):
        for name, inner in value.items():
            check(name, depth)
            check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check(inner, depth + 1)


def read_json(text):
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadData(f"line {error.lineno}: {error.msg}") from None


def read_jsonl(text):
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values.append(read_json(line))
            except BadData as error:
                raise BadData(f"line {number}: {str(error).removeprefix('line 1: ')}") from None
    return values


def read_table(text, delimiter):
    head, rows = table(text, delimiter)
    return [dict(zip(head, row, strict=True)) for row in rows]


def columns(text, form, delimiter="auto"):
    """What the header of a table names, none where there is no header."""
    return table(text, mark_of(text, form, delimiter))[0] if form in TABLES else []


def table(text, delimiter):
    """(header, rows). Blank lines are skipped, but in a table of one column each is a row with an empty cell."""
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise BadData(f"line {reader.line_num}: {error}") from None
    head = next((row for _, row in lines if row), [])
    start = next((at for at, (_, row) in enumerate(lines, 1) if row), 0)
    rows = [(number, row or [""]) for number, row in lines[start:] if row or len(head) == 1]
    if len(set(head)) != len(head):
        raise BadData(f"the header names {shown(max(head, key=head.count))} twice")
    for number, row in rows:
        if len(row) != len(head):
            raise BadData(f"line {number} has {len(row)} cells and the header {len(head)}")
    return head, [row for _, row in rows]


def mark_of(text, form, delimiter):
    """What stands between the columns."""
    if delimiter != "auto" or form == "tsv":
        return "\t" if delimiter == "auto" else delimiter
    head = text.split("\n", 1)[0]
    other = next((mark for mark in ";\t|" if mark in head and "," not in head), None)
    if other:
        raise NotForMe(f"the columns seem to be divided by {other!r}: name the delimiter")
    return ","


def read_csv(text, delimiter="auto"):
    return read_table(text, mark_of(text, "csv", delimiter))


def read_tsv(text, delimiter="auto"):
    return read_table(text, mark_of(text, "tsv", delimiter))


def read_toml(text):
    try:
        return tomllib.loads(text, parse_float=exact)
    except ValueError as error:
        raise BadData(" ".join(str(error).split())) from None


def read_ini(text):
    # No section gives defaults to the others, and no value names another: what is written is what is read.
    parser = configparser.RawConfigParser(default_section="\0", interpolation=None, strict=True)
    parser.optionxform = str
    try:
        parser.read_string(text, "the file")
    except configparser.Error as error:
        raise BadData(" ".join(str(error).split())[:200]) from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


READERS = {
    "json": read_json, "jsonl": read_jsonl, "csv": read_csv, "tsv": read_tsv, "toml": read_toml, "ini": read_ini,
}  # fmt: skip


def by_type(value):
    if isinstance(value, dict):
        return {name: by_type(inner) for name, inner in value.items()}
    return [by_type(inner) for inner in value] if isinstance(value, list) else cell(value)


def cell(text):
    """What a cell says: null where it is empty, a value where it is exactly JSON's form of one, else its text."""
    if text == "":
        return None
    if text[0] in "-0123456789tf[{":
        try:
            value = read_json(text)
            return value if json_text(value) == text else text
        except (BadData, RecursionError):
            pass
    return text


def exact(text):
    if len(text) > MAX_DIGITS:
        raise BadData(f"the number {text[:20]}... has too many digits")
    value = Decimal(text)
    if value.is_finite() and abs(value.adjusted()) > MAX_DIGITS:
        raise BadData(f"the number {text[:40]} is out of range")
    return value


def whole(text):
    if len(text) > MAX_DIGITS:
        raise BadData(f"the number {text[:20]}... has too many digits")
    return int(text)


def no_constant(name):
    raise BadData(f"{name} is not JSON")


def unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise BadData(f"the key {shown(max(names, key=names.count))} is named twice")
    return found


DECODER = json.JSONDecoder(
    parse_float=exact, parse_int=whole, parse_constant=no_constant, object_pairs_hook=unique
)  # fmt: skip


def json_text(value, step="", above="\n"):
    """JSON, compact or with `step` as the indent. Dates become text."""
    below = above + step
    if isinstance(value, dict):
        colon = ": " if step else ":"
        parts = [json.dumps(name, ensure_ascii=False) + colon + json_text(value[name], step, below) for name in value]
        return enclosed("{}", parts, step, above)
    if isinstance(value, list):
        return enclosed("[]", [json_text(inner, step, below) for inner in value], step, above)
    if isinstance(value, Decimal):
        return number_text(value)
    plain = value if value is None or isinstance(value, str | int) else value.isoformat()
    return json.dumps(plain, ensure_ascii=False)


def enclosed(marks, parts, step, above):
    if not parts or not step:
        return marks[0] + ",".join(parts) + marks[1]
    return marks[0] + above + step + ("," + above + step).join(parts) + above + marks[1]


def number_text(value):
    if not value.is_finite():
        raise NotForMe(f"{str(value).lower()} has no form in JSON")
    text = str(value)
    return text if re.search(r"[.E]", text) else text + ".0"


def shown(text):
    """A name or value of the file as it may stand in a sentence."""
    return ascii(text[:80])
