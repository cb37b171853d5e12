"""A small real project with a bug, and a desk, server and client around it. Only the model's words are made up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from unidiff import PatchSet

from mcp_tierkit.config import Config, load_config
from mcp_tierkit.desk import Desk, open_desk
from mcp_tierkit.gateway import Gateway
from mcp_tierkit.kit import open_kit
from mcp_tierkit.server import build_server, schema_tokens
from mcp_tierkit.types import Completion, Usage

BUGGY = '''"""A shopping cart."""


def total(prices: list[int], discount: int = 0) -> int:
    """Sum of prices in cents, less a discount in percent."""
    return sum(prices) - discount


def count(prices: list[int]) -> int:
    return len(prices)
'''
FIXED = BUGGY.replace("sum(prices) - discount", "sum(prices) * (100 - discount) // 100")
TESTS = """import unittest

from shop.cart import count, total


class CartTest(unittest.TestCase):
    def test_total_takes_a_percentage_off(self):
        self.assertEqual(total([1000, 500], discount=10), 1350)

    def test_count(self):
        self.assertEqual(count([1, 2]), 2)
"""
CHECK = f"{sys.executable} -m unittest -q tests.test_cart"
CHECK_NAME = f"{Path(sys.executable).name} -m unittest -q tests.test_cart"
PYTEST = f"{sys.executable} -m pytest -q tests/test_cart.py"
RIGHT = """shop/cart.py
```
<<<<<<< SEARCH
    return sum(prices) - discount
=======
    return sum(prices) * (100 - discount) // 100
>>>>>>> REPLACE
```
"""
WRONG = RIGHT.replace("(100 - discount) // 100", "(90 - discount) // 100")
REPAIR = RIGHT.replace("sum(prices) - discount", "sum(prices) * (90 - discount) // 100", 1)
JOB: dict[str, Any] = {
    "task": "total() must take the discount as a percentage.",
    "files": ["shop/cart.py"],
    "checks": [CHECK],
}
TIERS = """
[caller]
model = "claude-opus-5-5"
[tiers.cheap]
models = ["openai/tiny-cheap"]
base_url = "{url}"
price = {{ input = "0.10", output = "0.50", cache_read = "0.01" }}
[tiers.strong]
models = ["openai/tiny-strong"]
base_url = "{url}"
price = {{ input = "4", output = "20", cache_read = "0.20" }}
"""


def said(text: str, *, input: int = 1000, cached: int = 0, output: int = 200) -> Completion:
    usage = Usage(input=input, cached_input=cached, cache_write=0, output=output)
    return Completion(text=text, usage=usage, served_model="tiny-cheap")


def make_project(root: Path, *, git: bool = True) -> Path:
    for name, text in {
        "shop/__init__.py": "",
        "shop/cart.py": BUGGY,
        "tests/__init__.py": "",
        "tests/test_cart.py": TESTS,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    if git:
        commit_all(root)
    return root


def commit_all(root: Path) -> None:
    run_git(root, "init", "-q", "-b", "main")
    run_git(root, "add", "-A")
    run_git(root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "start")


def run_git(root: Path, *args: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *args], cwd=root, env=env, check=True, capture_output=True, text=True).stdout


def make_env(home: Path, *, toml: str = "", url: str = "http://127.0.0.1:9", **extra: str) -> dict[str, str]:
    """An environment of its own for one user: nothing of this machine's configuration is read."""
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "tierkit.toml"
    settings.write_text(TIERS.format(url=url) + toml)
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "TIERKIT_CONFIG": str(settings),
        "TIERKIT_STATE_DIR": str(home / "state"),
        "TIERKIT_LEDGER": f"sqlite:///{home}/ledger.db",
        **extra,
    }


def make_config(project: Path, home: Path, *, toml: str = "", url: str = "http://127.0.0.1:9") -> Config:
    return load_config(project=str(project), env=make_env(home, toml=toml, url=url))


@asynccontextmanager
async def desk_at(config: Config, gateway: Gateway | None = None) -> AsyncIterator[Desk]:
    async with open_desk(open_kit(config, gateway=gateway), schema_tokens=schema_tokens) as desk:
        yield desk


@asynccontextmanager
async def client_at(config: Config, gateway: Gateway | None = None, mode: str = "auto") -> AsyncIterator[Client]:
    """A real MCP client connected in memory to the real server."""
    async with desk_at(config, gateway) as desk, Client(build_server(desk), mode=mode) as client:
        yield client


def added(patch: str) -> str:
    """The new lines of a patch: what somebody would have had to type."""
    return "".join(line.value for file in PatchSet(patch) for hunk in file for line in hunk if line.is_added)


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder with its bytes and mode, our own folder and git's left out."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {".git", ".tierkit"} & set(path.relative_to(root).parts)
    }


def footprint(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file, link and folder below a project with its bytes, mode and time of change; only `.tierkit` left out.

    A folder's own time is left out: a file that is put back byte for byte is put back by a rename.
    """
    found: dict[str, tuple[bytes, int, int]] = {}
    for path in sorted(root.rglob("*")):
        name, state = path.relative_to(root), path.lstat()
        if ".tierkit" in name.parts:
            continue
        data = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(name)] = (data, state.st_mode, 0 if path.is_dir() else state.st_mtime_ns)
    return found


async def comes_true(claim: Callable[[], object], seconds: float = 20) -> bool:
    """Whether a claim comes true while we look: looks are counted, so a machine that stands still uses none up."""
    for _ in range(int(seconds * 100)):
        if claim():
            return True
        await anyio.sleep(0.01)
    return bool(claim())


def bytes_read() -> int:
    """What this process has read so far, whether from a disk, a pipe or a device."""
    said = Path("/proc/self/io").read_text()
    return int(said.partition("rchar:")[2].split()[0])


async def longest_silence(work: Callable[[], Awaitable[object]]) -> float:
    """The longest that the event loop let nothing else run while it did this work, as a share of the whole."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            asked = time.monotonic()
            await anyio.sleep(0.001)
            gaps.append(time.monotonic() - asked)

    began = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await work()
        group.cancel_scope.cancel()
    return max(gaps, default=1) / (time.monotonic() - began)
