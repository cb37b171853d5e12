"""A server with the tools, resources and prompts that the conformance suite asks for by name, behind our own door.

Only the names, and the texts that the suite looks for, are the suite's. What is under test is `server.http_app`: the
keeper, the transport's security and the transport, wired as the product wires them.
"""

from __future__ import annotations

import base64
import json
import logging
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import uvicorn
from mcp import types
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from pydantic import Field

from mcp_tierkit.server import http_app
from mcp_tierkit.web import http_token

Ctx = Context[Any, Any]
Asking = types.InputRequiredResult
Region = Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]
Content = types.TextContent | types.ImageContent | types.AudioContent | types.EmbeddedResource
# A white pixel, and two samples of silence.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
SILENCE = "UklGRigAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQQAAAAAAAAA"


def text(words: str) -> types.TextContent:
    return types.TextContent(type="text", text=words)


def resource(uri: str, words: str, mime_type: str = "text/plain") -> types.EmbeddedResource:
    held = types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return types.EmbeddedResource(type="resource", resource=held)


IMAGE = types.ImageContent(type="image", data=PIXEL, mime_type="image/png")
AUDIO = types.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")
FIXED: dict[str, list[Content]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [AUDIO],
    "test_embedded_resource": [resource("test://embedded-resource", "This is an embedded resource content.")],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        IMAGE,
        resource("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
    ],
}


def fields(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def one_of(*values: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), **more}


def titled(**titles: str) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in titles.items()]


STRING = {"type": "string"}
DEFAULTS = fields(
    name={"type": "string", "default": "John Doe"},
    age={"type": "integer", "default": 30},
    score={"type": "number", "default": 95.5},
    status=one_of("active", "inactive", "pending", default="active"),
    verified={"type": "boolean", "default": True},
)
ENUMS = fields(
    untitledSingle=one_of("option1", "option2", "option3"),
    titledSingle={"type": "string", "oneOf": titled(value1="First", value2="Second", value3="Third")},
    legacyEnum=one_of("opt1", "opt2", "opt3", enumNames=["One", "Two", "Three"]),
    untitledMulti={"type": "array", "items": one_of("option1", "option2", "option3")},
    titledMulti={"type": "array", "items": {"anyOf": titled(value1="First", value2="Second", value3="Third")}},
)
SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": STRING, "city": STRING}}},
    "properties": {
        "name": STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": one_of("phone", "email"),
        "phone": STRING,
        "email": STRING,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def build_fixtures() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("tierkit-fixtures", version="1", log_level="WARNING")
    for name, contents in FIXED.items():
        _add(server, name, lambda contents=contents: contents)
    for tool in (*TOOLS, *ASKING):
        _add(server, tool.__name__, tool)
    _add(server, "json_schema_2020_12_tool", lambda: "unused")
    # The SDK has no public way to give a tool a schema of its own.
    server._tool_manager._tools["json_schema_2020_12_tool"].parameters = SCHEMA_2020_12
    _add_changes(server)
    _add_resources(server)
    for prompt in PROMPTS:
        server.prompt(description=f"Fixture {prompt.__name__}.")(prompt)
    _add_legacy(server)
    return server


def _add(server: MCPServer[Any], name: str, tool: Callable[..., Any]) -> None:
    server.add_tool(tool, name=name, description=f"Fixture {name}.", structured_output=False)


# --- tools that do something ----------------------------------------------------------------------


def test_error_handling() -> str:
    raise RuntimeError("This tool intentionally returns an error for testing")


def test_x_mcp_header(region: Region = "none") -> str:  # noqa: PT028
    return region


async def test_tool_with_progress(ctx: Ctx) -> str:
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"{done} of 100")
    return "done"


async def test_tool_with_logging(ctx: Ctx) -> str:
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(words)
        await anyio.sleep(0.05)
    return "done"


async def test_logging_tool(ctx: Ctx) -> str:
    await ctx.info("said whether or not anybody asked for logs")
    return "done"


async def test_reconnection(ctx: Ctx) -> str:
    await ctx.close_sse_stream()
    await anyio.sleep(0.2)
    return "done"


async def test_sampling(prompt: str, ctx: Ctx) -> str:
    asked = types.SamplingMessage(role="user", content=text(prompt))
    answer = await ctx.session.create_message([asked], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {_words(answer)}"


async def test_elicitation(message: str, ctx: Ctx) -> str:
    return await _elicit(ctx, message, fields(username=STRING, email=STRING))


async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
    return await _elicit(ctx, "Please check these", DEFAULTS)


async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
    return await _elicit(ctx, "Please choose", ENUMS)


async def _elicit(ctx: Ctx, message: str, schema: dict[str, Any]) -> str:
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"


async def test_missing_capability(ctx: Ctx) -> str:
    _need(ctx, "sampling")
    return "declared"


def _need(ctx: Ctx, capability: str) -> None:
    if not getattr(ctx.session.client_capabilities, capability, None):
        message = f"This tool needs the client's {capability}."
        needed: dict[str, Any] = {"requiredCapabilities": {capability: {}}}
        raise MCPError(code=types.MISSING_REQUIRED_CLIENT_CAPABILITY, message=message, data=needed)


TOOLS: tuple[Callable[..., Any], ...] = (
    test_error_handling, test_x_mcp_header, test_tool_with_progress, test_tool_with_logging, test_logging_tool,
    test_reconnection, test_sampling, test_elicitation, test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums, test_missing_capability,
)  # fmt: skip


# --- tools that answer with a question --------------------------------------------------------------


def form(message: str, **properties: Any) -> types.ElicitRequest:
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=message, requested_schema=fields(**properties))
    )


def sample(question: str) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=text(question))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=50))


def ask(state: str | None = None, **questions: Any) -> Asking:
    return Asking(input_requests=questions, request_state=state)


def answers(ctx: Ctx, *names: str) -> list[Any] | None:
    """The client's answers of those names; None until it has given all of them."""
    given = ctx.input_responses or {}
    return [given[name] for name in names] if all(name in given for name in names) else None


def _field(answer: Any, name: str) -> str:
    return str((getattr(answer, "content", None) or {}).get(name, "nobody"))


def _words(answer: Any) -> str:
    return str(getattr(answer.content, "text", answer.content))


async def test_input_required_result_elicitation(ctx: Ctx) -> str | Asking:
    given = answers(ctx, "user_name")
    return f"Hello, {_field(given[0], 'name')}!" if given else ask(user_name=form("Your name?", name=STRING))


async def test_input_required_result_sampling(ctx: Ctx) -> str | Asking:
    given = answers(ctx, "capital_question")
    return _words(given[0]) if given else ask(capital_question=sample("What is the capital of France?"))


async def test_input_required_result_list_roots(ctx: Ctx) -> str | Asking:
    given = answers(ctx, "client_roots")
    return f"{len(given[0].roots)} roots" if given else ask(client_roots=types.ListRootsRequest())


async def test_input_required_result_request_state(ctx: Ctx) -> str | Asking:
    given = answers(ctx, "confirm")
    return f"state-ok: {ctx.request_state}" if given else ask("seen", confirm=form("Sure?", ok={"type": "boolean"}))


async def test_input_required_result_tampered_state(ctx: Ctx) -> str | Asking:
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> str | Asking:
    if answers(ctx, "user_name", "greeting", "client_roots"):
        return "all there"
    name, greeting = form("Your name?", name=STRING), sample("Greet somebody")
    return ask("three", user_name=name, greeting=greeting, client_roots=types.ListRootsRequest())


async def test_input_required_result_multi_round(ctx: Ctx) -> str | Asking:
    known = json.loads(ctx.request_state or "{}")
    if first := answers(ctx, "step1"):
        known["name"] = _field(first[0], "name")
        return ask(json.dumps(known), step2=form("Your colour?", color=STRING))
    if "name" in known and (second := answers(ctx, "step2")):
        return f"{known['name']} likes {_field(second[0], 'color')}"
    return ask("{}", step1=form("Your name?", name=STRING))


async def test_input_required_result_capabilities(ctx: Ctx) -> Asking:
    has = ctx.session.client_capabilities
    questions: dict[str, Any] = {}
    if has and has.sampling:
        questions["sampled"] = sample("Say hello")
    if has and has.elicitation:
        questions["asked"] = form("Your name?", name=STRING)
    return ask("some", **questions)


async def test_streaming_elicitation(ctx: Ctx) -> str | Asking:
    await ctx.report_progress(1, 2, "about to ask")
    return await test_input_required_result_elicitation(ctx)


ASKING: tuple[Callable[..., Any], ...] = (
    test_input_required_result_elicitation, test_input_required_result_sampling,
    test_input_required_result_list_roots, test_input_required_result_request_state,
    test_input_required_result_tampered_state, test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round, test_input_required_result_capabilities, test_streaming_elicitation,
)  # fmt: skip


# --- lists that change, resources, prompts ------------------------------------------------------------


def _add_changes(server: MCPServer[Any]) -> None:
    async def test_trigger_tool_change(ctx: Ctx) -> str:
        _add(server, "test_passing", lambda: "unused")
        server.remove_tool("test_passing")
        await ctx.notify_tools_changed()
        return "changed"

    async def test_trigger_prompt_change(ctx: Ctx) -> str:
        server.add_prompt(Prompt.from_function(lambda: "unused", name="test_passing"))
        server.remove_prompt("test_passing")
        await ctx.notify_prompts_changed()
        return "changed"

    for tool in (test_trigger_tool_change, test_trigger_prompt_change):
        _add(server, tool.__name__, tool)


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PIXEL)

    @server.resource("test://watched-resource")
    def watched() -> str:
        return "It never changes."

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def templated(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        return types.Completion(values=[], total=0, has_more=False)


def test_simple_prompt() -> list[UserMessage]:
    return [UserMessage(text("This is a simple prompt for testing."))]


def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    return [UserMessage(text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]


def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    return [UserMessage(resource(resourceUri, "Embedded resource content for testing.")), UserMessage(text("Use it."))]


def test_prompt_with_image() -> list[UserMessage]:
    return [UserMessage(IMAGE), UserMessage(text("Look at it."))]


async def test_input_required_result_prompt(ctx: Ctx) -> list[UserMessage] | Asking:
    given = answers(ctx, "user_context")
    return [UserMessage(text(_field(given[0], "context")))] if given else ask(user_context=form("Why?", context=STRING))


PROMPTS: tuple[Callable[..., Any], ...] = (
    test_simple_prompt, test_prompt_with_arguments, test_prompt_with_embedded_resource, test_prompt_with_image,
    test_input_required_result_prompt,
)  # fmt: skip


def _add_legacy(server: MCPServer[Any]) -> None:
    """Methods of the handshake era that the SDK's high-level server leaves out."""

    async def accept(ctx: Any, params: Any) -> types.EmptyResult:
        return types.EmptyResult()

    low = server._lowlevel_server
    low.add_request_handler("logging/setLevel", types.SetLevelRequestParams, accept)
    low.add_request_handler("resources/subscribe", types.SubscribeRequestParams, accept)
    low.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, accept)


# --- the process ----------------------------------------------------------------------------------


def main(state_dir: str, *allowed_hosts: str) -> None:
    """Serve on a free port until a signal comes; says where as the product does."""
    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # Half the scenarios provoke errors.
    warnings.simplefilter("ignore", MCPDeprecationWarning)  # The suite asks for what is deprecated too.
    state = Path(state_dir)
    listener = socket.create_server(("127.0.0.1", 0))
    hosts = [f"127.0.0.1:{listener.getsockname()[1]}", *allowed_hosts]
    app = http_app(build_fixtures(), token=http_token(state), hosts=hosts, origins=[f"http://{host}" for host in hosts])
    print(f"fixtures: http://{hosts[0]}/mcp, token in {state / 'http_token'}", file=sys.stderr, flush=True)
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    anyio.run(lambda: uvicorn.Server(settings).serve(sockets=[listener]))


if __name__ == "__main__":
    main(*sys.argv[1:])
