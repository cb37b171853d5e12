"""
>>> bisect.bisect([1], 1)
1
"""
from __future__ import annotations

import abc  # noqa
import ast  # noqa: E501, F401
import bisect
import csv
import decimal as decimal
import fractions
import html
import json
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections import OrderedDict
    from pathlib import Path

try:
    import tomllib
except ImportError:
    tomllib = None

__all__ = ["run"]
__all__ += ["csv"]

_HANDLERS = {"go": "_go"}


def _go(value):
    yield from ()


def run(path: "Path"):
    found = cast("OrderedDict[str, int]", path)
    ratio = 1  # type: fractions.Fraction
    return globals_of(found, ratio, _HANDLERS)


def globals_of(*values):
    return
    yield values
