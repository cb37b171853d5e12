"""One call, one request: a transport that sends once, keeps the reply as it came, and refuses every further attempt.

Client libraries retry in places that no setting reaches: after a lost connection, after a 422, along a redirect.
Each attempt may be charged, so the limit sits where the bytes leave. Imports httpx: load it inside functions only.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import httpx
from anyio.lowlevel import checkpoint

from mcp_tierkit.failures import Break, Trouble
from mcp_tierkit.usage import read_body

MAX_REPLY_BYTES = 32 * 1024 * 1024
_BEFORE_SENDING = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol,
)  # fmt: skip


class SecondRequestError(Exception):
    """A library tried to send more than the one request it was given."""


class OneRequest(httpx.AsyncBaseTransport):
    """Sends the first request through `pool` and remembers what came back, and when.

    `on_sending` is awaited as it sets out: what a library does before that is no time of the model's. Where it raises,
    nothing is sent, then or later.
    """

    def __init__(self, pool: httpx.AsyncClient, on_sending: Callable[[], Awaitable[None]] = checkpoint) -> None:
        self._pool = pool
        self._on_sending = on_sending
        self._is_used = False
        self.took_ms: int | None = None
        self.was_sent = False
        self.refused = 0
        self.status: int | None = None
        self.broke: Break | None = None
        self.body = b""
        self._retry_after = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._is_used:
            self.refused += 1
            raise SecondRequestError("a call sends one request")
        self._is_used = True
        await self._on_sending()
        self.was_sent = True
        sent_at = time.monotonic()
        try:
            return await self._send(request)
        except _BEFORE_SENDING:
            self.broke = "unreachable"
            raise
        except httpx.TimeoutException:
            self.broke = "timeout"
            raise
        except httpx.TransportError:
            self.broke = "cut"
            raise
        except httpx.DecodingError:
            self.broke = "unreadable"
            raise
        finally:
            self.took_ms = round((time.monotonic() - sent_at) * 1000)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        response = await self._pool.send(request, stream=True, follow_redirects=False)
        try:
            self.status = response.status_code
            self._retry_after = response.headers.get("retry-after", "")
            chunks = bytearray()
            async for chunk in response.aiter_bytes():
                chunks += chunk
                if len(chunks) > MAX_REPLY_BYTES:
                    raise httpx.DecodingError("the reply is too large", request=request)
            self.body = bytes(chunks)
        finally:
            await response.aclose()
        headers = [(k, v) for k, v in response.headers.multi_items() if k not in _OF_THE_ENCODING]
        return httpx.Response(self.status, headers=headers, content=self.body, request=request)

    async def aclose(self) -> None:
        """Nothing to close: the pool outlives the call."""

    def trouble(self) -> Trouble:
        """What was seen, for telling why a call failed."""
        said = self._retry_after[:9]
        wait = int(said) if said.isascii() and said.isdigit() else None
        return Trouble(
            was_sent=self.was_sent, status=self.status, broke=self.broke, body=read_body(self.body),
            retry_after_s=min(wait, 86_400) if wait else None,
        )  # fmt: skip


_OF_THE_ENCODING = frozenset({"content-encoding", "content-length", "transfer-encoding"})
