"""Owns putting tool calls together from their deltas: repeated ids and names, whole calls in one piece, no index."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import msgspec
from msgspec import UNSET, UnsetType, structs

from shared import events as ev


@dataclass(slots=True)
class _Call:
    call_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    told: bool = False
    extra: dict[str, Any] | UnsetType = UNSET
    """What the model wants back with the call (Google's signature of its thoughts)."""

    @property
    def whole(self) -> bool:
        """Whether its input is JSON as it stands."""
        if not (self.arguments and self.arguments[-1].rstrip().endswith("}")):
            return False  # spares reading all of it for each piece
        try:
            msgspec.json.decode("".join(self.arguments))
        except (ValueError, RecursionError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a delta says of a call's function."""

    name: str
    arguments: str
    extra: dict[str, Any] | UnsetType

    @classmethod
    def of(cls, delta: dict[str, Any]) -> _Piece:
        given, extra = delta.get("function"), delta.get("extra_content")
        function = given if isinstance(given, dict) else {}
        text = input_text(function.get("arguments"))
        return cls(_text(function.get("name")), text, extra if _is_by_provider(extra) else UNSET)


def _is_another(known: _Call, call_id: str, piece: _Piece) -> bool:
    """Whether a delta under the index of a `known` call begins another one: some servers count all calls as 0.

    Only with a name: others give every piece of one call an id of its own. Where no id tells them apart, another
    call is one of another function, or one whose input comes when that of the known one is whole.
    """
    if not (known.told and piece.name):
        return False
    if (call_id and call_id != known.call_id) or piece.name != known.name:
        return True
    return bool(piece.arguments) and known.whole


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
                piece = _Piece.of(delta)
                self._extend(self._find(delta, position, piece), piece, out)
        return out

    def close(self) -> list[ev.Event]:
        """Return the whole input of every call, or what is wrong with it."""
        return [self._result(call) for call in self._calls if call.told]

    def _find(self, delta: dict[str, Any], position: int, piece: _Piece) -> _Call:
        index = delta.get("index")
        key = index if isinstance(index, int) else ("at", position)
        call_id = _text(delta.get("id"))
        known = self._by_index.get(key)
        if known is None and self._calls and not (call_id or piece.name):
            known = self._calls[-1]  # it names no call, so it goes on with one that was begun under another index
        if known is None or _is_another(known, call_id, piece):
            known = self._begin(call_id)
        self._by_index[key] = known
        return known

    def _begin(self, call_id: str) -> _Call:
        """Return a new call. For everybody behind us an id is one call, so one that is taken already is no name."""
        taken = any(call.call_id == call_id for call in self._calls)
        call = _Call(call_id if call_id and not taken else f"call_{secrets.token_hex(8)}")
        self._calls.append(call)
        return call

    @staticmethod
    def _extend(call: _Call, piece: _Piece, out: list[ev.Event]) -> None:
        text = piece.arguments
        if text:
            call.arguments.append(text)
        if piece.extra is not UNSET:
            call.extra = piece.extra
        if not call.told and (call.name or piece.name):
            # An id or name that comes again is the same one, never a continuation.
            call.name = call.name or piece.name
            call.told = True
            out.append(ev.ToolInputStart(call.call_id, call.name, call.extra))
            text = "".join(call.arguments)
        if call.told and text:
            out.append(ev.ToolInputDelta(call.call_id, text))

    @staticmethod
    def _result(call: _Call) -> ev.Event:
        told = tool_input(call.call_id, call.name, "".join(call.arguments))
        return structs.replace(told, provider_metadata=call.extra) if isinstance(told, ev.ToolInputAvailable) else told


def tool_input(call_id: str, name: str, text: str) -> ev.ToolInputAvailable | ev.ToolInputError:
    """Return the event for a call's whole input; no text at all means no arguments."""
    try:
        given = msgspec.json.decode(text or "{}")
    except (ValueError, RecursionError):
        return ev.ToolInputError(call_id, name, text, "The model wrote tool input that is not valid JSON.")
    if ev.too_deep(f"[{text}]".encode("utf-8", "replace")):  # it will be one level deeper, too
        return ev.ToolInputError(call_id, name, text, "The model wrote tool input that is nested too deeply.")
    return ev.ToolInputAvailable(call_id, name, given)


def input_text(arguments: object) -> str:
    """Return a call's arguments as JSON text; some servers send the object itself."""
    return msgspec.json.encode(arguments).decode() if isinstance(arguments, dict) else _text(arguments)


def _is_by_provider(extra: object) -> TypeGuard[dict[str, Any]]:
    """Whether it has the form in which every client can keep it: an object for each provider."""
    return isinstance(extra, dict) and bool(extra) and all(isinstance(value, dict) for value in extra.values())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
