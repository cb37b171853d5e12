"""The six mechanical playbooks that ship, held against independent answers to the same questions."""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.playbooks import git
from tests.shipped import by_hand, script

few = settings(max_examples=60, deadline=None)


dates, urls, files = map(script, ("date-arithmetic", "canonical-urls", "check-files-exist"))


# --- dates --------------------------------------------------------------------------------------

days = st.dates(date(1800, 1, 1), date(2300, 12, 31))
DAY = timedelta(days=1)


def stepped(start: date, months: int) -> date:
    """The first of the month reached by going from day to day, `months` times over the end of a month."""
    day = start.replace(day=1)
    while months:
        step = DAY if months > 0 else -DAY
        day += step
        if day.day == 1:
            months -= 1 if step > timedelta() else -1
    return day


@few
@given(days, st.integers(-400, 400))
def test_months_are_added_as_a_walk_through_the_calendar_would(start: date, months: int) -> None:
    first = stepped(start, months)
    last = calendar.monthrange(first.year, first.month)[1]
    is_last = start.day == calendar.monthrange(start.year, start.month)[1]
    assert dates.add_months(start, months) == first.replace(day=min(start.day, last))
    assert dates.add_months(start, months, "stick") == first.replace(day=last if is_last else min(start.day, last))
    assert dates.add_months(start, months, "roll") == first + (start.day - 1) * DAY


@few
@given(days, st.integers(-60, 60), st.sets(st.integers(-90, 90), max_size=30))
def test_business_days_agree_with_numpy(start: date, count: int, off: set[int]) -> None:
    import numpy as np

    holidays = {start + at * DAY for at in off}
    free = [np.datetime64(day) for day in holidays]
    roll: Any = "backward" if count > 0 else "forward"
    expected: Any = np.busday_offset(np.datetime64(start), count, roll=roll, holidays=free).astype(object)
    reached = dates.add_business_days(start, count, frozenset(holidays))
    assert reached == (expected if count else start)
    # numpy counts from the one up to but without the other; this playbook after the one up to and with the other.
    low, high = (start + DAY, reached + DAY) if count >= 0 else (reached, start)
    counted = int(np.busday_count(np.datetime64(low), np.datetime64(high), holidays=free))
    assert dates.business_days(start, reached, frozenset(holidays)) == (counted if count >= 0 else -counted)
    assert abs(counted) == abs(count)


@few
@given(days, days)
def test_a_distance_leads_from_the_one_date_to_the_other(start: date, stop: date) -> None:
    years, months, rest = dates.apart(start, stop)
    early, late = min(start, stop), max(start, stop)
    assert dates.add_months(early, abs(years) * 12 + abs(months)) + abs(rest) * DAY == late
    assert abs(months) < 12
    assert abs(rest) < 31
    assert dates.apart(stop, start) == (-years, -months, -rest)


def test_every_day_of_some_years_has_the_facts_of_its_own_calendar() -> None:
    for at in range(366 * 2 + 10):
        day = date(2023, 12, 25) + at * DAY
        facts = dates.facts(day)
        assert (facts["weekday"], facts["iso_week"]) == (day.strftime("%A"), day.strftime("%G-W%V"))
        assert (facts["day_of_year"], facts["leap_year"]) == (int(day.strftime("%j")), day.year == 2024)
        assert date.fromisoformat(facts["month_end"]).month == day.month
        assert (date.fromisoformat(facts["month_end"]) + DAY).day == 1
        for name in dates.WEEKDAYS:
            following = dates.next_weekday(day, name)
            assert day < following <= day + 7 * DAY
            assert following.strftime("%A").lower() == name


@pytest.mark.parametrize(
    "inputs",
    [
        {"date": "9999-12-31", "days": 1}, {"date": "0001-01-01", "months": -1}, {"date": "9999-12-01", "months": 1},
        {"date": "0001-01-01", "business_days": 100000, "direction": "before"},
        {"date": "9999-12-31", "next": "monday"},
        {"date": "2024-01-01", "until": "2024-02-30"}, {"date": "2024-01-01", "years": 10000},
    ],
    ids=range(7),
)  # fmt: skip
def test_what_is_in_no_calendar_is_declined(inputs: dict[str, Any]) -> None:
    with pytest.raises(dates.NotForMe):
        dates.report(inputs)


# --- URLs ---------------------------------------------------------------------------------------

HOSTS = ["example.com", "EXAMPLE.com.", "b\u00fccher.example", "127.0.0.1", "[2001:DB8::0:1]", "xn--bcher-kva.example"]
escapes = ("%7e", "%2F", "%c3%a9", "%", "%zz", "%25", "%41", "%ff")
characters = st.sampled_from([*"aZ09-._~!$&'()*+,;=:@[]^|\u00e9\u20ac", *escapes])
piece = st.lists(characters, max_size=8).map("".join)
any_path = st.lists(st.one_of(piece, st.sampled_from([".", "..", "%2e", "%2E.", ""])), max_size=6).map(
    lambda parts: "".join("/" + part for part in parts)
)
any_url = st.builds(
    lambda scheme, host, port, path, query, fragment: f"{scheme}://{host}{port}{path}{query}{fragment}",
    st.sampled_from(["http", "HTTPS", "ftp", "wss"]), st.sampled_from(HOSTS),
    st.sampled_from(["", ":", ":80", ":443", ":0443", ":8080"]), any_path,
    st.one_of(st.just(""), piece.map(lambda text: "?" + text)),
    st.one_of(st.just(""), piece.map(lambda text: "#" + text)),
)  # fmt: skip


def resolved(path: str) -> str:
    """The path without dot segments, by the five steps of RFC 3986, 5.2.4."""
    source, out = path, ""
    while source:
        if source.startswith("/./") or source == "/.":
            source = "/" + source[3:]
        elif source.startswith("/../") or source == "/..":
            source, out = "/" + source[4:], out[: out.rfind("/")] if "/" in out else ""
        else:
            cut = source.find("/", 1)
            cut = len(source) if cut < 0 else cut
            source, out = source[cut:], out + source[:cut]
    return out or "/"


@settings(max_examples=200, deadline=None)
@given(any_url)
@example("http://example.com/%%341?%%7E#%%%341")
def test_a_canonical_url_is_its_own_and_leads_to_the_same_place(url: str) -> None:
    form = urls.canonical(url)
    assert urls.canonical(form) == form
    assert form.isascii()
    was, now = urlsplit(url), urlsplit(form)
    ports = {"http": 80, "https": 443, "ftp": 21, "wss": 443}
    assert (now.scheme, now.port or ports[now.scheme]) == (was.scheme, was.port or ports[was.scheme])
    assert now.hostname in ((was.hostname or "").encode("idna").decode(), "2001:db8::1")
    # Dots first, then all escapes: what stays is the same text, and no escape that separates turns into a separator.
    dots = re.sub("%2e", ".", was.path, flags=re.IGNORECASE)
    assert unquote(now.path, errors="surrogateescape") == unquote(resolved(dots), errors="surrogateescape")
    assert now.path.count("/") == resolved(dots).count("/")
    assert parse_qsl(now.query, True, errors="surrogateescape") == parse_qsl(was.query, True, errors="surrogateescape")
    assert unquote(now.fragment) == unquote(was.fragment)


parameters = st.sampled_from(["a=1", "a=2", "b", "utm_source=x", "UTM_Medium=y", "fbclid=1", "xutm_=1", "c=%41"])


@few
@given(st.lists(parameters, max_size=6))
def test_only_tracking_goes_and_sorting_keeps_the_order_of_one_name(parts: list[str]) -> None:
    kept = [part.replace("%41", "A") for part in parts if not part.lower().startswith(("utm_", "fbclid"))]
    url = "http://a.example/?" + "&".join(parts)
    form = urls.canonical(url, tracking=urls.tracking_names())
    assert form == "http://a.example/" + ("?" + "&".join(kept) if kept or not parts else "")
    in_order = urlsplit(urls.canonical(url, tracking=urls.tracking_names(), sort_query=True)).query
    assert in_order == "&".join(sorted(kept, key=lambda part: part.split("=")[0]))


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "mailto:a@b.example", "javascript://x/%0aalert(1)", "http://", "http:///a",
        "http://a b.example/",
        "http://a.example:99999/", "http://a.example:x/", "http://a\\b.example/", "http://[::1/", "http://[1.2.3.4]/",
        "http://[fe80::1%25eth0]/", "http://stra\u00dfe.example/", "http://\u2100.example/", "http://a%2fb.example/",
        "http://a.example/\n", "http://a..example/", "http://%ff.example/", "http://a.example/" + "a" * 5000,
        "http://a.example:" + "9" * 5000, "http://" + "\u00e9" * 300 + ".example/",
    ],
    ids=range(22),
)  # fmt: skip
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    with pytest.raises(urls.BadUrl):
        urls.canonical(url)


# --- files --------------------------------------------------------------------------------------

steps = st.sampled_from(["*", "?", "a*", "[aB]", "[!a]", "*.md", "x.md", "a", "d e", ".c", "**"])
globs = st.lists(steps, min_size=1, max_size=4).filter(lambda parts: parts.count("**") < 3 and parts[-1] != "**")


def test_a_glob_names_what_pathlib_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a/a", "a/B/d e", "B/.c", "d e/a", "ab"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("x.md", "y.MD", ".z.md", "[aB]"):
            (tmp_path / folder / name).touch()
    (tmp_path / "a" / "loop").symlink_to("..")
    monkeypatch.chdir(tmp_path)

    @settings(max_examples=150, deadline=None)
    @given(globs)
    def holds(parts: list[str]) -> None:
        found = {str(path) for path in Path().glob("/".join(parts))}
        assert set(files.matches("/".join(parts))[0]) == found
        assert all(files.look(path)[0] in ("file", "folder") for path in found)

    holds()


@pytest.mark.parametrize(
    ("markdown", "targets"),
    [
        ("[a](b.md) [c](<d e.md> 'title') ![f](g.png \"t\")", ["b.md", "d e.md", "g.png"]),
        ("[![a](b.png)](c.md)", ["b.png", "c.md"]),
        ("[a](b_(c).md) [a]( d.md ) [a](e\\(f.md)", ["b_(c).md", "d.md", "e\\(f.md"]),
        ("`[a](b)` ``[a](`b)`` [c](d)", ["d"]),
        ("~~~\n[a](b)\n```\n[a](b)\n~~~\n[c](d)", ["d"]),
        ("> - ```py\n>   [a](b)\n>   ```\n[c](d)", ["d"]),
        ("[a](https://x.example/) [a](#b) [a](mailto:b) [a](//c) [a]()", []),
        ("[a]: <b c.md>\n   [d]: e.md 'f'\ntext [g]: h", ["b c.md", "e.md"]),
        ("<img alt='[' src='a&amp;b.png'> <A href=\"c.md#d\">", ["a&b.png", "c.md#d"]),
        ("```\n[a](b)", []),
    ],
    ids=range(10),
)
def test_links_of_markdown_are_those_that_a_reader_could_follow(markdown: str, targets: list[str]) -> None:
    assert [target for _, target in files.links(markdown)] == targets


# --- a project's status -------------------------------------------------------------------------


def test_odd_names_and_hostile_words_of_a_repository_are_told_truly(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a b.txt").write_text("TODO one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "feat: \u202e `one` $(touch marker)")
    (tmp_path / "a b.txt").write_text("TODO two\n")
    (tmp_path / "new\nline").touch()
    code, found, _ = by_hand("status-report", {}, tmp_path)
    assert code == 0
    assert not (tmp_path / "marker").exists()
    assert (found["commits"], found["files"], found["dirty"], found["marks"]) == (1, 1, 2, 1)
    assert "- feat: ? `one` $(touch marker) (" in found["markdown"]
    assert "- `new?line` ??\n" in found["markdown"]
    assert "- `a b.txt` .M\n" in found["markdown"]


def test_ahead_and_behind_are_told_from_the_refs_that_are_here(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    for message, branch in (("one", "main"), ("two", "main"), ("theirs", "their")):
        git(tmp_path, "checkout", "-q", "-B", branch, *(["main~1"] if branch == "their" else []))
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", message)
    git(tmp_path, "checkout", "-q", "main")
    git(tmp_path, "branch", "-q", "--set-upstream-to=their")
    code, found, _ = by_hand("status-report", {"since": "their", "days": 0}, tmp_path)
    assert code == 0
    assert (found["upstream"], found["ahead"], found["behind"], found["commits"]) == ("their", 1, 1, 1)
    assert by_hand("status-report", {"days": 1}, tmp_path)[1]["commits"] == 2
    for since in ("--all", "none", "main:evil", "HEAD@{1}"):
        assert by_hand("status-report", {"since": since}, tmp_path)[0] == 10
