"""Attacks on shipped playbooks that once got a wrong answer, each run as their SKILL.md says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.playbooks import git
from tests.shipped import by_hand


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    return tmp_path


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def commit(repo: Path, files: dict[str, str | bytes]) -> None:
    write(repo, files)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "more")


def answer(name: str, where: Path, **inputs: Any) -> dict[str, Any]:
    code, result, said = by_hand(name, inputs, where)
    assert (code, said) == (0, "")
    found: dict[str, Any] = result
    return found


# --- release-checklist --------------------------------------------------------------------------

OF_GIT = ["lock", "markers", "clean", "branch", "upstream", "tag", "newer"]
READY: dict[str, str | bytes] = {
    "pyproject.toml": '[project]\nversion = "1.0.0"\n', "LICENSE": "x\n", "README.md": "x\n", "a.js": "x\n",
}  # fmt: skip


def not_ready(where: Path) -> list[str]:
    found = answer("release-checklist", where, version="1.0.0")
    assert found["ready"] == (not found["failed"])
    return list(found["failed"])


@pytest.mark.parametrize("broken", ["HEAD", "config"])
def test_a_repository_that_git_will_not_read_is_not_ready(repo: Path, broken: str) -> None:
    commit(repo, READY)
    assert not_ready(repo) == []
    (repo / ".git" / broken).write_text("[garbage\n")
    assert not_ready(repo) == OF_GIT


def test_a_repository_that_denies_its_working_tree_is_not_ready(repo: Path) -> None:
    commit(repo, READY)
    (repo / "package").mkdir()
    write(repo / "package", READY)
    git(repo, "config", "core.bare", "true")
    assert (not_ready(repo), not_ready(repo / "package")) == (OF_GIT, OF_GIT)


def test_what_git_no_longer_has_is_no_free_tag_and_no_fresh_lock(repo: Path) -> None:
    commit(repo, READY | {"uv.lock": "x\n"})
    git(repo, "config", "branch.main.remote", ".")
    git(repo, "config", "branch.main.merge", "refs/heads/gone")
    assert not_ready(repo) == ["upstream"]
    (repo / ".git/refs/heads/main").write_text("1" * 40 + "\n")
    assert not_ready(repo) == ["lock", "clean", "upstream"]


def test_a_source_too_large_to_read_is_not_free_of_debuggers(repo: Path) -> None:
    commit(repo, READY | {"a.js": "x();\n" * 1_000_000 + "debugger;\n"})
    assert not_ready(repo) == ["markers"]


# --- repository-sweep ---------------------------------------------------------------------------

KEY = f"KEY = '{'AK' + 'IA'}Z7QWERTYPLMN2345'\n"


def found_in(repo: Path) -> list[tuple[str, str, str]]:
    found = answer("repository-sweep", repo, large_kb=10_000)
    assert found["clean"] == (not found["findings"])
    return [(one["kind"], one["path"], one["detail"]) for one in found["findings"]]


def test_a_key_that_only_the_working_tree_is_rid_of_is_found_where_it_still_is(repo: Path) -> None:
    commit(repo, {"conf.py": KEY, "gone.py": KEY, "same.py": "x\n"})
    write(repo, {"conf.py": "x = 1\n"})
    (repo / "gone.py").unlink()
    git(repo, "update-index", "--assume-unchanged", "conf.py")
    assert found_in(repo) == [
        ("secret", "conf.py", "aws-access-key, in the index"), ("secret", "gone.py", "aws-access-key, in the index"),
    ]  # fmt: skip
    git(repo, "update-index", "--no-assume-unchanged", "conf.py")
    git(repo, "add", "-A")
    assert [detail for _, _, detail in found_in(repo)] == ["aws-access-key, in HEAD"] * 2
    commit(repo, {})
    write(repo, {"conf.py": KEY})
    assert found_in(repo) == [("secret", "conf.py", "aws-access-key")]


def test_a_repository_with_a_text_that_was_not_read_is_not_called_clean(repo: Path) -> None:
    commit(repo, {"big.sql": "insert 1;\n" * 250_000 + KEY, "big.bin": b"\0" * 2_500_000})
    assert found_in(repo) == [("unread", "big.sql", "larger than 2 MB")]
    write(repo, {"big.sql": "select 1;\n"})
    assert found_in(repo) == [("unread", "big.sql", "larger than 2 MB, in the index")]
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "smaller")
    assert found_in(repo) == []


# --- check-files-exist --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "readme",
    [
        "Marks `<!--` [a](gone.md)\n[b](lost.md) and `-->`.\n",
        "\\<!-- [a](gone.md) <!--> [b](lost.md) -->\n",
        "<!-- ` --> [a](gone.md) <!-- ` -->\n[b](lost.md)\n",
        "``a ` <!-- b`` [a](gone.md)\n[b](lost.md) -->\n",
        "<!--\n```\n-->\n[a](gone.md)\n[b](lost.md)\n<!--\n```\n-->\n",
    ],
)
def test_a_link_between_marks_of_comments_that_are_none_is_still_looked_for(tmp_path: Path, readme: str) -> None:
    write(tmp_path, {"README.md": readme})
    found = answer("check-files-exist", tmp_path)
    assert [one["name"] for one in found["missing"]] == ["gone.md", "lost.md"]


@pytest.mark.parametrize(
    "readme", ["<!-- `<!--` [a](gone.md) `x` -->\n[b](here.md)", "`[a](gone.md) <!--` [b](here.md) `-->`"]
)
def test_a_link_in_a_comment_or_in_code_is_not_looked_for(tmp_path: Path, readme: str) -> None:
    write(tmp_path, {"README.md": readme, "here.md": "x"})
    assert answer("check-files-exist", tmp_path)["verdict"] == "all there"


# --- remove-unused-imports ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", '[project.scripts]\ntool = "pkg.cli:main"\n'),
        ("setup.cfg", "[options.entry_points]\nconsole_scripts =\n    tool = pkg.cli:main\n"),
        ("setup.py", "setup(entry_points={'console_scripts': ['tool = pkg.cli:main']})\n"),
        ("Procfile", "web: gunicorn pkg.cli:main\n"),
        ("Dockerfile", 'CMD ["uvicorn", "pkg.cli:main"]\n'),
        ("compose.yaml", "services:\n  web:\n    command: uvicorn cli:main --reload\n"),
        ("app.ini", "[uwsgi]\nmodule = pkg.cli:main\n"),
        ("serve.yml", "handler: pkg/cli.main\n"),
        ("broken.py", "run(pkg.cli:main\n"),
    ],
)
def test_an_import_that_a_setting_names_is_not_taken_out(tmp_path: Path, name: str, text: str) -> None:
    source = "import csv\nfrom pkg.core import main\nfrom json import loads\n"
    write(tmp_path, {"pkg/__init__.py": "", "pkg/core.py": "def main(): ...\n", "pkg/cli.py": source, name: text})
    answer("remove-unused-imports", tmp_path, effects=True)
    assert (tmp_path / "pkg/cli.py").read_text() == "from pkg.core import main\n"


def test_what_servers_and_frameworks_read_from_a_module_stays_in_it(tmp_path: Path) -> None:
    source = "from pkg.core import main as application\n"
    names = ["wsgi.py", "site/asgi.py", "site/settings.py", "site/settings/local.py", "conftest.py", "plain.py"]
    write(tmp_path, dict.fromkeys(names, source))
    assert answer("unused-imports", tmp_path)["findings"] == ["plain.py:1: unused import pkg.core.main as application"]


# --- add-licence-headers ------------------------------------------------------------------------

HEADER = "SPDX-License-Identifier: MIT"
FIRST = {
    "x.el": ";;; x.el --- thing  -*- lexical-binding: t; -*-\n",
    "a.c": "/* -*- mode: c; c-file-style: linux -*- */\n",
    "b.c": "/* -*- mode: c -*-\n * and more\n */\n",
    "a.cpp": "// -*- C++ -*-\n",
    "a.lua": "-- vim: set sw=4:\n",
    "a.html": "<!-- -*- html -*- -->\n<!DOCTYPE html>\n",
    "b.html": "---\nlayout: page\n---\n",
    "c.html": "<!DOCTYPE html>\n",
    "a.scss": "---\n---\n",
    "a.css": '@charset "utf-8";\n',
    "a.hs": "{- -*- mode: haskell -*- -}\n",
    "run.rb": "#!/usr/bin/env ruby\n# -*- mode: ruby -*-\n",
    "c.zsh": "#compdef foo\n",
    "d.zsh": "#autoload\n",
    "l.scm": "#lang racket\n",
    "Package.swift": "// swift-tools-version:5.5\n",
    "sc.rs": "#!/usr/bin/env -S cargo +nightly -Zscript\n---cargo\n[dependencies]\n---\n",
    "e.erl": "#!/usr/bin/env escript\n%% -*- erlang -*-\n%%! -smp enable\n",
    "t.nim": "#? stdtmpl\n",
    "m.sql": "--liquibase formatted sql\n",
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_first_line_that_tools_read_stays_first(tmp_path: Path, end: str) -> None:
    write(tmp_path, {name: (top + "x\n").replace("\n", end) for name, top in FIRST.items()})
    kinds = ",".join(sorted({name.rpartition(".")[2] for name in FIRST}))
    done = answer("add-licence-headers", tmp_path, header=HEADER, extensions=kinds)
    assert (done["changed"], done["left"]) == (len(FIRST), [])
    for name, top in FIRST.items():
        text = (tmp_path / name).read_bytes().decode()
        assert text.startswith(top.replace("\n", end)), name
        assert HEADER in text[len(top) :].split(end * 2)[0], name
    assert answer("licence-headers", tmp_path, header=HEADER, extensions=kinds)["missing"] == 0


@pytest.mark.parametrize("name", ["a.js", "a.sql"])
def test_a_header_stays_in_front_of_what_only_looks_like_a_first_line(tmp_path: Path, name: str) -> None:
    body = {"a.js": '"use strict";\n', "a.sql": "---\n-- no end of it\nselect 1;\n"}[name]
    write(tmp_path, {name: body})
    answer("add-licence-headers", tmp_path, header=HEADER)
    text = (tmp_path / name).read_text()
    assert HEADER in text.split("\n")[0]
    assert text.endswith("\n\n" + body)


# --- rename-symbol ------------------------------------------------------------------------------

TEST = "import unittest, lib\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(lib.total(), 3)\n"


@pytest.mark.parametrize(
    "text", ['f"{lib.total()}"', 'rF"{1:>{total}}"', "f'''{\nx(total=1)}'''", 'f"{[(lambda total: 1)]}"', "f'{grand}'"]
)
def test_a_name_used_within_a_text_is_renamed_there_or_nowhere(tmp_path: Path, text: str) -> None:
    files = {"lib.py": "def total(): return 3\n", "test_x.py": TEST, "show.py": f"def show(): return {text}\n"}
    write(tmp_path, {**files})
    code, _, said = by_hand("rename-symbol", {"old": "total", "new": "grand"}, tmp_path)
    if sys.version_info >= (3, 12) and "grand" not in text:
        assert (tmp_path / "show.py").read_text() == files["show.py"].replace("total", "grand")
        assert code == 0
    else:
        assert (code, "show.py" in said) == (10, True)
        assert {name: (tmp_path / name).read_text() for name in files} == files


def test_a_name_that_a_text_only_says_stands_in_no_way(tmp_path: Path) -> None:
    text = """def show(x): return f"total {x['total']} {{total}}", "total", rb"f{total}", f"{x!r:total}"\n"""
    write(tmp_path, {"lib.py": "def total(): return 3\n", "test_x.py": TEST, "show.py": text})
    assert answer("rename-symbol", tmp_path, old="total", new="grand")["files"] == ["lib.py", "test_x.py"]
    assert (tmp_path / "show.py").read_text() == text
