"""The receipt of a task: what we spent, what passed through the caller, and what it would have cost without us."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import anyio

from mcp_tierkit.kit import Kit
from mcp_tierkit.ledger import Row
from mcp_tierkit.prices import withdrawal
from mcp_tierkit.receipts import NOTHING_SAVED, CallerSide, Weighed, receipt, usd, weigh
from mcp_tierkit.stages.plan import Planned, tokens_in
from mcp_tierkit.stages.playbook import Prepared
from mcp_tierkit.stages.recipe import PreparedSkill, foresee
from mcp_tierkit.stages.rounds import caller_price, tokens_of
from mcp_tierkit.stages.spared import spared
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import Billing, Draft, Spend
from mcp_tierkit.worth import earlier_told

PROMPT_TOKENS = 1200
"""Our own prompt text around a task, rounded up."""


async def account(
    kit: Kit, planned: Planned, shown: dict[str, Any], *, draft: Draft | None, schema_tokens: int
) -> dict[str, Any]:
    """The receipt that goes into `shown`, over all rounds of the task; what was written to ask for this one is noted.

    What an earlier draft spared stands, less what this round came to, where this is a review, which has no `draft` of
    its own, or a further draft that proved nothing: the change of the one before it is still there, unless that was
    taken back.
    """
    config = kit.config
    drafts = await kit.ledger.drafts(planned.task.task_id)
    own = await anyio.to_thread.run_sync(spared, kit, planned.task, (*drafts[:-1], draft)) if draft else None
    price = caller_price(kit)
    spend = await kit.ledger.spend(planned.task.task_id)
    once = await first_time(kit, planned, spend.calls)
    rows = await kit.ledger.calls(planned.task.task_id)
    once |= await _price_notice(kit, planned.task.task_id, {row.tier for row in rows})
    earlier, before = await kit.ledger.weighed(planned.task.task_id)
    read, wrote = before or (0, 0)
    known = await kit.ledger.alone(planned.task.task_id)
    was_spared = earlier.is_spared if earlier else known not in (None, NOTHING_SAVED)
    stands = draft is None or (own == NOTHING_SAVED and was_spared)
    if stands and await kit.ledger.is_reverted(planned.task.task_id):
        stands, own = False, NOTHING_SAVED
    # Made while its price was not known: what was kept of it is priced by today's, where there is one.
    own = known if stands and earlier is None else own
    are_known, paid_by = all(map(_names_tokens, rows)), _paid_by(rows)
    quota_calls = within_quota(rows)

    def told(with_receipt: dict[str, Any]) -> tuple[Weighed | None, dict[str, Any]]:
        shown_tokens = 0 if kit.door == "terminal" else tokens_of(with_receipt)
        # Over all rounds of the task, as our own calls are: each was read and written by the caller.
        caller = CallerSide(arguments=wrote, reply=read + shown_tokens, schemas=schema_tokens)
        kept = earlier.with_round(price, arguments=0, reply=shown_tokens) if earlier and stands else None
        made = receipt(
            spend, caller, own, price, billing=config.caller.billing, are_tokens_known=are_known, paid_by=paid_by,
            quota_calls=quota_calls, kept=kept,
        )  # fmt: skip
        made["measured"] |= {"read_by": "person"} if kit.door == "terminal" else {}
        return kept or weigh(caller, own, price, billing=config.caller.billing), made | once

    # Twice, since the receipt is part of the reply it counts. In a thread: the first count loads a vocabulary.
    _, first = await anyio.to_thread.run_sync(told, shown)
    weighed, last = await anyio.to_thread.run_sync(told, shown | {"receipt": first})
    if own is not None and not stands:
        await kit.ledger.keep_alone(planned.task.task_id, own, schema_tokens)
    if weighed is not None and weighed.net(spend) is not None:
        await kit.ledger.weigh(planned.task.task_id, weighed)
    return last


async def calls_before(kit: Kit, draft: Draft) -> list[str]:
    """What calls of other rounds of the draft's task came to, in a line, where there were any."""
    own = {attempt.call_id for attempt in draft.attempts}
    rows = [row for row in await kit.ledger.calls(draft.task_id) if row.call_id not in own]
    known = [row.cost_nanousd for row in rows if row.cost_nanousd is not None]
    spend = Spend(calls=len(rows), cost_nanousd=sum(known), unpriced_calls=len(rows) - len(known))
    return earlier_told(spend, within_quota(rows))


def within_quota(rows: Iterable[Row]) -> int:
    """How many of the calls are no dollars, and of no unknown price either."""
    return sum(row.billing == "subscription" and row.cost_nanousd is None for row in rows)


def _paid_by(rows: Iterable[Row]) -> str | None:
    """How these calls were paid for when they were made, None where all are billed by the token."""
    words = {_in_words(row.billing, is_free=row.reserved_nanousd == 0) for row in rows if row.billing is not None}
    return ", ".join(sorted(words)) if words - {"api"} else None


def _in_words(billing: Billing, *, is_free: bool) -> str:
    return "local (machine time not priced)" if billing == "local" and is_free else billing


def _names_tokens(row: Row) -> bool:
    """Whether all that a call used was named. One that was refused at the door used nothing."""
    return (row.status == "failed" and row.cost_nanousd == 0) or None not in (row.input_tokens, row.output_tokens)


async def first_time(kit: Kit, planned: Planned, calls: int) -> dict[str, Any]:
    """Whose key was spent, said once: on the first paid task of a user who has set no budget."""
    if not calls or not kit.config.budget_is_default or await kit.ledger.has_earlier_receipt(planned.task.task_id):
        return {}
    tiers, used = await kit.tiers(), {row.tier for row in await kit.ledger.calls(planned.task.task_id)}
    keys = sorted({tier.api_key_env for tier in tiers.values() if tier.name in used and tier.api_key_env})
    return {"key_spent": ", ".join(keys)} if keys else {}


async def _price_notice(kit: Kit, task_id: str, used: set[str]) -> dict[str, Any]:
    """What is wrong with the prices that this task's money was counted by: said in its first receipt, in few words."""
    if not used or len(await kit.ledger.drafts(task_id)) + len(await kit.ledger.reviews(task_id)) > 1:
        return {}
    found = price_notices(
        [tier for name, tier in (await kit.tiers()).items() if name in used], datetime.now(UTC).date()
    )
    return {"prices": ", ".join(found)} if found else {}


def price_notices(tiers: Iterable[Tier], today: date) -> list[str]:
    """The tiers whose list price is deprecated with its model, or too old to be believed: `cheap deprecated`."""
    told = []
    for tier in tiers:
        if tier.price is None or tier.billing != "api":
            continue
        if withdrawal(tier.model, tier.price, today):
            told.append(f"{tier.name} deprecated")
        elif tier.price.is_stale(today):
            told.append(f"{tier.name} stale")
    return told


async def plan_estimate(kit: Kit, planned: Planned) -> dict[str, Any] | None:
    """What drafting would cost at most, in dollars; None where no draft is advised or no price is known.

    Of a subscription it tells tokens, and dollars are null.
    """
    if planned.route.tier is None:
        return None
    tier = (await kit.tiers()).get(planned.route.tier)
    if tier is None or (tier.billing == "api" and tier.price is None):
        return None
    named = 0
    for part in (planned.task.files, planned.task.context):
        found = await anyio.to_thread.run_sync(tokens_in, kit, part)
        named += found or 0
    sent = PROMPT_TOKENS + min(named, kit.config.pack_tokens)
    worst = tier.worst(sent, tier.max_output_tokens)
    told = {"model": tier.model, "input_tokens": sent, "draft_usd_at_most": usd(worst)}
    return (
        told
        if tier.billing == "api"
        else told | {"billing": _in_words(tier.billing, is_free=tier.hour_nanousd is None)}
    )


async def run_estimate(prepared: Prepared | PreparedSkill) -> dict[str, Any]:
    """What running a playbook would cost: nothing for a script, two small calls at most for a skill."""
    if isinstance(prepared, Prepared):
        return {"tokens": 0, "usd": "0"}
    sent = await foresee(prepared)
    told = {"model": sent.model, "input_tokens": sent.input_tokens, "run_usd_at_most": usd(sent.cost_nanousd)}
    billing = prepared.tier.billing
    return told | ({"billing": billing} if billing == "subscription" else {})
