"""A changelog from commit subjects: inputs as JSON on stdin, Markdown as JSON to PLAYBOOK_RESULT."""

import json
import os
import re
import sys

from quiet_git import GitRefused, git, text

HEADS = {"feat": "Features", "fix": "Fixes", "perf": "Performance", "docs": "Documentation"}
ORDER = ["Breaking changes", *HEADS.values(), "Other"]
SUBJECT = re.compile(r"(\w+)(?:\([^()]*\))?(!?): +(.+)")
LONGEST = 200


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def commit_id(ref):
    found = text("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}")
    return found or decline(f"no such ref: {ref}")


def entry(line):
    short, _, subject = line.partition("\t")
    typed = SUBJECT.fullmatch(subject)
    if not typed:
        return "Other", f"- {subject[:LONGEST] or '(no subject)'} ({short})"
    kind, breaks, said = typed.groups()
    head = "Breaking changes" if breaks else HEADS.get(kind.lower(), "Other")
    return head, f"- {said[:LONGEST]} ({short})"


def changelog(lines, limit):
    """The last `limit` commits by head; a last line says how many earlier ones are left out."""
    groups = {}
    for head, said in map(entry, lines[-limit:]):
        groups.setdefault(head, []).append(said)
    parts = [f"### {head}\n\n" + "\n".join(groups[head]) for head in ORDER if head in groups]
    if len(lines) > limit:
        parts.append(f"and {len(lines) - limit} earlier commits")
    return "\n\n".join(parts)


def main():
    inputs = json.load(sys.stdin)
    try:
        git("rev-parse", "--git-dir")
        old, new = commit_id(inputs["from_ref"]), commit_id(inputs.get("to_ref", "HEAD"))
        log = git("log", "--no-merges", "--reverse", "--no-color", "--encoding=UTF-8", "--format=%h%x09%s", f"{old}..{new}", "--")
    except GitRefused as error:
        decline(str(error))
    lines = [line for line in log.decode("utf-8", "replace").split("\n") if line]
    found = {"markdown": changelog(lines, inputs.get("limit", 200)), "commits": len(lines)}
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(found, out)


if __name__ == "__main__":
    main()
