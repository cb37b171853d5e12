"""Where a fault of a playbook's text lies, and which key was meant: for the person who mends it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError

_WORD = re.compile(r"[\w.*/{}@+-]{1,60}|[^\w\s]{1,3}", re.ASCII)
# As repr and ascii write text, and JSON.
_QUOTATION = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


def shown(word: str) -> str:
    """A word of a playbook's text, where it is one short plain word: nobody has vouched for what a longer text says."""
    return word if _WORD.fullmatch(word) else "(not shown)"


def unquoted(told: str) -> str:
    """A message in which each quotation that is more than one plain word is left out."""
    return _QUOTATION.sub(lambda found: found[0] if _WORD.fullmatch(found[0][1:-1]) else "(not shown)", told)


def line_of(text: str, path: Iterable[str]) -> int | None:
    """The line on which the dotted `path` is written down, from 1; None where its last word occurs nowhere.

    Each word is looked for from the line of the one before it: TOML, JSON and YAML alike name a key before what is
    in it, and one line may hold several.
    """
    lines, at, words = text.split("\n"), 0, list(path)
    for word in words:
        key = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
        found = next((number for number in range(at, len(lines)) if key.search(lines[number])), None)
        if found is None:
            if word == words[-1]:
                return None
            continue
        at = found
    return at + 1 if words else None


def explain(error: ValidationError, text: str, model: type[BaseModel]) -> tuple[str, int | None]:
    """The first fault of a record read from `text`, with its key, the rule and the key that was meant; and its line."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    # An unknown key first: where one was mistyped, the same one is missing as well.
    first = min(found, key=lambda fault: fault["type"] != "extra_forbidden")
    keys = [part for part in first["loc"] if isinstance(part, str)]
    where = ".".join(shown(str(part)) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, keys[:-1])
        near = difflib.get_close_matches(keys[-1], known, n=1)
        offer = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{where}: is no key of this format; {offer}", line_of(text, keys)
    told = f"{where}: {first['msg'].removeprefix('Value error, ')}"
    return told, line_of(text, keys[:-1] if first["type"] == "missing" else keys)


def _keys_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        inner = _fields(model).get(part)
        if inner is None:
            return []
        model = inner
    return list(_names(model))


def _fields(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """The fields that are records themselves, optional ones included."""
    found = {}
    for name, annotation in _names(model).items():
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found


def _names(model: type[BaseModel]) -> dict[str, object]:
    """Each field by the name that a file gives it."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}
