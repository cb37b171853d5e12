"""The tools' work from a shell: the real program, a real project, and a provider on loopback that is asked once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.demo_upstream import Reply, Upstream
from tests.support import BUGGY, CHECK, FIXED, RIGHT, commit_all, make_env, make_project, run_git

ROOT = Path(__file__).parent.parent
REST = "".join(f"\n\ndef price_of_{n}(count: int) -> int:\n    return {n} * count\n" for n in range(50))
"""What makes the file long enough to be worth handing over."""
TASK = "total() must take the discount as a percentage."
JOB = (TASK, "-f", "shop/cart.py", "-k", CHECK)


@dataclass
class Shell:
    """A user at a prompt in one project."""

    project: Path
    env: dict[str, str]
    upstream: Upstream

    def tierkit(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mcp_tierkit", *args, "--project", str(self.project)]
        env = self.env | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=self.project, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    def told(self, *args: str, code: int = 0) -> dict[str, Any]:
        done = self.tierkit(*args, "--json")
        assert (done.returncode, done.stderr) == (code, ""), done
        record: dict[str, Any] = json.loads(done.stdout)
        return record

    @property
    def cart(self) -> str:
        return (self.project / "shop/cart.py").read_text()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Upstream([Reply(text=RIGHT, model="tiny-cheap")]) as upstream:
        env = make_env(tmp_path / "home", url=upstream.base_url)
        project = make_project(tmp_path / "app", git=False)
        (project / "shop/cart.py").write_text(BUGGY + REST)
        commit_all(project)
        yield Shell(project, env, upstream)


def test_a_task_goes_from_plan_to_draft_to_undo(shell: Shell) -> None:
    plan = shell.told("plan", *JOB)
    assert (plan["decision"], plan["tier"]) == ("single_cheap", "cheap")
    assert list(plan)[:: len(plan) - 1] == ["summary", "next"]
    task_id = plan["task_id"]
    assert shell.told("task", task_id)["state"] == "open"

    done = shell.tierkit("draft", task_id)
    assert (done.returncode, done.stderr) == (0, "")
    shown = dict(line.split(": ", 1) for line in done.stdout.splitlines() if re.match(r"[a-z_]+: ", line))
    assert (shown["task_id"], shown["status"], shown["proof"]) == (task_id, "applied", "turns_green")
    assert "  role: turns_green\n  before: red\n  after: green\n" in done.stdout
    assert re.search(r"^  measured: model calls \$0\.\d+, [\d,]+ tokens in, [\d,]+ out$", done.stdout, re.M)
    assert re.search(r"^  net: -?\$\d+\.\d{4} to -?\$\d+\.\d{4}$", done.stdout, re.M)
    assert shell.cart == FIXED + REST
    assert len(shell.upstream.asked) == 1

    again = shell.told("task", task_id)
    assert (again["state"], again["status"], again["summary"]) == ("done", "applied", shown["summary"])

    refused = shell.tierkit("draft", task_id)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "No model was called." in refused.stderr

    undone = shell.told("undo", task_id)
    assert (undone["outcome"], undone["restored"]) == ("reverted", ["shop/cart.py"])
    assert shell.cart == BUGGY + REST
    assert run_git(shell.project, "status", "--porcelain") == ""
    assert shell.tierkit("undo", task_id).returncode != 0
    assert len(shell.upstream.asked) == 1


def test_a_review_that_a_rule_decides_is_a_finding_and_asks_no_model(shell: Shell) -> None:
    marked = f"<<<<<<< HEAD\n{BUGGY}=======\n>>>>>>> other\n"
    (shell.project / "shop/cart.py").write_text(marked)
    told = shell.told("review", code=1)
    assert (told["verdict"], told["findings"][0]["file"]) == ("blocked", "shop/cart.py")
    run_git(shell.project, "add", "-A")
    assert shell.told("review", "staged", code=1)["verdict"] == "blocked"
    assert shell.upstream.asked == ()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("plan", "Fix the OAuth login", "-f", "shop/cart.py", "-k", CHECK), 1, "do_it_yourself"),
        (("plan", TASK, "-f", "../cart.py"), 2, "climbs"),
        (("draft", "Fix the OAuth login", "-f", "shop/cart.py", "-k", CHECK), 3, "security"),
        (("draft", TASK, "-f", "tests/test_cart.py", "-k", CHECK), 3, "read-only"),
        (("draft", TASK, "-f", "shop/cart.py", "-k", "no-such-command"), 1, "unrunnable"),
        (("review", "no-such-branch..HEAD"), 2, "no such diff"),
        (("task", "t000000000000"), 2, "No task has id"),
    ],
)
def test_what_is_refused_or_found_has_its_own_exit_code(shell: Shell, args: list[str], code: int, said: str) -> None:
    done = shell.tierkit(*args)
    assert done.returncode == code, done
    assert said in (done.stdout if code == 1 else done.stderr)
    assert "Traceback" not in done.stderr
    assert shell.cart == BUGGY + REST
    assert shell.upstream.asked == ()


def test_without_a_model_a_draft_says_in_three_sentences_what_to_set(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "home/tierkit.toml").write_text('[tiers.cheap]\nmodels = ["openai/x"]\n')
    done = shell.tierkit("draft", *JOB)
    assert (done.returncode, done.stdout) == (1, "")
    assert "OPENAI_API_KEY is not set. No model was called and nothing was spent. Set one of" in done.stderr


def test_a_demo_is_kept_in_a_new_folder_only(shell: Shell) -> None:
    command = [sys.executable, "-m", "mcp_tierkit", "demo", "--keep", str(shell.project)]
    done = subprocess.run(command, cwd=ROOT, env=shell.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not an empty folder. Nothing was written." in done.stderr
    assert run_git(shell.project, "status", "--porcelain") == ""


def test_a_route_needs_no_project_and_leaves_no_trace(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mcp_tierkit", "route", TASK, "-f", "a.py", "-k", "pytest", "--json"]
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["decision"]) == (0, "single_cheap")
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_a_budget_refuses_ends_with_the_code_of_a_refusal(shell: Shell) -> None:
    shell.env["TIERKIT_BUDGET_TASK_USD"] = "0.000001"
    done = shell.tierkit("draft", *JOB)
    assert done.returncode == 3
    assert "status: over_budget" in done.stdout.splitlines()
    assert not shell.upstream.asked
