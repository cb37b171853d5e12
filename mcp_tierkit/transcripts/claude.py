"""Claude Code's transcripts: one JSON object a line, an answer on as many lines as it has blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from mcp_tierkit.audit.money import marked
from mcp_tierkit.audit.sheet import Call, Sheet, Tokens
from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts.files import Found
from mcp_tierkit.transcripts.lines import rows
from mcp_tierkit.transcripts.taker import Taker, count, mapping, moment, printable, texts

_MARKS = (b'"usage"', b'"user"', b"compact_boundary", b"queued_command")
_PASSES = 100
"""More than an answer has; a row could list hundreds of thousands."""
_COMMAND = re.compile(r"<command-name>(.*?)</command-name>", re.DOTALL)
_ARGUMENTS = re.compile(r"<command-args>(.*?)</command-args>", re.DOTALL)


def read(found: Found) -> Sheet:
    """What the file says. Raises OSError where it cannot be opened."""
    reader = _Reader(found)
    for row in rows(found.path, _MARKS, reader.taker.counts):
        reader.row(row)
    return reader.sheet()


class _Reader:
    def __init__(self, found: Found) -> None:
        self.taker = Taker(found)
        inside = found.path.relative_to(found.root).parts
        self._owner = inside[inside.index("subagents") - 1] if "subagents" in inside[1:] else ""
        self.taker.is_sub = bool(self._owner) or found.path.name.startswith("agent-")
        self._sessions: dict[str, None] = {}
        self._folder = inside[0] if len(inside) > 1 else ""

    def sheet(self) -> Sheet:
        taker, stem = self.taker, self.taker.found.path.stem
        first = next(iter(self._sessions), "")
        # A resumed session's file may begin with rows of the one before, which keep their own id.
        taker.session = self._owner or (stem if stem in self._sessions or not first else first)
        taker.project = taker.project or self._folder
        return taker.sheet()

    def row(self, row: dict[str, Any]) -> None:
        kind = row.get("type")
        if kind in ("assistant", "user", "system"):
            self._place(row)
        if kind == "assistant":
            self._assistant(row)
        elif kind == "user":
            self._user(row)
        elif kind == "system":
            if row.get("subtype") == "compact_boundary":
                self.taker.cut(is_sub=self._is_sub(row))
        elif kind == "attachment":
            self._queued(row)
        elif kind not in _table()["other"]:
            self.taker.counts[f"unknown row: {str(kind)[:40]}"] += 1

    def _place(self, row: dict[str, Any]) -> None:
        taker = self.taker
        taker.counts["known"] += 1
        if isinstance(session := row.get("sessionId"), str) and session:
            self._sessions.setdefault(printable(session))
        if not taker.project and isinstance(cwd := row.get("cwd"), str):
            taker.project = printable(cwd)
        if isinstance(version := row.get("version"), str) and len(taker.versions) < 50:
            taker.versions.add(printable(version[:30]))

    def _is_sub(self, row: dict[str, Any]) -> bool:
        return self.taker.is_sub or row.get("isSidechain") is True

    def _assistant(self, row: dict[str, Any]) -> None:
        message = mapping(row.get("message"))
        usage = message.get("usage")
        if message.get("model") == "<synthetic>" or not isinstance(usage, dict):
            return  # The client's own words, such as a limit that was hit: nobody was asked.
        taker = self.taker
        tokens, is_known = _tokens(usage)
        own, parts, served = _passes(usage)
        model = _model(served or message.get("model"), usage)
        at = moment(row.get("timestamp"))
        if not at:
            taker.counts["undated"] += 1
            return
        key = next((name for name in (message.get("id"), row.get("requestId"), row.get("uuid")) if name), None)
        key = key if isinstance(key, str) else f"{taker.found.path}:{taker.counts['lines']}"
        is_sub = self._is_sub(row)
        prompt = -1 if is_sub else len(taker.prompts) - 1
        is_copy = bool(row.get("forkedFrom"))
        widest = max(own) if len(own) > 1 else 0
        call = taker.call(Call(key, at, model, tokens, prompt, is_sub, is_copy, is_known, widest=widest))
        for number, part in parts:
            self._part(taker.calls[call], f"{key}+{number}", part, usage)
        for block in _blocks(message):
            if block.get("type") == "tool_use":
                name, given = block.get("name"), mapping(block.get("input"))
                command = given.get("command") if name in _table()["shells"] else ""
                taker.use(block.get("id"), name, command, call)

    def _part(self, whole: Call, key: str, part: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
        """What another pass within an answer took, at the price of the model that it names, if it names one."""
        tokens, is_known = _tokens(part)
        named = part.get("model")
        model = _model(named, {**usage, "speed": None}) if named else whole.model
        self.taker.call(whole._replace(key=key, model=model, tokens=tokens, is_known=is_known, is_part=True, widest=0))

    def _user(self, row: dict[str, Any]) -> None:
        message, is_sub = mapping(row.get("message")), self._is_sub(row)
        has_results = False
        for block in _blocks(message):
            if block.get("type") == "tool_result":
                has_results = True
                self.taker.result(block.get("tool_use_id"), block.get("content"), is_sub=is_sub)
        if row.get("isCompactSummary") is True:
            self.taker.cut(is_sub=is_sub)
        elif not (has_results or is_sub or row.get("isMeta") is True or row.get("isVisibleInTranscriptOnly") is True):
            self._prompt(row, texts(message.get("content")))

    def _queued(self, row: dict[str, Any]) -> None:
        """What was typed while the agent was at work reaches it in a row of its own."""
        queued = mapping(row.get("attachment"))
        is_typed = queued.get("type") == "queued_command" and queued.get("commandMode", "prompt") == "prompt"
        if is_typed and not self._is_sub(row):
            self._prompt(row, texts(queued.get("prompt")))

    def _prompt(self, row: dict[str, Any], text: str) -> None:
        asked, at = _asked(text), moment(row.get("timestamp"))
        if asked and at:
            key = row.get("uuid")
            place = f"{self.taker.found.path}:{self.taker.counts['lines']}"
            self.taker.prompt(key if isinstance(key, str) and key else place, at, asked)


def _tokens(usage: Mapping[str, Any]) -> tuple[Tokens, bool]:
    """Counts, and whether all of them are to be believed. Writes without a word on how long are kept for minutes."""
    split = mapping(usage.get("cache_creation"))
    cached = (usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens"))
    kept = (split.get("ephemeral_5m_input_tokens"), split.get("ephemeral_1h_input_tokens"))
    optional = (0 if value is None else value for value in (*cached, *kept))
    counts = [count(value) for value in (usage.get("input_tokens"), *optional, usage.get("output_tokens"))]
    fresh, read, written, minutes, hour, output = (value or 0 for value in counts)
    minutes = max(minutes, written - hour)
    return Tokens(fresh, read, minutes, hour, output), None not in counts


def _model(name: object, usage: Mapping[str, Any]) -> str:
    """The model's name, marked where it ran in a dearer way."""
    is_us = usage.get("inference_geo") == "us"
    return marked(
        printable(name[:120]) if isinstance(name, str) else "", is_fast=usage.get("speed") == "fast", is_us=is_us
    )


def _passes(usage: Mapping[str, Any]) -> tuple[list[int], list[tuple[int, Mapping[str, Any]]], object]:
    """How much each pass of an answer read; what it took besides, which its own counts leave out: the advice of another
    model, a summary of the conversation, or what a model wrote that then declined; and who answered in its place."""
    listed = usage.get("iterations")
    passes = [(n, mapping(one)) for n, one in enumerate(listed[:_PASSES])] if isinstance(listed, list) else []
    served = next((one.get("model") for _, one in passes if one.get("type") == _table()["in_place"]), None)
    parts, own = list[tuple[int, Mapping[str, Any]]](), list[int]()
    for n, one in passes:
        is_declined = served and one.get("type") == "message" and one.get("model", served) != served
        if is_declined and not count(one.get("output_tokens")):
            continue  # What is declined before its first word is not charged.
        if is_declined or one.get("type") in _table()["parts"]:
            parts.append((n, one))
        else:
            own.append(sum(_tokens(one)[0][:4]))
    return own, parts, served


def _blocks(message: Any) -> list[dict[str, Any]]:
    content = message.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _asked(text: str) -> str:
    """What a person typed; empty where the client wrote the row. A slash command is its name and its arguments."""
    if "<" in text:
        text = _around().sub("", text)
        if name := _COMMAND.search(text):
            given = _ARGUMENTS.search(text)
            return _typed(f"{name[1].strip()} {given[1].strip() if given else ''}".strip())
    return _typed(text.strip())


def _typed(text: str) -> str:
    """The text, unless it is one of the client's own, or a command that the client itself obeys."""
    is_own = text.startswith(tuple(_table()["not_asked"])) or text.partition(" ")[0] in _table()["own_commands"]
    return "" if is_own else text


@cache
def _around() -> re.Pattern[str]:
    tags = "|".join(_table()["around"])
    return re.compile(rf"<({tags})\b[^>]*>.*?</\1>", re.DOTALL)


def _table() -> dict[str, Any]:
    table: dict[str, Any] = packaged("audit")["claude"]
    return table
