"""Ctrl-C: work is cancelled and settled, and what became of it is said."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mcp_tierkit.config import Config

EXIT_CODE = 130
"""What a shell gives a command that SIGINT ended."""
_HEARD = b"\nCancelling: what is under way is being settled ...\n"


@contextmanager
def heard() -> Iterator[None]:
    """Within an event loop: the first Ctrl-C is answered at once, also while the loop is busy with an import."""
    cancel = signal.getsignal(signal.SIGINT)
    if not callable(cancel):
        yield
        return
    signal.signal(signal.SIGINT, _answering(cancel))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, cancel)


def _answering(cancel: Callable[[int, Any], Any]) -> Callable[[int, Any], None]:
    def answer(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, cancel)
        if sys.__stderr__ is not None:  # Else the descriptor may be any file of ours, the ledger among them.
            with suppress(OSError):  # Nobody reads it any more.
                os.write(2, _HEARD)  # Not through a buffer, which may be in the middle of a write.
        cancel(number, frame)

    return answer


def tell(config: Config, task_id: str | None) -> int:
    """Say on stderr what a cancelled command left behind, and give the exit code."""
    for line in _lines(config, task_id) if task_id else ("Cancelled. Nothing was begun, spent or changed.",):
        click.echo(line, err=True)
    return EXIT_CODE


def _lines(config: Config, task_id: str) -> Iterator[str]:
    from mcp_tierkit.errors import TierkitError
    from mcp_tierkit.journal import has_undo
    from mcp_tierkit.ledger.report import reading, task_summary
    from mcp_tierkit.page.said import at_most, cost
    from mcp_tierkit.workspace import Workspace

    try:
        with reading(config.ledger_url) as conn:
            spend = task_summary(conn, task_id).spend
    except TierkitError as error:
        yield f"Cancelled: {task_id}. What it cost cannot be read: {error.what}"
    else:
        open_ended = ", which counts against your budgets: its call was cut off" if at_most(spend) else ""
        spent = f"It cost {cost(spend)}{open_ended}." if spend.calls else "No model was called, and nothing was spent."
        yield f"Cancelled: {task_id}. {spent}"
    if has_undo(config.state_dir, Workspace(config.project), task_id):
        yield f"Its change was proven before that and is applied. To take it back: tierkit undo {task_id}"
    else:
        yield "Nothing was applied. If it is still wanted, run the same command again."
