"""`tierkit audit` over what Gemini CLI, opencode and Pi keep: sessions reckoned by hand, and damage of every kind."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.transcripts import documents, opencode_db
from mcp_tierkit.transcripts import read as reading
from mcp_tierkit.transcripts.figures import caller_figures
from mcp_tierkit.transcripts.files import find, roots
from mcp_tierkit.transcripts.models import named
from tests.transcripts import at_home, stamp, write

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
S1, S2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
Row = dict[str, Any]


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def ms(minutes: float) -> int:
    return int(at(minutes).timestamp() * 1000)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


def figures(found: Any) -> tuple[int, ...]:
    names = ("calls", "input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "cost_nanousd")
    return tuple(found["total"][name] for name in names)


def work(found: Any) -> dict[str, tuple[int, int, list[str]]]:
    return {task["prompt"]: (task["calls"], task["sub_agent_calls"], task["tools"]) for task in found["tasks"]}


def put(found: Any) -> tuple[object, ...]:
    """What the only tool put into the context, and what of it was read again."""
    [tool] = found["by_tool"]
    return tuple(tool[name] for name in ("key", "results", "tokens", "read_again_tokens"))


# Gemini CLI


def gemini_answer(
    key: str, minutes: float, fresh: int, cached: int, output: int, thoughts: int = 0, **extra: Any
) -> Row:
    """As the client writes it: input with what was cached, thoughts beside output."""
    tokens = {"input": fresh + cached, "output": output, "cached": cached, "thoughts": thoughts, "tool": 0,
              "total": fresh + cached + output + thoughts}  # fmt: skip
    return {"id": key, "timestamp": stamp(at(minutes)), "type": "gemini", "content": "", "tokens": tokens,
            "model": "gemini-2.5-pro", **extra}  # fmt: skip


def gemini_asked(key: str, minutes: float, text: str) -> Row:
    return {"id": key, "timestamp": stamp(at(minutes)), "type": "user", "content": [{"text": text}]}


def gemini_tool(use_id: str, command: str, output: str) -> Row:
    response = {"functionResponse": {"id": use_id, "name": "run_shell_command", "response": {"output": output}}}
    return {"id": use_id, "name": "run_shell_command", "args": {"command": command}, "result": [response]}


def gemini_session() -> list[Row]:
    return [
        gemini_asked("u0", 0, "<session_context>the folder</session_context>"),
        gemini_asked("u1", 0, "run the tests with key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"),
        gemini_answer("g1", 1, 1000, 4000, 20, 80, toolCalls=[gemini_tool("t1", "pytest -q", "x" * 400)]),
        gemini_answer("g2", 2, 300, 5000, 10),
        gemini_asked("u2", 3, "/compress"),
        {"id": "i1", "timestamp": stamp(at(4)), "type": "info", "content": "Compressed."},
        gemini_answer("g3", 5, 100, 0, 0),
    ]


# 1400·1.25 + 9000·0.125 + 110·10, in thousands of nanodollars.
GEMINI = (3, 1400, 9000, 0, 0, 110, 3975 * 1000)
META = {"sessionId": S1, "projectHash": "abc", "startTime": stamp(at(0)), "lastUpdated": stamp(at(4)), "kind": "main"}


def gemini_folder(home: Path) -> Path:
    folder = home / ".gemini" / "tmp" / "shop"
    (folder / "chats").mkdir(parents=True)
    (folder / ".project_root").write_text("/home/ada/shop\n")
    (folder / "logs.json").write_text("[]")  # Beside the chats lie files that are none.
    write(folder / "tool-outputs" / "chats" / "session-x.jsonl", [gemini_answer("x1", 1, 9, 9, 9)])
    return folder / "chats"


def test_a_gemini_session_costs_cached_input_apart_and_thoughts_as_output(home: Path, told: Any) -> None:
    whole = json.dumps({**META, "messages": gemini_session()}, indent=2)
    (gemini_folder(home) / "session-2026-a.json").write_text(whole)
    found = told()
    assert figures(found) == GEMINI
    assert [(one["client"], one["project"], one["key"]) for one in found["sessions"]] == [
        ("Gemini CLI", "/home/ada/shop", S1)
    ]
    [(prompt, rest)] = work(found).items()
    assert rest == (3, 0, ["run_shell_command"])
    assert "sk-proj" not in prompt
    assert put(found) == ("run_shell_command", 1, 100, 100)
    assert found["counts"].get("older", 0) == found["counts"].get("foreign", 0) == 0


def test_what_geminis_own_tools_read_is_input_beside_the_rest(home: Path, told: Any) -> None:
    answer = gemini_answer("g1", 1, 1000, 4000, 20)
    answer["tokens"]["tool"] = 600
    write(gemini_folder(home) / "session-2026-a.jsonl", [META, answer])
    assert figures(told()) == (1, 1600, 4000, 0, 0, 20, (2000 + 500 + 200) * 1000)


def test_a_gemini_message_that_is_written_again_or_moved_to_lines_is_one_call(home: Path, told: Any) -> None:
    chats = gemini_folder(home)
    (chats / "session-2026-a.json").write_text(json.dumps({**META, "messages": gemini_session()}))
    rows = gemini_session()
    early = {key: value for key, value in rows[2].items() if key != "toolCalls"}
    state = {"$set": {"messages": rows[:3], "lastUpdated": stamp(at(5))}}
    later = [gemini_asked("u9", 6, "and on"), state, gemini_answer("g9", 7, 200, 0, 1)]
    lines = [META, *rows[:2], early, rows[2], {"$rewindTo": "g1"}, state, *rows[3:], *later]
    write(chats / "session-2026-a.jsonl", lines)
    found = told()
    assert figures(found) == (4, 1600, *GEMINI[2:5], 111, GEMINI[6] + 260_000)
    assert [counts[0] for counts in work(found).values()] == [3, 1]
    assert put(found) == ("run_shell_command", 1, 100, 200)


def test_a_gemini_sub_agent_counts_once_and_for_the_prompt_that_it_served(home: Path, told: Any) -> None:
    chats = gemini_folder(home)
    write(chats / "session-2026-a.jsonl", [META, *gemini_session()])
    side = {**META, "sessionId": "side-1", "kind": "subagent"}
    write(chats / S1 / "side-1.jsonl", [side, gemini_asked("v1", 1, "look"), gemini_answer("h1", 1.5, 8, 0, 8)])
    found = told()
    assert found["sub_agents"]["calls"] == 1
    assert [counts[:2] for counts in work(found).values()] == [(4, 1)]


def test_a_gemini_document_that_is_being_written_tells_all_that_is_whole(home: Path, told: Any) -> None:
    whole = json.dumps({**META, "messages": gemini_session()})
    (gemini_folder(home) / "session-2026-a.json").write_text(whole[: whole.index('"g2"') + 120])
    found = told()
    assert (found["total"]["calls"], found["counts"]["half"]) == (1, 1)


# opencode

FIRST = """
CREATE TABLE session (id text PRIMARY KEY,
  parent_id text, directory text, version text, time_created int, time_updated int);
CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created integer, time_updated integer, data text);
CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, time_created integer, data text);
"""
SECOND = """
CREATE TABLE session_v2 (id text PRIMARY KEY,
  parent_id text, directory text, version text, time_created int, time_updated int);
CREATE TABLE session_message (id text PRIMARY KEY, session_id text, type text, seq int, time_created int, data text);
"""


def data_home(home: Path) -> Path:
    folder = home / ".local" / "share" / "opencode"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def database(path: Path, schema: str = FIRST) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(schema)
        yield db
        db.commit()


def add_session(
    db: sqlite3.Connection, key: str, begun: float = 0, parent: str | None = None, table: str = "session"
) -> None:
    row = (key, parent, "/home/ada/shop", "1.18.33", ms(begun), ms(begun + 9))
    db.execute(f"INSERT INTO {table} VALUES (?,?,?,?,?,?)", row)


def counts(fresh: int, read: int, wrote: int, output: int, reasoning: int = 0, **extra: int) -> Row:
    return {"input": fresh, "output": output, "reasoning": reasoning, "cache": {"read": read, "write": wrote}, **extra}


def oc_answer(key: str, minutes: float, tokens: Row, *parts: Row, **extra: Any) -> Row:
    return {"id": key, "role": "assistant", "time": {"created": ms(minutes), "completed": ms(minutes + 0.5)},
            "providerID": "anthropic", "modelID": "claude-opus-4-6", "cost": 0.5, "tokens": tokens,
            "parts": list(parts), **extra}  # fmt: skip


def oc_asked(key: str, minutes: float, text: str) -> Row:
    parts = [{"type": "text", "text": "a file", "synthetic": True}, {"type": "text", "text": text}]
    return {"id": key, "role": "user", "time": {"created": ms(minutes)}, "parts": parts}


def oc_tool(use_id: str, command: str, output: str) -> Row:
    return {"type": "tool", "tool": "bash", "callID": use_id,
            "state": {"status": "completed", "input": {"command": command}, "output": output}}  # fmt: skip


def oc_session() -> list[Row]:
    return [
        oc_asked("msg_1", 0, "run the tests"),
        oc_answer("msg_2", 1, counts(3, 1000, 200, 70), oc_tool("call_1", "pytest -q", "x" * 400)),
        oc_answer("msg_3", 2, counts(5, 1200, 0, 30, 12, total=5 + 1200 + 30 + 12)),
    ]


# 8·5 + 2200·0.5 + 200·6.25 + 112·25, in thousands of nanodollars. What opencode itself says is left alone.
OPENCODE = (2, 8, 2200, 200, 0, 112, 5190 * 1000)


def add_messages(db: sqlite3.Connection, session: str, messages: list[Row], mark: str = "") -> None:
    for message in messages:
        key, at_ms = mark + message["id"], message["time"]["created"]
        data = {name: value for name, value in message.items() if name not in ("id", "parts")}
        db.execute("INSERT INTO message VALUES (?,?,?,?,?)", (key, session, at_ms, at_ms, json.dumps(data)))
        for place, part in enumerate(message["parts"]):
            row = (f"{key}-{place}", key, session, at_ms, json.dumps(part))
            db.execute("INSERT INTO part VALUES (?,?,?,?,?)", row)


def write_files(folder: Path, session: str, messages: list[Row]) -> None:
    storage = folder / "storage"
    about = {"id": session, "directory": "/home/ada/shop", "version": "1.1.53", "time": {"created": ms(0)}}
    for place, told in [(f"session/p/{session}", about)] + [
        (f"message/{session}/{one['id']}", {name: one[name] for name in one if name != "parts"}) for one in messages
    ] + [
        (f"part/{one['id']}/prt_{place}", part) for one in messages for place, part in enumerate(one["parts"])
    ]:  # fmt: skip
        path = storage / f"{place}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told))


@pytest.mark.parametrize("kind", ["database", "files", "both"])
def test_an_opencode_session_counts_the_same_from_its_database_its_files_or_both(
    home: Path, told: Any, kind: str
) -> None:
    folder = data_home(home)
    if kind != "files":
        with database(folder / "opencode.db") as db:
            add_session(db, "ses_1")
            add_messages(db, "ses_1", oc_session())
    if kind != "database":
        write_files(folder, "ses_1", oc_session())
    found = told()
    assert figures(found) == OPENCODE
    assert work(found) == {"run the tests": (2, 0, ["bash"])}
    assert [(one["client"], one["project"]) for one in found["sessions"]] == [("opencode", "/home/ada/shop")]
    assert put(found) == ("bash", 1, 100, 0)


def test_an_opencode_fork_adds_its_own_work_and_a_helper_works_for_the_prompt(home: Path, told: Any) -> None:
    with database(data_home(home) / "opencode-dev.db") as db:
        add_session(db, "ses_9")
        add_messages(db, "ses_9", oc_session())
        add_session(db, "ses_1", begun=5)  # It sorts before the session that it was forked from.
        add_messages(db, "ses_1", oc_session(), mark="copy_")
        add_messages(db, "ses_1", [oc_asked("a1", 6, "and on"), oc_answer("a2", 7, counts(1, 0, 0, 1))])
        add_session(db, "ses_5", begun=1, parent="ses_9")
        add_messages(db, "ses_5", [oc_asked("b1", 1.1, "look"), oc_answer("b2", 1.2, counts(7, 0, 0, 1))])
    found = told()
    assert work(found) == {"run the tests": (3, 1, ["bash"]), "and on": (1, 0, [])}
    assert {one["key"]: one["calls"] for one in found["sessions"]} == {"ses_9": 3, "ses_1": 1}
    assert found["copies"] == 2


def second(db: sqlite3.Connection, key: str, minutes: float, kind: str, **data: Any) -> None:
    row = (key, "ses_1", kind, 0, ms(minutes), json.dumps({"time": {"created": ms(minutes)}, **data}))
    db.execute("INSERT INTO session_message VALUES (?,?,?,?,?,?)", row)


def test_both_generations_of_opencode_tables_are_one_session_with_each_message_once(home: Path, told: Any) -> None:
    model = {"id": "claude-opus-4-6", "providerID": "anthropic"}
    done = {"type": "tool", "id": "call_1", "name": "bash", "state": {
        "status": "completed", "input": {"command": "pytest -q"}, "content": [{"type": "text", "text": "x" * 400}],
    }}  # fmt: skip
    with database(data_home(home) / "opencode.db", FIRST + SECOND) as db:
        add_session(db, "ses_1")
        add_session(db, "ses_1", table="session_v2")
        add_messages(db, "ses_1", [*oc_session()[:2], oc_answer("msg_0", -1, counts(9, 0, 0, 0))])
        second(db, "msg_1", 0, "user", text="run the tests")
        times = {"created": ms(1), "completed": ms(1.5)}
        second(db, "msg_2", 1, "assistant", model=model, tokens=counts(3, 1000, 200, 70), content=[done], time=times)
        second(db, "msg_3", 2, "assistant", model=model, tokens=counts(5, 1200, 0, 30, 12), content=[])
        second(db, "msg_4", 3, "idle")
    found = told()
    assert figures(found) == (3, 17, *OPENCODE[2:6], OPENCODE[6] + 9 * 5000)
    assert work(found) == {"run the tests": (2, 0, ["bash"]), "": (1, 0, [])}
    assert (put(found), found["counts"].get("repeated")) == (("bash", 1, 100, 0), None)


def test_every_step_of_an_opencode_message_is_a_call_though_the_message_tells_the_last(home: Path, told: Any) -> None:
    steps = [{"type": "step-finish", "tokens": counts(n, 0, 0, n)} for n in (10, 20)]
    parts = (oc_tool("c1", "ls", "a"), steps[0], oc_tool("c2", "ls", "b"), steps[1])
    with database(data_home(home) / "opencode.db") as db:
        add_session(db, "ses_1")
        add_messages(db, "ses_1", [oc_asked("m1", 0, "list"), oc_answer("m2", 1, counts(20, 0, 0, 20), *parts)])
    assert figures(told())[:2] == (2, 30)


def opencode_calls(home: Path, tokens: Row, provider: str) -> tuple[int, ...]:
    with database(data_home(home) / "opencode.db") as db:
        add_session(db, "ses_1")
        add_messages(db, "ses_1", [oc_answer("m2", 1, tokens, providerID=provider, modelID="m")])
    sheets = reading.read_all({"HOME": str(home)}).sheets
    return tuple(call.tokens.output for sheet in sheets for call in sheet.calls)


@pytest.mark.parametrize(
    ("provider", "extra", "output"),
    [("openai", {}, 50), ("google", {}, 70), ("openai", {"total": 150}, 50), ("openai", {"total": 170}, 70)],
)
def test_reasoning_is_added_to_opencodes_output_only_where_it_is_not_in_it(
    home: Path, provider: str, extra: dict[str, int], output: int
) -> None:
    assert opencode_calls(home, counts(100, 0, 0, 50, 20, **extra), provider) == (output,)


def test_reading_an_opencode_database_that_nobody_has_open_leaves_nothing_beside_it(home: Path, told: Any) -> None:
    folder = data_home(home)
    with database(folder / "opencode.db") as db:
        add_session(db, "ses_1")
        add_messages(db, "ses_1", oc_session())
    assert [path.name for path in folder.iterdir()] == ["opencode.db"]
    assert figures(told()) == OPENCODE
    assert [path.name for path in folder.iterdir()] == ["opencode.db"]


def test_what_a_working_opencode_has_only_in_its_log_is_counted_and_it_can_go_on(home: Path, told: Any) -> None:
    folder = data_home(home)
    with database(folder / "opencode.db") as db:
        add_session(db, "ses_1")
        add_messages(db, "ses_1", oc_session())
        db.commit()
        beside = sorted(path.name for path in folder.iterdir())
        db.execute("BEGIN IMMEDIATE")
        add_messages(db, "ses_1", [oc_answer("later", 3, counts(1, 0, 0, 1))])
        assert figures(told()) == OPENCODE
        db.commit()
        assert figures(told())[0] == 3
        assert sorted(path.name for path in folder.iterdir()) == beside


def test_a_database_that_changes_while_it_is_read_as_a_fixed_file_is_read_again(home: Path) -> None:
    path = data_home(home) / "opencode.db"
    with database(path) as db:
        add_session(db, "ses_1")
    seen = []

    def ask(db: sqlite3.Connection) -> int:
        seen.append(db.execute("SELECT count(*) FROM session").fetchone()[0])
        if len(seen) == 1:
            with closing(sqlite3.connect(path)) as writer:
                add_session(writer, "ses_2")
                writer.commit()
        return int(seen[-1])

    assert opencode_db.inspect(path, ask) == 2
    assert seen == [1, 2]


# Pi


def pi_answer(key: str, minutes: float, usage: Row, *content: Row, **extra: Any) -> Row:
    message = {"role": "assistant", "provider": "anthropic", "model": "claude-opus-4-6", "usage": usage,
               "content": list(content), **extra}  # fmt: skip
    return {"type": "message", "id": key, "timestamp": stamp(at(minutes)), "message": message}


def pi_row(key: str, minutes: float, **message: Any) -> Row:
    return {"type": "message", "id": key, "timestamp": stamp(at(minutes)), "message": message}


def pi_usage(fresh: int, read: int, wrote: int, output: int) -> Row:
    return {"input": fresh, "output": output, "cacheRead": read, "cacheWrite": wrote,
            "totalTokens": fresh + output + read + wrote, "cost": {"total": 7}}  # fmt: skip


def pi_session() -> list[Row]:
    call = {"type": "toolCall", "id": "t1", "name": "bash", "arguments": {"command": "pytest -q"}}
    return [
        {"type": "session", "version": 3, "id": S1, "timestamp": stamp(at(0)), "cwd": "/home/ada/shop"},
        pi_row("a1", 0, role="user", content=[{"type": "text", "text": "run the tests"}]),
        pi_answer("a2", 1, pi_usage(3, 1000, 200, 70), call),
        pi_row("a3", 1.5, role="toolResult", toolCallId="t1", content=[{"type": "text", "text": "x" * 400}]),
        pi_answer("a4", 2, pi_usage(5, 1200, 0, 42)),
        pi_answer("a5", 3, pi_usage(0, 0, 0, 0), stopReason="aborted"),
        {"type": "compaction", "id": "a6", "timestamp": stamp(at(4)), "summary": '"role" "usage"'},
        {"type": "label", "id": "a7", "timestamp": stamp(at(4)), "label": '"role"'},
    ]


def test_a_pi_session_and_its_fork_count_each_answer_once(home: Path, told: Any) -> None:
    folder = home / ".pi" / "agent" / "sessions" / "--home-ada-shop--"
    write(folder / f"2026_{S1}.jsonl", pi_session())
    assert figures(told()) == OPENCODE
    head = {"type": "session", "version": 3, "id": S2, "timestamp": stamp(at(5)), "cwd": "/home/ada/shop"}
    own = [pi_row("b1", 6, role="user", content="and on"), pi_answer("b2", 7, pi_usage(1, 0, 0, 1))]
    write(folder / f"2025_{S2}.jsonl", [head, *pi_session()[1:], *own])
    found = told()
    assert work(found) == {"run the tests": (2, 0, ["bash"]), "and on": (1, 0, [])}
    assert {one["key"]: (one["client"], one["calls"]) for one in found["sessions"]} == {S1: ("Pi", 2), S2: ("Pi", 1)}
    assert [key for key in found["counts"] if key.startswith("unknown")] == []


def test_pi_counts_cached_input_once_where_the_total_shows_that_it_is_in_the_input(home: Path, told: Any) -> None:
    usage = {"input": 900, "output": 10, "cacheRead": 800, "cacheWrite": 0, "totalTokens": 910}
    rows = [pi_answer("a2", 1, usage, provider="google", model="gemini-2.5-pro")]
    write(home / ".pi" / "agent" / "sessions" / "p" / "a.jsonl", rows)
    assert figures(told()) == (1, 100, 800, 0, 0, 10, (125 + 100 + 100) * 1000)


def test_what_pi_wrote_for_an_hour_is_a_part_of_what_it_wrote(home: Path, told: Any) -> None:
    rows = [pi_answer("a2", 1, {**pi_usage(3, 1000, 200, 70), "cacheWrite1h": 160})]
    write(home / ".pi" / "agent" / "sessions" / "p" / "a.jsonl", rows)
    assert figures(told()) == (1, 3, 1000, 40, 160, 70, (15 + 500 + 250 + 1600 + 1750) * 1000)


@pytest.mark.parametrize("command", ["make \x1b[2J", "make \u202ex", "make \ud800"])
def test_no_agents_names_and_commands_steer_a_terminal_or_are_offered_when_something_is_lost(
    home: Path, told: Any, command: str
) -> None:
    rows: list[Row] = [{"type": "session", "id": command, "timestamp": stamp(at(0)), "cwd": command}]
    for n in range(4):
        call = {"type": "toolCall", "id": f"t{n}", "name": "bash", "arguments": {"command": command}}
        rows.append(pi_row(f"u{n}", n, role="user", content="run the build"))
        rows.append(pi_answer(f"a{n}", n + 0.5, pi_usage(3, 0, 0, 7), call, model=command, provider="acme"))
    write(home / ".pi" / "agent" / "sessions" / "p" / "a.jsonl", rows)
    found = told()
    assert [group["next"] for group in found["needless"] + found["repeated"]] == ["tierkit playbook new make"]
    assert json.dumps(found, ensure_ascii=False).isprintable()


# All of them


def test_a_fault_of_ours_costs_one_file_and_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(found: Any) -> Any:
        raise KeyError("a fault of ours")

    folder = home / ".pi" / "agent" / "sessions" / "p"
    write(folder / "a.jsonl", pi_session())
    write(home / ".codex" / "sessions" / "rollout-1.jsonl", pi_session())
    monkeypatch.setitem(reading._READERS, "Codex", broken)
    assert run(["audit", "--full"]) == 0
    out = capsys.readouterr().out
    assert "2 calls in 1 session of Pi\n" in out
    assert "Left out: 1 file by a fault of ours (KeyError in rollout-1.jsonl)." in out


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        ("anthropic", "claude-opus-4-6", "claude-opus-4-6"),
        ("github-copilot", "claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("google", "gemini/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "openrouter/anthropic/claude-sonnet-4.5"),
        ("ollama", "qwen3:8b", "ollama/qwen3:8b"),
        ("acme", "house-model", "acme/house-model"),
        (None, "gpt-5", "gpt-5"),
        ("openai", None, ""),
    ],
)
def test_a_model_is_looked_up_under_the_name_that_price_lists_have(provider: object, model: object, name: str) -> None:
    assert named(provider, model) == name


def test_a_model_without_a_price_stays_unpriced_though_the_agent_names_dollars(home: Path, told: Any) -> None:
    with database(data_home(home) / "opencode.db") as db:
        add_session(db, "ses_1")
        add_messages(db, "ses_1", [oc_answer("m", 1, counts(9, 0, 0, 9), providerID="acme", modelID="x")])
    found = told()
    assert (found["total"]["cost_nanousd"], found["total"]["unpriced_calls"]) == (0, 1)
    assert found["unknown_models"] == ["acme/x"]


def fill(home: Path) -> None:
    write(gemini_folder(home) / "session-2026-a.jsonl", [META, *gemini_session()])
    with database(data_home(home) / "opencode.db") as db:
        add_session(db, "ses_1")
        add_messages(db, "ses_1", oc_session())
    write(home / ".pi" / "agent" / "sessions" / "p" / "a.jsonl", pi_session())


def test_two_processes_find_what_one_finds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home)
    one = reading.read_all({"HOME": str(home)})
    monkeypatch.setattr(reading, "SMALL", 0)
    assert reading.read_all({"HOME": str(home)}) == one
    assert [sheet.client for sheet in one.sheets] == ["Gemini CLI", "opencode", "Pi"]


def test_each_agents_own_variables_name_other_folders(tmp_path: Path) -> None:
    env = {"HOME": "/h", "GEMINI_CLI_HOME": "/g", "XDG_DATA_HOME": "/x", "OPENCODE_DB": "mine.db",
           "PI_CODING_AGENT_DIR": "/p", "PI_CODING_AGENT_SESSION_DIR": "/s"}  # fmt: skip
    places = {(root.client, str(root.path), root.variable) for root in roots(env)}
    assert places >= {
        ("Gemini CLI", "/g/.gemini/tmp", "GEMINI_CLI_HOME"), ("opencode", "/x/opencode", "XDG_DATA_HOME"),
        ("opencode", "/x/opencode/mine.db", "OPENCODE_DB"), ("Pi", "/s", "PI_CODING_AGENT_SESSION_DIR"),
    }  # fmt: skip
    del env["PI_CODING_AGENT_SESSION_DIR"]
    assert ("Pi", "/p/sessions", "PI_CODING_AGENT_DIR") in {tuple(map(str, root)) for root in roots(env)}


def test_a_database_that_opencode_is_told_to_use_is_read(
    home: Path, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCODE_DB", str(home / "elsewhere.sqlite"))
    with database(home / "elsewhere.sqlite") as db:
        add_session(db, "ses_1")
        add_messages(db, "ses_1", oc_session())
    found = told()
    assert figures(found) == OPENCODE
    assert {"client": "opencode", "path": str(home / "elsewhere.sqlite"), "exists": True} in found["looked_in"]


def test_damage_in_any_agents_files_is_counted_and_never_ends_the_audit(
    home: Path, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home)
    chats, data, storage = home / ".gemini/tmp/shop/chats", data_home(home), data_home(home) / "storage"
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 5000)
    (chats / "session-b.json").write_bytes(b"\xff\xfe\x00binary")
    (chats / "session-c.json").write_text("[" * 3000)
    (chats / "session-d.json").write_text('{"x": "' + "y" * 6000 + '"}')
    write(
        chats / "session-e.jsonl", ['{"type":"gemini"', '{"id":7,"type":"gemini","tokens":{"input":"a"},"timestamp":5}']
    )
    os.mkfifo(chats / "session-f.json")
    (chats / "session-g.json").symlink_to(chats / "session-a.json")
    (data / "opencode-broken.db").write_text("no database at all, whatever its name")
    (data / "opencode-link.db").symlink_to(data / "opencode.db")
    os.mkfifo(data / "opencode-pipe.db")
    with closing(sqlite3.connect(data / "opencode-old.db")) as db:
        db.execute("CREATE TABLE session (id text)")
        db.commit()
    (storage / "message" / "ses_7").mkdir(parents=True)
    (storage / "message" / "ses_7" / "msg_1.json").write_text('{"role":"assist')
    (storage / "message" / "ses_7" / "msg_2.json").symlink_to("/etc/passwd")
    write(
        home / ".pi/agent/sessions/p/b.jsonl",
        ["{}", "[]", '{"type":"message","message":{"role":"assistant","usage":5}}'],
    )
    found = told()
    assert found["total"]["calls"] == 7
    assert {name: found["counts"][name] for name in ("large", "links", "not_files")} == {
        "large": 1, "links": 2, "not_files": 1,
    }  # fmt: skip
    assert found["counts"]["unreadable"] == 4  # Three databases that are none, and the link among the messages.
    assert run(["audit", "--full"]) == 0


@pytest.mark.parametrize("place", ["storage", "storage/message", "storage/message/ses_1", "storage/part/msg_2"])
def test_a_link_in_opencodes_folder_is_not_followed_to_another(home: Path, told: Any, place: str) -> None:
    folder = data_home(home)
    write_files(folder, "ses_1", oc_session())
    (folder / place).rename(home / "elsewhere")
    (folder / place).symlink_to(home / "elsewhere")
    found = told()
    assert found["total"]["calls"] == (2 if "part" in place else 0)
    assert found["by_tool"] == []


def test_odd_rows_in_an_opencode_database_are_left_out_and_the_others_counted(home: Path, told: Any) -> None:
    with database(data_home(home) / "opencode.db") as db:
        add_session(db, "ses_1")
        add_session(db, "../../etc")
        add_messages(db, "ses_1", oc_session())
        for key, data in (("x1", b"\xff{"), ("x2", "[]"), ("x3", "x" * 8_000_001), ("x4", '{"role": 5, "time": 5}')):
            db.execute("INSERT INTO message VALUES (?,?,?,?,?)", (key, "ses_1", ms(1), ms(1), data))
        add_messages(db, "ses_1", [oc_answer("x5", 4, {"input": -5, "output": 2.5, "cache": 7})])
    found = told()
    assert (found["total"]["calls"], found["total"]["unpriced_calls"], found["files"]) == (3, 1, 1)
    assert (found["counts"]["broken"], found["counts"]["long"]) == (2, 1)


def test_sessions_from_before_the_wanted_days_are_not_opened(home: Path) -> None:
    fill(home)
    write_files(data_home(home), "ses_1", oc_session())
    for path in home.rglob("*.json*"):
        os.utime(path, (1, 1))
    seen = Counter[str]()
    found = find(roots({"HOME": str(home)}), seen, since=(NOW + timedelta(hours=1)).timestamp())
    assert (found, seen["older"]) == ([], 4)


def test_a_task_that_another_agent_handed_over_is_measured(home: Path) -> None:
    tasks, env = ["t251122081500", "t251122081501"], {"HOME": str(home)}
    reply = gemini_tool("t1", "", json.dumps({"task_id": tasks[0]})) | {"name": "mcp_tierkit_plan_task"}
    rows = [META, gemini_answer("g1", 1, 10, 0, 1, toolCalls=[reply]), gemini_answer("g2", 2, 20, 0, 1)]
    write(gemini_folder(home) / "session-2026-a.jsonl", rows)
    asks = oc_tool("c1", "", json.dumps({"task_id": tasks[1]})) | {"tool": "tierkit_plan_task"}
    with database(data_home(home) / "opencode.db") as db:
        add_session(db, "ses_1")
        add_messages(
            db, "ses_1", [oc_answer("m1", 1, counts(3, 0, 0, 1), asks), oc_answer("m2", 2, counts(4, 0, 0, 1))]
        )
    found = caller_figures(tasks, env, PriceTable().price)
    assert [(found[task].calls, found[task].input) for task in tasks] == [(2, 30), (2, 7)]
