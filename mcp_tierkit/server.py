"""The MCP door: six tools with lean replies over stdio and streamable HTTP. It translates and decides nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent, ToolAnnotations

from mcp_tierkit import __version__
from mcp_tierkit.config import Config
from mcp_tierkit.errors import InvalidInput, TierkitError
from mcp_tierkit.web import App, Gatekeeper, http_token

if TYPE_CHECKING:
    from mcp_tierkit.desk import Desk
    from mcp_tierkit.jobs import Reply

log = logging.getLogger("mcp_tierkit")
CONTRACT: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "tools.json").read_text("utf8"))


OPEN_AFTER_S = 1.0  # the desk takes a while to load; a client's first tools/list goes before it
CALLS = {
    "plan_task": ("PlanCall", "plan_task"),
    "draft_with_cheap_model": ("DraftCall", "draft"),
    "review_diff": ("ReviewCall", "review"),
    "run_playbook": ("PlaybookCall", "run_playbook"),
    "get_task": ("TaskCall", "get_task"),
    "record_outcome": ("OutcomeCall", "record_outcome"),
}
"""Each tool's record in `calls` and its method of the desk."""

FindDesk = Callable[[], Awaitable["Desk"]]


class DeskTool(Tool):
    """A tool whose arguments are one of our records and whose every answer is ours, errors included."""

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        try:
            reply = await self.fn(arguments, context)
        except TierkitError as error:
            text = str(error)
            return _refusal(text if text.startswith(f"{error.code}: ") else f"{error.code}: {text}")
        except Exception:
            log.exception("%s failed", self.name)
            return _refusal(
                "internal_error: The server failed. What was spent is on the ledger. Do it yourself and see its log."
            )
        return _result(reply)


def _refusal(text: str) -> CallToolResult:
    from mcp_tierkit.redact import redact

    return CallToolResult(content=[TextContent(type="text", text=redact(text))], is_error=True)


def _result(reply: Reply) -> CallToolResult:
    """The same record twice, since some clients show only the text and some only the structure."""
    text = json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=reply)


def build_server(desk: Desk) -> MCPServer[Any]:
    """The MCP server of one desk: six tools, in a fixed order and with a fixed text."""

    async def find_desk() -> Desk:
        return desk

    return _server(find_desk)


def _server(find_desk: FindDesk) -> MCPServer[Any]:
    return MCPServer(
        "tierkit",
        title="Tierkit",
        version=__version__,
        instructions=CONTRACT["instructions"],
        tools=[_tool(find_desk, entry) for entry in CONTRACT["tools"]],
        cache_hints={"tools/list": CacheHint(ttl_ms=3_600_000, scope="public")},
        log_level="WARNING",
    )


def _tool(find_desk: FindDesk, entry: dict[str, Any]) -> DeskTool:
    record, method = CALLS[entry["name"]]

    async def fn(arguments: dict[str, Any], context: Context[Any, Any]) -> Reply:
        from mcp_tierkit import calls

        call = calls.read_call(getattr(calls, record), arguments, next_step="Correct them and call again.")

        async def on_progress(step: int, message: str) -> None:
            await context.report_progress(step, None, message)

        answer = getattr(await find_desk(), method)
        reply: Reply = await answer(call, client=_client(context), on_progress=on_progress)
        return reply

    return DeskTool(
        fn=fn,
        name=entry["name"],
        title=entry["title"],
        description=entry["description"],
        parameters=entry["inputSchema"],
        fn_metadata=FuncMetadata(arg_model=ArgModelBase),
        is_async=True,
        context_kwarg=None,
        annotations=ToolAnnotations.model_validate(entry["annotations"]),
        meta={"anthropic/alwaysLoad": True} if entry.get("alwaysLoad") else None,
    )


def _client(context: Context[Any, Any]) -> str | None:
    """Name and version of who calls, where the client says."""
    params = context.session.client_params
    return f"{params.client_info.name}/{params.client_info.version}" if params else None


@cache
def schema_tokens() -> int:
    """Our schemas and instructions as a caller pays for them, in o200k tokens or an estimate of them."""
    from mcp_tierkit.tokens import count

    shown = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in CONTRACT["tools"]]
    return count(json.dumps(shown, separators=(",", ":")) + CONTRACT["instructions"]).tokens


class LateDesk:
    """The desk, opened at the first call or soon after the start, and kept until the server leaves."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._wanted, self._opened, self._left = anyio.Event(), anyio.Event(), anyio.Event()
        self._closed = anyio.Event()
        self._desk: Desk | None = None

    async def find(self) -> Desk:
        self._wanted.set()
        await self._opened.wait()
        assert self._desk is not None
        return self._desk

    async def host(self) -> None:
        """Hold the desk open until `leave`; its tasks end with it."""
        with anyio.move_on_after(OPEN_AFTER_S):
            await self._wanted.wait()
        if not self._left.is_set():
            open_desk, open_kit = await anyio.to_thread.run_sync(_load_desk)
            async with open_desk(open_kit(self._config), schema_tokens=schema_tokens) as self._desk:
                self._opened.set()
                await self._left.wait()
        self._closed.set()

    async def leave(self) -> None:
        """Close the desk, with every task's row settled."""
        self._left.set()
        self._wanted.set()
        await self._closed.wait()


def _load_desk() -> tuple[Any, Any]:
    from mcp_tierkit.desk import open_desk
    from mcp_tierkit.kit import open_kit

    return open_desk, open_kit


def serve_stdio(config: Config, wire_fd: int | None) -> None:
    """Serve until stdin ends or a signal comes, then stop children, settle and end the process."""
    anyio.run(_stdio, config, wire_fd)
    # All is written and closed. Taking a loaded litellm apart would keep the client waiting for seconds.
    if sys.stderr is not None:  # Some launchers start us without one.
        sys.stderr.flush()
    os._exit(0)


async def _stdio(config: Config, wire_fd: int | None) -> None:
    desk = LateDesk(config)
    async with anyio.create_task_group() as group:
        group.start_soon(desk.host)
        group.start_soon(_leave_on_signal, desk)
        server = _server(desk.find)
        if wire_fd is not None:
            # The SDK's transport claims descriptor 1 for itself at once and diverts it to stderr again.
            os.dup2(wire_fd, 1)
            os.close(wire_fd)
        await server.run_stdio_async()
        await desk.leave()
        group.cancel_scope.cancel()


async def _leave_on_signal(desk: LateDesk) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await desk.leave()
            # A thread may be blocked on stdin for ever; nothing is left to lose by not waiting for it.
            os._exit(0)


def http_app(server: MCPServer[Any], *, token: str, hosts: list[str], origins: list[str]) -> App:
    """The ASGI app: the SDK's transport behind our keeper. `hosts` and `origins` are whole values, ports included."""
    inner = server.streamable_http_app(
        transport_security=TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
    )
    return Gatekeeper(inner, token=token, hosts=frozenset(hosts), origins=frozenset(origins))


def serve_http(config: Config, *, host: str, port: int, allowed_hosts: tuple[str, ...] = ()) -> None:
    """Serve streamable HTTP at `/mcp` until a signal comes. Port 0 takes a free one; the address is logged."""
    if host not in ("127.0.0.1", "localhost", "::1") and not allowed_hosts:
        raise InvalidInput(
            f"{host} is reachable from other machines, and no host name is allowed. The server did not start.",
            next_step="Put a TLS proxy in front and name its host with --allow-host, or leave --host out.",
        )
    anyio.run(_http, config, host, port, allowed_hosts)


async def _http(config: Config, host: str, port: int, allowed_hosts: tuple[str, ...]) -> None:
    import uvicorn

    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InvalidInput(
            f"The server cannot listen on {host}:{port} ({error.strerror}). It did not start.",
            next_step="Choose another port with --port, or end what uses this one.",
        ) from None
    port = listener.getsockname()[1]
    hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")] + list(allowed_hosts)
    origins = [f"{scheme}://{name}" for name in hosts for scheme in ("http", "https")]
    desk = LateDesk(config)
    async with anyio.create_task_group() as group:
        group.start_soon(desk.host)
        app = http_app(_server(desk.find), token=http_token(config.state_dir), hosts=hosts, origins=origins)
        print(
            f"tierkit: http://{hosts[0]}/mcp, token in {config.state_dir / 'http_token'}", file=sys.stderr, flush=True
        )
        settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        await uvicorn.Server(settings).serve(sockets=[listener])
        await desk.leave()
