"""Keys of providers: from the environment, else from the user's own `keys.env`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mcp_tierkit.places import read_regular
from mcp_tierkit.providers import known
from mcp_tierkit.settings import Settings

_MAX_BYTES = 64_000
UNREAD = "keys.env was not read"


def find_keys(settings: Settings, user_dir: Path, env: Mapping[str, str], notes: list[str]) -> dict[str, str]:
    """Keys that a provider or a tier names: the environment's first, then those of `keys.env`."""
    names = {name for provider in known().provider for name in provider.keys}
    names |= {tier.api_key_env for tier in settings.tiers.written().values() if tier.api_key_env}
    filed = _read_keys(user_dir / "keys.env", notes)
    found = {name: env.get(name, "").strip() or filed.get(name, "") for name in names}
    return {name: value for name, value in found.items() if value}


def _read_keys(path: Path, notes: list[str]) -> dict[str, str]:
    try:
        found = read_regular(path, _MAX_BYTES, follow=True)
        if found is None:
            return {}
        data, mode = found
        if mode & 0o077:
            notes.append(f"{UNREAD}, since others may read it too; run `chmod 600` on it.")
            return {}
        return dict(_assignments(data.decode("utf8")))
    except (OSError, ValueError):
        notes.append(f"{UNREAD}: it is not a plain text file that you may read.")
        return {}


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """`NAME=value` lines, `export` and quotes allowed; the rest is skipped."""
    for line in text.splitlines():
        name, found, value = line.strip().removeprefix("export ").partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if found and name.strip().isidentifier():
            yield name.strip(), value
