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


class Reading(Record):
    """A reply held against the files. With refusals, `changes` is what the other blocks alone would give."""

    changes: dict[str, str | None] = Field(default_factory=dict, description="Path to new text, None for deleted.")
    question: str | None = Field(default=None, description="What a reply that begins with `QUESTION:` asks.")
    applied_to: tuple[str, ...] = Field(default=(), description="The file of each applied block, in order.")
    already: int = Field(default=0, description="Blocks whose change the files held before.")
    refused: tuple[Refusal, ...] = ()

    @property
    def applied(self) -> int:
        return len(self.applied_to)

    @property
    def report(self) -> str:
        """For a repair prompt: each refused block with the nearest real lines, then what needs no resending."""
        parts = [_told(refusal) for refusal in self.refused]
        if self.refused and (self.applied or self.already):
            files = ", ".join(dict.fromkeys(self.applied_to))
            fine = f"{self.applied + self.already} other blocks were read without trouble"
            parts.append(f"{fine}{f' ({files})' if files else ''}. Do not send those again.")
        return "\n\n".join(parts)


def _told(refusal: Refusal) -> str:
    told = f"Block {refusal.block}{f' for {refusal.path}' if refusal.path else ''} was not applied: {refusal.why}."
    if not refusal.near:
        return told
    return f"{told}\nThe nearest lines of the file, from line {refusal.near_line}:\n{refusal.near}"
