"""Which hands a task goes to, and why: rules over text, paths and sizes, with no model call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, cast

from pydantic import Field

from mcp_tierkit.tables import packaged
from mcp_tierkit.types import Category, Decision, Latency, Proof, Record, TierName


class Match(Record):
    """A trusted playbook that does this task, with inputs ready to run."""

    name: str
    inputs: dict[str, Any]
    kind: Literal["script", "skill"] = "script"


class Hints(Record):
    """What is known about a task beside its text."""

    files: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    acceptance: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    assume: tuple[str, ...] = ()
    has_check: bool = False
    latency: Latency = "async"
    proof: Proof = "turns_green"
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
    category: Category = Field(default="code", description="The kind of work, whoever does it.")
    risks: tuple[str, ...] = ()
    open_questions: tuple[str, ...] = ()
    lint: tuple[str, ...] = ()


def _table(section: tuple[str, ...]) -> Any:
    table: Any = packaged("rules")
    for key in section:
        table = table[key]
    return table


@cache
def _words(*section: str) -> re.Pattern[str]:
    words = map(re.escape, _table(section)["words"])
    return re.compile(r"(?<!\w)(?:" + "|".join(words) + r")(?!\w)", re.IGNORECASE)


@cache
def _paths(*section: str) -> re.Pattern[str]:
    return re.compile("|".join(_glob(pattern) for pattern in _table(section)["paths"]), re.IGNORECASE)


def _glob(pattern: str) -> str:
    """A path glob as a regular expression: `**/` any folders, `**` anything, `*` within one name."""
    out = ""
    for part in re.split(r"(\*\*/|\*\*|\*)", pattern):
        out += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part))
    return f"^{out}$"


def is_about_tests(task: str) -> bool:
    """True where writing tests is the task itself, so that test files may be edited."""
    return bool(_words("tests").search(task))


def category_of(task: str, files: Sequence[str], *, proof: Proof = "turns_green") -> Category:
    """What kind of work a task is, by its words and the files it may change; `code` where nothing tells.

    Only a task that changes no file can ask for a short text: a draft answers with edits, however it is worded. Of the
    rest only the first words count, for those further on say what the work is about: each kind forbids what others do.
    """
    named = [path for path in files if not path.startswith("!")]
    if not named and (asked := _text_kind(task)):
        return asked
    begun = task.strip()
    if _all_under("tests", named) or _words("tests").match(begun):
        return "tests"
    if _all_under("docs", named) or _words("category", "docs").match(begun):
        return "docs"
    # A change that must turn nothing green is most often one that rearranges.
    if proof == "stays_green" or _words("category", "refactor").match(begun):
        return "refactor"
    return "code"


def _text_kind(task: str) -> Category | None:
    """The text kind whose word comes first in the task."""
    found = {kind: _words("category", "text", kind).search(task) for kind in packaged("rules")["category"]["text"]}
    starts = {kind: match.start() for kind, match in found.items() if match}
    return cast(Category, min(starts, key=starts.__getitem__)) if starts else None


def _all_under(kind: str, files: Sequence[str]) -> bool:
    return bool(files) and all(_paths("category", kind).match(path) for path in files)


def risks(task: str, files: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the risk classes that the text or a path falls under."""
    return tuple(
        kind
        for kind in packaged("rules")["risk"]
        if _words("risk", kind).search(task) or any(_paths("risk", kind).match(path) for path in files)
    )


def lint_plan(hints: Hints) -> tuple[str, ...]:
    """What is wrong with a plan as a specification; empty for a task that brings no steps."""
    if not hints.steps:
        return ()
    problems = [f"{name} is missing" for name in ("acceptance", "out_of_scope") if not getattr(hints, name)]
    limit = packaged("rules")["limits"]["plan_code_lines"]
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
                break
        else:
            ruling = _delegate(hints)
        category = category_of(task, hints.files, proof=hints.proof)
        return ruling.model_copy(update={"category": category})


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
    reason = "A trusted playbook does this at zero tokens."
    if hints.playbook.kind == "skill":
        reason = "A trusted playbook does this with one cheap call, a second where its answer does not fit."
    return Ruling(decision="run_playbook", rule="playbook_match", reason=reason)


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
    limits = packaged("rules")["limits"]
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
