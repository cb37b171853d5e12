"""`new`, `lint` and `test`: from nothing, a command or a solved task to a playbook that proves itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from mcp_tierkit.cli.options import json_option, print_json, project_option
from mcp_tierkit.cli.playbook.chosen import chosen, config_of, counted, folder_of, loaded, nearest, plain
from mcp_tierkit.errors import InvalidInput, NotFound, Untrusted

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.playbook.cases import CaseResult
    from mcp_tierkit.playbook.load import Playbook
    from mcp_tierkit.playbook.starter import Starter
    from mcp_tierkit.sandbox import Confinement


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(["script", "skill"]), default="script", show_default=True,
              help="script: a program does it; skill: a model does it, within a schema.")  # fmt: skip
@click.option("--runtime", type=click.Choice(["python", "bash", "node", "uv"]), help="What its script is written in.")
@click.option("--from-command", "command", metavar="COMMAND", help="Keep this command, its shell syntax included.")
@click.option("--writes", multiple=True, metavar="PATTERN", help="What the command may change; repeatable.")
@click.option("--from-task", "task_id", metavar="ID", help="Keep the change that this task applied, to make it again.")
@click.option("--user", is_flag=True, help="Put it with your own playbooks, for every project.")
@project_option
def new(project: Path | None, user: bool, name: str, **source: Any) -> int:
    """Make the folder playbooks/NAME with every file filled in and passing tests.

    \b
    Example:
      tierkit playbook new my-report
      tierkit playbook new quick-tests --from-command "pytest -q --cov"
      tierkit playbook new more-retries --from-task t048213377120
    """
    from mcp_tierkit.playbook.starter import check_name, write

    _check_source(**source)
    config = config_of(project)
    root = (config.user_dir if user else config.project) / "playbooks"
    try:
        check_name(root, name)
        starter = anyio.run(partial(_made, config, name, **source))
        paths = write(starter, root)
    except ValueError as error:
        told = plain(str(error))
        raise InvalidInput(
            f"{told[:1].upper()}{told[1:]}. Nothing was written.", next_step="Change that and call again."
        ) from None
    for path in paths:
        click.echo(f"wrote {path}")
    for note in (*starter.notes, *_ignored(root, starter)):
        click.echo(f"Note: {plain(note)}")
    click.echo(f"Next: tierkit playbook test {name}, then tierkit playbook trust {name}")
    return 0


def _check_source(
    kind: str, runtime: str | None, command: str | None, writes: tuple[str, ...], task_id: str | None
) -> None:
    """InvalidInput where the options contradict one another."""
    named = [option for option, given in (("--from-command", command), ("--from-task", task_id)) if given is not None]
    if kind == "skill":
        named.append("--kind skill")
    if runtime:
        named.append("--runtime")
    if len(named) > 1:
        raise InvalidInput(
            f"{named[0]} and {named[1]} do not go together. Nothing was written.", next_step="Give one of them."
        )
    if writes and command is None:
        raise InvalidInput(
            "--writes says what a command may change, and there is none. Nothing was written.",
            next_step="Give it with --from-command, or set effects.writes in playbook.toml.",
        )


async def _made(
    config: Config, name: str, kind: str, runtime: str | None, command: str | None, writes: tuple[str, ...],
    task_id: str | None,
) -> Starter:  # fmt: skip
    """The files of a playbook that has no finding and whose cases pass. ValueError where there is none."""
    from mcp_tierkit.playbook.command import command_starter, missing
    from mcp_tierkit.playbook.starter import script_starter, skill_starter

    if command is None and task_id is None:
        return skill_starter(name) if kind == "skill" else script_starter(name, runtime or "python")
    if task_id is not None:
        starter = await _of_task(config, name, task_id)
    else:
        starter = command_starter(name, command or "", writes)
        if absent := missing(starter, config.project):
            starter = starter.noting(f"{', '.join(absent)} is not installed here: a run is declined until it is.")
    _refuse_findings(starter)
    return await _tried(starter)


async def _of_task(config: Config, name: str, task_id: str) -> Starter:
    from mcp_tierkit.kit import open_kit
    from mcp_tierkit.playbook.recorded import recorded, recorded_starter

    kit = open_kit(config)
    try:
        return recorded_starter(name, await recorded(kit.ledger, kit.workspace, config.state_dir, task_id))
    finally:
        await kit.close()


def _refuse_findings(starter: Starter) -> None:
    from mcp_tierkit.playbook.lint import lint

    if findings := lint(starter.folder):
        first = findings[0]
        if first.rule == "effects" and "changes files" in first.text:
            raise ValueError(f"{first.text.split()[0]} changes files, and nothing says which: add --writes PATTERN")
        raise ValueError(f"it would not pass lint ({first.path}: {first.text}; {first.fix.rstrip('.')})")


async def _tried(starter: Starter) -> Starter:
    """The starter once its cases were run; without the one that goes well where that depends on the moment."""
    from mcp_tierkit.playbook.cases import run_cases
    from mcp_tierkit.playbook.command import with_failing_case, without_ok_case
    from mcp_tierkit.sandbox import probe

    confinement = await probe()
    if confinement.kind == "none":
        return starter.noting("There is no sandbox here, so its test cases were not tried.")

    async def faults_of(tried: Starter) -> list[str]:
        results = [result async for result in run_cases(tried.loaded(), confinement)]
        return [f"{result.name}: {fault}" for result in results for fault in result.faults]

    if not (faults := await faults_of(starter)):
        return starter
    if "assets/command.json" not in starter.files:
        raise ValueError(f"the change cannot be made again from its parts ({faults[0][:300]})")
    if not await faults_of(failing := with_failing_case(starter)):
        return failing
    return without_ok_case(starter, faults[0][:300])


def _ignored(root: Path, starter: Starter) -> list[str]:
    """A note where git would leave files of the new playbook out."""
    from mcp_tierkit.git import git

    paths = [str(root / starter.name / path) for path in starter.files]
    left_out = (git(root, "check-ignore", "--", *paths) or "").splitlines()
    return [f"git ignores {Path(left_out[0]).relative_to(root)}: add the folder with git add -f."] if left_out else []


@click.command()
@click.argument("names", nargs=-1)
@project_option
@json_option
def lint(names: tuple[str, ...], project: Path | None, as_json: bool) -> int:
    """Check playbooks (default: the project's and your own) from their text alone. Exit code 1 with findings.

    \b
    Example:
      tierkit playbook lint my-report
    """
    from mcp_tierkit.playbook import lint as rules

    config, findings = config_of(project), []
    for found in chosen(config, names):
        findings += [
            one.model_copy(update={"path": f"{found.name}/{one.path}"}) for one in rules.lint(folder_of(found))
        ]
    if as_json:
        print_json([one.model_dump() for one in findings])
    else:
        for one in findings:
            where = f"{plain(one.path)}:{one.line}" if one.line else plain(one.path)
            click.echo(f"{where}: {one.rule}: {plain(one.text)}\n    {plain(one.fix)}")
        click.echo(f"{counted(len(findings), 'finding')}.{_odd_folders(config)}")
    return 1 if findings else 0


def _odd_folders(config: Config) -> str:
    """A word on folders that are no playbooks because of their names alone; a stranger's name is not told."""
    from mcp_tierkit.playbook.load import NAME

    here = config.project / "playbooks"
    odd = [path for path in here.iterdir() if path.is_dir() and not NAME.fullmatch(path.name)] if here.is_dir() else []
    told = f" {counted(len(odd), 'folder')} in playbooks/ left out: a playbook's name has a-z, 0-9 and single hyphens."
    return told if odd else ""


@click.command()
@click.argument("name")
@click.option("--case", "case", help="Run this case only.")
@click.option("--no-sandbox", is_flag=True, help="Run its scripts with your own rights; for trusted playbooks only.")
@click.option("--accept", is_flag=True, help="Where a diff is not the one expected, write down the one it came to.")
@project_option
@json_option
def test(name: str, case: str | None, no_sandbox: bool, accept: bool, project: Path | None, as_json: bool) -> int:
    """Run the test cases of the playbook NAME, each twice, in throwaway projects and without the network.

    \b
    Example:
      tierkit playbook test my-report --case empty-week
      tierkit playbook test tidy-imports --accept
    """
    from mcp_tierkit.stages.playbook import read_trusted

    config = config_of(project)
    found = nearest(config, name)
    playbook = loaded(folder_of(found), found)
    trusted = read_trusted(config, found) is not None
    results = anyio.run(_test, config, playbook, trusted, case, no_sandbox, not as_json)
    if as_json:
        print_json([result.model_dump() for result in results])
    if not results:
        raise NotFound(
            f"{name} has no such test case. Nothing was run.",
            next_step=f"It has: {_names(playbook)}. A new one is tests/<case>/case.json.",
        )
    failed = [result.name for result in results if result.faults]
    if accept and found.origin != "package":
        for path in _accept(playbook, found.path, results):
            click.echo(f"wrote {path}: read it, then run the tests again.")
    if not as_json:
        click.echo(_conclusion(playbook, len(results), failed, trusted=trusted))
    return 1 if failed else 0


def _names(playbook: Playbook) -> str:
    from mcp_tierkit.playbook.cases import read_cases

    return ", ".join(map(plain, read_cases(playbook))) or "none"


def _accept(playbook: Playbook, folder: Path, results: list[CaseResult]) -> Iterator[str]:
    """Write each diff that is not the expected one to the file that the case names for it."""
    from mcp_tierkit.playbook.cases import read_cases
    from mcp_tierkit.workspace import clean_path

    cases = read_cases(playbook)
    for result in results:
        if result.diff is not None and (named := cases[result.name].expect.diff):
            path = f"tests/{result.name}/{clean_path(named)}"
            (folder / path).write_bytes(result.diff.encode())
            yield plain(path)


def _conclusion(playbook: Playbook, count: int, failed: list[str], *, trusted: bool) -> str:
    from mcp_tierkit.playbook.lint import lint

    name, cases = playbook.name, counted(count, "case")
    if failed:
        again = f"tierkit playbook test {name} --case {plain(failed[0])}"
        return f"{len(failed)} of {cases} failed. Mend the script or the case, then: {again}"
    if found := len(lint(playbook.folder)):
        return f"{cases} passed, each twice. lint has {counted(found, 'finding')}: tierkit playbook lint {name}"
    step = "" if trusted else f" Next: tierkit playbook trust {name}"
    return f"{cases} passed, each twice.{step}"


async def _test(
    config: Config, chosen: Playbook, trusted: bool, case: str | None, no_sandbox: bool, echo: bool
) -> list[CaseResult]:
    from mcp_tierkit.playbook.cases import run_cases
    from mcp_tierkit.playbook.environment import prepare
    from mcp_tierkit.playbook.load import BadPlaybook
    from mcp_tierkit.sandbox import Confinement, probe

    confinement = Confinement(kind="none") if no_sandbox else await probe()
    _refuse_own_rights(chosen, confinement, trusted)
    await anyio.to_thread.run_sync(prepare, chosen, config.state_dir)
    results = []
    try:
        async for result in run_cases(chosen, confinement, only=case, state_dir=config.state_dir):
            results.append(result)
            if echo:
                _echo_case(result)
    except BadPlaybook as error:
        raise InvalidInput(
            f"The test cases of {chosen.name} cannot be read: {plain(str(error))}. The rest was not run.",
            next_step=f"Mend that file; tierkit playbook lint {chosen.name} says more.",
        ) from None
    return results


def _refuse_own_rights(chosen: Playbook, confinement: Confinement, trusted: bool) -> None:
    if confinement.kind == "none" and not trusted:
        raise Untrusted(
            f"untrusted: {chosen.name} would run with your own rights and is not trusted. Nothing was run.",
            next_step=f"Read it and run: tierkit playbook trust {chosen.name}",
        )


def _echo_case(result: CaseResult) -> None:
    click.echo(f"{'failed' if result.faults else 'passed'}  {plain(result.name)}  {result.ms} ms")
    for fault in result.faults:
        click.echo("    " + plain(fault, lines=True).replace("\n", "\n    "))
