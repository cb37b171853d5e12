"""Lines that stand for code which the model did not write out."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mcp_tierkit.edits.names import MARKUP
from mcp_tierkit.edits.pieces import Lines, depth

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
_BARE = ("...", "…")
_PYTHON = (".py", ".pyi")
_QUOTES = ('"', "'", 'r"', "r'")


def is_placeholder(line: str) -> bool:
    """Whether a line stands for left-out code: `# ... existing code ...`, `// rest of file unchanged`."""
    return len(line) <= 200 and (_is_certain(line) or _is_dotted(line))


def lazy_line(path: str, new: Lines, replaced: Lines, old: Lines) -> str | None:
    """The first of the `new` lines that stands for left-out code and is neither `replaced` nor in the `old` text."""
    suffix = PurePosixPath(path).suffix.lower()
    is_shorter = replaced is old and len(new) < len(old)
    lazy = [line.strip() for line in new if len(line) <= 200 and _is_lazy(line, suffix, is_shorter)]
    dots = [at for at, line in enumerate(new) if line.strip() in _BARE]
    if not lazy and not dots:
        return None
    there = {line.strip() for lines in (replaced, old) for line in lines}
    first = next((line for line in lazy if line not in there), None)
    if first or len(dots) <= sum(line.strip() in _BARE for line in replaced):
        return first
    if suffix in _PYTHON and (replaced is old or len(new) < len(replaced)):
        return next((new[at].strip() for at in dots if not _is_stub(new, at, there)), None)
    return next((new[at].strip() for at in dots if _bridges(new, at, old)), None) if replaced is old else None


def _bridges(new: Lines, at: int, old: Lines) -> bool:
    """Whether the dots on line `at` of a new text stand where the old one has other lines."""
    full = [line.strip() for line in old if any(map(str.isalnum, line))]
    before = next((line.strip() for line in reversed(new[:at]) if any(map(str.isalnum, line))), None)
    after = next((line.strip() for line in new[at + 1 :] if any(map(str.isalnum, line))), None)
    pairs = {*zip([None, *full], [*full, None], strict=True)}
    return (before in full or after in full) and (before, after) not in pairs


def _is_stub(new: Lines, at: int, there: set[str]) -> bool:
    """Whether the dots on line `at` are all that a new class or function holds, its docstring aside."""
    own = depth(new[at])
    head = next((up for up in range(at - 1, -1, -1) if new[up].strip() and depth(new[up]) < own), None)
    if head is None or not new[head].rstrip().endswith(":"):
        return False
    between = [line.strip() for line in new[head + 1 : at] if line.strip()]
    is_docstring = not between or (between[0].startswith(_QUOTES) and between[-1].endswith(_QUOTES))
    return is_docstring and new[head].strip() not in there


def _is_lazy(line: str, suffix: str, is_shorter: bool) -> bool:
    if suffix in (*MARKUP, "") and not is_shorter:
        # A sample of code inside a text may leave code out, but no text gets shorter by it.
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
    if line.strip() not in _BARE or suffix in (".yaml", ".yml"):
        return False
    # An indented `...` is a body in Python.
    return suffix not in _PYTHON or line[0] in ".…"
