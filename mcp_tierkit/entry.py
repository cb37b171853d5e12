"""The console script. It secures the protocol's stdout before any other module is loaded."""

from __future__ import annotations

import os
import sys

SERVER_NAMES = ("mcp-tierkit", "__main__")


def command_line(argv: list[str]) -> tuple[str, list[str]]:
    """The name to show in help, and the arguments, `serve` filled in where the server's own name was called bare."""
    name = os.path.splitext(os.path.basename(argv[0]))[0]
    prog = "tierkit" if name == "tierkit" else "mcp-tierkit"
    args = argv[1:]
    first = args[0] if args else "-"
    if name in SERVER_NAMES and first.startswith("-") and first not in ("--help", "-h", "--version"):
        args = ["serve", *args]
    return prog, args


def serves_stdio(args: list[str]) -> bool:
    """Whether these arguments are about to speak the protocol on stdout."""
    if args[:1] != ["serve"]:
        return False
    return not any(arg in ("--help", "-h") or arg.startswith("--http") for arg in args)


def claim_stdout() -> int:
    """A private descriptor of the real stdout; from now on descriptor 1 is stderr, for us and for every child.

    Libraries print, and one stray line ends an MCP session. The SDK claims descriptor 1 only when its transport
    starts, seconds later and after every import, so the transport is given this descriptor instead.
    """
    wire = _duplicate_above_standard(1)
    _divert_stdout()
    return wire


def _divert_stdout() -> None:
    try:
        os.dup2(2, 1)
    except OSError:  # No stderr, as under some launchers: stray output goes nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        if nowhere != 1:
            os.close(nowhere)


def _duplicate_above_standard(fd: int) -> int:
    copy = os.dup(fd)
    if copy > 2:
        return copy
    try:
        return _duplicate_above_standard(fd)
    finally:
        os.close(copy)


def main() -> None:
    """Run the command line, or the server, and leave with its exit code."""
    prog, args = command_line(sys.argv)
    wire_fd = claim_stdout() if serves_stdio(args) else None

    from mcp_tierkit.cli import run

    try:
        code = run(args, prog=prog, wire_fd=wire_fd)
    finally:
        if wire_fd is not None:
            # The SDK's transport puts the wire back on descriptor 1 when it ends, before exit handlers print.
            _divert_stdout()
    _leave(code)


def _leave(code: int) -> None:
    """End the process. All is written and closed by now, and taking a loaded litellm apart takes seconds."""
    if "litellm" not in sys.modules:
        sys.exit(code)
    for stream in filter(None, (sys.stdout, sys.stderr)):  # Whoever closed one before we began has none.
        try:
            stream.flush()
        except OSError:  # Nobody reads it any more.
            code = code or 1
    os._exit(code)
