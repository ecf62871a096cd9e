"""Owns the function calls of one response: under whichever name a server has them, each is begun once and has its input
once, and the pieces of it add up. Pure.
"""

from __future__ import annotations

from typing import Any

from shared import events as ev
from worker.upstreams.responses_output import text_of
from worker.upstreams.tool_calls import input_text, tool_input

Call = tuple[str, str]
"""Its id and the function's name."""


class Calls:
    """Reads the events that tell of calls; each of them is a stream event's fields."""

    def __init__(self) -> None:
        self._calls: dict[object, Call] = {}
        """By every name that its item has."""
        self._told: set[str] = set()
        self._pieces: dict[str, list[str]] = {}
        """Those of each call's input that were told."""

    @property
    def begun(self) -> set[str]:
        """The ids of all calls."""
        return {call_id for call_id, _ in self._calls.values()}

    @property
    def told(self) -> bool:
        """Whether any call has its input."""
        return bool(self._told)

    def read(self, kind: str, event: dict[str, Any]) -> list[ev.Event]:
        """Return what an event about an item, or about a call's input, says of calls."""
        match kind.removeprefix("response."):
            case "output_item.added":
                return self._item(event)[1]
            case "output_item.done":  # which may be the first that is heard of it
                call, out = self._item(event)
                return [*out, *self._input(call, input_text(event["item"].get("arguments")))] if call else out
            case "function_call_arguments.delta":
                known, delta = self._of(event) or self._latest, text_of(event, "delta")
                return [self._piece(known[0], delta)] if known and delta else []
            case "function_call_arguments.done":
                known, text = self._of(event), text_of(event, "arguments")
                return self._input(known, text) if known and text else []
            case _:
                return []

    def close(self) -> list[ev.Event]:
        """The response is over, and so is every call that was begun and never said to be over."""
        return [event for call in dict.fromkeys(self._calls.values()) for event in self._input(call, "")]

    def _of(self, event: dict[str, Any]) -> Call | None:
        return self._calls.get(event.get("item_id", event.get("output_index")))

    @property
    def _latest(self) -> Call | None:
        """The call that a piece is of where it does not say of which."""
        return next(reversed(self._calls.values()), None)

    def _item(self, event: dict[str, Any]) -> tuple[Call | None, list[ev.Event]]:
        item = event.get("item")
        if not isinstance(item, dict) or item.get("type") != "function_call":
            return None, []
        # Servers name an item by its id, by that of its call (llama.cpp), or only by its place.
        names = [text_of(item, "id"), text_of(item, "call_id")]
        keys: list[object] = [name for name in names if name] or [event.get("output_index")]
        known = next((self._calls[key] for key in keys if key in self._calls), None)
        if known is not None:
            return known, []
        call = names[1] or str(keys[0]), text_of(item, "name")
        self._calls |= dict.fromkeys(keys, call)
        return call, [ev.ToolInputStart(*call)]

    def _piece(self, call_id: str, text: str) -> ev.ToolInputDelta:
        self._pieces.setdefault(call_id, []).append(text)
        return ev.ToolInputDelta(call_id, text)

    def _input(self, call: Call, text: str) -> list[ev.Event]:
        call_id, name = call
        if call_id in self._told:
            return []
        self._told.add(call_id)
        # Some servers give the last of it only here; who adds pieces up would be without it.
        said = "".join(self._pieces.pop(call_id, ()))
        rest = text[len(said) :] if said and text.startswith(said) else ""
        return [*([self._piece(call_id, rest)] if rest else ()), tool_input(call_id, name, text or said)]
