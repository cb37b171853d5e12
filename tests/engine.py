"""A real engine on loopback: llama.cpp from its wheel, with a tiny model of random numbers. Its text is noise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

WIDTH, LAYERS, HEADS, FEED, CONTEXT = 64, 2, 4, 128, 32_768
END_OF_TEXT = 2
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "


def write_tiny_model(path: Path, seed: int = 7, *, terse: bool = False) -> Path:
    """A llama of half a megabyte with a byte vocabulary, the same for the same seed. A terse one soon ends a text."""
    import gguf

    tokens, kinds = _vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(at) for at in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END_OF_TEXT)
    writer.add_chat_template(CHAT)
    for name, tensor in _tensors(len(tokens), np.random.default_rng(seed)):
        if terse and name == "output.weight":
            tensor[END_OF_TEXT] *= 3
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@contextmanager
def tiny_engine(model: Path, *, ends: bool = False) -> Iterator[str]:
    """The address of a llama.cpp server, as OpenAI clients want it, while the context lasts.

    It has one slot. Unless a text `ends` where the model ends it, a call that is not cancelled holds the slot for long.
    """
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    settings.port = 0
    settings.n_ctx = CONTEXT
    settings.n_parallel = 1
    settings.cpuparams.n_threads = 1
    settings.warmup = False
    settings.verbosity = -1
    settings.sampling.ignore_eos = not ends
    server = xllamacpp.Server(settings)
    # Ended before its loop runs, it would wait for that loop for ever. A word that came out has passed the loop.
    asked = {"prompt": "x", "n_predict": 1}
    with urlopen(f"{server.listening_address}/completion", data=json.dumps(asked).encode()) as answer:
        answer.read()
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server


def _vocabulary() -> tuple[list[bytes], list[int]]:
    import gguf

    special = [b"<unk>", b"<s>", b"</s>"]
    raw = [f"<0x{byte:02X}>".encode() for byte in range(256)]
    plain = [bytes([byte]) for byte in range(32, 127)]
    kind = gguf.TokenType
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * len(raw) + [kind.NORMAL] * len(plain)
    return special + raw + plain, [int(k) for k in kinds]


def _tensors(vocabulary: int, random: np.random.Generator) -> Iterator[tuple[str, Any]]:
    def noise(*shape: int) -> Any:
        return random.normal(0, 0.2, shape).astype(np.float32)

    def ones() -> Any:
        return np.ones(WIDTH, dtype=np.float32)

    yield "token_embd.weight", noise(vocabulary, WIDTH)
    for at in range(LAYERS):
        yield f"blk.{at}.attn_norm.weight", ones()
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{at}.{part}.weight", noise(WIDTH, WIDTH)
        yield f"blk.{at}.ffn_norm.weight", ones()
        yield f"blk.{at}.ffn_gate.weight", noise(FEED, WIDTH)
        yield f"blk.{at}.ffn_up.weight", noise(FEED, WIDTH)
        yield f"blk.{at}.ffn_down.weight", noise(WIDTH, FEED)
    yield "output_norm.weight", ones()
    yield "output.weight", noise(vocabulary, WIDTH)
