"""What a folder may hold, what a contract may say, and what an input may be."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.playbook.folder import MAX_BYTES, FolderRefused, digest, read_folder, write_folder
from mcp_tierkit.playbook.load import (
    BadPlaybook,
    builtin_root,
    find,
    load,
    read_contract,
    read_front_matter,
)
from mcp_tierkit.playbook.schema import BadSchema, Fields, strict_json
from tests.playbooks import folder_of, loaded, make_playbook
from tests.support import bytes_read

CONTRACT = 'schema = 1\nkind = "script"\nversion = "1.0.0"\n'
RUN = 'run = { script = "scripts/run.py", runtime = "python" }\n'
EFFECTS = "effects = { read_only = true }\n"
WHOLE = CONTRACT + RUN + EFFECTS


def contract_error(text: str | bytes) -> str:
    with pytest.raises(BadPlaybook) as caught:
        load(folder_of({"playbook.toml": text, "scripts/run.py": ""}), "", origin="project")
    return str(caught.value)


# --- the folder ---------------------------------------------------------------------------------


def test_a_folder_with_a_link_a_pipe_or_too_much_in_it_is_refused(tmp_path: Path) -> None:
    def refused(name: str) -> str:
        with pytest.raises(FolderRefused) as caught:
            read_folder(tmp_path / name)
        return str(caught.value)

    for name in ("link", "linked-folder", "pipe", "many", "big", "sparse", "odd", "deep"):
        make_playbook(tmp_path, f"../{name}", "")
    (tmp_path / "link/SKILL.md").unlink()
    (tmp_path / "link/SKILL.md").symlink_to("/etc/hostname")
    (tmp_path / "linked-folder/assets").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe/assets")
    for number in range(198):
        (tmp_path / f"many/{number}").touch()
    (tmp_path / "big/data").write_bytes(b"x" * (MAX_BYTES + 1))
    with open(tmp_path / "sparse/data", "wb") as file:
        file.truncate(5 * 1024**3)
    (tmp_path / "odd/a\u202etxt").touch()
    os.makedirs(tmp_path / "deep" / "/".join(["d"] * 40))
    before = bytes_read()
    assert "link" in refused("link")
    assert "link" in refused("linked-folder")
    assert "special" in refused("pipe")
    assert "200 files" in refused("many")
    assert "5 MB" in refused("big")
    assert "5 MB" in refused("sparse")
    assert "unusable character" in refused("odd")
    assert "nested" in refused("deep")
    assert bytes_read() - before < MAX_BYTES
    (tmp_path / "alias").symlink_to(tmp_path / "big")
    assert "folder of its own" in refused("alias")


def test_a_file_that_becomes_a_link_while_it_is_read_is_never_followed(tmp_path: Path) -> None:
    folder = make_playbook(tmp_path, "sample", "")
    (tmp_path / "secret").write_text("secret")
    file, stop = folder / "flips", threading.Event()

    def flip() -> None:
        while not stop.is_set():
            (tmp_path / "plain").write_text("plain")
            os.replace(tmp_path / "plain", file)
            os.symlink(tmp_path / "secret", tmp_path / "link")
            os.replace(tmp_path / "link", file)

    thread = threading.Thread(target=flip)
    thread.start()
    seen = set()
    try:
        for _ in range(1500):
            try:
                seen.add(read_folder(folder).read("flips"))
            except FolderRefused:
                continue
    finally:
        stop.set()
        thread.join()
    assert seen <= {b"plain", None}
    assert seen


def test_exactly_two_hundred_files_are_allowed(tmp_path: Path) -> None:
    folder = make_playbook(tmp_path, "full", "")
    for number in range(197):
        (folder / f"{number}").touch()
    assert len(read_folder(folder).files) == 200


def test_what_is_written_out_is_what_was_read(tmp_path: Path) -> None:
    folder = make_playbook(tmp_path, "sample", "say('x')", files={"assets/a/b.txt": "deep"})
    (folder / "scripts/run.py").chmod(0o755)
    before = read_folder(folder)
    write_folder(before, tmp_path / "copy")
    after = read_folder(tmp_path / "copy")
    assert [(entry.path, entry.data) for entry in after.entries] == [
        (entry.path, entry.data) for entry in before.entries
    ]
    assert os.access(tmp_path / "copy/scripts/run.py", os.X_OK)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700


def test_bytes_that_an_installer_adds_or_modes_it_sets_leave_a_shipped_digest_alone(tmp_path: Path) -> None:
    folder = make_playbook(tmp_path, "sample", "")
    before = digest(read_folder(folder, shipped=True), shipped=True)
    (folder / "scripts/__pycache__").mkdir()
    (folder / "scripts/__pycache__/run.cpython-311.pyc").write_bytes(b"compiled")
    (folder / "SKILL.md").chmod(0o664)
    assert digest(read_folder(folder, shipped=True), shipped=True) == before
    (folder / "SKILL.md").chmod(0o755)
    assert digest(read_folder(folder, shipped=True), shipped=True) != before


# --- the contract -------------------------------------------------------------------------------


def test_the_contract_of_the_page_is_read_with_its_defaults() -> None:
    contract = read_contract(folder_of({"playbook.toml": WHOLE}))
    assert contract.run is not None
    assert (contract.run.timeout_s, contract.run.cwd, contract.run.env, contract.run.max_output_kb) == (
        60, "project", (), 256,
    )  # fmt: skip
    effects = contract.effects
    assert (effects.destructive, effects.idempotent, effects.network) == (True, False, False)
    assert contract.fallback.on_failure == "model"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "schema"),
        ("not toml", "playbook.toml"),
        (WHOLE.replace("schema = 1", "schema = 2"), "schema"),
        (WHOLE.replace("schema = 1", 'schema = "1"'), "schema"),
        (WHOLE + "trusted = true\n", "trusted"),
        (WHOLE + "unknown = 2024-01-01\n", "playbook.toml"),
        (WHOLE.replace("true }", "1 }"), "read_only"),
        (WHOLE.replace("true }", 'true, writes = ["a"] }'), "contradict"),
        (WHOLE.replace("true }", "true, sudo = true }"), "sudo"),
        (WHOLE.replace('"1.0.0"', '"1.0"'), "version"),
        (WHOLE.replace("scripts/run.py", "scripts/../run.py"), "script"),
        (WHOLE.replace("scripts/run.py", "scripts/deep/run.py"), "script"),
        (WHOLE.replace("scripts/run.py", "/bin/sh"), "script"),
        (WHOLE.replace("scripts/run.py", "scripts/none.py"), "does not exist"),
        (WHOLE.replace('"python" }', '"python", timeout_s = 0 }'), "timeout_s"),
        (WHOLE.replace('"python" }', '"python", timeout_s = 901 }'), "timeout_s"),
        (WHOLE.replace('"python" }', '"perl" }'), "runtime"),
        (WHOLE.replace(RUN, ""), "run"),
        (WHOLE.replace('"script"', '"skill"', 1), "run"),
        (CONTRACT.replace("script", "decision") + EFFECTS, "decision"),
        (WHOLE + "[inputs]\n" + 'x = { type = "string", pattern = "(?=a)" }\n', "x"),
        (WHOLE + '[inputs]\nx = { type = "string", patern = "a" }\n', "patern"),
        (WHOLE + '[inputs]\nx = { type = "date" }\n', "type"),
        (WHOLE + '[inputs]\nx = { type = "integer", minimum = "1" }\n', "minimum"),
        (WHOLE + '[inputs]\nx = { type = "string", default = 3 }\n', "default"),
        (WHOLE + '[inputs]\nx = { type = "number", default = nan }\n', "JSON"),
        (WHOLE + '[inputs]\n"x y" = { type = "string" }\n', "x y"),
        (WHOLE + '[inputs]\nx = { type = "string", format = "email" }\n', "format"),
        (WHOLE + 'match.phrases = ["do {y}"]\n', "slot"),
        (WHOLE + 'match.phrases = ["do"]\n', "almost anything"),
        (WHOLE + 'match.phrases = ["make {x}{x}"]\n[inputs]\nx = { type = "string" }\n', "between"),
        ("x = " + "[" * 100_000, "nested"),
        ("#" * (256 * 1024 + 1), "256 KB"),
        (b"\xff\xfe", "UTF-8"),
    ],
    ids=str,
)
def test_a_contract_that_breaks_a_rule_names_it(text: str | bytes, named: str) -> None:
    assert named in contract_error(text)


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "MY_SECRET", "DB_PASSWORD", "PGPASSFILE", "LD_PRELOAD",
        "ld_library_path", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "BASH_ENV", "ENV",
        "GIT_DIR", "GIT_SSH_COMMAND", "PATH", "HOME", "LANG", "PLAYBOOK_RESULT", "SSH_AUTH_SOCK", "IFS", "PERL5OPT",
        "AWS_PROFILE", "DATABASE_URL", "HTTPS_PROXY", "TIERKIT_CONFIG", "A B", "A=B", "",
    ],
)  # fmt: skip
def test_a_variable_that_carries_a_credential_or_steers_a_program_is_refused(name: str) -> None:
    text = WHOLE.replace('"python" }', f'"python", env = ["{name}"] }}')
    assert "env" in contract_error(text)


def test_harmless_variables_may_be_passed_on() -> None:
    text = WHOLE.replace('"python" }', '"python", env = ["TZ", "CI", "COLUMNS", "REPORT_LOCALE"] }')
    assert read_contract(folder_of({"playbook.toml": text})).run is not None


def test_skill_and_decision_contracts_load() -> None:
    skill = CONTRACT.replace("script", "skill") + EFFECTS + '[model]\ntier = "cheap"\nmax_output_tokens = 500\n'
    decision = CONTRACT.replace("script", "decision") + EFFECTS + '[decision]\nkey = ["x"]\n'
    decision += '[inputs]\nx = { type = "string" }\n'
    assert load(folder_of({"playbook.toml": skill}), "", origin="project").contract.kind == "skill"
    assert load(folder_of({"playbook.toml": decision}), "", origin="project").contract.kind == "decision"


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    folder = folder_of({"playbook.toml": data, "SKILL.md": b"---\n" + data + b"\n---\n"})
    for read in (read_contract, read_front_matter):
        with pytest.raises(BadPlaybook):
            read(folder)


def test_no_truncation_of_a_real_contract_crashes_the_reader() -> None:
    text = (builtin_root() / "rename-symbol/playbook.toml").read_bytes()
    for end in range(0, len(text), 7):
        try:
            read_contract(folder_of({"playbook.toml": text[:end]}))
        except BadPlaybook:
            continue


# --- the front matter ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "no front matter",
        "---\nname: sample\ndescription: x\n",
        "---\nname: other\ndescription: x\n---\n",
        "---\nname: sample\n---\n",
        "---\nname: sample\ndescription: x\ntrusted: true\n---\n",
        "---\nname: sample\nname: sample\ndescription: x\n---\n",
        "---\nname: &a sample\ndescription: *a\n---\n",
        "---\nname: sample\ndescription: !!python/object/apply:os.system [id]\n---\n",
        "---\n- name\n---\n",
        f"---\nname: sample\ndescription: {'x' * 1025}\n---\n",
        "---\nname: sample\ndescription: " + "[" * 5000 + "\n---\n",
    ],
    ids=range(11),
)
def test_front_matter_that_an_agent_skill_may_not_have_is_refused(text: str) -> None:
    with pytest.raises(BadPlaybook):
        read_front_matter(folder_of({"SKILL.md": text}))


def test_the_shipped_skills_pass_the_reference_validator() -> None:
    skills_ref = pytest.importorskip("skills_ref")
    folders = sorted(path for path in builtin_root().iterdir() if path.is_dir())
    assert [skills_ref.validate(folder) for folder in folders] == [[]] * len(folders)
    for folder in folders:
        assert read_front_matter(read_folder(folder)).name == folder.name


# --- finding ------------------------------------------------------------------------------------


def test_finding_reads_names_only_and_nearest_first(tmp_path: Path) -> None:
    project, user, package = tmp_path / "project", tmp_path / "user", tmp_path / "package" / "playbooks"
    for root in (project, user, package.parent):
        make_playbook(root, "shared", "", toml="not even toml")
    make_playbook(user, "Bad_Name", "")
    (project / "playbooks/double--hyphen").mkdir()
    found = find(project, user, package=package)
    assert [(one.name, one.origin) for one in found] == [
        ("shared", "project"), ("shared", "user"), ("shared", "package"),
    ]  # fmt: skip


def test_a_playbooks_folder_that_is_a_link_is_not_looked_into(tmp_path: Path) -> None:
    make_playbook(tmp_path / "elsewhere", "sample", "")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/playbooks").symlink_to(tmp_path / "elsewhere/playbooks")
    assert find(tmp_path / "project", tmp_path / "user", package=tmp_path / "none") == ()


# --- inputs -------------------------------------------------------------------------------------


def fault(schema: dict[str, Any], value: object) -> str:
    try:
        Fields({"x": schema}).check({"x": value})
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, ["", "ö", "a\nb"], [1, None, ["a"], b"a", "\ud800"]),
        ({"type": "string", "pattern": "^[0-9]{4}-W[0-9]{2}$"}, ["2024-W10"], ["2024-W10\n", " 2024-W10", "2024-w10"]),
        ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c", "A", 1]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["öö"], ["ö", "abcd"]),
        ({"type": "integer", "minimum": 1, "maximum": 9}, [1, 9], [0, 10, 1.5, "1", True, float("nan"), 10**500]),
        ({"type": "integer", "enum": [1, 2]}, [1], [3, True, 1.0]),
        ({"type": "number", "exclusiveMinimum": 0}, [1, 0.5], [0, True, "1", float("inf"), float("nan")]),
        ({"type": "boolean"}, [True, False], [1, 0, "true", None]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, [[], [1, 2]], [[1, 2, 3], ["1"], "12", {}]),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, [["a", "b"]], [["a", "a"]]),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            [{"a": 1}],
            [{}, {"a": "1"}, {"a": 1, "b": 2}, []],
        ),
        ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "20240229", "2024-2-9", "2024-02-29\n"]),
        ({"type": "string", "format": "semver"}, ["1.2.3", "1.0.0-rc.1+b"], ["1.2", "01.2.3", "v1.2.3", "1.2.3\n"]),
    ],
    ids=str,
)
def test_values_are_taken_as_the_schema_says_and_no_other(
    schema: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    assert [value for value in good if fault(schema, value)] == []
    assert [value for value in bad if not fault(schema, value)] == []
    for value in good:
        checked = Fields({"x": schema}).check({"x": value})["x"]
        assert (type(checked), checked) == (type(value), value)


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../../x", "~/.ssh/id_rsa", "a\\b", "a\0b", "a\nb", "a\u202eb", "-rf", "--help",
     ".git/config", "a/.git/hooks/x", ".GIT/config", "", "./.", "./..", "x" * 2000],
)  # fmt: skip
def test_a_path_that_is_not_plainly_inside_the_project_is_refused(path: str) -> None:
    assert fault({"type": "string", "format": "project-path"}, path)


@pytest.mark.parametrize(
    "ref",
    ["--upload-pack=id", "-n1", "a..b", "a b", "a;b", "$(id)", "`id`", "a|b", "a\nb", "a\0b", ":/etc/passwd",
     "HEAD:secret", "@{-1}", "HEAD@{1}", "HEAD^{/x}", "^HEAD", "~1", "a//b", "/a", "a/", "a.lock", ".a", "a/.b", "a.",
     "ext::sh -c id", "a\\b", "a*", "a?", "a[b", "", "x" * 300],
)  # fmt: skip
def test_a_git_ref_that_git_could_read_as_something_else_is_refused(ref: str) -> None:
    assert fault({"type": "string", "format": "git-ref"}, ref)


@pytest.mark.parametrize("ref", ["HEAD", "v1.0.0", "main", "feature/x-1", "HEAD~3", "HEAD^", "v1^2~4", "a1b2c3d", "ö"])
def test_ordinary_refs_pass(ref: str) -> None:
    assert fault({"type": "string", "format": "git-ref"}, ref) == ""


def test_a_refusal_names_the_field_and_the_rule_and_never_the_value() -> None:
    told = fault({"type": "string", "pattern": "^a$"}, "sk-secret-value")
    assert told.startswith("x: ")
    assert "^a$" in told
    assert "secret" not in told


def test_an_evil_pattern_takes_no_time() -> None:
    started = time.process_time()
    assert fault({"type": "string", "pattern": "^(a+)+$"}, "a" * 5000 + "!")
    assert time.process_time() - started < 5  # Read by steps, it would take longer than the world has.


def test_defaults_fill_in_unknown_fields_are_refused_and_missing_ones_named() -> None:
    fields = Fields({"a": {"type": "integer", "default": 3}, "b": {"type": "string"}})
    assert fields.check({"b": "x"}) == {"a": 3, "b": "x"}
    with pytest.raises(ValueError, match=r"c: is not an input"):
        fields.check({"b": "x", "c": 1})
    with pytest.raises(ValueError, match="b: is required"):
        fields.check({})


def test_a_default_is_not_shared_between_runs() -> None:
    fields = Fields({"a": {"type": "array", "items": {"type": "integer"}, "default": []}})
    fields.check({})["a"].append(1)
    assert fields.check({}) == {"a": []}


def test_inputs_that_are_huge_or_bottomless_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert "nested" in fault({"type": "object"}, deep)
    assert "256 KB" in fault({"type": "string"}, "x" * 300_000)
    assert "number" in fault({"type": "object"}, {"a": float("nan")})


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1, "a": 2}', "[" * 100_000, '{"a": Infinity}', "\ufeff{}", ""])
def test_json_is_read_strictly(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json(text.encode())


def test_schemas_that_cannot_be_kept_are_refused_when_they_are_read() -> None:
    nested: dict[str, Any] = {"type": "string"}
    for _ in range(10):
        nested = {"type": "array", "items": nested}
    for schema in (
        nested,
        {"type": "array"},
        {"type": "string", "pattern": "(a{1000}){1000}{1000}"},
        {"$ref": "http://x"},
    ):
        with pytest.raises(BadSchema):
            Fields({"x": schema})


def test_inputs_have_defaults_outputs_are_all_required(tmp_path: Path) -> None:
    folder = make_playbook(tmp_path, "sample", "")
    assert loaded(folder).inputs.check({}) == {"word": "x"}
    with pytest.raises(ValueError, match="said: is required"):
        loaded(folder).outputs.check({})
    with pytest.raises(BadPlaybook):
        load(folder_of({}), "", origin="user")
