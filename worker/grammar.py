"""Owns the grammar of an answer: whatever an upstream or agent yields comes out well-formed for every client.

One answer is `start`, then steps of parts, then `finish`; a part is `-start`, deltas, `-end`. Clients treat a delta
without its start as a fatal error, so what is missing is put in, what makes no sense is left out, and `finish` waits
for the very end. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from msgspec import UNSET, UnsetType, structs

from shared import events as ev
from shared.outline import Outline


class AgentFailed(Exception):
    """Raised when an agent yields `error`: the answer is over, the text is the agent's own."""


class Grammar:
    """Turns loose events into well-formed ones. Made from the outline of what the log already holds of this answer."""

    def __init__(
        self, message_id: str, outline: Outline, used: Iterable[str] = (), *, called: Collection[str] = ()
    ) -> None:
        """`used`: ids of parts that the answer has had already, `called`: ids of calls that the conversation has.

        What begins under one of them gets another one.
        """
        self._message_id = message_id
        self._called = called
        self._outline = outline
        self._used = {*used, *outline.parts}
        self._auto = next(reversed(outline.parts), "")
        """The part that bare deltas go to; it may have ended."""
        self._reason: ev.FinishReason | UnsetType = UNSET
        self._metadata: dict[str, Any] = {}
        self._calls: dict[str, str] = {}
        """Under which id a call is written whose own has been used before."""

    @property
    def awaits_tool(self) -> bool:
        """Whether a tool call has no output yet."""
        return len(self._outline.tools) > len(self._outline.answered)

    def going_on(self, delta: ev.Spoken) -> ev.Spoken | None:
        """Return what to write for `delta` if it goes on with an open part, as nearly all do; None: ask `feed`."""
        kind, part_id = type(delta), delta.id or self._auto
        if self._outline.parts.get(part_id) is not (kind is ev.TextDelta) or not delta.delta:
            return None
        return delta if delta.id else kind(part_id, delta.delta)

    def feed(self, event: ev.Event) -> list[ev.Event]:
        """Return what to write for `event`; raise `AgentFailed`."""
        if isinstance(event, ev.Spoken):
            return self._delta(event)
        out: list[ev.Event] = []
        match event:
            case ev.TextStart() | ev.ReasoningStart():
                if event.id and event.id not in self._outline.parts:
                    self._open_step(out)
                    self._emit(event, out)
                elif not event.id:
                    self._close_auto(out)
            case ev.TextEnd() | ev.ReasoningEnd():
                if not event.id:
                    self._close_auto(out)
                elif event.id in self._outline.parts:
                    self._end(event.id, out)
            case _ if isinstance(event, ev.ToolEvent):
                self._tool(event, out)
            case _:
                self._frame(event, out)
        return out

    def finish(self, metadata: dict[str, Any]) -> list[ev.Event]:
        """Return what ends a whole answer: open parts and the step closed, then `finish`."""
        out: list[ev.Event] = []
        self._begin(out)
        for closing in self._outline.endings(self._message_id):
            self._emit(closing, out)
        merged = {**self._metadata, **metadata}
        reason = "stop" if self._reason is UNSET else self._reason
        self._emit(ev.Finish(reason, merged or UNSET), out)
        return out

    def break_off(self) -> list[ev.ContentEvent]:
        """Return what closes an answer that ends early; the caller adds `abort` or `error`."""
        return self._outline.endings(self._message_id)

    def _emit(self, event: ev.Event, out: list[ev.Event]) -> None:
        self._outline.apply(event)
        if isinstance(event, ev.TextStart | ev.ReasoningStart):
            self._used.add(event.id)
        out.append(event)

    def _begin(self, out: list[ev.Event]) -> None:
        if not self._outline.started:
            self._emit(ev.Start(self._message_id), out)

    def _open_step(self, out: list[ev.Event]) -> None:
        """Open a step if there is none, or if a tool was answered in this one: the model's next words are another.

        So does the AI SDK's server, and `useChat` goes by it: calls answered in the last step ask for one more turn.
        """
        self._begin(out)
        if self._outline.step_answered and not self._outline.parts:
            self._finish_step(out)
        if not self._outline.in_step:
            self._emit(ev.StartStep(), out)

    def _delta(self, event: ev.Spoken) -> list[ev.Event]:
        if (written := self.going_on(event)) is not None:
            return [written]
        if not event.delta:
            return []
        kind, part_id = type(event), event.id
        is_text = kind is ev.TextDelta
        out: list[ev.Event] = []
        if not event.id:
            part_id = self._open_auto(is_text, out)
        else:
            if part_id in self._outline.parts:
                self._end(part_id, out)
            self._start(part_id, is_text, out)
        out.append(kind(part_id, event.delta))
        return out

    def _open_auto(self, is_text: bool, out: list[ev.Event]) -> str:
        """Open a part for bare deltas of this kind, in place of the one for the other kind."""
        self._close_auto(out)
        number = len(self._used)
        while (name := f"{'t' if is_text else 'r'}{number}") in self._used:
            number += 1
        self._start(name, is_text, out)
        self._auto = name
        return name

    def _start(self, part_id: str, is_text: bool, out: list[ev.Event]) -> None:
        self._open_step(out)
        self._emit(ev.TextStart(part_id) if is_text else ev.ReasoningStart(part_id), out)

    def _end(self, part_id: str, out: list[ev.Event]) -> None:
        is_text = self._outline.parts[part_id]
        self._emit(ev.TextEnd(part_id) if is_text else ev.ReasoningEnd(part_id), out)

    def _close_auto(self, out: list[ev.Event]) -> None:
        if self._auto in self._outline.parts:
            self._end(self._auto, out)
        self._auto = ""

    def _close_parts(self, out: list[ev.Event]) -> None:
        for closing in self._outline.part_ends():
            self._emit(closing, out)
        self._auto = ""

    def _tool(self, event: ev.ToolEvent, out: list[ev.Event]) -> None:
        begins = isinstance(event, ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError)
        call_id = self._call_id(event.tool_call_id, begins=begins)
        if call_id != event.tool_call_id:
            event = structs.replace(event, tool_call_id=call_id)
        known = call_id in self._outline.tools
        match event:
            case ev.ToolInputDelta():
                if known and event.input_text_delta:
                    out.append(event)
            case ev.ToolOutputAvailable() | ev.ToolOutputError():
                if known:
                    self._close_auto(out)
                    self._emit(event, out)
            case ev.ToolInputStart():
                if not known:
                    self._start_call(event, out)
            case ev.ToolInputAvailable() | ev.ToolInputError():
                if not known:
                    metadata = event.provider_metadata if isinstance(event, ev.ToolInputAvailable) else UNSET
                    self._start_call(ev.ToolInputStart(call_id, event.tool_name, metadata), out)
                self._emit(event, out)

    def _start_call(self, event: ev.ToolInputStart, out: list[ev.Event]) -> None:
        self._close_auto(out)
        self._open_step(out)
        self._emit(event, out)

    def _call_id(self, said: str, *, begins: bool) -> str:
        """Return the id to write a call under: another one if a call `begins` whose id an answered one has.

        Some models count calls from 0 in every turn; for clients an id is one call, in the whole conversation.
        """
        call_id = self._calls.get(said, said)
        if not (begins and (call_id in self._outline.answered or call_id in self._called)):
            return call_id
        number = 2
        while (call_id := f"{said}_{number}") in self._outline.tools or call_id in self._called:
            number += 1
        self._calls[said] = call_id
        return call_id

    def _frame(self, event: ev.Event, out: list[ev.Event]) -> None:
        match event:
            case ev.Start():
                if not self._outline.started:
                    # The id of an answer is the message's, or a replay would make a second message of it.
                    self._emit(ev.Start(self._message_id, event.message_metadata), out)
            case ev.StartStep():
                self._begin(out)
                self._finish_step(out)
                self._emit(event, out)
            case ev.FinishStep():
                self._finish_step(out)
            case ev.Finish():
                self._reason = event.finish_reason
                if isinstance(event.message_metadata, dict):
                    self._metadata.update(event.message_metadata)
            case ev.Error():
                raise AgentFailed(event.error_text)
            case ev.SourceUrl() | ev.SourceDocument() | ev.File() | ev.Data() | ev.MessageMetadata():
                self._begin(out)
                self._emit(event, out)
            case ev.Upstream():
                out.append(event)
            case _:
                pass  # `abort` and control entries are not an upstream's to write

    def _finish_step(self, out: list[ev.Event]) -> None:
        if self._outline.in_step:
            self._close_parts(out)
            self._emit(ev.FinishStep(), out)
