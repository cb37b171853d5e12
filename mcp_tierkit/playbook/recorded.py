"""A task that was solved once, as the playbook that makes its change again."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mcp_tierkit.diffs import patch
from mcp_tierkit.errors import InvalidInput, NotFound, PolicyRefused
from mcp_tierkit.journal import record
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.playbook import replay
from mcp_tierkit.playbook.folder import MAX_BYTES, MAX_FILES
from mcp_tierkit.playbook.match import usable
from mcp_tierkit.playbook.schema import Fields
from mcp_tierkit.playbook.starter import Starter, as_json, template
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.types import Content, Record, Task
from mcp_tierkit.workspace import Workspace


class Recorded(Record):
    """What was asked, and the text of each changed file before and after; None where there is none."""

    goal: str
    before: dict[str, str | None]
    after: dict[str, str | None]


async def recorded(ledger: Ledger, ws: Workspace, state_dir: Path, task_id: str) -> Recorded:
    """The change that a task of this project applied and that still stands.

    Raises NotFound or InvalidInput for any other task, and PolicyRefused where a file holds a secret.
    """
    task = await _task(ledger, ws, task_id)
    drafts = await ledger.drafts(task_id)
    if not drafts or drafts[-1].status != "applied":
        told = f"its last draft is {drafts[-1].status}" if drafts else "it was never drafted"
        raise _refused(f"Task {task_id} has no applied change: {told}", "Take a task whose draft was applied.")
    before, after = _change(ws, state_dir, task_id)
    for path, text in (("its goal", task.goal), *before.items(), *after.items()):
        if text and (secrets := find_secrets(text)):
            raise PolicyRefused(
                f"A playbook would keep what looks like a {secrets[0].rule}, in {path}. Nothing was written.",
                next_step="Make the playbook by hand: tierkit playbook new NAME.",
            )
    return Recorded(goal=task.goal, before=before, after=after)


def recorded_starter(name: str, seen: Recorded) -> Starter:
    """The playbook of that change, holes where the goal's words stand in it. ValueError where it is too large."""
    parts = replay.edits(seen.before, seen.after)
    holes = replay.slots(seen.goal, parts)
    opened = replay.opened(parts, holes)
    inputs = {slot.name: slot.value for slot in holes}
    words = name.replace("-", " ")
    phrases = _phrases(seen.goal, words, holes)
    values = {
        "name": name, "words": words, "phrases": _toml(phrases), "inputs": json.dumps(inputs),
        "reads": _toml([_pattern(edit.path) for edit in opened]),
        "writes": _toml(sorted({_pattern(edit.path) for edit in opened})),
        "slots": "".join(map(_slot, holes)),
    }  # fmt: skip
    files = template("replay", values) | {"assets/edits.json": as_json([edit.model_dump() for edit in opened])}
    starter = Starter(name=name, files=files | _cases(seen, parts, inputs), notes=tuple(_notes(holes, phrases)))
    if len(starter.files) > MAX_FILES or sum(len(one.data) for one in starter.files.values()) > MAX_BYTES:
        raise ValueError(f"the change is too large for a playbook ({MAX_FILES} files, {MAX_BYTES // 1024 // 1024} MB)")
    return starter


async def _task(ledger: Ledger, ws: Workspace, task_id: str) -> Task:
    try:
        task = await ledger.task(task_id)
    except NotFound:
        raise NotFound(
            f"not_found: No task has id {task_id[:40]!a}. Nothing was written.",
            next_step="tierkit report lists the latest tasks.",
        ) from None
    if Path(task.project) != ws.root:
        raise _refused(f"Task {task_id} belongs to another project", "Call again with --project, or in its folder.")
    return task


def _change(ws: Workspace, state_dir: Path, task_id: str) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """The texts before the task's first change and after its last, by its undo records."""
    home = record.home_of(state_dir, ws.root)
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    for name in reversed(record.of_task(home, task_id)):
        folder = home / "undo" / name
        for at, step in enumerate(record.load(folder).steps):
            before.setdefault(step.path, _text(folder / f"before.{at}", step.before.digest, step.path))
            after[step.path] = _text(folder / f"after.{at}", step.after.digest, step.path)
    if not after:
        raise _refused(f"The change of task {task_id} was taken back", "Take a task whose change still stands.")
    return before, after


def _text(file: Path, digest: str | None, path: str) -> str | None:
    if digest is None:
        return None
    data = record.kept(file, digest)
    try:
        if b"\0" not in data:
            return data.decode()
    except UnicodeDecodeError:
        pass
    raise _refused(f"The change is to {path} too, which is not text", "Make the playbook by hand.")


def _phrases(goal: str, words: str, holes: tuple[replay.Slot, ...]) -> list[str]:
    """The goal with holes and the name with all of them, as far as a phrase can hold them."""
    fields = Fields({slot.name: {"type": "string"} for slot in holes})
    needed = ["{" + slot.name + "}" for slot in holes]
    phrases = usable((replay.phrase(goal, holes), " ".join([words, *needed])), fields)
    return [phrase for phrase in phrases if all(slot in phrase for slot in needed)]


def _slot(slot: replay.Slot) -> str:
    told = json.dumps(f"In the recorded task: {slot.value}", ensure_ascii=False)
    return f'{slot.name} = {{ type = "string", pattern = {_toml(slot.form.pattern)}, description = {told} }}\n'


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pattern(path: str) -> str:
    """The path as a gitignore pattern that matches it alone; a hole matches one name."""
    return "/" + re.sub(r"\\\{\w+\\\}", "*", re.sub(r"([\\*?\[\]{}!# ])", r"\\\1", path))


def _cases(seen: Recorded, parts: tuple[replay.Edit, ...], inputs: dict[str, str]) -> dict[str, Content]:
    recorded_case, elsewhere = "tests/recorded/", "tests/elsewhere/"
    changed = sorted(path for path, text in seen.after.items() if seen.before[path] != text)
    expect = {"status": "ok", "output": {"files": changed}, "changed": changed, "diff": "expected.diff"}
    files = {
        f"{recorded_case}workspace/{path}": Content(data=text.encode())
        for path, text in seen.before.items()
        if text is not None
    }
    files[f"{recorded_case}expected.diff"] = Content(data=patch(seen.before, seen.after).encode())
    files[f"{recorded_case}case.json"] = as_json({"inputs": inputs, "expect": expect})
    files[f"{elsewhere}workspace/{parts[0].path}"] = Content(data=b"A file of another project.\n")
    declined = {"status": "declined", "changed": []}
    files[f"{elsewhere}case.json"] = as_json({"inputs": inputs, "expect": declined})
    return files


def _notes(holes: tuple[replay.Slot, ...], phrases: list[str]) -> list[str]:
    if not holes:
        return ["No word of the goal stands in the change, so it has no holes: it makes this very change again."]
    shown = ", ".join(f"{slot.name} ({slot.value})" for slot in holes)
    notes = [f"Holes, from the goal's own words: {shown}. Rename them to what they mean."]
    if len(phrases) < 2:
        notes.append("The goal itself cannot be a phrase: add one to match.phrases.")
    return notes


def _refused(what: str, next_step: str) -> InvalidInput:
    return InvalidInput(f"invalid_input: {what}. Nothing was written.", next_step=next_step)
