"""Shifts of a rota: reading them, adding them up, and joining those that touch.

A shift is half open: it includes the minute it starts in and excludes the minute it ends in. Times are minutes since
midnight, so that arithmetic stays exact and no time zone creeps in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

TEXT = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")


@dataclass(frozen=True, order=True)
class Shift:
    """One stretch of work."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 24 * 60:
            raise ValueError(f"a shift must start before it ends, within one day: {self.start}-{self.end}")

    @property
    def minutes(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start // 60:02d}:{self.start % 60:02d}-{self.end // 60:02d}:{self.end % 60:02d}"


def parse(text: str) -> Shift:
    """A shift from text such as `9:00-17:30`."""
    match = TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a shift: {text!r}")
    hours, minutes, end_hours, end_minutes = map(int, match.groups())
    return Shift(hours * 60 + minutes, end_hours * 60 + end_minutes)


def merge(shifts: Iterable[Shift]) -> list[Shift]:
    """Shifts in order of time, with those that overlap or touch joined into one."""
    merged: list[Shift] = []
    for shift in shifts:
        if merged and shift.start < merged[-1].end:
            merged[-1] = Shift(merged[-1].start, shift.end)
        else:
            merged.append(shift)
    return merged


def total_minutes(shifts: Iterable[Shift]) -> int:
    """Minutes worked, a minute covered by two shifts counted once."""
    return sum(shift.minutes for shift in merge(shifts))
