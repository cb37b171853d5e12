"""The script that stands in for a client's model, and what `make clients` takes for a fault and for an addition."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.clients import LAST_WORDS, OURS, PREFIX, SKILL, Session, additions, expected_text, judge, own
from benchmarks.scripted_model import Result, ScriptedModel, Use, quoted, results
from mcp_tierkit.demo import FILE
from mcp_tierkit.server import CONTRACT

NOTE = "<system-reminder>\nrota/shifts.py was changed on disk.\n</system-reminder>"
BUDGET = "<system-reminder>\n9 tokens left\n</system-reminder>"


def used(name: str, number: int) -> dict[str, Any]:
    block = {"type": "tool_use", "id": f"t{number}", "name": name, "input": {}}
    return {"role": "assistant", "content": [block]}


def gave(number: int, text: str, *beside: str, is_error: bool = False) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": f"t{number}", "content": text, "is_error": is_error}
    return {"role": "user", "content": [block, *({"type": "text", "text": words} for words in beside)]}


def asked(model: ScriptedModel, **request: Any) -> dict[str, Any]:
    request = {"messages": [], "tools": [{"name": f"{PREFIX}plan_task"}, {"name": "Read"}], **request}
    with urllib.request.urlopen(f"{model.url}/v1/messages?beta=true", json.dumps(request).encode()) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
    block: dict[str, Any] = answer["content"][0]
    return block


def test_each_turn_follows_from_the_results_already_there_and_may_quote_them() -> None:
    turns = [Use("plan_task", {"task": "x"}), Use("Read", {"file_path": "{plan_task.task_id}"})]
    planned = [used(f"{PREFIX}plan_task", 0), gave(0, '{"task_id": "t1"}\n\n' + BUDGET)]
    with ScriptedModel(turns, "bye") as model:
        first, again = asked(model), asked(model)
        second = asked(model, messages=planned)
        last = asked(model, messages=[*planned, used("Read", 1), gave(1, "text")])
        aside = asked(model, tools=[])
        kept = len(model.requests)
    assert [block.get("name") for block in (first, again, second)] == [f"{PREFIX}plan_task"] * 2 + ["Read"]
    assert second["input"] == {"file_path": "t1"}
    assert [last["text"], aside["text"], kept] == ["bye", "ok", 4]


def test_a_quote_of_what_is_not_there_ends_the_script_with_the_reason() -> None:
    with ScriptedModel([Use("Read", {"file_path": "{plan_task.task_id}"})]) as model:
        assert asked(model)["text"].startswith("The script cannot go on: Read quotes KeyError('plan_task')")
    with pytest.raises(ValueError, match="Expecting value"):
        quoted(Use("Read", {"file_path": "{plan_task.task_id}"}), [Result("plan_task", "error: no", True)])


def test_what_the_client_adds_is_told_apart_from_what_the_tool_gave() -> None:
    before = {"messages": [{"role": "user", "content": "go"}]}
    said = '{"status": "applied"}'
    after = {"messages": [*before["messages"], used("draft", 0), gave(0, f"{said}\n\n{BUDGET}", NOTE)]}
    (added,) = additions([before, after])
    assert [NOTE in added, BUDGET in added, said in added] == [True, True, False]
    assert own(results(after)[0].text) == said


def good_session() -> Session:
    replies = dict.fromkeys(OURS, "{}") | {
        "draft_with_cheap_model": '{"status": "applied"}',
        "review_diff": '{"verdict": "findings"}',
        "run_playbook": '{"status": "ok"}',
        "get_task": '{"state": "done"}',
        "record_outcome": '{"outcome": "edited"}',
    }
    shown = CONTRACT["instructions"] + (SKILL / "SKILL.md").read_text()
    messages: list[dict[str, Any]] = [{"role": "user", "content": shown}]
    for number, (name, text) in enumerate(replies.items()):
        messages += [used(PREFIX + name, number), gave(number, text)]
    tools = [
        {"name": PREFIX + tool["name"], "description": tool["description"], "input_schema": {}}
        for tool in CONTRACT["tools"]
    ]
    events: list[dict[str, Any]] = [
        {"mcp_servers": [{"status": "connected"}]},
        {"type": "result", "result": LAST_WORDS},
    ]
    request = {"messages": messages, "tools": tools}
    return Session(0, events, (request,), OURS, expected_text(), f" M {FILE}\n", 0, ())


def test_a_session_in_which_all_landed_has_no_fault() -> None:
    assert judge(good_session()) == []


def test_a_lost_edit_a_refused_call_and_a_process_left_are_faults() -> None:
    session = good_session()
    messages = session.requests[0]["messages"]
    refused = [*messages[:-1], gave(len(OURS) - 1, '{"outcome": "edited"}', is_error=True)]
    lost = expected_text().replace("Minutes at work", "Minutes worked")
    broken = replace(session, text=lost, left=(7,), requests=({**session.requests[0], "messages": refused},))
    assert [fault.split(":")[0] for fault in judge(broken)] == ["refused calls", "file", "processes left"]


def test_a_playbook_that_the_client_did_not_take_for_a_skill_is_a_fault() -> None:
    session = good_session()
    messages = [{"role": "user", "content": CONTRACT["instructions"]}, *session.requests[0]["messages"][1:]]
    broken = replace(session, requests=({**session.requests[0], "messages": messages},))
    (fault,) = judge(broken)
    assert fault.startswith("playbook as a skill: 'not offered and not loaded'")


def test_the_expected_file_holds_the_draft_its_repair_and_the_edit() -> None:
    text = expected_text()
    assert "in sorted(shifts)" in text
    assert "max(merged[-1].end, shift.end)" in text
    assert "Minutes at work" in text
