"""Take unused imports out of Python files: inputs as JSON on stdin, what was removed as JSON to PLAYBOOK_RESULT.

A file is written only if what it says afterwards is what it said before, less those names.
"""

import ast
import json
import os
import re
import sys
from pathlib import Path

from project_files import clean_folder, shown
from source import blocks, parse, read
from unused import examine

LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")


def without(text, doomed):
    """(the text less the doomed names, those that went); a name is its (line, column). None for an unsafe change."""
    tree, _ = parse(text)
    data = text.encode()
    starts = line_starts(data)
    edits, gone = [], set()
    for block in (block for node in ast.walk(tree) for block in blocks(node)):
        whole = [node for node in block if is_hit(node, doomed) and not kept_of(node, doomed)]
        changes = [(node, list(cleared(data, starts, block, node, whole))) for node in whole]
        partly = [node for node in block if is_hit(node, doomed) and node not in whole]
        changes += [(node, list(narrowed(data, starts, node, kept_of(node, doomed)))) for node in partly]
        for node, change in changes:
            edits += change
            gone |= {place(alias) for alias in node.names if change and place(alias) in doomed}
    after = edited(data, edits).decode()
    return (after, gone) if gone and is_same_less(tree, after, gone) else None


def edited(data, edits):
    """The data after the edits; those of statements that share a line may overlap."""
    pieces, at = [], 0
    for start, stop, new in sorted(edits):
        pieces += [data[at:start], new]
        at = max(at, stop)
    return b"".join([*pieces, data[at:]])


def is_hit(node, doomed):
    return isinstance(node, (ast.Import, ast.ImportFrom)) and any(place(alias) in doomed for alias in node.names)


def kept_of(node, doomed):
    return [alias for alias in node.names if place(alias) not in doomed]


def place(alias):
    return alias.lineno, alias.col_offset


def line_starts(data):
    starts = [0]
    for found in LINE.finditer(data):
        starts.append(found.end())
    return starts


def span(starts, node):
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def narrowed(data, starts, node, kept):
    """Edits that leave the statement with the kept names: whole lines go where each name has its own."""
    places = {place(alias): span(starts, alias) for alias in node.names}
    doomed = [alias for alias in node.names if alias not in kept]
    whole = [own_line(data, starts, alias, places[place(alias)][1]) for alias in node.names]
    if all(whole):
        yield from ((*line, b"") for alias, line in zip(node.names, whole) if alias in doomed)
        return
    first, last = places[place(node.names[0])][0], places[place(node.names[-1])][1]
    if b"#" not in data[first:last]:  # A comment among the names would be lost.
        yield first, last, b", ".join(data[slice(*places[place(alias)])] for alias in kept)


def own_line(data, starts, alias, stop):
    """(start, end) of the line that holds the name, a comma and perhaps a comment, and nothing else."""
    line, end = starts[alias.lineno - 1], LINE.match(data, stop).end()
    before = data[line : starts[alias.lineno - 1] + alias.col_offset]
    return (line, end) if not before.strip() and re.fullmatch(rb"\s*,?[ \t]*(#[^\r\n]*)?\s*", data[stop:end]) else None


def cleared(data, starts, block, node, doomed):
    """The edit that takes a whole statement out of its block; a block that would be empty gets a `pass`."""
    at, (start, stop) = block.index(node), span(starts, node)
    mates = [one for one in block if one.lineno <= node.end_lineno and one.end_lineno >= node.lineno]
    line, last = starts[mates[0].lineno - 1], span(starts, mates[-1])[1]
    end = LINE.match(data, last).end()
    is_alone = all(mate in doomed for mate in mates) and not data[line : span(starts, mates[0])[0]].strip()
    is_emptied = len(doomed) == len(block)
    if is_emptied and node is doomed[0]:
        yield start, stop, b"pass"
    elif (
        is_alone
        and not (is_emptied and mates[0] is doomed[0])
        and re.fullmatch(rb";?[ \t]*(#[^\r\n]*)?(\r\n|\r|\n)?", data[last:end])
    ):
        yield line, end, b""
    elif node is not mates[-1]:
        yield start, span(starts, block[at + 1])[0], b""
    else:
        yield span(starts, block[at - 1])[1], stop, b""


def is_same_less(tree, after, doomed):
    """Whether the new text says what the old tree says, less the doomed names."""
    try:
        new, _ = parse(after)
    except (SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        for block in blocks(node):
            hits = [one for one in block if is_hit(one, doomed)]
            for one in hits:
                one.names = kept_of(one, doomed)
            kept = [one for one in block if one not in hits or one.names]
            block[:] = kept or [ast.Pass()]
    return ast.dump(tree) == ast.dump(new)


def removals(project, takes_effects):
    """Path to the imports to take out of it, in path order."""
    found = {}
    for one in project.imports:
        if takes_effects or not one.for_effect:
            found.setdefault(one.path, []).append(one)
    return found


def apply(found):
    """Write the files; (those written, the labels that went, the labels that could not be taken out safely)."""
    written, gone, left = [], [], []
    for path, imports in sorted(found.items()):
        text, encoding = read(path)
        changed = without(text, {place(one.alias) for one in imports})
        after, done = changed if changed and os.access(path, os.W_OK) else (text, set())
        for one in imports:
            (gone if place(one.alias) in done else left).append(f"{shown(path)}:{one.alias.lineno}: {one.label}")
        if done:
            Path(path).write_bytes(after.encode(encoding))
            written.append(shown(path))
    return written, gone, left


def main():
    inputs = json.load(sys.stdin)
    folder, limit = clean_folder(inputs.get("folder", ".")), inputs.get("limit", 20)
    if folder is None:
        print("there is no such folder in the project", file=sys.stderr)
        return 10
    try:
        project = examine(folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not project.files:
        print("there are no Python files", file=sys.stderr)
        return 10
    takes_effects = inputs.get("effects", False)
    written, gone, left = apply(removals(project, takes_effects))
    kept = 0 if takes_effects else sum(one.for_effect for one in project.imports)
    result = {"removed": len(gone), "files": len(written), "kept_for_effect": kept, "left": left[:limit]}
    result |= {"removals": gone[:limit], "more": max(0, len(gone) - limit)}
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(result, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
