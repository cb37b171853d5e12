"""Edits written as models write them, well and badly: three forms, the ways in which each goes wrong, and mutilations.

Whatever is done to a reply here leaves what it means either plain or uncertain. So the files after it are known, and
an edit reader may apply it or refuse it; any other result is a wrong write.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Files = dict[str, str]
Form = Literal["search/replace", "diff", "whole"]
FORMS: tuple[Form, ...] = ("search/replace", "diff", "whole")
TICKS = "`" * 3
HEAD, DIVIDER, TAIL = "<" * 7 + " SEARCH", "=" * 7, ">" * 7 + " REPLACE"


@dataclass(frozen=True)
class Part:
    """One fenced edit of one file. `old` and `new` are the texts it stands for, as lines."""

    form: Form
    path: str
    body: tuple[str, ...]
    info: str
    open: str = TICKS
    close: str = TICKS
    name: str | None = None

    @property
    def text(self) -> str:
        name = [] if self.name is None else [self.name]
        opening = [self.open + self.info] if self.open else []
        closing = [self.close] if self.close else []
        return "\n".join([*name, *opening, *self.body, *closing])


@dataclass(frozen=True)
class Case:
    """A reply in parts, the files it is about, and what they hold afterwards."""

    before: Files
    after: Files
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "Here is the change.\n\n" + "\n\n".join(part.text for part in self.parts) + "\n\nThat is all.\n"


def write(form: Form, before: Files, after: Files) -> Case:
    """The change from `before` to `after` in one form, without a fault."""
    parts: list[Part] = []
    for path in sorted(after):
        old, new = before.get(path), after[path]
        if old != new:
            parts += _PARTS[form](path, (old or "").splitlines(), new.splitlines(), is_new=old is None)
    return Case(before, after, tuple(parts))


def _whole(path: str, _: list[str], new: list[str], *, is_new: bool) -> list[Part]:
    del is_new
    ticks = TICKS + "`" if any(line.lstrip().startswith(TICKS) for line in new) else TICKS
    return [Part("whole", path, tuple(new), _language(path), ticks, ticks, path)]


def _diff(path: str, old: list[str], new: list[str], *, is_new: bool) -> list[Part]:
    heads = ("/dev/null" if is_new else f"a/{path}", f"b/{path}")
    return [Part("diff", path, tuple(difflib.unified_diff(old, new, *heads, lineterm="")), "diff")]


def _blocks(path: str, old: list[str], new: list[str], *, is_new: bool) -> list[Part]:
    if is_new:
        return [_block(path, [], new)]
    parts = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(2):
        start, end, start_new, end_new = group[0][1], group[-1][2], group[0][3], group[-1][4]
        while _count(old, old[start:end]) > 1 and (start > 0 or end < len(old)):
            wider = max(0, start - 1), min(len(old), end + 1)
            start_new -= start - wider[0]
            end_new += wider[1] - end
            start, end = wider
        parts.append(_block(path, old[start:end], new[start_new:end_new]))
    return parts


def _block(path: str, old: list[str], new: list[str]) -> Part:
    return Part("search/replace", path, (HEAD, *old, DIVIDER, *new, TAIL), _language(path), name=path)


def _count(lines: list[str], wanted: list[str]) -> int:
    return sum(lines[at : at + len(wanted)] == wanted for at in range(len(lines) - len(wanted) + 1))


def _language(path: str) -> str:
    return {"py": "python", "md": "markdown", "js": "javascript"}.get(path.rsplit(".", 1)[-1], "")


_PARTS = {"search/replace": _blocks, "diff": _diff, "whole": _whole}

Distort = Callable[[Case, random.Random], str | None]
"""The text of a case, distorted; None where the case offers nothing to distort in this way."""


def _with(case: Case, change: Callable[[Part], Part]) -> str:
    return replace(case, parts=tuple(change(part) for part in case.parts)).text


def _plain(case: Case, _: random.Random) -> str:
    return case.text


def _fence_language(case: Case, chance: random.Random) -> str:
    diffs, others = ("diff", "patch", "udiff", "", "text", "Diff"), ("", "py", "text", "Python", "python3", "c++")
    return _with(case, lambda part: replace(part, info=chance.choice(diffs if part.form == "diff" else others)))


def _fence_kind(case: Case, chance: random.Random) -> str:
    kinds = [("`" * 4, "`" * 4), ("~~~~", "~~~~"), ("<source>", "</source>"), (TICKS + " ", TICKS + "  ")]
    opening, closing = chance.choice(kinds)

    def fenced(part: Part) -> Part:
        bare = len(part.open) > 3 and opening.startswith(TICKS)
        return part if bare else replace(part, open=opening, close=closing)

    return _with(case, fenced)


def _no_fence(case: Case, _: random.Random) -> str:
    return _with(case, lambda part: replace(part, open="", info="", close=""))


def _indented_fence(case: Case, chance: random.Random) -> str:
    indent = " " * chance.choice((2, 3, 4))

    def shifted(part: Part) -> Part:
        body = tuple(indent + line if line or chance.random() < 0.5 else line for line in part.body)
        return replace(part, open=indent + part.open, close=indent + part.close, body=body)

    return _with(case, shifted)


def _name_marked(case: Case, chance: random.Random) -> str | None:
    marks = ("`{}`", "**{}**", "**`{}`**:", "### {}", "# {}", "File: {}", "// {}", "./{}", "a/{}", "{}:", "1. `{}`",
             "<!-- {} -->", "  {}  ", "- **{}** (modified)", "Update `{}` as follows:", '"{}"')  # fmt: skip
    mark = chance.choice(marks)
    return _with(case, lambda part: replace(part, name=mark.format(part.path) if part.name else None))


def _name_elsewhere(case: Case, chance: random.Random) -> str | None:
    kind = chance.randrange(5)

    def named(part: Part) -> Part:
        path = part.path
        if kind == 0:
            return replace(part, name=None, info=f"{part.info or 'text'} {path}")
        if kind == 1:
            return replace(part, name=None, info=f"{part.info or 'text'}:{path}")
        if kind == 2:
            return replace(part, name=None, body=(path, *part.body))
        if kind == 3:
            return replace(part, name=f"{path}\n\n")
        return replace(part, name=f"I changed `{path}` for you, and nothing else:\n")

    return None if case.parts[0].form == "diff" else _with(case, named)


def _comment_name(case: Case, _: random.Random) -> str | None:
    if case.parts[0].form == "diff":
        return None
    return _with(case, lambda part: replace(part, name=None, body=(f"# {part.path}", *part.body)))


def _base_name(case: Case, _: random.Random) -> str | None:
    if case.parts[0].form == "diff":
        return _with(case, lambda part: replace(part, body=tuple(_based(line, part.path) for line in part.body)))
    return _with(case, lambda part: replace(part, name=part.path.rsplit("/", 1)[-1]))


def _based(line: str, path: str) -> str:
    return line.replace(path, path.rsplit("/", 1)[-1]) if line.startswith(("--- ", "+++ ")) else line


def _crlf(case: Case, _: random.Random) -> str:
    return case.text.replace("\n", "\r\n")


def _trailing_space(case: Case, chance: random.Random) -> str:
    def spaced(part: Part) -> Part:
        return replace(part, body=tuple(line + " " * chance.choice((0, 0, 1, 2)) for line in part.body))

    return _with(case, spaced)


def _marked(line: str) -> bool:
    return line in (HEAD, DIVIDER, TAIL) or line.startswith(("--- ", "+++ ", "@@"))


def _shifted(case: Case, chance: random.Random) -> str | None:
    """All content further in, or out as far as it goes; of a whole file that would be another text."""
    depth = chance.choice((-8, -4, 4, 8))

    def shift(line: str, part: Part) -> str:
        if _marked(line) or not line.strip():
            return line
        mark, text = (line[:1], line[1:]) if part.form == "diff" else ("", line)
        return mark + (" " * depth + text if depth > 0 else text[-depth:])

    fits = all(
        depth > 0 or not line.strip() or _marked(line) or line[part.form == "diff" :].startswith(" " * -depth)
        for part in case.parts
        for line in part.body
    )
    if not fits or case.parts[0].form == "whole":
        return None
    return _with(case, lambda part: replace(part, body=tuple(shift(line, part) for line in part.body)))


def _only(form: Form, change: Callable[[Part, random.Random], Part]) -> Distort:
    def distort(case: Case, chance: random.Random) -> str | None:
        return _with(case, lambda part: change(part, chance)) if case.parts[0].form == form else None

    return distort


def _headers(choose: Callable[[random.Random, str], str]) -> Distort:
    def change(part: Part, chance: random.Random) -> Part:
        return replace(part, body=tuple(choose(chance, line) if line.startswith("@@") else line for line in part.body))

    return _only("diff", change)


def _wrong_numbers(chance: random.Random, _: str) -> str:
    a, b, c, d = (chance.randrange(1, most) for most in (900, 30, 900, 30))
    return f"@@ -{a},{b} +{c},{d} @@"


def _near_numbers(chance: random.Random, at: str) -> str:
    old, new = at.split()[1:3]
    off = chance.choice((-3, -2, -1, 1, 2, 3))
    first, _, rest = old[1:].partition(",")
    return f"@@ -{max(0, int(first) + off)},{rest or 1} {new} @@"


def _bare_header(chance: random.Random, _: str) -> str:
    return chance.choice(("@@ ... @@", "@@", "@@ @@", "@@ def f(self): @@", "@@ -,+ @@", "@@ -0,0 +0,0 @@"))


def _bare_blanks(part: Part, _: random.Random) -> Part:
    return replace(part, body=tuple(line if line.strip() else "" for line in part.body))


def _no_header(part: Part, _: random.Random) -> Part:
    return replace(part, name=part.path, body=part.body[2:])


def _git_header(part: Part, _: random.Random) -> Part:
    path = part.path
    return replace(part, body=(f"diff --git a/{path} b/{path}", "index 1234567..89abcde 100644", *part.body))


def _unprefixed(part: Part, chance: random.Random) -> Part:
    old, new = chance.choice((("", ""), ("./", "./"), ("old/", "new/"), ("", "b/"), ("a/", "")))
    heads = [
        line.replace(" a/", f" {old}").replace(" b/", f" {new}") if line.startswith(("--- a/", "+++ b/")) else line
        for line in part.body[:2]
    ]
    return replace(part, body=(*heads, *part.body[2:]))


def _enveloped(part: Part, chance: random.Random) -> Part:
    if part.body[0] == "--- /dev/null":
        body = (f"*** Add File: {part.path}", *part.body[3:])
    else:
        hunks = [chance.choice(("@@", "@@ ")) if line.startswith("@@") else line for line in part.body[2:]]
        body = (f"*** Update File: {part.path}", *hunks)
    fence = chance.choice((("", ""), (TICKS, TICKS)))
    info = chance.choice(("", "diff", "patch", "text")) if fence[0] else ""
    return replace(part, info=info, open=fence[0], close=fence[1], body=("*** Begin Patch", *body, "*** End Patch"))


def _prose(case: Case, chance: random.Random) -> str:
    talk = chance.choice(
        (
            "Sure! First I looked at `other.py` and config.toml, then:\n\n1. the first\n2. the second\n\n",
            "I'll use a --- here and a +++ there, <<< and >>>.\n\n> a quotation\n\n",
            "Before:\n\n    old code, indented\n\nAfter:\n\n",
            "### Plan\n- read\n- write\n\n---\n\n",
        )
    )
    parts = ("\n\n" + chance.choice(("And:", "Next, the other part.", "---", "***")) + "\n\n").join(
        part.text for part in case.parts
    )
    return talk + parts + "\n\nThis keeps the rest as it was.\n- one\n+ two\n"


def _more_fences(case: Case, chance: random.Random) -> str:
    extra = chance.choice(("bash\npytest -q", "console\n$ make test\nok", "\nsome output", "json\n{}", "python\nf()"))
    sample = f"{TICKS}{extra}\n{TICKS}\n\n"
    after = f"\nRun it:\n\n{TICKS}sh\npython -m pytest\n{TICKS}\n"
    return chance.choice((f"For example:\n\n{sample}", "")) + case.text + after


def _elided(case: Case, chance: random.Random) -> str | None:
    dots = chance.choice(("...", "    # ... existing code ...", "# rest of the code unchanged", "// ...", "    ..."))
    form = case.parts[0].form

    def shorten(part: Part) -> Part:
        body = list(part.body)
        if form == "whole" and len(body) > 9:
            at = chance.randrange(1, len(body) - 4)
            body[at : at + chance.randint(3, len(body) - at)] = [dots]
        elif form == "diff" and any(line.startswith(" ") for line in body[3:]):
            places = [at for at, line in enumerate(body) if at > 2 and line.startswith(" ")]
            body[places[0] : places[0] + 1] = [f" {dots}"]
        elif form == "search/replace":
            body = _both_sides(body, lambda lines: [lines[0], dots, *lines[2:]])
        return replace(part, body=tuple(body))

    return _with(case, shorten)


def _both_sides(body: list[str], change: Callable[[list[str]], list[str]]) -> list[str]:
    """`change` on the lines with which both sides of a block begin, if there are some and others follow."""
    middle = body.index(DIVIDER)
    old, new = body[1:middle], body[middle + 1 : -1]
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    if same < 2 or same == len(old):
        return body
    return [HEAD, *change(old[:same]), *old[same:], DIVIDER, *change(old[:same]), *new[same:], TAIL]


def _dropped_context(case: Case, chance: random.Random) -> str | None:
    """Of a whole file that would be another text."""

    def drop(part: Part) -> Part:
        body = list(part.body)
        if part.form == "search/replace":
            body = _both_sides(body, lambda lines: lines[:-1])
        else:
            places = [at for at in range(1, len(body) - 1) if _is_between(body[at - 1 : at + 2])]
            if places:
                del body[chance.choice(places)]
        return replace(part, body=tuple(body))

    return None if case.parts[0].form == "whole" else _with(case, drop)


def _is_between(lines: list[str]) -> bool:
    """Whether a line of context stands between two lines of the old file: without it these do not follow."""
    before, line, after = (line[:1] for line in lines)
    return before in (" ", "-") and line == " " and after in (" ", "-") and not lines[0].startswith("---")


def _twice(case: Case, chance: random.Random) -> str:
    again = chance.choice(case.parts)
    return case.text + "\nOnce more:\n\n" + again.text + "\n"


def _no_last_newline(case: Case, _: random.Random) -> str:
    return "\n\n".join(part.text for part in case.parts)


def _tabs(case: Case, _: random.Random) -> str | None:
    """Of a whole file that would be another text."""

    def tabbed(line: str) -> str:
        bare = line.lstrip(" ")
        depth = len(line) - len(bare)
        return "\t" * (depth // 4) + " " * (depth % 4) + bare

    def change(part: Part) -> Part:
        skip = part.form == "diff"
        return replace(part, body=tuple(line[:skip] + tabbed(line[skip:]) for line in part.body))

    return None if case.parts[0].form == "whole" else _with(case, change)


def _thinking(case: Case, chance: random.Random) -> str:
    first = chance.choice((case.parts[0].text, "Let me see.", TICKS + "python\nx = 1", HEAD + "\nno\n" + DIVIDER))
    return f"<think>\n{first}\n\nNo, better so.\n</think>\n\n{case.text}"


def _cut_off(case: Case, chance: random.Random) -> str:
    """The reply ends inside its last part."""
    last = case.parts[-1].text
    start = case.text.rindex(last)
    skip = len(last) - len("\n".join([*case.parts[-1].body, case.parts[-1].close]))
    return case.text[: start + chance.randrange(skip, len(last) - len(case.parts[-1].close))]


def _no_close(case: Case, _: random.Random) -> str:
    return _with(case, lambda part: replace(part, close="") if part is case.parts[-1] else part)


def _numbered(case: Case, _: random.Random) -> str | None:
    """Lines with the numbers under which they were shown; of a diff nobody writes that."""

    def number(part: Part) -> Part:
        skip = part.form == "search/replace"
        lines = (line if skip and _marked(line) else f"{at:4} | {line}" for at, line in enumerate(part.body, 1))
        return replace(part, body=tuple(lines))

    return None if case.parts[0].form == "diff" else _with(case, number)


def _only_part(case: Case, chance: random.Random) -> str | None:
    """A whole file of which only a stretch around the change is given."""
    if case.parts[0].form != "whole":
        return None

    def stretch(part: Part) -> Part:
        size = max(1, len(part.body) // chance.choice((5, 8, 20)))
        at = chance.randrange(max(1, len(part.body) - size))
        return replace(part, body=part.body[at : at + size])

    return _with(case, stretch)


def _other_context(case: Case, chance: random.Random) -> str | None:
    """A line of context in other words; of a whole file that would be another text."""

    def change(part: Part) -> Part:
        body = list(part.body)
        if part.form == "search/replace":
            body = _both_sides(body, lambda lines: [lines[0] + "  # note", *lines[1:]])
        else:
            places = [at for at, line in enumerate(body) if line.startswith(" ") and line.strip()]
            if places:
                body[chance.choice(places)] += "  # note"
        return replace(part, body=tuple(body))

    return None if case.parts[0].form == "whole" else _with(case, change)


DISTORTIONS: dict[str, Distort] = {
    "plain": _plain, "fence language": _fence_language, "fence kind": _fence_kind, "no fence": _no_fence,
    "indented fence": _indented_fence, "name marked": _name_marked, "name elsewhere": _name_elsewhere,
    "name in a comment": _comment_name, "base name": _base_name, "crlf": _crlf, "trailing space": _trailing_space,
    "shifted indent": _shifted, "wrong numbers": _headers(_wrong_numbers), "near numbers": _headers(_near_numbers),
    "bare header": _headers(_bare_header), "bare blank lines": _only("diff", _bare_blanks),
    "no file header": _only("diff", _no_header), "git header": _only("diff", _git_header),
    "other prefixes": _only("diff", _unprefixed), "patch envelope": _only("diff", _enveloped), "prose": _prose,
    "more fences": _more_fences, "elided": _elided, "dropped context": _dropped_context, "block twice": _twice,
    "no last newline": _no_last_newline, "tabs": _tabs, "thinking": _thinking, "cut off": _cut_off,
    "fence not closed": _no_close, "numbered lines": _numbered, "only a part": _only_part,
    "other context": _other_context,
}  # fmt: skip
LOSES_BYTES = frozenset({"trailing space", "crlf", "shifted indent", "tabs"})
"""Distortions that destroy white space at the end of lines, or tabs, so that these are not compared afterwards."""

Continue = Callable[[str, int, "Opened", random.Random], str]
"""How a reply goes on that was cut at a character."""


class Opened(NamedTuple):
    """The name and the fence line of the part in which a reply was cut; empty between the parts."""

    name: str = ""
    fence: str = ""


def opened(case: Case, at: int) -> Opened:
    start = 0
    for part in case.parts:
        start = case.text.index(part.text, start)
        inside = start + len(part.text) - len("\n".join([*part.body, part.close]))
        if inside <= at <= start + len(part.text) - len(part.close):
            return Opened(part.name or "", part.open + part.info)
        start += len(part.text)
    return Opened()


def _back(text: str, at: int, lines: int) -> int:
    start = text.rfind("\n", 0, at) + 1
    for _ in range(lines):
        start = text.rfind("\n", 0, max(0, start - 1)) + 1
    return start


def _some_again(most: int, before: str = "") -> Continue:
    def goes_on(text: str, at: int, _: Opened, chance: random.Random) -> str:
        return before + text[_back(text, at, chance.randint(0, most)) :]

    return goes_on


def _fence_again(before: str = "", *, named: bool = False) -> Continue:
    def goes_on(text: str, at: int, under: Opened, chance: random.Random) -> str:
        overlap = chance.choice((0, 1, 3))
        opening = (f"{under.name}\n" if named else "") + f"{under.fence}\n" if under.fence else ""
        return before + opening + text[_back(text, at, overlap) if overlap else at :]

    return goes_on


CONTINUATIONS: dict[str, Continue] = {
    "exact": lambda text, at, under, chance: text[at:],
    "partial line again": _some_again(0),
    "a line again": lambda text, at, under, chance: text[_back(text, at, 1) :],
    "lines again": _some_again(9),
    "blank lines first": _some_again(3, "\n\n"),
    "prose": _some_again(3, "Continuing:\n\n"),
    "prose and rest": lambda text, at, under, chance: "Here is the rest of the file:\n\n" + text[at:],
    "fence again": _fence_again(),
    "name and fence again": _fence_again(named=True),
    "prose and fence again": _fence_again("Continuing from there:\n\n"),
    "thinking": _some_again(2, "<think>\nWhere was I?\n</think>\n"),
    "block from its start": lambda text, at, under, chance: text[
        text.rfind(under.fence, 0, at) if under.fence else 0 :
    ],
    "all from the start": lambda text, at, under, chance: text,
    "crlf": lambda text, at, under, chance: text[_back(text, at, chance.randint(0, 2)) :].replace("\n", "\r\n"),
}

NOISE = (HEAD, DIVIDER, TAIL, TICKS, TICKS + "python", TICKS + "diff", "`" * 4, "<source>", "</source>", "--- a/a.py",
         "+++ b/../x.py", "+++ /dev/null", "--- /dev/null", "@@ -1,3 +1,3 @@", "@@ ... @@", "/etc/passwd", "../../x.py",
         "a\x00.py", "c:\\x.py", "", "...", "# rest unchanged", "\\ No newline at end of file", "rename from a.py",
         "rename to ../b.py", "~/x.py", "**", "`", "QUESTION: why?", "\ufeff", "\ud800", "\r", "    ", "-x.py",
         "*** Begin Patch", "*** End Patch", "*** Update File: ../x.py", "*** Delete File: /etc/passwd",
         "*** Add File: \x00", "*** Move to: ../../y.py", "*** End of File", "<think>", "</think>",
         "diff --git a/a b/b")  # fmt: skip
_BAD_PATHS = ("../", "/", "..\\", "C:\\", "\x00", "./../", "~/", "//", "\\\\host\\", "-", "a/../../", " ", "\u202e")


_MARKERS = (TICKS, "<<<", "===", ">>>", "---", "+++", "@@", "***")


def mutated(reply: str, other: str, paths: tuple[str, ...], chance: random.Random) -> str:
    """`reply` after one to five mutilations; `other` is spliced in at times."""
    lines = reply.split("\n")
    for _ in range(chance.randint(1, 5)):
        lines = _MUTATIONS[chance.randrange(len(_MUTATIONS))](lines, other, paths, chance) or [""]
    return "\n".join(lines)


def _mutate_path(lines: list[str], _: str, paths: tuple[str, ...], chance: random.Random) -> list[str]:
    path = chance.choice(paths)
    bad = chance.choice(_BAD_PATHS)
    place = chance.randrange(len(path) + 1)
    changed = chance.choice((bad + path, path[:place] + bad + path[place:], bad))
    return [line.replace(path, changed) for line in lines]


def _mutate_character(lines: list[str], _: str, __: tuple[str, ...], chance: random.Random) -> list[str]:
    at = chance.randrange(len(lines))
    line = lines[at]
    spot = chance.randrange(len(line) + 1)
    fresh = chance.choice("`<>=+-@ /\\.~\t\x00é*#:\r")
    return [*lines[:at], line[:spot] + fresh + line[spot + chance.randint(0, 1) :], *lines[at + 1 :]]


def _mutate_marker(lines: list[str], _: str, __: tuple[str, ...], chance: random.Random) -> list[str]:
    marks = [at for at, line in enumerate(lines) if line.startswith(_MARKERS)]
    if not marks:
        return lines
    at = chance.choice(marks)
    return lines[:at] + lines[at + 1 :]


def _mutate_swap(lines: list[str], _: str, __: tuple[str, ...], chance: random.Random) -> list[str]:
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines = list(lines)
    lines[a], lines[b] = lines[b], lines[a]
    return lines


def _mutate_splice(lines: list[str], other: str, _: tuple[str, ...], chance: random.Random) -> list[str]:
    rest = other.split("\n")
    return lines[: chance.randrange(len(lines) + 1)] + rest[chance.randrange(len(rest)) :]


def _mutate_run(lines: list[str], _: str, __: tuple[str, ...], chance: random.Random) -> list[str]:
    """Some lines in a row go, come twice, or come elsewhere."""
    at = chance.randrange(len(lines))
    run = lines[at : at + chance.randint(1, 8)]
    rest = lines[:at] + lines[at + len(run) :]
    to = chance.randrange(len(rest) + 1)
    return chance.choice((rest, lines[:at] + run + lines[at:], rest[:to] + run + rest[to:]))


def _mutate_noise(lines: list[str], _: str, __: tuple[str, ...], chance: random.Random) -> list[str]:
    at = chance.randrange(len(lines) + 1)
    return [*lines[:at], chance.choice(NOISE), *lines[at + chance.randint(0, 1) :]]


def _mutate_cut(lines: list[str], _: str, __: tuple[str, ...], chance: random.Random) -> list[str]:
    text = "\n".join(lines)
    at = chance.randrange(len(text) + 1)
    return (text[:at] if chance.random() < 0.7 else text[at:]).split("\n")


_MUTATIONS = (_mutate_path, _mutate_character, _mutate_marker, _mutate_swap, _mutate_splice, _mutate_run, _mutate_noise,
              _mutate_cut)  # fmt: skip
