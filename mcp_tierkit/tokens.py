"""How many tokens a text is: counted by a real vocabulary where one is installed, else estimated and so marked."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcp_tierkit.types import Record

# litellm carries OpenAI's vocabulary files, named as tiktoken's cache names them.
_FILE = "fb374d419588a4632f3f557e76b4b70aebbca790"
_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
_PIECE = 50_000  # characters at once: one unbroken run costs the encoder more than linear time
_LOCK = threading.Lock()

BYTES_PER_TOKEN = 4
"""Half of 1,348 Python files measured had 4.4 or more; tables of digits and base64 have 1.4."""

SAFETY = 2
"""Other vendors' vocabularies took up to 1.34 times o200k's tokens on one mixed text, and newer ones are finer."""


class TokenCount(Record):
    tokens: int
    is_estimate: bool


def count(text: str) -> TokenCount:
    """Tokens of `text` in the o200k vocabulary, or bytes/4 marked as an estimate. Never asks the network.

    The first call loads the vocabulary (half a second). Vendors other than OpenAI split text
    differently, by a third and more, so bills come from their own usage figures only.
    """
    encoder = _encoder()
    if encoder is None:
        return TokenCount(tokens=estimate(text), is_estimate=True)
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return TokenCount(tokens=sum(len(encoder.encode_ordinary(piece)) for piece in pieces), is_estimate=False)


def estimate(text: str) -> int:
    """A quarter of the text's bytes, rounded up: near the middle, quick, and loads nothing."""
    return -(-_size(text) // BYTES_PER_TOKEN)


def at_most(text: str) -> int:
    """More tokens than any vocabulary we know makes of `text`, for reserving money.

    `SAFETY` times the count, and never above a token a byte, which is where byte-level vocabularies end.
    """
    counted = count(text)
    return _size(text) if counted.is_estimate else min(_size(text), SAFETY * counted.tokens)


def _size(text: str) -> int:
    return len(text.encode("utf8", "replace"))


@cache
def _encoder() -> Any:
    """tiktoken's o200k from the vocabulary that litellm carries; None where either is missing or altered."""
    folder = _folder()
    if folder is None or find_spec("tiktoken") is None:
        return None
    import tiktoken

    # tiktoken takes the folder from the environment only; what was there is put back.
    with _LOCK:
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        try:
            return tiktoken.get_encoding("o200k_base")
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before


def _folder() -> Path | None:
    """The folder with the vocabulary. Its digest is checked here, since tiktoken would download a mismatch anew."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    try:
        data = (folder / _FILE).read_bytes()
    except OSError:
        return None
    return folder if hashlib.sha256(data).hexdigest() == _SHA256 else None
