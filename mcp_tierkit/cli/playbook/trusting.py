"""`trust` and `untrust`: a person at a terminal says which bytes may run."""

from __future__ import annotations

from collections.abc import Iterator
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

SCREEN = 40
"""Lines of text that a person still sees together with what stands before them."""


@click.command()
@click.argument("name")
@project_option
def trust(name: str, project: Path | None) -> int:
    """Read the playbook NAME, see what changed since it was last trusted, and trust just these bytes.

    What it runs and may do comes first. A text longer than a screen is shown when you type `read`, or where the output
    is piped. It asks on the terminal itself; nothing else can answer.

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
    text = list(store.describe_change(before, folder))
    _echo_effects(chosen, "differs from what was trusted before" if before else "was not trusted before")
    _echo_files(before, folder)
    _echo_findings(folder)
    _confirm(name, text)
    try:
        store.trust(config.state_dir, folder, repository=bound_to)
    except store.TrustStoreUnreadable as error:
        raise unreadable(error) from None
    click.echo(f"{name} is trusted as it is now.")
    prepare(chosen, config.state_dir)
    click.echo(f"To run it: {plain(example_call(chosen))}")
    return 0


def _confirm(name: str, text: list[str]) -> None:
    """Return where a person has typed the name; the whole text is theirs to read before. Raises PolicyRefused."""
    from mcp_tierkit.playbook.trust import ask_on_terminal, has_terminal

    read = "read" if name != "read" else "show"
    is_held_back = has_terminal() and len(text) > SCREEN
    question = f"Type {name} to trust these bytes: "
    if is_held_back:
        typed = ask_on_terminal(f"Type {name} to trust these bytes, or {read} to see them first ({len(text)} lines): ")
    if not is_held_back or typed == read:
        click.echo("\n" + "\n".join(text) + "\n")
        typed = ask_on_terminal(question)
    if typed is None:
        raise PolicyRefused(
            f"{name} was not trusted: there is no terminal to ask on. Nothing was changed.",
            next_step="Run this command yourself in a terminal and type the name.",
        )
    if typed != name:
        raise PolicyRefused(
            f"{name} was not trusted: {plain(typed[:40]) or 'nothing'} was typed, and only its name trusts it. "
            "Nothing was changed.",
            next_step=f"Run this again and type {name}.",
        )


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


def _echo_files(before: Folder | None, folder: Folder) -> None:
    """How much there is to read, what of it is new, and whether any of it cannot be seen."""
    from mcp_tierkit.playbook.trust import hidden_in

    lines = sum(entry.data.count(b"\n") for entry in folder.files)
    click.echo(f"  files: {len(folder.files)}, {counted(lines, 'line')}")
    if before:
        old, new = ({entry.path: entry for entry in one.entries} for one in (before, folder))
        changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        click.echo(f"  changed since it was trusted: {plain(', '.join(changed)) or 'nothing'}")
    if hidden := hidden_in(folder):
        click.echo(f"  CHARACTERS THAT CANNOT BE SEEN, in {plain(', '.join(hidden))}: the text writes them out")


def _echo_findings(folder: Folder) -> None:
    from mcp_tierkit.playbook.lint import lint

    if count := len(lint(folder)):
        click.echo(f"  lint: {counted(count, 'finding')}; tierkit playbook lint {folder.name} says which")


def _runs(chosen: Playbook) -> Iterator[str]:
    """What is started, as far as a few lines can tell it."""
    from mcp_tierkit.playbook.command import kept_command

    run = chosen.contract.run
    if run is None:
        return
    if command := kept_command(chosen):
        first, *more = plain(command, lines=True).split("\n")
        yield f"  runs: {first}" + (f"   ({counted(len(more), 'more line')} in scripts/command.sh)" if more else "")
        yield f"  through {run.script}, as tierkit playbook new --from-command writes it"
    else:
        lines = (chosen.folder.read(run.script) or b"").count(b"\n")
        yield f"  runs: {plain(run.script)} ({run.runtime}, {counted(lines, 'line')})"


def _echo_effects(chosen: Playbook, standing: str) -> None:
    from mcp_tierkit.playbook.load import ModelRules

    effects = chosen.contract.effects
    click.echo(f"{chosen.name} {chosen.contract.version} {standing}.")
    for line in _runs(chosen):
        click.echo(line)
    click.echo(
        f"  changes files: {'no' if effects.read_only else 'yes, ' + plain(', '.join(effects.writes) or 'none named')}"
    )
    click.echo(f"  network: {'yes, where your configuration allows it' if effects.network else 'no'}")
    if effects.network and effects.may_destroy:
        click.echo("  what it does outside may not be taken back")
    if rules := chosen.contract.model or (ModelRules() if chosen.contract.kind == "skill" else None):
        click.echo(
            f"  asks a model: yes, one call of the {rules.tier} tier, two at most; what it is given is sent there"
        )
    if chosen.contract.run and chosen.contract.run.env:
        click.echo(f"  is given the variables: {', '.join(chosen.contract.run.env)}")
