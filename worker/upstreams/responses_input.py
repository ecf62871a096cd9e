"""Owns writing a Chat Completions request in the form of the Responses API. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.jobs import GenerationRequest

_OURS = frozenset(("model", "messages", "input", "stream", "stream_options", "background", "store", "n"))
_RENAMED = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
_PART_TYPES = {"text": "input_text", "image_url": "input_image"}


def responses_body(request: GenerationRequest) -> dict[str, Any]:
    """Return the body: messages as input items, parameters under their Responses names, unknown ones as they are."""
    body: dict[str, Any] = {"input": [item for message in request.messages for item in _items(message)]}
    for name, value in request.params.items():
        match name:
            case _ if name in _OURS:
                continue
            case "tools" if isinstance(value, list):
                body["tools"] = [_tool(tool) for tool in value]
            case "tool_choice" if isinstance(value, dict) and isinstance(value.get("function"), dict):
                body["tool_choice"] = {"type": "function", **value["function"]}
            case "response_format" if isinstance(value, dict):
                body["text"] = {"format": _format(value)}
            case "reasoning_effort":
                body["reasoning"] = {"effort": value}
            case _:
                body[_RENAMED.get(name, name)] = value
    return body


def _items(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    role = message.get("role")
    if role == "tool":
        output = message.get("content")
        text = output if isinstance(output, str) else "".join(_texts(output))
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": text}
        return
    content = message.get("content")
    if content:
        yield {"role": role, "content": content if isinstance(content, str) else _content(content, role)}
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") or {}
        yield {
            "type": "function_call",
            "call_id": call.get("id", ""),
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
            url = image.get("url") if isinstance(image, dict) else image
            out.append({"type": _PART_TYPES[kind], "image_url": url})
        elif isinstance(part, dict):
            out.append(part)
    return out


def _texts(parts: Any) -> Iterator[str]:
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def _tool(tool: Any) -> Any:
    if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
        return {"type": "function", **tool["function"]}
    return tool


def _format(value: dict[str, Any]) -> dict[str, Any]:
    schema = value.get("json_schema")
    return {"type": value.get("type"), **schema} if isinstance(schema, dict) else value
