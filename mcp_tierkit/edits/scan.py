"""A reply taken apart, line by line and once through: blocks, diffs, fenced files."""

from __future__ import annotations

from pathlib import PurePosixPath

from mcp_tierkit.edits import blocks, envelope, udiff, whole
from mcp_tierkit.edits.names import MARKUP, SHELL_FILES, SHELLS, Known, NameRefused, info_name, name_line
from mcp_tierkit.edits.pieces import Block, Lines, Piece, Whole
from mcp_tierkit.edits.whole import Fence

_PEEK = 4


def scan(lines: Lines, known: Known, files: dict[str, str], most: int) -> list[Piece]:
    """The edits of a reply, in order, with the name that stands beside each. Stops once there are more than `most`."""
    scanner = _Scanner(lines, known, files)
    at = 0
    while at < len(lines) and len(scanner.pieces) <= most:
        at = scanner.step(at)
    return scanner.pieces


class _Scanner:
    def __init__(self, lines: Lines, known: Known, files: dict[str, str]) -> None:
        self.lines = lines
        self.known = known
        self.files = files
        self.pieces: list[Piece] = []
        self.prose: list[str] = []
        self.spoken: frozenset[str] = frozenset()
        self.around: Fence | None = None
        self.above: str | None = None
        self.fences: dict[str, list[str]] = {}

    def step(self, at: int) -> int:
        line = self.lines[at]
        if blocks.HEAD.match(line):
            return self._block(at)
        if blocks.STRAY.match(line):
            self._add(Piece(self._name_above(), trouble="a marker stands alone: a block has lost its other markers"))
            return at + 1
        if self.around is not None and self.around.closes(line):
            self.around = None
            return at + 1
        if envelope.is_stray(line):
            self._add(Piece(trouble="the end of a patch stands alone: its '*** Begin Patch' line is missing"))
            return at + 1
        if envelope.starts(self.lines, at):
            return self._envelope(at, envelope.patch_end(self.lines, at))
        if fence := whole.open_fence(line):
            return self._fence(at, fence)
        if udiff.starts_diff(self.lines, at):
            end = udiff.diff_end(self.lines, at + 1)
            is_cut = end == len(self.lines) and self.lines[-1].startswith("+")
            return self._diff(at, end, is_fenced=False, cut="its last line may be" if is_cut else "")
        self.prose.append(line)
        return at + 1

    def _add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.prose.clear()

    def _block(self, at: int) -> int:
        head = blocks.HEAD.match(self.lines[at])
        body = blocks.read_body(self.lines, at)
        name = name_line(head[3], self.known) if head else None
        mentions = self.known.mentioned(self._nearest()) if self.prose else set()
        self._add(
            Block(
                name or self._name_above(), frozenset(mentions), trouble=body.trouble, search=body.search, new=body.new
            )
        )
        self.above = None
        return body.next

    def _fence(self, at: int, fence: Fence) -> int:
        ahead = [line for line in self.lines[at + 1 : at + 12] if line.strip()][:_PEEK]
        if any(blocks.HEAD.match(line) for line in ahead):
            self.above = self._name_above() or info_name(fence.info, self.known)
            self.around = fence
            return at + 1
        first = next(
            (at + 1 + skip for skip in range(12) if "".join(self.lines[at + 1 + skip : at + 2 + skip]).strip()), at
        )
        if first > at and envelope.starts(self.lines, first, fence.indent):
            close = whole.first_close(self.lines, at + 1, fence)
            return self._envelope(at + 1, close, fence.indent) + (close is not None)
        language = fence.info.split(" ")[0].casefold()
        if language in ("diff", "patch", "udiff") or (first > at and udiff.opens_diff(self.lines, first, fence.indent)):
            close = whole.first_close(self.lines, at + 1, fence)
            cut = "its fence is not closed" if close is None else ""
            return self._diff(at + 1, len(self.lines) if close is None else close, cut=cut, indent=fence.indent) + 1
        return self._whole(at + 1, fence, language)

    def _diff(self, start: int, end: int, *, is_fenced: bool = True, cut: str = "", indent: str = "") -> int:
        name = self._name_above()
        if cut:
            self._add(Piece(name, trouble=f"the diff is cut off: {cut}"))
            return end
        lines = whole.dedented(self.lines[start:end], indent)
        patches = udiff.read_patches(lines, self.known, name, is_fenced=is_fenced)
        if not patches:
            self._add(Piece(name, trouble="the block is marked as a diff and holds no changed lines"))
        for patch in patches:
            self._add(patch)
        return end

    def _envelope(self, start: int, end: int | None, indent: str = "") -> int:
        if end is None:
            self._add(Piece(trouble="the patch is cut off: it does not say where it ends"))
            return len(self.lines)
        for patch in envelope.read_envelope(whole.dedented(self.lines[start:end], indent), self.known):
            self._add(patch)
        return end

    def _whole(self, start: int, fence: Fence, language: str) -> int:
        name = self._name_above() or info_name(fence.info, self.known)
        label = self._label(start) if name is None else None
        self.spoken |= self.known.mentioned("\n".join(self.prose))
        target = self._target(name or (label and name_line(label, self.known)))
        is_shell = language in SHELLS and not (name or "").endswith(SHELL_FILES)
        close, trouble = whole.find_close(self.lines, start, fence, not is_shell and self._holds_fences(target, fence))
        if close is None:
            trouble = "the block is cut off: its fence is not closed"
        lines = whole.dedented(self.lines[start : len(self.lines) if close is None else close], fence.indent)
        if label is not None and name_line(label, self.known) == label:
            lines, label, name = lines[1:], None, label
        if not is_shell and self._has_markers(lines, target):
            trouble = trouble or "markers of a block or a merge conflict stand in the middle of a code block"
        named = name or (label and name_line(label, self.known))
        self._add(
            Whole(named, self.spoken, trouble=trouble, lines=lines, label=label, info=fence.info, is_shell=is_shell)
        )
        return len(self.lines) if close is None else close + 1

    def _has_markers(self, lines: Lines, target: str | None) -> bool:
        marked = [line for line in lines if blocks.STRAY.match(line)]
        return bool(marked) and not set(marked) <= set(self.files.get(target or "", "").splitlines())

    def _label(self, start: int) -> str | None:
        """The first line of a fence if it is a path and nothing else, or a comment that holds such a path."""
        first = "".join(self.lines[start : start + 1]).strip()
        name = name_line(first, self.known)
        if name is None:
            return None
        is_comment = first.startswith(("#", "//", "/*", "<!--", "--"))
        return first if name == first or (is_comment and (name in self.known.paths or "/" in name)) else None

    def _target(self, name: str | None) -> str | None:
        if name is not None:
            try:
                return self.known.resolve(name)[0]
            except NameRefused:
                return name
        only = self.spoken if len(self.spoken) == 1 else frozenset(self.known.paths)
        return next(iter(only)) if len(only) == 1 else None

    def _holds_fences(self, target: str | None, fence: Fence) -> bool:
        if fence.info.casefold() in ("markdown", "md", "mdx"):
            return True
        if target is None:
            return False
        if target not in self.fences:
            old = self.files.get(target, "").split("\n")
            self.fences[target] = [line.removesuffix("\r") for line in old if whole.open_fence(line.removesuffix("\r"))]
        is_markup = PurePosixPath(target).suffix.lower() in MARKUP
        return is_markup or any(fence.meets(line) for line in self.fences[target])

    def _nearest(self) -> str:
        return next((line for line in reversed(self.prose) if line.strip()), "")

    def _name_above(self) -> str | None:
        return name_line(self._nearest(), self.known) or self.above
