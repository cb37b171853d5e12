"""opencode's sessions: rows of its database, in older versions a file for each message and each part of one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from mcp_tierkit.audit.sheet import Call, Sheet, Tokens
from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts.documents import document
from mcp_tierkit.transcripts.files import Found
from mcp_tierkit.transcripts.models import named
from mcp_tierkit.transcripts.opencode_db import About, Message, about, inspect, messages
from mcp_tierkit.transcripts.taker import Taker, count, mapping, moment

if TYPE_CHECKING:
    import sqlite3


def read(found: Found) -> Sheet:
    """What is written of one session. Raises OSError where it cannot be opened."""
    if found.path.is_dir():
        return _read_files(found)
    session = found.path.name

    def ask(db: sqlite3.Connection) -> Sheet:
        reader = _Reader(found, about(db, session))
        for message in messages(db, session, reader.taker.counts):
            reader.message(message)
        return reader.taker.sheet()

    return inspect(found.path.parent, ask)


def _read_files(found: Found) -> Sheet:
    """STORAGE/message/SESSION/MESSAGE.json, STORAGE/part/MESSAGE/PART.json and STORAGE/session/PROJECT/SESSION.json."""
    storage = found.path.parent.parent
    reader = _Reader(found, _about_files(storage / "session", found.path.name))
    counts = reader.taker.counts
    heads = []
    for path, told in _objects(found.path, counts):
        created = mapping(told.get("time")).get("created")
        at = created if type(created) is int else 0
        heads.append(Message(at, path.stem, str(told.get("role")), _needed(told), []))
    for head in sorted(heads, key=lambda head: head[:2]):
        parts = [part for _, part in _objects(storage / "part" / head.id, counts)]
        reader.message(head._replace(parts=parts))
    return reader.taker.sheet()


def _objects(folder: Path, counts: Counter[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What stands in a folder's files, in the order of their names, which is that of their time."""
    if folder.is_symlink() or folder.parent.is_symlink():
        counts["links"] += 1
        return
    try:
        with os.scandir(folder) as entries:
            paths = sorted(Path(entry.path) for entry in entries if entry.name.endswith(".json"))
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in paths:
        try:
            told, is_whole = document(path, counts)
        except OSError:
            counts["unreadable"] += 1
            continue
        if told is not None and is_whole:
            yield path, told


def _needed(told: dict[str, Any]) -> dict[str, Any]:
    """Without the changes to files that a message may carry."""
    return {name: told[name] for name in ("time", "tokens", "modelID", "providerID", "path", "summary") if name in told}


def _about_files(folder: Path, session: str) -> About:
    for path in folder.glob(f"*/{escape(session)}.json"):
        if path.parent.is_symlink():
            continue
        try:
            told, _ = document(path, Counter())
        except OSError:
            continue
        begun = mapping((told := told or {}).get("time")).get("created")
        parent, directory, version = (str(told.get(name) or "") for name in ("parentID", "directory", "version"))
        return About(parent, directory, version, begun if type(begun) is int else 0)
    return About()


class _Reader:
    def __init__(self, found: Found, known: About) -> None:
        self.taker = taker = Taker(found)
        taker.session, taker.project = found.path.name, known.project
        taker.is_sub, taker.parent = bool(known.parent), known.parent[:80]
        if known.version:
            taker.versions.add(known.version[:30])
        self._begun = known.begun

    def message(self, message: Message) -> None:
        taker = self.taker
        if message.role in ("assistant", "user"):
            taker.counts["known"] += 1
        if message.role == "assistant":
            self._answer(message)
        elif message.role == "user" and not taker.is_sub:
            words = (
                part.get("text") for part in message.parts
                if part.get("type") == "text" and not (part.get("synthetic") or part.get("ignored"))
            )  # fmt: skip
            text, at = "\n".join(word for word in words if isinstance(word, str)), moment(message.at)
            if text.strip() and at:
                taker.prompt(message.id, at, text)
        elif message.role == "compaction":
            taker.cut(is_sub=taker.is_sub)

    def _answer(self, message: Message) -> None:
        """One call for each step: the message itself counts only the last of them."""
        data, taker = message.data, self.taker
        told = [part.get("tokens") for part in message.parts if part.get("type") == "step-finish"]
        steps = told if len(told) > 1 else [data.get("tokens") or next(iter(told), None)]
        taker.project = taker.project or str(mapping(data.get("path")).get("cwd") or "")
        step, position = 0, self._call(message, steps[0], 0)
        for part in message.parts:
            if part.get("type") == "tool":
                self._tool(part, position)
            elif part.get("type") == "step-finish" and step + 1 < len(steps):
                step += 1
                position = self._call(message, steps[step], step)
        if data.get("summary") is True:
            taker.cut(is_sub=taker.is_sub)

    def _call(self, message: Message, told: object, step: int) -> int:
        """The position of a step's call, of the one before it where it has none."""
        taker, data, before = self.taker, message.data, max(len(self.taker.calls) - 1, 0)
        if not isinstance(told, dict):
            return before
        tokens, is_known = _tokens(told, data.get("providerID"), is_split=message.is_split)
        if is_known and not any(tokens):
            return before
        times = mapping(data.get("time"))
        created = times.get("created") if type(times.get("created")) is int else message.at
        if not (at := moment(created)):
            taker.counts["undated"] += 1
            return before
        model = named(data.get("providerID"), data.get("modelID"))
        # A fork copies messages under new names, and so does the move into the database keep all but the names' home.
        key = f"opencode:{created}:{times.get('completed')}:{model}:{step}"
        prompt, is_copy = -1 if taker.is_sub else len(taker.prompts) - 1, 0 < message.at < self._begun
        return taker.call(Call(key, at, model, tokens, prompt, taker.is_sub, is_copy, is_known))

    def _tool(self, part: dict[str, Any], position: int) -> None:
        taker, state = self.taker, mapping(part.get("state"))
        use_id, name = part.get("callID") or part.get("id"), part.get("tool") or part.get("name")
        command = mapping(state.get("input")).get("command") if name in packaged("agents")["opencode"]["shells"] else ""
        taker.use(use_id, name, command, position)
        said = next((state[key] for key in ("output", "content", "result", "error") if state.get(key)), None)
        if said is not None:
            content = said if isinstance(said, str | list) else to_json(said, fallback=str).decode()
            taker.result(use_id, content, is_sub=taker.is_sub)


def _tokens(told: dict[str, Any], provider: object, *, is_split: bool) -> tuple[Tokens, bool]:
    """Counts, and whether all of them are to be believed. What the agent itself says of dollars is not read.

    Whether output holds the reasoning shows in the total. Versions that write none put it in, except for Google's.
    """
    cache = mapping(told.get("cache"))
    counts = [count(told.get("input")), count(told.get("output"))]
    counts += [count(value or 0) for value in (cache.get("read"), cache.get("write"), told.get("reasoning"))]
    fresh, output, read, written, reasoning = (value or 0 for value in counts)
    total = told.get("total")
    if total is None:
        is_inside = not (is_split or str(provider).startswith("google"))
    else:
        is_inside = total == fresh + output + read + written
    output += 0 if is_inside else reasoning
    return Tokens(fresh, read, written, 0, output), None not in counts
