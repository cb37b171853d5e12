"""How long an answer may be, where it begins, and when it is none."""

from __future__ import annotations

import json
import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit.answers import (
    Room,
    is_empty,
    is_overrun,
    kind_of,
    room,
    split_scratchpad,
    takes_scratchpad,
    visible_words,
)
from mcp_tierkit.demo_upstream import Reply, Tokens, Upstream
from mcp_tierkit.gateway import LiteLLMGateway
from mcp_tierkit.tokens import count
from mcp_tierkit.types import Category, Message, Request, Usage
from tests.test_gateway import LITELLM_WARNS

CATEGORIES: tuple[Category, ...] = get_args(Category)
CODE: tuple[Category, ...] = ("code", "refactor", "tests", "docs")
WORDS: dict[Category, int] = {"classify": 8, "extract": 60, "summarize": 125, "analyse": 250}
BLOCK = "a.py\n```\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE\n```"


# --- room


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_providers_limit_covers_the_answer_and_the_thinking(category: Category) -> None:  # E10, F2
    found = room(category, max_output_tokens=100_000, thinking_tokens=4000)
    assert found.max_output_tokens == found.answer_tokens + 4000
    assert found.words == WORDS.get(category)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("most", [1, 50, 4000, 8000])
def test_no_call_is_sent_more_than_its_tier_may_be(category: Category, most: int) -> None:  # E10
    found = room(category, max_output_tokens=most, thinking_tokens=4000, expected_tokens=50_000)
    assert 0 < found.answer_tokens <= found.max_output_tokens <= most


@pytest.mark.parametrize("category", CODE)
def test_an_answer_that_may_rewrite_files_has_half_as_much_again(category: Category) -> None:
    small = room(category, max_output_tokens=100_000, thinking_tokens=0, expected_tokens=100)
    large = room(category, max_output_tokens=100_000, thinking_tokens=0, expected_tokens=10_001)
    assert small == Room(max_output_tokens=4000, answer_tokens=4000, words=None)
    assert large == Room(max_output_tokens=15_002, answer_tokens=15_002, words=None)


@pytest.mark.parametrize("category", ["review", "plan", "classify", "analyse"])
def test_an_answer_in_words_or_json_does_not_grow_with_the_files(category: Category) -> None:
    rooms = [room(category, max_output_tokens=10**6, thinking_tokens=0, expected_tokens=size) for size in (0, 10**5)]
    assert rooms[0] == rooms[1]


@pytest.mark.parametrize("word", ["discount", "Zahlungsverzug", "cart.py:12"])
@pytest.mark.parametrize(("category", "words"), WORDS.items())
def test_the_limit_never_cuts_an_answer_that_keeps_its_words(category: Category, words: int, word: str) -> None:
    found = room(category, max_output_tokens=8000, thinking_tokens=0)
    assert found.answer_tokens >= count(" ".join([word] * words)).tokens


@pytest.mark.parametrize("category", CATEGORIES)
def test_each_kind_either_answers_at_once_or_may_think_first(category: Category) -> None:  # F2
    assert takes_scratchpad(category) == (category not in WORDS)
    assert (kind_of(category).words is None) != (kind_of(category).tokens is None)


# --- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("- a **bold** claim", 3),
        ("it's in `shop/cart.py`, line 3", 5),
        ("```\n---\n```", 0),
        ("snake_case x", 2),
        ("日本語 です", 5),
    ],
)
def test_words_are_counted_as_a_reader_counts_them(text: str, words: int) -> None:
    assert visible_words(text) == words


@pytest.mark.parametrize(("category", "words"), WORDS.items())
def test_one_word_more_than_allowed_is_an_overrun(category: Category, words: int) -> None:  # E10
    assert not is_overrun(category, visible_words("word " * words))
    assert is_overrun(category, visible_words("word " * (words + 1)))


@pytest.mark.parametrize("category", CODE)
def test_blocks_are_never_an_overrun_of_words(category: Category) -> None:
    assert not is_overrun(category, 10**6)


@pytest.mark.parametrize("answer", ["", " \n\t", "```\n```", "...", "\u200b", "**_**"])
def test_an_answer_without_a_letter_or_a_digit_is_empty(answer: str) -> None:
    assert is_empty(answer)


@pytest.mark.parametrize("answer", ["7", "é", "的", BLOCK, '{"findings": []}'])
def test_an_answer_that_says_anything_is_not_empty(answer: str) -> None:
    assert not is_empty(answer)


# --- scratchpad


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        (BLOCK, "", BLOCK),
        (f"<scratchpad>\nwhy\n</scratchpad>\n\n{BLOCK}", "why", BLOCK),
        (f"\n  <SCRATCHPAD>why</Scratchpad>{BLOCK}", "why", BLOCK),
        (f"<think>\nwhy\n</think>\n\n{BLOCK}", "why", BLOCK),
        (f"<think>one</think>\n<scratchpad>two</scratchpad>\n{BLOCK}", "one\n\ntwo", BLOCK),
        (f"<scratchpad></scratchpad>\n{BLOCK}", "", BLOCK),
        ("<scratchpad>why, and on and on", "why, and on and on", ""),
        ("<think>one</think><scratchpad>two", "one\n\ntwo", ""),
        ("<scratchpad>all of it</scratchpad>\n", "all of it", ""),
        (f"thought without a beginning\n</think>\n\n{BLOCK}", "thought without a beginning", BLOCK),
        (f"<scratchpad>the <scratchpad> tag</scratchpad>{BLOCK}", "the <scratchpad> tag", BLOCK),
        (f"<scratchpad>a <scratchpad>b</scratchpad> c</scratchpad>{BLOCK}", "a <scratchpad>b</scratchpad> c", BLOCK),
        (f"<scratchpad>```\nopen\n</scratchpad>\n{BLOCK}", "```\nopen", BLOCK),
        ("<scratchpad>a</scratchpad>\n  indented", "a", "  indented"),
        ("<scratchpad>a</scratchpad>\n<b> and <scratchpad>\n</scratchpad>", "a", "<b> and <scratchpad>\n</scratchpad>"),
        ("Use </think> there.", "", "Use </think> there."),
        ("Use <think> and\n</think>\nthere.", "", "Use <think> and\n</think>\nthere."),
        (f"{BLOCK}\n<scratchpad>later</scratchpad>", "", f"{BLOCK}\n<scratchpad>later</scratchpad>"),
    ],
)
def test_a_reply_is_split_where_its_scratchpad_ends(text: str, reasoning: str, answer: str) -> None:  # C14
    assert split_scratchpad(text) == (reasoning, answer)


TAGGED = (
    "prompt.md\n```\n<<<<<<< SEARCH\n</scratchpad>\n=======\n<think>\n</think>\n</scratchpad>\n>>>>>>> REPLACE\n```"
)


def test_tags_in_a_fence_of_the_answer_belong_to_the_answer() -> None:
    assert split_scratchpad(TAGGED) == ("", TAGGED)
    assert split_scratchpad(f"<scratchpad>why</scratchpad>\n{TAGGED}") == ("why", TAGGED)


@given(st.text(max_size=80).filter(lambda text: "<" not in text), st.sampled_from([BLOCK, TAGGED, '{"a": 1}']))
def test_no_thought_reaches_the_answer_and_no_answer_is_lost(thought: str, answer: str) -> None:  # C14
    assert split_scratchpad(f"<scratchpad>{thought}</scratchpad>\n{answer}") == (thought.strip(), answer)


@given(st.lists(st.sampled_from(["<scratchpad>", "</scratchpad>", "<think>", "</think>", "```", "\n", "x", " "])))
def test_any_mixture_of_tags_and_fences_gives_two_texts_made_of_the_reply(pieces: list[str]) -> None:
    text = "".join(pieces)
    reasoning, answer = split_scratchpad(text)
    assert answer in text
    assert all(part in text for part in reasoning.split("\n\n"))


@pytest.mark.parametrize(
    "piece", ["<scratchpad></scratchpad>", "</scratchpad>", "<think> ", "```a\n", " ", "<scratchpad>", "</think>\n"]
)
def test_a_hostile_reply_is_split_in_time_that_grows_with_its_length(piece: str) -> None:
    text = "<scratchpad>" + piece * 40_000
    began = time.process_time()
    split_scratchpad(text)
    split_scratchpad(piece * 40_000)
    visible_words(text)
    assert time.process_time() - began < 5


# --- a model that thinks its limit away


@pytest.mark.anyio
@LITELLM_WARNS
@pytest.mark.parametrize("shape", ["no text", "an open scratchpad"])
async def test_a_model_that_only_thought_is_seen_to_have_said_nothing(shape: str) -> None:  # E10, F2
    space = room("classify", max_output_tokens=8000, thinking_tokens=4000)
    text = "" if shape == "no text" else "<scratchpad>\nFirst of all " + "and then " * 200
    tokens = Tokens(fresh=40, output=space.max_output_tokens, reasoning=space.max_output_tokens)
    gateway = LiteLLMGateway({"DEMO_KEY": "k"}.get)
    with Upstream([Reply(text=text, finish="length", tokens=tokens)]) as upstream:
        completion = await gateway.complete(_request(upstream.base_url, space.max_output_tokens))
        (asked,) = upstream.asked
    await gateway.aclose()
    reasoning, answer = split_scratchpad(completion.text)
    assert asked.max_tokens == 4064
    assert completion.finish == "length"
    assert completion.usage == Usage(input=40, cached_input=0, cache_write=0, output=4064, reasoning=4064)
    assert is_empty(answer)
    assert is_empty(reasoning) == (shape == "no text")


def _request(base_url: str, limit: int) -> Request:
    return Request(
        task_id="t-1", route_id="r-1", stage="draft", tier="cheap", model="openai/thinker", base_url=base_url,
        api_key_env="DEMO_KEY", max_output_tokens=limit, timeout_s=20, prompt_id="draft.v2@0", category="classify",
        messages=(Message(role="user", content=json.dumps({"which": "bug or wish"})),),
    )  # fmt: skip


@pytest.mark.parametrize(
    "edit",
    [
        "a.html\n<<<<<<< SEARCH\n<p>\n</think>\n=======\n<p>\n>>>>>>> REPLACE\n",
        "--- a/a.html\n+++ b/a.html\n@@ -1,2 +1,1 @@\n <p>\n</think>\n",
        "*** Begin Patch\n*** Update File: a.html\n@@\n <p>\n</think>\n*** End Patch\n",
    ],
)
def test_a_tag_that_an_edit_without_a_fence_is_about_ends_no_reasoning(edit: str) -> None:
    assert split_scratchpad(edit) == ("", edit)
