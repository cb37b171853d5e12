"""Writes what the docs take from the code: help texts, settings, tools, rooms, clients. Run it after changing any.

`python scripts/write_docs.py` rewrites the marked blocks of docs/*.md, `--check` only says whether they are what would
be written, and `--examples` plays the demo and puts its replies in place of the examples.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import anyio
import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from meanings import CONTRACT, MEANINGS  # noqa: E402

from mcp_tierkit import narrowing  # noqa: E402
from mcp_tierkit.calls import OutcomeCall, TaskCall  # noqa: E402
from mcp_tierkit.checkup import IDLE  # noqa: E402
from mcp_tierkit.cli import COMMANDS, main  # noqa: E402
from mcp_tierkit.clients import Client, clients, entry_of, snippet  # noqa: E402
from mcp_tierkit.clients.launch import Launch  # noqa: E402
from mcp_tierkit.config import _OTHER_VARIABLES, _settable, load_config  # noqa: E402
from mcp_tierkit.demo import Scene, run_demo  # noqa: E402
from mcp_tierkit.desk import open_desk  # noqa: E402
from mcp_tierkit.kit import open_kit  # noqa: E402
from mcp_tierkit.playbook.folder import read_folder  # noqa: E402
from mcp_tierkit.playbook.load import Contract, builtin_root, read_contract, read_front_matter  # noqa: E402
from mcp_tierkit.providers import known  # noqa: E402
from mcp_tierkit.redact import deny_patterns  # noqa: E402
from mcp_tierkit.settings import Settings, TierConfig, TierPrice, check_settings  # noqa: E402
from mcp_tierkit.tables import packaged  # noqa: E402
from mcp_tierkit.types import Record  # noqa: E402
from tests.test_layers import FLOORS, PACKAGE, room_of  # noqa: E402

DOCS = ROOT / "docs"
BLOCK = re.compile(r"(<!-- generated: ([a-z -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
EXAMPLE = re.compile(r"(<!-- example: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
WIDTH = 96

VARIABLES = {
    "TIERKIT_PROJECT": "The project's folder. `--project` comes first, `CLAUDE_PROJECT_DIR` after it.",
    "TIERKIT_CONFIG": "Your `tierkit.toml`, or the folder that holds it; `keys.env` and `playbooks/` lie beside it.",
    "TIERKIT_STATE_DIR": "Folder of the ledger, the undo records, the trust store and the HTTP token.",
    "TIERKIT_LEDGER": "The ledger: a path, or `sqlite:///` and an absolute path.",
    "TIERKIT_NO_SANDBOX": "`1`: behave as if there were no sandbox.",
}


# --- settings -------------------------------------------------------------------------------------


def settings_keys() -> Iterator[tuple[str, type[Record]]]:
    """Every key of a tierkit.toml, `tiers.*` standing for each of the three, with the record it belongs to."""
    yield from (("caller." + name, _record("caller")) for name in _record("caller").model_fields)
    yield "tiers.drop", _record("tiers")
    yield from (("tiers.*." + name, TierConfig) for name in TierConfig.model_fields if name != "price")
    yield from (("tiers.*.price." + name, TierPrice) for name in TierPrice.model_fields)
    for table in ("stages", "budget", "checks", "policy"):
        yield from ((f"{table}.{name}", _record(table)) for name in _record(table).model_fields)
    yield "log_text", Settings


def _record(table: str) -> type[Record]:
    found = Settings.model_fields[table].annotation
    assert isinstance(found, type)
    assert issubclass(found, Record)
    return found


def settings() -> str:
    rows = [
        (f"`{key}`", _default(key, record), _narrowed(key), _meaning(key, record)) for key, record in settings_keys()
    ]
    return table(("key", "default", "in the project's file", "meaning"), rows)


def _meaning(key: str, record: type[Record]) -> str:
    annotation = record.model_fields[key.rpartition(".")[2]].annotation
    values = _values(annotation)
    one = "Each one" if get_origin(annotation) is tuple else "One"
    choice = f" {one} of {', '.join(f'`{value}`' for value in values)}." if values else ""
    idle = " *Read, and without effect in this version.*" if key in IDLE else ""
    return MEANINGS[key] + choice + idle


def _values(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(str(value) for value in get_args(annotation))
    return next((values for part in get_args(annotation) if (values := _values(part))), ())


def _default(key: str, record: type[Record]) -> str:
    table_name, _, name = key.rpartition(".")
    defaults = check_settings({k: v for k, v in packaged("defaults").items() if k != "limits"}, "defaults")
    if table_name in Settings.model_fields:
        value = getattr(getattr(defaults, table_name), name)
    else:
        field = record.model_fields[name]
        value = "required" if field.is_required() else field.default
    if value == "required":
        return "required"
    if value in (None, ()):
        return "none"
    if name.endswith("_usd"):
        return f'`"{value / 1e9:.2f}"`'
    return f"`{json.dumps(value)}`"


def _narrowed(key: str) -> str:
    path = tuple(key.split("."))
    if narrowing._narrows(path, True):
        return "narrower only"
    if narrowing._narrows(path, False):
        return "`false` only"
    return "`refuse` only" if narrowing._narrows(path, "refuse") else "no"


def variables() -> str:
    rows = [(f"`{name}`", VARIABLES[name]) for name in _OTHER_VARIABLES]
    rows += [(f"`TIERKIT_{key.replace('.', '_').upper()}`", f"`{key}`") for key in _settable()]
    return table(("variable", "sets"), rows)


def keys() -> str:
    rows = [(row.name, ", ".join(f"`{key}`" for key in row.keys), *_picks(row.tiers)) for row in known().provider]
    return table(("provider", "key", "cheap", "mid", "strong"), rows)


def _picks(tiers: dict[Any, str]) -> tuple[str, str, str]:
    cheap, mid, strong = (f"`{tiers[name]}`" if name in tiers else "-" for name in ("cheap", "mid", "strong"))
    return cheap, mid, strong


def engines() -> str:
    return table(("engine", "port"), [(row.name, str(row.port)) for row in known().engine])


# --- commands and tools ---------------------------------------------------------------------------


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and sub-command by its whole name."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", sub) for inner, sub in sorted(command.commands.items()))


def commands() -> str:
    return "\n".join(f"## tierkit {name}\n\n```text\n{_help(name, command)}\n```\n" for name, command in all_commands())


def _help(name: str, command: click.Command) -> str:
    fresh = copy.copy(command)
    fresh._help_option = None  # click keeps the one it made first, whatever the names in force then.
    above = click.Context(main, info_name="tierkit", terminal_width=WIDTH, max_content_width=WIDTH)
    above.help_option_names = main.context_settings["help_option_names"]
    return fresh.get_help(click.Context(fresh, info_name=name, parent=above))


def tool(name: str) -> str:
    entry = next(entry for entry in _contract()["tools"] if entry["name"] == name)
    schema = entry["inputSchema"]
    rows = [
        (f"`{field}`", _type(rules), "yes" if field in schema.get("required", ()) else "", rules.get("description", ""))
        for field, rules in schema["properties"].items()
    ]
    hints = ", ".join(f"`{hint}`" for hint, value in entry["annotations"].items() if value) or "none"
    shown = table(("input", "type", "required", "meaning"), rows)
    return f"> {entry['description']}\n\n{shown}\nAnnotations that are true: {hints}.\n"


def _type(rules: dict[str, Any]) -> str:
    if "enum" in rules:
        return ", ".join(f"`{value}`" for value in rules["enum"])
    if rules["type"] != "array":
        return str(rules["type"])
    inner = rules["items"]["type"]
    return f"list of {' or '.join(inner) if isinstance(inner, list) else inner}"


def instructions() -> str:
    return f"> {_contract()['instructions']}\n"


def _contract() -> dict[str, Any]:
    return json.loads((PACKAGE / "data" / "tools.json").read_text("utf8"))


# --- rooms, clients, rules ------------------------------------------------------------------------


def rooms() -> str:
    """Each floor's rooms with the first sentence of their own docstrings."""
    heads = {room_of(file): file for file in (*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__init__.py"))}
    parts = []
    for floor, names in reversed(FLOORS.items()):
        rows = [(f"`{name}`", _first_sentence(heads[name])) for name in names.split()]
        parts.append(f"### {floor.capitalize()}\n\n{table(('room', 'what it is for'), rows)}")
    return "\n".join(parts)


def _first_sentence(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text("utf8"))) or ""
    return text.split("\n")[0].replace("|", "\\|")


def client(name: str) -> str:
    """The entry as a user of that client sees it."""
    row = clients()[name]
    args = ("serve", "--project", "/path/to/project")
    launch = Launch(command="/path/to/bin/mcp-tierkit", args=args, keys=("OPENROUTER_API_KEY",))
    entry = entry_of(row, launch, {"PATH": "/usr/local/bin:/usr/bin:/bin"})
    text = snippet(row, {key: value for key, value in entry.items() if value != {}}).strip()
    kind = "toml" if row.format == "toml" else "json"
    return f"{_place(row)}\n\n```{kind}\n{text}\n```\n\n{row.then}\n"


def _place(row: Client) -> str:
    places = {"project": "PROJECT", "home": "~", "config": "CONFIG", "codex_home": "~/.codex"}
    file = row.file.format_map(places)
    how = "prints this entry" if row.format == "snippet" else "writes this entry"
    return f"`tierkit init --client {row.name}` {how}. File: {f'`{file}`' if '/' in file else file}."


def waits() -> str:
    import tomllib

    data = tomllib.loads((PACKAGE / "data" / "waits.toml").read_text("utf8"))
    rows = [(f"`{name}`", f"{row['wait_s']} s", row["source"]) for name, row in data["clients"].items()]
    rows.append(("any other", f"{data['default']} s", "Under the shortest limit seen."))
    return table(("client", "waits", "why"), rows)


def deny() -> str:
    return ", ".join(f"`{pattern}`" for pattern in deny_patterns()) + "\n"


def secrets() -> str:
    return ", ".join(f"`{rule['name']}`" for rule in packaged("secrets")["rules"]) + "\n"


def guarded() -> str:
    rules = packaged("guarded")["rule"]
    rows = [(row["reason"], "always" if row.get("always") else "unless the task is to write tests") for row in rules]
    return table(("what a draft may not write", "when"), rows)


def contract() -> str:
    """Every key of a playbook.toml with its default and its meaning."""
    rows = [(f"`{key}`", value, CONTRACT[key]) for key, value in contract_keys()]
    return table(("key", "default", "meaning"), rows)


def contract_keys() -> Iterator[tuple[str, str]]:
    for name, field in Contract.model_fields.items():
        inner = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_record(kind)), None)
        if inner is None:
            yield field.alias or name, _plain_default(field)
            continue
        yield from ((f"{name}.{key}", _plain_default(part)) for key, part in inner.model_fields.items())


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Record)


def _plain_default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value)}`" if value not in (None, (), {}) else "none"


def shipped() -> str:
    """The playbooks in the package: what each does, and whether it changes files or asks a model."""
    rows = []
    for path in sorted(builtin_root().iterdir()):
        folder = read_folder(path, shipped=True)
        contract = read_contract(folder)
        does = read_front_matter(folder).description.split(". ")[0].rstrip(".")
        effect = (
            "one call of a model" if contract.kind == "skill" else "" if contract.effects.read_only else "changes files"
        )
        rows.append((f"`{path.name}`", does, effect))
    return table(("name", "what it does", ""), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


# --- pages ----------------------------------------------------------------------------------------


BLOCKS: dict[str, Callable[[], str]] = {
    "settings": settings, "variables": variables, "keys": keys, "engines": engines, "commands": commands,
    "instructions": instructions, "rooms": rooms, "waits": waits, "deny": deny, "secrets": secrets, "guarded": guarded,
    "contract": contract, "shipped": shipped,
}  # fmt: skip


def block(name: str) -> str:
    kind, _, rest = name.partition(" ")
    return {"tool": tool, "client": client}[kind](rest) if rest else BLOCKS[name]()


def rendered(page: str) -> str:
    """The page with each generated block as the code makes it now."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{block(_name(found[2])).strip()}\n\n{found[4]}", page)


def _name(text: str) -> str:
    kind, _, rest = text.partition(" ")
    return f"{kind} {rest.replace(' ', '_')}" if kind == "tool" else text


def pages() -> list[Path]:
    return sorted(DOCS.glob("*.md"))


def examples() -> dict[str, dict[str, Any]]:
    """The reply of each tool, as the demo's project gave it."""
    told: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scene = run_demo(Path(folder).resolve(), told.__setitem__)
        told |= anyio.run(_ask_about, scene, told["draft_with_cheap_model"]["task_id"])
    python = re.escape(json.dumps(sys.executable)[1:-1])
    return {name: json.loads(re.sub(python, "python", json.dumps(reply))) for name, reply in told.items()}


async def _ask_about(scene: Scene, task_id: str) -> dict[str, dict[str, Any]]:
    """What the two small tools say of the demo's draft."""
    config = load_config(project=str(scene.project), env=scene.env(False))
    async with open_desk(open_kit(config)) as desk:
        collected = await desk.get_task(TaskCall(task_id=task_id))
        score = OutcomeCall(task_id=task_id, outcome="accepted", cleanup_minutes=2, defects=0)
        return {"get_task": collected, "record_outcome": await desk.record_outcome(score)}


def with_examples(page: str, told: dict[str, dict[str, Any]]) -> str:
    def put(found: re.Match[str]) -> str:
        return f"{found[1]}\n```json\n{json.dumps(told[found[2]], indent=2, ensure_ascii=False)}\n```\n\n{found[4]}"

    return EXAMPLE.sub(put, page)


def run(arguments: list[str]) -> int:
    told = examples() if "--examples" in arguments else None
    stale = []
    for page in pages():
        before = page.read_text("utf8")
        after = rendered(before) if told is None else with_examples(rendered(before), told)
        if after != before:
            stale.append(page.name)
            if "--check" not in arguments:
                page.write_text(after, "utf8")
    print(f"{'stale' if '--check' in arguments else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
