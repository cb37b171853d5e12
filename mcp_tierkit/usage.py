"""What a provider's own reply says about tokens, model and cost. Reads the body as sent, never a library's copy of it.

Providers disagree on what "input" includes. Each shape below is told by fields that only it has:
OpenAI chat (cached tokens inside the prompt), OpenAI Responses (the same under other names), Anthropic Messages
(input excludes reads and writes), Gemini (thoughts outside the candidates), Bedrock Converse, Ollama.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from mcp_tierkit.types import Usage

NANO = Decimal(1_000_000_000)
MAX_TOKENS = 1_000_000_000
"""Of one call. A larger count cannot be true, and would not fit where it is stored and priced."""

_ODD = re.compile(r"[^\w./:@+-]+", re.ASCII)

_CACHED = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("cached_tokens",),
    ("num_cached_tokens",),
    ("cache_read_input_tokens",),
)
_WRITTEN = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_tokens"),
    ("input_tokens_details", "cache_write_tokens"),
    ("cache_creation_input_tokens",),
)
_STOPS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "content_filter"}
_REASONING = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)


def read_body(raw: bytes) -> dict[str, Any] | None:
    """The reply as an object, its decimals exact; None where it is not one JSON object."""
    try:
        body = json.loads(raw, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def read_usage(body: Mapping[str, Any], *, has_text: bool = True) -> Usage:
    """Four buckets that never overlap, each None where the provider did not say and its convention leaves it open.

    Counts that cannot be true are unknown: no input at all, or no output beside a text (`has_text`).
    """
    usage = _usage(body)
    if not (usage.input or usage.cached_input or usage.cache_write):
        return Usage()
    if has_text and usage.output == 0:
        return usage.model_copy(update={"output": None, "reasoning": None})
    return usage


def served_model(body: Mapping[str, Any]) -> str | None:
    """The model that the provider says it ran; of a path, as llama.cpp answers, the file's name alone.

    It is shown to callers, so what is no name is made one: no blanks, nothing odd, eighty characters at most.
    """
    for name in (body.get("model"), body.get("modelVersion")):
        if isinstance(name, str) and name:
            return _ODD.sub("_", name.rpartition("/")[2] if name.startswith("/") else name)[:80]
    return None


def read_choice(body: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Text and finish, in OpenAI's words, of an OpenAI chat or Anthropic body; None for any other shape."""
    if body.get("type") == "message":
        return _anthropic_choice(body)
    choices = body.get("choices")
    choice = _map(choices[0]) if isinstance(choices, list) and choices else {}
    text = _map(choice.get("message")).get("content", "")
    if "message" not in choice or not isinstance(text, str | None):
        return None
    finish = choice.get("finish_reason")
    return text or "", finish if isinstance(finish, str) else None


def reported_cost(body: Mapping[str, Any]) -> int | None:
    """Nanodollars that the provider itself states (`usage.cost`), rounded to even where it is finer than that.

    With a key of your own, OpenRouter bills its fee and the provider bills the rest: both are summed.
    """
    usage = _map(body.get("usage"))
    stated = usage.get("cost")
    cost = _money(stated.get("total_cost") if isinstance(stated, Mapping) else stated)
    if cost is None:
        return None
    if usage.get("is_byok") is True:
        upstream = _money(_map(usage.get("cost_details")).get("upstream_inference_cost"))
        if upstream is None:
            return None
        cost += upstream
    return int((cost * NANO).to_integral_value(ROUND_HALF_EVEN))


def _anthropic_choice(body: Mapping[str, Any]) -> tuple[str, str | None] | None:
    blocks, stop = body.get("content"), body.get("stop_reason")
    if not isinstance(blocks, list):
        return None
    texts = (_map(block).get("text") for block in blocks if _map(block).get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str)), _STOPS.get(str(stop))


def _usage(body: Mapping[str, Any]) -> Usage:
    usage = _map(body.get("usage"))
    if "usageMetadata" in body:
        return _gemini(_map(body["usageMetadata"]))
    if "inputTokens" in usage:
        return _bedrock(usage)
    if "prompt_tokens" in usage:
        return _inclusive(usage, "prompt_tokens", "completion_tokens", _count(_map(body.get("timings")).get("cache_n")))
    if "input_tokens" in usage:
        is_responses = body.get("object") == "response" or "total_tokens" in usage
        return _inclusive(usage, "input_tokens", "output_tokens") if is_responses else _anthropic(usage)
    return Usage(input=_count(body.get("prompt_eval_count")), output=_count(body.get("eval_count")))  # Ollama


def _inclusive(usage: Mapping[str, Any], input_name: str, output_name: str, cache_n: int | None = None) -> Usage:
    """Cached and written tokens are part of the prompt, reasoning is part of the output.

    With a prompt stated, what is not said to be cached or written is fresh: the prompt is the sum of the three, and a
    provider that gives a discount or takes a premium for a part names that part. So the buckets are 0, not unknown.
    """
    prompt = _count(usage.get(input_name))
    unsaid = None if prompt is None else 0
    cached = _first(usage, _CACHED)
    cached = cache_n if cached is None else cached
    cached = unsaid if cached is None else cached
    written = _first(usage, _WRITTEN)
    written = unsaid if written is None else written
    inside = (cached or 0) + (written or 0)
    # A proxy that counts the cache beside the prompt shows itself by a cache larger than the prompt.
    fresh = None if prompt is None else prompt - inside if inside <= prompt else prompt
    output, reasoning = _output(usage, prompt, _count(usage.get(output_name)))
    return Usage(input=fresh, cached_input=cached, cache_write=written, output=output, reasoning=reasoning)


def _output(usage: Mapping[str, Any], prompt: int | None, output: int | None) -> tuple[int | None, int | None]:
    """Output with reasoning in it. Some count reasoning beside the output and show it in the total alone."""
    reasoning = _first(usage, _REASONING)
    total = _count(usage.get("total_tokens"))
    if output is None or prompt is None or total is None:
        return output, reasoning
    beside = total - prompt - output
    if beside > 0 and reasoning in (None, beside):
        return output + beside, beside
    return output, reasoning


def _anthropic(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=_count(usage.get("input_tokens")),
        cached_input=_count(usage.get("cache_read_input_tokens")),
        cache_write=_count(usage.get("cache_creation_input_tokens")),
        output=_count(usage.get("output_tokens")),
        reasoning=_first(usage, (("output_tokens_details", "thinking_tokens"),)),
    )


def _gemini(usage: Mapping[str, Any]) -> Usage:
    prompt, cached = _count(usage.get("promptTokenCount")), _count(usage.get("cachedContentTokenCount"))
    prompt = None if prompt is None else prompt + (_count(usage.get("toolUsePromptTokenCount")) or 0)
    candidates, thoughts = _count(usage.get("candidatesTokenCount")), _count(usage.get("thoughtsTokenCount"))
    said_nothing = candidates is None and thoughts is None
    unsaid = None if prompt is None else 0  # As in `_inclusive`; writing to the cache is billed by the hour, not here.
    return Usage(
        input=None if prompt is None else max(prompt - (cached or 0), 0),
        cached_input=unsaid if cached is None else cached,
        cache_write=unsaid,
        output=None if said_nothing else (candidates or 0) + (thoughts or 0),
        reasoning=thoughts,
    )


def _bedrock(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=_count(usage.get("inputTokens")),
        cached_input=_count(usage.get("cacheReadInputTokens")),
        cache_write=_count(usage.get("cacheWriteInputTokens")),
        output=_count(usage.get("outputTokens")),
    )


def _first(usage: Mapping[str, Any], paths: tuple[tuple[str, ...], ...]) -> int | None:
    for path in paths:
        value: Any = usage
        for name in path:
            value = _map(value).get(name)
        if (count := _count(value)) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    # Bounded before it is made an integer: `1e999999999` is ten bytes, and a gigabyte as one.
    if (isinstance(value, Decimal) and not value.is_finite()) or not 0 <= value <= MAX_TOKENS:
        return None
    return int(value) if value == int(value) else None


def _money(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    amount = Decimal(value)
    return amount if amount.is_finite() and 0 <= amount < 1_000_000 else None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
