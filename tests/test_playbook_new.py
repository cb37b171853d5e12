"""`tierkit playbook new`: from nothing, a command or a solved task to a folder that passes its own lint and tests."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit import journal
from mcp_tierkit.calls import DraftCall, OutcomeCall, PlanCall
from mcp_tierkit.config import Config
from mcp_tierkit.diffs import patch
from mcp_tierkit.errors import InvalidInput, PolicyRefused
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.playbook.cases import run_cases
from mcp_tierkit.playbook.command import command_starter, needs_shell, programs
from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.lint import lint
from mcp_tierkit.playbook.load import Playbook, load
from mcp_tierkit.playbook.recorded import Recorded, recorded, recorded_starter
from mcp_tierkit.playbook.replay import edits, opened, slots
from mcp_tierkit.playbook.run import Bench, Outcome, run
from mcp_tierkit.playbook.starter import TEMPLATES, Starter, script_starter, write
from mcp_tierkit.reply import playbook_reply
from mcp_tierkit.sandbox import probe
from mcp_tierkit.types import Content, Draft, Task
from mcp_tierkit.workspace import Workspace
from tests.playbooks import World, enter, match
from tests.support import BUGGY, FIXED, JOB, RIGHT, desk_at, make_config, make_project, said

pytestmark = pytest.mark.anyio

Ask = Callable[..., tuple[int, str]]
CART = "shop/cart.py"
REPLAY = runpy.run_path(str(TEMPLATES / "replay" / "scripts" / "run.py"))


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    # What a developer has by having entered their environment.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return enter(world, monkeypatch)


def made(folder: Path) -> Playbook:
    """A playbook that was just written: no finding, and fit to be loaded."""
    assert lint(read_folder(folder)) == ()
    return load(read_folder(folder), "sha256:test", origin="project")


def written(world: World, starter: Starter) -> Playbook:
    """The playbook, written outside the project that it then works on."""
    root = world.project.parent / "written"
    write(starter, root)
    return made(root / starter.name)


def passes(tierkit: Ask, name: str) -> None:
    code, told = tierkit("test", name, "--json")
    cases = json.loads(told)
    assert (code, [case["faults"] for case in cases]) == (0, [[]] * len(cases)), told
    assert len(cases) >= 2


async def run_it(playbook: Playbook, project: Path, **inputs: Any) -> Outcome:
    return await run(playbook, playbook.inputs.check(inputs), Bench(Workspace(project), await probe()))


# --- from nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["python", "bash", "node", "uv", "skill"])
def test_every_starter_passes_its_own_lint_and_cases(runtime: str, world: World, tierkit: Ask) -> None:
    if runtime in ("node", "uv") and not shutil.which(runtime):
        pytest.skip(f"no {runtime} here")
    wanted = ("--kind", "skill") if runtime == "skill" else ("--runtime", runtime)
    code, told = tierkit("new", "my-hello", *wanted)
    assert (code, "Next: tierkit playbook test my-hello" in told) == (0, True)
    made(world.project / "playbooks" / "my-hello")
    passes(tierkit, "my-hello")


ODD = ['"; touch evil #', "$(touch evil)", "`touch evil`", "it's", "\\n\\", "-n", "Zoë 王 🐍", "{'who': 1}", "%s%n"]


async def test_odd_inputs_stay_data_in_the_bash_starter(world: World) -> None:
    playbook = written(world, script_starter("my-hello", "bash"))
    for who in ODD:
        outcome = await run_it(playbook, world.project, who=who)
        assert outcome.output == {"greeting": f"Hello, {who}!"}, outcome.log_tail
    assert not (world.project / "evil").exists()


def test_your_own_playbooks_lie_beside_your_settings(world: World, tierkit: Ask) -> None:
    assert tierkit("new", "my-hello", "--user")[0] == 0
    assert (world.config.user_dir / "playbooks" / "my-hello" / "SKILL.md").is_file()
    assert not (world.project / "playbooks").exists()
    passes(tierkit, "my-hello")


@pytest.mark.parametrize(
    "args",
    [
        ["--kind", "skill", "--runtime", "bash"], ["--from-command", "ls", "--from-task", "t1"],
        ["--writes", "*.py"], ["--from-command", ""], ["--from-command", 'echo "open'], ["--from-command", "/bin/ls"],
        ["--from-command", "rm -rf build; ls"], ["--from-command", 'eval "$X"'],
        ["--from-command", "deploy --token ghp_" + "a1B2" * 9],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_in_three_sentences_and_writes_nothing(
    args: list[str], world: World, tierkit: Ask
) -> None:
    code, told = tierkit("new", "sample", *args)
    assert (code, "Nothing was written. " in told) == (2, True)
    assert "ghp_" not in told
    assert not (world.project / "playbooks").exists()


# --- from a command -------------------------------------------------------------------------------

COMMANDS = [
    "pytest -q --cov", "ruff check .", "git log -3", "python -m pytest", "./gradlew test", "grep -r 'TODO: x' src",
    "grep -rn TODO . | wc -l", "cd src && ls *.py", "FOO=1 make test", "for f in *.md; do wc -l \"$f\"; done",
    "no-such-program --at all | sort", "echo '{\"a\": [1]}' > /dev/null", "printf '%s\\n' \"Zoë\" `pwd`",
    "date +%N; ls", "git push && twine upload dist/*", "npm run dev", "rm -rf build && mkdir -p build", "(exit 3)",
]  # fmt: skip


def test_any_command_becomes_a_playbook_without_a_finding(world: World) -> None:
    for at, command in enumerate(COMMANDS):
        playbook = written(world, command_starter(f"kept-{at}", command, ["build/**"] if "build" in command else []))
        assert playbook.contract.effects.network == command.startswith("git push")
        if not needs_shell(command) and "'" not in command:
            found = match(f"Run {command}", [playbook])
            assert found is not None, command


@pytest.mark.parametrize(
    ("command", "noted"),
    [
        ("pytest -q --cov", "runs a stand-in for pytest"), ("no-such-program ./*.x | sort", "is not installed here"),
        ("date +%N; ls", "No case shows it"),
    ],
)  # fmt: skip
def test_a_kept_command_has_two_passing_cases(command: str, noted: str, world: World, tierkit: Ask) -> None:
    code, told = tierkit("new", "sample", "--from-command", command)
    assert (code, noted in told) == (0, True), told
    passes(tierkit, "sample")


def test_what_an_author_should_know_of_a_command_is_told() -> None:
    told = {
        "git push && twine upload dist/*": "policy.allow_network_playbooks", "npm publish": "cannot be taken back",
        "flask run": "stopped after 30 s", "tail -f log": "stopped after 30 s", "black .": "--writes PATTERN",
    }  # fmt: skip
    for command, noted in told.items():
        assert noted in " ".join(command_starter("sample", command).notes), command
    for command in ("pytest -q", "ruff format --check .", "black --check src", "grep -rn x . 2>/dev/null", "make test"):
        notes = command_starter("sample", command).notes
        assert all("stand-in" in note for note in notes), (command, notes)


PROJECT = {
    "app.py": "import os\n\n\ndef add(a: int, b: int) -> int:\n    return a + b\n",
    "test_app.py": "from app import add\n\n\ndef test_adding() -> None:\n    assert add(1, 2) == 4\n",
}


async def test_real_tools_run_on_a_project_that_cannot_be_written(world: World, tierkit: Ask) -> None:
    for path, text in PROJECT.items():
        (world.project / path).write_text(text)
    before = world.tree()
    told = {"ruff check": (1, "F401"), "python -m pytest -q | tail -n 1": (1, "1 failed")}
    for at, (command, (exit_code, line)) in enumerate(told.items()):
        playbook = written(world, command_starter(f"kept-{at}", command))
        outcome = await run_it(playbook, world.project)
        assert outcome.output is not None, outcome.log_tail
        assert (outcome.output["exit_code"], outcome.output["passed"]) == (exit_code, exit_code == 0), outcome
        assert line in outcome.output["output"]
        assert str(world.project) not in outcome.output["output"]
    assert world.tree() == before


async def test_a_command_may_write_where_it_was_allowed_to_and_nowhere_else(world: World) -> None:
    (world.project / "a.py").write_text("x = {  'a':1 }\n")
    outcome = await run_it(written(world, command_starter("tidy", "ruff format .", ["**/*.py"])), world.project)
    assert [*outcome.changes] == ["a.py"]
    assert (world.project / "a.py").read_text() == "x = {  'a':1 }\n"


@pytest.mark.parametrize(("exit_code", "fine"), [(0, ()), (3, ()), (10, ()), (3, (0, 3)), (10, (10,))])
async def test_a_kept_command_that_fails_is_a_failed_run_with_its_output_and_without_its_changes(
    world: World, exit_code: int, fine: tuple[int, ...]
) -> None:
    """Whoever reads the status alone must not take a red command for a green one; 10 is no way to decline."""
    command = f"echo x > made.txt; echo three are left; exit {exit_code}"
    files = dict(command_starter("sample", command, ["*.txt"]).files)
    kept = json.loads(files["assets/command.json"].data)
    assert kept["ok_exit_codes"] == [0]
    if fine:
        files["assets/command.json"] = Content(data=json.dumps(kept | {"ok_exit_codes": fine}).encode())
    folder = world.project / "playbooks" / "sample"
    write(Starter(name="sample", files=files), folder.parent)
    world.trust(folder)
    ran = await world.run("sample")
    is_fine = exit_code in (fine or (0,))
    assert ran.output == {"passed": exit_code == 0, "exit_code": exit_code, "output": "three are left"}
    assert (ran.status, ran.changed) == (("ok", ("made.txt",)) if is_fine else ("failed", ()))
    assert (world.project / "made.txt").exists() == is_fine
    reply = playbook_reply(ran)
    assert reply["output"] == ran.output
    assert ("it failed; nothing was changed" in reply["summary"]) == (not is_fine)
    assert reply["next"] == ("Use the output." if is_fine else "It failed: the output says why.")


async def test_a_program_of_the_project_comes_first_and_a_missing_one_declines(world: World) -> None:
    program = world.project / "node_modules" / ".bin" / "eslint"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nfor n in $(seq 500); do echo line $n; done\necho 'x.js: error' \"$@\"\nexit 2\n")
    program.chmod(0o755)
    (world.project / "packages").mkdir()
    playbook = written(world, command_starter("lint-all", "eslint 'a  b' '$HOME;' ."))
    outcome = await run_it(playbook, world.project, folder="packages")
    assert outcome.output is not None
    assert outcome.output["output"].endswith("x.js: error a  b $HOME; .")
    assert "[473 lines left out]" in outcome.output["output"]
    program.unlink()
    assert (await run_it(playbook, world.project)).status == "declined"
    with pytest.raises(ValueError, match="a plain path inside the project"):
        await run_it(playbook, world.project, folder="..")


@pytest.mark.parametrize(
    ("command", "shell", "calls"),
    [
        ("pytest -q", False, ("pytest",)), ("grep 'a|b' \"c d\"", False, ("grep",)), ('echo "$HOME"', True, ()),
        ("a | b && c || d; e", True, ("a", "b", "c", "d", "e")), ("X=1 a 2>&1 >out", True, ("a",)),
        ("if a; then b; fi", True, ()), ("cat <<E\nfoo\nE", True, ()), ("(cd x; make) | tee y", True, ("make", "tee")),
        ("ls *.py", True, ("ls",)), ("a ~/x", True, ("a",)), ("a\nb", True, ("a", "b")),
    ],
)  # fmt: skip
def test_shell_syntax_and_the_programs_in_it_are_seen(command: str, shell: bool, calls: tuple[str, ...]) -> None:
    assert (needs_shell(command), programs(command)) == (shell, calls)


# --- from a task ----------------------------------------------------------------------------------

LINES = st.lists(st.sampled_from(["a", "b", "total", "{text}", "{name}", "", "x = 30", "\r", "é"]), max_size=12)
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))
GOALS = st.sampled_from(["Rename total to 'b'.", "Set x to 30 and {name}.", "", "`é` total é 30 30"])


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a.py", "b/total.txt"]), st.tuples(st.none() | TEXTS, st.none() | TEXTS)), GOALS
)
def test_replaying_the_recorded_words_on_the_files_before_gives_the_files_after(
    files: dict[str, tuple[str | None, str | None]], goal: str
) -> None:
    before, after = ({path: pair[side] for path, pair in files.items()} for side in (0, 1))
    parts = edits(before, after)
    holes = slots(goal, parts)
    inputs = {slot.name: slot.value for slot in holes}
    plain = [part.model_dump() for part in opened(parts, holes)]
    changed = REPLAY["replayed"](plain, inputs, before.get)
    assert {**before, **changed} == after
    assert len(inputs) == len(holes)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("a\n", "b\n", "a\na\n"), ("a\n", "b\n", "c\n"), ("a\n", "b\n", None), ("", "b\n", "c\n"), (None, "b\n", "c\n"),
        ("a\n", None, "a\nc\n"), ("aXa", "b", "aXaXa"),
    ],
)  # fmt: skip
def test_a_change_is_made_again_only_where_there_is_one_way_to_make_it(
    before: str | None, after: str | None, text: str | None
) -> None:
    with pytest.raises(REPLAY["Declined"]):
        REPLAY["replayed"]([{"path": "x", "before": before, "after": after}], {}, {"x": text}.get)


def test_holes_are_the_goals_own_words_and_no_others() -> None:
    before, after = {"a.py": "retries = 3\nlimit = total(3)\n"}, {"a.py": "retries = 5\nlimit = total(3)\n"}
    found = slots("Set the `retries` to 5, not 3, and return total.", edits(before, after))
    assert [(slot.name, slot.value) for slot in found] == [("text", "retries"), ("number", "5"), ("number_2", "3")]


async def solved(base: Path) -> tuple[Config, str]:
    """A project whose task a model solved, and the task's id."""
    config = make_config(make_project(base / "shop"), base / "user")
    async with desk_at(config, ScriptedGateway([said(RIGHT)])) as desk:
        told = await desk.draft(DraftCall(**JOB), client="test")
    assert told["status"] == "applied"
    return config, told["task_id"]


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `solved` puts the user and the project, for the command line."""
    monkeypatch.setenv("TIERKIT_CONFIG", str(tmp_path / "user" / "tierkit.toml"))
    monkeypatch.setenv("TIERKIT_STATE_DIR", str(tmp_path / "user" / "state"))
    monkeypatch.setenv("TIERKIT_LEDGER", f"sqlite:///{tmp_path}/user/ledger.db")
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path


def test_a_solved_task_is_made_again_elsewhere_with_other_words(at_home: Path, tierkit: Ask, tmp_path: Path) -> None:
    _, task_id = anyio.run(solved, at_home)
    code, told = tierkit("new", "percent-off", "--from-task", task_id)
    assert (code, "Holes, from the goal's own words: name (discount)." in told) == (0, True), told
    folder = at_home / "shop" / "playbooks" / "percent-off"
    playbook = made(folder)
    real = (at_home / "shop" / ".tierkit" / f"{task_id}.patch").read_text()
    assert (folder / "tests/recorded/expected.diff").read_text() == real == patch({CART: BUGGY}, {CART: FIXED})
    assert (folder / "tests/recorded/workspace" / CART).read_text() == BUGGY
    assert playbook.contract.effects.writes == (f"/{CART}",)
    found = match(JOB["task"].replace("discount", "rebate"), [playbook])
    assert found is not None
    assert found.inputs == {"name": "rebate"}
    other = tmp_path / "other"
    (other / "shop").mkdir(parents=True)
    (other / CART).write_text(BUGGY.replace("discount", "rebate"))
    outcome = anyio.run(partial(run_it, playbook, other, **found.inputs))
    changed = outcome.changes[CART]
    assert changed is not None
    assert changed.data.decode() == FIXED.replace("discount", "rebate")
    (other / CART).write_text(FIXED)
    assert anyio.run(partial(run_it, playbook, other, name="discount")).status == "declined"


def test_a_task_that_left_no_change_of_this_project_is_refused(at_home: Path, tierkit: Ask, tmp_path: Path) -> None:
    config, task_id = anyio.run(solved, at_home)

    async def undone_and_planned() -> str:
        async with desk_at(config) as desk:
            await desk.record_outcome(OutcomeCall(task_id=task_id, outcome="reverted", undo=True))
            return str((await desk.plan_task(PlanCall(**JOB), client="test"))["task_id"])

    (tmp_path / "other").mkdir()
    code, told = tierkit("new", "again", "--from-task", task_id, "--project", str(tmp_path / "other"))
    assert (code, "belongs to another project. Nothing was written." in told) == (2, True), told
    planned = anyio.run(undone_and_planned)
    for wanted, why in (
        (task_id, "was taken back"),
        (planned, "it was never drafted"),
        ("t000", "No task has id 't000'"),
    ):
        code, told = tierkit("new", "again", "--from-task", wanted)
        assert (code, why in told, "Nothing was written. " in told) == (2, True, True), told
    assert not (at_home / "shop" / "playbooks").exists()


async def applied(world: World, changes: dict[str, str | None]) -> Recorded:
    """What is recorded of a task that made these changes, as a draft that was applied leaves it."""
    world.runs += 1
    task_id, root = f"t{world.runs:012}", str(world.project)
    now = datetime.now(UTC)
    await world.ledger.open_task(Task(task_id=task_id, project=root, goal="Put 5 for MAX in {x}.", created_at=now))
    await world.ledger.save(Draft(task_id=task_id, status="applied"))
    new = {path: None if text is None else Content(data=text.encode()) for path, text in changes.items()}
    expected = {path: world.workspace.digest(path) for path in changes}
    journal.apply(world.workspace, world.config.state_dir, task_id, new, expected)
    return await recorded(world.ledger, world.workspace, world.config.state_dir, task_id)


async def test_files_made_removed_and_oddly_ended_are_made_again(world: World) -> None:
    old = {"a b.txt": "x\r\nMAX = 3\r\nx\r\n", "gone.py": "MAX\n", "{x}.md": "{number} 3 3", "same.txt": "y\n"}
    for path, text in old.items():
        (world.project / path).write_bytes(text.encode())
    new = {"a b.txt": "x\r\nMAX = 5\r\nx\r\n", "gone.py": None, "{x}.md": "{number} 5 3", "new/MAX.py": "MAX = 5\n"}
    seen = await applied(world, new)
    playbook = written(world, recorded_starter("again", seen))
    confinement = await probe()
    assert [(one.name, one.faults) async for one in run_cases(playbook, confinement)] == [
        ("elsewhere", ()), ("recorded", ())
    ]  # fmt: skip
    assert playbook.contract.effects.writes == ("/*.md", "/a\\ b.txt", "/gone.py", "/new/*.py")


async def test_a_change_with_a_secret_in_it_is_never_kept(world: World) -> None:
    secret = "ghp_" + "a1B2" * 9
    (world.project / "a.py").write_text(f"x = 1\nKEY = '{secret}'\n")
    with pytest.raises(PolicyRefused) as refused:
        await applied(world, {"a.py": "x = 5\n"})
    assert "in a.py. Nothing was written." in str(refused.value)
    assert secret not in str(refused.value)
    with pytest.raises(InvalidInput, match="which is not text"):
        await applied(world, {"b.bin": "a\0b"})
