"""How `tierkit audit` looks: tables with small bars on a terminal, plain lines in a pipe."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

import click

from mcp_tierkit.audit.money import dollars
from mcp_tierkit.tables import packaged

if TYPE_CHECKING:
    from mcp_tierkit.audit.groups import Group, Handed
    from mcp_tierkit.audit.tell import Audit, Line, TaskLine
    from mcp_tierkit.transcripts.read import Reading

Rows = Sequence[Sequence[str]]
TYPED = "what to type"
_COMMAND = re.compile(r"[.:] (tierkit .*)")
_WIDE = ("first line", "same work")
_RIGHT = (
    "USD", "calls", "tokens", "read again", "share", "times", "could save a month", "results", "sub-agents",
    "USD a month",
)  # fmt: skip
_SPARED = ("", "sub-agents", "begun", "calls", "USD a month")
_ROOMY = 110
"""Columns of a terminal. In a narrower one, tables with sentences go without their bars and lesser figures."""
_BAR = 16
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEFT_OUT = {
    "broken": "broken lines",
    "half": "half-written last lines",
    "long": "lines over 8 MB",
    "large": "files over 32 MB in one piece",
    "undated": "calls without a time",
    "odd": "counts that cannot be told",
    "unreadable": "unreadable files or folders",
    "foreign": "files that are no transcript",
    "packed": "compressed files",
    "links": "links, which are not followed",
    "not_files": "pipes or devices",
}


def show(found: Audit, read: Reading, top: int, *, seconds: float, is_subscription: bool, problem: str) -> None:
    """All of it, the figure that matters first. `problem` is why the ledger could not be read."""
    if not found.total.calls:
        _show_nothing(found, read)
        _show_handed(found, top, problem)
        return
    _head(found, is_subscription=is_subscription)
    _table("By day", ("day", "USD", "", "calls", "tokens"), _barred(found.by_day[-max(top, 14) :]))
    _table("By model", ("model", "USD", "", "calls", "tokens"), _barred(found.by_model[:top]))
    _table("By project", ("project", "USD", "", "calls", "tokens"), _barred(found.by_project[:top], short=True))
    tools = ("tool", "USD", "", "share", "results", "tokens", "read again")
    _table("What tools put into the context, estimated", tools, _tools(found, top))
    head = ("session", "begun", "project", "USD", "", "calls", "sub-agents", "first line")
    _table("Dearest tasks", head, _tasks(found.tasks[:top]))
    groups = ("times", "USD", "could save a month", "same work", TYPED)
    _table("The same work again and again: worth a playbook", groups, list(map(_group, found.repeated[:top])))
    _table("Needed no model: a command does it", groups, list(map(_group, found.needless[:top])))
    _table("Handed to a cheaper model: what the asking cost", ("task", "USD", "", "calls", "tokens"),
           _barred(found.delegated[:top]))  # fmt: skip
    _show_handed(found, top, problem)
    _foot(found, read, seconds)


def _show_handed(found: Audit, top: int, problem: str) -> None:
    head = ("times", "calls", "USD", "USD a month", "could save a month", "same work", TYPED)
    title = "Handed to cheaper models again and again: worth a playbook"
    _table(title, head, list(map(_repeated, found.handed[:top])))
    if problem:
        _say(f"The ledger of what was handed over could not be read: {problem}")


def show_tasks(tasks: Sequence[TaskLine]) -> None:
    """One session: its tasks in order."""
    first = tasks[0]
    total, unpriced = sum(task.cost_nanousd for task in tasks), sum(task.unpriced_calls for task in tasks)
    click.echo(f"Session {first.session}, {_printable(first.project)}: {_amount(total, unpriced)} at API prices")
    _table("Tasks", ("session", "begun", "project", "USD", "", "calls", "sub-agents", "first line"), _tasks(tasks))


def _head(found: Audit, *, is_subscription: bool) -> None:
    total, clients = found.total, ", ".join(found.versions)
    is_known = total.cost_nanousd or not total.unpriced_calls
    money = f"{_amount(total.cost_nanousd, total.unpriced_calls)} at API prices" if is_known else "Cost unknown"
    counted = f"{_many(total.calls, 'call')} in {_many(found.session_count, 'session')} of {clients}"
    _say(f"{money}, {found.first_day} to {found.last_day}: {counted}", bold=True)
    day, tokens = total.cost_nanousd // found.days, _whole(total)
    pace = f"{dollars(day)} a day, {dollars(day * 30)} a month at this pace"
    cached, subs = total.cache_read / (tokens or 1), found.sub_agents.cost_nanousd / (total.cost_nanousd or 1)
    read = f"{_tokens(tokens)} tokens, {cached:.0%} read from a cache"
    _say(f"{pace}; {read}; sub-agents {subs:.0%} of the cost" if is_known else read)
    if is_subscription:
        _say("You pay by subscription: dollars are what the API would have charged, not your bill.")
    for number, told in enumerate(found.next, 1):
        if number == 1:
            _say("Do next:")
        _step(number, told)
    if sys.stdout.isatty():
        click.echo()


def _show_nothing(found: Audit, read: Reading) -> None:
    click.echo(f"No calls of a coding agent from {found.since} on were found here. Looked in:")
    for root in read.roots:
        click.echo(f"  {root.path} ({'there' if root.path.exists() else 'not there'}; {root.variable} names another)")
    click.echo("Look further back with --days 365. To see what a delegated task costs: tierkit demo")
    _left_out(read, found.misdated)


def _foot(found: Audit, read: Reading, seconds: float) -> None:
    whole = f"{_many(read.files, 'file')}, {read.bytes / 1e6:,.0f} MB"
    notes = [f"Read {whole}, in {seconds:.1f} s. Nothing was written or sent."]
    if copies := found.copies + read.counts["repeated"]:
        notes.append(f"Rows of an answer that is counted already: {copies:,}.")
    if found.unknown_models:
        models = ", ".join(_printable(model) for model in found.unknown_models[:8])
        calls = _many(found.total.unpriced_calls, "call")
        notes.append(f"No known price, so not in the dollars: {calls} of {models}.")
    if found.uncompared_tasks:
        notes.append(f"{found.uncompared_tasks:,} older tasks were not compared for repeated work.")
    notes += _newer(found)
    if not sys.stdout.isatty():  # There a table or a command ends with an empty line.
        click.echo()
    for note in notes:
        _say(note)
    _left_out(read, found.misdated)


def _newer(found: Audit) -> list[str]:
    """Versions of a client that came after those whose files this reader was held against."""
    tables = {"Claude Code": packaged("audit")["claude"]["newest"], "Codex": packaged("audit")["codex"]["newest"],
              "opencode": packaged("agents")["opencode"]["newest"]}  # fmt: skip
    told = []
    for client, versions in found.versions.items():
        newer = [one for one in versions if _number(one) > tuple(tables[client])]
        if newer:
            checked = ".".join(map(str, tables[client]))
            told.append(
                f"{client} {_printable(newer[-1])} is newer than {checked}, which this was checked with: compare a day."
            )
    return told


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def _left_out(read: Reading, misdated: int) -> None:
    told = [f"{read.counts[name]:,} {words}" for name, words in _LEFT_OUT.items() if read.counts[name]]
    told += [f"{misdated:,} calls on days to come or that there are not"] if misdated else []
    unknown = {name: count for name, count in read.counts.items() if name.startswith("unknown row")}
    if unknown:
        kinds = ", ".join(_printable(name.partition(": ")[2]) for name in sorted(unknown)[:5])
        told.append(f"{sum(unknown.values()):,} rows of kinds not known here ({kinds})")
    if told:
        _say("Left out: " + "; ".join(told) + ".")


def _barred(lines: Sequence[Line], *, short: bool = False) -> Rows:
    largest = max((line.cost_nanousd for line in lines), default=0)
    return [
        (PurePath(line.key).name or "unknown" if short else line.key, _amount(line.cost_nanousd, line.unpriced_calls),
         _bar(line.cost_nanousd, largest), f"{line.calls:,}", _tokens(_whole(line)))
        for line in lines
    ]  # fmt: skip


def _tools(found: Audit, top: int) -> Rows:
    lines = found.by_tool[:top]
    largest = max((line.cost_nanousd for line in lines), default=0)
    return [
        (line.key, dollars(line.cost_nanousd), _bar(line.cost_nanousd, largest),
         "-" if line.share is None else f"{line.share:.0%}", f"{line.results:,}", _tokens(line.tokens),
         _tokens(line.read_again_tokens))
        for line in lines
    ]  # fmt: skip


def _tasks(tasks: Sequence[TaskLine]) -> Rows:
    largest = max((task.cost_nanousd for task in tasks), default=0)
    return [
        (task.session[:8], task.at[5:16].replace("T", " "), PurePath(task.project).name,
         _amount(task.cost_nanousd, task.unpriced_calls), _bar(task.cost_nanousd, largest), f"{task.calls:,}",
         f"{task.sub_agent_calls:,}", task.prompt or "(no prompt)")
        for task in tasks
    ]  # fmt: skip


def _group(group: Group) -> Sequence[str]:
    month = f"{dollars(group.saving.month_low_nanousd)} to {dollars(group.saving.month_high_nanousd)}"
    return f"{group.count}", _amount(group.cost_nanousd, group.unpriced_calls), month, group.phrase, group.next


def _repeated(group: Handed) -> Sequence[str]:
    cost = dollars(group.cost_nanousd) + (f" + {group.unpriced} unpriced" if group.unpriced else "")
    month, spared = dollars(group.month_nanousd), dollars(group.saving_month_nanousd)
    return f"{group.count}", f"{group.calls}", cost, month, spared, group.phrase, group.next


def _amount(cost: int, unpriced: int) -> str:
    """What is known, and that there is more."""
    if unpriced and not cost:
        return f"{unpriced:,} unpriced"
    return dollars(cost) + (f" + {unpriced:,} unpriced" if unpriced else "")


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _whole(line: Line) -> int:
    return line.input + line.cache_read + line.cache_write_5m + line.cache_write_1h + line.output


def _tokens(count: int) -> str:
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e6:,.1f} M" if count >= 1_000_000 else f"{count / 1e3:,.0f} k"


def _bar(part: int, largest: int) -> str:
    eighths = round(part * _BAR * 8 / largest) if largest else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _say(text: str, *, bold: bool = False) -> None:
    click.secho("\n".join(_wrapped(text, "")), bold=bold)


def _step(number: int, told: str) -> None:
    """One thing to do. On a terminal the command at its end has a line of its own, which can be copied whole."""
    why, command = told, ""
    if sys.stdout.isatty() and (found := _COMMAND.search(told)):
        why, command = told[: found.start(1)].rstrip(), _printable(found[1])
    first, *rest = _wrapped(f"{number}. {why}", "     ")
    click.echo("\n".join([f"  {first}", *rest]))
    if command:
        click.secho(f"     {command}", fg="cyan")


def _wrapped(text: str, indent: str) -> list[str]:
    """Lines that fit the terminal; in a pipe one, as long as it is."""
    text = _printable(text)
    if not sys.stdout.isatty():
        return [text]
    return textwrap.wrap(text, max(_width() - len(indent), 30), subsequent_indent=indent, break_on_hyphens=False)


def _width() -> int:
    return shutil.get_terminal_size().columns


def _printable(text: str) -> str:
    """Prompts and names come from elsewhere: nothing of them may steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def _table(title: str, head: Sequence[str], rows: Rows) -> None:
    """On a terminal, what to type stands below the table: in a column a command would be broken."""
    if not rows:
        return
    clean = [[_printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        _plain(title, head, clean)
    elif head[-1] != TYPED:
        _rich(title, head, clean)
    else:
        _rich(title, head[:-1], [row[:-1] for row in clean])
        for row in clean:
            click.secho(f"  {row[-1]}", fg="cyan")
        click.echo()


def _plain(title: str, head: Sequence[str], rows: Rows) -> None:
    """Columns without the bars."""
    kept = [at for at, name in enumerate(head) if name]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in kept]
    click.echo(f"\n{title}")
    for row in (head, *rows):
        click.echo("  ".join(row[at].ljust(width) for at, width in zip(kept, widths, strict=True)).rstrip())


def _rich(title: str, head: Sequence[str], rows: Rows) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, is_wide = Console(), bool(set(_WIDE) & set(head))
    kept = [at for at, name in enumerate(head) if not (is_wide and console.width < _ROOMY and name in _SPARED)]
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, expand=is_wide)
    for at in kept:
        name = head[at]
        justify: Literal["left", "right"] = "right" if name in _RIGHT else "left"
        table.add_column(name, justify=justify, no_wrap=True, style="" if name else "cyan",
                         ratio=1 if name in _WIDE else None, overflow="ellipsis")  # fmt: skip
    for row in rows:
        table.add_row(*(Text(row[at]) for at in kept))
    console.print(table)
