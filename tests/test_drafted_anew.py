"""A change that is taken back, and drafted again by the same task: what is told of it, at each end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.calls import DraftCall, OutcomeCall, ReviewCall
from mcp_tierkit.desk import Desk
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.ends import ends
from mcp_tierkit.ledger.levers import savings
from mcp_tierkit.ledger.opening import ledger_path, prepare
from mcp_tierkit.ledger.report import reading, recent_tasks
from mcp_tierkit.ledger.scores import facts_of
from tests.reports import add_call, open_task
from tests.support import JOB, RIGHT, WRONG, desk_at, make_config, make_project, said

pytestmark = pytest.mark.anyio
HOLE = """{"findings": [{"file": "shop/cart.py", "line": 6, "klass": "test", "severity": "major", "claim": "No test.",
    "evidence": "none"}], "checked": {"edge_case": "none: looked", "assumption": "none: looked",
    "test": "one", "drift": "none: looked", "security": "none: looked"}}"""


def told(desk: Desk, task_id: str) -> tuple[str, str, str | None, list[str]]:
    """Which end the task came to, and in a list of tasks; what is on record of its change, and the levers it moves."""
    with reading(desk.kit.config.ledger_url) as conn:
        [end] = [name for name, number in ends(conn).model_dump().items() if number and name != "of"]
        levers: list[str] = [one.lever for one in savings(conn).levers if one.lever != "reviews"]
        return end, recent_tasks(conn)[0].ended, facts_of(conn, task_id).outcome, levers


async def test_a_change_that_was_taken_back_stands_again_once_it_is_drafted_again(tmp_path: Path) -> None:
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home", toml="[budget]\nbreaker = false\n")
    undo: dict[str, Any] = {"outcome": "reverted", "undo": True}
    found = []
    async with desk_at(config, ScriptedGateway([said(RIGHT), said(HOLE), said(RIGHT)])) as desk:
        first = await desk.draft(DraftCall(**JOB))
        task_id = first["task_id"]
        found.append(told(desk, task_id))
        assert (await desk.review(ReviewCall(task_id=task_id)))["verdict"] == "findings"
        await desk.record_outcome(OutcomeCall(task_id=task_id, defects=1, **undo))
        found.append(told(desk, task_id))
        again = await desk.draft(DraftCall(task_id=task_id, checks=JOB["checks"]))
        assert (first["status"], again["status"]) == ("applied", "applied"), again
        found.append(told(desk, task_id))
        await desk.record_outcome(OutcomeCall(task_id=task_id, **undo))
        found.append(told(desk, task_id))
    assert found == [
        ("kept", "applied", None, ["cheap_drafts"]),
        ("reverted", "reverted", "reverted", ["lost_drafts"]),
        ("kept", "applied", None, ["cheap_drafts"]),
        ("reverted", "reverted", "reverted", ["lost_drafts"]),
    ]


async def test_a_patch_that_follows_a_change_taken_back_may_be_called_kept(tmp_path: Path) -> None:
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home", toml="[budget]\nbreaker = false\n")
    async with desk_at(config, ScriptedGateway([said(RIGHT), said(HOLE), said(RIGHT)])) as desk:
        task_id = (await desk.draft(DraftCall(**JOB)))["task_id"]
        await desk.review(ReviewCall(task_id=task_id))
        await desk.record_outcome(OutcomeCall(task_id=task_id, outcome="reverted", undo=True))
        again = await desk.draft(DraftCall(task_id=task_id, checks=JOB["checks"], apply="never"))
        # Whoever applies it does so without us.
        await desk.record_outcome(OutcomeCall(task_id=task_id, outcome="accepted"))
        assert (again["status"], *told(desk, task_id)) == ("ready", "kept", "accepted", "accepted", ["cheap_drafts"])


async def test_a_change_that_was_taken_back_stays_so_where_the_next_draft_proves_nothing(tmp_path: Path) -> None:
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home", toml="[budget]\nbreaker = false\n")
    async with desk_at(config, ScriptedGateway([said(RIGHT), said(HOLE), *[said(WRONG)] * 4])) as desk:
        task_id = (await desk.draft(DraftCall(**JOB)))["task_id"]
        await desk.review(ReviewCall(task_id=task_id))
        await desk.record_outcome(OutcomeCall(task_id=task_id, outcome="reverted", undo=True))
        again = await desk.draft(DraftCall(task_id=task_id, checks=JOB["checks"]))
        assert told(desk, task_id) == ("reverted", "reverted", "reverted", ["lost_drafts"])
    # Nothing is left for its caller to be spared of.
    assert again["status"] == "needs_work"
    assert "alone_usd" not in again["receipt"]["estimated"]
    assert all(end.startswith("-") for end in again["receipt"]["net"])


def test_a_ledger_of_schema_ten_learns_what_its_sums_did_not_tell_apart(tmp_path: Path) -> None:
    from sqlite_utils import Database

    from mcp_tierkit.ledger.migrations import migrations

    path = ledger_path(f"sqlite://{tmp_path}/ledger.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0011_alone_in_tokens")
        old.execute("pragma user_version = 10")
        old.execute("insert into owners values ('o', 'lock', 1, 'then')")
        for task_id, drafted in (("again", "2026-11-04"), ("gone", "2026-11-02")):
            open_task(old, task_id)
            score = (task_id, "2026-11-03", "reverted", "{}")
            old.execute("insert into scores (task_id, at, outcome, record) values (?, ?, ?, ?)", score)
            draft = (task_id, drafted, "applied", "{}")
            old.execute("insert into drafts (task_id, at, status, record) values (?, ?, ?, ?)", draft)
        for most, billing in ((None, "api"), (None, None), (70, "api"), (None, "subscription")):
            add_call(old, "again", cost_nanousd=None, reserved_nanousd=most, billing=billing)
    prepare(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as new:
        new.row_factory = sqlite3.Row
        sums = "select task_id, is_reverted, quota_calls from task_sums order by 1"
        assert list(map(tuple, new.execute(sums))) == [("again", 0, 1), ("gone", 1, 0)]
        kept = "select billing, unpriced_calls, unbounded_calls from call_sums order by 1"
        assert list(map(tuple, new.execute(kept))) == [("", 1, 1), ("api", 2, 1), ("subscription", 1, 1)]
