"""`tierkit playbook …` as a person uses it: exit codes, JSON, and a new playbook from nothing to a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_tierkit.cli import run as cli
from tests.playbooks import WRITES, World, make_playbook, make_world
from tests.support import client_at

pytestmark = pytest.mark.anyio

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(tmp_path)
    monkeypatch.chdir(world.project)
    monkeypatch.setenv("TIERKIT_CONFIG", str(world.config.config_file))
    monkeypatch.setenv("TIERKIT_STATE_DIR", str(world.config.state_dir))
    monkeypatch.delenv("TIERKIT_LEDGER", raising=False)
    return world


@pytest.fixture
def tierkit(world: World, capfd: pytest.CaptureFixture[str]) -> Ask:
    def ask(*args: str) -> tuple[int, str]:
        capfd.readouterr()
        code = cli(["playbook", *args])
        seen = capfd.readouterr()
        return code, seen.out + seen.err

    return ask


def test_a_new_playbook_lints_tests_and_runs_once_it_is_trusted(world: World, tierkit: Ask) -> None:
    assert tierkit("new", "my-report")[0] == 0
    assert tierkit("lint", "my-report") == (0, "0 findings.\n")
    code, said = tierkit("test", "my-report")
    assert (code, said.count("passed  ")) == (0, 2)
    assert said.endswith("2 cases passed, each twice. Next: tierkit playbook trust my-report\n")
    code, said = tierkit("run", "my-report", "who=Ada")
    assert (code, said[:9]) == (3, "untrusted")
    world.trust(world.project / "playbooks" / "my-report")
    code, said = tierkit("run", "my-report", "who=Ada", "--json")
    record = json.loads(said)
    assert (code, record["status"]) == (0, "ok")
    assert (next(iter(record)), next(reversed(record))) == ("summary", "next")
    assert tierkit("new", "my-report")[0] == 2
    assert tierkit("new", "../evil")[0] == 2
    assert not (world.project.parent / "evil").exists()


def test_the_list_names_the_untrusted_and_describes_the_trusted(world: World, tierkit: Ask) -> None:
    make_playbook(world.project, "theirs", "", files={"SKILL.md": "---\nname: theirs\ndescription: HOSTILE\n---\n"})
    code, said = tierkit("list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(said)}
    assert code == 0
    assert entries["rename-symbol"]["trusted"]
    assert entries["theirs"]["version"] is None
    assert "HOSTILE" not in said
    assert tierkit("show", "theirs")[0] == 3
    code, said = tierkit("show", "rename-symbol", "--files")
    assert (
        code,
        "=== scripts/run.py\n" in said and "\nimport " in said,
        "old  string, pattern ^[A-Za-z_]" in said,
    ) == (0, True, True)


def test_the_list_tells_what_is_hidden_what_is_broken_and_what_ran(world: World, tierkit: Ask) -> None:
    world.add("rename-symbol", "say('mine')")
    world.trust(make_playbook(world.project, "broken", "", files={"playbook.toml": "schema = 2"}))
    assert tierkit("run", "rename-symbol")[0] == 0
    code, said = tierkit("list")
    lines = said.splitlines()
    at = lines.index("rename-symbol  1.0.0  script  project  trusted, hides that of the package")
    assert (code, lines[at + 2].startswith("    runs: 1, ok: 1, last: 2")) == (0, True)
    assert lines[at + 2].endswith(", saved: -")
    assert "broken  -  -  project  cannot be loaded" in lines
    entries = {entry["name"]: entry for entry in json.loads(tierkit("list", "--json")[1])}
    assert (entries["rename-symbol"]["runs"], entries["rename-symbol"]["saved_nanousd"]) == (1, None)
    assert (entries["changelog-from-git"]["runs"], entries["broken"]["runs"]) == (0, 0)


@pytest.mark.parametrize(
    ("args", "code", "begins"),
    [
        (["run", "none"], 2, "not_found"),
        (["run", "changelog-from-git"], 2, "invalid_input: from_ref"),
        (["run", "changelog-from-git", "from_ref"], 2, "invalid_input"),
        (["run", "changelog-from-git", "from_ref=--all"], 2, "invalid_input: from_ref"),
        (["run", "changelog-from-git", "--json", "none.json"], 2, "invalid_input"),
        (["run", "changelog-from-git", "from_ref=none"], 1, "summary"),
        (["show", "none"], 2, "not_found"),
        (["lint", "none"], 2, "not_found"),
        (["test", "changelog-from-git", "--case", "none"], 2, ""),
        (["untrust", "none"], 1, ""),
        (["trust", "rename-symbol"], 0, "rename-symbol comes with the package"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_exit_codes_are_those_of_the_page(tierkit: Ask, args: list[str], code: int, begins: str) -> None:
    told, said = tierkit(*args)
    assert (told, said[: len(begins)]) == (code, begins)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["run", "changelog-from-git"], "run changelog-from-git from_ref=HEAD"),
        (["run", "rename-symbol", "old=1"], "run rename-symbol old=TEXT new=TEXT"),
        (["run", "sample", "word=1", "other=2"], "run sample"),
        (["run", "renam-symbl"], "Did you mean rename-symbol?"),
        (["show", "changelog-git"], "Did you mean changelog-from-git?"),
        (["test", "sampel"], "Did you mean sample?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_a_refused_call_says_what_would_have_fitted(args: list[str], told: str, world: World, tierkit: Ask) -> None:
    world.add("sample", "say('x')")
    make_playbook(world.project, "renam-symbol", "")  # Nearer, and not trusted.
    code, said = tierkit(*args)
    assert (code, said.rstrip().endswith(told)) == (2, True), said


async def test_a_change_is_seen_by_a_running_server(world: World) -> None:
    folder = world.add("sample", "say('first')")
    async with client_at(world.config) as client:
        for said in ("first", "second"):
            if said == "second":
                make_playbook(world.project, "sample", "say('second')")
                refused = await client.call_tool("run_playbook", {"name": "sample"})
                assert (refused.is_error, "untrusted: The playbook sample" in str(refused.content)) == (True, True)
                world.trust(folder)
            reply = (await client.call_tool("run_playbook", {"name": "sample"})).structured_content
            assert reply is not None
            assert (reply["status"], reply["output"]) == ("ok", {"said": said})


def test_a_playbook_that_wants_the_network_is_tested_without_it(world: World, tierkit: Ask) -> None:
    script = (
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\nexcept OSError as e:\n    say(str(e))"
    )
    case = '{"expect": {"status": "ok"}}'
    make_playbook(
        world.project, "sample", script, effects="read_only = true, network = true", files={"tests/a/case.json": case}
    )
    code, said = tierkit("test", "sample", "--json")
    assert (code, json.loads(said)[0]["faults"]) == (0, [])


def test_inputs_may_come_from_a_file_and_from_the_line(world: World, tierkit: Ask) -> None:
    world.add("sample", "say(inputs['word'])")
    (world.project / "in.json").write_text('{"word": "from the file"}')
    for args, wanted in ((["--json", "in.json"], "from the file"), (["--json", "word=a=b"], "a=b")):
        code, said = tierkit("run", "sample", *args)
        assert (code, json.loads(said)["output"]) == (0, {"said": wanted})
    (world.project / "in.json").write_text('{"word": NaN}')
    assert tierkit("run", "sample", "--json", "in.json")[0] == 2


def test_findings_and_failing_cases_end_with_one(world: World, tierkit: Ask) -> None:
    case = '{"inputs": {}, "expect": {"status": "ok", "output": {"said": "other"}}}'
    make_playbook(world.project, "sample", "say('\\x1b[2Jx')", files={"tests/a/case.json": case})
    code, said = tierkit("lint", "sample")
    assert (code, "tests: it has 1 cases" in said) == (1, True)
    code, said = tierkit("test", "sample")
    assert (code, "not 'other'" in said) == (1, True)
    assert said.endswith("then: tierkit playbook test sample --case a\n")
    assert "\x1b" not in said


def test_an_untrusted_playbook_is_not_tested_with_the_users_own_rights(world: World, tierkit: Ask) -> None:
    marker = world.project.parent / "marker"
    case = '{"expect": {"status": "failed"}}'
    make_playbook(world.project, "sample", f"open({str(marker)!r}, 'w')", files={"tests/a/case.json": case})
    assert tierkit("test", "sample", "--no-sandbox")[0] == 3
    assert tierkit("test", "sample")[0] in (0, 1, 3)
    assert not marker.exists()


def test_a_dry_run_leaves_the_tree(world: World, tierkit: Ask) -> None:
    effects = 'read_only = false, reads = ["**"], writes = ["*.txt"]'
    world.add("sample", "open('a.txt', 'w').write('x'); say('x')", effects=effects)
    before = world.tree()
    code, said = tierkit("run", "sample", "--dry-run", "--json")
    assert (code, json.loads(said)["changed"]) == (0, ["a.txt"])
    assert world.tree() == before
    assert tierkit("run", "sample")[0] == 0
    assert (world.project / "a.txt").read_text() == "x"


def test_a_case_sets_its_own_variables_sees_none_of_the_testers_and_is_held_to_the_log(
    world: World, tierkit: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORT_SEASON", "winter")
    cases = {
        "tests/told/case.json": """{"setup": {"env": {"REPORT_SEASON": "spring"}},
            "expect": {"status": "failed", "log": ["no spring", "exit code 3"]}}""",
        "tests/untold/case.json": '{"expect": {"status": "failed", "log": ["no None"]}}',
        "tests/wrong/case.json": '{"expect": {"status": "failed", "log": ["no autumn"]}}',
    }
    script = "print('no', os.environ.get('REPORT_SEASON')); sys.exit(3)"
    world.add("seasonal", script, run=', env = ["REPORT_SEASON"]', files=cases)
    code, said = tierkit("test", "seasonal")
    assert code == 1
    assert [line.split()[:2] for line in said.splitlines() if line.startswith(("passed ", "failed "))] == [
        ["passed", "told"], ["passed", "untold"], ["failed", "wrong"],
    ]  # fmt: skip
    assert "the log lacks 'no autumn'" in said


def test_a_run_that_found_something_ends_with_one_and_a_terminal_is_shown_all_of_it(world: World, tierkit: Ask) -> None:
    toml = """
        schema = 1
        kind = "script"
        version = "1.0.0"
        run = { script = "scripts/run.py", runtime = "python" }
        effects = { read_only = true }
        [inputs]
        how = { type = "string", enum = ["well", "badly"] }
        [outputs]
        passed = { type = "boolean" }
        output = { type = "string" }
    """
    script = """
        result = {"passed": inputs["how"] == "well", "output": "line\\n" * 600 + "THE END"}
        with open(os.environ["PLAYBOOK_RESULT"], "w") as out:
            json.dump(result, out)
    """
    world.add("checked", script, toml=toml)
    assert tierkit("run", "checked", "how=well")[0] == 0
    code, said = tierkit("run", "checked", "how=badly")
    assert (code, said.count("line\n")) == (1, 600)
    assert "THE END" in said
    code, said = tierkit("run", "checked", "hwo=well")
    assert said.startswith("invalid_input: hwo: is not an input this playbook knows; how: is required.")


def test_the_diff_that_a_case_came_to_can_be_accepted(world: World, tierkit: Ask) -> None:
    cases = {
        "tests/writes/case.json": '{"expect": {"status": "ok", "changed": ["a.txt"], "diff": "expected.diff"}}',
        "tests/stops/case.json": '{"inputs": {"word": "stop"}, "expect": {"status": "declined"}}',
    }
    script = "sys.exit(10) if inputs['word'] == 'stop' else open('a.txt', 'w').write('new\\n'); say('x')"
    folder = world.add("writer", script, effects=WRITES, files=cases)
    code, said = tierkit("test", "writer")
    assert (code, "test --accept writes this one there" in said) == (1, True)
    assert not (folder / "tests/writes/expected.diff").exists()
    code, said = tierkit("test", "writer", "--accept")
    assert "wrote tests/writes/expected.diff: read it" in said
    assert "+new\n" in (folder / "tests/writes/expected.diff").read_text()
    assert tierkit("test", "writer")[0] == 0
    (folder / "tests/writes/case.json").write_text(cases["tests/writes/case.json"].replace("expected", "../../../../x"))
    code, said = tierkit("test", "writer", "--accept")
    assert code == 2
    assert not (world.project.parent / "x.diff").exists()


def test_the_conclusion_of_the_tests_names_what_lint_has_and_lint_names_what_it_cannot_read(
    world: World, tierkit: Ask
) -> None:
    world.add("sample", "say('x')", files={"tests/a/case.json": '{"expect": {"status": "ok"}}'})
    (world.project / "playbooks/Bad_Name").mkdir()
    assert "1 case passed, each twice. lint has 1 finding: tierkit playbook lint sample" in tierkit("test", "sample")[1]
    assert tierkit("lint")[1].endswith(
        "1 finding. 1 folder in playbooks/ left out: a playbook's name has a-z, 0-9 and single hyphens.\n"
    )
