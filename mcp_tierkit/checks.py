"""Run the caller's checks where the changed files seem to be in place, and judge before against after."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import posixpath
import re
import secrets
import shlex
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import to_thread
from pydantic import ValidationError

from mcp_tierkit.errors import InvalidInput, TierkitError
from mcp_tierkit.evidence import Observed, Seen, Testimony, fault, plain, read_run, read_testimony, runner_of
from mcp_tierkit.redact import is_denied, redact
from mcp_tierkit.sandbox import Layer, Limits, Ran, clean_env, probe, run
from mcp_tierkit.scope import guarded, in_scope, module_flag, script_word
from mcp_tierkit.types import (
    Changes,
    Check,
    CheckOutcome,
    CheckResult,
    CheckRun,
    Isolation,
    Network,
    Proof,
    Record,
)
from mcp_tierkit.workspace import MAX_WALK, SKIPPED, Workspace, clean_path

REPEAT_UNDER_S = 60
OUTPUT_KB = 2048
REPORT_BYTES = 20_000_000
WITNESS = "tierkit_witness"
WATCHED = ("pytest", "unittest", "generic")
_DEAF = f'Error importing plugin "{WITNESS}"'.encode()
MAX_LISTED = 5000
_OPERATOR = re.compile(r"[|&;<>`\n]|\$\(|\$\{")
_SETTING = re.compile(r"[A-Za-z_]\w*=.*", re.S)


class Bench(Record):
    """Where a task's checks run. `files` are the patterns the draft may write; `allow` counts without a sandbox."""

    root: Path
    isolation: Isolation
    log_dir: str
    allow: tuple[str, ...] = ()
    network: Network = "none"
    readable: tuple[Path, ...] = ()
    deny: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Baseline(Record):
    """The checks before anything was spent. Where `may_start` is False, `reason` says why in a sentence."""

    results: tuple[CheckResult, ...] = ()
    runs: tuple[Observed, ...] = ()
    may_start: bool = True
    reason: str = ""


def parse_check(value: str | dict[str, Any] | Check) -> Check:
    """A check from a command line or from {argv, cwd, timeout_s}; InvalidInput where it needs a shell."""
    if isinstance(value, Check):
        return value
    given: dict[str, Any] = {"argv": value} if isinstance(value, str) else dict(value)
    if isinstance(given.get("argv"), str):
        given["argv"] = _split(given["argv"])
    try:
        check = Check.model_validate(given)
    except ValidationError as error:
        # Names of our own only: an unknown one, or a value, is the caller's and may be a secret.
        wrong = [str(row["loc"][0]) for row in error.errors() if row["loc"][0] in Check.model_fields]
        what = f"{wrong[0]} has a value of the wrong kind" if wrong else "it has a field that no check has"
        raise _unusable(what, "Give a command line, or {argv, cwd, timeout_s}.") from None
    if not check.argv[0] or any(plain(word.encode("utf-8", "replace")) != word for word in check.argv):
        raise _unusable("a word is empty or holds control characters", "Give a plain command line.")
    cwd = "." if check.cwd in (".", "./", "") else clean_path(check.cwd)
    return check.model_copy(update={"cwd": cwd})


def _split(line: str) -> list[str]:
    try:
        words = shlex.split(line)
        bare = "".join(_unquoted(line))
    except ValueError as error:
        raise _unusable(str(error).lower(), "Close the quotes.") from None
    if _OPERATOR.search(bare):
        raise _unusable("it needs a shell, and none is used", "Put it into a script and name the script as the check.")
    if not words:
        raise _unusable("it is empty", "Give a command line such as `pytest -q`.")
    if _SETTING.fullmatch(words[0]):
        raise _unusable("it begins with a setting of a variable", "Set the variable in a script and name the script.")
    return words


def _unquoted(line: str) -> Iterator[str]:
    """The characters that a shell would look at for operators."""
    quote, escaped = "", False
    for char in line:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        elif not quote or (quote == '"' and char in "`$("):
            yield char
        else:
            yield " "


def _unusable(what: str, fix: str) -> InvalidInput:
    return InvalidInput(f"A check cannot be used: {what}. Nothing was run.", next_step=fix)


async def run_checks(bench: Bench, checks: Sequence[Check], changes: Changes, *, label: str) -> tuple[CheckRun, ...]:
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
        provides=lambda name: _provides(bench, check, changes, name),
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
        hidden=tuple(_secret_files(bench, changes)),
        network=bench.network,
    )


def _secret_files(bench: Bench, changes: Changes) -> list[str]:
    """Denied files of the project, and of the folders above it that are shown."""
    above = {folder for shown in bench.readable for folder in bench.root.parents if folder.is_relative_to(shown)}
    found = [str(folder / name) for folder in above for name in _denied_in(folder, bench.deny)]
    return [*found, *(name for name in _denied_in(bench.root, bench.deny) if name not in changes)]


def _denied_in(folder: Path, deny: tuple[str, ...]) -> list[str]:
    """Denied files in a folder and one level down: a full walk would cost more than the check."""
    found: list[str] = []
    for name, path in _entries(folder):
        if name == ".git":
            continue
        if is_denied(name, deny):
            found.append(name)
        elif os.path.isdir(path) and not os.path.islink(path) and name not in SKIPPED:
            found += [f"{name}/{below}" for below, _ in _entries(path) if is_denied(f"{name}/{below}", deny)]
    return found


def _entries(folder: Path | str) -> list[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.path) for entry, _ in zip(entries, range(MAX_LISTED), strict=False)]
    except OSError:
        return []


def _is_folder(bench: Bench, cwd: str, changes: Changes) -> bool:
    if cwd == "." or any(path.startswith(cwd + "/") for path, content in changes.items() if content):
        return True
    try:
        with Workspace(bench.root).folder(cwd):
            return True
    except (OSError, TierkitError):
        return False


def is_allowed(check: Check, allow: Sequence[str]) -> bool:
    """Whether a command begins with the words of an allowed one; `python -m x` counts as `x`."""
    said = [check.argv]
    if check.argv[0] in ("python", "python3") and check.argv[1:2] == ("-m",):
        said.append(check.argv[2:])
    wanted = [tuple(shlex.split(entry)) for entry in allow]
    return any(words and argv[: len(words)] == words for words in wanted for argv in said)


def _environment(bench: Bench, check: Check, place: Path, is_watched: bool) -> dict[str, str]:
    """Clean, with the project's own tools first and every cache outside the project."""
    scratch = "/tmp" if bench.isolation == "sandbox" else str(place / "tmp")
    env = clean_env({"CI": "true", "NO_COLOR": "1", "TERM": "dumb", "TMPDIR": scratch})
    folders = [bench.root] if check.cwd == "." else [bench.root / check.cwd, bench.root]
    found = [folder / name for folder in folders for name in (".venv", "venv") if (folder / name / "bin").is_dir()]
    first = [str(venv / "bin") for venv in found[:1]]
    if found:
        env["VIRTUAL_ENV"] = str(found[0])
    first += [str(folder / "node_modules/.bin") for folder in folders if (folder / "node_modules/.bin").is_dir()]
    env["PATH"] = os.pathsep.join([*first, env["PATH"]])
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
        if "no:cacheprovider" in _text(bench.root / name):
            return ()
    return ("-o", f"cache_dir={scratch}/pytest")


def _text(path: Path) -> str:
    try:
        return Workspace(path.parent).text(path.name)
    except (TierkitError, OSError):
        return ""


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
    return Path(__file__).with_name("_witness.py").read_text(encoding="utf-8")


def _left(folder: Path, name: str) -> bytes | None:
    """What the command left there: its own process may have put anything in that place."""
    try:
        return Workspace(folder).read(name, limit=REPORT_BYTES)
    except (TierkitError, OSError):
        return None


def _stamps(bench: Bench) -> dict[str, Stamp]:
    """When each file was last changed, where a check could write to the tree itself."""
    return dict(_stamped(bench.root, SKIPPED - {"__pycache__"})) if bench.isolation == "in_place" else {}


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


def _provides(bench: Bench, check: Check, changes: Changes, name: str) -> bool:
    """Whether a module that was not found is the project's own to provide: there, or the draft's to write."""
    wanted = (name, f"{name}.py", f"{name}.js", f"{name}.ts")
    if any(part in wanted for path in changes for part in path.split("/")):
        return True
    if any(part in wanted for pattern in bench.files for part in pattern.rstrip("/").split("/")):
        return True
    if any((bench.root / folder / entry).exists() for folder in _roots(bench, check) for entry in wanted):
        return True
    if _is_dependency(bench, name):
        return False
    places = (f"{name}.py", f"{name}/__init__.py", f"src/{name}.py", f"src/{name}/__init__.py")
    return any(in_scope(place, bench.files) for place in places)


def _roots(bench: Bench, check: Check) -> set[str]:
    base = "" if check.cwd == "." else check.cwd
    below = {name for name, path in _entries(bench.root) if name not in SKIPPED and os.path.isdir(path)}
    return {"", base, f"{base}/src".lstrip("/"), *below, *(f"{name}/src" for name in below)}


def _is_dependency(bench: Bench, name: str) -> bool:
    """Whether the project's own lists of packages name it."""
    squeezed = re.sub(r"[-_.]+", "-", name).lower()
    texts = [
        _text(bench.root / file) for file in ("pyproject.toml", "setup.cfg", "setup.py", "package.json", "Pipfile")
    ]
    texts += [
        _text(Path(path)) for file, path in _entries(bench.root) if re.fullmatch(r"requirements[\w.-]*\.txt", file)
    ]
    words = re.findall(r"[A-Za-z0-9@/][\w./-]*", "\n".join(texts))
    own = _own_name(texts[0])
    return any(re.sub(r"[-_.]+", "-", word).lower() == squeezed != own for word in words)


def _own_name(pyproject: str) -> str:
    with contextlib.suppress(tomllib.TOMLDecodeError, TypeError, AttributeError):
        return re.sub(r"[-_.]+", "-", str(tomllib.loads(pyproject).get("project", {}).get("name", ""))).lower()
    return ""


async def baseline(
    bench: Bench, checks: Sequence[Check], proof: Proof, seen: MutableMapping[str, Any] | None = None
) -> Baseline:
    """How the checks stand before anything is spent, and whether a draft could prove anything by them.

    `seen` remembers green and red by the state of the tree. A red check that ends within a minute is run again: green
    then means flaky.
    """
    memory = await recall(bench, seen)
    runs, outcomes = [], []
    for at, check in enumerate(checks, 1):
        found, flaky = await memory.stand(check, f"before-{at}")
        runs.append(found)
        outcomes.append(_before(found, proof, flaky))
    results = tuple(
        CheckResult(name=run.name, role=proof, before=outcome, digest=_said(run), log=run.log)
        for run, outcome in zip(runs, outcomes, strict=True)
    )
    reason = _obstacle(results, runs, proof)
    return Baseline(results=results, runs=tuple(runs), may_start=not reason, reason=reason)


@dataclass(frozen=True)
class Memory:
    """How checks stand on the untouched tree, as it is at this moment."""

    bench: Bench
    seen: MutableMapping[str, Any]
    state: str | None

    def known(self, check: Check) -> Observed | None:
        """The run of before, where no file of the project has changed since."""
        found: Observed | None = self.seen.get(self._key(check)) if self.state else None
        return found

    async def stand(self, check: Check, label: str) -> tuple[Observed, bool]:
        """The check's run, and whether it is flaky. One that is, or could not run, may fare better next time."""
        if known := self.known(check):
            return known, False
        found, flaky = await run_twice(self.bench, check, {}, label)
        if self.state and not flaky and found.outcome != "unrunnable":
            self.seen[self._key(check)] = found
        return found, flaky

    def _key(self, check: Check) -> str:
        return f"{self.state}:{check.model_dump_json()}:{self.bench.isolation}:{self.bench.network}"


async def recall(bench: Bench, seen: MutableMapping[str, Any] | None) -> Memory:
    """What `seen` knows of the tree as it is now; without `seen`, nothing."""
    state = await to_thread.run_sync(tree_state, bench.root) if seen is not None else None
    return Memory(bench, {} if seen is None else seen, state)


async def run_twice(bench: Bench, check: Check, changes: Changes, label: str) -> tuple[Observed, bool]:
    """A check's run, and whether it is flaky: red, and green again without a change."""
    found = await _run_one(bench, check, changes, label)
    if found.outcome != "red" or found.duration_ms > REPEAT_UNDER_S * 1000:
        return found, False
    again = await _run_one(bench, check, changes, f"{label}-again")
    return found, again.outcome == "green"


def _before(found: CheckRun, proof: Proof, flaky: bool) -> CheckOutcome:
    if flaky:
        return "flaky"
    return "vacuous" if found.outcome == "green" and proof == "turns_green" else found.outcome


def _said(found: CheckRun) -> str:
    return "\n".join(filter(None, (found.reason, found.digest))) if found.outcome != "green" else ""


def _obstacle(results: Sequence[CheckResult], runs: Sequence[CheckRun], proof: Proof) -> str:
    """Why no draft may start, in a sentence; "" where one may."""
    for result, found in zip(results, runs, strict=True):
        if result.before == "unrunnable":
            return f"The check {result.name} cannot run here: {found.reason}."
        if proof == "stays_green" and result.before != "green":
            return f"The check {result.name} is {result.before} before the change, and stays_green needs it green."
    if proof == "turns_green" and results and not any(result.before == "red" for result in results):
        flaky = [result.name for result in results if result.before == "flaky"]
        if flaky:
            return f"The check {flaky[0]} is red and green without a change, so it proves nothing."
        return f"The check {results[0].name} is green already, so it can prove no change."
    return ""


def judge(
    checks: Sequence[Check], proof: Proof, before: Baseline, after: Sequence[CheckRun]
) -> tuple[tuple[CheckResult, ...], bool]:
    """Each check before and after, and whether together they prove the change.

    A green exit code counts only where every test that ran before has passed. All must be green; under `turns_green`
    one at least must have been red, and not flaky.
    """
    rows = zip(checks, before.results, before.runs, after, strict=True)
    results = tuple(_compared(check, was, first, second) for check, was, first, second in rows)
    stands = bool(results) and before.may_start and all(result.after == "green" for result in results)
    turned = any(result.before == "red" for result in results)
    return results, stands and (proof == "stays_green" or turned)


def _compared(check: Check, was: CheckResult, first: Observed, second: CheckRun) -> CheckResult:
    observed = second if isinstance(second, Observed) else Observed(**second.model_dump())
    why = fault(first, observed) if second.outcome == "green" else ""
    after: CheckOutcome = "red" if why else second.outcome
    said = f"Exit code 0, but {why}." if why else _said(second)
    return was.model_copy(update={"name": check.name, "after": after, "digest": said, "log": second.log})


def tree_state(root: Path) -> str | None:
    """A digest of every file's path, size, times and mode, and of the installed packages; None for a huge tree.

    Nothing is read: the time of the last change of an entry cannot be set back by a program. git is not asked: its
    filters could run a program of the repository's choice.
    """
    digest, count = hashlib.sha256(sys.version.encode()), 0
    for path, stamp in _stamped(root, SKIPPED, _installed):
        count += 1
        digest.update(f"{path}\0{stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest() if count < MAX_WALK else None


Stamp = tuple[int, ...]


def _stamped(
    root: Path, skipped: frozenset[str], within: Callable[[str], Iterator[os.DirEntry[str]]] = lambda folder: iter(())
) -> Iterator[tuple[str, Stamp]]:
    """Each entry, relative to the root, with what changes whenever it does."""
    start = len(str(root)) + 1
    for entry in _walk(root, skipped, within):
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            # A folder comes up as an installed package only; its times change with any cache below it.
            times = () if entry.is_dir(follow_symlinks=False) else (found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            yield entry.path[start:], (found.st_ino, found.st_mode, *times)


def _walk(
    root: Path, skipped: frozenset[str], within: Callable[[str], Iterator[os.DirEntry[str]]]
) -> Iterator[os.DirEntry[str]]:
    """Every entry that is not a folder, in a fixed order, and what `within` shows of a skipped one.

    A huge tree ends early.
    """
    stack, count = [str(root)], 0
    while stack and count < MAX_WALK:
        for entry in _sorted(stack.pop()):
            if entry.name in skipped:
                yield from within(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            else:
                count += 1
                yield entry


def _installed(folder: str) -> Iterator[os.DirEntry[str]]:
    """What lists the packages of a folder that is skipped: to add, drop or replace one writes an entry here."""
    if folder.endswith("/node_modules"):
        yield from _sorted(folder)
    elif folder.endswith(("/.venv", "/venv")):
        for version in _sorted(f"{folder}/lib"):
            yield from _sorted(f"{version.path}/site-packages")


def _sorted(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
