"""The only door to models, and the only file that imports litellm (on the first call: it takes seconds).

litellm shapes the request and finds the text in the reply. It does not decide what is sent how often, nor what a call
used, served or cost: those are read from the wire itself (`wire`, `usage`), since litellm retries in silence, fills
missing usage with zeros or estimates, renames the served model, and prices what it does not know at nothing.

Calls are not streamed. The usage then stands in one body that the provider wrote, streamed usage needs an option that
many engines lack, and a cancelled call closes its connection at once either way.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.failures import failure
from mcp_tierkit.providers import wants_cache_marks
from mcp_tierkit.types import Completion, Message, Request, Usage
from mcp_tierkit.usage import read_body, read_choice, read_usage, reported_cost, served_model

if TYPE_CHECKING:
    import httpx

    from mcp_tierkit.wire import OneRequest

Keys = Callable[[str], str | None]
Reply = Completion | Exception | Callable[[Request], Completion | Exception]
Finish = Literal["stop", "length", "filter", "other"]

NO_KEY = "no-key-set"
"""Sent where a tier names an endpoint and no key: litellm would otherwise send a key that it finds by itself."""

_IMPORT_ENV = {
    "LITELLM_MODE": "PRODUCTION",  # Anything but DEV: DEV loads `.env` of the working folder, the user's project.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
}
METERED = frozenset({
    "anthropic", "bedrock", "cerebras", "custom_openai", "dashscope", "deepinfra", "deepseek", "fireworks_ai", "gemini",
    "github", "groq", "hosted_vllm", "huggingface", "litellm_proxy", "llamafile", "lm_studio", "minimax", "mistral",
    "moonshot", "novita", "nvidia_nim", "ollama", "ollama_chat", "openai", "openrouter", "perplexity", "sambanova",
    "together_ai", "xai", "zai",
})  # fmt: skip
"""litellm's names of providers whose calls were seen to pass our wire, each tested. Others would go unmetered."""

_FINISHES: dict[str, Finish] = {"stop": "stop", "length": "length", "content_filter": "filter"}
_loading = threading.Lock()
_loaded: Any = None
_log = logging.getLogger(__name__)


class Gateway(Protocol):
    async def ready(self) -> None:
        """Load what the first call needs, so that `complete` sends at once. It may be cancelled."""
        ...

    async def complete(self, request: Request) -> Completion:
        """The model's reply. Raises ModelFailed; cancellation closes the connection.

        A cancellation that came before anything was sent may say so: `was_sent` is False on it.
        """
        ...


class LiteLLMGateway:
    """Models of any provider that litellm speaks to. `keys` turns the name of a key into the key, or None."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._pool: httpx.AsyncClient | None = None

    async def ready(self) -> None:
        """Load litellm where that was not done. Whoever leaves meanwhile waits no longer; the load goes on."""
        if _loaded is None:
            await anyio.to_thread.run_sync(load_litellm, abandon_on_cancel=True)

    async def complete(self, request: Request) -> Completion:
        """The model's reply after exactly one HTTP request, within `request.timeout_s` from then on.

        Usage is what the provider's body says: None where it says nothing. Raises ModelFailed with a kind and, where
        there was an answer, HTTP's status. Cancellation closes the connection, or sends nothing where the request has
        not set out, and is never turned into an error.
        """
        key = self._key(request)
        await self.ready()
        litellm = load_litellm()
        route = _route(litellm, request, key)
        reply = None
        # litellm prepares in a thread: whoever left meanwhile would leave behind a coroutine that nobody awaits.
        with anyio.CancelScope(shield=True) as preparing, anyio.move_on_after(request.timeout_s) as limit:

            async def begin_anew() -> None:
                preparing.shield = False
                await anyio.lowlevel.checkpoint_if_cancelled()
                limit.deadline = anyio.current_time() + request.timeout_s

            wire = self._wire(begin_anew)
            try:
                reply = await _ask(litellm, request, key, _client(request, route, wire))
            except anyio.get_cancelled_exc_class() as left:
                left.was_sent = wire.was_sent  # type: ignore[attr-defined]
                raise
        if limit.cancelled_caught:
            wire.broke = "timeout"
        try:
            return _completion(request, reply, wire).model_copy(update={"duration_ms": wire.took_ms})
        except ModelFailed as error:
            error.duration_ms = wire.took_ms
            raise

    async def aclose(self) -> None:
        """Close connections and stop what litellm left running on this event loop."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()
            for _ in range(4):  # litellm starts its worker some turns after a call has returned.
                await anyio.lowlevel.checkpoint()
            worker = importlib.import_module("litellm.litellm_core_utils.logging_worker")
            await worker.GLOBAL_LOGGING_WORKER.stop()

    def _key(self, request: Request) -> str | None:
        name = request.api_key_env
        if name is None:
            return NO_KEY if request.base_url else None
        if key := self._keys(name):
            return key
        raise ModelFailed(
            f"The key {name} for {request.model!r} is not set. No model was called.",
            next_step=f"Set {name} in the environment or in keys.env, then call again.",
            kind="auth",
        )

    def _wire(self, on_sending: Callable[[], Awaitable[None]]) -> OneRequest:
        import httpx

        from mcp_tierkit.wire import OneRequest

        if self._pool is None:
            self._pool = httpx.AsyncClient()
        return OneRequest(self._pool, on_sending)


class ScriptedGateway:
    """Gives the replies it was given, in order. `requests` is what was asked; an Exception in the script is raised.

    With a `gate` every call waits for it after it was noted, so that a test can hold a call in flight.
    """

    def __init__(self, replies: Iterable[Reply] = (), *, gate: Callable[[], Awaitable[None]] | None = None) -> None:
        self.requests: list[Request] = []
        self._left = deque(replies)
        self._gate = gate
        self._began = anyio.Event()

    def replies(self, *more: Reply) -> None:
        """Add to the script."""
        self._left.extend(more)

    async def ready(self) -> None:
        """It is."""

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        began, self._began = self._began, anyio.Event()
        began.set()
        if self._gate is not None:
            await self._gate()
        if not self._left:
            raise RuntimeError(f"The script has no reply for call {len(self.requests)}.")
        reply = self._left.popleft()
        given = reply if isinstance(reply, Completion | Exception) else reply(request)
        if isinstance(given, Exception):
            raise given
        return given

    async def begun(self, calls: int = 1) -> None:
        """Return once that many calls have begun."""
        while len(self.requests) < calls:
            await self._began.wait()


def load_litellm() -> Any:
    """litellm with its own retries, caches, callbacks, telemetry and prints off. Blocks for seconds the first time."""
    global _loaded
    with _loading:
        if _loaded is not None:
            return _loaded
        # Set for good: parts of litellm are imported, and read these, on a later call.
        os.environ.update({name: value for name, value in _IMPORT_ENV.items() if not _is_set(name)})
        litellm: Any = importlib.import_module("litellm")
        litellm.suppress_debug_info = True  # It prints to stdout, where the protocol is.
        litellm.set_verbose = False
        litellm.telemetry = False
        litellm.cache = None
        litellm.num_retries = None
        litellm.turn_off_message_logging = True
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _loaded = litellm
        return litellm


def _is_set(name: str) -> bool:
    return name != "LITELLM_MODE" and name in os.environ


class _Route(NamedTuple):
    """Where litellm would send a request: its endpoint and key, None for the provider's own default."""

    base_url: str | None
    key: str | None


def _route(litellm: Any, request: Request, key: str | None) -> _Route:
    """Raises ModelFailed where litellm knows no way, or only one that passes our wire by."""
    try:
        model, provider, found, base = litellm.get_llm_provider(
            request.model, api_base=request.base_url, api_key=key
        )  # fmt: skip
    except Exception:
        raise _no_route(request.model, "litellm knows no such provider") from None
    main = importlib.import_module("litellm.main")
    info, _ = main.responses_api_bridge_check(model=model, custom_llm_provider=provider)
    if provider not in METERED or info.get("mode") == "responses":
        raise _no_route(request.model, "litellm sends its calls on a way that cannot be metered")
    return _Route(base or request.base_url, found or key)


def _no_route(model: str, reason: str) -> ModelFailed:
    return ModelFailed(
        f"{model!r} cannot be used: {reason}. No model was called.",
        next_step="Pin another model, or name an OpenAI-compatible endpoint: `openai/MODEL` with base_url.",
        kind="bad_request",
    )


async def _ask(litellm: Any, request: Request, key: str | None, client: Any) -> Any | None:
    """litellm's reply, or None where it made an error of it; the wire knows which."""
    try:
        return await litellm.acompletion(
            model=request.model, messages=_messages(request), max_tokens=request.max_output_tokens,
            timeout=request.timeout_s, api_key=key, base_url=request.base_url, client=client,
            max_retries=0, num_retries=0, fallbacks=None, caching=False, drop_params=True, stream=False,
        )  # fmt: skip
    except Exception as error:
        # Its class and text say less than the wire does, and the text may quote the prompt or the key.
        _log.debug("litellm raised %s", type(error).__name__)
        return None


def _client(request: Request, route: _Route, wire: OneRequest) -> Any:
    """A client of both kinds that litellm may want for a model: its own HTTP handler, and the OpenAI SDK's."""
    import httpx
    import openai

    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    http = httpx.AsyncClient(transport=wire)
    client = _client_class(handlers.AsyncHTTPHandler)(transport=wire)
    client.client = http
    client.sdk = openai.AsyncOpenAI(
        api_key=route.key or NO_KEY, base_url=route.base_url, http_client=http, max_retries=0,
        timeout=request.timeout_s,
    )  # fmt: skip
    return client


def _client_class(handler: type[Any]) -> type[Any]:
    def sdk_attribute(self: Any, name: str) -> Any:
        return getattr(self.__dict__["sdk"], name)

    return type("OneRequestClient", (handler,), {"__getattr__": sdk_attribute})


def _messages(request: Request) -> list[dict[str, Any]]:
    """The messages as litellm takes them. Neighbours of one role are one: some models' chat templates refuse two."""
    marked = _marked(request)
    messages = []
    for role, group in groupby(enumerate(request.messages), key=lambda numbered: numbered[1].role):
        said = list(group)
        plain = "\n\n".join(message.content for _, message in said)
        is_plain = marked.isdisjoint(at for at, _ in said)
        messages.append({"role": role, "content": plain if is_plain else [_block(m, at in marked) for at, m in said]})
    return messages


def _marked(request: Request) -> set[int]:
    """Where marks go: the end of what every such call begins with, and of what the next call of the task begins with.

    Each mark is a write to the provider's cache, at a premium, and four are the most that any provider takes.
    """
    if not wants_cache_marks(request.model):
        return set()
    ends = [at for at, message in enumerate(request.messages) if message.ends_prefix]
    return {*ends[:1], *ends[-1:]}


def _block(message: Message, is_marked: bool) -> dict[str, Any]:
    mark = {"cache_control": {"type": "ephemeral"}} if is_marked else {}
    return {"type": "text", "text": message.content, **mark}


def _completion(request: Request, reply: Any | None, wire: OneRequest) -> Completion:
    """What was paid for, as the body tells it, even where litellm could not read it. Raises ModelFailed."""
    body = read_body(wire.body)
    if wire.broke or wire.status is None or not 200 <= wire.status < 300 or body is None or body.get("error"):
        raise failure(request.model, wire.trouble(), key=request.api_key_env)
    text, finish = _said(reply) or read_choice(body) or ("", None)
    usage = read_usage(body, has_text=bool(text))
    if finish is None and usage == Usage():
        raise failure(request.model, wire.trouble(), key=request.api_key_env)
    return Completion(
        text=text,
        finish=_FINISHES.get(finish or "", "other"),
        usage=usage,
        served_model=served_model(body),
        reported_cost_nanousd=reported_cost(body),
    )


def _said(reply: Any | None) -> tuple[str, str | None] | None:
    choices = getattr(reply, "choices", None)
    return (choices[0].message.content or "", choices[0].finish_reason) if choices else None
