"""Owns what servers say twice of a response, or only at its end: texts whose end repeats them, the output in the end.

Everything there is to tell is told once, whether in pieces, with the part's end or with that of the response. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Place = tuple[object, object]
"""The item and the part of it, as the server calls them; it may call neither."""


class Texts:
    """The texts of one response."""

    def __init__(self) -> None:
        self.begun = False
        self._open: dict[Place, list[str]] = {}
        self._closed: set[Place] = set()

    def piece(self, place: Place, text: str) -> None:
        """Take note of a piece that is told."""
        self.begun = True
        self._open.setdefault(place, []).append(text)

    def rest(self, place: Place, whole: str) -> str:
        """Return what of a part's `whole` text is still to be told.

        Some servers give the pieces of a part one name, or each its own, and its end another one: an end that no piece
        was named after is that of whatever is open.
        """
        if place in self._closed:
            return ""
        if place[0] is not None:
            self._closed.add(place)
        said = "".join(self._take(place))
        self.begun = self.begun or bool(whole)
        if whole.startswith(said):
            return whole[len(said) :]
        if said.startswith(whole):  # the end of another part, which has no name either, is still to come
            self._open[place] = [said[len(whole) :]]
        return ""

    def _take(self, place: Place) -> list[str]:
        if place in self._open:
            return self._open.pop(place)
        pieces = [piece for part in self._open.values() for piece in part]
        self._open.clear()
        return pieces


def as_events(output: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and fields of the events by which a stream would have told of an output."""
    for index, item in enumerate(_dicts(output)):
        match item.get("type"):
            case "reasoning":
                full = [*_dicts(item.get("content"))]
                kind = "reasoning_text" if full else "reasoning_summary_text"
                for part in full or _dicts(item.get("summary")):
                    yield f"response.{kind}.delta", {"delta": part.get("text")}
            case "message":
                for part in _dicts(item.get("content")):
                    kind = "refusal" if part.get("type") == "refusal" else "output_text"
                    yield f"response.{kind}.delta", {"delta": part.get("refusal", part.get("text"))}
            case "function_call":
                yield "response.output_item.done", {"item": item, "output_index": index}
            case _:
                pass


def text_of(mapping: object, key: str) -> str:
    """Return a member that is a text, else an empty one."""
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, str) else ""


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
