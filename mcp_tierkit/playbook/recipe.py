"""A skill as a request, and a model's words as its checked answer. No model is called here."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mcp_tierkit.errors import InvalidInput, NotFound, PolicyRefused
from mcp_tierkit.packing import fence
from mcp_tierkit.playbook.load import BadPlaybook, ModelRules, Playbook, read_front_matter
from mcp_tierkit.playbook.result import redacted
from mcp_tierkit.playbook.schema import invalid_input, strict_json
from mcp_tierkit.prompts import Prompt, build, extended, load
from mcp_tierkit.redact import find_secrets
from mcp_tierkit.tokens import estimate
from mcp_tierkit.types import Message
from mcp_tierkit.workspace import Workspace

MOST_CALLS = 2
"""The call and one repair."""
CUT_OFF = "all fields: the answer broke off before its end, so say less in each field"

_FENCED = re.compile(r"\s*```json[ \t]*\n(.*)\n[ \t]*```\s*", re.DOTALL)


class Said(NamedTuple):
    """A model's words."""

    text: str
    is_cut: bool = False


Ask = Callable[[str | None], Awaitable[Said | None]]
"""Gets the next words: told None at first, then what was wrong with the last ones. None where there are no more."""


class Answer(NamedTuple):
    """The output that fits, or None and the fault of the last words: the field and the rule."""

    output: dict[str, Any] | None
    fault: str = ""


@dataclass(frozen=True)
class Recipe:
    """A run of a skill that is ready to be sent."""

    playbook: Playbook
    prompt: Prompt
    inputs: str
    documents: Mapping[str, str]

    @property
    def rules(self) -> ModelRules:
        return self.playbook.contract.model or ModelRules()

    def messages(self) -> tuple[Message, ...]:
        """The request. Its system part is the same, byte for byte, for every run of one version of the skill."""
        documents = "\n".join(fence(path, text) for path, text in self.documents.items())
        return build(self.prompt, inputs=self.inputs, documents=documents or "(none)")

    def read(self, words: str) -> dict[str, Any]:
        """The answer in a model's words, secrets taken out. ValueError names the field and the rule that it breaks.

        Checked against the contract and the documents alone: nothing that either of them says of itself counts.
        """
        fenced = _FENCED.fullmatch(words)
        try:
            value = strict_json((fenced[1] if fenced else words).strip().encode())
        except ValueError as error:
            raise ValueError(f"all fields: it is not one JSON object and nothing else ({error})") from None
        if not isinstance(value, dict):
            raise ValueError("all fields: it is not one JSON object and nothing else")
        checked: dict[str, Any] = redacted(self.playbook.outputs.check(value, sources=self.documents.values()))
        return checked


def make_recipe(
    playbook: Playbook, inputs: Mapping[str, Any], workspace: Workspace, *, budget: int, overrides: Path | None = None
) -> Recipe:
    """The skill with its documents read. `inputs` are checked already; `budget` is in tokens of documents.

    Raises InvalidInput for a document that cannot be read whole, PolicyRefused for one that holds a secret.
    """
    documents = _documents(playbook, inputs, workspace)
    told = json.dumps(dict(inputs), ensure_ascii=False, indent=1) if inputs else "(none)"
    for where, text in (*documents.items(), ("The inputs", told)):
        _refuse_secrets(where, text)
    sent = sum(estimate(text) for text in (*documents.values(), told))
    if sent > budget:
        raise invalid_input(f"all fields: the documents are about {sent} tokens, and one request takes {budget}")
    return Recipe(playbook, _prompt(playbook, overrides), told, documents)


async def answered(recipe: Recipe, ask: Ask) -> Answer:
    """The first words that fit; those that do not are answered once with their fault, in `ask`'s next turn."""
    fault: str | None = None
    for _ in range(MOST_CALLS):
        said = await ask(fault)
        if said is None:
            break
        try:
            return Answer(recipe.read(said.text))
        except ValueError as error:
            fault = CUT_OFF if said.is_cut else str(error)
    return Answer(None, fault or "")


def _prompt(playbook: Playbook, overrides: Path | None) -> Prompt:
    """Our frame, then what the skill says, then the schema: from what all share to what changes soonest."""
    try:
        prose = read_front_matter(playbook.folder).prose
    except BadPlaybook as error:
        raise _unusable(playbook, str(error)) from None
    if not prose:
        raise _unusable(playbook, "SKILL.md: has no prose")
    schema = json.dumps(playbook.outputs.schema, ensure_ascii=False)
    own = f"# The instruction\n\n{prose}\n\n# The schema of the answer\n\n{schema}"
    kind = f"skill/{playbook.name}.v{playbook.contract.version}"
    return extended(load("recipe", overrides=overrides), kind, own)


def _unusable(playbook: Playbook, fault: str) -> NotFound:
    return NotFound(
        f"not_found: The playbook {playbook.name} cannot be loaded ({fault}). Nothing was sent or spent.",
        next_step=f"Mend it (tierkit playbook lint {playbook.name}), or do the task another way.",
    )


def _documents(playbook: Playbook, inputs: Mapping[str, Any], workspace: Workspace) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, path in playbook.inputs.paths_in(inputs):
        try:
            found[workspace.clean(path)] = workspace.text(path)
        except (InvalidInput, NotFound) as error:
            what = error.what.split(". ")[0]
            raise invalid_input(f"{name}: {what[:1].lower()}{what[1:]}") from None
    return found


def _refuse_secrets(where: str, text: str) -> None:
    for secret in find_secrets(text):
        raise PolicyRefused(
            f"refused_policy: {where} holds a secret at line {secret.line} ({secret.rule}), so nothing was sent or "
            "spent.",
            next_step="Take the secret out and call again, or do this yourself.",
        )
