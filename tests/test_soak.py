"""The ledger against the provider's own log after work with faults, cancels and kills; and that check itself."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import reprice
from benchmarks.soak import RATES, Soak, soak

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    return soak(tmp_path_factory.mktemp("soak"), calls=40, processes=1, batch=8)


def test_every_request_has_its_row_and_every_nanodollar_is_as_the_provider_counts(soaked: Soak) -> None:
    assert soaked.differences() == []
    assert soaked.killed >= 1
    with closing(sqlite3.connect(soaked.ledger)) as conn:
        statuses = {status for (status,) in conn.execute("select distinct status from calls")}
        stages = {stage for (stage,) in conn.execute("select distinct stage from calls")}
    assert {"settled", "failed"} <= statuses
    assert {"draft", "playbook", "review"} <= stages
    assert "reserved" not in statuses


@pytest.mark.slow
@pytest.mark.parametrize("gateway", ["litellm", "direct"])
def test_two_thousand_mixed_calls_leave_no_difference(tmp_path: Path, gateway: str) -> None:
    run = soak(tmp_path, calls=2000, gateway=gateway, seed=2)
    assert run.differences() == []
    assert run.killed >= 10
    with closing(sqlite3.connect(run.ledger)) as conn:
        statuses = dict(conn.execute("select status, count(*) from calls group by 1"))
        stages = {stage for (stage,) in conn.execute("select distinct stage from calls")}
    assert {"settled", "failed", "cancelled", "interrupted"} == set(statuses)
    assert stages == {"draft", "repair", "climb", "continue", "review", "playbook"}


SETTLED = "(select call_id from calls where status = 'settled' and cost_nanousd > 0 limit 1)"
CACHED = "(select call_id from calls where status = 'settled' and cached_tokens > 0 limit 1)"
FAILED = "(select call_id from calls where status = 'failed' limit 1)"
MISTAKES = {
    "a dropped settle": f"""update calls set status = 'reserved', cost_nanousd = null, input_tokens = null,
        cached_tokens = null, cache_write_tokens = null, output_tokens = null where call_id = {SETTLED}""",
    "cached tokens read as fresh ones too": f"""update calls set input_tokens = input_tokens + cached_tokens,
        cost_nanousd = cost_nanousd + cached_tokens * 100 where call_id = {CACHED}""",
    "cached tokens charged twice": f"""update calls set cost_nanousd = cost_nanousd + cached_tokens * 10
        where call_id = {CACHED}""",
    "a failed attempt left out": f"delete from calls where call_id = {FAILED}",
    "a failed attempt called free that was not": """update calls set cost_nanousd = 0
        where call_id = (select call_id from calls where status = 'failed' and cost_nanousd is null limit 1)""",
    "an answered call left out": f"delete from calls where call_id = {SETTLED}",
    "one nanodollar too many": f"update calls set cost_nanousd = cost_nanousd + 1 where call_id = {SETTLED}",
    "one output token too few": f"update calls set output_tokens = output_tokens - 1 where call_id = {SETTLED}",
    "a call counted twice": f"""insert into calls (call_id, task_id, route_id, owner_id, at, stage, tier,
            requested_model, routed_model, status, prompt_id, input_tokens, cached_tokens, cache_write_tokens,
            output_tokens, reserved_nanousd, cost_nanousd)
        select 'twin', task_id, route_id, owner_id, at, stage, tier, requested_model, routed_model, status, prompt_id,
            input_tokens, cached_tokens, cache_write_tokens, output_tokens, reserved_nanousd, cost_nanousd
        from calls where call_id = {SETTLED}""",
    "a total that drifts": "update budget_spend set nanousd = nanousd - 1 where budget = 'month'",
    "a receipt that says less": """update tasks set reply = replace(reply, '"usd":"0.', '"usd":"0.0')
        where task_id = (select task_id from tasks where state = 'done' and reply like '%"usd":"0.%' limit 1)""",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_told(soaked: Soak, tmp_path: Path, mistake: str) -> None:
    copy = tmp_path / "ledger.db"
    with closing(sqlite3.connect(soaked.ledger)) as conn, closing(sqlite3.connect(copy)) as target:
        conn.backup(target)
        target.execute("pragma foreign_keys = off")
        assert target.execute(MISTAKES[mistake]).rowcount == 1
        target.commit()
    assert reprice.check(copy, soaked.log, RATES) != []


def test_a_request_that_nobody_wrote_down_is_told(soaked: Soak, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    shutil.copy(soaked.log, log)
    with log.open("a") as more:
        more.write(soaked.log.read_text().splitlines()[0] + "\n")
    assert reprice.check(soaked.ledger, log, RATES) != []


def test_the_script_that_prices_the_log_shares_no_code_with_the_product() -> None:
    assert "mcp_tierkit" not in (ROOT / "benchmarks/reprice.py").read_text()
