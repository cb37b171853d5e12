"""What the six tools cost the caller's context: counted on what is really sent, in o200k tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.types import TextContent

from mcp_tierkit.config import Config
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.tokens import count
from tests.support import BUGGY, JOB, REPAIR, RIGHT, WRONG, client_at, commit_all, make_config, make_project, said

pytestmark = pytest.mark.anyio
LINE = "    value_{n} = compute({n})\n"


def tokens(value: Any) -> int:
    found = count(value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False))
    assert not found.is_estimate
    return found.tokens


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app")


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    return make_config(project, tmp_path / "home")


async def shown(config: Config, tool: str, arguments: dict[str, Any], *replies: Any) -> dict[str, Any]:
    """A tool's reply; both forms that a client may show must be the same record."""
    async with client_at(config, ScriptedGateway(replies)) as client:
        result = await client.call_tool(tool, arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    assert json.loads(block.text) == result.structured_content
    reply: dict[str, Any] = result.structured_content
    return reply


async def test_schemas_and_instructions_stay_within_their_ceilings(config: Config) -> None:
    async with client_at(config) as client:
        listed = (await client.list_tools()).tools
        instructions = client.instructions
    fields = {"name", "description", "input_schema", "output_schema"}
    sent = [tool.model_dump(by_alias=True, exclude_none=True, include=fields) for tool in listed]
    assert [tool.name for tool in listed] == [
        "plan_task", "draft_with_cheap_model", "review_diff", "run_playbook", "get_task", "record_outcome",
    ]  # fmt: skip
    assert max(tokens(tool) for tool in sent) <= 400
    assert sum(tokens(tool) for tool in sent) <= 1200
    assert 100 <= tokens(instructions or "") <= 250
    assert len((instructions or "").encode()) < 2048


async def test_every_tool_carries_all_four_annotations(config: Config) -> None:
    async with client_at(config) as client:
        for tool in (await client.list_tools()).tools:
            assert tool.annotations is not None
            assert None not in tool.annotations.model_dump(exclude={"title"}).values()


@pytest.mark.parametrize("replies", [(RIGHT,), (WRONG, REPAIR)], ids=["at once", "after a repair"])
async def test_a_green_reply_is_200_tokens_or_less(config: Config, replies: tuple[str, ...]) -> None:
    reply = await shown(config, "draft_with_cheap_model", short_job(config), *map(said, replies))
    assert reply["status"] == "applied"
    assert 80 < tokens(reply) <= 200, reply


async def test_a_red_reply_is_300_tokens_or_less_and_keeps_the_end_of_the_output(config: Config) -> None:
    still_wrong = REPAIR.replace("100 - ", "80 - ")
    reply = await shown(config, "draft_with_cheap_model", short_job(config), said(WRONG), said(still_wrong))
    assert reply["status"] == "needs_work"
    assert tokens(reply) <= 300, reply
    assert "1350" in reply["checks"][0]["digest"]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ("I would rather not.", "unreadable (the reply holds no edit)"),
        (RIGHT, "unreadable (block 1 for shop/cart.py, near line 4: the search text is not in the file"),
    ],
)
async def test_a_reply_that_could_not_be_used_says_why_beside_a_red_one_within_the_ceiling(
    config: Config, second: str, why: str
) -> None:
    reply = await shown(config, "draft_with_cheap_model", short_job(config), said(WRONG), said(second))
    assert (reply["status"], len(reply["attempts"])) == ("needs_work", 1)
    assert f"red, {why}" in reply["attempts"][0]
    assert tokens(reply) <= 300, reply


async def test_what_is_wrong_with_a_reply_is_told_once(config: Config) -> None:
    reply = await shown(config, "draft_with_cheap_model", short_job(config), said("No."), said("No, again."))
    assert reply["summary"] == "The reply could not be read as edits: the reply holds no edit."
    assert reply["attempts"][0].startswith("cheap tiny-cheap: unreadable, unreadable $")


async def test_a_plan_is_200_tokens_or_less(config: Config) -> None:
    assert tokens(await shown(config, "plan_task", JOB)) <= 200


async def test_a_running_reply_is_60_tokens_or_less(config: Config) -> None:
    assert tokens(await shown(config, "draft_with_cheap_model", JOB | {"wait_s": 0}, said(RIGHT))) <= 60


async def test_arguments_beyond_the_task_are_80_tokens_or_less() -> None:
    rest = {"files": JOB["files"], "checks": ["python -m unittest -q tests.test_cart"]}
    assert tokens({"task": "", **rest}) <= 80


async def test_a_thousand_changed_lines_cost_the_caller_no_more_than_ten(tmp_path: Path) -> None:
    small, large = [await reply_for(tmp_path / str(lines), lines) for lines in (10, 1000)]
    assert abs(tokens(large) - tokens(small)) <= 20


async def reply_for(root: Path, lines: int) -> dict[str, Any]:
    """A draft that changes `lines` lines in hunks of five and sets the cart right."""
    project = make_project(root / "app", git=False)
    padding = "".join(f"\n\ndef f{n}():\n" + "".join(f"    v{i} = {n}\n" for i in range(5)) for n in range(lines // 5))
    (project / "shop/cart.py").write_text(BUGGY + padding)
    commit_all(project)
    changed = RIGHT.split("```")[1].split("=======\n")[1].split(">>>")[0]
    text = (BUGGY + padding).replace("    return sum(prices) - discount\n", changed).replace(" = ", " = 1 + ")
    whole = f"shop/cart.py\n```\n{text}```\n"
    config = make_config(project, root / "home")
    reply = await shown(config, "draft_with_cheap_model", short_job(config), said(whole))
    assert reply["status"] == "applied", reply
    return reply


def short_job(config: Config) -> dict[str, Any]:
    """The usual job with the check as a person types it: `python` is the project's own."""
    return JOB | {"checks": ["python -m unittest -q tests.test_cart"]}
