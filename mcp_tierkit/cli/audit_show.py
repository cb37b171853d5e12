"""How `tierkit audit` looks: tables with small bars on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from mcp_tierkit.amounts import count, dollars, tokens
from mcp_tierkit.audit.advice import TO_WRITE
from mcp_tierkit.audit.groups import by_month
from mcp_tierkit.audit.lines import Line
from mcp_tierkit.cli.audit_where import Others, amount, bar, labels, show_where, together
from mcp_tierkit.cli.tables import BAR, Column, Rows, figures, print_table, print_text, printable, words
from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts.read import FAILED

if TYPE_CHECKING:
    from mcp_tierkit.audit.groups import Group, Handed
    from mcp_tierkit.audit.lines import Audit, SessionLine, Step, TaskLine
    from mcp_tierkit.transcripts.read import Reading

_UNREAD = "The ledger of what was handed over could not be read: {}"
_KNOWN = 10
_SUMMED = (*figures("USD"), BAR, *figures("calls", "tokens"))
_FIRST_LINE, _SAME_WORK = Column("first line", is_wide=True), Column("same work", is_wide=True)
_BEGUN, _TYPED = Column("begun", is_spare=True), Column("what to type", is_typed=True)
_PAID = (*figures("USD"), BAR, *figures("calls", "sub-agents", is_spare=True))
_LEFT_OUT = {
    "broken": ("broken line", "broken lines"),
    "half": ("half-written last line", "half-written last lines"),
    "long": ("line over 8 MB", "lines over 8 MB"),
    "large": ("file over 32 MB in one piece", "files over 32 MB in one piece"),
    "undated": ("call without a time", "calls without a time"),
    "odd": ("count that cannot be told", "counts that cannot be told"),
    "unreadable": ("unreadable file or folder", "unreadable files or folders"),
    "foreign": ("file that is no transcript", "files that are no transcript"),
    "packed": ("compressed file", "compressed files"),
    "unpackable": ("compressed session, which zstd would read", "compressed sessions, which zstd would read"),
    "cut": ("compressed file without its end", "compressed files without their ends"),
    "links": ("link, which is not followed", "links, which are not followed"),
    "not_files": ("pipe or device", "pipes or devices"),
}


def show(
    found: Audit, read: Reading, top: int, *, seconds: float, is_subscription: bool, problem: str, is_full: bool = True
) -> None:
    """The figure that matters first, then a screen of where it went, or with `is_full` tables of `top` rows. `problem`
    is why the ledger could not be read."""
    if not found.total.calls:
        _show_nothing(found, read)
        _show_handed(found, top, problem)
        return
    _head(found, is_subscription=is_subscription)
    if is_full:
        _show_tables(found, top)
        _show_handed(found, top, problem)
    else:
        show_where(found)
        if problem:
            say(_UNREAD.format(problem))
    _show_next(found)
    _foot(found, read, seconds, is_full=is_full)


def _show_tables(found: Audit, top: int) -> None:
    print_table("By day", (*words("day"), *_SUMMED), _barred(_latest(found.by_day, top)))
    print_table("By model", (*words("model"), *_SUMMED), _barred(_dearest(found.by_model, top, "models")))
    if len(found.by_client) > 1:
        print_table("By client", (*words("client"), *_SUMMED), _barred(found.by_client))
    named = labels(line.key for line in found.by_project)
    projects = [line.model_copy(update={"key": named[line.key]}) for line in found.by_project]
    print_table("By project", (*words("project"), *_SUMMED), _barred(_dearest(projects, top, "projects")))
    tools = (*words("tool"), *figures("USD"), BAR, *figures("share", "results", "tokens", "read again"))
    print_table("What tools put into the context, estimated", tools, _tools(found, top))
    head = (*words("session"), _BEGUN, *words("project"), *_PAID, _FIRST_LINE)
    title = "Dearest tasks" + (f", {top} of {found.task_count:,}" if found.task_count > top else "")
    print_table(title, head, _tasks(found.tasks[:top], named))
    _show_groups("The same work again and again", found.repeated, top, named)
    _show_groups("Needed no model: a command does it", found.needless, top, named)
    asking = _barred(_dearest(found.delegated, top, "tasks"))
    print_table("Handed to a cheaper model: what the asking cost", (*words("task"), *_SUMMED), asking)


def show_others(wanted: str, others: Sequence[str]) -> None:
    """The projects that there are, those alone that could be meant where there is one."""
    near = [one for one in others if wanted.casefold() in one.casefold()] or others
    for project in near[:_KNOWN]:
        say(f"  {project}")
    if len(near) > _KNOWN:
        say(f"  and {len(near) - _KNOWN:,} more")


def show_sessions(lines: Sequence[SessionLine]) -> None:
    """Sessions to choose from."""
    named = labels(line.project for line in lines)
    rows = [
        (line.short, _minute(line.begun_at), named[line.project], amount(line.cost_nanousd, line.unpriced_calls),
         f"{line.calls:,}", line.prompt or "(no prompt)")
        for line in lines
    ]  # fmt: skip
    head = (*words("session"), _BEGUN, *words("project"), *figures("USD"), *figures("calls", is_spare=True))
    print_table("Sessions", (*head, _FIRST_LINE), rows)


def _show_groups(title: str, groups: Sequence[Group], top: int, named: Mapping[str, str]) -> None:
    head = (*figures("times", "USD", "could save a month"), *words("project"), _SAME_WORK, _TYPED)
    shown = groups[:top]
    more = f", {top} of {len(groups)}" if len(groups) > top else ""
    print_table(title + more, head, [_group(group, named) for group in shown])
    if any(group.by == "write" for group in shown):
        say("`playbook new` with a name alone makes a form: the script in it is yours to write.")
    if any(group.by == "fill" for group in shown):
        say("`playbook test` is for a form that is not filled in yet: it saves nothing until its script does the work.")
    if any(group.by in TO_WRITE for group in shown) and sys.stdout.isatty():
        click.echo()


def _show_handed(found: Audit, top: int, problem: str) -> None:
    head = (*figures("times"), *figures("calls", is_spare=True), *figures("USD"),
            *figures("USD a month", is_spare=True), *figures("could save a month"), _SAME_WORK, _TYPED)  # fmt: skip
    title = "Handed to cheaper models again and again: worth a playbook"
    print_table(title, head, list(map(_repeated, found.handed[:top])))
    if problem:
        say(_UNREAD.format(problem))


def show_tasks(tasks: Sequence[TaskLine]) -> None:
    """One session: its tasks in order."""
    first = tasks[0]
    total, unpriced = sum(task.cost_nanousd for task in tasks), sum(task.unpriced_calls for task in tasks)
    told = f"Session {first.session} of {first.client}, {first.project}: {amount(total, unpriced)} at API prices"
    say(told, is_bold=True)
    rows = [(row[1], *row[3:]) for row in _tasks(tasks, labels(task.project for task in tasks))]
    print_table("Tasks", (_BEGUN, *_PAID, _FIRST_LINE), rows)


def _head(found: Audit, *, is_subscription: bool) -> None:
    total, clients = found.total, ", ".join(line.key for line in found.by_client)
    is_known = total.cost_nanousd or not total.unpriced_calls
    more = f" and {count(total.unpriced_calls, 'call')} of no known cost" if total.unpriced_calls else ""
    money = f"{dollars(total.cost_nanousd)} at API prices{more}" if is_known else "Cost unknown"
    counted = f"{count(total.calls, 'call')} in {count(found.session_count, 'session')} of {clients}"
    when = found.first_day if found.first_day == found.last_day else f"{found.first_day} to {found.last_day}"
    say(f"{money}, {when}: {counted}", is_bold=True)
    day, whole = total.cost_nanousd // found.days, _whole(total)
    is_short = found.days < found.month_days
    month = f"too short for a monthly pace ({count(found.days, 'day')})" if is_short else (
        f"{dollars(by_month(total.cost_nanousd, found.days))} a month at this pace")  # fmt: skip
    pace = f"{dollars(day)} a day, {month}"
    cached, subs = total.cache_read / (whole or 1), found.sub_agents.cost_nanousd / (total.cost_nanousd or 1)
    read = f"{tokens(whole)} tokens, {cached:.0%} read from a cache"
    by_subs = f"; sub-agents {subs:.0%} of the cost" if found.sub_agents.calls else ""
    say(f"{pace}; {read}{by_subs}" if is_known else read)
    if is_subscription:
        say("You pay by subscription: dollars are what the API would have charged, not your bill.")


def _show_next(found: Audit) -> None:
    """What to do, last of all: there a terminal stands when all is told."""
    if found.next:
        click.echo()
        say("Do next:", is_bold=True)
    for number, step in enumerate(found.next, 1):
        _step(number, step)
    click.echo()


def _show_nothing(found: Audit, read: Reading) -> None:
    click.echo(f"No calls of a coding agent from {found.since} on were found here. Looked in:")
    width = max(len(root.client) for root in read.roots)
    for root in read.roots:
        state = "" if root.path.exists() else ": not there"
        click.echo(f"  {root.client:{width}}  {printable(str(root.path), most=None)}{state}")
    *named, last = dict.fromkeys(root.variable for root in read.roots)
    older = read.counts["older"]
    more = f" {count(older, 'older session')} {'was' if older == 1 else 'were'} not looked at." if older else ""
    say(f"Kept elsewhere? Say where in {', '.join(named)} or {last}. Look further back with --days 365.{more}")
    say("To see what a delegated task costs: tierkit demo")
    _left_out(read, found.misdated)


def _foot(found: Audit, read: Reading, seconds: float, *, is_full: bool) -> None:
    whole = f"{count(read.files, 'file')}, {_size(read.bytes)}"
    notes = [f"Read {whole}, in {seconds:.1f} s. Nothing was written or sent."]
    if not is_full:
        notes.append("Days, tasks, repeated work, turns that needed no model: tierkit audit --full")
    elif copies := found.copies + read.counts["repeated"]:
        rows = "1 row repeats an answer" if copies == 1 else f"{copies:,} rows repeat answers"
        notes.append(f"{rows} and {'is' if copies == 1 else 'are'} counted once.")
    if found.days < found.month_days and (found.repeated or found.needless):
        notes.append(f"Savings a month are reckoned as if {count(found.days, 'day')} had been a whole week.")
    if found.unknown_models:
        models = ", ".join(found.unknown_models[:8])
        calls = count(found.calls_without_price, "call")
        notes.append(f"No known price, so not in the dollars: {calls} of {models}.")
    if odd := found.total.unpriced_calls - found.calls_without_price:
        notes.append(f"Without counts that can be true, so not in the dollars: {count(odd, 'call')}.")
    if found.uncompared_tasks:
        notes.append(f"Older tasks that were not compared for repeated work: {found.uncompared_tasks:,}.")
    notes += _newer(found)
    for note in notes:
        say(note)
    _left_out(read, found.misdated)


def _size(octets: int) -> str:
    return f"{octets / 1e6:,.0f} MB" if octets >= 1_000_000 else f"{octets / 1e3:,.0f} kB"


def _newer(found: Audit) -> list[str]:
    """Versions of a client that came after those whose files this reader was held against."""
    tables = {"Claude Code": packaged("audit")["claude"]["newest"], "Codex": packaged("audit")["codex"]["newest"],
              "opencode": packaged("agents")["opencode"]["newest"]}  # fmt: skip
    told = []
    for client, versions in found.versions.items():
        newer = [one for one in versions if _number(one) > tuple(tables[client])]
        if newer:
            checked = ".".join(map(str, tables[client]))
            told.append(f"{client} {newer[-1]} is newer than {checked}, which this was checked with: compare a day.")
    return told


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def _left_out(read: Reading, misdated: int) -> None:
    told = [f"{seen:,} {called[seen != 1]}" for name, called in _LEFT_OUT.items() if (seen := read.counts[name])]
    told += [f"{count(misdated, 'call')} on days to come"] if misdated else []
    unknown = {name: seen for name, seen in read.counts.items() if name.startswith("unknown row")}
    if unknown:
        kinds = ", ".join(name.partition(": ")[2] for name in sorted(unknown)[:5])
        told.append(f"{count(sum(unknown.values()), 'row')} of kinds not known here ({kinds})")
    faults = sorted(name.removeprefix(FAILED) for name in read.counts if name.startswith(FAILED))
    if faults:
        told.append(f"{count(len(faults), 'file')} by a fault of ours ({', '.join(faults[:3])})")
    if told:
        say("Left out: " + "; ".join(told) + ".")


def _dearest(lines: Sequence[Line], top: int, of: str) -> Sequence[Line]:
    """The first, and the others as one line, so that a table adds up."""
    rest = lines[top:]
    return [*lines[:top], together(f"({len(rest):,} other {of})", rest)] if len(rest) > 1 else lines


def _latest(days: Sequence[Line], top: int) -> Sequence[Line]:
    """The last days, and those before them as one line."""
    before = days[:-top]
    return [together(f"{len(before):,} earlier days", before), *days[-top:]] if len(before) > 1 else days


def _barred(lines: Sequence[Line]) -> Rows:
    largest = max((line.cost_nanousd for line in lines if type(line) is not Others), default=0)
    return [
        (line.key, amount(line.cost_nanousd, line.unpriced_calls),
         "" if type(line) is Others else bar(line.cost_nanousd, largest), f"{line.calls:,}", tokens(_whole(line)))
        for line in lines
    ]  # fmt: skip


def _tools(found: Audit, top: int) -> Rows:
    lines = found.by_tool[:top]
    largest = max((line.cost_nanousd for line in lines), default=0)
    return [
        (line.key, dollars(line.cost_nanousd), bar(line.cost_nanousd, largest),
         "-" if line.share is None else f"{line.share:.0%}", f"{line.results:,}", tokens(line.tokens),
         tokens(line.read_again_tokens))
        for line in lines
    ]  # fmt: skip


def _tasks(tasks: Sequence[TaskLine], named: Mapping[str, str]) -> Rows:
    largest = max((task.cost_nanousd for task in tasks), default=0)
    return [
        (task.short, _minute(task.at), named[task.project],
         amount(task.cost_nanousd, task.unpriced_calls), bar(task.cost_nanousd, largest), f"{task.calls:,}",
         f"{task.sub_agent_calls:,}", task.prompt or "(no prompt)")
        for task in tasks
    ]  # fmt: skip


def _minute(at: str) -> str:
    return at[5:16].replace("T", " ")


def _group(group: Group, named: Mapping[str, str]) -> Sequence[str]:
    low, high = dollars(group.saving.month_low_nanousd), dollars(group.saving.month_high_nanousd)
    where = named[group.projects[0]] if len(group.projects) == 1 else f"{len(group.projects)} projects"
    cost = amount(group.cost_nanousd, group.unpriced_calls)
    saving = "-" if group.by == "look" else f"{low} to {high}"
    return f"{group.count}", cost, saving, where, group.phrase, group.next


def _repeated(group: Handed) -> Sequence[str]:
    cost = dollars(group.cost_nanousd) + (f" + {group.unpriced} unpriced" if group.unpriced else "")
    month, spared = dollars(group.month_nanousd), dollars(group.saving_month_nanousd)
    return f"{group.count}", f"{group.calls}", cost, month, spared, group.phrase, group.next


def _whole(line: Line) -> int:
    return line.input + line.cache_read + line.cache_write_5m + line.cache_write_1h + line.output


def _step(number: int, step: Step) -> None:
    """One thing to do. On a terminal what to type has a line of its own, which can be copied whole."""
    if not sys.stdout.isatty():
        say(f"  {number}. {step.why} {step.command}".rstrip())
        return
    print_text([f"  {number}. {step.why}"], indent="     ")
    if step.command:
        click.secho(f"     {printable(step.command, most=None)}", fg="cyan")


def say(text: str, *, is_bold: bool = False) -> None:
    print_text([text], is_bold=is_bold)
