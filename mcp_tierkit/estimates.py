"""What a piece of work would cost on each route, and from which size on handing it over pays. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mcp_tierkit.prices import Price, cost, time_cost, worst_cost
from mcp_tierkit.receipts import Alone, alone, baseline, caller_cost, handover_cost, read_whole
from mcp_tierkit.tables import packaged
from mcp_tierkit.types import NanoUsd, Record, TierName, Tokens, Usage

Whole = Annotated[int, Field(ge=0, le=10**9)]
Share = Annotated[Decimal, Field(ge=0, le=1)]
LARGEST = 100_000
"""Output tokens up to which a break-even is looked for."""


class Work(Record):
    """One run of a piece of work, in tokens: what has to be read for it, and what has to be written."""

    input: Whole
    output: Whole
    files: int | None = Field(
        default=None, ge=1, description="How many files the input is; None: not told, and then all of it is read."
    )


class Prices(Record):
    """What the caller's model and each tier's charge; None is unknown."""

    caller: Price | None = None
    cheap: Price | None = None
    mid: Price | None = None
    strong: Price | None = None


class Machine(Record):
    """What the calls of a tier cost whose time is paid for, and not its tokens."""

    hour_nanousd: NanoUsd
    call_ms: int | None = Field(ge=0, description="What one call takes; None is unknown.")
    most_ms: int = Field(gt=0, description="What one call takes at most.")


class Terms(Record):
    """How often, and on what terms."""

    runs_per_day: Decimal = Field(default=Decimal(1), ge=0, le=10**6)
    months: int = Field(default=1, ge=1, le=120)
    cached_share: Share = Field(default=Decimal(0), description="Part of all input that is read from a cache.")
    batch: bool = Field(default=False, description="The tiers' calls may wait, at batch prices.")
    billing: Literal["api", "subscription"] = "api"
    subscription_nanousd: NanoUsd | None = Field(default=None, description="Price of a month of the caller's plan.")
    climb: tuple[TierName, ...] = Field(default=(), description="Tiers that a draft which fails on cheap goes on to.")
    limits: dict[TierName, int] = Field(default_factory=dict, description="Output limit of a call; default 8,000.")
    machines: dict[TierName, Machine] = Field(default_factory=dict, description="Tiers that are paid by the hour.")
    quotas: tuple[TierName, ...] = Field(default=(), description="Tiers within a subscription: tokens, no dollars.")


class Cost(Record):
    """Nanodollars; None is unknown. A month is thirty days, `total` all the months."""

    run: NanoUsd | None
    day: NanoUsd | None
    month: NanoUsd | None
    total: NanoUsd | None


class RouteCost(Record):
    """One way to have the work done. `typical` is what its calls use, `worst` what they could use at most."""

    name: str
    calls: int
    model_tokens: Tokens = Field(description="In and out, over the tiers' calls.")
    caller_tokens: Tokens = Field(description="What passes through the caller.")
    quota_tokens: Tokens = Field(default=0, description="Of `model_tokens`, those that a tier's subscription pays for.")
    quota_tokens_worst: Tokens = 0
    typical: Cost
    worst: Cost
    calls_run: NanoUsd | None = Field(
        default=None, description="Of a typical run what the tiers' calls cost, the caller's side left out."
    )
    calls_worst: NanoUsd | None = Field(default=None, description="The same at worst.")
    ratio: float | None = Field(
        description="Typical to alone: of dollars, or of the caller's tokens on a subscription. None where it is "
        "unknown, and where a tier's subscription pays for a part: dollars alone would tell nothing then."
    )
    may_fail_share: float | None = Field(
        default=None,
        description="Part of the runs that may fail before it costs more: each with repair and climbs, and then alone.",
    )
    pays_from_output: int | None = Field(
        default=None, description="Output tokens from which on it costs no more than alone, at this input; None: never."
    )
    turns_per_run: int | None = Field(
        default=None, description="Turns over which our schemas may be read again for each run before they eat it."
    )
    subscription_runs: int | None = Field(
        default=None, description="Runs a month from which on the subscription costs no more than this, paid as you go."
    )
    unknown: tuple[str, ...] = Field(default=(), description="Whose price is missing, where a figure is None.")


class Estimate(Record):
    work: Work
    terms: Terms
    routes: tuple[RouteCost, ...] = Field(description="Doing it alone comes first.")


class _Call(Record):
    tier: TierName
    reads: tuple[Literal["prompt", "input", "output", "report"], ...]
    writes: Literal["output", "review"]
    at_worst: bool = False


_Calls = tuple[_Call, ...]


class _Handover(Record):
    arguments: int
    reply: int
    red_reply: int
    schemas: int

    @property
    def tokens(self) -> int:
        return self.arguments + self.reply + self.schemas


class _Case(NamedTuple):
    """What is weighed: some work at some prices, on these terms."""

    work: Work
    prices: Prices
    terms: Terms


def estimate(work: Work, prices: Prices, terms: Terms | None = None) -> Estimate:
    """What `work` costs alone and on each route that hands it over, per run, day, month and over all months.

    A route's figure is what its calls cost by `prices.cost`, and the handover on the caller's side by `handover_cost`.
    On a subscription the caller's own side is no dollars: there `alone` is None and `ratio` one of its tokens. A tier
    within a subscription adds tokens and no dollars, one that is paid by the hour the time of its calls.
    A figure that needs an unknown price is None. docs/estimate.md says what is counted and what is not.
    """
    case = _Case(work, prices, terms or Terms())
    handed_over = (_compared(name, calls, case) for name, calls in _routes().items())
    return Estimate(work=work, terms=case.terms, routes=(_alone(case), *handed_over))


@cache
def _handover() -> _Handover:
    return _Handover.model_validate(packaged("estimates")["handover"])


@cache
def _routes() -> dict[str, _Calls]:
    rows = packaged("estimates")["route"]
    return {row["name"]: tuple(_Call.model_validate(call) for call in row["calls"]) for row in rows}


# --- one route


def _alone(case: _Case) -> RouteCost:
    work, prices, terms = case
    typical, worst = _alone_run(case), None
    if prices.caller is not None:
        _, worst = baseline(_most_alone(work), prices.caller)
    is_paid = terms.billing == "api"
    return RouteCost(
        name="alone", calls=0, model_tokens=0, caller_tokens=_read_alone(work) + work.output,
        typical=_spread(typical if is_paid else None, terms), worst=_spread(worst if is_paid else None, terms),
        ratio=1.0 if typical or not is_paid else None, subscription_runs=_subscription_runs(typical, terms),
        unknown=("caller",) if typical is None else (),
    )  # fmt: skip


def _compared(name: str, calls: _Calls, case: _Case) -> RouteCost:
    """A route that hands the work over, beside doing it alone."""
    work, prices, terms = case
    usual, own, is_paid = _usual(calls), _alone_run(case), terms.billing == "api"
    models, paid = _models(usual, case), _run(usual, case)
    run, through = paid if is_paid else models, _handover().tokens
    lost = _run(_failing(name, usual, case), case)
    quota = sum(_sized(call, work) for call in usual if call.tier in terms.quotas)
    in_dollars = None if quota else paid
    ratio = _part(in_dollars, own) if is_paid else _part(through, _read_alone(work) + work.output)
    return RouteCost(
        name=name, calls=len(usual), caller_tokens=through, ratio=ratio,
        model_tokens=sum(_sized(call, work) for call in usual), quota_tokens=quota,
        quota_tokens_worst=sum(sum(_at_worst(call, case)) for call in calls if call.tier in terms.quotas),
        typical=_spread(run, terms), worst=_spread(_worst(calls, case), terms),
        calls_run=models, calls_worst=_total(_most(call, case) for call in calls),
        may_fail_share=_may_fail(ratio, paid, lost, own) if is_paid else _rest(ratio),
        pays_from_output=None if quota and is_paid else _pays_from(usual, case),
        turns_per_run=_turns(in_dollars, own, prices.caller) if is_paid else None,
        subscription_runs=_subscription_runs(in_dollars, terms),
        unknown=() if run is not None and paid is not None else _unknown(calls, case),
    )  # fmt: skip


def _failing(name: str, usual: _Calls, case: _Case) -> _Calls:
    """The usual calls of a run that ends without a result: of a draft its repair too, and each tier it climbs to."""
    if name not in ("cheap_draft", "draft_and_repair"):
        return usual
    climbs = (_Call(tier=tier, reads=("prompt", "input", "report"), writes="output") for tier in case.terms.climb)
    return (*_usual(_routes()["draft_and_repair"]), *climbs)


def _may_fail(ratio: float | None, paid: int | None, lost: int | None, own: int | None) -> float | None:
    """The share at which the saving of the runs that succeed is eaten by those that fail and are done alone then."""
    if ratio is None or paid is None or lost is None or own is None:
        return None
    return max(0.0, round((own - paid) / (own + lost - paid), 4))


def _rest(ratio: float | None) -> float | None:
    return None if ratio is None else max(0.0, round(1 - ratio, 4))


def _usual(calls: _Calls) -> _Calls:
    return tuple(call for call in calls if not call.at_worst)


def _unknown(calls: _Calls, case: _Case) -> tuple[str, ...]:
    missing = () if case.prices.caller else ("caller",)
    tiers = dict.fromkeys(call.tier for call in calls)
    missing = (*missing, *(tier for tier in tiers if not _is_known(tier, case)))
    return missing or ("a rate of what is cached, or of a batch",)


def _is_known(tier: TierName, case: _Case) -> bool:
    machine = case.terms.machines.get(tier)
    return tier in case.terms.quotas or (getattr(case.prices, tier) if machine is None else machine.call_ms) is not None


def _alone_run(case: _Case) -> int | None:
    if case.prices.caller is None:
        return None
    read, written = _read_alone(case.work), case.work.output
    cached = _cached(read, case.terms)
    return caller_cost(case.prices.caller, read=read - cached, cached=cached, written=written)


def _read_alone(work: Work) -> int:
    """What the caller reads by itself: all that it is told to read, of files as far as one read of each goes."""
    return work.input if work.files is None else read_whole(work.input, work.files)


def _most_alone(work: Work) -> Alone:
    """The high end of what receipts take for the caller's own work: checks' output is read, old text is typed too."""
    return alone(
        file_tokens=0, context_tokens=_read_alone(work), changed_tokens=work.output,
        check_tokens=packaged("estimates")["around"]["report"],
    )  # fmt: skip


def _models(usual: _Calls, case: _Case) -> int | None:
    """What the calls of a route cost, each as long as the work says."""
    return _total(_call_cost(call, case) for call in usual)


def _call_cost(call: _Call, case: _Case) -> int | None:
    work, prices, terms = case
    if call.tier in terms.quotas:
        return 0
    if machine := terms.machines.get(call.tier):
        return None if machine.call_ms is None else time_cost(machine.hour_nanousd, machine.call_ms)
    price: Price | None = getattr(prices, call.tier)
    read, written = _amount(call.reads, work), _amount((call.writes,), work)
    cached = _cached(read, terms)
    usage = Usage(input=read - cached, cached_input=cached, cache_write=0, output=written)
    return None if price is None else cost(price, usage, batch=terms.batch)


def _sized(call: _Call, work: Work) -> int:
    """Tokens of a call, in and out."""
    return _amount((*call.reads, call.writes), work)


def _at_worst(call: _Call, case: _Case) -> tuple[int, int]:
    """The most tokens that a call can read and write: its output limit is used, and so was that of those before it."""
    written = max(case.terms.limits.get(call.tier, 8000), case.work.output)
    # What comes before it in the conversation was cut off and continued, so it is there twice.
    return _amount(call.reads, case.work.model_copy(update={"output": 2 * written})), written


def _run(usual: _Calls, case: _Case) -> int | None:
    """The calls and the caller's side, whatever way the caller pays."""
    ours, passed, caller = _models(usual, case), _handover(), case.prices.caller
    if ours is None or caller is None:
        return None
    return ours + handover_cost(caller, arguments=passed.arguments, reply=passed.reply, schemas=passed.schemas)


def _worst(calls: _Calls, case: _Case) -> int | None:
    """Every call that can be made, each with its output limit used, all input at the dearest rate, and a red reply."""
    total, passed, caller = _total(_most(call, case) for call in calls), _handover(), case.prices.caller
    if total is None or case.terms.billing == "subscription":
        return total
    if caller is None:
        return None
    # Nothing of ours in the caller's cache: the first turn of a session.
    return total + handover_cost(caller, arguments=passed.arguments, reply=passed.red_reply + passed.schemas, schemas=0)


def _most(call: _Call, case: _Case) -> int | None:
    if call.tier in case.terms.quotas:
        return 0
    if machine := case.terms.machines.get(call.tier):
        return time_cost(machine.hour_nanousd, machine.most_ms)
    price: Price | None = getattr(case.prices, call.tier)
    return None if price is None else worst_cost(price, *_at_worst(call, case))


def _amount(parts: tuple[str, ...], work: Work) -> int:
    around: dict[str, int] = packaged("estimates")["around"]
    return sum(around[part] if part in around else int(getattr(work, part)) for part in parts)


def _cached(read: int, terms: Terms) -> int:
    return round(read * terms.cached_share)


def _total(parts: Iterable[int | None]) -> int | None:
    """The sum; None where a part is unknown."""
    found = tuple(parts)
    return None if None in found else sum(part or 0 for part in found)


def _spread(run: int | None, terms: Terms) -> Cost:
    if run is None:
        return Cost(run=None, day=None, month=None, total=None)
    day = run * Fraction(terms.runs_per_day)
    month = day * packaged("estimates")["month"]["days"]
    return Cost(run=run, day=round(day), month=round(month), total=round(month * terms.months))


# --- where it pays


def _part(paid: int | None, own: int | None) -> float | None:
    return round(paid / own, 4) if paid is not None and own else None


def _pays_from(usual: _Calls, case: _Case) -> int | None:
    """The smallest output at which the route costs no more than doing it alone, found by halving."""

    def saves(output: int) -> bool:
        if case.terms.billing == "subscription":
            return _handover().tokens <= _read_alone(case.work) + output
        sized = case._replace(work=case.work.model_copy(update={"output": output}))
        paid, own = _run(usual, sized), _alone_run(sized)
        return paid is not None and own is not None and paid <= own

    low, high = 0, LARGEST
    if not saves(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if saves(middle) else (middle + 1, high)
    return low


def _turns(paid: int | None, own: int | None, price: Price | None) -> int | None:
    """Turns of a session for each run: the schemas are read on each of them, also on those that hand nothing over."""
    if paid is None or own is None or price is None:
        return None
    each = handover_cost(price, arguments=0, reply=0, schemas=_handover().schemas)
    return max(0, (own - paid + each) // each) if each else None


def _subscription_runs(run: int | None, terms: Terms) -> int | None:
    if terms.subscription_nanousd is None or not run:
        return None
    return math.ceil(Fraction(terms.subscription_nanousd, run))
