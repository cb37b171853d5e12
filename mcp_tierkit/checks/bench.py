"""Where a task's checks run."""

from __future__ import annotations

from pathlib import Path

from mcp_tierkit.types import Isolation, Network, Record


class Bench(Record):
    """Where a task's checks run. `files` are the patterns the draft may write; `allow` counts without a sandbox."""

    root: Path
    isolation: Isolation
    log_dir: str
    allow: tuple[str, ...] = ()
    network: Network = "none"
    readable: tuple[Path, ...] = ()
    deny: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
