"""The caller's own side of a task as its transcript counted it, in the place of what a receipt estimates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from mcp_tierkit.config import Config
from mcp_tierkit.ledger.money import weighed
from mcp_tierkit.ledger.report import reading, task_summary
from mcp_tierkit.receipts import Weighed, net_shown, usd
from mcp_tierkit.scorecard import Baseline, Facts
from mcp_tierkit.types import Spend

if TYPE_CHECKING:
    from mcp_tierkit.transcripts.figures import CallerFigures

SOURCE = "measured from the transcript, at API prices"


def caller_of(config: Config, task_id: str, env: Mapping[str, str]) -> CallerFigures | None:
    """What the transcripts on this machine say of the caller's calls for a task; None where none tells of it.

    Only files that changed since the task was opened are searched. Raises NotFound.
    """
    from mcp_tierkit.transcripts.figures import caller_figures  # A server reads none, and starts without it.

    with reading(config.ledger_url) as conn:
        opened = datetime.fromisoformat(task_summary(conn, task_id).created_at).timestamp()
    found = caller_figures([task_id], env, config.price_table().price, since=opened).get(task_id)
    return found if found and found.calls else None


def measured(
    config: Config, task_ids: Collection[str], env: Mapping[str, str], *, since: datetime | None = None
) -> dict[str, CallerFigures]:
    """The same for many tasks in one reading, for those that a transcript tells of. Empty unless the settings say
    `caller.transcripts`: without it no transcript is opened. Files that changed before `since` are not looked at."""
    from mcp_tierkit.transcripts.figures import caller_figures

    if not (config.caller.transcripts and task_ids):
        return {}
    begun = since.timestamp() if since else 0
    found = caller_figures(task_ids, env, config.price_table().price, since=begun)
    return {task_id: figures for task_id, figures in found.items() if figures.calls}


def told(figures: CallerFigures) -> dict[str, Any]:
    """The figures for a reader, with where they come from; `usd` is null where a model's price is unknown."""
    return {
        "source": SOURCE,
        "calls": figures.calls,
        "input": figures.input,
        "cache_read": figures.cache_read,
        "cache_write": figures.cache_write_5m + figures.cache_write_1h,
        "output": figures.output,
        "usd": usd(figures.cost_nanousd),
    }


def receipt_of(config: Config, task_id: str, receipt: Mapping[str, Any], figures: CallerFigures) -> dict[str, Any]:
    """The receipt that the task's last reply shows with the caller's side measured. Raises NotFound."""
    with reading(config.ledger_url) as conn:
        return in_receipt(receipt, figures, *weighed(conn, task_id))


def in_receipt(
    receipt: Mapping[str, Any], figures: CallerFigures, found: Weighed | None, spend: Spend
) -> dict[str, Any]:
    """The receipt with the caller's side measured, and its net anew. What the work costs alone stays an estimate.

    The net is null where it was, and where it is in dollars and the caller's are unknown.
    """
    measured = {name: value for name, value in receipt["measured"].items() if name != "caller_tokens"}
    estimated = {name: value for name, value in (receipt["estimated"] or {}).items() if name != "schema_usd"}
    changed = {"measured": {**measured, "caller": told(figures)}, "estimated": estimated or None}
    passed = None if receipt["net"] is None or found is None else _passed(found.unit, figures)
    anew = None if found is None or passed is None else found.model_copy(update={"passed": passed})
    return {**receipt, **changed, "net": net_shown(anew, spend)}


def in_facts(facts: Facts, figures: CallerFigures) -> Facts:
    """The facts with what the task came to measured; without a baseline where that is not known in dollars."""
    base = facts.baseline
    if base is None:
        return facts
    passed, paid = _passed(base.unit, figures), facts.cost_nanousd if base.unit == "usd" else 0
    ours = None if passed is None or paid is None else passed + paid
    made = None if ours is None else Baseline(**base.model_dump(exclude={"ours"}), ours=ours)
    return facts.model_copy(update={"baseline": made})


def _passed(unit: Literal["usd", "tokens"], figures: CallerFigures) -> int | None:
    return figures.cost_nanousd if unit == "usd" else first_read(figures)


def first_read(figures: CallerFigures) -> int:
    """Tokens without those read again from a cache: nor does the estimate of the work alone count any re-reading."""
    return figures.input + figures.cache_write_5m + figures.cache_write_1h + figures.output
