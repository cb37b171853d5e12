"""A file that is one JSON document, whatever is wrong with it. What cannot be read is counted, never fatal."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from mcp_tierkit.transcripts.lines import opened

MAX_DOCUMENT = 32_000_000
"""Bytes. A document stands in memory as a whole, several times over, in each of two processes."""


def document(path: Path, counts: Counter[str]) -> tuple[dict[str, Any] | None, bool]:
    """The object in a file, and whether all of it is there: a client may be writing it just now.

    Raises OSError where the file cannot be opened.
    """
    content = _content(path, counts)
    if content is None:
        return None, False
    counts["lines"] += 1
    told, is_whole = _parsed(content)
    if not isinstance(told, dict):
        counts["broken"] += 1
        return None, False
    if not is_whole:
        counts["half"] += 1
    return told, is_whole


def _content(path: Path, counts: Counter[str]) -> bytes | None:
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size <= MAX_DOCUMENT:
            content = file.read(MAX_DOCUMENT + 1)
            if len(content) <= MAX_DOCUMENT:
                return content
    counts["large"] += 1
    return None


def _parsed(content: bytes) -> tuple[Any, bool]:
    try:
        return from_json(content), True
    except ValueError:
        pass
    try:  # Half of a surrogate pair, as a cut text leaves it, is no mistake to the standard library.
        return json.loads(content), True
    except (ValueError, RecursionError):
        pass
    try:
        return from_json(content, allow_partial=True), False
    except ValueError:
        return None, False
