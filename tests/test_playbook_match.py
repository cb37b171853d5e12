"""A task's own words ask for a playbook, or they do not."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client

from mcp_tierkit.errors import NotFound
from mcp_tierkit.ledger.report import reading
from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.load import Playbook, builtin_root, load
from mcp_tierkit.playbook.match import PhraseBook
from mcp_tierkit.playbook.memo import Memo
from mcp_tierkit.playbook.trust import trust, untrust
from mcp_tierkit.routing import Match
from mcp_tierkit.stages.playbook import Shelf, list_entries, match_playbook, open_shelf, repository_of
from mcp_tierkit.types import Completion, Request
from tests.playbooks import WRITES, World, folder_of, make_playbook, match
from tests.support import client_at, make_config

CONTRACT = """
schema = 1
kind = "script"
version = "1.0.0"
match.phrases = {phrases}
run = {{ script = "scripts/run.py", runtime = "python" }}
effects = {{ read_only = true }}
[inputs]
{inputs}
"""

RUN = 'run = { script = "scripts/run.py", runtime = "python" }\n'
JUDGE = CONTRACT.format(phrases=["judge {x}"], inputs='x = { type = "string" }').replace(RUN, "")
SKILL = JUDGE.replace('"script"', '"skill"') + '[outputs]\ny = { type = "string" }\n'
DECISION = JUDGE.replace('"script"', '"decision"').replace("[inputs]", '[decision]\nkey = ["x"]\n[inputs]')


def made(name: str, *phrases: str, inputs: str = 'x = { type = "string" }') -> Playbook:
    text = CONTRACT.format(phrases=list(phrases), inputs=inputs)
    return load(folder_of({"playbook.toml": text, "scripts/run.py": ""}, name), "", origin="project")


@pytest.fixture(scope="module")
def shipped() -> list[Playbook]:
    folders = sorted(path.parent for path in builtin_root().glob("*/playbook.toml"))
    return [load(read_folder(path), "", origin="package") for path in folders]


def found(task: str, playbooks: list[Playbook]) -> tuple[str, dict[str, Any]] | None:
    hit = match(task, playbooks)
    return (hit.name, hit.inputs) if hit else None


@pytest.mark.parametrize(
    ("task", "name", "inputs"),
    [
        ("changelog since v1.0.0", "changelog-from-git", {"from_ref": "v1.0.0", "to_ref": "HEAD", "limit": 200}),
        ("Changelog since v1.0.0.", "changelog-from-git", {"from_ref": "v1.0.0", "to_ref": "HEAD", "limit": 200}),
        ("  CHANGELOG   since\n v1.0.0 ", "changelog-from-git", {"from_ref": "v1.0.0", "to_ref": "HEAD", "limit": 200}),
        ("release notes from v1 to Main", "changelog-from-git", {"from_ref": "v1", "to_ref": "Main", "limit": 200}),
        ("rename total to grand_total", "rename-symbol", {"old": "total", "new": "grand_total"}),
        ("Rename `Total` to 'grand_total'.", "rename-symbol", {"old": "Total", "new": "grand_total"}),
        (
            "weekly metrics report for 2024-W10",
            "weekly-metrics-report",
            {"database": "data/shop.db", "week": "2024-W10"},
        ),
    ],
)
def test_a_phrase_is_found_with_its_inputs_filled(
    shipped: list[Playbook], task: str, name: str, inputs: dict[str, Any]
) -> None:
    assert found(task, shipped) == (name, inputs)


@pytest.mark.parametrize(
    "task",
    [
        "",
        " ",
        "changelog",
        "changelog since",
        "changelog since last week",
        "rewrite the changelog since v1.0.0",
        "write the changelog for this release",
        "run the tests and tell me what fails",
        "changelog since v1.0.0 and email it",
        "changelog since --output=x",
        "changelog since $(id)",
        "rename total to grand_total in shop only",
        "rename the total to grand_total",
        "rename total to grand-total",
        "rename total grand_total",
        "do not rename total to grand_total",
        "weekly metrics report for last week",
        "weekly metrics report for 2024-W1",
        "weekly metrics reports for 2024-W10",
        "rename total to grand_total " + "x" * 2000,
        "rename 'total to grand_total",
    ],
)
def test_a_near_miss_is_not_a_match(shipped: list[Playbook], task: str) -> None:
    assert found(task, shipped) is None


def test_a_quoted_value_may_hold_spaces_and_an_unquoted_one_may_not() -> None:
    playbooks = [made("sample", "summarise {x} now")]
    assert found('summarise "my file.txt" now', playbooks) == ("sample", {"x": "my file.txt"})
    assert found("summarise my file.txt now", playbooks) is None


def test_slots_inside_a_word_are_read_only_where_there_is_one_way() -> None:
    playbooks = [made("sample", "diff {a}..{b} please", inputs='a = { type = "string" }\nb = { type = "string" }')]
    assert found("diff v1..v2 please", playbooks) == ("sample", {"a": "v1", "b": "v2"})
    assert found("diff v1..v2..v3 please", playbooks) is None
    assert found("diff ..v2 please", playbooks) is None


def test_numbers_and_booleans_are_typed() -> None:
    inputs = 'n = { type = "integer", maximum = 9 }\nb = { type = "boolean", default = false }'
    playbooks = [made("sample", "print {n} copies", "print {n} copies with cover {b}", inputs=inputs)]
    assert found("print 3 copies", playbooks) == ("sample", {"n": 3, "b": False})
    assert found("print 3 copies with cover true", playbooks) == ("sample", {"n": 3, "b": True})
    for task in ("print 10 copies", "print 3.5 copies", "print three copies", "print 3 copies with cover yes"):
        assert found(task, playbooks) is None


def test_a_phrase_that_leaves_an_input_open_never_matches() -> None:
    playbooks = [made("sample", "make it so", inputs='x = { type = "string" }')]
    assert found("make it so", playbooks) is None


def test_the_more_literal_phrase_wins_and_two_equally_good_ones_are_no_match() -> None:
    near, far = made("near", "report for {x}"), made("far", "report for {x}")
    literal = made("literal", "report for march", inputs="")
    assert found("report for march", [near, literal]) == ("literal", {})
    assert found("report for march", [near, far, literal]) == ("literal", {})
    assert found("report for april", [near, literal]) == ("near", {"x": "april"})
    assert found("report for april", [near, far, literal]) is None
    crossed = [made("one", "{x} for march"), made("two", "report for {x}")]
    assert found("summary for march", crossed) == ("one", {"x": "summary"})
    assert found("report for march", crossed) is None, "neither is literal wherever the other is"


def test_phrases_of_one_playbook_that_read_a_task_differently_are_no_match() -> None:
    inputs = 'x = { type = "string", default = "" }\ny = { type = "string", default = "" }'
    assert found("report for may", [made("sample", "report for {x}", "report for {y}", inputs=inputs)]) is None
    assert found("say hello please", [made("sample", "say {x} {y}", "say {x}", inputs=inputs)]) is None
    assert found("say hello please", [made("sample", "say {x} {y}", inputs=inputs)]) is not None


@pytest.mark.parametrize(
    "task",
    [
        "please rename total to grand_total", "Please, rename total to grand_total.",
        "rename total to grand_total, please!", "rename total to grand_total for me, please. Thanks!",
        "Could you please rename total to grand_total?", "kindly rename `total` to \"grand_total\" thank you",
        "rename `total` to `grand_total`, thanks.", "rename total to grand_total!",
    ],
)  # fmt: skip
def test_courtesy_around_a_phrase_changes_nothing(shipped: list[Playbook], task: str) -> None:
    assert found(task, shipped) == ("rename-symbol", {"old": "total", "new": "grand_total"})


def test_a_question_is_answered_only_by_a_phrase_that_asks() -> None:
    playbooks = [made("lister", "what changed since {x}"), made("teller", "changes since {x}")]
    assert found("What changed since v1?", playbooks) == ("lister", {"x": "v1"})
    assert found("what changed since v1.", playbooks) == ("lister", {"x": "v1"})
    assert found("changes since v1", playbooks) == ("teller", {"x": "v1"})
    for task in ("changes since v1?", "can you tell changes since v1?", "please changes since v1?"):
        assert found(task, playbooks) is None, task


def test_a_word_that_only_points_is_no_value_unless_it_is_quoted(shipped: list[Playbook]) -> None:
    assert found("rename it to total", shipped) is None
    assert found("rename everything to total", shipped) is None
    assert found("rename `it` to total", shipped) == ("rename-symbol", {"old": "it", "new": "total"})


@pytest.mark.parametrize("value", ["may,", "may;", "may:", "may?", "'may", "may'", 'm"ay', "m`ay", '""'])
def test_a_value_that_ends_a_clause_or_opens_a_quotation_is_no_value(value: str) -> None:
    assert found(f"report for {value}", [made("sample", "report for {x}")]) is None


def test_a_decision_is_never_matched_and_a_skill_says_that_it_is_one() -> None:
    skill, decision = (
        load(folder_of({"playbook.toml": text}, name), "", origin="project")
        for name, text in (("skill", SKILL), ("decision", DECISION))
    )
    hit = match("judge mallory", [skill, decision])
    assert hit == Match(name="skill", inputs={"x": "mallory"}, kind="skill")
    assert match("judge mallory", [decision]) is None


def test_hostile_text_in_a_task_stays_a_value() -> None:
    playbooks = [made("sample", "report for {x}")]
    for value in (";rm", "$(id)", "`id`", "{x}", "{0}", "%s", "../../etc/passwd", "--help"):
        assert found(f'report for "{value}"', playbooks) == ("sample", {"x": value})


WORDS = st.text(st.sampled_from("abcdefgh"), min_size=2, max_size=6)
VALUES = st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]), min_size=1, max_size=20)


@st.composite
def phrases(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """The words of a phrase, at least two of them literal, and a value for each of its slots."""
    words = draw(st.lists(WORDS, min_size=2, max_size=6))
    values = draw(st.dictionaries(st.sampled_from(["x1", "x2", "x3"]), VALUES, max_size=3))
    for name in values:
        words.insert(draw(st.integers(0, len(words))), f"{{{name}}}")
    return words, values


@settings(max_examples=150, deadline=None)
@given(phrases(), st.data())
def test_a_filled_phrase_gives_back_its_values_and_one_changed_word_gives_nothing(
    phrase: tuple[list[str], dict[str, str]], data: st.DataObject
) -> None:
    words, values = phrase
    playbooks = [
        made("sample", " ".join(words), inputs="\n".join(f'{name} = {{ type = "string" }}' for name in values))
    ]
    filled = [f"'{values[word[1:-1]]}'" if word.startswith("{") else word for word in words]
    assert found(" ".join(filled), playbooks) == ("sample", values)
    at = data.draw(st.sampled_from([at for at, word in enumerate(words) if not word.startswith("{")]))
    other = data.draw(st.one_of(WORDS, VALUES).filter(lambda word: word.split() and word.casefold() != words[at]))
    dropped, added = filled[:at] + filled[at + 1 :], [*filled[:at], "not", *filled[at:]]
    changed = [*filled[:at], other, *filled[at + 1 :]]
    assert [found(" ".join(task), playbooks) for task in (dropped, added)] == [None, None]
    if other.rstrip(".!").casefold() != words[at]:  # A mark behind the last word ends the sentence.
        assert found(" ".join(changed), playbooks) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_crashes_the_matcher(text: str) -> None:
    playbooks = [made("sample", "report for {x}", "{x}: totals")]
    hit = match(text, playbooks)
    assert hit is None or hit.name == "sample"


def test_matching_is_linear_in_hostile_text() -> None:
    inputs = "\n".join(f'{name} = {{ type = "string" }}' for name in "abcdef")
    playbooks = [made("sample", "go {a}-{b}-{c}-{d}-{e}-{f}", inputs=inputs)]
    started = time.process_time()
    for task in ("go " + "-" * 990, "go " + "a-" * 490, "'" * 1000, '"' + "a " * 499):
        assert match(task, playbooks) is None
    assert time.process_time() - started < 5


def test_a_task_is_looked_up_and_not_tried_against_each_phrase() -> None:
    inputs = 'a = { type = "string" }\nb = { type = "string", default = "x" }'
    words = [f"make the same report of the month {n} for {{a}}" for n in range(2000)]
    book = PhraseBook([made(f"p{n}", *words[n::100], inputs=inputs) for n in range(100)])
    tasks = ["make the same report of the month 1999 for may", "make the same report of the month 2000 for may"]
    hit = book.match(tasks[0])
    assert hit is not None
    assert hit.inputs["a"] == "may"
    calls = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        for task in tasks:
            book.match(task)
    finally:
        sys.setprofile(None)
    assert calls < 500


def test_every_labelled_task_gets_the_shipped_playbook_and_inputs_of_its_label(shipped: list[Playbook]) -> None:
    tasks = json.loads((Path(__file__).parent / "fixtures/match_tasks.json").read_text("utf-8"))
    book, named = PhraseBook(shipped), {playbook.name: playbook for playbook in shipped}
    wrong = []
    for row in tasks:
        hit, name = book.match(row["task"]), row["playbook"]
        expected = (name, named[name].inputs.check(row["inputs"])) if name else None
        if (hit and (hit.name, hit.inputs)) != expected:
            wrong.append((row, hit))
    assert wrong == []
    assert {row["playbook"] for row in tasks} - {None} == {playbook.name for playbook in shipped if playbook.phrases}


# --- the shelf and the server


class Forbidden:
    """A gateway that no test here may reach."""

    async def ready(self) -> None:
        raise AssertionError("a model was about to be called")

    async def complete(self, request: Request) -> Completion:
        raise AssertionError(f"a model was called: {request.stage}")


async def told(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    reply: dict[str, Any] = result.structured_content
    return reply


@pytest.mark.anyio
async def test_a_task_that_a_playbook_does_costs_no_token_from_plan_to_ledger(world: World) -> None:
    world.add("greet", "say('hello ' + inputs['word'])")
    async with client_at(world.config, Forbidden()) as client:
        planned = await told(client, "plan_task", task="Please greet `Ada L.`.")
        assert planned["decision"] == "run_playbook"
        assert planned["playbook"] == {"name": "greet", "inputs": {"word": "Ada L."}}
        assert planned["estimate"] == {"tokens": 0, "usd": "0"}
        assert "zero tokens" in planned["summary"]
        ran = await told(client, "run_playbook", **planned["playbook"])
    assert (ran["status"], ran["output"]) == ("ok", {"said": "hello Ada L."})
    with reading(world.config.ledger_url) as conn:
        rows = conn.execute("select playbook, status, kind, tokens, cost_nanousd from playbook_runs").fetchall()
        assert [tuple(row) for row in rows] == [("greet", "ok", "script", 0, 0)]
        assert conn.execute("select count(*) from calls").fetchone()[0] == 0
    [run] = await world.ledger.playbook_runs(ran["task_id"])
    assert (run.origin, run.hides, run.kind, run.tokens, run.cost_nanousd) == ("project", (), "script", 0, 0)


@pytest.mark.anyio
async def test_what_could_not_run_here_is_not_advised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("plain", "say('x')")
    world.add("caller", "say('x')", effects="read_only = true, network = true")
    world.add("writer", "say('x')", effects=WRITES)
    path = CONTRACT.format(phrases=["weigh {x}"], inputs='x = { type = "string", format = "project-path" }')
    world.add("weigher", "say('x')", toml=path)
    items = '{ type = "string", format = "project-path" }'
    listed = f'x = {{ type = "array", items = {items}, default = ["it.txt", "gone.txt"] }}'
    world.add("counter", "say('x')", toml=CONTRACT.format(phrases=["count all"], inputs=listed))
    world.add("judge", "say('x')", toml=SKILL)
    (world.project / "link").symlink_to("/etc/passwd")
    (world.project / "it.txt").touch()

    async def decisions(*tasks: str) -> list[bool]:
        async with client_at(world.config, Forbidden()) as client:
            return [(await told(client, "plan_task", task=task))["decision"] == "run_playbook" for task in tasks]

    async with client_at(world.config, Forbidden()) as client:
        planned = await told(client, "plan_task", task="caller x", files=["a.txt"])
    assert planned["playbook"]["name"] == "caller"
    assert "wants the network, which your configuration does not allow" in planned["playbook"]["refused"]
    tasks = ("plain x", "caller x", "weigh it.txt", "weigh .", "weigh gone.txt", "weigh link", "judge x", "count all")
    assert await decisions(*tasks) == [True, False, True, True, False, False, False, False]
    monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    assert await decisions("plain x", "writer x") == [True, False]


@pytest.mark.anyio
async def test_a_skill_is_advised_with_what_its_call_may_cost(tmp_path: Path) -> None:
    project = tmp_path / "app"
    project.mkdir()
    config = make_config(project, tmp_path / "home")
    skill = CONTRACT.format(phrases=["judge {x}"], inputs='x = { type = "string" }').replace('"script"', '"skill"')
    skill = (
        skill.replace('run = { script = "scripts/run.py", runtime = "python" }\n', "")
        + '[outputs]\ny = { type = "string" }'
    )
    folder = make_playbook(project, "judge", "", toml=SKILL)
    shutil.rmtree(folder / "scripts")
    trust(config.state_dir, read_folder(folder), repository=repository_of(config, "project"))
    async with client_at(config, Forbidden()) as client:
        planned = await told(client, "plan_task", task="judge mallory")
    assert planned["playbook"] == {"name": "judge", "inputs": {"x": "mallory"}}
    assert "one cheap call" in planned["summary"]
    assert "zero tokens" not in str(planned)
    assert planned["estimate"]["model"] == "openai/tiny-cheap"
    assert 0 < float(planned["estimate"]["run_usd_at_most"]) < 0.1


def test_the_shelf_is_read_anew_when_anything_that_matters_has_changed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shipped").mkdir()  # Forty shelves are opened here: what ships is left out.
    monkeypatch.setattr("mcp_tierkit.playbook.load.builtin_root", lambda: tmp_path / "shipped")
    opened, memo = [0], Memo[Shelf]()

    def counted(*args: Any, **more: Any) -> Shelf:
        opened[0] += 1
        return open_shelf(*args, **more)

    monkeypatch.setattr("mcp_tierkit.stages.playbook.open_shelf", counted)
    monkeypatch.setattr("mcp_tierkit.playbook.memo.FRESH_NS", -(10**12))  # These files are as old as they need be.
    monkeypatch.setattr("mcp_tierkit.playbook.memo.FRESH_WHOLE_NS", -(10**12))

    def seen(task: str) -> str | None:
        hit = match_playbook(world.config, task, memo)
        assert hit == match_playbook(world.config, task), "the memo never changes the answer"
        return hit.name if hit else None

    def reads() -> int:
        read, opened[0] = opened[0], 0
        return read - 1  # One of them is the look without a memo.

    folder = world.add("greet", "say('x')")
    assert (seen("greet you_all"), reads()) == ("greet", 1)
    assert (seen("greet you_all"), reads()) == ("greet", 0)
    assert (seen("mend the till"), reads()) == (None, 0)
    script = folder / "scripts/run.py"
    good = script.read_bytes()
    was = script.stat()
    script.write_bytes(good.replace(b"x", b"y"))
    os.utime(script, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (seen("mend the till"), reads()) == (None, 0), "nothing that it hides could do this task"
    assert (seen("greet you_all"), reads()) == (None, 1), "other bytes of the same size, with the time set back"
    script.write_bytes(good)
    assert (seen("greet you_all"), reads()) == ("greet", 1), "trusted again, and the store is as it was"
    make_playbook(world.project, "leave", "say('x')")
    assert (seen("leave now"), reads()) == (None, 1), "a new name"
    assert (seen("leave now"), reads()) == (None, 0)
    world.trust(world.project / "playbooks/leave")
    assert (seen("leave now"), reads()) == ("leave", 1)
    mine = make_playbook(world.config.user_dir, "greet", "say('mine')", toml=CONTRACT.format(
        phrases=["salute {x}"], inputs='x = { type = "string" }'))  # fmt: skip
    trust(world.config.state_dir, read_folder(mine), repository=None)
    assert (seen("salute ada"), reads()) == (None, 1), "the nearer one hides it"
    script.chmod(0o600)
    assert (seen("salute ada"), reads()) == ("greet", 1), "and no longer does"
    untrust(world.config.state_dir, "greet", repository=None)
    assert (seen("salute ada"), reads()) == (None, 1)
    shutil.rmtree(world.project / "playbooks")
    assert (seen("leave now"), reads()) == (None, 1)


def test_nothing_is_kept_of_a_file_that_was_written_a_moment_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")

    def makes(moment_ns: int) -> int:
        made, memo = [0], Memo[None]()
        monkeypatch.setattr("mcp_tierkit.playbook.memo.FRESH_NS", moment_ns)
        monkeypatch.setattr("mcp_tierkit.playbook.memo.FRESH_WHOLE_NS", moment_ns)
        for _ in range(3):
            memo.get(None, lambda: [tmp_path], lambda: made.__setitem__(0, made[0] + 1), lambda value: [tmp_path])
        return made[0]

    assert makes(10**15) == 3
    assert makes(-(10**15)) == 1


def test_the_nearer_one_says_what_it_hides_and_a_broken_one_does_not_give_way(world: World) -> None:
    def greet() -> tuple[str, tuple[str, ...]]:
        shelf = open_shelf(world.config, name="greet")
        return shelf.named("greet").origin, shelf.hides("greet")

    far = make_playbook(world.config.user_dir, "greet", "say('far')")
    near = make_playbook(world.project, "greet", "say('near')")
    trust(world.config.state_dir, read_folder(far), repository=None)
    assert greet() == ("user", ())
    world.trust(near)
    assert greet() == ("project", ("user",))
    [entry] = [entry for entry in list_entries(world.config) if entry.name == "greet"]
    assert (entry.origin, entry.hides) == ("project", ("user",))
    (near / "playbook.toml").write_text("schema = 2")
    assert greet() == ("user", ()), "it is not trusted as it is now"
    world.trust(near)
    with pytest.raises(NotFound, match="cannot be loaded"):
        greet()
    assert match_playbook(world.config, "greet ada") is None
    [entry] = [entry for entry in list_entries(world.config) if entry.name == "greet"]
    assert (entry.origin, entry.trusted, entry.hides) == ("project", True, ("user",))
    assert entry.fault


def test_a_folder_that_was_never_trusted_is_not_looked_into(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    make_playbook(world.project, "stranger", "say('x')")
    world.add("friend", "say('x')")
    read: list[str] = []

    def noted(path: Path, **more: Any) -> Any:
        read.append(path.name)
        return read_folder(path, **more)

    monkeypatch.setattr("mcp_tierkit.stages.playbook.read_folder", noted)
    shelf = open_shelf(world.config)
    assert "stranger" in {found.name for found in shelf.untrusted}
    assert "friend" in read
    assert "stranger" not in read
