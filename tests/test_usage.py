"""Each provider's convention, in the shape its own replies have, becomes the same four buckets."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit.prices import LOCAL_PRICE, PriceTable, cost
from mcp_tierkit.types import Usage
from mcp_tierkit.usage import read_body, read_choice, read_usage, reported_cost, served_model

OPENAI = {
    "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-5.4-nano-2026-03-17",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 192, "accepted_prediction_tokens": 0},
    },
}  # fmt: skip
OPENAI_WITH_WRITE = {
    "usage": {
        "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 400},
    },
}  # fmt: skip
RESPONSES = {
    "object": "response", "model": "gpt-5.3-codex", "output": [],
    "usage": {
        "input_tokens": 1000, "input_tokens_details": {"cached_tokens": 600},
        "output_tokens": 80, "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 1080,
    },
}  # fmt: skip
ANTHROPIC = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5-20261001", "content": [],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 300, "cache_creation_input_tokens": 400, "cache_read_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 120, "service_tier": "standard",
    },
}  # fmt: skip
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "x"}], "role": "model"}, "finishReason": "STOP"}],
    "modelVersion": "gemini-3.1-flash-lite",
    "usageMetadata": {
        "promptTokenCount": 1000, "cachedContentTokenCount": 256, "candidatesTokenCount": 40,
        "thoughtsTokenCount": 160, "totalTokenCount": 1200,
    },
}  # fmt: skip
GEMINI_AS_OPENAI = {"usage": {"prompt_tokens": 9, "completion_tokens": 25, "total_tokens": 534}}
DEEPSEEK = {
    "model": "deepseek-v4-flash",
    "usage": {
        "prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200,
        "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 360,
        "completion_tokens_details": {"reasoning_tokens": 150},
    },
}  # fmt: skip
OPENROUTER = {
    "model": "anthropic/claude-haiku-5.5", "provider": "Anthropic",
    "usage": {
        "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050, "cost": 0.0123, "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 700, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 0},
        "cost_details": {"upstream_inference_cost": None},
    },
}  # fmt: skip
XAI = {
    "usage": {
        "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 410,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 300},
    },
}  # fmt: skip
MOONSHOT = {"usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cached_tokens": 60}}
LLAMA_CPP = {
    "model": "tiny.gguf", "object": "chat.completion",
    "usage": {
        "completion_tokens": 8, "prompt_tokens": 279, "total_tokens": 287,
        "prompt_tokens_details": {"cached_tokens": 278},
    },
    "timings": {"cache_n": 278, "prompt_n": 1, "predicted_n": 8},
}  # fmt: skip
OLDER_LLAMA_CPP = {
    "usage": {"completion_tokens": 8, "prompt_tokens": 279, "total_tokens": 287},
    "timings": {"cache_n": 278, "prompt_n": 1},
}  # fmt: skip
BEDROCK = {
    "usage": {
        "inputTokens": 10, "outputTokens": 5, "totalTokens": 715,
        "cacheReadInputTokens": 600, "cacheWriteInputTokens": 100,
    },
}  # fmt: skip
OLLAMA = {"model": "qwen", "message": {"content": "x"}, "done": True, "prompt_eval_count": 26, "eval_count": 5}


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        pytest.param(OPENAI, Usage(input=86, cached_input=1920, cache_write=0, output=300, reasoning=192), id="openai"),
        pytest.param(
            OPENAI_WITH_WRITE, Usage(input=300, cached_input=300, cache_write=400, output=50), id="openai-write"
        ),
        pytest.param(
            RESPONSES, Usage(input=400, cached_input=600, cache_write=0, output=80, reasoning=64), id="openai-responses"
        ),
        pytest.param(ANTHROPIC, Usage(input=300, cached_input=300, cache_write=400, output=120), id="anthropic"),
        pytest.param(GEMINI, Usage(input=744, cached_input=256, cache_write=0, output=200, reasoning=160), id="gemini"),
        pytest.param(
            GEMINI_AS_OPENAI,
            Usage(input=9, cached_input=0, cache_write=0, output=525, reasoning=500),
            id="gemini-openai",
        ),
        pytest.param(
            DEEPSEEK, Usage(input=360, cached_input=640, cache_write=0, output=200, reasoning=150), id="deepseek"
        ),
        pytest.param(
            OPENROUTER, Usage(input=200, cached_input=700, cache_write=100, output=50, reasoning=0), id="openrouter"
        ),
        pytest.param(XAI, Usage(input=36, cached_input=64, cache_write=0, output=310, reasoning=300), id="xai"),
        pytest.param(MOONSHOT, Usage(input=40, cached_input=60, cache_write=0, output=10), id="moonshot"),
        pytest.param(LLAMA_CPP, Usage(input=1, cached_input=278, cache_write=0, output=8), id="llama.cpp"),
        pytest.param(
            OLDER_LLAMA_CPP, Usage(input=1, cached_input=278, cache_write=0, output=8), id="llama.cpp-timings"
        ),
        pytest.param(BEDROCK, Usage(input=10, cached_input=600, cache_write=100, output=5), id="bedrock"),
        pytest.param(OLLAMA, Usage(input=26, output=5), id="ollama"),
    ],
)
def test_a_providers_counts_land_in_buckets_that_do_not_overlap(body: dict[str, Any], usage: Usage) -> None:
    assert read_usage(json.loads(json.dumps(body), parse_float=Decimal)) == usage


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        {"usage": {"prompt_tokens": None, "completion_tokens": 7}},
        {"usage": {"prompt_tokens": "12", "completion_tokens": -1}},
        {"usage": {"prompt_tokens": True, "completion_tokens": True}},
        {"usage": [1, 2]},
        {"usageMetadata": {}},
    ],
)
def test_counts_that_are_missing_or_cannot_be_true_are_unknown_and_not_zero(body: dict[str, Any]) -> None:
    assert read_usage(body) == Usage()


def test_no_output_beside_a_text_is_unknown_and_beside_no_text_is_zero() -> None:
    body = {"usage": {"prompt_tokens": 9, "completion_tokens": 0}}
    assert read_usage(body, has_text=True) == Usage(input=9, cached_input=0, cache_write=0)
    assert read_usage(body, has_text=False) == Usage(input=9, cached_input=0, cache_write=0, output=0)


def test_a_cache_larger_than_the_prompt_is_counted_beside_it() -> None:
    body = {"usage": {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 90}}}
    assert read_usage(body) == Usage(input=5, cached_input=90, cache_write=0, output=1)


@given(prompt=st.integers(1, 10**7), cached=st.integers(0, 10**7), written=st.integers(0, 10**7))
def test_the_input_buckets_add_up_to_the_prompt_wherever_the_prompt_holds_them(
    prompt: int, cached: int, written: int
) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    usage = read_usage({"usage": {"prompt_tokens": prompt, "completion_tokens": 1, "prompt_tokens_details": details}})
    total = (usage.input or 0) + cached + written
    assert total == (prompt if cached + written <= prompt else prompt + cached + written)


@pytest.mark.parametrize(
    ("usage", "nanousd"),
    [
        ('{"cost": 0.0123}', 12_300_000),
        ('{"cost": 0.1000000000000000055}', 100_000_000),
        ('{"cost": 1e-9}', 1),
        ('{"cost": 0}', 0),
        ('{"cost": {"total_cost": 0.006}}', 6_000_000),
        ('{"cost": 0.001, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.02}}', 21_000_000),
        ('{"cost": 0.001, "is_byok": true}', None),
        ('{"cost": -1}', None),
        ('{"cost": "0.1"}', None),
        ('{"cost": NaN}', None),
        ("{}", None),
    ],
)
def test_a_stated_cost_is_taken_to_the_nanodollar_and_otherwise_unknown(usage: str, nanousd: int | None) -> None:
    body = read_body(b'{"usage": ' + usage.encode() + b"}")
    assert body is not None
    assert reported_cost(body) == nanousd


def test_the_served_model_is_the_providers_own_word() -> None:
    assert served_model(OPENAI) == "gpt-5.4-nano-2026-03-17"
    assert served_model(GEMINI) == "gemini-3.1-flash-lite"
    assert served_model(OPENROUTER) == "anthropic/claude-haiku-5.5"
    assert served_model({"model": "/home/somebody/models/tiny.gguf"}) == "tiny.gguf"
    assert served_model({"model": ""}) is None


def test_a_choice_is_read_from_chat_and_messages_bodies_alone() -> None:
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read_choice(ANTHROPIC | {"content": blocks, "stop_reason": "max_tokens"}) == ("ab", "length")
    assert read_choice(ANTHROPIC | {"content": []}) == ("", "stop")
    assert read_choice(ANTHROPIC | {"content": "x"}) is None
    assert read_choice(OPENAI) == ("x", "stop")
    assert read_choice({"choices": [{"message": {"content": None}, "finish_reason": "length"}]}) == ("", "length")
    others: tuple[dict[str, Any], ...] = (
        GEMINI,
        {"choices": []},
        {"choices": [{"message": {"content": [1]}}]},
        {"choices": "x"},
    )
    for body in others:
        assert read_choice(body) is None


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"1", b"[" * 100_000])
def test_what_is_not_one_object_is_no_body(raw: bytes) -> None:
    assert read_body(raw) is None


@pytest.mark.parametrize("usage", [
    {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
    {"prompt_tokens": 1000, "completion_tokens": 200, "prompt_tokens_details": {"cached_tokens": 0}},
])  # fmt: skip
def test_the_plainest_usage_has_a_cost_under_every_price_we_ship(usage: dict[str, Any]) -> None:
    table = PriceTable()
    unpriced = [
        name for name in table.models() if cost(table.price(name) or LOCAL_PRICE, read_usage({"usage": usage})) is None
    ]
    assert unpriced == []
