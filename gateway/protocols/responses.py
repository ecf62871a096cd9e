"""Owns the Responses wire: typed events with `sequence_number` 0, 1, 2, ... inside the JSON, and no `id:` lines.

    response.created [response.queued] response.in_progress
    an item a part: output_item.added, [content_part.added,] deltas, their .done, [content_part.done,] output_item.done
    (reasoning, for who asked for a summary: reasoning_summary_part.added and .done in place of the content_part's)
    response.completed | response.incomplete | response.failed

`response.queued` is for background responses, which may wait. A stopped one ends with `response.incomplete` whose
status is `cancelled`: there is no event of that name that clients know. The last part of an answer may have been cut
off where it ends, which only the message's end tells: its item is closed there, or when the next part begins.

Begun anew after a crash: a client that has been shown an item gets `response.failed` (see `openai_common`), and the
fresh attempt begins behind it with a `response.created` of its own, its numbers going on, its output empty: so a
number names one event of the log for ever, and the response that is read later is that of the fresh attempt alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from gateway.protocols.base import LastBlock, Wire
from gateway.protocols.openai_common import (
    RESTARTED,
    UNTOLD,
    arguments_text,
    error_type,
    failure_code,
    failure_status,
    read_options,
)
from gateway.protocols.responses_items import OpenItem, make_item, voice_of
from gateway.protocols.responses_object import (
    Identity,
    ItemStatus,
    Kind,
    Outcome,
    ResponseOptions,
    UrlCitation,
    build,
    outcome_of,
)
from shared import events as ev
from shared.events import Failure, Usage, encode_json
from shared.log.types import Entry
from shared.message import Message

_TERMINAL = {"completed": "response.completed", "failed": "response.failed"}


class ResponsesEncoder:
    """One message's events."""

    def __init__(self) -> None:
        self._identity: Identity | None = None
        self._declared: set[str] = set()
        self._number = 0
        self._running = False
        self._items: list[OpenItem] = []
        self._named: dict[tuple[Kind, str], OpenItem] = {}
        self._calls: set[str] = set()
        self._last: OpenItem | None = None
        self._cited: list[UrlCitation] = []
        self._reason: str | None = None
        self._out: list[bytes] = []

    def encode(self, entry: Entry) -> Sequence[bytes]:
        self._out = []
        event = entry.event
        match event:
            case ev.TextDelta(id=part_id, delta=text):
                self._delta("msg", part_id, text)
            case ev.ReasoningDelta(id=part_id, delta=text):
                self._delta("rs", part_id, text)
            case ev.ToolInputDelta(tool_call_id=call_id, input_text_delta=text):
                self._delta("fc", call_id, text)
            case ev.TextStart(id=part_id, refusal=refusal):
                self._next_part()
                self._open("msg", part_id, refusal=refusal)
            case ev.ReasoningStart(id=part_id):
                self._next_part()
                self._open("rs", part_id)
            case ev.TextEnd(id=part_id):
                self._ended("msg", part_id)
            case ev.ReasoningEnd(id=part_id):
                self._ended("rs", part_id)
            case ev.ToolInputStart() | ev.ToolInputAvailable() | ev.ToolInputError():
                self._tool(event)
            case ev.ToolOutputAvailable(tool_call_id=call_id) | ev.ToolOutputError(tool_call_id=call_id):
                self._settle("fc", call_id)
            case ev.StartStep():
                self._next_part()
            case ev.SourceUrl(url=url, title=title):
                self._source(UrlCitation(url, title if isinstance(title, str) and title else url))
            case _:
                self._control(event)
        return self._out

    def _control(self, event: ev.Event) -> None:
        match event:
            case ev.Created():
                options = read_options(event.options, ResponseOptions)
                self._identity = Identity(event.message_id, event.created_at, event.model, options)
                self._declared = options.declared
                self._begin()
            case ev.Attempt():
                self._run()
            case ev.Reset():
                self._begin_anew()
            case ev.Finish(finish_reason=reason):
                self._reason = reason if isinstance(reason, str) else None
            case ev.End():
                self._end(event)
            case _:
                pass

    # -- the life of the response

    def _begin(self) -> None:
        background = self._identity is not None and self._identity.options.background
        self._lifecycle("response.created", Outcome("queued" if background else "in_progress"))
        if background:
            self._lifecycle("response.queued", Outcome("queued"))

    def _run(self) -> None:
        if not self._running:
            self._running = True
            self._lifecycle("response.in_progress", Outcome("in_progress"))

    def _begin_anew(self) -> None:
        if self._items:
            for item in self._items:
                item.status = item.status if item.closed else "incomplete"
            self._lifecycle("response.failed", Outcome("failed", error=RESTARTED))
            self._out[-1] = LastBlock(self._out[-1])
            self._items.clear()
            self._lifecycle("response.created", Outcome("in_progress"))
            self._lifecycle("response.in_progress", Outcome("in_progress"))
        self._named.clear()
        self._calls.clear()
        self._cited.clear()
        self._last = None
        self._reason = None

    def _end(self, end: ev.End) -> None:
        outcome = outcome_of(Message(state=end.state, finish_reason=self._reason, error=end.error))
        cut = outcome.status != "completed"
        for item in self._items:
            broken = (cut and item is self._last) or (item.kind == "fc" and not item.ended)
            self._done(item, "incomplete" if broken else "completed")
        self._lifecycle(_TERMINAL.get(outcome.status, "response.incomplete"), outcome, end.usage)

    def _lifecycle(self, kind: str, outcome: Outcome, usage: Usage | None = None) -> None:
        if self._identity is None:
            # The log was lost, and begins with its end: there is no response to speak of.
            self._error(outcome.error or UNTOLD)
            return
        output = [item.as_item() for item in self._items]
        self._say(kind, response=build(self._identity, outcome, output, usage))

    def _error(self, failure: Failure) -> None:
        """Say it in both forms: one SDK raises for the nested one, the other for the event's name."""
        kind, code = error_type(failure_status(failure)), failure_code(failure)
        error = {"type": kind, "code": code, "message": failure.message, "param": None}
        self._say("error", code=code, message=failure.message, param=None, error=error)

    def _say(self, kind: str, **fields: Any) -> None:
        data = encode_json({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        self._out.append(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n")

    # -- items

    def _open(
        self, kind: Kind, name: str, *, refusal: bool = False, tool: str = "", extra: dict[str, Any] | UnsetType = UNSET
    ) -> OpenItem | None:
        if self._identity is None:
            return None
        index = len(self._items)
        voice = voice_of(kind, refusal=refusal, summarised=self._identity.options.summarised)
        item = make_item(kind, voice, self._identity.item_id(kind, index), index, name, tool=tool, extra=extra)
        self._items.append(item)
        self._named[kind, name] = self._last = item
        for event, fields in item.opening():
            self._say(event, **fields)
        if item.voice == "output_text":
            cited, self._cited = self._cited, []
            for citation in cited:
                self._source(citation)
        return item

    def _source(self, citation: UrlCitation) -> None:
        """Add a citation to the last part if that is text, else to the next text."""
        if self._last is None or self._last.voice != "output_text":
            self._cited.append(citation)
            return
        event, fields = self._last.cite(citation)
        self._say(event, **fields)

    def _delta(self, kind: Kind, name: str, text: str) -> None:
        item = self._named.get((kind, name))
        if item is None or item.closed:
            return
        item.pieces.append(text)
        self._out.append(item.delta(self._number, text))
        self._number += 1

    def _next_part(self) -> None:
        """Another part begins: the one before was not cut off."""
        if self._last is not None and self._last.ended:
            self._done(self._last)
        self._last = None

    def _ended(self, kind: Kind, name: str) -> None:
        item = self._named.get((kind, name))
        if item is not None:
            item.ended = True
            if item is not self._last:
                self._done(item)

    def _settle(self, kind: Kind, name: str) -> None:
        """Close an item that is whole, whatever follows."""
        item = self._named.get((kind, name))
        if item is not None:
            self._done(item)

    def _done(self, item: OpenItem, status: ItemStatus = "completed") -> None:
        if item.closed:
            return
        item.status = status
        for event, fields in item.closing():
            self._say(event, **fields)

    def _tool(self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError) -> None:
        call_id = event.tool_call_id
        item = self._named.get(("fc", call_id))
        if call_id not in self._calls:
            self._calls.add(call_id)
            self._next_part()
        if item is None:
            if event.tool_name not in self._declared:
                return
            extra = UNSET if isinstance(event, ev.ToolInputError) else event.provider_metadata
            item = self._open("fc", call_id, tool=event.tool_name, extra=extra)
        if item is None or isinstance(event, ev.ToolInputStart):
            return
        if not item.pieces:
            # Whole at once, from an agent: there were no pieces before.
            self._delta("fc", call_id, arguments_text(event.input))
        if isinstance(event, ev.ToolInputError):
            self._ended("fc", call_id)
        else:
            self._done(item)


RESPONSES = Wire(name="responses", make_encoder=ResponsesEncoder)
