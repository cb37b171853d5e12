"""A loopback proxy that adds one header, for a client that cannot send a bearer token itself."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

DROPPED = (b"authorization:", b"connection:")


class BearerProxy:
    """Everything but `Authorization` and `Connection` passes untouched, `Host` and `Origin` too.

    It opens before the server it stands for, since that server must be told this address: `forward` names the server.
    """

    def __init__(self) -> None:
        self.port = 0
        self._target = 0
        self._added = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def forward(self, port: int, token: str) -> None:
        self._target = port
        # One request a connection: what follows the first head is then its body and nothing else.
        self._added = f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode()

    def __enter__(self) -> Self:
        is_open = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(is_open)), name="proxy", daemon=True)
        self._thread.start()
        is_open.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self, is_open: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_open.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._pass_on(reader, writer)
        writer.transport.abort() if task.cancelling() else writer.close()
        self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(DROPPED)]
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [asyncio.create_task(_pump(reader, to_writer)), asyncio.create_task(_pump(to_reader, writer))]
        try:
            to_writer.write(b"\r\n".join(lines) + b"\r\n" + self._added)
            # Either side's end ends both: a client that leaves must look like one to the server.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
