"""What a script plainly does, read from its text: a reader's hint, not a proof. The sandbox is the proof."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from mcp_tierkit.playbook.folder import Entry

Deed = Literal["network", "change", "shell", "syntax"]


class Seen(NamedTuple):
    """One deed: its kind, its line, and the words that show it."""

    deed: Deed
    line: int
    words: str


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

_BASH: tuple[tuple[Deed, re.Pattern[str]], ...] = (
    ("network", re.compile(r"^\s*(?:[\w./=]*\s)?(curl|wget|nc|ncat|ssh|scp|rsync|telnet)\b")),
    ("shell", re.compile(r"(?:^|[;&|])\s*(eval|source\s+/dev/stdin)\b")),
    ("change", re.compile(r"(?:^|[;&|])\s*(rm|mv|cp|mkdir|rmdir|ln|chmod|touch|truncate|sed\s+-i)\b")),
)
_NODE: tuple[tuple[Deed, re.Pattern[str]], ...] = (
    ("network", re.compile(r"""\b(?:from|require|import)\b[\s(]*["'](?:node:)?(https?|net|dgram|tls|http2)["']""")),
    ("network", re.compile(r"(?<![\w.])(fetch)\s*\(")),
    ("shell", re.compile(r"(?<![\w.])(execSync|exec|eval)\s*\(")),
    ("change", re.compile(r"\b((?:write|append|copy)File(?:Sync)?)\s*\(")),
    ("change", re.compile(r"\b((?:unlink|rename|mkdir|rmdir|rm|chmod|symlink)Sync)\s*\(")),
)


def deeds(entry: Entry) -> Iterator[Seen]:
    """What the file plainly does, in no order; nothing for a language that is not known.

    Writing the result, on a line that names PLAYBOOK_RESULT, is no deed.
    """
    lines = entry.data.split(b"\n")
    for seen in _deeds(entry):
        if seen.deed != "change" or b"PLAYBOOK_RESULT" not in lines[seen.line - 1]:
            yield seen


def _deeds(entry: Entry) -> Iterator[Seen]:
    suffix = entry.path.rpartition(".")[2]
    if suffix == "py":
        yield from _in_python(entry.data)
    elif suffix in ("sh", "bash"):
        yield from _in_lines(entry.data, "#", _BASH)
    elif suffix in ("js", "mjs", "cjs"):
        yield from _in_lines(entry.data, "//", _NODE)


def _in_python(code: bytes) -> Iterator[Seen]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield Seen("syntax", getattr(error, "lineno", None) or 1, str(error)[:100])
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node)
        elif isinstance(node, ast.Call):
            yield from _call(node)


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[Seen]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for name in names:
        if name.split(".")[0] in _NETWORK_MODULES or name.startswith("urllib.request"):
            yield Seen("network", node.lineno, f"import {name}")


def _call(node: ast.Call) -> Iterator[Seen]:
    name = ast.unparse(node.func)
    if name in _SHELL_CALLS or any(word.arg == "shell" and not _is_false(word.value) for word in node.keywords):
        yield Seen("shell", node.lineno, name[:60])
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name in _CHANGING_CALLS or method in _CHANGING_METHODS:
        yield Seen("change", node.lineno, name[:60])


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def _in_lines(code: bytes, comment: str, patterns: tuple[tuple[Deed, re.Pattern[str]], ...]) -> Iterator[Seen]:
    for number, line in enumerate(code.decode(errors="replace").split("\n"), 1):
        if line.lstrip().startswith(comment):
            continue
        for deed, pattern in patterns:
            if found := pattern.search(line[:2000]):
                yield Seen(deed, number, found[1])
