"""The gateway against a real socket: what is sent, what is told of the answer, and what is told of a failure."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit.demo_upstream import Asked, Reply, Tokens, Upstream
from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.gateway import METERED, NO_KEY, LiteLLMGateway, ScriptedGateway, load_litellm
from mcp_tierkit.types import Completion, Message, Request, Usage
from tests.support import comes_true

# litellm silences this warning of its own when imported, and pytest takes that back for each test.
LITELLM_WARNS = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
pytestmark = [pytest.mark.anyio, LITELLM_WARNS]

KEY = "sk-live-0123456789abcdef"
PROMPT = "the-prompt-nobody-may-repeat"


def request(model: str = "openai/demo-small", base_url: str | None = None, **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "task_id": "t-1", "route_id": "r-1", "stage": "draft", "tier": "cheap", "model": model, "base_url": base_url,
        "api_key_env": "DEMO_KEY", "max_output_tokens": 256, "timeout_s": 20, "prompt_id": "draft.v1@0",
        "messages": (
            Message(role="system", content="You edit code.", ends_prefix=True),
            Message(role="user", content=PROMPT, ends_prefix=True),
        ),
    }  # fmt: skip
    return Request(**{**fields, **changes})


@pytest.fixture
async def gateway(anyio_backend: str) -> AsyncIterator[LiteLLMGateway]:
    gateway = LiteLLMGateway({"DEMO_KEY": KEY}.get)
    yield gateway
    await gateway.aclose()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(lambda asked: Reply(text="hello", model="demo-small-2026-10"), keeps_text=True) as upstream:
        yield upstream


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def untimed(completion: Completion) -> Completion:
    """The same without how long it took, which was measured."""
    assert completion.duration_ms is not None
    return completion.model_copy(update={"duration_ms": None})


# --- what is sent -------------------------------------------------------------------------------


async def test_a_call_is_one_request_and_its_answer_is_told_whole(gateway: LiteLLMGateway, upstream: Upstream) -> None:
    completion = await gateway.complete(request(base_url=upstream.base_url))
    assert untimed(completion) == Completion(
        text="hello",
        finish="stop",
        usage=Usage(input=4 + 7, cached_input=0, cache_write=0, output=2, reasoning=0),
        served_model="demo-small-2026-10",
    )
    (asked,) = upstream.asked
    assert (asked.path, asked.model, asked.max_tokens) == ("/v1/chat/completions", "demo-small", 256)
    assert not asked.is_stream
    assert asked.key_digest == digest(KEY)


async def test_anthropic_models_speak_their_own_wire(gateway: LiteLLMGateway, upstream: Upstream) -> None:
    completion = await gateway.complete(request("anthropic/claude-haiku-5-5", upstream.root_url))
    assert completion.served_model == "demo-small-2026-10"
    assert completion.usage == Usage(input=11, cached_input=0, cache_write=0, output=2)
    (asked,) = upstream.asked
    assert (asked.path, asked.max_tokens, asked.key_digest) == ("/v1/messages", 256, digest(KEY))


async def test_a_missing_key_is_refused_before_anything_is_sent(gateway: LiteLLMGateway, upstream: Upstream) -> None:
    with pytest.raises(ModelFailed, match=r"The key OTHER_KEY .* No model was called\. Set OTHER_KEY") as caught:
        await gateway.complete(request(base_url=upstream.base_url, api_key_env="OTHER_KEY"))
    assert caught.value.kind == "auth"
    assert upstream.asked == ()


@pytest.mark.parametrize("provider", ["openai", "anthropic", "deepseek", "openrouter", "groq"])
async def test_an_endpoint_without_a_key_never_gets_a_key_from_the_environment(
    gateway: LiteLLMGateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", KEY)
    base = upstream.root_url if provider == "anthropic" else upstream.base_url
    await gateway.complete(request(f"{provider}/m", base, api_key_env=None))
    assert upstream.asked[0].key_digest == digest(NO_KEY)


async def test_no_key_ever_enters_the_environment(gateway: LiteLLMGateway, upstream: Upstream) -> None:
    for model, base in (("openai/a", upstream.base_url), ("anthropic/b", upstream.root_url)):
        await gateway.complete(request(model, base))
    assert KEY not in os.environ.values()


MARK = {"cache_control": {"type": "ephemeral"}}
REPAIR = (
    Message(role="assistant", content="My edits."),
    Message(role="user", content="Mend it."),
)


def _text(text: str, *, marked: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": text, **(MARK if marked else {})}


async def _bodies(
    gateway: LiteLLMGateway, upstream: Upstream, model: str, *more: tuple[Message, ...]
) -> list[dict[str, Any]]:
    """What goes over the wire for an opening, then for that opening with each of these behind it."""
    at_root = model.startswith(("anthropic/", "bedrock/"))
    for history in ((), *more):
        messages = (*request().messages, *history)
        await gateway.complete(request(model, upstream.root_url if at_root else upstream.base_url, messages=messages))
    return [asked.body or {} for asked in upstream.asked]


async def test_anthropic_is_told_to_keep_the_system_text_and_the_task(
    gateway: LiteLLMGateway, upstream: Upstream
) -> None:  # D5
    first, second = await _bodies(gateway, upstream, "anthropic/claude-haiku-5-5", REPAIR)
    opening = {"role": "user", "content": [_text(PROMPT, marked=True)]}
    assert first["system"] == second["system"] == [_text("You edit code.", marked=True)]
    assert first["messages"] == [opening]
    assert second["messages"][0] == opening
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert [asked.marked_blocks for asked in upstream.asked] == [2, 2]


async def test_openrouter_passes_the_same_marks_on_to_anthropic(
    gateway: LiteLLMGateway, upstream: Upstream
) -> None:  # D5
    first, second = await _bodies(gateway, upstream, "openrouter/anthropic/claude-haiku-5.5", REPAIR)
    opening = [
        {"role": "system", "content": [_text("You edit code.", marked=True)]},
        {"role": "user", "content": [_text(PROMPT, marked=True)]},
    ]
    assert first["messages"] == opening
    assert second["messages"] == [*opening, *({"role": m.role, "content": m.content} for m in REPAIR)]


async def test_bedrock_gets_its_own_kind_of_mark(
    gateway: LiteLLMGateway, monkeypatch: pytest.MonkeyPatch
) -> None:  # D5
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION_NAME"):
        monkeypatch.setenv(name, "us-east-1")
    with Upstream(_in_its_own_shape, keeps_text=True) as upstream:
        (body,) = await _bodies(gateway, upstream, "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0")
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "You edit code."}, point]
    assert body["messages"] == [{"role": "user", "content": [{"text": PROMPT}, point]}]


@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-6-luna", "deepseek/deepseek-v4-flash", "openrouter/openai/gpt-6-luna",
        "openrouter/google/gemini-3.8-flash", "openrouter/z-ai/glm-5", "dashscope/qwen3.5-plus", "zai/glm-5",
        "minimax/MiniMax-M3", "mistral/mistral-small-2603", "hosted_vllm/m",
    ],
)  # fmt: skip
async def test_a_provider_that_keeps_prefixes_by_itself_gets_plain_messages(
    gateway: LiteLLMGateway, upstream: Upstream, model: str
) -> None:  # D5
    (body,) = await _bodies(gateway, upstream, model)
    assert body["messages"] == [
        {"role": "system", "content": "You edit code."},
        {"role": "user", "content": PROMPT},
    ]


async def test_gemini_is_asked_once_and_nothing_is_stored_with_it(gateway: LiteLLMGateway) -> None:  # D5
    with Upstream(_in_its_own_shape, keeps_text=True) as upstream:
        (body,) = await _bodies(gateway, upstream, "gemini/gemini-3.8-flash")
    assert body["contents"] == [{"role": "user", "parts": [{"text": PROMPT}]}]
    assert "cachedContent" not in body


async def test_two_messages_of_one_role_are_sent_as_one(gateway: LiteLLMGateway, upstream: Upstream) -> None:
    climb = (Message(role="user", content="Another model failed."),)
    _, plain = await _bodies(gateway, upstream, "openai/demo-small", climb)
    assert plain["messages"][1:] == [{"role": "user", "content": f"{PROMPT}\n\nAnother model failed."}]


async def test_what_follows_a_marked_message_leaves_its_block_as_it_is(
    gateway: LiteLLMGateway, upstream: Upstream
) -> None:  # D5
    climb = (Message(role="user", content="Another model failed."),)
    _, marked = await _bodies(gateway, upstream, "anthropic/claude-haiku-5-5", climb)
    assert marked["messages"] == [
        {"role": "user", "content": [_text(PROMPT, marked=True), _text("Another model failed.")]}
    ]


async def test_more_ends_of_prefixes_than_any_provider_takes_are_two_marks(
    gateway: LiteLLMGateway, upstream: Upstream
) -> None:
    rounds = [Message(role="assistant" if at % 2 else "user", content=str(at), ends_prefix=True) for at in range(2, 12)]
    await _bodies(gateway, upstream, "anthropic/claude-haiku-5-5", tuple(rounds[1:]))
    assert [asked.marked_blocks for asked in upstream.asked] == [2, 2]


async def test_a_second_call_with_the_same_beginning_reports_cached_tokens_once(gateway: LiteLLMGateway) -> None:
    with Upstream(lambda asked: "ok", caches=True) as upstream:
        for model, base in (("openai/demo", upstream.base_url), ("anthropic/demo", upstream.root_url)):
            first = (await gateway.complete(request(model, base))).usage
            second = (await gateway.complete(request(model, base))).usage
            assert (first.cached_input, second.cached_input) == (0, 10)
            assert _input(first) == _input(second) == 11
        assert upstream.wait_served(4, 60)[-1].tokens == Tokens(fresh=0, cached=10, written=1, output=1)


def _input(usage: Usage) -> int:
    return (usage.input or 0) + (usage.cached_input or 0) + (usage.cache_write or 0)


async def test_calls_in_flight_together_do_not_mix(gateway: LiteLLMGateway) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(text=f"for {asked.model}", model=asked.model, after_requests=8)

    texts: dict[str, str] = {}
    with Upstream(answer) as upstream:

        async def call(name: str) -> None:
            texts[name] = (await gateway.complete(request(f"openai/{name}", upstream.base_url))).text

        async with anyio.create_task_group() as group:
            for at in range(8):
                group.start_soon(call, f"m{at}")
    assert texts == {f"m{at}": f"for m{at}" for at in range(8)}


# --- every provider on our list -----------------------------------------------------------------

_GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "hello"}], "role": "model"}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 2, "totalTokenCount": 13},
    "modelVersion": "m",
}
_OLLAMA = {
    "model": "m", "done": True, "done_reason": "stop", "response": "hello", "prompt_eval_count": 11, "eval_count": 2,
    "message": {"role": "assistant", "content": "hello"},
}  # fmt: skip
_CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}}, "stopReason": "end_turn",
    "usage": {"inputTokens": 11, "outputTokens": 2, "totalTokens": 13}, "metrics": {"latencyMs": 1},
}  # fmt: skip


def _in_its_own_shape(asked: Asked) -> Reply:
    if asked.wire != "other":
        return Reply(text="hello")
    if asked.path.endswith("/api/show"):  # litellm asks Ollama about the model first; that costs nothing.
        return Reply(raw=b'{"template": "", "details": {}, "model_info": {}}')
    shape = _GEMINI if "generateContent" in asked.path else _CONVERSE if "converse" in asked.path else _OLLAMA
    return Reply(raw=json.dumps(shape).encode())


@pytest.mark.parametrize("provider", sorted(METERED))
async def test_each_listed_provider_sends_one_request_and_its_usage_is_read(
    gateway: LiteLLMGateway, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION_NAME"):
        monkeypatch.setenv(name, "us-east-1")
    model = "amazon.nova-lite-v1:0" if provider == "bedrock" else "m"
    with Upstream(_in_its_own_shape, keeps_text=True) as upstream:
        base = upstream.root_url if provider in ("anthropic", "ollama", "ollama_chat", "bedrock") else upstream.base_url
        completion = await gateway.complete(request(f"{provider}/{model}", base))
        billed = [asked for asked in upstream.asked if not asked.path.endswith("/api/show")]
    assert completion.text == "hello"
    assert (_input(completion.usage), completion.usage.output) == (11, 2)
    assert len(billed) == 1
    assert ("cache_control" in json.dumps(billed[0].body)) == (provider == "anthropic")


def test_every_provider_that_tiers_are_made_of_is_listed() -> None:
    data = Path(__file__).parent.parent / "mcp_tierkit" / "data" / "providers.toml"
    prefixes = {
        prefix
        for provider in tomllib.loads(data.read_text())["provider"]
        for prefix in (provider.get("prefix"), *provider.get("prefixes", ()))
        if prefix
    }
    assert {prefix.rstrip("/") for prefix in prefixes} - METERED == set()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("cohere_chat/command-r", "cannot be metered"),
        ("azure/deployment", "cannot be metered"),
        ("openai/gpt-5.3-codex", "cannot be metered"),
        ("nonsense/model", "no such provider"),
        ("just-a-name", "no such provider"),
    ],
)
async def test_a_model_that_would_pass_our_meter_by_is_refused_unsent(
    gateway: LiteLLMGateway, upstream: Upstream, model: str, reason: str
) -> None:
    with pytest.raises(ModelFailed, match=reason) as caught:
        await gateway.complete(request(model, upstream.base_url))
    assert caught.value.kind == "bad_request"
    assert "No model was called." in str(caught.value)
    assert upstream.asked == ()


# --- what is told of the answer -----------------------------------------------------------------


@pytest.mark.parametrize("base", ["base_url", "root_url"])
@pytest.mark.parametrize("finish", ["stop", "length", "filter"])
async def test_the_finish_is_the_providers(gateway: LiteLLMGateway, base: str, finish: Any) -> None:
    with Upstream([Reply(finish=finish)]) as upstream:
        model = "openai/m" if base == "base_url" else "anthropic/m"
        assert (await gateway.complete(request(model, getattr(upstream, base)))).finish == finish


async def test_thinking_that_ate_the_cap_comes_back_empty_and_counted(gateway: LiteLLMGateway) -> None:
    tokens = Tokens(fresh=40, output=256, reasoning=256)
    with Upstream([Reply(text="", finish="length", tokens=tokens)]) as upstream:
        completion = await gateway.complete(request(base_url=upstream.base_url))
    usage = Usage(input=40, cached_input=0, cache_write=0, output=256, reasoning=256)
    assert untimed(completion) == Completion(text="", finish="length", usage=usage, served_model="demo-small")


async def test_a_cost_that_the_provider_states_is_exact(gateway: LiteLLMGateway) -> None:
    with Upstream([Reply(cost_usd="0.000123456789")]) as upstream:
        completion = await gateway.complete(request("openrouter/vendor/model", upstream.base_url))
    assert completion.reported_cost_nanousd == 123_457


async def test_a_reply_that_litellm_cannot_read_is_not_lost(gateway: LiteLLMGateway) -> None:
    body = {
        "model": "m", "choices": [{"message": {"content": "still here"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    }  # fmt: skip
    with Upstream([Reply(raw=json.dumps(body).encode())]) as upstream:
        completion = await gateway.complete(request("groq/m", upstream.base_url))
    assert (completion.text, completion.finish) == ("still here", "length")
    assert completion.usage == Usage(input=5, cached_input=0, cache_write=0, output=3)


async def test_a_paid_reply_without_a_text_is_still_counted(gateway: LiteLLMGateway) -> None:
    body = b'{"model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}'
    with Upstream([Reply(raw=body)]) as upstream:
        completion = await gateway.complete(request(base_url=upstream.base_url))
    assert untimed(completion) == Completion(
        text="", finish="other", usage=Usage(input=5, cached_input=0, cache_write=0, output=3), served_model="m"
    )


# --- what is told of a failure ------------------------------------------------------------------

PROSE = f"Incorrect key {KEY}; your prompt was {PROMPT}"


def _error(code: str | None = None, message: str = PROSE) -> bytes:
    return json.dumps({"error": {"message": message, "type": "x", "code": code}}).encode()


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (400, _error(), "bad_request"),
        (400, _error("context_length_exceeded"), "context_window"),
        (400, _error(message="prompt is too long: 210000 tokens > 200000 maximum"), "context_window"),
        (400, _error("content_filter"), "content_filter"),
        (401, _error(), "auth"),
        (402, _error(), "auth"),
        (403, _error(), "auth"),
        (404, _error(), "bad_request"),
        (408, _error(), "timeout"),
        (409, _error(), "bad_request"),
        (413, _error(), "context_window"),
        (422, _error(), "bad_request"),
        (429, _error(), "rate_limit"),
        (500, _error(), "server"),
        (500, _error(message="the request exceeds the available context size"), "context_window"),
        (502, b"<html>bad gateway</html>", "server"),
        (503, _error(), "overloaded"),
        (504, _error(), "timeout"),
        (529, _error(), "overloaded"),
        (302, b"", "bad_request"),
    ],
)
async def test_a_refusal_is_one_request_with_a_kind_and_none_of_the_providers_words(
    gateway: LiteLLMGateway, wire: str, status: int, raw: bytes, kind: str
) -> None:
    reply = Reply(status=status, raw=raw, headers=(("location", "/v1/elsewhere"),) if status == 302 else ())
    with Upstream(lambda asked: reply) as upstream:
        target = ("openai/m", upstream.base_url) if wire == "openai" else ("anthropic/m", upstream.root_url)
        with pytest.raises(ModelFailed) as caught:
            await gateway.complete(request(*target))
        assert len(upstream.asked) == 1
    assert (caught.value.kind, caught.value.status) == (kind, status)
    _tells_nothing(caught.value)


def _tells_nothing(error: ModelFailed) -> None:
    told = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert KEY not in told
    assert PROMPT not in told
    assert error.next_step.endswith(".")


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("reply", "kind", "status"),
    [
        (Reply(raw=b"<html>not json</html>"), "bad_reply", 200),
        (Reply(raw=b"{}"), "bad_reply", 200),
        (Reply(raw=b"[1]"), "bad_reply", 200),
        (Reply(raw=b'{"error": {"code": 502, "message": "x"}}'), "server", 502),
        (Reply(raw=b'{"error": {"code": 429, "message": "x"}}'), "rate_limit", 429),
        (Reply(cut_after=5), "bad_reply", 200),
        (Reply(raw=b"zz", headers=(("content-encoding", "gzip"),)), "bad_reply", 200),
    ],
)
async def test_an_answer_that_is_no_completion_may_have_been_charged(
    gateway: LiteLLMGateway, wire: str, reply: Reply, kind: str, status: int
) -> None:
    with Upstream(lambda asked: reply) as upstream:
        target = ("openai/m", upstream.base_url) if wire == "openai" else ("anthropic/m", upstream.root_url)
        with pytest.raises(ModelFailed) as caught:
            await gateway.complete(request(*target))
        assert len(upstream.asked) == 1
    assert (caught.value.kind, caught.value.status) == (kind, status)
    assert ("may still have been charged" in str(caught.value)) == (kind == "bad_reply")


@pytest.mark.parametrize("model", ["openai/m", "anthropic/m"])
async def test_a_refused_connection_is_told_apart_and_no_model_was_called(gateway: LiteLLMGateway, model: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: nobody can be there.
        with pytest.raises(ModelFailed, match=r"could not be reached\. No model was called\.") as caught:
            await gateway.complete(request(model, f"http://127.0.0.1:{taken.getsockname()[1]}/v1"))
    assert (caught.value.kind, caught.value.status) == ("connection", None)


async def test_an_address_that_is_none_is_a_connection_failure(gateway: LiteLLMGateway) -> None:
    with pytest.raises(ModelFailed) as caught:
        await gateway.complete(request(base_url="127.0.0.1:1/v1"))
    assert caught.value.kind == "connection"


@pytest.mark.usefixtures("called_before")
async def test_what_the_library_does_before_it_sends_is_neither_the_models_time_nor_within_its_limit(
    gateway: LiteLLMGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call of a process loads for a second, and a machine that is paid by the hour does not work then."""
    litellm = load_litellm()
    send = litellm.acompletion
    try:
        slow_ms, took = 600, await _timed(gateway, monkeypatch, send, 0.6)
    except ModelFailed:  # A machine that stood still for a while gets another try, with time to spare.
        slow_ms, took = 6000, await _timed(gateway, monkeypatch, send, 6)
    assert took[0][0] >= slow_ms
    assert [told <= whole - slow_ms for told, whole in took] == [True, True], took


async def _timed(
    gateway: LiteLLMGateway, monkeypatch: pytest.MonkeyPatch, send: Any, slow_s: float
) -> list[tuple[int, float]]:
    """What a call that succeeds and one that fails tell of their time, each with the whole of it, in milliseconds."""

    async def slow(**asked: Any) -> Any:
        await anyio.sleep(slow_s)
        return await send(**asked)

    monkeypatch.setattr("litellm.acompletion", slow)
    took = []
    with Upstream([Reply(wait_s=slow_s), Reply(status=500)]) as upstream:
        asked = request(base_url=upstream.base_url, timeout_s=slow_s * 1.85)
        for call in (gateway.complete, partial(_failed, gateway)):
            began = time.monotonic()
            told = (await call(asked)).duration_ms
            assert told is not None
            took.append((told, (time.monotonic() - began) * 1000))
    return took


async def _failed(gateway: LiteLLMGateway, asked: Request) -> ModelFailed:
    with pytest.raises(ModelFailed) as caught:
        await gateway.complete(asked)
    return caught.value


@pytest.mark.usefixtures("called_before")
@pytest.mark.parametrize("model", ["openai/m", "anthropic/m"])
async def test_a_provider_that_does_not_answer_is_left_at_the_time_limit(gateway: LiteLLMGateway, model: str) -> None:
    with Upstream(lambda asked: Reply(hold="forever")) as upstream:
        base = upstream.base_url if model.startswith("openai") else upstream.root_url
        for limit_s in (0.3, 5):  # A busy machine may need longer than the first before it sends anything.
            if not upstream.asked:
                with pytest.raises(ModelFailed) as caught:
                    await gateway.complete(request(model, base, timeout_s=limit_s))
        (served,) = await anyio.to_thread.run_sync(upstream.wait_served, 1, 60)
    assert caught.value.kind == "timeout"
    assert served.client_left
    assert "may still have been charged" in str(caught.value)


async def test_a_rate_limit_tells_how_long_to_wait(gateway: LiteLLMGateway) -> None:
    with Upstream([Reply(status=429, headers=(("retry-after", "17"),))]) as upstream:
        with pytest.raises(ModelFailed, match=r"\(HTTP 429\)") as caught:
            await gateway.complete(request(base_url=upstream.base_url))
    told = "Wait 17 s and call again, or plan with another `tier` ([stages] names a review's)."
    assert caught.value.next_step == told


@pytest.mark.parametrize(("key", "told"), [("DEMO_KEY", "Check the key in DEMO_KEY"), (None, "`api_key_env`")])
async def test_a_refused_key_is_named_and_where_none_is_sent_it_says_so(
    gateway: LiteLLMGateway, key: str | None, told: str
) -> None:
    with Upstream([Reply(status=401)]) as upstream:
        with pytest.raises(ModelFailed, match=r"\(HTTP 401\)") as caught:
            await gateway.complete(request(base_url=upstream.base_url, api_key_env=key))
    assert told in caught.value.next_step
    assert ("no key is sent" in caught.value.what) == (key is None)


# --- cancellation -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["openai/m", "anthropic/m", "openrouter/vendor/m"])
async def test_a_cancelled_call_closes_its_connection_at_once_and_is_no_error(
    gateway: LiteLLMGateway, model: str
) -> None:
    ended: list[str] = []
    with Upstream(lambda asked: Reply(hold="forever")) as upstream:
        base = upstream.root_url if model.startswith("anthropic") else upstream.base_url

        async def call() -> None:
            try:
                await gateway.complete(request(model, base))
            except anyio.get_cancelled_exc_class():
                ended.append("cancelled")
                raise
            except Exception as error:
                ended.append(repr(error))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.to_thread.run_sync(upstream.wait_asked, 1, 60)
            group.cancel_scope.cancel()
        assert await comes_true(lambda: upstream.served, 1)
        (served,) = upstream.served
    assert ended == ["cancelled"]
    assert served.client_left
    assert len(upstream.asked) == 1


# --- the scripted gateway -----------------------------------------------------------------------


async def test_a_script_gives_its_replies_in_order_and_keeps_what_was_asked() -> None:
    failed = ModelFailed("x", next_step="y.", kind="server")
    gateway = ScriptedGateway([Completion(text="one"), failed])
    gateway.replies(lambda asked: Completion(text=asked.model))
    assert (await gateway.complete(request("a/1"))).text == "one"
    with pytest.raises(ModelFailed) as caught:
        await gateway.complete(request("a/2"))
    assert caught.value is failed
    assert (await gateway.complete(request("a/3"))).text == "a/3"
    with pytest.raises(RuntimeError, match="no reply for call 4"):
        await gateway.complete(request("a/4"))
    assert [asked.model for asked in gateway.requests] == ["a/1", "a/2", "a/3", "a/4"]


async def test_a_gate_holds_a_scripted_call_until_it_opens() -> None:
    gate = anyio.Event()
    gateway = ScriptedGateway([Completion(text="late")], gate=gate.wait)
    texts: list[str] = []

    async def call() -> None:
        texts.append((await gateway.complete(request())).text)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await gateway.begun(1)
        assert texts == []
        gate.set()
    assert texts == ["late"]
