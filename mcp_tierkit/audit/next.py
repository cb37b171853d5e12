"""The three things to do next, by what they are worth."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_tierkit.amounts import dollars
from mcp_tierkit.audit.advice import TO_WRITE, By
from mcp_tierkit.audit.groups import by_month
from mcp_tierkit.audit.lines import Audit, Step

NEXT = 3
_DEAR_CONTEXT = 120_000
_HABIT = 4
"""A habit is ranked by a quarter of what it costs: nobody drops all of it. The figure is not shown."""
_WORTH = 100
"""What would save less than this part of what a month costs is not among the things to do next."""
_CLIENTS = {"Claude Code": "claude-code", "Codex": "codex", "Gemini CLI": "gemini", "opencode": "opencode"}
_HOW = {
    "run": "with a playbook that you have", "type": "by typing it yourself", "make": "with a playbook of it",
    "write": "with a script that you write; this makes the form for it",
    "fill": "with a script that you write: its form is not filled in yet. This tries it out",
}  # fmt: skip


def steps(audit: Audit) -> list[Step]:
    """What is worth most first; where nothing stands out, how to see the product at work."""
    found: list[tuple[int, Step]] = []
    for group in (*audit.needless, *audit.repeated):
        low, high = group.saving.month_low_nanousd, group.saving.month_high_nanousd
        if group.by == "look":
            why = f"{group.count} times “{group.phrase}”: look whether a script can do it."
            found.append((group.month_nanousd // _HABIT, Step(why=why)))
        if high:
            saved = f"{about(low, high)} to {about(high)}" if low else f"up to {about(high)}"
            why = f"{group.count} times “{group.phrase}”: save {saved} a month {_HOW[group.by]}."
            found.append((_rank(high, group.by), Step(why=why, command=group.next)))
    for job in audit.handed:
        if saved_nanousd := job.saving_month_nanousd:
            why = f"{job.count} times handed to us, “{job.phrase}”: save {about(saved_nanousd)} a month {_HOW[job.by]}."
            found.append((_rank(saved_nanousd, job.by), Step(why=why, command=job.next)))
    found += _habits(audit)
    least = by_month(audit.total.cost_nanousd, audit.month_days) // _WORTH
    ranked = [step for worth, step in sorted(found, key=lambda one: -one[0]) if worth >= least]
    if audit.total.calls and not (audit.delegated or audit.handed):
        ranked.append(
            Step(why="Nothing here was handed to a cheaper model. See one task done:", command="tierkit demo")
        )
        client = _CLIENTS.get(audit.by_client[0].key, "other")
        ranked.append(Step(why="Put the tools into your client:", command=f"tierkit init --client {client}"))
    return list(dict.fromkeys(ranked))[:NEXT]


def about(nanousd: int, beside: int = 0) -> str:
    """An estimate with no more places than it deserves, and no other than the amount beside it: $37, $0.71."""
    usd, largest = nanousd / 1e9, max(nanousd, beside) / 1e9
    return f"${usd:,.0f}" if largest >= 10 else f"${usd:.2f}" if largest >= 0.01 else dollars(nanousd)


def _rank(saved: int, by: By) -> int:
    """What still has to be written is ranked by half: it takes somebody's time."""
    return saved // 2 if by in TO_WRITE else saved


def _habits(audit: Audit) -> Iterable[tuple[int, Step]]:
    """What a change of habit is worth, by the month; models without a price come before all."""
    if audit.unknown_models and audit.total.calls:
        models, unpriced = ", ".join(audit.unknown_models[:3]), audit.calls_without_price
        calls = "1 call has" if unpriced == 1 else f"{unpriced:,} calls have"
        told = f"{calls} no known price ({models}): name it in tierkit.toml."
        yield 10**15 if unpriced * 2 > audit.total.calls else 1, Step(why=told)
    if audit.by_tool and (tool := audit.by_tool[0]).share and tool.share >= 0.1:
        month = by_month(tool.cost_nanousd, audit.month_days)
        told = f"{tool.share:.0%} of all, {about(month)} a month, is reading what {tool.key} put into the context."
        yield month // _HABIT, Step(why=f"{told} Ask it for less at a time.")
    for session in audit.sessions[:1]:
        size = session.cache_read // max(session.calls, 1)
        if size >= _DEAR_CONTEXT:
            told = f"Session {session.short} read {size:,} tokens again with every call."
            value = by_month(session.cost_nanousd, audit.month_days) // _HABIT
            again = f"tierkit audit --session {session.short}"
            yield value, Step(why=f"{told} Begin a new one where the subject changes. Its tasks:", command=again)
