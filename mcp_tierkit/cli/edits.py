"""`tierkit edits`: the edit reader alone, for scripts and for a look at what a reply would do."""

from __future__ import annotations

from pathlib import Path

import click

from mcp_tierkit.cli.options import json_option, print_json
from mcp_tierkit.edits import apply_reply
from mcp_tierkit.errors import InvalidInput, NotFound
from mcp_tierkit.workspace import MAX_WALK, Workspace


@click.group()
def edits() -> None:
    """Read a model's reply as edits, without the rest.

    \b
    Example:
      tierkit edits apply reply.txt --root . --json
    """


@edits.command()
@click.argument("reply_file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--root",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the files.",
)
@json_option
def apply(reply_file: Path, root: Path, as_json: bool) -> None:
    """Print what a reply makes of the files below ROOT; nothing is written.

    With --json: each changed path with its new text, null for a deleted file. A reply that cannot be read with
    certainty is refused with exit code 1.

    \b
    Example:
      tierkit edits apply reply.txt --root . --json
    """
    changed = apply_reply(_text(reply_file), _files(Workspace(root.resolve())))
    if as_json:
        print_json(dict(sorted(changed.items())))
        return
    for path, text in sorted(changed.items()):
        click.echo(f"deleted {path}" if text is None else f"changed {path} ({len(text.splitlines())} lines)")


def _text(reply_file: Path) -> str:
    try:
        with click.open_file(str(reply_file), "rb") as file:
            content: bytes = file.read()
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{reply_file.name} is not UTF-8 text. No edit was read.", next_step="Save the reply as UTF-8."
        ) from None


def _files(workspace: Workspace) -> dict[str, str]:
    """Every readable text file; what is denied, binary or too large is as if it were not there."""
    found = {}
    for path in workspace.expand(("**",), most=MAX_WALK):
        try:
            found[path] = workspace.text(path)
        except (InvalidInput, NotFound):
            continue
    return found
