"""A task's own words ask for a playbook, or they do not."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.load import Playbook, builtin_root, load
from mcp_tierkit.playbook.match import match
from tests.playbooks import folder_of

CONTRACT = """
schema = 1
kind = "script"
version = "1.0.0"
match.phrases = {phrases}
run = {{ script = "scripts/run.py", runtime = "python" }}
effects = {{ read_only = true }}
[inputs]
{inputs}
"""


def made(name: str, *phrases: str, inputs: str = 'x = { type = "string" }') -> Playbook:
    text = CONTRACT.format(phrases=list(phrases), inputs=inputs)
    return load(folder_of({"playbook.toml": text, "scripts/run.py": ""}, name), "", origin="project")


@pytest.fixture(scope="module")
def shipped() -> list[Playbook]:
    folders = sorted(path for path in builtin_root().iterdir() if path.is_dir())
    return [load(read_folder(path), "", origin="package") for path in folders]


def found(task: str, playbooks: list[Playbook]) -> tuple[str, dict[str, Any]] | None:
    hit = match(task, playbooks)
    return (hit.name, hit.inputs) if hit else None


@pytest.mark.parametrize(
    ("task", "name", "inputs"),
    [
        ("changelog since v1.0.0", "changelog-from-git", {"from_ref": "v1.0.0", "to_ref": "HEAD"}),
        ("Changelog since v1.0.0.", "changelog-from-git", {"from_ref": "v1.0.0", "to_ref": "HEAD"}),
        ("  CHANGELOG   since\n v1.0.0 ", "changelog-from-git", {"from_ref": "v1.0.0", "to_ref": "HEAD"}),
        ("release notes from v1 to Main", "changelog-from-git", {"from_ref": "v1", "to_ref": "Main"}),
        ("rename total to grand_total", "rename-symbol", {"old": "total", "new": "grand_total"}),
        ("Rename `Total` to 'grand_total'.", "rename-symbol", {"old": "Total", "new": "grand_total"}),
        (
            "weekly metrics report for 2024-W10",
            "weekly-metrics-report",
            {"database": "data/shop.db", "week": "2024-W10"},
        ),
    ],
)
def test_a_phrase_is_found_with_its_inputs_filled(
    shipped: list[Playbook], task: str, name: str, inputs: dict[str, Any]
) -> None:
    assert found(task, shipped) == (name, inputs)


@pytest.mark.parametrize(
    "task",
    [
        "",
        " ",
        "changelog",
        "changelog since",
        "changelog since last week",
        "write a changelog since v1.0.0",
        "changelog since v1.0.0 and email it",
        "changelog since --output=x",
        "changelog since $(id)",
        "rename total to grand_total in shop only",
        "rename the total to grand_total",
        "rename total to grand-total",
        "rename total grand_total",
        "do not rename total to grand_total",
        "weekly metrics report for last week",
        "weekly metrics report for 2024-W1",
        "weekly metrics reports for 2024-W10",
        "rename total to grand_total " + "x" * 2000,
        "rename 'total to grand_total",
    ],
)
def test_a_near_miss_is_not_a_match(shipped: list[Playbook], task: str) -> None:
    assert found(task, shipped) is None


def test_a_quoted_value_may_hold_spaces_and_an_unquoted_one_may_not() -> None:
    playbooks = [made("sample", "summarise {x} now")]
    assert found('summarise "my file.txt" now', playbooks) == ("sample", {"x": "my file.txt"})
    assert found("summarise my file.txt now", playbooks) is None


def test_slots_inside_a_word_are_read_only_where_there_is_one_way() -> None:
    playbooks = [made("sample", "diff {a}..{b} please", inputs='a = { type = "string" }\nb = { type = "string" }')]
    assert found("diff v1..v2 please", playbooks) == ("sample", {"a": "v1", "b": "v2"})
    assert found("diff v1..v2..v3 please", playbooks) is None
    assert found("diff ..v2 please", playbooks) is None


def test_numbers_and_booleans_are_typed() -> None:
    inputs = 'n = { type = "integer", maximum = 9 }\nb = { type = "boolean", default = false }'
    playbooks = [made("sample", "print {n} copies", "print {n} copies with cover {b}", inputs=inputs)]
    assert found("print 3 copies", playbooks) == ("sample", {"n": 3, "b": False})
    assert found("print 3 copies with cover true", playbooks) == ("sample", {"n": 3, "b": True})
    for task in ("print 10 copies", "print 3.5 copies", "print three copies", "print 3 copies with cover yes"):
        assert found(task, playbooks) is None


def test_a_phrase_that_leaves_an_input_open_never_matches() -> None:
    playbooks = [made("sample", "make it so", inputs='x = { type = "string" }')]
    assert found("make it so", playbooks) is None


def test_the_more_literal_phrase_wins_and_then_the_nearer_playbook() -> None:
    near, far = made("near", "report for {x}"), made("far", "report for {x}")
    literal = made("literal", "report for march", inputs="")
    assert found("report for march", [near, far, literal]) == ("literal", {})
    assert found("report for april", [near, far, literal]) == ("near", {"x": "april"})
    assert found("report for april", [far, near, literal]) == ("far", {"x": "april"})


def test_hostile_text_in_a_task_stays_a_value() -> None:
    playbooks = [made("sample", "report for {x}")]
    for value in (";rm", "$(id)", "`id`", "{x}", "{0}", "%s", "../../etc/passwd", "--help"):
        assert found(f'report for "{value}"', playbooks) == ("sample", {"x": value})


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_crashes_the_matcher(text: str) -> None:
    playbooks = [made("sample", "report for {x}", "{x}: totals")]
    hit = match(text, playbooks)
    assert hit is None or hit.name == "sample"


def test_matching_is_linear_in_hostile_text() -> None:
    inputs = "\n".join(f'{name} = {{ type = "string" }}' for name in "abcdef")
    playbooks = [made("sample", "go {a}-{b}-{c}-{d}-{e}-{f}", inputs=inputs)]
    started = time.monotonic()
    for task in ("go " + "-" * 990, "go " + "a-" * 490, "'" * 1000, '"' + "a " * 499):
        assert match(task, playbooks) is None
    assert time.monotonic() - started < 1


def test_two_hundred_playbooks_are_matched_quickly(record_property: Any) -> None:
    inputs = 'a = { type = "string" }\nb = { type = "string", default = "x" }'
    playbooks = [
        made(f"p{n}", f"make report {n} for {{a}}", f"report {n} from {{a}} to {{b}}", inputs=inputs)
        for n in range(200)
    ]
    rounds = 200
    started = time.perf_counter()
    for _ in range(rounds):
        assert match("report 199 from may to june", playbooks)
        assert match("fix the rounding in the cart's total", playbooks) is None
    record_property("match_200_playbooks_us", round((time.perf_counter() - started) / rounds / 2 * 1e6))
