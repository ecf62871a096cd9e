"""Owns the AI SDK's `UIMessage`, as far as a model must know it: from there to Chat Completions messages.

Text and files become content, answered tool calls become `tool_calls` and `tool` messages, split where a step
began; what was thought stands with what came of it. What only concerns a user interface (sources, data, calls
without an answer) is left out.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from gateway.protocols.openai_common import told_arguments
from gateway.thoughts import FIELD
from shared.errors import InvalidRequest
from shared.message import Message, ReasoningPart, StepPart, TextPart, ToolPart

_PART_SCHEMA: dict[str, Any] = {"required": ["type"], "properties": {"type": {"type": "string"}}}
Part = dict[str, Any]
ChatMessage = dict[str, Any]
"""A Chat Completions message; a dictionary because that is how it is stored and sent on."""


class UiMessage(Struct):
    """A message as `useChat` keeps it. Parts stay as they came; their forms differ between releases."""

    role: Literal["system", "user", "assistant"]
    parts: list[Annotated[Part, Meta(extra_json_schema=_PART_SCHEMA)]] = []
    id: str = ""
    content: Annotated[str | None, Meta(description="Instead of parts, for hand-written requests.")] = None


def to_chat_messages(messages: Iterable[UiMessage]) -> list[ChatMessage]:
    """Return the conversation for a model; raise `InvalidRequest` for parts that have no meaning to one."""
    out: list[ChatMessage] = []
    for message in messages:
        parts = _parts_of(message)
        if message.role == "assistant":
            out += _assistant(parts)
        elif message.role == "system":
            out.append({"role": "system", "content": "".join(_texts(parts))})
        elif content := _user_content(parts):
            out.append({"role": "user", "content": content})
    return out


def final_to_chat_messages(final: Message) -> list[ChatMessage]:
    """Return a stored answer as a later turn shows it to a model."""
    parts: list[Part] = []
    for part in final.parts:
        match part:
            case StepPart():
                parts.append({"type": "step-start"})
            case TextPart(text=text):
                parts.append({"type": "text", "text": text})
            case ReasoningPart(text=text):
                parts.append({"type": "reasoning", "text": text})
            case ToolPart():
                parts.append({
                    "type": "dynamic-tool", "toolName": part.tool_name, "toolCallId": part.tool_call_id,
                    "state": part.state, "input": part.input, "output": part.output, "errorText": part.error_text,
                    "callProviderMetadata": part.provider_metadata,
                })  # fmt: skip
            case _:
                pass
    return _assistant(parts)


def tool_name(part: Part) -> str | None:
    """Return the tool that a part is a call of, None for other parts."""
    kind = part.get("type")
    if kind == "dynamic-tool":
        return str(part.get("toolName") or "")
    return kind[5:] if isinstance(kind, str) and kind.startswith("tool-") else None


def _parts_of(message: UiMessage) -> list[Part]:
    if message.parts or message.content is None:
        return message.parts
    return [{"type": "text", "text": message.content}]


def _texts(parts: Sequence[Part], kind: str = "text") -> list[str]:
    return [part["text"] for part in parts if part.get("type") == kind and isinstance(part.get("text"), str)]


def _user_content(parts: Sequence[Part]) -> str | list[Part]:
    """Return plain text where that is all there is: every model takes it, and not every one takes a list."""
    content: list[Part] = []
    for part in parts:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            content.append({"type": "text", "text": part["text"]})
        elif part.get("type") == "file":
            content.append(_file(part))
    if content and all(piece["type"] == "text" for piece in content):
        return "\n\n".join(piece["text"] for piece in content)
    return content


def _file(part: Part) -> Part:
    url, media = part.get("url"), part.get("mediaType")
    if not isinstance(url, str) or not isinstance(media, str):
        raise InvalidRequest("a file part has a url and a mediaType")
    if media.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if not url.startswith("data:"):
        raise InvalidRequest(f"a file of type {media[:80]} must come as a data URL")
    if media.startswith("text/") or media == "application/json":
        return {"type": "text", "text": _text_of(url)}  # every model reads it so, and few take it as a file
    if media.startswith("audio/"):
        kind = {"audio/wav": "wav", "audio/x-wav": "wav"}.get(media, "mp3")
        return {"type": "input_audio", "input_audio": {"data": url.partition(",")[2], "format": kind}}
    return {"type": "file", "file": {"filename": str(part.get("filename") or "file"), "file_data": url}}


def _text_of(url: str) -> str:
    header, _, data = url.partition(",")
    raw = unquote_to_bytes(data)
    if header.endswith(";base64"):
        try:
            raw = b64decode(raw)
        except ValueError:
            raise InvalidRequest("a file's data URL is not base64") from None
    return raw.decode("utf-8-sig", "replace")


def _assistant(parts: Sequence[Part]) -> list[ChatMessage]:
    out: list[ChatMessage] = []
    block: list[Part] = []
    for part in parts:
        # What is said behind an answered call was said in view of the answer, whether or not a step says so.
        said = part.get("type") in ("text", "reasoning")
        if part.get("type") == "step-start" or (said and any(map(_answered, block))):
            out += _block(block)
            block = []
        block.append(part)
    return out + _block(block)


def _answered(part: Part) -> bool:
    return tool_name(part) is not None and part.get("state") in ("output-available", "output-error")


def _block(parts: Sequence[Part]) -> list[ChatMessage]:
    """Return one model call: what it thought and said, the calls it made, and what came back."""
    text, thought = "".join(_texts(parts)), "".join(_texts(parts, "reasoning"))
    calls = [part for part in parts if _answered(part)]
    if not text and not calls:
        return []
    message: ChatMessage = {"role": "assistant", "content": text or None, **({FIELD: thought} if thought else {})}
    if not calls:
        return [message]
    message["tool_calls"] = [_call(part) for part in calls]
    results = [
        {"role": "tool", "tool_call_id": str(part.get("toolCallId") or ""), "content": _result(part)} for part in calls
    ]
    return [message, *results]


def _call(part: Part) -> Part:
    function = {"name": tool_name(part), "arguments": _arguments(part)}
    call: Part = {"id": str(part.get("toolCallId") or ""), "type": "function", "function": function}
    signature = _signature(part.get("callProviderMetadata"))
    return {**call, "extra_content": {"google": {"thought_signature": signature}}} if signature else call


def _signature(metadata: object) -> str | None:
    """Return what Google's models want back with a call. No Chat Completions API has a word for anything else there."""
    google = metadata.get("google") if isinstance(metadata, dict) else None
    if not isinstance(google, dict):
        return None
    # The second is how the AI SDK's own provider writes it, in messages from before.
    found = google.get("thought_signature") or google.get("thoughtSignature")
    return found if isinstance(found, str) else None


def _arguments(part: Part) -> str:
    value = part.get("rawInput") if part.get("input") is None else part["input"]
    if isinstance(value, str):
        return told_arguments(value)
    return _json({} if value is None else value)


def _result(part: Part) -> str:
    if part["state"] == "output-error":
        return _json({"error": part.get("errorText") or "the tool failed"})
    output = part.get("output")
    return output if isinstance(output, str) else _json(output)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
