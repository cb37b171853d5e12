"""A changelog from commit subjects: inputs as JSON on stdin, Markdown as JSON to PLAYBOOK_RESULT."""

import json
import os
import re
import subprocess
import sys

HEADS = {"feat": "Features", "fix": "Fixes", "perf": "Performance", "docs": "Documentation"}
ORDER = ["Breaking changes", *HEADS.values(), "Other"]
SUBJECT = re.compile(r"(\w+)(?:\([^()]*\))?(!?): +(.+)")

# The repository's own settings could name programs for git to start, and a missing object could make it fetch.
QUIET = [
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false"),
    *("-c", "core.sshCommand=false", "-c", "color.ui=false", "-c", "log.mailmap=false"),
]
ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}


def git(*args):
    command = ["git", "--no-pager", *QUIET, *args]
    done = subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return done.stdout.decode("utf-8", "replace")


def commit_id(ref):
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}").strip()
    except subprocess.CalledProcessError:
        print(f"no such ref: {ref}", file=sys.stderr)
        sys.exit(10)


def entry(line):
    short, _, subject = line.partition("\t")
    typed = SUBJECT.fullmatch(subject)
    if not typed:
        return "Other", f"- {subject or '(no subject)'} ({short})"
    kind, breaks, text = typed.groups()
    head = "Breaking changes" if breaks else HEADS.get(kind.lower(), "Other")
    return head, f"- {text} ({short})"


inputs = json.load(sys.stdin)
old, new = commit_id(inputs["from_ref"]), commit_id(inputs.get("to_ref", "HEAD"))
log = git("log", "--no-merges", "--reverse", "--no-color", "--encoding=UTF-8", "--format=%h%x09%s", f"{old}..{new}", "--")
lines = [line for line in log.split("\n") if line]
groups = {}
for head, text in map(entry, lines):
    groups.setdefault(head, []).append(text)
markdown = "\n\n".join(f"### {head}\n\n" + "\n".join(groups[head]) for head in ORDER if head in groups)
with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
    json.dump({"markdown": markdown, "commits": len(lines)}, out)
