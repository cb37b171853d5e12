"""Turns that needed no model: one plain command, or an answer that a command gives, asked for without a judgement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from mcp_tierkit.audit.bill import Job
from mcp_tierkit.tables import packaged

LEAST = 2
RUN_LEAST = 3
"""A test run or a build is worth a name only where it comes again; a listing is known by its second time."""

_SPLIT = re.compile(r"\s*(?:\|\|?|&&|;|(?<![&>\d])&(?![&>\d]))\s*")
_CD = re.compile(r"^cd\s+\S+\s*(?:&&|;)\s*")
_ASSIGNED = re.compile(r"^(?:\w+=\S*\s+)+")
_JOB = re.compile(r"[A-Za-z][\w:.-]*")
_LATER = re.compile(
    r"[\"'`].*?[\"'`]|\S*[/.\d]\S*|\bhow many (\w+ )?(days|weeks|months|years|hours|minutes)\b", re.DOTALL
)
"""What is no word of judgement, whatever is said in it."""


def kind_of(job: Job) -> str | None:
    """The kind of work where a fixed command would have done, None where a reader may have been needed."""
    limits, text = packaged("audit")["needless"], " ".join(job.text.lower().split())
    if not text or len(text) > limits["prompt_chars"] or text[0] == "/" or job.by_sub.calls:
        return None
    if job.spent.calls > limits["calls"] or job.spent.tokens[4] > limits["output_tokens"] or _judges(text):
        return None
    command = command_of(job)
    if command is None:
        return None
    for kind in limits["kinds"]:
        if _asked(kind).search(text) and (_runs(kind, command) if command else kind == "dates"):
            return str(kind)
    return None


def command_of(job: Job) -> str | None:
    """The one command that was run, perhaps several times, as it was given; empty for none at all, None for anything
    else. A client's own listing tool counts as none where a command went with it.
    """
    work = packaged("audit")["work"]
    names = {name for name, command in job.uses if not command}
    commands = {without_cd(command) for _, command in job.uses if command}
    if names - set(work["listers"]) or len(commands) > 1:
        return None
    if not commands and names:
        return "ls"
    return next(iter(commands), "")


def shape_of(kind: str, command: str) -> str:
    """What two turns of one kind have in common: the programs that they ran, and which of its jobs where a program
    has several."""
    return (
        " | ".join(dict.fromkeys(_named(_program(kind, part), part) for part in _parts(command))) if command else kind
    )


def jobs_in(command: str) -> tuple[str, ...]:
    """The programs of the tables that a command runs, each with its job and its mode."""
    known = ((_known().match(f"{part} "), part) for part in _parts(command))
    return tuple(_named(program[1], part) for program, part in known if program)


def is_answered_by(job: Job) -> bool:
    """Whether a question that asks for no judgement was answered by programs whose outcome is the answer."""
    commands = [command for _, command in job.uses]
    return not _judges(job.text.lower()) and all(command and _runs("command", command) for command in commands)


def runs_job(command: str) -> bool:
    """Whether it is a test run, a build or the like, of known programs alone."""
    return _runs("command", command)


def without_cd(command: str) -> str:
    """The command as it is typed in the folder that it went to."""
    return _CD.sub("", command.strip())


def _named(program: str, part: str) -> str:
    """A program with what it was told to do, and whether it was told to write."""
    about, words = packaged("audit")["needless"], part[len(program) :].split()
    jobs = [word for word in words if _JOB.fullmatch(word)][:1] if program in about["runners"] else []
    return " ".join([program, *jobs, *sorted(set(words) & set(about["modes"]))])


def _judges(text: str) -> bool:
    return bool(_judging().search(_LATER.sub(" ", text)))


def _runs(kind: str, command: str) -> bool:
    """Whether each part is a program of the table, the first one of this kind. Shell programs are not read."""
    if any(mark in command for mark in ("<<", "$(", "`", "\n", " -c ", " -e ")):
        return False
    parts = _parts(command)
    return bool(parts and _program(kind, parts[0])) and all(
        any(_program(other, part) for other in _kinds()) for part in parts
    )


def _parts(command: str) -> Sequence[str]:
    parts = (_ASSIGNED.sub("", part.strip()) for part in _SPLIT.split(command))
    return [part for part in parts if part]


def _program(kind: str, part: str) -> str:
    """The longest name of the table with which a command begins; empty where there is none."""
    words = f"{part} "
    return max((name for name in _kinds()[kind]["programs"] if words.startswith(f"{name} ")), key=len, default="")


def _kinds() -> dict[str, Any]:
    kinds: dict[str, Any] = packaged("audit")["needless"]["kinds"]
    return kinds


@cache
def _known() -> re.Pattern[str]:
    """Any program of the tables, the longest name first."""
    names = sorted((name for kind in _kinds().values() for name in kind["programs"]), key=len, reverse=True)
    return re.compile(rf"({'|'.join(map(re.escape, names))}) ")


@cache
def _asked(kind: str) -> re.Pattern[str]:
    return re.compile("|".join(_kinds()[kind]["asked"]))


@cache
def _judging() -> re.Pattern[str]:
    words = "|".join(map(re.escape, packaged("audit")["needless"]["judges"]))
    return re.compile(rf"\b({words})\b")
