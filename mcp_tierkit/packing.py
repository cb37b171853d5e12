"""Which text goes to the model: whole files, labelled as data, within a budget of tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mcp_tierkit.types import Record


class Packed(Record):
    """Fenced file texts ready for a prompt, and the names of what did not fit."""

    editable: str
    context: str
    left_out: tuple[str, ...] = ()


def fence(path: str, text: str) -> str:
    """One file as labelled data; the fence is longer than any run of backticks inside."""
    inside = max(map(len, re.findall("`+", text)), default=0)
    ticks = "`" * max(3, inside + 1)
    end = "" if text.endswith("\n") or not text else "\n"
    return f"{path}\n{ticks}\n{text}{end}{ticks}\n"


def pack(
    editable: Mapping[str, str], context: Mapping[str, str], *, budget: int, count: Callable[[str], int]
) -> Packed:
    """Files to edit first and whole, then context files in order while they fit.

    An editable file that does not fit is named in `left_out`; callers refuse such a task,
    since a model that has not seen a file cannot edit it. `count` measures tokens.
    """
    shown, used, left_out = [], 0, []
    for path, text in editable.items():
        piece = fence(path, text)
        used += count(piece)
        shown.append(piece)
        if used > budget:
            left_out.append(path)
    extra = []
    for path, text in context.items():
        piece = fence(path, text)
        size = count(piece)
        if used + size > budget:
            left_out.append(path)
            continue
        used += size
        extra.append(piece)
    return Packed(editable="\n".join(shown), context="\n".join(extra), left_out=tuple(left_out))
