"""Settings: what wins, what is refused, what the project's own file may not do, and that keys stay unseen."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_tierkit.config import Config, load_config
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.settings import nanodollars
from mcp_tierkit.types import Budgets

SECRET = "sk-very-secret-0123456789"


class Setup:
    """A user with a home, and one project outside it."""

    def __init__(self, root: Path) -> None:
        self.home, self.project = root / "home", root / "work" / "project"
        self.user_dir = self.home / ".config" / "tierkit"
        for folder in (self.user_dir, self.project):
            folder.mkdir(parents=True)
        self.env = {"HOME": str(self.home), "TIERKIT_PROJECT": str(self.project)}

    def mine(self, text: str) -> Setup:
        (self.user_dir / "tierkit.toml").write_text(text, "utf8")
        return self

    def theirs(self, text: str) -> Setup:
        (self.project / "tierkit.toml").write_text(text, "utf8")
        return self

    def keys(self, text: str, mode: int = 0o600) -> Setup:
        path = self.user_dir / "keys.env"
        path.write_text(text, "utf8")
        path.chmod(mode)
        return self

    def load(self, **env: str) -> Config:
        return load_config(env=self.env | env)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def refusal(setup: Setup, **env: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        setup.load(**env)
    assert str(setup.project.parent.parent) not in str(caught.value), "no absolute path in a refusal"
    return caught.value


EXAMPLE = """
[caller]
model = "claude-opus-5-5"
billing = "api"

[tiers.cheap]
models = ["openai/some-model"]
base_url = "http://127.0.0.1:8080/v1"
api_key_env = "SOME_KEY"
served = ["some-model-2026-10"]
max_output_tokens = 8000
timeout_s = 120
scratchpad = false
price = { input = "0.10", output = "0.40", cache_read = "0.01" }

[stages]
draft = "cheap"
climb = ["mid"]
review = "strong"

[budget]
call_usd = "0.20"
task_usd = "1.00"
day_usd = "10.00"
project_usd = "100.00"
month_usd = "200.00"
on_exhausted = "refuse"

[checks]
allow = ["pytest", "npm test"]
network = "none"

[policy]
deny = ["secrets/**"]
allow_unpriced = false
allow_network_playbooks = false
"""


def test_the_documented_example_is_read_word_for_word(setup: Setup) -> None:
    config = setup.mine(EXAMPLE).load()
    cheap = config.tiers["cheap"]
    price = cheap.own_price()
    assert config.caller.model == "claude-opus-5-5"
    assert (cheap.models, cheap.api_key_env, cheap.served) == (
        ("openai/some-model",),
        "SOME_KEY",
        ("some-model-2026-10",),
    )
    assert price is not None
    assert (price.input, price.cache_read, price.cache_write) == (Decimal("0.10"), Decimal("0.01"), None)
    assert config.price_table().price("openai/some-model", cheap.base_url) == price
    assert (config.stages.draft, config.stages.climb, config.stages.review) == ("cheap", ("mid",), "strong")
    assert config.budgets == Budgets(
        call=200_000_000, task=1_000_000_000, day=10_000_000_000, project=100_000_000_000, month=200_000_000_000
    )
    assert not config.budget_is_default
    assert config.checks.allow == ("pytest", "npm test")
    assert config.policy.deny == ("secrets/**",)
    assert config.notes == ()


def test_without_any_file_the_default_budgets_hold_and_nothing_is_trusted(setup: Setup) -> None:
    config = setup.load()
    assert config.budgets == Budgets(task=500_000_000, day=2_000_000_000)
    assert config.budget_is_default
    assert (config.tiers, config.checks.allow, config.checks.network) == ({}, (), "none")
    assert not config.policy.allow_unpriced
    assert not config.log_text
    assert config.caller.model is None


@pytest.mark.parametrize(
    ("toml", "limits"),
    [
        ('month_usd = "30"', Budgets(task=500_000_000, day=2_000_000_000, month=30_000_000_000)),
        ('day_usd = "30"', Budgets(task=500_000_000, day=30_000_000_000)),
        ('day_usd = "none"', Budgets(task=500_000_000)),
        ('task_usd = "none"\nday_usd = "0.00"', Budgets(day=0)),
    ],
)
def test_each_default_holds_until_the_user_sets_that_very_limit_or_lifts_it(
    setup: Setup, toml: str, limits: Budgets
) -> None:
    """Whoever adds a limit means to be held closer, and loses none."""
    config = setup.mine(f"[budget]\n{toml}\n").load()
    assert config.budgets == limits
    assert not config.budget_is_default


def test_a_variable_lifts_a_default_too_and_a_project_lifts_none(setup: Setup) -> None:
    config = setup.theirs('[budget]\nday_usd = "none"\nmonth_usd = "none"\n').load(TIERKIT_BUDGET_TASK_USD="none")
    assert config.budgets == Budgets(day=2_000_000_000)
    assert config.notes == ("budget.day_usd of the project's tierkit.toml is above your own limit, which holds.",)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('task_usd = "5"', ["task_usd of $5.00 is out of reach: our default of $2.00 a day"]),
        (
            'call_usd = "3"',
            [
                "call_usd of $3.00 is out of reach: our default of $0.5000 a task",
                "call_usd of $3.00 is out of reach: our default of $2.00 a day",
            ],
        ),
        ('task_usd = "5"\nday_usd = "4"', []),
        ('task_usd = "5"\nday_usd = "none"', []),
        ('task_usd = "2.00"\nmonth_usd = "0.01"', []),
    ],
)
def test_a_limit_that_our_default_makes_void_is_told(setup: Setup, toml: str, told: list[str]) -> None:
    notes = setup.mine(f"[budget]\n{toml}\n").load().notes
    assert [note.startswith(f"budget.{start}") for note, start in zip(notes, told, strict=True)] == [True] * len(told)


def test_a_limit_names_the_place_that_set_it(setup: Setup) -> None:
    setup.mine('[budget]\nmonth_usd = "30"\nday_usd = "5"\n').theirs('[budget]\nday_usd = "1"\n')
    config = setup.load(TIERKIT_BUDGET_TASK_USD="0.3")
    assert config.budget_places == {
        "month_usd": "your tierkit.toml", "day_usd": "the project's tierkit.toml", "task_usd": "the environment",
    }  # fmt: skip
    assert not config.budget_is_default


def test_a_project_that_lowers_our_default_sets_no_budget_of_the_users(setup: Setup) -> None:
    config = setup.theirs('[budget]\nday_usd = "1"\n').load()
    assert (config.budgets.day, config.budgets.task) == (1_000_000_000, 500_000_000)
    assert config.budget_places == {"day_usd": "the project's tierkit.toml"}
    assert config.budget_is_default


def test_arguments_beat_the_environment_which_beats_the_users_file(setup: Setup) -> None:
    setup.mine('[caller]\nmodel = "from-file"\n[budget]\ntask_usd = "1"\nday_usd = "5"\n')
    env = {"TIERKIT_CALLER_MODEL": "from-env", "TIERKIT_BUDGET_TASK_USD": "0.3"}
    assert setup.load(**env).caller.model == "from-env"
    overrides = {"caller.model": "from-arguments", "stages.climb": "mid, strong"}
    config = load_config(env=setup.env | env, overrides=overrides)
    assert config.caller.model == "from-arguments"
    assert config.stages.climb == ("mid", "strong")
    assert config.budgets == Budgets(task=300_000_000, day=5_000_000_000)


def test_an_unknown_variable_of_ours_is_a_note_that_names_the_nearest(setup: Setup) -> None:
    (note,) = setup.load(TIERKIT_BUDGET_TASKUSD="1").notes
    assert "TIERKIT_BUDGET_TASK_USD" in note


def test_the_configuration_cannot_be_changed_after_it_was_read(setup: Setup) -> None:
    with pytest.raises(ValueError, match="frozen"):
        setup.load().log_text = True


# What is refused in any file.


@pytest.mark.parametrize(
    ("text", "key", "offer"),
    [
        ("[budgets]\ntask_usd = '1'", "budgets", "budget"),
        ("[budget]\ntask = '1'", "budget.task", "budget.task_usd"),
        ("[tiers.cheap]\nmodel = 'x'\nmodels = ['x']", "tiers.cheap.model", "tiers.cheap.models"),
        ("[tiers.cheep]\nmodels = ['x']", "tiers.cheep", "tiers.cheap"),
        (
            "[tiers.mid]\nmodels = ['x']\nprice = { inputs = '1', output = '1', input = '1' }",
            "price.inputs",
            "price.input",
        ),
        ("[zzzzqqq]\n", "zzzzqqq", "Known here"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_is_named(setup: Setup, text: str, key: str, offer: str) -> None:
    error = refusal(setup.mine(text))
    assert key in error.what
    assert offer in error.next_step


@pytest.mark.parametrize(
    ("text", "what", "form"),
    [
        (
            "[tiers.cheap]\nmodels = 'openai/x'",
            "tiers.cheap.models in your tierkit.toml wants a list",
            'models = ["…"]',
        ),
        ("[tiers.cheap]\nmodels = []", "models in your tierkit.toml wants a list", 'models = ["…"]'),
        ("[checks]\nallow = 'pytest'", "checks.allow in your tierkit.toml wants a list", 'allow = ["…"]'),
        ("[checks]\nallow = [1]", "checks.allow in your tierkit.toml wants text in quotes", ""),
        ("[tiers]\ncheap = 'openai/x'", "tiers.cheap in your tierkit.toml wants a table of its own", "[tiers.cheap]"),
        ("[tiers.cheap]\nserved = ['x']", "tiers.cheap.models in your tierkit.toml is missing", ""),
        ("[tiers.cheap]\nmodels = ['x']\ntimeout_s = 'soon'", "wants a number", "timeout_s = 1"),
        ("[policy]\nallow_unpriced = 'maybe'", "wants true or false", ""),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_the_words_of_the_file(
    setup: Setup, text: str, what: str, form: str
) -> None:
    error = refusal(setup.mine(text))
    assert what in error.what
    assert form in error.next_step
    assert "openai/x" not in str(error)
    assert not re.search("tuple|dictionary|instance|validation", str(error))


@pytest.mark.parametrize("amount", ["'5.5'", "5.5", "5.500000000"])
def test_an_amount_is_read_digit_by_digit_with_quotes_or_without(setup: Setup, amount: str) -> None:
    assert setup.mine(f"[budget]\nday_usd = {amount}").load().budgets.day == 5_500_000_000
    assert setup.mine("[budget]\nday_usd = 0.123456789").load().budgets.day == 123_456_789


@pytest.mark.parametrize(
    "text",
    [
        "[budget]\ntask_usd = nan",
        "[budget]\ntask_usd = inf",
        "[budget]\ntask_usd = '-1'",
        "[budget]\ntask_usd = -1.5",
        "[budget]\ntask_usd = '1e999999999'",
        "[budget]\ntask_usd = 1e9",
        "[budget]\ntask_usd = '0.0000000001'",
        "[budget]\ntask_usd = '99999999'",
        "[budget]\ntask_usd = true",
        "[budget]\ntask_usd = ''",
        "[budget]\ntask_usd = '١'",
        "[tiers.cheap]\nmodels = []",
        "[tiers.cheap]\nmodels = ['x']\nprice = { input = 'NaN', output = '1' }",
        "[tiers.cheap]\nmodels = ['x']\nprice = { input = '-1', output = '1' }",
        "[tiers.cheap]\nmodels = ['x']\ntimeout_s = nan",
        "[tiers.cheap]\nmodels = ['x']\nmax_output_tokens = 0",
        "[tiers.cheap]\nmodels = ['x']\nbase_url = 'file:///etc/passwd'",
        "[checks]\nnetwork = 'open'",
        "[stages]\ndraft = 'huge'",
        "budget = 3",
        "[budget",
        "a = " + "[" * 5000,
        "#" * 70_000,
    ],
)
def test_nonsense_is_refused_before_anything_starts(setup: Setup, text: str) -> None:
    assert "Nothing was done." in refusal(setup.mine(text)).what


@pytest.mark.parametrize(
    "text",
    [
        f"[tiers.cheap]\nmodels = ['x']\napi_key_env = '{SECRET}'",
        f"[tiers.cheap]\nmodels = ['x']\napi_key = '{SECRET}'",
        f"[tiers.cheap]\nmodels = ['x']\nbase_url = 'https://user:{SECRET}@host/v1'",
        f"[tiers.cheap]\nmodels = ['x']\nbase_url = 'https://host/v1?key={SECRET}'",
        f"[caller]\nbilling = '{SECRET}'",
    ],
)
def test_a_refusal_never_repeats_the_value_that_was_wrong(setup: Setup, text: str) -> None:
    assert SECRET not in str(refusal(setup.mine(text)))


@given(st.integers(min_value=0, max_value=9_999_999_999_999_999))
def test_every_amount_with_nine_places_is_read_exactly(nanos: int) -> None:
    whole, rest = divmod(nanos, 1_000_000_000)
    assert nanodollars(f"{whole}.{rest:09d}") == nanos


def test_an_amount_written_without_quotes_is_just_as_exact(setup: Setup) -> None:
    assert setup.mine("[budget]\ntask_usd = 0.1\nday_usd = 3\n").load().budgets == Budgets(
        task=100_000_000, day=3_000_000_000
    )


# The project's own file.


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[tiers.cheap]\nmodels = ['openai/x']\nbase_url = 'http://evil.example/v1'", "tiers.cheap"),
        ("[tiers.cheap]\nmodels = ['openai/x']\napi_key_env = 'OPENAI_API_KEY'", "tiers.cheap"),
        ("[checks]\nallow = ['sh evil.sh']", "checks.allow"),
        ("[policy]\nallow_unpriced = true", "policy.allow_unpriced"),
        ("[policy]\nallow_network_playbooks = true", "policy.allow_network_playbooks"),
        ("[stages]\ndraft = 'strong'", "stages.draft"),
        ("[caller]\nmodel = 'x'", "caller.model"),
        ("[budget]\non_exhausted = 'ask'", "budget.on_exhausted"),
        ("log_text = true", "log_text"),
    ],
)
def test_a_projects_file_that_would_widen_is_refused_and_says_where_the_key_belongs(
    setup: Setup, text: str, key: str
) -> None:
    error = refusal(setup.theirs(text))
    assert key in error.what
    assert "your own configuration folder" in error.next_step


def test_a_projects_file_lowers_budgets_drops_tiers_and_denies_paths(setup: Setup) -> None:
    setup.mine(EXAMPLE).theirs(
        '[budget]\ntask_usd = "0.10"\n[tiers]\ndrop = ["cheap"]\n[policy]\ndeny = ["private/**"]\n'
    )
    config = setup.load()
    assert config.budgets.task == 100_000_000
    assert config.budgets.day == 10_000_000_000
    assert (config.tiers, config.dropped) == ({}, ("cheap",))
    assert config.policy.deny == ("secrets/**", "private/**")
    assert config.checks.allow == ("pytest", "npm test")


def test_a_projects_file_lowers_the_default_budgets_too_and_sets_ones_that_nobody_set(setup: Setup) -> None:
    config = setup.theirs('[budget]\ntask_usd = "0.05"\nmonth_usd = "1"\n').load()
    assert config.budgets == Budgets(task=50_000_000, day=2_000_000_000, month=1_000_000_000)
    assert config.budget_is_default


def test_a_budget_above_the_users_and_a_wider_network_are_left_aside_with_a_note(setup: Setup) -> None:
    config = setup.theirs('[budget]\nday_usd = "500"\n[checks]\nnetwork = "full"\n').load()
    assert config.budgets.day == 2_000_000_000
    assert config.checks.network == "none"
    assert len(config.notes) == 2


def test_a_projects_file_may_close_the_network_that_the_user_opened(setup: Setup) -> None:
    setup.mine('[checks]\nnetwork = "full"\n[policy]\nallow_unpriced = true\n')
    setup.theirs('[checks]\nnetwork = "loopback"\n[policy]\nallow_unpriced = false\n')
    assert setup.load().checks.network == "loopback"
    assert not setup.load().policy.allow_unpriced


def test_a_projects_file_that_is_a_link_or_a_pipe_is_refused_without_waiting(setup: Setup) -> None:
    setup.mine("[budget]\ntask_usd = '0.1'\n")
    place = setup.project / "tierkit.toml"
    place.symlink_to(setup.user_dir / "tierkit.toml")
    assert "tierkit.toml" in refusal(setup).what
    place.unlink()
    os.mkfifo(place)
    assert "regular" in refusal(setup).what


# Which folder is served.


def test_the_argument_beats_our_variable_which_beats_the_clients_and_then_comes_the_working_folder(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "work" / name for name in ("argument", "ours", "clients", "cwd")]
    for folder in folders:
        folder.mkdir()
    argument, ours, clients, cwd = folders
    monkeypatch.chdir(cwd)
    env = {"HOME": str(setup.home), "TIERKIT_PROJECT": str(ours), "CLAUDE_PROJECT_DIR": str(clients)}
    assert load_config(project=str(argument), env=env).project == argument
    assert load_config(env=env).project == ours
    assert load_config(env=env | {"TIERKIT_PROJECT": ""}).project == clients
    assert load_config(env={"HOME": str(setup.home)}).project == cwd


def test_a_project_is_its_real_path(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(setup.project)
    assert load_config(project=str(tmp_path / "link"), env=setup.env).project == setup.project.resolve()


@pytest.mark.parametrize(
    "folder", ["/", "/usr", "/etc", "/etc/ssl", "/proc/self", "/tmp", "/home", "/root", "/usr/bin"]
)
def test_system_folders_are_refused_with_the_fix(setup: Setup, folder: str) -> None:
    if Path(folder).exists():
        assert "--project" in refusal(setup, TIERKIT_PROJECT=folder).next_step


def test_a_home_folder_and_what_holds_one_are_refused(setup: Setup, tmp_path: Path) -> None:
    assert "home folder" in refusal(setup, TIERKIT_PROJECT=str(setup.home)).what
    assert "home folder" in refusal(setup, TIERKIT_PROJECT=str(tmp_path)).what
    (setup.home / "code").mkdir()
    assert setup.load(TIERKIT_PROJECT=str(setup.home / "code")).project == setup.home / "code"


def test_a_project_that_is_missing_or_a_file_is_refused(setup: Setup) -> None:
    (setup.project / "file").touch()
    for place in ("file", "missing", "${workspaceFolder}", "nul\0byte"):
        assert "--project" in refusal(setup, TIERKIT_PROJECT=str(setup.project / place)).next_step


# Which repository it belongs to.


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(setup: Setup) -> Path:
    git(setup.project, "init", "-q")
    git(setup.project, "commit", "-q", "--allow-empty", "-m", "one")
    return setup.project


def test_worktrees_and_packages_of_one_repository_share_its_identity(repository: Path, setup: Setup) -> None:
    git(repository, "worktree", "add", "-q", "../tree", "-b", "other")
    package = repository / "packages" / "one"
    package.mkdir(parents=True)
    expected = repository / ".git"
    assert setup.load().repository == expected
    assert setup.load(TIERKIT_PROJECT=str(repository.parent / "tree")).repository == expected
    assert setup.load(TIERKIT_PROJECT=str(package)).repository == expected


def test_a_submodule_is_a_repository_of_its_own(repository: Path, setup: Setup) -> None:
    other = repository.parent / "library"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "one")
    git(repository, "submodule", "add", "-q", str(other), "vendored")
    assert setup.load(TIERKIT_PROJECT=str(repository / "vendored")).repository == repository / "vendored"


def test_without_git_a_project_is_its_own_repository(setup: Setup) -> None:
    assert setup.load().repository == setup.project


def test_a_folder_cannot_pass_itself_off_as_a_worktree_of_another_repository(repository: Path, setup: Setup) -> None:
    git(repository, "worktree", "add", "-q", "../tree", "-b", "other")
    genuine = (repository.parent / "tree" / ".git").read_text("utf8")
    forged = {
        "copied": genuine,
        "own": "gitdir: meta",
        "nested": "gitdir: meta/worktrees/x",
        "elsewhere": "gitdir: meta/elsewhere/x",
        "main": f"gitdir: {repository}/.git",
    }
    for name, text in forged.items():
        folder = repository.parent / name
        for meta in (folder / "meta", folder / "meta/worktrees/x", folder / "meta/elsewhere/x"):
            meta.mkdir(parents=True, exist_ok=True)
            (meta / "gitdir").write_text(f"{folder}/.git\n", "utf8")
            (meta / "commondir").write_text(f"{repository}/.git\n", "utf8")
        (folder / ".git").write_text(text + "\n", "utf8")
        if name == "elsewhere":
            (folder / "meta" / "HEAD").touch()
        assert setup.load(TIERKIT_PROJECT=str(folder)).repository == folder, name


def test_a_linked_git_folder_gives_no_share_in_the_repository_it_points_to(repository: Path, setup: Setup) -> None:
    folder = repository.parent / "linked"
    folder.mkdir()
    (folder / ".git").symlink_to(repository / ".git")
    assert setup.load(TIERKIT_PROJECT=str(folder)).repository == folder


def test_a_repository_in_the_home_folder_does_not_swallow_the_projects_below_it(setup: Setup) -> None:
    git(setup.home, "init", "-q")
    (setup.home / "code").mkdir()
    assert setup.load(TIERKIT_PROJECT=str(setup.home / "code")).repository == setup.home / "code"


# Our own places.


def test_our_folders_follow_the_systems_custom_and_our_variables(setup: Setup, tmp_path: Path) -> None:
    config = setup.load()
    assert config.user_dir == setup.user_dir
    assert config.state_dir == setup.home / ".local" / "state" / "tierkit"
    assert config.ledger_url == f"sqlite://{config.state_dir}/ledger.db"
    moved = setup.load(XDG_CONFIG_HOME=str(tmp_path / "c"), XDG_STATE_HOME=str(tmp_path / "s"))
    assert (moved.user_dir, moved.state_dir) == (tmp_path / "c" / "tierkit", tmp_path / "s" / "tierkit")
    (tmp_path / "mine.toml").write_text("log_text = true", "utf8")
    named = setup.load(
        TIERKIT_CONFIG=str(tmp_path / "mine.toml"),
        TIERKIT_STATE_DIR=str(tmp_path / "st"),
        TIERKIT_LEDGER=str(tmp_path / "l.db"),
    )
    assert named.log_text
    assert (named.user_dir, named.prompt_dir) == (tmp_path, tmp_path / "prompts")
    assert (named.state_dir, named.ledger_url) == (tmp_path / "st", f"sqlite://{tmp_path}/l.db")
    assert setup.load(TIERKIT_LEDGER="postgresql://u:p@h/d").ledger_url == "postgresql://u:p@h/d"


def test_the_state_folder_is_made_private(setup: Setup) -> None:
    state = setup.home / "state"
    state.mkdir(mode=0o755)
    assert stat.S_IMODE(setup.load(TIERKIT_STATE_DIR=str(state)).state_dir.stat().st_mode) == 0o700


def test_a_state_folder_that_cannot_be_made_is_a_note_and_not_the_end(setup: Setup) -> None:
    (setup.home / "file").touch()
    (note,) = setup.load(TIERKIT_STATE_DIR=str(setup.home / "file" / "state")).notes
    assert "TIERKIT_STATE_DIR" in note


def test_our_folders_inside_the_project_and_a_missing_named_file_are_noted(setup: Setup) -> None:
    notes = setup.load(TIERKIT_STATE_DIR=str(setup.project / "s"), TIERKIT_CONFIG=str(setup.home / "no.toml")).notes
    assert len(notes) == 2


# Keys.


def test_a_key_comes_from_the_environment_first_and_then_from_the_users_file(setup: Setup) -> None:
    setup.keys("# mine\nOPENAI_API_KEY=from-file\nexport ANTHROPIC_API_KEY='quoted'\nUNASKED=1\nnonsense\n")
    config = setup.load(OPENAI_API_KEY="from-env", DEEPSEEK_API_KEY="  ")
    assert config.key("OPENAI_API_KEY") == "from-env"
    assert config.key("ANTHROPIC_API_KEY") == "quoted"
    assert config.key("DEEPSEEK_API_KEY") is None
    assert config.notes == ()


def test_only_variables_that_a_provider_or_a_tier_names_are_keys(setup: Setup) -> None:
    assert setup.load(SOME_KEY="k").key("SOME_KEY") is None
    assert setup.mine(EXAMPLE).load(SOME_KEY="k").key("SOME_KEY") == "k"
    assert setup.load().key("HOME") is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_file_that_others_may_touch_is_not_read_and_says_how_to_mend_it(setup: Setup, mode: int) -> None:
    config = setup.keys("OPENAI_API_KEY=from-file", mode).load()
    assert config.key("OPENAI_API_KEY") is None
    assert "chmod 600" in config.notes[0]


def test_a_key_file_that_is_no_file_is_a_note(setup: Setup) -> None:
    (setup.user_dir / "keys.env").mkdir()
    assert "keys.env" in setup.load().notes[0]


def test_no_printed_or_dumped_form_of_the_configuration_shows_a_key_or_a_database_password(setup: Setup) -> None:
    config = setup.load(OPENAI_API_KEY=SECRET, TIERKIT_LEDGER=f"postgresql://u:{SECRET}@h/d")
    assert config.key("OPENAI_API_KEY") == SECRET
    for shown in (repr(config), str(config), f"{config}", repr(config.notes), repr(config.price_table())):
        assert SECRET not in shown
    assert SECRET not in config.model_copy(update={"ledger_url": "sqlite:///x"}).model_dump_json()


def test_reading_the_configuration_imports_nothing_heavy() -> None:
    heavy = ["litellm", "mcp", "sqlite_utils", "tiktoken", "platformdirs", "tomlkit", "httpx", "anyio", "asyncio"]
    code = f"import sys, mcp_tierkit.config, mcp_tierkit.tiers; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.split() == []
