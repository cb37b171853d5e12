"""The command line: help, exit codes, and the small commands that stand alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from mcp_tierkit.cli import COMMANDS, main, run
from mcp_tierkit.entry import command_line, serves_stdio
from mcp_tierkit.errors import InvalidInput, NoModel, TierkitError, Untrusted
from tests.support import make_env

ROOT = Path(__file__).parent.parent
PRESENT = [name for name, (place, _) in COMMANDS.items() if find_spec(place.partition(":")[0])]


def commands() -> list[tuple[str, click.Command]]:
    """Every command and sub-command by its whole name."""
    found: list[tuple[str, click.Command]] = []
    queue = [(name, main.get_command(click.Context(main), name)) for name in PRESENT]
    while queue:
        name, command = queue.pop(0)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            queue += [(f"{name} {sub}", inner) for sub, inner in command.commands.items()]
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: None) -> Path:
    """A project, as seen by a user with an empty home and an empty path."""
    for folder in ("home", "shop"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


# --- help


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f"  {name} " not in shown] == []


@pytest.mark.parametrize(("name", "command"), commands())
def test_every_command_shows_an_example(name: str, command: click.Command) -> None:
    context = click.Context(command, info_name=name)
    assert re.search(rf"Example:\n\s+(\S+=\S+ )?tierkit {name}\b", command.get_help(context))


# --- exit codes


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (NoModel("No model is set. Nothing was spent.", next_step="Set a key."), 1),
        (InvalidInput("The path is wrong. Nothing was read.", next_step="Mend it."), 2),
        (Untrusted("Not trusted. Nothing was run.", next_step="Trust it."), 3),
    ],
)
def test_a_refusal_is_three_sentences_on_stderr_and_its_own_exit_code(
    refusal: TierkitError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def refuse() -> None:
        raise refusal

    monkeypatch.setattr(main, "get_command", lambda ctx, name: refuse)
    assert run(["plan"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{refusal}\n")


@pytest.mark.parametrize("line", ["nonsense", "prices --nonsense", "edits apply", "init --client x"])
def test_wrong_usage_is_exit_code_two(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    assert "Usage:" in capsys.readouterr().err


def test_an_exit_code_that_a_command_chose_is_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prices", "no-such-vendor/no-such-model"]) == 1
    assert "unknown" in capsys.readouterr().out


# --- the console script


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/x/mcp-tierkit"], ("mcp-tierkit", ["serve"])),
        (["/x/mcp-tierkit", "--project", "."], ("mcp-tierkit", ["serve", "--project", "."])),
        (["/x/mcp-tierkit.exe", "--http"], ("mcp-tierkit", ["serve", "--http"])),
        (["/x/mcp-tierkit", "--help"], ("mcp-tierkit", ["--help"])),
        (["/x/mcp-tierkit", "init"], ("mcp-tierkit", ["init"])),
        (["/x/tierkit"], ("tierkit", [])),
        (["/x/mcp_tierkit/__main__.py"], ("mcp-tierkit", ["serve"])),
    ],
)
def test_the_servers_name_alone_serves(argv: list[str], expected: tuple[str, list[str]]) -> None:
    assert command_line(argv) == expected


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["serve"], True),
        (["serve", "--project", "x"], True),
        (["serve", "--http"], False),
        (["serve", "--help"], False),
        (["init"], False),
        ([], False),
    ],
)
def test_stdout_is_claimed_only_to_serve_stdio(args: list[str], expected: bool) -> None:
    assert serves_stdio(args) is expected


def python(code: str) -> subprocess.CompletedProcess[str]:
    script = f"import os, sys, subprocess\nfrom mcp_tierkit.entry import claim_stdout\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)


def test_prints_of_ours_and_of_children_miss_the_claimed_stdout() -> None:
    done = python(
        "wire = claim_stdout()\n"
        "print('ours', flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'print(\"child\")'])\n"
        "os.write(wire, b'protocol')\n"
    )
    assert (done.returncode, done.stdout) == (0, "protocol")
    assert {"ours", "child"} <= set(done.stderr.split())


def test_stdout_is_claimed_even_where_other_descriptors_are_closed() -> None:
    done = python(
        "os.close(0); os.close(2)\nwire = claim_stdout()\nprint('lost', flush=True)\nos.write(wire, b'%d' % wire)"
    )
    assert int(done.stdout) > 2


@pytest.mark.parametrize(
    "code",
    [
        "sys.modules['litellm'] = sys\nsys.argv = ['tierkit', '--version']\nmain()",
        f"sys.argv = ['mcp-tierkit', 'serve', '--project', {str(ROOT)!r}]\nmain()",
    ],
    ids=["a command", "the server"],
)
def test_without_a_stderr_the_end_is_as_good_as_with_one(tmp_path: Path, code: str) -> None:
    script = f"import sys\nfrom mcp_tierkit.entry import main\n{code}"
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", script], stdin=subprocess.DEVNULL,
        env=os.environ | make_env(tmp_path / "home"), cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0


STRAY = """
import atexit, sys, threading
from mcp_tierkit import entry

secure = entry.claim_stdout

def claim():
    wire = secure()
    print("stray before", flush=True)
    atexit.register(print, "stray at exit")  # The server leaves without these; on stdout it would be seen.
    threading.Thread(target=lambda: [print("stray", number, flush=True) for number in range(200)]).start()
    return wire

entry.claim_stdout = claim
sys.argv = ["mcp-tierkit", "--project", sys.argv[1]]
entry.main()
"""
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


def test_stdout_of_the_server_holds_the_protocol_and_nothing_else(project: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STRAY, str(project)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(HELLO) + "\n")
        process.stdin.flush()
        first = process.stdout.readline()
        rest, errors = process.communicate(timeout=60)
    assert json.loads(first)["id"] == 1
    assert (process.returncode, rest) == (0, "")
    assert {"stray before", "stray 199"} <= set(errors.splitlines())


# --- init


def test_init_sets_up_a_client_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--client", "claude-code"]) == 0
    assert '+    "tierkit": {' in capsys.readouterr().out
    written = (project / ".mcp.json").read_bytes()
    assert run(["init", "--client", "claude-code"]) == 0
    assert "Already there" in capsys.readouterr().out
    assert (project / ".mcp.json").read_bytes() == written


def test_a_dry_run_shows_the_change_and_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--client", "codex", "--dry-run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["state"], record["written"], record["backup"]) == ("added", False, None)
    assert "+[mcp_servers.tierkit]" in record["diff"]
    assert not (project.parent / "home/.codex").exists()


def test_a_secret_beside_the_change_is_not_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "sk-ant-api03-" + "aB3dE6gH9" * 10
    (project / ".mcp.json").write_text(json.dumps({"mcpServers": {"x": {"env": {"K": key}}}}, indent=2))
    assert run(["init", "--client", "claude-code"]) == 0
    assert key not in capsys.readouterr().out
    assert key in (project / ".mcp.json").read_text()


def test_init_refuses_a_broken_file_with_exit_code_two(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".mcp.json").write_text("{")
    assert run(["init", "--client", "claude-code"]) == 2
    assert (project / ".mcp.json").read_text() == "{"
    assert "not touched" in capsys.readouterr().err


def test_init_alone_lists_clients_checks_and_a_first_task(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project.parent / "home/.claude").mkdir()
    (project / "conftest.py").touch()
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/pytest").symlink_to(sys.executable)
    assert run(["init", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["clients"] == [{"client": "claude-code", "title": "Claude Code", "state": "absent"}]
    assert record["checks"] == ["pytest"]
    assert run(["init"]) == 0
    shown = capsys.readouterr().out
    assert "tierkit init --client claude-code" in shown
    assert 'allow = ["pytest"]' in shown
    assert "first task" in shown
    assert sorted(path.name for path in project.iterdir()) == [".venv", "conftest.py"]


@pytest.mark.parametrize("name", ["cursor", "vscode", "opencode", "gemini", "other"])
def test_other_clients_get_an_entry_to_paste(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--client", name]) == 0
    shown = capsys.readouterr().out
    assert str(project) in shown
    json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    assert list(project.iterdir()) == []


# --- prices


def test_prices_name_their_source_and_age(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prices", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert [row["model"] for row in rows if not (row["source"] and row["age_days"] is not None)] == []


def test_a_price_the_user_gave_comes_first(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project.parent / "home/.config/tierkit"
    folder.mkdir(parents=True)
    (folder / "tierkit.toml").write_text(
        '[tiers.cheap]\nmodels = ["openai/mine"]\nprice = { input = "1.5", output = "2" }\n'
    )
    assert run(["prices", "openai/mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["input"] == "1.5"


@pytest.mark.parametrize(("said", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_colours_unless_it_says_no(project: Path, said: dict[str, str], is_coloured: bool) -> None:
    ours, theirs = os.openpty()
    env = {**os.environ, "TERM": "xterm", "NO_COLOR": "", "PYTHONPATH": str(ROOT), **said}
    with subprocess.Popen(
        [sys.executable, "-m", "mcp_tierkit", "doctor"], cwd=project, env=env, stdin=theirs, stdout=theirs,
    ):  # fmt: skip
        os.close(theirs)
        text = b""
        with suppress(OSError):  # What reading ends with once the other side is closed.
            while read := os.read(ours, 65536):
                text += read
    os.close(ours)
    assert b"project" in text
    assert (b"\x1b[" in text) is is_coloured
