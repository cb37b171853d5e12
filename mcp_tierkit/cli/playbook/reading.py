"""`list` and `show`: what there is, from names and from the text of trusted playbooks alone."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcp_tierkit.cli.options import json_option, print_json, project_option
from mcp_tierkit.cli.playbook.chosen import config_of, plain, trusted_named
from mcp_tierkit.errors import LedgerError

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.playbook.load import Playbook
    from mcp_tierkit.stages.playbook import Entry
    from mcp_tierkit.stages.repetition import Figures


@click.command("list")
@project_option
@json_option
def list_(project: Path | None, as_json: bool) -> int:
    """List the playbooks within reach, the nearest first. Runs nothing.

    \b
    Example:
      tierkit playbook list --json
    """
    from mcp_tierkit.stages.playbook import list_entries
    from mcp_tierkit.stages.repetition import Figures

    config = config_of(project)
    entries, ran = list_entries(config), _ran(config)
    # What ran was trusted: another playbook of the same name has no figures.
    figures = [ran.get(entry.name, Figures()) if entry.trusted else Figures() for entry in entries]
    if as_json:
        print_json([entry.model_dump() | known.model_dump() for entry, known in zip(entries, figures, strict=True)])
        return 0
    for entry, known in zip(entries, figures, strict=True):
        click.echo("  ".join((entry.name, entry.version or "-", entry.kind or "-", entry.origin, _state(entry))))
        if told := entry.fault or entry.description:
            click.echo(f"    {_in_a_line(plain(told))}")
        if known.runs:
            click.echo(f"    {_figures(known)}")
    if any(not entry.trusted for entry in entries):
        click.echo("What is not trusted is a name only. To read one and trust it: tierkit playbook trust NAME")
    return 0


def _in_a_line(text: str) -> str:
    """As much as a terminal's line holds, whole words alone; in a pipe all of it."""
    if not sys.stdout.isatty():
        return text
    return textwrap.shorten(text, max(shutil.get_terminal_size().columns - 4, 20), placeholder=" …")


def _ran(config: Config) -> Mapping[str, Figures]:
    from mcp_tierkit.stages.repetition import playbook_figures

    try:
        return playbook_figures(config)
    except LedgerError as error:
        click.echo(f"Runs and money saved are not known: {error.what}", err=True)
        return {}


def _state(entry: Entry) -> str:
    state = "not trusted" if not entry.trusted else "cannot be loaded" if entry.fault else "trusted"
    return f"{state}, hides that of the {' and the '.join(entry.hides)}" if entry.hides else state


def _figures(figures: Figures) -> str:
    from mcp_tierkit.receipts import usd

    saved = "-" if figures.saved_nanousd is None else f"${usd(figures.saved_nanousd)}"
    return f"runs: {figures.runs}, ok: {figures.ok}, last: {(figures.last_run or '-')[:10]}, saved: {saved}"


@click.command()
@click.argument("name")
@click.option("--files", is_flag=True, help="Print its files too.")
@project_option
@json_option
def show(name: str, files: bool, project: Path | None, as_json: bool) -> int:
    """Show what the playbook NAME takes, gives and changes. Runs nothing; an untrusted one stays a name.

    \b
    Example:
      tierkit playbook show rename-symbol --files
    """
    found = trusted_named(config_of(project), name)
    record = _described(found)
    if files:
        record["files"] = {entry.path: entry.data.decode(errors="replace") for entry in found.folder.files}
    if as_json:
        print_json(record)
        return 0
    for key, value in record.items():
        _echo(key, value)
    return 0


def _echo(key: str, value: Any) -> None:
    if key == "files":
        for path, text in value.items():
            click.echo(f"\n=== {plain(path)}\n{plain(text.rstrip(), lines=True)}")
    elif isinstance(value, dict | list):
        click.echo(f"{key}:" if value else f"{key}: none")
        items = value.items() if isinstance(value, dict) else ((item, "") for item in value)
        for item, told in items:
            shown = _field(told) if isinstance(told, dict) else str(told)
            click.echo(f"    {plain(str(item))}  {plain(shown)}".rstrip())
    else:
        click.echo(f"{key}: {plain(str(value))}")


def _field(schema: dict[str, Any]) -> str:
    """A field as a person reads it: its type, its limits, what it is for."""
    limits = [f"{key} {schema[key]}" for key in schema if key not in ("type", "description", "default")]
    default = f"default {schema['default']!r}" if "default" in schema else ""
    return ", ".join(filter(None, (schema["type"], *limits, default))) + f"  {schema.get('description', '')}".rstrip()


def _described(found: Playbook) -> dict[str, Any]:
    from mcp_tierkit.playbook.load import read_front_matter

    contract = found.contract
    effects = contract.effects.model_dump(mode="json") | {"destructive": contract.effects.may_destroy}
    return {
        "name": found.name, "version": contract.version, "kind": contract.kind, "origin": found.origin, "trusted": True,
        "description": read_front_matter(found.folder).description, "phrases": list(contract.match.phrases),
        "inputs": contract.inputs, "outputs": contract.outputs, "effects": effects,
        "digest": found.digest,
    }  # fmt: skip
