"""Which hands a task goes to, and why: rules over text, paths and sizes, with no model call."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from mcp_tierkit.types import Category, Decision, Latency, Record, TierName


class Match(Record):
    """A trusted playbook that does this task, with inputs ready to run."""

    name: str
    inputs: dict[str, Any]


class Hints(Record):
    """What is known about a task beside its text."""

    files: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    acceptance: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    assume: tuple[str, ...] = ()
    has_check: bool = False
    latency: Latency = "async"
    tier: TierName | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    playbook: Match | None = None


class Ruling(Record):
    """A decision, the rule that made it, and what is still open."""

    decision: Decision
    tier: TierName | None = None
    rule: str
    reason: str
    category: Category = "code"
    risks: tuple[str, ...] = ()
    open_questions: tuple[str, ...] = ()
    lint: tuple[str, ...] = ()


class Router(Protocol):
    def route(self, task: str, hints: Hints) -> Ruling: ...


@cache
def _rules() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "data" / "rules.toml").read_text("utf8"))


@cache
def _words(*section: str) -> re.Pattern[str]:
    table: Any = _rules()
    for key in section:
        table = table[key]
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, table["words"])) + r")(?!\w)", re.IGNORECASE)


@cache
def _paths(kind: str) -> re.Pattern[str]:
    return re.compile("|".join(_glob(pattern) for pattern in _rules()["risk"][kind]["paths"]), re.IGNORECASE)


def _glob(pattern: str) -> str:
    """A path glob as a regular expression: `**/` any folders, `**` anything, `*` within one name."""
    out = ""
    for part in re.split(r"(\*\*/|\*\*|\*)", pattern):
        out += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part))
    return f"^{out}$"


def is_about_tests(task: str) -> bool:
    """True where writing tests is the task itself, so that test files may be edited."""
    return bool(_words("tests").search(task))


def risks(task: str, files: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the risk classes that the text or a path falls under."""
    return tuple(
        kind
        for kind in _rules()["risk"]
        if _words("risk", kind).search(task) or any(_paths(kind).match(path) for path in files)
    )


def lint_plan(hints: Hints) -> tuple[str, ...]:
    """What is wrong with a plan as a specification; empty for a task that brings no steps."""
    if not hints.steps:
        return ()
    problems = [f"{name} is missing" for name in ("acceptance", "out_of_scope") if not getattr(hints, name)]
    limit = _rules()["limits"]["plan_code_lines"]
    if any(_code_lines(step) > limit for step in hints.steps):
        problems.append(f"a step holds more than {limit} lines of code; say what, not how")
    if not hints.files:
        problems.append("files is empty")
    return tuple(problems)


def _code_lines(text: str) -> int:
    fenced = re.findall(r"```.*?\n(.*?)```", text, re.DOTALL)
    return max((block.count("\n") for block in fenced), default=0)


def _questions(task: str, hints: Hints) -> tuple[str, ...]:
    if hints.assume:
        return ()
    open_points = []
    if all(path.startswith("!") for path in hints.files):
        open_points.append("Which files may be changed?")
    if vague := _words("vague").search(task):
        open_points.append(f"What exactly is meant by {vague.group(0)!r}?")
    return tuple(open_points)


class RuleRouter:
    """The first rule that fires decides; each names itself in the answer."""

    def route(self, task: str, hints: Hints) -> Ruling:
        for rule in (_blocked, _playbook, _risky, _open, _linted, _short, _unchecked):
            if ruling := rule(task, hints):
                return ruling
        return _delegate(hints)


def _blocked(task: str, hints: Hints) -> Ruling | None:
    if not re.search(r"\w", task):
        return Ruling(decision="blocked", rule="empty_task", reason="The task says nothing.")
    if _words("blocked").search(task):
        return Ruling(
            decision="blocked", rule="not_a_task", reason="The text is advertising, not work on this project."
        )
    return None


def _playbook(task: str, hints: Hints) -> Ruling | None:
    if hints.playbook is None:
        return None
    return Ruling(decision="run_playbook", rule="playbook_match", reason="A trusted playbook does this at zero tokens.")


def _risky(task: str, hints: Hints) -> Ruling | None:
    if human := _words("human").search(task):
        reason = f"{human.group(0)!r} needs a person's judgement."
        return Ruling(decision="needs_human", rule="human_judgement", reason=reason, risks=("human",))
    if tags := risks(task, hints.files):
        reason = f"It touches {' and '.join(tags)}, which is not handed to a cheap model."
        return Ruling(decision="do_it_yourself", rule="risk", reason=reason, risks=tags)
    return None


def _open(task: str, hints: Hints) -> Ruling | None:
    if not (questions := _questions(task, hints)):
        return None
    reason = "A drafter would have to guess."
    return Ruling(decision="ask", rule="open_questions", reason=reason, open_questions=questions)


def _linted(task: str, hints: Hints) -> Ruling | None:
    problems = lint_plan(hints)
    if not problems or hints.assume:
        return None
    return Ruling(decision="ask", rule="plan_lint", reason="The plan does not pin the work down.", lint=problems)


def _short(task: str, hints: Hints) -> Ruling | None:
    limits = _rules()["limits"]
    if hints.input_tokens is None or hints.output_tokens is None:
        return None
    if hints.input_tokens >= limits["short_input_tokens"] or hints.output_tokens >= limits["short_output_tokens"]:
        return None
    reason = f"About {hints.input_tokens} tokens in and {hints.output_tokens} out: handing over costs more."
    return Ruling(decision="do_it_yourself", rule="short_task", reason=reason)


def _unchecked(task: str, hints: Hints) -> Ruling | None:
    if hints.has_check:
        return None
    reason = "No check can prove a draft; name a command that is red now and green when done."
    return Ruling(decision="do_it_yourself", rule="no_check", reason=reason)


def _delegate(hints: Hints) -> Ruling:
    tier: TierName = hints.tier or "cheap"
    problems = lint_plan(hints)
    if len(hints.files) == 1 or hints.latency == "interactive":
        reason = "Small, checked work: one cheap model does it."
        return Ruling(decision="single_cheap", tier=tier, rule="single_file", reason=reason, lint=problems)
    reason = "A check can prove the draft, so a cheap model goes first."
    return Ruling(decision="draft", tier=tier, rule="checked_work", reason=reason, lint=problems)


def decide(task: str, **hints: Any) -> Ruling:
    """The ruling on a task from its text and the fields of `Hints`: pure, no model, no file read.

    Raises pydantic's ValidationError for an unknown hint.
    """
    return RuleRouter().route(task, Hints(**hints))
