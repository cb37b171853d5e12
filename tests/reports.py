"""Ledgers written row by row, for tests of what reports tell of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.ledger.opening import prepare
from mcp_tierkit.receipts import Weighed

AT = "2026-11-02T10:00:00"


@contextmanager
def new_ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """An empty ledger at this version's schema, open for writing."""
    prepare(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as opened:
        opened.row_factory = sqlite3.Row
        opened.execute("insert into owners values ('o', 'lock', 1, 'then')")
        yield opened


@contextmanager
def users_ledger(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """The ledger of a user with empty settings and no transcripts, who stands in the project `shop`."""
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (home / "shop").mkdir()
    (home / "tierkit.toml").write_text("")
    for name, value in {
        "HOME": str(home), "TIERKIT_CONFIG": str(home / "tierkit.toml"),
        "TIERKIT_STATE_DIR": str(home / "state"), "TIERKIT_LEDGER": f"sqlite://{home}/ledger.db",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home / "shop")
    with new_ledger(home / "ledger.db") as opened:
        yield opened


def open_task(
    conn: sqlite3.Connection, task_id: str, at: str = AT, decision: str = "draft", goal: str | None = None
) -> None:
    record = json.dumps({"goal": goal or f"Do {task_id}"})
    row = (task_id, f"/p/{task_id[0]}", "/p", at, record)
    conn.execute("insert into tasks (task_id, project, budget_key, created_at, record) values (?, ?, ?, ?, ?)", row)
    for tier in ("cheap", "strong"):
        made = (f"{tier}-{task_id}", task_id, at, decision, tier)
        conn.execute("insert into routes values (?, ?, ?, ?, ?, 'rule', '{}')", made)


def add_call(conn: sqlite3.Connection, task_id: str, tier: str = "cheap", stage: str = "draft", **more: Any) -> str:
    call_id = f"c{conn.execute('select count(*) from calls').fetchone()[0]}"
    row: dict[str, Any] = {
        "call_id": call_id, "task_id": task_id, "route_id": f"{tier}-{task_id}", "owner_id": "o",
        "at": AT, "stage": stage, "tier": tier, "requested_model": "m", "routed_model": "m",
        "status": "settled", "prompt_id": "p", **more,
    }  # fmt: skip
    conn.execute(f"insert into calls ({', '.join(row)}) values ({', '.join('?' * len(row))})", tuple(row.values()))
    return call_id


def tell(conn: sqlite3.Connection, task_id: str, receipt: dict[str, Any]) -> None:
    """End a task with this receipt, which the ledger keeps with its figures as they are written here."""
    reply = json.dumps({"reply": {"summary": "x", "receipt": receipt}})
    conn.execute("update tasks set state = 'done', reply = ? where task_id = ?", (reply, task_id))
    if found := weighed(receipt):
        conn.execute(
            "update task_sums set unit = ?, alone_low = ?, alone_high = ?, passed = ?, is_kept = ? where task_id = ?",
            (*found.model_dump().values(), task_id),
        )


def weighed(receipt: dict[str, Any]) -> Weighed | None:
    """What a receipt is made of, where its figures are not rounded: what its net leaves passed through the caller."""
    net, estimated = receipt["net"], receipt["estimated"] or {}
    if net is None:
        return None
    alone, is_usd = estimated.get("alone_usd") or estimated.get("alone_tokens"), isinstance(net[0], str)
    low, high, least = (nanos(end) if is_usd else int(end) for end in (*(alone or "00"), net[0]))
    spent = nanos(receipt["measured"]["usd"]) if is_usd else 0
    return Weighed(
        unit="usd" if is_usd else "tokens", alone_low=low, alone_high=high, passed=low - least - spent,
        is_spared=alone is not None,
    )  # fmt: skip


def nanos(usd: str) -> int:
    return int(Decimal(usd) * 10**9)


def receipt(usd: str | None, alone: list[str] | None, net: list[str] | list[int] | None) -> dict[str, Any]:
    estimated = {"alone_usd": alone, "schema_usd": "0.0002"} if alone else {"schema_usd": "0.0002"}
    return {"measured": {"usd": usd, "caller_tokens": [190, 60]}, "estimated": estimated, "net": net}
