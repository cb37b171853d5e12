"""How a tier's calls are paid for: by the token, by the hour of one's own machine, or within a subscription."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from mcp_tierkit.calls import DraftCall, TaskCall
from mcp_tierkit.checkup.model import Standing, look_at_tiers
from mcp_tierkit.cli.report import report
from mcp_tierkit.config import Config, load_config
from mcp_tierkit.demo_upstream import Reply, Upstream
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.migrations import migrations
from mcp_tierkit.ledger.opening import prepare
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.receipts import usd
from mcp_tierkit.tiers import survey
from mcp_tierkit.tokens import count
from tests.reports import add_call, open_task
from tests.support import JOB, RIGHT, client_at, desk_at, make_env, make_project, said

pytestmark = pytest.mark.anyio
TIER = '[caller]\nmodel = "claude-opus-5-5"\n[tiers.cheap]\nmodels = ["openai/house-model"]\nbase_url = "{url}"\n'
HOUR = 'hour_usd = "0.36"\n'
"""A hundred nanodollars a millisecond."""
SUBSCRIBED = 'billing = "subscription"\n'


class Home:
    """A user with one written tier, and a project of their own."""

    def __init__(self, root: Path) -> None:
        self.project, self.root = make_project(root / "app"), root / "home"

    def config(self, tier: str, url: str = "http://127.0.0.1:9") -> Config:
        self.env = make_env(self.root)
        (self.root / "tierkit.toml").write_text(TIER.format(url=url) + tier)
        return load_config(project=str(self.project), env=self.env)

    def rows(self) -> list[dict[str, Any]]:
        with reading(self.env["TIERKIT_LEDGER"]) as conn:
            return [dict(row) for row in conn.execute("select * from calls order by at, call_id")]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def drafted(config: Config, *, stated: int | None = None, **job: Any) -> dict[str, Any]:
    told = {"served_model": "house-model", "reported_cost_nanousd": stated}
    gateway = ScriptedGateway([said(RIGHT).model_copy(update=told)])
    return await asked(config, "draft_with_cheap_model", gateway, **job)


async def asked(config: Config, tool: str, gateway: ScriptedGateway | None = None, **job: Any) -> dict[str, Any]:
    async with client_at(config, gateway) as client:
        reply: dict[str, Any] = (await client.call_tool(tool, JOB | job)).structured_content
    return reply


async def planned(home: Home, config: Config) -> dict[str, Any]:
    """The estimate of work that is large enough to hand over."""
    (home.project / "shop/long.py").write_text("".join(f"value_{n} = compute({n})\n" for n in range(2000)))
    plan = await asked(config, "plan_task", task="Give every value a type.", files=["shop/long.py"], tier="cheap")
    estimate: dict[str, Any] = plan["estimate"]
    return estimate


# --- on the ledger --------------------------------------------------------------------------------


async def test_each_call_keeps_how_it_was_paid_for_whatever_the_settings_say_later(home: Home) -> None:
    """A report of last month must not turn quota or machine time into dollars since a tier was changed today."""
    for tier in ('price = { input = "0.1", output = "0.5" }\n', SUBSCRIBED, HOUR, ""):
        await drafted(home.config(tier + "[budget]\nbreaker = false\n"), apply="never")
    paid = [(row["billing"], row["cost_nanousd"] is None, row["reserved_nanousd"]) for row in home.rows()]
    assert [how for how, *_ in paid] == ["api", "subscription", "local", "local"]
    assert [is_unknown for _, is_unknown, _ in paid] == [False, True, False, False]
    assert paid[2][2] == 120_000 * 100
    assert paid[3][2] == 0
    sums = "select billing, calls, unpriced_calls, input_tokens from call_sums where calls > 0 order by billing"
    with reading(home.env["TIERKIT_LEDGER"]) as conn:
        kept = [tuple(row) for row in conn.execute(sums)]
        assert [row[0] for row in conn.execute("select billing from call_log order by at, call_id")] == [
            how for how, *_ in paid
        ]
    assert kept == [("api", 1, 0, 1000), ("local", 2, 0, 2000), ("subscription", 1, 1, 1000)]


async def test_a_receipt_says_how_its_calls_were_paid_for_when_they_were_made(home: Home) -> None:
    """Not how the tier is paid for now: the first draft used the plan's quota, whatever the second one did."""
    first = await asked(home.config(SUBSCRIBED), "draft_with_cheap_model", ScriptedGateway([said("No.")] * 9))
    again = {"task_id": first["task_id"]}
    config = home.config(HOUR + "[budget]\nbreaker = false\n")
    async with client_at(config, ScriptedGateway([said(RIGHT)])) as client:
        told = (await client.call_tool("draft_with_cheap_model", again)).structured_content["receipt"]["measured"]
    assert {row["billing"] for row in home.rows()} == {"subscription", "local"}
    spent = [row["cost_nanousd"] for row in home.rows()]
    assert (told["billing"], told["quota_calls"]) == ("local, subscription", spent.count(None))
    assert told["usd"] == usd(sum(filter(None, spent)))
    assert "unpriced_calls" not in told


def test_a_ledger_of_schema_six_keeps_its_sums_and_does_not_guess_how_its_calls_were_paid_for(tmp_path: Path) -> None:
    from sqlite_utils import Database

    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrations().apply(Database(old, execute_plugins=False), stop_before="m0007_billing")
        old.execute("pragma user_version = 6")
        old.execute("insert into owners values ('o', 'lock', 1, 'then')")
        open_task(old, "t1")
        calls = [add_call(old, "t1", status="reserved", reserved_nanousd=9), add_call(old, "t1", cost_nanousd=4)]
    prepare(path)
    kept = "select billing, calls, in_flight_calls, cost_nanousd, output_tokens from call_sums where calls order by 1"
    with closing(sqlite3.connect(path, isolation_level=None)) as new:
        assert new.execute(kept).fetchall() == [("", 2, 1, 4, 0)]
        new.execute(
            "update calls set status = 'settled', cost_nanousd = 5, output_tokens = 7 where call_id = ?", calls[:1]
        )
        add_call(new, "t1", cost_nanousd=8, billing="api", output_tokens=3)
        assert new.execute(kept).fetchall() == [("", 2, 0, 9, 7), ("api", 1, 0, 8, 3)]
        new.execute("delete from calls")
        assert new.execute(kept).fetchall() == []
        assert new.execute("select sum(calls), sum(cost_nanousd), sum(output_tokens) from call_sums").fetchall() == [
            (0, 0, 0)
        ]
        assert new.execute("select calls, cost_nanousd from task_sums").fetchall() == [(0, 0)]
    assert len(list(tmp_path.glob("ledger.db.schema6.*.backup"))) == 1


# --- by the hour ----------------------------------------------------------------------------------


async def test_a_call_of_a_machine_paid_by_the_hour_costs_the_time_it_took(home: Home) -> None:
    with Upstream([Reply(text=RIGHT, wait_s=0.3, cost_usd="5")]) as upstream:
        reply = await asked(home.config(HOUR, upstream.base_url), "draft_with_cheap_model")
    [row] = home.rows()
    assert row["duration_ms"] >= 300
    assert row["cost_nanousd"] == row["duration_ms"] * 100
    assert row["reserved_nanousd"] == 120_000 * 100
    measured = reply["receipt"]["measured"]
    assert (measured["billing"], float(measured["usd"])) == ("local", row["cost_nanousd"] / 1e9)
    assert reply["receipt"]["net"] is not None


@pytest.mark.parametrize(("call_usd", "status"), [("0.012", "applied"), ("0.011999999", "over_budget")])
async def test_a_budget_holds_the_longest_that_a_call_may_take(home: Home, call_usd: str, status: str) -> None:
    reply = await drafted(home.config(HOUR + f'[budget]\ncall_usd = "{call_usd}"\n'))
    assert reply["status"] == status
    assert len(home.rows()) == (status == "applied")


@pytest.mark.usefixtures("called_before")
async def test_time_is_paid_for_where_the_answer_never_came(home: Home) -> None:
    """And never for more than was reserved: what a call takes past its limit was spent on this side."""
    with Upstream([Reply(text=RIGHT, hold="for ever")]) as upstream:
        reply = await asked(home.config(HOUR + "timeout_s = 1\n", upstream.base_url), "draft_with_cheap_model")
    [row] = home.rows()
    assert (row["status"], row["error"], row["cost_nanousd"]) == ("failed", "timeout", 1000 * 100)
    assert row["reserved_nanousd"] == row["cost_nanousd"]
    assert reply["receipt"]["measured"]["usd"] == "0.0001"


async def test_a_plan_says_what_the_hour_can_cost_and_not_that_tokens_are_free(home: Home) -> None:
    estimate = await planned(home, home.config(HOUR))
    assert (estimate["draft_usd_at_most"], estimate["billing"]) == ("0.012", "local")


# --- free of charge -------------------------------------------------------------------------------


async def test_a_machine_without_an_hourly_price_is_free_and_said_to_be_unpriced(home: Home) -> None:
    config = home.config("")
    reply = await drafted(config)
    [row] = home.rows()
    assert (row["cost_nanousd"], row["reserved_nanousd"], row["routed_price"]) == (0, 0, "0/0")
    assert reply["receipt"]["measured"]["usd"] == "0"
    assert reply["receipt"]["measured"]["billing"] == "local (machine time not priced)"
    assert count(json.dumps(reply, separators=(",", ":"))).tokens <= 200
    assert "free of charge, machine time not priced" in await told_by_doctor(config)


async def told_by_doctor(config: Config) -> str:
    found = await look_at_tiers(Standing(config, (), survey(config)), datetime.now(UTC).date())
    assert all(symptom.name != "price_unknown" for symptom in found)
    return next(symptom.what for symptom in found if symptom.what.startswith("cheap"))


# --- within a subscription ------------------------------------------------------------------------


async def test_a_subscription_shows_tokens_and_no_dollars(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those that the endpoint states: they are on nobody's bill."""
    config = home.config(SUBSCRIBED)
    estimate = await planned(home, config)
    assert estimate["input_tokens"] > 0
    assert (estimate["draft_usd_at_most"], estimate["billing"]) == (None, "subscription")
    reply = await drafted(config, stated=7_000)
    [row] = home.rows()
    assert [row[name] for name in row if name.endswith(("_nanousd", "_price"))] == [None] * 6
    assert (row["input_tokens"], row["output_tokens"]) == (1000, 200)
    told = reply["receipt"]
    assert told["measured"]["usd"] is told["net"] is None
    assert "unpriced_calls" not in told["measured"]
    assert (told["measured"]["tokens"], told["measured"]["billing"]) == ([1000, 200], "subscription")
    assert count(json.dumps(reply, separators=(",", ":"))).tokens <= 200
    assert reply["attempts"] == ["cheap house-model: green within a quota"]
    assert "within a subscription, counted in tokens" in await told_by_doctor(config)
    for name, value in home.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home.project)
    shown = CliRunner().invoke(report, []).output
    assert "How the cheap tier is paid for: within a subscription, counted in tokens." in " ".join(shown.split())


async def test_a_cancelled_call_of_a_subscription_is_of_no_unknown_cost(home: Home) -> None:
    gateway = ScriptedGateway([said(RIGHT)], gate=anyio.sleep_forever)
    async with desk_at(home.config(SUBSCRIBED), gateway) as desk:
        running = await desk.draft(DraftCall(**JOB, wait_s=0))
        await gateway.begun()
        ended = await desk.get_task(TaskCall(task_id=running["task_id"], cancel=True, wait_s=30))
    assert ended["summary"] == "Cancelled. 1 call counted against a quota."


async def test_calls_of_a_subscription_are_counted_since_dollars_do_not_hold_them(home: Home) -> None:
    """They need no leave to be unpriced, and a budget in dollars of nothing does not stop them."""
    config = home.config(SUBSCRIBED + '[budget]\nunpriced_calls = 1\nday_usd = "0"\n')
    assert (await drafted(config, apply="never"))["status"] == "ready"
    refused = await drafted(config)
    assert refused["status"] == "over_budget"
    assert "within a subscription, has 1 call a day, and all are used" in refused["summary"]
    assert len(home.rows()) == 1


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "billing"),
    [
        ("", "local"),
        (HOUR, "local"),
        ('price = { input = "1", output = "2" }\n', "api"),
        ('billing = "local"\napi_key_env = "HOUSE_KEY"\n', "local"),
        (SUBSCRIBED, "subscription"),
    ],
)
def test_how_a_tier_is_billed_where_the_user_says_it_and_where_not(home: Home, tier: str, billing: str) -> None:
    home.config(tier)
    config = load_config(project=str(home.project), env=home.env | {"HOUSE_KEY": "k"})
    assert survey(config).tiers["cheap"].billing == billing


def test_the_listed_price_of_a_models_tokens_is_none_within_a_subscription(home: Home) -> None:
    home.config("")
    listed = '[tiers.cheap]\nmodels = ["openai/gpt-5.4-nano"]\n'
    for more, is_priced in (("", True), (SUBSCRIBED, False)):
        (home.root / "tierkit.toml").write_text(listed + more)
        config = load_config(project=str(home.project), env=home.env | {"OPENAI_API_KEY": "k"})
        assert (survey(config).tiers["cheap"].price is not None) is is_priced


@pytest.mark.parametrize(
    ("tier", "said_of_it"),
    [
        (HOUR + SUBSCRIBED, 'billing = "local"'),
        (HOUR + 'price = { input = "1", output = "2" }\n', "price is per token"),
        (SUBSCRIBED + 'price = { input = "1", output = "2" }\n', "price is per token"),
    ],
)
def test_two_ways_to_pay_for_one_tier_are_refused(home: Home, tier: str, said_of_it: str) -> None:
    with pytest.raises(InvalidInput, match=said_of_it):
        home.config(tier)


def test_a_bill_is_not_wished_away(home: Home) -> None:
    """A provider's model is not local, nor is one that an engine passes on; and `api` on this machine has a price."""
    for tier, text in {
        'models = ["deepseek/deepseek-chat"]\n' + HOUR + 'api_key_env = "K"\n': "does not run on a machine of yours",
        'models = ["openai/big:cloud"]\nbase_url = "http://127.0.0.1:9"\n' + HOUR: "does not run on a machine of yours",
        'models = ["openai/own"]\nbase_url = "http://127.0.0.1:9"\nbilling = "api"\n': "price is unknown",
    }.items():
        home.config("")
        (home.root / "tierkit.toml").write_text("[tiers.cheap]\n" + tier)
        config = load_config(project=str(home.project), env=home.env | {"K": "k"})
        assert text in survey(config).missing["cheap"]


@pytest.mark.parametrize("line", ['billing = "local"', 'hour_usd = "0"'])
def test_a_projects_own_file_says_nothing_of_how_a_tier_is_paid_for(home: Home, line: str) -> None:
    (home.project / "tierkit.toml").write_text(f'[tiers.cheap]\nmodels = ["openai/house-model"]\n{line}\n')
    with pytest.raises(InvalidInput, match="may only narrow"):
        home.config("")
