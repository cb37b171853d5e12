"""The shape of a source file, read from its syntax tree by the rows of data/outlines.toml."""

from __future__ import annotations

import functools
import re
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from mcp_tierkit.tables import packaged

if TYPE_CHECKING:
    from tree_sitter import Language, Node

MOST_CHARS = 4_000_000
MOST_DEPTH = 300
"""Open brackets at one place. A parser took 2.4 GB to recover from 3,000 of them, and it cannot be stopped at that."""
MOST_STRETCH = 6_000
"""Characters without anything that ends a statement. What no statement ends, a parser keeps open in the same way."""
MOST_SECONDS = 2.0
"""Of processor time, not of the clock, so that a busy machine gives the same outline. 2 MB of Python took 0.7."""
MOST_NODES = 1_000_000
LONG = 8
"""Lines of a statement, such as a table, above which only its first is in the outline."""
LONG_LINE = 400
"""Characters of a line above which an outline leaves it out."""

_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_NO_BRACKET = re.compile(r"[^()\[\]{}<>;]+")


class Definition(NamedTuple):
    """A class or function: lines counted from 1, `head_last_line` the one before its body begins."""

    name: str
    first_line: int
    last_line: int
    head_last_line: int
    is_container: bool = False


class Shape(NamedTuple):
    """Where definitions stand, and which lines an outline shows; `heads` are the imports and the outer heads alone."""

    definitions: tuple[Definition, ...]
    outline: tuple[int, ...]
    heads: tuple[int, ...]


def read(path: str, text: str) -> Shape | None:
    """The shape of a text; None where its language has no grammar or the text is too large, too deep or no code."""
    grammar = _grammars().get(PurePosixPath(path).suffix.lower())
    if grammar is None or len(text) > MOST_CHARS or _NO_TEXT.search(text):
        return None
    if max(map(len, re.split(f"[{grammar.ends}]", text))) > MOST_STRETCH or _is_deep(text):
        return None
    source = text.encode("utf8", "replace")
    root = _parsed(grammar, source)
    if root is None or root.type == "ERROR":
        return None
    return _Walk(grammar, source, text.split("\n")).over(root)


class _Grammar(NamedTuple):
    package: str
    function: str = "language"
    functions: Sequence[str] = ()
    containers: Sequence[str] = ()
    groups: Sequence[str] = ()
    wrappers: Sequence[str] = ()
    assigned: Sequence[str] = ()
    values: Sequence[str] = ()
    imports: Sequence[str] = ()
    bodies: Sequence[str] = ("body",)
    ends: str = ";{}"


@functools.cache
def _grammars() -> Mapping[str, _Grammar]:
    grammars: dict[str, _Grammar] = {}
    for row in packaged("outlines")["language"]:
        grammar = _Grammar(**{key: value for key, value in row.items() if key != "extensions"})
        grammars |= dict.fromkeys(row["extensions"], grammar)
    return grammars


@functools.cache
def _language(package: str, function: str) -> Language | None:
    from tree_sitter import Language

    try:
        return Language(getattr(import_module(package), function)())
    except (ImportError, ValueError):
        return None  # No wheel for this platform, or one that speaks another version: the text is shown in windows.


def _is_deep(text: str) -> bool:
    """Whether more opens at one place than code does; what a `<` opens ends with the statement."""
    depth = angles = 0
    for mark in _NO_BRACKET.sub("", text):
        if mark in "<>":
            angles = angles + 1 if mark == "<" else max(0, angles - 1)
        elif mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth = max(0, depth - 1)
        angles = 0 if mark in ";{}" else angles
        if max(depth, angles) > MOST_DEPTH:
            return True
    return False


def _parsed(grammar: _Grammar, source: bytes) -> Node | None:
    from tree_sitter import Parser

    language = _language(grammar.package, grammar.function)
    if language is None:
        return None
    end = time.thread_time() + MOST_SECONDS
    try:
        # Only a parser that asks for its text piece by piece can be stopped.
        tree = Parser(language).parse(
            lambda at, _: source[at : at + 65536], progress_callback=lambda at, _: time.thread_time() > end
        )
    except ValueError:
        return None
    return tree.root_node


class _Step(NamedTuple):
    """A node to look at; `row` is where the marks before it begin, `buried` that it is part of some function's body."""

    node: Node
    row: int | None = None
    buried: bool = False
    depth: int = 0


class _Walk:
    """One pass over a syntax tree. Rows count from 0 here."""

    def __init__(self, grammar: _Grammar, source: bytes, lines: Sequence[str]) -> None:
        self.grammar = grammar
        self.source = source
        self.lines = lines
        self.definitions: list[Definition] = []
        self.hidden = bytearray(len(lines) + 1)
        self.kept: set[int] = set()
        self.heads: set[int] = set()
        self.starts: list[int] = []
        self.long: list[tuple[int, int]] = []
        self.comments: set[int] = set()
        self.always = frozenset((*grammar.functions, *grammar.imports, *grammar.wrappers))

    def over(self, root: Node) -> Shape | None:
        steps, seen = [*self._children(root, _Step(root))][::-1], 0
        while steps:
            inner = list(self._inside(steps.pop()))
            seen += 1 + len(inner)
            if seen > MOST_NODES:
                return None
            steps.extend(reversed(inner))
        if root.has_error and not self.definitions:
            return None
        self._shorten()
        shown = [row for row, line in enumerate(self.lines) if self._is_shown(row, line)]
        return Shape(
            tuple(self.definitions),
            tuple(row + 1 for row in shown),
            tuple(row + 1 for row in shown if row in self.heads),
        )

    def _is_shown(self, row: int, line: str) -> bool:
        return bool(line.strip()) and len(line) <= LONG_LINE and (row in self.kept or not self.hidden[row])

    def _shorten(self) -> None:
        """Long statements that hold no definition, and comments, to their first line."""
        self.starts.sort()
        for first, last in self.long:
            at = bisect_left(self.starts, first)
            if at == len(self.starts) or self.starts[at] > last:
                self._hide(first + 1, last)
        for row in self.comments:
            if row - 1 in self.comments:
                self.hidden[row] = 1

    def _hide(self, first: int, last: int) -> None:
        if last >= first:
            self.hidden[first : last + 1] = b"\1" * (last + 1 - first)

    def _inside(self, step: _Step) -> Iterator[_Step]:
        node, kind = step.node, step.node.type
        first, last = _rows(node)
        if (holder := self._holder(node)) is not None:
            return self._defined(step, holder, first, last)
        if kind in self.grammar.imports:
            self.kept.update(range(first, last + 1))
            self.heads.update(range(first, last + 1))
            return iter(())
        if "comment" in kind or _is_docstring(node):
            if not self.lines[first][: node.start_point.column].strip():
                self.comments.update(range(first, last + 1))
            return iter(())
        if not step.buried and last - first >= LONG and kind not in self.grammar.groups:
            self.long.append((first, last))
        row = first if kind in self.grammar.wrappers else None
        return self._children(node, step._replace(row=row))

    def _children(self, node: Node, step: _Step) -> Iterator[_Step]:
        for child in node.named_children:
            kind = child.type
            is_tall = child.start_point.row != child.end_point.row
            if is_tall or (not step.buried and (kind in self.always or "comment" in kind)):
                yield step._replace(node=child)

    def _holder(self, node: Node) -> Node | None:
        """The node with the body, where `node` is a definition."""
        kind, grammar = node.type, self.grammar
        if kind in grammar.functions or kind in grammar.containers:
            return node
        if kind in grammar.assigned:
            value = node.child_by_field_name("value") or node.child_by_field_name("right")
            return value if value is not None and value.type in grammar.values else None
        return None

    def _defined(self, step: _Step, holder: Node, first: int, last: int) -> Iterator[_Step]:
        is_container = holder.type in self.grammar.containers
        body = next(filter(None, map(holder.child_by_field_name, self.grammar.bodies)), None)
        head = _head(body) if body is not None else first if is_container else min(last, first + LONG)
        first = first if step.row is None else step.row
        name = _name(step.node, self.source)
        if name:
            self.definitions.append(Definition(name, first + 1, last + 1, head + 1, is_container))
        if not step.buried:
            self._outlined(first, head, last, is_container, step.depth)
            if not is_container and body is not None:
                self.kept.update(_docstring_row(body))
        inner = body if body is not None else holder
        return self._children(
            inner, _Step(inner, None, step.buried or not is_container, step.depth + int(is_container))
        )

    def _outlined(self, first: int, head: int, last: int, is_container: bool, depth: int) -> None:
        self.starts.append(first)
        self.kept.update(range(first, head + 1))
        if is_container or depth == 0:
            self.heads.update(range(first, head + 1))
        if not is_container:
            self._hide(head + 1, last)


def _rows(node: Node) -> tuple[int, int]:
    first, end = node.start_point.row, node.end_point
    return first, end.row - 1 if end.column == 0 and end.row > first else end.row


def _head(body: Node) -> int:
    """The last row of what stands before a body, its opening brace included."""
    opening = _first(body)
    if opening is not None and opening.type == "{":
        return body.start_point.row
    before = body.prev_sibling
    while before is not None and "comment" in before.type:
        before = before.prev_sibling
    return body.start_point.row if before is None else _rows(before)[1]


def _first(node: Node) -> Node | None:
    return node.child(0) if node.child_count else None


def _is_docstring(node: Node) -> bool:
    child = _first(node) if node.type == "expression_statement" else None
    return child is not None and child.type == "string" and node.child_count == 1


def _docstring_row(body: Node) -> Iterator[int]:
    first = body.named_child(0) if body.named_child_count else None
    if first is not None and _is_docstring(first):
        yield first.start_point.row


def _name(node: Node, source: bytes) -> str:
    for field in ("name", "left", "key", "property", "declarator", "type"):
        child = node.child_by_field_name(field)
        if child is not None:
            while (inner := child.child_by_field_name("declarator")) is not None:
                child = inner
            text = source[child.start_byte : min(child.end_byte, child.start_byte + 200)].decode("utf8", "replace")
            text = re.sub(r"<.*>", "", text, flags=re.DOTALL)
            words = re.findall(r"[^\W\d]\w*", text.split("(")[0])
            return words[-1] if words else ""
    return ""
