"""Shared fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_tierkit.sandbox import probe
from tests.playbooks import World, make_world


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sandboxed() -> None:
    """Only where scripts run in a sandbox."""
    if (await probe()).kind == "none":
        pytest.skip("no sandbox on this machine")


@pytest.fixture
async def layered() -> None:
    """Only where the sandbox has a layer that scripts may write to."""
    if not (await probe()).writable_layer:
        pytest.skip("no sandbox with a writable layer on this machine")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def tierkit(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`tierkit playbook …` with whatever settings the environment names: exit code and all that it said."""
    from mcp_tierkit.cli import run

    def ask(*args: str) -> tuple[int, str]:
        capfd.readouterr()
        code = run(["playbook", *args])
        seen = capfd.readouterr()
        return code, seen.out + seen.err

    return ask
