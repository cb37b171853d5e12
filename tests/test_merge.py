"""Two changes of one file put together, or told that they cannot be told apart."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.merge import Overlap, merge

Edit = tuple[int, int, list[bytes]]  # From, to, and the lines that come in their place.
REPEATED = [b"\n", b"}\n", b"    pass\n", b"x\r\n"]


def lines(text: str) -> bytes:
    """One line for each letter."""
    return b"".join(f"{letter}\n".encode() for letter in text)


def edited(base: list[bytes], edits: list[Edit]) -> bytes:
    found, at = [], 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        found += base[at:start] + new
        at = end
    return b"".join(found + base[at:])


@st.composite
def apart(draw: st.DrawFn, length: int, most: int) -> tuple[list[Edit], list[Edit]]:
    """Edits of two people, at most so many each, no two of which touch: a line of the base lies between any two."""
    places = sorted(draw(st.sets(st.integers(0, length), min_size=2, max_size=4 * most)))
    edits: tuple[list[Edit], list[Edit]] = ([], [])
    for number, (start, end) in enumerate(zip(places[::2], places[1::2], strict=False)):
        whose = edits[draw(st.integers(0, 1))]
        new = [f"new {number}.{at}\n".encode() for at in range(draw(st.integers(0, 2)))]
        new += draw(st.lists(st.sampled_from(REPEATED), max_size=2)) if most == 1 else []
        if len(whose) < most:
            whose.append((start, end - draw(st.integers(0, end - start)), new))
    return edits


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 30))
def test_edits_with_a_line_between_them_both_come_through_exactly(data: st.DataObject, length: int) -> None:
    base = [f"line {number}\n".encode() for number in range(length)]
    one, other = data.draw(apart(length, 4))
    assert merge(b"".join(base), edited(base, one), edited(base, other)) == edited(base, one + other)


@settings(max_examples=500, deadline=None)
@given(
    st.data(),
    st.lists(st.sampled_from(REPEATED) | st.integers(0, 3).map(lambda n: b"%d\n" % n), min_size=1, max_size=14),
)
def test_among_repeated_lines_the_answer_is_exact_or_none_at_all(data: st.DataObject, base: list[bytes]) -> None:
    one, other = data.draw(apart(len(base), 1))
    try:
        found = merge(b"".join(base), edited(base, one), edited(base, other))
    except Overlap:
        return
    assert found == edited(base, one + other)


few = st.lists(st.sampled_from([*REPEATED, b"a\n", b"b\n", b"c\n", b"d\n", b"e"]), max_size=9).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(few, few, few)
def test_no_line_is_lost_or_doubled_whatever_the_three_states_are(base: bytes, ours: bytes, theirs: bytes) -> None:
    try:
        found = merge(base, ours, theirs)
    except Overlap:
        with pytest.raises(Overlap):
            merge(base, theirs, ours)
        return
    left, *both = (Counter(text.splitlines(keepends=True)) for text in (base, ours, theirs))
    whole = Counter(found.splitlines(keepends=True))
    whole.update(left)
    assert whole == both[0] + both[1]
    assert merge(base, theirs, ours) == found


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        (lines("abcde"), lines("aBcde"), lines("abcDe"), lines("aBcDe")),
        (lines("abc"), lines("abc"), lines("x"), lines("x")),
        (lines("abc"), lines("x"), lines("abc"), lines("x")),
        (lines("abc"), lines("bc"), lines("abcd"), lines("bcd")),
        (lines("abcdef"), lines("abcdeF"), lines("bacdef"), lines("bacdeF")),
        (lines("abcdef"), lines("bacdef"), lines("abcdeF"), lines("bacdeF")),
        (b"a\r\nb\r\nc\r\n", b"A\r\nb\r\nc\r\n", b"a\r\nb\r\nc", b"A\r\nb\r\nc"),
        (b"a\nb\nc", b"A\nb\nc", b"a\nb\nc\nd\n", b"A\nb\nc\nd\n"),
        (b"a\nb\nc", b"a\nb\nC", b"a\nb\nc\nd\n", None),
        (b"\xff1\n2\n3\xfe\n", b"\xff0\n2\n3\xfe\n", b"\xff1\n2\n\xfd\n", b"\xff0\n2\n\xfd\n"),
        (b"a\n\nb\n\nc\n", b"a\n\nB\n\nc\n", b"a\n\nb\n\nC\n", None),
    ],
)
def test_bytes_and_line_ends_stay_as_they_were(base: bytes, ours: bytes, theirs: bytes, merged: bytes | None) -> None:
    if merged is None:
        with pytest.raises(Overlap):
            merge(base, ours, theirs)
    else:
        assert merge(base, ours, theirs) == merged


@pytest.mark.parametrize(
    ("ours", "theirs", "at"),
    [
        ("aBcde", "aXcde", "2"),
        ("aBcde", "abXde", "2-3"),
        ("aBcde", "aBcde", "2"),
        ("acde", "abXcde", "2-3"),
        ("aBcde", "acde", "2"),
        ("Abcde", "Xbcde", "1"),
        ("AbcdE", "XbcdY", "1, 5"),
        ("aBcdE", "aXcdee", "2, 5-6"),
    ],
)
def test_the_same_lines_and_those_next_to_them_are_named(ours: str, theirs: str, at: str) -> None:
    with pytest.raises(Overlap) as overlap:
        merge(lines("abcde"), lines(ours), lines(theirs))
    assert overlap.value.lines == at


def test_a_long_file_and_one_made_to_be_hard_take_no_long_time() -> None:
    plain = [b"%d\n" % number for number in range(60_000)]
    started = time.process_time()
    merged = merge(b"".join(plain), b"".join([b"x\n", *plain]), b"".join([*plain, b"y\n"]))
    assert merged == b"".join([b"x\n", *plain, b"y\n"])
    # Each line becomes the only one of its kind once the one before it is told apart.
    nested = [b"0\n", b"u\n", *(b"%d\n" % (at // 2 + 1 - at % 2) for at in range(20_000)), b"10000\n"]
    one, other = [*nested[:-3], b"x\n", *nested[-3:]], [*nested[:-1], b"y\n", *nested[-1:]]
    with pytest.raises(Overlap):
        merge(b"".join(nested), b"".join(one), b"".join(other))
    assert time.process_time() - started < 10
