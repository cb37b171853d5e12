"""What a provider's own reply says about tokens, model and cost. Reads the body as sent, never a library's copy of it.

Providers disagree on what "input" includes. Each shape below is told by fields that only it has:
OpenAI chat (cached tokens inside the prompt), OpenAI Responses (the same under other names), Anthropic Messages
(input excludes reads and writes), Gemini (thoughts outside the candidates), Bedrock Converse, Ollama.

A usage that contradicts itself is not believed: a wrong count costs the user money or trust, an unknown one neither.
`docs/measured.md` tells each provider's convention, and where it was seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from mcp_tierkit.types import Usage

MAX_COST_USD = 1_000
"""Of one call. Ten times what the longest call of the dearest model can cost: more is another unit, or a mistake."""
TICKS_PER_USD = 10_000_000_000
"""xAI's unit."""
MAX_TOKENS = 1_000_000_000
"""Of one call. A larger count cannot be true, and would not fit where it is stored and priced."""

_ODD = re.compile(r"[^\w./:@+-]+", re.ASCII)

_CACHED = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_token_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("cached_tokens",),
    ("num_cached_tokens",),
    ("cache_read_input_tokens",),
    ("timings", "cache_n"),
)
_WRITTEN = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_tokens"),
    ("prompt_tokens_details", "cache_creation_input_tokens"),
    ("input_tokens_details", "cache_write_tokens"),
    ("cache_creation_input_tokens",),
)
_STOPS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "content_filter"}
_REASONING = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("completion_token_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)
_LEVELS = (
    ("service_tier",),
    ("service_tier_used",),
    ("serviceTier", "type"),
    ("performanceConfig", "latency"),
    ("usage", "service_tier"),
    ("usage", "speed"),
    ("usage", "inference_geo"),
    ("usageMetadata", "trafficType"),
    ("usageMetadata", "serviceTier"),
)
"""Where a reply says how it was served: OpenAI, Groq and their like, Cerebras, Bedrock twice, Anthropic, Gemini."""
_STANDARD = {
    "default", "standard", "on_demand", "auto", "global", "not_available", "traffic_type_unspecified",
    "service_tier_unspecified",
}  # fmt: skip
"""Words for the level that price lists mean. `auto` is what was asked, not what was given, and we ask for none."""


class _ImpossibleError(ValueError):
    """A count that cannot be true: of the wrong kind, below zero, or at odds with its neighbours."""


def read_body(raw: bytes) -> dict[str, Any] | None:
    """The reply as an object, its decimals exact; None where it is not one JSON object."""
    try:
        body = json.loads(raw, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def read_usage(body: Mapping[str, Any], *, has_text: bool = True) -> Usage:
    """Four buckets that never overlap, each None where the provider did not say and its convention leaves it open.

    All are None where the counts cannot be true, or hold no input at all. No output beside a text (`has_text`) is
    unknown too. With them comes the level of service, since the same tokens cost more or less at another one.
    """
    try:
        usage = _usage(body)
    except _ImpossibleError:
        return Usage()
    if not (usage.input or usage.cached_input or usage.cache_write):
        return Usage()
    unsaid = {"output": None, "reasoning": None} if has_text and usage.output == 0 else {}
    return usage.model_copy(update={**unsaid, "level": service_level(body)})


def service_level(body: Mapping[str, Any]) -> str | None:
    """What a reply says of how it was served where that is not the standard way, such as `priority`; else None."""
    for path in _LEVELS:
        said = _at(body, path)
        if isinstance(said, str) and said and said.lower() not in _STANDARD:
            return _ODD.sub("_", said.lower())[:40]
    return None


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
    """Nanodollars that the provider itself states as billed, rounded half to even where it is finer than that.

    `usage.cost` as OpenRouter and Perplexity state it, `usage.cost_in_usd_ticks` as xAI does. What a proxy calls an
    estimate is none of them. With a key of your own, OpenRouter bills its fee and the provider the rest: both count.
    """
    usage = _map(body.get("usage"))
    cost = _stated(usage)
    if cost is not None and usage.get("is_byok") is True:
        upstream = _money(_map(usage.get("cost_details")).get("upstream_inference_cost"))
        cost = None if upstream is None else cost + upstream
    if cost is None or cost > MAX_COST_USD:
        return None
    return round(cost.scaleb(9))


def _stated(usage: Mapping[str, Any]) -> Decimal | None:
    cost = usage.get("cost")
    if isinstance(cost, Mapping):
        cost = cost.get("total_cost") if cost.get("currency", "USD") == "USD" else None
    ticks = _money(usage.get("cost_in_usd_ticks"))
    if cost is None and ticks is not None:
        return ticks / TICKS_PER_USD
    return _money(cost)


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
        # llama.cpp's own count, where an older one leaves it out of the usage.
        return _inclusive({"timings": body.get("timings"), **usage}, "prompt_tokens", "completion_tokens")
    if "input_tokens" in usage:
        is_responses = body.get("object") == "response" or ("total_tokens" in usage and body.get("type") != "message")
        return _inclusive(usage, "input_tokens", "output_tokens") if is_responses else _anthropic(usage)
    return Usage(input=_count(body.get("prompt_eval_count")), output=_count(body.get("eval_count")))  # Ollama


def _inclusive(usage: Mapping[str, Any], input_name: str, output_name: str) -> Usage:
    """Cached and written tokens are part of the prompt, reasoning is part of the output.

    With a prompt stated, what is not said to be cached or written is fresh: the prompt is the sum of the three, and a
    provider that gives a discount or takes a premium for a part names that part. So the buckets are 0, not unknown.
    What some count beside the prompt (a cache, or Mistral what it heard) or the output shows in the total.
    """
    prompt, output = _count(usage.get(input_name)), _count(usage.get(output_name))
    if prompt is None:
        return Usage()
    cached, written = _first(usage, _CACHED) or 0, _first(usage, _WRITTEN) or 0
    if cached == written and cached + written > prompt:
        written = 0  # OpenRouter with Gemini: the very tokens that were written are read, and billed as read.
    reasoning, total = _first(usage, _REASONING), _count(usage.get("total_tokens"))
    beside = 0 if total is None or output is None else max(total - prompt - output, 0)
    heard = _first(usage, (("prompt_tokens_details", "audio_tokens"),))
    if beside and beside != reasoning and beside in (cached + written, heard):
        prompt += beside
    elif beside and output is not None and reasoning in (None, beside):
        output, reasoning = output + beside, beside
    fresh, is_too_much = prompt - cached - written, _exceeds(reasoning, output)
    # OpenRouter counts reasoning with another tokenizer: where the total vouches for the output, that alone is wrong.
    _refuse(fresh < 0 or (is_too_much and total != prompt + (output or 0)))
    reasoning = None if is_too_much else reasoning
    return Usage(input=fresh, cached_input=cached, cache_write=written, output=output, reasoning=reasoning)


def _anthropic(usage: Mapping[str, Any]) -> Usage:
    """Input excludes what was read and written. A summary made on the way is billed, and is in no count at the top."""
    passes = [_map(one) for one in _list(usage.get("iterations"))]
    _refuse(any(one.get("type") not in ("message", "compaction") for one in passes))  # Of another model, at its rates.
    counted = [usage, *(one for one in passes if one.get("type") == "compaction")]
    written = _sum(counted, ("cache_creation_input_tokens",))
    hour = _sum(counted, ("cache_creation", "ephemeral_1h_input_tokens"))
    output = _sum(counted, ("output_tokens",))
    reasoning = _first(usage, (("output_tokens_details", "thinking_tokens"),))
    _refuse(_exceeds(hour, written))
    return Usage(
        input=_sum(counted, ("input_tokens",)),
        cached_input=_sum(counted, ("cache_read_input_tokens",)),
        cache_write=written,
        cache_write_1h=hour,
        output=output,
        reasoning=None if _exceeds(reasoning, output) else reasoning,
    )


def _gemini(usage: Mapping[str, Any]) -> Usage:
    prompt, cached = _count(usage.get("promptTokenCount")), _count(usage.get("cachedContentTokenCount")) or 0
    if prompt is None:
        return Usage()
    _refuse(cached > prompt)
    used = _count(usage.get("toolUsePromptTokenCount")) or 0
    candidates, thoughts = _count(usage.get("candidatesTokenCount")), _count(usage.get("thoughtsTokenCount"))
    said_nothing = candidates is None and thoughts is None
    return Usage(
        input=prompt - cached + used,
        cached_input=cached,
        cache_write=0,  # It is billed by the hour, not here.
        output=None if said_nothing else (candidates or 0) + (thoughts or 0),
        reasoning=thoughts,
    )


def _bedrock(usage: Mapping[str, Any]) -> Usage:
    """As Anthropic counts. Models without a cache leave its counts out: a total without a rest says that none was."""
    fresh, output = _count(usage.get("inputTokens")), _count(usage.get("outputTokens"))
    cached, written = _count(usage.get("cacheReadInputTokens")), _count(usage.get("cacheWriteInputTokens"))
    total = _count(usage.get("totalTokens"))
    is_all = total is not None and total == sum(part or 0 for part in (fresh, cached, written, output))
    unsaid = 0 if is_all else None
    kept = [_map(one) for one in _list(usage.get("cacheDetails"))]
    hour = sum(_count(one.get("inputTokens")) or 0 for one in kept if one.get("ttl") == "1h") if kept else None
    _refuse(_exceeds(hour, written))
    return Usage(
        input=fresh,
        cached_input=unsaid if cached is None else cached,
        cache_write=unsaid if written is None else written,
        cache_write_1h=hour,
        output=output,
    )


def _sum(objects: Iterable[Mapping[str, Any]], path: tuple[str, ...]) -> int | None:
    """None where one of them does not say."""
    counts = [_first(one, (path,)) for one in objects]
    return None if None in counts else sum(count or 0 for count in counts)


def _first(usage: Mapping[str, Any], paths: tuple[tuple[str, ...], ...]) -> int | None:
    for path in paths:
        if (count := _count(_at(usage, path))) is not None:
            return count
    return None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = _map(value).get(name)
    return value


def _count(value: Any) -> int | None:
    """None where nothing is said. Raises _ImpossibleError for what is said and is no count of tokens."""
    if value is None:
        return None
    _refuse(isinstance(value, bool) or not isinstance(value, int | Decimal))
    # Bounded before it is made an integer: `1e999999999` is ten bytes, and a gigabyte as one.
    _refuse((isinstance(value, Decimal) and not value.is_finite()) or not 0 <= value <= MAX_TOKENS)
    _refuse(value != int(value))
    return int(value)


def _exceeds(part: int | None, whole: int | None) -> bool:
    return part is not None and whole is not None and part > whole


def _refuse(is_impossible: bool) -> None:
    if is_impossible:
        raise _ImpossibleError


def _money(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    amount = Decimal(value)
    return amount if amount.is_finite() and 0 <= amount <= MAX_COST_USD * TICKS_PER_USD else None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
