"""The comments of a source file, each with its line; what stands in a string is none."""

import io
import json
import re
import tokenize
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def comments(path, text):
    """(line, text) of each line of each comment; none where the language is not known."""
    pattern = patterns().get(Path(path).suffix.lower()) or patterns().get(Path(path).name)
    if pattern is None:
        return []
    if path.endswith((".py", ".pyi")):
        try:
            return list(_of_python(text))
        except (SyntaxError, tokenize.TokenError, RecursionError):
            pass  # A file of another Python, or a broken one: read it like any other language.
    return list(_of_pattern(text, pattern))


@cache
def patterns():
    """File ending, or whole name, to the pattern of its comments and texts."""
    families = json.loads((ASSETS / "comments.json").read_text(encoding="utf-8"))["families"]
    return {key: pattern for one in families for pattern in [_compiled(one)] for key in (*one["endings"], *one.get("names", ()))}


def _compiled(family):
    """One pattern: texts are taken so that nothing in them is seen, comments are named. Every part ends, so it is linear."""
    parts = [f"(?P<block{at}>{_between(*pair)})" for at, pair in enumerate(family["block"])]
    parts += [_between(*pair) for pair in family["long"]]
    # A text that its line does not end is taken to the end of the line.
    parts += [rf"{quote}[^{quote}\\\n]*(?:\\.[^{quote}\\\n]*)*(?:{quote}|\\?$)" for quote in family["text"]]
    if family.get("letter"):
        parts.append(r"'(?:[^'\\\n]|\\.[^'\n]{0,8})'")
    parts += [rf"(?P<line{at}>{re.escape(mark)}[^\n]*)" for at, mark in enumerate(family["line"])]
    if family.get("hash"):
        parts.append(r"(?<![^\s;(){}\[\]])(?P<hash>#[^\n]*)")
    return re.compile("|".join(parts), re.MULTILINE)


def _between(start, end):
    first, rest = re.escape(end[0]), re.escape(end[1:])
    plain, more = (rf"[^{first}]*", rf"{first}(?!{rest})") if rest else (rf"[^{first}\\]*", r"\\(?s:.)")
    return rf"{re.escape(start)}{plain}(?:{more}{plain})*(?:{re.escape(end)}|\\?\Z)"


def _of_pattern(text, pattern):
    line, at = 1, 0
    for found in pattern.finditer(text):
        if found.lastgroup:
            line += text.count("\n", at, found.start())
            at = found.start()
            yield from ((line + below, one) for below, one in enumerate(found[0].split("\n")))


def _of_python(text):
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
