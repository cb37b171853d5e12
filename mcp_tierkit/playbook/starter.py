"""New playbooks with every file filled in, which pass their own tests: from nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from mcp_tierkit.playbook.folder import Entry, Folder, digest
from mcp_tierkit.playbook.load import NAME, Playbook, load
from mcp_tierkit.types import Content, Record

TEMPLATES = Path(__file__).resolve().parent.parent / "data" / "starters"
SCRIPTS = {"python": "scripts/run.py", "uv": "scripts/run.py", "bash": "scripts/run.sh", "node": "scripts/run.mjs"}
_CALLS = {"python": "python3", "uv": "uv run --script", "bash": "bash", "node": "node"}


class Starter(Record):
    """A playbook that is not written yet: its files, and what its author should know of it."""

    name: str
    files: dict[str, Content]
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Folder:
        """The folder as it will be read once it is written."""
        entries = [Entry(path=path, mode=one.mode or 0o644, data=one.data) for path, one in self.files.items()]
        above = {"/".join(path.split("/")[:at]) + "/" for path in self.files for at in range(1, path.count("/") + 1)}
        entries += [Entry(path=path, mode=0o755) for path in above]
        return Folder(name=self.name, entries=tuple(sorted(entries, key=lambda entry: entry.path)))

    def noting(self, *notes: str) -> Starter:
        return self.model_copy(update={"notes": (*self.notes, *notes)})

    def loaded(self) -> Playbook:
        """As it would be loaded. Raises BadPlaybook."""
        return load(self.folder, digest(self.folder), origin="project")


def script_starter(name: str, runtime: str) -> Starter:
    """A greeting in that runtime, with two cases: what an author of a script changes into their own."""
    script = SCRIPTS[runtime]
    values = {
        "name": name, "words": name.replace("-", " "), "script": script, "runtime": runtime,
        "call": f"{_CALLS[runtime]} {script}",
    }  # fmt: skip
    return Starter(name=name, files=template("script", values) | template(runtime, values))


def skill_starter(name: str) -> Starter:
    """A recipe for a model: prose, outputs, and cases with recorded words."""
    return Starter(name=name, files=template("skill", {"name": name, "words": name.replace("-", " ")}))


_HOLE = re.compile(r"<<(\w+)>>")


def template(kind: str, values: Mapping[str, str]) -> dict[str, Content]:
    """The files of `data/starters/<kind>` with each `<<key>>` filled in."""
    root, found = TEMPLATES / kind, {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            # In one pass: what is filled in is not looked through again.
            text = _HOLE.sub(lambda hole: values.get(hole[1], hole[0]), path.read_text("utf-8"))
            found[path.relative_to(root).as_posix()] = Content(data=text.encode())
    return found


def as_json(value: object) -> Content:
    return Content(data=(json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def check_name(root: Path, name: str) -> None:
    """ValueError where `root/<name>` cannot become a playbook: not a name, taken, or a way elsewhere."""
    if len(name) > 64 or not NAME.fullmatch(name):
        raise ValueError(f"{name[:64]!a} is not a playbook's name: a-z, 0-9 and single hyphens, at most 64")
    if root.is_symlink() or (root / name).is_symlink() or (root / name).exists():
        raise ValueError(f"there is a playbooks/{name} already, or it leads elsewhere")


def write(starter: Starter, root: Path) -> tuple[str, ...]:
    """Write the folder below `root` and return its files. ValueError where the name cannot be used or is taken."""
    check_name(root, starter.name)
    folder = root / starter.name
    for path, content in starter.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.data)
        (folder / path).chmod(content.mode or 0o644)
    return tuple(f"playbooks/{starter.name}/{path}" for path in sorted(starter.files))
