"""Which project files a source file may import, guessed from its text and path; the caller sees which are there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

READ_CHARS = 200_000
"""Of a file: imports stand at its start."""
MOST = 400
"""Candidates of one file."""

_PYTHON = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(\([^)]{0,2000}\)|[^\n#]{1,2000})|import[ \t]+([^\n#]{1,2000}))",
    re.M,
)
_SCRIPT = re.compile(r"""\b(?:from|import|require|import\()[ \t(]{0,8}["']((?:\.{1,2}|[@~])/[^"'\n]{1,200})["']""")
_GO = re.compile(r'^[ \t]*(?:import[ \t]+)?(?:[\w.]+[ \t]+)?"([\w.~-]+(?:/[\w.~-]+){1,12})"', re.M)
_RUST_MOD = re.compile(r"^[ \t]*(?:pub(?:\([\w: ]+\))?[ \t]+)?mod[ \t]+(\w+)[ \t]*;", re.M)
_RUST_USE = re.compile(r"\b(crate|super|self)::(\w+(?:::\w+){0,6})")
_JAVA = re.compile(r"^[ \t]*import[ \t]+(static[ \t]+)?([\w.]+)", re.M)
_JAVA_PACKAGE = re.compile(r"^[ \t]*package[ \t]+([\w.]+)", re.M)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]{1,200})"', re.M)
_RUBY = re.compile(r"""^[ \t]*require(_relative)?[ \t(]+["']([^"'\n]{1,200})["']""", re.M)

_SCRIPT_ENDINGS = (".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts")
_C_ENDINGS = (".c", ".h", ".hh", ".hpp", ".hxx", ".cc", ".cpp", ".cxx", ".ipp")


def neighbours(path: str, text: str) -> tuple[str, ...]:
    """Project-relative paths that the file's imports could mean, in their order; most of them will not exist.

    Python, JavaScript, TypeScript, Go, Rust, Java, C, C++ and Ruby. The file itself is never among them.
    """
    finder = _FINDERS.get(PurePosixPath(path).suffix.lower())
    found: dict[str, None] = {}
    for candidate in finder(path, text[:READ_CHARS]) if finder else ():
        plain = posixpath.normpath(candidate)
        if plain != path and not plain.startswith(("/", "..")):
            found[plain] = None
        if len(found) == MOST:
            break
    return tuple(found)


def _python(path: str, text: str) -> Iterator[str]:
    for module, names, modules in (match.groups() for match in _PYTHON.finditer(text)):
        if modules is not None:
            for dotted in re.findall(r"(?:^|,)[ \t]*([\w.]+)", modules):
                yield from _python_module(path, dotted, ())
        else:
            imported = re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", re.sub(r"#[^\n]*", "", names))
            yield from _python_module(path, module, imported)


def _python_module(path: str, dotted: str, names: list[str] | tuple[()]) -> Iterator[str]:
    bare = dotted.lstrip(".")
    ups = len(dotted) - len(bare)
    below = bare.replace(".", "/")
    roots = [posixpath.join(posixpath.dirname(path), *[".."] * (ups - 1))] if ups else _roots(path)
    for root in roots:
        place = posixpath.join(root, below) if below else root
        for name in names:
            yield from (f"{place}/{name}.py", f"{place}/{name}/__init__.py")
        yield from (f"{place}.py", f"{place}/__init__.py") if below else (f"{place}/__init__.py",)


def _roots(path: str) -> list[str]:
    """Folders that imports may start from: the project, its `src`, and each folder that the file lies in."""
    above = [str(folder) for folder in PurePosixPath(path).parents]
    return list(dict.fromkeys([".", "src", *reversed(above)]))


def _script(path: str, text: str) -> Iterator[str]:
    for name in _SCRIPT.findall(text):
        if name.startswith("."):
            yield from _script_file(posixpath.join(posixpath.dirname(path), name))
        else:
            yield from (each for root in ("src", ".") for each in _script_file(posixpath.join(root, name[2:])))


def _script_file(place: str) -> Iterator[str]:
    stem, ending = posixpath.splitext(place)
    if ending in _SCRIPT_ENDINGS:
        yield place
        # TypeScript names the file that will be built: `./x.js` is x.ts.
        yield from (stem + ending.replace("js", "ts"), f"{stem}.tsx")
    else:
        yield from (place + each for each in _SCRIPT_ENDINGS)
        yield from (f"{place}/index{each}" for each in _SCRIPT_ENDINGS)


def _go(path: str, text: str) -> Iterator[str]:
    """The file that a package is named for: which others it has, its import does not say."""
    for package in _GO.findall(text):
        parts = package.split("/")
        yield from (f"{'/'.join(parts[at:])}/{parts[-1]}.go" for at in range(1, len(parts)))


def _rust(path: str, text: str) -> Iterator[str]:
    folder, stem = posixpath.dirname(path), PurePosixPath(path).stem
    own = folder if stem in ("mod", "lib", "main") else posixpath.join(folder, stem)
    for name in _RUST_MOD.findall(text):
        yield from _rust_module(own, name)
    crate = path.rpartition("src/")[0] + "src"
    bases = {"crate": crate, "self": own, "super": posixpath.dirname(own) or "."}
    for base, rest in _RUST_USE.findall(text):
        parts = rest.split("::")
        for end in range(len(parts), 0, -1):
            yield from _rust_module(bases[base], "/".join(parts[:end]))


def _rust_module(folder: str, name: str) -> tuple[str, str]:
    return posixpath.join(folder, f"{name}.rs"), posixpath.join(folder, name, "mod.rs")


def _java(path: str, text: str) -> Iterator[str]:
    declared = _JAVA_PACKAGE.search(text)
    package = declared[1].replace(".", "/") if declared else ""
    own = posixpath.dirname(path).removesuffix(package).rstrip("/") or "."
    for static, name in _JAVA.findall(text):
        parts = name.split(".")[: -1 if static else None]
        for root in dict.fromkeys((own, own.replace("src/test/", "src/main/"))):
            yield posixpath.join(root, *parts) + ".java"


def _c(path: str, text: str) -> Iterator[str]:
    for name in _INCLUDE.findall(text):
        yield from (posixpath.join(root, name) for root in (posixpath.dirname(path), ".", "include", "src"))


def _ruby(path: str, text: str) -> Iterator[str]:
    for relative, name in _RUBY.findall(text):
        roots = (posixpath.dirname(path),) if relative else ("lib", ".")
        yield from (posixpath.join(root, name.removesuffix(".rb") + ".rb") for root in roots)


_FINDERS: Mapping[str, Callable[[str, str], Iterator[str]]] = {
    **dict.fromkeys((".py", ".pyi"), _python),
    **dict.fromkeys(_SCRIPT_ENDINGS, _script),
    **dict.fromkeys(_C_ENDINGS, _c),
    ".go": _go,
    ".rs": _rust,
    ".java": _java,
    ".rb": _ruby,
}
