"""How long a draft call takes to its first check in big repositories, and what is written meanwhile.

`python -m benchmarks.big_repository [--json]` makes three projects in a temporary folder: 50 files, 50,000 files, and
2 GB in four files, each a git repository. Each is drafted into through the desk, in a sandbox and in place. The check
notes when it began.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.sandbox import probe
from tests.support import BUGGY, RIGHT, commit_all, desk_at, make_config, make_project, run_git, said

SMALL, MANY = 50, 50_000
HUGE = 4
HUGE_BYTES = 512 * 1024 * 1024
PER_FOLDER = 100
FOLDERS = 20
CHECK = """import sys, time, unittest
print("began at", time.time(), file=sys.stderr)
from tests.test_cart import CartTest
unittest.main()
"""


@dataclass(frozen=True)
class Measured:
    """One draft: seconds from the call to the start of its first check, and what the disk took until the reply."""

    project: str
    isolation: str
    status: str
    first_check_s: float
    ratio: float
    written_kb: int
    whole_s: float


def make(root: Path, files: int, huge: int = 0) -> Path:
    """A project with a bug, and so many small files around it, in nested folders and committed."""
    make_project(root, git=False)
    (root / "check.py").write_text(CHECK)
    for at in range(files):
        folder, name = divmod(at, PER_FOLDER)
        outer, inner = divmod(folder, FOLDERS)
        place = root / "src" / f"outer{outer:03}" / f"inner{inner:03}"
        if name == 0:
            place.mkdir(parents=True)
        (place / f"file{name:03}.py").write_text(f"VALUE = {at}\n")
    run_git(root, "init", "-q", "-b", "main")
    run_git(root, "config", "gc.auto", "0")  # It would go on in the background, and write while we measure.
    commit_all(root)
    for at in range(huge):
        allocate(root / "data" / f"part{at}.bin", HUGE_BYTES)
    return root


def allocate(path: Path, size: int) -> None:
    """A file that really takes its bytes on disk."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def written() -> int:
    """Bytes that this process and the ones it waited for have sent to the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


async def measure(project: Path, home: Path, isolation: str, small_s: float | None) -> Measured:
    os.environ.pop("TIERKIT_NO_SANDBOX", None)
    if isolation == "in_place":
        os.environ["TIERKIT_NO_SANDBOX"] = "1"
    check = f"{sys.executable} check.py"
    config = make_config(project, home, toml=f'[checks]\nallow = ["{sys.executable}"]\n')
    call = DraftCall(task="total() must take the discount as a percentage.", files=("shop/cart.py",), checks=(check,))
    async with desk_at(config, ScriptedGateway([said(RIGHT)])) as desk:
        await probe()
        before, started = written(), time.time()
        reply = await desk.draft(call.model_copy(update={"wait_s": 60.0}))
        ended = time.time()
    began = first_start(project, reply["task_id"])
    return Measured(
        project=project.name,
        isolation=isolation,
        status=reply["status"],
        first_check_s=round(began - started, 3),
        ratio=round((began - started) / (small_s or began - started), 1),
        written_kb=(written() - before) // 1024,
        whole_s=round(ended - started, 3),
    )


def first_start(project: Path, task_id: str) -> float:
    log = (project / ".tierkit" / task_id / "before-1.log").read_text()
    return next(float(line.split()[-1]) for line in log.splitlines() if line.startswith("began at"))


async def main_async(folder: Path) -> list[Measured]:
    if (await probe()).kind == "none":
        print("No sandbox works here: in place only.", file=sys.stderr)
    kinds = ["sandbox", "in_place"] if (await probe()).kind == "sandbox" else ["in_place"]
    # What this process loads once is no cost of a repository.
    await measure(make(folder / "warm", 1), folder / "home", kinds[0], None)
    found: list[Measured] = []
    small: dict[str, float] = {}
    for name, files, huge in (("50 files", SMALL, 0), ("50,000 files", MANY, 0), ("2 GB", SMALL, HUGE)):
        (folder / name).mkdir()
        project = make(folder / name, files, huge)
        for isolation in kinds:
            (project / "shop" / "cart.py").write_text(BUGGY)
            row = await measure(project, folder / f"home {isolation} {name}", isolation, small.get(isolation))
            small.setdefault(isolation, row.first_check_s)
            found.append(row)
        shutil.rmtree(project)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierkit-big-") as folder:
        found = anyio.run(main_async, Path(folder).resolve())
    if asked.json:
        print(json.dumps([asdict(row) for row in found]))
        return
    print(f"{'project':14}{'isolation':11}{'status':12}{'to first check':>15}{'ratio':>7}{'written':>10}{'whole':>8}")
    for row in found:
        print(
            f"{row.project:14}{row.isolation:11}{row.status:12}{row.first_check_s:>13.2f} s{row.ratio:>7.1f}"
            f"{row.written_kb:>7} KB{row.whole_s:>6.1f} s"
        )


if __name__ == "__main__":
    main()
