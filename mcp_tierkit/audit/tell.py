"""The bill as one record: totals, by day, model, project, tool and session, and what to do next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from heapq import nlargest
from pathlib import PurePath

from mcp_tierkit.audit.advice import Reach
from mcp_tierkit.audit.bill import Bill, Job, Sum
from mcp_tierkit.audit.groups import COMPARED, LEAST_DAYS, Handed, line_of, needless_groups, repeated_groups, span
from mcp_tierkit.audit.lines import Audit, Kinds, Line, SessionLine, TaskLine, ToolLine, by_kind
from mcp_tierkit.audit.next import steps

_SHORT = 8


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
        by_kind=Kinds(**by_kind(bill.kinds)),
        sessions=_sessions(bill.jobs, most, short), tasks=_tasks(bill.jobs, most, short),
        session_count=len(short), task_count=len(bill.jobs),
        repeated=tuple(repeated_groups(rest, reckoned, reach, [group.name for group in needless])),
        needless=tuple(needless), delegated=_lines(bill.delegated), handed=tuple(handed),
        uncompared_tasks=max(len(rest) - COMPARED, 0),
        unknown_models=tuple(model or "unknown" for model in bill.unknown),
        versions=bill.versions, copies=bill.copies, misdated=bill.misdated,
        next=(),
    )  # fmt: skip
    return audit.model_copy(update={"next": tuple(steps(audit))})


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
    return {"calls": spent.calls, **by_kind(spent.tokens), "cost_nanousd": spent.cost, "unpriced_calls": spent.unpriced}


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


def project_matches(project: str, wanted: str) -> bool:
    """Whether a folder is the wanted one or below it; a bare name is looked for among the names of folders."""
    if not project:
        return False
    if "/" in wanted or "\\" in wanted:
        return PurePath(project) == PurePath(wanted) or PurePath(wanted) in PurePath(project).parents
    return wanted in (PurePath(project).name, project)
