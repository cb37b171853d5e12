"""Runs the command of this playbook and tells how it ended, whatever it found."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

PLAYBOOK = Path(__file__).resolve().parent.parent
SHELL = ["bash", "--norc", "--noprofile"]
FIRST, TELLING, LAST = 8, 12, 20
WIDTH, MOST = 200, 4000

TELLS = re.compile(r"error|fail|assert|exception|traceback|panic|warning", re.IGNORECASE)
# What differs between two runs that found the same.
PASSING = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
    (re.compile(r"\b\d+(?:\.\d+)?(?=\s?(?:ms|us|µs|ns|s|secs?|seconds?)\b)"), "…"),
    (re.compile(r"(?<=duration_ms)(:? )[\d.]+"), r"\1…"),
    (re.compile(r"(?<![\w:.])\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?![\w:])"), "…"),
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "0x…"),
)


def decline(why):
    print(why, file=sys.stderr)
    sys.exit(10)


def environment(folder, command, caches):
    """The project's own programs first, and caches where they may be written."""
    places = [place / name for place in dict.fromkeys((folder, Path.cwd())) for name in command["programs"]]
    path = os.pathsep.join([*(str(place) for place in places if place.is_dir()), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, **{key: text.replace("{caches}", caches) for key, text in command["env"].items()}}


def words(folder, command, env):
    """The command's words, its program found; 10 where one that it needs is not there."""
    for program in command["needs"]:
        if not find(program, folder, env):
            decline(f"{program} is not installed here")
    if "argv" not in command:
        return [*SHELL, str(PLAYBOOK / "scripts" / "command.sh")]
    program, *rest = command["argv"]
    return [find(program, folder, env), *rest]


def find(program, folder, env):
    found = shutil.which(str(folder / program) if "/" in program else program, path=env["PATH"])
    return found or (sys.executable if program == "python" else None)


def brief(stream, names):
    """The first lines, those that speak of a failure, and the last, each cut to a width."""
    first, telling, last, count = [], [], deque(maxlen=LAST), 0
    for count, raw in enumerate(iter(lambda: stream.readline(8192), b""), 1):
        line = plain(raw.decode(errors="replace"), names)
        if count <= FIRST:
            first.append((count, line))
            continue
        if len(last) == LAST and TELLS.search(last[0][1]) and len(telling) < TELLING:
            telling.append(last[0])
        last.append((count, line))
    return joined([*first, *telling, *last], count)


def joined(lines, count):
    parts, before = [], 0
    for number, line in lines:
        if number > before + 1:
            parts.append(f"[{number - before - 1} lines left out]")
        parts.append(line)
        before = number
    text = "\n".join(parts)
    return text if len(text) <= MOST else f"{text[: MOST // 4]}\n[…]\n{text[-MOST // 2 :]}"


def plain(line, names):
    for name, shown in names:
        line = line.replace(name, shown)
    for pattern, shown in PASSING:
        line = pattern.sub(shown, line)
    line = "".join(char if char.isprintable() or char == "\t" else " " for char in line).rstrip()
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def main():
    inputs = json.load(sys.stdin)
    command = json.loads((PLAYBOOK / "assets" / "command.json").read_text("utf-8"))
    folder = Path(inputs.get("folder", ".")).resolve()
    if not folder.is_dir() or not folder.is_relative_to(Path.cwd()):
        decline("there is no such folder in the project")
    with tempfile.TemporaryDirectory() as caches:
        env = environment(folder, command, caches)
        argv = words(folder, command, env)
        # Longest first: a name may stand inside another.
        names = {caches: "~", str(PLAYBOOK): "~", str(Path.cwd()): ".", str(folder): "."}
        names = sorted(names.items(), key=lambda pair: len(pair[0]), reverse=True)
        with subprocess.Popen(
            argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            output = brief(process.stdout, names)
    result = {"passed": process.returncode == 0, "exit_code": process.returncode, "output": output}
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(result, out)
    return exit_code(process.returncode, command.get("ok_exit_codes", [0]))


def exit_code(code, fine):
    """The command's own, since a run that fails is no success of this playbook; 10 would say that it was declined."""
    if code in fine:
        return 0
    return code if 0 < code < 256 and code != 10 else 1


sys.exit(main())
