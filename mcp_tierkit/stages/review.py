"""A review that ends: checks that need no model first, then findings anchored to lines of the diff."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

from pydantic import ValidationError

from mcp_tierkit.checks import run_checks
from mcp_tierkit.errors import InvalidInput, ModelFailed, NoModel, StopRule
from mcp_tierkit.jobs import Report
from mcp_tierkit.kit import Kit
from mcp_tierkit.prompts import build, load
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.reply import summary_of
from mcp_tierkit.scope import in_scope
from mcp_tierkit.stages.answer import whole_answer
from mcp_tierkit.stages.cycle import weighty
from mcp_tierkit.stages.plan import Planned, allow_review
from mcp_tierkit.tiers import NAMES, Tier
from mcp_tierkit.tokens import estimate
from mcp_tierkit.types import CheckRun, Finding, FindingClass, Message, Review, Verdict

MUST_ANSWER: tuple[FindingClass, ...] = ("edge_case", "assumption", "test", "drift", "security")
"""A review that leaves one of these without a finding or a reason has not been one."""

MAX_ROUNDS = 2
MAX_DIFF_TOKENS = 60_000
Lines = dict[str, dict[int, str]]
"""Path to the new lines a diff shows, by number: what a finding may point at."""


async def review_diff(kit: Kit, planned: Planned, diff: str, *, focus: str, report: Report) -> Review:
    """Review `diff` against its plan; the review is on the ledger when this returns.

    Raises StopRule after the last round, InvalidInput for a diff that is empty, unreadable or too long.
    """
    done = await _rounds(kit, planned.task.task_id)
    lines = read_diff(diff)
    review = await _deterministic(kit, planned, diff, lines, report)
    if review is None:
        report("asking the reviewer")
        review = await _by_model(kit, planned, diff, lines, focus)
    review = review.model_copy(update={"rounds_left": int(done == 0 and leaves_reason(review))})
    await kit.ledger.save(review)
    claims = [f"{finding.file}:{finding.line} {finding.claim}" for finding in review.findings]
    risks = tuple(dict.fromkeys((*planned.handoff.risks, *claims)))
    await kit.ledger.save(planned.handoff.model_copy(update={"risks": risks}))
    return review


async def _rounds(kit: Kit, task_id: str) -> int:
    """Rounds so far: reviews that ended, and those that were paid for and cut short. Raises StopRule after the last.

    There is a second one only where the first left a reason for it, or where another draft was made since.
    """
    rows, reviews = await kit.ledger.calls(task_id), await kit.ledger.reviews(task_id)
    done = max(len(reviews), sum(row.stage == "review" for row in rows))
    drafted_again = sum(row.stage == "draft" for row in rows) > 1
    if done >= MAX_ROUNDS or (len(reviews) == 1 and not leaves_reason(reviews[0]) and not drafted_again):
        raise StopRule(
            f"This task has had its {'review' if done == 1 else 'reviews'}. No model was called.",
            next_step="Decide on what was said, or ask the user.",
        )
    return done


def leaves_reason(review: Review) -> bool:
    """Whether a review is reason for another round: a weighty finding, or no verdict on the change at all."""
    return review.verdict in ("blocked", "uninformative") or bool(weighty((review,)))


def read_diff(diff: str) -> Lines:
    """The lines a diff shows on its new side. Raises InvalidInput where it is empty, too long or no diff."""
    if not diff.strip():
        raise InvalidInput("The diff is empty. Nothing was spent.", next_step="Pass a diff that changes something.")
    if estimate(diff) > MAX_DIFF_TOKENS:
        raise InvalidInput(
            f"The diff is longer than the {MAX_DIFF_TOKENS} tokens one review reads. Nothing was spent.",
            next_step="Review it in parts: pass a git range or a patch of fewer files.",
        )
    from unidiff import PatchSet, UnidiffParseError

    try:
        patches = PatchSet(diff)
    except UnidiffParseError as error:
        raise InvalidInput(
            "The diff cannot be read as a unified diff. Nothing was spent.",
            next_step="Pass `working_tree`, `staged`, a git range or the path of a patch.",
        ) from error
    return {
        file.path: {line.target_line_no: line.value for hunk in file for line in hunk if line.target_line_no}
        for file in patches
    }


async def _deterministic(kit: Kit, planned: Planned, diff: str, lines: Lines, report: Report) -> Review | None:
    """A blocked review at zero tokens, or None where nothing blocks."""
    findings = _secrets(diff) + _markers(lines) + _scope(planned, lines)
    if not findings and planned.task.checks:
        report("running the checks")
        bench = await kit.bench(planned.task)
        runs = await run_checks(bench, planned.task.checks, {}, label=f"review{len(lines)}")
        findings = _red(runs, lines)
    if not findings:
        return None
    note = f"Blocked before any model was asked: {findings[0].claim}"
    return Review(task_id=planned.task.task_id, verdict="blocked", findings=tuple(findings), note=note)


def _added(diff: str) -> Lines:
    from unidiff import PatchSet

    return {
        file.path: {line.target_line_no: line.value for hunk in file for line in hunk if line.is_added}
        for file in PatchSet(diff)
    }


def _secrets(diff: str) -> list[Finding]:
    found = []
    for path, lines in _added(diff).items():
        text = "".join(lines.values())
        numbers = list(lines)
        for secret in find_secrets(text):
            number = numbers[min(secret.line, len(numbers)) - 1]
            found.append(_blocker(path, number, "security", "A secret is written into the code.", secret.rule))
    return found


def _markers(lines: Lines) -> list[Finding]:
    return [
        _blocker(path, number, "requirement", "A merge conflict marker is left.", text.strip()[:40])
        for path, shown in lines.items()
        for number, text in shown.items()
        if re.match(r"(<{7}|>{7}) ", text)
    ]


def _scope(planned: Planned, lines: Lines) -> list[Finding]:
    files = planned.handoff.files
    outside = [path for path in lines if files and not in_scope(path, files)]
    return [_blocker(path, 1, "drift", "This file is outside the plan.", "not in files") for path in outside]


def _red(runs: tuple[CheckRun, ...], lines: Lines) -> list[Finding]:
    path = next(iter(lines))
    return [
        _blocker(path, 1, "test", f"{run.name} is {run.outcome}.", (run.digest or run.reason)[-300:])
        for run in runs
        if run.outcome == "red"
    ]


def _blocker(path: str, line: int, klass: FindingClass, claim: str, evidence: str) -> Finding:
    return Finding(file=path, line=line, severity="blocker", klass=klass, claim=claim[:300], evidence=evidence[:300])


async def _by_model(kit: Kit, planned: Planned, diff: str, lines: Lines, focus: str) -> Review:
    task_id = planned.task.task_id
    try:
        tier, remark = await reviewer(kit, planned)
    except NoModel as error:
        note = "Nothing blocks it, and no model is set to review it. " + error.next_step
        return Review(task_id=task_id, verdict="uninformative", note=note)
    messages, prompt_id = _request(kit, planned, tier, diff, focus)
    route = await allow_review(kit, task_id, tier.name, remark or None)
    try:
        answer, metered = await whole_answer(kit, route, tier, messages=messages, prompt_id=prompt_id)
    except ModelFailed as error:
        note = f"{error.what} {error.next_step}"
        return Review(task_id=task_id, verdict="uninformative", note=note, tier=tier.name, model=tier.model)
    review = weigh(task_id, answer, lines)
    by = {"tier": tier.name, "model": metered.call.served_model or tier.model}
    return review.model_copy(update=by | ({"note": f"{summary_of(review)} {remark}"} if remark else {}))


def _request(kit: Kit, planned: Planned, tier: Tier, diff: str, focus: str) -> tuple[tuple[Message, ...], str]:
    prompt = load("review", category="review", scratchpad=tier.scratchpad, overrides=kit.config.prompt_dir)
    messages = build(
        prompt,
        summary=planned.handoff.summary,
        acceptance="\n".join(planned.handoff.acceptance) or "(none)",
        out_of_scope="\n".join(planned.handoff.out_of_scope) or "(none)",
        checks="\n".join(f"{check.name}: green" for check in planned.task.checks) or "(none)",
        focus=focus or "(none)",
        diff=diff,
    )
    return messages, prompt.id


async def reviewer(kit: Kit, planned: Planned) -> tuple[Tier, str]:
    """The tier of the user's stage map, else the strongest there is; never lower than the draft's.

    With a remark where the pin had to be passed over. Raises NoModel, also where the pinned tier has no model: no
    other takes its place in silence.
    """
    drafted = planned.route.tier or "cheap"
    enough = NAMES[NAMES.index(drafted) :]
    pinned = kit.config.review_tier
    if pinned in enough:
        return await kit.tier(pinned), ""
    tiers = await kit.tiers()
    tier = next((tiers[name] for name in reversed(enough) if name in tiers), None) or await kit.tier("strong")
    remark = f"The {tier.name} tier reviewed: the pinned {pinned} is below {drafted}, which drafted."
    return tier, remark if pinned else ""


def weigh(task_id: str, text: str, lines: Lines) -> Review:
    """A reviewer's answer as a review: findings off the diff or holding code are dropped and counted."""
    answer = _json_in(text)
    if answer is None:
        return Review(task_id=task_id, verdict="uninformative", note="The reviewer's answer could not be read.")
    raw = answer.get("findings")
    rows = raw if isinstance(raw, list) else []
    findings = [finding for row in rows if (finding := _finding(row, lines))]
    checked = _checked(answer.get("checked"), findings)
    dropped, verdict = len(rows) - len(findings), _verdict(findings, checked)
    return Review(
        task_id=task_id,
        verdict=verdict,
        note=_silence(checked, dropped) if verdict == "uninformative" else "",
        findings=tuple(findings),
        checked=checked,
        dropped=dropped,
    )


def _silence(checked: dict[str, str], dropped: int) -> str:
    """Why a review says too little to go by."""
    missing = ", ".join(klass for klass in MUST_ANSWER if klass not in checked)
    off = "; 1 finding was" if dropped == 1 else f"; {dropped} findings were"
    off = f"{off} dropped, pointing at no line of the diff or holding code" if dropped else ""
    return f"uninformative: the reviewer says nothing of {missing}{off}."


def _json_in(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _finding(row: Any, lines: Lines) -> Finding | None:
    try:
        finding = Finding.model_validate(row)
    except ValidationError:
        return None
    holds_code = "```" in finding.claim or "```" in finding.evidence
    return finding if finding.line in lines.get(finding.file, {}) and not holds_code else None


def _checked(raw: Any, findings: list[Finding]) -> dict[str, str]:
    said = raw if isinstance(raw, dict) else {}
    checked = {}
    for klass in get_args(FindingClass):
        if any(finding.klass == klass for finding in findings):
            checked[klass] = "findings"
        elif klass in MUST_ANSWER and isinstance(said.get(klass), str) and len(said[klass].split()) >= 3:
            why = " ".join(said[klass].split()).removeprefix("none: ")
            checked[klass] = f"none: {why[:90]}"
    return checked


def _verdict(findings: list[Finding], checked: dict[str, str]) -> Verdict:
    if any(finding.klass != "nit" and finding.severity != "nit" for finding in findings):
        return "findings"
    return "clean" if all(klass in checked for klass in MUST_ANSWER) else "uninformative"
