"""Python files of a project, found and parsed; nothing of them is run."""

import ast
import io
import os
import re
import symtable
import tokenize
import warnings
from pathlib import Path

SKIPPED = {"node_modules", "__pycache__", "site-packages", "dist-packages"}
MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")
MAX_BYTES = 1_000_000
WORD = re.compile(r"[^\W\d]\w*")

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*SCOPES, ast.ClassDef)


def shown(path):
    """A path as one printable line."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]


def files_below(folder, suffixes):
    """Regular files by path order; no link is followed and no environment or cache is entered."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if is_ours(here, name))
        for name in sorted(names):
            path = os.path.join(here, name)
            if name.endswith(suffixes) and os.path.isfile(path) and not os.path.islink(path):
                yield os.path.normpath(path).replace(os.sep, "/")


def is_ours(here, name):
    inside = os.path.join(here, name)
    return (
        not name.startswith(".")
        and name not in SKIPPED
        and not os.path.exists(os.path.join(here, "case.json"))  # The made-up project of a playbook's test.
        and not os.path.islink(inside)
        and not any(os.path.exists(os.path.join(inside, mark)) for mark in MARKS)
    )


def clean_folder(text):
    """The folder as a path below the project; None where it is not one."""
    folder = os.path.normpath(text or ".").replace(os.sep, "/")
    is_inside = not os.path.isabs(folder) and folder.split("/")[0] != ".." and "\0" not in folder
    root = os.path.realpath(".")
    real = os.path.realpath(folder) if is_inside else ""
    return folder if is_inside and (real == root or real.startswith(root + os.sep)) and os.path.exists(real) else None


def read(path):
    """(text, encoding) as Python would read it; OSError, SyntaxError or UnicodeError where it cannot."""
    data = Path(path).read_bytes()
    if len(data) > MAX_BYTES:
        raise OSError("is larger than 1 MB")
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding), encoding


def parse(text):
    """(tree, symbol table); the tree has all its nodes in a list, for they are gone through many times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # An odd escape in their code is not our news.
        tree, table = ast.parse(text), symtable.symtable(text, "file", "exec")
    tree.nodes = list(ast.walk(tree))
    return tree, table


def blocks(node):
    """The lists of statements directly in a node."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
            yield block
    for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
        yield part.body


def names_in(node):
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
