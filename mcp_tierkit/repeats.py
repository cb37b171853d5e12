"""Tasks that were solved again and again: the same words around other values, and the same kind of work."""

from __future__ import annotations

from mcp_tierkit.types import NanoUsd, Record


class Solved(Record):
    """A task whose change was applied, as far as it tells whether it comes again."""

    task_id: str
    at: str
    goal: str
    files: tuple[str, ...] = ()
    checks: tuple[tuple[str, ...], ...] = ()
    calls: int = 0
    cost_nanousd: NanoUsd | None = None
