"""Request bodies of both wires, typed, and their translation into one request for the script."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.types import Receive

from deploy.scripted_model.conversation import ContentPart, FunctionCall, Message, ToolCall, read_conversation
from deploy.scripted_model.directives import DirectiveError, parse_directives
from deploy.scripted_model.refusal import Refused
from deploy.scripted_model.script import Request, Tool
from deploy.scripted_model.settings import MAX_BODY_BYTES

_T = TypeVar("_T")


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a streamed chat completion."""

    include_usage: bool = False


class FunctionSpec(msgspec.Struct, frozen=True):
    """A function as Chat Completions declares it."""

    name: str
    parameters: dict[str, Any] | None = None


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool of either wire: Chat nests the function, Responses does not."""

    type: str = "function"
    function: FunctionSpec | None = None
    name: str | None = None
    parameters: dict[str, Any] | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """A tool choice that names a function, in either wire's form."""

    type: str = "function"
    function: FunctionSpec | None = None
    name: str | None = None


class ChatBody(msgspec.Struct, frozen=True):
    """What this model reads of a chat completions request; the rest is ignored."""

    messages: list[Message]
    model: str = "scripted"
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: str | ToolChoice | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    scripted: dict[str, Any] | None = None


class InputItem(msgspec.Struct, frozen=True):
    """One item of a Responses input: a message, or a function call or its output."""

    type: str = "message"
    role: str = "user"
    content: str | list[ContentPart] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[ContentPart] | None = None


class ResponsesBody(msgspec.Struct, frozen=True):
    """What this model reads of a Responses request; the rest is ignored."""

    input: str | list[InputItem] = ""
    model: str = "scripted-responses"
    instructions: str | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    scripted: dict[str, Any] | None = None


async def read_body(receive: Receive) -> bytes:
    """Return the whole body; raises `Refused` (413) beyond the bound and (400) if the caller left halfway."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The request ended before its body did.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise Refused(413, f"The request body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def decode(body: bytes, form: type[_T]) -> _T:
    """Return `body` as `form`; raises `Refused` with what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.ValidationError as error:
        raise Refused(400, f"Invalid request: {error}") from None
    except (msgspec.DecodeError, RecursionError):
        raise Refused(400, "The request body is not JSON that can be read.") from None


def chat_request(body: ChatBody) -> Request:
    """Return what the script needs to know of a chat request; raises `Refused` for what it cannot do."""
    if body.n is not None and body.n != 1:
        raise Refused(400, "This model gives one choice per request.", param="n")
    if not body.messages:
        raise Refused(400, "Invalid request: messages must not be empty.", param="messages")
    return _request(body.messages, body.tools, body.tool_choice, body.scripted)


def responses_request(body: ResponsesBody) -> Request:
    """Return what the script needs to know of a Responses request; raises `Refused` for what it cannot do."""
    if body.previous_response_id is not None:
        raise Refused(400, "This model does not keep conversations.", param="previous_response_id")
    messages = [Message(role="system", content=body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        messages.append(Message(role="user", content=body.input))
    else:
        messages += [_message(item) for item in body.input if item.type != "reasoning"]
    try:
        tools = msgspec.convert(body.tools or [], list[ToolSpec])
        choice = msgspec.convert(body.tool_choice, str | ToolChoice | None)
    except msgspec.ValidationError as error:
        raise Refused(400, f"Invalid request: {error}", param="tools") from None
    return _request(messages, tools, choice, body.scripted)


def _message(item: InputItem) -> Message:
    match item.type:
        case "function_call":
            call = ToolCall(item.call_id, FunctionCall(item.name, item.arguments))
            return Message(role="assistant", tool_calls=[call])
        case "function_call_output":
            return Message(role="tool", content=item.output, tool_call_id=item.call_id)
        case _:
            return Message(role=item.role, content=item.content)


def _request(
    messages: list[Message],
    tools: list[ToolSpec] | None,
    choice: str | ToolChoice | None,
    scripted: dict[str, Any] | None,
) -> Request:
    conversation = read_conversation(messages)
    try:
        directives = parse_directives(conversation.directives, scripted)
    except DirectiveError as error:
        raise Refused(400, str(error), param="scripted") from None
    offered = () if choice == "none" else tuple(_tools(tools or []))
    named = (choice.function.name if choice.function else choice.name) if isinstance(choice, ToolChoice) else None
    if named is not None and all(tool.name != named for tool in offered):
        raise Refused(400, f"Tool choice {named[:80]!r} is not among the tools.", param="tool_choice")
    return Request(conversation, directives, offered, choice == "required" or named is not None, named)


def _tools(specs: list[ToolSpec]) -> list[Tool]:
    tools = []
    for spec in specs:
        name = spec.function.name if spec.function else spec.name
        if spec.type == "function" and name:
            tools.append(Tool(name, (spec.function.parameters if spec.function else spec.parameters) or {}))
    return tools
