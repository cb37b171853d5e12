"""What is wrong with a playbook, read from its text alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mcp_tierkit.playbook.cases import Case, read_cases
from mcp_tierkit.playbook.folder import Entry, Folder
from mcp_tierkit.playbook.load import BadPlaybook, Playbook, load, read_front_matter
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.types import Record

MIN_CASES = 2

_LINK = re.compile(r"\[[^\]\n]*\]\(\s*<?([^)>\s]+)")
# Some agents run such a span when they load a skill's text.
_INLINE_SHELL = re.compile(r"!`[^`\n]*`|^```!", re.MULTILINE)

_NETWORK_MODULES = frozenset({
    "aiohttp", "ftplib", "http", "httplib2", "httpx", "imaplib", "paramiko", "poplib", "requests", "smtplib", "socket",
    "ssl", "telnetlib", "urllib3", "websockets", "xmlrpc",
})  # fmt: skip
_CHANGING_CALLS = frozenset({
    "os.chmod", "os.link", "os.makedirs", "os.mkdir", "os.remove", "os.removedirs", "os.rename", "os.replace",
    "os.rmdir", "os.symlink", "os.truncate", "os.unlink", "shutil.copy", "shutil.copy2", "shutil.copyfile",
    "shutil.copytree", "shutil.move", "shutil.rmtree",
})  # fmt: skip
_CHANGING_METHODS = frozenset({"write_text", "write_bytes", "unlink", "rmdir", "mkdir", "symlink_to", "hardlink_to"})
_SHELL_CALLS = frozenset({"os.system", "os.popen", "commands.getoutput", "subprocess.getoutput"})
_BASH = (
    ("network", re.compile(r"^\s*(?:[\w./=]*\s)?(curl|wget|nc|ncat|ssh|scp|rsync|telnet)\b", re.MULTILINE)),
    ("shell", re.compile(r"(?:^|[;&|])\s*(eval|source\s+/dev/stdin)\b", re.MULTILINE)),
    ("effects", re.compile(r"(?:^|[;&|])\s*(rm|mv|cp|mkdir|rmdir|ln|chmod|touch|truncate|sed\s+-i)\b", re.MULTILINE)),
)  # fmt: skip


class Finding(Record):
    """One fault: the file, the rule it breaks, and a sentence."""

    path: str
    rule: str
    text: str


def lint(folder: Folder) -> tuple[Finding, ...]:
    """Every finding, in file order; none means that the playbook may be shared. Nothing in it is run."""
    found = [*_skill(folder), *_secrets(folder)]
    try:
        playbook = load(folder, "sha256:", origin="project")
    except BadPlaybook as error:
        return (*found, _of_error(error, "contract"))
    found += [*_contract(playbook), *_cases(playbook), *_scripts(playbook)]
    return tuple(sorted(found, key=lambda one: (one.path, one.rule, one.text)))


def _skill(folder: Folder) -> Iterator[Finding]:
    try:
        prose = read_front_matter(folder).prose
    except BadPlaybook as error:
        yield _of_error(error, "skill")
        return
    if not prose:
        yield Finding(path="SKILL.md", rule="skill", text="has no prose for the agent")
    for span in _INLINE_SHELL.findall(prose):
        yield Finding(path="SKILL.md", rule="inline-shell", text=f"{span[:60]!a} would be run as the skill is loaded")
    names = {entry.path for entry in folder.entries} | {entry.path.rstrip("/") for entry in folder.entries}
    for target in _LINK.findall(prose):
        bare = target.split("#")[0].removeprefix("./")
        if bare and not re.match(r"(https?|mailto):", bare) and bare not in names:
            yield Finding(path="SKILL.md", rule="links", text=f"{target[:80]!a} leads to nothing in the folder")


def _secrets(folder: Folder) -> Iterator[Finding]:
    for entry in folder.files:
        for secret in find_secrets(entry.data.decode(errors="replace")):
            yield Finding(path=entry.path, rule="secrets", text=f"line {secret.line} looks like a {secret.rule}")


def _contract(playbook: Playbook) -> Iterator[Finding]:
    contract = playbook.contract
    required = {name for name, schema in playbook.inputs.properties.items() if "default" not in schema}
    for phrase in playbook.phrases:
        if missing := sorted(required - {slot for word in phrase.words for slot in word.slots}):
            text = f"the phrase {phrase.text!r} never matches: {missing[0]} has neither a slot nor a default"
            yield Finding(path="playbook.toml", rule="phrases", text=text)
    if not contract.effects.read_only and not contract.effects.writes and contract.kind == "script":
        yield Finding(path="playbook.toml", rule="effects", text="it may write, and writes names nothing that it may")
    yield from _patterns(playbook)
    if contract.run and contract.run.runtime == "uv" and playbook.folder.read(contract.run.script + ".lock") is None:
        yield Finding(path=contract.run.script, rule="lock", text="runtime uv needs a lock file beside the script")
    if contract.kind == "script" and not contract.outputs:
        yield Finding(path="playbook.toml", rule="contract", text="it has no outputs, so nothing can be checked")


def _patterns(playbook: Playbook) -> Iterator[Finding]:
    from pathspec import GitIgnoreSpec

    for pattern in (*playbook.contract.effects.reads, *playbook.contract.effects.writes):
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError:
            yield Finding(path="playbook.toml", rule="patterns", text=f"{pattern!a} is not a gitignore pattern")


def _cases(playbook: Playbook) -> Iterator[Finding]:
    if playbook.contract.kind != "script":
        return
    try:
        cases = read_cases(playbook)
    except BadPlaybook as error:
        yield _of_error(error, "tests")
        return
    if len(cases) < MIN_CASES or all(case.expect.status == "ok" for case in cases.values()):
        text = f"it has {len(cases)} cases; at least {MIN_CASES} are needed, one of them not ok"
        yield Finding(path="tests/", rule="tests", text=text)
    for name, case in cases.items():
        yield from _case(playbook, f"tests/{name}/", case)


def _case(playbook: Playbook, above: str, case: Case) -> Iterator[Finding]:
    if case.expect.status != "invalid_input":
        try:
            playbook.inputs.check(case.inputs)
        except ValueError as error:
            yield Finding(path=above + "case.json", rule="tests", text=f"its inputs do not fit: {error}")
    for key in sorted({*case.expect.output, *case.expect.contains} - playbook.outputs.properties.keys()):
        yield Finding(path=above + "case.json", rule="tests", text=f"{key!a} is no output")
    for name in (*case.setup.sqlite.values(), *filter(None, [case.expect.diff])):
        if playbook.folder.read(above + name) is None:
            yield Finding(path=above + "case.json", rule="tests", text=f"{name!a} does not exist")


def _scripts(playbook: Playbook) -> Iterator[Finding]:
    """The declared effects against what the code plainly does. A reader's hint, not a proof."""
    for entry in playbook.folder.files:
        if not entry.path.startswith("scripts/"):
            continue
        named = dict(_in_python(entry) if entry.path.endswith(".py") else _in_bash(entry))
        effects = playbook.contract.effects
        if "network" in named and not effects.network:
            text = f"{named['network']} reaches for the network, which effects.network denies"
            yield Finding(path=entry.path, rule="effects", text=text)
        if "effects" in named and effects.read_only:
            text = f"{named['effects']} changes files, and effects.read_only says that nothing does"
            yield Finding(path=entry.path, rule="effects", text=text)
        for rule in ("shell", "syntax"):
            if rule in named:
                yield Finding(path=entry.path, rule=rule, text=named[rule])


def _in_python(entry: Entry) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(entry.data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield "syntax", f"it is not Python: {str(error)[:100]}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node)
        elif isinstance(node, ast.Call):
            yield from _call(node)


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for name in names:
        if name.split(".")[0] in _NETWORK_MODULES or name.startswith("urllib.request"):
            yield "network", f"import {name}"


def _call(node: ast.Call) -> Iterator[tuple[str, str]]:
    name = ast.unparse(node.func)
    if name in _SHELL_CALLS or any(word.arg == "shell" and not _is_false(word.value) for word in node.keywords):
        yield "shell", f"{name[:60]} gives text to a shell"
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name in _CHANGING_CALLS or method in _CHANGING_METHODS:
        yield "effects", name[:60]


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def _in_bash(entry: Entry) -> Iterator[tuple[str, str]]:
    if not entry.path.endswith((".sh", ".bash")):
        return
    code = re.sub(r"(?m)^\s*#.*$", "", entry.data.decode(errors="replace"))
    for rule, pattern in _BASH:
        if found := pattern.search(code):
            yield rule, f"{found[1]} runs text as a command" if rule == "shell" else found[1]


def _of_error(error: BadPlaybook, rule: str) -> Finding:
    path, _, text = str(error).partition(": ")
    return Finding(path=path, rule=rule, text=text)
