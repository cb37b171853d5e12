"""Records turned into the flat replies callers read. `summary` comes first, `next` last, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp_tierkit.receipts import usd
from mcp_tierkit.redact import plain_paths, redact
from mcp_tierkit.routing import Ruling
from mcp_tierkit.types import Attempt, CheckResult, Draft, FileChange, Finding, PlaybookRun, Review, Route, TaskState

MAX_FILES = 6
MAX_CHECKS = 3
MAX_FINDINGS = 8
DIGEST_CHARS = 240
"""Of what red checks print, all of them together. Ten lines are on the ledger, the whole output lies in the log."""

NEXT = {
    "applied": "Do not retype it.",
    "ready": "Green, not applied: apply the patch with git apply.",
    "unproven": "Nothing was applied. Read the patch, or name a check that is red now.",
    "needs_work": "Nothing was applied. Read the digest, then fix the patch yourself or draft once more.",
    "question": "Answer it: plan_task with assume, then draft by its task_id. Or do it yourself.",
    "conflict": "Files moved meanwhile; nothing was applied. Try git apply on the patch, or draft again.",
    "rejected": "Nothing was applied. Do it yourself, or draft once more.",
    "unrunnable": "Nothing was spent. Mend the check's command or environment, then call again.",
    "over_budget": "Nothing was applied. Do it yourself, or ask the user to raise the budget.",
    "stop_rule": "Do it yourself; this task has had its drafts.",
    "cancelled": "Nothing was applied.",
    "interrupted": "Call draft_with_cheap_model again if the change is still wanted.",
}


def draft_reply(draft: Draft, receipt: dict[str, Any]) -> dict[str, Any]:
    """The reply of `draft_with_cheap_model`; equal in size for small and large changes."""
    checks = (*draft.checks, *(guard for guard in draft.guards if guard.before == "green" != guard.after))
    reply: dict[str, Any] = {
        "summary": _draft_summary(draft),
        "task_id": draft.task_id,
        "status": draft.status,
        "files": [_file(change) for change in draft.files[:MAX_FILES]],
        "checks": _checks(checks[:MAX_CHECKS]),
        "proof": draft.proof if draft.status in ("applied", "ready") else None,
        "attempts": _attempts(draft.attempts),
        "patch": draft.patch,
        "isolation": draft.isolation,
        "receipt": receipt,
    }
    if draft.question:
        # The drafter's own words are data for the caller to judge, capped and in a field that says so.
        reply["question_from_model"] = redact(draft.question)[:300]
    if draft.reverted:
        reply["reverted"] = plain_paths(draft.reverted) or "files of odd names"
    if draft.alerts:
        reply["alert"] = draft.alerts[0]
    for name, shown, rows in (("files", MAX_FILES, draft.files), ("checks", MAX_CHECKS, checks)):
        if len(rows) > shown:
            reply[f"more_{name}"] = len(rows) - shown
    return reply | {"next": _draft_next(draft)}


def _draft_next(draft: Draft) -> str:
    """What to do now; a patch or a digest is named only where there is one."""
    if draft.status == "unproven" and draft.patch is None:
        return "Name a check that is red now, or do it yourself."
    if draft.status == "needs_work" and draft.patch is None:
        return "Nothing was applied. Call again later, or do it yourself."
    return NEXT[draft.status]


def _draft_summary(draft: Draft) -> str:
    if draft.note:
        return draft.note
    return f"{draft.status.replace('_', ' ').capitalize()}."


def _file(change: FileChange) -> str:
    return f"{change.path} +{change.added} -{change.removed} @{change.ranges}"


def _checks(results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    red = sum(bool(result.digest) and result.after != "green" for result in results)
    return [_check(result, DIGEST_CHARS // max(red, 1)) for result in results]


def _check(result: CheckResult, room: int) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": _short(result.name, 80), "role": result.role}
    shown |= {"before": result.before, "after": result.after}
    if result.digest and result.after != "green":
        shown |= {"digest": _within(result.digest, room), "log": result.log}
    return shown


def _within(digest: str, room: int) -> str:
    """The first failure as far as there is room for it, and the last line, which sums up."""
    if len(digest) <= room:
        return digest
    *lines, last = digest.splitlines()
    last = _short(last, room // 2)
    left, kept = room - len(last), list[str]()
    for line in lines:
        if len(line) + 1 > left:
            kept += [_short(line, left)] if not kept or left > 40 else []
            break
        kept.append(line)
        left -= len(line) + 1
    return "\n".join([*kept, last])


def _attempts(attempts: tuple[Attempt, ...]) -> list[str]:
    """One line for each model: its outcomes in order, and what they cost together. Exact costs are on the ledger."""
    by_model: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_model.setdefault(f"{attempt.tier} {attempt.model}", []).append(attempt)
    return [f"{who}: {', '.join(map(_worth, made))} {_cost_of(made)}" for who, made in by_model.items()]


def _worth(attempt: Attempt) -> str:
    return f"{attempt.outcome} (over its cap)" if attempt.overrun else attempt.outcome


def _cost_of(made: list[Attempt]) -> str:
    known = [attempt.cost_nanousd for attempt in made if attempt.cost_nanousd is not None]
    return _about(sum(known) if len(known) == len(made) else None)


def _about(nanousd: int | None) -> str:
    """Dollars to four places; exact where that would show nothing of them."""
    if nanousd is None:
        return "unpriced"
    return f"${usd(nanousd if nanousd < 50_000 else round(nanousd, -5))}"


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plan_reply(route: Route, ruling: Ruling | None, estimate: dict[str, Any] | None) -> dict[str, Any]:
    """The reply of `plan_task`."""
    reply: dict[str, Any] = {
        "summary": f"{route.decision}: {route.reason}",
        "task_id": route.task_id,
        "decision": route.decision,
        "reason": route.rule,
        "tier": route.tier,
    }
    if route.playbook:
        reply["playbook"] = {"name": route.playbook, "inputs": route.inputs}
    reply["estimate"] = estimate
    if ruling and ruling.lint:
        reply["lint"] = list(ruling.lint)
    if ruling and ruling.open_questions:
        reply["open_questions"] = list(ruling.open_questions)
    return reply | {"next": _plan_next(route)}


def _plan_next(route: Route) -> str:
    return {
        "run_playbook": "Call run_playbook with this name and these inputs.",
        "single_cheap": "Call draft_with_cheap_model with this task_id alone.",
        "draft": "Call draft_with_cheap_model with this task_id alone.",
        "do_it_yourself": "Make this change yourself.",
        "ask": "Call plan_task again with the missing parts, or with assume.",
        "needs_human": "Ask the user before going on.",
        "blocked": "Nothing to do.",
    }[route.decision]


def running_reply(task_id: str) -> dict[str, Any]:
    return {
        "summary": "Still running.",
        "task_id": task_id,
        "status": "running",
        "state": "running",
        "next": "Call get_task with this task_id and wait_s.",
    }


UNDONE = {"summary": "Applied, and taken back since.", "next": "Its change is no longer in the tree."}

UNFINISHED = {
    "open": "Planned; nothing has been drafted yet.",
    "done": "Planned; nothing has been drafted yet.",
    "cancelled": "Cancelled. What was spent is on the ledger.",
    "interrupted": "Interrupted: the server ended first. What was spent is on the ledger.",
}


def interrupted_reply(task_id: str, state: TaskState, *, applied: bool) -> dict[str, Any]:
    """For a task without a reply of its own. `applied` is what the journal says of its change."""
    after = NEXT.get(state, "Call draft_with_cheap_model with this task_id.")
    if applied:
        after = "Its change was proven and is in the working tree; record_outcome with undo takes it back."
    return {"summary": UNFINISHED[state], "task_id": task_id, "status": state, "applied": applied, "next": after}


def summary_of(review: Review) -> str:
    """A review in one sentence."""
    found = "1 finding" if len(review.findings) == 1 else f"{len(review.findings)} findings"
    return review.note or f"{review.verdict}: {found}."


def review_reply(review: Review, receipt: dict[str, Any] | None) -> dict[str, Any]:
    reply = {
        "summary": summary_of(review),
        "task_id": review.task_id,
        "verdict": review.verdict,
        "findings": [_finding(finding) for finding in review.findings[:MAX_FINDINGS]],
        "checked": review.checked,
        "dropped": review.dropped,
        "reviewer": f"{review.tier} {review.model}" if review.tier else None,
        "rounds_left": review.rounds_left,
        "receipt": receipt,
    }
    return reply | {"next": _review_next(review)}


def _finding(finding: Finding) -> dict[str, Any]:
    shown = finding.model_dump(exclude={"klass"})
    return {"file": shown.pop("file"), "line": shown.pop("line"), "class": finding.klass, **shown}


def _review_next(review: Review) -> str:
    return {
        "clean": "Nothing blocks this change.",
        "findings": "Weigh each finding; mend what is right, or draft again by task_id, ignore the rest.",
        "blocked": "Mend the blocker first; no model was asked.",
        "uninformative": "Treat this change as not reviewed.",
    }[review.verdict]


def playbook_reply(run: PlaybookRun) -> dict[str, Any]:
    failed = run.status not in ("ok", "declined")
    done = "Done at zero tokens." if run.status == "ok" else "Nothing was changed."
    return {
        "summary": f"{run.playbook} {run.version}: {run.status}, {len(run.changed)} files changed.",
        "task_id": run.task_id,
        "status": run.status,
        "output": run.output,
        "changed": list(run.changed),
        "diff": run.diff,
        "log_tail": run.log_tail if failed or run.status == "declined" else "",
        "playbook": run.playbook,
        "version": run.version,
        "digest": run.digest.removeprefix("sha256:")[:12],
        "sandbox": run.sandbox,
        "ms": run.ms,
        "fallback": run.fallback,
        "next": done if not failed or run.fallback == "error" else f"{done} Plan it with plan_task, or do it yourself.",
    }
