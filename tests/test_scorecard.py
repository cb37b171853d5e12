"""Scorecards: figures that come from rows and from git, scores by the thresholds in data/, and honest nulls."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.config import load_config
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.journal import apply
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.migrations import migrations
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.scores import facts_of, repeated_findings, scorecards
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.receipts import Weighed, usd
from mcp_tierkit.scorecard import Answer, Baseline, Facts, Scorecard, checklist, is_weak, score
from mcp_tierkit.stages.outcome import outcome_of
from mcp_tierkit.tokens import count
from mcp_tierkit.types import (
    Budgets,
    Call,
    Content,
    Draft,
    DraftStatus,
    Finding,
    FindingClass,
    Request,
    Review,
    Route,
    Score,
    Stage,
    Task,
    Usage,
)
from mcp_tierkit.workspace import Workspace
from tests.reports import open_task, receipt
from tests.support import JOB, REPAIR, WRONG, client_at, make_env, make_project, said
from tests.transcripts import answer, asked, result, tool, usage, write

DAY = timedelta(days=1)
THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHY = "none: the change is one line and covered"
CLEAN = json.dumps(
    {"findings": [], "checked": dict.fromkeys(("edge_case", "assumption", "test", "drift", "security"), WHY)}
)
SEVEN_DAYS_LATER = {"outcome": None, "changed_lines": 10, "rewritten_lines": 0, "are_lines_final": True}
DOLLAR = 1_000_000_000


def facts(**figures: Any) -> Facts:
    known: dict[str, Any] = {
        "draft_status": "applied",
        "outcome": "accepted",
        "cost_nanousd": 0,
        "wall_s": 30,
        "rewrites": 0,
    }
    return Facts(task_id="t1", goal="g", project="/p", created_at="2026-03-01", **known | figures)


def costing(ours: int, alone: tuple[int, int] = (500, 1500)) -> Baseline:
    return Baseline(unit="usd", alone_low=alone[0], alone_high=alone[1], ours=ours)


# --- scores


@pytest.mark.parametrize(
    ("name", "figures", "wanted"),
    [
        ("cost", {"baseline": None}, None),
        *(("cost", {"baseline": costing(ours)}, grade)
          for ours, grade in [(400, 5), (401, 4), (900, 4), (901, 3), (1100, 3), (1101, 2), (1500, 2), (1501, 1)]),
        ("cost", {"baseline": costing(1, alone=(0, 0))}, None),
        ("cost", {"baseline": costing(1, alone=(0, 0)), "draft_status": "rejected", "outcome": None}, 1),
        ("cost", {"baseline": costing(1, alone=(0, 0)), "draft_status": "over_budget", "outcome": None}, None),
        ("speed", {"wall_s": None}, None),
        *(("speed", {"wall_s": wall}, grade)
          for wall, grade in [(60, 5), (61, 4), (180, 4), (181, 3), (600, 3), (601, 2), (1800, 2), (1801, 1)]),
        ("speed", {"cleanup_minutes": 10}, 2),
        *(("accuracy", {"rewrites": n}, grade) for n, grade in [(0, 5), (1, 4), (2, 3), (3, 2), (4, 1)]),
        *(("accuracy", {"repeated_comments": n}, grade) for n, grade in [(0, 5), (1, 3), (2, 2), (3, 1)]),
        *(("accuracy", {"cleanup_minutes": n}, grade) for n, grade in [(0, 5), (2, 4), (5, 3), (15, 2), (15.5, 1)]),
        *(("accuracy", {"defects": n}, grade) for n, grade in [(0, 5), (1, 2), (2, 1)]),
        *(("accuracy", {"changed_lines": 100, "rewritten_lines": n}, grade)
          for n, grade in [(5, 5), (6, 4), (15, 4), (16, 3), (30, 3), (31, 2), (60, 2), (61, 1)]),
        ("accuracy", {"changed_lines": 2, "rewritten_lines": 2}, 5),
        ("accuracy", {"changed_lines": 1, "rewritten_lines": 1, "is_taken_back": True}, 1),
        *(("accuracy", {"outcome": outcome}, grade)
          for outcome, grade in [("accepted", 5), ("edited", 4), ("reverted", 1), (None, 5)]),
        ("accuracy", {"defects": 0, "rewrites": 2, "cleanup_minutes": 1}, 3),
        ("accuracy", {"is_uninformative": True}, 1),
        ("accuracy", {"draft_status": "needs_work", "outcome": None}, 1),
        ("accuracy", {"draft_status": "question", "outcome": None}, None),
        ("accuracy", {"draft_status": "unproven"}, 5),
        ("accuracy", {"draft_status": None, "outcome": None}, None),
    ],
)  # fmt: skip
def test_a_score_follows_the_thresholds(name: str, figures: dict[str, Any], wanted: int | None) -> None:
    assert getattr(score(facts(**figures)), name) == wanted


@pytest.mark.parametrize(
    ("figures", "saved_minutes", "wanted"),
    [
        ({"baseline": costing(300)}, None, "helped"),
        ({"baseline": costing(300), "rewrites": 2}, None, "neutral"),
        ({"baseline": costing(300), "rewrites": 3}, None, "moved_work"),
        ({"baseline": costing(300), "cleanup_minutes": 10}, None, "neutral"),
        ({"baseline": costing(300), "cleanup_minutes": 11}, None, "moved_work"),
        ({"baseline": costing(300), "cleanup_minutes": 20}, 5, "moved_work"),
        ({"baseline": costing(300), "cleanup_minutes": 2}, 5, "helped"),
        ({"baseline": costing(300), "cleanup_minutes": 20}, 60, "neutral"),
        ({"baseline": costing(300), "changed_lines": 10, "rewritten_lines": 6}, None, "moved_work"),
        ({"baseline": costing(300), "changed_lines": 1, "rewritten_lines": 1, "is_taken_back": True}, None,
         "moved_work"),
        ({"baseline": costing(1, alone=(0, 0))}, None, None),
        ({"baseline": costing(300), **SEVEN_DAYS_LATER}, None, "helped"),
        ({"baseline": costing(300), **SEVEN_DAYS_LATER, "are_lines_final": False}, None, None),
        ({"baseline": costing(300), "defects": 2}, None, "moved_work"),
        ({"baseline": costing(300), "outcome": "reverted"}, None, "moved_work"),
        ({"baseline": costing(1000)}, None, "neutral"),
        ({"baseline": costing(9000)}, None, "neutral"),
        ({"baseline": costing(9000), "rewrites": 4}, None, "moved_work"),
        ({"baseline": costing(300), "draft_status": "needs_work", "outcome": None}, None, "moved_work"),
        ({"baseline": costing(300), "outcome": None}, None, None),
        ({"baseline": None}, None, None),
        ({"baseline": costing(300), "draft_status": "question", "outcome": None}, None, None),
        ({"draft_status": None, "outcome": None}, None, None),
    ],
)  # fmt: skip
def test_a_verdict_says_whether_work_was_done_or_moved(
    figures: dict[str, Any], saved_minutes: float | None, wanted: str | None
) -> None:
    assert score(facts(**figures), saved_minutes=saved_minutes).verdict == wanted


def test_clean_up_minutes_count_into_the_total_where_they_have_a_price() -> None:
    base = costing(DOLLAR, alone=(6 * DOLLAR, 6 * DOLLAR))
    told = facts(cost_nanousd=DOLLAR, cleanup_minutes=2.5, baseline=base)
    priced, unpriced = score(told, minute_nanousd=DOLLAR), score(told)
    assert (priced.cleanup_nanousd, priced.total_nanousd, priced.cost) == (5 * DOLLAR // 2, 7 * DOLLAR // 2, 4)
    assert (unpriced.cleanup_nanousd, unpriced.total_nanousd, unpriced.cost) == (None, None, 5)
    assert score(facts(cost_nanousd=DOLLAR, cleanup_minutes=0)).total_nanousd == DOLLAR
    assert score(facts(cost_nanousd=None, cleanup_minutes=0)).total_nanousd is None
    exact = score(facts(cost_nanousd=0, cleanup_minutes=100_000), minute_nanousd=10**12 + 1)
    assert exact.cleanup_nanousd == 100_000 * (10**12 + 1)
    assert score(facts(cleanup_minutes=0.3), minute_nanousd=10**17 + 10).cleanup_nanousd == 3 * 10**16 + 3


RANGE_AND_SENTENCE: list[tuple[int, tuple[int, int], dict[str, Any], str]] = [
    (500, (500, 1500), {}, "helped: It cost less, and little or nothing came back."),
    (501, (500, 1500), {}, "helped: It probably cost less, and little or nothing came back."),
    (501, (500, 1500), {"rewrites": 2}, "neutral: It probably cost less, but its accuracy is 3 of 5."),
    (300, (500, 1500), {"rewrites": 2}, "neutral: It cost less, but its accuracy is 3 of 5."),
    (1000, (500, 1500), {},
     "neutral: It cost about as much as its caller alone would have spent."),
    (1499, (500, 1500), {},
     "neutral: It probably cost more than its caller alone would have spent, and little or nothing came back."),
    (1500, (500, 1500), {},
     "neutral: It cost more than its caller alone would have spent, and little or nothing came back."),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "alone", "figures", "told"), RANGE_AND_SENTENCE)
def test_less_or_more_is_only_probable_while_the_range_of_the_receipt_has_both(
    ours: int, alone: tuple[int, int], figures: dict[str, Any], told: str
) -> None:
    card = score(facts(baseline=costing(ours, alone), **figures))
    assert f"{card.verdict}: {card.why}" == told


def test_minutes_of_clean_up_with_a_price_can_bring_the_range_to_zero() -> None:
    told = facts(baseline=costing(4 * DOLLAR, alone=(5 * DOLLAR, 9 * DOLLAR)), cleanup_minutes=2)
    assert score(told).why == "It cost less, and little or nothing came back."
    assert score(told, minute_nanousd=DOLLAR).why == "It probably cost less, and little or nothing came back."


def test_a_verdict_that_is_missing_says_what_it_lacks() -> None:
    assert score(facts(baseline=costing(1, alone=(0, 0)))).why == (
        "Its receipt puts the work alone at nothing: there is no cost to weigh it against."
    )
    untold = facts(baseline=costing(300), outcome=None, are_lines_final=True, rewrites=None)
    assert score(untold).why == "How well it was done is not known: nothing of it was counted."


# --- the checklist


def cards(*figures: dict[str, Any]) -> list[Scorecard]:
    return [score(facts(**one)) for one in figures]


def test_two_weak_answers_are_too_many_and_too_few_tasks_give_none() -> None:
    good = {"baseline": costing(300), "comments": 1, "repeated_comments": 0}
    dear, slow = good | {"baseline": costing(1000)}, good | {"wall_s": 2000}
    assert {row.answer for row in checklist(cards(*[good] * 4))} == {None}
    assert {row.answer for row in checklist(cards(*[good] * 5))} == {"strong"}
    one_weak = checklist(cards(*[good] * 3, dear, dear))
    assert [row.answer for row in one_weak] == ["weak", "strong", "strong", "strong", "strong"]
    assert not is_weak(one_weak)
    two_weak = checklist(cards(*[good] * 2, dear, dear, slow, slow))
    assert [row.answer for row in two_weak][:2] == ["weak", "weak"]
    assert is_weak(two_weak)
    question = "Does a task cost less in all, its clean-up included?"
    advice = two_weak[0].advice
    assert advice
    assert two_weak[0] == Answer(name="cheaper", question=question, answer="weak", good=4, of=6, advice=advice)
    assert [row.advice for row in two_weak[2:]] == [None] * 3
    assert [(row.answer, row.of) for row in checklist(cards(*[{"draft_status": "question", "outcome": None}] * 9))] == [
        (None, 0)
    ] * 5


# --- what the ledger knows


class Clock:
    def __init__(self) -> None:
        self.at = THEN

    def __call__(self) -> datetime:
        return self.at


class Book:
    """A real ledger at a time that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.url, self.clock = f"sqlite://{folder}/ledger.db", Clock()
        self.ledger: Ledger = open_ledger(self.url, state_dir=folder / "state", clock=self.clock)

    async def opened(self, task_id: str, project: str = "/p") -> None:
        task = Task(task_id=task_id, project=project, goal="Fix the\u202e sum", created_at=self.clock.at)
        await self.ledger.open_task(task)
        await self.ledger.route(
            Route(route_id=f"r{task_id}", task_id=task_id, decision="draft", tier="cheap", rule="x", reason="y")
        )

    async def called(self, task_id: str, stage: Stage, seconds: float, status: Any = "settled", cost: int = 5) -> None:
        request = Request.model_validate({
            "task_id": task_id, "route_id": f"r{task_id}", "stage": stage, "tier": "cheap", "model": "openai/m",
            "messages": (), "max_output_tokens": 9, "timeout_s": 9, "prompt_id": "draft.v1@aa",
        })  # fmt: skip
        call_id = await self.ledger.reserve(request, 9, Budgets())
        self.clock.at += timedelta(seconds=seconds)
        usage = Usage(input=1, cached_input=0, cache_write=0, output=1)
        await self.ledger.settle(call_id, Call(status=status, cost_nanousd=cost, usage=usage))

    async def drafted(self, task_id: str, status: DraftStatus = "applied") -> None:
        await self.ledger.save(Draft(task_id=task_id, status=status))

    async def reviewed(self, task_id: str, *classes: FindingClass, verdict: Any = "findings") -> None:
        found = tuple(
            Finding(file="a.py", line=at, severity="minor", klass=klass, claim="c", evidence="e")
            for at, klass in enumerate(classes, 1)
        )
        await self.ledger.save(Review(task_id=task_id, verdict=verdict, findings=found, model="m"))


def wait(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


async def fill(book: Book) -> None:
    await book.opened("t1")
    book.clock.at += wait(500)  # a plan that waits is no work
    await book.called("t1", "draft", 10)
    await book.called("t1", "continue", 2)
    await book.called("t1", "repair", 3, status="failed")
    await book.called("t1", "repair", 4)
    book.clock.at += wait(1)  # checks
    await book.drafted("t1")
    book.clock.at += wait(900)
    await book.called("t1", "review", 5)
    await book.reviewed("t1", "test", "edge_case")
    await book.called("t1", "draft", 6)
    await book.drafted("t1", "needs_work")
    await book.called("t1", "review", 5)
    await book.reviewed("t1", "test")
    await book.ledger.save(Score(task_id="t1", outcome="edited", cleanup_minutes=4))
    await book.ledger.save(Score(task_id="t1", outcome="edited", defects=0, changed_lines=9, rewritten_lines=1))
    await book.opened("t2")  # planned only
    await book.opened("t3")
    await book.called("t3", "draft", 1, status="cancelled")
    await book.drafted("t3", "needs_work")
    await book.ledger.close()


def test_the_figures_of_a_task_come_from_its_rows(tmp_path: Path) -> None:
    book = Book(tmp_path)
    anyio.run(fill, book)
    with reading(book.url) as conn:
        first, planned = facts_of(conn, "t1"), facts_of(conn, "t2")
        found, before = scorecards(conn), scorecards(conn, "2026-03-02")
    assert first == Facts(
        task_id="t1", goal="Fix the\u202e sum", project="/p", created_at=THEN.isoformat(), draft_status="applied",
        calls=7, cost_nanousd=35, wall_s=36.0, rewrites=2, comments=3, repeated_comments=1, outcome="edited",
        defects=0, cleanup_minutes=4,
    )  # fmt: skip
    assert planned == Facts(task_id="t2", goal=first.goal, project="/p", created_at=planned.created_at, cost_nanousd=0)
    assert [(card.task_id, card.rewrites, card.verdict) for card in found] == [
        ("t3", None, "moved_work"),
        ("t1", 2, None),
    ]
    assert before == ()


async def fill_reviews(book: Book, classes: list[FindingClass]) -> None:
    for at, klass in enumerate(classes):
        await book.opened(f"t{at}", "/p" if at else "/other")
        await book.reviewed(f"t{at}", klass)
    await book.ledger.close()


@pytest.mark.parametrize(
    ("classes", "wanted"),
    [
        (["nit", "test", "test", "drift"], []),
        (["nit", "test", "test", "test"], [("test", 3)]),
        (["test", "test", "test", *["nit"] * 2, *["drift"] * 18], [("drift", 18)]),  # of the newest twenty
    ],
)
def test_a_class_of_finding_that_comes_in_three_of_twenty_tasks_is_a_pattern(
    tmp_path: Path, classes: list[FindingClass], wanted: list[tuple[str, int]]
) -> None:
    book = Book(tmp_path)
    anyio.run(fill_reviews, book, classes)
    with reading(book.url) as conn:
        found = repeated_findings(conn, project="/p")
    assert [(pattern.klass, pattern.times) for pattern in found] == wanted
    assert all(pattern.suggestion for pattern in found)


async def fill_one_review(book: Book) -> None:
    await book.opened("t1")
    await book.reviewed("t1", "nit", "nit", "nit")
    book.clock.at += 30 * DAY
    for at in range(3):
        await book.opened(f"n{at}")
        await book.reviewed(f"n{at}", "drift")
    await book.ledger.close()


def test_three_findings_in_one_review_are_no_pattern_and_old_ones_are_none_of_today(tmp_path: Path) -> None:
    book = Book(tmp_path)
    anyio.run(fill_one_review, book)
    with reading(book.url) as conn:
        ever, later = repeated_findings(conn), repeated_findings(conn, since="2026-04-01")
    assert [(pattern.klass, pattern.times, pattern.tasks) for pattern in ever] == [("drift", 3, 3)]
    assert later == ()


# --- through the doors


@pytest.mark.anyio
async def test_an_outcome_is_answered_with_the_scorecard(tmp_path: Path) -> None:
    project = make_project(tmp_path / "app")
    env = make_env(tmp_path / "home", TIERKIT_CALLER_MINUTE_USD="0.75")
    config = load_config(project=str(project), env=env)
    async with client_at(config, ScriptedGateway([said(WRONG), said(REPAIR), said(CLEAN)])) as client:

        async def called(tool: str, **arguments: Any) -> dict[str, Any]:
            reply = (await client.call_tool(tool, arguments)).structured_content
            assert reply is not None
            return dict(reply)

        drafted = await called("draft_with_cheap_model", **JOB)
        task_id = drafted["task_id"]
        unscored = await anyio.to_thread.run_sync(outcome_of, config, task_id)
        review = await called("review_diff", task_id=task_id)
        assert review["verdict"] == "clean"
        reviewed = await anyio.to_thread.run_sync(outcome_of, config, task_id)
        cart = project / "shop/cart.py"
        cart.write_text(cart.read_text().replace("// 100", "/ 100"))
        reply = await called("record_outcome", task_id=task_id, outcome="edited", cleanup_minutes=20)
        later = await called("record_outcome", task_id=task_id, outcome="edited", defects=1)
    assert (unscored.card.verdict, unscored.card.comments) == (None, None)
    cost, base, base_then = reviewed.card.cost_nanousd, reviewed.card.baseline, unscored.card.baseline
    # What the draft spared stands, and what the review came to is taken off it.
    rounds = [made["receipt"]["measured"]["caller_tokens"] for made in (drafted, review)]
    read, wrote = (late - early for early, late in zip(*rounds, strict=True))
    assert cost is not None
    assert base is not None
    assert base_then is not None
    more = cost - 400_000 + 4000 * read + 20_000 * wrote
    assert (base.ours - base_then.ours, base.alone_high) == (more, base_then.alone_high)
    assert reply == {
        "summary": "Recorded: edited. moved_work: It took 20 minutes to clean up.", "task_id": task_id,
        "outcome": "edited", "restored": [], "calls": 3, "usd": usd(cost),
        "total_usd": usd(15 * DOLLAR + cost), "wall_s": reply["wall_s"], "rewrites": 1,
        "comments": 0, "cleanup_minutes": 20.0, "rewritten": "1 of 1 lines", "defects": None, "cost": 1, "speed": 2,
        "accuracy": 1, "verdict": "moved_work", "next": "Nothing more to do.",
    }  # fmt: skip
    assert reply["wall_s"] > 0
    assert count(json.dumps(reply, separators=(",", ":"))).tokens <= 150
    assert (later["cleanup_minutes"], later["defects"]) == (20.0, 1)
    with reading(config.ledger_url) as conn:
        [kept] = scorecards(conn)
    # What was counted on the first day is no result of seven.
    assert (kept.rewritten_lines, kept.defects, kept.verdict) == (None, 1, "moved_work")


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A ledger that the command line finds, and a project to stand in."""
    made = Book(tmp_path)
    for name, value in make_env(tmp_path / "home", TIERKIT_LEDGER=made.url).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path / "p")
    return made


async def fill_project(book: Book, project: str) -> None:
    book.clock.at = datetime.now(UTC) - 2 * DAY  # The calls below take hours, at any time of day.
    for at in range(6):
        await book.opened(f"t{at}", project)
        await book.called(f"t{at}", "draft", 2000)
        await book.drafted(f"t{at}")
        await book.reviewed(f"t{at}", "test")
    await book.ledger.save(Score(task_id="t0", outcome="accepted", cleanup_minutes=20))
    await book.opened("t9", project)
    await book.ledger.close()


def test_a_score_on_the_command_line_tells_what_is_known_and_what_is_not(
    book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    anyio.run(fill_project, book, str(Path.cwd()))
    assert run(["score", "t0", "--saved-minutes", "5"]) == 1
    assert capsys.readouterr().out.splitlines()[:13] == [
        "t0  moved_work: It saved 5 minutes and took 20 to clean up.",
        "  Fix the? sum",
        "",
        "  cost             - of 5  $0.000000005 for 1 call; alone: unknown",
        "  speed            1 of 5  2000.0 s of work and 20 minutes of clean-up",
        "  accuracy         1 of 5  accepted",
        "  rewrites         0",
        "  review comments  1, 0 of them again",
        "  defects after    unknown",
        "  clean-up told    20 minutes, weighed against 5 saved",
        "  clean-up in git  unknown: No change of it is on record: it was never applied, or was taken back.",
        "  total            unknown",
        "",
    ]
    assert run(["score", "t9", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    known = {"task_id", "goal", "project", "created_at", "calls", "cost_nanousd", "is_uninformative", "why",
             "is_taken_back", "are_lines_final"}  # fmt: skip
    assert {name for name, value in told.items() if value is not None} == {*known, "measured", "patterns"}
    assert told["measured"] == {"is_final": False, "reason": "No draft of it was handed over."}
    (Path.cwd() / "elsewhere").mkdir()
    assert run(["score", "t0", "--project", "elsewhere", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["measured"]["reason"] == "It is a task of another project."
    assert run(["score", "t404"]) == 2
    assert "No task has id 't404'" in capsys.readouterr().err


def test_the_checklist_says_what_is_weak_and_what_to_do_about_it(
    book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["checklist"]) == 0
    anyio.run(fill_project, book, str(Path.cwd()))
    capsys.readouterr()
    assert run(["checklist", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["answer"], row["good"], row["of"]) for row in told["answers"]] == [
        ("cheaper", None, 0, 0), ("fast", "weak", 0, 6), ("first_try", "strong", 6, 6), ("review", "strong", 6, 6),
        ("lasting", None, 0, 1),
    ]  # fmt: skip
    assert [(row["klass"], row["times"]) for row in told["patterns"]] == [("test", 6)]
    assert run(["checklist"]) == 0
    since = datetime.now(UTC).date() - timedelta(days=89)
    first, rest = capsys.readouterr().out.split("\n\n", 1)
    assert first == f"From 6 tasks since {since}. A task that cannot tell is left out; 5 that can make an answer."
    assert (
        rest
        == """\
  1. Does a task cost less in all, its clean-up included?
     not known yet: 0 of 0 tasks; 6 cannot tell
  2. Is it done within ten minutes, its clean-up included?
     weak: 0 of 6 tasks
     Name narrower checks and fewer files, or plan with `--latency interactive`: one call, no repair.
  3. Is a draft right at once, or after one repair?
     strong: 6 of 6 tasks
  4. Does a review find something new each time, and say why where it finds nothing?
     strong: 6 of 6 tasks
  5. Does the change stay as it was handed over?
     not known yet: 0 of 1 task; 5 cannot tell

  Again and again: 6 findings of class test in 6 tasks.
  Name in checks a test for each line of acceptance, and list the test file in files where it is to be written.

1 of 5 answers is weak; 2 would be too many. 2 of 5 are not known yet.
"""
    )
    run(["checklist", "--days", "1", "--json"])  # They are all older.
    assert json.loads(capsys.readouterr().out)["patterns"] == []


async def fill_weak(book: Book, project: str) -> None:
    book.clock.at = datetime.now(UTC) - DAY
    for at in range(201):
        await book.opened(f"t{at}", project)
        await book.called(f"t{at}", "draft", 2000)
        await book.drafted(f"t{at}", "needs_work")
    await book.ledger.close()


def test_two_weak_answers_end_a_checklist_with_1_and_it_says_how_many_tasks_it_looked_at(
    book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    anyio.run(fill_weak, book, str(Path.cwd()))
    assert run(["checklist"]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("From the newest 200 tasks since ")
    assert "2 of 5 answers are weak: mend that before you roll it out. 3 of 5 are not known yet." in shown


class Project:
    """A git project with a change of task t1 that was handed over ten days ago."""

    def __init__(self, book: Book) -> None:
        self.root, self.book, self.now = Path.cwd(), book, datetime.now(UTC)
        (self.root / "shop.py").write_text("old\n")
        self.git("init", "-q", "-b", "main")
        self.commit(20)
        ws = Workspace(self.root)
        change: dict[str, Content | None] = {"shop.py": Content(data=b"one\ntwo\nthree\nfour\n")}
        apply(ws, Path(os.environ["TIERKIT_STATE_DIR"]), "t1", change, {"shop.py": ws.digest("shop.py")})
        anyio.run(self.fill)

    async def fill(self) -> None:
        self.book.clock.at = self.now - 10 * DAY
        await self.book.opened("t1", str(self.root))
        await self.book.called("t1", "draft", 0)
        await self.book.drafted("t1")
        await self.book.ledger.save(Score(task_id="t1", outcome="accepted", changed_lines=4, rewritten_lines=0))
        await self.book.ledger.close()

    def git(self, *args: str, days_ago: float = 0) -> None:
        at = (self.now - days_ago * DAY).isoformat()
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
        env |= {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        subprocess.run(["git", *args], cwd=self.root, env=env, check=True, capture_output=True)

    def commit(self, days_ago: float, text: str | None = None) -> None:
        if text is not None:
            (self.root / "shop.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", "c", days_ago=days_ago)


@pytest.fixture
def rewritten_project(book: Book) -> Project:
    """All of the change was rewritten on the day after."""
    project = Project(book)
    project.commit(9.9)
    project.commit(9, "other\n")
    return project


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    run([*args, "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def lines(card: dict[str, Any]) -> list[Any]:
    return [card[name] for name in ("changed_lines", "rewritten_lines", "are_lines_final", "accuracy", "verdict")]


@pytest.mark.parametrize("first", ["checklist", "score", "outcome"])
def test_what_was_counted_on_the_first_day_never_passes_for_the_result_of_seven(
    first: str, rewritten_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    def reported() -> list[Any]:
        return lines(shown(capsys, "report")["scorecards"][0])

    assert reported() == [None, None, False, 5, None]
    assert rewritten_project.root == Path.cwd()
    asked = {"checklist": ["checklist"], "score": ["score", "t1"], "outcome": ["outcome", "t1", "accepted"]}[first]
    told = shown(capsys, *asked)
    if first == "checklist":
        assert [(row["good"], row["of"]) for row in told["answers"] if row["name"] == "lasting"] == [(0, 1)]
    else:
        assert lines(told) == [4, 4, True, 1, "moved_work"]
    assert reported() == [4, 4, True, 1, "moved_work"]
    shutil.rmtree(Path(os.environ["TIERKIT_STATE_DIR"]) / "projects")
    assert lines(shown(capsys, "score", "t1")) == [4, 4, True, 1, "moved_work"]


def test_a_change_whose_record_is_gone_has_no_count_of_an_earlier_day(
    rewritten_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rewritten_project.root == Path.cwd()
    shutil.rmtree(Path(os.environ["TIERKIT_STATE_DIR"]) / "projects")
    told = shown(capsys, "score", "t1")
    assert lines(told) == [None, None, False, 5, None]
    assert told["measured"]["reason"] == "No change of it is on record: it was never applied, or was taken back."


def test_looking_again_at_lines_that_cannot_be_counted_writes_nothing_more(
    rewritten_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(Path(os.environ["TIERKIT_STATE_DIR"]) / "projects")
    for _ in range(3):
        assert lines(shown(capsys, "score", "t1"))[:3] == [None, None, False]
        with reading(rewritten_project.book.url) as conn:
            assert [row["kind"] for row in conn.execute("select kind from decisions")] == ["lines_counted"]


async def draft_again(book: Book) -> None:
    book.clock.at = datetime.now(UTC) + timedelta(seconds=1)
    await book.drafted("t1")
    await book.ledger.close()


def test_a_count_holds_for_the_change_that_it_was_made_of(
    rewritten_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(shown(capsys, "score", "t1"))[:3] == [4, 4, True]
    anyio.run(draft_again, rewritten_project.book)
    assert lines(shown(capsys, "report")["scorecards"][0])[:3] == [None, None, False]


def test_a_task_is_scored_though_its_project_is_gone(
    rewritten_project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rewritten_project.root.rename(tmp_path / "elsewhere")
    assert run(["score", "t1"]) == 0
    assert "  clean-up in git  unknown: Its project is gone." in capsys.readouterr().out
    told = shown(capsys, "outcome", "t1", "edited", "--defects", "2")
    assert (told["defects"], told["verdict"], told["calls"]) == (2, "moved_work", 1)
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("TIERKIT_PROJECT", str(tmp_path / "elsewhere"))
    assert run(["checklist", "--all-projects"]) == 0


def test_an_outcome_told_in_a_shell_is_recorded_and_answered_with_the_scorecard(
    book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    anyio.run(fill_project, book, str(Path.cwd()))
    assert run(["score", "t1"]) == 0
    assert "To record its outcome: tierkit outcome t1 accepted|edited|reverted" in capsys.readouterr().out
    told = ["--cleanup-minutes", "20", "--defects", "0", "--note", "It had no tests."]
    assert run(["outcome", "t1", "edited", *told]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("t1  moved_work: It took 20 minutes to clean up.\n")
    assert "  accuracy         1 of 5  edited\n" in printed
    assert "To record its outcome" not in printed
    with reading(book.url) as conn:
        card = facts_of(conn, "t1")
        [note] = conn.execute("select json_extract(record, '$.note') from scores where task_id = 't1'").fetchone()
    assert (card.outcome, card.cleanup_minutes, card.defects, note) == ("edited", 20, 0, "It had no tests.")
    assert run(["outcome", "t1", "edited", "--cleanup-minutes", "-1"]) == 2
    assert run(["outcome", "t1", "kept"]) == 2
    assert run(["outcome", "t404", "accepted"]) == 2


async def fill_lost(book: Book, project: str) -> None:
    book.clock.at = datetime.now(UTC) - DAY
    for task_id, status in (("t1", "rejected"), ("t2", "over_budget")):
        await book.opened(task_id, project)
        await book.called(task_id, "draft", 5)
        await book.drafted(task_id, status)  # type: ignore[arg-type]
        lost = Weighed(unit="usd", alone_low=0, alone_high=0, passed=200_000, is_spared=False)
        await book.ledger.weigh(task_id, lost)
    await book.ledger.close()


def test_where_nothing_was_handed_over_the_work_alone_is_still_to_be_done(
    book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    anyio.run(fill_lost, book, str(Path.cwd()))
    for task_id, grade in (("t1", "1"), ("t2", "-")):
        run(["score", task_id])
        cost = capsys.readouterr().out.splitlines()[3]
        assert cost == (
            f"  cost             {grade} of 5  $0.000000005 for 1 call; "
            "nothing was handed over, so the work alone is still to be done"
        )


async def fill_priced(book: Book, project: str, unit: Literal["usd", "tokens"]) -> None:
    await book.opened("t000000000001", project)
    await book.called("t000000000001", "draft", 5)
    await book.drafted("t000000000001")
    scale = 100_000 if unit == "usd" else 1
    kept = Weighed(unit=unit, alone_low=100 * scale, alone_high=200 * scale, passed=20 * scale, is_spared=True)
    await book.ledger.weigh("t000000000001", kept)
    await book.ledger.close()


@pytest.mark.parametrize(
    ("unit", "total"),
    [("usd", "$4.00 for calls and clean-up, $4.002 with the caller's side"),
     ("tokens", "$4.00 for calls and clean-up")],
)  # fmt: skip
def test_a_total_says_what_is_in_it_and_speed_shows_the_minutes_that_made_it(
    unit: Literal["usd", "tokens"], total: str, book: Book, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TIERKIT_CALLER_MINUTE_USD", "1")
    anyio.run(fill_priced, book, str(Path.cwd()), unit)
    run(["outcome", "t000000000001", "edited", "--cleanup-minutes", "4"])
    printed = capsys.readouterr().out
    assert f"  total            {total}\n" in printed
    assert "  speed            3 of 5  5.0 s of work and 4 minutes of clean-up\n" in printed


@pytest.mark.parametrize(("passed", "word"), [(80_000, ""), (100_900, "probably ")])
def test_a_shell_calls_a_saving_probable_where_the_receipt_does_not_rule_a_loss_out(
    passed: int, word: str, book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fill_ranged() -> None:
        await book.opened("t1", str(Path.cwd()))
        await book.called("t1", "draft", 5)
        await book.drafted("t1")
        kept = Weighed(unit="usd", alone_low=100_000, alone_high=320_000, passed=passed, is_spared=True)
        await book.ledger.weigh("t1", kept)
        await book.ledger.close()

    anyio.run(fill_ranged)
    assert run(["outcome", "t1", "accepted"]) == 0
    assert capsys.readouterr().out.startswith(f"t1  helped: It {word}cost less, and little or nothing came back.\n")


@pytest.mark.parametrize("unit", ["usd", "tokens"])
def test_what_a_transcript_measured_is_not_weighed_against_an_estimate_without_a_word(
    unit: Literal["usd", "tokens"],
    book: Book,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    anyio.run(fill_priced, book, str(Path.cwd()), unit)
    now = datetime.now(UTC)
    write(tmp_path / ".claude" / "projects" / "-p" / "session.jsonl", [
        asked("Fix it.", now, "u1"),
        answer("asks", now, usage(10, 100, 0, 40, 20), tool("d1", "mcp__tierkit__draft_with_cheap_model", task="Fix")),
        result("d1", json.dumps({"task_id": "t000000000001", "status": "applied"}), now),
    ])  # fmt: skip
    remark = "Its calls read the conversation again at each step. The work alone is estimated without that."
    run(["score", "t000000000001", "--transcripts"])
    # Tokens read again from a cache are left out of a count of tokens.
    assert (remark in capsys.readouterr().out) == (unit == "usd")
    run(["score", "t000000000001"])
    assert remark not in capsys.readouterr().out


@pytest.mark.anyio
async def test_a_receipt_of_an_older_version_that_rounding_put_below_nothing_is_read_all_the_same(
    tmp_path: Path,
) -> None:
    from sqlite_utils import Database

    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0009_exact_money")
        old.execute("pragma user_version = 8")
        open_task(old, "t1")
        reply = json.dumps({"reply": {"receipt": receipt("0.00004", ["0.0010", "0.0020"], ["0.0010", "0.0020"])}})
        old.execute("update tasks set reply = ? where task_id = 't1'", (reply,))
    ledger = open_ledger(f"sqlite://{path}", state_dir=tmp_path)
    found, _ = await ledger.weighed("t1")
    await ledger.close()
    assert found == Weighed(unit="usd", alone_low=1_000_000, alone_high=2_000_000, passed=0, is_spared=True)
    with reading(f"sqlite://{path}") as conn:
        assert facts_of(conn, "t1").baseline == costing(0, alone=(1_000_000, 2_000_000))
