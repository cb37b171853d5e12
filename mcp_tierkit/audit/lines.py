"""What an audit tells, as records: the lines of its tables, and all of it in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from mcp_tierkit.audit.groups import Group, Handed
from mcp_tierkit.types import NanoUsd, Record


class Line(Record):
    """Calls together, and what they cost at API prices. Where `unpriced_calls` is not 0, that cost is not in it."""

    key: str
    calls: int
    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    cost_nanousd: NanoUsd
    unpriced_calls: int


class ToolLine(Record):
    """What a tool's results cost by being read. Their tokens are estimated from their length."""

    key: str
    results: int
    tokens: int
    read_again_tokens: int
    cost_nanousd: NanoUsd
    share: float | None = Field(description="Of all that was paid, where that is known.")


class SessionLine(Line):
    """A session with the sub-agents that it started. `short` is as much of its id as no other begins with."""

    short: str
    client: str
    project: str
    begun_at: str
    tasks: int
    prompt: str


class TaskLine(Line):
    """A prompt and all that followed until the next. `key` is of no use but to tell it from others."""

    session: str
    short: str
    client: str
    project: str
    at: str
    prompt: str
    sub_agent_calls: int
    tools: tuple[str, ...]


class Kinds(Record):
    """What each kind of tokens cost, in nanodollars, of the calls with a known price."""

    input: NanoUsd = 0
    cache_read: NanoUsd = 0
    cache_write_5m: NanoUsd = 0
    cache_write_1h: NanoUsd = 0
    output: NanoUsd = 0


def by_kind(five: Sequence[int]) -> dict[str, int]:
    """Figures of the five kinds of tokens under their names."""
    return dict(zip(Kinds.model_fields, five, strict=True))


class Step(Record):
    """A thing to do, and what to type for it, which may be nothing."""

    why: str
    command: str = ""


class Audit(Record):
    """All of it. Times and days are UTC. `days` are those from the first with a call to today, both counted;
    `month_days` is what a month is reckoned from."""

    since: str
    first_day: str
    last_day: str
    days: int
    month_days: int
    total: Line
    sub_agents: Line
    by_day: tuple[Line, ...]
    by_model: tuple[Line, ...]
    by_client: tuple[Line, ...]
    by_project: tuple[Line, ...]
    by_tool: tuple[ToolLine, ...]
    by_kind: Kinds
    sessions: tuple[SessionLine, ...]
    session_count: int
    task_count: int
    tasks: tuple[TaskLine, ...]
    repeated: tuple[Group, ...]
    needless: tuple[Group, ...]
    delegated: tuple[Line, ...]
    handed: tuple[Handed, ...]
    uncompared_tasks: int
    unknown_models: tuple[str, ...]
    versions: Mapping[str, tuple[str, ...]]
    copies: int
    misdated: int = Field(description="Calls on a day that is yet to come: in no figure.")
    next: tuple[Step, ...]

    @property
    def calls_without_price(self) -> int:
        """Of models without one. Other calls are unpriced since their counts are missing or cannot be true."""
        return sum(line.calls for line in self.by_model if line.key in self.unknown_models)
