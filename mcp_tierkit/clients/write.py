"""A configuration file read whole and replaced whole, its mode kept."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from mcp_tierkit.errors import Conflict, InvalidInput

MAX_BYTES = 5_000_000


def read_text(file: Path) -> str | None:
    """The text, None where there is no such file. Raises InvalidInput for what is not a readable text file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode) or file.stat().st_size > MAX_BYTES:
            raise _unreadable(file, "is not a regular file of ordinary size")
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        if file.is_symlink():
            raise _unreadable(file, "is a link that leads nowhere") from None
        return None
    except UnicodeDecodeError:
        raise _unreadable(file, "is not UTF-8 text") from None
    except OSError as error:
        raise _unreadable(file, f"cannot be read ({error.strerror})") from None


def _unreadable(file: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{file.name} {why}. It was not touched.", next_step="Mend the file and run this again.")


def backup(file: Path, text: str) -> Path:
    """A copy beside the file, with its mode, under a name with the time; what is there already stays."""
    mode = stat.S_IMODE(file.stat().st_mode)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(100):
        copy = file.with_name(f"{file.name}.{stamp}{f'-{number}' if number else ''}.bak")
        try:
            handle = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        except FileExistsError:
            continue
        with open(handle, "wb") as out:
            out.write(text.encode("utf-8"))
        return copy
    raise Conflict(f"{file.name} has too many backups of this second. It was not touched.", next_step="Try again.")


def replace(file: Path, before: str | None, after: str) -> None:
    """Put `after` in place of `before` in one step. Raises Conflict when the file no longer holds `before`."""
    target = file.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(target.stat().st_mode) if before is not None else _default_mode()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(handle, "wb") as out:
            out.write(after.encode("utf-8"))
            os.fchmod(out.fileno(), mode)
            out.flush()
            os.fsync(out.fileno())
        if read_text(file) != before:
            raise Conflict(f"{file.name} changed meanwhile. It was not touched.", next_step="Run this again.")
        os.replace(name, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _default_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o644 & ~mask
