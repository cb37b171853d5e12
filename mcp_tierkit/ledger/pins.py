"""What the tiers were last used at: the prices that the calls of a ledger were made at, and how long they took."""

from __future__ import annotations

import sqlite3
from statistics import median_high
from typing import get_args

from mcp_tierkit.pins import LastCall
from mcp_tierkit.types import TierName

NEWEST = 100_000
"""Calls that are looked through: a tier that made none would otherwise be looked for in all there ever were."""
MEDIAN_OF = 200
"""Calls of a tier that its usual time is taken from: engines and machines change."""


def last_calls(conn: sqlite3.Connection, *, newest: int = NEWEST) -> dict[TierName, LastCall]:
    """The newest call of each tier that has its price on its row; a tier that made none lately is left out.

    Calls that only tried whether the model answers are no trial of it.
    """
    since = _since(conn, newest)
    query = """select at, routed_model as model, routed_price as price from calls
        where tier = ? and routed_price is not null and stage <> 'doctor' and at >= ?
        order by at desc limit 1"""
    found = {tier: conn.execute(query, (tier, since)).fetchone() for tier in get_args(TierName)}
    return {tier: LastCall(**row) for tier, row in found.items() if row}


def usual_ms(conn: sqlite3.Connection, tier: TierName, model: str) -> tuple[int, int] | None:
    """What a call of a tier's model takes, and over how many calls that is the median; None where it made none lately.

    Calls that failed are left out, and those that only tried whether the model answers.
    """
    rows = conn.execute(
        """select duration_ms from calls where tier = ? and routed_model = ? and at >= ? and status = 'settled'
            and stage <> 'doctor' and duration_ms is not null order by at desc limit ?""",
        (tier, model, _since(conn, NEWEST), MEDIAN_OF),
    ).fetchall()
    return (median_high(row["duration_ms"] for row in rows), len(rows)) if rows else None


def _since(conn: sqlite3.Connection, newest: int) -> str:
    """When the oldest of the newest calls was made; all of them are newer than an empty text."""
    oldest = conn.execute("select at from calls order by at desc limit 1 offset ?", (newest - 1,)).fetchone()
    return str(oldest["at"]) if oldest else ""
