"""Outlines are read where a hostile text can do no harm."""

from __future__ import annotations

import resource

import pytest

from mcp_tierkit.outline import read
from mcp_tierkit.shapes import read_shapes

pytestmark = pytest.mark.anyio

PLAIN = 'class A:\n    """Doc."""\n\n    def run(self, n: int) -> int:\n        return n\n\n\nLIMIT = 3\n'
HOSTILE = ("let *if =>" * 590 + ";") * 20
"""What made a parser take over four gigabytes to recover from."""


async def test_a_shape_read_elsewhere_is_the_shape_read_here() -> None:
    texts = {"a.py": PLAIN, "b.ts": "export function f(a: number): number {\n  return a\n}\n", "c.txt": "no code\n"}
    found = await read_shapes(texts)
    assert found == {path: read(path, text) for path, text in texts.items() if path != "c.txt"}
    assert await read_shapes({}) == {}


async def test_a_text_made_to_take_all_memory_costs_its_own_outline_and_no_earlier_one() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = await read_shapes({"a.py": PLAIN, "Evil.java": HOSTILE, "b.py": PLAIN})
    assert found["a.py"] == read("a.py", PLAIN)
    assert "Evil.java" not in found
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000
