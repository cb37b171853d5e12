"""What a confined command can see, change and reach: the project as told, tools, and nothing else of the host."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC230

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit import sandbox
from mcp_tierkit.sandbox import Layer, Limits, Ran, clean_env, probe, run
from mcp_tierkit.types import Content

pytestmark = pytest.mark.anyio

PYTHON = sys.executable
LIMITS = Limits(timeout_s=20)


@pytest.fixture(autouse=True)
async def confinement() -> sandbox.Confinement:
    confinement = await probe()
    if confinement.kind == "none":
        pytest.skip(f"no sandbox here: {confinement.reason}")
    return confinement


@pytest.fixture
def layered(confinement: sandbox.Confinement) -> None:
    if not confinement.writable_layer:
        pytest.skip(f"no writable layer here: {confinement.reason}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "a.py").write_text("old a\n")
    (root / "pkg" / "b.py").write_text("old b\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home away from the masked temporary folders, so that only its own mask hides it."""
    base = Path(tempfile.mkdtemp(prefix="tierkit-home-", dir=home_base()))
    monkeypatch.setenv("HOME", str(base))
    request_cleanup.append(base)
    return base


request_cleanup: list[Path] = []


def home_base() -> str:
    return "/var/lib" if os.access("/var/lib", os.W_OK) else "/var/tmp"


@pytest.fixture(autouse=True)
def removed_homes() -> Iterator[None]:
    yield
    while request_cleanup:
        shutil.rmtree(request_cleanup.pop(), ignore_errors=True)


async def shell(script: str, project: Path, **layer: Any) -> Ran:
    shown = Layer(project=project, **layer)
    return await run(["sh", "-c", script], cwd=project, env=clean_env(), limits=LIMITS, layer=shown)


async def python(script: str, project: Path, **layer: Any) -> str:
    shown = Layer(project=project, **layer)
    ran = await run([PYTHON, "-c", script], cwd=project, env=clean_env(), limits=LIMITS, layer=shown)
    return ran.output.decode()


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


# --- the project ----------------------------------------------------------------------------------

CHANGES = {
    "pkg/a.py": Content(data=b"new a\n"),
    "pkg/b.py": None,
    "deep/er/c.py": Content(data=b"new c\n"),
    "run.sh": Content(data=b"#!/bin/sh\necho ran\n"),
    "tool": Content(data=b"#!/bin/sh\necho tool\n", mode=0o755),
}
LOOK = "cat pkg/a.py deep/er/c.py; ls pkg/b.py; ./run.sh; ./tool; ls . pkg deep"
SEEN = b"new a\nnew c\nran\ntool\n.:\ndeep\npkg\nrun.sh\ntool\n\ndeep:\ner\n\npkg:\na.py\n"


@pytest.mark.parametrize("writable", [True, False])
async def test_changes_show_at_the_projects_own_path_and_not_on_the_host(
    project: Path, layered: None, writable: bool
) -> None:
    before = tree(project)
    ran = await shell(LOOK, project, changes=CHANGES, writable=writable)
    assert ran.stdout == SEEN
    assert b"pkg/b.py" in ran.stderr
    assert tree(project) == before


async def test_changes_show_without_a_layer_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_found", sandbox.Confinement(kind="sandbox", writable_layer=False))
    before = tree(project)
    (project / "pkg" / "link").symlink_to("a.py")
    ran = await shell(LOOK + "; cat pkg/link", project, changes=CHANGES)
    assert ran.stdout == SEEN + b"link\nnew a\n"
    refusals = await shell("touch x; touch pkg/a.py; touch pkg/x; rm deep/er/c.py; ls", project, changes=CHANGES)
    assert refusals.stderr.count(b"Read-only file system") == 4
    (project / "pkg" / "link").unlink()
    assert tree(project) == before
    assert (await shell("true", project, writable=True)).ending == "unconfined"


@pytest.mark.parametrize("changes", [{}, CHANGES])
async def test_a_read_only_project_refuses_writes(project: Path, changes: dict[str, Content | None]) -> None:
    before = tree(project)
    ran = await shell("touch new; echo x >pkg/a.py; rm run.sh; mkdir m; chmod 777 pkg", project, changes=changes)
    assert ran.stderr.count(b"Read-only file system") == 5
    assert tree(project) == before


async def test_writes_to_a_writable_project_never_reach_the_host(project: Path, layered: None) -> None:
    before = tree(project)
    script = "echo x >pkg/a.py; rm -r pkg/b.py; mkdir -p n/m; echo y >n/m/f; chmod 700 run.sh; cat pkg/a.py n/m/f"
    assert (await shell(script, project, writable=True)).output == b"x\ny\n"
    assert tree(project) == before


async def test_what_a_command_changed_is_returned(project: Path, layered: None) -> None:
    (project / "pkg" / "old" / "deep").mkdir(parents=True)
    (project / "pkg" / "old" / "deep" / "f").write_text("x")
    (project / "again").mkdir()
    (project / "again" / "was").write_text("x")
    (project / "same").write_text("same")
    script = """
    echo changed >pkg/a.py; rm pkg/b.py; rm -r pkg/old; chmod 700 run.sh
    rm -r again; mkdir again; echo is >again/is
    mkdir -p new/folder empty; printf 'bin\\000' >new/folder/f; touch same; cp same t; mv t same
    mkdir locked; echo l >locked/f; chmod 000 locked/f locked
    """
    ran = await shell(script, project, writable=True, collect=True)
    assert (ran.exit_code, ran.refused) == (0, ())
    assert ran.changes == {
        "pkg/a.py": Content(data=b"changed\n"),
        "pkg/b.py": None,
        "pkg/old/deep/f": None,
        "run.sh": Content(data=b"#!/bin/sh\n", mode=0o700),
        "again/was": None,
        "again/is": Content(data=b"is\n", mode=0o644),
        "new/folder/f": Content(data=b"bin\0", mode=0o644),
        "locked/f": Content(data=b"l\n", mode=0),
    }


async def test_given_changes_are_not_returned_unless_changed_again(project: Path, layered: None) -> None:
    untouched = await shell("true", project, changes=CHANGES, writable=True, collect=True)
    assert untouched.changes == {}
    script = "echo 'old a' >pkg/a.py; rm -r deep; echo back >pkg/b.py"
    ran = await shell(script, project, changes=CHANGES, writable=True, collect=True)
    assert ran.changes == {
        "pkg/a.py": Content(data=b"old a\n"),
        "deep/er/c.py": None,
        "pkg/b.py": Content(data=b"back\n", mode=0o644),
    }


async def test_links_pipes_and_huge_files_are_refused_not_followed(project: Path, layered: None) -> None:
    script = """
    ln -s /etc/passwd link; rm pkg/a.py; ln -s /etc/shadow pkg/a.py
    mkfifo pipe; truncate -s 6000000 huge; echo s >small; chmod 4755 small
    """
    ran = await shell(script, project, writable=True, collect=True)
    assert ran.changes == {"small": Content(data=b"s\n", mode=0o755)}
    assert ran.refused == (
        "huge: larger than the limit of 5000000 bytes",
        "link: a symbolic link",
        "pipe: not a regular file",
        "pkg/a.py: a symbolic link",
    )


async def test_changes_of_many_megabytes_are_shown(project: Path) -> None:
    changes = {f"big{n}": Content(data=bytes(8_000_000)) for n in range(4)}
    assert (await shell("cat big* | wc -c", project, changes=changes)).output == b"32000000\n"


async def test_a_linked_path_to_the_project_works_as_it_is(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "via"
    link.symlink_to(project, target_is_directory=True)
    shown = Layer(project=link, changes={"pkg/a.py": Content(data=b"new\n")})
    script = f"pwd -P; cat {link}/pkg/a.py {project}/pkg/a.py"
    ran = await run(["sh", "-c", script], cwd=link / "pkg", env=clean_env(), limits=LIMITS, layer=shown)
    assert ran.output.decode() == f"{project}/pkg\nnew\nnew\n"


async def test_a_project_in_the_home_is_seen_and_the_rest_of_the_home_is_not(home: Path) -> None:
    (home / "code" / "one").mkdir(parents=True)
    (home / "code" / "one" / "f").write_text("mine\n")
    (home / "code" / "two").mkdir()
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id").write_text("secret")
    ran = await shell("cat f; ls -A ~ ~/code; cat ~/.ssh/id", home / "code" / "one")
    assert ran.stdout == f"mine\n{home}:\ncode\n\n{home}/code:\none\n".encode()
    assert b"secret" not in ran.output


async def test_a_worktree_finds_the_repository_it_belongs_to(tmp_path: Path, layered: None) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    main = tmp_path / "main"
    subprocess.run([*git, "init", "-q", str(main)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], cwd=main, check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(tmp_path / "tree")], cwd=main, check=True)
    script = "git log --format=%s; git status --short"
    without = await shell(script, tmp_path / "tree")
    assert b"first" not in without.output
    ran = await shell(script, tmp_path / "tree", readable=(main,), changes={"new": Content(data=b"")})
    assert ran.output == b"first\n?? new\n"


async def test_a_package_of_a_monorepo_finds_the_repository_above_it(tmp_path: Path, layered: None) -> None:
    package = tmp_path / "packages" / "one"
    package.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    ran = await shell("git status --short", package, readable=(tmp_path,), changes={"new": Content(data=b"")})
    assert ran.output == b"?? ../\n"


async def test_readable_folders_are_read_only_and_writable_ones_are_real(project: Path, tmp_path: Path) -> None:
    (tmp_path / "read").mkdir()
    (tmp_path / "read" / "f").write_text("readable\n")
    (tmp_path / "results").mkdir()
    script = f"cat {tmp_path}/read/f; touch {tmp_path}/read/g; echo done >{tmp_path}/results/r; ls {tmp_path}"
    ran = await shell(script, project, readable=(tmp_path / "read",), writable_dirs=(tmp_path / "results",))
    assert ran.stdout == b"readable\nproject\nread\nresults\n"
    assert b"Read-only file system" in ran.stderr
    assert (tmp_path / "results" / "r").read_text() == "done\n"


async def test_a_result_folder_inside_the_project_takes_writes(project: Path) -> None:
    (project / "out").mkdir()
    await shell("echo r >out/r; echo x >x", project, writable_dirs=(project / "out",))
    assert ((project / "out" / "r").read_text(), (project / "x").exists()) == ("r\n", False)


async def test_hidden_paths_read_empty(project: Path, tmp_path: Path) -> None:
    (project / ".env").write_text("KEY=secret")
    (project / "keys").mkdir()
    (project / "keys" / "k").write_text("secret")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    hidden = (".env", "keys", str(outside / "f"), "missing")
    script = f"cat .env {outside}/f; ls -A keys; mv .env e; rm -r keys; cat e keys/k; umount .env"
    for writable in (True, False):
        ran = await shell(script, project, hidden=hidden, readable=(outside,), writable=writable)
        assert b"secret" not in ran.output
        assert ran.stdout == b""


# --- the host's files -----------------------------------------------------------------------------


async def test_tools_in_the_home_are_readable_but_not_their_credentials(home: Path, project: Path) -> None:
    for path in (".cargo/bin/tool", ".cargo/credentials.toml", ".aws/credentials", ".config/gh/hosts.yml", ".netrc"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("#!/bin/sh\necho tool\n" if path.endswith("tool") else "secret\n")
    (home / ".cargo" / "bin" / "tool").chmod(0o755)
    ran = await shell("~/.cargo/bin/tool; cat ~/.cargo/credentials.toml; ls -A ~; touch ~/.cargo/x", project)
    assert ran.stdout == b"tool\n.cargo\n"
    assert b"Read-only file system" in ran.stderr
    assert (
        b"secret" not in (await shell("cat ~/.aws/credentials ~/.netrc; find ~ -type f -exec cat {} +", project)).output
    )


async def test_the_home_takes_writes_that_vanish(home: Path, project: Path) -> None:
    ran = await shell("mkdir -p ~/.cache/x && echo 1 >~/.cache/x/y && cat ~/.cache/x/y", project)
    assert ran.output == b"1\n"
    assert list(home.iterdir()) == []


async def test_an_interpreter_in_an_environment_works_wherever_it_lies(home: Path, project: Path) -> None:
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    script = "import sys, json, sqlite3; print(sys.prefix)"
    program = str(home / "venv" / "bin" / "python")
    ran = await run([program, "-c", script], cwd=project, env={}, limits=LIMITS, layer=Layer(project=project))
    assert ran.output.decode() == f"{home}/venv\n"


async def test_our_own_state_and_configuration_are_masked(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Path(tempfile.mkdtemp(prefix="tierkit-state-", dir=home_base()))
    request_cleanup.append(state)
    (state / "keys.env").write_text("secret")
    (state / "snapshots" / "one").mkdir(parents=True)
    (state / "snapshots" / "one" / "run.py").write_text("script\n")
    (project / "tierkit.toml").write_text("secret")
    monkeypatch.setenv("TIERKIT_STATE_DIR", str(state))
    monkeypatch.setenv("TIERKIT_CONFIG", str(project / "tierkit.toml"))
    script = f"cat {state}/keys.env tierkit.toml {state}/snapshots/one/run.py; ls {state}"
    ran = await shell(script, project, readable=(state / "snapshots" / "one",))
    assert ran.stdout == b"script\nsnapshots\n"


async def test_the_host_is_read_only_and_its_private_places_are_empty(project: Path) -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp"), tempfile.NamedTemporaryFile(dir="/dev/shm"):
        script = """
import os, pathlib
for place in ("/etc", "/usr", "/var/lib", "/sys/kernel", "/proc/sys/kernel", "/"):
    try: pathlib.Path(place, "probe").write_text("x"); print("wrote", place)
    except OSError: pass
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj", "/sys/power/state"):
    try: open(path, "r+b"); print("opened", path)
    except OSError: pass
print(os.listdir("/run"), os.listdir("/dev/shm"), pathlib.Path("/etc/shadow").read_bytes())
print([name for name in os.listdir("/tmp") if name.startswith("tmp")])
print(sorted(os.listdir("/dev")))
"""
        lines = (await python(script, project)).splitlines()
    assert lines[:2] == ["[] [] b''", "[]"]
    links, devices = (
        {"fd", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"},
        {"full", "null", "random", "tty", "urandom", "zero"},
    )
    assert set(lines[2].strip("[]").replace("'", "").split(", ")) <= links | devices


async def test_temporary_folders_are_private_and_writable(project: Path) -> None:
    mark = "tierkit-private-mark"
    ran = await shell(f"for d in /tmp /var/tmp /dev/shm /run; do touch $d/{mark} && ls $d/{mark}; done", project)
    assert len(ran.stdout.splitlines()) >= (4 if os.getuid() == 0 else 3)
    assert not [d for d in ("/tmp", "/var/tmp", "/dev/shm", "/run") if os.path.exists(f"{d}/{mark}")]


# --- privileges and processes ---------------------------------------------------------------------


async def test_no_capability_is_left_and_none_can_be_had(project: Path) -> None:
    script = """
import ctypes, os
wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
print([int(line.split()[1], 16) for line in open("/proc/self/status") if line.split(":")[0] in wanted])
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10000000), libc.unshare(0x20000), libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
print(libc.umount2(b"/etc/shadow", 2), libc.umount2(b"/tmp", 2), libc.chroot(b"/tmp"))
print(libc.ptrace(16, 1, 0, 0), libc.syscall(425, 1, 0), libc.sethostname(b"x", 1))
print(os.getuid())
"""
    none, all_refused = "[0, 0, 0, 0, 0, 1]", "-1 -1 -1"
    expected = [none, all_refused, all_refused, all_refused, str(os.getuid())]
    assert (await python(script, project)).splitlines() == expected


async def test_the_servers_processes_and_keys_are_out_of_sight(project: Path) -> None:
    keeper = subprocess.Popen(["/bin/cat"], env={"PROVIDER_KEY": "canary-key"}, stdin=-1, stdout=-1)
    with keeper:
        assert keeper.stdin
        assert keeper.stdout
        keeper.stdin.write(b"up\n")
        keeper.stdin.flush()
        assert keeper.stdout.readline() == b"up\n"
        assert b"canary-key" in Path(f"/proc/{keeper.pid}/environ").read_bytes()
        ran = await shell("echo /proc/[0-9]*; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline", project)
        keeper.stdin.close()
    assert b"canary-key" not in ran.output
    assert ran.stdout.splitlines()[0] == b"/proc/1 /proc/2"
    assert b"cat: /proc/1/environ: Permission denied" in ran.stderr


async def test_the_first_process_cannot_be_ended_by_the_command(project: Path) -> None:
    ran = await shell("kill -9 1; kill -INT 1; kill -HUP 1; kill -STOP 1; echo still here", project)
    assert (ran.ending, ran.exit_code, ran.stdout) == ("exited", 0, b"still here\n")


# --- the network ----------------------------------------------------------------------------------

KNOCK = """
import socket
for family, kind, where in {knocks!r}:
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(2)
            s.connect(where)
            s.send(b"knock")
    except OSError:
        pass
print("done")
"""


@contextlib.contextmanager
def doors(tmp_path: Path, project: Path) -> Iterator[dict[str, socket.socket]]:
    """Listeners on the host: TCP, UDP, an abstract socket, and ones in masked, in read-only and in project folders."""
    with contextlib.ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=home_base())))
        wanted: dict[str, tuple[int, int, Any]] = {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0tierkit-{os.getpid()}"),
            "masked": (socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "s")),
            "read-only": (socket.AF_UNIX, socket.SOCK_STREAM, str(place / "s")),
            "datagram": (socket.AF_UNIX, socket.SOCK_DGRAM, str(place / "d")),
            "project": (socket.AF_UNIX, socket.SOCK_STREAM, str(project / "s")),
        }
        found = {}
        for name, (family, kind, where) in wanted.items():
            found[name] = opened.enter_context(socket.socket(family, kind))
            found[name].bind(where)
            found[name].setblocking(False)
            if kind == socket.SOCK_STREAM:
                found[name].listen()
        yield found


def knock_at(listening: dict[str, socket.socket]) -> str:
    return KNOCK.format(knocks=[(int(s.family), int(s.type), s.getsockname()) for s in listening.values()])


def arrived(listening: dict[str, socket.socket]) -> set[str]:
    """Where somebody knocked since the last look."""
    found = set()
    for name, listener in listening.items():
        with contextlib.suppress(BlockingIOError):
            if listener.type == socket.SOCK_STREAM:
                listener.accept()[0].close()
            else:
                listener.recv(99)
            found.add(name)
    return found


@pytest.mark.parametrize("network", ["none", "loopback"])
@pytest.mark.parametrize("writable", [True, False])
async def test_nothing_arrives_at_the_hosts_sockets(
    tmp_path: Path, project: Path, network: str, writable: bool, confinement: sandbox.Confinement
) -> None:
    if writable and not confinement.writable_layer:
        pytest.skip("no writable layer here")
    with doors(tmp_path, project) as listening:
        subprocess.run([PYTHON, "-c", knock_at(listening)], capture_output=True, check=True)
        assert arrived(listening) == set(listening)
        assert await python(knock_at(listening), project, network=network, writable=writable) == "done\n"
        assert arrived(listening) == set()


async def test_the_full_network_is_the_hosts_without_its_path_sockets(tmp_path: Path, project: Path) -> None:
    with doors(tmp_path, project) as listening:
        await python(knock_at(listening), project, network="full")
        assert arrived(listening) == {"tcp", "udp", "abstract"}


@pytest.mark.parametrize(("network", "said"), [("none", "refused\n"), ("loopback", "heard\n")])
async def test_loopback_inside_is_there_only_when_asked_for(project: Path, network: str, said: str) -> None:
    script = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    try:
        socket.create_connection(server.getsockname(), 2); server.accept(); print("heard")
    except OSError: print("refused")
"""
    assert await python(script, project, network=network) == said


async def test_sockets_that_no_namespace_holds_cannot_be_made(project: Path) -> None:
    script = """
import socket
for family in (socket.AF_VSOCK, socket.AF_ALG, socket.AF_PACKET, 31):
    try: socket.socket(family, socket.SOCK_STREAM); print("made", family)
    except OSError: pass
a, b = socket.socketpair(); a.send(b"pairs work"); print(b.recv(99).decode())
"""
    assert await python(script, project) == "pairs work\n"


# --- other users, many files ----------------------------------------------------------------------

AS_NOBODY = """
import asyncio, sys
from pathlib import Path
from mcp_tierkit.sandbox import Layer, Limits, probe, run
from mcp_tierkit.types import Content
async def main():
    found = await probe()
    print(found.kind, found.writable_layer, found.reason)
    if found.kind == "none":
        return
    root = Path(sys.argv[1])
    changes = {"a": Content(data=b"new"), "n/b": Content(data=b"b")}
    layer = Layer(project=root, writable=True, collect=True, changes=changes)
    script = "cat a n/b; echo more >>own; id -u; grep -E 'Cap(Eff|Bnd)' /proc/self/status; ls -A /root"
    env = {"PATH": "/usr/bin:/bin"}
    ran = await run(["sh", "-c", script], cwd=root, env=env, limits=Limits(timeout_s=20), layer=layer)
    print(ran.ending, ran.exit_code, ran.output.decode(), ran.changes, ran.refused)
asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
async def test_a_user_without_privilege_is_confined_as_well() -> None:
    nobody = pwd.getpwnam("nobody")
    root = Path(tempfile.mkdtemp(prefix="tierkit-nobody-", dir=home_base()))
    request_cleanup.append(root)
    (root / "a").write_text("old")
    (root / "own").write_text("one\n")
    for path in (root, root / "a", root / "own"):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    done = run_as_nobody(root)
    if done.returncode or done.stdout.startswith("none"):
        pytest.skip(f"an unprivileged user cannot confine here: {done.stdout}{done.stderr[-500:]}")
    lines = done.stdout.splitlines()
    assert lines[0].strip() == "sandbox True"
    assert lines[1] == f"exited 0 newb{nobody.pw_uid}"
    assert {"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"} <= set(lines)
    assert "{'own': Content(data=b'one\\nmore\\n', mode=None)} ()" in done.stdout
    assert (root / "own").read_text() == "one\n"


OPENED = """
mount --bind "$1" /mnt && mount -t tmpfs -o mode=755 none "$2" && mkdir -p "$1" && mount --bind /mnt "$1" || exit 1
umount /mnt; shift 2; exec setpriv --reuid nobody --regid nogroup --clear-groups "$@"
"""


def run_as_nobody(root: Path) -> subprocess.CompletedProcess[str]:
    """In a mount namespace where the interpreter can be reached although it may lie in root's closed home."""
    command = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    if Path(sys.base_prefix).is_relative_to("/root"):
        command = ["unshare", "-m", "sh", "-c", OPENED, "sh", sys.base_prefix, "/root"]
    return subprocess.run(
        [*command, PYTHON, "-c", AS_NOBODY, str(root)],
        cwd=Path(sandbox.__file__).parents[2], env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


async def test_a_large_project_starts_as_fast_as_a_small_one(tmp_path: Path, layered: None) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    for folder in range(40):
        (large / f"d{folder}").mkdir(parents=True)
        for name in range(100):
            (large / f"d{folder}" / f"f{name}").touch()
    with open(large / "sparse", "wb") as huge:
        huge.truncate(2 * 2**30)
    changes = {"d1/f1": Content(data=b"x")}
    took: dict[Path, list[int]] = {small: [], large: []}
    for _ in range(6):
        for root, times in took.items():
            times.append((await shell("true", root, writable=True, changes=changes)).duration_ms)
    assert min(took[large]) < min(took[small]) + 100
