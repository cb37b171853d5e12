"""Token counts: real where the vocabulary is installed, marked where not, and never fetched."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit import tokens
from mcp_tierkit.tokens import TokenCount, at_most, count, estimate

ROOT = Path(__file__).parent.parent
NO_NETWORK = """
import socket, sys
def refuse(*a, **k): raise SystemExit("asked the network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
sys.path.insert(0, sys.argv[1]) if sys.argv[1] else None
from mcp_tierkit.tokens import count
print(count("hello world, hello tokens"), "litellm" in sys.modules)
"""


def run(extra_path: str = "", **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, extra_path], cwd=ROOT, env=os.environ | env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_text_is_counted_in_the_vocabulary_and_says_so() -> None:
    assert count("hello world") == TokenCount(tokens=2, is_estimate=False)
    assert count("") == TokenCount(tokens=0, is_estimate=False)


def test_special_tokens_in_a_text_are_only_text() -> None:
    assert count("<|endoftext|>").tokens > 1


def test_a_long_unbroken_run_is_counted_in_pieces_and_not_far_off() -> None:
    assert 100_000 <= count("x" * 800_000).tokens <= 130_000


def test_counting_asks_no_network_and_does_not_import_litellm() -> None:
    assert run() == "tokens=5 is_estimate=False False"


def test_the_callers_own_vocabulary_folder_is_neither_used_nor_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    tokens._encoder.cache_clear()
    assert not count("hello").is_estimate
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_counting_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    tokens._encoder.cache_clear()
    assert not count("hello").is_estimate
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_an_altered_vocabulary_gives_an_estimate_and_is_neither_deleted_nor_fetched_anew(tmp_path: Path) -> None:
    folder = tmp_path / "litellm" / "litellm_core_utils" / "tokenizers"
    folder.mkdir(parents=True)
    (tmp_path / "litellm" / "__init__.py").touch()
    (folder / tokens._FILE).write_text("aGVsbG8= 0\n", "utf8")
    assert run(str(tmp_path)) == "tokens=7 is_estimate=True False"
    assert (folder / tokens._FILE).exists()


def test_the_vocabulary_file_is_the_one_that_the_installed_litellm_carries() -> None:
    files = importlib.metadata.files("litellm") or []
    assert any(file.name == tokens._FILE for file in files)


@given(st.text(max_size=300))
def test_a_reservation_is_never_below_the_count(text: str) -> None:
    assert count(text).tokens <= at_most(text) <= max(len(text.encode("utf8")), 0)


def test_an_estimate_is_a_quarter_of_the_bytes_rounded_up() -> None:
    assert [estimate(text) for text in ("", "a", "abcd", "abcde", "ééé")] == [0, 1, 1, 2, 2]


def test_a_lone_surrogate_does_not_stop_a_count() -> None:
    assert count("a\ud800b").tokens > 0
    assert estimate("a\ud800b") == 1
