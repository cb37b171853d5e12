"""What Python files import, and which declared package stands behind a name."""

import ast
import json
import os
import re
import sys
import warnings
from pathlib import Path

from manifests import THEIRS, is_manifest, python_name
from project_files import files_below

NAMES = json.loads(
    (Path(__file__).resolve().parent.parent / "assets" / "import_names.json").read_text(encoding="utf-8")
)
MAX_FILES = 20_000
MAX_BYTES = 1_000_000
CONFIGURING = (".toml", ".cfg", ".ini", ".yaml", ".yml", ".sh", "Dockerfile", "Procfile", "Makefile", "Justfile")
MODULE = re.compile(r"[A-Za-z_]\w*(?:/|\.(?:py|so|abi3|cpython))")
STANDARD = sys.stdlib_module_names | {"distutils", "imp", "asyncore", "asynchat", "smtpd", "__main__"}


def read_imports():
    """(dotted name to the first place that needs it, names that are only tried for, how many files are not Python)"""
    needed, tried, unread, count = {}, set(), 0, 0
    local = Local()
    for path in files_below(".", lambda name: name.endswith(".py"), THEIRS):
        count += 1
        if count > MAX_FILES:
            raise ValueError(f"there are more than {MAX_FILES} Python files")
        try:
            data = Path(path).read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(data) if len(data) <= MAX_BYTES else None
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            tree = None
        unread += tree is None
        tried |= named_as_text(tree) if tree else set()
        for name, line, is_tried in dotted_names(tree) if tree else ():
            top = name.split(".")[0]
            if top in STANDARD or local.has(top, path):
                continue
            tried.add(name) if is_tried else needed.setdefault(name, f"{path}:{line}")
    return needed, tried, unread


def named_as_text(tree):
    """Texts that may be a module's name: for what is imported by name at run time."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if len(text) < 80 and re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", text)}


def mentioned():
    """Names in files that start or configure programs; manifests are left out, they name every package."""
    found = set()
    for path in files_below(".", lambda name: name.endswith(CONFIGURING) and not is_manifest(name), THEIRS):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found.update(map(python_name, re.findall(r"[A-Za-z][\w-]{1,80}", file.read(MAX_BYTES))))
        except OSError:
            continue
    return found


class Local:
    """Whether a name is the project's own: a module or folder beside the file, above it, or at a usual root."""

    def __init__(self):
        self.known = {}

    def has(self, top, path):
        folder, roots = os.path.dirname(path), ["", "src", "lib", "python"]
        while folder:
            roots += [folder, f"{folder}/src"]
            folder = os.path.dirname(folder)
        return any(self.is_there(root, top) for root in roots)

    def is_there(self, root, top):
        if (root, top) not in self.known:
            place = os.path.join(root, top)
            self.known[root, top] = os.path.isfile(place + ".py") or os.path.isdir(place)
        return self.known[root, top]


def dotted_names(tree):
    """(dotted name, line, whether the file also works without it) of each absolute import."""
    stack = [(tree, False)]
    while stack:
        node, is_tried = stack.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, is_tried) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno, is_tried) for alias in node.names)
        inner = is_tried or is_attempt(node)
        stack.extend((child, inner) for child in ast.iter_child_nodes(node))


def is_attempt(node):
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    caught = [handler.type for handler in getattr(node, "handlers", [])]
    wide = re.compile(r"'(?:ImportError|ModuleNotFoundError|Exception)'")
    return any(one is None or wide.search(ast.dump(one)) for one in caught)


def installed():
    """Package name to the top names it brings, read from an environment of the project where there is one."""
    found = {}
    for place in (".venv", "venv"):
        for info in sorted(Path(place).glob("lib/python3*/site-packages/*.dist-info")):
            try:
                files = (info / "RECORD").read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            tops = {re.split(r"[/.]", line)[0] for line in files if MODULE.match(line)}
            found[python_name(info.name.removesuffix(".dist-info").rpartition("-")[0])] = tops
    return found


def brings(package, name, environment):
    """Whether importing the dotted name may be what the package is for."""
    top, whole = name.split(".")[0], python_name(name)
    if top in environment.get(package, ()) or top in NAMES.get(package, ()):
        return True
    bare = re.sub(r"^(?:python|py)-?|-?(?:python|py)$", "", package)
    if whole.endswith("-") and len(whole) > 4:  # The first part of a name that is put together at run time.
        return package.startswith(whole)
    forms = {package, bare, package.replace("-", "")}
    return any(whole == form or whole.startswith(form + "-") for form in forms if form)
