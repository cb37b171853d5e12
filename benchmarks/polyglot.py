"""Exercises of the polyglot set, drafted, repaired and proven over MCP, in each format that models answer in.

The drafter's words are scripted (a spoiled solution, then the example), so this shows what the server does with a
reply, not how well a model writes one. Server, client, edits, checks, ledger and the exercises' own tests are real.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.delegation import FORMS, TEXT, Exercise, Run, play, play_all

EXERCISES = Path(__file__).resolve().parents[2] / "shared" / "eval" / "polyglot_python_dev.jsonl.gz"
MISSING = "The polyglot exercises are not beside this checkout (../shared/eval), so nothing was run."
TASK = (
    "Implement {path} as {text} describes, so that every test in {tests} passes. Keep the names that the tests import."
)


def exercises() -> list[Exercise]:
    """The exercises that are at hand; none where the file is not."""
    if not EXERCISES.is_file():
        return []
    with gzip.open(EXERCISES, "rt", encoding="utf8") as lines:
        rows = [json.loads(line) for line in lines]
    found = []
    for row in rows:
        [(path, stub)] = row["stub"].items()
        task = TASK.format(path=path, text=TEXT, tests=" ".join(row["tests"]))
        found.append(Exercise(row["id"], path, stub, row["example"][path], row["tests"], row["instructions"], task))
    return found


def chosen(only: str | None) -> list[Exercise]:
    """All exercises, or the one of that name. Where there are none, says so and ends the program."""
    found = [exercise for exercise in exercises() if only in (None, exercise.name)]
    if not found:
        is_there = EXERCISES.is_file()
        print(f"There is no exercise {only}." if is_there else MISSING, file=sys.stderr)
        sys.exit(2 if is_there else 0)
    return found


def line(run: Run) -> str:
    went = " > ".join((run.before, *run.attempts))
    fault = "" if run.is_as_scripted else f"   NOT AS SCRIPTED: {run.reply.get('summary')}"
    return f"{run.exercise:26}{run.form:16}{run.status:12}{went:24}{run.seconds:5.1f} s{fault}"


def same(one: Run, other: Run) -> bool:
    """Whether two doors gave the same reply, but for the random id and for money.

    The seconds that a test runner prints are in the drafter's prompt, so its tokens differ a little from run to run.
    """
    replies = [{name: value for name, value in run.reply.items() if name != "receipt"} for run in (one, other)]
    texts = [re.sub(r"\bt\d{12}\b|\$[\d.]+", "", json.dumps(reply)) for reply in replies]
    return texts[0] == texts[1] and one.reply["receipt"].keys() == other.reply["receipt"].keys()


def report(runs: list[Run], seconds: float) -> bool:
    fine = Counter(run.form for run in runs if run.is_as_scripted)
    total = Counter(run.form for run in runs)
    for form in FORMS:
        print(f"{form:16}{fine[form]:3} of {total[form]} applied: red before, red after the wrong draft, green at last")
    print(f"{sum(fine.values())} of {len(runs)} runs, each proven again by its own tests; {seconds:.0f} s")
    return sum(fine.values()) == len(runs)


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--json", action="store_true", help="print the runs as JSON instead of lines")
    reader.add_argument("--only", metavar="ID", help="one exercise")
    asked = reader.parse_args()
    found = chosen(asked.only)
    started = time.perf_counter()

    def told(done: int, of: int, run: Run) -> None:
        print(f"[{done:2}/{of}] {line(run)}", file=sys.stderr if asked.json else sys.stdout, flush=True)

    runs = play_all([(exercise, form, "repaired") for exercise in found for form in FORMS], told)
    over_stdio = play(found[0], FORMS[0], "repaired", "stdio")
    agree = same(runs[0], over_stdio) and over_stdio.is_as_scripted
    seconds = time.perf_counter() - started
    if asked.json:
        print(json.dumps({"runs": [asdict(run) for run in runs], "stdio_agrees": agree, "seconds": round(seconds, 1)}))
        return 0 if agree and all(run.is_as_scripted for run in runs) else 1
    print(f"the server over stdio, as a process of its own, gives {'the same reply' if agree else 'ANOTHER REPLY'}")
    return 0 if report(runs, seconds) and agree else 1


if __name__ == "__main__":
    sys.exit(main())
