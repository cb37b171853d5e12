"""Some lines of a file as text: each as it stands there, and one mark for every gap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def mark(first: int, last: int) -> str:
    """What stands for lines `first` to `last`, counted from 1. The edit reader refuses it as a line of code."""
    return f"… omitted lines {first} to {last}"


def show(lines: Sequence[str], numbers: Iterable[int]) -> str:
    """The lines of these numbers (from 1) in order, with marks between; a gap that is shorter than its mark is shown.

    `lines` is the text split at newlines, so its last one is empty where the text ends with a newline.
    """
    total = len(lines) if lines[-1] else len(lines) - 1
    shown, last = [], 0
    for number in [*sorted(set(numbers)), total + 1]:
        if number > last + 1:
            shown.append(_gap(lines, last + 1, number - 1))
        if number <= total:
            shown.append(lines[number - 1])
        last = number
    return "".join(f"{part}\n" for part in shown)


def _gap(lines: Sequence[str], first: int, last: int) -> str:
    stand_in = mark(first, last)
    if last - first < len(stand_in):
        text = "\n".join(lines[first - 1 : last])
        if len(text) < len(stand_in):
            return text
    return stand_in
