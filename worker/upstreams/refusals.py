"""Owns telling a refusal apart from an answer: it is a text part of its own, marked from its start."""

from __future__ import annotations

from shared import events as ev

PART = "refusal"


class Refusal:
    """The refusal in one answer, if there is one."""

    def __init__(self) -> None:
        self._open = False

    def feed(self, text: str) -> list[ev.Event]:
        """Return the events of a piece of it."""
        opening: list[ev.Event] = [] if self._open else [ev.TextEnd(""), ev.TextStart(PART, refusal=True)]
        self._open = True
        return [*opening, ev.TextDelta(PART, text)]
