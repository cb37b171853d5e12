"""What a delegated edit costs the caller's own context, beside the same edit made by the caller itself.

Out: the tool's name, its parameters' names and their values as the caller writes them. In: the reply as Claude Code
shows it, compact JSON of the structured content. All counts are o200k tokens; a caller's own vocabulary differs. The
caller's own edits are modelled on Claude Code's tools (Read with numbered lines, Write, Edit). Left out on both sides:
thinking, cache writes, and the rest of the conversation but for the column that says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.delegation import CALLER, DRAFTER, FORMS, TEXT, TOOL, Ends, Exercise, Form, Run, pairs, play_all
from benchmarks.polyglot import chosen, line
from mcp_tierkit.prices import Price, PriceTable
from mcp_tierkit.server import CONTRACT, schema_tokens
from mcp_tierkit.tokens import count

CALLERS = (
    CALLER, "claude-sonnet-5-5", "claude-haiku-5-5", "gpt-5", "gpt-5.6", "gpt-6.1-sol", "gpt-6-luna",
    "gemini/gemini-3.1-pro-preview", "gemini/gemini-4-argon", "gemini/gemini-3.8-flash",
)  # fmt: skip
DRAFTERS = (DRAFTER, "gpt-6-luna", "claude-haiku-5-5", "deepseek/deepseek-v4-flash", "gemini/gemini-3.8-flash")
CONTEXT = 50_000
BARS = {"arguments beyond the task": 80, "green reply": 200, "red reply": 300, "10 to 1,000 lines": 20, "rounds": 1}
FOLDER = "/home/dev/project/"
TEST_OUT, TEST_IN = 29, 16
"""A caller's own run of the tests: the command, and a green summary."""

ENDS: dict[Ends, str] = {"at once": "green at once", "repaired": "green after a repair", "red": "red"}


def tokens(value: Any) -> int:
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    found = count(value)
    if found.is_estimate:
        raise RuntimeError("The o200k vocabulary is not installed, so nothing was counted.")
    return found.tokens


def written(tool: str, **arguments: Any) -> int:
    """Tokens that a caller writes for one call."""
    return tokens(tool) + sum(tokens(name) + tokens(value) for name, value in arguments.items())


@dataclass(frozen=True)
class Passed:
    """Tokens and rounds of the caller's for one edit, the schemas of the tools it needs, and what a drafter cost."""

    out: int
    into: int
    rounds: int
    schema: int = 0
    drafter_usd: float = 0

    @property
    def sum(self) -> int:
        return self.out + self.into

    def usd(self, price: Price, *, is_cached: bool = True, context: int = 0) -> float:
        """Dollars of the caller's. Schemas and conversation are read anew in each round, the latter always cached."""
        read = float(price.cache_read if price.cache_read is not None else price.input)
        schema = self.schema * (read if is_cached else float(price.input))
        once = self.into * float(price.input) + self.out * float(price.output)
        return (once + self.rounds * (schema + context * read)) / 1e6

    def net_usd(self, price: Price, **how: Any) -> float:
        return self.usd(price, **how) + self.drafter_usd

    def tested(self) -> Passed:
        """The same with a run of the tests behind it, for an edit that nobody has proven yet."""
        return Passed(self.out + TEST_OUT, self.into + TEST_IN, self.rounds + 1, self.schema, self.drafter_usd)


def delegated(run: Run) -> Passed:
    out, into = written(TOOL, **run.arguments), tokens(run.reply)
    return Passed(out, into, run.rounds, schema_tokens(), sum(call.cost_nanousd for call in run.paid) / 1e9)


def pointed(exercise: Exercise) -> int:
    """Tokens out where the caller names the text itself as the task, with no sentence and no context."""
    return written(TOOL, task=f"@{TEXT}", files=[exercise.path], checks=[exercise.check])


def alone(exercise: Exercise, *, reads_tests: bool = False) -> Passed:
    """The caller reads the file and the text, then writes the file or edits it, whichever is cheaper."""
    texts = {exercise.path: exercise.stub, TEXT: exercise.text, **(exercise.tests if reads_tests else {})}
    out = sum(written("Read", file_path=FOLDER + name) for name in texts)
    into = sum(tokens(numbered(text)) for text in texts.values())
    path = FOLDER + exercise.path
    done = tokens(f"The file {path} has been updated successfully.")
    whole = Passed(written("Write", file_path=path, content=exercise.example), done, 1)
    changes = pairs(exercise.stub, exercise.example)
    edits = [written("Edit", file_path=path, old_string=old, new_string=new) for old, new in changes]
    apart = Passed(sum(edits), done * len(edits), 1)
    best = min(whole, apart, key=lambda way: way.usd(price_of(CALLER)))
    return Passed(out + best.out, into + best.into, 2)


def numbered(text: str) -> str:
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(text.splitlines(), 1))


def price_of(model: str) -> Price:
    price = PriceTable().packaged(model)
    if price is None:
        raise RuntimeError(f"{model} is not in the packaged table of prices.")
    return price


# Two edits as a sweep through a file needs them: five lines in each of so many functions.

BEFORE = '''def shelf_{n:03}(boxes, limit={limit}):
    """Boxes on shelf {n} that are over its limit, by name."""
    heavy = []
    for name, weight in boxes.items():
        if weight > limit:
            heavy.append(name)
    return sorted(heavy)


'''
AFTER = '''def shelf_{n:03}(boxes, limit={limit}, unit=1):
    """Boxes on shelf {n} that are at its limit or over, by weight."""
    heavy = []
    for name, weight in boxes.items():
        if weight * unit >= limit:
            heavy.append((weight, name))
    return [name for _, name in sorted(heavy)]


'''
SWEEP_TASK = "Change the shelves in {path} as {text} says, so that every test in test_stock.py passes."
SWEEP_TEXT = """# Shelves by weight

These shelves list what is at the limit or over it, lightest first, and take `unit`, a factor for the weights, 1 by
default. The other shelves stay as they are.

{names}
"""
SWEEP_TESTS = """import pytest

import stock

CHANGED = {changed}


@pytest.mark.parametrize("n", range({functions}))
def test_a_shelf_lists_its_heavy_boxes(n):
    limit = 20 + n
    boxes = {{"a": limit + 5, "b": limit, "c": 1}}
    expected = ["b", "a"] if n in CHANGED else ["a"]
    assert getattr(stock, f"shelf_{{n:03}}")(boxes) == expected
"""


def sweep(name: str, lines: int, places: int) -> Exercise:
    """An edit of five lines in each of `places` functions of a file of that many lines."""
    functions = lines // 9
    changed = [number * functions // places for number in range(places)]
    shelves = [(AFTER if n in changed else BEFORE).format(n=n, limit=20 + n) for n in range(functions)]
    before = [BEFORE.format(n=n, limit=20 + n) for n in range(functions)]
    tests = SWEEP_TESTS.format(changed=changed, functions=functions)
    text = SWEEP_TEXT.format(names="\n".join(f"- shelf_{n:03}" for n in changed))
    files = ["".join(parts).rstrip("\n") + "\n" for parts in (before, shelves)]
    task = SWEEP_TASK.format(path="stock.py", text=TEXT)
    return Exercise(name, "stock.py", files[0], files[1], {"test_stock.py": tests}, text, task)


SWEEPS = {
    "large": sweep("large", 999, 60),
    "tiny": sweep("tiny", 199, 2),
    "1,000 lines": sweep("1,000 lines", 1_800, 200),
}


# Tables.


def header(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def spread(values: Sequence[float]) -> str:
    return f"{median(values):g} / {max(values):g}"


def of(runs: Sequence[Run], ends: Ends) -> list[Run]:
    return [run for run in runs if run.ends == ends and run.exercise not in SWEEPS]


def bars(runs: Sequence[Run]) -> dict[str, int]:
    """The largest figure found for each bar."""
    green = [tokens(run.reply) for run in runs if run.status == "applied"]
    red = [tokens(run.reply) for run in runs if run.status == "needs_work"]
    beyond = [written(TOOL, **run.arguments) - tokens(run.arguments["task"]) for run in runs]
    ten, thousand = [delegated(run).sum for name in ("tiny", "1,000 lines") for run in runs if run.exercise == name]
    rounds = max(run.rounds for run in runs)
    return dict(zip(BARS, (max(beyond), max(green), max(red), abs(thousand - ten), rounds), strict=True))


def show_tokens(found: dict[str, Exercise], runs: Sequence[Run]) -> None:
    print(f"\nTokens of the caller's per edit, {len(found)} exercises (median / max)")
    print(header("", "edits", "rounds", "out", "in", "sum"))
    rows = [(f"delegated, {ENDS[ends]}", [delegated(run) for run in of(runs, ends)]) for ends in ENDS]
    rows += [("alone: reads file and text, writes", [alone(one) for one in found.values()])]
    rows += [("alone, tests read too", [alone(one, reads_tests=True) for one in found.values()])]
    rows += [(f"delegated, {run.exercise}", [delegated(run)]) for run in runs if run.exercise in SWEEPS]
    rows += [(f"alone, {name}", [alone(one)]) for name, one in SWEEPS.items()]
    for name, costs in rows:
        shown = [spread([getattr(cost, part) for cost in costs]) for part in ("rounds", "out", "into", "sum")]
        print(f"| {name} | {len(costs)} | {' | '.join(shown)} |")
    short = spread([pointed(one) for one in found.values()])
    print(f"With task=@{TEXT} in place of a sentence and context: out {short}.")
    used = tokens({key: _tool()[key] for key in ("name", "description", "inputSchema")})
    print(f"Schemas: all six tools with instructions {schema_tokens()}, {TOOL} alone {used}.")
    for name, figure in bars(runs).items():
        print(f"{name}: {figure} at most (bar {BARS[name]}){'' if figure <= BARS[name] else '   OVER'}")


def _tool() -> dict[str, Any]:
    return next(tool for tool in CONTRACT["tools"] if tool["name"] == TOOL)


HOWS: dict[str, dict[str, Any]] = {
    "cached": {"is_cached": True},
    "not cached": {"is_cached": False},
    "50,000 re-read": {"is_cached": True, "context": CONTEXT},
}


@dataclass(frozen=True)
class Dollars:
    """One caller model, one way of counting: medians in dollars, ours with the drafter's bill, and who wins."""

    caller: str
    how: str
    ends: Ends
    alone: float
    delegated: float
    drafter: float
    wins: int
    losses: int


def dollars(found: dict[str, Exercise], runs: Sequence[Run]) -> list[Dollars]:
    """Ours beside the caller's own work, exercise by exercise. A red draft leaves all of that work still to do."""
    rows = []
    for caller in CALLERS:
        for how, kind in HOWS.items():
            rows += [_dollars(found, of(runs, ends), caller, how, kind, ends) for ends in ENDS]
    return rows


def _dollars(
    found: dict[str, Exercise], runs: Sequence[Run], caller: str, how: str, kind: dict[str, Any], ends: Ends
) -> Dollars:
    price, ours, theirs = price_of(caller), [], []
    for run in runs:
        own = alone(found[run.exercise])
        # A conversation is read again by each round, so there the round that proves the caller's own edit counts too.
        theirs.append((own.tested() if "context" in kind else own).usd(price, **kind))
        ours.append(delegated(run).net_usd(price, **kind) + (theirs[-1] if ends == "red" else 0))
    wins = sum(our < their for our, their in zip(ours, theirs, strict=True))
    spent = median(delegated(run).drafter_usd for run in runs)
    return Dollars(caller, how, ends, median(theirs), median(ours), spent, wins, len(runs) - wins)


def show_dollars(rows: Sequence[Dollars]) -> None:
    print("\nDollars per edit (medians): alone, delegated with the drafter's bill, and in how many edits that is less")
    print(header("caller", "counted", "alone", "at once", "repaired", "red, then alone", "wins-losses"))
    for caller in CALLERS:
        for how in HOWS:
            three = [row for row in rows if (row.caller, row.how) == (caller, how)]
            wins = ", ".join(f"{row.wins}-{row.losses}" for row in three)
            costs = " | ".join(f"{row.delegated:.4f}" for row in three)
            print(f"| {caller} | {how} | {three[0].alone:.4f} | {costs} | {wins} |")
    print(f"Wins and losses stand for {', '.join(ENDS.values())}, in that order.")


def reds_borne(found: dict[str, Exercise], runs: Sequence[Run], caller: str, how: str) -> float:
    """The share of drafts that may end red before delegating costs more than it saves, at medians."""
    once, red = (
        next(row for row in dollars(found, runs) if (row.caller, row.how, row.ends) == (caller, how, ends))
        for ends in ("at once", "red")
    )
    saved, lost = once.alone - once.delegated, red.delegated - red.alone
    return max(saved / (saved + lost), 0.0) if saved + lost > 0 else 0.0


def drafter_usd(runs: Sequence[Run], model: str) -> float:
    price = price_of(model)
    costs = [
        sum(call.input_tokens * float(price.input) + call.output_tokens * float(price.output) for call in run.paid)
        for run in runs
    ]
    return median(costs) / 1e6


def show_drafters(runs: Sequence[Run]) -> None:
    print("\nThe drafter's own bill per edit (median, dollars; nothing cached, a model on this machine costs 0)")
    print(header("drafter", *ENDS.values()))
    for model in DRAFTERS:
        print(f"| {model} | {' | '.join(f'{drafter_usd(of(runs, ends), model):.5f}' for ends in ENDS)} |")


def reference() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf8"))["row"]
    return rows


def our_row(runs: Sequence[Run]) -> dict[str, Any]:
    """Our figures as the reference counts them: its prices, without the drafter's bill; greens of both kinds."""
    green = [delegated(run) for ends in ("at once", "repaired") for run in of(runs, ends)]
    price = price_of(CALLER)
    row: dict[str, Any] = {"name": "tierkit", "schema": schema_tokens(), "rounds": max(cost.rounds for cost in green)}
    for name, part in (("out", "out"), ("in", "into")):
        values = [getattr(cost, part) for cost in green]
        row[name] = [median(values), max(values)]
    for name, how in zip(("cached", "fresh", "context_50k"), HOWS.values(), strict=True):
        row[name] = median(cost.usd(price, **how) for cost in green)
    row["red"] = median(delegated(run).into for run in of(runs, "red"))
    for name in ("large", "tiny"):
        cost = next(delegated(run) for run in runs if run.exercise == name)
        row[name] = {"out": cost.out, "in": cost.into, "usd": cost.usd(price)}
    return row


def beaten(ours: dict[str, Any], row: dict[str, Any]) -> dict[str, bool]:
    """Where we are better than a reference row, figure by figure."""
    pairs_of: dict[str, tuple[float, float]] = {
        "tokens": (sum(part[0] for part in (ours["out"], ours["in"])), sum(part[0] for part in (row["out"], row["in"])))
    }
    pairs_of |= {name: (ours[name], row[name]) for name in ("schema", "cached", "fresh", "context_50k")}
    pairs_of |= {name: (ours[name]["usd"], row[name]["usd"]) for name in ("large", "tiny")}
    if "red" in row:
        pairs_of["red"] = (ours["red"], row["red"])
    return {name: our < their for name, (our, their) in pairs_of.items()}


def show_reference(ours: dict[str, Any]) -> None:
    print("\nBeside tools whose server proves the result: medians; dollars at 4 / 20 / 0.20, without the worker's bill")
    print(header("", "schema", "rounds", "out", "in", *HOWS, "red in", "large", "tiny", "we lose in"))
    for row in [ours, *reference()]:
        figures = [row["schema"], row["rounds"], f"{row['out'][0]:g}", f"{row['in'][0]:g}"]
        figures += [f"{row[name]:.4f}" for name in ("cached", "fresh", "context_50k")]
        figures += [f"{row.get('red', '-')}", *(f"{row[name]['usd']:.4f}" for name in ("large", "tiny"))]
        lost = [name for name, is_better in beaten(ours, row).items() if not is_better]
        print(f"| {row['name']} | {' | '.join(map(str, figures))} | {'' if row is ours else ', '.join(lost) or '-'} |")


def jobs(found: Sequence[Exercise]) -> list[tuple[Exercise, Form, Ends]]:
    """All three formats with a repair; the other ends, which the format does not change, in each format by turns."""
    wanted: list[tuple[Exercise, Form, Ends]] = [(one, form, "repaired") for one in found for form in FORMS]
    for ends in ("at once", "red"):
        wanted += [(one, FORMS[number % 3], ends) for number, one in enumerate(found)]
    return wanted + [(one, "search/replace", "at once") for one in SWEEPS.values()]


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--json", action="store_true", help="print figures and runs as JSON instead of tables")
    reader.add_argument("--only", metavar="ID", help="one exercise, beside the synthetic edits")
    asked = reader.parse_args()
    found = {exercise.name: exercise for exercise in chosen(asked.only)}
    started = time.perf_counter()

    def told(done: int, of: int, run: Run) -> None:
        print(f"[{done:2}/{of}] {line(run)}", file=sys.stderr, flush=True)

    runs = play_all(jobs(list(found.values())), told)
    if asked.json:
        figures = {"ours": our_row(runs), "bars": bars(runs), "dollars": [asdict(row) for row in dollars(found, runs)]}
        print(json.dumps(figures | {"runs": [asdict(run) for run in runs]}))
    else:
        show_tokens(found, runs)
        show_dollars(dollars(found, runs))
        for caller in CALLERS:
            shares = ", ".join(f"{reds_borne(found, runs, caller, how):.0%} {how}" for how in HOWS)
            print(f"Reds borne by {caller}: {shares}")
        show_drafters(runs)
        show_reference(our_row(runs))
        print(f"\n{len(runs)} edits, {time.perf_counter() - started:.0f} s")
    fine = all(run.is_as_scripted for run in runs)
    return 0 if fine and all(figure <= BARS[name] for name, figure in bars(runs).items()) else 1


if __name__ == "__main__":
    sys.exit(main())
