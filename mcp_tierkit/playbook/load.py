"""Playbooks found by name and read as text. Nothing in one is run, imported or rendered here."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

import mcp_tierkit
from mcp_tierkit.playbook.faults import explain, line_of
from mcp_tierkit.playbook.folder import Folder
from mcp_tierkit.playbook.match import BadPhrase, Phrase, read_phrase
from mcp_tierkit.playbook.schema import BadSchema, Fields, strict_json
from mcp_tierkit.repeats import MAX_PHRASE
from mcp_tierkit.types import PlaybookOrigin, Record, TierName

MAX_CONTRACT = 256 * 1024
MAX_PROSE = 256 * 1024
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FRONT_MATTER = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})

_FORBIDDEN_ENV = re.compile(
    r"GIT|GIT_.*|PATH|HOME|LANG|LC_ALL|PLAYBOOK_RESULT|IFS|ENV|CDPATH|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|TMPDIR|EDITOR|PAGER"
    r"|(LD|DYLD|PYTHON|NODE|NPM|BASH|PERL|RUBY|JAVA|JDK|SSH|GPG|DBUS|AWS|AZURE|GOOGLE|GCP|TIERKIT|DOCKER|KUBE).*"
    r"|.*(KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH|COOKIE|SESSION|PRIVATE|SIGNATURE|CERT|PROXY|DSN|_URL|_URI).*",
    re.IGNORECASE,
)


class BadPlaybook(ValueError):
    """The folder does not hold a playbook of this format: the file, the line where it is known, and why."""

    def __init__(self, path: str, told: str, line: int | None = None) -> None:
        super().__init__(f"{path}: {told}" if line is None else f"{path}: line {line}: {told}")
        self.path, self.told, self.line = path, told, line


class Found(Record):
    """A folder where a playbook may be: a name, and nothing read from it."""

    name: str
    origin: PlaybookOrigin
    path: Path


class MatchRules(Record):
    phrases: tuple[Annotated[str, Field(max_length=MAX_PHRASE)], ...] = Field(default=(), max_length=20)


class RunRules(Record):
    script: str = Field(pattern=r"^scripts/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")
    runtime: Literal["python", "uv", "bash", "node"]
    timeout_s: int = Field(default=60, ge=1, le=900)
    cwd: Literal["project", "scratch"] = "project"
    env: tuple[str, ...] = Field(default=(), max_length=32)
    max_output_kb: int = Field(default=256, ge=1, le=4096)

    @model_validator(mode="after")
    def _no_credentials(self) -> RunRules:
        for name in self.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) or _FORBIDDEN_ENV.fullmatch(name):
                raise ValueError(f"env may not pass on {name[:64]!r}")
        return self


class Effects(Record):
    read_only: bool
    destructive: bool = True
    idempotent: bool = False
    network: bool = False
    reads: tuple[str, ...] = Field(default=(), max_length=100)
    writes: tuple[str, ...] = Field(default=(), max_length=100)

    @property
    def may_destroy(self) -> bool:
        """Whether it may delete or overwrite. `destructive` says nothing of one that changes nothing anywhere."""
        return self.destructive and (self.network or not self.read_only)

    @model_validator(mode="after")
    def _writes_agree(self) -> Effects:
        if self.read_only and self.writes:
            raise ValueError("read_only and writes contradict one another")
        for pattern in (*self.reads, *self.writes):
            if not pattern.strip() or not pattern.isprintable() or ".." in pattern.split("/"):
                raise ValueError(f"{pattern[:80]!a} is not a usable pattern")
        return self


class Fallback(Record):
    on_failure: Literal["model", "error"] = "model"


class ModelRules(Record):
    tier: TierName = "cheap"
    max_output_tokens: int = Field(default=2000, ge=1, le=100_000)


class DecisionRules(Record):
    key: tuple[str, ...] = Field(min_length=1)
    normalise: tuple[Literal["casefold", "squash-space"], ...] = ()
    min_agree: int = Field(default=59, ge=1)
    ttl_days: int = Field(default=90, ge=1)


class Contract(Record):
    """`playbook.toml`, every key of it. Unknown keys are errors."""

    schema_version: Literal[1] = Field(alias="schema")
    kind: Literal["script", "skill", "decision"]
    version: str = Field(pattern=r"^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$")
    match: MatchRules = MatchRules()
    run: RunRules | None = None
    effects: Effects
    fallback: Fallback = Fallback()
    model: ModelRules | None = None
    decision: DecisionRules | None = None
    inputs: dict[str, dict[str, Any]] = Field(default_factory=dict, max_length=40)
    outputs: dict[str, dict[str, Any]] = Field(default_factory=dict, max_length=40)

    @model_validator(mode="after")
    def _kind_agrees(self) -> Contract:
        belongs = {"script": self.run, "skill": self.model, "decision": self.decision}
        for kind, part in belongs.items():
            if kind != self.kind and part is not None:
                raise ValueError(f"kind {self.kind!r} has no {'run' if kind == 'script' else kind} table")
        if belongs[self.kind] is None and self.kind != "skill":
            raise ValueError(f"kind {self.kind!r} needs a {'run' if self.kind == 'script' else self.kind} table")
        if self.kind == "skill" and not self.effects.read_only:
            raise ValueError("a skill changes nothing, so effects.read_only must be true")
        if self.decision and (unknown := [name for name in self.decision.key if name not in self.inputs]):
            raise ValueError(f"decision.key names {unknown[0]!r}, which is not an input")
        return self


@dataclass(frozen=True)
class Playbook:
    """One playbook as it was read, with its schemas and phrases ready for use."""

    name: str
    origin: PlaybookOrigin
    digest: str
    contract: Contract
    folder: Folder
    inputs: Fields
    outputs: Fields
    phrases: tuple[Phrase, ...]

    @property
    def rules(self) -> RunRules:
        """How its script is run. For those that have one."""
        assert self.contract.run is not None
        return self.contract.run


class FrontMatter(Record):
    """The standard keys of an Agent Skill, and the prose behind them."""

    name: str
    description: str = Field(min_length=1, max_length=1024)
    license: str | None = None
    compatibility: str | None = Field(default=None, max_length=500)
    metadata: dict[str, str] = Field(default_factory=dict)
    allowed_tools: str | None = Field(default=None, alias="allowed-tools")
    prose: str = ""


def builtin_root() -> Path:
    """Where the shipped playbooks lie: inside the wheel, or beside the package in a checkout."""
    package = Path(mcp_tierkit.__file__).resolve().parent
    packaged = package / "_playbooks"
    return packaged if packaged.is_dir() else package.parent / "playbooks"


def find(project: Path, user_dir: Path, *, package: Path | None = None) -> tuple[Found, ...]:
    """Every folder that may be a playbook, nearest first: the project's, the user's, the package's.

    Names alone are read. A name may occur once for each origin; who is trusted decides between them.
    """
    shipped = builtin_root() if package is None else package
    nearer: list[tuple[PlaybookOrigin, Path]] = [("project", project / "playbooks"), ("user", user_dir / "playbooks")]
    roots = [(origin, root) for origin, root in nearer if os.path.realpath(root) != os.path.realpath(shipped)]
    roots.append(("package", shipped))
    return tuple(found for origin, root in roots for found in _names(origin, root))


def load(folder: Folder, digest: str, *, origin: PlaybookOrigin) -> Playbook:
    """The playbook that the folder holds. Raises BadPlaybook for anything the format does not allow."""
    contract = read_contract(folder)
    if contract.run and folder.read(contract.run.script) is None:
        raise BadPlaybook("playbook.toml", f"{contract.run.script} does not exist", _line(folder, ["run", "script"]))
    inputs, outputs = _fields(folder, "inputs", contract.inputs), _fields(folder, "outputs", contract.outputs)
    if outputs.holds_quotes and not (contract.kind == "skill" and inputs.paths):
        told = "outputs: a quote wants a skill with an input of the format project-path"
        raise BadPlaybook("playbook.toml", told, _line(folder, ["outputs"]))
    phrases = _phrases(folder, contract, inputs)
    return Playbook(folder.name, origin, digest, contract, folder, inputs, outputs, phrases)


def read_contract(folder: Folder) -> Contract:
    """`playbook.toml` as a record; BadPlaybook names the key and the rule it breaks."""
    text = _text(folder, "playbook.toml", MAX_CONTRACT)
    try:
        # By way of JSON, so that dates and infinities are refused and types are taken strictly.
        return Contract.model_validate_json(json.dumps(tomllib.loads(text), allow_nan=False), strict=True)
    except RecursionError:
        raise BadPlaybook("playbook.toml", "is nested too deeply") from None
    except ValidationError as error:
        raise BadPlaybook("playbook.toml", *explain(error, text, Contract)) from None
    except (ValueError, TypeError) as error:
        raise _of_toml(error) from None


def read_front_matter(folder: Folder) -> FrontMatter:
    """The head of `SKILL.md`; BadPlaybook where it is not what an Agent Skill may have."""
    text = _text(folder, "SKILL.md", MAX_PROSE)
    parts = re.split(r"^---[ \t]*$", text, maxsplit=2, flags=re.MULTILINE)
    if len(parts) != 3 or parts[0]:
        raise BadPlaybook("SKILL.md", "must begin with front matter between two lines of ---", 1)
    head = _yaml(parts[1])
    if unknown := sorted(head.keys() - FRONT_MATTER):
        known = ", ".join(sorted(FRONT_MATTER))
        told = f"{unknown[0]!a} is not a standard key ({known})"
        raise BadPlaybook("SKILL.md", told, line_of(text, unknown[:1]))
    try:
        skill = FrontMatter.model_validate({**head, "prose": parts[2].strip()})
    except ValidationError as error:
        raise BadPlaybook("SKILL.md", *explain(error, parts[1], FrontMatter)) from None
    if skill.name != folder.name:
        told = f"name must be the folder's name, {folder.name}"
        raise BadPlaybook("SKILL.md", told, line_of(text, ["name"]))
    return skill


def read_case(path: str, data: bytes) -> dict[str, Any]:
    """The `case.json` at `path` as an object; BadPlaybook where it is none."""
    try:
        case = strict_json(data) if len(data) <= MAX_CONTRACT else None
    except ValueError as error:
        raise BadPlaybook(path, str(error)[:200], getattr(error, "lineno", None)) from None
    if not isinstance(case, dict):
        raise BadPlaybook(path, "must be an object of at most 256 KB")
    return case


def _fields(folder: Folder, table: str, properties: dict[str, dict[str, Any]]) -> Fields:
    try:
        return Fields(properties, outputs=table == "outputs")
    except BadSchema as error:
        # Its text begins with the dotted name of the field.
        where = str(error).replace(":", " ").split(" ")[0].split(".")
        raise BadPlaybook("playbook.toml", str(error), _line(folder, [table, *where])) from None


def _phrases(folder: Folder, contract: Contract, inputs: Fields) -> tuple[Phrase, ...]:
    """Those of the contract; and its own name after `run`, where that alone says all that is needed."""
    own = () if any("default" not in schema for schema in inputs.properties.values()) else (f"run {folder.name}",)
    try:
        return tuple(read_phrase(text, inputs) for text in (*contract.match.phrases, *own))
    except BadPhrase as error:
        raise BadPlaybook("playbook.toml", str(error), _line(folder, ["match", "phrases"])) from None


def _line(folder: Folder, path: list[str]) -> int | None:
    return line_of((folder.read("playbook.toml") or b"").decode(), path)


def _of_toml(error: Exception) -> BadPlaybook:
    """tomllib's words without the place, which it names at their end."""
    found = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
    if found is None:
        return BadPlaybook("playbook.toml", str(error)[:200])
    told = f"{str(error)[: found.start()][:180]} (column {found[2]})"
    return BadPlaybook("playbook.toml", told, int(found[1]))


def _yaml(text: str) -> dict[str, Any]:
    import strictyaml

    try:
        head = strictyaml.load(text).data
    except (strictyaml.YAMLError, RecursionError, ValueError, AttributeError) as error:
        # AttributeError: strictyaml stumbles over its own report of a forbidden character.
        mark = getattr(error, "problem_mark", None)
        told, line = "the front matter is not plain YAML of names and texts", mark.line + 1 if mark else None
        raise BadPlaybook("SKILL.md", told, line) from None
    if not isinstance(head, dict):
        raise BadPlaybook("SKILL.md", "the front matter must be a mapping", 1)
    return head


def _text(folder: Folder, path: str, limit: int) -> str:
    data = folder.read(path)
    if data is None:
        raise BadPlaybook(path, "does not exist")
    if len(data) > limit:
        raise BadPlaybook(path, f"is larger than {limit // 1024} KB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadPlaybook(path, "is not UTF-8 text") from None


def _names(origin: PlaybookOrigin, root: Path) -> Iterator[Found]:
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        names = sorted(os.listdir(fd))
    finally:
        os.close(fd)
    for name in names:
        if len(name) <= 64 and NAME.fullmatch(name):
            yield Found(name=name, origin=origin, path=root / name)
