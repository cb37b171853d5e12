"""What is looked for in a name and in a text: secrets, junk, colliding names, conflict markers, odd endings."""

import bisect
import fnmatch
import posixpath
import re
import tomllib
import unicodedata
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"

# Not the blocks of search and replace that tools for edits write.
_MARK = re.compile(r"^(?:<{7}(?! SEARCH)(?= |\r?$)|={7}(?=\r?$)|>{7}(?= |\r?$))", re.MULTILINE)
NEAR = 300


def load(name):
    return tomllib.loads((ASSETS / name).read_text(encoding="utf-8"))


class Secrets:
    """The rules of `assets/secrets.toml`; answers where and which, never what."""

    def __init__(self):
        found = load("secrets.toml")
        self.placeholders, self.allowed = tuple(found["placeholders"]), tuple(found["allowed"])
        self.rules = [(rule["name"], rule["hints"], re.compile(rule["pattern"])) for rule in found["rules"]]

    def find(self, text):
        """(line, rule) of each, in order; several of one rule on one line are one."""
        spans = [(match.start(), name) for name, match in self._matches(text) if self._counts(text, match)]
        breaks = [at.start() for at in re.finditer("\n", text)] if spans else []
        return sorted({(bisect.bisect_left(breaks, start) + 1, name) for start, name in spans})

    def without(self, text):
        """The text with each secret replaced by its rule's name; for names of files."""
        for name, hints, pattern in self.rules:
            if any(hint in text for hint in hints):
                text = pattern.sub(f"<{name}>", text)
        return text

    def _matches(self, text):
        for name, hints, pattern in self.rules:
            if any(hint in text for hint in hints):
                yield from ((name, match) for match in pattern.finditer(text))

    def _counts(self, text, match):
        low = match[0].lower()
        if any(word in low for word in self.placeholders):
            return False
        before = text[max(0, match.start() - NEAR) : match.start()].rpartition("\n")[2]
        after = text[match.end() : match.end() + NEAR].partition("\n")[0]
        return not any(mark in before + after for mark in self.allowed)


class Junk:
    """The names of `assets/junk.toml`."""

    def __init__(self):
        found = load("junk.toml")
        self.names = [(re.compile(fnmatch.translate(pattern.lower())), rule) for pattern, rule in found["names"]]
        self.harmless, self.folders = frozenset(found["harmless"]), frozenset(found["folders"])
        self.built, self.manifests = frozenset(found["built"]), frozenset(found["manifests"])

    def find(self, paths):
        """(path, rule, how many files) for each junk file, and for each junk folder once."""
        beside = {posixpath.dirname(path) for path in paths if posixpath.basename(path) in self.manifests}
        counts = {}
        for path in paths:
            if hit := self._folder(path, beside) or self._name(path):
                counts[hit] = counts.get(hit, 0) + 1
        return sorted((path, rule, count) for (path, rule), count in counts.items())

    def _folder(self, path, beside):
        parts = path.split("/")
        for depth, part in enumerate(parts[:-1]):
            above = "/".join(parts[: depth + 1])
            if part in self.folders:
                return f"{above}/", "generated-folder"
            if part in self.built and "/".join(parts[:depth]) in beside:
                return f"{above}/", "build-output"
        return None

    def _name(self, path):
        name = posixpath.basename(path).lower()
        if name in self.harmless:
            return None
        return next(((path, rule) for pattern, rule in self.names if pattern.match(name)), None)


def collisions(paths):
    """Groups of names, folders included, that one file system may take for the same."""
    groups = {}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            whole = "/".join(parts[:depth])
            groups.setdefault(unicodedata.normalize("NFC", whole).casefold(), set()).add(whole)
    clashing = sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)
    # Below two colliding folders every name collides too; the folders say it all.
    return [group for group in clashing if len({posixpath.basename(name) for name in group}) > 1]


def conflict(text):
    """The line on which an unresolved merge begins, None where there is none."""
    if "<<<<<<<" not in text or ">>>>>>>" not in text:
        return None
    start, is_halved = None, False
    for mark in _MARK.finditer(text):
        if mark[0][0] == "<":
            start, is_halved = mark.start(), False
        elif mark[0][0] == "=":
            is_halved = start is not None
        elif is_halved:
            return text.count("\n", 0, start) + 1
    return None


def odd_form(text, is_executable):
    """What is odd about line endings and the executable bit, as rule names."""
    crlf = text.count("\r\n")
    has_shebang = text.startswith("#!")
    odd = []
    if crlf and text.count("\n") > crlf:
        odd.append("mixed-line-endings")
    if has_shebang and text.split("\n", 1)[0].endswith("\r"):
        odd.append("shebang-with-crlf")
    if is_executable and not has_shebang and text:
        odd.append("executable-without-shebang")
    return odd
