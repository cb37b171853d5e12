"""What can be done about a call that a budget or the breaker refused, in words for who reads them.

A person at a terminal is told the file and the command. An agent, through MCP or a pipe, is told to ask the user: a
limit is not its own to raise.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import NamedTuple

from mcp_tierkit.config import ARGUMENTS, ENVIRONMENT, Config, variable
from mcp_tierkit.errors import OverBudget
from mcp_tierkit.narrowing import PLACE
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import Door, Request, Stage

NANO = Decimal("1e-9")
MOSTLY = 0.8
"""The part of a call's most from which one setting is said to be what makes it."""
EVIDENCE_TOKENS = 4_000
"""What a repair is told beside the draft's reply, which at its longest is counted threefold: as a reservation may."""
SERVERS = "the server's environment"
ANEW = {"day": ", or wait for 00:00 UTC", "month": ", or wait for the month's end (UTC)"}
GOES_ON: tuple[Stage, ...] = ("repair", "climb", "continue")


class Refused(NamedTuple):
    """The call, the most that it could cost, its tier, and what of its task decides what would come next."""

    request: Request
    worst: int | None
    tier: Tier
    is_single_pass: bool = False


def explain(config: Config, error: OverBudget, refused: Refused, *, door: Door) -> None:
    """Say in the error what is to be raised, where and to how much, and how the work then goes on."""
    is_asked = config.on_exhausted == "ask"
    if door != "mcp" or is_asked:  # "Not retryable" is for programs, and no word beside a way to go on.
        error.what = error.what.replace(" (retryable=false)", "")
    if error.budget == "breaker":
        error.next_step = _past_the_breaker(error.next_step.rstrip("."), door, is_asked=is_asked)
        return
    tell = _to_person if door == "terminal" else _to_agent
    error.next_step = tell(config, error, refused, door)


def _past_the_breaker(told: str, door: Door, *, is_asked: bool) -> str:
    if door == "terminal":
        told = told.replace("Tell the user; it", "It").replace("tell the user; ", "wait: ")
        return f"{told}, or at once with {variable('budget.breaker')}=false in front of the command."
    start = " and a new start of the server" if door == "mcp" and not is_asked else ""
    return f"{told}, or with breaker = false under [budget] in tierkit.toml{start}, or go on without it."


def _to_agent(config: Config, error: OverBudget, refused: Refused, door: Door) -> str:
    is_asked, told = config.on_exhausted == "ask", error.next_step.rstrip(".")
    if error.needed_usd is not None:
        place = config.budget_places.get(f"{error.budget}_usd")
        file = PLACE if place == PLACE else "their tierkit.toml"
        environment = SERVERS if door == "mcp" else "the environment"
        told = f"Ask the user to {_raised(error, refused, place, file, environment)}"
        is_read_at_start = place in (ENVIRONMENT, ARGUMENTS) or not is_asked
        told += " and start the server again" if door == "mcp" and is_read_at_start else ""
        told += _otherwise(error, refused)
    if door == "pipe":
        return f"{told}; then {_again(config, refused.request)}, or go on without it."
    if not is_asked or refused.request.stage == "doctor":  # No call goes on with what doctor asked.
        return f"{told}, or go on without it."
    again = "the same inputs" if refused.request.stage == "playbook" else f"task_id {refused.request.task_id}"
    return f"{told}; then call again with {again}."


def _to_person(config: Config, error: OverBudget, refused: Refused, door: Door) -> str:
    place = config.budget_places.get(f"{error.budget}_usd")
    file = _short(config.project / "tierkit.toml" if place == PLACE else config.config_file)
    if error.needed_usd is None:
        told = error.next_step.rstrip(".").removeprefix("Ask the user to ").replace("in tierkit.toml", f"in {file}")
    else:
        told = _raised(error, refused, place, file, "the environment") + _otherwise(error, refused)
    return f"{told[0].upper()}{told[1:]}; then {_again(config, refused.request)}."


def _again(config: Config, request: Request) -> str:
    if request.stage == "draft" or request.stage in GOES_ON:
        # What a command has at hand ends with it, whatever the settings say.
        anew = ", which begins anew" if config.on_exhausted == "ask" and request.stage in GOES_ON else ""
        return f"run `tierkit draft {request.task_id}`{anew}"
    return "run the same command again"


def _raised(error: OverBudget, refused: Refused, place: str | None, file: str, environment: str) -> str:
    """Which limit is to be set to how much, and in which place."""
    needed, meant = _needed(error, refused)
    key = f"{error.budget}_usd"
    if place == ENVIRONMENT:
        told = f"set {variable(f'budget.{key}')}={needed} or more ({meant}) in {environment}"
    elif place == ARGUMENTS:
        told = f"set budget.{key} to {needed} or more ({meant}) where the server is started"
    elif place is None:
        told = f'replace our default with {key} = "{needed}" or more ({meant}), or "none", under [budget] in {file}'
    else:
        told = f'set {key} = "{needed}" or more ({meant}) under [budget] in {file}'
    return told


def _needed(error: OverBudget, refused: Refused) -> tuple[str, str]:
    """A limit that admits the call, and for a draft the repair that may follow, and of what it is a sum."""
    request, worst, tier = refused.request, refused.worst, refused.tier
    alone = str(error.needed_usd), "for this call"
    if request.stage != "draft" or refused.is_single_pass or worst is None:
        return alone
    reread = 0 if tier.hour_nanousd is not None else tier.worst(3 * request.max_output_tokens + EVIDENCE_TOKENS, 0) or 0
    both = reread + (0 if error.budget == "call" else worst)
    return _rounded_up(Decimal(str(error.needed_usd)) + both * NANO), "for the draft and a repair"


def _rounded_up(amount: Decimal) -> str:
    """To two digits that tell: it is a limit, and not a sum that anybody owes."""
    step = Decimal(1).scaleb(amount.adjusted() - 1)
    return f"{amount.quantize(step, ROUND_CEILING):f}"


def _otherwise(error: OverBudget, refused: Refused) -> str:
    """What helps beside a higher limit: a smaller answer, or the next day."""
    anew = ANEW.get(error.budget, "") if (refused.worst or 0) <= error.limit_nanousd else ""
    return _lever(refused, error.limit_nanousd - error.held_nanousd) + anew


def _lever(refused: Refused, room: int) -> str:
    """The setting that makes nearly all of what the call may cost, where one does and a lower one would suffice."""
    worst, tier, request = refused.worst, refused.tier, refused.request
    if not worst:
        return ""
    if tier.hour_nanousd is not None:
        return f", or a lower timeout_s under [tiers.{tier.name}] (all that a call may cost)"
    output = tier.worst(0, request.max_output_tokens) or 0
    if output < MOSTLY * worst or worst - output >= room:
        return ""
    below = f"max_output_tokens under [tiers.{tier.name}] below {request.max_output_tokens}"
    return f", or {below} (nearly all that the call may cost)"


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
