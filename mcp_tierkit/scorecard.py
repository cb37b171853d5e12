"""What a delegated task was worth: three scores from 5 to 1, and whether it helped. Thresholds: data/scorecard.toml."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, get_args

from pydantic import Field

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import GIVEN, DraftStatus, FindingClass, NanoUsd, Outcome, PlaybookStatus, Record

Grade = Literal[1, 2, 3, 4, 5]
Worth = Literal["helped", "neutral", "moved_work"]
Question = Literal["cheaper", "fast", "first_try", "review", "lasting"]
HANDED_OVER: frozenset[DraftStatus | PlaybookStatus] = frozenset({*GIVEN, "ok"})
FAILED: frozenset[DraftStatus | PlaybookStatus] = frozenset(
    {
        "needs_work",
        "rejected",
        "unproven",
        "failed",
        "timeout",
        "bad_output",
        "write_outside",
        "output_limit",
        "suspect",
    }
)
"""Ends at which the work is still the caller's. Any other, such as a question, says nothing of what it was worth."""


class Baseline(Record):
    """What a task would have cost its caller alone, as its receipt estimates, and what it came to instead."""

    unit: Literal["usd", "tokens"] = Field(description="Nanodollars; tokens where the caller pays by subscription.")
    alone_low: int
    alone_high: int
    ours: int = Field(description="Our calls and what passed through the caller.")


class LineCount(Record):
    """Lines that the task's change brought in, and those rewritten since: all None where `reason` says why."""

    changed_lines: int | None = None
    rewritten_lines: int | None = None
    is_taken_back: bool = Field(default=False, description="All of them are gone, and the files are as before it.")
    reason: str | None = None
    is_final: bool = Field(default=False, description="The seven days are over, so that it stays at that.")

    def as_facts(self) -> dict[str, Any]:
        """The same as Facts name them."""
        lines = self.model_dump(include={"changed_lines", "rewritten_lines", "is_taken_back"})
        return {**lines, "are_lines_final": self.is_final}


class Facts(Record):
    """A task in figures. None is unknown: nobody counted it, or there was nothing to count."""

    task_id: str
    goal: str
    project: str
    created_at: str
    draft_status: DraftStatus | None = None
    playbook_status: PlaybookStatus | None = None
    calls: int = 0
    cost_nanousd: NanoUsd | None = Field(default=None, description="Of our calls; None where one has no known cost.")
    baseline: Baseline | None = None
    wall_s: float | None = Field(default=None, description="From the first call of each round to its end, added up.")
    rewrites: int | None = Field(default=None, description="Repairs, climbs and further drafts after the first.")
    comments: int | None = Field(default=None, description="Findings of its reviews; None where nothing was reviewed.")
    repeated_comments: int | None = Field(default=None, description="Of these, the same class on the same file again.")
    is_uninformative: bool = Field(default=False, description="The last reviewer said nothing that could be used.")
    outcome: Outcome | None = None
    defects: int | None = None
    cleanup_minutes: float | None = None
    changed_lines: int | None = None
    rewritten_lines: int | None = Field(default=None, description="Of the changed ones, within seven days.")
    is_taken_back: bool = Field(default=False, description="Its files are again as they were before it.")
    are_lines_final: bool = Field(default=False, description="These days have passed, so that it stays at that.")


class Scorecard(Facts):
    """The figures with what they come to. A score is None where its figures are unknown."""

    cleanup_nanousd: NanoUsd | None = Field(default=None, description="None where minutes or their price are unknown.")
    total_nanousd: NanoUsd | None = Field(default=None, description="Our calls and the clean-up.")
    cost: Grade | None = None
    speed: Grade | None = None
    accuracy: Grade | None = None
    verdict: Worth | None = None
    why: str = Field(description="One sentence: what decided the verdict, or what is missing for one.")


class Pattern(Record):
    """A class of finding that comes again and again: the plans lack something."""

    klass: FindingClass
    times: int
    tasks: int
    suggestion: str


class Answer(Record):
    """A question of the checklist, answered from tasks; None where too few of them can tell."""

    name: Question
    question: str
    answer: Literal["strong", "weak"] | None
    good: int
    of: int
    advice: str | None = Field(default=None, description="What to do about a weak one.")


def score(facts: Facts, *, minute_nanousd: int | None = None, saved_minutes: float | None = None) -> Scorecard:
    """The task's scorecard. `minute_nanousd` is the price of a minute of cleaning up.

    `saved_minutes` is what somebody says the task saved: minutes are then weighed against minutes.
    """
    cleanup = _cleanup(facts, minute_nanousd)
    total = None if cleanup is None or facts.cost_nanousd is None else facts.cost_nanousd + cleanup
    cost, accuracy = _cost(facts, cleanup or 0), _accuracy(facts)
    probably = "probably " if _may_be_either(facts, cleanup or 0) else ""
    verdict, why = _verdict(facts, cost, accuracy, saved_minutes, probably)
    return Scorecard(
        **facts.model_dump(), cleanup_nanousd=cleanup, total_nanousd=total, cost=cost, speed=_speed(facts),
        accuracy=accuracy, verdict=verdict, why=why,
    )  # fmt: skip


def grade(value: float, most: Sequence[float]) -> Grade:
    """5 for a value up to the first of four limits, 4 up to the second, and so on; 1 above the last."""
    found: tuple[Grade, ...] = get_args(Grade)
    return found[sum(value <= limit for limit in most)]


def _cleanup(facts: Facts, minute_nanousd: int | None) -> int | None:
    if facts.cleanup_minutes == 0:
        return 0
    if facts.cleanup_minutes is None or minute_nanousd is None:
        return None
    return round(Decimal(str(facts.cleanup_minutes)) * minute_nanousd)


def _cost(facts: Facts, cleanup: int) -> Grade | None:
    base, handed_over = facts.baseline, was_handed_over(facts)
    if base is None or handed_over is None:
        return None
    if not handed_over:
        return 1  # The caller was spared nothing, so any cost is too much.
    alone = (base.alone_low + base.alone_high) / 2
    return grade(_ours(base, cleanup) / alone, _table("cost")["most"]) if alone else None


def _ours(base: Baseline, cleanup: int) -> int:
    return base.ours + (cleanup if base.unit == "usd" else 0)


def _may_be_either(facts: Facts, cleanup: int) -> bool:
    """Whether the receipt allows for a saving and for a loss, so that the middle of its range is no certainty."""
    base = facts.baseline
    return base is not None and base.alone_low < _ours(base, cleanup) < base.alone_high


def _speed(facts: Facts) -> Grade | None:
    if facts.wall_s is None:
        return None
    return grade(facts.wall_s + 60 * (facts.cleanup_minutes or 0), _table("speed")["most"])


def _accuracy(facts: Facts) -> Grade | None:
    """The worst sign. A draft that was not handed over is none that could be right."""
    handed_over = was_handed_over(facts)
    if handed_over is None:
        return None
    if not handed_over or facts.is_uninformative:
        return 1
    table = _table("accuracy")
    figures = {
        "rewrites": facts.rewrites, "repeated_comments": facts.repeated_comments, "defects": facts.defects,
        "cleanup_minutes": facts.cleanup_minutes, "rewritten_share": _rewritten_share(facts),
    }  # fmt: skip
    grades = [grade(value, table[name]["most"]) for name, value in figures.items() if value is not None]
    if facts.outcome is not None:
        grades.append(table["outcome"][facts.outcome])
    if facts.is_taken_back:
        grades.append(table["outcome"]["reverted"])
    return min(grades, default=None)


def _rewritten_share(facts: Facts) -> float | None:
    """The share of the changed lines that were rewritten, 0 where they are too few to tell; None where unknown."""
    if facts.changed_lines is None or facts.rewritten_lines is None:
        return None
    few: int = _table("lines")["few"]
    return 0.0 if facts.rewritten_lines <= few else facts.rewritten_lines / facts.changed_lines


def was_handed_over(facts: Facts) -> bool | None:
    """Whether the caller got something to use; None where nothing was tried, or it ended for a reason of its own."""
    ends = {facts.draft_status, facts.playbook_status}
    if ends & HANDED_OVER or facts.outcome in ("accepted", "edited"):
        return True
    return False if ends & FAILED else None


def _is_told(facts: Facts) -> bool:
    """Whether it is known what became of the change: somebody said so, or its seven days are over."""
    return facts.outcome is not None or facts.are_lines_final


def _verdict(
    facts: Facts, cost: Grade | None, accuracy: Grade | None, saved_minutes: float | None, probably: str
) -> tuple[Worth | None, str]:
    if was_handed_over(facts) is None:
        return None, _no_end(facts)
    if came_back := _came_back(facts, saved_minutes):
        return "moved_work", came_back
    if not _is_told(facts):
        return None, "What became of the change is not known: record its outcome."
    if cost is None:
        return None, _no_cost(facts)
    if accuracy is None:
        return None, "How well it was done is not known: nothing of it was counted."
    enough = _table("helped")
    if cost >= enough["cost"] and accuracy >= enough["accuracy"]:
        return "helped", f"It {probably}cost less, and little or nothing came back."
    return "neutral", _neither(cost, accuracy, probably)


def _neither(cost: Grade, accuracy: Grade, probably: str) -> str:
    if cost < 3:
        return f"It {probably}cost more than its caller alone would have spent, and little or nothing came back."
    if cost == 3:
        return "It cost about as much as its caller alone would have spent."
    return f"It {probably}cost less, but its accuracy is {accuracy} of 5."


def _no_cost(facts: Facts) -> str:
    if facts.baseline is None:
        return "What it would have cost without delegating is not known: no receipt in money or tokens."
    return "Its receipt puts the work alone at nothing: there is no cost to weigh it against."


def _no_end(facts: Facts) -> str:
    status = facts.draft_status or facts.playbook_status
    return f"It ended as {status}: nothing to judge." if status else "Nothing was drafted and no playbook ran."


def _came_back(facts: Facts, saved_minutes: float | None) -> str | None:
    """What of the work the caller still had to do, in a sentence; None where that is little or not known."""
    if not was_handed_over(facts):
        return "Nothing was handed over: the caller has the work to do, and has paid for the attempt."
    if facts.outcome == "reverted":
        return "The change was taken back: the caller has the work to do."
    if facts.is_taken_back:
        return "Its files are again as they were before it: the caller has the work to do."
    limits = dict(_table("moved"))
    if saved_minutes is not None:
        limits["cleanup_minutes"] = saved_minutes
    figures = {
        "rewrites": (facts.rewrites, "It was written again {} times."),
        "cleanup_minutes": (facts.cleanup_minutes, _minutes_sentence(saved_minutes)),
        "rewritten_share": (_rewritten_share(facts), "{:.0%} of its lines were rewritten within seven days."),
        "defects": (facts.defects, "{} defects were found in it later."),
    }
    told = (text.format(value) for name, (value, text) in figures.items() if value is not None and value > limits[name])
    return next(told, None)


def _minutes_sentence(saved_minutes: float | None) -> str:
    if saved_minutes is None:
        return "It took {:g} minutes to clean up."
    return f"It saved {saved_minutes:g} minutes and took {{:g}} to clean up."


def patterns(findings: Iterable[tuple[str, FindingClass]]) -> tuple[Pattern, ...]:
    """The classes that came in too many tasks, the most frequent first; `findings` are task and class.

    Tasks count and not findings: three remarks in one review are one plan's fault.
    """
    table, tasks = _table("pattern"), defaultdict[FindingClass, list[str]](list)
    for task_id, klass in findings:
        tasks[klass].append(task_id)
    found = [
        Pattern(klass=klass, times=len(ids), tasks=len(set(ids)), suggestion=table["suggestions"][klass])
        for klass, ids in tasks.items()
        if len(set(ids)) >= table["times"]
    ]
    return tuple(sorted(found, key=lambda pattern: (-pattern.times, pattern.klass)))


def checklist(cards: Iterable[Scorecard]) -> tuple[Answer, ...]:
    """The five answers, always in the same order, each from the tasks alone.

    Classes of finding that come again change none: in enough tasks some class always does.
    """
    seen = [_does_well(card) for card in cards]
    return tuple(_answer(name, [one[name] for one in seen]) for name in get_args(Question))


def is_weak(answers: Iterable[Answer]) -> bool:
    """Whether too many answers are weak to go on delegating as before."""
    return sum(answer.answer == "weak" for answer in answers) >= too_many_weak()


def too_many_weak() -> int:
    weak: int = _table("checklist")["weak"]
    return weak


def least_tasks() -> int:
    """How many tasks that can tell it takes to answer a question."""
    least: int = _table("checklist")["least"]
    return least


def _answer(name: Question, told: Sequence[bool | None]) -> Answer:
    table = _table("checklist")
    known = [one for one in told if one is not None]
    answer: Literal["strong", "weak"] | None = None
    if len(known) >= least_tasks():
        answer = "strong" if sum(known) / len(known) >= table["strong"] else "weak"
    return Answer(
        name=name, question=table["questions"][name], answer=answer, good=sum(known), of=len(known),
        advice=table["advice"][name] if answer == "weak" else None,
    )  # fmt: skip


def _does_well(card: Scorecard) -> dict[Question, bool | None]:
    """How the task answers each question; None where it says nothing of it."""
    handed_over = was_handed_over(card)
    if handed_over is None:
        return dict.fromkeys(get_args(Question))
    was_reviewed = card.comments is not None or card.is_uninformative
    return {
        "cheaper": None if card.cost is None else card.cost >= _table("helped")["cost"],
        "fast": None if card.speed is None else card.speed >= 3,
        "first_try": None if card.rewrites is None else handed_over and card.rewrites <= 1,
        "review": not (card.is_uninformative or card.repeated_comments) if was_reviewed else None,
        "lasting": (card.accuracy or 1) >= 3 and not card.defects and card.outcome != "reverted"
        if _is_told(card)
        else None,
    }


def _table(name: str) -> dict[str, Any]:
    found: dict[str, Any] = packaged("scorecard")[name]
    return found
