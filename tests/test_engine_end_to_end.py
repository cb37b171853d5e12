"""A model server on this machine, found and used as a tier: llama.cpp answers a draft in random words, for nothing."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mcp_tierkit.config import Config, load_config
from mcp_tierkit.providers import Endpoint, known
from tests.engine import tiny_engine, write_tiny_model
from tests.support import JOB, client_at, make_project, snapshot
from tests.test_gateway import LITELLM_WARNS

pytest.importorskip("xllamacpp", reason="the xllamacpp wheel is not installed, so there is no engine to ask")
pytest.importorskip("gguf", reason="the gguf package is not installed, so no model can be written")
pytestmark = [pytest.mark.anyio, LITELLM_WARNS]
CALLS = (
    "select stage, tier, status, served_model, input_tokens, cached_tokens, output_tokens, cost_nanousd from call_log"
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tiny_engine(
        write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", terse=True), ends=True
    ) as base_url:
        yield base_url


@pytest.fixture
def listening(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine stands on llama.cpp's own port, as far as we know: a free one is used in its stead."""
    port = urlsplit(engine).port
    assert port is not None
    found = Endpoint(name="llama.cpp", port=port, paths=("/v1/models",))
    monkeypatch.setattr("mcp_tierkit.engines.known", lambda: known().model_copy(update={"engine": (found,)}))


def user(tmp_path: Path, toml: str = "") -> Config:
    """A project, and a user with no key."""
    project = make_project(tmp_path / "app")
    settings = tmp_path / "home/.config/tierkit/tierkit.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(toml)
    return load_config(project=str(project), env={"HOME": str(tmp_path / "home")})


async def drafted(config: Config, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The reply to a draft over MCP, and its calls as the ledger shows them."""
    async with client_at(config) as client:
        result = await client.call_tool("draft_with_cheap_model", arguments)
    assert not result.is_error, result.content
    with closing(sqlite3.connect(config.ledger_url.removeprefix("sqlite://"))) as conn:
        conn.row_factory = sqlite3.Row
        return result.structured_content or {}, [dict(row) for row in conn.execute(f"{CALLS} order by at")]


def check_calls(reply: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    """All calls metered, for nothing, and with the name that the engine gave. Where a random model stops is chance."""
    assert {(call["tier"], call["status"]) for call in calls} == {("cheap", "settled")}
    stages = [call["stage"] for call in calls]
    assert stages[0] == "draft"
    assert "repair" in stages
    assert set(stages) <= {"draft", "repair", "continue"}
    assert len(stages) <= 3
    for call in calls:
        assert call["input_tokens"] + call["cached_tokens"] > 1000
        assert call["output_tokens"] > 0
        assert call["cost_nanousd"] == 0
        assert call["served_model"] == "tiny.gguf"
    measured = reply["receipt"]["measured"]
    read = sum(call["input_tokens"] + call["cached_tokens"] for call in calls)
    assert measured["tokens"] == [read, sum(call["output_tokens"] for call in calls)]
    assert measured["usd"] == "0"
    [attempts] = reply["attempts"]
    assert attempts.startswith("cheap tiny.gguf: ")
    assert attempts.endswith(" $0")
    assert attempts.count(",") == len(calls) - 1


async def test_an_engine_found_on_loopback_drafts_without_a_key_or_a_setting(
    tmp_path: Path, listening: None
) -> None:  # G19
    config = user(tmp_path)
    before = snapshot(config.project)
    reply, calls = await drafted(config, JOB)
    assert reply["status"] in ("rejected", "needs_work"), reply
    check_calls(reply, calls)
    assert snapshot(config.project) == before


async def test_an_engine_named_in_the_settings_is_a_tier_as_any_other(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # G19
    monkeypatch.setattr("mcp_tierkit.engines.known", lambda: known().model_copy(update={"engine": ()}))
    toml = f'[tiers.cheap]\nmodels = ["openai/whatever"]\nbase_url = "{engine}"\nmax_output_tokens = 40\n'
    config = user(tmp_path, toml)
    reply, calls = await drafted(config, JOB)
    assert reply["status"] in ("rejected", "needs_work"), reply
    check_calls(reply, calls)
    assert max(call["output_tokens"] for call in calls) <= 40


async def test_an_engine_that_is_gone_is_a_failed_call_of_no_cost(tmp_path: Path) -> None:  # G19
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    toml = f'[tiers.cheap]\nmodels = ["openai/whatever"]\nbase_url = "http://127.0.0.1:{port}/v1"\n'
    reply, calls = await drafted(user(tmp_path, toml), {k: JOB[k] for k in ("task", "files")})
    assert reply["status"] == "needs_work"
    assert "could not be reached" in reply["summary"]
    assert reply["attempts"] == ["cheap openai/whatever: failed $0"]
    assert [(call["status"], call["cost_nanousd"]) for call in calls] == [("failed", 0)]
