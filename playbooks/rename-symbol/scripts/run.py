"""Rename an identifier in every Python file; the change stands only if the tests pass before and after."""

import ast
import io
import json
import keyword
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

SKIPPED = {"node_modules", "__pycache__", "site-packages"}
# -B, and no cache of pytest's: a change beside the Python files would fail the run.
OWN = [path for path in (".venv/bin/python", "venv/bin/python") if os.access(path, os.X_OK)]
PYTHON = os.path.abspath(OWN[0]) if OWN else sys.executable
PYTEST = [PYTHON, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
UNITTEST = [PYTHON, "-B", "-m", "unittest", "discover"]


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def python_files():
    for folder, folders, names in os.walk("."):
        folders[:] = [name for name in folders if is_ours(folder, name)]
        for name in names:
            path = Path(folder, name)
            if name.endswith(".py") and not name.startswith(".") and not path.is_symlink():
                yield path


def is_ours(folder, name):
    return not name.startswith(".") and name not in SKIPPED and not Path(folder, name, "pyvenv.cfg").exists()


def read(path):
    data = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding), encoding


def occurrences(text, old, new, path):
    """Where `old` stands as a whole token, as (row, column); declines where `new` stands already."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and {old, new} & names_within(token.string):
            decline(f"{old} or {new} is used within a text in {path}, where this Python cannot tell the place")
        if token.type != tokenize.NAME:
            continue
        if token.string == new:
            decline(f"{new} is already used in {path}")
        if token.string == old:
            found.append(token.start)
    return found


def names_within(string):
    """The names that an f-string uses; from 3.12 on they are tokens of their own."""
    if "f" not in re.match(r"\w*", string)[0].lower():
        return set()
    nodes = [node for node in ast.walk(ast.parse(string)) if not isinstance(node, ast.Constant)]
    return {value for node in nodes for _, value in ast.iter_fields(node) if isinstance(value, str)}


def renamed(text, found, old, new):
    lines = io.StringIO(text).readlines()
    for row, column in reversed(found):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + new + line[column + len(old) :]
    return "".join(lines)


def tests(texts):
    """(whether they passed, how many ran, the end of what they printed)"""
    has_pytest = subprocess.run([PYTHON, "-c", "import pytest"], capture_output=True).returncode == 0
    if has_pytest and is_for_pytest(texts):
        return outcome(PYTEST, r"(\d+) passed")
    unittests = outcome(UNITTEST, r"Ran (\d+) tests?")
    plain = any(re.search(r"^def test_", text, re.MULTILINE) for text in texts)
    return outcome(PYTEST, r"(\d+) passed") if has_pytest and plain and not unittests[1] else unittests


def is_for_pytest(texts):
    marks = [Path(name) for name in ("conftest.py", "pytest.ini", "tests/conftest.py")]
    settings = [Path(name).read_text(errors="replace") for name in ("pyproject.toml", "setup.cfg") if Path(name).is_file()]
    return any(mark.is_file() for mark in marks) or any("pytest" in text for text in [*settings, *texts])


def outcome(command, count):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = done.stdout + done.stderr
    counted = re.findall(count, said)
    return done.returncode == 0, int(counted[-1]) if counted else 0, said[-2000:]


inputs = json.load(sys.stdin)
old, new = inputs["old"], inputs["new"]
if keyword.iskeyword(new) or keyword.iskeyword(old) or old == new:
    decline("these names cannot be exchanged")

edits, texts = {}, []
for path in python_files():
    try:
        text, encoding = read(path)
        texts.append(text)
        found = occurrences(text, old, new, path)
    except (SyntaxError, UnicodeDecodeError, LookupError, tokenize.TokenError) as error:
        decline(f"{path} cannot be read as Python: {error}")
    if found:
        edits[path] = (renamed(text, found, old, new).encode(encoding), len(found))
if not edits:
    decline(f"{old} does not occur")

passed, count, said = tests(texts)
if not passed or not count:
    print(said, file=sys.stderr)
    decline("the tests are not green before the change" if count else "there are no tests to prove the change")
for path, (data, _) in edits.items():
    path.write_bytes(data)
passed, after, said = tests(texts)
if not passed or after < count:
    print(said, file=sys.stderr)
    sys.exit(1)

with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
    json.dump({"files": [path.as_posix() for path in sorted(edits)], "replacements": sum(n for _, n in edits.values())}, out)
