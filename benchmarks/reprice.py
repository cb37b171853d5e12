"""Prices a provider's own log with exact fractions and holds the ledger against it, request by request.

`python -m benchmarks.reprice LEDGER LOG RATES` prints every difference and ends with 1 where there is one. It shares no
code with the product: the log is the provider's account, the ledger is read as a file, and the rates are the ones that
the user wrote, `{"model": {"input": "0.10", ...}}` in US dollars per million tokens. Requests and rows of one job find
each other by the job's name, `job-000123`, which stands in the prompt and in the task, and by their order.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

Rates = Mapping[str, Mapping[str, str]]
JOB = re.compile(r"job-\d{6}")
BUCKETS = {"fresh": "input", "cached": "cache_read", "written": "cache_write", "output": "output"}
COLUMNS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
TURNED_AWAY = frozenset({400, 401, 402, 403, 404, 413, 422, 429, 503, 529})
"""Statuses with which a provider charges nothing."""
CUT_OFF = frozenset({"cancelled", "interrupted"})
"""Rows of calls that somebody stopped: the request may have been answered, under way, or never sent."""
NEVER_SENT = frozenset({("failed", "timeout", 0), ("cancelled", "cancelled", 0)})
"""Status, error and cost of rows whose time ran out, or whose caller gave up, before their request had left."""


class Asked(NamedTuple):
    """A request in the provider's account. `tokens` is None where its answer named none, or there was none."""

    model: str
    status: int | None
    tokens: tuple[int, ...] | None
    is_answer: bool
    cost: Fraction | None


class Row(NamedTuple):
    call_id: str
    task_id: str
    model: str
    status: str
    error: str | None
    tokens: tuple[int | None, ...]
    reserved: int | None
    cost: int | None
    day: str
    budget_key: str


def read_log(log: Path, rates: Rates) -> dict[str, list[Asked]]:
    """The requests of each job, oldest first."""
    found: dict[str, list[tuple[int, Asked]]] = defaultdict(list)
    for line in log.read_text("utf8").splitlines():
        served = json.loads(line)
        asked, tokens = served["asked"], served["tokens"]
        counted = None if tokens is None else tuple(tokens[name] for name in BUCKETS)
        cost = None if counted is None else price(rates[asked["model"]], counted)
        is_answer = served["served_model"] is not None
        request = Asked(asked["model"], served["status"], counted, is_answer, cost)
        found[job_in(json.dumps(asked["body"]))].append((asked["number"], request))
    return {job: [request for _, request in sorted(made)] for job, made in found.items()}


def price(rates: Mapping[str, str], tokens: Sequence[int]) -> Fraction:
    """Nanodollars, exactly: a dollar for a million tokens is a thousand nanodollars for each."""
    charged = zip(tokens, BUCKETS.values(), strict=True)
    return sum((count * Fraction(rates[name]) * 1000 for count, name in charged if count), Fraction(0))


def job_in(text: str) -> str:
    names = set(JOB.findall(text))
    return names.pop() if len(names) == 1 else f"nobody's: {sorted(names)}"


def read_rows(conn: sqlite3.Connection) -> dict[str, list[Row]]:
    """The calls of each job in the order in which they were reserved."""
    query = f"""select call_id, task_id, routed_model, status, error, reserved_nanousd, cost_nanousd, substr(at, 1, 10),
        budget_key, tasks.record || (select group_concat(record) from routes where routes.task_id = calls.task_id),
        {", ".join(COLUMNS)} from calls join tasks using (task_id) order by calls.rowid"""
    found: dict[str, list[Row]] = defaultdict(list)
    for call_id, task_id, model, status, error, reserved, cost, day, key, told, *tokens in conn.execute(query):
        name = model.rpartition("/")[2]
        row = Row(call_id, task_id, name, status, error, tuple(tokens), reserved, cost, day, key)
        found[job_in(told)].append(row)
    return found


def check(ledger: Path, log: Path, rates: Rates) -> list[str]:
    """Every difference between the ledger and the provider's log; none where each tells the same."""
    asked = read_log(log, rates)
    with closing(sqlite3.connect(ledger)) as conn:
        rows = read_rows(conn)
        told = [
            f"{job}: {what}"
            for job in sorted({*asked, *rows})
            for what in compare(asked.get(job, []), rows.get(job, []))
        ]
        pairs = [pair for job in rows for pair in paired(asked.get(job, []), rows[job])]
        return told + list(totals(conn, pairs)) + list(receipts(conn, pairs))


def compare(asked: Sequence[Asked], rows: Sequence[Row]) -> list[str]:
    pairs = paired(asked, rows)
    if not pairs and (asked or rows):
        statuses = ", ".join(row.status for row in rows)
        return [f"{len(asked)} requests and {len(rows)} rows ({statuses or 'none'}) do not pair off"]
    return [what for row, request in pairs for what in differences(row, request)]


def paired(asked: Sequence[Asked], rows: Sequence[Row]) -> list[tuple[Row, Asked | None]]:
    """Each row with its request, in order; only calls that were cut off may have sent none. Empty: there is no way."""
    stopped = [at for at, row in enumerate(rows) if row.status in CUT_OFF or is_unsent(row)]
    best: list[tuple[Row, Asked | None]] = []
    least = None
    for unsent in combinations(stopped, len(rows) - len(asked)) if len(rows) >= len(asked) else ():
        left = iter(asked)
        pairs = [(row, None if at in unsent else next(left)) for at, row in enumerate(rows)]
        found = sum(len(differences(row, request)) for row, request in pairs)
        if least is None or found < least:
            best, least = pairs, found
    return best


def is_unsent(row: Row) -> bool:
    return (row.status, row.error, row.cost) in NEVER_SENT


def differences(row: Row, asked: Asked | None) -> list[str]:
    """What a row says that its request does not bear out."""
    if asked is None and is_unsent(row):
        return []
    if asked is None or row.status in CUT_OFF:
        return [f"{row.call_id} was cut off and has a cost"] if row.cost is not None else []
    found = [] if row.model == asked.model else [f"{row.call_id} names {row.model}, and {asked.model} was asked"]
    status = "settled" if asked.is_answer else "failed"
    if row.status != status:
        found.append(f"{row.call_id} is {row.status}, and was {status}")
    expected = (None,) * len(COLUMNS) if asked.tokens is None else asked.tokens
    if row.tokens != expected:
        found.append(f"{row.call_id} has tokens {row.tokens}, and {expected} were used")
    if row.cost != due(asked):
        found.append(f"{row.call_id} cost {row.cost} nanodollars, and {due(asked)} were due")
    return found


def due(asked: Asked) -> int | None:
    """What a request came to in whole nanodollars, half to even; None where nobody can know."""
    if asked.cost is not None:
        return round(asked.cost)
    return 0 if asked.status in TURNED_AWAY else None


def known_cost(row: Row, asked: Asked | None) -> int | None:
    """What is known of a call's cost: nothing of one that was cut off."""
    if asked is None and is_unsent(row):
        return 0
    return None if asked is None or row.status in CUT_OFF else due(asked)


def totals(conn: sqlite3.Connection, pairs: Sequence[tuple[Row, Asked | None]]) -> Iterator[str]:
    """The running totals that budgets read, against the requests: the unknown counts as what was reserved for it."""
    sums: Counter[tuple[str, str]] = Counter()
    for row, asked in pairs:
        known = known_cost(row, asked)
        for key in (("day", row.day), ("month", row.day[:7]), ("project", row.budget_key)):
            sums[key] += (row.reserved or 0) if known is None else known
    kept = {(budget, key): amount for budget, key, amount in conn.execute("select * from budget_spend")}
    for key in sorted({*sums, *kept}):
        if sums[key] != kept.get(key, 0):
            yield f"the total of {' '.join(key)} is {kept.get(key, 0)} nanodollars, and should be {sums[key]}"


def receipts(conn: sqlite3.Connection, pairs: Sequence[tuple[Row, Asked | None]]) -> Iterator[str]:
    """What callers were told that their task had cost, against its requests."""
    spent: dict[str, list[int | None]] = defaultdict(list)
    for row, asked in pairs:
        spent[row.task_id].append(known_cost(row, asked))
    for task_id, reply in conn.execute("select task_id, reply from tasks where state = 'done' and reply is not null"):
        told = json.loads(reply).get("reply") or {}
        said: Any = (
            told.get("receipt", {}).get("measured", {}).get("usd", "none")
            if "receipt" in told
            else told.get("usd", "none")
        )
        costs = spent[task_id]
        right = None if None in costs else sum(cost or 0 for cost in costs)
        if said != "none" and (None if said is None else Fraction(said) * 10**9) != right:
            yield f"the reply of {task_id} says ${said}, and {right} nanodollars were due"


def main() -> int:
    ledger, log, rates = map(Path, sys.argv[1:4])
    found = check(ledger, log, json.loads(rates.read_text()))
    for line in found:
        print(line)
    print(f"{len(found)} differences")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
