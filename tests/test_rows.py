"""One test or more for each promise of the product that no other file holds, through the highest door that shows it."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.types import Implementation, TextContent
from pydantic import ValidationError

import mcp_tierkit
from mcp_tierkit import desk as desk_module
from mcp_tierkit.calls import DraftCall, PlanCall
from mcp_tierkit.config import Config, load_config
from mcp_tierkit.desk import default_wait_s
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.journal import tree_lock
from mcp_tierkit.ledger.report import prompt_changes, reading
from mcp_tierkit.providers import known
from mcp_tierkit.server import build_server
from mcp_tierkit.tokens import count
from mcp_tierkit.types import Completion, Handoff, Request
from tests.support import (
    BUGGY,
    FIXED,
    JOB,
    RIGHT,
    TIERS,
    WRONG,
    client_at,
    desk_at,
    footprint,
    make_config,
    make_env,
    make_project,
    run_git,
    said,
    snapshot,
)

pytestmark = pytest.mark.anyio

UNCHECKED: dict[str, Any] = {"task": "Take the discount as a percentage.", "files": ["shop/cart.py"]}
UNITTEST = "python -m unittest -q tests.test_cart"
MID = (
    '[tiers.mid]\nmodels = ["openai/tiny-mid"]\nbase_url = "http://127.0.0.1:9"\n'
    'price = { input = "1", output = "5" }\n'
)
CLASSES = ("edge_case", "assumption", "test", "drift", "security")
CLEAN = json.dumps({"findings": [], "checked": dict.fromkeys(CLASSES, "none: because one line changed")})
FINDING = json.dumps(
    {
        "findings": [
            {
                "file": "shop/cart.py", "line": 6, "severity": "major", "klass": "edge_case",
                "claim": "A discount over 100 gives a negative total.", "evidence": "(100 - discount)",
            }
        ],
        "checked": {},
    }
)  # fmt: skip
KEY = "AKIA" + "ABCDEFGHIJKLMNOP"
KEYFILE_HEAD = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA" * 4


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app")


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    return make_config(project, tmp_path / "home")


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no model server listens, whatever runs on this one."""
    monkeypatch.setattr("mcp_tierkit.engines.known", lambda: known().model_copy(update={"engine": ()}))


@pytest.fixture
def bare(project: Path, tmp_path: Path, no_engine: None) -> Config:
    """No key, no settings, no engine."""
    home = tmp_path / "bare"
    home.mkdir()
    return load_config(project=str(project), env={"HOME": str(home)})


@asynccontextmanager
async def asked_by(config: Config, gateway: ScriptedGateway, name: str) -> AsyncIterator[Client]:
    async with (
        desk_at(config, gateway) as desk,
        Client(build_server(desk), client_info=Implementation(name=name, version="1")) as client,
    ):
        yield client


async def told(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    [block] = result.content
    assert isinstance(block, TextContent)
    assert json.loads(block.text) == result.structured_content
    reply: dict[str, Any] = result.structured_content
    return reply


async def refused(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


async def call(config: Config, tool: str, arguments: dict[str, Any], *replies: Any) -> dict[str, Any]:
    """One call of a server of its own, so that each call is a restart as well."""
    async with client_at(config, ScriptedGateway(replies)) as client:
        return await told(client, tool, arguments)


async def refusal(config: Config, tool: str, arguments: dict[str, Any], *replies: Any) -> str:
    gateway = ScriptedGateway(replies)
    async with client_at(config, gateway) as client:
        text = await refused(client, tool, arguments)
    assert gateway.requests == []
    return text


def rows(config: Config, query: str) -> list[dict[str, Any]]:
    """What a person with a SQL prompt sees."""
    with closing(sqlite3.connect(config.ledger_url.removeprefix("sqlite://"))) as conn:
        conn.row_factory = sqlite3.Row
        return [dict(row) for row in conn.execute(query)]


def tokens(value: Any) -> int:
    return count(json.dumps(value, separators=(",", ":"), ensure_ascii=False)).tokens


def everything_said(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


def sentences(text: str) -> int:
    return len(re.findall(r"\.(?= |$)", text))


# --- A12: prices are dated, the unknown is null, the old is warned of ---------------------------------


def tierkit_with_prices_of(day: date, tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The command line of a copy of the package whose price table was read on that day."""
    copy = tmp_path / f"read-{day}"
    package = shutil.copytree(Path(mcp_tierkit.__file__).parent, copy / "mcp_tierkit")
    table = package / "data" / "prices.toml"
    table.write_text(re.sub(r"(?m)^as_of = .*$", f"as_of = {day}", table.read_text("utf8")))
    (tmp_path / "work").mkdir(exist_ok=True)
    env = make_env(tmp_path / "home") | {"PYTHONPATH": str(copy)}
    return subprocess.run(
        [sys.executable, "-m", "mcp_tierkit", *args], cwd=tmp_path / "work", env=env, capture_output=True, text=True
    )


def test_a_price_older_than_ninety_days_is_warned_of(tmp_path: Path) -> None:  # A12
    fresh = tierkit_with_prices_of(date.today() - timedelta(days=89), tmp_path, "prices")
    old = tierkit_with_prices_of(date.today() - timedelta(days=92), tmp_path, "prices")
    assert (fresh.returncode, old.returncode) == (0, 0)
    assert "90 days" not in fresh.stderr
    assert "90 days" in old.stderr
    assert "92 d" in old.stdout


def test_the_price_of_an_unknown_model_is_null_and_never_zero(tmp_path: Path) -> None:  # A12
    done = tierkit_with_prices_of(date.today(), tmp_path, "prices", "openai/nobody-knows-it", "--json")
    [row] = json.loads(done.stdout)
    assert done.returncode == 1
    assert (row["known"], row["input"], row["output"], row["as_of"]) == (False, None, None, None)


async def test_a_call_without_a_price_costs_null_on_receipt_and_ledger(
    project: Path, tmp_path: Path, no_engine: None
) -> None:  # A12
    toml = (
        '[tiers.mid]\nmodels = ["openai/nobody-knows-it"]\napi_key_env = "SOME_KEY"\n[policy]\nallow_unpriced = true\n'
        '[stages]\ndraft = "mid"\n'
    )
    config = load_config(project=str(project), env=make_env(tmp_path / "home", toml=toml, SOME_KEY="x" * 30))
    answer = said(RIGHT).model_copy(update={"served_model": "nobody-knows-it"})
    reply = await call(config, "draft_with_cheap_model", UNCHECKED, answer)
    assert reply["receipt"]["measured"]["usd"] is None
    assert reply["receipt"]["measured"]["unpriced_calls"] == 1
    assert reply["receipt"]["net"] is None
    assert rows(config, "select cost_nanousd, status from call_log") == [{"cost_nanousd": None, "status": "settled"}]


# --- B1: three tools, three pins, nothing inherited in silence ----------------------------------------


async def test_each_stage_uses_the_model_that_is_pinned_for_it(project: Path, tmp_path: Path) -> None:  # B1
    config = make_config(project, tmp_path / "home", toml=MID + '[stages]\ndraft = "mid"\nreview = "strong"\n')
    gateway = ScriptedGateway(
        [
            said(RIGHT).model_copy(update={"served_model": "tiny-mid-2026"}),
            said(CLEAN).model_copy(update={"served_model": "tiny-strong-2026"}),
        ]
    )
    async with client_at(config, gateway) as client:
        draft = await told(client, "draft_with_cheap_model", UNCHECKED)
        review = await told(client, "review_diff", {"task_id": draft["task_id"]})
    assert review["verdict"] == "clean"
    assert review["reviewer"] == "strong tiny-strong-2026"
    assert rows(config, "select stage, tier, requested_model, served_model from call_log order by at") == [
        {"stage": "draft", "tier": "mid", "requested_model": "openai/tiny-mid", "served_model": "tiny-mid-2026"},
        {"stage": "review", "tier": "strong", "requested_model": "openai/tiny-strong",
         "served_model": "tiny-strong-2026"},
    ]  # fmt: skip


async def test_a_pinned_drafter_without_a_model_is_refused_and_not_replaced(
    project: Path, tmp_path: Path, no_engine: None
) -> None:  # B1
    config = make_config(project, tmp_path / "home", toml='[stages]\ndraft = "mid"\n')
    assert (await refusal(config, "draft_with_cheap_model", UNCHECKED, said(RIGHT))).startswith("no_model: ")


async def test_a_pinned_reviewer_without_a_model_is_not_replaced(
    project: Path, tmp_path: Path, no_engine: None
) -> None:  # B1
    config = make_config(project, tmp_path / "home", toml='[stages]\nreview = "mid"\n')
    (project / "shop/cart.py").write_text(FIXED)
    gateway = ScriptedGateway([said(CLEAN)])
    async with client_at(config, gateway) as client:
        reply = await told(client, "review_diff", {"diff": "working_tree"})
    assert (reply["verdict"], gateway.requests) == ("uninformative", [])
    assert "no model is set" in reply["summary"]


async def test_a_review_is_never_on_a_lower_tier_than_the_draft_and_says_so(
    project: Path, tmp_path: Path
) -> None:  # B1
    config = make_config(project, tmp_path / "home", toml=MID + '[stages]\nreview = "cheap"\n')
    plan = await call(config, "plan_task", UNCHECKED | {"tier": "strong"})
    gateway = ScriptedGateway([said(RIGHT), said(CLEAN)])
    async with client_at(config, gateway) as client:
        await told(client, "draft_with_cheap_model", {"task_id": plan["task_id"]})
        review = await told(client, "review_diff", {"task_id": plan["task_id"]})
    assert [request.tier for request in gateway.requests] == ["strong", "strong"]
    assert "the pinned cheap is below strong" in review["summary"]


async def test_a_reviewer_that_fails_after_it_was_paid_is_a_verdict_and_a_row(
    project: Path, tmp_path: Path, no_engine: None
) -> None:  # B1
    toml = '[tiers.mid]\nmodels = ["anthropic/claude-haiku-5-5"]\n[stages]\nreview = "mid"\n'
    env = make_env(tmp_path / "home", toml=toml, ANTHROPIC_API_KEY="x" * 40)
    config = load_config(project=str(project), env=env)
    (project / "shop/cart.py").write_text(FIXED)
    reply = await call(config, "review_diff", {"diff": "working_tree"}, said(CLEAN))
    assert reply["verdict"] == "uninformative"
    assert "tiny-cheap answered" in reply["summary"]
    assert reply["receipt"]["measured"]["usd"] != "0"
    assert rows(config, "select served_model, model_mismatch from calls") == [
        {"served_model": "tiny-cheap", "model_mismatch": 1}
    ]


# --- B4: one handoff through plan, draft and review ---------------------------------------------------

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=4).map(tuple)
SOME_TEXTS = TEXTS.filter(bool)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=TEXTS, acceptance=TEXTS, out_of_scope=TEXTS, constraints=TEXTS, assume=SOME_TEXTS)
def test_what_a_plan_says_is_what_the_drafter_and_the_reviewer_read(
    config: Config, steps: Any, acceptance: Any, out_of_scope: Any, constraints: Any, assume: Any
) -> None:  # B4
    plan = PlanCall(
        **UNCHECKED, steps=steps, acceptance=acceptance, out_of_scope=out_of_scope, constraints=constraints,
        assume=assume,
    )  # fmt: skip

    async def through() -> tuple[Handoff, Handoff, ScriptedGateway]:
        gateway = ScriptedGateway([said(RIGHT)])
        async with desk_at(config, gateway) as desk:
            task_id = (await desk.plan_task(plan))["task_id"]
            before = await desk.kit.ledger.handoff(task_id)
            await desk.draft(DraftCall(task_id=task_id))
            return before, await desk.kit.ledger.handoff(task_id), gateway

    before, after, gateway = anyio.run(through)
    assert before.model_dump(include={"steps", "acceptance", "out_of_scope", "constraints"}) == plan.model_dump(
        include={"steps", "acceptance", "out_of_scope", "constraints"}
    )
    assert before.assumptions == assume
    assert after == before.model_copy(update={"draft_diff": f".tierkit/{before.task_id}.patch"})
    assert Handoff.model_validate_json(after.model_dump_json()) == after
    sent = everything_said(gateway.requests[0])
    assert [text for text in (*steps, *acceptance, *out_of_scope, *constraints, *assume) if text not in sent] == []


async def test_the_review_reads_the_drafts_diff_from_the_handoff_and_adds_its_risks(config: Config) -> None:  # B4
    gateway = ScriptedGateway([said(RIGHT), said(FINDING)])
    async with client_at(config, gateway) as client:
        draft = await told(client, "draft_with_cheap_model", UNCHECKED)
        await told(client, "review_diff", {"task_id": draft["task_id"]})
    assert "+    return sum(prices) * (100 - discount) // 100" in everything_said(gateway.requests[1])
    async with desk_at(config) as desk:
        handoff = await desk.kit.ledger.handoff(draft["task_id"])
    assert handoff.draft_diff == draft["patch"]
    assert handoff.risks == ("shop/cart.py:6 A discount over 100 gives a negative total.",)


async def test_a_field_that_the_handoff_lacks_is_rejected_by_door_and_record(config: Config) -> None:  # B4
    text = await refusal(config, "plan_task", UNCHECKED | {"phases": ["one"]})
    assert re.match(r"invalid_input: .*\bphases\b", text), text
    whole = Handoff(task_id="t", summary="s", files=()).model_dump()
    with pytest.raises(ValidationError, match="phases"):
        Handoff.model_validate(whole | {"phases": []})


# --- B5: prompts have an id with a digest, and a change of text shows ---------------------------------


async def test_a_changed_prompt_text_of_the_users_own_is_used_recorded_and_listed(
    project: Path, tmp_path: Path, config: Config
) -> None:  # B5
    shipped = (Path(mcp_tierkit.__file__).parent / "prompts" / "draft.v2.md").read_text("utf8")
    for folder in (project / "prompts", project / ".tierkit" / "prompts", project / ".config/tierkit/prompts"):
        folder.mkdir(parents=True)
        (folder / "draft.v2.md").write_text(shipped.replace("# Task\n", "# Task of the project's\n"))
    gateway = ScriptedGateway([said(RIGHT), said(RIGHT)])
    async with client_at(config, gateway) as client:
        await told(client, "draft_with_cheap_model", UNCHECKED)
        (tmp_path / "home/prompts").mkdir()
        (tmp_path / "home/prompts/draft.v2.md").write_text(shipped.replace("# Task\n", "# Task of mine\n"))
        await told(client, "draft_with_cheap_model", UNCHECKED)
    first, second = map(everything_said, gateway.requests)
    assert ("of the project's" in first, "of mine" in first, "of mine" in second) == (False, False, True)
    ids = [row["prompt_id"] for row in rows(config, "select prompt_id from calls order by rowid")]
    assert [re.fullmatch(r"draft\.v2/code@[0-9a-f]{12}", prompt_id) is not None for prompt_id in ids] == [True, True]
    with reading(config.ledger_url) as conn:
        assert [(c.prompt, c.before, c.after) for c in prompt_changes(conn)] == [("draft", ids[0], ids[1])]


@pytest.mark.parametrize("name", ["draft.v2.md", "repair.v1.md", "climb.v1.md"])
async def test_a_faulty_prompt_text_is_refused_before_money_is_spent(
    tmp_path: Path, config: Config, name: str
) -> None:  # B5
    (tmp_path / "home/prompts").mkdir()
    (tmp_path / "home/prompts" / name).write_text("=== user ===\nno placeholder\n")
    text = await refusal(config, "draft_with_cheap_model", UNCHECKED, said("nonsense"), said(RIGHT))
    assert name in text


# --- C4: no call without a route that allowed it ------------------------------------------------------


async def test_every_call_points_to_a_route_that_allowed_its_tier(config: Config) -> None:  # C4
    plan = await call(config, "plan_task", UNCHECKED)
    assert plan["decision"] == "do_it_yourself"
    outright = await call(config, "draft_with_cheap_model", UNCHECKED, said("nonsense"), said(RIGHT))
    await call(config, "draft_with_cheap_model", {"task_id": plan["task_id"]}, said(RIGHT))
    for task_id in (plan["task_id"], outright["task_id"]):
        await call(config, "review_diff", {"task_id": task_id}, said(CLEAN))
    found = rows(
        config,
        "select c.stage, r.decision, c.tier = r.tier as allowed from calls c join routes r using (route_id, task_id)",
    )
    assert len(found) == len(rows(config, "select 1 from calls")) == 5
    assert {(row["stage"], row["decision"], row["allowed"]) for row in found} == {
        ("draft", "draft", 1), ("repair", "draft", 1), ("review", "review", 1),
    }  # fmt: skip


@pytest.mark.parametrize("tier", ["cheap", "strong"])
async def test_the_database_itself_refuses_a_call_that_no_route_allows(config: Config, tier: str) -> None:  # C4
    plan = await call(config, "plan_task", UNCHECKED)
    await call(config, "draft_with_cheap_model", UNCHECKED, said(RIGHT))
    [advised] = rows(config, f"select * from routes where task_id = '{plan['task_id']}'")
    row = {
        **rows(config, "select * from calls")[0], "call_id": "forged", "task_id": plan["task_id"],
        "route_id": advised["route_id"], "tier": tier,
    }  # fmt: skip
    with closing(sqlite3.connect(config.ledger_url.removeprefix("sqlite://"))) as conn:
        conn.execute("pragma foreign_keys = on")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            conn.execute(f"insert into calls ({', '.join(row)}) values ({', '.join('?' * len(row))})", [*row.values()])


# --- F5, and the first receipt ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "served"), [("ANTHROPIC_API_KEY", "claude-haiku-5-5"), ("OPENROUTER_API_KEY", "openai/gpt-6-luna")]
)
async def test_one_key_and_no_settings_draft_review_and_name_the_key_once(
    project: Path, tmp_path: Path, no_engine: None, variable: str, served: str
) -> None:  # F5
    home = tmp_path / "fresh"
    home.mkdir()
    config = load_config(project=str(project), env={"HOME": str(home), variable: "k" * 40})
    answer = said(RIGHT).model_copy(update={"served_model": served})
    job = JOB | {"checks": [UNITTEST]}
    first = await call(config, "draft_with_cheap_model", job, answer)
    assert first["status"] == "applied", first
    assert first["receipt"]["key_spent"] == variable
    assert 80 < tokens(first) <= 200
    (project / "shop/cart.py").write_text(BUGGY)
    second = await call(config, "draft_with_cheap_model", job, answer)
    assert "key_spent" not in second["receipt"]


async def test_a_first_receipt_names_the_key_that_was_spent_and_no_other(
    project: Path, tmp_path: Path, no_engine: None
) -> None:  # G7, begun: the key of the tier that was called, in a review as well
    tier = '[tiers.{}]\nmodels = ["openai/tiny-{}"]\nbase_url = "http://127.0.0.1:9"\napi_key_env = "{}_KEY"\n'
    price = 'price = { input = "1", output = "5" }\n'
    home = tmp_path / "home"
    env = make_env(home, CHEAP_KEY="c" * 30, STRONG_KEY="s" * 30)
    names = ("cheap", "strong")
    (home / "tierkit.toml").write_text("".join(tier.format(n, n, n.upper()) + price for n in names))
    config = load_config(project=str(project), env=env)
    (project / "shop/cart.py").write_text(FIXED)
    review = await call(config, "review_diff", {"diff": "working_tree"}, said(CLEAN))
    assert review["receipt"]["key_spent"] == "STRONG_KEY"


async def test_a_task_that_was_cut_short_had_no_receipt_so_the_next_one_names_the_key(
    project: Path, tmp_path: Path, no_engine: None
) -> None:  # G7, begun
    home = tmp_path / "fresh"
    home.mkdir()
    config = load_config(project=str(project), env={"HOME": str(home), "ANTHROPIC_API_KEY": "k" * 40})
    gateway = ScriptedGateway([said(RIGHT)], gate=anyio.sleep_forever)
    async with client_at(config, gateway) as client:
        await told(client, "draft_with_cheap_model", UNCHECKED | {"wait_s": 0})
        await gateway.begun()
    answer = said(RIGHT).model_copy(update={"served_model": "claude-haiku-5-5"})
    reply = await call(config, "draft_with_cheap_model", UNCHECKED, answer)
    assert reply["receipt"]["key_spent"] == "ANTHROPIC_API_KEY"


# --- G1: one small surface ----------------------------------------------------------------------------


async def test_the_tools_are_the_same_six_whatever_the_project_the_client_and_the_settings(
    project: Path, config: Config, bare: Config, tmp_path: Path
) -> None:  # G1
    playbook = bare.user_dir / "playbooks" / "one-more"
    playbook.mkdir(parents=True)
    (playbook / "PLAYBOOK.md").write_text("---\nname: one-more\n---\n")
    elsewhere = make_config(make_project(tmp_path / "other"), tmp_path / "other-home")
    seen = set()
    for one, mode in ((config, "auto"), (bare, "legacy"), (elsewhere, "2026-07-28")):
        async with client_at(one, mode=mode) as client:
            listed = (await client.list_tools()).tools
            seen.add(json.dumps([tool.model_dump(mode="json", by_alias=True) for tool in listed], sort_keys=True))
    assert len(seen) == 1
    assert len(json.loads(seen.pop())) == 6


# --- G4: applied when green, and only then ------------------------------------------------------------


def isolated(project: Path, home: Path, monkeypatch: pytest.MonkeyPatch, isolation: str) -> Config:
    if isolation == "in_place":
        monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    return make_config(project, home, toml=f'[checks]\nallow = ["{sys.executable}", "python -m unittest"]\n')


@pytest.mark.parametrize("isolation", ["sandbox", "in_place"])
async def test_a_file_that_moved_meanwhile_is_a_conflict_and_keeps_what_it_became(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:  # G4, status `conflict`
    config = isolated(project, tmp_path / "home", monkeypatch, isolation)

    def meddle(request: Request) -> Completion:
        (project / "shop/cart.py").write_text(BUGGY + "\n# mine\n")
        return said(RIGHT)

    reply = await call(config, "draft_with_cheap_model", JOB, meddle)
    assert (reply["status"], reply["isolation"]) == ("conflict", isolation)
    assert (project / "shop/cart.py").read_text() == BUGGY + "\n# mine\n"


async def test_a_green_draft_that_must_not_be_applied_is_ready_as_a_patch_that_git_takes(
    config: Config, project: Path
) -> None:  # G4, status `ready`
    before = footprint(project)
    reply = await call(config, "draft_with_cheap_model", JOB | {"apply": "never"}, said(RIGHT))
    assert reply["status"] == "ready"
    assert footprint(project) == before
    run_git(project, "apply", reply["patch"])
    assert (project / "shop/cart.py").read_text() == FIXED


async def test_a_draft_that_edits_nothing_but_files_outside_is_rejected(
    config: Config, project: Path
) -> None:  # G4, status `rejected`
    before = snapshot(project)
    stray = "shop/extra.py\n```\nx = 1\n```\n"
    reply = await call(config, "draft_with_cheap_model", JOB, said(stray), said(stray))
    assert (reply["status"], snapshot(project)) == ("rejected", before)
    assert "shop/extra.py" in reply["summary"]


# --- G8: no call freezes the client -------------------------------------------------------------------


async def test_a_call_answers_in_time_goes_on_and_can_be_waited_for(config: Config, project: Path) -> None:  # G8
    gate = anyio.Event()
    gateway = ScriptedGateway([said(RIGHT)], gate=gate.wait)
    async with client_at(config, gateway) as client:
        started = time.monotonic()
        running = await told(client, "draft_with_cheap_model", JOB | {"wait_s": 0.3})
        assert time.monotonic() - started < 30  # It would wait for 40 seconds of its own accord.
        assert (running["status"], tokens(running) <= 60) == ("running", True)
        waited = await told(client, "get_task", {"task_id": running["task_id"], "wait_s": 0.1})
        assert (waited["state"], tokens(waited) <= 60) == ("running", True)
        gate.set()
        done = await told(client, "get_task", {"task_id": running["task_id"], "wait_s": 60})
    assert (done["status"], done["state"]) == ("applied", "done")
    assert (project / "shop/cart.py").read_text() == FIXED


async def test_progress_is_told_step_by_step_while_a_token_is_given(config: Config) -> None:  # G8
    heard: list[tuple[float, str | None]] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async with client_at(config, ScriptedGateway([said(RIGHT)])) as client:
        await client.call_tool("draft_with_cheap_model", JOB, progress_callback=listen)
    steps = [step for step, _ in heard]
    assert len(steps) >= 2
    assert steps == sorted(set(steps))
    assert any(message and "waiting for the cheap tier" in message for _, message in heard)


async def test_a_known_client_is_kept_waiting_and_an_unknown_one_is_not(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:  # G8
    assert [default_wait_s(name) for name in ("claude-code/2.1", "Gemini-CLI/1", "who/1", None)] == [600, 540, 40, 40]
    waits = {"default": 0.05, "clients": {"claude-code": {"wait_s": 600}}}
    monkeypatch.setattr(desk_module, "packaged", lambda _: waits)
    for name, status in (("some-client", "running"), ("claude-code", "unproven")):
        gate = anyio.Event()
        gateway = ScriptedGateway([said(RIGHT)], gate=gate.wait)
        async with asked_by(config, gateway, name) as client, anyio.create_task_group() as group:

            async def open_soon(gateway: ScriptedGateway = gateway, gate: anyio.Event = gate) -> None:
                await gateway.begun()
                await anyio.sleep(0.3)
                gate.set()

            group.start_soon(open_soon)
            assert (await told(client, "draft_with_cheap_model", UNCHECKED))["status"] == status


async def test_another_servers_long_check_in_the_tree_does_not_hold_the_first_call(config: Config) -> None:  # G8
    async with tree_lock(config.state_dir, config.project):
        async with client_at(config) as client:
            with anyio.fail_after(60):
                assert (await told(client, "plan_task", UNCHECKED))["decision"] == "do_it_yourself"


async def test_a_cancelled_and_an_interrupted_task_say_so_to_whoever_asks_later(config: Config) -> None:  # G8, statuses
    gate = anyio.Event()
    gateway = ScriptedGateway([said(RIGHT), said(RIGHT)], gate=gate.wait)
    async with client_at(config, gateway) as client:
        first = await told(client, "draft_with_cheap_model", UNCHECKED | {"wait_s": 0})
        second = await told(client, "draft_with_cheap_model", UNCHECKED | {"wait_s": 0})
        await gateway.begun(2)
        ended = await told(client, "get_task", {"task_id": first["task_id"], "cancel": True, "wait_s": 30})
    assert (ended["status"], ended["state"], ended["applied"]) == ("cancelled", "cancelled", False)
    left = await call(config, "get_task", {"task_id": second["task_id"]})
    assert (left["status"], left["state"], left["applied"]) == ("interrupted", "interrupted", False)
    assert {row["status"] for row in rows(config, "select status from calls")} == {"cancelled"}


# --- G9: checks are proven red first ------------------------------------------------------------------


async def test_a_refactor_stays_green_and_the_reply_says_that_this_was_the_proof(
    config: Config, project: Path
) -> None:  # G9
    (project / "shop/cart.py").write_text(FIXED)
    tidy = RIGHT.replace("sum(prices) - discount", "sum(prices) * (100 - discount) // 100", 1).replace(
        "=======\n    return sum(prices) * (100 - discount) // 100",
        "=======\n    return (100 - discount) * sum(prices) // 100",
    )
    reply = await call(config, "draft_with_cheap_model", JOB | {"proof": "stays_green"}, said(tidy))
    assert (reply["status"], reply["proof"]) == ("applied", "stays_green"), reply
    assert [(row["role"], row["before"], row["after"]) for row in reply["checks"]] == [
        ("stays_green", "green", "green")
    ]


async def test_a_refactor_over_a_red_check_proves_nothing_and_spends_nothing(config: Config) -> None:  # G9
    gateway = ScriptedGateway([said(RIGHT)])
    async with client_at(config, gateway) as client:
        reply = await told(client, "draft_with_cheap_model", JOB | {"proof": "stays_green"})
    assert (reply["status"], reply["checks"][0]["before"], gateway.requests) == ("unproven", "red", [])


FLAKY = """import glob, unittest
class Test(unittest.TestCase):
    def test_it(self):
        self.assertTrue(glob.glob(".tierkit/t*/before-1.log"))
"""


@pytest.mark.parametrize(
    ("check", "status", "outcome"),
    [
        ("python -m unittest -q tests.test_flaky", "unproven", "flaky"),
        ("python -m unittest -q tests.test_cart.CartTest.test_count", "unproven", "vacuous"),
        ("python -m unittest -q tests.test_empty", "unrunnable", "unrunnable"),
        ("no-such-command", "unrunnable", "unrunnable"),
    ],
)
async def test_flaky_vacuous_and_unrunnable_are_told_apart_before_money(
    config: Config, project: Path, check: str, status: str, outcome: str
) -> None:  # G9, statuses `unproven` and `unrunnable`
    (project / "tests/test_flaky.py").write_text(FLAKY)
    (project / "tests/test_empty.py").write_text("")
    gateway = ScriptedGateway([said(RIGHT)])
    async with client_at(config, gateway) as client:
        reply = await told(client, "draft_with_cheap_model", JOB | {"checks": [check]})
    assert (reply["status"], reply["checks"][0]["before"], gateway.requests) == (status, outcome, []), reply


@pytest.mark.parametrize("path", ["tests/test_cart.py", "conftest.py", "pyproject.toml", "check.sh"])
async def test_what_judges_a_draft_is_not_its_to_write(config: Config, project: Path, path: str) -> None:  # G9
    (project / "check.sh").write_text("#!/bin/sh\nexit 1\n")
    job = JOB | {"files": ["shop/cart.py", path], "checks": ["sh check.sh"]}
    assert (await refusal(config, "draft_with_cheap_model", job, said(RIGHT))).startswith("refused_policy: ")


async def test_a_task_about_tests_may_write_tests(config: Config, project: Path) -> None:  # G9
    added = (
        "tests/test_more.py\n```\nimport unittest\n\n\nclass More(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertEqual(1, 1)\n```\n"
    )
    job = {
        "task": "Add tests for count().", "files": ["tests/test_more.py"],
        "checks": ["python -m unittest -q tests.test_more"],
    }  # fmt: skip
    reply = await call(config, "draft_with_cheap_model", job, said(added))
    assert reply["status"] == "applied", reply
    assert (project / "tests/test_more.py").exists()


# --- G18: useful without a key ------------------------------------------------------------------------


async def test_without_any_provider_all_that_needs_no_model_works(bare: Config, project: Path) -> None:  # G18
    async with client_at(bare, ScriptedGateway()) as client:
        plan = await told(client, "plan_task", JOB)
        assert (plan["decision"], plan["estimate"]) == ("do_it_yourself", None)
        big = await told(client, "plan_task", JOB | {"files": ["shop/cart.py", "shop/new.py"]})
        assert (big["decision"], big["tier"], big["estimate"]) == ("draft", "cheap", None)
        assert (await told(client, "run_playbook", {}))["playbooks"]
        run = await told(client, "run_playbook", {"name": "changelog-from-git", "inputs": {"from_ref": "HEAD"}})
        assert run["status"] in ("ok", "declined")
        (project / "shop/cart.py").write_text(FIXED + "<<<<<<< HEAD\n")
        blocked = await told(client, "review_diff", {"diff": "working_tree"})
        assert (blocked["verdict"], blocked["findings"][0]["class"]) == ("blocked", "requirement")
        (project / "shop/cart.py").write_text(FIXED)
        passed = await told(client, "review_diff", {"diff": "working_tree"})
        assert passed["verdict"] == "uninformative"
        assert "no model is set" in passed["summary"]
    assert rows(bare, "select 1 from calls") == []


async def test_without_any_provider_drafting_says_in_three_sentences_what_to_set(bare: Config) -> None:  # G18
    text = await refusal(bare, "draft_with_cheap_model", JOB)
    assert text.startswith("no_model: ")
    assert sentences(text) == 3, text
    for word in ("OPENROUTER_API_KEY", "ANTHROPIC_API_KEY", "keys.env", "Ollama", "[tiers.cheap]", "nothing was spent"):
        assert word in text


def test_route_decides_on_the_command_line_of_a_machine_without_anything(tmp_path: Path) -> None:  # G18
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    env = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "mcp_tierkit", "route", "Fix it", "-f", "a.py", "-k", "true", "--json"],
        cwd=tmp_path / "work", env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["decision"]) == (0, "single_cheap"), done.stderr
    assert list((tmp_path / "home").iterdir()) == []


# --- G22: secrets stay home ---------------------------------------------------------------------------


async def nowhere(secret: str, config: Config, project: Path, *said_to_caller: Any) -> None:
    """No file of ours and no reply holds the secret."""
    ours = [path for root in (config.state_dir, config.user_dir, project / ".tierkit") for path in root.rglob("*")]
    assert [path for path in ours if path.is_file() and secret.encode() in path.read_bytes()] == []
    assert secret not in json.dumps(said_to_caller)


@pytest.mark.parametrize("role", ["files", "context"])
async def test_a_file_with_a_secret_is_refused_and_its_line_is_named(
    config: Config, project: Path, role: str
) -> None:  # G22
    (project / "shop/keys.py").write_text(f'"""Keys."""\n\nNAME = "{KEY}"\n')
    job = UNCHECKED | {role: ["shop/cart.py", "shop/keys.py"]}
    text = await refusal(config, "draft_with_cheap_model", job, said(RIGHT))
    assert "shop/keys.py holds a secret at line 3 (aws-access-key)" in text
    await nowhere(KEY, config, project, text)


@pytest.mark.parametrize("role", ["files", "context"])
async def test_a_denied_file_is_refused_by_name_and_passed_over_by_a_glob(
    config: Config, project: Path, role: str
) -> None:  # G22
    (project / "shop/.env").write_text("COLOUR=hush-hush\n")
    text = await refusal(config, "draft_with_cheap_model", UNCHECKED | {role: ["shop/cart.py", "shop/.env"]})
    assert text.startswith("path_refused: shop/.env is on the deny list")
    gateway = ScriptedGateway([said(RIGHT)])
    async with client_at(config, gateway) as client:
        await told(client, "draft_with_cheap_model", UNCHECKED | {role: ["shop/**"]})
        (project / "shop/cart.py").write_text(FIXED)
        gateway.replies(said(CLEAN))
        await told(client, "review_diff", {"diff": "working_tree"})
    assert len(gateway.requests) == 2
    assert [request for request in gateway.requests if "hush-hush" in everything_said(request)] == []


@pytest.mark.parametrize("field", ["steps", "acceptance", "constraints", "checks", "assume"])
async def test_a_secret_in_any_part_of_a_plan_is_refused_before_a_row(
    config: Config, project: Path, field: str
) -> None:  # G22
    text = await refusal(config, "plan_task", UNCHECKED | {field: [f"pytest -k {KEY}"]})
    assert text.startswith("refused_policy: The task holds a secret (aws-access-key")
    await nowhere(KEY, config, project, text)


async def test_a_secret_that_the_model_makes_up_goes_no_further(config: Config, project: Path) -> None:  # G22
    replies = {
        "written": RIGHT.replace("// 100\n>>>", f'// 100  # "{KEY}"\n>>>'),
        "unreadable": f'I would set KEY = "{KEY}" somewhere.',
        "asked": f"QUESTION: Is this the key?\n{KEYFILE_HEAD}",
    }
    for name, text in replies.items():
        secret = KEY if name != "asked" else "MIIEowIBAAKCAQEA" * 4
        gateway = ScriptedGateway([said(text), said(RIGHT)])
        async with client_at(config, gateway) as client:
            asked = UNCHECKED | {"task": f"{UNCHECKED['task']} The reply is {name}."}  # Not the same thrice.
            reply = await told(client, "draft_with_cheap_model", asked)
        assert len(gateway.requests) == 1, name
        assert reply["status"] == ("question" if name == "asked" else "rejected")
        await nowhere(secret, config, project, reply)


async def test_no_log_line_holds_a_secret(
    config: Config, project: Path, caplog: pytest.LogCaptureFixture
) -> None:  # G22
    with caplog.at_level(logging.DEBUG):
        text = await refusal_after(config, RuntimeError(f"broke at {KEY}"))
    assert "broke at [redacted:aws-access-key]" in caplog.text
    assert KEY not in caplog.text
    await nowhere(KEY, config, project, text)


async def refusal_after(config: Config, crash: Exception) -> str:
    async with client_at(config, ScriptedGateway([crash])) as client:
        return await refused(client, "draft_with_cheap_model", UNCHECKED)


# --- the stop rule ------------------------------------------------------------------------------------


async def test_two_drafts_and_two_reviews_are_all_a_task_gets_restarts_or_not(config: Config) -> None:
    red = [said(WRONG), said("nothing")]
    task_id = (await call(config, "draft_with_cheap_model", JOB, *red))["task_id"]
    left = [(await call(config, "review_diff", {"task_id": task_id}))["rounds_left"]]
    await call(config, "draft_with_cheap_model", {"task_id": task_id}, *red)
    text = await refusal(config, "draft_with_cheap_model", {"task_id": task_id}, said(RIGHT))
    assert text.startswith("stop_rule: ")
    left.append((await call(config, "review_diff", {"task_id": task_id}))["rounds_left"])
    assert left == [1, 0]
    assert (await refusal(config, "review_diff", {"task_id": task_id}, said(CLEAN))).startswith("stop_rule: ")


async def test_a_draft_that_was_paid_for_and_cancelled_counts_and_one_that_cost_nothing_does_not(
    config: Config,
) -> None:
    plan = await call(config, "plan_task", JOB | {"checks": ["no-such-command"]})
    for _ in range(3):
        reply = await call(config, "draft_with_cheap_model", {"task_id": plan["task_id"]})
        assert reply["status"] == "unrunnable"
    task_id = (await call(config, "plan_task", UNCHECKED))["task_id"]
    for _ in range(2):
        gateway = ScriptedGateway([said(RIGHT)], gate=anyio.sleep_forever)
        async with client_at(config, gateway) as client:
            await told(client, "draft_with_cheap_model", {"task_id": task_id, "wait_s": 0})
            await gateway.begun()
            await told(client, "get_task", {"task_id": task_id, "cancel": True, "wait_s": 30})
    text = await refusal(config, "draft_with_cheap_model", {"task_id": task_id}, said(RIGHT))
    assert text.startswith("stop_rule: ")


# --- pins, conventions, and settings that do nothing yet ----------------------------------------------


async def test_a_pinned_tier_is_obeyed_even_where_the_plan_advised_against(project: Path, tmp_path: Path) -> None:
    config = make_config(project, tmp_path / "home", toml='[stages]\ndraft = "cheap"\n')
    plan = await call(config, "plan_task", JOB | {"tier": "strong"})
    assert (plan["decision"], plan["reason"]) == ("do_it_yourself", "short_task")
    gateway = ScriptedGateway([said(RIGHT)])
    async with client_at(config, gateway) as client:
        reply = await told(client, "draft_with_cheap_model", {"task_id": plan["task_id"]})
    assert [request.model for request in gateway.requests] == ["openai/tiny-strong"]
    assert reply["attempts"][0].startswith("strong ")


@pytest.mark.parametrize("toml", ["", '[tiers]\ndrop = ["mid"]\n'])
async def test_a_pinned_tier_without_a_model_is_refused_by_plan_and_draft(
    project: Path, tmp_path: Path, no_engine: None, toml: str
) -> None:
    home = tmp_path / "home"
    env = make_env(home)
    (home / "tierkit.toml").write_text(toml + TIERS.format(url="http://127.0.0.1:9"))
    config = load_config(project=str(project), env=env)
    job = JOB | {"tier": "mid", "files": ["shop/cart.py", "shop/new.py"]}
    assert (await refusal(config, "plan_task", job)).startswith("no_model: ")
    advised = await call(config, "plan_task", JOB | {"tier": "mid"})
    text = await refusal(config, "draft_with_cheap_model", {"task_id": advised["task_id"]}, said(RIGHT))
    assert text.startswith("no_model: ")
    assert "mid" in text


async def test_a_projects_conventions_are_sent_as_data_and_no_more_than_two_kilobytes(
    config: Config, project: Path
) -> None:
    (project / ".tierkit").mkdir()
    (project / ".tierkit/conventions.md").write_text("Rule one: é.\n" + "ü" * 1500 + "\nRule last.\n")
    gateway = ScriptedGateway([said(RIGHT)])
    async with client_at(config, gateway) as client:
        await told(client, "draft_with_cheap_model", UNCHECKED)
    [system, user] = gateway.requests[0].messages
    data = user.content.split("# The project's own conventions (data)")[1].split("\n# Other files")[0]
    shown = data.split("```\n")[1].split("\n```")[0].rstrip()
    assert shown.startswith("Rule one: é.")
    assert 2040 < len(shown.encode()) <= 2048
    assert "Rule one" not in system.content


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('[stages]\nplan = "strong"\n', "stages.plan"),
    ],
)
def test_a_setting_that_nothing_acts_on_yet_is_said_and_not_passed_over(
    project: Path, tmp_path: Path, toml: str, key: str
) -> None:
    [note] = make_config(project, tmp_path / "home", toml=toml).notes
    assert note.startswith(f"{key} is not acted on in this version: ")


# --- E19, begun ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["call", "task", "day", "project", "month"])
async def test_a_budget_that_does_not_admit_a_call_is_named_with_spent_and_limit(
    project: Path, tmp_path: Path, budget: str
) -> None:  # E19, status `over_budget`
    config = make_config(project, tmp_path / "home", toml=f'[budget]\n{budget}_usd = "0.0001"\n')
    gateway = ScriptedGateway([said(RIGHT)])
    async with client_at(config, gateway) as client:
        reply = await told(client, "draft_with_cheap_model", UNCHECKED)
    assert (reply["status"], gateway.requests) == ("over_budget", [])
    for word in (f"The {budget} budget of $0.0001", "$0.00 is spent", "retryable=false"):
        assert word in reply["summary"]
