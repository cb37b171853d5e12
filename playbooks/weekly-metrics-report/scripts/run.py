"""The weekly metrics report: inputs as JSON on stdin, the report as JSON to PLAYBOOK_RESULT."""

import json
import os
import sqlite3
import sys
from datetime import date, timedelta
from pathlib import Path
from string import Template

ASSETS = Path(__file__).resolve().parent.parent / "assets"
WEEK = timedelta(days=7)


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def monday(week):
    year, number = week.split("-W")
    try:
        start = date.fromisocalendar(int(year), int(number), 1)
        return start - WEEK, start, start + WEEK
    except (ValueError, OverflowError) as error:
        decline(f"{week}: {error}")


def open_read_only(path):
    if not path.is_file():
        decline(f"there is no {path.name}")
    # A file in WAL mode wants to write beside itself even to be read. Without a log of pending writes
    # it can be read as it lies there.
    wal = path.with_name(path.name + "-wal")
    mode = "mode=ro" if wal.exists() and wal.stat().st_size else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)


def money(cents):
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


inputs = json.load(sys.stdin)
before, start, stop = monday(inputs["week"])
database = open_read_only(Path(inputs.get("database", "data/shop.db")))
query = (ASSETS / "weekly.sql").read_text(encoding="utf-8")
try:
    orders, cents = database.execute(query, {"start": str(start), "stop": str(stop)}).fetchone()
    orders_before, _ = database.execute(query, {"start": str(before), "stop": str(start)}).fetchone()
except sqlite3.DatabaseError as error:
    decline(f"the report cannot be made from this file: {error}")
if type(cents) is not int:
    decline("the report cannot be made from this file: cents are not whole numbers")

report = Template((ASSETS / "report.md").read_text(encoding="utf-8")).substitute(
    week=inputs["week"], orders=orders, change=f"{orders - orders_before:+d}", revenue=money(cents)
)
with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
    json.dump({"report": report, "orders": orders, "revenue_cents": cents}, out)
