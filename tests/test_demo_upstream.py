"""The loopback provider's own account, which others price us by, and its ways to go wrong."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.demo_upstream import Reply, Served, Tokens, Upstream, rule

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}


def post(upstream: Upstream, path: str, body: dict[str, Any], key: str = "sk-1") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", int(upstream.root_url.rpartition(":")[2]), timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_log_tells_what_was_used_and_holds_neither_key_nor_text(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Upstream([Reply(text="fine", model="m-2"), Reply(status=429)], log=log) as upstream:
        assert post(upstream, "/v1/chat/completions", HELLO)[0] == 200
        assert post(upstream, "/v1/chat/completions", HELLO)[0] == 429
        first, second = upstream.wait_served(2, 60)
    assert (first.status, first.served_model, first.tokens) == (200, "m-2", Tokens(fresh=3, output=1))
    assert (second.status, second.served_model, second.tokens) == (429, None, None)
    written = log.read_text()
    assert [Served.model_validate_json(line) for line in written.splitlines()] == [first, second]
    assert "sk-1" not in written
    assert "hello there" not in written


def test_what_the_reply_says_and_what_the_log_says_are_the_same_tokens() -> None:
    tokens = Tokens(fresh=10, cached=20, written=30, output=40, reasoning=5)
    with Upstream(lambda asked: Reply(tokens=tokens, cost_usd="0.5")) as upstream:
        chat = json.loads(post(upstream, "/v1/chat/completions", HELLO)[1])["usage"]
        messages = json.loads(post(upstream, "/v1/messages", HELLO)[1])["usage"]
        assert {served.tokens for served in upstream.wait_served(2, 60)} == {tokens}
    assert (chat["prompt_tokens"], chat["completion_tokens"], chat["total_tokens"]) == (60, 40, 100)
    assert chat["prompt_tokens_details"] == {"cached_tokens": 20, "cache_write_tokens": 30}
    assert chat["cost"] == 0.5
    assert messages == {
        "input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 20, "output_tokens": 40,
    }  # fmt: skip


@pytest.mark.parametrize("wire", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_carries_the_text_and_the_usage(wire: str) -> None:
    with Upstream([Reply(text="streamed words")]) as upstream:
        status, raw = post(upstream, wire, {**HELLO, "stream": True})
    events = [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: {")]
    assert status == 200
    assert "streamed words" in raw.decode()
    assert rule(b"streamed words") in {
        count for event in events for count in (event.get("usage") or {}).values() if isinstance(count, int)
    }


def test_a_script_that_ran_out_fails_loudly() -> None:
    with Upstream(["only one"]) as upstream:
        assert post(upstream, "/v1/chat/completions", HELLO)[0] == 200
        assert post(upstream, "/v1/chat/completions", HELLO)[0] == 500


def test_a_held_reply_waits_for_its_release() -> None:
    answers: list[int] = []
    with Upstream([Reply(hold="gate")]) as upstream:
        thread = threading.Thread(target=lambda: answers.append(post(upstream, "/v1/chat/completions", HELLO)[0]))
        thread.start()
        upstream.wait_asked(1, 60)
        assert (answers, upstream.served) == ([], ())
        upstream.release("gate")
        thread.join(10)
    assert answers == [200]


def test_engines_list_their_models() -> None:
    with Upstream(models=("a", "b")) as upstream:
        connection = http.client.HTTPConnection("127.0.0.1", int(upstream.root_url.rpartition(":")[2]), timeout=60)
        connection.request("GET", "/v1/models")
        listed = json.loads(connection.getresponse().read())
        connection.close()
        assert upstream.asked == ()
    assert [model["id"] for model in listed["data"]] == ["a", "b"]


def test_waiting_for_what_never_comes_ends_in_an_error() -> None:
    with Upstream() as upstream:
        with pytest.raises(TimeoutError, match="0 requests came and 0 ended"):
            upstream.wait_asked(1, timeout_s=0.05)
