"""Work that comes again: what running it as a playbook has saved, and what of it is worth one."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_tierkit.config import Config
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.solved import run_totals
from mcp_tierkit.types import Record


class Figures(Record):
    """How a playbook has done in this repository."""

    runs: int = 0
    ok: int = 0
    last_run: str | None = None
    saved_nanousd: int | None = None


def playbook_figures(config: Config) -> Mapping[str, Figures]:
    """The figures of each playbook that ever ran in this repository, by name. Reads the ledger; calls no model.

    Money saved is the number of runs that ended ok, times the median cost of the tasks that a model solved here and
    whose goals the playbook's own phrases match, less what its runs cost. None where no such task has a known cost.
    """
    with reading(config.ledger_url) as conn:
        totals = run_totals(conn, repository=str(config.repository))
    return {total.playbook: Figures(runs=total.runs, ok=total.ok, last_run=total.last_run) for total in totals}
