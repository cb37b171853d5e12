"""Records turned into the flat replies callers read. `summary` comes first, `next` last, and nothing twice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_tierkit.receipts import usd
from mcp_tierkit.redact import plain_paths, redact
from mcp_tierkit.routing import Ruling
from mcp_tierkit.types import (
    GIVEN,
    CheckResult,
    Draft,
    FileChange,
    Finding,
    PlaybookRun,
    Review,
    Route,
    Spend,
    TaskState,
)
from mcp_tierkit.worth import about, attempts_told, spent_told

MAX_FILES = 6
MAX_CHECKS = 3
MAX_FINDINGS = 8
DIGEST_CHARS = 240
"""Of what red checks print, all of them together. Ten lines are on the ledger, the whole output lies in the log."""

NEXT = {
    "applied": "Do not retype it.",
    "ready": "Green, not applied: apply the patch with git apply.",
    "unproven": "Nothing was applied. Read the patch, or name a check that is red now.",
    "needs_work": "Nothing was applied. Read the digest, then fix the patch, or draft again, reworded or smaller.",
    "question": "Answer it: plan_task with assume, then draft by its task_id. Or do it yourself.",
    "conflict": "Files moved meanwhile; nothing was applied. Try git apply on the patch, or draft again.",
    "rejected": "Nothing was applied. Do it yourself, or draft again, reworded or smaller.",
    "unrunnable": "Nothing was spent. Mend the check's command or environment, then call again.",
    "over_budget": "Nothing was applied. Do it yourself.",
    "stop_rule": "Do it yourself; this task has had its drafts.",
    "cancelled": "Nothing was applied.",
    "interrupted": "Call draft_with_cheap_model again if the change is still wanted.",
}


def draft_reply(draft: Draft, receipt: dict[str, Any], *, earlier: Sequence[str] = ()) -> dict[str, Any]:
    """The reply of `draft_with_cheap_model`; equal in size for small and large changes.

    `earlier` tells of calls of the task that are none of this draft's, and in its receipt all the same.
    """
    checks = (*draft.checks, *(guard for guard in draft.guards if guard.before == "green" != guard.after))
    reply: dict[str, Any] = {
        "summary": _draft_summary(draft),
        "task_id": draft.task_id,
        "status": draft.status,
        "files": [_file(change) for change in draft.files[:MAX_FILES]],
        "checks": _checks(checks[:MAX_CHECKS]),
        "proof": draft.proof if draft.status in GIVEN else None,
        "attempts": [*earlier, *attempts_told(draft.attempts, draft.note)],
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
    if told := draft.ask or draft.way_on:
        return told
    if draft.status == "unproven" and draft.patch is None:
        return "Name a check that is red now, or do it yourself."
    if draft.status == "needs_work" and draft.patch is None:
        return "Nothing was applied. Call again later, or do it yourself."
    return NEXT[draft.status]


def _draft_summary(draft: Draft) -> str:
    return draft.note or f"{draft.status.replace('_', ' ').capitalize()}."


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


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plan_reply(
    route: Route, ruling: Ruling | None, estimate: dict[str, Any] | None, *, refused: tuple[str, str] | None = None
) -> dict[str, Any]:
    """The reply of `plan_task`. `refused` is a playbook whose words these are, and why it cannot run here and now."""
    reply: dict[str, Any] = {
        "summary": f"{route.decision}: {route.reason}",
        "task_id": route.task_id,
        "decision": route.decision,
        "reason": route.rule,
        "tier": route.tier,
    }
    if route.playbook:
        reply["playbook"] = {"name": route.playbook, "inputs": route.inputs}
    elif refused:
        reply["playbook"] = {"name": refused[0], "refused": _short(refused[1], TASK_CHARS)}
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

ON_LEDGER = "What was spent is on the ledger."
UNFINISHED = {
    "open": "Planned; nothing has been drafted yet.",
    "done": "Planned; nothing has been drafted yet.",
    "cancelled": f"Cancelled. {ON_LEDGER}",
    "interrupted": f"Interrupted: the server ended first. {ON_LEDGER}",
}


def interrupted_reply(task_id: str, state: TaskState, *, applied: bool) -> dict[str, Any]:
    """For a task without a reply of its own. `applied` is what the journal says of its change."""
    after = NEXT.get(state, "Call draft_with_cheap_model with this task_id.")
    if applied:
        after = "Its change was proven and is in the working tree; record_outcome with undo takes it back."
    return {"summary": UNFINISHED[state], "task_id": task_id, "status": state, "applied": applied, "next": after}


def with_spent(reply: dict[str, Any], spend: Spend, quota_calls: int) -> dict[str, Any]:
    """The reply of a task that was ended, with the sum where it only said that there is one."""
    return reply | {"summary": str(reply["summary"]).replace(ON_LEDGER, spent_told(spend, quota_calls))}


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


ROOM = 780
"""Bytes of JSON that a playbook's output may take in a reply: some 230 tokens of prose, beside 150 of all the rest."""
LOG_ROOM = 600
TASK_CHARS = 160
ENDINGS = {
    "ok": "done",
    "declined": "it says that this is no case for it",
    "failed": "it failed",
    "timeout": "its time ran out",
    "cancelled": "it was stopped",
    "output_limit": "it wrote more than it may",
    "bad_output": "its result is not what its contract promises",
    "write_outside": "it changed files that its contract does not name",
    "conflict": "files moved meanwhile",
    "suspect": "it left behind what a read-only run must not, or a result that was tampered with",
}


def playbook_reply(
    run: PlaybookRun, *, dry_run: bool = False, task: str = "", changes_files: bool = False,
    kept: Mapping[str, str] | None = None, key_spent: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The reply of `run_playbook`: 400 tokens or less, however long the output is.

    An output or a log of more than ROOM characters of JSON is shown in part; `kept` then names the file of the whole
    by `output` or `log`. `task` is what the playbook does, in words, and `changes_files` whether it may: for the offer
    of another way. `key_spent` names the variable whose key paid.
    """
    kept = kept or {}
    log = "" if run.status == "ok" else run.log_tail
    shown = None if run.output is None else _in_room(run.output)
    reply: dict[str, Any] = {
        "summary": _playbook_summary(run, dry_run=dry_run),
        "task_id": run.task_id,
        "status": run.status,
        "output": shown,
        "changed": list(run.changed[:MAX_FILES]),
        "diff": run.diff,
        "log_tail": log if len(log) <= LOG_ROOM else f"…{log[1 - LOG_ROOM :]}",
        "playbook": run.playbook,
        "version": run.version,
        "digest": run.digest.removeprefix("sha256:")[:12],
        "sandbox": run.sandbox,
        "ms": run.ms,
        "fallback": run.fallback,
    }
    if len(run.changed) > MAX_FILES:
        reply["more_changed"] = len(run.changed) - MAX_FILES
    if shown is not None and run.output is not None and len(run.output) > len(shown):
        reply["more_outputs"] = len(run.output) - len(shown)
    reply |= {f"{what}_file": path for what, path in kept.items()}
    if run.kind == "skill":
        reply = _as_skill(reply, run)
    if run.hides:
        reply["origin"] = f"the {run.origin}'s, in front of the {' and the '.join(f'{one}' for one in run.hides)}'s"
    if key_spent:
        reply["key_spent"] = key_spent
    offer: dict[str, Any] = {"task": task, "changes_files": changes_files, "is_cut": "output" in kept}
    return reply | {"next": _playbook_next(run, dry_run=dry_run, **offer)}


def _as_skill(reply: dict[str, Any], run: PlaybookRun) -> dict[str, Any]:
    """Nothing ran here and nothing can have changed: what it cost stands in their place."""
    kept = {name: value for name, value in reply.items() if name not in ("changed", "diff", "sandbox")}
    billing = {"billing": run.billing} if run.billing == "subscription" else {}
    return kept | {"tokens": run.tokens, "usd": usd(run.cost_nanousd)} | billing


def keeps_whole(run: PlaybookRun) -> dict[str, str]:
    """Texts for files of their own, by `output` and `log`: those that the reply shows in part only."""
    long: dict[str, str] = {}
    if run.output is not None and _size(run.output) > ROOM:
        long["output"] = json.dumps(run.output, ensure_ascii=False, indent=1)
    if run.status != "ok" and len(run.log_tail) > LOG_ROOM:
        long["log"] = run.log_tail
    return long


def offered_task(phrase: str, inputs: Mapping[str, Any]) -> str:
    """What a playbook would have done, in the words of its phrase with the inputs filled in."""
    told = re.sub(r"\{(\w+)\}", lambda slot: str(inputs.get(slot[1], slot[0])), phrase)
    return _short(redact(" ".join(told.split())), TASK_CHARS)


def forecast_reply(
    playbook: str, *, tier: str, model: str, input_tokens: int, nanousd: int | None, is_quota: bool = False
) -> dict[str, Any]:
    """The reply of a skill's dry run."""
    most = "an unknown amount" if nanousd is None else f"${usd(nanousd)} at most"
    most = "tokens of a quota, and no dollars" if is_quota else most
    return {
        "summary": f"{playbook}: dry run, nothing was sent. It would cost {most}.",
        "status": "ok",
        "tier": tier,
        "model": model,
        "input_tokens": input_tokens,
        "usd_at_most": usd(nanousd),
        "next": "Call again without dry_run to send it.",
    }


def _playbook_summary(run: PlaybookRun, *, dry_run: bool) -> str:
    changed = "1 file" if len(run.changed) == 1 else f"{len(run.changed) or 'no'} files"
    if run.kind == "skill":
        spent = "unknown" if run.tokens is None else f"{run.tokens}"
        cost = "within a quota" if run.billing == "subscription" else about(run.cost_nanousd)
        return f"{run.playbook}: {ENDINGS[run.status]}; {spent} tokens, {cost}."
    if run.status != "ok":
        return f"{run.playbook}: {ENDINGS[run.status]}; nothing was changed."
    would = "dry run, {} would change" if dry_run else "done at zero tokens, {} changed"
    return f"{run.playbook}: {would.format(changed)}."


def _playbook_next(run: PlaybookRun, *, dry_run: bool, task: str, changes_files: bool, is_cut: bool) -> str:
    if run.status == "ok" and dry_run and run.diff:
        return "Read the diff; the same call without dry_run applies it."
    if run.status == "ok":
        return "Use the output; the file has all of it." if is_cut else "Use the output."
    if run.status == "conflict":
        return "Call run_playbook again with the same inputs."
    if run.status == "failed" and run.output is not None and run.fallback != "error":
        return f"It failed: the output says why{', the file has all of it' if is_cut else ''}."
    told = "Tell the user what it did. " if run.status in ("write_outside", "suspect") else ""
    if run.fallback == "error":
        return f"{told}Stop here and tell the user: this playbook allows no other way."
    offer = f"task={json.dumps(task, ensure_ascii=False)}" if task else "the task in a sentence"
    if changes_files:
        return f"{told}Call draft_with_cheap_model with {offer}, the files it may touch and a check that is red now."
    again = "Call it again later, or " if run.kind == "skill" and run.status in ("failed", "timeout") else ""
    self = "do it yourself" if again else "Do it yourself"
    return f"{told}{again}{self}, or call plan_task with {offer} and the files it is about."


def _in_room(output: dict[str, Any]) -> dict[str, Any]:
    """The output with its long texts and lists cut until it fits; then without the fields that are longest."""
    if _size(output) <= ROOM:
        return output
    cut = output
    for chars in (640, 480, 320, 160, 80, 40):
        cut = {name: _cut(value, chars) for name, value in output.items()}
        if _size(cut) <= ROOM:
            return cut
    kept: dict[str, Any] = {}
    for name in sorted(cut, key=lambda one: _size(cut[one])):
        if _size(kept | {name: cut[name]}) <= ROOM:
            kept[name] = cut[name]
    return {name: kept[name] for name in cut if name in kept}


def _cut(value: Any, chars: int) -> Any:
    """The value with each text cut to so many characters, and each list and object to a twentieth of that in parts.

    Of a text its beginning and its end stay: a report says what it is first, a log says last how it ended.
    """
    parts = chars // 20
    if isinstance(value, str):
        left_out = f"… [{len(value) - chars} characters] …"
        return value if len(value) <= chars else value[: chars // 2] + left_out + value[-(chars // 2) :]
    if isinstance(value, list):
        more = [f"… +{len(value) - parts}"] if len(value) > parts else []
        return [_cut(one, chars) for one in value[:parts]] + more
    if isinstance(value, dict):
        shown = {name: _cut(one, chars) for name, one in [*value.items()][:parts]}
        return shown | ({"…": f"+{len(value) - parts}"} if len(value) > parts else {})
    return value


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf8", "replace"))
