"""The tables in `data/`: what is packaged beside the code, each file read once."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def packaged(name: str) -> dict[str, Any]:
    """`data/NAME.toml` as it stands there. All callers share it, so none may change it."""
    return tomllib.loads((Path(__file__).parent / "data" / f"{name}.toml").read_text("utf8"))
