"""The check-up: each fault is made for real in a home of its own, and what is well is not complained of."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.checkup import Symptom, examine
from mcp_tierkit.cli import run
from mcp_tierkit.demo_upstream import Reply, Upstream
from mcp_tierkit.journal import trial
from mcp_tierkit.ledger.report import newest_row, reading, recent_tasks
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.places import find_places
from mcp_tierkit.playbook.load import builtin_root
from mcp_tierkit.prices import PriceTable, withdrawal
from mcp_tierkit.providers import Endpoint
from mcp_tierkit.server import schema_tokens
from mcp_tierkit.types import Budgets, Changes, Content, Request, Route, Task
from mcp_tierkit.workspace import Workspace

pytestmark = pytest.mark.anyio

OPENROUTER = "sk-or-v1-" + "a1b2c3d4" * 8
ANTHROPIC = "sk-ant-api03-" + "A1b2C3d4" * 12
CALLER = '[caller]\nmodel = "claude-opus-5-5"\n'
TWO_TIERS = """
[tiers.cheap]
models = ["openai/tiny"]
base_url = "{url}"
price = {{ input = "0.1", output = "0.5" }}
[tiers.strong]
models = ["openai/big"]
base_url = "{url}"
price = {{ input = "4", output = "20" }}
"""


class Home:
    """One user: a home, settings, a project, and an environment that knows of nothing else."""

    def __init__(self, root: Path) -> None:
        self.path = root / "home"
        self.project = root / "shop"
        for folder in (self.path, self.project):
            folder.mkdir()
        self.config = self.path / ".config/tierkit"
        self.state = self.path / ".local/state/tierkit"
        self.ledger = self.state / "ledger.db"
        self.env = {"HOME": str(self.path), "PATH": os.environ["PATH"]}

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        file = self.config / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def settings(self, toml: str) -> None:
        self.write("tierkit.toml", toml)

    async def look(self, **given: Any) -> tuple[Symptom, ...]:
        given = {"project": str(self.project), "env": self.env, "endpoints": ()} | given
        return await examine(**given)

    async def faults(self, **given: Any) -> dict[str, Symptom]:
        """What is not fine, by name. Of two with one name the last."""
        return {symptom.name: symptom for symptom in await self.look(**given) if symptom.level != "fine"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def port() -> Iterator[int]:
    """A port of this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def set_up(home: Home, url: str) -> None:
    home.settings(CALLER + TWO_TIERS.format(url=url))


async def test_a_file_that_taking_a_draft_back_passed_over_is_named_with_what_it_held(home: Home) -> None:
    workspace, state = Workspace(home.project), find_places(home.env).state_dir
    (home.project / "a.py").write_text("a = 1\n")
    drafted: Changes = {"a.py": Content(data=b"a = 2\n")}
    with trial(workspace, state, "t1", drafted, {"a.py": workspace.digest("a.py")}):
        (home.project / "a.py").write_text("a = 'mine'\n")
    told = (await home.faults())["left_alone"]
    assert told.what.startswith("a.py was saved by somebody")
    kept = re.search(r"in (\S+): compare", told.fix)
    assert kept is not None
    assert Path(kept[1]).read_text() == "a = 1\n"


# --- nothing wrong


async def test_a_whole_set_up_has_no_fault(home: Home, port: int) -> None:
    set_up(home, f"http://127.0.0.1:{port}/v1")
    assert set(await home.faults()) == {"client_missing"}


async def test_a_look_leaves_every_file_as_it_was(home: Home, port: int) -> None:
    set_up(home, f"http://127.0.0.1:{port}/v1")
    home.write("keys.env", f"OPENROUTER_API_KEY={OPENROUTER}\n")
    (home.project / ".mcp.json").write_text('{"mcpServers": {}}')
    before = {path: path.read_bytes() for path in home.path.parent.rglob("*") if path.is_file()}
    await home.look()
    assert {path: path.read_bytes() for path in home.path.parent.rglob("*") if path.is_file()} == before


# --- settings and project


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("", "budgets: $0.50 a task (ours, until you set it), $2.00 a day (ours, until you set it)"),
        (
            '[budget]\nmonth_usd = "30"\ntask_usd = "0.5"\n',
            "budgets: $0.50 a task, $2.00 a day (ours, until you set it), $30.00 a month",
        ),
        ('[budget]\ntask_usd = "none"\nday_usd = "none"\ncall_usd = "0.1"\n', "budgets: $0.10 a call, none on a day"),
        ('[budget]\ntask_usd = "none"\nday_usd = "none"\n', "budgets: none on a day"),
    ],
)
async def test_the_limits_that_hold_are_named(home: Home, toml: str, said: str) -> None:
    home.settings(toml)
    told = {symptom.name: symptom for symptom in await home.look()}
    assert told["settings"].what.endswith(said)


async def test_refused_settings_are_a_fault_and_the_rest_is_looked_at_all_the_same(home: Home) -> None:
    home.settings("[budgets]\nday_usd = '1'\n")
    told = {symptom.name: symptom for symptom in await home.look()}
    assert told["settings_refused"].level == "problem"
    assert "budgets" in told["settings_refused"].what
    assert "Did you mean budget?" in told["settings_refused"].fix
    assert {"packages", "ledger", "sandbox", "schemas"} <= set(told)


async def test_a_fault_of_the_projects_own_settings_does_not_point_at_the_users_file(home: Home) -> None:
    (home.project / "tierkit.toml").write_text('[budget]\non_exhausted = "ask"\n')
    told = {symptom.name: symptom for symptom in await home.look()}
    assert "the project's tierkit.toml" in told["settings_refused"].what
    assert "File:" not in told["settings_refused"].fix


async def test_a_home_folder_as_the_project_is_a_fault(home: Home) -> None:
    faults = await home.faults(project=str(home.path))
    assert "home folder" in faults["project_refused"].what


@pytest.mark.parametrize(
    ("toml", "name"),
    [
        ('[stages]\nplan = "strong"', "stages.plan"),
    ],
)
async def test_a_setting_that_does_nothing_yet_is_named(home: Home, toml: str, name: str) -> None:
    assert "setting_idle" not in await home.faults()
    home.settings(toml)
    assert (await home.faults())["setting_idle"].what.startswith(f"{name} ")


async def test_a_variable_that_sets_nothing_is_named(home: Home) -> None:
    home.env["TIERKIT_BUDGET_DAY"] = "1"
    assert "TIERKIT_BUDGET_DAY_USD" in (await home.faults())["note"].what


# --- keys


async def test_without_a_key_and_an_engine_it_says_what_to_set_and_where(home: Home) -> None:
    fault = (await home.faults())["no_key"]
    assert fault.level == "problem"
    assert "OPENROUTER_API_KEY" in fault.fix
    assert str(home.config / "keys.env") in fault.fix
    assert "tierkit doctor" not in fault.fix  # It is what is being read.
    assert [line[:1] for line in fault.fix.splitlines()] == ["A", "-", "-", "-"]


async def test_a_key_under_nearly_the_right_name_is_seen(home: Home) -> None:
    home.env["OPEN_ROUTER_API_KEY"] = OPENROUTER
    assert "rename it to OPENROUTER_API_KEY" in (await home.faults())["no_key"].fix


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (f'"{OPENROUTER}"', "quotes"),
        (f"'{OPENROUTER}", "quotes"),
        (OPENROUTER.replace("a1b2", "a1 2", 1), "space"),
        (OPENROUTER + "é", "character"),
        ("your-api-key-here", "placeholder"),
        ("sk-or-xxxxxxxxxxxx", "placeholder"),
        ("sk-or-v1-short", "too short"),
        (ANTHROPIC, "a key of Anthropic"),
    ],
)
async def test_a_malformed_key_is_told_and_not_shown(home: Home, value: str, why: str) -> None:
    home.env["OPENROUTER_API_KEY"] = value
    told = await home.look()
    fault = next(symptom for symptom in told if symptom.name == "key_malformed")
    assert why in fault.what
    assert value not in " ".join(f"{symptom.what} {symptom.fix}" for symptom in told)


async def test_a_good_key_is_no_fault_and_supplies_the_tiers(home: Home) -> None:
    home.env["OPENROUTER_API_KEY"] = OPENROUTER
    told = await home.look()
    assert [symptom.what.split(":")[0] for symptom in told if symptom.name == "tier"] == ["cheap", "mid", "strong"]
    assert not {"no_key", "key_malformed", "tier_unusable"} & {symptom.name for symptom in told}


async def test_any_key_will_do_for_an_address_of_the_users_own(home: Home, port: int) -> None:
    set_up(home, f"http://127.0.0.1:{port}/v1")
    home.settings(f'[tiers.cheap]\nmodels = ["openai/x"]\nbase_url = "http://127.0.0.1:{port}"\napi_key_env = "MINE"\n')
    home.write("keys.env", "MINE=none\n")
    assert "key_malformed" not in await home.faults()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
async def test_a_key_file_that_others_may_read_is_told_with_its_mode(home: Home, mode: int) -> None:
    file = home.write("keys.env", f"OPENROUTER_API_KEY={OPENROUTER}\n", mode=mode)
    fault = (await home.faults())["keys_file"]
    assert (fault.level, f"{mode:o}" in fault.what, fault.fix) == ("problem", True, f"chmod 600 {file}")


async def test_a_line_of_the_key_file_that_sets_nothing_is_named(home: Home) -> None:
    home.write("keys.env", f"# mine\n\nexport OPENROUTER_API_KEY={OPENROUTER}\nANTHROPIC_KEY=abc\n")
    fault = (await home.faults())["keys_file"]
    assert "Line 4" in fault.what
    assert "ANTHROPIC_API_KEY" in fault.fix


# --- tiers, prices, engines


async def test_a_tier_without_its_key_says_which_one(home: Home) -> None:
    home.settings('[tiers.cheap]\nmodels = ["deepseek/deepseek-v4-flash"]\n')
    fault = (await home.faults())["tier_unusable"]
    assert (fault.level, "DEEPSEEK_API_KEY is not set" in fault.what) == ("problem", True)


async def test_a_tier_that_nothing_asks_for_may_be_missing(home: Home, port: int) -> None:
    home.settings(f'[tiers.cheap]\nmodels = ["openai/x"]\nbase_url = "http://127.0.0.1:{port}"\n')
    told = await home.look()
    assert [symptom.what for symptom in told if symptom.name == "tier"][1:] == [
        "mid: none, so no draft climbs to it", "strong: none, and nothing asks for it"
    ]  # fmt: skip
    assert "problem" not in {symptom.level for symptom in told}


async def test_a_stage_pinned_to_a_dropped_tier_is_a_fault(home: Home) -> None:
    home.env["OPENROUTER_API_KEY"] = OPENROUTER
    home.settings('[tiers]\ndrop = ["mid", "strong"]\n[stages]\nreview = "strong"\n')
    faults = [symptom for symptom in await home.look() if symptom.name == "tier_unusable"]
    assert [(fault.level, fault.what) for fault in faults] == [
        ("problem", "The strong tier is dropped by a tierkit.toml.")
    ]


async def test_every_stage_on_the_dearest_tier_is_an_alert(home: Home, port: int) -> None:
    three = CALLER + TWO_TIERS.format(url=f"http://127.0.0.1:{port}/v1")
    home.settings(f'{three}[stages]\ndraft = "strong"\nreview = "strong"\n')
    fault = (await home.faults())["all_on_top"]
    assert fault.level == "warning"
    assert "every stage is on the strong tier, openai/big ($4/20 a million tokens in and out)" in fault.what.lower()
    assert "while cheap is openai/tiny ($0.1/0.5 a million tokens in and out)" in fault.what
    assert 'draft = "cheap"' in fault.fix
    for stages in ('draft = "strong"', 'draft = "strong"\nplan = "strong"'):  # no reviewer is below the drafter
        home.settings(f"{three}[stages]\n{stages}\n")
        assert "all_on_top" in await home.faults()
    home.settings(f'{three}[stages]\ndraft = "cheap"\nreview = "strong"\nclimb = ["strong"]\n')
    assert "all_on_top" not in await home.faults()


async def test_climbing_to_the_model_that_has_failed_is_an_alert(home: Home, port: int) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    twin = f'[tiers.mid]\nmodels = ["openai/tiny"]\nbase_url = "{url}"\nprice = {{input = "0.1", output = "0.5"}}\n'
    home.settings(CALLER + TWO_TIERS.format(url=url) + twin)
    fault = (await home.faults())["climb_repeats"]
    assert "fails on cheap climbs to mid, which is openai/tiny too" in fault.what
    home.settings(CALLER + TWO_TIERS.format(url=url) + twin + '[stages]\nclimb = ["strong"]\n')
    assert "climb_repeats" not in await home.faults()


async def test_a_tier_to_climb_to_that_has_no_model_is_told_where_the_user_named_it(home: Home, port: int) -> None:
    home.settings(f'[tiers.cheap]\nmodels = ["openai/x"]\nbase_url = "http://127.0.0.1:{port}"\n')
    assert "climb_missing" not in await home.faults()
    home.settings(
        f'[tiers.cheap]\nmodels = ["openai/x"]\nbase_url = "http://127.0.0.1:{port}"\n[stages]\nclimb = ["strong"]\n'
    )
    faults = await home.faults()
    assert (faults["climb_missing"].level, "tier_unusable" in faults) == ("warning", False)
    assert "stages.climb names strong, and no draft climbs to it." in faults["climb_missing"].what


async def test_an_unknown_price_is_told_with_the_line_to_write(home: Home) -> None:
    home.env["OPENAI_API_KEY"] = "sk-proj-" + "a1B2" * 12
    home.settings('[tiers.cheap]\nmodels = ["openai/never-heard-of"]\n')
    fault = (await home.faults())["price_unknown"]
    assert (fault.level, "Under [tiers.cheap]: price = {" in fault.fix) == ("problem", True)
    home.settings('[tiers.cheap]\nmodels = ["openai/never-heard-of"]\n[policy]\nallow_unpriced = true\n')
    assert (await home.faults())["price_unknown"].level == "warning"


async def test_a_price_that_an_extra_would_bring_is_told_with_its_name(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # As where that package is not installed.
    home.env["OPENROUTER_API_KEY"] = OPENROUTER
    home.settings(tier := '[tiers.cheap]\nmodels = ["openrouter/nobody/made-up-9"]\n')
    assert "pip install 'genai-prices" in (await home.faults())["price_unknown"].what
    home.settings(tier + "[policy]\nallow_unpriced = true\n")
    assert "pip install 'genai-prices" in (await home.faults())["price_unknown"].fix


async def test_prices_grow_stale_after_ninety_days(home: Home) -> None:
    home.env["ANTHROPIC_API_KEY"] = ANTHROPIC
    read = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert "price_stale" not in await home.faults(now=read + timedelta(days=90))
    assert "2026-11-22" in (await home.faults(now=read + timedelta(days=91)))["price_stale"].what


async def test_a_model_that_is_withdrawn_soon_or_already_is_told(home: Home) -> None:
    home.env["ANTHROPIC_API_KEY"] = ANTHROPIC
    home.settings('[tiers.cheap]\nmodels = ["anthropic/claude-sonnet-4-5"]\n')
    before = await home.faults(now=datetime(2026, 11, 29, tzinfo=UTC))
    after = await home.faults(now=datetime(2026, 12, 1, tzinfo=UTC))
    assert (before["model_deprecated"].level, after["model_deprecated"].level) == ("warning", "problem")
    # As long before as `tierkit prices` and `tierkit estimate` tell of it.
    day, listed = datetime(2026, 11, 30, 12, tzinfo=UTC), PriceTable().packaged("claude-sonnet-4-5")
    assert listed is not None
    for days, is_told in ((90, True), (91, False)):
        now = day - timedelta(days=days)
        assert ("model_deprecated" in await home.faults(now=now)) is is_told
        assert (withdrawal("claude-sonnet-4-5", listed, now.date()) is not None) is is_told


async def test_a_server_on_this_machine_that_is_not_there_is_told(home: Home) -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    set_up(home, url)
    fault = (await home.faults())["engine_unreachable"]
    assert (fault.level, url in fault.what) == ("problem", True)


async def test_a_server_on_another_machine_is_not_asked(home: Home) -> None:
    home.settings(TWO_TIERS.format(url="http://192.0.2.1:9/v1"))  # an address that no machine has
    assert "engine_unreachable" not in await home.faults()


async def test_a_local_model_whose_engine_does_not_answer_is_told(home: Home) -> None:
    home.settings('[tiers.cheap]\nmodels = ["ollama/qwen3-coder"]\n')
    assert "no Ollama answers" in (await home.faults())["engine_unreachable"].what


async def test_an_engine_that_answers_is_a_tier_without_a_key(home: Home) -> None:
    with Upstream(models=("qwen3-coder",)) as upstream:
        port = int(upstream.root_url.rsplit(":", 1)[1])
        told = await home.look(endpoints=(Endpoint(name="Ollama", port=port, paths=("/v1/models",)),))
    names = {symptom.name: symptom for symptom in told}
    assert "openai/qwen3-coder" in names["tier"].what
    assert "no_key" not in names
    assert "Routing gives nothing here" in names["routing_idle"].what


async def test_a_caller_without_a_price_is_told_unless_it_is_a_subscription(home: Home) -> None:
    home.settings('[caller]\nmodel = "no-such-model"\n')
    assert "no-such-model" in (await home.faults())["caller_unknown"].what
    home.settings('[caller]\nmodel = "no-such-model"\nbilling = "subscription"\n')
    assert "caller_unknown" not in await home.faults()


@pytest.mark.parametrize(
    ("more", "is_told"),
    [("", True), ('billing = "local"', False), ('price = { input = "1", output = "2" }', False),
     ('hour_usd = "0.2"\nbilling = "local"', False)],
)  # fmt: skip
async def test_an_address_of_this_machine_that_nobody_priced_may_be_a_proxy_to_a_bill(
    home: Home, more: str, is_told: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        home.settings(f'[tiers.cheap]\nmodels = ["openai/x"]\nbase_url = "{url}"\n{more}\n')
        assert ("taken_as_free" in await home.faults()) is is_told


# --- online


async def test_a_look_that_a_budget_stops_names_no_task_to_go_on_with(home: Home) -> None:
    with Upstream([]) as upstream:
        toml = TWO_TIERS.format(url=upstream.base_url)
        home.settings(f'{toml}[budget]\non_exhausted = "ask"\nday_usd = "0.000000001"\n')
        fixes = [symptom.fix for symptom in await home.look(is_online=True) if "day_usd" in symptom.fix]
        assert not upstream.asked
    assert fixes
    assert all(fix.endswith("tierkit.toml; then run the same command again.") for fix in fixes), fixes
    assert all(fix.startswith('Set day_usd = "') for fix in fixes), fixes


@pytest.mark.usefixtures("called_before")
async def test_a_dead_key_is_found_by_one_metered_call_a_tier(home: Home) -> None:
    def answer(asked: Any) -> Reply:
        return Reply(status=401) if asked.model == "big" else Reply(text="ok", model="tiny")

    home.env["MINE"] = "local-key"
    with Upstream(answer) as upstream:
        toml = TWO_TIERS.format(url=upstream.base_url)
        home.settings(toml.replace("price =", 'api_key_env = "MINE"\nprice ='))
        told = {symptom.name: symptom for symptom in await home.look(is_online=True)}
        assert len(upstream.asked) == 2, told
        assert all(asked.max_tokens == 16 for asked in upstream.asked)
    assert "The key is MINE." in told["key_dead"].what
    assert told["online"].what.startswith("cheap: openai/tiny answered in ")
    with reading(f"sqlite://{home.ledger}") as conn:
        [task] = recent_tasks(conn)
        query = "select * from call_log where task_id = ? order by at, call_id"
        rows = conn.execute(query, (task.task_id,)).fetchall()
    assert [(row["stage"], row["tier"], row["status"]) for row in rows] == [
        ("doctor", "cheap", "settled"), ("doctor", "strong", "failed")
    ]  # fmt: skip
    assert (task.state, task.spend.unpriced_calls) == ("done", 0)
    cost = f"${rows[0]['cost_nanousd'] / 1e9:.8f}".rstrip("0") if rows[0]["cost_nanousd"] else ""
    assert cost
    assert cost in told["online"].what


async def test_without_online_no_model_is_asked(home: Home) -> None:
    with Upstream(["never"]) as upstream:
        set_up(home, upstream.base_url)
        await home.look()
        assert upstream.asked == ()


# --- state, ledger, clock, disk


async def test_a_state_folder_that_cannot_be_is_told(home: Home) -> None:
    (home.path / "taken").write_text("a file")
    home.env["TIERKIT_STATE_DIR"] = str(home.path / "taken/state")
    faults = await home.faults()
    assert str(home.path / "taken/state") in faults["state_unusable"].what
    assert "TIERKIT_STATE_DIR" in faults["state_unusable"].fix


@pytest.mark.parametrize("place", ["taken/ledger.db", "readonly"])
async def test_a_ledger_that_cannot_be_written_is_told(home: Home, place: str) -> None:
    (home.path / "taken").write_text("a file")
    (home.path / "readonly").mkdir()  # a folder where a file should be
    home.env["TIERKIT_LEDGER"] = str(home.path / place)
    fault = (await home.faults())["ledger_unusable"]
    assert (fault.level, str(home.path / place) in fault.what) == ("problem", True)
    assert "tierkit doctor" not in fault.fix


async def reserved(home: Home, *, at: datetime | None = None) -> None:
    """A ledger with one call in flight, by a process that then ends."""
    ledger = open_ledger(f"sqlite://{home.ledger}", state_dir=home.state, clock=lambda: at or datetime.now(UTC))
    await ledger.open_task(Task(task_id="t1", project="/p", goal="g", created_at=at or datetime.now(UTC)))
    route = Route(route_id="r1", task_id="t1", decision="draft", tier="cheap", rule="x", reason="y")
    await ledger.route(route)
    request = Request(
        task_id="t1", route_id="r1", stage="draft", tier="cheap", model="openai/tiny", messages=(),
        max_output_tokens=1, timeout_s=1, prompt_id="p.v1@0",
    )  # fmt: skip
    await ledger.reserve(request, 5, Budgets())
    await ledger.close()


async def on_ledger(home: Home, statement: str) -> None:
    await reserved(home)
    with closing(sqlite3.connect(home.ledger, isolation_level=None)) as conn:
        conn.execute(statement)


async def test_a_ledger_of_a_newer_version_is_told_and_left_alone(home: Home) -> None:
    await on_ledger(home, "pragma user_version = 99")
    before = home.ledger.read_bytes()
    fault = (await home.faults())["ledger_unusable"]
    assert "newer tierkit (schema 99" in fault.what
    assert "pip install -U mcp-tierkit" in fault.fix
    assert home.ledger.read_bytes() == before


async def test_totals_that_are_not_the_sum_of_the_calls_are_told(home: Home) -> None:
    await on_ledger(home, "update budget_spend set nanousd = nanousd + 1 where budget = 'day'")
    assert (await home.faults())["ledger_totals"].level == "problem"


async def test_a_damaged_ledger_is_told(home: Home) -> None:
    await on_ledger(home, "pragma wal_checkpoint(truncate)")
    with home.ledger.open("r+b") as file:
        file.seek(4096 * 4)
        file.write(b"\xff" * 4096 * 3)
    assert {"ledger_damaged", "ledger_unusable"} & set(await home.faults())


async def test_a_ledger_that_others_may_read_is_told(home: Home) -> None:
    await reserved(home)
    home.ledger.chmod(0o644)
    assert (await home.faults())["ledger_readable"].fix == f"chmod 600 {home.ledger}"
    assert stat.S_IMODE(home.ledger.stat().st_mode) == 0o644


async def test_calls_left_by_a_dead_server_are_told(home: Home) -> None:
    await reserved(home)
    assert "1 calls or tasks" in (await home.faults())["ledger_left"].what


async def test_a_clock_that_is_behind_the_ledger_is_told(home: Home) -> None:
    await reserved(home, at=datetime.now(UTC) + timedelta(days=2))
    with reading(f"sqlite://{home.ledger}") as conn:
        newest = newest_row(conn)
    fault = (await home.faults())["clock"]
    assert newest is not None
    assert (fault.level, newest[:16] in fault.what) == ("warning", True)


async def test_a_clock_that_is_behind_the_price_table_is_told(home: Home) -> None:
    assert "1999-01-01" in (await home.faults(now=datetime(1999, 1, 1, tzinfo=UTC)))["clock"].what
    assert "clock" not in await home.faults()


async def test_a_disk_with_little_room_is_told_once(home: Home) -> None:
    more_than_there_is = shutil.disk_usage(home.path).total + 1
    low = [symptom for symptom in await home.look(low_disk_bytes=more_than_there_is) if symptom.name == "disk_low"]
    assert 1 <= len(low) <= 2  # two where the temporary folder is a disk of its own
    assert "MB are free" in low[0].what


# --- machine


async def test_without_a_sandbox_it_says_why_and_which_checks_may_run(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    fault = (await home.faults())["no_sandbox"]
    assert (fault.level, "TIERKIT_NO_SANDBOX is set" in fault.what) == ("problem", True)
    home.settings('[checks]\nallow = ["pytest", "npm test"]\n')
    fault = (await home.faults())["no_sandbox"]
    assert (fault.level, "may run: pytest, npm test" in fault.what) == ("warning", True)


async def test_a_missing_git_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home.path))
    assert "git was not found" in (await home.faults())["git_missing"].what


async def test_the_footprint_is_what_the_server_counts(home: Home) -> None:
    told = next(symptom for symptom in await home.look() if symptom.name == "schemas")
    assert f" {schema_tokens()} tokens" in told.what


async def test_a_shipped_playbook_that_is_not_as_it_was_made_is_a_fault(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "shipped_playbooks" not in await home.faults()
    copy = tmp_path / "playbooks"
    shutil.copytree(builtin_root(), copy)
    (copy / "status-report/scripts/run.py").write_text("print('mine')")
    monkeypatch.setattr("mcp_tierkit.checkup.machine.builtin_root", lambda: copy)
    fault = (await home.faults())["shipped_playbooks"]
    assert (fault.level, "status-report differ" in fault.what) == ("problem", True)


# --- clients


def claude_code(home: Home, command: str) -> None:
    entry = {"type": "stdio", "command": command, "args": ["serve", "--project", str(home.project)]}
    (home.project / ".mcp.json").write_text(json.dumps({"mcpServers": {"tierkit": entry}}))


@pytest.fixture
def initialised(home: Home, monkeypatch: pytest.MonkeyPatch, unset: None) -> Home:
    """A home where `tierkit init` has set up Claude Code."""
    monkeypatch.setenv("HOME", str(home.path))
    assert run(["init", "--client", "claude-code", "--project", str(home.project)]) == 0
    return home


async def test_a_client_that_init_has_set_up_is_fine(initialised: Home) -> None:
    told = {symptom.name: symptom for symptom in await initialised.look(client="claude-code")}
    assert "Claude Code names this server" in told["client"].what
    assert not {"client_missing", "client_out_of_date", "client_command"} & set(told)


async def test_a_client_asked_about_must_be_set_up(home: Home) -> None:
    fault = (await home.faults(client="codex"))["client_missing"]
    assert (fault.level, fault.fix) == ("problem", "tierkit init --client codex")


async def test_a_client_whose_file_is_not_known_is_no_fault(home: Home) -> None:
    assert (await home.faults(client="other"))["client_unknown"].level == "warning"


async def test_a_client_that_is_set_up_by_hand_is_seen(home: Home) -> None:
    entry = {"type": "local", "command": [sys.executable, "-m", "mcp_tierkit", "serve"]}
    (home.project / "opencode.json").write_text(json.dumps({"mcp": {"tierkit": entry}}))
    assert "client" in {symptom.name for symptom in await home.look(client="opencode")}
    (home.project / "opencode.json").write_text(json.dumps({"mcp": {"tierkit": {"command": ["/gone/mcp-tierkit"]}}}))
    assert "client_command" in await home.faults(client="opencode")


async def test_a_moved_environment_is_told(home: Home) -> None:
    claude_code(home, str(home.path / "old-venv/bin/mcp-tierkit"))
    fault = (await home.faults())["client_command"]
    assert "was moved or removed" in fault.what
    assert fault.fix == "tierkit init --client claude-code"


async def test_a_command_whose_interpreter_is_gone_is_told(home: Home) -> None:
    script = home.path / "mcp-tierkit"
    script.write_text(f"#!{home.path}/python3.9/bin/python\n")
    script.chmod(0o755)
    claude_code(home, str(script))
    assert "python3.9/bin/python, which is gone" in (await home.faults())["client_command"].what
    script.chmod(0o644)
    assert "cannot be run" in (await home.faults())["client_command"].what


async def test_an_entry_of_another_installation_is_out_of_date(home: Home) -> None:
    other = home.path / "mcp-tierkit"
    other.symlink_to(sys.executable)
    claude_code(home, str(other))
    faults = await home.faults()
    assert faults["client_out_of_date"].level == "warning"
    assert "client_missing" not in faults


async def test_a_client_file_that_cannot_be_read_is_told(home: Home) -> None:
    (home.project / ".mcp.json").write_text('{"mcpServers": {,}}')
    assert "line 1" in (await home.faults())["client_config"].what


@pytest.mark.parametrize("whose", ["shop", "home"])
async def test_of_the_two_files_of_codex_the_one_that_is_broken_is_named(home: Home, whose: str) -> None:
    for folder in (home.project, home.path):
        (folder / ".codex").mkdir()
        text = "[mcp_servers\n" if folder.name == whose else ""
        (folder / ".codex/config.toml").write_text(text)
    fix = (await home.faults(client="codex"))["client_config"].fix
    assert f"{whose}/.codex/config.toml, then" in fix


async def test_nothing_that_a_clients_file_names_is_run(home: Home) -> None:
    script = home.path / "mcp-tierkit"
    script.write_text(f"#!/bin/sh\ntouch {home.path}/ran\n")
    script.chmod(0o755)
    claude_code(home, str(script))
    await home.look()
    assert not (home.path / "ran").exists()


async def test_a_key_that_a_desktop_client_will_not_see_is_told(home: Home) -> None:
    home.env["OPENROUTER_API_KEY"] = OPENROUTER
    file = home.path / ".config/Claude/claude_desktop_config.json"
    file.parent.mkdir(parents=True)
    entry = {"command": sys.executable, "args": ["-m", "mcp_tierkit", "serve", "--project", str(home.project)]}
    file.write_text(json.dumps({"mcpServers": {"tierkit": entry}}))
    assert str(home.config / "keys.env") in (await home.faults())["client_keys"].fix
    home.write("keys.env", f"OPENROUTER_API_KEY={OPENROUTER}\n")
    assert "client_keys" not in await home.faults()


# --- the command


def test_the_command_ends_with_one_for_a_problem_and_zero_for_a_warning(
    initialised: Home, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    home = initialised
    capsys.readouterr()
    set_up(home, f"http://127.0.0.1:{port}/v1")
    assert run(["doctor", "--project", str(home.project), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["ok"] is True
    assert all(set(row) == {"name", "level", "what", "fix"} for row in record["symptoms"])
    set_up(home, f"http://127.0.0.1:{closed_port()}/v1")
    assert run(["doctor", "--project", str(home.project)]) == 1
    shown = capsys.readouterr().out
    assert "problem engine_unreachable" in shown
    assert "fix:" in shown
    assert "\x1b" not in shown
    assert shown.endswith("2 problems, 0 warnings.\n")


def test_every_fault_comes_with_a_fix(initialised: Home, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    initialised.settings("nonsense = 1\n")
    assert run(["doctor", "--project", str(initialised.project), "--client", "codex", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["symptoms"]
    assert [row["name"] for row in rows if row["level"] != "fine" and not row["fix"]] == []
    assert {row["name"] for row in rows if row["level"] == "problem"} == {"settings_refused", "client_missing"}
