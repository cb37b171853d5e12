"""Usages as providers sent them: in four buckets, against the total and the bill they state, and onto the ledger.

`RECORDED` is worked out by hand from each provider's own convention; `tests/fixtures/usage` says where it was recorded.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.demo_upstream import Asked, Reply, Upstream
from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.gateway import LiteLLMGateway
from mcp_tierkit.kit import Kit, open_kit
from mcp_tierkit.metering import call_model
from mcp_tierkit.prices import Price, cost
from mcp_tierkit.tiers import Tier
from mcp_tierkit.types import Message, Route, Task
from mcp_tierkit.usage import read_usage, reported_cost
from tests.support import make_config, make_project
from tests.test_usage import Counted

FIXTURES = Path(__file__).parent / "fixtures" / "usage"
UNKNOWN = Counted(None, None, None, None)
RECORDED = {
    "openai_cached": Counted(1144 - 1024, 1024, 0, 2, 0),
    "openai_reasoning": Counted(11, 0, 0, 228, 192),
    "openai_cache_write": Counted(1220 - 1217, 0, 1217, 100, 100),
    "openai_responses_cached": Counted(1586 - 1536, 1536, 0, 393, 320),
    "openai_responses_cache_write": Counted(1220 - 1217, 0, 1217, 100, 54),
    "anthropic_5m_write": Counted(3, 0, 2091, 127, hour=0),
    "anthropic_both_writes": Counted(3, 0, 14 + 2056, 459, hour=2056),
    "anthropic_read": Counted(3, 2091, 0, 95, hour=0),
    "anthropic_thinking": Counted(13, 0, 0, 44, 33, hour=0),
    "anthropic_web_search": Counted(7744, 0, 0, 353, 80, hour=0),
    "anthropic_before_caches": Counted(514, None, None, 152),  # Nothing says that none was read from a cache.
    "anthropic_compaction": Counted(229 + 100, 0, 55096, 5 + 131, hour=0),
    "anthropic_advisor": UNKNOWN,  # A part is another model's, at its own rates.
    "gemini_cached": Counted(9622 - 9609, 9609, 0, 35 + 136, 136),
    "gemini_tool_use": Counted(75 + 573, 0, 0, 414 + 117, 117),
    "gemini_thoughts_alone": Counted(15, 0, 0, 2, 2),
    "gemini_openai": Counted(35, 0, 0, 109 - 35, 109 - 35 - 12),
    "deepseek": Counted(103, 256, 0, 25),
    "mistral": Counted(93 - 16, 16, 0, 29),
    "mistral_audio": Counted(9 + 375, 0, 0, 248),
    "groq": Counted(336 - 256, 256, 0, 96, 59),
    "xai": Counted(291 - 244, 244, 0, 26 + 189, 189, usd="0.0001399"),
    "xai_responses": Counted(204 - 128, 128, 0, 80, 79, usd="0.0003206"),
    "grok_azure": UNKNOWN,  # 314 cached of 208 sent, and a total that holds the 208.
    "together": Counted(16, 0, 0, 216),
    "cerebras": Counted(79, 0, 0, 37, 25),
    "openrouter_write": Counted(3329 - 3211 - 115, 3211, 115, 53, 0, usd="0.00219855"),
    "openrouter_gemini": Counted(2168 - 2161, 2161, 0, 100, 0, usd="0.000497013"),
    "openrouter_byok": Counted(14, 0, 0, 164, 46, usd="0.00417"),
    "openrouter_plain": Counted(17, 0, 0, 1515, 704),
    "openrouter_reasoning_over": Counted(43, 0, 0, 10, usd="0"),  # 11 tokens of reasoning in 10 of output.
    "perplexity": Counted(8, 0, 0, 15, usd="0.00502"),
    "cohere": UNKNOWN,  # Its own wire is not spoken here: a shape that is not known is not guessed at.
    "moonshot": Counted(20 - 10, 10, 0, 30, 22),
    "dashscope": Counted(24, 0, 0, 1668, 1353),
    "zai": Counted(13, 0, 0, 247, 237),
    "bedrock_5m_write": Counted(3, 2074, 297, 61, hour=0),
    "bedrock_without_cache": Counted(269, 0, 0, 77),
    "ollama": Counted(17, None, None, 66),
    "ollama_v1": Counted(136, 0, 0, 15),
    "vllm": Counted(43, 0, 0, 32),
    "huggingface_nulls": Counted(448, 0, 0, 38),
    "writer": Counted(40, 0, 0, 300, 0),
}


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(), parse_float=Decimal)
    return found


def body_of(fixture: dict[str, Any]) -> dict[str, Any]:
    """A reply of that wire around the counts; the words are not the provider's."""
    said = {key: fixture[key] for key in fixture.keys() - {"source", "model", "wire", "served"}}
    served = {"model": fixture["served"]} if "served" in fixture else {}
    message = {"role": "assistant", "content": "ok"}
    frames: dict[str, dict[str, Any]] = {
        "chat": {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
        "responses": {"object": "response", "output": []},
        "messages": {
            "type": "message", "role": "assistant", "content": [{"type": "text", "text": "ok"}],
            "stop_reason": "end_turn",
        },
        "gemini": {"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}]},
        "converse": {
            "output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}}, "stopReason": "end_turn",
            "metrics": {"latencyMs": 1},
        },
        "ollama": {"message": message, "done": True, "done_reason": "stop"},
        "cohere": {"message": {"role": "assistant", "content": [{"type": "text", "text": "ok"}]}},
    }  # fmt: skip
    return {"id": "reply-1", "created": 1, **frames[fixture["wire"]], **served, **said}


def test_every_recorded_usage_is_worked_out_and_says_where_it_is_from() -> None:
    assert {path.stem for path in FIXTURES.glob("*.json")} == RECORDED.keys()
    for name in RECORDED:
        source = recorded(name)["source"]
        assert len(source["commit"]) == 40
        assert source["repository"].count("/") == 1
        assert source["licence"] in ("MIT", "Apache-2.0", "BSD-3-Clause OR Apache-2.0")
        assert source["path"]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_usage_lands_in_buckets_that_do_not_overlap(name: str) -> None:
    body, counted = body_of(recorded(name)), RECORDED[name]
    assert read_usage(body) == counted.usage()
    usd = None if counted.usd is None else int(Decimal(counted.usd).scaleb(9))
    assert reported_cost(body) == usd


TOTALS = ("total_tokens", "totalTokens", "totalTokenCount")


@pytest.mark.parametrize("name", [name for name in RECORDED if RECORDED[name] != UNKNOWN])
def test_the_buckets_add_up_to_the_total_that_the_provider_states(name: str) -> None:
    fixture, counted = recorded(name), RECORDED[name]
    said = fixture.get("usage") or fixture.get("usageMetadata") or {}
    [total] = [said[key] for key in TOTALS if key in said] or [None]
    if total is None:
        assert fixture["wire"] in ("messages", "ollama")  # These state none.
    else:
        assert sum((counted.fresh or 0, counted.read or 0, counted.written or 0, counted.output or 0)) == total


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("xai", {"input": "0.30", "cache_read": "0.075", "output": "0.50"}),
        ("xai_responses", {"input": "1.25", "cache_read": "0.20", "output": "2.50"}),
        ("openrouter_write", {"input": "3", "cache_read": "0.30", "cache_write": "3.75", "output": "15"}),
        ("openrouter_byok", {"input": "5", "output": "25"}),
    ],
)
def test_the_buckets_at_the_models_prices_are_the_bill_that_the_provider_states(
    name: str, rates: dict[str, str]
) -> None:
    body = body_of(recorded(name))
    assert cost(Price.model_validate({**rates, "source": "published"}), read_usage(body)) == reported_cost(body)


PRICE = Price(input=Decimal(1), output=Decimal(1), cache_read=Decimal(1), cache_write=Decimal(1), source="x")


# --- through the gateway, onto the ledger ---------------------------------------------------------

CALLED = [name for name in RECORDED if recorded(name)["model"]]
EVENTS = b"""event: message_start
data: {"type": "message_start", "message": {"type": "message", "usage": {"input_tokens": 51, "output_tokens": 2}}}

event: message_delta
data: {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1699}}
"""


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
async def test_what_a_provider_recorded_is_what_the_ledger_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION_NAME"):
        monkeypatch.setenv(name, "us-east-1")
    config = make_config(make_project(tmp_path / "app", git=False), tmp_path / "home")
    kit, rows = open_kit(config, gateway=LiteLLMGateway({"A_KEY": "sk-none"}.get)), {}
    for name in CALLED:
        await _call(kit, name, Reply(raw=_raw(body_of(recorded(name)))))
        rows[name] = _last(tmp_path / "home/ledger.db")
    await kit.close()
    assert rows == {name: ("settled", *RECORDED[name][:5]) for name in CALLED}
    costs = _costs(tmp_path / "home/ledger.db")
    assert {name: costs[name] for name in CALLED if Decimal(RECORDED[name].usd or 0)} == {
        name: int(Decimal(counted.usd).scaleb(9))
        for name, counted in RECORDED.items()
        if counted.usd and Decimal(counted.usd) and name in CALLED
    }


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("openai_cached", Reply(cut_after=40)),
        ("anthropic_read", Reply(cut_after=40)),
        ("anthropic_read", Reply(raw=EVENTS)),
        ("openai_cached", Reply(tokens="unsaid")),
        ("anthropic_read", Reply(tokens="unsaid")),
    ],
    ids=["cut off, chat", "cut off, messages", "a stream nobody asked for", "unsaid, chat", "unsaid, messages"],
)
async def test_what_a_reply_does_not_tell_whole_is_null_on_the_ledger(tmp_path: Path, name: str, reply: Reply) -> None:
    config = make_config(make_project(tmp_path / "app", git=False), tmp_path / "home")
    kit = open_kit(config, gateway=LiteLLMGateway({"A_KEY": "sk-none"}.get))
    is_whole = reply.tokens == "unsaid"
    if is_whole:
        await _call(kit, name, reply)
    else:
        with pytest.raises(ModelFailed):
            await _call(kit, name, reply)
    await kit.close()
    status = "settled" if is_whole else "failed"
    assert _last(tmp_path / "home/ledger.db") == (status, None, None, None, None, None)
    assert _costs(tmp_path / "home/ledger.db") == {name: None}


PRIORITY = {"service_tier": "priority"}
SERVED: dict[str, tuple[str, dict[str, Any], bool]] = {
    "openai_default": ("openai_cached", {"service_tier": "default"}, True),
    "openai_auto": ("openai_cached", {"service_tier": "auto"}, True),
    "openai_null": ("openai_cached", {"service_tier": None}, True),
    "openai_priority": ("openai_cached", PRIORITY, False),
    "openai_flex": ("openai_cached", {"service_tier": "flex"}, False),
    "cerebras_used": ("cerebras", {"service_tier": "auto", "service_tier_used": "priority"}, False),
    "groq_on_demand": ("groq", {"service_tier": "on_demand"}, True),
    "groq_performance": ("groq", {"service_tier": "performance"}, False),
    "anthropic_standard": ("anthropic_read", {"usage": {"speed": "standard", "inference_geo": "global"}}, True),
    "anthropic_priority": ("anthropic_read", {"usage": PRIORITY}, False),
    "anthropic_batch": ("anthropic_read", {"usage": {"service_tier": "batch"}}, False),
    "anthropic_fast": ("anthropic_read", {"usage": {"speed": "fast"}}, False),
    "anthropic_us": ("anthropic_read", {"usage": {"inference_geo": "us"}}, False),
    "gemini_on_demand": ("gemini_cached", {"usageMetadata": {"trafficType": "ON_DEMAND"}}, True),
    "gemini_priority": ("gemini_cached", {"usageMetadata": {"trafficType": "ON_DEMAND_PRIORITY"}}, False),
    "gemini_provisioned": ("gemini_cached", {"usageMetadata": {"trafficType": "PROVISIONED_THROUGHPUT"}}, False),
    "gemini_tier": ("gemini_cached", {"usageMetadata": {"serviceTier": "flex"}}, False),
    "bedrock_default": ("bedrock_5m_write", {"serviceTier": {"type": "default"}}, True),
    "bedrock_priority": ("bedrock_5m_write", {"serviceTier": {"type": "priority"}}, False),
    "bedrock_optimized": ("bedrock_5m_write", {"performanceConfig": {"latency": "optimized"}}, False),
    "stated_priority": ("openrouter_write", PRIORITY, True),  # What the provider says it billed is billed.
}


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
async def test_a_call_at_another_level_of_service_than_the_listed_one_has_no_known_cost_and_keeps_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION_NAME"):
        monkeypatch.setenv(name, "us-east-1")
    config = make_config(make_project(tmp_path / "app", git=False), tmp_path / "home")
    kit, rows = open_kit(config, gateway=LiteLLMGateway({"A_KEY": "sk-none"}.get)), {}
    for case, (name, said, _) in SERVED.items():
        body = body_of(recorded(name))
        within = {key: {**body[key], **more} for key, more in said.items() if isinstance(more, dict) and key in body}
        await _call(kit, name, Reply(raw=_raw(body | said | within)), case)
        rows[case] = _last(tmp_path / "home/ledger.db")
    await kit.close()
    costs = _costs(tmp_path / "home/ledger.db")
    assert {case: costs[case] is not None for case in SERVED} == {case: known for case, (_, _, known) in SERVED.items()}
    assert rows == {case: ("settled", *RECORDED[name][:5]) for case, (name, _, _) in SERVED.items()}
    with closing(sqlite3.connect(tmp_path / "home/ledger.db")) as conn:
        alerts = dict(conn.execute("select task_id, alert from calls where alert is not null"))
    assert alerts.keys() == {case for case, (_, _, known) in SERVED.items() if not known}
    assert "at the service level priority" in alerts["openai_priority"]


async def _call(kit: Kit, name: str, reply: Reply, task_id: str | None = None) -> None:
    fixture, task_id = recorded(name), task_id or name

    def answer(asked: Asked) -> Reply:
        # litellm asks Ollama about the model first; that costs nothing.
        return Reply(raw=b'{"template": "", "details": {}, "model_info": {}}') if "/api/show" in asked.path else reply

    with Upstream(answer) as upstream:
        at_root = fixture["wire"] in ("messages", "converse", "ollama")
        tier = Tier(
            name="cheap", model=fixture["model"], requested_model=fixture["model"], api_key_env="A_KEY",
            base_url=upstream.root_url if at_root else upstream.base_url, max_output_tokens=100, timeout_s=20,
            price=PRICE, scratchpad=False, source="config",
        )  # fmt: skip
        task = Task(task_id=task_id, project=str(kit.config.project), goal="x", created_at=datetime.now(UTC))
        route = Route(route_id=task_id, task_id=task_id, decision="draft", tier="cheap", rule="x", reason="x")
        await kit.ledger.open_task(task)
        await kit.ledger.route(route)
        # Each asks something else, or the breaker would take them for a loop.
        messages = (Message(role="user", content=f"Do {task_id}."),)
        await call_model(kit, route, tier, stage="draft", messages=messages, prompt_id="draft.v1@0")


def _raw(body: dict[str, Any]) -> bytes:
    """The body with its decimals as they were."""
    return json.dumps(body, default=lambda amount: float(amount)).encode()


def _last(ledger: Path) -> tuple[Any, ...]:
    counts = "input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens"
    with closing(sqlite3.connect(ledger)) as conn:
        [row] = conn.execute(f"select status, {counts} from calls order by rowid desc limit 1").fetchall()
    return tuple(row)


def _costs(ledger: Path) -> dict[str, int | None]:
    with closing(sqlite3.connect(ledger)) as conn:
        return dict(conn.execute("select task_id, cost_nanousd from calls").fetchall())
