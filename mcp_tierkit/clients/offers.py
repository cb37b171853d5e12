"""What a project could be tried with first: its own checks, found by reading, never by running."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

_LIMIT = 1_000_000
_RUNNERS = {"pnpm-lock.yaml": "pnpm test", "yarn.lock": "yarn test", "bun.lock": "bun run test"}


def find_checks(project: Path) -> tuple[str, ...]:
    """Commands that seem to run this project's tests."""
    found = [_pytest(project), _node(project), _make(project)]
    found += ["cargo test" if (project / "Cargo.toml").is_file() else None]
    found += ["go test ./..." if (project / "go.mod").is_file() else None]
    return tuple(command for command in found if command)


def first_task(checks: tuple[str, ...]) -> str:
    """What to ask the agent first: small, repeatable, and with a check that is red before."""
    check = checks[0] if checks else "the command that runs your tests"
    return (
        "Write one small failing test for a behaviour you want, then ask your agent: "
        f'"Have the cheap model make this test pass; the check is `{check}`." '
        "Decide yourself after the receipt whether it was worth it, and repeat it with the next small test."
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size < _LIMIT else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _pytest(project: Path) -> str | None:
    try:
        settings = tomllib.loads(_text(project / "pyproject.toml"))
    except tomllib.TOMLDecodeError:
        settings = {}
    tool = settings.get("tool", {})
    is_named = isinstance(tool, dict) and "pytest" in tool
    is_named = is_named or any((project / name).is_file() for name in ("pytest.ini", "pytest.toml", "conftest.py"))
    tests = project / "tests"
    has_tests = tests.is_dir() and any(tests.glob("test_*.py"))
    return "pytest" if is_named or has_tests else None


def _node(project: Path) -> str | None:
    try:
        package = json.loads(_text(project / "package.json") or "{}")
        script = package["scripts"]["test"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(script, str) or "no test specified" in script:
        return None
    return next((command for lock, command in _RUNNERS.items() if (project / lock).is_file()), "npm test")


def _make(project: Path) -> str | None:
    return "make test" if re.search(r"^test\s*:(?!=)", _text(project / "Makefile"), re.MULTILINE) else None
