"""Each provider's convention, in the shape its documentation gives, becomes the same four buckets."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit.prices import LOCAL_PRICE, PriceTable, cost
from mcp_tierkit.types import Usage
from mcp_tierkit.usage import read_body, read_choice, read_usage, reported_cost, served_model


class Counted(NamedTuple):
    """What a usage comes to. `hour` is the part of `written` kept for an hour, `usd` what was stated."""

    fresh: int | None
    read: int | None
    written: int | None
    output: int | None
    reasoning: int | None = None
    hour: int | None = None
    usd: str | None = None

    def usage(self) -> Usage:
        return Usage(
            input=self.fresh, cached_input=self.read, cache_write=self.written, cache_write_1h=self.hour,
            output=self.output, reasoning=self.reasoning,
        )  # fmt: skip


AUDIO = {
    "usage": {
        "prompt_tokens": 300, "completion_tokens": 120, "total_tokens": 420,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 200},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 100, "accepted_prediction_tokens": 0},
    },
}  # fmt: skip
FIREWORKS = {
    "model": "accounts/fireworks/models/m",
    "usage": {
        "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
        "prompt_tokens_details": {"cached_tokens": 64},
    },
}  # fmt: skip
DASHSCOPE_WITH_MARKS = {
    "usage": {
        "prompt_tokens": 1500, "completion_tokens": 10, "total_tokens": 1510,
        "prompt_tokens_details": {
            "cached_tokens": 0, "cache_creation_input_tokens": 1400, "cache_type": "ephemeral",
            "cache_creation": {"ephemeral_5m_input_tokens": 1400},
        },
    },
}  # fmt: skip
CACHE_BESIDE_THE_PROMPT = {
    "usage": {
        "prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 96,
        "prompt_tokens_details": {"cached_tokens": 90},
    },
}  # fmt: skip
LITELLM_PROXY = {
    "usage": {
        "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_creation_tokens": 400},
        "cache_read_input_tokens": 300, "cache_creation_input_tokens": 400,
    },
}  # fmt: skip
LM_STUDIO = {
    "model": "granite-3.0-2b-instruct", "usage": {"prompt_tokens": 24, "completion_tokens": 53, "total_tokens": 77},
    "stats": {"tokens_per_second": 51.4, "time_to_first_token": 0.111, "stop_reason": "eosFound"},
}  # fmt: skip
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
MESSAGES_WITH_A_TOTAL = {
    "type": "message",
    "usage": {
        "input_tokens": 1000, "output_tokens": 5, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 0,
        "total_tokens": 1005, "iterations": 1, "output_tokens_details": {"thinking_tokens": 6},
    },
}  # fmt: skip
WRITER = {
    "usage": {
        "prompt_tokens": 40, "completion_tokens": 300, "total_tokens": 340,
        "prompt_token_details": {"cached_tokens": 32},
    },
}  # fmt: skip
AS_MUCH_THOUGHT_AS_CACHED = {
    "usage": {
        "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 174,
        "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 64},
    },
}  # fmt: skip
BEDROCK_HOUR = {
    "usage": {
        "inputTokens": 10, "outputTokens": 5, "totalTokens": 715, "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 700,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 600}, {"ttl": "5m", "inputTokens": 100}],
    },
}  # fmt: skip
BEDROCK_WITHOUT_A_TOTAL = {"usage": {"inputTokens": 10, "outputTokens": 5}}


@pytest.mark.parametrize(
    ("body", "counted"),
    [
        pytest.param(AUDIO, Counted(236, 64, 0, 120, 0), id="openai, audio"),
        pytest.param(FIREWORKS, Counted(36, 64, 0, 10), id="fireworks"),
        pytest.param(DASHSCOPE_WITH_MARKS, Counted(100, 0, 1400, 10), id="dashscope, marked"),
        pytest.param(CACHE_BESIDE_THE_PROMPT, Counted(5, 90, 0, 1), id="a cache beside the prompt"),
        pytest.param(LITELLM_PROXY, Counted(300, 300, 400, 50), id="litellm's proxy"),
        pytest.param(LM_STUDIO, Counted(24, 0, 0, 53), id="lm studio"),
        pytest.param(LLAMA_CPP, Counted(1, 278, 0, 8), id="llama.cpp"),
        pytest.param(OLDER_LLAMA_CPP, Counted(1, 278, 0, 8), id="llama.cpp, timings"),
        pytest.param(MESSAGES_WITH_A_TOTAL, Counted(1000, 600, 0, 5), id="messages with a total"),
        pytest.param(WRITER, Counted(8, 32, 0, 300), id="writer"),
        pytest.param(AS_MUCH_THOUGHT_AS_CACHED, Counted(36, 64, 0, 74, 64), id="as much thought as cached"),
        pytest.param(BEDROCK_HOUR, Counted(10, 0, 700, 5, hour=600), id="bedrock, an hour"),
        pytest.param(BEDROCK_WITHOUT_A_TOTAL, Counted(10, None, None, 5), id="bedrock, no total"),
    ],
)
def test_a_documented_usage_lands_in_buckets_that_do_not_overlap(body: dict[str, Any], counted: Counted) -> None:
    assert read_usage(json.loads(json.dumps(body), parse_float=Decimal)) == counted.usage()


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
        {"usageMetadata": {"candidatesTokenCount": 23, "thoughtsTokenCount": 67}},
        {"prompt_eval_count": -1, "eval_count": 5},
    ],
)
def test_counts_that_are_missing_or_cannot_be_true_are_unknown_and_not_zero(body: dict[str, Any]) -> None:
    assert read_usage(body) == Usage()


CHAT = {"prompt_tokens": 100, "completion_tokens": 10}
READ = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 5}
GEMINI = {"promptTokenCount": 100, "candidatesTokenCount": 10}
NO_COUNTS = [-1, True, "5", 0.5, 1e12, [5], {"tokens": 5}]


@pytest.mark.parametrize("odd", NO_COUNTS, ids=repr)
@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"usage": CHAT | {"prompt_tokens_details": {}}}, ("usage", "prompt_tokens_details", "cached_tokens")),
        ({"usage": CHAT}, ("usage", "completion_tokens")),
        ({"usage": READ}, ("usage", "cache_read_input_tokens")),
        ({"usage": READ | {"cache_creation": {}}}, ("usage", "cache_creation", "ephemeral_1h_input_tokens")),
        ({"usageMetadata": GEMINI}, ("usageMetadata", "cachedContentTokenCount")),
        ({"usage": {"inputTokens": 100, "outputTokens": 10}}, ("usage", "cacheWriteInputTokens")),
    ],
    ids=["chat read", "chat output", "anthropic read", "anthropic hour", "gemini read", "bedrock write"],
)
def test_one_count_that_is_none_makes_the_whole_usage_unknown(
    body: dict[str, Any], at: tuple[str, ...], odd: Any
) -> None:
    whole: Any = json.loads(json.dumps(body))
    assert read_usage(whole) != Usage()
    place = whole
    for name in at[:-1]:
        place = place[name]
    place[at[-1]] = odd
    assert read_usage(json.loads(json.dumps(whole), parse_float=Decimal)) == Usage()


@pytest.mark.parametrize(
    "body",
    [
        {"usage": CHAT | {"prompt_tokens_details": {"cached_tokens": 101}}},
        {"usage": CHAT | {"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 41}}},
        {"usage": CHAT | {"total_tokens": 110, "prompt_cache_hit_tokens": 101}},
        {"usage": CHAT | {"completion_tokens_details": {"reasoning_tokens": 11}}},
        {"usage": READ | {"cache_creation": {"ephemeral_1h_input_tokens": 6}}},
        {"usage": READ | {"iterations": [{"type": "fallback_message", "input_tokens": 1}]}},
        {"usageMetadata": GEMINI | {"cachedContentTokenCount": 101}},
        {"usage": {"inputTokens": 1, "cacheWriteInputTokens": 5, "cacheDetails": [{"ttl": "1h", "inputTokens": 6}]}},
    ],
)
def test_counts_that_contradict_each_other_are_unknown(body: dict[str, Any]) -> None:
    assert read_usage(body) == Usage()


def test_no_output_beside_a_text_is_unknown_and_beside_no_text_is_zero() -> None:
    body = {"usage": {"prompt_tokens": 9, "completion_tokens": 0}}
    assert read_usage(body, has_text=True) == Usage(input=9, cached_input=0, cache_write=0)
    assert read_usage(body, has_text=False) == Usage(input=9, cached_input=0, cache_write=0, output=0)


@given(prompt=st.integers(1, 10**4), cached=st.integers(0, 10**4), written=st.integers(0, 10**4))
def test_the_input_buckets_add_up_to_the_prompt_or_nothing_is_known(prompt: int, cached: int, written: int) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    usage = read_usage({"usage": {"prompt_tokens": prompt, "completion_tokens": 1, "prompt_tokens_details": details}})
    if usage == Usage():
        assert cached + written > prompt
    else:
        assert (usage.input or 0) + (usage.cached_input or 0) + (usage.cache_write or 0) == prompt


NAMES = [
    "usage", "usageMetadata", "type", "object", "total_tokens", "totalTokens", "prompt_tokens", "completion_tokens",
    "input_tokens", "output_tokens", "prompt_tokens_details", "cached_tokens", "cost", "cost_details", "is_byok",
    "cost_in_usd_ticks", "iterations", "cache_creation", "timings", "cacheDetails", "inputTokens",
    "promptTokenCount", "thoughtsTokenCount", "prompt_eval_count", "eval_count", "choices", "content", "model",
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**12) | st.decimals() | st.floats() | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)


@given(body=st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=6))
def test_no_body_makes_the_reader_fail(body: dict[str, Any]) -> None:
    read_usage(body)
    reported_cost(body)
    read_choice(body)


@pytest.mark.parametrize(
    ("usage", "nanousd"),
    [
        ('{"cost": 0.0123}', 12_300_000),
        ('{"cost": 0.1000000000000000055}', 100_000_000),
        ('{"cost": 1e-9}', 1),
        ('{"cost": 0.0000000005}', 0),
        ('{"cost": 0.0000000015}', 2),
        ('{"cost": 0.00000000050000000000000000001}', 1),
        ('{"cost": 0}', 0),
        ('{"cost": 1000}', 1_000_000_000_000),
        ('{"cost": {"total_cost": 0.006}}', 6_000_000),
        ('{"cost": {"total_cost": 0.006, "currency": "USD"}}', 6_000_000),
        ('{"cost": {"total_cost": 0.006, "currency": "EUR"}}', None),
        ('{"cost": 0.001, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.02}}', 21_000_000),
        ('{"cost": 0.02, "is_byok": false, "cost_details": {"upstream_inference_cost": 0.02}}', 20_000_000),
        ('{"cost": 0.001, "is_byok": true}', None),
        ('{"cost": 0.001, "is_byok": true, "cost_details": {"upstream_inference_cost": -1}}', None),
        ('{"cost": -1}', None),
        ('{"cost": 1000.01}', None),
        ('{"cost": 600, "is_byok": true, "cost_details": {"upstream_inference_cost": 600}}', None),
        ('{"cost": 1e999999999}', None),
        ('{"cost": "0.1"}', None),
        ('{"cost": true}', None),
        ('{"cost": NaN}', None),
        ('{"cost": Infinity}', None),
        ('{"cost_in_usd_ticks": 37756000}', 3_775_600),
        ('{"cost_in_usd_ticks": 5}', 0),
        ('{"cost_in_usd_ticks": 15}', 2),
        ('{"cost_in_usd_ticks": 10000000000001}', None),
        ('{"cost_in_usd_ticks": -5}', None),
        ('{"cost": -1, "cost_in_usd_ticks": 50}', None),
        ('{"estimated_cost": 0.1, "pydantic_ai_gateway": {"cost_estimate": 0.2}}', None),
        ("{}", None),
    ],
)
def test_a_stated_cost_is_taken_to_the_nanodollar_and_otherwise_unknown(usage: str, nanousd: int | None) -> None:
    body = read_body(b'{"usage": ' + usage.encode() + b"}")
    assert body is not None
    assert reported_cost(body) == nanousd


def test_the_served_model_is_the_providers_own_word() -> None:
    assert served_model(LM_STUDIO) == "granite-3.0-2b-instruct"
    assert served_model({"modelVersion": "gemini-3.1-flash-lite"}) == "gemini-3.1-flash-lite"
    assert served_model({"model": "anthropic/claude-haiku-5.5"}) == "anthropic/claude-haiku-5.5"
    assert served_model({"model": "/home/somebody/models/tiny.gguf"}) == "tiny.gguf"
    assert served_model({"model": ""}) is None


def test_a_choice_is_read_from_chat_and_messages_bodies_alone() -> None:
    answer = {"type": "message", "stop_reason": "end_turn"}
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read_choice(answer | {"content": blocks, "stop_reason": "max_tokens"}) == ("ab", "length")
    assert read_choice(answer | {"content": []}) == ("", "stop")
    assert read_choice(answer | {"content": "x"}) is None
    assert read_choice({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}) == ("x", "stop")
    assert read_choice({"choices": [{"message": {"content": None}, "finish_reason": "length"}]}) == ("", "length")
    others: tuple[dict[str, Any], ...] = (
        {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]},
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
