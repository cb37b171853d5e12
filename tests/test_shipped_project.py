"""The shipped playbooks about a project: what is planted is found, and what is secret or a string is not told."""

from __future__ import annotations

import gzip
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shipped import KEYS, by_hand, made_up, script

USUAL = settings(max_examples=60, deadline=None)


LOGS, TODOS = script("log-error-groups"), script("todo-inventory")


def run(name: str, where: Path, **inputs: Any) -> tuple[int, Any, str]:
    return by_hand(name, inputs, where)


# --- logs ---------------------------------------------------------------------------------------

WORDS = st.lists(
    st.sampled_from(
        ["cannot", "save", "order", "of", "user", "while", "the", "disk", "was", "full", "again", "timeout", "refused"]
    ),
    min_size=2,
    max_size=6,
)
VALUES = st.one_of(
    st.integers(-(10**9), 10**12).map(str),
    st.uuids().map(str),
    st.floats(0, 1e6).map(lambda number: f"{number:.2f}"),
    st.ip_addresses(v=4).map(str),
    st.integers(1, 99).map(lambda number: f"/var/lib/shop{number}/rows.csv"),
    st.integers(0, 2**40).map(lambda number: f"0x{number:x}"),
    st.text("abc XYZ.", max_size=12).map(lambda text: f"'{text}'"),
    st.emails(domains=st.just("example.com")).map(lambda text: f'"{text}"'),
)


def groups(text: str, level: str = "error", limit: int = 200) -> dict[str, Any]:
    result: dict[str, Any] = LOGS.report(io.StringIO(text), level, limit)
    return result


@USUAL
@given(st.lists(WORDS.map(tuple), min_size=1, max_size=6, unique=True), st.data())
def test_planted_errors_come_out_in_just_their_groups(templates: list[tuple[str, ...]], data: st.DataObject) -> None:
    planted = data.draw(st.lists(st.integers(0, len(templates) - 1), min_size=1, max_size=25))
    lines, kind = [], data.draw(st.sampled_from(["plain", "json"]))
    for number, which in enumerate(planted):
        # The kind of a value stays the same within a template, the value does not.
        said = " ".join(templates[which]) + f" {number} '{data.draw(st.text('xyz 1', max_size=5))}'"
        stamp = f"2024-03-05 10:00:{number:02}"
        lines.append(
            f"{stamp} ERROR {said}" if kind == "plain" else json.dumps({"level": "error", "msg": said, "time": stamp})
        )
        lines += (
            [f"{stamp} INFO no ERROR here {number}", "a line of no level"]
            if kind == "plain"
            else ['{"level":"info","msg":"x"}']
        )
    found = groups("\n".join(lines))
    assert found["events"] == len(planted)
    assert sorted(one["count"] for one in found["groups"]) == sorted(planted.count(which) for which in set(planted))
    for one in found["groups"]:
        mine = [
            number
            for number, which in enumerate(planted)
            if f"{' '.join(templates[which])} <n> <text>" == one["shape"].removeprefix("ERROR ")
        ]
        assert (len(mine), one["first"][-2:], one["last"][-2:]) == (one["count"], f"{mine[0]:02}", f"{mine[-1]:02}")


@USUAL
@given(WORDS, WORDS, VALUES)
def test_masking_joins_values_and_never_two_templates(one: list[str], other: list[str], value: str) -> None:
    shape = LOGS.shape
    assert (shape(f"{' '.join(one)} 7 end") == shape(f"{' '.join(other)} 8 end")) == (one == other)
    masked = shape(f"{' '.join(one)} {value}")
    assert masked.startswith(" ".join(one) + " ")
    assert value not in masked
    assert shape(masked) == masked


@USUAL
@given(
    st.sampled_from([kind for kind in KEYS if kind != "private-key"]),
    st.integers(0, 10**6),
    st.sampled_from(["password={}", "key {} used", '"token": "{}"', "Authorization: Bearer {}", "{}"]),
)
def test_no_sample_and_no_shape_shows_a_key(kind: str, seed: int, form: str) -> None:
    key = made_up(kind, seed)
    secret = key.split(":")[2].split("@")[0] if kind == "login-in-url" else key
    told = json.dumps(
        groups(
            f"ERROR refused {form.format(key)}\nTraceback (most recent call last):\n"
            f'  File "a.py", line 1, in f\nE: {key}\n'
        )
    )
    assert secret not in told
    assert secret[8:] not in told


def test_a_trace_of_each_kind_stays_with_its_error() -> None:
    python = 'Traceback (most recent call last):\n  File "/a/b.py", line {n}, in f\n    g()\nValueError: bad {n}\n'
    java = "java.lang.IllegalStateException: x {n}\n\tat com.a.B.c(B.java:{n})\n\tat com.a.Main.main(Main.java:1)\n"
    node = "TypeError: x is {n}\n    at f (/app/a.js:{n}:1)\n"
    text = "".join(part.format(n=n) for part in (python, java, node) for n in (1, 2))
    text += "".join(f"2024-03-05 10:00:0{n} ERROR shop: failed\n{python.format(n=n)}" for n in (1, 2))
    text += "".join(
        f"Mar 05 10:00:00 host app[{n}]: {line}\n" for n in (1, 2) for line in python.format(n=n).splitlines()
    )
    found = groups(text)
    assert [(one["count"], one["frames"][0]) for one in found["groups"]] == [
        (4, "a/b.py:1 in f"), (2, "com.a.B.c(B.java:1)"), (2, "f (a.js:1:1)"), (2, "a/b.py:1 in f"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        "password=swordfish",
        "passwd: sw0rdfish",
        "'secret': 'swordfish'",
        "https://ada:swordfish@db/x",
        "token=swordfish",
    ],
)
def test_a_password_that_looks_like_a_word_is_hidden_too(said: str) -> None:
    sample = groups(f"ERROR refused with {said}\n")["groups"][0]["sample"]
    assert ("swordfish" in sample, "sw0rdfish" in sample, "<hidden>" in sample) == (False, False, True)


def test_a_trace_between_two_programs_goes_to_its_own() -> None:
    text = (
        "Mar 05 10:00:00 host web[1]: ERROR: page lost\n"
        "Mar 05 10:00:00 host job[2]: Traceback (most recent call last):\n"
        'Mar 05 10:00:00 host job[2]:   File "/x/y.py", line 3, in f\n'
        "Mar 05 10:00:00 host job[2]: ValueError: bad\n"
    )
    assert [one["sample"] for one in groups(text)["groups"]] == ["web: ERROR: page lost", "ValueError: bad"]


def test_any_encoding_colour_or_ending_of_a_log_reads_the_same(tmp_path: Path) -> None:
    text = "INFO ü\nERROR: kaputt ü 1\nERROR: kaputt ü 2\n"
    forms = {
        "plain": text.encode(), "bom": b"\xef\xbb\xbf" + text.encode(), "crlf": text.replace("\n", "\r\n").encode(),
        "utf16": text.encode("utf-16"), "gz": gzip.compress(text.encode()),
        "colour": text.replace("ERROR", "\x1b[1;31mERROR\x1b[0m").encode(),
    }  # fmt: skip
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        with LOGS.open_log(str(tmp_path / name)) as stream:
            found = LOGS.report(stream, "error", 5)
        assert [(one["shape"], one["count"], one["line"]) for one in found["groups"]] == [
            ("ERROR: kaputt ü <n>", 2, 2)
        ], name


def test_a_log_that_is_no_log_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\x00\x01" * 50)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"ERROR: x\n" * 3000)[:-20])
    (tmp_path / "access").write_text('10.0.0.1 - - [05/Mar/2024:10:00:00 +0000] "GET /error" 500 12\n')
    for name, wanted in (("folder", 10), ("binary", 10), ("none", 10), ("access", 10), ("cut.gz", 1)):
        code, result, said = run("log-error-groups", tmp_path, log=name)
        assert (code, result, said.count("\n")) == (wanted, None, 1), name


HARD = (
    "a.",
    "a-1",
    "/a",
    "1:",
    "a1",
    "token:",
    "://",
    "a@a.",
    "'a ",
    '"',
    "password=",
    "eyJ",
    "<n>",
    "(a",
    "[",
    "Caused by: a.",
    "at ",
    "{",
    "\\",
)


def test_hostile_lines_cost_linear_time_and_a_bounded_group_store() -> None:
    started = time.process_time()
    lines = [f"ERROR {number} {part * (20_000 // len(part))}" for number, part in enumerate(HARD)]
    assert groups("\n".join(lines))["events"] == len(HARD)
    single = LOGS.report(io.StringIO("ERROR " + "x1 " * 3_000_000), "error", 5)
    assert (single["lines"], single["events"], len(single["groups"][0]["shape"])) == (1, 1, LOGS.SHAPE)
    letters = (
        chr(ord("a") + number // 676) + chr(ord("a") + number // 26 % 26) + chr(ord("a") + number % 26)
        for number in range(LOGS.MAX_GROUPS + 500)
    )
    many = groups("\n".join(f"ERROR {word}" for word in letters), limit=1)
    assert (many["kinds"], many["ungrouped"], many["events"]) == (LOGS.MAX_GROUPS, 500, LOGS.MAX_GROUPS + 500)
    assert time.process_time() - started < 10


# --- todos --------------------------------------------------------------------------------------

COMMENT = {
    "py": "# {}",
    "js": "// {}",
    "go": "/* {} */",
    "sql": "-- {}",
    "sh": "# {}",
    "html": "<!-- {} -->",
    "rs": "// {}",
    "lua": "-- {}",
    "toml": "# {}",
}
STRING = {
    "py": 's = "{}"',
    "js": "s = `{}`",
    "go": 's := "{}"',
    "sql": "SELECT '{}'",
    "sh": 's="{}"',
    "html": "<p>{}</p>",
    "rs": 'let s = "{}";',
    "lua": "s = '{}'",
    "toml": 's = "{}"',
}
PLAIN = {
    "py": "TODO_x = 1",
    "js": "let TODO = 1",
    "go": "TODO()",
    "sql": "SELECT TODO",
    "sh": "echo TODO",
    "html": "TODO: a",
    "rs": "TODO!(1)",
    "lua": "TODO = 1",
    "toml": "TODO = 1",
}


@USUAL
@given(
    st.sampled_from(sorted(COMMENT)),
    st.lists(st.sampled_from(["comment", "string", "code", "after"]), max_size=30),
    st.data(),
)
def test_planted_comments_are_found_and_strings_are_not(ending: str, plan: list[str], data: st.DataObject) -> None:
    lines, wanted = [], []
    for number, what in enumerate(plan, 1):
        kind = data.draw(st.sampled_from(TODOS.KINDS))
        mark = f"{kind}: thing {number}"
        comment = COMMENT[ending].format(mark)
        hidden = STRING[ending].format(comment.replace('"', "").replace("'", "") if ending != "html" else mark)
        lines.append(
            {"comment": comment, "string": hidden, "code": PLAIN[ending], "after": f"{hidden} {comment}"}[what]
        )
        if what in ("comment", "after"):
            wanted.append((number, kind, f"thing {number}"))
    found = TODOS.items_in(f"a.{ending}", "\n".join(lines) + "\n")
    assert [(one["line"], one["kind"], one["text"]) for one in found] == wanted


@pytest.mark.parametrize(
    ("comment", "owner", "issue", "text"),
    [
        ("TODO(ada): tidy", "ada", "", "tidy"),
        ("TODO(#12): tidy", "", "#12", "tidy"),
        ("TODO[ABC-7] tidy", "", "ABC-7", "tidy"),
        ("FIXME @grace: soon", "grace", "", "soon"),
        (
            "XXX - see https://example.com/a/issues/9 */",
            "",
            "https://example.com/a/issues/9",
            "see https://example.com/a/issues/9",
        ),
        ("TODO decode UTF-8 and SHA-256", "", "", "decode UTF-8 and SHA-256"),
        ("todo: small", "", "", "small"),
        ("when it rains, TODO: inside", "", "", "inside"),
    ],
)
def test_owner_and_issue_are_read_from_the_mark(comment: str, owner: str, issue: str, text: str) -> None:
    found = next(iter(TODOS.items_in("a.js", f"// {comment}\n")))
    assert (found["owner"], found["issue"], found["text"]) == (owner, issue, text)


@pytest.mark.parametrize(
    "comment", ["no TODO in passing", "TODOS: many", "XXX-12 is a model", "a hack: fine", "AUTODO: x"]
)
def test_a_word_in_passing_is_no_todo(comment: str) -> None:
    assert list(TODOS.items_in("a.js", f"// {comment}\n")) == []
