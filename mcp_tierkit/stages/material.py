"""What a drafter gets to see: the files of its task, what surrounds them, and how much of each fits the request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import anyio

from mcp_tierkit.errors import InvalidInput, PathRefused, PolicyRefused
from mcp_tierkit.kit import Kit
from mcp_tierkit.outline import neighbours
from mcp_tierkit.packing import Packed, pack
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.routing import is_about_tests
from mcp_tierkit.scope import guarded
from mcp_tierkit.shapes import read_shapes
from mcp_tierkit.stages.plan import Planned
from mcp_tierkit.tokens import estimate
from mcp_tierkit.types import Changes, CheckResult, Content

CONVENTIONS = ".tierkit/conventions.md"
"""A project's own notes for drafters: sent as labelled data, in part where they are longer than MOST_CONVENTIONS."""

MOST_CONVENTIONS = 2048
MOST_NEIGHBOURS = 40
ROOMY = 0.8
"""Share of the budget that files may take before labels and fences could make them too much."""
MOST_NEIGHBOUR_BYTES = 400_000


@dataclass(frozen=True)
class Sketch:
    """The files of one draft: as they were read, and as the edits so far have made them."""

    before: dict[str, str]
    context: dict[str, str]
    expected: dict[str, str | None]
    neighbours: dict[str, str] = field(default_factory=dict)
    conventions: str = ""
    after: dict[str, str | None] = field(default_factory=dict)

    def current(self) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.context, **self.before, **self.after}
        return {path: text for path, text in merged.items() if text is not None}

    def changes(self) -> Changes:
        return {
            path: None if text is None else Content(data=text.encode())
            for path, text in self.after.items()
            if text != self.before.get(path)
        }

    def size(self) -> int:
        """Tokens of the files to edit: about what writing them anew would take."""
        return sum(map(estimate, self.before.values()))


def gather(kit: Kit, planned: Planned) -> Sketch:
    """The texts to edit and to read. Raises for a guarded path, a secret, or a file that is no text."""
    task, workspace = planned.task, kit.workspace
    editable = workspace.expand(task.files)
    for path in (*task.files, *task.context):
        refuse_denied(kit, path)
    for path in {*task.files, *editable}:
        if reason := guarded(path, task.checks, is_about_tests(task.goal), is_new=path not in editable):
            raise PolicyRefused(
                f"{path} is read-only to a draft: {reason}. Nothing was spent.",
                next_step="Leave it out of files, or make that part of the change yourself.",
            )
    context = [path for path in workspace.expand(task.context) if path not in editable and path != CONVENTIONS]
    texts = {path: workspace.text(path) for path in (*editable, *context)}
    conventions = _conventions(kit)
    _refuse_secrets(texts | {CONVENTIONS: conventions})
    before = {path: texts[path] for path in editable}
    return Sketch(
        before=before,
        context={path: texts[path] for path in context},
        # Of the texts themselves: a file saved again since then is another one.
        expected={path: hashlib.sha256(text.encode()).hexdigest() for path, text in before.items()},
        neighbours=_neighbours(kit, before, texts),
        conventions=conventions,
    )


def refuse_denied(kit: Kit, path: str) -> None:
    """Raise for a path that is named outright and never read; a glob passes it over."""
    if not path.startswith("!") and kit.workspace.denied(path):
        raise PathRefused(
            f"{path} is on the deny list, so it is neither read nor changed. Nothing was spent.",
            next_step="Leave it out; what it holds never leaves this machine.",
        )


def _conventions(kit: Kit) -> str:
    if not kit.workspace.expand((CONVENTIONS,)):
        return ""
    return kit.workspace.text(CONVENTIONS).encode()[:MOST_CONVENTIONS].decode(errors="ignore")


def _refuse_secrets(texts: dict[str, str]) -> None:
    for path, text in texts.items():
        for secret in find_secrets(text):
            raise PolicyRefused(
                f"{path} holds a secret at line {secret.line} ({secret.rule}), so it is not sent. Nothing was spent.",
                next_step="Move the secret out of that file, or make this change yourself.",
            )


def _neighbours(kit: Kit, before: dict[str, str], known: dict[str, str]) -> dict[str, str]:
    """Project files that the files to edit import. Nobody asked for them, so what may not be sent is left out."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(name for file, text in before.items() for name in neighbours(file, text)):
        if len(found) >= MOST_NEIGHBOURS:
            break
        if path not in known and (text := _read(kit, path)) and not find_secrets(text):
            found[path] = text
    return found


def _read(kit: Kit, path: str) -> str:
    try:
        if kit.workspace.denied(path) or not kit.workspace.exists(path):
            return ""
        return kit.workspace.read(path, limit=MOST_NEIGHBOUR_BYTES).decode()
    except (PathRefused, InvalidInput, UnicodeDecodeError, OSError):
        return ""


async def pack_sketch(kit: Kit, planned: Planned, sketch: Sketch, results: tuple[CheckResult, ...]) -> Packed:
    """The sketch within the budget of one request. Raises InvalidInput where a file to edit does not fit at all."""
    handoff, budget = planned.handoff, kit.config.pack_tokens
    focus = (handoff.summary, *handoff.steps, *handoff.acceptance, *(result.digest for result in results))
    shapes = await read_shapes(await anyio.to_thread.run_sync(_to_outline, sketch, budget))

    def work() -> Packed:
        return pack(
            sketch.before, sketch.context, sketch.neighbours, budget=budget, count=estimate, focus=focus,
            shape_of=lambda path, text: shapes.get(path),
        )  # fmt: skip

    packed = await anyio.to_thread.run_sync(work)
    if too_big := [file.path for file in packed.files if file.shown == "left_out" and file.path in sketch.before]:
        raise InvalidInput(
            f"{', '.join(too_big)} does not fit the {budget} tokens of a draft. Nothing was spent.",
            next_step="Name fewer or smaller files, or make this change yourself.",
        )
    return packed


def _to_outline(sketch: Sketch, budget: int) -> dict[str, str]:
    """The files of which an outline may be shown: neighbours always, the others where they hardly fit whole."""
    named = {**sketch.before, **sketch.context}
    is_tight = sum(map(estimate, named.values())) > budget * ROOMY
    # Those to edit come first: what a file that cannot be read takes down is what comes after it.
    return {**(named if is_tight else {}), **sketch.neighbours}
