"""Drafts as a caller sees them: which call comes next, what each reply is worth, and when it ends."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mcp.types import TextContent

from mcp_tierkit.config import Config
from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.opening import ledger_path
from mcp_tierkit.types import Completion, Request, Usage
from tests.support import (
    CHECK,
    CHECK_NAME,
    FIXED,
    JOB,
    REPAIR,
    RIGHT,
    WRONG,
    client_at,
    make_config,
    make_project,
    run_git,
    said,
)

pytestmark = pytest.mark.anyio

MID = (
    '[tiers.mid]\nmodels = ["openai/tiny-mid"]\nbase_url = "http://127.0.0.1:9"\n'
    'price = { input = "1", output = "5" }\n'
)
OTHER_WRONG = WRONG.replace("(90 - discount)", "(80 - discount)").replace(
    "sum(prices) - discount", "sum(prices) * (90 - discount) // 100", 1
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app")


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    return make_config(project, tmp_path / "home", toml=MID)


def reply(text: str, *, served: str = "tiny-cheap", finish: Any = "stop") -> Completion:
    return said(text).model_copy(update={"served_model": served, "finish": finish})


async def drafted(config: Config, *replies: Any, **more: Any) -> tuple[dict[str, Any], list[Request]]:
    """The reply of one drafting call over MCP, and the requests that the models got."""
    gateway = ScriptedGateway(replies)
    async with client_at(config, gateway) as client:
        result = await client.call_tool("draft_with_cheap_model", {**JOB, **more})
    assert not result.is_error, result.content
    return result.structured_content, gateway.requests


async def called(config: Config, tool: str, arguments: dict[str, Any], *replies: Any) -> tuple[str, dict[str, Any]]:
    """Text and record of one call of a server of its own: each call is a restart as well."""
    async with client_at(config, ScriptedGateway(replies)) as client:
        result = await client.call_tool(tool, arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text, result.structured_content or {}


def rows(config: Config, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(ledger_path(config.ledger_url)) as db:
        return db.execute(query).fetchall()


# --- the cascade


async def test_a_check_that_stays_red_climbs_to_the_next_tier_and_each_call_is_billed_to_the_task(
    config: Config, project: Path
) -> None:
    found, requests = await drafted(config, reply(WRONG), reply(OTHER_WRONG), reply(RIGHT, served="tiny-mid"))
    assert found["status"] == "applied"
    assert (project / "shop/cart.py").read_text() == FIXED
    assert [(r.stage, r.tier, r.model) for r in requests] == [
        ("draft", "cheap", "openai/tiny-cheap"), ("repair", "cheap", "openai/tiny-cheap"),
        ("climb", "mid", "openai/tiny-mid"),
    ]  # fmt: skip
    [(calls, cost)] = rows(config, "select calls, cost_nanousd from task_cost")
    assert (calls, cost) == (3, 2 * (1000 * 100 + 200 * 500) + 1000 * 1000 + 200 * 5000)
    assert found["attempts"] == ["cheap tiny-cheap: red, red $0.0004", "mid tiny-mid: green $0.002"]


async def test_a_climb_has_a_route_of_its_own_that_names_its_reason_and_the_cold_price(config: Config) -> None:
    await drafted(config, reply(WRONG), reply(OTHER_WRONG), reply(RIGHT, served="tiny-mid"))
    found = rows(config, "select tier, rule, json_extract(record, '$.reason') from routes order by rowid")
    assert [row[:2] for row in found] == [("cheap", "single_file"), ("mid", "climb")] or found[1][:2] == (
        "mid",
        "climb",
    )
    assert "read anew by openai/tiny-mid" in found[-1][2]
    assert "$0." in found[-1][2]


async def test_a_draft_after_one_that_climbed_is_told_to_begin_on_the_drafting_tier(config: Config) -> None:
    red, _ = await drafted(config, reply(WRONG), reply(OTHER_WRONG), reply(WRONG, served="tiny-mid"))
    _, done = await called(config, "draft_with_cheap_model", {"task_id": red["task_id"]}, reply(RIGHT))
    assert (red["status"], done["status"]) == ("needs_work", "applied")
    found = rows(config, "select tier, rule, json_extract(record, '$.reason') from routes order by rowid")
    assert [row[:2] for row in found[1:]] == [("mid", "climb"), ("cheap", "caller_asked")]
    assert found[-1][2] == "The caller asked for a draft, and drafts begin on cheap."


async def test_the_tier_that_is_climbed_to_starts_from_the_files_as_they_were_and_sees_what_failed(
    config: Config,
) -> None:
    _, requests = await drafted(config, reply(WRONG), reply(OTHER_WRONG), reply(RIGHT, served="tiny-mid"))
    first, last = requests[0], requests[-1]
    assert last.messages[: len(first.messages)] == first.messages
    assert "test_total_takes_a_percentage_off" in last.messages[-1].content
    assert not any(message.role == "assistant" for message in last.messages)


async def test_a_draft_that_no_tier_gets_green_goes_back_with_the_last_evidence(config: Config, project: Path) -> None:
    before = (project / "shop/cart.py").read_text()
    found, requests = await drafted(config, reply(WRONG), reply(OTHER_WRONG), reply(WRONG, served="tiny-mid"))
    assert len(requests) == 3
    assert found["status"] == "needs_work"
    assert "1350" in found["checks"][0]["digest"] or "AssertionError" in found["checks"][0]["digest"]
    assert found["patch"]
    assert (project / "shop/cart.py").read_text() == before


async def test_a_tier_pinned_for_the_task_is_never_left(config: Config) -> None:
    gateway = ScriptedGateway([reply(WRONG), reply(OTHER_WRONG)])
    async with client_at(config, gateway) as client:
        planned = await client.call_tool("plan_task", {**JOB, "tier": "cheap"})
        result = await client.call_tool("draft_with_cheap_model", {"task_id": planned.structured_content["task_id"]})
    assert result.structured_content["status"] == "needs_work"
    assert [request.tier for request in gateway.requests] == ["cheap", "cheap"]


async def test_two_tiers_of_one_model_are_one_tier(project: Path, tmp_path: Path) -> None:
    same = '[tiers.mid]\nmodels = ["openai/tiny-cheap"]\nbase_url = "http://127.0.0.1:9"\n'
    config = make_config(project, tmp_path / "same", toml=same + 'price = { input = "0.10", output = "0.50" }\n')
    _, requests = await drafted(config, reply(WRONG), reply(OTHER_WRONG))
    assert [request.stage for request in requests] == ["draft", "repair"]


async def test_an_empty_list_of_tiers_to_climb_ends_after_the_repair(project: Path, tmp_path: Path) -> None:
    config = make_config(project, tmp_path / "flat", toml=MID + "[stages]\nclimb = []\n")
    found, requests = await drafted(config, reply(WRONG), reply(OTHER_WRONG))
    assert (found["status"], len(requests)) == ("needs_work", 2)


async def test_a_question_is_handed_on_and_buys_nothing_more(config: Config, project: Path) -> None:
    before = (project / "shop/cart.py").read_text()
    found, requests = await drafted(config, reply("QUESTION: Is the discount a share of one or of a hundred?"))
    assert (found["status"], len(requests)) == ("question", 1)
    assert (project / "shop/cart.py").read_text() == before
    text, _ = await called(config, "draft_with_cheap_model", {"task_id": found["task_id"]})
    assert "still open" in text
    assert "assume" in text
    assert "share of one" not in text, "a model's prose is no part of an error"


async def test_an_interactive_task_gets_one_call_and_no_repair(config: Config) -> None:
    gateway = ScriptedGateway([reply(WRONG)])
    async with client_at(config, gateway) as client:
        planned = await client.call_tool("plan_task", {**JOB, "latency": "interactive"})
        result = await client.call_tool("draft_with_cheap_model", {"task_id": planned.structured_content["task_id"]})
    assert result.structured_content["status"] == "needs_work"
    assert len(gateway.requests) == 1


async def test_a_budget_that_admits_the_draft_and_not_the_climb_says_so_with_the_evidence(
    project: Path, tmp_path: Path
) -> None:
    config = make_config(project, tmp_path / "poor", toml=MID + '[budget]\ntask_usd = "0.015"\n')
    found, requests = await drafted(config, reply(WRONG), reply(OTHER_WRONG))
    assert found["status"] == "over_budget"
    assert [request.tier for request in requests] == ["cheap", "cheap"]
    assert found["checks"][0]["after"] == "red"


# --- replies that are empty, cut off or out of bounds


async def test_an_empty_answer_is_named_and_asked_for_once_more_with_all_the_room(
    config: Config, project: Path
) -> None:
    empty = Completion(
        text="", finish="length", usage=Usage(input=1000, cached_input=0, cache_write=0, output=4000, reasoning=4000),
        served_model="tiny-cheap",
    )  # fmt: skip
    found, requests = await drafted(config, empty, reply(RIGHT))
    assert found["status"] == "applied"
    assert "empty" in found["attempts"][0]
    assert requests[1].max_output_tokens >= requests[0].max_output_tokens
    assert "no answer" in requests[1].messages[-1].content
    assert (project / "shop/cart.py").read_text() == FIXED


async def test_a_model_that_only_thinks_is_paid_for_aloud(config: Config) -> None:
    empty = reply("<think>Let me see. First", finish="length")
    found, _ = await drafted(config, empty, empty, empty.model_copy(update={"served_model": "tiny-mid"}))
    assert found["status"] == "rejected"
    assert found["summary"] == "The reply held no answer."
    assert found["attempts"] == ["cheap tiny-cheap: empty, empty $0.0004", "mid tiny-mid: empty $0.002"]
    assert rows(config, "select count(*) from calls where cost_nanousd > 0") == [(3,)]


@pytest.mark.parametrize("at", range(20, len(RIGHT) - 5, 23))
async def test_a_reply_cut_off_anywhere_is_continued_and_applied_whole(config: Config, project: Path, at: int) -> None:
    found, requests = await drafted(config, reply(RIGHT[:at], finish="length"), reply(RIGHT[at:]))
    assert found["status"] == "applied", found
    assert [request.stage for request in requests] == ["draft", "continue"]
    assert requests[1].messages[-2].content == RIGHT[:at]
    assert (project / "shop/cart.py").read_text() == FIXED


async def test_edits_outside_the_files_are_reverted_reported_and_do_not_cost_the_rest(
    config: Config, project: Path
) -> None:
    stray = "tests/test_cart.py\n```\n<<<<<<< SEARCH\n1350\n=======\n1351\n>>>>>>> REPLACE\n```\n"
    stray = stray.replace("1350\n", "        self.assertEqual(total([1000, 500], discount=10), 1350)\n").replace(
        "1351\n", "        self.assertEqual(total([1000, 500], discount=10), 1351)\n"
    )
    made_up = "shop/extra.py\n```\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE\n```\n"
    tests = (project / "tests/test_cart.py").read_text()
    found, requests = await drafted(config, reply(RIGHT + stray + made_up))
    assert found["status"] == "applied"
    assert len(requests) == 1
    assert found["reverted"] == ["shop/extra.py"] or set(found["reverted"]) <= {"shop/extra.py", "tests/test_cart.py"}
    assert (project / "tests/test_cart.py").read_text() == tests
    assert not (project / "shop/extra.py").exists()
    assert [line.split()[0] for line in found["files"]] == ["shop/cart.py"]


async def test_a_repair_hears_of_edits_that_were_not_kept(config: Config) -> None:
    made_up = "shop/extra.py\n```\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE\n```\n"
    _, requests = await drafted(config, reply(WRONG + made_up), reply(REPAIR))
    assert "shop/extra.py" in requests[1].messages[-1].content


# --- scratchpad


async def test_a_scratchpad_is_asked_for_kept_on_the_ledger_and_shown_to_nobody(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "thinker"
    config = make_config(project, home)
    file = home / "tierkit.toml"
    file.write_text(
        file.read_text().replace('models = ["openai/tiny-cheap"]', 'models = ["openai/tiny-cheap"]\nscratchpad = true')
    )
    config = make_config_again(project, file)
    thought = "<scratchpad>\nThe discount is per cent, so divide.\nshop/cart.py is the file.\n</scratchpad>\n"
    found, requests = await drafted(config, reply(thought + RIGHT))
    assert found["status"] == "applied"
    assert "<scratchpad>" in requests[0].messages[0].content
    assert rows(config, "select kind, text from texts") == [
        ("reasoning", "The discount is per cent, so divide.\nshop/cart.py is the file.")
    ]
    assert "per cent" not in json.dumps(found)
    assert (project / "shop/cart.py").read_text() == FIXED


def make_config_again(project: Path, file: Path) -> Config:
    from mcp_tierkit.config import load_config

    home = file.parent
    return load_config(
        project=str(project),
        env={
            "HOME": str(home), "TIERKIT_CONFIG": str(file), "TIERKIT_STATE_DIR": str(home / "state"),
            "TIERKIT_LEDGER": f"sqlite:///{home}/ledger.db", "PATH": __import__("os").environ["PATH"],
        },
    )  # fmt: skip


# --- guards


async def test_a_change_that_breaks_a_check_which_proved_an_earlier_one_is_not_applied(
    config: Config, project: Path
) -> None:
    first, _ = await drafted(config, reply(RIGHT))
    assert first["status"] == "applied"
    (project / "tests/test_names.py").write_text(
        "import unittest\nfrom shop import cart\n\n\nclass T(unittest.TestCase):\n"
        "    def test_names(self):\n        self.assertEqual(cart.names(), ['total'])\n"
    )
    breaking = (
        "shop/cart.py\n```\n<<<<<<< SEARCH\n    return sum(prices) * (100 - discount) // 100\n=======\n"
        "    return 0\n\n\ndef names() -> list[str]:\n    return ['total']\n>>>>>>> REPLACE\n```\n"
    )
    mending = breaking.replace(
        "    return sum(prices) * (100 - discount) // 100\n=======\n    return 0",
        "    return 0\n=======\n    return sum(prices) * (100 - discount) // 100",
    )
    mending = mending.replace("\n\n\ndef names() -> list[str]:\n    return ['total']", "")
    check = CHECK.replace("tests.test_cart", "tests.test_names")
    found, requests = await drafted(config, reply(breaking), reply(mending), task="Add names().", checks=[check])
    assert found["status"] == "applied", found
    assert CHECK_NAME in requests[1].messages[-1].content, "the repair is told which check it broke"
    assert "return 0" not in (project / "shop/cart.py").read_text()


async def test_a_guard_that_was_red_before_blames_no_draft(project: Path, tmp_path: Path) -> None:
    guard = CHECK.replace("tests.test_cart", "tests.test_old")
    (project / "tests/test_old.py").write_text(
        "import unittest\n\n\nclass T(unittest.TestCase):\n    def test_old(self):\n        self.fail()\n"
    )
    config = make_config(project, tmp_path / "guarded", toml=f'[checks]\nguards = ["{guard}", "no-such-program"]\n')
    found, requests = await drafted(config, reply(RIGHT))
    assert (found["status"], len(requests)) == ("applied", 1)


async def test_without_a_sandbox_a_broken_guard_leaves_the_tree_as_it_was(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    (project / "tests/test_count.py").write_text(
        "import unittest\nfrom shop import cart\n\n\nclass T(unittest.TestCase):\n"
        "    def test_sum(self):\n        self.assertEqual(cart.total([10]), 10)\n"
    )
    guard = CHECK.replace("tests.test_cart", "tests.test_count")
    toml = f'[checks]\nguards = ["{guard}"]\nallow = ["{CHECK.split()[0]} -m unittest"]\n'
    config = make_config(project, tmp_path / "placed", toml=toml)
    before = (project / "shop/cart.py").read_text()
    special = RIGHT.replace("sum(prices) * (100 - discount) // 100", "1350")
    found, _ = await drafted(config, reply(special), reply("nothing to say"))
    assert found["isolation"] == "in_place"
    assert found["status"] != "applied"
    assert (project / "shop/cart.py").read_text() == before
    found, _ = await drafted(config, reply(RIGHT))
    assert found["status"] == "applied", found


# --- the stop rule of a task


CLASSES = ("edge_case", "assumption", "test", "drift", "security")


def review_of(klass: str, claim: str = "A discount over 100 gives money away.") -> Completion:
    finding = {
        "file": "shop/cart.py", "line": 6, "severity": "major", "klass": klass, "claim": claim,
        "evidence": "(100 - discount)",
    }  # fmt: skip
    checked = dict.fromkeys(CLASSES, "none: because one line changed")
    text = json.dumps({"findings": [finding] if klass else [], "checked": checked})
    return reply(text, served="tiny-strong")


@pytest.mark.parametrize("klass", ["security", "requirement", "test"])
async def test_a_weighty_finding_buys_one_more_draft_that_is_told_of_it(
    config: Config, project: Path, klass: str
) -> None:
    first, _ = await drafted(config, reply(RIGHT))
    task = {"task_id": first["task_id"]}
    _, review = await called(config, "review_diff", task, review_of(klass))
    assert (review["verdict"], review["rounds_left"]) == ("findings", 1)
    (project / "tests/test_cap.py").write_text(
        "import unittest\nfrom shop.cart import total\n\n\nclass T(unittest.TestCase):\n"
        "    def test_cap(self):\n        self.assertEqual(total([100], discount=200), 0)\n"
    )
    better = (
        "shop/cart.py\n```\n<<<<<<< SEARCH\n    return sum(prices) * (100 - discount) // 100\n=======\n"
        "    return sum(prices) * max(100 - discount, 0) // 100\n>>>>>>> REPLACE\n```\n"
    )
    gateway = ScriptedGateway([reply(better)])
    check = CHECK.replace("tests.test_cart", "tests.test_cap")
    async with client_at(config, gateway) as client:
        result = await client.call_tool("draft_with_cheap_model", {**task, "checks": [check]})
    assert not result.is_error, result.content
    assert result.structured_content["status"] == "applied"
    assert "gives money away" in gateway.requests[0].messages[1].content
    text, _ = await called(config, "draft_with_cheap_model", task)
    assert "stop_rule" in text
    run_git(project, "checkout", "-q", "tests")
    undone, _ = await called(config, "record_outcome", {**task, "outcome": "reverted", "undo": True})
    assert "sum(prices) - discount" in (project / "shop/cart.py").read_text(), undone


@pytest.mark.parametrize("klass", ["", "nit", "edge_case", "drift"])
async def test_a_light_finding_buys_no_second_draft_and_no_second_review(config: Config, klass: str) -> None:
    first, _ = await drafted(config, reply(RIGHT))
    task = {"task_id": first["task_id"]}
    _, review = await called(config, "review_diff", task, review_of(klass))
    assert review["rounds_left"] == 0
    for tool in ("draft_with_cheap_model", "review_diff"):
        text, _ = await called(config, tool, task)
        assert "stop_rule" in text


async def test_a_broken_test_buys_one_more_draft_and_no_third(config: Config, project: Path) -> None:
    flat = [reply(WRONG), reply(OTHER_WRONG), reply(WRONG, served="tiny-mid")]
    first, _ = await drafted(config, *flat)
    task = {"task_id": first["task_id"]}
    _, second = await called(config, "draft_with_cheap_model", task, reply(RIGHT))
    assert second["status"] == "applied"
    text, _ = await called(config, "draft_with_cheap_model", task)
    assert "stop_rule" in text
    assert (project / "shop/cart.py").read_text() == FIXED


# --- the prompt


async def test_a_plan_with_steps_sends_the_plan_and_not_the_talk_around_it(config: Config, project: Path) -> None:
    (project / "ticket.md").write_text(
        "# Discount is wrong\n\nAda: it used to work.\n\nBob: did it? I saw the zebra incident last week.\n"
    )
    gateway = ScriptedGateway([reply(RIGHT)])
    async with client_at(config, gateway) as client:
        planned = await client.call_tool(
            "plan_task",
            {**JOB, "task": "@ticket.md", "steps": ["In total() divide by 100."], "acceptance": ["10 is ten per cent"],
             "out_of_scope": ["count()"]},
        )  # fmt: skip
        await client.call_tool("draft_with_cheap_model", {"task_id": planned.structured_content["task_id"]})
    [request] = gateway.requests
    sent = "".join(message.content for message in request.messages)
    assert "In total() divide by 100." in sent
    assert "Discount is wrong" in sent
    assert "zebra" not in sent


async def test_a_file_too_large_for_the_request_is_shown_in_part_and_edited_where_it_matters(
    config: Config, project: Path
) -> None:
    filler = "".join(
        f"\n\ndef helper_{n}(value: int) -> int:\n    return value + {n} * 17 - {n}\n" for n in range(6000)
    )
    (project / "shop/cart.py").write_text((project / "shop/cart.py").read_text() + filler)
    found, [request] = await drafted(config, reply(RIGHT))
    assert found["status"] == "applied", found
    sent = "".join(message.content for message in request.messages)
    assert "return sum(prices) - discount" in sent
    assert "value + 4321 * 17" not in sent
    assert (project / "shop/cart.py").read_text() == FIXED + filler
    [(packed,)] = rows(config, "select packed from calls")
    assert next((file["path"], file["shown"]) for file in json.loads(packed)) == ("shop/cart.py", "parts")


async def test_a_whole_file_reply_to_a_file_shown_in_part_is_never_written(config: Config, project: Path) -> None:
    filler = "".join(
        f"\n\ndef helper_{n}(value: int) -> int:\n    return value + {n} * 17 - {n}\n" for n in range(6000)
    )
    whole = (project / "shop/cart.py").read_text() + filler
    (project / "shop/cart.py").write_text(whole)
    found, _ = await drafted(config, reply(f"shop/cart.py\n```python\n{FIXED}```\n"), reply("no"), reply("no"))
    assert found["status"] == "rejected"
    assert (project / "shop/cart.py").read_text() == whole


async def test_the_signatures_of_imported_files_are_sent_and_their_bodies_are_not(
    config: Config, project: Path
) -> None:
    (project / "shop/rates.py").write_text(
        "def percent(value: int, rate: int) -> int:\n    quagga = value * rate\n    return quagga // 100\n"
    )
    text = (project / "shop/cart.py").read_text()
    (project / "shop/cart.py").write_text(
        text.replace(
            '"""A shopping cart."""\n', '"""A shopping cart."""\n\nfrom shop.rates import percent  # noqa: F401\n'
        )
    )
    _, [request] = await drafted(config, reply(RIGHT))
    sent = "".join(message.content for message in request.messages)
    assert "def percent(value: int, rate: int) -> int:" in sent
    assert "quagga" not in sent


# --- after the fact


async def test_a_model_that_answers_for_another_is_paid_at_its_own_price(project: Path, tmp_path: Path) -> None:
    served = MID.replace("[tiers.mid]", "[tiers.mid]\nserved = []")
    config = make_config(project, tmp_path / "dear", toml=served)
    found, _ = await drafted(config, reply(RIGHT, served="tiny-mid"))
    assert "tiny-mid answered at $1/5" in found["alert"]
    assert rows(config, "select cost_nanousd from calls") == [(1000 * 1000 + 200 * 5000,)]


async def test_a_task_that_was_taken_back_says_so_to_whoever_asks_later(config: Config) -> None:
    first, _ = await drafted(config, reply(RIGHT))
    task = {"task_id": first["task_id"]}
    await called(config, "record_outcome", {**task, "outcome": "reverted", "undo": True})
    _, later = await called(config, "get_task", task)
    assert (later["summary"], later["next"]) == (
        "Applied, and taken back since.",
        "Its change is no longer in the tree.",
    )


async def test_a_reply_that_could_not_be_read_and_a_provider_that_failed_leave_a_draft_to_have(config: Config) -> None:
    down = ModelFailed("The provider failed.", next_step="Call again later.", kind="server")
    first, _ = await drafted(config, down)
    task = {"task_id": first["task_id"]}
    for _ in range(2):
        _, again = await called(config, "draft_with_cheap_model", task, down)
        assert again["status"] == "needs_work"
    _, unread = await called(config, "draft_with_cheap_model", task, *[reply("prose")] * 3)
    assert unread["status"] == "rejected"
    _, last = await called(config, "draft_with_cheap_model", task, reply(RIGHT))
    assert last["status"] == "applied"


async def test_a_climb_after_a_reply_that_came_to_nothing_is_told_of_the_red_check_too(config: Config) -> None:
    _, requests = await drafted(config, reply(WRONG), reply("prose"), reply(RIGHT, served="tiny-mid"))
    assert "test_total_takes_a_percentage_off" in requests[-1].messages[-1].content
    assert "came to nothing" in requests[-1].messages[-1].content


async def test_a_conflict_keeps_the_proof_and_the_patch(config: Config, project: Path) -> None:
    def meddle(request: Request) -> Completion:
        path = project / "shop/cart.py"
        path.write_text(path.read_text() + "\n# mine\n")
        return reply(RIGHT)

    found, _ = await drafted(config, meddle)
    assert (found["status"], found["checks"][0]["after"]) == ("conflict", "green")
    run_git(project, "apply", "--check", found["patch"])


async def test_a_receipt_claims_no_reading_of_a_large_file_to_change_a_line(config: Config, project: Path) -> None:
    filler = "".join(f"\n\ndef helper_{n}(value: int) -> int:\n    return value + {n}\n" for n in range(6000))
    (project / "shop/cart.py").write_text((project / "shop/cart.py").read_text() + filler)
    found, _ = await drafted(config, reply(RIGHT))
    low, high = (float(usd) for usd in found["receipt"]["estimated"]["alone_usd"])
    assert low < 0.01
    assert high < 0.12
