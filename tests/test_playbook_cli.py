"""`tierkit playbook …` as a person uses it: exit codes, JSON, and a new playbook from nothing to a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_tierkit.cli import run as cli
from tests.playbooks import World, make_playbook, make_world

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
    for name, runtime in (("my-report", "python"), ("sh-report", "bash")):
        assert tierkit("new", name, "--runtime", runtime)[0] == 0
        assert tierkit("lint", name) == (0, "0 findings.\n")
        code, said = tierkit("test", name, "--json")
        assert (code, [case["faults"] for case in json.loads(said)]) == (0, [[], []])
        code, said = tierkit("run", name, "who=Ada")
        assert (code, said[:9]) == (3, "untrusted")
        world.trust(world.project / "playbooks" / name)
        code, said = tierkit("run", name, "who=Ada", "--json")
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
    assert (code, "scripts/run.py" in said) == (0, True)


@pytest.mark.parametrize(
    ("args", "code", "begins"),
    [
        (["run", "none"], 2, "not_found"),
        (["run", "changelog-from-git"], 2, "invalid_input: from_ref"),
        (["run", "changelog-from-git", "from_ref"], 2, "invalid_input"),
        (["run", "changelog-from-git", "from_ref=--all"], 2, "invalid_input: from_ref"),
        (["run", "changelog-from-git", "--json", "none.json"], 2, "invalid_input"),
        (["run", "changelog-from-git", "from_ref=none"], 0, "summary"),
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
