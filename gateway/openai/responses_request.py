"""Owns the body of `POST /v1/responses`: what is accepted, and what of it goes upstream under Chat Completions' names.

Parameters that we do not know are passed upstream as they came, and so are those that only the Responses API has,
where it is what the model speaks (`params_for`). What would change the meaning of the answer and cannot be done is
refused, never dropped.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.openai.openai_errors import ApiError
from gateway.openai.openai_request import NEVER_PASSED_ON, Json, convert, drop_none
from gateway.openai.responses_input import unsupported
from gateway.protocols.responses_object import ResponseOptions
from shared.models import Kind


class ResponsesBody(Struct):
    """What `POST /v1/responses` takes; further fields are passed to the model."""

    model: Annotated[str | None, Meta(description="Empty: the default model.")] = None
    input: Annotated[
        str | list[dict[str, Any]] | UnsetType, Meta(description="A user's text, or items of the Responses API.")
    ] = UNSET
    instructions: str | None = None
    previous_response_id: Annotated[str | None, Meta(description="Go on from this finished response.")] = None
    stream: bool | None = None
    background: Annotated[
        bool | None,
        Meta(description="Answer at once. A response is resumable, and goes on without its caller, anyway."),
    ] = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    truncation: str | None = None
    include: list[str] | None = None
    stream_options: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    conversation: Any = None
    prompt: Any = None


_OURS = frozenset(ResponsesBody.__struct_fields__) | NEVER_PASSED_ON


class ResponsesRequest(Struct, frozen=True):
    """A checked request: `body` as it came, `params` for the model, `options` for the wire.

    special: the parameters given that Chat Completions has no word for, by their names as clients know them.
    """

    body: ResponsesBody
    params: Json
    options: ResponseOptions
    special: list[str]

    @property
    def given(self) -> str | list[Json]:
        """The new input."""
        assert not isinstance(self.body.input, UnsetType)
        return self.body.input

    @property
    def answered(self) -> list[object]:
        """The ids of the calls that the new input answers."""
        items = [] if isinstance(self.given, str) else self.given
        return [item.get("call_id") for item in items if item.get("type") == "function_call_output"]


def read_request(tree: Json) -> ResponsesRequest:
    """Return the request that a body asks for; raise `ApiError` or `InvalidRequest`."""
    body = convert(tree, ResponsesBody)
    _refuse(body)
    params = {name: value for name, value in tree.items() if name not in _OURS and value is not None}
    special = _special(body)
    return ResponsesRequest(body, {**params, **_params(body), **special}, _options(body), _names(special))


_MORE_OUTPUT = ("include", "reasoning.summary")
"""These ask for more to be shown of what there is; many clients always send them. What a model has is shown anyway."""


def params_for(asked: ResponsesRequest, kind: Kind) -> Json:
    """Return the parameters for a model of this kind; raise `ApiError` for one that it cannot be told."""
    if kind != "chat_completions":
        return asked.params
    for name in asked.special:
        if name not in _MORE_OUTPUT:
            raise unsupported(f"'{name}' with this model", name)
    return {name: value for name, value in asked.params.items() if name not in ("include", "reasoning")}


def _refuse(body: ResponsesBody) -> None:
    if isinstance(body.input, UnsetType):
        raise ApiError(400, "Missing required parameter: 'input'.", code="missing_required_parameter", param="input")
    if body.conversation is not None:
        raise unsupported("'conversation'", "conversation")
    if body.prompt is not None:
        raise unsupported("'prompt'", "prompt")
    if body.top_logprobs:
        raise unsupported("'top_logprobs'", "top_logprobs")
    if body.background and body.store is False:
        raise ApiError(400, "A background response must be stored.", code="invalid_value", param="store")
    if body.max_output_tokens is not None and body.max_output_tokens < 1:
        raise ApiError(400, "'max_output_tokens' must be at least 1.", code="invalid_value", param="max_output_tokens")


def _params(body: ResponsesBody) -> Json:
    tools = [_tool(tool, at) for at, tool in enumerate(body.tools or [])]
    text, reasoning = body.text or {}, body.reasoning or {}
    return drop_none(
        {
            "temperature": body.temperature,
            "top_p": body.top_p,
            "max_completion_tokens": body.max_output_tokens,
            "tools": tools or None,
            "tool_choice": _tool_choice(body.tool_choice) if tools else None,
            "parallel_tool_calls": body.parallel_tool_calls if tools else None,
            "response_format": _response_format(text.get("format")),
            "verbosity": text.get("verbosity"),
            "reasoning_effort": reasoning.get("effort"),
        }
    )


def _special(body: ResponsesBody) -> Json:
    """Return what only a Responses API can be told, under its own names; what asks for the default is left out."""
    return drop_none(
        {
            "reasoning": _rest(body.reasoning, "effort"),
            "text": _rest(body.text, "format", "verbosity"),
            "include": body.include or None,
            "truncation": None if body.truncation == "disabled" else body.truncation,
            "max_tool_calls": body.max_tool_calls,
        }
    )


def _rest(value: Json | None, *told: str) -> Json | None:
    return {name: item for name, item in drop_none(value or {}).items() if name not in told} or None


def _names(special: Json) -> list[str]:
    nested = ("reasoning", "text")
    return [f"{name}.{part}" for name in nested for part in special.get(name, ())] + [
        name for name in special if name not in nested
    ]


def _tool(tool: Json, at: int) -> Json:
    if tool.get("type") != "function":
        raise unsupported(f"A tool of type {str(tool.get('type'))[:60]!r}", f"tools[{at}].type")
    if not isinstance(tool.get("name"), str):
        message = f"Missing required parameter: 'tools[{at}].name'."
        raise ApiError(400, message, code="missing_required_parameter", param=f"tools[{at}].name")
    function = {
        name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None
    }
    return {"type": "function", "function": function}


def _tool_choice(choice: str | Json | None) -> str | Json | None:
    if choice is None or isinstance(choice, str):
        return choice
    match choice.get("type"):
        case "function":
            return {"type": "function", "function": {"name": choice.get("name")}}
        case "allowed_tools":
            tools = [
                {"type": "function", "function": {"name": tool.get("name")}} for tool in _dicts(choice.get("tools"))
            ]
            return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode", "auto"), "tools": tools}}
        case kind:
            raise unsupported(f"A tool_choice of type {str(kind)[:60]!r}", "tool_choice")


def _dicts(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _response_format(form: object) -> Json | None:
    if not isinstance(form, dict) or form.get("type") == "text":
        return None
    if form.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}
    return form


def _options(body: ResponsesBody) -> ResponseOptions:
    given = {
        "background": body.background,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata,
        "parallel_tool_calls": body.parallel_tool_calls,
        "previous_response_id": body.previous_response_id,
        "reasoning": body.reasoning,
        "store": body.store,
        "temperature": body.temperature,
        "text": None if body.text is None else {"format": {"type": "text"}, **body.text},
        "tool_choice": body.tool_choice,
        "tools": body.tools,
        "top_p": body.top_p,
        "truncation": body.truncation,
    }
    return msgspec.convert(drop_none(given), ResponseOptions)
