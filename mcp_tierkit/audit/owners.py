"""To which file an answer belongs that stands in several: streamed rows, resumed and forked sessions, replays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mcp_tierkit.audit.money import Pricer
from mcp_tierkit.audit.sheet import Call, Sheet, merged

Kept = dict[int, tuple[Call, int | None]]
"""The calls of one sheet that are counted, by their position, each with its cost."""
_NEVER = "~"


class _Owner(NamedTuple):
    """`rank` is lower for what is no copy, then for no side conversation, then for the session begun first."""

    rank: tuple[bool, bool, int]
    position: int
    call: Call


def begun(sheet: Sheet) -> str:
    """When its first call or prompt was."""
    times = [call.at for call in sheet.calls] + [prompt.at for prompt in sheet.prompts]
    return min(times, default="~")


def lineage(order: Sequence[Sheet], *, subs_only: bool) -> dict[str, str]:
    """The session at the top of each that has a parent; of side conversations only, where so asked."""
    parents = {sheet.session: sheet.parent for sheet in order if sheet.parent and (sheet.is_sub or not subs_only)}
    tops: dict[str, str] = {}
    for session in parents:
        top, passed = session, {session}
        while (above := parents.get(top)) and above not in passed:
            passed.add(above)
            top = above
        tops[session] = top
    return tops


class Sorted(NamedTuple):
    """What each sheet keeps, in order, how many rows in other files were copies, and how many calls have a time that
    cannot be."""

    kept: list[Kept]
    copies: int
    misdated: int


def sort_out(order: Sequence[Sheet], pricer: Pricer, since: str, until: str = _NEVER) -> Sorted:
    """The calls from `since` on, each in one sheet. Those not before `until` are counted apart."""
    tops = lineage(order, subs_only=False)
    owners: dict[str, _Owner] = {}
    alike: dict[str, str] = {}
    copies = misdated = 0
    for at, sheet in enumerate(order):
        top = tops.get(sheet.session, sheet.session)
        for position, call in enumerate(sheet.calls):
            key = call.key
            if key.startswith("~"):  # A branch that does not name its parent still says the same at the same moment.
                key = alike.setdefault(call.at + key, top + key)
            mine = _Owner((call.is_copy, call.is_sub, at), position, call)
            held = owners.get(key)
            copies += held is not None
            owners[key] = mine if held is None else _joined(held, mine)
    kept: list[Kept] = [{} for _ in order]
    while owners:  # What is sorted out is let go of at once: there may be hundreds of thousands.
        rank, position, call = owners.popitem()[1]
        if call.at >= since and call.at >= until:
            misdated += 1
        elif call.at >= since:
            kept[rank[2]][position] = call, pricer.cost(call.model, call.tokens, call.widest) if call.is_known else None
    return Sorted([dict(sorted(own.items())) for own in kept], copies, misdated)


def _joined(one: _Owner, other: _Owner) -> _Owner:
    """The first of two files keeps the answer, with the most that either says of it and at the earlier time."""
    first, second = sorted((one, other), key=lambda owner: owner.rank)
    return first._replace(call=merged(first.call, second.call))
