"""A model provider on loopback: answers from a script, misbehaves on request, and keeps its own account of it all.

Speaks the OpenAI chat and Anthropic Messages wires, streamed and not. The demo and the tests call it as any other
provider, and its log lets a third party price what was used without asking us.

Unless a reply says otherwise, tokens follow one rule: UTF-8 bytes over four, rounded up, for each message and for the
answer. Bytes that begin an earlier request to the same model count as cached (rounded down) once `caches` is on.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from mcp_tierkit.types import Record

Wire = Literal["openai", "anthropic", "other"]


class Tokens(Record):
    """What a reply says it used, in four buckets that never overlap; `reasoning` is a part of `output`."""

    fresh: int
    cached: int = 0
    written: int = 0
    output: int
    reasoning: int = 0


class Asked(Record):
    """A request as it arrived. It holds no key and, unless texts are kept, no words of the prompt."""

    number: int
    path: str
    wire: Wire
    model: str | None
    is_stream: bool = False
    max_tokens: int | None = None
    key_digest: str | None = None
    prompt_digest: str = ""
    prompt_bytes: int = 0
    marked_blocks: int = 0
    body: dict[str, Any] | None = None


class Served(Record):
    """How a request ended. `status` is None where the client left, or the answer was cut, before a full answer."""

    asked: Asked
    status: int | None
    served_model: str | None = None
    tokens: Tokens | None = None
    client_left: bool = False


class Reply(Record):
    """One answer. The fields past `cost_usd` are ways to go wrong, or to wait."""

    text: str = "ok"
    finish: Literal["stop", "length", "filter"] = "stop"
    model: str | None = None
    tokens: Tokens | Literal["by_rule", "unsaid"] = "by_rule"
    cost_usd: str | None = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None
    cut_after: int | None = None
    hold: str | None = None
    after_requests: int = 0
    wait_s: float = 0


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Script = Callable[[Asked], Reply | str] | Iterable[Reply | str]


class Upstream:
    """The provider, run in a thread of its own from `with` until its end.

    `script` is a list of replies used up in order, then errors, or a function of the request.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        log: Path | None = None,
        keeps_text: bool = False,
        caches: bool = False,
        models: tuple[str, ...] = ("demo-small",),
    ) -> None:
        self._next = script if callable(script) else _in_order(script)
        self._log, self._keeps_text, self._caches, self._models = log, keeps_text, caches, models
        self._asked: list[Asked] = []
        self._served: list[Served] = []
        self._prompts: dict[str, list[list[bytes]]] = {}
        self._changed = threading.Condition()
        self._open: set[str] = set()
        self._port = 0

    @property
    def base_url(self) -> str:
        """The address that OpenAI clients want."""
        return f"{self.root_url}/v1"

    @property
    def root_url(self) -> str:
        """The address that Anthropic clients want."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def asked(self) -> tuple[Asked, ...]:
        with self._changed:
            return tuple(self._asked)

    @property
    def served(self) -> tuple[Served, ...]:
        with self._changed:
            return tuple(self._served)

    def release(self, hold: str) -> None:
        """Let go every reply held under that name, now and from now on."""
        with self._changed:
            self._open.add(hold)
            self._changed.notify_all()
        self._loop.call_soon_threadsafe(self._wake)

    def wait_asked(self, count: int, timeout_s: float = 60) -> tuple[Asked, ...]:
        """The requests, once there are that many. Blocks; raises TimeoutError."""
        self._wait(lambda: len(self._asked) >= count, timeout_s)
        return self.asked

    def wait_served(self, count: int, timeout_s: float = 60) -> tuple[Served, ...]:
        """The ended requests, once there are that many. Blocks; raises TimeoutError."""
        self._wait(lambda: len(self._served) >= count, timeout_s)
        return self.served

    def _wait(self, is_met: Callable[[], bool], timeout_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(is_met, timeout_s):
                raise TimeoutError(f"{len(self._asked)} requests came and {len(self._served)} ended")

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), name="upstream", daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._stirred = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        transports: set[asyncio.Transport] = set()
        server = await self._loop.create_server(lambda: _Connection(self._connected, transports), "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        # A connection accepted just now would be stranded by `close`, so its turn comes first.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        await _turns()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in transports:
            transport.abort()
        await _turns()  # Sockets close on a later turn of the loop.

    def _wake(self) -> None:
        stirred, self._stirred = self._stirred, asyncio.Event()
        stirred.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client or the test has gone; what there is to say is in the log.
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path, headers = await _read_head(reader)
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        if method == "GET":
            names = [{"id": name, "object": "model"} for name in self._models]
            writer.write(_http(200, (), json.dumps({"object": "list", "data": names}).encode()))
            await writer.drain()
            return
        asked, prompt = self._note(path, headers, raw)
        try:
            reply = self._next(asked)
        except StopIteration:
            reply = Reply(status=500, raw=b'{"error": {"message": "the script has no reply left"}}')
        reply = Reply(text=reply) if isinstance(reply, str) else reply
        has_left = asyncio.create_task(reader.read(1))
        try:
            await self._answer(asked, reply, prompt, writer, has_left)
        finally:
            has_left.cancel()

    async def _answer(
        self, asked: Asked, reply: Reply, prompt: list[bytes], writer: asyncio.StreamWriter, left: asyncio.Task[bytes]
    ) -> None:
        ready = asyncio.create_task(self._until_due(reply))
        await asyncio.wait({ready, left}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self._end(Served(asked=asked, status=None, client_left=True))
            return
        tokens = self._count(asked, reply, prompt)
        content, body = _render(asked, reply, tokens)
        whole = _http(reply.status, (("content-type", content), *reply.headers), body)
        is_cut = reply.cut_after is not None
        writer.write(whole[: len(whole) - len(body) + (reply.cut_after or 0)] if is_cut else whole)
        with suppress(ConnectionError):
            await writer.drain()
        is_ok = reply.status == 200 and not is_cut and reply.raw is None
        self._end(
            Served(
                asked=asked,
                status=None if is_cut else reply.status,
                served_model=(reply.model or asked.model) if is_ok else None,
                tokens=tokens if is_ok else None,
            )
        )

    async def _until_due(self, reply: Reply) -> None:
        if reply.wait_s:
            await asyncio.sleep(reply.wait_s)
        while (reply.hold and reply.hold not in self._open) or len(self._asked) < reply.after_requests:
            await self._stirred.wait()

    def _note(self, path: str, headers: dict[str, str], raw: bytes) -> tuple[Asked, list[bytes]]:
        body = _object(raw)
        blocks = _blocks(body)
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        wire: Wire = "other"
        if path.endswith("/chat/completions"):
            wire = "openai"
        elif path.endswith("/messages"):
            wire = "anthropic"
        prompt = [text for text, _ in blocks]
        asked = Asked(
            number=len(self._asked) + 1,
            path=path,
            wire=wire,
            model=body.get("model"),
            is_stream=body.get("stream") is True,
            max_tokens=body.get("max_tokens") or body.get("max_completion_tokens"),
            key_digest=hashlib.sha256(key.encode()).hexdigest()[:12] if key else None,
            prompt_digest=hashlib.sha256(b"\0".join(prompt)).hexdigest()[:12],
            prompt_bytes=sum(map(len, prompt)),
            marked_blocks=sum(marked for _, marked in blocks),
            body=body if self._keeps_text else None,
        )
        with self._changed:
            self._asked.append(asked)
            self._changed.notify_all()
        self._wake()
        return asked, prompt

    def _count(self, asked: Asked, reply: Reply, prompt: list[bytes]) -> Tokens | None:
        if isinstance(reply.tokens, Tokens):
            return reply.tokens
        if reply.tokens == "unsaid":
            return None
        whole = sum(map(rule, prompt))
        output = rule(reply.text.encode())
        if not self._caches:
            return Tokens(fresh=whole, output=output)
        earlier = self._prompts.setdefault(f"{asked.wire} {asked.model}", [])
        cached = min(whole, max((_shared(prompt, other) for other in earlier), default=0) // 4)
        earlier.append(prompt)
        written = whole - cached if asked.wire == "anthropic" and asked.marked_blocks else 0
        return Tokens(fresh=whole - cached - written, cached=cached, written=written, output=output)

    def _end(self, served: Served) -> None:
        with self._changed:
            self._served.append(served)
            if self._log is not None:
                with self._log.open("a", encoding="utf-8") as log:
                    log.write(served.model_dump_json() + "\n")
            self._changed.notify_all()


class _Connection(asyncio.StreamReaderProtocol):
    """A connection that is known from its first moment, so that none outlives the server."""

    def __init__(self, serve: Handler, known: set[asyncio.Transport]) -> None:
        super().__init__(asyncio.StreamReader(limit=64 * 1024 * 1024), serve)
        self._known = known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._known.add(transport)
        super().connection_made(transport)


async def _turns() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def rule(text: bytes) -> int:
    """Tokens of a text by this provider's rule: bytes over four, rounded up."""
    return -(-len(text) // 4)


def _in_order(replies: Iterable[Reply | str]) -> Callable[[Asked], Reply | str]:
    left = iter(replies)
    return lambda asked: next(left)


def _object(raw: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        body = json.loads(raw)
        return body if isinstance(body, dict) else {}
    return {}


def _blocks(body: dict[str, Any]) -> list[tuple[bytes, bool]]:
    """Each text of the prompt in the order sent, and whether it carries a cache mark."""
    contents = [body["system"]] if body.get("system") else []
    contents += [message.get("content") for message in body.get("messages", ())]
    blocks: list[tuple[bytes, bool]] = []
    for content in contents:
        for block in [content] if isinstance(content, str) else content or ():
            text = block if isinstance(block, str) else str(block.get("text", ""))
            blocks.append((text.encode(), isinstance(block, dict) and "cache_control" in block))
    return blocks


def _shared(one: list[bytes], other: list[bytes]) -> int:
    """Bytes at the start that both prompts have."""
    first, second = b"\0".join(one), b"\0".join(other)
    for at, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return at
    return min(len(first), len(second))


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in rest)
    return method, path.partition("?")[0], {name.lower(): value.strip() for name, _, value in pairs}


def _http(status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unusual"
    lines = [f"HTTP/1.1 {status} {phrase}", "connection: close", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _render(asked: Asked, reply: Reply, tokens: Tokens | None) -> tuple[str, bytes]:
    if reply.raw is not None:
        return "application/json", reply.raw
    if reply.status != 200:
        error = {"type": "scripted_error", "message": "scripted failure", "code": None}
        return "application/json", json.dumps({"type": "error", "error": error}).encode()
    if asked.wire == "openai":
        whole = _openai(asked, reply, tokens)
        events = _openai_events(whole)
    elif asked.wire == "anthropic":
        whole = _anthropic(asked, reply, tokens)
        events = _anthropic_events(whole)
    else:
        return "application/json", b'{"error": {"message": "no such path"}}'
    if asked.is_stream:
        return "text/event-stream", b"".join(events)
    return "application/json", json.dumps(whole).encode()


def _openai(asked: Asked, reply: Reply, tokens: Tokens | None) -> dict[str, Any]:
    finish = {"stop": "stop", "length": "length", "filter": "content_filter"}[reply.finish]
    message = {"role": "assistant", "content": reply.text}
    body: dict[str, Any] = {
        "id": f"chatcmpl-{asked.number}",
        "object": "chat.completion",
        "created": 0,
        "model": reply.model or asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if tokens is not None:
        prompt = tokens.fresh + tokens.cached + tokens.written
        body["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": tokens.output,
            "total_tokens": prompt + tokens.output,
            "prompt_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
            "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
        }
        if reply.cost_usd is not None:
            body["usage"]["cost"] = json.loads(reply.cost_usd)
    return body


def _openai_events(whole: dict[str, Any]) -> list[bytes]:
    choice = whole["choices"][0]
    base = {**whole, "object": "chat.completion.chunk"}
    usage = base.pop("usage", None)
    chunks = [
        {**base, "choices": [{"index": 0, "delta": choice["message"], "finish_reason": None}]},
        {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]},
        *([{**base, "choices": [], "usage": usage}] if usage else []),
    ]
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def _anthropic(asked: Asked, reply: Reply, tokens: Tokens | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": f"msg_{asked.number}",
        "type": "message",
        "role": "assistant",
        "model": reply.model or asked.model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": {"stop": "end_turn", "length": "max_tokens", "filter": "refusal"}[reply.finish],
        "stop_sequence": None,
    }
    if tokens is not None:
        body["usage"] = {
            "input_tokens": tokens.fresh,
            "cache_creation_input_tokens": tokens.written,
            "cache_read_input_tokens": tokens.cached,
            "output_tokens": tokens.output,
        }
    return body


def _anthropic_events(whole: dict[str, Any]) -> list[bytes]:
    text = whole["content"][0]["text"]
    usage = whole.get("usage", {})
    opening = {**whole, "content": [], "stop_reason": None}
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": opening},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": usage.get("output_tokens", 0)}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
