"""What callers may send: one record per tool, the same for MCP and the command line."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.types import Latency, Outcome, Proof, Record, TierName

CheckText = str | dict[str, Any]
R = TypeVar("R", bound=Record)


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
    task_id: str | None = Field(default=None, max_length=64)
    task: str | None = Field(default=None, max_length=20_000)
    files: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    checks: tuple[CheckText, ...] = ()
    proof: Proof = "turns_green"
    apply: Literal["if_green", "never"] = "if_green"
    wait_s: float | None = Field(default=None, ge=0, le=3600)


class ReviewCall(Record):
    task_id: str | None = Field(default=None, max_length=64)
    diff: str | None = Field(default=None, max_length=1000)
    focus: str = Field(default="", max_length=2000)
    wait_s: float | None = Field(default=None, ge=0, le=3600)


class PlaybookCall(Record):
    name: str | None = Field(default=None, max_length=64)
    inputs: dict[str, Any] = Field(default_factory=dict)
    dry_run: bool = False
    wait_s: float | None = Field(default=None, ge=0, le=3600)


class TaskCall(Record):
    task_id: str = Field(max_length=64)
    wait_s: float | None = Field(default=None, ge=0, le=3600)
    cancel: bool = False


class OutcomeCall(Record):
    task_id: str = Field(max_length=64)
    outcome: Outcome
    undo: bool = False
    cleanup_minutes: float | None = Field(default=None, ge=0, le=100_000)
    defects: int | None = Field(default=None, ge=0, le=100_000)
    note: str = Field(default="", max_length=2000)


def read_call(kind: type[R], arguments: dict[str, Any], *, next_step: str) -> R:
    """The record of a call. Raises InvalidInput, which repeats nothing that was passed, names of arguments included."""
    try:
        return kind.model_validate(arguments)
    except ValidationError as error:
        faults = dict.fromkeys(_fault(kind, row["loc"], row["type"], row.get("ctx", {})) for row in error.errors())
    raise InvalidInput(f"The arguments do not fit: {'; '.join([*faults][:3])}. Nothing was spent.", next_step=next_step)


_WRONG = {
    "missing": "is missing",
    "string_too_long": "is longer than {max_length} characters",
    "string": "must be text",
    "tuple": "must be a list",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than_equal": "must be {le:g} or less",
    "literal_error": "must be {expected}",
    "bool": "must be true or false",
    "dict": "must be an object",
    "int": "must be a whole number",
    "float": "must be a number",
}
"""What is wrong by pydantic's name of it, or by that name's first word."""


def _fault(kind: type[Record], where: tuple[int | str, ...], what: str, ctx: dict[str, Any]) -> str:
    if where[0] not in kind.model_fields:
        # A plain word may be told: whoever misspelled it finds it. Anything else may be a value, or a secret.
        name = where[0] if re.fullmatch(r"[a-z_]{1,30}", str(where[0])) else "one of them"
        return f"{name} is unknown (known are {', '.join(kind.model_fields)})"
    said = _WRONG.get(what) or _WRONG.get(what.partition("_")[0], "has a value that cannot be used")
    if kind.model_fields[str(where[0])].annotation == tuple[CheckText, ...] and len(where) > 1:
        said = "must be text or an object"
    item = f"item {where[1] + 1} of " if len(where) > 1 and isinstance(where[1], int) else ""
    return f"{item}{where[0]} {said.format(**ctx)}"
