"""What a request shows of a project's files, and that it never shows more than the budget allows or the files hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.edits import apply_reply
from mcp_tierkit.packing import Packed, fence, pack
from mcp_tierkit.tokens import count, estimate
from mcp_tierkit.types import PackedFile

NOTE = "a line such as “… omitted lines 7 to 9” stands for lines that are not shown:"
MARK = re.compile(r"… omitted lines (\d+) to (\d+)")
PIECE = re.compile(
    r"^(?:(?P<kind>Parts|Outline) of a file; [^\n]*\n)?(?P<path>[^\n]+)\n(?P<ticks>`{3,})\n(?P<text>.*?)^(?P=ticks)$",
    re.M | re.S,
)


def module(functions: int, lines: int = 8) -> str:
    """A module of small functions, each with a line that no other has."""
    bodies = (
        f"def handle_{number}(value: int) -> int:\n"
        + "".join(f"    value += {number} * {line}\n" for line in range(lines - 3))
        + f"    return value  # {number}\n\n"
        for number in range(functions)
    )
    return "import os\n\n" + "".join(bodies)


def shown(text: str) -> dict[str, str]:
    """What stands in the fence of each file."""
    return {piece["path"]: piece["text"] for piece in PIECE.finditer(text)}


def size(packed: Packed) -> int:
    return sum(estimate(text) for text in (packed.editable, packed.context, packed.neighbours))


def kinds(packed: Packed) -> dict[str, str]:
    return {file.path: file.shown for file in packed.files}


# --- what fits


def test_files_that_fit_are_shown_whole_and_in_the_order_given() -> None:
    packed = pack({"b.py": "b = 1\n", "a.py": "a = 1"}, {"c.md": "# C\n"}, budget=100, count=estimate)
    assert packed == Packed(
        editable="b.py\n```\nb = 1\n```\n\na.py\n```\na = 1\n```\n",
        context="c.md\n```\n# C\n```\n",
        files=(
            PackedFile(path="b.py", shown="whole", tokens=5),
            PackedFile(path="a.py", shown="whole", tokens=5),
            PackedFile(path="c.md", shown="whole", tokens=5),
        ),
    )


def test_a_fence_is_longer_than_any_run_of_backticks_in_the_file() -> None:
    assert fence("a.md", "```py\n````\n") == "a.md\n`````\n```py\n````\n`````\n"
    text = "def one():\n    return '````'\n\n" + module(400)
    packed = pack({"a.py": text}, {}, budget=2000, count=estimate, focus=["mend `one`"])
    assert packed.editable.count("`````\n") == 2


@pytest.mark.parametrize("first", ["large.py", "small.py"])
def test_small_files_are_whole_before_a_large_one_is(first: str) -> None:
    texts = {"large.py": module(400), "small.py": module(200)}
    files = dict(sorted(texts.items(), key=lambda item: item[0] != first))
    budget = estimate(texts["large.py"]) + 6000
    packed = pack(files, {}, budget=budget, count=estimate, focus=["handle_300 is wrong"])
    assert kinds(packed) == {"large.py": "parts", "small.py": "whole"}
    assert packed.partial == {"large.py"}
    assert packed.editable.startswith(first) or packed.editable.startswith(f"Parts of a file; {NOTE}\n{first}\n")
    assert "# 300" in packed.editable


def test_a_file_shown_twice_over_is_shown_once() -> None:
    packed = pack({"a.py": "a = 1\n"}, {"a.py": "a = 1\n"}, {"a.py": "a = 1\n"}, budget=100, count=estimate)
    assert [file.path for file in packed.files] == ["a.py"]


# --- what does not fit


def test_the_function_of_a_traceback_is_whole_though_its_module_has_20_000_lines() -> None:
    text = module(2500)
    assert text.count("\n") > 20_000
    at = text[: text.index("return value  # 1234\n")].count("\n") + 1
    trace = f'Traceback (most recent call last):\n  File "/tmp/copy/src/big.py", line {at}, in f\nValueError: bad\n'
    packed = pack({"src/big.py": text}, {}, budget=6000, count=estimate, focus=["Mend it.", trace])
    begin = text.index("def handle_1234(")
    whole = text[begin : text.index("return value  # 1234\n") + len("return value  # 1234\n")]
    assert whole in packed.editable
    assert kinds(packed) == {"src/big.py": "parts"}
    assert size(packed) <= 6000


@pytest.mark.parametrize(
    "place",
    [
        "src/app/big.py:{line}: in handle",
        'File "/copy/src/app/big.py", line {line}',
        "big.py:{line}",
        "app/big.py({line},5): error",
        "in /srv/src/app/big.py on line {line}",
        "at handle (/copy/src/app/big.py:{line}:9)",
        "--> src/app/big.py:{line}:5",
    ],
)
def test_a_line_that_any_tool_points_at_is_shown(place: str) -> None:
    text = module(600)
    at = text[: text.index("return value  # 432\n")].count("\n") + 1
    packed = pack({"src/app/big.py": text}, {}, budget=3000, count=estimate, focus=[place.format(line=at)])
    assert "return value  # 432\n" in packed.editable
    assert "return value  # 100\n" not in packed.editable


def test_a_place_in_another_file_shows_nothing_of_this_one() -> None:
    text = module(600)
    at = text[: text.index("return value  # 432\n")].count("\n") + 1
    focus = [f"notbig.py:{at}", f"big.py2:{at}"]
    packed = pack({"big.py": text}, {}, budget=12_000, count=estimate, focus=focus)
    assert "def handle_432(" in packed.editable
    assert "return value  # 432\n" not in packed.editable


def test_what_the_task_names_is_whole_and_the_rest_an_outline() -> None:
    text = module(100, lines=30)
    packed = pack({"big.py": text}, {}, budget=4000, count=estimate, focus=["Let `handle_42` refuse zero."])
    assert "return value  # 42\n" in packed.editable
    assert "def handle_41(value: int) -> int:\n… omitted lines" in packed.editable
    assert "return value  # 77\n" not in packed.editable


def test_an_outline_takes_no_room_that_what_is_named_needs() -> None:
    text = module(100, lines=30)
    packed = pack({"big.py": text}, {}, budget=2300, count=estimate, focus=["Let `handle_42` refuse zero."])
    assert "return value  # 42\n" in packed.editable


def test_an_outline_takes_the_room_that_what_is_named_leaves() -> None:
    text = module(100, lines=30)
    packed = pack({"big.py": text}, {}, budget=3200, count=estimate, focus=["Let `handle_42` refuse zero."])
    assert "def handle_41(value: int) -> int:\n… omitted lines" in packed.editable


def test_what_is_pointed_at_comes_before_what_is_named() -> None:
    text = module(600, lines=40)
    at = text[: text.index("return value  # 432\n")].count("\n") + 1
    focus = ["handle_1 handle_2 handle_3 handle_4 handle_5", f"big.py:{at}: ValueError"]
    packed = pack({"big.py": text}, {}, budget=500, count=estimate, focus=focus)
    assert text[text.index("def handle_432(") : text.index("\n\ndef handle_433(")] in packed.editable
    assert "return value  # 5\n" not in packed.editable


def test_what_a_named_function_uses_comes_with_it() -> None:
    text = module(300) + "def outer():\n    return handle_7(1)\n"
    packed = pack({"big.py": text}, {}, budget=4000, count=estimate, focus=["`outer` is wrong"])
    assert "return value  # 7\n" in packed.editable


def test_a_method_comes_with_the_head_of_its_class() -> None:
    methods = "".join(
        f"    def step_{number}(self):\n" + "        self.go()\n" * 8 + f"        return {number}\n\n"
        for number in range(400)
    )
    text = f"class Till(Base):\n{methods}{module(400)}"
    packed = pack({"till.py": text}, {}, budget=1000, count=estimate, focus=["`step_300` is wrong"])
    part = shown(packed.editable)["till.py"]
    assert part.startswith("class Till(Base):\n… omitted lines 2 to ")
    assert "def handle_" not in part
    assert "        return 300\n" in packed.editable


def test_an_edit_of_a_shown_part_applies_to_the_whole_file() -> None:
    text = module(2500)
    packed = pack({"big.py": text}, {}, budget=3000, count=estimate, focus=["`handle_1999` adds one too few"])
    lines = shown(packed.editable)["big.py"].split("\n")
    at = lines.index("    return value  # 1999")
    search = "\n".join(lines[at - 1 : at + 1])
    reply = f"big.py\n```\n<<<<<<< SEARCH\n{search}\n=======\n{search} + 1\n>>>>>>> REPLACE\n```\n"
    assert apply_reply(reply, {"big.py": text}) == {"big.py": text.replace("# 1999\n", "# 1999 + 1\n")}


def test_a_text_without_a_grammar_is_shown_around_the_lines_that_match() -> None:
    text = "".join(f"line {number}\n" for number in range(3000)) + "timeout_s = 3\n" + "more\n" * 3000
    packed = pack({"settings.conf": text}, {}, budget=400, count=estimate, focus=["raise timeout_s to 5 in its line"])
    assert kinds(packed) == {"settings.conf": "parts"}
    assert "line 2999\ntimeout_s = 3\nmore\n" in packed.editable
    assert "line 1500\n" not in packed.editable


def test_a_file_of_which_the_task_says_nothing_is_filled_while_there_is_room() -> None:
    text = module(100, lines=30)
    packed = pack({"big.py": text}, {}, budget=6000, count=estimate, focus=["Be kind."])
    assert "return value  # 0\n" in packed.editable
    assert "def handle_99(value: int) -> int:\n" in packed.editable
    assert 5000 < size(packed) <= 6000


def test_a_file_to_edit_of_which_nothing_fits_is_left_out() -> None:
    packed = pack({"big.py": module(2500)}, {"a.md": "a\n"}, budget=1000, count=estimate)
    assert packed.left_out == ("big.py",)
    assert (packed.editable, packed.partial) == ("", frozenset())
    assert kinds(packed) == {"big.py": "left_out", "a.md": "whole"}


def test_a_context_file_that_does_not_fit_gives_way_to_smaller_ones() -> None:
    large = module(2500)
    packed = pack({"a.py": "a = 1\n"}, {"large.py": large, "small.md": "small\n"}, budget=300, count=estimate)
    assert kinds(packed) == {"a.py": "whole", "large.py": "left_out", "small.md": "whole"}


def test_an_outline_gives_way_to_a_smaller_file_that_has_none() -> None:
    large, small = module(60, lines=20), "small " * 400
    alone = pack({}, {"large.py": large}, budget=1400, count=estimate, focus=["Be kind."])
    assert kinds(alone) == {"large.py": "outline"}
    packed = pack({}, {"large.py": large, "small.md": small}, budget=size(alone) + 300, count=estimate)
    assert kinds(packed) == {"large.py": "left_out", "small.md": "whole"}


def test_neighbours_are_outlines_of_a_fifth_of_the_budget_at_most() -> None:
    near = {f"n{number}.py": module(20, lines=20) for number in range(10)}
    packed = pack({"a.py": "a = 1\n"}, {}, near, budget=3000, count=estimate)
    assert 300 < estimate(packed.neighbours) <= 600
    assert set(kinds(packed).values()) == {"whole", "outline", "left_out"}
    assert "return value" not in packed.neighbours
    assert packed.partial == frozenset()


def test_a_neighbour_without_an_outline_is_left_out() -> None:
    packed = pack({"a.py": "a = 1\n"}, {}, {"n.txt": "n\n"}, budget=3000, count=estimate)
    assert packed.neighbours == ""
    assert packed.left_out == ("n.txt",)


@pytest.mark.parametrize("text", ["\0" * 200_000, "(" * 100_000, "x" * 1_000_000, "x\n" * 100_000, "\r" * 9000, ""])
def test_a_text_that_is_no_code_is_packed_or_left_out(text: str) -> None:
    packed = pack({"a.py": text}, {"b.c": text}, {"c.js": text}, budget=500, count=estimate, focus=["x a.py:7"])
    assert size(packed) <= 500


def test_a_count_that_joins_badly_is_not_trusted() -> None:
    def joined(text: str) -> int:
        return estimate(text) * (2 if text.count("```\n\n") else 1)

    packed = pack({f"{number}.py": "a = 1\n" for number in range(20)}, {}, budget=130, count=joined)
    assert joined(packed.editable) <= 130
    assert packed.left_out


def test_a_real_vocabulary_counts_as_well() -> None:
    text = module(600)
    packed = pack({"a.py": text}, {}, budget=3000, count=lambda part: count(part).tokens, focus=["handle_500"])
    assert "return value  # 500\n" in packed.editable
    assert count(packed.editable).tokens <= 3000


# --- whatever the files

LINES = st.sampled_from(
    ["def one(a):", "class Two:", "    def three(self):", "    a = 1", "        return a", "", "```", "x = {", "\t\x0c"]
) | st.just("é" * 300)
FILES = st.dictionaries(
    st.sampled_from(["a.py", "b.js", "c.go", "d.md", "e/f.py", "g.rs"]),
    st.builds(lambda lines, end: "\n".join(lines) + end, st.lists(LINES, max_size=120), st.sampled_from(["\n", ""])),
    max_size=4,
)
FOCUS = st.lists(
    st.sampled_from(["mend `three`", "one and two", "a.py:9", 'File "/x/e/f.py", line 30', "d.md:3", "`return`"]),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(FILES, FILES, FILES, st.integers(0, 1500), FOCUS)
def test_no_more_than_the_budget_and_nothing_but_real_lines(
    editable: dict[str, str], context: dict[str, str], near: dict[str, str], budget: int, focus: list[str]
) -> None:
    packed = pack(editable, context, near, budget=budget, count=estimate, focus=focus)
    assert size(packed) <= budget
    assert packed == pack(editable, context, near, budget=budget, count=estimate, focus=focus)
    texts = {**near, **context, **editable}
    assert [file.path for file in packed.files] == list({**editable, **context, **near})
    pieces = [piece for text in (packed.editable, packed.context, packed.neighbours) for piece in PIECE.finditer(text)]
    assert [piece["path"] for piece in pieces] == [file.path for file in packed.files if file.shown != "left_out"]
    for piece, file in zip(pieces, [file for file in packed.files if file.shown != "left_out"], strict=True):
        assert file.tokens == estimate(piece[0] + "\n")
        text = texts[file.path]
        if file.shown == "whole":
            assert piece["text"] == text + ("" if text.endswith("\n") or not text else "\n")
        else:
            assert (piece["kind"] == "Parts") == (file.shown == "parts")
            follows(piece["text"], text)


def follows(part: str, text: str) -> None:
    """Each line is that of the file at its place, and marks account for all others."""
    real, at = text.split("\n"), 0
    for line in part.removesuffix("\n").split("\n"):
        if gap := MARK.fullmatch(line):
            assert int(gap[1]) == at + 1
            at = int(gap[2])
        else:
            assert line == real[at]
            at += 1
    assert at == len(real) - (not real[-1])
