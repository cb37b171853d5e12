"""Which text goes to the model within a budget of tokens: whole files, the parts that matter, or outlines.

All of it is labelled as data. Whether a file may be read at all, and whether it holds a secret, the caller settles
before: whatever is handed in here may be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mcp_tierkit.outline import read
from mcp_tierkit.packing.focus import Focus
from mcp_tierkit.packing.sheet import LEFT_OUT, Form, ShapeOf, Sheet, fence
from mcp_tierkit.types import PackedFile, Record

__all__ = ["Packed", "fence", "pack"]

NEIGHBOURS_SHARE = 5
"""Outlines of neighbours take at most one such part of the budget."""
MOST_OUTLINED = 6_000_000
"""Characters of files whose outlines one request may ask for; reading 2 million took 1.3 seconds."""


class Packed(Record):
    """Fenced file texts ready for a prompt, and how much of each file they hold.

    `partial` names the files to edit that are shown in part: the model has not seen the rest of them.
    """

    editable: str
    context: str
    neighbours: str = ""
    files: tuple[PackedFile, ...] = ()
    partial: frozenset[str] = frozenset()

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.files if file.shown == "left_out")


def pack(
    editable: Mapping[str, str],
    context: Mapping[str, str],
    neighbours: Mapping[str, str] | None = None,
    *,
    budget: int,
    count: Callable[[str], int],
    focus: Sequence[str] = (),
    shape_of: ShapeOf = read,
) -> Packed:
    """Files to edit first, then files to read, then outlines of neighbours, each in the order given.

    What does not fit whole is shown in exact lines: those that `focus` (the task, its steps, a failing check's output)
    names or points at, and an outline of the rest. Callers refuse a task whose editable file is left out, since a model
    that has not seen a file cannot edit it. `count` measures tokens; no more than `budget` of them are used. `shape_of`
    reads a file's shape; a caller that does not trust the texts has read them elsewhere.
    """
    aim = Focus.of(focus)
    near = {path: text for path, text in (neighbours or {}).items() if path not in editable and path not in context}
    seen = {path: text for path, text in context.items() if path not in editable}
    left, groups = MOST_OUTLINED, list[list[Sheet]]()
    for group in (editable, seen, near):
        groups.append([])
        for path, text in group.items():
            left -= len(text)
            groups[-1].append(Sheet(path, text, aim, count, shape_of if left >= 0 else _no_shape))
    room = budget
    while True:
        packed = _packed(groups, room, budget // NEIGHBOURS_SHARE)
        used = sum(count(text) for text in (packed.editable, packed.context, packed.neighbours) if text)
        if used <= budget or room <= 0:
            return packed
        room -= used - budget  # Joined pieces can have more tokens than the sum of theirs.


def _no_shape(path: str, text: str) -> None:
    return None


def _packed(groups: Sequence[Sequence[Sheet]], room: int, share: int) -> Packed:
    editable, context, neighbours = groups
    edits = _placed(editable, room)
    reads = _placed(context, room - _size(edits))
    near = _outlined(neighbours, min(share, room - _size(edits) - _size(reads)))
    edits = _filled(editable, edits, room - _size(edits) - _size(reads) - _size(near))
    files = tuple(
        PackedFile(path=sheet.path, shown=form.shown, tokens=form.tokens)
        for group, forms in zip(groups, (edits, reads, near), strict=True)
        for sheet, form in zip(group, forms, strict=True)
    )
    return Packed(
        editable=_joined(edits),
        context=_joined(reads),
        neighbours=_joined(near),
        files=files,
        partial=frozenset(file.path for file in files[: len(edits)] if file.shown in ("parts", "outline")),
    )


def _joined(forms: Sequence[Form]) -> str:
    return "\n".join(form.text for form in forms if form.text)


def _size(forms: Sequence[Form]) -> int:
    """Tokens, with one for the line between two files."""
    return sum(form.tokens + 1 for form in forms if form.text)


def _placed(sheets: Sequence[Sheet], room: int) -> list[Form]:
    """Small files whole before large ones; each of the others keeps room for the least that is worth showing."""
    forms = [sheet.whole for sheet in sheets]
    if _size(forms) <= room:
        return forms
    forms = [LEFT_OUT for _ in sheets]
    least = {index: sheet.least(room) for index, sheet in enumerate(sheets)}
    kept = {index: size + 1 for index, size in least.items() if size is not None}
    while sum(kept.values()) > room:
        del kept[max(kept, key=lambda index: (kept[index], index))]
    for index in sorted(kept, key=lambda index: (sheets[index].whole.tokens, index)):
        spare = room - sum(kept.values()) + kept[index] - 1
        whole = sheets[index].whole
        forms[index] = whole if whole.tokens <= spare else sheets[index].within(spare)
        kept[index] = _size([forms[index]])
    return forms


def _filled(sheets: Sequence[Sheet], forms: Sequence[Form], spare: int) -> list[Form]:
    """Room that nothing else wants goes to files to edit of which the focus says nothing."""
    filled = list(forms)
    for index, (sheet, form) in enumerate(zip(sheets, forms, strict=True)):
        if form.shown == "outline":
            filled[index] = sheet.within(form.tokens + spare, is_filled=True)
            spare -= filled[index].tokens - form.tokens
    return filled


def _outlined(sheets: Sequence[Sheet], room: int) -> list[Form]:
    forms = []
    for sheet in sheets:
        forms.append(sheet.outlined(room - 1))
        room -= _size(forms[-1:])
    return forms
