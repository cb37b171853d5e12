"""What a piece of work would cost on each route, and from which size on handing it over pays. Pure arithmetic."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Annotated, Literal

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
    ratio: float | None = Field(
        description="Typical to alone: of dollars, or of the caller's tokens on a subscription. None where it is "
        "unknown, and where a tier's subscription pays for a part: dollars alone would tell nothing then."
    )
    may_fail_share: float | None = Field(
        default=None, description="Part of the runs that may end in the caller doing it after all before it costs more."
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


class _Handover(Record):
    arguments: int
    reply: int
    red_reply: int
    schemas: int


def estimate(work: Work, prices: Prices, terms: Terms | None = None) -> Estimate:
    """What `work` costs alone and on each route that hands it over, per run, day, month and over all months.

    A route's figure is what its calls cost by `prices.cost`, and the handover on the caller's side by `handover_cost`.
    On a subscription the caller's own side is no dollars: there `alone` is None and `ratio` one of its tokens. A tier
    within a subscription adds tokens and no dollars, one that is paid by the hour the time of its calls.
    A figure that needs an unknown price is None. docs/estimate.md says what is counted and what is not.
    """
    terms = terms or Terms()
    by_itself = _alone(work, prices, terms)
    return Estimate(
        work=work, terms=terms, routes=(by_itself, *(_compared(name, work, prices, terms) for name in _routes()))
    )


@cache
def _handover() -> _Handover:
    return _Handover.model_validate(packaged("estimates")["handover"])


@cache
def _routes() -> dict[str, tuple[_Call, ...]]:
    rows = packaged("estimates")["route"]
    return {row["name"]: tuple(_Call.model_validate(call) for call in row["calls"]) for row in rows}


# --- one route


def _alone(work: Work, prices: Prices, terms: Terms) -> RouteCost:
    typical, worst = _alone_run(work, prices.caller, terms), None
    if prices.caller is not None:
        _, worst = baseline(_most_alone(work), prices.caller)
    is_paid = terms.billing == "api"
    return RouteCost(
        name="alone", calls=0, model_tokens=0, caller_tokens=_read_alone(work) + work.output,
        typical=_spread(typical if is_paid else None, terms), worst=_spread(worst if is_paid else None, terms),
        ratio=1.0 if typical or not is_paid else None, subscription_runs=_subscription_runs(typical, terms),
        unknown=("caller",) if typical is None else (),
    )  # fmt: skip


def _compared(name: str, work: Work, prices: Prices, terms: Terms) -> RouteCost:
    """A route that hands the work over, beside doing it alone."""
    calls, own = [call for call in _routes()[name] if not call.at_worst], _alone_run(work, prices.caller, terms)
    paid, run = _run(name, work, prices, terms), _typical(name, work, prices, terms)
    passed, is_paid = _handover(), terms.billing == "api"
    through, quota = passed.arguments + passed.reply + passed.schemas, _quota(name, work, terms)
    in_dollars = None if quota else paid
    ratio = _part(in_dollars, own) if is_paid else _part(through, _read_alone(work) + work.output)
    return RouteCost(
        name=name, calls=len(calls), caller_tokens=through, ratio=ratio,
        model_tokens=sum(_sized(call, work) for call in calls), quota_tokens=quota,
        quota_tokens_worst=_quota(name, work, terms, at_worst=True),
        typical=_spread(run, terms), worst=_spread(_worst(name, work, prices, terms), terms),
        may_fail_share=None if ratio is None else max(0.0, round(1 - ratio, 4)),
        pays_from_output=None if quota and is_paid else _pays_from(name, work, prices, terms),
        turns_per_run=_turns(in_dollars, own, prices.caller) if is_paid else None,
        subscription_runs=_subscription_runs(in_dollars, terms), unknown=_unknown(name, prices, terms, run, paid),
    )  # fmt: skip


def _unknown(name: str, prices: Prices, terms: Terms, run: int | None, paid: int | None) -> tuple[str, ...]:
    if run is not None and paid is not None:
        return ()
    missing = () if prices.caller else ("caller",)
    tiers = dict.fromkeys(call.tier for call in _routes()[name])
    missing = (*missing, *(tier for tier in tiers if not _is_known(tier, prices, terms)))
    return missing or ("a rate of what is cached, or of a batch",)


def _is_known(tier: TierName, prices: Prices, terms: Terms) -> bool:
    machine = terms.machines.get(tier)
    return tier in terms.quotas or (getattr(prices, tier) if machine is None else machine.call_ms) is not None


def _alone_run(work: Work, price: Price | None, terms: Terms) -> int | None:
    if price is None:
        return None
    usage = _read(_read_alone(work), work.output, terms.cached_share)
    return caller_cost(price, read=usage.input or 0, cached=usage.cached_input or 0, written=work.output)


def _read_alone(work: Work) -> int:
    """What the caller reads by itself: all that it is told to read, of files as far as one read of each goes."""
    return work.input if work.files is None else read_whole(work.input, work.files)


def _most_alone(work: Work) -> Alone:
    """The high end of what receipts take for the caller's own work: checks' output is read, old text is typed too."""
    return alone(
        file_tokens=0, context_tokens=_read_alone(work), changed_tokens=work.output,
        check_tokens=packaged("estimates")["around"]["report"],
    )  # fmt: skip


def _models(name: str, work: Work, prices: Prices, terms: Terms) -> int | None:
    """What the calls of a route cost, each as long as the work says."""
    paid = [_call_cost(call, work, prices, terms) for call in _routes()[name] if not call.at_worst]
    known = [part for part in paid if part is not None]
    return sum(known) if len(known) == len(paid) else None


def _call_cost(call: _Call, work: Work, prices: Prices, terms: Terms) -> int | None:
    if call.tier in terms.quotas:
        return 0
    if machine := terms.machines.get(call.tier):
        return None if machine.call_ms is None else time_cost(machine.hour_nanousd, machine.call_ms)
    price: Price | None = getattr(prices, call.tier)
    usage = _read(_amount(call.reads, work), _amount((call.writes,), work), terms.cached_share)
    return None if price is None else cost(price, usage, batch=terms.batch)


def _sized(call: _Call, work: Work) -> int:
    """Tokens of a call, in and out."""
    return _amount(call.reads, work) + _amount((call.writes,), work)


def _at_worst(call: _Call, work: Work, terms: Terms) -> tuple[int, int]:
    """The most tokens that a call can read and write: its output limit is used, and so was that of those before it."""
    written = max(terms.limits.get(call.tier, 8000), work.output)
    # What comes before it in the conversation was cut off and continued, so it is there twice.
    return _amount(call.reads, work.model_copy(update={"output": 2 * written})), written


def _quota(name: str, work: Work, terms: Terms, *, at_worst: bool = False) -> int:
    """Tokens of a route that its tiers' subscriptions pay for."""
    calls = [call for call in _routes()[name] if call.tier in terms.quotas and (at_worst or not call.at_worst)]
    return sum(sum(_at_worst(call, work, terms)) if at_worst else _sized(call, work) for call in calls)


def _run(name: str, work: Work, prices: Prices, terms: Terms) -> int | None:
    """The calls and the caller's side, whatever way the caller pays."""
    ours, passed = _models(name, work, prices, terms), _handover()
    if ours is None or prices.caller is None:
        return None
    return ours + handover_cost(prices.caller, arguments=passed.arguments, reply=passed.reply, schemas=passed.schemas)


def _typical(name: str, work: Work, prices: Prices, terms: Terms) -> int | None:
    """What one run is paid in dollars: on a subscription our calls alone."""
    return _run(name, work, prices, terms) if terms.billing == "api" else _models(name, work, prices, terms)


def _worst(name: str, work: Work, prices: Prices, terms: Terms) -> int | None:
    """Every call that can be made, each with its output limit used, all input at the dearest rate, and a red reply."""
    total, passed = 0, _handover()
    for call in _routes()[name]:
        most = _most(call, work, prices, terms)
        if most is None:
            return None
        total += most
    if terms.billing == "subscription":
        return total
    if prices.caller is None:
        return None
    # Nothing of ours in the caller's cache: the first turn of a session.
    return total + handover_cost(
        prices.caller, arguments=passed.arguments, reply=passed.red_reply + passed.schemas, schemas=0
    )


def _most(call: _Call, work: Work, prices: Prices, terms: Terms) -> int | None:
    if call.tier in terms.quotas:
        return 0
    if machine := terms.machines.get(call.tier):
        return time_cost(machine.hour_nanousd, machine.most_ms)
    price: Price | None = getattr(prices, call.tier)
    return None if price is None else worst_cost(price, *_at_worst(call, work, terms))


def _amount(parts: tuple[str, ...], work: Work) -> int:
    around: dict[str, int] = packaged("estimates")["around"]
    return sum(around[part] if part in around else int(getattr(work, part)) for part in parts)


def _read(tokens: int, written: int, cached_share: Decimal) -> Usage:
    cached = round(tokens * cached_share)
    return Usage(input=tokens - cached, cached_input=cached, cache_write=0, output=written)


def _spread(run: int | None, terms: Terms) -> Cost:
    if run is None:
        return Cost(run=None, day=None, month=None, total=None)
    day = run * Fraction(terms.runs_per_day)
    month = day * packaged("estimates")["month"]["days"]
    return Cost(run=run, day=round(day), month=round(month), total=round(month * terms.months))


# --- where it pays


def _part(paid: int | None, own: int | None) -> float | None:
    return round(paid / own, 4) if paid is not None and own else None


def _pays_from(name: str, work: Work, prices: Prices, terms: Terms) -> int | None:
    """The smallest output at which the route costs no more than doing it alone, found by halving."""

    def saves(output: int) -> bool:
        sized = work.model_copy(update={"output": output})
        if terms.billing == "subscription":
            passed = _handover()
            return passed.arguments + passed.reply + passed.schemas <= _read_alone(work) + output
        paid, own = _run(name, sized, prices, terms), _alone_run(sized, prices.caller, terms)
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
