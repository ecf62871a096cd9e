"""Owns the outline of an answer: what has begun and not ended, and the events that would end it properly.

The worker's grammar keeps one while it writes; whoever must end a message that nobody owns makes one from the log.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared import events as ev


class Outline:
    """What is open after the events it was shown. `parts` maps the ids of open parts to whether they are text."""

    def __init__(self) -> None:
        self.parts: dict[str, bool] = {}
        self.tools: dict[str, str] = {}
        """Tool calls seen, by id, with their names."""
        self.answered: set[str] = set()
        """Those of them that have an output, or the error in its place, or an input that no tool can be run with."""
        self.clear()

    def clear(self) -> None:
        """Forget everything, as a `reset` does."""
        self.started = False
        self.in_step = False
        self.step_answered = False
        """Whether a tool's output came in the step that is open."""
        self.parts.clear()
        self.tools.clear()
        self.answered.clear()

    def apply(self, event: ev.Event) -> None:
        """Take note of an event."""
        match event:
            case ev.TextDelta() | ev.ReasoningDelta() | ev.ToolInputDelta():
                pass  # by far the most frequent; nothing opens or closes
            case ev.TextStart(id=part_id):
                self.parts[part_id] = True
            case ev.ReasoningStart(id=part_id):
                self.parts[part_id] = False
            case ev.TextEnd(id=part_id) | ev.ReasoningEnd(id=part_id):
                self.parts.pop(part_id, None)
            case ev.ToolInputStart(tool_call_id=call_id, tool_name=name):
                self.tools[call_id] = name
            case ev.ToolOutputAvailable(tool_call_id=call_id) | ev.ToolOutputError(tool_call_id=call_id):
                self.answered.add(call_id)
                self.step_answered = self.in_step
            case ev.ToolInputError(tool_call_id=call_id):
                self.answered.add(call_id)
            case ev.Start():
                self.started = True
            case ev.StartStep():
                self.in_step, self.step_answered = True, False
            case ev.FinishStep():
                self.in_step = self.step_answered = False
            case ev.Reset():
                self.clear()
            case _:
                pass

    def part_ends(self) -> list[ev.ContentEvent]:
        """Return the events that close the open parts, latest first."""
        return [ev.TextEnd(i) if is_text else ev.ReasoningEnd(i) for i, is_text in reversed(self.parts.items())]

    def endings(self, message_id: str) -> list[ev.ContentEvent]:
        """Return the events that close everything; a `start` first if there was none, so that each stream has one."""
        out: list[ev.ContentEvent] = [] if self.started else [ev.Start(message_id)]
        out += self.part_ends()
        if self.in_step:
            out.append(ev.FinishStep())
        return out


def outline_of(events: Iterable[ev.Event]) -> Outline:
    """Return the outline after `events`, a whole log."""
    outline = Outline()
    for event in events:
        outline.apply(event)
    return outline
