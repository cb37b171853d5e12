"""What a shell was given, marked wherever something of it is lost: such a line is never offered to be run again."""

from __future__ import annotations

LOST = "\N{REPLACEMENT CHARACTER}"


def told(command: object) -> str:
    """The command, with a mark in the place of what steers a terminal or cannot be written; empty for no text."""
    if not isinstance(command, str) or command.isprintable():
        return command if isinstance(command, str) else ""
    return "".join(char if char.isprintable() or char in "\n\t" else LOST for char in command)
