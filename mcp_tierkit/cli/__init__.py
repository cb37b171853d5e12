"""The command line: one table of commands, each loaded when it is called, and one place where failures become text."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import click

from mcp_tierkit import __version__
from mcp_tierkit.errors import TierkitError

# name -> (where it lives, its line in the list). The lines stand here so that `--help` imports no command.
COMMANDS = {
    "serve": ("mcp_tierkit.cli.serve:serve", "Serve the six tools to an MCP client."),
    "init": ("mcp_tierkit.cli.init:init", "Add the server to a client's configuration."),
    "doctor": ("mcp_tierkit.cli.doctor:doctor", "Find what is wrong with the set-up, and say how to mend it."),
    "demo": ("mcp_tierkit.cli.demo:demo", "Show a whole delegated task on a small real project."),
    "plan": ("mcp_tierkit.cli.work:plan", "Decide what to do with a task before anything is spent."),
    "draft": ("mcp_tierkit.cli.work:draft", "Have a task drafted, checked and applied when green."),
    "review": ("mcp_tierkit.cli.work:review", "Review a change: checks first, then a model."),
    "task": ("mcp_tierkit.cli.work:task", "Show, wait for, or cancel a task."),
    "undo": ("mcp_tierkit.cli.work:undo", "Take an applied change back, byte for byte."),
    "route": ("mcp_tierkit.cli.work:route", "Show which rule decides about a task; spends nothing."),
    "estimate": ("mcp_tierkit.cli.estimate:estimate", "Show what a piece of work would cost on each route."),
    "report": ("mcp_tierkit.cli.report:report", "Show what was spent, on what, and by which models."),
    "outcome": ("mcp_tierkit.cli.score:outcome", "Say what became of a task's change, and see its scorecard."),
    "score": ("mcp_tierkit.cli.score:score", "Score a task, and say whether delegating it helped."),
    "checklist": ("mcp_tierkit.cli.score:checklist", "Answer five questions: is this way of working ready to spread?"),
    "audit": ("mcp_tierkit.cli.audit:audit", "Show what your coding agent itself cost, and what to do about it."),
    "prices": ("mcp_tierkit.cli.prices:prices", "List known prices, their source and their age."),
    "playbook": ("mcp_tierkit.cli.playbook:playbook", "List, check, trust and run playbooks."),
    "edits": ("mcp_tierkit.cli.edits:edits", "Read a model's reply as edits, without the rest."),
}


@dataclass(frozen=True)
class Invocation:
    """How the program was started; commands find it as `click.Context.obj`."""

    prog: str = "tierkit"
    wire_fd: int | None = None


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: tierkit demo, then tierkit init --client claude-code",
)
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Cheaper hands for a coding agent, and a referee for what they do.

    As `mcp-tierkit` without arguments it serves MCP on stdin and stdout.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False  # What click prints, here and in each command; rich sees to that by itself.


def run(args: Sequence[str], *, prog: str = "tierkit", wire_fd: int | None = None) -> int:
    """Run one command line and return its exit code: 0 fine, 1 a finding or failure, 2 wrong usage, 3 refused."""
    try:
        value = main.main(list(args), prog_name=prog, standalone_mode=False, obj=Invocation(prog, wire_fd))
    except TierkitError as refusal:
        click.echo(f"{refusal.what} {refusal.shell_step or refusal.next_step}", err=True)
        return refusal.exit_code
    except click.ClickException as misuse:
        misuse.show()
        return misuse.exit_code
    except click.Abort:
        return 130
    return value if isinstance(value, int) else 0
