"""Owns writing a Chat Completions request in the form of the Responses API. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.jobs import GenerationRequest

_OURS = frozenset(("model", "messages", "input", "stream", "stream_options", "background", "store", "n"))
_RENAMED = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}


def responses_body(request: GenerationRequest) -> dict[str, Any]:
    """Return the body: messages as input items, parameters under their Responses names, unknown ones as they are.

    In this API a function is strict, and an answer is kept, unless it says otherwise; in Chat Completions only if it
    says so. A request that did not come in this API's form follows the rule of Chat Completions.
    """
    ours = request.wire == "responses"
    strict = {} if ours else {"strict": False}
    nested: dict[str, dict[str, Any]] = {}  # what is one parameter there, and here a field of another
    body: dict[str, Any] = {"input": [item for message in request.messages for item in _items(message)]}
    if not ours or request.options.get("store") is False:
        body["store"] = False
    for name, value in request.params.items():
        match name:
            case _ if name in _OURS:
                continue
            case "modalities" if value == ["text"]:
                continue  # all there is, and no parameter here
            case "tools" if isinstance(value, list):
                body["tools"] = [_tool(tool, strict) for tool in value]
            case "tool_choice" if isinstance(value, dict):
                body["tool_choice"] = _tool_choice(value)
            case "response_format" if isinstance(value, dict):
                nested.setdefault("text", {})["format"] = _format(value)
            case "verbosity":
                nested.setdefault("text", {})["verbosity"] = value
            case "reasoning_effort":
                nested.setdefault("reasoning", {})["effort"] = value
            case _:
                body[_RENAMED.get(name, name)] = value
    for name, fields in nested.items():
        given = body.get(name)
        body[name] = {**given, **fields} if isinstance(given, dict) else fields
    return body


def _items(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    role = message.get("role")
    if role == "tool":
        output = _output(message.get("content"))
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": output}
        return
    content, refusal = message.get("content"), message.get("refusal")
    if content:
        yield {"role": role, "content": content if isinstance(content, str) else _content(content, role)}
    if isinstance(refusal, str) and refusal:
        yield {"role": role, "content": [{"type": "refusal", "refusal": refusal}]}
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = _function(call) or {}  # of what is no call the API itself says what is wrong
        yield {
            "type": "function_call",
            "call_id": call.get("id", "") if isinstance(call, dict) else "",
            "name": function.get("name", ""),
            "arguments": function.get("arguments", ""),
        }


def _content(parts: Any, role: Any) -> list[dict[str, Any]]:
    out = []
    for part in parts if isinstance(parts, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            out.append({"type": "output_text" if role == "assistant" else "input_text", "text": part.get("text", "")})
        elif kind == "image_url":
            image = part.get("image_url")
            fields = image if isinstance(image, dict) else {"url": image}
            detail = {"detail": fields["detail"]} if fields.get("detail") else {}
            out.append({"type": "input_image", "image_url": fields.get("url"), **detail})
        elif kind == "file" and isinstance(part.get("file"), dict):
            out.append({"type": "input_file", **part["file"]})
        elif isinstance(part, dict):
            out.append(part)
    return out


def _output(content: Any) -> str | list[dict[str, Any]]:
    """Return what a tool gave: text as one text, anything else in parts."""
    if isinstance(content, str):
        return content
    parts = _content(content, "tool")
    return parts if any(part.get("type") != "input_text" for part in parts) else "".join(_texts(parts))


def _texts(parts: Any) -> Iterator[str]:
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def _tool(tool: Any, strict: dict[str, bool]) -> Any:
    function = _function(tool)
    if function is None:
        return tool
    given = {} if function.get("strict") is None else {"strict": function["strict"]}
    return {"type": "function", **function, **strict, **given}


def _tool_choice(choice: dict[str, Any]) -> dict[str, Any]:
    function, allowed = _function(choice), choice.get("allowed_tools")
    if function is not None:
        return {"type": "function", **function}
    if not isinstance(allowed, dict) or not isinstance(allowed.get("tools"), list):
        return choice
    tools = [
        {"type": "function", **named} if (named := _function(tool)) is not None else tool for tool in allowed["tools"]
    ]
    return {"type": "allowed_tools", "mode": allowed.get("mode", "auto"), "tools": tools}


def _function(value: Any) -> dict[str, Any] | None:
    function = value.get("function") if isinstance(value, dict) else None
    return function if isinstance(function, dict) else None


def _format(value: dict[str, Any]) -> dict[str, Any]:
    schema = value.get("json_schema")
    return {"type": value.get("type"), **schema} if isinstance(schema, dict) else value
