"""Owns a stored conversation as input items: what `GET /v1/responses/{id}/input_items` shows."""

from __future__ import annotations

from gateway.openai.openai_request import Json
from gateway.openai.responses_stored import own_messages
from shared.jobs import GenerationRequest


def input_items(request: GenerationRequest, response_id: str) -> list[Json]:
    """Return a stored request's conversation as input items, oldest first."""
    prefix = response_id.removeprefix("resp_")
    out: list[Json] = []
    for message in own_messages(request):
        for item in _items(message):
            kind = {"function_call": "fc", "function_call_output": "fco"}.get(item["type"], "msg")
            out.append({"id": f"{kind}_{prefix}_in{len(out)}", **item})
    return out


def _items(message: Json) -> list[Json]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else _shown(content, "input_text")
        item = {"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": output}
        return [{**item, "status": "completed"}]
    out: list[Json] = []
    if content is not None:
        kind = "output_text" if role == "assistant" else "input_text"
        out.append({"type": "message", "role": role, "status": "completed", "content": _shown(content, kind)})
    for call in message.get("tool_calls") or []:
        function = call.get("function", {})
        shown = {"call_id": call.get("id", ""), "name": function.get("name", ""), "status": "completed"}
        out.append({"type": "function_call", **shown, "arguments": function.get("arguments", "")})
    return out


def _shown(content: object, kind: str) -> list[Json]:
    if isinstance(content, str):
        extra: Json = {"annotations": []} if kind == "output_text" else {}
        return [{"type": kind, "text": content, **extra}]
    out: list[Json] = []
    for part in content if isinstance(content, list) else []:
        match part.get("type"):
            case "text":
                out += _shown(str(part.get("text", "")), kind)
            case "image_url":
                image = part.get("image_url") or {}
                out.append(
                    {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail", "auto")}
                )
            case "file":
                out.append({"type": "input_file", **(part.get("file") or {})})
            case _:
                out.append(part)
    return out
