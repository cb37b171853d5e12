"""Options that several commands share, and how records are printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from mcp_tierkit.types import Record

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


def print_json(record: Record | Mapping[str, object] | list[object]) -> None:
    """One JSON document on stdout; unknown values are null."""
    value = record.model_dump(mode="json") if isinstance(record, Record) else record
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
