"""`run`: what the `run_playbook` tool does, for a shell."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from mcp_tierkit.cli.options import print_json, project_option
from mcp_tierkit.cli.playbook.chosen import CLIENT, config_of, plain, trusted_named
from mcp_tierkit.errors import InvalidInput

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.playbook.load import Playbook

SAMPLES = {"date": "2024-03-09", "semver": "1.4.0", "git-ref": "main", "project-path": "src"}
OF_TYPE = {"string": "TEXT", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}


@click.command()
@click.argument("name")
@click.argument("inputs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "json_file", is_flag=False, flag_value="", metavar="[FILE]",
              help="Print the record as JSON; with FILE (- is stdin) take the inputs from there.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Change nothing; write the diff down.")
@project_option
def run(name: str, inputs: tuple[str, ...], json_file: str | None, dry_run: bool, project: Path | None) -> int:
    """Run the trusted playbook NAME at zero tokens.

    \b
    Example:
      tierkit playbook run rename-symbol old=total new=grand_total --dry-run
    """
    if json_file and "=" in json_file and not Path(json_file).exists():
        json_file, inputs = "", (json_file, *inputs)  # `--json key=value`: the flag alone, then an input.
    config = config_of(project)
    chosen = trusted_named(config, name)
    try:
        reply = anyio.run(_run, config, name, _inputs(chosen, inputs, json_file), dry_run)
    except InvalidInput as error:
        raise InvalidInput(error.what, next_step=f"A call that fits: {_example(chosen)}") from None
    if json_file is not None:
        print_json(reply)
    else:
        _print_run(reply)
    return 0 if reply["status"] in ("ok", "declined", "running") else 1


async def _run(config: Config, name: str, inputs: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    from mcp_tierkit.calls import PlaybookCall
    from mcp_tierkit.desk import open_desk
    from mcp_tierkit.kit import open_kit

    wanted = PlaybookCall(name=name, inputs=inputs, dry_run=dry_run, wait_s=3600)
    async with open_desk(open_kit(config)) as desk:
        return await desk.run_playbook(wanted, client=CLIENT)


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


def _example(chosen: Playbook) -> str:
    """A command line whose inputs fit, as a test case of the playbook has them where one does."""
    from mcp_tierkit.playbook.cases import read_cases
    from mcp_tierkit.playbook.load import BadPlaybook

    try:
        cases = [case.inputs for case in read_cases(chosen).values() if case.expect.status == "ok"]
    except BadPlaybook:
        cases = []
    inputs = cases[0] if cases else _made_up(chosen)
    pairs = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in inputs.items())
    return plain(shlex.join(["tierkit", "playbook", "run", chosen.name, *pairs]))


def _made_up(chosen: Playbook) -> dict[str, Any]:
    required = {key: one for key, one in chosen.inputs.properties.items() if "default" not in one}
    return {key: _sample(one) for key, one in required.items()}


def _sample(schema: dict[str, Any]) -> Any:
    for known in (schema.get("examples"), schema.get("enum"), [schema["const"]] if "const" in schema else None):
        if isinstance(known, list) and known:
            return known[0]
    return SAMPLES.get(schema.get("format", ""), OF_TYPE[schema["type"]])


def _print_run(reply: dict[str, Any]) -> None:
    for key, value in reply.items():
        if isinstance(value, dict):
            for name, part in value.items():
                text = plain(str(part), lines=True)
                click.echo(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}")
        elif value not in (None, "", [], {}):
            click.echo(f"{key}: {plain(str(value), lines=True)}")
