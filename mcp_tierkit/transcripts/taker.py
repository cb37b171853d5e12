"""What the readers of all clients gather from a file on their way to a sheet."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from sys import intern
from typing import Any

from mcp_tierkit.audit.sheet import CALL, CUT, RESULT, Call, Event, Ours, Prompt, Sheet, Use, merged, packed
from mcp_tierkit.redact import redact
from mcp_tierkit.tokens import estimate
from mcp_tierkit.transcripts.commands import told
from mcp_tierkit.transcripts.files import Found
from mcp_tierkit.transcripts.lines import rows
from mcp_tierkit.usage import MAX_TOKENS

TEXT = 1000
COMMAND = 300
IMAGE_TOKENS = 1500
"""A picture of a usual screen, by the vendor's rule of width times height over 750."""

_OURS = ("plan_task", "draft_with_cheap_model", "review_diff", "run_playbook", "get_task", "record_outcome")
_TASK_ID = re.compile(r'"?task_id"?\W{1,4}(t\d{12})\b|\b(t\d{12})\b')
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?Z", re.ASCII)


class Taker:
    """Calls, tools and prompts of one file, each once, in the order in which they stand there."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.session = self.project = self.parent = ""
        self.is_sub = False
        self.counts = Counter[str]()
        self.versions: set[str] = set()
        self.prompts: list[Prompt] = []
        self.calls: list[Call] = []
        self.uses: list[Use] = []
        self.events = array("Q")
        self.ours: dict[Ours, None] = {}
        self._call_at: dict[str, int] = {}
        self._use_at: dict[str, int] = {}

    def read_lines(self, marks: tuple[bytes, ...], take: Callable[[dict[str, Any]], None]) -> Sheet:
        """The sheet once each row on a line with one of `marks` was taken. Raises OSError where it cannot be opened."""
        for row in rows(self.found.path, marks, self.counts):
            take(row)
        return self.sheet()

    def sheet(self) -> Sheet:
        session, project, parent = map(printable, (self.session, self.project, self.parent))
        return Sheet(
            str(self.found.path), self.found.client, session, project, self.is_sub, parent,
            tuple(self.prompts), tuple(self.calls), tuple(self.uses), self.events, tuple(self.ours),
            tuple(self.counts.items()), tuple(sorted(self.versions)),
        )  # fmt: skip

    def call(self, call: Call) -> int:
        """The position of an answer; rows of one that is here already make it larger, never more."""
        at = self._call_at.get(call.key)
        if at is None:
            at = self._call_at[call.key] = len(self.calls)
            self.calls.append(call)
            self.events.append(packed(Event(CALL, call.is_sub, at)))
        else:
            self.counts["repeated"] += 1
            self.calls[at] = merged(self.calls[at], call)
        return at

    def rename(self, at: int, key: str) -> None:
        """Know the answer at `at` by another key from now on."""
        self.calls[at] = self.calls[at]._replace(key=key)
        self._call_at.setdefault(key, at)

    def has(self, key: str) -> bool:
        return key in self._call_at

    def prompt(self, key: str, at: str, text: str) -> None:
        self.prompts.append(Prompt(printable(key), at, redact(printable(text.strip()[: TEXT + 1]))))

    def use(self, use_id: object, name: object, command: object, call: int) -> None:
        """A tool that was asked for; `command` is what a shell was given, whatever that was."""
        if isinstance(use_id, str) and use_id not in self._use_at:
            self._use_at[use_id] = len(self.uses)
            shown = name if isinstance(name, str) and name else "unknown"
            self.uses.append(Use(use_id, intern(printable(shown[:80])), intern(told(command)[:COMMAND]), call))

    def ran(self, script: str, use_id: str, command: str, call: int) -> None:
        """A command that a script ran. The script counts as the first of its commands, which have no results apart."""
        at = self._use_at.get(script)
        if at is not None and not self.uses[at].command:
            self.uses[at] = self.uses[at]._replace(command=told(command)[:COMMAND])
            self._use_at.setdefault(use_id, at)
        elif at is not None:
            self.use(use_id, self.uses[at].name, command, call)

    def find_ours(self, use_id: str, text: str) -> None:
        """The tasks that a reply of one of our own tools names."""
        at = self._use_at.get(use_id, -1)
        if at >= 0 and self.uses[at].name.endswith(_OURS):
            for found in _TASK_ID.finditer(text[:20_000]):
                self.ours[Ours(found[1] or found[2], at)] = None

    def result(self, use_id: object, content: object, *, is_sub: bool) -> None:
        """A result that went into the context; one of our own tools may name a task."""
        at = self._use_at.get(use_id, -1) if isinstance(use_id, str) else -1
        text = texts(content)
        if at >= 0:
            self.find_ours(str(use_id), text)
        tokens = estimate(text) + IMAGE_TOKENS * images(content)
        self.events.append(packed(Event(RESULT, is_sub, at, tokens)))

    def cut(self, *, is_sub: bool) -> None:
        self.events.append(packed(Event(CUT, is_sub)))


def count(value: object) -> int | None:
    """A count of tokens; None for what cannot be one."""
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def moment(value: object) -> str:
    """A time in UTC that sorts as text, without the Z; empty where it is none."""
    if isinstance(value, str):
        if (usual := _ISO.fullmatch(value)) and _is_day(usual[1]):
            return value[:-1]
        try:
            when = datetime.fromisoformat(value)
            when = when if when.tzinfo else when.replace(tzinfo=UTC)
            return when.astimezone(UTC).isoformat().removesuffix("+00:00")
        except (ValueError, OverflowError):
            return ""
    if type(value) is int and 10**11 < value < 10**13:
        return datetime.fromtimestamp(value / 1000, UTC).isoformat().removesuffix("+00:00")
    return ""


@lru_cache(maxsize=10_000)
def _is_day(text: str) -> bool:
    """Whether there is such a day: a file can say anything, and a month is reckoned from the first of them."""
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def texts(content: object) -> str:
    """The words in a result: a text, or blocks with texts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return texts(content.get("content", content.get("text")))
    if isinstance(content, list):
        parts = (block if isinstance(block, str) else mapping(block).get("text") for block in content)
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def images(content: object) -> int:
    return sum("image" in str(mapping(block).get("type")) for block in content) if isinstance(content, list) else 0


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def printable(text: str) -> str:
    """Nothing that steers a terminal, and nothing that cannot be written as UTF-8."""
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)
    return shown.encode("utf8", "replace").decode()
