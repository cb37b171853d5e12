"""`tierkit doctor`: what is wrong with the set-up, and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from mcp_tierkit.cli.options import json_option, print_json, project_option
from mcp_tierkit.clients import clients

if TYPE_CHECKING:
    from mcp_tierkit.checkup import Symptom

_COLOURS = {"problem": "red", "warning": "yellow", "fine": "green"}


@click.command()
@project_option
@click.option("--client", type=click.Choice(list(clients())), help="Look at this client alone; it must be set up.")
@click.option("--online", is_flag=True, help="Ask each tier's model for one word; metered, well under a cent each.")
@json_option
def doctor(project: Path | None, client: str | None, online: bool, as_json: bool) -> int:
    """Find what is wrong with the set-up, and say how to mend it.

    Looks at settings, keys, models, prices, engines on this machine, the ledger, the sandbox and your clients, and
    changes none of them. Nothing leaves this machine without --online. Exit code 1 when there is a problem;
    a warning alone is 0.

    \b
    Example:
      tierkit doctor
      tierkit doctor --client claude-code --online
    """
    from mcp_tierkit.checkup import examine

    async def work() -> tuple[Symptom, ...]:
        return await examine(project=str(project) if project else None, client=client, is_online=online)

    symptoms = anyio.run(work)
    problems = sum(symptom.level == "problem" for symptom in symptoms)
    if as_json:
        print_json({"ok": not problems, "symptoms": [symptom.model_dump() for symptom in symptoms]})
    else:
        _print(symptoms)
    return 1 if problems else 0


def _print(symptoms: tuple[Symptom, ...]) -> None:
    for symptom in symptoms:
        click.secho(f"{symptom.level:<8}", fg=_COLOURS[symptom.level], nl=False)
        click.echo(f"{symptom.name:<19}{symptom.what}")
        if symptom.fix:
            click.echo(f"{'':<8}{'  fix:':<19}" + symptom.fix.replace("\n", f"\n{'':<27}"))
    click.echo(f"\n{_counted(symptoms, 'problem')}, {_counted(symptoms, 'warning')}.")


def _counted(symptoms: tuple[Symptom, ...], level: str) -> str:
    count = sum(symptom.level == level for symptom in symptoms)
    return f"{count} {level}" if count == 1 else f"{count} {level}s"
