"""Writes mcp_tierkit/data/prices.toml anew from the installed litellm and genai-prices.

Run it after raising either package: `python scripts/derive_prices.py`. With `--check` nothing is
written and the exit code says whether the file is what would be written. The day in `AS_OF` is
the day a person looked at the result; change it when you do.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcp_tierkit.price_map import from_entry, from_genai, map_path
from mcp_tierkit.prices import Price, Rates

AS_OF = date(2026, 11, 22)
TARGET = Path(__file__).parent.parent / "mcp_tierkit" / "data" / "prices.toml"

LITELLM = [
    "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-fable-5-1", "claude-mythos-5-1",
    "claude-haiku-4-5", "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-sonnet-5", "claude-opus-4-5",
    "claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8", "claude-opus-5", "claude-fable-5", "gpt-6-luna",
    "gpt-6-sol", "gpt-6.1-sol", "gpt-6-astra", "gpt-5.6", "gpt-5.6-luna", "gpt-5.6-terra", "gpt-5.6-sol",
    "gpt-5.5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.3-codex", "gpt-5.2", "gpt-5.1", "gpt-5",
    "gpt-5-mini", "gpt-5-nano", "gpt-4.1", "gpt-4.1-mini", "gemini/gemini-4-argon", "gemini/gemini-3.8-flash",
    "gemini/gemini-3.5-flash", "gemini/gemini-3.5-flash-lite", "gemini/gemini-3.1-pro-preview",
    "gemini/gemini-3.1-flash-lite", "gemini/gemini-2.5-pro", "gemini/gemini-2.5-flash",
    "gemini/gemini-2.5-flash-lite", "deepseek/deepseek-v4-flash", "deepseek/deepseek-v4-pro",
    "mistral/mistral-small-2603", "mistral/mistral-medium-3-5", "mistral/mistral-large-4-0",
    "mistral/codestral-2508", "groq/openai/gpt-oss-20b", "zai/glm-5.3-flash", "xai/grok-4.7",
    "dashscope/qwen-flash",
]  # fmt: skip

GENAI = [
    "openai:gpt-6.1-terra", "openrouter:openai/gpt-6-luna", "openrouter:openai/gpt-6.1-terra",
    "openrouter:openai/gpt-6.1-sol", "openrouter:openai/gpt-5.4-mini", "openrouter:anthropic/claude-haiku-5.5",
    "openrouter:anthropic/claude-sonnet-5.5", "openrouter:anthropic/claude-opus-5.5",
]  # fmt: skip

HEAD = """\
# US dollars per million tokens. Written by scripts/derive_prices.py from the packages that each row names; do not
# edit. `as_of` is the day the figures were read there, which is no check of the vendor's own page. A model that is
# missing here has no known price.
"""


def derive() -> dict[str, Price]:
    """Every row of the packaged table, read from the installed packages."""
    path = map_path()
    assert path is not None, "litellm is not installed"
    entries = json.loads(path.read_bytes(), parse_float=Decimal)
    rows = {name: _litellm_row(name, entries[name]) for name in LITELLM} | dict(map(_genai_row, GENAI))
    return dict(sorted(rows.items()))


def _litellm_row(name: str, entry: dict[str, Any]) -> Price:
    price = from_entry(entry, source=f"litellm {version('litellm')} model_prices map", as_of=AS_OF)
    assert price is not None, f"{name} has no price in the map"
    return price


def _genai_row(spec: str) -> tuple[str, Price]:
    provider, model = spec.split(":", 1)
    price = from_genai(provider, model, on=AS_OF, as_of=AS_OF)
    assert price is not None, f"{spec} has no price in genai-prices"
    return (f"openrouter/{model}" if provider == "openrouter" else model), price


def to_toml(rows: dict[str, Price]) -> str:
    parts = [HEAD]
    for name, price in rows.items():
        parts.append(f'[model."{name}"]\n' + "".join(f"{key} = {value}\n" for key, value in _lines(price)))
    return "\n".join(parts)


def _lines(price: Price) -> list[tuple[str, str]]:
    lines = _rate_lines(price)
    if price.above:
        inner = ", ".join(f"{k} = {v}" for k, v in [("tokens", str(price.above.tokens)), *_rate_lines(price.above)])
        lines.append(("above", f"{{ {inner} }}"))
    lines.append(("as_of", str(price.as_of)))
    lines.append(("source", json.dumps(price.source)))
    if price.deprecated_on:
        lines.append(("deprecated_on", str(price.deprecated_on)))
    if price.note:
        lines.append(("note", json.dumps(price.note)))
    return lines


def _rate_lines(rates: Rates) -> list[tuple[str, str]]:
    values = ((name, getattr(rates, name)) for name in Rates.model_fields)
    return [(name, f'"{value:f}"') for name, value in values if value is not None]


def main(arguments: list[str]) -> int:
    text = to_toml(derive())
    if "--check" in arguments:
        return 0 if TARGET.read_text("utf8") == text else 1
    TARGET.write_text(text, "utf8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
