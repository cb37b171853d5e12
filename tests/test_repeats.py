"""Work that comes again is found by its words and its shape, with what it cost, and without a model."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.ledger import report
from mcp_tierkit.ledger.solved import solved_tasks
from mcp_tierkit.repeats import Repeat, Solved, find_repeats
from mcp_tierkit.stages.repetition import Figures, playbook_figures, suggest
from mcp_tierkit.types import Budgets, Call, Check, Draft, PlaybookRun, Request, Route, Score, Task
from tests.playbooks import World, enter, match
from tests.test_playbook_match import made

NOW = datetime.now(UTC)
SECRET = "sk-ant-api03-" + "A1b2C3d4" * 12


def solved(goals: list[str], **fields: Any) -> list[Solved]:
    fixed = {"files": ("shop/cart.py",), "checks": (("pytest", "-q"),), "calls": 1, "cost_nanousd": 1000} | fields
    rows = ({"task_id": f"t{n}", "at": f"2026-10-{n + 1:02}", "goal": goal, **fixed} for n, goal in enumerate(goals))
    return list(map(Solved.model_validate, rows))


def phrases(goals: list[str], **fields: Any) -> list[str | None]:
    return [repeat.phrase for repeat in find_repeats(solved(goals, **fields))]


@pytest.mark.parametrize(
    ("goals", "phrase"),
    [
        (["changelog since v1.0.0", "Changelog since v1.1.0.", "changelog since v2"], "changelog since {version}"),
        (
            ["rename total to amount", "Rename `count` to `size`.", "rename price to cost"],
            "rename {value} to {value_2}",
        ),
        (
            ["bump `requests` to 2.31.0 in setup.cfg", "bump 'click' to 8.1.0 in setup.cfg",
             "Bump httpx to 0.27.2 in setup.cfg!"],
            "bump {value} to {version} in setup.cfg",
        ),
        (["fix the lint errors", "Fix the lint errors.", "fix  the lint\nerrors"], "fix the lint errors"),
        (
            ["sort the imports (src/a.py), please", "sort the imports (src/b.py), please",
             "sort the imports (lib/c.py), please"],
            "sort the imports ({path}), please",
        ),
        (
            ["move user_1 from a/b to c/d", "move user_2 from e/f to g", "move user_3 from h to i"],
            "move {name} from {value} to {value_2}",
        ),
        ([f"don't print {{{name}}} in t.py" for name in "xyz"], "don't print {text} in t.py"),
    ],
)  # fmt: skip
def test_goals_that_differ_in_their_values_are_one_job_and_its_phrase_matches_them_all(
    goals: list[str], phrase: str
) -> None:
    assert phrases(goals) == [phrase]
    slots = [part.split("}")[0] for part in phrase.split("{")[1:]]
    playbooks = [made("sample", phrase, inputs="\n".join(f'{slot} = {{ type = "string" }}' for slot in slots))]
    for goal in goals:
        hit = match(goal, playbooks)
        assert hit is not None, goal
        assert all(value in goal for value in hit.inputs.values())


@pytest.mark.parametrize(
    "goals",
    [
        ["fix the parser", "fix the lexer", "fix the printer"],
        ["fix bug in parser", "fix typo in readme", "fix test in cart"],
        ["export the cart to json", "export the cart from json", "export the cart with json"],
        ["add tests for carts", "remove tests for carts", "run tests for carts"],
        ["print the total", "do not print the total", "print the grand total"],
        ["rename total to amount", "rename count to size"],
        ["a " * 41, "a " * 41, "a " * 41],
        ["use [redacted:key] for shop.py", "use [redacted:key] for till.py", "use [redacted:key] for cart.py"],
        ["", " ", "."],
    ],
)
def test_goals_that_ask_for_different_things_are_not_one_job(goals: list[str]) -> None:
    assert phrases(goals) == []


def test_the_same_words_about_other_work_are_another_job() -> None:
    goals = ["sort the imports of a.py", "sort the imports of b.py", "sort the imports of c.py"]
    python, other = solved(goals), solved(goals, files=("a.ts",))
    assert [repeat.count for repeat in find_repeats([*python[:2], *other[:1]])] == []
    assert [repeat.count for repeat in find_repeats([*python[:2], *other[:2]], least=2)] == [2, 2]
    module = solved(goals, checks=(("/usr/bin/python3.11", "-m", "pytest", "tests/x.py"),))
    assert [repeat.count for repeat in find_repeats([*python[:2], *module[2:]])] == [3], (
        "one program, called in two ways"
    )
    made_by = [solved(goals, checks=(("npm", "run", "test"),)), solved(goals, checks=(("npm", "ci"),))]
    assert [repeat.count for repeat in find_repeats([*made_by[0][:2], *made_by[1][2:]])] == []


def test_what_a_job_cost_is_summed_where_it_is_known_and_counted_where_it_is_not() -> None:
    goals = [f"changelog since v{n}" for n in range(5)]
    tasks = [task.model_copy(update={"cost_nanousd": cost})
             for task, cost in zip(solved(goals), (10, None, 40, 0, None), strict=True)]  # fmt: skip
    expected = Repeat(
        phrase="changelog since {version}", name="changelog-2", count=5, task_ids=("t4", "t3", "t2", "t1", "t0"),
        first_at="2026-10-01", last_at="2026-10-05", example="changelog since v4", total_nanousd=50, median_nanousd=10,
        unknown_costs=2,
    )  # fmt: skip
    assert find_repeats(tasks, taken=["changelog"]) == (expected,)
    [unknown] = find_repeats([task.model_copy(update={"cost_nanousd": None}) for task in tasks])
    assert (unknown.total_nanousd, unknown.median_nanousd, unknown.unknown_costs) == (0, None, 5)


def test_the_answer_does_not_hang_on_the_order_and_each_task_counts_once() -> None:
    dice = random.Random(5)
    goals = [f"{verb} {noun} of {dice.choice('abcdef')}.py to {dice.choice(['json', 'yaml', 'v1', '`x`'])}"
             for verb in ("convert", "print") for noun in ("totals", "prices", "taxes") for _ in range(12)]  # fmt: skip
    tasks = solved(goals)
    found = find_repeats(tasks)
    told = [task_id for repeat in found for task_id in repeat.task_ids]
    assert len(told) == len(set(told)) > 30
    assert len({repeat.name for repeat in found}) == len(found)
    for _ in range(5):
        dice.shuffle(tasks)
        assert find_repeats(tasks) == found


def test_thousands_of_tasks_take_little_time() -> None:
    dice = random.Random(1)
    words = [f"{one}{two}" for one in ("ab", "ce", "du", "fo", "gi") for two in ("ra", "to", "ne", "lu", "wy", "xa")]
    tasks = [
        Solved(task_id=f"t{n}", at="2026-10-01", goal=" ".join(dice.choices(words, k=dice.randint(3, 20))))
        for n in range(4_000)
    ]
    started = time.process_time()
    find_repeats(tasks)
    assert time.process_time() - started < 4  # About a tenth of that; pairs of goals would be eight million.


# --- from the ledger


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    return enter(world, monkeypatch)


async def record(world: World, task_id: str, goal: str, cost: int | None, *, ago: int = 1, status: str = "applied",
                 outcome: str | None = None, repository: str | None = None) -> None:  # fmt: skip
    """A task with one call, a draft and perhaps a score, as the stages would leave them."""
    ledger = world.ledger
    await ledger.open_task(Task(
        task_id=task_id, project=str(world.project), repository=repository or str(world.config.repository), goal=goal,
        files=("CHANGELOG.md",), checks=(Check(argv=("make", "lint")),), created_at=NOW - timedelta(days=ago),
    ))  # fmt: skip
    route = Route(route_id=f"r-{task_id}", task_id=task_id, decision="draft", tier="cheap", rule="x", reason="x.")
    await ledger.route(route)
    request = Request(task_id=task_id, route_id=route.route_id, stage="draft", tier="cheap", model="m", messages=(),
                      max_output_tokens=1, timeout_s=1, prompt_id="p")  # fmt: skip
    call_id = await ledger.reserve(request, 1, Budgets())
    await ledger.settle(call_id, Call(status="settled", cost_nanousd=cost))
    for word in status.split():
        await ledger.save(Draft.model_validate({"task_id": task_id, "status": word}))
    if outcome:
        await ledger.save(Score.model_validate({"task_id": task_id, "outcome": outcome}))


async def fill(world: World) -> None:
    for n, cost in enumerate((3_000_000, 5_000_000, None, 4_000_000)):
        await record(world, f"t{n}", f"list tags since v1.{n}.0", cost, ago=n + 1)
    await record(world, "old", "list tags since v0.1.0", 9_000_000, ago=200)
    await record(world, "red", "list tags since v8.0.0", 9_000_000, status="applied needs_work")
    await record(world, "back", "list tags since v9.0.0", 9_000_000, outcome="reverted")
    await record(
        world, "kept", "list tags since v7.0.0", 4_000_000, outcome="edited", ago=9, status="needs_work applied"
    )
    await record(world, "else", "list tags since v6.0.0", 1, repository="/elsewhere")
    await record(world, "secret", f"list tags since {SECRET}", 1)
    await world.ledger.close()


@pytest.mark.anyio
async def test_only_what_was_applied_here_and_kept_counts_as_solved(world: World) -> None:
    await fill(world)
    here = str(world.config.repository)
    with report.reading(world.config.ledger_url) as conn:
        tasks, looked_at = solved_tasks(conn, repository=here, since=f"{NOW - timedelta(days=90)}")
        every, _ = solved_tasks(conn)
    assert [task.task_id for task in tasks if task.task_id != "secret"] == ["t0", "t1", "t2", "t3", "kept"]
    assert looked_at == 8
    assert {task.task_id for task in every} == {"t0", "t1", "t2", "t3", "kept", "old", "else", "secret"}
    first = next(task for task in tasks if task.task_id == "t0")
    assert first == Solved(
        task_id="t0", at=(NOW - timedelta(days=1)).isoformat(), goal="list tags since v1.0.0", files=("CHANGELOG.md",),
        checks=(("make", "lint"),), calls=1, cost_nanousd=3_000_000,
    )  # fmt: skip
    assert next(task for task in tasks if task.task_id == "t2").cost_nanousd is None


@pytest.mark.anyio
async def test_a_job_that_a_trusted_playbook_does_is_said_to_be_done(world: World) -> None:
    await fill(world)
    since = f"{NOW - timedelta(days=90)}"
    [repeat] = suggest(world.config, since=since).repeats
    assert (repeat.count, repeat.total_nanousd, repeat.median_nanousd, repeat.unknown_costs) == (
        5,
        16_000_000,
        4_000_000,
        1,
    )
    assert [one.count for one in suggest(world.config, since=since, all_projects=True).repeats] == [6]
    world.add("history", "say('x')", toml=CHANGELOG)
    [repeat] = suggest(world.config, since=since).repeats
    assert repeat.playbook == "history"


CHANGELOG = """
schema = 1
kind = "script"
version = "1.0.0"
match.phrases = ["list tags since {ref}"]
run = { script = "scripts/run.py", runtime = "python" }
effects = { read_only = true }
[inputs]
ref = { type = "string" }
[outputs]
said = { type = "string" }
"""


@pytest.mark.anyio
async def test_money_saved_is_told_only_where_such_a_task_has_a_known_cost(world: World) -> None:
    assert playbook_figures(world.config) == {}
    world.add("history", "say('x')", toml=CHANGELOG)
    world.add("fresh", "say('x')")
    of: dict[str, Any] = {"version": "1.0.0", "digest": "d"}
    runs: list[tuple[str, str, dict[str, Any]]] = [
        ("history", "ok", {}), ("history", "ok", {}), ("history", "declined", {}), ("fresh", "ok", {}),
        ("history", "ok", {"kind": "skill", "tokens": 9, "cost_nanousd": 500_000}),
    ]  # fmt: skip
    for n, (name, status, more) in enumerate(runs):
        task = Task(task_id=f"run{n}", project=str(world.project), repository=str(world.config.repository),
                    goal="Run it", created_at=NOW)  # fmt: skip
        await world.ledger.open_task(task)
        row = {"task_id": task.task_id, "playbook": name, "status": status, **of, **more}
        await world.ledger.save(PlaybookRun.model_validate(row))
    nothing = {name: (one.runs, one.ok, one.saved_nanousd) for name, one in playbook_figures(world.config).items()}
    assert nothing == {"history": (4, 3, None), "fresh": (1, 1, None)}
    await fill(world)
    told = playbook_figures(world.config)
    assert told["history"] == Figures(
        runs=4, ok=3, last_run=told["history"].last_run, saved_nanousd=3 * 4_000_000 - 500_000
    )
    assert told["history"].last_run is not None
    assert told["fresh"].saved_nanousd is None


@pytest.fixture
def filled(world: World) -> World:
    anyio.run(fill, world)
    return world


def test_the_command_shows_each_job_with_its_cost_and_what_to_do(
    filled: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["playbook", "suggest"]) == 0
    shown = capsys.readouterr().out
    assert "8 tasks since" in shown
    row = next(line for line in shown.splitlines() if line.startswith("list tags since {version}"))
    assert row.split()[4:] == ["5", "0.016", "+", "1", "unknown", "0.004", f"{NOW - timedelta(days=1):%Y-%m-%d}"]
    assert SECRET not in shown
    assert run(["playbook", "suggest", "--json", "--since", "1d"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["repeats"] == []
    assert run(["playbook", "suggest", "--json"]) == 0
    [repeat] = json.loads(capsys.readouterr().out)["repeats"]
    assert repeat["next"].startswith("tierkit playbook ")
    assert repeat["task_ids"] == ["t0", "t1", "t2", "t3", "kept"]


def test_the_command_says_what_to_do_where_nothing_came_again(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["playbook", "suggest"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("0 tasks since")
    assert "--min 2" in shown
    assert run(["playbook", "suggest", "--since", "soon"]) == 2
    assert "such as 90d" in capsys.readouterr().err
