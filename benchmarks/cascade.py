"""`python -m benchmarks.cascade`: what the stop rule of a draft is worth on recorded outcomes of real models.

The policy is the product's own (`mcp_tierkit.cascade`); outcomes are recorded pass or fail of repository tasks. The
rest is assumed, and printed with the result: a check that sees most failures and seldom cries wolf, a caller that is
the strong model, calls of one shape on every tier, and a repair that either changes nothing or is not counted at all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcp_tierkit.cascade import chain_of, next_step
from mcp_tierkit.prices import PriceTable, cost
from mcp_tierkit.types import Attempt, TierName, Usage

OUTCOMES = Path(__file__).resolve().parents[2] / "shared" / "eval" / "swebench_pro_outcomes.jsonl.gz"
MISSING = "The recorded outcomes are not beside this checkout (../shared/eval), so nothing was replayed."
DATA = Path(__file__).resolve().parents[1] / "mcp_tierkit" / "data"

NOTE = """
Beside the 97% at 41% that is known of cheap first, then strong behind such a check (shared/eval/README.md): `cheap` of
the first triple is that cascade, since the caller is the strong model, and its 97% is the same. Its cost over all tasks
cannot be 41%: the check alone sends half of the tasks up. It can be on the tasks that one of the two solves: there a
third goes up, and a cheap call at 8% of a strong one makes 41%. That is a guess at how it was counted, not a record.
`cheap > strong` buys nothing where the caller is as strong: what strong fails, the same model then does again."""

CATCH, ALARM = 0.70, 0.05
DRAWS, RESAMPLES = 20, 2000
SHAPE = Usage(input=10_000, cached_input=0, cache_write=0, output=1_500)
TIERS: tuple[TierName, ...] = ("cheap", "mid", "strong")

# Recorded models in rising order of what they solve. The strong one is the best of the file; the first triple takes
# each next best run of 2025-10 below it, the second open models, the third the weakest. The last has no such leap.
TRIPLES: tuple[dict[TierName, str], ...] = (
    {"cheap": "kimi-k2-instruct-10132025", "mid": "gpt-5-250-turns-10132025", "strong": "claude-45sonnet-10132025"},
    {"cheap": "gptoss-paper", "mid": "kimi-k2-instruct-10132025", "strong": "claude-45sonnet-10132025"},
    {"cheap": "gpt-4o-paper", "mid": "gptoss-paper", "strong": "claude-45sonnet-10132025"},
    {"cheap": "gptoss-paper", "mid": "claude-sonnet-4-paper", "strong": "gpt-5-250-turns-10132025"},
)
CLIMBS: dict[str, tuple[TierName, ...]] = {
    "cheap": (),
    "cheap > mid": ("mid",),
    "cheap > strong": ("strong",),
    "cheap > mid > strong": ("mid", "strong"),
}

Task = dict[TierName, bool]  # Whether each tier's model solved it.
# One task under one policy: solved in the end, accepted, both, what it cost, then calls per tier and the caller's.
FIELDS = ("solved", "accepted", "right", "cost", *TIERS, "caller")
Table = np.ndarray[Any, np.dtype[np.float64]]


class Replay(NamedTuple):
    """The calls of one draft, and the tier whose change was accepted; None: it went back to the caller."""

    calls: tuple[TierName, ...]
    repairs: tuple[TierName, ...]
    accepted: TierName | None


def recorded() -> list[dict[str, Any]]:
    with gzip.open(OUTCOMES, "rt", encoding="utf8") as lines:
        return [json.loads(line) for line in lines]


def tasks_of(rows: list[dict[str, Any]], models: Mapping[TierName, str]) -> dict[str, Task]:
    """The tasks on which all three models were recorded."""
    return {
        row["id"]: {tier: bool(row["out"][model]) for tier, model in models.items()}
        for row in rows
        if all(model in row["out"] for model in models.values())
    }


@cache
def price_ratios() -> dict[TierName, float]:
    """What one call costs on each tier, as a share of a strong one: today's suggested models at their list prices."""
    providers = tomllib.loads((DATA / "providers.toml").read_text("utf8"))["provider"]
    tiers = next(row["tiers"] for row in providers if row["name"] == "Anthropic")
    usd = {}
    for tier in TIERS:
        price = PriceTable().packaged(tiers[tier])
        assert price is not None, tiers[tier]
        usd[tier] = cost(price, SHAPE) or 0
    return {tier: usd[tier] / usd["strong"] for tier in TIERS}


@cache
def replay(chain: tuple[TierName, ...], passes: frozenset[TierName]) -> Replay:
    """A draft under the product's stop rule, where the check passes what these tiers write."""
    attempts: list[Attempt] = []
    while (step := next_step(chain, attempts)) is not None:
        attempts.append(
            Attempt(
                call_id=f"c{len(attempts)}", stage=step.stage, tier=step.tier, model=step.tier,
                outcome="green" if step.tier in passes else "red",
            )
        )  # fmt: skip
    return Replay(
        calls=tuple(each.tier for each in attempts if each.stage != "repair"),
        repairs=tuple(each.tier for each in attempts if each.stage == "repair"),
        accepted=attempts[-1].tier if attempts[-1].outcome == "green" else None,
    )


def passing(task: Task, key: str, models: Mapping[TierName, str]) -> frozenset[TierName]:
    """The tiers whose change the simulated check lets through: the same for a model and task wherever it is asked."""
    found = set()
    for tier, is_solved in task.items():
        drawn = random.Random(f"{key}/{models[tier]}").random()
        if drawn >= (ALARM if is_solved else CATCH):
            found.add(tier)
    return frozenset(found)


def row_of(task: Task, told: Replay, *, repairs: bool) -> list[float]:
    ratios = price_ratios()
    calls = [*told.calls, *(told.repairs if repairs else ())]
    back = told.accepted is None
    solved = task[told.accepted or "strong"]
    spent = sum(ratios[tier] for tier in calls) + back
    right = solved and not back
    return [solved, not back, right, spent, *(calls.count(tier) for tier in TIERS), back]


def simulate(
    tasks: Mapping[str, Task], models: Mapping[TierName, str], climb: tuple[TierName, ...], *, seed: int, repairs: bool
) -> Table:
    """Per task the mean over the draws of the simulated check."""
    chain = chain_of("cheap", climb, TIERS)
    rows = []
    for name, task in tasks.items():
        told = [replay(chain, passing(task, f"{seed}/{draw}/{name}", models)) for draw in range(DRAWS)]
        rows.append(np.mean([row_of(task, each, repairs=repairs) for each in told], axis=0))
    return np.array(rows)


def alone(tasks: Mapping[str, Task], tier: TierName) -> Table:
    """One unchecked call of one tier, taken as it is."""
    calls = [float(each == tier) for each in TIERS]
    return np.array([[task[tier], 1, task[tier], price_ratios()[tier], *calls, 0] for task in tasks.values()])


def figures(table: Table, strong: Table) -> dict[str, float]:
    mean = dict(zip(FIELDS, table.mean(axis=0), strict=True))
    return {
        "solved": mean["solved"],
        "of_strong": mean["solved"] / strong[:, 0].mean(),
        "cost": mean["cost"],
        "accepted": mean["accepted"],
        "right_of_accepted": mean["right"] / mean["accepted"],
        "wrong_accepts": mean["accepted"] - mean["right"],
        **{f"calls_{name}": mean[name] for name in (*TIERS, "caller")},
    }


def intervals(table: Table, strong: Table, *, seed: int) -> dict[str, tuple[float, float]]:
    """95% of the figures over tasks drawn anew, the same ones for this policy and for always-strong."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(table), len(table)) for _ in range(RESAMPLES)]
    found = [figures(table[chosen], strong[chosen]) for chosen in drawn]
    ends = {name: np.percentile([each[name] for each in found], [2.5, 97.5]) for name in found[0]}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def compare(rows: list[dict[str, Any]], models: Mapping[TierName, str], *, seed: int) -> dict[str, Any]:
    tasks = tasks_of(rows, models)
    strong = alone(tasks, "strong")
    tables = {f"always {tier}": alone(tasks, tier) for tier in TIERS}
    for repairs in (True, False):
        word = "" if repairs else ", repair free"
        for name, climb in CLIMBS.items():
            tables[name + word] = simulate(tasks, models, climb, seed=seed, repairs=repairs)
    either = [task for task in tasks.values() if task["cheap"] or task["strong"]]
    return {
        "models": dict(models),
        "tasks": len(tasks),
        "policies": {
            name: {"figures": figures(table, strong), "intervals": intervals(table, strong, seed=seed)}
            for name, table in tables.items()
        },
        # What a cascade of cheap and strong would hand up, over all tasks and over those that one of the two solves.
        "flagged": flagged(list(tasks.values())),
        "flagged_where_solvable": flagged(either),
    }


def flagged(tasks: list[Task]) -> float:
    """The expected share of cheap answers that the check stops."""
    return sum(ALARM if task["cheap"] else CATCH for task in tasks) / len(tasks)


def percent(found: Mapping[str, Any], name: str) -> str:
    low, high = found["intervals"][name]
    return f"{found['figures'][name]:5.0%} ({low:.0%}-{high:.0%})"


def show(found: Mapping[str, Any]) -> None:
    models = found["models"]
    print(f"\ncheap {models['cheap']}, mid {models['mid']}, strong {models['strong']}: {found['tasks']} tasks")
    print(
        f"{'':34}{'solved':>16}{'of strong':>18}{'cost':>18}{'accepted':>10}{'of it right':>17}{'wrong':>7}"
        f"{'calls: cheap':>14}{'mid':>6}{'strong':>7}{'caller':>7}"
    )
    for name, row in found["policies"].items():
        told = row["figures"]
        widths = {"cheap": 14, "mid": 6, "strong": 7, "caller": 7}
        calls = "".join(f"{told[f'calls_{who}']:{width}.2f}" for who, width in widths.items())
        print(
            f"{name:34}{percent(row, 'solved'):>16}{percent(row, 'of_strong'):>18}{percent(row, 'cost'):>18}"
            f"{told['accepted']:>10.0%}{percent(row, 'right_of_accepted'):>17}{told['wrong_accepts']:>7.0%}{calls}"
        )
    print(
        f"of cheap answers the check stops {found['flagged']:.1%}; of those on tasks that cheap or strong solves, "
        f"{found['flagged_where_solvable']:.1%}, at the same share of what strong solves"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not OUTCOMES.is_file():
        print(MISSING)
        return 0
    rows = recorded()
    results = [compare(rows, models, seed=args.seed) for models in TRIPLES]
    if args.json:
        print(json.dumps({"prices": price_ratios(), "seed": args.seed, "triples": results}, indent=1))
        return 0
    shares = ", ".join(f"{tier} {share:.3f}" for tier, share in price_ratios().items())
    print(f"check: stops {CATCH:.0%} of failures and {ALARM:.0%} of right changes; one call costs: {shares}")
    print("what is not accepted the caller does itself, as the strong model is recorded to, for one strong call")
    for found in results:
        show(found)
    print(NOTE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
