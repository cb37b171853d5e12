"""Makes the change in assets/edits.json again, with this task's own words in its holes."""

import json
import os
import re
import sys
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"


class Declined(Exception):
    """The project is not as the change needs it."""


def filled(text, inputs):
    """The text with each `{slot}` replaced by its input; all other braces stay."""
    if text is None or not inputs:
        return text
    names = "|".join(map(re.escape, inputs))
    return re.sub(r"\{(" + names + r")\}", lambda found: inputs[found[1]], text)


def replayed(edits, inputs, read):
    """What each file becomes, None for one that goes. `read` gives a file's text, None where there is none."""
    spans, files = {}, {}
    for edit in edits:
        path, before, after = (filled(edit[key], inputs) for key in ("path", "before", "after"))
        text = read(path)
        if before is None or after is None:
            if text != before:
                raise Declined(f"{path} is there already" if before is None else f"{path} is not as it was")
            files[path] = after
            continue
        at = -1 if text is None else text.find(before)
        if at < 0 or text.find(before, at + 1) >= 0 or (text and not before):
            raise Declined(f"what is to be changed does not stand exactly once in {path}")
        spans.setdefault(path, []).append((at, at + len(before), after))
    for path, found in spans.items():
        files[path] = spliced(read(path), sorted(found), path)
    return files


def spliced(text, spans, path):
    parts, done = [], 0
    for start, stop, after in spans:
        if start < done:
            raise Declined(f"two parts of the change meet in {path}")
        parts += [text[done:start], after]
        done = stop
    return "".join([*parts, text[done:]])


def read(path):
    try:
        return Path(path).read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Declined(f"{path} cannot be read as text") from error


def write(path, text):
    if text is None:
        os.remove(path)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(text.encode())


def main():
    inputs = json.load(sys.stdin)
    try:
        files = replayed(json.loads((ASSETS / "edits.json").read_text("utf-8")), inputs, read)
    except Declined as why:
        print(why, file=sys.stderr)
        sys.exit(10)
    for path, text in files.items():
        write(path, text)
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump({"files": sorted(files)}, out)


if __name__ == "__main__":
    main()
