"""The edit reader as a whole: round trips, mutilated replies, hostile input, and what is kept byte for byte."""

from __future__ import annotations

import difflib
import random
import subprocess
import sys
import textwrap
from pathlib import PurePosixPath

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mcp_tierkit.edits import Reading, Refusal, apply_reply, read_reply
from mcp_tierkit.errors import EditRefused

TICKS = "`" * 3
LINES = st.sampled_from(
    ["", "x = 1", "    x = 1", "\ty", "def f():", "    return None", "}", "  }", "é 漢字 🎈", "a  ", "- item",
     "+ item", "-- sql", "@@", "\\ odd", "# note", "====", "a\x0bb", "last\u2028line", "--- x", "<b>", "~~",
     "'quote'", "\\d+$1\\1"]
)  # fmt: skip
FILES = st.lists(LINES, max_size=12)


def block(search: list[str], new: list[str]) -> str:
    return "\n".join(["<<<<<<< SEARCH", *search, "=======", *new, ">>>>>>> REPLACE"]) + "\n"


def sr(name: str, search: str, new: str) -> str:
    return f"{name}\n{TICKS}python\n{block(search.split(chr(10))[:-1], new.split(chr(10))[:-1])}{TICKS}\n"


def rendered(lines: list[str], newline: str, is_open: bool, bom: str) -> str:
    text = newline.join(lines)
    return bom + (text if is_open or not lines else text + newline)


def places(lines: list[str], wanted: list[str]) -> int:
    return sum(lines[at : at + len(wanted)] == wanted for at in range(len(lines) - len(wanted) + 1))


@given(FILES, FILES, st.data(), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["", "\ufeff"]))
@settings(max_examples=300, deadline=None)
def test_any_edit_as_a_search_block_gives_exactly_that_file(
    old: list[str], fresh: list[str], data: st.DataObject, newline: str, is_open: bool, bom: str
) -> None:
    assume(any(line.strip() for line in old) and (not is_open or old[-1]))
    start = data.draw(st.integers(0, len(old)))
    end = data.draw(st.integers(start, len(old)))
    first, last = start, end
    while places(old, old[first:last]) != 1 or not any(line.strip() for line in old[first:last]):
        first, last = max(0, first - 1), min(len(old), last + 1)
    search, new = old[first:last], old[first:start] + fresh + old[end:last]
    after = old[:first] + new + old[last:]
    assume(not is_open or (after and after[-1]))
    assume(places(new, search) == 0 or places(old, new) == 0)
    assume(newline == "\n" or len(old) > 1 or not is_open)
    before, want = (rendered(lines, newline, is_open, bom) for lines in (old, after))
    got = apply_reply(f"a.py\n{block(search, new)}", {"a.py": before, "b.py": before})
    assert {"a.py": before, **got} == {"a.py": want}


def diff_of(old: list[str], new: list[str], was_open: bool, is_open: bool, context: int) -> str:
    """A diff as git writes it, with its marks for a missing final newline."""
    ends = (
        [*old[:-1], old[-1] + "\0"] if old and was_open else old,
        [*new[:-1], new[-1] + "\0"] if new and is_open else new,
    )
    out = [] if old else ["--- /dev/null", "+++ b/a.py"]
    for line in list(difflib.unified_diff(*ends, "a/a.py", "b/a.py", lineterm="", n=context))[0 if old else 2 :]:
        out += [line.rstrip("\0"), "\\ No newline at end of file"] if line.endswith("\0") else [line]
    return "\n".join(out) + "\n"


@given(FILES, FILES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), st.integers(3, 5))
@settings(max_examples=300, deadline=None)
def test_any_edit_as_a_unified_diff_gives_exactly_that_file(
    old: list[str], new: list[str], newline: str, was_open: bool, is_open: bool, context: int
) -> None:
    assume(old != new and new and new[-1] and (not was_open or (old and old[-1])))
    before, want = rendered(old, newline, was_open, ""), rendered(new, newline if old else "\n", is_open, "")
    reply = f"Here:\n\n{TICKS}diff\n{diff_of(old, new, was_open, is_open, context)}{TICKS}\n"
    assume(newline == "\n" or len(old) > 1 or not was_open)
    assert apply_reply(reply, {"a.py": before, "c.py": "c\n"} if old else {"c.py": "c\n"}) == {"a.py": want}


@given(FILES, FILES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["", "\ufeff"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_whole_file_gives_exactly_that_file(
    old: list[str], new: list[str], newline: str, is_open: bool, bom: str, is_new: bool
) -> None:
    assume(is_new or (any(map(str.strip, new)) and (not is_open or (old and old[-1] and new[-1]))))
    assume(is_new or newline == "\n" or len(old) > 1)
    was, now = (sum(bool(line.strip()) for line in lines) for lines in (old, new))
    assume(is_new or was < 8 or now * 2 >= was)
    before = rendered(old, newline, is_open, bom)
    want = rendered(new, "\n", False, "") if is_new else rendered(new, newline, is_open and bool(old), bom)
    reply = "`src/a.py`:\n\n" + TICKS + "python\n" + "".join(line + "\n" for line in new) + TICKS + "\n\nDone."
    got = apply_reply(reply, {"c.py": "c\n"} if is_new else {"src/a.py": before})
    assert {**({} if is_new else {"src/a.py": before}), **got} == {"src/a.py": want}


MIXED = {"a.py": "one\ntwo\nthree\n", "docs/b.md": "# T\n\ntext\n", "src/c.py": "def f():\n    return 1\n"}
REPLIES = [
    sr("a.py", "two\n", "2\n"),
    "Two files change.\n\n" + sr("`a.py`", "one\n", "1\n") + "\nAnd:\n\n" + sr("src/c.py", "def f():\n", "def g():\n"),
    sr("new/d.py", "", "x = 1\ny = 2\n") + sr("src/c.py", "    return 1\n", "    return 2\n"),
    f"{TICKS}diff\n--- a/a.py\n+++ b/a.py\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n{TICKS}\n",
    f"{TICKS}diff\n--- a/a.py\n+++ b/a.py\n@@ ... @@\n-one\n+1\n two\n@@ ... @@\n-three\n+3\n"
    f"--- a/src/c.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-def f():\n-    return 1\n{TICKS}\n",
    "--- a/a.py\n+++ b/a.py\n@@ -2 +2 @@\n-two\n+2\n",
    f"a.py\n{TICKS}python\none\n2\nthree\n{TICKS}\n\nRun it:\n\n{TICKS}bash\npython a.py\n{TICKS}\n",
    f"docs/b.md\n{TICKS}`markdown\n# T\n\n{TICKS}\ncode\n{TICKS}\n\nmore\n{TICKS}`\n",
    f"docs/b.md\n{TICKS}markdown\n# T\n\n{TICKS}python\ncode\n{TICKS}\n\nmore\n{TICKS}\n",
    "a.py\n<source>\n<<<<<<< SEARCH\ntwo\n=======\n2\n>>>>>>> REPLACE\n</source>\n",
    sr("a.py", "two\n", "2\n") + f"\nsrc/e.py\n{TICKS}python\nimport a\n{TICKS}\n",
]  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_cut_anywhere_gives_no_file_that_the_whole_reply_would_not(reply: str) -> None:
    whole = apply_reply(reply, MIXED)
    steps = [whole[path] for path in whole]
    for cut in range(len(reply)):
        reading = read_reply(reply[:cut], MIXED)
        assert set(reading.changes) <= set(whole), reply[:cut]
        if len(reply.split("SEARCH")) <= 2 and reply.count("@@ ") <= 1:
            assert all(text in steps for text in reading.changes.values()), reply[:cut]


@pytest.mark.parametrize("cut", range(1, len("three\n=======\n3\n>>>>>>> REPLACE")))
def test_of_a_search_block_that_is_cut_off_nothing_is_applied(cut: int) -> None:
    start = sr("a.py", "one\n", "1\n") + "\na.py\n<<<<<<< SEARCH\n"
    body = "three\n=======\n3\n>>>>>>> REPLACE"
    reading = read_reply(start + body[:cut], MIXED)
    assert reading.changes == {"a.py": "1\ntwo\nthree\n"}
    assert [(refused.path, refused.block) for refused in reading.refused] == [("a.py", 2)]


NOISE = [
    "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", TICKS, TICKS + "python", "````", "<source>", "</source>",
    "--- a/a.py",
    "+++ b/../x.py", "+++ /dev/null", "@@ -1,3 +1,3 @@", "@@ ... @@", "/etc/passwd", "../../x.py", "a\x00.py",
    "c:\\x.py", "",
    "...", "# rest unchanged", "\\ No newline at end of file", "diff --git a/a.py b/a.py", "rename to x.py",
    "~/x.py", "**", "`",
    "QUESTION: why?", "\ufeff", "\ud800", "\r", "    ", "two", "a.py", "src/c.py:", "`docs/../../b.md`",
    "new/../d.py", "-x.py",
]  # fmt: skip


def mutated(chance: random.Random) -> str:
    lines = "\n".join(chance.choices(REPLIES, k=chance.randint(1, 2))).split("\n")
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(lines) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            lines[at : at + chance.randint(1, 3)] = []
        elif kind == 1:
            lines.insert(at, chance.choice(NOISE))
        elif kind == 2:
            lines[at:at] = lines[at : at + chance.randint(1, 5)]
        elif kind == 3 and at < len(lines):
            lines[at] = chance.choice(NOISE)
        elif kind == 4 and at < len(lines) and lines[at]:
            spot = chance.randrange(len(lines[at]))
            lines[at] = (
                lines[at][:spot] + chance.choice("`<>=+-@ /\\.~\t\x00é") + lines[at][spot + chance.randint(0, 1) :]
            )
        elif kind == 5:
            lines = lines[: max(1, at)]
        lines = lines or [""]
    return "\n".join(lines)


def is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    plain = not any(char in path for char in "\\\0\r\n") and path == str(PurePosixPath(path))
    return plain and bool(parts) and ".." not in parts and not path.startswith(("/", "~", "-"))


def test_three_thousand_mutilated_replies_crash_nothing_and_name_no_path_outside() -> None:
    chance = random.Random(20261101)
    ends = {"changed": 0, "refused": 0}
    for _ in range(3_000):
        reply = mutated(chance)
        reading = read_reply(reply, MIXED)
        assert all(is_inside(path) for path in reading.changes), reply
        assert all(text is None or text.encode() is not None for text in reading.changes.values())
        try:
            changes = apply_reply(reply, MIXED)
        except EditRefused:
            ends["refused"] += 1
            assert reading.refused or reading.question
        else:
            ends["changed"] += bool(changes)
            assert (reading.changes, reading.refused) == (changes, ())
        assert "rest unchanged" not in str(reading.changes)
    assert ends["changed"] > 200, ends
    assert ends["refused"] > 1_000, ends


def test_a_hostile_reply_is_read_in_time() -> None:
    program = textwrap.dedent("""
        from mcp_tierkit.edits import join_reply, read_reply
        big = "x = 1\\n" * 60_000 + "y\\n"
        files = {"a.py": big, "b.md": "```\\n" * 20_000, "c/__init__.py": "z\\n"}
        block = "<<<<<<< SEARCH\\n{}=======\\n{}>>>>>>> REPLACE\\n"
        pieces = [
            "<<<<<<< SEARCH\\n", "=======\\n", ">>>>>>> REPLACE\\n", "```\\n", "````\\n", "```python\\n", "<source>\\n",
            "--- a\\n", "--- a\\n+++ b\\n", "@@ -1 +1 @@\\n-x\\n", "@@\\n", "`", "#", "*", "# ...\\n", " ",
            "\\n", "a.py ",
            "a.py\\n", "/", "../", ".", "`a.py` ", "**", "x = 1\\n", block.format("x = 1\\n", "y\\n"),
            "QUESTION", "\\\\",
            block.format("x = 1\\n" * 2000 + "q\\n", "y\\n"), "diff --git a/a b/a\\n", "+\\n", "'''\\n",
            "<!-- ", "File: ", "*** Begin Patch\\n", "*** Update File: a.py\\n", "@@ x\\n",
            "rename from a\\nrename to b\\n",
            "apply_patch <<E\\n", "Continuing: x\\n", "<think>",
        ]
        heads = ("", "a.py\\n", "b.md\\n```markdown\\n", "a.py\\n```diff\\n@@ @@\\n", "a.py\\n<<<<<<< SEARCH\\n")
        ends = ("", "\\n=======\\ny\\n>>>>>>> REPLACE\\n", "\\n```\\n")
        for number, (head, piece) in enumerate((head, piece) for head in heads for piece in pieces):
            read_reply(head + piece * (200_000 // len(piece)) + ends[number % 3], files)
        for piece in pieces:
            join_reply("a.py\\n```python\\n" + piece * (50_000 // len(piece)), piece * (50_000 // len(piece)))
        print("read")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "read\n", done.stderr[-2000:]


def test_lines_that_an_edit_does_not_touch_keep_their_own_endings_and_blanks() -> None:
    files = {"a.py": "one\r\ntwo  \nthree\r\nfour"}
    assert apply_reply(sr("a.py", "one\ntwo\nthree\n", "one\ntwo\n3\n"), files) == {"a.py": "one\r\ntwo  \n3\r\nfour"}


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        ("QUESTION: Which of the two parsers?", "Which of the two parsers?"),
        ("**QUESTION:** f() takes no path.\nShall I add one?\n", "f() takes no path.\nShall I add one?"),
        ("QUESTION: why?\n\n" + sr("a.py", "two\n", "2\n"), None),
    ],
)
def test_a_reply_that_asks_changes_nothing(reply: str, asked: str | None) -> None:
    reading = read_reply(reply, MIXED)
    assert reading == Reading(question=reading.question)
    assert reading.question
    assert asked is None or reading.question == asked
    with pytest.raises(EditRefused, match="asks a question"):
        apply_reply(reply, MIXED)


def test_a_question_inside_an_edit_is_content() -> None:
    assert read_reply(sr("a.py", "two\n", "QUESTION: 2\n"), MIXED).changes == {"a.py": "one\nQUESTION: 2\nthree\n"}


def test_a_reply_without_an_edit_is_refused_and_says_so() -> None:
    assert read_reply("I think it is fine.", MIXED) == Reading(
        refused=(Refusal(path=None, block=1, why="the reply holds no edit"),)
    )


def test_the_refusal_says_what_happened_what_was_written_and_what_to_do() -> None:
    with pytest.raises(EditRefused) as refused:
        apply_reply(sr("a.py", "four\n", "4\n") + sr("a.py", "five\n", "5\n"), MIXED)
    assert str(refused.value) == (
        "Edit 1 for a.py cannot be read with certainty: the search text is not in the file. 1 more were refused. "
        "Nothing was written. Ask for the edit again and show the reason."
    )


# --- writes that would be wrong ------------------------------------------------------------------------------------

LONG = {"src/a.py": "import os\n" + "".join(f"def f{n}():\n    return {n}\n" for n in range(30))}


@pytest.mark.parametrize("name", ["src/a.py\n", "a.py\n", "", "I changed `src/a.py`:\n\n"])
def test_a_fenced_part_of_a_file_does_not_replace_the_file(name: str) -> None:
    reading = read_reply(f"{name}{TICKS}python\ndef f3():\n    return 33\n{TICKS}\n", LONG)
    assert reading.changes == {}
    assert "part" in reading.refused[0].why


@pytest.mark.parametrize(
    "sample",
    [
        f"You could write:\n\n{TICKS}json\n[]\n{TICKS}\n",
        f"In `src/c.py`:\n\n{TICKS}sql\nselect 1\n{TICKS}\n",
        f"src/c.py\n{TICKS}\n@@ -1 +1 @@\n-def f():\n+def g(:\n{TICKS}\n".replace("-def f():", "-def x():"),
        f"src/c.py\n{TICKS}\n*** Begin Patch\n*** Update File: src/c.py\n-def f():\n+def g():\n{TICKS}\n",
        f"Before:\n\n{TICKS}python\ndef f():\n    return 1\n{TICKS}\nAfter:\n\n{TICKS}python\nreturn 2\n{TICKS}\n",
        "<think>\n" + sr("src/c.py", "def f():\n", "def g():\n"),
        "src/c.py\n<source>\ndef f():\n</source>\n    return 1\n</source>\n",
    ],
)
def test_what_may_be_a_sample_or_another_format_is_not_written(sample: str) -> None:
    with pytest.raises(EditRefused):
        apply_reply(sample, {"src/c.py": MIXED["src/c.py"]})


def test_of_reasoning_and_answer_only_the_answer_counts() -> None:
    reply = "<think>\n" + sr("a.py", "one\n", "1\n") + "\nNo, better:</think>\n\n" + sr("a.py", "two\n", "2\n")
    assert apply_reply(reply, MIXED) == {"a.py": "one\n2\nthree\n"}


def test_a_sample_of_code_in_a_text_may_leave_code_out() -> None:
    reply = sr("docs/b.md", "text\n", "    # ...\n    // ... other functions ...\n")
    assert apply_reply(reply, MIXED) == {"docs/b.md": "# T\n\n    # ...\n    // ... other functions ...\n"}
    with pytest.raises(EditRefused, match="stands for code"):
        apply_reply(sr("docs/b.md", "text\n", "<!-- ... rest of the page ... -->\n"), MIXED)


def test_a_new_file_with_the_base_name_of_a_known_one_does_not_replace_that() -> None:
    files = {"src/utils.py": "def a():\n    pass\n", "pkg/__init__.py": "x = 1\n"}
    fresh = f"{TICKS}python\nimport src\n{TICKS}\n"
    assert apply_reply("tests/utils.py\n" + fresh, files) == {"tests/utils.py": "import src\n"}
    assert apply_reply(sr("tests/utils.py", "", "import src\n"), files) == {"tests/utils.py": "import src\n"}
    for name in ("pkg/init.py", "PKG/__init__.py"):
        with pytest.raises(EditRefused, match="may be a new file"):
            apply_reply(f"{name}\n{fresh}", files)
        with pytest.raises(EditRefused, match="may be a new file"):
            apply_reply(sr(name, "", "import src\n"), files)


def test_a_block_given_twice_is_applied_once() -> None:
    twice = sr("a.py", "one\n", "one\none and a half\n") * 2
    assert apply_reply(twice, MIXED) == {"a.py": "one\none and a half\ntwo\nthree\n"}
    again = read_reply(twice, {"a.py": "one\none and a half\ntwo\nthree\n"})
    assert (again.changes, [kept.was_there for kept in again.kept]) == ({}, [True, True])


def test_a_file_given_whole_and_in_blocks_is_refused() -> None:
    reply = sr("a.py", "two\n", "2\n") + f"\na.py\n{TICKS}python\none\n2\n3\n{TICKS}\n"
    with pytest.raises(EditRefused, match="whole or deletes it, and gives it again"):
        apply_reply(reply, MIXED)
    assert read_reply(reply, MIXED).changes == {}


@pytest.mark.parametrize(
    "body",
    [
        "<<<<<<< SEARCH\none\n<<<<<<< SEARCH\ntwo\n=======\n2\n>>>>>>> REPLACE\n",
        "<<<<<<< SEARCH\ntwo\n=======\n2\n=======\n>>>>>>> REPLACE\n",
        "<<<<<<< SEARCH\ntwo\n>>>>>>> REPLACE\n",
        "two\n=======\n2\n>>>>>>> REPLACE\n",
        "<<<<<<< ORIGINAL\ntwo\n=======\n2\n>>>>>>> UPDATED\n",
        "<<<<<<< HEAD\ntwo\n=======\n2\n>>>>>>> main\n",
    ],
)
@pytest.mark.parametrize("ticks", [TICKS, ""])
def test_a_block_with_doubtful_markers_is_refused(body: str, ticks: str) -> None:
    fence = f"{ticks}\n" if ticks else ""
    with pytest.raises(EditRefused):
        apply_reply(f"a.py\n{fence}{body}{fence}", MIXED)


def test_underlines_of_headings_are_not_taken_for_the_divider() -> None:
    files = {"doc.rst": "Title\n=======\n\ntext\n", "b.rst": "x\n"}
    reply = sr("doc.rst", "Title\n=======\n", "Other\n=======\n")
    assert apply_reply(reply, files) == {"doc.rst": "Other\n=======\n\ntext\n"}
    assert apply_reply(sr("doc.rst", "text\n", "Part\n=====\n"), files) == {
        "doc.rst": "Title\n=======\n\nPart\n=====\n"
    }


@pytest.mark.parametrize(
    "text",
    ["Use:\n```\n\ncode\n```\n\nend\n", "```\ncode\n```\nmore\n```\nx\n```\n", 'x = """\n```\ncode\n```\n"""\n'],
)
def test_a_whole_file_whose_end_is_uncertain_is_refused(text: str) -> None:
    for name in ("README.md", "a.py") if "=" in text else ("README.md",):
        reading = read_reply(f"{name}\n{TICKS}\n{text}{TICKS}\n", {})
        assert reading.changes == {}
        assert "four backticks" in reading.refused[0].why


def test_a_hunk_with_right_numbers_picks_its_place_among_equals() -> None:
    files = {"a.py": "x\ny\nx\ny\n"}
    reply = f"{TICKS}diff\n--- a/a.py\n+++ b/a.py\n@@ -3,2 +3,2 @@\n x\n-y\n+z\n{TICKS}\n"
    assert apply_reply(reply, files) == {"a.py": "x\ny\nx\nz\n"}
    with pytest.raises(EditRefused, match="more than once"):
        apply_reply(reply.replace("-3,2 +3,2", "..."), files)


def test_lines_that_look_like_a_header_inside_a_hunk_are_content() -> None:
    reply = f"{TICKS}diff\n--- a/q.sql\n+++ b/q.sql\n@@ -1,2 +1,2 @@\n x\n--- old\n+++ new\n{TICKS}\n"
    assert apply_reply(reply, {"q.sql": "x\n-- old\n"}) == {"q.sql": "x\n++ new\n"}


def test_a_file_where_a_folder_is_is_refused() -> None:
    with pytest.raises(EditRefused, match="cannot be a file"):
        apply_reply(sr("src", "", "x\n").replace("src\n", "`src/`\n", 1).replace("src/", "./src"), MIXED)
    with pytest.raises(EditRefused, match="cannot be a file"):
        apply_reply(sr("a.py/b.py", "", "x\n"), MIXED)


def test_a_reply_of_too_many_blocks_or_characters_is_refused() -> None:
    assert "over 500 blocks" in read_reply(sr("a.py", "two\n", "2\n") * 501, MIXED).refused[0].why
    hunks = "@@ ... @@\n-two\n+2\n" * 501
    assert "over 500" in read_reply(f"{TICKS}diff\n--- a.py\n+++ a.py\n{hunks}{TICKS}\n", MIXED).refused[0].why
    assert "longer than" in read_reply("x" * 4_000_001, MIXED).refused[0].why


@pytest.mark.parametrize(
    "line",
    ["# the rest of the arguments go to the parser", "# keep the order of the items", "x = [...]", "    ...",
     "# Other helpers",
     "print('...')", "# more than one line", "// remaining := total - used", "raise NotImplementedError  # rest",
     "...rest,", "f(...rest)"],
)  # fmt: skip
def test_an_ordinary_line_is_not_taken_for_a_placeholder(line: str) -> None:
    assert apply_reply(sr("a.py", "two\n", f"2\n{line}\n"), MIXED) == {"a.py": f"one\n2\n{line}\nthree\n"}


def test_a_placeholder_that_the_file_holds_already_is_its_text() -> None:
    files = {"a.js": "// ... existing code ...\nx\n"}
    assert apply_reply(f"a.js\n{TICKS}\n// ... existing code ...\ny\n{TICKS}\n", files) == {
        "a.js": "// ... existing code ...\ny\n"
    }


@pytest.mark.parametrize(
    ("old", "search", "new"),
    [
        ("    x\n        x\n", "x\n", "y\n"),
        ("x\n", "    x\n", "    y\nz\n"),
        ("a\nb\nc\nd\n", "c\n...\na\n", "C\n...\nA\n"),
        ("a\nb\n", "...\nb\n", "new\n...\nb\n"),
        ("one\n<<<<<<< SEARCH\ntwo\n", "one\n<<<<<<< SEARCH\ntwo\n", "2\n"),
        ("one\n", "zero\none\n", "one\n"),
        ("two\n=======\n2\n", "two\n=======\n2\n", "two\n"),
        ("\tx\n", "    x\n", "    y\n"),
        ("ax\n", "x\n", "y\n"),
        ("one two\n", "one\n", "1\n"),
        ("a\nb\n", "\n\n", "c\n"),
    ],
)
def test_a_search_text_whose_place_is_not_certain_is_refused(old: str, search: str, new: str) -> None:
    with pytest.raises(EditRefused):
        apply_reply(sr("a.py", search, new), {"a.py": old})
    with pytest.raises(EditRefused):
        apply_reply("a.py\n" + block(search.split("\n")[:-1], new.split("\n")[:-1]), {"a.py": old})


@pytest.mark.parametrize(
    "reply",
    [
        f"Like this:\n\n{TICKS}python\np\nq\nr\ns\n{TICKS}\n",
        f"a.py\n{TICKS}python\n{TICKS}\n",
        f"a.py\n{TICKS}\n# a\n{TICKS}python\ncode\n{TICKS}\nend\n{TICKS}\n",
        f"a.py\n{TICKS}python\nu\nv\nw\n",
    ],
)
def test_a_block_that_may_not_be_the_whole_file_is_refused(reply: str) -> None:
    with pytest.raises(EditRefused):
        apply_reply(reply, {"a.py": "u\nv\nw\nx\ny\nz\n"})


def test_a_given_path_that_leaves_the_project_is_not_written_either() -> None:
    for path in ("../a.py", "/a.py", "a\\b.py"):
        assert read_reply(f"{TICKS}\ny\n{TICKS}\n", {path: "x\n"}).changes == {}


def test_markers_with_another_indent_are_content() -> None:
    shown = "    <<<<<<< SEARCH\n    a\n    =======\n    b\n    >>>>>>> REPLACE\n"
    files = {"docs/b.md": f"Format:\n\n{shown}\nend\n"}
    reply = sr("docs/b.md", f"Format:\n\n{shown}", f"The format:\n\n{shown.replace(' b', ' c')}")
    assert apply_reply(reply, files) == {"docs/b.md": f"The format:\n\n{shown.replace(' b', ' c')}\nend\n"}


def test_the_end_of_a_path_alone_does_not_give_a_long_file_new_text() -> None:
    fresh = "".join(f"g{n}()\n" for n in range(60))
    with pytest.raises(EditRefused, match="write the whole path"):
        apply_reply(f"a.py\n{TICKS}python\nimport os\n{fresh}{TICKS}\n", LONG)
    assert (
        apply_reply(f"src/a.py\n{TICKS}python\nimport os\n{fresh}{TICKS}\n", LONG)["src/a.py"] == f"import os\n{fresh}"
    )


def test_line_numbers_prove_nothing_once_a_hunk_before_them_has_failed() -> None:
    files = {"a.py": "head\nx\ny\nx\ny\n"}
    good = f"{TICKS}diff\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-head\n+top\n@@ -4,2 +4,2 @@\n x\n-y\n+z\n{TICKS}\n"
    assert apply_reply(good, files) == {"a.py": "top\nx\ny\nx\nz\n"}
    assert read_reply(good.replace("-head", "-neck"), files).changes == {}


def test_a_word_or_two_of_a_long_file_do_not_say_where_new_lines_belong() -> None:
    files = {"a.py": "".join(f"line_{n} = {n}\n" for n in range(60)) + "\n    return\n" + "end = 1\n"}
    weak = f"{TICKS}diff\n--- a/a.py\n+++ b/a.py\n@@ ... @@\n\n     return\n+x = 1\n{TICKS}\n"
    with pytest.raises(EditRefused, match="shows too little"):
        apply_reply(weak, files)
    assert apply_reply(weak.replace("return\n", "return\n end = 1\n"), files)


def test_a_line_is_not_added_beside_blank_lines_that_are_not_there() -> None:
    files = {"a.py": "one\nlast\n"}
    with pytest.raises(EditRefused, match="not in the file"):
        apply_reply(sr("a.py", "one\n\n", "one\ntwo\n\n"), files)
    with pytest.raises(EditRefused, match="not in the file"):
        apply_reply(sr("a.py", "\nlast\n", "\ntwo\nlast\n"), files)


STUBS = "class A:\n    def f(self):\n        x = 1\n        return x\n\n    def g(self):\n        return 2\n"


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("a.py", STUBS, STUBS.replace("        x = 1\n        return x\n", "        ...\n")),
        ("a.py", STUBS, STUBS.replace("        return x\n", "        ...\n") + "y = 1\n" * 9),
        ("a.py", STUBS, STUBS.replace("    def f(self):\n        x = 1\n        return x\n", "    ...\n")),
        ("README.md", "# T\n\nfirst\nsecond\nthird\n", "# T\n\nfirst\n    ...\nthird\n" + "more\n" * 9),
        ("README.md", "# T\n\nfirst\nsecond\nthird\n", "# T\n\n# ... other lines ...\nthird\n"),
    ],
)
def test_dots_that_stand_where_a_file_has_lines_do_not_replace_them(path: str, old: str, new: str) -> None:
    with pytest.raises(EditRefused, match="stands for code"):
        apply_reply(f"{path}\n{TICKS}\n{new}{TICKS}\n", {path: old})


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("a.py", STUBS, STUBS + "\n    def h(self):\n        ...\n"),
        ("a.py", STUBS, STUBS + '\n    def h(self):\n        """Says nothing."""\n        ...\n'),
        ("README.md", "# T\n\nfirst\n", "# T\n\nfirst\n\n    $ run it\n    ...\n    done\n"),
    ],
)
def test_dots_of_a_new_function_or_sample_are_content(path: str, old: str, new: str) -> None:
    assert apply_reply(f"{path}\n{TICKS}\n{new}{TICKS}\n", {path: old}) == {path: new}


def test_a_listing_with_line_numbers_is_not_written() -> None:
    shown = "".join(f"{at:4} | {line}\n" for at, line in enumerate(STUBS.split("\n"), 1))
    with pytest.raises(EditRefused, match="begins with its number"):
        apply_reply(f"a.py\n{TICKS}\n{shown}{TICKS}\n", {"a.py": STUBS})
    files = {"a.yaml": "1: one\n2: two\n3: three\n"}
    assert apply_reply(f"a.yaml\n{TICKS}\n1: eins\n2: two\n3: three\n{TICKS}\n", files)
