"""Imports that nothing uses and code that nothing reaches, read from Python source without running it.

Whatever might be a use counts as one: a name in a string annotation, a doctest or `__all__`, a re-export that another
file takes, a path in a string. What is reported is plainly unused; some that is unused is not reported.
"""

import ast
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from dead import gather_words, privates, unreachable
from project_files import files_below
from source import DEFINITIONS, MAX_BYTES, SCOPES, WORD, blocks, names_in, parse, read

MAX_FILES = 20_000
READ = (
    ".py", ".pyi", ".pyx", ".ipynb", ".toml", ".cfg", ".ini", ".yml", ".yaml", ".sh", ".conf", ".service", "Procfile",
    "Makefile", "Dockerfile",
)  # fmt: skip
# What these import, others read from them: a server, a test runner, a framework.
READ_BY_OTHERS = {"__init__.py", "conftest.py", "wsgi.py", "asgi.py", "settings.py", "gunicorn.conf.py"}
# Modules of the standard library that are imported for what they do, not for a name.
EFFECTS = {"readline", "rlcompleter", "antigravity", "this", "sitecustomize", "usercustomize", "__main__"}
DYNAMIC = {"eval", "exec", "globals", "locals", "vars"}
TYPING = {"cast", "TypeVar", "NewType", "ForwardRef", "TypedDict", "NamedTuple", "TypeAliasType", "assert_type"}
GENERIC = {"list", "dict", "tuple", "set", "frozenset", "type"}

NOQA = re.compile(r"#\s*noqa(?!\w)(?P<codes>:\s*[A-Z][0-9A-Z]*(?:[,\s]+[A-Z]+[0-9]+)*)?", re.IGNORECASE)
WHOLE_FILE = re.compile(r"^\s*#\s*(?:ruff|flake8):\s*noqa(?P<codes>:\s*[A-Z0-9,\s]+)?", re.IGNORECASE)
TYPE_COMMENT = re.compile(r"#\s*type:(?!\s*ignore\b)(.*)")
# `package.module.name`, or `package.module:name` as entry points and servers are told.
DOTTED = re.compile(r"(?<!\w)[^\W\d]\w*(?:[.:][^\W\d]\w*)+")


@dataclass
class Import:
    """One unused name of an import statement."""

    path: str
    node: ast.AST
    alias: ast.alias
    name: str
    label: str
    for_effect: bool


@dataclass
class Facts:
    """What one file says: candidates, and every use that may clear a candidate of another file."""

    path: str
    imports: list = field(default_factory=list)
    unreachable: list = field(default_factory=list)
    privates: dict = field(default_factory=dict)
    words: set = field(default_factory=set)
    taken: set = field(default_factory=set)
    starred: set = field(default_factory=set)


def study(path, text):
    """The facts of one file; SyntaxError, ValueError or RecursionError where it is not Python."""
    tree, table = parse(text)
    facts = Facts(path)
    lines = re.split(r"\r\n|\r|\n", text)
    facts.words = gather_words(tree)
    gather_uses(tree, facts)
    silent = silenced_names(tree, text)
    if not is_left_alone(path, tree, lines):
        facts.imports = list(unused_imports(path, tree, table, lines, silent))
    facts.unreachable = [one for one in unreachable(tree) if not is_silenced(lines, one[0], one[0], "")]
    facts.privates = {
        name: place for name, place in privates(tree).items() if not is_silenced(lines, place[0], place[0], "")
    }
    return facts


# --- imports ------------------------------------------------------------------------------------


def is_left_alone(path, tree, lines):
    """Whether no import of this file can be judged."""
    name = os.path.basename(path)
    if name in READ_BY_OTHERS or os.path.basename(os.path.dirname(path)) == "settings":
        return True
    calls = (node.func for node in tree.nodes if isinstance(node, ast.Call) and not node.args)
    if any(isinstance(func, ast.Name) and func.id in DYNAMIC for func in calls):
        return True
    if any(isinstance(node, ast.Name) and node.id in ("eval", "exec") for node in tree.nodes):
        return True
    marks = (WHOLE_FILE.match(line) for line in lines)
    return any(mark and covers(mark["codes"], "F401") for mark in marks)


def unused_imports(path, tree, table, lines, silent):
    tables = tables_by_place(table)
    is_test = is_test_file(path)
    for scope in [tree, *(node for node in tree.nodes if isinstance(node, SCOPES))]:
        here = table if scope is tree else tables.get((scope.name, scope.lineno))
        for node, is_guarded in statements(scope):
            if here is None or is_guarded or not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            for alias in node.names:
                name = bound(node, alias)
                if name is None or name in silent or is_used(here, name, scope is tree):
                    continue
                if is_silenced(lines, node.lineno, alias.lineno, "F401", node.end_lineno):
                    continue
                if not (is_test and is_named_in(tree, name)):
                    yield Import(path, node, alias, name, label(node, alias), may_have_effect(path, node, alias))


def tables_by_place(table):
    found, stack = {}, [table]
    while stack:
        here = stack.pop()
        stack.extend(here.get_children())
        if str(here.get_type()) in ("function", "SymbolTableType.FUNCTION"):
            found[here.get_name(), here.get_lineno()] = here
    return found


def statements(scope):
    """Every statement of a scope, not of the scopes in it: (node, whether an ImportError is caught around it)."""
    stack = [(node, False) for node in scope.body]
    while stack:
        node, is_guarded = stack.pop()
        yield node, is_guarded
        if not isinstance(node, DEFINITIONS):
            inner = is_guarded or guards(node)
            stack.extend((one, inner) for block in blocks(node) for one in block)


def guards(node):
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return any("ImportError" in names_in(item) or "ModuleNotFoundError" in names_in(item) for item in node.items)
    caught = [handler.type for handler in getattr(node, "handlers", [])]
    wide = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    return any(one is None or names_in(one) & wide for one in caught)


def bound(node, alias):
    """The name an import binds; None where it is not for us to judge."""
    if alias.name == "*" or alias.asname == alias.name:
        return None  # `x as x` is how a file says that it passes a name on.
    if isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level:
        return None
    return alias.asname or alias.name.split(".")[0]


def label(node, alias):
    origin = "" if isinstance(node, ast.Import) else "." * node.level + (node.module or "")
    whole = alias.name if not origin else origin + ("" if origin.endswith(".") else ".") + alias.name
    return f"{whole} as {alias.asname}" if alias.asname else whole


def is_used(table, name, is_module):
    """Whether anything in the scope, or in the scopes within, reads the name."""
    try:
        own = table.lookup(name)
    except KeyError:
        return True
    if own.is_referenced() or (not is_module and (own.is_declared_global() or own.is_nonlocal())):
        return True
    stack = list(table.get_children())
    while stack:
        inner = stack.pop()
        stack.extend(inner.get_children())
        if name not in inner.get_identifiers():
            continue
        symbol = inner.lookup(name)
        # In a class a name it also assigns may still be read from outside.
        is_outer = symbol.is_global() if is_module else symbol.is_free()
        if symbol.is_referenced() and (is_outer or inner.get_type() == "class"):
            return True
    return False


def may_have_effect(path, node, alias):
    """Whether importing alone may be the point: modules of the project, and plain imports of packages."""
    if isinstance(node, ast.Import):
        top = alias.name.split(".")[0]
        return top in EFFECTS or (alias.asname is None and top not in sys.stdlib_module_names)
    above = [os.path.dirname(path)] + [".."] * (node.level - 1) if node.level else [""]
    parts = [*(node.module or "").split("."), alias.name]
    places = [os.path.join(*above, *parts)] if node.level else [os.path.join(root, *parts) for root in ("", "src")]
    return any(os.path.isfile(place + ".py") or os.path.isdir(place) for place in places)


def is_test_file(path):
    name = os.path.basename(path)
    return name.startswith("test_") or name.endswith("_test.py")


def is_named_in(tree, name):
    """Whether a fixture of that name is asked for: as a parameter, or by its name as text."""
    return any(
        (isinstance(node, ast.arg) and node.arg == name) or (isinstance(node, ast.Constant) and node.value == name)
        for node in tree.nodes
    )


def is_silenced(lines, first, line, code, last=None):
    """Whether a `noqa` stands on the statement's first, last or own line."""
    for number in {first, line, last or first}:
        text = lines[number - 1] if number <= len(lines) else ""
        mark = NOQA.search(text)
        if (mark and covers(mark["codes"], code)) or (code and "unused-import" in text and "pylint:" in text):
            return True
    return False


def covers(codes, code):
    if codes is None:
        return True
    return bool(code) and any(code.startswith(one) for one in re.findall(r"[A-Z]+[0-9]*", codes.upper()))


# --- names that are used where only text says so ------------------------------------------------


def silenced_names(tree, text):
    """Names that annotations, `__all__`, type comments, doctests or a deletion mention."""
    found = set()
    for node in tree.nodes:
        for part in typed_parts(node):
            found |= spelled_names(part)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
            found.add(node.id)
        if isinstance(node, ast.AugAssign):
            found |= names_in(node.target)
        if isinstance(node, ast.stmt) and not hasattr(node, "body") and "__all__" in names_in(node):
            found |= spelled_names(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ">>>" in node.value:
            found |= doctest_names(node.value)
    for comment in TYPE_COMMENT.findall(text):
        found.update(WORD.findall(comment))
    return found


def typed_parts(node):
    """The parts of a node in which text stands for types."""
    yield from (part for name in ("annotation", "returns") if isinstance(part := getattr(node, name, None), ast.expr))
    if isinstance(node, ast.Call) and last_name(node.func) in TYPING:
        yield from [*node.args, *(word.value for word in node.keywords)]
    if isinstance(node, ast.Subscript) and ((name := last_name(node.value)) in GENERIC or name[:1].isupper()):
        yield node.slice
    if isinstance(node, ast.AnnAssign) and node.value and last_name(node.annotation) == "TypeAlias":
        yield node.value


def last_name(node):
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def spelled_names(node):
    """Names in an expression, those within its texts too."""
    found = names_in(node)
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            found.update(WORD.findall(one.value))
    return found


def doctest_names(text):
    lines = (line.strip() for line in text.splitlines())
    return {word for line in lines if line.startswith((">>>", "...")) for word in WORD.findall(line)}


def gather_uses(tree, facts):
    """What this file takes from others: (module, name) pairs, and the modules it takes all from."""
    stands_for = {}
    for node in tree.nodes:
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[-1]
            for alias in node.names:
                (facts.starred.add(module) if alias.name == "*" else facts.taken.add((module, alias.name)))
                stands_for[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.Import):
            stands_for.update((alias.asname, alias.name.split(".")[-1]) for alias in node.names if alias.asname)
    for node in tree.nodes:
        if isinstance(node, ast.Attribute):
            base = last_name(node.value)
            facts.taken.add((stands_for.get(base, base), node.attr))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 300:
            facts.taken |= told_names(node.value)


def told_names(text):
    """The (module, name) pairs of every dotted name in a text."""
    parted = (re.split("[.:]", dotted) for dotted in DOTTED.findall(text))
    return {pair for parts in parted for pair in zip(parts, parts[1:])}


# --- the whole project --------------------------------------------------------------------------


@dataclass
class Project:
    """The findings in the folder asked about, each in path and line order."""

    files: int = 0
    unread: list = field(default_factory=list)
    imports: list = field(default_factory=list)
    unreachable: list = field(default_factory=list)
    privates: list = field(default_factory=list)


def examine(folder):
    """Every Python file of the project is read; what is reported lies below `folder`."""
    facts, project, told = [], Project(), Facts("")
    for path in files_below(".", lambda name: name.endswith(READ)):
        if not path.endswith(".py"):
            gather_told(path, told)
            continue
        project.files += 1
        if project.files > MAX_FILES:
            raise ValueError(f"there are more than {MAX_FILES} Python files")
        try:
            facts.append(study(path, read(path)[0]))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, LookupError):
            project.unread.append(path)
            gather_told(path, told)
    return judge(project, facts, told, folder)


def gather_told(path, told):
    """What a file that is read as mere text may use: private words, and names of modules."""
    try:
        text = Path(path).read_bytes()[: 4 * MAX_BYTES].decode("utf-8", "replace")
    except OSError:
        return
    told.words.update(re.findall(r"\b_\w+", text))
    told.taken |= told_names(text)


def judge(project, facts, told, folder):
    words = told.words.union(*(one.words for one in facts))
    taken = told.taken.union(*(one.taken for one in facts))
    starred = set().union(*(one.starred for one in facts))
    for one in sorted(facts, key=lambda one: one.path):
        if folder != "." and not one.path.startswith(folder + "/") and one.path != folder:
            continue
        stem = os.path.basename(one.path)[: -len(".py")]
        project.imports += [
            found for found in in_order(one.imports) if (stem, found.name) not in taken and stem not in starred
        ]
        project.unreachable += [(one.path, *place) for place in sorted(one.unreachable)]
        project.privates += [
            (one.path, line, kind, name)
            for name, (line, kind) in sorted(one.privates.items(), key=lambda item: item[1])
            if name not in words
        ]
    return project


def in_order(imports):
    return sorted(imports, key=lambda one: (one.alias.lineno, one.alias.col_offset))
