"""Owns how a `UIMessage` that exists becomes the chunks that build it again: what a continued answer replays first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shared.events import encode_json

Chunk = dict[str, Any]
_PLAIN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "file": (("url", "mediaType"), ()),
    "source-url": (("sourceId", "url"), ("title",)),
    "source-document": (("sourceId", "mediaType", "title"), ("filename",)),
}
"""Parts that are one chunk: fields they must have and may have. A chunk that lacks one is fatal to a client."""


def rebuild(parts: Iterable[Any]) -> list[Chunk]:
    """Return chunks after which a client has `parts`; what no chunk can make is left out.

    An answered tool call is made of its streamed input and its output, never of `tool-input-available`: that chunk
    makes clients run the tool (`onToolCall`), and this one has been run.
    """
    out: list[Chunk] = []
    for number, part in enumerate(parts):
        if isinstance(part, dict):
            out += _part(part, f"p{number}")
    return out


def _part(part: Chunk, part_id: str) -> list[Chunk]:
    kind = part.get("type")
    if kind == "step-start":
        return [{"type": "start-step"}]
    if kind in ("text", "reasoning") and isinstance(part.get("text"), str):
        return [
            {"type": f"{kind}-start", "id": part_id},
            {"type": f"{kind}-delta", "id": part_id, "delta": part["text"]},
            {"type": f"{kind}-end", "id": part_id},
        ]
    if not isinstance(kind, str):
        return []
    if kind in _PLAIN:
        return _plain(kind, part)
    if kind.startswith("data-"):
        return [{"type": kind, **_strings(part, ("id",)), "data": part.get("data")}]
    if kind == "dynamic-tool":
        return _tool(part, {"toolName": part.get("toolName"), "dynamic": True})
    if kind.startswith("tool-"):
        return _tool(part, {"toolName": kind[5:]})
    return []


def _plain(kind: str, part: Chunk) -> list[Chunk]:
    required, optional = _PLAIN[kind]
    fields = _strings(part, required + optional)
    return [{"type": kind, **fields}] if all(name in fields for name in required) else []


def _strings(part: Chunk, names: Iterable[str]) -> Chunk:
    return {name: part[name] for name in names if isinstance(part.get(name), str)}


def _tool(part: Chunk, named: Chunk) -> list[Chunk]:
    call_id = part.get("toolCallId")
    if not isinstance(call_id, str) or not isinstance(named["toolName"], str):
        return []
    extra = part.get("callProviderMetadata")
    call = {"toolCallId": call_id, **named, **({"providerMetadata": extra} if isinstance(extra, dict) else {})}
    match part.get("state"):
        case "output-available":
            done = {"type": "tool-output-available", "toolCallId": call_id, "output": part.get("output")}
            return [*_input(part, call), done]
        case "output-error":
            text = str(part.get("errorText") or "")
            return [*_input(part, call), {"type": "tool-output-error", "toolCallId": call_id, "errorText": text}]
        case "input-streaming":
            return [{"type": "tool-input-start", **call}]
        case _:
            return [{"type": "tool-input-available", **call, "input": part.get("input")}]


def _input(part: Chunk, call: Chunk) -> list[Chunk]:
    text = encode_json(part.get("input")).decode()
    delta = {"type": "tool-input-delta", "toolCallId": call["toolCallId"], "inputTextDelta": text}
    return [{"type": "tool-input-start", **call}, delta]
