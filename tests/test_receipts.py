"""What receipts claim, against figures worked out by hand."""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from mcp_tierkit.calls import DraftCall, ReviewCall
from mcp_tierkit.config import load_config
from mcp_tierkit.diffs import patch
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.levers import savings
from mcp_tierkit.ledger.money import weighed
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.ledger.scores import facts_of
from mcp_tierkit.prices import LongContext, Price, PriceTable
from mcp_tierkit.receipts import NOTHING_SAVED, CallerSide, alone, baseline, handover_cost, receipt, usd, usd_short
from mcp_tierkit.server import schema_tokens
from mcp_tierkit.stages.account import price_notices
from mcp_tierkit.stages.spared import joined
from mcp_tierkit.tiers import Tier
from mcp_tierkit.tokens import count
from mcp_tierkit.types import Completion, Spend
from tests.support import BUGGY, JOB, RIGHT, added, desk_at, make_config, make_env, make_project, run_git, said

OPUS = Price(input=Decimal(4), output=Decimal(20), cache_read=Decimal("0.20"), source="test")
CALLER = CallerSide(arguments=60, reply=190, schemas=1000)
SPENT = Spend(calls=1, cost_nanousd=400_000, input_tokens=3000, output_tokens=200)


def test_the_net_is_what_the_caller_would_spend_alone_less_everything_we_cost() -> None:
    own = alone(file_tokens=1000, context_tokens=500, changed_tokens=100, check_tokens=200)
    # Alone: low 1000*4 + 100*20 = 6000; high 2000*4 + 260*20 = 13200 millionths of a dollar.
    # Ours: 400 spent + 190*4 + 60*20 = 1960 passed through the caller + 1000*0.2 of schemas = 2560.
    told = receipt(SPENT, CALLER, own, OPUS, billing="api")
    assert told["estimated"] == {"alone_usd": ["0.0060", "0.0132"], "schema_usd": "0.0002"}
    assert told["net"] == ["0.0034", "0.0106"]


def test_a_task_that_proved_nothing_has_a_negative_net() -> None:
    assert receipt(SPENT, CALLER, NOTHING_SAVED, OPUS, billing="api")["net"] == ["-0.0026", "-0.0026"]


def test_an_unknown_cost_is_null_and_so_is_the_net() -> None:
    told = receipt(SPENT.model_copy(update={"unpriced_calls": 1}), CALLER, NOTHING_SAVED, OPUS, billing="api")
    assert (told["measured"]["usd"], told["measured"]["unpriced_calls"], told["net"]) == (None, 1, None)


def test_an_unknown_caller_gives_no_net() -> None:
    assert receipt(SPENT, CALLER, NOTHING_SAVED, None, billing="api")["net"] is None


def test_a_subscription_shows_tokens_and_no_dollars_of_the_caller() -> None:
    own = alone(file_tokens=1000, context_tokens=500, changed_tokens=100, check_tokens=200)
    told = receipt(SPENT, CALLER, own, OPUS, billing="subscription")
    assert told["estimated"] == {"alone_tokens": [1100, 2260]}
    assert told["net"] == [-150, 1010]


def test_dollars_are_exact_to_the_nanodollar() -> None:
    assert [usd(n) for n in (0, 1, 20_000, 1_000_000_000, None)] == ["0", "0.000000001", "0.00002", "1", None]


@pytest.mark.anyio
async def test_the_net_of_a_second_round_carries_what_the_first_put_through_the_caller(tmp_path: Path) -> None:
    """Our calls are summed over the task, so the caller's side is too: half of the hand-over is no net."""
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    async with desk_at(config, ScriptedGateway([said("I cannot say.")] * 2 + [said(RIGHT)])) as desk:
        first = await desk.draft(DraftCall(**JOB))
        second = await desk.draft(DraftCall(task_id=first["task_id"]))
    assert (first["status"], second["status"]) == ("rejected", "applied")
    before, after = (reply["receipt"]["measured"]["caller_tokens"] for reply in (first, second))
    [read, wrote] = [late - early for late, early in zip(after, before, strict=True)]
    shown = count(json.dumps(second, ensure_ascii=False, separators=(",", ":"))).tokens
    assert abs(read - shown) <= 4  # the figure is a part of the reply that it counts
    assert 0 < wrote < before[1]
    low = Fraction(second["receipt"]["estimated"]["alone_usd"][0])
    rates, spent = Fraction(after[0] * 4 + after[1] * 20, 10**6), Fraction(second["receipt"]["measured"]["usd"])
    assert Fraction(second["receipt"]["net"][0]) <= low - spent - rates + Fraction(1, 10**4)
    with reading(config.ledger_url) as conn:
        assert tuple(conn.execute("select caller_read, caller_wrote from task_sums").fetchone()) == tuple(after)


CLEAN = (
    '{"findings": [], "checked": {"edge_case": "none: looked at empty lists", "assumption": "none: all are stated", '
    '"test": "none: both are tested", "drift": "none: only the sum", "security": "none: no input is run"}}'
)


def reviewed(text: str, **more: str) -> Completion:
    return said(text).model_copy(update={"served_model": "tiny-strong", **more})


@pytest.mark.anyio
@pytest.mark.parametrize("billing", ["api", "subscription"])
async def test_a_review_is_taken_off_the_net_of_its_task_in_receipt_score_and_report(
    tmp_path: Path, billing: str
) -> None:
    """What it cost and what the caller read of it; nothing else of the estimate is lost, and no round is forgotten."""
    env = make_env(tmp_path / "home", TIERKIT_CALLER_BILLING=billing)
    config = load_config(project=str(make_project(tmp_path / "app")), env=env)
    async with desk_at(config, ScriptedGateway([said(RIGHT), reviewed(CLEAN)])) as desk:
        drafted = await desk.draft(DraftCall(**JOB))
        task_id, ledger = drafted["task_id"], desk.kit.ledger
        earlier, _ = await ledger.weighed(task_id)
        assert await ledger.claim(task_id)
        await ledger.finish(task_id, "interrupted", '{"error": {}}')  # a round that gave no receipt
        told = (await desk.review(ReviewCall(task_id=task_id)))["receipt"]
    with reading(config.ledger_url) as conn:
        kept, spend = weighed(conn, task_id)
        base, price = facts_of(conn, task_id).baseline, PriceTable().price("claude-opus-5-5")
        found = savings(conn, caller_price=price)
    assert earlier is not None
    assert kept is not None
    assert base is not None
    rounds = (drafted["receipt"]["measured"]["caller_tokens"], told["measured"]["caller_tokens"])
    [read, wrote] = [late - early for early, late in zip(*rounds, strict=True)]
    assert read > 100
    assert wrote > 5
    more = read * 4000 + wrote * 20_000 if billing == "api" else read + wrote
    assert kept == earlier.model_copy(update={"passed": earlier.passed + more})
    assert told["estimated"] == drafted["receipt"]["estimated"]
    ours = kept.passed + (spend.cost_nanousd if billing == "api" else 0)
    net = (kept.alone_low - ours, kept.alone_high - ours)
    assert base.ours == ours
    assert told["net"] == ([usd_short(end) for end in net] if billing == "api" else list(net))
    assert (found.net_nanousd if billing == "api" else found.net_tokens) == net
    assert "handovers" not in {lever.lever for lever in found.levers}


FOUND = (
    '{"findings": [{"file": "shop/cart.py", "line": 6, "klass": "test", "severity": "major", "claim": "No test.",'
    ' "evidence": "total()"}], "checked": {}}'
)


@pytest.mark.anyio
async def test_a_second_draft_that_failed_takes_nothing_away_from_what_the_first_spared(tmp_path: Path) -> None:
    """The change of the first stands, and the scorecard and the report count it as handed over."""
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    script = [said(RIGHT), reviewed(FOUND), *[said("I cannot say.")] * 3]
    async with desk_at(config, ScriptedGateway(script)) as desk:
        first = await desk.draft(DraftCall(**JOB))
        review = await desk.review(ReviewCall(task_id=first["task_id"]))
        second = await desk.draft(DraftCall(task_id=first["task_id"]))
    assert (first["status"], review["verdict"], second["status"]) == ("applied", "findings", "rejected")
    one, two = first["receipt"], second["receipt"]
    assert two["estimated"] == one["estimated"]
    assert [Fraction(end) < Fraction(before) for end, before in zip(two["net"], one["net"], strict=True)] == [True] * 2
    with reading(config.ledger_url) as conn:
        kept, _ = weighed(conn, first["task_id"])
        assert {lever.lever for lever in savings(conn).levers} == {"cheap_drafts", "reviews"}
    assert kept is not None
    assert kept.is_spared


FIRST = RIGHT.replace(
    "```\n<<<<<<<",
    """```
<<<<<<< SEARCH
def count(prices: list[int]) -> int:
=======
def count(prices: list[int]) -> int:
    \'\'\'How many prices there are, those of equal goods included.\'\'\'
>>>>>>> REPLACE
<<<<<<<""",
)
AGAIN = """shop/cart.py
```
<<<<<<< SEARCH
    return sum(prices) * (100 - discount) // 100
=======
    if not 0 <= discount <= 100:
        raise ValueError("a discount is a percentage")
    return sum(prices) * (100 - discount) // 100 if prices else 0
>>>>>>> REPLACE
<<<<<<< SEARCH
    return len(prices)
=======
    return len(tuple(prices))
>>>>>>> REPLACE
```
"""


def added_in_tree(project: Path) -> str:
    """The new lines of the working tree, as git counts them since the only commit."""
    shown = run_git(project, "diff", "--unified=0", "HEAD", "--", "shop").splitlines()
    return "".join(f"{line[1:]}\n" for line in shown if line.startswith("+") and not line.startswith("+++"))


@pytest.mark.anyio
@pytest.mark.parametrize("is_undone", [False, True])
async def test_two_applied_drafts_spared_what_both_brought_in_and_no_line_twice(
    tmp_path: Path, is_undone: bool
) -> None:
    """By git: what differs in the end. The line that the second wrote anew is no work of its own for a caller alone."""
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    last = RIGHT if is_undone else AGAIN
    async with desk_at(config, ScriptedGateway([said(FIRST), reviewed(FOUND), said(last)])) as desk:
        first = await desk.draft(DraftCall(**JOB))
        alone_first = added_in_tree(config.project)
        await desk.review(ReviewCall(task_id=first["task_id"]))
        if is_undone:
            await desk.undo(first["task_id"])
        second = await desk.draft(DraftCall(task_id=first["task_id"]))
        own = await desk.kit.ledger.weighed(first["task_id"])
        drafts = await desk.kit.ledger.drafts(first["task_id"])
    assert (first["status"], second["status"]) == ("applied", "applied")
    changed = count(added_in_tree(config.project)).tokens
    printed = {result.name: -(-len(result.digest) // 4) for draft in reversed(drafts) for result in draft.checks}
    assert (changed < count(alone_first).tokens) == is_undone
    [weighed_now, _] = own
    assert weighed_now is not None
    size = -(-len(final_text(config.project)) // 4)
    assert weighed_now.alone_low == min(size, 2000 + changed) * 4000 + changed * 20_000
    read = size + 2 * sum(printed.values()) + changed
    assert weighed_now.alone_high == read * 4000 + (2 * changed + 60) * 20_000


def final_text(project: Path) -> str:
    return (project / "shop" / "cart.py").read_text()


@pytest.mark.parametrize(
    ("texts", "typed"),
    [
        (("a\nb\n", "a\nB\n", "a\nBB\n"), "BB\n"),  # written again: typed once
        (("a\nb\n", "a\nB\n", "a\nb\n"), ""),  # put back
        (("a\n", "a\nx\nx\n", "a\nx\n"), "x\n"),  # one of two equal lines went
        (("a\n", None, "a\n"), ""),  # deleted, then there again
        ((None, "n\n", None), ""),
        (("-- a\nx\n", "++ b\n@@ c\nx\n"), "++ b\n@@ c\n"),  # looks like the marks of a patch
        (("a\nm\n", "m\na\n"), "m\n"),  # moved within one change: typed there
    ],
)
def test_patches_one_after_the_other_come_to_what_differs_in_the_end(texts: tuple[str | None, ...], typed: str) -> None:
    steps = [patch({"f": old}, {"f": new}) for old, new in pairwise(texts)]
    assert joined(steps) == typed
    elsewhere = patch({"g": "BB\nx\n"}, {"g": "z\n"})  # equal lines of another file are others
    assert joined([*steps, elsewhere]) == f"{typed}z\n"


@pytest.mark.anyio
async def test_a_review_that_was_cut_off_is_wholly_a_review_and_makes_no_draft_a_dear_one(tmp_path: Path) -> None:
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    cut = [reviewed(CLEAN[:40], finish="length"), reviewed(CLEAN[40:])]
    async with desk_at(config, ScriptedGateway([said(RIGHT), *cut])) as desk:
        drafted = await desk.draft(DraftCall(**JOB))
        assert (await desk.review(ReviewCall(task_id=drafted["task_id"])))["verdict"] == "clean"
    with reading(config.ledger_url) as conn:
        levers = {lever.lever: lever for lever in savings(conn).levers}
        paid = conn.execute("select sum(cost_nanousd) from calls where tier = 'strong'").fetchone()[0]
    assert (levers["reviews"].low, levers["reviews"].tasks) == (-paid, 1)
    assert not {"dearer_drafts", "other_calls"} & levers.keys()


@pytest.mark.anyio
async def test_what_is_summed_and_graded_is_exact_where_the_reply_is_rounded(tmp_path: Path) -> None:
    """With a caller this cheap, four places of a dollar are five times what the draft costs."""
    env = make_env(tmp_path / "home", TIERKIT_CALLER_MODEL="openai/gpt-5-nano")
    config = load_config(project=str(make_project(tmp_path / "app")), env=env)
    async with desk_at(config, ScriptedGateway([said(RIGHT)])) as desk:
        reply = await desk.draft(DraftCall(**JOB))
    told, price = reply["receipt"], PriceTable().price("openai/gpt-5-nano")
    assert price is not None
    read, wrote = told["measured"]["caller_tokens"]
    passed = handover_cost(price, arguments=wrote, reply=read, schemas=schema_tokens())
    with reading(config.ledger_url) as conn:
        base, [cost] = facts_of(conn, reply["task_id"]).baseline, conn.execute("select cost_nanousd from calls")
    assert base is not None
    assert base.ours == passed + cost["cost_nanousd"]
    assert told["estimated"]["alone_usd"] == [usd_short(base.alone_low), usd_short(base.alone_high)]
    assert told["net"] == [usd_short(base.alone_low - base.ours), usd_short(base.alone_high - base.ours)]
    assert base.alone_low % 100_000
    changed = count(added((config.project / reply["patch"]).read_text())).tokens
    read_alone = min(count(BUGGY).tokens, 2000 + changed)
    assert base.alone_low == read_alone * 50 + changed * 400


WITHDRAWN = "anthropic/claude-sonnet-4-5"
"""A model of the price table that its provider withdraws on 2026-11-30."""


def test_only_prices_that_warn_are_named_and_in_a_few_words() -> None:
    day = date(2026, 11, 22)
    rows = {
        "cheap": OPUS.model_copy(update={"as_of": day}), "mid": OPUS.model_copy(update={"as_of": date(2026, 8, 1)}),
        "strong": OPUS.model_copy(update={"as_of": date(2026, 8, 1), "deprecated_on": date(2026, 12, 1)}),
    }  # fmt: skip
    tier = {"model": "m", "requested_model": "m", "max_output_tokens": 1, "timeout_s": 1, "scratchpad": False}
    tiers = [Tier(name=name, price=price, source="config", **tier) for name, price in rows.items()]  # type: ignore[arg-type]
    told = price_notices(tiers, day)
    assert told == ["mid stale", "strong deprecated"]
    assert count(f',"prices":"{told[0]}"').tokens <= 12
    assert price_notices([tiers[2].model_copy(update={"billing": "subscription"})], day) == []


@pytest.mark.anyio
async def test_a_deprecated_price_is_told_in_the_first_receipt_of_a_task_and_no_other(tmp_path: Path) -> None:
    home, withdrawn = tmp_path / "home", PriceTable().price(WITHDRAWN)
    assert withdrawn is not None
    assert withdrawn.deprecated_on is not None
    env, settings = make_env(home, ANTHROPIC_API_KEY="k"), home / "tierkit.toml"
    cheap = re.compile(r'models = \["openai/tiny-cheap"\]\nbase_url.*\nprice.*')
    settings.write_text(cheap.sub(f'models = ["{WITHDRAWN}"]', settings.read_text()))
    config = load_config(project=str(make_project(tmp_path / "app")), env=env)
    answer = said(RIGHT).model_copy(update={"served_model": WITHDRAWN.split("/")[-1]})
    async with desk_at(config, ScriptedGateway([answer, reviewed(CLEAN)])) as desk:
        drafted = await desk.draft(DraftCall(**JOB))
        review = await desk.review(ReviewCall(task_id=drafted["task_id"]))
    assert drafted["receipt"]["prices"] == "cheap deprecated"
    assert "prices" not in review["receipt"]


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [(0, "0.0000"), (-1, "-0.000000001"), (-20_000, "-0.00002"), (49_999, "0.00005"), (-50_001, "-0.0001"),
     (123_456_789, "0.1235"), (-96_000, "-0.0001")],
)  # fmt: skip
def test_a_loss_too_small_for_four_places_is_neither_hidden_nor_a_zero_with_a_sign(nanousd: int, shown: str) -> None:
    assert usd_short(nanousd) == shown


def test_the_work_alone_is_priced_as_any_call_is_also_where_it_is_long() -> None:
    """By hand: above 100,000 tokens this model takes 0.5 and 2.5 dollars a million, up to there 0.1 and 0.5."""
    haiku = PriceTable().price("claude-haiku-5-5")
    assert haiku is not None
    own = alone(file_tokens=300_000, context_tokens=0, changed_tokens=6000, files=20, check_tokens=0)
    assert baseline(own, haiku) == (46_000 * 100 + 6000 * 500, 306_000 * 500 + 12_060 * 2500)


def test_schemas_of_a_caller_without_a_cache_price_are_fresh_input_whatever_its_length() -> None:
    bare = OPUS.model_copy(update={"cache_read": None})
    long = LongContext(tokens=1000, input=Decimal(8), output=Decimal(40))
    assert handover_cost(bare, arguments=1, reply=2, schemas=300) == 20_000 + 302 * 4000
    longer = bare.model_copy(update={"above": long})
    assert handover_cost(longer, arguments=1, reply=2, schemas=3000) == 40_000 + 3002 * 8000
