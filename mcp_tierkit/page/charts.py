"""Charts as SVG that stretches with its place: positions in percent, so that no text is ever scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from math import floor, log10

from mcp_tierkit.amounts import count, dollars, tokens
from mcp_tierkit.ledger.spending import DayTier
from mcp_tierkit.ledger.told import Share
from mcp_tierkit.page.parts import Html, dollars_alike, el

TIERS = ("cheap", "mid", "strong")
MOST_COLUMNS = 62
HEIGHT = 100.0
GIANT, MOST_GIANTS = 5, 3
"""So many times as high as the next column is a giant, which would flatten all others; so many are cut at most."""
CUT_AT = 12.0
_SIZES = ((10**9, " G"), (10**6, " M"), (10**3, " k"))


@dataclass(frozen=True)
class Unit:
    """What columns are as high as: of a row what is known and what is not, a figure as text, and those of an axis."""

    of: Callable[[DayTier], tuple[int, int]]
    text: Callable[[int], str]
    axis: Callable[[Sequence[int]], list[str]]


def _tokens_text(number: int) -> str:
    return f"{tokens(number, 'token')}"


def _tokens_axis(marks: Sequence[int]) -> list[str]:
    """Marks of an axis in one unit, that of the greatest."""
    size, unit = next((one for one in _SIZES if max(marks) >= one[0]), (1, ""))
    return [f"{Decimal(mark) / size:,f}{unit}" if mark else "0" for mark in marks]


DOLLARS = Unit(lambda row: (row.cost_nanousd, row.unknown_nanousd), dollars, dollars_alike)
QUOTA = Unit(lambda row: (row.quota_tokens, 0), _tokens_text, _tokens_axis)
TOKENS = Unit(lambda row: (row.tokens, 0), _tokens_text, _tokens_axis)


def percent_of(part: float, whole: float) -> str:
    """A position or a length in an SVG."""
    return f"{100 * part / whole if whole else 0:.3f}%"


def bar(share: float, klass: str) -> Html:
    """One bar that takes a share, 0 to 1, of its place."""
    track = el("rect", klass="track", width="100%", height="100%", rx=3)
    return _svg("bar", track, el("rect", klass=klass, width=percent_of(min(share, 1), 1), height="100%", rx=3))


def stack(parts: Sequence[tuple[str, float]]) -> Html:
    """One bar of parts, each a class and a share, that fill it from left to right."""
    drawn, at = [], 0.0
    for klass, share in parts:
        drawn.append(el("rect", klass=klass, x=percent_of(at, 1), width=percent_of(share, 1), height="100%"))
        at += share
    return _svg("bar stack", el("rect", klass="track", width="100%", height="100%"), *drawn)


def span(low: int, high: int, least: int, most: int) -> Html:
    """A range on an axis from `least` to `most`: full from the line at zero to its near end, and pale from there on."""
    whole = most - least or 1
    klass = "loss" if high <= 0 else "gain" if low >= 0 else "even"
    zero, near = percent_of(-least, whole), min(high, 0) or max(low, 0)
    parts = [el("rect", klass="track", width="100%", y="35%", height="30%", rx=2)]
    if low != high:
        parts.append(_part(f"{klass} pale", low, high, least, most))
    if near:
        parts.append(_part(klass, min(near, 0), max(near, 0), least, most))
    return _svg("span", *parts, el("line", klass="zero", x1=zero, x2=zero, y1="0", y2="100%"))


def _part(klass: str, low: int, high: int, least: int, most: int) -> Html:
    """One part of a range, wide enough to be seen."""
    whole = most - least or 1
    width = max(high - low, whole / 100)
    left = low if low >= 0 else high - width
    return el("rect", klass=klass, x=percent_of(left - least, whole), width=percent_of(width, whole), y="10%",
              height="80%", rx=2)  # fmt: skip


def columns(
    title: str, days: Sequence[DayTier], since: date, until: date, unit: Unit, untold: Mapping[str, int] | None = None
) -> Html:
    """Amounts over time, each column a day, a week or a month, stacked by tier.

    `untold` are the calls of a day of which not even the most that they can have cost is known.

    Columns that are many times as high as all others are cut at the top, and have their amount written above.
    """
    found = list(_columns(days, since, until, unit))
    sums = [sum(column.values()) for _, column in found]
    missing = _missing(untold or {}, since, until)
    giants = _giants(sums)
    top = _ceiling(max((whole for at, whole in enumerate(sums) if at not in giants), default=0))
    slot = 100 / len(found)
    width = min(slot * 0.74, 9.0)
    drawn = [
        el(
            "g",
            el("rect", klass="hit", x=f"{slot * at:.3f}%", width=f"{slot:.3f}%", y="0", height="100%"),
            _stacked(column, slot * at + (slot - width) / 2, width, sums[at] if at in giants else top),
            _cut(slot * at + slot / 2, width, unit.text(sums[at])) if at in giants else None,
            el("text", "?", x=f"{slot * (at + 0.5):.3f}%", y="99%", text_anchor="middle")
            if missing[at] and not sums[at]
            else None,
            data_tip=_tip(label, column, unit, missing[at]),
        )
        for at, (label, column) in enumerate(found)
    ]
    grid = [el("line", klass="grid", x1="0", x2="100%", y1=f"{y}%", y2=f"{y}%") for y in (0, 25, 50, 75, 100)]
    scale = [el("span", text) for text in unit.axis([round(top * part / 4) for part in (4, 3, 2, 1, 0)])]
    plot = _svg("plot", *grid, *drawn, tabindex="0", aria_label=f"{title}; arrow keys read column by column")
    how = _each(since, until) + (" A column with a gap is higher than the chart." if giants else "")
    return el(
        "div",
        el("p", how, klass="readout", aria_live="polite"),
        el("div", scale, klass="scale", aria_hidden="true"), plot,
        _svg("ticks", *_names([label for label, _ in found])), klass="columns cut" if giants else "columns",
    )  # fmt: skip


def _giants(sums: Sequence[int]) -> frozenset[int]:
    """The few columns beside which no other could be seen."""
    order = sorted((at for at, whole in enumerate(sums) if whole), key=lambda at: -sums[at])
    for many in range(1, min(MOST_GIANTS, len(order) - 1) + 1):
        if sums[order[many - 1]] > GIANT * sums[order[many]]:
            return frozenset(order[:many])
    return frozenset()


def _cut(middle: float, width: float, text: str) -> list[Html]:
    """The gap of a column that is cut, and its amount above it, which stays within the chart."""
    anchor = "start" if middle < CUT_AT else "end" if middle > 100 - CUT_AT else "middle"
    x = {"start": middle - width / 2, "middle": middle, "end": middle + width / 2}[anchor]
    # Wider than the column, so that its lines are cut as well.
    left = middle - width / 2 - 0.2
    gap = el("rect", klass="gap", x=f"{left:.3f}%", width=f"{width + 0.4:.3f}%", y="12%", height="3%")
    return [gap, el("text", text, x=f"{x:.3f}%", y="-0.4em", text_anchor=anchor)]


def tier_class(tier: str) -> str:
    return f"t-{tier}" if tier in TIERS else "t-other"


def by_tier(shares: Iterable[Share]) -> list[Share]:
    """From the cheap tier to the strong one."""
    return sorted(shares, key=lambda share: TIERS.index(share.tier) if share.tier in TIERS else len(TIERS))


def _svg(klass: str, *inside: Html, **more: object) -> Html:
    drawn: dict[str, object] = {"role": "img"} if more else {"aria_hidden": "true"}
    return el("svg", *inside, klass=klass, width="100%", **drawn, **more)


def _parts(column: dict[str, int]) -> list[str]:
    return [tier for tier in (*TIERS, "other", "unknown") if column.get(tier)]


def _tip(label: str, column: dict[str, int], unit: Unit, missing: int) -> str:
    parts = _parts(column)
    told = []
    if parts:
        whole = unit.text(sum(amount for tier, amount in column.items() if tier != "unknown"))
        told.append(f"{whole} ({'; '.join(f'{_worst(tier)} {unit.text(column[tier])}' for tier in parts)})")
    if missing:
        told.append(f"{count(missing, 'call')} of unknown cost")
    return f"{label}: {' and '.join(told) or 'nothing'}"


def _missing(untold: Mapping[str, int], since: date, until: date) -> list[int]:
    """The same stretches of time as those of `_columns`, with how many calls nobody knows anything of."""
    sums: dict[date, int] = {}
    day = since
    while day <= until:
        start = _start(day, since, until)
        sums[start] = sums.get(start, 0) + untold.get(f"{day}", 0)
        day += timedelta(days=1)
    return list(sums.values())


def _stacked(column: dict[str, int], left: float, width: float, top: int) -> Iterator[Html]:
    """The parts of one column, the first at the bottom."""
    base = HEIGHT
    for tier in _parts(column):
        height = HEIGHT * column[tier] / top
        base -= height
        klass = "t-unknown" if tier == "unknown" else tier_class(tier)
        yield el(
            "rect", klass=klass, x=f"{left:.3f}%", width=f"{width:.3f}%", y=f"{base:.3f}%", height=f"{height:.3f}%"
        )


def _worst(tier: str) -> str:
    return "not known, at most" if tier == "unknown" else tier


def _columns(days: Sequence[DayTier], since: date, until: date, unit: Unit) -> Iterator[tuple[str, dict[str, int]]]:
    """Each stretch of time by name with what each tier came to in it, stretches without calls included."""
    sums: dict[date, dict[str, int]] = {}
    day = since
    while day <= until:
        sums.setdefault(_start(day, since, until), {})
        day += timedelta(days=1)
    for row in days:
        found = date.fromisoformat(row.day)
        if not since <= found <= until:
            continue
        column = sums[_start(found, since, until)]
        tier = row.tier if row.tier in TIERS else "other"
        known, unknown = unit.of(row)
        column[tier] = column.get(tier, 0) + known
        column["unknown"] = column.get("unknown", 0) + unknown
    for start, column in sums.items():
        yield _label(start, since, until), column


def _step(since: date, until: date) -> str:
    span = (until - since).days + 1
    return "day" if span <= MOST_COLUMNS else "week" if span <= 7 * MOST_COLUMNS else "month"


def _start(day: date, since: date, until: date) -> date:
    step = _step(since, until)
    if step == "day":
        return day
    return max(since, day - timedelta(days=day.weekday()) if step == "week" else day.replace(day=1))


def _label(start: date, since: date, until: date) -> str:
    step = _step(since, until)
    if step == "month":
        return f"{start:%b %Y}"
    return f"{start.day} {start:%b}" + (f" {start.year}" if since.year != until.year else "")


def _each(since: date, until: date) -> str:
    step = _step(since, until)
    each = {"day": "One column is one day", "week": "One column is one week", "month": "One column is one month"}[step]
    return f"{each}, in UTC. Point at a column, tap it, or use the arrow keys, to read it."


def _names(labels: Sequence[str]) -> Iterator[Html]:
    """Some labels, each below the middle of its column; those at the ends of many columns stay within the chart."""
    slot = 100 / len(labels)
    for at in _ticks(len(labels)):
        is_narrow, is_first, is_last = slot < 10, at == 0, at == len(labels) - 1
        anchor = "start" if is_narrow and is_first else "end" if is_narrow and is_last else "middle"
        x = {"start": 0.0, "end": 100.0, "middle": slot * (at + 0.5)}[anchor]
        yield el("text", labels[at], x=f"{x:.3f}%", y="1.1em", text_anchor=anchor)


def _ticks(columns: int) -> list[int]:
    """Five at most, the first and the last among them, as far from each other as whole columns allow."""
    steps = min(columns - 1, 4) or 1
    return sorted({round(at * (columns - 1) / steps) for at in range(steps + 1)})


def _ceiling(most: int) -> int:
    """The next round amount, of which a quarter is round too."""
    if most <= 4:
        return 4
    size = int(10 ** floor(log10(most)))
    return next(size * step // 10 for step in (10, 12, 16, 20, 24, 32, 40, 60, 80, 100) if size * step >= most * 10)


def legend(names: Sequence[tuple[str, str]]) -> Html:
    """What the colours stand for, each a class and words."""
    return el(
        "ul", [el("li", el("i", klass=klass) if klass else None, words) for klass, words in names], klass="legend"
    )
