"""A task's receipt and score with the caller's side from its own transcript: a real draft, a planted session."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio
import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.config import load_config
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.money import weighed
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.scores import facts_of
from mcp_tierkit.receipts import Weighed, spent_usd, usd_short
from mcp_tierkit.stages.callers import in_facts, in_receipt, measured
from mcp_tierkit.transcripts.figures import CallerFigures
from mcp_tierkit.types import Spend
from tests.support import JOB, RIGHT, client_at, make_env, make_project, said
from tests.transcripts import answer, asked, counted, event, result, stamp, tool, usage, write

SECRET = "the words that a person typed"
OTHER = "t000000000000"
DRAFT = "mcp__tierkit__draft_with_cheap_model"
# Of claude-opus-4-6, in thousands of nanodollars: fresh 5, read 0.5, written for an hour 10, output 25.
COST = Decimal((10 + 30) * 5 + (100 + 110) * Decimal("0.5") + 40 * 10 + (20 + 5) * 25) / 1_000_000
FIRST_READ = 10 + 30 + 40 + 20 + 5


class Drafted(NamedTuple):
    project: Path
    env: dict[str, str]
    reply: dict[str, Any]


@pytest.fixture(scope="module", params=["api", "subscription"])
def drafted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drafted:
    """A change that was drafted, proven and applied, and its receipt."""
    root = tmp_path_factory.mktemp(request.param)
    project, env = make_project(root / "app"), make_env(root / "home", TIERKIT_CALLER_BILLING=request.param)
    return Drafted(project, env, anyio.run(partial(draft, project, env)))


async def draft(project: Path, env: dict[str, str]) -> dict[str, Any]:
    config = load_config(project=str(project), env=env)
    async with client_at(config, ScriptedGateway([said(RIGHT)])) as client:
        reply = (await client.call_tool("draft_with_cheap_model", JOB)).structured_content
    assert reply is not None
    return dict(reply)


@pytest.fixture
def home(drafted: Drafted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without transcripts, in which the command line finds the task."""
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (drafted.env | {"HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(drafted.project)
    return tmp_path


def at(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def plant(home: Path, task_id: str, model: str = "claude-opus-4-6") -> Path:
    """A session that hands one task over, between calls about something else."""
    return write(home / ".claude" / "projects" / "-home-ada-shop" / "session.jsonl", [
        asked(SECRET, at(0), "u1"), answer("before", at(1), usage(1000)),
        answer("asks", at(2), usage(10, 100, 0, 40, 20), tool("d1", DRAFT, task=SECRET)),
        result("d1", json.dumps({"task_id": task_id, "status": "applied"}), at(3)),
        answer("reads", at(4), usage(30, 110, 0, 0, 5), model=model), answer("after", at(5), usage(1000)),
    ])  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    printed = capsys.readouterr().out
    assert SECRET not in printed
    return json.loads(printed)


def is_subscription(drafted: Drafted) -> bool:
    return drafted.env["TIERKIT_CALLER_BILLING"] == "subscription"


def test_a_transcript_that_tells_of_the_task_replaces_what_the_receipt_estimates(
    drafted: Drafted, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id, old = drafted.reply["task_id"], drafted.reply["receipt"]
    plant(home, task_id)
    assert told(capsys, "task", task_id)["receipt"] == old  # Unasked, no transcript is read.
    new = told(capsys, "task", task_id, "--transcripts")["receipt"]
    assert new["measured"] == {
        "usd": old["measured"]["usd"], "tokens": old["measured"]["tokens"],
        "caller": {"source": "measured from the transcript, at API prices", "calls": 2, "input": 40, "cache_read": 210,
                   "cache_write": 40, "output": 25, "usd": f"{COST:f}"},
    }  # fmt: skip
    if is_subscription(drafted):
        assert new["estimated"] == old["estimated"]
        assert new["net"] == [alone - FIRST_READ for alone in old["estimated"]["alone_tokens"]]
    else:
        alone = old["estimated"]["alone_usd"]
        assert new["estimated"] == {"alone_usd": alone}
        with reading(drafted.env["TIERKIT_LEDGER"]) as conn:
            exact, spend = weighed(conn, task_id)
        assert exact is not None
        ours = spend.cost_nanousd + int(COST * 10**9)
        assert new["net"] == [usd_short(one - ours) for one in (exact.alone_low, exact.alone_high)]
        assert alone == [usd_short(one) for one in (exact.alone_low, exact.alone_high)]
    assert new["net"] != old["net"]
    assert told(capsys, "task", task_id)["receipt"] == old  # Nothing was written down.


def test_a_score_weighs_what_the_transcript_counted(
    drafted: Drafted, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id = drafted.reply["task_id"]
    plant(home, task_id)
    before, after = told(capsys, "score", task_id), told(capsys, "score", task_id, "--transcripts")
    ours = FIRST_READ if is_subscription(drafted) else before["cost_nanousd"] + int(COST * 10**9)
    assert after["baseline"] == before["baseline"] | {"ours": ours}
    assert ("caller" in before, after["caller"]["calls"]) == (False, 2)
    assert run(["score", task_id, "--transcripts"]) == 0
    line = "$0.0013 for 2 calls: 40 in, 210 from a cache, 40 into it, 25 out (measured from the transcript"
    assert f"  caller's side    {line}" in capsys.readouterr().out


def test_a_setting_measures_wherever_the_option_would_and_otherwise_no_transcript_is_opened(
    drafted: Drafted, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = drafted.reply["task_id"]
    ids = [task_id, *(f"t{number:012}" for number in range(20))]
    path = plant(home, task_id)
    asked_for = told(capsys, "task", task_id, "--transcripts"), told(capsys, "score", task_id, "--transcripts")
    assert measured(load_config(), ids, os.environ) == {}
    monkeypatch.setenv("TIERKIT_CALLER_TRANSCRIPTS", "true")
    assert (told(capsys, "task", task_id), told(capsys, "score", task_id)) == asked_for
    found = measured(load_config(), ids, os.environ)
    assert {key: (one.calls, one.cost_nanousd) for key, one in found.items()} == {task_id: (2, int(COST * 10**9))}
    assert measured(load_config(), [task_id], os.environ) == found
    assert measured(load_config(), ids, os.environ, since=datetime.now(UTC) + timedelta(days=1)) == {}
    path.unlink()
    assert measured(load_config(), ids, os.environ) == {}


def test_without_a_transcript_of_the_task_the_estimate_stands_and_that_is_said(
    drafted: Drafted, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id = drafted.reply["task_id"]
    write(plant(home, OTHER).with_name("mention.jsonl"), [asked(f"what became of {task_id}?", at(9), "u2")])
    shown = told(capsys, "task", task_id, "--transcripts")
    assert shown["receipt"] == drafted.reply["receipt"]
    assert shown["transcript"] == "None on this machine tells of the task: the receipt stands as estimated."
    assert told(capsys, "score", task_id, "--transcripts") == told(capsys, "score", task_id) | {"caller": None}
    assert run(["score", task_id, "--transcripts"]) == 0
    assert "no transcript on this machine tells of it; the estimate stands" in capsys.readouterr().out


def test_a_model_of_unknown_price_leaves_no_net_in_dollars(
    drafted: Drafted, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id, old = drafted.reply["task_id"], drafted.reply["receipt"]
    plant(home, task_id, model="house-model-9")
    new = told(capsys, "task", task_id, "--transcripts")["receipt"]
    card = told(capsys, "score", task_id, "--transcripts")
    assert (new["measured"]["caller"]["usd"], card["caller"]["usd"], card["caller"]["output"]) == (None, None, 25)
    assert run(["score", task_id, "--transcripts"]) == 0
    text = capsys.readouterr().out
    if is_subscription(drafted):
        assert new["net"] == [alone - FIRST_READ for alone in old["estimated"]["alone_tokens"]]
        assert card["baseline"]["ours"] == FIRST_READ
    else:
        assert (new["net"], card["baseline"], card["cost"]) == (None, None, None)
        assert "; with the caller's side: unknown" in text
    assert "  caller's side    unknown for 2 calls" in text


def test_codexs_own_counts_measure_it_too(drafted: Drafted, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task_id = drafted.reply["task_id"]
    reply = json.dumps({"task_id": task_id, "status": "applied"})
    write(home / ".codex" / "sessions" / "2026" / "11" / "01" / "rollout-2026-11-01T08-00-00-x.jsonl", [
        {"timestamp": stamp(at(0)), "type": "session_meta", "payload": {"id": "x", "cwd": "/home/ada"}},
        event("turn_context", at(0), model="gpt-5.2"),
        event("response_item", at(1), type="function_call", name=DRAFT, call_id="c1", arguments="{}"),
        counted([900, 600, 50], [900, 600, 50], at(2)),
        event("response_item", at(3), type="function_call_output", call_id="c1", output=reply),
        counted([2000, 1400, 60], [1100, 800, 10], at(4)),
    ])  # fmt: skip
    measured = told(capsys, "task", task_id, "--transcripts")["receipt"]["measured"]["caller"]
    assert {name: measured[name] for name in ("calls", "input", "cache_read", "cache_write", "output")} == {
        "calls": 2, "input": 600, "cache_read": 1400, "cache_write": 0, "output": 60,
    }  # fmt: skip


FIGURES = CallerFigures(
    task_id="t1", calls=2, input=10, cache_read=999, cache_write_5m=1, cache_write_1h=2, output=7,
    cost_nanousd=2_000_000,
)  # fmt: skip


SPENT = Spend(calls=1, cost_nanousd=1_000_000)
UNPRICED = SPENT.model_copy(update={"unpriced_calls": 1})


def kept(unit: Literal["usd", "tokens"], low: int = 0, high: int = 0) -> Weighed:
    return Weighed(unit=unit, alone_low=low, alone_high=high, passed=77, is_spared=high > 0)


@pytest.mark.parametrize(
    ("spend", "estimated", "net", "found", "wanted"),
    [
        (SPENT, {"schema_usd": "0.0002"}, ["-0.0020", "-0.0020"], kept("usd"), (None, ["-0.0030", "-0.0030"])),
        (SPENT, None, [-90, -90], kept("tokens"), (None, [-20, -20])),
        (SPENT, {"alone_tokens": [5, 9]}, None, None, ({"alone_tokens": [5, 9]}, None)),
        (SPENT, None, None, None, (None, None)),
        # Of a round before: the last one, whose receipt this is, names no net.
        (SPENT, None, None, kept("usd", 5, 9), (None, None)),
        (UNPRICED, {"alone_usd": ["0.1", "0.2"], "schema_usd": "0.0002"}, None, None,
         ({"alone_usd": ["0.1", "0.2"]}, None)),
    ],
    ids=["nothing-proven", "in-tokens", "own-model-unknown", "a-review", "a-review-of-a-draft", "a-call-unpriced"],
)  # fmt: skip
def test_what_a_receipt_does_not_know_stays_unknown(
    spend: Spend, estimated: Any, net: Any, found: Weighed | None, wanted: Any
) -> None:
    measured = {"usd": spent_usd(spend), "tokens": [1, 1], "caller_tokens": [1, 1]}
    old = {"measured": measured, "estimated": estimated, "net": net}
    new = in_receipt(old | {"key_spent": "A_KEY"}, FIGURES, found, spend)
    assert (new["estimated"], new["net"]) == wanted
    assert (new["key_spent"], new["measured"]["caller"]["usd"]) == ("A_KEY", "0.002")


def test_facts_without_an_estimate_get_none(drafted: Drafted) -> None:
    with reading(drafted.env["TIERKIT_LEDGER"]) as conn:
        facts = facts_of(conn, drafted.reply["task_id"]).model_copy(update={"baseline": None})
    assert in_facts(facts, FIGURES) == facts
