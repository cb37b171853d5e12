"""What the tiers were last used at: the prices that the calls of a ledger were made at."""

from __future__ import annotations

import sqlite3
from typing import get_args

from mcp_tierkit.pins import LastCall
from mcp_tierkit.types import TierName

NEWEST = 100_000
"""Calls that are looked through: a tier that made none would otherwise be looked for in all there ever were."""


def last_calls(conn: sqlite3.Connection, *, newest: int = NEWEST) -> dict[TierName, LastCall]:
    """The newest call of each tier that has its price on its row; a tier that made none lately is left out."""
    since = conn.execute("select at from calls order by at desc limit 1 offset ?", (newest - 1,)).fetchone()
    query = """select at, routed_model as model, routed_price as price from calls
        where tier = ? and routed_price is not null and at >= ? order by at desc limit 1"""
    found = {tier: conn.execute(query, (tier, since["at"] if since else "")).fetchone() for tier in get_args(TierName)}
    return {tier: LastCall(**row) for tier, row in found.items() if row}
