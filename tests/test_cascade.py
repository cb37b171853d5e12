"""The stop rule of a draft: which call may follow which, and that every draft ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, permutations
from pathlib import Path
from typing import get_args

import pytest

from benchmarks import cascade as bench
from mcp_tierkit.cascade import FAILED, Step, chain_of, next_step
from mcp_tierkit.types import Attempt, AttemptOutcome, Stage, TierName

TIERS: tuple[TierName, ...] = get_args(TierName)
OUTCOMES: tuple[AttemptOutcome, ...] = get_args(AttemptOutcome)
FULL: tuple[TierName, ...] = ("cheap", "mid", "strong")


def attempt(step: Step, outcome: AttemptOutcome) -> Attempt:
    return Attempt(call_id="c1", stage=step.stage, tier=step.tier, model="m", outcome=outcome)


def told(*words: str) -> list[Attempt]:
    """Attempts written as `stage tier outcome`."""
    return [attempt(Step.model_validate({"stage": s, "tier": t}), o) for s, t, o in map(str.split, words)]  # type: ignore[arg-type]


def shown(step: Step | None) -> str | None:
    return f"{step.stage} {step.tier}" if step else None


@pytest.mark.parametrize(
    ("chain", "attempts", "then"),
    [
        (("cheap",), [], "draft cheap"),
        (("mid", "strong"), [], "draft mid"),
        (("cheap", "mid"), ["draft cheap green"], None),
        (("cheap", "mid"), ["draft cheap red"], "repair cheap"),
        (("cheap", "mid"), ["draft cheap unreadable"], "repair cheap"),
        (("cheap", "mid"), ["draft cheap out_of_scope"], "repair cheap"),
        (("cheap", "mid"), ["draft cheap empty"], "repair cheap"),
        (("cheap", "mid"), ["draft cheap question"], None),
        (("cheap", "mid"), ["draft cheap unproven"], None),
        (("cheap", "mid"), ["draft cheap failed"], None),
        (("cheap", "mid"), ["draft cheap cut_short"], "continue cheap"),
        (("cheap", "mid"), ["draft cheap cut_short", "continue cheap green"], None),
        (("cheap", "mid"), ["draft cheap cut_short", "continue cheap red"], "repair cheap"),
        (("cheap", "mid"), ["draft cheap cut_short", "continue cheap cut_short"], "repair cheap"),
        (("cheap", "mid"), ["draft cheap red", "repair cheap red"], "climb mid"),
        (("cheap", "mid"), ["draft cheap red", "repair cheap question"], None),
        (("cheap", "mid"), ["draft cheap red", "repair cheap cut_short"], "continue cheap"),
        (("cheap", "mid"), ["draft cheap red", "repair cheap cut_short", "continue cheap red"], "climb mid"),
        (("cheap",), ["draft cheap red", "repair cheap red"], None),
        (("cheap",), ["draft cheap red", "repair cheap cut_short", "continue cheap cut_short"], None),
        (FULL, ["draft cheap red", "repair cheap red", "climb mid red"], "climb strong"),
        (FULL, ["draft cheap red", "repair cheap red", "climb mid cut_short"], "continue mid"),
        (FULL, ["draft cheap red", "repair cheap red", "climb mid cut_short", "continue mid red"], "climb strong"),
        (FULL, ["draft cheap red", "repair cheap red", "climb mid red", "climb strong red"], None),
        (("cheap", "strong"), ["draft cheap red", "repair cheap red"], "climb strong"),
    ],
)  # fmt: skip
def test_a_draft_is_repaired_once_then_climbs_then_goes_back(
    chain: tuple[TierName, ...], attempts: list[str], then: str | None
) -> None:
    assert shown(next_step(chain, told(*attempts))) == then


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_single_pass_ends_after_one_call_whatever_it_was_worth(outcome: AttemptOutcome) -> None:
    assert shown(next_step(FULL, [], single_pass=True)) == "draft cheap"
    assert next_step(FULL, told(f"draft cheap {outcome}"), single_pass=True) is None


@pytest.mark.parametrize("outcome", sorted(set(OUTCOMES) - FAILED))
def test_only_what_a_check_of_ours_found_leads_to_another_call(outcome: AttemptOutcome) -> None:
    for stage in ("draft", "repair", "climb", "continue"):
        assert next_step(FULL, told(f"{stage} cheap {outcome}")) is None


def walks(chain: Sequence[TierName], attempts: tuple[Attempt, ...] = ()) -> Iterator[tuple[Attempt, ...]]:
    """Every draft that can happen, whatever each call comes to."""
    assert len(attempts) <= 20, "a draft without an end"
    step = next_step(chain, attempts)
    if step is None:
        yield attempts
        return
    for outcome in OUTCOMES:
        yield from walks(chain, (*attempts, attempt(step, outcome)))


CHAINS = [chain for length in (1, 2, 3) for chain in combinations(TIERS, length)]


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_every_draft_ends_soon_in_its_chain_and_never_steps_down(chain: tuple[TierName, ...]) -> None:
    seen = 0
    for walk in walks(chain):
        seen += 1
        stages: list[Stage] = [each.stage for each in walk]
        calls = [stage for stage in stages if stage != "continue"]
        assert len(calls) <= len(chain) + 1
        assert stages.count("draft") == 1
        assert stages.count("repair") <= 1
        heights = [chain.index(each.tier) for each in walk]
        assert heights == sorted(heights)
        climbed = [each.tier for each in walk if each.stage in ("draft", "climb")]
        assert climbed == list(chain[: len(climbed)])
        # A continuation finishes the call right before it, which was cut short and is none itself.
        for last, one in pairwise(walk):
            assert (one.stage == "continue") == (last.outcome == "cut_short" and last.stage != "continue")
            assert one.stage != "continue" or one.tier == last.tier
        assert all(each.outcome in FAILED for each in walk[:-1])
    # Nine ways for each call to fail: four, and to be cut short with five for the rest of it.
    assert seen == sum(9**n * 8 for n in range(len(chain) + 1)) + 9 ** (len(chain) + 1)


@pytest.mark.parametrize("draft", TIERS)
def test_a_chain_rises_from_the_drafting_tier_through_tiers_that_have_a_model(draft: TierName) -> None:
    for length in range(4):
        for climb in permutations(TIERS, length):
            for available in (TIERS, ("cheap", "strong"), ("mid",), ()):
                chain = chain_of(draft, (*climb, *climb), available)
                above = TIERS[TIERS.index(draft) + 1 :]
                assert chain == (draft, *(tier for tier in above if tier in climb and tier in available))


# --- the replay of recorded outcomes ------------------------------------------------------------

MODELS: dict[TierName, str] = {"cheap": "a", "mid": "b", "strong": "c"}
SOLVED = {
    f"{cheap}{mid}{strong}": dict(zip(TIERS, map(bool, (cheap, mid, strong)), strict=True))
    for cheap in (0, 1)
    for mid in (0, 1)
    for strong in (0, 1)
}


def replayed(climb: tuple[TierName, ...], *, repairs: bool = True) -> dict[str, float]:
    strong = bench.alone(SOLVED, "strong")
    return bench.figures(bench.simulate(SOLVED, MODELS, climb, seed=1, repairs=repairs), strong)


def test_behind_a_perfect_check_a_cascade_solves_what_any_of_its_tiers_or_the_caller_solves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "CATCH", 1.0)
    monkeypatch.setattr(bench, "ALARM", 0.0)
    found = replayed(("mid", "strong"))
    assert (found["solved"], found["accepted"], found["wrong_accepts"]) == (7 / 8, 7 / 8, 0)
    calls = [found[f"calls_{who}"] for who in (*TIERS, "caller")]
    # Half of the drafts fail and are repaired in vain, half of those climb on, and so on.
    assert calls == [1 + 1 / 2, 1 / 2, 1 / 4, 1 / 8]
    assert replayed(("mid", "strong"), repairs=False)["calls_cheap"] == 1
    assert replayed(())["solved"] == 6 / 8
    shares = bench.price_ratios()
    assert found["cost"] == pytest.approx(1.5 * shares["cheap"] + 0.5 * shares["mid"] + 0.25 + 0.125)


def test_without_a_check_the_first_answer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CATCH", 0.0)
    monkeypatch.setattr(bench, "ALARM", 0.0)
    found = replayed(("mid",))
    assert (found["solved"], found["accepted"], found["wrong_accepts"], found["calls_mid"]) == (0.5, 1, 0.5, 0)


def test_the_replay_says_so_where_the_recorded_outcomes_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "OUTCOMES", tmp_path / "nothing.gz")
    monkeypatch.setattr("sys.argv", ["cascade"])
    assert bench.main() == 0
    assert capsys.readouterr().out.strip() == bench.MISSING


@pytest.mark.skipif(not bench.OUTCOMES.is_file(), reason="recorded outcomes are not beside this checkout")
def test_cheap_first_keeps_the_strong_models_quality_at_little_more_than_half_of_its_cost() -> None:
    tasks = bench.tasks_of(bench.recorded(), bench.TRIPLES[0])
    strong = bench.alone(tasks, "strong")
    found = bench.figures(bench.simulate(tasks, bench.TRIPLES[0], ("mid",), seed=1, repairs=True), strong)
    assert len(tasks) == 728
    assert 0.97 < found["of_strong"] < 1.04
    assert 0.55 < found["cost"] < 0.63
    assert found["calls_strong"] == 0
