"""What is said where a budget or the breaker stops a call: to an agent, and to whoever sits at a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.config import load_config
from mcp_tierkit.desk import open_desk
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.kit import open_kit
from mcp_tierkit.types import Door
from tests.support import JOB, REPAIR, WRONG, make_config, make_env, make_project, said

LEVER = ", or max_output_tokens under [tiers.cheap] below 8000 (nearly all that the call may cost)"
BOTH = "or more (for the draft and a repair)"
TINY = '[budget]\ntask_usd = "0.0022"\n'
FOR_AN_AGENT = ("Ask the user", "server", "retryable", "their", "call again")


CASES = pytest.mark.parametrize(
    ("toml", "theirs", "extra", "way_on", "asked"),
    [
        (TINY, "", {}, f'Set task_usd = "0.012" {BOTH} under [budget] in ~/tierkit.toml{LEVER}',
         f'Ask the user to set task_usd = "0.012" {BOTH} under [budget] in their tierkit.toml{LEVER}'),
        ('[budget]\non_exhausted = "ask"\ncall_usd = "0.0022"\n', "", {},
         f'Set call_usd = "0.0071" {BOTH} under [budget] in ~/tierkit.toml{LEVER}',
         f'Ask the user to set call_usd = "0.0071" {BOTH} under [budget] in their tierkit.toml{LEVER}'),
        ("", TINY, {}, f'Set task_usd = "0.012" {BOTH} under [budget] in PROJECT{LEVER}',
         f'Ask the user to set task_usd = "0.012" {BOTH} under [budget] in the project\'s tierkit.toml{LEVER}'),
        ("", "", {"TIERKIT_BUDGET_DAY_USD": "0.0022"},
         f"Set TIERKIT_BUDGET_DAY_USD=0.012 {BOTH} in the environment{LEVER}",
         f"Ask the user to set TIERKIT_BUDGET_DAY_USD=0.012 {BOTH} in the environment{LEVER}"),
        ("[budget]\nunpriced_calls = 0\n", "", {}, "Raise unpriced_calls under [budget] in ~/tierkit.toml, or name the "
         "model's price", "Ask the user to raise unpriced_calls under [budget] in tierkit.toml, or name the model's "
         "price"),
    ],
    ids=["the user's file", "asking", "the project's file", "a variable", "a count of calls"],
)  # fmt: skip


async def refused(door: Door, tmp_path: Path, toml: str, theirs: str, extra: dict[str, str]) -> dict[str, Any]:
    """The reply to a draft that no budget admits, through one of the doors of a shell."""
    project = make_project(tmp_path / "app", git=False)
    if theirs:
        (project / "tierkit.toml").write_text(theirs)
    env = make_env(tmp_path / "home", toml=toml, **extra)
    if "unpriced" in toml:
        settings = tmp_path / "home/tierkit.toml"
        priced, _, rest = settings.read_text().partition("price = ")
        settings.write_text(f'{priced}billing = "subscription"\n{rest.partition(chr(10))[2]}')
    kit = open_kit(load_config(project=str(project), env=env), gateway=ScriptedGateway([]), door=door)
    async with open_desk(kit) as desk:
        reply = await desk.draft(DraftCall(**JOB))
    assert reply["status"] == "over_budget"
    assert reply["summary"].endswith(". This call was not made.")
    assert "retryable" not in reply["summary"] + reply["next"]
    return reply


@pytest.mark.anyio
@CASES
async def test_a_refusal_at_a_terminal_names_the_file_the_sum_and_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toml: str, theirs: str, extra: dict[str, str], way_on: str,
    asked: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    reply = await refused("terminal", tmp_path, toml, theirs, extra)
    wanted = way_on.replace("PROJECT", str(tmp_path / "app/tierkit.toml"))
    assert reply["next"] == f"{wanted}; then run `tierkit draft {reply['task_id']}`."
    assert [word for word in FOR_AN_AGENT if word in reply["summary"] + reply["next"]] == []


@pytest.mark.anyio
@CASES
async def test_a_refusal_into_a_pipe_has_an_agent_ask_the_user_and_names_no_path(
    tmp_path: Path, toml: str, theirs: str, extra: dict[str, str], way_on: str, asked: str
) -> None:
    reply = await refused("pipe", tmp_path, toml, theirs, extra)
    assert reply["next"] == f"{asked}; then run `tierkit draft {reply['task_id']}`, or go on without it."
    assert not [word for word in ("~/", str(tmp_path), "server") if word in reply["summary"] + reply["next"]]


@pytest.mark.anyio
@pytest.mark.parametrize("limit", ["0.0001", "0.0059"])
async def test_a_smaller_answer_is_no_way_on_where_it_would_not_fit_either(tmp_path: Path, limit: str) -> None:
    """Too little for the prompt alone, or all but spent: 0.0059 admits one draft, and no repair."""
    config = make_config(
        make_project(tmp_path / "app", git=False), tmp_path / "home", toml=f'[budget]\nday_usd = "{limit}"\n'
    )
    gateway = ScriptedGateway([said(WRONG, input=57_500)] * 2)
    async with open_desk(open_kit(config, gateway=gateway)) as desk:
        reply = await desk.draft(DraftCall(**JOB))
    assert reply["status"] == "over_budget"
    assert len(gateway.requests) == (limit == "0.0059")
    assert "max_output_tokens" not in reply["next"]
    assert ("or wait for 00:00 UTC" in reply["next"]) is (limit == "0.0059")


@pytest.mark.anyio
@pytest.mark.parametrize(("door", "is_told"), [("terminal", True), ("pipe", False)])
async def test_only_a_person_is_told_how_to_go_past_the_breaker_by_a_variable(
    tmp_path: Path, door: Door, is_told: bool
) -> None:
    config = make_config(make_project(tmp_path / "app", git=False), tmp_path / "home")
    async with open_desk(open_kit(config, gateway=ScriptedGateway([said(WRONG)] * 9), door=door)) as desk:
        for _ in range(3):
            reply = await desk.draft(DraftCall(**JOB))
    assert "the breaker stops it, not a budget" in reply["summary"]
    assert ("TIERKIT_BUDGET_BREAKER=false" in reply["next"]) is is_told
    assert ("ell the user" in reply["next"]) is not is_told


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "anew"), [("ask", ", which begins anew"), ("refuse", "")])
async def test_a_command_that_goes_on_with_a_refused_repair_begins_anew_and_says_so_and_counts_both(
    tmp_path: Path, mode: str, anew: str
) -> None:
    config = make_config(
        make_project(tmp_path / "app", git=False), tmp_path / "home",
        toml=f'[budget]\non_exhausted = "{mode}"\ntask_usd = "0.0043"\n',
    )  # fmt: skip
    gateway, replies = ScriptedGateway([said(WRONG), said(WRONG), said(REPAIR)]), list[dict[str, Any]]()
    again: dict[str, Any] = JOB
    for _ in range(2):  # Two commands, each with a desk of its own.
        async with open_desk(open_kit(config, gateway=gateway, door="terminal")) as desk:
            replies.append(await desk.draft(DraftCall(**again)))
        again = {"task_id": replies[0]["task_id"]}
        config.config_file.write_text(config.config_file.read_text().replace('"0.0043"', '"1"'))
        config = load_config(project=str(config.project), env=make_env_of(config.config_file))
    first, second = replies
    assert first["status"] == "over_budget"
    assert 'task_usd = "0.0' in first["next"]
    assert "or more (for this call)" in first["next"]
    assert first["next"].endswith(f"; then run `tierkit draft {first['task_id']}`{anew}.")
    assert [request.stage for request in gateway.requests] == ["draft", "draft", "repair"]
    assert second["status"] == "applied"
    # 0.0002 each: what the receipt counts is what the attempts come to.
    assert second["attempts"] == ["earlier rounds: 1 call $0.0002", "cheap tiny-cheap: red, green $0.0004"]
    assert second["receipt"]["measured"]["usd"] == "0.0006"


def make_env_of(settings: Path) -> dict[str, str]:
    """The environment of a user whose settings are written already."""
    text = settings.read_text()
    env = make_env(settings.parent)
    settings.write_text(text)
    return env
