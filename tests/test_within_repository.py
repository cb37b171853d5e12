"""A folder of a repository is not made a project of its own in silence, unless it is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_tierkit.cli import run
from tests.support import make_env, make_project

PLAN = ["plan", "Take the discount as a percentage.", "-f", "cart.py"]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a folder `shop` in which somebody stands, of no client and no named project."""
    app = make_project(tmp_path / "app")
    for name, value in make_env(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    for name in ("CLAUDE_PROJECT_DIR", "TIERKIT_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(app / "shop")
    return app


def _told(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    run(command)
    return capsys.readouterr().err


def _doctor(capsys: pytest.CaptureFixture[str]) -> str:
    run(["doctor"])
    return capsys.readouterr().out


def test_a_folder_that_is_no_project_of_its_own_is_told_of_the_repository(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"Note: this folder alone is the project, not {app}. For all of it: --project {app}\n"
    assert _told(capsys, "init") == line
    assert line in _told(capsys, *PLAN)
    doctor = _doctor(capsys)
    assert "project_within" in doctor
    assert f"Start in {app}, or pass --project {app}" in doctor


@pytest.mark.parametrize("own", ["package.json", ".mcp.json", "shop.csproj"])
def test_a_package_of_a_monorepo_is_a_project_without_a_word(
    app: Path, capsys: pytest.CaptureFixture[str], own: str
) -> None:
    (app / "shop" / own).write_text("{}")
    assert "Note:" not in _told(capsys, "init")
    assert "project_within" not in _doctor(capsys)


def test_a_folder_that_somebody_named_or_used_before_is_not_remarked_on(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Note:" not in _told(capsys, "init", "--project", str(app / "shop"))
    monkeypatch.setenv("TIERKIT_PROJECT", str(app / "shop"))
    assert "Note:" not in _told(capsys, "init")
    monkeypatch.delenv("TIERKIT_PROJECT")
    (app / "shop" / ".tierkit").mkdir()
    assert "Note:" not in _told(capsys, *PLAN)


def test_the_checked_out_folder_itself_and_one_without_git_are_projects(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / "pyproject.toml").unlink()
    (tmp_path / "plain" / "inner").mkdir(parents=True)
    for folder in (app, tmp_path / "plain" / "inner"):
        monkeypatch.chdir(folder)
        assert "Note:" not in _told(capsys, "init")
        assert "project_within" not in _doctor(capsys)
