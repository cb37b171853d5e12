"""A reply that was cut off and its continuation, as one text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.edits import apply_reply, join_reply, read_reply
from mcp_tierkit.edits.joining import SEAM

TICKS = "`" * 3
FILES = {"a.py": "import os\n\n\ndef load(path):\n    return open(path)\n", "src/b.py": "limit = 10\n"}
WHOLE = f"""The file:

a.py
{TICKS}python
import json


def load(path):
    with open(path) as file:
        return json.load(file)


def save(path, content):
    with open(path, "w") as file:
        json.dump(content, file)
{TICKS}

And the other:

src/b.py
{TICKS}python
limit = 20
{TICKS}

Done.
"""
BLOCKS = f"""a.py
{TICKS}python
<<<<<<< SEARCH
import os
=======
import json
>>>>>>> REPLACE
<<<<<<< SEARCH
    return open(path)
=======
    with open(path) as file:
        return json.load(file)
>>>>>>> REPLACE
{TICKS}

src/b.py
{TICKS}python
<<<<<<< SEARCH
limit = 10
=======
limit = 20
>>>>>>> REPLACE
{TICKS}
"""
DIFF = f"""Both:

{TICKS}diff
--- a/a.py
+++ b/a.py
@@ -1,5 +1,6 @@
-import os
+import json
~
~
 def load(path):
-    return open(path)
+    with open(path) as file:
+        return json.load(file)
--- a/src/b.py
+++ b/src/b.py
@@ -1 +1 @@
-limit = 10
+limit = 20
{TICKS}
""".replace("~\n", " \n")
REPLIES = [WHOLE, BLOCKS, DIFF]


def is_kept_apart(joined: str) -> bool:
    return f"\n{SEAM}\n" in joined


def back(text: str, at: int, lines: int) -> int:
    """Where the line before `at` begins, or one of those above it."""
    starts = [0] + [n + 1 for n, char in enumerate(text[:at]) if char == "\n"]
    return starts[max(0, len(starts) - 1 - lines)]


@pytest.mark.parametrize("reply", REPLIES)
def test_an_exact_continuation_of_a_reply_cut_at_any_character_gives_the_reply(reply: str) -> None:
    joined = [join_reply(reply[:at], reply[at:]) for at in range(len(reply) + 1)]
    assert {text for text in joined if not is_kept_apart(text)} == {reply}
    assert sum(map(is_kept_apart, joined)) < 0.12 * len(joined)


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("lines", [1, 2, 4, 9])
def test_lines_that_a_continuation_repeats_are_there_once(reply: str, lines: int) -> None:
    joined = [join_reply(reply[:at], reply[back(reply, at, lines) :]) for at in range(1, len(reply))]
    assert {text for text in joined if not is_kept_apart(text)} == {reply}
    assert sum(map(is_kept_apart, joined)) < (0.35 if lines == 1 else 0.25) * len(joined)


LINES = st.lists(
    st.sampled_from(["", "x = 1", "    x = 1", "}", "    }", "def f():", "    return compute(a, b)", "\ty",
                     TICKS,
                     f"{TICKS}python", "=======", "<<<<<<< SEARCH", ">>>>>>> REPLACE", "a.py", "Continuing:",
                     "é 漢字 🎈",
                     "    continue", "# Here is the rest", "+ x", "- the same line", "a\r"]),
    max_size=14,
)  # fmt: skip


@given(LINES, st.data(), st.integers(0, 4))
@settings(max_examples=400, deadline=None)
def test_any_text_is_joined_as_it_was_or_kept_apart(lines: list[str], data: st.DataObject, again: int) -> None:
    text = "\n".join(lines)
    at = data.draw(st.integers(0, len(text)))
    says_it_twice = any(
        lines[n : n + size] == lines[n + size : n + 2 * size]
        for size in range(1, 8)
        for n in range(len(lines) - 2 * size + 1)
    )
    # Nor a fence inside a fence from one that is opened again.
    says_it_twice = says_it_twice or lines.count(f"{TICKS}python") > 1
    for more in (text[at:], text[back(text, at, again) :]):
        joined = join_reply(text[:at], more)
        assert joined.startswith(text[:at][: back(text, at, 0)])
        # No reader could tell lines that are there twice from lines that are said twice.
        assert joined == text or is_kept_apart(joined) or says_it_twice, (text[:at], more)


def test_a_continuation_may_open_the_fence_and_name_the_file_again() -> None:
    at = WHOLE.index("        return json.load")
    rest, last = WHOLE[at:], WHOLE[back(WHOLE, at, 1) :]
    for before in (
        f"{TICKS}python\n", f"a.py\n{TICKS}python\n", f"Continuing:\n\na.py\n{TICKS}python\n",
        f"Sure!\n\n{TICKS}python\n",
        f"<think>\nWhere was I?\n</think>\n\n{TICKS}python\n",
    ):  # fmt: skip
        assert join_reply(WHOLE[:at], before + rest) == WHOLE
        assert join_reply(WHOLE[:at], before + last) == WHOLE


def test_talk_before_lines_that_are_said_twice_is_left_out() -> None:
    at = WHOLE.index("json.load") + 3
    for talk in ("Continuing:\n\n", "Here is the rest of the file:\n\n", "\n\n", "<think>\nSo.\n</think>\n"):
        assert join_reply(WHOLE[:at], talk + WHOLE[back(WHOLE, at, 2) :]) == WHOLE


def test_a_block_or_a_reply_that_begins_anew_is_there_once() -> None:
    at = WHOLE.index("def save") + 5
    assert join_reply(WHOLE[:at], WHOLE[WHOLE.index(f"{TICKS}python") :]) == WHOLE
    assert join_reply(WHOLE[:at], WHOLE[WHOLE.index("a.py") :]) == WHOLE
    assert join_reply(WHOLE[:at], WHOLE) == WHOLE


@pytest.mark.parametrize(
    ("cut", "more"),
    [
        ("        ", "        return json.load(file)\n"),
        ("        return json.load(file)\n", "Continuing:\n\ndef save():\n"),
        ("        return json.load(file)\n", f"src/b.py\n{TICKS}python\nlimit = 20\n{TICKS}\n"),
        ("        return json.load(file)\n", "    with open(path) as file:\n        return None\n"),
        ("        return json.lo", f"{TICKS}python\nad(file)\n{TICKS}\n"),
        ("        return json.load(file)\n", f"{TICKS}python\nimport json\nimport os\n"),
        ("        return json.load(file)\n", "<think>\nI shall"),
        ("        return json.load(file)\n", "a.py\n\n\ndef save(path, content):\n"),
        ("        return json.lo", f"{TICKS}\nad(file)\n{TICKS}\n"),
    ],
)
def test_a_continuation_that_may_mean_two_things_is_refused(cut: str, more: str) -> None:
    first = WHOLE[: WHOLE.index("        return json.load")] + cut
    joined = join_reply(first, more)
    assert is_kept_apart(joined)
    reading = read_reply(joined, FILES)
    assert reading.changes == {}
    assert "does not say how it goes on" in reading.report


def test_a_fence_does_not_begin_in_the_middle_of_a_line() -> None:
    first = f"README.md\n{TICKS}`markdown\n# T\n\nSome te"
    assert is_kept_apart(join_reply(first, f"{TICKS}python\nxt\n{TICKS}\n{TICKS}`\n"))
    assert not is_kept_apart(join_reply(first, f"xt\n\n{TICKS}python\nx = 1\n{TICKS}\n{TICKS}`\n"))


def test_what_was_complete_before_an_uncertain_continuation_is_still_read() -> None:
    first = WHOLE[: WHOLE.index("limit = 20")]
    reading = read_reply(join_reply(first, "Continuing:\n\nlimit = 20\n" + TICKS), FILES)
    assert set(reading.changes) == {"a.py"}
    assert reading.refused


def test_a_reply_may_be_cut_off_more_than_once() -> None:
    joined = ""
    for at in range(0, len(BLOCKS), 150):
        joined = join_reply(joined, BLOCKS[at : at + 150])
    assert is_kept_apart(joined) or joined == BLOCKS
    apart = join_reply(join_reply("a.py\n        ", "        x\n"), "more\n")
    assert read_reply(apart, FILES).changes == {}


def test_an_empty_continuation_adds_nothing() -> None:
    assert join_reply(WHOLE, "") == WHOLE
    assert join_reply("", WHOLE) == WHOLE


BEFORE = ["", "Continuing:\n\n", "\n", "\n\n", f"{TICKS}python\n", f"{TICKS}\n", f"a.py\n{TICKS}python\n", "a.py\n",
          "<think>\n</think>\n"]  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES)
def test_no_distorted_continuation_makes_a_wrong_write(reply: str) -> None:
    chance = random.Random(20261122)
    want = apply_reply(reply, FILES)
    for _ in range(600):
        at = chance.randrange(reply.index(TICKS) + 4, reply.rindex(TICKS) - 1)
        more = chance.choice(BEFORE) + reply[back(reply, at, chance.randint(1, 6)) :]
        reading = read_reply(join_reply(reply[:at], more), FILES)
        if not reading.refused:
            assert reading.changes == want, (reply[:at][-80:], more)
