"""The only door to models."""

from __future__ import annotations

from typing import Protocol

from mcp_tierkit.types import Completion, Request


class Gateway(Protocol):
    async def complete(self, request: Request) -> Completion:
        """The model's reply. Raises ModelFailed; cancellation closes the connection."""
        ...
