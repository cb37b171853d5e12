"""`trust` and `untrust`: a person at a terminal says which bytes may run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcp_tierkit.cli.options import project_option
from mcp_tierkit.cli.playbook.chosen import (
    config_of,
    counted,
    example_call,
    folder_of,
    loaded,
    nearest,
    plain,
    unreadable,
)
from mcp_tierkit.errors import PolicyRefused

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.playbook.folder import Folder
    from mcp_tierkit.playbook.load import Found, Playbook


@click.command()
@click.argument("name")
@project_option
def trust(name: str, project: Path | None) -> int:
    """Read the playbook NAME, see what changed since it was last trusted, and trust just these bytes.

    It asks on the terminal itself; nothing else can answer.

    \b
    Example:
      tierkit playbook trust my-report
    """
    from mcp_tierkit.playbook import trust as store
    from mcp_tierkit.playbook.environment import prepare
    from mcp_tierkit.stages.playbook import repository_of

    config = config_of(project)
    found = nearest(config, name)
    if found.origin == "package":
        return _of_package(config, found)
    folder = folder_of(found)
    chosen = loaded(folder, found)
    bound_to = repository_of(config, found.origin)
    before = store.approved_before(config.state_dir, name, repository=bound_to)
    for line in store.describe_change(before, folder):
        click.echo(line)
    _echo_effects(chosen, "differs from what was trusted before" if before else "was not trusted before")
    _echo_findings(folder)
    if not store.ask_on_terminal(f"Type {name} to trust these bytes: ", expected=name):
        raise PolicyRefused(
            f"{name} was not trusted: its name was not typed on a terminal. Nothing was changed.",
            next_step="Run this command yourself in a terminal and type the name.",
        )
    try:
        store.trust(config.state_dir, folder, repository=bound_to)
    except store.TrustStoreUnreadable as error:
        raise unreadable(error) from None
    click.echo(f"{name} is trusted as it is now.")
    prepare(chosen, config.state_dir)
    click.echo(f"To run it: {plain(example_call(chosen))}")
    return 0


def _of_package(config: Config, found: Found) -> int:
    """Those that ship are trusted by the package or not at all: a changed copy is mended by installing it again."""
    from mcp_tierkit.stages.playbook import read_trusted

    if read_trusted(config, found) is None:
        raise PolicyRefused(
            f"{found.name} comes with the package, and its files are not those the package was made with. "
            "Nothing was changed.",
            next_step="Install mcp-tierkit again, or keep your own copy under another name.",
        )
    click.echo(f"{found.name} comes with the package and is trusted by the digest that the package carries.")
    return 0


@click.command()
@click.argument("name")
@project_option
def untrust(name: str, project: Path | None) -> int:
    """Take back the trust in the playbook NAME. Those that ship with the package cannot be untrusted.

    \b
    Example:
      tierkit playbook untrust my-report
    """
    from mcp_tierkit.playbook import trust as store
    from mcp_tierkit.stages.playbook import repository_of

    config = config_of(project)
    bound = {repository_of(config, "project"), repository_of(config, "user")}
    try:
        dropped = [store.untrust(config.state_dir, name, repository=one) for one in bound]
    except store.TrustStoreUnreadable as error:
        raise unreadable(error) from None
    click.echo(f"{name} is no longer trusted." if any(dropped) else f"{name} was not trusted.")
    return 0 if any(dropped) else 1


def _echo_findings(folder: Folder) -> None:
    from mcp_tierkit.playbook.lint import lint

    if count := len(lint(folder)):
        click.echo(f"  lint: {counted(count, 'finding')}; tierkit playbook lint {folder.name} says which")


def _echo_effects(chosen: Playbook, standing: str) -> None:
    from mcp_tierkit.playbook.load import ModelRules

    effects = chosen.contract.effects
    click.echo(f"\n{chosen.name} {chosen.contract.version} {standing}.")
    click.echo(
        f"  changes files: {'no' if effects.read_only else 'yes, ' + plain(', '.join(effects.writes) or 'none named')}"
    )
    click.echo(f"  network: {'yes, where your configuration allows it' if effects.network else 'no'}")
    if effects.network and effects.destructive:
        click.echo("  what it does outside may not be taken back")
    if rules := chosen.contract.model or (ModelRules() if chosen.contract.kind == "skill" else None):
        click.echo(
            f"  asks a model: yes, one call of the {rules.tier} tier, two at most; what it is given is sent there"
        )
    if chosen.contract.run and chosen.contract.run.env:
        click.echo(f"  is given the variables: {', '.join(chosen.contract.run.env)}")
