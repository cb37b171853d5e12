"""Model text to changed files: search/replace blocks, unified diffs, whole files, and mixtures of them.

An edit is applied where its meaning is certain and refused where it is not; a wrong write is never worth a saved retry.
"""

from __future__ import annotations

from mcp_tierkit.edits import reader
from mcp_tierkit.edits.joining import join_reply
from mcp_tierkit.edits.reading import Kept, Reading, Refusal
from mcp_tierkit.errors import EditRefused

__all__ = ["Kept", "Reading", "Refusal", "apply_reply", "join_reply", "read_reply"]


def apply_reply(output: str, files: dict[str, str]) -> dict[str, str | None]:
    """The files that a reply changes or creates, None for deleted ones; empty if all of it was there already.

    `files` maps relative POSIX paths to text. Pure. All or nothing: raises EditRefused if any part is refused, if
    there is no edit, or if the reply asks a question.
    """
    reading = reader.read(output, files)
    if reading.question is not None:
        raise EditRefused(
            "The reply asks a question and makes no edit. Nothing was written.",
            next_step="Answer the question, or ask for the edit again with the answer in it.",
        )
    if reading.refused:
        first, count = reading.refused[0], len(reading.refused)
        where = f" for {first.path}" if first.path else ""
        others = f" {count - 1} more were refused." if count > 1 else ""
        raise EditRefused(
            f"Edit {first.block}{where} cannot be read with certainty: {first.why}.{others} Nothing was written.",
            next_step="Ask for the edit again and show the reason.",
        )
    return reading.changes


def read_reply(output: str, files: dict[str, str], *, partial: frozenset[str] = frozenset()) -> Reading:
    """What a reply says, block by block, for a repair prompt. Never raises for a bad reply.

    `partial` names files of which the model has seen parts only: blocks and diffs apply to their whole text, and a
    whole-file replacement is refused. A reply whose first line is `QUESTION: ...` says that the plan cannot work:
    it has a question and no changes.
    """
    return reader.read(output, files, partial)
