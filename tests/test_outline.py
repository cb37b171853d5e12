"""What a file offers without its bodies, in every language, and what no text can make the reader do."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit.edits import apply_reply, read_reply
from mcp_tierkit.edits.lazy import is_placeholder, lazy_line
from mcp_tierkit.outline import definitions, mark, neighbours, outline, shape

SAMPLES = Path(__file__).parent / "fixtures" / "outlines.txt"
MARK = re.compile(r"… omitted lines (\d+) to (\d+)")


def samples() -> dict[str, tuple[str, str, str]]:
    """Of each file: its text, its outline and its definitions."""
    found = {}
    for section in SAMPLES.read_text("utf8").split("=== ")[1:]:
        name, _, rest = section.partition("\n")
        text, rest = rest.split("--- outline\n")
        shown, listed = rest.split("--- definitions\n")
        found[name] = (text, shown, listed)
    return found


NAMES = sorted(samples())


@pytest.mark.parametrize("name", NAMES)
def test_an_outline_keeps_heads_and_loses_bodies(name: str) -> None:
    text, shown, _ = samples()[name]
    assert outline(name, text) == shown


@pytest.mark.parametrize("name", NAMES)
def test_definitions_stand_where_their_lines_say(name: str) -> None:
    text, _, listed = samples()[name]
    found = [
        f"{each.name} {each.first_line}-{each.last_line} head to {each.head_last_line}"
        f"{' holds others' if each.is_container else ''}"
        for each in definitions(name, text)
    ]
    assert found == listed.splitlines()
    lines = text.split("\n")
    for each in definitions(name, text):
        assert each.name in "\n".join(lines[each.first_line - 1 : each.last_line])


@pytest.mark.parametrize("name", NAMES)
def test_marks_and_real_lines_together_are_the_whole_file(name: str) -> None:
    text, shown, _ = samples()[name]
    real, at = text.splitlines(), 0
    for line in shown.splitlines():
        if gap := MARK.fullmatch(line):
            assert int(gap[1]) == at + 1
            at = int(gap[2])
        else:
            assert line == real[at]
            at += 1
    assert at == len(real)


def test_an_outline_keeps_windows_line_ends() -> None:
    shown = outline("a.py", "def one():\r\n    a = 1\r\n    return a\r\n\r\nTWO = 2\r\n")
    assert shown == "def one():\r\n… omitted lines 2 to 4\nTWO = 2\r\n"


def test_a_definition_inside_a_function_is_found_though_the_outline_ends_above_it() -> None:
    text = samples()["cart.py"][0]
    assert "inner" in {each.name for each in definitions("a.py", text)}
    assert "def inner" not in (outline("a.py", text) or "")


def test_a_file_with_a_mistake_in_it_still_has_an_outline() -> None:
    text = "import os\n\ndef one(:\n    return 1\n\n\ndef two(a):\n    b = a\n    return b\n"
    assert "def two(a):" in (outline("a.py", text) or "")


def test_a_comment_before_a_body_is_part_of_the_body() -> None:
    assert (
        outline("a.py", "def one():\n    # Why it is one.\n    a = 1\n    return a\n")
        == "def one():\n… omitted lines 2 to 4\n"
    )


def test_a_header_within_a_guard_shows_what_it_declares() -> None:
    text = "#ifndef A\n#define A\n" + "".join(f"int f{number}(int a);\n" for number in range(20)) + "#endif\n"
    assert outline("a.h", text) == text


def test_an_outline_leaves_out_lines_that_are_too_long_to_read() -> None:
    assert outline("a.py", f"A = '{'x' * 500}'\nB = 1\n") == "… omitted lines 1 to 1\nB = 1\n"


def test_a_parser_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def one():\n    return 1\n" * 1000
    assert outline("a.py", text) is not None
    monkeypatch.setattr(shape, "MOST_SECONDS", -1)
    assert outline("a.py", text) is None


# --- the mark is no code


@pytest.mark.parametrize("suffix", [".py", ".js", ".ts", ".go", ".rs", ".c", ".rb", ".php", ".sh", ".md", ".yaml", ""])
def test_a_mark_sent_back_as_code_is_refused(suffix: str) -> None:
    path = f"a{suffix}"
    assert is_placeholder(mark(3, 9))
    assert lazy_line(path, ("one", mark(3, 9)), ("one",), ("one",)) == mark(3, 9)
    reply = f"{path}\n```\n<<<<<<< SEARCH\none\n=======\none\n{mark(3, 9)}\n>>>>>>> REPLACE\n```\n"
    reading = read_reply(reply, {path: "one\ntwo\n"})
    assert (reading.changes, len(reading.refused)) == ({}, 1)


def test_a_mark_on_both_sides_of_an_edit_stands_for_what_it_leaves_out() -> None:
    text = "def one():\n    a = 1\n    return a\n\n\nTWO = 2\n"
    old, new = f"def one():\n{mark(2, 5)}\nTWO = 2\n", f"def one():\n{mark(2, 5)}\nTWO = 3\n"
    reply = f"a.py\n```\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n```\n"
    assert apply_reply(reply, {"a.py": text}) == {"a.py": text.replace("TWO = 2", "TWO = 3")}


# --- nothing is made of what is no code


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "def one():\n    pass\n"),
        ("a", "def one():\n    pass\n"),
        ("a.py", "def one():\n    a = '\0'\n    return a\n"),
        ("a.py", "(" * 100_000),
        ("a.java", "a<b<" * 25_000),
        ("a.c", "let *if =>" * 6_000),
        ("a.js", "x = [" + "1, " * 300_000 + "]"),
        ("a.sh", "\0" * 500_000),
        ("a.rb", "%w(" * 50_000),
        ("a.py", "x = 1\n" * 800_000),
        ("a.py", "x = " + "(" * 301 + ")" * 301 + "\n"),
        ("a.cs", "class A { bool b = a" + " < a" * 350 + "; }\n"),
        ("a.py", "x = = 1 ) ( :\n"),
    ],
    ids=[
        "text", "no-ending", "nul", "brackets", "generics", "nonsense", "one-line", "nuls", "words", "huge", "deep",
        "smaller", "mistakes",
    ],
)  # fmt: skip
def test_a_text_that_no_code_looks_like_has_no_outline(name: str, text: str) -> None:
    assert outline(name, text) is None
    assert definitions(name, text) == ()


@pytest.mark.parametrize("name", NAMES)
def test_texts_cut_and_shuffled_never_raise(name: str) -> None:
    text, chance = samples()[name][0], random.Random(name)
    for _ in range(40):
        pieces = [text[at : at + chance.randrange(1, 60)] for at in (chance.randrange(len(text)) for _ in range(30))]
        mixed = "".join(pieces)
        shown = outline(name, mixed)
        assert shown is None or set(shown.split("\n")) - set(mixed.split("\n")) <= {
            line for line in shown.split("\n") if MARK.fullmatch(line) or not line
        }


@given(st.text(max_size=300), st.sampled_from(NAMES))
def test_no_text_raises(text: str, name: str) -> None:
    outline(name, text)
    definitions(name, text)
    neighbours(name, text)


# --- neighbours


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("shop/cart.py", "from shop.store import (\n    Line,  # one\n    Price,\n)\n", "shop/store.py"),
        ("src/shop/cart.py", "import shop.store as s, shop.tax\n", "src/shop/store.py src/shop/tax.py"),
        ("shop/cart.py", "from . import store\n", "shop/store.py shop/__init__.py"),
        ("shop/till/cart.py", "from ..store import Line\n", "shop/store.py shop/store/__init__.py"),
        ("services/api/app/cart.py", "from app.store import Line\n", "services/api/app/store.py"),
        ("web/cart.ts", 'import { a } from "./store.js";\n', "web/store.js web/store.ts"),
        ("web/cart.jsx", 'const a = require("../lib/store")\n', "lib/store.js lib/store/index.js"),
        ("web/cart.ts", 'export * from "./store";\nimport b from "@/tax";\n', "web/store.ts src/tax.ts"),
        ("a.go", 'import (\n\t"fmt"\n\ts "example.com/org/shop/store"\n)\n', "store/store.go shop/store/store.go"),
        ("src/cart.rs", "mod lines;\nuse crate::store::Line;\n", "src/cart/lines.rs src/store.rs"),
        ("src/cart/mod.rs", "mod lines;\nuse super::store;\n", "src/cart/lines.rs src/store.rs"),
        (
            "src/test/java/shop/CartTest.java",
            "package shop;\nimport shop.store.Line;\nimport static shop.Rules.LIMIT;\n",
            "src/main/java/shop/store/Line.java src/main/java/shop/Rules.java",
        ),
        ("src/cart.c", '#include <stdio.h>\n#include "store.h"\n', "src/store.h include/store.h"),
        ("lib/cart.rb", 'require_relative "store"\nrequire "shop/tax"\n', "lib/store.rb lib/shop/tax.rb"),
    ],
)  # fmt: skip
def test_imports_lead_to_files_of_the_project(path: str, text: str, expected: str) -> None:
    assert set(expected.split()) <= set(neighbours(path, text))


def test_neighbours_keep_the_order_of_the_imports_and_stay_in_the_project() -> None:
    found = neighbours(
        "web/cart.ts", 'import "./b";\nimport "./a";\nimport "../../out";\nimport "react";\nimport "./cart";\n'
    )
    assert [name for name in found if name in ("web/a.ts", "web/b.ts")] == ["web/b.ts", "web/a.ts"]
    assert "web/cart.ts" not in found
    assert not [name for name in found if name.startswith((".", "/")) or "out" in name or "react" in name]


def test_a_file_that_imports_nothing_has_no_neighbours() -> None:
    assert neighbours("a.py", "x = 1\n") == ()
    assert neighbours("a.txt", "import shop.cart\n") == ()
