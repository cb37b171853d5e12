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
_BRACKETED = re.compile(
    r"\s*[\[(<](?:\.{3}|…)?\s*(?:rest|existing|remaining|unchanged)[\w ]{0,60}(?:\.{3}|…)?[\])>]\s*"
)
# At least three words, so that a JavaScript spread such as `...rest` is none.
_SPOKEN = re.compile(
    r"\s*(?:\.{3}|…) ?[(\[]?(?:the )?(?:rest|remaining|existing|unchanged|omitted)(?: \w+){2,8}[)\]]?[ .…]*", re.I
)
_MARKUP = (".md", ".markdown", ".mdx", ".rst", ".txt", ".adoc", "")


def is_placeholder(line: str) -> bool:
    """Whether a line stands for left-out code: `# ... existing code ...`, `// rest of file unchanged`."""
    return len(line) <= 200 and (_is_certain(line) or _is_dotted(line))


def lazy_line(path: str, new: tuple[str, ...], *old: tuple[str, ...]) -> str | None:
    """The first new line that stands for left-out code and is in none of the `old` texts."""
    suffix = PurePosixPath(path).suffix.lower()
    lazy = [line.strip() for line in new if len(line) <= 200 and _is_lazy(line, suffix)]
    if not lazy:
        return None
    there = {line.strip() for lines in old for line in lines}
    return next((line for line in lazy if line not in there), None)


def _is_lazy(line: str, suffix: str) -> bool:
    if suffix in _MARKUP:
        # A sample of code inside a text may leave code out.
        return _is_certain(line) or (line.lstrip().startswith("<!--") and _is_dotted(line))
    return _is_certain(line) or _is_dotted(line) or _is_bare_dots(line, suffix)


def _is_certain(line: str) -> bool:
    mark = _MARK.match(line)
    if mark is None:
        return bool(_BRACKETED.fullmatch(line) or _SPOKEN.fullmatch(line))
    bare = mark["text"].strip(".…[]()<> ")
    return bool(_WHOLE.match(bare)) and bare.lower() not in ("rest", "remainder", "the rest", "the same")


def _is_dotted(line: str) -> bool:
    mark = _MARK.match(line)
    text = mark["text"].strip() if mark is not None else ""
    bare = text.strip(".…[]()<> ")
    if not _DOTS.search(text):
        return False
    return not bare or (_ELIDES.search(bare) is not None and len(bare.split()) <= 12)


def _is_bare_dots(line: str, suffix: str) -> bool:
    if line.strip() not in ("...", "…") or suffix in (".yaml", ".yml"):
        return False
    # An indented `...` is a body in Python.
    return suffix not in (".py", ".pyi") or line[0] in ".…"
