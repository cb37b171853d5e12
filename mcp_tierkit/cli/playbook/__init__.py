"""`tierkit playbook`: make, check, trust, run, list and show playbooks."""

from __future__ import annotations

import click

from mcp_tierkit.cli.playbook.authoring import lint, new, test
from mcp_tierkit.cli.playbook.reading import list_, show
from mcp_tierkit.cli.playbook.running import run
from mcp_tierkit.cli.playbook.trusting import trust, untrust
from mcp_tierkit.cli.suggest import suggest


@click.group()
def playbook() -> None:
    """List, make, check, trust and run playbooks: solved tasks that run without a model.

    \b
    Example:
      tierkit playbook new quick-tests --from-command "pytest -q"
      tierkit playbook run changelog-from-git from_ref=v1.0.0
    """


for command in (list_, show, new, lint, test, trust, untrust, run, suggest):
    playbook.add_command(command)
