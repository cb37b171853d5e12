"""The bill of `tierkit audit` against one made the slow, obvious way: every row in a list, nothing streamed."""

from __future__ import annotations

import importlib.util
import json
import math
import multiprocessing
import tempfile
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcp_tierkit.audit.bill import Bill, settle
from mcp_tierkit.audit.money import Pricer, unmarked
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts import read as reading
from tests.transcripts import World

TABLE = PriceTable()
PRICED = {"claude-opus-4-6": "claude-opus-4-6", "claude-haiku-4-5-20251001": "claude-haiku-4-5",
          "claude-sonnet-4-6[1m]": "claude-sonnet-4-6", "gpt-5.2": "gpt-5.2",
          "claude-haiku-5-5": "claude-haiku-5-5"}  # fmt: skip
Seen = dict[str, Any]
MAP = "model_prices_and_context_window_backup.json"


def objects(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in found if isinstance(row, dict)]


def number(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= 10**9 else None


def claude_file(path: Path) -> Seen:
    """One file's answers, prompts and what happened in it, in order."""
    rows = objects(path)
    steps: list[Any] = []
    prompts: list[tuple[str, str]] = []
    uses: dict[str, str] = {}
    is_agent = "subagents" in path.parts or path.name.startswith("agent-")
    for row in rows:
        message, sub = row.get("message") or {}, is_agent or bool(row.get("isSidechain"))
        if row.get("type") == "assistant" and message.get("model") != "<synthetic>":
            steps.append(("answer", claude_answer(row, message, sub, len(prompts) - 1)))
            for block in message["content"]:
                uses.setdefault(block["id"], block["name"])
        elif row.get("type") == "user" and isinstance(message["content"], list):
            block = message["content"][0]
            steps.append(("result", (sub, block["tool_use_id"], math.ceil(len(block["content"]) / 4))))
        elif row.get("type") == "user":
            prompts.append((row["timestamp"][:-1], row["uuid"]))
        elif row.get("subtype") == "compact_boundary":
            steps.append(("cut", sub))
    session = path.parts[-3] if "subagents" in path.parts else rows[0]["sessionId"] if rows and is_agent else path.stem
    return {"path": path, "sub": is_agent, "session": session, "above": "", "steps": steps, "prompts": prompts,
            "uses": uses}  # fmt: skip


def claude_answer(row: dict[str, Any], message: dict[str, Any], sub: bool, prompt: int) -> Seen:
    usage = message["usage"]
    split = usage.get("cache_creation") or {}
    hour = split.get("ephemeral_1h_input_tokens", 0)
    told = [usage["input_tokens"], usage["cache_read_input_tokens"],
            usage["cache_creation_input_tokens"] - hour, hour, usage["output_tokens"]]  # fmt: skip
    return {"key": message["id"], "at": row["timestamp"][:-1], "model": message["model"], "sub": sub,
            "copy": "forkedFrom" in row, "prompt": prompt, "tokens": [number(one) or 0 for one in told],
            "known": all(number(one) is not None for one in told)}  # fmt: skip


def codex_file(path: Path) -> Seen:
    steps: list[Any] = []
    prompts: list[tuple[str, str]] = []
    uses: dict[str, str] = {}
    meta, model, before = objects(path)[0]["payload"], "", None
    above = meta.get("parent_thread_id") or meta.get("forked_from_id") or ""
    sub = "parent_thread_id" in meta
    for row in objects(path)[1:]:
        payload, at = row["payload"], row["timestamp"][:-1]
        if row["type"] == "turn_context":
            model = payload["model"]
        elif payload["type"] == "user_message" and not sub:
            prompts.append((at, f"{meta['id']}:{len(prompts)}"))
        elif payload["type"] == "function_call":
            uses.setdefault(payload["call_id"], payload["name"])
        elif payload["type"] == "function_call_output":
            steps.append(("result", (sub, payload["call_id"], math.ceil(len(payload["output"]) / 4))))
        elif payload["type"] == "token_count" and payload["info"] != before:
            before = payload["info"]
            last = before["last_token_usage"]
            cached = last["cached_input_tokens"]
            tokens = [last["input_tokens"] - cached, cached, 0, 0, last["output_tokens"]]
            told = {"key": ("codex", json.dumps(before)), "at": at, "model": model, "tokens": tokens, "known": True}
            steps.append(("answer", {**told, "sub": sub, "copy": False, "prompt": len(prompts) - 1}))
    return {"path": path, "sub": sub, "session": meta["id"], "above": above, "steps": steps, "prompts": prompts,
            "uses": uses}  # fmt: skip


def price(model: str, tokens: list[int], known: bool = True) -> int | None:
    if model not in PRICED or not known:
        return None
    rates: Any = TABLE.packaged(PRICED[model])
    if rates.above and sum(tokens[:4]) > rates.above.tokens:
        rates = rates.above
    each = [rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h, rates.output]
    if any(count and rate is None for count, rate in zip(tokens, each, strict=True)):
        return None
    return round(
        sum((Fraction(rate or 0) * 1000 * count for count, rate in zip(tokens, each, strict=True)), Fraction())
    )


def reference(home: Path) -> dict[str, Any]:
    files = [claude_file(path) for path in home.glob(".claude/**/*.jsonl")]
    files += [codex_file(path) for path in home.glob(".codex/**/*.jsonl")]
    for one in files:
        times = [answer["at"] for kind, answer in one["steps"] if kind == "answer"] + [at for at, _ in one["prompts"]]
        one["begun"] = min(times, default="~")
    files.sort(key=lambda one: (one["begun"], str(one["path"])))
    groups: dict[Any, list[tuple[tuple[Any, ...], Seen, Seen]]] = defaultdict(list)
    for at, one in enumerate(files):
        family = one["above"] or one["session"]
        place = 0
        for kind, seen in one["steps"]:
            if kind == "answer":
                place += 1
                key = (family, seen["key"]) if isinstance(seen["key"], tuple) else seen["key"]
                groups[key].append(((seen["copy"], seen["sub"], at, place), seen, one))
    paid = []
    for members in groups.values():
        members.sort(key=lambda member: member[0][:2] + member[0][2:])
        _, first, owner = members[0]
        tokens = [max(column) for column in zip(*(seen["tokens"] for _, seen, _ in members), strict=True)]
        known = any(seen["known"] for _, seen, _ in members)
        paid.append({**first, "tokens": tokens, "at": min(seen["at"] for _, seen, _ in members), "owner": owner,
                     "cost": price(first["model"], tokens, known)})  # fmt: skip
    return {"files": files, "paid": paid}


def job_of(call: Seen, files: list[Seen]) -> str:
    """The prompt that a call served."""
    owner = call["owner"]
    if not call["sub"] and call["prompt"] >= 0:
        return str(owner["prompts"][call["prompt"]][1])
    top = owner["above"] if owner["sub"] and owner["above"] else owner["session"]
    asked = sorted(prompt for one in files if one["session"] == top and not one["sub"] for prompt in one["prompts"])
    if not call["sub"] or not asked:
        return f"{top}:"
    return str(([prompt for prompt in asked if prompt[0] <= call["at"]] or asked[:1])[-1][1])


def tools_of(found: dict[str, Any]) -> dict[str, list[int]]:
    """Results, tokens written, tokens read again by tool: each context as a plain list of what is in it."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    mine = {(str(call["owner"]["path"]), json.dumps(call["key"])) for call in found["paid"]}
    told: set[str] = set()
    for one in found["files"]:
        contexts: dict[bool, list[tuple[str, str, int, bool]]] = {True: [], False: []}
        answered: set[str] = set()
        for kind, seen in one["steps"]:
            if kind == "cut":
                contexts[seen] = []
            elif kind == "result":
                sub, use_id, tokens = seen
                contexts[sub].append((use_id, one["uses"].get(use_id, "unknown"), tokens, use_id not in told))
                told.add(use_id)
            elif json.dumps(seen["key"]) not in answered:
                answered.add(json.dumps(seen["key"]))
                contexts[seen["sub"]] = context_after(one, seen, contexts[seen["sub"]], mine, sums)
    return dict(sums)


def context_after(one: Seen, seen: Seen, context: list[Any], mine: set[Any], sums: dict[str, list[int]]) -> list[Any]:
    size = sum(whole_input(one, seen))
    if sum(tokens for _, _, tokens, is_new in context if is_new is None) > size:
        context = [entry for entry in context if entry[3] is not None]
    if (str(one["path"]), json.dumps(seen["key"])) in mine:
        for _, name, tokens, is_new in context:
            if is_new is None:
                sums[name][2] += tokens
            elif is_new:
                sums[name][0] += 1
                sums[name][1] += tokens
    return [(use_id, name, tokens, None) for use_id, name, tokens, _ in context]


def whole_input(one: Seen, seen: Seen) -> list[int]:
    same = [step["tokens"] for kind, step in one["steps"] if kind == "answer" and step["key"] == seen["key"]]
    return [max(column) for column in zip(*same, strict=True)][:4]


def bill_of(home: Path) -> Bill:
    return settle(reading.read_all({"HOME": str(home)}).sheets, Pricer(TABLE.price))


def compare(home: Path) -> None:
    found, bill = reference(home), bill_of(home)
    days: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 8)
    jobs: dict[str, list[int]] = defaultdict(lambda: [0] * 4)
    for call in found["paid"]:
        line = days[call["at"][:10], call["model"]]
        figures = [1, *call["tokens"], call["cost"] or 0, call["cost"] is None]
        days[call["at"][:10], call["model"]] = [one + two for one, two in zip(line, figures, strict=True)]
        job = jobs[job_of(call, found["files"])]
        figures = [1, call["cost"] or 0, call["cost"] is None, call["sub"]]
        jobs[job_of(call, found["files"])] = [one + two for one, two in zip(job, figures, strict=True)]
    assert {key: [s.calls, *s.tokens, s.cost, s.unpriced] for key, s in bill.days.items()} == dict(days)
    assert {
        job.key: [job.spent.calls, job.spent.cost, job.spent.unpriced, job.by_sub.calls] for job in bill.jobs
    } == dict(jobs)
    tools = {name: [tool.results, tool.tokens, tool.read_again] for name, tool in bill.tools.items()}
    assert tools == {name: line for name, line in tools_of(found).items() if any(line) or name in tools}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
@example(3)
def test_the_bill_is_what_a_slow_and_obvious_reading_says(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        World(Path(folder), seed).fill()
        compare(Path(folder))


def test_two_processes_and_one_give_the_same_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        World(tmp_path / f"{seed}", seed).fill()
    for path in sorted(tmp_path.rglob("*.jsonl")):
        target = tmp_path / "home" / ".claude" / "projects" / path.parent.name / f"{path.parts[-2]}-{path.name}"
        if ".claude" in path.parts:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    alone = bill_of(tmp_path / "home")
    monkeypatch.setattr(reading, "SMALL", 0)
    monkeypatch.setattr(reading, "_BATCH", 1)
    assert bill_of(tmp_path / "home") == alone
    assert alone.jobs


def test_a_process_that_is_killed_costs_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        World(tmp_path, seed).fill()
    alone = bill_of(tmp_path)
    monkeypatch.setattr(reading, "SMALL", 0)
    monkeypatch.setattr(reading, "_BATCH", 1)

    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    sheets = reading.read_all({"HOME": str(tmp_path)}, step=kill).sheets
    assert settle(sheets, Pricer(TABLE.price)) == alone


def test_what_the_vendors_add_is_what_litellms_map_says_wherever_it_does() -> None:
    folder = importlib.util.find_spec("litellm")
    assert folder
    assert folder.origin
    told: dict[str, Any] = json.loads((Path(folder.origin).parent / MAP).read_text())
    fast, compared = packaged("audit")["premiums"]["fast"], 0
    for model, factor in fast.items():
        row = told.get(model, {})
        known = row.get("provider_specific_entry", {}).get("fast")
        if (dear := row.get("input_cost_per_token_priority")) is not None:
            known = round(dear / row["input_cost_per_token"], 6)
        compared += known is not None
        assert known in (None, float(factor)), model
    assert compared >= len(fast) - 2  # Two older ones are on the vendor's own page alone.
    for model, row in told.items():
        if model.startswith("claude") and (added := row.get("provider_specific_entry", {}).get("us")):
            assert unmarked(f"{model}-us") == (model, Fraction(str(added)))
