"""Owns putting tool calls together from their deltas: repeated ids and names, whole calls in one piece, no index."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared import events as ev


@dataclass(slots=True)
class _Call:
    call_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    told: bool = False


class ToolCalls:
    """The tool calls of one answer, in the order in which they came up."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[object, _Call] = {}

    def feed(self, deltas: object) -> list[ev.Event]:
        """Take a delta's `tool_calls` and return what is new in them; shapes that make no sense are skipped."""
        out: list[ev.Event] = []
        if not isinstance(deltas, list):
            return out
        for position, delta in enumerate(deltas):
            if isinstance(delta, dict):
                function = delta.get("function")
                call = self._find(delta, position)
                self._extend(call, function if isinstance(function, dict) else {}, out)
        return out

    def close(self) -> list[ev.Event]:
        """Return the whole input of every call, or what is wrong with it."""
        return [self._result(call) for call in self._calls if call.told]

    def _find(self, delta: dict[str, Any], position: int) -> _Call:
        index = delta.get("index")
        key = index if isinstance(index, int) else ("at", position)
        call_id = _text(delta.get("id"))
        known = self._by_index.get(key)
        # Some servers send parallel calls whole and all under index 0; only their ids tell them apart.
        if known is None or (call_id and known.told and call_id != known.call_id):
            known = _Call(call_id or f"call_{secrets.token_hex(8)}")
            self._calls.append(known)
            self._by_index[key] = known
        return known

    def _extend(self, call: _Call, function: dict[str, Any], out: list[ev.Event]) -> None:
        arguments = function.get("arguments")
        if isinstance(arguments, dict):  # sent as an object instead of its JSON text
            arguments = msgspec.json.encode(arguments).decode()
        piece = _text(arguments)
        name = _text(function.get("name"))
        if piece:
            call.arguments.append(piece)
        if not call.told and (call.name or name):
            # An id or name that comes again is the same one, never a continuation.
            call.name = call.name or name
            call.told = True
            out.append(ev.ToolInputStart(call.call_id, call.name))
            piece = "".join(call.arguments)
        if call.told and piece:
            out.append(ev.ToolInputDelta(call.call_id, piece))

    @staticmethod
    def _result(call: _Call) -> ev.Event:
        return tool_input(call.call_id, call.name, "".join(call.arguments))


def tool_input(call_id: str, name: str, text: str) -> ev.ToolInputAvailable | ev.ToolInputError:
    """Return the event for a call's whole input; no text at all means no arguments."""
    try:
        given = msgspec.json.decode(text or "{}")
    except (ValueError, RecursionError):
        return ev.ToolInputError(call_id, name, text, "The model wrote tool input that is not valid JSON.")
    if ev.too_deep(f"[{text}]".encode("utf-8", "replace")):  # it will be one level deeper, too
        return ev.ToolInputError(call_id, name, text, "The model wrote tool input that is nested too deeply.")
    return ev.ToolInputAvailable(call_id, name, given)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
