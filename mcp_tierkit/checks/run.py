"""One run of a check: where the changed files seem to be in place, watched, and cleaned up after."""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from anyio import to_thread

from mcp_tierkit.checks.asked import is_allowed
from mcp_tierkit.checks.bench import Bench
from mcp_tierkit.checks.project import environment_of, provides, search_path, secret_files, text_of
from mcp_tierkit.checks.stamps import Stamp, stamped
from mcp_tierkit.errors import TierkitError
from mcp_tierkit.evidence import Observed, Seen, Testimony, plain, read_run, read_testimony, runner_of
from mcp_tierkit.redact import redact
from mcp_tierkit.sandbox import Layer, Limits, Ran, clean_env, probe, run
from mcp_tierkit.scope import guarded, in_scope, module_flag, script_word
from mcp_tierkit.types import Changes, Check
from mcp_tierkit.workspace import SKIPPED, Workspace

REPEAT_UNDER_S = 60
OUTPUT_KB = 2048
REPORT_BYTES = 20_000_000
WITNESS = "tierkit_witness"
WATCHED = ("pytest", "unittest", "generic")
_DEAF = f'Error importing plugin "{WITNESS}"'.encode()


async def run_checks(bench: Bench, checks: Sequence[Check], changes: Changes, *, label: str) -> tuple[Observed, ...]:
    """Run each check once, one after the other; a failed check is a result.

    In a sandbox it sees `changes` in place and keeps nothing it writes. In place the caller has them on disk, under
    `tree_lock`, and only allowed commands run. Whole outputs are below `log_dir`, redacted.
    """
    return tuple([await _run_one(bench, check, changes, f"{label}-{at}") for at, check in enumerate(checks, 1)])


async def _run_one(bench: Bench, check: Check, changes: Changes, label: str) -> Observed:
    if bench.isolation == "in_place" and not is_allowed(check, bench.allow):
        why = "not allowed without a sandbox: add it to [checks] allow"
        return Observed(name=check.name, outcome="unrunnable", reason=why)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tierkit-", ignore_cleanup_errors=True)))
        seen = await _execute(bench, check, changes, place.resolve() / "1")
        if seen.exit_code and _DEAF in seen.output:
            seen = await _execute(bench, check, changes, place.resolve() / "2", is_watched=False)
    # Megabytes of output take a while to read: not on the event loop.
    return await to_thread.run_sync(_read, bench, check, changes, label, seen)


def _read(bench: Bench, check: Check, changes: Changes, label: str, seen: Seen) -> Observed:
    found = read_run(
        check.name, check.argv, seen,
        provides=lambda name: provides(bench, check, changes, name),
        writes=lambda path: in_scope(posixpath.normpath(f"{check.cwd}/{path}"), bench.files),
    )  # fmt: skip
    log = _write_log(bench, check, label, seen)
    # Paths as the caller writes them: what stands before the project is noise, and names this machine's folders.
    said = found.digest.replace(f"{bench.root}/", "")
    return found.model_copy(update={"digest": redact(said), "reason": redact(found.reason), "log": log})


async def _execute(bench: Bench, check: Check, changes: Changes, place: Path, *, is_watched: bool = True) -> Seen:
    cwd = bench.root if check.cwd == "." else bench.root / check.cwd
    if not _is_folder(bench, check.cwd, changes):
        return Seen(ending="not_found", reason=f"there is no folder {check.cwd}")
    for name in ("result", "tmp", "witness"):
        (place / name).mkdir(parents=True)
    (place / "witness" / f"{WITNESS}.py").write_text(_witness(), encoding="utf-8")
    env = _environment(bench, check, place, is_watched)
    argv, is_asked = _arguments(check, env, place / "result" / "report")
    key = secrets.token_hex(16)
    stamps = await to_thread.run_sync(_stamps, bench)
    ran = await run(
        argv,
        cwd=cwd,
        env=env,
        # Gone from there once the witness has read it: what comes after it could not sign in its name.
        stdin=f"tierkit-witness {key} {place / 'result' / 'testimony'}".encode(),
        limits=Limits(timeout_s=check.timeout_s, output_kb=OUTPUT_KB),
        layer=await _layer(bench, changes, place) if bench.isolation == "sandbox" else None,
    )
    return Seen(
        ending=ran.ending,
        exit_code=ran.exit_code,
        output=ran.output or ran.stdout + ran.stderr,
        duration_ms=ran.duration_ms,
        report=_left(place / "result", "report"),
        is_asked=is_asked,
        is_watched=is_watched and is_asked and runner_of(check.argv)["name"] in WATCHED,
        testimony=_heard(bench, _left(place / "result", "testimony"), key),
        altered=await to_thread.run_sync(_altered, bench, check, changes, ran, stamps),
        reason=_ending(ran, check),
    )


def _heard(bench: Bench, signed: bytes | None, key: str) -> Testimony | None:
    """The testimony, but for that of a script which a file of the draft's ended."""
    testimony = read_testimony(signed, key)
    files = [os.path.relpath(file, bench.root) for file in testimony.ended_in] if testimony else []
    return None if any(in_scope(file, bench.files) for file in files) else testimony


def _ending(ran: Ran, check: Check) -> str:
    match ran.ending:
        case "not_found":
            return f"command not found: {check.argv[0]}"
        case "timeout":
            return f"it took longer than {check.timeout_s:g} s"
        case "unconfined":
            lines = plain(ran.stderr).strip().splitlines()
            return f"it could not be started or watched: {lines[-1][:120] if lines else 'no reason given'}"
    return ""


async def _layer(bench: Bench, changes: Changes, place: Path) -> Layer:
    is_writable = (await probe()).writable_layer
    return Layer(
        project=bench.root,
        writable=is_writable,
        collect=is_writable,
        changes=changes,
        readable=(*bench.readable, place / "witness"),
        writable_dirs=(place / "result",),
        hidden=tuple(secret_files(bench, changes)),
        network=bench.network,
    )


def _is_folder(bench: Bench, cwd: str, changes: Changes) -> bool:
    if cwd == "." or any(path.startswith(cwd + "/") for path, content in changes.items() if content):
        return True
    try:
        with Workspace(bench.root).folder(cwd):
            return True
    except (OSError, TierkitError):
        return False


def _environment(bench: Bench, check: Check, place: Path, is_watched: bool) -> dict[str, str]:
    """Clean, with the project's own tools first and every cache outside the project."""
    scratch = "/tmp" if bench.isolation == "sandbox" else str(place / "tmp")
    env = clean_env({"CI": "true", "NO_COLOR": "1", "TERM": "dumb", "TMPDIR": scratch})
    if found := environment_of(bench.root, check.cwd):
        env["VIRTUAL_ENV"] = str(found)
    env["PATH"] = search_path(bench.root, env["PATH"], check.cwd)
    report = place / "result" / "report"
    env |= {
        # Not a cache folder of its own: every run would compile the whole toolchain again, seconds each time.
        "PYTHONDONTWRITEBYTECODE": "1",
        "MYPY_CACHE_DIR": f"{scratch}/mypy",
        "RUFF_CACHE_DIR": f"{scratch}/ruff",
        "COVERAGE_FILE": f"{scratch}/coverage",
        "HYPOTHESIS_STORAGE_DIRECTORY": f"{scratch}/hypothesis",
        "PYTEST_ADDOPTS": shlex.join([f"--junitxml={report}", *_pytest_cache(bench, scratch)]),
    }
    if is_watched:
        env |= {"PYTEST_ADDOPTS": f"-p {WITNESS} {env['PYTEST_ADDOPTS']}", "PYTHONPATH": str(place / "witness")}
    return env


def _pytest_cache(bench: Bench, scratch: str) -> tuple[str, ...]:
    """In place, pytest's cache goes elsewhere, unless the project's settings would take that for a mistake."""
    if bench.isolation == "sandbox":
        return ()
    for name in ("pyproject.toml", "pytest.ini", ".pytest.ini", "pytest.toml", "tox.ini", "setup.cfg"):
        if "no:cacheprovider" in text_of(bench.root / name):
            return ()
    return ("-o", f"cache_dir={scratch}/pytest")


def _arguments(check: Check, env: dict[str, str], report: Path) -> tuple[list[str], bool]:
    """The command, made to leave its report where its runner can, and whether it was."""
    argv, row = list(check.argv), runner_of(check.argv)
    if argv[0] == "python" and not shutil.which("python", path=env["PATH"]):
        argv[0] = "python3"
    if row["name"] == "pytest":
        return [word for word in argv if not word.startswith(tuple(row["drop"]))], True
    if row["name"] == "unittest":
        at = module_flag(argv)
        return ([*argv[:at], "-c", _witness(), "-m", *argv[at + 1 :]], True) if at else (argv, False)
    if row["name"] == "generic" and (at := script_word(argv)):
        return [*argv[:at], "-c", _witness(), *argv[at:]], True
    more = [word.replace("{report}", str(report)) for word in row.get("arguments", ())]
    if not more or any(word.startswith(row["unless"]) for word in argv):
        return argv, False
    at = argv.index(row["after"]) + 1 if "after" in row else len(argv)
    return [*argv[:at], *more, *argv[at:]], True


@functools.cache
def _witness() -> str:
    return Path(__file__).parents[1].joinpath("_witness.py").read_text(encoding="utf-8")


def _left(folder: Path, name: str) -> bytes | None:
    """What the command left there: its own process may have put anything in that place."""
    try:
        return Workspace(folder).read(name, limit=REPORT_BYTES)
    except (TierkitError, OSError):
        return None


def _stamps(bench: Bench) -> dict[str, Stamp]:
    """When each file was last changed, where a check could write to the tree itself."""
    return dict(stamped(bench.root, SKIPPED - {"__pycache__"})) if bench.isolation == "in_place" else {}


def _altered(bench: Bench, check: Check, changes: Changes, ran: Ran, before: Mapping[str, Stamp]) -> tuple[str, ...]:
    """Files by which the check is judged that were written or removed while it ran."""
    after = _stamps(bench)
    there = {path for path, content in changes.items() if content} | set(before)
    written = {*ran.changes, *(path for path in {*before, *after} if before.get(path) != after.get(path))}
    return tuple(path for path in sorted(written) if _judges(bench, check, path, path in there))


def _judges(bench: Bench, check: Check, path: str, is_known: bool) -> bool:
    if set(path.split("/")) & (SKIPPED - {"__pycache__"}):
        return False
    is_new = not is_known and not os.path.lexists(bench.root / path)
    reason = guarded(path, (check,), False, is_new=is_new)
    # Runs leave files of their own beside the tests.
    return reason is not None and not (is_new and reason in ("a test file", "installed packages"))


def _write_log(bench: Bench, check: Check, label: str, seen: Seen) -> str:
    head = f"$ {check.name}\n[{seen.ending}, exit code {seen.exit_code}, {seen.duration_ms} ms]\n\n"
    text = redact(head + plain(seen.output))
    return Workspace(bench.root).write_private(f"{bench.log_dir}/{label}.log", text.encode())


async def run_twice(bench: Bench, check: Check, changes: Changes, label: str) -> tuple[Observed, bool]:
    """A check's run, and whether it is flaky: red, and green again without a change."""
    found = await _run_one(bench, check, changes, label)
    if found.outcome != "red" or found.duration_ms > REPEAT_UNDER_S * 1000:
        return found, False
    again = await _run_one(bench, check, changes, f"{label}-again")
    return found, again.outcome == "green"
