"""The edit reader on distorted and mutilated replies, made from files of our own."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks import edit_distortions
from benchmarks.distortions import CONTINUATIONS, DISTORTIONS, FORMS, Form, write
from benchmarks.edit_distortions import Row, continued, distorted, mutilate, mutilated_some, sources, table

PYTHON = '''"""A shelf of books."""

import json
from pathlib import Path


class Shelf:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.books = []

    def load(self) -> None:
        text = self.path.read_text()
        self.books = json.loads(text)

    def save(self) -> None:
        text = json.dumps(self.books)
        self.path.write_text(text)

    def add(self, title: str, year: int) -> None:
        if not title:
            raise ValueError("a book needs a title")
        self.books.append({"title": title, "year": year})

    def find(self, title: str) -> dict:
        for book in self.books:
            if book["title"] == title:
                return book
        raise KeyError(title)


def main() -> None:
    shelf = Shelf(Path("books.json"))
    shelf.load()
    for book in shelf.books:
        print(book["title"])
'''
SCRIPT = """const books = [];

export function add(title, year) {
  if (!title) {
    throw new Error('a book needs a title');
  }
  books.push({ title, year });
}

export function find(title) {
  return books.find((book) => book.title === title);
}
"""
PAGE = """# Shelf

Keeps books in a file.

```python
shelf = Shelf(Path("books.json"))
```

## Use

- add a book
- find a book
"""
CONFIG = "name: shelf\nlimits:\n  books: 100\n  titles: 200\n"
ROWS = [
    Row("python", "I have no idea.", {"src/shelf.py": PYTHON, "src/other.py": "x = 1\n"}, {
        "src/shelf.py": PYTHON.replace("import json\n", "import json\nimport logging\n").replace(
            "        raise KeyError(title)", "        logging.warning(title)\n        raise KeyError(title) from None"),
        "src/other.py": "x = 1\n"}),
    Row("two", "", {"src/shelf.py": PYTHON, "config/shelf.yaml": CONFIG}, {
        "src/shelf.py": PYTHON.replace('"books.json"', '"shelf.json"'),
        "config/shelf.yaml": CONFIG.replace("100", "150")}),
    Row("script", "", {"web/shelf.js": SCRIPT}, {
        "web/shelf.js": SCRIPT.replace("books.push({ title, year });", "books.push({ title, year, read: false });")}),
    Row("page", "", {"README.md": PAGE}, {"README.md": PAGE.replace("- find a book\n", "- find a book\n- lend it\n")}),
]  # fmt: skip


def shares(outcomes: list[edit_distortions.Outcome]) -> Counter[str]:
    assert [each for each in outcomes if each.ending == "WRONG"] == []
    return Counter(each.ending for each in outcomes)


def test_no_distortion_of_any_form_makes_a_wrong_write() -> None:
    outcomes = [each for seed in range(4) for each in distorted(ROWS, seed, each=len(DISTORTIONS))]
    endings = shares(outcomes)
    assert endings["right"] > 0.7 * len(outcomes)
    assert {each.kind for each in outcomes} == set(DISTORTIONS)


@pytest.mark.parametrize("form", FORMS)
def test_a_reply_without_a_fault_gives_the_files_as_they_should_be(form: Form) -> None:
    for row in ROWS:
        assert row.after is not None
        case = write(form, row.before, row.after)
        assert edit_distortions.ending(case, case.text, loses_bytes=False) == "right"


@pytest.mark.parametrize(
    "kind",
    ["crlf", "block twice", "thinking", "prose", "more fences", "bare header", "wrong numbers", "patch envelope",
     "git header", "bare blank lines"],
)  # fmt: skip
def test_a_distortion_that_leaves_the_meaning_plain_costs_nothing(kind: str) -> None:
    for row in ROWS:
        for form in FORMS:
            case = write(form, row.before, row.after or {})
            text = DISTORTIONS[kind](case, random.Random(1))
            if text is not None:
                assert edit_distortions.ending(case, text, loses_bytes=kind == "crlf") == "right", text


def test_no_continuation_of_a_cut_reply_makes_a_wrong_write() -> None:
    outcomes = [each for seed in range(3) for each in continued(ROWS, seed, each=30)]
    assert shares(outcomes)["right"] > 0.55 * len(outcomes)
    assert {each.kind for each in outcomes} == set(CONTINUATIONS)


def test_mutilated_replies_crash_nothing_write_nothing_outside_and_change_no_input() -> None:
    found = mutilated_some(sources(ROWS), random.Random(20261122), 1_500)
    assert found.faults == []
    assert found.endings["changed"] > 75
    assert found.endings["refused"] > 600


def test_the_mutilation_on_all_cores_counts_every_reply() -> None:
    heard: list[int] = []
    found = mutilate(ROWS, 300, 7, heard.append)
    assert found.faults == []
    assert sum(found.endings.values()) == heard[-1] == 300


def test_a_wrong_write_would_be_counted_as_one() -> None:
    row = ROWS[2]
    case = write("whole", row.before, row.after or {})
    assert edit_distortions.ending(case, case.text.replace("read: false", "read: true"), loses_bytes=True) == "WRONG"
    wrong = edit_distortions.Outcome("whole", "plain", "WRONG", "script", case.text)
    assert table([wrong])["whole"]["all"] == {"right": 0, "refused": 0, "WRONG": 1}


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a\\b", "C:a", "~/a", "-a", "a//b", "./a", "a/", "a\x00b"]
)
def test_a_path_outside_would_be_found(path: str) -> None:
    assert not edit_distortions.is_inside(path)
    assert edit_distortions.is_inside("src/a b.py")
