"""What `tierkit init` offers a newcomer: a check that starts here, and a first task worth handing over."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.checks import Bench, baseline, parse_check
from mcp_tierkit.cli import run

Said = pytest.CaptureFixture[str]
UNITTEST = """import unittest

from shop import cart


class CartTest(unittest.TestCase):
    def test_it_counts(self):
        self.assertEqual(cart.count([1, 2]), 2)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: None) -> Path:
    """A project of a user whose PATH holds python3 alone."""
    for folder in ("home", "bin", "project/shop", "project/tests"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "project/shop/__init__.py").touch()
    (tmp_path / "project/shop/cart.py").write_text("def count(prices):\n    return 0\n")
    return tmp_path / "project"


def offered(capsys: Said) -> dict[str, Any]:
    assert run(["init", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def add_pytest(folder: Path, *, works: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "pytest"
    program.write_text(f"#!/bin/sh\n: > {folder}/was-run\nexit {0 if works else 127}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("has_package", [True, False])
@pytest.mark.anyio
async def test_a_project_of_unittests_is_offered_a_check_that_judges_it(
    project: Path, capsys: Said, has_package: bool
) -> None:
    (project / "tests/test_cart.py").write_text(UNITTEST)
    if has_package:
        (project / "tests/__init__.py").touch()
    found = offered(capsys)
    assert (found["missing"], len(found["checks"])) == ([], 1)
    bench = Bench(root=project, isolation="in_place", log_dir=".tierkit/t", allow=tuple(found["checks"]))
    before = await baseline(bench, [parse_check(found["checks"][0])], "turns_green")
    assert [result.before for result in before.results] == ["red"], before.reason
    assert f"`{found['checks'][0]}`" in found["first_task"]


def test_a_runner_that_does_not_start_here_is_named_as_missing_and_not_offered(project: Path, capsys: Said) -> None:
    (project / "tests/test_cart.py").write_text("import pytest\n")
    assert (offered(capsys)["checks"], offered(capsys)["missing"]) == ([], ["pytest"])
    add_pytest(project.parent / "bin", works=False)  # A stand-in for what is not installed, such as pyenv's.
    assert (offered(capsys)["checks"], offered(capsys)["missing"]) == ([], ["pytest"])
    assert run(["init"]) == 0
    shown = capsys.readouterr().out
    assert "no pytest starts here" in shown
    assert "[checks]" not in shown
    add_pytest(project.parent / "bin")
    assert (offered(capsys)["checks"], offered(capsys)["missing"]) == (["pytest"], [])


def test_no_program_of_the_project_itself_is_started_to_see_whether_it_starts(project: Path, capsys: Said) -> None:
    (project / "conftest.py").touch()
    add_pytest(project / ".venv/bin")
    assert offered(capsys)["checks"] == ["pytest"]
    assert not (project / ".venv/bin/was-run").exists()


@pytest.mark.parametrize("link", ["the program", "its folder"])
def test_nor_is_one_that_a_link_leads_to(
    project: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    (project / "conftest.py").touch()
    add_pytest(project / "tools")
    linked, target = (project.parent / "bin/pytest", "tools/pytest") if link == "the program" else (
        project.parent / "entered", "tools"
    )  # fmt: skip
    linked.symlink_to(project / target)
    monkeypatch.setenv("PATH", f"{project.parent}/bin:{project.parent}/entered")
    assert offered(capsys)["checks"] == ["pytest"]
    assert not (project / "tools/was-run").exists()


@pytest.mark.parametrize("lines", [100, None])
def test_the_first_task_is_one_that_the_planner_hands_over(project: Path, capsys: Said, lines: int | None) -> None:
    (project / "tests/test_cart.py").write_text(UNITTEST)
    told = offered(capsys)["first_task"]
    assert "a file of a hundred lines or more, or one that needs a new file" in told
    command = re.search(r"tierkit (plan '.*? -k '.*?')\.", told)
    assert command
    if lines:
        code = Path(__file__).read_text().splitlines(keepends=True)
        (project / "shop/order.py").write_text("".join(code[:lines]))
    words = {"THE CHANGE": "Count each price once", "FILE": "shop/order.py"}
    assert run([*(words.get(word, word) for word in shlex.split(command[1])), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decision"] == "single_cheap"
    shutil.copy("shop/cart.py", "shop/order.py")
    assert run([*(words.get(word, word) for word in shlex.split(command[1])), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["decision"] == "do_it_yourself"


# --- whose file an entry stands in


def test_codex_is_set_up_for_this_project_alone_and_an_entry_that_all_load_is_named(
    project: Path, capsys: Said
) -> None:
    personal = project.parent / "home/.codex/config.toml"
    assert run(["init", "--client", "codex"]) == 0
    shown = capsys.readouterr().out
    assert "trust the folder" in shown
    assert "every session" not in shown
    assert tomllib.loads((project / ".codex/config.toml").read_text())["mcp_servers"]["tierkit"]
    assert not personal.exists()
    personal.parent.mkdir()
    personal.write_text('[mcp_servers.tierkit-api]\ncommand = "mcp-tierkit"\nargs = ["serve"]\n')
    before = personal.read_bytes()
    (project / ".codex/config.toml").unlink()
    for told in ("Wrote", "Already there"):
        assert run(["init", "--client", "codex"]) == 0
        shown = capsys.readouterr().out
        assert told in shown
        assert f"{personal} has 'tierkit-api' too: every session of Codex CLI loads it" in shown
    assert personal.read_bytes() == before


def test_an_entry_in_a_projects_file_comes_with_how_to_keep_it_out_of_a_commit(project: Path, capsys: Said) -> None:
    assert run(["init", "--client", "claude-code"]) == 0
    shown = capsys.readouterr().out
    assert "names paths of this machine: do not commit it" in shown
    entry = json.loads((project / ".mcp.json").read_text())["mcpServers"]["tierkit"]
    command = shlex.join([entry["command"], *entry["args"]])
    assert f"claude mcp add --scope local tierkit -- {command}" in shown
    assert run(["init", "--client", "claude-desktop"]) == 0
    assert "do not commit" not in capsys.readouterr().out


def test_doctor_knows_an_entry_that_every_session_of_codex_loads(project: Path, capsys: Said) -> None:
    personal = project.parent / "home/.codex/config.toml"
    personal.parent.mkdir()
    personal.write_text(
        f'[mcp_servers.tierkit]\ncommand = "{sys.executable}"\n'
        f'args = ["-m", "mcp_tierkit", "serve", "--project", "{project}"]\n'
    )
    run(["doctor", "--client", "codex", "--json"])
    symptoms = {symptom["name"]: symptom for symptom in json.loads(capsys.readouterr().out)["symptoms"]}
    assert "client_missing" not in symptoms
    assert "every session" in symptoms["client"]["what"]
