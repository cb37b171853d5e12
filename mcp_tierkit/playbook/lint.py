"""What is wrong with a playbook, read from its text alone: where it is, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcp_tierkit.playbook.cases import Case, read_cases
from mcp_tierkit.playbook.deeds import deeds
from mcp_tierkit.playbook.faults import line_of, shown, unquoted
from mcp_tierkit.playbook.folder import Entry, Folder
from mcp_tierkit.playbook.load import BadPlaybook, Playbook, load, read_front_matter
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.types import Record

MIN_CASES = 2
STARTERS_WORDS = "(Say here what it does, and when to use it.)"

PARTS_OF_A_CASE = ("case.json", "workspace", "repo.fast-import", "reply.txt", "reply2.txt")

_LINK = re.compile(r"\[[^\]\n]*\]\(\s*<?([^)>\s]+)")
# Some agents run such a span when they load a skill's text.
_INLINE_SHELL = re.compile(r"!`[^`\n]*`|^```!", re.MULTILINE)
_HEADER = re.compile(rb"(?m)^# /// script[ \t]*$")


class Finding(Record):
    """One fault: the file and line, the rule it breaks, a sentence, and what mends it."""

    path: str
    line: int | None = None
    rule: str
    text: str
    fix: str


def lint(folder: Folder) -> tuple[Finding, ...]:
    """Every finding, in file order; none means that the playbook may be shared. Nothing in it is run."""
    found = [*_skill(folder), *_secrets(folder)]
    try:
        playbook = load(folder, "sha256:", origin="project")
    except BadPlaybook as error:
        found.append(_of_error(error, "contract", "Correct that key; docs/playbooks.md lists them all."))
    else:
        found += [*_contract(playbook), *_cases(playbook), *_scripts(playbook)]
    return tuple(sorted(map(_plain, set(found)), key=lambda one: (one.path, one.line or 0, one.rule, one.text)))


def _plain(finding: Finding) -> Finding:
    """The finding without the playbook's own sentences: an agent may read it before anybody trusts the folder."""
    text, fix = unquoted(finding.text), unquoted(finding.fix)
    return finding.model_copy(update={"path": shown(finding.path), "text": text, "fix": fix})


def _skill(folder: Folder) -> Iterator[Finding]:
    try:
        prose = read_front_matter(folder).prose
    except BadPlaybook as error:
        yield _of_error(error, "skill", "Begin the file with --- and name, description; then --- and the prose.")
        return
    text = (folder.read("SKILL.md") or b"").decode()
    if not prose:
        fix = "Say below the front matter what it does and how to run it by hand."
        yield Finding(path="SKILL.md", rule="skill", text="has no prose for the agent", fix=fix)
    if STARTERS_WORDS in text and not re.search(rb"(?m)^who = ", folder.read("playbook.toml") or b""):
        told, fix = (
            "the description is still the starter's",
            "Say what it does and when to use it: agents choose by it.",
        )
        yield Finding(path="SKILL.md", line=line_of(text, ["description"]), rule="skill", text=told, fix=fix)
    names = {entry.path.rstrip("/") for entry in folder.entries}
    for number, line in enumerate(text.split("\n"), 1):
        yield from _prose_line(number, line, names)


def _prose_line(number: int, line: str, names: set[str]) -> Iterator[Finding]:
    for span in _INLINE_SHELL.findall(line):
        told = f"{span[:60]!a} would be run as the skill is loaded"
        fix = "Take the exclamation mark away: an agent may read the command, nobody runs it."
        yield Finding(path="SKILL.md", line=number, rule="inline-shell", text=told, fix=fix)
    for target in _LINK.findall(line):
        bare = target.split("#")[0].removeprefix("./").rstrip("/")
        if bare and not re.match(r"(https?|mailto):", bare) and bare not in names:
            told = f"{target[:80]!a} leads to nothing in the folder"
            fix = "Name a file of this folder, from the folder itself, or a web address."
            yield Finding(path="SKILL.md", line=number, rule="links", text=told, fix=fix)


def _secrets(folder: Folder) -> Iterator[Finding]:
    for entry in folder.files:
        for secret in find_secrets(entry.data.decode(errors="replace")):
            told, fix = (
                f"looks like a {secret.rule}",
                "Take it out, and replace it where it came from: it was written down.",
            )
            yield Finding(path=entry.path, line=secret.line, rule="secrets", text=told, fix=fix)


def _contract(playbook: Playbook) -> Iterator[Finding]:
    contract = playbook.contract
    yield from _phrases(playbook)
    effects = contract.effects
    # One that acts outward may have nothing to change here.
    if not (effects.read_only or effects.writes or effects.network) and contract.kind == "script":
        told = "it may write, and writes names nothing that it may"
        yield _in_contract(
            playbook, ["effects"], "effects", told, 'Add writes = ["docs/*.md"], or set read_only = true.'
        )
    yield from _patterns(playbook)
    yield from _lock(playbook)
    if not contract.outputs and contract.kind != "decision":
        told, fix = "it has no outputs, so nothing can be checked", "Declare under [outputs] what it gives back."
        yield _in_contract(playbook, ["outputs"], "contract", told, fix)


def _phrases(playbook: Playbook) -> Iterator[Finding]:
    required = {name for name, schema in playbook.inputs.properties.items() if "default" not in schema}
    for phrase in playbook.phrases:
        if missing := sorted(required - {slot for word in phrase.words for slot in word.slots}):
            told = f"the phrase {phrase.text!r} never matches: {missing[0]} has neither a slot nor a default"
            fix = f"Put {{{missing[0]}}} into the phrase, or give that input a default."
            yield _in_contract(playbook, ["phrases"], "phrases", told, fix)


def _patterns(playbook: Playbook) -> Iterator[Finding]:
    from pathspec import GitIgnoreSpec

    for key in ("reads", "writes"):
        for pattern in getattr(playbook.contract.effects, key):
            try:
                GitIgnoreSpec.from_lines([pattern])
            except ValueError:
                told = f"{pattern!a} is not a gitignore pattern"
                yield _in_contract(
                    playbook, ["effects", key], "patterns", told, "Write it as .gitignore would have it."
                )


def _lock(playbook: Playbook) -> Iterator[Finding]:
    rules = playbook.contract.run
    if rules is None or rules.runtime != "uv":
        return
    if not _HEADER.search(playbook.folder.read(rules.script) or b""):
        fix = (
            f"Begin it with # /// script, its dependencies and # ///: uv add --script {rules.script} PACKAGE does that."
        )
        yield Finding(
            path=rules.script, line=1, rule="lock", text="runtime uv needs a script header (PEP 723)", fix=fix
        )
    if playbook.folder.read(rules.script + ".lock") is None:
        told, fix = "runtime uv needs a lock file beside the script", f"Run uv lock --script {rules.script}."
        yield Finding(path=rules.script, rule="lock", text=told, fix=fix)


def _cases(playbook: Playbook) -> Iterator[Finding]:
    if playbook.contract.kind == "decision":
        return
    try:
        cases = read_cases(playbook)
    except BadPlaybook as error:
        yield _of_error(error, "tests", "Correct that key: a case has inputs, setup and expect.")
        return
    if len(cases) < MIN_CASES or all(case.expect.status == "ok" for case in cases.values()):
        told = f"it has {len(cases)} cases; at least {MIN_CASES} are needed, one of them not ok"
        fix = "Add tests/<case>/case.json: one run that goes well, one that must be declined or fail."
        yield Finding(path="tests/", rule="tests", text=told, fix=fix)
    for name, case in cases.items():
        yield from _case(playbook, f"tests/{name}/", case)


def _case(playbook: Playbook, above: str, case: Case) -> Iterator[Finding]:
    path = above + "case.json"
    text = (playbook.folder.read(path) or b"").decode(errors="replace")
    if case.expect.status != "invalid_input":
        try:
            playbook.inputs.check(case.inputs)
        except ValueError as error:
            field, _, rule = str(error).partition(": ")
            keys = ["inputs", *field.split(".")]
            fix = "Correct the input, or expect the status invalid_input."
            yield Finding(
                path=path,
                line=line_of(text, keys),
                rule="tests",
                text=f"its inputs do not fit: {shown(field)}: {rule}",
                fix=fix,
            )
    for key in sorted({*case.expect.output, *case.expect.contains} - playbook.outputs.properties.keys()):
        fix = f"Declare it under [outputs], or expect one of {', '.join(playbook.outputs.properties)[:200]}."
        yield Finding(
            path=path, line=line_of(text, ["expect", key]), rule="tests", text=f"{key!a} is no output", fix=fix
        )
    wants_words = playbook.contract.kind == "skill" and case.expect.status != "invalid_input"
    words = ["reply.txt"] if wants_words else []  # What stands for the model's words.
    named = [*case.setup.sqlite.values(), *filter(None, [case.expect.diff]), *words]
    for name in named:
        if playbook.folder.read(above + name) is None:
            told, fix = f"{name!a} does not exist", "Add it beside case.json, or leave it out."
            yield Finding(path=path, line=line_of(text, [name]), rule="tests", text=told, fix=fix)
    yield from _unread(playbook, above, {*PARTS_OF_A_CASE, *(name.split("/")[0] for name in named)})


def _unread(playbook: Playbook, above: str, known: set[str]) -> Iterator[Finding]:
    """The first file of a case that nothing looks at: a mistyped `workspace`, most often."""
    for entry in playbook.folder.files:
        part = entry.path.removeprefix(above).split("/")[0]
        if entry.path.startswith(above) and part not in known:
            told, fix = "nothing reads it", f"A case has {', '.join(PARTS_OF_A_CASE)} and what case.json names."
            yield Finding(path=entry.path, rule="tests", text=told, fix=fix)
            return


def _scripts(playbook: Playbook) -> Iterator[Finding]:
    """The declared effects against what the code plainly does, each deed once for a file."""
    for entry in playbook.folder.files:
        if entry.path.startswith("scripts/"):
            yield from {finding.text: finding for finding in _script(playbook, entry)}.values()


def _script(playbook: Playbook, entry: Entry) -> Iterator[Finding]:
    effects = playbook.contract.effects
    # Last line first, so that of equal ones the first in the file is kept.
    for deed, line, words in sorted(deeds(entry), key=lambda seen: -seen.line):
        if deed == "network" and not effects.network:
            told = f"{words} reaches for the network, which effects.network denies"
            yield _in_script(entry, line, "effects", told, "Do without it, or set effects.network = true.")
        elif deed == "change" and effects.read_only:
            told = f"{words} changes files, and effects.read_only says that nothing does"
            yield _in_script(entry, line, "effects", told, "Set effects.read_only = false and name what it writes.")
        elif deed == "shell":
            told = f"{words} gives text to a shell"
            yield _in_script(entry, line, "shell", told, "Run a list of words instead, such as [program, argument].")
        elif deed == "syntax":
            yield _in_script(entry, line, "syntax", f"it is not Python: {words}", "Mend the syntax.")


def _in_script(entry: Entry, line: int, rule: str, told: str, fix: str) -> Finding:
    return Finding(path=entry.path, line=line, rule=rule, text=told, fix=fix)


def _in_contract(playbook: Playbook, where: list[str], rule: str, told: str, fix: str) -> Finding:
    text = (playbook.folder.read("playbook.toml") or b"").decode()
    return Finding(path="playbook.toml", line=line_of(text, where), rule=rule, text=told, fix=fix)


def _of_error(error: BadPlaybook, rule: str, fix: str) -> Finding:
    return Finding(path=error.path, line=error.line, rule=rule, text=error.told, fix=fix)
