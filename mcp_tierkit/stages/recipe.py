"""A skill asked for by name: its documents read, one model call and at most one repair, the answer checked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import anyio
from anyio import to_thread

from mcp_tierkit.errors import ModelFailed, OverBudget, PathRefused
from mcp_tierkit.jobs import Report
from mcp_tierkit.kit import Kit
from mcp_tierkit.ledger import Row
from mcp_tierkit.metering import call_model
from mcp_tierkit.playbook.load import Playbook
from mcp_tierkit.playbook.recipe import MOST_CALLS, Recipe, Said, answered, make_recipe
from mcp_tierkit.prompts import load
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.reply import keeps_whole
from mcp_tierkit.routing import category_of
from mcp_tierkit.stages.answer import answer_of, said
from mcp_tierkit.stages.plan import new_id
from mcp_tierkit.stages.playbook import Prepared, check_inputs, open_shelf, prepare, row_of
from mcp_tierkit.tiers import Tier
from mcp_tierkit.tokens import at_most, estimate
from mcp_tierkit.types import Message, PlaybookOrigin, PlaybookRun, PlaybookStatus, Route
from mcp_tierkit.workspace import Workspace

FRAMING_TOKENS = 16
"""Of one message, beside its text."""
REFIT_TOKENS = 500
"""Of what a second call says beside the first request and its answer, at most."""


@dataclass(frozen=True)
class PreparedSkill:
    """A run of a skill that nothing refuses any more but the budget."""

    recipe: Recipe
    inputs: dict[str, Any]
    tier: Tier
    hides: tuple[PlaybookOrigin, ...] = ()

    @property
    def playbook(self) -> Playbook:
        return self.recipe.playbook

    @property
    def room(self) -> int:
        """Tokens of one answer: what the contract allows, and the tier's thinking before it."""
        return min(self.recipe.rules.max_output_tokens + self.tier.thinking_tokens, self.tier.max_output_tokens)


class Forecast(NamedTuple):
    """What a run would send, and the most that it could cost."""

    tier: str
    model: str
    input_tokens: int
    cost_nanousd: int | None


async def prepare_run(kit: Kit, name: str, inputs: Mapping[str, Any]) -> Prepared | PreparedSkill:
    """A run of the trusted playbook of that name, whatever its kind. Raises as `prepare` and `prepare_skill` do."""
    shelf = await to_thread.run_sync(lambda: open_shelf(kit.config, name=name))
    playbook = shelf.named(name)
    if playbook.contract.kind == "skill":
        return await prepare_skill(kit, playbook, inputs, hides=shelf.hides(name))
    return await prepare(kit.config, kit.workspace, name, inputs, shelf=shelf)


async def prepare_skill(
    kit: Kit, playbook: Playbook, inputs: Mapping[str, Any], *, hides: tuple[PlaybookOrigin, ...] = ()
) -> PreparedSkill:
    """Everything that can be refused before a call.

    Raises InvalidInput, NotFound or PolicyRefused, each text begun by its code, and NoModel, which says what to set.
    """

    def work() -> tuple[dict[str, Any], Recipe]:
        checked = check_inputs(playbook, inputs, kit.workspace)
        config = kit.config
        return checked, make_recipe(
            playbook, checked, kit.workspace, budget=config.pack_tokens, overrides=config.prompt_dir
        )

    checked, recipe = await to_thread.run_sync(work)
    load("refit", overrides=kit.config.prompt_dir)  # A faulty text of the user's own is told before money is spent.
    return PreparedSkill(recipe, checked, await kit.tier(recipe.rules.tier), hides)


async def foresee(prepared: PreparedSkill) -> Forecast:
    """What would be sent, with no call made: the tokens of the first request, the most that both calls can cost."""
    return await to_thread.run_sync(_foresee, prepared)


def _foresee(prepared: PreparedSkill) -> Forecast:
    tier, messages = prepared.tier, prepared.recipe.messages()
    sent = sum(at_most(message.content) + FRAMING_TOKENS for message in messages)
    both = tier.worst(sent, prepared.room), tier.worst(sent + prepared.room + REFIT_TOKENS, prepared.room)
    worst = None if None in both else sum(filter(None, both))
    return Forecast(tier.name, tier.model, sum(estimate(message.content) for message in messages), worst)


async def carry_out(kit: Kit, prepared: PreparedSkill, task_id: str, report: Report) -> PlaybookRun:
    """Ask, read, check, ask once more where that is needed; the run is on the ledger when this returns.

    Raises OverBudget and PolicyRefused where the first call may not be made: nothing was run then.
    """
    started = time.monotonic()
    asking = _Asking(kit, prepared, await _routed(kit, prepared, task_id), report)
    ending = _Ending("timeout", note=f"stopped after {kit.config.task_timeout_s:g} s")
    try:
        with anyio.move_on_after(kit.config.task_timeout_s):
            ending = await _ending(asking)
    except anyio.get_cancelled_exc_class():
        # Shielded: a run that was cut short is a row too.
        with anyio.CancelScope(shield=True):
            await kit.ledger.save(await _row(kit, prepared, task_id, _Ending("cancelled"), started))
        raise
    row = await _row(kit, prepared, task_id, ending, started)
    await kit.ledger.save(row)
    return row


class _Ending(NamedTuple):
    status: PlaybookStatus
    output: dict[str, Any] | None = None
    note: str = ""


@dataclass
class _Asking:
    """The conversation of one run: what was sent, what came back, and why it was broken off."""

    kit: Kit
    prepared: PreparedSkill
    route: Route
    report: Report
    talk: tuple[Message, ...] = ()
    note: str = ""
    calls: int = 0

    async def ask(self, fault: str | None) -> Said | None:
        """The next words. None, with a note, where there is no second call; what forbids the first one is raised."""
        refit = load("refit", overrides=self.kit.config.prompt_dir)
        if fault is None:
            messages, prompt_id = self.prepared.recipe.messages(), self.prepared.recipe.prompt.id
        elif any(find_secrets(text) for text in (self.talk[-1].content, fault)):
            self.note = "it made up something that looks like a secret, so it was not asked again"
            return None
        else:
            messages, prompt_id = (*self.talk, *refit.render(fault=fault)), refit.id
        try:
            return await self._call(messages, prompt_id)
        except OverBudget as error:
            if fault is None:
                raise
            self.note = f"it was not asked again: {error.what} {error.next_step}"
            return None

    async def _call(self, messages: tuple[Message, ...], prompt_id: str) -> Said:
        kit, tier = self.kit, self.prepared.tier
        self.calls += 1
        self.report(f"call {self.calls} of at most {MOST_CALLS}: waiting for the {tier.name} tier")
        metered = await call_model(
            kit, self.route, tier, stage="playbook", messages=messages, prompt_id=prompt_id,
            max_output_tokens=self.prepared.room,
        )  # fmt: skip
        self.talk = (*messages, said(metered))
        return Said(await answer_of(kit, tier, metered), metered.completion.finish == "length")


async def _ending(asking: _Asking) -> _Ending:
    try:
        answer = await answered(asking.prepared.recipe, asking.ask)
    except ModelFailed as error:
        return _Ending("timeout" if error.kind == "timeout" else "failed", note=str(error))
    if answer.output is not None:
        return _Ending("ok", answer.output)
    told = f"the answer does not fit. {answer.fault}"
    return _Ending("bad_output", note=f"{told}; {asking.note}" if asking.note else told)


async def _routed(kit: Kit, prepared: PreparedSkill, task_id: str) -> Route:
    """The route of the run's calls, on the ledger: the one tier that the contract names."""
    playbook, tier = prepared.playbook, prepared.tier
    asked = category_of(" ".join(phrase.text for phrase in playbook.phrases), ())
    route = Route(
        route_id=new_id("r"), task_id=task_id, decision="run_playbook", tier=tier.name, rule="contract",
        reason=f"The contract of {playbook.name} asks the {tier.name} tier, {MOST_CALLS} calls at most.",
        # A skill never writes code: what is asked for in other words is prose.
        category="docs" if asked == "code" else asked, playbook=playbook.name, inputs=prepared.inputs,
    )  # fmt: skip
    await kit.ledger.route(route)
    return route


async def _row(kit: Kit, prepared: PreparedSkill, task_id: str, ending: _Ending, started: float) -> PlaybookRun:
    rows = await kit.ledger.calls(task_id)
    costs = [row.cost_nanousd for row in rows]
    return row_of(
        prepared.playbook, task_id=task_id, hides=prepared.hides, status=ending.status, kind="skill",
        tokens=_tokens(rows), cost_nanousd=None if None in costs else sum(cost or 0 for cost in costs),
        billing=prepared.tier.billing,
        output=ending.output, log_tail=ending.note, sandbox="none", ms=int((time.monotonic() - started) * 1000),
    )  # fmt: skip


def _tokens(rows: tuple[Row, ...]) -> int | None:
    """In and out over every call that cost something; None where a provider did not say."""
    total = 0
    for row in rows:
        if row.status == "failed" and row.cost_nanousd == 0:
            continue  # Refused at the door: nothing was read.
        if row.input_tokens is None or row.output_tokens is None:
            return None
        total += row.input_tokens + (row.cached_tokens or 0) + (row.cache_write_tokens or 0) + row.output_tokens
    return total


def keep_whole(workspace: Workspace, run: PlaybookRun) -> dict[str, str]:
    """Where the texts lie that are too long for a reply; one that cannot be kept is left out: what ran is told."""
    kept: dict[str, str] = {}
    for what, text in keeps_whole(run).items():
        name = "output.json" if what == "output" else "log.txt"
        with contextlib.suppress(PathRefused, OSError):
            kept[what] = workspace.write_private(f"{run.task_id}/{name}", text.encode("utf8", "backslashreplace"))
    return kept
