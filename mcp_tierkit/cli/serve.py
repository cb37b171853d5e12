"""`tierkit serve`: the MCP server, on stdio or HTTP."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mcp_tierkit.cli import Invocation
from mcp_tierkit.cli.options import project_option


@click.command()
@project_option
@click.option("--http", "over_http", is_flag=True, help="Serve streamable HTTP instead of stdio.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, with --http.")
@click.option("--port", default=8931, show_default=True, type=click.IntRange(0, 65535), help="Port, with --http.")
@click.option("--allow-host", "hosts", multiple=True, help="A further Host to answer to, port included, with --http.")
@click.pass_obj
def serve(
    invocation: Invocation, project: Path | None, over_http: bool, host: str, port: int, hosts: tuple[str, ...]
) -> None:
    """Serve the six tools to an MCP client.

    On stdio, stdout belongs to the protocol and everything else goes to stderr. Over HTTP every request needs the
    bearer token that is made on first use, in a file that only you can read.

    \b
    Example:
      tierkit serve --project ~/src/app
      tierkit serve --http --port 8931
    """
    from mcp_tierkit.config import load_config
    from mcp_tierkit.entry import claim_stdout

    wire_fd = None if over_http else invocation.wire_fd if invocation.wire_fd is not None else claim_stdout()
    config = load_config(project=str(project) if project else None)
    if not over_http and sys.stdin and sys.stdin.isatty():
        click.echo("Serving MCP on stdin and stdout; Ctrl-D ends it. To set up a client: tierkit init", err=True)

    from mcp_tierkit.server import serve_http, serve_stdio

    if wire_fd is not None:
        serve_stdio(config, wire_fd)
    else:
        serve_http(config, host=host, port=port, allowed_hosts=hosts)
