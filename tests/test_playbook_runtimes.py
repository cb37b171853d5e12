"""The four runtimes side by side: how each is found and started, and that the same walls hold them all."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from mcp_tierkit.playbook import environment
from mcp_tierkit.playbook.environment import EnvironmentRefused, prepare, ready
from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.load import Playbook, load
from mcp_tierkit.playbook.tree import survey
from mcp_tierkit.redact import deny_patterns
from mcp_tierkit.sandbox import probe
from mcp_tierkit.workspace import Workspace
from tests.playbooks import SAY, WRITES, World, is_alive, leftovers, make_playbook

pytestmark = pytest.mark.anyio
RUNTIMES = ["python", "bash", "node", "uv"]
FILES = {"python": "run.py", "uv": "run.py", "bash": "run.sh", "node": "run.mjs"}
CONTRACT = """
schema = 1
kind = "script"
version = "1.0.0"
run = {{ script = "scripts/{file}", runtime = "{runtime}", timeout_s = {timeout_s}{run} }}
effects = {{ {effects} }}
inputs.words = {{ type = "array", items = {{ type = "string" }}, default = [] }}
outputs.said = {{ type = "array", items = {{ type = "string" }} }}
"""
HEADER = """# /// script
# requires-python = ">=3.11"
# dependencies = ["tinydep"]
# [tool.uv]
# index-url = "http://127.0.0.1:1/never-asked"
# ///
"""
NODE_SAY = """
import fs from "node:fs";
import net from "node:net";
import { spawn } from "node:child_process";
const inputs = JSON.parse(fs.readFileSync(0, "utf8"));
const say = (said) => fs.writeFileSync(process.env.PLAYBOOK_RESULT, JSON.stringify({ said }));
"""
BASH_SAY = """
say() { printf '{"said": [%s]}' "$1" > "$PLAYBOOK_RESULT"; }
"""
STARTS = {
    "python": SAY.replace("    ", "", 1).replace("\n    ", "\n"),
    "bash": BASH_SAY,
    "node": NODE_SAY,
}
STARTS["uv"] = HEADER + "import tinydep\n" + STARTS["python"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package index on loopback with one wheel, which has a `.pth` that would run code; `lock` is made from it."""
    if _uv() is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("index")
    wheel = _wheel(folder)
    page = folder / "simple/tinydep/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="/{wheel.name}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>')
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (folder / "url").write_text(f"http://127.0.0.1:{server.server_port}/simple")
        script = folder / "run.py"
        script.write_text(
            HEADER.replace("# [tool.uv]\n", "").replace('# index-url = "http://127.0.0.1:1/never-asked"\n', "")
        )
        command = [str(_uv()), "lock", "--script", str(script), "--no-config", "--cache-dir", str(folder / "cache")]
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "UV_DEFAULT_INDEX": (folder / "url").read_text()}
        subprocess.run(command, env=env, check=True, capture_output=True)
        yield folder
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        with (Path(self.directory) / "asked").open("a") as log:
            log.write(self.path + "\n")


def _uv() -> str | None:
    return shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def _wheel(folder: Path) -> Path:
    info = "tinydep-1.0.dist-info"
    marker = folder / "installed-code-ran"
    files = {
        "tinydep.py": "VALUE = 'from the lock file'\n",
        "start.pth": f"import os; os.getpid() and open({str(marker)!r}, 'w').close()\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tinydep\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheel = folder / "tinydep-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))
    return wheel


@pytest.fixture
def users_uv(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has uv on PATH and an index of their own."""
    monkeypatch.setenv("PATH", f"{Path(_uv() or '').parent}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", (index / "url").read_text())
    monkeypatch.setenv("UV_CACHE_DIR", str(index / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return index


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name == "uv":
        request.getfixturevalue("users_uv")
    elif shutil.which({"python": "python3"}.get(name, name)) is None:
        pytest.skip(f"{name} is not installed")
    return name


def add(
    world: World, index: Path | None, name: str, runtime: str, script: str, *, effects: str = "read_only = true",
    run: str = "", timeout_s: int = 20, lock: str | None = "", files: dict[str, str] | None = None,
) -> Playbook:  # fmt: skip
    """A trusted playbook of any runtime. A `uv` one has the index's lock file, and its environment is prepared."""
    file = FILES[runtime]
    toml = CONTRACT.format(file=file, runtime=runtime, timeout_s=timeout_s, run=run, effects=effects)
    everything = {f"scripts/{file}": STARTS[runtime] + script, **(files or {})}
    if runtime == "uv" and lock is not None:
        assert index is not None
        everything["scripts/run.py.lock"] = lock or (index / "run.py.lock").read_text()
    folder = make_playbook(world.project, name, "", toml=toml, files=everything)
    world.trust(folder)
    playbook = load(read_folder(folder), "sha256:test", origin="project")
    if runtime == "uv" and lock == "":
        prepare(playbook, world.config.state_dir)
    return playbook


@pytest.fixture
def users_index(request: pytest.FixtureRequest, runtime: str) -> Path | None:
    return request.getfixturevalue("users_uv") if runtime == "uv" else None


# --- the same walls for all -----------------------------------------------------------------------

INJECTIONS = [
    "; rm -rf .", "$(touch marker)", "`touch marker`", "| touch marker", "&& touch marker", "a\ntouch marker\n",
    "'; touch marker; '", '"; touch marker; "', "--help", "-c touch", "%s%n", "{0}", "${HOME}", "\\x00", "../../marker",
    "\u202etouch marker", "\x1b]0;x\x07", "a" * 10_000,
]  # fmt: skip

ECHO = {
    "python": "say(inputs['words'])",
    "bash": """words=$(cat); printf '{"said": %s}' "${words#*:}" | sed 's/}$//' > "$PLAYBOOK_RESULT" """,
    "node": "say(inputs.words);",
}
PROBES = {
    "python": """
        import socket
        def tried(what):
            try:
                return str(what())
            except OSError:
                return "refused"
        say([
            " ".join(sorted(os.environ.keys() - {"LC_CTYPE"})),
            tried(lambda: open("made.txt", "w")),
            tried(lambda: open(__file__, "a")),
            tried(lambda: open(".env").read()),
            tried(lambda: socket.create_connection(("127.0.0.1", PORT))),
            os.getcwd(),
        ])
    """,
    "bash": """
        tried() { "$@" 2>/dev/null || printf refused; }
        made() { : > made.txt; }; myself() { : >> "$0"; }; connect() { : < /dev/tcp/127.0.0.1/PORT; }
        names=$(compgen -e | grep -vE '^(PWD|OLDPWD|SHLVL|_)$' | sort | tr '\\n' ' ')
        quoted() { printf '"%s"' "$1"; for word in "${@:2}"; do printf ', "%s"' "$word"; done; }
        say "$(quoted "${names% }" "$(tried made)" "$(tried myself)" "$(cat .env)" "$(tried connect)" "$PWD")"
    """,
    "node": """
        const tried = (what) => { try { return String(what()); } catch { return "refused"; } };
        const words = [
            Object.keys(process.env).sort().join(" "),
            tried(() => fs.writeFileSync("made.txt", "x")),
            tried(() => fs.appendFileSync(process.argv[1], "x")),
            tried(() => fs.readFileSync(".env", "utf8")),
        ];
        const socket = net.connect(PORT, "127.0.0.1");
        socket.on("connect", () => { say([...words, "connected", process.cwd()]); socket.destroy(); });
        socket.on("error", () => say([...words, "refused", process.cwd()]));
    """,
}
for _texts in (ECHO, PROBES):
    _texts["uv"] = _texts["python"]


def dedented(text: str) -> str:
    import textwrap

    return textwrap.dedent(text)


async def test_hostile_inputs_stay_values_in_every_runtime(
    world: World, runtime: str, users_index: Path | None
) -> None:
    add(world, users_index, "echo", runtime, ECHO[runtime])
    before = world.tree()
    run = await world.run("echo", words=INJECTIONS)
    assert (run.status, run.output) == ("ok", {"said": INJECTIONS}), run.log_tail
    assert world.tree() == before


@pytest.mark.usefixtures("sandboxed")
async def test_no_runtime_sees_or_changes_more_than_another(
    world: World, runtime: str, users_index: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NODE_OPTIONS", "NODE_PATH", "PYTHONPATH", "BASH_ENV", "CANARY_API_KEY"):
        monkeypatch.setenv(name, "--canary")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    (world.project / ".env").write_text("canary")
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = dedented(PROBES[runtime]).replace("PORT", str(server.getsockname()[1]))
        add(world, users_index, "probe", runtime, script, run=', env = ["TZ", "UNSET_NAME"]')
        before = world.tree()
        run = await world.run("probe")
        assert world.tree() == before
    names = "HOME LANG PATH PLAYBOOK_RESULT TZ"
    assert run.output == {"said": [names, "refused", "refused", "", "refused", str(world.project)]}, run.log_tail
    assert run.sandbox == "sandbox"


DETACHED = {
    "python": 'import subprocess, time\nsubprocess.Popen(["sleep", "SECONDS"], start_new_session=True)\n',
    "bash": "setsid sleep SECONDS &\n",
    "node": 'spawn("sleep", ["SECONDS"], { detached: true, stdio: "ignore" }).unref();\n',
}
ENDING = {"python": "say([])", "bash": "say ''", "node": "say([]); process.exit(0);"}
FLOODS = {
    "python": "while True: sys.stderr.write('y' * 4096)",
    "bash": "yes yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
    "node": "for (;;) fs.writeSync(1, 'y'.repeat(4096));",
}
WRITERS = {
    "python": "open('a.txt', 'w').write('after'); say([])",
    "bash": "printf after > a.txt; say ''",
    "node": "fs.writeFileSync('a.txt', 'after'); say([]);",
}
for _texts in (DETACHED, ENDING, FLOODS, WRITERS):
    _texts["uv"] = _texts["python"]


async def test_a_child_that_left_its_session_ends_with_the_run_in_every_runtime(
    world: World, runtime: str, users_index: Path | None
) -> None:
    seconds = f"{900 + RUNTIMES.index(runtime)}.{os.getpid()}"
    script = DETACHED[runtime].replace("SECONDS", seconds)
    add(world, users_index, "stays", runtime, script + ENDING[runtime])
    assert (await world.run("stays")).status == "ok"
    assert not is_alive(seconds)
    assert leftovers() == []


async def test_a_flood_is_cut_off_in_every_runtime(world: World, runtime: str, users_index: Path | None) -> None:
    add(world, users_index, "flood", runtime, FLOODS[runtime], run=", max_output_kb = 8", timeout_s=120)
    started = time.monotonic()
    run = await world.run("flood")
    assert (run.status, run.output) == ("output_limit", None)
    assert len(run.log_tail) <= 2100
    assert time.monotonic() - started < 60  # It would flood for two minutes.


@pytest.mark.usefixtures("layered")
async def test_a_change_is_applied_and_one_out_of_bounds_is_not_in_every_runtime(
    world: World, runtime: str, users_index: Path | None
) -> None:
    (world.project / "a.txt").write_text("before")
    add(world, users_index, "strays", runtime, WRITERS[runtime], effects=WRITES.replace('"*.txt"', '"*.md"'))
    assert (await world.run("strays")).status == "write_outside"
    assert (world.project / "a.txt").read_text() == "before"
    add(world, users_index, "writes", runtime, WRITERS[runtime], effects=WRITES)
    run = await world.run("writes")
    assert (run.status, run.changed) == ("ok", ("a.txt",))
    assert (world.project / "a.txt").read_text() == "after"


# --- node -------------------------------------------------------------------------------------------


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    asked = subprocess.run([found, "-p", "process.execPath"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


LOOKS = """
    import { createRequire } from "node:module";
    const require = createRequire(import.meta.url);
    const found = [];
    for (const name of ["ours", "theirs", "others"]) {
        try { found.push(require(name)); } catch { found.push("none"); }
        try { found.push((await import(name)).default); } catch { found.push("none"); }
    }
    say(found);
"""


@pytest.mark.parametrize("confined", [True, False])
async def test_node_loads_modules_beside_the_script_and_nobody_elses(
    world: World, node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confined: bool
) -> None:
    common = tmp_path / "common"
    for place, name in ((world.project, "theirs"), (common, "others"), (tmp_path / "home", "others")):
        folder = place / ("node_modules" if place != tmp_path / "home" else ".node_modules") / name
        folder.mkdir(parents=True)
        (folder / "index.js").write_text(f'module.exports = "{name}";')
        (folder / "package.json").write_text("{}")
    monkeypatch.setattr(tempfile, "tempdir", str(common))
    monkeypatch.setenv("NODE_PATH", str(common / "node_modules"))
    if not confined:
        monkeypatch.setenv("TIERKIT_NO_SANDBOX", "1")
    elif (await probe()).kind == "none":
        pytest.skip("no sandbox on this machine")
    own = {"scripts/node_modules/ours/index.js": 'module.exports = "ours";'}
    add(world, None, "looks", "node", dedented(LOOKS), files=own)
    assert (await world.run("looks")).output == {"said": ["ours", "ours", "none", "none", "none", "none"]}


async def test_a_node_that_is_a_shim_is_followed_to_where_it_lies(
    world: World, node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "node").write_text(f'#!/bin/sh\nexec {node} "$@"\n')
    (shims / "node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    add(world, None, "where", "node", "say([process.execPath, ...process.execArgv]);")
    assert (await world.run("where")).output == {"said": [node, "--no-global-search-paths"]}


# --- uv ---------------------------------------------------------------------------------------------


def state_of(world: World) -> Path:
    return world.config.state_dir


async def test_a_uv_playbook_runs_offline_in_the_environment_that_its_lock_file_names(
    world: World, users_uv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.project / "uv.toml").write_text('index-url = "http://127.0.0.1:1/of-the-project"\n')
    (world.project / "tinydep.py").write_text("VALUE = 'from the project'\n")
    monkeypatch.chdir(world.project)
    marker = users_uv / "installed-code-ran"
    script = """
        def tried(path):
            try:
                return open(path, "a").name
            except OSError:
                return "refused"
        trust = os.path.join(os.path.dirname(os.path.dirname(sys.prefix)), "trust.json")
        say([tinydep.VALUE, tried(tinydep.__file__), str(os.path.exists(trust))])
    """
    playbook = add(world, users_uv, "deps", "uv", dedented(script), lock=(users_uv / "run.py.lock").read_text())
    with pytest.raises(EnvironmentRefused, match="lacks the environment") as caught:
        await world.run("deps")
    assert caught.value.next_step == "Run: tierkit playbook trust deps"
    prepare(playbook, state_of(world))
    assert not marker.exists()
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/gone")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # uv itself is not needed any more.
    run = await world.run("deps")
    if run.sandbox == "sandbox":
        assert run.output == {"said": ["from the lock file", "refused", "False"]}, run.log_tail
        assert not marker.exists()
    prepare(playbook, state_of(world))  # What is there is not fetched again.
    shutil.rmtree(state_of(world) / environment.FOLDER)
    with pytest.raises(EnvironmentRefused):
        await world.run("deps")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("hash = ", "hish = "), "names 'tinydep==1.0'"),
        (("sha256:", "sha256:" + "0" * 64 + '", nope = "'), "Hash mismatch"),
        (('requires-python = ">=3.11"', 'requires-python = "/etc/passwd"'), "no Python version"),
        (("version = 1", "version = 99"), "uv says"),
        *(
            (('version = "1.0"\n', f'version = "1.0"\nsource = {{ {source} }}\n[[package]]\nname = "x"\n'), "names")
            for source in (
                f'git = "http://127.0.0.1:1/a?rev=b#{"c" * 40}"',
                'directory = "../../.."',
                'editable = "../../.."',
                'path = "/tmp/x-1.0.tar.gz"',
                'url = "http://127.0.0.1:1/tinydep-1.0.tar.gz"',
            )
        ),
    ],
)
async def test_what_a_lock_file_may_not_name_is_refused_and_nothing_is_left(
    world: World, users_uv: Path, change: tuple[str, str], told: str
) -> None:
    text = (users_uv / "run.py.lock").read_text()
    assert change[0] in text
    changed = text.replace(*change).split('[[package]]\nname = "x"')[0]
    playbook = add(world, users_uv, "deps", "uv", "say([])", lock=changed)
    with pytest.raises(EnvironmentRefused) as caught:
        prepare(playbook, state_of(world))
    assert told in str(caught.value)
    assert ready(playbook, state_of(world)) is None
    assert list((state_of(world) / environment.FOLDER).iterdir()) == []


async def test_no_lock_file_and_no_uv_are_refused_with_what_mends_them(
    world: World, users_uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = add(world, users_uv, "bare", "uv", "say([])", lock=None)
    for _ in range(2):
        with pytest.raises(EnvironmentRefused, match="no lock file") as caught:
            prepare(bare, state_of(world))
        assert "uv lock --script scripts/run.py" in caught.value.next_step
        with pytest.raises(EnvironmentRefused, match="no lock file"):
            await world.run("bare")
    locked = add(world, users_uv, "locked", "uv", "say([])", lock=(users_uv / "run.py.lock").read_text())
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(EnvironmentRefused, match="needs uv") as caught:
        prepare(locked, state_of(world))
    assert "Install uv" in caught.value.next_step


async def test_a_half_made_environment_is_made_again_and_two_at_once_agree(world: World, users_uv: Path) -> None:
    playbook = add(world, users_uv, "deps", "uv", "say([tinydep.VALUE])")
    made = ready(playbook, state_of(world))
    assert made is not None
    (made.folder / "whole").unlink()
    assert ready(playbook, state_of(world)) is None
    failed: list[BaseException] = []

    def again() -> None:
        try:
            prepare(playbook, state_of(world))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=again) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert ready(playbook, state_of(world)) == made
    assert [path.name for path in made.folder.parent.iterdir()] == [made.folder.name]
    assert (await world.run("deps")).output == {"said": ["from the lock file"]}


# --- cancelled at any moment ------------------------------------------------------------------------


@pytest.mark.usefixtures("layered")
@pytest.mark.parametrize("times", [10, pytest.param(50, marks=pytest.mark.slow)])
async def test_a_writer_cancelled_at_any_moment_is_one_row_that_tells_the_truth(world: World, times: int) -> None:
    (world.project / "a.txt").write_text("0")
    seconds = f"880.{os.getpid()}"
    script = DETACHED["python"].replace("SECONDS", seconds)
    script += "number = int(open('a.txt').read()) + 1; open('a.txt', 'w').write(str(number)); say([])"
    add(world, None, "counts", "python", script, effects=WRITES)
    started = time.monotonic()
    assert (await world.run("counts")).status == "ok"
    usual_s, handles = time.monotonic() - started, len(os.listdir("/proc/self/fd"))
    random.seed(times)
    for turn in range(times):
        before = (world.project / "a.txt").read_text()
        with anyio.move_on_after(random.uniform(0.0, usual_s)):
            await world.run("counts")
        rows = [row.status for row in await world.ledger.playbook_runs(f"t{turn + 2}")]
        after = (world.project / "a.txt").read_text()
        assert rows in ([], ["cancelled"], ["ok"])
        assert (after != before) == (rows == ["ok"])
    assert not is_alive(seconds)
    assert leftovers() == []
    assert len(os.listdir("/proc/self/fd")) <= handles + 2


@pytest.mark.usefixtures("layered")
async def test_a_change_that_is_made_as_the_caller_leaves_is_on_the_ledger(world: World) -> None:
    (world.project / "a.txt").write_text("before")
    add(world, None, "writes", "python", WRITERS["python"], effects=WRITES)

    async def leave_once_changed(scope: anyio.CancelScope) -> None:
        with anyio.fail_after(60):
            while (world.project / "a.txt").read_text() == "before":
                await anyio.lowlevel.checkpoint()
        scope.cancel()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(leave_once_changed, scope)
            await world.run("writes")
    assert [row.status for row in await world.ledger.playbook_runs("t1")] == ["ok"]


# --- what is hidden, in large trees -----------------------------------------------------------------


def test_the_quick_walk_finds_every_secret_that_a_look_at_each_path_finds(tmp_path: Path) -> None:
    names = [piece for line in deny_patterns() for piece in line.strip("!*").replace("*", "x").split("/") if piece]
    names += ["plain.txt", "A.PEM", "-dash", "two words", "\u202e.txt", "\uff0eenv", "new\nline", "b~", "back\\slash"]
    for at, name in enumerate(names):
        # Each alone in a harmless folder, and each as the folder of a harmless file.
        for path in (f"src/at{at}/{name}", f"lib/at{at}/{name}x/plain.txt", f"lib/at{at}/{name}/.x/plain.txt"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("x")
    for path in ("-top/plain.txt", "data/deep/x.txt", ".docker/config.json", "t/.docker/config.json", "t/x.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    for deny in ((), ("data/**", "*.CSV"), ("[ab]*",), ("src/at1/*",)):
        ws = Workspace(tmp_path, deny)
        paths = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()]
        paths = [path for path in paths if ".git" not in path.split("/")]  # Readable in the sandbox, all of it.
        assert set(survey(ws, with_moment=True).secrets) == {path for path in paths if _is_secret(ws, path)}


def _is_secret(ws: Workspace, path: str) -> bool:
    from mcp_tierkit.errors import PathRefused

    try:
        return ws.denied(path)
    except PathRefused:
        return True


@pytest.mark.usefixtures("sandboxed")
async def test_a_thousand_secret_files_all_read_empty(world: World) -> None:
    for at in range(1000):
        path = world.project / f"certs{at // 100}/number{at}.pem"
        path.parent.mkdir(exist_ok=True)
        path.write_text("canary")
    script = (
        "import glob\nfound = glob.glob('*/*.pem')\nsay([''.join(open(one).read() for one in found), str(len(found))])"
    )
    add(world, None, "reads", "python", script)
    assert (await world.run("reads")).output == {"said": ["", "1000"]}


# --- run.cwd ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("layered")
async def test_what_is_left_in_scratch_is_no_change_and_the_project_is_still_reached_by_an_input(world: World) -> None:
    (world.project / "a.txt").write_text("seen")
    script = f"open('x.txt', 'w').close(); say([open({str(world.project / 'a.txt')!r}).read(), *os.listdir('.')])"
    add(world, None, "aside", "python", script, run=', cwd = "scratch"', effects=WRITES)
    run = await world.run("aside")
    assert (run.status, run.output, run.changed) == ("ok", {"said": ["seen", "x.txt"]}, ())


async def test_a_result_may_be_as_large_as_the_contract_says_and_not_a_byte_more(world: World) -> None:
    script = "import json as j\nn = int(inputs['words'][0]) - len(j.dumps({'said': ['']})); say(['x' * n])"
    add(world, None, "large", "python", script, run=", max_output_kb = 4")
    assert (await world.run("large", words=["4096"])).status == "ok"
    run = await world.run("large", words=["4097"])
    assert (run.status, run.output) == ("output_limit", None)
    assert "4 KB" in run.log_tail
