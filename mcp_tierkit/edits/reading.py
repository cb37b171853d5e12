"""What reading a reply gives."""

from __future__ import annotations

from pydantic import Field

from mcp_tierkit.types import Record


class Refusal(Record):
    """One block that was not applied, and what the file really holds where it may have been meant."""

    path: str | None = Field(description="The file it was for; None where that is unknown.")
    block: int = Field(ge=1, description="Which edit of the reply, counting from 1.")
    why: str
    near: str = Field(default="", description="The nearest real lines of the file, at most 30.")
    near_line: int | None = Field(default=None, description="Number of the first of them, from 1.")
    hunk: int | None = Field(default=None, ge=1, description="Which hunk of a diff, where the others stand alone.")
    begins: str = Field(default="", description="The first line that says something of what it looked for.")


class Kept(Record):
    """One block that needs no resending; of a diff with refused hunks only the `hunks` named."""

    path: str
    block: int = Field(ge=1)
    hunks: tuple[int, ...] = ()
    was_there: bool = Field(default=False, description="The file held its change before.")


class Reading(Record):
    """A reply held against the files. With refusals, `changes` is what the other blocks alone would give."""

    changes: dict[str, str | None] = Field(default_factory=dict, description="Path to new text, None for deleted.")
    question: str | None = Field(default=None, description="What a reply that begins with `QUESTION:` asks.")
    moved: dict[str, str] = Field(default_factory=dict, description="New path to old path of each file it renames.")
    kept: tuple[Kept, ...] = Field(default=(), description="The blocks that were applied or were there already.")
    refused: tuple[Refusal, ...] = ()

    @property
    def applied(self) -> int:
        return sum(not kept.was_there for kept in self.kept)

    @property
    def report(self) -> str:
        """For a repair prompt: each refused block with the nearest real lines, then what needs no resending."""
        parts = [_told(refusal) for refusal in self.refused]
        if self.refused and self.kept:
            fine = "; ".join(_named(kept.block, kept.hunks, kept.path) for kept in self.kept)
            parts.append(
                f"Read without trouble: {fine}. The files hold these changes now: do not send them again, "
                "send only what was not applied."
            )
        return "\n\n".join(parts)


def _told(refusal: Refusal) -> str:
    hunks = (refusal.hunk,) if refusal.hunk else ()
    begins = f', which looks for "{refusal.begins}",' if refusal.begins else ""
    what = _named(refusal.block, hunks, refusal.path)
    told = f"{what[0].upper()}{what[1:]}{begins} was not applied: {refusal.why}."
    if not refusal.near:
        return told
    return f"{told}\nThe nearest lines of the file, from line {refusal.near_line}:\n{refusal.near}"


def _named(block: int, hunks: tuple[int, ...], path: str | None) -> str:
    of = f"hunk{'s' if len(hunks) > 1 else ''} {', '.join(map(str, hunks))} of " if hunks else ""
    return f"{of}block {block}{f' for {path}' if path else ''}"
