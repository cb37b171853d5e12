"""Amounts as a person reads them, the same on a terminal and on a page. Exact ones are for files and records."""

from __future__ import annotations

from decimal import Decimal

UNKNOWN = "unknown"
_PLACES = ((1000, 0), (1, 2), (Decimal("0.0001"), 4), (Decimal("0.000001"), 6))


def dollars(nanousd: int | None) -> str:
    """An amount with as many places as its size deserves: $1,234, $12.30, $0.0431, -$0.0013; None is `unknown`."""
    if nanousd is None:
        return UNKNOWN
    if nanousd == 0:
        return "$0"
    amount = Decimal(abs(nanousd)).scaleb(-9)
    places = next((places for least, places in _PLACES if amount >= least), 9)
    return f"{'-' if nanousd < 0 else ''}${amount:,.{places}f}"


def count(number: int, of: str = "") -> str:
    """A number with commas, and what it counts: `1 task`, `1,204 tasks`."""
    plural = "" if not of or number == 1 else "s"
    return f"{number:,}" + (f" {of}{plural}" if of else "")


def percent(share: float | None) -> str:
    """A share of 0 to 1; what is not known is a dash."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"


def tokens(number: int) -> str:
    """Tokens in three digits or so: 950, 12.3 k, 4.56 M."""
    for size, unit in ((1_000_000_000, " G"), (1_000_000, " M"), (10_000, " k")):
        if abs(number) >= size:
            scaled = number / (1000 if unit == " k" else size)
            return f"{scaled:.{0 if abs(scaled) >= 100 else 1}f}{unit}"
    return f"{number:,}"
