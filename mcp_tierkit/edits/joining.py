"""A reply that was cut off, and its continuation, as one text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mcp_tierkit.edits import blocks
from mcp_tierkit.edits.names import Known, name_line
from mcp_tierkit.edits.whole import MARKUP_INFO, Fence, open_fence

SEAM = "<<<<<<< CUT OFF HERE, and the continuation does not say how it goes on"
"""A line between two texts that do not certainly fit. The reader takes what stands before it and refuses the rest."""

_PROSE = re.compile(
    r"^ {0,3}[*_(]{0,3}(?:Continu(?:ing|ation|ed)\b|Here(?:'s| is| are|’s) |Sure[,!.]|Certainly[,!.]|Of course[,!.]"
    r"|O[Kk](?:ay)?[,!.]|Sorry[,! ]|Apolog\w+|(?:I|We)(?:'ll| will|'m| am|’ll|’m) |Let me |Picking up |Resuming "
    r"|(?:And )?[Tt]he (?:rest|remainder|remaining) ).{0,300}$"
)
_HEADER = re.compile(r"^(?:\+\+\+ (?:b/)?|--- (?:a/)?|\*\*\* (?:Update|Add|Delete) File: )")
_MOST_OVERLAP = 2_000
_FEW = 12
_NO_FILES = Known(())


def join_reply(first: str, more: str) -> str:
    """The whole of a reply that was cut off after `first` and was then continued with `more`.

    The continuation may go on exactly where the cut was, repeat the last lines or the last part of one, open the
    fence or name the file again, and talk before it does so. Where more than one reading of that is likely, the two
    texts are kept apart by a line with which read_reply refuses what it cannot know.
    """
    if not first or not more.strip():
        return first + more
    joined = _joined(_Cut(first), more)
    return f"{first}\n{SEAM}\n{more}" if joined is None else joined


def _joined(cut: _Cut, more: str) -> str | None:
    text, has_prelude = _answer(more)
    if text is None:
        return None
    lines = text.split("\n")
    opening = _opens_again(cut, lines) if cut.is_open else None
    if opening is not None:
        return _resumed(cut, lines[opening + 1 :])
    if cut.is_open and _names_another(cut, lines):
        return None
    spoken = next((at for at, line in enumerate(lines) if line.strip()), 0)
    if cut.is_open and _is_name(cut, lines[spoken]):
        return _overlapped(cut, lines[spoken + 1 :])
    if _PROSE.match(lines[spoken]) and not any(lap.is_telling for lap in _overlaps(cut, lines)):
        if not cut.is_open and not cut.partial:
            return cut.text + text  # Talk between two blocks.
        return _overlapped(cut, _without_blank_lines(lines[spoken + 1 :]))
    if has_prelude and (cut.is_open or cut.partial):
        return _overlapped(cut, _without_blank_lines(lines))
    return _continued(cut, lines)


def _answer(more: str) -> tuple[str | None, bool]:
    """The text after any reasoning, and whether there was some; no text if the reasoning itself does not end."""
    if not more.lstrip().startswith("<think>"):
        return more, False
    _, end, rest = more.partition("</think>")
    return (rest if end else None), True


@dataclass(frozen=True)
class _Cut:
    """The first text, and what is open at its end."""

    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def bare(self) -> list[str]:
        return [line.rstrip() for line in self.lines]

    @property
    def partial(self) -> str:
        """The last line, if it has no newline."""
        return self.lines[-1]

    @cached_property
    def fence(self) -> tuple[int, Fence] | None:
        opened: tuple[int, Fence] | None = None
        for at, line in enumerate(self.lines):
            if opened is None:
                fence = open_fence(line)
                opened = (at, fence) if fence else None
            elif opened[1].closes(line):
                opened = None
        return opened

    @cached_property
    def is_open(self) -> bool:
        marks = (line for line in reversed(self.lines) if blocks.HEAD.match(line) or blocks.TAIL.match(line))
        last = next(marks, "")
        return self.fence is not None or blocks.HEAD.match(last) is not None

    @cached_property
    def names(self) -> frozenset[str]:
        """The files that the text names, on a line of their own or in the header of a diff."""
        bare = (_HEADER.sub("", line) for line in self.lines if len(line) < 300)
        return frozenset(name for line in bare if (name := name_line(line, _NO_FILES)))

    @cached_property
    def said(self) -> frozenset[str]:
        return frozenset(line.strip() for line in self.lines if _is_telling([line]))

    @cached_property
    def starts(self) -> frozenset[str]:
        """The lines with which the reply and its fences begin."""
        heads = [next((line for line in self.lines if line.strip()), "")]
        heads += [self.lines[at + 1] for at, line in enumerate(self.lines[:-1]) if open_fence(line)]
        return frozenset(line.strip() for line in heads if any(map(str.isalnum, line)))


@dataclass(frozen=True)
class _Overlap:
    """The first `count` lines of a continuation repeat the end of the text before; `joined` says it once."""

    count: int
    joined: str
    is_telling: bool


def _overlaps(cut: _Cut, lines: list[str]) -> Iterator[_Overlap]:
    """The first few ways in which `lines` may begin with the end of `cut`."""
    part, tail = cut.partial, cut.bare[:-1]
    bare = [line.rstrip() for line in lines[:_MOST_OVERLAP]]
    found = 0
    for count in range(1, min(len(cut.lines), len(lines), _MOST_OVERLAP) + (1 if part else 0)):
        whole = count - bool(part)
        if part and not lines[whole].startswith(part):
            continue
        if whole and (tail[-whole] != bare[0] or tail[len(tail) - whole :] != bare[:whole]):
            continue
        said = lines[: min(whole, _FEW)] + ([part] if part else [])
        is_telling = _is_telling(said, is_part=bool(part)) and (bool(part) or not _goes_on_so(tail, bare, whole))
        yield _Overlap(count, cut.text[: len(cut.text) - len(part)] + "\n".join(lines[whole:]), is_telling)
        found += 1
        if found == _FEW:
            return


def _goes_on_so(tail: list[str], lines: list[str], count: int) -> bool:
    """Whether the lines are repeated anyway, before the cut or after it: then once more may be meant."""
    return tail[-2 * count : -count] == tail[-count:] or lines[count : 2 * count] == lines[:count]


def _is_telling(lines: list[str], *, is_part: bool = False) -> bool:
    """Whether lines say so much that no text has them twice in a row by chance."""
    whole = lines[: len(lines) - is_part]
    if any(blocks.HEAD.match(line) or blocks.TAIL.match(line) or _opens_code(line) for line in whole):
        return True
    text = "".join(lines)
    is_indented = is_part and not whole and lines[0][:1] in (" ", "\t")
    # A part of a line that comes again after whole lines that come again.
    is_run = is_part and bool(whole) and bool(lines[-1].strip())
    return sum(map(str.isalnum, text)) >= (3 if is_run else 4 if is_indented else 8) and sum(
        map(str.isalpha, text)
    ) >= (3 if is_run else 4)


def _opens_code(line: str) -> bool:
    fence = open_fence(line)
    return fence is not None and fence.info.casefold() not in MARKUP_INFO


def _overlapped(cut: _Cut, lines: list[str]) -> str | None:
    """The join by what is said twice, if exactly one such overlap tells enough."""
    telling = [lap for lap in _overlaps(cut, lines) if lap.is_telling]
    return telling[0].joined if len(telling) == 1 else None


def _continued(cut: _Cut, lines: list[str]) -> str | None:
    """The join without any talk or fence between: exact, or with lines said twice."""
    found = list(_overlaps(cut, lines))
    bare = _without_blank_lines(lines)
    if any(lap.is_telling for lap in found):
        return _overlapped(cut, lines)
    if len(bare) < len(lines) and any(_overlaps(cut, bare)):
        return _overlapped(cut, bare)
    if found and not (len(found) == found[0].count == 1 and _completes_a_marker(cut.partial.strip(), lines[0])):
        return None
    if _is_doubtful(cut, lines, bare):
        return None
    return cut.text + "\n".join(lines)


def _completes_a_marker(part: str, line: str) -> bool:
    """Whether a run of one marker character goes on, rather than begins anew."""
    if not part or part.strip(part[0]) or part[0] not in "`~<>=":
        return False
    run = len(line) - len(line.lstrip(part[0]))
    return 0 < run < 3 if part[0] in "`~" else len(part) + run == 7


def _is_doubtful(cut: _Cut, lines: list[str], bare: list[str]) -> bool:
    """Whether an exact continuation would more likely be one that begins a line, a block or the reply again."""
    line = bare[0].strip()
    if cut.is_open and not cut.partial.strip() and not lines[0].strip():
        return True  # A blank line of the text, or one before the answer begins.
    if cut.partial.strip() and open_fence(lines[0]) is not None:
        return True
    if any(lap.is_telling and lap.count > 1 for skip in range(1, 7) for lap in _overlaps(cut, lines[skip:])):
        return True
    late = [old.strip() for old in cut.lines[-8:] if old.strip()][-3:]
    if not cut.partial and line in cut.said and (line in late or (cut.is_open and line in cut.starts)):
        return True
    return cut.fence is not None and _doubtful_fence(cut, cut.fence[1], bare)


def _doubtful_fence(cut: _Cut, fence: Fence, bare: list[str]) -> bool:
    if fence.closes(bare[0]):
        # A bare fence may open the block again: then another one closes it, and none is open before that.
        return _Cut("\n".join(bare[1:])).fence is not None or any(lap.is_telling for lap in _overlaps(cut, bare[1:]))
    return open_fence(bare[0]) is not None and fence.info.casefold() not in MARKUP_INFO


def _opens_again(cut: _Cut, lines: list[str]) -> int | None:
    """The line on which a continuation opens the fence again, with nothing before it but talk and the file's name."""
    for at, line in enumerate(lines[:_FEW]):
        fence = open_fence(line)
        if fence is not None and cut.fence is not None:
            is_same = fence.mark == cut.fence[1].mark and fence.info == cut.fence[1].info
            return at if is_same and fence.info else None
        if line.strip() and not (_PROSE.match(line) or _is_name(cut, line)):
            return None
    return None


def _is_name(cut: _Cut, line: str) -> bool:
    name = name_line(line, _NO_FILES)
    return name is not None and name in cut.names


def _names_another(cut: _Cut, lines: list[str]) -> bool:
    """Whether a fence is opened soon, below a name or talk, that cannot be the one that is open."""
    full = [line for line in lines[:_FEW] if line.strip()]
    at = next((at for at, line in enumerate(full) if open_fence(line)), None)
    if not at or cut.fence is None or cut.fence[1].closes(full[at]):
        return False
    return all(_PROSE.match(line) or name_line(line, _NO_FILES) for line in full[:at])


def _resumed(cut: _Cut, lines: list[str]) -> str | None:
    """The join where the continuation begins a line of its own, below a fence that it opened again."""
    body = lines[1:] if lines and _is_name(cut, lines[0]) and cut.fence and cut.fence[0] > 0 else lines
    found = list(_overlaps(cut, body))
    if found or cut.partial:
        return _overlapped(cut, body)
    line = next((line.strip() for line in body if line.strip()), "")
    return None if not line or line in cut.said or line in cut.starts else cut.text + "\n".join(body)


def _without_blank_lines(lines: list[str]) -> list[str]:
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    return lines[first:]
