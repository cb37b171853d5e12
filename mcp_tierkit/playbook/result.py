"""What a run leaves behind, read as the word of a stranger: one file, and a log."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from typing import Any

from mcp_tierkit.playbook.trust import escaped
from mcp_tierkit.redact import redact

RESULT = "result.json"
LOG_LINES = 20
LOG_CHARS = 2000

_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


# Ours, between the words of a traceback and the script's own lines.
_OUR_FRAMES = re.compile(r'^  File "<(?:frozen runpy|string)>", line \d+, in .*\n', re.MULTILINE)


class ResultTooLarge(ValueError):
    """There is a result, and more of it than the contract allows."""


def read_result(folder: int, limit: int) -> bytes:
    """The result file, if it is a plain file of its own; a link is not followed and a pipe not waited for."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(RESULT, flags, dir_fd=folder)
    except FileNotFoundError:
        raise ValueError("nothing was written to PLAYBOOK_RESULT") from None
    except OSError:
        raise ValueError("PLAYBOOK_RESULT is not a plain file") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise ValueError("PLAYBOOK_RESULT is not a plain file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(fd)
    if len(data) > limit:
        raise ResultTooLarge
    return data


def redacted(value: Any) -> Any:
    """The value with secrets taken out of every text in it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redacted(one) for one in value]
    return {key: redacted(one) for key, one in value.items()} if isinstance(value, dict) else value


def tail(text: str) -> str:
    """The end of a log as data: secrets by rule and control characters taken out, capped."""
    text = text.encode("utf-8", "backslashreplace").decode()  # A name that is not UTF-8 has no place in a reply.
    plain = _OUR_FRAMES.sub("", _CONTROL.sub("", redact(text.replace("\r\n", "\n")))).strip()
    lines = plain.split("\n")[-LOG_LINES:]
    return "\n".join(lines)[-LOG_CHARS:]


def listed(names: Sequence[str]) -> str:
    """The first names of files that a run made: on one line, and nothing in them invisible."""
    return ", ".join(map(escaped, names[:5]))
