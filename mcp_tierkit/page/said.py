"""What page and terminal say in the same words: the net, what is not in it, what helped, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from mcp_tierkit.amounts import count, dollars, plain, tokens
from mcp_tierkit.ledger.report import TaskSummary
from mcp_tierkit.ledger.spending import Unpriced
from mcp_tierkit.ledger.spent import Spent, together
from mcp_tierkit.ledger.told import Told
from mcp_tierkit.scorecard import Scorecard, was_handed_over
from mcp_tierkit.types import GIVEN, Record

BUDGETS = {"day": "today", "month": "this month", "project": "in this project"}
MOST_STEPS, MOST_UNPRICED = 4, 2
Tone = Literal["gain", "loss"]
NONE, WAITING = "-", "not told yet"
WORTH = {"helped": "helped", "neutral": "neutral", "moved_work": "moved work"}


class Net(Record):
    """What was saved or lost, as the end of a sentence that begins with `words`; no tone where it may be either."""

    words: str
    figure: str
    tone: Tone | None

    @property
    def text(self) -> str:
        return f"{self.words} {self.figure}".strip()


def nets(told: Told) -> list[Net]:
    """The net in dollars, then the one in tokens of the caller's, of those that are known."""
    found = told.savings
    made = []
    if found.net_nanousd is not None:
        made.append(_net(*found.net_nanousd, *(dollars(abs(side)) for side in found.net_nanousd)))
    if found.net_tokens is not None:
        made.append(_net(*found.net_tokens, *(f"{tokens(abs(side), 'token')}" for side in found.net_tokens)))
    return made


def _net(low: int, high: int, low_text: str, high_text: str) -> Net:
    """Of two sides and how large each is."""
    if low == high == 0:
        return Net(words="came out even", figure="", tone=None)
    if low < 0 < high:
        return Net(words="came out between", figure=f"a loss of {low_text} and a saving of {high_text}", tone=None)
    is_gain = low >= 0
    near, far = (low_text, high_text) if is_gain else (high_text, low_text)
    figure = near if near == far else f"{near} to {far}"
    return Net(words="saved" if is_gain else "lost", figure=figure, tone="gain" if is_gain else "loss")


def headline(told: Told) -> Net:
    """The one sentence that matters most, after the word `Delegating`."""
    spend = told.overview.spend
    found = nets(told)
    if not found:
        cost = dollars(spend.cost_nanousd) if spend.cost_nanousd or not spend.quota_calls else "quota, no dollars"
        return Net(words=f"cost {cost};", figure="what it saved is not known", tone=None)
    net = found[0]
    if told.savings.net_nanousd is not None:
        return net
    # Tokens of a subscription and dollars are no one sum: who pays both is told both.
    figure = f"{net.figure} of your agent's quota"
    return net.model_copy(update={"figure": f"{figure}, for {dollars(told.savings.cost_nanousd)}"})


def basis(told: Told) -> Iterator[str]:
    """What the headline rests on, and all that is not in it, in sentences."""
    found, spend = told.savings, told.overview.spend
    if not found.tasks:
        if spend.calls and told.is_caller_named:
            yield "No receipt says what was saved: only reviews, recipes and calls of unknown cost were paid for."
        elif spend.calls:
            yield "No receipt says what was saved: name your agent's model in tierkit.toml, under [caller]."
        return
    of = f"{found.tasks:,} of {count(told.overview.tasks, 'task')}" if told.overview.tasks > 1 else "the one task"
    yield f"Estimated from {of}: what the work would have cost your agent alone, less what handing it over cost it."
    if found.net_nanousd is not None:
        of_all = "its model calls" if told.overview.tasks == 1 else "model calls of all tasks"
        yield f"The {dollars(found.cost_nanousd)} that {of_all} cost is taken off."
    else:
        yield "Dollars and a subscription's quota are no one sum."
    if len(nets(told)) > 1:
        yield f"In quota it {nets(told)[1].text} of your agent's."
    if found.measured_tasks:
        yield f"Your agent's side of {found.measured_tasks:,} was measured in its transcripts."
    yield from _beside(told)


def _beside(told: Told) -> Iterator[str]:
    """What is known to be missing in the net."""
    found, spend = told.savings, told.overview.spend
    missing = []
    if spend.unpriced_calls:
        missing.append(f"{count(spend.unpriced_calls, 'call')} of unknown cost{at_most(spend)}")
    if told.overview.in_flight_calls:
        missing.append(f"{count(told.overview.in_flight_calls, 'call')} in flight")
    if spend.quota_calls:
        missing.append(f"{tokens(spend.quota_tokens, 'token')} of a subscription's quota")
    if (earlier := spend.cost_nanousd - found.cost_nanousd) > 0:
        missing.append(f"{dollars(earlier)} spent in these days on tasks opened before them")
    if found.caller_tokens:
        missing.append(f"{tokens(found.caller_tokens, 'token')} through your agent, of tasks without an estimate")
    if missing:
        yield f"Not in it: {'; '.join(missing)}."


def verdict(told: Told) -> str:
    """How many of the newest results helped, as far as they were judged. Whether it pays is the net's to say."""
    results, counts = len(told.scorecards), told.verdicts
    judged = results - counts["unknown"]
    if not any(card.verdict or worth(card) != NONE for card in told.scorecards):
        return "No verdict yet: there is no result to judge."
    if not judged:
        return f"No verdict yet: nobody said what became of {_results(results)}."
    made = [f"{counts['helped']:,} helped", f"{counts['moved_work']:,} only moved the work"]
    if counts["neutral"]:
        made.insert(1, f"{counts['neutral']:,} did neither")
    newest = f"the newest {count(results, 'result')}" if results > 1 else "the one result"
    return f"Of {newest}, {judged:,} {'is' if judged == 1 else 'are'} judged: {', '.join(made)}."


def uncounted(told: Told) -> Iterator[str]:
    """How many changes were handed over whose rewritten lines nobody has counted for good."""
    waiting = sum(card.draft_status in GIVEN and not card.are_lines_final for card in told.scorecards)
    if waiting:
        what = f"How much of {count(waiting, 'change')} was rewritten is not counted yet"
        yield f"{what}: tierkit checklist counts what is due."


def compared(told: Told) -> Iterator[str]:
    """How far it is known whether changes are still in the files."""
    if told.standing.is_in_part:
        yield f"Whether they are still in the files was looked up for {count(told.standing.looked_at, 'change')} only."


def worth(card: Scorecard) -> str:
    """The verdict; a dash where there is nothing to judge, and what is missing where there is."""
    if card.verdict:
        return WORTH[card.verdict]
    if was_handed_over(card) is None:
        return NONE
    return "not known" if card.outcome or card.are_lines_final else WAITING


def time(seconds: float | None) -> str:
    """Such as 0.4 s, 90 s and 12 min."""
    if seconds is None:
        return NONE
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"


def _results(number: int) -> str:
    return "the one result" if number == 1 else f"{number:,} results"


def next_steps(told: Told) -> list[str]:
    """What to do now, the most pressing first."""
    return list(_next_steps(told))[:MOST_STEPS]


def _next_steps(told: Told) -> Iterator[str]:
    found = told.savings
    for gauge in told.budgets:
        if gauge.spent_nanousd >= gauge.limit_nanousd:
            where = f"{gauge.budget}_usd under [budget] in tierkit.toml"
            yield f"The budget {BUDGETS[gauge.budget]} is used up: raise {where}, or wait."
    if told.overview.spend.calls and not found.tasks and not told.is_caller_named:
        yield "To have savings told, name your agent's model in tierkit.toml: model = ... under [caller]."
    if found.net_nanousd is not None and found.net_nanousd[1] < 0:
        yield "To see which part loses: tierkit report --levers"
    to_be_priced = [calls for calls in told.unpriced if calls.missing != "answer"]
    yield from map(_priced, to_be_priced[:MOST_UNPRICED])
    kept = {task.task_id for task in told.tasks if task.draft_status in GIVEN and not task.is_gone}
    waiting = next((card for card in told.scorecards if card.outcome is None and card.task_id in kept), None)
    if waiting is not None:
        yield f"To say what became of the newest change: tierkit outcome {waiting.task_id} accepted|edited|reverted"
    for pattern in told.patterns:
        yield f"Reviews found {pattern.klass.replace('_', ' ')} {count(pattern.times, 'time')}. {pattern.suggestion}"


def _priced(found: Unpriced) -> str:
    """What is missing to price some calls, and who can supply it."""
    of = f"{count(found.calls, 'call')} of {plain(found.model, 60)} ({found.tier})"
    where = f"under [tiers.{plain(found.tier, 60)}] in tierkit.toml"
    kinds = (("cache_read", found.cached_tokens), ("cache_write", found.cache_write_tokens))
    rates = " or ".join(name for name, number in kinds if number)
    if found.missing == "usage":
        why = "no tokens were reported. Have the provider, or a proxy before it, report usage."
    elif found.missing == "price":
        why = f"the model has no price. Set price {where}."
    elif rates:
        why = f"its price names no {rates}. Add it to price = {{ ... }} {where}."
    else:
        why = "its price names no rate for how it was served. Rates that are known: tierkit prices"
    return f"{of} could not be priced: {why}"


def cost(spend: Spent) -> str:
    """What is known, and beside it what is not: unknown is no zero, and a subscription's calls have no dollars."""
    known = spend.calls - spend.unpriced_calls - spend.quota_calls
    parts = [dollars(spend.cost_nanousd)] if spend.cost_nanousd or known > 0 or not spend.calls else []
    if spend.quota_calls:
        parts.append("quota")
    if spend.unpriced_calls:
        parts.append(f"up to {dollars(spend.unknown_nanousd)}" if _is_bounded(spend) else "unknown")
    return " + ".join(parts)


def cost_of_task(task: TaskSummary) -> str:
    """The same of a task; of one whose calls are all still being answered, that."""
    spend = task.spend
    figures = (spend.cost_nanousd, spend.unpriced_calls, spend.quota_calls, spend.input_tokens, spend.output_tokens)
    return "in flight" if task.state == "running" and spend.calls and not any(figures) else cost(spend)


def known(spend: Spent) -> str:
    """The dollars that are known, where what is not is told beside them; without any, what there is instead."""
    is_zero = not spend.cost_nanousd and spend.unpriced_calls + spend.quota_calls == spend.calls
    return cost(spend) if is_zero else dollars(spend.cost_nanousd)


def dollars_known(told: Told) -> str:
    """What shares of dollars are of."""
    return "Known dollars" if told.overview.spend.unpriced_calls else "Dollars"


def _is_bounded(spend: Spent) -> bool:
    return bool(spend.unknown_nanousd) and not spend.unbounded_calls


def at_most(spend: Spent) -> str:
    """The most that calls of unknown cost can come to, as far as there is one."""
    bounded = f", up to {dollars(spend.unknown_nanousd)}" if spend.unknown_nanousd else ""
    return bounded + (f", {spend.unbounded_calls:,} of them without any limit known" if spend.unbounded_calls else "")


def cost_of(spends: Sequence[Spent], quota: str = "quota") -> str:
    """The same of several together; `quota` is what stands for a subscription's calls where there is nothing else."""
    whole = together(spends)
    is_quota = bool(whole.quota_calls) and not whole.cost_nanousd and not whole.unpriced_calls
    return quota if is_quota else cost(whole)
