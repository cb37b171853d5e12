"""What `tierkit audit` makes of rows as the newest Claude Code, Codex and Gemini CLI write them."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.transcripts import lines
from mcp_tierkit.transcripts.lines import unpacker
from tests.transcripts import answer, asked, at_home, counted, event, usage, write

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
S1, S2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


def rollout(home: Path, name: str, *rows: Any, **meta: Any) -> Path:
    path = home / ".codex" / "sessions" / "2026" / "11" / "20" / f"rollout-2026-11-20T08-00-00-{name}.jsonl"
    own = {"id": name, "cwd": "/home/ada/api", "cli_version": "0.154.0", "history_mode": "paginated", **meta}
    context = event("turn_context", at(0), model="gpt-5.6-sol")
    return write(path, [event("session_meta", at(0), **own), context, *rows])


def item(kind: str, minute: float, **more: Any) -> Any:
    return event("event_msg", at(minute), type="item_completed", item={"type": kind, **more})


def said(text: str, minute: float) -> Any:
    return item("UserMessage", minute, id=f"i{minute}", content=[{"type": "text", "text": text, "text_elements": []}])


def spent(number: int, minute: float) -> Any:
    return counted([number * 1000, number * 100, number], [1000, 100, 1], at(minute))


def test_a_prompt_that_codex_writes_as_an_item_begins_a_task_and_none_begins_twice(home: Path, told: Any) -> None:
    twice = event("event_msg", at(4), type="user_message", message="bump the version")
    hook = item("HookPrompt", 6, id="h", fragments=[{"text": "go on"}])
    editor = "# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\nadd a test\n"
    rollout(home, S1, said("run the tests", 1), spent(1, 2), said("bump the version", 3), twice, spent(2, 5), hook,
            spent(3, 7), said(editor, 8), spent(4, 9), said("add a test", 10), spent(5, 11))  # fmt: skip
    tasks = sorted(told()["tasks"], key=lambda task: task["at"])
    assert [(task["prompt"], task["calls"]) for task in tasks] == [
        ("run the tests", 1), ("bump the version", 2), ("add a test", 1), ("add a test", 1),
    ]  # fmt: skip


def test_a_thread_in_which_nobody_types_is_a_side_conversation(home: Path, told: Any) -> None:
    rollout(home, S1, said("run the tests", 1), spent(1, 2))
    source = {"subagent": {"other": "guardian"}}
    rollout(home, S2, said("judge this command", 2), spent(7, 3), thread_source="guardian_review", source=source)
    found = told()
    assert (found["sub_agents"]["calls"], found["task_count"]) == (1, 2)
    assert "judge this command" not in json.dumps(found["tasks"])


def script(number: int, minute: float, *ran: Any) -> list[Any]:
    """A call of Codex whose one tool is a script that calls the others."""
    own = event("response_item", at(minute), type="custom_tool_call", name="exec", call_id=f"x{number}",
                input='const r = await tools.exec_command({cmd:"…"});')  # fmt: skip
    output = event("response_item", at(minute), type="custom_tool_call_output", call_id=f"x{number}", output="ok")
    return [said("run the tests", minute), own, *ran, spent(number, minute), output, spent(number + 500, minute)]


def test_commands_within_a_script_of_codex_are_what_was_run(home: Path, told: Any) -> None:
    rows = [row for n in range(1, 5)
            for row in script(n, n * 10, item("CommandExecution", n * 10, id=f"exec-{n}",
                                              command=["/bin/zsh", "-lc", "pytest -q"]))]  # fmt: skip
    rollout(home, S1, *rows)
    found = told()
    (group,) = found["needless"]
    assert (group["phrase"], group["count"], group["command"]) == ("pytest", 4, "pytest -q")
    assert [line["key"] for line in found["by_tool"]] == ["exec"]


def test_a_script_that_wrote_a_file_is_no_plain_command(home: Path, told: Any) -> None:
    rows = [row for n in range(1, 5)
            for row in script(n, n * 10, item("CommandExecution", n * 10, id=f"exec-{n}", command=["pytest"]),
                              item("FileChange", n * 10, id=f"exec-w{n}", changes={}))]  # fmt: skip
    rollout(home, S1, *rows)
    found = told()
    assert found["needless"] == []
    assert "apply_patch" in found["tasks"][0]["tools"]


def test_a_task_handed_over_from_within_a_script_is_measured(home: Path, told: Any) -> None:
    reply = {"content": [{"type": "text", "text": '{"task_id":"t048213377120"}'}]}
    handed = item("McpToolCall", 10, id="exec-1", server="tierkit", tool="draft_with_cheap_model", result=reply)
    rollout(home, S1, *script(1, 10, handed), spent(900, 20))
    assert [line["key"] for line in told()["delegated"]] == ["t048213377120"]


def test_a_direct_call_of_codex_is_not_counted_again_by_its_item(home: Path, told: Any) -> None:
    own = event("response_item", at(1), type="function_call", name="exec_command", call_id="c1",
                arguments='{"cmd":"ls"}')  # fmt: skip
    again = item("CommandExecution", 1, id="c1", command=["/bin/sh", "-c", "ls"])
    typed = item("CommandExecution", 3, id="exec-9", command=["rm", "-r", "x"], source="user_shell")
    rollout(home, S1, said("list the files", 0.5), own, again, spent(1, 2), typed)
    (task,) = told()["tasks"]
    assert task["tools"] == ["exec_command"]


def claude(home: Path, *rows: Any) -> None:
    write(home / ".claude" / "projects" / "-home-ada-shop" / f"{S1}.jsonl", [asked("go", at(0), "u1"), *rows])


def by_model(found: Any) -> dict[str, tuple[int, int, int]]:
    return {line["key"]: (line["calls"], line["input"], line["output"]) for line in found["by_model"]}


def test_an_answer_of_a_stand_in_is_priced_as_its_own_and_what_was_declined_midway_besides(
    home: Path, told: Any
) -> None:
    def passes(written: int) -> Any:
        return [{"type": "message", "model": "claude-opus-5-5", **usage(40, output=written)},
                {"type": "fallback_message", "model": "claude-opus-4-8", **usage(50, output=9)}]  # fmt: skip

    before = answer("a", at(1), {**usage(50, output=9), "iterations": passes(0)}, model="claude-opus-5-5")
    midway = answer("b", at(2), {**usage(50, output=9), "iterations": passes(3)}, model="claude-opus-4-8")
    claude(home, before, midway)
    assert by_model(told()) == {"claude-opus-4-8": (2, 100, 18), "claude-opus-5-5": (1, 40, 3)}


def test_a_cut_character_in_what_a_tool_of_gemini_gave_loses_no_session(home: Path, told: Any) -> None:
    call = {"id": "t", "name": "ls", "args": {}, "result": [{"functionResponse": {"response": {"x": "a \ud83d"}}}]}
    message = {"id": "m", "type": "gemini", "timestamp": f"{at(1):%Y-%m-%dT%H:%M:%SZ}", "model": "gemini-2.5-pro",
               "tokens": {"input": 10, "output": 5, "cached": 0}, "toolCalls": [call]}  # fmt: skip
    write(home / ".gemini" / "tmp" / "shop" / "chats" / "session-1.jsonl", [{"sessionId": "g1"}, message])
    assert told()["total"]["calls"] == 1


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")
def test_what_codex_has_compressed_is_read_and_counts_once_beside_the_file_it_was(home: Path, told: Any) -> None:
    older, newer = (rollout(home, name, said("go", 1), spent(1, n), spent(2, n + 5)) for n, name in ((2, S1), (3, S2)))
    for path in (older, newer):
        subprocess.run(["zstd", "-q", str(path)], check=True)
    older.unlink()
    cut = home / ".codex" / "archived_sessions" / "rollout-x.jsonl.zst"
    cut.parent.mkdir()
    cut.write_bytes(Path(f"{older}.zst").read_bytes()[:-40])
    found = told()
    assert (found["total"]["calls"], found["counts"]["cut"]) == (4, 1)


def test_a_compressed_session_that_nothing_here_can_read_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout(home, S1, said("go", 1), spent(1, 2))
    rollout(home, S2).rename(home / ".codex" / "sessions" / f"rollout-{S2}.jsonl.zst")
    unpacker.cache_clear()
    monkeypatch.setenv("PATH", str(home))
    assert run(["audit"]) == 0
    unpacker.cache_clear()
    assert "Left out: 1 compressed session, which zstd would read." in capsys.readouterr().out


def test_a_file_of_nothing_but_ends_of_lines_is_given_up(
    home: Path, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_SHORT", 100)
    claude(home, answer("a", at(1), usage(1)))
    (home / ".claude" / "projects" / "-home-ada-shop" / "ends.jsonl").write_bytes(b"\n" * 100_000)
    found = told()
    assert (found["total"]["calls"], found["counts"]["broken"], found["counts"]["lines"]) == (1, 1, 2 + 101)
