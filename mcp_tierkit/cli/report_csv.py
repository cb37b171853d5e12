"""The report as CSV: one text for each table, with exact dollars, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import get_args

from mcp_tierkit.ledger.levers import Lever, Savings
from mcp_tierkit.ledger.spending import NextDollar
from mcp_tierkit.ledger.told import Told
from mcp_tierkit.receipts import usd
from mcp_tierkit.scorecard import Baseline
from mcp_tierkit.types import Record

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of something to work out, be it in a wide script."""


def tables(told: Told) -> dict[str, str]:
    """Each table's name and text. Unknown is an empty cell; amounts in `_usd` columns are exact."""
    found = {name: _text(name, type(one), (one,)) for name, one in (("overview", told.overview), ("ends", told.ends))}
    for of, names in ((told, tuple(Told.model_fields)), (told.next_dollar, ("parts",)), (told.savings, _SAVINGS)):
        for name in names:
            if kind := _kind(type(of), name):
                file = _NAMES.get(name, name)
                found[file] = _text(file, kind, getattr(of, name))
    return found


HEADS: Mapping[str, Mapping[str, str]] = {
    "by_day": {"key": "day"}, "by_tier": {"key": "tier"}, "by_model": {"key": "model"}, "by_step": {"key": "step"},
    "by_category": {"key": "category"}, "by_project": {"key": "project"}, "by_billing": {"key": "billing"},
    "shares": {name: f"share_of_{name}" for name in ("tokens", "calls", "cost", "quota")},
    "scorecards": {name: f"{name}_score" for name in ("cost", "speed", "accuracy")},
    "ends": {"of": "tasks"},
}  # fmt: skip
"""Columns whose name in the record says too little where a file is read by itself."""
_IN_UNITS: Mapping[type[Record], tuple[str, ...]] = {
    Lever: ("low", "high"), Baseline: ("alone_low", "alone_high", "ours")
}  # fmt: skip
"""Figures that are dollars in one row and tokens in the next: each has a column of its own for either."""
_SAVINGS = ("levers", "unsaid")
_NAMES = {"parts": "next_dollar", "unsaid": "levers_unknown"}


def _kind(of: type[Told | NextDollar | Savings], field: str) -> type[Record] | None:
    """What a field is a tuple of, where that is a record."""
    inner = get_args(of.model_fields[field].annotation)
    return inner[0] if inner and isinstance(inner[0], type) and issubclass(inner[0], Record) else None


def _text(file: str, kind: type[Record], rows: Sequence[Record]) -> str:
    out, heads = io.StringIO(), HEADS.get(file, {})
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([heads.get(name) or _head(name) for name in _columns(kind)])
    for row in rows:
        flat = _flat(row.model_dump(mode="json"))
        writer.writerow([_cell(name, flat.get(name)) for name in _columns(kind)])
    return out.getvalue()


def _columns(kind: type[Record]) -> list[str]:
    in_units = _IN_UNITS.get(kind, ())
    names: list[str] = []
    for name, field in kind.model_fields.items():
        if in_units and name in (*in_units, "unit"):
            continue
        inner = next((one for one in (field.annotation, *get_args(field.annotation)) if _is_record(one)), None)
        names += [f"{name}.{below}" for below in _columns(inner)] if inner else [name]
    return names + [f"{name}_{unit}" for unit in ("nanousd", "tokens") for name in in_units]


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Record)


def _flat(row: Mapping[str, object], before: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in _by_unit(row).items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat


def _by_unit(row: Mapping[str, object]) -> Mapping[str, object]:
    """The figures of a lever or a baseline named with their unit: no column is dollars and tokens."""
    if "unit" not in row:
        return row
    unit = {"usd": "nanousd"}.get(str(row["unit"]), row["unit"])
    names = {name for names in _IN_UNITS.values() for name in names}
    return {f"{name}_{unit}" if name in names else name: value for name, value in row.items() if name != "unit"}


def _head(name: str) -> str:
    return name.rpartition(".")[2].replace("nanousd", "usd")


def _cell(name: str, value: object) -> object:
    if name.endswith("nanousd") and isinstance(value, int):
        return usd(value)
    if not isinstance(value, str):
        return value
    # Nothing in it may steer a terminal that the file is printed on.
    text = "".join(char if char.isprintable() else " " for char in value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
