"""Clean-up measured from git and from the tree: what was rewritten, what was not, and what nobody can know."""

from __future__ import annotations

import os
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.cleanup import measure
from mcp_tierkit.journal import apply, undo
from mcp_tierkit.scorecard import LineCount
from mcp_tierkit.types import Content
from mcp_tierkit.workspace import Workspace

DAY = timedelta(days=1)
THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
TWO_DAYS_LATER = int((THEN + 2 * DAY).timestamp())
OLD = "def total(prices):\n    return sum(prices)\n\n\ndef count(prices):\n    return len(prices)\n"
NEW = """def total(prices, discount):
    if discount < 0:
        raise ValueError("a discount below nothing")
    whole = sum(prices)
    return whole * (100 - discount) // 100


def count(prices):
    return len(prices)
"""  # five lines of the task's own
MENDED = NEW.replace("a discount below nothing", "negative discount").replace("// 100", "/ 100")  # two of them again


class Field:
    """A repository in which a task's change was applied on 1 March, and what somebody does with it later."""

    def __init__(self, root: Path, *, has_git: bool = True) -> None:
        self.root, self.state, self.file = root / "app", root / "state", root / "app" / "shop.py"
        self.root.mkdir()
        self.write(OLD, THEN - DAY)
        (self.root / "other.py").write_text("x = 1\n")
        if has_git:
            self.git("init", "-q", "-b", "main")
            self.commit(THEN - DAY)
        self.ws = Workspace(self.root)
        changes: dict[str, Content | None] = {"shop.py": Content(data=NEW.encode())}
        apply(self.ws, self.state, "t1", changes, {"shop.py": self.ws.digest("shop.py")})

    def git(self, *args: str, at: datetime = THEN) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        env |= {f"GIT_{who}_DATE": at.isoformat() for who in ("AUTHOR", "COMMITTER")}
        env |= {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(["git", *args], cwd=self.root, env=env, check=True, capture_output=True, text=True).stdout

    def write(self, text: str, at: datetime) -> None:
        self.file.write_text(text)
        os.utime(self.file, (at.timestamp(), at.timestamp()))

    def commit(self, at: datetime) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "c", at=at)

    def measured(self, days: float) -> LineCount:
        return measure(self.ws, self.state, "t1", at=THEN, now=THEN + days * DAY)


def left_alone(field: Field) -> None:
    pass


def edited(field: Field) -> None:
    field.write(MENDED, THEN + DAY)


def edited_late(field: Field) -> None:
    field.write(MENDED, THEN + 9 * DAY)


def committed_and_edited_twice(field: Field) -> None:
    field.commit(THEN + DAY)
    field.write(NEW.replace("a discount below nothing", "negative"), THEN + 2 * DAY)
    field.commit(THEN + 2 * DAY)
    field.write(MENDED, THEN + 9 * DAY)
    field.commit(THEN + 9 * DAY)


def committed_edited(field: Field) -> None:
    field.write(MENDED, THEN + DAY)
    field.commit(THEN + DAY)


def squashed(field: Field) -> None:
    field.git("switch", "-qc", "feature")
    committed_and_edited_twice(field)
    field.git("switch", "-q", "main")
    field.git("merge", "-q", "--squash", "feature")
    field.commit(THEN + 3 * DAY)
    field.git("branch", "-qD", "feature")


def rebased(field: Field) -> None:
    field.git("switch", "-qc", "feature")
    committed_and_edited_twice(field)
    field.git("switch", "-q", "main")
    (field.root / "other.py").write_text("x = 2\n")
    field.commit(THEN + 10 * DAY)
    field.git("rebase", "-q", "main", "feature", at=THEN + 11 * DAY)


def renamed(field: Field) -> None:
    field.commit(THEN + DAY)
    field.git("mv", "shop.py", "cart.py")
    field.commit(THEN + 2 * DAY)
    (field.root / "cart.py").write_text(MENDED)
    field.commit(THEN + 3 * DAY)


def renamed_unseen(field: Field) -> None:
    field.write(MENDED, THEN + DAY)
    field.file.rename(field.root / "basket.py")


def indented_and_moved(field: Field) -> None:
    lines = NEW.replace("    ", "\t").splitlines(keepends=True)
    field.write("".join([lines[0], *lines[3:5], *lines[1:3], *lines[5:]]), THEN + DAY)


def taken_back(field: Field) -> None:
    field.write(OLD, THEN + DAY)


def deleted(field: Field) -> None:
    field.commit(THEN + DAY)
    field.file.unlink()
    field.commit(THEN + 2 * DAY)


def changed_by_a_commit_dated(author: str, committer: str = "") -> Callable[[Field], None]:
    def made(field: Field) -> None:
        field.commit(THEN + DAY)
        field.write(MENDED, THEN + 2 * DAY)
        field.git("add", "-A")
        told = f"tree {field.git('write-tree')}parent {field.git('rev-parse', 'HEAD')}"
        told += f"author a <a@b> {author}\ncommitter a <a@b> {committer or TWO_DAYS_LATER} +0000\n\nx\n"
        (field.root.parent / "commit").write_text(told)
        wanted = ("-t", "commit", "-w", "--literally", str(field.root.parent / "commit"))
        field.git("update-ref", "HEAD", field.git("hash-object", *wanted).strip())

    return made


def beside_an_odd_name(field: Field) -> None:
    field.commit(THEN + DAY)
    for name in ("a\x01b", "\x01c", "line\nbreak", "R100"):
        (field.root / name).write_text("x")
    field.write(MENDED, THEN + 20 * DAY)
    field.commit(THEN + 2 * DAY)


def in_another_encoding(field: Field) -> None:
    field.git("config", "i18n.logOutputEncoding", "UTF-16")
    field.commit(THEN + DAY)
    field.write(MENDED, THEN + 20 * DAY)  # Its time must not be what tells.
    field.commit(THEN + 2 * DAY)


def one_latin_byte_added(field: Field) -> None:
    field.commit(THEN + DAY)
    field.file.write_bytes(NEW.encode() + "# caf\u00e9\n".encode("latin-1"))
    field.commit(THEN + 2 * DAY)


def grown(field: Field) -> None:
    field.commit(THEN + DAY)
    field.write(NEW + "#" * 2_000_000, THEN + 2 * DAY)
    field.commit(THEN + 2 * DAY)


def grown_for_a_while(field: Field) -> None:
    grown(field)
    field.write(MENDED, THEN + 3 * DAY)
    field.commit(THEN + 3 * DAY)


def replaced_by_a_link(field: Field) -> None:
    field.commit(THEN + DAY)
    field.file.unlink()
    field.file.symlink_to("other.py")


def moved_away(field: Field) -> None:
    field.root.rename(field.root.parent / "elsewhere")


def stashed(field: Field) -> None:
    field.git("stash", "-q")


def committed_on_no_branch(field: Field) -> None:
    field.git("switch", "-q", "--detach")
    field.commit(THEN + DAY)
    field.git("switch", "-q", "main")


def checked_out_beside(field: Field) -> None:
    field.git("switch", "-q", "--detach")
    committed_edited(field)
    field.git("worktree", "add", "-q", "--detach", "../beside", "HEAD")
    field.git("switch", "-q", "main")
    field.git("reflog", "expire", "--expire=all", "--all")


def deleted_unseen(field: Field) -> None:
    field.commit(THEN + DAY)
    field.file.unlink()


def amended_late(field: Field) -> None:
    field.commit(THEN + DAY)
    field.write(MENDED, THEN + 20 * DAY)
    field.git("add", "-A")
    field.git("commit", "-q", "--amend", "--no-edit", "--date", (THEN + DAY).isoformat(), at=THEN + 20 * DAY)


def amended_to_something_else(field: Field) -> None:
    field.commit(THEN + DAY)
    field.write("print(1)\n", THEN + 2 * DAY)
    field.git("add", "-A")
    field.git("commit", "-q", "--amend", "--no-edit", at=THEN + 2 * DAY)


def moved_in_two_commits(field: Field) -> None:
    deleted(field)
    (field.root / "cart.py").write_text(NEW)
    field.commit(THEN + 3 * DAY)


def on_another_branch(field: Field) -> None:
    field.git("switch", "-qc", "feature")
    committed_edited(field)
    field.git("switch", "-q", "main")


@pytest.mark.parametrize(
    ("history", "days", "wanted"),
    [
        (left_alone, 1, 0), (left_alone, 30, 0), (edited, 2, 2), (edited, 30, 2), (edited_late, 30, None),
        (committed_and_edited_twice, 30, 1), (committed_edited, 30, 2), (squashed, 30, 2), (rebased, 30, 1),
        (renamed, 5, 2), (renamed, 30, 2), (renamed_unseen, 5, 2), (indented_and_moved, 5, 0), (deleted, 30, 5),
        (on_another_branch, 3, 2), (on_another_branch, 30, 2),
    ],
)  # fmt: skip
def test_lines_are_counted_that_were_rewritten_within_seven_days(
    tmp_path: Path, history: Callable[[Field], None], days: float, wanted: int | None
) -> None:
    field = Field(tmp_path)
    history(field)
    found = field.measured(days)
    if wanted is None:
        assert found.changed_lines is None
        assert found.reason == "Lines were rewritten, and no commit or time of a file tells whether within seven days."
    else:
        assert found == LineCount(changed_lines=5, rewritten_lines=wanted, is_final=days > 7)


CANNOT_READ = "A file of it cannot be read: it is no plain file, too large, lost, or on the deny list."
NO_TIME = "Lines were rewritten, and no commit or time of a file tells whether within seven days."
ASIDE = "Its lines were put aside: they are in a stash, or in a commit that no branch has."


@pytest.mark.parametrize(
    ("history", "days", "wanted"),
    [
        (beside_an_odd_name, 30, 2), (in_another_encoding, 30, 2), (changed_by_a_commit_dated(""), 30, 2),
        (changed_by_a_commit_dated("-99999999999 +0000"), 30, 2),
        (changed_by_a_commit_dated("99999999999 +0000"), 30, 2),
        (changed_by_a_commit_dated("99999999999999999 +0000"), 30, 2),
        (changed_by_a_commit_dated(f"{TWO_DAYS_LATER} +0000", "99999999999999"), 30,
         "A commit since has no date that can be read."),
        (one_latin_byte_added, 3, 0), (one_latin_byte_added, 30, 0), (grown, 3, CANNOT_READ), (grown, 30, CANNOT_READ),
        (grown_for_a_while, 30, CANNOT_READ), (replaced_by_a_link, 3, CANNOT_READ),
        (replaced_by_a_link, 30, CANNOT_READ), (moved_away, 3, "Its project is gone."), (stashed, 1, ASIDE),
        (stashed, 30, ASIDE), (committed_on_no_branch, 1, ASIDE), (committed_on_no_branch, 30, ASIDE),
        (checked_out_beside, 3, 2), (checked_out_beside, 30, 2), (deleted_unseen, 3, 5), (deleted_unseen, 30, NO_TIME),
        (amended_to_something_else, 3, 5), (amended_to_something_else, 30, 5),
        (amended_late, 30, 0), (moved_in_two_commits, 5, 0), (moved_in_two_commits, 30, 0),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_was_put_aside_does_not_pass_for_rewritten(
    tmp_path: Path, history: Callable[[Field], None], days: float, wanted: int | str
) -> None:
    field = Field(tmp_path)
    history(field)
    known = LineCount(changed_lines=5, rewritten_lines=wanted if isinstance(wanted, int) else 0, is_final=days > 7)
    assert field.measured(days) == (LineCount(reason=wanted) if isinstance(wanted, str) else known)


def test_a_file_that_may_no_longer_be_read_is_not_one_that_was_rewritten(tmp_path: Path) -> None:
    field = Field(tmp_path)
    ws = Workspace(field.root, deny=("shop.py",))
    assert measure(ws, field.state, "t1", at=THEN, now=THEN + DAY) == LineCount(reason=CANNOT_READ)


def test_a_change_whose_files_are_as_before_it_is_taken_back(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.git("checkout", "-q", "shop.py")
    assert field.measured(1) == LineCount(changed_lines=5, rewritten_lines=5, is_taken_back=True)
    field.write("print(1)\n", THEN + DAY)
    assert field.measured(1) == LineCount(changed_lines=5, rewritten_lines=5)
    field.git("checkout", "-q", "shop.py")
    field.git("switch", "-qc", "feature")
    field.write(NEW, THEN + DAY)
    field.commit(THEN + DAY)
    field.git("switch", "-q", "main")
    assert field.measured(1) == LineCount(changed_lines=5, rewritten_lines=0)


def test_of_equal_lines_as_many_are_the_tasks_as_it_added(tmp_path: Path) -> None:
    field = Field(tmp_path)
    other, change = field.root / "other.py", Content(data=b"x = 1\ny = 2\nx = 1\n")
    apply(field.ws, field.state, "t2", {"other.py": change}, {"other.py": field.ws.digest("other.py")})
    for text, wanted in (("x = 1\nx = 1\ny = 2\n", 0), ("y = 2\nx = 1\n", 1), ("x = 1\n", 2)):
        other.write_text(text)
        assert measure(field.ws, field.state, "t2", at=THEN, now=THEN + DAY).rewritten_lines == wanted


def test_a_long_file_is_counted_in_no_time(tmp_path: Path) -> None:
    field = Field(tmp_path)
    rows = [f"{at},{at % 7},yes" for at in range(19_000)]
    prose = [text for at in range(500) for text in (f"Sentence {at}.", "")]
    before: dict[str, list[str]] = {"rows.csv": rows, "prose.md": prose}
    after = {"rows.csv": [*rows[:9], "changed", *rows[10:]], "prose.md": [text.upper() for text in prose]}
    for name, lines in before.items():
        (field.root / name).write_text("\n".join(lines))
    field.commit(THEN - DAY)
    changes: dict[str, Content | None] = {n: Content(data="\n".join(lines).encode()) for n, lines in after.items()}
    apply(field.ws, field.state, "t2", changes, {name: field.ws.digest(name) for name in changes})
    begun = time.process_time()
    found = measure(field.ws, field.state, "t2", at=THEN, now=THEN + DAY)
    assert found == LineCount(changed_lines=501, rewritten_lines=0)
    assert time.process_time() - begun < 2  # A tenth where nobody else works; four if each line is sought among all.


def test_a_huge_version_is_not_loaded_to_be_compared(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.commit(THEN + DAY)
    with field.file.open("wb") as file:
        file.truncate(150_000_000)
    field.commit(THEN + 2 * DAY)
    field.write(MENDED, THEN + 3 * DAY)
    field.commit(THEN + 3 * DAY)
    tracemalloc.start()
    try:
        assert field.measured(30).reason == CANNOT_READ
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_without_git_the_working_tree_tells_what_it_can(tmp_path: Path) -> None:
    field = Field(tmp_path, has_git=False)
    edited(field)
    assert field.measured(2) == LineCount(changed_lines=5, rewritten_lines=2)
    assert field.measured(30) == LineCount(changed_lines=5, rewritten_lines=2, is_final=True)


def test_a_change_that_was_taken_back_has_no_lines_to_count(tmp_path: Path) -> None:
    field = Field(tmp_path)
    undo(field.ws, field.state, "t1")
    assert field.measured(2).changed_lines is None
    assert field.measured(2).reason == "No change of it is on record: it was never applied, or was taken back."


def test_a_patch_that_was_left_ready_counts_once_somebody_applied_it(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.commit(THEN)
    patch = field.ws.write_private("t2.patch", field.git("show", "--format=", "HEAD").encode())
    ask: dict[str, Any] = {"at": THEN, "now": THEN + DAY, "patch": patch, "is_applied": False}
    edited(field)
    assert measure(field.ws, field.state, "t2", **ask) == LineCount(changed_lines=5, rewritten_lines=2)
    field.git("reset", "-q", "--hard", "HEAD~")
    assert measure(field.ws, field.state, "t2", **ask).reason == "Its patch was not applied, as far as can be seen."


def test_nothing_that_a_repository_names_is_run(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.commit(THEN + DAY)
    witness = tmp_path / "witness"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {witness}\ncat\n")
    program.chmod(0o755)
    (field.root / ".gitattributes").write_text("* filter=evil diff=evil\n")
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "diff.evil.command", "diff.evil.textconv",
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program", "gpg.ssh.program",
    ):  # fmt: skip
        field.git("config", key, str(program))
    field.git("config", "log.showSignature", "true")
    signed = field.git("cat-file", "commit", "HEAD").replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----\n\n", 1
    )
    (tmp_path / "commit").write_text(signed)
    field.git("update-ref", "HEAD", field.git("hash-object", "-t", "commit", "-w", str(tmp_path / "commit")).strip())
    field.git("config", "core.hooksPath", str(tmp_path))
    renamed_unseen(field)
    before = {path: path.stat().st_mtime_ns for path in field.root.rglob("*")}
    assert field.measured(30) == LineCount(changed_lines=5, rewritten_lines=2, is_final=True)
    assert field.measured(5) == LineCount(changed_lines=5, rewritten_lines=2)
    assert not witness.exists()
    assert {path: path.stat().st_mtime_ns for path in field.root.rglob("*")} == before
