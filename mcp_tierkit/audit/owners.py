"""To which file an answer belongs that stands in several: streamed rows, resumed and forked sessions, replays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mcp_tierkit.audit.money import Pricer
from mcp_tierkit.audit.sheet import Call, Sheet, merged

_NEVER = "~"
_ABSENT = -1


_PLACES = 40
"""Bits of an owner, which is one number: the place of an answer in its file, then of the file, then its rank, lower for
what is no copy, then for no side conversation. The lower of two owners keeps an answer."""


_PLACE = (1 << _PLACES) - 1


class Kept:
    """The calls of one sheet that are counted, by their position, each with its cost."""

    __slots__ = ("_calls", "_costs", "_other")

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._costs: list[int | None] = []
        self._other: dict[int, Call] | None = None

    def keep(self, position: int, other: Call | None, cost: int | None) -> None:
        """Count a call, as `other` has it where another file said more of it."""
        if not self._costs:
            self._costs = [_ABSENT] * len(self._calls)
        self._costs[position] = cost
        if other is not None:
            self._other = self._other or {}
            self._other[position] = other

    def get(self, position: int) -> tuple[Call, int | None] | None:
        cost = self._costs[position] if 0 <= position < len(self._costs) else _ABSENT
        if cost == _ABSENT:
            return None
        return (self._other or {}).get(position) or self._calls[position], cost

    def values(self) -> Iterator[tuple[Call, int | None]]:
        return (held for position in range(len(self._costs)) if (held := self.get(position)) is not None)


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
    owners: dict[str, int] = {}
    joined: dict[str, Call] = {}
    alike: dict[str, str] = {}
    copies = misdated = 0

    def told_at(owner: int) -> Call:
        return order[owner >> _PLACES & _PLACE].calls[owner & _PLACE]

    for at, sheet in enumerate(order):
        top = tops.get(sheet.session, sheet.session)
        for position, call in enumerate(sheet.calls):
            key = call.key
            if key.startswith("~"):  # A branch that does not name its parent still says the same at the same moment.
                key = alike.setdefault(call.at + key, top + key)
            mine = ((call.is_copy << 1 | call.is_sub) << _PLACES | at) << _PLACES | position
            held = owners.setdefault(key, mine)
            if held == mine:
                continue
            copies += 1
            # The first of two files keeps the answer, with the most that either says of it and at the earlier time.
            before = joined.pop(key, None) or told_at(held)
            owners[key] = min(mine, held)
            whole = merged(call, before) if mine < held else merged(before, call)
            if whole != told_at(owners[key]):
                joined[key] = whole
    kept = [Kept(sheet.calls) for sheet in order]
    for key, owner in owners.items():
        other = joined.get(key)
        call = other or told_at(owner)
        if call.at >= since and call.at >= until:
            misdated += 1
        elif call.at >= since:
            cost = pricer.cost(call.model, call.tokens, call.widest) if call.is_known else None
            kept[owner >> _PLACES & _PLACE].keep(owner & _PLACE, other, cost)
    return Sorted(kept, copies, misdated)
