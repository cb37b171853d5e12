"""The shipped playbooks that read a repository: nothing of it runs, and what is secret is not told."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.playbook.folder import digest, read_folder
from mcp_tierkit.playbook.load import builtin_root, load
from mcp_tierkit.playbook.run import Bench
from mcp_tierkit.playbook.run import run as run_confined
from mcp_tierkit.sandbox import probe
from mcp_tierkit.workspace import Workspace
from tests.playbooks import git, make_world
from tests.shipped import KEYS, by_hand, commit, hostile_repository, made_up, put, script

RELEASE, SWEEP = script("release-checklist"), script("repository-sweep")
USUAL = settings(max_examples=60, deadline=None)


def run(name: str, where: Path, **inputs: Any) -> tuple[int, Any, str]:
    return by_hand(name, inputs, where)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q", "-b", "main")
    return project


ASKS_GIT: dict[str, dict[str, Any]] = {
    "changelog-from-git": {"from_ref": "HEAD~1"},
    "coverage-threshold": {"since": "HEAD"},
    "release-checklist": {"version": "1.0.0"},
    "repository-sweep": {"history": True},
    "status-report": {},
    "todo-inventory": {"blame": True},
}


def test_these_are_all_that_ask_git() -> None:
    assert set(ASKS_GIT) == {path.parts[-3] for path in builtin_root().glob("*/scripts/quiet_git.py")}


@pytest.mark.parametrize("name", ASKS_GIT)
def test_a_hostile_repository_starts_no_program(tmp_path: Path, name: str) -> None:
    repo = tmp_path / "project"
    repo.mkdir()
    marker = hostile_repository(repo)
    put(repo, {"coverage.json": '{"files": {"plain.py": {"executed_lines": [1], "missing_lines": []}}}'})
    code, result, said = run(name, repo, **ASKS_GIT[name])
    assert (code, said) == (0, "")
    assert result
    assert not marker.exists()
    subprocess.run(["git", "add", "."], cwd=repo, capture_output=True, check=False)
    assert marker.exists(), "a careless git would have started it"


@pytest.mark.parametrize("name", ["release-checklist", "repository-sweep", "todo-inventory"])
def test_names_no_one_would_choose_and_a_repository_without_commits_are_no_crash(repo: Path, name: str) -> None:
    odd = ["with space.py", 'quote"d.py', "new\nline.py", "-dash.py", "ü.py", ":(top)x.py", "tab\t.py"]
    put(repo, dict.fromkeys(odd, "# TODO: one\n"))
    (repo / "link.py").symlink_to("/etc/passwd")
    (repo / "loop").symlink_to(".")
    git(repo, "add", "-A")
    code, result, said = run(name, repo, **ASKS_GIT[name])
    assert (code, said) == (0, "")
    if name == "todo-inventory":
        assert (result["total"], {one["file"] for one in result["items"]}) == (len(odd), set(odd))


# --- sweep --------------------------------------------------------------------------------------


@USUAL
@given(
    st.sampled_from(KEYS),
    st.integers(0, 10**6),
    st.sampled_from(["", "x = 1\n", "ü\n" * 40]),
    st.sampled_from(["'{}'", "key={}", "{}"]),
)
def test_a_planted_key_is_found_at_its_line_by_its_rule(kind: str, seed: int, before: str, form: str) -> None:
    found = SWEEP.Secrets().find(before + form.format(made_up(kind, seed)) + "\nend\n")
    assert (before.count("\n") + 1, kind) in found


def test_a_secret_is_told_by_place_and_never_by_text(repo: Path) -> None:
    keys = {kind: made_up(kind, number) for number, kind in enumerate(KEYS)}
    files: dict[str, str | bytes] = {f"{number}.txt": f"\n{key}\n" for number, key in enumerate(keys.values())}
    commit(
        repo,
        {**files, f"{keys['github-token']}.orig": "named\n", "wide.txt": f"\n{keys['npm-token']}\n".encode("utf-16")},
    )
    code, found, said = run("repository-sweep", repo, limit=100)
    secrets = [(one["path"], one["line"], one["detail"]) for one in found["findings"] if one["kind"] == "secret"]
    assert secrets == [
        *sorted((f"{number}.txt", 2, kind) for number, kind in enumerate(KEYS)),
        ("wide.txt", 2, "npm-token"),
    ]
    told = json.dumps(found) + said
    assert code == 0
    assert "<github-token>.orig" in told
    assert [kind for kind, key in keys.items() if key.split("\n")[-1][-12:] in told] == []


def test_what_only_looks_like_a_key_is_no_finding() -> None:
    texts = [
        "AKIAIOSFODNN7" + "EXAMPLE", "password = get_password()", "sk_test_" + "a" * 24, "postgres://user:password@db/x",
        "5f3c1b8e9d0a4b7c8e6f1234567890abcdef1234", "token: str", "-----BEGIN PRIVATE KEY-----\n...\n", "https://example.com/a:b@c",
        made_up("github-token", 1) + "  # pragma: allowlist secret",
    ]  # fmt: skip
    assert [text for text in texts if SWEEP.Secrets().find(text)] == []


def test_an_unresolved_merge_is_found_and_a_heading_or_an_edit_is_not() -> None:
    left, right = "<" * 7, ">" * 7
    merge = f"a\n{left} HEAD\nours\n=======\ntheirs\n{right} side\n"
    assert SWEEP.conflict(merge) == SWEEP.conflict(merge.replace("\n", "\r\n")) == 2
    for text in (
        "Title\n=======\n",
        f"{left} SEARCH\na\n=======\nb\n{right} REPLACE\n",
        f"x = '{left} HEAD'\n=======\n{right} b\n",
    ):
        assert SWEEP.conflict(text) is None


@pytest.mark.parametrize(
    "part",
    [
        "eyJ" + "a" * 12 + ".",
        "a://b:",
        "password='",
        "-----BEGIN PRIVATE KEY-----\n",
        "<<<<<<<\n=======\n",
        "gh",
        "SK0",
        "A: b\n",
    ],
)
def test_hostile_files_cost_the_sweep_linear_time(part: str) -> None:
    text = part * (1_000_000 // len(part)) + ">>>>>>>"
    started = time.process_time()
    SWEEP.Secrets().find(text)
    SWEEP.conflict(text)
    assert time.process_time() - started < 4


# --- release ------------------------------------------------------------------------------------

READY: dict[str, str | bytes] = {
    "pyproject.toml": '[project]\nname = "a"\nversion = "1.1.0"\n',
    "CHANGELOG.md": "# Changes\n\n## 1.1.0\n\n- x\n\n## 1.0.0\n",
    "LICENSE": "x\n", "README.md": "x\n",
}  # fmt: skip


def status(repo: Path, version: str = "1.1.0", **more: str) -> dict[str, str]:
    code, found, said = run("release-checklist", repo, version=version, **more)
    assert (code, said) == (0, "")
    assert found["ready"] == (not found["failed"])
    return {one["item"]: one["status"] for one in found["checks"]}


def test_each_fault_of_a_release_fails_its_own_item(repo: Path) -> None:
    commit(repo, READY)
    git(repo, "tag", "v1.0.0")
    assert "fail" not in status(repo).values()
    assert [item for item, said in status(repo, "1.2.0").items() if said == "fail"] == ["version", "changelog"]
    assert [item for item, said in status(repo, "1.0.0").items() if said == "fail"] == [
        "version",
        "changelog",
        "tag",
        "newer",
    ]
    assert status(repo, branch="stable")["branch"] == "fail"
    (repo / "notes").touch()
    assert [item for item, said in status(repo).items() if said == "fail"] == ["clean"]
    commit(repo, {"a.js": "debugger;\n", "package.json": '{"version": "1.1"}'})
    assert [item for item, said in status(repo).items() if said == "fail"] == ["version", "markers"]


def test_a_lock_file_is_stale_only_when_dependencies_moved(repo: Path) -> None:
    manifest = '[project]\nversion = "1.1.0"\ndependencies = ["a"]\n'
    commit(repo, {**READY, "pyproject.toml": manifest, "uv.lock": "x\n"})
    commit(repo, {"pyproject.toml": manifest + "[tool.ruff]\nline-length = 99\n"})
    assert status(repo)["lock"] == "pass"
    commit(repo, {"pyproject.toml": manifest.replace('"a"', '"a", "b"')})
    assert status(repo)["lock"] == "fail"
    commit(repo, {"uv.lock": "y\n"})
    assert status(repo)["lock"] == "pass"


def test_a_shallow_clone_claims_nothing_about_tags(repo: Path, tmp_path: Path) -> None:
    commit(repo, READY)
    commit(repo, {"more": "x"})
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", "--no-tags", repo.as_uri(), "shallow"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert status(tmp_path / "shallow")["tag"] == "fail"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("## 1.2.0\n- x\n## 1.1.0\n- y\n", (1, 1)),
        ("## [v1.2.0] - 2024\n\n### Added\n\n- x\n- y\n\n[1.2.0]: http://a\n", (1, 2)),
        ("Version 1.2.0 (2024)\n====================\n\nx\n\n1.1.0\n=====\n\ny\n", (1, 1)),
        ("## 1.2.0\n\n## 1.1.0\n- y\n", (1, 0)),
        ("## 1.2.0-rc.1\n- x\n## 11.2.0\n- x\n## 1.2.0.1\n- y\n", None),
        ("# Unreleased\n- 1.2.0 will be good\n", None),
        ("", None),
    ],
)
def test_the_section_of_a_version_is_found_in_any_style(text: str, wanted: tuple[int, int] | None) -> None:
    assert RELEASE.checks.section(text, "1.2.0") == wanted


def test_a_filter_whose_name_is_not_text_starts_nothing(repo: Path) -> None:
    (repo / ".gitattributes").write_bytes(b"* filter=\xff\n")
    (repo / "a.py").write_text("1\n")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "one")
    with (repo / ".git/config").open("ab") as config:
        config.write(b'[filter "\xff"]\n\tclean = touch marker; cat\n')
    (repo / "a.py").write_text("one\n")
    assert by_hand("status-report", {}, repo)[0] == 0
    assert not (repo / "marker").exists()


# --- the runner ---------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.usefixtures("sandboxed")
async def test_the_history_of_a_larger_repository_is_found_from_a_package_of_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "feat: one")
    run = await make_world(tmp_path / "packages").run("status-report")
    assert run.output is not None
    assert run.output["commits"] == 1


@pytest.mark.anyio
async def test_a_masked_file_does_not_make_a_clean_tree_look_changed(repo: Path) -> None:
    confinement = await probe()
    if confinement.kind != "sandbox":
        pytest.skip("no sandbox on this machine")
    commit(repo, {**READY, ".env": "SHOP=1\n", "key.pem": "not a key\n"})

    async def output(name: str, **inputs: Any) -> dict[str, Any]:
        folder = read_folder(builtin_root() / name, shipped=True)
        playbook = load(folder, digest(folder, shipped=True), origin="package")
        bench = Bench(workspace=Workspace(repo), confinement=confinement)
        return (await run_confined(playbook, playbook.inputs.check(inputs), bench)).output or {}

    release = await output("release-checklist", version="1.1.0")
    assert (release["ready"], release["failed"]) == (True, [])
    sweep = await output("repository-sweep")
    found = [(one["path"], one["detail"]) for one in sweep["findings"]]
    assert (found, sweep["unread"]) == ([(".env", "secret-file"), ("key.pem", "secret-file")], 0)
