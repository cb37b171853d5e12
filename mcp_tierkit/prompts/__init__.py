"""Versioned prompt texts, the fields they take, and the digest that a call row remembers them by."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import get_args

from mcp_tierkit.answers import takes_scratchpad
from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.types import Category, Message, Record

LATEST = {
    "draft": "draft.v2", "repair": "repair.v1", "climb": "climb.v1", "continue": "continue.v1", "review": "review.v1",
    "plan": "plan.v1", "recipe": "recipe.v1", "refit": "refit.v1",
}  # fmt: skip
"""The version of each prompt that is sent."""

NOTHING = "(none)"
"""What stands in a field that the caller leaves out."""

_CATEGORY, _SCRATCHPAD = "categories/{}.v1", "scratchpad.v1"
_OPTIONAL = frozenset({"profile", "neighbours"})
_HAS_FOLLOW_UPS = "draft."  # A review's task is sent once: to keep it would be a write at a premium that nothing reads.
_FOLDER = Path(__file__).parent
_MAX_BYTES = 32_000
_PARTS = re.compile(r"\A(?:=== system ===\n(?P<system>.*?)\n)?=== user ===\n(?P<user>.*)\Z", re.DOTALL)
_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_MOVING = {
    "a date": rf"\b\d{{4}}([-/.])\d\d?\1\d\d?\b|\b\d\d?([./])\d\d?\2\d{{4}}\b|\b{_MONTH} \d|\b\d\d?\.? {_MONTH}\b",
    "a time": r"\b[0-2]?\d:[0-5]\d\b",
    "an e-mail address": r"[\w.+-]+@[\w-]+\.\w",
    "a path of somebody's machine": r"(?:/home/|/Users/|\\Users\\|/root/)\w",
}
"""What makes a prefix differ from one day or user to the next: no provider's cache would then have it."""


class Prompt(Record):
    """A system text that never varies, none for a follow-up in a conversation, and a user text to fill in."""

    id: str
    system: str
    user: str

    @property
    def fields(self) -> frozenset[str]:
        """Names that `render` wants, all of them but `profile` and `neighbours`, which may be left out."""
        return frozenset(string.Template(self.user).get_identifiers())

    def render(self, **fields: str) -> tuple[Message, ...]:
        """The messages to send. Values go in as they are: a `$` in a file's text is only text.

        The system text ends a prefix that other calls begin with; so does the task of a draft, since repairs and the
        like go behind it. Raises ValueError for a missing or a superfluous field.
        """
        given = dict.fromkeys(self.fields & _OPTIONAL, NOTHING) | fields
        if wrong := self.fields ^ given.keys():
            raise ValueError(f"{self.id} and its caller disagree about the fields {sorted(wrong)}")
        is_kept = self.id.startswith(_HAS_FOLLOW_UPS)
        user = Message(role="user", content=string.Template(self.user).substitute(given), ends_prefix=is_kept)
        return (Message(role="system", content=self.system, ends_prefix=True), user) if self.system else (user,)


def build(prompt: Prompt, *, profile: str = "", **task: str) -> tuple[Message, ...]:
    """The messages of a call in their fixed order: system text, the project's profile, the task.

    Each part leaves the bytes of those before it as they are. Raises ValueError where the fields do not fit.
    """
    own = {"profile": profile} if profile else {}
    return prompt.render(**own, **task)


def load(
    name: str, *, category: Category | None = None, scratchpad: bool = False, overrides: Path | None = None
) -> Prompt:
    """The latest version of a prompt, or a named one such as `draft.v1`, with the texts that go behind its system part.

    These are the category's own text and, where the tier asks for it and the category allows it, the scratchpad's. A
    follow-up has no system part, so that nothing is added. A file of the same name in `overrides`, the user's own
    folder, replaces a packaged text; the id covers every byte. Raises InvalidInput for such a file that cannot be used.
    """
    version = LATEST.get(name, name)
    prompt = _with_override(version, overrides)
    if not prompt.system:
        return prompt
    added, kind = [], version
    if category is not None:
        added, kind = [_CATEGORY.format(category)], f"{kind}/{category}"
    if scratchpad and (category is None or takes_scratchpad(category)):
        added, kind = [*added, _SCRATCHPAD], f"{kind}+scratchpad"
    return _joined(kind, prompt, [_addition(text, overrides) for text in added]) if added else prompt


def extended(prompt: Prompt, kind: str, text: str) -> Prompt:
    """The prompt with somebody else's text behind its system part, under an id of its own that covers every byte."""
    return _joined(kind, prompt, [_Addition(id=f"{kind}@{_digest(text.encode())}", text=text)])


def texts() -> frozenset[str]:
    """Names of all texts that calls are made of; a file of the user's own under any other name does nothing."""
    return frozenset({*LATEST.values(), *map(_CATEGORY.format, get_args(Category)), _SCRATCHPAD})


class _Addition(Record):
    id: str
    text: str


def _joined(kind: str, prompt: Prompt, added: Sequence[_Addition]) -> Prompt:
    ids = "\n".join([prompt.id, *(addition.id for addition in added)])
    system = "\n\n".join([prompt.system, *(addition.text for addition in added)])
    return prompt.model_copy(update={"id": f"{kind}@{_digest(ids.encode())}", "system": system})


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _with_override(version: str, overrides: Path | None) -> Prompt:
    own = overrides / f"{version}.md" if overrides else None
    packaged = _packaged(version)
    return packaged if own is None or not own.exists() else _override(own, packaged)


@cache
def _packaged(version: str) -> Prompt:
    data = (_FOLDER / f"{version}.md").read_bytes()
    prompt = _parse(version, data)
    if prompt is None or _problems(prompt):
        raise ValueError(f"the packaged prompt {version} is malformed")
    return prompt


def _override(path: Path, packaged: Prompt) -> Prompt:
    prompt = _parse(path.stem, _read(path, path.name))
    if prompt is None:
        raise _refused(path.name, "has no `=== system ===` and `=== user ===` parts in that order")
    if wrong := _problems(prompt):
        raise _refused(path.name, wrong)
    if bool(prompt.system) != bool(packaged.system):
        raise _refused(path.name, "must have a system part exactly where the packaged text has one")
    if differing := prompt.fields ^ packaged.fields:
        raise _refused(path.name, f"must use the packaged text's placeholders and no others; see {sorted(differing)}")
    return prompt


def _addition(version: str, overrides: Path | None) -> _Addition:
    own = overrides / f"{version}.md" if overrides else None
    if own is None or not own.exists():
        return _packaged_addition(version)
    name = f"{version}.md"
    addition = _parse_addition(version, _read(own, name))
    if addition is None:
        raise _refused(name, "is empty or not UTF-8 text")
    if wrong := _unstable(addition.text):
        raise _refused(name, wrong)
    return addition


@cache
def _packaged_addition(version: str) -> _Addition:
    addition = _parse_addition(version, (_FOLDER / f"{version}.md").read_bytes())
    if addition is None or _unstable(addition.text):
        raise ValueError(f"the packaged text {version} is malformed")
    return addition


def _parse_addition(version: str, data: bytes) -> _Addition | None:
    try:
        text = data.decode("utf8").replace("\r\n", "\n").strip()
    except UnicodeDecodeError:
        return None
    return _Addition(id=f"{version}@{_digest(data)}", text=text) if text else None


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _refused(name, "cannot be read") from error
    if len(data) > _MAX_BYTES:
        raise _refused(name, f"is longer than {_MAX_BYTES} bytes")
    return data


def _parse(version: str, data: bytes) -> Prompt | None:
    """The two parts with the blank lines around them gone; the digest is of the file's own bytes."""
    try:
        parts = _PARTS.match(data.decode("utf8").replace("\r\n", "\n"))
    except UnicodeDecodeError:
        return None
    if parts is None:
        return None
    return Prompt(id=f"{version}@{_digest(data)}", system=(parts["system"] or "").strip(), user=parts["user"].strip())


def _problems(prompt: Prompt) -> str:
    if not string.Template(prompt.user).is_valid():
        return "holds a `$` that starts no placeholder; write `$$` for the sign itself"
    identifiers = string.Template(prompt.user).get_identifiers()
    if "profile" in identifiers[1:]:
        return "must have `$profile` before every other placeholder, since that part changes least"
    # A follow-up may be the same words each time; an opening without a task would be none.
    if prompt.system and not identifiers:
        return "has no placeholder in its user part"
    return _unstable(prompt.system)


def _unstable(text: str) -> str:
    """What in a part of the prefix would vary from call to call; empty for a stable one."""
    if string.Template(text).get_identifiers():
        return "has a placeholder in its system part, which never varies"
    for what, pattern in _MOVING.items():
        if re.search(pattern, text):
            return f"holds {what} in its system part, which must be the same on every day and for every user"
    return ""


def _refused(name: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"The prompt override {name} {what}. Nothing was sent.",
        next_step="Mend that file in the `prompts` folder beside your tierkit.toml, or delete it.",
    )
