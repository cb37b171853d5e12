"""Work that was paid for again and again, what that cost, and what would have been saved. Each turn counts once."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Literal

from mcp_tierkit.audit.advice import TO_WRITE, Advice, By, Reach, Work, advise
from mcp_tierkit.audit.alike import main_command, playbook_for, were_done_alike
from mcp_tierkit.audit.bill import Job
from mcp_tierkit.audit.needless import LEAST, RUN_LEAST, command_of, is_answered_by, jobs_in, kind_of, shape_of
from mcp_tierkit.redact import redact
from mcp_tierkit.repeats import MAX_GOAL, Repeat, Solved, find_repeats, free_name
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import NanoUsd, Record

MONTH_DAYS = 30
LEAST_DAYS = 7
"""A shorter time is no month in small: what was spent in it is taken for a week's."""
COMPARED = 3000
"""Of more turns the latest are compared with one another; the report says so."""
ROUNDS_LEFT = 2
"""A caller that runs a playbook still asks for it, and still reads its receipt."""
_LINE = 80
_STEPS = 6
_WORD, _WORDS = re.compile(r"[a-z]+"), re.compile(r"\w+")


class Saving(Record):
    """What a group would have saved, from low to high, over the days that were read and by the month."""

    low_nanousd: NanoUsd
    high_nanousd: NanoUsd
    month_low_nanousd: NanoUsd
    month_high_nanousd: NanoUsd


class Group(Record):
    """Turns that are one job. `phrase` has a slot wherever they differ; `command` is one that was really run. `next`
    is what to type, empty where nothing would do, and `by` how that saves it; nothing is, by `look`. `projects` are the
    dearest first."""

    kind: Literal["prompt", "commands", "listing", "conversion", "rename", "dates", "command"]
    phrase: str
    example: str
    name: str
    count: int
    sessions: int
    cost_nanousd: NanoUsd
    month_nanousd: NanoUsd
    unpriced_calls: int
    tokens: int
    saving: Saving
    projects: tuple[str, ...]
    command: str | None
    by: By
    next: str
    task_keys: tuple[str, ...]


def needless_groups(jobs: Iterable[Job], days: int, reach: Reach = Reach()) -> list[Group]:  # noqa: B008
    """Turns that needed no model, by what they ran, the dearest first."""
    found: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        if kind := kind_of(job):
            found[kind, shape_of(kind, command_of(job) or "")].append(job)
    groups, taken = list[Group](), set[str]()
    for (kind, shape), alike in sorted(found.items()):
        if len(alike) >= (RUN_LEAST if kind == "command" else LEAST):
            name = free_name(_plain_name(shape), taken)
            taken.add(name)
            command = _usual(command_of(job) or "" for job in alike)
            about = packaged("audit")["needless"]["kinds"][kind]
            work = _work(name, alike, command)._replace(
                is_plain=True, is_look=kind == "listing", playbook=about.get("playbook", "")
            )
            groups.append(_group(kind, shape, alike, days, work, advise(work, reach)))
    return sorted(groups, key=lambda group: (-group.saving.high_nanousd, -group.count, group.phrase))


def repeated_groups(
    jobs: Sequence[Job],
    days: int,
    reach: Reach = Reach(),  # noqa: B008
    taken: Iterable[str] = (),
) -> list[Group]:
    """Turns with the same words around other values, then those that ran the same commands, the dearest first. `taken`
    are names that other groups have."""
    by_key = {job.key: job for job in jobs[-COMPARED:]}
    taken = list(taken)
    prompts = find_repeats(_asked(by_key.values()), taken=taken)
    seen = {key for repeat in prompts for key in repeat.task_ids}
    names = [*taken, *(repeat.name for repeat in prompts)]
    commands = find_repeats(_run(job for key, job in by_key.items() if key not in seen), taken=names)
    groups = [_repeat("prompt", repeat, by_key, days, reach) for repeat in prompts]
    groups += [_repeat("commands", repeat, by_key, days, reach) for repeat in commands]
    return sorted(groups, key=lambda group: (-group.saving.high_nanousd, -group.count, group.phrase))


class Handed(Record):
    """Tasks of ours that are one job: the same words around other values, files of one kind, the same checks. Their
    cost is what our own calls cost; where it is unknown they are counted in `unpriced`."""

    phrase: str
    example: str
    name: str
    count: int
    calls: int
    cost_nanousd: NanoUsd
    month_nanousd: NanoUsd
    unpriced: int
    saving_month_nanousd: NanoUsd
    files: tuple[str, ...]
    checks: tuple[str, ...]
    by: By
    next: str
    task_ids: tuple[str, ...]


def handed_groups(
    tasks: Sequence[Solved],
    today: date,
    projects: Mapping[str, str],
    reach: Reach = Reach(),  # noqa: B008
) -> list[Handed]:
    """Solved tasks that came again, the dearest first. A playbook spares what all but the first cost. `projects` are
    their folders by their ids."""
    recent = sorted(tasks, key=lambda task: (task.at, task.task_id))[-COMPARED:]
    by_id = {task.task_id: task for task in recent}
    days = max(LEAST_DAYS, span((task.at for task in recent), today))
    groups = [_handed(repeat, by_id, days, projects, reach) for repeat in find_repeats(recent)]
    return sorted(groups, key=lambda group: (-group.cost_nanousd, -group.count, group.phrase))


def _handed(repeat: Repeat, by_id: dict[str, Solved], days: int, projects: Mapping[str, str], reach: Reach) -> Handed:
    newest, *_, first = (tasks := [by_id[task_id] for task_id in repeat.task_ids])
    # The newest is what its playbook is made of, and it is made in the folder of that one.
    folder, goals = projects.get(newest.task_id, ""), [task.goal for task in tasks]
    work = Work(repeat.name, (folder,), goals, task_id=newest.task_id, is_change=bool(newest.files))
    told = advise(work, reach)
    spared = repeat.total_nanousd - (first.cost_nanousd or 0)
    return Handed(
        phrase=line_of(repeat.phrase or repeat.example), example=line_of(repeat.example), name=told.name,
        count=repeat.count, calls=sum(task.calls for task in tasks), cost_nanousd=repeat.total_nanousd,
        month_nanousd=by_month(repeat.total_nanousd, days), unpriced=repeat.unknown_costs,
        saving_month_nanousd=by_month(spared, days), files=newest.files,
        checks=tuple(" ".join(argv) for argv in newest.checks),
        by=told.by, next=told.line, task_ids=repeat.task_ids,
    )  # fmt: skip


def span(times: Iterable[str], today: date) -> int:
    """The days from the first of these times to today, both counted."""
    first = min(times, default="")[:10]
    return max((today - date.fromisoformat(first)).days + 1, 1) if first else 1


def saving(jobs: Sequence[Job], days: int) -> Saving:
    """High: every turn after the first, since a person can start a playbook without a model. Low: the same less each
    turn's first `ROUNDS_LEFT` calls, which an agent that starts it still makes. See docs/audit.md, "What a saving is".
    """
    later = sorted(jobs, key=lambda job: (job.at, job.key))[1:]
    high = sum(job.spent.cost for job in later)
    low = high - sum(job.rounds(ROUNDS_LEFT) for job in later)
    return Saving(
        low_nanousd=low, high_nanousd=high, month_low_nanousd=by_month(low, days),
        month_high_nanousd=by_month(high, days),
    )  # fmt: skip


def by_month(nanousd: int, days: int) -> int:
    """The same over thirty days."""
    return nanousd * MONTH_DAYS // days


def line_of(text: str) -> str:
    """The first line with anything on it, short enough for a table and without secrets."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = redact(" ".join(line.split()))
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def _asked(jobs: Iterable[Job]) -> Iterable[Solved]:
    """Prompts that can be compared. "Go on" is no job; a question wants another answer every time."""
    skipped, fillers = set(packaged("audit")["work"]["carry_on"]), set(packaged("audit")["work"]["fillers"])
    for job in jobs:
        text = _said(job)
        is_idle = text in skipped or fillers.issuperset(_WORDS.findall(text))
        is_job = not is_idle and not _is_question(job) and not _needs_reader(job)
        if text and len(job.text) <= MAX_GOAL and is_job:
            yield Solved(task_id=job.key, at=job.at, goal=job.text, calls=job.spent.calls, cost_nanousd=job.spent.cost)


def _said(job: Job) -> str:
    return job.text.lower().strip(" .!?,")


def _is_question(job: Job) -> bool:
    return _said(job).startswith(tuple(f"{word} " for word in packaged("audit")["work"]["questions"]))


def _needs_reader(job: Job) -> bool:
    """Whether it wants one each time, as a fault wants another mending."""
    return not set(packaged("audit")["work"]["readers"]).isdisjoint(_WORD.findall(_said(job)))


def _run(jobs: Iterable[Job]) -> Iterable[Solved]:
    """The steps of turns that changed nothing by the client's own tools, as one text. What they ran says what the job
    is, unless it was run for somebody who reads."""
    edits = set(packaged("audit")["work"]["edits"])
    for job in jobs:
        if _needs_reader(job) or (_is_question(job) and not is_answered_by(job)):
            continue
        steps = [command or name for name, command in job.uses]
        is_plain = any(command for _, command in job.uses) and not edits & {name for name, _ in job.uses}
        if is_plain and len(steps) <= _STEPS and len(told := " ; ".join(dict.fromkeys(steps))) <= MAX_GOAL:
            goal = redact(told)  # What lost a secret is not compared: its words would become a playbook's name.
            # The programs and their jobs stand for checks: "ruff format ." and "ruff check ." are not one job.
            ran = dict.fromkeys((one,) for step in steps for one in jobs_in(step))
            yield Solved(
                task_id=job.key, at=job.at, goal=goal, checks=tuple(ran), calls=job.spent.calls,
                cost_nanousd=job.spent.cost,
            )  # fmt: skip


def _repeat(kind: str, repeat: Repeat, by_key: dict[str, Job], days: int, reach: Reach) -> Group:
    jobs = [by_key[key] for key in repeat.task_ids]
    work = _work(repeat.name, jobs, _same_command(jobs) or main_command(jobs))
    told = advise(work._replace(playbook=playbook_for(jobs)), reach)
    if kind == "prompt" and told.by in TO_WRITE and not were_done_alike(jobs):
        told = Advice(told.name, "look", "")
    # Where all said the same it is shown as it was typed, else with a slot wherever they differ.
    phrase = repeat.phrase if repeat.phrase and "{" in repeat.phrase else repeat.example
    return _group(kind, phrase, jobs, days, work, told)


def _work(name: str, jobs: Sequence[Job], command: str) -> Work:
    """The job, its latest prompt first. What a command lost as a secret it has lost for good."""
    spent = Counter[str]()
    for job in jobs:
        spent[job.project] += job.spent.cost
    latest = sorted(jobs, key=lambda job: (job.at, job.key), reverse=True)
    projects = tuple(sorted(spent, key=lambda project: (-spent[project], project)))
    return Work(name, projects, [job.text for job in latest], redact(command))


def _usual(commands: Iterable[str]) -> str:
    """What was run in half of the turns or more; empty where there is no such thing."""
    times = Counter(commands)
    command, most = max(times.items(), key=lambda one: one[1], default=("", 0))
    return command if 2 * most >= times.total() else ""


def _same_command(jobs: Sequence[Job]) -> str:
    """The usual commands in one line, where every one of these turns was nothing but commands, three at most, and those
    of the same jobs; else empty."""
    edits = set(packaged("audit")["work"]["edits"])
    if any(not job.uses or edits & {name for name, _ in job.uses} for job in jobs):
        return ""
    lines = []
    for job in sorted(jobs, key=lambda job: (job.at, job.key)):
        steps = list(dict.fromkeys(command for _, command in job.uses if command))
        if not steps or len(steps) != len(set(job.uses)) or len(steps) > 3:
            return ""
        lines.append(" && ".join(steps))
    return _usual(lines) if len({jobs_in(line) for line in lines}) == 1 else ""


def _group(kind: str, phrase: str, jobs: Sequence[Job], days: int, work: Work, told: Advice) -> Group:
    cost = sum(job.spent.cost for job in jobs)
    latest = max(jobs, key=lambda job: (job.at, job.key))
    return Group.model_validate({
        "kind": kind, "phrase": line_of(phrase), "example": line_of(latest.text), "name": told.name, "count": len(jobs),
        "sessions": len({job.session for job in jobs}), "cost_nanousd": cost, "month_nanousd": by_month(cost, days),
        "unpriced_calls": sum(job.spent.unpriced for job in jobs),
        "tokens": sum(sum(job.spent.tokens) for job in jobs), "saving": saving(() if told.by == "look" else jobs, days),
        "projects": work.projects,
        "command": work.command or None, "by": told.by, "next": told.line,
        "task_keys": tuple(job.key for job in jobs),
    })  # fmt: skip


def _plain_name(shape: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", shape.lower()))[:40].strip("-") or "repeated-task"
