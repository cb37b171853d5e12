"""Codex's rollouts: one JSON object a line, and counts that go on rising through a session and into its forks."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json

from mcp_tierkit.audit.money import marked
from mcp_tierkit.audit.sheet import Call, Sheet, Tokens
from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts.files import Found
from mcp_tierkit.transcripts.taker import Taker, count, mapping, moment, printable, texts

_MARKS = (
    b"token_count", b"turn_context", b"session_meta", b"user_message", b'_call"', b"_output", b"token_usage_record",
    b"thread_settings_applied", b"compacted", b'"usage"', b"item_completed",
)  # fmt: skip
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_COUNTS = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens")
_FAST = ("priority", "fast")
"""Both names of the dearer way to be served."""
_AFTER_EDITOR = "## My request for Codex:"
"""What was typed, behind what an editor says of the files that are open in it."""
_Vector = tuple[int, int, int, int]


def read(found: Found) -> Sheet:
    """What the file says. Raises OSError where it cannot be opened."""
    reader = _Reader(found)
    return reader.taker.read_lines(_MARKS, reader.row)


class _Reader:
    def __init__(self, found: Found) -> None:
        self.taker = taker = Taker(found)
        named = _ID.search(found.path.stem)
        taker.session = named[0] if named else found.path.stem
        self._has_meta = False
        self._model = ""
        self._tier: object = None
        self._script = ""
        self._total: _Vector | None = None
        self._recorded: tuple[int, _Vector] | None = None
        self._last_asked: tuple[str, int, bool] | None = None

    def row(self, row: dict[str, Any]) -> None:
        kind, payload, at = row.get("type"), mapping(row.get("payload")), moment(row.get("timestamp"))
        if kind in ("session_meta", "turn_context", "event_msg", "response_item", "token_usage_record", "compacted"):
            self.taker.counts["known"] += 1
        if not at and (kind == "token_usage_record" or payload.get("type") == "token_count"):
            self.taker.counts["undated"] += 1
            return
        if kind == "session_meta":
            self._meta(payload)
        elif kind == "turn_context":
            self._model = _text(payload.get("model"), self._model)[:120]
            self._tier = payload.get("service_tier", self._tier)
        elif kind == "event_msg":
            self._event(payload, at)
        elif kind == "token_usage_record":
            self._record(payload, at)
        elif kind == "response_item":
            self._item(payload)
        elif kind == "compacted":
            self.taker.cut(is_sub=self.taker.is_sub)
        elif kind not in packaged("audit")["codex"]["other"]:
            self.taker.counts[f"unknown row: {str(kind)[:40]}"] += 1

    def _meta(self, payload: Any) -> None:
        """The first one is the file's own; a fork copies its parent's behind it."""
        if self._has_meta:
            return
        self._has_meta, taker = True, self.taker
        taker.session = _text(payload.get("id"), taker.session)[:80]
        taker.project = _text(payload.get("cwd"), "")
        if isinstance(version := payload.get("cli_version"), str):
            taker.versions.add(printable(version[:30]))
        spawned = mapping(mapping(mapping(payload.get("source")).get("subagent")).get("thread_spawn"))
        above = payload.get("parent_thread_id") or spawned.get("parent_thread_id")
        is_asked = payload.get("thread_source", "user") not in packaged("audit")["codex"]["sub_threads"]
        taker.is_sub = bool(above) or not is_asked or "subagent" in mapping(payload.get("source"))
        taker.parent = _text(above or payload.get("forked_from_id"), "")[:80]

    def _event(self, payload: Any, at: str) -> None:
        kind = payload.get("type")
        if kind == "token_count":
            info = mapping(payload.get("info"))
            self._counted(info, at, payload.get("service_tier", info.get("service_tier", self._tier)))
        elif kind == "user_message":
            self._asked(payload.get("message"), at, is_item=False)
        elif kind == "item_completed":
            self._done(mapping(payload.get("item")), at)
        elif kind == "thread_settings_applied":
            settings = mapping(payload.get("thread_settings"))
            self._model, self._tier = _text(settings.get("model"), self._model)[:120], settings.get("service_tier")

    def _asked(self, text: object, at: str, *, is_item: bool) -> None:
        """A prompt. Newer versions write it as an item, some of them in the older way as well."""
        taker = self.taker
        if not isinstance(text, str) or text.startswith(tuple(packaged("audit")["codex"]["not_asked"])):
            return
        said = (text.partition(_AFTER_EDITOR)[2] or text).strip()
        if not at or taker.is_sub or self._last_asked == (said, len(taker.calls), not is_item):
            return
        self._last_asked = said, len(taker.calls), is_item
        taker.prompt(f"{taker.session}:{len(taker.prompts)}", at, said)

    def _done(self, item: Any, at: str) -> None:
        """A prompt, or what a script of the model did: of that the rollout has but the script as a call."""
        kind, taker = item.get("type"), self.taker
        if kind == "UserMessage":
            self._asked(texts(item.get("content")), at, is_item=True)
        elif self._script and item.get("source") != "user_shell" and isinstance(key := item.get("id"), str):
            call = len(taker.calls)
            if kind == "CommandExecution":
                taker.ran(self._script, key, _words(item.get("command")), call)
            elif kind == "FileChange":
                taker.use(key, "apply_patch", "", call)
            elif kind == "McpToolCall":
                taker.use(key, f"mcp__{item.get('server')}__{item.get('tool')}", "", call)
                taker.find_ours(key, texts(item.get("result")))

    def _counted(self, info: Any, at: str, tier: object) -> None:
        """One answer, where the running total moved. Copies in a fork say the same totals as where they came from."""
        total, last = _vector(info.get("total_token_usage")), _vector(info.get("last_token_usage"))
        if total is None and last is None:
            return
        if total is not None and total == self._total:
            return  # A notice of limits: the counts are those of the answer before.
        before, self._total = self._total, total or self._total
        own = last if last is not None else _difference(total, before)
        if own is None or (before is None and last is None and self.taker.parent):
            self.taker.counts["odd"] += 1  # All that is known is what its parent had used.
            return
        key = f"~{total}{own}"
        if self._recorded is not None and self._recorded[1] == own:
            self.taker.rename(self._recorded[0], key)
        elif any(own):
            self._call(key, own, at, tier)
        self._recorded = None

    def _record(self, payload: Any, at: str) -> None:
        """Newer versions write each answer by its id, then its counts again as a total."""
        own, key = _vector(payload.get("usage")), payload.get("response_id")
        if own is None or not any(own) or not isinstance(key, str) or self.taker.has(key):
            return
        self._recorded = (self._call(key, own, at, payload.get("service_tier", self._tier)), own)

    def _call(self, key: str, own: _Vector, at: str, tier: object) -> int:
        taker = self.taker
        whole, cached, written, output = own
        fresh = whole - cached - written
        tokens = Tokens(max(fresh, 0), cached, written, 0, output)
        prompt = -1 if taker.is_sub else len(taker.prompts) - 1
        model = marked(self._model, is_fast=tier in _FAST, is_us=False)
        return taker.call(Call(key, at, model, tokens, prompt, taker.is_sub, False, fresh >= 0))

    def _item(self, payload: Any) -> None:
        kind = str(payload.get("type"))
        if kind.endswith("_call"):
            call = len(self.taker.calls)  # Its counts come after it, or at once where none come.
            name = payload.get("name") or kind.removesuffix("_call")
            self._script = str(payload.get("call_id")) if name in packaged("audit")["codex"]["scripts"] else ""
            self.taker.use(payload.get("call_id"), name, _command(str(name), payload), call)
        elif kind.endswith("_call_output"):
            self.taker.result(payload.get("call_id"), payload.get("output"), is_sub=self.taker.is_sub)


def _text(value: object, otherwise: str) -> str:
    return printable(value) if isinstance(value, str) and value else otherwise


def _vector(usage: Any) -> _Vector | None:
    """Input in all, the parts of it that were cached and written, and output; None where a count is missing or odd."""
    if not isinstance(usage, dict):
        return None
    whole, cached, written, output = (count(usage.get(name, 0 if "cache" in name else None)) for name in _COUNTS)
    if whole is None or cached is None or written is None or output is None:
        return None
    return whole, cached, written, output


def _difference(total: _Vector | None, before: _Vector | None) -> _Vector | None:
    if total is None or before is None or min(map(int.__sub__, total, before)) < 0:
        return total  # A counter that fell was started anew.
    whole, cached, written, output = map(int.__sub__, total, before)
    return whole, cached, written, output


def _command(name: str, payload: Any) -> str:
    """What a shell was given, from a call's arguments, which are a text of their own."""
    if name not in packaged("audit")["codex"]["shells"]:
        return ""
    given: object = payload.get("arguments", payload.get("action", payload.get("input")))
    if isinstance(given, str):
        try:
            given = from_json(given)
        except (ValueError, TypeError):  # The second for half a character in it.
            return str(given)
    return _words(mapping(given).get("command", mapping(given).get("cmd")))


def _words(told: object) -> str:
    """A command as it would be typed."""
    if isinstance(told, list):
        words = [word for word in told if isinstance(word, str)]
        return words[2] if len(words) == 3 and words[1] in ("-c", "-lc") else " ".join(words)
    return told if isinstance(told, str) else ""
