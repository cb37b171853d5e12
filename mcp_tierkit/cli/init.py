"""`tierkit init`: put the server into a client's configuration, or say how."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from mcp_tierkit.cli.options import json_option, print_json, project_option, tell_if_within
from mcp_tierkit.clients import (
    Change,
    Client,
    clients,
    entry_of,
    find_clients,
    install,
    personal_entries,
    places,
    prepare,
    snippet,
)
from mcp_tierkit.clients.launch import Launch, find_launch
from mcp_tierkit.clients.offers import Checks, find_checks, first_task
from mcp_tierkit.config import Config, load_config
from mcp_tierkit.errors import InvalidInput, TierkitError
from mcp_tierkit.providers import known
from mcp_tierkit.redact import redact


@click.command()
@click.option("--client", "name", type=click.Choice(list(clients())), help="The client to set up.")
@project_option
@click.option("--dry-run", is_flag=True, help="Show the change and write nothing.")
@json_option
def init(name: str | None, project: Path | None, dry_run: bool, as_json: bool) -> None:
    """Add the server to a client's configuration.

    Shows the change, keeps a backup beside the file, and never adds the server twice. Without --client it lists the
    clients found here, the checks found in the project, and a first task to try.

    \b
    Example:
      tierkit init --client claude-code --dry-run
    """
    config = load_config(project=str(project) if project else None)
    tell_if_within(project, config)
    launch = find_launch(config.project, os.environ, keys=_keys_here())
    if name is None:
        _overview(config, launch, as_json)
    elif clients()[name].format == "snippet":
        _show_snippet(clients()[name], launch, config.project, as_json)
    else:
        _merge(clients()[name], launch, config.project, dry_run, as_json)


def _keys_here() -> tuple[str, ...]:
    """Names of the key variables that are set; their values are not looked at."""
    return tuple(name for provider in known().provider for name in provider.keys if name in os.environ)


def _merge(client: Client, launch: Launch, project: Path, dry_run: bool, as_json: bool) -> None:
    change = prepare(client, launch, project, os.environ)
    kept = None if dry_run else install(change)
    if as_json:
        record = change.model_dump(mode="json", include={"client", "file", "entry", "state"})
        print_json(record | {"diff": redact(change.diff), "backup": kept, "written": _is_written(change, dry_run)})
        return
    if change.state == "already_there":
        click.echo(f"Already there: {client.title} has this server as {change.entry!r} in {change.file}.")
        _remark_personal(client, project)
        return
    click.echo(redact(change.diff), nl=False)
    click.echo(f"\n{'Would write' if dry_run else 'Wrote'} {change.file} ({change.entry}: {change.state}).")
    if kept:
        click.echo(f"Backup: {kept}")
    if client.is_per_project:
        _remark_shared(client, change, launch)
    _remark_personal(client, project)
    click.echo("Next: run this without --dry-run." if dry_run else f"Next: {client.then}")


def _remark_shared(client: Client, change: Change, launch: Launch) -> None:
    """A project's file may be committed, and the entry is good on this machine alone."""
    own = ""
    if client.private:
        command = shlex.join([launch.command, *launch.args])
        own = f" Where your team shares the file: {client.private.format(entry=change.entry, command=command)}"
    click.echo(f"The entry names paths of this machine: do not commit it (.git/info/exclude keeps a file out).{own}")


def _remark_personal(client: Client, project: Path) -> None:
    """Entries in the client's own file are loaded with every project, each with six tools, and can edit its project."""
    folders = places(project, os.environ)
    try:
        names = personal_entries(client, folders)
    except InvalidInput:
        return  # It is no file of ours to mend, and nothing is written to it.
    if names and client.personal:
        click.echo(
            f"{client.personal.format_map(folders)} has {', '.join(map(repr, names))} too: every session of "
            f"{client.title} loads it, six tools each, whatever the project. Take it out there."
        )


def _is_written(change: Change, dry_run: bool) -> bool:
    return not dry_run and change.state != "already_there"


def _show_snippet(client: Client, launch: Launch, project: Path, as_json: bool) -> None:
    entry = entry_of(client, launch, os.environ)
    file = client.file.format_map(places(project, os.environ))
    if as_json:
        print_json({"client": client.name, "file": file, "table": list(client.table), "entry": entry})
        return
    click.echo(f"{client.title}: {file}\n\n{snippet(client, entry)}\n{client.then}")


def _overview(config: Config, launch: Launch, as_json: bool) -> None:
    found = find_clients(places(config.project, os.environ))
    rows = [{"client": name, "title": clients()[name].title, "state": _state(name, launch, config.project)}
            for name in found]  # fmt: skip
    found_checks = find_checks(config.project)
    offered = tuple(check for check in found_checks.ready if check not in config.checks.allow)
    task = first_task(found_checks.ready or config.checks.allow)
    if as_json:
        checks = {"checks": offered, "missing": found_checks.missing, "first_task": task}
        print_json({"project": config.project, "server": [launch.command, *launch.args], "clients": rows} | checks)
        return
    click.echo(f"Project: {config.project}\n")
    click.echo("Clients found here:" if rows else "No client that we know was found here.")
    for row in rows:
        click.echo(f"  {row['title']:<16} {_advice(row['client'], row['state'])}")
    click.echo(f"\nFor any other client, --client prints the entry to paste: {', '.join(_snippets())}.")
    _offer(offered, config.user_dir)
    _lament(found_checks)
    click.echo(f"\nA first task: {task}")


def _state(name: str, launch: Launch, project: Path) -> str:
    client = clients()[name]
    if client.format == "snippet":
        return "snippet"
    try:
        state = prepare(client, launch, project, os.environ).state
    except TierkitError as refusal:
        return redact(str(refusal))
    return {"added": "absent", "updated": "out_of_date"}.get(state, state)


def _advice(name: str, state: str) -> str:
    return {
        "already_there": "already there",
        "absent": f"tierkit init --client {name}",
        "out_of_date": f"tierkit init --client {name}   (its entry is out of date)",
        "snippet": f"tierkit init --client {name}   (prints the entry)",
    }.get(state, state)


def _snippets() -> list[str]:
    return [name for name, client in clients().items() if client.format == "snippet"]


def _lament(checks: Checks) -> None:
    for command in checks.missing:
        click.echo(
            f"\nThis project asks for `{command}`, and no {command.split()[0]} starts here: as a check it would end as "
            "unrunnable. Install it where the project's other tools are."
        )


def _offer(checks: tuple[str, ...], user_dir: Path) -> None:
    if not checks:
        return
    allow = ", ".join(f'"{check}"' for check in checks)
    click.echo(
        f"\nChecks found in this project: {', '.join(checks)}. Where the system has no sandbox, only commands that you "
        "allow are run.\nThey run the project's own code. If you trust it, put this into "
        f"{user_dir / 'tierkit.toml'}:\n\n[checks]\nallow = [{allow}]"
    )
