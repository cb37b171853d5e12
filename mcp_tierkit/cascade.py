"""The stop rule of one draft: which call comes next, judged by what the calls so far were worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from mcp_tierkit.types import Attempt, AttemptOutcome, Record, Stage, TierName

FAILED: frozenset[AttemptOutcome] = frozenset({"red", "unreadable", "out_of_scope", "cut_short", "empty"})
"""Outcomes that a check of ours found, scope and the reading of edits among them. A model's own doubt is none."""


class Step(Record):
    """One model call to make."""

    stage: Stage
    tier: TierName


def chain_of(draft: TierName, climb: Sequence[TierName], available: Sequence[TierName]) -> tuple[TierName, ...]:
    """The drafting tier, then those to climb to: upwards, each once, and only where it has a model."""
    height = get_args(TierName).index
    above = {tier for tier in climb if tier in available and height(tier) > height(draft)}
    return (draft, *sorted(above, key=height))


def next_step(chain: Sequence[TierName], attempts: Sequence[Attempt], *, single_pass: bool = False) -> Step | None:
    """The next call, or None where the draft goes back to the caller.

    A draft on the first tier, one repair there, then one call on each further tier, each after a failed check. A reply
    that was cut off is continued once, whatever its stage. `single_pass` is one draft and nothing after it.
    """
    if not attempts:
        return Step(stage="draft", tier=chain[0])
    last = attempts[-1]
    if single_pass or last.outcome not in FAILED:
        return None
    if last.outcome == "cut_short" and last.stage != "continue":
        return Step(stage="continue", tier=last.tier)
    if not any(attempt.stage == "repair" for attempt in attempts) and last.tier == chain[0]:
        return Step(stage="repair", tier=chain[0])
    above = chain[chain.index(last.tier) + 1 :]
    return Step(stage="climb", tier=above[0]) if above else None
