"""Shared fixtures."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.demo_upstream import Reply, Upstream
from mcp_tierkit.gateway import LiteLLMGateway
from mcp_tierkit.sandbox import probe
from mcp_tierkit.transcripts.read import FAILED
from mcp_tierkit.types import Message, Request
from tests.playbooks import World, make_world


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def called_before() -> None:
    """Every way to a provider was taken once: litellm loads more of itself then, for longer than a short time limit."""

    async def call() -> None:
        gateway = LiteLLMGateway(lambda name: None)
        for model in ("openai/m", "openrouter/vendor/m", "anthropic/m"):
            base = upstream.root_url if model.startswith("anthropic") else upstream.base_url
            asked = Request(
                task_id="t", route_id="r", stage="draft", tier="cheap", model=model, base_url=base,
                messages=(Message(role="user", content="hello"),), max_output_tokens=9, timeout_s=60, prompt_id="p",
            )  # fmt: skip
            await gateway.complete(asked)
        await gateway.aclose()

    with Upstream(lambda asked: Reply(text="hello")) as upstream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anyio.run(call)


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

    def ask(*args: str) -> tuple[int, str]:
        capfd.readouterr()
        code = run(["playbook", *args])
        seen = capfd.readouterr()
        return code, seen.out + seen.err

    return ask


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, key or folder of whoever runs the tests."""
    for name in list(os.environ):
        ours = ("TIERKIT_", "CLAUDE_", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "CODEX_HOME")
        if name.startswith(ours) or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`tierkit audit --json`, in which nothing of ours failed."""

    def call(*words: str) -> Any:
        assert run(["audit", *words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, list) or not [name for name in found["counts"] if name.startswith(FAILED)]
        return found

    return call
