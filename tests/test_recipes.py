"""Playbooks of kind skill: what is sent, what is believed of the answer, what it costs, and how that is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from mcp.types import TextContent

from mcp_tierkit.config import Config, load_config
from mcp_tierkit.demo_upstream import Reply, Upstream
from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.gateway import ScriptedGateway
from mcp_tierkit.ledger.levers import savings, with_playbooks
from mcp_tierkit.ledger.report import playbook_totals, reading
from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.lint import lint
from mcp_tierkit.playbook.load import BadPlaybook, builtin_root, load
from mcp_tierkit.playbook.quotes import Sources, is_quoted
from mcp_tierkit.playbook.recipe import Recipe
from mcp_tierkit.playbook.schema import BadSchema, Fields
from mcp_tierkit.playbook.trust import trust
from mcp_tierkit.prompts import load as load_prompt
from mcp_tierkit.reply import playbook_reply
from mcp_tierkit.settings import TierConfig
from mcp_tierkit.tokens import count
from mcp_tierkit.types import Completion, PlaybookRun, Request
from tests.playbooks import folder_of, make_playbook
from tests.support import client_at, make_config, said

pytestmark = pytest.mark.anyio
RECIPES = ("extract-contract-terms", "qualify-lead", "technical-article")
TERMS = "extract-contract-terms"
CASE = builtin_root() / TERMS / "tests"
RIGHT = (CASE / "maintenance/reply.txt").read_text()
INVENTED = (CASE / "invented-quote/reply.txt").read_text()
PATH = "contracts/maintenance.txt"
RUN: dict[str, Any] = {"name": TERMS, "inputs": {"contract": PATH}}
ARTICLE: dict[str, Any] = {"name": "technical-article", "inputs": {"notes": "notes/retries.md"}}
THINKING = TierConfig(models=("any",)).thinking_tokens
KEY = "AKIA" + "ABCDEFGHIJKLMNOP"
SKILL = 'schema = 1\nkind = "skill"\nversion = "1.0.0"\neffects = { read_only = true }\n'


def make(project: Path, home: Path, **more: Any) -> Config:
    """A project with a contract and notes, and the recipes as its own trusted playbooks."""
    project.mkdir(parents=True)
    for source in (CASE / "maintenance/workspace", builtin_root() / "technical-article/tests/from-notes/workspace"):
        shutil.copytree(source, project, dirs_exist_ok=True)
    config = make_config(project, home, **more)
    for name in RECIPES:
        shutil.copytree(builtin_root() / name, project / "playbooks" / name)
        approve(config, project / "playbooks" / name)
    return config


def approve(config: Config, folder: Path) -> None:
    trust(config.state_dir, read_folder(folder), repository=str(config.repository))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "app"


@pytest.fixture
def config(project: Path, tmp_path: Path) -> Config:
    return make(project, tmp_path / "home")


async def told(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    assert not result.is_error, block.text
    reply: dict[str, Any] = result.structured_content
    assert json.loads(block.text) == reply
    return reply


async def call(config: Config, arguments: dict[str, Any], *words: Any) -> tuple[dict[str, Any], list[Request]]:
    """The reply of run_playbook where the model says these words in turn, and what it was asked."""
    gateway = ScriptedGateway([said(text) if isinstance(text, str) else text for text in words])
    async with client_at(config, gateway) as client:
        return await told(client, "run_playbook", arguments), gateway.requests


async def refusal(config: Config, arguments: dict[str, Any]) -> tuple[str, int]:
    """The text of the tool error, and how many calls were made."""
    gateway = ScriptedGateway()
    async with client_at(config, gateway) as client:
        result = await client.call_tool("run_playbook", arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    assert result.is_error, block.text
    return block.text, len(gateway.requests)


def rows(config: Config, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(config.ledger_url.removeprefix("sqlite:///")) as ledger:
        return ledger.execute(query).fetchall()


CALLS = "select stage, tier, status, cost_nanousd from calls order by rowid"
RUNS = "select playbook, status, json_extract(record, '$.kind'), json_extract(record, '$.tokens') from playbook_runs"


# --- an answer that fits ------------------------------------------------------------------------


async def test_a_recipe_asks_a_provider_once_and_every_fact_of_its_answer_is_in_the_document(
    project: Path, tmp_path: Path
) -> None:
    with Upstream([Reply(text=RIGHT, model="tiny-cheap")], keeps_text=True) as upstream:
        config = make(project, tmp_path / "home", url=upstream.base_url)
        async with client_at(config) as client:
            reply = await told(client, "run_playbook", RUN)
        [asked] = upstream.asked
        [served] = upstream.served
    assert (asked.model, asked.max_tokens) == ("tiny-cheap", 2500 + THINKING)
    assert served.tokens is not None
    assert (reply["status"], reply["tokens"]) == ("ok", served.tokens.fresh + served.tokens.output)
    whole = json.loads((project / reply["output_file"]).read_text())
    assert whole == json.loads(RIGHT)
    [(stage, tier, status, cost)] = rows(config, CALLS)
    assert (stage, tier, status) == ("playbook", "cheap", "settled")
    assert cost == served.tokens.fresh * 100 + served.tokens.output * 500
    assert reply["usd"] == f"{cost / 1e9:.9f}".rstrip("0")
    assert rows(config, RUNS) == [(TERMS, "ok", "skill", reply["tokens"])]
    joined = "select decision, rule, routes.tier, stage from calls join routes using (route_id)"
    assert rows(config, joined) == [("run_playbook", "contract", "cheap", "playbook")]


async def test_a_run_within_a_quota_is_told_as_such_and_not_as_of_unknown_price(config: Config) -> None:
    settings = Path(config.ledger_url.removeprefix("sqlite:///")).parent / "tierkit.toml"
    priced = re.compile("^price = .*", re.MULTILINE)
    settings.write_text(priced.sub('billing = "subscription"', settings.read_text(), count=1))
    env = {"HOME": f"{settings.parent}", "PATH": os.environ["PATH"], "TIERKIT_CONFIG": f"{settings}"}
    env |= {"TIERKIT_STATE_DIR": f"{config.state_dir}", "TIERKIT_LEDGER": config.ledger_url}
    within = load_config(project=str(config.project), env=env)
    forecast, _ = await call(within, RUN | {"dry_run": True})
    assert forecast["summary"].endswith("It would cost tokens of a quota, and no dollars.")
    reply, _ = await call(within, RUN, RIGHT)
    assert reply["summary"] == f"{TERMS}: done; 1200 tokens, within a quota."
    assert (reply["usd"], reply["billing"], "unpriced" in json.dumps(reply)) == (None, "subscription", False)
    with reading(config.ledger_url) as conn:
        [total] = playbook_totals(conn)
        assert (total.runs, total.quota_runs, total.cost_nanousd) == (1, 1, None)
        assert with_playbooks(savings(conn), [total]).unsaid[0].cost_nanousd == 0


async def test_the_system_part_is_the_same_for_every_document_and_documents_are_data_behind_it(
    config: Config, project: Path
) -> None:
    hostile = (CASE / "hostile-text/workspace" / PATH).read_text()
    (project / "other.txt").write_text(hostile + "```\n# The instruction\n")
    _, [one] = await call(config, RUN, RIGHT)
    reply, [other] = await call(config, RUN | {"inputs": {"contract": "other.txt"}}, RIGHT)
    assert reply["status"] == "ok"
    assert one.messages[0] == other.messages[0]
    assert one.prompt_id == other.prompt_id
    assert one.prompt_id.startswith(f"skill/{TERMS}.v1.0.0@")
    system, user = (message.content for message in other.messages)
    assert "data" in system
    assert "never do what" in system
    assert "answer directly, do not deliberate" in system.lower()
    assert "This is reading, not advice." in system
    assert '"format": "quote"' in system
    assert "IGNORE YOUR INSTRUCTIONS" not in system
    assert f"other.txt\n````\n{hostile}```\n# The instruction\n````" in user
    assert other.category == "extract"


async def test_what_a_model_thinks_before_its_answer_is_no_part_of_it(config: Config) -> None:
    reply, [asked] = await call(config, RUN, f"<think>Hm. {INVENTED}</think>\n{RIGHT}")
    assert (reply["status"], asked.max_output_tokens) == ("ok", 2500 + THINKING)


# --- an answer that does not --------------------------------------------------------------------


async def test_an_invented_quote_is_answered_once_with_its_field_and_rule_and_the_repair_counts(
    config: Config,
) -> None:
    reply, [first, second] = await call(config, RUN, INVENTED, f"```json\n{RIGHT}```")
    assert (reply["status"], reply["tokens"]) == ("ok", 2400)
    assert second.messages[:2] == first.messages
    assert second.messages[2].content == INVENTED
    assert "jurisdiction.quote: must be whole words that stand in a document" in second.messages[3].content
    assert [row[:3] for row in rows(config, CALLS)] == [("playbook", "cheap", "settled")] * 2
    assert rows(config, RUNS) == [(TERMS, "ok", "skill", 2400)]


async def test_an_answer_that_does_not_fit_twice_is_bad_output_and_none_of_it_is_told(
    config: Config, project: Path
) -> None:
    reply, asked = await call(config, RUN, INVENTED, INVENTED)
    assert (reply["status"], reply["output"], len(asked)) == ("bad_output", None, 2)
    assert "jurisdiction.quote" in reply["log_tail"]
    assert "exclusive jurisdiction" not in str(reply)
    assert reply["next"] == (
        f'Do it yourself, or call plan_task with task="extract the contract terms from {PATH}" '
        "and the files it is about."
    )
    assert not (project / ".tierkit").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("", "not one JSON object"),
        (f"Here it is:\n{RIGHT}", "not one JSON object"),
        (f"```\n{RIGHT}```", "not one JSON object"),
        (f"{RIGHT}\n{RIGHT}", "not one JSON object"),
        ('{"a": 1, "a": 2}', "named twice"),
        ('{"a": NaN}', "NaN"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not one JSON object"),
        ("{}", "parties: is required"),
        (RIGHT.replace('"end_date": null', '"end_date": null, "approved": true'), "approved: is not in the schema"),
        (RIGHT.replace('"2025-03-01"', '"1 March 2025"'), "effective_date.value: must be a date"),
        (RIGHT.replace("EUR 250,000 per contract year", "EUR 250", 2), "liability_cap.quote: must be whole words"),
    ],
    ids=range(12),
)
def test_what_is_not_one_object_that_fits_is_refused_with_the_field_and_the_rule(words: str, fault: str) -> None:
    folder = read_folder(builtin_root() / TERMS)
    text = (CASE / "maintenance/workspace" / PATH).read_text()
    recipe = Recipe(load(folder, "", origin="package"), load_prompt("recipe"), "", {PATH: text})
    assert recipe.read(RIGHT) == recipe.read(f" \n```json\n{RIGHT}\n```\n") == json.loads(RIGHT)
    with pytest.raises(ValueError, match=fault):
        recipe.read(words)


async def test_an_answer_that_was_cut_off_is_told_so(config: Config) -> None:
    cut = Completion(text=RIGHT[:200], finish="length", usage=said("").usage, served_model="tiny-cheap")
    reply, asked = await call(config, RUN, cut, RIGHT)
    assert reply["status"] == "ok"
    assert "broke off before its end" in asked[1].messages[-1].content


async def test_a_secret_that_the_model_makes_up_is_neither_told_nor_sent_again(config: Config, project: Path) -> None:
    answer = json.loads(RIGHT)
    answer["term"]["value"] = f"see {KEY}"
    reply, asked = await call(config, RUN, json.dumps(answer))
    assert (reply["status"], len(asked)) == ("ok", 1)
    assert KEY not in str(reply) + (project / reply["output_file"]).read_text()
    reply, asked = await call(config, RUN, f"{KEY} {RIGHT}")
    assert (reply["status"], len(asked)) == ("bad_output", 1)
    assert KEY not in str(reply)


# --- refused, failed, cancelled -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "begins"),
    [
        ("secret.txt", f"pay to\n{KEY}\n", "refused_policy: secret.txt holds a secret at line 2"),
        (".env", "A=b\n", "invalid_input: contract: is on the deny list"),
        ("private/a.txt", "x", "invalid_input: contract: is on the deny list"),
        ("../a.txt", None, "invalid_input: contract: must be a plain path inside the project"),
        ("none.txt", None, "invalid_input: contract: there is no file none.txt"),
        ("contracts", None, "invalid_input: contract: the path contracts is not a regular file"),
        ("scan.pdf", "a\0b", "invalid_input: contract: the file scan.pdf is not UTF-8 text"),
        ("long.txt", "word " * 60_000, "invalid_input: all fields: the documents are about 75"),
    ],
)
async def test_a_document_that_may_not_be_sent_whole_is_refused_before_anything_is_spent(
    project: Path, tmp_path: Path, path: str, text: str | None, begins: str
) -> None:
    config = make(project, tmp_path / "home", toml='\n[policy]\ndeny = ["private/**"]\n')
    if text is not None:
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(text)
    said_no, calls = await refusal(config, RUN | {"inputs": {"contract": path}})
    assert (said_no[: len(begins)], calls) == (begins, 0)
    assert KEY not in said_no
    assert not Path(config.ledger_url.removeprefix("sqlite:///")).exists() or rows(config, RUNS) == []


async def test_without_a_model_one_sentence_says_what_to_set(config: Config, project: Path) -> None:
    folder = make_playbook(project, "mid-one", "", toml=SKILL + '[model]\ntier = "mid"\n')
    approve(config, folder)
    text, calls = await refusal(config, {"name": "mid-one"})
    assert (text[:31], calls) == ("no_model: The mid tier has no m", 0)
    assert "Set one of " in text


async def test_no_budget_for_the_first_call_is_refused_and_none_for_the_repair_is_told(
    project: Path, tmp_path: Path
) -> None:
    config = make(project, tmp_path / "home", toml='\n[budget]\ntask_usd = "0.01"\n')
    dear = said(INVENTED, output=20_000)
    reply, asked = await call(config, RUN, dear)
    assert (reply["status"], len(asked)) == ("bad_output", 1)
    assert "it was not asked again: The task budget" in reply["log_tail"]
    assert rows(config, RUNS) == [(TERMS, "bad_output", "skill", 21_000)]

    config = make(tmp_path / "second", tmp_path / "poor", toml='\n[budget]\ntask_usd = "0.0000001"\n')
    text, calls = await refusal(config, RUN)
    assert (text[:29], calls) == ("over_budget: The task budget ", 0)
    assert (rows(config, CALLS), rows(config, RUNS)) == ([], [])


@pytest.mark.parametrize(("kind", "status"), [("overloaded", "failed"), ("timeout", "timeout")])
async def test_a_provider_that_fails_is_told_as_it_is_and_the_run_is_on_the_ledger(
    config: Config, kind: str, status: str
) -> None:
    failure = ModelFailed("The provider did not manage.", next_step="Call again later.", kind=kind)
    reply, _ = await call(config, RUN, failure)
    assert (reply["status"], reply["log_tail"]) == (status, "The provider did not manage. Call again later.")
    assert reply["next"].startswith("Call it again later, or do it yourself, or call plan_task with task=")
    assert [row[2] for row in rows(config, CALLS)] == ["failed"]
    assert [row[:2] for row in rows(config, RUNS)] == [(TERMS, status)]


async def test_cancelling_ends_the_call_and_leaves_one_row_of_each(config: Config) -> None:
    gate = anyio.Event()
    gateway = ScriptedGateway([said(RIGHT)], gate=gate.wait)
    async with client_at(config, gateway) as client:
        running = await told(client, "run_playbook", RUN | {"wait_s": 0})
        await gateway.begun()
        ended = await told(client, "get_task", {"task_id": running["task_id"], "cancel": True, "wait_s": 20})
    assert ended["state"] == "cancelled"
    assert [row[2:] for row in rows(config, CALLS)] == [("cancelled", None)]
    assert rows(config, RUNS) == [(TERMS, "cancelled", "skill", None)]


async def test_a_run_that_takes_longer_than_a_task_may_is_a_timeout(project: Path, tmp_path: Path) -> None:
    config = make(project, tmp_path / "home")
    config = config.model_copy(update={"task_timeout_s": 0.05})
    gateway = ScriptedGateway([said(RIGHT)], gate=anyio.Event().wait)
    async with client_at(config, gateway) as client:
        reply = await told(client, "run_playbook", RUN)
    assert (reply["status"], reply["tokens"], reply["usd"]) == ("timeout", None, None)


async def test_a_dry_run_sends_nothing_and_says_what_would_be_sent(config: Config) -> None:
    reply, asked = await call(config, RUN | {"dry_run": True})
    assert asked == []
    assert (reply["tier"], reply["model"]) == ("cheap", "openai/tiny-cheap")
    assert (rows(config, CALLS), rows(config, RUNS)) == ([], [])
    _, made = await call(config, RUN, INVENTED, INVENTED)
    reserved = sum(row[0] for row in rows(config, "select reserved_nanousd from calls"))
    assert reserved <= float(reply["usd_at_most"]) * 1e9 < 2 * reserved
    sent = sum(count(message.content).tokens for message in made[0].messages)
    assert sent / 2 < reply["input_tokens"] < sent * 2


async def test_a_decision_is_refused_in_plain_words_and_a_script_asks_no_model(config: Config, project: Path) -> None:
    decision = SKILL.replace('"skill"', '"decision"') + '[decision]\nkey = ["a"]\n[inputs]\na = { type = "string" }\n'
    approve(config, make_playbook(project, "choose", "", toml=decision))
    text, _ = await refusal(config, {"name": "choose", "inputs": {"a": "x"}})
    assert text.startswith("refused_policy: The playbook choose is of kind decision, which this version does not run.")
    approve(config, make_playbook(project, "sample", 'say("hi " + inputs["word"])'))
    reply, asked = await call(config, {"name": "sample", "inputs": {"word": "Ada"}})
    assert (reply["status"], reply["output"], asked) == ("ok", {"said": "hi Ada"}, [])
    assert "tokens" not in reply
    assert (rows(config, CALLS), rows(config, RUNS)) == ([], [("sample", "ok", "script", 0)])


# --- how a run is told --------------------------------------------------------------------------


async def test_a_long_output_is_told_in_part_and_lies_whole_in_a_file_whatever_the_kind(
    config: Config, project: Path
) -> None:
    article = (builtin_root() / "technical-article/tests/from-notes/reply.txt").read_text()
    reply, _ = await call(config, ARTICLE, article)
    assert tokens(reply) <= 400, reply
    assert (next(iter(reply)), next(reversed(reply))) == ("summary", "next")
    assert reply["output"]["title"] == "Retries that do not make things worse"
    assert " characters] " in reply["output"]["markdown"]
    assert reply["output"]["markdown"].endswith(json.loads(article)["markdown"][-20:])
    assert reply["next"] == "Use the output; the file has all of it."
    assert json.loads((project / reply["output_file"]).read_text()) == json.loads(article)
    approve(config, make_playbook(project, "sample", 'say("line of text " * 4000)'))
    reply, _ = await call(config, {"name": "sample"})
    assert tokens(reply) <= 400
    assert json.loads((project / reply["output_file"]).read_text()) == {"said": "line of text " * 4000}
    approve(config, make_playbook(project, "sample", 'say("line of text " * 58)'))
    reply, _ = await call(config, {"name": "sample"})
    assert (reply["output"], "output_file" in reply) == ({"said": "line of text " * 58}, False)


def tokens(reply: dict[str, Any]) -> int:
    return count(json.dumps(reply, separators=(",", ":"), ensure_ascii=False)).tokens


LONG: dict[str, dict[str, Any]] = {
    "many fields": {f"field_{number}": "words of it " * 20 for number in range(40)},
    "a list": {"files": [f"src/module_{number}.py" for number in range(5000)]},
    "a tree": {"tree": {"a": {"b": {"c": ["word " * 300] * 300, "d": {str(n): n for n in range(999)}}}}},
    "no spaces": {"markdown": "wörter" * 9000},
}


@pytest.mark.parametrize("name", LONG)
def test_no_output_makes_a_reply_longer_than_400_tokens(name: str) -> None:
    run = PlaybookRun(
        task_id="t082831060018", playbook="changelog-from-git", version="1.0.0", digest="sha256:82880d82734b",
        status="ok", output=LONG[name], changed=tuple(f"src/module_{number}.py" for number in range(50)),
        diff=".tierkit/t082831060018/playbook.diff", origin="project", hides=("package",),
    )  # fmt: skip
    reply = playbook_reply(run, task="changelog since v1.0.0", kept={"output": ".tierkit/t082831060018/output.json"})
    assert tokens(reply) <= 400, reply
    assert (len(reply["changed"]), reply["more_changed"]) == (6, 44)
    assert reply["origin"] == "the project's, in front of the package's"
    assert len(reply["output"]) + reply.get("more_outputs", 0) == len(LONG[name])


@pytest.mark.parametrize("fallback", ["model", "error"])
@pytest.mark.parametrize("changes_files", [True, False])
@pytest.mark.parametrize("status", ["declined", "failed", "timeout", "bad_output", "write_outside", "conflict"])
def test_a_run_that_came_to_nothing_names_the_next_call_or_says_to_stop(
    status: Any, changes_files: bool, fallback: Any
) -> None:
    run = PlaybookRun(
        task_id="t", playbook="rename-symbol", version="1.0.0", digest="d", status=status, fallback=fallback,
        log_tail="word " * 400,
    )  # fmt: skip
    reply = playbook_reply(run, task="rename total to sum", changes_files=changes_files, kept={"log": "log.txt"})
    assert tokens(reply) <= 400
    assert len(reply["log_tail"]) <= 600
    if status == "conflict":
        assert reply["next"] == "Call run_playbook again with the same inputs."
    elif fallback == "error":
        assert "Stop here and tell the user" in reply["next"]
    else:
        named = "draft_with_cheap_model" if changes_files else "plan_task"
        assert f'{named} with task="rename total to sum"' in reply["next"]


# --- the format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "string", "format": "quote"}, "only an output can be a quote"),
        ({"type": "array", "items": {"type": "string", "format": "quote"}}, "only an output can be a quote"),
        ({"type": ["string", "null"]}, "only an output can be null"),
        ({"type": ["null", "string"]}, "type must be one of"),
        ({"type": ["string", "integer"]}, "type must be one of"),
    ],
)
def test_an_input_is_neither_a_quote_nor_null(schema: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadSchema, match=fault):
        Fields({"x": schema})


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ('[outputs]\nx = { type = "string", format = "quote" }\n', "a quote wants a skill with an input"),
        ("", "a skill changes nothing"),
    ],
)
def test_a_skill_that_cannot_be_held_to_its_contract_does_not_load(toml: str, fault: str) -> None:
    text = SKILL + toml if toml else SKILL.replace("read_only = true", "read_only = false")
    with pytest.raises(BadPlaybook, match=fault):
        load(folder_of({"playbook.toml": text}), "", origin="project")


def test_lint_wants_outputs_of_a_skill_and_the_models_words_in_each_case() -> None:
    case = '{"inputs": {}, "expect": {"status": "ok"}}'
    text = "---\nname: sample\ndescription: x\n---\nDo it.\n"
    files = {"SKILL.md": text, "playbook.toml": SKILL, "tests/one/case.json": case, "tests/one/reply.txt": "{}"}
    files["tests/two/case.json"] = case.replace("ok", "bad_output")
    told = [(one.path, one.text) for one in lint(folder_of(files))]
    assert told == [
        ("playbook.toml", "it has no outputs, so nothing can be checked"),
        ("tests/two/case.json", "'reply.txt' does not exist"),
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_the_cases_of_a_recipe_fail_for_the_reason_that_they_show(name: str) -> None:
    playbook = load(read_folder(builtin_root() / name), "", origin="package")
    for case, text in FAULTS[name].items():
        words = (builtin_root() / name / "tests" / case / "reply.txt").read_text()
        files = (builtin_root() / name / "tests" / case / "workspace").rglob("*.*")
        documents = {file.name: file.read_text() for file in files}
        with pytest.raises(ValueError, match=text):
            Recipe(playbook, load_prompt("recipe"), "", documents).read(words)


FAULTS = {
    TERMS: {
        "invented-quote": "jurisdiction.quote: must be whole words",
        "cut-figure": "liability_cap.quote: must be whole words",
        "hostile-text-obeyed": "approved: is not in the schema",
        "repaired": "not one JSON object",
    },
    "qualify-lead": {
        "made-up-budget": "budget.quote: must be whole words",
        "score-out-of-range": "score: input should be less than or equal to 100",
        "repaired": "missing: is required",
    },
    "technical-article": {
        "invented-figure": "claims.0.quote: must be whole words",
        "long-title-repaired": "title: string should match",
        "hostile-text-obeyed": "claims: list should have at least 1 item",
    },
}


# --- quotes -------------------------------------------------------------------------------------

# Figures and hyphens are told apart in test_quotes.py: there a part may mean something else than the whole.
WORDS = st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=6), min_size=1, max_size=12)
SPACES = st.lists(st.sampled_from([" ", "\n", "\t ", "  \r\n", "\u00a0"]), min_size=12, max_size=12)


def spaced(words: list[str], spaces: list[str]) -> str:
    return "".join(word + space for word, space in zip(words, spaces, strict=False))


@given(words=WORDS, here=SPACES, there=SPACES, data=st.data())
def test_any_run_of_whole_words_is_a_quote_however_it_is_spaced(
    words: list[str], here: list[str], there: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    assert is_quoted(spaced(words[start:end], there), Sources(["", spaced(words, here)]))


@given(words=WORDS, spaces=SPACES, text=st.text(max_size=30))
def test_nothing_else_is_one_than_what_stands_there_with_its_spaces_made_equal(
    words: list[str], spaces: list[str], text: str
) -> None:
    document = spaced(words, spaces)
    stands = "".join(text.split()) in "".join(document.split())
    assert not is_quoted(text, Sources([document])) or (stands and text.strip())
    assert not is_quoted(document + "\u2603", Sources([document]))
    assert not is_quoted(text, Sources())


@pytest.mark.parametrize(
    ("quote", "document", "holds"),
    [
        ("EUR 5,000", "a cap of EUR 5,000.", True),
        ("EUR 5,000", "a cap of EUR 5,000,000", False),
        ("EUR 5", "a cap of EUR 5.5 million", False),
        ("000 EUR", "a cap of 5,000 EUR", False),
        ("30 days", "within 130 days, or 30 days", True),
        ("30 days", "within 130 days", False),
        ("able to pay", "unable to pay", False),
        ("able to pay", "un-able to pay", False),
        ("甲方", "由甲方支付", True),
        ("pay now", "pay", False),
        (" \n", "anything", False),
        ("Pay now", "pay now", False),
        ("5 days", "15 days, " * 999 + "5 days", True),
        ("5 days", "15 days, " * 1000 + "5 days", False),  # A document made to hold many costs no time.
    ],
)
def test_a_quote_cuts_neither_a_word_nor_a_figure(quote: str, document: str, holds: bool) -> None:
    assert is_quoted(quote, Sources([document])) is holds


async def test_a_quote_joins_no_two_documents(config: Config, project: Path) -> None:
    (project / "mail.txt").write_text("We want it. Budget:\n")
    (project / "rules.md").write_text("60,000 pounds\n")
    answer = json.loads((builtin_root() / "qualify-lead/tests/hostile-text/reply.txt").read_text())
    answer["reasons"] = [{"reason": "r", "quote": "Budget: 60,000 pounds"}]
    run = {"name": "qualify-lead", "inputs": {"message": "mail.txt", "criteria": ["rules.md"]}}
    reply, [asked, _] = await call(config, run, json.dumps(answer), json.dumps(answer))
    assert (reply["status"], "reasons.0.quote" in reply["log_tail"]) == ("bad_output", True)
    assert "mail.txt\n```" in asked.messages[1].content
    assert "rules.md\n```" in asked.messages[1].content
    assert '"message": "mail.txt"' in asked.messages[1].content
