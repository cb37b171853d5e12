"""What any ledger promises. A second adapter joins by adding itself to ADAPTERS."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit.errors import LedgerError, NotFound, OverBudget
from mcp_tierkit.ledger import Ledger, Standing, report
from mcp_tierkit.ledger.migrations import SCHEMA, migrations
from mcp_tierkit.ledger.money import dollars, weighed
from mcp_tierkit.ledger.opening import Connection, connect, ledger_path, prepare
from mcp_tierkit.ledger.spent import Spent
from mcp_tierkit.ledger.sqlite import PROVEN_CHECKS, open_ledger
from mcp_tierkit.receipts import Weighed
from mcp_tierkit.types import (
    Attempt,
    Budgets,
    Call,
    Check,
    CheckResult,
    Draft,
    FileChange,
    Finding,
    Handoff,
    PackedFile,
    PlaybookRun,
    Request,
    Review,
    Route,
    Score,
    Spend,
    Task,
    Usage,
)

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
SECRET = "sk-ant-api03-" + "A1b2C3d4" * 12
ADAPTERS: dict[str, Callable[[Path], str]] = {"sqlite": lambda folder: f"sqlite://{folder / 'ledger.db'}"}


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tierkit"


@pytest.fixture(params=sorted(ADAPTERS))
def url(request: pytest.FixtureRequest, state: Path) -> str:
    return ADAPTERS[request.param](state)


@pytest.fixture
async def ledger(url: str, state: Path, clock: Clock) -> AsyncIterator[Ledger]:
    opened = open_ledger(url, state_dir=state, clock=clock, settle_wait_s=0)
    yield opened
    await opened.close()


@pytest.fixture
def raw(url: str) -> Iterator[sqlite3.Connection]:
    """A SQL prompt on the same file. Opened by a test that has used the ledger."""
    opened: list[sqlite3.Connection] = []

    class Lazy:
        def execute(self, *query: Any) -> sqlite3.Cursor:
            if not opened:
                opened.append(connect(ledger_path(url)))
            return opened[0].execute(*query)

    yield Lazy()  # type: ignore[misc]
    for conn in opened:
        conn.close()


def task(task_id: str = "t1", **fields: Any) -> Task:
    return Task(task_id=task_id, created_at=NOON, **({"project": "/home/dev/shop", "goal": "Fix the sum"} | fields))


def route(task_id: str = "t1", route_id: str = "r1") -> Route:
    return Route(
        route_id=route_id, task_id=task_id, decision="draft", tier="cheap", rule="small", reason="It is small."
    )


def request(task_id: str = "t1", route_id: str = "r1", **fields: Any) -> Request:
    given = {"stage": "draft", "tier": "cheap", "model": "openai/small", "prompt_id": "draft.v1@aaa"} | fields
    return Request(task_id=task_id, route_id=route_id, messages=(), max_output_tokens=9, timeout_s=9, **given)


async def routed(ledger: Ledger, task_id: str = "t1", **fields: Any) -> Request:
    """A task with a route, and the request that it allows."""
    await ledger.open_task(task(task_id, **fields))
    await ledger.route(route(task_id, f"route-{task_id}"))
    return request(task_id, f"route-{task_id}")


def settled(cost: int | None, **fields: Any) -> Call:
    return Call(status="settled", cost_nanousd=cost, **fields)


# --- records ---


CHECK = Check(argv=("pytest", "-q", "tests/test_sum.py"), cwd="api", timeout_s=12.5)
LINT = Check(argv=("make", "lint"))
RECORDS: list[Handoff | Draft | Review | PlaybookRun | Score] = [
    Handoff(
        task_id="t1", summary="Sum \u2211 \x00 \"it\"", files=("a.py",), context=("b.py",), steps=("one",),
        constraints=("c",), acceptance=("d",), out_of_scope=("e",), assumptions=("f",), checks=(CHECK,),
        proof="stays_green", open_questions=("g?",), risks=("h",), draft_diff="--- a\n+++ b\n",
    ),
    Draft(
        task_id="t1", status="applied", note="Green.",
        files=(FileChange(path="a.py", added=3, removed=1, ranges="3-5"),),
        checks=(CheckResult(name="pytest", role="turns_green", before="red", after="green", digest="x", log="l"),),
        attempts=(Attempt(call_id="c", tier="cheap", model="m", outcome="green", cost_nanousd=2**60 + 1),),
        patch=".tierkit/t1/draft.patch", isolation="sandbox", question="why?",
    ),
    Review(
        task_id="t1", verdict="findings", checked={"test": "findings", "nit": "none seen"}, dropped=2, rounds_left=1,
        findings=(Finding(file="a.py", line=3, severity="major", klass="test", claim="c", evidence="e"),), note="n",
    ),
    PlaybookRun(
        task_id="t1", playbook="rename", version="1.2.0", digest="ab" * 32, status="ok", changed=("a.py",), ms=12,
        output={"count": 2**70, "nested": [{"deep": None}, 1.5, True]}, diff="d", log_tail="t", sandbox="none",
    ),
    Score(task_id="t1", outcome="edited", cleanup_minutes=2.5, defects=0, note="fine"),
]  # fmt: skip


async def test_a_task_reads_back_as_it_was_asked(ledger: Ledger) -> None:
    asked = task(
        repository="/home/dev/shop.git", files=("src/*.py",), context=("README.md",), steps=("s",), acceptance=("a",),
        out_of_scope=("o",), constraints=("c",), checks=(CHECK,), proof="stays_green", assume=("yes",),
        latency="interactive", tier="mid", client="some-client 2.1",
    )  # fmt: skip
    await ledger.open_task(asked)
    assert await ledger.task("t1") == asked


async def test_the_latest_route_is_the_one_that_counts(ledger: Ledger) -> None:
    await ledger.open_task(task())
    await ledger.route(route())
    latest = route(route_id="r0").model_copy(update={"inputs": {"n": 3, "deep": {"x": [1]}}, "playbook": "rename"})
    await ledger.route(latest)
    await ledger.route(route(route_id="r3").model_copy(update={"decision": "review"}))
    assert await ledger.latest_route("t1") == latest, "what allowed a review decides nothing about the task"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
async def test_a_record_reads_back_equal_and_in_order(
    ledger: Ledger, record: Handoff | Draft | Review | PlaybookRun | Score
) -> None:
    await ledger.open_task(task())
    twin = type(record)(**{**dict(record), **({"summary": "later"} if isinstance(record, Handoff) else {})})
    await ledger.save(record)
    await ledger.save(twin)
    reader: Any = {
        Handoff: ledger.handoff, Draft: ledger.drafts, Review: ledger.reviews,
        PlaybookRun: ledger.playbook_runs, Score: ledger.score,
    }[type(record)]  # fmt: skip
    found = await reader("t1")
    assert found == ((record, twin) if isinstance(found, tuple) else twin)


async def test_what_people_query_stands_in_columns(ledger: Ledger, raw: sqlite3.Connection) -> None:
    await ledger.open_task(task())
    for record in RECORDS:
        await ledger.save(record)
    assert tuple(raw.execute("select name, role, outcome_before, outcome_after from checks").fetchone()) == (
        "pytest", "turns_green", "red", "green",
    )  # fmt: skip
    assert tuple(raw.execute("select file, line, severity, klass, claim from findings").fetchone()) == (
        "a.py", 3, "major", "test", "c",
    )  # fmt: skip


WEIGHED = Weighed(unit="usd", alone_low=1, alone_high=2**60 + 1, passed=3, is_spared=True)


async def test_what_a_net_is_made_of_is_kept_to_the_nanodollar_and_that_of_the_newest_receipt_stands(
    ledger: Ledger, raw: sqlite3.Connection
) -> None:
    await ledger.open_task(task())
    assert weighed(raw, "t1") == (None, Spend())
    await ledger.weigh("t1", WEIGHED)
    assert weighed(raw, "t1") == (WEIGHED, Spend())
    later = Weighed(unit="tokens", alone_low=0, alone_high=0, passed=9, is_spared=False)
    await ledger.weigh("t1", later)
    assert weighed(raw, "t1") == (later, Spend())


async def test_what_nobody_opened_is_not_found(ledger: Ledger) -> None:
    refused: list[Callable[[], Any]] = [
        lambda: ledger.task("no"), lambda: ledger.latest_route("no"), lambda: ledger.handoff("no"),
        lambda: ledger.drafts("no"), lambda: ledger.reviews("no"), lambda: ledger.playbook_runs("no"),
        lambda: ledger.score("no"), lambda: ledger.spend("no"), lambda: ledger.calls("no"), lambda: ledger.claim("no"),
        lambda: ledger.finish("no", "done", ""), lambda: ledger.standing("no"), lambda: ledger.request_cancel("no"),
        lambda: ledger.save(Score(task_id="no", outcome="accepted")), lambda: ledger.route(route("no")),
        lambda: ledger.reserve(request("no"), 1, Budgets()), lambda: ledger.settle("no", settled(1)),
        lambda: ledger.weigh("no", WEIGHED),
    ]  # fmt: skip
    for ask in refused:
        with pytest.raises(NotFound):
            await ask()
    await ledger.open_task(task())
    for ask in (lambda: ledger.latest_route("t1"), lambda: ledger.handoff("t1")):
        with pytest.raises(NotFound):
            await ask()
    assert (await ledger.drafts("t1"), await ledger.score("t1")) == ((), None)


async def test_a_task_is_opened_once(ledger: Ledger) -> None:
    await ledger.open_task(task())
    with pytest.raises(LedgerError):
        await ledger.open_task(task(goal="another"))
    assert (await ledger.task("t1")).goal == "Fix the sum"


async def test_no_secret_reaches_the_file(ledger: Ledger, url: str, state: Path) -> None:
    asked = await routed(ledger, goal=f"use {SECRET}", client=f"c {SECRET}", steps=(SECRET,))
    await ledger.save(Handoff(task_id="t1", summary=SECRET, files=("a",), draft_diff=f"+key = '{SECRET}'"))
    finding = Finding(file="a", line=1, severity="nit", klass="nit", claim=SECRET, evidence=SECRET)
    await ledger.save(Review(task_id="t1", verdict="findings", findings=(finding,), checked={SECRET: SECRET}))
    await ledger.save(
        PlaybookRun(task_id="t1", playbook="p", version="1", digest="d", status="ok", output={"k": [SECRET]})
    )
    call_id = await ledger.reserve(asked, 1, Budgets())
    await ledger.settle(call_id, Call(status="failed", error=SECRET, served_model=SECRET, finish=SECRET))
    await ledger.finish("t1", "done", f'{{"summary": "{SECRET}"}}')
    await ledger.close()
    for file in state.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file.name
    assert (await ledger.task("t1")).goal.startswith("use [redacted:")


async def test_digests_and_ids_are_not_taken_for_secrets(ledger: Ledger, raw: sqlite3.Connection) -> None:
    asked = (await routed(ledger)).model_copy(update={"prompt_id": "draft.v1@" + "0f" * 32})
    call_id = await ledger.reserve(asked, 1, Budgets())
    await ledger.settle(call_id, settled(1, price_digest="9a" * 32))
    found = raw.execute("select prompt_id, price_digest from calls").fetchone()
    assert tuple(found) == ("draft.v1@" + "0f" * 32, "9a" * 32)


# --- money ---


async def test_a_call_without_a_route_cannot_be_reserved(ledger: Ledger, raw: sqlite3.Connection) -> None:
    await ledger.open_task(task())
    with pytest.raises(LedgerError):
        await ledger.reserve(request(), 1, Budgets())
    await ledger.route(route())
    await ledger.open_task(task("t2"))
    with pytest.raises(LedgerError):
        await ledger.reserve(request("t2"), 1, Budgets())  # the route of another task
    with pytest.raises(LedgerError):
        await ledger.reserve(request(tier="strong"), 1, Budgets())  # a tier that the route does not name
    await ledger.route(route(route_id="r2").model_copy(update={"decision": "do_it_yourself", "tier": None}))
    with pytest.raises(LedgerError):
        await ledger.reserve(request(route_id="r2"), 1, Budgets())  # a route that allows no call
    assert raw.execute("select count(*) from calls").fetchone()[0] == 0
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(
            "insert into calls (call_id, task_id, owner_id, at, stage, tier, requested_model, status, prompt_id)"
            " values ('c', 't1', 'o', '', '', '', '', 'reserved', '')"
        )


async def test_a_reservation_counts_until_its_cost_is_known(ledger: Ledger) -> None:
    asked, limits = await routed(ledger), Budgets(task=100)
    call_id = await ledger.reserve(asked, 60, limits)
    with pytest.raises(OverBudget):
        await ledger.reserve(asked, 41, limits)
    await ledger.reserve(asked, 40, limits)
    await ledger.settle(call_id, settled(10))
    await ledger.reserve(asked, 50, limits)
    with pytest.raises(OverBudget):
        await ledger.reserve(asked, 1, limits)


async def test_a_call_that_ended_at_an_unknown_cost_stays_counted(ledger: Ledger) -> None:
    asked = await routed(ledger)
    for status in ("failed", "cancelled", "interrupted", "settled"):
        call_id = await ledger.reserve(asked, 25, Budgets(task=100))
        await ledger.settle(call_id, Call(status=status))
    with pytest.raises(OverBudget):
        await ledger.reserve(asked, 1, Budgets(task=100))
    assert await ledger.spend("t1") == Spend(calls=4, unpriced_calls=4, unknown_nanousd=100)


@pytest.mark.parametrize("budget", ["call", "task", "day", "project", "month"])
async def test_each_budget_refuses_one_nanodollar_too_many(ledger: Ledger, budget: str) -> None:
    asked = await routed(ledger)
    limits = Budgets.model_validate({budget: 1_000_000_007})
    if budget == "call":
        await ledger.reserve(asked, 1_000_000_007, limits)
        spent, flying, worst = "0.00", "0.00", 1_000_000_008
    else:
        await ledger.settle(await ledger.reserve(asked, 1_000_000_000, limits), settled(1_000_000_000))
        await ledger.reserve(asked, 6, limits)
        spent, flying, worst = "1.00", "0.000000006", 2
    with pytest.raises(OverBudget) as refused:
        await ledger.reserve(asked, worst, limits)
    assert (refused.value.budget, refused.value.retryable) == (budget, False)
    assert str(refused.value) == (
        f"The {budget} budget of $1.000000007 does not admit this call: ${spent} is spent, ${flying} is outstanding "
        f"and it could cost ${dollars(worst)} (retryable=false). This call was not made. Ask the user to raise "
        f"{budget}_usd under [budget] in tierkit.toml to 1.000000008 or more, or go on without it."
    )
    assert (await ledger.spend("t1")).calls == (1 if budget == "call" else 2)


async def test_a_budget_that_is_not_set_never_refuses(ledger: Ledger) -> None:
    asked = await routed(ledger)
    await ledger.reserve(asked, 2**61, Budgets())
    await ledger.reserve(asked, 2**61, Budgets())


async def test_days_and_months_begin_at_midnight_utc(ledger: Ledger, clock: Clock) -> None:
    asked, limits = await routed(ledger), Budgets(day=10, month=20)
    east = timezone(timedelta(hours=2))
    clock.at = datetime(2026, 10, 31, 1, 59, 59, tzinfo=east)  # the 30th in UTC, still
    await ledger.reserve(asked, 10, limits)
    with pytest.raises(OverBudget, match="The day budget"):
        await ledger.reserve(asked, 1, limits)
    clock.at = datetime(2026, 10, 31, 2, tzinfo=east)
    await ledger.reserve(asked, 10, limits)
    clock.at = datetime(2026, 11, 1, 1, 59, 59, tzinfo=east)
    with pytest.raises(OverBudget, match="The day budget"):
        await ledger.reserve(asked, 1, limits)
    with pytest.raises(OverBudget, match="The month budget"):
        await ledger.reserve(asked, 1, Budgets(month=20))
    clock.at = datetime(2026, 11, 1, 2, tzinfo=east)
    await ledger.reserve(asked, 10, limits)


async def test_worktrees_of_one_repository_share_its_budget(ledger: Ledger) -> None:
    repository = "/home/dev/shop/.git"
    first = await routed(ledger, "t1", repository=repository)
    second = await routed(ledger, "t2", project="/home/dev/shop-fix", repository=repository)
    other = await routed(ledger, "t3", project="/home/dev/elsewhere")
    await ledger.reserve(first, 6, Budgets(project=10))
    with pytest.raises(OverBudget):
        await ledger.reserve(second, 5, Budgets(project=10))
    await ledger.reserve(other, 10, Budgets(project=10))


async def test_an_unpriced_call_is_counted_and_never_called_zero(ledger: Ledger, raw: sqlite3.Connection) -> None:
    asked = await routed(ledger)
    call_id = await ledger.reserve(asked, None, Budgets(call=0, task=0, day=0))
    assert (await ledger.spend("t1")).unpriced_calls == 1
    await ledger.settle(call_id, settled(None, usage=Usage(input=5, output=7)))
    assert await ledger.spend("t1") == Spend(calls=1, unpriced_calls=1, input_tokens=5, output_tokens=7)
    assert tuple(raw.execute("select * from task_cost").fetchone()) == ("t1", "/home/dev/shop", 1, 0, 1)


async def test_a_dropped_settle_shows_as_a_reservation(ledger: Ledger, raw: sqlite3.Connection) -> None:
    asked = await routed(ledger)
    await ledger.reserve(asked, 30, Budgets())
    (row,) = await ledger.calls("t1")
    assert (row.status, row.cost_nanousd, row.reserved_nanousd) == ("reserved", None, 30)
    assert tuple(raw.execute("select status, reserved_nanousd, cost_nanousd from call_log").fetchone()) == (
        "reserved", 30, None,
    )  # fmt: skip
    assert await ledger.spend("t1") == Spend(calls=1)


async def test_the_first_settlement_stands(ledger: Ledger) -> None:
    call_id = await ledger.reserve(await routed(ledger), 30, Budgets())
    await ledger.settle(call_id, settled(7))
    with pytest.raises(LedgerError, match="is settled already"):
        await ledger.settle(call_id, settled(9))
    assert (await ledger.spend("t1")).cost_nanousd == 7
    with pytest.raises(LedgerError):
        await ledger.settle(await ledger.reserve(request(route_id="route-t1"), 1, Budgets()), Call(status="reserved"))


async def test_a_late_owner_may_settle_what_was_swept(ledger: Ledger, raw: sqlite3.Connection) -> None:
    call_id = await ledger.reserve(await routed(ledger), 30, Budgets())
    raw.execute("update calls set status = 'interrupted'")
    await ledger.settle(call_id, settled(7))
    assert await ledger.spend("t1") == Spend(calls=1, cost_nanousd=7)
    with pytest.raises(LedgerError):
        await ledger.settle(call_id, settled(7))


async def test_sums_beyond_what_a_float_holds_are_exact(ledger: Ledger, url: str, raw: sqlite3.Connection) -> None:
    asked = await routed(ledger)
    for cost in (2**60 + 1, 2**60 + 3, 1):
        await ledger.settle(await ledger.reserve(asked, cost, Budgets()), settled(cost))
    exact = 2**61 + 5
    assert (await ledger.spend("t1")).cost_nanousd == exact
    assert raw.execute("select cost_nanousd from task_cost").fetchone()[0] == exact
    with pytest.raises(OverBudget, match=r"of \$2305843009\.213693957 does not admit"):
        await ledger.reserve(asked, 1, Budgets(month=exact))
    await ledger.reserve(asked, 1, Budgets(month=exact + 1))
    with report.reading(url) as conn:
        assert report.totals(conn, "tier")[0].spend.cost_nanousd == exact


async def test_an_amount_that_no_integer_holds_is_refused(ledger: Ledger) -> None:
    asked = await routed(ledger)
    with pytest.raises(LedgerError):
        await ledger.reserve(asked, 2**63, Budgets())
    await ledger.reserve(asked, 2**63 - 1, Budgets())
    with pytest.raises(LedgerError):
        await ledger.reserve(asked, 1, Budgets())
    assert (await ledger.spend("t1")).calls == 1


async def test_a_call_row_keeps_what_was_used_and_who_asked(ledger: Ledger, raw: sqlite3.Connection) -> None:
    asked = await routed(ledger, client="some-client 2.1")
    used = Usage(input=10, cached_input=20, cache_write=3, output=40, reasoning=15)
    ended = settled(
        5, usage=used, served_model="small-2026", price_digest="d", finish="length", duration_ms=12,
        model_mismatch=True, served_price="0.2/0.9", alert="Dearer.", cache_saved_nanousd=-4,
    )  # fmt: skip
    packed = (PackedFile(path="a.py", shown="whole", tokens=70), PackedFile(path="b.py", shown="left_out", tokens=0))
    prices = {"requested_price": "0.5/2", "routed_price": "0.1/0.5", "billing": "subscription"}
    asked = asked.model_copy(
        update={"requested_model": "openai/first", "category": "tests", "packed": packed, "digest": "e"} | prices
    )  # fmt: skip
    call_id = await ledger.reserve(asked, 9, Budgets())
    await ledger.settle(call_id, ended)
    row = dict(raw.execute("select * from calls").fetchone())
    assert row.pop("owner_id")
    assert row == {
        "call_id": call_id, "task_id": "t1", "route_id": "route-t1", "client": "some-client 2.1",
        "at": "2026-10-05T12:00:00.000+00:00", "ended_at": "2026-10-05T12:00:00.000+00:00", "stage": "draft",
        "tier": "cheap", "requested_model": "openai/first", "served_model": "small-2026", "model_mismatch": 1,
        "status": "settled", "prompt_id": "draft.v1@aaa", "price_digest": "d", "input_tokens": 10, "cached_tokens": 20,
        "cache_write_tokens": 3, "output_tokens": 40, "reasoning_tokens": 15, "reserved_nanousd": 9, "cost_nanousd": 5,
        "cache_saved_nanousd": -4, "finish": "length", "error": None, "duration_ms": 12, "category": "tests",
        "routed_model": "openai/small",
        "requested_price": "0.5/2", "routed_price": "0.1/0.5", "served_price": "0.2/0.9", "packed_tokens": 70,
        "packed": '[{"path":"a.py","shown":"whole","tokens":70},{"path":"b.py","shown":"left_out","tokens":0}]',
        "alert": "Dearer.", "request_digest": "e", "billing": "subscription",
    }  # fmt: skip
    assert await ledger.spend("t1") == Spend(
        calls=1, cost_nanousd=5, input_tokens=33, cached_tokens=20, output_tokens=40
    )


async def test_a_cancelled_caller_does_not_lose_a_settlement(ledger: Ledger) -> None:
    asked = await routed(ledger)
    call_ids = [await ledger.reserve(asked, 5, Budgets()) for _ in range(10)]
    async with anyio.create_task_group() as group:
        for call_id in call_ids:
            group.start_soon(ledger.settle, call_id, settled(1))
        await anyio.lowlevel.checkpoint()  # each has begun, most wait for the one slot
        group.cancel_scope.cancel()
    assert await ledger.spend("t1") == Spend(calls=10, cost_nanousd=10)


async def test_a_cancelled_reserve_either_gives_its_id_or_leaves_no_row(ledger: Ledger) -> None:
    asked = await routed(ledger)
    given: list[str] = []

    async def reserve() -> None:
        given.append(await ledger.reserve(asked, 5, Budgets()))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(reserve)
        await anyio.lowlevel.checkpoint()
        for _ in range(10):
            group.start_soon(reserve)
        group.cancel_scope.cancel()
    assert sorted(row.call_id for row in await ledger.calls("t1")) == sorted(given)
    assert len(given) == 10  # those that had begun; the other ten were cancelled before


async def test_tasks_cancelled_by_asyncio_itself_do_not_mix_their_transactions(ledger: Ledger, url: str) -> None:
    asked = await routed(ledger)
    given: list[str] = []
    for n in range(40):
        begun = asyncio.create_task(ledger.reserve(asked, 5, Budgets()))
        for _ in range(n):
            await anyio.lowlevel.checkpoint()
        begun.cancel()
        given.append(await ledger.reserve(asked, 5, Budgets()))  # while that one's thread may be at work
        await asyncio.gather(begun, return_exceptions=True)
    # asyncio's cancel gives no id back, so its row stays reserved: counted, and closed when this process ends.
    rows = await ledger.calls("t1")
    assert set(given) <= {row.call_id for row in rows}
    assert {row.status for row in rows} == {"reserved"}
    assert report.health(url).totals_agree


async def test_two_threads_never_share_a_transaction(tmp_path: Path) -> None:
    line = Connection(tmp_path / "ledger.db")
    inside, second_ended = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def first(conn: sqlite3.Connection) -> None:
        inside.set()
        second_ended.wait(0.3)  # it cannot end before us, unless it meddles

    def write(work: Callable[[sqlite3.Connection], None]) -> None:
        try:
            line.transact(work)
        except BaseException as error:
            failures.append(error)

    def second() -> None:
        inside.wait()
        write(lambda conn: None)
        second_ended.set()

    threads = [threading.Thread(target=write, args=(first,)), threading.Thread(target=second)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    line.close()
    assert failures == []


async def test_a_reservation_is_on_disk_before_its_id_is_given(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    asked = await routed(ledger)
    original = Connection.transact

    def watched(self: Connection, work: Callable[[sqlite3.Connection], Any], is_durable: bool = False) -> Any:
        def seen(conn: sqlite3.Connection) -> Any:
            modes.append(conn.execute("pragma synchronous").fetchone()[0])
            return work(conn)

        return original(self, seen, is_durable)

    monkeypatch.setattr(Connection, "transact", watched)
    await ledger.settle(await ledger.reserve(asked, 1, Budgets()), settled(1))
    assert modes == [2, 1]  # FULL, then NORMAL


async def test_twenty_reservations_at_once_never_exceed_the_budget(ledger: Ledger) -> None:
    requests = [await routed(ledger, f"t{n}") for n in range(20)]
    outcomes: list[str] = []

    async def reserve(asked: Request) -> None:
        try:
            await ledger.reserve(asked, 10, Budgets(day=79))
            outcomes.append("granted")
        except OverBudget:
            outcomes.append("refused")

    async with anyio.create_task_group() as group:
        for asked in requests:
            group.start_soon(reserve, asked)
    assert sorted(outcomes) == ["granted"] * 7 + ["refused"] * 13


async def test_eight_threads_of_fifty_writes_lose_none(url: str, state: Path, ledger: Ledger) -> None:
    asked = await routed(ledger)
    failures: list[BaseException] = []

    async def work() -> None:
        mine = open_ledger(url, state_dir=state)
        for _ in range(25):
            await mine.settle(await mine.reserve(asked, 3, Budgets(task=10_000)), settled(2))
        await mine.close()

    def thread() -> None:
        try:
            anyio.run(work)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        await anyio.to_thread.run_sync(each.join)
    assert failures == []
    assert await ledger.spend("t1") == Spend(calls=200, cost_nanousd=400)
    assert report.health(url).totals_agree


# --- texts, notes, checks that proved something ---


async def test_texts_of_a_call_are_kept_in_order_without_their_secrets(ledger: Ledger, url: str) -> None:
    asked = await routed(ledger)
    first, second = [await ledger.reserve(asked, 1, Budgets()) for _ in range(2)]
    other = await ledger.reserve(await routed(ledger, "t2"), 1, Budgets())
    await ledger.keep_text(second, "prompt", f"{{use}} {SECRET}")
    await ledger.keep_text(first, "reasoning", "\ud83d half a pair")
    await ledger.keep_text(other, "reply", "another task's")
    kept = await ledger.texts("t1")
    assert [(call_id, kind) for call_id, kind, _ in kept] == [(second, "prompt"), (first, "reasoning")]
    assert kept[0][2].startswith("{use} [redacted:")
    await ledger.close()
    assert SECRET.encode() not in ledger_path(url).read_bytes()
    for ask in (lambda: ledger.texts("no"), lambda: ledger.keep_text("no", "reply", "")):
        with pytest.raises(NotFound):
            await ask()


async def test_an_override_and_its_route_are_written_together(ledger: Ledger, raw: sqlite3.Connection) -> None:
    await ledger.open_task(task())
    await ledger.route(route())
    overridden = route(route_id="r2").model_copy(
        update={"tier": "strong", "override": "The caller pinned strong; the stage map says cheap."}
    )
    await ledger.route(overridden)
    with pytest.raises(LedgerError):
        await ledger.route(overridden)  # the same id again: neither row is there twice
    found = raw.execute("select task_id, kind, detail from decisions").fetchall()
    assert [tuple(row) for row in found] == [
        ("t1", "override", "draft on strong, small: The caller pinned strong; the stage map says cheap."),
    ]


async def test_a_check_that_proved_an_applied_change_is_remembered_for_its_project(ledger: Ledger) -> None:
    types = Check(argv=("/opt/bin/mypy", "."), timeout_s=9)
    slower = types.model_copy(update={"timeout_s": 99})

    async def drafted(task_id: str, checks: tuple[Check, ...], status: str, after: str, **fields: Any) -> None:
        await ledger.open_task(task(task_id, checks=checks, **fields))
        results = [CheckResult(name=c.name, role="turns_green", before="red", after=after) for c in checks]  # type: ignore[arg-type]
        await ledger.save(Draft.model_validate({"task_id": task_id, "status": status, "checks": results}))

    await drafted("t1", (CHECK, types), "applied", "green")
    await drafted("t2", (LINT,), "applied", "green")
    await drafted("t3", (slower,), "applied", "green")
    await drafted("t4", (Check(argv=("make", "red")),), "applied", "red")
    await drafted("t5", (Check(argv=("make", "left")),), "ready", "green")
    await drafted("t6", (Check(argv=("make", "elsewhere")),), "applied", "green", project="/home/dev/other")
    assert await ledger.proven_checks("/home/dev/shop", 9) == (slower, LINT, CHECK)
    assert await ledger.proven_checks("/home/dev/shop", 1) == (slower,)
    assert await ledger.proven_checks("/home/dev/nowhere", 9) == ()


async def test_proven_checks_are_found_without_a_scan_or_a_sort(ledger: Ledger, raw: sqlite3.Connection) -> None:
    await ledger.open_task(task())
    plan = raw.execute(f"explain query plan {PROVEN_CHECKS}", ("/home/dev/shop", 5)).fetchall()
    assert [row["detail"] for row in plan] == ["SEARCH proven_checks USING INDEX proven_checks_newest (project=?)"]


async def test_the_cache_hits_of_a_category_are_those_of_calls_that_tell(
    ledger: Ledger, raw: sqlite3.Connection
) -> None:
    asked = await routed(ledger)
    for category, cached, fresh in (("docs", 900, 100), ("docs", 600, 400), ("code", 0, 10), ("code", None, 70)):
        call_id = await ledger.reserve(asked.model_copy(update={"category": category}), 1, Budgets())
        await ledger.settle(call_id, settled(1, usage=Usage(input=fresh, cached_input=cached, output=1)))
    assert [tuple(row) for row in raw.execute("select * from cache_hits order by 1")] == [
        ("code", 1, 10, 0, 0.0), ("docs", 2, 2000, 1500, 0.75)
    ]  # fmt: skip


async def test_a_path_that_looks_like_a_secret_does_not_stop_a_call(ledger: Ledger, raw: sqlite3.Connection) -> None:
    packed = (
        PackedFile(path=f"{SECRET}.py", shown="parts", tokens=7),
        PackedFile(path='q"\\.py', shown="outline", tokens=3),
    )
    asked = (await routed(ledger)).model_copy(update={"packed": packed})
    await ledger.reserve(asked, 1, Budgets())
    [first, second] = raw.execute("select path, shown, tokens from packed_files").fetchall()
    assert (SECRET in first["path"], first["shown"], first["tokens"]) == (False, "parts", 7)
    assert tuple(second) == ('q"\\.py', "outline", 3)


# --- work in hand ---


async def test_a_task_is_in_one_hand_at_a_time(ledger: Ledger, url: str, state: Path) -> None:
    other = open_ledger(url, state_dir=state)
    await ledger.open_task(task())
    assert await ledger.standing("t1") == Standing(task_id="t1", state="open")
    assert await ledger.claim("t1")
    assert not await other.claim("t1")
    assert not await ledger.claim("t1")
    with pytest.raises(LedgerError, match="hands of another"):
        await other.finish("t1", "done", "stolen")
    await ledger.finish("t1", "done", "the reply")
    assert await other.standing("t1") == Standing(task_id="t1", state="done", reply="the reply")
    assert await other.claim("t1")
    await other.close()


async def test_a_cancel_reaches_the_owner_and_the_next_claim_clears_it(ledger: Ledger, url: str, state: Path) -> None:
    other = open_ledger(url, state_dir=state)
    await ledger.open_task(task())
    await ledger.claim("t1")
    await other.request_cancel("t1")
    assert (await ledger.standing("t1")).cancel_requested
    await ledger.finish("t1", "cancelled", "Cancelled.")
    assert await ledger.claim("t1")
    assert not (await ledger.standing("t1")).cancel_requested
    await other.close()


async def test_a_ledger_that_was_closed_counts_as_gone(ledger: Ledger, url: str, state: Path) -> None:
    other = open_ledger(url, state_dir=state)
    await other.reserve(await routed(ledger), 30, Budgets())
    await other.claim("t1")
    assert await ledger.sweep() == ()
    await other.close()
    assert (await ledger.standing("t1")).state == "interrupted"  # before anybody swept
    assert await ledger.sweep() == ("t1",)
    assert (await ledger.standing("t1")).state == "interrupted"
    assert await ledger.spend("t1") == Spend(calls=1, unpriced_calls=1, unknown_nanousd=30)
    assert await ledger.sweep() == ()


async def test_claiming_what_a_dead_owner_left_closes_its_calls(ledger: Ledger, url: str, state: Path) -> None:
    other = open_ledger(url, state_dir=state)
    await other.reserve(await routed(ledger), 30, Budgets())
    await other.claim("t1")
    await other.close()
    assert await ledger.claim("t1")
    assert [row.status for row in await ledger.calls("t1")] == ["interrupted"]
    assert (await ledger.standing("t1")).state == "running"


# --- the file ---


async def test_threads_that_open_a_fresh_file_at_once_all_succeed(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    backups: list[Path] = []
    for n in range(15):
        together = threading.Barrier(6)

        def opening(path: Path, together: threading.Barrier = together) -> None:
            try:
                together.wait()
                prepare(path)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=opening, args=(tmp_path / str(n) / "ledger.db",)) for _ in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        backups += (tmp_path / str(n)).glob("*.backup")
    assert (failures, backups) == ([], [])


async def test_opening_costs_nothing_until_the_first_use(state: Path, url: str) -> None:
    opened = open_ledger(url, state_dir=state)
    assert not state.exists()
    await opened.close()
    assert not state.exists()


@pytest.mark.parametrize(
    "url", ["postgresql://x/y", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:relative.db", "/abs/ledger.db"]
)
async def test_another_kind_of_place_is_refused_with_the_fix(url: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as refused:
        open_ledger(url, state_dir=tmp_path)
    assert "TIERKIT_LEDGER" in refused.value.next_step


async def test_only_the_owner_can_read_the_file_whatever_the_umask(ledger: Ledger, url: str, state: Path) -> None:
    before = os.umask(0)
    try:
        await ledger.reserve(await routed(ledger), 1, Budgets())
        names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.parent.rglob("*")}
    finally:
        os.umask(before)
    assert names.pop("tierkit") == names.pop("owners") == stat.S_IMODE(state.parent.stat().st_mode) == 0o700
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm"} <= set(names)
    assert set(names.values()) == {0o600}


async def test_a_file_that_others_could_read_is_made_private(ledger: Ledger, url: str, state: Path) -> None:
    await ledger.open_task(task())
    await ledger.close()
    ledger_path(url).chmod(0o644)
    await ledger.task("t1")
    assert stat.S_IMODE(ledger_path(url).stat().st_mode) == 0o600


async def test_every_table_is_strict(ledger: Ledger, raw: sqlite3.Connection) -> None:
    await ledger.open_task(task())
    loose = [row["name"] for row in raw.execute("pragma table_list") if row["schema"] == "main" and not row["strict"]]
    views = {"task_cost", "call_log", "cache_hits", "packed_files"}
    assert set(loose) - views - {"sqlite_schema", "_sqlite_migrations"} == set()


async def test_the_views_have_the_promised_columns(ledger: Ledger, raw: sqlite3.Connection) -> None:
    await ledger.open_task(task())
    columns = {
        view: [column[0] for column in raw.execute(f"select * from {view}").description]
        for view in ("task_cost", "call_log", "cache_hits", "packed_files")
    }
    assert columns == {
        "task_cost": ["task_id", "project", "calls", "cost_nanousd", "unpriced_calls"],
        "call_log": [
            "call_id", "task_id", "project", "at", "stage", "tier", "requested_model", "served_model", "status",
            "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reserved_nanousd", "cost_nanousd",
            "billing",
        ],
        "cache_hits": ["category", "calls", "input_tokens", "cached_tokens", "hit_rate"],
        "packed_files": ["call_id", "task_id", "at", "stage", "category", "path", "shown", "tokens"],
    }  # fmt: skip


async def test_a_call_cannot_have_a_status_of_its_own(ledger: Ledger, raw: sqlite3.Connection) -> None:
    await ledger.reserve(await routed(ledger), 1, Budgets())
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        raw.execute("update calls set status = 'paid'")
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute("update calls set status = 'settled', cost_nanousd = 0.5")


async def test_a_newer_ledger_is_left_alone(ledger: Ledger, url: str, state: Path, raw: sqlite3.Connection) -> None:
    asked = await routed(ledger)
    raw.execute(f"pragma user_version = {SCHEMA + 1}")
    with pytest.raises(LedgerError, match="newer tierkit"):  # open already: seen inside the write
        await ledger.reserve(asked, 1, Budgets())
    other = open_ledger(url, state_dir=state)
    with pytest.raises(LedgerError, match="newer tierkit") as refused:
        await other.task("t1")
    assert "pip install -U" in refused.value.next_step
    with pytest.raises(LedgerError, match="newer tierkit"), report.reading(url):
        pass
    await other.close()


async def test_an_older_ledger_is_backed_up_and_migrated(url: str, state: Path, ledger: Ledger) -> None:
    from sqlite_utils import Database

    state.mkdir(parents=True)
    with closing(sqlite3.connect(ledger_path(url), isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0002_totals_and_views")
        old.execute("pragma user_version = 1")
        old.execute("insert into owners values ('o', '/nowhere', 1, '')")
        old.execute(
            "insert into tasks values ('t1', '/p', '/p', null, '', 'open', null, 0, null, ?)",
            (task().model_dump_json(),),
        )
        old.execute("insert into routes values ('r1', 't1', '', 'draft', 'cheap', 'small', '{}')")
        for n, cost in enumerate((5, None)):
            old.execute(
                "insert into calls (call_id, task_id, route_id, owner_id, at, stage, tier, requested_model, status,"
                " prompt_id, reserved_nanousd, cost_nanousd) values (?, 't1', 'r1', 'o', '2026-10-05T01', 'draft',"
                " 'cheap', 'm', 'settled', 'p', 7, ?)",
                (n, cost),
            )  # fmt: skip
    for budget in ("task", "day", "month", "project"):
        with pytest.raises(OverBudget, match=r"\$0.000000012 is spent"):
            await ledger.reserve(request(), 1, Budgets.model_validate({budget: 12}))
    (backup,) = state.glob("ledger.db.schema1.*.backup")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("select count(*) from calls").fetchone()[0] == 2
        assert copy.execute("pragma user_version").fetchone()[0] == 1


def _of_schema_two(path: Path) -> sqlite3.Connection:
    """A ledger as the steps up to the second leave it: calls of every ending, and drafts of checked tasks."""
    from sqlite_utils import Database

    path.parent.mkdir(parents=True)
    old = sqlite3.connect(path, isolation_level=None)
    migrations().apply(Database(old, execute_plugins=False), stop_before="m0003_models_context_and_texts")
    old.execute("pragma user_version = 2")
    old.execute("insert into owners values ('o', '/nowhere', 1, '')")
    for task_id, *checks in (("t1", CHECK, LINT), ("t2", Check(argv=("left",))), ("t3", Check(argv=("red",)))):
        record = task(task_id, checks=checks).model_dump_json()
        old.execute("insert into tasks values (?, '/p', '/p', null, '', 'open', null, 0, null, ?)", (task_id, record))
    old.execute("insert into routes values ('r1', 't1', '', 'draft', 'cheap', 'small', '{}')")
    for n, (status, cost) in enumerate((("settled", 5), ("failed", 0), ("cancelled", None), ("settled", 2**60 + 1))):
        old.execute(
            "insert into calls (call_id, task_id, route_id, owner_id, at, stage, tier, requested_model, served_model,"
            " status, prompt_id, input_tokens, cached_tokens, reserved_nanousd, cost_nanousd)"
            " values (?, 't1', 'r1', 'o', '2026-10-05T01', 'draft', 'cheap', 'openai/m', 'm-2026', ?, 'p', 4, 2, 7, ?)",
            (f"c{n}", status, cost),
        )
    for n, (status, after) in enumerate((("applied", "green"), ("needs_work", "green"), ("applied", "red"))):
        of = (n + 1, f"t{n + 1}")
        old.execute("insert into drafts values (?, ?, '', ?, null, '{}')", (*of, status))
        old.execute("insert into checks values (null, ?, ?, 'x', 'turns_green', 'red', ?)", (*of, after))
    return old


TOLD_BEFORE = (
    "select * from task_cost", "select * from budget_spend",
    "select call_id, at, status, input_tokens, cached_tokens, cost_nanousd from call_log order by call_id",
    "select * from drafts", "select * from checks", "select status, at, tier, requested_model from calls order by 1, 2",
)  # fmt: skip


async def test_a_ledger_of_schema_two_keeps_every_figure(
    url: str, state: Path, ledger: Ledger, raw: sqlite3.Connection
) -> None:
    with closing(_of_schema_two(ledger_path(url))) as old:
        before = [old.execute(query).fetchall() for query in TOLD_BEFORE]
    assert await ledger.spend("t1") == Spend(
        calls=4, cost_nanousd=2**60 + 6, unpriced_calls=1, unknown_nanousd=7, input_tokens=24, cached_tokens=8
    )
    assert [[tuple(row) for row in raw.execute(query)] for query in TOLD_BEFORE] == before
    rows = raw.execute("select distinct requested_model, routed_model, category, packed_tokens, packed from calls")
    assert [tuple(row) for row in rows] == [("openai/m", "openai/m", None, None, None)]
    assert report.health(url).totals_agree
    assert set(await ledger.proven_checks("/p", 9)) == {CHECK, LINT}
    with report.reading(url) as conn:
        assert report.step_totals(conn) == ()
        hit = report.CacheHit(category=None, calls=4, input_tokens=24, cached_tokens=8, hit_rate=0.3333)
        assert report.cache_hits(conn) == (hit,)
    (backup,) = state.glob("ledger.db.schema2.*.backup")
    with closing(sqlite3.connect(backup)) as copy:
        assert [copy.execute(query).fetchall() for query in TOLD_BEFORE] == before


async def test_a_run_of_schema_three_was_a_scripts_and_cost_nothing(
    url: str, state: Path, ledger: Ledger, raw: sqlite3.Connection
) -> None:
    from sqlite_utils import Database

    state.mkdir(parents=True)
    with closing(sqlite3.connect(ledger_path(url), isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0004_costs_of_playbook_runs")
        old.execute("pragma user_version = 3")
        record = task().model_dump_json()
        old.execute("insert into tasks values ('t1', '/p', '/p', null, '', 'open', null, 0, null, ?)", (record,))
        run = '{"task_id":"t1","playbook":"rename","version":"1.0.0","digest":"ab","status":"ok"}'
        old.execute("insert into playbook_runs values (1, 't1', 'then', 'rename', '1.0.0', 'ab', 'ok', 7, ?)", (run,))
        before = old.execute("select * from playbook_runs").fetchall()
    made_of = {"task_id": "t1", "playbook": "judge", "version": "1.0.0", "digest": "cd", "status": "ok"}
    skill = PlaybookRun.model_validate(made_of | {"kind": "skill", "tokens": None, "cost_nanousd": None})
    await ledger.save(skill)
    first, second = raw.execute("select * from playbook_runs order by run_id").fetchall()
    assert [tuple(first)[:-3]] == before
    assert [tuple(row)[-3:] for row in (first, second)] == [("script", 0, 0), ("skill", None, None)]
    assert await ledger.playbook_runs("t1") == (PlaybookRun.model_validate_json(run), skill)
    assert len(list(state.glob("ledger.db.schema3.*.backup"))) == 1


async def test_a_migration_that_fails_leaves_the_file_as_it_was(url: str, state: Path, ledger: Ledger) -> None:
    from sqlite_utils import Database

    state.mkdir(parents=True)
    with closing(sqlite3.connect(ledger_path(url), isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0002_totals_and_views")
        old.execute("pragma user_version = 1")
        old.execute("create view call_log as select 1")  # in the way of the last statement
        with pytest.raises(LedgerError):
            await ledger.open_task(task())
        names = [row[0] for row in old.execute("select name from sqlite_master where name = 'budget_spend'")]
        assert (names, old.execute("pragma user_version").fetchone()[0]) == ([], 1)


@pytest.mark.parametrize("content", ["database", "text"])
async def test_a_file_that_is_no_ledger_is_not_touched(url: str, state: Path, ledger: Ledger, content: str) -> None:
    state.mkdir(parents=True)
    path = ledger_path(url)
    if content == "text":
        path.write_text("not a database, and long enough to be seen as none by its first bytes " * 20)
    else:
        with closing(sqlite3.connect(path)) as foreign:
            foreign.execute("create table bookmarks (url text)")
    before = path.read_bytes()
    with pytest.raises(LedgerError):
        await ledger.open_task(task())
    assert path.read_bytes() == before


async def test_a_full_disk_or_a_read_only_file_is_explained(ledger: Ledger, raw: sqlite3.Connection) -> None:
    asked = await routed(ledger)
    raw.execute("create trigger full before insert on calls begin select raise(abort, 'database or disk is full'); end")
    with pytest.raises(LedgerError, match="disk is full"):
        await ledger.reserve(asked, 1, Budgets())
    raw.execute("drop trigger full")
    await ledger.reserve(asked, 1, Budgets())


# --- reports ---


async def test_a_report_on_nothing_is_empty(url: str) -> None:
    with report.reading(url) as conn:
        assert report.overview(conn) == report.Overview(
            tasks=0, spend=Spent(), in_flight_calls=0, refused_calls=0, playbook_runs=0
        )
        assert report.recent_tasks(conn) == ()
        assert (report.newest_row(conn), report.playbook_totals(conn)) == (None, ())
        assert report.totals(conn, "day") == ()
        assert report.prompt_changes(conn) == ()
        with pytest.raises(NotFound):
            report.task_summary(conn, "t1")
    assert not ledger_path(url).exists()


async def test_a_report_cannot_write(ledger: Ledger, url: str) -> None:
    await ledger.open_task(task())
    with pytest.raises(LedgerError, match="readonly"), report.reading(url) as conn:
        conn.execute("delete from tasks")


async def test_a_report_sums_what_is_known_and_counts_the_rest(ledger: Ledger, url: str, clock: Clock) -> None:
    asked = await routed(ledger)
    await ledger.settle(
        await ledger.reserve(asked, 9, Budgets()), settled(5, usage=Usage(input=1, cached_input=2, output=3))
    )
    clock.at = NOON + timedelta(days=1)
    reviewed = route("t1", "r-review").model_copy(update={"decision": "review", "tier": "strong"})
    await ledger.route(reviewed)
    strong = request("t1", "r-review", tier="strong", model="anthropic/big", stage="review")
    await ledger.settle(await ledger.reserve(strong, 90, Budgets()), settled(None, served_model="big-2026"))
    await ledger.reserve(strong, 900, Budgets())
    with pytest.raises(OverBudget):
        await ledger.reserve(strong, 900, Budgets(call=1))
    for record in RECORDS:
        await ledger.save(record)
    await routed(ledger, "t2", project="/home/dev/other", goal="Second")
    known = Spent(calls=1, cost_nanousd=5, input_tokens=3, cached_tokens=2, output_tokens=3)
    unknown = Spent(calls=1, unpriced_calls=1, unknown_nanousd=90)
    flying = Spent(calls=1)
    rest = Spent(calls=2, unpriced_calls=1, unknown_nanousd=90)
    everything = Spent(
        calls=3, cost_nanousd=5, unpriced_calls=1, unknown_nanousd=90, input_tokens=3, cached_tokens=2, output_tokens=3
    )
    first = report.TaskSummary(
        task_id="t1", project="/home/dev/shop", client=None, goal="Fix the sum", created_at="2026-10-05T12:00:00+00:00",
        state="open", decision="draft", tier="cheap", draft_status="applied", verdict="findings", playbook_status="ok",
        outcome="edited", playbook_runs=1, spend=everything,
    )  # fmt: skip
    second = first.model_copy(
        update={
            "task_id": "t2", "project": "/home/dev/other", "goal": "Second", "draft_status": None, "verdict": None,
            "playbook_status": None, "outcome": None, "playbook_runs": 0, "spend": Spent(),
        }
    )  # fmt: skip
    total = report.Total
    with report.reading(url) as conn:
        assert report.overview(conn) == report.Overview(
            tasks=2, spend=everything, in_flight_calls=1, refused_calls=1, playbook_runs=1
        )
        assert report.recent_tasks(conn) == (second, first)
        assert report.recent_tasks(conn, limit=1) == (second,)
        assert report.recent_tasks(conn, since="2026-10-06") == ()
        assert report.newest_row(conn) == "2026-10-06T12:00:00.000+00:00"
        [rename] = report.playbook_totals(conn)
        assert rename.model_dump(exclude={"last_run"}) == {
            "playbook": "rename", "runs": 1, "ok": 1, "tokens": 0, "cost_nanousd": 0, "quota_runs": 0,
        }  # fmt: skip
        assert report.playbook_totals(conn, repository="elsewhere") == ()
        assert report.playbook_totals(conn, since="2026-10-07") == ()
        assert report.overview(conn, since="2026-10-06") == report.Overview(
            tasks=0, spend=rest, in_flight_calls=1, refused_calls=1, playbook_runs=1
        )
        assert report.task_summary(conn, "t1") == first
        assert report.totals(conn, "day") == (total(key="2026-10-05", spend=known), total(key="2026-10-06", spend=rest))
        assert report.totals(conn, "tier") == (total(key="cheap", spend=known), total(key="strong", spend=rest))
        assert report.totals(conn, "model") == (
            total(key="anthropic/big", spend=flying),
            total(key="big-2026", spend=unknown),
            total(key="openai/small", spend=known),
        )
        assert report.totals(conn, "tier", since="2026-10-06") == (total(key="strong", spend=rest),)
        query = "select stage, status, reserved_nanousd, cost_nanousd from call_log where task_id = 't1' order by 1, 2"
        log = [tuple(row) for row in conn.execute(query)]
    assert log == [("draft", "settled", 9, 5), ("review", "reserved", 900, None), ("review", "settled", 90, None)]


async def test_a_changed_prompt_text_is_listed_where_it_first_ran(ledger: Ledger, url: str, clock: Clock) -> None:
    asked = await routed(ledger)
    given: list[str] = []
    for prompt_id in (
        "draft.v1@a",
        "review.v1@z",
        "draft.v1@a",
        "draft.v1@b",
        "draft.v1@b",
        "review.v1@z",
        "draft.v2@c",
    ):
        clock.at += timedelta(seconds=1)
        given.append(await ledger.reserve(asked.model_copy(update={"prompt_id": prompt_id}), 1, Budgets()))
    with report.reading(url) as conn:
        found = report.prompt_changes(conn)
    assert [(change.call_id, change.prompt, change.before, change.after) for change in found] == [
        (given[3], "draft", "draft.v1@a", "draft.v1@b"),
        (given[6], "draft", "draft.v1@b", "draft.v2@c"),
    ]


async def test_doctor_sees_what_is_wrong_with_the_file(
    ledger: Ledger, url: str, state: Path, raw: sqlite3.Connection
) -> None:
    other = open_ledger(url, state_dir=state)
    await other.reserve(await routed(ledger), 3, Budgets())
    await other.claim("t1")
    healthy = report.health(url)
    assert healthy == report.Health(
        schema_number=SCHEMA, bytes=healthy.bytes, is_private=True, problems=(), live_owners=1, left_calls=0,
        left_tasks=0, totals_agree=True,
    )  # fmt: skip
    await other.close()
    raw.execute("pragma foreign_keys = off")
    raw.execute("update calls set route_id = 'gone'")
    raw.execute("update budget_spend set nanousd = 4 where budget = 'month'")
    ledger_path(url).chmod(0o640)
    found = report.health(url)
    assert (found.is_private, found.live_owners, found.left_calls, found.left_tasks, found.totals_agree) == (
        False, 0, 1, 1, False,
    )  # fmt: skip
    assert any("routes" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [(0, "0.00"), (3_100_000, "0.0031"), (2_000_000_000, "2.00"), (1, "0.000000001"), (2**62, "4611686018.427387904")],
)
def test_dollars_are_exact(nanousd: int, shown: str) -> None:
    assert dollars(nanousd) == shown
