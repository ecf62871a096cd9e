"""Owns the reducer: events in, message out.

The only place that knows what a log means. The gateway's snapshots, the stored final message, the
clients' tests and (as a port with the same test vectors) the browser client all use it. The law it
keeps: folding a snapshot and then the tail equals folding everything, at every cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from msgspec import UNSET, UnsetType

from shared import events as ev
from shared.message import (
    DataPart,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    SourceDocumentPart,
    SourceUrlPart,
    StepPart,
    TextPart,
    ToolPart,
)

Delta = ev.TextDelta | ev.ReasoningDelta | ev.ToolInputDelta
_SLICE = 2000
"""Events folded in one turn of the loop: some milliseconds."""


class Fold:
    """Folds events into `message`, in log order. Unknown events change nothing."""

    def __init__(self, message: Message | None = None) -> None:
        """Start empty, or go on from a snapshot; the fold owns the message, and nobody else may change its parts."""
        self.message = message if message is not None else Message()
        self._texts: dict[tuple[type[Part], str], TextPart | ReasoningPart] = {}
        self._tools: dict[str, ToolPart] = {}
        self._named: dict[tuple[str, str], DataPart] = {}
        for part in self.message.parts:
            self._index(part)

    def extend(self, events: Iterable[ev.Event]) -> Message:
        """Apply `events` in order and return the message."""
        for event in joined(events):
            self.apply(event)
        return self.message

    def apply(self, event: ev.Event) -> None:  # one case an event, so the whole law stands in one place
        """Apply one event."""
        match event:
            case ev.TextDelta(id=part_id, delta=delta) | ev.ReasoningDelta(id=part_id, delta=delta):
                kind = TextPart if isinstance(event, ev.TextDelta) else ReasoningPart
                part = self._open(kind, part_id)
                if part is not None:
                    part.text += delta
            case ev.TextStart(id=part_id, refusal=refusal):
                self._add(TextPart(part_id, "", "streaming", refusal))
            case ev.ReasoningStart(id=part_id):
                self._add(ReasoningPart(part_id, "", "streaming"))
            case ev.TextEnd(id=part_id) | ev.ReasoningEnd(id=part_id):
                kind = TextPart if isinstance(event, ev.TextEnd) else ReasoningPart
                part = self._open(kind, part_id)
                if part is not None:
                    part.state = "done"
            case ev.SourceUrl() | ev.SourceDocument() | ev.File() | ev.StartStep() | ev.Data():
                self._insert(event)
            case _ if isinstance(event, ev.ToolEvent):
                self._tool(event)
            case _:
                self._control(event)

    def _add(self, part: Part) -> None:
        # Message() shares no default list between instances: msgspec copies empty defaults.
        self.message.parts.append(part)
        self._index(part)

    def _index(self, part: Part) -> None:
        """Note where events to come find `part`. Of several with one id the latest counts; of data the first."""
        match part:
            case TextPart() | ReasoningPart():
                self._texts[type(part), part.id] = part
            case ToolPart():
                self._tools[part.tool_call_id] = part
            case DataPart(name=name, id=str(data_id)):
                self._named.setdefault((name, data_id), part)
            case _:
                pass

    def _void(self) -> None:
        message = self.message
        message.parts, message.metadata, message.finish_reason = [], {}, None
        for index in (self._texts, self._tools, self._named):
            index.clear()

    def _open(self, kind: type[TextPart] | type[ReasoningPart], part_id: str) -> TextPart | ReasoningPart | None:
        part = self._texts.get((kind, part_id))
        return part if part is not None and part.state == "streaming" else None

    def _insert(self, event: ev.SourceUrl | ev.SourceDocument | ev.File | ev.StartStep | ev.Data) -> None:
        match event:
            case ev.SourceUrl(source_id=source_id, url=url, title=title):
                self._add(SourceUrlPart(source_id, url, _optional(title)))
            case ev.SourceDocument(source_id=source_id, media_type=media_type, title=title, filename=name):
                self._add(SourceDocumentPart(source_id, media_type, title, _optional(name)))
            case ev.File(url=url, media_type=media_type):
                self._add(FilePart(url, media_type))
            case ev.StartStep():
                self._add(StepPart())
            case ev.Data(name=name, data=data, id=data_id, transient=transient):
                if not transient:
                    self._data(name, data, data_id)

    def _data(self, name: str, data: Any, data_id: str | None) -> None:
        part = None if data_id is None else self._named.get((name, data_id))
        if part is None:
            self._add(DataPart(name, data, data_id))
        else:
            part.data = data

    def _tool(self, event: ev.ToolEvent) -> None:
        part = self._tools.get(event.tool_call_id)
        if part is None:
            if isinstance(event, ev.ToolInputDelta | ev.ToolOutputAvailable | ev.ToolOutputError):
                return
            part = ToolPart(event.tool_call_id, event.tool_name, "input-streaming")
            self._add(part)
        if isinstance(event, ev.ToolInputStart | ev.ToolInputAvailable) and event.provider_metadata is not UNSET:
            part.provider_metadata = event.provider_metadata
        match event:
            case ev.ToolInputDelta(input_text_delta=delta):
                part.input_text += delta
            case ev.ToolInputAvailable(input=value):
                part.state, part.input, part.input_text, part.error_text = "input-available", value, "", None
            case ev.ToolInputError(input=value, error_text=text):
                part.state, part.input, part.error_text, part.input_text = "input-error", value, text, ""
            case ev.ToolOutputAvailable(output=value):
                part.state, part.output, part.error_text = "output-available", value, None
            case ev.ToolOutputError(error_text=text):
                part.state, part.output, part.error_text = "output-error", None, text
            case _:
                pass

    def _control(self, event: ev.Event) -> None:
        message = self.message
        match event:
            case ev.Created(chat_id=chat_id, message_id=message_id, model=model, created_at=created_at):
                message.chat_id, message.message_id = chat_id, message_id
                message.model, message.created_at = model, created_at
            case ev.Attempt(n=n):
                message.state, message.attempt = "running", n
            case ev.Reset():
                self._void()
            case ev.Start(message_metadata=metadata) | ev.MessageMetadata(message_metadata=metadata):
                self._merge(metadata)
            case ev.Finish(finish_reason=reason, message_metadata=metadata):
                message.finish_reason = _optional(reason)
                self._merge(metadata)
            case ev.End(state=state, usage=usage, error=error):
                message.state, message.usage, message.error = state, usage, error
                self._close_parts()
            case _:
                pass

    def _merge(self, metadata: dict[str, Any] | UnsetType) -> None:
        if not isinstance(metadata, UnsetType):
            self.message.metadata = _merged(self.message.metadata, metadata)

    def _close_parts(self) -> None:
        for part in self.message.parts:
            if isinstance(part, TextPart | ReasoningPart):
                part.state = "done"


def joined(events: Iterable[ev.Event]) -> Iterator[ev.Event]:
    """Yield `events` with each run of deltas to one part joined into one.

    Adding a long answer's deltas one by one copies its text once a delta: minutes, at a hundred thousand of them.
    """
    run: list[str] = []
    last: Delta | None = None
    for event in events:
        if not isinstance(event, Delta):
            if last is not None:
                yield _joined(last, run)
                last = None
            yield event
            continue
        part, text = part_and_text(event)
        if last is not None and type(event) is type(last) and part == part_and_text(last)[0]:
            run.append(text)
            continue
        if last is not None:
            yield _joined(last, run)
        last, run = event, [text]
    if last is not None:
        yield _joined(last, run)


def part_and_text(delta: Delta) -> tuple[str, str]:
    """Return which part a delta belongs to and its text."""
    if isinstance(delta, ev.ToolInputDelta):
        return delta.tool_call_id, delta.input_text_delta
    return delta.id, delta.delta


def _joined(last: Delta, run: list[str]) -> Delta:
    return last if len(run) == 1 else type(last)(part_and_text(last)[0], "".join(run))


async def fold_in_slices(fold: Fold, events: Iterable[ev.Event]) -> Message:
    """Do as `fold.extend(events)`, with turns for others in between: a long message must not hold up their streams."""
    rest = iter(events)
    while batch := list(islice(rest, _SLICE)):
        fold.extend(batch)
        await asyncio.sleep(0)
    return fold.message


def fold(events: Iterable[ev.Event]) -> Message:
    """Return the message that `events`, a whole log, amount to."""
    return Fold().extend(events)


def _optional(value: str | UnsetType) -> str | None:
    return None if value is UNSET else str(value)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Merge deeply, as the AI SDK merges message metadata."""
    out = dict(old)
    for key, value in new.items():
        before = out.get(key)
        out[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return out
