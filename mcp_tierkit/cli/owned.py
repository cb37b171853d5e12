"""The configuration that a command about one task works by: that of the task's own project, wherever it is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcp_tierkit.cli.options import told_beside

if TYPE_CHECKING:
    from mcp_tierkit.config import Config


def config_for(task_id: str, project: Path | None) -> Config:
    """The configuration of the project that is named, else of the task's own. Raises NotFound for an unknown task."""
    from mcp_tierkit.config import load_config

    return load_config(project=str(project)) if project is not None else config_of(_told(task_id))


def config_to_undo(task_id: str, project: Path | None) -> Config:
    """The same for what must work with damaged settings or a damaged ledger too: the journal knows the project."""
    from mcp_tierkit.errors import InvalidInput, LedgerError, NotFound
    from mcp_tierkit.journal import project_of
    from mcp_tierkit.places import find_places

    if project is None:
        try:
            project = Path(_told(task_id))
        except (LedgerError, NotFound):
            project = project_of(find_places(os.environ).state_dir, task_id)
            if project is None:
                raise
    try:
        return config_of(str(project))
    except InvalidInput as refusal:
        bare = config_of(str(project), heeds_settings=False)
        click.echo(f"Going on without settings. {told_beside(refusal)}", err=True)
        return bare


def config_of(project: str, *, heeds_settings: bool = True) -> Config:
    """The configuration of a project; of one that is gone, what the user alone has set: its figures outlive it."""
    from mcp_tierkit.config import load_config
    from mcp_tierkit.places import find_places, make_private

    if Path(project).is_dir():
        return load_config(project=project, heeds_settings=heeds_settings)
    state = find_places(os.environ).state_dir
    make_private(state)
    config = load_config(project=str(state), heeds_settings=heeds_settings)
    return config.model_copy(update={"project": Path(project)})


def _told(task_id: str) -> str:
    """The task's project by the ledger's word."""
    from mcp_tierkit.ledger.report import reading, task_summary
    from mcp_tierkit.places import find_places

    with reading(find_places(os.environ).ledger_url) as conn:
        return task_summary(conn, task_id).project
