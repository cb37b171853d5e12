"""`tierkit demo`: one delegated task from end to end, on one screen."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from mcp_tierkit.amounts import FIGURES, dollars, dollars_of
from mcp_tierkit.cli.options import json_option, print_json
from mcp_tierkit.cli.receipt_text import receipt_lines
from mcp_tierkit.errors import InvalidInput


@click.command()
@click.option("--live", is_flag=True, help="Ask your own models instead of replaying words; this spends money.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the demo's project and ledger in this new folder.")
@json_option
def demo(live: bool, keep: Path | None, as_json: bool) -> int:
    """Show a whole delegated task: plan, draft, repair, review, playbook, receipt.

    Without --live no key is needed and nothing leaves this machine.

    \b
    Example:
      tierkit demo
      tierkit demo --keep ./tierkit-demo
    """
    from mcp_tierkit.demo import run_demo

    steps: list[tuple[str, dict[str, Any]]] = []
    screen = _Screen()
    show = (lambda name, record: steps.append((name, record))) if as_json else screen.show
    with tempfile.TemporaryDirectory(prefix="tierkit-demo-") as temporary:
        folder = keep or Path(temporary)
        _make_empty(folder)
        if not as_json:
            screen.open(live)
        scene = run_demo(folder.resolve(), show, is_live=live)
        if as_json:
            print_json([{"step": name, **record} for name, record in steps])
        else:
            screen.close(scene.ledger)
    return 0


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError:
        is_empty = False
    if not is_empty:
        raise InvalidInput(
            f"{folder} is not an empty folder. Nothing was written.", next_step="Name a new folder with --keep."
        )


class _Screen:
    """Prints each step as it happens; plain text where there is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._checks = 0

    def open(self, live: bool) -> None:
        words = "asks your own models" if live else "replays the model's words from a file"
        self._console.print(f"[bold]tierkit demo[/] {words}. Everything else is real: the MCP connection, litellm")
        self._console.print("over HTTP, git, the checks, the sandbox, the ledger.\n")

    def show(self, name: str, record: dict[str, Any]) -> None:
        lines = getattr(self, f"_{name}")(record)
        title = name.replace("_", " ") if name == "check" else name
        self._console.print(f"[bold cyan]{title}[/]")
        for line in lines:
            self._console.print(f"  {line}", markup=False)

    def _check(self, record: dict[str, Any]) -> list[str]:
        self._checks += 1
        when = "before" if self._checks == 1 else "after"
        return [f"{when}: {record['command']} -> {'red' if record['exit'] else 'green'} (exit {record['exit']})"]

    def _plan_task(self, record: dict[str, Any]) -> list[str]:
        most = dollars_of((record["estimate"] or {}).get("draft_usd_at_most"))
        return [record["summary"], f"tier {record['tier']}, one draft costs {most} at most; nothing spent so far"]

    def _draft_with_cheap_model(self, record: dict[str, Any]) -> list[str]:
        lines = [record["summary"], *(f"attempt: {attempt}" for attempt in record["attempts"])]
        lines += [f"{check['role']}: {check['before']} before, {check['after']} after" for check in record["checks"]]
        lines += [f"file: {file}" for file in record["files"]]
        return [
            *lines,
            f"isolation: {record['isolation']}, undo with record_outcome",
            *receipt_lines(record["receipt"]),
        ]

    def _review_diff(self, record: dict[str, Any]) -> list[str]:
        found = [f"{row['severity']} {row['file']}:{row['line']} {row['claim']}" for row in record["findings"]]
        return [record["summary"], *found, f"cost: {dollars_of(record['receipt']['measured']['usd'])}"]

    def _run_playbook(self, record: dict[str, Any]) -> list[str]:
        text = str((record["output"] or {}).get("markdown", "")).splitlines()
        return [f"{record['playbook']}: {record['status']} in {record['ms']} ms, 0 tokens, $0", *text]

    def close(self, ledger: Path) -> None:
        from rich.table import Table

        from mcp_tierkit.ledger.report import reading

        table = Table("stage", "model", "fresh in", "cached in", "out", "USD", title="every call on the ledger")
        with reading(f"sqlite:///{ledger}") as conn:
            rows = conn.execute(
                "SELECT stage, served_model, input_tokens, cached_tokens, output_tokens, cost_nanousd"
                " FROM call_log ORDER BY at"
            ).fetchall()
        for stage, model, fresh, cached, out, cost in rows:
            table.add_row(stage, model, str(fresh), str(cached), str(out), dollars(cost, FIGURES))
        self._console.print()
        self._console.print(table)
