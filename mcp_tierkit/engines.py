"""Model servers on this machine: who answers on the usual loopback ports, and with which models."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mcp_tierkit.providers import Endpoint, known
from mcp_tierkit.tiers import Engine, is_loopback

__all__ = ["Engine", "find_engines", "is_listening"]

HOST = "127.0.0.1"
CONNECT_S = 0.3
ANSWER_S = 1.5
_MAX_HEAD = 16_384
_MAX_BYTES = 1_000_000
_MAX_MODELS = 200
_NAME = re.compile(r"[\w./:@+\- ()]{1,200}")


async def find_engines(endpoints: Sequence[Endpoint] | None = None) -> tuple[Engine, ...]:
    """Engines that answer on 127.0.0.1, in the order of `endpoints` (default: the known ones).

    All are asked at once; silence, refusal and nonsense all mean that there is no engine. Nothing
    but this machine is asked.
    """
    asked = known().engine if endpoints is None else endpoints
    found = await asyncio.gather(*(_ask(endpoint) for endpoint in asked))
    return tuple(engine for engine in found if engine is not None)


async def is_listening(base_url: str) -> bool | None:
    """Whether something accepts connections there; None for an address of another machine, which is not asked."""
    if not is_loopback(base_url):
        return None
    parts = urlsplit(base_url)
    try:
        async with asyncio.timeout(ANSWER_S):
            port = parts.port or (443 if parts.scheme == "https" else 80)
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, ValueError):
        return False
    writer.close()
    return True


async def _ask(endpoint: Endpoint) -> Engine | None:
    for path in endpoint.paths:
        models = await _models_at(endpoint.port, path)
        if models:
            return Engine(name=endpoint.name, base_url=f"http://{HOST}:{endpoint.port}/v1", models=models)
    return None


async def _models_at(port: int, path: str) -> tuple[str, ...]:
    try:
        async with asyncio.timeout(ANSWER_S):
            return _names(await _get(port, path))
    except (OSError, ValueError, EOFError, RecursionError, asyncio.LimitOverrunError):
        return ()


async def _get(port: int, path: str) -> Any:
    """The JSON that a page answers with. HTTP/1.0, so that the body ends where the connection does."""
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(HOST, port, limit=_MAX_HEAD)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\nAccept: application/json\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if not re.match(rb"HTTP/1\.[01] 200 ", head):
            raise ValueError("not a page with models")
        return json.loads(await _body(reader, head))
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The body up to its stated length or the end; servers that keep the connection open state one."""
    stated = re.search(rb"\r\ncontent-length:\s*(\d{1,9})\r\n", head, re.IGNORECASE)
    if stated:
        size = int(stated[1])
        if size > _MAX_BYTES:
            raise ValueError("more than a list of models")
        return await reader.readexactly(size)
    data = b""
    while chunk := await reader.read(65_536):
        data += chunk
        if len(data) > _MAX_BYTES:
            raise ValueError("more than a list of models")
    return data


def _names(page: Any) -> tuple[str, ...]:
    """Model names out of OpenAI's `data[].id` or Ollama's `models[].name`."""
    if not isinstance(page, dict):
        return ()
    listed = page.get("data") if isinstance(page.get("data"), list) else page.get("models")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    names = (entry.get("id") or entry.get("name") for entry in entries)
    valid = (name for name in names if isinstance(name, str) and _NAME.fullmatch(name))
    return tuple(dict.fromkeys(valid))[:_MAX_MODELS]
