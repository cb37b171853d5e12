"""`run`: what the `run_playbook` tool does, for a shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from mcp_tierkit.cli import stopped
from mcp_tierkit.cli.options import client, door, print_json, project_option
from mcp_tierkit.cli.playbook.chosen import config_of, example_call, plain, trusted_named
from mcp_tierkit.errors import InvalidInput

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.playbook.load import Playbook


@click.command()
@click.argument("name")
@click.argument("inputs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "json_file", is_flag=False, flag_value="", metavar="[FILE]",
              help="Print the record as JSON; with FILE (- is stdin) take the inputs from there.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Change nothing; write the diff down.")
@project_option
def run(name: str, inputs: tuple[str, ...], json_file: str | None, dry_run: bool, project: Path | None) -> int:
    """Run the trusted playbook NAME: a script at zero tokens, a skill by a call of its model.

    Exit code 1 where it did not do its work, or where an output named passed is false.

    \b
    Example:
      tierkit playbook run rename-symbol old=total new=grand_total --dry-run
    """
    if json_file and "=" in json_file and not Path(json_file).exists():
        json_file, inputs = "", (json_file, *inputs)  # `--json key=value`: the flag alone, then an input.
    config = config_of(project)
    chosen = trusted_named(config, name)
    begun: list[str] = []
    try:
        reply = anyio.run(_run, config, name, _inputs(chosen, inputs, json_file), dry_run, begun)
    except KeyboardInterrupt:
        return stopped.tell(config, begun[-1] if begun else None)
    except InvalidInput as error:
        raise InvalidInput(error.what, next_step=f"A call that fits: {plain(example_call(chosen))}") from None
    reply = _whole(reply, config.project)
    if json_file is not None:
        print_json(reply)
    else:
        _print_run(reply)
    output = reply.get("output") or {}
    return 0 if reply["status"] in ("ok", "running") and output.get("passed") is not False else 1


async def _run(
    config: Config, name: str, inputs: dict[str, Any], dry_run: bool, begun: list[str]
) -> dict[str, Any]:  # fmt: skip
    from mcp_tierkit.calls import PlaybookCall
    from mcp_tierkit.desk import open_desk
    from mcp_tierkit.kit import open_kit

    wanted = PlaybookCall(name=name, inputs=inputs, dry_run=dry_run, wait_s=3600)
    with stopped.heard():
        async with open_desk(open_kit(config, door=door())) as desk:
            try:
                return await desk.run_playbook(wanted, client=client())
            finally:
                begun.extend(desk.jobs.begun)


def _inputs(chosen: Playbook, pairs: tuple[str, ...], file: str | None) -> dict[str, Any]:
    from mcp_tierkit.playbook.schema import invalid_input

    values = _read_inputs(file) if file else {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign:
            raise invalid_input(f"{pair[:40]!a} is not of the form key=value")
        values[key] = chosen.inputs.from_text(key, text)
    return values


def _read_inputs(file: str) -> dict[str, Any]:
    from mcp_tierkit.playbook.schema import MAX_BYTES, invalid_input, strict_json

    try:
        with click.open_file(file, "rb") as opened:
            values = strict_json(opened.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        raise invalid_input(f"the inputs cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise invalid_input("the inputs are not a JSON object")
    return values


def _whole(reply: dict[str, Any], project: Path) -> dict[str, Any]:
    """The reply with the whole of what an agent is shown in part: a terminal has room."""
    whole = dict(reply)
    if path := reply.get("output_file"):
        whole["output"] = json.loads((project / path).read_text("utf-8"))
        whole.pop("more_outputs", None)
    if path := reply.get("log_file"):
        whole["log_tail"] = (project / path).read_text("utf-8")
    return whole


def _print_run(reply: dict[str, Any]) -> None:
    for key, value in reply.items():
        if isinstance(value, dict):
            for name, part in value.items():
                text = plain(str(part), lines=True)
                click.echo(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}")
        elif value not in (None, "", [], {}):
            click.echo(f"{key}: {plain(str(value), lines=True)}")
