"""What the tools do, for a shell: plan, draft, review, task, undo, route."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click

from mcp_tierkit.calls import DraftCall, OutcomeCall, PlanCall, ReviewCall, TaskCall, read_call
from mcp_tierkit.cli import stopped
from mcp_tierkit.cli.options import (
    client,
    door,
    json_option,
    print_json,
    project_option,
    tell_if_within,
    transcripts_option,
)
from mcp_tierkit.cli.owned import config_for, config_to_undo
from mcp_tierkit.cli.receipt_text import receipt_lines
from mcp_tierkit.types import Record

if TYPE_CHECKING:
    from mcp_tierkit.config import Config

R = TypeVar("R", bound=Record)

GOOD = frozenset({"applied", "ready", "running", "clean", "open", "done", "run_playbook", "single_cheap", "draft"})
"""Statuses, verdicts and decisions that end with exit code 0; any other is a finding and ends with 1."""
REFUSED = frozenset({"over_budget", "stop_rule"})
"""Those that end with 3, as every refusal does."""

NEXT_IN_SHELL = {
    "applied": "Done. To take it back: tierkit undo {task_id}",
    "ready": "Green, not applied. To apply it: git apply {patch}",
    "question": "Plan it again with the answer (tierkit plan ... --assume), then: tierkit draft ID",
    "cancelled": "If it is still wanted, run the same command again.",
    "interrupted": "If it is still wanted, run the same command again.",
    "running": "To wait for it: tierkit task {task_id} --wait 60",
    "single_cheap": "To have it drafted: tierkit draft {task_id}",
    "draft": "To have it drafted: tierkit draft {task_id}",
    "ask": "Plan it again with what is missing, or with --assume.",
    "run_playbook": "To run it: tierkit playbook run NAME KEY=VALUE",
}
"""Of a status, verdict or decision; what is not here reads the same in a shell."""

Ask = Callable[[Any], Awaitable[dict[str, Any]]]
"""A question put to a desk."""
files_option = click.option(
    "--file", "-f", "files", multiple=True, help="Path or glob that may be changed; repeatable."
)
context_option = click.option("--context", "-c", multiple=True, help="Path that may be read, not changed; repeatable.")
check_option = click.option(
    "--check", "-k", "checks", multiple=True, help="Command that proves the change; repeatable."
)
proof_option = click.option("--proof", type=click.Choice(["turns_green", "stays_green"]), default="turns_green")


def filled(kind: type[R], **fields: Any) -> R:
    """The record of a call. Raises InvalidInput that names the fields at fault."""
    return read_call(kind, fields, next_step="See --help for what is wanted.")


def answer(project: Path | None, ask: Ask, *, as_json: bool, task_id: str | None = None) -> int:
    """Ask the desk of one project, that of `task_id` where one is named; print its reply, and give the exit code."""
    from mcp_tierkit.config import load_config

    named = str(project) if project else None
    config, begun = config_for(task_id, project) if task_id else load_config(project=named), list[str]()
    if task_id is None:
        tell_if_within(project, config)
    try:
        reply = anyio.run(_asked, config, ask, begun)
    except KeyboardInterrupt:
        return stopped.tell(config, begun[-1] if begun else None)
    if as_json:
        print_json(reply)
    else:
        _print(reply | {"next": _next(reply)})
    told = reply.get("status") or reply.get("verdict") or reply.get("decision") or "done"
    return 0 if told in GOOD else 3 if told in REFUSED else 1


async def _asked(config: Config, ask: Ask, begun: list[str] | None = None) -> dict[str, Any]:
    """The desk's reply; `begun` is filled with the tasks that it began, also where the command is cancelled."""
    from mcp_tierkit.desk import open_desk
    from mcp_tierkit.kit import open_kit

    with stopped.heard():
        async with open_desk(open_kit(config, door=door())) as desk:
            try:
                return await ask(desk)
            finally:
                (begun if begun is not None else []).extend(desk.jobs.begun)


def _next(reply: dict[str, Any]) -> str:
    """What to do now, in a shell's words; the reply's own speak to an agent."""
    told = str(reply.get("status") or reply.get("verdict") or reply.get("decision"))
    if reply.get("applied") is True:
        told = "applied"
    wanted = NEXT_IN_SHELL.get(told, str(reply["next"]))
    return wanted.format(task_id=reply.get("task_id"), patch=reply.get("patch"))


def _print(reply: dict[str, Any], indent: str = "") -> None:
    """The same record as lines of `name: value`, empty fields left out."""
    for name, value in reply.items():
        if value in (None, "", [], {}, ()):
            continue
        if name == "receipt":
            click.echo(f"{indent}receipt:")
            for line in receipt_lines(value):
                click.echo(f"{indent}  {line}")
        elif isinstance(value, dict):
            click.echo(f"{indent}{name}:")
            _print(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for item in value:
                click.echo(f"{indent}{name}:")
                _print(item, indent + "  ")
        else:
            text = ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
            click.echo(f"{indent}{name}: " + text.replace("\n", f"\n{indent}    "))


async def _show_progress(step: int, message: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"  {message} …", err=True)


@click.command()
@click.argument("task")
@files_option
@context_option
@check_option
@proof_option
@click.option("--step", "steps", multiple=True, help="One step of the plan; repeatable.")
@click.option("--acceptance", multiple=True, help="What must be true afterwards; repeatable.")
@click.option("--out-of-scope", "out_of_scope", multiple=True, help="What must not change; repeatable.")
@click.option("--constraint", "constraints", multiple=True, help="A limit to keep; repeatable.")
@click.option("--assume", multiple=True, help="Answer to an open question; repeatable.")
@click.option("--tier", type=click.Choice(["cheap", "mid", "strong"]), help="Pin the drafting tier.")
@click.option("--latency", type=click.Choice(["interactive", "async"]), default="async", help="interactive: one call.")
@project_option
@json_option
def plan(project: Path | None, as_json: bool, **asked: Any) -> int:
    """Decide what to do with TASK (a sentence, or @path to a text) before anything is spent.

    \b
    Example:
      tierkit plan "Take the discount as a percentage" -f shop/cart.py -k "pytest -q tests/test_cart.py"
    """
    return answer(project, lambda desk: desk.plan_task(filled(PlanCall, **asked), client=client()), as_json=as_json)


@click.command()
@click.argument("task")
@files_option
@context_option
@check_option
@proof_option
@click.option("--never-apply", is_flag=True, help="Leave a green change as a patch.")
@project_option
@json_option
def draft(project: Path | None, task: str, never_apply: bool, as_json: bool, **asked: Any) -> int:
    """Have TASK drafted by a cheap model, proven by the checks, and applied when green.

    TASK is a sentence, @path to a text, or the id that `tierkit plan` printed.

    \b
    Example:
      tierkit draft "Take the discount as a percentage" -f shop/cart.py -k "pytest -q tests/test_cart.py"
      tierkit draft t048213377120
    """
    named: dict[str, Any] = {"task_id": task} if _is_id(task) and not asked["files"] else {"task": task}
    wanted = filled(DraftCall, **named, **asked, apply="never" if never_apply else "if_green")
    return answer(
        project, lambda desk: desk.draft(wanted, client=client(), on_progress=_show_progress), as_json=as_json,
        task_id=wanted.task_id,
    )  # fmt: skip


def _is_id(text: str) -> bool:
    return re.fullmatch(r"t\d{12}", text) is not None


@click.command()
@click.argument("what", default="working_tree")
@click.option("--focus", default="", help="What to look at in particular.")
@project_option
@json_option
def review(project: Path | None, what: str, focus: str, as_json: bool) -> int:
    """Review WHAT: working_tree, staged, a git range, the path of a patch, or a task's id.

    \b
    Example:
      tierkit review staged
      tierkit review main..HEAD --focus "time zones"
    """
    named: dict[str, Any] = {"task_id": what} if _is_id(what) else {"diff": what}
    wanted = filled(ReviewCall, **named, focus=focus)
    return answer(
        project, lambda desk: desk.review(wanted, client=client(), on_progress=_show_progress), as_json=as_json,
        task_id=wanted.task_id,
    )  # fmt: skip


@click.command()
@click.argument("task_id")
@click.option("--wait", "wait_s", type=click.FloatRange(0, 3600), default=0, help="Seconds to wait for it.")
@click.option("--cancel", is_flag=True, help="Stop it, wherever it runs.")
@transcripts_option
@project_option
@json_option
def task(project: Path | None, task_id: str, wait_s: float, cancel: bool, with_transcripts: bool, as_json: bool) -> int:
    """Show, wait for, or cancel the task TASK_ID, also one that another process works on.

    \b
    Example:
      tierkit task t048213377120 --wait 60
      tierkit task t048213377120 --transcripts
    """
    wanted = filled(TaskCall, task_id=task_id, wait_s=wait_s, cancel=cancel)

    async def ask(desk: Any) -> dict[str, Any]:
        reply: dict[str, Any] = await desk.get_task(wanted, client=client(), on_progress=_show_progress)
        is_wanted = with_transcripts or desk.kit.config.caller.transcripts
        return await anyio.to_thread.run_sync(_with_caller, desk.kit.config, reply) if is_wanted else reply

    return answer(project, ask, as_json=as_json, task_id=task_id)


def _with_caller(config: Config, reply: dict[str, Any]) -> dict[str, Any]:
    """The reply with its receipt measured on the caller's side, and a word on whether that could be done."""
    from mcp_tierkit.stages.callers import SOURCE, caller_of, receipt_of

    receipt = reply.get("receipt")
    if receipt is None:
        return {**reply, "transcript": "The task has no receipt yet, so nothing in it could be measured."}
    caller = caller_of(config, reply["task_id"], os.environ)
    if caller is None:
        return {**reply, "transcript": "None on this machine tells of the task: the receipt stands as estimated."}
    measured = receipt_of(config, reply["task_id"], receipt, caller)
    return {**reply, "receipt": measured, "transcript": f"The caller's side is {SOURCE}."}


@click.command()
@click.argument("task_id")
@project_option
@json_option
def undo(project: Path | None, task_id: str, as_json: bool) -> int:
    """Take back the change that TASK_ID applied, byte for byte, wherever this is called. Edits made since to other
    lines stay; where the same lines changed, it refuses and names them. Works whatever tierkit.toml holds, and with a
    damaged ledger too.

    \b
    Example:
      tierkit undo t048213377120
    """
    wanted = filled(OutcomeCall, task_id=task_id, outcome="reverted", undo=True)
    reply = anyio.run(_asked, config_to_undo(task_id, project), lambda desk: desk.record_outcome(wanted))
    if as_json:
        print_json(reply)
    else:
        _print_undone(reply)
    return 0  # What was asked is done; the scorecard's verdict on the task is another matter.


def _print_undone(reply: dict[str, Any]) -> None:
    from mcp_tierkit.cli.tables import printable

    files = ", ".join(printable(path, 200) for path in reply["restored"])
    click.echo(f"Taken back: {files}." if files else "Nothing was left to take back: its files are as before it.")
    if alert := reply.get("alert"):
        click.echo(f"{alert} {reply['next']}", err=True)
    else:
        click.echo(f"Recorded as reverted. What it was worth: tierkit score {reply['task_id']}")


@click.command()
@click.argument("text")
@files_option
@check_option
@json_option
def route(text: str, files: tuple[str, ...], checks: tuple[str, ...], as_json: bool) -> int:
    """Show which rule decides about TEXT. Reads no file, asks no model, writes nothing.

    \b
    Example:
      tierkit route "Fix the OAuth login" -f app/auth/login.py
    """
    from mcp_tierkit.routing import decide

    ruling = decide(text, files=files, has_check=bool(checks))
    if as_json:
        print_json(ruling)
    else:
        _print(ruling.model_dump())
    return 0
