"""Whether turns with the same words were the same work, told from the tools and programs that they used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mcp_tierkit.audit.advice import changes, says
from mcp_tierkit.audit.bill import Job
from mcp_tierkit.audit.needless import jobs_in, runs_job, without_cd
from mcp_tierkit.tables import packaged

_WORD = re.compile(r"[a-z]+")
_Steps = frozenset[tuple[str, tuple[str, ...]]]


def were_done_alike(jobs: Sequence[Job]) -> bool:
    """Whether two thirds of them did the same, and something at all. Text for people is never the same, whatever the
    steps to it were."""
    prose = set(packaged("audit")["work"]["prose"])
    if any(prose.intersection(_WORD.findall(job.text.lower())) for job in jobs):
        return False
    done, most = max(Counter(map(_steps, jobs)).items(), key=lambda one: one[1], default=(frozenset(), 0))
    return bool(done) and 3 * most >= 2 * len(jobs)


def main_command(jobs: Sequence[Job]) -> str:
    """The one test run, build or the like that most of them ran, where all that they did besides was looking; else
    empty."""
    work = packaged("audit")["work"]
    others, ran = {name for job in jobs for name, command in job.uses if not command}, Counter[str]()
    for job in jobs:
        ran.update({without_cd(command) for _, command in job.uses if command})
    runs = [command for command in ran if runs_job(command)]
    usual = [command for command in runs if 2 * ran[command] > len(jobs)]
    is_more = any(changes(command) or says("outward", command) for command in ran if command not in runs)
    is_more = is_more or len({jobs_in(command) for command in runs}) > 1
    return usual[0] if len(usual) == 1 and not is_more and others <= set(work["lookers"]) else ""


def playbook_for(jobs: Sequence[Job]) -> str:
    """The shipped playbook that does what half of them asked for or more, though none gave it all that it needs."""
    texts = [job.text.lower().strip(" .!,\n") for job in jobs]
    for name, pattern in packaged("audit")["work"]["playbooks"].items():
        if 2 * sum(bool(re.fullmatch(pattern, text)) for text in texts) >= len(texts):
            return str(name)
    return ""


def _steps(job: Job) -> _Steps:
    """Tools, and of a shell's commands the programs. What only looks is left out."""
    lookers = packaged("audit")["work"]["lookers"]
    return frozenset(
        (name, jobs_in(command) or tuple(command.split()[:1])) for name, command in job.uses if name not in lookers
    )
