"""A model on loopback that plays a script over the Anthropic Messages wire, for a real client to talk to.

A turn may quote what an earlier tool call gave, since ids are random: `{plan_task.task_id}` in an argument stands for
that field of that tool's last result.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

QUOTE = re.compile(r"\{(\w+)\.(\w+)\}")
Block = dict[str, Any]


@dataclass(frozen=True)
class Use:
    """Call a tool, by its own name; the client may offer it under a longer one that ends with `__` and this."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One tool call with its result, as the model is shown it."""

    tool: str
    text: str
    is_error: bool

    def field(self, name: str) -> str:
        """A field of a reply that is JSON, whatever the client wrote behind it. Raises ValueError or KeyError."""
        reply, _ = json.JSONDecoder().raw_decode(self.text)
        return str(reply[name])


class ScriptedModel:
    """Answers request after request from `with` until its end, and keeps every request that offered tools.

    Which turn is due follows from how many results a request carries, so that a repeated request changes nothing.
    """

    def __init__(self, turns: Sequence[Use], last_words: str = "done") -> None:
        self._turns, self._last_words = tuple(turns), last_words
        self._requests: list[Block] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> tuple[Block, ...]:
        with self._lock:
            return tuple(self._requests)

    def __enter__(self) -> Self:
        model = self

        class Handler(_Handler):
            answer = staticmethod(model.answer)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="model", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Block) -> Block:
        """The one content block to answer with. Side requests, which offer no tools, get a word."""
        offered = [tool["name"] for tool in request.get("tools", ())]
        if not offered:
            return {"type": "text", "text": "ok"}
        with self._lock:
            self._requests.append(request)
        seen = results(request)
        if len(seen) >= len(self._turns):
            return {"type": "text", "text": self._last_words}
        turn = self._turns[len(seen)]
        try:
            arguments = quoted(turn, seen)
        except (KeyError, ValueError) as error:
            return {"type": "text", "text": f"The script cannot go on: {turn.tool} quotes {error!r}"}
        name = next((name for name in offered if name.split("__")[-1] == turn.tool), turn.tool)
        return {"type": "tool_use", "id": f"toolu_{len(seen):04d}", "name": name, "input": arguments}


def quoted(turn: Use, seen: Sequence[Result]) -> Any:
    """The turn's arguments with what they quote filled in."""
    last = {result.tool: result for result in seen}
    return json.loads(QUOTE.sub(lambda match: last[match[1]].field(match[2]), json.dumps(turn.arguments)))


def results(request: Block) -> list[Result]:
    """The tool results that a request carries, oldest first."""
    blocks = [block for message in request["messages"] for block in blocks_of(message)]
    called = {block["id"]: block["name"].split("__")[-1] for block in blocks if block["type"] == "tool_use"}
    return [
        Result(called[block["tool_use_id"]], text_of(block.get("content", "")), bool(block.get("is_error")))
        for block in blocks
        if block["type"] == "tool_result"
    ]


def blocks_of(message: Block) -> list[Block]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(content: Any) -> str:
    """The words of a block's content; what is not words is shown as JSON."""
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] if block["type"] == "text" else json.dumps(block) for block in content)


class _Handler(BaseHTTPRequestHandler):
    @staticmethod
    def answer(request: Block) -> Block:
        raise NotImplementedError

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._send("application/json", b"")

    def do_GET(self) -> None:
        self._send("application/json", b'{"data": []}')

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            self._send("application/json", b'{"input_tokens": 1}')
        elif path.endswith("/messages"):
            self._message(request, self.answer(request))
        else:
            self._send("application/json", b"{}")

    def _message(self, request: Block, block: Block) -> None:
        stop = "tool_use" if block["type"] == "tool_use" else "end_turn"
        usage = {"input_tokens": 1, "output_tokens": 1}
        # A client joins messages that share an id into one.
        whole: Block = {"id": f"msg_{secrets.token_hex(8)}", "type": "message", "role": "assistant", "usage": usage}
        whole |= {"model": request.get("model"), "content": [block]}
        whole |= {"stop_reason": stop, "stop_sequence": None}
        if request.get("stream"):
            self._send("text/event-stream", b"".join(_events(whole, block)))
        else:
            self._send("application/json", json.dumps(whole).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _events(whole: Block, block: Block) -> list[bytes]:
    """A message as the wire streams it, its block in one piece."""
    if block["type"] == "text":
        empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        empty = {**block, "input": {}}
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events: list[Block] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": whole["usage"]},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
