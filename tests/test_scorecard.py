"""Scorecards: figures that come from rows and from git, scores by the thresholds in data/, and honest nulls."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit.cleanup import Measured, measure
from mcp_tierkit.cli import run
from mcp_tierkit.config import load_config
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.journal import apply, undo
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.scores import facts_of, repeated_findings, scorecards
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.receipts import usd
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
from tests.support import JOB, REPAIR, WRONG, client_at, make_env, make_project, said

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
        ("cost", {"baseline": costing(1, alone=(0, 0))}, 1),
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
    assert two_weak[0] == Answer(name="cheaper", question=question, answer="weak", good=4, of=6)
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
        defects=0, cleanup_minutes=4, changed_lines=9, rewritten_lines=1,
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
def test_a_class_of_finding_that_comes_three_times_in_twenty_tasks_is_a_pattern(
    tmp_path: Path, classes: list[FindingClass], wanted: list[tuple[str, int]]
) -> None:
    book = Book(tmp_path)
    anyio.run(fill_reviews, book, classes)
    with reading(book.url) as conn:
        found = repeated_findings(conn, project="/p")
    assert [(pattern.klass, pattern.times) for pattern in found] == wanted
    assert all(pattern.suggestion for pattern in found)


# --- clean-up in git

OLD = "def total(prices):\n    return sum(prices)\n\n\ndef count(prices):\n    return len(prices)\n"
NEW = """def total(prices, discount):
    if discount < 0:
        raise ValueError("a discount below nothing")
    whole = sum(prices)
    return whole * (100 - discount) // 100


def count(prices):
    return len(prices)
"""  # five lines of the task's own
MENDED = NEW.replace("a discount below nothing", "negative discount").replace("// 100", "/ 100")  # two of them again


class Field:
    """A repository in which a task's change was applied on 1 March, and what somebody does with it later."""

    def __init__(self, root: Path, *, has_git: bool = True) -> None:
        self.root, self.state, self.file = root / "app", root / "state", root / "app" / "shop.py"
        self.root.mkdir()
        self.write(OLD, THEN - DAY)
        (self.root / "other.py").write_text("x = 1\n")
        if has_git:
            self.git("init", "-q", "-b", "main")
            self.commit(THEN - DAY)
        self.ws = Workspace(self.root)
        changes: dict[str, Content | None] = {"shop.py": Content(data=NEW.encode())}
        apply(self.ws, self.state, "t1", changes, {"shop.py": self.ws.digest("shop.py")})

    def git(self, *args: str, at: datetime = THEN) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        env |= {f"GIT_{who}_DATE": at.isoformat() for who in ("AUTHOR", "COMMITTER")}
        env |= {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(["git", *args], cwd=self.root, env=env, check=True, capture_output=True, text=True).stdout

    def write(self, text: str, at: datetime) -> None:
        self.file.write_text(text)
        os.utime(self.file, (at.timestamp(), at.timestamp()))

    def commit(self, at: datetime) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "c", at=at)

    def measured(self, days: float) -> Measured:
        return measure(self.ws, self.state, "t1", at=THEN, now=THEN + days * DAY)


def left_alone(field: Field) -> None:
    pass


def edited(field: Field) -> None:
    field.write(MENDED, THEN + DAY)


def edited_late(field: Field) -> None:
    field.write(MENDED, THEN + 9 * DAY)


def committed_and_edited_twice(field: Field) -> None:
    field.commit(THEN + DAY)
    field.write(NEW.replace("a discount below nothing", "negative"), THEN + 2 * DAY)
    field.commit(THEN + 2 * DAY)
    field.write(MENDED, THEN + 9 * DAY)
    field.commit(THEN + 9 * DAY)


def committed_edited(field: Field) -> None:
    field.write(MENDED, THEN + DAY)
    field.commit(THEN + DAY)


def squashed(field: Field) -> None:
    field.git("switch", "-qc", "feature")
    committed_and_edited_twice(field)
    field.git("switch", "-q", "main")
    field.git("merge", "-q", "--squash", "feature")
    field.commit(THEN + 3 * DAY)
    field.git("branch", "-qD", "feature")


def rebased(field: Field) -> None:
    field.git("switch", "-qc", "feature")
    committed_and_edited_twice(field)
    field.git("switch", "-q", "main")
    (field.root / "other.py").write_text("x = 2\n")
    field.commit(THEN + 10 * DAY)
    field.git("rebase", "-q", "main", "feature", at=THEN + 11 * DAY)


def renamed(field: Field) -> None:
    field.commit(THEN + DAY)
    field.git("mv", "shop.py", "cart.py")
    field.commit(THEN + 2 * DAY)
    (field.root / "cart.py").write_text(MENDED)
    field.commit(THEN + 3 * DAY)


def renamed_unseen(field: Field) -> None:
    field.write(MENDED, THEN + DAY)
    field.file.rename(field.root / "basket.py")


def indented_and_moved(field: Field) -> None:
    lines = NEW.replace("    ", "\t").splitlines(keepends=True)
    field.write("".join([lines[0], *lines[3:5], *lines[1:3], *lines[5:]]), THEN + DAY)


def deleted(field: Field) -> None:
    field.commit(THEN + DAY)
    field.file.unlink()
    field.commit(THEN + 2 * DAY)


def on_another_branch(field: Field) -> None:
    field.git("switch", "-qc", "feature")
    committed_edited(field)
    field.git("switch", "-q", "main")


@pytest.mark.parametrize(
    ("history", "days", "wanted"),
    [
        (left_alone, 1, 0), (left_alone, 30, 0), (edited, 2, 2), (edited, 30, 2), (edited_late, 30, None),
        (committed_and_edited_twice, 30, 1), (committed_edited, 30, 2), (squashed, 30, 2), (rebased, 30, 1),
        (renamed, 5, 2), (renamed, 30, 2), (renamed_unseen, 5, 2), (indented_and_moved, 5, 0), (deleted, 30, 5),
        (on_another_branch, 3, 2), (on_another_branch, 30, 2),
    ],
)  # fmt: skip
def test_lines_are_counted_that_were_rewritten_within_seven_days(
    tmp_path: Path, history: Callable[[Field], None], days: float, wanted: int | None
) -> None:
    field = Field(tmp_path)
    history(field)
    found = field.measured(days)
    if wanted is None:
        assert found.changed_lines is None
        assert found.reason == "Lines were rewritten, and no commit or time of a file tells whether within seven days."
    else:
        assert found == Measured(changed_lines=5, rewritten_lines=wanted, is_final=days > 7)


def test_without_git_the_working_tree_tells_what_it_can(tmp_path: Path) -> None:
    field = Field(tmp_path, has_git=False)
    edited(field)
    assert field.measured(2) == Measured(changed_lines=5, rewritten_lines=2)
    assert field.measured(30) == Measured(changed_lines=5, rewritten_lines=2, is_final=True)


def test_a_change_that_was_taken_back_has_no_lines_to_count(tmp_path: Path) -> None:
    field = Field(tmp_path)
    undo(field.ws, field.state, "t1")
    assert field.measured(2).changed_lines is None
    assert field.measured(2).reason == "No change of it is on record: it was never applied, or was taken back."


def test_a_patch_that_was_left_ready_counts_once_somebody_applied_it(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.commit(THEN)
    patch = field.ws.write_private("t2.patch", field.git("show", "--format=", "HEAD").encode())
    ask: dict[str, Any] = {"at": THEN, "now": THEN + DAY, "patch": patch, "is_applied": False}
    edited(field)
    assert measure(field.ws, field.state, "t2", **ask) == Measured(changed_lines=5, rewritten_lines=2)
    field.git("reset", "-q", "--hard", "HEAD~")
    assert measure(field.ws, field.state, "t2", **ask).reason == "Its patch was not applied, as far as can be seen."


def test_nothing_that_a_repository_names_is_run(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.commit(THEN + DAY)
    witness = tmp_path / "witness"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {witness}\ncat\n")
    program.chmod(0o755)
    (field.root / ".gitattributes").write_text("* filter=evil diff=evil\n")
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "diff.evil.command", "diff.evil.textconv",
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program", "gpg.ssh.program",
    ):  # fmt: skip
        field.git("config", key, str(program))
    field.git("config", "log.showSignature", "true")
    signed = field.git("cat-file", "commit", "HEAD").replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----\n\n", 1
    )
    (tmp_path / "commit").write_text(signed)
    field.git("update-ref", "HEAD", field.git("hash-object", "-t", "commit", "-w", str(tmp_path / "commit")).strip())
    field.git("config", "core.hooksPath", str(tmp_path))
    renamed_unseen(field)
    before = {path: path.stat().st_mtime_ns for path in field.root.rglob("*")}
    assert field.measured(30) == Measured(changed_lines=5, rewritten_lines=0, is_final=True)
    assert field.measured(5) == Measured(changed_lines=5, rewritten_lines=2)
    assert not witness.exists()
    assert {path: path.stat().st_mtime_ns for path in field.root.rglob("*")} == before


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

        task_id = (await called("draft_with_cheap_model", **JOB))["task_id"]
        unscored = await anyio.to_thread.run_sync(outcome_of, config, task_id)
        assert (await called("review_diff", task_id=task_id))["verdict"] == "clean"
        reviewed = await anyio.to_thread.run_sync(outcome_of, config, task_id)
        cart = project / "shop/cart.py"
        cart.write_text(cart.read_text().replace("// 100", "/ 100"))
        reply = await called("record_outcome", task_id=task_id, outcome="edited", cleanup_minutes=20)
        later = await called("record_outcome", task_id=task_id, outcome="edited", defects=1)
    assert (unscored.card.verdict, unscored.card.comments) == (None, None)
    cost, base, base_then = reviewed.card.cost_nanousd, reviewed.card.baseline, unscored.card.baseline
    # A review's receipt estimates nothing, and the draft's stands.
    assert cost is not None
    assert base is not None
    assert base_then is not None
    assert (base.ours - base_then.ours, base.alone_high) == (cost - 400_000, base_then.alone_high)
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
    assert (kept.rewritten_lines, kept.defects, kept.verdict) == (1, 1, "moved_work")


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
    book.clock.at = datetime.now(UTC) - DAY
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
        "  cost             - of 5  $0.000000005 for 1 calls; alone: unknown",
        "  speed            1 of 5  2000.0 s of work",
        "  accuracy         1 of 5  accepted",
        "  rewrites         0",
        "  review comments  1, 0 of them again",
        "  defects after    unknown",
        "  clean-up told    20 minutes",
        "  clean-up in git  unknown: No change of it is on record: it was never applied, or was taken back.",
        "  total            unknown",
        "",
    ]
    assert run(["score", "t9", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    known = {"task_id", "goal", "project", "created_at", "calls", "cost_nanousd", "is_uninformative", "why",
             "are_lines_final"}  # fmt: skip
    assert {name for name, value in told.items() if value is not None} == {*known, "measured", "patterns"}
    assert told["measured"] == {"is_final": False, "reason": "No draft of it was handed over."}
    (Path.cwd() / "elsewhere").mkdir()
    assert run(["score", "t0", "--project", "elsewhere", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["measured"]["reason"] == "It is a task of another project."
    assert run(["score", "t404"]) == 2
    assert "No task has id 't404'" in capsys.readouterr().err


def test_the_checklist_ends_with_1_where_two_answers_are_weak(book: Book, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["checklist"]) == 0
    anyio.run(fill_project, book, str(Path.cwd()))
    capsys.readouterr()
    assert run(["checklist", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["answer"], row["good"], row["of"]) for row in told["answers"]] == [
        ("cheaper", None, 0, 0), ("fast", "weak", 0, 6), ("first_try", "strong", 6, 6), ("review", "weak", 6, 6),
        ("lasting", None, 0, 1),
    ]  # fmt: skip
    assert [(row["klass"], row["times"]) for row in told["patterns"]] == [("test", 6)]
    assert run(["checklist"]) == 1
    shown = capsys.readouterr().out
    assert "Again and again: 6 findings of class test in 6 tasks." in shown
    assert "before you roll it out" in shown
