"""Whose tokens a round costs: an agent's through its client or a pipe, nobody's where a person reads a terminal."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.calls import DraftCall, PlanCall, ReviewCall
from mcp_tierkit.cli import run
from mcp_tierkit.cli.receipt_text import receipt_lines
from mcp_tierkit.desk import open_desk
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.kit import open_kit
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.types import Door
from tests.support import CHECK, JOB, RIGHT, make_config, make_env, make_project, said

NO_MONEY = '[budget]\ntask_usd = "0.0000001"\n'
DRAFT = ("draft", JOB["task"], "-f", "shop/cart.py", "-k", CHECK)


@contextmanager
def printing_to(out: int) -> Iterator[None]:
    """Commands of this process print into `out`, a descriptor."""
    with open(out, "w", closefd=False) as stdout:
        kept, sys.stdout = sys.stdout, stdout
        try:
            yield
        finally:
            sys.stdout = kept


def through(home: Path) -> list[tuple[int, int]]:
    """Tokens that each task put through its caller: read and written."""
    with closing(sqlite3.connect(home / "ledger.db")) as conn:
        return conn.execute("select caller_read, caller_wrote from task_sums order by at").fetchall()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose budget admits nothing: each draft is refused, and its refusal is all that is read."""
    for name, value in make_env(tmp_path / "home", toml=NO_MONEY).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(make_project(tmp_path / "app"))
    return tmp_path / "home"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_what_a_terminal_shows_is_read_by_no_agent_and_what_a_pipe_takes_is(home: Path, more: tuple[str, ...]) -> None:
    master, terminal = pty.openpty()
    taken, pipe = os.pipe()
    try:
        for out in (terminal, pipe):
            with printing_to(out):
                assert run([*DRAFT, *more]) == 3
        shown, piped = os.read(master, 9000).decode(), os.read(taken, 9000).decode()
    finally:
        for end in (master, terminal, taken, pipe):
            os.close(end)
    [at_terminal, in_pipe] = through(home)
    assert at_terminal == (0, 0)
    assert min(in_pipe) > 20
    if more:
        told = [json.loads(text)["receipt"]["measured"] for text in (shown, piped)]
        assert (told[0]["read_by"], told[0]["caller_tokens"]) == ("person", [0, 0])
        assert "read_by" not in told[1]
        assert min(told[1]["caller_tokens"]) > 20
    else:
        assert "measured: read by a person, so no agent's tokens\r\n" in shown
        assert "measured: the caller read " in piped


@pytest.mark.parametrize("planner", ["pipe", "terminal"])
def test_a_plan_counts_by_who_read_it_whoever_has_it_drafted_then(home: Path, planner: str) -> None:
    """Planned in one place, drafted twice at a terminal and once into a pipe: the plan is counted once or never."""
    master, terminal = pty.openpty()
    taken, pipe = os.pipe()

    def said_there(*command: str, is_piped: bool) -> dict[str, Any]:
        with printing_to(pipe if is_piped else terminal):
            run([*command, "--json"])
        told: dict[str, Any] = json.loads(os.read(taken if is_piped else master, 99_000))
        return told

    try:
        task_id = said_there("plan", *DRAFT[1:], is_piped=planner == "pipe")["task_id"]
        found, rounds = [], []
        for is_piped in (False, False, True):
            rounds.append(said_there("draft", task_id, is_piped=is_piped)["receipt"]["measured"])
            found += through(home)
    finally:
        for end in (master, terminal, taken, pipe):
            os.close(end)
    assert [made.get("read_by") for made in rounds] == ["person", "person", None]
    first, second, (read, wrote) = found
    assert first == second
    assert [made["caller_tokens"] for made in rounds[:2]] == [list(first)] * 2
    assert min(read - first[0], wrote - first[1]) > 0
    assert wrote - first[1] < 20, "the plan is counted again, or was typed by a person"
    if planner == "terminal":
        assert first == (0, 0)
    else:
        assert min(first) > 20
        told = f"measured: read by a person, so no agent's tokens but {sum(first):,} of other rounds"
        assert told in receipt_lines({"measured": rounds[0], "estimated": {}, "net": None})


@pytest.mark.anyio
async def test_each_round_of_a_task_counts_by_who_read_it(tmp_path: Path) -> None:
    """A person plans and reviews, an agent drafts: the plan and the review are in nobody's figures."""
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    clean = said('{"findings": [], "checked": {}}').model_copy(update={"served_model": "tiny-strong"})
    gateway, found = ScriptedGateway([said(RIGHT), clean]), []

    async def at(door: Door, call: PlanCall | DraftCall | ReviewCall) -> dict[str, object]:
        async with open_desk(open_kit(config, gateway=gateway, door=door)) as desk:
            client = f"mcp-tierkit/{door}"
            if isinstance(call, PlanCall):
                return await desk.plan_task(call, client=client)
            if isinstance(call, DraftCall):
                return await desk.draft(call, client=client)
            return await desk.review(call, client=client)

    task_id = str((await at("terminal", PlanCall(**JOB)))["task_id"])
    drafted = await at("mcp", DraftCall(task_id=task_id))
    found.append(through(tmp_path / "home"))
    reviewed = await at("terminal", ReviewCall(task_id=task_id))
    found.append(through(tmp_path / "home"))
    [[(read, wrote)], after] = found
    assert after == [(read, wrote)]
    assert wrote < 20, "what the person wrote for the plan is not the agent's"
    one, two = drafted["receipt"], reviewed["receipt"]
    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert one["measured"]["caller_tokens"] == two["measured"]["caller_tokens"] == [read, wrote]
    told = f"measured: read by a person, so no agent's tokens but {read + wrote:,} of other rounds"
    assert told in receipt_lines(two)
    with reading(config.ledger_url) as conn:
        alone = [row["alone_low"] for row in conn.execute("select alone_low from task_sums")]
    assert one["estimated"]["alone_usd"] == two["estimated"]["alone_usd"]
    assert all(alone)
