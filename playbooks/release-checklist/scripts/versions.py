"""The version that each file of a project states, and the dependencies that a lock file must follow."""

import json
import re
import tomllib
from pathlib import Path

from quiet_git import shown

JSON_FILES = ("package.json", "composer.json", "server.json", "manifest.json", "deno.json", "jsr.json", "package-lock.json")
MAX_READ = 4 * 1024 * 1024

_DUNDER = re.compile(r"^__version__(?:[ \t]*:[ \t]*[\w.\[\]]{1,40})?[ \t]*=[ \t]*[\"']([^\"'\n]{1,64})[\"']", re.MULTILINE)
_SETUP_CFG = re.compile(r"^version[ \t]*=[ \t]*([^\s#;]{1,64})[ \t]*$", re.MULTILINE)


class Unreadable(Exception):
    """A file that should say a version cannot be read; the text is one line."""


def read(path):
    """The text of a plain file inside the project, None where there is none; Unreadable where it is kept from us."""
    file = Path(path)
    if file.is_symlink() or not file.is_file():
        return None
    if file.stat().st_size > MAX_READ:
        raise Unreadable(f"{shown(path)} is larger than {MAX_READ >> 20} MB")
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise Unreadable(f"{shown(path)} cannot be read: {error.strerror}") from None


def parse(path, text):
    try:
        found = tomllib.loads(text) if path.endswith((".toml", ".lock")) else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {str(error)[:80]}") from None
    return found if isinstance(found, dict) else {}


def load(path):
    text = read(path)
    return None if text is None else parse(path, text)


def inner(table, *keys):
    """The value below these keys, None where there is none."""
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def stated(paths):
    """File to version, for every file among these tracked paths that states one."""
    found = {
        "pyproject.toml": _pyproject(), "Cargo.toml": _cargo(), "setup.cfg": _first(_SETUP_CFG, "setup.cfg"),
        "VERSION": (read("VERSION") or "").strip() or None,
    }  # fmt: skip
    found |= {path: inner(load(path) or {}, "version") for path in JSON_FILES}
    found |= {path: _first(_DUNDER, path) for path in paths if _may_have_dunder(path)}
    return {path: version for path, version in found.items() if isinstance(version, str) and version}


def dependencies(path, text):
    """The part of a manifest that its lock file is made from; None where that cannot be told."""
    table = parse(path, text)
    keys = {
        "pyproject.toml": [("project", "dependencies"), ("project", "optional-dependencies"), ("dependency-groups",),
                           ("tool", "poetry", "dependencies"), ("tool", "poetry", "group"), ("tool", "pdm", "dev-dependencies")],
        "package.json": [("dependencies",), ("devDependencies",), ("peerDependencies",), ("optionalDependencies",)],
        "Cargo.toml": [("dependencies",), ("dev-dependencies",), ("build-dependencies",), ("workspace", "dependencies")],
        "composer.json": [("require",), ("require-dev",)],
    }.get(path)  # fmt: skip
    return None if keys is None else [inner(table, *key) for key in keys]


def same(one, other):
    """Whether two versions are the same, 1.2.0rc1 and 1.2.0-rc.1 included."""
    return _plain(one) == _plain(other)


def order(version):
    """A key that sorts releases of plain numbers; None for what has more in it."""
    found = re.fullmatch(r"v?(\d{1,9}(?:\.\d{1,9}){0,4})", version)
    return tuple(map(int, found[1].split("."))) if found else None


def _plain(version):
    version = version.strip().lower().removeprefix("v").split("+")[0]
    return re.sub(r"[-._]?(a|b|c|rc|alpha|beta|dev|post)[-._]?(?=\d)", r"\1", version).replace("alpha", "a").replace("beta", "b")


def _pyproject():
    table = load("pyproject.toml") or {}
    return inner(table, "project", "version") or inner(table, "tool", "poetry", "version")


def _cargo():
    table = load("Cargo.toml") or {}
    own = inner(table, "package", "version")
    return own if isinstance(own, str) else inner(table, "workspace", "package", "version")


def _first(pattern, path):
    found = pattern.search(read(path) or "")
    return found[1] if found else None


def _may_have_dunder(path):
    parts = path.split("/")
    folder = parts[1:] if parts[0] in ("src", "lib") else parts
    is_own = len(folder) <= 2 and not parts[0].startswith((".", "test", "doc", "example"))
    return is_own and folder[-1] in ("__init__.py", "_version.py", "version.py", "__about__.py", "__version__.py", "setup.py")
