"""The floors of docs/architecture.md and the owners of heavy imports, read from the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mcp_tierkit"

FLOORS = {
    "ground": "__init__ types errors",
    "rules": (
        "config settings narrowing keys places prices price_map providers tokens prompts edits routing packing redact "
        "tiers served scope reply calls diffs usage failures receipts evidence cascade outline answers merge digests "
        "tables repeats pins estimates audit scorecard amounts worth refusals"
    ),
    "seams": (
        "gateway wire ledger workspace sandbox shapes _launch checks guards _witness journal playbook clients engines "
        "git demo_upstream transcripts cleanup"
    ),
    "work": "kit metering stages jobs desk checkup page",
    "doors": "server web cli demo entry __main__",
}
ORDER = tuple(FLOORS)
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}

OWNERS = {
    "litellm": {"gateway"},
    "sqlite_utils": {"ledger"},
    "psycopg": {"ledger"},
    "mcp": {"server", "demo"},  # The demo is a client of the server.
    "mcp_types": {"server"},
    "uvicorn": {"server"},
    "click": {"cli"},
    "rich": {"cli"},
    "tree_sitter": {"outline"},
}
# Each of these costs start-up time: imported inside the function that needs it.
LAZY = {
    "filelock", "httpx", "litellm", "openai", "pathspec", "sqlite_utils", "strictyaml", "tiktoken", "tomlkit",
    "tree_sitter", "unidiff", "uvicorn",
}  # fmt: skip
SHELL_CALLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "pty.spawn",
}  # fmt: skip


def files() -> list[Path]:
    """Our modules; what lies in `data` is a demo's project, not code of ours."""
    return sorted(file for file in PACKAGE.rglob("*.py") if room_of(file) != "data")


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor_of(file: Path) -> str:
    return FLOOR_OF.get(room_of(file), "doors")


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Every module named by an import, wherever it stands, calls of the import machinery with a text included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "mcp_tierkit":
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or ""
        elif isinstance(node, ast.Call) and _name(node.func).split(".")[-1] in ("import_module", "__import__"):
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            yield from ((node, text) for text in texts if isinstance(text, str))


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def shown(file: Path, node: ast.AST) -> str:
    return f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


# --- floors and owners


def test_every_room_stands_on_a_floor() -> None:
    rooms = {room_of(file) for file in files()}
    assert rooms - set(FLOOR_OF) == set(), "name the floor of a new room in FLOORS, and in docs/architecture.md"


def upward_imports(file: Path) -> Iterator[str]:
    own = ORDER.index(floor_of(file))
    for node, module in imports(tree_of(file)):
        top, _, rest = module.partition(".")
        floor = FLOOR_OF.get(rest.split(".")[0]) if top == "mcp_tierkit" else None
        if floor and ORDER.index(floor) > own:
            yield f"{shown(file, node)} imports {module}"


def test_no_file_imports_from_a_floor_above_its_own() -> None:
    assert [line for file in files() for line in upward_imports(file)] == []


def foreign_owners(file: Path) -> Iterator[str]:
    for node, module in imports(tree_of(file)):
        owners = OWNERS.get(module.split(".")[0])
        if owners and room_of(file) not in owners:
            yield f"{shown(file, node)} imports {module}"


def test_each_heavy_package_has_one_owner() -> None:
    assert [line for file in files() for line in foreign_owners(file)] == []


def test_imports_are_absolute() -> None:
    relative = [
        shown(file, node)
        for file in files()
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is loaded; what only a type checker reads is left out."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and _name(node.test).split(".")[-1] == "TYPE_CHECKING":
            yield from _at_import(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _at_import(getattr(node, field, []))


def eager_imports(file: Path) -> Iterator[str]:
    for node in _at_import(tree_of(file).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for _, module in imports(node):
                if module.split(".")[0] in LAZY:
                    yield f"{shown(file, node)} imports {module}"


# `wire` is itself loaded with the first model call only, since its classes need httpx as their base.
LOADED_LATE = {"wire", "demo_upstream", "demo"}


def test_slow_packages_are_imported_where_they_are_used() -> None:
    assert [line for file in files() if room_of(file) not in LOADED_LATE for line in eager_imports(file)] == []


def test_rooms_that_load_slow_packages_are_themselves_loaded_late() -> None:
    early = [
        f"{shown(file, node)} imports {module}"
        for file in files()
        for node in _at_import(tree_of(file).body)
        if isinstance(node, ast.Import | ast.ImportFrom) and room_of(file) not in LOADED_LATE
        for _, module in imports(node)
        if module.startswith("mcp_tierkit.") and module.split(".")[1] in LOADED_LATE
    ]
    assert early == []


def test_the_ground_needs_pydantic_and_the_standard_library_only() -> None:
    allowed = set(sys.stdlib_module_names) | {"pydantic", "mcp_tierkit"}
    found = {
        module.split(".")[0] for file in files() if floor_of(file) == "ground" for _, module in imports(tree_of(file))
    }
    assert found - allowed == set()


def test_rules_neither_wait_nor_reach_outside() -> None:
    outside = {"subprocess", "socket", "asyncio", "anyio", "httpx", "urllib.request", "http.client"}
    impure = []
    for file in files():
        if floor_of(file) == "rules":
            waits = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
            reaches = [node for node, module in imports(tree_of(file)) if {module, module.split(".")[0]} & outside]
            impure += [shown(file, node) for node in (*waits, *reaches)]
    assert impure == []


# --- no shell


def shell_uses(file: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call):
            opens_shell = any(
                word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value is False)
                for word in node.keywords
            )
            fills_text = isinstance(node.func, ast.Attribute) and node.func.attr == "format"
            if (opens_shell and not fills_text) or _name(node.func) in SHELL_CALLS:
                yield shown(file, node)
        elif isinstance(node, ast.ImportFrom):
            yield from (shown(file, node) for alias in node.names if f"{node.module}.{alias.name}" in SHELL_CALLS)


def test_no_command_is_ever_given_to_a_shell() -> None:
    ours = [
        file
        for folder in ("mcp_tierkit", "tests", "benchmarks", "playbooks")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if "workspace" not in file.parts
    ]
    assert [line for file in ours for line in shell_uses(file)] == []


# --- the checks themselves


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("def f():\n    from mcp_tierkit.server import build_server\n", "redact.py"),
        ("import importlib\nimportlib.import_module('mcp_tierkit.stages.draft')\n", "clients/x.py"),
        ("from mcp_tierkit import jobs\n", "types.py"),
    ],
)
def test_an_upward_import_is_seen(code: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert len(list(upward_imports(file))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess\nsubprocess.run('x', shell=True)\n",
        "import os\nos.system('x')\n",
        "from asyncio import create_subprocess_shell\n",
        "run('x', shell=flag)\n",
    ],
)
def test_a_shell_is_seen(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(code)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert len(list(shell_uses(file))) == 1


def test_owners_and_eager_imports_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "tiers.py"
    file.write_text("try:\n    import tiktoken\nexcept ImportError:\n    pass\ndef f():\n    import litellm.utils\n")
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert len(list(foreign_owners(file))) == 1
    assert len(list(eager_imports(file))) == 1


# --- what is really loaded


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_command_line_loads_neither_mcp_nor_litellm() -> None:
    loaded = loaded_after("import mcp_tierkit.cli")
    assert loaded & {"mcp", "mcp_types", "litellm", "pydantic", "anyio", "rich"} == set()


def test_the_entry_point_loads_nothing_before_stdout_is_secured() -> None:
    before = loaded_after("pass")
    assert loaded_after("import mcp_tierkit.entry") - before <= {"mcp_tierkit", "__future__"}


def test_the_server_loads_no_litellm_until_a_model_is_called() -> None:
    loaded = loaded_after("import mcp_tierkit.server")
    assert loaded & {"litellm", "openai", "httpx", "tiktoken", "sqlite_utils", "tomlkit"} == set()
