"""Rules of routing: which one decides, in which order, and how fast."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_tierkit.routing import decide, is_about_tests

LARGE = {"input_tokens": 4000, "output_tokens": 1200}


@pytest.mark.parametrize(
    ("task", "hints", "decision", "rule"),
    [
        ("   ", {}, "blocked", "empty_task"),
        ("Casino bonus, click here to claim", {"files": ("a.py",)}, "blocked", "not_a_task"),
        ("Split parse() in two", {"has_check": True}, "ask", "open_questions"),
        ("Make it work somehow", {"files": ("a.py",), "has_check": True}, "ask", "open_questions"),
        (
            "Make it work somehow",
            {"files": ("a.py",), "has_check": True, "assume": ("any way",)},
            "single_cheap",
            "single_file",
        ),
        ("Check the OWASP list", {"files": ("a.py",), "has_check": True}, "do_it_yourself", "risk"),
        ("Round the sum", {"files": ("app/billing/total.py",), "has_check": True}, "do_it_yourself", "risk"),
        ("Sort the table", {"files": ("db/migrations/0001.sql",), "has_check": True}, "do_it_yourself", "risk"),
        ("Reword the privacy policy", {"files": ("a.md",), "has_check": True}, "needs_human", "human_judgement"),
        (
            "Rename a field",
            {"files": ("a.py",), "has_check": True, "input_tokens": 499, "output_tokens": 499},
            "do_it_yourself",
            "short_task",
        ),
        (
            "Rename a field",
            {"files": ("a.py",), "has_check": True, "input_tokens": 500, "output_tokens": 0},
            "single_cheap",
            "single_file",
        ),
        (
            "Rename a field",
            {"files": ("a.py",), "has_check": True, "input_tokens": 0, "output_tokens": 500},
            "single_cheap",
            "single_file",
        ),
        ("Write a parser", {"files": ("a.py",), **LARGE}, "do_it_yourself", "no_check"),
        ("Write a parser", {"files": ("a.py", "b.py"), "has_check": True, **LARGE}, "draft", "checked_work"),
        (
            "Write a parser",
            {"files": ("a.py", "b.py"), "has_check": True, "latency": "interactive", **LARGE},
            "single_cheap",
            "single_file",
        ),
        ("Write a parser", {"files": ("a.py",), "has_check": True, "steps": ("Do it.",)}, "ask", "plan_lint"),
        (
            "Rename total to sum",
            {"playbook": {"name": "rename-symbol", "inputs": {}}},
            "run_playbook",
            "playbook_match",
        ),
    ],
)
def test_the_first_rule_that_fits_decides(task: str, hints: dict[str, Any], decision: str, rule: str) -> None:
    ruling = decide(task, **hints)
    assert (ruling.decision, ruling.rule) == (decision, rule)


@pytest.mark.parametrize("task", ["Fix the author's name", "Sort authors by birth", "Cache the cryptic_name lookup"])
def test_a_word_that_only_looks_risky_is_not(task: str) -> None:
    assert decide(task, files=("lib/names.py",), has_check=True).risks == ()


def test_a_plan_without_acceptance_or_limits_fails_lint() -> None:
    ruling = decide("Write a parser", files=("a.py",), has_check=True, steps=("Parse lines.",))
    assert ruling.lint == ("acceptance is missing", "out_of_scope is missing")


def test_a_plan_that_holds_the_code_fails_lint() -> None:
    step = "Write this:\n```python\n" + "x = 1\n" * 13 + "```"
    ruling = decide(
        "Write a parser", files=("a.py",), has_check=True, steps=(step,), acceptance=("works",), out_of_scope=("rest",)
    )
    assert ruling.lint == ("a step holds more than 12 lines of code; say what, not how",)


def test_a_pinned_tier_is_obeyed() -> None:
    assert decide("Write a parser", files=("a.py",), has_check=True, tier="strong").tier == "strong"


def test_only_tasks_about_tests_may_edit_tests() -> None:
    assert is_about_tests("Add tests for the parser")
    assert not is_about_tests("Make the failing test pass")


def test_naming_only_what_is_left_out_names_no_file() -> None:
    ruling = decide("Write a parser", files=("!a.py",), has_check=True)
    assert ruling.open_questions == ("Which files may be changed?",)
