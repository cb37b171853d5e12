"""Drafts made before the caller's model was named: their tokens are kept, and priced once it is."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import anyio
import pytest

from mcp_tierkit.calls import DraftCall, ReviewCall, TaskCall
from mcp_tierkit.cli import run
from mcp_tierkit.config import Config, load_config
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.levers import Measured, savings, with_net
from mcp_tierkit.ledger.money import weighed
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.prices import LongContext, Price, PriceTable
from mcp_tierkit.receipts import handover_cost, usd_short
from mcp_tierkit.server import schema_tokens
from mcp_tierkit.tokens import count
from mcp_tierkit.types import Completion
from tests.support import JOB, RIGHT, added, desk_at, make_env, make_project, said

CLEAN = (
    '{"findings": [], "checked": {"edge_case": "none: looked at empty lists", "assumption": "none: all are stated", '
    '"test": "none: both are tested", "drift": "none: only the sum", "security": "none: no input is run"}}'
)
NAMED = '[caller]\nmodel = "claude-opus-5-5"\n'


class Drafted:
    """A project in which one task was drafted while no model of the caller was named."""

    def __init__(self, home: Path) -> None:
        self.env = make_env(home / "home")
        self.settings = Path(self.env["TIERKIT_CONFIG"])
        self.with_model = self.settings.read_text()
        self.settings.write_text(self.with_model.replace(NAMED, ""))
        self.project = make_project(home / "app")
        self.url = self.env["TIERKIT_LEDGER"]

    async def draft(self, *replies: Completion) -> dict[str, object]:
        async with desk_at(self.config(), ScriptedGateway(replies)) as desk:
            self.reply = await desk.draft(DraftCall(**JOB))
        return self.reply

    async def review(self) -> dict[str, object]:
        reply = said(CLEAN).model_copy(update={"served_model": "tiny-strong"})
        async with desk_at(self.config(), ScriptedGateway([reply])) as desk:
            return await desk.review(ReviewCall(task_id=self.reply["task_id"]))

    def config(self) -> Config:
        return load_config(project=str(self.project), env=self.env)

    def ends(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """By hand, of what stands in the tree: tokens read and written alone, low and high."""
        patch = (self.project / str(self.reply["patch"])).read_text()
        changed, size = count(added(patch)).tokens, -(-len((self.project / "shop/cart.py").read_text()) // 4)
        with reading(self.url) as conn:
            [[record]] = conn.execute("select record from drafts").fetchall()
        printed = sum(-(-len(check["digest"]) // 4) for check in json.loads(record)["checks"])
        return (min(size, 2000 + changed), changed), (size + 2 * printed + changed, 2 * changed + 60)

    def passed(self) -> tuple[int, int]:
        with reading(self.url) as conn:
            return tuple(conn.execute("select caller_read, caller_wrote from task_sums").fetchone())


@pytest.fixture
def drafted(tmp_path: Path) -> Drafted:
    made = Drafted(tmp_path)
    told = anyio.run(made.draft, said(RIGHT))
    assert told["status"] == "applied"
    assert told["receipt"]["net"] is None  # type: ignore[index]
    return made


COST = 200_000
"""A call of 1,000 tokens in at 0.10 dollars a million and 200 out at 0.50."""


def test_a_report_prices_it_by_the_price_of_now_and_says_of_how_many_tasks(
    drafted: Drafted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(drafted.project)
    for name, value in drafted.env.items():
        monkeypatch.setenv(name, value)
    found = []
    for text in (drafted.settings.read_text(), drafted.with_model, NAMED + 'billing = "subscription"\n'):
        drafted.settings.write_text(text)
        assert run(["report", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["savings"])
    (low, high), (read, wrote) = drafted.ends(), drafted.passed()
    passed = read * 4000 + wrote * 20_000 + schema_tokens() * 200  # dollars a million: 4 in, 20 out, 0.20 cached
    net = [end[0] * 4000 + end[1] * 20_000 - passed - COST for end in (low, high)]
    tokens = [sum(end) - read - wrote - schema_tokens() for end in (low, high)]
    shown = [(one["net_nanousd"], one["net_tokens"], one["priced_now_tasks"], one["tasks"]) for one in found]
    assert shown == [(None, None, 0, 0), (net, None, 1, 1), (None, tokens, 1, 1)]
    assert [one["what"] for one in found[0]["unsaid"]] == ["no_baseline"]
    assert [(one["lever"], one["low"], one["high"]) for one in found[1]["levers"]] == [("cheap_drafts", *net)]
    assert found[1]["unsaid"] == []


def test_long_work_is_priced_as_long_and_the_handover_as_short(drafted: Drafted) -> None:
    low, high = drafted.ends()
    (read, wrote), between = drafted.passed(), (low[0] + high[0]) // 2
    long = LongContext(tokens=between, input=Decimal(9), output=Decimal("31.5"))
    price = Price(input=Decimal("1.25"), output=Decimal(7), cache_read=Decimal("0.125"), above=long, source="test")
    passed = Fraction(read) * 1250 + wrote * 7000 + schema_tokens() * 125
    ends = (low[0] * 1250 + low[1] * 7000, high[0] * 9000 + high[1] * 31_500)
    with reading(drafted.url) as conn:
        found = savings(conn, caller_price=price)
        seen = {task_id: Measured(usd=7, tokens=9) for task_id in with_net(conn, "")}
        measured = savings(conn, caller_price=price, measured=seen)
    assert found.net_nanousd == tuple(end - round(passed) - COST for end in ends)
    assert measured.net_nanousd == tuple(end - 7 - COST for end in ends)


def test_a_review_after_the_price_is_known_has_a_net_that_later_prices_leave_alone(drafted: Drafted) -> None:
    drafted.settings.write_text(drafted.with_model)
    told = anyio.run(drafted.review)["receipt"]
    (low, high), (read, wrote) = drafted.ends(), drafted.passed()
    price = PriceTable().price("claude-opus-5-5")
    assert price is not None
    passed = handover_cost(price, arguments=wrote, reply=read, schemas=schema_tokens())
    with reading(drafted.url) as conn:
        kept, spend = weighed(conn, str(drafted.reply["task_id"]))
        dearer = savings(conn, caller_price=price.model_copy(update={"input": Decimal(99)}))
    assert kept is not None
    assert (kept.alone_low, kept.alone_high) == tuple(end[0] * 4000 + end[1] * 20_000 for end in (low, high))
    assert kept.passed == passed
    net = kept.net(spend)
    assert net is not None
    assert told["net"] == [usd_short(end) for end in net]  # type: ignore[index]
    assert (dearer.net_nanousd, dearer.priced_now_tasks) == (net, 0)


@pytest.mark.parametrize("replies", [[said("I cannot say.")] * 2])
def test_a_draft_that_was_not_kept_is_a_loss_at_the_price_of_now(tmp_path: Path, replies: list[Completion]) -> None:
    made = Drafted(tmp_path)
    assert anyio.run(made.draft, *replies)["status"] == "rejected"
    price = PriceTable().price("claude-opus-5-5")
    read, wrote = made.passed()
    with reading(made.url) as conn:
        found = savings(conn, caller_price=price)
    lost = -(read * 4000 + wrote * 20_000 + schema_tokens() * 200 + 2 * COST)
    assert [(one.lever, one.low, one.high) for one in found.levers] == [("lost_drafts", lost, lost)]


async def _looked_at_and_drafted(made: Drafted, *replies: Completion) -> None:
    await made.draft(*replies)
    made.settings.write_text(made.with_model.replace(NAMED, ""))
    async with desk_at(made.config(), ScriptedGateway([])) as desk:
        await desk.get_task(TaskCall(task_id=str(made.reply["task_id"])))


def test_a_round_of_unknown_price_leaves_no_net_in_dollars_until_there_is_one(tmp_path: Path) -> None:
    """Unknown is no zero: the net named without that round would be too high by what it cost."""
    made = Drafted(tmp_path)
    made.settings.write_text(made.with_model)
    anyio.run(_looked_at_and_drafted, made, said(RIGHT))
    price = PriceTable().price("claude-opus-5-5")
    assert made.reply["receipt"]["net"] is not None
    with reading(made.url) as conn:
        kept, _ = weighed(conn, str(made.reply["task_id"]))
        unknown, known = savings(conn), savings(conn, caller_price=price)
    (low, high), (read, wrote) = made.ends(), made.passed()
    assert (kept, unknown.net_nanousd, [one.what for one in unknown.unsaid]) == (None, None, ["no_baseline"])
    passed = read * 4000 + wrote * 20_000 + schema_tokens() * 200
    assert known.net_nanousd == tuple(end[0] * 4000 + end[1] * 20_000 - passed - COST for end in (low, high))
    assert known.priced_now_tasks == 1
