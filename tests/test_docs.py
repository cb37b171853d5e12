"""README and docs say what the code does: generated blocks, commands, settings, statuses, links, examples."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from mcp_tierkit import types
from mcp_tierkit.calls import OutcomeCall
from mcp_tierkit.checkup import IDLE
from mcp_tierkit.cli import COMMANDS, main
from mcp_tierkit.prices import Price
from mcp_tierkit.receipts import CallerSide, alone, receipt
from mcp_tierkit.reply import plan_reply, playbook_reply, review_reply
from mcp_tierkit.routing import Ruling

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
WRITTEN = [ROOT / "README.md", ROOT / "CHANGELOG.md", *PAGES]
QUOTED = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(script)
    sys.path[:] = path
    return script


SCRIPT = load_script()


def named(page: Path) -> str:
    return page.name


# --- what is generated


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_holds_what_the_script_would_write(page: Path) -> None:
    text = page.read_text("utf8")
    assert text == SCRIPT.rendered(text), "run scripts/write_docs.py"


def test_every_generated_block_stands_on_a_page_and_every_mark_is_closed() -> None:
    text = "".join(page.read_text("utf8") for page in PAGES)
    found = {name for _, name, _, _ in SCRIPT.BLOCK.findall(text)}
    tools = {f"tool {entry['name'].replace('_', ' ')}" for entry in SCRIPT._contract()["tools"]}
    assert found == {*SCRIPT.BLOCKS, *tools, *(f"client {name}" for name in SCRIPT.clients())}
    blocks, examples = SCRIPT.BLOCK.findall(text), SCRIPT.EXAMPLE.findall(text)
    assert (
        len(blocks) + len(examples) == text.count("<!-- end -->") == len(re.findall("<!-- (generated|example):", text))
    )


def test_every_setting_has_a_meaning_and_none_is_made_up() -> None:
    assert {key for key, _ in SCRIPT.settings_keys()} == set(SCRIPT.MEANINGS)
    single = {key for key in SCRIPT._settable() if not key.startswith("tiers.*")}
    assert single <= set(SCRIPT.MEANINGS)
    assert set(SCRIPT.VARIABLES) == set(SCRIPT._OTHER_VARIABLES)
    assert set(IDLE) <= set(SCRIPT.MEANINGS)


def test_a_setting_that_is_said_to_do_nothing_does_nothing() -> None:
    reads = {"settings.py", "config.py", "narrowing.py", "tiers.py"}
    code = {file: file.read_text("utf8") for file in (ROOT / "mcp_tierkit").rglob("*.py")}
    users = {
        file.name for file, text in code.items() if file.parent.name != "checkup" for key in IDLE if _uses(text, key)
    }
    assert users <= reads, "take it out of IDLE, and tell what it does in docs/configuration.md"


def _uses(text: str, key: str) -> bool:
    name = key.rpartition(".")[2]
    return bool(re.search(rf"(config|self)\.stages\.{name}\b" if key.startswith("stages.") else rf"\.{name}\b", text))


# --- commands


def commands() -> dict[str, click.Command]:
    return dict(SCRIPT.all_commands())


def quoted_commands() -> Iterator[tuple[str, str, bool]]:
    """Each `tierkit …` in code style, with the page it stands on and whether it is a line to be typed."""
    for page in WRITTEN:
        prose = SCRIPT.BLOCK.sub("", page.read_text("utf8"))
        for quote in QUOTED.findall(prose):
            for line in quote.strip("`").splitlines():
                found = re.match(r"\s*(?:\$ |\S*/)?((?:mcp-)?tierkit( .*)?)$", line.split("  #")[0].rstrip())
                if found:
                    yield page.name, found[1], quote.startswith("```")


def test_commands_are_quoted_at_all() -> None:
    assert len(list(quoted_commands())) > 25


@pytest.mark.parametrize(("page", "line", "is_whole"), sorted(set(quoted_commands())))
def test_a_quoted_command_line_is_one_that_the_program_takes(page: str, line: str, is_whole: bool) -> None:
    words = shlex.split(line)[1:]
    if not words or words[0].startswith("-"):
        assert set(words) <= {"--help", "--version"}, line
        return
    assert words[0] in COMMANDS, line
    command = main.get_command(click.Context(main), words.pop(0))
    while isinstance(command, click.Group) and words:
        command = command.commands[words.pop(0)]
    assert command is not None
    context = click.Context(command, ignore_unknown_options=False)
    given, left, _ = command.make_parser(context).parse_args(words)
    taken = [given.get(param.name or "") for param in command.params if isinstance(param, click.Argument)]
    arguments = sum(isinstance(value, str) or (isinstance(value, tuple) and bool(value)) for value in taken)
    # A command that is only named in a sentence may go without arguments.
    required = [param for param in command.params if isinstance(param, click.Argument) and param.required]
    assert not left, line
    assert not (words or is_whole) or arguments >= len(required), line
    for param in command.params:
        if isinstance(param.type, click.Choice) and (value := given.get(param.name or "")):
            assert value in (*param.type.choices, "NAME"), line


def test_an_option_that_a_sentence_names_is_one_of_a_command() -> None:
    known = {option for command in commands().values() for param in command.params for option in param.opts}
    text = "".join(SCRIPT.BLOCK.sub("", page.read_text("utf8")) for page in WRITTEN)
    said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "".join(re.findall(r"`[^`\n]+`", text))))
    assert said
    assert said - known == {"--help"} & said


def test_every_command_is_named_outside_its_help_text() -> None:
    text = "".join(SCRIPT.BLOCK.sub("", page.read_text("utf8")) for page in WRITTEN)
    assert [name for name in COMMANDS if f"tierkit {name}" not in text] == []


# --- values, variables, examples


def marked_values() -> dict[str, tuple[str, ...]]:
    text = (ROOT / "docs/tools.md").read_text("utf8")
    found = {}
    for name, table in re.findall(r"<!-- values: (\w+) -->\n\n((?:\|.*\n)+)", text):
        found[name] = tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    return found


@pytest.mark.parametrize(
    "name",
    ["Decision", "CheckOutcome", "DraftStatus", "Verdict", "FindingClass", "PlaybookStatus", "TaskState", "Outcome",
     "CallStatus"],
)  # fmt: skip
def test_every_value_of_a_status_is_explained_once(name: str) -> None:
    assert sorted(marked_values()[name]) == sorted(get_args(getattr(types, name)))


def test_variables_in_the_code_and_in_the_docs_are_the_same() -> None:
    said = set(re.findall(r"TIERKIT_[A-Z]\w*", "".join(page.read_text("utf8") for page in WRITTEN)))
    code = "".join(file.read_text("utf8") for file in (ROOT / "mcp_tierkit").rglob("*.py"))
    read = set(re.findall(r"TIERKIT_[A-Z]\w*", code))
    settable = {f"TIERKIT_{key.replace('.', '_').upper()}" for key in SCRIPT._settable()}
    assert read - said == set()
    assert said - settable == set(SCRIPT._OTHER_VARIABLES)


def examples() -> dict[str, dict[str, Any]]:
    text = (ROOT / "docs/tools.md").read_text("utf8")
    return {name: json.loads(body.strip().removeprefix("```json").removesuffix("```"))
            for _, name, body, _ in SCRIPT.EXAMPLE.findall(text)}  # fmt: skip


def test_the_examples_have_the_fields_of_a_reply_of_today() -> None:
    shown = examples()
    assert set(shown) == {entry["name"] for entry in SCRIPT._contract()["tools"]}
    route = types.Route(route_id="r", task_id="t", decision="draft", tier="cheap", rule="r", reason="r")
    plan = plan_reply(route, Ruling(decision="draft", rule="r", reason="r"), {})
    review = review_reply(types.Review(task_id="t", verdict="clean", tier="strong", model="m"), {})
    run = types.PlaybookRun(task_id="t", playbook="p", version="1.0.0", digest="d", status="ok")
    assert [list(reply) for reply in (plan, review, playbook_reply(run))] == [
        list(shown[name]) for name in ("plan_task", "review_diff", "run_playbook")
    ]
    assert list(shown["get_task"]) == [*list(shown["draft_with_cheap_model"])[:-1], "state", "next"]
    assert re.fullmatch("[0-9a-f]{12}", shown["run_playbook"]["digest"])
    price = Price(input=Decimal(1), output=Decimal(1), source="x")
    side = CallerSide(arguments=1, reply=1, schemas=1)
    paid = receipt(
        types.Spend(),
        side,
        alone(file_tokens=1, context_tokens=1, changed_tokens=1, check_tokens=1),
        price,
        billing="api",
    )
    assert _keys(shown["draft_with_cheap_model"]["receipt"]) == _keys(paid)
    assert {*OutcomeCall.model_fields} - set(shown["record_outcome"]) == {"undo", "note"}


def _keys(record: dict[str, Any]) -> list[Any]:
    return [(key, list(value) if isinstance(value, dict) else None) for key, value in record.items()]


def test_the_ledgers_views_are_described_as_they_are() -> None:
    from mcp_tierkit.ledger.report import reading

    text = " ".join((ROOT / "docs/tools.md").read_text("utf8").split())
    with reading("sqlite:///nowhere/ledger.db") as conn:
        for view in ("task_cost", "call_log"):
            columns = [row[1] for row in conn.execute(f"pragma table_info({view})")]
            assert f"`{view}({', '.join(columns)})`" in text


# --- links, names, places


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links() -> list[tuple[Path, str]]:
    return [(page, link) for page in WRITTEN for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf8"))]


@pytest.mark.parametrize(("page", "link"), [pytest.param(*row, id=f"{row[0].name} {row[1]}") for row in links()])
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    if link.startswith("https://"):
        return
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    assert target.is_file(), link
    assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf8")
    assert [page.name for page in PAGES if f"docs/{page.name}" not in text] == []


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_a_page_names_no_place_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text("utf8")
    assert not re.search(r"/tmp/\w|/root\b|/work/|/home/\w|pytest-of-", text)


def test_the_readme_names_every_client_that_init_sets_up() -> None:
    text = (ROOT / "README.md").read_text("utf8")
    merged = [name for name, client in SCRIPT.clients().items() if client.format != "snippet"]
    assert [name for name in merged if f"tierkit init --client {name}" not in text] == []


def test_makefile_targets_in_the_readme_exist() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf8"), re.MULTILINE)
    said = re.findall(r"\bmake ([a-z][\w-]*)", "".join(QUOTED.findall((ROOT / "README.md").read_text("utf8"))))
    assert said
    assert set(said) <= set(targets)
