"""The lists of the page: what cost most, playbooks, the newest tasks, and what the words mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from mcp_tierkit.amounts import count, dollars, percent, tokens
from mcp_tierkit.ledger.report import PlaybookTotal, TaskSummary, Total
from mcp_tierkit.ledger.spending import CostlyTask
from mcp_tierkit.ledger.told import NEWEST, Told
from mcp_tierkit.page import said
from mcp_tierkit.page.charts import bar
from mcp_tierkit.page.parts import Child, Html, el, foreign
from mcp_tierkit.page.sections import card, table
from mcp_tierkit.scorecard import Scorecard

MOST = 8
NAME = 48
COLUMNS = (
    ("Begun", "text"), ("Project", "text"), ("What was asked", "text"), ("How it ended", "text"), ("Spent", "number"),
    ("Time", "number"), ("Rewrites", "number"), ("Comments", "number"), ("Defects", "number"), ("Worth it?", "text"),
)  # fmt: skip
WORDS = (
    ("Tier", "a class of models that you set up: cheap, mid or strong."),
    ("Token", "the piece of text that models read and write, and are paid by; about four letters of English."),
    ("Playbook", "a trusted script that does a task of a known kind without a model."),
    ("Saved", "an estimate from receipts: what your agent would have spent alone, less every known dollar spent."),
    ("Quota", "what a subscription lets you use: tokens that cost no dollars by themselves."),
    ("Not known", "nobody said what a call cost or used. It is counted beside the sums and never taken for free."),
    ("Rewrites, comments, defects", "drafts made again; remarks of reviews; faults that were reported later."),
)


def rankings(told: Told) -> list[Html]:
    """Types of task, models, projects and single tasks by what they cost."""
    made = [
        _ranking("What kind of work it was", "type of task", told.by_category),
        _ranking("Which models answered", "model, as it named itself, or else as it was asked for", told.by_model),
    ]
    if len(told.by_project) > 1:
        made.append(_ranking("Which projects", "project folder", told.by_project, told.project_names))
    if told.costliest:
        most = told.costliest[0].cost_nanousd
        rows = [
            el("li", el("span", foreign(_short(task.goal)),
                        el("small", _when(task, _short(told.project_names[task.project], NAME))), klass="lines"),
               el("span", said.cost(told.spends[task.task_id]), klass="value"),
               bar(task.cost_nanousd / most, "t-plain"))
            for task in told.costliest[:MOST]
        ]  # fmt: skip
        how = "The single tasks that cost most. One long bar on top: look there first."
        made.append(card("Dearest tasks", how, el("ol", rows, klass="bars tight")))
    return [part for part in made if part is not None]


def _when(task: CostlyTask, project: str) -> str:
    return f"{project} · {_day(task.at)} · {count(task.calls, 'call')} · {task.task_id}"


def _day(at: str) -> str:
    """Such as 3 Nov, of an ISO time."""
    day = date.fromisoformat(at[:10])
    return f"{day.day} {day:%b}"


def _ranking(title: str, by: str, totals: Sequence[Total], names: Mapping[str, str] | None = None) -> Html | None:
    """The longest bar has most dollars; where none were spent at all, most tokens."""
    if not totals:
        return None
    is_in_dollars = any(total.spend.cost_nanousd for total in totals)
    weigh = _cost if is_in_dollars else _tokens
    order = sorted(totals, key=lambda total: (-weigh([total]), total.key))
    shown = len(order) if len(order) <= MOST + 1 else MOST
    rest = order[shown:]
    most = max(weigh(order[:1]), weigh(rest), 1)
    rows = [
        _ranked(
            foreign((names or {}).get(total.key, total.key) or "unknown"), [total], weigh([total]) / most, "t-plain"
        )
        for total in order[:shown]
    ]
    if rest:
        rows.append(_ranked(f"{len(rest)} others", rest, weigh(rest) / most, "t-other"))
    what = "Spend" if is_in_dollars else "Tokens, since no dollars were spent,"
    return card(title, f"{what} by {by}.", el("ol", rows, klass="bars tight"))


def _cost(totals: Sequence[Total]) -> int:
    return sum(total.spend.cost_nanousd for total in totals)


def _tokens(totals: Sequence[Total]) -> int:
    return sum(total.spend.input_tokens + total.spend.output_tokens for total in totals)


def _ranked(name: Child, totals: Sequence[Total], share: float, klass: str) -> Html:
    unpriced = sum(total.spend.unpriced_calls for total in totals)
    calls = count(sum(total.spend.calls for total in totals), "call")
    more = f"{calls}, {unpriced:,} of unknown cost" if unpriced else calls
    quota = sum(total.spend.quota_tokens for total in totals)
    value = said.cost_of([total.spend for total in totals], f"{tokens(quota, 'token')} of quota")
    label = el("span", el("b", name), el("small", more))
    return el("li", label, el("span", value, klass="value"), bar(share, klass))


def playbooks(told: Told) -> list[Html]:
    """Runs of each playbook."""
    if not told.playbooks:
        return []
    order = sorted(told.playbooks, key=lambda total: (-total.runs, total.playbook))
    most = order[0].runs
    rows = [_playbook(total, most) for total in order[:MOST]]
    left = len(order) - len(rows)
    how = "How often each ran. The bright part ended well; the rest declined or failed, and changed nothing."
    more = el("p", f"{left} more ran less often.", klass="how") if left > 0 else None
    return [card("Playbooks", how, el("ol", rows, klass="bars tight"), more)]


def _playbook(total: PlaybookTotal, most: int) -> Html:
    cost = "no tokens" if total.tokens == 0 else dollars(total.cost_nanousd)
    cost = "within a quota" if total.quota_runs == total.runs else cost
    label = el("span", el("b", foreign(total.playbook)), el("small", f"{total.ok:,} ended well · {cost}"))
    drawn = el("span", bar(total.runs / most, "t-faint"), bar(total.ok / most, "t-plain"), klass="over")
    return el("li", label, el("span", count(total.runs, "run"), klass="value"), drawn)


def tasks(told: Told) -> list[Html]:
    """The newest tasks, to be sorted and searched."""
    if not told.tasks:
        return []
    cards = {one.task_id: one for one in told.scorecards}
    head = [
        el("th", el("button", name, type="button"), scope="col", data_kind=kind, aria_sort="none")
        for name, kind in COLUMNS
    ]
    rows = [_task(task, told.project_names[task.project], cards.get(task.task_id)) for task in told.tasks]
    many = told.overview.tasks
    which = f"The newest {NEWEST} of {count(many, 'task')}" if many > len(told.tasks) else _all(many)
    how = (
        f"{which}. Press a heading to sort, type to search. A dash: there is "
        "nothing to judge. Not told yet: tierkit outcome, with the small number, says what became of it; tierkit undo "
        "takes it back."
    )
    search = el(
        "div", el("label", "Search", for_="search"), el("input", id="search", type="search", autocomplete="off"),
        el("span", klass="found", role="status"), klass="search", hidden=True,
    )  # fmt: skip
    caption = el("caption", "The newest tasks, a row each", klass="unseen")
    made = el("table", caption, el("thead", el("tr", head)), el("tbody", rows), klass="tasks")
    seen = el("div", made, klass="scroll", tabindex="0", role="region", aria_label="Newest tasks")
    more = el("button", "Show more", type="button", klass="more", hidden=True)
    inside = (search, seen, more, _checklist(told))
    return [card("Newest tasks", how, *inside, wide=True)]


def _all(tasks: int) -> str:
    return "The one task" if tasks == 1 else f"All of {count(tasks, 'task')}"


def _task(task: TaskSummary, project: str, scored: Scorecard | None) -> Html:
    cells: list[tuple[Child, object]] = [
        (f"{_day(task.created_at)} {task.created_at[11:16]}", task.created_at),
        (foreign(_short(project, NAME)), None),
        ([foreign(_short(task.goal, 140)), " ", el("small", task.task_id)], None),
        (task.ended, None),
        (said.cost_of_task(task), task.spend.cost_nanousd if said.known(task.spend).startswith("$") else None),
        *_scores(scored),
    ]
    made = []
    for (label, kind), (cell, value) in zip(COLUMNS, cells, strict=True):
        klass = f"{kind} none" if cell == said.NONE else kind
        made.append(el("td", cell, data_label=label, data_value=value, klass=klass))
    return el("tr", made)


def _scores(scored: Scorecard | None) -> list[tuple[Child, object]]:
    """The columns of a scorecard; a dash where nobody knows."""
    if scored is None:
        return [(said.NONE, None)] * 5
    counts = [
        (said.NONE if one is None else f"{one:,}", one) for one in (scored.rewrites, scored.comments, scored.defects)
    ]
    worth = said.worth(scored)
    told = worth if worth == said.NONE else el("span", worth, title=scored.why)
    return [(said.time(scored.wall_s), scored.wall_s), *counts, (told, None)]


def _checklist(told: Told) -> Html | None:
    """Five questions about these tasks, and what reviews keep finding."""
    known = [one for one in told.checklist if one.answer is not None]
    if not known and not told.patterns:
        return None
    rows = [
        (one.question, {"strong": "yes", "weak": "not yet"}.get(one.answer or "", "too few tasks to say"),
         f"{one.good} of {one.of}")
        for one in told.checklist
    ]  # fmt: skip
    found = [el("li", f"{one.klass}, {count(one.times, 'time')}: {one.suggestion}") for one in told.patterns]
    again = [el("h3", "What reviews keep finding"), el("ul", found, klass="plain")] if found else None
    title = "Does delegating work here?"
    return el("div", el("h3", title), table(title, ("Question", "Answer", "Tasks"), rows), again)


def notes(told: Told) -> list[Html]:
    """What the words mean, and what is not in the figures."""
    words = [[el("dt", word), el("dd", what)] for word, what in WORDS]
    parts = []
    if told.savings.cache_elsewhere_nanousd:
        taken = told.savings.cache_elsewhere_nanousd
        did = f"took {dollars(taken)} off" if taken > 0 else f"put {dollars(-taken)} on"
        parts.append(f"A provider's cache also {did} tasks whose saving in dollars is not known.")
    if hits := [hit for hit in told.cache_hits if hit.hit_rate is not None]:
        read = sum(hit.input_tokens for hit in hits)
        share = percent(sum(hit.cached_tokens for hit in hits) / read if read else None)
        parts.append(f"{share} of the input came from a provider's cache, over the calls that say.")
    if told.prompt_changes:
        last = told.prompt_changes[-1]
        parts.append(
            f"The text of a prompt changed {count(len(told.prompt_changes), 'time')} (last on {_day(last.at)}, from "
            f"{last.before} to {last.after}): figures from before and after it are of different prompts."
        )
    more = el("p", " ".join(parts), klass="how") if parts else None
    return [
        card("What the words mean", "All amounts are US dollars; all days are UTC.", el("dl", words), more, wide=True)
    ]


def _short(text: str, most: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
