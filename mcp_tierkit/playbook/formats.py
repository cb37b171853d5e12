"""Texts that a contract knows by a format's name, such as `git-ref`: each as the function that checks it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from pydantic_core import CoreSchema, core_schema

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.playbook.quotes import Sources, is_quoted
from mcp_tierkit.workspace import clean_path

_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
# Names and ids, with ~2 and ^1 behind them. No `@{`, `:path` or `^{/text}`, which make git search or read files.
_GIT_REF = re.compile(r"(?!-)([\w@+=#%,()!./-]{1,200})([~^][0-9]{0,4}){0,4}")


def of_format(name: str, built: CoreSchema) -> CoreSchema:
    """The validator `built` for a text with that of a format behind it; `name` is one of FORMATS.

    A `quote` is looked for in the Sources that the validator is called with.
    """
    if name == QUOTE:
        return core_schema.with_info_after_validator_function(_quote, built)
    return core_schema.no_info_after_validator_function(_CHECKS[name], built)


def _project_path(text: str) -> str:
    if text == ".":
        return text  # The project itself.
    try:
        clean = clean_path(text)
    except InvalidInput:
        raise ValueError("must be a plain path inside the project") from None
    if ".git" in clean.casefold().split("/"):
        raise ValueError("must not lead into .git")
    return clean


def _git_ref(text: str) -> str:
    found = _GIT_REF.fullmatch(text)
    parts = found[1].split("/") if found else [""]
    bad_part = any(not part or part.startswith(".") or part.endswith((".", ".lock")) for part in parts)
    if bad_part or ".." in text:
        raise ValueError("must be the name of a git branch, tag or commit")
    return text


def _date(text: str) -> str:
    try:
        if len(text) == 10 and text.isascii():
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise ValueError("must be a date such as 2024-03-09")


def _semver(text: str) -> str:
    if len(text) > 128 or not _SEMVER.fullmatch(text):
        raise ValueError("must be a version such as 1.4.0")
    return text


def _quote(text: str, info: core_schema.ValidationInfo) -> str:
    sources = info.context
    if not isinstance(sources, Sources) or not is_quoted(text, sources):
        raise ValueError("must be whole words that stand in a document, copied word for word")
    return text


_CHECKS: dict[str, Callable[[str], str]] = {
    "project-path": _project_path, "git-ref": _git_ref, "date": _date, "semver": _semver,
}  # fmt: skip
QUOTE = "quote"
FORMATS = (*_CHECKS, QUOTE)
