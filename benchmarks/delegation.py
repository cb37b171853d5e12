"""One delegated edit from end to end over MCP: a fresh repository, scripted words of a model, everything else real."""

from __future__ import annotations

import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import Implementation, TextContent

from mcp_tierkit.config import load_config
from mcp_tierkit.demo_upstream import Asked, Reply, Tokens, Upstream
from mcp_tierkit.ledger.sqlite import open_ledger
from mcp_tierkit.server import build_server
from mcp_tierkit.tokens import count
from mcp_tierkit.types import Draft
from tests.support import commit_all, desk_at

Form = Literal["search/replace", "unified diff", "whole file"]
Door = Literal["memory", "stdio"]
Ends = Literal["at once", "repaired", "red"]
FORMS: tuple[Form, ...] = ("search/replace", "unified diff", "whole file")
TOOL = "draft_with_cheap_model"
TEXT = "INSTRUCTIONS.md"
DRAFTER = "gpt-5.4-nano"
CALLER = "claude-opus-5-5"
CLIENT = Implementation(name="claude-code", version="2.1.330")
"""Whose replies are counted; it lets a call take minutes, so that one round is enough on a machine under load."""

SETTINGS = f"""[caller]
model = "{CALLER}"
[tiers.cheap]
models = ["openai/{DRAFTER}"]
base_url = "{{url}}"
"""


@dataclass(frozen=True)
class Exercise:
    """A file to write or change, the text that says what is wanted, and the tests that tell when it is done."""

    name: str
    path: str
    stub: str
    example: str
    tests: dict[str, str]
    text: str
    task: str
    runner: str = "pytest -q"

    @property
    def check(self) -> str:
        return f"{self.runner} {' '.join(self.tests)}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What a caller writes who keeps every text on disk where it is."""
        return {"task": self.task, "files": [self.path], "context": [TEXT], "checks": [self.check]}


@dataclass(frozen=True)
class Paid:
    """One call to the drafting model, as the ledger has it."""

    stage: str
    input_tokens: int
    output_tokens: int
    cost_nanousd: int


@dataclass(frozen=True)
class Run:
    """How one delegated edit went.

    `rounds` are the caller's: a second one where the first ended before the draft did.
    `again` is the exit code of the tests, run once more without us.
    """

    exercise: str
    form: Form
    ends: Ends
    arguments: dict[str, Any]
    reply: dict[str, Any]
    rounds: int
    attempts: tuple[str, ...]
    before: str
    after: str
    paid: tuple[Paid, ...]
    is_example: bool
    again: int
    seconds: float

    @property
    def status(self) -> str:
        return str(self.reply["status"])

    @property
    def is_as_scripted(self) -> bool:
        """Proven where the example came, untouched where it did not; never a red or an unproven file in the tree."""
        if self.before != "red":
            return False
        if self.ends == "red":
            return self.status == "needs_work" and set(self.attempts) == {"red"} and self.again != 0
        attempts = ("green",) if self.ends == "at once" else ("red", "green")
        proven = self.status == "applied" and self.after == "green" and self.again == 0
        return proven and self.is_example and self.attempts == attempts


def answer(form: Form, path: str, old: str, new: str) -> str:
    """A model's reply that turns `old` into `new`, in one of the three formats models write."""
    if form == "whole file":
        return f"{path}\n```python\n{new}{_newline(new)}```\n"
    if form == "unified diff":
        lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{path}", f"b/{path}")
        shown = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
        return f"```diff\n{shown}```\n"
    return "\n".join(_block(path, *pair) for pair in pairs(old, new))


def _newline(text: str) -> str:
    return "" if text.endswith("\n") else "\n"


def _block(path: str, old: str, new: str) -> str:
    parts = [f"{text}{_newline(text)}" if text else "" for text in (old, new)]
    return f"{path}\n```python\n<<<<<<< SEARCH\n{parts[0]}=======\n{parts[1]}>>>>>>> REPLACE\n```\n"


def pairs(old: str, new: str) -> list[tuple[str, str]]:
    """Old and new lines of each change, with as many lines around it as make the old ones unique."""
    before, after = old.splitlines(True), new.splitlines(True)
    for around in range(1, len(before) + 1):
        groups = difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(around)
        spans = [(group[0][1], group[-1][2], group[0][3], group[-1][4]) for group in groups]
        pairs = [("".join(before[a:b]), "".join(after[c:d])) for a, b, c, d in spans]
        if all(_times(before, before[a:b]) == 1 for a, b, _, _ in spans):
            return pairs
    return [(old, new)]


def _times(lines: list[str], part: list[str]) -> int:
    return sum(lines[at : at + len(part)] == part for at in range(len(lines) - len(part) + 1))


def spoiled(text: str, how_many: int = 1) -> str:
    """The text with its first returns giving None, as a hasty draft may; the same text where it has too few."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Return) and node.value is not None]
    found.sort(key=lambda node: (node.lineno, node.col_offset))
    for node in reversed(found[:how_many]):
        text = _without_value(text, node)
    return text


def _without_value(text: str, node: ast.Return) -> str:
    source = ast.get_source_segment(text, node)
    lines = text.splitlines(True)
    start = len("".join(lines[: node.lineno - 1])) + len(lines[node.lineno - 1].encode()[: node.col_offset].decode())
    assert source is not None
    return f"{text[:start]}return None{text[start + len(source) :]}"


def script(exercise: Exercise, form: Form, ends: Ends) -> list[str]:
    """The drafter's replies in turn. A reply after a wrong one is an edit of the wrong one."""
    right = exercise.example
    texts = {
        "at once": [right],
        "repaired": [spoiled(right), right],
        "red": [spoiled(right), f"{spoiled(right, 2)}\n# Reviewed.\n"],
    }[ends]
    olds = [exercise.stub, *texts]
    return [answer(form, exercise.path, old, new) for old, new in zip(olds, texts, strict=False)]


def play(exercise: Exercise, form: Form, ends: Ends, door: Door = "memory") -> Run:
    """Have the exercise done in a folder of its own, which is gone afterwards."""
    with _own_python(), tempfile.TemporaryDirectory(prefix="tierkit-") as folder:
        return anyio.run(partial(_play, Path(folder).resolve(), exercise, form, ends, door))


@contextmanager
def _own_python() -> Iterator[None]:
    """The Python that runs this comes first, as where a project's environment is switched on."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


async def _play(folder: Path, exercise: Exercise, form: Form, ends: Ends, door: Door) -> Run:
    project, arguments = folder / exercise.name, exercise.arguments
    _write(project, exercise)
    started = time.perf_counter()
    with Upstream(_counted(script(exercise, form, ends)), keeps_text=True) as upstream:
        env = _env(folder / "home", upstream.base_url)
        async with _client(project, env, door) as client:
            reply, rounds = await _delegate(client, arguments)
    seconds = time.perf_counter() - started
    draft, paid = await _recorded(env, reply)
    return Run(
        exercise=exercise.name, form=form, ends=ends, arguments=arguments, reply=reply, rounds=rounds,
        attempts=tuple(attempt.outcome for attempt in draft.attempts) if draft else (),
        before=draft.checks[0].before if draft else "unknown",
        after=draft.checks[0].after if draft else "unknown",
        paid=paid,
        is_example=(project / exercise.path).read_text("utf8") == exercise.example,
        again=_tests(project, exercise), seconds=seconds,
    )  # fmt: skip


async def _recorded(env: dict[str, str], reply: dict[str, Any]) -> tuple[Draft | None, tuple[Paid, ...]]:
    """The draft and its calls as the ledger has them, read after the server has gone; None where it refused."""
    if "task_id" not in reply:
        return None, ()
    ledger = open_ledger(env["TIERKIT_LEDGER"], state_dir=Path(env["TIERKIT_STATE_DIR"]))
    [draft] = await ledger.drafts(reply["task_id"])
    rows = await ledger.calls(reply["task_id"])
    await ledger.close()
    paid = [Paid(row.stage, row.input_tokens or 0, row.output_tokens or 0, row.cost_nanousd or 0) for row in rows]
    return draft, tuple(paid)


def _write(project: Path, exercise: Exercise) -> None:
    for name, text in {exercise.path: exercise.stub, TEXT: exercise.text, **exercise.tests}.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf8")
    commit_all(project)


def _env(home: Path, url: str) -> dict[str, str]:
    home.mkdir()
    (home / "tierkit.toml").write_text(SETTINGS.format(url=url))
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "TIERKIT_CONFIG": str(home / "tierkit.toml"),
        "TIERKIT_STATE_DIR": str(home / "state"),
        "TIERKIT_LEDGER": f"sqlite:///{home}/ledger.db",
    }


def _counted(replies: Sequence[str]) -> Callable[[Asked], Reply]:
    """The replies in turn, each with the o200k tokens of what was asked and said as its usage; nothing is cached."""
    left = iter(replies)

    def next_reply(asked: Asked) -> Reply:
        text = next(left)
        sent = sum(count(message["content"]).tokens for message in (asked.body or {})["messages"])
        return Reply(text=text, model=DRAFTER, tokens=Tokens(fresh=sent, output=count(text).tokens))

    return next_reply


@asynccontextmanager
async def _client(project: Path, env: dict[str, str], door: Door) -> AsyncIterator[Client]:
    if door == "memory":
        async with desk_at(load_config(project=str(project), env=env)) as desk:
            async with Client(build_server(desk), client_info=CLIENT) as client:
                yield client
        return
    args = ["-m", "mcp_tierkit", "serve", "--project", str(project)]
    server = StdioServerParameters(command=sys.executable, args=args, env=env)
    async with Client(server, client_info=CLIENT) as client:
        yield client


async def _delegate(client: Client, arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The last reply and the rounds it took the caller: more than one where it had to ask again."""
    reply, rounds = await _ask(client, TOOL, arguments), 1
    while reply["status"] == "running":
        reply, rounds = await _ask(client, "get_task", {"task_id": reply["task_id"]}), rounds + 1
    return reply, rounds


async def _ask(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    if result.is_error or json.loads(block.text) != result.structured_content:
        return {"status": "refused", "summary": block.text}
    reply: dict[str, Any] = result.structured_content
    return reply


def _tests(project: Path, exercise: Exercise) -> int:
    """The exit code of the exercise's tests where the change was left, run without us."""
    for cache in project.rglob("__pycache__"):
        shutil.rmtree(cache)
    return subprocess.run(exercise.check.split(), cwd=project, capture_output=True, check=False, timeout=120).returncode


def play_all(jobs: Iterable[tuple[Exercise, Form, Ends]], told: Callable[[int, int, Run], None]) -> list[Run]:
    """All runs, one process a core, in the order of `jobs`; `told` hears of each as it ends: how many of how many."""
    wanted = list(jobs)
    found: dict[int, Run] = {}
    # Spawned: a fork would copy the threads of the upstream of a test that runs this.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(play, *job): number for number, job in enumerate(wanted)}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            told(len(found), len(wanted), done.result())
    return [found[number] for number in range(len(wanted))]
