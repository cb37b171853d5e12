"""What litellm does that would hurt us, one test a habit: each fails if the gateway stops holding it off.

One child process shows what cannot be seen from inside a test run: stdout, `.env`, the network, the first import.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from mcp_tierkit.demo_upstream import Asked, Reply, Upstream
from mcp_tierkit.errors import ModelFailed
from mcp_tierkit.gateway import LiteLLMGateway, load_litellm
from mcp_tierkit.kit import open_kit
from mcp_tierkit.metering import call_model
from mcp_tierkit.types import Message, Route, Task, Usage
from tests.support import make_config, make_project
from tests.test_gateway import KEY, LITELLM_WARNS, PROMPT, request

pytestmark = [pytest.mark.anyio, LITELLM_WARNS]

ROOT = Path(__file__).parent.parent
# Every way to a provider that litellm takes: the OpenAI SDK, its own handler, and a handler of one provider's own.
WIRES = ("openai/m", "openrouter/vendor/m", "anthropic/m")


@pytest.fixture
async def gateway(anyio_backend: str) -> AsyncIterator[LiteLLMGateway]:
    gateway = LiteLLMGateway({"DEMO_KEY": KEY}.get)
    yield gateway
    await gateway.aclose()


def base(upstream: Upstream, model: str) -> str:
    return upstream.root_url if model.startswith("anthropic/") else upstream.base_url


# --- hidden spending ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", WIRES)
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(status=429, headers=(("retry-after", "0"),)), id="429"),
        pytest.param(Reply(status=500), id="500"),
        pytest.param(Reply(status=503), id="503"),
        pytest.param(Reply(status=408), id="408"),
        pytest.param(
            Reply(status=422, raw=b"{\"error\": {\"message\": \"[{'loc': ('body', 'max_tokens')}]\"}}"), id="422"
        ),
        pytest.param(Reply(status=400, raw=b'{"error": {"message": "prompt is too long"}}'), id="400-context"),
        pytest.param(Reply(status=307, headers=(("location", "/v1/chat/completions"),)), id="307"),
        pytest.param(Reply(cut_after=0), id="cut"),
    ],
)
async def test_a_failure_is_never_sent_again(gateway: LiteLLMGateway, model: str, reply: Reply) -> None:
    with Upstream(lambda asked: reply) as upstream:
        with pytest.raises(ModelFailed):
            await gateway.complete(request(model, base(upstream, model)))
        assert len(upstream.asked) == 1


@pytest.mark.parametrize("model", WIRES)
async def test_a_connection_that_breaks_before_any_answer_is_never_tried_again(
    gateway: LiteLLMGateway, model: str
) -> None:
    """litellm's handler posts again after a lost connection, whatever its retry settings say."""
    connections = 0

    async def slam(stream: anyio.abc.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await stream.receive()
        await stream.aclose()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, slam)
        with pytest.raises(ModelFailed) as caught:
            await gateway.complete(request(model, f"http://127.0.0.1:{port}/v1"))
        group.cancel_scope.cancel()
    assert connections == 1
    assert caught.value.kind == "bad_reply"


@pytest.mark.usefixtures("called_before")
@pytest.mark.parametrize("model", WIRES)
async def test_a_timeout_is_never_sent_again(gateway: LiteLLMGateway, model: str) -> None:
    with Upstream(lambda asked: Reply(hold="forever")) as upstream:
        for limit_s in (0.2, 5):  # A busy machine may need longer than the first before it sends anything.
            if not upstream.asked:
                with pytest.raises(ModelFailed):
                    await gateway.complete(request(model, base(upstream, model), timeout_s=limit_s))
        await anyio.to_thread.run_sync(upstream.wait_served, 1, 60)
        assert len(upstream.asked) == 1


@pytest.mark.parametrize("model", WIRES)
async def test_a_call_that_is_left_while_litellm_prepares_it_sends_nothing_owes_nothing_and_leaves_no_noise(
    tmp_path: Path, model: str, recwarn: pytest.WarningsRecorder
) -> None:
    """litellm prepares in a thread: leaving meanwhile, it would drop a coroutine that Python then warns of on stderr.

    Other warnings are not held back.
    """
    load_litellm()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    with Upstream(lambda asked: "ok") as upstream, anyio.CancelScope() as left:

        def key(name: str) -> str:
            left.cancel()  # The last step before litellm has the call.
            return KEY

        config = make_config(make_project(tmp_path / "app"), tmp_path / "home")
        kit = open_kit(config, gateway=LiteLLMGateway(key))
        route = Route(route_id="r1", task_id="t1", decision="draft", tier="cheap", rule="r", reason="r")
        await kit.ledger.open_task(Task(task_id="t1", project="/p", goal="g", created_at=datetime.now(UTC)))
        await kit.ledger.route(route)
        at = {"model": model, "base_url": base(upstream, model), "api_key_env": "DEMO_KEY"}
        tier, said_to = (await kit.tier("cheap")).model_copy(update=at), (Message(role="user", content=PROMPT),)
        await call_model(kit, route, tier, stage="draft", messages=said_to, prompt_id="p")
    await asyncio.get_running_loop().run_in_executor(None, gc.collect)  # After whatever litellm has in that thread.
    warnings.warn("a library's own", RuntimeWarning, stacklevel=1)
    [row] = await kit.ledger.calls("t1")
    await kit.ledger.close()
    assert left.cancelled_caught
    assert (row.status, row.cost_nanousd, upstream.asked) == ("cancelled", 0, ())
    assert [str(warning.message) for warning in recwarn if warning.category is RuntimeWarning] == ["a library's own"]


# --- invented figures ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", WIRES)
async def test_usage_that_was_not_reported_is_unknown(gateway: LiteLLMGateway, model: str) -> None:
    with Upstream([Reply(text="words " * 50, tokens="unsaid")]) as upstream:
        completion = await gateway.complete(request(model, base(upstream, model)))
    assert completion.usage == Usage()
    assert completion.reported_cost_nanousd is None
    assert completion.text.startswith("words")


async def test_a_model_that_litellm_prices_at_nothing_has_no_cost_here(gateway: LiteLLMGateway) -> None:
    with Upstream(lambda asked: "ok") as upstream:
        for model in ("openrouter/vendor/unknown", "anthropic/claude-haiku-4.5", "openai/unknown"):
            completion = await gateway.complete(request(model, base(upstream, model)))
            assert completion.reported_cost_nanousd is None
            assert completion.usage.output == 1


TOLD = "Could not finish the message because max_tokens or model output limit was reached. Try a higher max_tokens."


@pytest.mark.parametrize("body", [{"error": {"message": TOLD}}, {"detail": TOLD}])
async def test_an_error_that_litellm_turns_into_an_empty_answer_stays_an_error(
    gateway: LiteLLMGateway, body: dict[str, Any]
) -> None:
    """It answers this 400 itself: an empty text, finish `length`, and a prompt size counted by a tokenizer."""
    with Upstream([Reply(status=400, raw=json.dumps(body).encode())]) as upstream:
        with pytest.raises(ModelFailed) as caught:
            await gateway.complete(request("openai/gpt-5-nano", upstream.base_url))
    assert (caught.value.kind, caught.value.status) == ("bad_request", 400)


@pytest.mark.parametrize("model", ["deepseek/m", "openrouter/vendor/m", "mistral/m", "anthropic/m"])
async def test_the_served_model_is_not_an_echo_of_ours(gateway: LiteLLMGateway, model: str) -> None:
    with Upstream([Reply(model="another-model")]) as upstream:
        completion = await gateway.complete(request(model, base(upstream, model)))
    assert completion.served_model == "another-model"


# --- leaks --------------------------------------------------------------------------------------


async def test_calls_leave_no_thread_and_no_task_behind_each(gateway: LiteLLMGateway) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(status=500) if asked.number % 3 == 0 else Reply()

    async def call(upstream: Upstream, model: str) -> None:
        with suppress(ModelFailed):
            await gateway.complete(request(model, base(upstream, model)))

    with Upstream(answer) as upstream:
        for model in WIRES * 2:
            await call(upstream, model)
        before = len(asyncio.all_tasks()), threading.active_count()
        for model in WIRES * 8:
            await call(upstream, model)
        after = len(asyncio.all_tasks()), threading.active_count()
    # litellm's pool of threads may still be filling up: what must not be is one for each of the 24 calls.
    assert after[0] - before[0] < 8
    assert after[1] - before[1] < 8


@pytest.mark.parametrize("calls", [1, 3])
async def test_closing_stops_what_litellm_left_on_the_loop(gateway: LiteLLMGateway, calls: int) -> None:
    with Upstream(lambda asked: "ok") as upstream:
        for _ in range(calls):
            await gateway.complete(request(base_url=upstream.base_url))
    await gateway.aclose()
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert not [task for task in asyncio.all_tasks() if "LoggingWorker" in repr(task)]


# --- seen from outside --------------------------------------------------------------------------

_CHILD = """
    import json, os, socket, sys
    import anyio
    from mcp_tierkit import gateway as door
    from mcp_tierkit.errors import ModelFailed
    from mcp_tierkit.types import Message, Request

    base, anthropic, key = sys.argv[1:]
    seen = {"targets": [], "names": [], "loaded_before": "litellm" in sys.modules, "env": dict(os.environ)}
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def spy_connect(self, address):
        seen["targets"].append(str(address))
        return connect(self, address)

    def spy_lookup(host, *more, **named):
        seen["names"].append(str(host))
        return lookup(host, *more, **named)

    socket.socket.connect, socket.getaddrinfo = spy_connect, spy_lookup

    def request(model, base_url):
        return Request(
            task_id="t", route_id="r", stage="draft", tier="cheap", model=model, base_url=base_url, timeout_s=20,
            api_key_env="K", messages=(Message(role="user", content="hi"),), max_output_tokens=9, prompt_id="p",
        )

    async def main():
        gateway = door.LiteLLMGateway({"K": key}.get)
        seen["loaded_by_making_one"] = "litellm" in sys.modules
        kinds = []
        for model, url in (
            ("openai/m", base), ("openai/m", base), ("anthropic/m", anthropic), ("anthropic/m", anthropic),
            ("nonsense/m", base), ("bare-name", None),
        ):
            try:
                kinds.append((await gateway.complete(request(model, url))).text)
            except ModelFailed as error:
                kinds.append(error.kind)
        await gateway.aclose()
        return kinds

    seen["kinds"] = anyio.run(main)
    seen["new_env"] = sorted(set(os.environ) - set(seen["env"]))
    seen["key_in_env"] = key in os.environ.values()
    seen["secret_of_dotenv"] = os.environ.get("PLANTED")
    seen["env"] = None
    print(json.dumps(seen), file=sys.stderr)
"""


def test_a_process_that_calls_models_keeps_stdout_environment_and_network_to_itself(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PLANTED=from-the-project\nLITELLM_LOG=DEBUG\n")

    def answer(asked: Asked) -> Reply:
        said = json.dumps({"error": {"message": f"{KEY} {PROMPT}", "type": "x"}}).encode()
        return Reply(text="ok") if asked.number % 2 else Reply(status=500, raw=said)

    with Upstream(answer) as upstream:
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_CHILD), upstream.base_url, upstream.root_url, KEY],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "LITELLM_MODE": "DEV"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        port = upstream.root_url.rpartition(":")[2]
    seen: dict[str, Any] = json.loads(ran.stderr.splitlines()[-1])
    assert ran.stdout == ""
    assert seen["kinds"] == ["ok", "server", "ok", "server", "bad_request", "bad_request"]
    assert (seen["loaded_before"], seen["loaded_by_making_one"]) == (False, False)
    assert {target for target in seen["targets"] if f", {port})" not in target} == set()
    assert set(seen["names"]) <= {"127.0.0.1"}
    assert seen["secret_of_dotenv"] is None
    assert not seen["key_in_env"]
    assert [name for name in seen["new_env"] if not name.startswith("LITELLM_")] == ["TIKTOKEN_CACHE_DIR"]
    assert KEY not in ran.stderr
    assert PROMPT not in ran.stderr
