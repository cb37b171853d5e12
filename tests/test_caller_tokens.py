"""Edits delegated over MCP in each format of a reply, and what the benchmark says they cost the caller."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.caller_tokens import alone, beaten, delegated, numbered, reference, sweep, tokens, written
from benchmarks.delegation import FORMS, TEXT, Exercise, Form, Run, answer, pairs, play, spoiled
from mcp_tierkit.diffs import patch
from mcp_tierkit.edits import read_reply
from mcp_tierkit.receipts import alone as estimated
from mcp_tierkit.stages.spared import joined
from mcp_tierkit.tokens import estimate
from tests.test_gateway import LITELLM_WARNS

pytestmark = LITELLM_WARNS
CASE = (
    "import unittest\n\nfrom {0} import *\n\n\nclass Cases(unittest.TestCase):\n    def test_{0}(self):\n        {1}\n"
)
EXAMPLES = {
    "leap": (
        "def is_leap(year):\n    pass\n",
        "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n",
        "self.assertEqual([is_leap(1900), is_leap(2000)], [False, True])",
    ),
    "clock": (
        "class Clock:\n    def __init__(self, hour, minute):\n        pass\n\n    def __str__(self):\n        pass\n",
        "class Clock:\n    def __init__(self, hour, minute):\n        self.at = (hour * 60 + minute) % 1440\n\n"
        '    def __str__(self):\n        return f"{self.at // 60:02}:{self.at % 60:02}"\n',
        'self.assertEqual(str(Clock(24, 5)), "00:05")',
    ),
    "words": (
        "def count_words(text):\n    pass",  # No newline at the end, as editors leave some files.
        "import re\n\n\ndef count_words(text):\n    found = re.findall('[a-z]+', text.lower())\n"
        "    return {word: found.count(word) for word in found}",
        "self.assertEqual(count_words('A b, a'), {'a': 2, 'b': 1})",
    ),
}
YEARS = "\n".join(
    f"    def test_the_year_{year}_is_told_apart(self):\n        self.assertIs(is_leap({year}), {year % 4 == 0})\n"
    for year in range(2001, 2013)
)


def exercise(name: str) -> Exercise:
    stub, example, test = EXAMPLES[name]
    task = f"Implement {name}.py as {TEXT} describes, so that every test in {name}_test.py passes."
    tests = {f"{name}_test.py": CASE.format(name, test)}
    return Exercise(name, f"{name}.py", stub, example, tests, "Write it.\n", task, "python -m unittest -q")


def with_many_tests(one: Exercise) -> Exercise:
    """The same with twelve tests more, run by pytest, which says most about each that fails."""
    [(name, text)] = one.tests.items()
    return replace(one, tests={name: f"{text}\n{YEARS}"}, runner="pytest -q")


def test_what_a_receipt_puts_a_small_edit_alone_at_is_what_the_docs_set_beside_the_measured() -> None:
    """docs/report.md has these figures, rounded; the check is one that prints 60 tokens."""
    one = sweep("one", 199, 2)
    changed = tokens(joined([patch({one.path: one.stub}, {one.path: one.example})]))
    own = estimated(file_tokens=estimate(one.stub), context_tokens=0, changed_tokens=changed, check_tokens=60)
    assert (own.input_low + own.output_low, own.input_high + own.output_high) == (1_401, 1_825)
    assert alone(one).sum == 2_304


@pytest.fixture(scope="module")
def repaired() -> list[Run]:
    return [play(exercise(name), form, "repaired") for name, form in zip(EXAMPLES, FORMS, strict=True)]


@pytest.fixture(scope="module")
def red() -> Run:
    return play(with_many_tests(exercise("leap")), "whole file", "red")


def test_a_wrong_draft_in_each_format_is_caught_and_its_repair_applied_to_the_byte(repaired: list[Run]) -> None:
    assert [run.form for run in repaired] == list(FORMS)
    assert {(run.status, run.before, run.attempts, run.after) for run in repaired} == {
        ("applied", "red", ("red", "green"), "green")
    }
    assert [(run.is_example, run.again) for run in repaired] == [(True, 0)] * 3


def test_a_draft_that_stays_wrong_leaves_the_file_and_its_tests_as_they_were(red: Run) -> None:
    assert (red.status, red.attempts, red.is_example) == ("needs_work", ("red", "red"), False)
    assert red.again == 1
    assert red.is_as_scripted
    assert not replace(red, again=0).is_as_scripted


def test_a_green_edit_costs_one_round_and_stays_within_its_bars(repaired: list[Run]) -> None:
    for run in repaired:
        assert run.rounds == 1
        assert written("draft_with_cheap_model", **run.arguments) - tokens(run.arguments["task"]) <= 80
        assert tokens(run.reply) <= 200, run.reply


def test_a_red_reply_stays_within_its_bar_however_many_tests_fail(red: Run) -> None:
    assert "13 failed" in red.reply["checks"][0]["digest"]
    assert tokens(red.reply) <= 300, red.reply


def test_the_drafters_bill_is_read_from_the_ledger_and_is_part_of_the_net(repaired: list[Run]) -> None:
    run = repaired[0]
    assert [call.stage for call in run.paid] == ["draft", "repair"]
    # 0.20 in and 1.25 out per million tokens.
    billed = sum(call.input_tokens * 0.2 + call.output_tokens * 1.25 for call in run.paid) / 1e6
    assert delegated(run).drafter_usd == pytest.approx(billed, rel=1e-6)
    assert 0 < billed < 0.01


def test_what_a_caller_writes_is_counted_raw_and_lists_as_json() -> None:
    text = 'say "hi"\n'
    assert written("Write", content=text) == tokens("Write") + tokens("content") + tokens(text)
    assert written("draft", files=["a.py"]) == tokens("draft") + tokens("files") + tokens('["a.py"]')


def test_a_caller_alone_reads_both_texts_and_takes_the_cheaper_way_to_write() -> None:
    new, small = exercise("words"), sweep("tiny", 199, 2)
    whole, edits = alone(new), alone(small)
    assert whole.into > tokens(numbered(new.stub)) + tokens(numbered(new.text))
    assert whole.out > tokens(new.example)
    assert edits.out < tokens(small.example) / 4
    assert (whole.rounds, whole.tested().rounds) == (2, 3)


@pytest.mark.parametrize(("lines", "places"), [(999, 60), (199, 2)])
def test_a_sweep_has_the_size_that_the_reference_measured(lines: int, places: int) -> None:
    one = sweep("one", lines, places)
    old, new = one.stub.splitlines(), one.example.splitlines()
    assert sum(before != after for before, after in zip(old, new, strict=True)) == places * 5
    assert abs(len(new) - lines) <= 3


@pytest.mark.parametrize("form", FORMS)
def test_a_scripted_reply_says_its_edit_exactly(form: Form) -> None:
    one = sweep("one", 400, 20)
    hasty = spoiled(one.example)
    for old, new in ((one.stub, one.example), (one.stub, hasty), (hasty, one.example)):
        assert read_reply(answer(form, one.path, old, new), {one.path: old}).changes == {one.path: new}


def test_lines_that_occur_twice_are_searched_with_what_stands_around_them() -> None:
    old = "a\nx\nb\nx\nc\nx\n"
    [(search, replacement)] = pairs(old, "a\nx\nb\ny\nc\nx\n")
    assert old.count(search) == 1
    assert old.replace(search, replacement) == "a\nx\nb\ny\nc\nx\n"


def test_a_reference_row_is_beaten_only_where_our_figure_is_lower() -> None:
    row = reference()[0]
    assert set(beaten(row, row).values()) == {False}
    better = {**row, "in": [row["in"][0] - 1, 0], "red": row["red"] + 1}
    assert beaten(better, row) == {**dict.fromkeys(beaten(row, row), False), "tokens": True}
