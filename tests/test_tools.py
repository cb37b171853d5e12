"""The six tools through a real MCP client in memory: what they do, say and refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.config import Config
from mcp_tierkit.gateway import ScriptedGateway
from tests.support import (
    CHECK_NAME,
    FIXED,
    JOB,
    REPAIR,
    RIGHT,
    WRONG,
    client_at,
    make_config,
    make_project,
    said,
    snapshot,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app")


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    return make_config(project, tmp_path / "home")


async def call(config: Config, tool: str, arguments: dict[str, Any], *replies: Any) -> dict[str, Any]:
    async with client_at(config, ScriptedGateway(replies)) as client:
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    reply: dict[str, Any] = result.structured_content
    return reply


async def refusal(config: Config, tool: str, arguments: dict[str, Any], *replies: Any) -> str:
    gateway = ScriptedGateway(replies)
    async with client_at(config, gateway) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    assert gateway.requests == []
    [block] = result.content
    assert block.type == "text"
    return block.text


async def test_a_right_draft_is_applied_in_one_call(config: Config, project: Path) -> None:
    reply = await call(config, "draft_with_cheap_model", JOB, said(RIGHT))
    assert reply["status"] == "applied", reply
    assert (project / "shop/cart.py").read_text() == FIXED
    assert reply["checks"] == [
        {
            "name": CHECK_NAME,
            "role": "turns_green",
            "before": "red",
            "after": "green",
        }
    ]


async def test_a_wrong_draft_is_repaired_and_both_calls_are_on_the_receipt(config: Config, project: Path) -> None:
    reply = await call(config, "draft_with_cheap_model", JOB, said(WRONG), said(REPAIR))
    assert reply["status"] == "applied", reply
    assert reply["attempts"] == ["cheap tiny-cheap: red, green $0.0004"]
    assert reply["receipt"]["measured"]["usd"] == "0.0004"
    assert (project / "shop/cart.py").read_text() == FIXED


async def test_a_draft_that_stays_red_leaves_every_byte(config: Config, project: Path) -> None:
    before = snapshot(project)
    reply = await call(config, "draft_with_cheap_model", JOB, said(WRONG), said(REPAIR.replace("100 - ", "80 - ")))
    assert reply["status"] == "needs_work"
    assert snapshot(project) == before
    assert "1350" in reply["checks"][0]["digest"]
    assert (project / reply["patch"]).exists()


async def test_the_first_and_last_fields_are_summary_and_next(config: Config) -> None:
    reply = await call(config, "draft_with_cheap_model", JOB, said(RIGHT))
    assert next(iter(reply)) == "summary"
    assert list(reply)[-1] == "next"


async def test_a_task_can_be_planned_and_drafted_by_its_id_alone(config: Config, project: Path) -> None:
    plan = await call(
        config,
        "plan_task",
        JOB
        | {
            "steps": ["Change total()."],
            "acceptance": ["10 % off 1500 is 1350"],
            "out_of_scope": ["count()"],
            "assume": [],
        },
    )
    assert plan["decision"] == "do_it_yourself"
    reply = await call(config, "draft_with_cheap_model", {"task_id": plan["task_id"]}, said(RIGHT))
    assert reply["status"] == "applied"


async def test_undo_restores_the_file_byte_for_byte(config: Config, project: Path) -> None:
    before = snapshot(project)
    reply = await call(config, "draft_with_cheap_model", JOB, said(RIGHT))
    assert snapshot(project) != before
    outcome = await call(config, "record_outcome", {"task_id": reply["task_id"], "outcome": "reverted", "undo": True})
    assert outcome["restored"] == ["shop/cart.py"]
    assert snapshot(project) == before


async def test_a_question_of_the_drafter_edits_nothing(config: Config, project: Path) -> None:
    before = snapshot(project)
    reply = await call(config, "draft_with_cheap_model", JOB, said("QUESTION: Is the discount in percent or cents?"))
    assert (reply["status"], reply["question_from_model"]) == ("question", "Is the discount in percent or cents?")
    assert snapshot(project) == before


async def test_without_a_check_a_draft_is_a_patch_and_nothing_more(config: Config, project: Path) -> None:
    before = snapshot(project)
    reply = await call(config, "draft_with_cheap_model", {k: JOB[k] for k in ("task", "files")}, said(RIGHT))
    assert reply["status"] == "unproven"
    assert snapshot(project) == before


async def test_a_check_that_cannot_run_stops_the_task_before_money(config: Config) -> None:
    reply = await call(config, "draft_with_cheap_model", JOB | {"checks": ["no-such-command --now"]})
    assert reply["status"] == "unrunnable"
    assert reply["receipt"]["measured"]["tokens"] == [0, 0]


async def test_a_check_that_is_green_already_proves_nothing_and_spends_nothing(config: Config, project: Path) -> None:
    (project / "shop/cart.py").write_text(FIXED)
    reply = await call(config, "draft_with_cheap_model", JOB)
    assert reply["status"] == "unproven"
    assert reply["checks"][0]["before"] == "vacuous"


async def test_bad_arguments_are_named_without_repeating_their_values(config: Config) -> None:
    text = await refusal(config, "draft_with_cheap_model", {"task": "x", "flies": ["secret-value"]})
    assert text.startswith("invalid_input: The arguments do not fit: flies is unknown (known are task_id, ")
    assert "secret-value" not in text
    assert "pydantic" not in text


async def test_an_unknown_task_says_what_to_do(config: Config) -> None:
    assert (await refusal(config, "get_task", {"task_id": "tnone"})).startswith("not_found: ")


async def test_risky_work_is_not_handed_over(config: Config) -> None:
    text = await refusal(config, "draft_with_cheap_model", JOB | {"files": ["shop/auth/login.py"]})
    assert text.startswith("refused_policy: ")


async def test_a_review_finds_what_the_model_says_at_a_line_of_the_diff(config: Config, project: Path) -> None:
    (project / "shop/cart.py").write_text(FIXED)
    answer = (
        '{"findings": [{"file": "shop/cart.py", "line": 6, "severity": "major", "klass": "edge_case", "claim": '
        '"A discount over 100 gives a negative total.", "evidence": "(100 - discount)"}, {"file": "shop/cart.py", '
        '"line": 900, "severity": "major", "klass": "test", "claim": "No such line.", "evidence": "none"}], '
        '"checked": {"assumption": "none: because prices are ints", "test": "none: because total is tested", '
        '"drift": "none: because one line changed", "security": "none: because no input reaches a sink"}}'
    )
    reply = await call(config, "review_diff", {"diff": "working_tree"}, said(answer))
    assert reply["verdict"] == "findings"
    assert reply["summary"] == "findings: 1 finding."
    assert reply["checked"]["drift"] == "none: because one line changed"
    assert [finding["line"] for finding in reply["findings"]] == [6]
    assert reply["dropped"] == 1


async def test_a_secret_in_the_diff_blocks_the_review_before_any_model(config: Config, project: Path) -> None:
    key = "AKIA" + "ABCDEFGHIJKLMNOP"
    (project / "shop/cart.py").write_text(FIXED + f'KEY = "{key}"\n')
    reply = await call(config, "review_diff", {"diff": "working_tree"})
    assert reply["verdict"] == "blocked"
    assert key not in str(reply)


async def test_get_task_gives_the_last_reply_again(config: Config) -> None:
    reply = await call(config, "draft_with_cheap_model", JOB, said(RIGHT))
    again = await call(config, "get_task", {"task_id": reply["task_id"]})
    assert {key: again[key] for key in reply} == reply
    assert again["state"] == "done"


async def test_playbooks_are_listed_one_line_each(config: Config) -> None:
    reply = await call(config, "run_playbook", {})
    assert any(line.startswith("changelog-from-git(from_ref, to_ref?, limit?): ") for line in reply["playbooks"])


async def test_a_draft_of_a_plan_that_failed_lint_is_told_what_is_missing(config: Config) -> None:
    plan = await call(config, "plan_task", JOB | {"steps": ["Change total()."]})
    assert (plan["decision"], plan["reason"]) == ("ask", "plan_lint")
    text = await refusal(config, "draft_with_cheap_model", {"task_id": plan["task_id"]})
    assert "acceptance is missing" in text
