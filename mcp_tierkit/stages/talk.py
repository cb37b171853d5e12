"""What a drafter is told: an opening that begins every call's request alike, and what later calls add to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mcp_tierkit.kit import Kit
from mcp_tierkit.packing import Packed, fence
from mcp_tierkit.prompts import Prompt, build, load
from mcp_tierkit.stages.material import CONVENTIONS
from mcp_tierkit.stages.plan import Planned
from mcp_tierkit.stages.proof import failing
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import CheckResult, Handoff, Message, Stage

_END_OF_REPORT = re.compile(r"^-+[ \t]*(?:end of )?report\b", re.IGNORECASE | re.MULTILINE)
"""How a line begins that would end the report in which file text and command output are quoted."""

Messages = tuple[Message, ...]


def texts_for(kit: Kit, planned: Planned, tier: Tier) -> dict[Stage, Prompt]:
    """Every text that a call on this tier can need. Raises InvalidInput for one of the user's own that is faulty."""
    own, category = kit.config.prompt_dir, planned.route.category
    return {
        "draft": load("draft", category=category, scratchpad=tier.scratchpad, overrides=own),
        "repair": load("repair", overrides=own),
        "climb": load("climb", overrides=own),
        "continue": load("continue", overrides=own),
    }


def opening(
    prompt: Prompt, handoff: Handoff, packed: Packed, *, conventions: str, checks: tuple[CheckResult, ...]
) -> Messages:
    """The first request: system text that never varies, the project's notes, then the task, the plan and the files."""
    return build(
        prompt,
        profile=fence(CONVENTIONS, conventions) if conventions else "",
        summary=handoff.summary,
        steps=_listed(handoff.steps),
        constraints=_listed(handoff.constraints),
        acceptance=_listed(handoff.acceptance),
        out_of_scope=_listed(handoff.out_of_scope),
        assumptions=_listed(handoff.assumptions),
        editable="\n".join(handoff.files),
        files=packed.editable or "(none yet: every editable file is new)",
        context=packed.context or "(none)",
        neighbours=packed.neighbours or "(none)",
        checks=failing(checks) or "(none)",
    )


def request(stage: Stage, texts: Mapping[Stage, Prompt], first: Messages, so_far: Messages, feedback: str) -> Messages:
    """The messages of a call: a climb starts anew from the opening, others go on from what was said so far."""
    if stage == "draft":
        return first
    if stage == "continue":
        return (*so_far, *texts[stage].render())
    told = texts[stage].render(feedback=_END_OF_REPORT.sub(r"  \g<0>", feedback) or "(nothing)")
    return (*(first if stage == "climb" else so_far), *told)


def _listed(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items) or "(none)"
