"""Code that no run can reach, and private names that nothing uses."""

import ast
import re

from source import DEFINITIONS, WORD, blocks, names_in

PRIVATE = re.compile(r"_[^\W_]\w*")
ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def unreachable(tree):
    """(first line, last line, what ended the block before) of statements that no run can reach."""
    for node in tree.nodes:
        for block in blocks(node):
            ends = [at for at, one in enumerate(block) if isinstance(one, ENDS)]
            rest = block[ends[0] + 1 :] if ends else []
            # A yield that is never reached still makes its function a generator.
            if rest and not any(isinstance(one, (ast.Yield, ast.YieldFrom)) for part in rest for one in ast.walk(part)):
                yield rest[0].lineno, rest[-1].end_lineno, type(block[ends[0]]).__name__.lower()


def privates(tree):
    """The module's private functions, classes and variables: name to (line, kind)."""
    found = {}
    for node in tree.body:
        if isinstance(node, DEFINITIONS) and not node.decorator_list:
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            found.setdefault(node.name, (node.lineno, kind))
        for name in assigned(node):
            found.setdefault(name, (node.lineno, "variable"))
    return {name: place for name, place in found.items() if PRIVATE.fullmatch(name)}


def assigned(node):
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def gather_words(tree):
    """Every name the file uses, those within its texts too; a definition is no use of itself."""
    found = set()
    for node in tree.body:
        words = set()
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Store):
                words.add(one.id)
            elif isinstance(one, ast.AugAssign):
                words |= names_in(one.target)
            elif isinstance(one, ast.Attribute):
                words.add(one.attr)
            elif isinstance(one, ast.alias):
                words.add(one.name.split(".")[-1])
            elif isinstance(one, ast.Constant) and isinstance(one.value, str):
                words.update(WORD.findall(one.value))
        own = {node.name} if isinstance(node, DEFINITIONS) else set(assigned(node))
        found |= words - own
    return found
