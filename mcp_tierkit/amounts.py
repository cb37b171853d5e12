"""Amounts and foreign texts as a person reads them, the same on a terminal and on a page.

What `exact` writes is for files and records.
"""

from __future__ import annotations

from decimal import Decimal

UNKNOWN = "unknown"
FIGURES = 4
_PLACES = ((1000, 0), (1, 2), (Decimal("0.0001"), 4), (Decimal("0.000001"), 6))


def figure(value: Decimal) -> str:
    """A decimal in plain digits, without zeros at its end: `1.5`, `20`."""
    return f"{value.normalize():f}"


def exact(nanousd: int, places: int = 0) -> str:
    """Dollars to the last nanodollar, for files and records: `0.0031`. With `places`, no fewer of them: `1.00`."""
    whole, point, part = figure(Decimal(nanousd).scaleb(-9)).partition(".")
    return f"{whole}.{part:0<{places}}" if point or places else whole


def dollars(nanousd: int | None, figures: int = 0) -> str:
    """An amount with as many places as its size deserves: $1,234, $12.30, $0.0431, -$0.0013; None is `unknown`.

    With `figures` it has as many of them as there are, where they add up to other amounts beside it: $0.0006474.
    """
    if nanousd is None:
        return UNKNOWN
    if nanousd == 0:
        return "$0"
    amount = Decimal(abs(nanousd)).scaleb(-9)
    places = next((places for least, places in _PLACES if amount >= least), 9)
    shown = f"{amount:,.{places}f}"
    if (more := figures - 1 - amount.adjusted()) > places:
        whole, rest = f"{amount:,.{min(more, 9)}f}".split(".")
        shown = f"{whole}.{rest.rstrip('0'):0<{places}}"
    return f"{'-' if nanousd < 0 else ''}${shown}"


def dollars_of(usd: str | None) -> str:
    """Four figures of a decimal string of dollars, as replies and receipts have it."""
    return dollars(None if usd is None else round(Decimal(usd).scaleb(9)), FIGURES)


def count(number: int, of: str = "") -> str:
    """A number with commas, and what it counts: `1 task`, `1,204 tasks`."""
    return f"{number:,}{_of(number, of)}"


def _of(number: int, of: str) -> str:
    return f" {of}{'' if number == 1 else 's'}" if of else ""


def percent(share: float | None) -> str:
    """A share of 0 to 1; what is not known is a dash."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"


def tokens(number: int, of: str = "") -> str:
    """Tokens in three digits or so, and what they are called: 950, 12.3 k, `4.5 M tokens`."""
    for size, unit in ((1_000_000_000, " G"), (1_000_000, " M"), (10_000, " k")):
        if abs(number) >= size:
            scaled = number / (1000 if unit == " k" else size)
            return f"{scaled:.{0 if abs(scaled) >= 100 else 1}f}{unit}{_of(number, of)}"
    return count(number, of)


def plain(text: str, most: int | None = None, instead: str = "?") -> str:
    """A text from elsewhere, which steers no terminal and turns no direction of writing; cut where it is longer."""
    line = text if most is None or len(text) <= most else text[: most - 1] + "…"
    return "".join(char if char.isprintable() else instead for char in line)
