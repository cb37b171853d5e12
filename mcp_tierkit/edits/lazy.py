"""Lines that stand for code which the model did not write out."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_MARK = re.compile(
    r"^\s*(?:\{?/\*+|<!--|//+|#+|--|;+|%+|\*|\"\"\"|''')\s*(?P<text>.*?)\s*(?:\*/\}?|-->|\"\"\"|''')?\s*$"
)
_DOTS = re.compile(r"^(?:\[|\(|<)?(?:\.{3,}|…)|(?:\.{3,}|…)(?:\]|\)|>)?$")
_THING = (
    r"(?:code|file|files|function|functions|method|methods|class|classes|module|implementation|implementations|content|contents"
    r"|script|imports?|component|body|logic|definitions?|tests?|lines|stuff|parts?|fields|properties|section|sections)"
)
_SAME = (
    r"(?:unchanged|the same|same|as is|as-is|as before|as it was|omitted|untouched|intact|not shown|stay|remain"
    r"|here|above|below|goes here|for brevity)"
)
_STATE = rf"(?: (?:is|are|remains?|stays?|goes))?(?: {_SAME})"
_WHOLE = re.compile(
    rf"^(?:the |all |all the |your )?(?:"
    rf"(?:rest|remainder)(?: of)?(?: the| this| your)?(?: \w+)?(?: {_THING})?(?:{_STATE}{{1,3}})?"
    rf"|(?:existing|remaining)(?: \w+)? (?:code|implementation|contents?|logic)(?:{_STATE}{{0,3}})"
    rf"|(?:existing|remaining|previous|other|original)(?: \w+)? {_THING}(?:{_STATE}{{1,3}})"
    rf"|(?:{_THING} )?(?:is |are |remains? |stays? )?"
    rf"(?:unchanged|(?:the )?same as (?:before|above)|omitted(?: for brevity)?)"
    rf"|keep (?:the |all |your )*(?:existing|rest|remaining|other)(?: of)?(?: the)? {_THING}(?:{_STATE}{{0,3}})"
    rf")[.!:]?$",
    re.I,
)
_ELIDES = re.compile(
    r"\b(?:rest|remain\w*|existing|unchanged|omitted|same|previous|other|as before|brevity|code|continue\w*|more"
    r"|original|keep)\b",
    re.I,
)
_PROSE = {".md", ".markdown", ".mdx", ".rst", ".txt", ".adoc", ".yaml", ".yml", ""}


def is_placeholder(line: str) -> bool:
    """Whether a comment stands for left-out code: `# ... existing code ...`, `// rest of file unchanged`."""
    if len(line) > 200:
        return False
    mark = _MARK.match(line)
    if mark is None:
        return bool(
            re.fullmatch(
                r"\s*[\[(<](?:\.{3}|…)?\s*(?:rest|existing|remaining|unchanged)[\w ]{0,60}(?:\.{3}|…)?[\])>]\s*", line
            )
        )
    text = mark["text"].strip()
    if not text:
        return False
    bare = text.strip(".…[]()<> ")
    if not bare:
        return bool(_DOTS.search(text))
    if _DOTS.search(text) and (_ELIDES.search(bare) and len(bare.split()) <= 12):
        return True
    return bool(_WHOLE.match(bare)) and bare.lower() not in ("rest", "remainder", "the rest", "the same")


def lazy_line(path: str, new: tuple[str, ...], *old: tuple[str, ...]) -> str | None:
    """The first new line that stands for left-out code and is in none of the `old` texts."""
    suffix = PurePosixPath(path).suffix.lower()
    lazy = [line.strip() for line in new if is_placeholder(line) or _is_dots(line, suffix)]
    if not lazy:
        return None
    there = {line.strip() for lines in old for line in lines}
    return next((line for line in lazy if line not in there), None)


def _is_dots(line: str, suffix: str) -> bool:
    if line.strip() not in ("...", "…") or suffix in _PROSE:
        return False
    # An indented `...` is a body in Python.
    return suffix not in (".py", ".pyi") or line[0] in ".…"
