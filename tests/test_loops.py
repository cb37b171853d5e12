"""What the breaker takes for the same request: what a check's output differs in from run to run counts for nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.digests import steady
from mcp_tierkit.gateway import ScriptedGateway
from tests.support import desk_at, make_config, make_project, said

pytestmark = pytest.mark.anyio

RUNNER = """import os, random, sys, tempfile, time
print("=" * 20, "FAILURES", "=" * 20)
print("_" * 20, "test_total", "_" * 20)
print(f"E   assert <Cart object at 0x7f9d{random.randrange(16**8):08x}> is None")
print(f"E   ValueError: {tempfile.mkdtemp()}/cart.db, pid {os.getpid()}, is WORD")
print(f"E   RuntimeError: {time.strftime('%Y-%m-%d %H:%M:%S')}.{random.randrange(10**6):06} gave up")
print("FAILED tests/test_cart.py::test_total - assert")
print(f"1 failed in {random.randrange(100) / 100 + 0.01:.2f}s")
sys.exit(1)
"""
CHECK = f"{sys.executable} pytest.py"


def ask(**other: Any) -> DraftCall:
    told = {"task": "total() must take a percentage.", "files": ["shop/cart.py"], "checks": [CHECK], "apply": "never"}
    return DraftCall(**(told | other))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = make_project(tmp_path / "app", git=False)
    write(made, "broken")
    return made


def write(project: Path, word: str) -> None:
    (project / "pytest.py").write_text(RUNNER.replace("WORD", word))


async def test_a_loop_around_a_check_is_seen_though_each_run_of_it_prints_another_time(
    project: Path, tmp_path: Path
) -> None:
    gateway = ScriptedGateway([said("I cannot say.")] * 20)
    replies = []
    for _ in range(4):
        async with desk_at(make_config(project, tmp_path / "home"), gateway) as desk:  # A shell begins anew each time.
            replies.append(await desk.draft(ask()))
    prompts = [request.messages[-1].content for request in gateway.requests if len(request.messages) == 2]
    assert len(set(prompts)) == len(prompts) > 1, "the check prints the same: this shows nothing"
    assert "1 failed in" in prompts[0]
    assert "at 0x7f9d" in prompts[0]
    assert [reply["status"] for reply in replies[2:]] == ["over_budget"] * 2
    assert "looks like a loop" in replies[2]["summary"]


async def test_a_check_that_fails_otherwise_and_a_file_with_another_duration_make_other_requests(
    project: Path, tmp_path: Path
) -> None:
    gateway = ScriptedGateway([said("I cannot say.")] * 40)
    cart = project / "shop/cart.py"
    async with desk_at(make_config(project, tmp_path / "home"), gateway) as desk:
        for word in ("broken", "gone", "locked"):
            write(project, word)
            assert (await desk.draft(ask()))["status"] != "over_budget"
        for wait in ("0.03s", "0.04s", "0.05s"):
            cart.write_text(f"{cart.read_text()}# 1 failed in {wait}, at 0x7f9d7936a010\n")
            assert (await desk.draft(ask()))["status"] != "over_budget"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("=== 1 failed in 0.03s ===", "=== 1 failed in 12.40s ==="),
        ("1 failed in 65.03s (0:01:05)", "1 failed in 71.90s (0:01:11)"),
        ("Ran 2 tests in 0.001s", "Ran 2 tests in 0.002s"),
        ("--- FAIL: TestTotal (0.00s)", "--- FAIL: TestTotal (0.01s)"),
        ("FAIL\tshop/cart\t0.003s", "FAIL\tshop/cart\t0.104s"),
        ("  ✕ takes a percentage (5 ms)", "  ✕ takes a percentage (11 ms)"),
        ("   × takes a percentage 5ms", "   × takes a percentage 11ms"),
        ("  duration_ms: 5.1", "  duration_ms: 11.87"),
        ("BUILD FAILED in 2s", "BUILD FAILED in 1m 5s"),
        ("<Cart object at 0x7f9d7936a010>", "<Cart object at 0x7fa0112233f0>"),
        ("panic: 0xc000012345", "panic: 0xc0000abcd0"),
        ("shop.Cart@1b6d3586", "shop.Cart@4554617c"),
        ("2026-10-05T12:00:00.123Z gave up", "2026-10-06T08:30:09.001Z gave up"),
        ("[12:00:01] gave up", "[13:59:59] gave up"),
        ("/tmp/tmpab12_xyz/cart.db", "/tmp/tmpq9z8_abc/cart.db"),
        ("/tmp/pytest-of-me/pytest-7/cart.db", "/tmp/pytest-of-me/pytest-8/cart.db"),
        ("/tmp/cart-Ab3dEf/cart.db", "/tmp/cart-xY9zQ1/cart.db"),
        ("(node:412) Warning", "(node:5077) Warning"),
        ("==412==ERROR: AddressSanitizer", "==5077==ERROR: AddressSanitizer"),
        ("killed: pid=412", "killed: pid=5077"),
    ],
)
def test_of_a_check_s_output_what_passes_by_itself_counts_for_nothing(one: str, other: str) -> None:
    assert steady(shown(one)) == steady(shown(other))
    assert steady(one) == one
    assert steady(f"shop/cart.py\n```\n{one}\n```\n") != steady(f"shop/cart.py\n```\n{other}\n```\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 failed in 0.03s", "2 failed in 0.03s"),
        ("assert 0.03 == 0.5", "assert 0.03 == 0.6"),
        ("assert '0.5s' == '1.5s'", "assert '0.5s' == '2.5s'"),
        ("assert 0xdeadbeef == 0", "assert 0xcafebabe == 0"),
        ("  10:15  error  no-undef", "  11:15  error  no-undef"),
        ("shop/cart.py:10:20: error", "shop/cart.py:11:20: error"),
        ("/tmp/settings.json is missing", "/tmp/contract.json is missing"),
        ("/tmp/my-settings/a", "/tmp/my-contract/a"),
        ("mail to me@example.org", "mail to us@example.org"),
        ("expected 10 got 20", "expected 10 got 30"),
        ("lacks 30 seconds", "lacks 60 seconds"),
        ("line 12 in total", "line 13 in total"),
        ("process exited with 3", "process exited with 4"),
    ],
)
def test_of_a_check_s_output_everything_else_counts(one: str, other: str) -> None:
    assert steady(shown(one)) != steady(shown(other))


@pytest.mark.parametrize(
    "line",
    [
        "$ ",
        "$ a\n",
        "```\n",
        "$ a\n```\n",
        "$ a\n```\nb\n```\n",
        "$ a\n````\n1 in 0.1s\n",
        f"$ a\n```\n{'/tmp/a-1' * 50}\n```\n",
        f"$ a\n```\n{'12.5.' * 80}\n{'0x' * 200}\n{'in 1m ' * 60}\n```\n",
    ],
)
def test_a_request_of_a_megabyte_is_read_at_once(line: str) -> None:
    text = line * (1_000_000 // len(line) + 1)
    steady(shown("1"))  # The patterns are compiled once.
    begun = time.process_time()
    steady(text)
    assert time.process_time() - begun < 0.5, "seconds of processor time"


def shown(output: str) -> str:
    return f"Checks:\n\n$ pytest -q\n```\n{output}\n```\n\nFiles:\n"
