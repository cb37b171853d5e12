"""The edit reader on recorded replies of real models, where the evaluation data is at hand."""

from __future__ import annotations

import importlib.util
import json
import lzma
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mcp_tierkit.edits import apply_reply, read_reply

EVAL = Path(__file__).resolve().parents[2] / "shared" / "eval"
RECORDED = EVAL / "edits_dev.jsonl.xz"
pytestmark = pytest.mark.skipif(
    not RECORDED.is_file(), reason="recorded replies are not beside this checkout (../shared/eval)"
)


def rows() -> list[dict[str, Any]]:
    with lzma.open(RECORDED, "rt", encoding="utf8") as lines:
        return [json.loads(line) for line in lines]


def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_edits", EVAL / "score_edits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counts(found: dict[tuple[str, str], int], tier: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for (kind, what), number in found.items():
        if kind.startswith(tier + "/"):
            total[what] += number
    return total


def test_of_the_gold_replies_all_but_one_are_right_and_none_is_wrong() -> None:
    found, _ = scorer().score(rows(), apply_reply)
    gold = counts(found, "gold")
    assert gold["n"] == 65
    assert gold["wrong"] == 0
    assert gold["right_bytes"] + gold["right_norm"] >= 64


def test_every_reply_that_was_rejected_then_is_refused_now() -> None:
    found, _ = scorer().score(rows(), apply_reply)
    assert counts(found, "reject") == {"n": 3, "refused": 3}


def test_the_hints_for_refused_blocks_are_real_lines_of_the_file() -> None:
    seen = 0
    for row in rows():
        for refusal in read_reply(row["output"], row["before"]).refused:
            if refusal.path is not None:
                seen += bool(refusal.near)
                assert refusal.near in row["before"][refusal.path]
    assert seen >= 10


def test_every_known_behaviour_has_its_test() -> None:
    behaviours = json.loads((EVAL / "edit_behaviours.json").read_text("utf8"))
    tests = (Path(__file__).parent / "test_edit_behaviours.py").read_text("utf8").count("\ndef test_")
    assert tests == len(behaviours)
