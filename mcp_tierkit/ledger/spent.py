"""What calls cost as reports tell it: a subscription's calls are quota, so neither priced nor of unknown price."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from pydantic import Field

from mcp_tierkit.ledger.migrations import UNPRICED
from mcp_tierkit.ledger.money import SPEND
from mcp_tierkit.types import Spend, Tokens


class Spent(Spend):
    """Dollars, and beside them what is no dollars. `unpriced_calls` leaves a subscription's calls out."""

    unbounded_calls: int = Field(default=0, description="Of the unpriced, those whose most is not known either.")
    quota_calls: int = Field(default=0, description="Calls within a subscription.")
    quota_tokens: Tokens = Field(default=0, description="Of these, in and out: a part of the other tokens.")


UNPRICED_NOT_QUOTA = f"{UNPRICED} and billing is not 'subscription'"
"""Of a call: that its dollars are unknown, and that there are some."""
_READ = "coalesce(input_tokens, 0) + coalesce(cached_tokens, 0) + coalesce(cache_write_tokens, 0)"
OF_CALLS = f"""{SPEND.replace(UNPRICED, UNPRICED_NOT_QUOTA)},
    count(case when {UNPRICED_NOT_QUOTA} and reserved_nanousd is null then call_id end) as unbounded_calls,
    count(case when billing = 'subscription' then call_id end) as quota_calls,
    coalesce(sum(case when billing = 'subscription' then {_READ} + coalesce(output_tokens, 0) end), 0)
        as quota_tokens"""
"""The columns of a Spent over rows of `calls`."""

_QUOTA = "filter (where billing = 'subscription')"
_SPECIAL = {
    "unpriced_calls": "sum(unpriced_calls) filter (where billing <> 'subscription')",
    "unknown_nanousd": "sum(unknown_nanousd) filter (where billing <> 'subscription')",
    "unbounded_calls": "sum(unbounded_calls) filter (where billing <> 'subscription')",
    "quota_calls": f"sum(calls) {_QUOTA}",
    "quota_tokens": f"sum(input_tokens + output_tokens) {_QUOTA}",
}
SUMMED = ", ".join(f"coalesce({_SPECIAL.get(name, f'sum({name})')}, 0) as {name}" for name in Spent.model_fields)
"""The columns of a Spent over the sums that triggers keep."""


def together(spends: Iterable[Spent]) -> Spent:
    """The sum of several."""
    found = tuple(spends)
    return Spent(**{name: sum(getattr(one, name) for one in found) for name in Spent.model_fields})


def spent_of(row: sqlite3.Row) -> Spent:
    return Spent(**{name: row[name] for name in Spent.model_fields})
