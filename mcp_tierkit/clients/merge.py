"""One entry put into a configuration text; every other byte of it stays."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mcp_tierkit.errors import InvalidInput

Format = Literal["json", "toml"]
Table = dict[str, Any]
_BLANK = " \t\r\n"


def parse(format: Format, text: str, table: Sequence[str], name: str) -> Table:
    """The table of servers, empty where there is none. Raises InvalidInput for a text that is not plainly one."""
    found = _read(format, text, name)
    for key in table:
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise _broken(name, f"its {key!r} is not a table")
    return found


def merge(format: Format, text: str, table: Sequence[str], entry: str, value: Mapping[str, Any], name: str) -> str:
    """The text with `entry` added or replaced. Raises InvalidInput when the outcome would not be exactly that."""
    body = text.removeprefix("\ufeff")
    try:
        merged = (_put_json if format == "json" else _put_toml)(body, table, entry, value)
    except ValueError:  # tomlkit is stricter than tomllib in places.
        raise _broken(name, "its layout is beyond what can be merged") from None
    if _read(format, merged, name) != _expected(_read(format, body, name), table, entry, value):
        raise _broken(name, "its layout leaves no certain place for the entry")
    return text[: len(text) - len(body)] + merged


def dump(format: Format, table: Sequence[str], entry: str, value: Mapping[str, Any]) -> str:
    """A whole text with this entry alone."""
    return (_put_json if format == "json" else _put_toml)("", table, entry, value)


def _read(format: Format, text: str, name: str) -> Table:
    text = text.removeprefix("\ufeff")
    if not text.strip():
        return {}
    try:
        found = json.loads(text, object_pairs_hook=_unique) if format == "json" else tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(name, f"line {error.lineno}, column {error.colno} is not JSON") from None
    except (ValueError, RecursionError) as error:
        raise _broken(name, str(error).splitlines()[0]) from None
    if not isinstance(found, dict):
        raise _broken(name, "it holds no JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> Table:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _broken(name: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{name} cannot be merged: {why}. It was not touched.",
        next_step="Mend the file and run this again, or paste what tierkit init --client other prints.",
    )


def _expected(found: Table, table: Sequence[str], entry: str, value: Mapping[str, Any]) -> Table:
    if not table:
        return {**found, entry: dict(value)}
    return {**found, table[0]: _expected(found.get(table[0], {}), table[1:], entry, value)}


def _put_json(text: str, table: Sequence[str], entry: str, value: Mapping[str, Any]) -> str:
    if not text.strip():
        text = "{}\n"
    unit = _indent_of(text)
    start, depth, path = _skip(text, 0), 0, [*table, entry]
    while path:
        members, end = _members(text, start)
        key = path.pop(0)
        depth += 1
        if key not in members:
            for outer in reversed(path):
                value = {outer: value}
            member = f"\n{unit * depth}{json.dumps(key)}: {_render(value, unit, depth)}"
            if members:
                start = end = list(members.values())[-1][1]
                return _splice(text, start, end, "," + member)
            return _splice(text, start, end, f"{{{member}\n{unit * (depth - 1)}}}")
        start, end = members[key]
    return _splice(text, start, end, _render(value, unit, depth))


def _splice(text: str, start: int, end: int, part: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    return text[:start] + part.replace("\n", newline) + text[end:]


def _render(value: Any, unit: str, depth: int) -> str:
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", "\n" + unit * depth)


def _members(text: str, start: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each member's value stands in the object that opens at `start`, and where the object ends."""
    decoder = json.JSONDecoder()
    found: dict[str, tuple[int, int]] = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        _, end = decoder.raw_decode(text, at)
        found[key] = (at, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found, at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _indent_of(text: str) -> str:
    for line in text.split("\n")[1:]:
        rest = line.lstrip(" \t")
        if rest and rest != line:
            return line[: len(line) - len(rest)]
    return "  "


def _put_toml(text: str, table: Sequence[str], entry: str, value: Mapping[str, Any]) -> str:
    import tomlkit
    import tomlkit.items

    document = tomlkit.parse(text)
    level: Any = document
    for key in table:
        if key not in level:
            level[key] = tomlkit.table(is_super_table=True)
        level = level[key]
    if entry not in level:
        is_inline = isinstance(level, tomlkit.items.InlineTable)
        level[entry] = tomlkit.inline_table() if is_inline else tomlkit.table()
    server = level[entry]
    for key, item in value.items():
        if key in server and server[key] == item:
            continue
        server[key] = _inline(item) if isinstance(item, dict) else item
    after = tomlkit.dumps(document)
    return re.sub(r"(?<!\r)\n", "\r\n", after) if "\r\n" in text else after


def _inline(item: Mapping[str, Any]) -> Any:
    import tomlkit

    table = tomlkit.inline_table()
    table.update(item)
    return table
