"""The shipped playbooks about unused code, held against ruff and against what may be a use."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shipped import beside, put, script

report_imports, remover = script("unused-imports"), script("remove-unused-imports")
unused = beside(report_imports.examine)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


IMPORTS = [
    "import os", "import sys, re", "import os.path", "import json as js", "from abc import ABC, abstractmethod",
    "from math import sin as sine, cos", "from typing import (\n{0}    Any,  # any\n{0}    List,\n{0})",
    "import csv; import html", "from collections import deque, \\\n{0}    Counter", "from . import near",
    "import ast as ast",
    "from string import *", "from __future__ import annotations",
]  # fmt: skip
USES = [
    "print(os.getcwd())", "x = sys", "y: List[int] = []", "def f(a: 'Any') -> None: ...", "js.dumps(1)",
    "z = [sine(n) for n in ()]", "class K(ABC):\n{0}    re = re", "with open(html) as h: pass",
    "@abstractmethod\n{0}def g(): ...",
    "lambda: deque()", "w = f'{{Counter()}}'", "del csv", "__all__ = ['near']", "def k(q=cos): return q", "pass",
]  # fmt: skip


def module(chance: random.Random, depth: int = 0) -> str:
    """Imports and uses of them, in blocks and functions of blocks and functions."""
    indent = "    " * depth
    lines = []
    for _ in range(chance.randint(1, 5)):
        kind = chance.choice(["import", "import", "use", "def", "use" if depth else "if"])
        if kind in ("def", "if") and depth < 2:
            head = f"def d{chance.randint(0, 9)}():" if kind == "def" else "if x:"
            lines.append(f"{indent}{head}\n{module(chance, depth + 1)}")
            continue
        text = chance.choice(IMPORTS if kind == "import" else USES)
        lines += [] if depth and ("*" in text or "__f" in text) else [indent + text.format(indent)]
    # In a function Python takes a name that is imported further down as unbound, and ruff as the module's.
    lines.sort(key=lambda line: "__future__" not in line if not depth else "import" not in line.split("\n")[0])
    return "\n".join(lines or [indent + "pass"]) + ("" if depth else "\n")


def some_modules(seed: int) -> list[str]:
    chance = random.Random(seed)
    return list(filter(is_python, (module(chance) for _ in range(150))))


def is_python(text: str) -> bool:
    try:
        compile(text, "x", "exec")
    except SyntaxError:
        return False
    return True


def tidy_module(chance: random.Random) -> str:
    """Each name bound once, above its uses: here nothing but the uses decides."""
    once = [text for text in IMPORTS if text != "import os.path" and "*" not in text]
    chance.shuffle(once)
    cut = chance.randint(0, len(once))
    above = sorted((text.format("") for text in once[:cut]), key=lambda text: "__f" not in text)
    within = ["    " + text.format("    ") for text in once[cut:] if "__f" not in text]
    bound = "\n".join(above)
    # A type or `__all__` clears a name in the whole file with us, and where the name is bound with ruff.
    needs = {"y: List[int] = []": "List", "def f(a: 'Any') -> None: ...": "List", "__all__ = ['near']": "near"}
    uses = [use for use in USES if "del" not in use and needs.get(use, "") in bound and chance.random() < 0.4]
    inner = [use for use in USES if "del" not in use and "__all__" not in use and chance.random() < 0.3]
    body = [*within, *("    " + use.format("    ") for use in inner), "    pass", ""]
    return "\n".join([*above, *(use.format("") for use in uses), "def outer():", *body])


def by_ruff(folder: Path, rule: str) -> list[tuple[str, int, str]]:
    """(file, line, name), in order."""
    command = ["check", "--isolated", "--no-cache", "--select", rule, "--output-format", "json", "."]
    ran = subprocess.run([sys.executable, "-m", "ruff", *command], cwd=folder, capture_output=True, check=False)
    return sorted(
        (
            Path(one["filename"]).name,
            one["location"]["row"],
            re.findall("`([^`]+)`", one["message"])[0].split(" as ")[0],
        )
        for one in json.loads(ran.stdout)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_called_unused_is_what_ruff_calls_unused(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    texts = {f"m{at}.py": text for at in range(150) if is_python(text := tidy_module(chance))}
    put(tmp_path, texts)
    ours = [
        (file, one.alias.lineno, one.label.split(" as ")[0])
        for file, text in texts.items()
        for one in unused.study(file, text).imports
    ]
    assert len(ours) > 200
    assert sorted(ours) == by_ruff(tmp_path, "F401")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_name_is_undefined_after_imports_were_taken_out(seed: int, tmp_path: Path) -> None:
    texts = {f"m{at}.py": text for at, text in enumerate(some_modules(seed))}
    after = {}
    for file, text in texts.items():
        found = unused.study(file, text).imports
        after[file] = remover.without(text, {remover.place(one.alias) for one in found})[0] if found else text
    assert after != texts
    put(tmp_path / "before", texts)
    put(tmp_path / "after", after)
    missing = [[(file, name) for file, _, name in by_ruff(tmp_path / part, "F821")] for part in ("before", "after")]
    assert sorted(missing[1]) == sorted(missing[0])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_taking_imports_out_leaves_all_else_as_it_was(end: str) -> None:
    for text in (text.replace("\n", end) for text in some_modules(ord(end[0]))):
        found = unused.study("m.py", text).imports
        done = remover.without(text, {remover.place(one.alias) for one in found})
        assert (done is None) == (not found)
        if done:
            after, gone = done
            assert len(gone) == len(found)
            assert not unused.study("m.py", after).imports
            kept = [line.strip() for line in after.split(end) if "import" not in line and line.strip() != "pass"]
            rest = iter([line.strip() for line in text.split(end)])
            assert all(line in rest for line in kept), (text, after)


def test_whatever_may_be_a_use_clears_an_import(here: Path) -> None:
    files: dict[str, str | bytes] = {
        "app/tools.py": "import requests\nimport json\nimport csv\nimport html\nfrom decimal import Decimal\n",
        "app/one.py": "from app.tools import json\nfrom app import tools as t\nprint(json, t.csv.reader)\n",
        "test_two.py": "from three import db\ndef test(db): patch('app.tools.html.escape')\n",
        "star.py": "import abc\n",
        "four.py": "from star import *\n",
        "five.py": "import abc  # NOQA\nimport bz2  # noqa: E501\nfrom math import (  # noqa: F401\n  sin,\n)\n",
        "six.py": "# ruff: noqa: F401\nimport abc\n",
        "seven.py": "import abc\ndef f(): return locals()\n",
        "eight.py": "class A:\n    import abc\nfrom typing import Optional as O\nx = cast('O[int]', 1)\n",
        "nine.py": "def f():\n    global abc\n    import abc\ntry:\n    import ujson\nexcept ImportError: pass\n",
        "ten.py": "import readline\nimport app.one\nimport numpy as np\nimport xml.sax\n",
    }
    put(here, files)
    project = unused.examine(".")
    assert [(one.path, one.label, one.for_effect) for one in project.imports] == [
        ("app/tools.py", "requests", True),
        ("app/tools.py", "decimal.Decimal", False),
        ("five.py", "bz2", False),
        ("ten.py", "readline", True),
        ("ten.py", "app.one", True),
        ("ten.py", "numpy as np", False),
        ("ten.py", "xml.sax", False),
    ]


DEAD = """
import sys
_used = 1
_dead = 2
_again = _again = 3
__thing__ = 4
_ = 5
_named = 6
_counter = 0
def _called(): return _used
def _alone(): return _alone()
class _Unused: pass
@register
def _hooked(): pass
def count():
    global _counter
    _counter += 1
    raise ValueError
    print(1)
def empty():
    return
    yield
def loop():
    for x in y:
        continue
        print(2)
    else:
        return _called()
getattr(sys.modules[__name__], "_named")
"""


def test_dead_code_is_what_nothing_in_the_project_can_reach(here: Path) -> None:
    put(here, {"a.py": DEAD, "broken.py": "def (: _Broken\n", "pyproject.toml": "[tool]\nx = '_from_toml'\n"})
    project = unused.examine(".")
    assert [name for *_, name in project.privates] == ["_dead", "_again", "_alone", "_Unused"]
    assert [(line, end) for _, line, _, end in project.unreachable] == [(19, "raise"), (26, "continue")]
    assert project.unread == ["broken.py"]
