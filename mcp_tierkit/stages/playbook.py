"""A playbook asked for by name or by a task's words: found, trusted, checked, run, applied, written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio

from mcp_tierkit.config import Config
from mcp_tierkit.errors import InvalidInput, NotFound, PathRefused, Untrusted
from mcp_tierkit.ledger import Ledger
from mcp_tierkit.playbook.apply import Ending, conclude
from mcp_tierkit.playbook.folder import Folder, FolderRefused, digest, read_folder
from mcp_tierkit.playbook.load import BadPlaybook, Found, Playbook, find, load, read_front_matter
from mcp_tierkit.playbook.match import PhraseBook
from mcp_tierkit.playbook.memo import Memo
from mcp_tierkit.playbook.result import tail
from mcp_tierkit.playbook.run import Bench, Outcome, refuse_unless_runnable, run
from mcp_tierkit.playbook.schema import invalid_input
from mcp_tierkit.playbook.trust import Approved, approved_digests, is_shipped, store_path
from mcp_tierkit.routing import Match
from mcp_tierkit.sandbox import probe
from mcp_tierkit.types import PlaybookOrigin, PlaybookRun, Record
from mcp_tierkit.workspace import Workspace

SHOWN = 25
LINE = 110
"""Characters of a description in the list an agent reads."""


class Entry(Record):
    """A playbook as `list` shows it. An untrusted one is a name and nothing more."""

    name: str
    origin: PlaybookOrigin
    trusted: bool
    hides: tuple[PlaybookOrigin, ...] | None = None
    inputs: tuple[str, ...] | None = None
    version: str | None = None
    kind: str | None = None
    read_only: bool | None = None
    description: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Shelf:
    """What is to be had: trusted playbooks, nearest first, one for each name; and names that are not trusted.

    A trusted one that cannot be loaded stands in `broken` and hides those behind it all the same: who trusted it meant
    that one, and another in its place would be a surprise. `places` are all trusted ones of a name, nearest first.
    `unsure` are those untrusted ones that need only change to be trusted.
    """

    playbooks: tuple[Playbook, ...] = ()
    untrusted: tuple[Found, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, tuple[Found, ...]] = field(default_factory=dict)
    unsure: tuple[Found, ...] = ()

    @cached_property
    def phrases(self) -> PhraseBook:
        return PhraseBook(self.playbooks)

    def hides(self, name: str) -> tuple[PlaybookOrigin, ...]:
        """Where trusted playbooks of that name lie behind the one that is used, nearest first."""
        return tuple(found.origin for found in self.places.get(name, ())[1:])

    def named(self, name: str) -> Playbook:
        """The playbook of that name. Raises NotFound or Untrusted, whose text begins with the code."""
        for playbook in self.playbooks:
            if playbook.name == name:
                return playbook
        if name in self.broken:
            raise NotFound(
                f"not_found: The playbook {name} cannot be loaded ({self.broken[name]}). Nothing was run.",
                next_step=f"Mend it (tierkit playbook lint {name}), or do the task another way.",
            )
        if any(found.name == name for found in self.untrusted):
            raise Untrusted(
                f"untrusted: The playbook {name} is not trusted as it is now. Nothing of it was read out or run.",
                next_step=f"Ask the user to look at it and run: tierkit playbook trust {name}",
            )
        raise NotFound(
            f"not_found: There is no playbook {name[:64]!a}. Nothing was run.",
            next_step="List those there are: run_playbook without a name, or tierkit playbook list.",
        )


@dataclass(frozen=True)
class Prepared:
    """A run that nothing refuses any more."""

    playbook: Playbook
    inputs: dict[str, Any]
    bench: Bench
    state_dir: Path
    hides: tuple[PlaybookOrigin, ...] = ()


def open_shelf(config: Config, *, name: str | None = None) -> Shelf:
    """Every playbook within reach, or those of one name. Reads and hashes folders; runs nothing."""
    playbooks: dict[str, Playbook] = {}
    places: dict[str, tuple[Found, ...]] = {}
    untrusted: list[Found] = []
    broken: dict[str, str] = {}
    approved = approved_digests(config.state_dir)
    for found in find(config.project, config.user_dir):
        if name is not None and found.name != name:
            continue
        folder = read_trusted(config, found, approved)
        if folder is None:
            untrusted.append(found)
            continue
        places[found.name] = (*places.get(found.name, ()), found)
        if places[found.name] == (found,):
            try:
                playbooks[found.name] = load(folder[0], folder[1], origin=found.origin)
            except BadPlaybook as error:
                broken[found.name] = str(error)
    unsure = tuple(found for found in untrusted if _is_known(config, found, approved))
    return Shelf(tuple(playbooks.values()), tuple(untrusted), broken, places, unsure)


def read_trusted(config: Config, found: Found, approved: Approved | None = None) -> tuple[Folder, str] | None:
    """The folder's bytes and their digest, where just these bytes are trusted; else None."""
    approved = approved_digests(config.state_dir) if approved is None else approved
    if not _is_known(config, found, approved):
        return None
    shipped = found.origin == "package"
    try:
        folder = read_folder(found.path, shipped=shipped)
    except FolderRefused:
        return None
    value = digest(folder, shipped=shipped)
    if shipped:
        return (folder, value) if is_shipped(found.name, value) else None
    return (folder, value) if approved[found.name, repository_of(config, found.origin)] == value else None


def _is_known(config: Config, found: Found, approved: Approved) -> bool:
    """Whether it could be trusted, told without a look into its folder: somebody else's may be of any size."""
    return found.origin == "package" or (found.name, repository_of(config, found.origin)) in approved


def repository_of(config: Config, origin: PlaybookOrigin) -> str | None:
    """What trust in a playbook of that origin is bound to."""
    return str(config.repository) if origin == "project" else None


def match_playbook(config: Config, task: str, memo: Memo[Shelf] | None = None) -> Match | None:
    """The trusted playbook that does this task, inputs filled in; None where none plainly does.

    With a memo the shelf is opened anew only where something has changed that matters to this task.
    """
    places, store = find(config.project, config.user_dir), store_path(config.state_dir)

    def watched() -> Iterator[Path]:
        yield store  # First, for it says which folders are read at all.
        approved = approved_digests(config.state_dir)
        yield from (found.path for found in places if _is_known(config, found, approved))

    def rests_on(shelf: Shelf) -> Iterator[Path]:
        yield store
        yield from (found.path for found in shelf.unsure)
        fitting = shelf.phrases.matches(task)
        for name, found in shelf.places.items():
            # One that hides none can, by changing, do no more than take its own phrases away.
            if len(found) > 1 or name in fitting:
                yield from (one.path for one in found)

    about = (places, config.state_dir, config.repository)
    shelf = (Memo[Shelf]() if memo is None else memo).get(about, watched, lambda: open_shelf(config), rests_on)
    return shelf.phrases.match(task)


def list_entries(config: Config) -> tuple[Entry, ...]:
    """Every playbook by name; the text of trusted ones only."""
    shelf = open_shelf(config)
    shown = [_entry(playbook, shelf) for playbook in shelf.playbooks]
    shown += [
        Entry(name=name, origin=shelf.places[name][0].origin, trusted=True, hides=shelf.hides(name), fault=fault)
        for name, fault in shelf.broken.items()
    ]
    shown += [Entry(name=found.name, origin=found.origin, trusted=False) for found in shelf.untrusted]
    return tuple(shown)


def list_reply(config: Config) -> dict[str, Any]:
    """The reply of `run_playbook` without a name: one line for each trusted playbook, at most 25, and names."""
    entries = list_entries(config)
    usable = [entry for entry in entries if entry.trusted and entry.fault is None]
    reply: dict[str, Any] = {
        "summary": f"{len(usable)} trusted playbooks.",
        "playbooks": [
            f"{entry.name}({', '.join(entry.inputs or ())}): {_first_sentence(entry.description or '')}"
            for entry in usable[:SHOWN]
        ],
    }
    if len(usable) > SHOWN:
        reply["more"] = len(usable) - SHOWN
    if untrusted := sorted({entry.name for entry in entries if not entry.trusted}):
        reply["untrusted"] = untrusted[:SHOWN]
    return reply | {"next": "Call run_playbook with a name and its inputs; those with ? may be left out."}


async def prepare(
    config: Config, workspace: Workspace, name: str, inputs: Mapping[str, Any], *, shelf: Shelf | None = None
) -> Prepared:
    """Everything that can be refused before the script starts. `shelf` is for who has just opened it.

    Raises NotFound, Untrusted, InvalidInput or PolicyRefused, each text begun by its code.
    """
    opened = await anyio.to_thread.run_sync(lambda: open_shelf(config, name=name)) if shelf is None else shelf
    playbook = opened.named(name)
    checked = check_inputs(playbook, inputs, workspace)
    bench = Bench(
        workspace=workspace,
        confinement=await probe(),
        allow_network=config.policy.allow_network_playbooks,
        readable=() if config.repository.is_relative_to(config.project) else (config.repository,),
        state_dir=config.state_dir,
        max_timeout_s=config.task_timeout_s,
    )
    await anyio.to_thread.run_sync(refuse_unless_runnable, playbook, bench)
    return Prepared(
        playbook=playbook, inputs=checked, bench=bench, state_dir=config.state_dir, hides=opened.hides(name)
    )


def check_inputs(playbook: Playbook, inputs: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """The inputs with defaults, each path known to stay in the project. Raises InvalidInput."""
    try:
        checked = playbook.inputs.check(dict(inputs))
    except ValueError as error:
        takes = playbook.inputs.signature or "nothing"
        refused = invalid_input(str(error))
        raise InvalidInput(refused.what, next_step=f"It takes {takes}.") from None
    for name, path in playbook.inputs.paths_in(checked):
        _check_path(name, path, workspace)
    return checked


async def execute(prepared: Prepared, ledger: Ledger, task_id: str, *, dry_run: bool = False) -> PlaybookRun:
    """Run what was prepared, apply its change unless `dry_run`, and save the one row."""
    playbook, bench = prepared.playbook, prepared.bench
    try:
        outcome = await run(playbook, prepared.inputs, bench)
        ending = await conclude(playbook, outcome, bench.workspace, prepared.state_dir, task_id, dry_run=dry_run)
    except anyio.get_cancelled_exc_class():
        # Shielded: a run that was cut short is a row too.
        with anyio.CancelScope(shield=True):
            cut = Outcome("cancelled", confined=bench.confinement.kind == "sandbox")
            await ledger.save(_row(prepared, cut, Ending(status="cancelled"), task_id, dry_run))
        raise
    row = _row(prepared, outcome, ending, task_id, dry_run)
    await ledger.save(row)
    return row


def row_of(playbook: Playbook, **told: Any) -> PlaybookRun:
    """A run as the ledger keeps it: what the playbook was, and what is `told` of this run."""
    contract = playbook.contract
    return PlaybookRun(
        playbook=playbook.name, version=contract.version, digest=playbook.digest, origin=playbook.origin,
        fallback=contract.fallback.on_failure, **told,
    )  # fmt: skip


def _row(prepared: Prepared, outcome: Outcome, ending: Ending, task_id: str, dry_run: bool) -> PlaybookRun:
    return row_of(
        prepared.playbook, task_id=task_id, dry_run=dry_run, hides=prepared.hides, status=ending.status,
        output=outcome.output if ending.status in ("ok", "failed") else None, changed=ending.changed, diff=ending.diff,
        log_tail=tail("\n".join(filter(None, (outcome.log_tail, ending.note)))),
        sandbox="sandbox" if outcome.confined else "none", ms=outcome.ms,
    )  # fmt: skip


def names_what_is_not_there(playbook: Playbook, inputs: Mapping[str, Any], workspace: Workspace) -> bool:
    """Whether a playbook that only reads is given a path where nothing is."""
    paths = playbook.inputs.paths_in(inputs)
    return playbook.contract.effects.read_only and not all(_is_there(workspace, path) for _, path in paths)


def _is_there(workspace: Workspace, path: str) -> bool:
    try:
        return path == "." or workspace.exists(path)
    except PathRefused:
        return _is_folder(workspace, path)


def _check_path(name: str, path: str, workspace: Workspace) -> None:
    if path == ".":
        return
    try:
        clean = workspace.clean(path)
        if workspace.denied(clean):
            raise invalid_input(f"{name}: is on the deny list")
        workspace.exists(clean)  # Refuses links and special files; what is not there yet may be made.
    except PathRefused as error:
        if not _is_folder(workspace, path):
            raise invalid_input(f"{name}: {_as_clause(error.what)}") from None


def _is_folder(workspace: Workspace, path: str) -> bool:
    """Whether the path is a folder that is reached without a link."""
    try:
        with workspace.folder(workspace.clean(path)):
            return True
    except (PathRefused, OSError):
        return False


def _as_clause(text: str) -> str:
    """The first sentence, as the end of another."""
    first = text.split(". ")[0]
    return first[:1].lower() + first[1:]


def _entry(playbook: Playbook, shelf: Shelf) -> Entry:
    contract = playbook.contract
    fields: dict[str, Any] = {
        "name": playbook.name, "origin": playbook.origin, "trusted": True, "version": contract.version,
        "hides": shelf.hides(playbook.name), "inputs": playbook.inputs.names,
        "kind": contract.kind, "read_only": contract.effects.read_only,
    }  # fmt: skip
    try:
        return Entry(**fields, description=read_front_matter(playbook.folder).description)
    except BadPlaybook as error:
        return Entry(**fields, fault=str(error))


def _first_sentence(text: str) -> str:
    first = " ".join(text.split()).split(". ")[0].rstrip(".")
    return first if len(first) <= LINE else f"{first[:LINE].rsplit(' ', 1)[0]}…"
