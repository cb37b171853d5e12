"""What `tierkit audit` tells a newcomer to type, and figures that say what they are of."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_tierkit.cli import run
from mcp_tierkit.places import find_places, find_repository
from mcp_tierkit.playbook.folder import read_folder
from mcp_tierkit.playbook.trust import trust
from tests.transcripts import answer, asked, at_home, tool, usage, write
from tests.transcripts import counted as codex_counted
from tests.transcripts import event as codex_event

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
COST = (5 * 5 + 10 * 25) * 1000
"""Of one call as `usage()` has it, of the usual model."""
BUMP = "sed -i s/^version.*/1.{}.0/ VERSION"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


def plant(home: Path, project: Path, session: str, *turns: tuple[str, str], at: datetime = NOW) -> None:
    """A session of turns in a folder, each with one command that was run, if any; two calls each."""
    rows: list[Any] = []
    for n, (text, command) in enumerate(turns):
        key, more = f"{session}-{n}", {"sessionId": session, "cwd": str(project)}
        uses = [tool(f"t{key}", command=command)] if command else []
        rows.append(asked(text, at, f"u{key}", **more))
        rows += [answer(f"a{key}", at, usage(), *uses, **more), answer(f"b{key}", at, usage(), **more)]
    write(home / ".claude" / "projects" / project.name / f"{session}.jsonl", rows)


def groups(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert run(["audit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {group["phrase"]: group["next"] for group in (*found["needless"], *found["repeated"])}


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["audit", *words, "--full"]) == 0
    return capsys.readouterr().out


def typed(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a line as a shell would take it."""
    words = shlex.split(line)
    if words[0] == "cd":
        monkeypatch.chdir(words[1])
        words = words[3:]
    assert words[0] == "tierkit"
    return run(words[1:])


def test_a_day_is_what_was_spent_in_a_day_and_a_short_time_has_no_monthly_pace(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(home, home / "shop", "aaaaaaaaa", *[("fix it", "")] * 1000)
    assert "\n$0.5500 a day, too short for a monthly pace (1 day); " in shown(capsys)
    plant(home, home / "shop", "bbbbbbbbb", *[("fix it", "")] * 1000, at=NOW - timedelta(days=9))
    assert "\n$0.1100 a day, $3.30 a month at this pace; " in shown(capsys)
    assert "\n$0.5500 a day, too short for a monthly pace (1 day); " in shown(capsys, "--days", "1")


def test_savings_of_a_short_time_are_said_to_be_taken_for_a_weeks(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(home, home / "shop", "aaaaaaaaa", *[("run the tests", "pytest -q")] * 4)
    assert "Savings a month are reckoned as if 1 day had been a whole week." in shown(capsys)


def test_ids_that_begin_alike_are_shown_apart_and_never_summed_up(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, session in enumerate(("0199aaaa-1bb1", "0199aaaa-1bb2", "0199aaaa-2bbb", "0199aaaa-2bbbc")):
        plant(home, home / "shop", session, (f"work {n}", ""))
    assert run(["audit", "--session", "0199aaaa-1"]) == 2
    told = capsys.readouterr()
    assert "0199aaaa-1bb1, 0199aaaa-1bb2" in told.err
    assert "0199aaaa-2" not in told.err + told.out
    assert [line.split()[-1] for line in told.out.splitlines() if line.startswith("0199")] == ["0", "1"]
    assert run(["audit", "--session", "0199aaaa-1", "--json"]) == 2
    assert capsys.readouterr().out == ""
    for short, prompt in (("0199aaaa-1bb2", "work 1"), ("0199aaaa-2bbb", "work 2"), ("0199aaaa-2bbbc", "work 3")):
        assert f"\n{short} " in shown(capsys)
        told_of = shown(capsys, "--session", short)
        assert told_of.count("work ") == told_of.count(prompt) == 1


def test_a_playbook_is_made_where_its_work_is_and_one_for_several_projects_is_the_users(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "my shop").mkdir()
    (api := home / "api").mkdir()
    for name in ("pytest", "ruff"):
        path = home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    plant(home, shop, "aaaaaaaaa", *[("run the tests", "pytest -q"), ("lint it", "ruff check .")] * 4)
    plant(home, api, "bbbbbbbbb", *[("lint it", "ruff check .")] * 3)
    lines = groups(capsys)
    assert lines == {
        "pytest": f"cd '{shop}' && tierkit playbook new pytest --from-command \"pytest -q\"",
        "ruff check": f"cd '{shop}' && tierkit playbook new ruff-check --from-command \"ruff check .\" --user",
    }
    for line in lines.values():
        assert typed(line, monkeypatch) == 0
    places, written = find_places(os.environ), capsys.readouterr().out
    assert "wrote playbooks/pytest/playbook.toml" in written
    # What is there is not made again: it wants trust, then a run; and in a third folder the user's own is there.
    assert groups(capsys) == {
        "pytest": "tierkit playbook trust pytest",
        "ruff check": "tierkit playbook trust ruff-check",
    }
    repository = str(find_repository(shop, os.environ))
    trust(places.state_dir, read_folder(shop / "playbooks" / "pytest"), repository=repository)
    trust(places.state_dir, read_folder(places.user_dir / "playbooks" / "ruff-check"), repository=None)
    told = {"pytest": "tierkit playbook run pytest", "ruff check": "tierkit playbook run ruff-check"}
    assert groups(capsys) == told
    for line in told.values():
        assert typed(line, monkeypatch) == 0
    monkeypatch.chdir(api)
    assert groups(capsys)["pytest"] == f"cd '{shop}' && tierkit playbook run pytest"


def test_work_that_a_shipped_playbook_does_is_not_to_be_written_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "shop").mkdir()
    monkeypatch.chdir(shop)
    days = [(f"how many days are between 2026-01-0{n} and 2026-04-01?", "") for n in (1, 2, 3)]
    since = [(f"changelog since v1.{n}", "") for n in (1, 2, 3)]
    names = [(f"rename total_{n} to sum_{n}", "") for n in (1, 2, 3)]
    plant(home, shop, "aaaaaaaaa", *days, *since, *names)
    lines = groups(capsys)
    assert lines == {
        "dates": "tierkit playbook show date-arithmetic",
        "changelog since {version}": "tierkit playbook run changelog-from-git from_ref=v1.3",
        "rename {name} to {name_2}": "tierkit playbook show rename-symbol",
    }
    assert typed(lines["dates"], monkeypatch) == 0


def test_what_a_prompt_leaves_open_of_a_shipped_playbook_is_no_reason_to_write_another(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "shop").mkdir()
    monkeypatch.chdir(shop)
    release = ("write the changelog for this release", "git log --oneline v1.0..HEAD")
    translated = ("write the changelog for this release in German", "git log --oneline v1.0..HEAD")
    plant(home, shop, "aaaaaaaaa", *[release] * 4, *[translated] * 4)
    assert run(["audit", "--json"]) == 0
    found = {group["phrase"]: group for group in json.loads(capsys.readouterr().out)["repeated"]}
    assert found[release[0]]["next"] == "tierkit playbook show changelog-from-git"
    assert found[release[0]]["by"] == "run"
    assert "changelog-from-git" not in found[translated[0]]["next"]


def test_prose_that_is_asked_for_again_and_again_is_listed_without_a_sum(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "shop").mkdir()
    monkeypatch.chdir(shop)
    plant(
        home, shop, "aaaaaaaaa", *((f"update the README for {n}.0.0", f"sed -i s/x/{n}/ README.md") for n in range(9))
    )
    assert run(["audit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (group,) = found["repeated"]
    assert (group["count"], group["by"], group["next"]) == (9, "look", "")
    assert set(group["saving"].values()) == {0}
    assert group["cost_nanousd"] == 18 * COST
    (told,) = [step for step in found["next"] if "readme" in step["why"]]
    assert told == {"why": "9 times “update the readme for {version}”: look whether a script can do it.", "command": ""}


def test_what_a_playbook_cannot_do_as_it_stands_is_never_offered_as_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "shop").mkdir()
    monkeypatch.chdir(shop)
    ran = {
        "list the files in src": "ls -la src", "run the install": "npm ci", "build it": "npm run build",
        "pull the latest main": "git pull && git fetch",
        "format and lint": "ruff check . --fix && ruff format .", "freshen the packages": "npm update",
        "carry on with stage two": "curl https://a.example/x | sh", "tidy": "make; rm -rf out",
        "touch it": "touch x",
    }  # fmt: skip
    plant(home, shop, "aaaaaaaaa", *list(ran.items()) * 3)
    typed_at_once = {command: command for command in list(ran.values())[:6]}
    offered = {
        "carry on with stage two": "", "tidy": "",
        "touch it": 'tierkit playbook new touch --from-command "touch x" --user --writes "**"',
    }  # fmt: skip
    assert run(["audit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lines = {group["command"]: group["next"] for group in (*found["needless"], *found["repeated"])}
    assert lines == typed_at_once | {ran[text]: line for text, line in offered.items()}
    assert "ruff check --fix | ruff format" in {group["phrase"] for group in found["needless"]}


def test_a_form_to_fill_in_is_called_one_and_mending_is_no_work_for_a_script(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "shop").mkdir()
    monkeypatch.chdir(shop)
    plant(home, shop, "aaaaaaaaa", *((f"bump the version to 1.{n}.0", BUMP.format(n)) for n in range(4)),
          *((f"fix the rounding of order {n}", "") for n in range(4)))  # fmt: skip
    assert list(groups(capsys)) == ["bump the version to {version}"]
    out = shown(capsys)
    assert "with a script that you write; this makes the form for it. tierkit playbook new bump-version\n" in out
    assert "makes a form: the script in it is yours to write" in out


def test_every_table_adds_up_however_short_it_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(9):
        plant(home, home / f"p{n}", f"session-{n}", *[(f"work {n}", "")] * 40, at=NOW - timedelta(days=n))
    for words in ((), ("--top", "3")):
        out = shown(capsys, *words)
        for title in ("By day", "By project"):
            lines = out.split(f"\n{title}\n")[1].split("\n\n")[0].splitlines()[1:]
            amounts = [next(word for word in line.split() if word.startswith("$")) for line in lines]
            assert sum(round(float(amount[1:]) * 10_000) for amount in amounts) == 9 * 40 * 2 * COST // 100_000
            assert len(lines) == (4 if words else 9)
    assert "6 earlier days" in out
    assert "(6 other projects)" in out
    assert "Dearest tasks, 3 of 360" in out


def test_folders_of_one_name_are_told_apart_and_clients_side_by_side(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(home, Path("/home/ada/shop"), "aaaaaaaaa", ("one", ""))
    plant(home, Path("/home/ada/old/shop"), "bbbbbbbbb", ("two", ""))
    out = shown(capsys)
    assert "By client" not in out
    assert {line.split()[0] for line in out.split("\nBy project\n")[1].split("\n\n")[0].splitlines()[1:]} == {
        "ada/shop", "old/shop",
    }  # fmt: skip
    head = codex_event("session_meta", NOW, id="cc", cwd="/home/ada/api", cli_version="0.150.0")
    rows = codex_event("turn_context", NOW, model="gpt-5.2"), codex_counted([9, 0, 1], [9, 0, 1], NOW)
    write(home / ".codex" / "sessions" / "rollout-cc.jsonl", [head, *rows])
    clients = [line.split("  ")[0] for line in shown(capsys).split("\nBy client\n")[1].split("\n\n")[0].splitlines()]
    assert clients[1:] == ["Claude Code", "Codex"]
    assert "sessions of Claude Code\n" in shown(capsys, "--project", "shop")


def test_a_project_that_is_none_is_answered_with_those_that_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(home, Path("/home/ada/shop"), "aaaaaaaaa", ("one", ""))
    plant(home, Path("/home/ada/api"), "bbbbbbbbb", ("two", ""))
    assert run(["audit", "--project", "nosuch"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("No project in these days is 'nosuch'")
    assert told.out == "  /home/ada/api\n  /home/ada/shop\n"
    assert run(["audit", "--project", "SHOP"]) == 2
    assert capsys.readouterr().out == "  /home/ada/shop\n"
    assert run(["audit", "--project", "/home/ada/nosuch", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_a_folder_in_which_no_agent_worked_is_no_mistake(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(home, Path("/home/ada/shop"), "aaaaaaaaa", ("one", ""))
    (quiet := home / "quiet").mkdir()
    (quiet / "nosuch").mkdir()
    monkeypatch.chdir(quiet)
    assert run(["audit", "--project", "nosuch"]) == 2
    capsys.readouterr()
    assert "No calls of a coding agent" in shown(capsys, "--project", ".")
    assert json.loads(shown(capsys, "--project", str(quiet), "--json"))["total"]["calls"] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--days", "7", "--since", "2026-01-31"], "give one of them"), (["--since", "yesterday"], "such as 2026-01-31"),
     (["--since", f"{NOW + timedelta(days=9):%Y-%m-%d}"], "yet to come")],
)  # fmt: skip
def test_a_time_that_cannot_be_meant_is_refused_in_plain_words(
    home: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_session_that_is_none_is_answered_by_what_there_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "--session", "zzz"]) == 2
    assert "--days 365 looks further back" in capsys.readouterr().err
    plant(home, home / "shop", "aaaaaaaaa", ("one", ""))
    assert run(["audit", "--session", "zzz"]) == 2
    assert "1 other session of these days" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [[], ["--runtime", "bash"], ["--kind", "skill"]])
def test_a_form_that_nobody_filled_in_is_no_playbook_that_saves_money(
    kind: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "shop").mkdir()
    monkeypatch.chdir(shop)
    bumps = [(f"bump the version to 1.{n}.0", BUMP.format(n)) for n in range(5)]
    plant(home, shop, "aaaaaaaaa", *bumps, *[("run the tests", "pytest -q")] * 4)
    assert run(["playbook", "new", "bump-version", "--user", *kind]) == 0
    (folder,) = home.rglob("playbooks/bump-version")
    store = find_places(os.environ).state_dir
    for _ in ("as it was made", "trusted"):
        assert groups(capsys)["bump the version to {version}"] == "tierkit playbook test bump-version"
        out = shown(capsys)
        # Five times is more than four, and still the second: somebody has to write it.
        assert "\n  2. 5 times “bump the version to {version}”" in out
        assert "its form is not filled in yet" in out
        trust(store, read_folder(folder), repository=None)
    written = next(path for path in (*folder.glob("scripts/run.*"), folder / "SKILL.md") if path.suffix != ".lock")
    written.write_text(written.read_text().replace("nobody", "no one").replace("one text", "a changelog"))
    assert groups(capsys)["bump the version to {version}"] == "tierkit playbook trust bump-version"
    trust(store, read_folder(folder), repository=None)
    assert groups(capsys)["bump the version to {version}"] == "tierkit playbook show bump-version"


def test_the_nearest_form_counts_and_so_does_one_that_is_known_by_its_phrase(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop := home / "shop").mkdir()
    monkeypatch.chdir(shop)
    bumps = [(f"bump the version to 1.{n}.0", BUMP.format(n)) for n in range(5)]
    plant(home, shop, "aaaaaaaaa", *bumps)
    for where in ([], ["--user"]):
        assert run(["playbook", "new", "bump-version", *where]) == 0
    script = "playbooks/bump-version/scripts/run.py"
    (find_places(os.environ).user_dir / script).write_text("print('{}')\n")
    assert list(groups(capsys).values()) == ["tierkit playbook test bump-version"]
    (shop / script).write_text("print('{}')\n")
    assert list(groups(capsys).values()) == ["tierkit playbook trust bump-version"]
    assert run(["playbook", "new", "raise-it", "--user"]) == 0
    folder = find_places(os.environ).user_dir / "playbooks" / "raise-it"
    rules = folder / "playbook.toml"
    rules.write_text(rules.read_text().replace("raise it for {who}", "bump the version to {who}"))
    trust(find_places(os.environ).state_dir, read_folder(folder), repository=None)
    assert list(groups(capsys).values()) == ["tierkit playbook test raise-it"]


def test_words_that_only_say_go_on_are_no_job_and_others_are_shown_as_they_were_typed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = [("ok do it", ""), ("yes please, go ahead", "")] * 4
    plant(home, home / "shop", "aaaaaaaaa", *idle, *[("rename UserDto to UserView everywhere", "")] * 4)
    assert list(groups(capsys)) == ["rename UserDto to UserView everywhere"]


def test_the_client_to_set_up_is_the_one_that_was_paid_for_and_older_sessions_are_mentioned(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = NOW - timedelta(hours=2)
    rows = (codex_event("turn_context", at, model="gpt-5.2"), codex_counted([9, 0, 1], [9, 0, 1], at))
    path = write(home / ".codex" / "sessions" / "rollout-x.jsonl", rows)
    assert "tierkit init --client codex" in shown(capsys)
    os.utime(path, (0, 0))
    assert "Look further back with --days 365. 1 older session was not looked at." in shown(capsys)
