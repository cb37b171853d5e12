"""What `make conformance` takes for a fault. The suite itself is run by that command, not here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.conformance import EXPECTED, REVISIONS, SERVERS, Run, Scenario, judge, read, reasons


def as_expected(server: str, revision: str) -> Run:
    wanted = EXPECTED[server][revision]
    known = tuple(reasons(Run(server, revision, 0, ())))
    return Run(server, revision, wanted["exit_code"], (Scenario("all", wanted["passed"], known, 0),))


def test_a_run_that_finds_what_the_file_says_has_no_fault() -> None:
    assert [judge(as_expected(server, revision)) for server in SERVERS for revision in REVISIONS] == [[]] * 4


def test_a_new_failure_a_mended_one_and_a_missing_check_are_faults() -> None:
    run = as_expected("product", "2026-07-28")
    known = run.scenarios[0].failed
    found = judge(replace(run, scenarios=(Scenario("all", 114, ("ping/ping", *known[1:]), 0),)))
    assert found == [
        "product 2026-07-28: ping/ping fails",
        f"product 2026-07-28: {known[0]} no longer fails; strike it",
        "product 2026-07-28: 114 checks passed, not 115",
    ]


def test_an_exit_code_that_the_file_does_not_name_is_a_fault() -> None:
    run = as_expected("fixtures", "2025-11-25")
    assert judge(replace(run, exit_code=1)) == ["fixtures 2025-11-25: the suite ended with 1, not 0"]


def test_the_fixtures_fail_nothing_that_is_required() -> None:
    for revision in REVISIONS:
        assert EXPECTED["fixtures"][revision]["exit_code"] == 0
        assert all(check.startswith("tasks-") for check in reasons(Run("fixtures", revision, 0, ())))


def test_a_scenario_that_left_no_result_failed(tmp_path: Path) -> None:
    done = tmp_path / "server-ping-2026-11-22T00-00-00-000Z"
    done.mkdir()
    checks = [{"id": "ping", "status": "SUCCESS"}, {"id": "late", "status": "WARNING"}]
    (done / "checks.json").write_text(json.dumps(checks))
    said = "\n=== Running scenario: ping ===\n...\n=== Running scenario: caching ===\n"
    assert list(read(tmp_path, said)) == [
        Scenario("ping", 1, (), 1),
        Scenario("caching", 0, ("caching/did-not-end",), 0),
    ]
