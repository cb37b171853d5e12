"""Made-up transcripts of both clients, with what real ones have: streamed rows, forks, side conversations, damage."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]
BEGUN = datetime(2026, 11, 1, 8, tzinfo=UTC)
MODELS = ("claude-opus-4-6", "claude-haiku-4-5-20251001", "claude-sonnet-4-6[1m]", "claude-haiku-5-5", "house-model-9")
ASKED = ("run the tests", "fix the rounding in shop/cart.py", "why is it slow?", "add a note", "list the files in src")


OTHERS = ("XDG_", "PI_", "GEMINI_", "OPENCODE_", "CLAUDE_", "CODEX_", "TIERKIT_")


def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with nothing in it, and no variable that leads elsewhere. It is no project, so has no settings."""
    for name in list(os.environ):
        if name.startswith(OTHERS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def usage(fresh: int = 5, read: int = 0, minutes: int = 0, hour: int = 0, output: int = 10) -> Row:
    split = {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour}
    return {"input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": minutes + hour,
            "cache_creation": split, "output_tokens": output}  # fmt: skip


def asked(text: str, at: datetime, uuid: str, **extra: Any) -> Row:
    message = {"role": "user", "content": text}
    return {"type": "user", "message": message, "uuid": uuid, "timestamp": stamp(at), "cwd": "/home/ada/shop", **extra}


def answer(key: str, at: datetime, counts: Row, *blocks: Row, model: str = "claude-opus-4-6", **extra: Any) -> Row:
    message = {"id": key, "model": model, "role": "assistant", "usage": counts, "content": list(blocks)}
    return {"message": message, "requestId": f"req_{key}", "type": "assistant", "timestamp": stamp(at),
            "uuid": f"{key}-row", "cwd": "/home/ada/shop", "version": "2.1.47", **extra}  # fmt: skip


def tool(use_id: str, name: str = "Bash", **given: str) -> Row:
    return {"type": "tool_use", "id": use_id, "name": name, "input": given}


def result(use_id: str, text: str, at: datetime, **extra: Any) -> Row:
    block = {"type": "tool_result", "tool_use_id": use_id, "content": text}
    return {"type": "user", "message": {"role": "user", "content": [block]}, "timestamp": stamp(at), **extra}


def counted(total: list[int], last: list[int], at: datetime) -> Row:
    """Codex's event: input in all, the cached part of it, output."""
    names = ("input_tokens", "cached_input_tokens", "output_tokens")
    info = {"total_token_usage": dict(zip(names, total, strict=True)),
            "last_token_usage": dict(zip(names, last, strict=True))}  # fmt: skip
    return event("event_msg", at, type="token_count", info=info)


def event(kind: str, at: datetime, **payload: Any) -> Row:
    return {"timestamp": stamp(at), "type": kind, "payload": payload}


def write(path: Path, rows: Iterable[Row | str]) -> Path:
    """One row a line; a text stands as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row, separators=(",", ":")) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    return path


class World:
    """A home folder that fills with sessions, each from the dice alone."""

    def __init__(self, home: Path, seed: int) -> None:
        self.rng, self.home = random.Random(seed), home
        self.at = BEGUN + timedelta(days=self.rng.uniform(0, 15))
        self._ids = 0

    def fill(self) -> None:
        sessions = [self._claude() for _ in range(self.rng.randrange(1, 4))]
        for rows in self.rng.sample(sessions, self.rng.randrange(len(sessions) + 1)):
            self._fork(rows)
        for _ in range(self.rng.randrange(3)):
            self._codex()

    def _id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}-{self._ids}"

    def _tick(self) -> datetime:
        self.at += timedelta(seconds=self.rng.randrange(1, 4000), milliseconds=self.rng.randrange(1000))
        return self.at

    def _claude(self) -> list[Row]:
        session = self._id("session")
        rows: list[Row] = []
        for _ in range(self.rng.randrange(4)):
            rows.append(asked(self.rng.choice(ASKED), self._tick(), self._id("u"), sessionId=session))
            for _ in range(self.rng.randrange(4)):
                rows += self._step(session, is_sub=self.rng.random() < 0.2)
        folder = self.home / ".claude" / "projects" / "-home-ada-shop"
        if self.rng.random() < 0.5:
            agent = [row for _ in range(3) for row in self._step(session, is_sub=True)]
            name = f"agent-{self._id('a')}.jsonl"
            write(folder / session / "subagents" / name if self.rng.random() < 0.5 else folder / name, agent)
            if self.rng.random() < 0.5:  # The same rows in the session's own file too.
                rows += agent
        if self.rng.random() < 0.3:  # A question aside is asked with the conversation so far, which is written again.
            copies = [{**row, "isSidechain": True} for row in rows if row["type"] == "assistant"]
            write(folder / session / "subagents" / f"agent-{self._id('aside')}.jsonl", copies)
        write(folder / f"{session}.jsonl", self._damaged(rows))
        return rows

    def _step(self, session: str, *, is_sub: bool) -> list[Row]:
        rng, key, use_id = self.rng, self._id("msg"), self._id("toolu")
        fresh, read, minutes, hour = (rng.choice((0, rng.randrange(90_000))) for _ in range(4))
        counts = usage(fresh, read, minutes, hour, 1)
        model, extra = rng.choice(MODELS), {"sessionId": session, "isSidechain": is_sub}
        if rng.random() < 0.1:
            counts["input_tokens"] = rng.choice((None, -4, "many", 10**12))
        if rng.random() < 0.1:
            del counts["cache_creation"]
        rows = []
        for part in range(rng.randrange(1, 4)):
            grown = {**counts, "output_tokens": 1 + part * rng.randrange(500)}
            blocks = [tool(use_id, rng.choice(("Bash", "Read")), command="ls")] if part == 0 else []
            rows.append(answer(key, self._tick(), grown, *blocks, model=model, **extra))
        if rng.random() < 0.1:
            rows.append(answer(self._id("msg"), self._tick(), usage(), model="<synthetic>", **extra))
        if rng.random() < 0.1:
            rows.append({"type": "system", "subtype": "compact_boundary", **extra})
        return [*rows, result(use_id, "x" * rng.randrange(30_000), self._tick(), **extra)]

    def _fork(self, rows: list[Row]) -> None:
        """A session that begins with rows of another, under its own name, and then goes on."""
        session = self._id("session")
        marked = {"forkedFrom": {"sessionId": "other"}} if self.rng.random() < 0.5 else {}
        taken = [{**row, "sessionId": session, **marked} for row in rows[: self.rng.randrange(len(rows) + 1)]]
        taken.append(asked("go another way", self._tick(), self._id("u"), sessionId=session))
        taken += self._step(session, is_sub=False)
        write(self.home / ".claude" / "projects" / "-home-ada-shop" / f"{session}.jsonl", self._damaged(taken))

    def _damaged(self, rows: list[Row]) -> list[Row | str]:
        """Rows with broken lines between them, and rows of other kinds that carry counts which are no answer."""
        nested = {"type": "progress", "data": {"message": answer("nested", self.at, usage(9, 9, 9, 9, 9))}}
        odd = ['{"type":"assistant","message":{"usage":', "\x00\x01 usage user", "[]", json.dumps(nested), ""]
        mixed: list[Row | str] = list(rows)
        for _ in range(self.rng.randrange(3)):
            mixed.insert(self.rng.randrange(len(mixed) + 1), self.rng.choice(odd))
        return mixed

    def _codex(self) -> None:
        session = self._id("thread")
        rows = [event("turn_context", self._tick(), model=self.rng.choice(("gpt-5.2", "house-model-9")))]
        total = self._turns(rows, [0, 0, 0])
        self._rollout(session, rows, cwd="/home/ada/api")
        if self.rng.random() < 0.6:  # A fork, or a thread that it spawned: the parent's rows first, at new times.
            child, now = self._id("thread"), self._tick()
            copies = [{**row, "timestamp": stamp(now)} for row in rows]
            own: list[Row] = []
            self._turns(own, total)
            parent = {"forked_from_id": session} if self.rng.random() < 0.5 else {"parent_thread_id": session}
            self._rollout(child, [*copies, *own], cwd="/home/ada/api", **parent)

    def _turns(self, rows: list[Row], total: list[int]) -> list[int]:
        for _ in range(self.rng.randrange(1, 4)):
            rows.append(event("event_msg", self._tick(), type="user_message", message=self.rng.choice(ASKED)))
            for _ in range(self.rng.randrange(3)):
                use_id, cached = self._id("call"), self.rng.randrange(50_000)
                last = [cached + self.rng.randrange(9000), cached, self.rng.randrange(1, 900)]
                total = [one + two for one, two in zip(total, last, strict=True)]
                rows.append(event("response_item", self._tick(), type="function_call", name="exec_command",
                                  call_id=use_id, arguments='{"cmd":"ls"}'))  # fmt: skip
                rows += [counted(total, last, self._tick())] * self.rng.randrange(1, 3)
                rows.append(event("response_item", self._tick(), type="function_call_output", call_id=use_id,
                                  output="y" * self.rng.randrange(20_000)))  # fmt: skip
        return total

    def _rollout(self, session: str, rows: list[Row], **meta: str) -> None:
        head = event("session_meta", self.at, id=session, cli_version="0.150.0", **meta)
        path = self.home / ".codex" / "sessions" / "2026" / "11" / "01" / f"rollout-2026-11-01T08-00-00-{session}.jsonl"
        write(path, [head, *rows])
