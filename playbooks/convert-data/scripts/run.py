"""One data file as another format: inputs as JSON on stdin, what became of it as JSON to PLAYBOOK_RESULT.

What is written is read back before it counts. Whatever does not come back the same is lost, and said to be.
"""

import itertools
import json
import os
import re
import sys
from decimal import Decimal

import formats
from formats import ROWS, TABLES, TEXT_ONLY, BadData, NotForMe, json_text, number_text, parse, shown

MAX_SHOWN = 8000
MAX_KEY = 1000
INTEGER_BITS = 63
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
YAML_PLAIN = re.compile(r"[A-Za-z]([A-Za-z0-9 _./-]*[A-Za-z0-9_])?")
YAML_WORDS = {"y", "n", "yes", "no", "true", "false", "on", "off", "null", "nan", "inf"}
UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def convert(value, form, rows_at="", columns=()):
    """(the text in that format, whether its cells must be read by type, what it says when read again)

    `columns` are the header of a table without rows.
    """
    shape = "rows" if form in ROWS else "table" if form in ("toml", "ini") else "any"
    shaped, wrapped = value, isinstance(value, list)
    if shape == "rows" and not wrapped:
        shaped = rows_of(value, rows_at, form)
    if shape == "table" and wrapped:
        shaped = {named(rows_at, form): value}
    if shape == "table" and not isinstance(shaped, dict):
        raise NotForMe(f"{form} holds a table, and this is a single value")
    text = WRITERS[form](shaped, *([columns] if form in TABLES else []))
    typed = form in TEXT_ONLY and not all(isinstance(cell, str) for cell in cells(shaped))
    back = read_again(text, form, typed, shaped)
    if shape == "rows" and not wrapped:
        back = {rows_at: back}
    return text, typed, back[rows_at] if shape == "table" and wrapped else back


def rows_of(value, rows_at, form):
    rows = value.get(named(rows_at, form)) if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise NotForMe(f"{form} holds rows, and there is no list of them at {shown(rows_at)}")
    return rows


def named(rows_at, form):
    if not rows_at:
        raise NotForMe(f"{form} and the source differ in shape: name with rows_at the key that holds the rows")
    return rows_at


def read_again(text, form, typed, shaped):
    """YAML is the one format that is written and not read here: only a date would come back as something else."""
    if form == "yaml":
        return undated(shaped)
    try:
        return parse(text, form, typed=typed)
    except (BadData, NotForMe) as error:
        raise NotForMe(f"{form} cannot hold this: {error}") from None


def undated(value):
    if isinstance(value, dict):
        return {name: undated(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [undated(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | Decimal) else value.isoformat()


def losses(value, back, path=""):
    """Where the two differ, as paths, and how."""
    if isinstance(value, dict) and isinstance(back, dict):
        for name in [*value, *(name for name in back if name not in value)]:
            where = f"{path}/{name}"
            if name in value and name in back:
                yield from losses(value[name], back[name], where)
            else:
                yield f"{where}: {'is left out' if name in value else 'was not there and is empty'}"
    elif isinstance(value, list) and isinstance(back, list) and len(value) == len(back):
        for at, (one, other) in enumerate(zip(value, back, strict=True)):
            yield from losses(one, other, f"{path}/{at}")
    elif not is_same(value, back):
        yield f"{path or 'the whole'}: {kind(value)} becomes {kind(back)}"


def is_same(value, back):
    return type(value) is type(back) and (value == back or str(value) == str(back))


def kind(value):
    names = {str: "text", bool: "a boolean", int: "a number", Decimal: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a date")


def cells(value):
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from cells(inner) if isinstance(inner, dict) else (inner,)


def write_json(value):
    return json_text(value, "  ") + "\n"


def write_jsonl(rows):
    return "".join(json_text(row) + "\n" for row in rows)


def write_csv(rows, columns=(), mark=","):
    if not all(isinstance(row, dict) for row in rows):
        raise NotForMe("a table needs rows that are objects, and here are others")
    head = list(dict.fromkeys(itertools.chain(columns, *rows)))
    if rows and not head:
        raise NotForMe("the rows have no fields")
    lines = [head, *([cell_text(row.get(name)) for name in head] for row in rows)] if head else []
    return "".join(mark.join(quoted(text, mark, len(head)) for text in line) + "\n" for line in lines)


def write_tsv(rows, columns=()):
    return write_csv(rows, columns, "\t")


def cell_text(value):
    if value is None or isinstance(value, str):
        return value or ""
    return json_text(value) if isinstance(value, bool | int | Decimal | dict | list) else value.isoformat()


def quoted(text, mark, width):
    # An empty line would be no row at all.
    if re.search(f'[{mark}"\r\n;|\t]|^[ \ufeff]| $', text) or (width == 1 and not text):
        return '"' + text.replace('"', '""') + '"'
    return text


def write_toml(table):
    return "\n".join(toml_lines(table, ())) + "\n" if table else ""


def toml_lines(table, above):
    """The plain values first: what follows a header belongs to it."""
    tables = {name: value for name, value in table.items() if isinstance(value, dict) or is_tables(value)}
    for name, value in table.items():
        if name not in tables and value is not None:
            yield f"{toml_key(name)} = {toml_value(value)}"
    for name, value in tables.items():
        path = (*above, toml_key(name))
        for inner in [value] if isinstance(value, dict) else value:
            yield ("[{}]" if inner is value else "[[{}]]").format(".".join(path))
            yield from toml_lines(inner, path)


def is_tables(value):
    return isinstance(value, list) and bool(value) and all(isinstance(inner, dict) for inner in value)


def toml_key(name):
    return name if BARE_KEY.fullmatch(name) else toml_value(name)


def toml_value(value):
    if isinstance(value, dict):
        parts = (f"{toml_key(name)} = {toml_value(inner)}" for name, inner in value.items() if inner is not None)
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if value is None:
        raise NotForMe("TOML has no null, and a list here holds one")
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > INTEGER_BITS:
        raise NotForMe("a whole number here is too large for TOML")
    if isinstance(value, Decimal) and not value.is_finite():
        return str(value).lower().replace("infinity", "inf")
    return json_text(value).replace("\x7f", "\\u007f") if isinstance(value, str | int | Decimal) else value.isoformat()


def write_ini(table):
    if not all(isinstance(section, dict) for section in table.values()):
        raise NotForMe("INI holds sections of values, and here are values outside of any")
    return "\n".join(map(ini_section, table, table.values()))


def ini_section(name, section):
    lines = (f"{key} = {cell_text(value)}".rstrip(" ").replace("\n", "\n\t") for key, value in section.items())
    return "\n".join([f"[{name}]", *lines]) + "\n"


def write_yaml(value):
    is_block = isinstance(value, dict | list) and value
    return yaml_block(value, "") if is_block else yaml_scalar(value) + "\n"


def yaml_block(value, pad):
    if isinstance(value, list):
        return "".join(yaml_item(inner, pad) for inner in value)
    return "".join(f"{pad}{yaml_key(name)}:{yaml_rest(inner, pad)}" for name, inner in value.items())


def yaml_item(value, pad):
    if isinstance(value, dict | list) and value:
        return f"{pad}- {yaml_block(value, pad + '  ')[len(pad) + 2 :]}"
    return f"{pad}- {yaml_scalar(value)}\n"


def yaml_rest(value, pad):
    if isinstance(value, dict | list) and value:
        return "\n" + yaml_block(value, pad + "  ")
    return f" {yaml_scalar(value)}\n"


def yaml_key(name):
    key = yaml_scalar(name)
    if len(key) > MAX_KEY:
        raise NotForMe("a key is too long for YAML")
    return key


def yaml_scalar(value):
    if isinstance(value, str) and YAML_PLAIN.fullmatch(value) and value.casefold() not in YAML_WORDS:
        return value
    if isinstance(value, Decimal) and not value.is_finite():
        return "-.inf" if value < 0 else ".nan" if value.is_nan() else ".inf"
    if isinstance(value, Decimal):  # Older readers know no number with an exponent and without a point.
        return re.sub(r"^(-?\d+)E", r"\1.0E", number_text(value))
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text(value))


WRITERS = {
    "json": write_json, "jsonl": write_jsonl, "csv": write_csv, "tsv": write_tsv, "toml": write_toml, "ini": write_ini,
    "yaml": write_yaml,
}  # fmt: skip


def aimed(inputs):
    """(target path or "", format), once nothing speaks against writing there."""
    target, to = inputs.get("target", ""), inputs.get("to", "").casefold()
    form = formats.format_of("." + to if to else target)
    if not target:
        return target, form
    parts = formats.inside(target).split("/")
    if ".git" in parts or os.path.islink(target) or not os.path.isdir(os.path.dirname(target) or "."):
        raise NotForMe(f"{shown(target)} is no place for a new file")
    if os.path.lexists(target) and not inputs.get("overwrite", False):
        raise NotForMe(f"{shown(target)} exists: allow it with overwrite")
    return target, form


def report(inputs):
    source = inputs["source"]
    target, form = aimed(inputs)
    was, text = formats.format_of(source), formats.read_text(source)
    if was == form:
        raise NotForMe(f"{shown(source)} is {form} already")
    try:
        delimiter = inputs.get("delimiter", "auto")
        value = parse(text, was, typed=inputs.get("typed", False), delimiter=delimiter)
        columns = [] if value else formats.columns(text, was, delimiter)
    except BadData as error:
        raise BadData(f"{shown(source)}: {error}") from None
    made, typed, back = convert(value, form, inputs.get("rows_at", ""), columns)
    headless = [f"the column {name}: is left out" for name in columns if form not in TABLES]
    lost = [one[:200] for one in [*headless, *losses(value, back)]]
    if lost and not inputs.get("allow_loss", False):
        raise NotForMe(f"{form} would lose {len(lost)} values, the first at {lost[0]!a}: see allow_loss")
    if not target and len(made) > MAX_SHOWN:
        raise NotForMe(f"the result has {len(made)} characters, too many to show: name a target")
    if target:
        save(target, made)
    limit = inputs.get("limit", 20)
    has_comments = was in ("toml", "ini") and re.search(r"^\s*[#;]", text, re.MULTILINE)
    return {
        "format": form,
        "target": target,
        "bytes": len(made.encode()),
        "items": len(value) if isinstance(value, dict | list) else 1,
        "typed": typed,
        "lost": lost[:limit],
        "more": max(0, len(lost) - limit),
        "note": "comments were left out" if has_comments else "",
        "text": "" if target else made,
    }


def save(target, text):
    with open(target, "w", encoding="utf-8", newline="") as file:
        file.write(text)


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
