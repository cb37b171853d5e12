"""Local engines: found by what they answer, on this machine only, and silence costs no time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mcp_tierkit.config import load_config
from mcp_tierkit.engines import Engine, find_engines
from mcp_tierkit.prices import LOCAL_PRICE
from mcp_tierkit.providers import Endpoint, known
from mcp_tierkit.tiers import survey
from tests.engine import tiny_engine, write_tiny_model
from tests.support import comes_true

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def server(answers: dict[str, bytes], *, silent: list[str] | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """A server on a free port that answers pages with whole responses, and the request lines it saw.

    A silent one answers nothing, and tells `silent` when it is asked and when whoever asked has left.
    """
    seen: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.splitlines()[0])
        if silent is None:
            writer.write(answers.get(head.split()[1], b"HTTP/1.1 404 Not Found\r\n\r\n"))
            await writer.drain()
        else:
            silent.append("asked")
            await reader.read()
            silent.append("left")
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], seen
    finally:
        listening.close()


def page(body: object, *, status: str = "200 OK", with_length: bool = True) -> bytes:
    data = json.dumps(body).encode()
    length = f"Content-Length: {len(data)}\r\n" if with_length else ""
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{length}\r\n".encode() + data


def at(port: int, *paths: str, name: str = "engine") -> Endpoint:
    return Endpoint(name=name, port=port, paths=paths or ("/v1/models",))


async def test_an_engine_is_found_with_its_models_in_order() -> None:
    async with server({"/v1/models": page({"object": "list", "data": [{"id": "b"}, {"id": "a"}, {"id": "b"}]})}) as (
        port,
        _,
    ):
        assert await find_engines([at(port)]) == (
            Engine(name="engine", base_url=f"http://127.0.0.1:{port}/v1", models=("b", "a")),
        )


async def test_ollamas_own_page_is_asked_where_the_common_one_lists_nothing() -> None:
    answers = {
        "/v1/models": page({"data": []}),
        "/api/tags": page({"models": [{"name": "qwen3:8b"}]}, with_length=False),
    }
    async with server(answers) as (port, seen):
        (engine,) = await find_engines([at(port, "/v1/models", "/api/tags")])
        assert engine.models == ("qwen3:8b",)
        assert seen == ["GET /v1/models HTTP/1.0", "GET /api/tags HTTP/1.0"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>a web app</html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_100_000,
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe",
        b"x" * 1_100_000,
        page([{"id": "x"}]),
        page({"data": [{"id": "x"}], "more": "x" * 1_100_000}),
        page({"data": "x"}),
        page({"data": [1, {"id": 3}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 500}, {}]}),
        page({"data": [{"id": "x"}]}, status="503 Loading"),
        page({"data": [{"id": "x"}]}, status="401 Unauthorized"),
    ],
)
async def test_another_program_on_the_port_is_no_engine_and_no_error(answer: bytes) -> None:
    async with server({"/v1/models": answer}) as (port, _):
        assert await find_engines([at(port)]) == ()


async def test_odd_names_are_left_out_and_the_good_ones_kept() -> None:
    async with server({"/v1/models": page({"data": [{"id": "ignore\nall"}, {"id": "org/model-Q4_K_M.gguf"}]})}) as (
        port,
        _,
    ):
        (engine,) = await find_engines([at(port)])
        assert engine.models == ("org/model-Q4_K_M.gguf",)


async def test_a_closed_port_is_no_engine() -> None:
    async with server({}) as (port, _):
        pass
    assert await find_engines([at(port)]) == ()


async def test_silent_engines_are_asked_at_once_and_given_up_together() -> None:
    good = {"/v1/models": page({"data": [{"id": "m"}]})}
    told: list[str] = []
    async with server({}, silent=told) as (one, _), server({}, silent=told) as (two, _), server(good) as (three, _):
        found = await find_engines([at(one), at(two), at(three, name="third")])
        assert [engine.name for engine in found] == ["third"]
        assert await comes_true(lambda: len(told) == 4)
    assert told == ["asked", "asked", "left", "left"]


async def test_a_real_llama_cpp_is_found_and_becomes_a_free_tier(tmp_path: Path) -> None:
    with tiny_engine(write_tiny_model(tmp_path / "tiny.gguf")) as address:
        port = urlsplit(address).port
        assert port is not None
        (engine,) = await find_engines([at(port, name="llama.cpp")])
    assert engine.base_url == f"http://127.0.0.1:{port}/v1"
    assert len(engine.models) == 1
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    config = load_config(project=str(tmp_path / "work"), env={"HOME": str(tmp_path / "home")})
    cheap = survey(config, [engine]).tiers["cheap"]
    assert (cheap.model, cheap.price) == (f"openai/{engine.models[0]}", LOCAL_PRICE)


async def test_every_known_engine_is_asked_on_a_fixed_port_and_nowhere_but_here() -> None:
    assert {endpoint.name: endpoint.port for endpoint in known().engine} == {
        "llama.cpp": 8080, "Ollama": 11434, "LM Studio": 1234, "vLLM": 8000,
    }  # fmt: skip
    for engine in await find_engines():
        assert engine.base_url.startswith("http://127.0.0.1:")
