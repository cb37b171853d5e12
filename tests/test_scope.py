"""What a draft may write."""

from __future__ import annotations

import pytest

from mcp_tierkit.scope import command_words, guarded, in_scope
from mcp_tierkit.types import Check


def check(*argv: str, cwd: str = ".") -> Check:
    return Check(argv=argv, cwd=cwd)


PYTEST = check("pytest", "-q")

ALWAYS = [
    ".git/config",
    ".git/hooks/pre-commit",
    ".GIT/config",
    ".gitattributes",
    ".tierkit/conventions.md",
    ".claude/settings.json",
    ".mcp.json",
    "sub/.mcp.json",
    ".codex/config.toml",
    ".cursor/rules",
    ".vscode/tasks.json",
    ".github/workflows/ci.yml",
    "playbooks/x/run.py",
    "tierkit.toml",
    "CLAUDE.md",
    "pkg/CLAUDE.md",
    "claude.md",
    "AGENTS.md",
    ".husky/pre-commit",
    ".pre-commit-config.yaml",
    ".envrc",
    ".gitlab-ci.yml",
    "sitecustomize.py",
    "src/sitecustomize.py",
    "evil.pth",
    "node_modules/jest/index.js",
    ".venv/lib/x.py",
    "pytest.py",
    "unittest.py",
    "src/_pytest/runner.py",
    "unittest/__init__.py",
    "pkg/deep/pluggy.py",
    "x.egg-info/entry_points.txt",
    "__pycache__/app.cpython-311.pyc",
    "json.py",
    "src/re.py",
    "re/__init__.py",
    "pkg.so",
]
TESTS = [
    "tests/test_a.py",
    "test_a.py",
    "pkg/a_test.py",
    "conftest.py",
    "deep/in/conftest.py",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
    "noxfile.py",
    "package.json",
    "pkg/package.json",
    "jest.config.ts",
    "vitest.config.mjs",
    ".mocharc.json",
    "tsconfig.json",
    "tsconfig.build.json",
    "Makefile",
    "makefile",
    "PyProject.toml",
    ".coveragerc",
    "tests/helpers/util.py",
    "src/a.test.ts",
    "src/a.spec.jsx",
    "__tests__/a.js",
    "__snapshots__/a.snap",
    "a_test.go",
    "testdata/x.json",
    "src/test/java/ATest.java",
    "FooTest.java",
    "spec/a_spec.rb",
    "tests/it.rs",
    "Cargo.toml",
    "build.rs",
    "go.mod",
    "src/a.test.mts",
    "conftest/__init__.py",
]
FREE = [
    "src/app.py",
    "app.py",
    "pkg/types.py",
    "pkg/json.py",
    "latest.py",
    "contest.py",
    "src/attestation.ts",
    "docs/testing.md",
    "src/git.py",
    "lib/spec.ts",
    "README.md",
    "src/Latest.java",
    "greatest.go",
    "pkg/protest.py",
    "sub/playbooks/x.md",
]


@pytest.mark.parametrize("path", ALWAYS)
def test_what_governs_the_project_is_never_written(path: str) -> None:
    assert guarded(path, [PYTEST], False)
    assert guarded(path, [PYTEST], True)


@pytest.mark.parametrize("path", TESTS)
def test_tests_and_runner_configuration_are_written_only_where_that_is_the_task(path: str) -> None:
    assert guarded(path, [PYTEST], False)
    assert guarded(path, [PYTEST], True) is None


@pytest.mark.parametrize("path", FREE)
def test_source_is_free(path: str) -> None:
    assert guarded(path, [PYTEST], False) is None


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("verify.sh", check("./verify.sh")),
        ("verify.py", check("python", "verify.py", "--fast")),
        ("verify.py", check("uv", "run", "python", "-u", "verify.py")),
        ("ci/verify.py", check("python", "verify.py", cwd="ci")),
        ("pkg/check_app.py", check("pytest", "pkg/check_app.py::test_one")),
        ("selftest/__main__.py", check("python", "-m", "selftest")),
        ("src/app/selftest.py", check("python", "-m", "app.selftest")),
        ("app/proofs.py", check("python", "-m", "unittest", "app.proofs.Case.test_one")),
        ("rules.cfg", check("runner", "--config=rules.cfg")),
        ("a.py", check("bash", "-c", "python a.py")),
        ("run.js", check("node", "--test", "./run.js")),
    ],
)
def test_a_file_that_a_check_names_is_guarded(path: str, named: Check) -> None:
    assert guarded(path, [PYTEST, named], False) == "a check runs it"
    assert guarded(path, [PYTEST, named], True) is None


@pytest.mark.parametrize(
    "argv", [("ruff", "check", "src/app.py"), ("python", "-m", "mypy", "src/app.py"), ("npx", "tsc", "src/app.py")]
)
def test_a_file_that_is_only_looked_at_is_free(argv: tuple[str, ...]) -> None:
    assert guarded("src/app.py", [Check(argv=argv)], False) is None


def test_a_new_file_beside_a_named_test_may_not_shadow_the_standard_library() -> None:
    named = check("pytest", "pkg/checks/verify.py")
    assert guarded("pkg/checks/random.py", [named], True) == "it would stand in for the module random"
    assert guarded("pkg/random.py", [named], True) is None
    assert guarded("sub/src/random.py", [check("pytest", cwd="sub")], True)
    assert guarded("calendar.py", [PYTEST], False, is_new=False) is None
    assert guarded("pytest.py", [PYTEST], False, is_new=False)
    assert guarded("src/coverage.py", [PYTEST], False) == "it would stand in for the module coverage"
    assert guarded("pkg/coverage.py", [PYTEST], False) is None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("pytest -q", "pytest -q"),
        ("python -m pytest -q", "pytest -q"),
        ("/usr/bin/python3.11 -W error -m pytest tests", "pytest tests"),
        ("python -m coverage run -m pytest", "pytest"),
        ("uv run pytest", "pytest"),
        ("npx --yes vitest run", "vitest run"),
        ("env A=1 python -X dev -m unittest", "unittest"),
        ("./node_modules/.bin/jest", "jest"),
        ("python script.py -m pytest", "python script.py -m pytest"),
        ("npm test", "npm test"),
    ],
)
def test_launchers_are_seen_through(argv: str, words: str) -> None:
    assert " ".join(command_words(argv.split())) == words


def test_scope_is_the_paths_folders_and_globs_named() -> None:
    assert in_scope("src/a.py", ["src/a.py"])
    assert in_scope("src/a.py", ["./src/a.py"])
    assert in_scope("src/a.py", ["src"])
    assert in_scope("src/deep/a.py", ["src/**/*.py"])
    assert in_scope("src/a.py", ["src/"])
    assert in_scope("deep/a.py", ["*.py"])
    assert in_scope("app/[id]/page.tsx", ["app/[id]/page.tsx"])
    assert not in_scope("src2/a.py", ["src"])
    assert not in_scope("lib/src/a.py", ["src"])
    assert not in_scope("src/a.pyc", ["src/a.py"])
    assert not in_scope("deep/a.py", ["a.py"])
    assert not in_scope("src/a.py", ["src/", "!src/a.py"])
    assert not in_scope("a.py", [])
