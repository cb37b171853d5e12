"""Outlines read in a process of their own: a text can be written so that a parser takes all memory there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from mcp_tierkit.outline import Definition, Shape
from mcp_tierkit.sandbox import Limits, clean_env, run

MEMORY_MB = 1500
TIMEOUT_S = 20
OUTPUT_KB = 64_000
_CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from mcp_tierkit.outline import read
for path, text in json.load(sys.stdin).items():
    print(json.dumps([path, read(path, text)]), flush=True)
"""


async def read_shapes(texts: Mapping[str, str]) -> dict[str, Shape]:
    """The shapes of those texts that have one: a text that takes too much memory or time has none, nor has the rest."""
    if not texts:
        return {}
    ran = await run(
        [sys.executable, "-c", _CHILD, str(Path(__file__).parent.parent)],
        cwd=Path("/"),
        env=clean_env(),
        stdin=json.dumps(texts).encode(),
        limits=Limits(timeout_s=TIMEOUT_S, output_kb=OUTPUT_KB, memory_mb=MEMORY_MB),
    )
    whole = ran.stdout.decode("utf8", "replace").split("\n")[:-1]
    found = dict(json.loads(line) for line in whole)
    return {path: _shape(*shape) for path, shape in found.items() if shape is not None}


def _shape(definitions: list[list[object]], outline: list[int], heads: list[int]) -> Shape:
    return Shape(tuple(Definition(*row) for row in definitions), tuple(outline), tuple(heads))  # type: ignore[arg-type]
