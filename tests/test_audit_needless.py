"""Turns that needed no model, and work worth a playbook: found among turns that only look like it."""

from __future__ import annotations

import shlex
from datetime import timedelta

import pytest

from mcp_tierkit.audit.bill import Bill, Job, Sum
from mcp_tierkit.audit.groups import Group, needless_groups, repeated_groups, saving
from mcp_tierkit.audit.needless import kind_of
from mcp_tierkit.audit.sheet import Tokens
from mcp_tierkit.audit.tell import tell
from tests.transcripts import BEGUN, stamp

Turn = tuple[str, str | None, list[tuple[str, str]]]


def bash(*commands: str) -> list[tuple[str, str]]:
    return [("Bash", command) for command in commands]


EDIT, READ = ("Edit", ""), ("Read", "")
# What was asked, the kind of work where no model was needed (None: one was), and what the agent did.
PLANTED: list[Turn] = [
    ("list the files in src", "listing", bash("ls -la src")),
    ("show me the git log of today", "listing", bash("git log --since=midnight --oneline")),
    ("how many python files are there? count them", None, bash("find . -name '*.py' | wc -l")),
    ("count the lines of the python files", "listing", bash("find . -name '*.py' | xargs -0 cat | wc -l")),
    ("count the files in tests", "listing", bash("ls tests | wc -l")),
    ("git status", "listing", bash("git status")),
    ("print the size of the build folder", "listing", bash("du -sh build")),
    ("list all branches please", "listing", bash("git branch -a")),
    ("show the directory tree", "listing", [("LS", "")]),
    ("rename old_name.txt to new_name.txt", "rename", bash("mv old_name.txt new_name.txt")),
    ("move docs/a.md to docs/guide/a.md", "rename", bash("git mv docs/a.md docs/guide/a.md")),
    ("convert report.md to pdf", "conversion", bash("pandoc report.md -o report.pdf")),
    ("convert photo.png to a jpg", "conversion", bash("magick photo.png photo.jpg")),
    ("pretty-print data.json", "conversion", bash("jq . data.json")),
    ("unzip the archive backup.zip", "conversion", bash("unzip backup.zip")),
    ("how many days are between 2026-01-03 and 2026-04-01?", "dates", []),
    ("what day of the week is 2026-12-24?", "dates", bash("date -d 2026-12-24 +%A")),
    ("convert the timestamp 1767225600 to utc", "dates", bash("date -u -d @1767225600")),
    ("run the tests", "command", bash("pytest -q")),
    ("run the tests again", "command", bash("cd /home/ada/shop && pytest -q")),
    ("please run pytest", "command", bash("pytest -q", "pytest -q")),
    ("lint the code", "command", bash("ruff check .")),
    ("format everything with black", "command", bash("black .")),
    ("npm run build please, just run it", None, bash("npm run build")),
    ("now build", "command", bash("npm run build")),
    ("pull the latest main", "command", bash("git pull")),
    # Only like it: a reader was needed, or something else was done besides.
    ("list the files and tell me which one looks wrong", None, bash("ls -la")),
    ("why does ls show a file twice?", None, bash("ls -la")),
    ("show me how the cart works", None, bash("cat shop/cart.py")),
    ("list what should be refactored", None, bash("ls shop")),
    ("run the tests and fix what fails", None, bash("pytest -q")),
    ("run the tests", None, [*bash("pytest -q"), EDIT, *bash("pytest -q")]),
    ("run the tests and summarize the failures", None, bash("pytest -q")),
    ("rename the class Cart to Basket everywhere", None, [READ, EDIT, EDIT]),
    ("rename the function in all files", None, bash("grep -rl total . | xargs sed -i 's/total/sum_of/g'")),
    ("convert the module to typescript", None, [READ, ("Write", "")]),
    ("convert report.md to pdf and improve the wording", None, [EDIT, *bash("pandoc report.md -o report.pdf")]),
    ("convert the callbacks to async", None, [READ, EDIT]),
    ("what is the date format we should use?", None, []),
    ("which day is best for the release?", None, []),
    ("what day does the contract end? it is in docs/terms.md", None, [READ]),
    ("list three ideas for a name", None, []),
    ("show the log and explain the last error", None, bash("tail -50 app.log")),
    ("show me the relevant lines", None, bash("grep -n total shop/cart.py")),
    ("check whether the design is right", None, bash("cat docs/design.md")),
    ("run an analysis of the market", None, []),
    ("test the login by hand in a browser", None, [("mcp__browser__click", "")]),
    ("deploy the app", None, bash("./scripts/deploy.sh", "curl -s https://shop.example/health")),
    ("run the migration", None, bash("python - <<'EOF'\nprint(1)\nEOF")),
    ("start the review", None, bash("git diff")),
    ("list the bugs in this file", None, [READ]),
    ("build a small parser", None, [("Write", ""), *bash("pytest -q")]),
    ("do the next task", None, [READ, EDIT]),
    ("move the constants to settings.py", None, [READ, EDIT, EDIT]),
    ("count how often the customer complains about prices", None, [READ]),
    ("compress the explanation in the readme", None, [READ, EDIT]),
]


def job(number: int, text: str, uses: list[tuple[str, str]], costs: tuple[int, ...] = (500, 300, 200)) -> Job:
    made = Job(f"k{number}", f"s{number % 5}", "Claude Code", "/home/ada/shop", stamp(BEGUN)[:-1], text, uses=uses)
    made.at = stamp(BEGUN + timedelta(hours=number))[:-1]
    for at, cost in enumerate(costs):
        made.spent.add(Tokens(10, 1000, 0, 0, 30), cost)
        made.costs.append((f"{made.at}{at}", cost))
    return made


def test_what_needed_no_model_is_told_from_what_only_looks_like_it() -> None:
    told = {number: kind_of(job(number, text, uses)) for number, (text, _, uses) in enumerate(PLANTED)}
    flagged = {number for number, kind in told.items() if kind}
    right = {number for number, (_, kind, _) in enumerate(PLANTED) if kind and told[number] == kind}
    planted = {number for number, (_, kind, _) in enumerate(PLANTED) if kind}
    precision, recall = len(right) / len(flagged), len(right) / len(planted)
    print(f"precision {precision:.0%} of {len(flagged)}, recall {recall:.0%} of {len(planted)}")
    assert [PLANTED[number][:2] for number in sorted(flagged - right)] == []
    assert recall >= 0.85


def test_a_long_turn_or_one_with_sub_agents_was_more_than_a_command() -> None:
    long, helped = job(1, "run the tests", bash("pytest -q")), job(2, "run the tests", bash("pytest -q"))
    long.spent.tokens[4] = 5000
    helped.by_sub = Sum(calls=1)
    assert [kind_of(one) for one in (long, helped)] == [None, None]


def test_a_group_says_how_often_what_it_cost_and_what_to_type() -> None:
    jobs = [job(at, "run the tests", bash("pytest -q --maxfail=1")) for at in range(4)]
    (group,) = needless_groups(jobs, days=10)
    assert group.model_dump(exclude={"task_keys", "saving", "tokens"}) == {
        "kind": "command", "phrase": "pytest", "example": "run the tests", "name": "pytest", "count": 4, "sessions": 4,
        "cost_nanousd": 4000, "month_nanousd": 12000, "unpriced_calls": 0, "command": "pytest -q --maxfail=1",
        "by": "make", "projects": ("/home/ada/shop",),
        "next": 'tierkit playbook new pytest --from-command "pytest -q --maxfail=1"',
    }  # fmt: skip
    assert needless_groups(jobs[:2], days=10) == []


def test_a_saving_spares_the_first_run_and_at_least_two_rounds_of_the_agent() -> None:
    told = saving([job(at, "x", [], costs=(500, 300, 200)) for at in range(3)], days=15)
    assert told.model_dump() == {
        "low_nanousd": 400, "high_nanousd": 2000, "month_low_nanousd": 800, "month_high_nanousd": 4000,
    }  # fmt: skip


def repeated(*asked: tuple[str, list[tuple[str, str]]]) -> list[Group]:
    return repeated_groups([job(at, text, uses) for at, (text, uses) in enumerate(asked)], days=30)


def test_the_same_words_around_other_values_are_one_job() -> None:
    (group,) = repeated(*((f"bump the version to 1.{n}.0", [READ, EDIT]) for n in range(3)), ("add a note", [EDIT]))
    assert (group.phrase, group.count, group.command) == ("bump the version to {version}", 3, None)
    assert group.next == "tierkit playbook new bump-version"


def test_turns_that_ran_the_same_commands_are_one_job_whatever_was_said() -> None:
    words = ("is it green?", "and now?", "once more, with feeling")
    (group,) = repeated(*((text, bash("make lint", "make check")) for text in words))
    assert (group.kind, group.count) == ("commands", 3)
    assert group.next.endswith('--from-command "make lint && make check"')


def test_going_on_and_asking_why_are_no_jobs() -> None:
    assert repeated(*(("continue", [EDIT]),) * 5, *((f"why is {n} slow?", [READ]) for n in range(5))) == []


def test_what_asks_for_a_reader_is_no_job_whatever_was_run_for_it() -> None:
    look = [*bash("grep -rn checkout ."), READ]
    asked = "why is the checkout slow?", "the checkout is slow, why?", "is the checkout safe?", "review the checkout"
    for text in asked:
        assert repeated(*((text, look),) * 15) == [], text
    assert repeated(*(("how does the build look?", bash("make build")),) * 5) == []
    (group,) = repeated(*(("is the build green?", bash("make build")),) * 5)
    assert group.phrase == "make build"


def test_a_command_with_a_secret_is_neither_shown_nor_offered() -> None:
    secret = "ghp_" + "a1B2" * 9
    words = ("one", "two too", "and three of it")
    assert repeated(*((f"ask {text}", bash(f"deploy --token {secret}")) for text in words)) == []
    (group,) = needless_groups([job(at, "run the tests", bash(f"make test KEY={secret}")) for at in range(3)], days=30)
    assert secret not in group.model_dump_json()
    assert (group.phrase, group.next) == ("make test", "tierkit playbook new make-test")


@pytest.mark.parametrize(
    ("command", "is_offered"),
    [("make x\nrm -rf y", False), ("make x\ttab", False), ("make -f \N{REPLACEMENT CHARACTER}[2J", False),
     ("make " + "x" * 200, False), ("make & rm -rf y", False),
     ("make x; rm -rf y", False), ("make & touch y", True), ("make $(id)", True)],
)  # fmt: skip
def test_what_would_run_something_else_when_pasted_is_never_offered(command: str, is_offered: bool) -> None:
    turns = [job(at, "run the tests", bash(command)) for at in range(4)]
    groups = [*needless_groups(turns, 30), *repeated_groups(turns, 30)]
    wanted = ["--from-command", command] if is_offered else []
    assert [shlex.split(group.next)[4:6] for group in groups] == [wanted] * len(groups)
    assert "&" not in command or [group.kind for group in groups] == ["prompt"]  # It was more than a plain command.


def test_a_line_to_type_gives_a_shell_the_very_command_that_was_run() -> None:
    for command in ("""make "a b" 'c' $HOME !e""", "make  'two  spaces'", "make %PATH% # x", "make \\d"):
        (group,) = needless_groups([job(at, "run the tests", bash(command)) for at in range(3)], 30)
        assert shlex.split(group.next)[-2:] == ["--from-command", command]


def test_a_command_is_offered_only_where_half_of_the_turns_ran_it() -> None:
    ran = ["pytest -q", "pytest tests/a.py", "pytest -q", "pytest tests/b.py"]
    for commands, wanted in ((ran, ' --from-command "pytest -q"'), (ran[1:], "")):
        turns = [job(at, "run the tests", bash(command)) for at, command in enumerate(commands)]
        assert needless_groups(turns, 30)[0].next == f"tierkit playbook new pytest{wanted}"
        assert repeated_groups(turns, 30)[0].next == f"tierkit playbook new run-tests{wanted}"


def test_the_jobs_of_one_program_are_told_apart() -> None:
    turns = [job(at, "run it", bash(f"make {('lint', 'check')[at % 2]} -j4")) for at in range(6)]
    assert [(group.phrase, group.count) for group in needless_groups(turns, 30)] == [
        ("make check", 3),
        ("make lint", 3),
    ]


def test_no_group_counts_turns_that_its_command_would_not_have_done() -> None:
    formats, checks = bash("ruff format ."), bash("ruff check .")
    turns = [job(at, "run ruff", formats if at < 21 else checks) for at in range(25)]
    told = {group.phrase: (group.count, group.saving.high_nanousd) for group in needless_groups(turns, 30)}
    assert told == {"ruff format": (21, 20_000), "ruff check": (4, 3_000)}
    pairs = [
        ("black .", "black --check ."), ("eslint src", "eslint src --fix"), ("cargo fmt", "cargo fmt --check"),
        ("npm run build", "npm run test"), ("nox -s lint", "nox -s docs"),
    ]  # fmt: skip
    for one, other in pairs:
        mixed = bash(one), bash(other)
        assert [
            group.count for group in needless_groups([job(at, "run it", mixed[at % 2]) for at in range(6)], 30)
        ] == [3, 3]
        # Not asked for plainly, they are compared by what they ran.
        asked = [job(at, f"work {'abcdefgh'[at] * 3}", mixed[at % 2]) for at in range(6)]
        assert sorted(group.count for group in repeated_groups(asked, 30)) == [3, 3], one


def test_one_wording_for_two_jobs_offers_the_command_of_neither() -> None:
    ran = ["ruff format .", "ruff format src", "ruff format ."]
    for commands, wanted in ((ran, True), ([*ran, "ruff check ."], False)):
        (group,) = repeated(*(("tidy it up", bash(command)) for command in commands))
        assert (group.count, "--from-command" in group.next) == (len(commands), wanted)


def test_the_one_command_that_most_ran_becomes_a_playbook_where_the_rest_was_looking() -> None:
    asked, test = "run the tests and tell me what fails", bash("pytest -q")
    line = 'tierkit playbook new run-tests-tell-me-what-fails --from-command "pytest -q"'
    for most, few in (([READ, *test], test), (test, []), ([*test, *bash("tail -20 a.log")], [READ, *test])):
        (group,) = repeated(*((asked, most if at % 3 else few) for at in range(9)))
        assert (group.next, group.command) == (line, "pytest -q")
        assert group.saving.high_nanousd == 8000
    more = [EDIT], bash("git push"), bash("ruff check ."), [("mcp__mail__send", "")]
    for other in more:
        groups = repeated(*((asked, [*test, *other] if at % 3 == 0 else [READ, *test]) for at in range(9)))
        assert "--from-command" not in "".join(group.next for group in groups), other


def test_a_saving_by_a_script_to_be_written_is_told_only_where_the_same_was_done() -> None:
    def told(*done: list[tuple[str, str]], text: str = "add a page for 1.{}.0") -> tuple[str, bool]:
        (group,) = repeated(*((text.format(n), uses) for n, uses in enumerate(done)))
        return group.by, group.saving.high_nanousd > 0

    sent = [("mcp__mail__send", "")]
    assert told([EDIT], [READ, EDIT], [EDIT, EDIT]) == ("write", True)
    assert told([EDIT], [EDIT], sent) == ("write", True)
    assert told([EDIT], [EDIT, *bash("docker ps")], sent) == ("look", False)
    assert told([READ], [READ], [READ]) == ("look", False)
    assert told([], [], []) == ("look", False)
    assert told([EDIT], [EDIT], [EDIT], text="update the README for 1.{}.0") == ("look", False)


def test_a_month_is_never_reckoned_from_less_than_a_week_nor_a_day_from_more_than_there_were() -> None:
    jobs = [job(1, "add a note", [])]
    told = tell(Bill(jobs, {(jobs[0].at[:10], "m"): jobs[0].spent}, {}, {}, 0, {}), since="", today=BEGUN.date())
    assert (told.days, told.month_days) == (1, 7)
