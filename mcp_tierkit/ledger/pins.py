"""What the tiers were last used at: the prices that the calls of a ledger were made at."""

from __future__ import annotations

import sqlite3
from typing import get_args

from mcp_tierkit.pins import LastCall
from mcp_tierkit.types import TierName


def last_calls(conn: sqlite3.Connection) -> dict[TierName, LastCall]:
    """The newest call of each tier that has its price on its row; a tier that made none is left out."""
    query = """select at, routed_model as model, routed_price as price from calls
        where tier = ? and routed_price is not null order by at desc limit 1"""
    found = {tier: conn.execute(query, (tier,)).fetchone() for tier in get_args(TierName)}
    return {tier: LastCall(**row) for tier, row in found.items() if row}
