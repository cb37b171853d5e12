"""What callers may send: one record per tool, the same for MCP and the command line."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcp_tierkit.types import Latency, Outcome, Proof, Record, TierName

CheckText = str | dict[str, Any]


class PlanCall(Record):
    task: str = Field(max_length=20_000)
    files: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    acceptance: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    checks: tuple[CheckText, ...] = ()
    proof: Proof = "turns_green"
    assume: tuple[str, ...] = ()
    latency: Latency = "async"
    tier: TierName | None = None


class DraftCall(Record):
    task_id: str | None = None
    task: str | None = Field(default=None, max_length=20_000)
    files: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    checks: tuple[CheckText, ...] = ()
    proof: Proof = "turns_green"
    apply: str = Field(default="if_green", pattern="^(if_green|never)$")
    wait_s: float | None = Field(default=None, ge=0, le=3600)


class ReviewCall(Record):
    task_id: str | None = None
    diff: str | None = None
    focus: str = Field(default="", max_length=2000)
    wait_s: float | None = Field(default=None, ge=0, le=3600)


class PlaybookCall(Record):
    name: str | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    dry_run: bool = False
    wait_s: float | None = Field(default=None, ge=0, le=3600)


class TaskCall(Record):
    task_id: str
    wait_s: float | None = Field(default=None, ge=0, le=3600)
    cancel: bool = False


class OutcomeCall(Record):
    task_id: str
    outcome: Outcome
    undo: bool = False
    cleanup_minutes: float | None = Field(default=None, ge=0, le=100_000)
    defects: int | None = Field(default=None, ge=0, le=100_000)
    note: str = Field(default="", max_length=2000)
