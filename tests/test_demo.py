"""The demo runs the whole job, and a script that shares no code with us agrees with its ledger to the nanodollar."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent


class Played(NamedTuple):
    folder: Path
    screen: str


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "COLUMNS": "120"}
    command = [sys.executable, "-m", "mcp_tierkit", "demo", "--keep", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Played(folder, done.stdout)


def test_one_screen_shows_every_step_and_says_what_is_replayed(played: Played) -> None:
    for part in (
        "replays the model's words", "-> red (exit 1)", "plan_task", "attempt: cheap gpt-5.4-nano: red, green $",
        "-> green (exit 0)", "review_diff", "0 tokens, $0", "net: ", "every call on the ledger",
    ):  # fmt: skip
        assert part in played.screen, played.screen
    assert len(played.screen.splitlines()) <= 50


def test_amounts_on_the_screen_have_four_figures_and_still_add_up(played: Played) -> None:
    amounts = re.findall(r"\$(\d+\.\d+)", played.screen)
    assert amounts
    assert not [amount for amount in amounts if len(amount.replace(".", "").lstrip("0")) > 4]
    rows = re.findall(r"│ (draft|repair|review) .*\$(\S+) +│", played.screen)
    assert [stage for stage, _ in rows] == ["draft", "repair", "review"]
    [told] = re.findall(r"measured: model calls \$(\S+),", played.screen)
    assert abs(sum(Decimal(cost) for stage, cost in rows if stage != "review") - Decimal(told)) <= Decimal("0.0000001")


def test_the_change_of_the_demo_is_in_its_project(played: Played) -> None:
    assert "for shift in sorted(shifts):" in (played.folder / "rota/rota/shifts.py").read_text()


def priced(played: Played, ledger: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/price_log.py", str(played.folder / "upstream.jsonl"), str(ledger)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_upstreams_own_log_priced_in_fractions_agrees_with_the_ledger(played: Played) -> None:
    done = priced(played, played.folder / "home/ledger.db")
    assert done.returncode == 0, done.stdout
    assert "upstream: 3 requests" in done.stdout
    calls = [json.loads(line) for line in (played.folder / "upstream.jsonl").read_text().splitlines()]
    assert any(call["tokens"]["cached"] for call in calls), "without cached tokens the agreement proves less"


@pytest.mark.parametrize(
    "mistake",
    [
        "UPDATE calls SET status = 'reserved', cost_nanousd = NULL WHERE stage = 'repair'",
        "UPDATE calls SET cost_nanousd = cost_nanousd + cached_tokens * 20 WHERE cached_tokens > 0",
        "UPDATE calls SET cost_nanousd = cost_nanousd + cached_tokens * 200 WHERE cached_tokens > 0",
        "UPDATE calls SET cost_nanousd = cost_nanousd + 1 WHERE stage = 'review'",
    ],
    ids=["a dropped settle", "cached tokens twice", "cached tokens as fresh too", "one nanodollar"],
)
def test_a_planted_mistake_makes_them_differ(played: Played, tmp_path: Path, mistake: str) -> None:
    copy = tmp_path / "ledger.db"
    shutil.copy(played.folder / "home/ledger.db", copy)
    with sqlite3.connect(copy) as conn:
        for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            conn.execute(f'DROP TRIGGER "{name}"')
        assert conn.execute(mistake).rowcount == 1
    conn.close()
    done = priced(played, copy)
    assert (done.returncode, "DIFFER" in done.stdout) == (1, True), done.stdout
