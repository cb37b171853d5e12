"""What one run is given and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mcp_tierkit.types import Changes, Network, Record


class Limits(Record):
    """What one run may use. Sizes a process or a file may reach are the kernel's own limits, per process."""

    timeout_s: float = Field(gt=0)
    output_kb: int = Field(default=1024, gt=0, description="Per stream; one byte more ends the run.")
    memory_mb: int | None = Field(default=None, gt=0, description="Private memory of each process.")
    processes: int | None = Field(default=None, gt=0)
    file_mb: int | None = Field(default=None, gt=0, description="Largest file it may write.")


class Layer(Record):
    """What a confined process sees: the host read-only, without its private places, and the project."""

    project: Path = Field(description="Seen at the same path.")
    writable: bool = Field(default=False, description="A throwaway layer on top; the host's tree never changes.")
    changes: Changes = Field(default_factory=dict, description="Files shown with this content; None for absent.")
    readable: tuple[Path, ...] = Field(default=(), description="Further host folders or files, shown read-only.")
    writable_dirs: tuple[Path, ...] = Field(default=(), description="Host folders shown read-write.")
    hidden: tuple[str, ...] = Field(default=(), description="Absolute or project-relative paths that read empty.")
    network: Network = Field(
        default="none", description="`none` and `loopback` have a network of their own, `full` has the host's."
    )
    collect: bool = Field(default=False, description="With `writable`: return what the process changed.")


class Ran(Record):
    """How a run ended. `unconfined`: it could not be confined and did not start, or its launcher was lost.

    Its result then means nothing, and the end of stderr says why.
    """

    ending: Literal["exited", "timeout", "output_limit", "not_found", "unconfined"]
    exit_code: int | None = Field(default=None, description="Negative for a signal, as in `subprocess`.")
    stdout: bytes = b""
    stderr: bytes = b""
    output: bytes = Field(default=b"", description="Both streams as they arrived.")
    truncated: bool = Field(default=False, description="The middle of a stream was left out.")
    duration_ms: int = 0
    changes: Changes = Field(default_factory=dict)
    refused: tuple[str, ...] = Field(default=(), description="Changes not collected: `path: why`; links, huge files.")


class Confinement(Record):
    """What this system can do."""

    kind: Literal["sandbox", "none"]
    writable_layer: bool = False
    reason: str = Field(default="", description="Why there is none, or no layer.")
