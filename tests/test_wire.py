"""The six tools over stdio and HTTP, in three protocol modes: the same records and the same effects on each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from mcp_tierkit.demo_upstream import Asked, Reply, Upstream
from tests.support import BUGGY, CHECK_NAME, FIXED, JOB, RIGHT, comes_true, make_env, make_project

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent
MODES = ("auto", "legacy", "2026-07-28")
WIRES = [(transport, mode) for transport in ("stdio", "http") for mode in MODES]
ANSWER = json.dumps(
    {
        "findings": [
            {
                "file": "shop/cart.py", "line": 6, "severity": "major", "klass": "edge_case",
                "claim": "A discount over 100 gives a negative total.", "evidence": "(100 - discount)",
            }
        ],
        "checked": dict.fromkeys(("assumption", "test", "drift", "security"), "none: because one tested line changed"),
    }
)  # fmt: skip


def script(asked: Asked) -> Reply:
    """The drafter is right unless the task says to hang; the reviewer has one finding."""
    said = json.dumps(asked.body)
    if "hang for ever" in said:
        return Reply(hold="for ever")
    return Reply(text=ANSWER if "You review one change" in said else RIGHT)


@dataclass(frozen=True)
class Bed:
    """A project and a user that every wire shares, and the upstream behind them."""

    project: Path
    env: dict[str, str]
    upstream: Upstream
    url: str
    token: str


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("wire")
    project = make_project(folder / "app")
    with Upstream(script, keeps_text=True) as upstream:
        env = make_env(
            folder / "home", url=upstream.base_url, toml="[budget]\nbreaker = false\n"
        )  # Each wire asks alike.
        with Serving(project, env) as (url, token):
            yield Bed(project, env, upstream, url, token)


class Serving:
    """The HTTP server as a process of its own, on a free port."""

    def __init__(self, project: Path, env: dict[str, str]) -> None:
        self._args = [sys.executable, "-m", "mcp_tierkit", "serve", "--http", "--port", "0", "--project", str(project)]
        self._env = env

    def __enter__(self) -> tuple[str, str]:
        self._process = subprocess.Popen(self._args, cwd=ROOT, env=self._env, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        found = re.search(r"http://\S+/mcp", line)
        assert found, line
        return found.group(0), (Path(self._env["TIERKIT_STATE_DIR"]) / "http_token").read_text().strip()

    def __exit__(self, *reason: object) -> None:
        assert self._process.stderr is not None
        self._process.terminate()
        for _ in range(500):  # Five seconds of looks; a machine that stands still uses none up.
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        self._process.stderr.close()
        assert self._process.poll() is not None


@pytest.fixture(scope="module", params=WIRES, ids=lambda wire: "-".join(wire))
async def client(request: pytest.FixtureRequest, bed: Bed, anyio_backend: str) -> AsyncIterator[Client]:
    transport, mode = request.param
    if transport == "stdio":
        args = ["-m", "mcp_tierkit", "serve", "--project", str(bed.project)]
        server = StdioServerParameters(command=sys.executable, args=args, env=bed.env, cwd=str(ROOT))
        async with Client(server, mode=mode) as client:
            yield client
        return
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {bed.token}"}, timeout=60) as http:
        async with Client(streamable_http_client(bed.url, http_client=http), mode=mode) as client:
            yield client


@pytest.fixture(autouse=True)
def fresh_tree(bed: Bed) -> None:
    (bed.project / "shop/cart.py").write_text(BUGGY)


async def called(client: Client, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments, **more)
    assert not result.is_error, result.content
    [block] = result.content
    assert block.type == "text"
    reply: dict[str, Any] = result.structured_content
    assert json.loads(block.text) == reply
    return reply


def steady(record: dict[str, Any]) -> dict[str, Any]:
    """A reply without what differs from run to run: ids, times, and figures that depend on a path's length."""
    text = re.sub(r"\bt\d{12}\b", "TASK", json.dumps(record))
    text = re.sub(r'"ms": \d+', '"ms": 0', text)
    steadied: dict[str, Any] = json.loads(text)
    steadied.pop("receipt", None)
    return steadied


async def test_the_same_tools_in_the_same_order(client: Client) -> None:
    contract = json.loads((ROOT / "mcp_tierkit/data/tools.json").read_text())
    tools = (await client.list_tools()).tools
    assert [(tool.name, tool.description, tool.input_schema) for tool in tools] == [
        (tool["name"], tool["description"], tool["inputSchema"]) for tool in contract["tools"]
    ]
    # A client that pins 2026-07-28 has asked nobody, so it was told nothing.
    assert client.instructions == (None if client.mode == "2026-07-28" else contract["instructions"])


async def test_a_draft_is_applied_with_progress_and_taken_back(client: Client, bed: Bed) -> None:
    steps: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    reply = await called(client, "draft_with_cheap_model", JOB, progress_callback=on_progress)
    assert (bed.project / "shop/cart.py").read_text() == FIXED
    assert steady(reply) == {
        "summary": "Applied.",
        "task_id": "TASK",
        "status": "applied",
        "files": ["shop/cart.py +1 -1 @6"],
        "checks": [{"name": CHECK_NAME, "role": "turns_green", "before": "red", "after": "green"}],
        "proof": "turns_green",
        "attempts": [reply["attempts"][0]],
        "patch": ".tierkit/TASK.patch",
        "isolation": reply["isolation"],
        "next": "Do not retype it.",
    }
    assert len(steps) >= 2
    assert steps == sorted(set(steps))
    outcome = await called(
        client, "record_outcome", {"task_id": reply["task_id"], "outcome": "reverted", "undo": True, "defects": 1}
    )
    assert (outcome["restored"], outcome["defects"]) == (["shop/cart.py"], 1)
    assert (bed.project / "shop/cart.py").read_text() == BUGGY


async def test_plan_review_playbook_and_get_task_answer_alike(client: Client, bed: Bed) -> None:
    plan = await called(client, "plan_task", JOB)
    assert (plan["decision"], plan["reason"]) == ("do_it_yourself", "short_task")
    (bed.project / "shop/cart.py").write_text(FIXED)
    review = await called(client, "review_diff", {"diff": "working_tree"})
    assert (review["verdict"], [finding["line"] for finding in review["findings"]]) == ("findings", [6])
    again = await called(client, "get_task", {"task_id": review["task_id"]})
    assert {key: again[key] for key in review} == review
    listed = await called(client, "run_playbook", {})
    assert any(line.startswith("changelog-from-git(from_ref, to_ref?, limit?): ") for line in listed["playbooks"])
    run = await called(client, "run_playbook", {"name": "changelog-from-git", "inputs": {"from_ref": "HEAD"}})
    assert (run["status"], run["output"]) == ("ok", {"markdown": "", "commits": 0})


async def test_a_refusal_is_three_plain_sentences(client: Client) -> None:
    result = await client.call_tool("draft_with_cheap_model", JOB | {"files": ["../outside.py"]})
    assert result.is_error
    [block] = result.content
    assert block.type == "text"
    code, _, text = block.text.partition(": ")
    assert code == "path_refused"
    assert len(re.findall(r"[.?!](?:\s|$)", text)) == 3


async def test_a_call_that_outlasts_wait_s_is_collected_later(client: Client, bed: Bed) -> None:
    running = await called(client, "draft_with_cheap_model", JOB | {"wait_s": 0})
    assert running["status"] == "running"
    done = await called(client, "get_task", {"task_id": running["task_id"], "wait_s": 60})
    assert (done["status"], done["state"]) == ("applied", "done")


async def test_cancelling_reaches_the_model_call(client: Client, bed: Bed) -> None:
    asked, served = len(bed.upstream.asked), len(bed.upstream.served)
    hanging = {"task": "hang for ever", "files": ["shop/cart.py"]}
    async with anyio.create_task_group() as group:
        group.start_soon(client.call_tool, "draft_with_cheap_model", hanging)
        await anyio.to_thread.run_sync(bed.upstream.wait_asked, asked + 1, 60)
        group.cancel_scope.cancel()
    last = (await anyio.to_thread.run_sync(bed.upstream.wait_served, served + 1, 60))[-1]
    assert last.client_left


async def test_stdin_at_its_end_leaves_within_two_seconds_and_stdout_held_only_the_protocol(bed: Bed) -> None:
    args = [sys.executable, "-m", "mcp_tierkit", "serve", "--project", str(bed.project)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(args, cwd=ROOT, env=bed.env, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: ASYNC220
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    process.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode() + b"\n"
    )
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1
    call = {"name": "draft_with_cheap_model", "arguments": {"task": "hang for ever", "files": ["shop/cart.py"]}}
    for message in ({"method": "notifications/initialized"}, {"id": 2, "method": "tools/call", "params": call}):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()
    asked = len(bed.upstream.asked)
    await anyio.to_thread.run_sync(bed.upstream.wait_asked, asked + 1, 60)
    process.stdin.close()
    assert await comes_true(lambda: process.poll() is not None, 2)
    process.stdin = None
    rest, _ = process.communicate()
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in rest.splitlines())


# --- the HTTP door --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic {token}"}, 401),
        ({"authorization": "Bearer {token}", "host": "evil.example"}, 421),
        ({"authorization": "Bearer {token}", "host": "localhost:1.evil.example"}, 421),
        ({"authorization": "Bearer {token}", "host": "127.0.0.1:1"}, 421),
        ({"authorization": "Bearer {token}", "origin": "null"}, 403),
        ({"authorization": "Bearer {token}", "origin": "http://evil.example"}, 403),
        ({"authorization": "Bearer {token}", "origin": "http://localhost:{port}@evil.example"}, 403),
        ({"authorization": "Bearer {token}", "content-type": "text/plain"}, 400),
    ],
)
async def test_a_request_from_elsewhere_is_refused(bed: Bed, headers: dict[str, str], status: int) -> None:
    port = bed.url.split(":")[2].split("/")[0]
    sent = {name: value.format(token=bed.token, port=port) for name, value in headers.items()}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    async with httpx2.AsyncClient() as http:
        sent = {"content-type": "application/json", "accept": "application/json, text/event-stream", **sent}
        answer = await http.post(bed.url, content=body, headers=sent)
    assert answer.status_code == status
    assert bed.token not in answer.text


async def test_the_health_check_needs_no_token_but_the_right_host(bed: Bed) -> None:
    async with httpx2.AsyncClient() as http:
        health = bed.url.replace("/mcp", "/healthz")
        assert (await http.get(health)).text == "ok"
        assert (await http.get(health, headers={"host": "evil.example"})).status_code == 421


async def test_the_token_is_in_a_file_for_its_owner_alone(bed: Bed) -> None:
    path = Path(bed.env["TIERKIT_STATE_DIR"]) / "http_token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bed.token) >= 43


def test_an_address_that_others_reach_needs_an_allowed_host(bed: Bed) -> None:
    args = [sys.executable, "-m", "mcp_tierkit", "serve", "--http", "--host", "0.0.0.0", "--project", str(bed.project)]
    done = subprocess.run(args, cwd=ROOT, env=bed.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--allow-host" in done.stderr
