"""Shipped playbooks at a test's hand: their scripts as modules, runs by hand, and keys that no file holds."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

from mcp_tierkit.playbook.load import builtin_root
from tests.playbooks import git


def script(name: str) -> ModuleType:
    """`scripts/run.py` as a module, its helpers with it and none of them left behind."""
    folder = builtin_root() / name / "scripts"
    helpers = [path.stem for path in folder.glob("*.py")]
    before = {name: sys.modules.pop(name) for name in helpers if name in sys.modules}
    spec = importlib.util.spec_from_file_location(f"_shipped_{name.replace('-', '_')}", folder / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
        for helper in helpers:
            sys.modules.pop(helper, None)
        sys.modules.update(before)
    return module


def put(project: Path, files: dict[str, str | bytes], *, commit: bool = True) -> None:
    for path, content in files.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    if commit:
        git(project, "add", "-A", "-f")
        git(project, "commit", "-qm", "more")


KEY_CHARS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


def made_up(kind: str, seed: int) -> str:
    """A key of a well-known form, put together here so that no file holds one."""
    chance = random.Random(seed)
    body = "".join(chance.choice(KEY_CHARS) for _ in range(60))
    upper = "".join(chance.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
    return {
        "aws-access-key": "AK" + "IA" + upper,
        "github-token": "gh" + "p_" + body[:36],
        "gitlab-token": "glp" + "at-" + body[:20],
        "slack-token": "xo" + "xb-284756391047-" + body[:24],
        "stripe-key": "sk_" + "live_" + body[:24],
        "google-api-key": "AI" + "za" + body[:35],
        "anthropic-key": "sk-" + "ant-api03-" + body,
        "openai-key": "sk-" + "proj-" + body,
        "npm-token": "np" + "m_" + body[:36],
        "telegram-bot-token": "284756391" + ":AA" + body[:33],
        "sendgrid-key": "S" + "G." + body[:22] + "." + body[:43],
        "jwt": "ey" + "J" + body[:20] + ".ey" + "J" + body[:30] + "." + body[:43],
        "login-in-url": "postgres://shop:" + body[:14] + "@db/shop",
        "private-key": "-----BEGIN RSA PRIV" + "ATE KEY-----\n" + body,
    }[kind]


KEYS = (
    "aws-access-key", "github-token", "gitlab-token", "slack-token", "stripe-key", "google-api-key", "anthropic-key",
    "openai-key", "npm-token", "telegram-bot-token", "sendgrid-key", "jwt", "login-in-url", "private-key",
)  # fmt: skip
