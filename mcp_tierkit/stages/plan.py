"""From what the caller asked to a task, a route and a handoff: decided before anything is spent."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import anyio

from mcp_tierkit.calls import DraftCall, PlanCall
from mcp_tierkit.checks import parse_check
from mcp_tierkit.errors import InvalidInput, PolicyRefused
from mcp_tierkit.kit import Kit
from mcp_tierkit.prices import worst_cost
from mcp_tierkit.receipts import usd
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.routing import Hints, Match, RuleRouter, Ruling
from mcp_tierkit.served import billed
from mcp_tierkit.tiers import NAMES, Tier
from mcp_tierkit.tokens import estimate
from mcp_tierkit.types import Handoff, Message, Record, Route, Task, TierName
from mcp_tierkit.workspace import cleaned_pattern

NEW_FILE_TOKENS = 600
"""What a file that does not exist yet is taken to hold: the median solution of the exercises measured is half of it."""

HEADLINE_CHARS = 300
ASKED = "The caller asked outright."


class Planned(Record):
    """A task with its decision on the ledger."""

    task: Task
    route: Route
    handoff: Handoff


def new_id(prefix: str) -> str:
    """A random id. Twelve digits are five tokens of the caller's; as many letters would be eight."""
    return f"{prefix}{secrets.randbelow(10**12):012d}"


async def plan(
    kit: Kit, call: PlanCall, *, playbook: Match | None = None, client: str | None = None
) -> tuple[Planned, Ruling]:
    """Decide on a task and write it down. No model is called."""
    task, hints = await anyio.to_thread.run_sync(_take_up, kit, call, client, playbook)
    ruling = RuleRouter().route(task.goal, hints)
    return await _write(kit, task, ruling, playbook), ruling


async def accept(kit: Kit, call: DraftCall, *, client: str | None = None) -> Planned:
    """A one-step job: the caller asks for the draft outright, so only rules of safety bind.

    Raises PolicyRefused for work that is not handed to a cheap model, InvalidInput where it cannot be drafted.
    """
    wanted = PlanCall(
        task=call.task or "", files=call.files, context=call.context, checks=call.checks, proof=call.proof
    )
    task, hints = await anyio.to_thread.run_sync(_take_up, kit, wanted, client, None)
    ruling = RuleRouter().route(task.goal, hints)
    if ruling.rule in ("short_task", "no_check"):
        tier = kit.config.draft_tier
        ruling = ruling.model_copy(update={"decision": "draft", "tier": tier, "rule": "caller_asked", "reason": ASKED})
    refuse_unless_draftable(ruling, ruling.open_questions)
    return await _write(kit, task, ruling, None)


async def allow_draft(kit: Kit, planned: Planned) -> Planned:
    """The task with a route that allows a draft: the caller may ask for one where the plan advised against it."""
    tier = planned.task.tier or kit.config.draft_tier
    if planned.route.tier == tier:
        return planned
    elsewhere = planned.route.tier is not None  # A draft before has climbed, or the stage map was changed.
    route = planned.route.model_copy(
        update={
            "route_id": new_id("r"), "decision": "draft", "rule": "caller_asked", "tier": tier,
            "reason": f"The caller asked for a draft, and drafts begin on {tier}." if elsewhere else ASKED,
            "override": _override(kit, planned.task),
        }
    )  # fmt: skip
    await kit.ledger.route(route)
    return planned.model_copy(update={"route": route})


async def allow_climb(kit: Kit, planned: Planned, tier: Tier, messages: Sequence[Message]) -> Route:
    """The route of one call on a tier above, whose caches are cold: its reason says what the prompt costs there."""
    sent = sum(estimate(message.content) for message in messages)
    price = f"${usd(worst_cost(tier.price, sent, 0))} at most" if tier.price else billed(tier)
    cold = f"about {sent} tokens, {price}"
    route = Route(
        route_id=new_id("r"), task_id=planned.task.task_id, decision="draft", tier=tier.name, rule="climb",
        category=planned.route.category,
        reason=f"The tier below did not get the checks green. The prompt is read anew by {tier.model}: {cold}.",
    )  # fmt: skip
    await kit.ledger.route(route)
    return route


async def allow_review(kit: Kit, task_id: str, tier: TierName, override: str | None = None) -> Route:
    """The route of one model's review: it allows that tier alone. `override` says why the pinned one does not hold."""
    route = Route(
        route_id=new_id("r"), task_id=task_id, decision="review", tier=tier, rule="caller_asked", category="review",
        override=override, reason="Nothing blocks the change, and the caller asked for a review.",
    )  # fmt: skip
    await kit.ledger.route(route)
    return route


def _override(kit: Kit, task: Task) -> str | None:
    """Why a task may use a tier above the one the stage map pins for drafts; None where it does not."""
    if task.tier is None or NAMES.index(task.tier) <= NAMES.index(kit.config.draft_tier):
        return None
    return f"The caller pinned {task.tier} for this task; the stage map says {kit.config.draft_tier}."


def refuse_unless_draftable(ruling: Ruling | Route, questions: tuple[str, ...]) -> None:
    """Raise for a decision that no draft may override."""
    if ruling.decision in ("needs_human", "blocked") or ruling.rule == "risk":
        raise PolicyRefused(
            f"{ruling.reason} Nothing was spent.",
            next_step="Ask the user." if ruling.decision == "needs_human" else "Make this change yourself.",
        )
    if ruling.decision != "ask" and questions:
        raise InvalidInput(
            "The drafter asked what only you can decide, and that is still open. Nothing was spent.",
            next_step="Call plan_task again with the answer in assume.",
        )
    if ruling.decision == "ask":
        asked = "; ".join(question.rstrip("?") for question in questions)
        raise InvalidInput(
            f"{ruling.reason.rstrip('.')}{f': {asked}?' if asked else '.'} Nothing was spent.",
            next_step="Call again with what is missing, or call plan_task with assume.",
        )


def _take_up(kit: Kit, call: PlanCall, client: str | None, playbook: Match | None) -> tuple[Task, Hints]:
    """The task and what is known of it. Blocks while it reads the task's files, however many they are."""
    task = make_task(kit, call, client)
    return task, _hints(kit, task, playbook)


def make_task(kit: Kit, call: PlanCall, client: str | None) -> Task:
    """The task as a record. Raises InvalidInput for a bad check or path, PolicyRefused for a secret in the text."""
    goal = _text_of(kit, call.task)
    task = Task(
        task_id=new_id("t"),
        project=str(kit.workspace.root),
        repository=str(kit.config.repository),
        goal=goal,
        checks=tuple(map(parse_check, call.checks)),
        client=client,
        created_at=datetime.now(UTC),
        files=tuple(map(cleaned_pattern, call.files)),
        context=tuple(map(cleaned_pattern, call.context)),
        **call.model_dump(exclude={"task", "checks", "files", "context"}),
    )
    _refuse_secrets(task)
    return task


def _refuse_secrets(task: Task) -> None:
    """Raise for a secret in any text of a task: all of them go to the ledger and most into the request."""
    lists = (task.files, task.context, task.steps, task.acceptance, task.out_of_scope, task.constraints, task.assume)
    commands = [word for check in task.checks for word in (*check.argv, check.name)]
    for text in (task.goal, *(text for texts in lists for text in texts), *commands):
        for secret in find_secrets(text):
            raise PolicyRefused(
                f"The task holds a secret ({secret.rule}, line {secret.line}). Nothing was written or sent.",
                next_step="Take it out and call again.",
            )


def _text_of(kit: Kit, task: str) -> str:
    """The task's text; `@path` names a file in the project that holds it."""
    if not task.startswith("@"):
        return task
    text = kit.workspace.text(task[1:])
    if len(text) > 100_000:
        raise InvalidInput(
            f"{task[1:]} is too long for a task ({len(text)} characters). Nothing was spent.",
            next_step="Name a shorter text, or say the task in a sentence and pass the file as context.",
        )
    return text


def _hints(kit: Kit, task: Task, playbook: Match | None) -> Hints:
    without = tuple(path for path in task.files if path.startswith("!"))
    sizes = [tokens_in(kit, (path, *without)) for path in task.files if path not in without]
    return Hints(
        **task.model_dump(
            include={"files", "steps", "acceptance", "out_of_scope", "assume", "latency", "tier", "proof"}
        ),
        has_check=bool(task.checks),
        input_tokens=estimate(task.goal) + sum(size or 0 for size in sizes),
        output_tokens=sum(NEW_FILE_TOKENS if size is None else max(size // 3, 60) for size in sizes),
        playbook=playbook,
    )


def tokens_in(kit: Kit, patterns: tuple[str, ...]) -> int | None:
    """Tokens of the files behind one path or glob, less those taken out; None for a file yet to be written."""
    found = kit.workspace.expand(patterns)
    return sum(estimate(kit.workspace.text(name)) for name in found) if found else None


async def _write(kit: Kit, task: Task, ruling: Ruling, playbook: Match | None) -> Planned:
    route = Route(
        route_id=new_id("r"), task_id=task.task_id, decision=ruling.decision, tier=_tier(kit, task, ruling),
        rule=ruling.rule, reason=ruling.reason, playbook=playbook.name if playbook else None,
        inputs=playbook.inputs if playbook else {}, category=ruling.category,
        override=_override(kit, task) if ruling.decision in ("single_cheap", "draft") else None,
    )  # fmt: skip
    handoff = Handoff(
        task_id=task.task_id,
        summary=headline(task.goal) if task.steps else task.goal,
        assumptions=task.assume,
        open_questions=(*ruling.open_questions, *ruling.lint) if ruling.decision == "ask" else (),
        risks=ruling.risks,
        **task.model_dump(
            include={"files", "context", "steps", "constraints", "acceptance", "out_of_scope", "checks", "proof"}
        ),
    )
    await kit.ledger.open_task(task)
    await kit.ledger.route(route)
    await kit.ledger.save(handoff)
    return Planned(task=task, route=route, handoff=handoff)


def headline(goal: str) -> str:
    """What a task is called where its steps say the rest: the drafter gets the plan, not the talk that led to it."""
    first = goal.strip().split("\n\n")[0].strip().lstrip("# ")
    return first if len(first) <= HEADLINE_CHARS else f"{first[:HEADLINE_CHARS]}…"


def _tier(kit: Kit, task: Task, ruling: Ruling) -> TierName | None:
    """A pin is obeyed as it is; otherwise the user's stage map names the drafting tier."""
    if ruling.decision not in ("single_cheap", "draft"):
        return None
    return task.tier or kit.config.draft_tier
