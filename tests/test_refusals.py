"""What is said where a budget or the breaker stops a call: to an agent, and to whoever sits at a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.cli import run
from mcp_tierkit.config import load_config
from mcp_tierkit.desk import open_desk
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.kit import open_kit
from tests.support import CHECK, JOB, REPAIR, WRONG, make_config, make_env, make_project, said

DRAFT = ["draft", JOB["task"], "-f", "shop/cart.py", "-k", CHECK]
LEVER = ", or max_output_tokens under [tiers.cheap] below 8000 (nearly all of that sum)"
BOTH = "or more (for the draft and a repair)"
TINY = '[budget]\ntask_usd = "0.0001"\n'
FOR_AN_AGENT = ("Ask the user", "server", "retryable", "their", "call again")


@pytest.mark.parametrize(
    ("toml", "theirs", "extra", "way_on"),
    [
        (TINY, "", {}, f'Set task_usd = "0.012" {BOTH} under [budget] in ~/tierkit.toml{LEVER}'),
        ('[budget]\non_exhausted = "ask"\ncall_usd = "0.0001"\n', "", {},
         f'Set call_usd = "0.0071" {BOTH} under [budget] in ~/tierkit.toml{LEVER}'),
        ("", TINY, {}, f'Set task_usd = "0.012" {BOTH} under [budget] in PROJECT{LEVER}'),
        ("", "", {"TIERKIT_BUDGET_DAY_USD": "0.0001"},
         f"Set TIERKIT_BUDGET_DAY_USD=0.012 {BOTH} in the environment{LEVER}"),
        ("[budget]\nunpriced_calls = 0\n", "", {}, "Raise unpriced_calls under [budget] in ~/tierkit.toml, or name the "
         "model's price"),
    ],
    ids=["the user's file", "asking", "the project's file", "a variable", "a count of calls"],
)  # fmt: skip
def test_a_refusal_in_a_shell_names_the_file_the_sum_and_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toml: str, theirs: str,
    extra: dict[str, str], way_on: str,
) -> None:  # fmt: skip
    project = make_project(tmp_path / "app", git=False)
    if theirs:
        (project / "tierkit.toml").write_text(theirs)
    for name, value in make_env(tmp_path / "home", toml=toml, **extra).items():
        monkeypatch.setenv(name, value)
    if "unpriced" in toml:
        settings = tmp_path / "home/tierkit.toml"
        priced, _, rest = settings.read_text().partition("price = ")
        settings.write_text(f'{priced}billing = "subscription"\n{rest.partition(chr(10))[2]}')
    monkeypatch.chdir(project)
    assert run(DRAFT) == 3
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if re.match(r"[a-z_]+: ", line))
    wanted = way_on.replace("PROJECT", str(project / "tierkit.toml"))
    assert told["next"] == f"{wanted}; then run `tierkit draft {told['task_id']}`."
    assert told["summary"].endswith(". This call was not made.")
    assert [word for word in FOR_AN_AGENT if word in told["summary"] + told["next"]] == []


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
        async with open_desk(open_kit(config, gateway=gateway, door="pipe")) as desk:
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
