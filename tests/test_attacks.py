"""Attacks on the whole product, through its real doors where that is cheap. What each one found is held here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mcp_tierkit.errors import TierkitError
from mcp_tierkit.git import diff_of
from mcp_tierkit.workspace import Workspace
from tests.support import BUGGY, FIXED, make_project, run_git

pytestmark = pytest.mark.anyio


# --- a hostile repository -------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    project = make_project(tmp_path / "app")
    (project / "shop/cart.py").write_text(FIXED)
    return project


def diff_at(folder: Path, wanted: str = "working_tree") -> str:
    """The diff, or nothing where it is refused."""
    try:
        return diff_of(Workspace(folder, ("private/**",)), wanted)
    except TierkitError:
        return ""


SETTINGS = (
    ("filter.evil.clean", "*.py filter=evil"),
    ("filter.evil.process", "*.py filter=evil"),
    ("filter.a=b.c.clean", "*.py filter=a=b.c"),
    ("filter.evil.smudge", "*.py filter=evil"),
    ("diff.evil.textconv", "*.py diff=evil"),
    ("diff.evil.command", "*.py diff=evil"),
    ("diff.external", ""),
    ("core.fsmonitor", ""),
    ("core.alternateRefsCommand", ""),
    ("core.pager", ""),
)


@pytest.mark.parametrize(("key", "attributes"), SETTINGS, ids=[key for key, _ in SETTINGS])
@pytest.mark.parametrize("place", ["config", "included"])
def test_no_setting_of_a_repository_starts_a_program(repo: Path, key: str, attributes: str, place: str) -> None:
    marker, program = repo.parent / "marker", repo.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(marker))}\ncat\n")
    program.chmod(0o755)
    (repo / ".git/info/attributes").write_text(attributes + "\n")
    if place == "config":
        run_git(repo, "config", key, str(program))
    else:
        run_git(repo, "config", "-f", "more.cfg", key, str(program))
        run_git(repo, "config", "includeIf.gitdir:/.path", str(repo / "more.cfg"))
    for wanted in ("working_tree", "staged", "HEAD"):
        diff_at(repo, wanted)
    assert not marker.exists()
    assert "discount) // 100" in diff_at(repo)


def test_a_missing_object_is_not_fetched_by_the_repositorys_own_program(repo: Path) -> None:
    marker = repo.parent / "marker"
    for key, value in {
        "core.repositoryformatversion": "1", "extensions.partialClone": "origin", "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::touch {marker}", "protocol.ext.allow": "always",
    }.items():  # fmt: skip
        run_git(repo, "config", key, value)
    blob = run_git(repo, "rev-parse", "HEAD:shop/cart.py").strip()
    (repo / ".git/objects" / blob[:2] / blob[2:]).unlink()
    assert diff_at(repo) == ""
    assert not marker.exists()


@pytest.mark.parametrize("how", ["core.worktree", "gitdir file", "link", "commondir"])
def test_a_repository_cannot_have_another_folder_read(tmp_path: Path, how: str) -> None:
    victim = make_project(tmp_path / "victim")
    thief = tmp_path / "thief"
    thief.mkdir()
    match how:
        case "core.worktree":
            make_project(thief)
            (victim / "shop/cart.py").write_text("VICTIM = 1\n")
            run_git(thief, "config", "core.worktree", str(victim))
        case "gitdir file":
            (thief / ".git").write_text(f"gitdir: {victim}/.git\n")
        case "link":
            (thief / ".git").symlink_to(victim / ".git")
        case "commondir":
            run_git(thief, "init", "-q", "-b", "main")
            (thief / ".git/commondir").write_text(f"{victim}/.git\n")
    for wanted in ("working_tree", "staged", "HEAD"):
        assert diff_at(thief, wanted) == ""


def test_worktrees_submodules_and_packages_of_a_repository_still_have_diffs(repo: Path, tmp_path: Path) -> None:
    (repo / "README").write_text("beside the package\n")
    assert diff_at(repo / "shop").splitlines()[2:4] == ["--- a/cart.py", "+++ b/cart.py"]
    assert "beside" not in diff_at(repo / "shop")
    inner = make_project(tmp_path / "inner")
    run_git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "part")
    run_git(repo, "worktree", "add", "-q", str(tmp_path / "tree"))
    for folder in (repo / "part", tmp_path / "tree"):
        (folder / "shop/cart.py").write_text(FIXED)
        assert "discount) // 100" in diff_at(folder)


def test_a_diff_holds_no_file_of_the_deny_list(repo: Path) -> None:
    (repo / "private").mkdir()
    for name in (".env", "private/notes.md", "deploy.pem"):
        (repo / name).write_text("before\n")
    run_git(repo, "add", "-A", "-f")
    run_git(repo, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "all")
    for name in (".env", "private/notes.md", "deploy.pem", ".env.local", "private/new.md"):
        (repo / name).write_text("hunter2\n")
    (repo / "shop/cart.py").write_text(BUGGY)
    for wanted in ("working_tree", "HEAD", "HEAD~1"):
        diff = diff_at(repo, wanted)
        assert "hunter2" not in diff
    assert "+    return sum(prices) - discount" in diff_at(repo)
