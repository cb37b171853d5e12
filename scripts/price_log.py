"""Price an upstream's own log in exact fractions, beside a ledger: price_log.py LOG.jsonl LEDGER.db [PRICES.toml]

Shares no code with the product. Ends with 1 where a request has no settled row, a row no request, or the sums differ.
"""

import json
import sqlite3
import sys
import tomllib
from collections import Counter
from fractions import Fraction
from pathlib import Path

RATES = {"fresh": "input", "cached": "cache_read", "written": "cache_write", "output": "output"}


def main(log: str, ledger: str, prices: str = "mcp_tierkit/data/prices.toml") -> int:
    table = tomllib.loads(Path(prices).read_text("utf8"))["model"]
    asked: Counter[tuple[str, int]] = Counter()
    for line in Path(log).read_text("utf8").splitlines():
        served = json.loads(line)
        model, tokens = served["served_model"] or served["asked"]["model"], served["tokens"]
        if tokens is not None and served["status"] == 200:
            parts = (Fraction(table[model][rate]) * 1000 * tokens[name] for name, rate in RATES.items() if tokens[name])
            asked[model, round(sum(parts, Fraction(0)))] += 1
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as conn:
        rows = conn.execute("SELECT served_model, cost_nanousd FROM call_log WHERE status = 'settled'").fetchall()
    paid = Counter(rows)
    print(f"upstream: {asked.total()} requests, {sum(cost * n for (_, cost), n in asked.items())} nanodollars")
    print(f"ledger:   {paid.total()} settled, {sum((cost or 0) * n for (_, cost), n in paid.items())} nanodollars")
    print("agree" if asked == paid else f"DIFFER: upstream only {asked - paid}, ledger only {paid - asked}")
    return 0 if asked == paid else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
