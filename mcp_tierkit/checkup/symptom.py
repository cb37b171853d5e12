"""One thing that was looked at."""

from __future__ import annotations

from typing import Literal

from mcp_tierkit.types import Record

Level = Literal["problem", "warning", "fine"]


class Symptom(Record):
    """What was found in a line, and what to do about it. `name` is a stable word for programs."""

    name: str
    level: Level
    what: str
    fix: str = ""


def problem(name: str, what: str, fix: str) -> Symptom:
    """Something does not work."""
    return Symptom(name=name, level="problem", what=what, fix=fix)


def warning(name: str, what: str, fix: str) -> Symptom:
    """Something works, and not as it should or not for long."""
    return Symptom(name=name, level="warning", what=what, fix=fix)


def fine(name: str, what: str) -> Symptom:
    return Symptom(name=name, level="fine", what=what)
