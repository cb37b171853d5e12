"""Twenty-four maintenance scripts of real projects as playbooks: what each must express, seen on real runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.playbook.cases import read_cases, run_cases
from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.lint import lint
from mcp_tierkit.playbook.load import BadPlaybook, load
from mcp_tierkit.playbook.trust import trust
from mcp_tierkit.sandbox import probe
from tests.playbooks import World, folder_of, is_alive, loaded, make_world, until
from tests.support import TIERS, client_at, said, snapshot

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parent / "fixtures" / "maintenance"
ROWS: dict[str, dict[str, Any]] = {row["id"]: row for row in tomllib.loads((FOLDER / "rows.toml").read_text())["row"]}
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
WITH_NETWORK = [name for name in NAMES if ROWS[name.split("-")[0]].get("network", False)]
LEAVE = "[policy]\nallow_network_playbooks = true\n"
VARIABLES = ("CI", "RELEASE_REF", "PYRIGHT_PYTHON", "TWINE_PASSWORD")
Test = TypeVar("Test", bound=Callable[..., Any])
shown: set[tuple[str, str]] = set()


def shows(row: str, *items: str) -> Callable[[Test], Test]:
    """What of `rows.toml` the test is the evidence for."""
    shown.update((row, item) for item in items)
    return lambda test: test


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@dataclass
class Stage:
    """A user with one of the playbooks, trusted, in a project that is the workspace of one of its cases."""

    name: str
    world: World

    @property
    def project(self) -> Path:
        return self.world.project

    @property
    def own(self) -> Path:
        return self.world.config.user_dir / "playbooks" / self.name

    def add(self, name: str) -> Stage:
        """Another playbook of the same user, for the same project."""
        other = Stage(name, self.world)
        shutil.copytree(FOLDER / name, other.own)
        other.trust()
        return other

    def edit(self, path: str, old: str, new: str) -> None:
        """A change of the playbook, trusted again."""
        text = (self.own / path).read_text()
        assert old in text
        (self.own / path).write_text(text.replace(old, new))
        self.trust()

    def trust(self) -> None:
        trust(self.world.config.state_dir, read_folder(self.own), repository=None)

    def put(self, path: str, text: str) -> None:
        """A file of the project; a program where it lies in a `bin`."""
        target = self.project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755 if target.parent.name == "bin" else 0o644)

    async def ask(self, *, dry_run: bool = False, words: tuple[str, ...] = (), **inputs: Any) -> dict[str, Any] | str:
        """The reply of the real server; the text of its refusal where it refuses. A model says `words` and no more."""
        model = ScriptedGateway([said(text) for text in words])
        async with client_at(self.world.config, model) as client:
            arguments = {"name": self.name, "inputs": inputs, "dry_run": dry_run}
            result = await client.call_tool("run_playbook", arguments)
        assert len(model.requests) == len(words)
        reply: dict[str, Any] | None = result.structured_content
        return reply if reply is not None else result.content[0].text  # type: ignore[union-attr]

    async def run(self, *, dry_run: bool = False, words: tuple[str, ...] = (), **inputs: Any) -> dict[str, Any]:
        reply = await self.ask(dry_run=dry_run, words=words, **inputs)
        assert isinstance(reply, dict), reply
        return reply

    async def log(self, status: str = "ok", **inputs: Any) -> list[str]:
        """The lines of the log, as the ledger has them, of a run that ends so."""
        reply = await self.run(**inputs)
        assert reply["status"] == status, reply
        return await self.told(reply)

    async def told(self, reply: dict[str, Any]) -> list[str]:
        (row,) = await self.world.ledger.playbook_runs(reply["task_id"])
        return [line for line in row.log_tail.splitlines() if line]


Make = Callable[..., Stage]


@pytest.fixture
def stage(tmp_path: Path, layered: None) -> Make:
    def make(name: str, case: str, *, toml: str | None = None, trusted: bool = True) -> Stage:
        base = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
        base.mkdir()
        world = make_world(base, toml=(LEAVE if name in WITH_NETWORK else "") if toml is None else toml)
        made = Stage(name, world)
        shutil.copytree(FOLDER / name, made.own)
        if trusted:
            made.trust()
        build(FOLDER / name / "tests" / case, world.project)
        return made

    return make


def build(case: Path, project: Path) -> None:
    if (case / "repo.fast-import").exists():
        quiet = {"cwd": project, "check": True, "capture_output": True}
        subprocess.run(["git", "init", "-q", "-b", "main"], **quiet)  # type: ignore[call-overload]
        text = (case / "repo.fast-import").read_bytes()
        subprocess.run(["git", "fast-import", "--quiet"], input=text, **quiet)  # type: ignore[call-overload]
        subprocess.run(["git", "reset", "-q", "--hard"], **quiet)  # type: ignore[call-overload]
    if (case / "workspace").exists():
        shutil.copytree(case / "workspace", project, dirs_exist_ok=True)


# --- the folders ----------------------------------------------------------------------------------


def test_the_table_the_facts_and_the_folders_speak_of_the_same_rows() -> None:
    lines = [line.split(" | ") for line in (FOLDER / "README.md").read_text().splitlines() if line[:4] == "| pb"]
    table = {line[0].removeprefix("| "): line[1:] for line in lines}
    assert list(table) == list(ROWS) == [f"pb{number:02}" for number in range(1, 25)]
    for row, (source, _, gate, _) in table.items():
        assert source.replace(", ", " ", 1) == ROWS[row]["source"]
        assert ("the network" in gate) == ROWS[row].get("network", False)
    assert {name.split("-")[0] for name in NAMES} == set(ROWS)


def test_every_fact_of_every_row_has_its_evidence_or_is_named_as_missing() -> None:
    missing = {(row, item) for row, facts in ROWS.items() for item in facts.get("missing", ())}
    assert shown | missing == {(row, item) for row, facts in ROWS.items() for item in facts["must"]}
    assert not shown & missing
    assert len(ROWS) - len({row for row, _ in missing}) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_has_no_finding(name: str) -> None:
    assert lint(read_folder(FOLDER / name)) == ()


@pytest.mark.usefixtures("layered")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_NETWORK])
async def test_the_cases_of_a_folder_pass(name: str) -> None:
    playbook = loaded(FOLDER / name)
    # Those that take all their time are run once only, by a test of their own.
    brief = [case for case, told in read_cases(playbook).items() if told.expect.status != "timeout"]
    assert brief
    for case in brief:
        (result,) = [result async for result in run_cases(playbook, await probe(), only=case)]
        assert (case, result.faults) == (case, ())


# --- what the user's leave is needed for ----------------------------------------------------------


@shows("pb03", "network")
@shows("pb05", "irreversible: must need approval")
@shows("pb08", "network")
@shows("pb10", "docker: needs approval")
@shows("pb14", "outward effect: approval")
@shows("pb15", "network")
@pytest.mark.parametrize("name", WITH_NETWORK)
async def test_what_goes_outward_needs_trust_and_then_leave_for_the_network(name: str, stage: Make) -> None:
    case = next(case for case in read_cases(loaded(FOLDER / name)).items() if case[1].expect.status != "invalid_input")
    alone = stage(name, case[0], toml="", trusted=False)
    before = snapshot(alone.project)
    assert str(await alone.ask(**case[1].inputs)).startswith("untrusted: ")
    alone.trust()
    assert str(await alone.ask(**case[1].inputs)).startswith("refused_policy: ")
    assert snapshot(alone.project) == before


CASES_WITH_NETWORK = [
    (name, case) for name in WITH_NETWORK for case in sorted(read_cases(loaded(FOLDER / name))) if case[:3] != "no-"
]


@pytest.mark.parametrize(("name", "case"), CASES_WITH_NETWORK)
async def test_with_that_leave_its_cases_end_as_they_say(name: str, case: str, stage: Make) -> None:
    told = read_cases(loaded(FOLDER / name))[case]
    made = stage(name, case)
    reply = await made.ask(**told.inputs)
    if told.expect.status == "invalid_input":
        assert str(reply).startswith("invalid_input: ")
        return
    assert isinstance(reply, dict)
    assert (reply["status"], reply["changed"]) == (told.expect.status, list(told.expect.changed or ()))
    assert (reply["output"] or {}).items() >= told.expect.output.items()


@shows("pb05", "credentials")
@pytest.mark.parametrize("name", ["TWINE_PASSWORD", "PYPI_TOKEN", "SSH_AUTH_SOCK", "AWS_PROFILE"])
def test_a_contract_cannot_ask_for_a_credential(name: str) -> None:
    files = {entry.path: entry.data for entry in read_folder(FOLDER / "pb05").files}
    files["playbook.toml"] = files["playbook.toml"].replace(b'"RELEASE_REF"', f'"RELEASE_REF", "{name}"'.encode())
    with pytest.raises(BadPlaybook, match=name):
        load(folder_of(files, "pb05"), "sha256:x", origin="user")


@shows("pb05", "branch on environment")
@shows("pb16", "credentials")
async def test_an_upload_is_given_neither_the_users_password_nor_the_users_home(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, publish = stage("pb05", "no-tag"), stage("pb16", "public-index")
    log = await release.log("failed")
    assert log[0] == "RELEASE_REF is not set, the package is 2.4.1: nothing was uploaded"
    monkeypatch.setenv("RELEASE_REF", "refs/tags/2.4.1")
    monkeypatch.setenv("TWINE_PASSWORD", "canary-one")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pypirc").write_text("[pypi]\npassword = canary-two\n")
    log = await release.log("failed")
    assert log[:2] == ["twine upload --repository pypi release/shop-2.4.1.tar.gz", "twine: no credentials"]
    assert "twine: no credentials" in await publish.log("failed", repository="pypi")


async def test_no_daemon_of_the_machine_is_reached(stage: Make, tmp_path: Path) -> None:
    made = stage("pb10", "no-daemon")
    path = str(tmp_path / "docker.sock")
    made.put("docker-host", path)
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(path)
        daemon.listen()
        daemon.setblocking(False)
        log = await made.log("failed")
        assert log[:2] == ["docker build -t shop-site .", "docker: cannot connect to the daemon"]
        with pytest.raises(BlockingIOError):
            daemon.accept()


# --- sequences ------------------------------------------------------------------------------------


@shows("pb01", "sequence, stop at first failure", "variable list")
async def test_steps_stop_at_the_first_that_fails(stage: Make) -> None:
    steps = ["sync-version", "ruff format shop tests --diff", "mypy shop tests", "ruff check shop tests"]
    assert await stage("pb01", "all-well").log() == steps
    # The type checker's 10 is not taken for "not for me".
    assert await stage("pb01", "wrong-types").log("failed") == [*steps[:3], "exit code 1"]


@shows("pb01", "optional command prefix if a folder exists")
async def test_without_the_folder_the_tools_on_path_are_taken(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage("pb01", "all-well")
    (made.project / "venv").rename(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{tmp_path}/tools/bin:{os.environ['PATH']}")
    reply = await made.run()
    assert reply["output"] == {"prefix": "", "sources": 2}
    assert "mypy shop tests" in await made.told(reply)


@shows("pb12", "dependencies", "working folder")
@shows("pb13", "dependency first", "quoting inside argument")
async def test_what_a_step_depends_on_runs_before_it(stage: Make) -> None:
    log = await stage("pb12", "afresh").log()
    assert log == ["cog -r docs/api.md", "blacken-docs docs/api.md", "make html", "in docs"]
    code = """version = "2"; print(f"{version} (it's new)")"""
    log = await stage("pb13", "all-three").log()
    assert log[1:] == [f"[-r][-p][{code}][docs/index.md][docs/more/deep.md]", "ruff check . --fix", "black ."]
    log = await stage("pb13", "cog-fails").log("failed")
    assert [line.split()[0] for line in log] == ["cog", "exit"]


@shows("pb11", "glob", "two ecosystems")
async def test_tools_of_two_ecosystems_look_at_the_pages_of_a_glob(stage: Make) -> None:
    log = await stage("pb11", "all-well").log()
    assert log[:3] == ["codespell README.md", "codespell docs/index.rst", "codespell docs/usage.rst"]
    assert log[3:6] == ["black shop tests --check", "ruff check shop tests", "npm run prettier -- --check"]
    log = await stage("pb11", "misspelt").log("failed")
    assert log[-2:] == ["codespell docs/usage.rst", "exit code 1"]


@shows("pb14", "gate: only if earlier playbooks pass")
async def test_nothing_is_pushed_unless_tests_and_linter_pass(stage: Make) -> None:
    assert await stage("pb14", "all-pass").log() == ["pytest -q", "ruff check .", "git push origin main"]
    assert await stage("pb14", "tests-fail").log("failed") == ["pytest -q", "exit code 1"]
    assert await stage("pb14", "linter-fails").log("failed") == ["pytest -q", "ruff check .", "exit code 1"]


@shows("pb08", "loop over list", "pipeline with redirect", "pass-through argument")
async def test_a_loop_passes_words_on_and_a_pipeline_fills_a_file(stage: Make) -> None:
    made = stage("pb08", "upgrade")
    log = await made.log(args=["--upgrade", "--resolution=lowest"])
    compiled = [re.search(r"(\w+)\.in .*/(\w+)\.txt$", line) for line in log]
    assert [found and found.groups() for found in compiled] == [
        ("base", "constraints"), ("base", "base"), ("dev", "dev"), ("help", "help")
    ]  # fmt: skip
    assert all(line.startswith("uv pip compile --upgrade --resolution=lowest ") for line in log)
    assert (made.project / "requirements.txt").read_text() == "anyio==1.0\nscipy-stubs\n"
    assert (await stage("pb08", "upgrade").log())[0].startswith("uv pip compile requirements/base.in ")


@shows("pb18", "matrix", "environment per step", "long")
async def test_each_version_has_an_environment_of_its_own(stage: Make) -> None:
    log = await stage("pb18", "four").log(versions=["3.12", "3.13"])
    assert log == [
        "uv sync --python 3.12 --frozen", "into .venv312", "uv sync --python 3.13 --frozen", "into .venv313"
    ]  # fmt: skip
    contract = loaded(FOLDER / "pb18").contract
    assert contract.run is not None
    assert contract.run.timeout_s == 900
    files = {entry.path: entry.data for entry in read_folder(FOLDER / "pb18").files}
    files["playbook.toml"] = files["playbook.toml"].replace(b"= 900", b"= 901")
    with pytest.raises(BadPlaybook, match="timeout_s"):
        load(folder_of(files, "pb18"), "sha256:x", origin="user")


# --- arguments and variables ----------------------------------------------------------------------


@shows("pb03", "optional argument with default (-p)", "branch on environment variable", "writes folder")
async def test_an_environment_is_made_and_never_kept(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage("pb03", "outside-ci")
    before = snapshot(made.project)
    log = await made.log("write_outside", python="bin/python3.12")
    assert log[:3] == ["python3.12 -m venv venv", "pip install -U pip", "pip install -r requirements.txt"]
    assert "venv/bin/pip" in log[-1]
    assert snapshot(made.project) == before
    tools = tmp_path / "tools"
    tools.mkdir()
    shutil.copy(made.project / "bin/python3.12", tools / "python3")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("CI", "1")
    reply = await made.run()
    assert (reply["status"], reply["output"]) == ("ok", {"python": "python3", "made": ""})
    assert "python3.12 -m pip install -r requirements.txt" in await made.told(reply)


@shows("pb07", "argument with default", "conditional step", "redirect", "check mode vs write mode")
async def test_a_check_says_what_a_write_would_mend(stage: Make) -> None:
    made = stage("pb07", "finds-a-stale-page")
    before = snapshot(made.project)
    assert await made.log("failed", check=True) == ["cog --check docs/faq.md docs/intro.md", "exit code 1"]
    assert snapshot(made.project) == before
    assert await made.log() == ["cog -r docs/faq.md", "cog -r docs/faq.md docs/intro.md"]
    assert (made.project / "docs/usage.jsonl").read_text() == (made.project / "usage.jsonl").read_text()
    reply = await made.run(check=True)
    assert (reply["status"], reply["output"], reply["changed"]) == ("ok", {"wrote": False}, [])


@shows("pb07", "file outside the project (home)")
async def test_a_file_of_the_users_home_is_not_there(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".shop").mkdir(parents=True)
    (home / ".shop/usage.jsonl").write_text('{"canary": 1}\n')
    monkeypatch.setenv("HOME", str(home))
    made = stage("pb07", "writes")
    await made.log()
    assert "canary" not in (made.project / "docs/usage.jsonl").read_text()


@shows("pb09", "argument with default")
async def test_an_argument_that_is_left_out_has_its_default(stage: Make) -> None:
    made = stage("pb09", "from-the-start")
    assert await made.log() == []
    assert (made.project / "docs/blame.yml").read_text() == "v0.1.0 --all --output\n"
    assert await made.log(since="v2.0.0") == []
    assert (made.project / "docs/blame.yml").read_text() == "v2.0.0 --all --output\n"


@shows("pb15", "variadic argument", "computed variable")
async def test_names_are_passed_on_one_by_one_or_all_are_meant(stage: Make) -> None:
    made = stage("pb15", "two-modules")
    tail = "--root-module shop"
    assert await made.log() == [f"uvx --with-editable . mdxify --all {tail}"]
    assert await made.log(modules=["shop.cart", "shop.tax"]) == [
        f"uvx --with-editable . mdxify shop.cart shop.tax {tail}"
    ]
    made.put("pyproject.toml", '[project]\nname = "market"\n')
    assert (await made.run())["output"] == {"package": "market"}


@shows("pb19", "optional argument from environment", "environment per step")
async def test_an_option_is_there_only_with_its_variable(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stage("pb19", "right")
    plain = ["uv run pyright", "warnings ignored: 1", "uv --version", "warnings ignored: 0"]
    assert await made.log() == plain
    monkeypatch.setenv("PYRIGHT_PYTHON", "3.12")
    reply = await made.run()
    assert await made.told(reply) == ["uv run pyright --pythonversion 3.12", *plain[1:]]
    assert reply["output"] == {"for_version": "3.12"}


@shows("pb20", "required arguments with usage text")
async def test_a_missing_argument_is_named_and_its_use_is_told(stage: Make) -> None:
    made = stage("pb20", "static")
    assert str(await made.ask()).startswith("invalid_input: binary: ")
    assert str(await made.ask(binary="shop.bin")).startswith("invalid_input: allowed: ")
    usage = {name: schema["description"] for name, schema in loaded(made.own).inputs.properties.items()}
    assert usage["binary"] == "The file to look at."
    assert usage["allowed"] == "The newest version that may be needed, such as 2.17."


# --- answers --------------------------------------------------------------------------------------


@shows("pb02", "capture output to variable", "pipeline", "compare two outputs", "custom failure message")
async def test_two_outputs_are_compared_and_a_difference_says_what_to_do(stage: Make) -> None:
    reply = await stage("pb02", "in-step").run()
    assert (reply["status"], reply["output"]) == ("ok", {"version": "2.4.1"})
    log = await stage("pb02", "apart").log("failed")
    assert log == ["CHANGELOG.md ends at 2.4.1, the package is 2.5.0: change one of them", "exit code 1"]


@shows("pb02", "read-only")
async def test_a_read_only_playbook_that_comes_to_write_fails(stage: Make) -> None:
    made = stage("pb02", "in-step")
    made.edit("scripts/run.sh", "set -eu", "set -eu\necho x >> CHANGELOG.md")
    before = snapshot(made.project)
    assert "Read-only file system" in (await made.log("failed"))[0]
    assert snapshot(made.project) == before


@shows("pb04", "threshold check by exit code")
async def test_a_tools_exit_code_decides_against_the_threshold_that_was_given(stage: Make) -> None:
    made = stage("pb04", "too-little")
    told = "coverage report --show-missing --skip-covered --fail-under="
    assert await made.log("failed") == [told + "100", "exit code 1"]
    assert await made.log(fail_under=99) == [told + "99"]


@shows("pb17", "both outcomes reported", "quoting")
async def test_both_answers_of_a_check_are_results_with_their_quotes(stage: Make) -> None:
    good, bad = await stage("pb17", "good").run(), await stage("pb17", "bad").run()
    assert (good["status"], bad["status"]) == ("ok", "ok")
    assert good["output"] == {"verdict": "ok", "said": '"README.rst" and "setup.py" are fine'}
    assert bad["output"] == {"verdict": "bad", "said": '"README.rst" or "setup.py" isn\'t valid'}


@shows("pb20", "multi-stage pipeline", "branch on output", "early exit 0")
async def test_the_newest_version_of_many_decides_and_none_ends_early(stage: Make) -> None:
    made = stage("pb20", "old-enough")
    # By version 2.17 is the newest; by text it would be 2.9.
    assert (await made.run(binary="shop.bin", allowed="2.17"))["output"] == {"needs": "2.17"}
    log = await made.log("failed", binary="shop.bin", allowed="2.16")
    assert log[0] == "shop.bin needs glibc 2.17, which is newer than 2.16"
    made.put("shop.bin", "nothing\n")
    assert (await made.run(binary="shop.bin", allowed="2.16"))["output"] == {"needs": ""}


@shows("pb22", "tool presence check", "inverted exit code: a match is failure")
async def test_a_match_is_a_failure_and_so_is_a_tool_that_is_not_there(
    stage: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await stage("pb22", "one-is-left").log("failed")
    assert log == ["shop/cart.py:1:TOTAL = 1  # FIXME", "these words may not stay", "exit code 1"]
    assert await stage("pb22", "nothing-to-look-at").log("failed") == ["rg could not look", "exit code 1"]
    made = stage("pb22", "clean")
    assert (await made.run())["output"] == {"clean": True}
    (made.project / "bin/rg").unlink()
    (tmp_path / "path").mkdir()
    (tmp_path / "path/bash").symlink_to(shutil.which("bash") or "")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert (await made.log("failed"))[0] == "rg is not installed; your system's package is probably called ripgrep"


# --- changes and what is left behind --------------------------------------------------------------


@shows("pb13", "changes files: show diff")
async def test_a_dry_run_shows_the_difference_that_a_run_then_makes(stage: Make) -> None:
    made = stage("pb13", "all-three")
    before = snapshot(made.project)
    dry = await made.run(dry_run=True)
    assert snapshot(made.project) == before
    expected = (FOLDER / "pb13/tests/all-three/expected.diff").read_text()
    assert (made.project / dry["diff"]).read_text() == expected
    wet = await made.run()
    assert wet["changed"] == dry["changed"] == ["docs/index.md", "docs/more/deep.md", "shop/cart.py"]
    assert (made.project / "shop/cart.py").read_text() == 'NAMES = ["b", "a"]  # sorted, formatted\n'


@shows("pb12", "delete inside the project")
async def test_a_folder_is_deleted_only_where_the_playbook_may_write(stage: Make) -> None:
    made = stage("pb12", "wrong-folder")
    before = snapshot(made.project)
    reply = await made.run(built="shop")
    assert (reply["status"], reply["changed"]) == ("write_outside", [])
    assert "shop/cart.py" in reply["log_tail"]
    assert snapshot(made.project) == before
    assert str(await made.ask(built="../project")).startswith("invalid_input: built: ")
    assert "docs/_build/old.html" in (await made.run())["changed"]
    assert not (made.project / "docs/_build/old.html").exists()


async def test_what_was_in_a_folder_that_is_made_again_is_gone_at_every_depth(stage: Make) -> None:
    made = stage("pb12", "afresh")
    made.put("docs/_build/html/gone.html", "old\n")
    assert "docs/_build/html/gone.html" in (await made.run())["changed"]


@shows("pb16", "prerequisite made once (file target)", "clean-up after")
async def test_a_tool_is_installed_once_and_the_rest_is_tidied_up(stage: Make) -> None:
    made = stage("pb16", "house-index")
    first, second = await made.log(), await made.log()
    assert [line.split()[0] for line in first] == ["python", "pip", "python", "twine", "cleaned"]
    assert [line.split()[0] for line in second] == ["python", "twine", "cleaned"]
    assert not {"built", "release", "shop.egg"} & {path.name for path in made.project.iterdir()}
    log = await made.log("failed", repository="pypi")
    assert log[-1] == "exit code 1"
    assert "cleaned up" in log[-3:]  # What it said on its other stream may come before or after.


@shows("pb21", "clean-up that always runs", "temporary git worktrees")
@shows("pb21", "function reused with parameters", "branch on file presence")
async def test_worktrees_are_gone_whether_the_build_worked_or_not(stage: Make) -> None:
    made = stage("pb21", "both")
    log = await made.log()
    assert [line.split()[0] for line in log] == ["mkdocs", "worktrees"]
    site = {path: data for path, (data, _) in snapshot(made.project / "site").items()}
    assert site == {"latest/index.html": b"<!-- built -->\n# Shop 2\n", "v1/index.md": b"# Shop 1\n"}
    broken = stage("pb21", "one-is-missing")
    log = await broken.log("failed")
    assert "worktrees left: 0" in log
    assert not (made.project / ".git/worktrees").exists()
    assert not (broken.project / "site").exists()


# --- time -----------------------------------------------------------------------------------------


@shows("pb06", "long-running process: must be refused or time-limited")
@shows("pb10", "long-running")
async def test_what_would_run_for_ever_is_ended_with_all_its_processes_when_its_time_is_up(stage: Make) -> None:
    server, container = stage("pb06", "serves-for-ever"), stage("pb10", "no-daemon")
    server.edit("playbook.toml", "timeout_s = 5", "timeout_s = 2")
    container.edit("playbook.toml", "timeout_s = 900", "timeout_s = 2")
    container.put("bin/docker", '#!/bin/sh\necho "docker $1"\n[ "$1" = build ] || sleep 984.25\n')
    logs: dict[str, list[str]] = {}

    async def serve(made: Stage) -> None:
        logs[made.name] = await made.log("timeout")

    async with anyio.create_task_group() as group:
        group.start_soon(serve, server)
        group.start_soon(serve, container)
        for seconds in ("983.25", "984.25"):
            group.start_soon(until, partial(is_alive, seconds))
    assert not is_alive("983.25")
    assert not is_alive("984.25")
    assert logs["pb06"] == ["mkdocs serve", "stopped after 2 s"]
    assert logs["pb10"] == ["docker build", "docker run", "stopped after 2 s"]


# --- around a model -------------------------------------------------------------------------------


@shows("pb23", "mixed: scripted steps around ONE model step", "typed file hand-over between steps")
async def test_two_scripts_stand_around_one_step_of_words_and_hand_over_typed_files(stage: Make) -> None:
    read = stage("pb23-read", "two-fields", toml=TIERS.format(url="http://127.0.0.1:9"))
    answer, fill = read.add("pb23-answer"), read.add("pb23-fill")
    listed = (await read.run())["output"]
    assert json.loads((read.project / listed["written"]).read_text()) == listed["fields"]
    read.put("request.txt", "Please fill this in for Ada (London), and she needs it by express.\n")
    words = (FOLDER / "pb23-answer/tests/both-fields/reply.txt").read_text()
    values = (await answer.run(words=(words,)))["output"]
    assert (await fill.run(**values))["output"] == {"filled": 2}
    filled = (read.project / "filled.fdf").read_text()
    assert r"/T (customer) /FT /Tx /V (Ada \(London\))" in filled
    assert "/T (express) /FT /Btn /V /Yes" in filled
    # What is of the wrong type stops at the next step, whoever wrote it.
    assert str(await fill.ask(texts=[{"name": "customer"}], ticked=[])).startswith("invalid_input: texts.0.text: ")
    read.put("work/fields.json", '[{"name": "customer", "kind": "box"}]')
    assert "customer: is no text of the form" in (await fill.log("failed", **values))[0]


@shows("pb24", "zero-token context gathering before a model review", "many outputs, size limits")
async def test_a_review_is_gathered_in_many_cut_files_at_no_token(stage: Make) -> None:
    made = stage("pb24", "a-branch")
    reply = await made.run(branch="change", notes="Mind the cents.", limit=600)
    sizes = {path: len(data) for path, (data, _) in snapshot(made.project / "review").items()}
    assert sorted(sizes) == sorted(reply["output"]["files"])
    assert {path for path, size in sizes.items() if size == 600} == set(reply["output"]["cut"]) != set()
    assert max(sizes.values()) == 600
    assert "Explain at length" in (made.project / "review/log.txt").read_text()
    spend = await made.world.ledger.spend(reply["task_id"])
    assert (spend.calls, spend.cost_nanousd) == (0, 0)
