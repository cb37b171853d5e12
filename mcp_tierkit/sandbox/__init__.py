"""Run a process with limits, confined where the system can, and leave none of it behind.

A small launcher (`_launch.py`) stands between us and every command. It owns the command's processes: a PID namespace
when confined, a subreaper otherwise. It hears from us over a pipe, whose end tells it that we are gone.
"""

from __future__ import annotations

import functools
import marshal
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType

from mcp_tierkit.sandbox.records import Confinement, Layer, Limits, Ran
from mcp_tierkit.sandbox.supervise import BOOT, memory_file, supervise
from mcp_tierkit.sandbox.view import TOOL_VARIABLES, box
from mcp_tierkit.types import Content

__all__ = [
    "BOOT", "LAUNCHER", "Confinement", "Layer", "Limits", "Ran", "clean_env", "is_harmless", "memory_file", "probe",
    "run",
]  # fmt: skip

LAUNCHER = Path(__file__).parents[1] / "_launch.py"

PLAIN_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "TZ", "PYENV_VERSION", "RUSTUP_TOOLCHAIN", "GOTOOLCHAIN", "CONDA_DEFAULT_ENV",
    "NODE_VERSION", "VIRTUAL_ENV_PROMPT", "PNPM_VERSION",
)  # fmt: skip

STEERING = re.compile(
    r"(LD|DYLD|PYTHON|GIT|BASH_FUNC|MALLOC)_?\w*|NODE_OPTIONS|BASH_ENV|ENV|PERL5\w*|RUBY(OPT|LIB)|IFS|"
    r"JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|SHELLOPTS|PROMPT_COMMAND|GCONV_PATH|\w*_PRELOAD"
)
CREDENTIAL = re.compile(r"(?i).*(key|token|secret|passw|pwd|credential|cookie|session|auth|dsn|_pat$|private|signing)")


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
        return await supervise(_order(argv, layer.project, {}, Limits(timeout_s=10), layer, True), b"", 10, 64 * 1024)
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
    return await supervise(order, stdin, limits.timeout_s, limits.output_kb * 1024)


def _order(
    argv: list[str], cwd: Path, env: Mapping[str, str], limits: Limits, layer: Layer | None, overlay: bool
) -> bytes:
    """The launcher and what it is to do, as BOOT reads them."""
    mb = 1024 * 1024
    bounds = {
        "RLIMIT_DATA": limits.memory_mb and limits.memory_mb * mb,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_FSIZE": limits.file_mb and limits.file_mb * mb,
    }
    order = {
        "argv": argv,
        "cwd": os.path.abspath(cwd),
        "env": dict(env),
        "limits": {name: value for name, value in bounds.items() if value is not None},
        "box": box(argv, env, layer, limits.processes, overlay) if layer is not None else None,
    }
    return marshal.dumps((_launcher(), order))


@functools.cache
def _launcher() -> CodeType:
    return compile(LAUNCHER.read_bytes(), LAUNCHER.name, "exec")
