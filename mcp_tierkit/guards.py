"""The project's own known checks, run once on a change that is proven: what was green before it must stay green."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from mcp_tierkit.checks import Bench, Memory, parse_check, recall, run_twice
from mcp_tierkit.evidence import Observed, fault, said
from mcp_tierkit.types import Changes, Check, CheckOutcome, CheckResult, Record


class Tried(Record):
    """A guard with the change in place."""

    check: Check
    found: Observed
    flaky: bool = False


def guards_beside(guards: Sequence[str | Check], checks: Sequence[Check]) -> tuple[Check, ...]:
    """The guards that are none of the task's own checks, each once. Raises InvalidInput for one that needs a shell."""
    taken = {(check.argv, check.cwd) for check in checks}
    found: dict[tuple[tuple[str, ...], str], Check] = {}
    for guard in map(parse_check, guards):
        found.setdefault((guard.argv, guard.cwd), guard)
    return tuple(guard for key, guard in found.items() if key not in taken)


async def try_guards(bench: Bench, guards: Sequence[Check], changes: Changes, *, label: str) -> tuple[Tried, ...]:
    """Run each guard on the change. In place the caller has it on disk, as for `run_checks`."""
    tried = []
    for at, guard in enumerate(guards, 1):
        found, flaky = await run_twice(bench, guard, changes, f"{label}-{at}")
        tried.append(Tried(check=guard, found=found, flaky=flaky))
    return tuple(tried)


async def weigh_guards(
    bench: Bench, tried: Sequence[Tried], *, label: str, seen: MutableMapping[str, Any] | None = None
) -> tuple[CheckResult, ...]:
    """What the change did to each guard. The tree must be as it was before the change.

    A guard that is not green is run on that tree too, and so shows whether the change broke it; one that cannot run
    there is no guard of this project and is left out. `seen` is the memory that `baseline` keeps.
    """
    memory = await recall(bench, seen)
    results = [await _weigh(memory, guard, f"{label}-before-{at}") for at, guard in enumerate(tried, 1)]
    return tuple(result for result in results if result.before != "unrunnable")


def broken(results: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    """The guards that the change broke: green before it, and not green with it."""
    return tuple(result for result in results if result.before == "green" != result.after)


async def _weigh(memory: Memory, tried: Tried, label: str) -> CheckResult:
    if tried.flaky:
        return await _weigh_flaky(memory, tried, label)
    before, was_flaky = memory.known(tried.check), False
    why = _fault(before, tried.found)
    if before is None and (tried.found.outcome != "green" or why):
        before, was_flaky = await memory.stand(tried.check, label)
        why = _fault(before, tried.found)
    stood: CheckOutcome = "flaky" if was_flaky else before.outcome if before else "not_run"
    after: CheckOutcome = "red" if why else tried.found.outcome
    result = CheckResult(name=tried.check.name, role="stays_green", before=stood, after=after, log=tried.found.log)
    # What was red before is no work of the change, and nobody needs to read it.
    return result.model_copy(update={"digest": said(tried.found, why)}) if broken((result,)) else result


async def _weigh_flaky(memory: Memory, tried: Tried, label: str) -> CheckResult:
    """A guard that was red and then green with the change: two green runs without it say whose doing that is."""
    shown = CheckResult(name=tried.check.name, role="stays_green", before="flaky", after="flaky", log=tried.found.log)
    for at in (1, 2):
        found, flaky = await run_twice(memory.bench, tried.check, {}, f"{label}-{at}")
        if flaky or found.outcome != "green":
            return shown if flaky else shown.model_copy(update={"before": found.outcome})
    digest = f"Red once and green once with the change, green twice without it.\n{said(tried.found)}"
    return shown.model_copy(update={"before": "green", "after": "red", "digest": digest})


def _fault(before: Observed | None, after: Observed) -> str:
    """Why a green guard counts as red; without a run before it, only what the run itself gives away is known."""
    return fault(before or Observed(name=after.name, outcome="green"), after) if after.outcome == "green" else ""
