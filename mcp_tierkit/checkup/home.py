"""The user's own places: state folder, prompts, ledger, disk, and the clock that the ledger's rows were written by."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import get_args

from mcp_tierkit.checkup.symptom import Symptom, fine, problem, warning
from mcp_tierkit.errors import InvalidInput, LedgerDamaged, LedgerError
from mcp_tierkit.journal import left_alone
from mcp_tierkit.ledger import report
from mcp_tierkit.ledger.opening import connect, explained, ledger_path, move_aside
from mcp_tierkit.places import make_private
from mcp_tierkit.prices import PriceTable
from mcp_tierkit.prompts import LATEST, load, texts
from mcp_tierkit.types import Category
from mcp_tierkit.workspace import Workspace

CLOCK_SLACK = timedelta(minutes=5)


def look_at_state(folder: Path) -> Iterator[Symptom]:
    fix = "Free that path or give yourself rights to it, or set TIERKIT_STATE_DIR to a folder that you can write."
    if why := make_private(folder) or _unwritable(folder):
        yield problem("state_unusable", f"{folder}: {why.split(';')[0].rstrip('.')}.", fix)


def look_at_left(project: Path, state: Path) -> Iterator[Symptom]:
    """Files that somebody saved while a change stood on trial, so that taking it back passed them over."""
    try:
        left = left_alone(Workspace(project), state)
    except OSError:
        return  # `look_at_state` says why.
    for path, kept in left.items():
        what = f"{path} was saved by somebody while a draft of it stood in the tree on trial, and was not put back."
        yield warning("left_alone", what, f"What it held before is in {kept}: compare the two.")


def _unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder; None where one can, and it is gone again."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return f"No file can be made there ({error.strerror})"
    return None


def look_at_ledger(url: str, now: datetime) -> list[Symptom]:
    """Reads the whole file once: seconds where there are millions of calls."""
    try:
        path = ledger_path(url)
        _try_to_write(path)
        health = report.health(url)
        with report.reading(url) as conn:
            newest, calls = report.newest_row(conn), report.overview(conn).spend.calls
    except LedgerDamaged as refusal:
        return [problem("ledger_damaged", f"{path}: {refusal.what}", _aside(path))]
    except LedgerError as refusal:
        return [problem("ledger_unusable", _named(url, refusal), _fix(refusal))]
    found = [*_faults(path, health), *_clock(newest, now)]
    if not any(symptom.name.startswith("ledger") for symptom in found):
        found.insert(0, fine("ledger", f"{path}, {calls} calls" if path.exists() else f"{path}, made on first use"))
    return found


def _try_to_write(path: Path) -> None:
    """Take the write lock and let go of it; where there is no ledger yet, make a file in its folder and remove it."""
    if path.exists():
        with explained(path), closing(connect(path)) as conn:
            conn.execute("begin immediate")
            conn.execute("rollback")
        return
    folder = next(parent for parent in path.parents if parent.exists())
    if why := _unwritable(folder):
        raise LedgerError(f"{why}.", next_step="Set TIERKIT_LEDGER to a path that you can write.")


def _named(url: str, refusal: LedgerError) -> str:
    where = url.removeprefix("sqlite://") if url.startswith("sqlite://") else "TIERKIT_LEDGER"
    return f"{where}: {refusal.what.split(' Nothing was ')[0]} Nothing can be recorded, so no model is called."


def _aside(path: Path) -> str:
    return f"End every server, then: {move_aside(path)} (a new file is made, and budgets begin at zero)."


def _fix(refusal: LedgerError) -> str:
    if "tierkit doctor" not in refusal.next_step:
        return refusal.next_step
    return "Look at the file's folder, rights and disk, or set TIERKIT_LEDGER to another path."


def _faults(path: Path, health: report.Health) -> Iterator[Symptom]:
    aside = f"{_aside(path)} Report this with a copy of it."
    if health.problems:
        yield problem("ledger_damaged", f"{path} is damaged: {health.problems[0]}.", aside)
    if not health.totals_agree:
        what = "The running totals that budgets read are not the sums of the calls, so budgets are wrong."
        yield problem("ledger_totals", what, aside)
    if not health.is_private:
        yield warning("ledger_readable", f"Other users may read {path}.", f"chmod 600 {path}")
    if left := health.left_calls + health.left_tasks:
        what = f"{left} calls or tasks were left by servers that ended abruptly; their reservations stay counted."
        yield warning("ledger_left", what, "Nothing: the next start closes them; tierkit report shows what is unknown.")


def _clock(newest: str | None, now: datetime) -> Iterator[Symptom]:
    """A clock that is behind shows: rows of the future, or prices read on a day that has not come."""
    fix = "Set the system's clock: days and months of the budgets are counted by it."
    if newest is not None and datetime.fromisoformat(newest) > now + CLOCK_SLACK:
        yield warning("clock", f"The newest row of the ledger is of {newest[:16]} UTC, which is yet to come.", fix)
        return
    read = _prices_read_on()
    if read is not None and read > (now + timedelta(days=1)).date():
        yield warning("clock", f"It is {now:%Y-%m-%d} here, and our prices were read on {read}.", fix)


def _prices_read_on() -> date | None:
    table = PriceTable()
    prices = (table.packaged(model) for model in table.models())
    return max((price.as_of for price in prices if price and price.as_of), default=None)


def look_at_prompts(folder: Path) -> Iterator[Symptom]:
    """The user's own prompt texts: those that cannot be used, and those that nothing reads any more."""
    try:
        for name in LATEST:
            load(name, overrides=folder)
        for category in get_args(Category):
            load("draft", category=category, scratchpad=True, overrides=folder)
    except InvalidInput as refusal:
        yield problem("prompt_refused", refusal.what.replace("Nothing was sent", "Nothing is sent"), refusal.next_step)
    for file in sorted(folder.rglob("*.md")):
        name = file.relative_to(folder).as_posix().removesuffix(".md")
        if name not in texts():
            yield warning("prompt_unread", *_unread(name, folder))


def _unread(name: str, folder: Path) -> tuple[str, str]:
    """What is to be said of a text that no call is made of."""
    kind = name.partition(".v")[0]
    now = next((text for text in sorted(texts()) if text.partition(".v")[0] == kind), None)
    if now is None:
        known = ", ".join(f"{text}.md" for text in sorted(texts()) if "/" not in text)
        what = f"{folder / name}.md is read by nothing: no prompt has that name."
        return what, f"Delete it, or give it one of these names: {known}."
    return (
        f"{folder / name}.md is no longer used: this version sends {now}.",
        f"Take your changes over into {now}.md beside it, starting from the text that is shipped, and delete it.",
    )


def look_at_disk(folders: Iterable[Path], low_bytes: int) -> Iterator[Symptom]:
    """Each disk that holds one of the folders, once. A full disk stops the ledger, and with it every call."""
    seen: set[int] = set()
    for folder in (*folders, Path(tempfile.gettempdir())):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        device = there.stat().st_dev
        free = shutil.disk_usage(there).free
        if device not in seen and free < low_bytes:
            what = f"{free // 1_000_000} MB are free where {there} lies; checks, patches and the ledger need more."
            yield warning("disk_low", what, "Free some space, or move TIERKIT_STATE_DIR or TMPDIR to another disk.")
        seen.add(device)
