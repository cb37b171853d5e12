"""Python files read and parsed; nothing of them is run."""

import ast
import io
import re
import symtable
import tokenize
import warnings
from pathlib import Path

MAX_BYTES = 1_000_000
WORD = re.compile(r"[^\W\d]\w*")

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*SCOPES, ast.ClassDef)


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
