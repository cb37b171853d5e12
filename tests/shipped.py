"""Shipped playbooks at a test's hand: scripts as modules, runs by hand, and what a project may hold against them."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from mcp_tierkit.playbook.load import builtin_root
from tests.playbooks import git
from tests.test_attacks import SETTINGS


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


def beside(function: Any) -> SimpleNamespace:
    """All that the file of an imported function has."""
    return SimpleNamespace(**function.__globals__)


def by_hand(name: str, inputs: dict[str, Any], folder: Path) -> tuple[int, Any, str]:
    """(exit code, result, what it said) of the command that SKILL.md names."""
    command = [sys.executable, "-B", str(builtin_root() / name / "scripts/run.py")]
    done = subprocess.run(command, cwd=folder, input=json.dumps(inputs).encode(), capture_output=True, timeout=60)
    assert done.stderr.count(b"\n") == (1 if done.returncode else 0), done.stderr.decode()
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr.decode()


def put(root: Path, files: Mapping[str, str | bytes]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def commit(repo: Path, files: Mapping[str, str | bytes]) -> None:
    put(repo, files)
    git(repo, "add", "-A", "-f")
    git(repo, "commit", "-qm", "more")


# --- a hostile repository -----------------------------------------------------------------------

MORE_SETTINGS = {
    "core.sshCommand": "PROGRAM", "core.hooksPath": "hooks", "gpg.program": "PROGRAM", "log.showSignature": "true",
    "blame.ignoreRevsFile": "none", "mailmap.file": "/dev/zero", "status.submoduleSummary": "true",
    "alias.log": "!PROGRAM", "alias.status": "!PROGRAM", "alias.rev-parse": "!PROGRAM",
}  # fmt: skip


SIGNER = "#!/bin/sh\ncat >/dev/null\nprintf '\\n[GNUPG:] SIG_CREATED ' >&2\necho '-----BEGIN PGP SIGNATURE-----'\n"


def hostile_repository(repo: Path) -> Path:
    """A repository whose settings start a program wherever git lets them, and the mark that the program leaves.

    Each setting has a file, a filter and a driver of its own: no other one comes before it.
    """
    marker, program, signer = (repo.parent / name for name in ("marker", "program", "signer"))
    git(repo, "init", "-q", "-b", "main")
    commit(repo, {"plain.py": "# TODO: x\n", "hooks/post-index-change": f"#!/bin/sh\ntouch {marker}\n"})
    program.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    signer.write_text(SIGNER)
    for path in (program, signer, repo / "hooks/post-index-change"):
        path.chmod(0o755)
    own = [(key.replace("evil", f"evil{at}"), text) for at, (key, text) in enumerate(SETTINGS)]
    attributes = [text.replace("*", f"f{at}").replace("evil", f"evil{at}") for at, (_, text) in enumerate(own)]
    put(repo, {f"f{at}.py": "# TODO: x\n" for at, _ in enumerate(own)} | {".gitattributes": "\n".join(attributes)})
    git(repo, "add", "-A")
    git(repo, "-c", f"gpg.program={signer}", "commit", "-qSx", "-m", "signed")
    required = {f"{key.rpartition('.')[0]}.required": "true" for key, _ in own if key.startswith("filter.")}
    for key, value in {**dict.fromkeys(dict(own), "PROGRAM"), **required, **MORE_SETTINGS}.items():
        git(repo, "config", key, value.replace("PROGRAM", str(program)))
    # Of the same size as before: git has to read them to see that they changed.
    put(repo, {f"f{at}.py": "# TODO: y\n" for at, _ in enumerate(own)} | {"plain.py": "# TODO: y\n"})
    return marker


# --- keys that no file holds --------------------------------------------------------------------

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
