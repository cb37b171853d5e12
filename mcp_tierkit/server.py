"""The MCP door: six tools with lean replies over stdio and streamable HTTP. It translates and decides nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ValidationError

from mcp_tierkit import __version__
from mcp_tierkit.calls import DraftCall, OutcomeCall, PlanCall, PlaybookCall, ReviewCall, TaskCall
from mcp_tierkit.config import Config
from mcp_tierkit.desk import Desk, open_desk
from mcp_tierkit.errors import InvalidInput, TierkitError
from mcp_tierkit.jobs import Reply
from mcp_tierkit.kit import open_kit
from mcp_tierkit.types import Record
from mcp_tierkit.web import App, Gatekeeper, http_token

log = logging.getLogger("mcp_tierkit")
CONTRACT: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "tools.json").read_text("utf8"))


@dataclass(frozen=True)
class Waiting:
    """Who calls, and how to tell them that work goes on."""

    client: str | None
    on_progress: Callable[[int, str], Awaitable[None]]


Answer = Callable[[Desk, Any, Waiting], Awaitable[Reply]]
CALLS: dict[str, tuple[type[Record], Answer]] = {
    "plan_task": (PlanCall, lambda desk, call, w: desk.plan_task(call, client=w.client)),
    "draft_with_cheap_model": (
        DraftCall, lambda desk, call, w: desk.draft(call, client=w.client, on_progress=w.on_progress)
    ),
    "review_diff": (ReviewCall, lambda desk, call, w: desk.review(call, client=w.client, on_progress=w.on_progress)),
    "run_playbook": (
        PlaybookCall, lambda desk, call, w: desk.run_playbook(call, client=w.client, on_progress=w.on_progress)
    ),
    "get_task": (TaskCall, lambda desk, call, w: desk.get_task(call, client=w.client, on_progress=w.on_progress)),
    "record_outcome": (OutcomeCall, lambda desk, call, w: desk.record_outcome(call)),
}  # fmt: skip


class DeskTool(Tool):
    """A tool whose arguments are one of our records and whose every answer is ours, errors included."""

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        record, _ = CALLS[self.name]
        try:
            reply = await self.fn(record.model_validate(arguments), _waiting(context))
        except ValidationError as error:
            return _refusal(f"invalid_input: {_named(error)} Nothing was spent. Correct the arguments and call again.")
        except TierkitError as error:
            text = str(error)
            return _refusal(text if text.startswith(f"{error.code}: ") else f"{error.code}: {text}")
        except Exception:
            log.exception("%s failed", self.name)
            return _refusal(
                "internal_error: The server failed. What was spent is on the ledger. Do it yourself and see its log."
            )
        return _result(reply)


def _named(error: ValidationError) -> str:
    """Which fields are wrong and how, without repeating what was passed."""
    problems = [
        f"{'.'.join(str(part) for part in row['loc']) or 'arguments'}: {row['msg']}" for row in error.errors()[:3]
    ]
    return "; ".join(problems) + "."


def _refusal(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _result(reply: Reply) -> CallToolResult:
    """The same record twice, since some clients show only the text and some only the structure."""
    text = json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=reply)


def _waiting(context: Context[Any, Any]) -> Waiting:
    params = context.session.client_params
    info = params.client_info if params else None

    async def on_progress(step: int, message: str) -> None:
        await context.report_progress(step, None, message)

    return Waiting(client=f"{info.name}/{info.version}" if info else None, on_progress=on_progress)


def build_server(desk: Desk) -> MCPServer[Any]:
    """The MCP server of one desk: six tools, in a fixed order and with a fixed text."""
    return MCPServer(
        "tierkit",
        title="Tierkit",
        version=__version__,
        instructions=CONTRACT["instructions"],
        tools=[_tool(desk, entry) for entry in CONTRACT["tools"]],
        cache_hints={"tools/list": CacheHint(ttl_ms=3_600_000, scope="public")},
        log_level="WARNING",
    )


def _tool(desk: Desk, entry: dict[str, Any]) -> DeskTool:
    _, answer = CALLS[entry["name"]]

    async def fn(call: Record, waiting: Waiting) -> Reply:
        return await answer(desk, call, waiting)

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


def schema_tokens() -> int:
    """Our schemas and instructions as a caller pays for them, in o200k tokens or an estimate of them."""
    from mcp_tierkit.tokens import count

    shown = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in CONTRACT["tools"]]
    return count(json.dumps(shown, separators=(",", ":")) + CONTRACT["instructions"]).tokens


# --- transports ---------------------------------------------------------------------------------


def serve_stdio(config: Config, wire_fd: int | None) -> None:
    """Serve until stdin ends or a signal comes, then stop children, settle and end the process."""
    anyio.run(_stdio, config, wire_fd)
    # All is written and closed. Taking a loaded litellm apart would keep the client waiting for seconds.
    sys.stderr.flush()
    os._exit(0)


async def _stdio(config: Config, wire_fd: int | None) -> None:
    async with open_desk(open_kit(config), schema_tokens=schema_tokens) as desk, anyio.create_task_group() as group:
        group.start_soon(_leave_on_signal, desk)
        server = build_server(desk)
        if wire_fd is not None:
            # The SDK's transport claims descriptor 1 for itself at once and diverts it to stderr again.
            os.dup2(wire_fd, 1)
            os.close(wire_fd)
        await server.run_stdio_async()
        group.cancel_scope.cancel()


async def _leave_on_signal(desk: Desk) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await desk.shut()
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

    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = listener.getsockname()[1]
    hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")] + list(allowed_hosts)
    origins = [f"{scheme}://{name}" for name in hosts for scheme in ("http", "https")]
    async with open_desk(open_kit(config), schema_tokens=schema_tokens) as desk:
        app = http_app(build_server(desk), token=http_token(config.state_dir), hosts=hosts, origins=origins)
        print(
            f"tierkit: http://{hosts[0]}/mcp, token in {config.state_dir / 'http_token'}", file=sys.stderr, flush=True
        )
        settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        await uvicorn.Server(settings).serve(sockets=[listener])
