"""Pi's sessions: one JSON object a line, a tree of entries of which every answer was paid, on whatever branch."""

from __future__ import annotations

from typing import Any

from mcp_tierkit.audit.sheet import Call, Sheet, Tokens
from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts.files import Found
from mcp_tierkit.transcripts.models import named
from mcp_tierkit.transcripts.taker import Taker, count, mapping, moment, texts

_MARKS = (b'"role"', b'"session"', b'"compaction"', b'"usage"')
_OTHER = (
    "branch_summary", "custom", "custom_message", "label", "model_change", "session_info", "thinking_level_change",
)  # fmt: skip


def read(found: Found) -> Sheet:
    """What the file says. Raises OSError where it cannot be opened."""
    reader = _Reader(found)
    return reader.taker.read_lines(_MARKS, reader.row)


class _Reader:
    def __init__(self, found: Found) -> None:
        self.taker = taker = Taker(found)
        inside = found.path.relative_to(found.root).parts
        taker.session = found.path.stem.partition("_")[2] or found.path.stem
        taker.project = inside[0] if len(inside) > 1 else ""
        self._begun = ""

    def row(self, row: dict[str, Any]) -> None:
        kind = row.get("type")
        if kind in ("session", "message", "compaction"):
            self.taker.counts["known"] += 1
        if kind == "session":
            self._meta(row)
        elif kind == "message":
            self._message(mapping(row.get("message")), row)
        elif kind == "compaction":
            self.taker.cut(is_sub=False)
        elif kind not in _OTHER:
            self.taker.counts[f"unknown row: {str(kind)[:40]}"] += 1

    def _meta(self, row: dict[str, Any]) -> None:
        """A fork has its own head and copies of the entries before it, with their own times."""
        taker = self.taker
        self._begun = moment(row.get("timestamp"))
        taker.session = str(row.get("id") or taker.session)[:80]
        if isinstance(cwd := row.get("cwd"), str) and cwd:
            taker.project = cwd

    def _message(self, message: Any, row: dict[str, Any]) -> None:
        role, at = message.get("role"), moment(row.get("timestamp"))
        if role == "assistant":
            self._answer(message, at)
        elif role == "user" and at:
            text = texts(message.get("content"))
            if text.strip():  # A fork's copy of it is another prompt: the answers stay with the first.
                self.taker.prompt(f"{self.taker.session}:{at}:{row.get('id')}", at, text)
        elif role == "toolResult":
            self.taker.result(message.get("toolCallId"), message.get("content"), is_sub=False)

    def _answer(self, message: Any, at: str) -> None:
        taker, usage = self.taker, message.get("usage")
        if not isinstance(usage, dict):
            return
        tokens, is_known = _tokens(usage)
        position = max(len(taker.calls) - 1, 0)
        if not at:
            taker.counts["undated"] += 1
        elif any(tokens) or not is_known:  # An answer that was broken off before it began has no tokens.
            model = named(message.get("provider"), message.get("model"))
            key = f"pi:{at}:{model}:{tokens}"
            call = Call(key, at, model, tokens, len(taker.prompts) - 1, False, at < self._begun, is_known)
            position = taker.call(call)
        content = message.get("content")
        for block in map(mapping, content if isinstance(content, list) else ()):
            if block.get("type") == "toolCall":
                name, given = block.get("name"), mapping(block.get("arguments"))
                command = given.get("command") if name in packaged("agents")["pi"]["shells"] else ""
                taker.use(block.get("id"), name, command, position)


def _tokens(usage: dict[str, Any]) -> tuple[Tokens, bool]:
    """Input, cached and written tokens apart, unless the total shows that input holds the cached ones as well."""
    names = ("input", "output", "cacheRead", "cacheWrite")
    counts = [count(usage.get(name, 0 if "cache" in name else None)) for name in names]
    fresh, output, cached, written = (value or 0 for value in counts)
    if cached and usage.get("totalTokens") == fresh + output + written and cached <= fresh:
        fresh -= cached
    hour = min(count(usage.get("cacheWrite1h")) or 0, written)
    return Tokens(fresh, cached, written - hour, hour, output), None not in counts
