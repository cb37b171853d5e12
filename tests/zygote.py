"""Forks drafting processes that are cheap to start, for tests that kill them: one line `PROJECT HOME` in, one pid out.

The modules are loaded once. Each child drafts as the server does, through a desk, and is killed or ends by itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from mcp_tierkit.calls import DraftCall
from mcp_tierkit.gateway import ScriptedGateway
from tests.support import JOB, REPAIR, WRONG, desk_at, make_config, said

ALLOW = f'[checks]\nallow = ["{sys.executable}"]\n'


async def draft(project: Path, home: Path) -> None:
    gateway = ScriptedGateway([said(WRONG), said(REPAIR)])
    async with desk_at(make_config(project, home, toml=ALLOW), gateway) as desk:
        await desk.draft(DraftCall(**JOB, wait_s=60))


def main() -> None:
    for line in sys.stdin:
        project, home = map(Path, line.split("\t"))
        pid = os.fork()
        if pid == 0:
            os.close(0)
            anyio.run(draft, project, Path(str(home).strip()))
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
