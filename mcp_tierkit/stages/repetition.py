"""Work that comes again: what is worth a playbook, and what running one has saved. Reads the ledger, calls no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from pydantic import Field

from mcp_tierkit.config import Config
from mcp_tierkit.ledger.report import PlaybookTotal, playbook_totals, reading
from mcp_tierkit.ledger.solved import solved_tasks
from mcp_tierkit.playbook.load import find
from mcp_tierkit.repeats import Repeat, Solved, find_repeats
from mcp_tierkit.stages.playbook import open_shelf
from mcp_tierkit.stages.standing import standing
from mcp_tierkit.types import Record


class Figures(Record):
    """How a playbook has done in this repository."""

    runs: int = 0
    ok: int = 0
    last_run: str | None = None
    saved_nanousd: int | None = None


class Suggestions(Record):
    """Repeated jobs, and how much was looked at to find them."""

    since: str
    looked_at: int
    solved: int
    gone: int = Field(default=0, description="Applied, but no longer in the files.")
    repeats: tuple[Repeat, ...]


def suggest(config: Config, *, since: str, least: int = 3, all_projects: bool = False) -> Suggestions:
    """Jobs that were solved `least` times or more since then, in this repository or in all.

    `playbook` of one names the trusted playbook that its newest goal matches already.
    """
    with reading(config.ledger_url) as conn:
        where = None if all_projects else str(config.repository)
        gone = standing(conn, config.state_dir, since=since, repository=where).gone
        tasks, looked_at = solved_tasks(conn, repository=where, since=since, gone=gone)
    taken = {found.name for found in find(config.project, config.user_dir)}
    repeats = find_repeats(tasks, least=least, taken=taken)
    phrases, goals = open_shelf(config).phrases, {task.task_id: task.goal for task in tasks}
    matched = (phrases.match(goals[repeat.task_ids[0]]) for repeat in repeats)
    told = tuple(
        repeat.model_copy(update={"playbook": match.name}) if match else repeat
        for repeat, match in zip(repeats, matched, strict=True)
    )
    return Suggestions(since=since, looked_at=looked_at, solved=len(tasks), gone=len(gone), repeats=told)


def playbook_figures(config: Config) -> Mapping[str, Figures]:
    """The figures of each playbook that ever ran in this repository, by name.

    Money saved is the number of runs that ended ok, times the median cost of the tasks that a model solved here and
    whose goals the playbook's own phrases match, less what its runs cost. None where no such task has a known cost,
    or the cost of a run is unknown: nothing is saved by guessing.
    """
    with reading(config.ledger_url) as conn:
        totals = playbook_totals(conn, repository=str(config.repository))
        gone = standing(conn, config.state_dir, repository=str(config.repository)).gone if totals else ()
        totals = playbook_totals(conn, repository=str(config.repository), gone=gone) if gone else totals
        tasks, _ = solved_tasks(conn, repository=str(config.repository), gone=gone) if totals else ((), 0)
    costs = _costs_before(config, tasks)
    return {total.playbook: _figures(total, costs.get(total.playbook, [])) for total in totals}


def _costs_before(config: Config, tasks: Sequence[Solved]) -> Mapping[str, list[int]]:
    """What tasks cost that a trusted playbook could have done, by its name."""
    phrases, costs = open_shelf(config).phrases, dict[str, list[int]]()
    for task in tasks:
        if task.cost_nanousd is not None:
            for name in phrases.matches(task.goal):
                costs.setdefault(name, []).append(task.cost_nanousd)
    return costs


def _figures(total: PlaybookTotal, costs: Sequence[int]) -> Figures:
    is_known = costs and total.cost_nanousd is not None
    saved = total.ok * round(median(costs)) - (total.cost_nanousd or 0) if is_known else None
    return Figures(runs=total.runs, ok=total.ok, last_run=total.last_run, saved_nanousd=saved)
