"""What a drafter's reply is worth before any check has run: read as edits, and kept within what the task may touch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mcp_tierkit.answers import is_empty
from mcp_tierkit.edits import Reading, Refusal, read_reply
from mcp_tierkit.errors import PathRefused
from mcp_tierkit.redact import find_secrets, plain_paths
from mcp_tierkit.routing import is_about_tests
from mcp_tierkit.scope import guarded, in_scope
from mcp_tierkit.stages.answer import NO_ANSWER
from mcp_tierkit.stages.material import Sketch
from mcp_tierkit.stages.proof import Ending, Setting
from mcp_tierkit.types import AttemptOutcome
from mcp_tierkit.workspace import Workspace

NO_EDITS = "The reply could not be read as edits: "
CUT_OFF = "Your reply was cut off."
_NEW_NAME = re.compile(r"[\w./@+$()\[\]-]{1,160}")
"""Names that a draft may give to files of its own: callers are shown them, so no sentence may be one."""


@dataclass(frozen=True)
class Weighed:
    """The files as a reply would have them, and its ending where no check needs to run for it."""

    sketch: Sketch
    outside: tuple[str, ...] = ()
    """Paths whose edits were not kept."""
    ending: Ending | None = None

    def told(self, feedback: str) -> str:
        """Feedback, with what the drafter has to know of the edits that were not kept."""
        if not self.outside:
            return feedback
        paths = ", ".join(self.outside)
        refusal = f"These edits were not kept, since not all of them are to files that may be edited: {paths}."
        return _joined(feedback, refusal)


def weigh(
    setting: Setting, sketch: Sketch, answer: str, *, partial: frozenset[str], is_cut: bool, may_go_on: bool
) -> Weighed:
    """A reply read on top of the sketch's edits and kept in scope. One that is cut waits for its rest, if it may."""
    before = setting.before.results
    if is_empty(answer):
        note = "The reply held no answer."
        return Weighed(sketch, ending=Ending("rejected", note, before, outcome="empty", feedback=NO_ANSWER))
    if is_cut and may_go_on:
        return Weighed(sketch, ending=Ending("rejected", "The reply was cut off.", before, outcome="cut_short"))
    reading = read_reply(answer, sketch.current(), partial=partial)
    if reading.question:
        note = "The drafter says the plan cannot work."
        # A plan that cannot work leaves no half of it behind.
        return Weighed(
            replace(sketch, after={}), ending=Ending("question", note, question=reading.question, outcome="question")
        )
    outside = _outside(setting, sketch, reading)
    kept = {path: text for path, text in reading.changes.items() if path not in outside}
    weighed = Weighed(replace(sketch, after=sketch.after | kept), tuple(outside))
    refused = tuple(block for block in reading.refused if block.path not in outside)
    return replace(weighed, ending=_ending(setting, weighed, reading.model_copy(update={"refused": refused}), is_cut))


def _ending(setting: Setting, weighed: Weighed, reading: Reading, is_cut: bool) -> Ending | None:
    """How it ends without a check having run; None where checks have to say."""
    before, sketch = setting.before.results, weighed.sketch
    if reading.refused or not sketch.changes():
        note, outcome = _fault(reading, weighed.outside)
        if is_cut:
            note, outcome = CUT_OFF.replace("Your", "The"), "cut_short" if outcome == "unreadable" else outcome
        told = weighed.told(_joined(CUT_OFF if is_cut else "", reading.report))
        feedback = told or "Nothing in your reply changes a file."
        return Ending("rejected", note, before, outcome=outcome, feedback=feedback)
    if secrets := _new_secrets(sketch):
        return Ending("rejected", f"The draft writes a secret into {_shown(secrets)}.", before, outcome="out_of_scope")
    if not setting.planned.task.checks:
        return Ending("unproven", "No check was named, so nothing was applied.", outcome="unproven")
    return None


def _fault(reading: Reading, outside: tuple[str, ...]) -> tuple[str, AttemptOutcome]:
    """Why a reply is not, or not wholly, an edit that may be made."""
    if reading.refused:
        return f"{NO_EDITS}{_what(reading.refused[0])}.", "unreadable"
    if outside:
        return f"The reply edits what it may not: {_shown(outside)}.", "out_of_scope"
    return f"{NO_EDITS}nothing in it changes a file.", "unreadable"


def _what(refusal: Refusal) -> str:
    """One refused block in a line: which, where in the file it may have been meant, and what is wrong with it."""
    why = _unquoted(refusal.why)
    if refusal.path is None:
        return why
    line = f", near line {refusal.near_line}" if refusal.near_line else ""
    return f"block {refusal.block} for {_shown((refusal.path,))}{line}: {why}"


def _outside(setting: Setting, sketch: Sketch, reading: Reading) -> list[str]:
    """Paths of a reply that the draft may not touch."""
    task, workspace = setting.planned.task, setting.kit.workspace
    allow_tests = is_about_tests(task.goal)

    def is_allowed(path: str) -> bool:
        return (
            in_scope(path, task.files)
            and (path in sketch.before or path in task.files or _NEW_NAME.fullmatch(path) is not None)
            and not guarded(path, task.checks, allow_tests, is_new=path not in sketch.before)
            and not _is_linked(workspace, path)
            and not workspace.denied(path)
        )

    meant = dict.fromkeys([*reading.changes, *(block.path for block in reading.refused if block.path)])
    outside = [path for path in meant if not is_allowed(path)]
    return [*outside, *_halves(reading, outside, sketch.current())]


def _halves(reading: Reading, outside: list[str], files: Mapping[str, str]) -> list[str]:
    """What belongs to edits that are not kept: the rest of a rename, and what is deleted where a new file is not made.

    To delete a file whose text was to stand elsewhere would lose it.
    """
    lost, moves = set(outside), [{*move} for move in reading.moved.items()]
    for _ in moves:  # One may go on where another ends.
        lost.update(*(move for move in moves if move & lost))
    if any(reading.changes.get(path) is not None and path not in files for path in outside):
        kept = set().union(*moves) - lost
        lost.update(path for path, text in reading.changes.items() if text is None and path not in kept)
    return [path for path in reading.changes if path in lost and path not in outside]


def _is_linked(workspace: Workspace, path: str) -> bool:
    """Whether a link, or something that is no file, stands at the path or on the way to it, or it is no path."""
    try:
        workspace.exists(path)
    except PathRefused:
        return True
    return False


def _shown(paths: tuple[str, ...]) -> str:
    return ", ".join(plain_paths(paths)) or "a file of an odd name"


def _unquoted(why: str) -> str:
    """A reason as the caller is told it: what it quotes of the reply is the model's own words."""
    return re.sub(r"""(['"]).*\1""", "…", why, flags=re.DOTALL)


def _joined(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def _new_secrets(sketch: Sketch) -> tuple[str, ...]:
    return tuple(path for path, text in sketch.after.items() if find_secrets(path) or (text and find_secrets(text)))
