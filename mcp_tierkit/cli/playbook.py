"""`tierkit playbook`: list, show, check, test, run, trust and make playbooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from mcp_tierkit.cli.options import json_option, print_json, project_option
from mcp_tierkit.errors import InvalidInput, NotFound, PolicyRefused, Untrusted

if TYPE_CHECKING:
    from mcp_tierkit.config import Config
    from mcp_tierkit.playbook.folder import Folder
    from mcp_tierkit.playbook.load import Found, Playbook

CLIENT = "mcp-tierkit/cli"


@click.group()
def playbook() -> None:
    """List, check, trust and run playbooks: solved tasks that run without a model.

    \b
    Example:
      tierkit playbook list
      tierkit playbook run changelog-from-git from_ref=v1.0.0
    """


@playbook.command("list")
@project_option
@json_option
def list_(project: Path | None, as_json: bool) -> int:
    """List the playbooks within reach, the nearest first. Runs nothing.

    \b
    Example:
      tierkit playbook list --json
    """
    from mcp_tierkit.stages.playbook import list_entries

    entries = list_entries(_config(project))
    if as_json:
        print_json([entry.model_dump() for entry in entries])
        return 0
    for entry in entries:
        trusted = "trusted" if entry.trusted else "not trusted"
        told = entry.fault or entry.description or ""
        click.echo(f"{entry.name}  {entry.version or '-'}  {entry.kind or '-'}  {entry.origin}  {trusted}")
        if told:
            click.echo(f"    {_plain(told)[:200]}")
    return 0


@playbook.command()
@click.argument("name")
@click.option("--files", is_flag=True, help="List its files too.")
@project_option
@json_option
def show(name: str, files: bool, project: Path | None, as_json: bool) -> int:
    """Show what the playbook NAME takes, gives and changes. Runs nothing; an untrusted one stays a name.

    \b
    Example:
      tierkit playbook show rename-symbol --files
    """
    from mcp_tierkit.stages.playbook import open_shelf

    found = open_shelf(_config(project), name=name).named(name)
    record = _described(found, files=files)
    if as_json:
        print_json(record)
        return 0
    for key, value in record.items():
        if isinstance(value, dict | list):
            click.echo(f"{key}:")
            items = value.items() if isinstance(value, dict) else ((item, "") for item in value)
            for item, told in items:
                click.echo(f"    {_plain(str(item))}  {_plain(str(told))}".rstrip())
        else:
            click.echo(f"{key}: {_plain(str(value))}")
    return 0


@playbook.command()
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

    findings = []
    for found in _chosen(_config(project), names):
        findings += [one.model_copy(update={"path": f"{found.name}/{one.path}"}) for one in rules.lint(_folder(found))]
    if as_json:
        print_json([one.model_dump() for one in findings])
    else:
        for one in findings:
            where = f"{_plain(one.path)}:{one.line}" if one.line else _plain(one.path)
            click.echo(f"{where}: {one.rule}: {_plain(one.text)}\n    {_plain(one.fix)}")
        click.echo(f"{len(findings)} findings.")
    return 1 if findings else 0


@playbook.command()
@click.argument("name")
@click.option("--case", "case", help="Run this case only.")
@click.option("--no-sandbox", is_flag=True, help="Run its scripts with your own rights; for trusted playbooks only.")
@project_option
@json_option
def test(name: str, case: str | None, no_sandbox: bool, project: Path | None, as_json: bool) -> int:
    """Run the test cases of the playbook NAME, each twice, in throwaway projects.

    \b
    Example:
      tierkit playbook test my-report --case empty-week
    """
    chosen, trusted = _loaded(_config(project), name)
    return anyio.run(_test, chosen, trusted, case, no_sandbox, as_json)


async def _test(chosen: Playbook, trusted: bool, case: str | None, no_sandbox: bool, as_json: bool) -> int:
    from mcp_tierkit.playbook.cases import run_cases
    from mcp_tierkit.playbook.load import BadPlaybook
    from mcp_tierkit.sandbox import Confinement, probe

    confinement = Confinement(kind="none") if no_sandbox else await probe()
    if confinement.kind == "none" and not trusted:
        raise Untrusted(
            f"untrusted: {chosen.name} would run with your own rights and is not trusted. Nothing was run.",
            next_step=f"Read it and run: tierkit playbook trust {chosen.name}",
        )
    results = []
    try:
        async for result in run_cases(chosen, confinement, only=case):
            results.append(result)
            if not as_json:
                click.echo(f"{'failed' if result.faults else 'passed'}  {result.name}  {result.ms} ms")
                for fault in result.faults:
                    click.echo(f"    {_plain(fault, lines=True)}")
    except BadPlaybook as error:
        raise _unreadable(error) from None
    if as_json:
        print_json([result.model_dump() for result in results])
    if not results:
        raise NotFound(
            f"{chosen.name} has no such test case. Nothing was run.", next_step="Add tests/<case>/case.json."
        )
    return 1 if any(result.faults for result in results) else 0


@playbook.command()
@click.argument("name")
@click.argument("inputs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "json_file", is_flag=False, flag_value="", metavar="[FILE]",
              help="Print the record as JSON; with FILE (- is stdin) take the inputs from there.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Change nothing; write the diff down.")
@project_option
def run(name: str, inputs: tuple[str, ...], json_file: str | None, dry_run: bool, project: Path | None) -> int:
    """Run the trusted playbook NAME at zero tokens.

    \b
    Example:
      tierkit playbook run rename-symbol old=total new=grand_total --dry-run
    """
    from mcp_tierkit.stages.playbook import open_shelf

    if json_file and "=" in json_file and not Path(json_file).exists():
        json_file, inputs = "", (json_file, *inputs)  # `--json key=value`: the flag alone, then an input.
    config = _config(project)
    chosen = open_shelf(config, name=name).named(name)
    reply = anyio.run(_run, config, name, _inputs(chosen, inputs, json_file), dry_run)
    if json_file is not None:
        print_json(reply)
    else:
        _print_run(reply)
    return 0 if reply["status"] in ("ok", "declined", "running") else 1


async def _run(config: Config, name: str, inputs: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    from mcp_tierkit.calls import PlaybookCall
    from mcp_tierkit.desk import open_desk
    from mcp_tierkit.kit import open_kit

    wanted = PlaybookCall(name=name, inputs=inputs, dry_run=dry_run, wait_s=3600)
    async with open_desk(open_kit(config)) as desk:
        return await desk.run_playbook(wanted, client=CLIENT)


@playbook.command()
@click.argument("name")
@project_option
def trust(name: str, project: Path | None) -> int:
    """Read the playbook NAME, see what changed since it was last trusted, and trust just these bytes.

    It asks on the terminal itself; nothing else can answer.

    \b
    Example:
      tierkit playbook trust my-report
    """
    from mcp_tierkit.playbook import trust as store
    from mcp_tierkit.stages.playbook import repository_of

    config = _config(project)
    found = _nearest(config, name)
    if found.origin == "package":
        click.echo(f"{name} comes with the package and is trusted by the digest that the package carries.")
        return 0
    folder = _folder(found)
    chosen = _load(folder, found)
    bound_to = repository_of(config, found.origin)
    before = store.approved_before(config.state_dir, name, repository=bound_to)
    for line in store.describe_change(before, folder):
        click.echo(line)
    _echo_effects(chosen, "differs from what was trusted before" if before else "was not trusted before")
    if not store.ask_on_terminal(f"Type {name} to trust these bytes: ", expected=name):
        raise PolicyRefused(
            f"{name} was not trusted: nobody confirmed it on a terminal. Nothing was changed.",
            next_step="Run this command yourself in a terminal and type the name.",
        )
    try:
        store.trust(config.state_dir, folder, repository=bound_to)
    except store.TrustStoreUnreadable as error:
        raise _unreadable(error) from None
    click.echo(f"{name} is trusted as it is now.")
    return 0


@playbook.command()
@click.argument("name")
@project_option
def untrust(name: str, project: Path | None) -> int:
    """Take back the trust in the playbook NAME. Those that ship with the package cannot be untrusted.

    \b
    Example:
      tierkit playbook untrust my-report
    """
    from mcp_tierkit.playbook import trust as store
    from mcp_tierkit.stages.playbook import repository_of

    config = _config(project)
    bound = {repository_of(config, "project"), repository_of(config, "user")}
    try:
        dropped = [store.untrust(config.state_dir, name, repository=one) for one in bound]
    except store.TrustStoreUnreadable as error:
        raise _unreadable(error) from None
    click.echo(f"{name} is no longer trusted." if any(dropped) else f"{name} was not trusted.")
    return 0 if any(dropped) else 1


@playbook.command()
@click.argument("name")
@click.option(
    "--runtime", type=click.Choice(["python", "bash"]), default="python", help="What its script is written in."
)
@project_option
def new(name: str, runtime: str, project: Path | None) -> int:
    """Make the folder playbooks/NAME with every file filled in and two passing test cases.

    \b
    Example:
      tierkit playbook new my-report
    """
    from mcp_tierkit.playbook.starter import write_starter

    config = _config(project)
    try:
        paths = write_starter(config.project, name, runtime)
    except ValueError as error:
        raise InvalidInput(f"{error}. Nothing was written.", next_step="Choose another name.") from None
    for path in paths:
        click.echo(f"wrote {path}")
    click.echo(f"Next: tierkit playbook test {name}, then tierkit playbook trust {name}")
    return 0


def _config(project: Path | None) -> Config:
    from mcp_tierkit.config import load_config

    return load_config(project=str(project) if project else None)


def _chosen(config: Config, names: tuple[str, ...]) -> list[Found]:
    from mcp_tierkit.playbook.load import find

    if names:
        return [_nearest(config, name) for name in names]
    return [found for found in find(config.project, config.user_dir) if found.origin != "package"]


def _nearest(config: Config, name: str) -> Found:
    from mcp_tierkit.playbook.load import find

    for found in find(config.project, config.user_dir):
        if found.name == name:
            return found
    raise NotFound(
        f"not_found: There is no playbook {name!a}. Nothing was read.", next_step="See tierkit playbook list."
    )


def _folder(found: Found) -> Folder:
    from mcp_tierkit.playbook.folder import FolderRefused, read_folder

    try:
        return read_folder(found.path, shipped=found.origin == "package")
    except FolderRefused as error:
        raise InvalidInput(
            f"The folder of {found.name} is refused: {error}. Nothing was run.", next_step="Mend it."
        ) from None


def _load(folder: Folder, found: Found) -> Playbook:
    from mcp_tierkit.playbook.folder import digest
    from mcp_tierkit.playbook.load import BadPlaybook, load, read_front_matter

    shipped = found.origin == "package"
    try:
        read_front_matter(folder)
        return load(folder, digest(folder, shipped=shipped), origin=found.origin)
    except BadPlaybook as error:
        raise InvalidInput(
            f"{found.name} is not a playbook: {_plain(str(error))}. Nothing was run.",
            next_step=f"Mend it; tierkit playbook lint {found.name} says more.",
        ) from None


def _loaded(config: Config, name: str) -> tuple[Playbook, bool]:
    """The nearest playbook of that name, trusted or not."""
    from mcp_tierkit.stages.playbook import read_trusted

    found = _nearest(config, name)
    return _load(_folder(found), found), read_trusted(config, found) is not None


def _inputs(chosen: Playbook, pairs: tuple[str, ...], file: str | None) -> dict[str, Any]:
    from mcp_tierkit.playbook.schema import invalid_input

    values = _read_inputs(file) if file else {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign:
            raise invalid_input(f"{pair[:40]!a} is not of the form key=value")
        values[key] = chosen.inputs.from_text(key, text)
    return values


def _read_inputs(file: str) -> dict[str, Any]:
    from mcp_tierkit.playbook.schema import MAX_BYTES, invalid_input, strict_json

    try:
        with click.open_file(file, "rb") as opened:
            values = strict_json(opened.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        raise invalid_input(f"the inputs cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise invalid_input("the inputs are not a JSON object")
    return values


def _described(found: Playbook, *, files: bool) -> dict[str, Any]:
    from mcp_tierkit.playbook.load import read_front_matter

    contract = found.contract
    record: dict[str, Any] = {
        "name": found.name, "version": contract.version, "kind": contract.kind, "origin": found.origin, "trusted": True,
        "description": read_front_matter(found.folder).description, "phrases": list(contract.match.phrases),
        "inputs": contract.inputs, "outputs": contract.outputs, "effects": contract.effects.model_dump(mode="json"),
        "digest": found.digest,
    }  # fmt: skip
    if files:
        record["files"] = [entry.path for entry in found.folder.files]
    return record


def _echo_effects(chosen: Playbook, standing: str) -> None:
    effects = chosen.contract.effects
    click.echo(f"\n{chosen.name} {chosen.contract.version} {standing}.")
    click.echo(
        f"  changes files: {'no' if effects.read_only else 'yes, ' + _plain(', '.join(effects.writes) or 'none named')}"
    )
    click.echo(f"  network: {'yes, where your configuration allows it' if effects.network else 'no'}")
    if chosen.contract.run and chosen.contract.run.env:
        click.echo(f"  is given the variables: {', '.join(chosen.contract.run.env)}")


def _print_run(reply: dict[str, Any]) -> None:
    for key, value in reply.items():
        if isinstance(value, dict):
            for name, part in value.items():
                text = _plain(str(part), lines=True)
                click.echo(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}")
        elif value not in (None, "", [], {}):
            click.echo(f"{key}: {_plain(str(value), lines=True)}")


def _unreadable(error: Exception) -> InvalidInput:
    return InvalidInput(
        f"Nothing is trusted now: {error}. It was left as it is.",
        next_step="Move trust.json out of the state folder and trust your playbooks again.",
    )


def _plain(text: str, *, lines: bool = False) -> str:
    """Text of a playbook for the terminal: nothing in it moves the cursor or hides."""
    from mcp_tierkit.playbook.trust import escaped

    return "\n".join(map(escaped, text.split("\n"))) if lines else escaped(text)
