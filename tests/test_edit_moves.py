"""Files that a reply renames, moves, adds or deletes: git's own lines for it, and patch envelopes."""

from __future__ import annotations

import pytest

from mcp_tierkit.edits import apply_reply, read_reply
from mcp_tierkit.errors import EditRefused

TICKS = "`" * 3
OLD = "one\ntwo\nthree\n"
FILES = {"src/a.py": OLD, "b.py": "x\n"}
HUNK = "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
MOVED: dict[str, str | None] = {"src/a.py": None, "src/new.py": "one\n2\nthree\n"}
GIT = "diff --git a/src/a.py b/src/new.py\nsimilarity index 90%\nrename from src/a.py\nrename to src/new.py\n"
HEADER = "--- a/src/a.py\n+++ b/src/new.py\n"


def fenced(body: str, info: str = "diff") -> str:
    return f"Here:\n\n{TICKS}{info}\n{body}{TICKS}\n"


def envelope(body: str) -> str:
    return f"*** Begin Patch\n{body}*** End Patch\n"


def refusal(reply: str, files: dict[str, str] = FILES) -> str:
    with pytest.raises(EditRefused) as refused:
        apply_reply(reply, files)
    return str(refused.value)


# --- renames in diffs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        GIT + "index 123..456 100644\n" + HEADER + HUNK,
        GIT + HEADER + "@@ ... @@\n-two\n+2\n",
        HEADER + HUNK,
        "--- src/a.py\n+++ src/new.py\n" + HUNK,
        "rename from src/a.py\nrename to src/new.py\n" + HEADER + HUNK,
    ],
)
def test_a_rename_with_hunks_takes_the_old_path_away_and_gives_the_new_one_the_patched_text(body: str) -> None:
    assert apply_reply(fenced(body), FILES) == MOVED


def test_a_rename_without_hunks_moves_the_file_byte_for_byte() -> None:
    files = {"src/a.py": "\ufeffone\r\ntwo"}
    assert apply_reply(fenced(GIT.replace("90", "100")), files) == {"src/a.py": None, "src/new.py": files["src/a.py"]}
    assert apply_reply("Here:\n\n" + GIT, files)["src/new.py"] == files["src/a.py"]


def test_a_file_may_move_to_another_folder_under_its_own_name() -> None:
    reply = fenced("--- a/src/a.py\n+++ b/lib/a.py\n" + HUNK)
    assert apply_reply(reply, FILES) == {"src/a.py": None, "lib/a.py": "one\n2\nthree\n"}


def test_what_follows_a_rename_goes_on_with_the_new_path() -> None:
    more = f"\nsrc/new.py\n{TICKS}\n<<<<<<< SEARCH\nthree\n=======\n3\n>>>>>>> REPLACE\n{TICKS}\n"
    assert apply_reply(fenced(GIT + HEADER + HUNK) + more, FILES) == {"src/a.py": None, "src/new.py": "one\n2\n3\n"}
    assert "not among those given" in refusal(fenced(GIT) + more.replace("src/new", "src/a"))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (GIT.replace("src/new.py", "b.py"), "there already"),
        ("--- a/src/a.py\n+++ b/b.py\n" + HUNK, "there already"),
        (GIT.replace("src/a.py", "src/gone.py"), "not among those given"),
        ("--- a/src/gone.py\n+++ b/src/new.py\n" + HUNK, "not among those given"),
        (GIT.replace("rename to src/new.py\n", ""), "same two files"),
        (GIT.replace("rename to src/new.py", "rename to src/n.py"), "same two files"),
        (GIT + "--- a/src/a.py\n+++ b/src/other.py\n" + HUNK, "same two files"),
        (GIT.replace("src/new.py", "SRC/A.py"), "unclear"),
        ("--- a/src/a.py\n+++ b/a.py\n" + HUNK, "unclear"),
        (GIT.replace("src/new.py", "../new.py"), "leaves the project"),
        (GIT.replace("src/new.py", "/new.py"), "project"),
        (GIT.replace("src/new.py", "b.py/new.py"), "cannot be a file"),
        (GIT.replace("src/new.py", "src/a.py/new.py"), "cannot be a file"),
        (GIT + HEADER + HUNK.replace("-two", "-zwei"), "not in the file"),
        (GIT.replace("rename", "copy"), "copy"),
        (GIT + "rename to src/newer.py\n", "renames two files"),
    ],
)
def test_a_rename_that_is_not_certain_is_refused(body: str, why: str) -> None:
    assert why in refusal(fenced(body))
    assert read_reply(fenced(body), FILES).changes == {}


@pytest.mark.parametrize("cut", range(1, len("rename to src/new.py")))
def test_a_rename_whose_new_name_is_cut_off_is_refused(cut: int) -> None:
    for start in (GIT, "--- x\n+++ y\n" + GIT):
        assert read_reply("Here:\n\n" + start[: -cut - 1], FILES).changes == {}


def test_two_names_of_one_file_are_no_rename() -> None:
    want = {"src/a.py": "one\n2\nthree\n"}
    for heads in (
        "--- src/a.py\n+++ b/src/a.py\n", "--- a/src/a.py\n+++ src/a.py\n", "--- src/a.py.orig\n+++ src/a.py\n",
        "--- a.py\n+++ src/a.py\n", "--- /tmp/a.py\n+++ b/src/a.py\n", "--- old/src/a.py\n+++ new/src/a.py\n",
    ):  # fmt: skip
        assert apply_reply(fenced(heads + HUNK), FILES) == want


# --- patch envelopes -----------------------------------------------------------------------------------------------

UPDATE = "*** Update File: src/a.py\n@@\n one\n-two\n+2\n three\n"


@pytest.mark.parametrize(
    "reply",
    [
        envelope(UPDATE),
        "I change it so:\n\n" + envelope(UPDATE) + "\nDone.",
        fenced(envelope(UPDATE), ""),
        fenced(envelope(UPDATE), "patch"),
        fenced(UPDATE, ""),
        fenced(f"apply_patch <<'EOF'\n{envelope(UPDATE)}EOF\n", "bash"),
        envelope(UPDATE.replace("@@\n", "")),
        envelope(UPDATE.replace("@@\n", "@@ one\n")),
        envelope(UPDATE.replace("@@\n", "@@ def nowhere():\n")),
        envelope(UPDATE.replace("@@", "@@ -9,9 +9,9 @@")),
        envelope(UPDATE + "*** End of File\n"),
        envelope(UPDATE.replace("src/a.py", "`src/a.py`")),
        fenced(envelope(UPDATE), "").replace("\n", "\n  "),
    ],
)
def test_an_updated_file_of_an_envelope_is_patched_by_its_context(reply: str) -> None:
    assert apply_reply(reply, FILES) == {"src/a.py": "one\n2\nthree\n"}


def test_an_envelope_adds_deletes_and_moves_files() -> None:
    body = UPDATE.replace("@@", "*** Move to: src/new.py\n@@", 1)
    body += "*** Add File: docs/n.md\n+# T\n\n+text\n\n*** Delete File: b.py\n"
    assert apply_reply(envelope(body), FILES) == {**MOVED, "docs/n.md": "# T\n\ntext\n", "b.py": None}
    assert apply_reply(envelope("*** Update File: b.py\n*** Move to: c.py\n"), FILES) == {"b.py": None, "c.py": "x\n"}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("*** Begin Patch\n" + UPDATE, "cut off"),
        (fenced("*** Begin Patch\n" + UPDATE, ""), "cut off"),
        (UPDATE, "cut off"),
        (UPDATE + "\nSo that is it.", "cut off"),
        (envelope(UPDATE.replace("src/a.py", "gone.py")), "not among those given"),
        (envelope(UPDATE.replace(" one\n", " eins\n")), "not in the file"),
        (envelope(UPDATE.replace(" three", "three")), "lacks its space"),
        (envelope("*** Update File: src/a.py\n"), "changes no lines"),
        (envelope("*** Update File: src/a.py\n@@\n+zero\n"), "only adds"),
        (envelope("*** Add File: b.py\n+y\n"), "has content"),
        (envelope("*** Add File: c.py\ny\n"), "lacks its space"),
        (envelope("*** Add File: c.py\n y\n"), "begins with '+'"),
        (envelope("*** Delete File: a.py\n"), "whole path"),
        (envelope("*** Delete File: gone.py\n"), "can be deleted"),
        (envelope("*** Delete File: b.py\n-x\n"), "goes on to change it"),
        (envelope(UPDATE.replace("@@", "*** Move to: b.py\n@@", 1)), "there already"),
        (envelope(UPDATE.replace("@@", "*** Move to: ../b.py\n@@", 1)), "leaves the project"),
        (envelope(UPDATE.replace("src/a.py", "/src/a.py")), "absolute"),
        (envelope("*** Add File: ../c.py\n+y\n"), "leaves the project"),
        (envelope("*** Add File: c.py:d.py\n+y\n"), "plain relative path"),
        (envelope("*** Update File: b.py\n*** Move to: b.py:d.py\n"), "plain relative path"),
        (envelope("*** Delete File: b.py\n*** Update File: src/a.py\n*** Move to: b.py\n"), "there already"),
        (envelope(UPDATE + "*** Copy File: b.py\n"), "no line of a patch"),
        (envelope("*** Update File: src/a.py\n@@\n-one\n+1\n*** End of File\n"), "end of the file"),
        (UPDATE.replace("*** Update File: src/a.py\n", "") + "*** End Patch\n", "stands alone"),
    ],
)
def test_an_envelope_that_is_not_certain_is_refused_and_says_why(reply: str, why: str) -> None:
    assert why in refusal(reply)


CLASSES = {
    "a.py": "class A:\n    def f(self):\n        x = 1\n        return x\n\n\n"
    "class B:\n    def f(self):\n        x = 1\n        return x\n"
}


def test_the_lines_named_after_two_at_signs_choose_among_equal_places() -> None:
    body = "*** Update File: a.py\n@@ class B:\n{}         x = 1\n-        return x\n+        return 2\n"
    want = CLASSES["a.py"].removesuffix("return x\n") + "return 2\n"
    assert apply_reply(envelope(body.format("")), CLASSES) == {"a.py": want}
    assert apply_reply(envelope(body.format("@@     def f(self):\n")), CLASSES) == {"a.py": want}
    assert "more than once" in refusal(envelope(body.replace("@@ class B:", "@@ def f(self):").format("")), CLASSES)
    assert "more than once" in refusal(envelope(body.replace("@@ class B:", "@@").format("")), CLASSES)


def test_a_place_above_the_line_that_is_named_is_refused() -> None:
    files = {"a.py": CLASSES["a.py"].replace("x = 1", "y = 1", 1)}
    body = "*** Update File: a.py\n@@ class B:\n-        y = 1\n+        y = 2\n"
    assert "above the line" in refusal(envelope(body), files)
    assert apply_reply(envelope(body.replace("class B", "class A")), files)


def test_of_an_envelope_that_is_cut_anywhere_no_part_is_written() -> None:
    reply = envelope(UPDATE + "*** Add File: c.py\n+y\n*** Delete File: b.py\n")
    for cut in range(len(reply) - len("\n")):
        assert read_reply(reply[:cut], FILES).changes == {}, reply[:cut]


# --- files shown in part -------------------------------------------------------------------------------------------

SHOWN = frozenset({"src/a.py"})
WHOLE = f"src/a.py\n{TICKS}python\none\n2\nthree\n{TICKS}\n"


def test_a_file_shown_in_part_is_not_replaced_as_a_whole() -> None:
    (refused,) = read_reply(WHOLE, FILES, partial=SHOWN).refused
    assert refused.path == "src/a.py"
    assert "only parts of this file were shown" in refused.why
    assert "SEARCH/REPLACE" in refused.why
    assert read_reply(WHOLE, FILES).changes == read_reply(WHOLE, FILES, partial=frozenset({"b.py"})).changes != {}


def test_blocks_and_diffs_of_a_file_shown_in_part_are_held_against_its_whole_text() -> None:
    want = {"src/a.py": "one\n2\nthree\n"}
    for reply in (
        f"src/a.py\n{TICKS}\n<<<<<<< SEARCH\ntwo\n=======\n2\n>>>>>>> REPLACE\n{TICKS}\n",
        fenced("--- a/src/a.py\n+++ b/src/a.py\n" + HUNK), envelope(UPDATE),
    ):  # fmt: skip
        assert read_reply(reply, FILES, partial=SHOWN).changes == want


def test_no_detour_replaces_a_file_shown_in_part() -> None:
    away = envelope("*** Delete File: src/a.py\n*** Add File: src/a.py\n+mine\n")
    assert read_reply(away, FILES, partial=SHOWN).changes == {}
    moved = fenced(GIT) + WHOLE.replace("src/a.py", "src/new.py")
    assert "mine" not in str(read_reply(moved, FILES, partial=SHOWN).changes)
    assert read_reply(moved, FILES, partial=SHOWN).refused


def test_a_new_file_is_created_whatever_was_shown_in_part() -> None:
    reply = f"src/n.py\n{TICKS}python\nx = 1\n{TICKS}\n"
    assert read_reply(reply, FILES, partial=SHOWN).changes == {"src/n.py": "x = 1\n"}
