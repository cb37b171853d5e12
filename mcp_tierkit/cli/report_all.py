"""The tables of `tierkit report --all`, beside what the one screen shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcp_tierkit.amounts import UNKNOWN, count, dollars, percent
from mcp_tierkit.cli import report_text
from mcp_tierkit.cli.tables import Column, figures, print_table, words
from mcp_tierkit.ledger.report import CacheHit, PlaybookTotal, PromptChange, StepTotal, TaskSummary, Total
from mcp_tierkit.ledger.spending import Cents, NextDollar
from mcp_tierkit.ledger.told import Told
from mcp_tierkit.page import said

DAYS, CHANGES = 14, 8
SPENT = figures("calls", "tokens in", "cached", "tokens out", "USD")
BILLING = {
    "api": "by the token",
    "subscription": "within a subscription: quota, no dollars",
    "local": "machine time of your own",
    "": "not recorded",
}


def print_all(told: Told, latest: int) -> None:
    """Every table but the levers', with the `latest` tasks."""
    if not report_text.print_summary(told):
        return
    report_text.print_tiers(told)
    report_text.print_budgets(told)
    left = len(told.by_day) - DAYS
    title = f"By day, the last {DAYS}; {left} before them: --csv or --html" if left > 0 else "By day"
    _totals(title, "day", told.by_day[-DAYS:])
    _totals("By tier", "tier", told.by_tier)
    if any(total.key in ("subscription", "local") for total in told.by_billing):
        _totals("By how calls are paid for", "paid", told.by_billing, BILLING)
    _totals("By model", "model", told.by_model)
    _totals("By type of task", "type", told.by_category)
    if len(told.by_project) > 1:
        _totals("By project", "project", told.by_project, told.project_names)
    _next_dollar(told.next_dollar, told.project_names)
    read = (*words("category"), *figures("calls", "tokens in", "cached", "hit rate"))
    print_table("Read from a provider's cache, by category", read, list(map(_hit, told.cache_hits)))
    packed = (*words("step"), *figures("calls", "packed", "per call"))
    steps = [_step(step) for step in told.context_by_step if step.packed_tokens]
    print_table("Tokens of project files sent, by step", packed, steps)
    ran = (*words("playbook"), *figures("runs", "ok", "tokens", "USD"))
    print_table("Playbooks", ran, list(map(_playbook, told.playbooks)))
    _prompts(told.prompt_changes)
    report_text.print_dearest(told, latest)
    report_text.print_results(told, latest)
    report_text.print_scores(told, latest)
    head = (*words("task", "begun", "project"), Column(report_text.GOAL, is_wide=True), *words("ended"))
    tasks = [_task(task, told.project_names[task.project]) for task in told.tasks[:latest]]
    print_table(report_text.part_of("Latest tasks", len(tasks), told.overview.tasks), (*head, *figures("USD")), tasks)
    report_text.print_next(told)


def _totals(title: str, by: str, totals: Sequence[Total], names: Mapping[str, str] | None = None) -> None:
    rows = [((names or {}).get(total.key, total.key) or "unknown", *_spent(total)) for total in totals]
    print_table(title, (*words(by), *SPENT), rows)


def _spent(total: Total) -> tuple[str, ...]:
    spend = total.spend
    counts = (spend.calls, spend.input_tokens, spend.cached_tokens, spend.output_tokens)
    return *map(count, counts), said.cost(spend)


def _next_dollar(dollar: NextDollar, projects: Mapping[str, str]) -> None:
    names = {"tier": "tier", "category": "type", "project": "project"}
    rows = [_cents(names[part.by], part, projects) for by in names for part in dollar.parts if part.by == by]
    title = f"The next dollar, spent as in the last {dollar.days} days"
    print_table(title, (*words("by", "goes to"), *figures("cents", "before")), rows)


def _cents(by: str, part: Cents, projects: Mapping[str, str]) -> tuple[str, ...]:
    key = projects[part.key] if part.by == "project" else part.key
    before = "-" if part.share_before is None else f"{part.share_before * 100:.1f}"
    return by, key or "unknown", f"{part.share * 100:.1f}", before


def _hit(hit: CacheHit) -> tuple[str, ...]:
    known = (*map(count, (hit.calls, hit.input_tokens, hit.cached_tokens)), percent(hit.hit_rate))
    return hit.category or "unknown", *known


def _step(step: StepTotal) -> tuple[str, ...]:
    return step.stage, *map(count, (step.calls, step.packed_tokens, round(step.packed_tokens / step.calls)))


def _playbook(total: PlaybookTotal) -> tuple[str, ...]:
    tokens = UNKNOWN if total.tokens is None else count(total.tokens)
    cost = "quota" if total.quota_runs == total.runs else dollars(total.cost_nanousd)
    return total.playbook, count(total.runs), count(total.ok), tokens, cost


def _prompts(changes: Sequence[PromptChange]) -> None:
    rows = [(change.at[:10], change.task_id, change.before, change.after) for change in changes[-CHANGES:]]
    print_table("Prompts whose text changed, where it first ran", words("day", "task", "from", "to"), rows)


def _task(task: TaskSummary, project: str) -> tuple[str, ...]:
    begun = task.created_at[5:16].replace("T", " ")
    return task.task_id, begun, project, report_text.goal(task.goal), task.ended, said.cost_of_task(task)
