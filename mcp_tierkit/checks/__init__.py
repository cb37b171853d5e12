"""Run the caller's checks where the changed files seem to be in place, and judge before against after."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from mcp_tierkit.checks.asked import is_allowed, parse_check
from mcp_tierkit.checks.bench import Bench
from mcp_tierkit.checks.run import run_checks, run_twice
from mcp_tierkit.checks.stamps import tree_state
from mcp_tierkit.evidence import Observed, fault, said
from mcp_tierkit.types import Check, CheckOutcome, CheckResult, Proof, Record

__all__ = [
    "Baseline", "Bench", "Memory", "baseline", "is_allowed", "judge", "parse_check", "recall", "run_checks",
    "run_twice",
]  # fmt: skip


class Baseline(Record):
    """The checks before anything was spent. Where `may_start` is False, `reason` says why in a sentence."""

    results: tuple[CheckResult, ...] = ()
    runs: tuple[Observed, ...] = ()
    may_start: bool = True
    reason: str = ""


async def baseline(
    bench: Bench, checks: Sequence[Check], proof: Proof, seen: MutableMapping[str, Any] | None = None
) -> Baseline:
    """How the checks stand before anything is spent, and whether a draft could prove anything by them.

    `seen` remembers green and red by the state of the tree. A red check that ends within a minute is run again: green
    then means flaky.
    """
    memory = await recall(bench, seen)
    runs, outcomes = [], []
    for at, check in enumerate(checks, 1):
        found, flaky = await memory.stand(check, f"before-{at}")
        runs.append(found)
        outcomes.append(_before(found, proof, flaky))
    results = tuple(
        CheckResult(name=run.name, role=proof, before=outcome, digest=said(run), log=run.log)
        for run, outcome in zip(runs, outcomes, strict=True)
    )
    reason = _obstacle(results, runs, proof)
    return Baseline(results=results, runs=tuple(runs), may_start=not reason, reason=reason)


@dataclass(frozen=True)
class Memory:
    """How checks stand on the untouched tree, as it is at this moment."""

    bench: Bench
    seen: MutableMapping[str, Any]
    state: str | None

    def known(self, check: Check) -> Observed | None:
        """The run of before, where no file of the project has changed since."""
        found: Observed | None = self.seen.get(self._key(check)) if self.state else None
        return found

    async def stand(self, check: Check, label: str) -> tuple[Observed, bool]:
        """The check's run, and whether it is flaky. One that is, or could not run, may fare better next time."""
        if known := self.known(check):
            return known, False
        found, flaky = await run_twice(self.bench, check, {}, label)
        if self.state and not flaky and found.outcome != "unrunnable":
            self.seen[self._key(check)] = found
        return found, flaky

    def _key(self, check: Check) -> str:
        return f"{self.state}:{check.model_dump_json()}:{self.bench.isolation}:{self.bench.network}"


async def recall(bench: Bench, seen: MutableMapping[str, Any] | None) -> Memory:
    """What `seen` knows of the tree as it is now; without `seen`, nothing."""
    state = await to_thread.run_sync(tree_state, bench.root) if seen is not None else None
    return Memory(bench, {} if seen is None else seen, state)


def _before(found: Observed, proof: Proof, flaky: bool) -> CheckOutcome:
    if flaky:
        return "flaky"
    return "vacuous" if found.outcome == "green" and proof == "turns_green" else found.outcome


def _obstacle(results: Sequence[CheckResult], runs: Sequence[Observed], proof: Proof) -> str:
    """Why no draft may start, in a sentence; "" where one may."""
    for result, found in zip(results, runs, strict=True):
        if result.before == "unrunnable":
            return f"The check {result.name} cannot run here: {found.reason}."
        if proof == "stays_green" and result.before != "green":
            return f"The check {result.name} is {result.before} before the change, and stays_green needs it green."
    if proof == "turns_green" and results and not any(result.before == "red" for result in results):
        flaky = [result.name for result in results if result.before == "flaky"]
        if flaky:
            return f"The check {flaky[0]} is red and green without a change, so it proves nothing."
        return f"The check {results[0].name} is green already, so it can prove no change."
    return ""


def judge(
    checks: Sequence[Check], proof: Proof, before: Baseline, after: Sequence[Observed]
) -> tuple[tuple[CheckResult, ...], bool]:
    """Each check before and after, and whether together they prove the change.

    A green exit code counts only where every test that ran before has passed. All must be green; under `turns_green`
    one at least must have been red, and not flaky.
    """
    rows = zip(checks, before.results, before.runs, after, strict=True)
    results = tuple(_compared(check, was, first, second) for check, was, first, second in rows)
    stands = bool(results) and before.may_start and all(result.after == "green" for result in results)
    turned = any(result.before == "red" for result in results)
    return results, stands and (proof == "stays_green" or turned)


def _compared(check: Check, was: CheckResult, first: Observed, second: Observed) -> CheckResult:
    why = fault(first, second) if second.outcome == "green" else ""
    after: CheckOutcome = "red" if why else second.outcome
    told = {"name": check.name, "after": after, "digest": said(second, why), "log": second.log}
    return was.model_copy(update=told)
