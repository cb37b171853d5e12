"""What a task's calls came to, in the few words that a reply has room for."""

from __future__ import annotations

from mcp_tierkit.amounts import count
from mcp_tierkit.receipts import usd
from mcp_tierkit.types import Attempt, Spend

WHY_CHARS = 120


def attempts_told(attempts: tuple[Attempt, ...], told: str) -> list[str]:
    """One line for each model: its outcomes in order, and what they cost together. Exact costs are on the ledger.

    What was wrong with a reply stands beside its outcome, unless it is `told` anyway.
    """
    by_model: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_model.setdefault(f"{attempt.tier} {attempt.model}", []).append(attempt)
    return [
        f"{who}: {', '.join(_worth(attempt, told) for attempt in made)} {_cost_of(made)}"
        for who, made in by_model.items()
    ]


def earlier_told(spend: Spend, quota_calls: int) -> list[str]:
    """A line for the calls of a task's rounds before this one, which its receipt counts as well, if there are any."""
    if not spend.calls:
        return []
    known = None if spend.unpriced_calls > quota_calls else spend.cost_nanousd
    cost = "within a quota" if quota_calls == spend.calls else about(known)
    return [f"earlier rounds: {count(spend.calls, 'call')} {cost}"]


def _worth(attempt: Attempt, told: str) -> str:
    more = [_cut(attempt.why)] if attempt.why and attempt.why not in told else []
    more += ["over its cap"] if attempt.overrun else []
    return f"{attempt.outcome} ({'; '.join(more)})" if more else attempt.outcome


def _cost_of(made: list[Attempt]) -> str:
    if all(attempt.billing == "subscription" for attempt in made):
        return "within a quota"
    known = [attempt.cost_nanousd for attempt in made if attempt.cost_nanousd is not None]
    return about(sum(known) if len(known) == len(made) else None)


def about(nanousd: int | None) -> str:
    """Dollars to four places; exact where that would show nothing of them."""
    if nanousd is None:
        return "unpriced"
    return f"${usd(nanousd if nanousd < 50_000 else round(nanousd, -5))}"


def spent_told(spend: Spend, quota_calls: int) -> str:
    """What was spent, in a sentence; beside it what counts against budgets, its true cost being unknown."""
    if not spend.calls:
        return "Nothing was spent."
    unpriced = spend.unpriced_calls - quota_calls
    parts = [f"${usd(spend.cost_nanousd)} was spent"] if spend.cost_nanousd or not spend.unpriced_calls else []
    if unpriced:
        most = f"up to ${usd(spend.unknown_nanousd)} counts" if spend.unknown_nanousd else "no sum is known"
        parts.append(f"{most} for {count(unpriced, 'call')} of unknown cost")
    if quota_calls:
        parts.append(f"{count(quota_calls, 'call')} counted against a quota")
    told = "; ".join(parts)
    return f"{told[0].upper()}{told[1:]}."


def _cut(text: str) -> str:
    return text if len(text) <= WHY_CHARS else text[: WHY_CHARS - 1] + "…"
