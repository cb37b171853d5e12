"""The bill as one record: totals, by day, model, project, tool and session, and the three things to do next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from heapq import nlargest
from pathlib import PurePath

from pydantic import Field

from mcp_tierkit.amounts import dollars
from mcp_tierkit.audit.advice import TO_WRITE, By, Reach
from mcp_tierkit.audit.bill import Bill, Job, Sum
from mcp_tierkit.audit.groups import (
    COMPARED,
    LEAST_DAYS,
    Group,
    Handed,
    by_month,
    line_of,
    needless_groups,
    repeated_groups,
    span,
)
from mcp_tierkit.types import NanoUsd, Record

NEXT = 3
_DEAR_CONTEXT = 120_000
_HABIT = 4
"""A habit is ranked by a quarter of what it costs: nobody drops all of it. The figure is not shown."""
_WORTH = 100
"""What would save less than this part of what a month costs is not among the things to do next."""
_SHORT = 8
_CLIENTS = {"Claude Code": "claude-code", "Codex": "codex", "Gemini CLI": "gemini", "opencode": "opencode"}
_HOW = {
    "run": "with a playbook that you have", "type": "by typing it yourself", "make": "with a playbook of it",
    "write": "with a script that you write; this makes the form for it",
    "fill": "with a script that you write: its form is not filled in yet. This tries it out",
}  # fmt: skip


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


def tell(
    bill: Bill, *, since: str, today: date, handed: Sequence[Handed] = (), most: int | None = None,
    reach: Reach = Reach(),  # noqa: B008
) -> Audit:  # fmt: skip
    """Everything in dear-first order, days in their own. `today` ends the time that a month is reckoned from. `most` is
    how many sessions and tasks are told of: a record of each weighs more than all that is known of it. `reach` is where
    what to type would be typed.
    """
    sums = defaultdict[str, Sum](Sum), defaultdict[str, Sum](Sum)
    for (day, model), spent in bill.days.items():
        sums[0][day].take(spent)
        sums[1][model or "unknown"].take(spent)
    projects = _sums((job.project, job) for job in bill.jobs)
    total = _all(sums[0].values())
    days = sorted(sums[0])
    length = span(days, today)
    reckoned = max(length, LEAST_DAYS)
    needless = needless_groups(bill.jobs, reckoned, reach)
    gone = {key for group in needless for key in group.task_keys}
    rest = [job for job in bill.jobs if job.key not in gone]
    short = _short({job.session for job in bill.jobs})
    audit = Audit(
        since=since, first_day=days[0] if days else "", last_day=days[-1] if days else "", days=length,
        month_days=reckoned, total=_line("total", total),
        sub_agents=_line("sub-agents", _all(job.by_sub for job in bill.jobs)),
        by_day=tuple(_line(day, sums[0][day]) for day in days), by_model=_lines(sums[1]), by_project=_lines(projects),
        by_client=_lines(_sums((job.client, job) for job in bill.jobs)), by_tool=_tools(bill, total),
        by_kind=Kinds(**dict(zip(Kinds.model_fields, bill.kinds, strict=True))),
        sessions=_sessions(bill.jobs, most, short), tasks=_tasks(bill.jobs, most, short),
        session_count=len(short), task_count=len(bill.jobs),
        repeated=tuple(repeated_groups(rest, reckoned, reach, [group.name for group in needless])),
        needless=tuple(needless), delegated=_lines(bill.delegated), handed=tuple(handed),
        uncompared_tasks=max(len(rest) - COMPARED, 0),
        unknown_models=tuple(model or "unknown" for model in bill.unknown),
        versions=bill.versions, copies=bill.copies, misdated=bill.misdated,
        next=(),
    )  # fmt: skip
    return audit.model_copy(update={"next": tuple(_next(audit))})


def of_session(audit: Audit, session: str) -> tuple[TaskLine, ...]:
    """The tasks of the session of this id, or of those whose ids begin like it, in the order of their time."""
    found = [task for task in audit.tasks if task.session.startswith(session)]
    exact = [task for task in found if task.session == session]
    return tuple(sorted(exact or found, key=lambda task: task.at))


def _short(sessions: Iterable[str]) -> dict[str, str]:
    """As much of each id as no other begins with, a few characters at least: ids that begin with a time look alike."""
    order, found = sorted(sessions), {}
    for at, session in enumerate(order):
        beside = order[max(at - 1, 0) : at] + order[at + 1 : at + 2]
        found[session] = session[: max(_SHORT, *(_shared(session, other) + 1 for other in beside), 0)]
    return found


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    alike = (n for n, (mine, its) in enumerate(zip(one, other, strict=False)) if mine != its)
    return next(alike, min(len(one), len(other)))


def _sums(pairs: Iterable[tuple[str, Job]]) -> dict[str, Sum]:
    found = defaultdict[str, Sum](Sum)
    for key, job in pairs:
        found[key].take(job.spent)
    return found


def _all(sums: Iterable[Sum]) -> Sum:
    total = Sum()
    for one in sums:
        total.take(one)
    return total


def _figures(spent: Sum) -> dict[str, int]:
    names = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
    counts = dict(zip(names, spent.tokens, strict=True))
    return {"calls": spent.calls, **counts, "cost_nanousd": spent.cost, "unpriced_calls": spent.unpriced}


def _line(key: str, spent: Sum) -> Line:
    return Line(key=key, **_figures(spent))


def _lines(sums: Mapping[str, Sum]) -> tuple[Line, ...]:
    return tuple(sorted((_line(key, spent) for key, spent in sums.items()), key=_dear))


def _dear(line: Line) -> tuple[int, int, str]:
    return -line.cost_nanousd, -line.input - line.cache_read - line.output, line.key


def _tools(bill: Bill, total: Sum) -> tuple[ToolLine, ...]:
    lines = (
        ToolLine(key=name, results=tool.results, tokens=tool.tokens, read_again_tokens=tool.read_again,
                 cost_nanousd=tool.cost, share=round(tool.cost / total.cost, 4) if total.cost else None)
        for name, tool in bill.tools.items()
    )  # fmt: skip
    return tuple(sorted(lines, key=lambda line: (-line.cost_nanousd, -line.tokens, line.key)))


def _sessions(jobs: Sequence[Job], most: int | None, short: Mapping[str, str]) -> tuple[SessionLine, ...]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        found[job.session].append(job)
    if most is not None:
        dearest = nlargest(most, found.items(), key=lambda one: sum(job.spent.cost for job in one[1]))
        found = defaultdict(list, dearest)
    lines = (
        SessionLine(key=session, short=short[session], **_figures(_all(job.spent for job in own)), client=own[0].client,
                    project=own[0].project, begun_at=own[0].at, tasks=len(own), prompt=line_of(own[0].text))
        for session, own in found.items()
    )  # fmt: skip
    return tuple(sorted(lines, key=_dear))


def _tasks(jobs: Sequence[Job], most: int | None, short: Mapping[str, str]) -> tuple[TaskLine, ...]:
    jobs = jobs if most is None else nlargest(most, jobs, key=lambda job: job.spent.cost)
    lines = (
        TaskLine(key=job.key, **_figures(job.spent), session=job.session, short=short[job.session],
                 client=job.client, project=job.project, at=job.at, prompt=line_of(job.text),
                 sub_agent_calls=job.by_sub.calls,
                 tools=tuple(dict.fromkeys(name for name, _ in job.uses)))
        for job in jobs
    )  # fmt: skip
    return tuple(sorted(lines, key=_dear))


def _next(audit: Audit) -> Iterable[Step]:
    """What is worth most first; where nothing stands out, how to see the product at work."""
    found: list[tuple[int, Step]] = []
    for group in (*audit.needless, *audit.repeated):
        low, high = group.saving.month_low_nanousd, group.saving.month_high_nanousd
        if high:
            saved = f"{about(low, high)} to {about(high)}" if low else f"up to {about(high)}"
            why = f"{group.count} times “{group.phrase}”: save {saved} a month {_HOW[group.by]}."
            found.append((_rank(high, group.by), Step(why=why, command=group.next)))
    for job in audit.handed:
        if saved_nanousd := job.saving_month_nanousd:
            why = f"{job.count} times handed to us, “{job.phrase}”: save {about(saved_nanousd)} a month {_HOW[job.by]}."
            found.append((_rank(saved_nanousd, job.by), Step(why=why, command=job.next)))
    found += _habits(audit)
    least = by_month(audit.total.cost_nanousd, audit.month_days) // _WORTH
    ranked = [step for worth, step in sorted(found, key=lambda one: -one[0]) if worth >= least]
    if audit.total.calls and not (audit.delegated or audit.handed):
        ranked.append(
            Step(why="Nothing here was handed to a cheaper model. See one task done:", command="tierkit demo")
        )
        client = _CLIENTS.get(audit.by_client[0].key, "other")
        ranked.append(Step(why="Put the tools into your client:", command=f"tierkit init --client {client}"))
    return list(dict.fromkeys(ranked))[:NEXT]


def about(nanousd: int, beside: int = 0) -> str:
    """An estimate with no more places than it deserves, and no other than the amount beside it: $37, $0.71."""
    usd, largest = nanousd / 1e9, max(nanousd, beside) / 1e9
    return f"${usd:,.0f}" if largest >= 10 else f"${usd:.2f}" if largest >= 0.01 else dollars(nanousd)


def _rank(saved: int, by: By) -> int:
    """What still has to be written is ranked by half: it takes somebody's time."""
    return saved // 2 if by in TO_WRITE else saved


def _habits(audit: Audit) -> Iterable[tuple[int, Step]]:
    """What a change of habit is worth, by the month; models without a price come before all."""
    if audit.unknown_models and audit.total.calls:
        models, unpriced = ", ".join(audit.unknown_models[:3]), audit.calls_without_price
        calls = "1 call has" if unpriced == 1 else f"{unpriced:,} calls have"
        told = f"{calls} no known price ({models}): name it in tierkit.toml."
        yield 10**15 if unpriced * 2 > audit.total.calls else 1, Step(why=told)
    if audit.by_tool and (tool := audit.by_tool[0]).share and tool.share >= 0.1:
        month = by_month(tool.cost_nanousd, audit.month_days)
        told = f"{tool.share:.0%} of all, {about(month)} a month, is reading what {tool.key} put into the context."
        yield month // _HABIT, Step(why=f"{told} Ask it for less at a time.")
    for session in audit.sessions[:1]:
        size = session.cache_read // max(session.calls, 1)
        if size >= _DEAR_CONTEXT:
            told = f"Session {session.short} read {size:,} tokens again with every call."
            value = by_month(session.cost_nanousd, audit.month_days) // _HABIT
            again = f"tierkit audit --session {session.short}"
            yield value, Step(why=f"{told} Begin a new one where the subject changes. Its tasks:", command=again)


def project_matches(project: str, wanted: str) -> bool:
    """Whether a folder is the wanted one or below it; a bare name is looked for among the names of folders."""
    if not project:
        return False
    if "/" in wanted or "\\" in wanted:
        return PurePath(project) == PurePath(wanted) or PurePath(wanted) in PurePath(project).parents
    return wanted in (PurePath(project).name, project)
