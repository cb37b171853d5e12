"""Put the licence header into files that lack it: inputs as JSON on stdin, the files as JSON to PLAYBOOK_RESULT."""

import ast
import json
import os
import re
import sys
import warnings
from pathlib import Path

from headers import STYLES, begin, legal_lines, plain, read_source, start_of, styles
from project_files import shown

# A comment that tools look for at the very top stays there.
PRAGMA = re.compile(rb"@(?:jest-|flow\b|ts-|format\b|prettier\b|jsx|vitest-)|-\*-")


def comment(header, suffix, samples):
    """The header as a comment of that language: as another file has it, else line by line."""
    if suffix in samples:
        return samples[suffix]
    mark = styles()[suffix]
    lines = header.split("\n")
    if mark in STYLES["closing"]:
        inner = "\n".join(f"  {line}".rstrip() for line in lines) if len(lines) > 1 else None
        return f"{mark}\n{inner}\n{STYLES['closing'][mark]}" if inner else f"{mark} {header} {STYLES['closing'][mark]}"
    return "\n".join(f"{mark} {line}".rstrip() for line in lines)


def samples_of(found):
    """Suffix to the header as a file of that suffix has it, where that is all its first comment says."""
    samples = {}
    for source in found.good:
        text = source.comment.decode("utf-8", "replace").strip()
        is_docstring = text.startswith(('"""', "'''"))
        if (
            legal_lines(source.comment) == found.header
            and len(plain(text)) == len(plain(found.header))
            and not is_docstring
        ):
            samples.setdefault(source.suffix, "\n".join(re.split(r"\r\n|\r|\n", text)))
    return samples


def place_of(data):
    """Where the header goes: behind what must be first, and behind a comment that tools read there."""
    at = start_of(data)
    if at and not data[:at].endswith((b"\n", b"\r")) and data[:at] != b"\xef\xbb\xbf":
        return None  # A lone first line without an end.
    block = re.match(
        rb"\s*(?:/\*.*?\*/|(?://[^\r\n]*(?:\r\n|\r|\n|$))+)[ \t]*(?:\r\n|\r|\n)?", data[at : at + 4000], re.DOTALL
    )
    return at + block.end() if block and PRAGMA.search(block[0]) else at


def with_header(data, text, suffix):
    """The file with the header in it; None where it cannot be put there safely."""
    at = place_of(data)
    if at is None or not all(map(is_whole, data[:at].splitlines())) or (suffix == "php" and b"<?php" not in data[:at]):
        return None
    if not text.isascii() and not is_utf8(data):
        return None
    end = b"\r\n" if b"\r\n" in data[:4000] else b"\n"
    lines = end.join(line.encode() for line in text.split("\n"))
    gap = end if re.match(rb"[ \t]*(?:\r\n|\r|\n)", data[at:]) else end + end
    after = data[:at] + lines + gap + data[at:]
    return after if suffix not in ("py", "pyi") or says_the_same(data, after) else None


def is_whole(line):
    """Whether a first line ends where it seems to: nothing of it goes on in the next."""
    bare = line.removeprefix(b"\xef\xbb\xbf").strip()
    if bare.startswith(b"<"):
        return bare == b"<?php" or bool(re.fullmatch(rb"<[^<>]*>", bare))
    return not bare.startswith(b"@") or bare.endswith(b";")


def is_utf8(data):
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def says_the_same(before, after):
    """Whether Python reads both alike; a file that it cannot read at all is left alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.dump(ast.parse(before)) == ast.dump(ast.parse(after))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False


def apply(found):
    """Write the files; (those changed, those that could not be)."""
    samples, changed, left = samples_of(found), [], []
    for source in found.missing:
        data = Path(source.path).read_bytes()
        after = with_header(data, comment(found.header, source.suffix, samples), source.suffix)
        if after is None or not os.access(source.path, os.W_OK):
            left.append(shown(source.path))
            continue
        Path(source.path).write_bytes(after)
        seen = read_source(source.path, source.suffix)
        if seen is None or not seen.has(found.header):  # It could not be found again, and would be added again.
            Path(source.path).write_bytes(data)
            left.append(shown(source.path))
            continue
        changed.append(shown(source.path))
    return changed, left


def main():
    inputs = json.load(sys.stdin)
    try:
        found, why = begin(inputs)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if found is None:
        print(why, file=sys.stderr)
        return 10
    changed, left = apply(found)
    limit = inputs.get("limit", 20)
    result = {"header": found.header, "changed": len(changed), "had_it": len(found.good), "other": len(found.other)}
    result |= {"files": changed[:limit], "left": left[:limit], "more": max(0, len(changed) - limit)}
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(result, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
