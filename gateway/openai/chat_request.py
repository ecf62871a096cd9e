"""Owns the body of `POST /v1/chat/completions`: what is accepted, and what of it goes upstream as it came."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.bodies import check_messages
from gateway.openai.openai_errors import ApiError
from gateway.openai.openai_request import Json, convert
from gateway.protocols.chat_completions import CHAT_COMPLETIONS
from gateway.protocols.chat_object import ChatOptions
from shared.errors import InvalidRequest
from shared.jobs import GenerationRequest


class StreamOptions(Struct):
    """Options of a streamed completion."""

    include_usage: bool | None = None


class CompletionBody(Struct):
    """What `POST /v1/chat/completions` takes; further fields are passed to the model."""

    messages: Annotated[
        list[dict[str, Any]] | UnsetType, Meta(description="The conversation, as Chat Completions messages.")
    ] = UNSET
    model: Annotated[str | None, Meta(description="Empty: the default model.")] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int | None, Meta(description="1: a message has one answer.")] = None
    tools: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    functions: Any = None
    function_call: Any = None


# Of the fields above, these alone are the model's business too.
_OURS = frozenset(CompletionBody.__struct_fields__) - {"tools", "modalities"}


class ChatRequest(Struct, frozen=True):
    """A checked request."""

    stream: bool
    options: ChatOptions
    generation: GenerationRequest


def read_request(tree: Json) -> ChatRequest:
    """Return the request that a body asks for; raise `ApiError` or `InvalidRequest`."""
    body = convert(tree, CompletionBody)
    messages = _messages(body)
    _refuse(body)
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    options = ChatOptions(include_usage=usage, tools=[_name(tool, at) for at, tool in enumerate(body.tools or [])])
    generation = GenerationRequest(
        model=body.model or "",
        messages=messages,
        params={name: value for name, value in tree.items() if name not in _OURS and value is not None},
        wire=CHAT_COMPLETIONS.name,
        options=msgspec.to_builtins(options),
        metadata=body.metadata or {},
    )
    return ChatRequest(bool(body.stream), options, generation)


def _messages(body: CompletionBody) -> list[Json]:
    if isinstance(body.messages, UnsetType):
        message = "Missing required parameter: 'messages'."
        raise ApiError(400, message, code="missing_required_parameter", param="messages")
    if not body.messages:
        message = "Invalid 'messages': empty array. Expected one message or more."
        raise ApiError(400, message, code="empty_array", param="messages")
    try:
        check_messages(body.messages)
    except InvalidRequest as error:
        raise ApiError(400, str(error), code="invalid_value", param="messages") from None
    return body.messages


def _refuse(body: CompletionBody) -> None:
    if body.n is not None and body.n != 1:
        raise ApiError(400, "'n' must be 1: a message has one answer.", code="unsupported_value", param="n")
    refused = {
        "logprobs": bool(body.logprobs),
        "top_logprobs": bool(body.top_logprobs),
        "modalities": "audio" in (body.modalities or ()),
        "functions": body.functions is not None,
        "function_call": body.function_call is not None,
    }
    for name, given in refused.items():
        if given:
            raise ApiError(400, f"'{name}' is not supported here.", code="unsupported_parameter", param=name)


def _name(tool: Json, at: int) -> str:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if tool.get("type", "function") != "function" or not isinstance(name, str):
        raise ApiError(400, "A tool is a function with a name.", code="unsupported_value", param=f"tools[{at}]")
    return name
