"""A real engine: llama.cpp on loopback answers through the gateway as any provider would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.gateway import LiteLLMGateway
from mcp_tierkit.types import Message, Request, Usage
from tests.engine import tiny_engine, write_tiny_model
from tests.test_gateway import LITELLM_WARNS

pytest.importorskip("xllamacpp", reason="the xllamacpp wheel is not installed, so there is no engine to ask")
pytest.importorskip("gguf", reason="the gguf package is not installed, so no model can be written")
pytestmark = [pytest.mark.anyio, LITELLM_WARNS]

HOURS_OF_TEXT = 1_000_000


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tiny_engine(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")) as base_url:
        yield base_url


@pytest.fixture
async def gateway(anyio_backend: str) -> AsyncIterator[LiteLLMGateway]:
    gateway = LiteLLMGateway(lambda name: None)
    yield gateway
    await gateway.aclose()


def request(base_url: str, text: str = "hello", max_output_tokens: int = 8, model: str = "openai/tiny") -> Request:
    return Request(
        task_id="t", route_id="r", stage="draft", tier="cheap", model=model, base_url=base_url,
        messages=(Message(role="system", content="You edit code. " * 8), Message(role="user", content=text)),
        max_output_tokens=max_output_tokens, timeout_s=30, prompt_id="p",
    )  # fmt: skip


def test_the_tiny_model_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    one, two = write_tiny_model(tmp_path / "one"), write_tiny_model(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != write_tiny_model(tmp_path / "three", seed=8).read_bytes()


@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm", "lm_studio", "llamafile"])
async def test_an_engine_answers_with_counts_that_add_up(gateway: LiteLLMGateway, engine: str, prefix: str) -> None:
    completion = await gateway.complete(request(engine, f"say {prefix}", model=f"{prefix}/tiny"))
    assert completion.finish == "length"
    assert completion.served_model == "tiny.gguf"
    assert completion.usage.output == 8
    assert (completion.usage.input or 0) + (completion.usage.cached_input or 0) > 100


async def test_an_engine_counts_a_repeated_beginning_as_cached_and_once(gateway: LiteLLMGateway, engine: str) -> None:
    first = await gateway.complete(request(engine, "a question of its own"))
    second = await gateway.complete(request(engine, "a question of its own"))
    assert first.usage.input is not None
    assert first.usage.cached_input is not None
    whole = first.usage.input + first.usage.cached_input
    assert second.usage == Usage(input=1, cached_input=whole - 1, cache_write=0, output=8)


async def test_a_prompt_longer_than_the_engines_context_is_told_as_such(gateway: LiteLLMGateway, engine: str) -> None:
    with pytest.raises(ModelFailed) as caught:
        await gateway.complete(request(engine, "x" * 40_000))
    assert (caught.value.kind, caught.value.status) == ("context_window", 400)


async def test_a_cancelled_call_frees_the_engine(gateway: LiteLLMGateway, engine: str) -> None:
    """The engine has one slot: if the first call still ran, the second would outlive its time limit."""
    with anyio.move_on_after(0.3) as scope:
        await gateway.complete(request(engine, max_output_tokens=HOURS_OF_TEXT))
    assert scope.cancelled_caught
    with anyio.fail_after(60):
        await gateway.complete(request(engine, "next"))
