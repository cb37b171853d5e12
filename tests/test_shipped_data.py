"""The two shipped playbooks on data files: what they find and what they write, held against plain answers."""

from __future__ import annotations

import copy
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shipped import by_hand, script

few = settings(max_examples=60, deadline=None)
compare, convert, urls = map(script, ("compare-data", "convert-data", "canonical-urls"))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
words = st.text("abc XY-_.:\u00e9", min_size=1, max_size=5)
numbers = st.one_of(st.integers(-(2**62), 2**62), st.decimals(places=3, min_value=-999, max_value=999))
odd = st.sampled_from(["1", "1.0", "true", "", "007", "null", "=1+1", "[]"])
scalars = st.one_of(texts, words, numbers, st.booleans(), st.none(), odd)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)
tables = st.lists(st.fixed_dictionaries({"id": st.integers(), "a b": scalars, "\u00e9": texts}), min_size=1, max_size=5)
sections = st.dictionaries(words, st.dictionaries(words, scalars, max_size=3), max_size=3)


def exactly(value: Any) -> Any:
    """A form that is equal for what is equal in value, type and every digit; the order of keys does not count."""
    if isinstance(value, dict):
        return sorted((name, exactly(inner)) for name, inner in value.items())
    return [exactly(inner) for inner in value] if isinstance(value, list) else (type(value).__name__, str(value))


def as_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_floats(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_floats(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value


@few
@given(st.one_of(values, tables, sections), st.sampled_from(["json", "jsonl", "csv", "tsv", "toml", "ini"]))
def test_what_is_converted_without_a_loss_comes_back_the_same(value: Any, form: str) -> None:
    try:
        text, typed, back = convert.convert(value, form, "rows")
    except convert.NotForMe:
        return
    again = convert.parse(text, form, typed=typed)
    if isinstance(value, list) and isinstance(again, dict):
        again = again["rows"]
    if isinstance(value, dict) and isinstance(again, list):
        again = {"rows": again}
    lost = list(convert.losses(value, back))
    assert (exactly(again) == exactly(value)) == (not lost)
    assert not lost or form != "json"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ([{"a": ""}, {"a": "x"}], "csv"), ([{"a": " b "}, {"a": "\r"}, {"a": ";\t|"}, {"a": "\ufeff"}], "csv"),
        ([{"\t": '"', "b": "\r\n"}], "tsv"), ([{"a": 1, "b": [1, {"c": None}], "c": None}], "csv"), ([], "csv"),
        ({"a": "\x7f\x00\u2028", "": {"b.c": [{}, {"d": []}], "": [[{"e": True}]]}}, "toml"), ({}, "toml"),
        ({"a": {"b": "c = d", "e": 1, "f": None}, "DEFAULT": {}}, "ini"), ([1, "a", None, {"b": []}], "jsonl"),
        ({"a": Decimal("1E+300"), "b": 10**300, "c": Decimal("-0.10")}, "json"), ("\u2028", "json"),
    ],
    ids=range(11),
)  # fmt: skip
def test_these_are_converted_without_a_loss(value: Any, form: str) -> None:
    text, typed, back = convert.convert(value, form)
    assert list(convert.losses(value, back)) == []
    assert exactly(convert.parse(text, form, typed=typed)) == exactly(value)


@pytest.mark.parametrize(
    ("value", "form", "lost"),
    [
        ([{"a": 1, "b": "1"}], "csv", "/0/b: text becomes a number"),
        ([{"a": 1, "b": ""}], "csv", "/0/b: text becomes null"),
        ([{"a": "x"}, {"b": "y"}], "csv", "/0/b: was not there and is empty"),
        ({"a": None}, "toml", "/a: is left out"),
        ({"rows": [{"a": "x"}], "b": 1}, "csv", "/b: is left out"),
        ({"a": {"b": " c "}}, "ini", "/a/b: text becomes text"),
    ],
)
def test_what_would_be_lost_is_named(value: Any, form: str, lost: str) -> None:
    _, _, back = convert.convert(value, form, "rows")
    assert lost in list(convert.losses(value, back))


@few
@given(values)
def test_yaml_is_read_by_another_reader_as_what_it_was(value: Any) -> None:
    import yaml

    text, _, back = convert.convert(value, "yaml")
    assert exactly(as_floats(yaml.safe_load(text))) == exactly(as_floats(value))
    assert list(convert.losses(value, back)) == []


rows = st.lists(st.fixed_dictionaries({"id": texts, "name": texts, "n": texts}), max_size=5)


@few
@given(rows, st.sampled_from(["csv", "tsv", "jsonl"]), st.sampled_from(["json", "toml"]))
def test_a_table_of_texts_goes_there_and_back_through_two_formats(table: Any, first: str, second: str) -> None:
    text, typed, back = convert.convert(table, first)
    assert (typed, list(convert.losses(table, back))) == (False, [])
    text, _, _ = convert.convert(convert.parse(text, first), second, "rows")
    again = convert.parse(text, second)
    assert (again if second == "json" else again["rows"]) == table


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every scalar."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [path] if pairs is None else [one for name, inner in pairs for one in leaves(inner, (*path, str(name)))]


def planted(value: Any, path: tuple[str, ...]) -> Any:
    """A copy with another value at one place."""
    if not path:
        return ["something else"]
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    at: Any = path[0] if isinstance(value, dict) else int(path[0])
    changed[at] = planted(value[at], path[1:])
    return changed


def mirrored(found: dict[str, Any]) -> dict[str, Any]:
    kinds = {"added": "removed", "removed": "added", "changed": "changed"}
    sides = {"left": "right", "right": "left", "path": "path"}
    turned = [
        {sides[key]: text for key, text in one.items() if key != "kind"} | {"kind": kinds[one["kind"]]}
        for one in found["differences"]
    ]
    return found | {"added": found["removed"], "removed": found["added"], "differences": turned}


every_rule = st.builds(
    compare.Rules, unordered=st.booleans(), tolerance=st.sampled_from([Decimal(0), Decimal("0.01")]),
    across=st.booleans(), ignore=st.lists(st.sampled_from(["a", "/a/*", "/**/b"]).map(compare.read_pattern)).map(tuple),
)  # fmt: skip


@few
@given(values, values, every_rule)
def test_comparing_is_reflexive_and_symmetric(one: Any, other: Any, rules: Any) -> None:
    assert compare.compared(one, copy.deepcopy(one), rules, 9)["verdict"] == "equal"
    there, back = compare.compared(one, other, rules, 10**6), compare.compared(other, one, rules, 10**6)
    there["differences"].sort(key=str)
    turned = mirrored(back)
    assert {key: there[key] for key in ("changed", "added", "removed")} == {
        key: turned[key] for key in ("changed", "added", "removed")
    }
    assert sorted(json.dumps(found, sort_keys=True) for found in there["differences"]) == sorted(
        json.dumps(found, sort_keys=True) for found in turned["differences"]
    )


@few
@given(values, st.data())
def test_planted_differences_are_found_where_they_are_and_nowhere_else(value: Any, data: st.DataObject) -> None:
    paths = leaves(value)
    chosen = data.draw(st.sets(st.sampled_from(paths), max_size=4) if paths else st.just(set()))
    other = value
    for path in chosen:
        other = planted(other, path)
    found = [path for path, _, _ in compare.differences(value, other, compare.Rules())]
    assert sorted(found) == sorted(chosen)
    quiet = compare.Rules(ignore=tuple((path, None) for path in chosen))
    assert compare.compared(value, other, quiet, 9)["verdict"] == "equal"


@few
@given(st.dictionaries(texts, words, max_size=6), st.dictionaries(texts, words, max_size=6), st.randoms())
def test_rows_are_told_apart_by_their_key_in_any_order(one: dict[str, str], other: dict[str, str], random: Any) -> None:
    tables = [[{"id": key, "v": value} for key, value in side.items()] for side in (one, other)]
    for table in tables:
        random.shuffle(table)
    found = list(compare.differences(*tables, compare.Rules(key=("id",))))
    both = one.keys() & other.keys()
    assert sum(left is compare.MISSING for _, left, _ in found) == len(other.keys() - both)
    assert sum(right is compare.MISSING for _, _, right in found) == len(one.keys() - both)
    changed = {path[0].removeprefix("id=") for path, _, _ in found if path[-1] == "v" and len(path) == 2}
    assert changed == {key for key in both if one[key] != other[key]}


def test_numbers_are_compared_by_their_value_and_texts_as_such() -> None:
    def verdict(left: str, right: str, **rules: Any) -> str:
        read = compare.formats.read_json
        return str(compare.compared(read(left), read(right), compare.Rules(**rules), 1)["verdict"])

    near = {"tolerance": Decimal("0.1")}
    assert verdict("[1, 0.10, 1e2, -0.0]", "[1.0, 0.1, 100, 0]") == "equal"
    assert verdict("[1, 0.10, 1e2, -0.0]", "[100, 0, 1.0, 0.1]", unordered=True) == "equal"
    assert verdict("9007199254740993", "9007199254740992.0") == "different"
    assert verdict("1.3", "1.2", **near) == "equal"
    assert verdict("1.30000000000000000000000000000000001", "1.2", **near) == "different"
    unlike = (("1", '"1"'), ("1", "true"), ("0", "false"), ("null", '""'), ("[]", "{}"), ("[1]", "[1, null]"))
    for left, right in unlike:
        assert verdict(left, right) == "different"
    assert [verdict(one, '"1.0"', across=True) for one in ("1", '"1.0"', "true", "null")] == [
        "equal", "equal", "different", "different"
    ]  # fmt: skip


BROKEN = {
    "twice.json": b'{"a": 1, "a": 2}', "nan.json": b"[NaN]", "empty.json": b"", "cut.json": b'{"a":',
    "deep.json": b"[" * 100_000 + b"]" * 100_000, "deep2.json": b"[" * 80 + b"]" * 80, "two.json": b"{} {}",
    "digits.json": b"9" * 5000, "huge.json": b"1e999999999", "point.json": b"0." + b"1" * 5000,
    "lone.json": b'"\\ud800"', "lines.jsonl": b"{}\n{,}\n", "head.csv": b"a,a\n1,2\n", "long.csv": b"a,b\n1,2,3\n",
    "short.csv": b"a,b\n1\n", "quote.csv": b'a,b\n"1,2\n', "bad.toml": b"a = ", "deep.toml": b"a = " + b"[" * 50_000,
    "int.toml": b"a = " + b"9" * 5000, "twice.toml": b"a=1\na=2", "top.ini": b"a = 1\n",
    "twice.ini": b"[a]\nb=1\nb=2\n",
}  # fmt: skip
FOREIGN = {
    "latin.json": b'"\xe9"', "utf16.json": "[1]".encode("utf-16"), "semi.csv": b"a;b\n1;2\n", "none.yaml": b"a: 1\n",
    "none.bin": b"", "none": b"{}",
}  # fmt: skip


def test_broken_files_end_in_one_plain_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sound.json").write_text("[1]")
    for name, data in (BROKEN | FOREIGN).items():
        (tmp_path / name).write_bytes(data)
        kind = "BadData" if name in BROKEN else "NotForMe"
        with pytest.raises(getattr(compare, kind)) as told:
            compare.report({"left": name, "right": "sound.json"})
        with pytest.raises(getattr(convert, kind)):
            convert.report({"source": name, "to": "json" if "toml" in name else "toml", "rows_at": "rows"})
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 300
    code, result, said = by_hand("compare-data", {"left": "deep.json", "right": "sound.json"}, tmp_path)
    assert (code, result, said) == (1, None, "'deep.json': it is nested too deeply\n")


def test_sound_files_of_odd_form_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bom.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n"1\r\n2",\xe2\x80\xa8\r\n\r\n')
    (tmp_path / "same.json").write_text('[{"b": "\\u2028", "a": "1\\r\\n2"}]')
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "nothing.jsonl").write_bytes(b"\n\n")
    assert compare.report({"left": "bom.csv", "right": "same.json"})["verdict"] == "equal"
    assert compare.report({"left": "empty.csv", "right": "nothing.jsonl"})["verdict"] == "equal"
    (tmp_path / "a b\n.json").write_text("[]")
    assert compare.report({"left": "a b\n.json", "right": "empty.csv"})["verdict"] == "equal"


def test_a_header_without_rows_is_compared_and_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = {"ab.csv": "a,b\n", "ba.tsv": "b\ta\n", "xyz.csv": "x,y,z\n", "none.csv": "", "full.csv": "a,b\n1,2\n"}
    for name, text in tables.items():
        (tmp_path / name).write_text(text)

    def found(left: str, right: str, **more: Any) -> list[str]:
        said = compare.report({"left": left, "right": right, **more})
        assert (said["verdict"] == "equal") == (not said["differences"])
        return sorted(f"{one['kind']} {one['path']}" for one in said["differences"])

    assert found("ab.csv", "ba.tsv") == found("ab.csv", "ab.csv") == []
    assert found("ab.csv", "none.csv") == ["removed /-/a", "removed /-/b"]
    assert found("ab.csv", "xyz.csv", ignore=["y"]) == ["added /-/x", "added /-/z", "removed /-/a", "removed /-/b"]
    assert found("full.csv", "ab.csv") == ["removed /0"]
    assert found("full.csv", "none.csv") == ["removed /-/a", "removed /-/b", "removed /0"]
    made = convert.report({"source": "ab.csv", "to": "tsv"})
    assert (made["text"], made["lost"]) == ("a\tb\n", [])
    with pytest.raises(convert.NotForMe, match="the column a: is left out"):
        convert.report({"source": "ab.csv", "to": "json"})
    assert convert.report({"source": "none.csv", "to": "json"})["text"] == "[]\n"


def test_a_blank_line_in_a_table_of_one_column_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.csv").write_text("\nv\na\n\nb\n\n")
    (tmp_path / "two.csv").write_text("v,w\na,1\n\nb,2\n\n")
    made = convert.report({"source": "one.csv", "to": "json"})["text"]
    assert [row["v"] for row in json.loads(made)] == ["a", "", "b", ""]
    assert convert.report({"source": "one.csv", "to": "tsv"})["text"] == 'v\na\n""\nb\n""\n'
    assert convert.report({"source": "two.csv", "to": "json"})["items"] == 2


@pytest.mark.parametrize("mark", ["a", "\x01", "\u2028", '"'])
def test_a_key_is_written_to_yaml_only_where_a_reader_takes_it(mark: str) -> None:
    import yaml

    written = 0
    for length in (1, 100, 160, 170, 480, 497, 980, 1001, 2000):
        value = {"in": [{mark * length: 1}]}
        try:
            text, _, _ = convert.convert(value, "yaml")
        except convert.NotForMe:
            continue
        written += 1
        assert yaml.safe_load(text) == value
    assert 3 <= written <= 7


def test_nothing_outside_the_project_is_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside, project = tmp_path / "outside.json", tmp_path / "project"
    project.mkdir()
    outside.write_text('["secret"]')
    (project / "in.json").write_text("[1]")
    (project / "link.json").symlink_to(outside)
    (project / "up").symlink_to(tmp_path)
    os.mkfifo(project / "pipe.json")
    monkeypatch.chdir(project)
    for path in (
        "link.json",
        "up/outside.json",
        "../outside.json",
        str(outside),
        "pipe.json",
        "in\0.json",
        "gone.json",
    ):
        with pytest.raises(compare.NotForMe):
            compare.report({"left": path, "right": "in.json"})
        with pytest.raises(urls.NotForMe):
            urls.report({"file": path})
    for target in (
        "../new.toml",
        "up/new.toml",
        str(tmp_path / "new.toml"),
        ".git/new.toml",
        "none/new.toml",
        "link.toml",
    ):
        (project / "link.toml").unlink(missing_ok=True)
        (project / "link.toml").symlink_to("new.toml")
        with pytest.raises(convert.NotForMe):
            convert.report({"source": "in.json", "target": target, "rows_at": "rows", "overwrite": True})
    code, found, _ = by_hand(
        "check-files-exist", {"paths": ["link.json", "up/outside.json", "../outside.json"]}, project
    )
    assert (code, found["found"], found["missing_count"]) == (0, 0, 3)
    assert not list(tmp_path.rglob("new.toml"))


def test_a_large_table_is_converted_and_compared_whole(tmp_path: Path) -> None:
    lines = "".join(f'{{"id": {at}, "name": "name {at}", "n": {at}.5}}\n' for at in range(20_000))
    (tmp_path / "big.jsonl").write_text(lines)
    code, found, _ = by_hand("convert-data", {"source": "big.jsonl", "target": "big.csv"}, tmp_path)
    assert (code, found["items"], found["typed"], found["lost"]) == (0, 20_000, True, [])
    code, found, _ = by_hand("compare-data", {"left": "big.jsonl", "right": "big.csv", "key": "id"}, tmp_path)
    assert (code, found["verdict"]) == (0, "equal")
