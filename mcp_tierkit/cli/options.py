"""Options that several commands share, and how records are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcp_tierkit.types import Record

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.errors import TierkitError
    from mcp_tierkit.types import Door

project_option = click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The project's folder. Default: TIERKIT_PROJECT, else CLAUDE_PROJECT_DIR, else this folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")

transcripts_option = click.option(
    "--transcripts", "with_transcripts", is_flag=True,
    help="Measure the caller's own side from its transcripts, where one tells of the task; caller.transcripts: always.",
)  # fmt: skip


def door() -> Door:
    """Who takes what a command prints: a person where it is a terminal, else a program, as an agent."""
    return "terminal" if sys.stdout.isatty() else "pipe"


def client() -> str:
    """The name that a task begun by a command is given."""
    return f"mcp-tierkit/{'terminal' if door() == 'terminal' else 'cli'}"


def config_if_any(project: Path | None = None, *, needed: bool = False) -> Config | None:
    """The user's settings; None where there is no project to read them for and none is named or `needed`.

    Settings that cannot be read are refused: going on without them would drop budgets and prices unseen.
    """
    from mcp_tierkit.config import load_config
    from mcp_tierkit.errors import InvalidInput
    from mcp_tierkit.places import find_project

    named = str(project) if project else None
    try:
        find_project(named, os.environ)
    except InvalidInput:
        if needed or named:
            raise
        return None
    return load_config(project=named)


def told_beside(refusal: TierkitError) -> str:
    """A refusal of the settings as a note of what goes on without them."""
    return f"{refusal.what.removesuffix(' Nothing was done.')} {refusal.shell_step or refusal.next_step}"


def tell_if_within(project: Path | None, config: Config) -> None:
    """Say on stderr that a mere folder of a repository is about to be a project of its own, if nobody named it."""
    from mcp_tierkit.places import whole_of

    is_named = project or os.environ.get("TIERKIT_PROJECT") or os.environ.get("CLAUDE_PROJECT_DIR")
    if is_named or (config.project / ".tierkit").is_dir():
        return
    if whole := whole_of(config.project, os.environ):
        click.echo(f"Note: this folder alone is the project, not {whole}. For all of it: --project {whole}", err=True)


def print_json(record: Record | Mapping[str, object] | list[object]) -> None:
    """One JSON document on stdout; unknown values are null."""
    value = record.model_dump(mode="json") if isinstance(record, Record) else record
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
