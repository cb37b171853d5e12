"""What the budgets admit: waiting for calls in flight, pausing for the user, and the breaker."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit.calls import DraftCall, PlaybookCall, ReviewCall
from mcp_tierkit.config import Config, load_config
from mcp_tierkit.demo_upstream import Upstream
from mcp_tierkit.desk import Desk
from mcp_tierkit.errors import OverBudget, TierkitError
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.migrations import SCHEMA, migrations
from mcp_tierkit.ledger.opening import connect, prepare
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.types import Budgets, Call, Request, Route, Stage, Task, TierName
from tests.support import JOB, REPAIR, RIGHT, WRONG, commit_all, desk_at, make_config, make_env, make_project, said
from tests.test_ledger_processes import children
from tests.test_recipes import RIGHT as TERMS
from tests.test_recipes import RUN
from tests.test_recipes import make as make_recipes

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
LONG_S = 60.0
"""A wait that no test sits out: what returns at once did not wait."""
UNCHECKED: dict[str, Any] = {"task": "Take the discount as a percentage.", "files": ["shop/cart.py"]}
Opened = Callable[..., Ledger]


@pytest.fixture
def clock() -> list[datetime]:
    """The time, as the only element."""
    return [NOON]


@pytest.fixture
async def opened(tmp_path: Path, clock: list[datetime]) -> AsyncIterator[Opened]:
    """Opens ledgers on one file."""
    made: list[Ledger] = []

    def make(settle_wait_s: float = LONG_S) -> Ledger:
        url = f"sqlite://{tmp_path}/ledger.db"
        made.append(open_ledger(url, state_dir=tmp_path, clock=lambda: clock[0], settle_wait_s=settle_wait_s))
        return made[-1]

    yield make
    for ledger in made:
        await ledger.close()


async def routed(
    ledger: Ledger, task_id: str = "t1", digest: str | None = None, tier: TierName = "cheap", stage: Stage = "draft"
) -> Request:
    await ledger.open_task(Task(task_id=task_id, project="/p", goal="g", created_at=NOON))
    route_id = f"route-{task_id}"
    await ledger.route(Route(route_id=route_id, task_id=task_id, decision="draft", tier=tier, rule="r", reason="r"))
    return Request(
        task_id=task_id, route_id=route_id, stage=stage, tier=tier, model="m", messages=(), max_output_tokens=1,
        timeout_s=1, prompt_id="draft.v1@a", digest=digest,
    )  # fmt: skip


def paid(cost: int) -> Call:
    return Call(status="settled", cost_nanousd=cost)


def decided(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "ledger.db")) as conn:
        return [kind for (kind,) in conn.execute("select kind from decisions order by decision_id")]


# --- waiting for calls in flight ---


@pytest.mark.parametrize("settles", ["its own process", "another process"])
@pytest.mark.parametrize("budget", ["task", "day", "project", "month"])
async def test_a_call_waits_for_one_in_flight_and_goes_out_once_that_has_settled(
    opened: Opened, tmp_path: Path, budget: str, settles: str
) -> None:
    ledger, limits = opened(), Budgets.model_validate({budget: 100})
    other = ledger if settles == "its own process" else opened()
    asked, granted = await routed(ledger), list[str]()
    first = await ledger.reserve(asked, 60, limits)

    async def second() -> None:
        granted.append(await ledger.reserve(asked, 90, limits))

    with anyio.fail_after(LONG_S / 2):
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            for _ in range(3):
                await ledger.sweep()  # One writer: by now the second has asked.
            assert granted == []
            await other.settle(first, paid(10))
    assert len(granted) == 1
    assert decided(tmp_path) == []


async def test_a_call_that_no_settlement_can_help_is_refused_at_once(opened: Opened) -> None:
    ledger = opened()
    asked = await routed(ledger)
    await ledger.settle(await ledger.reserve(asked, 50, Budgets()), paid(50))
    await ledger.reserve(asked, 40, Budgets())
    with anyio.fail_after(LONG_S / 2):
        for limits in (Budgets(task=100, day=70), Budgets(call=30), Budgets(month=100, project=79)):
            with pytest.raises(OverBudget) as refused:
                await ledger.reserve(asked, 31, limits)
    assert not refused.value.may_settle
    assert "The project budget of $0.000000079" in refused.value.what


async def test_after_the_wait_the_refusal_says_what_is_outstanding(opened: Opened, tmp_path: Path) -> None:
    ledger = opened(0.05)
    asked = await routed(ledger)
    await ledger.settle(await ledger.reserve(asked, 50, Budgets()), paid(20))
    await ledger.reserve(asked, 60, Budgets())
    with pytest.raises(OverBudget, match=r"\$0.00000002 is spent, \$0.00000006 is outstanding and it could cost"):
        await ledger.reserve(asked, 30, Budgets(day=100))
    assert decided(tmp_path) == ["over_budget"], "one row, however often it was tried"


async def test_a_refusal_says_where_what_is_spent_is_only_the_most_that_it_can_be(opened: Opened) -> None:
    """A reply of unknown cost whose tokens are known holds what they can have cost, and gives the rest back."""
    ledger = opened(0.05)
    asked = await routed(ledger)
    for most in (None, 30):
        call_id = await ledger.reserve(asked, 50, Budgets(day=130))
        await ledger.settle(call_id, Call(status="settled", most_nanousd=most))
    for limit in (Budgets(task=130), Budgets(day=130), Budgets(month=130), Budgets(project=130)):
        with pytest.raises(OverBudget, match=r"\$0.00000008 is spent or possibly spent, \$0.00 is outstanding"):
            await ledger.reserve(asked, 51, limit)
    held = await ledger.reserve(asked, 10, Budgets(day=130))
    with pytest.raises(OverBudget, match=r"\$0.00000008 is spent or possibly spent, \$0.00000001 is outstanding"):
        await ledger.reserve(asked, 50, Budgets(day=130))  # It waited in vain for the one in flight.
    await ledger.settle(held, paid(0))
    other = await routed(ledger, "t2")
    await ledger.settle(await ledger.reserve(other, 50, Budgets(day=130)), paid(50))
    with pytest.raises(OverBudget, match=r"\$0.00000005 is spent, \$0.00 is outstanding"):
        await ledger.reserve(other, 51, Budgets(task=100))


async def test_a_wait_is_cancelled_at_once_and_leaves_no_row(opened: Opened, tmp_path: Path) -> None:
    ledger = opened()
    asked = await routed(ledger)
    first = await ledger.reserve(asked, 60, Budgets())
    with anyio.fail_after(LONG_S / 2), anyio.move_on_after(0.05) as waited:
        await ledger.reserve(asked, 60, Budgets(task=100))
    assert waited.cancelled_caught
    await ledger.settle(first, paid(1))
    assert [row.status for row in await ledger.calls("t1")] == ["settled"]
    assert decided(tmp_path) == []


async def test_what_a_killed_process_left_is_not_waited_for(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite://{tmp_path}/ledger.db", state_dir=tmp_path, settle_wait_s=LONG_S)
    asked = await routed(ledger)
    with children(("doomed", "t1"), state=tmp_path) as (victim,):
        assert victim.heard().endswith("t1")
    with anyio.fail_after(LONG_S / 2), pytest.raises(OverBudget, match=r"\$0.00000001 is spent or possibly spent, "):
        await ledger.reserve(asked, 15, Budgets(task=20))
    await ledger.close()


# --- crowds ---

CROWD = """
import http.client, os, sys
from pathlib import Path
import anyio
from mcp_tierkit.desk import Desk
from mcp_tierkit.errors import OverBudget
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.types import Budgets, Call, Request

state, port, budget, *tasks = sys.argv[1:]
sys.stdin.readline()
processes = int(tasks.pop())
share = len(tasks) // processes
for at in range(processes):
    mine = tasks[at * share:(at + 1) * share]
    if at + 1 == processes or not os.fork():
        break
ledger = open_ledger(f"sqlite://{state}/ledger.db", state_dir=Path(state))
said = []

def send():
    upstream = http.client.HTTPConnection("127.0.0.1", int(port))
    upstream.request("POST", "/v1/chat/completions", '{"model": "m", "messages": []}')
    upstream.getresponse().read()
    upstream.close()

async def one(task_id):
    asked = Request(task_id=task_id, route_id="route-" + task_id, stage="draft", tier="cheap", model="m", messages=(),
                    max_output_tokens=1, timeout_s=1, prompt_id="draft.v1@a")
    try:
        call_id = await ledger.reserve(asked, 10, Budgets.model_validate({budget: 79}))
    except OverBudget as error:
        said.append(error.what)
        return
    await anyio.to_thread.run_sync(send)
    await ledger.settle(call_id, Call(status="settled", cost_nanousd=7))

async def main():
    async with anyio.create_task_group() as group:
        for task_id in mine:
            group.start_soon(one, task_id)
    await ledger.close()

anyio.run(main)
os.write(1, "".join(line + "\\n" for line in said).encode())
"""
WATCH = """create table seen (nanousd integer);
    create trigger watch after insert on calls begin
        insert into seen select sum(coalesce(cost_nanousd, reserved_nanousd)) from calls; end"""


@pytest.mark.parametrize(("processes", "budget"), [(1, "day"), (4, "month"), (4, "project")])
async def test_twenty_calls_at_once_make_exactly_the_requests_that_their_budget_admits(
    opened: Opened, tmp_path: Path, processes: int, budget: str
) -> None:
    """Each may cost 10 and costs 7. In whatever order they settle, the tenth fits in 79 and the eleventh never does."""
    ledger = opened()
    names = [f"t{n}" for n in range(20)]
    for name in names:
        await routed(ledger, name)
    await ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as conn:
        conn.executescript(WATCH)
    with Upstream(lambda asked: "ok") as upstream:
        port = upstream.root_url.rpartition(":")[2]
        told = await spoken(CROWD, str(tmp_path), port, budget, *names, str(processes))
        asked = len(upstream.wait_served(10, 60))
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as conn:
        [(most, granted)] = conn.execute("select max(nanousd), count(*) from seen").fetchall()
    assert (asked, granted, len(told)) == (10, 10, 10)
    assert most <= 79
    right = f"The {budget} budget of $0.000000079 does not admit this call: $0.00000007 is spent, $0.00 is outstanding"
    assert [line for line in told if not line.startswith(right)] == []


async def spoken(program: str, *args: str) -> list[str]:
    """What the processes of a program say until the last of them has ended."""
    done = await anyio.run_process(
        [sys.executable, "-c", program, *args], input=b"go\n", cwd=Path(__file__).parent.parent
    )
    return done.stdout.decode().splitlines()


# --- pausing for the user ---


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "app")


def asking(project: Path, home: Path, amount: str, mode: str = "ask") -> Config:
    return make_config(project, home, toml=f'[budget]\non_exhausted = "{mode}"\ntask_usd = "{amount}"\n')


def raise_to(config: Config, amount: str) -> None:
    text = config.config_file.read_text()
    before, _, _ = text.partition("task_usd")
    config.config_file.write_text(f'{before}task_usd = "{amount}"\n')


def named_amount(text: str) -> str:
    return text.partition('task_usd = "')[2].partition('"')[0]


async def paused_at_its_repair(desk: Desk, config: Config) -> dict[str, Any]:
    """A task that was paused before its first call, went on as far as a larger amount allowed, and pauses again."""
    paused = await desk.draft(DraftCall(**JOB))
    assert paused["next"].startswith('Ask the user to set task_usd = "0.0')
    assert paused["next"].endswith(f"then call again with task_id {paused['task_id']}.")
    again = await desk.draft(DraftCall(task_id=paused["task_id"]))
    assert (paused["status"], again["status"], again["next"]) == ("over_budget", "over_budget", paused["next"])
    raise_to(config, "0.0043")
    reply: dict[str, Any] = await desk.draft(DraftCall(task_id=paused["task_id"]))
    assert (reply["status"], reply["checks"][0]["after"]) == ("over_budget", "red")
    return reply


async def test_a_paused_task_goes_on_with_the_refused_call_once_the_budget_is_as_told(
    project: Path, tmp_path: Path
) -> None:
    config, gateway = asking(project, tmp_path / "home", "0.0001"), ScriptedGateway([said(WRONG), said(REPAIR)])
    async with desk_at(config, gateway) as desk:
        paused = await paused_at_its_repair(desk, config)
        assert len(gateway.requests) == 1
        raise_to(config, named_amount(paused["next"]))
        done = await desk.draft(DraftCall(task_id=paused["task_id"]))
        assert [request.stage for request in gateway.requests] == ["draft", "repair"]
        assert (done["status"], done["attempts"]) == ("applied", ["cheap tiny-cheap: red, green $0.0004"])
        with pytest.raises(TierkitError, match="has had its draft, and no broken test"):
            await desk.draft(DraftCall(task_id=paused["task_id"]))


async def test_the_sum_that_a_refused_draft_names_admits_its_repair_too(project: Path, tmp_path: Path) -> None:
    config, gateway = asking(project, tmp_path / "home", "0.0001"), ScriptedGateway([said(WRONG), said(REPAIR)])
    async with desk_at(config, gateway) as desk:
        paused = await desk.draft(DraftCall(**JOB))
        assert 'task_usd = "0.012" or more (for the draft and a repair) under [budget]' in paused["next"]
        raise_to(config, named_amount(paused["next"]))
        done = await desk.draft(DraftCall(task_id=paused["task_id"]))
    assert (done["status"], done["attempts"]) == ("applied", ["cheap tiny-cheap: red, green $0.0004"])


@pytest.mark.parametrize("moved", [False, True], ids=["the server was restarted", "its file has moved"])
async def test_a_task_whose_paused_work_is_of_no_use_any_more_begins_anew_in_the_same_slot(
    project: Path, tmp_path: Path, moved: bool
) -> None:
    config, gateway = asking(project, tmp_path / "home", "0.0001"), ScriptedGateway([said(WRONG)])
    config.config_file.write_text(config.config_file.read_text().replace("[budget]", "[budget]\nbreaker = false"))
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(desk_at(config, gateway))
        paused = await paused_at_its_repair(desk, config)
        raise_to(config, "0.1")
        if moved:
            cart = project / "shop/cart.py"
            cart.write_text(cart.read_text().replace("A shopping cart", "A cart"))
        else:
            desk = await stack.enter_async_context(desk_at(config, gateway))
        gateway.replies(said(WRONG), said("No idea."), said(RIGHT))
        again = await desk.draft(DraftCall(task_id=paused["task_id"]))
        assert [request.stage for request in gateway.requests] == ["draft", "draft", "repair"]
        assert again["status"] == "needs_work"
        second = await desk.draft(DraftCall(task_id=paused["task_id"]))
        assert second["status"] == "applied", "the paused draft took none of the two slots"


async def test_without_ask_a_raised_budget_waits_for_the_next_start(project: Path, tmp_path: Path) -> None:
    config, gateway = asking(project, tmp_path / "home", "0.0022", "refuse"), ScriptedGateway([said(RIGHT)])
    async with desk_at(config, gateway) as desk:
        refused = await desk.draft(DraftCall(**JOB))
        raise_to(config, "1")
        again = await desk.draft(DraftCall(task_id=refused["task_id"]))
    assert (again["status"], gateway.requests) == ("over_budget", [])
    way_on = (
        r'Ask the user to set task_usd = "0\.\d+" or more \(for the draft and a repair\) under \[budget\] in their '
        r"tierkit\.toml and start the server again, or max_output_tokens under \[tiers\.cheap\] below 8000 "
        r"\(nearly all that the call may cost\), or go on without it\."
    )
    assert re.fullmatch(way_on, again["next"]), again["next"]


@pytest.mark.parametrize(
    ("mine", "theirs", "variable", "wanted"),
    [
        ("", 'day_usd = "0.00001"', "", "day_usd = \"0.0* under [budget] in the project's tierkit.toml"),
        (
            "",
            "",
            "0.00001",
            "TIERKIT_BUDGET_DAY_USD=0.0* in the server's environment and start the server again",
        ),
        (
            'day_usd = "0.00001"',
            "",
            "",
            'day_usd = "0.0* under [budget] in their tierkit.toml',
        ),
    ],
    ids=["the project's file", "a variable", "the user's file"],
)
async def test_a_pause_names_the_place_that_holds_the_limit(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: str, theirs: str, variable: str, wanted: str
) -> None:
    if theirs:
        (project / "tierkit.toml").write_text(f"[budget]\n{theirs}\n")
        commit_all(project)
    toml = f'[budget]\non_exhausted = "ask"\n{mine}\n'
    extra = {"TIERKIT_BUDGET_DAY_USD": variable} if variable else {}
    config = load_config(project=str(project), env=make_env(tmp_path / "home", toml=toml, **extra))
    async with desk_at(config, ScriptedGateway([said(RIGHT)])) as desk:
        paused = await desk.draft(DraftCall(**JOB))
    begins, ends = wanted.split("*")
    assert paused["next"].startswith(f"Ask the user to set {begins}"), paused["next"]
    assert ends in paused["next"]


@pytest.mark.parametrize("toml", ["", '[budget]\ncall_usd = "999"\nmonth_usd = "30"\n'])
async def test_a_default_that_is_in_the_way_is_named_as_ours_with_the_ways_to_lift_it(
    project: Path, tmp_path: Path, toml: str
) -> None:
    env = make_env(tmp_path / "home", toml=toml)
    file = tmp_path / "home/tierkit.toml"
    file.write_text(re.sub(r"price = .*", 'price = { input = "9000", output = "9000" }', file.read_text()))
    config = load_config(project=str(project), env=env)
    async with desk_at(config, ScriptedGateway([said(RIGHT)])) as desk:
        refused = await desk.draft(DraftCall(**JOB))
    assert refused["status"] == "over_budget"
    assert "The task budget of $0.50 does not admit this call" in refused["summary"]
    assert re.fullmatch(
        r'Ask the user to replace our default with task_usd = "440" or more \(for the draft and a repair\), or "none", '
        r"under \[budget\] in their tierkit\.toml and start the server again, or go on without it\.", refused["next"],
    ), refused["next"]  # fmt: skip


async def test_a_call_that_the_breaker_stops_says_when_it_may_go_on_and_not_what_to_raise(
    project: Path, tmp_path: Path
) -> None:
    config = make_config(project, tmp_path / "home", toml='[budget]\ntask_usd = "5"\n')
    async with desk_at(config, ScriptedGateway([said("No idea.")] * 9)) as desk:
        replies = [await desk.draft(DraftCall(**JOB)) for _ in range(3)]
    assert replies[2]["status"] == "over_budget"
    assert re.fullmatch(
        r"Ask in other words or for less, or tell the user; the same may go on at \d\d:\d\d UTC, 1[01] min from now, "
        r"or with breaker = false under \[budget\] in tierkit"
        r"\.toml and a new start of the server, or go on without it\.", replies[2]["next"],
    ), replies[2]["next"]  # fmt: skip


async def test_a_file_that_cannot_be_used_leaves_the_budgets_as_they_were(project: Path, tmp_path: Path) -> None:
    config, gateway = asking(project, tmp_path / "home", "1"), ScriptedGateway([said(RIGHT)])
    async with desk_at(config, gateway) as desk:
        config.config_file.write_text("[budget\n")
        assert (await desk.draft(DraftCall(**JOB)))["status"] == "applied"


CLEAN = (
    '{"findings": [], "checked": {"edge_case": "none: looked at empty lists", "assumption": "none: all are stated", '
    '"test": "none: both are tested", "drift": "none: only the sum", "security": "none: no input is run"}}'
)


async def test_a_review_that_a_budget_stops_says_how_it_goes_on(project: Path, tmp_path: Path) -> None:
    config, gateway = asking(project, tmp_path / "home", "0.0001"), ScriptedGateway([said(CLEAN)])
    (project / "shop/cart.py").write_text((project / "shop/cart.py").read_text() + "\n# end\n")
    async with desk_at(config, gateway) as desk:
        with pytest.raises(
            TierkitError, match=r"it could cost \$[\d.]+\. This call was not made\..*then call again with task_id t\d+"
        ) as refused:
            await desk.review(ReviewCall(diff="working_tree"))
        assert gateway.requests == []
        raise_to(config, named_amount(str(refused.value)))
        task_id = str(refused.value).rpartition("task_id ")[2].rstrip(".")
        # The strong tier reviews, and answers by its own name.
        gateway._left[0] = gateway._left[0].model_copy(update={"served_model": "tiny-strong"})  # type: ignore[union-attr]
        done = await desk.review(ReviewCall(task_id=task_id, diff="working_tree"))
    assert (done["verdict"], len(gateway.requests)) == ("clean", 1)


async def test_a_recipe_that_a_budget_stops_is_called_again_with_the_same_inputs(tmp_path: Path) -> None:
    toml = '[budget]\non_exhausted = "ask"\ntask_usd = "0.0000001"\n'
    config, gateway = make_recipes(tmp_path / "app", tmp_path / "home", toml=toml), ScriptedGateway([said(TERMS)])
    async with desk_at(config, gateway) as desk:
        with pytest.raises(TierkitError) as refused:
            await desk.run_playbook(PlaybookCall(**RUN))
        assert refused.value.code == "over_budget"
        assert str(refused.value).endswith("then call again with the same inputs.")
        raise_to(config, named_amount(str(refused.value)))
        assert (await desk.run_playbook(PlaybookCall(**RUN)))["status"] == "ok"


# --- the breaker ---


async def test_a_third_request_that_is_the_same_within_ten_minutes_is_refused_as_a_loop(
    project: Path, tmp_path: Path
) -> None:
    """An agent that asks for the same draft over and over, each time as a task of its own."""
    gateway = ScriptedGateway([said("I cannot say.")] * 20)
    async with desk_at(make_config(project, tmp_path / "home"), gateway) as desk:
        replies = [await desk.draft(DraftCall(**UNCHECKED, apply="never")) for _ in range(4)]
    made = [request.messages for request in gateway.requests]
    async with desk_at(make_config(project, tmp_path / "home", toml="[budget]\nbreaker = false\n"), gateway) as desk:
        freed = await desk.draft(DraftCall(**UNCHECKED, apply="never"))
    assert made.count(made[0]) == 2
    assert [reply["status"] for reply in replies[2:]] == ["over_budget"] * 2
    assert "This very request was made 2 times within ten minutes, so it looks like a loop" in replies[2]["summary"]
    assert freed["status"] != "over_budget"
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as conn:
        kinds = [kind for (kind,) in conn.execute("select kind from decisions where kind <> 'override'")]
    assert kinds == ["loop"] * 2


async def test_a_person_who_runs_a_recipe_for_the_third_time_is_told_how_to_go_on_at_once(tmp_path: Path) -> None:
    """The breaker takes it for a loop, and a person at a shell may mean it."""
    config = make_recipes(tmp_path / "app", tmp_path / "home")
    for _ in range(2):
        async with desk_at(config, ScriptedGateway([said(TERMS)])) as desk:
            await desk.run_playbook(PlaybookCall(**RUN))
    env = make_env(tmp_path / "home", PYTHONPATH=str(Path(__file__).parent.parent))
    command = [
        sys.executable,
        "-m",
        "mcp_tierkit",
        "playbook",
        "run",
        RUN["name"],
        f"contract={RUN['inputs']['contract']}",
    ]
    ours, theirs = os.openpty()
    third = await anyio.run_process(command, env=env, cwd=config.project, check=False, stdout=theirs)
    os.close(theirs)
    os.close(ours)
    assert third.returncode == 3
    assert re.fullmatch(
        r"This very request was made 2 times within ten minutes, so it looks like a loop: the breaker stops it, not a "
        r"budget\. This call was not made\. Ask in other words or for less, or wait: the same may go on at \d\d:\d\d "
        r"UTC, 1[01] min from now, or at once with TIERKIT_BUDGET_BREAKER=false in front of the command\.\n",
        third.stderr.decode(),
    ), third.stderr.decode()
    meant = load_config(project=str(config.project), env=env | {"TIERKIT_BUDGET_BREAKER": "false"})
    async with desk_at(meant, ScriptedGateway([said(TERMS)])) as desk:
        assert (await desk.run_playbook(PlaybookCall(**RUN)))["status"] == "ok"


async def test_a_loop_is_forgotten_ten_minutes_after_its_first_call_and_a_failing_provider_makes_none(
    opened: Opened, clock: list[datetime]
) -> None:
    ledger = opened()
    asked = await routed(ledger, digest="same")
    for minutes in (0, 4):
        clock[0] = NOON + timedelta(minutes=minutes)
        await ledger.settle(await ledger.reserve(asked, 9, Budgets()), paid(1))
        failed = await ledger.reserve(asked.model_copy(update={"digest": "other"}), 9, Budgets())
        await ledger.settle(failed, Call(status="failed"))
    clock[0] = NOON + timedelta(minutes=9, seconds=59)
    with pytest.raises(OverBudget, match=r"may go on at 12:10 UTC, 1 min from now"):
        await ledger.reserve(asked, 9, Budgets())
    await ledger.reserve(asked.model_copy(update={"digest": "other"}), 9, Budgets())
    await ledger.reserve(asked.model_copy(update={"digest": None}), 9, Budgets())
    clock[0] = NOON + timedelta(minutes=10)
    await ledger.reserve(asked, 9, Budgets())


async def test_the_minute_that_the_breaker_names_is_one_at_which_the_call_may_go_on(
    opened: Opened, clock: list[datetime]
) -> None:
    ledger = opened()
    asked = await routed(ledger, digest="same")
    clock[0] = NOON + timedelta(seconds=37)
    for _ in range(2):
        await ledger.reserve(asked, 9, Budgets())
    with pytest.raises(OverBudget, match="may go on at 12:11 UTC, 11 min from now"):
        await ledger.reserve(asked, 9, Budgets())
    clock[0] = NOON + timedelta(minutes=11)
    await ledger.reserve(asked, 9, Budgets())


async def test_what_a_clock_that_was_ahead_once_dated_holds_nothing_up_today(
    opened: Opened, clock: list[datetime], tmp_path: Path
) -> None:
    """Else one wrong boot stops every call until that day has come: a loop, a runaway day, the count of unpriced."""
    ledger, limits = opened(), Budgets(unpriced_calls=2)
    asked = [await routed(ledger, f"t{n}", digest=f"d{n}") for n in range(40)]

    async def spend(at: int, worst: int | None = 10**9) -> None:
        await ledger.settle(await ledger.reserve(asked[at], worst, limits), paid(100_000_000))

    for day in range(5):
        clock[0] = NOON - timedelta(days=9 - day)
        await spend(day)
    clock[0] = NOON + timedelta(days=400)
    for at in (5, 5, 6, 6):
        await spend(at, None if at == 6 else 10**9)
    for at in range(7, 14):
        await spend(at)
    with pytest.raises(OverBudget, match="over ten times the usual"):
        await spend(14)
    clock[0] = NOON
    await spend(5)
    await spend(6, None)
    for at in range(20, 29):
        await spend(at)  # It makes this day cost over ten times the usual, too.
    with pytest.raises(OverBudget, match=r"This day has cost \$1.10, over ten times the usual"):
        await spend(29)
    assert decided(tmp_path) == ["day_rate", "day_rate"]


async def test_a_task_over_ten_times_the_usual_is_stopped_and_let_go_on_after_ten_minutes(
    opened: Opened, clock: list[datetime], tmp_path: Path
) -> None:
    ledger = opened()

    async def spend(asked: Request, usd: float) -> None:
        await ledger.settle(await ledger.reserve(asked, 10**9, Budgets()), paid(int(usd * 10**9)))

    asked = await routed(ledger, "runaway")
    for n in range(4):
        await spend(await routed(ledger, f"t{n}"), 0.02)
    await spend(asked, 0.25)
    await spend(asked, 0.01)  # Four tasks are too few to say what is usual.
    await spend(await routed(ledger, "t4"), 0.02)
    refusals: list[tuple[int, str]] = []
    for minute in (0, 5, 9, 10, 11, 12):
        clock[0] = NOON + timedelta(minutes=minute)
        try:
            await spend(asked, 0.15)
        except OverBudget as error:
            refusals.append((minute, error.what.partition(":")[0]))
    assert refusals == [
        (0, "This task has cost $0.26, over ten times the usual $0.02 of a draft on the cheap tier"),
        (5, "This task spends unusually fast and was stopped"),
        (9, "This task spends unusually fast and was stopped"),
        (11, "This task has cost $0.41, over ten times the usual $0.02 of a draft on the cheap tier"),
        (12, "This task spends unusually fast and was stopped"),
    ]
    assert decided(tmp_path) == ["task_rate", "breaker", "breaker", "task_rate", "breaker"]
    await spend(await routed(ledger, "another"), 0.02)
    await ledger.reserve(asked, 1, Budgets(breaker=False))


async def test_the_first_dear_task_of_a_kind_is_no_runaway_beside_tiny_ones_of_another(opened: Opened) -> None:
    """Somebody with many tiny recipes, or cheap drafts, must not be stopped at the first one that is worth a dollar."""
    ledger = opened()

    async def spend(task_id: str, usd: float, **kind: Any) -> Request:
        asked = await routed(ledger, task_id, **kind)
        await ledger.settle(await ledger.reserve(asked, 10**9, Budgets()), paid(int(usd * 10**9)))
        return asked

    async def stopped(asked: Request) -> str:
        try:
            await ledger.reserve(asked, 1, Budgets())
        except OverBudget as error:
            return error.what.partition(":")[0]
        return ""

    for n in range(30):
        await spend(f"tiny{n}", 0.001, stage="playbook")
    dear = [await spend("dear", 0.4), await spend("reviewed", 0.4, stage="review")]
    assert [await stopped(asked) for asked in dear] == ["", ""]
    assert await stopped(await spend("recipe", 0.4, stage="playbook")) == (
        "This task has cost $0.40, over ten times the usual $0.001 of a playbook on the cheap tier"
    )
    for n in range(5):
        await spend(f"draft{n}", 0.02, stage="repair")
    assert (
        await stopped(dear[0])
        == "This task has cost $0.40, over ten times the usual $0.02 of a draft on the cheap tier"
    )
    assert await stopped(await spend("strong", 0.5, tier="strong")) == ""


async def test_a_day_over_ten_times_the_usual_day_is_stopped_for_every_task(
    opened: Opened, clock: list[datetime], tmp_path: Path
) -> None:
    ledger = opened()
    asked = [await routed(ledger, f"t{n}") for n in range(20)]
    for day in range(5):
        clock[0] = NOON - timedelta(days=5 - day)
        await ledger.settle(await ledger.reserve(asked[day], 10**9, Budgets()), paid(110_000_000))
    clock[0] = NOON
    held = await ledger.reserve(asked[5], 10**9, Budgets())
    for n in range(6, 17):
        await ledger.settle(await ledger.reserve(asked[n], 10**9, Budgets()), paid(100_000_000))
    await ledger.settle(held, paid(10_000_000))
    with pytest.raises(OverBudget, match=r"This day has cost \$1.11, over ten times the usual \$0.11"):
        await ledger.reserve(asked[17], 1, Budgets())
    with pytest.raises(OverBudget, match="This day spends unusually fast and was stopped"):
        await ledger.reserve(asked[18], 1, Budgets())
    clock[0] = NOON + timedelta(minutes=10)
    await ledger.reserve(asked[18], 1, Budgets())
    assert decided(tmp_path) == ["day_rate", "breaker"]


async def test_cheap_habits_make_no_runaway(opened: Opened) -> None:
    ledger = opened()
    for n in range(6):
        await ledger.settle(await ledger.reserve(await routed(ledger, f"t{n}"), 10**9, Budgets()), paid(100))
    asked = await routed(ledger, "t9")
    await ledger.settle(await ledger.reserve(asked, 10**9, Budgets()), paid(99_000_000))
    await ledger.reserve(asked, 1, Budgets())


async def test_calls_of_unknown_price_are_counted_since_dollars_do_not_hold_them(
    opened: Opened, clock: list[datetime]
) -> None:
    ledger, limits = opened(), Budgets(unpriced_calls=2)
    asked = await routed(ledger)
    for _ in range(2):
        await ledger.settle(await ledger.reserve(asked, None, limits), Call(status="settled"))
    with pytest.raises(OverBudget, match="has 2 calls a day, and all are used"):
        await ledger.reserve(asked, None, limits)
    with pytest.raises(OverBudget, match="is not called while unpriced_calls is 0"):
        await ledger.reserve(asked, None, Budgets(unpriced_calls=0))
    await ledger.reserve(asked, 5, limits)
    clock[0] = NOON + timedelta(days=1)
    await ledger.reserve(asked, None, limits)


async def test_calls_of_unknown_price_that_were_turned_away_leave_the_days_count_as_it_was(opened: Opened) -> None:
    """A plan whose quota is used up for an hour must not use up the day's calls of it as well."""
    ledger, limits = opened(), Budgets(unpriced_calls=1)
    asked = await routed(ledger)
    for _ in range(3):
        turned_away = await ledger.reserve(asked, None, limits)
        await ledger.settle(turned_away, Call(status="failed", cost_nanousd=0, error="rate_limit 429"))
    failed = await ledger.reserve(asked, None, limits)
    await ledger.settle(failed, Call(status="failed", error="timeout"))
    with pytest.raises(OverBudget, match="has 1 call a day, and all are used"):
        await ledger.reserve(asked, None, limits)


# --- the schema ---


async def test_a_ledger_of_the_fourth_schema_gets_its_indexes_and_keeps_its_calls(tmp_path: Path) -> None:
    from sqlite_utils import Database

    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0005_loops_and_speed")
        old.execute("pragma user_version = 4")
        old.execute("insert into owners values ('o', '/nowhere', 1, '')")
        old.execute(
            "insert into tasks (task_id, project, budget_key, created_at, record) values ('t1', '/p', '/p', '', '{}')"
        )
        old.execute("insert into routes values ('r1', 't1', '', 'draft', 'cheap', 'small', '{}')")
        old.execute(
            "insert into calls (call_id, task_id, route_id, owner_id, at, stage, tier, requested_model, status,"
            " prompt_id, reserved_nanousd) values ('c', 't1', 'r1', 'o', '2026-10-05T01', 'draft', 'cheap', 'm',"
            " 'interrupted', 'p', 7)"
        )
    prepare(path)
    with closing(connect(path)) as conn:
        assert conn.execute("pragma user_version").fetchone()[0] == SCHEMA
        assert tuple(conn.execute("select call_id, request_digest from calls").fetchone()) == ("c", None)
        assert conn.execute("select nanousd from budget_spend where budget = 'day'").fetchone()[0] == 7
        plans = {
            "calls_task": "select sum(coalesce(cost_nanousd, reserved_nanousd)) from calls where task_id = 't1'",
            "calls_digest": "select at from calls where request_digest = 'x' and at > '2026' order by at desc limit 2",
            "calls_unpriced": "select count(*) from calls where reserved_nanousd is null and at >= '2026'",
            "decisions_at": "select at from decisions where kind = 'day_rate' and at >= '2026' order by at",
        }
        for index, query in plans.items():
            assert index in " ".join(row[3] for row in conn.execute(f"explain query plan {query}")), query
