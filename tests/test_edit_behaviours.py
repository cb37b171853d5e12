"""What an edit reader owes its users: names, fences, matching, batches, line endings, paths, diffs, whole files."""

from __future__ import annotations

import pytest

from mcp_tierkit.edits import apply_reply, read_reply
from mcp_tierkit.errors import EditRefused

TICKS = "`" * 3


def block(search: str, new: str, run: int = 7) -> str:
    return f"{'<' * run} SEARCH\n{search}{'=' * run}\n{new}{'>' * run} REPLACE\n"


def fenced(body: str, info: str = "python", ticks: str = TICKS) -> str:
    return f"{ticks}{info}\n{body}{ticks}\n"


def sr(name: str, search: str, new: str) -> str:
    return f"{name}\n{fenced(block(search, new))}"


def refusal(reply: str, files: dict[str, str]) -> str:
    with pytest.raises(EditRefused) as refused:
        apply_reply(reply, files)
    return str(refused.value)


ONE = {"a.py": "one\ntwo\nthree\n"}
TWO_DONE = {"a.py": "one\n2\nthree\n"}


# --- names ---------------------------------------------------------------------------------------------------------


def test_the_line_above_the_fence_names_the_file() -> None:
    assert apply_reply(sr("a.py", "two\n", "2\n"), ONE | {"b.py": "two\n"}) == TWO_DONE


def test_the_first_line_inside_the_fence_names_the_file() -> None:
    reply = "Here it is:\n\n" + fenced("a.py\n" + block("two\n", "2\n"))
    assert apply_reply(reply, ONE | {"b.py": "two\n"}) == TWO_DONE


def test_a_base_name_means_the_one_file_that_ends_with_it() -> None:
    files = {"src/deep/a.py": "two\n", "src/b.py": "two\n"}
    assert apply_reply(sr("a.py", "two\n", "2\n"), files) == {"src/deep/a.py": "2\n"}
    assert "may mean" in refusal(sr("a.py", "two\n", "2\n"), files | {"lib/a.py": "two\n"})


@pytest.mark.parametrize(
    "name",
    [
        "# a.py", "## `a.py`", "`a.py`", "**a.py**", "a.py:", "**`a.py`**:", "### File: a.py", "1. a.py", "- `a.py`",
        "./a.py", "// a.py", "<!-- a.py -->", "/* a.py */", "File: `a.py`", "a.py (modified)", '"a.py"', "*a.py*",
        "  a.py  ", "#a.py",
    ],
)  # fmt: skip
def test_marks_around_a_name_are_taken_off(name: str) -> None:
    assert apply_reply(sr(name, "two\n", "2\n"), ONE | {"b.py": "two\n"}) == TWO_DONE


@pytest.mark.parametrize("name", ["init.py", "pkg/init.py", "**init**.py", "pkg/**init**.py", r"pkg/\_\_init\_\_.py"])
def test_underscores_lost_in_rendering_are_found_again(name: str) -> None:
    files = {"pkg/__init__.py": "two\n", "pkg/other.py": "two\n"}
    assert apply_reply(sr(name, "two\n", "2\n"), files) == {"pkg/__init__.py": "2\n"}
    assert refusal(sr(name, "two\n", "2\n"), files | {"lib/__init__.py": "two\n"}) if "pkg" not in name else True


@pytest.mark.parametrize(
    "info", ["python dir/a.py", "python:dir/a.py", "dir/a.py", 'py title="dir/a.py"', "py filename=dir/a.py"]
)
def test_a_path_in_the_words_after_the_fence_names_the_file(info: str) -> None:
    files = {"dir/a.py": "two\n", "python": "two\n"}
    assert apply_reply(fenced(block("two\n", "2\n"), info), files) == {"dir/a.py": "2\n"}
    assert apply_reply(fenced("2\n", info), files) == {"dir/a.py": "2\n"}


@pytest.mark.parametrize("language", ["sh", "bash", "console", "powershell"])
def test_a_shell_block_is_a_command_and_no_edit(language: str) -> None:
    command = fenced("pytest a.py\n", language)
    assert "no edit" in refusal("Run this:\n\n" + command, ONE)
    assert apply_reply(sr("a.py", "two\n", "2\n") + "\nThen in a.py run\n\n" + command, ONE) == TWO_DONE
    assert apply_reply("run.sh\n" + command, ONE) == {"run.sh": "pytest a.py\n"}


@pytest.mark.parametrize("language", ["csharp", "c++", "objective-c", "asp.net", "f#", "node.js"])
def test_a_language_is_no_file_name(language: str) -> None:
    assert "name is missing" in refusal(fenced(block("two\n", "2\n"), language), ONE)
    assert apply_reply("a.py\n" + fenced(block("two\n", "2\n"), language), ONE) == TWO_DONE


def test_a_second_block_without_a_name_is_for_the_file_of_the_first() -> None:
    reply = sr("a.py", "one\n", "1\n") + "\nAnd then:\n\n" + fenced(block("three\n", "3\n"))
    assert apply_reply(reply, ONE | {"b.py": "three\n"}) == {"a.py": "1\ntwo\n3\n"}


def test_a_first_block_without_a_name_is_refused_and_says_so() -> None:
    assert "file name is missing" in refusal("Here is the change:\n\n" + fenced(block("two\n", "2\n")), ONE)


# --- fences --------------------------------------------------------------------------------------------------------


def test_an_inner_fence_does_not_end_a_longer_or_a_tagged_one() -> None:
    old, new = f"x\n{fenced('code')}", f"x\n{fenced('better')}"
    files = {"README.md": f"start\n{old}end\n", "b.py": ""}
    want = {"README.md": f"start\n{new}end\n"}
    for outer in (
        f"````\n{block(old, new)}````\n",
        f"<source>python\n{block(old, new)}</source>\n",
        fenced(block(old, new)),
    ):
        assert apply_reply(f"README.md\n{outer}\nThat was it.\n", files) == want
    for outer in ("````markdown\n{}````\n", "<source>\n{}</source>\n", "~~~~md\n{}~~~~\n"):
        assert apply_reply("README.md\n" + outer.format(want["README.md"]), files) == want


def test_a_block_without_any_fence_is_read() -> None:
    assert apply_reply("a.py\n" + block("two\n", "2\n") + "Done.", ONE) == TWO_DONE


def test_the_last_marker_needs_no_newline() -> None:
    assert apply_reply("a.py\n" + block("two\n", "2\n").rstrip("\n"), ONE) == TWO_DONE


@pytest.mark.parametrize("run", [5, 6, 7, 8, 9])
def test_markers_of_five_to_nine_characters_are_read(run: int) -> None:
    assert apply_reply("a.py\n" + fenced(block("two\n", "2\n", run)), ONE) == TWO_DONE


@pytest.mark.parametrize("keep", range(1, 6))
def test_a_block_that_is_cut_off_is_refused_whole(keep: int) -> None:
    cut = "".join(block("two\n", "2\n").splitlines(keepends=True)[:keep])[:-1]
    reply = sr("a.py", "one\n", "1\n") + "\na.py\n" + TICKS + "python\n" + cut
    if not cut.endswith("REPLACE"):
        refusal(reply, ONE)
        assert read_reply(reply, ONE).changes == {"a.py": "1\ntwo\nthree\n"}


# --- matching ------------------------------------------------------------------------------------------------------


def test_a_search_text_that_occurs_twice_is_refused_with_its_lines() -> None:
    assert "lines 1, 3" in refusal(sr("a.py", "x\n", "y\n"), {"a.py": "x\nm\nx\n"})


def test_an_indent_that_all_lines_lack_is_put_back() -> None:
    files = {"a.py": "class A:\n    def f(self):\n        return 1\n"}
    reply = sr("a.py", "def f(self):\n    return 1\n", "def f(self):\n    x = 2\n\n    return x\n")
    assert apply_reply(reply, files) == {"a.py": "class A:\n    def f(self):\n        x = 2\n\n        return x\n"}


def test_a_part_of_the_indent_that_is_missing_is_put_back() -> None:
    files = {"a.py": "if a:\n        if b:\n            c()\n"}
    reply = sr("a.py", "    if b:\n        c()\n", "    if b:\n        d()\n")
    assert apply_reply(reply, files) == {"a.py": "if a:\n        if b:\n            d()\n"}
    deeper = sr("a.py", "            if b:\n                c()\n", "            if b:\n                d()\n")
    assert apply_reply(deeper, files) == {"a.py": "if a:\n        if b:\n            d()\n"}


def test_a_blank_line_before_the_search_text_is_overlooked() -> None:
    assert apply_reply(sr("a.py", "\ntwo\nthree\n", "\n2\n3\n"), ONE) == {"a.py": "one\n2\n3\n"}


def test_other_relative_indents_are_another_text() -> None:
    files = {"a.py": "    if b:\n        c()\n"}
    assert "not in the file" in refusal(sr("a.py", "if b:\n  c()\n", "d()\n"), files)
    assert "not in the file" in refusal(sr("a.py", "if b:\nc()\n", "d()\n"), files)


@pytest.mark.parametrize("dots", ["...", "    ...", "…", "# ...", "# ... existing code ..."])
def test_dots_alone_on_a_line_of_both_sides_keep_what_is_between(dots: str) -> None:
    files = {"a.py": "def f():\n    a()\n    b()\n    c()\n    return 1\n"}
    reply = sr("a.py", f"def f():\n{dots}\n    return 1\n", f"def g():\n{dots}\n    return 2\n")
    assert apply_reply(reply, files) == {"a.py": "def g():\n    a()\n    b()\n    c()\n    return 2\n"}
    refusal(sr("a.py", f"def f():\n{dots}\n    return 1\n", "def g():\n    return 2\n"), files)


def test_an_empty_search_creates_a_file_that_is_missing() -> None:
    assert apply_reply(sr("new.py", "", "x\n"), ONE) == {"new.py": "x\n"}
    assert apply_reply(sr("empty.py", "", "x\n"), {"empty.py": ""}) == {"empty.py": "x\n"}


def test_an_empty_search_on_a_file_with_content_is_refused() -> None:
    assert "has content" in refusal(sr("a.py", "", "x\n"), ONE)
    assert "has content" in refusal(sr("a.py", "\n", "x\n"), ONE)


def test_a_change_that_is_there_already_fails_nothing_else() -> None:
    reply = sr("a.py", "2\n", "two\n") + sr("a.py", "three\n", "3\n")
    assert apply_reply(reply, ONE) == {"a.py": "one\ntwo\n3\n"}
    reading = read_reply(reply, ONE)
    assert (reading.applied, len(reading.kept), reading.refused) == (1, 2, ())
    assert apply_reply(sr("a.py", "2\n", "two\n"), ONE) == {}


def test_a_search_text_of_another_file_is_refused_and_names_that_file() -> None:
    why = refusal(sr("a.py", "four\n", "4\n"), ONE | {"b.py": "four\n"})
    assert "not in the file" in why
    assert "'b.py'" in why


def test_a_search_text_that_is_nowhere_is_refused_with_the_nearest_real_lines() -> None:
    files = {"a.py": "".join(f"line {n}\n" for n in range(100)) + "def compute(a, b):\n    return a + b\n"}
    (refused,) = read_reply(sr("a.py", "def compute(a, c):\n    return a + b\n", "pass\n"), files).refused
    assert (refused.path, refused.block) == ("a.py", 1)
    assert refused.near.splitlines() == ["line 98", "line 99", "def compute(a, b):", "    return a + b"]
    assert refused.near_line == 99


# --- batches -------------------------------------------------------------------------------------------------------


def test_each_block_is_reported_and_nothing_is_applied_when_one_fails() -> None:
    reply = sr("a.py", "one\n", "1\n") + sr("a.py", "four\n", "4\n") + sr("b.py", "x\n", "y\n")
    files = ONE | {"b.py": "x\n"}
    refusal(reply, files)
    reading = read_reply(reply, files)
    assert reading.changes == {"a.py": "1\ntwo\nthree\n", "b.py": "y\n"}
    assert [(each.path, each.block) for each in reading.refused] == [("a.py", 2)]
    assert 'Block 2 for a.py, which looks for "four", was not applied' in reading.report
    assert "Read without trouble: block 1 for a.py; block 3 for b.py." in reading.report
    assert "do not send them again" in reading.report


def test_a_block_sees_what_the_one_before_did() -> None:
    assert apply_reply(sr("a.py", "two\n", "2\n") + sr("a.py", "2\nthree\n", "2\n3\n"), ONE) == {"a.py": "one\n2\n3\n"}


# --- line endings --------------------------------------------------------------------------------------------------


def test_a_file_keeps_its_crlf() -> None:
    files = {"a.py": "one\r\ntwo\r\nthree\r\n"}
    assert apply_reply(sr("a.py", "two\n", "2\n2b\n"), files) == {"a.py": "one\r\n2\r\n2b\r\nthree\r\n"}
    crlf_reply = sr("a.py", "two\n", "2\n").replace("\n", "\r\n")
    assert apply_reply(crlf_reply, ONE) == TWO_DONE
    assert apply_reply("a.py\n" + fenced("one\n2\nthree\n"), files) == {"a.py": "one\r\n2\r\nthree\r\n"}


def test_a_missing_final_newline_stays_missing_and_breaks_nothing() -> None:
    files = {"a.py": "one\ntwo"}
    assert apply_reply(sr("a.py", "two\n", "2\n3\n"), files) == {"a.py": "one\n2\n3"}
    assert apply_reply(sr("a.py", "one\n", "1\n"), files) == {"a.py": "1\ntwo"}
    assert apply_reply(sr("a.py", "two\n", ""), files) == {"a.py": "one"}
    assert apply_reply("a.py\n" + fenced("one\n2\n"), files) == {"a.py": "one\n2"}


# --- paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd.py", "../a.py", "src/../../a.py", "~/a.py", "C:/a.py", "C:\\a.py", "src\\a.py", "-a.py", "a\x00b.py",
     "a\u202eb.py", "src//a.py", "src/./a.py", "file:///a.py", "\\\\host\\a.py"],
)  # fmt: skip
def test_a_path_that_could_leave_the_project_is_refused(path: str) -> None:
    for reply in (
        sr(path, "", "x\n"),
        f"`{path}`\n{fenced(block('', 'x' + chr(10)))}",
        f"**{path}**\n{fenced('x = 1' + chr(10))}",
        fenced(f"--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+x\n", "diff"),
        fenced(f"--- a/{path}\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", "diff"),
    ):
        refusal(reply, ONE | {"b.py": "x\n"})


def test_a_made_up_folder_before_a_known_name_is_dropped_if_one_file_has_that_name() -> None:
    files = {"src/a.py": "two\n", "src/b.py": "two\n"}
    assert apply_reply(sr("made/up/a.py", "two\n", "2\n"), files) == {"src/a.py": "2\n"}
    assert "not among those given" in refusal(sr("made/up/a.py", "two\n", "2\n"), files | {"lib/a.py": "two\n"})


def test_a_new_file_beside_a_known_one_is_created_there() -> None:
    files = {"path/to/file1.txt": "one\n"}
    reply = sr("path/to/file2.txt", "", "three\n") + sr("path/to/file1.txt", "one\n", "two\n")
    assert apply_reply(reply, files) == {"path/to/file2.txt": "three\n", "path/to/file1.txt": "two\n"}


# --- unified diffs -------------------------------------------------------------------------------------------------


def diff(hunks: str, name: str = "a.py") -> str:
    return fenced(f"--- a/{name}\n+++ b/{name}\n{hunks}", "diff")


@pytest.mark.parametrize("at", ["@@ ... @@", "@@", "@@ -90,9 +4,1 @@", "@@ -1,3 +1,3 @@ def f():", "@@ def f @@"])
def test_wrong_or_missing_line_numbers_do_not_matter(at: str) -> None:
    assert apply_reply(diff(f"{at}\n one\n-two\n+2\n three\n"), ONE) == TWO_DONE


def test_a_blank_context_line_may_lack_its_space() -> None:
    files = {"a.py": "one\n\ntwo\n"}
    assert apply_reply(diff("@@ ... @@\n one\n\n-two\n+2\n"), files) == {"a.py": "one\n\n2\n"}


def test_a_diff_from_nothing_creates_a_file() -> None:
    reply = fenced("--- /dev/null\n+++ b/new.py\n@@ -0,0 +1,2 @@\n+x\n+y\n", "diff")
    assert apply_reply(reply, ONE) == {"new.py": "x\ny\n"}
    assert "has content" in refusal(reply.replace("new.py", "a.py"), ONE)


@pytest.mark.parametrize(("old", "new"), [("a/my file.py", "b/my file.py"), ("my file.py", "my file.py"),
                                          ("a/my file.py\t2026-01-01 10:00:00", "b/my file.py\t2026-01")])  # fmt: skip
def test_a_path_with_spaces_is_read_with_prefixes_or_without(old: str, new: str) -> None:
    reply = fenced(f"--- {old}\n+++ {new}\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "diff")
    assert apply_reply(reply, {"my file.py": "one\ntwo\n", "file.py": "one\ntwo\n"}) == {"my file.py": "one\n2\n"}


def test_several_files_and_hunks_in_one_fence_are_all_read() -> None:
    body = (
        "--- a/a.py\n+++ b/a.py\n@@ ... @@\n-one\n+1\n two\n@@ ... @@\n 1\n-two\n+2\n"
        "diff --git a/b.py b/b.py\nindex 123..456 100644\n--- a/b.py\n+++ b/b.py\n@@ -1 +1 @@\n-x\n+y\n"
    )
    want = {"a.py": "1\n2\nthree\n", "b.py": "y\n"}
    assert apply_reply(fenced(body, "diff"), ONE | {"b.py": "x\n"}) == want
    assert apply_reply("Here:\n\n" + fenced(body, ""), ONE | {"b.py": "x\n"}) == want


def test_a_hunk_of_additions_alone_has_nothing_to_hold_on_to() -> None:
    assert "only adds" in refusal(diff("@@ -1,0 +2,1 @@\n+x\n"), ONE)
    assert apply_reply(diff("@@ -0,0 +1 @@\n+x\n"), {"a.py": ""}) == {"a.py": "x\n"}


def test_a_hunk_of_removals_alone_deletes_lines_and_dev_null_deletes_the_file() -> None:
    assert apply_reply(diff("@@ ... @@\n-two\n"), ONE) == {"a.py": "one\nthree\n"}
    gone = fenced("--- a/a.py\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-one\n-two\n-three\n", "diff")
    assert apply_reply(gone, ONE) == {"a.py": None}
    assert "all of its lines" in refusal(gone.replace("-three\n", ""), ONE)


# --- whole files ---------------------------------------------------------------------------------------------------


def test_an_unnamed_fence_is_for_the_only_known_file() -> None:
    assert apply_reply("Here you go:\n\n" + fenced("one\n2\nthree\n"), ONE) == TWO_DONE


@pytest.mark.parametrize("info", ["", "python", "json"])
def test_beside_a_named_file_an_unnamed_block_is_a_sample(info: str) -> None:
    reply = "a.py\n" + fenced("one\n2\nthree\n") + "\nUse it so:\n\n" + fenced("a()\n", info)
    assert apply_reply(reply, ONE) == TWO_DONE
    assert apply_reply(reply, ONE | {"b.py": "x\n"}) == TWO_DONE


def test_a_name_in_the_prose_before_an_unnamed_fence_is_its_name() -> None:
    files = {"file1.txt": "one\n", "file2.txt": "two\n"}
    assert apply_reply("I changed `file1.txt` for you:\n\n" + fenced("1\n", ""), files) == {"file1.txt": "1\n"}
    assert "name is missing" in refusal("I changed `file1.txt` and `file2.txt`:\n\n" + fenced("1\n", ""), files)


@pytest.mark.parametrize("inner", ["python", "", "sh"])
def test_fences_inside_a_whole_file_are_content(inner: str) -> None:
    text = f"# Title\n\n{fenced('x = 1' + chr(10), inner)}\nmore\n\n{fenced('y' + chr(10), inner)}\nend\n"
    assert apply_reply("README.md\n" + fenced(text, "markdown"), {"README.md": "# Old\n"}) == {"README.md": text}
    assert apply_reply("README.md\n" + fenced(text, "", "````"), {}) == {"README.md": text}


@pytest.mark.parametrize(
    "line",
    ["# rest unchanged", "# ... rest of the code ...", "// ... existing code ...", "# ...",
     "/* rest of the file unchanged */",
     "# (rest of the file remains the same)", "<!-- the rest stays the same -->", "    # ... other methods ...",
     "// remaining code unchanged", "# Rest of the function remains unchanged.", "...", "// …", "# same as before",
     "# [existing imports]  ...", "# unchanged", "-- ... existing columns ..."],
)  # fmt: skip
def test_a_placeholder_for_code_is_never_written(line: str) -> None:
    assert "stands for code" in refusal("a.py\n" + fenced(f"one\n2\n{line}\n"), ONE)
    assert "stands for code" in refusal(sr("a.py", "two\n", f"2\n{line}\n"), ONE)
    assert "stands for code" in refusal(diff(f"@@ ... @@\n-two\n+2\n+{line}\n"), ONE)
