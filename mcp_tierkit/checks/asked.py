"""Checks as callers write them: a command line split like a shell splits words, and never given to one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.evidence import plain
from mcp_tierkit.types import Check
from mcp_tierkit.workspace import clean_path

_OPERATOR = re.compile(r"[|&;<>`\n]|\$\(|\$\{")
_SETTING = re.compile(r"[A-Za-z_]\w*=.*", re.S)


def parse_check(value: str | dict[str, Any] | Check) -> Check:
    """A check from a command line or from {argv, cwd, timeout_s}; InvalidInput where it needs a shell."""
    if isinstance(value, Check):
        return value
    given: dict[str, Any] = {"argv": value} if isinstance(value, str) else dict(value)
    if isinstance(given.get("argv"), str):
        given["argv"] = _split(given["argv"])
    try:
        check = Check.model_validate(given)
    except ValidationError as error:
        # Names of our own only: an unknown one, or a value, is the caller's and may be a secret.
        wrong = [str(row["loc"][0]) for row in error.errors() if row["loc"][0] in Check.model_fields]
        what = f"{wrong[0]} has a value of the wrong kind" if wrong else "it has a field that no check has"
        raise _unusable(what, "Give a command line, or {argv, cwd, timeout_s}.") from None
    if not check.argv[0] or any(plain(word.encode("utf-8", "replace")) != word for word in check.argv):
        raise _unusable("a word is empty or holds control characters", "Give a plain command line.")
    cwd = "." if check.cwd in (".", "./", "") else clean_path(check.cwd)
    return check.model_copy(update={"cwd": cwd})


def _split(line: str) -> list[str]:
    try:
        words = shlex.split(line)
        bare = "".join(_unquoted(line))
    except ValueError as error:
        raise _unusable(str(error).lower(), "Close the quotes.") from None
    if _OPERATOR.search(bare):
        raise _unusable("it needs a shell, and none is used", "Put it into a script and name the script as the check.")
    if not words:
        raise _unusable("it is empty", "Give a command line such as `pytest -q`.")
    if _SETTING.fullmatch(words[0]):
        raise _unusable("it begins with a setting of a variable", "Set the variable in a script and name the script.")
    return words


def _unquoted(line: str) -> Iterator[str]:
    """The characters that a shell would look at for operators."""
    quote, escaped = "", False
    for char in line:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        elif not quote or (quote == '"' and char in "`$("):
            yield char
        else:
            yield " "


def _unusable(what: str, fix: str) -> InvalidInput:
    return InvalidInput(f"A check cannot be used: {what}. Nothing was run.", next_step=fix)


def is_allowed(check: Check, allow: Sequence[str]) -> bool:
    """Whether a command begins with the words of an allowed one; `python -m x` counts as `x`."""
    said = [check.argv]
    if check.argv[0] in ("python", "python3") and check.argv[1:2] == ("-m",):
        said.append(check.argv[2:])
    wanted = [tuple(shlex.split(entry)) for entry in allow]
    return any(words and argv[: len(words)] == words for words in wanted for argv in said)
