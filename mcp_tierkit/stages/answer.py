"""A model's answer without the reasoning before it, and what is done about one that is empty or cut off."""

from __future__ import annotations

from anyio import to_thread

from mcp_tierkit.answers import is_empty, room, split_scratchpad
from mcp_tierkit.edits import join_reply
from mcp_tierkit.errors import OverBudget
from mcp_tierkit.kit import Kit
from mcp_tierkit.metering import Metered, call_model
from mcp_tierkit.prompts import load
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import Message, Route

NO_ANSWER = "Your reply held no answer. Do not deliberate; answer now, in the form asked for."


async def answer_of(kit: Kit, tier: Tier, metered: Metered) -> str:
    """The answer in a reply. What a scratchpad holds before it goes to the ledger and no further."""
    # In a thread, as the join below: a reply of a megabyte takes a while.
    reasoning, answer = await to_thread.run_sync(split_scratchpad, metered.completion.text)
    if reasoning and tier.scratchpad:
        await kit.ledger.keep_text(metered.call_id, "reasoning", reasoning)
    return answer


def said(metered: Metered) -> Message:
    """A reply as the conversation remembers it: byte for byte, so that a provider's cache holds."""
    return Message(role="assistant", content=metered.completion.text or "(no text)")


async def whole_answer(
    kit: Kit, route: Route, tier: Tier, *, messages: tuple[Message, ...], prompt_id: str
) -> tuple[str, Metered]:
    """A review's answer and the call that began it; one that is empty or cut off is asked for once more.

    The second call has all the room. Raises as `call_model` does. Where no budget is left for a second call, the first
    one's answer has to do.
    """
    limit = room(route.category, max_output_tokens=tier.max_output_tokens, thinking_tokens=tier.thinking_tokens)
    metered = await call_model(
        kit, route, tier, stage="review", messages=messages, prompt_id=prompt_id,
        max_output_tokens=limit.max_output_tokens,
    )  # fmt: skip
    answer = await answer_of(kit, tier, metered)
    if not is_empty(answer) and metered.completion.finish != "length":
        return answer, metered
    prompt = load("continue", overrides=kit.config.prompt_dir)
    asked = (Message(role="user", content=NO_ANSWER),) if is_empty(answer) else prompt.render()
    try:
        more = await call_model(
            kit, route, tier, stage="continue", messages=(*messages, said(metered), *asked), prompt_id=prompt.id
        )
    except OverBudget:
        return answer, metered  # The first call has been paid for: whatever it gave is weighed.
    rest = await answer_of(kit, tier, more)
    return await to_thread.run_sync(join_reply, answer, rest), metered
