"""Gemini CLI's chats: one JSON document a session, since 2026 one JSON object a line, a message again when it grew."""

from __future__ import annotations

import json
import re
from typing import Any

from mcp_tierkit.audit.sheet import Call, Sheet, Tokens
from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts.documents import document
from mcp_tierkit.transcripts.files import Found
from mcp_tierkit.transcripts.lines import opened, rows
from mcp_tierkit.transcripts.models import named
from mcp_tierkit.transcripts.taker import Taker, count, mapping, moment

_MARKS = (b'"gemini"', b'"user"', b'"sessionId"')
_OWN_COMMAND = re.compile(r"[/?][\w:-]*(\s|$)")
_PATH_BYTES = 4096


def read(found: Found) -> Sheet:
    """What the file says. Raises OSError where it cannot be opened."""
    reader = _Reader(found)
    counts = reader.taker.counts
    if found.path.suffix == ".jsonl":
        for row in rows(found.path, _MARKS, counts):
            reader.row(row)
    else:
        told, is_whole = document(found.path, counts)
        if told is not None:
            messages = told.get("messages")
            if not is_whole and isinstance(messages, list):
                told["messages"] = messages[:-1]  # The last may be cut in the middle of a number.
            reader.row(told)
    return reader.taker.sheet()


class _Reader:
    def __init__(self, found: Found) -> None:
        self.taker = taker = Taker(found)
        inside = found.path.relative_to(found.root).parts
        taker.session = found.path.stem
        taker.project = _project(found, inside[0])
        if len(inside) > 3:  # PROJECT/chats/PARENT/SESSION.jsonl
            taker.is_sub, taker.parent = True, inside[2]
        self._asked: set[str] = set()
        self._told: set[str] = set()

    def row(self, row: dict[str, Any]) -> None:
        """A message, what is known of the session, or a new state of it, in which old messages stand again."""
        told = mapping(row.get("$set")) or row
        if isinstance(session := told.get("sessionId"), str) and session:
            self.taker.session = session[:80]
            self.taker.counts["known"] += 1
            self.taker.is_sub = self.taker.is_sub or told.get("kind") == "subagent"
        messages = told.get("messages")
        for message in messages if isinstance(messages, list) else [told]:
            self._message(mapping(message))

    def _message(self, message: Any) -> None:
        kind = message.get("type")
        key = message.get("id")
        key = key if isinstance(key, str) and key else f"{self.taker.found.path}:{self.taker.counts['lines']}"
        if kind in ("gemini", "user"):
            self.taker.counts["known"] += 1
        if kind == "gemini":
            self._answer(message, key)
        elif kind == "user" and key not in self._asked and not self.taker.is_sub:
            self._asked.add(key)
            text, at = _text(message.get("content")).strip(), moment(message.get("timestamp"))
            is_asked = text and not text.startswith(tuple(packaged("agents")["gemini"]["not_asked"]))
            if is_asked and at and not _OWN_COMMAND.match(text):
                self.taker.prompt(key, at, text)

    def _answer(self, message: Any, key: str) -> None:
        taker = self.taker
        position = max(len(taker.calls) - 1, 0)
        if isinstance(told := message.get("tokens"), dict):
            tokens, is_known = _tokens(told)
            if not (at := moment(message.get("timestamp"))):
                taker.counts["undated"] += 1
            elif any(tokens) or not is_known:
                model, prompt = named("google", message.get("model")), -1 if taker.is_sub else len(taker.prompts) - 1
                call = Call(f"gemini:{key}", at, model, tokens, prompt, taker.is_sub, False, is_known)
                position = taker.call(call)
        tools = message.get("toolCalls")
        for tool in map(mapping, tools if isinstance(tools, list) else ()):
            self._tool(tool, position)

    def _tool(self, tool: Any, position: int) -> None:
        use_id, name, given = tool.get("id"), tool.get("name"), mapping(tool.get("args"))
        command = given.get("command") if name in packaged("agents")["gemini"]["shells"] else ""
        self.taker.use(use_id, name, command, position)
        if isinstance(use_id, str) and tool.get("result") and use_id not in self._told:
            self._told.add(use_id)
            self.taker.result(use_id, _blocks(tool["result"]), is_sub=self.taker.is_sub)


def _tokens(told: dict[str, Any]) -> tuple[Tokens, bool]:
    """Input holds what was cached. Beside it stands what the vendor's own tools read, and thoughts beside output."""
    whole, output = count(told.get("input")), count(told.get("output"))
    cached, thoughts, tool = (count(told.get(name) or 0) for name in ("cached", "thoughts", "tool"))
    is_known = None not in (whole, output, cached, thoughts, tool) and (cached or 0) <= (whole or 0)
    fresh = max((whole or 0) - (cached or 0), 0) + (tool or 0)
    return Tokens(fresh, cached or 0, 0, 0, (output or 0) + (thoughts or 0)), is_known


def _project(found: Found, folder: str) -> str:
    """The folder that was worked in, where it is written down; older versions name a hash of it alone."""
    try:
        with opened(found.root / folder / ".project_root") as file:
            return file.read(_PATH_BYTES).decode(errors="replace").strip() or folder
    except OSError:
        return folder


def _text(content: object) -> str:
    parts = content if isinstance(content, list) else [content]
    words = (part if isinstance(part, str) else mapping(part).get("text") for part in parts)
    return "\n".join(word for word in words if isinstance(word, str))


def _blocks(result: object) -> list[dict[str, str]]:
    """A tool's result as blocks of text and pictures."""
    blocks = []
    for part in result if isinstance(result, list) else [result]:
        answer = mapping(mapping(part).get("functionResponse")).get("response")
        if "inlineData" in mapping(part):
            blocks.append({"type": "image"})
        elif isinstance(said := mapping(answer).get("output"), str):
            blocks.append({"type": "text", "text": said})
        else:
            text = _text(part) or json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
            blocks.append({"type": "text", "text": text})
    return blocks
