"""What is promised of drafts, row by row, where no other file holds it: through the MCP client or the command line."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.types import TextContent

from mcp_tierkit import prompts
from mcp_tierkit.calls import DraftCall
from mcp_tierkit.checkup import examine
from mcp_tierkit.cli import run
from mcp_tierkit.config import Config, load_config
from mcp_tierkit.errors import ModelFailed, StopRule
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.report import prompt_changes, reading
from mcp_tierkit.stages.cycle import next_draft
from mcp_tierkit.stages.draft import draft_change
from mcp_tierkit.stages.plan import accept
from mcp_tierkit.types import Completion, Request, Usage
from tests.support import BUGGY, FIXED, JOB, RIGHT, WRONG, client_at, desk_at, make_config, make_env, make_project, said

pytestmark = pytest.mark.anyio

MID = (
    '[tiers.mid]\nmodels = ["openai/tiny-mid"]\nbase_url = "http://127.0.0.1:9"\n'
    'price = { input = "1", output = "5" }\n'
)
UNCHECKED: dict[str, Any] = {"task": "Take the discount as a percentage.", "files": ["shop/cart.py"]}
STILL_WRONG = WRONG.replace("(90 - discount)", "(80 - discount)").replace(
    "sum(prices) - discount", "sum(prices) * (90 - discount) // 100", 1
)
CLASSES = ("edge_case", "assumption", "test", "drift", "security")
CLEAN = json.dumps({"findings": [], "checked": dict.fromkeys(CLASSES, "none: because one line changed")})
NO_TEXT = Completion(
    text="", finish="length", usage=Usage(input=1000, cached_input=0, cache_write=0, output=4000, reasoning=4000),
    served_model="tiny-strong",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app", git=False)


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    return make_config(project, tmp_path / "home", toml=MID)


def cut(text: str) -> Completion:
    return said(text).model_copy(update={"finish": "length"})


async def told(config: Config, gateway: ScriptedGateway, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One call of a server of its own, so that each call is a restart as well."""
    async with client_at(config, gateway) as client:
        result = await client.call_tool(tool, arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    assert not result.is_error, block.text
    assert json.loads(block.text) == result.structured_content
    reply: dict[str, Any] = result.structured_content
    return reply


async def drafted(config: Config, *replies: Any, **more: Any) -> tuple[dict[str, Any], list[Request]]:
    gateway = ScriptedGateway(replies)
    reply = await told(config, gateway, "draft_with_cheap_model", JOB | {"wait_s": 3600} | more)
    return reply, gateway.requests


async def refused(config: Config, tool: str, arguments: dict[str, Any]) -> str:
    """The text of a refusal that asked no model."""
    gateway = ScriptedGateway([said(RIGHT)])
    async with client_at(config, gateway) as client:
        result = await client.call_tool(tool, arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    assert (result.is_error, gateway.requests) == (True, []), block.text
    return block.text


def rows(config: Config, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(config.ledger_url.removeprefix("sqlite://"))) as conn:
        return conn.execute(query).fetchall()


def everything_said(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


def patch_of(project: Path, reply: dict[str, Any]) -> str:
    return (project / str(reply["patch"])).read_text()


async def reviewed(config: Config, *replies: Any) -> tuple[dict[str, Any], list[Request]]:
    """A review of a right change in the working tree, against a plan without checks."""
    patch = config.project / "change.patch"
    patch.write_text(
        "--- a/shop/cart.py\n+++ b/shop/cart.py\n@@ -5,2 +5,2 @@\n def total(prices):\n-    return 1\n+    return 2\n"
    )
    gateway = ScriptedGateway(replies)
    return await told(config, gateway, "review_diff", {"diff": "change.patch"}), gateway.requests


# --- A8: a task that somebody waits for is one call ---------------------------------------------------


@pytest.mark.parametrize("reply", [cut(RIGHT[:60]), NO_TEXT, said("nothing to say")], ids=["cut", "empty", "prose"])
async def test_an_interactive_task_is_one_call_even_where_that_gave_nothing(config: Config, reply: Completion) -> None:
    plan = await told(config, ScriptedGateway(), "plan_task", UNCHECKED | {"latency": "interactive"})
    gateway = ScriptedGateway([reply, said(RIGHT)])
    ended = await told(config, gateway, "draft_with_cheap_model", {"task_id": plan["task_id"]})
    assert (ended["status"], len(gateway.requests)) == ("rejected", 1)


async def test_what_an_interactive_reply_says_before_it_is_cut_off_is_judged_as_it_stands(
    config: Config, project: Path
) -> None:
    plan = await told(config, ScriptedGateway(), "plan_task", JOB | {"latency": "interactive"})
    gateway = ScriptedGateway([cut(f"{RIGHT}\nThis was")])
    ended = await told(config, gateway, "draft_with_cheap_model", {"task_id": plan["task_id"]})
    assert (ended["status"], len(gateway.requests)) == ("applied", 1)
    assert (project / "shop/cart.py").read_text() == FIXED


# --- B6: the plan is followed, or it is asked about ---------------------------------------------------


async def test_a_question_after_a_red_draft_leaves_no_edit_behind(config: Config, project: Path) -> None:
    found, requests = await drafted(config, said(WRONG), said("QUESTION: Of one or of a hundred?"))
    assert (found["status"], len(requests)) == ("question", 2)
    assert (found["files"], found["patch"]) == ([], None)
    assert (project / "shop/cart.py").read_text() == BUGGY


async def test_a_file_outside_the_task_that_a_reply_deletes_stays_and_is_reported(
    config: Config, project: Path
) -> None:
    (project / "shop/old.py").write_text("x = 1\n")
    deletion = "--- a/shop/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x = 1\n"
    found, _ = await drafted(config, said(f"{RIGHT}\n```diff\n{deletion}```\n"))
    assert (found["status"], found["reverted"]) == ("applied", ["shop/old.py"])
    assert (project / "shop/old.py").read_text() == "x = 1\n"
    assert (project / "shop/cart.py").read_text() == FIXED


# --- B7: the stop rule, in one process and in two -----------------------------------------------------


@pytest.mark.parametrize("servers", [1, 2])
async def test_two_drafts_of_one_task_asked_for_at_once_are_one(config: Config, servers: int) -> None:
    task = {"task_id": (await told(config, ScriptedGateway(), "plan_task", UNCHECKED))["task_id"]}
    gateway = ScriptedGateway([said(RIGHT)], gate=anyio.Event().wait)
    async with client_at(config, gateway) as one, client_at(config, gateway) as two:
        first = await one.call_tool("draft_with_cheap_model", task | {"wait_s": 0})
        await gateway.begun()
        second = await (two if servers == 2 else one).call_tool("draft_with_cheap_model", task | {"wait_s": 0})
        await one.call_tool("get_task", task | {"cancel": True, "wait_s": 30})
    assert first.structured_content["status"] == "running"
    assert second.is_error
    assert isinstance(second.content[0], TextContent)
    assert second.content[0].text.startswith("conflict: ")
    assert rows(config, "select stage, status from calls") == [("draft", "cancelled")]


@pytest.mark.parametrize("replies", [(said(RIGHT),), (said(WRONG), said(STILL_WRONG), said(RIGHT))])
async def test_a_draft_that_was_allowed_before_another_had_its_turn_is_not_made(
    config: Config, replies: tuple[Completion, ...]
) -> None:
    """Both ask at once; the rule lets both pass, and the one that is slow to begin finds the cycle used."""
    gateway = ScriptedGateway([*replies, said("never asked for")])
    async with desk_at(config, gateway) as one, desk_at(config, gateway) as two:
        planned = await accept(one.kit, DraftCall(**JOB))
        slow = await next_draft(two.kit, planned, [])
        quick = await next_draft(one.kit, planned, [])
        assert (await draft_change(one.kit, quick, apply=True, report=print)).status == "applied"
        with pytest.raises(StopRule, match="has had its draft"):
            await draft_change(two.kit, slow, apply=True, report=print)
    assert len(gateway.requests) == len(replies)


@pytest.mark.parametrize("kind", ["rate_limit", "timeout"])
async def test_a_provider_that_fails_at_once_leaves_the_second_draft_open(
    config: Config, project: Path, kind: str
) -> None:
    found, _ = await drafted(config, ModelFailed("It is busy.", next_step="Wait.", kind=kind))
    assert (found["status"], "Call again later" in found["next"]) == ("needs_work", True)
    assert found["summary"].startswith("It is busy.")
    again = ScriptedGateway([said(RIGHT)])
    ended = await told(config, again, "draft_with_cheap_model", {"task_id": found["task_id"]})
    assert (ended["status"], (project / "shop/cart.py").read_text()) == ("applied", FIXED)
    assert (await refused(config, "draft_with_cheap_model", {"task_id": found["task_id"]})).startswith("stop_rule: ")


# --- B13: what is open is asked, and an answer opens the way ------------------------------------------

VAGUE: dict[str, Any] = JOB | {"task": "Fix total() somehow."}


async def test_what_is_left_open_blocks_a_draft_until_it_is_answered(config: Config) -> None:
    plan = await told(config, ScriptedGateway(), "plan_task", VAGUE)
    assert (plan["decision"], plan["open_questions"]) == ("ask", ["What exactly is meant by 'somehow'?"])
    for arguments in ({"task_id": plan["task_id"]}, VAGUE):
        text = await refused(config, "draft_with_cheap_model", arguments)
        assert "What exactly is meant by 'somehow'?" in text
        assert "assume" in text
    answered = await told(config, ScriptedGateway(), "plan_task", VAGUE | {"assume": ["The discount is per cent."]})
    gateway = ScriptedGateway([said(RIGHT)])
    ended = await told(config, gateway, "draft_with_cheap_model", {"task_id": answered["task_id"]})
    assert ended["status"] == "applied"
    assert "- The discount is per cent." in everything_said(gateway.requests[0])


# --- B15, E8, G2: a small slice goes out, less comes back, and the report tells both ------------------


async def test_only_the_files_of_the_task_go_out_no_text_of_them_comes_back_and_the_report_counts_both(
    config: Config, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "shop/cart.py").write_text(BUGGY + "\n# quokka: a line that no check prints\n")
    (project / "shop/unlisted.py").write_text("def numbat() -> int:\n    return 1\n")
    (project / "shop/read.py").write_text("def bilby() -> int:\n    return 1\n")
    replies = [said(WRONG, cached=0), said(STILL_WRONG, input=400, cached=600), said(RIGHT, cached=0)]
    found, requests = await drafted(config, *replies, context=["shop/read.py"])
    shown = [found]
    for tool in ("get_task", "review_diff", "record_outcome"):
        more = {"outcome": "accepted"} if tool == "record_outcome" else {}
        shown.append(await told(config, ScriptedGateway([said(CLEAN)]), tool, {"task_id": found["task_id"]} | more))
    assert [request.stage for request in requests] == ["draft", "repair", "climb"]
    for request in requests:
        sent = everything_said(request)
        assert ("quokka" in sent, "bilby" in sent, "numbat" in sent) == (True, True, False)
    assert "quokka" not in json.dumps(shown)
    assert "return sum(prices)" not in json.dumps(shown)
    monkeypatch.setenv("TIERKIT_LEDGER", config.ledger_url)
    assert run(["report", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    [(packed,)] = rows(config, "select distinct packed_tokens from calls where stage <> 'review'")
    assert packed > 80
    steps = {row["stage"]: (row["calls"], row["packed_tokens"]) for row in report["context_by_step"]}
    assert steps == dict.fromkeys(("draft", "repair", "climb"), (1, packed)) | {"review": (1, 0)}
    hits = {row["category"]: row for row in report["cache_hits"]}
    assert (hits["code"]["calls"], hits["code"]["cached_tokens"], hits["code"]["hit_rate"]) == (3, 600, 0.2)


async def test_each_category_and_tier_has_a_prompt_of_its_own_and_only_a_changed_text_is_a_change(
    project: Path, tmp_path: Path
) -> None:
    env = make_env(tmp_path / "home")
    file = tmp_path / "home/tierkit.toml"
    file.write_text(file.read_text().replace("[tiers.strong]", "[tiers.strong]\nscratchpad = true"))
    config = load_config(project=str(project), env=env)
    tests = {"task": "Add tests for count().", "files": ["tests/test_more.py"]}
    gateway = ScriptedGateway([said("QUESTION: which?")] * 8)

    async def ask_each() -> None:
        for job in (UNCHECKED, tests, UNCHECKED | {"tier": "strong"}, tests):
            plan = await told(config, gateway, "plan_task", job)
            await told(config, gateway, "draft_with_cheap_model", {"task_id": plan["task_id"]})

    await ask_each()
    with reading(config.ledger_url) as conn:
        assert prompt_changes(conn) == ()
    (tmp_path / "home/prompts/categories").mkdir(parents=True)
    (tmp_path / "home/prompts/categories/tests.v1.md").write_text("Write tests that can fail.\n")
    await ask_each()
    with reading(config.ledger_url) as conn:
        [change] = prompt_changes(conn)
    assert (change.prompt, change.before.split("@")[0]) == ("draft", "draft.v2/tests")
    assert change.before != change.after


async def test_doctor_names_a_prompt_text_that_nothing_reads_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    project, home = make_project(tmp_path / "app", git=False), tmp_path / "home"
    env = make_env(home)
    shipped = Path(prompts.__file__).parent
    (home / "prompts/categories").mkdir(parents=True)
    for name in ("draft.v1", "draft.v2", "categories/code.v1"):
        (home / f"prompts/{name}.md").write_text((shipped / f"{name}.md").read_text("utf8"))

    async def faults() -> list[tuple[str, str, str]]:
        found = await examine(project=str(project), env=env, endpoints=())
        return [(row.level, row.what, row.fix) for row in found if row.name.startswith("prompt_")]

    [(level, what, fix)] = await faults()
    assert (level, "draft.v1.md is no longer used: this version sends draft.v2." in what) == ("warning", True)
    assert "draft.v2.md" in fix
    (home / "prompts/draft.v1.md").rename(home / "prompts/drafts.md")
    [(level, what, fix)] = await faults()
    assert (level, "drafts.md is read by nothing" in what, "repair.v1.md" in fix) == ("warning", True, True)
    (home / "prompts/drafts.md").rename(home / "prompts/climb.v1.md")
    [(level, what, fix)] = await faults()
    assert (level, "climb.v1.md" in what, "Mend that file" in fix) == ("problem", True, True)


# --- C5, D4: up on failed checks only, and never up and away with the evidence ------------------------


async def test_a_models_doubt_climbs_nowhere_and_its_confidence_keeps_nothing(config: Config) -> None:
    doubt = "I am not at all sure of this. A stronger model should do it.\n\n"
    found, requests = await drafted(config, said(doubt + RIGHT))
    assert (found["status"], len(requests)) == ("applied", 1)
    (config.project / "shop/cart.py").write_text(BUGGY)
    sure = "I am certain that this passes every check.\n\n"
    found, requests = await drafted(config, said(sure + WRONG), said(sure + STILL_WRONG), said(RIGHT))
    assert (found["status"], [request.tier for request in requests]) == ("applied", ["cheap", "cheap", "mid"])


def is_red(reply: dict[str, Any], project: Path) -> bool:
    """Whether a reply hands back the cheap tier's second draft: its red check, its patch, and an untouched tree."""
    [check] = reply["checks"]
    return (
        (check["before"], check["after"]) == ("red", "red")
        and "1050" in check["digest"]
        and "(80 - discount)" in patch_of(project, reply)
        and [line.split(" @")[0] for line in reply["files"]] == ["shop/cart.py +1 -1"]
        and (project / "shop/cart.py").read_text() == BUGGY
    )


REFUSED = ModelFailed("The provider is down.", next_step="Wait.", kind="overloaded", status=503)


@pytest.mark.parametrize(
    ("last", "attempt"),
    [
        (REFUSED, "mid openai/tiny-mid: failed"),
        (said("I give up."), "mid tiny-cheap: unreadable"),
        (NO_TEXT.model_copy(update={"served_model": "tiny-mid"}), "mid tiny-mid: empty"),
        (said("shop/extra.py\n```\nx = 1\n```\n"), "mid tiny-cheap: out_of_scope"),
    ],
    ids=["down", "prose", "empty", "outside"],
)
async def test_a_dearer_tier_that_gives_nothing_leaves_the_evidence_of_the_cheaper_one(
    config: Config, project: Path, last: Any, attempt: str
) -> None:
    found, requests = await drafted(config, said(WRONG), said(STILL_WRONG), last)
    assert [request.tier for request in requests] == ["cheap", "cheap", "mid"]
    assert found["status"] == "needs_work"
    assert is_red(found, project), found
    assert found["attempts"][0].startswith("cheap tiny-cheap: red, red $0.0004")
    assert found["attempts"][1].startswith(attempt)
    assert ("The provider is down." in found["summary"]) == (last is REFUSED)


async def test_a_budget_that_does_not_admit_the_climb_leaves_the_evidence_and_its_patch(
    project: Path, tmp_path: Path
) -> None:
    config = make_config(project, tmp_path / "poor", toml=MID + '[budget]\ntask_usd = "0.015"\n')
    found, requests = await drafted(config, said(WRONG), said(STILL_WRONG))
    assert (found["status"], len(requests)) == ("over_budget", 2)
    assert is_red(found, project), found


async def test_a_budget_that_does_not_admit_the_rest_of_a_reply_says_so(project: Path, tmp_path: Path) -> None:
    rich = make_config(project, tmp_path / "rich", toml=MID)
    await told(rich, ScriptedGateway([said(RIGHT)]), "draft_with_cheap_model", UNCHECKED)
    [(reserved,)] = rows(rich, "select reserved_nanousd from calls")
    config = make_config(project, tmp_path / "poor", toml=f'{MID}[budget]\ntask_usd = "0.00{reserved}"\n')
    gateway = ScriptedGateway([cut(RIGHT[:60])])
    found = await told(config, gateway, "draft_with_cheap_model", UNCHECKED)
    assert (found["status"], len(gateway.requests)) == ("over_budget", 1)
    assert found["attempts"] == ["cheap tiny-cheap: cut_short $0.0002"]
    assert rows(config, "select count(*), sum(cost_nanousd) from calls") == [(1, 200_000)]


# --- the time of a task, and cancelling it, at every step ---------------------------------------------


@pytest.fixture
def an_hour_passes() -> Iterator[Callable[[], None]]:
    """Moves the event loop's clock, so that a time limit ends without waiting for it. The loop is put right later."""
    moved: list[Any] = []

    def jump() -> None:
        loop: Any = asyncio.get_running_loop()
        clock = loop.time
        loop.time = lambda: clock() + 150
        moved.append(loop)

    yield jump
    for loop in moved:
        del loop.time


@pytest.mark.parametrize("when", ["asking", "checking"])
async def test_time_that_runs_out_in_a_climb_leaves_the_evidence_of_the_tier_below(
    config: Config, project: Path, an_hour_passes: Callable[[], None], when: str
) -> None:
    hurried = config.model_copy(update={"task_timeout_s": 100.0})
    gateway = ScriptedGateway([said(WRONG), said(STILL_WRONG)])

    async def gate() -> None:
        if len(gateway.requests) == 3 and when == "asking":
            an_hour_passes()
            await anyio.sleep_forever()

    def answer(request: Request) -> Completion:
        an_hour_passes()
        return said(RIGHT)

    gateway.replies(answer)
    gateway._gate = gate
    found = await told(hurried, gateway, "draft_with_cheap_model", JOB | {"wait_s": 3600})
    assert (found["status"], found["summary"]) == ("needs_work", "The time for this task ran out.")
    assert is_red(found, project), found
    last = {"asking": "mid openai/tiny-mid: failed unpriced", "checking": "mid tiny-cheap: unproven $0.0002"}[when]
    assert found["attempts"] == ["cheap tiny-cheap: red, red $0.0004", last]
    status = {"asking": "cancelled", "checking": "settled"}[when]
    assert rows(config, "select tier, status from calls order by rowid") == [
        ("cheap", "settled"), ("cheap", "settled"), ("mid", status),
    ]  # fmt: skip


async def test_time_that_the_checks_took_before_the_first_call_counts(
    config: Config, an_hour_passes: Callable[[], None]
) -> None:
    gateway = ScriptedGateway([said(RIGHT)])

    async with desk_at(config.model_copy(update={"task_timeout_s": 100.0}), gateway) as desk:
        planned = await accept(desk.kit, DraftCall(**JOB))

        def report(message: str) -> None:
            if message.startswith("running the checks as they are"):
                an_hour_passes()

        draft = await draft_change(desk.kit, planned, apply=True, report=report)
    assert (draft.status, draft.note, draft.attempts) == ("needs_work", "The time for this task ran out.", ())
    assert (gateway.requests, draft.checks[0].before) == ([], "red")


@pytest.mark.parametrize(
    ("script", "stages"),
    [
        ([said(WRONG), said(STILL_WRONG)], ["draft", "repair", "climb"]),
        ([cut(RIGHT[:60])], ["draft", "continue"]),
        ([said(WRONG), said(STILL_WRONG), cut(RIGHT[:60])], ["draft", "repair", "climb", "continue"]),
    ],
    ids=["climb", "continue", "continued climb"],
)
async def test_a_task_cancelled_at_any_later_step_settles_its_row_and_calls_nobody_more(
    config: Config, project: Path, script: list[Completion], stages: list[str]
) -> None:
    gateway = ScriptedGateway([*script, said(RIGHT), said(RIGHT)])

    async def gate() -> None:
        if len(gateway.requests) == len(stages):
            await anyio.sleep_forever()

    gateway._gate = gate
    async with client_at(config, gateway) as client:
        running = await client.call_tool("draft_with_cheap_model", JOB | {"wait_s": 0})
        task = {"task_id": running.structured_content["task_id"]}
        await gateway.begun(len(stages))
        ended = await client.call_tool("get_task", task | {"cancel": True, "wait_s": 60})
    assert (ended.structured_content["status"], ended.structured_content["applied"]) == ("cancelled", False)
    assert rows(config, "select stage, status, cost_nanousd is null from calls order by rowid") == [
        *((stage, "settled", 0) for stage in stages[:-1]), (stages[-1], "cancelled", 1),
    ]  # fmt: skip
    assert rows(config, "select state from tasks") == [("cancelled",)]
    assert [request.stage for request in gateway.requests] == stages
    assert (project / "shop/cart.py").read_text() == BUGGY


# --- C7, C8, F3, G5: which model, at what price, and who said so --------------------------------------


async def test_the_rest_of_a_climbed_reply_comes_from_the_tier_that_began_it_under_one_route(
    config: Config, project: Path
) -> None:
    found, requests = await drafted(config, said(WRONG), said(STILL_WRONG), cut(RIGHT[:60]), said(RIGHT[60:]))
    assert (found["status"], (project / "shop/cart.py").read_text()) == ("applied", FIXED)
    assert [(request.stage, request.tier) for request in requests[2:]] == [("climb", "mid"), ("continue", "mid")]
    assert rows(config, "select rule, tier from routes order by rowid") == [("caller_asked", "cheap"), ("climb", "mid")]
    assert requests[3].messages[: len(requests[2].messages)] == requests[2].messages


async def test_a_climb_is_priced_and_reserved_as_if_no_cache_held_any_of_it(config: Config) -> None:
    await drafted(config, said(WRONG), said(STILL_WRONG, cached=900), said(RIGHT))
    [(reason,)] = rows(config, "select json_extract(record, '$.reason') from routes where rule = 'climb'")
    told_tokens = int(reason.split("about ")[1].split()[0])
    told_nano = round(float(reason.split("$")[1].split()[0]) * 1e9)
    [(reserved,)] = rows(config, "select reserved_nanousd from calls where stage = 'climb'")
    assert told_tokens > 1000
    assert told_nano == told_tokens * 1000  # a dollar a million: nothing at the price of a cache
    assert reserved >= told_nano + 8000 * 5000 // 2


async def test_a_pinned_tier_above_the_map_is_written_down_and_holds_for_the_rest_of_a_reply(config: Config) -> None:
    plan = await told(config, ScriptedGateway(), "plan_task", UNCHECKED | {"tier": "strong"})
    gateway = ScriptedGateway([cut(RIGHT[:60]), said(RIGHT[60:])])
    await told(config, gateway, "draft_with_cheap_model", {"task_id": plan["task_id"]})
    assert [(request.stage, request.tier) for request in gateway.requests] == [
        ("draft", "strong"), ("continue", "strong"),
    ]  # fmt: skip
    [(kind, detail)] = rows(config, "select kind, detail from decisions")
    assert kind == "override"
    assert "The caller pinned strong for this task; the stage map says cheap." in detail


HOSTED = '[tiers.mid]\nmodels = ["deepseek/deepseek-v4-flash", "anthropic/claude-opus-5-5"]\n'


async def test_a_climb_to_another_model_than_the_tier_names_first_is_told_at_its_price(
    project: Path, tmp_path: Path
) -> None:
    env = make_env(tmp_path / "home", toml=HOSTED, ANTHROPIC_API_KEY="k" * 40)
    config = load_config(project=str(project), env=env)
    answer = said(RIGHT).model_copy(update={"served_model": "claude-opus-5-5"})
    found, _ = await drafted(config, said(WRONG), said(STILL_WRONG), answer)
    assert found["status"] == "applied"
    assert found["alert"].startswith("claude-opus-5-5 answered at $4/20 a million tokens")


@pytest.mark.parametrize("ending", ["mismatch", "down", "cancelled"])
async def test_a_climb_that_fails_names_what_was_asked_and_at_which_price(
    project: Path, tmp_path: Path, ending: str
) -> None:
    env = make_env(tmp_path / "home", toml=HOSTED, ANTHROPIC_API_KEY="k" * 40)
    config = load_config(project=str(project), env=env)
    gateway = ScriptedGateway([said(WRONG), said(STILL_WRONG), REFUSED if ending == "down" else said(RIGHT)])

    async def gate() -> None:
        if len(gateway.requests) == 3 and ending == "cancelled":
            await anyio.sleep_forever()

    gateway._gate = gate
    async with client_at(config, gateway) as client:
        running = await client.call_tool("draft_with_cheap_model", JOB | {"wait_s": 0})
        task = {"task_id": running.structured_content["task_id"]}
        await gateway.begun(3)
        done = await client.call_tool("get_task", task | {"cancel": ending == "cancelled", "wait_s": 60})
    columns = "requested_model, routed_model, served_model, routed_price, served_price, model_mismatch, status"
    [row] = rows(config, f"select {columns} from calls where tier = 'mid'")
    served = "tiny-cheap" if ending == "mismatch" else None
    status = {"mismatch": "settled", "down": "failed", "cancelled": "cancelled"}[ending]
    asked = ("deepseek/deepseek-v4-flash", "anthropic/claude-opus-5-5")
    assert row == (*asked, served, "4/20", None, int(ending == "mismatch"), status)
    assert len(gateway.requests) == 3
    if ending != "cancelled":
        assert done.structured_content["status"] == "needs_work"
        assert is_red(done.structured_content, project), done.structured_content


# --- C14: thoughts stay out of everything but the ledger ----------------------------------------------


@pytest.fixture
def thoughtful(project: Path, tmp_path: Path) -> Config:
    home = tmp_path / "thinker"
    env = make_env(home, toml=MID)
    file = home / "tierkit.toml"
    file.write_text(file.read_text().replace("base_url", "scratchpad = true\nbase_url"))
    return load_config(project=str(project), env=env)


async def test_a_thought_reaches_no_reply_no_file_and_no_other_tier(thoughtful: Config, project: Path) -> None:
    scripts = (WRONG, STILL_WRONG, STILL_WRONG.replace("(80 -", "(70 -").replace("(90 -", "(100 -"))
    thoughts = [f"<scratchpad>\nwombat {at}\n</scratchpad>\n" for at in range(3)]
    found, requests = await drafted(thoughtful, *(said(t + s) for t, s in zip(thoughts, scripts, strict=True)))
    assert [request.stage for request in requests] == ["draft", "repair", "climb"]
    assert "wombat" not in json.dumps(found)
    assert "wombat" not in everything_said(requests[2])
    ours = [path for path in (project / ".tierkit").rglob("*") if path.is_file()]
    assert [path for path in ours if b"wombat" in path.read_bytes()] == []
    assert len(ours) > 1
    assert rows(thoughtful, "select kind, text from texts order by text_id") == [
        ("reasoning", f"wombat {at}") for at in range(3)
    ]


async def test_a_secret_that_a_model_only_thought_of_is_sent_to_nobody(thoughtful: Config, project: Path) -> None:
    key = "AKIA" + "ABCDEFGHIJKLMNOP"
    found, requests = await drafted(thoughtful, said(f"<scratchpad>\nkey {key}\n</scratchpad>\n{WRONG}"), said(RIGHT))
    assert (found["status"], len(requests)) == ("needs_work", 1)
    assert found["checks"][0]["after"] == "red"
    assert key not in json.dumps(found)
    assert rows(thoughtful, "select text from texts") == [("key [redacted:aws-access-key]",)]


# --- E10, F2: caps that are told, and no silence that is paid for -------------------------------------


async def test_a_text_longer_than_its_kind_may_be_is_flagged(config: Config) -> None:
    asked = {"task": "Classify this: the cart is wrong.", "assume": ["It is a bug or a wish."]}
    plan = await told(config, ScriptedGateway(), "plan_task", asked)
    gateway = ScriptedGateway([said("word " * 8), said("word " * 9), said("word " * 9)])
    ended = await told(config, gateway, "draft_with_cheap_model", {"task_id": plan["task_id"]})
    assert ended["attempts"][0].startswith("cheap tiny-cheap: unreadable, unreadable (over its cap)")
    # Eight words and the allowance to think; the cap alone would leave a thinking model no room to answer.
    assert gateway.requests[0].max_output_tokens == 64 + 4000
    assert "in at most 8 words" in gateway.requests[0].messages[0].content


@pytest.mark.parametrize("reply", [NO_TEXT, cut(RIGHT[:60])], ids=["empty", "cut"])
async def test_a_draft_that_ran_out_of_room_gets_all_there_is(project: Path, tmp_path: Path, reply: Completion) -> None:
    toml = MID.replace("price", "max_output_tokens = 20000\nprice") + '[stages]\ndraft = "mid"\n'
    config = make_config(project, tmp_path / "roomy", toml=toml)
    gateway = ScriptedGateway([reply, said(RIGHT[60:])])
    await told(config, gateway, "draft_with_cheap_model", UNCHECKED)
    assert [request.max_output_tokens for request in gateway.requests] == [4000 + 4000, 20_000]


@pytest.mark.parametrize(
    "first",
    [NO_TEXT, cut("<think>Let me see."), said("<think>It is fine.</think>\n")],
    ids=["no text", "an open thought", "a thought alone"],
)
async def test_a_reviewer_that_only_thought_is_asked_once_more_on_its_own_tier(
    config: Config, first: Completion
) -> None:
    found, requests = await reviewed(config, first, said(CLEAN))
    assert found["verdict"] == "clean"
    assert [(request.stage, request.tier) for request in requests] == [("review", "strong"), ("continue", "strong")]
    assert requests[1].max_output_tokens == 8000 > requests[0].max_output_tokens
    assert "no answer" in requests[1].messages[-1].content


@pytest.mark.parametrize("at", range(5, len(CLEAN), 61))
async def test_a_review_that_was_cut_off_is_continued_and_read_whole(config: Config, at: int) -> None:
    found, requests = await reviewed(config, cut(CLEAN[:at]), said(CLEAN[at:]))
    assert (found["verdict"], len(requests)) == ("clean", 2), found


@pytest.mark.parametrize(
    "second", [NO_TEXT, REFUSED, said("Looks good to me.")], ids=["silent again", "down", "no JSON"]
)
async def test_a_reviewer_that_never_answers_has_not_reviewed_and_is_on_the_receipt(
    config: Config, second: Any
) -> None:
    found, _ = await reviewed(config, NO_TEXT, second)
    assert (found["verdict"], found["next"]) == ("uninformative", "Treat this change as not reviewed.")
    assert found["reviewer"].startswith("strong ")
    assert found["receipt"]["measured"]["usd"] not in (None, "0")
    assert rows(config, "select stage from calls order by rowid") == [("review",), ("continue",)]


async def test_a_review_that_says_too_little_names_what_is_missing_and_what_was_dropped(config: Config) -> None:
    off = {"file": "shop/cart.py", "line": 400, "severity": "major", "klass": "test", "claim": "x", "evidence": "y"}
    answer = json.dumps({"findings": [off], "checked": dict.fromkeys(CLASSES[1:], "none: because one line changed")})
    found, _ = await reviewed(config, said(answer))
    assert found["verdict"] == "uninformative"
    assert found["summary"] == (
        f"uninformative: the reviewer says nothing of {CLASSES[0]}; 1 finding was dropped, pointing at no line of the "
        "diff or holding code."
    )


async def test_a_review_with_no_budget_for_its_rest_tells_what_there_is(project: Path, tmp_path: Path) -> None:
    config = make_config(project, tmp_path / "poor", toml='[budget]\ntask_usd = "0.15"\n')
    found, requests = await reviewed(config, cut(CLEAN[:40]))
    assert (found["verdict"], len(requests)) == ("uninformative", 1)
    assert found["receipt"]["measured"]["usd"] == "0.0002"


# --- F1: cheap code only behind a plan that says enough and a check -----------------------------------


@pytest.mark.parametrize(
    ("given", "decision", "rule"),
    [
        ({}, "single_cheap", "single_file"),
        ({"checks": []}, "do_it_yourself", "no_check"),
        ({"acceptance": []}, "ask", "plan_lint"),
        ({"out_of_scope": []}, "ask", "plan_lint"),
    ],
)
async def test_cheap_code_wants_a_plan_that_passes_lint_and_a_check(
    config: Config, project: Path, given: dict[str, Any], decision: str, rule: str
) -> None:
    (project / "shop/cart.py").write_text(BUGGY + "# a line of a file that is long enough to hand over\n" * 100)
    plan = {"steps": ["Divide by 100."], "acceptance": ["10 is ten per cent."], "out_of_scope": ["count()"]}
    found = await told(config, ScriptedGateway(), "plan_task", JOB | plan | given)
    assert (found["decision"], found["reason"]) == (decision, rule)
