"""The private folder of one run: made for it, and gone with it or with the next run after a crash."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "tierkit-run-"


@contextlib.contextmanager
def private_folder(within: Path | None = None) -> Iterator[Path]:
    """A new folder of this process. By default not in our state folder: a sandbox hides all of that."""
    if within is not None:
        within.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = Path(os.path.realpath(within or tempfile.gettempdir()))
    _sweep(place)
    stage = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    try:
        yield stage
    finally:
        _remove(stage)


def _sweep(place: Path) -> None:
    """Remove what runs of dead servers left."""
    for left in place.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).split("-")[0]
        with contextlib.suppress(OSError):
            is_ours = left.lstat().st_uid == os.geteuid() and stat.S_ISDIR(left.lstat().st_mode)
            if is_ours and owner.isdigit() and not Path(f"/proc/{owner}").exists():
                _remove(left)


def _remove(stage: Path) -> None:
    """All of it, folders that the script closed to us included."""
    shutil.rmtree(stage, ignore_errors=True)
    if not stage.exists():
        return
    for here, folders, _ in os.walk(stage):
        for name in folders:
            with contextlib.suppress(OSError):
                path = os.path.join(here, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
    shutil.rmtree(stage, ignore_errors=True)
