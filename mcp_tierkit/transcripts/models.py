"""A model's name as price lists have it, from the provider's and the model's name as an agent writes them."""

from __future__ import annotations

import re

from mcp_tierkit.tables import packaged
from mcp_tierkit.transcripts.taker import printable

_POINT = re.compile(r"^(claude-\D*\d)\.(\d)")


def named(provider: object, model: object) -> str:
    """`gemini/gemini-2.5-pro` for Google's; the bare name where lists file it so; empty where no model is named."""
    if not isinstance(model, str) or not model:
        return ""
    if not isinstance(provider, str) or not provider:
        return printable(model[:120])
    route = packaged("agents")["routes"].get(provider, f"{provider}/")
    if not route:  # Resellers write Claude's versions with a point, the maker and price lists with a dash.
        return printable(_POINT.sub(r"\1-\2", model)[:120])
    return printable((model if model.startswith(route) else route + model)[:120])
