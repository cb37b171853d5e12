"""Only a person at a terminal makes a playbook more than a name."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcp_tierkit.errors import NotFound, Untrusted
from mcp_tierkit.playbook.command import command_starter, kept_command
from mcp_tierkit.playbook.folder import Folder, digest, read_folder
from mcp_tierkit.playbook.load import builtin_root, load
from mcp_tierkit.playbook.starter import write
from mcp_tierkit.playbook.trust import (
    TrustStoreUnreadable,
    approved_before,
    approved_digests,
    describe_change,
    trust,
    untrust,
)
from mcp_tierkit.stages.playbook import list_entries, list_reply, match_playbook, open_shelf
from scripts import pin_playbooks
from tests.playbooks import World, folder_of, make_playbook, make_world


def trusted_names(world: World) -> set[str]:
    """{"sample"} where that playbook is trusted, else the empty set."""
    return {playbook.name for playbook in open_shelf(world.config, name="sample").playbooks}


def change(folder: Path, how: str, chance: random.Random) -> None:
    """One change of that kind at a random place of the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = chance.choice(files)
    if how == "byte":
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    elif how == "append":
        path.write_bytes(path.read_bytes() + b"\n")
    elif how == "add":
        (folder / f"new-{chance.random()}").touch()
    elif how == "folder":
        (folder / f"new-{chance.random()}").mkdir()
    elif how == "delete":
        path.unlink()
    elif how == "rename":
        path.rename(path.with_name(path.name + "x"))
    elif how == "chmod":
        path.chmod(path.stat().st_mode ^ chance.choice([0o100, 0o001, 0o020, 0o004]))
    elif how == "link":
        path.unlink()
        path.symlink_to("/etc/hostname")
    elif how == "swap":
        other = chance.choice([one for one in files if one != path])
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)


@pytest.mark.parametrize("how", ["byte", "append", "add", "folder", "delete", "rename", "chmod", "link", "swap"])
def test_any_change_of_any_kind_revokes_trust(world: World, how: str, tmp_path: Path) -> None:
    original = world.add("sample", "say('x')", files={"assets/a.txt": "one", "tests/b/case.json": "{}"})
    assert trusted_names(world) == {"sample"}
    shutil.copytree(original, tmp_path / "kept")
    for seed in range(40 if how == "byte" else 8):
        change(original, how, random.Random(seed))
        assert trusted_names(world) == set(), f"{how} {seed}"
        shutil.rmtree(original)
        shutil.copytree(tmp_path / "kept", original)
        assert trusted_names(world) == {"sample"}


def test_moving_bytes_between_files_changes_the_digest() -> None:
    digests = {
        digest(folder_of(files))
        for files in ({"a": "xy", "b": ""}, {"a": "x", "b": "y"}, {"ab": "xy"}, {"a": "", "b": "xy"}, {"a": "x"})
    }
    assert len(digests) == 5


def test_nothing_in_the_project_the_environment_or_the_call_trusts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_playbook(world.project, "sample", "say('x')", files={"trusted": "true"})
    value = digest(read_folder(folder))
    approval = {"name": "sample", "repository": str(world.config.repository), "digest": value, "approved_at": "now"}
    store = json.dumps({"version": 1, "approvals": [approval]})
    for place in ("trust.json", ".tierkit/trust.json", "playbooks/trust.json", "playbooks/sample/trust.json"):
        (world.project / place).parent.mkdir(exist_ok=True)
        (world.project / place).write_text(store)
    for name in ("TIERKIT_TRUST", "TIERKIT_TRUSTED", "TIERKIT_TRUST_ALL"):
        monkeypatch.setenv(name, "1")
    assert trusted_names(world) == set()


def test_an_untrusted_playbook_is_a_name_and_nothing_more(world: World) -> None:
    make_playbook(
        world.project, "sample", "say('x')", files={"SKILL.md": "---\nname: sample\ndescription: HOSTILE\n---\n"}
    )
    assert match_playbook(world.config, "sample word") is None
    entry = next(entry for entry in list_entries(world.config) if entry.name == "sample")
    assert entry.model_dump(exclude_none=True) == {"name": "sample", "origin": "project", "trusted": False}
    reply = list_reply(world.config)
    assert reply["untrusted"] == ["sample"]
    assert "HOSTILE" not in str(reply)
    with pytest.raises(Untrusted) as caught:
        open_shelf(world.config, name="sample").named("sample")
    assert str(caught.value).startswith("untrusted")
    assert "HOSTILE" not in str(caught.value)


def test_an_untrusted_playbook_does_not_shadow_a_trusted_one(world: World) -> None:
    folder = make_playbook(world.project, "rename-symbol", "say('hijacked')")
    assert open_shelf(world.config, name="rename-symbol").named("rename-symbol").origin == "package"
    world.trust(folder)
    assert open_shelf(world.config, name="rename-symbol").named("rename-symbol").origin == "project"


def test_the_nearer_trusted_one_wins(world: World) -> None:
    mine = make_playbook(world.config.user_dir, "sample", "say('mine')")
    trust(world.config.state_dir, read_folder(mine), repository=None)
    assert open_shelf(world.config, name="sample").named("sample").origin == "user"
    world.add("sample", "say('theirs')")
    assert open_shelf(world.config, name="sample").named("sample").origin == "project"


def test_trust_is_bound_to_the_repository(tmp_path: Path) -> None:
    one, two = make_world(tmp_path / "one"), make_world(tmp_path / "two")
    one.add("sample", "say('x')")
    shutil.copytree(one.project / "playbooks", two.project / "playbooks")
    shutil.copy(one.config.state_dir / "trust.json", two.config.state_dir / "trust.json")
    assert trusted_names(one) == {"sample"}
    assert trusted_names(two) == set()


def test_a_new_approval_replaces_the_old_one(world: World) -> None:
    folder = world.add("sample", "say('old')")
    old = read_folder(folder)
    (folder / "scripts/run.py").write_text("new")
    world.trust(folder)
    repository = str(world.config.repository)
    assert approved_digests(world.config.state_dir) == {("sample", repository): digest(read_folder(folder))}
    assert digest(old) != digest(read_folder(folder))
    assert approved_before(world.config.state_dir, "sample", repository=repository) == read_folder(folder)


def test_untrust_takes_it_back(world: World) -> None:
    world.add("sample", "say('x')")
    repository = str(world.config.repository)
    assert untrust(world.config.state_dir, "sample", repository=repository)
    assert trusted_names(world) == set()
    assert not untrust(world.config.state_dir, "sample", repository=repository)


@pytest.mark.parametrize(
    "store", ['{"version": 2, "approvals": []}', '{"approvals": []}', "", "[", "[" * 100_000, '{"version": 1, "x": 1}']
)
def test_a_store_that_is_not_of_this_version_trusts_nothing_and_is_left_alone(world: World, store: str) -> None:
    folder = world.add("sample", "say('x')")
    path = world.config.state_dir / "trust.json"
    path.write_text(store)
    assert trusted_names(world) == set()
    with pytest.raises(TrustStoreUnreadable):
        world.trust(folder)
    assert path.read_text() == store


def test_a_store_that_others_may_write_trusts_nothing(world: World) -> None:
    world.add("sample", "say('x')")
    path = world.config.state_dir / "trust.json"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o620)
    assert trusted_names(world) == set()
    path.chmod(0o600)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    assert trusted_names(world) == set()


def test_the_shipped_digests_are_those_of_the_folders() -> None:
    assert pin_playbooks.TARGET.read_text("utf-8") == pin_playbooks.pinned()


def test_a_shipped_playbook_that_was_changed_is_untrusted(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "wheel"
    shutil.copytree(builtin_root(), copy)
    monkeypatch.setattr("mcp_tierkit.playbook.load.builtin_root", lambda: copy)
    assert open_shelf(world.config, name="rename-symbol").named("rename-symbol").origin == "package"
    (copy / "rename-symbol/scripts/run.py").write_text("print('changed')")
    with pytest.raises(Untrusted):
        open_shelf(world.config, name="rename-symbol").named("rename-symbol")
    (copy / "extra").mkdir()
    with pytest.raises(Untrusted):
        open_shelf(world.config).named("extra")
    with pytest.raises(NotFound):
        open_shelf(world.config).named("none")


def test_the_trust_screen_shows_what_is_invisible_and_what_changed(world: World) -> None:
    folder = world.add("sample", "say('x')")
    before = approved_before(world.config.state_dir, "sample", repository=str(world.config.repository))
    (folder / "SKILL.md").write_text("---\nname: sample\n---\nsafe \u202eelif\x1b[2J\u200b\xa0\n")
    (folder / "scripts/run.py").chmod(0o755)
    lines = list(describe_change(before, read_folder(folder)))
    text = "\n".join(lines)
    assert "\\u202e" in text
    assert "\\x1b[2J" in text
    assert "\\u200b\\xa0" in text
    assert not any(ord(char) < 32 and char != "\n" for char in text)
    assert "~ scripts/run.py (0644 -> 0755)" in lines
    assert not any("playbook.toml" in line for line in lines)


# --- the command --------------------------------------------------------------------------------


def environment(world: World) -> dict[str, str]:
    home = world.config.user_dir
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "TIERKIT_CONFIG": str(home / "tierkit.toml"),
        "TIERKIT_STATE_DIR": str(world.config.state_dir), "PYTHONPATH": str(Path(__file__).parent.parent),
    }  # fmt: skip


def on_a_terminal(
    world: World, *answers: str, redirect: str = "", command: str = "trust sample", columns: int = 80
) -> tuple[int, str]:
    """`tierkit playbook …` on a terminal of its own, with one answer typed at each question to trust."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(world.project)
        line = f'exec "$0" -m mcp_tierkit playbook {command} {redirect}'
        os.execve("/bin/sh", ["sh", "-c", line, sys.executable], environment(world) | {"COLUMNS": str(columns)})
    said, typed, deadline = b"", 0, time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 65536)
        except OSError:  # The other side is closed.
            break
        if typed < min(len(answers), len(re.findall(rb"Type \w+ to trust these bytes.*: ", said))):
            os.write(terminal, answers[typed].encode() + b"\n")
            typed += 1
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode().replace("\r\n", "\n")


def test_a_person_at_a_terminal_trusts_by_typing_the_name(world: World) -> None:
    make_playbook(world.project, "sample", "say('x')")
    code, said = on_a_terminal(world, "y")
    assert (code, trusted_names(world)) == (3, set())
    assert "y was typed, and only its name trusts it" in said
    assert "terminal" not in said
    code, said = on_a_terminal(world, "sample")
    assert (code, trusted_names(world)) == (0, {"sample"})
    assert "+ scripts/run.py" in said


def test_what_runs_and_what_it_may_do_come_before_a_long_text_which_can_be_read(world: World) -> None:
    write(command_starter("sample", "python3 -m pytest -q"), world.project / "playbooks")
    folder = world.project / "playbooks/sample"
    code, said = on_a_terminal(world, "sample")
    assert (code, trusted_names(world)) == (0, {"sample"})
    before = said[: said.index("Type sample")].splitlines()
    assert len(before) < 10
    for told in ("runs: python3 -m pytest -q", "changes files: no", "network: no", "files: 8, "):
        assert any(told in line for line in before), told
    with (folder / "scripts/run.py").open("a") as script:
        script.write("".join(f"call({at})  # \u202e\n" for at in range(60)))
    code, said = on_a_terminal(world, "read", "no")
    assert (code, trusted_names(world)) == (3, set())
    summary, _, text = said.partition("Type sample")
    assert "runs: scripts/run.py (python, 18" in summary
    assert "changed since it was trusted: scripts/run.py\n" in summary
    assert "CANNOT BE SEEN, in scripts/run.py" in summary
    assert [line for line in describe_change(approved(world), read_folder(folder)) if line not in text] == []


def approved(world: World) -> Folder | None:
    return approved_before(world.config.state_dir, "sample", repository=str(world.config.repository))


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("scripts/run.py", "import json", "import json "),
        ("assets/command.json", '"TERM": "dumb"', '"BASH_ENV": "x"'),
        ("assets/command.json", '"bin"', '"/tmp/bin"'),
        ("scripts/other.py", "", "import this"),
        ("playbook.toml", "scripts/run.py", "scripts/command.sh"),
        ("playbook.toml", 'runtime = "python"', 'runtime = "bash"'),
    ],
)
def test_a_command_is_told_as_what_runs_only_where_nothing_else_could_run_instead(
    tmp_path: Path, path: str, old: str, new: str
) -> None:
    write(command_starter("sample", "make test | tee log"), tmp_path)
    assert kept_command(load(read_folder(tmp_path / "sample"), "", origin="project")) == "make test | tee log"
    file = tmp_path / "sample" / path
    file.write_text(file.read_text().replace(old, new, 1) if old else new)
    assert kept_command(load(read_folder(tmp_path / "sample"), "", origin="project")) is None


def test_a_list_is_cut_between_words_on_a_terminal_and_not_at_all_in_a_pipe(world: World) -> None:
    words = "Tells what a reader of this list would want to know of it, and then a little more"
    world.add("sample", "say('x')", files={"SKILL.md": f"---\nname: sample\ndescription: {words * 5}\n---\n"})
    _, said = on_a_terminal(world, command="list", columns=50)
    line = next((line for line in said.splitlines() if line.startswith("    Tells what a reader")), said)
    assert line == "    Tells what a reader of this list would want …"
    assert words * 5 in on_a_terminal(world, command="list", redirect="| cat")[1].replace("\n", "")


@pytest.mark.parametrize("redirect", ["</dev/null", "| cat"])
def test_a_command_that_is_piped_is_not_asked_even_where_there_is_a_terminal(world: World, redirect: str) -> None:
    make_playbook(world.project, "sample", "say('x')")
    _, said = on_a_terminal(world, "sample", redirect=redirect)
    assert "there is no terminal to ask on" in said
    assert "+ scripts/run.py" in said
    assert trusted_names(world) == set()


def test_without_a_terminal_nobody_can_answer(world: World) -> None:
    make_playbook(world.project, "sample", "say('x')")
    command = [sys.executable, "-m", "mcp_tierkit", "playbook", "trust", "sample"]
    done = subprocess.run(
        command, cwd=world.project, env=environment(world), input=b"sample\n", capture_output=True, timeout=60
    )
    assert done.returncode == 3
    assert trusted_names(world) == set()
