"""Rules of routing: which one decides, in which order, and how fast."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from mcp_tierkit.routing import category_of, decide, is_about_tests
from mcp_tierkit.types import Category, Proof

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


@pytest.mark.parametrize(
    ("task", "files", "category"),
    [
        ("Take the discount as a percentage", ("shop/cart.py",), "code"),
        ("", (), "code"),
        ("Add tests for the parser", ("checks/parser_checks.py",), "tests"),
        ("Cover the empty cart", ("tests/test_cart.py", "tests/helpers.py"), "tests"),
        ("Cover the empty cart", ("src/cart.test.ts",), "tests"),
        ("Cover the empty cart", ("tests/test_cart.py", "shop/cart.py"), "code"),
        ("Retry three times, and add tests for it", ("shop/cart.py", "tests/test_cart.py"), "code"),
        ("Say how discounts work", ("README.md", "docs/cart.rst"), "docs"),
        ("Add docstrings to the cart", ("shop/cart.py",), "docs"),
        ("Document how discounts add up", ("shop/cart.py",), "docs"),
        ("Document titles are cut off", ("shop/cart.py",), "code"),
        ("Sort what we document the most", ("shop/cart.py",), "code"),
        ("Rename total to sum", ("shop/cart.py",), "refactor"),
        ("Refactor total()", ("shop/cart.py", "!shop/tax.py"), "refactor"),
        ("Render inline images", ("shop/cart.py",), "code"),
        ("Classify errors by severity", ("shop/errors.py",), "code"),
        ("Summarize orders by month", ("shop/report.py",), "code"),
        ("Classify this error", (), "classify"),
        ("Which kind of error is this?", ("!secret.py",), "classify"),
        ("Extract the order numbers, then summarize", (), "extract"),
        ("Summarise the log", (), "summarize"),
        ("Explain why the sum is off", (), "analyse"),
        ("Write tests for this", (), "tests"),
    ],
)
def test_a_category_goes_by_the_first_words_and_the_files(
    task: str, files: tuple[str, ...], category: Category
) -> None:  # E8
    assert category_of(task, files) == category


@pytest.mark.parametrize(("proof", "category"), [("stays_green", "refactor"), ("turns_green", "code")])
def test_a_change_that_turns_nothing_green_is_taken_for_a_rearrangement(proof: Proof, category: Category) -> None:
    assert category_of("Use the new helper", ("shop/cart.py",), proof=proof) == category
    assert category_of("Use the new helper", ("README.md",), proof=proof) == "docs"
    assert decide("Use the new helper", files=("shop/cart.py",), proof=proof).category == category


@pytest.mark.parametrize("word", ["Classify", "Extract", "Summarize", "Analyse", "Explain"])
def test_no_task_that_changes_a_file_gets_the_cap_of_a_short_text(word: str) -> None:
    assert category_of(f"{word} the orders", ("shop/orders.py",)) == "code"


@pytest.mark.parametrize(
    ("task", "hints"),
    [
        ("   ", {}),
        ("Rename the casino bonus, click here to claim", {}),
        ("Rename total to sum", {"playbook": {"name": "rename-symbol", "inputs": {}}}),
        ("Rename the OWASP list", {"files": ("a.py",), "has_check": True}),
        ("Rename total somehow", {"files": ("a.py",)}),
        ("Rename total", {"files": ("a.py",)}),
        ("Rename total", {"files": ("a.py", "b.py"), "has_check": True, **LARGE}),
    ],
)
def test_every_ruling_names_its_category(task: str, hints: dict[str, Any]) -> None:  # E8
    ruling = decide(task, **hints)
    assert ruling.category == ("refactor" if "Rename" in task else "code")
    assert ruling.category in get_args(Category)
