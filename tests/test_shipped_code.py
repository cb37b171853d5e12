"""The shipped playbooks about code, held against ruff, against planted answers, and against hostile files."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.load import builtin_root, load
from tests.playbooks import git
from tests.shipped import beside, by_hand, commit, put, script

few = settings(max_examples=40, deadline=None)

digester, coverage, adder = script("failing-tests-digest"), script("coverage-threshold"), script("add-licence-headers")


headers, reports = beside(adder.begin), beside(coverage.read_report)
junit, logs = beside(digester.read_junit), beside(digester.read_log)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- coverage -----------------------------------------------------------------------------------

hits_by_line = st.dictionaries(st.integers(1, 60), st.integers(0, 3))
covered = st.dictionaries(st.from_regex(r"[a-z]{1,8}\.py", fullmatch=True), hits_by_line, min_size=1, max_size=6)


def as_cobertura(files: dict[str, dict[int, int]]) -> str:
    classes = "".join(
        f"<class filename='{path}'><methods/><lines>"
        + "".join(f"<line number='{line}' hits='{hits}'/>" for line, hits in lines.items())
        + "</lines></class>"
        for path, lines in files.items()
    )
    return f"<coverage><packages><package><classes>{classes}</classes></package></packages></coverage>"


def as_json(files: dict[str, dict[int, int]]) -> str:
    split = {
        path: {"executed_lines": [n for n in lines if lines[n]], "missing_lines": [n for n in lines if not lines[n]]}
        for path, lines in files.items()
    }
    return json.dumps({"meta": {}, "files": split})


def as_lcov(files: dict[str, dict[int, int]]) -> str:
    return "".join(
        f"SF:{path}\n" + "".join(f"DA:{line},{hits}\n" for line, hits in lines.items()) + "end_of_record\n"
        for path, lines in files.items()
    )


@few
@given(covered, st.integers(0, 100), st.sampled_from([as_cobertura, as_json, as_lcov]))
def test_coverage_is_counted_as_by_hand(files: dict[str, dict[int, int]], threshold: int, write: Any) -> None:
    read = reports.read_report(write(files).encode())
    said = coverage.report(coverage.located(read.files, read.sources), threshold, 50)
    told = [(hits > 0, path, line) for path, lines in files.items() for line, hits in lines.items()]
    share = sum(hit for hit, *_ in told) / len(told) * 100 if told else 100
    assert said["total_percent"] == pytest.approx(share, abs=0.011)
    assert said["verdict"] == ("under" if share < threshold - 1e-9 else "over")
    shares = {path: sum(map(bool, lines.values())) / len(lines) * 100 for path, lines in files.items() if lines}
    assert {one["file"] for one in said["worst"]} == {path for path, one in shares.items() if one < threshold - 1e-9}
    assert [one["percent"] for one in said["worst"]] == sorted(one["percent"] for one in said["worst"])
    for one in said["worst"]:
        lines = files[one["file"]]
        spans = [list(map(int, part.split("-"))) for part in one["missing"].split(", ") if not part.startswith("and")]
        if len(spans) < coverage.NAMED_RANGES:
            inside = {line for span in spans for line in lines if span[0] <= line <= span[-1]}
            assert inside == {line for line in lines if not lines[line]}


def as_classes(*classes: tuple[str, str, int]) -> str:
    """A report from two source folders with (package, class, hits) of one file name each."""
    packages = "".join(
        f"<package name='{package}'><class name='{name}' filename='main.py'><line number='1' hits='{hits}'/></class>"
        "</package>"
        for package, name, hits in classes
    )
    return f"<coverage><sources><source>one</source><source>two</source></sources>{packages}</coverage>"


def test_files_of_one_name_are_not_taken_for_one(here: Path) -> None:
    put(here, {"coverage.xml": as_classes(("a", "main", 1), ("b", "main", 0))})
    code, _, told = by_hand("coverage-threshold", {}, here)
    assert (code, "main.py for more than one file" in told) == (1, True)
    put(here, {"two/main.py": "1\n"})  # The only file it can be: told of by two test runs.
    assert by_hand("coverage-threshold", {}, here)[1]["total_percent"] == 100
    put(here, {"one/main.py": "1\n", "coverage.xml": as_classes(("a", "main", 1))})
    assert by_hand("coverage-threshold", {}, here)[0] == 1
    inner = "<class name='A' filename='A.java'><line number='1' hits='1'/></class>"
    other = inner.replace("'A'", "'A$B'")
    put(here, {"coverage.xml": f"<coverage><package>{inner}{other}</package></coverage>"})
    assert by_hand("coverage-threshold", {}, here)[1]["files"] == 1


def test_changed_files_that_nothing_measured_are_told_of(here: Path) -> None:
    git(here, "init", "-q", "-b", "main")
    commit(here, {"a.py": "1\n", "coverage.json": as_json({"a.py": {1: 1}})})
    put(here, {"a.py": "2\n", "b/test_b.py": "3\n", "tests/c.py": "4\n", "d.md": "5\n", "b/__init__.py": ""})
    said = by_hand("coverage-threshold", {"since": "main"}, here)[1]
    assert (said["verdict"], said["unknown"]) == ("over", [])
    put(here, {"new.py": "def danger(): pass\n", "b/é.py": "6\n"})
    said = by_hand("coverage-threshold", {"since": "main", "limit": 1}, here)[1]
    assert (said["verdict"], said["total_percent"], said["unknown"], said["unknown_files"]) == (
        "unknown", 100, ["b/é.py"], 2
    )  # fmt: skip
    put(here, {"coverage.json": as_json({"a.py": {1: 0}})})
    assert by_hand("coverage-threshold", {"since": "main"}, here)[1]["verdict"] == "under"


def test_only_changed_files_are_asked_of_where_a_ref_is_named(here: Path) -> None:
    report = as_json({"a.py": {1: 0}, "b.py": {1: 0}, "new.py": {1: 1}})
    git(here, "init", "-q", "-b", "main")
    commit(here, {"a.py": "1\n", "b.py": "1\n", "coverage.json": report})
    put(here, {"a.py": "2\n", "new.py": "3\n"})
    code, said, _ = by_hand("coverage-threshold", {"since": "main"}, here)
    assert (code, said["files"], [one["file"] for one in said["worst"]]) == (0, 2, ["a.py"])
    assert by_hand("coverage-threshold", {"since": "nowhere"}, here)[0] == 10


# --- headers ------------------------------------------------------------------------------------

TOPS = {
    "py": [
        b"#!/usr/bin/env python\n",
        b"# -*- coding: latin-1 -*-\n",
        b"\xef\xbb\xbf",
        b"#!/bin/sh\n# coding: utf-8\n",
    ],
    "js": [b"#!/usr/bin/env node\n", b"/** @jest-environment jsdom */\n", b"// @ts-check\n\n", b"\xef\xbb\xbf"],
    "php": [b"<?php\n", b"#!/usr/bin/env php\n<?php\n", b"<?php echo 1;\n", b"<p>\n"],
    "css": [b'@charset "utf-8";\n', b'@charset "utf-8"; /*\n*/\n'],
    "xml": [b'<?xml version="1.0"?>\n', b'<?xml version="1.0"?><a\n', b"<!DOCTYPE a [\n"],
    "rs": [b"#![allow(x)]\n", b"//! docs\n"],
    "rb": [b"# frozen_string_literal: true\n", b"#!/usr/bin/ruby\n# encoding: utf-8\n"],
    "sql": [b"-- and more\n"],
}
bodies = st.sampled_from([
    b"", b"x\n", b"\n\nx = 1\n", b"# and then\ny\n", b"/* a */\nb", b'"""Doc."""\nz = 1\n', b"x\xe9\n", b"/* open",
])  # fmt: skip
tops = st.sampled_from([(suffix, top) for suffix, some in TOPS.items() for top in [b"", *some]])
notices = st.sampled_from([
    "SPDX-License-Identifier: MIT", "Copyright 2024 Ada Ünal\nSPDX-License-Identifier: Apache-2.0",
    "Licensed under X.\n\nSee LICENSE; coding: utf-8",
])  # fmt: skip


@few
@given(files=st.lists(st.tuples(tops, bodies, st.booleans()), min_size=1, max_size=12), notice=notices)
def test_a_header_is_added_once_and_nothing_else_changes(
    files: Any, notice: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("headers")
    before = {}
    for at, ((suffix, top), body, crlf) in enumerate(files):
        data = (top + body).replace(b"\n", b"\r\n") if crlf else top + body
        before[f"f{at}.{suffix}"] = data
    put(root, before)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        inputs = {"header": notice, "extensions": ",".join(TOPS)}
        first, _ = headers.begin(inputs)
        changed, left = adder.apply(first) if first else ([], [])
        second, _ = headers.begin(inputs)
    assert [one.path for one in second.missing] == left if second else not first
    for name, data in before.items():
        after = (root / name).read_bytes()
        assert (after != data) == (name in changed)
        start = next((at for at, byte in enumerate(data) if after[at] != byte), len(data))
        assert data[:start] + after[start : start + len(after) - len(data)] + data[start:] == after
        first_line = data.split(b"\n")[0]
        if first_line.startswith((b"#!/", b"<?", b"@charset", b"# -*-", b"/** @")):
            assert after.startswith(first_line)
        assert (b"\r\n" in after) <= (b"\r\n" in data)
        if name.endswith(".py") and name in changed:
            assert ast.dump(ast.parse(after)) == ast.dump(ast.parse(data))


def test_a_wider_licence_is_not_the_one_asked_for(here: Path) -> None:
    texts = ["MIT", "MIT OR Apache-2.0", "MIT-0", "MIT */", "  MIT  "]
    put(here, {f"f{at}.c": f"/* SPDX-License-Identifier: {text}\n*/\nint x;\n" for at, text in enumerate(texts)})
    code, said, _ = by_hand("licence-headers", {"header": "SPDX-License-Identifier: MIT"}, here)
    assert (code, said["missing"], said["other_files"]) == (0, 0, ["f1.c", "f2.c"])


# --- hostile files ------------------------------------------------------------------------------

ENTITIES = [("b", "x" * 99), ("c", "&b;" * 99), ("d", "&c;" * 99)]
BOMB = "<!DOCTYPE a [" + "".join(f'<!ENTITY {name} "{text}">' for name, text in ENTITIES) + "]>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_xml_that_expands_is_refused_before_it_does(encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    for body in ("<testsuite name='&d;'/>", "<testsuite/>"):
        with pytest.raises(junit.Refused, match="document type"):
            junit.read_junit(mark + (BOMB + body).encode(encoding))
    with pytest.raises(reports.Refused, match="document type"):
        reports.read_report(mark + (BOMB + "<coverage>&d;</coverage>").encode(encoding))
    outside = '<!DOCTYPE coverage SYSTEM "file:///etc/passwd"><coverage>&x;</coverage>'
    assert reports.read_report(mark + outside.encode(encoding))[:3] == ("cobertura", {}, [])


@pytest.fixture
def hostile(here: Path) -> Path:
    outside = here.parent / "outside"
    put(outside, {"secret.py": "import os\n", "log": "FAILED x.py::y - z\n1 failed in 1s\n"})
    project = here / "project"
    put(project, {
        "empty.py": "", "bom.py": b"\xef\xbb\xbfimport os\r\n", "lat.py": b"# coding: latin-1\nimport os\ns = '\xe9'\n",
        "bad.py": b"import os\n\xff", "lies.py": "# coding: no-such\nimport os\n", "nul.py": b"import os\0\n",
        "deep.py": "(" * 3000 + ")" * 3000, "long.py": "x = '" + "a" * 2_000_000, "two\nlines é.py": "import os\n",
        "escape.py": "import re\nx = '\\d'\n", "tabs.py": "if 1:\n\timport os\n        import re\n",
        "cr.py": b"import os\rx = 1\r",
        "pyproject.toml": "[project]\ndependencies = ['a==1', 'a==2', '\x1b[31m', 'b @ file:///x', ';', '-r x']\n",
        "requirements.txt": b"\xff\xfea\n", "package.json": "[" * 100_000, "Cargo.toml": "dependencies = 3",
        "go.mod": "require (" * 9999,
        "one-line.log": "FAILED " + "a::b - " * 800_000, "esc.log": "\x1b[" * 300_000 + "\nRan 1 test in 0.1s\n\nOK\n",
        "heads.log": "FAIL: a (b)\n" * 50_000 + "Ran 9 tests in 1s\n", "broken.xml": "<testsuite><testcase",
        "deep.xml": "<a>" * 200_000,
        "coverage.json": '{"files": {"../x\\n": {"executed_lines": [true], "missing_lines": [1e9]}}}',
        "lcov.info": "SF:/etc/passwd\nDA:99999999999999999999,1\n",
        "coverage.xml": "<coverage><class><line number='x'/></class></coverage>",
    })  # fmt: skip
    (project / os.fsdecode(b"\xff\xfe.py")).write_bytes(b"import os\n")
    (project / "link.py").symlink_to(outside / "secret.py")
    (project / "log").symlink_to(outside / "log")
    (project / "linked").symlink_to(outside, target_is_directory=True)
    (project / "loop").symlink_to(project, target_is_directory=True)
    os.mkfifo(project / "pipe.py")
    return project


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("unused-imports", {}, 0),
        ("unused-imports", {"folder": "linked"}, 10),
        ("unused-imports", {"folder": "/etc"}, 10),
        ("remove-unused-imports", {}, 0),
        ("dependency-report", {}, 0),
        ("failing-tests-digest", {"log": "one-line.log"}, 10),
        ("failing-tests-digest", {"log": "esc.log"}, 0),
        ("failing-tests-digest", {"log": "heads.log"}, 1),
        ("failing-tests-digest", {"log": "log"}, 10),
        ("failing-tests-digest", {"log": "broken.xml"}, 1),
        ("failing-tests-digest", {"log": "deep.xml"}, 1),
        ("failing-tests-digest", {"log": "empty.py"}, 10),
        ("coverage-threshold", {}, 1),
        ("coverage-threshold", {"report": "lcov.info"}, 1),
        ("coverage-threshold", {"report": "coverage.xml"}, 1),
        ("coverage-threshold", {"report": "../outside/log"}, 10),
        ("licence-headers", {"header": "SPDX-License-Identifier: MIT"}, 0),
        ("add-licence-headers", {"header": "Ünal SPDX-License-Identifier: MIT"}, 0),
    ],
)
def test_a_hostile_project_gets_an_answer_or_one_line(
    hostile: Path, name: str, inputs: dict[str, Any], expected: int
) -> None:
    code, said, told = by_hand(name, inputs, hostile)
    assert code == expected, told
    assert len(told) < 300
    if said is not None:
        playbook = load(read_folder(builtin_root() / name, shipped=True), "sha256:", origin="package")
        playbook.outputs.check(said)
        assert len(json.dumps(said)) < 8_000
        assert "outside" not in json.dumps(said)
    assert (hostile.parent.parent / "outside" / "secret.py").read_text() == "import os\n"
