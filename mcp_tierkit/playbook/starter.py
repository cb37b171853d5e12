"""A new playbook with every file filled in, which passes its own tests."""

from __future__ import annotations

from pathlib import Path

from mcp_tierkit.playbook.load import NAME

_SKILL = """---
name: {name}
description: Says hello to somebody by name. Use when asked for a greeting. (Say here what it does and when.)
---
# {name}

`echo '{{"who": "Ada"}}' | {call}`
"""
_CONTRACT = """schema = 1
kind = "script"
version = "0.1.0"
match.phrases = ["{words} for {{who}}"]
run = {{ script = "{script}", runtime = "{runtime}", timeout_s = 30 }}
effects = {{ read_only = true }}

[inputs]
who = {{ type = "string", minLength = 1, maxLength = 80, description = "Whom to greet." }}

[outputs]
greeting = {{ type = "string" }}
"""
_PYTHON = """import json
import os
import sys

inputs = json.load(sys.stdin)
if inputs["who"] == "nobody":
    print("there is nobody to greet", file=sys.stderr)
    sys.exit(10)
with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w") as out:
    json.dump({"greeting": f"Hello, {inputs['who']}!"}, out)
"""
_BASH = """set -eu
# The input is JSON and stays JSON: it never becomes a word of a command.
inputs=$(cat)
if [ "$inputs" = '{"who": "nobody"}' ]; then
  echo "there is nobody to greet" >&2
  exit 10
fi
who=${inputs#'{"who": '}
printf '{"greeting": %s}' "${who%'}'}" > "${PLAYBOOK_RESULT:-/dev/stdout}"
"""
_CASES = {
    "python": '{"inputs": {"who": "Ada"}, "expect": {"status": "ok", "output": {"greeting": "Hello, Ada!"}}}\n',
    "bash": '{"inputs": {"who": "Ada"}, "expect": {"status": "ok", "output": {"greeting": "Ada"}}}\n',
}
_DECLINED = '{"inputs": {"who": "nobody"}, "expect": {"status": "declined", "changed": []}}\n'


def write_starter(project: Path, name: str, runtime: str) -> tuple[str, ...]:
    """Write `playbooks/<name>` and return its files. ValueError where the name cannot be used or is taken."""
    if len(name) > 64 or not NAME.fullmatch(name):
        raise ValueError(f"{name[:64]!a} is not a playbook's name: a-z, 0-9 and single hyphens, at most 64")
    folder = project / "playbooks" / name
    if folder.parent.is_symlink() or folder.is_symlink() or folder.exists():
        raise ValueError(f"playbooks/{name} is there already, or leads elsewhere")
    script = "scripts/run.py" if runtime == "python" else "scripts/run.sh"
    call = f"{'python3' if runtime == 'python' else 'bash'} {script}"
    files = {
        "SKILL.md": _SKILL.format(name=name, call=call),
        "playbook.toml": _CONTRACT.format(words=name.replace("-", " "), script=script, runtime=runtime),
        script: _PYTHON if runtime == "python" else _BASH,
        "tests/somebody/case.json": _CASES[runtime],
        "tests/nobody/case.json": _DECLINED,
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return tuple(f"playbooks/{name}/{path}" for path in files)
