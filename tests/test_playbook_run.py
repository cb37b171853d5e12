"""What a trusted script gets to see and to change, on real processes."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import venv
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_tierkit import journal
from mcp_tierkit.errors import InvalidInput, NotFound, PolicyRefused, Untrusted
from tests.playbooks import WRITES, World, git, is_alive, leftovers, make_playbook, make_world, until

pytestmark = pytest.mark.anyio


# --- inputs, outputs, endings -------------------------------------------------------------------


async def test_a_run_answers_with_its_checked_output_and_costs_nothing(world: World) -> None:
    world.add("sample", "print('a log line'); say(inputs['word'].upper())")
    run = await world.run("sample", word="hi")
    assert (run.status, run.output, run.changed, run.diff) == ("ok", {"said": "HI"}, (), None)
    assert (run.playbook, run.version, run.log_tail, run.fallback) == ("sample", "1.0.0", "a log line", "model")
    assert run.digest.startswith("sha256:")
    spend = await world.ledger.spend("t1")
    assert (spend.calls, spend.cost_nanousd, spend.unpriced_calls) == (0, 0, 0)
    assert await world.ledger.playbook_runs("t1") == (run,)
    assert leftovers() == []


async def test_inputs_come_on_stdin_and_in_no_argument_or_variable(world: World) -> None:
    world.add("sample", "say(json.dumps([sys.argv[1:], [v for v in os.environ.values() if 'needle' in v]]))")
    run = await world.run("sample", word="needle")
    assert run.output == {"said": "[[], []]"}


@pytest.mark.parametrize(
    ("script", "status", "told"),
    [
        ("sys.exit(10)", "declined", ""),
        ("print('why', file=sys.stderr); sys.exit(10)", "declined", "why"),
        ("sys.exit(1)", "failed", "exit code 1"),
        ("os.kill(os.getpid(), 9)", "failed", "exit code"),
        ("raise RuntimeError('boom')", "failed", "boom"),
        ("pass", "bad_output", "nothing was written"),
        ("say(3)", "bad_output", "said"),
        ("open(os.environ['PLAYBOOK_RESULT'], 'w').write('[]')", "bad_output", "object"),
        ("open(os.environ['PLAYBOOK_RESULT'], 'w').write('{\"said\": NaN}')", "bad_output", "NaN"),
        ('open(os.environ[\'PLAYBOOK_RESULT\'], \'w\').write(\'{"said": "a", "said": "b"}\')', "bad_output", "twice"),
        ("open(os.environ['PLAYBOOK_RESULT'], 'w').write('{\"said\": \"a\", \"more\": 1}')", "bad_output", "more"),
        ("open(os.environ['PLAYBOOK_RESULT'], 'w').write('[' * 100000)", "bad_output", "nested"),
        ("say('x' * 300_000)", "output_limit", "256 KB"),
        ("os.mkfifo(os.environ['PLAYBOOK_RESULT'])", "bad_output", "plain file"),
        ("os.mkdir(os.environ['PLAYBOOK_RESULT'])", "bad_output", "plain file"),
    ],
)
async def test_every_way_to_end_has_its_status(world: World, script: str, status: str, told: str) -> None:
    world.add("sample", script)
    run = await world.run("sample")
    assert (run.status, run.output) == (status, None)
    assert told in run.log_tail
    assert leftovers() == []


async def test_logs_are_data_without_secrets_or_control_characters(world: World) -> None:
    secret = "sk-ant-api03-" + "A1b2" * 24
    world.add("sample", f"print('\\x1b[2J\\x07red {secret}'); say('key {secret}')")
    run = await world.run("sample")
    assert secret not in run.model_dump_json()
    assert "\x1b" not in run.log_tail
    assert run.log_tail.startswith("red ")


# --- refused before anything starts -------------------------------------------------------------


async def test_refusals_begin_with_their_code(world: World) -> None:
    make_playbook(world.project, "theirs", "open('marker', 'w')")
    world.add("sample", "say('x')")
    skill = 'schema = 1\nkind = "skill"\nversion = "1.0.0"\neffects = { read_only = true }\n'
    world.add("prose", "", toml=skill)
    world.add("broken", "", toml="schema = 7")
    for name, inputs, kind, code in (
        ("none", {}, NotFound, "not_found"),
        ("../sample", {}, NotFound, "not_found"),
        ("broken", {}, NotFound, "not_found"),
        ("theirs", {}, Untrusted, "untrusted"),
        ("sample", {"word": 3}, InvalidInput, "invalid_input"),
        ("sample", {"trust": True}, InvalidInput, "invalid_input"),
        ("prose", {}, PolicyRefused, "refused_policy"),
    ):
        with pytest.raises(kind) as caught:
            await world.run(name, **inputs)
        assert str(caught.value).startswith(code)
    assert not (world.project / "marker").exists()


# --- what a script sees -------------------------------------------------------------------------


async def test_the_environment_is_the_five_names_and_no_credential(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_API_KEY", "canary-value")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("REPORT_STORE", "postgres://user:hunter2@host/db")
    world.add("sample", "say(json.dumps(dict(os.environ)))", run=', env = ["TZ", "REPORT_STORE", "UNSET_NAME"]')
    run = await world.run("sample")
    assert run.output is not None
    seen = json.loads(run.output["said"])
    assert set(seen) - {"LC_CTYPE"} == {"PATH", "HOME", "LANG", "PLAYBOOK_RESULT", "TZ"}
    assert (seen["LANG"], seen["TZ"]) == ("C.UTF-8", "Asia/Tokyo")
    assert "REPORT_STORE was not passed on" in run.log_tail
    assert "hunter2" not in run.model_dump_json()


@pytest.mark.usefixtures("sandboxed")
async def test_no_process_of_the_host_and_no_secret_file_can_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.project / ".env").write_text("KEY=canary-1")
    (world.project / "deploy").mkdir()
    (world.project / "deploy/id_rsa").write_text("canary-2")
    (world.project / "plain.txt").write_text("plain")
    script = """
        import glob
        found = []
        for path in [".env", "deploy/id_rsa", "plain.txt", *glob.glob("/proc/[0-9]*/environ"), %r]:
            try:
                found.append(open(path, errors="replace").read())
            except OSError as error:
                pass
        say("|".join(found))
    """
    world.add("sample", script % str(world.config.state_dir / "trust.json"))
    process = start(["sleep", "30"], {"CANARY": "canary-3"})
    run = await world.run("sample")
    process.kill()
    process.wait()
    assert run.output is not None
    assert "plain" in run.output["said"]
    assert "canary" not in run.output["said"]
    assert "approvals" not in run.output["said"]


async def test_home_is_empty_and_helpers_beside_the_script_can_be_imported(world: World) -> None:
    script = "import helper\nsay(helper.NAME + str(os.listdir(os.environ['HOME'])) + os.getcwd())"
    world.add("sample", script, files={"scripts/helper.py": "NAME = 'helper'"})
    assert (await world.run("sample")).output == {"said": f"helper[]{world.project}"}


async def test_a_module_of_the_project_is_not_imported_in_place_of_the_library(world: World) -> None:
    (world.project / "json.py").write_text("raise SystemExit(3)")
    (world.project / "sitecustomize.py").write_text("raise SystemExit(4)")
    world.add("sample", "say('x')")
    assert (await world.run("sample")).status == "ok"


async def test_scratch_is_an_empty_folder_that_may_be_written(world: World) -> None:
    script = "before = os.listdir('.'); open('x', 'w').close(); say(str(before) + str(os.listdir('.')))"
    world.add("sample", script, run=', cwd = "scratch"')
    before = world.tree()
    assert (await world.run("sample")).output == {"said": "[]['x']"}
    assert world.tree() == before


# --- the bytes that run -------------------------------------------------------------------------


@pytest.mark.usefixtures("sandboxed")
async def test_a_script_cannot_change_itself_its_folder_or_the_trust_in_it(world: World) -> None:
    folder = make_playbook(world.project, "sample", "")
    script = f"""
        failed = []
        for path in [__file__, os.path.dirname(__file__) + "/new", {str(folder / "SKILL.md")!r},
                     {str(world.config.state_dir / "trust.json")!r}]:
            try:
                open(path, "a").write("x")
            except OSError:
                failed.append(path)
        say(str(len(failed)))
    """
    world.add("sample", script)
    before = world.tree()
    assert (await world.run("sample")).output == {"said": "4"}
    assert world.tree() == before


async def test_bytes_nobody_approved_never_run(world: World) -> None:
    folder = world.add("sample", "say('approved')")
    script = folder / "scripts/run.py"
    approved = script.read_text()
    other = approved.replace("approved", "swapped!")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            script.write_text(other)
            script.write_text(approved)

    thread = threading.Thread(target=flip)
    thread.start()
    said, refused = set(), 0
    try:
        for _ in range(50):
            try:
                run = await world.run("sample")
            except Untrusted:
                refused += 1
                continue
            said.add((run.status, str(run.output)))
    finally:
        stop.set()
        thread.join()
    assert said <= {("ok", "{'said': 'approved'}")}
    assert refused > 0


@pytest.mark.parametrize("confined", [True, False])
async def test_a_result_that_is_a_link_is_not_followed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confined: bool
) -> None:
    if not confined:
        monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    secret = tmp_path / "secret.json"
    secret.write_text('{"said": "leaked"}')
    scripts = {
        "link": f"os.symlink({str(secret)!r}, os.environ['PLAYBOOK_RESULT'])",
        "hard": f"os.link({str(secret)!r}, os.environ['PLAYBOOK_RESULT'])",
        "folder": f"""
            place = os.path.dirname(os.environ["PLAYBOOK_RESULT"])
            os.rename(place, place + "-gone")
            os.mkdir(place)
            os.symlink({str(secret)!r}, os.environ["PLAYBOOK_RESULT"])
        """,
        "parent": f"""
            place = os.path.dirname(os.environ["PLAYBOOK_RESULT"])
            os.rename(place, place + "-gone")
            os.symlink({str(tmp_path)!r}, place)
            os.rename({str(secret)!r}, {str(tmp_path / "result.json")!r})
        """,
    }
    for name, script in scripts.items():
        world.add(name, script)
        run = await world.run(name)
        assert run.status in ("failed", "bad_output"), name
        assert "leaked" not in run.model_dump_json()


# --- what a script changes ----------------------------------------------------------------------


@pytest.mark.usefixtures("layered")
async def test_a_change_within_writes_is_applied_with_a_diff_and_can_be_undone(world: World) -> None:
    (world.project / "a.txt").write_text("one\ntwo\n")
    (world.project / "gone.txt").write_text("bye\n")
    (world.project / "a.txt").chmod(0o640)
    script = """
        open("a.txt", "a").write("three\\n")
        os.makedirs("sub/deep")
        open("sub/deep/new.bin", "wb").write(b"\\0\\xff")
        os.unlink("gone.txt")
        open("keep.txt", "w").close(); os.unlink("keep.txt")
        say("x")
    """
    world.add("sample", script, effects=WRITES)
    before = world.tree()
    run = await world.run("sample")
    assert (run.status, run.changed) == ("ok", ("a.txt", "gone.txt", "sub/deep/new.bin"))
    assert (world.project / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert (world.project / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (world.project / "sub/deep/new.bin").read_bytes() == b"\0\xff"
    assert not (world.project / "gone.txt").exists()
    assert run.diff == ".tierkit/t1/playbook.diff"
    text = (world.project / run.diff).read_text()
    assert "+three" in text
    assert "Binary files" in text
    assert journal.undo(world.workspace, world.config.state_dir, "t1")
    assert world.tree() == before


@pytest.mark.usefixtures("layered")
async def test_a_dry_run_says_what_would_change_and_changes_nothing(world: World) -> None:
    (world.project / "a.txt").write_text("one\n")
    world.add("sample", "open('a.txt', 'a').write('two\\n'); say('x')", effects=WRITES)
    before = world.tree()
    run = await world.run("sample", dry_run=True)
    assert (run.status, run.changed, run.output) == ("ok", ("a.txt",), {"said": "x"})
    assert run.diff is not None
    assert "+two" in (world.project / run.diff).read_text()
    assert world.tree() == before


@pytest.mark.usefixtures("layered")
async def test_a_file_too_large_to_show_is_changed_all_the_same(world: World) -> None:
    (world.project / "a.txt").write_bytes(b"x" * 3_000_000)
    world.add("sample", "open('a.txt', 'a').write('y'); say('x')", effects=WRITES)
    run = await world.run("sample")
    assert (run.status, run.changed) == ("ok", ("a.txt",))
    assert (world.project / "a.txt").stat().st_size == 3_000_001


OUTSIDE = [
    "open('other.md', 'w').write('x')",
    "open('a.txt', 'w').write('x'); open('other.md', 'w').write('x')",
    "os.makedirs('playbooks/evil'); open('playbooks/evil/run.txt', 'w').write('x')",
    "open('playbooks/sample/SKILL.md', 'a').write('x')",
    "open('.git/config', 'a').write('x')",
    "os.makedirs('sub/.git/hooks'); open('sub/.git/hooks/pre-commit', 'w').write('x')",
    "os.makedirs('.github/workflows'); open('.github/workflows/x.txt', 'w').write('x')",
    "os.makedirs('.claude', exist_ok=True); open('.claude/settings.txt', 'w').write('x')",
    "open('sub/.env', 'w').write('x')",
    "os.symlink('/etc/passwd', 'sub/link.txt')",
    "os.mkfifo('sub/pipe.txt')",
    "os.rename('a.txt', 'b.md')",
    "open('sub/a\\u202eb.txt', 'w').write('x')",
    "os.chmod('other.cfg', 0o755)",
]


@pytest.mark.usefixtures("layered")
@pytest.mark.parametrize("script", OUTSIDE)
async def test_a_change_outside_writes_fails_the_run_and_nothing_changes(world: World, script: str) -> None:
    git(world.project, "init", "-q")
    (world.project / "sub").mkdir()
    (world.project / "a.txt").write_text("a")
    (world.project / "other.cfg").write_text("a")
    writes = WRITES.replace('"*.txt"', '"*.txt", "!.gitignore", "playbooks/**", ".git/**", ".github/**", ".claude/**"')
    world.add("sample", script + "\nsay('x')", effects=writes)
    before = world.tree()
    run = await world.run("sample")
    assert (run.status, run.output, run.changed) == ("write_outside", None, ())
    assert world.tree() == before


@pytest.mark.usefixtures("layered")
@pytest.mark.parametrize("ending", ["sys.exit(1)", "sys.exit(10)", "pass", "while True: pass"])
async def test_a_run_that_does_not_end_well_changes_nothing(world: World, ending: str) -> None:
    (world.project / "a.txt").write_text("a")
    world.add("sample", f"open('a.txt', 'w').write('b')\n{ending}", effects=WRITES, timeout_s=1)
    before = world.tree()
    run = await world.run("sample")
    assert run.status in ("failed", "declined", "bad_output", "timeout")
    assert (run.changed, run.diff) == ((), None)
    assert world.tree() == before


@pytest.mark.usefixtures("layered")
@pytest.mark.parametrize(
    ("moved", "status"),
    [("a.txt", "conflict"), ("read-only.cfg", "conflict"), ("sub/new.txt", "conflict"), ("unrelated.log", "ok")],
)
async def test_a_project_that_moved_meanwhile_is_a_conflict(world: World, moved: str, status: str) -> None:
    (world.project / "sub").mkdir()
    (world.project / "a.txt").write_text("a")
    (world.project / "read-only.cfg").write_text("a")
    script = """
        import time
        open("a.txt", "w").write("b")
        open("/dev/shm/x", "w").close()
        print("ready", flush=True)
        for _ in range(1500):
            if os.path.exists("go"):
                break
            time.sleep(0.01)
        say("x")
    """
    world.add("sample", script, effects=WRITES.replace('"**"', '"*.cfg"'), timeout_s=60)
    done: list[Any] = []

    async def go() -> None:
        done.append(await world.run("sample"))

    async with anyio.create_task_group() as group:
        group.start_soon(go)
        await until(lambda: is_alive(f"tierkit-run-{os.getpid()}-"))
        (world.project / moved).write_text("moved")
        (world.project / "go").touch()
    assert done[0].status == status
    assert (world.project / "a.txt").read_text() == {"ok": "b"}.get(status, "moved" if moved == "a.txt" else "a")


@pytest.mark.usefixtures("layered")
async def test_of_two_writers_at_once_one_wins_whole(world: World) -> None:
    (world.project / "a.txt").write_text("0")
    script = """
        import time
        n = int(open("a.txt").read())
        time.sleep(0.3)
        open("a.txt", "w").write(str(n + 1))
        say("x")
    """
    world.add("sample", script, effects=WRITES)
    done: list[str] = []

    async def go() -> None:
        done.append((await world.run("sample")).status)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(go)
    assert sorted(done) in (["conflict", "ok"], ["ok", "ok"])
    assert (world.project / "a.txt").read_text() == str(done.count("ok"))


@pytest.mark.usefixtures("sandboxed")
async def test_git_history_can_be_read_inside(world: World) -> None:
    git(world.project, "init", "-q")
    git(world.project, "commit", "-q", "--allow-empty", "-m", "first")
    world.add("sample", "import subprocess\nsay(subprocess.check_output(['git', 'log', '--format=%s'], text=True))")
    assert (await world.run("sample")).output == {"said": "first\n"}


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("where", ["worktree", "package"])
async def test_git_history_is_found_from_a_worktree_and_from_a_package(tmp_path: Path, where: str) -> None:
    (tmp_path / "whole").mkdir()
    git(tmp_path / "whole", "init", "-q", "-b", "main")
    git(tmp_path / "whole", "commit", "-q", "--allow-empty", "-m", "first")
    base = tmp_path / ("whole/packages" if where == "package" else "beside")
    if where == "worktree":
        git(tmp_path / "whole", "worktree", "add", "-q", str(base / "project"))
    world = make_world(base)
    world.add("sample", "import subprocess\nsay(subprocess.check_output(['git', 'log', '--format=%s'], text=True))")
    assert (await world.run("sample")).output == {"said": "first\n"}


@pytest.mark.usefixtures("sandboxed")
async def test_the_projects_own_python_is_used_inside_the_sandbox_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(world.project / ".venv", symlinks=True)
    world.add("sample", "say(sys.prefix)")
    own = str(world.project / ".venv")
    assert (await world.run("sample")).output == {"said": own}
    monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    run = await world.run("sample")
    assert run.status == "ok"
    assert run.output != {"said": own}


def start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=env)
