"""One launcher, watched from the event loop: its streams, its answer, and its end at the latest."""

from __future__ import annotations

import asyncio
import marshal
import os
import sys
import tempfile
import time
from typing import IO, Any

import anyio

from mcp_tierkit.sandbox.records import Ran
from mcp_tierkit.types import Content

BOOT = """
import marshal, sys
with open(int(sys.argv.pop()), "rb") as given:
    code, order = marshal.load(given)
exec(code)
main(order)
"""
GRACE_S = 2.0
ANSWER_BYTES = 80_000_000


async def supervise(order: bytes, stdin: bytes, timeout_s: float, output_bytes: int) -> Ran:
    """Start a launcher with its order, and wait for its end.

    Shielded: a cancelled caller waits until the last process is gone, and only then sees the cancellation.
    """
    supervision = Supervision(output_bytes)
    work = asyncio.ensure_future(supervision.drive(order, stdin, timeout_s))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        supervision.stop("cancelled")
        with anyio.CancelScope(shield=True):
            while not work.done():
                try:
                    await asyncio.wait([work])
                except asyncio.CancelledError:
                    continue
        if not work.cancelled():
            work.exception()
        raise


class Capped:
    """The head and the tail of a stream, whatever its length."""

    def __init__(self, limit: int) -> None:
        self.half = max(1, limit // 2)
        self.limit = limit
        self.head, self.tail, self.total = bytearray(), bytearray(), 0

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = self.half - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[max(room, 0) :]
        if len(self.tail) > 2 * self.half + 65536:
            del self.tail[: -self.half]

    @property
    def is_over(self) -> bool:
        return self.total > self.limit

    def value(self) -> bytes:
        if not self.is_over:
            return bytes(self.head + self.tail)
        left_out = self.total - len(self.head) - min(len(self.tail), self.half)
        return bytes(self.head) + f"\n[{left_out} bytes left out]\n".encode() + bytes(self.tail[-self.half :])


class Supervision(asyncio.SubprocessProtocol):
    """One launcher, seen from the event loop."""

    def __init__(self, output_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.streams = {1: Capped(output_bytes), 2: Capped(output_bytes)}
        self.both = Capped(2 * output_bytes)
        self.stopped: asyncio.Future[str] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.streams[fd].add(data)
        self.both.add(data)
        if self.streams[fd].is_over:
            self.stop("output_limit")

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def stop(self, reason: str) -> None:
        if not self.stopped.done():
            self.stopped.set_result(reason)

    async def drive(self, order: bytes, stdin: bytes, timeout_s: float) -> Ran:
        started = time.monotonic()
        life_theirs, life = os.pipe()
        answer_ours, answer_theirs = os.pipe()
        with memory_file(order) as spec, memory_file(stdin) as given:
            fds = (life_theirs, answer_theirs, spec.fileno())
            # On the loop's own thread: the kernel's signal for a dead parent is for the thread that forked.
            try:
                transport, _ = await asyncio.get_running_loop().subprocess_exec(
                    lambda: self, sys.executable, "-I", "-S", "-c", BOOT, *map(str, fds),
                    stdin=given, pass_fds=fds, env={}, cwd="/", start_new_session=True,
                )  # fmt: skip
            except BaseException:
                os.close(life)
                os.close(answer_ours)
                raise
            finally:
                os.close(life_theirs)
                os.close(answer_theirs)
        answer = Answer()
        listening, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: answer, os.fdopen(answer_ours, "rb"))
        try:
            ending = await self.wait(transport, life, timeout_s - (time.monotonic() - started))
            await asyncio.wait([answer.complete, self.closed], timeout=GRACE_S)
        finally:
            os.close(life)
            listening.close()
            transport.close()
        return self.result(ending, answer.read(), round((time.monotonic() - started) * 1000))

    async def wait(self, transport: asyncio.SubprocessTransport, life: int, timeout_s: float) -> str:
        either: list[asyncio.Future[Any]] = [self.exited, self.stopped]
        await asyncio.wait(either, timeout=max(0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
        if not self.exited.done():
            self.stop("timeout")
            os.write(life, b"t")
            await asyncio.wait([self.exited], timeout=GRACE_S + 1.5)
        if not self.exited.done():
            transport.kill()
            await asyncio.wait([self.exited], timeout=GRACE_S)
        return self.stopped.result() if self.stopped.done() else "exited"

    def result(self, ending: str, answer: dict[str, Any], duration_ms: int) -> Ran:
        ran = Ran(
            ending="exited",
            stdout=self.streams[1].value(),
            stderr=self.streams[2].value(),
            output=self.both.value(),
            truncated=any(stream.is_over for stream in self.streams.values()),
            duration_ms=duration_ms,
        )
        if ending == "exited" and not ran.truncated:
            return ran.model_copy(update=_told(answer, ran.stderr))
        return ran.model_copy(update={"ending": "output_limit" if ran.truncated else "timeout"})


def _told(answer: dict[str, Any], stderr: bytes) -> dict[str, Any]:
    """What the launcher's answer adds to a run that came to its own end."""
    if answer.get("code") is None:
        answer = {"failed": "lost", "why": "the launcher ended without a word", **answer}
    if "failed" in answer:
        ending = "not_found" if answer["failed"] == "not_found" else "unconfined"
        return {"ending": ending, "stderr": stderr + str(answer["why"]).encode(errors="replace")}
    changes = {
        path: None if data is None else Content(data=data, mode=mode) for path, data, mode in answer.get("changes", ())
    }
    return {"exit_code": answer["code"], "changes": changes, "refused": tuple(answer.get("refused", ()))}


class Answer(asyncio.Protocol):
    """What the launcher says at the end."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if len(self.received) < ANSWER_BYTES:
            self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.complete.done():
            self.complete.set_result(None)

    def read(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = marshal.loads(bytes(self.received))
        except (EOFError, ValueError, TypeError):
            return {}
        return answer


def memory_file(content: bytes) -> IO[bytes]:
    """An unnamed file that holds this, read from its start."""
    if hasattr(os, "memfd_create"):
        opened: IO[bytes] = os.fdopen(os.memfd_create("tierkit"), "w+b")
    else:
        opened = tempfile.TemporaryFile()  # noqa: SIM115
    opened.write(content)
    opened.seek(0)
    return opened
