"""What a caller itself paid for tasks of ours, where its transcript is on this machine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from mcp_tierkit.audit.bill import Sum, delegated
from mcp_tierkit.audit.lines import by_kind
from mcp_tierkit.audit.money import Pricer
from mcp_tierkit.audit.owners import begun, sort_out
from mcp_tierkit.prices import Price
from mcp_tierkit.transcripts.files import Found, find, roots
from mcp_tierkit.transcripts.lines import opened
from mcp_tierkit.transcripts.read import read_one
from mcp_tierkit.types import NanoUsd, Record

_BLOCK = 1 << 20
_ID = re.compile(rb"t\d{12}")


class CallerFigures(Record):
    """The caller's own calls for one task, from the first that asked for it to the one that read the last reply.

    `cost_nanousd` is at API prices, and null where a model's price is unknown.
    """

    task_id: str
    calls: int
    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    cost_nanousd: NanoUsd | None


def caller_figures(
    task_ids: Collection[str], env: Mapping[str, str], find_price: Callable[[str], Price | None], *, since: float = 0
) -> dict[str, CallerFigures]:
    """Figures of those tasks that a transcript tells of. Files that changed before `since` are not looked at.

    Only files with one of the ids in them are read as transcripts: 500 MB are searched in about a second.
    """
    wanted = {task_id.encode() for task_id in task_ids}
    files = [file for file in find(roots(env), Counter(), since=since) if _mentions(file, wanted)]
    order = sorted((read_one(file) for file in files), key=lambda sheet: (begun(sheet), sheet.path))
    kept = sort_out(order, Pricer(find_price), "").kept
    found = delegated(list(zip(order, kept, strict=True)))
    return {task_id: _figures(task_id, found[task_id]) for task_id in task_ids if task_id in found}


def _figures(task_id: str, spent: Sum) -> CallerFigures:
    cost = None if spent.unpriced else spent.cost
    return CallerFigures(task_id=task_id, calls=spent.calls, cost_nanousd=cost, **by_kind(spent.tokens))


def _mentions(file: Found, wanted: set[bytes]) -> bool:
    longest = max(map(len, wanted), default=0)
    try:
        with opened(file.path) as content:
            tail = b""
            while block := content.read(_BLOCK):
                piece = tail + block
                if not wanted.isdisjoint(_ID.findall(piece)):
                    return True
                tail = piece[-longest:]
    except OSError:
        return file.client == "opencode"  # A session of its is no file of its own: it is read to be searched.
    return False
