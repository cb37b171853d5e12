"""`make clients`: Claude Code, headless, works through our tools on a real project; a script stands in for its model.

The client, its own Read and Edit, the MCP connection, the checks and the ledger are real; the words of both models are
not. Shows that the draft and the client's own edit both land, and counts what its model is made to read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.provision import CLAUDE_CODE, CannotRun, claude_code
from benchmarks.scripted_model import Block, Result, ScriptedModel, Use, blocks_of, results, text_of
from benchmarks.servers import end, leave_when_told, serving
from mcp_tierkit.demo import CHECK, DATA, FILE, Scene, replies
from mcp_tierkit.demo_upstream import Upstream
from mcp_tierkit.edits import apply_reply
from mcp_tierkit.server import CONTRACT
from mcp_tierkit.tokens import count

ROOT = Path(__file__).parents[1]
SESSION_S = 180
LEAVE_S = 5
SERVER = "tierkit"
PREFIX = f"mcp__{SERVER}__"
OURS = tuple(tool["name"] for tool in CONTRACT["tools"])
DEFERRED = tuple(tool["name"] for tool in CONTRACT["tools"] if not tool.get("alwaysLoad"))
SKILL = ROOT / "playbooks/changelog-from-git"
"""A playbook's folder, which the client is given as a skill of its own, as it is."""
OLD, NEW = "Minutes worked, a minute", "Minutes at work, a minute"
LAST_WORDS = "All were called."
REMINDER = re.compile(r"\s*<system-reminder>.*?</system-reminder>", re.DOTALL)
CASES = {
    "stdio": ("stdio", True),
    "http": ("http", True),
    "stdio, edited without a second look": ("stdio", False),
}
"""How the server is reached, and whether the client reads the file again before it edits it."""


@dataclass(frozen=True)
class Session:
    exit_code: int
    events: list[Block]
    requests: tuple[Block, ...]
    wanted: tuple[str, ...]
    text: str
    changed: str
    check: int
    left: tuple[int, ...]

    @property
    def calls(self) -> list[Result]:
        return results(self.requests[-1]) if self.requests else []

    def reply(self, tool: str) -> dict[str, Any]:
        """The last reply of one of our tools; empty where there is none."""
        said = next((call.text for call in reversed(self.calls) if call.tool == tool), "{}")
        reply, _ = json.JSONDecoder().raw_decode(said if said.startswith("{") else "{}")
        return dict(reply)


def main() -> int:
    leave_when_told()
    try:
        program = claude_code()
    except CannotRun as lack:
        print(f"The client cannot run here. {lack}", file=sys.stderr)
        return 2
    print(f"{CLAUDE_CODE}, headless; tokens are o200k's, which Claude's own differ from\n")
    found: list[str] = []
    for case, (door, reads_again) in CASES.items():
        session = play(program, door, reads_again)
        faults = judge(session)
        show(case, session, faults)
        found += faults
    print("All as it should be." if not found else f"{len(found)} faults.")
    return 1 if found else 0


# --- one session ----------------------------------------------------------------------------------


def turns(file: Path, reads_again: bool) -> list[Use]:
    """What a caller would do: find the tools, look, plan, hand over, look again, edit, review, run a playbook."""
    look, task = Use("Read", {"file_path": str(file)}), "{plan_task.task_id}"
    edit = {"file_path": str(file), "old_string": OLD, "new_string": NEW}
    return [
        Use("ToolSearch", {"query": "select:" + ",".join(PREFIX + name for name in DEFERRED), "max_results": 9}),
        look,
        Use("plan_task", {"task": "@TASK.md", "files": [FILE], "checks": [{"argv": CHECK}]}),
        Use("draft_with_cheap_model", {"task_id": task}),
        *([look] if reads_again else []),
        Use("Edit", edit),
        Use("review_diff", {"diff": "working_tree"}),
        Use("run_playbook", {}),
        Use("run_playbook", {"name": "changelog-from-git", "inputs": {"from_ref": "v0.1.0"}}),
        Use("get_task", {"task_id": task}),
        Use("record_outcome", {"task_id": task, "outcome": "edited"}),
        Use("Skill", {"skill": SKILL.name}),
    ]


def play(program: Path, door: str, reads_again: bool) -> Session:
    with tempfile.TemporaryDirectory(prefix="tierkit-clients-") as name, ExitStack() as stack:
        folder = Path(name).resolve()
        scene = Scene(folder / "scene")
        scene.project.parent.mkdir()
        scene.set_up(stack.enter_context(Upstream(replies(), caches=True)).base_url)
        scene.git("commit", "-q", "--allow-empty", "-m", "docs: say what a rota is")
        file = scene.project / FILE
        script = turns(file, reads_again)
        model = stack.enter_context(ScriptedModel(script, LAST_WORDS))
        with reached(door, scene, folder) as entry:
            (folder / "mcp.json").write_text(json.dumps({"mcpServers": {SERVER: entry}}))
            exit_code, said = run_client(program, folder, scene.project, model.url)
        return Session(
            exit_code=exit_code,
            events=[json.loads(line) for line in said.splitlines() if line.startswith("{")],
            requests=model.requests,
            wanted=tuple(turn.tool for turn in script),
            text=file.read_text(),
            changed=scene.git("status", "--porcelain"),
            check=scene.run_check(),
            left=left_behind(folder),
        )


@contextmanager
def reached(door: str, scene: Scene, folder: Path) -> Iterator[dict[str, Any]]:
    """The entry of the client's configuration for our server, which runs as long as the block where it must."""
    env = {**scene.env(is_live=False), "PYTHONPATH": str(ROOT)}
    args = ["-m", "mcp_tierkit", "serve", "--project", str(scene.project)]
    if door == "stdio":
        yield {"type": "stdio", "command": sys.executable, "args": args, "env": env}
        return
    with serving([sys.executable, *args, "--http", "--port", "0"], env, folder / "server.log") as served:
        header = {"Authorization": f"Bearer {served.token}"}
        yield {"type": "http", "url": f"http://127.0.0.1:{served.port}/mcp", "headers": header}


def run_client(program: Path, folder: Path, project: Path, model_url: str) -> tuple[int, str]:
    """The client's exit code and the events it printed. It sees no setting and no key of this machine."""
    home = folder / "client"
    shutil.copytree(SKILL, home / ".claude/skills" / SKILL.name)
    env = {
        "HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "ANTHROPIC_API_KEY": "dummy",
        "ANTHROPIC_BASE_URL": model_url, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    command = [str(program), "-p", "Mend merge() with the tools.", "--mcp-config", str(folder / "mcp.json")]
    command += ["--strict-mcp-config", "--allowedTools", f"mcp__{SERVER},Read,Edit,Skill,ToolSearch"]
    command += ["--output-format", "stream-json", "--verbose", "--model", "claude-sonnet-4-5"]
    with (folder / "client.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=project, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            exit_code = process.wait(SESSION_S)
        except subprocess.TimeoutExpired:
            exit_code = 124
        finally:
            end(process)
    return exit_code, (folder / "client.log").read_text()


def left_behind(folder: Path) -> tuple[int, ...]:
    """Processes that still have the session's folder in their environment, given a moment to leave."""
    deadline = time.monotonic() + LEAVE_S
    while (left := _living(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _living(folder: Path) -> tuple[int, ...]:
    needle, found = str(folder).encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # It has ended, or it is not ours to look at.
    return tuple(found)


# --- what must hold -------------------------------------------------------------------------------


def expected_text() -> str:
    """The file with the drafted change and, on top of it, the client's own edit."""
    text = (DATA / "project" / FILE).read_text()
    for name in ("draft", "repair"):
        drafted = apply_reply((DATA / "replies" / f"{name}.txt").read_text(), {FILE: text})[FILE]
        assert drafted is not None
        text = drafted
    return text.replace(OLD, NEW)


def judge(session: Session) -> list[str]:
    """What is wrong with a session, in a line each."""
    calls = session.calls
    ends = [event for event in session.events if event.get("type") == "result"]
    connected = [row["status"] for event in session.events for row in event.get("mcp_servers", ())]
    wanted: dict[str, tuple[Any, Any]] = {
        "exit code": (session.exit_code, 0),
        "last words": ([event.get("result") for event in ends], [LAST_WORDS]),
        "connection": (connected[:1], ["connected"]),
        "tools called": (tuple(call.tool for call in calls), session.wanted),
        "refused calls": ([call for call in calls if call.is_error], []),
        "our tools never called": (set(OURS) - {call.tool for call in calls}, set()),
        "draft": (session.reply("draft_with_cheap_model").get("status"), "applied"),
        "review": (session.reply("review_diff").get("verdict"), "findings"),
        "playbook": (session.reply("run_playbook").get("status"), "ok"),
        "task": (session.reply("get_task").get("state"), "done"),
        "outcome": (session.reply("record_outcome").get("outcome"), "edited"),
        "changed files": (session.changed, f" M {FILE}\n"),
        "file": (session.text, expected_text()),
        "check": (session.check, 0),
        "processes left": (session.left, ()),
        "instructions": (instructions_shown(session), "whole"),
        "descriptions cut": (cut_descriptions(session), []),
        "playbook as a skill": (skill_shown(session), "offered and loaded"),
    }
    return [f"{name}: {got!r} instead of {want!r}" for name, (got, want) in wanted.items() if got != want]


# --- what the client's model is made to read --------------------------------------------------------


def show(case: str, session: Session, faults: Sequence[str]) -> None:
    print(f"{case}: exit {session.exit_code}, {len(session.requests)} requests, {len(session.calls)} calls")
    print(f"  {'call':<26} {'result':>7} {'added by the client':>20}")
    for call, added in zip(session.calls, additions(session.requests), strict=False):
        print(f"  {call.tool:<26} {tokens(own(call.text)):>7} {tokens(added):>20}")
    about = [text for text in additions(session.requests) if Path(FILE).name in text]
    print(f"  added for the changed file: {tokens(''.join(about))} tokens in {len(about)} notes")
    notes = [call for call in session.calls if call.tool == "Edit"]
    print(f"  the client on its edit: {own(notes[-1].text).split('successfully. ')[-1] if notes else 'no edit'}")
    if session.requests:
        first, last = offered(session.requests[0]), offered(session.requests[-1])
        print(f"  schemas loaded at the start: {_sizes(first)}; after the search: {_sizes(last)}")
        shown, cut = tokens(CONTRACT["instructions"]), ", ".join(cut_descriptions(session)) or "none"
        print(f"  instructions: {shown} tokens, shown {instructions_shown(session)}; descriptions cut: {cut}")
    print("\n".join(f"  FAULT {fault}" for fault in faults), flush=True)


def tokens(text: str) -> int:
    return count(text).tokens


def own(text: str) -> str:
    """A result without what the client wrote behind it."""
    return REMINDER.sub("", text).strip()


def additions(requests: Sequence[Block]) -> list[str]:
    """For each call, the words that the client added of its own accord between its result and the next turn."""
    added = []
    for before, after in pairwise(requests):
        new = [block for message in after["messages"][len(before["messages"]) :] for block in blocks_of(message)]
        behind = [text_of(block.get("content", "")) for block in new if block["type"] == "tool_result"]
        beside = [block["text"] for block in new if block["type"] == "text"]
        added.append("\n".join([*(note for text in behind for note in REMINDER.findall(text)), *beside]))
    return added


def offered(request: Block) -> dict[str, str]:
    """Our tools in one request, each as it is sent; a deferred one is sent only once it was searched for."""
    return {
        tool["name"].removeprefix(PREFIX): json.dumps(
            {key: tool[key] for key in ("name", "description", "input_schema")}, separators=(",", ":")
        )
        for tool in request["tools"]
        if tool["name"].startswith(PREFIX)
    }


def _sizes(tools: Mapping[str, str]) -> str:
    each = ", ".join(f"{name} {tokens(text)}" for name, text in tools.items())
    return f"{sum(map(tokens, tools.values()))} ({each})"


def instructions_shown(session: Session) -> str:
    """Whether the client passed our instructions on whole."""
    shown = json.dumps(session.requests[0]["messages"], ensure_ascii=False) if session.requests else ""
    wanted = json.dumps(CONTRACT["instructions"], ensure_ascii=False)[1:-1]
    return "whole" if wanted in shown else "cut" if wanted[:40] in shown else "absent"


def skill_shown(session: Session) -> str:
    """Whether the client offered the folder as a skill by its description, and gave its prose when asked."""
    _, head, prose = (SKILL / "SKILL.md").read_text().split("---\n", 2)
    description = next(line.partition(": ")[2] for line in head.splitlines() if line.startswith("description: "))
    first, last = (json.dumps(session.requests[at], ensure_ascii=False) if session.requests else "" for at in (0, -1))
    loaded = all(json.dumps(line, ensure_ascii=False)[1:-1] in last for line in prose.strip().splitlines())
    return f"{'offered' if description in first else 'not offered'} and {'loaded' if loaded else 'not loaded'}"


def cut_descriptions(session: Session) -> list[str]:
    """Our tools whose description reached the model other than as written."""
    written = {tool["name"]: tool["description"] for tool in CONTRACT["tools"]}
    shown = offered(session.requests[-1]) if session.requests else {}
    return [name for name in OURS if json.loads(shown.get(name, "{}")).get("description") != written[name]]


if __name__ == "__main__":
    sys.exit(main())
