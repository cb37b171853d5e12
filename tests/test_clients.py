"""Merging the server into clients' configuration files."""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.clients import Change, clients, entry_of, find_clients, install, places, prepare, snippet
from mcp_tierkit.clients.launch import Launch, find_launch
from mcp_tierkit.clients.merge import merge
from mcp_tierkit.clients.offers import Checks, find_checks, first_task
from mcp_tierkit.errors import Conflict, InvalidInput

WRITTEN = ("claude-code", "claude-desktop", "codex")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def launch_for(project: Path, command: str = "/opt/env/bin/mcp-tierkit") -> Launch:
    return Launch(command=command, args=("serve", "--project", str(project)))


def set_up(name: str, project: Path, home: dict[str, str], launch: Launch | None = None) -> Change:
    return prepare(clients()[name], launch or launch_for(project), project, home)


def file_of(name: str, project: Path, home: dict[str, str], text: str) -> Path:
    file = Path(clients()[name].file.format_map(places(project, home)))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


# --- what is written


def test_claude_code_gets_a_stdio_entry_in_the_project(project: Path, home: dict[str, str]) -> None:
    change = set_up("claude-code", project, home)
    assert install(change) is None
    assert change.state == "added"
    assert json.loads((project / ".mcp.json").read_text()) == {
        "mcpServers": {
            "tierkit": {
                "type": "stdio",
                "command": "/opt/env/bin/mcp-tierkit",
                "args": ["serve", "--project", str(project)],
            }
        }
    }


def test_claude_desktop_gets_the_path_it_starts_without(project: Path, home: dict[str, str]) -> None:
    change = set_up("claude-desktop", project, home)
    install(change)
    assert change.file == Path(home["HOME"], ".config/Claude/claude_desktop_config.json")
    assert json.loads(change.file.read_text())["mcpServers"]["tierkit"]["env"] == {"PATH": "/usr/bin"}


def test_another_shells_path_is_no_reason_to_write_again(project: Path, home: dict[str, str]) -> None:
    install(set_up("claude-desktop", project, home))
    assert set_up("claude-desktop", project, home | {"PATH": "/opt/x"}).state == "already_there"


def test_codex_gets_a_table_and_the_names_of_keys_but_no_key(project: Path, home: dict[str, str]) -> None:
    launch = launch_for(project).model_copy(update={"keys": ("OPENROUTER_API_KEY",)})
    change = set_up("codex", project, home | {"OPENROUTER_API_KEY": "sk-or-secret"}, launch)
    install(change)
    assert tomllib.loads(change.file.read_text())["mcp_servers"]["tierkit"] == {
        "command": "/opt/env/bin/mcp-tierkit",
        "args": ["serve", "--project", str(project)],
        "env_vars": ["OPENROUTER_API_KEY"],
    }


@pytest.mark.parametrize("name", WRITTEN)
def test_a_second_run_writes_nothing(name: str, project: Path, home: dict[str, str]) -> None:
    first = set_up(name, project, home)
    install(first)
    before = first.file.stat()
    again = set_up(name, project, home)
    assert (again.state, again.diff, install(again)) == ("already_there", "", None)
    after = first.file.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert [path.name for path in first.file.parent.iterdir()] == [first.file.name]


def test_every_other_byte_of_a_json_file_stays(project: Path, home: dict[str, str]) -> None:
    text = '{\n\t"limit": 1.10,\n\t"mcpServers": {"other": {"command": "x", "args": ["caf\\u00e9"]}},\n\t"z": [1,2]\n}'
    file = file_of("claude-code", project, home, text)
    install(set_up("claude-code", project, home))
    added = file.read_text()
    at = text.index("}},") + 1
    assert added.startswith(text[:at])
    assert added.endswith(text[at:])


def test_comments_and_order_of_a_toml_file_stay(project: Path, home: dict[str, str]) -> None:
    text = '# mine\nmodel = "m"  # why\n\n[mcp_servers.docs]\ncommand = "npx"\n\n[profiles.fast]\nmodel = "n"\n'
    file = file_of("codex", project, home, text)
    install(set_up("codex", project, home))
    kept = [line for line in file.read_text().splitlines() if line in text.splitlines()]
    assert kept[: len(text.splitlines())] == text.splitlines()
    assert set(tomllib.loads(file.read_text())["mcp_servers"]) == {"docs", "tierkit"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        '[mcp_servers]\ndocs = { command = "npx" }\n',
        'mcp_servers = { docs = { command = "npx" } }\n',
        'mcp_servers.docs.command = "npx"\n',
        '[mcp_servers.docs]\ncommand = "npx"\n[model]\na = 1\n[mcp_servers.web]\ncommand = "y"\n',
        '[mcp_servers.tierkit]\ncommand = "/old/mcp-tierkit"\n[mcp_servers.tierkit.env]\nA = "1"\n',
    ],
)
def test_each_way_of_writing_toml_tables_is_merged(text: str, project: Path, home: dict[str, str]) -> None:
    file = file_of("codex", project, home, text)
    install(set_up("codex", project, home))
    servers = tomllib.loads(file.read_text())["mcp_servers"]
    assert servers["tierkit"]["command"] == "/opt/env/bin/mcp-tierkit"
    assert set_up("codex", project, home).state == "already_there"


def test_line_ends_and_byte_order_mark_stay(project: Path, home: dict[str, str]) -> None:
    file = file_of("claude-code", project, home, "")
    file.write_bytes(b'\xef\xbb\xbf{\r\n  "mcpServers": {}\r\n}\r\n')
    install(set_up("claude-code", project, home))
    data = file.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf{\r\n")
    assert data.count(b"\n") == data.count(b"\r\n")


def test_a_moved_installation_is_updated_and_settings_added_by_hand_stay(project: Path, home: dict[str, str]) -> None:
    install(set_up("claude-code", project, home, launch_for(project, "/old/bin/mcp-tierkit")))
    file = project / ".mcp.json"
    document = json.loads(file.read_text())
    document["mcpServers"]["tierkit"] |= {"timeout": 600000, "env": {"A": "1"}}
    file.write_text(json.dumps(document))
    change = set_up("claude-code", project, home)
    install(change)
    server = json.loads(file.read_text())["mcpServers"]["tierkit"]
    assert change.state == "updated"
    assert (server["command"], server["timeout"], server["env"]) == ("/opt/env/bin/mcp-tierkit", 600000, {"A": "1"})


def test_a_second_project_gets_its_own_entry_in_a_shared_file(tmp_path: Path, home: dict[str, str]) -> None:
    names = []
    for folder in ("a/shop", "b/My Shop!", "c/shop", "d/shop"):
        project = tmp_path / folder
        project.mkdir(parents=True)
        change = set_up("claude-desktop", project, home)
        install(change)
        names.append(change.entry)
        assert set_up("claude-desktop", project, home).state == "already_there"
    assert names[:3] == ["tierkit", "tierkit-my-shop", "tierkit-shop"]
    assert names[3].startswith("tierkit-shop-")


def test_a_server_of_somebody_else_under_our_name_is_left_alone(project: Path, home: dict[str, str]) -> None:
    other = {"command": "npx", "args": ["-y", "server-filesystem", "/home/me/mcp-tierkit"]}
    file_of("claude-code", project, home, json.dumps({"mcpServers": {"tierkit": other}}))
    change = set_up("claude-code", project, home)
    install(change)
    assert json.loads(change.file.read_text())["mcpServers"]["tierkit"] == other
    assert change.entry == "tierkit-shop"


@pytest.mark.parametrize("server", [3, [], {"command": 5, "args": "x"}, {"command": "mcp-tierkit", "env": []}])
def test_a_misshapen_entry_does_no_harm(server: object, project: Path, home: dict[str, str]) -> None:
    file_of("claude-code", project, home, json.dumps({"mcpServers": {"tierkit": server}}))
    change = set_up("claude-code", project, home)
    install(change)
    assert json.loads(change.file.read_text())["mcpServers"][change.entry]["command"] == "/opt/env/bin/mcp-tierkit"


def test_an_entry_renamed_by_hand_is_found_again(project: Path, home: dict[str, str]) -> None:
    install(set_up("claude-code", project, home))
    file = project / ".mcp.json"
    file.write_text(file.read_text().replace('"tierkit"', '"hands"'))
    assert set_up("claude-code", project, home).state == "already_there"


# --- what is refused, and what is kept


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "// no\n{}", "\x00", '{"a": 1, "a": 2}', '{"mcpServers": []}', '{"x": {"y": {"b": 1, "b": 1}}}'],
)
def test_a_broken_json_file_is_refused_untouched(text: str, project: Path, home: dict[str, str]) -> None:
    file = file_of("claude-code", project, home, text)
    with pytest.raises(InvalidInput, match="not touched"):
        set_up("claude-code", project, home)
    assert file.read_text() == text


@pytest.mark.parametrize("text", ["a =", "[a]\n[a]\n", 'mcp_servers = "x"\n', "\x00"])
def test_a_broken_toml_file_is_refused_untouched(text: str, project: Path, home: dict[str, str]) -> None:
    file = file_of("codex", project, home, text)
    with pytest.raises(InvalidInput, match="not touched"):
        set_up("codex", project, home)
    assert file.read_text() == text


def test_a_file_that_is_no_text_is_refused(project: Path, home: dict[str, str]) -> None:
    file_of("codex", project, home, "").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        set_up("codex", project, home)


def test_a_link_in_the_project_is_refused_and_one_in_the_home_is_followed(project: Path, home: dict[str, str]) -> None:
    (project / "victim.json").write_text("{}")
    (project / ".mcp.json").symlink_to(project / "victim.json")
    with pytest.raises(InvalidInput, match="link"):
        set_up("claude-code", project, home)
    (project / "elsewhere").mkdir()
    (project / ".codex").symlink_to(project / "elsewhere")
    with pytest.raises(InvalidInput, match="link"):
        set_up("codex", project, home)
    dotfiles = Path(home["HOME"], "dotfiles.json")
    dotfiles.write_text("{}")
    link = file_of("claude-desktop", project, home, "")
    link.unlink()
    link.symlink_to(dotfiles)
    install(set_up("claude-desktop", project, home))
    assert link.is_symlink()
    assert "tierkit" in dotfiles.read_text()


def test_the_backup_holds_what_was_there_and_both_keep_the_mode(project: Path, home: dict[str, str]) -> None:
    file = file_of("codex", project, home, "a = 1\n")
    file.chmod(0o640)
    kept = install(set_up("codex", project, home))
    assert kept is not None
    assert kept.read_text() == "a = 1\n"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, kept)} == {0o640}


def test_a_file_changed_since_it_was_read_is_not_overwritten(project: Path, home: dict[str, str]) -> None:
    file = file_of("claude-code", project, home, "{}")
    change = set_up("claude-code", project, home)
    file.write_text('{"new": true}')
    with pytest.raises(Conflict):
        install(change)
    assert file.read_text() == '{"new": true}'
    assert not list(project.glob(".mcp.json.*.tmp")) + list(project.glob("..mcp.json*"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    document=st.dictionaries(st.text(), VALUES, max_size=4),
    servers=st.none() | st.dictionaries(st.sampled_from(["tierkit", "other", "ü"]), st.dictionaries(st.text(), VALUES)),
    indent=st.sampled_from([None, 1, 2, "\t"]),
    is_ascii=st.booleans(),
)
def test_a_json_merge_changes_one_value_and_nothing_else(
    document: dict[str, object], servers: dict[str, object] | None, indent: int | str | None, is_ascii: bool
) -> None:
    document = {key: value for key, value in document.items() if key != "mcpServers"}
    if servers is not None:
        document = {"mcpServers": servers} | document
    text = json.dumps(document, indent=indent, ensure_ascii=is_ascii)
    merged = merge("json", text, ("mcpServers",), "tierkit", {"command": "x"}, "f")
    assert json.loads(merged) == document | {"mcpServers": (servers or {}) | {"tierkit": {"command": "x"}}}


# --- what is printed


@pytest.mark.parametrize("name", list(clients()))
def test_each_snippet_reads_back_as_the_entry(name: str, project: Path, home: dict[str, str]) -> None:
    client = clients()[name]
    entry = entry_of(client, launch_for(project), home)
    read = tomllib.loads if client.format == "toml" else json.loads
    found = read(snippet(client, entry))
    for key in client.table:
        found = found[key]
    assert found == {"tierkit": entry}


def test_opencode_takes_one_list_and_vs_code_calls_its_table_servers(project: Path, home: dict[str, str]) -> None:
    entry = entry_of(clients()["opencode"], launch_for(project), home)
    assert entry["command"] == ["/opt/env/bin/mcp-tierkit", "serve", "--project", str(project)]
    assert clients()["vscode"].table == ("servers",)


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", "{home}/.config/Claude"),
        ("darwin", "{home}/Library/Application Support/Claude"),
        ("win32", "{home}/AppData/Roaming/Claude"),
    ],
)
def test_claude_desktop_is_looked_for_where_each_system_keeps_it(
    platform: str, folder: str, project: Path, home: dict[str, str]
) -> None:
    found = places(project, home, platform)
    file = clients()["claude-desktop"].file.format_map(found)
    assert file == folder.format(home=home["HOME"]) + "/claude_desktop_config.json"


def test_clients_are_found_by_a_program_or_a_folder(project: Path, home: dict[str, str]) -> None:
    folders = places(project, home)
    assert find_clients(folders, lambda program: None) == ()
    Path(home["HOME"], ".codex").mkdir()
    assert find_clients(folders, lambda program: "/bin/x" if program == "claude" else None) == ("claude-code", "codex")


# --- how the server is started


def script_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    script = folder / "mcp-tierkit"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


def test_the_script_beside_the_interpreter_is_named_by_absolute_path(tmp_path: Path) -> None:
    script = script_in(tmp_path / "env/bin")
    launch = find_launch(tmp_path, {}, executable=str(script.with_name("python")))
    assert (launch.command, launch.args) == (str(script), ("serve", "--project", str(tmp_path)))


def test_without_a_script_the_interpreter_runs_the_package(tmp_path: Path) -> None:
    launch = find_launch(tmp_path, {}, executable=str(tmp_path / "bin/python"))
    assert (launch.command, launch.args[:3]) == (str(tmp_path / "bin/python"), ("-m", "mcp_tierkit", "serve"))


def test_an_installation_in_a_runners_cache_is_started_through_the_runner(tmp_path: Path) -> None:
    script = script_in(tmp_path / "uv/archive-v0/k3j/bin")
    launch = find_launch(
        tmp_path, {}, executable=str(script.with_name("python")), which=lambda name: f"/usr/bin/{name}"
    )
    assert (launch.command, launch.args[0]) == ("/usr/bin/uvx", "mcp-tierkit")


def test_places_are_carried_into_the_entry_and_passwords_are_not(tmp_path: Path) -> None:
    env = {"TIERKIT_STATE_DIR": "/s", "TIERKIT_LEDGER": "postgresql://u:pw@db/x", "OPENAI_API_KEY": "sk-1"}
    assert find_launch(tmp_path, env).env == {"TIERKIT_STATE_DIR": "/s"}


def test_the_command_for_this_installation_runs(tmp_path: Path) -> None:
    launch = find_launch(tmp_path, dict(os.environ))
    assert os.access(launch.command, os.X_OK)
    assert launch.command == sys.executable or launch.command.endswith("mcp-tierkit")


# --- what a project offers


def found(project: Path) -> tuple[str, ...]:
    """What the project asks for, whether its program is on this machine or not."""
    return tuple(sorted(command for commands in find_checks(project).model_dump().values() for command in commands))


def test_checks_are_found_by_reading_the_project(project: Path) -> None:
    assert find_checks(project) == Checks()
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (project / "package.json").write_text('{"scripts": {"test": "vitest"}}')
    (project / "Makefile").write_text("tests := 1\ntest: all\n\ttrue\n")
    (project / "Cargo.toml").touch()
    (project / "go.mod").touch()
    assert found(project) == ("cargo test", "go test ./...", "make test", "npm test", "pytest")
    (project / "pnpm-lock.yaml").touch()
    assert "pnpm test" in found(project)


def test_broken_project_files_offer_nothing(project: Path) -> None:
    (project / "pyproject.toml").write_bytes(b"\xff[[")
    (project / "package.json").write_text('{"scripts": []}')
    (project / "Makefile").write_text("test := 3\n")
    assert find_checks(project) == Checks()


def test_the_first_task_names_the_check_that_was_found() -> None:
    assert "`npm test`" in first_task(("npm test",))
