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
from mcp_tierkit.types import Record

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of something to work out, be it in a wide script."""


def tables(told: Told) -> dict[str, str]:
    """Each table's name and text. Unknown is an empty cell; amounts in `_usd` columns are exact."""
    found = {name: _text(type(one), (one,)) for name, one in (("overview", told.overview), ("ends", told.ends))}
    for of, names in ((told, tuple(Told.model_fields)), (told.next_dollar, ("parts",)), (told.savings, _SAVINGS)):
        for name in names:
            if kind := _kind(type(of), name):
                found[_NAMES.get(name, name)] = _text(kind, getattr(of, name))
    return found


_SIDES = ("low", "high")
_SAVINGS = ("levers", "unsaid")
_NAMES = {"parts": "next_dollar", "unsaid": "levers_unknown"}


def _kind(of: type[Told | NextDollar | Savings], field: str) -> type[Record] | None:
    """What a field is a tuple of, where that is a record."""
    inner = get_args(of.model_fields[field].annotation)
    return inner[0] if inner and isinstance(inner[0], type) and issubclass(inner[0], Record) else None


def _text(kind: type[Record], rows: Sequence[Record]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_head(name) for name in _columns(kind)])
    for row in rows:
        flat = _by_unit(_flat(row.model_dump(mode="json")))
        writer.writerow([_cell(name, flat.get(name)) for name in _columns(kind)])
    return out.getvalue()


def _columns(kind: type[Record]) -> list[str]:
    if kind is Lever:
        return ["lever", "tasks", *(f"{side}_{unit}" for unit in ("nanousd", "tokens") for side in _SIDES)]
    names: list[str] = []
    for name, field in kind.model_fields.items():
        inner = next((one for one in (field.annotation, *get_args(field.annotation)) if _is_record(one)), None)
        names += [f"{name}.{below}" for below in _columns(inner)] if inner else [name]
    return names


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Record)


def _flat(row: Mapping[str, object], before: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat


def _by_unit(flat: dict[str, object]) -> dict[str, object]:
    """A lever's range in columns of its unit: no cell is dollars in one row and tokens in the next."""
    unit = flat.get("unit")
    if unit is None:
        return flat
    return {**flat, **{f"{side}_{unit}": flat[side] for side in _SIDES}}


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
