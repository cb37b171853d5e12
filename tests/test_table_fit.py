"""Tables of a terminal: whatever its width, no figure is cut, and no name of a row is lost."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.cli.fitting import Column, fitted
from mcp_tierkit.cli.tables import figures, words
from tests.reports import add_call, new_ledger, open_task, receipt, tell
from tests.test_report_page import iso

HEAD = (*words("model"), *figures("calls", "tokens in", "USD"))
ROWS = (
    ("provider/a-model-with-a-very-long-name:free", "1,204", "41,004", "$0.6121 + quota + up to $12.30"),
    ("short", "7", "352,997", "$107.05"),
)
LEVER = "your agent's own tokens for tasks without an estimate"


@pytest.mark.parametrize("room", range(40, 110, 5))
def test_figures_are_whole_and_names_only_broken_whatever_the_room(room: int) -> None:
    found = fitted(HEAD, ROWS, room)
    if found is None:
        assert room < 55
        return
    assert sum(found.widths) + found.gap * (len(found.widths) - 1) <= room
    for row, cells in zip(ROWS, found.rows, strict=True):
        assert [" ".join(cell.split()) for cell in cells] == list(row)
        for cell, width in zip(cells[1:], found.widths[1:], strict=True):
            assert max(map(len, cell.split("\n"))) <= width
    assert found.widths[0] >= 16


def test_amounts_stand_with_their_points_in_line_where_there_is_room() -> None:
    rows = [["a", "$0.0045 + quota"], ["b", "$107.05"], ["c", "-$3"], ["d", "unknown"]]
    found = fitted((*words("x"), *figures("USD")), rows, 80)
    assert found is not None
    shown = [row[1].rjust(found.widths[1]) for row in found.rows]
    assert shown == ["  $0.0045 + quota", "$107.05          ", " -$3             ", "  unknown        "]


def test_the_wide_column_gives_way_before_a_name() -> None:
    head = (*words("task"), Column("goal", is_wide=True), *figures("USD"))
    found = fitted(head, [["t048213377120", "Take the discount as a percentage", "$0.0431"]], 50)
    assert found is not None
    assert list(found.widths) == [13, 24, 7]


@pytest.mark.parametrize("columns", [44])
def test_a_narrow_terminal_is_told_every_figure_of_every_lever(tmp_path: Path, columns: int) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "tierkit.toml").write_text('[caller]\nmodel = "claude-opus-5-5"\n')
    with new_ledger(tmp_path / "ledger.db") as conn:
        for task_id, net in (("t1", ["0.0431", "0.1972"]), ("t2", None)):
            open_task(conn, task_id, iso())
            add_call(conn, task_id, at=iso(), stage="draft" if net else "review", cost_nanousd=12_345_000)
            tell(conn, task_id, receipt("0.012345", ["0.0600", "0.2141"] if net else None, net))
    home = {name: str(tmp_path) for name in ("HOME", "TIERKIT_STATE_DIR")}
    env = {
        **os.environ, **home, "COLUMNS": str(columns), "TERM": "xterm", "TIERKIT_CONFIG": f"{tmp_path}/tierkit.toml",
        "TIERKIT_LEDGER": f"sqlite://{tmp_path}/ledger.db", "PYTHONPATH": str(Path(__file__).parent.parent),
    }  # fmt: skip
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mcp_tierkit", "report", "--levers"]
    with subprocess.Popen(command, stdout=theirs, env=env, cwd=tmp_path / "shop") as child:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
    os.close(ours)
    assert child.returncode == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "")
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    [table] = re.findall(r"Saved, in US dollars\n.*?all together[^\n]*", text, re.DOTALL)
    assert set(re.findall(r"-?\$[\d.]+", table)) >= {"$0.0431", "$0.1972", "-$0.0123"}
    assert set(LEVER.split()) <= set(table.split())


def test_prices_stand_with_their_points_in_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prices", "claude-opus-5-5", "claude-haiku-5-5", "groq/openai/gpt-oss-20b"]) == 0
    rows = [line[26:] for line in capsys.readouterr().out.splitlines() if re.search(r"\d {4,}", line)]
    assert len(rows) == 3
    # Where the whole dollars of each figure end.
    assert len({tuple(figure.end() for figure in re.finditer(r"(?<![\d.])\d+", row))[:3] for row in rows}) == 1, rows


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # Linux says so at the end of a terminal.
        return b""
