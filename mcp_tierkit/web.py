"""The HTTP door's keeper: exact Host and Origin, a bearer token on everything but the health check."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcp_tierkit.places import read_regular

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
HEALTH = "/healthz"


def http_token(state_dir: Path) -> str:
    """The bearer token of this user's HTTP server: made on first use, in a file only its owner can read."""
    path = state_dir / "http_token"
    while (token := _read_token(path)) is None:
        spare = state_dir / f"http_token.{secrets.token_hex(6)}"
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "w") as file:
                os.fchmod(fd, 0o600)
                file.write(secrets.token_urlsafe(32) + "\n")
            # Whole or not at all: of two servers that start at once, both read what the first one put there.
            with suppress(FileExistsError):
                os.link(spare, path)
        finally:
            spare.unlink()
    return token


def _read_token(path: Path) -> str | None:
    """The token in the file; None where there is none. What is no token of ours, or others can read, is removed."""
    try:
        found = read_regular(path, 1000, follow=False)
    except (OSError, ValueError):
        found = (b"", 0)
    if found is None:
        return None
    token, mode = found[0].decode("ascii", "replace").strip(), found[1]
    if mode == 0o600 and re.fullmatch(r"[\w-]{40,}", token, re.ASCII):
        return token
    path.unlink(missing_ok=True)
    return None


class Gatekeeper:
    """An ASGI app in front of ours. Whole values are compared: a prefix proves nothing about a host."""

    def __init__(self, app: App, *, token: str, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await _plain(send, *refusal)
        elif scope["path"] == HEALTH:
            await _plain(send, 200, "ok")
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or hosts[0].decode("latin1").lower() not in self._hosts:
            return 421, "unknown host"
        origins = headers.get(b"origin", [])
        if origins and (len(origins) > 1 or origins[0].decode("latin1").lower() not in self._origins):
            return 403, "unknown origin"
        if scope["path"] != HEALTH and not self._is_authorised(headers.get(b"authorization", [])):
            return 401, "bearer token needed"
        return None

    def _is_authorised(self, values: list[bytes]) -> bool:
        if len(values) != 1:
            return False
        kind, _, token = values[0].partition(b" ")
        return kind.lower() == b"bearer" and secrets.compare_digest(token.strip(), self._token)


async def _plain(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
