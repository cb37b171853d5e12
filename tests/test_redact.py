"""Secrets by named rules, and paths that are never read."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_tierkit.redact import Secret, deny_patterns, find_secrets, is_denied, redact

MIXED = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7"


def run_of(length: int, alphabet: str = MIXED) -> str:
    return (alphabet * (length // len(alphabet) + 1))[:length]


def canaries() -> dict[str, tuple[str, str]]:
    """Each rule with a secret of its shape and a text around it, put together here so that no file holds one."""
    hexes = run_of(64, "0a1b2c3d4e5f6789")
    body = "\n".join(run_of(64) for _ in range(4))
    kind = " ".join(["RSA", "PRIVATE", "KEY"])
    bare = {
        "aws-access-key": "AK" + "IA" + "QWERTYUIOPASDF27",
        "github-token": "gh" + "p_" + run_of(36),
        "gitlab-token": "gl" + "pat-" + run_of(20),
        "slack-token": "xo" + "xb-" + "123456789012-" + run_of(24),
        "stripe-key": "sk" + "_live_" + run_of(24),
        "anthropic-key": "sk" + "-ant-api03-" + run_of(80),
        "openrouter-key": "sk" + "-or-v1-" + hexes,
        "openai-key": "sk" + "-proj-" + run_of(60),
        "sk-key": "sk" + "-" + hexes[:32],
        "google-key": "AI" + "za" + run_of(35),
        "groq-key": "gs" + "k_" + run_of(52),
        "xai-key": "xa" + "i-" + run_of(80),
        "huggingface-token": "hf" + "_" + run_of(34),
        "npm-token": "np" + "m_" + run_of(36),
        "pypi-token": "py" + "pi-" + "AgEIcHlwaS5vcmc" + run_of(60),
        "jwt": ".".join(["ey" + "J" + run_of(20), "ey" + "J" + run_of(40), run_of(43)]),
        "private-key": f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----",
    }
    placed = {rule: (secret, f"start {secret} end") for rule, secret in bare.items()}
    named = {
        "aws-secret-key": (run_of(40), "aws_secret_access_key = {}\n"),
        "mistral-key": (run_of(32), "MISTRAL_API_KEY={}\n"),
        "url-password": (run_of(12), "postgres://app:{}@db.internal/main"),
        "assigned-secret": (run_of(24), '  "client_secret": "{}",'),
    }
    return placed | {rule: (secret, text.format(secret)) for rule, (secret, text) in named.items()}


@pytest.mark.parametrize("rule", sorted(canaries()))
def test_each_rule_finds_its_secret_and_replaces_nothing_else(rule: str) -> None:
    secret, text = canaries()[rule]
    start = text.index(secret)
    assert find_secrets("one\n" + text) == (Secret(rule=rule, line=2, start=start + 4, end=start + 4 + len(secret)),)
    assert redact(text) == text.replace(secret, f"[redacted:{rule}]")


@pytest.mark.parametrize(
    "around", ["{}", '"{}"', "'{}',", "`{}`", "({})", "key={}", "Bearer {}", "naï{}é", "{}\r\n", "a\\n{}\\n", "k%3D{}"]
)
def test_a_secret_is_found_whatever_stands_beside_it(around: str) -> None:
    secret = canaries()["anthropic-key"][0]
    assert redact(around.format(secret)) == around.format("[redacted:anthropic-key]")


def test_all_secrets_of_one_text_are_named_on_their_lines() -> None:
    found = canaries()
    text = "\n\n".join(text for _, text in found.values())
    assert [secret.rule for secret in find_secrets(text)] == list(found)
    hidden = redact(text)
    assert not [rule for rule, (secret, _) in found.items() if secret in hidden]
    assert find_secrets(hidden) == ()


def test_a_private_key_that_was_cut_off_is_hidden_to_its_last_line() -> None:
    whole = canaries()["private-key"][0]
    cut = whole[: whole.index("-----END")]
    assert redact("x\n" + cut) == "x\n[redacted:private-key]"
    assert redact(repr(whole)) == "'[redacted:private-key]'"


def test_one_key_inside_another_assignment_is_one_secret() -> None:
    secret = canaries()["sk-key"][0]
    assert (
        redact(f'api_key = "{secret}"') == 'api_key = "[redacted:sk-key]"'
        or redact(f'api_key = "{secret}"') == 'api_key = "[redacted:assigned-secret]"'
    )


HARMLESS = [
    "commit 0156895d7f0c3a4b5e6f708192a3b4c5d6e7f809",
    "id: 550e8400-e29b-41d4-a716-446655440000",
    'token = "550e8400-e29b-41d4-a716-446655440000"',
    "sha256:" + run_of(64, "0a1b2c3d4e5f6789"),
    "def find_api_key(config: Config) -> str | None:\n    return config.key('OPENAI_API_KEY')",
    'api_key = os.environ["OPENAI_API_KEY_FOR_TESTS_1234"]',
    'API_KEY_ENV = "OPENAI_API_KEY_2024_01"',
    'token: "AuthenticationTokenProviderV2"',
    'password = "correct horse battery staple"',
    'api_key = "your-api-key-here-1234567890abcdef"',
    "postgresql://user:password@localhost:5432/db",
    "postgresql://app:${DB_PASSWORD}@localhost/db",
    "https://example.org:8443/path?q=a@b",
    "if '-----BEGIN PRIVATE KEY-----' in text:\n    raise ValueError('looks like a key')",
    "for sk-learn users: sk-shortname, task-based-thing-with-a-long-name-of-its-own",
    "risk-" + "averse" * 8,
    "eyJhbGciOiJIUzI1NiJ9 is only a header",
    "data:image/png;base64," + run_of(200),
    "integrity sha512-" + run_of(86) + "==",
    "hf_hub_download(repo_id='x')  npm_config_registry=1 pypi-publish",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_hashes_uuids_and_ordinary_code_are_no_secrets(text: str) -> None:
    assert find_secrets(text) == ()
    assert redact(text) is text


def test_no_rule_is_by_entropy() -> None:
    assert find_secrets(" ".join(run_of(n) for n in range(20, 90))) == ()


@given(st.lists(st.sampled_from(sorted(canaries())) | st.text(max_size=20), max_size=8))
@settings(max_examples=200, deadline=None)
def test_redacting_hides_every_secret_and_keeps_the_rest_in_order(parts: list[str]) -> None:
    found = canaries()
    text = "\n".join(found[part][1] if part in found else part for part in parts)
    hidden = redact(text)
    assert not [rule for rule in found if rule in parts and found[rule][0] in hidden]
    assert redact(hidden) == hidden
    for part in parts:
        if part not in found and not find_secrets(part) and "-----" not in text:
            assert part in hidden


def test_a_megabyte_made_to_slow_a_rule_down_is_read_in_time() -> None:
    program = textwrap.dedent("""
        from mcp_tierkit.redact import find_secrets
        begin = "-----BEGIN RSA PRIVATE" + " KEY-----"
        pieces = ["a", "://", "a://a:", "aa://" + "c" * 99 + ":", "ey" + "Jaaaaaaaaaaaa-", "eyJaaaaaaaaaaaa.",
                  begin, begin + "A" * 64, begin + "A:" * 30, "- ", 'key="', 'key="' + "a1" * 130, "aws_secret",
                  "aws-secret-secret", "mistral", 'token="' + "a1-" * 82, "sk-", "xoxb-xoxb-", "-", ".",
                  '"', "\\n", 'pwd="1111111111a.']
        for piece in pieces:
            find_secrets(begin + piece * (1_000_000 // len(piece)))
        print(len(pieces))
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "23"


DENIED = [
    ".env",
    "a/.env",
    ".env.local",
    ".ENV",
    ".Env.Production",
    "prod.env",
    "keys.env",
    "server.pem",
    "a/b/x.KEY",
    "id_rsa",
    "deploy/id_rsa.bak",
    "id_ed25519",
    ".ssh",
    ".ssh/config",
    "home/.ssh/known_hosts",
    ".aws/credentials",
    ".netrc",
    "web/.npmrc",
    ".pypirc",
    "store.p12",
    "vault.kdbx",
    "credentials.json",
    "x/credentials-prod.json",
    "secrets.yaml",
    "secrets.toml",
    ".git",
    ".git/config",
    "sub/.git/hooks/pre-commit",
    ".docker/config.json",
    "a/.docker/config.json",
    "terraform.tfstate",
    "a\\.env",
    "a/../.env",
    "./.env",
    "/home/me/.ssh/id",
    ".e\u200bnv",
    "\uff0eenv",
    "Ｓecrets.yml",
]


@pytest.mark.parametrize("path", DENIED)
def test_a_credential_file_is_denied_however_it_is_spelt(path: str) -> None:
    assert is_denied(path)


ALLOWED = [
    ".env.example",
    "a/.env.sample",
    ".gitignore",
    ".github/workflows/ci.yml",
    ".gitattributes",
    "src/environment.py",
    "src/keys.py",
    "monkey.py",
    "README.md",
    "tokens.py",
    "docs/credentials.md",
    "src/credentials/store.py",
    "config.json",
    ".tierkit/patch.diff",
    "a.env.py",
    "env/x.py",
]


@pytest.mark.parametrize("path", ALLOWED)
def test_an_ordinary_file_is_not_denied(path: str) -> None:
    assert not is_denied(path)


def test_a_user_adds_denied_paths_and_cannot_take_any_away() -> None:
    assert is_denied("private/a/b.txt", ("private/**",))
    assert is_denied("Private/a.txt", ("PRIVATE/**",))
    assert not is_denied("other/a.txt", ("private/**",))
    assert is_denied(".env", ("!.env", "!*"))
    assert not is_denied("a.txt", ("!.env",))


def test_the_deny_list_is_the_packaged_one() -> None:
    assert {".env*", "*.pem", ".ssh", ".git"} <= set(deny_patterns())
