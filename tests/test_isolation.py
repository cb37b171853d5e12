"""A draft in every kind of project, confined and not: right ones land byte for byte, wrong ones leave no trace."""

from __future__ import annotations

import shutil
import sys
import venv
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp import Client

from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.sandbox import probe
from tests.support import (
    BUGGY,
    CHECK,
    FIXED,
    JOB,
    REPAIR,
    RIGHT,
    TESTS,
    WRONG,
    client_at,
    comes_true,
    commit_all,
    footprint,
    make_config,
    make_project,
    run_git,
    said,
)

pytestmark = pytest.mark.anyio

PYTEST = f"{sys.executable} -m pytest -q -p no:hypothesispytest -p no:anyio"
ALLOWED = ["python -m unittest", f"{sys.executable} -m unittest", f"{sys.executable} -m pytest", "npm test"]
ALLOW = f"[checks]\nallow = {ALLOWED}\n"
TWICE_RED = ["cheap tiny-cheap: red, red $0.0004"]
STILL_WRONG = REPAIR.replace("(100 - ", "(80 - ")


@dataclass
class Place:
    """A project to work on: what of it to watch, the file with the bug, and the check that shows it."""

    project: Path
    path: str = "shop/cart.py"
    check: str | dict[str, Any] = CHECK
    around: Path | None = None
    before: str = BUGGY
    after: str = FIXED
    right: str = RIGHT
    wrong: tuple[str, str] = (WRONG, STILL_WRONG)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def watched(self) -> Path:
        return self.around or self.project

    def job(self) -> dict[str, Any]:
        return {"task": JOB["task"], "files": [self.path], "checks": [self.check], **self.more}

    def at(self, path: str) -> Place:
        """The same replies for a cart at another path."""
        self.path = path
        self.right = self.right.replace("shop/cart.py", path)
        self.wrong = (self.wrong[0].replace("shop/cart.py", path), self.wrong[1].replace("shop/cart.py", path))
        return self


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def plain(tmp: Path) -> Place:
    return Place(make_project(tmp / "app", git=False))


def editable(tmp: Path) -> Place:
    """Installed editable into the project's own environment: the check imports the name, not a path."""
    root = put(
        tmp / "app",
        {
            "src/shop/__init__.py": "",
            "src/shop/cart.py": BUGGY,
            "tests/__init__.py": "",
            "tests/test_cart.py": TESTS,
            "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\n',
        },
    )
    venv.create(root / ".venv", symlinks=True, with_pip=False)
    [packages] = (root / ".venv/lib").glob("python*/site-packages")
    (packages / "__editable__.shop-1.pth").write_text(f"{root.resolve()}/src\n")
    commit_all(root)
    return Place(root, check="python -m unittest -q tests.test_cart").at("src/shop/cart.py")


def npm_workspace(tmp: Path) -> Place:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    root = put(
        tmp / "app",
        {
            "package.json": '{"name": "top", "private": true, "workspaces": ["packages/*"]}',
            "packages/sums/package.json": '{"name": "sums", "version": "1.0.0", "main": "index.js"}',
            "packages/sums/index.js": "exports.double = (n) => n;\n",
            "packages/shop/package.json": '{"name": "shop", "version": "1.0.0", "scripts": {"test": "node --test"}}',
            "packages/shop/double.test.js": (
                "const test = require('node:test'), assert = require('node:assert'), { double } = require('sums');\n"
                "test('doubles', () => assert.strictEqual(double(2), 4));\n"
            ),
        },
    )
    (root / "node_modules").mkdir()
    for name in ("sums", "shop"):
        (root / "node_modules" / name).symlink_to(f"../packages/{name}")
    commit_all(root)
    path, texts = "packages/sums/index.js", [f"exports.double = (n) => n * {times};\n" for times in (2, 3, 4)]
    right, *wrong = [f"{path}\n```\n{text}```\n" for text in texts]
    return Place(
        root, path, "npm test --workspace=shop", None, "exports.double = (n) => n;\n", texts[0], right,
        (wrong[0], wrong[1]),
    )  # fmt: skip


def worktree(tmp: Path) -> Place:
    """Its `.git` is a file that points outside, and the test asks git."""
    main = make_project(tmp / "main", git=False)
    asks = TESTS.replace("import unittest\n", "import subprocess\nimport unittest\n") + (
        "\n    def test_git_knows_the_tree(self):\n"
        '        said = subprocess.check_output(["git", "log", "-1", "--format=%s"], text=True)\n'
        '        self.assertEqual(said, "start\\n")\n'
    )
    put(main, {"tests/test_cart.py": asks})
    commit_all(main)
    run_git(main, "worktree", "add", "-q", str(tmp / "app"))
    return Place(tmp / "app", around=tmp)


def package_by_cwd(tmp: Path) -> Place:
    root = put(tmp / "app", {"README.md": "Two packages.\n"})
    make_project(root / "packages/shop", git=False)
    commit_all(root)
    check = {"argv": CHECK.split(), "cwd": "packages/shop"}
    return Place(root, check=check).at("packages/shop/shop/cart.py")


def package_alone(tmp: Path) -> Place:
    """The project is the package; what pytest needs to find its code stands in the folder above."""
    root = put(
        tmp / "app",
        {
            "pytest.ini": "[pytest]\npythonpath = packages/shop/lib\n",
            "packages/shop/lib/shop/__init__.py": "",
            "packages/shop/lib/shop/cart.py": BUGGY,
            "packages/shop/tests/test_cart.py": TESTS,
        },
    )
    commit_all(root)
    return Place(root / "packages/shop", check=f"{PYTEST} tests/test_cart.py", around=root).at("lib/shop/cart.py")


def odd_name(tmp: Path) -> Place:
    return Place(make_project(tmp / "my café"))


def executable(tmp: Path) -> Place:
    place = Place(make_project(tmp / "app", git=False))
    (place.project / place.path).chmod(0o755)
    return place


def crlf(tmp: Path) -> Place:
    place = plain(tmp)
    (place.project / place.path).write_bytes(BUGGY.replace("\n", "\r\n").encode())
    place.before, place.after = BUGGY.replace("\n", "\r\n"), FIXED.replace("\n", "\r\n")
    return place


KINDS: dict[str, Callable[[Path], Place]] = {
    "an editable src layout": editable,
    "an npm workspace": npm_workspace,
    "a folder without git": plain,
    "a worktree": worktree,
    "a package of a monorepo": package_by_cwd,
    "a package whose tool settings lie above it": package_alone,
    "a path with a space and an accent": odd_name,
    "an executable file": executable,
    "a file with CRLF": crlf,
}


@pytest.fixture(params=["sandbox", "in_place"])
async def isolation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in_place":
        monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    elif (await probe()).kind == "none":
        pytest.skip((await probe()).reason)
    return str(request.param)


@asynccontextmanager
async def opened(place: Place, tmp: Path, *replies: str) -> AsyncIterator[Client]:
    config = make_config(place.project, tmp / "home", toml=ALLOW)
    async with client_at(config, ScriptedGateway([said(reply) for reply in replies])) as client:
        yield client


async def draft(place: Place, tmp: Path, *replies: str) -> dict[str, Any]:
    async with opened(place, tmp, *replies) as client:
        result = await client.call_tool("draft_with_cheap_model", place.job())
    assert not result.is_error, result.content
    reply: dict[str, Any] = result.structured_content
    return reply


@pytest.mark.parametrize("kind", KINDS)
async def test_only_a_right_draft_changes_it(kind: str, isolation: str, tmp_path: Path) -> None:
    place = KINDS[kind](tmp_path / "here")
    assert (place.project / place.path).read_bytes() == place.before.encode()
    untouched = footprint(place.watched)

    reply = await draft(place, tmp_path, *place.wrong)
    assert (reply["status"], reply["isolation"], reply["checks"][0]["after"]) == ("needs_work", isolation, "red"), reply
    assert reply["attempts"] == TWICE_RED
    assert footprint(place.watched) == untouched

    reply = await draft(place, tmp_path, place.right)
    assert (reply["status"], reply["isolation"]) == ("applied", isolation), reply
    changed = footprint(place.watched)
    name = str((place.project / place.path).relative_to(place.watched))
    assert changed[name][:2] == (place.after.encode(), untouched[name][1])
    assert {**changed, name: None} == {**untouched, name: None}


async def test_secrets_beside_a_package_are_hidden_from_its_checks(tmp_path: Path) -> None:
    if (await probe()).kind == "none":
        pytest.skip((await probe()).reason)
    place = package_alone(tmp_path / "here")
    secrets = ["../../.env", "../other/.env", "../../config/service.pem"]
    put(place.project, dict.fromkeys(secrets, "canary"))
    lines = "".join(f"        self.assertEqual(open({name!r}).read(), '')\n" for name in secrets)
    put(place.project, {"tests/test_cart.py": f"{TESTS}\n    def test_secrets(self):\n{lines}"})
    assert (await draft(place, tmp_path, place.right))["status"] == "applied"


# --- other changes than to one file -------------------------------------------------------------

NEW_TESTS = """import unittest

from shop.rates.vat import gross


class VatTest(unittest.TestCase):
    def test_gross(self):
        self.assertEqual(gross(100), 119)
"""


def new(path: str, text: str, old: str = "") -> str:
    return f"{path}\n```\n<<<<<<< SEARCH\n{old}=======\n{text}\n>>>>>>> REPLACE\n```\n"


async def test_a_new_file_in_a_new_folder_comes_only_when_it_is_right(isolation: str, tmp_path: Path) -> None:
    place = plain(tmp_path / "here")
    put(place.project, {"tests/test_vat.py": NEW_TESTS})
    place.check = CHECK.replace("test_cart", "test_vat")
    place.more = {"files": ["shop/rates/**"]}
    untouched = footprint(place.project)
    wrong = new("shop/rates/vat.py", "def gross(net):\n    return net + 7")
    worse = new("shop/rates/vat.py", "    return net + 8", "    return net + 7\n")
    reply = await draft(place, tmp_path, wrong, worse)
    assert (reply["status"], reply["isolation"], reply["attempts"]) == ("needs_work", isolation, TWICE_RED), reply
    assert footprint(place.project) == untouched

    text = "def gross(net):\n    return net * 119 // 100\n"
    reply = await draft(place, tmp_path, new("shop/rates/vat.py", text.strip()))
    assert reply["status"] == "applied", reply
    changed = footprint(place.project)
    assert set(changed) - set(untouched) == {"shop/rates", "shop/rates/vat.py"}
    assert changed["shop/rates/vat.py"][0] == text.encode()
    assert {name: changed[name] for name in untouched} == untouched


GONE_TESTS = """import importlib.util
import unittest

from shop.cart import total


class GoneTest(unittest.TestCase):
    def test_the_old_module_is_gone_and_the_new_one_works(self):
        self.assertIsNone(importlib.util.find_spec("shop.old"))
        self.assertEqual(total([1000, 500], discount=10), 1350)
"""
REMOVAL = "--- a/shop/old.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-def old():\n-    return 1\n"


async def test_a_file_is_removed_only_when_that_is_right(isolation: str, tmp_path: Path) -> None:
    place = plain(tmp_path / "here")
    put(place.project, {"shop/old.py": "def old():\n    return 1\n", "tests/test_gone.py": GONE_TESTS})
    (place.project / "shop/old.py").chmod(0o640)
    place.check = CHECK.replace("test_cart", "test_gone")
    place.more = {"files": ["shop/old.py", "shop/cart.py"]}
    untouched = footprint(place.project)
    reply = await draft(place, tmp_path, f"```diff\n{REMOVAL}```\n", WRONG)
    assert (reply["status"], reply["isolation"], reply["attempts"]) == ("needs_work", isolation, TWICE_RED), reply
    assert footprint(place.project) == untouched

    hunk = "@@ -6,1 +6,1 @@\n-    return sum(prices) - discount\n+    return sum(prices) * (100 - discount) // 100\n"
    change = f"--- a/shop/cart.py\n+++ b/shop/cart.py\n{hunk}"
    reply = await draft(place, tmp_path, f"```diff\n{REMOVAL}{change}```\n")
    assert reply["status"] == "applied", reply
    changed = footprint(place.project)
    assert set(untouched) - set(changed) == {"shop/old.py"}
    assert changed["shop/cart.py"][0] == FIXED.encode()


# --- what happens while a check runs ------------------------------------------------------------

HOLD = """import subprocess
import sys
import unittest

from shop.cart import total


class HoldTest(unittest.TestCase):
    def test_total(self):
        right = total([1000, 500], discount=10) == 1350
        if right:
            subprocess.run([sys.executable, "-c", "import time; time.sleep(300)", {mark!r}])
        self.assertTrue(right)
"""


@dataclass
class Held:
    """A project whose check waits for a child, once the draft is right."""

    place: Place
    mark: str
    untouched: dict[str, Any]

    def children(self) -> list[psutil.Process]:
        return [found for found in psutil.process_iter(["cmdline"]) if self.mark in (found.info["cmdline"] or [])]

    async def started(self, client: Client) -> str:
        """The id of a task whose check is waiting now."""
        result = await client.call_tool("draft_with_cheap_model", self.place.job() | {"wait_s": 0})
        assert result.structured_content is not None, result.content
        assert await comes_true(self.children, 30)
        return str(result.structured_content["task_id"])

    def let_go(self) -> None:
        for child in self.children():
            child.kill()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    place, mark = plain(tmp_path / "here"), f"held-by {tmp_path}"
    put(place.project, {"tests/test_hold.py": HOLD.format(mark=mark)})
    place.check = CHECK.replace("test_cart", "test_hold")
    found = Held(place, mark, footprint(place.project))
    yield found
    found.let_go()


async def ask(client: Client, task_id: str, **more: Any) -> dict[str, Any]:
    result = await client.call_tool("get_task", {"task_id": task_id, **more})
    assert result.structured_content is not None, result.content
    reply: dict[str, Any] = result.structured_content
    return reply


async def test_a_cancel_in_the_middle_of_a_check_leaves_every_byte(isolation: str, held: Held, tmp_path: Path) -> None:
    async with opened(held.place, tmp_path, RIGHT) as client:
        task_id = await held.started(client)
        during = (held.place.project / held.place.path).read_text()
        assert during == (FIXED if isolation == "in_place" else BUGGY)
        reply = await ask(client, task_id, cancel=True)
    assert reply["state"] == "cancelled", reply
    assert footprint(held.place.project) == held.untouched
    assert not held.children()


async def test_a_file_changed_by_somebody_else_meanwhile_stays_theirs(
    isolation: str, held: Held, tmp_path: Path
) -> None:
    theirs = BUGGY + "\n# Somebody else was here.\n"
    async with opened(held.place, tmp_path, RIGHT) as client:
        task_id = await held.started(client)
        (held.place.project / held.place.path).write_text(theirs)
        held.let_go()
        reply = await ask(client, task_id, wait_s=60)
    assert (reply["status"], reply["isolation"]) == ("conflict", isolation), reply
    left = footprint(held.place.project)
    assert left[held.place.path][0] == theirs.encode()
    assert {**left, held.place.path: None} == {**held.untouched, held.place.path: None}


async def test_a_test_changed_by_somebody_else_meanwhile_proves_nothing_in_place(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    test = held.place.project / "tests/test_hold.py"
    async with opened(held.place, tmp_path, RIGHT, "QUESTION: May I?") as client:
        task_id = await held.started(client)
        test.write_text(test.read_text() + "\n# Somebody else was here.\n")
        held.let_go()
        reply = await ask(client, task_id, wait_s=60)
    assert reply["status"] == "question", reply
    assert "red" in reply["attempts"][0]
    left = footprint(held.place.project)
    assert {**left, "tests/test_hold.py": None} == {**held.untouched, "tests/test_hold.py": None}
