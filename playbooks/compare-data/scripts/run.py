"""Two data files compared by what they say: inputs as JSON on stdin, the differences as JSON to PLAYBOOK_RESULT."""

import json
import os
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, time
from decimal import Context, Decimal

import formats
from formats import TABLES, TEXT_ONLY, BadData, NotForMe, json_text, shown

EXACT = Context(prec=2000)
NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,2})?")
VALUE_CHARS = 100
MISSING = object()


@dataclass
class Rules:
    """How two values are held against one another."""

    key: tuple = ()
    ignore: tuple = ()
    unordered: bool = False
    tolerance: Decimal = Decimal(0)
    across: bool = False
    """One side has types and the other is text alone: `1` and "1" are the same."""
    key_used: bool = False


def differences(left, right, rules, path=()):
    """(path, left, right) of every difference, in path order; MISSING stands for what one side lacks."""
    if is_ignored(path, rules):
        return
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted({*left, *right}):
            yield from differences(left.get(name, MISSING), right.get(name, MISSING), rules, (*path, name))
    elif isinstance(left, list) and isinstance(right, list):
        yield from of_lists(left, right, rules, path)
    elif not is_same(left, right, rules):
        yield path, left, right


def of_lists(left, right, rules, path):
    rows = rules.key and by_key(left, rules, path), rules.key and by_key(right, rules, path)
    if rules.key and None not in rows and (left or right):
        rules.key_used = True
        yield from differences(*rows, rules, path)
    elif rules.unordered:
        yield from of_bags(left, right, rules, path)
    else:
        for at in range(max(len(left), len(right))):
            one, other = (side[at] if at < len(side) else MISSING for side in (left, right))
            yield from differences(one, other, rules, (*path, str(at)))


def by_key(rows, rules, path):
    """The rows of a list by their key; None where they are no rows with that key."""
    if not all(isinstance(row, dict) and all(name in row for name in rules.key) for row in rows):
        return None
    found = {}
    for row in rows:
        label = ",".join(f"{name}={label_of(row[name])}" for name in rules.key)
        if label in found:
            raise BadData(f"{pointer(path) or 'the top'} has two rows with {shown(label)}")
        found[label] = row
    return found


def label_of(value):
    return value if isinstance(value, str) else json_text(value)


def of_bags(left, right, rules, path):
    """What is left when equal elements are taken off both sides in pairs, by the position they had."""
    places = defaultdict(list), defaultdict(list)
    for side, found in zip((left, right), places, strict=True):
        for at, value in enumerate(side):
            found[canonical(value, rules, (*path, "-"))].append(at)
    spare = [
        sorted(at for form, ats in mine.items() for at in ats[len(other.get(form, ())) :])
        for mine, other in (places, places[::-1])
    ]
    yield from (((*path, str(at)), left[at], MISSING) for at in spare[0] if not is_ignored((*path, "-"), rules))
    yield from (((*path, str(at)), MISSING, right[at]) for at in spare[1] if not is_ignored((*path, "-"), rules))


def canonical(value, rules, path):
    """The same text for every value that counts as the same."""
    if isinstance(value, dict):
        kept = [name for name in sorted(value) if not is_ignored((*path, name), rules)]
        parts = (f"{json.dumps(name)}:{canonical(value[name], rules, (*path, name))}" for name in kept)
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(canonical(inner, rules, (*path, "-")) for inner in value)) + "]"
    value = untexted(value) if rules.across and isinstance(value, str) else value
    if is_number(value):
        return str(EXACT.normalize(Decimal(value))) if value else "0"
    return json_text(value)


def is_same(left, right, rules):
    if left is MISSING or right is MISSING:
        return False
    if isinstance(left, str) != isinstance(right, str):
        text, other = (left, right) if isinstance(left, str) else (right, left)
        return is_said_by(other, text, rules)
    if isinstance(left, str) and left != right and rules.tolerance:
        left, right = untexted(left), untexted(right)
    if is_number(left) and is_number(right):
        return is_near(left, right, rules.tolerance)
    return type(left) is type(right) and left == right


def is_said_by(value, text, rules):
    """Whether a text is the form of a value that has a type."""
    if isinstance(value, date | time):
        try:
            return type(value).fromisoformat(text) == value
        except (ValueError, TypeError):
            return False
    if not rules.across:
        return False
    said = untexted(text)
    return said is not text and is_same(said, value, rules)


def untexted(text):
    if NUMBER.fullmatch(text):
        return Decimal(text)
    return {"": None, "true": True, "false": False}.get(text, text)


def is_number(value):
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def is_near(left, right, tolerance):
    one, other = Decimal(left), Decimal(right)
    if not (one.is_finite() and other.is_finite()):
        return str(one) == str(other)
    return one == other or EXACT.subtract(one, other).copy_abs() <= tolerance


def is_ignored(path, rules):
    return any(fits(path, *pattern) for pattern in rules.ignore)


def fits(path, head, tail):
    if tail is None:
        return len(path) == len(head) and all(map(step_fits, head, path))
    fore, aft = path[: len(head)], path[len(path) - len(tail) :]
    return len(path) >= len(head) + len(tail) and all(map(step_fits, head, fore)) and all(map(step_fits, tail, aft))


def step_fits(wanted, step):
    return wanted in ("*", step)


def read_pattern(text):
    """(steps from the top, steps from the end): `/a/*/b` has no end, `/a/**/b` has both, `b` is `/**/b`."""
    whole = text if text.startswith("/") else "/**/" + text
    steps = [step.replace("~1", "/").replace("~0", "~") for step in whole[1:].split("/")]
    if steps.count("**") > 1:
        raise NotForMe(f"the path {shown(text)} holds ** twice")
    if "**" not in steps:
        return tuple(steps), None
    at = steps.index("**")
    return tuple(steps[:at]), tuple(steps[at + 1 :])


def pointer(path):
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def kind_of(left, right):
    return "added" if left is MISSING else "removed" if right is MISSING else "changed"


def described(path, left, right):
    one = {"path": pointer(path)[:300], "kind": kind_of(left, right)}
    sides = {"left": left, "right": right}
    return one | {side: brief(value) for side, value in sides.items() if value is not MISSING}


def brief(value):
    text = str(value).lower() if isinstance(value, Decimal) and not value.is_finite() else json_text(value)
    return text if len(text) <= VALUE_CHARS else text[: VALUE_CHARS - 3] + "..."


def of_columns(one, other, rules):
    """Columns that one table has and the other lacks, at the place of a row that is not there."""
    for name in sorted({*one} ^ {*other}):
        if not is_ignored(("-", name), rules):
            yield ("-", name), *((name, MISSING) if name in one else (MISSING, name))


def compared(left, right, rules, limit, columns=((), ())):
    """The verdict on two values, the counts, and the first `limit` differences."""
    found = [*of_columns(*columns, rules), *differences(left, right, rules)]
    if rules.key and not rules.key_used:
        raise NotForMe(f"no list on both sides has rows with the key {shown(','.join(rules.key))}")
    counts = Counter(kind_of(one, other) for _, one, other in found)
    return {
        "verdict": "different" if found else "equal",
        **{kind: counts[kind] for kind in ("changed", "added", "removed")},
        "differences": [described(*one) for one in found[:limit]],
        "more": max(0, len(found) - limit),
    }


def report(inputs):
    sides, columns, delimiter = [], [], inputs.get("delimiter", "auto")
    for side in ("left", "right"):
        path = inputs[side]
        form, text = formats.format_of(path), formats.read_text(path)
        try:
            value = formats.parse(text, form, delimiter=delimiter)
            sides.append((form, value))
            # Rows name their columns themselves; where there are none, only the header does.
            columns.append(value[0] if form in TABLES and value else formats.columns(text, form, delimiter))
        except BadData as error:
            raise BadData(f"{shown(path)}: {error}") from None
    (form, left), (other, right) = sides
    rules = Rules(
        key=tuple(filter(None, inputs.get("key", "").split(","))),
        ignore=tuple(map(read_pattern, inputs.get("ignore", []))),
        unordered=inputs.get("unordered", False),
        tolerance=Decimal(str(inputs.get("tolerance", 0))),
        across=(form in TEXT_ONLY) != (other in TEXT_ONLY),
    )
    told = columns if form in TABLES and other in TABLES else ((), ())
    return compared(left, right, rules, inputs.get("limit", 20), told)


def main():
    try:
        output = report(json.load(sys.stdin))
    except (NotForMe, BadData) as why:
        print(why, file=sys.stderr)
        sys.exit(10 if isinstance(why, NotForMe) else 1)
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(output, out)


if __name__ == "__main__":
    main()
