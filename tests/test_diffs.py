"""Patches that git takes, whatever the texts are."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.diffs import patch, summarise

text = st.text(alphabet="ab \t\r\n\f+-@", max_size=30)


@settings(max_examples=60, deadline=None)
@given(old=st.none() | text, new=st.none() | text)
def test_git_applies_every_patch_to_the_same_bytes(tmp_path_factory: object, old: str | None, new: str | None) -> None:
    folder = tmp_path_factory.mktemp("patch")  # type: ignore[attr-defined]
    check_round_trip(folder, old, new)


def check_round_trip(folder: Path, old: str | None, new: str | None) -> None:
    path = folder / "a.txt"
    if old is not None:
        path.write_bytes(old.encode())
    wanted = patch({"a.txt": old}, {"a.txt": new})
    if wanted:
        subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=folder, input=wanted.encode(), check=True)
    assert (path.read_bytes().decode() if path.exists() else None) == new


def test_a_summary_counts_lines_and_names_three_ranges() -> None:
    old = "".join(f"{n}\n" for n in range(100))
    new = "".join(f"{'x' if n % 10 == 0 else n}\n" for n in range(100))
    change = summarise("a.txt", old, new)
    assert (change.added, change.removed, change.ranges) == (10, 10, "1,11,21,+7")


@pytest.mark.parametrize("count", [600, 3000])
def test_a_file_of_like_lines_is_summed_up_in_time(count: int) -> None:
    started = time.process_time()
    change = summarise("a.txt", "x\n" * count, "x\ny\n" * (count // 2))
    assert (change.added - change.removed, change.ranges[:1]) == (0, "2")
    assert time.process_time() - started < 3
