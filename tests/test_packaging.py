"""What is published: the wheel and its dependencies, the registry's document, versions, constraints, the CI script."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution, metadata
from pathlib import Path

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import mcp_tierkit

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVER = json.loads((ROOT / "server.json").read_text())


# --- one version, one name


def test_every_place_names_one_version() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    versions = {
        "pyproject.toml": PROJECT["project"]["version"],
        "package": mcp_tierkit.__version__,
        "server.json": SERVER["version"],
        "server.json package": SERVER["packages"][0]["version"],
        "CHANGELOG.md": newest[1],
    }
    assert set(versions.values()) == {PROJECT["project"]["version"]}, versions


def test_server_json_fits_the_registrys_schema() -> None:
    schema = json.loads((ROOT / "tests/fixtures/server.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(SERVER)
    assert SERVER["$schema"] == schema["$id"]


def test_server_json_names_the_package_and_its_readme_names_the_server() -> None:
    assert SERVER["packages"][0]["identifier"] == PROJECT["project"]["name"]
    assert f"mcp-name: {SERVER['name']}" in (ROOT / "README.md").read_text()


def test_the_licence_is_the_one_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


# --- constraints


def requirements(*groups: Iterable[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for group in groups for line in group]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def closure(roots: Iterable[Requirement]) -> dict[str, Distribution]:
    """Every installed distribution that the requirements lead to on this interpreter."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = list(roots)
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found[key[0]] = dist = distribution(requirement.name)
        extras = [{"extra": extra} for extra in (requirement.extras or {""})]
        for inner in map(Requirement, dist.requires or []):
            if inner.marker is None or any(inner.marker.evaluate(extra) for extra in extras):
                queue.append(inner)
    return found


def constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in map(Requirement, lines)}


def test_constraints_pin_all_that_an_installation_pulls_in() -> None:
    wanted = requirements(PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["dev"])
    pulled = closure(wanted.values())
    assert sorted(set(pulled) - set(constraints())) == []


def test_constraints_stay_within_the_declared_ranges() -> None:
    wanted = requirements(PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["dev"])
    pins = constraints()
    assert [str(need) for name, need in wanted.items() if not need.specifier.contains(pins[name])] == []


def test_constraints_hold_pins_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pin = r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+( ; python_version .*)?"
    assert [line for line in lines if not re.fullmatch(pin, line)] == []
    assert not re.search(r"https?://|index-url|find-links", "\n".join(lines))


def test_no_pin_keeps_an_older_pip_from_saying_that_python_is_too_old() -> None:
    """On Python 3.10 a pin without a release for it is a conflict of its own, in which nobody hears of Python."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    stopping = []
    for pin in map(Requirement, lines):
        with suppress(PackageNotFoundError):
            needs = SpecifierSet(str(metadata(pin.name).json.get("requires_python") or ""))
            is_heeded = pin.marker is None or pin.marker.evaluate({"python_version": "3.10"})
            stopping += [pin.name] if is_heeded and not needs.contains("3.10.14") else []
    assert stopping == []


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, by the build back end alone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("mcp_tierkit", "playbooks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    return next(out.glob("*.whl"))


def test_the_wheel_carries_data_prompts_and_playbooks(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = {str(file.relative_to(ROOT)) for file in (ROOT / "mcp_tierkit").rglob("*") if file.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    playbooks = {
        f"mcp_tierkit/_playbooks/{file.relative_to(ROOT / 'playbooks')}"
        for file in (ROOT / "playbooks").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert package - inside == set()
    assert playbooks
    assert playbooks - inside == set()
    assert any(name.endswith("licenses/LICENSE") for name in inside)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it declares, and no package of ours for development.

    The dependencies are links to the installed ones, so that nothing is fetched.
    """
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    python = home / "bin/python"
    site = next(home.glob("lib/python3*/site-packages"))
    for dist in closure(requirements(PROJECT["project"]["dependencies"]).values()).values():
        for top in {Path(str(file)).parts[0] for file in dist.files or []} - {"..", "__pycache__"}:
            link, target = site / top, Path(str(dist.locate_file(top)))
            if not link.exists() and target.exists():
                link.symlink_to(target)
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return home / "bin"


def ask(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(program.parent)}
    return subprocess.run([program, *args], capture_output=True, text=True, check=False, env=env, cwd="/", timeout=60)


@pytest.mark.parametrize("name", ["mcp-tierkit", "tierkit"])
def test_the_wheel_alone_answers_help(name: str, installed: Path) -> None:
    done = ask(installed / name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: {name}" in done.stdout
    assert ask(installed / name, "--version").stdout == f"{name} {mcp_tierkit.__version__}\n"


def test_every_module_of_the_wheel_loads_with_declared_packages_only(installed: Path) -> None:
    code = (
        "import importlib, pkgutil, mcp_tierkit\n"
        "names = [module.name for module in pkgutil.walk_packages(mcp_tierkit.__path__, 'mcp_tierkit.')]\n"
        "names = [name for name in names if '_playbooks' not in name and not name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "import importlib.util as u\n"
        "print(len(names), u.find_spec('pytest'), 'site-packages' in mcp_tierkit.__file__)\n"
    )
    done = ask(installed / "python", "-c", code)
    assert done.stderr == ""
    assert re.fullmatch(r"\d+ None True\n", done.stdout)


# --- make and CI


@pytest.mark.parametrize(
    "target", ["demo", "test", "lint", "conformance", "clients", "bench", "bench-drafts", "test-all"]
)
def test_each_target_can_be_made(target: str) -> None:
    assert subprocess.run(["make", "-n", target], capture_output=True, check=False, cwd=ROOT).returncode == 0


def test_scripts_may_be_run_and_are_whole() -> None:
    for name in (".ci/run", ".ci/venv"):
        assert os.access(ROOT / name, os.X_OK)
        assert subprocess.run(["bash", "-n", str(ROOT / name)], check=False).returncode == 0


def test_ci_ends_on_pytests_closing_line_even_when_a_test_fails(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text("test:\n\t@echo '== 1 failed in 0.1s =='; exit 1\n")
    done = subprocess.run([tmp_path / ".ci/run"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert (done.stdout.splitlines()[-1], done.stderr) == ("== 1 failed in 0.1s ==", "")


def test_an_old_python_is_refused_in_three_sentences(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/venv", tmp_path / ".ci")
    (tmp_path / "bin").mkdir()
    for name in ("bash", "dirname", "env"):
        found = shutil.which(name)
        assert found
        (tmp_path / "bin" / name).symlink_to(found)
    old = tmp_path / "bin/python3"
    old.write_text("#!/bin/bash\nexit 1\n")
    old.chmod(0o755)
    env = {"PATH": str(tmp_path / "bin")}
    done = subprocess.run([tmp_path / ".ci/venv", "dev"], capture_output=True, text=True, check=False, env=env)
    assert done.returncode != 0
    assert "No Python 3.11 or newer was found here. Nothing was installed." in done.stderr
    named = subprocess.run(
        [tmp_path / ".ci/venv", "dev"], capture_output=True, text=True, check=False, env=env | {"PYTHON": "python3"}
    )
    assert "python3 is not Python 3.11 or newer. Nothing was installed." in named.stderr
    assert "make test" not in done.stderr + named.stderr  # It may have been another target.
    assert not (tmp_path / ".venv").exists()
