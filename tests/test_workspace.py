"""The path rule, reads beneath the root, globs, and the private folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit.errors import InvalidInput, NotFound, PathRefused
from mcp_tierkit.workspace import Workspace, clean_path, open_beneath
from tests.support import bytes_read

HOSTILE = [
    "", ".", "./", "/etc/passwd", "../x", "a/../../x", "a/..", "-rf", "./-rf", "~/x", "a/~b", "a\\b", "a\0b", "a\nb",
    "a\x1bb",
    "a\x7fb", "\u202egnp.exe", "a\u200bb", "a\ufeffb", "a\u00a0b", "a\u2028b", "a\u00adb", "a\u3164b", "a\ufe0fb",
    "a\udcffb", "a" * 256, "b/" * 600 + "c", "a\U000e0041b",
]  # fmt: skip


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "src" / "app.py").write_text("print('hi')\n")
    (tmp_path / "secret.txt").write_text("outside")
    return Workspace(root)


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_that_is_not_plainly_inside_is_refused(ws: Workspace, path: str) -> None:
    for door in (ws.clean, ws.read, ws.digest, ws.exists, ws.denied, lambda p: ws.expand([p])):
        with pytest.raises(PathRefused):
            door(path)


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("./src//app.py", "src/app.py"),
        ("src/", "src"),
        ("app/[id]/page.tsx", "app/[id]/page.tsx"),
        ("a b/ü.py", "a b/ü.py"),
    ],
)
def test_a_plain_path_is_normalised(path: str, clean: str) -> None:
    assert clean_path(path) == clean


@given(st.text(alphabet=st.sampled_from(list("abc./~-\\\0 \u202e\u200f*é")), max_size=12))
def test_whatever_is_let_through_stays_beneath_the_root(path: str) -> None:
    try:
        clean = clean_path(path)
    except PathRefused:
        return
    assert os.path.normpath(os.path.join("/base", clean)).startswith("/base/")
    assert clean_path(clean) == clean


def test_a_file_is_read_as_it_is(ws: Workspace) -> None:
    (ws.root / "crlf.txt").write_bytes(b"a\r\nb")
    assert ws.read("src/app.py") == b"print('hi')\n"
    assert ws.text("crlf.txt") == "a\r\nb"
    assert ws.exists("src/app.py")
    assert not ws.exists("src/none.py")
    assert ws.digest("src/none.py") is None
    assert ws.digest("none/none.py") is None
    with pytest.raises(NotFound):
        ws.read("src/none.py")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b"])
def test_a_binary_file_is_no_text(ws: Workspace, data: bytes) -> None:
    (ws.root / "b").write_bytes(data)
    with pytest.raises(InvalidInput, match="not UTF-8"):
        ws.text("b")


def test_no_link_is_followed_at_any_place(ws: Workspace, tmp_path: Path) -> None:
    (ws.root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (ws.root / "inner").symlink_to("src/app.py")
    (ws.root / "folder").symlink_to(tmp_path)
    for path in ("link.txt", "inner", "folder/secret.txt", "folder/new.txt"):
        for door in (ws.read, ws.digest, ws.exists):
            with pytest.raises(PathRefused, match="link"):
                door(path)


def test_the_component_walk_refuses_what_openat2_refuses(ws: Workspace, tmp_path: Path) -> None:
    (ws.root / "folder").symlink_to(tmp_path)
    (ws.root / "last").symlink_to("src/app.py")
    root = os.open(ws.root, os.O_RDONLY)
    try:
        os.close(open_beneath(root, "src/app.py", os.O_RDONLY, walk=True))
        for path in ("folder/secret.txt", "last", "folder"):
            for walk in (True, False):
                with pytest.raises(OSError, match="symbolic links"):
                    open_beneath(root, path, os.O_RDONLY, walk=walk)
    finally:
        os.close(root)


def test_special_and_huge_files_are_refused_at_once(ws: Workspace) -> None:
    os.mkfifo(ws.root / "pipe")
    with open(ws.root / "huge", "wb") as file:
        file.truncate(5_000_000_000)
    before = bytes_read()
    for path in ("pipe", "huge", "src"):
        for door in (ws.read, ws.digest):
            with pytest.raises(PathRefused):
                door(path)
    assert bytes_read() - before < 1_000_000


def test_a_link_swapped_in_and_out_never_shows_what_is_outside(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "app.py").write_text("outside")
    (ws.root / "other").symlink_to(tmp_path / "outside")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for one, two in (("src", "spare"), ("other", "src"), ("src", "other"), ("spare", "src")):
                os.rename(ws.root / one, ws.root / two)

    flipping = threading.Thread(target=swap)
    flipping.start()
    seen: set[bytes | str] = set()
    try:
        for _ in range(3000):
            try:
                seen.add(ws.read("src/app.py"))
            except (PathRefused, NotFound) as error:
                seen.add(type(error).__name__)
    finally:
        done.set()
        flipping.join()
    assert b"outside" not in seen
    assert {b"print('hi')\n", "PathRefused"} <= seen


def test_denied_files_are_never_read(ws: Workspace) -> None:
    ws = Workspace(ws.root, deny=("secrets/**",))
    for path in (".env", "deep/.env.local", ".git/config", "sub/.GIT/config", "secrets/a.txt", "id_rsa"):
        file = ws.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        assert ws.denied(path), path
        for door in (ws.read, ws.text, ws.digest):
            with pytest.raises(PathRefused, match="deny list"):
                door(path)
    assert ws.expand(["**", ".env", "secrets/a.txt"]) == ("src/app.py",)


def test_globs_folders_and_plain_names_expand_to_files(ws: Workspace) -> None:
    for path in (
        "a.py",
        "src/b.py",
        "src/deep/c.py",
        "src/deep/d.txt",
        "app/[id]/page.py",
        "node_modules/x.py",
        ".venv/y.py",
    ):
        (ws.root / path).parent.mkdir(parents=True, exist_ok=True)
        (ws.root / path).write_text("x")
    (ws.root / "src" / "link.py").symlink_to("b.py")
    assert ws.expand(["a.py", "missing.py"]) == ("a.py",)
    assert ws.expand(["src/"]) == ("src/app.py", "src/b.py", "src/deep/c.py", "src/deep/d.txt")
    assert ws.expand(["src/*.py"]) == ("src/app.py", "src/b.py")
    assert ws.expand(["src/**/*.py"]) == ("src/app.py", "src/b.py", "src/deep/c.py")
    assert ws.expand(["*.py"]) == ("a.py", "app/[id]/page.py", "src/app.py", "src/b.py", "src/deep/c.py")
    assert ws.expand(["src", "!src/deep/**"]) == ("src/app.py", "src/b.py")
    assert ws.expand(["app/[id]/page.py"]) == ("app/[id]/page.py",)
    assert ws.expand(["node_modules/x.py"]) == ("node_modules/x.py",)
    with pytest.raises(PathRefused, match="link"):
        ws.expand(["src/link.py"])


def test_plain_names_cost_no_walk(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("walked")

    monkeypatch.setattr(os, "scandir", refuse)
    assert ws.expand(["src/app.py", "new/file.py"]) == ("src/app.py",)


def test_private_files_are_ignored_by_git(ws: Workspace) -> None:
    assert ws.write_private("t1/diff.patch", b"x") == ".tierkit/t1/diff.patch"
    assert ws.write_private(".tierkit/t1/diff.patch", b"y") == ".tierkit/t1/diff.patch"
    assert ws.read(".tierkit/t1/diff.patch") == b"y"
    assert (ws.root / ".tierkit/.gitignore").read_bytes() == b"*\n"
    assert (ws.root / ".tierkit/t1/diff.patch").stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(ws.root / ".tierkit/t1")) == ["diff.patch"]


def test_a_private_folder_that_is_a_link_is_refused(ws: Workspace, tmp_path: Path) -> None:
    (ws.root / ".tierkit").symlink_to(tmp_path)
    with pytest.raises(PathRefused, match="symbolic link"):
        ws.write_private("t1/log", b"x")
    assert not (tmp_path / "t1").exists()


def test_a_private_write_replaces_a_planted_link_and_follows_none(ws: Workspace, tmp_path: Path) -> None:
    (ws.root / ".tierkit").mkdir()
    (ws.root / ".tierkit" / ".gitignore").symlink_to(tmp_path / "secret.txt")
    (ws.root / ".tierkit" / "log").symlink_to(tmp_path / "secret.txt")
    (ws.root / ".tierkit" / "dir").symlink_to(tmp_path)
    ws.write_private("log", b"x")
    with pytest.raises(PathRefused):
        ws.write_private("dir/y", b"x")
    assert (tmp_path / "secret.txt").read_text() == "outside"
    assert (ws.root / ".tierkit/.gitignore").read_bytes() == b"*\n"
    assert not (tmp_path / "y").exists()
