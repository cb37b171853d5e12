"""`tierkit audit` from its own door, over transcripts that are written here."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.audit.bill import MAX_TOOLS, OTHERS
from mcp_tierkit.cli import run
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.transcripts import lines
from mcp_tierkit.transcripts.figures import caller_figures
from tests.transcripts import answer, asked, at_home, counted, event, result, stamp, tool, usage, write

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
S1, S2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


def claude(home: Path, name: str, *rows: Any) -> Path:
    return write(home / ".claude" / "projects" / "-home-ada-shop" / name, rows)


def session(number: int = 1, text: str = "fix the cart") -> list[Any]:
    return [
        asked(text, at(0), f"u{number}", sessionId=S1, version="2.1.47"),
        answer(f"m{number}", at(1), usage(3, 1000, 0, 200, 1), tool(f"t{number}", command="pytest -q"), sessionId=S1),
        answer(f"m{number}", at(2), usage(3, 1000, 0, 200, 70), sessionId=S1),
        result(f"t{number}", "x" * 400, at(3), sessionId=S1),
        answer(f"n{number}", at(4), usage(5, 1200, 0, 110, 30), sessionId=S1),
    ]


# 3·5 + 1000·0.5 + 200·10 + 70·25, then 5·5 + 1200·0.5 + 110·10 + 30·25, in thousands of nanodollars.
COST = (15 + 500 + 2000 + 1750 + 25 + 600 + 1100 + 750) * 1000


def test_streamed_rows_are_one_answer_and_an_hour_of_cache_costs_its_own_price(home: Path, told: Any) -> None:
    claude(home, f"{S1}.jsonl", *session())
    total = told()["total"]
    assert total == {
        "key": "total", "calls": 2, "input": 8, "cache_read": 2200, "cache_write_5m": 0, "cache_write_1h": 310,
        "output": 100, "cost_nanousd": COST, "unpriced_calls": 0,
    }  # fmt: skip


def test_a_resumed_session_that_copies_the_one_before_adds_only_its_own_work(home: Path, told: Any) -> None:
    rows = session()
    claude(home, f"{S1}.jsonl", *rows)
    more = [asked("and the tax", at(9), "u9", sessionId=S2), answer("m9", at(10), usage(1, 0, 0, 0, 1), sessionId=S2)]
    claude(home, f"{S2}.jsonl", *({**row, "sessionId": S2} for row in rows), *more)
    found = told()
    assert (found["total"]["calls"], found["copies"], len(found["tasks"])) == (3, 2, 2)
    assert {line["key"]: line["calls"] for line in found["sessions"]} == {S1: 2, S2: 1}


@pytest.mark.parametrize(
    "place", ["{}/subagents/agent-1.jsonl", "agent-1.jsonl", "{}/subagents/workflows/w/agent-1.jsonl"]
)
def test_a_sub_agent_counts_once_and_for_the_prompt_that_it_served(home: Path, told: Any, place: str) -> None:
    side: Any = {"sessionId": S1, "isSidechain": True, "agentId": "a1"}
    agent = [asked("look around", at(1), "ua", **side), answer("ma", at(2), usage(7, 0, 0, 0, 1), **side)]
    claude(home, f"{S1}.jsonl", *session(), asked("next", at(8), "u2"), answer("m2", at(9), usage(1)), *agent)
    claude(home, place.format(S1), *agent)
    found = told()
    assert found["sub_agents"]["calls"] == 1
    assert {task["prompt"]: (task["calls"], task["sub_agent_calls"]) for task in found["tasks"]} == {
        "fix the cart": (3, 1), "next": (1, 0),
    }  # fmt: skip


def test_an_aside_that_repeats_the_conversation_takes_none_of_it(home: Path, told: Any) -> None:
    early = answer("lost", at(-9), usage(1), sessionId=S1, isSidechain=True)
    copies = [{**row, "isSidechain": True, "requestId": "another"} for row in session()[1:] if "requestId" in row]
    claude(home, f"{S1}.jsonl", *session())
    claude(home, f"{S1}/subagents/agent-x.jsonl", early, *copies)
    assert told()["sub_agents"]["calls"] == 1


def test_an_unknown_model_is_counted_and_never_free(home: Path, told: Any, capsys: pytest.CaptureFixture[str]) -> None:
    claude(home, f"{S1}.jsonl", *session(), answer("x", at(6), usage(9), model="house-model-9"))
    claude(home, f"{S2}.jsonl", answer("y", at(7), {**usage(9), "speed": "fast"}, model="claude-haiku-4-5"))
    found = told()
    assert (found["total"]["cost_nanousd"], found["total"]["unpriced_calls"]) == (COST, 2)
    assert found["unknown_models"] == ["claude-haiku-4-5-fast", "house-model-9"]
    assert run(["audit", "--full"]) == 0
    assert " and 2 calls of no known cost" in capsys.readouterr().out.splitlines()[0]


def by_model(found: Any) -> dict[str, tuple[int, int]]:
    return {line["key"]: (line["calls"], line["cost_nanousd"]) for line in found["by_model"]}


def test_what_runs_fast_or_in_one_country_costs_what_the_vendor_adds(home: Path, told: Any) -> None:
    plain = (10 * 5 + 100 * 0.5 + 20 * 25) * 1000
    for number, (model, more) in enumerate([
        ("claude-opus-4-6", {}), ("claude-opus-4-6", {"speed": "fast"}), ("claude-opus-5[1m]", {"speed": "fast"}),
        ("claude-opus-5", {"speed": "standard", "inference_geo": "us"}), ("claude-opus-4-5", {"inference_geo": "us"}),
        ("claude-opus-5", {"speed": "fast", "inference_geo": "us"}), ("claude-opus-4-6", {"inference_geo": "global"}),
    ]):  # fmt: skip
        counts = {**usage(10, 100, output=20), **more}
        claude(home, f"{number}.jsonl", answer(f"m{number}", at(number), counts, model=model))
    assert by_model(told()) == {
        "claude-opus-4-6": (2, 2 * plain), "claude-opus-4-6-fast": (1, 6 * plain),
        "claude-opus-5[1m]-fast": (1, 2 * plain), "claude-opus-5-us": (1, int(plain * 1.1)),
        "claude-opus-4-5-us": (1, plain), "claude-opus-5-fast-us": (1, int(2 * plain * 1.1)),
    }  # fmt: skip


def test_another_models_advice_and_a_summary_within_an_answer_are_paid_for_besides_it(home: Path, told: Any) -> None:
    passes: list[Any] = [
        {"type": "message", **usage(1, 50, output=5)},
        {"type": "advisor_message", **usage(40, output=6), "model": "claude-haiku-4-5"},
        "odd", {"type": "compaction", **usage(7)}, {"type": "message", **usage(2, 50, output=5)},
    ]  # fmt: skip
    ask = tool("d1", "mcp__tierkit__draft_with_cheap_model")
    claude(home, f"{S1}.jsonl", asked("go", at(0), "u1"), answer("before", at(1), usage(1000)),
           answer("asks", at(2), usage(3, 100, output=9), ask),
           answer("asks", at(2), {**usage(3, 100, output=10), "iterations": passes}, ask),
           result("d1", '{"task_id":"t048213377120"}', at(3)),
           answer("reads", at(4), {**usage(30), "iterations": passes[:2]}),
           answer("after", at(5), usage(1000)))  # fmt: skip
    found = told()
    assert [(line["key"], line["calls"], line["input"], line["output"]) for line in found["by_model"]] == [
        ("claude-opus-4-6", 5, 2000 + 3 + 7 + 30, 50), ("claude-haiku-4-5", 2, 80, 12),
    ]  # fmt: skip
    assert (found["delegated"][0]["calls"], found["delegated"][0]["input"]) == (5, 3 + 40 + 7 + 30 + 40)


def test_the_dearer_step_of_a_model_is_a_matter_of_one_pass(home: Path, told: Any) -> None:
    passes = [{"type": "message", **usage(60_000, output=0)}] * 2
    claude(home, f"{S1}.jsonl", answer("one", at(1), usage(120_000, output=0), model="claude-haiku-5-5"))
    claude(home, f"{S2}.jsonl", answer("two", at(1), {**usage(120_000, output=0), "iterations": passes},
                                       model="claude-haiku-5-5"))  # fmt: skip
    costs = {line["key"]: line["cost_nanousd"] for line in told()["sessions"]}
    assert list(costs.values()) == [120_000 * 500, 120_000 * 100]


def codex(home: Path, name: str, *rows: Any, **meta: Any) -> None:
    path = home / ".codex" / "sessions" / "2026" / "11" / "20" / f"rollout-2026-11-20T08-00-00-{name}.jsonl"
    own = {"id": name, "cwd": "/home/ada/api", "cli_version": "0.150.0", **meta}
    write(path, [event("session_meta", at(0), **own), *rows])


def test_codex_counts_each_answer_once_by_its_record_by_its_total_and_in_forks(home: Path, told: Any) -> None:
    context = event("turn_context", at(1), model="gpt-5.2")
    record = event("token_usage_record", at(3), response_id="r1",
                   usage={"input_tokens": 100, "cached_input_tokens": 40, "output_tokens": 9})  # fmt: skip
    alone = event("token_usage_record", at(6), response_id="r3", usage={"input_tokens": 7, "output_tokens": 1})
    first, second = counted([100, 40, 9], [100, 40, 9], at(4)), counted([300, 140, 20], [200, 100, 11], at(5))
    codex(home, S1, context, event("event_msg", at(2), type="user_message", message="go"), record, first, first, second,
          second, alone)  # fmt: skip
    late = [{**row, "timestamp": stamp(at(30))} for row in (first, second)]
    own = counted([360, 160, 25], [60, 20, 5], at(31))
    codex(home, S2, context, *late, own, forked_from_id=S1)
    found = told()
    figures = {name: found["total"][name] for name in ("calls", "input", "cache_read", "output")}
    assert figures == {"calls": 4, "input": 60 + 100 + 7 + 40, "cache_read": 40 + 100 + 20, "output": 9 + 11 + 1 + 5}
    assert {line["key"]: line["calls"] for line in found["sessions"]} == {S1: 3, S2: 1}


def test_codex_pays_more_for_what_was_served_fast_and_only_for_that(home: Path, told: Any) -> None:
    def row(number: int, **more: Any) -> Any:
        spent = counted([number * 100, 0, number], [100, 0, 1], at(number))
        return {**spent, "payload": {**spent["payload"], **more}}

    def settings(tier: Any) -> Any:
        return event("event_msg", at(1), type="thread_settings_applied", thread_settings={"service_tier": tier})

    record = event("token_usage_record", at(9), response_id="r", service_tier="priority",
                   usage={"input_tokens": 100, "output_tokens": 1})  # fmt: skip
    context, before = event("turn_context", at(0), model="gpt-5.5"), [settings("priority"), row(2)]
    codex(home, S1, context, row(1), *before, row(3, service_tier="default"), settings(None), row(4),
          row(5, service_tier="fast"), record, row(6))  # fmt: skip
    plain = (100 * 5 + 30) * 1000
    assert by_model(told()) == {"gpt-5.5": (3, 3 * plain), "gpt-5.5-fast": (3, round(3 * 2.5 * plain))}


def test_a_branch_that_names_no_parent_repeats_none_of_it(home: Path, told: Any) -> None:
    context, first = event("turn_context", at(1), model="gpt-5.2"), counted([100, 40, 9], [100, 40, 9], at(4))
    codex(home, S1, context, first)
    codex(home, S2, context, first, counted([160, 60, 14], [60, 20, 5], at(31)))
    assert told()["total"]["calls"] == 2


def test_a_spawned_thread_whose_parent_is_gone_does_not_inherit_its_bill(home: Path, told: Any) -> None:
    total = {"input_tokens": 9_000_000, "cached_input_tokens": 8_000_000, "output_tokens": 50_000}
    rows = event("turn_context", at(1), model="gpt-5.2"), event("event_msg", at(2), type="token_count",
                                                                info={"total_token_usage": total})  # fmt: skip
    codex(home, S2, *rows, parent_thread_id=S1)
    found = told()
    assert (found["total"]["calls"], found["counts"]["odd"]) == (0, 1)


def test_what_a_tool_put_into_the_context_is_read_again_by_every_later_call(home: Path, told: Any) -> None:
    claude(home, f"{S1}.jsonl", *session(), answer("o", at(6), usage(1, 5000)), answer("p", at(7), usage(1, 5000)))
    (line,) = told()["by_tool"]
    assert (line["key"], line["results"], line["tokens"], line["read_again_tokens"]) == ("Bash", 1, 100, 200)
    assert line["cost_nanousd"] == (100 * 10 + 200 * 0.5) * 1000


def test_one_screen_says_the_total_the_pace_where_it_went_and_what_to_do_next(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for n in range(4) for row in session(n, "run the tests")]
    old = {"timestamp": stamp(at(-60 * 24 * 9))}
    for n, name in enumerate(("opus-4-5", "opus-4-6", "opus-5", "sonnet-4-6", "haiku-4-5")):
        claude(home, f"{n}.jsonl", {**answer(f"a{n}", at(0), usage(1000), model=f"claude-{name}"), **old})
    claude(home, f"{S1}.jsonl", *rows)
    assert run(["audit"]) == 0
    shown = capsys.readouterr().out
    head, where, steps, foot = shown.split("\n\n")
    total, when = head.splitlines()[0].split(" at API prices, ")
    assert when.startswith(f"{at(-60 * 24 * 9):%Y-%m-%d} to {NOW:%Y-%m-%d}: 13 calls in 6 sessions of Claude Code")
    assert re.search(r" a day, .* a month at this pace", head)
    assert f"Dearest day {NOW:%Y-%m-%d}: $0.0270" in head
    assert where.startswith("Where it went\n")
    for part in ("paid for", "models", "projects"):
        lines = re.split(r"\n(?=\S)", where.split(f"\n{part} ")[1])[0].splitlines()
        amounts = (float(re.findall(r"\$([\d.]+)", line)[0]) for line in lines)
        assert sum(amounts) == pytest.approx(float(total[1:]), abs=3e-4)
    assert "3 others" in where
    title, *told = steps.splitlines()
    assert (title, [step[:4] for step in told]) == ("Do next:", ["  1.", "  2.", "  3."])
    assert 'tierkit playbook new pytest --from-command "pytest -q"' in told[0]
    assert "tierkit audit --full" in foot
    assert len(shown.splitlines()) <= 30


def test_what_each_kind_of_token_cost_adds_up_to_what_the_calls_cost(home: Path, told: Any) -> None:
    claude(home, f"{S1}.jsonl", *session(), answer("x", at(6), usage(9, 9), model="house-model-9"),
           answer("l", at(7), usage(120_000, 40_000, 7, output=9), model="claude-haiku-5-5"))  # fmt: skip
    kinds = told()["by_kind"]
    assert kinds == {
        "input": 8 * 5000 + 120_000 * 500, "cache_read": 2200 * 500 + 40_000 * 50, "cache_write_5m": 7 * 625,
        "cache_write_1h": 310 * 10_000, "output": 100 * 25_000 + 9 * 2500,
    }  # fmt: skip
    assert sum(kinds.values()) == told()["total"]["cost_nanousd"]


def test_with_nothing_to_read_it_says_where_it_looked_and_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "--full"]) == 0
    out = capsys.readouterr().out
    for folder in (".claude/projects", ".config/claude/projects", ".codex/sessions"):
        assert f"{home / folder}: not there" in out
    assert "CLAUDE_CONFIG_DIR" in out
    assert "tierkit demo" in out


def test_folders_are_taken_from_the_clients_own_variables(
    home: Path, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    claude(home / "a", f"{S1}.jsonl", *session(1))
    claude(home / "b", f"{S2}.jsonl", *session(2))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", f"{home}/a/.claude, {home}/b/.claude/projects")
    codex(home / "c", S1, event("turn_context", at(1), model="gpt-5.2"), counted([9, 0, 1], [9, 0, 1], at(2)))
    monkeypatch.setenv("CODEX_HOME", str(home / "c" / ".codex"))
    assert told()["total"]["calls"] == 5


def test_a_users_own_prices_count_in_whatever_folder_and_no_folder_is_made(
    home: Path, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    claude(home, f"{S1}.jsonl", answer("x", at(6), usage(9), model="house-model-9"))
    price = "price = { input = 2, output = 4 }"
    (home / ".config" / "tierkit").mkdir(parents=True)
    (home / ".config" / "tierkit" / "tierkit.toml").write_text(
        f'[caller]\nbilling = "subscription"\n[tiers.cheap]\nmodels = ["house-model-9"]\n{price}\n'
    )
    (project := home / "shop").mkdir()
    before = sorted(home.rglob("*"))
    for folder in (home, project):
        monkeypatch.chdir(folder)
        found = told()
        assert (found["total"]["cost_nanousd"], found["total"]["unpriced_calls"]) == ((9 * 2 + 10 * 4) * 1000, 0)
        assert found["billing"] == "subscription, shown at API prices"
    assert sorted(home.rglob("*")) == before


def test_a_price_of_another_address_is_not_the_makers_and_a_mistake_in_the_settings_is_said(
    home: Path, told: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    claude(home, f"{S1}.jsonl", answer("x", at(6), usage(9), model="house-model-9"))
    (settings := home / ".config" / "tierkit" / "tierkit.toml").parent.mkdir(parents=True)
    price = 'models = ["house-model-9"]\nprice = { input = 2, output = 4 }\n'
    settings.write_text(f'[tiers.cheap]\nbase_url = "http://127.0.0.1:9/v1"\n{price}')
    assert told()["total"]["unpriced_calls"] == 1
    settings.write_text(f"[tiers.chaep]\n{price}")
    assert run(["audit", "--full"]) == 0
    said = capsys.readouterr()
    assert "Cost unknown" in said.out
    assert said.err.startswith("Your own prices are left out. ")
    assert "tiers.chaep" in said.err


def damaged(home: Path) -> None:
    """A folder in which all that can be wrong is wrong, around one good session."""
    folder = claude(home, f"{S1}.jsonl", *session()).parent
    write(
        folder / "broken.jsonl", ['{"type":"assistant","usage":', '["usage"]', '{"usage":' + '{"a":' * 900 + "}" * 901]
    )
    (folder / "half.jsonl").write_text(
        json.dumps(asked("x", at(1), "uh")) + '\n{"type":"assistant","message":{"usage":'
    )
    (folder / "binary.jsonl").write_bytes(bytes(range(256)) * 4000)
    (folder / "old.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    (folder / "empty.jsonl").touch()
    (folder / "other.jsonl").write_text('{"event":"usage"}\n{"type":"telemetry","usage":1}\n')
    (folder / "away.jsonl").symlink_to(home / "elsewhere.jsonl")
    write(home / "elsewhere.jsonl", session(7))
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    with (folder / "long.jsonl").open("wb") as file:
        file.write(b'{"type":"user","x":"')
        file.truncate(50_000_000)
        file.seek(0, os.SEEK_END)
        file.write(b'"}\n' + json.dumps(answer("after", at(5), usage(1))).encode() + b"\n")


def test_whatever_is_wrong_with_a_file_is_skipped_and_counted(home: Path, told: Any) -> None:
    damaged(home)
    found = told()
    assert found["total"]["calls"] == 3  # The good session's two, and the one after the long line.
    counts = {name: found["counts"][name] for name in ("long", "half", "packed", "links", "not_files")}
    assert counts == {"long": 1, "half": 1, "packed": 1, "links": 2, "not_files": 1}
    assert found["counts"]["broken"] >= 3
    assert found["counts"]["foreign"] >= 1
    assert found["counts"]["unknown row: telemetry"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_counted(home: Path, told: Any) -> None:
    claude(home, f"{S1}.jsonl", *session()).chmod(0)
    assert told()["counts"]["unreadable"] == 1


def test_a_cut_surrogate_in_a_text_loses_no_row(home: Path, told: Any) -> None:
    row = json.dumps(asked("a smile \ud83d", at(5), "us"))
    claude(home, f"{S1}.jsonl", *session(), row, answer("s", at(6), usage(1)))
    assert {task["prompt"]: task["calls"] for task in told()["tasks"]} == {"fix the cart": 2, "a smile ?": 1}


def test_nothing_is_written_and_no_prompt_is_shown_but_a_short_line_without_secrets(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "ghp_" + "a1B2" * 9
    claude(home, f"{S1}.jsonl", *session(1, f"use {secret} to push {'and more ' * 30}\nSECOND LINE"))
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    shown = ""
    for words in ([], ["--json"], ["--session", S1[:6]], ["--session", S1[:6], "--json"]):
        assert run(["audit", *words]) == 0
        shown += capsys.readouterr().out
    assert secret not in shown
    assert "SECOND LINE" not in shown
    assert "and more " * 12 not in shown
    assert "[redacted:" in shown
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_what_the_client_wrote_into_a_users_row_is_no_prompt(home: Path, told: Any) -> None:
    texts = ("<local-command-stdout>x</local-command-stdout>", "[Request interrupted by user]",
             "<system-reminder>be good</system-reminder>", "<bash-input>ls</bash-input>")  # fmt: skip
    slash = "<command-message>ship</command-message><command-name>/ship</command-name><command-args>now</command-args>"
    rows = [asked(text, at(5 + n), f"w{n}") for n, text in enumerate(texts)]
    hidden = [asked("hidden", at(15), "h1", isMeta=True), asked("summary", at(16), "h2", isCompactSummary=True)]
    answers = [answer(f"z{minute}", at(minute), usage(1)) for minute in (17, 21)]
    claude(home, f"{S1}.jsonl", *session(), *rows, *hidden, answers[0], asked(slash, at(20), "s"), answers[1])
    assert {task["prompt"]: task["calls"] for task in told()["tasks"]} == {"fix the cart": 3, "/ship now": 1}


def test_what_is_typed_while_the_agent_works_begins_a_task_of_its_own(home: Path, told: Any) -> None:
    def queued(text: str, minute: int, mode: str = "prompt") -> Any:
        typed = {"type": "queued_command", "commandMode": mode, "prompt": text}
        return {"type": "attachment", "attachment": typed, "timestamp": stamp(at(minute)), "uuid": f"q{minute}"}

    own = queued("/compact", 8), queued("it ended", 9, "task-notification")
    typed = queued("and the tax", 6), answer("q", at(7), usage(1)), *own, answer("r", at(10), usage(1))
    claude(home, f"{S1}.jsonl", *session(), *typed)
    assert {task["prompt"]: task["calls"] for task in told()["tasks"]} == {"fix the cart": 2, "and the tax": 2}


def test_a_project_a_day_and_a_session_can_be_asked_for_alone(home: Path, told: Any) -> None:
    claude(home, f"{S1}.jsonl", *session())
    old = [{**row, "timestamp": stamp(at(-60 * 24 * 9))} for row in session(2)]
    claude(home, f"{S2}.jsonl", *({**row, "cwd": "/home/ada/other", "sessionId": S2} for row in session(3)), *old)
    assert told()["total"]["calls"] == 6
    assert told("--project", "shop")["total"]["calls"] == 2
    assert told("--project", "/home/ada")["total"]["calls"] == 6
    assert told("--days", "3")["total"]["calls"] == 4
    assert told("--since", f"{at(-60 * 24 * 2):%Y-%m-%d}", "--project", "other")["total"]["calls"] == 2
    assert [task["session"] for task in told("--session", S1[:4])] == [S1]
    assert run(["audit", "--session", "none"]) == 2


def test_a_delegated_task_shows_what_its_caller_really_paid(home: Path, told: Any) -> None:
    ask = tool("d1", "mcp__tierkit__draft_with_cheap_model", task="x")
    rows = [
        asked("do it cheaply", at(0), "u1"), answer("before", at(1), usage(1000)),
        answer("asks", at(2), usage(10, 100, 0, 0, 20), ask),
        result("d1", '{"task_id":"t048213377120","status":"applied"}', at(3)),
        answer("reads", at(4), usage(30, 110, 0, 0, 5)), answer("after", at(5), usage(1000)),
        asked("a mention of t048213377120", at(6), "u2"),
    ]  # fmt: skip
    claude(home, f"{S1}.jsonl", *rows)
    (line,) = told()["delegated"]
    assert (line["key"], line["calls"], line["input"], line["output"]) == ("t048213377120", 2, 40, 25)
    figures = caller_figures(["t048213377120", "t000000000000"], dict(os.environ), PriceTable().price)
    assert list(figures) == ["t048213377120"]
    assert figures["t048213377120"].cost_nanousd == line["cost_nanousd"] == (40 * 5 + 210 * 0.5 + 25 * 25) * 1000


@pytest.mark.parametrize("command", ["make \x1b[2J", "make \u202ex", "make x\nrm -rf y", "make \ud800"])
def test_a_command_that_cannot_be_shown_whole_is_not_offered_to_be_run(home: Path, told: Any, command: str) -> None:
    rows = [row for n in range(4) for row in session(n, "run the tests")]
    plain = json.dumps(rows)
    claude(home, f"{S1}.jsonl", *json.loads(plain.replace("pytest -q", json.dumps(command)[1:-1])))
    found = told()
    (line,) = [group["next"] for group in found["needless"] + found["repeated"]]
    assert line in ("tierkit playbook new make", "tierkit playbook new run-tests")


def test_a_call_on_a_day_that_cannot_be_is_in_no_figure_and_never_fatal(
    home: Path, told: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    days = ("2026-99-99", "9999-12-31", "\uff12\uff10\uff12\uff16-11-20", f"{NOW + timedelta(days=3):%Y-%m-%d}")
    odd = [{**answer(f"x{n}", at(0), usage(1)), "timestamp": f"{day}T10:00:00Z"} for n, day in enumerate(days)]
    claude(home, f"{S1}.jsonl", *odd)
    assert (told()["total"]["calls"], told()["misdated"], told()["counts"]["undated"]) == (0, 2, 2)
    claude(home, f"{S1}.jsonl", *odd, *session())
    assert (told()["total"]["calls"], told()["misdated"]) == (2, 2)
    assert run(["audit", "--full"]) == 0
    assert "2 calls without a time; 2 calls on days to come." in capsys.readouterr().out


def test_a_count_that_cannot_be_true_is_no_fault_of_the_price(
    home: Path, told: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = (answer("big", at(5), usage(10**30)), answer("minus", at(6), usage(-4)), answer("none", at(7), usage(None)))  # type: ignore[arg-type]
    claude(home, f"{S1}.jsonl", *session(), *odd)
    found = told()
    assert (found["total"]["unpriced_calls"], found["unknown_models"]) == (3, [])
    assert run(["audit"]) == 0
    shown = capsys.readouterr().out
    assert "Without counts that can be true, so not in the dollars: 3 calls." in shown
    assert "no known price" not in shown


def test_halves_of_characters_in_names_break_no_output(home: Path, told: Any) -> None:
    half = "x\ud800\x1b[2J"
    claude(home, f"{S1}.jsonl", answer("a", at(1), usage(1), tool("t", half), model=half, cwd=half, version=half),
           result("t", "x" * 40, at(2)), answer("b", at(3), usage(1), sessionId=half))  # fmt: skip
    ran = event("response_item", at(0), type="function_call", name="exec_command", call_id="c", arguments=half)
    codex(home, S2, event("turn_context", at(0), model=half), ran, counted([9, 0, 1], [9, 0, 1], at(1)), id=half,
          cwd=half)  # fmt: skip
    claude(home, os.fsdecode(b"\xff\xfe.jsonl"), asked("go", at(5), half), answer("f", at(6), usage(1)))
    found = json.dumps(told(), ensure_ascii=False)
    assert found.encode()
    assert "\x1b" not in found
    for words in ([], ["--session", "x"], ["--session", "x", "--json"]):
        assert run(["audit", *words]) == 0


def test_where_no_price_is_known_no_figure_in_dollars_is_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claude(home, f"{S1}.jsonl", asked("go", at(0), "u"), answer("x", at(0), usage(9), model="house-model-9"))
    assert run(["audit", "--full"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Cost unknown, {NOW:%Y-%m-%d}: 1 call in 1 session of Claude Code\n")
    assert "1 call has no known price (house-model-9)" in shown
    assert "$" not in shown


def test_a_short_table_has_the_dearest_of_all_and_all_are_counted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(6):
        name = f"{n}aaaaaaa-1111"
        rows = asked(f"work {n}", at(0), f"u{n}"), answer(f"m{n}", at(1), usage(100 * (n * 5 % 6 + 1)))
        claude(home, f"{name}.jsonl", *({**row, "sessionId": name} for row in rows))
    assert run(["audit", "--top", "2"]) == 0
    shown = capsys.readouterr().out
    assert "6 calls in 6 sessions" in shown
    table = shown.split("Dearest tasks")[1].split("\n\n")[0]
    assert [line[0] for line in table.splitlines()[2:]] == ["1", "2"]


def test_a_line_of_nothing_but_brackets_is_left_out_for_what_it_would_take_in_memory(home: Path, told: Any) -> None:
    dense = '{"type":"assistant","message":{"usage":{"a":[' + "[]," * lines.MAX_VALUES + "0]}}}"
    claude(home, f"{S1}.jsonl", *session(), dense, answer("v", at(6), usage(1)))
    found = told()
    assert (found["total"]["calls"], found["counts"]["long"]) == (3, 1)


def test_more_tools_than_anybody_has_are_told_together(home: Path, told: Any) -> None:
    names = [f"tool-{n}" for n in range(MAX_TOOLS + 20)]
    uses = [tool(f"t{n}", name) for n, name in enumerate(names)]
    results = [result(f"t{n}", "x" * 40, at(2)) for n in range(len(names))]
    claude(home, f"{S1}.jsonl", answer("a", at(1), usage(1), *uses), *results, answer("b", at(3), usage(1, 90_000)))
    found = {line["key"]: line["results"] for line in told()["by_tool"]}
    assert (len(found), found[OTHERS]) == (MAX_TOOLS + 1, 20)


def test_a_version_that_is_newer_than_what_was_checked_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claude(home, f"{S1}.jsonl", *({**row, "version": "9.4.1"} for row in session()))
    assert run(["audit", "--full"]) == 0
    assert "Claude Code 9.4.1 is newer than 2.1" in capsys.readouterr().out


def on_terminal(home: Path, columns: int, *words: str, **more: str) -> str:
    master, slave = pty.openpty()
    paths = {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parent.parent)}
    env = {**os.environ, **paths, "COLUMNS": str(columns), "TERM": "xterm-256color", **more}
    command = [sys.executable, "-m", "mcp_tierkit", "audit", *words]
    with subprocess.Popen(command, env=env, stdout=slave, stderr=slave) as child:
        os.close(slave)
        shown = b""
        while piece := _read(master):
            shown += piece
    os.close(master)
    assert child.returncode == 0
    return shown.decode()


def test_a_terminal_gets_bars_and_no_prompt_can_steer_it(home: Path) -> None:
    claude(home, f"{S1}.jsonl", *session(1, "fix \x1b[2J\x07 it"))
    shown = on_terminal(home, 120)
    assert "█" in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown


def test_days_are_drawn_on_a_terminal_and_none_is_drawn_where_it_cannot_be_shown(home: Path) -> None:
    early = {"timestamp": stamp(at(-60 * 24 * 3))}
    claude(home, f"{S1}.jsonl", *session(), {**answer("e", at(0), usage(1)), **early})
    drawn = next(line for line in on_terminal(home, 80).splitlines() if "dearest day" in line)
    assert re.fullmatch(r"(\x1b\[\d+m)?▁  █(\x1b\[0m)?  dearest day .*", drawn.rstrip())
    bare = on_terminal(home, 80, TERM="dumb", PYTHONIOENCODING="ascii")
    assert "\nDearest day" in bare
    assert "\x1b" not in bare


def test_a_low_terminal_gets_fewer_rows_and_a_tall_one_more(home: Path) -> None:
    for n, name in enumerate(("opus-4-5", "opus-4-6", "opus-5", "sonnet-4-6", "haiku-4-5")):
        claude(home, f"{n}.jsonl", answer(f"a{n}", at(n), usage(1000), model=f"claude-{name}"))
    others = [on_terminal(home, 80, LINES=lines).split(" others")[0].split()[-1] for lines in ("24", "40", "50")]
    assert others == ["4", "3", "2"]


def test_in_a_narrow_terminal_nothing_is_broken_but_sentences(home: Path) -> None:
    claude(home, f"{S1}.jsonl", *(row for n in range(4) for row in session(n, "run the tests")))
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in on_terminal(home, 44, "--full").splitlines()]
    wide = [line.strip() for line in shown if len(line) > 44]
    assert wide == ['tierkit playbook new pytest --from-command "pytest -q"'] * 2
    assert not [line for line in shown if "tierkit playbook" in line and line.strip() not in wide]


def test_no_amount_is_cut_while_a_bar_can_make_way_for_it(home: Path) -> None:
    for number, model in enumerate(("claude-sonnet-4-6[1m]", "claude-haiku-4-5-20251001", "house-model-9")):
        rows = (answer(f"{model}{n}", at(n), usage(400_000 * n), model=model) for n in range(3 + number))
        claude(home, f"{number}aaaaaaa.jsonl", *rows)
    shown = (on_terminal(home, columns, "--full") for columns in (70, 120))
    narrow, roomy = (one.split("By model")[1].split("By project")[0] for one in shown)
    assert ("█" in narrow, "█" in roomy) == (False, True)
    assert "…" not in narrow
    assert "claude-haiku-4-5-20251001" in narrow


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux says so once the other end is closed.
        return b""


def test_a_line_without_an_end_is_never_held_in_memory(home: Path, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 4000)
    wide = answer("w", at(5), usage(1), {"type": "text", "text": "x" * 9000})
    claude(home, f"{S1}.jsonl", *session(), wide, answer("v", at(6), usage(1)))
    found = told()
    assert (found["total"]["calls"], found["counts"]["long"]) == (3, 1)
