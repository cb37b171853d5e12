"""Versioned prompt texts, the fields they take, and the digest that a call row remembers them by."""

from __future__ import annotations

import hashlib
import re
import string
from functools import cache
from pathlib import Path

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.types import Message, Record

LATEST = {"draft": "draft.v1", "repair": "repair.v1", "review": "review.v1", "plan": "plan.v1"}
"""The version of each prompt that is sent."""

_FOLDER = Path(__file__).parent
_MAX_BYTES = 32_000
_PARTS = re.compile(r"\A(?:=== system ===\n(?P<system>.*?)\n)?=== user ===\n(?P<user>.*)\Z", re.DOTALL)


class Prompt(Record):
    """A system text that never varies, none for a follow-up in a conversation, and a user text to fill in."""

    id: str
    system: str
    user: str

    @property
    def fields(self) -> frozenset[str]:
        """Names that `render` wants, all of them."""
        return frozenset(string.Template(self.user).get_identifiers())

    def render(self, **fields: str) -> tuple[Message, ...]:
        """The messages to send. Values go in as they are: a `$` in a file's text is only text.

        Raises ValueError for a missing or a superfluous field.
        """
        if wrong := self.fields ^ fields.keys():
            raise ValueError(f"{self.id} and its caller disagree about the fields {sorted(wrong)}")
        user = Message(role="user", content=string.Template(self.user).substitute(fields))
        return (Message(role="system", content=self.system), user) if self.system else (user,)


def load(name: str, *, overrides: Path | None = None) -> Prompt:
    """The latest version of a prompt, or a named one such as `draft.v1`.

    A file of the same name in `overrides`, the user's own folder, replaces the packaged text; its own
    digest is in the id. Raises InvalidInput where that file lacks a part or has other placeholders.
    """
    version = LATEST.get(name, name)
    packaged = _packaged(version)
    own = overrides / f"{version}.md" if overrides else None
    return packaged if own is None or not own.exists() else _override(own, packaged)


@cache
def _packaged(version: str) -> Prompt:
    data = (_FOLDER / f"{version}.md").read_bytes()
    prompt = _parse(version, data)
    if prompt is None or _problems(prompt):
        raise ValueError(f"the packaged prompt {version} is malformed")
    return prompt


def _override(path: Path, packaged: Prompt) -> Prompt:
    prompt = _parse(path.stem, _read(path))
    if prompt is None:
        raise _refused(path, "has no `=== system ===` and `=== user ===` parts in that order")
    if wrong := _problems(prompt):
        raise _refused(path, wrong)
    if bool(prompt.system) != bool(packaged.system):
        raise _refused(path, "must have a system part exactly where the packaged text has one")
    if differing := prompt.fields ^ packaged.fields:
        raise _refused(path, f"must use the packaged text's placeholders and no others; see {sorted(differing)}")
    return prompt


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _refused(path, "cannot be read") from error
    if len(data) > _MAX_BYTES:
        raise _refused(path, f"is longer than {_MAX_BYTES} bytes")
    return data


def _parse(version: str, data: bytes) -> Prompt | None:
    """The two parts with the blank lines around them gone; the digest is of the file's own bytes."""
    try:
        parts = _PARTS.match(data.decode("utf8").replace("\r\n", "\n"))
    except UnicodeDecodeError:
        return None
    if parts is None:
        return None
    digest = hashlib.sha256(data).hexdigest()[:12]
    return Prompt(id=f"{version}@{digest}", system=(parts["system"] or "").strip(), user=parts["user"].strip())


def _problems(prompt: Prompt) -> str:
    if not string.Template(prompt.user).is_valid():
        return "holds a `$` that starts no placeholder; write `$$` for the sign itself"
    if string.Template(prompt.system).get_identifiers():
        return "has a placeholder in its system part, which never varies"
    return "" if prompt.fields else "has no placeholder in its user part"


def _refused(path: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"The prompt override {path.name} {what}. Nothing was sent.",
        next_step="Mend that file in the `prompts` folder beside your tierkit.toml, or delete it.",
    )
