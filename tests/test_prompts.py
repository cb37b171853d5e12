"""Prompt texts: what they take, what they never do, and that a released one is never edited."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit import prompts
from mcp_tierkit.answers import kind_of
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.prompts import LATEST, Prompt, build, load
from mcp_tierkit.types import Category, Message

FOLDER = Path(prompts.__file__).parent
ROOT_HOME = "/" + "root"
RELEASED = json.loads((Path(__file__).parent / "fixtures" / "prompt_digests.json").read_text("utf8"))
WITH_PARTS = sorted(name for name in RELEASED if "=== user ===" in (FOLDER / f"{name}.md").read_text("utf8"))
CATEGORIES: tuple[Category, ...] = get_args(Category)
OPENINGS = ("draft", "review", "plan")
FIELDS = {
    "draft": {
        "profile", "summary", "steps", "constraints", "acceptance", "out_of_scope", "assumptions", "editable", "files",
        "context", "neighbours", "checks",
    },
    "repair": {"feedback"},
    "climb": {"feedback"},
    "continue": set(),
    "review": {"summary", "acceptance", "out_of_scope", "focus", "checks", "diff"},
    "plan": {"task", "constraints", "editable", "files", "context"},
    "recipe": {"inputs", "documents"},
    "refit": {"fault"},
}  # fmt: skip
MOVING = {
    "a date": ["Today is 2026-11-22.", "As of 22.11.2026", "since 11/22/2026", "On November 22", "by 3. March"],
    "a time": ["It is 12:30 now.", "at 9:05"],
    "an e-mail address": ["Ask ann.lee@example.com."],
    "a path of somebody's machine": ["In /home/ann/app", "/Users/ann", "C:\\Users\\ann", f"see {ROOT_HOME}/notes"],
    "a placeholder": ["Do $summary.", "${task}"],
}


def filled(prompt: Prompt, **fields: str) -> str:
    return "\n".join(m.content for m in prompt.render(**dict.fromkeys(prompt.fields, "x") | fields))


def drafted(profile: str = "", **changes: str) -> tuple[Message, ...]:
    fields = dict.fromkeys(FIELDS["draft"] - {"profile"}, "x") | changes
    return build(load("draft", category="code"), profile=profile, **fields)


def test_a_released_prompt_file_is_never_edited_and_every_file_is_in_the_manifest() -> None:
    actual = {
        path.relative_to(FOLDER).as_posix().removesuffix(".md"): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.rglob("*.md")
    }
    assert actual == RELEASED, "add a new version beside the old file instead of editing it"


@pytest.mark.parametrize("name", sorted(LATEST))
def test_the_latest_version_takes_the_fields_that_its_stage_fills(name: str) -> None:
    assert load(name).fields == FIELDS[name]


@pytest.mark.parametrize("name", sorted(LATEST))
def test_an_id_names_the_version_and_the_first_digits_of_the_files_digest(name: str) -> None:
    version = LATEST[name]
    assert load(name).id == f"{version}@{RELEASED[version][:12]}"


def test_the_system_part_is_the_same_whatever_the_task() -> None:
    one, other = (
        load("draft").render(**dict.fromkeys(FIELDS["draft"], text)) for text in ("a", "$summary\n=== user ===")
    )
    assert one[0] == other[0]
    assert [message.role for message in one] == ["system", "user"]


@pytest.mark.parametrize("version", WITH_PARTS)
def test_no_system_part_holds_a_date_a_placeholder_or_a_name_of_a_model(version: str) -> None:
    assert_stable(load(version).system)


def assert_stable(system: str) -> None:
    assert not re.search(r"\b20\d\d\b|\$|@|/home|(?i:\b(gpt|claude|gemini|sonnet|opus|deepseek|mistral)\b)", system)


@pytest.mark.parametrize("name", OPENINGS)
def test_every_system_part_says_that_file_contents_are_data(name: str) -> None:
    assert re.search(r"\bdata\b", load(name).system)
    assert "never do what" in load(name).system


def test_the_draft_prompt_shows_each_marker_that_the_edit_reader_looks_for() -> None:
    system = load("draft").system
    for marker in ("<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "QUESTION:"):
        assert marker in system


def test_the_review_prompt_names_every_field_of_a_finding_and_every_class_to_answer() -> None:
    system = load("review").system
    for word in ("file", "line", "severity", "klass", "claim", "evidence", "findings", "checked"):
        assert f'"{word}"' in system
    for klass in ("edge_case", "assumption", "test", "drift", "security"):
        assert f'"{klass}"' in system


def test_a_repair_is_one_more_user_message_with_no_system_text() -> None:
    (message,) = load("repair").render(feedback="E   assert 1 == 2")
    assert message.role == "user"
    assert "E   assert 1 == 2" in message.content


def test_a_missing_or_superfluous_field_stops_the_rendering() -> None:
    with pytest.raises(ValueError, match="feedback"):
        load("repair").render()
    with pytest.raises(ValueError, match="surplus"):
        load("repair").render(feedback="x", surplus="y")


def test_dollar_signs_and_placeholders_in_a_value_stay_as_they_are() -> None:
    assert "cost = $summary ${x} $$" in filled(load("repair"), feedback="cost = $summary ${x} $$")


# --- one stable prefix for each kind of call ----------------------------------------------------


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("scratchpad", [False, True])
@pytest.mark.parametrize("name", OPENINGS)
def test_a_prefix_is_the_common_text_then_the_categorys_then_the_scratchpads(
    name: str, category: Category, scratchpad: bool
) -> None:  # E8
    system = load(name, category=category, scratchpad=scratchpad).system
    own = (FOLDER / f"categories/{category}.v1.md").read_text("utf8").strip()
    pad = (FOLDER / "scratchpad.v1.md").read_text("utf8").strip()
    thinks = scratchpad and kind_of(category).mode == "scratchpad"
    assert system == "\n\n".join([load(name).system, own, *([pad] if thinks else [])])
    assert_stable(system)


def test_every_composed_prefix_has_an_id_of_its_own() -> None:  # E8
    composed = [load("draft", category=category, scratchpad=pad) for category in CATEGORIES for pad in (False, True)]
    different = {prompt.system: prompt.id for prompt in composed}
    assert len(set(different.values())) == len(different) == len(CATEGORIES) + 6
    kinds = {prompt.id.partition("@")[0] for prompt in composed}
    assert {"draft.v2/tests", "draft.v2/tests+scratchpad", "draft.v2/classify"} <= kinds
    assert "draft.v2/classify+scratchpad" not in kinds


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_words_a_prompt_allows_are_the_words_that_are_counted(category: Category) -> None:  # E10
    text = (FOLDER / f"categories/{category}.v1.md").read_text("utf8")
    allowed = [int(words) for words in re.findall(r"in at most (\d+) words", text)]
    assert allowed == ([words] if (words := kind_of(category).words) else [])
    assert ("answer directly, do not deliberate" in text) == (kind_of(category).mode == "direct")


@pytest.mark.parametrize("name", ["repair", "climb", "continue"])
def test_a_follow_up_adds_nothing_to_the_prefix_that_is_there(name: str) -> None:
    assert load(name, category="code", scratchpad=True) == load(name)


TEXT = st.text(max_size=60)


@given(profile=st.text(min_size=1, max_size=60), one=TEXT, other=TEXT, name=st.sampled_from(sorted(FIELDS["draft"])))
def test_a_task_leaves_the_bytes_of_the_profile_as_they_are(
    profile: str, one: str, other: str, name: str
) -> None:  # D6
    name = "summary" if name == "profile" else name
    first, second = (drafted(profile, **{name: text}) for text in (one, other))
    start = f"# The project's own conventions (data)\n\n{profile}"
    assert first[0] == second[0]
    assert first[1].content.startswith(start)
    assert second[1].content.startswith(start)


def test_files_come_before_the_task_so_that_another_task_on_them_finds_them_cached() -> None:  # D5
    values = {name: f"<{name}>" for name in FIELDS["draft"]}
    (_, user) = load("draft").render(**values)
    found = re.findall(r"<(\w+)>", user.content)
    assert found[:5] == ["profile", "context", "neighbours", "files", "summary"]
    assert set(found) == FIELDS["draft"]


def test_the_system_and_the_task_message_end_what_is_sent_again() -> None:  # D5
    history = (Message(role="assistant", content="a"), *load("repair").render(feedback="b"))
    assert [message.ends_prefix for message in (*drafted(), *history)] == [True, True, False, False]


@pytest.mark.parametrize("name", ["review", "plan"])
def test_a_task_without_follow_ups_is_not_kept(name: str) -> None:  # D5
    messages = build(load(name), profile="", **dict.fromkeys(FIELDS[name], "x"))
    assert [message.ends_prefix for message in messages] == [True, False]


def test_fields_left_out_say_so() -> None:
    values = dict.fromkeys(FIELDS["draft"] - {"profile", "neighbours"}, "x")
    assert load("draft").render(**values)[1].content.count("(none)") == 2


def test_a_profile_goes_only_where_a_prompt_has_room_for_it() -> None:
    with pytest.raises(ValueError, match="profile"):
        build(load("review"), profile="Tabs.", **dict.fromkeys(FIELDS["review"], "x"))


def test_with_a_plan_the_prompt_holds_the_plan_and_nothing_of_the_talk() -> None:  # B16
    """The stage passes a headline and the steps; no text of a prompt has room for more of the request."""
    (_, user) = drafted(summary="Discounts are percentages", steps="- Divide by 100 in total().")
    assert "- Divide by 100 in total()." in user.content
    assert load("draft").fields & {"task", "goal", "ticket", "request", "history"} == set()


# --- the user's own texts -----------------------------------------------------------------------


def test_a_users_text_replaces_the_packaged_one_and_carries_its_own_digest(tmp_path: Path) -> None:
    text = b"=== user ===\nMend it: $feedback\n"
    (tmp_path / "repair.v1.md").write_bytes(text)
    own = load("repair", overrides=tmp_path)
    assert own == Prompt(id=f"repair.v1@{hashlib.sha256(text).hexdigest()[:12]}", system="", user="Mend it: $feedback")
    assert load("draft", overrides=tmp_path) == load("draft")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Mend it: $feedback", "parts"),
        ("=== user ===\nMend it", "placeholder"),
        ("=== user ===\n$feedback $goal", "goal"),
        ("=== user ===\n$feedback costs $5", r"\$\$"),
        ("=== system ===\nBe good.\n=== user ===\n$feedback", "system part"),
        ("=== system ===\n$feedback\n=== user ===\n$feedback", "system part"),
        ("=== user ===\n$feedback" + "x" * 40_000, "longer"),
    ],
)
def test_a_users_text_that_could_not_be_filled_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "repair.v1.md").write_text(text, "utf8")
    with pytest.raises(InvalidInput, match=complaint) as refusal:
        load("repair", overrides=tmp_path)
    assert "repair.v1.md" in refusal.value.what
    assert str(tmp_path) not in str(refusal.value)


def test_a_users_system_text_may_not_vary(tmp_path: Path) -> None:
    fields = " ".join(f"${name}" for name in sorted(FIELDS["draft"], key=lambda name: name != "profile"))
    (tmp_path / "draft.v2.md").write_text(f"=== system ===\nDo $summary.\n=== user ===\n{fields}\n", "utf8")
    with pytest.raises(InvalidInput, match="never varies"):
        load("draft", overrides=tmp_path)


def test_a_users_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "repair.v1.md").write_bytes(b"=== user ===\n$feedback \xff")
    with pytest.raises(InvalidInput):
        load("repair", overrides=tmp_path)


@pytest.mark.parametrize(("what", "text"), [(what, text) for what, texts in MOVING.items() for text in texts])
@pytest.mark.parametrize("name", ["draft.v2.md", "scratchpad.v1.md", "categories/code.v1.md"])
def test_a_users_prefix_that_varies_by_day_or_user_is_refused(
    tmp_path: Path, name: str, what: str, text: str
) -> None:  # E6
    fields = "$profile " + " ".join(f"${field}" for field in sorted(FIELDS["draft"]))
    (tmp_path / "categories").mkdir()
    (tmp_path / name).write_text(f"=== system ===\n{text}\n=== user ===\n{fields}" if "draft" in name else text)
    with pytest.raises(InvalidInput, match=what) as refusal:
        load("draft", category="code", scratchpad=True, overrides=tmp_path)
    assert name in refusal.value.what
    assert text not in str(refusal.value)


def test_a_users_own_category_and_scratchpad_are_used_and_change_the_id(tmp_path: Path) -> None:
    packaged = load("draft", category="tests", scratchpad=True)
    (tmp_path / "categories").mkdir()
    (tmp_path / "categories/tests.v1.md").write_text("Test it well.\n")
    one = load("draft", category="tests", scratchpad=True, overrides=tmp_path)
    (tmp_path / "scratchpad.v1.md").write_text("Think in <scratchpad> first.\n")
    both = load("draft", category="tests", scratchpad=True, overrides=tmp_path)
    assert both.system == f"{load('draft').system}\n\nTest it well.\n\nThink in <scratchpad> first."
    assert len({packaged.id, one.id, both.id}) == 3
    assert load("draft", category="code", overrides=tmp_path) == load("draft", category="code")


@pytest.mark.parametrize(("data", "complaint"), [(b" \n", "empty"), (b"\xff", "UTF-8"), (b"x" * 40_000, "longer")])
def test_a_users_category_text_that_cannot_be_used_is_refused(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "categories").mkdir()
    (tmp_path / "categories/code.v1.md").write_bytes(data)
    with pytest.raises(InvalidInput, match=complaint) as refusal:
        load("draft", category="code", overrides=tmp_path)
    assert "categories/code.v1.md" in refusal.value.what


def test_a_users_text_keeps_the_profile_first(tmp_path: Path) -> None:  # D6
    fields = " ".join(f"${name}" for name in sorted(FIELDS["draft"]))
    (tmp_path / "draft.v2.md").write_text(f"=== system ===\nDo it.\n=== user ===\n{fields}\n")
    with pytest.raises(InvalidInput, match="profile"):
        load("draft", overrides=tmp_path)
