"""Run a process with limits, confined where the system can, and leave none of it behind.

A small launcher (`_launch.py`) stands between us and every command. It owns the command's processes: a PID namespace
when confined, a subreaper otherwise. It hears from us over a pipe, whose end tells it that we are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import marshal
import os
import pwd
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType
from typing import IO, Any, Literal

import anyio
from pydantic import Field

from mcp_tierkit.types import Changes, Content, Network, Record

LAUNCHER = Path(__file__).with_name("_launch.py")
BOOT = """
import marshal, sys
with open(int(sys.argv.pop()), "rb") as given:
    code, order = marshal.load(given)
exec(code)
main(order)
"""
GRACE_S = 2.0
ANSWER_BYTES = 80_000_000

MASKED = ("/tmp", "/var/tmp", "/run", "/var/run", "/home", "/root")
HIDDEN = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssh", "/etc/ssl/private")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/proc", "/sys", "/boot", "/nix")
OUR_NAMES = ("tierkit", "mcp-tierkit")

TOOL_FOLDERS = (
    ".pyenv", ".nvm", ".cargo", ".rustup", ".local/bin", ".local/lib", ".local/pipx", ".local/share/uv",
    ".local/share/pipx", ".local/share/mise", ".local/share/pnpm", ".local/share/fnm", ".local/share/virtualenvs",
    ".asdf", ".volta", ".fnm", ".bun", ".deno", ".npm-packages", ".npm-global", ".yarn", "go", ".goenv", ".rbenv",
    ".rvm", ".gem", ".nodenv", ".jenv", ".sdkman", ".m2", ".gradle", ".ivy2", ".sbt", ".dotnet", ".nuget", ".ghcup",
    ".cabal", ".stack", ".opam", ".juliaup", ".julia", ".elan", ".swiftly", ".composer", ".pub-cache", ".virtualenvs",
    "miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".pixi", ".nix-profile", ".cache/pypoetry",
)  # fmt: skip
"""Folders of a home that hold tools rather than secrets, shown read-only."""

TOOL_SECRETS = (
    ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials", ".m2/settings.xml",
    ".m2/settings-security.xml", ".gradle/gradle.properties", ".gradle/init.d", ".composer/auth.json",
    ".nuget/NuGet/NuGet.Config", ".ivy2/.credentials", ".sbt/.credentials", ".cabal/config", ".deno/credentials.json",
)  # fmt: skip

TOOL_VARIABLES = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "PYENV_ROOT", "NVM_DIR", "NVM_BIN", "VOLTA_HOME", "FNM_DIR", "BUN_INSTALL",
    "PNPM_HOME", "CARGO_HOME", "RUSTUP_HOME", "GOROOT", "GOPATH", "GOMODCACHE", "JAVA_HOME", "M2_HOME", "MAVEN_HOME",
    "GRADLE_HOME", "GRADLE_USER_HOME", "SDKMAN_DIR", "RBENV_ROOT", "GEM_HOME", "ASDF_DIR", "ASDF_DATA_DIR",
    "MISE_DATA_DIR", "DOTNET_ROOT", "COMPOSER_HOME", "UV_PYTHON_INSTALL_DIR", "N_PREFIX",
)  # fmt: skip
"""Variables that name a tool's folder: passed on, and what they name is shown read-only."""

PLAIN_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "TZ", "PYENV_VERSION", "RUSTUP_TOOLCHAIN", "GOTOOLCHAIN", "CONDA_DEFAULT_ENV",
    "NODE_VERSION", "VIRTUAL_ENV_PROMPT", "PNPM_VERSION",
)  # fmt: skip

STEERING = re.compile(
    r"(LD|DYLD|PYTHON|GIT|BASH_FUNC|MALLOC)_?\w*|NODE_OPTIONS|BASH_ENV|ENV|PERL5\w*|RUBY(OPT|LIB)|IFS|"
    r"JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|SHELLOPTS|PROMPT_COMMAND|GCONV_PATH|\w*_PRELOAD"
)
CREDENTIAL = re.compile(r"(?i).*(key|token|secret|passw|pwd|credential|cookie|session|auth|dsn|_pat$|private|signing)")


class Limits(Record):
    """What one run may use. Sizes a process or a file may reach are the kernel's own limits, per process."""

    timeout_s: float = Field(gt=0)
    output_kb: int = Field(default=1024, gt=0, description="Per stream; one byte more ends the run.")
    memory_mb: int | None = Field(default=None, gt=0, description="Private memory of each process.")
    processes: int | None = Field(default=None, gt=0)
    file_mb: int | None = Field(default=None, gt=0, description="Largest file it may write.")


class Layer(Record):
    """What a confined process sees: the host read-only, without its private places, and the project."""

    project: Path = Field(description="Seen at the same path.")
    writable: bool = Field(default=False, description="A throwaway layer on top; the host's tree never changes.")
    changes: Changes = Field(default_factory=dict, description="Files shown with this content; None for absent.")
    readable: tuple[Path, ...] = Field(default=(), description="Further host folders or files, shown read-only.")
    writable_dirs: tuple[Path, ...] = Field(default=(), description="Host folders shown read-write.")
    hidden: tuple[str, ...] = Field(default=(), description="Absolute or project-relative paths that read empty.")
    network: Network = Field(
        default="none", description="`none` and `loopback` have a network of their own, `full` has the host's."
    )
    collect: bool = Field(default=False, description="With `writable`: return what the process changed.")


class Ran(Record):
    """How a run ended. `unconfined`: it could not be confined and did not start, or its launcher was lost.

    Its result then means nothing, and the end of stderr says why.
    """

    ending: Literal["exited", "timeout", "output_limit", "not_found", "unconfined"]
    exit_code: int | None = Field(default=None, description="Negative for a signal, as in `subprocess`.")
    stdout: bytes = b""
    stderr: bytes = b""
    output: bytes = Field(default=b"", description="Both streams as they arrived.")
    truncated: bool = Field(default=False, description="The middle of a stream was left out.")
    duration_ms: int = 0
    changes: Changes = Field(default_factory=dict)
    refused: tuple[str, ...] = Field(default=(), description="Changes not collected: `path: why`; links, huge files.")


class Confinement(Record):
    """What this system can do."""

    kind: Literal["sandbox", "none"]
    writable_layer: bool = False
    reason: str = Field(default="", description="Why there is none, or no layer.")


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """PATH, HOME, language, time zone and where tools live; `extra` on top.

    Names that look like a credential or that steer a loader or an interpreter are left out, of `extra` as well.
    """
    kept = {name: os.environ[name] for name in (*PLAIN_VARIABLES, *TOOL_VARIABLES) if os.environ.get(name)}
    path = [part for part in kept.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(part)]
    fixed = {"PATH": os.pathsep.join(path), "LANG": "C.UTF-8", "TMPDIR": "/tmp"}
    harmless = {name: value for name, value in {**kept, **fixed, **(extra or {})}.items() if is_harmless(name)}
    # A confined project is a mount of its own: git would not look for the repository above it.
    return {**harmless, "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1"}


def is_harmless(name: str) -> bool:
    return not (STEERING.fullmatch(name) or CREDENTIAL.match(name))


_found: Confinement | None = None


async def probe() -> Confinement:
    """What confinement really works here, by starting something confined once per process."""
    global _found
    if os.environ.get("TIERKIT_NO_SANDBOX") == "1":
        return Confinement(kind="none", reason="TIERKIT_NO_SANDBOX is set")
    if _found is None:
        _found = await _try_confinement()
    return _found


async def _try_confinement() -> Confinement:
    if sys.platform != "linux":
        return Confinement(kind="none", reason=f"no namespaces on {sys.platform}")
    with tempfile.TemporaryDirectory(prefix="tierkit-probe-") as folder:
        project = Path(folder).resolve()
        (project / "old").mkdir()
        (project / "old" / "file").touch()
        layer = Layer(project=project, writable=True, collect=True, changes={"new/file": Content(data=b"new")})
        script = "import os; os.unlink('old/file'); os.rmdir('old'); os.mkdir('old'); open('new/file').read(); print(1)"
        ran = await _try(layer, script)
        if ran.ending == "exited" and ran.stdout == b"1\n" and ran.changes == {"old/file": None}:
            return Confinement(kind="sandbox", writable_layer=True)
        plain = await _try(Layer(project=project), "print(1)")
    why = _reason(ran)
    if plain.ending == "exited" and plain.stdout == b"1\n":
        return Confinement(kind="sandbox", writable_layer=False, reason=f"no writable layer: {why}")
    return Confinement(kind="none", reason=_reason(plain))


async def _try(layer: Layer, script: str) -> Ran:
    argv = [sys.executable, "-I", "-S", "-c", script]
    try:
        return await _supervise(_order(argv, layer.project, {}, Limits(timeout_s=10), layer, True), b"", 10, 64 * 1024)
    except OSError as problem:
        return Ran(ending="unconfined", stderr=str(problem).encode())


def _reason(ran: Ran) -> str:
    lines = ran.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the trial run ended with {ran.ending}, {ran.exit_code}"


async def run(
    argv: Iterable[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    limits: Limits,
    layer: Layer | None = None,
) -> Ran:
    """Run one command to its end, and end with it all that it started.

    `env` is exactly what the command gets. Without a layer it is not confined. A timeout, too much output or
    cancellation sends TERM, then KILL after two seconds, to every process; one that merely stays behind gets KILL.
    """
    overlay = True
    if layer is not None:
        confinement = await probe()
        overlay = confinement.writable_layer
        if confinement.kind == "none" or (layer.writable and not overlay):
            return Ran(ending="unconfined", stderr=confinement.reason.encode())
    order = _order([str(word) for word in argv], cwd, env, limits, layer, overlay)
    return await _supervise(order, stdin, limits.timeout_s, limits.output_kb * 1024)


def _order(
    argv: list[str], cwd: Path, env: Mapping[str, str], limits: Limits, layer: Layer | None, overlay: bool
) -> dict[str, Any]:
    mb = 1024 * 1024
    bounds = {
        "RLIMIT_DATA": limits.memory_mb and limits.memory_mb * mb,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_FSIZE": limits.file_mb and limits.file_mb * mb,
    }
    return {
        "argv": argv,
        "cwd": os.path.abspath(cwd),
        "env": dict(env),
        "limits": {name: value for name, value in bounds.items() if value is not None},
        "box": _box(argv, env, layer, limits.processes, overlay) if layer is not None else None,
    }


@functools.cache
def _launcher() -> CodeType:
    return compile(LAUNCHER.read_bytes(), LAUNCHER.name, "exec")


async def _supervise(order: dict[str, Any], stdin: bytes, timeout_s: float, output_bytes: int) -> Ran:
    """Shielded: a cancelled caller waits until the last process is gone, and only then sees the cancellation."""
    supervision = Supervision(output_bytes)
    work = asyncio.ensure_future(supervision.drive(order, stdin, timeout_s))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        supervision.stop("cancelled")
        with anyio.CancelScope(shield=True):
            while not work.done():
                try:
                    await asyncio.wait([work])
                except asyncio.CancelledError:
                    continue
        if not work.cancelled():
            work.exception()
        raise


class Capped:
    """The head and the tail of a stream, whatever its length."""

    def __init__(self, limit: int) -> None:
        self.half = max(1, limit // 2)
        self.limit = limit
        self.head, self.tail, self.total = bytearray(), bytearray(), 0

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = self.half - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[max(room, 0) :]
        if len(self.tail) > 2 * self.half + 65536:
            del self.tail[: -self.half]

    @property
    def is_over(self) -> bool:
        return self.total > self.limit

    def value(self) -> bytes:
        if not self.is_over:
            return bytes(self.head + self.tail)
        left_out = self.total - len(self.head) - min(len(self.tail), self.half)
        return bytes(self.head) + f"\n[{left_out} bytes left out]\n".encode() + bytes(self.tail[-self.half :])


class Supervision(asyncio.SubprocessProtocol):
    """One launcher, seen from the event loop."""

    def __init__(self, output_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.streams = {1: Capped(output_bytes), 2: Capped(output_bytes)}
        self.both = Capped(2 * output_bytes)
        self.stopped: asyncio.Future[str] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.streams[fd].add(data)
        self.both.add(data)
        if self.streams[fd].is_over:
            self.stop("output_limit")

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def stop(self, reason: str) -> None:
        if not self.stopped.done():
            self.stopped.set_result(reason)

    async def drive(self, order: dict[str, Any], stdin: bytes, timeout_s: float) -> Ran:
        started = time.monotonic()
        life_theirs, life = os.pipe()
        answer_ours, answer_theirs = os.pipe()
        with memory_file(marshal.dumps((_launcher(), order))) as spec, memory_file(stdin) as given:
            fds = (life_theirs, answer_theirs, spec.fileno())
            # On the loop's own thread: the kernel's signal for a dead parent is for the thread that forked.
            try:
                transport, _ = await asyncio.get_running_loop().subprocess_exec(
                    lambda: self, sys.executable, "-I", "-S", "-c", BOOT, *map(str, fds),
                    stdin=given, pass_fds=fds, env={}, cwd="/", start_new_session=True,
                )  # fmt: skip
            except BaseException:
                os.close(life)
                os.close(answer_ours)
                raise
            finally:
                os.close(life_theirs)
                os.close(answer_theirs)
        answer = Answer()
        listening, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: answer, os.fdopen(answer_ours, "rb"))
        try:
            ending = await self.wait(transport, life, timeout_s - (time.monotonic() - started))
            await asyncio.wait([answer.complete, self.closed], timeout=GRACE_S)
        finally:
            os.close(life)
            listening.close()
            transport.close()
        return self.result(ending, answer.read(), round((time.monotonic() - started) * 1000))

    async def wait(self, transport: asyncio.SubprocessTransport, life: int, timeout_s: float) -> str:
        either: list[asyncio.Future[Any]] = [self.exited, self.stopped]
        await asyncio.wait(either, timeout=max(0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
        if not self.exited.done():
            self.stop("timeout")
            os.write(life, b"t")
            await asyncio.wait([self.exited], timeout=GRACE_S + 1.5)
        if not self.exited.done():
            transport.kill()
            await asyncio.wait([self.exited], timeout=GRACE_S)
        return self.stopped.result() if self.stopped.done() else "exited"

    def result(self, ending: str, answer: dict[str, Any], duration_ms: int) -> Ran:
        ran = Ran(
            ending="exited",
            stdout=self.streams[1].value(),
            stderr=self.streams[2].value(),
            output=self.both.value(),
            truncated=any(stream.is_over for stream in self.streams.values()),
            duration_ms=duration_ms,
        )
        if ending == "exited" and not ran.truncated:
            return ran.model_copy(update=_told(answer, ran.stderr))
        return ran.model_copy(update={"ending": "output_limit" if ran.truncated else "timeout"})


def _told(answer: dict[str, Any], stderr: bytes) -> dict[str, Any]:
    """What the launcher's answer adds to a run that came to its own end."""
    if answer.get("code") is None:
        answer = {"failed": "lost", "why": "the launcher ended without a word", **answer}
    if "failed" in answer:
        ending = "not_found" if answer["failed"] == "not_found" else "unconfined"
        return {"ending": ending, "stderr": stderr + str(answer["why"]).encode(errors="replace")}
    changes = {
        path: None if data is None else Content(data=data, mode=mode) for path, data, mode in answer.get("changes", ())
    }
    return {"exit_code": answer["code"], "changes": changes, "refused": tuple(answer.get("refused", ()))}


class Answer(asyncio.Protocol):
    """What the launcher says at the end."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if len(self.received) < ANSWER_BYTES:
            self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.complete.done():
            self.complete.set_result(None)

    def read(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = marshal.loads(bytes(self.received))
        except (EOFError, ValueError, TypeError):
            return {}
        return answer


def memory_file(content: bytes) -> IO[bytes]:
    """An unnamed file that holds this, read from its start."""
    if hasattr(os, "memfd_create"):
        opened: IO[bytes] = os.fdopen(os.memfd_create("tierkit"), "w+b")
    else:
        opened = tempfile.TemporaryFile()  # noqa: SIM115
    opened.write(content)
    opened.seek(0)
    return opened


def _box(argv: list[str], env: Mapping[str, str], layer: Layer, processes: int | None, overlay: bool) -> dict[str, Any]:
    """The launcher's order in plain values. Nothing here walks the project."""
    project = os.path.realpath(layer.project)
    homes = _homes(env)
    ours = _our_places()
    masks = _outermost(os.path.realpath(path) for path in (*MASKED, *homes))
    masks += [path for path in ours if os.path.isdir(path) and not _within(path, project)]
    view = View(project, masks)
    for path in _tools(argv, env, homes, masks):
        view.show(path, writes=False)
    for folder in layer.readable:
        view.show(str(folder), writes=False, wanted=True)
    for folder in layer.writable_dirs:
        view.show(str(folder), writes=True, wanted=True)
    if layer.network == "full":
        view.show("/etc/resolv.conf", writes=False)
    view.follow(str(layer.project))
    secrets = [os.path.join(home, name) for home in homes for name in TOOL_SECRETS]
    hidden = [os.path.join(project, path) for path in layer.hidden]
    return {
        "project": project, "writable": layer.writable, "collect": layer.collect, "overlay": overlay,
        "changes": [(p, c.data if c else None, c.mode if c else None) for p, c in layer.changes.items()],
        "masks": masks, "folders": homes, "links": view.links,
        "shows": view.needed(),
        "hidden": [*HIDDEN, *secrets, *(path for path in ours if path not in masks), *hidden, *_sockets()],
        "network": layer.network, "processes": processes,
    }  # fmt: skip


class View:
    """Which host paths have to be shown again after the masks, and the links that lead to them."""

    def __init__(self, project: str, masks: list[str]) -> None:
        self.project, self.masks = project, masks
        self.shown: dict[str, bool] = {}
        self.links: list[tuple[str, str]] = []

    def show(self, path: str, *, writes: bool, wanted: bool = False) -> None:
        real = self.follow(path)
        if not os.path.exists(real) or (not writes and _within(real, self.project)):
            return
        if wanted or self.is_masked(real):
            self.shown[real] = writes or self.shown.get(real, False)

    def needed(self) -> list[tuple[str, bool]]:
        """Without what a wider one already shows in the same way."""
        return [(path, writes) for path, writes in self.shown.items() if not self.is_covered(path, writes)]

    def is_covered(self, path: str, writes: bool) -> bool:
        wider = (o for o, w in self.shown.items() if o != path and w == writes and _within(path, o))
        return path == self.project or any(not self.is_between(path, outer) for outer in wider)

    def is_between(self, path: str, outer: str) -> bool:
        """Whether a mask lies between a path and a wider one."""
        return any(_within(path, mask) and _within(mask, outer) for mask in [*self.masks, self.project])

    def is_masked(self, path: str) -> bool:
        return any(_within(path, mask) for mask in self.masks)

    def follow(self, path: str) -> str:
        """The real path; the links passed on the way are noted, since a mask may cover them."""
        done, todo = "/", [part for part in os.path.abspath(path).split("/") if part]
        for _ in range(400):
            if not todo:
                break
            here = os.path.join(done, todo.pop(0))
            try:
                target = os.readlink(here)
            except OSError:
                done = here
                continue
            if self.is_masked(here):
                self.links.append((here, target))
            todo = [part for part in os.path.normpath(os.path.join(done, target)).split("/") if part] + todo
            done = "/"
        return done


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _outermost(paths: Iterable[str]) -> list[str]:
    found: list[str] = []
    for path in sorted(set(paths)):
        if path != "/" and os.path.isdir(path) and not any(_within(path, outer) for outer in found):
            found.append(path)
    return found


def _homes(env: Mapping[str, str]) -> list[str]:
    names = [env.get("HOME", ""), os.environ.get("HOME", "")]
    with contextlib.suppress(KeyError):
        names.append(pwd.getpwuid(os.getuid()).pw_dir)
    real = [os.path.realpath(name) for name in names if os.path.isabs(name)]
    return [path for path in dict.fromkeys(real) if os.path.isdir(path) and not _is_system(path)]


def _is_system(path: str) -> bool:
    """System accounts have homes such as /bin or /usr/sbin, which hold no secrets and must stay."""
    return path in ("/", "/opt", "/var", "/srv", "/mnt") or any(_within(path, top) for top in SYSTEM)


def _our_places() -> list[str]:
    """Where keys, trust, the ledger and the configuration may lie, by the names that our configuration uses."""
    named = [os.environ.get(name, "") for name in ("TIERKIT_STATE_DIR", "TIERKIT_CONFIG")]
    ledger = os.environ.get("TIERKIT_LEDGER", "").removeprefix("sqlite://")
    named += [ledger[1:] + suffix for suffix in ("", "-wal", "-shm") if ledger.startswith("//")]
    for base in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        named += [os.path.join(os.environ.get(base, ""), name) for name in OUR_NAMES]
    return [os.path.realpath(path) for path in named if os.path.isabs(path) and os.path.exists(path)]


def _tools(argv: list[str], env: Mapping[str, str], homes: list[str], masks: list[str]) -> list[str]:
    places = [os.path.join(home, name) for home in homes for name in TOOL_FOLDERS]
    for name in TOOL_VARIABLES:
        places += [place for place in env.get(name, "").split(os.pathsep) if os.path.isabs(place)]
    places += [part for part in env.get("PATH", "").split(os.pathsep) if os.path.isabs(part)]
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix):
        places.append(prefix)
    program = shutil.which(argv[0], path=env.get("PATH")) if argv else None
    for binary in {program, sys.executable} - {None}:
        places += _prefixes(str(binary))
    too_wide = {*homes, *masks, *(os.path.join(home, ".local") for home in homes)}
    return [place for place in dict.fromkeys(places) if os.path.realpath(place) not in too_wide and place != "/"]


def _prefixes(binary: str) -> list[str]:
    """The folder of a program, the environment around it, and the same of what it links to."""
    found = []
    for place in dict.fromkeys((os.path.abspath(binary), os.path.realpath(binary))):
        folder = os.path.dirname(place)
        prefix = os.path.dirname(folder)
        found.append(folder)
        marks = (os.path.join(prefix, mark) for mark in ("pyvenv.cfg", "conda-meta", "lib", "include"))
        if os.path.basename(folder) == "bin" and any(os.path.exists(mark) for mark in marks):
            found.append(prefix)
    return found


def _sockets() -> list[str]:
    """Sockets that host processes listen on: a read-only mount does not keep anyone from connecting to one."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
            paths = {line.split(" ", 7)[-1].strip() for line in table if "/" in line}
    except OSError:
        return []
    return sorted(path for path in paths if path.startswith("/"))
