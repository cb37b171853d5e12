"""What the calls of one kind begin with: the same bytes whatever the task, so that providers read them from a cache."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.prices import PriceTable, cost, worst_cost
from mcp_tierkit.prompts import load
from mcp_tierkit.providers import wants_cache_marks
from mcp_tierkit.types import Category, Request, Usage
from tests.engine import tiny_engine, write_tiny_model
from tests.support import RIGHT, client_at, make_config, make_project, said
from tests.test_gateway import LITELLM_WARNS

pytestmark = [pytest.mark.anyio, LITELLM_WARNS]

PROJECTS, TASKS = 5, 10
KINDS: dict[Category, tuple[str, str]] = {
    "code": ("Take {name}'s discount off every order placed after {date}", "shop/{name}_{at}.py"),
    "refactor": ("Rename {name}'s helpers, as agreed on {date}", "shop/{name}_{at}.py"),
    "tests": ("Add tests for the orders {name} sent on {date}", "tests/test_{name}_{at}.py"),
    "docs": ("Say what {name} changed on {date}", "docs/{name}_{at}.md"),
}
PEOPLE = ("ann", "boris", "chen", "dalia", "emeka", "farah", "goran", "hana", "ines", "jo")


def tasks(category: Category, project: int) -> Iterator[dict[str, Any]]:
    goal, path = KINDS[category]
    for at in range(TASKS):
        told = {"name": PEOPLE[at], "at": at, "date": f"20{20 + project}-0{1 + at % 9}-1{at}"}
        yield {"task": goal.format(**told), "files": [path.format(**told)], "context": ["shop/cart.py"][: at % 2]}


async def asked_of_model(tmp_path: Path, category: Category) -> list[Request]:
    """The requests for 50 tasks of one kind, in five projects of different people, each with its own conventions."""
    gateway = ScriptedGateway()
    for number in range(PROJECTS):
        project = make_project(tmp_path / PEOPLE[number] / f"app-2026-11-{number + 10}", git=False)
        (project / ".tierkit").mkdir()
        (project / ".tierkit/conventions.md").write_text(f"Ask {PEOPLE[number]}@example.com. Written on 3 May 2026.\n")
        config = make_config(project, tmp_path / f"home{number}")
        async with client_at(config, gateway) as client:
            for task in tasks(category, number):
                gateway.replies(said("QUESTION: which order?"))
                result = await client.call_tool("draft_with_cheap_model", task)
                assert not result.is_error, result.content
    return gateway.requests


@pytest.mark.parametrize("category", sorted(KINDS))
async def test_fifty_different_tasks_of_one_kind_begin_with_the_same_bytes(
    tmp_path: Path, category: Category
) -> None:  # D5, E6, E8
    requests = await asked_of_model(tmp_path, category)
    assert len(requests) == PROJECTS * TASKS
    assert len({request.messages[1].content for request in requests}) == PROJECTS * TASKS
    (system,) = {request.messages[0].content for request in requests}
    expected = load("draft", category=category)
    assert system == expected.system
    assert {(request.prompt_id, request.category) for request in requests} == {(expected.id, category)}
    private = rf"\b20\d\d\b|/|@|\b(?:{'|'.join(PEOPLE)})\b"
    assert re.findall(private, system.replace("src/greeting.py", "")) == []


def test_each_kind_has_a_prefix_of_its_own() -> None:  # E8
    assert len({load("draft", category=category).system for category in KINDS}) == len(KINDS)


async def test_a_repair_begins_with_the_bytes_of_the_draft_before_it(tmp_path: Path) -> None:  # D6
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
    gateway = ScriptedGateway([said("no edits here"), said(RIGHT)])
    async with client_at(config, gateway) as client:
        await client.call_tool("draft_with_cheap_model", {"task": "Mend total()", "files": ["shop/cart.py"]})
    first, second = gateway.requests
    assert second.messages[: len(first.messages)] == first.messages
    assert [message.ends_prefix for message in first.messages] == [True, True]


def test_no_marked_call_can_cost_more_than_what_was_reserved_for_it() -> None:  # E6
    table = PriceTable()
    listed = [f"anthropic/{name}" if name.startswith("claude-") else name for name in table.models()]
    marked = [name for name in listed if wants_cache_marks(name)]
    assert len(marked) > 10
    for model in marked:
        price = table.price(model)
        assert price is not None
        assert price.cache_write is not None, model
        written = Usage(input=0, cached_input=0, cache_write=10_000, output=100)
        assert worst_cost(price, 10_000, 100) >= (cost(price, written) or 0) > 0


# --- with a real engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("xllamacpp", reason="the xllamacpp wheel is not installed, so there is no engine to ask")
    pytest.importorskip("gguf", reason="the gguf package is not installed, so no model can be written")
    with tiny_engine(
        write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", terse=True), ends=True
    ) as base_url:
        yield base_url


CALLS = "select stage, status, input_tokens, cached_tokens, output_tokens, cost_nanousd from call_log order by at"


async def test_a_second_task_of_one_kind_is_read_from_the_engines_cache_and_priced_apart(
    tmp_path: Path, engine: str
) -> None:  # D5
    config = make_config(make_project(tmp_path / "app"), tmp_path / "home", url=engine)
    async with client_at(config) as client:
        for task in ("Take the discount as a percentage", "Count each price once"):
            await client.call_tool("draft_with_cheap_model", {"task": task, "files": ["shop/cart.py"]})
    with closing(sqlite3.connect(config.ledger_url.removeprefix("sqlite://"))) as conn:
        conn.row_factory = sqlite3.Row
        calls = [dict(row) for row in conn.execute(CALLS)]
    drafts = [call for call in calls if call["stage"] == "draft"]
    assert {call["status"] for call in calls} == {"settled"}
    assert len(drafts) == 2
    # The tiny model has a token a byte, so the system text is as many tokens as it is long.
    assert drafts[1]["cached_tokens"] >= len(load("draft").system) > 1000
    for call in calls:
        fresh, cached, output = (call[f"{kind}_tokens"] for kind in ("input", "cached", "output"))
        assert call["cost_nanousd"] == fresh * 100 + cached * 10 + output * 500  # as TIERS has it
