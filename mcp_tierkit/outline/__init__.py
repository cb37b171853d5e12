"""What a file offers without its bodies, where its definitions stand, and which project files it may import.

Everything here reads text alone: no file is opened, and a text that cannot be read so gives None or nothing. Whether a
path may be shown to a model, and whether a text holds a secret, is for the caller to settle first.
"""

from __future__ import annotations

from mcp_tierkit.outline.imports import neighbours
from mcp_tierkit.outline.shape import LONG_LINE, Definition, Shape, read
from mcp_tierkit.outline.show import mark, show

__all__ = ["LONG_LINE", "Definition", "Shape", "definitions", "mark", "neighbours", "outline", "read", "show"]


def outline(path: str, text: str) -> str | None:
    """Imports, constants, heads of classes and functions as they stand in the file, with marks for what is left out.

    None for a language without a grammar, and for a text that is too large, too deep or no code.
    """
    shape = read(path, text)
    return None if shape is None else show(text.split("\n"), shape.outline)


def definitions(path: str, text: str) -> tuple[Definition, ...]:
    """The classes and functions of a file in order, nested ones after what holds them; none where it cannot be read."""
    shape = read(path, text)
    return () if shape is None else shape.definitions
