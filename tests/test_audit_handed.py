"""Work that was handed to us again and again, which `tierkit audit` finds in the ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.types import Budgets, Call, Check, Draft, Request, Route, Score, Task
from tests.transcripts import at_home

NOW = datetime.now(UTC)
SECRET = "ghp_" + "a1B2" * 9


class Planted(NamedTuple):
    """A task as it was handed over; `group` names the job it is one of, empty where no playbook would do it."""

    group: str
    goal: str
    files: tuple[str, ...] = ("src/a.py",)
    check: tuple[str, ...] = ("pytest", "-q")
    status: str = "applied"
    outcome: str = ""
    project: str = "/home/ada/shop"


def alike(group: str, *goals: str, **fields: Any) -> list[Planted]:
    return [Planted(group, goal, **fields) for goal in goals]


PLANTED = [
    *alike("bump", *(f"bump the version to 1.{n}.0 in setup.cfg" for n in range(4)), files=("setup.cfg",)),
    *alike("rename", "rename total to amount", "Rename `count` to `size`.", "rename price to cost"),
    *alike("notes", *(f"write the changelog since v2.{n}" for n in range(5)), files=("CHANGELOG.md",),
           check=("make", "lint")),
    *alike("header", *(f"add the licence header to src/{name}.py" for name in ("cart", "tax", "till"))),
    *alike("fixture", *(f"convert tests/{name}.json to yaml" for name in ("a", "b", "c")), files=("tests/a.yaml",)),
    *alike("date", *(f"set the release date to 2026-1{n}-01 in README.md" for n in range(3)), files=("README.md",)),
    # Only like these: other work, too seldom, not kept, or with nothing in common that a script could take.
    *alike("", "fix the parser", "fix the lexer", "fix the printer"),
    *alike("", "add tests for carts", "remove tests for carts", "run tests for carts"),
    *alike("", "fix bug in parser", "fix typo in readme", "fix test in cart"),
    *alike("", "sort the imports of x.py", "sort the imports of y.py"),
    *alike("", "sort the imports of z.ts", files=("z.ts",)),
    *alike("", *(f"translate page {n} to Dutch" for n in range(3)), status="needs_work"),
    *alike("", *(f"inline helper_{n} in shop.py" for n in range(3)), outcome="reverted"),
    *alike("", *(f"deploy with token {SECRET}{n}" for n in range(3))),
    *alike("", "export the cart to json", "export the cart from json", "export the cart with json"),
    *alike("", "make the cart faster", "print a tax line", "split the till module", "drop the old api",
           "guard empty carts"),
]  # fmt: skip


async def plant(url: str, folder: Path, planted: list[Planted]) -> None:
    ledger = open_ledger(url, state_dir=folder)
    for number, task in enumerate(planted):
        await enter(ledger, f"t{number:012}", task, NOW - timedelta(days=9, minutes=-number))
    await ledger.close()


async def enter(ledger: Ledger, task_id: str, planted: Planted, at: datetime) -> None:
    """A task as the stages leave it. One about a changelog has two calls; the first failed, and cost all the same."""
    await ledger.open_task(Task(
        task_id=task_id, project=planted.project, goal=planted.goal, files=planted.files,
        checks=(Check(argv=planted.check),), created_at=at,
    ))  # fmt: skip
    route = Route(route_id=f"r-{task_id}", task_id=task_id, decision="draft", tier="cheap", rule="x", reason="x.")
    await ledger.route(route)
    request = Request(task_id=task_id, route_id=route.route_id, stage="draft", tier="cheap", model="m", messages=(),
                      max_output_tokens=1, timeout_s=1, prompt_id="p")  # fmt: skip
    calls = (("failed", 1_000_000), ("settled", 3_000_000))
    for status, cost in calls if planted.group == "notes" else calls[1:]:
        call_id = await ledger.reserve(request, 1, Budgets(breaker=False))
        await ledger.settle(call_id, Call.model_validate({"status": status, "cost_nanousd": cost}))
    await ledger.save(Draft.model_validate({"task_id": task_id, "status": planted.status}))
    if planted.outcome:
        await ledger.save(Score.model_validate({"task_id": task_id, "outcome": planted.outcome}))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("ledger")
    url = f"sqlite://{folder / 'ledger.db'}"
    anyio.run(plant, url, folder, PLANTED)
    return url


@pytest.fixture
def home(ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no project, without transcripts and settings."""
    at_home(tmp_path, monkeypatch)
    monkeypatch.setenv("TIERKIT_LEDGER", ledger)
    return tmp_path


def audited(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert run(["audit", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_jobs_of_fixed_shape_are_found_among_tasks_that_only_look_alike(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [{int(task_id[1:]) for task_id in group["task_ids"]} for group in audited(capsys)["handed"]]
    names = {task.group for task in PLANTED if task.group}
    planted = [{number for number, task in enumerate(PLANTED) if task.group == name} for name in names]
    right = [group for group in told if group in planted]
    precision, recall = len(right) / len(told), len(right) / len(planted)
    print(f"precision {precision:.0%} of {len(told)} groups, recall {recall:.0%} of {len(planted)}")
    assert [[PLANTED[number].goal for number in sorted(group)] for group in told if group not in planted] == []
    assert recall == 1


def test_a_group_says_how_often_what_it_cost_by_the_month_and_what_to_type(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = audited(capsys)
    group = next(group for group in found["handed"] if group["count"] == 5)
    assert group == {
        "phrase": "write the changelog since {version}", "example": "write the changelog since v2.4",
        "name": "write-changelog", "count": 5, "calls": 10, "cost_nanousd": 5 * 4_000_000,
        "month_nanousd": 5 * 4_000_000 * 30 // 10, "unpriced": 0, "saving_month_nanousd": 4 * 4_000_000 * 30 // 10,
        "files": ["CHANGELOG.md"], "checks": ["make lint"], "by": "make",
        "next": "tierkit playbook new write-changelog --from-task t000000000011",
        "task_ids": [f"t{number:012}" for number in (11, 10, 9, 8, 7)],
    }  # fmt: skip
    assert found["next"][0]["why"].startswith(
        "5 times handed to us, “write the changelog since {version}”: save $0.05 a month"
    )
    assert SECRET not in json.dumps(found)


def test_the_table_is_there_without_any_transcript_and_for_one_project_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "--full"]) == 0
    shown = capsys.readouterr().out
    assert "Handed to cheaper models again and again" in shown
    row = next(line for line in shown.splitlines() if "write the changelog" in line)
    assert row.split()[:5] == ["5", "10", "$0.0200", "$0.0600", "$0.0480"]
    assert row.endswith("tierkit playbook new write-changelog --from-task t000000000011")
    assert audited(capsys, "--project", "elsewhere")["handed"] == []
    assert len(audited(capsys, "--project", "/home/ada")["handed"]) == 6
    assert audited(capsys, "--days", "2")["handed"] == []


def test_a_ledger_that_cannot_be_read_is_said_and_never_fatal(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "ledger.db").write_text("this is no ledger")
    monkeypatch.setenv("TIERKIT_LEDGER", str(home / "ledger.db"))
    found = audited(capsys)
    assert found["handed"] == []
    assert "ledger" in found["ledger_problem"]
    assert run(["audit", "--full"]) == 0
    assert "could not be read" in capsys.readouterr().out
